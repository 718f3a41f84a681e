//! Date formats of a column: what they may hold, and whether two of them can be told apart.
//!
//! Formats are those of POSIX `strftime`, as `jiff` reads them, less everything that depends on
//! a locale, a time zone database or a week count.

use jiff::civil::{DateTime, date};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use toml::Spanned;

use crate::policy::mistake::shown;
use crate::policy::text::Notes;
use crate::terms::codes;

/// Whether a column holds days or moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// A calendar date.
    Day,
    /// A date and a time of day.
    Moment,
}

/// What one conversion of a format tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Year,
    ShortYear,
    Month,
    Day,
    DayOfYear,
    Hour,
    HalfDayHour,
    HalfDay,
    Minute,
    Second,
    Fraction,
    Offset,
    Nothing,
}

// === impl Grain ===

impl Grain {
    /// The format taken when the policy names none: ISO 8601, in UTC.
    pub(crate) fn default_format(self) -> &'static str {
        match self {
            Self::Day => "%Y-%m-%d",
            Self::Moment => "%Y-%m-%dT%H:%M:%SZ",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Day => "date",
            Self::Moment => "datetime",
        }
    }
}

/// Checks the formats of one column: each alone, then each pair.
pub(crate) fn check(formats: &[Spanned<&str>], grain: Grain, notes: &mut Notes<'_>) {
    let sound: Vec<&Spanned<&str>> = formats
        .iter()
        .filter(|format| match fault_of(format.get_ref(), grain) {
            Ok(told) => {
                if told.contains(&Told::ShortYear) {
                    notes
                        .warn(
                            codes::POLICY_SHORT_YEAR,
                            &format.span(),
                            "%y has no century: 69 to 99 are read as 1969 to 1999, the rest as 20xx",
                        )
                        .under("ask for four digits, %Y, where you can");
                }
                true
            }
            Err(why) => {
                notes
                    .error(
                        codes::POLICY_BAD_FORMAT,
                        &format.span(),
                        format!("\"{}\" is not a {} format: {why}", shown(format.get_ref()), grain.word()),
                    )
                    .under(format!("as in \"{}\"", grain.default_format()));
                false
            }
        })
        .collect();
    for (at, later) in sound.iter().enumerate() {
        for earlier in sound.iter().take(at) {
            if let Some(text) = read_two_ways(earlier.get_ref(), later.get_ref()) {
                notes
                    .error(
                        codes::POLICY_AMBIGUOUS_DATES,
                        &later.span(),
                        format!(
                            "\"{}\" and \"{}\" cannot be told apart",
                            shown(earlier.get_ref()),
                            shown(later.get_ref())
                        ),
                    )
                    .under(format!("\"{text}\" fits both, with two meanings"))
                    .advise("keep one of them, or make two feeds");
            }
        }
    }
}

/// What the format tells, or why it is none.
fn fault_of(format: &str, grain: Grain) -> Result<Vec<Told>, String> {
    let told = conversions(format)?;
    let has = |what: Told| told.contains(&what);
    let mut sorted: Vec<Told> = told
        .iter()
        .copied()
        .filter(|t| *t != Told::Nothing)
        .collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err("it tells something twice".to_owned());
    }
    let year = has(Told::Year) != has(Told::ShortYear);
    let day = has(Told::DayOfYear) != (has(Told::Month) && has(Told::Day));
    if !year || !day {
        return Err("it must tell year, month and day once each".to_owned());
    }
    let hour = has(Told::Hour) != (has(Told::HalfDayHour) && has(Told::HalfDay));
    let time = [
        Told::Hour,
        Told::HalfDayHour,
        Told::HalfDay,
        Told::Minute,
        Told::Second,
        Told::Fraction,
        Told::Offset,
    ]
    .into_iter()
    .any(has);
    match grain {
        Grain::Day if time => {
            return Err("it has a time of day; use type = \"datetime\"".to_owned());
        }
        Grain::Moment if !hour || !has(Told::Minute) => {
            return Err("it must tell hour and minute too".to_owned());
        }
        Grain::Day | Grain::Moment => {}
    }
    // The proof: what is written with the format is read back as the same moment.
    for sample in samples() {
        let written = write(format, sample).ok_or("nothing can be written with it")?;
        read(format, &written).ok_or("what it writes cannot be read back")?;
    }
    Ok(told)
}

/// The conversions of a format, in order.
fn conversions(format: &str) -> Result<Vec<Told>, String> {
    if format.chars().any(char::is_control) {
        return Err("it has a control character".to_owned());
    }
    let mut told = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        rest = rest.get(at + 1..).unwrap_or_default();
        let (width, meaning) = SPECIFIERS
            .iter()
            .find(|(text, _)| rest.starts_with(text))
            .map(|(text, meaning)| (text.len(), *meaning))
            .ok_or_else(|| {
                let word: String = rest.chars().take(1).collect();
                if word.is_empty() {
                    "it ends in %".to_owned()
                } else {
                    format!("%{} is not among {}", shown(&word), known_specifiers())
                }
            })?;
        told.extend(meaning);
        rest = rest.get(width..).unwrap_or_default();
    }
    Ok(told)
}

/// Longer ones before their beginnings.
const SPECIFIERS: &[(&str, &[Told])] = &[
    ("Y", &[Told::Year]),
    ("y", &[Told::ShortYear]),
    ("m", &[Told::Month]),
    ("b", &[Told::Month]),
    ("B", &[Told::Month]),
    ("d", &[Told::Day]),
    ("e", &[Told::Day]),
    ("j", &[Told::DayOfYear]),
    ("F", &[Told::Year, Told::Month, Told::Day]),
    ("H", &[Told::Hour]),
    ("I", &[Told::HalfDayHour]),
    ("p", &[Told::HalfDay]),
    ("M", &[Told::Minute]),
    ("S", &[Told::Second]),
    ("T", &[Told::Hour, Told::Minute, Told::Second]),
    ("R", &[Told::Hour, Told::Minute]),
    ("f", &[Told::Fraction]),
    ("3f", &[Told::Fraction]),
    ("6f", &[Told::Fraction]),
    (".f", &[Told::Fraction]),
    (".3f", &[Told::Fraction]),
    (".6f", &[Told::Fraction]),
    ("z", &[Told::Offset]),
    (":z", &[Told::Offset]),
    ("%", &[Told::Nothing]),
];

fn known_specifiers() -> String {
    let names: Vec<String> = SPECIFIERS
        .iter()
        .map(|(text, _)| format!("%{text}"))
        .collect();
    names.join(" ")
}

/// A text that both formats take, as different moments.
fn read_two_ways(a: &str, b: &str) -> Option<String> {
    let one_way = |written_with: &str, read_with: &str| {
        samples().into_iter().find_map(|sample| {
            let text = write(written_with, sample)?;
            let again = read(read_with, &text)?;
            // Lenient reading (`%Y` of two digits) does not make it a text of that format.
            let same_text = write(read_with, again)? == text;
            let meant = read(written_with, &text)?;
            (same_text && again != meant).then_some(text)
        })
    };
    one_way(a, b).or_else(|| one_way(b, a))
}

/// Days whose parts are all different and all fit month, day and short year.
fn samples() -> [DateTime; 3] {
    [
        date(2003, 2, 1).at(4, 5, 6, 0),
        date(2012, 11, 10).at(9, 8, 7, 0),
        date(2001, 12, 3).at(11, 10, 9, 0),
    ]
}

fn write(format: &str, at: DateTime) -> Option<String> {
    let zoned = at.to_zoned(TimeZone::UTC).ok()?;
    BrokenDownTime::from(&zoned).to_string(format).ok()
}

fn read(format: &str, text: &str) -> Option<DateTime> {
    BrokenDownTime::parse(format, text).ok()?.to_datetime().ok()
}

/// A bound of a column in days or microseconds since 1970; `None` when it is not ISO 8601.
pub(crate) fn bound(text: &str, grain: Grain) -> Option<i128> {
    let epoch = date(1970, 1, 1);
    match grain {
        Grain::Day => {
            let day = read("%Y-%m-%d", text).filter(|_| text.len() == 10)?.date();
            Some(i128::from(epoch.until(day).ok()?.get_days()))
        }
        Grain::Moment => {
            let moment = if let Ok(moment) = text.parse::<jiff::Timestamp>() {
                moment
            } else {
                let local: DateTime = text.parse().ok()?;
                local.to_zoned(TimeZone::UTC).ok()?.timestamp()
            };
            Some(i128::from(moment.as_microsecond()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_specifier_on_the_list_can_be_written_and_read() {
        for format in [
            "%Y-%m-%d", "%d.%m.%Y", "%d %b %Y", "%e %B %Y", "%Y%j", "%F", "%Y%m%d", "%y%m%d",
            "100%% %F",
        ] {
            assert!(fault_of(format, Grain::Day).is_ok(), "{format}");
        }
        for format in [
            "%Y-%m-%dT%H:%M:%SZ",
            "%F %T",
            "%F %R",
            "%F %I:%M %p",
            "%FT%T%z",
            "%FT%T%:z",
            "%FT%T%.fZ",
            "%FT%T%.3fZ",
            "%FT%T.%3f",
            "%FT%T.%6f",
            "%FT%T.%f",
        ] {
            assert!(
                fault_of(format, Grain::Moment).is_ok(),
                "{format}: {:?}",
                fault_of(format, Grain::Moment)
            );
        }
    }

    #[test]
    fn formats_that_leave_something_out_or_say_it_twice_are_none() {
        for (format, grain) in [
            ("", Grain::Day),
            ("%Y-%m", Grain::Day),
            ("%Y-%m-%d %H", Grain::Day),
            ("%Y-%m-%d", Grain::Moment),
            ("%F %I:%M", Grain::Moment),
            ("%F %Y", Grain::Day),
            ("%Y-%m-%d %Z", Grain::Moment),
            ("%c", Grain::Moment),
            ("%s", Grain::Moment),
            ("%Y-%m-%d%", Grain::Day),
            ("%Y-%m-%d\n", Grain::Day),
        ] {
            assert!(fault_of(format, grain).is_err(), "{format}");
        }
    }

    #[test]
    fn day_and_month_exchanged_are_ambiguous_and_different_shapes_are_not() {
        assert_eq!(
            read_two_ways("%d/%m/%Y", "%m/%d/%Y").as_deref(),
            Some("01/02/2003")
        );
        assert!(read_two_ways("%y%m%d", "%d%m%y").is_some());
        for (a, b) in [
            ("%d.%m.%Y", "%Y-%m-%d"),
            ("%d.%m.%Y", "%d.%m.%y"),
            ("%Y%m%d", "%Y-%m-%d"),
            ("%d %b %Y", "%d %m %Y"),
        ] {
            assert_eq!(read_two_ways(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn bounds_are_days_or_microseconds() {
        assert_eq!(bound("1970-01-02", Grain::Day), Some(1));
        assert_eq!(bound("1900-01-01", Grain::Day), Some(-25_567));
        assert_eq!(
            bound("1970-01-01T00:00:01Z", Grain::Moment),
            Some(1_000_000)
        );
        assert_eq!(bound("1970-01-01T01:00:00+01:00", Grain::Moment), Some(0));
        assert_eq!(bound("1970-01-01T00:00:00.5", Grain::Moment), Some(500_000));
        assert_eq!(bound("2026-02-30", Grain::Day), None);
        assert_eq!(bound("01.01.1970", Grain::Day), None);
    }
}
