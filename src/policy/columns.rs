//! `[feed.schema]`: columns, their rules and their tokens.
//!
//! Column words follow Table Schema v2 (specs.frictionlessdata.io/table-schema) in snake case.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::contract::{
    Bound, Column, ExtraColumns, FieldsMatch, Formulas, Header, HeaderMatch, Keep, Kind,
    MissingColumns, Normalise, OnMatch, Scan, Schema, Sensitive, TextFormat, TokenKind, TokenRule,
};
use crate::policy::dates::{self, Grain};
use crate::policy::lists::{BadList, List};
use crate::policy::mistake::shown;
use crate::policy::names;
use crate::policy::rules::{self, RowRule, RuleFault};
use crate::policy::text::{Keys, Notes, Span, Table, human_size, nearest, note_repeats, word_of};
use crate::terms::ids::DomainName;
use crate::terms::{codes, limits};

pub(crate) const SCHEMA_KEYS: Keys = Keys {
    here: &[
        "columns",
        "fields_match",
        "header_match",
        "extra_columns",
        "missing_columns",
        "missing_values",
        "min_rows",
        "limits",
        "primary_key",
        "scan",
        "on_match",
        "formulas",
        "row_rule",
    ],
    later: &[],
};
pub(crate) const LIMIT_KEYS: Keys = Keys {
    here: &["field", "record", "columns"],
    later: &[],
};
pub(crate) const COLUMN_KEYS: Keys = Keys {
    here: &[
        "name",
        "type",
        "format",
        "formats",
        "required",
        "unique",
        "enum",
        "lookup",
        "pattern",
        "minimum",
        "maximum",
        "min_length",
        "max_length",
        "true_values",
        "false_values",
        "aliases",
        "sensitive",
        "token",
        "scan",
        "on_match",
        "start",
        "width",
    ],
    later: &[],
};
pub(crate) const LOOKUP_KEYS: Keys = Keys {
    here: &["list", "column"],
    later: &[],
};
pub(crate) const RULE_KEYS: Keys = Keys {
    here: &["name", "when", "assert"],
    later: &[],
};
pub(crate) const TOKEN_KEYS: Keys = Keys {
    here: &["kind", "domain", "keep", "normalise", "tokenise_empty"],
    later: &["to", "luhn"],
};

/// Token kinds of the language that this version does not have.
const TOKEN_KINDS_LATER: &[&str] = &[
    "siv",
    "ff1",
    "vault",
    "truncate",
    "generalise",
    "date-shift",
];

/// Names from other systems for the types of the language.
const OTHER_TYPE_NAMES: &[(&str, &str)] = &[
    ("bool", "boolean"),
    ("char", "string"),
    ("double", "decimal(12,2)"),
    ("float", "decimal(12,2)"),
    ("int", "integer"),
    ("long", "integer"),
    ("number", "decimal(12,2)"),
    ("numeric", "decimal(12,2)"),
    ("text", "string"),
    ("timestamp", "datetime"),
    ("varchar", "string"),
];

/// What reading a schema gives, also when it has mistakes.
pub(crate) struct Outline {
    /// The schema, when it has none.
    pub(crate) schema: Option<Schema>,
    /// Names of all columns, with their kind where it is known.
    pub(crate) names: Vec<(String, Option<Kind>)>,
    /// Where they stand in a line, as far as they say so.
    pub(crate) places: Vec<Place>,
}

/// Where a column says it stands in a line.
pub(crate) struct Place {
    /// Of its first character, from 1.
    pub(crate) start: Option<Spanned<u64>>,
    /// Characters.
    pub(crate) width: Option<Spanned<u64>>,
    /// The column.
    pub(crate) column: Span,
}

/// One column as far as it could be read.
struct Draft {
    name: Option<Spanned<String>>,
    aliases: Vec<Spanned<String>>,
    kind: Option<Kind>,
    column: Column,
    values: Vec<Spanned<String>>,
    token: Option<Span>,
    place: Place,
}

/// Reads `[feed.schema]` of a feed of rows.
pub(crate) fn schema(table: &Table<'_>, header: Header, notes: &mut Notes<'_>) -> Outline {
    let before = notes.errors();
    let fields_match = table.word("fields_match", FIELDS_MATCH, &[], notes);
    let header_match = table
        .word("header_match", HEADER_MATCH, &[], notes)
        .map_or(HeaderMatch::Exact, Spanned::into_inner);
    let extra_columns = table.word("extra_columns", EXTRA_COLUMNS, &[], notes);
    let missing_columns = table.word("missing_columns", MISSING_COLUMNS, &[], notes);
    let missing_values = missing_values(table, notes);
    let rows_min = table.count("min_rows", 0..=u64::MAX, notes);
    let general = scan(table, notes);
    let formulas = table.word("formulas", FORMULAS, &[], notes);
    let mut drafts = columns(table, notes);
    for draft in &mut drafts {
        let column = &mut draft.column;
        let is_free = draft.kind == Some(Kind::Text(TextFormat::Any)) && !column.sensitive;
        if is_free && column.scan.is_none() {
            column.scan.clone_from(&general);
        }
    }
    let limits = limits_of(table, drafts.len(), notes);
    note_same_names(&drafts, header_match, notes);
    note_values_that_are_missing(&drafts, &missing_values, notes);
    if extra_columns.as_ref().map(|word| *word.get_ref()) == Some(ExtraColumns::Keep) {
        note_leaks(&drafts, notes);
    }
    if header == Header::Absent {
        note_label_rules(table, &drafts, notes);
    }
    let primary_key = primary_key(table, &drafts, notes);
    let names: Vec<(String, Option<Kind>)> = drafts
        .iter()
        .map(|draft| {
            let name = draft.name.as_ref();
            let name = name.map_or_else(String::new, |name| name.get_ref().clone());
            (name, draft.kind.clone())
        })
        .collect();
    let rules = row_rules(table, &names, notes);
    let mut places = Vec::new();
    let mut columns = Vec::new();
    for draft in drafts {
        places.push(draft.place);
        columns.push(draft.column);
    }
    let schema = (notes.errors() == before).then(|| Schema {
        columns,
        fields_match: fields_match.map_or(FieldsMatch::Equal, Spanned::into_inner),
        header_match,
        extra_columns: extra_columns.map_or(ExtraColumns::Reject, Spanned::into_inner),
        missing_columns: missing_columns.map_or(MissingColumns::Reject, Spanned::into_inner),
        missing_values,
        rows_min: rows_min.map_or(0, Spanned::into_inner),
        primary_key,
        field_bytes_max: limits.field,
        record_bytes_max: limits.record,
        columns_max: limits.columns,
        scan: general,
        formulas: formulas.map_or(Formulas::Allow, Spanned::into_inner),
        rules,
    });
    Outline {
        schema,
        names,
        places,
    }
}

/// Notes the token columns of a feed whose files are never opened.
pub(crate) fn note_tokens_of_opaque(table: &Table<'_>, notes: &mut Notes<'_>) {
    let columns = table.value("columns").and_then(|v| v.get_ref().as_array());
    let mut found = 0_usize;
    for column in columns.into_iter().flatten() {
        let token = column
            .get_ref()
            .as_table()
            .and_then(|c| c.get_key_value("token"));
        if let Some((key, _)) = token {
            found += 1;
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &key.span(),
                    "a token column in a feed of opaque files: nothing would be tokenized",
                )
                .under("give the feed a format that is read, as in { type = \"csv\" }");
        }
    }
    if found == 0 {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &table.span(),
                "opaque files are not opened, so a schema would never be looked at",
            )
            .under("remove it, or give the feed another format");
    }
}

const FIELDS_MATCH: &[(&str, FieldsMatch)] = &[
    ("equal", FieldsMatch::Equal),
    ("exact", FieldsMatch::Exact),
    ("subset", FieldsMatch::Subset),
    ("superset", FieldsMatch::Superset),
    ("partial", FieldsMatch::Partial),
];
const HEADER_MATCH: &[(&str, HeaderMatch)] = &[
    ("exact", HeaderMatch::Exact),
    ("case", HeaderMatch::Case),
    ("trim", HeaderMatch::Trim),
    ("trim-case", HeaderMatch::TrimCase),
];
const EXTRA_COLUMNS: &[(&str, ExtraColumns)] = &[
    ("reject", ExtraColumns::Reject),
    ("hold", ExtraColumns::Hold),
    ("drop", ExtraColumns::Drop),
    ("keep", ExtraColumns::Keep),
];
const SCANS: &[(&str, Sensitive)] = &[
    ("pan", Sensitive::Pan),
    ("iban", Sensitive::Iban),
    ("email", Sensitive::Email),
    ("phone", Sensitive::Phone),
    ("national-id", Sensitive::NationalId),
];
const ON_MATCH: &[(&str, OnMatch)] = &[
    ("reject", OnMatch::Reject),
    ("redact", OnMatch::Redact),
    ("warn", OnMatch::Warn),
];
const FORMULAS: &[(&str, Formulas)] = &[
    ("allow", Formulas::Allow),
    ("warn", Formulas::Warn),
    ("escape", Formulas::Escape),
    ("reject", Formulas::Reject),
];
const MISSING_COLUMNS: &[(&str, MissingColumns)] = &[
    ("reject", MissingColumns::Reject),
    ("hold", MissingColumns::Hold),
    ("null", MissingColumns::Null),
];

/// `scan` and `on_match` of a schema or a column.
fn scan(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<Scan> {
    let kinds = table.words("scan", SCANS, &[], notes);
    let on_match = table.word("on_match", ON_MATCH, &[], notes);
    let Some(kinds) = kinds else {
        if let Some(span) = table
            .key_span("on_match")
            .filter(|_| table.value("scan").is_none())
        {
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &span,
                    "`on_match` without `scan` says nothing",
                )
                .under("add scan = [\"pan\", \"iban\"], or remove it");
        }
        return None;
    };
    Some(Scan {
        kinds: kinds.into_inner(),
        on_match: on_match.map_or(OnMatch::Reject, Spanned::into_inner),
    })
}

// === the schema's own rules ===

struct Limits {
    field: usize,
    record: usize,
    columns: usize,
}

fn limits_of(table: &Table<'_>, columns: usize, notes: &mut Notes<'_>) -> Limits {
    let mut found = Limits {
        field: limits::FIELD_BYTES_MAX,
        record: limits::RECORD_BYTES_MAX,
        columns: limits::COLUMNS_MAX.max(columns),
    };
    let Some(limits) = table.table("limits", "limits of the schema", &LIMIT_KEYS, notes) else {
        return found;
    };
    let size = |number: Option<Spanned<u64>>, default: usize| {
        number
            .and_then(|n| usize::try_from(n.into_inner()).ok())
            .unwrap_or(default)
    };
    let field = limits.size("field", 1..=limits::FIELD_BYTES_CEILING, notes);
    let record = limits.size("record", 1..=limits::RECORD_BYTES_CEILING, notes);
    let most = limits.count("columns", 1..=limits::COLUMNS_CEILING, notes);
    let field_span = field.as_ref().map(Spanned::span);
    found.field = size(field, found.field);
    found.record = size(record, found.record);
    if found.field > found.record {
        let shown = |bytes: usize| human_size(u64::try_from(bytes).unwrap_or(u64::MAX));
        notes
            .error(
                codes::POLICY_BOUNDS,
                &field_span.unwrap_or_else(|| limits.span()),
                format!(
                    "a cell may have {}, but a whole record only {}",
                    shown(found.field),
                    shown(found.record)
                ),
            )
            .under("at most the record's limit");
    }
    if let Some(most) = &most
        && usize::try_from(*most.get_ref()).is_ok_and(|most| most < columns)
    {
        notes
            .error(
                codes::POLICY_BOUNDS,
                &most.span(),
                format!("the schema has {columns} columns itself"),
            )
            .under(format!("at least {columns}"));
    }
    found.columns = size(most, found.columns);
    found
}

fn missing_values(table: &Table<'_>, notes: &mut Notes<'_>) -> Vec<String> {
    match table.texts("missing_values", notes) {
        Some(texts) => {
            note_repeats("missing_values", texts.get_ref(), notes);
            texts
                .get_ref()
                .iter()
                .map(|text| (*text.get_ref()).to_owned())
                .collect()
        }
        None => vec![String::new()],
    }
}

fn columns(table: &Table<'_>, notes: &mut Notes<'_>) -> Vec<Draft> {
    let example = "columns = [{ name = \"order_id\", type = \"string\" }]";
    if table.value("columns").is_none() {
        notes.missing(table, "columns", example);
    }
    let before = notes.errors();
    let tables = table.tables("columns", example, notes);
    if let Some(value) = table.value("columns").filter(|_| tables.is_empty())
        && notes.errors() == before
    {
        notes
            .bad_value(&value.span(), "`columns` lists no column")
            .under("at least one");
    }
    tables
        .into_iter()
        .enumerate()
        .map(|(index, (map, span))| column(index, map, span, notes))
        .collect()
}

fn note_same_names(drafts: &[Draft], header_match: HeaderMatch, notes: &mut Notes<'_>) {
    let compared = |name: &str| match header_match {
        HeaderMatch::Exact => name.to_owned(),
        HeaderMatch::Case => name.to_lowercase(),
        HeaderMatch::Trim => name.trim().to_owned(),
        HeaderMatch::TrimCase => name.trim().to_lowercase(),
    };
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for name in drafts
        .iter()
        .flat_map(|draft| draft.name.iter().chain(&draft.aliases))
    {
        let text = name.get_ref();
        let Some(first) = seen.insert(compared(text), text.clone()) else {
            continue;
        };
        let message = if first == *text {
            format!("a label \"{}\" stands in the schema already", shown(text))
        } else {
            format!(
                "\"{}\" and \"{}\" are the same label under this header_match",
                shown(&first),
                shown(text)
            )
        };
        notes
            .error(codes::POLICY_DUPLICATE, &name.span(), message)
            .under("names and aliases must all be different");
    }
}

fn note_values_that_are_missing(drafts: &[Draft], missing: &[String], notes: &mut Notes<'_>) {
    for value in drafts.iter().flat_map(|draft| &draft.values) {
        if missing.contains(value.get_ref()) {
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &value.span(),
                    format!(
                        "\"{}\" means \"no value\" (missing_values), so it is never compared",
                        shown(value.get_ref())
                    ),
                )
                .under("remove it; required = false allows it");
        }
    }
}

/// A tokenized column that may be missing leaks under another label when labels no column has
/// are kept.
fn note_leaks(drafts: &[Draft], notes: &mut Notes<'_>) {
    for draft in drafts {
        if let Some(span) = draft.token.as_ref().filter(|_| !draft.column.required) {
            let name = draft.name.as_ref().map_or("", |name| name.get_ref());
            notes
                .error(
                    codes::POLICY_TOKEN_LEAK,
                    span,
                    format!(
                        "if a sender renames \"{}\", extra_columns = \"keep\" would store it in clear",
                        shown(name)
                    ),
                )
                .under("add required = true, or use extra_columns = \"reject\" or \"drop\"");
        }
    }
}

/// Rules about labels mean nothing where there are none.
fn note_label_rules(table: &Table<'_>, drafts: &[Draft], notes: &mut Notes<'_>) {
    for key in [
        "fields_match",
        "header_match",
        "extra_columns",
        "missing_columns",
    ] {
        if let Some(span) = table.key_span(key) {
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &span,
                    format!("header = false, so `{key}` has no labels to judge"),
                )
                .under("remove it: columns are taken in the order of the schema");
        }
    }
    for alias in drafts.iter().filter_map(|draft| draft.aliases.first()) {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &alias.span(),
                "header = false, so aliases are never read",
            )
            .under("remove them");
    }
}

fn primary_key(table: &Table<'_>, drafts: &[Draft], notes: &mut Notes<'_>) -> Vec<usize> {
    let Some(names) = table.texts("primary_key", notes) else {
        return Vec::new();
    };
    if names.get_ref().is_empty() {
        notes
            .bad_value(&names.span(), "`primary_key` names no column")
            .under("remove it, or name a column");
    }
    note_repeats("primary_key", names.get_ref(), notes);
    let known: Vec<&str> = drafts
        .iter()
        .map(|draft| {
            draft
                .name
                .as_ref()
                .map_or("", |name| name.get_ref().as_str())
        })
        .collect();
    let mut key = Vec::new();
    for name in names.get_ref() {
        match known.iter().position(|known| known == name.get_ref()) {
            Some(index) => key.push(index),
            None if known.is_empty() => {}
            None => note_unknown_column("primary_key", name, &known, notes),
        }
    }
    key
}

/// Notes a name that is no column's.
pub(crate) fn note_unknown_column(
    key: &str,
    name: &Spanned<&str>,
    known: &[&str],
    notes: &mut Notes<'_>,
) {
    let near = nearest(name.get_ref(), known.iter().copied());
    notes
        .error(
            codes::POLICY_UNKNOWN_COLUMN,
            &name.span(),
            format!(
                "`{key}` names \"{}\", which is no column",
                shown(name.get_ref())
            ),
        )
        .under("no such column")
        .perhaps(near)
        .advise(format!("columns: {}", shown_list(known)));
}

/// Names for a line of advice, cut at twelve.
fn shown_list(names: &[&str]) -> String {
    let mut out: Vec<String> = names.iter().take(12).map(|name| shown(name)).collect();
    if names.len() > 12 {
        out.push("...".to_owned());
    }
    out.join(", ")
}

// === rules over several columns ===

fn row_rules(
    table: &Table<'_>,
    names: &[(String, Option<Kind>)],
    notes: &mut Notes<'_>,
) -> Vec<RowRule> {
    let tables = table.tables("row_rule", "[[feed.schema.row_rule]]", notes);
    let mut rules: Vec<RowRule> = Vec::new();
    for (index, (map, span)) in tables.into_iter().enumerate() {
        let place = format!("row_rule {}", index + 1);
        let table = Table::open(map, span, place, &RULE_KEYS, notes);
        let name = table.need_text("name", "name = \"swiss-limit\"", notes);
        let assert = table.need_text("assert", "assert = 'amount < 100000'", notes);
        let when = table.text("when", notes);
        if let Some(name) = &name
            && rules.iter().any(|rule| rule.name == *name.get_ref())
        {
            notes
                .error(
                    codes::POLICY_DUPLICATE,
                    &name.span(),
                    "a rule of this name is there already",
                )
                .under("give it another one");
        }
        let mut columns = Vec::new();
        let mut compile = |text: &Spanned<&str>, notes: &mut Notes<'_>| {
            rules::compile(text.get_ref(), names, &mut columns)
                .map_err(|fault| note_rule(text, fault, names, notes))
                .ok()
        };
        let condition = when.as_ref().map(|text| compile(text, notes));
        let asserted = assert.as_ref().and_then(|text| compile(text, notes));
        let (Some(name), Some(assert), Some(asserted)) = (name, assert, asserted) else {
            continue;
        };
        let text = match &when {
            Some(when) => format!("{} when {}", assert.get_ref(), when.get_ref()),
            None => (*assert.get_ref()).to_owned(),
        };
        rules.push(RowRule {
            name: (*name.get_ref()).to_owned(),
            text,
            when: condition.flatten(),
            assert: asserted,
            columns,
        });
    }
    rules
}

fn note_rule(
    text: &Spanned<&str>,
    fault: RuleFault,
    names: &[(String, Option<Kind>)],
    notes: &mut Notes<'_>,
) {
    let span = notes.inside(text, fault.at);
    let code = match fault.unknown {
        Some(_) => codes::POLICY_UNKNOWN_COLUMN,
        None => codes::POLICY_BAD_RULE,
    };
    let known = names.iter().map(|(name, _)| name.as_str());
    let near = fault
        .unknown
        .as_deref()
        .and_then(|name| nearest(name, known));
    notes
        .error(code, &span, fault.why)
        .under(fault.remedy)
        .perhaps(near);
}

// === one column ===

fn column(index: usize, map: &DeTable<'_>, span: Span, notes: &mut Notes<'_>) -> Draft {
    let named = map.get("name").and_then(|name| name.get_ref().as_str());
    let place = named.map_or_else(
        || format!("column {}", index + 1),
        |name| format!("column \"{}\"", shown(name)),
    );
    let table = Table::open(map, span, place, &COLUMN_KEYS, notes);
    let name = table.need_text("name", "name = \"order_id\"", notes);
    let aliases = table
        .texts("aliases", notes)
        .map_or_else(Vec::new, Spanned::into_inner);
    for label in name.iter().chain(&aliases) {
        check_label(label, notes);
    }
    let kind = kind(&table, notes);
    let required = flag(&table, "required", notes);
    let unique = flag(&table, "unique", notes);
    let (pattern, pattern_text) = match table.text("pattern", notes) {
        Some(text) => (
            names::whole("pattern", &text, notes),
            Some((*text.get_ref()).to_owned()),
        ),
        None => (None, None),
    };
    let (minimum, maximum) = bounds(&table, kind.as_ref(), notes);
    let (length_min, length_max) = lengths(&table, kind.as_ref(), notes);
    let values = values(&table, kind.as_ref(), notes);
    let lookup = lookup(&table, notes);
    let token = token(&table, kind.as_ref(), notes);
    let token_span = table.key_span("token");
    let sensitive = table.flag("sensitive", notes);
    if let Some(no) = sensitive
        .as_ref()
        .filter(|flag| !flag.get_ref() && token_span.is_some())
    {
        notes
            .error(
                codes::POLICY_TOKEN,
                &no.span(),
                "a tokenized column is always sensitive",
            )
            .under("remove it");
    }
    let scanned = scan(&table, notes);
    if let (Some(_), Some(kind), Some(span)) = (&scanned, &kind, table.key_span("scan"))
        && !matches!(kind, Kind::Text(_))
    {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &span,
                "only text can hide sensitive values",
            )
            .under("remove it, or use type = \"string\"");
    }
    if let (Some(_), Some(span)) = (&token, table.key_span("scan")) {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &span,
                "a tokenized column is not scanned",
            )
            .under("remove it");
    }
    let column = Column {
        name: name
            .as_ref()
            .map_or_else(String::new, |name| (*name.get_ref()).to_owned()),
        aliases: aliases
            .iter()
            .map(|alias| (*alias.get_ref()).to_owned())
            .collect(),
        kind: kind.clone().unwrap_or(Kind::Text(TextFormat::Any)),
        required,
        unique,
        pattern,
        pattern_text,
        values: values.iter().map(|value| value.get_ref().clone()).collect(),
        values_set: values.iter().map(|value| value.get_ref().clone()).collect(),
        lookup,
        minimum,
        maximum,
        length_min,
        length_max,
        sensitive: token.is_some() || sensitive.is_some_and(Spanned::into_inner),
        token,
        scan: scanned,
    };
    let place = place_of(&table, notes);
    note_impossible_values(&column, &values, notes);
    warn_small_domain(&column, token_span.as_ref(), notes);
    Draft {
        name: name.as_ref().map(owned),
        aliases: aliases.iter().map(owned).collect(),
        kind,
        column,
        values,
        token: token_span,
        place,
    }
}

fn place_of(table: &Table<'_>, notes: &mut Notes<'_>) -> Place {
    let most = limits::RECORD_BYTES_CEILING;
    Place {
        start: table.count("start", 1..=most, notes),
        width: table.count("width", 1..=most, notes),
        column: table.span(),
    }
}

fn owned(text: &Spanned<&str>) -> Spanned<String> {
    Spanned::new(text.span(), (*text.get_ref()).to_owned())
}

fn flag(table: &Table<'_>, key: &str, notes: &mut Notes<'_>) -> bool {
    table.flag(key, notes).is_some_and(Spanned::into_inner)
}

fn check_label(label: &Spanned<&str>, notes: &mut Notes<'_>) {
    let text = *label.get_ref();
    let why = if text.trim().is_empty() {
        "a label must not be blank"
    } else if text.chars().any(char::is_control) {
        "a label must not hold control characters"
    } else if text.len() > limits::NAME_BYTES_MAX {
        "a label may have 255 bytes at most"
    } else {
        return;
    };
    notes.bad_value(&label.span(), why);
}

fn kind(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<Kind> {
    let text = table.need_text("type", "type = \"string\"", notes)?;
    let word = *text.get_ref();
    let kind = match word {
        "string" => Kind::Text(text_format(table, notes)?),
        "integer" => Kind::Integer,
        "boolean" => boolean(table, notes)?,
        "date" => Kind::Date {
            formats: formats(table, Grain::Day, notes)?,
        },
        "datetime" => Kind::DateTime {
            formats: formats(table, Grain::Moment, notes)?,
        },
        decimal if decimal.starts_with("decimal") => decimal_kind(&text, notes)?,
        unknown => {
            note_unknown_type(&text, unknown, notes);
            return None;
        }
    };
    note_keys_of_other_types(table, &kind, notes);
    Some(kind)
}

fn note_unknown_type(text: &Spanned<&str>, unknown: &str, notes: &mut Notes<'_>) {
    let known = [
        "string",
        "integer",
        "decimal(12,2)",
        "boolean",
        "date",
        "datetime",
    ];
    let lower = unknown.to_ascii_lowercase();
    let near = OTHER_TYPE_NAMES
        .iter()
        .find(|(other, _)| *other == lower)
        .map(|(_, ours)| *ours)
        .or_else(|| nearest(unknown, known.into_iter()));
    notes
        .error(
            codes::POLICY_UNKNOWN_WORD,
            &text.span(),
            format!("`type` knows no \"{}\"", shown(unknown)),
        )
        .under(format!("one of {}", known.join(", ")))
        .perhaps(near);
}

fn decimal_kind(text: &Spanned<&str>, notes: &mut Notes<'_>) -> Option<Kind> {
    let digits = text
        .get_ref()
        .strip_prefix("decimal(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inside| inside.split_once(','))
        .and_then(|(p, s)| Some((p.trim().parse().ok()?, s.trim().parse().ok()?)));
    match digits {
        Some((precision @ 1..=38, scale)) if scale <= precision => {
            Some(Kind::Decimal { precision, scale })
        }
        Some(_) | None => {
            notes
                .bad_value(
                    &text.span(),
                    format!("\"{}\" is not a decimal type", shown(text.get_ref())),
                )
                .under("decimal(P,S): P digits in all, 1 to 38, S of them after the point");
            None
        }
    }
}

fn text_format(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<TextFormat> {
    const WORDS: &[(&str, TextFormat)] = &[
        ("any", TextFormat::Any),
        ("email", TextFormat::Email),
        ("iban", TextFormat::Iban),
        ("pan", TextFormat::Pan),
        ("uuid", TextFormat::Uuid),
    ];
    if table.value("format").is_none() {
        return Some(TextFormat::Any);
    }
    table
        .word("format", WORDS, &[], notes)
        .map(Spanned::into_inner)
}

fn boolean(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<Kind> {
    let mut words = |key: &str, default: &str| -> Option<Vec<Spanned<String>>> {
        if table.value(key).is_none() {
            return Some(vec![Spanned::new(table.span(), default.to_owned())]);
        }
        let texts = table.texts(key, notes)?;
        if texts.get_ref().is_empty() {
            notes.bad_value(&texts.span(), format!("`{key}` lists no word"));
        }
        note_repeats(key, texts.get_ref(), notes);
        Some(texts.get_ref().iter().map(owned).collect())
    };
    let (yes, no) = (words("true_values", "true"), words("false_values", "false"));
    let (yes, no) = (yes?, no?);
    if let Some(both) = no
        .iter()
        .find(|word| yes.iter().any(|y| y.get_ref() == word.get_ref()))
    {
        notes
            .error(
                codes::POLICY_DUPLICATE,
                &both.span(),
                format!("\"{}\" means both true and false", shown(both.get_ref())),
            )
            .under("keep it in one list");
    }
    let plain = |words: Vec<Spanned<String>>| words.into_iter().map(Spanned::into_inner).collect();
    Some(Kind::Boolean {
        yes: plain(yes),
        no: plain(no),
    })
}

fn formats(table: &Table<'_>, grain: Grain, notes: &mut Notes<'_>) -> Option<Vec<String>> {
    if table.value("formats").is_none() {
        return Some(vec![grain.default_format().to_owned()]);
    }
    let formats = table.texts("formats", notes)?;
    if formats.get_ref().is_empty() {
        notes
            .bad_value(&formats.span(), "`formats` lists no format")
            .under(format!("as in [\"{}\"]", grain.default_format()));
        return None;
    }
    note_repeats("formats", formats.get_ref(), notes);
    dates::check(formats.get_ref(), grain, notes);
    Some(
        formats
            .get_ref()
            .iter()
            .map(|f| (*f.get_ref()).to_owned())
            .collect(),
    )
}

/// Rules that a column of this type would never look at.
fn note_keys_of_other_types(table: &Table<'_>, kind: &Kind, notes: &mut Notes<'_>) {
    let (name, foreign): (&str, &[&str]) = match kind {
        Kind::Text(_) => ("string", &["formats", "true_values", "false_values"]),
        Kind::Integer => (
            "integer",
            &["format", "formats", "true_values", "false_values"],
        ),
        Kind::Decimal { .. } => (
            "decimal",
            &[
                "format",
                "formats",
                "true_values",
                "false_values",
                "enum",
                "lookup",
            ],
        ),
        Kind::Boolean { .. } => ("boolean", &["format", "formats", "enum", "lookup"]),
        Kind::Date { .. } => (
            "date",
            &["format", "true_values", "false_values", "enum", "lookup"],
        ),
        Kind::DateTime { .. } => (
            "datetime",
            &["format", "true_values", "false_values", "enum", "lookup"],
        ),
    };
    for key in foreign {
        if let Some(span) = table.key_span(key) {
            let mistake = notes
                .error(
                    codes::POLICY_CONFLICT,
                    &span,
                    format!("`{key}` says nothing about a {name} column"),
                )
                .under("remove it");
            match (*key, kind) {
                ("format", Kind::Date { .. } | Kind::DateTime { .. }) => {
                    mistake.under("write formats = [\"...\"]");
                }
                ("enum" | "lookup", _) => {
                    mistake.under("use pattern, or minimum and maximum");
                }
                _ => {}
            }
        }
    }
}

// === bounds, lengths, values ===

fn bounds(
    table: &Table<'_>,
    kind: Option<&Kind>,
    notes: &mut Notes<'_>,
) -> (Option<Bound>, Option<Bound>) {
    let minimum = bound(table, "minimum", kind, notes);
    let maximum = bound(table, "maximum", kind, notes);
    if let (Some(low), Some(high)) = (&minimum, &maximum)
        && low.value > high.value
        && let Some(value) = table.value("maximum")
    {
        notes
            .error(
                codes::POLICY_BOUNDS,
                &value.span(),
                format!(
                    "maximum {} is below minimum {}",
                    shown(&high.text),
                    shown(&low.text)
                ),
            )
            .under("nothing could ever fit");
    }
    (minimum, maximum)
}

fn bound(
    table: &Table<'_>,
    key: &str,
    kind: Option<&Kind>,
    notes: &mut Notes<'_>,
) -> Option<Bound> {
    let value = table.value(key)?;
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Datetime(at) => at.to_string(),
        DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => {
            table.wrong_type(key, value, "a number, a date or a string", notes);
            return None;
        }
    };
    let (name, parsed, example) = match kind? {
        Kind::Integer => ("integer", integer(&text), "as in \"0\""),
        Kind::Decimal { precision, scale } => match decimal(&text, *precision, *scale) {
            Ok(number) => ("decimal", Some(number), ""),
            Err(why) => {
                note_bound(
                    key,
                    &text,
                    &format!("a decimal({precision},{scale})"),
                    &why,
                    value,
                    notes,
                );
                return None;
            }
        },
        Kind::Date { .. } => (
            "date",
            dates::bound(&text, Grain::Day),
            "as in \"1900-01-31\"",
        ),
        Kind::DateTime { .. } => (
            "datetime",
            dates::bound(&text, Grain::Moment),
            "as in \"2026-01-31T00:00:00Z\"",
        ),
        Kind::Text(_) => (
            "string",
            None,
            "text has min_length, max_length and pattern",
        ),
        Kind::Boolean { .. } => ("boolean", None, "remove it"),
    };
    if let Some(value) = parsed {
        Some(Bound { text, value })
    } else {
        note_bound(
            key,
            &text,
            &format!("a bound of a {name} column"),
            example,
            value,
            notes,
        );
        None
    }
}

fn note_bound(
    key: &str,
    text: &str,
    expected: &str,
    remedy: &str,
    value: &Spanned<DeValue<'_>>,
    notes: &mut Notes<'_>,
) {
    notes
        .error(
            codes::POLICY_BOUNDS,
            &value.span(),
            format!("`{key}` = {} is not {expected}", shown(text)),
        )
        .under(remedy);
}

fn integer(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The number times ten to the power of `scale`, exactly.
fn decimal(text: &str, precision: u8, scale: u8) -> Result<i128, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let bare_point = digits.contains('.') && part.is_empty();
    if whole.is_empty() || bare_point || !is_number(whole) || !is_number(part) {
        return Err("digits and a point, as in \"1234.50\"".to_owned());
    }
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    if part.len() > scale {
        return Err(format!("it has more than {scale} digits after the point"));
    }
    if whole.trim_start_matches('0').len() > precision - scale {
        return Err(format!(
            "it has more than {} digits before the point",
            precision - scale
        ));
    }
    format!("{whole}{part:0<scale$}")
        .parse::<i128>()
        .map(|number| sign * number)
        .map_err(|_| "too large a number".to_owned())
}

fn lengths(
    table: &Table<'_>,
    kind: Option<&Kind>,
    notes: &mut Notes<'_>,
) -> (Option<usize>, Option<usize>) {
    let range = 0..=limits::FIELD_BYTES_CEILING;
    let low = table.count("min_length", range.clone(), notes);
    let high = table.count("max_length", range, notes);
    match kind {
        None | Some(Kind::Text(_)) => {}
        Some(
            Kind::Boolean { .. }
            | Kind::Date { .. }
            | Kind::DateTime { .. }
            | Kind::Decimal { .. }
            | Kind::Integer,
        ) => {
            for key in ["min_length", "max_length"] {
                if let Some(span) = table.key_span(key) {
                    notes
                        .error(
                            codes::POLICY_BOUNDS,
                            &span,
                            format!("`{key}` counts the characters of string columns only"),
                        )
                        .under("use minimum and maximum");
                }
            }
        }
    }
    if let (Some(low), Some(high)) = (&low, &high)
        && low.get_ref() > high.get_ref()
    {
        notes
            .error(
                codes::POLICY_BOUNDS,
                &high.span(),
                format!(
                    "max_length {} is below min_length {}",
                    high.get_ref(),
                    low.get_ref()
                ),
            )
            .under("nothing could ever fit");
    }
    let small = |n: Option<Spanned<u64>>| n.and_then(|n| usize::try_from(n.into_inner()).ok());
    (small(low), small(high))
}

fn values(table: &Table<'_>, kind: Option<&Kind>, notes: &mut Notes<'_>) -> Vec<Spanned<String>> {
    let Some(texts) = table.texts("enum", notes) else {
        return Vec::new();
    };
    if texts.get_ref().is_empty() {
        notes
            .bad_value(&texts.span(), "`enum` allows nothing")
            .under("remove it, or list the values");
    }
    note_repeats("enum", texts.get_ref(), notes);
    if kind == Some(&Kind::Integer) {
        for text in texts.get_ref() {
            let canonical =
                integer(text.get_ref()).is_some_and(|n| n.to_string() == **text.get_ref());
            if !canonical {
                notes
                    .error(
                        codes::POLICY_CONFLICT,
                        &text.span(),
                        format!("\"{}\" is not an integer", shown(text.get_ref())),
                    )
                    .under("digits without leading zeros, as in \"10\"");
            }
        }
    }
    texts.get_ref().iter().map(owned).collect()
}

/// `lookup = "countries.txt"` or `lookup = { list = "skus.csv", column = "sku" }`.
fn lookup(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<Arc<List>> {
    let value = table.value("lookup")?;
    let (name, column) = if value.get_ref().as_table().is_some() {
        let place = format!("`lookup` of {}", table.place());
        let lookup = table.table("lookup", place, &LOOKUP_KEYS, notes)?;
        let name = lookup.need_text("list", "list = \"skus.csv\"", notes)?;
        (name, lookup.text("column", notes))
    } else {
        (table.text("lookup", notes)?, None)
    };
    let ending = Path::new(name.get_ref()).extension();
    let is_table = ending.is_some_and(|ending| ending == "csv");
    match (&column, is_table) {
        (None, true) => {
            notes
                .bad_value(&name.span(), "a table needs to be told which column")
                .under(format!(
                    "write lookup = {{ list = \"{}\", column = \"...\" }}",
                    shown(name.get_ref())
                ));
            return None;
        }
        (Some(column), false) => {
            notes
                .bad_value(&column.span(), "only a table (*.csv) has columns")
                .under("remove it");
            return None;
        }
        (Some(_), true) | (None, false) => {}
    }
    let label = column.as_ref().map(|column| *column.get_ref());
    let bad = match notes.lists().find(name.get_ref(), label) {
        Ok(list) => return Some(list),
        Err(bad) => bad,
    };
    let list = shown(name.get_ref());
    match bad {
        BadList::Absent(names) => {
            let near = nearest(name.get_ref(), names.iter().map(String::as_str));
            notes
                .error(
                    codes::POLICY_LIST,
                    &name.span(),
                    format!("there is no list \"{list}\""),
                )
                .under("lists are the *.txt and *.csv files of policies/lists")
                .perhaps(near);
        }
        BadList::NoColumn(labels) => {
            let (Some(column), labels) = (column, labels) else {
                return None;
            };
            let near = nearest(column.get_ref(), labels.iter().map(String::as_str));
            notes
                .error(
                    codes::POLICY_LIST,
                    &column.span(),
                    format!("{list} has no column \"{}\"", shown(column.get_ref())),
                )
                .perhaps(near);
        }
        BadList::Broken(why) => {
            notes.error(
                codes::POLICY_LIST,
                &name.span(),
                format!("the list \"{list}\" cannot be used: {why}"),
            );
        }
    }
    None
}

/// Values of `enum` that another rule of the column refuses.
fn note_impossible_values(column: &Column, values: &[Spanned<String>], notes: &mut Notes<'_>) {
    for value in values {
        let text = value.get_ref();
        let length = text.chars().count();
        let number = integer(text);
        let rule = if column.pattern.as_ref().is_some_and(|p| !p.is_match(text)) {
            "pattern"
        } else if column.length_min.is_some_and(|least| length < least) {
            "min_length"
        } else if column.length_max.is_some_and(|most| length > most) {
            "max_length"
        } else if column
            .minimum
            .as_ref()
            .zip(number)
            .is_some_and(|(b, n)| n < b.value)
        {
            "minimum"
        } else if column
            .maximum
            .as_ref()
            .zip(number)
            .is_some_and(|(b, n)| n > b.value)
        {
            "maximum"
        } else {
            continue;
        };
        notes
            .error(
                codes::POLICY_CONFLICT,
                &value.span(),
                format!("`enum` allows \"{}\", but `{rule}` refuses it", shown(text)),
            )
            .under("no cell can ever have this value");
    }
}

// === tokens ===

fn token(table: &Table<'_>, kind: Option<&Kind>, notes: &mut Notes<'_>) -> Option<TokenRule> {
    const KINDS: &[(&str, TokenKind)] = &[
        ("cmac", TokenKind::Cmac),
        ("hmac", TokenKind::Hmac),
        ("mask", TokenKind::Mask),
        ("redact", TokenKind::Redact),
        ("drop", TokenKind::Drop),
    ];
    let before = notes.errors();
    let place = format!("token of {}", table.place());
    let rule = table.table("token", place, &TOKEN_KEYS, notes)?;
    let construction = rule.word("kind", KINDS, TOKEN_KINDS_LATER, notes);
    let construction = match (&construction, rule.value("kind")) {
        (Some(word), _) => *word.get_ref(),
        (None, None) => TokenKind::Cmac,
        (None, Some(_)) => return None,
    };
    let keyed = matches!(construction, TokenKind::Cmac | TokenKind::Hmac);
    let domain = domain(&rule, keyed, notes);
    let keep = keep(&rule, construction, kind, notes);
    let normalise = normalise(&rule, notes);
    let tokenise_empty = flag(&rule, "tokenise_empty", notes);
    if !keyed {
        for key in ["domain", "normalise", "tokenise_empty"] {
            if let Some(span) = rule.key_span(key) {
                notes
                    .error(
                        codes::POLICY_TOKEN,
                        &span,
                        format!("`{key}` belongs to cmac and hmac; this kind uses no key"),
                    )
                    .under("remove it, or use kind = \"cmac\"");
            }
        }
    }
    (notes.errors() == before).then_some(TokenRule {
        kind: construction,
        domain,
        keep,
        normalise,
        tokenise_empty,
    })
}

fn domain(rule: &Table<'_>, keyed: bool, notes: &mut Notes<'_>) -> Option<DomainName> {
    if keyed && rule.value("domain").is_none() {
        notes.missing(
            rule,
            "domain",
            "domain = \"email\": equal values of one domain get equal tokens",
        );
    }
    let text = rule.text("domain", notes)?;
    DomainName::parse(text.get_ref())
        .map_err(|bad| {
            notes
                .bad_value(
                    &text.span(),
                    format!("\"{}\" is no domain", shown(text.get_ref())),
                )
                .under(bad.why);
        })
        .ok()
}

fn keep(
    rule: &Table<'_>,
    construction: TokenKind,
    kind: Option<&Kind>,
    notes: &mut Notes<'_>,
) -> Keep {
    let Some(text) = rule.text("keep", notes) else {
        return Keep::None;
    };
    let chars = |count: &str| {
        count
            .parse::<usize>()
            .ok()
            .filter(|n| (1..=limits::KEEP_CHARS_MAX).contains(n))
    };
    let keep = match text.get_ref().split_once(':') {
        None if *text.get_ref() == "domain" => Some(Keep::Domain),
        Some(("first", count)) => chars(count).map(Keep::First),
        Some(("last", count)) => chars(count).map(Keep::Last),
        Some(_) | None => None,
    };
    let Some(keep) = keep else {
        notes
            .bad_value(
                &text.span(),
                format!("`keep` knows no \"{}\"", shown(text.get_ref())),
            )
            .under("\"domain\", \"first:N\" or \"last:N\", N from 1 to 64");
        return Keep::None;
    };
    if matches!(construction, TokenKind::Redact | TokenKind::Drop) {
        notes
            .error(
                codes::POLICY_TOKEN,
                &text.span(),
                "nothing is kept of a value that is redacted or dropped",
            )
            .under("remove it, or use kind = \"mask\"");
        return keep;
    }
    let too_much_of_a_card = match keep {
        Keep::First(count) => count > 6,
        Keep::Last(count) => count > 4,
        Keep::Domain | Keep::None => false,
    };
    match kind {
        Some(Kind::Text(TextFormat::Pan)) if too_much_of_a_card => {
            notes
                .error(
                    codes::POLICY_TOKEN,
                    &text.span(),
                    "of a card number at most the first 6 or the last 4 digits may stay (PCI DSS 3.4.1)",
                )
                .under("use \"last:4\" or \"first:6\"");
        }
        Some(Kind::Text(TextFormat::Email)) | None => {}
        Some(_) if keep == Keep::Domain => {
            notes
                .error(
                    codes::POLICY_TOKEN,
                    &text.span(),
                    "keep = \"domain\" keeps what follows the @ of an e-mail address",
                )
                .under("give the column format = \"email\", or keep something else");
        }
        Some(_) => {}
    }
    keep
}

fn normalise(rule: &Table<'_>, notes: &mut Notes<'_>) -> Vec<Normalise> {
    const STEPS: &[(&str, Normalise)] = &[
        ("trim", Normalise::Trim),
        ("lower", Normalise::Lower),
        ("digits", Normalise::Digits),
    ];
    let Some(texts) = rule.texts("normalise", notes) else {
        return Vec::new();
    };
    note_repeats("normalise", texts.get_ref(), notes);
    texts
        .get_ref()
        .iter()
        .filter_map(|text| word_of("normalise", text, STEPS, &["nfc"], notes))
        .collect()
}

/// Equal values give equal tokens: over few values, counting undoes that.
fn warn_small_domain(column: &Column, span: Option<&Span>, notes: &mut Notes<'_>) {
    let keyed = column
        .token
        .as_ref()
        .is_some_and(|rule| matches!(rule.kind, TokenKind::Cmac | TokenKind::Hmac));
    let (Some(span), true) = (span, keyed) else {
        return;
    };
    let narrow = column
        .minimum
        .as_ref()
        .zip(column.maximum.as_ref())
        .filter(|(low, high)| {
            column.kind == Kind::Integer && high.value.saturating_sub(low.value) < SMALL_DOMAIN
        });
    let why = if !column.values.is_empty() {
        format!("it can have {} values", column.values.len())
    } else if let Some(list) = column.lookup.as_ref().filter(|list| list.count() < 10_000) {
        format!("it can have {} values", list.count())
    } else if matches!(column.kind, Kind::Boolean { .. }) {
        "it can have 2 values".to_owned()
    } else if let Some((low, high)) = narrow {
        format!(
            "it can have {} values",
            high.value.saturating_sub(low.value).saturating_add(1)
        )
    } else {
        return;
    };
    notes
        .warn(
            codes::POLICY_SMALL_DOMAIN,
            span,
            format!(
                "tokens of \"{}\" can be guessed by counting: {why}",
                shown(&column.name)
            ),
        )
        .under("kind = \"redact\" or \"drop\" tells nothing");
}

/// Integers in a range below this are few enough to be told apart by how often they occur.
const SMALL_DOMAIN: i128 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(decimal("12.5", 12, 2), Ok(1250));
        assert_eq!(decimal("-0.01", 12, 2), Ok(-1));
        assert_eq!(decimal("0", 2, 2), Ok(0));
        assert_eq!(
            decimal("99999999999999999999999999999999999999", 38, 0),
            Ok(99_999_999_999_999_999_999_999_999_999_999_999_999)
        );
        for bad in [
            "",
            "-",
            ".5",
            "5.",
            "1e3",
            "1,5",
            "1.005",
            "+1",
            "\u{ff11}",
            "12345678901.00",
        ] {
            assert!(decimal(bad, 12, 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn integers_are_plain_digits() {
        assert_eq!(integer("-42"), Some(-42));
        for bad in ["", "-", "+1", "1_000", "1.0", " 1"] {
            assert_eq!(integer(bad), None, "{bad}");
        }
    }
}
