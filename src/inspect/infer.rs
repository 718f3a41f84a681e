//! What the columns of a sample look like: a guess, with its evidence, for whoever writes a contract.
//!
//! A kind is guessed only where every value of the sample fits it, by the same reading that inspection
//! uses. What cannot be told from the values (which of two date formats, whether a number is one) is said.

use std::collections::{BTreeSet, HashSet};

use crate::inspect::types::Check;
use crate::policy::contract::{Column, Kind, TextFormat};

/// Values of one column of a sample, as far as they have been looked at.
#[derive(Clone, Debug)]
pub struct Sketch {
    /// The label.
    pub name: String,
    /// Rows looked at.
    pub rows: u64,
    /// Of these, without a value.
    pub empty: u64,
    candidates: Vec<Kind>,
    /// Digits before and behind the point of all values, while they are decimals.
    digits: Option<(usize, usize)>,
    decimal_commas: bool,
    zeros_in_front: bool,
    /// The different values, while there are few.
    values: Option<BTreeSet<String>>,
    /// All of them, while none is there twice.
    seen: Option<HashSet<String>>,
    /// The shape that all values have: `9` a digit, `A` and `a` letters.
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Unknown,
    All(String),
    Several,
}

/// What a column seems to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// What every value fits.
    pub kind: Kind,
    /// Others that every value fits as well, where the guess is not sure.
    pub or: Vec<Kind>,
    /// Every row has a value.
    pub required: bool,
    /// No value occurs twice.
    pub unique: bool,
    /// The values, where there are few and each occurs often.
    pub values: Vec<String>,
    /// A regular expression that all values match.
    pub pattern: Option<String>,
    /// Something to look at, one sentence.
    pub remark: Option<&'static str>,
}

/// Different values, before they are taken never to repeat.
const UNIQUE_MIN: u64 = 10;
/// Most different values that may be an enumeration.
const VALUES_MAX: usize = 12;
/// Rows for each value, before values are taken for an enumeration.
const ROWS_PER_VALUE: u64 = 5;
/// Values that are remembered to tell whether one is there twice.
const SEEN_MAX: usize = 200_000;
/// Values of one shape, before the shape is taken for a rule.
const SHAPES_MIN: u64 = 10;
/// Longest shape that is a rule.
const SHAPE_CHARS_MAX: usize = 40;

const DATES: [&str; 6] = [
    "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d",
];
const MOMENTS: [&str; 4] = [
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%:z",
    "%Y-%m-%dT%H:%M:%S",
];
const BOOLEANS: [(&str, &str); 5] = [
    ("true", "false"),
    ("TRUE", "FALSE"),
    ("yes", "no"),
    ("Y", "N"),
    ("J", "N"),
];
const TEXTS: [TextFormat; 4] = [
    TextFormat::Email,
    TextFormat::Iban,
    TextFormat::Pan,
    TextFormat::Uuid,
];

// === impl Sketch ===

impl Sketch {
    /// A column of this label, nothing of it seen yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let one = |text: &str| vec![text.to_owned()];
        let booleans = BOOLEANS.iter().map(|(yes, no)| Kind::Boolean {
            yes: one(yes),
            no: one(no),
        });
        let dates = DATES.iter().map(|format| Kind::Date {
            formats: one(format),
        });
        let moments = MOMENTS.iter().map(|format| Kind::DateTime {
            formats: one(format),
        });
        let texts = TEXTS.iter().map(|format| Kind::Text(*format));
        Self {
            name: name.to_owned(),
            rows: 0,
            empty: 0,
            candidates: booleans
                .chain(moments)
                .chain(dates)
                .chain(texts)
                .chain([Kind::Integer])
                .collect(),
            digits: Some((0, 0)),
            decimal_commas: true,
            zeros_in_front: false,
            values: Some(BTreeSet::new()),
            seen: Some(HashSet::new()),
            shape: Shape::Unknown,
        }
    }

    /// Looks at the next value.
    pub fn add(&mut self, value: &str) {
        self.rows += 1;
        if value.is_empty() {
            self.empty += 1;
            return;
        }
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
        self.zeros_in_front |= is_number && value.len() > 1 && value.starts_with('0');
        self.candidates.retain(|kind| fits(kind, value));
        self.digits = self.digits.and_then(|(whole, part)| {
            let own = decimal_digits(value)?;
            Some((whole.max(own.0), part.max(own.1)))
        });
        self.decimal_commas &= decimal_digits(&value.replace('.', "").replace(',', ".")).is_some()
            && value.contains(',');
        if let Some(values) = &mut self.values {
            values.insert(value.to_owned());
            if values.len() > VALUES_MAX {
                self.values = None;
            }
        }
        if let Some(seen) = &mut self.seen
            && (!seen.insert(value.to_owned()) || seen.len() > SEEN_MAX)
        {
            self.seen = None;
        }
        let shape = shape_of(value);
        self.shape = match std::mem::replace(&mut self.shape, Shape::Several) {
            Shape::Unknown => Shape::All(shape),
            Shape::All(known) if known == shape => Shape::All(known),
            Shape::All(_) | Shape::Several => Shape::Several,
        };
    }

    /// The same column of another sample.
    pub fn join(&mut self, other: Self) {
        self.rows += other.rows;
        self.empty += other.empty;
        self.candidates
            .retain(|kind| other.candidates.contains(kind));
        self.digits = self.digits.zip(other.digits).map(|(one, two)| {
            let (whole, part) = two;
            (one.0.max(whole), one.1.max(part))
        });
        self.decimal_commas &= other.decimal_commas;
        self.zeros_in_front |= other.zeros_in_front;
        self.values = self
            .values
            .take()
            .zip(other.values)
            .and_then(|(mut one, two)| {
                one.extend(two);
                (one.len() <= VALUES_MAX).then_some(one)
            });
        self.seen = self.seen.take().zip(other.seen).and_then(|(mut one, two)| {
            let (before, more) = (one.len(), two.len());
            one.extend(two);
            (one.len() == before + more && one.len() <= SEEN_MAX).then_some(one)
        });
        self.shape = match (
            std::mem::replace(&mut self.shape, Shape::Several),
            other.shape,
        ) {
            (Shape::Unknown, shape) | (shape, Shape::Unknown) => shape,
            (Shape::All(one), Shape::All(two)) if one == two => Shape::All(one),
            (_, _) => Shape::Several,
        };
    }

    /// What it seems to be, from what was looked at.
    #[must_use]
    pub fn guess(&self) -> Guess {
        let filled = self.rows - self.empty;
        let mut fitting = if filled == 0 {
            Vec::new()
        } else {
            self.candidates.clone()
        };
        if self.zeros_in_front {
            // Numbers do not begin so; a date or a card number may.
            fitting.retain(|kind| *kind != Kind::Integer);
        } else if let Some((whole, part @ 1..)) = self.digits.filter(|_| filled > 0) {
            // Room for larger values than those of the sample.
            let precision = u8::try_from((whole + part).clamp(12, 38)).unwrap_or(38);
            let scale = u8::try_from(part).unwrap_or(2).min(precision);
            fitting.push(Kind::Decimal { precision, scale });
        }
        let mut fitting = fitting.into_iter();
        let kind = fitting.next().unwrap_or(Kind::Text(TextFormat::Any));
        let or: Vec<Kind> = fitting.collect();
        let is_text = kind == Kind::Text(TextFormat::Any);
        let unique = self.seen.as_ref().is_some_and(|seen| {
            u64::try_from(seen.len()).is_ok_and(|count| count == filled && count >= UNIQUE_MIN)
        });
        let values = match &self.values {
            Some(values)
                if is_text
                    && u64::try_from(values.len()).unwrap_or(u64::MAX) * ROWS_PER_VALUE
                        <= filled =>
            {
                values.iter().cloned().collect()
            }
            Some(_) | None => Vec::new(),
        };
        let pattern = match &self.shape {
            Shape::All(shape)
                if is_text
                    && values.is_empty()
                    && filled >= SHAPES_MIN
                    && shape.len() <= SHAPE_CHARS_MAX =>
            {
                Some(pattern_of(shape))
            }
            Shape::All(_) | Shape::Several | Shape::Unknown => None,
        };
        let remark = if filled == 0 {
            Some("the sample has no value here")
        } else if is_text && self.decimal_commas {
            Some("numbers with a decimal comma? ask for a decimal point, or keep it text")
        } else if is_text && self.zeros_in_front && self.digits.is_some() {
            Some("zeros in front: no numbers")
        } else {
            None
        };
        Guess {
            kind,
            or,
            required: self.empty == 0 && filled > 0,
            unique,
            values,
            pattern,
            remark,
        }
    }
}

fn fits(kind: &Kind, value: &str) -> bool {
    Check::new(&Column::free(kind.clone()), &[])
        .judge(value)
        .is_ok()
}

/// Digits before and behind the point of a plain number.
fn decimal_digits(value: &str) -> Option<(usize, usize)> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_one = !whole.is_empty() && all(whole) && all(part) && !digits.ends_with('.');
    is_one.then_some((whole.len(), part.len()))
}

fn shape_of(value: &str) -> String {
    let class = |c: char| match c {
        '0'..='9' => '9',
        'A'..='Z' => 'A',
        'a'..='z' => 'a',
        other => other,
    };
    value.chars().map(class).collect()
}

/// A regular expression for all texts of a shape.
fn pattern_of(shape: &str) -> String {
    let mut pattern = String::new();
    let chars: Vec<char> = shape.chars().collect();
    for run in chars.chunk_by(|one, next| one == next) {
        let Some(first) = run.first() else { continue };
        let count = run.len();
        match first {
            '9' => pattern.push_str(r"\d"),
            'A' => pattern.push_str("[A-Z]"),
            'a' => pattern.push_str("[a-z]"),
            _ => {
                let text: String = run.iter().collect();
                pattern.push_str(&regex::escape(&text));
                continue;
            }
        }
        if count > 1 {
            let counted = format!("{{{count}}}");
            pattern.push_str(&counted);
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(values: &[&str]) -> Guess {
        let mut sketch = Sketch::new("x");
        for value in values {
            sketch.add(value);
        }
        sketch.guess()
    }

    #[test]
    fn a_kind_is_guessed_only_where_every_value_fits() {
        let kind = |values: &[&str]| guess(values).kind;
        assert_eq!(kind(&["1", "20", "-3"]), Kind::Integer);
        let decimal = Kind::Decimal {
            precision: 12,
            scale: 2,
        };
        assert_eq!(kind(&["1.50", "200", "-3.2"]), decimal);
        assert_eq!(kind(&["1.50", "x"]), Kind::Text(TextFormat::Any));
        assert_eq!(
            kind(&["a@b.example", "c@d.example"]),
            Kind::Text(TextFormat::Email)
        );
        let booleans = kind(&["yes", "no", "yes"]);
        assert!(matches!(booleans, Kind::Boolean { .. }), "{booleans:?}");
        let date = |format: &str| Kind::Date {
            formats: vec![format.to_owned()],
        };
        assert_eq!(kind(&["2026-11-20", "2026-02-28"]), date("%Y-%m-%d"));
        assert_eq!(
            kind(&["2026-11-20", "2026-02-30"]),
            Kind::Text(TextFormat::Any)
        );
        assert_eq!(kind(&[""]), Kind::Text(TextFormat::Any));
    }

    #[test]
    fn what_the_values_cannot_tell_is_said() {
        let both = guess(&["01/02/2026", "03/04/2026"]);
        assert_eq!(both.or.len(), 1);
        assert!(guess(&["01/02/2026", "30/04/2026"]).or.is_empty());
        let dates = guess(&["20261120", "20261121"]);
        assert!(matches!(dates.kind, Kind::Date { .. }) && dates.or.contains(&Kind::Integer));
        let zeros = guess(&["00417", "10000"]);
        assert_eq!(zeros.kind, Kind::Text(TextFormat::Any));
        assert!(zeros.remark.is_some_and(|remark| remark.contains("zeros")));
        let commas = guess(&["1.234,50", "7,00"]);
        assert!(commas.remark.is_some_and(|remark| remark.contains("comma")));
    }

    #[test]
    fn few_values_a_shape_and_no_repeat_are_seen() {
        let many: Vec<String> = (0..60).map(|n| format!("O-{n:08}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let found = guess(&many);
        assert!(found.unique && found.required && found.values.is_empty());
        assert_eq!(found.pattern.as_deref(), Some(r"[A-Z]\-\d{8}"));
        let few: Vec<&str> = ["DE", "AT", "CH", ""]
            .into_iter()
            .cycle()
            .take(60)
            .collect();
        let found = guess(&few);
        assert!(!found.unique && !found.required);
        assert_eq!(found.values, ["AT", "CH", "DE"]);
    }
}
