//! What a file is by its first bytes, where that is not text.
//!
//! Sources: PKWARE APPNOTE 4.3.7 (zip), RFC 8878 3.1.1 (zstd), the bzip2 and xz format
//! descriptions, parquet-format README, ISO 32000-1 7.5.2 (PDF), MS-CFB 2.2 (OLE2), Unicode 23.8
//! (byte order marks), 7zFormat.txt, Avro and Arrow specifications.

use crate::terms::columnar::Columnar;

/// Longest start looked at, bytes.
pub(crate) const BYTES_MAX: usize = 10;

/// What a start of a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// A known binary format.
    Foreign(&'static Magic),
    /// None of those known.
    Text,
    /// More bytes are needed.
    Unknown,
}

/// A binary format and how it starts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Magic {
    /// `?` stands for a digit.
    start: &'static [u8],
    /// Something text cannot go on with follows `start`, which could begin a label.
    then_binary: bool,
    /// As in `looks like zip`.
    pub(crate) name: &'static str,
    /// What to do, where it can be said.
    pub(crate) hint: Option<&'static str>,
}

const UTF_8: Option<&str> = Some("Save the file as CSV in UTF-8.");
const EXPORT: Option<&str> = Some("Export the sheet as CSV in UTF-8; do not rename it.");
const UNPACK: Option<&str> = Some("Send the file itself, unpacked.");

/// Longer starts before shorter ones they begin with.
static MAGICS: [Magic; 18] = [
    magic(b"\x1f\x8b", "gzip", UNPACK),
    magic(
        b"PK\x03\x04",
        "zip",
        Some("Send the file itself, unpacked; an .xlsx is a zip file too."),
    ),
    magic(b"PK\x05\x06", "zip", UNPACK),
    magic(b"\x28\xb5\x2f\xfd", "zstd", UNPACK),
    magic(b"BZh?1AY&SY", "bzip2", UNPACK),
    // Of nothing.
    magic(b"BZh?\x17rE8P\x90", "bzip2", UNPACK),
    magic(b"\xfd7zXZ\0", "xz", UNPACK),
    magic(b"7z\xbc\xaf\x27\x1c", "7z", UNPACK),
    Magic {
        start: b"PAR1",
        then_binary: true,
        name: "Parquet",
        hint: None,
    },
    magic(b"%PDF-", "PDF", None),
    magic(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Office file",
        EXPORT,
    ),
    magic(b"Obj\x01", "Avro", None),
    magic(b"ARROW1\0\0", "Arrow", None),
    magic(b"SQLite for", "SQLite", None),
    magic(b"\xff\xfe\0\0", "UTF-32", UTF_8),
    magic(b"\0\0\xfe\xff", "UTF-32", UTF_8),
    magic(b"\xff\xfe", "UTF-16", UTF_8),
    magic(b"\xfe\xff", "UTF-16", UTF_8),
];

const fn magic(start: &'static [u8], name: &'static str, hint: Option<&'static str>) -> Magic {
    Magic {
        start,
        then_binary: false,
        name,
        hint,
    }
}

/// Judges the first bytes of a file, all it has when `is_all`.
pub(crate) fn sniff(head: &[u8], is_all: bool) -> Sniffed {
    for magic in &MAGICS {
        let wanted = magic.start.len() + usize::from(magic.then_binary);
        if !begins(magic.start, head) {
            continue;
        }
        if head.len() < wanted {
            if is_all {
                continue;
            }
            return Sniffed::Unknown;
        }
        let next = head.get(magic.start.len());
        if !magic.then_binary || next.is_some_and(|byte| is_binary(*byte)) {
            return Sniffed::Foreign(magic);
        }
    }
    Sniffed::Text
}

/// Whether a file begins like one of this format.
pub(crate) fn is_columnar(format: Columnar, head: &[u8]) -> bool {
    match format {
        // A file, or a stream of messages.
        Columnar::Arrow => head.starts_with(b"ARROW1\0\0") || head.starts_with(&[0xff; 4]),
        Columnar::Avro => head.starts_with(b"Obj\x01"),
        Columnar::Parquet => head.starts_with(b"PAR1") || head.starts_with(b"PARE"),
        Columnar::Xlsx => head.starts_with(b"PK\x03\x04"),
    }
}

/// Whether both are the same as far as the shorter goes.
fn begins(start: &[u8], head: &[u8]) -> bool {
    start
        .iter()
        .zip(head)
        .all(|(wanted, byte)| wanted == byte || (*wanted == b'?' && byte.is_ascii_digit()))
}

fn is_binary(byte: u8) -> bool {
    !matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &[u8], expect: &str) {
        let name = |sniffed| match sniffed {
            Sniffed::Foreign(magic) => magic.name,
            Sniffed::Text => "text",
            Sniffed::Unknown => "unknown",
        };
        assert_eq!(name(sniff(head, true)), expect, "{head:?}");
        // More bytes never change an answer once given.
        for end in 0..head.len() {
            let early = name(sniff(&head[..end], false));
            assert!(
                early == "unknown" || early == expect,
                "{early} after {end} bytes"
            );
        }
        assert_eq!(
            name(sniff(&head[..head.len().min(BYTES_MAX)], true)),
            expect
        );
    }

    #[test]
    fn binary_files_are_named_by_their_first_bytes() {
        check(b"\x1f\x8b\x08\0\0\0\0\0\0\xff", "gzip");
        check(b"PK\x03\x04\x14\0\0\0\0\0", "zip");
        check(b"PK\x05\x06\0\0\0\0\0\0", "zip");
        check(b"\x28\xb5\x2f\xfd\x04\0\0\0\0\0", "zstd");
        check(b"BZh91AY&SY\x01", "bzip2");
        check(b"\xfd7zXZ\0\0\x04", "xz");
        check(b"PAR1\x15\x04\x15\x10", "Parquet");
        check(b"%PDF-1.7\n", "PDF");
        check(
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0",
            "an old Office file",
        );
        check(b"\xff\xfei\0d\0,\0", "UTF-16");
        check(b"\xfe\xff\0i\0d", "UTF-16");
        check(b"\xff\xfe\0\0i\0\0\0", "UTF-32");
        check(b"\0\0\xfe\xff\0\0\0i", "UTF-32");
        check(b"\xff\xfe", "UTF-16");
    }

    #[test]
    fn text_that_begins_like_one_is_text() {
        for head in [
            &b""[..],
            b"id,note\n",
            b"P",
            b"PK,name\n",
            b"PAR1,PAR2\n",
            b"PAR1",
            b"BZh9,x\n",
            b"{\"a\":1}",
            b"<xml/>",
            b"\xef\xbb\xbfid",
            b"\x1f",
            b"Object,x",
            b"\0\0",
        ] {
            check(head, "text");
        }
    }

    #[test]
    fn no_start_is_longer_than_what_is_looked_at() {
        for magic in &MAGICS {
            assert!(magic.start.len() + usize::from(magic.then_binary) <= BYTES_MAX);
        }
    }
}
