//! bzip2: every stream whole; several may follow each other, as parallel compressors write them.
//!
//! Source: the format as bzip2 1.0.8 reads it. Checksums of blocks and of streams are compared by
//! the library, which tells a difference as broken data.

use bzip2::{Decompress, Status};

use crate::decode::Flow;
use crate::inspect::unpack::{Fed, Out, UnpackFault};
use crate::terms::limits;

/// What every stream starts with.
const MAGIC: &[u8] = b"BZh";

/// bzip2 streams being read.
pub(super) struct Bunzip {
    stream: Decompress,
    piece: Vec<u8>,
    /// Bytes of the next stream's magic seen; all of them inside a stream.
    begun: usize,
    streams: u64,
}

// === impl Bunzip ===

impl Bunzip {
    pub(super) fn new() -> Self {
        Self {
            stream: Decompress::new(false),
            piece: vec![0; limits::INFLATE_PIECE_BYTES],
            begun: 0,
            streams: 0,
        }
    }

    /// No stream has begun that has not ended, and there was one.
    pub(super) fn is_whole(&self) -> bool {
        self.begun == 0 && self.streams > 0
    }

    /// Takes compressed bytes.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Out<'_>) -> Fed {
        while let Some((&first, rest)) = input.split_first() {
            if let Some(&expected) = MAGIC.get(self.begun) {
                // Byte by byte, so that what follows a stream is judged at its first byte that is
                // none.
                if first != expected {
                    return Err(if self.streams == 0 {
                        UnpackFault::Header
                    } else {
                        UnpackFault::Trailing
                    });
                }
                self.begun += 1;
                if self.begun == MAGIC.len() {
                    // Each costs up to 4 MB of memory that has to be zeroed.
                    let most =
                        limits::BZIP2_STREAMS_FREE + out.taken() / limits::BZIP2_STREAM_BYTES;
                    if self.streams >= most {
                        return Err(UnpackFault::Pieces);
                    }
                    self.stream = Decompress::new(false);
                    self.decompress(MAGIC, out)?;
                }
                input = rest;
                continue;
            }
            input = match self.decompress(input, out)? {
                Some(rest) => rest,
                None => return Ok(Flow::Stop),
            };
        }
        Ok(Flow::Go)
    }

    /// Decompresses until the input is used up or the stream ends; `None`: nobody wants more.
    fn decompress<'i>(
        &mut self,
        mut input: &'i [u8],
        out: &mut Out<'_>,
    ) -> Result<Option<&'i [u8]>, UnpackFault> {
        loop {
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let result = self.stream.decompress(input, &mut self.piece);
            let read = usize::try_from(self.stream.total_in() - before_in).unwrap_or(usize::MAX);
            let wrote = usize::try_from(self.stream.total_out() - before_out).unwrap_or(usize::MAX);
            input = input.get(read..).unwrap_or_default();
            if out.give(self.piece.get(..wrote).unwrap_or_default())? == Flow::Stop {
                return Ok(None);
            }
            // Ours, and not the file's: the task ends, and the file is tried again.
            assert!(
                !matches!(result, Ok(Status::MemNeeded)),
                "no memory to unpack bzip2"
            );
            match result {
                Err(_) => return Err(UnpackFault::Broken),
                Ok(Status::StreamEnd) => {
                    self.begun = 0;
                    self.streams += 1;
                    return Ok(Some(input));
                }
                Ok(_) if input.is_empty() && wrote < self.piece.len() => return Ok(Some(input)),
                // No progress with input and room at hand: never seen, never looped on.
                Ok(_) if read == 0 && wrote == 0 => return Err(UnpackFault::Broken),
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use bzip2::Compression;
    use bzip2::write::BzEncoder;

    use super::*;
    use crate::inspect::unpack::Packing;
    use crate::inspect::unpack::tests::check;

    /// One stream that holds `text`.
    pub(crate) fn bzip2(text: &[u8]) -> Vec<u8> {
        let mut encoder = BzEncoder::new(Vec::new(), Compression::new(9));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn several_streams_are_one_text() {
        let several = [bzip2(b"a,b\n"), bzip2(b""), bzip2(b"c,d\n")].concat();
        check(Packing::Bzip2, &several, Ok(b"a,b\nc,d\n"));
        for cut in 1..6 {
            let cut = [&bzip2(b"a")[..], &bzip2(b"b")[..cut]].concat();
            check(Packing::Bzip2, &cut, Err(UnpackFault::Truncated));
        }
    }

    #[test]
    fn many_tiny_streams_are_refused() {
        let empty = bzip2(b"");
        let some = empty.repeat(16);
        check(Packing::Bzip2, &some, Ok(b""));
        let many = empty.repeat(200);
        check(Packing::Bzip2, &many, Err(UnpackFault::Pieces));
    }

    #[test]
    fn damage_is_told() {
        let good = bzip2(b"hello, hello, hello");
        for at in [4, 10, 20, good.len() - 4] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            check(Packing::Bzip2, &bad, Err(UnpackFault::Broken));
        }
        check(Packing::Bzip2, b"BZq9", Err(UnpackFault::Header));
    }
}
