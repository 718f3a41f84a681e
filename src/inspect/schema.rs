//! The header against the contract: which column each cell of a row belongs to.
//!
//! All faults of a header are told together, and any of them refuses the file: rows under labels
//! in doubt are not judged. Only where the contract holds a file for a column too many or too few,
//! and nothing else is wrong with the labels, do the rows count. A tokenized column without a label always refuses, whatever else the
//! contract allows, since its values may be in the file under another label.

use std::collections::BTreeMap;

use crate::inspect::scan;
use crate::inspect::show::{self, Sight};
use crate::policy::contract::{
    Column, ExtraColumns, FieldsMatch, Formulas, HeaderMatch, MissingColumns, Schema,
};
use crate::terms::codes::Code;
use crate::terms::drift::{Drift, DriftKind};
use crate::terms::limits;

/// Where the cells of a row go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// For each cell of a row.
    pub(crate) places: Vec<Place>,
    /// Columns of the contract that the file lacks: every cell null.
    pub(crate) absent: Vec<usize>,
}

/// Where one cell of a row goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This column of the contract.
    Column(usize),
    /// A column the contract does not know, left out of the output.
    Drop(String),
    /// A column the contract does not know, copied.
    Keep(String),
}

/// One fault of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelFault {
    /// What is wrong.
    pub(crate) code: Code,
    /// The column or label it is about.
    pub(crate) column: Option<String>,
    /// The rule broken.
    pub(crate) rule: &'static str,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// One sentence.
    pub(crate) detail: String,
}

/// Without a header, cells come in the contract's order.
pub(crate) fn in_order(schema: &Schema) -> Layout {
    Layout {
        places: (0..schema.columns.len()).map(Place::Column).collect(),
        absent: Vec::new(),
    }
}

/// Matches the labels; `place`: where they stand, as in `line 1`.
///
/// Gives where cells go, and the faults that a person decides about.
///
/// # Errors
/// Every fault of the header, in the order dialect, blank, duplicate, missing, extra, order.
pub(crate) fn match_labels(
    schema: &Schema,
    delimiter: u8,
    labels: &[String],
    place: &str,
) -> Result<(Layout, Vec<LabelFault>), Vec<LabelFault>> {
    if let Some(fault) = other_delimiter(schema, delimiter, labels, place) {
        return Err(vec![fault]);
    }
    Header::new(schema, labels, place).judge()
}

/// How the labels differ from the contract's columns, whatever it says about that. Nothing where so few are
/// known that they may be no labels at all.
pub(crate) fn drift(schema: &Schema, labels: &[String]) -> Vec<Drift> {
    let header = Header::new(schema, labels, "");
    let known: Vec<usize> = header.columns.iter().copied().flatten().collect();
    let fewer = schema.columns.len().min(labels.len());
    if known.is_empty() || known.len() * 2 < fewer || header.sight == Sight::Shape {
        return Vec::new();
    }
    let unknown = labels
        .iter()
        .enumerate()
        .filter(|(at, label)| header.columns.get(*at) == Some(&None) && !label.trim().is_empty());
    let mut added: Vec<(usize, &String, Vec<char>)> = unknown
        .map(|(at, label)| (at, label, plain(label)))
        .collect();
    let mut found = Vec::new();
    let mut compared = 0;
    for (index, column) in schema.columns.iter().enumerate() {
        if known.contains(&index) {
            continue;
        }
        let name = plain(&column.name);
        let mut best: Option<(u8, bool, usize)> = None;
        for (place, (at, _, label)) in added.iter().enumerate() {
            if compared >= limits::DRIFT_PAIRS_MAX {
                break;
            }
            compared += 1;
            let this = (alike(&name, label), *at == index, place);
            // Of two that are as much like it, the one in its place.
            if this.0 >= RENAMED_PERCENT
                && best.is_none_or(|best| (this.0, this.1) > (best.0, best.1))
            {
                best = Some(this);
            }
        }
        found.push(match best {
            Some((percent, _, place)) => {
                let (_, label, _) = added.remove(place);
                let (label, is_exact) = told(label);
                Drift {
                    kind: DriftKind::Renamed,
                    column: column.name.clone(),
                    now: Some((label, percent)),
                    is_exact,
                }
            }
            None => of_contract(DriftKind::Removed, column),
        });
    }
    for (_, label, _) in added.iter().take(limits::DRIFTS_PER_FILE_MAX) {
        let (column, is_exact) = told(label);
        let drift = Drift {
            kind: DriftKind::Added,
            column,
            now: None,
            is_exact,
        };
        // Two labels may have one shape.
        if !found.contains(&drift) {
            found.push(drift);
        }
    }
    let moved = known.windows(2).find_map(|pair| match pair {
        [one, next] if next < one => schema.columns.get(*next),
        _ => None,
    });
    found.extend(moved.map(|column| of_contract(DriftKind::Reordered, column)));
    found.truncate(limits::DRIFTS_PER_FILE_MAX);
    found
}

fn of_contract(kind: DriftKind, column: &Column) -> Drift {
    Drift {
        kind,
        column: column.name.clone(),
        now: None,
        is_exact: true,
    }
}

/// How alike two names must be, in percent, for one to have become the other.
const RENAMED_PERCENT: u8 = 60;

/// A name as it is compared: case and what stands between words do not count.
fn plain(text: &str) -> Vec<char> {
    let parts = text.chars().filter(|c| c.is_alphanumeric());
    let parts = parts.flat_map(char::to_lowercase);
    parts.take(limits::LABEL_CHARS_MAX).collect()
}

/// How alike two names are, in percent of the longer one's characters.
fn alike(one: &[char], other: &[char]) -> u8 {
    let longer = one.len().max(other.len());
    let shorter = one.len().min(other.len());
    // So much shorter, it cannot be alike.
    if longer == 0 || shorter * 100 < longer * usize::from(RENAMED_PERCENT) {
        return 0;
    }
    let same = longer.saturating_sub(distance(one, other, longer));
    u8::try_from(same * 100 / longer).unwrap_or(0)
}

/// A label as it is remembered, and whether that is all of it: of one that may be a value only the shape.
fn told(label: &str) -> (String, bool) {
    let digits = label.chars().filter(char::is_ascii_digit).count();
    if label.contains('@') || digits > LABEL_DIGITS_MAX {
        return (show::value(label, Sight::Shape), false);
    }
    let start: String = label.chars().take(limits::LABEL_CHARS_MAX).collect();
    let is_exact = start.len() == label.len();
    (start, is_exact)
}

/// Digits of a label: telephone numbers, accounts and most ids have more.
const LABEL_DIGITS_MAX: usize = 5;

/// A header of one label that another delimiter splits into labels of the contract.
fn other_delimiter(
    schema: &Schema,
    delimiter: u8,
    labels: &[String],
    place: &str,
) -> Option<LabelFault> {
    const DELIMITERS: [(char, &str); 4] = [(';', "';'"), ('\t', "TAB"), ('|', "'|'"), (',', "','")];
    let [only] = labels else { return None };
    let known = names(schema);
    let (_, shown) = DELIMITERS
        .iter()
        .filter(|(other, _)| *other != char::from(delimiter))
        .find(|(other, _)| {
            let pieces = only.split(*other).map(|piece| piece.trim_matches('"'));
            let found = pieces.filter(|piece| known.contains_key(&key(schema, piece)));
            found.count() >= 2
        })?;
    Some(LabelFault {
        code: Code::FormatError,
        column: None,
        rule: "the delimiter agreed",
        hint: Some(format!("looks like {shown}")),
        detail: format!("{place} has 1 column, {} expected", schema.columns.len()),
    })
}

/// What a label or name is compared by.
pub(crate) fn key(schema: &Schema, label: &str) -> String {
    match schema.header_match {
        HeaderMatch::Case => label.to_lowercase(),
        HeaderMatch::Exact => label.to_owned(),
        HeaderMatch::Trim => label.trim().to_owned(),
        HeaderMatch::TrimCase => label.trim().to_lowercase(),
    }
}

/// Every name and alias, and the column it stands for.
pub(crate) fn names(schema: &Schema) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for (index, column) in schema.columns.iter().enumerate() {
        for name in column.aliases.iter().chain([&column.name]) {
            names.entry(key(schema, name)).or_insert(index);
        }
    }
    names
}

/// Whether a column the contract does not know refuses the file.
pub(crate) fn refuses_extra(schema: &Schema) -> bool {
    schema.extra_columns == ExtraColumns::Reject
        || match schema.fields_match {
            FieldsMatch::Exact | FieldsMatch::Superset => true,
            FieldsMatch::Equal | FieldsMatch::Partial | FieldsMatch::Subset => false,
        }
}

/// Whether any column the file lacks refuses it.
pub(crate) fn refuses_missing(schema: &Schema) -> bool {
    schema.missing_columns == MissingColumns::Reject
        || match schema.fields_match {
            FieldsMatch::Exact | FieldsMatch::Subset => true,
            FieldsMatch::Equal | FieldsMatch::Partial | FieldsMatch::Superset => false,
        }
}

/// One header being judged.
struct Header<'h> {
    schema: &'h Schema,
    labels: &'h [String],
    place: &'h str,
    /// The contract's column of each label.
    columns: Vec<Option<usize>>,
    /// Whether labels without a column may be shown.
    sight: Sight,
}

// === impl Header ===

impl<'h> Header<'h> {
    fn new(schema: &'h Schema, labels: &'h [String], place: &'h str) -> Self {
        let names = names(schema);
        let columns: Vec<Option<usize>> = labels
            .iter()
            .map(|label| names.get(&key(schema, label)).copied())
            .collect();
        // A file without a header has a row where labels should be, perhaps of sensitive values.
        let known = columns.iter().flatten().count();
        let has_sensitive = schema
            .columns
            .iter()
            .any(|column| column.sensitive || column.token.is_some());
        let sight = if has_sensitive && known * 2 < labels.len() {
            Sight::Shape
        } else {
            Sight::Open
        };
        Self {
            schema,
            labels,
            place,
            columns,
            sight,
        }
    }

    fn judge(self) -> Result<(Layout, Vec<LabelFault>), Vec<LabelFault>> {
        let mut held = Vec::new();
        let mut faults = self.blank();
        faults.extend(self.duplicate());
        let absent: Vec<usize> = (0..self.schema.columns.len())
            .filter(|index| !self.columns.contains(&Some(*index)))
            .collect();
        let refused: Vec<usize> = absent
            .iter()
            .copied()
            .filter(|index| self.must_have(*index))
            .collect();
        let has_none = absent.len() == self.schema.columns.len();
        faults.extend(refused.iter().map(|index| self.missing(*index)));
        if self.schema.missing_columns == MissingColumns::Hold && !has_none {
            let asked = absent.iter().filter(|index| !refused.contains(index));
            held.extend(asked.map(|index| self.missing(*index)));
        }
        if has_none && refused.is_empty() && !absent.is_empty() {
            faults.push(LabelFault {
                code: Code::MissingLabel,
                column: None,
                rule: "at least one label of the contract",
                hint: None,
                detail: format!("{} has no label of the contract", self.place),
            });
        }
        if self.refuses_extra() {
            faults.extend(self.extra());
        } else if self.schema.extra_columns == ExtraColumns::Hold {
            held.extend(self.extra());
        }
        faults.extend(self.unfit());
        if faults.is_empty() && self.schema.fields_match == FieldsMatch::Exact {
            faults.extend(self.order());
        }
        if !faults.is_empty() {
            // One place tells all that is wrong with the labels.
            faults.extend(held);
            return Err(faults);
        }
        let places = self.columns.iter().zip(self.labels);
        let layout = Layout {
            places: places
                .map(
                    |(column, label)| match (column, self.schema.extra_columns) {
                        (Some(index), _) => Place::Column(*index),
                        (None, ExtraColumns::Keep) => Place::Keep(label.clone()),
                        (None, ExtraColumns::Drop | ExtraColumns::Hold | ExtraColumns::Reject) => {
                            Place::Drop(label.clone())
                        }
                    },
                )
                .collect(),
            absent,
        };
        Ok((layout, held))
    }

    fn refuses_extra(&self) -> bool {
        refuses_extra(self.schema)
    }

    /// Labels of columns that are kept leave with them.
    fn unfit(&self) -> Vec<LabelFault> {
        if self.schema.extra_columns != ExtraColumns::Keep {
            return Vec::new();
        }
        let unknown = self.labels.iter().zip(&self.columns);
        let kept = unknown.filter(|(_, column)| column.is_none());
        kept.filter_map(|(label, _)| {
            let found = self
                .schema
                .scan
                .as_ref()
                .and_then(|scan| scan::find(scan, label));
            let (code, rule, what) = match found {
                Some((_, kind)) => (
                    Code::SensitiveUndeclared,
                    "no label that holds a sensitive value",
                    kind.title(),
                ),
                None if self.schema.formulas != Formulas::Allow && scan::is_formula(label) => (
                    Code::FormulaInjection,
                    "no label that is a formula",
                    "what a spreadsheet would run",
                ),
                None => return None,
            };
            let shape = show::value(label, Sight::Shape);
            Some(LabelFault {
                code,
                column: None,
                rule,
                hint: None,
                detail: format!("a label holds {what}: {}", show::name(&shape)),
            })
        })
        .collect()
    }

    fn must_have(&self, index: usize) -> bool {
        refuses_missing(self.schema)
            || self.schema.columns.get(index).is_some_and(|column| {
                // Of a held file somebody may yet say that the column is not needed.
                let is_asked = self.schema.missing_columns == MissingColumns::Hold;
                let is_needed = column.required || self.schema.primary_key.contains(&index);
                column.token.is_some() || (is_needed && !is_asked)
            })
    }

    fn blank(&self) -> Vec<LabelFault> {
        let blank = (1_usize..)
            .zip(self.labels)
            .filter(|(_, label)| label.trim().is_empty());
        blank
            .map(|(number, _)| LabelFault {
                code: Code::BlankLabel,
                column: None,
                rule: "every column has a label",
                hint: None,
                detail: format!("label {number} of {} is empty", self.place),
            })
            .collect()
    }

    fn duplicate(&self) -> Vec<LabelFault> {
        let mut faults = Vec::new();
        for (at, label) in self.labels.iter().enumerate() {
            if label.trim().is_empty() {
                continue;
            }
            let own = self.columns.get(at).copied().flatten();
            let earlier = self.labels.iter().zip(&self.columns).take(at);
            let first = earlier.into_iter().position(|(other, column)| {
                (own.is_some() && *column == own)
                    || key(self.schema, other) == key(self.schema, label)
            });
            if let Some(first) = first {
                let column = own.map_or_else(
                    || show::value(label, self.sight),
                    |index| self.name(index).to_owned(),
                );
                faults.push(LabelFault {
                    code: Code::DuplicateLabel,
                    detail: format!(
                        "labels {} and {} of {} are both {}",
                        first + 1,
                        at + 1,
                        self.place,
                        show::name(&column)
                    ),
                    column: Some(column),
                    rule: "no label twice",
                    hint: None,
                });
            }
        }
        faults
    }

    fn missing(&self, index: usize) -> LabelFault {
        let name = self.name(index);
        let detail = format!("{} misses {}", self.place, show::name(name));
        let near = self.near(name).map(show::name);
        LabelFault {
            code: Code::MissingLabel,
            column: Some(name.to_owned()),
            rule: "every column of the contract has a label",
            hint: near
                .as_ref()
                .map(|near| format!("Write {} instead of {near}.", show::name(name))),
            detail: match near {
                Some(near) => format!("{detail}, has {near}"),
                None => detail,
            },
        }
    }

    /// The label without a column that is most like `name`.
    fn near(&self, name: &str) -> Option<&str> {
        let plain = |text: &str| -> Vec<char> { text.trim().to_lowercase().chars().collect() };
        let name = plain(name);
        let unknown = self.labels.iter().zip(&self.columns);
        unknown
            .filter(|(_, column)| column.is_none())
            .map(|(label, _)| (distance(&plain(label), &name, 3), label))
            // Two steps of six characters: `id` is not near `ab`.
            .filter(|(steps, _)| *steps <= 2 && *steps * 3 <= name.len())
            .min_by_key(|(steps, _)| *steps)
            .map(|(_, label)| label.as_str())
    }

    fn extra(&self) -> Vec<LabelFault> {
        let unknown = self.labels.iter().zip(&self.columns);
        unknown
            .filter(|(label, column)| column.is_none() && !label.trim().is_empty())
            .map(|(label, _)| {
                let column = show::value(label, self.sight);
                LabelFault {
                    code: Code::ExtraLabel,
                    detail: format!("{} is new", show::name(&column)),
                    column: Some(column),
                    rule: "only columns of the contract",
                    hint: None,
                }
            })
            .collect()
    }

    fn order(&self) -> Option<LabelFault> {
        let at = (0..self.columns.len())
            .find(|at| self.columns.get(*at).copied().flatten() != Some(*at))?;
        let found = self.columns.get(at).copied().flatten()?;
        Some(LabelFault {
            code: Code::IncorrectLabel,
            column: None,
            rule: "labels in the order of the contract",
            hint: Some(format!(
                "The order is {}.",
                show::names(
                    self.schema
                        .columns
                        .iter()
                        .map(|column| column.name.as_str())
                )
            )),
            detail: format!(
                "label {} of {} is {}, {} expected",
                at + 1,
                self.place,
                show::name(self.name(found)),
                show::name(self.name(at))
            ),
        })
    }

    fn name(&self, index: usize) -> &str {
        self.schema
            .columns
            .get(index)
            .map_or("", |column| column.name.as_str())
    }
}

/// Characters to add, remove or change to make `a` from `b` (Levenshtein), `far` or more being `far`.
fn distance(a: &[char], b: &[char], far: usize) -> usize {
    if a.len().abs_diff(b.len()) >= far {
        return far;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in (1..).zip(a) {
        let mut next = vec![i];
        let (mut left, mut nearest) = (i, i);
        for (to, pair) in b.iter().zip(row.windows(2)) {
            let (above_left, above) = match pair {
                [above_left, above] => (*above_left, *above),
                _ => (far, far),
            };
            left = (above_left + usize::from(from != to))
                .min(above + 1)
                .min(left + 1);
            nearest = nearest.min(left);
            next.push(left);
        }
        if nearest >= far {
            return far;
        }
        row = next;
    }
    row.last().copied().unwrap_or(far).min(far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::contract::{Column, Formulas, Keep, Kind, TextFormat, TokenKind, TokenRule};

    fn column(name: &str, aliases: &[&str]) -> Column {
        Column {
            name: name.to_owned(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            ..Column::free(Kind::Text(TextFormat::Any))
        }
    }

    fn schema() -> Schema {
        Schema {
            columns: vec![
                column("order_id", &[]),
                column("country", &["land", "ctry"]),
                column("amount", &[]),
            ],
            fields_match: FieldsMatch::Equal,
            header_match: HeaderMatch::Exact,
            extra_columns: ExtraColumns::Reject,
            missing_columns: MissingColumns::Reject,
            missing_values: vec![String::new()],
            rows_min: 0,
            primary_key: Vec::new(),
            field_bytes_max: 1024,
            record_bytes_max: 4096,
            columns_max: 100,
            scan: None,
            formulas: Formulas::Allow,
            rules: Vec::new(),
        }
    }

    fn match_line(schema: &Schema, labels: &[&str]) -> Result<Layout, Vec<LabelFault>> {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        match_labels(schema, b',', &labels, "line 1").map(|(layout, _)| layout)
    }

    #[track_caller]
    fn check(schema: &Schema, labels: &[&str], expect: &[(Code, Option<&str>, &str)]) {
        let faults = match_line(schema, labels).unwrap_err();
        let found: Vec<_> = faults
            .iter()
            .map(|fault| (fault.code, fault.column.as_deref(), fault.detail.as_str()))
            .collect();
        assert_eq!(found, expect, "{labels:?}");
    }

    fn places(schema: &Schema, labels: &[&str]) -> Vec<Place> {
        match_line(schema, labels).unwrap().places
    }

    #[test]
    fn labels_and_aliases_find_their_columns_in_any_order() {
        assert_eq!(
            places(&schema(), &["amount", "land", "order_id"]),
            [Place::Column(2), Place::Column(1), Place::Column(0)]
        );
    }

    #[test]
    fn labels_are_compared_as_the_contract_says() {
        let labels = [" ORDER_ID", "Country ", "amount"];
        for (header_match, fits) in [
            (HeaderMatch::Exact, false),
            (HeaderMatch::Trim, false),
            (HeaderMatch::Case, false),
            (HeaderMatch::TrimCase, true),
        ] {
            let schema = Schema {
                header_match,
                ..schema()
            };
            assert_eq!(
                match_line(&schema, &labels).is_ok(),
                fits,
                "{header_match:?}"
            );
        }
    }

    #[test]
    fn all_faults_are_told_together() {
        check(
            &schema(),
            &["order_id", "", "order_id", "ammount", "loyalty"],
            &[
                (Code::BlankLabel, None, "label 2 of line 1 is empty"),
                (
                    Code::DuplicateLabel,
                    Some("order_id"),
                    "labels 1 and 3 of line 1 are both order_id",
                ),
                (Code::MissingLabel, Some("country"), "line 1 misses country"),
                (
                    Code::MissingLabel,
                    Some("amount"),
                    "line 1 misses amount, has ammount",
                ),
                (Code::ExtraLabel, Some("ammount"), "ammount is new"),
                (Code::ExtraLabel, Some("loyalty"), "loyalty is new"),
            ],
        );
    }

    #[test]
    fn a_label_beside_its_alias_is_a_duplicate() {
        check(
            &schema(),
            &["order_id", "country", "land", "amount"],
            &[(
                Code::DuplicateLabel,
                Some("country"),
                "labels 2 and 3 of line 1 are both country",
            )],
        );
    }

    #[test]
    fn exact_wants_the_order_too() {
        let exact = Schema {
            fields_match: FieldsMatch::Exact,
            ..schema()
        };
        assert!(match_line(&exact, &["order_id", "land", "amount"]).is_ok());
        check(
            &exact,
            &["order_id", "amount", "country"],
            &[(
                Code::IncorrectLabel,
                None,
                "label 2 of line 1 is amount, country expected",
            )],
        );
    }

    #[test]
    fn extra_columns_are_dropped_or_kept_where_that_is_agreed() {
        let labels = ["order_id", "loyalty", "country", "amount"];
        for (extra_columns, expect) in [
            (ExtraColumns::Drop, Place::Drop("loyalty".to_owned())),
            (ExtraColumns::Keep, Place::Keep("loyalty".to_owned())),
        ] {
            let fields_match = FieldsMatch::Subset;
            let subset = Schema {
                fields_match,
                extra_columns,
                ..schema()
            };
            assert_eq!(places(&subset, &labels)[1], expect);
            let fields_match = FieldsMatch::Superset;
            let superset = Schema {
                fields_match,
                extra_columns,
                ..schema()
            };
            check(
                &superset,
                &labels,
                &[(Code::ExtraLabel, Some("loyalty"), "loyalty is new")],
            );
        }
    }

    #[test]
    fn missing_columns_are_null_unless_required_or_tokenized() {
        let mut lenient = Schema {
            missing_columns: MissingColumns::Null,
            fields_match: FieldsMatch::Superset,
            ..schema()
        };
        assert_eq!(match_line(&lenient, &["country"]).unwrap().absent, [0, 2]);
        lenient.columns[0].required = true;
        lenient.columns[2].token = Some(TokenRule {
            kind: TokenKind::Mask,
            domain: None,
            keep: Keep::None,
            normalise: Vec::new(),
            tokenise_empty: false,
        });
        check(
            &lenient,
            &["country"],
            &[
                (
                    Code::MissingLabel,
                    Some("order_id"),
                    "line 1 misses order_id",
                ),
                (Code::MissingLabel, Some("amount"), "line 1 misses amount"),
            ],
        );
    }

    #[test]
    fn something_must_be_in_common() {
        let partial = Schema {
            missing_columns: MissingColumns::Null,
            extra_columns: ExtraColumns::Drop,
            fields_match: FieldsMatch::Partial,
            ..schema()
        };
        assert!(match_line(&partial, &["x", "amount"]).is_ok());
        check(
            &partial,
            &["x", "y"],
            &[(
                Code::MissingLabel,
                None,
                "line 1 has no label of the contract",
            )],
        );
    }

    #[test]
    fn another_delimiter_is_one_finding_with_a_hint() {
        for (header, hint) in [
            ("order_id;country;amount", "looks like ';'"),
            ("order_id\tcountry\tamount", "looks like TAB"),
            ("order_id|\"country\"|x", "looks like '|'"),
        ] {
            let faults = match_line(&schema(), &[header]).unwrap_err();
            assert_eq!(faults.len(), 1);
            assert_eq!(faults[0].code, Code::FormatError);
            assert_eq!(faults[0].hint.as_deref(), Some(hint));
            assert_eq!(faults[0].detail, "line 1 has 1 column, 3 expected");
        }
        let faults = match_line(&schema(), &["a;b;c"]).unwrap_err();
        assert_eq!(faults[0].code, Code::MissingLabel);
    }

    #[test]
    fn a_row_in_the_place_of_the_header_shows_as_shape() {
        let mut sensitive = schema();
        sensitive.columns[0].sensitive = true;
        let faults = match_line(&sensitive, &["jane@x.org", "DE", "12.50"]).unwrap_err();
        let shown = format!("{faults:?}");
        assert!(
            !shown.contains("jane") && !shown.contains("12.50"),
            "{shown}"
        );
        assert!(shown.contains("aaaa@a.aaa"), "{shown}");
    }

    #[test]
    fn distances_are_counted_up_to_what_is_far() {
        let d = |a: &str, b: &str| {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            distance(&chars(a), &chars(b), 3)
        };
        assert_eq!(d("amount", "amount"), 0);
        assert_eq!(d("ammount", "amount"), 1);
        assert_eq!(d("amuont", "amount"), 2);
        assert_eq!(d("", "ab"), 2);
        assert_eq!(d("total", "amount"), 3);
        assert_eq!(d("abcdef", "ghijkl"), 3);
        let (one, other): (Vec<char>, Vec<char>) =
            ("kitten".chars().collect(), "sitting".chars().collect());
        assert_eq!(distance(&one, &other, 7), 3);
        assert_eq!(distance(&one, &other, 2), 2);
    }

    #[test]
    fn what_has_become_of_columns_is_told() {
        let labels = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        let told = |schema: &Schema, text: &str| -> Vec<String> {
            let drift = drift(schema, &labels(text));
            let one = |one: &Drift| match &one.now {
                Some((now, _)) => format!("{} {} {now}", one.kind, one.column),
                None => format!("{} {}", one.kind, one.column),
            };
            drift.iter().map(one).collect()
        };
        let with = |names: &str| Schema {
            columns: labels(names)
                .iter()
                .map(|name| Column {
                    name: name.clone(),
                    ..Column::free(Kind::Text(TextFormat::Any))
                })
                .collect(),
            ..schema()
        };
        let orders = with("order_id,country,amount,note");
        assert_eq!(told(&orders, "order_id,country,amount,note"), [""; 0]);
        for (text, expect) in [
            ("order_id,country,amount,note,tier", &["added tier"][..]),
            ("order_id,country,amount", &["removed note"]),
            ("OrderID,country,amount,note", &["renamed order_id OrderID"]),
            ("country,order_id,amount,note", &["reordered order_id"]),
            (
                "order_id,land,amount,note",
                &["removed country", "added land"],
            ),
            (
                "order_id,country,note,4111111111111111,a@b.example",
                &[
                    "removed amount",
                    "added 9999999999999999",
                    "added a@a.aaaaaaa",
                ],
            ),
            // A row where labels should be.
            ("1,DE,2.50,hello", &[]),
            (
                "order_id",
                &["removed country", "removed amount", "removed note"],
            ),
        ] {
            assert_eq!(told(&orders, text), expect, "{text}");
        }
        // Of two that are as much like it, the one in its place.
        let two = with("id,mail1,x,y");
        assert_eq!(told(&two, "id,mail2,x,y,mail3")[0], "renamed mail1 mail2");
    }
}
