//! gzip (RFC 1952) as a stream, strictly: every member whole, its checksum and length right, and
//! nothing behind the last one.
//!
//! Output is handed on in small pieces and never kept. Two caps stop bombs, both at places that
//! depend on the bytes alone: the output cap at its exact byte, the ratio at every 4096th
//! compressed byte and at the end.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::terms::limits;

/// The two bytes every member starts with.
pub(crate) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A gzip stream being read.
pub(crate) struct Gunzip {
    inflate: Decompress,
    piece: Vec<u8>,
    step: Step,
    /// Bytes of a fixed-size field, and how many of them are there.
    field: [u8; 10],
    filled: usize,
    flags: u8,
    header_sum: Crc,
    text_sum: Crc,
    members: u64,
    taken: u64,
    given: u64,
    /// `given` when the current member began.
    member_start: u64,
    ratio_max: u64,
    output_bytes_max: u64,
}

/// Whether the receiver of the output wants more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More, please.
    Go,
    /// The file is refused already.
    Stop,
}

/// Why a gzip stream is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GunzipFault {
    /// The compressed data cannot be.
    Broken,
    /// The checksum of the text or of the header differs.
    Checksum,
    /// A member's header is none.
    Header,
    /// The length in the trailer differs.
    Length,
    /// More text than the contract allows.
    Output,
    /// The text is too many times larger than the file.
    Ratio,
    /// Something follows the last member.
    Trailing,
    /// The stream ends early.
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Fixed,
    ExtraLength,
    Extra(u16),
    Name,
    Comment,
    HeaderSum,
    Text,
    Trailer,
}

const HAS_HEADER_SUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;
const DEFLATE: u8 = 8;

// === impl Gunzip ===

impl Gunzip {
    /// Waits for the first member.
    pub(crate) fn new(ratio_max: u64, output_bytes_max: u64) -> Self {
        Self {
            inflate: Decompress::new(false),
            piece: vec![0; limits::INFLATE_PIECE_BYTES],
            step: Step::Fixed,
            field: [0; 10],
            filled: 0,
            flags: 0,
            header_sum: Crc::new(),
            text_sum: Crc::new(),
            members: 0,
            taken: 0,
            given: 0,
            member_start: 0,
            ratio_max,
            output_bytes_max,
        }
    }

    /// Bytes handed on so far.
    pub(crate) fn given(&self) -> u64 {
        self.given
    }

    /// Takes compressed bytes and hands text on, until `sink` wants no more.
    ///
    /// # Errors
    /// [`GunzipFault`]; the text before it has been handed on.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Flow,
    ) -> Result<(), GunzipFault> {
        while !input.is_empty() {
            let step = limits::INFLATE_RATIO_STEP_BYTES;
            let until = usize::try_from(step - self.taken % step).unwrap_or(usize::MAX);
            let (now, later) = input
                .split_at_checked(until.min(input.len()))
                .unwrap_or((input, &[]));
            self.taken += u64::try_from(now.len()).unwrap_or(0);
            if self.feed(now, &mut sink)? == Flow::Stop {
                return Ok(());
            }
            if self.taken.is_multiple_of(step) {
                self.within_ratio()?;
            }
            input = later;
        }
        Ok(())
    }

    /// The last byte has been pushed.
    ///
    /// # Errors
    /// [`GunzipFault::Truncated`] inside a member, [`GunzipFault::Ratio`].
    pub(crate) fn finish(&self) -> Result<(), GunzipFault> {
        if self.step != Step::Fixed || self.filled > 0 || self.members == 0 {
            return Err(GunzipFault::Truncated);
        }
        self.within_ratio()
    }

    fn within_ratio(&self) -> Result<(), GunzipFault> {
        let most = self.taken.saturating_mul(self.ratio_max);
        if self.given > limits::INFLATE_RATIO_FREE_BYTES && self.given > most {
            return Err(GunzipFault::Ratio);
        }
        Ok(())
    }

    fn feed(
        &mut self,
        mut input: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Flow,
    ) -> Result<Flow, GunzipFault> {
        while !input.is_empty() {
            input = match self.step {
                Step::Text => match self.inflate(input, sink)? {
                    Some(rest) => rest,
                    None => return Ok(Flow::Stop),
                },
                Step::Fixed => self.fixed(input)?,
                Step::ExtraLength => self.extra_length(input),
                Step::Extra(left) => self.extra(left, input),
                Step::Name => self.text_field(HAS_NAME, input),
                Step::Comment => self.text_field(HAS_COMMENT, input),
                Step::HeaderSum => self.header_sum(input)?,
                Step::Trailer => self.trailer(input)?,
            };
        }
        Ok(Flow::Go)
    }

    /// Inflates until the input is used up or the member's text ends; `None`: the sink stopped.
    fn inflate<'i>(
        &mut self,
        mut input: &'i [u8],
        sink: &mut impl FnMut(&[u8]) -> Flow,
    ) -> Result<Option<&'i [u8]>, GunzipFault> {
        loop {
            let left = self.output_bytes_max - self.given;
            // One byte more than allowed tells that the cap is passed.
            let room = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX);
            let room = room.min(self.piece.len());
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let result = match self.piece.get_mut(..room) {
                Some(piece) => self.inflate.decompress(input, piece, FlushDecompress::None),
                None => return Err(GunzipFault::Broken),
            };
            let read = self.inflate.total_in() - before_in;
            let wrote = self.inflate.total_out() - before_out;
            let read = usize::try_from(read).unwrap_or(usize::MAX);
            input = input.get(read..).unwrap_or_default();
            let allowed = usize::try_from(wrote.min(left)).unwrap_or(0);
            let text = self.piece.get(..allowed).unwrap_or_default();
            if !text.is_empty() {
                self.text_sum.update(text);
                self.given += wrote.min(left);
                if sink(text) == Flow::Stop {
                    return Ok(None);
                }
            }
            if wrote > left {
                return Err(GunzipFault::Output);
            }
            match result {
                Err(_) => return Err(GunzipFault::Broken),
                Ok(Status::StreamEnd) => {
                    self.step = Step::Trailer;
                    self.filled = 0;
                    return Ok(Some(input));
                }
                Ok(Status::Ok | Status::BufError) => {
                    let is_full = usize::try_from(wrote).is_ok_and(|wrote| wrote == room);
                    if input.is_empty() && !is_full {
                        return Ok(Some(input));
                    }
                    if read == 0 && wrote == 0 {
                        // No progress with input and room at hand: never seen, never looped on.
                        return Err(GunzipFault::Broken);
                    }
                }
            }
        }
    }

    /// Fills the field up to `size` bytes; the rest of the input.
    fn fill<'i>(&mut self, size: usize, input: &'i [u8]) -> &'i [u8] {
        let missing = size.saturating_sub(self.filled).min(input.len());
        let (now, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
        let free = self.field.iter_mut().skip(self.filled);
        for (to, from) in free.zip(now) {
            *to = *from;
        }
        self.filled += missing;
        rest
    }

    fn fixed<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], GunzipFault> {
        // Byte by byte as far as the magic goes, so that what follows a member is judged at
        // its first byte that is none.
        let size = if self.filled < 2 { self.filled + 1 } else { 10 };
        let rest = self.fill(size, input);
        let seen = self.field.get(..self.filled.min(2)).unwrap_or_default();
        if !MAGIC.starts_with(seen) {
            return Err(if self.members == 0 {
                GunzipFault::Header
            } else {
                GunzipFault::Trailing
            });
        }
        if self.filled == 10 {
            let [_, _, method, flags, ..] = self.field;
            if method != DEFLATE || flags & RESERVED != 0 {
                return Err(GunzipFault::Header);
            }
            self.flags = flags;
            self.header_sum.reset();
            self.header_sum.update(&self.field);
            self.text_sum.reset();
            self.inflate.reset(false);
            self.member_start = self.given;
            self.after(Step::Fixed);
        }
        Ok(rest)
    }

    /// The step that follows one of the header's, by its flags.
    fn after(&mut self, done: Step) {
        let has = |flag| self.flags & flag != 0;
        self.step = match done {
            Step::Fixed if has(HAS_EXTRA) => Step::ExtraLength,
            Step::Fixed | Step::ExtraLength | Step::Extra(_) if has(HAS_NAME) => Step::Name,
            Step::Fixed | Step::ExtraLength | Step::Extra(_) | Step::Name if has(HAS_COMMENT) => {
                Step::Comment
            }
            Step::Fixed | Step::ExtraLength | Step::Extra(_) | Step::Name | Step::Comment
                if has(HAS_HEADER_SUM) =>
            {
                Step::HeaderSum
            }
            Step::Trailer => Step::Fixed,
            Step::Fixed
            | Step::ExtraLength
            | Step::Extra(_)
            | Step::Name
            | Step::Comment
            | Step::HeaderSum
            | Step::Text => Step::Text,
        };
        self.filled = 0;
    }

    fn extra_length<'i>(&mut self, input: &'i [u8]) -> &'i [u8] {
        let rest = self.fill(2, input);
        if self.filled == 2 {
            let [low, high, ..] = self.field;
            self.header_sum.update(&[low, high]);
            match u16::from_le_bytes([low, high]) {
                0 => self.after(Step::Extra(0)),
                length => {
                    self.step = Step::Extra(length);
                    self.filled = 0;
                }
            }
        }
        rest
    }

    fn extra<'i>(&mut self, left: u16, input: &'i [u8]) -> &'i [u8] {
        let now = usize::from(left).min(input.len());
        let (skipped, rest) = input.split_at_checked(now).unwrap_or((input, &[]));
        self.header_sum.update(skipped);
        match left.saturating_sub(u16::try_from(now).unwrap_or(u16::MAX)) {
            0 => self.after(Step::Extra(0)),
            left => self.step = Step::Extra(left),
        }
        rest
    }

    /// A name or comment, ended by a zero byte. Neither is used for anything.
    fn text_field<'i>(&mut self, flag: u8, input: &'i [u8]) -> &'i [u8] {
        let end = memchr::memchr(0, input);
        let taken = end.map_or(input.len(), |at| at + 1);
        let (skipped, rest) = input.split_at_checked(taken).unwrap_or((input, &[]));
        self.header_sum.update(skipped);
        if end.is_some() {
            self.after(if flag == HAS_NAME {
                Step::Name
            } else {
                Step::Comment
            });
        }
        rest
    }

    fn header_sum<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], GunzipFault> {
        let rest = self.fill(2, input);
        if self.filled == 2 {
            let [low, high, ..] = self.field;
            let [sum_low, sum_high, ..] = self.header_sum.sum().to_le_bytes();
            if [low, high] != [sum_low, sum_high] {
                return Err(GunzipFault::Checksum);
            }
            self.after(Step::HeaderSum);
        }
        Ok(rest)
    }

    fn trailer<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], GunzipFault> {
        let rest = self.fill(8, input);
        if self.filled == 8 {
            let words = self.field.as_chunks::<4>().0;
            let [sum, size] = [0, 1].map(|at| words.get(at).copied().unwrap_or_default());
            if u32::from_le_bytes(sum) != self.text_sum.sum() {
                return Err(GunzipFault::Checksum);
            }
            let length = (self.given - self.member_start) % (1 << 32);
            if u64::from(u32::from_le_bytes(size)) != length {
                return Err(GunzipFault::Length);
            }
            self.members += 1;
            self.after(Step::Trailer);
        }
        Ok(rest)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    /// One member that holds `text`.
    pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(
        file: &[u8],
        piece: usize,
        ratio_max: u64,
        output_bytes_max: u64,
    ) -> (Vec<u8>, Result<(), GunzipFault>) {
        let mut gunzip = Gunzip::new(ratio_max, output_bytes_max);
        let mut text = Vec::new();
        for now in file.chunks(piece) {
            let result = gunzip.push(now, |out| {
                assert!(out.len() <= limits::INFLATE_PIECE_BYTES);
                text.extend_from_slice(out);
                Flow::Go
            });
            if result.is_err() {
                return (text, result);
            }
        }
        let result = gunzip.finish();
        (text, result)
    }

    #[track_caller]
    fn check(file: &[u8], expect: Result<&[u8], GunzipFault>) {
        let (whole, result) = read(file, usize::MAX, 200, 1 << 30);
        match expect {
            Ok(text) => assert_eq!((whole.as_slice(), result), (text, Ok(()))),
            Err(fault) => assert_eq!(result, Err(fault)),
        }
        for piece in 1..file.len().min(300) {
            assert_eq!(
                read(file, piece, 200, 1 << 30),
                (whole.clone(), result),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn whole_files_of_one_or_more_members_are_read() {
        check(&gzip(b"hello"), Ok(b"hello"));
        check(&gzip(b""), Ok(b""));
        let several = [gzip(b"a,b\n"), gzip(b""), gzip(b"c,d\n")].concat();
        check(&several, Ok(b"a,b\nc,d\n"));
    }

    #[test]
    fn headers_may_have_every_field() {
        // RFC 1952 section 2.3: FEXTRA, FNAME, FCOMMENT, FHCRC.
        let plain = gzip(b"hello");
        let mut header = vec![0x1f, 0x8b, 8, 0b1_1110, 0, 0, 0, 0, 0, 255];
        header.extend_from_slice(&[3, 0, 1, 0, 2]);
        header.extend_from_slice(b"name.csv\0a comment\0");
        let mut sum = Crc::new();
        sum.update(&header);
        header.extend_from_slice(&sum.sum().to_le_bytes()[..2]);
        let good = [header.clone(), plain[10..].to_vec()].concat();
        check(&good, Ok(b"hello"));
        let last = header.len() - 1;
        header[last] ^= 1;
        let bad = [header, plain[10..].to_vec()].concat();
        check(&bad, Err(GunzipFault::Checksum));
    }

    #[test]
    fn damage_is_told_as_what_it_is() {
        let good = gzip(b"hello, hello, hello");
        let flip = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            bad
        };
        let size = good.len();
        check(&flip(size - 8), Err(GunzipFault::Checksum));
        check(&flip(size - 4), Err(GunzipFault::Length));
        check(&flip(2), Err(GunzipFault::Header));
        let mut reserved = good.clone();
        reserved[3] = 0x20;
        check(&reserved, Err(GunzipFault::Header));
        let mut block = good.clone();
        block[10] = 0b111;
        check(&block, Err(GunzipFault::Broken));
        for cut in 1..size {
            check(&good[..cut], Err(GunzipFault::Truncated));
        }
        check(b"", Err(GunzipFault::Truncated));
        for tail in [&b"x"[..], b"\0\0", b"\x1f\x00"] {
            check(&[&good, tail].concat(), Err(GunzipFault::Trailing));
        }
        check(&[&good, &good[..1]].concat(), Err(GunzipFault::Truncated));
        check(&[&good, &good[..12]].concat(), Err(GunzipFault::Truncated));
    }

    #[test]
    fn a_bomb_is_stopped_by_its_ratio_and_a_small_file_is_not() {
        let bomb = gzip(&vec![b'x'; 20_000_000]);
        let (text, result) = read(&bomb, usize::MAX, 200, 1 << 40);
        assert_eq!(result, Err(GunzipFault::Ratio));
        assert!(text.len() < 8_000_000, "{} bytes got through", text.len());
        for piece in [1, 100, 4095, 4096, 4097] {
            let cut = read(&bomb, piece, 200, 1 << 40);
            assert!(cut == (text.clone(), result), "pieces of {piece}");
        }
        let small = gzip(&vec![b'x'; 60_000]);
        assert_eq!(read(&small, 7, 200, 1 << 40).1, Ok(()));
        let larger = gzip(&vec![b'x'; 70_000]);
        assert_eq!(read(&larger, 7, 200, 1 << 40).1, Err(GunzipFault::Ratio));
    }

    #[test]
    fn the_output_cap_strikes_at_its_byte() {
        let file = gzip(b"0123456789");
        for piece in [1, 3, 100] {
            assert_eq!(
                read(&file, piece, 200, 10),
                (b"0123456789".to_vec(), Ok(()))
            );
            assert_eq!(
                read(&file, piece, 200, 9),
                (b"012345678".to_vec(), Err(GunzipFault::Output))
            );
        }
    }

    #[test]
    fn nothing_is_read_after_the_sink_stops() {
        let mut gunzip = Gunzip::new(200, 1 << 30);
        let mut calls = 0;
        let result = gunzip.push(&gzip(&vec![b'x'; 300_000]), |_| {
            calls += 1;
            Flow::Stop
        });
        assert_eq!((result, calls), (Ok(()), 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cuts_change_nothing_even_in_damaged_files(
            text in prop::collection::vec(0..6_u8, 0..3000),
            at in any::<prop::sample::Index>(),
            flip in any::<u8>(),
            piece in 1..50_usize,
        ) {
            let mut file = gzip(&text);
            let at = at.index(file.len());
            file[at] ^= flip;
            let whole = read(&file, usize::MAX, 200, 2500);
            prop_assert_eq!(&read(&file, 1, 200, 2500), &whole);
            prop_assert_eq!(&read(&file, piece, 200, 2500), &whole);
            if flip == 0 && text.len() <= 2500 {
                prop_assert_eq!(whole, (text, Ok(())));
            }
        }
    }
}
