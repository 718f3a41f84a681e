//! zip (PKWARE APPNOTE 6.3.10) with one file in it, read from front to back.
//!
//! What readers usually believe is the directory at the end; what comes first is the file itself.
//! Here both must say the same, and every length and place of the directory must be what was read, so
//! that a program that begins at the end comes upon the same file. The name in
//! the archive is not used for anything. Stored and deflated files are taken, with and without the
//! 64-bit fields.

use flate2::Crc;

use crate::decode::Flow;
use crate::inspect::unpack::inflate::{Inflate, Inflated};
use crate::inspect::unpack::{Fed, Out, UnpackFault};
use crate::terms::limits;

/// A zip archive being read.
pub(super) struct Unzip {
    inflate: Inflate,
    step: Step,
    /// Bytes of the record that is being collected.
    record: Vec<u8>,
    /// How many it takes.
    wanted: usize,
    member: Member,
    /// What was found of a stored file's data.
    stored_sum: Crc,
    stored_bytes: u64,
    /// Bytes of the archive read so far.
    place: u64,
    /// Where the directory begins, and where it ends.
    directory: (u64, u64),
    /// Where the end of the directory in 64 bits begins.
    large_end: u64,
}

/// What the header before the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Member {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    sum: u32,
    packed_bytes: u64,
    text_bytes: u64,
    /// Lengths have 64 bits.
    is_large: bool,
}

/// What is read next. Records are collected whole before they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Four bytes that tell which record follows.
    Signature(After),
    /// The header before the file, then its name and extra fields.
    Header,
    HeaderNames,
    Stored,
    Deflated,
    Descriptor,
    /// The file's entry in the directory, then its name, extra fields and comment.
    Entry,
    /// Text and packed bytes of the entry, where its file begins, and the length of its extra fields.
    EntryNames([u64; 3], u16),
    /// The end of the directory, in 64 bits, and where that is.
    LargeEnd,
    LargeEndRest,
    Locator,
    /// The end of the directory, and the comment behind it.
    End,
    Comment,
    Done,
}

/// What has been read when a signature is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    File,
    /// Deflated or stored data whose checksum and lengths follow it.
    Data,
    Entry,
    LargeEnd,
    Locator,
}

const HEADER: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const ENTRY: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const LARGE_END: u32 = 0x0606_4b50;
const LOCATOR: u32 = 0x0706_4b50;

const SIGNATURE_BYTES: u64 = 4;
/// Bytes of records behind their signature.
const HEADER_BYTES: usize = 26;
const ENTRY_BYTES: usize = 42;
const END_BYTES: usize = 18;
const LARGE_END_LENGTH_BYTES: usize = 8;
const LARGE_END_BYTES_MAX: u64 = 64 * 1024;
const LOCATOR_BYTES: usize = 16;

/// General purpose flags (section 4.4.4).
const IS_ENCRYPTED: u16 = 1;
const HAS_DESCRIPTOR: u16 = 1 << 3;
const IS_STRONGLY_ENCRYPTED: u16 = 1 << 6;
const HAS_MASKED_HEADERS: u16 = 1 << 13;

const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;
/// The extra field that holds lengths of 64 bits (section 4.5.3).
const LARGE_FIELD: u16 = 1;
/// Stands for a length that is in the extra field.
const IN_EXTRA: u64 = 0xffff_ffff;

// === impl Unzip ===

impl Unzip {
    pub(super) fn new() -> Self {
        Self {
            inflate: Inflate::new(),
            step: Step::Signature(After::Nothing),
            record: Vec::new(),
            wanted: 4,
            member: Member::default(),
            stored_sum: Crc::new(),
            stored_bytes: 0,
            place: 0,
            directory: (0, 0),
            large_end: 0,
        }
    }

    /// The end of the directory has been read, and its comment.
    pub(super) fn is_whole(&self) -> bool {
        self.step == Step::Done
    }

    /// Takes the archive's bytes.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Out<'_>) -> Fed {
        while !input.is_empty() {
            input = match self.step {
                Step::Done => return Err(UnpackFault::Trailing),
                Step::Deflated => {
                    let before = self.inflate.packed_bytes();
                    let inflated = self.inflate.feed(input, out)?;
                    self.place += self.inflate.packed_bytes() - before;
                    match inflated {
                        Inflated::All => &[],
                        Inflated::Ended(rest) => {
                            self.end_of_deflated()?;
                            rest
                        }
                        Inflated::Stopped => return Ok(Flow::Stop),
                    }
                }
                Step::Stored => match self.copy(input, out)? {
                    Some(rest) => rest,
                    None => return Ok(Flow::Stop),
                },
                Step::Signature(_)
                | Step::Header
                | Step::HeaderNames
                | Step::Descriptor
                | Step::Entry
                | Step::EntryNames(..)
                | Step::LargeEnd
                | Step::LargeEndRest
                | Step::Locator
                | Step::End
                | Step::Comment => self.collect(input)?,
            };
        }
        Ok(Flow::Go)
    }

    /// Collects a record, and acts on it when it is whole; the rest of the input.
    fn collect<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], UnpackFault> {
        let missing = self.wanted.saturating_sub(self.record.len());
        let (now, rest) = input.split_at(missing.min(input.len()));
        self.record.extend_from_slice(now);
        self.place += u64::try_from(now.len()).unwrap_or(0);
        // A record without bytes is whole at once.
        while self.collects() && self.record.len() == self.wanted {
            let record = std::mem::take(&mut self.record);
            self.act(&mut Fields(&record))
                .unwrap_or(Err(UnpackFault::Broken))?;
        }
        Ok(rest)
    }

    fn collects(&self) -> bool {
        !matches!(self.step, Step::Stored | Step::Deflated | Step::Done)
    }

    fn expect(&mut self, step: Step, bytes: usize) {
        self.step = step;
        self.wanted = bytes;
    }

    /// `None`: the record is shorter than its fields.
    fn act(&mut self, fields: &mut Fields<'_>) -> Option<Result<(), UnpackFault>> {
        match self.step {
            Step::Signature(after) => return Some(self.signature(after, fields.long()?)),
            Step::Header => return self.header(fields),
            Step::HeaderNames => {
                let name = fields.bytes(self.member.name.len())?.to_vec();
                if name.ends_with(b"/") {
                    return Some(Err(UnpackFault::Folder));
                }
                self.member.name = name;
                let member = &mut self.member;
                let lengths = &mut [&mut member.text_bytes, &mut member.packed_bytes];
                member.is_large = fields.large(lengths)?;
                if member.method == METHOD_STORED && member.packed_bytes == 0 {
                    return Some(self.compare());
                }
                self.step = if member.method == METHOD_STORED {
                    Step::Stored
                } else {
                    Step::Deflated
                };
            }
            Step::Descriptor => return self.descriptor(fields),
            Step::Entry => return self.entry(fields),
            Step::EntryNames([mut text, mut packed, mut offset], extra) => {
                let name = fields.bytes(self.member.name.len())?;
                let mut extra = Fields(fields.bytes(extra.into())?);
                extra.large(&mut [&mut text, &mut packed, &mut offset])?;
                let member = &self.member;
                let told = (name, text, packed, offset);
                if told != (&*member.name, member.text_bytes, member.packed_bytes, 0) {
                    return Some(Err(UnpackFault::Directory));
                }
                self.directory.1 = self.place;
                self.signature_after(After::Entry);
            }
            Step::LargeEnd => {
                let length = fields.huge()?;
                if length > LARGE_END_BYTES_MAX {
                    return Some(Err(UnpackFault::Directory));
                }
                self.expect(Step::LargeEndRest, usize::try_from(length).ok()?);
            }
            Step::LargeEndRest => {
                fields.skip(12)?;
                let entries = (fields.huge()?, fields.huge()?);
                let directory = (fields.huge()?, fields.huge()?);
                if entries != (1, 1) || directory != self.length_and_start() {
                    return Some(Err(UnpackFault::Directory));
                }
                self.signature_after(After::LargeEnd);
            }
            Step::Locator => {
                fields.skip(4)?;
                if fields.huge()? != self.large_end {
                    return Some(Err(UnpackFault::Directory));
                }
                self.signature_after(After::Locator);
            }
            Step::End => {
                fields.skip(4)?;
                let entries = (fields.short()?, fields.short()?);
                let told = (u64::from(fields.long()?), u64::from(fields.long()?));
                let is = self.length_and_start();
                // In 64 bits, where they have been compared.
                let is_large = self.large_end > 0;
                let fits = |told, is| told == is || (is_large && told == IN_EXTRA);
                let one = |count| count == 1 || (is_large && count == u16::MAX);
                if !(one(entries.0) && one(entries.1) && fits(told.0, is.0) && fits(told.1, is.1)) {
                    return Some(Err(UnpackFault::Directory));
                }
                let comment = fields.short()?.into();
                self.expect(Step::Comment, comment);
            }
            Step::Comment => {
                // Programs that search the end from behind would find another one.
                if memchr::memmem::find(fields.0, &END.to_le_bytes()).is_some() {
                    return Some(Err(UnpackFault::Directory));
                }
                self.step = Step::Done;
            }
            Step::Stored | Step::Deflated | Step::Done => {}
        }
        Some(Ok(()))
    }

    /// What stands before the file.
    fn header(&mut self, fields: &mut Fields<'_>) -> Option<Result<(), UnpackFault>> {
        fields.skip(2)?;
        self.member = Member {
            flags: fields.short()?,
            method: fields.short()?,
            ..Member::default()
        };
        fields.skip(4)?;
        self.member.sum = fields.long()?;
        self.member.packed_bytes = fields.long()?.into();
        self.member.text_bytes = fields.long()?.into();
        let (name, extra) = (fields.short()?, fields.short()?);
        self.member.name = vec![0; name.into()];
        self.expect(Step::HeaderNames, usize::from(name) + usize::from(extra));
        Some(self.member.can_be_read())
    }

    /// What stands behind the file, where its lengths were not known before.
    fn descriptor(&mut self, fields: &mut Fields<'_>) -> Option<Result<(), UnpackFault>> {
        let long = |fields: &mut Fields<'_>, is_large| {
            if is_large {
                fields.huge()
            } else {
                fields.long().map(u64::from)
            }
        };
        let is_large = self.has_large_descriptor();
        let told = (
            fields.long()?,
            long(fields, is_large)?,
            long(fields, is_large)?,
        );
        let member = &mut self.member;
        let before = (member.sum, member.packed_bytes, member.text_bytes);
        (member.sum, member.packed_bytes, member.text_bytes) = told;
        // Before the data there may be zeros, or the same.
        if before != (0, 0, 0) && before != told {
            return Some(Err(UnpackFault::Directory));
        }
        Some(self.compare())
    }

    /// What the directory says of the file.
    fn entry(&mut self, fields: &mut Fields<'_>) -> Option<Result<(), UnpackFault>> {
        fields.skip(4)?;
        let (flags, method) = (fields.short()?, fields.short()?);
        fields.skip(4)?;
        let sum = fields.long()?;
        let (packed, text) = (fields.long()?.into(), fields.long()?.into());
        let (name, extra, comment) = (fields.short()?, fields.short()?, fields.short()?);
        fields.skip(8)?;
        let offset: u64 = fields.long()?.into();
        let member = &self.member;
        let is_same = (flags, method, sum) == (member.flags, member.method, member.sum)
            && usize::from(name) == member.name.len();
        if !is_same {
            return Some(Err(UnpackFault::Directory));
        }
        let rest = usize::from(name) + usize::from(extra) + usize::from(comment);
        self.expect(Step::EntryNames([text, packed, offset], extra), rest);
        Some(Ok(()))
    }

    /// Of the directory.
    fn length_and_start(&self) -> (u64, u64) {
        let (start, end) = self.directory;
        (end - start, start)
    }

    /// The lengths behind the data have 64 bits: as the header says, or because they need them.
    fn has_large_descriptor(&self) -> bool {
        // Only deflated data has them there.
        let most = self.inflate.packed_bytes().max(self.inflate.text_bytes());
        self.member.is_large || most > IN_EXTRA
    }

    fn signature_after(&mut self, after: After) {
        self.expect(Step::Signature(after), 4);
    }

    fn signature(&mut self, after: After, found: u32) -> Result<(), UnpackFault> {
        let descriptor = if self.has_large_descriptor() { 20 } else { 12 };
        match (after, found) {
            (After::Nothing, HEADER) => self.expect(Step::Header, HEADER_BYTES),
            (After::Nothing, END) => return Err(UnpackFault::Empty),
            (After::Nothing, _) => return Err(UnpackFault::Header),
            (After::Data, DESCRIPTOR) => self.expect(Step::Descriptor, descriptor),
            // The signature may be left out: these are the first four bytes of the record.
            (After::Data, sum) => {
                self.expect(Step::Descriptor, descriptor);
                self.record.extend_from_slice(&sum.to_le_bytes());
            }
            (After::File, HEADER) | (After::Entry, ENTRY) => {
                return Err(UnpackFault::Members);
            }
            (After::File, ENTRY) => {
                self.directory.0 = self.place - SIGNATURE_BYTES;
                self.expect(Step::Entry, ENTRY_BYTES);
            }
            (After::Entry, LARGE_END) => {
                self.large_end = self.place - SIGNATURE_BYTES;
                self.expect(Step::LargeEnd, LARGE_END_LENGTH_BYTES);
            }
            (After::LargeEnd, LOCATOR) => self.expect(Step::Locator, LOCATOR_BYTES),
            (After::Entry | After::Locator, END) => self.expect(Step::End, END_BYTES),
            (After::File | After::Entry | After::LargeEnd | After::Locator, _) => {
                return Err(UnpackFault::Directory);
            }
        }
        Ok(())
    }

    /// Stored bytes; `None`: nobody wants more.
    fn copy<'i>(
        &mut self,
        input: &'i [u8],
        out: &mut Out<'_>,
    ) -> Result<Option<&'i [u8]>, UnpackFault> {
        let left = self.member.packed_bytes - self.stored_bytes;
        let bytes = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(input.len())
            .min(limits::INFLATE_PIECE_BYTES);
        let (now, rest) = input.split_at(bytes);
        self.stored_sum.update(now);
        let count = u64::try_from(bytes).unwrap_or(0);
        self.stored_bytes += count;
        self.place += count;
        if out.give(now)? == Flow::Stop {
            return Ok(None);
        }
        if self.stored_bytes == self.member.packed_bytes {
            self.compare()?;
        }
        Ok(Some(rest))
    }

    fn end_of_deflated(&mut self) -> Result<(), UnpackFault> {
        if self.member.flags & HAS_DESCRIPTOR == 0 {
            return self.compare();
        }
        self.signature_after(After::Data);
        Ok(())
    }

    /// The data is over: it must be what its header or its descriptor says.
    fn compare(&mut self) -> Result<(), UnpackFault> {
        let (sum, found) = if self.member.method == METHOD_STORED {
            let bytes = self.stored_bytes;
            (self.stored_sum.sum(), (bytes, bytes))
        } else {
            let lengths = (self.inflate.packed_bytes(), self.inflate.text_bytes());
            (self.inflate.sum(), lengths)
        };
        if self.member.sum != sum {
            return Err(UnpackFault::Checksum);
        }
        if found != (self.member.packed_bytes, self.member.text_bytes) {
            return Err(UnpackFault::Length);
        }
        self.signature_after(After::File);
        Ok(())
    }
}

// === impl Member ===

impl Member {
    fn can_be_read(&self) -> Result<(), UnpackFault> {
        if self.flags & (IS_ENCRYPTED | IS_STRONGLY_ENCRYPTED | HAS_MASKED_HEADERS) != 0 {
            return Err(UnpackFault::Encrypted);
        }
        match self.method {
            METHOD_DEFLATED => Ok(()),
            // Without a length nobody knows where stored data ends.
            METHOD_STORED if self.flags & HAS_DESCRIPTOR == 0 => Ok(()),
            _ => Err(UnpackFault::Method),
        }
    }
}

/// Little-endian fields of a record; `None` where it ends too early.
struct Fields<'r>(&'r [u8]);

// === impl Fields ===

impl<'r> Fields<'r> {
    fn bytes(&mut self, count: usize) -> Option<&'r [u8]> {
        let (now, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(now)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes(count).map(drop)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn huge(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    /// Extra fields: sets the numbers that stand there, and tells whether that field is there.
    fn large(&mut self, numbers: &mut [&mut u64]) -> Option<bool> {
        let mut is_large = false;
        // Fewer bytes are no field; some programs pad with them.
        while self.0.len() >= 4 {
            let (kind, bytes) = (self.short()?, self.short()?);
            let mut field = Fields(self.bytes(bytes.into())?);
            if kind == LARGE_FIELD && !is_large {
                is_large = true;
                for number in numbers.iter_mut() {
                    if **number == IN_EXTRA {
                        **number = field.huge()?;
                    }
                }
            }
        }
        Some(is_large)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;
    use crate::inspect::unpack::Packing;

    /// How an archive of tests is made.
    #[derive(Clone)]
    struct Made {
        name: &'static [u8],
        flags: u16,
        method: u16,
        is_large: bool,
        has_signature: bool,
        comment: &'static [u8],
    }

    const PLAIN: Made = Made {
        name: b"orders.csv",
        flags: 0,
        method: METHOD_DEFLATED,
        is_large: false,
        has_signature: true,
        comment: b"",
    };

    fn short(number: usize) -> [u8; 2] {
        u16::try_from(number).unwrap().to_le_bytes()
    }

    fn deflated(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    impl Made {
        /// The header and data, and the entry of the directory.
        fn parts(&self, text: &[u8]) -> (Vec<u8>, Vec<u8>) {
            let data = match self.method {
                METHOD_STORED => text.to_vec(),
                _ => deflated(text),
            };
            let mut sum = Crc::new();
            sum.update(text);
            let lengths = [data.len(), text.len()].map(|length| u64::try_from(length).unwrap());
            let short_lengths: Vec<u8> = lengths
                .iter()
                .flat_map(|length| {
                    let length = if self.is_large { IN_EXTRA } else { *length };
                    u32::try_from(length).unwrap().to_le_bytes()
                })
                .collect();
            let long_lengths: Vec<u8> = lengths.iter().flat_map(|n| n.to_le_bytes()).collect();
            let extra = if self.is_large {
                // In the extra field the text's length comes first.
                [&[1, 0, 16, 0][..], &long_lengths[8..], &long_lengths[..8]].concat()
            } else {
                Vec::new()
            };
            let common = [
                &self.flags.to_le_bytes()[..],
                &self.method.to_le_bytes(),
                &[0; 4],
            ]
            .concat();
            let sum = sum.sum().to_le_bytes();
            let names = [short(self.name.len()), short(extra.len())].concat();
            let is_behind = self.flags & HAS_DESCRIPTOR != 0;
            let before = if is_behind {
                [0; 12].to_vec()
            } else {
                [&sum[..], &short_lengths].concat()
            };
            let descriptor = match (is_behind, self.is_large) {
                (false, _) => Vec::new(),
                (true, false) => [&sum[..], &short_lengths].concat(),
                (true, true) => [&sum[..], &long_lengths].concat(),
            };
            let signature: &[u8] = if is_behind && self.has_signature {
                b"PK\x07\x08"
            } else {
                b""
            };
            let file = [
                &b"PK\x03\x04\x14\0"[..],
                &common,
                &before,
                &names,
                self.name,
                &extra,
                &data,
                signature,
                &descriptor,
            ]
            .concat();
            let entry = [
                &b"PK\x01\x02\x14\0\x14\0"[..],
                &common,
                &sum,
                &short_lengths,
                &names,
                &[0; 14],
                self.name,
                &extra,
            ]
            .concat();
            (file, entry)
        }

        fn pack(&self, text: &[u8]) -> Vec<u8> {
            let (file, entry) = self.parts(text);
            [file.clone(), entry.clone(), self.end(&file, &entry)].concat()
        }

        fn end(&self, file: &[u8], entry: &[u8]) -> Vec<u8> {
            let long = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
            [
                &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..],
                &long(entry.len()),
                &long(file.len()),
                &short(self.comment.len()),
                self.comment,
            ]
            .concat()
        }
    }

    /// An archive of one deflated file.
    pub(crate) fn zip(text: &[u8]) -> Vec<u8> {
        PLAIN.pack(text)
    }

    #[track_caller]
    fn check(file: &[u8], expect: Result<&[u8], UnpackFault>) {
        crate::inspect::unpack::tests::check(Packing::Zip, file, expect);
    }

    #[test]
    fn every_way_to_write_one_file_is_read() {
        let text = b"hello, hello, hello";
        for flags in [0, HAS_DESCRIPTOR] {
            for (is_large, has_signature) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                for comment in [&b""[..], b"made by a test"] {
                    let made = Made {
                        flags,
                        is_large,
                        has_signature,
                        comment,
                        ..PLAIN
                    };
                    check(&made.pack(text), Ok(text));
                }
            }
        }
        for text in [&b""[..], text] {
            let stored = Made {
                method: METHOD_STORED,
                ..PLAIN
            };
            check(&stored.pack(text), Ok(text));
        }
    }

    #[test]
    fn the_64_bit_directory_is_read() {
        let (file, entry) = PLAIN.parts(b"hello");
        let huge = |length: usize| u64::try_from(length).unwrap().to_le_bytes();
        let large_end = |length: usize, start: usize, place: usize| {
            [
                &b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0"[..],
                &huge(1),
                &huge(1),
                &huge(length),
                &huge(start),
                &b"PK\x06\x07\0\0\0\0"[..],
                &huge(place),
                &[1, 0, 0, 0],
            ]
            .concat()
        };
        let (length, start, place) = (entry.len(), file.len(), file.len() + entry.len());
        let end = PLAIN.end(&file, &entry);
        let mut short_end = end.clone();
        short_end[8..20].fill(0xff);
        for end in [&end, &short_end] {
            let large = large_end(length, start, place);
            check(&[&file[..], &entry, &large, end].concat(), Ok(b"hello"));
        }
        for (length, start, place) in [
            (length + 1, start, place),
            (length, start + 1, place),
            (length, start, place + 1),
        ] {
            let large = large_end(length, start, place);
            let bad = [&file[..], &entry, &large, &end].concat();
            check(&bad, Err(UnpackFault::Directory));
        }
        let bad = [&file[..], &entry, &short_end].concat();
        check(&bad, Err(UnpackFault::Directory));
    }

    #[test]
    fn damage_is_told_as_what_it_is() {
        let text = b"hello, hello, hello";
        let good = zip(text);
        let flip = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            bad
        };
        check(&flip(14), Err(UnpackFault::Checksum));
        check(&flip(18), Err(UnpackFault::Length));
        check(&flip(22), Err(UnpackFault::Length));
        check(&flip(8), Err(UnpackFault::Method));
        let data = 30 + PLAIN.name.len();
        let mut block = good.clone();
        block[data] = 0b111;
        check(&block, Err(UnpackFault::Broken));
        let (file, _) = PLAIN.parts(text);
        // Of the directory: checksum, lengths, name, number of files.
        for at in [16, 20, 24, 46] {
            check(&flip(file.len() + at), Err(UnpackFault::Directory));
        }
        check(&flip(good.len() - 12), Err(UnpackFault::Directory));
        check(&flip(file.len() + 1), Err(UnpackFault::Directory));
        let stored = Made {
            method: METHOD_STORED,
            ..PLAIN
        };
        let mut bad = stored.pack(b"");
        bad[14] ^= 1;
        check(&bad, Err(UnpackFault::Checksum));
    }

    #[test]
    fn what_cannot_be_judged_from_front_to_back_is_refused() {
        for (flags, method, fault) in [
            (IS_ENCRYPTED, METHOD_DEFLATED, UnpackFault::Encrypted),
            (
                IS_STRONGLY_ENCRYPTED,
                METHOD_DEFLATED,
                UnpackFault::Encrypted,
            ),
            (HAS_DESCRIPTOR, METHOD_STORED, UnpackFault::Method),
            (0, 12, UnpackFault::Method),
            (0, 93, UnpackFault::Method),
        ] {
            let made = Made {
                flags,
                method,
                ..PLAIN
            };
            check(&made.pack(b"hello"), Err(fault));
        }
        check(
            b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            Err(UnpackFault::Empty),
        );
        check(b"PKxx", Err(UnpackFault::Header));
    }

    #[test]
    fn more_than_one_file_is_refused_wherever_it_stands() {
        let other = Made {
            name: b"other.csv",
            ..PLAIN
        };
        let (file, entry) = PLAIN.parts(b"hello");
        let (second, second_entry) = other.parts(b"bye");
        let end = PLAIN.end(&file, &entry);
        let two = [&file[..], &second, &entry, &second_entry, &end].concat();
        check(&two, Err(UnpackFault::Members));
        let hidden = [&file[..], &entry, &second_entry, &end].concat();
        check(&hidden, Err(UnpackFault::Members));
        let foreign = [&file[..], &second_entry, &end].concat();
        check(&foreign, Err(UnpackFault::Directory));
        // In the comment a whole archive, which programs that begin at the end would read.
        let comment = zip(b"bye").leak();
        let nested = Made { comment, ..PLAIN };
        check(&nested.pack(b"hello"), Err(UnpackFault::Directory));
        // An end that points at another directory.
        let mut moved = zip(b"hello");
        let at = moved.len() - 6;
        moved[at] += 1;
        check(&moved, Err(UnpackFault::Directory));
        let at = moved.len() - 10;
        moved[at + 4] -= 1;
        moved[at] += 1;
        check(&moved, Err(UnpackFault::Directory));
        let folder = Made {
            name: b"orders/",
            ..PLAIN
        };
        check(&folder.pack(b"hello"), Err(UnpackFault::Folder));
    }
}
