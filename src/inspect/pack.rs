//! What is forwarded, packed: one gzip member (RFC 1952), one zstd frame (RFC 8878), or Parquet.
//!
//! None of them holds a time or a name, and each is the same for every cut of the input.

use std::io::{self, Write};

use flate2::write::GzEncoder;

#[cfg(feature = "columnar")]
use crate::inspect::parquet::Parquet;
use crate::policy::contract::{Contract, OutputCompression, OutputFormat};

/// What is forwarded, on its way out.
pub(crate) struct Packer {
    work: Work,
    /// Less than a block: what a compressor makes depends on the pieces it is given.
    pending: Vec<u8>,
}

enum Work {
    Gzip(GzEncoder<Vec<u8>>),
    None,
    #[cfg(feature = "columnar")]
    Parquet(Box<Parquet>),
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
    pub(crate) fn new(contract: &Contract) -> Self {
        let work = match contract.output {
            OutputFormat::Csv | OutputFormat::Json(_) => Work::new(contract.output_compression),
            OutputFormat::Parquet => Work::parquet(contract),
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
        #[cfg(feature = "columnar")]
        if let Work::Parquet(packer) = &mut self.work {
            let taken = packer.take(plain, out);
            if taken.is_err() {
                self.work = Work::Over;
            }
            return taken;
        }
        if matches!(self.work, Work::Over) {
            self.pending = Vec::new();
            plain.clear();
            return Err(io::ErrorKind::OutOfMemory.into());
        }
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
        if !self.pending.is_empty() {
            self.work.take(&self.pending, out)?;
            self.pending.clear();
        }
        let mut rest = match std::mem::replace(&mut self.work, Work::Over) {
            Work::Gzip(packer) => packer.finish()?,
            Work::None => Vec::new(),
            #[cfg(feature = "columnar")]
            Work::Parquet(packer) => return packer.finish(out),
            Work::Zstd(packer) => packer.finish()?,
            Work::Over => return Err(io::ErrorKind::OutOfMemory.into()),
        };
        out.append(&mut rest);
        Ok(())
    }
}

// === impl Work ===

impl Work {
    fn new(compression: OutputCompression) -> Self {
        match compression {
            OutputCompression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(GzEncoder::new(Vec::new(), level))
            }
            OutputCompression::None => Self::None,
            // Without memory it has failed from the start.
            OutputCompression::Zstd => zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)
                .map_or(Self::Over, Self::Zstd),
        }
    }

    #[cfg(feature = "columnar")]
    fn parquet(contract: &Contract) -> Self {
        let packer = contract
            .schema
            .as_ref()
            .map(|schema| Parquet::new(schema, contract.output_compression));
        packer.map_or(Self::Over, |packer| Self::Parquet(Box::new(packer)))
    }

    /// Policy takes no such output without the feature.
    #[cfg(not(feature = "columnar"))]
    fn parquet(_: &Contract) -> Self {
        Self::Over
    }

    fn take(&mut self, block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let taken = match self {
            Self::Gzip(packer) => packer
                .write_all(block)
                .map(|()| out.append(packer.get_mut())),
            Self::None => {
                out.extend_from_slice(block);
                Ok(())
            }
            // It takes rows, not blocks.
            #[cfg(feature = "columnar")]
            Self::Parquet(_) => Ok(()),
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
        let mut packer = Packer {
            work: Work::new(packing),
            pending: Vec::new(),
        };
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
