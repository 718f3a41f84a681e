//! Text that was UTF-8 once, was read as Windows-1252 or Latin-1, and was written again: `Ã¤` for
//! `ä`; and U+FFFD, which stands where a program could not read a character.
//!
//! It is valid text and so no fault; what it said can be guessed, or is lost.

use memchr::memmem;

/// What is found, and what must follow for it to count.
const SIGNS: [(&[u8], &[u8]); 5] = [
    // U+00C3, the first byte of most Latin letters, before what stands for a second byte.
    (b"\xc3\x83", SECOND),
    // U+00C2, the first byte of signs and the no-break space.
    (b"\xc3\x82", b"\xc2"),
    // U+00E2 U+20AC, the first two bytes of quotes, dashes, dots.
    (b"\xc3\xa2\xe2\x82\xac", SECOND),
    // U+00E2 U+201A, those of the euro sign.
    (b"\xc3\xa2\xe2\x80\x9a", b"\xc2"),
    (b"\xef\xbf\xbd", b""),
];

/// First bytes of the characters that Windows-1252 and Latin-1 have from 0x80 to 0xBF.
const SECOND: &[u8] = b"\xc2\xc5\xc6\xcb\xe2";

/// Adds the places in `text` where such text begins, in order.
pub(crate) fn find(text: &[u8], places: &mut Vec<usize>) {
    for (sign, next) in SIGNS {
        let found = memmem::find_iter(text, sign).filter(|at| {
            let follows = text.get(at + sign.len());
            next.is_empty() || follows.is_some_and(|byte| next.contains(byte))
        });
        places.extend(found);
    }
    places.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        find(text.as_bytes(), &mut found);
        found
    }

    #[test]
    fn text_decoded_twice_is_found_and_text_in_any_language_is_not() {
        // What encoding_rs makes of UTF-8 read as Windows-1252.
        for text in [
            "Größe", "café", "Ærø", "São", "10 €", "it’s", "a – b", "§ 5", "20 °C",
        ] {
            let (again, _, _) = encoding_rs::WINDOWS_1252.decode(text.as_bytes());
            assert!(!places(&again).is_empty(), "{again}");
            assert!(places(text).is_empty(), "{text}");
        }
        for text in [
            "SÃO PAULO",
            "PRÉCISÃO",
            "Âge",
            "â la carte",
            "Łódź",
            "Привет",
            "日本語",
            "naïve €",
        ] {
            assert!(places(text).is_empty(), "{text}");
        }
        assert_eq!(places("a\u{fffd}b Ã¤"), [1, 6]);
    }
}
