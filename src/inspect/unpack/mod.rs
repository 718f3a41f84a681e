//! Compressed files as streams, strictly: whole, with right checksums and lengths, and nothing
//! behind them.
//!
//! Text is handed on in small pieces and never kept. Two caps stop bombs, both at places that
//! depend on the bytes alone: the output cap at its exact byte, the ratio at every 4096th
//! compressed byte and at the end, and never more text than the next such place would allow. What is
//! inside is judged like what was sent, so there are no archives in archives.

mod bzip2;
mod gzip;
mod inflate;
mod zip;
mod zstd;

use crate::decode::Flow;
use crate::inspect::unpack::bzip2::Bunzip;
use crate::inspect::unpack::gzip::Gunzip;
use crate::inspect::unpack::zip::Unzip;
use crate::inspect::unpack::zstd::Unzstd;
use crate::policy::contract::Compression;
use crate::terms::limits;

/// A compressed file being read.
pub(crate) struct Unpack {
    meter: Meter,
    stream: Stream,
}

/// What is compressed how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Bzip2,
    Gzip,
    Zip,
    Zstd,
}

/// Why a compressed file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnpackFault {
    /// The compressed data cannot be.
    Broken,
    /// A checksum differs.
    Checksum,
    /// An archive's directory says something else than its contents.
    Directory,
    /// An archive without a file in it.
    Empty,
    /// It cannot be read without a password.
    Encrypted,
    /// An archive with a folder in it.
    Folder,
    /// The header is none.
    Header,
    /// A length differs.
    Length,
    /// An archive of more than one file.
    Members,
    /// Compressed in a way that is not taken inside this kind of file.
    Method,
    /// Made of many tiny pieces, each of which costs memory and time.
    Pieces,
    /// More text than the contract allows.
    Output,
    /// The text is too many times larger than the file.
    Ratio,
    /// Something follows the last byte.
    Trailing,
    /// It ends early.
    Truncated,
    /// It cannot be read without a large memory.
    Window,
}

enum Stream {
    Bzip2(Box<Bunzip>),
    Gzip(Box<Gunzip>),
    Zip(Box<Unzip>),
    Zstd(Box<Unzstd>),
}

/// What went in and came out, and how much may.
struct Meter {
    taken: u64,
    given: u64,
    ratio_max: u64,
    output_bytes_max: u64,
}

/// Where text goes.
struct Out<'o> {
    meter: &'o mut Meter,
    sink: &'o mut dyn FnMut(&[u8]) -> Flow,
}

/// How text goes on.
type Fed = Result<Flow, UnpackFault>;

// === impl Packing ===

impl Packing {
    /// The word for it, as in policies.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zip => "zip",
            Self::Zstd => "zstd",
        }
    }

    /// The one a contract means; `None` for files as they are.
    pub(crate) fn of(compression: Compression) -> Option<Self> {
        match compression {
            Compression::Bzip2 => Some(Self::Bzip2),
            Compression::Gzip => Some(Self::Gzip),
            Compression::None => None,
            Compression::Zip => Some(Self::Zip),
            Compression::Zstd => Some(Self::Zstd),
        }
    }
}

// === impl Unpack ===

impl Unpack {
    /// Waits for the first byte.
    pub(crate) fn new(packing: Packing, ratio_max: u64, output_bytes_max: u64) -> Self {
        let stream = match packing {
            Packing::Bzip2 => Stream::Bzip2(Box::new(Bunzip::new())),
            Packing::Gzip => Stream::Gzip(Box::new(Gunzip::new())),
            Packing::Zip => Stream::Zip(Box::new(Unzip::new())),
            Packing::Zstd => Stream::Zstd(Box::new(Unzstd::new())),
        };
        let meter = Meter {
            taken: 0,
            given: 0,
            ratio_max,
            output_bytes_max,
        };
        Self { meter, stream }
    }

    /// What it reads.
    pub(crate) fn packing(&self) -> Packing {
        match self.stream {
            Stream::Bzip2(_) => Packing::Bzip2,
            Stream::Gzip(_) => Packing::Gzip,
            Stream::Zip(_) => Packing::Zip,
            Stream::Zstd(_) => Packing::Zstd,
        }
    }

    /// Bytes handed on so far.
    pub(crate) fn given(&self) -> u64 {
        self.meter.given
    }

    /// Takes compressed bytes and hands text on, until `sink` wants no more.
    ///
    /// # Errors
    /// [`UnpackFault`]; the text before it has been handed on.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Flow,
    ) -> Result<(), UnpackFault> {
        while !input.is_empty() {
            let step = limits::INFLATE_RATIO_STEP_BYTES;
            let until = usize::try_from(step - self.meter.taken % step).unwrap_or(usize::MAX);
            let (now, later) = input
                .split_at_checked(until.min(input.len()))
                .unwrap_or((input, &[]));
            self.meter.taken += u64::try_from(now.len()).unwrap_or(0);
            let mut out = Out {
                meter: &mut self.meter,
                sink: &mut sink,
            };
            let fed = match &mut self.stream {
                Stream::Bzip2(bunzip) => bunzip.feed(now, &mut out),
                Stream::Gzip(gunzip) => gunzip.feed(now, &mut out),
                Stream::Zip(unzip) => unzip.feed(now, &mut out),
                Stream::Zstd(unzstd) => unzstd.feed(now, &mut out),
            };
            if fed? == Flow::Stop {
                return Ok(());
            }
            if self.meter.taken.is_multiple_of(step) {
                self.meter.within_ratio()?;
            }
            input = later;
        }
        Ok(())
    }

    /// The last byte has been pushed.
    ///
    /// # Errors
    /// [`UnpackFault::Truncated`] where more must come, [`UnpackFault::Ratio`].
    pub(crate) fn finish(&self) -> Result<(), UnpackFault> {
        let is_whole = match &self.stream {
            Stream::Bzip2(bunzip) => bunzip.is_whole(),
            Stream::Gzip(gunzip) => gunzip.is_whole(),
            Stream::Zip(unzip) => unzip.is_whole(),
            Stream::Zstd(unzstd) => unzstd.is_whole(),
        };
        if !is_whole {
            return Err(UnpackFault::Truncated);
        }
        self.meter.within_ratio()
    }
}

// === impl Meter ===

impl Meter {
    /// How much text may still come, and what more of it would be. Between two looks at the ratio
    /// the later one counts, or a small piece could unpack to gigabytes.
    fn left(&self) -> (u64, UnpackFault) {
        let step = limits::INFLATE_RATIO_STEP_BYTES;
        let taken = self.taken.checked_next_multiple_of(step);
        let most = taken.unwrap_or(u64::MAX).saturating_mul(self.ratio_max);
        let most = most.max(limits::INFLATE_RATIO_FREE_BYTES);
        if self.output_bytes_max <= most {
            (
                self.output_bytes_max.saturating_sub(self.given),
                UnpackFault::Output,
            )
        } else {
            (most.saturating_sub(self.given), UnpackFault::Ratio)
        }
    }

    fn within_ratio(&self) -> Result<(), UnpackFault> {
        let most = self.taken.saturating_mul(self.ratio_max);
        if self.given > limits::INFLATE_RATIO_FREE_BYTES && self.given > most {
            return Err(UnpackFault::Ratio);
        }
        Ok(())
    }
}

// === impl Out ===

impl Out<'_> {
    /// Hands text on, as much as the contract allows.
    fn give(&mut self, text: &[u8]) -> Fed {
        let (left, fault) = self.meter.left();
        let allowed = usize::try_from(left).unwrap_or(usize::MAX);
        let (now, over) = text
            .split_at_checked(allowed.min(text.len()))
            .unwrap_or((text, &[]));
        self.meter.given += u64::try_from(now.len()).unwrap_or(0);
        if !now.is_empty() && (self.sink)(now) == Flow::Stop {
            return Ok(Flow::Stop);
        }
        if over.is_empty() {
            Ok(Flow::Go)
        } else {
            Err(fault)
        }
    }

    /// Compressed bytes taken so far.
    fn taken(&self) -> u64 {
        self.meter.taken
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) use super::bzip2::tests::bzip2;
    pub(crate) use super::gzip::tests::gzip;
    pub(crate) use super::zip::tests::zip;
    pub(crate) use super::zstd::tests::zstd;

    /// All of a file in pieces: its text, and how it ended.
    pub(super) fn read(
        packing: Packing,
        file: &[u8],
        piece: usize,
        (ratio_max, output_bytes_max): (u64, u64),
    ) -> (Vec<u8>, Result<(), UnpackFault>) {
        let mut unpack = Unpack::new(packing, ratio_max, output_bytes_max);
        let mut text = Vec::new();
        for now in file.chunks(piece) {
            let result = unpack.push(now, |out| {
                assert!(out.len() <= limits::INFLATE_PIECE_BYTES);
                text.extend_from_slice(out);
                Flow::Go
            });
            if result.is_err() {
                return (text, result);
            }
        }
        let result = unpack.finish();
        (text, result)
    }

    const WIDE: (u64, u64) = (200, 1 << 30);

    #[track_caller]
    pub(super) fn check(packing: Packing, file: &[u8], expect: Result<&[u8], UnpackFault>) {
        let (whole, result) = read(packing, file, usize::MAX, WIDE);
        match expect {
            Ok(text) => assert_eq!((whole.as_slice(), result), (text, Ok(()))),
            Err(fault) => assert_eq!(result, Err(fault)),
        }
        for piece in 1..file.len().min(300) {
            assert_eq!(
                read(packing, file, piece, WIDE),
                (whole.clone(), result),
                "pieces of {piece}"
            );
        }
    }

    type Pack = fn(&[u8]) -> Vec<u8>;
    const ALL: [(Packing, Pack); 4] = [
        (Packing::Bzip2, bzip2),
        (Packing::Gzip, gzip),
        (Packing::Zip, zip),
        (Packing::Zstd, zstd),
    ];

    #[test]
    fn whole_files_are_read_and_cut_ones_are_truncated() {
        let long: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
        for (packing, pack) in ALL {
            for text in [&b""[..], b"hello, hello, hello"] {
                let file = pack(text);
                check(packing, &file, Ok(text));
                for cut in 0..file.len() {
                    check(packing, &file[..cut], Err(UnpackFault::Truncated));
                }
            }
            let file = pack(&long);
            for piece in [7, 4096, usize::MAX] {
                let got = read(packing, &file, piece, WIDE);
                assert!(got == (long.clone(), Ok(())), "{packing:?}");
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_told() {
        for (packing, pack) in ALL {
            for tail in [&b"x"[..], b"\0\0", b"\n"] {
                let file = [&pack(b"hello"), tail].concat();
                check(packing, &file, Err(UnpackFault::Trailing));
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_by_its_ratio_and_a_small_file_is_not() {
        for (packing, pack) in ALL {
            let bomb = pack(&vec![b'x'; 20_000_000]);
            let (text, result) = read(packing, &bomb, usize::MAX, (200, 1 << 40));
            assert_eq!(result, Err(UnpackFault::Ratio), "{packing:?}");
            for piece in [1, 100, 4095, 4096, 4097] {
                let cut = read(packing, &bomb, piece, (200, 1 << 40));
                assert!(cut == (text.clone(), result), "{packing:?} {piece}");
            }
            let small = pack(&vec![b'x'; 60_000]);
            assert_eq!(read(packing, &small, 7, (200, 1 << 40)).1, Ok(()));
            let larger = pack(&vec![b'x'; 300_000]);
            let result = read(packing, &larger, 7, (200, 1 << 40)).1;
            assert_eq!(result, Err(UnpackFault::Ratio), "{packing:?}");
        }
    }

    #[test]
    fn a_bomb_of_a_few_bytes_gives_no_more_than_its_ratio() {
        for (packing, pack) in ALL {
            let bomb = pack(&vec![b'x'; 20_000_000]);
            let (text, _) = read(packing, &bomb, usize::MAX, (200, 1 << 40));
            let looks = bomb.len().next_multiple_of(4096) * 200;
            assert!(text.len() <= looks, "{packing:?} gave {}", text.len());
        }
        // 45 MB in one block of a few dozen bytes.
        let block = bzip2(&vec![b'x'; 45_000_000]);
        let (text, result) = read(Packing::Bzip2, &block, usize::MAX, (200, 1 << 40));
        assert_eq!((text.len(), result), (4096 * 200, Err(UnpackFault::Ratio)));
    }

    #[test]
    fn the_output_cap_strikes_at_its_byte() {
        for (packing, pack) in ALL {
            let file = pack(b"0123456789");
            for piece in [1, 3, 1000] {
                let text = b"0123456789".to_vec();
                assert_eq!(read(packing, &file, piece, (200, 10)), (text, Ok(())));
                assert_eq!(
                    read(packing, &file, piece, (200, 9)),
                    (b"012345678".to_vec(), Err(UnpackFault::Output))
                );
            }
        }
    }

    #[test]
    fn nothing_is_read_after_the_sink_stops() {
        let long: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
        for (packing, pack) in ALL {
            let mut unpack = Unpack::new(packing, 200, 1 << 30);
            let mut calls = 0;
            let result = unpack.push(&pack(&long), |_| {
                calls += 1;
                Flow::Stop
            });
            assert_eq!((result, calls), (Ok(()), 1), "{packing:?}");
        }
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
            for (packing, pack) in ALL {
                let mut file = pack(&text);
                let at = at.index(file.len());
                file[at] ^= flip;
                let caps = (200, 2500);
                let whole = read(packing, &file, usize::MAX, caps);
                prop_assert_eq!(&read(packing, &file, 1, caps), &whole);
                prop_assert_eq!(&read(packing, &file, piece, caps), &whole);
                if flip == 0 && text.len() <= 2500 {
                    prop_assert_eq!(whole, (text.clone(), Ok(())));
                }
            }
        }
    }
}
