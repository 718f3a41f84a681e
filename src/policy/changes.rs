//! What a new version of a policy changes, one line a difference, for the people who reload it.
//!
//! `widening`: files that passed still pass, and others may as well. `narrowing`: some files
//! that passed are refused. `breaking`: files that were fine are refused, or data is stored
//! otherwise. Nothing is marked where the effect depends on the files.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::policy::contract::{
    Bom, Bound, Column, Contract, ExtraColumns, FieldsMatch, FixedShape, Format, Formulas,
    JsonShape, Keep, Kind, MissingColumns, OnFinding, Scan, Schema, TextFormat, TokenKind,
    TokenRule,
};
use crate::policy::feed::{Feed, Folders, Legacy, Outbox, Policy};
use crate::policy::text::{human_size, human_time};

/// What a difference means for files that were accepted before.
#[derive(Clone, Copy)]
enum Effect {
    Breaking,
    Narrowing,
    Unclear,
    Widening,
}

/// The differences, each with the name of its feed in front when there are several feeds.
struct Lines {
    prefix: String,
    lines: Vec<String>,
}

/// One line per difference between two versions of a partner's rules, as in
/// `country.enum +UK (widening)`. Empty when only comments and layout changed.
#[must_use]
pub fn changes(old: &Policy, new: &Policy) -> Vec<String> {
    let mut lines = Lines {
        prefix: String::new(),
        lines: Vec::new(),
    };
    access(old, new, &mut lines);
    let several = old.feeds.len().max(new.feeds.len()) > 1;
    for feed in &old.feeds {
        match new.feed(&feed.id) {
            Some(changed) => {
                if several {
                    lines.prefix = format!("{}: ", feed.id);
                }
                feeds(feed, changed, &mut lines);
                lines.prefix.clear();
            }
            None => lines.put(&format!("feed {} removed", feed.id), Effect::Breaking),
        }
    }
    for feed in new.feeds.iter().filter(|feed| old.feed(&feed.id).is_none()) {
        lines.put(&format!("feed {} added", feed.id), Effect::Widening);
    }
    let order = |feeds: &Policy, others: &Policy| -> Vec<String> {
        let both = feeds
            .feeds
            .iter()
            .filter(|feed| others.feed(&feed.id).is_some());
        both.map(|feed| feed.id.to_string()).collect()
    };
    if order(old, new) != order(new, old) {
        lines.put("feeds are tried in another order", Effect::Unclear);
    }
    lines.lines
}

// === impl Lines ===

impl Lines {
    fn put(&mut self, line: &str, effect: Effect) {
        let mark = match effect {
            Effect::Breaking => " (breaking)",
            Effect::Narrowing => " (narrowing)",
            Effect::Unclear => "",
            Effect::Widening => " (widening)",
        };
        self.lines.push(format!("{}{line}{mark}", self.prefix));
    }

    /// `what: a -> b`, when they differ.
    fn value<T: PartialEq>(
        &mut self,
        what: &str,
        old: &T,
        new: &T,
        effect: Effect,
        show: impl Fn(&T) -> String,
    ) {
        if old != new {
            self.put(&format!("{what}: {} -> {}", show(old), show(new)), effect);
        }
    }

    /// `what +a -b`: more is wider.
    fn set<T: Ord + Display>(&mut self, what: &str, old: &BTreeSet<T>, new: &BTreeSet<T>) {
        for item in new.difference(old) {
            self.put(&format!("{what} +{item}"), Effect::Widening);
        }
        for item in old.difference(new) {
            self.put(&format!("{what} -{item}"), Effect::Narrowing);
        }
    }

    /// Rules: one more refuses more.
    fn rules(&mut self, what: &str, old: &BTreeSet<String>, new: &BTreeSet<String>) {
        for rule in new.difference(old) {
            self.put(&format!("{what} +{rule}"), Effect::Narrowing);
        }
        for rule in old.difference(new) {
            self.put(&format!("{what} -{rule}"), Effect::Widening);
        }
    }

    /// A limit: higher is wider.
    fn most<T: PartialOrd>(&mut self, what: &str, old: &T, new: &T, show: impl Fn(&T) -> String) {
        let effect = if new > old {
            Effect::Widening
        } else {
            Effect::Narrowing
        };
        self.value(what, old, new, effect, show);
    }

    /// A demand: lower is wider.
    fn least<T: PartialOrd>(&mut self, what: &str, old: &T, new: &T, show: impl Fn(&T) -> String) {
        let effect = if new < old {
            Effect::Widening
        } else {
            Effect::Narrowing
        };
        self.value(what, old, new, effect, show);
    }

    /// A demand that is there or not: without it is wider.
    fn demand(&mut self, what: &str, old: bool, new: bool) {
        if old != new {
            let (sign, effect) = if new {
                ('+', Effect::Narrowing)
            } else {
                ('-', Effect::Widening)
            };
            self.put(&format!("{what} {sign}"), effect);
        }
    }
}

// === partner and access ===

fn access(old: &Policy, new: &Policy, lines: &mut Lines) {
    lines.value("name", &old.name, &new.name, Effect::Unclear, String::clone);
    let help = |help: &Option<String>| help.clone().unwrap_or_else(|| "none".to_owned());
    lines.value("contact", &old.help, &new.help, Effect::Unclear, help);
    let nets = |policy: &Policy| policy.allow_from.iter().copied().collect::<BTreeSet<_>>();
    match (old.allow_from.is_empty(), new.allow_from.is_empty()) {
        (true, false) => {
            let named: Vec<String> = new.allow_from.iter().map(ToString::to_string).collect();
            lines.put(
                &format!("allow_from: any -> {}", named.join(" ")),
                Effect::Narrowing,
            );
        }
        (false, true) => lines.put("allow_from: now from any address", Effect::Widening),
        (true, true) | (false, false) => lines.set("allow_from", &nets(old), &nets(new)),
    }
    let inbox = |policy: &Policy| policy.inbox.iter().cloned().collect::<BTreeSet<_>>();
    lines.set("inbox", &inbox(old), &inbox(new));
    let first = |policy: &Policy| {
        policy
            .inbox
            .first()
            .map_or_else(String::new, ToString::to_string)
    };
    lines.value(
        "inbox, the first",
        &first(old),
        &first(new),
        Effect::Unclear,
        String::clone,
    );
    lines.most(
        "sessions",
        &old.sessions_max,
        &new.sessions_max,
        ToString::to_string,
    );
    let (before, after) = (
        old.quota_bytes.unwrap_or(u64::MAX),
        new.quota_bytes.unwrap_or(u64::MAX),
    );
    lines.most("quota", &before, &after, |bytes| shown_limit(*bytes));
    let (before, after) = (
        old.bytes_per_sec.unwrap_or(u64::MAX),
        new.bytes_per_sec.unwrap_or(u64::MAX),
    );
    lines.most("bytes_per_second", &before, &after, |bytes| {
        shown_limit(*bytes)
    });
    let (before, after) = (
        old.files_per_sec.unwrap_or(u32::MAX),
        new.files_per_sec.unwrap_or(u32::MAX),
    );
    lines.most("files_per_second", &before, &after, |files| match *files {
        u32::MAX => "none".to_owned(),
        files => files.to_string(),
    });
    lines.value(
        "hide_after_accept",
        &old.hide_after_accept,
        &new.hide_after_accept,
        Effect::Unclear,
        ToString::to_string,
    );
    let outbox = |outbox: &Option<Outbox>| match outbox {
        Some(Outbox { store, prefix }) => format!("{store}:{prefix}"),
        None => "none".to_owned(),
    };
    let effect = match (&old.outbox, &new.outbox) {
        (None, _) => Effect::Widening,
        (Some(_), None) => Effect::Narrowing,
        (Some(_), Some(_)) => Effect::Unclear,
    };
    lines.value("outbox", &old.outbox, &new.outbox, effect, outbox);
    let legacy = |legacy: &Option<Legacy>| match legacy {
        Some(legacy) => format!("{} until {}", legacy.algorithms.join(" "), legacy.until),
        None => "none".to_owned(),
    };
    let effect = if new.legacy.is_some() {
        Effect::Widening
    } else {
        Effect::Narrowing
    };
    lines.value("legacy", &old.legacy, &new.legacy, effect, legacy);
}

fn shown_limit(bytes: u64) -> String {
    if bytes == u64::MAX {
        "none".to_owned()
    } else {
        human_size(bytes)
    }
}

// === feeds ===

fn feeds(old: &Feed, new: &Feed, lines: &mut Lines) {
    lines.value(
        "match",
        &old.pattern_text,
        &new.pattern_text,
        Effect::Unclear,
        String::clone,
    );
    lines.value(
        "store",
        &old.store,
        &new.store,
        Effect::Breaking,
        ToString::to_string,
    );
    lines.value(
        "key",
        &old.key.text(),
        &new.key.text(),
        Effect::Breaking,
        String::clone,
    );
    lines.most("max_size", &old.bytes_max, &new.bytes_max, |bytes| {
        human_size(*bytes)
    });
    lines.value("digest", &old.digest, &new.digest, Effect::Unclear, word);
    let effect = if new.folders == Folders::Any {
        Effect::Widening
    } else {
        Effect::Narrowing
    };
    lines.value("folders", &old.folders, &new.folders, effect, word);
    let effect = if new.completeness < old.completeness {
        Effect::Widening
    } else {
        Effect::Narrowing
    };
    lines.value(
        "completeness",
        &old.completeness,
        &new.completeness,
        effect,
        word,
    );
    lines.value(
        "quiet_window",
        &old.quiet_window_ms,
        &new.quiet_window_ms,
        Effect::Unclear,
        |ms| ms.map_or_else(|| "none".to_owned(), human_time),
    );
    lines.value(
        "same_content",
        &old.same_content,
        &new.same_content,
        Effect::Unclear,
        word,
    );
    lines.value(
        "same_name",
        &old.same_name,
        &new.same_name,
        Effect::Unclear,
        word,
    );
    contracts(&old.contract, &new.contract, lines);
    if old.tests != new.tests {
        lines.put("tests changed", Effect::Unclear);
    }
}

fn contracts(old: &Contract, new: &Contract, lines: &mut Lines) {
    let finding = match new.on_finding {
        OnFinding::Hold if old.on_finding == OnFinding::Reject => Effect::Widening,
        OnFinding::Hold | OnFinding::Reject => Effect::Narrowing,
        OnFinding::Released | OnFinding::Split => Effect::Widening,
    };
    lines.value(
        "on_finding",
        &old.on_finding,
        &new.on_finding,
        finding,
        word,
    );
    if old.tolerance != new.tolerance {
        let (before, after) = (old.tolerance, new.tolerance);
        let is_wider = after.rows >= before.rows && after.share_ppm >= before.share_ppm;
        let is_narrower = after.rows <= before.rows && after.share_ppm <= before.share_ppm;
        let effect = match (is_wider, is_narrower) {
            (true, _) => Effect::Widening,
            (false, true) => Effect::Narrowing,
            (false, false) => Effect::Unclear,
        };
        lines.put("tolerance changed", effect);
    }
    let bom = if new.bom == Bom::Strip {
        Effect::Widening
    } else {
        Effect::Narrowing
    };
    lines.value("bom", &old.bom, &new.bom, bom, word);
    let encodings = |contract: &Contract| {
        let names = contract.encoding.iter().map(|one| one.name().to_owned());
        names.collect()
    };
    lines.set("encoding", &encodings(old), &encodings(new));
    let compressions = |contract: &Contract| contract.compression.iter().map(word).collect();
    lines.set("compression", &compressions(old), &compressions(new));
    lines.most(
        "max_ratio",
        &old.ratio_max,
        &new.ratio_max,
        ToString::to_string,
    );
    lines.most(
        "max_output",
        &old.output_bytes_max,
        &new.output_bytes_max,
        |b| human_size(*b),
    );
    formats(&old.format, &new.format, lines);
    let effect = Effect::Breaking;
    lines.value("output.format", &old.output, &new.output, effect, word);
    lines.value(
        "output.compression",
        &old.output_compression,
        &new.output_compression,
        effect,
        word,
    );
    if let (Some(before), Some(after)) = (&old.schema, &new.schema) {
        schemas(before, after, lines);
        trailers(old, new, lines);
    }
}

fn formats(old: &Format, new: &Format, lines: &mut Lines) {
    match (old, new) {
        (Format::Csv(before), Format::Csv(after)) => {
            let byte = |byte: &u8| format!("{:?}", char::from(*byte));
            lines.value(
                "delimiter",
                &before.delimiter,
                &after.delimiter,
                Effect::Breaking,
                byte,
            );
            lines.value("quote", &before.quote, &after.quote, Effect::Breaking, byte);
            lines.value(
                "header",
                &before.header,
                &after.header,
                Effect::Breaking,
                word,
            );
            lines.value(
                "newline",
                &before.newline,
                &after.newline,
                Effect::Unclear,
                word,
            );
        }
        (Format::Fixed(before), Format::Fixed(after)) => {
            let shown = |shape: &FixedShape| {
                let places = shape.places.iter();
                let places: Vec<String> = places
                    .map(|(start, width)| format!("{}+{width}", start + 1))
                    .collect();
                format!("{} of {}", places.join(" "), shape.length)
            };
            lines.value("places", before, after, Effect::Breaking, shown);
        }
        (Format::Opaque, Format::Opaque) => {}
        (Format::Columnar(before), Format::Columnar(after)) if before.format == after.format => {
            let shown = |sheet: &Option<String>| {
                sheet
                    .as_ref()
                    .map_or_else(|| "the first".to_owned(), |sheet| format!("{sheet:?}"))
            };
            lines.value(
                "sheet",
                &before.sheet,
                &after.sheet,
                Effect::Breaking,
                shown,
            );
        }
        (before, after) => {
            let (before, after) = (format_word(before), format_word(after));
            if before != after {
                let (what, effect) = match (before, after) {
                    (_, "opaque") => (": files are no longer inspected", Effect::Widening),
                    ("opaque", _) => (": files are inspected", Effect::Narrowing),
                    (_, _) => ("", Effect::Breaking),
                };
                lines.put(&format!("format: {before} -> {after}{what}"), effect);
            }
        }
    }
}

fn format_word(format: &Format) -> &'static str {
    match format {
        Format::Columnar(shape) => shape.format.word(),
        Format::Csv(_) => "csv",
        Format::Fixed(_) => "fixed",
        Format::Json(JsonShape::Array) => "json",
        Format::Json(JsonShape::Lines) => "ndjson",
        Format::Opaque => "opaque",
    }
}

fn trailers(old: &Contract, new: &Contract, lines: &mut Lines) {
    let told = |contract: &Contract| {
        contract.trailer.as_ref().map(|trailer| {
            let columns = contract
                .schema
                .as_ref()
                .map_or(&[][..], |schema| &schema.columns);
            let name = |index: &usize| columns.get(*index).map(|column| column.name.clone());
            let sums: BTreeSet<(Option<String>, String)> = trailer
                .sums
                .iter()
                .map(|(index, group)| (name(index), group.clone()))
                .collect();
            (
                trailer.pattern.as_str().to_owned(),
                trailer.rows.clone(),
                sums,
            )
        })
    };
    match (told(old), told(new)) {
        (None, Some(_)) => lines.put("trailer added", Effect::Breaking),
        (Some(_), None) => lines.put(
            "trailer removed: the old last line counts as a row",
            Effect::Breaking,
        ),
        (before, after) if before != after => lines.put("trailer changed", Effect::Unclear),
        (_, _) => {}
    }
}

/// Rules over several columns, and what text may hold.
fn contents(old: &Schema, new: &Schema, lines: &mut Lines) {
    let rules = |schema: &Schema| {
        let all = schema.rules.iter();
        all.map(|rule| format!("{}: {}", rule.name, rule.text))
            .collect()
    };
    lines.rules("row_rule", &rules(old), &rules(new));
    let refuses = new.formulas == Formulas::Reject;
    let effect = if refuses {
        Effect::Narrowing
    } else {
        Effect::Unclear
    };
    lines.value("formulas", &old.formulas, &new.formulas, effect, word);
}

fn schemas(old: &Schema, new: &Schema, lines: &mut Lines) {
    lines.value(
        "fields_match",
        &old.fields_match,
        &new.fields_match,
        Effect::Unclear,
        word,
    );
    lines.value(
        "header_match",
        &old.header_match,
        &new.header_match,
        Effect::Unclear,
        word,
    );
    let extra = if old.extra_columns == ExtraColumns::Reject {
        Effect::Widening
    } else if new.extra_columns == ExtraColumns::Reject {
        Effect::Narrowing
    } else {
        Effect::Unclear
    };
    lines.value(
        "extra_columns",
        &old.extra_columns,
        &new.extra_columns,
        extra,
        word,
    );
    let missing = match new.missing_columns {
        MissingColumns::Null => Effect::Widening,
        MissingColumns::Hold if old.missing_columns == MissingColumns::Reject => Effect::Widening,
        MissingColumns::Hold | MissingColumns::Reject => Effect::Narrowing,
    };
    lines.value(
        "missing_columns",
        &old.missing_columns,
        &new.missing_columns,
        missing,
        word,
    );
    contents(old, new, lines);
    lines.value(
        "missing_values",
        &old.missing_values,
        &new.missing_values,
        Effect::Unclear,
        word,
    );
    lines.least(
        "min_rows",
        &old.rows_min,
        &new.rows_min,
        ToString::to_string,
    );
    let key = |schema: &Schema| -> Vec<String> {
        let names = schema
            .primary_key
            .iter()
            .filter_map(|index| schema.columns.get(*index));
        names.map(|column| column.name.clone()).collect()
    };
    lines.value(
        "primary_key",
        &key(old),
        &key(new),
        Effect::Unclear,
        |names| {
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join("+")
            }
        },
    );
    lines.most(
        "limits.field",
        &old.field_bytes_max,
        &new.field_bytes_max,
        ToString::to_string,
    );
    lines.most(
        "limits.record",
        &old.record_bytes_max,
        &new.record_bytes_max,
        ToString::to_string,
    );
    lines.most(
        "limits.columns",
        &old.columns_max,
        &new.columns_max,
        ToString::to_string,
    );
    all_columns(old, new, lines);
}

// === columns ===

fn all_columns(old: &Schema, new: &Schema, lines: &mut Lines) {
    let find = |schema: &Schema, name: &str| -> Option<Column> {
        schema
            .columns
            .iter()
            .find(|column| column.name == name)
            .cloned()
    };
    for column in &old.columns {
        match find(new, &column.name) {
            Some(changed) => columns(column, &changed, lines),
            None => lines.put(
                &format!("column {} removed", column.name),
                removal(new, column),
            ),
        }
    }
    for column in new
        .columns
        .iter()
        .filter(|column| find(old, &column.name).is_none())
    {
        lines.put(
            &format!("column {} added, {}", column.name, kind_word(&column.kind)),
            addition(new, column),
        );
    }
    let order = |schema: &Schema, others: &Schema| -> Vec<String> {
        let both = schema
            .columns
            .iter()
            .filter(|column| find(others, &column.name).is_some());
        both.map(|column| column.name.clone()).collect()
    };
    if order(old, new) != order(new, old) {
        let effect = match new.fields_match {
            FieldsMatch::Exact => Effect::Breaking,
            FieldsMatch::Equal
            | FieldsMatch::Partial
            | FieldsMatch::Subset
            | FieldsMatch::Superset => Effect::Unclear,
        };
        lines.put("columns are in another order", effect);
    }
}

/// Files that have the column were accepted; now its label is unknown.
fn removal(new: &Schema, column: &Column) -> Effect {
    match new.extra_columns {
        ExtraColumns::Keep if column.token.is_some() => Effect::Breaking,
        ExtraColumns::Hold | ExtraColumns::Reject => Effect::Narrowing,
        ExtraColumns::Drop | ExtraColumns::Keep => Effect::Unclear,
    }
}

/// Files without the column were accepted; now it may have to be there.
fn addition(new: &Schema, column: &Column) -> Effect {
    let may_lack = match new.fields_match {
        FieldsMatch::Partial | FieldsMatch::Superset => true,
        FieldsMatch::Equal | FieldsMatch::Exact | FieldsMatch::Subset => {
            new.missing_columns == MissingColumns::Null
        }
    };
    if may_lack && !column.required && column.token.is_none() {
        Effect::Widening
    } else {
        Effect::Breaking
    }
}

fn lookups(old: &Column, new: &Column, lines: &mut Lines) {
    let what = format!("{}.lookup", new.name);
    match (&old.lookup, &new.lookup) {
        (None, Some(list)) => {
            lines.put(
                &format!("{what}: any -> {}", list.title()),
                Effect::Narrowing,
            );
        }
        (Some(_), None) => lines.put(&format!("{what}: now any value"), Effect::Widening),
        (Some(before), Some(after)) => {
            let (more, fewer) = (after.beyond(before), before.beyond(after));
            let effect = match (more, fewer) {
                (_, 0) => Effect::Widening,
                (0, _) => Effect::Narrowing,
                (_, _) => Effect::Unclear,
            };
            if before.title() != after.title() {
                let (before, after) = (before.title(), after.title());
                lines.put(&format!("{what}: {before} -> {after}"), effect);
            }
            if more + fewer > 0 {
                let title = after.title();
                lines.put(&format!("{what} {title} +{more} -{fewer}"), effect);
            }
        }
        (None, None) => {}
    }
}

fn columns(old: &Column, new: &Column, lines: &mut Lines) {
    let name = &new.name;
    kinds(old, new, lines);
    lines.demand(&format!("{name}.required"), old.required, new.required);
    lines.demand(&format!("{name}.unique"), old.unique, new.unique);
    let what = format!("{name}.pattern");
    match (&old.pattern_text, &new.pattern_text) {
        (None, Some(pattern)) => lines.put(&format!("{what} +{pattern}"), Effect::Narrowing),
        (Some(pattern), None) => lines.put(&format!("{what} -{pattern}"), Effect::Widening),
        (before, after) if before != after => {
            lines.put(&format!("{what} changed"), Effect::Unclear);
        }
        (_, _) => {}
    }
    let what = format!("{name}.enum");
    match (old.values.is_empty(), new.values.is_empty()) {
        (true, false) => {
            lines.put(
                &format!("{what}: any -> {}", new.values.join(" ")),
                Effect::Narrowing,
            );
        }
        (false, true) => lines.put(&format!("{what}: now any value"), Effect::Widening),
        (true, true) | (false, false) => lines.set(&what, &old.values_set, &new.values_set),
    }
    lookups(old, new, lines);
    bounds(
        &format!("{name}.minimum"),
        old.minimum.as_ref(),
        new.minimum.as_ref(),
        Effect::Narrowing,
        Effect::Widening,
        lines,
    );
    bounds(
        &format!("{name}.maximum"),
        old.maximum.as_ref(),
        new.maximum.as_ref(),
        Effect::Widening,
        Effect::Narrowing,
        lines,
    );
    let length = |length: &usize| match *length {
        0 | usize::MAX => "none".to_owned(),
        count => count.to_string(),
    };
    let least = |column: &Column| column.length_min.unwrap_or(0);
    let most = |column: &Column| column.length_max.unwrap_or(usize::MAX);
    lines.least(
        &format!("{name}.min_length"),
        &least(old),
        &least(new),
        length,
    );
    lines.most(
        &format!("{name}.max_length"),
        &most(old),
        &most(new),
        length,
    );
    let aliases = |column: &Column| column.aliases.iter().cloned().collect();
    lines.set(&format!("{name}.aliases"), &aliases(old), &aliases(new));
    lines.value(
        &format!("{name}.token"),
        &old.token.as_ref(),
        &new.token.as_ref(),
        Effect::Breaking,
        |rule| token_word(*rule),
    );
    if old.token.is_none() && new.token.is_none() {
        let yes_or_no = |yes: &bool| if *yes { "yes" } else { "no" }.to_owned();
        lines.value(
            &format!("{name}.sensitive"),
            &old.sensitive,
            &new.sensitive,
            Effect::Unclear,
            yes_or_no,
        );
    }
    lines.value(
        &format!("{name}.scan"),
        &old.scan.as_ref(),
        &new.scan.as_ref(),
        Effect::Unclear,
        |scan| scan_word(*scan),
    );
}

fn scan_word(scan: Option<&Scan>) -> String {
    let Some(scan) = scan else {
        return "none".to_owned();
    };
    let kinds: Vec<&str> = scan.kinds.iter().map(|kind| kind.name()).collect();
    format!("{} ({})", kinds.join(" "), word(&scan.on_match))
}

fn kinds(old: &Column, new: &Column, lines: &mut Lines) {
    let what = format!("{}.type", new.name);
    let formats = format!("{}.formats", new.name);
    let set = |words: &[String]| words.iter().cloned().collect::<BTreeSet<_>>();
    match (&old.kind, &new.kind) {
        (Kind::Date { formats: before }, Kind::Date { formats: after })
        | (Kind::DateTime { formats: before }, Kind::DateTime { formats: after }) => {
            lines.set(&formats, &set(before), &set(after));
        }
        (
            Kind::Boolean { yes, no },
            Kind::Boolean {
                yes: yes_new,
                no: no_new,
            },
        ) => {
            lines.set(
                &format!("{}.true_values", new.name),
                &set(yes),
                &set(yes_new),
            );
            lines.set(
                &format!("{}.false_values", new.name),
                &set(no),
                &set(no_new),
            );
        }
        (
            Kind::Decimal { precision, scale },
            Kind::Decimal {
                precision: precision_new,
                scale: scale_new,
            },
        ) => {
            let (whole, whole_new) = (precision - scale, precision_new - scale_new);
            let effect = if whole_new >= whole && scale_new >= scale {
                Effect::Widening
            } else if whole_new <= whole && scale_new <= scale {
                Effect::Narrowing
            } else {
                Effect::Unclear
            };
            lines.value(&what, &old.kind, &new.kind, effect, kind_word);
        }
        (before, after) => {
            let effect = match (before, after) {
                (_, Kind::Text(TextFormat::Any)) => Effect::Widening,
                (Kind::Text(TextFormat::Any), _) => Effect::Narrowing,
                (_, _) => Effect::Breaking,
            };
            lines.value(&what, before, after, effect, kind_word);
        }
    }
}

/// `higher` is what a higher bound means, `lower` what a lower one means.
fn bounds(
    what: &str,
    old: Option<&Bound>,
    new: Option<&Bound>,
    higher: Effect,
    lower: Effect,
    lines: &mut Lines,
) {
    let effect = match (old, new) {
        (None, None) => return,
        (None, Some(_)) => Effect::Narrowing,
        (Some(_), None) => Effect::Widening,
        (Some(before), Some(after)) if after.value == before.value => return,
        (Some(before), Some(after)) if after.value > before.value => higher,
        (Some(_), Some(_)) => lower,
    };
    let text = |bound: Option<&Bound>| bound.map_or("none", |bound| &bound.text).to_owned();
    lines.put(&format!("{what}: {} -> {}", text(old), text(new)), effect);
}

// === words ===

/// The variant's name in small letters, as the policy writes it.
fn word<T: std::fmt::Debug>(value: &T) -> String {
    format!("{value:?}").to_lowercase()
}

fn kind_word(kind: &Kind) -> String {
    match kind {
        Kind::Boolean { .. } => "boolean".to_owned(),
        Kind::Date { .. } => "date".to_owned(),
        Kind::DateTime { .. } => "datetime".to_owned(),
        Kind::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        Kind::Integer => "integer".to_owned(),
        Kind::Text(TextFormat::Any) => "string".to_owned(),
        Kind::Text(format) => format!("string ({})", word(format)),
    }
}

fn token_word(rule: Option<&TokenRule>) -> String {
    let Some(rule) = rule else {
        return "none".to_owned();
    };
    let mut words = vec![
        match rule.kind {
            TokenKind::Cmac => "cmac",
            TokenKind::Drop => "drop",
            TokenKind::Hmac => "hmac",
            TokenKind::Mask => "mask",
            TokenKind::Redact => "redact",
        }
        .to_owned(),
    ];
    words.extend(
        rule.domain
            .as_ref()
            .map(|domain| format!("domain {domain}")),
    );
    match rule.keep {
        Keep::Domain => words.push("keep domain".to_owned()),
        Keep::First(count) => words.push(format!("keep first:{count}")),
        Keep::Last(count) => words.push(format!("keep last:{count}")),
        Keep::None => {}
    }
    words.extend(rule.normalise.iter().map(word));
    if rule.tokenise_empty {
        words.push("empty cells too".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile;
    use crate::policy::lists::Lists;

    const ACME: &str = include_str!("../../policies/acme.toml");

    #[track_caller]
    fn check(edits: &[(&str, &str)], expect: &[&str]) {
        let mut text = ACME.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let compiled = |text: &str| match compile("acme.toml", text, &Lists::default()) {
            Ok((policy, _)) => policy,
            Err(mistakes) => {
                panic!(
                    "{}",
                    mistakes
                        .iter()
                        .map(crate::policy::mistake::Mistake::render)
                        .collect::<String>()
                )
            }
        };
        assert_eq!(changes(&compiled(ACME), &compiled(&text)), expect);
    }

    #[test]
    fn a_comment_changes_nothing() {
        check(&[("version = 3", "version = 3 # ok")], &[]);
    }

    #[test]
    fn an_allowed_value_more_is_widening_and_one_less_narrowing() {
        check(
            &[("\"CH\"]", "\"CH\", \"UK\"]")],
            &["country.enum +UK (widening)"],
        );
        check(&[(", \"CH\"]", "]")], &["country.enum -CH (narrowing)"]);
    }

    #[test]
    fn bounds_and_digits_say_which_way_they_move() {
        check(
            &[
                ("decimal(12,2)", "decimal(14,4)"),
                ("minimum = \"0\"", "minimum = \"1\""),
            ],
            &[
                "amount.type: decimal(12,2) -> decimal(14,4) (widening)",
                "amount.minimum: 0 -> 1 (narrowing)",
            ],
        );
    }

    #[test]
    fn a_removed_token_and_a_new_column_are_breaking() {
        check(
            &[
                ("kind = \"mask\"", "kind = \"redact\""),
                (", keep = \"first:2\"", ""),
                (
                    "primary_key =",
                    "# no key\nlimits = { columns = 20 }\nprimary_key =",
                ),
            ],
            &[
                "limits.columns: 4096 -> 20 (narrowing)",
                "note.token: mask, keep first:2 -> redact (breaking)",
            ],
        );
        check(
            &[(
                "columns = [",
                "columns = [{ name = \"channel\", type = \"string\", required = true },",
            )],
            &["column channel added, string (breaking)"],
        );
    }

    #[test]
    fn networks_and_feeds_come_and_go() {
        check(
            &[("# allow_from", "allow_from")],
            &["allow_from: any -> 198.51.100.0/24 2001:db8:77::/48 (narrowing)"],
        );
        check(
            &[("= \"orders\"", "= \"sales\"")],
            &[
                "feed orders removed (breaking)",
                "feed sales added (widening)",
            ],
        );
    }
}
