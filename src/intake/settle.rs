//! From the last byte to the answer.
//!
//! The order is fixed: bytes durable → inspected → verdict → one ledger transaction {state,
//! digests, keys destroyed or kept, receipt with signatures, audit record} → answer → unlink.
//! A crash between any two steps leaves a row that recovery ends.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::authority::places::Area;
use crate::authority::signing::RECEIPT_NAMESPACE;
use crate::depot::spool::{SealedLane, SpoolReader, SpoolWriter};
use crate::inspect::report::{Finding, Report, Sample};
use crate::intake::hold::LiveFile;
use crate::intake::inspection::{
    Behind, Digesting, Effort, Inspected, Inspection, InspectionFault, Setup, blocking, digest_of,
    perform,
};
use crate::intake::quota::Share;
use crate::intake::receipt::{Facts, KnownAs, ascii, hex};
use crate::intake::submission::{Ending, Evidence, Receiving, Unjudged, full, oversized};
use crate::intake::{Intake, Refusal, RefusalKind, Told};
use crate::ledger::LedgerFault;
use crate::ledger::rejects::Rejects;
use crate::ledger::submissions::{
    Acceptance, Beginning, Decision, Outcome, ReceiptDocuments, Row, Settlement, State, Whole,
};
use crate::policy::feed::{Completeness, Feed, Policy, SameContent, SameName};
use crate::seal::Lane;
use crate::telemetry::{Channel, Event};
use crate::terms::clock::Timestamp;
use crate::terms::codes::Code;
use crate::terms::digest::{Digest, DigestKind, Digests, Hasher, OldDigests};
use crate::terms::drift::Drift;
use crate::terms::ids::SubmissionId;
use crate::terms::verdict::Verdict;

/// Where the answer goes; nobody may be listening any more.
pub(super) type Answer = oneshot::Sender<Result<Told, Refusal>>;

/// A whole file before its verdict.
pub(super) struct Case {
    pub(super) beginning: Beginning,
    pub(super) policy: Arc<Policy>,
    pub(super) feed: Arc<Feed>,
    pub(super) setup: Setup,
    pub(super) out_key: Vec<u8>,
    pub(super) raw: SealedLane,
    /// What its client says of it meanwhile; what it has said of an earlier process's is in the ledger.
    pub(super) file: Option<Arc<LiveFile>>,
    /// Known once the file is digested.
    pub(super) old_digests: OldDigests,
    pub(super) received_at: Timestamp,
    pub(super) faults: Vec<UploadFault>,
    /// What the person said who released it.
    pub(super) decision: Option<Decision>,
    /// The accepted file that its client has just removed to make room for it.
    pub(super) instead_of: Option<SubmissionId>,
    /// A WRITE was refused, with this text: what is there is not all that was sent.
    pub(super) untaken: Option<String>,
}

/// A fault of the upload itself, which inspection cannot see.
pub(super) struct UploadFault {
    /// How bad it is.
    pub(super) verdict: Verdict,
    /// What is wrong.
    pub(super) code: Code,
    /// The rule broken.
    pub(super) rule: &'static str,
    /// More.
    pub(super) sample: Sample,
}

impl Case {
    /// What is new in its columns; a test says nothing about what its partner sends, and what a person has
    /// decided about was counted when it came.
    fn drift_of(&self, report: &Report) -> Vec<Drift> {
        if self.area() == Area::Test || self.decision.is_some() {
            return Vec::new();
        }
        report.drift.clone()
    }
}

/// What settling a case came to.
struct Settled {
    lines: Vec<String>,
    status: Option<String>,
    /// Bytes of the rows that were left out, where they are kept.
    left_out: Option<u64>,
}

// === impl Receiving ===

impl Receiving {
    /// Judges and settles; answers when the verdict is durable, or after `verdict.wait` that the
    /// file is durably received.
    #[expect(
        clippy::too_many_lines,
        reason = "the order of the steps is the point; it reads from top to bottom"
    )]
    pub(super) async fn judge(mut self, tell: Answer) {
        let closed_at = self.intake.now();
        self.hold.is_judged();
        let declared = self.declared();
        let declared_for_later = self.declared_for_later();
        let is_said_whole = self.is_said_whole();
        let cut_to = self.file.cut_to();
        let mut raw = self.raw;
        let effort = effort_of(&raw, &self.feed);
        let sealing = perform(effort, move || {
            let gap = (raw.contiguous(), raw.end());
            let sealed = raw.finish().and_then(|sealed| raw.sync().map(|()| sealed));
            (raw, sealed, gap)
        })
        .await;
        let sealing = match sealing {
            Ok((raw, Ok(sealed), gap)) => Ok((raw, sealed, gap)),
            Ok((_, Err(fault), _)) => Err(Refusal::ours("seal the spool", &fault)),
            Err(fault) => Err(Refusal::ours("seal the spool", &fault)),
        };
        let (raw, sealed, (contiguous, end)) = match sealing {
            Ok(sealed) => sealed,
            Err(refusal) => {
                // The row, if there is one, is mended when the gateway next tends to it.
                if let Some(behind) = self.behind.take() {
                    behind.cancel().await;
                }
                drop(self.hold);
                return answer(tell, Err(refusal));
            }
        };
        if self.refusal.is_none() {
            let evidence = shortfalls(contiguous, end, declared, cut_to);
            self.faults.extend(evidence);
            let wanted = self.feed.completeness;
            let is_declared = declared.is_some();
            self.faults
                .extend(unproven(wanted, is_declared, self.evidence));
            let over = self.beginning.over;
            let stale = over.filter(|_| !is_said_whole);
            self.faults
                .extend(stale.and_then(|over| stale_tail(end, over)));
            self.faults.extend(oversized(end, &self.feed));
        }
        let reader = raw.reader();
        let followed = self.behind.as_mut().and_then(Behind::seal);
        // Rewritten bytes may have been digested before or after: when in doubt, again.
        let followed = followed.filter(|_| raw.rewritten_from().is_none());
        let mut digest = digest_of_whole(followed, effort, raw.reader(), self.setup.hasher());
        let inspecting = inspect(
            effort,
            self.behind.take(),
            self.setup.clone(),
            reader,
            raw.rewritten_from(),
        );
        let channel = channel_of(&self.beginning);
        let (intake, share) = (self.intake.clone(), self.share);
        let named_before = self.named_before;
        let unfinished = self.unfinished;
        let mut case = Case {
            beginning: self.beginning,
            policy: self.policy,
            feed: self.feed,
            setup: self.setup,
            out_key: self.out_key_wrapped,
            raw: sealed,
            file: Some(self.file),
            old_digests: OldDigests::default(),
            // What was left alone came when it was closed, not when that was noticed.
            received_at: match (self.evidence, &named_before) {
                (Some(Evidence::Quiet), Some((_, closed_at))) => *closed_at,
                (_, _) => closed_at,
            },
            faults: self.faults,
            untaken: self.refusal.map(|refusal| refusal.text),
            decision: None,
            instead_of: None,
        };
        let mut tell = Some(tell);
        let mut digested = None;
        // Faults of the upload itself are known only here: a file that has some is not *received*,
        // or a crash before its verdict would forget them.
        let is_sure = case.faults.is_empty() && case.untaken.is_none();
        let refuses = |fault: &UploadFault| fault.verdict == Verdict::Rejected;
        let is_lost = case.untaken.is_some() || case.faults.iter().any(refuses);
        tokio::pin!(inspecting);
        let wait = Duration::from_millis(intake.0.verdict.wait_ms);
        let inspected = tokio::select! {
            inspected = &mut inspecting => inspected,
            () = tokio::time::sleep(wait) => {
                if is_sure {
                    let made = keep_old((&mut digest).await, &mut case);
                    // When recording fails, the verdict itself will be the answer.
                    if let Ok(made) = made
                        && let Ok(received) = intake.receive(&case, made).await
                        && let Some(tell) = tell.take()
                    {
                        answer(tell, Ok(received));
                    }
                    digested = Some(made);
                } else if is_lost {
                    // It will be rejected, whatever inspection finds; nothing is promised by that.
                    let text = "REJECTED incomplete: not every byte arrived; see /receipts";
                    let refusal = Refusal::new(RefusalKind::Failure, text);
                    if let Some(tell) = tell.take() {
                        answer(tell, Err(refusal));
                    }
                }
                inspecting.await
            }
        };
        // A task is awaited once, whatever it gave.
        let digested = match digested {
            Some(digested) => digested,
            None => keep_old(digest.await, &mut case),
        };
        let inspected = inspected.and_then(|inspected| Ok((inspected, digested?)));
        let told = match inspected {
            Ok((inspected, made)) => {
                let mut share = Some(share);
                let settled = intake.settle(case, inspected, made, &mut share).await;
                if let Some(share) = share.filter(|_| tell.is_none()) {
                    // It is *received* and stays in the spool until it can be settled.
                    share.leave(contiguous);
                }
                if let (Some(unfinished), Ok(_)) = (unfinished, &settled) {
                    // This one has taken its place; a refused one would not have. What fails is in the log.
                    drop(intake.discard(&unfinished).await);
                }
                settled
            }
            Err(fault) => {
                let refusal = if matches!(fault, InspectionFault::Full) {
                    full(&intake)
                } else {
                    Refusal::ours("inspect a file", &fault)
                };
                if tell.is_some() {
                    // It is what it was: cut off, or closed under a partial name.
                    let mtime = case.mtime();
                    let mut beginning = case.beginning;
                    let (ending, at) = match named_before {
                        Some((path, at)) => {
                            beginning.path = path;
                            (Ending::Closed, at)
                        }
                        None => (Ending::CutOff, intake.now()),
                    };
                    let unjudged = Unjudged {
                        beginning,
                        raw_inline: case.raw.inline,
                        mtime,
                        bytes: contiguous.min(cut_to.unwrap_or(u64::MAX)),
                        declared: declared_for_later,
                        ending,
                        at,
                    };
                    // Told as a failure either way; what could not be kept is in the log, and counted
                    // when it is mended.
                    if intake.interrupt(unjudged).await.is_ok() {
                        share.leave(contiguous);
                    }
                } else {
                    share.leave(contiguous);
                }
                // Otherwise it is *received*, and judged again when the gateway next tends to it.
                Err(refusal)
            }
        };
        // Before the answer: the client may open the same name at once.
        drop(self.hold);
        if let Some(tell) = tell {
            let waited = intake.now().micros_since(closed_at);
            intake.0.metrics.verdict_waited(channel, waited);
            answer(tell, told);
        }
    }
}

// === impl Intake ===

impl Intake {
    /// `verdict.wait` has run out: the bytes are durable, the verdict follows.
    async fn receive(&self, case: &Case, digest: Digest) -> Result<Told, Refusal> {
        self.0
            .ledger
            .receive(case.beginning.clone(), case.whole(digest))
            .await
            .map_err(|fault| Refusal::ours("record a received file", &fault))?;
        let name = ascii(&case.beginning.name, 80);
        let short = case.beginning.id.short();
        Ok(Told {
            lines: vec![format!(
                "RECEIVED {name}  still checking; result in /receipts  submission {short}"
            )],
        })
    }

    /// The verdict, and everything that becomes true with it; `share` is given back then, and
    /// stays when it could not be recorded.
    pub(super) async fn settle(
        &self,
        mut case: Case,
        mut inspected: Inspected,
        digest: Digest,
        share: &mut Option<Share>,
    ) -> Result<Told, Refusal> {
        let ours = |fault: LedgerFault| Refusal::ours("settle a submission", &fault);
        case.object(&mut inspected.report);
        let (partner, path) = (&case.beginning.partner, &case.beginning.path);
        // Some clients remove the old file just before they rename the new one to its name.
        let removed = match case.decision {
            Some(_) => None,
            None => self.removed_lately(partner, path),
        };
        case.instead_of = removed;
        let earlier = match (self.earlier_accepted(&case).await.map_err(ours)?, removed) {
            (None, Some(id)) => self.0.ledger.submission(id).await.map_err(ours)?,
            (earlier, _) => earlier,
        };
        let same = self.same_name(&case).await.map_err(ours)?;
        if let (Some(row), SameName::Reject) = (&same, case.feed.same_name)
            && case.area() == Area::Production
            && row.digest != Some(digest)
        {
            let detail = format!("a file of this name was accepted as {}", row.id.short());
            let sample = Sample {
                detail,
                ..Sample::default()
            };
            inspected.report.object(
                Verdict::Rejected,
                Code::DuplicateFile,
                "a new name for new content",
                sample,
            );
        }
        // Of two files with the same content that come at once, the second waits for the first.
        let one_of_its_kind = self.0.contents.of(digest).lock().await;
        let known = self
            .known_content(&case, digest, &mut inspected)
            .await
            .map_err(ours)?;
        if case.decision.is_some() && inspected.report.verdict != Verdict::Accepted {
            // A word that says yes never refuses a file: it stays held.
            let is_duplicate = |finding: &&Finding| finding.code == Code::DuplicateFile;
            let report = &inspected.report;
            let refused = report
                .errors()
                .find(is_duplicate)
                .or(report.errors().next());
            let text = refused.map_or_else(String::new, |finding| {
                let detail = finding.samples.first().map_or("", |sample| &sample.detail);
                format!("{}: {detail}", finding.code)
            });
            return Err(Refusal::new(RefusalKind::PermissionDenied, text));
        }
        let (beginning, bytes) = (case.beginning.clone(), case.raw.bytes);
        let verdict = &mut inspected.report.verdict;
        if *verdict == Verdict::Held && case.area() == Area::Test {
            // Nobody looks at tests.
            *verdict = Verdict::Rejected;
        }
        let is_held = *verdict == Verdict::Held;
        let had_files = inspected.has_files(&case.raw);
        let out_lane = if inspected.out.is_some() {
            Lane::Out
        } else {
            Lane::Raw
        };
        let (is_known, is_test) = (known.is_some(), case.area() == Area::Test);
        let (file, mtime) = (case.file.clone(), case.mtime());
        let settled = self.record(case, inspected, digest, earlier, known).await?;
        drop(one_of_its_kind);
        self.keep_late_mtime(beginning.id, mtime, file).await;
        match share.take() {
            Some(share) if is_held => share.leave(bytes),
            // The raw key is gone, and with it what counted.
            share => drop(share),
        }
        let ends_here = settled.status.is_some() || is_known || is_test;
        let mut waits = Vec::new();
        if is_held {
            waits.push(Lane::Raw);
        } else if !ends_here {
            waits.push(out_lane);
        }
        if settled.left_out.is_some() {
            waits.push(Lane::Rejects);
        }
        self.unlink_after(&beginning, &waits, had_files).await;
        self.0.due.notify_one();
        if let (Some(id), Some(_)) = (removed, &settled.status)
            && let Err(fault) = self.0.ledger.show(id).await
        {
            // The old file is accepted whatever its listing says.
            tracing::error!(event = Event::LedgerFailed.as_str(), %fault);
        }
        match settled.status {
            Some(text) => Err(Refusal {
                kind: RefusalKind::Failure,
                text,
                lines: settled.lines,
            }),
            None => Ok(Told {
                lines: settled.lines,
            }),
        }
    }

    /// The submission that has used this name, listed or not, where a name may be used once.
    async fn same_name(&self, case: &Case) -> Result<Option<Row>, LedgerFault> {
        if case.feed.same_name != SameName::Reject {
            return Ok(None);
        }
        let (partner, path) = (&case.beginning.partner, &case.beginning.path);
        let ever = Timestamp::from_micros(i64::MIN);
        let ledger = &self.0.ledger;
        let found = ledger.newest_accepted_at(partner, path, ever).await?;
        Ok(found.filter(|row| row.id != case.beginning.id))
    }

    /// The accepted submission that the listing shows at this path now.
    async fn earlier_accepted(&self, case: &Case) -> Result<Option<Row>, LedgerFault> {
        let row = self
            .0
            .ledger
            .accepted_at(
                &case.beginning.partner,
                &case.beginning.path,
                self.visible_since(),
            )
            .await?;
        Ok(row.filter(|row| row.id != case.beginning.id))
    }

    /// The accepted submission that holds the same content, where policy asks.
    async fn known_content(
        &self,
        case: &Case,
        digest: Digest,
        inspected: &mut Inspected,
    ) -> Result<Option<Row>, LedgerFault> {
        let is_test = case.area() == Area::Test;
        let is_good = inspected.report.verdict == Verdict::Accepted;
        if !is_good || case.feed.same_content == SameContent::Allow || is_test {
            return Ok(None);
        }
        let (partner, feed) = (&case.beginning.partner, &case.beginning.feed);
        // What was left out under other rules may be good under these: it is known when what would be
        // forwarded is.
        let object = inspected.out.as_ref().map_or(digest, |(_, made)| *made);
        let found = self
            .0
            .ledger
            .accepted_content(partner, feed, digest, object)
            .await?;
        match (case.feed.same_content, found) {
            (SameContent::Reject, Some(row)) => {
                let detail = format!("the same content was accepted as {}", row.id.short());
                let sample = Sample {
                    detail,
                    ..Sample::default()
                };
                inspected.report.object(
                    Verdict::Rejected,
                    Code::DuplicateFile,
                    "new content",
                    sample,
                );
                Ok(None)
            }
            (SameContent::Known | SameContent::Reject | SameContent::Allow, found) => Ok(found),
        }
    }

    /// A time that was set while the verdict was being written.
    async fn keep_late_mtime(
        &self,
        id: SubmissionId,
        known: Option<i64>,
        file: Option<Arc<LiveFile>>,
    ) {
        let mtime = file.and_then(|file| file.mtime());
        let Some(mtime) = mtime.filter(|_| mtime != known) else {
            return;
        };
        if let Err(fault) = self.0.ledger.set_mtime(id, mtime).await {
            tracing::error!(event = Event::LedgerFailed.as_str(), %fault);
        }
    }

    /// Writes the receipt and commits.
    async fn record(
        &self,
        case: Case,
        inspected: Inspected,
        digest: Digest,
        earlier: Option<Row>,
        known: Option<Row>,
    ) -> Result<Settled, Refusal> {
        let decided_at = self.now();
        let known_as = known.as_ref().map(|row| KnownAs::of(row, decided_at));
        let Inspected {
            report,
            out,
            rejects,
            has_leftovers: _,
        } = inspected;
        let is_wanted = known.is_none() && report.verdict == Verdict::Accepted;
        let (rejects, mut share) = rejects.filter(|_| is_wanted).unzip();
        let left_out = case.left_out(rejects);
        let keeps = known.is_none() && case.area() == Area::Production;
        let (out, out_digest, out_lane) = match out {
            Some((out, out_digest)) => (out, out_digest, Lane::Out),
            None => (case.raw.clone(), digest, Lane::Raw),
        };
        let facts = Facts {
            instance: self.0.instance.as_str(),
            help: case.policy.help.as_deref(),
            beginning: &case.beginning,
            bytes: case.raw.bytes,
            digest,
            received_at: case.received_at,
            decided_at,
            report: &report,
            known_as,
            area: case.area(),
            verdict: report.verdict,
            decision: case
                .decision
                .as_ref()
                .map(|decision| decision.reason.as_str()),
        };
        let settled = Settled {
            lines: facts.told_lines(),
            status: (report.verdict == Verdict::Rejected).then(|| facts.status_text()),
            left_out: left_out.as_ref().map(|left_out| left_out.lane.bytes),
        };
        let receipt = self.documents(&facts, facts.to_table().map(String::into_bytes));
        let out_key = match out_lane {
            Lane::Out | Lane::Rejects => case.out_key.clone(),
            Lane::Raw => self
                .0
                .keyring
                .hand_over(case.beginning.id, &case.beginning.raw_key)
                .map_err(|fault| Refusal::ours("hand the key over", &fault))?,
        };
        let acceptance = || {
            let received = case.received_at.to_rfc3339();
            let day = received.get(..10).unwrap_or_default();
            let forwards = case.area() == Area::Production;
            let key = case.feed.key.fill(
                &case.policy,
                &case.feed,
                &case.beginning.name,
                case.beginning.id,
                day,
            );
            Acceptance {
                out_lane,
                out_key: keeps.then(|| out_key.clone()),
                out: keeps.then(|| out.clone()),
                rejects: left_out.clone(),
                out_digest: keeps.then_some(out_digest),
                store: forwards.then(|| case.feed.store.to_string()),
                key: forwards.then_some(key),
                metadata: metadata(&case, &report, digest, out_digest),
                known_as: known.as_ref().map(|row| row.id),
                replaces: earlier.as_ref().map(|row| row.id),
            }
        };
        let settlement = Settlement {
            whole: case.whole(digest),
            decided_at,
            rows: report.rows,
            errors_total: report.errors_total(),
            rows_left_out: report.rows_left_out(),
            drift: case.drift_of(&report),
            codes: codes_of(&report),
            receipt,
            outcome: match report.verdict {
                Verdict::Accepted => Outcome::Accepted(Box::new(acceptance())),
                Verdict::Held => Outcome::Held,
                Verdict::Rejected => Outcome::Rejected,
            },
            decision: case.decision.clone(),
            instead_of: case.instead_of.filter(|_| report.verdict == Verdict::Held),
        };
        self.0
            .ledger
            .settle(case.beginning.clone(), settlement)
            .await
            .map_err(|fault| Refusal::ours("settle a submission", &fault))?;
        if let (Some(share), Some(bytes)) = (share.take(), settled.left_out) {
            share.leave(bytes);
        }
        self.account(&case, &report, digest, decided_at);
        Ok(settled)
    }

    /// The wide log line and the counters of one verdict.
    fn account(&self, case: &Case, report: &Report, digest: Digest, decided_at: Timestamp) {
        let beginning = &case.beginning;
        let codes: Vec<&str> = report.findings.iter().map(|f| f.code.as_str()).collect();
        let good = report.rows.saturating_sub(report.rows_with_errors);
        let (partner, feed) = (&beginning.partner, &beginning.feed);
        let channel = channel_of(beginning);
        if case.area() == Area::Production {
            self.0
                .metrics
                .submission_settled(partner, feed, report.verdict);
        }
        for drift in case.drift_of(report) {
            self.0.metrics.schema_drifted(partner, feed, drift.kind);
        }
        if case.decision.is_none() {
            let metrics = &self.0.metrics;
            metrics.bytes_received(partner, channel, case.raw.bytes);
            metrics.rows_checked(partner, feed, good, report.rows_with_errors);
        }
        tracing::info!(
            event = Event::SubmissionSettled.as_str(),
            instance = %self.0.instance,
            submission = %beginning.id,
            partner = %beginning.partner,
            feed = %beginning.feed,
            policy_version = beginning.policy_version,
            area = case.area().name(),
            channel = %beginning.origin.channel,
            client.address = %beginning.origin.address,
            client = %beginning.origin.client,
            key = %beginning.origin.key,
            file.name = %crate::terms::path::quoted(&beginning.name, 255),
            file.size = case.raw.bytes,
            digest = %digest,
            rows = report.rows,
            errors = report.errors_total(),
            codes = %codes.join(" "),
            verdict = report.verdict.as_str(),
            decided_by = case.decision.as_ref().map(|decision| &decision.actor),
            ms.receive = case.received_at.micros_since(beginning.opened_at) / 1000,
            ms.check = decided_at.micros_since(case.received_at) / 1000,
        );
    }

    /// The documents of a receipt; `table` is its table of errors.
    pub(super) fn documents(&self, facts: &Facts<'_>, table: Option<Vec<u8>>) -> ReceiptDocuments {
        let (text, json) = (facts.to_text().into_bytes(), facts.to_json().into_bytes());
        let sign = |body: &[u8]| {
            self.0
                .receipt_key
                .sign(RECEIPT_NAMESPACE, body)
                .into_bytes()
        };
        ReceiptDocuments {
            base: facts.base(),
            text_sig: sign(&text),
            json_sig: sign(&json),
            errors_sig: table.as_deref().map(sign),
            errors: table,
            text,
            json,
        }
    }

    /// The raw key is gone with the verdict; what waits for something stays.
    pub(super) async fn unlink_after(
        &self,
        beginning: &Beginning,
        waits: &[Lane],
        had_files: bool,
    ) {
        if !had_files {
            return;
        }
        let (spool, id, waits) = (self.0.spool.clone(), beginning.id, waits.to_vec());
        let done = blocking(move || {
            Lane::ALL
                .into_iter()
                .filter(|lane| !waits.contains(lane))
                .try_for_each(|lane| spool.remove(id, lane))
        })
        .await;
        if let Ok(Err(fault)) = done {
            tracing::warn!(event = Event::SpoolLeftover.as_str(), submission = %id, %fault);
        }
    }
}

// === impl UploadFault ===

impl UploadFault {
    /// Not all of a file may have arrived.
    pub(super) fn incomplete(verdict: Verdict, rule: &'static str, sample: Sample) -> Self {
        let code = Code::Incomplete;
        Self {
            verdict,
            code,
            rule,
            sample,
        }
    }
}

// === impl Case ===

impl Case {
    fn area(&self) -> Area {
        Area::of(&self.beginning.path)
    }

    /// Adds what inspection could not see: faults of the upload itself.
    fn object(&mut self, report: &mut Report) {
        for fault in std::mem::take(&mut self.faults) {
            report.object(fault.verdict, fault.code, fault.rule, fault.sample);
        }
        let was_good = report.verdict != Verdict::Rejected;
        if let Some(why) = self.untaken.take().filter(|_| was_good) {
            let detail = format!("a write was refused: {}", ascii(&why, 120));
            let sample = Sample {
                detail,
                ..Sample::default()
            };
            report.object(
                Verdict::Rejected,
                Code::Incomplete,
                "every byte sent was taken",
                sample,
            );
        }
    }

    /// The rows that are left out of an accepted file; those of tests are not kept.
    fn left_out(&self, rejects: Option<SealedLane>) -> Option<Rejects> {
        let lane = rejects.filter(|_| self.area() == Area::Production)?;
        let (_, key) = self.setup.rejects.as_ref()?;
        let key = key.clone();
        Some(Rejects { key, lane })
    }

    fn mtime(&self) -> Option<i64> {
        self.file.as_ref().and_then(|file| file.mtime())
    }

    fn whole(&self, digest: Digest) -> Whole {
        Whole {
            digest,
            raw: self.raw.clone(),
            mtime: self.mtime(),
            old_digests: self.old_digests.clone(),
            received_at: self.received_at,
        }
    }
}

/// What shows that a file is not whole: gaps, fewer or more bytes than declared, a size set by its path
/// while it was being sent.
fn shortfalls(
    contiguous: u64,
    end: u64,
    declared: Option<u64>,
    cut_to: Option<u64>,
) -> Vec<UploadFault> {
    let mut faults = Vec::new();
    if contiguous < end {
        let detail = format!("bytes from {contiguous} on were not all sent; {end} is the end");
        let sample = Sample {
            byte: Some(contiguous),
            detail,
            ..Sample::default()
        };
        faults.push(UploadFault::incomplete(
            Verdict::Rejected,
            "no gaps",
            sample,
        ));
    }
    if let Some(declared) = declared.filter(|declared| *declared != end) {
        let detail = format!("{declared} bytes were declared, {end} arrived");
        let sample = Sample {
            detail,
            ..Sample::default()
        };
        let rule = "the declared size";
        faults.push(UploadFault::incomplete(Verdict::Rejected, rule, sample));
    }
    if let Some(cut) = cut_to {
        let detail = format!("its size was set to {cut} by its path while it was being sent");
        let sample = Sample {
            detail,
            ..Sample::default()
        };
        let rule = "sizes set by the handle that writes";
        faults.push(UploadFault::incomplete(Verdict::Rejected, rule, sample));
    }
    faults
}

/// What is missing of the proof that the feed wants.
fn unproven(
    wanted: Completeness,
    is_declared: bool,
    evidence: Option<Evidence>,
) -> Option<UploadFault> {
    let is_renamed = evidence == Some(Evidence::Rename);
    let (rule, detail) = match wanted {
        Completeness::Close => return None,
        Completeness::Size if is_declared || is_renamed => return None,
        Completeness::Rename if is_renamed => return None,
        Completeness::Size => (
            "completeness = \"size\"",
            "no size was declared; send it with scp, or as NAME.part and rename it to NAME",
        ),
        Completeness::Rename => (
            "completeness = \"rename\"",
            "sent under its final name; send it as NAME.part and rename it to NAME",
        ),
    };
    let sample = Sample {
        detail: detail.to_owned(),
        ..Sample::default()
    };
    Some(UploadFault::incomplete(Verdict::Rejected, rule, sample))
}

/// A file written over a longer one that was not truncated: its client may mean to keep the rest of
/// the old one. Nothing is ever spliced; a person decides whether this is all.
fn stale_tail(end: u64, over: u64) -> Option<UploadFault> {
    let detail = format!(
        "{end} bytes were written over a file of {over} without truncating it; send the whole file"
    );
    let sample = Sample {
        detail,
        ..Sample::default()
    };
    let fault = UploadFault::incomplete(Verdict::Held, "a whole file", sample);
    (end < over).then_some(fault)
}

/// Reads what the inspection behind has not read yet; starts over when bytes it had read were
/// rewritten, and does it all now for a file that never left memory.
pub(super) async fn inspect(
    effort: Effort,
    behind: Option<Behind>,
    setup: Setup,
    reader: SpoolReader,
    rewritten_from: Option<u64>,
) -> Result<Inspected, InspectionFault> {
    let followed = match behind {
        Some(behind) => Some(behind.whole().await?),
        None => None,
    };
    // Rewritten bytes may have been read before or after: when in doubt, read again.
    let followed = followed.filter(|_| rewritten_from.is_none());
    perform(effort, move || {
        let inspection = match followed {
            Some(inspection) => inspection,
            None => Inspection::start(&setup, reader)?,
        };
        let inspected = inspection.finish();
        if inspected.is_err() {
            // What it has made counts for nobody, and is made anew. What stays is swept at the next start.
            for lane in [Lane::Out, Lane::Rejects] {
                drop(setup.spool.remove(setup.id, lane));
            }
        }
        inspected
    })
    .await?
}

fn channel_of(beginning: &Beginning) -> Channel {
    if beginning.origin.channel == "scp" {
        Channel::Scp
    } else {
        Channel::Sftp
    }
}

/// What an opaque file that never left memory takes is less than handing it to another thread. One
/// that is inspected may unpack, and its output may grow until it needs the disk.
fn effort_of(raw: &SpoolWriter, feed: &Feed) -> Effort {
    if raw.is_spilled() || !feed.contract.passes_through() {
        Effort::Large
    } else {
        Effort::Small
    }
}

/// The digest of all bytes: from the task that followed the writes, or made now.
fn digest_of_whole(
    followed: Option<Digesting>,
    effort: Effort,
    reader: SpoolReader,
    hasher: Hasher,
) -> Pin<Box<dyn Future<Output = Result<Digests, InspectionFault>> + Send>> {
    let making = match (followed, effort) {
        (Some(following), _) => following,
        (None, Effort::Small) => return Box::pin(ready(digest_of(&reader, hasher, u64::MAX))),
        (None, Effort::Large) => {
            tokio::task::spawn_blocking(move || digest_of(&reader, hasher, u64::MAX))
        }
    };
    Box::pin(async move { making.await.unwrap_or(Err(InspectionFault::Ended)) })
}

/// The feed's digest goes into the verdict; the others only into the row.
fn keep_old(
    made: Result<Digests, InspectionFault>,
    case: &mut Case,
) -> Result<Digest, InspectionFault> {
    let Digests { digest, old } = made?;
    case.old_digests = old;
    Ok(digest)
}

/// Accepted, whatever became of its delivery.
pub(super) fn is_accepted(state: State) -> bool {
    match state {
        State::Accepted | State::Delivering | State::Delivered | State::Failing => true,
        State::Receiving
        | State::Received
        | State::Interrupted
        | State::Held
        | State::Rejected
        | State::Expired
        | State::Removed => false,
    }
}

/// What the store keeps beside the object.
fn metadata(
    case: &Case,
    report: &Report,
    digest: Digest,
    out_digest: Digest,
) -> Vec<(String, String)> {
    let kids = case
        .feed
        .contract
        .domains()
        .into_iter()
        .filter_map(|domain| Some(format!("{domain}:{}", case.setup.keys.get(&domain)?.kid)))
        .collect::<Vec<_>>()
        .join(" ");
    let received_digest = match digest.kind {
        DigestKind::Blake3 => "blake3-received",
        DigestKind::Sha256 => "sha256-received",
    };
    let rows = report.rows.saturating_sub(report.rows_with_errors);
    let left_out = report.rows_with_errors;
    let left_out = (left_out > 0).then(|| ("rows-left-out", left_out.to_string()));
    [
        ("submission", case.beginning.id.to_string()),
        ("partner", case.beginning.partner.to_string()),
        ("feed", case.beginning.feed.to_string()),
        ("policy-version", case.beginning.policy_version.to_string()),
        ("policy-hash", hex(&case.beginning.policy_hash)),
        (received_digest, digest.hex()),
        (digest.kind.name(), out_digest.hex()),
        ("rows", rows.to_string()),
        ("token-keys", kids),
    ]
    .into_iter()
    .chain(left_out)
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The codes of a report, sorted, each once.
pub(super) fn codes_of(report: &Report) -> Vec<String> {
    let codes = report.findings.iter().map(|finding| finding.code.as_str());
    let codes: std::collections::BTreeSet<&str> = codes.collect();
    codes.into_iter().map(str::to_owned).collect()
}

/// Nobody may be listening any more: what was promised is done all the same.
fn answer(tell: Answer, told: Result<Told, Refusal>) {
    drop(tell.send(told));
}
