//! Sensitive values inside free text that nobody declared: payment cards, IBANs, e-mail addresses,
//! telephone numbers, national ids. And text that a spreadsheet would run as a formula.
//!
//! A value counts when its check digits are right, or its form leaves little doubt; letters and
//! digits right beside it make it part of something else. Sources: ISO/IEC 7812-1 (Luhn), ISO 13616,
//! RFC 5321, ITU-T E.164; for national ids: Swiss AHV number (eCH-0044, EAN-13), French NIR (mod 97),
//! Spanish DNI and NIE (mod 23), Italian codice fiscale (DM 23 December 1976), German
//! Identifikationsnummer (ISO 7064 mod 11,10, section 139b AO), Polish PESEL, British National
//! Insurance number and US Social Security number by form.

use std::ops::Range;

use crate::inspect::formats;
use crate::policy::contract::{Scan, Sensitive, TextFormat};

/// A place where a sensitive value stands.
type Found = (Range<usize>, Sensitive);

/// Digits with at most two blanks, hyphens, points, slashes or brackets between two of them.
struct Group {
    /// Each with its place.
    digits: Vec<(usize, u8)>,
}

/// The first sensitive value of a text, by place and then by the order of the scan.
pub(crate) fn find(scan: &Scan, text: &str) -> Option<Found> {
    all(scan, text).into_iter().next()
}

/// The text with every such value replaced by its kind, as in `[pan]`.
pub(crate) fn redact(scan: &Scan, text: &str, out: &mut String) {
    let mut from = 0;
    for (place, kind) in all(scan, text) {
        out.push_str(text.get(from..place.start).unwrap_or_default());
        out.push('[');
        out.push_str(kind.name());
        out.push(']');
        from = place.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
}

/// Every sensitive value, in order, none inside another. Each kind looks at the text once.
fn all(scan: &Scan, text: &str) -> Vec<Found> {
    let bytes = text.as_bytes();
    let numbers = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let has_at = memchr::memchr(b'@', bytes).is_some();
    let has_numbers = numbers >= FEWEST_DIGITS;
    if !has_numbers && !has_at {
        return Vec::new();
    }
    let groups = if has_numbers {
        groups(bytes)
    } else {
        Vec::new()
    };
    let mut found: Vec<Found> = Vec::new();
    for &kind in &scan.kinds {
        let mut take = |place: Range<usize>| found.push((place, kind));
        match kind {
            Sensitive::Email => emails(text, &mut take),
            Sensitive::Iban if has_numbers => ibans(text, &mut take),
            Sensitive::NationalId if has_numbers => {
                words(text, &mut take);
                for group in &groups {
                    runs(bytes, group, 1..=15, |run, place| {
                        let own = text.get(place).unwrap_or_default();
                        ahv(run) || nir(run) || tax_id(run) || pesel(run) || ssn(own)
                    })
                    .for_each(&mut take);
                }
            }
            Sensitive::Pan => {
                for group in &groups {
                    runs(bytes, group, 13..=19, |run, _| is_card(run)).for_each(&mut take);
                }
            }
            Sensitive::Phone => {
                for group in &groups {
                    runs(bytes, group, 8..=17, |run, place| {
                        is_phone(bytes, group, run, &place)
                    })
                    .map(|place| with_plus(bytes, place))
                    .for_each(&mut take);
                }
            }
            Sensitive::Iban | Sensitive::NationalId => {}
        }
    }
    // Stable: of two at one place the scan's first stays.
    found.sort_by_key(|(place, _)| place.start);
    // One that begins inside another is told with it; what it adds is sensitive as well.
    found.dedup_by(|(next, _), (place, _)| {
        let overlaps = next.start < place.end;
        if overlaps {
            place.end = place.end.max(next.end);
        }
        overlaps
    });
    found
}

/// Whether a spreadsheet takes the text for a formula. A sign before a plain number is none.
pub(crate) fn is_formula(text: &str) -> bool {
    match text.as_bytes().first() {
        Some(b'=' | b'@' | b'\t' | b'\r') => true,
        Some(b'+' | b'-') => !text.bytes().skip(1).all(|byte| {
            byte.is_ascii_digit() || matches!(byte, b' ' | b'.' | b',' | b'-' | b'/' | b'(' | b')')
        }),
        Some(_) | None => false,
    }
}

/// No kind but e-mail has fewer.
const FEWEST_DIGITS: usize = 5;

fn is_word(byte: Option<&u8>) -> bool {
    byte.is_some_and(u8::is_ascii_alphanumeric)
}

fn groups(bytes: &[u8]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut digits: Vec<(usize, u8)> = Vec::new();
    for (at, byte) in bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| byte.is_ascii_digit())
    {
        let before = digits
            .last()
            .map(|(last, _)| bytes.get(last + 1..at).unwrap_or_default());
        let is_one = before.is_none_or(|between| {
            let is_mark = |byte: &u8| matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')');
            between.len() <= 2 && between.iter().all(is_mark)
        });
        if !is_one {
            groups.push(Group {
                digits: std::mem::take(&mut digits),
            });
        }
        digits.push((at, byte - b'0'));
    }
    groups.push(Group { digits });
    groups
}

/// Runs of so many digits of a group, from gap to gap and apart from letters, that are what is looked
/// for: the longest at each start, and none that begins inside the one before.
fn runs<'g>(
    bytes: &'g [u8],
    group: &'g Group,
    lengths: std::ops::RangeInclusive<usize>,
    is_wanted: impl Fn(&[u8], Range<usize>) -> bool + 'g,
) -> impl Iterator<Item = Range<usize>> + 'g {
    let digits = &group.digits;
    let place = move |at: usize| digits.get(at).map(|(place, _)| *place);
    let is_start = move |at: usize| {
        let own = place(at).unwrap_or(0);
        let is_gap = at == 0 || place(at - 1).is_some_and(|before| before + 1 < own);
        is_gap && (own == 0 || !is_word(bytes.get(own - 1)))
    };
    let is_end = move |at: usize| {
        let own = place(at).unwrap_or(0);
        let is_gap = place(at + 1).is_none_or(|next| own + 1 < next);
        is_gap && !is_word(bytes.get(own + 1))
    };
    let mut from = 0;
    std::iter::from_fn(move || {
        while from < digits.len() {
            let start = from;
            from += 1;
            if !is_start(start) {
                continue;
            }
            for length in lengths.clone().rev() {
                let Some(run) = digits.get(start..start + length) else {
                    continue;
                };
                let last = start + length - 1;
                if !is_end(last) {
                    continue;
                }
                let own: Vec<u8> = run.iter().map(|(_, digit)| *digit).collect();
                let span = place(start)?..place(last)? + 1;
                if is_wanted(&own, span.clone()) {
                    from = start + length;
                    return Some(span);
                }
            }
        }
        None
    })
}

fn exactly<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    digits.try_into().ok()
}

/// Begins like a card's number and has its length (ISO/IEC 7812 ranges of the large networks), is not
/// one digit alone, and has a Luhn sum divisible by ten.
fn is_card(digits: &[u8]) -> bool {
    let length = digits.len();
    let is_long_enough = match digits {
        [4, ..] => matches!(length, 13 | 16 | 19),
        [5, 1..=5, ..] | [2, 2..=7, ..] => length == 16,
        [3, 4 | 7, ..] => length == 15,
        [3, 0 | 6 | 8 | 9, ..] => length >= 14,
        [3, 5, ..] | [6, ..] => length >= 16,
        [5, 0 | 6..=8, ..] => true,
        _ => false,
    };
    let text: String = digits
        .iter()
        .map(|digit| char::from(b'0' + digit))
        .collect();
    let is_one_digit = digits.iter().all(|digit| Some(digit) == digits.first());
    is_long_enough && !is_one_digit && formats::fits(TextFormat::Pan, &text)
}

/// `+`, or `00` before all other numbers, and 8 to 15 digits.
fn is_phone(bytes: &[u8], group: &Group, digits: &[u8], place: &Range<usize>) -> bool {
    let plus = place
        .start
        .checked_sub(1)
        .filter(|at| bytes.get(*at) == Some(&b'+'));
    if let Some(plus) = plus {
        let is_apart = plus == 0 || !is_word(bytes.get(plus - 1));
        return is_apart && (8..=15).contains(&digits.len());
    }
    let is_first = group.digits.first().map(|(at, _)| *at) == Some(place.start);
    is_first && digits.starts_with(&[0, 0]) && digits.get(2) != Some(&0) && digits.len() >= 10
}

fn with_plus(bytes: &[u8], place: Range<usize>) -> Range<usize> {
    let has_plus = place.start > 0 && bytes.get(place.start - 1) == Some(&b'+');
    place.start - usize::from(has_plus)..place.end
}

/// Addresses around each `@`: as much of the text before and behind it as makes one.
fn emails(text: &str, take: &mut impl FnMut(Range<usize>)) {
    const LOCAL_BYTES_MAX: usize = 64;
    const DOMAIN_BYTES_MAX: usize = 253;
    let bytes = text.as_bytes();
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-%&".contains(&byte);
    for at in memchr::memchr_iter(b'@', bytes) {
        let mut start = at;
        while let Some(byte) = start.checked_sub(1).and_then(|before| bytes.get(before)) {
            let is_double = *byte == b'.' && bytes.get(start) == Some(&b'.');
            if !is_local(*byte) || is_double || at - start == LOCAL_BYTES_MAX {
                break;
            }
            start -= 1;
        }
        while start < at && matches!(bytes.get(start), Some(b'.' | b'-' | b'+' | b'%' | b'&')) {
            start += 1;
        }
        let domain = bytes.get(at + 1..).unwrap_or_default();
        let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        let longest = domain
            .iter()
            .take(DOMAIN_BYTES_MAX)
            .take_while(|byte| is_domain(byte))
            .count();
        // Where a label ends; a sentence may go on behind the last.
        let ends = (1..=longest).rev().filter(|length| {
            let own = domain
                .get(length - 1)
                .is_some_and(u8::is_ascii_alphanumeric);
            own && !is_word(domain.get(*length))
        });
        let whole = ends
            .take(8)
            .map(|length| start..at + 1 + length)
            .find(|place| {
                let own = text.get(place.clone()).unwrap_or_default();
                formats::fits(TextFormat::Email, own)
            });
        if let Some(place) = whole {
            take(place);
        }
    }
}

/// Two letters, two digits and more, in blocks or not, with the right remainder.
fn ibans(text: &str, take: &mut impl FnMut(Range<usize>)) {
    const LONGEST: usize = 34;
    let bytes = text.as_bytes();
    let mut from = 0;
    for (start, window) in bytes.windows(4).enumerate() {
        let [a, b, c, d] = window else { continue };
        let is_apart = start == 0 || !is_word(bytes.get(start - 1));
        let is_start = a.is_ascii_alphabetic()
            && b.is_ascii_alphabetic()
            && c.is_ascii_digit()
            && d.is_ascii_digit();
        if start < from || !is_apart || !is_start {
            continue;
        }
        let mut plain = String::new();
        let mut ends = Vec::new();
        let mut at = start;
        while let Some(byte) = bytes.get(at) {
            if byte.is_ascii_alphanumeric() && plain.len() < LONGEST {
                plain.push(char::from(byte.to_ascii_uppercase()));
                if !is_word(bytes.get(at + 1)) {
                    ends.push((plain.len(), at + 1));
                }
            } else if !(matches!(byte, b' ' | b'-') && is_word(bytes.get(at + 1))) {
                break;
            }
            at += 1;
        }
        let whole = ends.iter().rev().find(|(length, _)| {
            let own = plain.get(..*length).unwrap_or_default();
            formats::fits(TextFormat::Iban, own)
        });
        if let Some((_, end)) = whole {
            take(start..*end);
            from = *end;
        }
    }
}

/// National ids that hold letters.
fn words(text: &str, take: &mut impl FnMut(Range<usize>)) {
    for place in word_spans(text.as_bytes()) {
        // The shortest has nine, the longest sixteen.
        if !(9..=16).contains(&place.len()) {
            continue;
        }
        let word = text
            .get(place.clone())
            .unwrap_or_default()
            .to_ascii_uppercase();
        if dni(&word) || codice_fiscale(&word) || nino(&word) {
            take(place);
        }
    }
}

/// Runs of letters and digits.
fn word_spans(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at
            + bytes
                .get(at..)?
                .iter()
                .position(u8::is_ascii_alphanumeric)?;
        let length = bytes
            .get(start..)?
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count();
        at = start + length;
        Some(start..at)
    })
}

/// 756, ten digits, EAN-13.
fn ahv(digits: &[u8]) -> bool {
    exactly::<13>(digits).is_some_and(|digits| {
        let sum: u32 = digits
            .iter()
            .enumerate()
            .map(|(at, digit)| u32::from(*digit) * if at % 2 == 0 { 1 } else { 3 })
            .sum();
        digits.starts_with(&[7, 5, 6]) && sum.is_multiple_of(10)
    })
}

/// Sex, year, month, place, number, and 97 less the rest.
fn nir(digits: &[u8]) -> bool {
    exactly::<15>(digits).is_some_and(|digits| {
        let number = |part: &[u8]| {
            part.iter()
                .fold(0_u64, |sum, digit| sum * 10 + u64::from(*digit))
        };
        let (body, key) = digits.split_at(13);
        let month = number(digits.get(3..5).unwrap_or_default());
        matches!(digits.first(), Some(1 | 2))
            && ((1..=12).contains(&month) || (20..=42).contains(&month))
            && number(key) == 97 - number(body) % 97
    })
}

/// Eleven digits, the first not zero, one of the first ten two or three times, ISO 7064 mod 11,10.
fn tax_id(digits: &[u8]) -> bool {
    exactly::<11>(digits).is_some_and(|digits| {
        let (body, check) = digits.split_at(10);
        let mut counts = [0_u8; 10];
        for digit in body {
            if let Some(count) = counts.get_mut(usize::from(*digit)) {
                *count += 1;
            }
        }
        let repeated: Vec<u8> = counts.into_iter().filter(|count| *count > 1).collect();
        let product = body.iter().fold(10_u32, |product, digit| {
            let sum = (product + u32::from(*digit)) % 10;
            (if sum == 0 { 10 } else { sum }) * 2 % 11
        });
        let wanted = (11 - product) % 10;
        body.first() != Some(&0)
            && matches!(repeated.as_slice(), [2 | 3])
            && check.first().map(|check| u32::from(*check)) == Some(wanted)
    })
}

/// A date of birth, a number, weights 1 3 7 9.
fn pesel(digits: &[u8]) -> bool {
    exactly::<11>(digits).is_some_and(|digits| {
        const WEIGHTS: [u32; 11] = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1];
        let sum: u32 = digits
            .iter()
            .zip(WEIGHTS)
            .map(|(digit, weight)| u32::from(*digit) * weight)
            .sum();
        let [_, _, m1, m2, d1, d2, ..] = digits;
        let (month, day) = ((m1 % 2) * 10 + m2, d1 * 10 + d2);
        sum.is_multiple_of(10) && (1..=12).contains(&month) && (1..=31).contains(&day)
    })
}

/// `123-45-6789`, without the numbers that are never given.
fn ssn(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, group, serial] = parts.as_slice() else {
        return false;
    };
    let is = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    is(area, 3)
        && is(group, 2)
        && is(serial, 4)
        && *area != "000"
        && *area != "666"
        && !area.starts_with('9')
        && *group != "00"
        && *serial != "0000"
}

/// Eight digits, or X, Y or Z and seven, and the letter they give.
fn dni(word: &str) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let number = match word.as_bytes().first() {
        Some(b'X') => word.replacen('X', "0", 1),
        Some(b'Y') => word.replacen('Y', "1", 1),
        Some(b'Z') => word.replacen('Z', "2", 1),
        Some(_) | None => word.to_owned(),
    };
    let Some((digits, letter)) = number.split_at_checked(8) else {
        return false;
    };
    let value = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<usize>());
    match (value, letter.as_bytes()) {
        (Some(Ok(value)), [letter]) => LETTERS.get(value % 23) == Some(letter),
        _ => false,
    }
}

/// Six letters, two digits, a letter, two digits, a letter, three digits, and the letter they give.
fn codice_fiscale(word: &str) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    const FORM: &[u8; 16] = b"AAAAAA00A00A000A";
    let bytes = word.as_bytes();
    let fits = bytes.len() == FORM.len()
        && bytes.iter().zip(FORM).all(|(byte, form)| match form {
            b'A' => byte.is_ascii_uppercase(),
            _ => byte.is_ascii_digit(),
        });
    let Some((check, body)) = bytes.split_last().filter(|_| fits) else {
        return false;
    };
    let sum: u32 = body
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            let value = match byte {
                b'0'..=b'9' => byte - b'0',
                _ => byte.saturating_sub(b'A'),
            };
            if at % 2 == 0 {
                ODD.get(usize::from(value)).copied().unwrap_or(0)
            } else {
                u32::from(value)
            }
        })
        .sum();
    u32::from(check.saturating_sub(b'A')) == sum % 26
}

/// Two letters, six digits, A to D.
fn nino(word: &str) -> bool {
    let bytes = word.as_bytes();
    let [a, b, digits @ .., suffix] = bytes else {
        return false;
    };
    let is_letter = |letter: &u8| letter.is_ascii_uppercase() && !b"DFIQUV".contains(letter);
    let prefix = [*a, *b];
    digits.len() == 6
        && digits.iter().all(u8::is_ascii_digit)
        && is_letter(a)
        && is_letter(b)
        && *b != b'O'
        && ![*b"BG", *b"GB", *b"NK", *b"KN", *b"TN", *b"NT", *b"ZZ"].contains(&prefix)
        && (b'A'..=b'D').contains(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::contract::OnMatch;

    fn found(text: &str) -> Option<(&str, &'static str)> {
        let scan = Scan {
            kinds: Sensitive::ALL.to_vec(),
            on_match: OnMatch::Reject,
        };
        let (place, kind) = find(&scan, text)?;
        Some((text.get(place)?, kind.name()))
    }

    #[test]
    fn sensitive_values_are_found_where_they_stand() {
        for (text, value, kind) in [
            (
                "card 4111 1111 1111 1111, exp",
                "4111 1111 1111 1111",
                "pan",
            ),
            ("4111111111111111", "4111111111111111", "pan"),
            ("ref 12 5500-0000-0000-0004 x", "5500-0000-0000-0004", "pan"),
            ("amex:378282246310005.", "378282246310005", "pan"),
            (
                "pay DE89 3704 0044 0532 0130 00 now",
                "DE89 3704 0044 0532 0130 00",
                "iban",
            ),
            ("gb82west12345698765432", "gb82west12345698765432", "iban"),
            (
                "write to <a.b+c@example.org>.",
                "a.b+c@example.org",
                "email",
            ),
            ("mail=x@y.example.", "x@y.example", "email"),
            ("call +49 30 123456-78 today", "+49 30 123456-78", "phone"),
            ("0041 44 668 18 00", "0041 44 668 18 00", "phone"),
            ("AHV 756.9217.0769.85", "756.9217.0769.85", "national-id"),
            (
                "nir 1 84 12 76 451 089 46",
                "1 84 12 76 451 089 46",
                "national-id",
            ),
            ("dni 12345678Z", "12345678Z", "national-id"),
            ("nie x1234567l ok", "x1234567l", "national-id"),
            ("cf RSSMRA85T10A562S", "RSSMRA85T10A562S", "national-id"),
            ("IdNr 86 095 742 719", "86 095 742 719", "national-id"),
            ("PESEL 44051401359", "44051401359", "national-id"),
            ("NI AB123456C", "AB123456C", "national-id"),
            ("ssn 078-05-1120", "078-05-1120", "national-id"),
            ("Kunde A1 4111 1111 1111 1111", "4111 1111 1111 1111", "pan"),
            (
                "AHV 756.9217.0769.85 2026",
                "756.9217.0769.85",
                "national-id",
            ),
            ("078-05-1120 2024", "078-05-1120", "national-id"),
            ("Nr 5 44051401359", "44051401359", "national-id"),
            // Rather too much than too little.
            ("+41446681800 15.01.2026", "+41446681800 15.01", "phone"),
            ("+41 (0)44 668 18 00", "+41 (0)44 668 18 00", "phone"),
            ("Fwd...jane@example.org", "jane@example.org", "email"),
            ("jane@example.org...danke", "jane@example.org", "email"),
            ("jane@example.org.2024", "jane@example.org", "email"),
            (
                "IBAN DE89-3704-0044-0532-0130-00",
                "DE89-3704-0044-0532-0130-00",
                "iban",
            ),
        ] {
            assert_eq!(found(text), Some((value, kind)), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_left_alone() {
        for text in [
            "",
            "plain text",
            "4111 1111 1111 1112",
            "0000000000000000",
            "order 20261120-0001",
            "x4111111111111111",
            "DE89 3704 0044 0532 0130 01",
            "@home",
            "a@b",
            "12345",
            "2026-11-20 07:00",
            "1.234.567,89",
            "+49",
            "12345678A",
            "RSSMRA85T10A562T",
            "AB1234567",
            "000-12-3456",
            "86 095 742 718",
            "10.0.0.1",
            "9781861972712",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn every_value_is_redacted_and_nothing_else() {
        let scan = Scan {
            kinds: Sensitive::ALL.to_vec(),
            on_match: OnMatch::Redact,
        };
        let mut out = String::new();
        redact(
            &scan,
            "\u{e4} 4111111111111111/x@y.example, 2 DE89370400440532013000",
            &mut out,
        );
        assert_eq!(out, "\u{e4} [pan]/[email], 2 [iban]");
        // The longest number that may be called takes the first group of the card.
        out.clear();
        redact(&scan, "+41446681800 4111 1111 1111 1111 ok", &mut out);
        assert_eq!(out, "[phone] ok");
    }

    #[test]
    fn hostile_text_is_looked_at_once() {
        let scan = Scan {
            kinds: Sensitive::ALL.to_vec(),
            on_match: OnMatch::Redact,
        };
        // Square time in any of these would be hours.
        for piece in [
            "a@b.cd ",
            "1 ",
            "@",
            "DE12 ",
            "a1",
            "4111111111111111 ",
            "a.b-c",
            "+1(2)",
        ] {
            let text = piece.repeat((256 << 10) / piece.len());
            let mut out = String::new();
            redact(&scan, &text, &mut out);
            assert!(!out.is_empty(), "{piece}");
        }
    }

    #[test]
    fn formulas_are_told_from_numbers() {
        for text in [
            "=1+1",
            "@SUM(A1)",
            "+A1",
            "-2+cmd|' /C calc'!A0",
            "\tx",
            "\r=1",
            "+1e5",
        ] {
            assert!(is_formula(text), "{text:?}");
        }
        for text in [
            "",
            "a=b",
            "-5",
            "+49 (30) 12-34",
            "- ",
            "-1.234,5",
            "1-2",
            " =1",
        ] {
            assert!(!is_formula(text), "{text:?}");
        }
    }
}
