//! The sealed spool: append-only extents, small files in memory until they are settled.
//!
//! What is written is sealed with AES-256-GCM before it leaves this process's memory; at most one
//! extent of plaintext waits unsealed. The few that were sealed last stay plain in memory for the
//! readers that follow close behind; all of it is zeroed when dropped. Nothing that was written is
//! ever overwritten in place: a rewrite appends, and the later one wins. A finished lane is known
//! by the SHA-256 over the heads and tags of its extents, so none can be changed, missing, moved
//! or replayed; a lane that is still being written can only be checked extent by extent.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::mem;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::{borrow::Cow, fmt};

use ring::digest::Context;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroize as _;

use crate::depot::extents::{
    self, Depth, Found, HEAD_BYTES, Head, Index, OFFSET_MAX, Scan, Source, TAG_BYTES, u64_of,
};
use crate::depot::latest::{Following, Latest, Opened};
use crate::seal::{DataKey, Lane, Sealer};
use crate::terms::fault::{Blame, Fault, Retry};
use crate::terms::ids::SubmissionId;
use crate::terms::limits;

/// `state_dir/spool`, 0700.
#[derive(Clone, Debug)]
pub struct SpoolDir {
    path: Arc<Path>,
    following: Following,
}

/// One lane of one submission, being written. Plaintext stays in memory (at most 64 KiB not yet
/// sealed); sealed extents go to memory until `INLINE_BYTES_MAX` plaintext bytes, then to
/// `<submission>.raw` / `.out`.
///
/// After an error of the disk every later call gives that error again: bytes are missing.
/// Dropping it loses what is not yet sealed; the file stays.
pub struct SpoolWriter {
    shared: Arc<Shared>,
    random: SystemRandom,
    tail: Tail,
    digest: Context,
    /// The next extent's number.
    seq: u64,
    /// Bytes of the file or of the inline form.
    length: u64,
    /// Plaintext bytes ever taken.
    written: u64,
    /// The lane's own file, once it has one.
    file: Option<Arc<File>>,
    broken: Option<Broken>,
}

/// Reads what a [`SpoolWriter`] has sealed so far, from another thread.
///
/// Keeps the extent it last opened, so that reading on in steps of any size opens each once.
pub struct SpoolReader {
    shared: Arc<Shared>,
    opened: Mutex<Opened>,
}

/// Makes a lane durable from another thread, while its writer goes on.
#[derive(Clone, Debug)]
pub struct SpoolSync {
    shared: Arc<Shared>,
}

/// A finished lane: what the ledger has to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedLane {
    /// Plaintext bytes.
    pub bytes: u64,
    /// SHA-256 over heads and tags of all extents in order of seq: proves no extent is missing,
    /// moved or replayed, and that each is where and what it says.
    pub tag_digest: [u8; 32],
    /// The sealed extents themselves, when the lane is small enough for its ledger row.
    pub inline: Option<Vec<u8>>,
}

/// What went wrong with the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolFault {
    /// The disk said no.
    #[error("spool {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Extents do not open or do not give the digest of the ledger.
    #[error("spool {path}: sealed bytes were changed, or the key is not theirs")]
    Damaged {
        /// The file, or `ledger row`.
        path: String,
    },
}

/// What writer, readers and syncs of one lane have in common.
struct Shared {
    path: PathBuf,
    sealer: Sealer,
    state: RwLock<State>,
    latest: Latest,
    folder_synced: AtomicBool,
    /// A failed fdatasync is not repeated: the kernel forgets that those pages were dirty, and
    /// would call the next one a success.
    sync_failed: OnceLock<Broken>,
}

/// What of the lane is sealed, and where it lies.
struct State {
    index: Index,
    place: Place,
}

/// Where sealed extents lie.
enum Place {
    Memory(Vec<u8>),
    File(Arc<File>),
}

/// An extent in the making: room for its head, then plaintext.
struct Tail {
    /// Offset of the first plaintext byte.
    offset: u64,
    /// Allocated once, for a whole extent: growing would leave plaintext in freed memory.
    buffer: Vec<u8>,
}

/// An error of the disk, to be given again.
#[derive(Clone, Debug)]
struct Broken {
    kind: io::ErrorKind,
    text: String,
}

// === impl SpoolDir ===

impl SpoolDir {
    /// Opens or creates the folder (0700).
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn open(path: &Path) -> Result<Self, SpoolFault> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
            .map_err(|source| io_fault(path, source))?;
        Ok(Self {
            path: path.into(),
            following: Following::default(),
        })
    }

    /// A new, empty lane. Nothing touches the disk yet.
    #[must_use]
    pub fn create(&self, id: SubmissionId, lane: Lane, key: &DataKey) -> SpoolWriter {
        let head = extents::lane_head(id, lane).to_vec();
        let scan = Scan {
            index: Index::default(),
            digest: Context::new(&ring::digest::SHA256),
            seq: 0,
            written: 0,
            length: u64_of(head.len()),
            total: u64_of(head.len()),
        };
        let sealer = Sealer::new(key, id, lane);
        SpoolWriter::new(
            self,
            self.file_of(id, lane),
            sealer,
            scan,
            Place::Memory(head),
        )
    }

    /// An existing lane, to go on writing (resume): from its file, or from the ledger's inline bytes.
    /// A torn last extent (crash while appending) is cut off; any other damage is an error. Reads
    /// and opens every extent, so it takes a while and does not belong on an async thread.
    ///
    /// With both, a file that does not yet hold all the inline bytes (crash while it was made)
    /// gives way to them and is removed.
    ///
    /// # Errors
    /// [`SpoolFault`]; `NotFound` in [`SpoolFault::Io`] when there is neither.
    pub fn resume(
        &self,
        id: SubmissionId,
        lane: Lane,
        key: &DataKey,
        inline: Option<&[u8]>,
    ) -> Result<SpoolWriter, SpoolFault> {
        let path = self.file_of(id, lane);
        let lane_head = extents::lane_head(id, lane);
        let sealer = Sealer::new(key, id, lane);
        let inline = match inline {
            Some(bytes) => {
                let scan = extents::scan(Source::Memory(bytes), &lane_head, &sealer, Depth::Open)
                    .map_err(|source| scan_fault(IN_THE_LEDGER, source))?;
                if scan.length != scan.total || scan.length == 0 {
                    return Err(damaged(IN_THE_LEDGER));
                }
                Some((scan, bytes))
            }
            None => None,
        };
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let (file, mut scan) = match (opened, inline) {
            (Err(e), Some((scan, bytes))) if e.kind() == io::ErrorKind::NotFound => {
                let place = Place::Memory(bytes.to_vec());
                return Ok(SpoolWriter::new(self, path, sealer, scan, place));
            }
            (Err(source), _) => return Err(io_fault(&path, source)),
            (Ok(file), Some((inline, bytes))) => {
                let scan = sound(&file, &path, &lane_head, &sealer)?;
                if scan.seq < inline.seq {
                    fs::remove_file(&path).map_err(|source| io_fault(&path, source))?;
                    let place = Place::Memory(bytes.to_vec());
                    return Ok(SpoolWriter::new(self, path, sealer, inline, place));
                }
                (file, scan)
            }
            (Ok(file), None) => {
                let scan = sound(&file, &path, &lane_head, &sealer)?;
                (file, scan)
            }
        };
        if scan.length != scan.total || scan.length == 0 {
            file.set_len(scan.length)
                .map_err(|source| io_fault(&path, source))?;
        }
        if scan.length == 0 {
            file.write_all_at(&lane_head, 0)
                .map_err(|source| io_fault(&path, source))?;
            scan.length = u64_of(lane_head.len());
        }
        Ok(SpoolWriter::new(
            self,
            path,
            sealer,
            scan,
            Place::File(Arc::new(file)),
        ))
    }

    /// A finished lane, to read. Checks the tag digest first; reads all of a lane that has
    /// rewrites in it, so it does not belong on an async thread.
    ///
    /// # Errors
    /// [`SpoolFault`].
    pub fn read(
        &self,
        id: SubmissionId,
        lane: Lane,
        key: &DataKey,
        finished: &SealedLane,
    ) -> Result<SpoolReader, SpoolFault> {
        let path = self.file_of(id, lane);
        let sealer = Sealer::new(key, id, lane);
        let place = match &finished.inline {
            Some(bytes) => Place::Memory(bytes.clone()),
            None => Place::File(Arc::new(
                File::open(&path).map_err(|source| io_fault(&path, source))?,
            )),
        };
        let name = place.name(&path);
        let lane_head = extents::lane_head(id, lane);
        let scan_to = |depth| {
            extents::scan(place.source(), &lane_head, &sealer, depth)
                .map_err(|source| scan_fault(&name, source))
        };
        let mut scan = scan_to(Depth::Digest)?;
        if scan.index.rewritten_from().is_some() {
            // No reading would open the extents that count no more, and they too must be sound.
            scan = scan_to(Depth::Open)?;
        }
        let is_whole = scan.length == scan.total && scan.length > 0;
        let digest = scan.digest.clone().finish();
        if !is_whole || digest.as_ref() != finished.tag_digest || scan.index.end() != finished.bytes
        {
            return Err(damaged(&name));
        }
        let following = self.following.clone();
        let shared = Shared::new(path, sealer, scan.index, place, following);
        Ok(SpoolReader::new(Arc::new(shared)))
    }

    /// Unlinks a lane's file; no error when there is none.
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn remove(&self, id: SubmissionId, lane: Lane) -> Result<(), SpoolFault> {
        let path = self.file_of(id, lane);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_fault(&path, source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Submissions that have a file here (recovery sweeps those the ledger does not know). Files
    /// of other names are passed over.
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn list(&self) -> Result<Vec<(SubmissionId, Lane)>, SpoolFault> {
        let mut lanes = Vec::new();
        self.each_file(|name, _| lanes.extend(lane_of(name)))?;
        Ok(lanes)
    }

    /// Bytes of all files here.
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn usage(&self) -> Result<u64, SpoolFault> {
        let mut bytes = 0_u64;
        self.each_file(|_, file_bytes| bytes = bytes.saturating_add(file_bytes))?;
        Ok(bytes)
    }

    fn each_file(&self, mut act: impl FnMut(&str, u64)) -> Result<(), SpoolFault> {
        let fault = |source| io_fault(&self.path, source);
        for entry in fs::read_dir(&self.path).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            match entry.metadata() {
                // Removed since it was listed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(io_fault(&entry.path(), source)),
                Ok(metadata) if metadata.is_file() => {
                    act(&entry.file_name().to_string_lossy(), metadata.len());
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn file_of(&self, id: SubmissionId, lane: Lane) -> PathBuf {
        self.path.join(format!("{id}.{}", ending(lane)))
    }
}

// === impl SpoolWriter ===

impl SpoolWriter {
    fn new(dir: &SpoolDir, path: PathBuf, sealer: Sealer, mut scan: Scan, place: Place) -> Self {
        let following = dir.following.clone();
        scan.index.forget_rewrites();
        let file = match &place {
            Place::Memory(_) => None,
            Place::File(file) => Some(Arc::clone(file)),
        };
        Self {
            shared: Arc::new(Shared::new(path, sealer, scan.index, place, following)),
            random: SystemRandom::new(),
            tail: Tail::default(),
            digest: scan.digest,
            seq: scan.seq,
            length: scan.length,
            written: scan.written,
            file,
            broken: None,
        }
    }

    /// Takes bytes for any offset, in any order, overlapping; the later write wins.
    ///
    /// # Errors
    /// [`SpoolFault::Io`]; also for an offset no file can have, and for a lane in more than
    /// [`limits::SPOOL_PIECES_MAX`] pieces.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), SpoolFault> {
        self.not_broken()?;
        let bytes = u64_of(data.len());
        if offset.checked_add(bytes).is_none_or(|end| end > OFFSET_MAX) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "no file reaches so far");
            return Err(io_fault(&self.shared.path, source));
        }
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            if !self.tail.takes(offset) {
                self.seal_tail()?;
                self.tail.offset = offset;
            }
            let (now, later) = data.split_at(data.len().min(self.tail.room(offset)));
            self.tail.put(offset, now);
            self.written = self.written.saturating_add(u64_of(now.len()));
            if self.written > u64_of(limits::INLINE_BYTES_MAX) {
                self.spill()?;
            }
            if self.tail.is_full() {
                self.seal_tail()?;
            }
            offset += u64_of(now.len());
            data = later;
        }
        Ok(())
    }

    /// Forgets everything at and after `bytes`.
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn truncate(&mut self, bytes: u64) -> Result<(), SpoolFault> {
        self.not_broken()?;
        self.tail.truncate(bytes);
        if self.shared.read().index.end() <= bytes {
            return Ok(());
        }
        let head = self.next_head(bytes, 0)?;
        let tag = self
            .shared
            .sealer
            .seal(head.seq, head.offset, head.nonce, &mut []);
        let sealed = [head.encode().as_slice(), &tag].concat();
        self.append(&head, &tag, &sealed)
    }

    /// Seals what is still plain in memory, so that readers see it.
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn seal_tail(&mut self) -> Result<(), SpoolFault> {
        self.not_broken()?;
        let bytes = self.tail.bytes();
        if bytes == 0 {
            return Ok(());
        }
        let head = self.next_head(self.tail.offset, bytes)?;
        let mut buffer = mem::take(&mut self.tail.buffer);
        self.shared.latest.keep(head.seq, &buffer);
        let (front, block) = buffer.split_at_mut(HEAD_BYTES);
        let tag = self
            .shared
            .sealer
            .seal(head.seq, head.offset, head.nonce, block);
        front.copy_from_slice(&head.encode());
        buffer.extend_from_slice(&tag);
        let appended = self.append(&head, &tag, &buffer);
        // Ciphertext from here on: nothing to zero.
        buffer.truncate(HEAD_BYTES);
        self.tail.buffer = buffer;
        appended
    }

    /// Bytes contiguous from 0, sealed or not.
    #[must_use]
    pub fn contiguous(&self) -> u64 {
        let state = self.shared.read();
        let sealed = state.index.contiguous();
        if self.tail.bytes() == 0 || self.tail.offset > sealed {
            return sealed;
        }
        state.index.reach(sealed.max(self.tail.end()))
    }

    /// End of the furthest byte written.
    #[must_use]
    pub fn end(&self) -> u64 {
        let sealed = self.shared.read().index.end();
        if self.tail.bytes() == 0 {
            return sealed;
        }
        sealed.max(self.tail.end())
    }

    /// Lowest offset at which sealed bytes were replaced or truncated since the start, if any:
    /// whoever has read past it must read again. A replacement counts when it is sealed itself.
    #[must_use]
    pub fn rewritten_from(&self) -> Option<u64> {
        self.shared.read().index.rewritten_from()
    }

    /// True once the lane has a file of its own.
    #[must_use]
    pub fn is_spilled(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes the sealed lane takes, on disk or in memory: with rewrites, more than its length.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        self.length
    }

    /// A reader of the same lane.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared))
    }

    /// A reader that follows the writes, and its clones, `readers` in all: what was sealed last stays
    /// plain in memory for them.
    #[must_use]
    pub fn follower(&self, readers: usize) -> SpoolReader {
        self.shared.latest.begin(readers);
        self.reader()
    }

    /// What makes the lane durable, for another thread.
    #[must_use]
    pub fn syncer(&self) -> SpoolSync {
        SpoolSync {
            shared: Arc::clone(&self.shared),
        }
    }

    /// fdatasync of the file (and of the folder, the first time); nothing for a lane in memory.
    /// What is not sealed is not in the file: [`SpoolWriter::seal_tail`] first.
    ///
    /// # Errors
    /// [`SpoolFault::Io`]; once failed, always.
    pub fn sync(&self) -> Result<(), SpoolFault> {
        self.syncer().sync()
    }

    /// Seals the tail and gives what the ledger remembers. Call `sync` after it, before COMMIT.
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn finish(&mut self) -> Result<SealedLane, SpoolFault> {
        self.seal_tail()?;
        self.tail = Tail::default();
        let state = self.shared.read();
        let mut tag_digest = [0_u8; 32];
        tag_digest.copy_from_slice(self.digest.clone().finish().as_ref());
        Ok(SealedLane {
            bytes: state.index.end(),
            tag_digest,
            inline: match &state.place {
                Place::Memory(bytes) => Some(bytes.clone()),
                Place::File(_) => None,
            },
        })
    }

    fn next_head(&self, offset: u64, bytes: usize) -> Result<Head, SpoolFault> {
        let fault = |source| io_fault(&self.shared.path, source);
        if self.shared.read().index.pieces() >= limits::SPOOL_PIECES_MAX {
            let text = "written out of order in too many pieces; send it in order";
            return Err(fault(io::Error::new(io::ErrorKind::QuotaExceeded, text)));
        }
        let mut nonce = [0_u8; 12];
        self.random
            .fill(&mut nonce)
            .map_err(|_| fault(io::Error::other("the system gives no randomness")))?;
        Ok(Head {
            offset,
            bytes: u32::try_from(bytes).map_err(|e| fault(io::Error::other(e)))?,
            seq: self.seq,
            nonce,
        })
    }

    /// One sealed extent to its place, in one write; readers see it from then on.
    fn append(&mut self, head: &Head, tag: &[u8], sealed: &[u8]) -> Result<(), SpoolFault> {
        // Tiny extents cost more than they hold: bound what they take as well.
        if self.length > 2 * u64_of(limits::INLINE_BYTES_MAX) {
            self.spill()?;
        }
        if let Some(file) = &self.file
            && let Err(source) = file.write_all_at(sealed, self.length)
        {
            return Err(self.fail(&source));
        }
        self.digest.update(&head.encode());
        self.digest.update(tag);
        let mut state = self.shared.write();
        if let Place::Memory(bytes) = &mut state.place {
            bytes.extend_from_slice(sealed);
        }
        if head.bytes == 0 {
            state.index.truncate(head.offset);
        } else {
            state.index.insert(head, self.length);
        }
        drop(state);
        self.length += u64_of(sealed.len());
        self.seq += 1;
        Ok(())
    }

    /// Moves what lies in memory to a file of its own; nothing when there is one.
    ///
    /// # Errors
    /// [`SpoolFault::Io`].
    pub fn spill(&mut self) -> Result<(), SpoolFault> {
        if self.file.is_some() {
            return Ok(());
        }
        let made = {
            let mut state = self.shared.write();
            match &state.place {
                Place::File(_) => return Ok(()),
                Place::Memory(bytes) => {
                    let made = create_file(&self.shared.path, bytes).map(Arc::new);
                    if let Ok(file) = &made {
                        state.place = Place::File(Arc::clone(file));
                    }
                    made
                }
            }
        };
        match made {
            Ok(file) => {
                self.file = Some(file);
                Ok(())
            }
            Err(source) => Err(self.fail(&source)),
        }
    }

    /// The tail's bytes are lost or out of order from now on: no later call may succeed.
    fn fail(&mut self, source: &io::Error) -> SpoolFault {
        let broken = Broken::new(source);
        let fault = broken.fault(&self.shared.path);
        self.tail.truncate(0);
        self.broken = Some(broken);
        fault
    }

    fn not_broken(&self) -> Result<(), SpoolFault> {
        match &self.broken {
            Some(broken) => Err(broken.fault(&self.shared.path)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for SpoolWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolWriter")
            .field("shared", &self.shared)
            .field("seq", &self.seq)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

// === impl SpoolReader ===

impl SpoolReader {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            opened: Mutex::default(),
        }
    }

    /// Sealed bytes contiguous from 0.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.shared.read().index.contiguous()
    }

    /// Appends up to `max` plaintext bytes from `offset` to `out`; returns how many. 0: none there yet.
    ///
    /// # Errors
    /// [`SpoolFault`]; nothing is appended then.
    pub fn read_at(&self, offset: u64, max: usize, out: &mut Vec<u8>) -> Result<usize, SpoolFault> {
        let before = out.len();
        // Grown once, and not by every extent.
        let there = self.available().saturating_sub(offset);
        out.reserve(max.min(usize::try_from(there).unwrap_or(max)));
        let taken = self.visit_at(offset, max, |part| out.extend_from_slice(part));
        if taken.is_err() {
            out.truncate(before);
        }
        taken
    }

    /// Shows up to `max` plaintext bytes from `offset` on, piece by piece; returns how many. 0: none
    /// there yet.
    ///
    /// # Errors
    /// [`SpoolFault`]; what was shown before it is sound.
    pub fn visit_at(
        &self,
        offset: u64,
        max: usize,
        mut see: impl FnMut(&[u8]),
    ) -> Result<usize, SpoolFault> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut left) = (offset, max);
        while left > 0 {
            let Some((found, end)) = self.hold(&mut opened, at)? else {
                break;
            };
            let part = opened.plaintext(&found, at, end);
            let part = part.get(..left).unwrap_or(part);
            see(part);
            at += u64_of(part.len());
            left -= part.len();
        }
        Ok(max - left)
    }

    /// Has the extent opened that holds the byte at `at`, and tells up to where it counts.
    fn hold(&self, opened: &mut Opened, at: u64) -> Result<Option<(Found, u64)>, SpoolFault> {
        let shared = &self.shared;
        let state = shared.read();
        let watermark = state.index.contiguous();
        let Some(found) = state.index.find(at).filter(|_| at < watermark) else {
            return Ok(None);
        };
        if opened.seq != Some(found.seq) && !shared.latest.give(found.seq, opened) {
            let name = state.place.name(&shared.path);
            let opening = match &state.place {
                Place::File(file) => {
                    // The writer need not wait for the disk: what is sealed stays where it is.
                    let file = Arc::clone(file);
                    drop(state);
                    opened.open(&found, Source::File(&file), &shared.sealer)
                }
                Place::Memory(bytes) => opened.open(&found, Source::Memory(bytes), &shared.sealer),
            };
            opening.map_err(|source| scan_fault(&name, source))?;
        }
        Ok(Some((found, found.until.min(watermark))))
    }
}

impl Clone for SpoolReader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for SpoolReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolReader")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

// === impl SpoolSync ===

impl SpoolSync {
    /// As [`SpoolWriter::sync`]: durable is what was sealed before the call.
    ///
    /// # Errors
    /// [`SpoolFault::Io`]; once failed, always.
    pub fn sync(&self) -> Result<(), SpoolFault> {
        let shared = &self.shared;
        let file = match &shared.read().place {
            Place::Memory(_) => return Ok(()),
            Place::File(file) => Arc::clone(file),
        };
        if let Some(broken) = shared.sync_failed.get() {
            return Err(broken.fault(&shared.path));
        }
        let synced = file.sync_data().and_then(|()| {
            if !shared.folder_synced.load(Ordering::Acquire) {
                File::open(shared.path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
                shared.folder_synced.store(true, Ordering::Release);
            }
            Ok(())
        });
        synced.map_err(|source| {
            let broken = shared.sync_failed.get_or_init(|| Broken::new(&source));
            broken.fault(&shared.path)
        })
    }
}

// === impl SpoolFault ===

impl Fault for SpoolFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "depot.spool-damaged",
            Self::Io { .. } => "depot.spool-io",
        }
    }
    fn blame(&self) -> Blame {
        match self {
            Self::Damaged { .. } | Self::Io { .. } => Blame::Operator,
        }
    }
    fn retry(&self) -> Retry {
        match self {
            Self::Damaged { .. } => Retry::Never,
            Self::Io { .. } => Retry::Later,
        }
    }
    fn told_partner(&self) -> Cow<'static, str> {
        match self {
            Self::Damaged { .. } => "the gateway lost this file; send it again".into(),
            Self::Io { .. } => "the gateway cannot store the file now; send it again later".into(),
        }
    }
}

// === impl Shared ===

impl Shared {
    fn new(
        path: PathBuf,
        sealer: Sealer,
        index: Index,
        place: Place,
        following: Following,
    ) -> Self {
        Self {
            path,
            sealer,
            state: RwLock::new(State { index, place }),
            latest: Latest::new(following),
            folder_synced: AtomicBool::new(false),
            sync_failed: OnceLock::new(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

// === impl Place ===

impl Place {
    fn source(&self) -> Source<'_> {
        match self {
            Self::File(file) => Source::File(file),
            Self::Memory(bytes) => Source::Memory(bytes),
        }
    }

    /// For faults.
    fn name(&self, path: &Path) -> String {
        match self {
            Self::File(_) => path.display().to_string(),
            Self::Memory(_) => IN_THE_LEDGER.to_owned(),
        }
    }
}

// === impl Tail ===

impl Default for Tail {
    /// Without memory of its own until the first byte.
    fn default() -> Self {
        Self {
            offset: 0,
            buffer: Vec::new(),
        }
    }
}

impl Tail {
    fn bytes(&self) -> usize {
        self.buffer.len().saturating_sub(HEAD_BYTES)
    }

    fn end(&self) -> u64 {
        self.offset + u64_of(self.bytes())
    }

    fn is_full(&self) -> bool {
        self.bytes() == limits::EXTENT_BYTES_MAX
    }

    /// Whether a byte for `offset` can be put here without a gap.
    fn takes(&self, offset: u64) -> bool {
        self.bytes() > 0 && self.offset <= offset && offset <= self.end()
    }

    /// Bytes that fit from `offset` on, which must be one it takes, or its own.
    fn room(&self, offset: u64) -> usize {
        let before = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        limits::EXTENT_BYTES_MAX.saturating_sub(before)
    }

    /// Puts bytes that fit, over those that are there and behind them.
    fn put(&mut self, offset: u64, data: &[u8]) {
        if self.buffer.is_empty() {
            if self.buffer.capacity() == 0 {
                let room = HEAD_BYTES + limits::EXTENT_BYTES_MAX + TAG_BYTES;
                self.buffer.reserve_exact(room);
            }
            self.buffer.resize(HEAD_BYTES, 0);
        }
        let at = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let over = self.bytes().saturating_sub(at).min(data.len());
        let (over, behind) = data.split_at(over);
        if let Some(there) = self
            .buffer
            .get_mut(HEAD_BYTES + at..)
            .and_then(|rest| rest.get_mut(..over.len()))
        {
            there.copy_from_slice(over);
        }
        self.buffer.extend_from_slice(behind);
    }

    /// Zeroes and forgets what lies at and after `bytes`.
    fn truncate(&mut self, bytes: u64) {
        let kept = usize::try_from(bytes.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let kept = HEAD_BYTES.saturating_add(kept);
        if let Some(cut) = self.buffer.get_mut(kept..) {
            cut.zeroize();
            self.buffer.truncate(kept);
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

// === impl Broken ===

impl Broken {
    fn new(source: &io::Error) -> Self {
        Self {
            kind: source.kind(),
            text: source.to_string(),
        }
    }

    fn fault(&self, path: &Path) -> SpoolFault {
        io_fault(path, io::Error::new(self.kind, self.text.clone()))
    }
}

/// A file of the spool as a scan leaves it: every extent opened, at most the end torn off.
fn sound(
    file: &File,
    path: &Path,
    lane_head: &[u8; extents::LANE_HEAD_BYTES],
    sealer: &Sealer,
) -> Result<Scan, SpoolFault> {
    let name = path.display().to_string();
    let source = Source::File(file);
    let scan = extents::scan(source, lane_head, sealer, Depth::Open)
        .map_err(|source| scan_fault(&name, source))?;
    if scan.length == scan.total || scan.length == 0 {
        return Ok(scan);
    }
    if extents::is_torn(&scan, source, sealer).map_err(|source| scan_fault(&name, source))? {
        return Ok(scan);
    }
    Err(damaged(&name))
}

/// A new file with its first bytes; none when that fails.
fn create_file(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    match file.write_all_at(bytes, 0) {
        Ok(()) => Ok(file),
        Err(source) => {
            drop(fs::remove_file(path));
            Err(source)
        }
    }
}

fn ending(lane: Lane) -> &'static str {
    match lane {
        Lane::Out => "out",
        Lane::Raw => "raw",
        Lane::Rejects => "rejects",
    }
}

fn lane_of(name: &str) -> Option<(SubmissionId, Lane)> {
    let (id, rest) = name.rsplit_once('.')?;
    let lane = Lane::ALL.into_iter().find(|lane| ending(*lane) == rest)?;
    Some((SubmissionId::parse(id).ok()?, lane))
}

fn io_fault(path: &Path, source: io::Error) -> SpoolFault {
    SpoolFault::Io {
        path: path.display().to_string(),
        source,
    }
}

fn damaged(path: &str) -> SpoolFault {
    SpoolFault::Damaged {
        path: path.to_owned(),
    }
}

/// Bytes that should be there and are not, or are another lane's, are damage; the rest is the disk.
fn scan_fault(path: &str, source: io::Error) -> SpoolFault {
    if matches!(
        source.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    ) {
        return damaged(path);
    }
    io_fault(Path::new(path), source)
}

/// What faults call the inline form.
const IN_THE_LEDGER: &str = "ledger row";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANARY: &[u8] = b"DE89370400440532013000;";

    struct Bench {
        folder: tempfile::TempDir,
        spool: SpoolDir,
        id: SubmissionId,
        key: DataKey,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self {
                spool: SpoolDir::open(&folder.path().join("spool")).unwrap(),
                folder,
                id: SubmissionId::from_bytes([5; 16]),
                key: DataKey::new([7; 32]),
            }
        }
        fn writer(&self) -> SpoolWriter {
            self.spool.create(self.id, Lane::Raw, &self.key)
        }
        fn resume(&self, inline: Option<&[u8]>) -> Result<SpoolWriter, SpoolFault> {
            self.spool.resume(self.id, Lane::Raw, &self.key, inline)
        }
        fn read(&self, sealed: &SealedLane) -> Result<SpoolReader, SpoolFault> {
            self.spool.read(self.id, Lane::Raw, &self.key, sealed)
        }
        fn file(&self) -> PathBuf {
            self.folder
                .path()
                .join("spool")
                .join(format!("{}.raw", self.id))
        }
    }

    fn pattern(bytes: usize) -> Vec<u8> {
        CANARY.iter().copied().cycle().take(bytes).collect()
    }

    fn all_of(reader: &SpoolReader, step: usize) -> Result<Vec<u8>, SpoolFault> {
        let mut out = Vec::new();
        loop {
            let before = out.len();
            let bytes = reader.read_at(u64_of(before), step, &mut out)?;
            assert_eq!(out.len(), before + bytes);
            if bytes == 0 {
                return Ok(out);
            }
        }
    }

    fn is_damaged<T>(result: &Result<T, SpoolFault>) -> bool {
        matches!(result, Err(SpoolFault::Damaged { .. }))
    }

    /// A small lane with everything in it: appends, a rewrite, a truncation, a rewrite after it.
    fn eventful(bench: &Bench) -> (SpoolWriter, Vec<u8>) {
        let mut writer = bench.writer();
        let mut model = pattern(300);
        writer.write_at(0, &model).unwrap();
        writer.seal_tail().unwrap();
        writer.write_at(40, b"a rewritten part").unwrap();
        model[40..56].copy_from_slice(b"a rewritten part");
        writer.write_at(290, b"beyond the end as it was").unwrap();
        model.truncate(290);
        model.extend_from_slice(b"beyond the end as it was");
        writer.seal_tail().unwrap();
        writer.truncate(250).unwrap();
        model.truncate(250);
        writer.write_at(250, &[b'x'; 30]).unwrap();
        model.extend_from_slice(&[b'x'; 30]);
        (writer, model)
    }

    #[test]
    fn a_small_lane_stays_in_memory_and_a_large_one_gets_a_file_of_its_own() {
        for (bytes, spilled) in [(0, false), (65_535, false), (65_536, false), (65_537, true)] {
            let bench = Bench::new();
            let data = pattern(bytes);
            let mut writer = bench.writer();
            for (at, part) in data.chunks(32_768).enumerate() {
                writer.write_at(u64_of(at * 32_768), part).unwrap();
            }
            let sealed = writer.finish().unwrap();
            writer.sync().unwrap();
            assert_eq!(writer.is_spilled(), spilled, "{bytes}");
            assert_eq!(bench.file().exists(), spilled, "{bytes}");
            assert_eq!(sealed.inline.is_none(), spilled, "{bytes}");
            assert_eq!(sealed.bytes, u64_of(bytes));
            assert_eq!(all_of(&bench.read(&sealed).unwrap(), 1000).unwrap(), data);
            assert_eq!(all_of(&writer.reader(), 100_000).unwrap(), data);
            let mut again = bench.resume(sealed.inline.as_deref()).unwrap();
            assert_eq!(again.contiguous(), u64_of(bytes));
            again.write_at(u64_of(bytes), b"more").unwrap();
            let sealed = again.finish().unwrap();
            let data = [data.as_slice(), b"more"].concat();
            assert_eq!(all_of(&bench.read(&sealed).unwrap(), 70_000).unwrap(), data);
        }
    }

    #[test]
    fn folder_and_files_are_for_the_owner_alone() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        writer.write_at(0, &pattern(70_000)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&bench.file()), 0o600);
        assert_eq!(mode(bench.file().parent().unwrap()), 0o700);
    }

    #[test]
    fn a_file_that_is_already_there_is_never_written_over() {
        let bench = Bench::new();
        fs::write(bench.file(), b"somebody's").unwrap();
        let mut writer = bench.writer();
        let refused = writer.write_at(0, &pattern(70_000)).unwrap_err();
        assert!(matches!(&refused, SpoolFault::Io { source, .. }
            if source.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(bench.file()).unwrap(), b"somebody's");
        assert!(writer.write_at(0, b"x").is_err(), "bytes are missing now");
        assert!(writer.seal_tail().is_err());
        assert!(writer.truncate(0).is_err());
        assert!(writer.finish().is_err());
    }

    #[test]
    fn no_plaintext_reaches_the_file_or_the_inline_form() {
        let bench = Bench::new();
        let holds = |bytes: &[u8]| {
            bytes
                .windows(6)
                .any(|part| CANARY.windows(6).any(|c| c == part))
        };
        let mut small = bench.writer();
        small.write_at(0, &pattern(5_000)).unwrap();
        assert!(!holds(&small.finish().unwrap().inline.unwrap()));
        let mut writer = bench.writer();
        for at in [0_u64, 200_000, 100_000, 50_000, 77] {
            writer.write_at(at, &pattern(40_000)).unwrap();
            if bench.file().exists() {
                assert!(!holds(&fs::read(bench.file()).unwrap()));
            }
        }
        drop(writer);
        assert!(!holds(&fs::read(bench.file()).unwrap()));
        assert!(holds(&pattern(20)), "the search finds what it looks for");
    }

    #[test]
    fn equal_content_sealed_twice_is_not_equal() {
        let bench = Bench::new();
        let inline = || {
            let mut writer = bench.writer();
            writer.write_at(0, &pattern(100)).unwrap();
            writer.finish().unwrap().inline.unwrap()
        };
        assert_ne!(inline()[25..], inline()[25..]);
    }

    #[test]
    fn any_flipped_byte_of_a_finished_lane_is_damage_and_never_plaintext() {
        let bench = Bench::new();
        let (mut writer, model) = eventful(&bench);
        let sealed = writer.finish().unwrap();
        let bytes = sealed.inline.clone().unwrap();
        assert_eq!(all_of(&bench.read(&sealed).unwrap(), 7).unwrap(), model);
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut bad = bytes.clone();
                bad[at] ^= bit;
                fs::write(bench.file(), &bad).unwrap();
                let in_file = SealedLane {
                    inline: None,
                    ..sealed.clone()
                };
                let in_row = SealedLane {
                    inline: Some(bad),
                    ..sealed.clone()
                };
                for lane in [in_file, in_row] {
                    let Ok(reader) = bench.read(&lane) else {
                        continue;
                    };
                    let mut out = Vec::new();
                    let whole = reader.read_at(0, 10_000, &mut out);
                    assert!(is_damaged(&whole), "byte {at}");
                    assert!(out.is_empty(), "byte {at}");
                    // In small steps too, nothing comes out that was not sealed for its place.
                    let mut at = 0;
                    while let Ok(bytes @ 1..) = reader.read_at(at, 1, &mut out) {
                        at += u64_of(bytes);
                    }
                    assert!(model.starts_with(&out) && out.len() < model.len());
                }
            }
        }
    }

    #[test]
    fn a_finished_lane_that_was_cut_extended_or_swapped_is_damage() {
        let bench = Bench::new();
        let (mut writer, _) = eventful(&bench);
        let sealed = writer.finish().unwrap();
        let bytes = sealed.inline.clone().unwrap();
        let row = |bytes: &[u8]| SealedLane {
            inline: Some(bytes.to_vec()),
            ..sealed.clone()
        };
        for end in 0..bytes.len() {
            assert!(is_damaged(&bench.read(&row(&bytes[..end]))), "{end}");
        }
        assert!(is_damaged(
            &bench.read(&row(&[&bytes, b"x".as_slice()].concat()))
        ));
        // The same lane sealed once more: every extent opens, but it is not the one remembered.
        let (mut twin, _) = eventful(&bench);
        let twin = twin.finish().unwrap();
        assert!(is_damaged(&bench.read(&row(&twin.inline.unwrap()))));
        let short = SealedLane {
            bytes: sealed.bytes - 1,
            ..sealed.clone()
        };
        assert!(is_damaged(&bench.read(&short)));
        // Another submission's, another lane's, under another key.
        let other = SubmissionId::from_bytes([6; 16]);
        let (key, spool) = (&bench.key, &bench.spool);
        assert!(is_damaged(&spool.read(other, Lane::Raw, key, &sealed)));
        assert!(is_damaged(&spool.read(bench.id, Lane::Out, key, &sealed)));
        let key = DataKey::new([8; 32]);
        let read = spool.read(bench.id, Lane::Raw, &key, &sealed);
        assert!(read.is_err() || is_damaged(&read.unwrap().read_at(0, 1, &mut Vec::new())));
    }

    #[test]
    fn a_missing_file_is_said_with_its_path() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        writer.write_at(0, &pattern(70_000)).unwrap();
        let sealed = writer.finish().unwrap();
        bench.spool.remove(bench.id, Lane::Raw).unwrap();
        bench.spool.remove(bench.id, Lane::Raw).unwrap();
        for fault in [
            bench.read(&sealed).unwrap_err(),
            bench.resume(None).unwrap_err(),
        ] {
            assert!(fault.to_string().contains(bench.file().to_str().unwrap()));
        }
    }

    /// Plaintext that extents up to `length` bytes of a file of plain appends hold.
    fn whole_before(length: usize, extents: &[usize]) -> usize {
        let (mut place, mut plain) = (25, 0);
        for bytes in extents {
            place += bytes + 48;
            if place > length {
                break;
            }
            plain += bytes;
        }
        plain
    }

    #[test]
    fn a_tail_torn_at_any_length_is_cut_and_writing_goes_on() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let sizes = [60, 1, 33, 100];
        let data = pattern(sizes.iter().sum());
        let mut at = 0;
        for bytes in sizes {
            writer.write_at(u64_of(at), &data[at..at + bytes]).unwrap();
            writer.seal_tail().unwrap();
            at += bytes;
        }
        let file = writer.finish().unwrap().inline.unwrap();
        for zeros in [0, 1, 500] {
            for length in 0..=file.len() {
                let torn = [&file[..length], &vec![0; zeros]].concat();
                // A zero behind the tear may be the very byte that was lost.
                let same = torn.iter().zip(&file).take_while(|(torn, was)| torn == was);
                let kept = whole_before(same.count(), &sizes);
                fs::write(bench.file(), torn).unwrap();
                let mut writer = match bench.resume(None) {
                    Ok(writer) => writer,
                    // Zeros after half a head may be taken for a whole first extent.
                    Err(e) if zeros > 0 && kept == 0 => {
                        assert!(is_damaged(&Err::<(), _>(e)), "{length}");
                        continue;
                    }
                    Err(e) => panic!("{length} {zeros}: {e}"),
                };
                assert_eq!(writer.contiguous(), u64_of(kept), "{length} {zeros}");
                assert_eq!(writer.rewritten_from(), None);
                writer.write_at(u64_of(kept), b"and on").unwrap();
                let sealed = writer.finish().unwrap();
                let want = [&data[..kept], b"and on"].concat();
                assert_eq!(all_of(&bench.read(&sealed).unwrap(), 64).unwrap(), want);
            }
        }
    }

    #[test]
    fn a_long_end_of_zeros_is_what_a_lost_page_leaves() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        writer.write_at(0, &pattern(100_000)).unwrap();
        writer.seal_tail().unwrap();
        drop(writer);
        let file = OpenOptions::new().write(true).open(bench.file()).unwrap();
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes + 300_000).unwrap();
        assert_eq!(bench.resume(None).unwrap().contiguous(), 100_000);
        assert_eq!(fs::metadata(bench.file()).unwrap().len(), bytes);
        file.write_all_at(b"!", bytes + 299_999).unwrap();
        assert!(is_damaged(&bench.resume(None)));
    }

    #[test]
    fn a_flipped_byte_is_found_on_resume_unless_it_is_in_the_last_extent() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let data = pattern(300);
        for (at, part) in data.chunks(100).enumerate() {
            writer.write_at(u64_of(at * 100), part).unwrap();
            writer.seal_tail().unwrap();
        }
        let file = writer.finish().unwrap().inline.unwrap();
        let last = file.len() - 148;
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x04;
            assert!(is_damaged(&bench.resume(Some(&bad))), "byte {at}");
            fs::write(bench.file(), &bad).unwrap();
            match bench.resume(None) {
                Err(fault) => assert!(is_damaged(&Err::<(), _>(fault)), "byte {at}"),
                Ok(writer) => {
                    assert!(at >= last, "byte {at}");
                    assert_eq!(all_of(&writer.reader(), 1000).unwrap(), data[..200]);
                }
            }
            fs::remove_file(bench.file()).unwrap();
        }
    }

    #[test]
    fn the_wrong_key_never_cuts_a_file() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        writer.write_at(0, &pattern(100)).unwrap();
        let file = writer.finish().unwrap().inline.unwrap();
        fs::write(bench.file(), &file).unwrap();
        let wrong = DataKey::new([8; 32]);
        assert!(is_damaged(&bench.spool.resume(
            bench.id,
            Lane::Raw,
            &wrong,
            None
        )));
        assert_eq!(fs::read(bench.file()).unwrap(), file);
    }

    #[test]
    fn inline_bytes_win_over_a_file_that_was_only_half_made() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        for at in [0, 20_000, 40_000] {
            writer.write_at(at, &pattern(20_000)).unwrap();
            writer.seal_tail().unwrap();
        }
        let inline = writer.finish().unwrap().inline.unwrap();
        fs::write(bench.file(), &inline[..30_000]).unwrap();
        let mut writer = bench.resume(Some(&inline)).unwrap();
        assert!(!writer.is_spilled());
        assert_eq!(writer.contiguous(), 60_000);
        writer.write_at(60_000, &pattern(20_000)).unwrap();
        writer.seal_tail().unwrap();
        assert!(writer.is_spilled());
        drop(writer);
        // Now the file has more than the row remembers.
        assert_eq!(bench.resume(Some(&inline)).unwrap().contiguous(), 80_000);
    }

    #[test]
    fn a_reader_sees_what_is_sealed_and_contiguous_and_nothing_else() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let reader = writer.reader();
        let mut out = Vec::new();
        writer.write_at(0, &pattern(10)).unwrap();
        assert_eq!((writer.contiguous(), reader.available()), (10, 0));
        assert_eq!(reader.read_at(0, 100, &mut out).unwrap(), 0);
        writer.write_at(20, &pattern(10)).unwrap();
        assert_eq!((writer.contiguous(), reader.available()), (10, 10));
        assert_eq!(
            (writer.end(), reader.read_at(0, 100, &mut out).unwrap()),
            (30, 10)
        );
        writer.seal_tail().unwrap();
        assert_eq!(reader.available(), 10);
        assert_eq!(reader.read_at(20, 10, &mut out).unwrap(), 0, "beyond a gap");
        writer.write_at(10, &pattern(10)).unwrap();
        assert_eq!((writer.contiguous(), reader.available()), (30, 10));
        writer.seal_tail().unwrap();
        assert_eq!(reader.available(), 30);
        assert_eq!(reader.read_at(5, 20, &mut out).unwrap(), 20);
        assert_eq!(reader.read_at(30, 20, &mut out).unwrap(), 0);
        assert_eq!(reader.read_at(u64::MAX, 20, &mut out).unwrap(), 0);
        assert_eq!(out.len(), 30);
        assert_eq!(writer.rewritten_from(), None);
    }

    #[test]
    fn a_rewrite_of_sealed_bytes_is_told_and_one_of_unsealed_bytes_is_not() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let reader = writer.follower(1);
        writer.write_at(0, b"unsealed").unwrap();
        writer.write_at(2, b"SE").unwrap();
        assert_eq!(writer.rewritten_from(), None);
        writer.seal_tail().unwrap();
        assert_eq!(all_of(&reader, 3).unwrap(), b"unSEaled");
        writer.write_at(6, b"ED and more").unwrap();
        writer.seal_tail().unwrap();
        assert_eq!(writer.rewritten_from(), Some(6));
        assert_eq!(all_of(&reader, 3).unwrap(), b"unSEalED and more");
        writer.truncate(40).unwrap();
        assert_eq!(writer.rewritten_from(), Some(6));
        writer.truncate(4).unwrap();
        assert_eq!(writer.rewritten_from(), Some(4));
        assert_eq!((writer.end(), reader.available()), (4, 4));
        assert_eq!(all_of(&reader, 3).unwrap(), b"unSE");
    }

    #[test]
    fn a_reader_on_another_thread_keeps_up_with_the_writer() {
        let bench = Bench::new();
        let data = pattern(3_000_000);
        let mut writer = bench.writer();
        let reader = writer.follower(1);
        let want = data.len();
        std::thread::scope(|scope| {
            let read = scope.spawn(move || {
                let mut out = Vec::new();
                while out.len() < want {
                    if reader.read_at(u64_of(out.len()), 10_000, &mut out).unwrap() == 0 {
                        std::thread::yield_now();
                    }
                }
                out
            });
            let syncer = writer.syncer();
            for (at, part) in data.chunks(32_768).enumerate() {
                writer.write_at(u64_of(at * 32_768), part).unwrap();
                if at % 16 == 0 {
                    syncer.sync().unwrap();
                }
            }
            writer.seal_tail().unwrap();
            assert!(read.join().unwrap() == data);
        });
    }

    #[test]
    fn what_was_sealed_last_is_read_without_the_disk() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let follower = writer.follower(2);
        let other = follower.clone();
        let kept = limits::SPOOL_LATEST_EXTENTS * limits::EXTENT_BYTES_MAX;
        let data = pattern(kept + limits::EXTENT_BYTES_MAX);
        writer.write_at(0, &data).unwrap();
        fs::write(bench.file(), b"").unwrap();
        let from = u64_of(limits::EXTENT_BYTES_MAX);
        let mut out = Vec::new();
        assert_eq!(follower.read_at(from, usize::MAX, &mut out).unwrap(), kept);
        assert!(out == data[limits::EXTENT_BYTES_MAX..]);
        out.clear();
        assert_eq!(other.read_at(from, usize::MAX, &mut out).unwrap(), kept);
        assert!(out == data[limits::EXTENT_BYTES_MAX..]);
        // The first one made room for the last.
        assert!(follower.read_at(0, 1, &mut Vec::new()).is_err());
    }

    #[test]
    fn only_so_many_lanes_keep_what_was_sealed_last() {
        let bench = Bench::new();
        let follows = |writer: &SpoolWriter| {
            drop(writer.follower(1));
            writer.shared.latest.is_kept()
        };
        let mut writers: Vec<_> = (0..=limits::SPOOL_LATEST_LANES_MAX)
            .map(|_| bench.writer())
            .collect();
        let last = writers.pop().unwrap();
        assert!(writers.iter().all(follows));
        assert!(!follows(&last));
        writers.pop();
        assert!(follows(&bench.writer()));
    }

    #[test]
    fn offsets_no_file_can_have_are_refused_and_break_nothing() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        assert!(writer.write_at(u64::MAX, b"xy").is_err());
        assert!(writer.write_at(OFFSET_MAX, b"x").is_err());
        writer.write_at(OFFSET_MAX - 1, b"x").unwrap();
        writer.write_at(0, b"x").unwrap();
        writer.truncate(u64::MAX).unwrap();
        assert_eq!((writer.end(), writer.contiguous()), (OFFSET_MAX, 1));
        let sealed = writer.finish().unwrap();
        assert_eq!(bench.read(&sealed).unwrap().available(), 1);
    }

    #[test]
    fn a_scattered_lane_does_not_grow_in_memory_without_bound() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        for at in 0..5_000 {
            writer.write_at(at * 2, b"x").unwrap();
        }
        assert!(writer.is_spilled());
        assert_eq!(writer.sealed_bytes(), 25 + 4_999 * 49);
    }

    #[test]
    fn files_are_listed_and_counted_and_strangers_passed_over() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        writer.write_at(0, &pattern(70_000)).unwrap();
        writer.seal_tail().unwrap();
        fs::write(bench.file().with_file_name("notes.txt"), b"12345").unwrap();
        fs::create_dir(bench.file().with_file_name("folder.raw")).unwrap();
        assert_eq!(bench.spool.list().unwrap(), [(bench.id, Lane::Raw)]);
        let extents = 2 * 48;
        assert_eq!(bench.spool.usage().unwrap(), 25 + 70_000 + extents + 5);
        assert_eq!(writer.sealed_bytes(), 25 + 70_000 + extents);
    }

    #[test]
    fn debug_and_faults_show_no_content() {
        let bench = Bench::new();
        let mut writer = bench.writer();
        writer.write_at(0, CANARY).unwrap();
        let reader = writer.reader();
        let texts = format!(
            "{writer:?} {reader:?} {:?} {:?}",
            writer.syncer(),
            bench.spool
        );
        assert!(
            !texts.contains("68, 69") && !texts.contains("DE89"),
            "{texts}"
        );
    }

    #[derive(Clone, Debug)]
    enum Act {
        Write(u64, usize),
        Truncate(u64),
        Seal,
        Reopen,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0_u64..150_000, 0_usize..90_000).prop_map(|(at, bytes)| Act::Write(at, bytes)),
            3 => (0_u64..2_000, 0_usize..3_000).prop_map(|(at, bytes)| Act::Write(at, bytes)),
            1 => (0_u64..200_000).prop_map(Act::Truncate),
            1 => Just(Act::Seal),
            1 => Just(Act::Reopen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_lane_holds_what_a_plain_buffer_would(acts in prop::collection::vec(act(), 1..24)) {
            let bench = Bench::new();
            let mut writer = bench.writer();
            let mut model: Vec<Option<u8>> = Vec::new();
            for (number, act) in (1_u8..).zip(acts) {
                match act {
                    Act::Write(at, bytes) => {
                        let data: Vec<u8> = (0..bytes).map(|i| number ^ i.to_le_bytes()[0]).collect();
                        writer.write_at(at, &data).unwrap();
                        let at = usize::try_from(at).unwrap();
                        if bytes > 0 && model.len() < at + bytes {
                            model.resize(at + bytes, None);
                        }
                        for (slot, byte) in model.iter_mut().skip(at).zip(data) {
                            *slot = Some(byte);
                        }
                    }
                    Act::Truncate(at) => {
                        writer.truncate(at).unwrap();
                        model.truncate(usize::try_from(at).unwrap());
                        while model.last() == Some(&None) {
                            model.pop();
                        }
                    }
                    Act::Seal => writer.seal_tail().unwrap(),
                    Act::Reopen => {
                        let sealed = writer.finish().unwrap();
                        writer = bench.resume(sealed.inline.as_deref()).unwrap();
                    }
                }
                let contiguous = model.iter().position(Option::is_none).unwrap_or(model.len());
                prop_assert_eq!(writer.contiguous(), u64_of(contiguous));
                prop_assert_eq!(writer.end(), u64_of(model.len()));
                prop_assert!(writer.reader().available() <= writer.contiguous());
            }
            let sealed = writer.finish().unwrap();
            let want: Vec<u8> = model.iter().map_while(|byte| *byte).collect();
            prop_assert_eq!(sealed.bytes, u64_of(model.len()));
            prop_assert!(all_of(&writer.reader(), 5_000).unwrap() == want);
            prop_assert!(all_of(&bench.read(&sealed).unwrap(), 1 << 20).unwrap() == want);
        }
    }
}
