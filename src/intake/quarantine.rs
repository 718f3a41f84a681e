//! Held files and the word of the person who decides: released, rejected, or rejected by time.
//!
//! A release inspects the file again, under the policy now in force and the contract as it is for a
//! released file ([`Contract::released`]): rows that still have a fault are left out, and whatever
//! refuses the file as a whole still does. A rejection only writes the receipt again.
//!
//! [`Contract::released`]: crate::policy::contract::Contract::released

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::authority::places::Area;
use crate::depot::spool::{SpoolFault, SpoolReader};
use crate::inspect::report::Report;
use crate::intake::hold::{Hold, LiveFile};
use crate::intake::inspection::blocking;
use crate::intake::keyring::Purpose;
use crate::intake::receipt::{Facts, finding_lines, report_of};
use crate::intake::recover::beginning_of;
use crate::intake::settle::{Case, codes_of};
use crate::intake::{Intake, RefusalKind, micros};
use crate::ledger::LedgerFault;
use crate::ledger::submissions::{Decision, Document, Outcome, Row, Settlement, State, Whole};
use crate::policy::feed::Feed;
use crate::seal::Lane;
use crate::telemetry::Event;
use crate::terms::clock::Timestamp;
use crate::terms::ids::PartnerId;
use crate::terms::ids::SubmissionId;
use crate::terms::verdict::Verdict;

/// What a release does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The version of the policy it was inspected under.
    pub policy_version: u32,
    /// Rows of the file.
    pub rows: u64,
    /// Rows with a fault, which are left out.
    pub rows_left_out: u64,
    /// What is still found, for people.
    pub findings: Vec<String>,
}

/// Part of the rows that were left out of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Bytes of all.
    pub total: u64,
}

/// Why a held file was not decided about.
#[derive(Debug, thiserror::Error)]
pub enum DecideFault {
    /// It cannot be forwarded by anybody's word.
    #[error("it cannot be released under policy version {policy_version}")]
    Faulty {
        /// The version it was inspected under.
        policy_version: u32,
        /// What was found.
        findings: Vec<String>,
    },
    /// Its path is in use.
    #[error("its partner is sending a file of this name now, or somebody else decides; try again")]
    InUse,
    /// A newer file of the same name was accepted.
    #[error("a newer file of this name was accepted as {short} on {}", at.to_human())]
    Newer {
        /// The newer one's short id.
        short: String,
        /// When it was accepted.
        at: Timestamp,
    },
    /// It is in another state.
    #[error("it is not held but {0}")]
    NotHeld(State),
    /// There is none of this id.
    #[error("there is no such submission")]
    Nothing,
    /// Another version of the policy is in force.
    #[error("policy version {running} is in force, not {wanted}")]
    OtherPolicy {
        /// In force.
        running: u32,
        /// Asked for.
        wanted: u32,
    },
    /// The gateway itself failed; it stays held.
    #[error("{0}")]
    Ours(String),
}

// === impl Intake ===

impl Intake {
    /// Forwards a held file on a person's word. `as_policy`: only under this version of the policy.
    /// With `is_dry` everything is looked at and nothing done.
    ///
    /// # Errors
    /// [`DecideFault`]; the file stays held.
    pub async fn release(
        &self,
        id: SubmissionId,
        decision: Decision,
        as_policy: Option<u32>,
        is_dry: bool,
    ) -> Result<Release, DecideFault> {
        let intake = self.clone();
        self.through(Box::pin(async move {
            Box::pin(intake.try_release(id, decision, as_policy, is_dry)).await
        }))
        .await
    }

    /// Refuses a held file; the partner reads why in the receipt. Its bytes are destroyed.
    ///
    /// # Errors
    /// [`DecideFault`]; the file stays held.
    pub async fn reject(&self, id: SubmissionId, decision: Decision) -> Result<(), DecideFault> {
        let intake = self.clone();
        self.through(Box::pin(
            async move { intake.try_reject(id, decision).await },
        ))
        .await
    }

    /// Refuses held files that nobody has decided about in time, and destroys rows left out of others
    /// that are as old.
    ///
    /// # Errors
    /// The ledger; single rows that fail are logged and tried again.
    pub(super) async fn purge(&self) -> Result<(), LedgerFault> {
        let ttl = self.0.spool_config.quarantine_ttl_secs;
        let before = self.now().plus_micros(-micros(ttl));
        for id in self.0.ledger.stale(State::Held, before).await? {
            let decision = Decision {
                actor: "system".to_owned(),
                reason: format!("nobody decided within {}", period(ttl)),
            };
            match self.try_reject(id, decision).await {
                Ok(()) | Err(DecideFault::InUse | DecideFault::NotHeld(_)) => {}
                Err(fault) => {
                    tracing::error!(event = Event::SubmissionUnrecovered.as_str(), submission = %id, %fault);
                }
            }
        }
        for kept in self.0.ledger.rejects_kept(before).await? {
            let (id, partner) = (kept.id, &kept.partner);
            self.purge_rejects(id, partner, "system", "their time is over")
                .await?;
        }
        Ok(())
    }

    /// Destroys the rows left out of an accepted file; how many bytes, where any were kept.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn purge_rejects(
        &self,
        id: SubmissionId,
        partner: &PartnerId,
        actor: &str,
        why: &str,
    ) -> Result<Option<u64>, LedgerFault> {
        let ledger = &self.0.ledger;
        let purged = ledger.purge_rejects(id, actor.to_owned(), why).await?;
        if let Some(bytes) = purged {
            self.0.quota.give_back(partner, bytes);
            let spool = self.0.spool.clone();
            if let Ok(Err(fault)) = blocking(move || spool.remove(id, Lane::Rejects)).await {
                tracing::warn!(event = Event::SpoolLeftover.as_str(), submission = %id, %fault);
            }
        }
        Ok(purged)
    }

    /// A piece of what was left out of an accepted file, from `offset` on, opened; `None`: nothing of it
    /// is kept.
    ///
    /// # Errors
    /// [`DecideFault::Ours`].
    pub async fn read_rejects(
        &self,
        id: SubmissionId,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Option<Piece>, DecideFault> {
        let kept = self.0.ledger.rejects(id).await;
        let Some(kept) = kept.map_err(|fault| ours(&fault))? else {
            return Ok(None);
        };
        let key = self
            .0
            .keyring
            .open_data_key(id, Purpose::Rejects, &kept.key);
        let key = key.map_err(|fault| ours(&fault))?;
        let spool = self.0.spool.clone();
        let total = kept.lane.bytes;
        let read = blocking(move || {
            let reader = spool.read(id, Lane::Rejects, &key, &kept.lane)?;
            let mut bytes = Vec::new();
            reader.read_at(offset, bytes_max, &mut bytes)?;
            Ok::<_, SpoolFault>(bytes)
        });
        let read = read.await.map_err(|fault| ours(&fault))?;
        let bytes = read.map_err(|fault| ours(&fault))?;
        Ok(Some(Piece { bytes, total }))
    }

    /// Does it to the end, although the one who asked may go away.
    async fn through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DecideFault>> + Send + 'static,
    ) -> Result<T, DecideFault> {
        let (tell, told) = oneshot::channel();
        self.0
            .tasks
            .spawn(async move { drop(tell.send(work.await)) });
        let ended = || DecideFault::Ours("the gateway is stopping".to_owned());
        told.await.map_err(|_| ended())?
    }

    async fn try_release(
        &self,
        id: SubmissionId,
        decision: Decision,
        as_policy: Option<u32>,
        is_dry: bool,
    ) -> Result<Release, DecideFault> {
        let (row, _own) = self.held(id).await?;
        self.cut_off_before(&row).await?;
        // Nobody may put a newer file there meanwhile.
        let file = LiveFile::new(row.bytes);
        let _path = self
            .hold(&row.partner, &row.path, "a person who decides", &file)
            .map_err(|_| DecideFault::InUse)?;
        let newer = self
            .0
            .ledger
            .newest_accepted_at(&row.partner, &row.path, row.came_at())
            .await
            .map_err(|fault| ours(&fault))?;
        if let Some(newer) = newer {
            return Err(DecideFault::Newer {
                short: newer.id.short(),
                at: newer.decided_at.unwrap_or(newer.opened_at),
            });
        }
        let released = |feed: &Arc<Feed>| {
            Arc::new(Feed {
                contract: Arc::new(feed.contract.released()),
                ..(**feed).clone()
            })
        };
        let (case, reader) = self
            .reopen(&row, released)
            .await
            .map_err(|fault| ours(&fault))?;
        let policy_version = case.policy.version;
        if let Some(wanted) = as_policy.filter(|wanted| *wanted != policy_version) {
            let running = policy_version;
            return Err(DecideFault::OtherPolicy { running, wanted });
        }
        let beginning = case.beginning.clone();
        let done = Box::pin(self.settle_released(case, reader, decision, is_dry)).await;
        if is_dry || done.is_err() {
            // What was made to look at it.
            self.unlink_after(&beginning, &[Lane::Raw], true).await;
        }
        done
    }

    /// Inspects a held file again and, unless `is_dry`, forwards what is good of it.
    async fn settle_released(
        &self,
        mut case: Case,
        reader: SpoolReader,
        decision: Decision,
        is_dry: bool,
    ) -> Result<Release, DecideFault> {
        let policy_version = case.policy.version;
        let bytes = case.raw.bytes;
        let partner = case.beginning.partner.clone();
        let looked = self
            .look(&mut case, reader)
            .await
            .map_err(|fault| ours(&fault))?;
        let (inspected, digest) = looked;
        let report = &inspected.report;
        let findings = finding_lines(&report.findings);
        if report.verdict != Verdict::Accepted {
            return Err(DecideFault::Faulty {
                policy_version,
                findings,
            });
        }
        let release = Release {
            policy_version,
            rows: report.rows,
            rows_left_out: report.rows_with_errors,
            findings,
        };
        if is_dry {
            return Ok(release);
        }
        let case = Case {
            decision: Some(decision),
            ..case
        };
        let mut share = Some(self.0.quota.share(&partner, None, bytes));
        let settled = self.settle(case, inspected, digest, &mut share).await;
        if let Some(share) = share {
            share.leave(bytes);
        }
        match settled {
            Ok(_) => Ok(release),
            // By the feed's `same_name` or `same_content`.
            Err(refusal) if refusal.kind == RefusalKind::PermissionDenied => {
                Err(DecideFault::Faulty {
                    policy_version,
                    findings: vec![refusal.text],
                })
            }
            Err(refusal) => Err(DecideFault::Ours(refusal.text)),
        }
    }

    /// What an earlier process was receiving at its path came after it, whatever is decided now.
    async fn cut_off_before(&self, row: &Row) -> Result<(), DecideFault> {
        self.cut_off_at(&row.partner, &row.path)
            .await
            .map_err(|refusal| DecideFault::Ours(refusal.text))
    }

    async fn try_reject(&self, id: SubmissionId, decision: Decision) -> Result<(), DecideFault> {
        let (row, _own) = self.held(id).await?;
        self.cut_off_before(&row).await?;
        let ledger = &self.0.ledger;
        let json = ledger
            .receipt(&row.partner, id, Document::Json)
            .await
            .map_err(|fault| ours(&fault))?;
        let unreadable = || DecideFault::Ours("its receipt cannot be read".to_owned());
        let report = json.and_then(|json| report_of(&json));
        let mut report = report.ok_or_else(unreadable)?;
        report.verdict = Verdict::Rejected;
        let missing = || DecideFault::Ours("its row lacks key, lane or digest".to_owned());
        let (Some(wrapped), Some(raw), Some(digest)) =
            (row.raw_key.clone(), row.raw.clone(), row.digest)
        else {
            return Err(missing());
        };
        let beginning = beginning_of(&row, wrapped);
        let policy = self.0.authority.policy(&row.partner);
        let received_at = row.received_at.unwrap_or(row.opened_at);
        let decided_at = self.now();
        // The report of a receipt holds fewer errors than its table.
        let table = ledger.receipt(&row.partner, id, Document::Errors).await;
        let table = table.map_err(|fault| ours(&fault))?;
        let facts = Facts {
            instance: self.0.instance.as_str(),
            help: policy.as_ref().and_then(|policy| policy.help.as_deref()),
            beginning: &beginning,
            bytes: row.bytes,
            digest,
            received_at,
            decided_at,
            report: &report,
            known_as: None,
            area: Area::of(&row.path),
            verdict: Verdict::Rejected,
            decision: Some(&decision.reason),
        };
        let table = table.or_else(|| facts.to_table().map(String::into_bytes));
        let receipt = self.documents(&facts, table);
        let settlement = Settlement {
            whole: Whole {
                digest,
                old_digests: row.old_digests.clone(),
                raw,
                mtime: None,
                received_at,
            },
            decided_at,
            rows: report.rows,
            errors_total: report.errors_total(),
            rows_left_out: 0,
            drift: Vec::new(),
            codes: codes_of(&report),
            receipt,
            outcome: Outcome::Rejected,
            decision: Some(decision.clone()),
            instead_of: None,
        };
        ledger
            .settle(beginning.clone(), settlement)
            .await
            .map_err(|fault| ours(&fault))?;
        self.0.quota.give_back(&row.partner, row.bytes);
        self.unlink_after(&beginning, &[], true).await;
        if let Some(old) = row.instead_of.filter(|_| !row.hidden)
            && let Err(fault) = self.show_again(&row, old).await
        {
            // What was removed to make room for it is accepted whatever its listing says.
            tracing::error!(event = Event::LedgerFailed.as_str(), %fault);
        }
        self.account_decided(&row, &report, &decision);
        Ok(())
    }

    /// Lists what was removed to make room for a file, unless something has come there since.
    async fn show_again(&self, row: &Row, old: SubmissionId) -> Result<(), LedgerFault> {
        let ledger = &self.0.ledger;
        let since = row.received_at.unwrap_or(row.opened_at);
        if ledger.came_since(&row.partner, &row.path, since).await? {
            return Ok(());
        }
        ledger.show(old).await
    }

    fn account_decided(&self, row: &Row, report: &Report, decision: &Decision) {
        let (partner, feed) = (&row.partner, &row.feed);
        let metrics = &self.0.metrics;
        metrics.submission_settled(partner, feed, Verdict::Rejected);
        tracing::info!(
            event = Event::SubmissionSettled.as_str(),
            instance = %self.0.instance,
            submission = %row.id,
            partner = %partner,
            feed = %feed,
            verdict = Verdict::Rejected.as_str(),
            errors = report.errors_total(),
            decided_by = %decision.actor,
        );
    }

    /// A held row that nobody else decides about meanwhile. Its path is not kept: its partner may be
    /// sending a better file.
    async fn held(&self, id: SubmissionId) -> Result<(Row, Hold), DecideFault> {
        let find = async || {
            self.0
                .ledger
                .submission(id)
                .await
                .map_err(|fault| ours(&fault))
        };
        let Some(row) = find().await? else {
            return Err(DecideFault::Nothing);
        };
        let file = LiveFile::new(row.bytes);
        // No path of a partner's is like this.
        let own = self
            .hold(
                &row.partner,
                &format!("held {id}"),
                "a person who decides",
                &file,
            )
            .map_err(|_| DecideFault::InUse)?;
        // Read again under the hold: somebody may have decided meanwhile.
        match find().await? {
            Some(row) if row.state == State::Held => Ok((row, own)),
            Some(row) => Err(DecideFault::NotHeld(row.state)),
            None => Err(DecideFault::Nothing),
        }
    }
}

fn period(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

fn ours(fault: &dyn std::fmt::Display) -> DecideFault {
    DecideFault::Ours(fault.to_string())
}
