//! Inspection of one submission, running behind its writes.
//!
//! It reads what the spool has sealed, never the socket, so a slow inspection never slows the
//! partner. State is only in memory: after a restart the spool is read again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::decode::{Flow, Source};
use crate::depot::spool::{SealedLane, SpoolDir, SpoolFault, SpoolReader, SpoolSync, SpoolWriter};
use crate::inspect::Line;
use crate::inspect::report::{Finding, Report, Sample};
use crate::intake::quota::{Share, SpoolQuota};
use crate::isolate::decode_apart;
use crate::policy::contract::{ColumnarShape, OnFinding};
use crate::policy::feed::Feed;
use crate::policy::text::human_size;
use crate::seal::{DataKey, Lane};
use crate::terms::codes::Code;
use crate::terms::digest::{Digest, Digests, Hasher, OldKinds};
use crate::terms::ids::{PartnerId, SubmissionId};
use crate::terms::limits;
use crate::terms::verdict::Verdict;
use crate::tokens::TokenKeys;

/// Raw bytes between two fdatasync calls: what CLOSE has left to sync stays small.
const SYNC_EVERY_BYTES: u64 = 16 * 1024 * 1024;

/// What is needed to begin (and to begin again).
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) id: SubmissionId,
    pub(super) feed: Arc<Feed>,
    pub(super) keys: Arc<TokenKeys>,
    pub(super) seed: [u8; 16],
    pub(super) out_key: DataKey,
    /// Where rows may be left out: the key for them, and it wrapped.
    pub(super) rejects: Option<(DataKey, Vec<u8>)>,
    pub(super) room: Room,
    pub(super) spool: SpoolDir,
    /// What the sender's client compares by, beside the feed's digest.
    pub(super) old_kinds: OldKinds,
}

/// The line at work, with both lanes' digests.
pub(super) struct Inspection {
    line: Line,
    reader: SpoolReader,
    position: u64,
    /// Of a file that is decoded as a whole.
    looked_at: u64,
    /// Nothing is looked at and nothing written: the bytes as sent are the output.
    passes_through: bool,
    /// Decoded as a whole, once it is there.
    columnar: Option<ColumnarShape>,
    /// Every byte is wanted, whatever was found.
    takes_all: bool,
    out: Output,
    /// Rows left out, where some may be.
    rejects: Option<Kept>,
    /// Processor time that was spent on it.
    spent: Duration,
    /// Of the output, what is not in its lane yet.
    made: Vec<u8>,
    input: Vec<u8>,
}

/// Where rows left out are kept.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) quota: Arc<SpoolQuota>,
    pub(super) partner: PartnerId,
    pub(super) bytes_max: Option<u64>,
}

/// The rows that are left out.
struct Kept {
    lane: Output,
    share: Share,
    /// There was no room for all of them.
    is_full: bool,
}

/// A lane that inspection writes.
struct Output {
    lane: SpoolWriter,
    bytes: u64,
    hasher: Option<Hasher>,
}

/// What a finished inspection knows.
pub(super) struct Inspected {
    pub(super) report: Report,
    /// The tokenized output and its digest; `None`: the bytes as sent are the output.
    pub(super) out: Option<(SealedLane, Digest)>,
    /// The rows that were left out of it; `None`: none were.
    pub(super) rejects: Option<(SealedLane, Share)>,
    /// Rows that were left out lie in a file.
    pub(super) has_leftovers: bool,
}

/// What stops an inspection that is not the file's fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum InspectionFault {
    /// A key the contract needs was not there.
    #[error(transparent)]
    Keys(#[from] crate::tokens::TokenFault),
    /// No decoder could be started, or it could not be given the file; or the output not be compressed.
    #[error("decoding or compressing: {0}")]
    Decoder(#[from] io::Error),
    /// The spool could not be read or the output not written.
    #[error(transparent)]
    Spool(#[from] SpoolFault),
    /// There is no room to keep the rows that are left out; there may be later.
    #[error(
        "there is no room to keep the rows that are left out: the quota of its partner, or that of all, \
         is used up"
    )]
    Full,
    /// The work was ended from outside (shutdown), or it panicked.
    #[error("inspection of the file ended early")]
    Ended,
}

/// Shared between the writer of a submission and the inspection behind it.
pub(super) struct Progress {
    /// The ledger knows the submission: `Some(true)` once it is durable there.
    pub(super) begun: watch::Sender<Option<bool>>,
    /// More bytes are sealed, or the last one is: for the inspection.
    more: Notify,
    /// The same for the digest.
    more_to_digest: Notify,
    /// The last byte is sealed.
    pub(super) whole: AtomicBool,
    /// Nobody wants the result any more.
    pub(super) cancelled: AtomicBool,
    /// The finding that refuses the file whatever follows.
    pub(super) fatal: OnceLock<Finding>,
}

impl Progress {
    /// There is more to read, or nothing more will come.
    pub(super) fn wake(&self) {
        self.more.notify_one();
        self.more_to_digest.notify_one();
    }
}

/// The digest as sent, from a task of its own: it is slower than most inspections, and the answer
/// to CLOSE may have to go out before the inspection is through.
pub(super) type Digesting = JoinHandle<Result<Digests, InspectionFault>>;

/// A file in the spool, for a decoder.
struct Spooled {
    bytes: u64,
    reader: Mutex<SpoolReader>,
}

/// An inspection on its own task.
pub(super) struct Behind {
    digest: Option<Digesting>,
    pub(super) progress: Arc<Progress>,
    pub(super) task: JoinHandle<Result<Inspection, InspectionFault>>,
}

// === impl Inspected ===

impl Inspected {
    /// Something of the submission lies in a file; `raw`: what was sent.
    pub(super) fn has_files(&self, raw: &SealedLane) -> bool {
        let out = self.out.as_ref().map(|(out, _)| out);
        let mut lanes = [Some(raw), out].into_iter().flatten();
        self.has_leftovers || lanes.any(|lane| lane.inline.is_none())
    }
}

// === impl Setup ===

impl Setup {
    /// For the bytes as sent.
    pub(super) fn hasher(&self) -> Hasher {
        Hasher::with(self.feed.digest, self.old_kinds)
    }
}

// === impl Inspection ===

impl Inspection {
    /// Starts at the first byte, with an empty output lane.
    pub(super) fn start(setup: &Setup, reader: SpoolReader) -> Result<Self, InspectionFault> {
        setup.spool.remove(setup.id, Lane::Out)?;
        setup.spool.remove(setup.id, Lane::Rejects)?;
        let out = setup.spool.create(setup.id, Lane::Out, &setup.out_key);
        let rejects = setup.rejects.as_ref().map(|(key, _)| {
            let lane = setup.spool.create(setup.id, Lane::Rejects, key);
            Kept {
                lane: Output::new(lane, None),
                share: setup.room.share(),
                is_full: false,
            }
        });
        Ok(Self {
            line: Line::for_contract(setup.feed.contract.clone(), &setup.keys, setup.seed)?,
            reader,
            position: 0,
            looked_at: 0,
            passes_through: setup.feed.contract.passes_through(),
            columnar: setup.feed.contract.columnar().cloned(),
            takes_all: setup.feed.contract.on_finding == OnFinding::Hold,
            out: Output::new(out, Some(Hasher::new(setup.feed.digest))),
            rejects,
            spent: Duration::ZERO,
            made: Vec::new(),
            input: Vec::new(),
        })
    }

    /// How far it has read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The finding that already refuses the file. What a person will look at is taken whole.
    pub(super) fn fatal(&self) -> Option<&Finding> {
        self.line.fatal().filter(|_| !self.takes_all)
    }

    /// Reads one batch of what is sealed; false when there is nothing more at the moment.
    pub(super) fn advance(&mut self) -> Result<bool, InspectionFault> {
        if self.passes_through {
            let there = self.reader.available();
            let is_more = there > self.position;
            self.position = there;
            return Ok(is_more);
        }
        if self.columnar.is_some() {
            return self.look_at_head();
        }
        self.input.clear();
        let taken =
            self.reader
                .read_at(self.position, limits::INSPECT_BATCH_BYTES, &mut self.input)?;
        if taken == 0 {
            return Ok(false);
        }
        // What is compressed becomes many times larger: the output never waits for a whole piece.
        let input = std::mem::take(&mut self.input);
        let begun = processor_time();
        for piece in input.chunks(limits::INSPECT_PIECE_BYTES) {
            let (out, rejects) = (&mut self.out, &mut self.rejects);
            let mut written = Ok(());
            let mut write = |rows: &mut Vec<u8>, made: &mut Vec<u8>| {
                go_on(&mut written, || {
                    write_out(made, out, rows, rejects.as_mut())
                })
            };
            self.line.push_through(piece, &mut self.made, &mut write);
            written?;
        }
        self.input = input;
        self.position = self
            .position
            .saturating_add(u64::try_from(taken).unwrap_or(0));
        self.spent += processor_time().saturating_sub(begun);
        let allowed = time_to_check(self.position);
        if self.spent > allowed {
            self.line.refuse_for_time(allowed.as_secs());
        }
        Ok(true)
    }

    /// Everything is sealed: reads the rest and makes the output durable.
    pub(super) fn finish(mut self) -> Result<Inspected, InspectionFault> {
        while self.advance()? {}
        if self.passes_through {
            let mut report = self.line.finish(&mut self.made);
            report.bytes_inspected = self.position;
            return Ok(Inspected {
                report,
                out: None,
                rejects: None,
                has_leftovers: false,
            });
        }
        let (mut line, mut out, mut rejects, mut made) =
            (self.line, self.out, self.rejects, self.made);
        let mut rows = Vec::new();
        // What is something else by its first bytes is not decoded.
        let wanted = self.columnar.as_ref().filter(|_| line.fatal().is_none());
        if let Some(shape) = wanted {
            let source = Spooled {
                bytes: self.position,
                reader: Mutex::new(self.reader),
            };
            let mut written = Ok(());
            let result = decode_apart(
                shape.format,
                shape.sheet.as_deref(),
                &source,
                &mut |found| {
                    let flow = line.decoded(&found, &mut made);
                    line.take_rejects(&mut rows);
                    let write = || write_out(&mut made, &mut out, &mut rows, rejects.as_mut());
                    match go_on(&mut written, write) {
                        Flow::Go => flow,
                        Flow::Stop => Flow::Stop,
                    }
                },
            );
            written?;
            line.decoding_ended(&result?, &mut made);
        }
        let mut written = Ok(());
        let mut report = line.finish_through(&mut made, &mut |rows, made| {
            go_on(&mut written, || {
                write_out(made, &mut out, rows, rejects.as_mut())
            })
        });
        written?;
        if self.columnar.is_some() {
            report.bytes_inspected = self.position;
        }
        if report.has_failed {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory).into());
        }
        write_out(&mut made, &mut out, &mut report.rejects, rejects.as_mut())?;
        zeroize::Zeroize::zeroize(&mut self.input);
        let mut left_out = None;
        let mut has_leftovers = false;
        if let Some(kept) = rejects {
            has_leftovers = kept.lane.lane.is_spilled();
            left_out = kept.finish(self.position, &mut report)?;
        }
        let is_good = report.verdict == Verdict::Accepted;
        let (sealed, digest) = out.finish(is_good)?;
        let out = digest.map(|digest| (sealed, digest));
        Ok(Inspected {
            report,
            out,
            rejects: left_out,
            has_leftovers,
        })
    }

    /// Of a file that is decoded as a whole only what it is can be told before.
    fn look_at_head(&mut self) -> Result<bool, InspectionFault> {
        let there = self.reader.available();
        let is_more = there > self.position;
        let head = limits::HEAD_BYTES.min(there);
        if self.looked_at < head {
            self.input.clear();
            let wanted = usize::try_from(head - self.looked_at).unwrap_or(usize::MAX);
            self.reader
                .read_at(self.looked_at, wanted, &mut self.input)?;
            self.line.push(&self.input, &mut self.made);
            self.looked_at = head;
        }
        self.position = there;
        Ok(is_more)
    }
}

// === impl Room ===

impl Room {
    fn share(&self) -> Share {
        self.quota.share(&self.partner, self.bytes_max, 0)
    }
}

// === impl Kept ===

impl Kept {
    /// Rows past what is kept of one file are dropped, and the file will not be taken.
    fn take(&mut self, rows: &mut Vec<u8>) -> Result<(), InspectionFault> {
        let more = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.is_full |= self.lane.bytes.saturating_add(more) > limits::REJECTS_BYTES_MAX;
        if self.is_full {
            rows.clear();
        }
        self.lane.take(rows)
    }

    /// Seals the rows of a file that is accepted; `sent`: its bytes as they came. They are counted for
    /// its partner only now: before, they would take the room the file itself needs.
    fn finish(
        mut self,
        sent: u64,
        report: &mut Report,
    ) -> Result<Option<(SealedLane, Share)>, InspectionFault> {
        if report.verdict != Verdict::Accepted || (self.lane.bytes == 0 && !self.is_full) {
            return Ok(None);
        }
        let bytes = self.lane.bytes;
        let most = sent
            .saturating_mul(limits::REJECTS_PER_BYTE_MAX)
            .max(limits::REJECTS_BYTES_FREE);
        self.is_full |= bytes > most;
        let never = self.share.never_fits(bytes);
        if self.is_full || never {
            let detail = if self.is_full {
                "there are more of them than are kept of one file".to_owned()
            } else {
                format!(
                    "they need {}, and there is a quota of {}",
                    human_size(bytes),
                    human_size(self.share.most())
                )
            };
            let sample = Sample {
                detail,
                ..Sample::default()
            };
            let rule = "room for the rows left out";
            report.object(Verdict::Rejected, Code::LimitExceeded, rule, sample);
            return Ok(None);
        }
        // The file as sent is destroyed with the same verdict.
        if !self.share.grow_instead(bytes, sent) {
            return Err(InspectionFault::Full);
        }
        let (sealed, _) = self.lane.finish(true)?;
        Ok(Some((sealed, self.share)))
    }
}

// === impl Output ===

impl Output {
    fn new(lane: SpoolWriter, hasher: Option<Hasher>) -> Self {
        Self {
            lane,
            bytes: 0,
            hasher,
        }
    }

    /// Writes `made`, which is empty then.
    fn take(&mut self, made: &mut Vec<u8>) -> Result<(), InspectionFault> {
        if made.is_empty() {
            return Ok(());
        }
        self.lane.write_at(self.bytes, made)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(made);
        }
        let written = u64::try_from(made.len()).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(written);
        made.clear();
        Ok(())
    }

    /// The whole lane, on disk when it will be wanted.
    fn finish(mut self, is_wanted: bool) -> Result<(SealedLane, Option<Digest>), InspectionFault> {
        let lane = self.lane.finish()?;
        if is_wanted {
            self.lane.sync()?;
        }
        Ok((lane, self.hasher.map(Hasher::finish)))
    }
}

// === impl Spooled ===

impl Source for Spooled {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader
            .visit_at(offset, into.len(), |part| {
                if let Some(place) = into.get_mut(filled..filled + part.len()) {
                    place.copy_from_slice(part);
                    filled += part.len();
                }
            })
            .map_err(io::Error::other)?;
        if filled < into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

// === impl Behind ===

impl Behind {
    /// Follows the writer until the last byte is sealed. `begun` is awaited first: the ledger must
    /// know the submission before its bytes pile up on disk.
    pub(super) fn follow(
        setup: Setup,
        reader: SpoolReader,
        sync: SpoolSync,
        begun: impl Future<Output = Result<(), InspectionFault>> + Send + 'static,
    ) -> Self {
        let progress = Arc::new(Progress {
            begun: watch::Sender::new(None),
            more: Notify::new(),
            more_to_digest: Notify::new(),
            whole: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            fatal: OnceLock::new(),
        });
        let (digested, raw) = (progress.clone(), reader.clone());
        let hasher = setup.hasher();
        #[expect(clippy::disallowed_methods, reason = "`cancel` or the judge awaits it")]
        let digest = tokio::spawn(async move { digest_behind(raw, hasher, &digested).await });
        let shared = progress.clone();
        #[expect(clippy::disallowed_methods, reason = "`whole` and `cancel` await it")]
        let task = tokio::spawn(async move {
            let known = begun.await;
            shared.begun.send_replace(Some(known.is_ok()));
            known?;
            let mut inspection = blocking(move || Inspection::start(&setup, reader)).await??;
            let mut synced = 0;
            loop {
                let whole = shared.whole.load(Ordering::Acquire);
                if shared.cancelled.load(Ordering::Acquire) {
                    return Err(InspectionFault::Ended);
                }
                let (back, more) = blocking(move || {
                    let more = inspection.advance();
                    (inspection, more)
                })
                .await?;
                inspection = back;
                let more = more?;
                if let Some(finding) = inspection.fatal() {
                    // The first one stays: later calls find it set already.
                    if shared.fatal.get().is_none() && shared.fatal.set(finding.clone()).is_err() {
                        return Err(InspectionFault::Ended);
                    }
                }
                if !whole && inspection.position().saturating_sub(synced) >= SYNC_EVERY_BYTES {
                    synced = inspection.position();
                    let sync = sync.clone();
                    blocking(move || sync.sync()).await??;
                }
                if !more {
                    if whole {
                        return Ok(inspection);
                    }
                    shared.more.notified().await;
                }
            }
        });
        Self {
            digest: Some(digest),
            progress,
            task,
        }
    }

    /// The last byte is sealed; gives the digest of all of them.
    pub(super) fn seal(&mut self) -> Option<Digesting> {
        self.progress.whole.store(true, Ordering::Release);
        self.progress.wake();
        self.digest.take()
    }

    /// The inspection that has read the last byte; [`Behind::seal`] comes first.
    pub(super) async fn whole(self) -> Result<Inspection, InspectionFault> {
        self.task.await.unwrap_or(Err(InspectionFault::Ended))
    }

    /// Ends it; the result is not wanted. Awaits the batch that is running.
    pub(super) async fn cancel(self) {
        self.progress.cancelled.store(true, Ordering::Release);
        self.progress.wake();
        if let Some(digest) = self.digest {
            drop(digest.await);
        }
        // Whatever it was doing, nobody wants its result.
        drop(self.task.await);
    }
}

/// How much a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// It may take long, or touch the disk.
    Large,
    /// Some 64 KiB in memory: under a millisecond, less than handing it on costs.
    Small,
}

/// Does work where it belongs: at once, or off the async threads.
pub(super) async fn perform<T: Send + 'static>(
    effort: Effort,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, InspectionFault> {
    match effort {
        Effort::Large => blocking(work).await,
        Effort::Small => Ok(work()),
    }
}

/// CPU or disk work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, InspectionFault> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| InspectionFault::Ended)
}

/// Digests what is sealed, behind the writes, to the last byte.
async fn digest_behind(
    mut reader: SpoolReader,
    mut hasher: Hasher,
    progress: &Progress,
) -> Result<Digests, InspectionFault> {
    let mut position = 0_u64;
    loop {
        let whole = progress.whole.load(Ordering::Acquire);
        if progress.cancelled.load(Ordering::Acquire) {
            return Err(InspectionFault::Ended);
        }
        let taken;
        (reader, hasher, taken) = blocking(move || {
            let taken = reader.visit_at(position, limits::INSPECT_BATCH_BYTES, |part| {
                hasher.update(part);
            });
            (reader, hasher, taken)
        })
        .await?;
        let taken = taken?;
        position = position.saturating_add(u64::try_from(taken).unwrap_or(0));
        if taken == 0 {
            if whole {
                return Ok(hasher.finish_all());
            }
            progress.more_to_digest.notified().await;
        }
    }
}

/// The digest of a lane read from its first byte, as far as `bytes_max`, apart from any inspection.
pub(super) fn digest_of(
    reader: &SpoolReader,
    mut hasher: Hasher,
    bytes_max: u64,
) -> Result<Digests, InspectionFault> {
    let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    reader.visit_at(0, most, |part| hasher.update(part))?;
    Ok(hasher.finish_all())
}

/// Writes, unless that has failed before: what was left out then must not be forgotten by what succeeds
/// later.
fn go_on(
    written: &mut Result<(), InspectionFault>,
    write: impl FnOnce() -> Result<(), InspectionFault>,
) -> Flow {
    if written.is_ok() {
        *written = write();
    }
    match written {
        Ok(()) => Flow::Go,
        Err(_) => Flow::Stop,
    }
}

/// Processor time a file of so many bytes as sent may take.
fn time_to_check(bytes: u64) -> Duration {
    let more = bytes / (1024 * 1024) * limits::INSPECT_CPU_SECS_PER_MIB;
    Duration::from_secs(limits::INSPECT_CPU_SECS.saturating_add(more))
}

/// Of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Writes output, and rows that are left out, where they are wanted.
fn write_out(
    made: &mut Vec<u8>,
    out: &mut Output,
    rows: &mut Vec<u8>,
    kept: Option<&mut Kept>,
) -> Result<(), InspectionFault> {
    out.take(made)?;
    match kept {
        Some(kept) => kept.take(rows),
        None => {
            rows.clear();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_failed_is_not_forgotten_by_one_that_succeeds() {
        let mut written = Ok(());
        assert_eq!(go_on(&mut written, || Ok(())), Flow::Go);
        assert_eq!(
            go_on(&mut written, || Err(InspectionFault::Ended)),
            Flow::Stop
        );
        assert_eq!(go_on(&mut written, || Ok(())), Flow::Stop);
        assert!(written.is_err());
    }

    #[test]
    fn the_time_to_check_grows_with_what_was_sent() {
        let secs = |bytes| time_to_check(bytes).as_secs();
        assert_eq!(secs(0), 60);
        assert_eq!(secs(1024 * 1024), 70);
        assert_eq!(secs(1 << 40), 60 + 10 * 1024 * 1024);
        let begun = processor_time();
        while processor_time() == begun {}
    }
}
