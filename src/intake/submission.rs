//! One submission while its bytes arrive. Each phase consumes the one before it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::authority::Identity;
use crate::authority::permit::UploadPermit;
use crate::authority::places::Area;
use crate::depot::spool::{SpoolFault, SpoolSync, SpoolWriter};
use crate::inspect::report::Sample;
use crate::intake::hold::{Hold, LiveFile};
use crate::intake::inspection::{Behind, InspectionFault, Room, Setup, blocking};
use crate::intake::keyring::{KeyFault, Purpose};
use crate::intake::quota::Share;
use crate::intake::receipt::ascii;
use crate::intake::settle::{UploadFault, is_accepted};
use crate::intake::{Intake, Opening, Peer, Refusal, RefusalKind, Told};
use crate::ledger::submissions::{Beginning, Origin, Partial, Resuming, Row, SetBy, Sizes, State};
use crate::policy::feed::{Feed, Policy};
use crate::seal::Lane;
use crate::telemetry::{Event, Limit};
use crate::terms::clock::Timestamp;
use crate::terms::codes::Code;
use crate::terms::ids::{PartnerId, SubmissionId};
use crate::terms::verdict::Verdict;
use crate::tokens::TokenKeys;

/// Sealed bytes between two wake-ups of the inspection behind.
const WAKE_EVERY_BYTES: u64 = 256 * 1024;

/// Sealed bytes one upload may take before its rewrites count against the room there is.
const REWRITE_BYTES_FREE: u64 = 64 * 1024 * 1024;

/// Being written. Dropping it without [`Submission::close`] makes it *interrupted*.
pub struct Submission(Option<Receiving>);

/// An fsync on its way; it does not hold the submission.
pub struct PendingSync {
    begun: Option<watch::Receiver<Option<bool>>>,
    sync: SpoolSync,
}

/// A size on its way into the ledger; it does not hold the submission.
pub struct PendingSize {
    intake: Intake,
    id: SubmissionId,
    begun: Option<watch::Receiver<Option<bool>>>,
    bytes: u64,
}

/// The state of a submission that is being written.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that arises at another moment"
)]
pub(super) struct Receiving {
    pub(super) intake: Intake,
    pub(super) hold: Hold,
    pub(super) beginning: Beginning,
    pub(super) policy: Arc<Policy>,
    pub(super) feed: Arc<Feed>,
    pub(super) setup: Setup,
    pub(super) out_key_wrapped: Vec<u8>,
    pub(super) raw: SpoolWriter,
    pub(super) behind: Option<Behind>,
    /// The size its client gave before it sent anything: what then comes is as long, or is not whole.
    pub(super) promised_bytes: Option<u64>,
    /// That was when it was opened before.
    is_old_promise: bool,
    /// Why it is whole, beside its CLOSE.
    pub(super) evidence: Option<Evidence>,
    /// Faults of the upload itself, found before any inspection.
    pub(super) faults: Vec<UploadFault>,
    /// The path is a partial name: CLOSE keeps, RENAME judges.
    pub(super) partial: bool,
    /// The ledger has a row for it already.
    pub(super) begun: bool,
    /// What it takes of the spool's quota.
    pub(super) share: Share,
    append: Append,
    pub(super) refusal: Option<Refusal>,
    spoiled: bool,
    /// Bytes at the start that came when it was opened before. What is written over any of them cuts
    /// the file there first: two versions are never mixed.
    inherited: u64,
    /// It was there before, and nothing has been written to it since, nor was its size set.
    is_untouched: bool,
    /// A size set on a handle that appends: the next WRITE cuts it there. A CLOSE instead means that its
    /// client has given up (OpenSSH does that when it is interrupted).
    cut_at_write: Option<u64>,
    /// That one had been closed under its partial name.
    was_closed: bool,
    /// The partial name it was closed under and has until there is a verdict, and since when.
    pub(super) named_before: Option<(String, Timestamp)>,
    /// The file that was taken, and that its partner sees, under this name; it was not truncated.
    over_taken: Option<SubmissionId>,
    /// An unfinished file under its final name: it goes when this one takes its place.
    pub(super) unfinished: Option<Row>,
    woken_at: u64,
    pub(super) file: Arc<LiveFile>,
}

/// Whether every WRITE goes to the end, and where its client counts from.
#[derive(Clone, Copy)]
enum Append {
    /// This place in the file.
    From(u64),
    /// Whatever they say.
    Blind,
    /// Its first WRITE will show it; one of offset 0 counts from the end as it is then.
    FromSomewhere,
    /// Offsets mean what they say.
    No,
}

/// An unfinished file, on its way into the ledger.
pub(super) struct Unjudged {
    pub(super) beginning: Beginning,
    pub(super) raw_inline: Option<Vec<u8>>,
    pub(super) mtime: Option<i64>,
    pub(super) bytes: u64,
    /// The size its client has declared.
    pub(super) declared: Option<u64>,
    pub(super) ending: Ending,
    /// Since when it is what it is.
    pub(super) at: Timestamp,
}

/// Why a file closed under a partial name is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nobody has touched it for the quiet window of its feed.
    Quiet,
    /// Its client gave it its final name.
    Rename,
}

/// Why an unfinished file is taken up again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// Its client goes on, and may have said how long it will be.
    ToSend {
        /// That size.
        promised: Option<u64>,
    },
    /// Nothing more will be written, and this shows it.
    Whole(Evidence),
}

/// How writing ended without a verdict.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client closed a partial name: whole, as far as the client knows.
    Closed,
    /// The connection ended first.
    CutOff,
}

// === impl Intake ===

impl Intake {
    /// Starts, or goes on with, a submission. Consumes the permit. `peer` is the connection it comes
    /// on: when it dies, the same key may go on from another.
    ///
    /// # Errors
    /// [`Refusal`]: concurrent writer, full spool, EXCL on an existing name, broken ledger.
    pub async fn open(
        &self,
        permit: UploadPermit,
        opening: Opening,
        origin: Origin,
        peer: Arc<dyn Peer>,
    ) -> Result<Submission, Refusal> {
        let partner = permit.identity().partner.clone();
        let path = permit.path().as_str().to_owned();
        let file = LiveFile::new(0);
        self.cut_off_at(&partner, &path).await?;
        let hold = self
            .hold_to_send(&partner, &path, &origin, Arc::clone(&peer), &file)
            .await?;
        if peer.is_gone() {
            // Nothing is thrown away for who has left meanwhile.
            return Err(Refusal::new(
                RefusalKind::Failure,
                "nobody waits for this file",
            ));
        }
        let there = async |since| {
            let found = self.0.ledger.at_path(&partner, &path, since).await;
            found.map_err(|fault| Refusal::ours("look up the path", &fault))
        };
        let earlier = there(self.shown_since(&partner)).await?;
        // What was taken is not forgotten where it is out of sight.
        let known = match &earlier {
            Some(row) => Some(row.clone()),
            None => there(self.visible_since()).await?,
        };
        if earlier
            .as_ref()
            .is_some_and(|row| row.state == State::Received)
        {
            return Err(being_checked(permit.name()));
        }
        if earlier.is_none() && !opening.create {
            let text = format!("no file {}", ascii(permit.path().as_str(), 80));
            return Err(Refusal::new(RefusalKind::NoSuchFile, text));
        }
        let is_taken = |row: &Row| is_accepted(row.state) || row.state == State::Held;
        if opening.append && !opening.truncate && known.as_ref().is_some_and(is_taken) {
            // What would come is the end of another file than the one that was taken.
            return Err(not_appended(permit.name()));
        }
        if earlier.is_some() && opening.exclusive {
            let text = format!("{} exists already", ascii(permit.name(), 80));
            return Err(Refusal::new(RefusalKind::Failure, text));
        }
        let declared = opening.declared_bytes.unwrap_or(0);
        if declared > permit.feed().bytes_max {
            let text = too_large(permit.feed().bytes_max);
            return Err(Refusal::new(RefusalKind::Failure, text));
        }
        let own = earlier
            .as_ref()
            .filter(|row| row.state == State::Interrupted)
            .map_or(0, |row| row.bytes);
        self.make_sure_of_room(&permit, declared, own)?;
        // Asked for at every OPEN: it is about this one alone.
        let was_emptied = self.is_truncated(&partner, &path);
        let truncates = opening.truncate || was_emptied;
        let over = known
            .as_ref()
            .filter(|row| is_taken(row) && !truncates)
            // What is held for being shorter than what it was written over is no measure.
            .map(|row| {
                let over = row.over.filter(|_| row.state == State::Held);
                over.unwrap_or(0).max(row.bytes)
            });
        let over_taken = earlier
            .as_ref()
            .filter(|row| is_taken(row) && !truncates)
            .map(|row| row.id);
        let mut receiving = match earlier.filter(|row| row.state == State::Interrupted) {
            Some(row) if !truncates => {
                let promised = opening.declared_bytes;
                self.resume(&permit, origin, row, hold, file, Why::ToSend { promised })
                    .await?
            }
            Some(row) => {
                self.discard(&row).await?;
                self.begin(&permit, origin, hold, file).await?
            }
            None => self.begin(&permit, origin, hold, file).await?,
        };
        if opening.declared_bytes.is_some() {
            // What was said before is out of date.
            receiving.promised_bytes = opening.declared_bytes;
            receiving.is_old_promise = false;
        }
        if opening.append {
            receiving.append = Append::FromSomewhere;
        }
        receiving.over_taken = over_taken;
        // What goes on keeps what it was begun over.
        receiving.beginning.over = over.or(receiving.beginning.over);
        // A declared size is taken at once; somebody else may have been quicker.
        let has_room = receiving.share.declare(declared);
        let submission = Submission(Some(receiving));
        if has_room {
            Ok(submission)
        } else {
            // Dropped, what was there of it is kept.
            Err(self.spool_full(permit.identity(), declared))
        }
    }

    async fn begin(
        &self,
        permit: &UploadPermit,
        origin: Origin,
        hold: Hold,
        file: Arc<LiveFile>,
    ) -> Result<Receiving, Refusal> {
        let random = self
            .0
            .rng
            .array()
            .map_err(|fault| Refusal::ours("make an id", &fault))?;
        let id = SubmissionId::new(self.now(), random);
        let (raw_key, wrapped) = self
            .0
            .keyring
            .data_key(id, Purpose::Raw)
            .map_err(|fault| Refusal::ours("make a data key", &fault))?;
        let raw = self.0.spool.create(id, Lane::Raw, &raw_key);
        let beginning = self.beginning(permit, origin, id, wrapped);
        self.receiving(permit, beginning, raw, hold, file, 0).await
    }

    /// Goes on with an interrupted submission, under today's policy.
    pub(super) async fn resume(
        &self,
        permit: &UploadPermit,
        origin: Origin,
        row: Row,
        hold: Hold,
        file: Arc<LiveFile>,
        why: Why,
    ) -> Result<Receiving, Refusal> {
        let ours = |fault: &dyn std::fmt::Display| Refusal::ours("resume a submission", fault);
        // From here on nobody else changes the row, and who looks sees what is there.
        file.set_bytes(row.bytes);
        hold.own(row.id);
        let wrapped = row
            .raw_key
            .clone()
            .ok_or_else(|| ours(&"its key is gone"))?;
        let raw_key = self
            .0
            .keyring
            .open_data_key(row.id, Purpose::Raw, &wrapped)
            .map_err(|fault| ours(&fault))?;
        let spool = self.0.spool.clone();
        let key = raw_key.clone();
        let inline = row.raw.as_ref().and_then(|raw| raw.inline.clone());
        let (id, bytes) = (row.id, row.bytes);
        let is_whole = matches!(why, Why::Whole(_));
        let raw = blocking(move || {
            if inline.is_some() {
                // Of an attempt that got no further.
                spool.remove(id, Lane::Raw)?;
            }
            let mut raw = spool.resume(id, Lane::Raw, &key, inline.as_deref())?;
            if raw.contiguous() > bytes {
                // It was cut by its path.
                raw.truncate(bytes)?;
            }
            if !is_whole {
                // What is written over it must not come back when the process dies, and what the row
                // has held until now must not be lost.
                raw.spill()?;
                raw.sync()?;
            }
            Ok(raw)
        })
        .await
        .map_err(|fault| ours(&fault))?
        .map_err(|fault: SpoolFault| ours(&fault))?;
        let mut beginning = self.beginning(permit, origin, row.id, wrapped);
        beginning.opened_at = row.opened_at;
        beginning.over = row.over;
        let staged = raw.contiguous();
        if staged < raw.end() && !is_whole {
            // It was shown as long as it is up to its first gap, and goes on there; it has to come as far
            // again, or its size has to be declared.
            beginning.over = beginning.over.max(Some(raw.end()));
        }
        let mut receiving = self
            .receiving(permit, beginning.clone(), raw, hold, file, row.bytes)
            .await?;
        let resuming = match why {
            Why::ToSend { promised } => {
                // Should the process die, what it was written over is not known any more.
                beginning.over = beginning.over.max(Some(staged));
                Resuming {
                    closed: false,
                    declared: promised.or(row.declared),
                    in_a_file: true,
                    moment: None,
                }
            }
            Why::Whole(_) => {
                // Until there is a verdict it is what it was: a closed file with a partial name.
                beginning.path.clone_from(&row.path);
                receiving.named_before = Some((row.path.clone(), row.moment));
                Resuming {
                    closed: row.closed,
                    declared: row.declared,
                    in_a_file: false,
                    moment: Some(row.moment),
                }
            }
        };
        // Last: until here a failure leaves the row as it was.
        if let Err(fault) = self.0.ledger.resume(beginning, resuming).await {
            receiving.share.leave(row.bytes);
            return Err(ours(&fault));
        }
        receiving.begun = true;
        if let Some(mtime) = row.mtime.filter(|_| receiving.file.mtime().is_none()) {
            receiving.file.set_mtime(mtime);
        }
        receiving.promised_bytes = row.declared;
        receiving.is_old_promise = true;
        receiving.inherited = staged;
        receiving.is_untouched = receiving.raw.end() > 0 && !is_whole;
        if !is_whole {
            let cut = receiving.raw.truncate(staged);
            cut.map_err(|fault| receiving.broken("truncate the spool", &fault))?;
        }
        receiving.was_closed = row.closed;
        receiving.file.set_bytes(staged);
        if let Why::Whole(evidence) = why {
            receiving.evidence = Some(evidence);
            if receiving.raw.is_spilled() {
                receiving.follow();
            }
        }
        Ok(receiving)
    }

    async fn receiving(
        &self,
        permit: &UploadPermit,
        beginning: Beginning,
        raw: SpoolWriter,
        hold: Hold,
        file: Arc<LiveFile>,
        counted: u64,
    ) -> Result<Receiving, Refusal> {
        hold.own(beginning.id);
        let (partner, feed) = (&permit.identity().partner, permit.feed());
        let keys = match permit.area() {
            Area::Production => self.0.keyring.token_keys(partner, &feed.contract).await,
            Area::Test => self.0.keyring.throw_away_keys(&feed.contract),
        };
        let keys = keys.map_err(|fault| Refusal::ours("get the token keys", &fault))?;
        let (setup, out_key_wrapped) = self
            .setup(beginning.id, partner, &beginning.origin.key, feed, keys)
            .map_err(|fault| Refusal::ours("make a data key", &fault))?;
        let share = self
            .0
            .quota
            .share(partner, permit.policy().quota_bytes, counted);
        Ok(Receiving {
            intake: self.clone(),
            share,
            append: Append::No,
            hold,
            beginning,
            policy: permit.policy().clone(),
            feed: feed.clone(),
            setup,
            out_key_wrapped,
            raw,
            behind: None,
            promised_bytes: None,
            is_old_promise: false,
            evidence: None,
            faults: Vec::new(),
            partial: permit.is_partial(),
            begun: false,
            refusal: None,
            spoiled: false,
            inherited: 0,
            is_untouched: false,
            cut_at_write: None,
            was_closed: false,
            named_before: None,
            over_taken: None,
            unfinished: None,
            woken_at: 0,
            file,
        })
    }

    /// What inspecting one submission needs, and its wrapped output key.
    pub(super) fn setup(
        &self,
        id: SubmissionId,
        partner: &PartnerId,
        key: &str,
        feed: &Arc<Feed>,
        keys: TokenKeys,
    ) -> Result<(Setup, Vec<u8>), KeyFault> {
        let (out_key, wrapped) = self.0.keyring.data_key(id, Purpose::Out)?;
        let rejects = if feed.contract.leaves_out() {
            Some(self.0.keyring.data_key(id, Purpose::Rejects)?)
        } else {
            None
        };
        let setup = Setup {
            id,
            feed: feed.clone(),
            keys: Arc::new(keys),
            seed: self.0.rng.array()?,
            out_key,
            rejects,
            room: Room {
                quota: Arc::clone(&self.0.quota),
                partner: partner.clone(),
                bytes_max: self
                    .0
                    .authority
                    .policy(partner)
                    .and_then(|policy| policy.quota_bytes),
            },
            spool: self.0.spool.clone(),
            old_kinds: self.old_kinds(partner, key),
        };
        Ok((setup, wrapped))
    }

    fn beginning(
        &self,
        permit: &UploadPermit,
        origin: Origin,
        id: SubmissionId,
        raw_key: Vec<u8>,
    ) -> Beginning {
        Beginning {
            id,
            partner: permit.identity().partner.clone(),
            feed: permit.feed().id.clone(),
            path: permit.path().as_str().to_owned(),
            name: permit.name().to_owned(),
            origin,
            policy_version: permit.policy().version,
            policy_hash: permit.policy().hash,
            opened_at: self.now(),
            raw_key,
            over: None,
        }
    }

    /// Refuses early what cannot fit. `own`: what an earlier part of the same file takes already;
    /// it is resumed or replaced, and counts once.
    fn make_sure_of_room(
        &self,
        permit: &UploadPermit,
        declared: u64,
        own: u64,
    ) -> Result<(), Refusal> {
        let partner = &permit.identity().partner;
        let quota = self.0.quota.of(partner, permit.policy().quota_bytes);
        if declared > quota.bytes {
            let text = over_quota(quota.bytes);
            return Err(Refusal::new(RefusalKind::Failure, text));
        }
        let room = quota.free.saturating_add(own);
        if room == 0 || declared > room {
            return Err(self.spool_full(permit.identity(), declared));
        }
        Ok(())
    }

    fn spool_full(&self, who: &Identity, declared: u64) -> Refusal {
        tracing::warn!(
            event = Event::SpoolFull.as_str(),
            partner = %who.partner,
            declared,
        );
        full(self)
    }

    /// Destroys an unfinished submission at its partner's wish.
    pub(super) async fn discard(&self, row: &Row) -> Result<(), Refusal> {
        self.0
            .ledger
            .remove(row.id)
            .await
            .map_err(|fault| Refusal::ours("remove a submission", &fault))?;
        if row.state == State::Interrupted {
            self.0.quota.give_back(&row.partner, row.bytes);
        }
        self.unlink(row.id, &Lane::ALL).await;
        Ok(())
    }

    /// Makes an unfinished file durable as *interrupted*.
    pub(super) async fn interrupt(&self, unjudged: Unjudged) -> Result<(), Refusal> {
        let Unjudged {
            beginning,
            raw_inline,
            mtime,
            bytes,
            declared,
            ending,
            at,
        } = unjudged;
        let (id, path) = (beginning.id, beginning.path.clone());
        let closed = ending == Ending::Closed;
        let partial = Partial {
            bytes,
            raw_inline,
            mtime,
            declared,
            closed,
            at,
        };
        self.0
            .ledger
            .interrupt(beginning, partial)
            .await
            .map_err(|fault| Refusal::ours("keep a partial file", &fault))?;
        tracing::info!(
            event = Event::SubmissionInterrupted.as_str(),
            submission = %id,
            path = %crate::terms::path::quoted(&path, 300),
            bytes,
            closed,
        );
        Ok(())
    }

    /// Unlinks lanes of a submission whose keys are gone. A failure is no harm: without its
    /// key a file is noise, and the next start sweeps it.
    pub(super) async fn unlink(&self, id: SubmissionId, lanes: &'static [Lane]) {
        let spool = self.0.spool.clone();
        let all = move || lanes.iter().try_for_each(|lane| spool.remove(id, *lane));
        let done = blocking(all).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(event = Event::SpoolLeftover.as_str(), submission = %id, %fault);
            }
            Err(fault) => {
                tracing::warn!(event = Event::SpoolLeftover.as_str(), submission = %id, %fault);
            }
        }
    }
}

// === impl Submission ===

impl Submission {
    pub(super) fn of(receiving: Receiving) -> Self {
        Self(Some(receiving))
    }

    /// Takes bytes, synchronously: seal and page-cache write, no waiting for inspection.
    /// With an APPEND opening the bytes go to the end, whatever `offset` says (draft section 6.3);
    /// some clients then send 0.
    ///
    /// # Errors
    /// [`Refusal`] over the size limit, when inspection already has found a fault that refuses the
    /// file whatever follows, or when the disk fails. Later calls give the same refusal.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        match &mut self.0 {
            Some(receiving) => receiving.write_at(offset, data),
            None => Err(Refusal::new(RefusalKind::Failure, "the file is closed")),
        }
    }

    /// A fault of the file refuses it whatever follows: nothing more will be taken, and closing it
    /// settles it.
    #[must_use]
    pub fn is_condemned(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|receiving| receiving.refusal.is_some() && !receiving.spoiled)
    }

    /// Bytes that were meant for this file could not be taken: a CLOSE will not say OK.
    pub fn spoil(&mut self, text: &str) {
        if let Some(receiving) = &mut self.0 {
            receiving.spoil(Refusal::new(RefusalKind::Failure, text));
        }
    }

    /// FSETSTAT size: cuts the file when it is longer, and declares the size. What comes back is to be
    /// awaited before the answer: where the ledger knows the file, it is told.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn set_bytes(&mut self, bytes: u64) -> Result<Option<PendingSize>, Refusal> {
        match &mut self.0 {
            Some(receiving) => receiving.set_bytes(bytes),
            None => Ok(None),
        }
    }

    /// FSETSTAT mtime, seconds since 1970.
    pub fn set_mtime(&self, mtime: i64) {
        if let Some(receiving) = &self.0 {
            receiving.file.set_mtime(mtime);
        }
    }

    /// Size as FSTAT answers it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |receiving| receiving.file.bytes())
    }

    /// The client-set mtime, seconds since 1970.
    #[must_use]
    pub fn mtime(&self) -> Option<i64> {
        self.0.as_ref().and_then(|receiving| receiving.file.mtime())
    }

    /// fsync@openssh.com: seals what was written and says what has to be awaited for it to be
    /// durable. The file goes on meanwhile.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn begin_sync(&mut self) -> Result<PendingSync, Refusal> {
        match &mut self.0 {
            Some(receiving) => receiving.begin_sync(),
            None => Err(Refusal::new(RefusalKind::Failure, "the file is closed")),
        }
    }

    /// The client's explicit CLOSE: waits for the verdict, at most `verdict.wait`. Goes on to its
    /// end in the background when the caller goes away.
    ///
    /// # Errors
    /// [`Refusal`]: rejected, or not durable.
    pub async fn close(mut self) -> Result<Told, Refusal> {
        let Some(mut receiving) = self.0.take() else {
            return Ok(Told::default());
        };
        receiving.hold.is_sent();
        let intake = receiving.intake.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        intake.0.tasks.spawn(async move {
            // A failed send means the client is gone; what was promised is done all the same.
            let refused = receiving.refusal.clone();
            let is_condemned = receiving.refusal.is_some() && !receiving.spoiled;
            let missing_from = receiving.raw.contiguous();
            let has_gap = missing_from < receiving.raw.end();
            let is_short =
                receiving.partial && (receiving.declares_more() || has_gap) && !is_condemned;
            // Only what this OPEN has promised shows that nothing is missing.
            let is_known_whole = receiving.is_said_whole();
            let has_given_up = receiving.cut_at_write.is_some();
            let is_untouched = (receiving.is_untouched && !is_known_whole) || has_given_up;
            if receiving.is_nothing_new() {
                drop(tell.send(receiving.leave_as_it_was().await));
            } else if is_untouched && refused.is_none() {
                // Opened and closed, and nothing written: what was cut off is still cut off.
                let ending = if receiving.was_closed && receiving.is_untouched && !is_short {
                    Ending::Closed
                } else {
                    Ending::CutOff
                };
                let stays_as_told = receiving.partial && !is_short && !has_given_up;
                let bytes = receiving.raw.contiguous();
                let kept = receiving.keep(ending).await;
                let told = kept.and_then(|told| {
                    if stays_as_told {
                        Ok(told)
                    } else {
                        Err(cut_off(bytes))
                    }
                });
                drop(tell.send(told));
            } else if is_short {
                drop(receiving.keep(Ending::CutOff).await);
                let text = if has_gap {
                    format!("incomplete: bytes from {missing_from} on are missing; send the rest")
                } else {
                    "incomplete: fewer bytes arrived than were declared; send the rest".to_owned()
                };
                drop(tell.send(Err(Refusal::new(RefusalKind::Failure, text))));
            } else if let Some(refusal) = refused.filter(|_| receiving.spoiled) {
                drop(receiving.keep(Ending::CutOff).await);
                drop(tell.send(Err(refusal)));
            } else if receiving.partial && receiving.refusal.is_none() {
                if is_known_whole {
                    // Whatever it was written over: its client has said how long it is.
                    receiving.beginning.over = None;
                }
                drop(tell.send(receiving.keep(Ending::Closed).await));
            } else {
                Box::pin(receiving.judge(tell)).await;
            }
        });
        told.await.unwrap_or_else(|_| {
            Err(Refusal::ours(
                "settle a submission",
                &"the task ended without an answer",
            ))
        })
    }
}

// === impl PendingSize ===

impl PendingSize {
    /// The ledger knows the size when this returns.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn finish(self) -> Result<(), Refusal> {
        if let Some(mut begun) = self.begun {
            // Where it did not begin, its CLOSE will tell.
            drop(begun.wait_for(Option::is_some).await);
        }
        let (id, ledger) = (self.id, &self.intake.0.ledger);
        let declared = ledger.declare(id, self.bytes, SetBy::Handle).await;
        declared.map_err(|fault| Refusal::ours("record a size", &fault))
    }
}

// === impl PendingSync ===

impl PendingSync {
    /// What was written before [`Submission::begin_sync`] is durable when this returns.
    ///
    /// # Errors
    /// [`Refusal`]; a disk that failed stays failed, so CLOSE will not say OK either.
    pub async fn finish(self) -> Result<(), Refusal> {
        let what = "sync the spool";
        if let Some(mut begun) = self.begun {
            let known = begun
                .wait_for(Option::is_some)
                .await
                .is_ok_and(|known| *known == Some(true));
            if !known {
                return Err(Refusal::ours(what, &"the ledger does not know the file"));
            }
        }
        blocking(move || self.sync.sync())
            .await
            .map_err(|fault| Refusal::ours(what, &fault))?
            .map_err(|fault| Refusal::ours(what, &fault))
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if let Some(receiving) = self.0.take() {
            let intake = receiving.intake.clone();
            receiving.hold.is_ending();
            intake.0.tasks.spawn(async move {
                // The partner is gone; a failure is in the log already.
                drop(receiving.keep(Ending::CutOff).await);
            });
        }
    }
}

// === impl Receiving ===

impl Receiving {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let fatal = self.behind.as_ref().and_then(|b| b.progress.fatal.get());
        // Where it was rewritten, all of it is looked at again in the end.
        if let Some(fatal) = fatal.filter(|_| self.raw.rewritten_from().is_none()) {
            let detail = fatal
                .samples
                .first()
                .map_or(fatal.rule.as_str(), |s| s.detail.as_str());
            let text = format!("REJECTED {}: {}", fatal.code, ascii(detail, 160));
            return Err(self.refuse(text));
        }
        if let Some(bytes) = self.cut_at_write.take() {
            self.cut(bytes)?;
            self.beginning.over = self.beginning.over.map(|over| over.min(bytes));
            self.promised_bytes = None;
            // Where its client counts from now, nobody can tell: every WRITE goes to the end.
            self.append = Append::Blind;
        }
        let offset = self.place(offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let end = u64::try_from(data.len())
            .ok()
            .and_then(|len| offset.checked_add(len));
        let Some(end) = end.filter(|end| *end <= self.feed.bytes_max) else {
            return Err(self.refuse_as_too_large("max_size", too_large(self.feed.bytes_max)));
        };
        // Rewrites append: the disk must not grow without end under a small file.
        let sealed_max = self.raw.end().saturating_mul(2).max(REWRITE_BYTES_FREE);
        if self.share.never_fits(end) {
            return Err(self.refuse_as_too_large("quota", over_quota(self.share.most())));
        }
        if !self.share.grow(end) || self.raw.sealed_bytes() > sealed_max {
            let refusal = full(&self.intake);
            return Err(self.spoil(refusal));
        }
        // The first WRITE of offset 0 begins another file, also over bytes that lie behind a gap.
        let is_another = std::mem::take(&mut self.is_untouched) && offset == 0;
        if is_another || offset < self.inherited {
            self.write_over(offset)?;
        }
        let before = self.raw.end();
        self.file.grow_to(end);
        self.raw
            .write_at(offset, data)
            .and_then(|()| {
                // Out of order, it is not only the end that would be lost with the process.
                if offset != before && self.raw.is_spilled() {
                    self.raw.seal_tail()
                } else {
                    Ok(())
                }
            })
            .map_err(|fault| self.broken("write the spool", &fault))?;
        self.file.set_bytes(end.max(before));
        self.keep_up();
        Ok(())
    }

    fn refuse_as_too_large(&mut self, rule: &'static str, text: String) -> Refusal {
        self.faults.push(oversize(rule, &text));
        self.refuse(text)
    }

    /// Cuts what was there before where it is written over: from the start, that makes another file of
    /// it. How long it was is remembered, since its client may have meant to keep the rest.
    fn write_over(&mut self, offset: u64) -> Result<(), Refusal> {
        if self.raw.end() > self.inherited {
            // What was sent behind it would be lost with the rest, and it was said to be there.
            let text = format!(
                "{} bytes were there, and more was sent behind them; remove it and send all of it",
                self.inherited
            );
            return Err(self.spoil(Refusal::new(RefusalKind::Failure, text)));
        }
        self.beginning.over = self.beginning.over.max(Some(self.inherited));
        self.cut(offset)?;
        if offset == 0 && self.is_old_promise {
            self.promised_bytes = None;
        }
        Ok(())
    }

    fn cut(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.raw
            .truncate(bytes)
            .map_err(|fault| self.broken("truncate the spool", &fault))?;
        self.inherited = self.inherited.min(bytes);
        self.file.set_bytes(self.raw.end());
        Ok(())
    }

    fn set_bytes(&mut self, bytes: u64) -> Result<Option<PendingSize>, Refusal> {
        if bytes < self.raw.end() && !matches!(self.append, Append::No) {
            if self.cut_at_write.is_some_and(|cut| cut < bytes) {
                // A hole that no WRITE can fill: they all go to the end.
                let text = "its size was set twice, and is larger now; send it again";
                return Err(self.spoil(Refusal::new(RefusalKind::Failure, text)));
            }
            self.cut_at_write = Some(bytes);
            self.file.set_bytes(bytes);
            return Ok(None);
        }
        if bytes < self.raw.end() {
            self.cut(bytes)?;
        }
        // Its client has said itself how long it is: nothing behind that is missed.
        self.beginning.over = self.beginning.over.map(|over| over.min(bytes));
        self.promised_bytes = None;
        self.is_untouched = false;
        self.file.is_cut(bytes);
        self.file.declare(bytes);
        Ok(self.begun.then(|| PendingSize {
            intake: self.intake.clone(),
            id: self.beginning.id,
            begun: self
                .behind
                .as_ref()
                .map(|behind| behind.progress.begun.subscribe()),
            bytes,
        }))
    }

    /// Where a WRITE goes. With APPEND to the end, if its client counts from the start of the file, or
    /// from the end as it was at some WRITE of offset 0 (asyncssh), and has not lost count.
    fn place(&mut self, offset: u64, bytes: usize) -> Result<u64, Refusal> {
        // One that was made longer ends there, with a hole nobody has filled.
        let end = self.raw.end().max(self.file.declared().unwrap_or(0));
        let base = match self.append {
            Append::No => return Ok(offset),
            Append::Blind => return Ok(end),
            Append::From(_) | Append::FromSomewhere if offset == 0 => end,
            Append::From(base) => base,
            Append::FromSomewhere => 0,
        };
        if bytes > 0 {
            self.append = Append::From(base);
        }
        if offset.checked_add(base) == Some(end) {
            return Ok(end);
        }
        // Its client believes the file to be of another length: bytes would be lost, or twice.
        let text = format!("the file ends at {end}, not at {offset}; look again and go on there");
        Err(self.spoil(Refusal::new(RefusalKind::Failure, text)))
    }

    /// The size the client has declared: before it sent, or since.
    pub(super) fn declared(&self) -> Option<u64> {
        self.file.declared().or(self.promised_bytes)
    }

    /// Its client has said since this OPEN that it is as long as it is.
    pub(super) fn is_said_whole(&self) -> bool {
        let promised = self.promised_bytes.filter(|_| !self.is_old_promise);
        self.file.declared().or(promised) == Some(self.raw.end())
    }

    /// What is remembered of its declared size when it is cut off. One that was set says no more than
    /// the file itself, once that is as long.
    pub(super) fn declared_for_later(&self) -> Option<u64> {
        let set = self.file.declared().filter(|set| *set > self.raw.end());
        set.or(self.promised_bytes)
            .filter(|_| self.file.cut_to().is_none())
    }

    /// Opened over a file that was taken, which was not truncated, and nothing written and no size set: the
    /// file is as it was.
    fn is_nothing_new(&self) -> bool {
        let is_silent = self.file.declared().is_none() && self.promised_bytes.is_none();
        let is_as_opened = is_silent && self.file.cut_to().is_none() && self.refusal.is_none();
        self.over_taken.is_some() && self.raw.end() == 0 && is_as_opened
    }

    /// Its times may have been set.
    async fn leave_as_it_was(mut self) -> Result<Told, Refusal> {
        if let Some(behind) = self.behind.take() {
            behind.cancel().await;
        }
        if self.begun {
            // A sync of nothing has made a row of it.
            let id = self.beginning.id;
            let removed = self.intake.0.ledger.remove(id).await;
            removed.map_err(|fault| Refusal::ours("forget an untouched file", &fault))?;
            self.intake.unlink(id, &Lane::ALL).await;
        }
        if let (Some(id), Some(mtime)) = (self.over_taken, self.file.mtime()) {
            let kept = self.intake.0.ledger.set_mtime(id, mtime).await;
            kept.map_err(|fault| Refusal::ours("set its time", &fault))?;
        }
        Ok(Told::default())
    }

    /// Another number of bytes has arrived than the client declared.
    fn declares_more(&self) -> bool {
        let differs = |declared| declared != self.raw.end();
        self.file.cut_to().is_some() || self.declared().is_some_and(differs)
    }

    fn begin_sync(&mut self) -> Result<PendingSync, Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        // What is to survive the process needs a file, and a row that holds its key.
        let sealed = self.raw.spill().and_then(|()| self.raw.seal_tail());
        sealed.map_err(|fault| self.broken("seal the spool", &fault))?;
        if self.behind.is_none() {
            self.follow();
        }
        let begun = self
            .behind
            .as_ref()
            .map(|behind| behind.progress.begun.subscribe());
        Ok(PendingSync {
            begun,
            sync: self.raw.syncer(),
        })
    }

    /// Starts the inspection behind once the bytes have left memory, and wakes it now and then.
    fn keep_up(&mut self) {
        match &self.behind {
            None if self.raw.is_spilled() => self.follow(),
            Some(behind) if self.raw.end().saturating_sub(self.woken_at) >= WAKE_EVERY_BYTES => {
                self.woken_at = self.raw.end();
                behind.progress.wake();
            }
            None | Some(_) => {}
        }
    }

    fn follow(&mut self) {
        let ledger = self.intake.0.ledger.clone();
        let row = (!self.begun).then(|| self.beginning.clone());
        let (file, promised) = (Arc::clone(&self.file), self.promised_bytes);
        // The digest, and the inspection where it looks at the bytes.
        let readers = 1 + usize::from(!self.feed.contract.passes_through());
        self.begun = true;
        self.behind = Some(Behind::follow(
            self.setup.clone(),
            self.raw.follower(readers),
            self.raw.syncer(),
            async move {
                match row {
                    Some(row) => {
                        let sizes = move || Sizes {
                            promised,
                            set: file.declared(),
                            cut: file.cut_to(),
                        };
                        ledger.begin(row, sizes).await.map_err(|fault| {
                            tracing::error!(event = Event::LedgerFailed.as_str(), %fault);
                            InspectionFault::Ended
                        })
                    }
                    None => Ok(()),
                }
            },
        ));
    }

    fn refuse(&mut self, text: String) -> Refusal {
        let refusal = Refusal::new(RefusalKind::Failure, text);
        self.refusal = Some(refusal.clone());
        refusal
    }

    /// The disk or the ledger failed under this submission.
    fn broken(&mut self, what: &'static str, fault: &dyn std::fmt::Display) -> Refusal {
        self.spoil(Refusal::ours(what, fault))
    }

    /// Bytes the client sent were not taken, and not through its fault: nothing more is taken, and
    /// a CLOSE must not judge what is there.
    fn spoil(&mut self, refusal: Refusal) -> Refusal {
        self.refusal = Some(refusal.clone());
        self.spoiled = true;
        refusal
    }

    /// Keeps what has arrived for a later resume: the connection ended, or a partial name was
    /// closed. Nothing is judged.
    async fn keep(mut self, ending: Ending) -> Result<Told, Refusal> {
        if self.is_nothing_new() {
            return self.leave_as_it_was().await;
        }
        if let Some(behind) = self.behind.take() {
            behind.cancel().await;
            let (spool, id) = (self.intake.0.spool.clone(), self.beginning.id);
            // What inspection had written is made again at the resume.
            let removed = blocking(move || {
                spool.remove(id, Lane::Out)?;
                spool.remove(id, Lane::Rejects)
            })
            .await;
            if let Ok(Err(fault)) = removed {
                tracing::warn!(event = Event::SpoolLeftover.as_str(), submission = %id, %fault);
            }
        }
        // What is said by its path from now on waits until the ledger knows it.
        self.file.end();
        let declared = self.declared_for_later();
        let most = self.file.cut_to().unwrap_or(u64::MAX);
        if self.raw.end() == 0 && !self.begun && !self.partial {
            return Ok(Told::default());
        }
        let raw = self.raw;
        let (sealed, contiguous) = blocking(move || {
            let mut raw = raw;
            let contiguous = raw.contiguous().min(most);
            raw.finish()
                .and_then(|sealed| raw.sync().map(|()| (sealed, contiguous)))
        })
        .await
        .map_err(|fault| Refusal::ours("keep a partial file", &fault))?
        .map_err(|fault| Refusal::ours("keep a partial file", &fault))?;
        let case = Unjudged {
            beginning: Beginning {
                over: over_when_cut_off(
                    self.beginning.over,
                    self.file.cut_to(),
                    self.file.declared().filter(|set| *set > contiguous),
                ),
                ..self.beginning
            },
            raw_inline: sealed.inline,
            mtime: self.file.mtime(),
            bytes: contiguous,
            declared,
            ending,
            at: self.intake.now(),
        };
        self.intake.interrupt(case).await?;
        self.share.leave(contiguous);
        drop(self.hold);
        Ok(Told::default())
    }
}

/// An interrupted file that was opened and closed, and is still what it was.
fn cut_off(bytes: u64) -> Refusal {
    let text = format!("incomplete: it was cut off at {bytes} bytes; send the rest");
    Refusal::new(RefusalKind::Failure, text)
}

/// A file that was taken does not grow.
fn not_appended(name: &str) -> Refusal {
    let text = format!("{} was taken already; send the whole file", ascii(name, 80));
    Refusal::new(RefusalKind::Failure, text)
}

/// A file of this name waits for its verdict: what comes later must not be judged earlier.
pub(super) fn being_checked(name: &str) -> Refusal {
    let text = format!("{} is being checked; wait for its receipt", ascii(name, 80));
    Refusal::new(RefusalKind::PermissionDenied, text)
}

/// How long what was there was, of a file that is cut off: not longer than where it was cut, and as long
/// as it was made, however little of that has come.
pub(super) fn over_when_cut_off(
    over: Option<u64>,
    cut: Option<u64>,
    made: Option<u64>,
) -> Option<u64> {
    let over = over.map(|over| over.min(cut.unwrap_or(u64::MAX)));
    over.max(made.filter(|_| cut.is_none()))
}

/// The spool is full, in all or for this partner.
pub(super) fn full(intake: &Intake) -> Refusal {
    intake.0.metrics.limit_reached(Limit::Spool);
    Refusal::new(
        RefusalKind::Failure,
        "TRY LATER gateway-full: nothing is wrong with your file",
    )
}

/// It can never fit.
fn over_quota(bytes_max: u64) -> String {
    format!("{}, which is all the room there is", too_large(bytes_max))
}

/// A file over a limit, as its refusal says.
fn oversize(rule: &'static str, text: &str) -> UploadFault {
    UploadFault {
        verdict: Verdict::Rejected,
        code: Code::LimitExceeded,
        rule,
        sample: Sample {
            detail: text.trim_start_matches(TOO_LARGE).to_owned(),
            ..Sample::default()
        },
    }
}

/// A file that is larger than its feed takes now, whatever was allowed when it was sent.
pub(super) fn oversized(end: u64, feed: &Feed) -> Option<UploadFault> {
    (end > feed.bytes_max).then(|| oversize("max_size", &too_large(feed.bytes_max)))
}

/// How the refusal of a large file begins.
const TOO_LARGE: &str = "REJECTED limit-exceeded: ";

/// The size limit in the units policy writes it in.
fn too_large(bytes_max: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let size = UNITS
        .iter()
        .find(|(unit, _)| bytes_max >= *unit && bytes_max.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes_max} bytes"),
            |(unit, name)| format!("{} {name}", bytes_max / unit),
        );
    format!("{TOO_LARGE}over {size}")
}
