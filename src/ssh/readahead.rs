//! The part of an object that a download has in memory: what was fetched ahead of its READs.
//!
//! Clients ask for 32 to 255 KiB at a time, many at once, in order. Pieces are fetched one after
//! the other up to a bound ahead of what was asked for; what has been sent is let go. A READ
//! elsewhere moves the window there. Bookkeeping only: nothing here fetches anything.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::terms::limits;

/// A window over an object of known size.
#[derive(Debug)]
pub(super) struct Window {
    bytes: u64,
    /// Offset of the first piece.
    start: u64,
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    held: u64,
    /// What is being fetched.
    fetching: Option<u64>,
    failed: Option<String>,
}

/// The answer to a READ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Behind the last byte.
    End,
    /// The object cannot be read.
    Failed(String),
    /// The bytes; fewer than asked for only at the end of the object.
    Here(Bytes),
    /// Not here yet.
    NotYet,
}

/// Bytes fetched at once.
const PIECE_BYTES: u64 = 256 * 1024;

// === impl Window ===

impl Window {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            start: 0,
            pieces: VecDeque::new(),
            held: 0,
            fetching: None,
            failed: None,
        }
    }

    /// The object's size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is at `offset`, at most `most` bytes. Lets go of what lies before it, but for one
    /// piece: requests may come slightly out of order.
    pub(super) fn read(&mut self, offset: u64, most: u64) -> Found {
        if let Some(why) = &self.failed {
            return Found::Failed(why.clone());
        }
        if offset >= self.bytes {
            return Found::End;
        }
        let end = self.start.saturating_add(self.held);
        if offset < self.start || offset >= end.saturating_add(PIECE_BYTES) {
            self.start = offset;
            self.pieces.clear();
            self.held = 0;
        }
        self.let_go(offset);
        let till = offset.saturating_add(most).min(self.bytes);
        if till == offset {
            return Found::Here(Bytes::new());
        }
        if till > self.start.saturating_add(self.held) {
            return Found::NotYet;
        }
        self.cut_out(offset, till)
    }

    /// The bytes between two offsets that the window holds; of one piece without a copy.
    fn cut_out(&self, offset: u64, till: u64) -> Found {
        let mut at = self.start;
        let mut whole: Option<BytesMut> = None;
        for piece in &self.pieces {
            let end = at.saturating_add(u64_of(piece.len()));
            let from = index(offset.max(at).min(end).saturating_sub(at));
            let to = index(till.max(at).min(end).saturating_sub(at));
            at = end;
            if from >= to {
                continue;
            }
            let part = piece.slice(from..to);
            if whole.is_none() && u64_of(part.len()) == till.saturating_sub(offset) {
                return Found::Here(part);
            }
            whole.get_or_insert_default().extend_from_slice(&part);
        }
        whole.map_or(Found::NotYet, |whole| Found::Here(whole.freeze()))
    }

    /// What to fetch next, if anything: offset and bytes. Nothing while a fetch is running.
    pub(super) fn wants(&mut self) -> Option<(u64, usize)> {
        let end = self.start.saturating_add(self.held);
        let is_full = self.held >= limits::READ_AHEAD_BYTES_MAX;
        if self.fetching.is_some() || self.failed.is_some() || is_full || end >= self.bytes {
            return None;
        }
        self.fetching = Some(end);
        let bytes = PIECE_BYTES.min(self.bytes - end);
        Some((end, usize::try_from(bytes).unwrap_or(0)))
    }

    /// A fetch has ended. One for a place the window has left is of no use.
    pub(super) fn arrived(&mut self, offset: u64, piece: Result<Bytes, String>) {
        if self.fetching != Some(offset) {
            return;
        }
        self.fetching = None;
        match piece {
            Ok(piece) if piece.is_empty() => {
                self.failed = Some("the file has become shorter".to_owned());
            }
            Ok(piece) if offset == self.start.saturating_add(self.held) => {
                self.held = self.held.saturating_add(u64_of(piece.len()));
                self.pieces.push_back(piece);
            }
            Ok(_) => {}
            Err(why) => self.failed = Some(why),
        }
    }

    fn let_go(&mut self, offset: u64) {
        let keep_from = offset.saturating_sub(PIECE_BYTES);
        while let Some(front) = self.pieces.front() {
            let length = u64_of(front.len());
            if self.start.saturating_add(length) > keep_from {
                return;
            }
            self.start = self.start.saturating_add(length);
            self.held = self.held.saturating_sub(length);
            self.pieces.pop_front();
        }
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn u64_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object whose every byte tells where it lies.
    fn content(offset: u64, bytes: usize) -> Bytes {
        let bytes = u64_of(bytes);
        (offset..offset + bytes)
            .map(|at| (at % 251).to_le_bytes()[0])
            .collect()
    }

    /// Answers a READ as a channel does, fetching until it can; counts the fetches.
    fn read(window: &mut Window, offset: u64, most: u64) -> (Found, u32) {
        let mut fetches = 0;
        loop {
            let found = window.read(offset, most);
            if found != Found::NotYet {
                return (found, fetches);
            }
            let (at, bytes) = window.wants().expect("nothing to wait for");
            fetches += 1;
            window.arrived(at, Ok(content(at, bytes)));
        }
    }

    #[test]
    fn a_file_read_in_order_is_fetched_once_and_comes_out_unchanged() {
        let bytes = 3 * PIECE_BYTES + 12_345;
        let mut window = Window::new(bytes);
        let (mut offset, mut fetches) = (0, 0);
        loop {
            match read(&mut window, offset, 30_000) {
                (Found::Here(part), n) => {
                    assert_eq!(part, content(offset, part.len()), "at {offset}");
                    let whole = 30_000.min(bytes - offset);
                    assert_eq!(u64_of(part.len()), whole, "short at {offset}");
                    offset += u64_of(part.len());
                    fetches += n;
                }
                (Found::End, _) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((offset, fetches), (bytes, 4));
    }

    #[test]
    fn ahead_of_the_reader_there_is_a_bound_and_behind_it_one_piece() {
        let mut window = Window::new(1 << 40);
        read(&mut window, 0, 1);
        while let Some((at, bytes)) = window.wants() {
            assert!(window.wants().is_none(), "one at a time");
            window.arrived(at, Ok(content(at, bytes)));
        }
        assert_eq!(window.held, limits::READ_AHEAD_BYTES_MAX);
        read(&mut window, 5 * PIECE_BYTES, 1);
        assert_eq!(window.start, 4 * PIECE_BYTES);
        assert!(window.wants().is_some());
    }

    #[test]
    fn a_read_elsewhere_moves_the_window_and_a_late_piece_is_not_taken_for_another() {
        let mut window = Window::new(1 << 40);
        let (at, bytes) = {
            assert_eq!(window.read(0, 10), Found::NotYet);
            window.wants().unwrap()
        };
        assert_eq!(window.read(1 << 30, 10), Found::NotYet);
        assert!(window.wants().is_none(), "the first fetch is still running");
        window.arrived(at, Ok(content(at, bytes)));
        assert_eq!(window.read(1 << 30, 10), Found::NotYet);
        let (found, _) = read(&mut window, 1 << 30, 10);
        assert_eq!(found, Found::Here(content(1 << 30, 10)));
        let (found, _) = read(&mut window, 77, 10);
        assert_eq!(found, Found::Here(content(77, 10)));
    }

    #[test]
    fn a_failure_stays_and_the_end_is_the_end() {
        let mut window = Window::new(100);
        assert_eq!(window.read(100, 1), Found::End);
        assert_eq!(window.read(u64::MAX, 1), Found::End);
        assert_eq!(window.read(5, 0), Found::Here(Bytes::new()));
        assert_eq!(window.read(0, 1), Found::NotYet);
        let (at, _) = window.wants().unwrap();
        window.arrived(at, Err("gone".to_owned()));
        assert_eq!(window.read(0, 1), Found::Failed("gone".to_owned()));
        let mut window = Window::new(100);
        assert_eq!(window.read(0, 1), Found::NotYet);
        let (at, _) = window.wants().unwrap();
        window.arrived(at, Ok(Bytes::new()));
        assert!(matches!(window.read(0, 1), Found::Failed(_)));
        assert!(Window::new(0).wants().is_none());
    }
}
