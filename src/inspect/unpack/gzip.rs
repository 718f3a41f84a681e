//! gzip (RFC 1952): every member whole, its checksum and length right.

use flate2::Crc;

use crate::decode::Flow;
use crate::inspect::unpack::inflate::{Inflate, Inflated};
use crate::inspect::unpack::{Fed, Out, UnpackFault};

/// The two bytes every member starts with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A gzip stream being read.
pub(super) struct Gunzip {
    /// The text of the current member.
    inflate: Inflate,
    step: Step,
    /// Bytes of a fixed-size field, and how many of them are there.
    field: [u8; 10],
    filled: usize,
    flags: u8,
    header_sum: Crc,
    members: u64,
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
    pub(super) fn new() -> Self {
        Self {
            inflate: Inflate::new(),
            step: Step::Fixed,
            field: [0; 10],
            filled: 0,
            flags: 0,
            header_sum: Crc::new(),
            members: 0,
        }
    }

    /// No member has begun that has not ended, and there was one.
    pub(super) fn is_whole(&self) -> bool {
        self.step == Step::Fixed && self.filled == 0 && self.members > 0
    }

    /// Takes compressed bytes.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Out<'_>) -> Fed {
        while !input.is_empty() {
            input = match self.step {
                Step::Text => match self.inflate.feed(input, out)? {
                    Inflated::All => &[],
                    Inflated::Ended(rest) => {
                        self.step = Step::Trailer;
                        self.filled = 0;
                        rest
                    }
                    Inflated::Stopped => return Ok(Flow::Stop),
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

    fn fixed<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], UnpackFault> {
        // Byte by byte as far as the magic goes, so that what follows a member is judged at
        // its first byte that is none.
        let size = if self.filled < 2 { self.filled + 1 } else { 10 };
        let rest = self.fill(size, input);
        let seen = self.field.get(..self.filled.min(2)).unwrap_or_default();
        if !MAGIC.starts_with(seen) {
            return Err(if self.members == 0 {
                UnpackFault::Header
            } else {
                UnpackFault::Trailing
            });
        }
        if self.filled == 10 {
            let [_, _, method, flags, ..] = self.field;
            if method != DEFLATE || flags & RESERVED != 0 {
                return Err(UnpackFault::Header);
            }
            self.flags = flags;
            self.header_sum.reset();
            self.header_sum.update(&self.field);
            self.inflate.reset();
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

    fn header_sum<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], UnpackFault> {
        let rest = self.fill(2, input);
        if self.filled == 2 {
            let [low, high, ..] = self.field;
            let [sum_low, sum_high, ..] = self.header_sum.sum().to_le_bytes();
            if [low, high] != [sum_low, sum_high] {
                return Err(UnpackFault::Checksum);
            }
            self.after(Step::HeaderSum);
        }
        Ok(rest)
    }

    fn trailer<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], UnpackFault> {
        let rest = self.fill(8, input);
        if self.filled == 8 {
            let words = self.field.as_chunks::<4>().0;
            let [sum, size] = [0, 1].map(|at| words.get(at).copied().unwrap_or_default());
            if u32::from_le_bytes(sum) != self.inflate.sum() {
                return Err(UnpackFault::Checksum);
            }
            if u64::from(u32::from_le_bytes(size)) != self.inflate.text_bytes() % (1 << 32) {
                return Err(UnpackFault::Length);
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

    use super::*;
    use crate::inspect::unpack::Packing;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    /// One member that holds `text`.
    pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn check(file: &[u8], expect: Result<&[u8], UnpackFault>) {
        crate::inspect::unpack::tests::check(Packing::Gzip, file, expect);
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
        check(&bad, Err(UnpackFault::Checksum));
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
        check(&flip(size - 8), Err(UnpackFault::Checksum));
        check(&flip(size - 4), Err(UnpackFault::Length));
        check(&flip(2), Err(UnpackFault::Header));
        let mut reserved = good.clone();
        reserved[3] = 0x20;
        check(&reserved, Err(UnpackFault::Header));
        let mut block = good.clone();
        block[10] = 0b111;
        check(&block, Err(UnpackFault::Broken));
        for cut in 1..size {
            check(&good[..cut], Err(UnpackFault::Truncated));
        }
        check(b"", Err(UnpackFault::Truncated));
        for tail in [&b"x"[..], b"\0\0", b"\x1f\x00"] {
            check(&[&good, tail].concat(), Err(UnpackFault::Trailing));
        }
        check(&[&good, &good[..1]].concat(), Err(UnpackFault::Truncated));
        check(&[&good, &good[..12]].concat(), Err(UnpackFault::Truncated));
    }
}
