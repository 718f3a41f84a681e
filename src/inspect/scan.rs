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

/// Digits of a number as one may write it, with what stands between them.
struct Group {
    span: Range<usize>,
    /// Each with its place.
    digits: Vec<(usize, u8)>,
}

/// The first sensitive value of a text, by place and then by the order of the scan.
pub(crate) fn find(scan: &Scan, text: &str) -> Option<(Range<usize>, Sensitive)> {
    let bytes = text.as_bytes();
    let numbers = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let has_at = memchr::memchr(b'@', bytes).is_some();
    if numbers < FEWEST_DIGITS && !has_at {
        return None;
    }
    let mut found: Option<(Range<usize>, Sensitive)> = None;
    let mut take = |place: Option<Range<usize>>, kind: Sensitive| {
        if let Some(place) = place
            && found
                .as_ref()
                .is_none_or(|(best, _)| place.start < best.start)
        {
            found = Some((place, kind));
        }
    };
    let groups = if numbers < FEWEST_DIGITS {
        Vec::new()
    } else {
        groups(bytes)
    };
    for &kind in &scan.kinds {
        let place = match kind {
            Sensitive::Email => has_at.then(|| email(text)).flatten(),
            Sensitive::Iban => iban(text),
            Sensitive::NationalId => national_id(text, &groups),
            Sensitive::Pan => groups.iter().find_map(pan),
            Sensitive::Phone => groups.iter().find_map(|group| phone(bytes, group)),
        };
        take(place, kind);
    }
    found
}

/// The text with every such value replaced by its kind, as in `[pan]`.
pub(crate) fn redact(scan: &Scan, text: &str, out: &mut String) {
    let mut rest = text;
    while let Some((place, kind)) = find(scan, rest) {
        out.push_str(rest.get(..place.start).unwrap_or_default());
        out.push('[');
        out.push_str(kind.name());
        out.push(']');
        rest = rest
            .get(place.end.max(place.start + 1)..)
            .unwrap_or_default();
    }
    out.push_str(rest);
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

/// Numbers with at most one blank, hyphen, point or slash between two digits.
fn groups(bytes: &[u8]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut at = 0;
    while let Some(skip) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(u8::is_ascii_digit))
    {
        let start = at + skip;
        let mut digits = Vec::new();
        let mut end = start;
        let mut next = start;
        while let Some(byte) = bytes.get(next) {
            if byte.is_ascii_digit() {
                digits.push((next, byte - b'0'));
                end = next + 1;
            } else if !matches!(byte, b' ' | b'-' | b'.' | b'/') || next > end {
                break;
            }
            next += 1;
        }
        if start == 0 || !is_word(bytes.get(start - 1)) {
            groups.push(Group {
                span: start..end,
                digits,
            });
        }
        at = end;
    }
    groups
}

impl Group {
    /// The digits alone, when there are so many.
    fn exactly<const N: usize>(&self) -> Option<[u8; N]> {
        let digits: Vec<u8> = self.digits.iter().map(|(_, digit)| *digit).collect();
        digits.try_into().ok()
    }
}

/// 13 to 19 digits that begin like a card's and have a Luhn sum divisible by ten; also inside a
/// longer run of numbers, at its gaps.
fn pan(group: &Group) -> Option<Range<usize>> {
    let digits = &group.digits;
    let is_start = |at: usize| {
        at == 0
            || digits
                .get(at - 1)
                .zip(digits.get(at))
                .is_some_and(|(a, b)| a.0 + 1 < b.0)
    };
    let is_end = |at: usize| {
        digits
            .get(at + 1)
            .zip(digits.get(at))
            .is_none_or(|(next, own)| own.0 + 1 < next.0)
    };
    for start in (0..digits.len()).filter(|at| is_start(*at)) {
        if !digits
            .get(start)
            .is_some_and(|(_, digit)| (2..=6).contains(digit))
        {
            continue;
        }
        for length in (13..=19).rev() {
            let Some(run) = digits.get(start..start + length) else {
                continue;
            };
            let text: String = run
                .iter()
                .map(|(_, digit)| char::from(b'0' + digit))
                .collect();
            let is_one_digit = run
                .iter()
                .all(|(_, digit)| Some(*digit) == run.first().map(|d| d.1));
            if is_end(start + length - 1) && !is_one_digit && formats::fits(TextFormat::Pan, &text)
            {
                let (first, last) = (run.first()?.0, run.last()?.0);
                return Some(first..last + 1);
            }
        }
    }
    None
}

/// `+` or `00`, and 8 to 15 digits.
fn phone(bytes: &[u8], group: &Group) -> Option<Range<usize>> {
    let start = group.span.start;
    let count = group.digits.len();
    let plus = start
        .checked_sub(1)
        .filter(|at| bytes.get(*at) == Some(&b'+'));
    if let Some(plus) = plus {
        let is_apart = plus == 0 || !is_word(bytes.get(plus - 1));
        return (is_apart && (8..=15).contains(&count)).then_some(plus..group.span.end);
    }
    let is_zeros = group.digits.iter().take(2).all(|(_, digit)| *digit == 0);
    (is_zeros && (10..=17).contains(&count) && group.digits.get(2).is_some_and(|(_, d)| *d != 0))
        .then_some(group.span.clone())
}

/// An address around an `@`.
fn email(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'@', bytes).find_map(|at| {
        let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+-%&".contains(byte);
        let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        let before = bytes
            .get(..at)?
            .iter()
            .rev()
            .take_while(|byte| is_local(byte))
            .count();
        let after = bytes
            .get(at + 1..)?
            .iter()
            .take_while(|byte| is_domain(byte))
            .count();
        // What ends a sentence, or opens a bracket, is no part of it.
        let trimmed = |span: Range<usize>| {
            let own = text.get(span.clone())?;
            let front = own.len() - own.trim_start_matches(['.', '-', '+']).len();
            let back = own.len() - own.trim_end_matches(['.', '-']).len();
            Some(span.start + front..span.end - back)
        };
        let span = trimmed(at - before..at + 1 + after)?;
        formats::fits(TextFormat::Email, text.get(span.clone())?).then_some(span)
    })
}

/// Two letters, two digits and more, in blocks or not, with the right remainder.
fn iban(text: &str) -> Option<Range<usize>> {
    const LONGEST: usize = 34;
    let bytes = text.as_bytes();
    let starts = bytes.windows(4).enumerate().filter(|(at, window)| {
        let [a, b, c, d] = window else { return false };
        let is_apart = *at == 0 || !is_word(bytes.get(*at - 1));
        is_apart
            && a.is_ascii_alphabetic()
            && b.is_ascii_alphabetic()
            && c.is_ascii_digit()
            && d.is_ascii_digit()
    });
    for (start, _) in starts {
        let mut plain = String::new();
        let mut ends = Vec::new();
        let mut at = start;
        while let Some(byte) = bytes.get(at) {
            if byte.is_ascii_alphanumeric() && plain.len() < LONGEST {
                plain.push(char::from(byte.to_ascii_uppercase()));
                if !is_word(bytes.get(at + 1)) {
                    ends.push((plain.len(), at + 1));
                }
            } else if !(*byte == b' ' && is_word(bytes.get(at + 1))) {
                break;
            }
            at += 1;
        }
        let whole = ends.iter().rev().find(|(length, _)| {
            let own = plain.get(..*length).unwrap_or_default();
            formats::fits(TextFormat::Iban, own)
        });
        if let Some((_, end)) = whole {
            return Some(start..*end);
        }
    }
    None
}

fn national_id(text: &str, groups: &[Group]) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let by_digits = groups.iter().find(|group| {
        let is_apart = !is_word(bytes.get(group.span.end));
        let own = text.get(group.span.clone()).unwrap_or_default();
        is_apart && (ahv(group) || nir(group) || tax_id(group) || pesel(group) || ssn(own))
    });
    let by_digits = by_digits.map(|group| group.span.clone());
    let mut words = word_spans(bytes).filter(|span| {
        let word = text
            .get(span.clone())
            .unwrap_or_default()
            .to_ascii_uppercase();
        dni(&word) || codice_fiscale(&word) || nino(&word)
    });
    match (by_digits, words.next()) {
        (Some(a), Some(b)) if b.start < a.start => Some(b),
        (Some(span), _) | (None, Some(span)) => Some(span),
        (None, None) => None,
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
fn ahv(group: &Group) -> bool {
    group.exactly::<13>().is_some_and(|digits| {
        let sum: u32 = digits
            .iter()
            .enumerate()
            .map(|(at, digit)| u32::from(*digit) * if at % 2 == 0 { 1 } else { 3 })
            .sum();
        digits.starts_with(&[7, 5, 6]) && sum.is_multiple_of(10)
    })
}

/// Sex, year, month, place, number, and 97 less the rest.
fn nir(group: &Group) -> bool {
    group.exactly::<15>().is_some_and(|digits| {
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
fn tax_id(group: &Group) -> bool {
    group.exactly::<11>().is_some_and(|digits| {
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
fn pesel(group: &Group) -> bool {
    group.exactly::<11>().is_some_and(|digits| {
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
