//! The extents sealed last, still plain in memory, for the readers that follow close behind.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use zeroize::Zeroizing;

use crate::depot::extents::{Found, HEAD_BYTES, Head, Source, TAG_BYTES};
use crate::seal::Sealer;
use crate::terms::limits;

/// The extents sealed last, still plain: a reader close behind the writer need not read them back
/// and open them. An extent lies in the slot of its number; whoever finds a slot taken goes the
/// long way, so that neither side ever waits for the other.
pub(super) struct Latest {
    slots: [Mutex<Opened>; limits::SPOOL_LATEST_EXTENTS],
    /// Set when somebody reads while the lane grows, and there is memory for it.
    place: OnceLock<Option<Followed>>,
    /// How many read.
    readers: AtomicUsize,
    following: Following,
}

/// How many lanes keep their latest extents.
#[derive(Clone, Debug, Default)]
pub(super) struct Following(Arc<AtomicUsize>);

/// One of them, until it is dropped.
pub(super) struct Followed(Following);

/// The extent a reader opened last.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) seq: Option<u64>,
    /// Head, plaintext, tag; possibly longer.
    buffer: Zeroizing<Vec<u8>>,
}

// === impl Latest ===

impl Latest {
    pub(super) fn new(following: Following) -> Self {
        Self {
            slots: std::array::from_fn(|_| Mutex::default()),
            place: OnceLock::new(),
            readers: AtomicUsize::new(0),
            following,
        }
    }

    /// So many follow from now on.
    pub(super) fn begin(&self, readers: usize) {
        self.readers.store(readers, Ordering::Release);
        self.place.get_or_init(|| self.following.join());
    }

    /// Somebody follows, and there is memory for it.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.place.get(), Some(Some(_)))
    }

    /// Keeps an extent before it is sealed: room for its head, then plaintext.
    pub(super) fn keep(&self, seq: u64, extent: &[u8]) {
        if !self.is_kept() {
            return;
        }
        let Some(mut slot) = self.slot(seq) else {
            return;
        };
        slot.fill(extent);
        slot.seq = Some(seq);
    }

    /// Gives an extent to a reader, for what it had before; whether it was there. The only reader
    /// takes it, several get copies.
    pub(super) fn give(&self, seq: u64, opened: &mut Opened) -> bool {
        match self.slot(seq) {
            Some(mut slot) if slot.seq == Some(seq) => {
                if self.readers.load(Ordering::Acquire) == 1 {
                    mem::swap(&mut *slot, opened);
                } else {
                    opened.fill(&slot.buffer);
                    opened.seq = Some(seq);
                }
                true
            }
            Some(_) | None => false,
        }
    }

    /// `None`: somebody is at it.
    fn slot(&self, seq: u64) -> Option<MutexGuard<'_, Opened>> {
        let number = usize::try_from(seq).ok()? % self.slots.len();
        self.slots.get(number)?.try_lock().ok()
    }
}

// === impl Following ===

impl Following {
    /// A place, if there is one.
    fn join(&self) -> Option<Followed> {
        let more = |lanes| (lanes < limits::SPOOL_LATEST_LANES_MAX).then_some(lanes + 1);
        let joined = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        joined.is_ok().then(|| Followed(self.clone()))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let Followed(Following(lanes)) = self;
        lanes.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Opened ===

impl Opened {
    /// Takes over what begins with room for a head.
    fn fill(&mut self, extent: &[u8]) {
        if self.buffer.len() < extent.len() {
            let room = HEAD_BYTES + limits::EXTENT_BYTES_MAX + TAG_BYTES;
            self.buffer = Zeroizing::new(vec![0; room.max(extent.len())]);
        }
        let (front, _) = self.buffer.split_at_mut(extent.len());
        front.copy_from_slice(extent);
    }

    /// Reads and opens an extent. `InvalidData` when it is not what the index says.
    pub(super) fn open(
        &mut self,
        found: &Found,
        source: Source<'_>,
        sealer: &Sealer,
    ) -> io::Result<()> {
        self.seq = None;
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let bytes = usize::try_from(found.bytes).map_err(|_| wrong())?;
        let extent_bytes = HEAD_BYTES + bytes + TAG_BYTES;
        if self.buffer.len() < extent_bytes {
            // A new one: growing would leave plaintext in freed memory.
            self.buffer = Zeroizing::new(vec![0; extent_bytes.next_power_of_two()]);
        }
        let (buffer, _) = self.buffer.split_at_mut(extent_bytes);
        source.read_exact_at(found.place, buffer)?;
        let head = Head::decode(buffer)
            .filter(|head| head.seq == found.seq && head.offset == found.offset)
            .filter(|head| u64::from(head.bytes) == found.bytes)
            .ok_or_else(wrong)?;
        let (_, block) = buffer.split_at_mut(HEAD_BYTES);
        sealer
            .open(head.seq, head.offset, head.nonce, block)
            .map_err(|_| wrong())?;
        self.seq = Some(found.seq);
        Ok(())
    }

    /// What of the extent lies in `at..end` of the lane.
    pub(super) fn plaintext(&self, found: &Found, at: u64, end: u64) -> &[u8] {
        let place = |offset: u64| {
            usize::try_from(offset - found.offset).map_or(usize::MAX, |skip| HEAD_BYTES + skip)
        };
        self.buffer.get(place(at)..place(end)).unwrap_or(&[])
    }
}
