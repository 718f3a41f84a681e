//! Row rules: one condition over the columns of a row, compiled when the policy is read.
//!
//! ```text
//! rule    := and ("or" and)*
//! and     := not ("and" not)*
//! not     := "not" not | test
//! test    := sum (("==" | "!=" | "<" | "<=" | ">" | ">=") sum
//!                 | "not"? "in" "(" literal ("," literal)* ")"
//!                 | "is" "not"? "null")?
//! sum     := product (("+" | "-") product)*
//! product := value ("*" value)*
//! value   := "-" value | "(" rule ")" | "length" "(" rule ")" | literal | column
//! ```
//!
//! A column is written as its name, or in backticks. Numbers are exact: a decimal is an integer with a
//! scale, and nothing is ever rounded. Dates and moments are compared with ISO 8601 text. What is null
//! makes a comparison neither true nor false, as in SQL; a row breaks a rule only where `when` is true
//! and `assert` is false. Past 38 digits numbers stop at the largest, and so break what bounds them.

use std::ops::Range;

use crate::policy::contract::Kind;
use crate::policy::dates::{self, Grain};

/// One `[[feed.schema.row_rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRule {
    /// Its name, for messages.
    pub name: String,
    /// The condition as written, for messages.
    pub text: String,
    /// It says something only about rows where this is true.
    pub when: Option<Expr>,
    /// What must then not be false.
    pub assert: Expr,
    /// The columns it looks at, each once, in order.
    pub columns: Vec<usize>,
}

/// A condition, or a part of one; well typed because it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Both.
    And(Box<Self>, Box<Self>),
    /// `true`, `false`.
    Bool(bool),
    /// The value of a column.
    Column(usize),
    /// One value against another of its kind.
    Compare(Compare, Box<Self>, Box<Self>),
    /// No value.
    IsNull(Box<Self>),
    /// Characters of a text.
    Length(Box<Self>),
    /// The other way round.
    Not(Box<Self>),
    /// A number, a date as days, a moment as microseconds.
    Number(i128),
    /// Either.
    Or(Box<Self>, Box<Self>),
    /// A number times a power of ten, to bring two to one scale.
    Scaled(Box<Self>, i128),
    /// The sum; with `true` of the negated second.
    Sum(Box<Self>, Box<Self>, bool),
    /// The product.
    Times(Box<Self>, Box<Self>),
    /// Text.
    Text(String),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its operator")]
pub enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Unequal,
}

/// A value while a rule is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operand<'c> {
    /// `true`, `false`.
    Bool(bool),
    /// A number in its column's scale, a date as days, a moment as microseconds.
    Number(i128),
    /// Text.
    Text(&'c str),
}

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleFault {
    /// Where, in bytes of its text.
    pub(crate) at: Range<usize>,
    /// What, one sentence.
    pub(crate) why: String,
    /// What to do.
    pub(crate) remedy: String,
    /// A column name that is near one that is not there.
    pub(crate) unknown: Option<String>,
}

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Bool,
    Day,
    Moment,
    /// With so many digits after the point.
    Number(u32),
    Text,
}

/// Deepest nesting of brackets and signs.
const DEPTH_MAX: u32 = 32;
/// Words of one condition: it is looked at by recursion.
const WORDS_MAX: usize = 500;
/// Most digits after the point of a product.
const SCALE_MAX: u32 = 38;

/// Compiles a condition over columns of these names and kinds.
///
/// # Errors
/// [`RuleFault`] at the first place that cannot be.
pub(crate) fn compile(
    text: &str,
    columns: &[(String, Option<Kind>)],
    used: &mut Vec<usize>,
) -> Result<Expr, RuleFault> {
    let mut parser = Parser {
        text,
        tokens: tokens(text)?,
        next: 0,
        columns,
        used,
        depth: 0,
    };
    let start = parser.here();
    let (expr, kind) = parser.or()?;
    if let Some(token) = parser.tokens.get(parser.next) {
        let at = token.at.clone();
        return Err(fault(
            at,
            "the condition is over before this",
            "and, or, or a comparison",
        ));
    }
    if kind != Type::Bool {
        let why = format!("this gives {}, not true or false", kind.title());
        return Err(fault(
            start.start..text.len(),
            &why,
            "compare it with something",
        ));
    }
    Ok(expr)
}

impl Expr {
    /// What the condition comes to; `None`: neither true nor false. `value` gives a column's value,
    /// `None` for null.
    pub fn is_true<'c>(&self, value: &dyn Fn(usize) -> Option<Operand<'c>>) -> Option<bool> {
        match self {
            Self::And(a, b) => match (a.is_true(value), b.is_true(value)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                (None, _) | (_, None) => None,
            },
            Self::Or(a, b) => match (a.is_true(value), b.is_true(value)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                (None, _) | (_, None) => None,
            },
            Self::Not(inner) => inner.is_true(value).map(|is| !is),
            Self::IsNull(inner) => Some(inner.value(value).is_none()),
            Self::Compare(how, a, b) => {
                let order = a.value(value)?.cmp(&b.value(value)?);
                Some(match how {
                    Compare::Equal => order.is_eq(),
                    Compare::Greater => order.is_gt(),
                    Compare::GreaterOrEqual => order.is_ge(),
                    Compare::Less => order.is_lt(),
                    Compare::LessOrEqual => order.is_le(),
                    Compare::Unequal => order.is_ne(),
                })
            }
            Self::Bool(_) | Self::Column(_) => match self.value(value)? {
                Operand::Bool(is) => Some(is),
                Operand::Number(_) | Operand::Text(_) => None,
            },
            Self::Length(_)
            | Self::Number(_)
            | Self::Scaled(..)
            | Self::Sum(..)
            | Self::Times(..)
            | Self::Text(_) => None,
        }
    }

    /// `None`: null. A number past what can be counted exactly is the largest there is, so that it
    /// breaks what bounds it.
    fn value<'v, 'c: 'v>(
        &'v self,
        of: &dyn Fn(usize) -> Option<Operand<'c>>,
    ) -> Option<Operand<'v>> {
        let number = |expr: &'v Self| match expr.value(of)? {
            Operand::Number(number) => Some(number),
            Operand::Bool(_) | Operand::Text(_) => None,
        };
        match self {
            Self::Bool(is) => Some(Operand::Bool(*is)),
            Self::Column(at) => of(*at),
            Self::Number(own) => Some(Operand::Number(*own)),
            Self::Text(text) => Some(Operand::Text(text)),
            Self::Length(inner) => match inner.value(of)? {
                Operand::Text(text) => {
                    let count = text.chars().count();
                    Some(Operand::Number(i128::try_from(count).ok()?))
                }
                Operand::Bool(_) | Operand::Number(_) => None,
            },
            Self::Scaled(inner, factor) => {
                Some(Operand::Number(number(inner)?.saturating_mul(*factor)))
            }
            Self::Sum(a, b, is_less) => {
                let (a, b) = (number(a)?, number(b)?);
                let sum = if *is_less {
                    a.saturating_sub(b)
                } else {
                    a.saturating_add(b)
                };
                Some(Operand::Number(sum))
            }
            Self::Times(a, b) => Some(Operand::Number(number(a)?.saturating_mul(number(b)?))),
            Self::And(..) | Self::Compare(..) | Self::IsNull(_) | Self::Not(_) | Self::Or(..) => {
                self.is_true(of).map(Operand::Bool)
            }
        }
    }
}

// === words ===

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    at: Range<usize>,
    word: Word,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// A column's name in backticks.
    Column(String),
    /// A name or a keyword.
    Name(String),
    Number(String),
    /// An operator, bracket or comma.
    Sign(&'static str),
    Text(String),
}

fn fault(at: Range<usize>, why: &str, remedy: &str) -> RuleFault {
    RuleFault {
        at,
        why: why.to_owned(),
        remedy: remedy.to_owned(),
        unknown: None,
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, RuleFault> {
    const SIGNS: [&str; 13] = [
        "==", "!=", "<=", ">=", "<", ">", "(", ")", ",", "+", "-", "*", "=",
    ];
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        let run = |is: fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
        let (length, word) = match first {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '"' | '\'' | '`' => {
                let inside = rest.get(1..).unwrap_or_default();
                let Some(end) = inside.find(first) else {
                    let why = "a quote that is never closed";
                    return Err(fault(at..text.len(), why, "close it"));
                };
                let own = inside.get(..end).unwrap_or_default().to_owned();
                let word = if first == '`' {
                    Word::Column(own)
                } else {
                    Word::Text(own)
                };
                (end + 2, word)
            }
            '0'..='9' => {
                let length = run(|c| c.is_ascii_digit() || c == '.');
                (
                    length,
                    Word::Number(rest.get(..length).unwrap_or_default().to_owned()),
                )
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = run(|c| c.is_alphanumeric() || c == '_');
                (
                    length,
                    Word::Name(rest.get(..length).unwrap_or_default().to_owned()),
                )
            }
            other => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(&"=") => {
                    return Err(fault(at..at + 1, "one = compares nothing", "write =="));
                }
                Some(sign) => (sign.len(), Word::Sign(sign)),
                None => {
                    let span = at..at + other.len_utf8();
                    let remedy = "a column with such a name stands in backticks: `order-id`";
                    return Err(fault(span, "no condition holds this character", remedy));
                }
            },
        };
        tokens.push(Token {
            at: at..at + length,
            word,
        });
        at += length;
        if tokens.len() > WORDS_MAX {
            let why = format!("more than {WORDS_MAX} words");
            return Err(fault(
                0..at,
                &why,
                "make two rules of it, or list values in `enum`",
            ));
        }
    }
    Ok(tokens)
}

// === the grammar ===

struct Parser<'p> {
    text: &'p str,
    tokens: Vec<Token>,
    next: usize,
    columns: &'p [(String, Option<Kind>)],
    used: &'p mut Vec<usize>,
    depth: u32,
}

type Typed = Result<(Expr, Type), RuleFault>;

impl Parser<'_> {
    fn here(&self) -> Range<usize> {
        let end = self.text.len()..self.text.len();
        self.tokens
            .get(self.next)
            .map_or(end, |token| token.at.clone())
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.tokens.get(self.next), Some(Token { word: Word::Sign(own), .. }) if *own == sign);
        self.next += usize::from(is);
        is
    }

    fn keyword(&mut self, word: &str) -> bool {
        let is = matches!(self.tokens.get(self.next), Some(Token { word: Word::Name(own), .. }) if own == word);
        self.next += usize::from(is);
        is
    }

    fn need(&mut self, sign: &str) -> Result<(), RuleFault> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(fault(
            self.here(),
            &format!("a \"{sign}\" is missing here"),
            "add it",
        ))
    }

    fn or(&mut self) -> Typed {
        let mut left = self.and()?;
        while self.keyword("or") {
            let right = self.and()?;
            left = self.both(left, right, "or", Expr::Or)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Typed {
        let mut left = self.not()?;
        while self.keyword("and") {
            let right = self.not()?;
            left = self.both(left, right, "and", Expr::And)?;
        }
        Ok(left)
    }

    fn both(
        &self,
        left: (Expr, Type),
        right: (Expr, Type),
        word: &str,
        make: fn(Box<Expr>, Box<Expr>) -> Expr,
    ) -> Typed {
        if left.1 != Type::Bool || right.1 != Type::Bool {
            let why = format!("\"{word}\" stands between conditions");
            return Err(fault(
                0..self.here().start,
                &why,
                "compare each side with something",
            ));
        }
        Ok((make(Box::new(left.0), Box::new(right.0)), Type::Bool))
    }

    fn not(&mut self) -> Typed {
        let at = self.here();
        if !self.keyword("not") {
            return self.test();
        }
        self.deeper(at.clone())?;
        let (inner, kind) = self.not()?;
        self.depth -= 1;
        if kind != Type::Bool {
            return Err(fault(
                at,
                "\"not\" stands before a condition",
                "compare it with something",
            ));
        }
        Ok((Expr::Not(Box::new(inner)), Type::Bool))
    }

    fn deeper(&mut self, at: Range<usize>) -> Result<(), RuleFault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(fault(at, "nested too deeply", "make two rules of it"));
        }
        Ok(())
    }

    fn test(&mut self) -> Typed {
        const COMPARES: [(&str, Compare); 6] = [
            ("==", Compare::Equal),
            ("!=", Compare::Unequal),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        let start = self.here().start;
        let left = self.sum()?;
        if self.keyword("is") {
            let is_not = self.keyword("not");
            if !self.keyword("null") {
                return Err(fault(
                    self.here(),
                    "\"is\" asks for null only",
                    "is null, is not null",
                ));
            }
            let is_null = Expr::IsNull(Box::new(left.0));
            return Ok((negated(is_null, is_not), Type::Bool));
        }
        let is_not = self.keyword("not");
        if self.keyword("in") {
            self.need("(")?;
            let mut is_in: Option<Expr> = None;
            loop {
                let at = self.here();
                let one = self.sum()?;
                let (own, one) = Self::alike(left.clone(), one, at)?;
                let is_one = Expr::Compare(Compare::Equal, Box::new(own), Box::new(one));
                is_in = Some(match is_in {
                    Some(others) => Expr::Or(Box::new(others), Box::new(is_one)),
                    None => is_one,
                });
                if !self.sign(",") {
                    break;
                }
            }
            self.need(")")?;
            return Ok((
                negated(is_in.unwrap_or(Expr::Bool(false)), is_not),
                Type::Bool,
            ));
        }
        if is_not {
            return Err(fault(
                self.here(),
                "\"not\" here belongs to \"in\"",
                "not in (...)",
            ));
        }
        let found = COMPARES.iter().find(|(sign, _)| self.sign(sign));
        let Some((_, how)) = found else {
            return Ok(left);
        };
        let right = self.sum()?;
        let at = start
            ..self
                .tokens
                .get(self.next - 1)
                .map_or(start, |token| token.at.end);
        let (left, right) = Self::alike(left, right, at)?;
        Ok((
            Expr::Compare(*how, Box::new(left), Box::new(right)),
            Type::Bool,
        ))
    }

    /// Brings two values to one type: numbers to one scale, text beside a date to a date.
    fn alike(
        left: (Expr, Type),
        right: (Expr, Type),
        at: Range<usize>,
    ) -> Result<(Expr, Expr), RuleFault> {
        let date = |text: &str, grain: Grain, example: &str| {
            let value = dates::bound(text, grain).map(Expr::Number);
            value.ok_or_else(|| {
                let why = format!("\"{text}\" is no such date");
                fault(at.clone(), &why, &format!("as in \"{example}\""))
            })
        };
        let of = |text: &str, kind: Type| {
            if kind == Type::Day {
                date(text, Grain::Day, "2026-01-31")
            } else {
                date(text, Grain::Moment, "2026-01-31T00:00:00Z")
            }
        };
        match (left, right) {
            ((a, Type::Number(left)), (b, Type::Number(right))) => {
                let scale = left.max(right);
                Ok((scaled(a, scale - left), scaled(b, scale - right)))
            }
            ((a, kind @ (Type::Day | Type::Moment)), (Expr::Text(text), Type::Text)) => {
                Ok((a, of(&text, kind)?))
            }
            ((Expr::Text(text), Type::Text), (b, kind @ (Type::Day | Type::Moment))) => {
                Ok((of(&text, kind)?, b))
            }
            ((a, left), (b, right)) if left == right => Ok((a, b)),
            ((_, left), (_, right)) => {
                let why = format!("{} cannot be compared with {}", left.title(), right.title());
                Err(fault(at, &why, "both sides must be of one type"))
            }
        }
    }

    fn sum(&mut self) -> Typed {
        let start = self.here().start;
        let mut left = self.product()?;
        loop {
            let is_less = if self.sign("+") {
                false
            } else if self.sign("-") {
                true
            } else {
                return Ok(left);
            };
            let right = self.product()?;
            let at = start..self.here().start;
            let (Type::Number(a), Type::Number(b)) = (left.1, right.1) else {
                return Err(fault(at, "only numbers can be added", "remove the sign"));
            };
            let scale = a.max(b);
            let (a, b) = (scaled(left.0, scale - a), scaled(right.0, scale - b));
            left = (
                Expr::Sum(Box::new(a), Box::new(b), is_less),
                Type::Number(scale),
            );
        }
    }

    fn product(&mut self) -> Typed {
        let start = self.here().start;
        let mut left = self.value()?;
        while self.sign("*") {
            let right = self.value()?;
            let at = start..self.here().start;
            let (Type::Number(a), Type::Number(b)) = (left.1, right.1) else {
                return Err(fault(
                    at,
                    "only numbers can be multiplied",
                    "remove the sign",
                ));
            };
            if a + b > SCALE_MAX {
                return Err(fault(
                    at,
                    "a product of too many digits",
                    "make two rules of it",
                ));
            }
            left = (
                Expr::Times(Box::new(left.0), Box::new(right.0)),
                Type::Number(a + b),
            );
        }
        Ok(left)
    }

    fn value(&mut self) -> Typed {
        let at = self.here();
        if self.sign("-") {
            self.deeper(at.clone())?;
            let (inner, kind) = self.value()?;
            self.depth -= 1;
            let Type::Number(_) = kind else {
                return Err(fault(at, "only numbers can be negated", "remove the sign"));
            };
            let zero = Box::new(Expr::Number(0));
            return Ok((Expr::Sum(zero, Box::new(inner), true), kind));
        }
        if self.sign("(") {
            self.deeper(at)?;
            let inner = self.or()?;
            self.depth -= 1;
            self.need(")")?;
            return Ok(inner);
        }
        let Some(token) = self.tokens.get(self.next).cloned() else {
            return Err(fault(
                at,
                "something is missing here",
                "a column, a number, or text in quotes",
            ));
        };
        self.next += 1;
        match token.word {
            Word::Number(text) => number(&text)
                .ok_or_else(|| fault(at, "this is no number", "digits and a point, as in 1234.50")),
            Word::Text(text) => Ok((Expr::Text(text), Type::Text)),
            Word::Name(name) if name == "true" || name == "false" => {
                Ok((Expr::Bool(name == "true"), Type::Bool))
            }
            Word::Name(name) if name == "length" && self.sign("(") => {
                self.deeper(at.clone())?;
                let (inner, kind) = self.or()?;
                self.depth -= 1;
                self.need(")")?;
                if kind != Type::Text {
                    return Err(fault(
                        at,
                        "only text has a length",
                        "compare the value itself",
                    ));
                }
                Ok((Expr::Length(Box::new(inner)), Type::Number(0)))
            }
            Word::Name(name) | Word::Column(name) => self.column(&name, at),
            Word::Sign(sign) => {
                let why = format!("\"{sign}\" cannot stand here");
                Err(fault(at, &why, "a column, a number, or text in quotes"))
            }
        }
    }

    fn column(&mut self, name: &str, at: Range<usize>) -> Typed {
        let Some(index) = self.columns.iter().position(|(own, _)| own == name) else {
            return Err(RuleFault {
                unknown: Some(name.to_owned()),
                ..fault(
                    at,
                    &format!("there is no column \"{name}\""),
                    "text stands in quotes",
                )
            });
        };
        if !self.used.contains(&index) {
            self.used.push(index);
            self.used.sort_unstable();
        }
        let kind = match self.columns.get(index).and_then(|(_, kind)| kind.as_ref()) {
            Some(Kind::Boolean { .. }) => Type::Bool,
            Some(Kind::Date { .. }) => Type::Day,
            Some(Kind::DateTime { .. }) => Type::Moment,
            Some(Kind::Decimal { scale, .. }) => Type::Number(u32::from(*scale)),
            Some(Kind::Integer) => Type::Number(0),
            Some(Kind::Text(_)) | None => Type::Text,
        };
        Ok((Expr::Column(index), kind))
    }
}

impl Type {
    fn title(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Day => "a date",
            Self::Moment => "a moment",
            Self::Number(_) => "a number",
            Self::Text => "text",
        }
    }
}

fn negated(expr: Expr, is_not: bool) -> Expr {
    if is_not {
        Expr::Not(Box::new(expr))
    } else {
        expr
    }
}

fn scaled(expr: Expr, digits: u32) -> Expr {
    match (expr, 10_i128.checked_pow(digits)) {
        (expr, Some(1)) => expr,
        (Expr::Number(number), Some(factor)) if number.checked_mul(factor).is_some() => {
            Expr::Number(number * factor)
        }
        (expr, factor) => Expr::Scaled(Box::new(expr), factor.unwrap_or(i128::MAX)),
    }
}

/// A number and the digits after its point.
fn number(text: &str) -> Option<(Expr, Type)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_bare = text.ends_with('.') || whole.is_empty();
    if is_bare || !is_digits(whole) || !is_digits(part) {
        return None;
    }
    let scale = u32::try_from(part.len())
        .ok()
        .filter(|scale| *scale <= SCALE_MAX)?;
    let value = format!("{whole}{part}").parse().ok()?;
    Some((Expr::Number(value), Type::Number(scale)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::contract::TextFormat;

    fn columns() -> Vec<(String, Option<Kind>)> {
        let decimal = |scale| Kind::Decimal {
            precision: 12,
            scale,
        };
        let formats = || vec!["%Y-%m-%d".to_owned()];
        [
            ("country", Kind::Text(TextFormat::Any)),
            ("amount", decimal(2)),
            ("fee", decimal(3)),
            ("count", Kind::Integer),
            (
                "paid",
                Kind::Boolean {
                    yes: Vec::new(),
                    no: Vec::new(),
                },
            ),
            ("from", Kind::Date { formats: formats() }),
            ("at", Kind::DateTime { formats: formats() }),
            ("order-id", Kind::Text(TextFormat::Any)),
        ]
        .map(|(name, kind)| (name.to_owned(), Some(kind)))
        .to_vec()
    }

    /// CH, 100.00, 1.250, 3, true, 2026-01-02 (20455 days), null, "x".
    fn value(at: usize) -> Option<Operand<'static>> {
        Some(match at {
            0 => Operand::Text("CH"),
            1 => Operand::Number(10_000),
            2 => Operand::Number(1_250),
            3 => Operand::Number(3),
            4 => Operand::Bool(true),
            5 => Operand::Number(20_455),
            7 => Operand::Text("x"),
            _ => return None,
        })
    }

    #[track_caller]
    fn check(text: &str, expect: Option<bool>) {
        let expr = compile(text, &columns(), &mut Vec::new()).unwrap();
        assert_eq!(expr.is_true(&value), expect, "{text}");
    }

    #[test]
    fn conditions_come_to_what_they_say() {
        for (text, expect) in [
            ("country == \"CH\"", true),
            ("country != 'CH'", false),
            ("country in ('DE', 'CH')", true),
            ("country not in ('DE', 'AT')", true),
            ("amount == 100", true),
            ("amount < 100.001", true),
            ("amount + fee == 101.25", true),
            (
                "amount - fee * count > 96.24 and amount - fee * count < 96.26",
                true,
            ),
            ("-amount < 0", true),
            ("count in (1, 2, 3)", true),
            ("count in (2.5, 3.00)", true),
            ("paid", true),
            ("not paid or count > 2", true),
            ("paid and (count > 5 or country == 'CH')", true),
            ("from >= \"2026-01-02\"", true),
            ("from < '2026-01-02'", false),
            ("`order-id` == \"x\"", true),
            ("length(country) == 2", true),
            ("at is null", true),
            ("country is not null", true),
            ("at is null and amount > 1", true),
            ("false or true", true),
        ] {
            check(text, Some(expect));
        }
        // Null is neither true nor false, unless the rest decides.
        check("at > \"2026-01-31T00:00:00Z\"", None);
        check("not at > \"2026-01-31T00:00:00Z\"", None);
        check("at > \"2026-01-31T00:00:00Z\" or paid", Some(true));
        check("at > \"2026-01-31T00:00:00Z\" and not paid", Some(false));
    }

    #[test]
    fn what_cannot_be_is_refused_at_its_place() {
        for (text, at, why) in [
            ("amount", 0..6, "a number, not true or false"),
            ("amount = 5", 7..8, "one = compares nothing"),
            ("amunt > 5", 0..5, "no column \"amunt\""),
            (
                "amount > 'a'",
                0..12,
                "a number cannot be compared with text",
            ),
            ("from > \"2026-02-30\"", 0..19, "is no such date"),
            ("amount > ", 9..9, "something is missing"),
            ("amount > 5 5", 11..12, "over before this"),
            ("(amount > 5", 11..11, "\")\" is missing"),
            ("country + 1 > 2", 0..12, "only numbers can be added"),
            ("length(amount) > 1", 0..6, "only text has a length"),
            ("country in 'a'", 11..14, "\"(\" is missing"),
            ("paid and amount", 0..15, "stands between conditions"),
            ("amount > 1.", 9..11, "this is no number"),
            (
                "amount > 5 ; x",
                11..12,
                "no condition holds this character",
            ),
            ("country == \"CH", 11..14, "never closed"),
            ("country is \"CH\"", 11..15, "asks for null only"),
        ] {
            let found = compile(text, &columns(), &mut Vec::new()).unwrap_err();
            assert!(found.why.contains(why), "{text}: {found:?}");
            assert_eq!(found.at, at, "{text}: {found:?}");
        }
        let deep = "(".repeat(40) + "paid" + &")".repeat(40);
        let found = compile(&deep, &columns(), &mut Vec::new()).unwrap_err();
        assert_eq!(found.why, "nested too deeply");
    }

    #[test]
    fn numbers_past_what_counts_exactly_break_what_bounds_them() {
        let big = "9".repeat(30);
        check(&format!("count * {big} * {big} < 5"), Some(false));
        check(&format!("count * {big} * {big} < amount"), Some(false));
        check(&format!("0 - count * {big} * {big} > amount"), Some(false));
    }

    #[test]
    fn a_rule_has_an_end() {
        let long = "paid or ".repeat(WORDS_MAX) + "paid";
        let found = compile(&long, &columns(), &mut Vec::new()).unwrap_err();
        assert!(found.why.contains("more than 500 words"), "{found:?}");
    }

    #[test]
    fn the_columns_of_a_rule_are_known() {
        let mut used = Vec::new();
        compile(
            "amount > 1 or country == 'x' and amount < 2",
            &columns(),
            &mut used,
        )
        .unwrap();
        assert_eq!(used, [0, 1]);
    }
}
