//! Zstandard (RFC 8878): every frame whole; several may follow each other, and skippable ones
//! between them.
//!
//! The library gets a frame in its own parts, each whole: when one is broken, it tells nothing of
//! what it had read of it, and where a part ends must not depend on how the file was cut. A frame
//! may ask for a window of up to 8 MiB, what section 3.1.1.1.2 recommends every decoder to have;
//! `zstd --ultra` and `--long` ask for more, and are refused by name.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use crate::decode::Flow;
use crate::inspect::unpack::{Fed, Out, UnpackFault};
use crate::terms::limits;

/// Zstandard frames being read.
pub(super) struct Unzstd {
    context: DCtx<'static>,
    piece: Vec<u8>,
    part: Part,
    /// Bytes of the current part, and how many it takes.
    bytes: Vec<u8>,
    wanted: usize,
    /// The frame has a checksum behind its last block.
    has_checksum: bool,
    frames: u64,
}

/// What is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Magic,
    /// The magic and the byte behind it, which tells how long the header is.
    Descriptor,
    Header,
    BlockHeader,
    Block {
        is_last: bool,
    },
    Checksum,
    /// How long a skippable frame is.
    SkipLength,
    /// So many bytes of it are left; they are not collected.
    Skip(u32),
}

/// What every frame with data starts with (section 3.1.1), little endian.
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// What a skippable frame starts with (section 3.1.2) behind its first byte, 0x50 to 0x5F.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const BLOCK_HEADER_BYTES: usize = 3;
/// Largest block (section 3.1.1.2.4).
const BLOCK_BYTES_MAX: usize = 128 * 1024;
const CHECKSUM_BYTES: usize = 4;
/// `ZSTD_error_frameParameter_windowTooLarge`
const WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";

// === impl Unzstd ===

impl Unzstd {
    pub(super) fn new() -> Self {
        let mut context = DCtx::create();
        // Refused only by a library without this parameter; ours has it.
        let bounded = context.set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG_MAX));
        debug_assert!(bounded.is_ok(), "the window is bounded");
        Self {
            context,
            piece: vec![0; limits::INFLATE_PIECE_BYTES],
            part: Part::Magic,
            bytes: Vec::new(),
            wanted: MAGIC.len(),
            has_checksum: false,
            frames: 0,
        }
    }

    /// No frame has begun that has not ended, and there was one.
    pub(super) fn is_whole(&self) -> bool {
        self.part == Part::Magic && self.bytes.is_empty() && self.frames > 0
    }

    /// Takes compressed bytes.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Out<'_>) -> Fed {
        while !input.is_empty() {
            if let Part::Skip(left) = self.part {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                input = input.get(count..).unwrap_or_default();
                let left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                self.skip(left);
                continue;
            }
            // Byte by byte as far as the magic goes, so that what follows a frame is judged at its
            // first byte that is none.
            let missing = if self.part == Part::Magic {
                1
            } else {
                self.wanted.saturating_sub(self.bytes.len())
            };
            let (now, rest) = input.split_at(missing.min(input.len()));
            self.bytes.extend_from_slice(now);
            input = rest;
            if self.part == Part::Magic && !self.may_begin() {
                return Err(if self.frames == 0 {
                    UnpackFault::Header
                } else {
                    UnpackFault::Trailing
                });
            }
            if self.bytes.len() == self.wanted && self.act(out)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Go)
    }

    /// Whether what was seen of the next frame is how one begins.
    fn may_begin(&self) -> bool {
        let Some((first, rest)) = self.bytes.split_first() else {
            return true;
        };
        MAGIC.starts_with(&self.bytes)
            || (matches!(first, 0x50..=0x5f) && SKIPPABLE.starts_with(rest))
    }

    /// A part is whole.
    fn act(&mut self, out: &mut Out<'_>) -> Fed {
        match self.part {
            Part::Magic if self.bytes == MAGIC => self.go_on(Part::Descriptor, 1),
            Part::Magic => {
                self.bytes.clear();
                self.expect(Part::SkipLength, 4);
            }
            Part::Descriptor => {
                let descriptor = self.bytes.last().copied().unwrap_or_default();
                self.has_checksum = descriptor & 1 << 2 != 0;
                self.go_on(Part::Header, header_bytes(descriptor));
            }
            Part::Header => {
                if self.decompress(out)? == Flow::Stop {
                    return Ok(Flow::Stop);
                }
                self.expect(Part::BlockHeader, BLOCK_HEADER_BYTES);
            }
            Part::BlockHeader => {
                let header = match *self.bytes.as_slice() {
                    [low, middle, high] => u32::from_le_bytes([low, middle, high, 0]),
                    _ => return Err(UnpackFault::Broken),
                };
                let size = usize::try_from(header >> 3).unwrap_or(usize::MAX);
                let content = match header >> 1 & 3 {
                    // One byte, to be repeated.
                    1 => 1,
                    _ => size,
                };
                if content > BLOCK_BYTES_MAX {
                    return Err(UnpackFault::Broken);
                }
                let is_last = header & 1 == 1;
                self.go_on(Part::Block { is_last }, content);
                if content == 0 {
                    return self.act(out);
                }
            }
            Part::Block { is_last } => {
                if self.decompress(out)? == Flow::Stop {
                    return Ok(Flow::Stop);
                }
                match (is_last, self.has_checksum) {
                    (false, _) => self.expect(Part::BlockHeader, BLOCK_HEADER_BYTES),
                    (true, true) => self.expect(Part::Checksum, CHECKSUM_BYTES),
                    (true, false) => self.end_frame(),
                }
            }
            Part::Checksum => {
                if self.decompress(out)? == Flow::Stop {
                    return Ok(Flow::Stop);
                }
                self.end_frame();
            }
            Part::SkipLength => {
                let length = self
                    .bytes
                    .as_slice()
                    .try_into()
                    .map_or(0, u32::from_le_bytes);
                self.bytes.clear();
                self.skip(length);
            }
            Part::Skip(_) => {}
        }
        Ok(Flow::Go)
    }

    fn expect(&mut self, part: Part, bytes: usize) {
        self.part = part;
        self.wanted = bytes;
    }

    /// Collects more behind what is there.
    fn go_on(&mut self, part: Part, more: usize) {
        self.expect(part, self.bytes.len() + more);
    }

    fn skip(&mut self, left: u32) {
        self.part = Part::Skip(left);
        if left == 0 {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        self.frames += 1;
        self.expect(Part::Magic, MAGIC.len());
    }

    /// Gives the library a whole part, and hands on what comes of it.
    fn decompress(&mut self, out: &mut Out<'_>) -> Fed {
        let mut reading = InBuffer::around(&self.bytes);
        loop {
            let before = reading.pos();
            let mut writing = OutBuffer::around(self.piece.as_mut_slice());
            let result = self.context.decompress_stream(&mut writing, &mut reading);
            let wrote = writing.pos();
            result.map_err(fault)?;
            if out.give(self.piece.get(..wrote).unwrap_or_default())? == Flow::Stop {
                return Ok(Flow::Stop);
            }
            if reading.pos() == self.bytes.len() && wrote < self.piece.len() {
                break;
            }
            if reading.pos() == before && wrote == 0 {
                // No progress with input and room at hand: never seen, never looped on.
                return Err(UnpackFault::Broken);
            }
        }
        self.bytes.clear();
        Ok(Flow::Go)
    }
}

/// Bytes of a frame header behind its descriptor (section 3.1.1.1).
fn header_bytes(descriptor: u8) -> usize {
    let is_single = descriptor & 1 << 5 != 0;
    let window = usize::from(!is_single);
    let dictionary = match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let content = match descriptor >> 6 {
        0 => usize::from(is_single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    window + dictionary + content
}

/// The library tells errors by number; their names are what stays the same.
fn fault(code: usize) -> UnpackFault {
    let name = get_error_name(code);
    // Ours, and not the file's: the task ends, and the file is tried again.
    assert!(
        !name.starts_with("Allocation error"),
        "no memory to unpack zstd"
    );
    if name.contains("checksum") {
        UnpackFault::Checksum
    } else if name == WINDOW_TOO_LARGE {
        UnpackFault::Window
    } else {
        UnpackFault::Broken
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use zstd::stream::raw::CParameter;
    use zstd::stream::write::Encoder;

    use super::*;
    use crate::inspect::unpack::Packing;
    use crate::inspect::unpack::tests::check;

    fn packed(text: &[u8], parameters: &[CParameter]) -> Vec<u8> {
        use std::io::Write as _;
        let mut encoder = Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        for parameter in parameters {
            encoder.set_parameter(*parameter).unwrap();
        }
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// One frame that holds `text`, with a checksum.
    pub(crate) fn zstd(text: &[u8]) -> Vec<u8> {
        packed(text, &[])
    }

    #[test]
    fn several_frames_are_one_text_and_skippable_ones_are_skipped() {
        let skippable = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let several = [zstd(b"a,b\n"), skippable.clone(), zstd(b"c,d\n")].concat();
        check(Packing::Zstd, &several, Ok(b"a,b\nc,d\n"));
        check(Packing::Zstd, &skippable, Ok(b""));
        let cut = &several[..several.len() - 20];
        check(Packing::Zstd, cut, Err(UnpackFault::Truncated));
    }

    #[test]
    fn damage_is_told_as_what_it_is() {
        let good = zstd(b"hello, hello, hello");
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        check(Packing::Zstd, &bad, Err(UnpackFault::Checksum));
        check(Packing::Zstd, b"\x28\xb5\x2f\xfe", Err(UnpackFault::Header));
        check(
            Packing::Zstd,
            b"\x28\xb5\x2f\xfd\x20\x05\x07\0\0",
            Err(UnpackFault::Broken),
        );
    }

    #[test]
    fn a_window_that_takes_much_memory_is_refused() {
        let small = packed(&[b'x'; 100], &[CParameter::WindowLog(23)]);
        check(Packing::Zstd, &small, Ok(&[b'x'; 100]));
        let large = packed(&[b'x'; 100], &[CParameter::WindowLog(24)]);
        check(Packing::Zstd, &large, Err(UnpackFault::Window));
    }
}
