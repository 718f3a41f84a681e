//! Compression of what is forwarded: one gzip member (RFC 1952) or one zstd frame (RFC 8878).
//!
//! Neither holds a time or a name, and both are the same for every cut of the input.

use std::io::{self, Write};

use flate2::write::GzEncoder;

use crate::policy::contract::OutputCompression;

/// What is forwarded, on its way out.
pub(crate) struct Packer {
    work: Work,
    /// Less than a block: what a compressor makes depends on the pieces it is given.
    pending: Vec<u8>,
}

enum Work {
    Gzip(GzEncoder<Vec<u8>>),
    None,
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// It has failed, or has come to its end.
    Over,
}

/// As of gzip itself: the usual weight between size and time.
const GZIP_LEVEL: u32 = 6;
/// As of zstd itself.
const ZSTD_LEVEL: i32 = 3;
/// Bytes that are compressed together.
const BLOCK_BYTES: usize = 64 * 1024;

// === impl Packer ===

impl Packer {
    pub(crate) fn new(compression: OutputCompression) -> Self {
        let work = match compression {
            OutputCompression::Gzip => Work::Gzip(GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(GZIP_LEVEL),
            )),
            OutputCompression::None => Work::None,
            // Without memory it has failed from the start.
            OutputCompression::Zstd => zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)
                .map_or(Work::Over, Work::Zstd),
        };
        Self {
            work,
            pending: Vec::new(),
        }
    }

    /// Nothing is done to what goes through.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self.work, Work::None)
    }

    /// Takes `plain`, which is empty then, and appends what has come of it to `out`.
    ///
    /// # Errors
    /// There is no memory for it, or was none earlier.
    pub(crate) fn take(&mut self, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
        self.pending.append(plain);
        let whole = self.pending.len() - self.pending.len() % BLOCK_BYTES;
        let blocks = self.pending.get(..whole).unwrap_or_default();
        for block in blocks.chunks(BLOCK_BYTES) {
            self.work.take(block, out)?;
        }
        self.pending.drain(..whole);
        Ok(())
    }

    /// Appends what is still to come.
    ///
    /// # Errors
    /// There is no memory for it, or was none earlier.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.work.take(&self.pending, out)?;
        self.pending.clear();
        let mut rest = match std::mem::replace(&mut self.work, Work::Over) {
            Work::Gzip(packer) => packer.finish()?,
            Work::None => Vec::new(),
            Work::Zstd(packer) => packer.finish()?,
            Work::Over => return Err(io::ErrorKind::OutOfMemory.into()),
        };
        out.append(&mut rest);
        Ok(())
    }
}

// === impl Work ===

impl Work {
    fn take(&mut self, block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let taken = match self {
            Self::Gzip(packer) => packer
                .write_all(block)
                .map(|()| out.append(packer.get_mut())),
            Self::None => {
                out.extend_from_slice(block);
                Ok(())
            }
            Self::Zstd(packer) => packer
                .write_all(block)
                .map(|()| out.append(packer.get_mut())),
            Self::Over => Err(io::ErrorKind::OutOfMemory.into()),
        };
        if taken.is_err() {
            *self = Self::Over;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(packing: OutputCompression, input: &[u8], piece: usize) -> Vec<u8> {
        let mut packer = Packer::new(packing);
        let mut out = Vec::new();
        for piece in input.chunks(piece) {
            packer.take(&mut piece.to_vec(), &mut out).unwrap();
        }
        packer.finish(&mut out).unwrap();
        assert!(packer.finish(&mut out).is_err());
        out
    }

    #[test]
    fn what_is_packed_is_the_same_for_every_cut_and_opens_again() {
        let input: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| format!("{},{}\n", n, n.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        for packing in [OutputCompression::Gzip, OutputCompression::Zstd] {
            let whole = packed(packing, &input, input.len());
            assert!(whole.len() < input.len());
            for piece in [1_000_000, 65_536, 777] {
                assert!(
                    packed(packing, &input, piece) == whole,
                    "{packing:?} {piece}"
                );
            }
            let mut opened = Vec::new();
            match packing {
                OutputCompression::Gzip => {
                    let mut reader = flate2::read::GzDecoder::new(whole.as_slice());
                    io::Read::read_to_end(&mut reader, &mut opened).unwrap();
                }
                OutputCompression::Zstd => {
                    opened = zstd::stream::decode_all(whole.as_slice()).unwrap();
                }
                OutputCompression::None => {}
            }
            assert_eq!(opened, input);
        }
        assert_eq!(packed(OutputCompression::None, b"abc", 2), b"abc");
    }
}
