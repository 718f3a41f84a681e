//! UTF-8, strictly (RFC 3629): where the valid text ends, and what the first fault looks like.
//!
//! Nothing is replaced or repaired. A sequence cut by the end of a piece is no fault until the
//! end of the file.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::DecoderResult;

use crate::policy::contract::Encoding;

/// The byte order mark in UTF-8.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Bytes beyond ASCII from which on text can be told from text of another encoding.
const FOREIGN_BYTES_MIN: usize = 8;

/// How far bytes are UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// A fault follows the valid bytes.
    Faulty {
        /// Bytes before the fault.
        valid: usize,
        /// The first byte of it.
        byte: u8,
    },
    /// All valid, but for an incomplete sequence of at most three bytes at the end.
    Valid(usize),
}

/// Judges bytes that start at a character border.
pub(crate) fn prefix(bytes: &[u8]) -> Prefix {
    if simdutf8::basic::from_utf8(bytes).is_ok() {
        return Prefix::Valid(bytes.len());
    }
    match simdutf8::compat::from_utf8(bytes) {
        Ok(text) => Prefix::Valid(text.len()),
        Err(fault) => {
            let valid = fault.valid_up_to();
            match (fault.error_len(), bytes.get(valid)) {
                (Some(_), Some(&byte)) => Prefix::Faulty { valid, byte },
                (None, _) | (_, None) => Prefix::Valid(valid),
            }
        }
    }
}

/// What text is that has these bytes where it is not UTF-8: the first ones from its first fault on.
/// `None`: nothing that could be said of them.
pub(crate) fn looks_like(sample: &[u8]) -> Option<String> {
    let foreign = sample.iter().filter(|byte| !byte.is_ascii()).count();
    let guess = if foreign < FOREIGN_BYTES_MIN {
        // Too few for a guess: what most files are that are not UTF-8.
        encoding_rs::WINDOWS_1252
    } else {
        let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
        detector.feed(sample, true);
        detector.guess(None, Utf8Detection::Deny)
    };
    let mut text = String::with_capacity(guess.new_decoder().max_utf8_buffer_length(sample.len())?);
    // The last character may be cut off.
    let (result, _) = guess
        .new_decoder_without_bom_handling()
        .decode_to_string_without_replacement(sample, &mut text, false);
    let is_control = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
    if result != DecoderResult::InputEmpty || text.contains(is_control) {
        return None;
    }
    // GBK is the part of GB18030 that files have; policies know the whole by its name.
    let name = match guess.name() {
        "GBK" => "gb18030".to_owned(),
        name => name.to_ascii_lowercase(),
    };
    let known = Encoding::all().find(|one| one.name() == name)?;
    Some(format!("looks like {}", known.title()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_is_exact() {
        // RFC 3629 section 4: overlong forms, surrogates and values over 10FFFF are no UTF-8.
        for (bytes, valid, byte) in [
            (&b"ab\xe4c"[..], 2, 0xe4),
            (b"\x80", 0, 0x80),
            (b"a\xc0\xafb", 1, 0xc0),
            (b"a\xed\xa0\x80b", 1, 0xed),
            (b"a\xf4\x90\x80\x80", 1, 0xf4),
            (b"\xc3\xa4\xff", 2, 0xff),
        ] {
            assert_eq!(prefix(bytes), Prefix::Faulty { valid, byte }, "{bytes:?}");
        }
    }

    #[test]
    fn a_cut_sequence_is_not_yet_a_fault() {
        assert_eq!(prefix("a\u{20ac}".as_bytes()), Prefix::Valid(4));
        assert_eq!(prefix(b"a\xe2\x82"), Prefix::Valid(1));
        assert_eq!(prefix(b"a\xf0\x9f\x98"), Prefix::Valid(1));
        assert_eq!(prefix(b""), Prefix::Valid(0));
    }

    #[test]
    fn text_of_another_encoding_is_known_by_what_it_says() {
        let check = |encoding: &'static encoding_rs::Encoding, text: &str, title: &str| {
            let (bytes, _, _) = encoding.encode(text);
            let at = match prefix(&bytes) {
                Prefix::Faulty { valid, .. } => valid,
                Prefix::Valid(_) => panic!("{text} is UTF-8"),
            };
            let told = looks_like(&bytes[at..]);
            assert_eq!(told, Some(format!("looks like {title}")), "{text}");
        };
        check(
            encoding_rs::WINDOWS_1252,
            "M\u{fc}ller;Stra\u{df}e;10 \u{20ac};K\u{f6}ln;T\u{fc}r;L\u{e4}nge;\u{e4}hnlich;gr\u{f6}\u{df}er",
            "Windows-1252",
        );
        check(
            encoding_rs::SHIFT_JIS,
            "\u{53d7}\u{6ce8},\u{6771}\u{4eac}\u{90fd},\u{30c6}\u{30b9}\u{30c8}",
            "Shift_JIS",
        );
        check(
            encoding_rs::WINDOWS_1251,
            "\u{417}\u{430}\u{43a}\u{430}\u{437};\u{41c}\u{43e}\u{441}\u{43a}\u{432}\u{430}",
            "Windows-1251",
        );
        check(
            encoding_rs::EUC_KR,
            "\u{c8fc}\u{bb38},\u{c11c}\u{c6b8},\u{d14c}\u{c2a4}\u{d2b8}",
            "EUC-KR",
        );
        assert_eq!(looks_like(&[0x81]), None);
        assert_eq!(
            looks_like(b"\xe4"),
            Some("looks like Windows-1252".to_owned())
        );
    }
}
