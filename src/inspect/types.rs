//! One cell against one column: null, type, then constraints.
//!
//! Numbers are read exactly into i128 and never through a float. The first rule a cell breaks
//! is its fault; the others are not looked at, so one mistake is one fault. No cell is trimmed
//! or repaired. The good path does not allocate.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;

use crate::inspect::dates::{DateFormat, Unit};
use crate::inspect::formats;
use crate::inspect::show::{self, Sight};
use crate::policy::contract::{Bound, Column, Kind, TextFormat};
use crate::policy::lists::List;
use crate::terms::codes::Code;

/// What a cell that passed is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// No value.
    Null,
    /// Comparable as [`Bound::value`] is.
    Number(Wide),
    /// Its own text.
    Text,
}

/// An i128 in two words. An enum that holds an i128 has a tag of sixteen bytes, which is written in two
/// halves and read as one: the processor waits for that, at every cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wide([u64; 2]);

/// The rule a cell broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Above the highest value.
    Maximum,
    /// Below the lowest value.
    Minimum,
    /// Not in the list of a file.
    Lookup,
    /// Not one of the values listed.
    OneOf,
    /// The pattern does not match.
    Pattern,
    /// Null in a required column.
    Required,
    /// Too many characters.
    TooLong,
    /// Too few characters.
    TooShort,
    /// Not of the column's type or format.
    Type,
}

/// One column's rules, compiled.
pub(crate) struct Check {
    read: Read,
    missing: Vec<String>,
    /// Only the empty cell is no value.
    is_only_empty: bool,
    required: bool,
    pattern: Option<Regex>,
    pattern_text: Option<String>,
    values: Vec<String>,
    values_set: BTreeSet<String>,
    lookup: Option<Arc<List>>,
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    length_min: usize,
    length_max: usize,
}

/// What to say about a broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saying {
    /// One sentence about this cell, ASCII.
    pub(crate) detail: String,
    /// What to do, when something can be said.
    pub(crate) hint: Option<String>,
}

/// How text of a kind becomes a value.
enum Read {
    Boolean {
        yes: Vec<String>,
        no: Vec<String>,
    },
    Dates {
        formats: Vec<DateFormat>,
        unit: Unit,
    },
    Decimal {
        precision: u8,
        scale: u8,
    },
    Integer,
    Text(TextFormat),
}

// === impl Wide ===

impl Wide {
    #[inline]
    pub(crate) fn get(self) -> i128 {
        let Self([low, high]) = self;
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&low.to_le_bytes());
        second.copy_from_slice(&high.to_le_bytes());
        i128::from_le_bytes(bytes)
    }
}

impl From<i128> for Wide {
    #[inline]
    fn from(number: i128) -> Self {
        let bytes = number.to_le_bytes();
        let word = |part: &[u8]| part.try_into().map_or(0, u64::from_le_bytes);
        let (low, high) = bytes.split_at(8);
        Self([word(low), word(high)])
    }
}

// === impl Check ===

impl Check {
    /// Compiles a column's rules. `missing`: the cells that mean "no value".
    pub(crate) fn new(column: &Column, missing: &[String]) -> Self {
        let dates = |formats: &[String], unit| Read::Dates {
            formats: formats.iter().map(|text| DateFormat::new(text)).collect(),
            unit,
        };
        Self {
            read: match &column.kind {
                Kind::Boolean { yes, no } => Read::Boolean {
                    yes: yes.clone(),
                    no: no.clone(),
                },
                Kind::Date { formats } => dates(formats, Unit::Days),
                Kind::DateTime { formats } => dates(formats, Unit::Microseconds),
                Kind::Decimal { precision, scale } => Read::Decimal {
                    precision: *precision,
                    scale: *scale,
                },
                Kind::Integer => Read::Integer,
                Kind::Text(format) => Read::Text(*format),
            },
            missing: missing.to_vec(),
            is_only_empty: matches!(missing, [only] if only.is_empty()),
            required: column.required,
            // A clone has caches of its own, so files inspected at once do not wait for them.
            pattern: column.pattern.clone(),
            pattern_text: column.pattern_text.clone(),
            values: column.values.clone(),
            values_set: column.values_set.clone(),
            lookup: column.lookup.clone(),
            minimum: column.minimum.clone(),
            maximum: column.maximum.clone(),
            length_min: column.length_min.unwrap_or(0),
            length_max: column.length_max.unwrap_or(usize::MAX),
        }
    }

    /// Whether the cell means "no value".
    #[inline]
    pub(crate) fn is_null(&self, cell: &str) -> bool {
        if self.is_only_empty {
            return cell.is_empty();
        }
        self.missing.iter().any(|missing| missing == cell)
    }

    /// What JSON calls the column's values.
    pub(crate) fn json_kind(&self) -> &'static str {
        match self.read {
            Read::Boolean { .. } => "true or false",
            Read::Decimal { .. } | Read::Integer => "a number",
            Read::Dates { .. } | Read::Text(_) => "text",
        }
    }

    /// What a cell that was found good means, in a column of booleans.
    pub(crate) fn boolean(&self, cell: &str) -> Option<bool> {
        match &self.read {
            Read::Boolean { yes, .. } => Some(yes.iter().any(|word| word == cell)),
            Read::Dates { .. } | Read::Decimal { .. } | Read::Integer | Read::Text(_) => None,
        }
    }

    /// No value, in so many words.
    pub(crate) fn null(&self) -> Result<Value, Broken> {
        if self.required {
            Err(Broken::Required)
        } else {
            Ok(Value::Null)
        }
    }

    /// The value of a cell, or the first rule it breaks.
    #[inline]
    pub(crate) fn judge(&self, cell: &str) -> Result<Value, Broken> {
        if self.is_null(cell) {
            return if self.required {
                Err(Broken::Required)
            } else {
                Ok(Value::Null)
            };
        }
        let value = self.read(cell).ok_or(Broken::Type)?;
        if let Some(pattern) = &self.pattern
            && !pattern.is_match(cell)
        {
            return Err(Broken::Pattern);
        }
        if !self.values.is_empty() && !self.is_listed(cell) {
            return Err(Broken::OneOf);
        }
        if let Some(list) = &self.lookup
            && !list.contains(cell)
        {
            return Err(Broken::Lookup);
        }
        if let Value::Number(number) = value
            && (self.minimum.is_some() || self.maximum.is_some())
        {
            let number = number.get();
            if self.minimum.as_ref().is_some_and(|min| number < min.value) {
                return Err(Broken::Minimum);
            }
            if self.maximum.as_ref().is_some_and(|max| number > max.value) {
                return Err(Broken::Maximum);
            }
        }
        // A text has no more characters than bytes.
        if self.length_min > 0 || cell.len() > self.length_max {
            let length = cell.chars().count();
            if length < self.length_min {
                return Err(Broken::TooShort);
            }
            if length > self.length_max {
                return Err(Broken::TooLong);
            }
        }
        Ok(value)
    }

    /// The number a cell holds, whatever other rules it breaks.
    pub(crate) fn number(&self, cell: &str) -> Option<i128> {
        match self.read(cell) {
            Some(Value::Number(number)) => Some(number.get()),
            Some(Value::Null | Value::Text) | None => None,
        }
    }

    #[inline]
    fn read(&self, cell: &str) -> Option<Value> {
        match &self.read {
            Read::Boolean { yes, no } => yes
                .iter()
                .chain(no)
                .any(|word| word == cell)
                .then_some(Value::Text),
            Read::Dates { formats, unit } => formats
                .iter()
                .find_map(|format| format.read(cell, *unit))
                .map(|number| Value::Number(number.into())),
            Read::Decimal { precision, scale } => {
                decimal(cell, *precision, *scale).map(|number| Value::Number(number.into()))
            }
            Read::Integer => integer(cell).map(|number| Value::Number(number.into())),
            Read::Text(format) => formats::fits(*format, cell).then_some(Value::Text),
        }
    }

    #[inline]
    fn is_listed(&self, cell: &str) -> bool {
        const FEW: usize = 8;
        if self.values.len() <= FEW {
            self.values.iter().any(|value| value == cell)
        } else {
            self.values_set.contains(cell)
        }
    }

    /// Under which code a broken rule is found.
    pub(crate) fn code(broken: Broken) -> Code {
        match broken {
            Broken::Type => Code::TypeError,
            Broken::Lookup => Code::ForeignKey,
            Broken::Maximum
            | Broken::Minimum
            | Broken::OneOf
            | Broken::Pattern
            | Broken::Required
            | Broken::TooLong
            | Broken::TooShort => Code::ConstraintError,
        }
    }

    /// The rule in words, the same for every cell.
    pub(crate) fn rule(&self, broken: Broken) -> String {
        let bound = |bound: &Option<Bound>| {
            let text = bound.as_ref().map_or("", |bound| bound.text.as_str());
            show::name(text)
        };
        let characters = |count: usize| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} character{plural}")
        };
        match broken {
            Broken::Maximum => format!("at most {}", bound(&self.maximum)),
            Broken::Minimum => format!("at least {}", bound(&self.minimum)),
            Broken::Lookup => match &self.lookup {
                Some(list) => format!("in the list {}", show::name(&list.title())),
                None => "in its list".to_owned(),
            },
            Broken::OneOf => format!("one of {}", listed(&self.values)),
            Broken::Pattern => match &self.pattern_text {
                Some(text) => format!("pattern {}", show::name(text)),
                None => "pattern".to_owned(),
            },
            Broken::Required => "required".to_owned(),
            Broken::TooLong => format!("at most {}", characters(self.length_max)),
            Broken::TooShort => format!("at least {}", characters(self.length_min)),
            Broken::Type => self.type_name(),
        }
    }

    fn type_name(&self) -> String {
        match &self.read {
            Read::Boolean { yes, no } => {
                let words: Vec<String> = yes.iter().chain(no).cloned().collect();
                format!("boolean: {}", listed(&words))
            }
            Read::Dates { formats, unit } => {
                let name = match unit {
                    Unit::Days => "date",
                    Unit::Microseconds => "datetime",
                };
                let formats: Vec<&str> = formats.iter().map(DateFormat::text).collect();
                format!("{name} {}", show::name(&formats.join(" or ")))
            }
            Read::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Read::Integer => "integer".to_owned(),
            Read::Text(format) => formats::name(*format).unwrap_or("string").to_owned(),
        }
    }

    /// What to say about this cell. Of a cell that may not be shown nothing is repeated.
    pub(crate) fn saying(&self, broken: Broken, cell: &str, sight: Sight) -> Saying {
        let plain = |detail: &str| Saying {
            detail: detail.to_owned(),
            hint: None,
        };
        match broken {
            Broken::Required => plain("empty, but a value is required"),
            Broken::Lookup => Saying {
                detail: format!("not {}", self.rule(broken)),
                hint: self
                    .spreadsheet_hint(broken, cell, sight)
                    .map(str::to_owned),
            },
            Broken::OneOf | Broken::Pattern | Broken::TooLong | Broken::TooShort => Saying {
                detail: self.rule(broken),
                hint: self
                    .spreadsheet_hint(broken, cell, sight)
                    .map(str::to_owned),
            },
            Broken::Maximum | Broken::Minimum => plain(&self.rule(broken)),
            Broken::Type => self.type_saying(cell, sight),
        }
    }

    /// What a spreadsheet did to a text of digits, where that would explain the fault. Of a hidden cell it
    /// is not told whether it is one of the listed values but for its zeros.
    fn spreadsheet_hint(&self, broken: Broken, cell: &str, sight: Sight) -> Option<&'static str> {
        const ZEROS_MAX: usize = 12;
        if !matches!(self.read, Read::Text(_)) {
            return None;
        }
        // `12E5` may be a code of theirs; no spreadsheet leaves the plus out.
        if cell.contains("E+") && is_scientific(cell) {
            return Some(SCIENTIFIC_HINT);
        }
        let is_told = match broken {
            Broken::Pattern | Broken::TooShort => true,
            Broken::Lookup | Broken::OneOf => sight == Sight::Open,
            Broken::Maximum
            | Broken::Minimum
            | Broken::Required
            | Broken::TooLong
            | Broken::Type => false,
        };
        let is_number = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
        let mut padded = cell.to_owned();
        let would_fit = is_told
            && is_number
            && (0..ZEROS_MAX).any(|_| {
                padded.insert(0, '0');
                self.judge(&padded) == Ok(Value::Text)
            });
        would_fit.then_some(
            "It would fit with zeros in front; spreadsheets remove them. Export the column as text.",
        )
    }

    fn type_saying(&self, cell: &str, sight: Sight) -> Saying {
        let advise = |detail: &str, hint: &str| Saying {
            detail: detail.to_owned(),
            hint: Some(hint.to_owned()),
        };
        if cell.trim() != cell && self.read(cell.trim()).is_some() {
            return advise(
                "white space around the value",
                "Remove the spaces around the value.",
            );
        }
        let article = match &self.read {
            Read::Integer | Read::Text(TextFormat::Email | TextFormat::Iban) => "not an",
            Read::Boolean { .. }
            | Read::Dates { .. }
            | Read::Decimal { .. }
            | Read::Text(TextFormat::Any | TextFormat::Pan | TextFormat::Uuid) => "not a",
        };
        let otherwise = Saying {
            detail: format!("{article} {}", self.type_name()),
            hint: None,
        };
        match &self.read {
            Read::Integer => number_saying(cell, sight, |text| integer(text).is_some())
                .or_else(|| whole_saying(cell, sight))
                .unwrap_or(otherwise),
            Read::Decimal { precision, scale } => number_saying(cell, sight, |text| {
                decimal(text, *precision, *scale).is_some()
            })
            .or_else(|| digits_saying(cell, *precision, *scale))
            .unwrap_or(otherwise),
            Read::Dates { formats, .. } if formats.iter().any(|f| f.has_shape_of(cell)) => Saying {
                detail: "no such date or time".to_owned(),
                hint: None,
            },
            Read::Text(TextFormat::Iban | TextFormat::Pan)
                if self.read(&without_separators(cell)).is_some() =>
            {
                advise(
                    &otherwise.detail,
                    "Write it without spaces and hyphens, letters in upper case.",
                )
            }
            Read::Boolean { .. } | Read::Dates { .. } | Read::Text(_) => otherwise,
        }
    }
}

/// Values of a list inside a sentence, the first ten.
fn listed(values: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown: Vec<String> = values
        .iter()
        .take(SHOWN_MAX)
        .map(|value| show::name(value))
        .collect();
    let more = values.len().saturating_sub(SHOWN_MAX);
    if more == 0 {
        shown.join(", ")
    } else {
        format!("{} and {more} more", shown.join(", "))
    }
}

fn without_separators(cell: &str) -> String {
    cell.chars()
        .filter(|c| *c != ' ' && *c != '-')
        .flat_map(char::to_uppercase)
        .collect()
}

const SCIENTIFIC_HINT: &str = "A spreadsheet shortens long numbers so, and loses digits. Export the column as plain numbers or as text.";

/// A number as spreadsheets shorten it: `4.92E+12`.
fn is_scientific(cell: &str) -> bool {
    let Some((number, power)) = cell.split_once(['e', 'E']) else {
        return false;
    };
    let number = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    let power = power.strip_prefix(['+', '-']).unwrap_or(power);
    all_digits(whole) && all_digits(fraction) && all_digits(power)
}

/// At least one ASCII digit, and nothing else.
fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a cell is and how it is written right; of a hidden one, in general.
fn written(sight: Sight, detail: &str, example: &str, open: &str, shape: &str) -> Saying {
    match sight {
        Sight::Open => Saying {
            detail: format!("{detail}, write {example}"),
            hint: Some(open.replace("{}", example)),
        },
        Sight::Shape => Saying {
            detail: detail.to_owned(),
            hint: Some(shape.to_owned()),
        },
    }
}

/// How a cell was meant that is no number as it stands, where that can be told. `reads`: whether a text
/// is a number of the column.
fn number_saying(cell: &str, sight: Sight, reads: impl Fn(&str) -> bool) -> Option<Saying> {
    let say =
        |detail, example: &str, open, shape| Some(written(sight, detail, example, open, shape));
    if is_scientific(cell) {
        return Some(Saying {
            detail: "scientific notation".to_owned(),
            hint: Some(SCIENTIFIC_HINT.to_owned()),
        });
    }
    if let Some((whole, fraction)) = cell.split_once(',')
        && all_digits(fraction)
        && fraction.len() != 3
        && all_digits(whole.strip_prefix('-').unwrap_or(whole))
        && reads(&cell.replace(',', "."))
    {
        return say(
            "decimal comma",
            &cell.replace(',', "."),
            "Write {}, with a point.",
            "Write decimals with a point.",
        );
    }
    let bare: String = cell
        .chars()
        .filter(|c| !matches!(c, ',' | '\'' | '_' | ' '))
        .collect();
    // 12,5 is no 125.
    let is_grouped = cell.rsplit_once(',').is_none_or(|(_, last)| {
        let group = last.split('.').next().unwrap_or(last);
        group.len() == 3
    });
    if bare != cell && is_grouped && reads(&bare) {
        return say(
            "thousands separator",
            &bare,
            "Write {}, without separators.",
            "Write numbers without separators.",
        );
    }
    let padded = if cell.starts_with('.') {
        format!("0{cell}")
    } else {
        format!("{cell}0")
    };
    if (cell.starts_with('.') || cell.ends_with('.')) && reads(&padded) {
        return say(
            "no digit on one side of the point",
            &padded,
            "Write {}, with digits on both sides of the point.",
            "Write digits on both sides of the point.",
        );
    }
    None
}

/// A whole number with zeros after a point, as programs write the integers of a column with gaps.
fn whole_saying(cell: &str, sight: Sight) -> Option<Saying> {
    let (whole, fraction) = cell.split_once('.')?;
    let is_zero = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    (is_zero && integer(whole).is_some()).then(|| {
        written(
            sight,
            "zeros after a point",
            whole,
            "Write {}, without a point.",
            "Write whole numbers without a point.",
        )
    })
}

/// Which digits of a decimal are too many.
fn digits_saying(cell: &str, precision: u8, scale: u8) -> Option<Saying> {
    let unsigned = cell.strip_prefix('-').unwrap_or(cell);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    if all_digits(whole) && all_digits(fraction) {
        let detail = if fraction.len() > usize::from(scale) && unsigned.contains('.') {
            format!("{} digits after the point, {scale} allowed", fraction.len())
        } else {
            format!(
                "more than {} digits before the point",
                precision - scale.min(precision)
            )
        };
        return Some(Saying { detail, hint: None });
    }
    None
}

/// An optional minus and ASCII digits, within i128.
#[inline]
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = signed(text);
    if digits.is_empty() {
        return None;
    }
    // Up to 18 digits fit a machine word.
    if digits.len() <= 18 {
        let mut number: i64 = 0;
        for byte in digits {
            number = number * 10 + i64::from(digit(*byte)?);
        }
        return Some(i128::from(if negative { -number } else { number }));
    }
    let mut number: i128 = 0;
    for byte in digits {
        let digit = i128::from(digit(*byte)?);
        let grown = number.checked_mul(10)?;
        // Counted downwards when negative, as i128::MIN has no positive twin.
        number = if negative {
            grown.checked_sub(digit)?
        } else {
            grown.checked_add(digit)?
        };
    }
    Some(number)
}

/// An optional minus, digits, and at most `scale` digits after a point; below 10^precision when
/// scaled. The value is scaled by 10^scale.
#[inline]
pub(crate) fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (negative, unsigned) = signed(text);
    let (whole, fraction) = match memchr::memchr(b'.', unsigned) {
        Some(at) => {
            let (whole, rest) = unsigned.split_at_checked(at)?;
            let (_, fraction) = rest.split_first()?;
            if fraction.is_empty() {
                return None;
            }
            (whole, fraction)
        }
        None => (unsigned, &[][..]),
    };
    if whole.is_empty() || fraction.len() > usize::from(scale) {
        return None;
    }
    let padding = usize::from(scale) - fraction.len();
    if whole.len() + usize::from(scale) <= 18 {
        let mut number: i64 = 0;
        for byte in whole.iter().chain(fraction) {
            number = number * 10 + i64::from(digit(*byte)?);
        }
        for _ in 0..padding {
            number *= 10;
        }
        let number = i128::from(number);
        return (number < power_of_ten(precision)?).then_some(if negative {
            -number
        } else {
            number
        });
    }
    let mut number: i128 = 0;
    for byte in whole.iter().chain(fraction) {
        number = number
            .checked_mul(10)?
            .checked_add(i128::from(digit(*byte)?))?;
    }
    for _ in 0..padding {
        number = number.checked_mul(10)?;
    }
    (number < power_of_ten(precision)?).then_some(if negative { -number } else { number })
}

fn power_of_ten(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(u32::from(exponent))
}

#[inline]
fn signed(text: &str) -> (bool, &[u8]) {
    match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    }
}

#[inline]
fn digit(byte: u8) -> Option<u8> {
    let digit = byte.wrapping_sub(b'0');
    (digit <= 9).then_some(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Kind) -> Column {
        Column {
            name: "x".to_owned(),
            ..Column::free(kind)
        }
    }

    fn check(column: &Column) -> Check {
        Check::new(column, &[String::new(), "NA".to_owned()])
    }

    fn decimals(precision: u8, scale: u8) -> Kind {
        Kind::Decimal { precision, scale }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn bound(text: &str, value: i128) -> Bound {
        let text = text.to_owned();
        Bound { text, value }
    }

    #[test]
    fn integers_are_an_optional_minus_and_ascii_digits() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("007", 7),
            ("-12", -12),
            ("999999999999999999", 999_999_999_999_999_999),
            ("1000000000000000000", 1_000_000_000_000_000_000),
            ("170141183460469231731687303715884105727", i128::MAX),
            ("-170141183460469231731687303715884105728", i128::MIN),
        ] {
            assert_eq!(integer(text), Some(value), "{text:?}");
        }
        for text in [
            "",
            "-",
            "+1",
            "--1",
            "1-",
            " 1",
            "1 ",
            "1.0",
            "1e5",
            "0x10",
            "1_000",
            "1,000",
            "NaN",
            "\u{ff11}",
            "\u{661}",
            "170141183460469231731687303715884105728",
            "-170141183460469231731687303715884105729",
        ] {
            assert_eq!(integer(text), None, "{text:?}");
        }
    }

    #[test]
    fn decimals_are_exact_and_never_rounded() {
        for (text, value) in [
            ("0", 0),
            ("12.5", 1250),
            ("12.50", 1250),
            ("-0.01", -1),
            ("007.50", 750),
            ("9999999999.99", 999_999_999_999),
            ("0000000000000000000000000000001.5", 150),
        ] {
            assert_eq!(decimal(text, 12, 2), Some(value), "{text:?}");
        }
        for text in [
            "",
            "-",
            ".",
            ".5",
            "5.",
            "1.005",
            "1.000",
            "1e5",
            "1E5",
            "NaN",
            "Infinity",
            "+1",
            "1,5",
            "1 000",
            "1.2.3",
            "10000000000",
            "10000000000.00",
            "\u{ff11}.5",
            "1\u{a0}000",
        ] {
            assert_eq!(decimal(text, 12, 2), None, "{text:?}");
        }
        let nines = "9".repeat(36);
        assert_eq!(
            decimal(&format!("{nines}.99"), 38, 2),
            10_i128.checked_pow(38).map(|n| n - 1)
        );
        assert_eq!(decimal(&format!("1{}.00", "0".repeat(36)), 38, 2), None);
        assert_eq!(decimal("5", 1, 1), None);
        assert_eq!(decimal("0.5", 1, 1), Some(5));
    }

    #[test]
    fn null_passes_everything_but_required() {
        let mut integers = column(Kind::Integer);
        integers.values = words(&["1"]);
        assert_eq!(check(&integers).judge(""), Ok(Value::Null));
        assert_eq!(check(&integers).judge("NA"), Ok(Value::Null));
        assert_eq!(check(&integers).judge("na"), Err(Broken::Type));
        integers.required = true;
        assert_eq!(check(&integers).judge("NA"), Err(Broken::Required));
        assert_eq!(check(&integers).judge("1"), Ok(Value::Number(1.into())));
        let never = Check::new(&integers, &[]);
        assert_eq!(never.judge(""), Err(Broken::Type));
    }

    #[test]
    fn the_first_broken_rule_is_the_fault() {
        let mut texts = column(Kind::Text(TextFormat::Any));
        texts.pattern = Some(Regex::new("^(?:[a-z\u{e4}]+)$").unwrap());
        texts.length_min = Some(2);
        texts.length_max = Some(3);
        let rules = check(&texts);
        assert_eq!(rules.judge("ab"), Ok(Value::Text));
        assert_eq!(rules.judge("\u{e4}\u{e4}\u{e4}"), Ok(Value::Text));
        assert_eq!(rules.judge("A"), Err(Broken::Pattern));
        assert_eq!(rules.judge("\u{e4}"), Err(Broken::TooShort));
        assert_eq!(rules.judge("abcd"), Err(Broken::TooLong));
        assert_eq!(rules.rule(Broken::TooLong), "at most 3 characters");
        assert_eq!(rules.rule(Broken::TooShort), "at least 2 characters");
    }

    #[test]
    fn lists_short_and_long_take_their_values_only() {
        let mut texts = column(Kind::Text(TextFormat::Any));
        texts.values = words(&["DE", "AT", "CH"]);
        texts.values_set = texts.values.iter().cloned().collect();
        let rules = check(&texts);
        assert_eq!(rules.judge("AT"), Ok(Value::Text));
        assert_eq!(rules.judge("at"), Err(Broken::OneOf));
        assert_eq!(rules.judge("AT "), Err(Broken::OneOf));
        assert_eq!(rules.rule(Broken::OneOf), "one of DE, AT, CH");
        texts.values = (0..20).map(|n| n.to_string()).collect();
        texts.values_set = texts.values.iter().cloned().collect();
        let rules = check(&texts);
        assert_eq!(rules.judge("19"), Ok(Value::Text));
        assert_eq!(rules.judge("20"), Err(Broken::OneOf));
        assert_eq!(
            rules.rule(Broken::OneOf),
            "one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 10 more"
        );
    }

    #[test]
    fn bounds_are_inclusive_and_exact() {
        let mut amounts = column(decimals(12, 2));
        amounts.minimum = Some(bound("0", 0));
        amounts.maximum = Some(bound("99.5", 9950));
        let rules = check(&amounts);
        assert_eq!(rules.judge("0.00"), Ok(Value::Number(0.into())));
        assert_eq!(rules.judge("99.50"), Ok(Value::Number(9950.into())));
        assert_eq!(rules.judge("-0.01"), Err(Broken::Minimum));
        assert_eq!(rules.judge("99.51"), Err(Broken::Maximum));
        assert_eq!(rules.rule(Broken::Minimum), "at least 0");
        let mut days = column(Kind::Date {
            formats: words(&["%Y-%m-%d", "%d.%m.%Y"]),
        });
        days.minimum = Some(bound("1970-01-02", 1));
        let rules = check(&days);
        assert_eq!(rules.judge("02.01.1970"), Ok(Value::Number(1.into())));
        assert_eq!(rules.judge("1970-01-01"), Err(Broken::Minimum));
        assert_eq!(rules.judge("1970/01/01"), Err(Broken::Type));
        assert_eq!(rules.rule(Broken::Type), "date %Y-%m-%d or %d.%m.%Y");
    }

    #[test]
    fn booleans_are_the_words_listed() {
        let rules = check(&column(Kind::Boolean {
            yes: words(&["ja", "1"]),
            no: words(&["nein", "0"]),
        }));
        assert_eq!(rules.judge("ja"), Ok(Value::Text));
        assert_eq!(rules.judge("0"), Ok(Value::Text));
        assert_eq!(rules.judge("JA"), Err(Broken::Type));
        assert_eq!(rules.rule(Broken::Type), "boolean: ja, 1, nein, 0");
    }

    #[test]
    fn a_decimal_comma_is_told_with_its_remedy_and_not_to_all() {
        let rules = check(&column(decimals(12, 2)));
        let say = |cell, sight| rules.saying(Broken::Type, cell, sight);
        let open = say("12,50", Sight::Open);
        assert_eq!(open.detail, "decimal comma, write 12.50");
        assert_eq!(open.hint.as_deref(), Some("Write 12.50, with a point."));
        let hidden = say("12,50", Sight::Shape);
        assert_eq!(hidden.detail, "decimal comma");
        assert_eq!(hidden.hint.as_deref(), Some("Write decimals with a point."));
    }

    #[test]
    fn other_type_faults_are_told_as_what_they_are() {
        let rules = check(&column(decimals(5, 2)));
        for (cell, detail) in [
            ("1,000", "thousands separator, write 1000"),
            ("1'23", "thousands separator, write 123"),
            (" 5", "white space around the value"),
            (".5", "no digit on one side of the point, write 0.5"),
            ("5.", "no digit on one side of the point, write 5.0"),
            ("1.005", "3 digits after the point, 2 allowed"),
            ("1000", "more than 3 digits before the point"),
            ("4.92E+12", "scientific notation"),
            ("-1,5e-3", "scientific notation"),
            ("E+12", "not a decimal(5,2)"),
            ("1E", "not a decimal(5,2)"),
            ("5.000", "3 digits after the point, 2 allowed"),
            ("ten", "not a decimal(5,2)"),
            ("", "not a decimal(5,2)"),
        ] {
            // 1000 itself is too large for decimal(5,2).
            let wide = check(&column(decimals(12, 2)));
            let rules = if cell == "1,000" { &wide } else { &rules };
            assert_eq!(rules.saying(Broken::Type, cell, Sight::Open).detail, detail);
        }
        let integers = check(&column(Kind::Integer));
        for (cell, detail) in [
            ("12.0", "zeros after a point, write 12"),
            ("-7.", "not an integer"),
            ("12.5", "not an integer"),
            ("12,5", "not an integer"),
            ("1,234,567", "thousands separator, write 1234567"),
            ("4.92E+12", "scientific notation"),
        ] {
            let said = integers.saying(Broken::Type, cell, Sight::Open);
            assert_eq!(said.detail, detail, "{cell}");
        }
        let hidden = integers.saying(Broken::Type, "12.0", Sight::Shape);
        assert_eq!(hidden.detail, "zeros after a point");
        assert!(!hidden.hint.unwrap().contains("12"));
        let days = check(&column(Kind::Date {
            formats: words(&["%Y-%m-%d"]),
        }));
        assert_eq!(
            days.saying(Broken::Type, "2026-02-30", Sight::Open).detail,
            "no such date or time"
        );
        let ibans = check(&column(Kind::Text(TextFormat::Iban)));
        let saying = ibans.saying(Broken::Type, "DE89 3704 0044 0532 0130 00", Sight::Shape);
        assert_eq!(saying.detail, "not an iban");
        assert!(saying.hint.is_some_and(|hint| hint.contains("spaces")));
    }

    #[test]
    fn what_a_spreadsheet_does_to_digits_is_told() {
        let hint = |column: &Column, broken, cell, sight| {
            assert_eq!(check(column).judge(cell), Err(broken), "{cell}");
            check(column).saying(broken, cell, sight).hint
        };
        let zeros = |said: Option<String>| said.is_some_and(|hint| hint.contains("zeros in front"));
        let digits = |said: Option<String>| said.is_some_and(|hint| hint.contains("loses digits"));
        let mut postcodes = column(Kind::Text(TextFormat::Any));
        postcodes.pattern = Some(Regex::new("^(?:[0-9]{5})$").unwrap());
        for sight in [Sight::Open, Sight::Shape] {
            assert!(zeros(hint(&postcodes, Broken::Pattern, "1067", sight)));
            assert!(digits(hint(&postcodes, Broken::Pattern, "4.92E+12", sight)));
            for cell in ["106712", "1067a", "-106", "12E5", "1.5", "O1067"] {
                assert_eq!(hint(&postcodes, Broken::Pattern, cell, sight), None);
            }
        }
        let mut accounts = column(Kind::Text(TextFormat::Any));
        accounts.length_min = Some(8);
        assert!(zeros(hint(
            &accounts,
            Broken::TooShort,
            "70411",
            Sight::Shape
        )));
        assert_eq!(
            hint(&accounts, Broken::TooShort, "70 11", Sight::Open),
            None
        );
        let mut regions = column(Kind::Text(TextFormat::Any));
        regions.values = words(&["01", "02"]);
        assert!(zeros(hint(&regions, Broken::OneOf, "1", Sight::Open)));
        assert_eq!(hint(&regions, Broken::OneOf, "3", Sight::Open), None);
        assert_eq!(hint(&regions, Broken::OneOf, "1", Sight::Shape), None);
    }
}
