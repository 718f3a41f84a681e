//! UTF-8, strictly (RFC 3629): where the valid text ends, and what the first fault looks like.
//!
//! Nothing is replaced or repaired. A sequence cut by the end of a piece is no fault until the
//! end of the file.

/// The byte order mark in UTF-8.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

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

/// What a file with this faulty byte probably is.
pub(crate) fn hint(byte: u8) -> Option<&'static str> {
    // The five bytes Windows-1252 leaves undefined (WHATWG encoding, index-windows-1252).
    match byte {
        0x81 | 0x8d | 0x8f | 0x90 | 0x9d | 0..=0x7f => None,
        _ => Some("looks like Windows-1252"),
    }
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
    fn bytes_windows_1252_knows_are_hinted_at() {
        assert_eq!(hint(0xe4), Some("looks like Windows-1252"));
        assert_eq!(hint(0x80), Some("looks like Windows-1252"));
        assert_eq!(hint(0x81), None);
    }
}
