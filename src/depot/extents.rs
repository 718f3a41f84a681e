//! How a sealed lane is laid out, and which of its extents count for which bytes.
//!
//! A lane is `SPSPOOL1`, the submission id (16 bytes) and the lane (1 byte: 1 raw, 2 out), then
//! extents in order of seq, each `offset u64, length u32, seq u64, nonce 12, ciphertext, tag 16`,
//! numbers big endian. An extent of length 0 is a truncation: it forgets what lies at and after
//! its offset. Where extents overlap the later seq wins. The same bytes are a file of the spool
//! or the inline form in the ledger.
//!
//! Nothing in here writes, and a head is believed only after its extent has opened or the digest
//! over all heads and tags has been compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::seal::{Lane, Sealer};
use crate::terms::ids::SubmissionId;
use crate::terms::limits;

/// What stands before the ciphertext of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of its first plaintext byte; of a truncation, the new size.
    pub(super) offset: u64,
    /// Plaintext bytes; 0 for a truncation.
    pub(super) bytes: u32,
    /// Its number in the lane, from 0.
    pub(super) seq: u64,
    /// Random.
    pub(super) nonce: [u8; 12],
}

/// Which extent holds which plaintext byte.
///
/// Memory stays small for what clients really do: extents of one size that follow each other in
/// offset, seq and place are one [`Run`], however long.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Disjoint, by first byte.
    pieces: BTreeMap<u64, Piece>,
    /// The union of all pieces, merged: first byte, end.
    covered: BTreeMap<u64, u64>,
    /// The piece the next extent may lengthen.
    latest: Option<u64>,
    /// Lowest byte ever replaced or truncated.
    rewritten_from: Option<u64>,
}

/// Plaintext bytes up to `end` that are to be read from `run`.
#[derive(Clone, Copy, Debug)]
struct Piece {
    end: u64,
    run: Run,
}

/// Extents that follow each other; all but the last hold `stride` plaintext bytes.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Offset of the first.
    offset: u64,
    /// Plaintext bytes of all.
    bytes: u64,
    /// Plaintext bytes of one.
    stride: u64,
    /// Where the first one's head lies.
    place: u64,
    /// Of the first.
    seq: u64,
}

/// The extent that holds a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where its head lies.
    pub(super) place: u64,
    /// Its number.
    pub(super) seq: u64,
    /// Of its first plaintext byte.
    pub(super) offset: u64,
    /// Plaintext bytes.
    pub(super) bytes: u64,
    /// End of the part of it that counts, from the byte asked for on.
    pub(super) until: u64,
}

/// Where sealed bytes are read from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'s> {
    /// A file of the spool.
    File(&'s File),
    /// The inline form.
    Memory(&'s [u8]),
}

/// How much of a lane a scan makes sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Heads and tags, whose digest the caller compares with the one it remembers.
    Digest,
    /// Every extent is opened.
    Open,
}

/// What a scan found.
pub(super) struct Scan {
    /// What counts.
    pub(super) index: Index,
    /// Over head and tag of every extent, in order.
    pub(super) digest: Context,
    /// The next extent's number.
    pub(super) seq: u64,
    /// Plaintext bytes of all extents together.
    pub(super) written: u64,
    /// Bytes up to the end of the last good extent; 0 when not even the lane's head is whole.
    pub(super) length: u64,
    /// Bytes there are. More than `length`: what follows is no extent.
    pub(super) total: u64,
}

/// The lane's head: magic, submission, lane.
pub(super) fn lane_head(id: SubmissionId, lane: Lane) -> [u8; LANE_HEAD_BYTES] {
    joined(&[MAGIC, &id.to_bytes(), &[lane.code()]])
}

/// Reads a lane from its head on, as far as it is sound. The caller judges what a difference of
/// `length` and `total` means.
///
/// # Errors
/// Of the disk; `InvalidData` for the head of another lane.
pub(super) fn scan(
    source: Source<'_>,
    lane_head: &[u8; LANE_HEAD_BYTES],
    sealer: &Sealer,
    depth: Depth,
) -> io::Result<Scan> {
    let total = source.bytes()?;
    let mut scan = Scan {
        index: Index::default(),
        digest: Context::new(&SHA256),
        seq: 0,
        written: 0,
        length: 0,
        total,
    };
    let mut head = [0_u8; LANE_HEAD_BYTES];
    let there = usize::try_from(total).map_or(LANE_HEAD_BYTES, |t| t.min(LANE_HEAD_BYTES));
    let (front, _) = head.split_at_mut(there);
    source.read_exact_at(0, front)?;
    let is_torn = there < LANE_HEAD_BYTES && is_zero(front);
    if !is_torn && !lane_head.starts_with(front) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if there < LANE_HEAD_BYTES {
        return Ok(scan);
    }
    scan.length = u64_of(LANE_HEAD_BYTES);
    let mut block = Zeroizing::new(Vec::new());
    while let Some((head, tag)) = next_extent(&scan, source, sealer, depth, &mut block)? {
        scan.digest.update(&head.encode());
        scan.digest.update(&tag);
        if head.bytes == 0 {
            scan.index.truncate(head.offset);
        } else {
            scan.index.insert(&head, scan.length);
        }
        scan.seq += 1;
        scan.written += u64::from(head.bytes);
        scan.length += head.sealed_bytes();
    }
    Ok(scan)
}

/// Whether what follows the last good extent of a scan is the trace of a crash while appending:
/// less than one extent, or one that does not open, or zeros; never anything before an extent
/// that opens, and never a whole first extent (then the key is wrong).
///
/// # Errors
/// Of the disk.
pub(super) fn is_torn(scan: &Scan, source: Source<'_>, sealer: &Sealer) -> io::Result<bool> {
    let rest = scan.total - scan.length;
    let longest = u64_of(HEAD_BYTES + limits::EXTENT_BYTES_MAX + TAG_BYTES);
    let mut tail = vec![0_u8; usize::try_from(rest.min(longest)).unwrap_or(0)];
    source.read_exact_at(scan.length, &mut tail)?;
    if rest > longest {
        return Ok(is_zero(&tail) && is_zero_from(source, scan.length + longest, scan.total)?);
    }
    if is_zero(&tail) {
        return Ok(true);
    }
    let whole = |bytes: &[u8], seq: u64| {
        let head = Head::decode(bytes).filter(|head| head.seq == seq)?;
        let block = bytes.get(HEAD_BYTES..usize::try_from(head.sealed_bytes()).ok()?)?;
        Some((head, block.to_vec()))
    };
    if scan.seq == 0 && whole(&tail, 0).is_some() {
        return Ok(false);
    }
    let mut later = (1..tail.len()).filter_map(|at| whole(tail.get(at..)?, scan.seq + 1));
    Ok(!later.any(|(head, block)| {
        let mut block = Zeroizing::new(block);
        sealer
            .open(head.seq, head.offset, head.nonce, &mut block)
            .is_ok()
    }))
}

/// The extent after the last good one, or `None` when there is none that is sound.
fn next_extent(
    scan: &Scan,
    source: Source<'_>,
    sealer: &Sealer,
    depth: Depth,
    block: &mut Vec<u8>,
) -> io::Result<Option<(Head, [u8; TAG_BYTES])>> {
    let rest = scan.total - scan.length;
    if rest < u64_of(HEAD_BYTES + TAG_BYTES) {
        return Ok(None);
    }
    let mut head = [0_u8; HEAD_BYTES];
    source.read_exact_at(scan.length, &mut head)?;
    let Some(head) = Head::decode(&head) else {
        return Ok(None);
    };
    if head.seq != scan.seq || head.sealed_bytes() > rest {
        return Ok(None);
    }
    let body = scan.length + u64_of(HEAD_BYTES);
    let mut tag = [0_u8; TAG_BYTES];
    source.read_exact_at(body + u64::from(head.bytes), &mut tag)?;
    // A truncation holds no bytes whose reading would open it.
    if depth == Depth::Open || head.bytes == 0 {
        block.resize(head.plain_bytes() + TAG_BYTES, 0);
        source.read_exact_at(body, block)?;
        if sealer
            .open(head.seq, head.offset, head.nonce, block)
            .is_err()
        {
            return Ok(None);
        }
    }
    Ok(Some((head, tag)))
}

fn is_zero_from(source: Source<'_>, from: u64, to: u64) -> io::Result<bool> {
    let mut block = vec![0_u8; limits::EXTENT_BYTES_MAX];
    let mut at = from;
    while at < to {
        let bytes = usize::try_from(to - at).map_or(block.len(), |rest| rest.min(block.len()));
        let (front, _) = block.split_at_mut(bytes);
        source.read_exact_at(at, front)?;
        if !is_zero(front) {
            return Ok(false);
        }
        at += u64_of(bytes);
    }
    Ok(true)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

// === impl Head ===

impl Head {
    /// As it lies before the ciphertext.
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        joined(&[
            &self.offset.to_be_bytes(),
            &self.bytes.to_be_bytes(),
            &self.seq.to_be_bytes(),
            &self.nonce,
        ])
    }

    /// Back from the first 32 bytes; `None` when they are fewer, or no extent can be so.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (nonce, _) = rest.split_first_chunk::<12>()?;
        let head = Self {
            offset: u64::from_be_bytes(*offset),
            bytes: u32::from_be_bytes(*length),
            seq: u64::from_be_bytes(*seq),
            nonce: *nonce,
        };
        let fits = head.plain_bytes() <= limits::EXTENT_BYTES_MAX
            && head.offset <= OFFSET_MAX - u64::from(head.bytes);
        fits.then_some(head)
    }

    /// Plaintext bytes.
    pub(super) fn plain_bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// Head, ciphertext and tag.
    pub(super) fn sealed_bytes(&self) -> u64 {
        u64_of(HEAD_BYTES + TAG_BYTES) + u64::from(self.bytes)
    }
}

// === impl Index ===

impl Index {
    /// Takes in the extent whose head lies at `place`; it hides what it overlaps.
    pub(super) fn insert(&mut self, head: &Head, place: u64) {
        let (offset, bytes) = (head.offset, u64::from(head.bytes));
        let end = offset + bytes;
        if let Some(lowest) = self.lowest_covered(offset, end) {
            self.note_rewrite(lowest);
            self.cut(offset, end);
        }
        self.cover(offset, end);
        if let Some(piece) = self.latest.and_then(|at| self.pieces.get_mut(&at))
            && piece.end == offset
            && piece.run.goes_on_with(head, place)
        {
            piece.end = end;
            piece.run.bytes += bytes;
            return;
        }
        let run = Run {
            offset,
            bytes,
            stride: bytes,
            place,
            seq: head.seq,
        };
        self.pieces.insert(offset, Piece { end, run });
        self.latest = Some(offset);
    }

    /// Forgets what lies at and after `bytes`.
    pub(super) fn truncate(&mut self, bytes: u64) {
        if self.end() <= bytes {
            return;
        }
        self.note_rewrite(bytes);
        self.cut(bytes, u64::MAX);
        drop(self.covered.split_off(&bytes));
        if let Some(mut last) = self.covered.last_entry() {
            let end = (*last.get()).min(bytes);
            last.insert(end);
        }
    }

    /// The extent that holds the byte at `offset`.
    pub(super) fn find(&self, offset: u64) -> Option<Found> {
        let (_, piece) = self.pieces.range(..=offset).next_back()?;
        if piece.end <= offset {
            return None;
        }
        let run = &piece.run;
        let number = (offset - run.offset) / run.stride;
        let first = run.offset + number * run.stride;
        let bytes = run.stride.min(run.offset + run.bytes - first);
        Some(Found {
            place: run.place_of(number),
            seq: run.seq + number,
            offset: first,
            bytes,
            until: piece.end.min(first + bytes),
        })
    }

    /// Bytes contiguous from 0.
    pub(super) fn contiguous(&self) -> u64 {
        self.covered.get(&0).copied().unwrap_or(0)
    }

    /// End of the furthest byte.
    pub(super) fn end(&self) -> u64 {
        self.covered.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// How far bytes reach without a gap from `offset` on, which is taken as there.
    pub(super) fn reach(&self, offset: u64) -> u64 {
        self.covered
            .range(..=offset)
            .next_back()
            .map_or(offset, |(_, end)| offset.max(*end))
    }

    /// Lowest byte that was replaced or truncated.
    pub(super) fn rewritten_from(&self) -> Option<u64> {
        self.rewritten_from
    }

    /// The past is no longer of interest: whoever reads begins anew.
    pub(super) fn forget_rewrites(&mut self) {
        self.rewritten_from = None;
    }

    /// In how many pieces it lies.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    fn note_rewrite(&mut self, at: u64) {
        self.rewritten_from = Some(self.rewritten_from.map_or(at, |lowest| lowest.min(at)));
    }

    fn lowest_covered(&self, start: u64, end: u64) -> Option<u64> {
        match self.covered.range(..=start).next_back() {
            Some((_, stop)) if *stop > start => Some(start),
            _ => self.covered.range(start..end).next().map(|(at, _)| *at),
        }
    }

    /// Takes `start..end` out of the pieces, splitting those that reach over its borders.
    fn cut(&mut self, start: u64, end: u64) {
        if let Some((_, piece)) = self.pieces.range_mut(..start).next_back()
            && piece.end > start
        {
            let (stop, run) = (piece.end, piece.run);
            piece.end = start;
            if stop > end {
                self.pieces.insert(end, Piece { end: stop, run });
            }
        }
        while let Some((&at, &piece)) = self.pieces.range(start..end).next() {
            self.pieces.remove(&at);
            if piece.end > end {
                self.pieces.insert(end, piece);
            }
        }
    }

    /// Adds `start..end` to what is covered, merging what touches.
    fn cover(&mut self, mut start: u64, mut end: u64) {
        if let Some((at, stop)) = self.covered.range(..=start).next_back()
            && *stop >= start
        {
            (start, end) = (*at, end.max(*stop));
        }
        while let Some((&at, &stop)) = self.covered.range(start..=end).next() {
            self.covered.remove(&at);
            end = end.max(stop);
        }
        self.covered.insert(start, end);
    }
}

// === impl Run ===

impl Run {
    /// Whether an extent is what would come next, in bytes, number and place.
    fn goes_on_with(&self, head: &Head, place: u64) -> bool {
        let number = self.bytes / self.stride;
        self.bytes.is_multiple_of(self.stride)
            && self.offset + self.bytes == head.offset
            && u64::from(head.bytes) <= self.stride
            && self.seq + number == head.seq
            && self.place_of(number) == place
    }

    fn place_of(&self, number: u64) -> u64 {
        self.place + number * (self.stride + u64_of(HEAD_BYTES + TAG_BYTES))
    }
}

// === impl Source ===

impl Source<'_> {
    fn bytes(self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(bytes) => Ok(u64_of(bytes.len())),
        }
    }

    /// Fills `buffer` from `at` on.
    ///
    /// # Errors
    /// Of the disk; `UnexpectedEof` when there is not so much.
    pub(super) fn read_exact_at(self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, at),
            Self::Memory(bytes) => {
                let part = usize::try_from(at)
                    .ok()
                    .and_then(|at| bytes.get(at..)?.get(..buffer.len()))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(part);
                Ok(())
            }
        }
    }
}

/// Lengths in memory as offsets.
pub(super) fn u64_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0_u8; N];
    for (slot, byte) in out.iter_mut().zip(parts.iter().copied().flatten()) {
        *slot = *byte;
    }
    out
}

/// The format and its version.
const MAGIC: &[u8] = b"SPSPOOL1";
/// Bytes of the lane's head.
pub(super) const LANE_HEAD_BYTES: usize = 25;
/// Bytes before an extent's ciphertext.
pub(super) const HEAD_BYTES: usize = 32;
/// Bytes after it.
pub(super) const TAG_BYTES: usize = 16;
/// Files end here at the latest: offsets of system calls are signed.
pub(super) const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(offset: u64, bytes: u32, seq: u64) -> Head {
        Head {
            offset,
            bytes,
            seq,
            nonce: [9; 12],
        }
    }

    #[test]
    fn a_head_is_laid_out_big_endian_and_read_back() {
        let head = head(0x0102, 0x0304, 0x0506);
        let bytes = head.encode();
        let expect = [
            [0, 0, 0, 0, 0, 0, 1, 2].as_slice(),
            &[0, 0, 3, 4],
            &[0, 0, 0, 0, 0, 0, 5, 6],
            &[9; 12],
        ]
        .concat();
        assert_eq!(bytes.as_slice(), expect);
        assert_eq!(Head::decode(&bytes), Some(head));
        assert_eq!(Head::decode(&bytes[..31]), None);
    }

    #[test]
    fn a_head_that_no_extent_can_have_is_none() {
        assert!(Head::decode(&head(0, 65_536, 0).encode()).is_some());
        assert_eq!(Head::decode(&head(0, 65_537, 0).encode()), None);
        assert_eq!(Head::decode(&head(OFFSET_MAX, 1, 0).encode()), None);
        assert_eq!(Head::decode(&head(u64::MAX, 0, 0).encode()), None);
    }

    #[test]
    fn a_sequential_lane_is_one_piece_however_long() {
        let mut index = Index::default();
        for seq in 0..10_000 {
            index.insert(&head(seq * 65_536, 65_536, seq), 25 + seq * 65_584);
        }
        index.insert(&head(10_000 * 65_536, 7, 10_000), 25 + 10_000 * 65_584);
        assert_eq!(index.pieces(), 1);
        assert_eq!(index.contiguous(), 10_000 * 65_536 + 7);
        assert_eq!(
            index.find(10_000 * 65_536 + 3),
            Some(Found {
                place: 25 + 10_000 * 65_584,
                seq: 10_000,
                offset: 10_000 * 65_536,
                bytes: 7,
                until: 10_000 * 65_536 + 7,
            })
        );
        assert_eq!(index.find(10_000 * 65_536 + 7), None);
    }

    proptest! {
        #[test]
        fn for_every_byte_the_latest_extent_over_it_is_found(
            acts in prop::collection::vec((0_u64..200, 0_u32..40), 0..60),
        ) {
            let mut index = Index::default();
            let mut model: Vec<Option<(u64, u64, u64)>> = vec![None; 256];
            let (mut place, mut lowest) = (25, None::<u64>);
            for (seq, (offset, bytes)) in (0_u64..).zip(acts) {
                let head = head(offset, bytes, seq);
                let end = if bytes == 0 { 256 } else { offset + u64::from(bytes) };
                for at in offset..end {
                    let slot = &mut model[usize::try_from(at).unwrap()];
                    if slot.is_some() {
                        let floor = if bytes == 0 { offset } else { at };
                        lowest = Some(lowest.map_or(floor, |l| l.min(floor)));
                    }
                    *slot = (bytes > 0).then_some((seq, place, offset));
                }
                if bytes == 0 {
                    index.truncate(offset);
                } else {
                    index.insert(&head, place);
                }
                place += head.sealed_bytes();
            }
            for (at, want) in (0_u64..).zip(&model) {
                let found = index.find(at);
                prop_assert_eq!(found.map(|f| (f.seq, f.place, f.offset)), *want);
                if let Some(found) = found {
                    prop_assert!(at < found.until && found.until <= found.offset + found.bytes);
                    let last = usize::try_from(found.until - 1).unwrap();
                    prop_assert_eq!(model[last].map(|m| m.0), Some(found.seq));
                }
            }
            let holes = model.iter().position(Option::is_none).unwrap();
            prop_assert_eq!(index.contiguous(), u64_of(holes));
            let end = model.iter().rposition(Option::is_some).map_or(0, |at| at + 1);
            prop_assert_eq!(index.end(), u64_of(end));
            prop_assert_eq!(index.rewritten_from(), lowest);
            for at in 0..256_usize {
                let gap = model[at..].iter().position(Option::is_none).unwrap_or(256 - at);
                prop_assert_eq!(index.reach(u64_of(at)), u64_of(at + gap));
            }
        }
    }
}
