//! Encodings of one byte a character that the WHATWG Encoding Standard does not have.
//!
//! Sources: the tables of unicode.org (`VENDORS/MICSFT/PC/CP437.TXT`, `CP850.TXT`,
//! `VENDORS/MICSFT/EBCDIC/CP037.TXT`, `CP500.TXT`), as Python's codecs carry them; ISO/IEC 8859-1 and
//! 8859-9, which that standard takes for the Windows pages that have letters where these have control
//! characters. In EBCDIC both NL (0x15) and LF (0x25) end a line.

use std::sync::LazyLock;

/// What each byte means; U+FFFD: nothing.
pub(crate) type Page = [char; 256];

/// The table of this name.
pub(crate) fn find(name: &str) -> Option<&'static Page> {
    let (_, page) = PAGES.iter().find(|(own, _)| *own == name)?;
    Some(page)
}

static PAGES: LazyLock<[(&str, Page); 6]> = LazyLock::new(|| {
    let upper = |text: &str| {
        let lower = (0..=0x7f_u8).map(char::from);
        page(lower.chain(text.chars()))
    };
    // 0x80 to 0x9F are control characters there, which no file means: Windows-1252, as a rule.
    let latin = |[a, b, c, d, e, f]: [char; 6]| {
        (0..=0xff_u8).map(move |byte| match byte {
            0x80..=0x9f => char::REPLACEMENT_CHARACTER,
            0xd0 => a,
            0xdd => b,
            0xde => c,
            0xf0 => d,
            0xfd => e,
            0xfe => f,
            byte => char::from(byte),
        })
    };
    let icelandic = ['\u{d0}', '\u{dd}', '\u{de}', '\u{f0}', '\u{fd}', '\u{fe}'];
    let turkish = [
        '\u{11e}', '\u{130}', '\u{15e}', '\u{11f}', '\u{131}', '\u{15f}',
    ];
    [
        ("cp037", page(CP037.chars())),
        ("cp437", upper(CP437)),
        ("cp500", page(CP500.chars())),
        ("cp850", upper(CP850)),
        ("iso-8859-1", page(latin(icelandic))),
        ("iso-8859-9", page(latin(turkish))),
    ]
});

fn page(chars: impl Iterator<Item = char>) -> Page {
    let mut page = [char::REPLACEMENT_CHARACTER; 256];
    for (slot, char) in page.iter_mut().zip(chars) {
        *slot = char;
    }
    page
}

#[rustfmt::skip]
const CP437: &str = "\
\u{c7}\u{fc}\u{e9}\u{e2}\u{e4}\u{e0}\u{e5}\u{e7}\u{ea}\u{eb}\u{e8}\u{ef}\u{ee}\u{ec}\
\u{c4}\u{c5}\u{c9}\u{e6}\u{c6}\u{f4}\u{f6}\u{f2}\u{fb}\u{f9}\u{ff}\u{d6}\u{dc}\u{a2}\
\u{a3}\u{a5}\u{20a7}\u{192}\u{e1}\u{ed}\u{f3}\u{fa}\u{f1}\u{d1}\u{aa}\u{ba}\u{bf}\
\u{2310}\u{ac}\u{bd}\u{bc}\u{a1}\u{ab}\u{bb}\u{2591}\u{2592}\u{2593}\u{2502}\u{2524}\
\u{2561}\u{2562}\u{2556}\u{2555}\u{2563}\u{2551}\u{2557}\u{255d}\u{255c}\u{255b}\u{2510}\
\u{2514}\u{2534}\u{252c}\u{251c}\u{2500}\u{253c}\u{255e}\u{255f}\u{255a}\u{2554}\u{2569}\
\u{2566}\u{2560}\u{2550}\u{256c}\u{2567}\u{2568}\u{2564}\u{2565}\u{2559}\u{2558}\u{2552}\
\u{2553}\u{256b}\u{256a}\u{2518}\u{250c}\u{2588}\u{2584}\u{258c}\u{2590}\u{2580}\u{3b1}\
\u{df}\u{393}\u{3c0}\u{3a3}\u{3c3}\u{b5}\u{3c4}\u{3a6}\u{398}\u{3a9}\u{3b4}\u{221e}\
\u{3c6}\u{3b5}\u{2229}\u{2261}\u{b1}\u{2265}\u{2264}\u{2320}\u{2321}\u{f7}\u{2248}\u{b0}\
\u{2219}\u{b7}\u{221a}\u{207f}\u{b2}\u{25a0}\u{a0}";

#[rustfmt::skip]
const CP850: &str = "\
\u{c7}\u{fc}\u{e9}\u{e2}\u{e4}\u{e0}\u{e5}\u{e7}\u{ea}\u{eb}\u{e8}\u{ef}\u{ee}\u{ec}\
\u{c4}\u{c5}\u{c9}\u{e6}\u{c6}\u{f4}\u{f6}\u{f2}\u{fb}\u{f9}\u{ff}\u{d6}\u{dc}\u{f8}\
\u{a3}\u{d8}\u{d7}\u{192}\u{e1}\u{ed}\u{f3}\u{fa}\u{f1}\u{d1}\u{aa}\u{ba}\u{bf}\u{ae}\
\u{ac}\u{bd}\u{bc}\u{a1}\u{ab}\u{bb}\u{2591}\u{2592}\u{2593}\u{2502}\u{2524}\u{c1}\u{c2}\
\u{c0}\u{a9}\u{2563}\u{2551}\u{2557}\u{255d}\u{a2}\u{a5}\u{2510}\u{2514}\u{2534}\u{252c}\
\u{251c}\u{2500}\u{253c}\u{e3}\u{c3}\u{255a}\u{2554}\u{2569}\u{2566}\u{2560}\u{2550}\
\u{256c}\u{a4}\u{f0}\u{d0}\u{ca}\u{cb}\u{c8}\u{131}\u{cd}\u{ce}\u{cf}\u{2518}\u{250c}\
\u{2588}\u{2584}\u{a6}\u{cc}\u{2580}\u{d3}\u{df}\u{d4}\u{d2}\u{f5}\u{d5}\u{b5}\u{fe}\
\u{de}\u{da}\u{db}\u{d9}\u{fd}\u{dd}\u{af}\u{b4}\u{ad}\u{b1}\u{2017}\u{be}\u{b6}\u{a7}\
\u{f7}\u{b8}\u{b0}\u{a8}\u{b7}\u{b9}\u{b3}\u{b2}\u{25a0}\u{a0}";

#[rustfmt::skip]
const CP037: &str = "\
\u{0}\u{1}\u{2}\u{3}\u{9c}\u{9}\u{86}\u{7f}\u{97}\u{8d}\u{8e}\u{b}\u{c}\u{d}\u{e}\u{f}\
\u{10}\u{11}\u{12}\u{13}\u{9d}\u{a}\u{8}\u{87}\u{18}\u{19}\u{92}\u{8f}\u{1c}\u{1d}\u{1e}\
\u{1f}\u{80}\u{81}\u{82}\u{83}\u{84}\u{a}\u{17}\u{1b}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{5}\
\u{6}\u{7}\u{90}\u{91}\u{16}\u{93}\u{94}\u{95}\u{96}\u{4}\u{98}\u{99}\u{9a}\u{9b}\u{14}\
\u{15}\u{9e}\u{1a} \u{a0}\u{e2}\u{e4}\u{e0}\u{e1}\u{e3}\u{e5}\u{e7}\u{f1}\u{a2}.<(+|&\
\u{e9}\u{ea}\u{eb}\u{e8}\u{ed}\u{ee}\u{ef}\u{ec}\u{df}!$*);\u{ac}-/\u{c2}\u{c4}\u{c0}\
\u{c1}\u{c3}\u{c5}\u{c7}\u{d1}\u{a6},%_>?\u{f8}\u{c9}\u{ca}\u{cb}\u{c8}\u{cd}\u{ce}\
\u{cf}\u{cc}`:#@'=\"\u{d8}abcdefghi\u{ab}\u{bb}\u{f0}\u{fd}\u{fe}\u{b1}\u{b0}jklmnopqr\
\u{aa}\u{ba}\u{e6}\u{b8}\u{c6}\u{a4}\u{b5}~stuvwxyz\u{a1}\u{bf}\u{d0}\u{dd}\u{de}\u{ae}^\
\u{a3}\u{a5}\u{b7}\u{a9}\u{a7}\u{b6}\u{bc}\u{bd}\u{be}[]\u{af}\u{a8}\u{b4}\u{d7}{ABCDEFG\
HI\u{ad}\u{f4}\u{f6}\u{f2}\u{f3}\u{f5}}JKLMNOPQR\u{b9}\u{fb}\u{fc}\u{f9}\u{fa}\u{ff}\\\
\u{f7}STUVWXYZ\u{b2}\u{d4}\u{d6}\u{d2}\u{d3}\u{d5}0123456789\u{b3}\u{db}\u{dc}\u{d9}\
\u{da}\u{9f}";

#[rustfmt::skip]
const CP500: &str = "\
\u{0}\u{1}\u{2}\u{3}\u{9c}\u{9}\u{86}\u{7f}\u{97}\u{8d}\u{8e}\u{b}\u{c}\u{d}\u{e}\u{f}\
\u{10}\u{11}\u{12}\u{13}\u{9d}\u{a}\u{8}\u{87}\u{18}\u{19}\u{92}\u{8f}\u{1c}\u{1d}\u{1e}\
\u{1f}\u{80}\u{81}\u{82}\u{83}\u{84}\u{a}\u{17}\u{1b}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{5}\
\u{6}\u{7}\u{90}\u{91}\u{16}\u{93}\u{94}\u{95}\u{96}\u{4}\u{98}\u{99}\u{9a}\u{9b}\u{14}\
\u{15}\u{9e}\u{1a} \u{a0}\u{e2}\u{e4}\u{e0}\u{e1}\u{e3}\u{e5}\u{e7}\u{f1}[.<(+!&\u{e9}\
\u{ea}\u{eb}\u{e8}\u{ed}\u{ee}\u{ef}\u{ec}\u{df}]$*);^-/\u{c2}\u{c4}\u{c0}\u{c1}\u{c3}\
\u{c5}\u{c7}\u{d1}\u{a6},%_>?\u{f8}\u{c9}\u{ca}\u{cb}\u{c8}\u{cd}\u{ce}\u{cf}\u{cc}`:#@'\
=\"\u{d8}abcdefghi\u{ab}\u{bb}\u{f0}\u{fd}\u{fe}\u{b1}\u{b0}jklmnopqr\u{aa}\u{ba}\u{e6}\
\u{b8}\u{c6}\u{a4}\u{b5}~stuvwxyz\u{a1}\u{bf}\u{d0}\u{dd}\u{de}\u{ae}\u{a2}\u{a3}\u{a5}\
\u{b7}\u{a9}\u{a7}\u{b6}\u{bc}\u{bd}\u{be}\u{ac}|\u{af}\u{a8}\u{b4}\u{d7}{ABCDEFGHI\
\u{ad}\u{f4}\u{f6}\u{f2}\u{f3}\u{f5}}JKLMNOPQR\u{b9}\u{fb}\u{fc}\u{f9}\u{fa}\u{ff}\\\
\u{f7}STUVWXYZ\u{b2}\u{d4}\u{d6}\u{d2}\u{d3}\u{d5}0123456789\u{b3}\u{db}\u{dc}\u{d9}\
\u{da}\u{9f}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_whole_and_no_byte_means_what_another_one_does() {
        for name in [
            "cp037",
            "cp437",
            "cp500",
            "cp850",
            "iso-8859-1",
            "iso-8859-9",
        ] {
            let page = find(name).unwrap();
            let mut chars: Vec<char> = page.iter().copied().filter(|c| *c != '\u{fffd}').collect();
            let count = chars.len();
            chars.sort_unstable();
            chars.dedup();
            let undefined = if name.starts_with("iso") { 32 } else { 0 };
            let newlines = usize::from(["cp037", "cp500"].contains(&name));
            assert_eq!(count, 256 - undefined, "{name}");
            assert_eq!(chars.len(), count - newlines, "{name}");
        }
    }

    #[test]
    fn known_characters_are_where_they_are_known_to_be() {
        for (name, byte, char) in [
            ("cp037", 0xc1, 'A'),
            ("cp037", 0xf0, '0'),
            ("cp037", 0x6b, ','),
            ("cp037", 0x40, ' '),
            ("cp037", 0x15, '\n'),
            ("cp037", 0x25, '\n'),
            ("cp037", 0xb5, '\u{a7}'),
            ("cp500", 0xb5, '\u{a7}'),
            ("cp037", 0x5a, '!'),
            ("cp500", 0x5a, ']'),
            ("cp437", 0x81, '\u{fc}'),
            ("cp437", 0x9b, '\u{a2}'),
            ("cp850", 0x9b, '\u{f8}'),
            ("cp850", 0xd5, '\u{131}'),
            ("iso-8859-1", 0xe4, '\u{e4}'),
            ("iso-8859-1", 0x80, '\u{fffd}'),
            ("iso-8859-9", 0xd0, '\u{11e}'),
        ] {
            assert_eq!(find(name).unwrap()[byte], char, "{name} {byte:#x}");
        }
    }
}
