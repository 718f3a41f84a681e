//! Calendar dates and moments in `strftime` formats, exactly.
//!
//! Formats made of four-digit years and two-digit fields are compiled once and read by hand,
//! every field in its full width. All others go through jiff. Either way a date must exist:
//! 2026-02-30 is none, and neither is 23:59:60.

use jiff::civil;
use jiff::fmt::strtime;

/// One compiled format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DateFormat {
    text: String,
    /// `None`: needs jiff.
    steps: Option<Vec<Step>>,
}

/// Which value a format gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Days since 1970-01-01.
    Days,
    /// Microseconds since 1970-01-01T00:00:00Z; without an offset as if UTC.
    Microseconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Literal(u8),
}

// === impl DateFormat ===

impl DateFormat {
    /// Compiles one `strftime` format.
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            steps: steps(text),
        }
    }

    /// The format as written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a cell has digits and signs where the format wants them: its date may still not
    /// exist. Formats read by jiff do not tell.
    pub(crate) fn has_shape_of(&self, cell: &str) -> bool {
        let Some(steps) = &self.steps else {
            return false;
        };
        let mut wanted = steps.iter().flat_map(|step| match step {
            Step::Year => std::iter::repeat_n(None, 4),
            Step::Month | Step::Day | Step::Hour | Step::Minute | Step::Second => {
                std::iter::repeat_n(None, 2)
            }
            Step::Literal(literal) => std::iter::repeat_n(Some(*literal), 1),
        });
        let fits = cell.bytes().all(|byte| match wanted.next() {
            Some(None) => byte.is_ascii_digit(),
            Some(Some(literal)) => byte == literal,
            None => false,
        });
        fits && wanted.next().is_none()
    }

    /// The value of a cell, or `None` when the cell has not this format or no such moment exists.
    pub(crate) fn read(&self, cell: &str, unit: Unit) -> Option<i128> {
        match &self.steps {
            Some(steps) => read_steps(steps, cell.as_bytes(), unit),
            None => self.read_slowly(cell, unit),
        }
    }

    fn read_slowly(&self, cell: &str, unit: Unit) -> Option<i128> {
        // A blank in a format stands for any amount of white space in jiff; here for itself.
        if blanks(cell) != blanks(&self.text) {
            return None;
        }
        let parsed = strtime::parse(&self.text, cell).ok()?;
        match unit {
            Unit::Days => parsed.to_date().ok().map(days_of),
            Unit::Microseconds if parsed.offset().is_some() || parsed.timestamp().is_some() => {
                Some(i128::from(parsed.to_timestamp().ok()?.as_microsecond()))
            }
            Unit::Microseconds => {
                let moment = parsed.to_datetime().ok()?;
                let (hour, minute, second) = (moment.hour(), moment.minute(), moment.second());
                let seconds = (i128::from(hour) * 60 + i128::from(minute)) * 60
                    + i128::from(second)
                    + days_of(moment.date()) * 86_400;
                Some(seconds * 1_000_000 + i128::from(moment.subsec_nanosecond()) / 1000)
            }
        }
    }
}

fn blanks(text: &str) -> usize {
    text.chars().filter(|c| c.is_whitespace()).count()
}

fn days_of(date: civil::Date) -> i128 {
    days_since_1970(
        i64::from(date.year()),
        i64::from(date.month()),
        i64::from(date.day()),
    )
}

/// The steps of a format that has only full-width numbers, each at most once.
fn steps(format: &str) -> Option<Vec<Step>> {
    let expanded = format.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S");
    let mut steps = Vec::new();
    let mut bytes = expanded.bytes();
    while let Some(byte) = bytes.next() {
        let step = match byte {
            b'%' => match bytes.next()? {
                b'Y' => Step::Year,
                b'm' => Step::Month,
                b'd' => Step::Day,
                b'H' => Step::Hour,
                b'M' => Step::Minute,
                b'S' => Step::Second,
                b'%' => Step::Literal(b'%'),
                _ => return None,
            },
            literal => Step::Literal(literal),
        };
        let is_field = !matches!(step, Step::Literal(_));
        if is_field && steps.contains(&step) {
            return None;
        }
        steps.push(step);
    }
    [Step::Year, Step::Month, Step::Day]
        .iter()
        .all(|needed| steps.contains(needed))
        .then_some(steps)
}

fn read_steps(steps: &[Step], cell: &[u8], unit: Unit) -> Option<i128> {
    let mut rest = cell;
    let (mut year, mut month, mut day) = (0, 0, 0);
    let (mut hour, mut minute, mut second) = (0, 0, 0);
    for step in steps {
        match step {
            Step::Year => {
                let (century, in_century) = (two_digits(&mut rest)?, two_digits(&mut rest)?);
                year = century * 100 + in_century;
            }
            Step::Month => month = two_digits(&mut rest)?,
            Step::Day => day = two_digits(&mut rest)?,
            Step::Hour => hour = two_digits(&mut rest)?,
            Step::Minute => minute = two_digits(&mut rest)?,
            Step::Second => second = two_digits(&mut rest)?,
            Step::Literal(literal) => {
                let (first, others) = rest.split_first()?;
                if first != literal {
                    return None;
                }
                rest = others;
            }
        }
    }
    let exists = rest.is_empty()
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !exists {
        return None;
    }
    let days = days_since_1970(year, month, day);
    Some(match unit {
        Unit::Days => days,
        Unit::Microseconds => {
            (days * 86_400 + i128::from((hour * 60 + minute) * 60 + second)) * 1_000_000
        }
    })
}

fn two_digits(rest: &mut &[u8]) -> Option<i64> {
    let (pair, others) = rest.split_first_chunk::<2>()?;
    let [tens, ones] = pair.map(|byte| byte.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 {
        return None;
    }
    *rest = others;
    Some(i64::from(tens * 10 + ones))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> i128 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i128::from(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, cell: &str, unit: Unit, expect: Option<i128>) {
        assert_eq!(
            DateFormat::new(format).read(cell, unit),
            expect,
            "{cell:?} in {format:?}"
        );
    }

    #[test]
    fn dates_must_exist() {
        let ymd = "%Y-%m-%d";
        check(ymd, "1970-01-01", Unit::Days, Some(0));
        check(ymd, "2026-11-21", Unit::Days, Some(20_778));
        check(ymd, "1969-12-31", Unit::Days, Some(-1));
        check(ymd, "2024-02-29", Unit::Days, Some(19_782));
        check(ymd, "2000-02-29", Unit::Days, Some(11_016));
        for none in [
            "2026-02-29",
            "1900-02-29",
            "2026-02-30",
            "2026-04-31",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "2026-1-5",
            "26-01-05",
            "+2026-01-05",
            "2026-01-05 ",
            " 2026-01-05",
            "2026-01-055",
            "2026/01/05",
            "2026-01",
            "",
            "\u{ff12}026-01-05",
        ] {
            check(ymd, none, Unit::Days, None);
        }
    }

    #[test]
    fn moments_are_microseconds() {
        let zulu = "%Y-%m-%dT%H:%M:%SZ";
        check(
            zulu,
            "1970-01-01T00:00:01Z",
            Unit::Microseconds,
            Some(1_000_000),
        );
        check(
            zulu,
            "2026-11-21T05:44:30Z",
            Unit::Microseconds,
            Some((20_778 * 86_400 + 5 * 3600 + 44 * 60 + 30) * 1_000_000),
        );
        for none in [
            "2026-11-21T24:00:00Z",
            "2026-11-21T05:60:30Z",
            "2026-11-21T23:59:60Z",
            "2026-11-21T05:44:30",
            "2026-11-21 05:44:30Z",
            "2026-11-21T05:44:30z",
        ] {
            check(zulu, none, Unit::Microseconds, None);
        }
        check(
            "%F %T",
            "1970-01-02 00:00:00",
            Unit::Microseconds,
            Some(86_400_000_000),
        );
    }

    #[test]
    fn other_orders_are_read_by_hand_and_other_directives_by_jiff() {
        check("%d.%m.%Y", "02.01.1970", Unit::Days, Some(1));
        check("%Y%m%d", "19700103", Unit::Days, Some(2));
        check("%d %b %Y", "04 Jan 1970", Unit::Days, Some(3));
        check("%d %b %Y", "04  Jan 1970", Unit::Days, None);
        check("%d %b %Y", "30 Feb 1970", Unit::Days, None);
        check(
            "%Y-%m-%dT%H:%M:%S%:z",
            "1970-01-01T02:00:00+02:00",
            Unit::Microseconds,
            Some(0),
        );
        check(
            "%Y-%m-%dT%H:%M:%S%.f",
            "1970-01-01T00:00:00.25",
            Unit::Microseconds,
            Some(250_000),
        );
    }

    #[test]
    fn the_hand_path_and_jiff_agree_on_every_day_of_four_centuries() {
        let format = DateFormat::new("%Y-%m-%d");
        let mut date = civil::date(1800, 1, 1);
        while date < civil::date(2200, 1, 1) {
            let since = date.since(civil::date(1970, 1, 1)).unwrap().get_days();
            assert_eq!(
                format.read(&date.to_string(), Unit::Days),
                Some(i128::from(since))
            );
            date = date.tomorrow().unwrap();
        }
    }
}
