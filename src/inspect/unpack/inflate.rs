//! Deflate (RFC 1951), as gzip and zip have it inside: text, its checksum and both lengths.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::decode::Flow;
use crate::inspect::unpack::{Out, UnpackFault};
use crate::terms::limits;

/// Deflated data being read.
pub(super) struct Inflate {
    stream: Decompress,
    piece: Vec<u8>,
    sum: Crc,
}

/// How far the input was read.
pub(super) enum Inflated<'i> {
    /// To its end, and more must come.
    All,
    /// To the end of the data; this follows it.
    Ended(&'i [u8]),
    /// Nobody wants more.
    Stopped,
}

// === impl Inflate ===

impl Inflate {
    pub(super) fn new() -> Self {
        Self {
            stream: Decompress::new(false),
            piece: vec![0; limits::INFLATE_PIECE_BYTES],
            sum: Crc::new(),
        }
    }

    /// Other data begins.
    pub(super) fn reset(&mut self) {
        self.stream.reset(false);
        self.sum.reset();
    }

    /// CRC-32 of the text so far.
    pub(super) fn sum(&self) -> u32 {
        self.sum.sum()
    }

    /// Deflated bytes read so far.
    pub(super) fn packed_bytes(&self) -> u64 {
        self.stream.total_in()
    }

    /// Bytes of text so far.
    pub(super) fn text_bytes(&self) -> u64 {
        self.stream.total_out()
    }

    /// Inflates until the input is used up or the data ends.
    pub(super) fn feed<'i>(
        &mut self,
        mut input: &'i [u8],
        out: &mut Out<'_>,
    ) -> Result<Inflated<'i>, UnpackFault> {
        loop {
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let result = self
                .stream
                .decompress(input, &mut self.piece, FlushDecompress::None);
            let read = usize::try_from(self.stream.total_in() - before_in).unwrap_or(usize::MAX);
            let wrote = usize::try_from(self.stream.total_out() - before_out).unwrap_or(usize::MAX);
            input = input.get(read..).unwrap_or_default();
            let text = self.piece.get(..wrote).unwrap_or_default();
            self.sum.update(text);
            if out.give(text)? == Flow::Stop {
                return Ok(Inflated::Stopped);
            }
            match result {
                Err(_) => return Err(UnpackFault::Broken),
                Ok(Status::StreamEnd) => return Ok(Inflated::Ended(input)),
                Ok(Status::Ok | Status::BufError) => {
                    if input.is_empty() && wrote < self.piece.len() {
                        return Ok(Inflated::All);
                    }
                    if read == 0 && wrote == 0 {
                        // No progress with input and room at hand: never seen, never looped on.
                        return Err(UnpackFault::Broken);
                    }
                }
            }
        }
    }
}
