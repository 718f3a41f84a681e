//! How the text of a file is shown in findings: cut, escaped, and only as a shape where the
//! column is sensitive. Nothing else in inspection turns a cell into a message.

use crate::terms::limits;
use crate::terms::path;

/// Whether a text may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Cut and escaped.
    Open,
    /// As a shape only.
    Shape,
}

/// A cell for a sample.
pub(crate) fn value(text: &str, sight: Sight) -> String {
    match sight {
        Sight::Open => path::quoted(text, limits::SAMPLE_VALUE_CHARS_MAX),
        Sight::Shape => shape(text),
    }
}

/// Letters become `A` or `a`, digits `9`, other ASCII stays, everything else is `?`.
pub(crate) fn shape(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == limits::SAMPLE_SHAPE_CHARS_MAX {
            out.push_str("...");
            break;
        }
        out.push(if c.is_uppercase() {
            'A'
        } else if c.is_alphabetic() {
            'a'
        } else if c.is_numeric() {
            '9'
        } else if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        });
    }
    out
}

/// A label or name inside a sentence: ASCII only.
pub(crate) fn name(text: &str) -> String {
    let mut out = String::new();
    for c in path::quoted(text, limits::SAMPLE_VALUE_CHARS_MAX).chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// Names inside a sentence: `a, b and c`, many of them `a, b, c and 4 more`.
pub(crate) fn names<'n>(all: impl Iterator<Item = &'n str>) -> String {
    const SHOWN_MAX: usize = 10;
    let all: Vec<String> = all.map(name).collect();
    match all.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        many if many.len() > SHOWN_MAX => {
            let shown: Vec<&str> = many.iter().take(SHOWN_MAX).map(String::as_str).collect();
            format!("{} and {} more", shown.join(", "), many.len() - SHOWN_MAX)
        }
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `1 cell`, `7 cells`.
pub(crate) fn counted(count: u64, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {word}{plural}")
}

/// A size in the largest unit that divides it: `64 KiB`, `1000 bytes`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    UNITS
        .iter()
        .find(|(size, _)| count >= *size && count.is_multiple_of(*size))
        .map_or_else(
            || counted(count, "byte"),
            |(size, unit)| format!("{} {unit}", count / size),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_tells_the_form_and_not_the_value() {
        assert_eq!(shape("DE89 3704"), "AA99 9999");
        assert_eq!(shape("jane.doe@x.org"), "aaaa.aaa@a.aaa");
        assert_eq!(shape("\u{c4}\u{df}\u{ff11}\u{7}\u{1f600}"), "Aa9??");
        assert_eq!(shape(&"7".repeat(30)), format!("{}...", "9".repeat(24)));
    }

    #[test]
    fn shown_values_are_cut_and_cannot_drive_a_terminal() {
        assert_eq!(value("a\u{1b}[2J", Sight::Open), "a\\u{1b}[2J");
        assert_eq!(
            value(&"x".repeat(41), Sight::Open),
            format!("{}...", "x".repeat(40))
        );
        assert_eq!(value("Secret 7", Sight::Shape), "Aaaaaa 9");
    }

    #[test]
    fn sentences_are_ascii() {
        assert_eq!(name("Stra\u{df}e"), "Stra\\u{df}e");
        assert_eq!(names(["a", "b", "c"].into_iter()), "a, b and c");
        assert_eq!(names(["a"].into_iter()), "a");
        let many: Vec<String> = (0..13).map(|n| n.to_string()).collect();
        assert_eq!(
            names(many.iter().map(String::as_str)),
            "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"
        );
    }

    #[test]
    fn sizes_are_whole_units() {
        assert_eq!(bytes(64 * 1024), "64 KiB");
        assert_eq!(bytes(1000), "1000 bytes");
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(3 << 30), "3 GiB");
    }
}
