//! A feed in words, for the partner who has to make its files: plain ASCII, 78 columns, nothing
//! about stores, keys or token domains.

use crate::policy::contract::{
    Bom, Column, ColumnarShape, Compression, Contract, Dialect, ExtraColumns, FieldsMatch,
    FixedShape, Format, Formulas, Header, HeaderMatch, JsonShape, Keep, Kind, MissingColumns,
    Newline, OnFinding, OnMatch, Schema, TextFormat, TokenKind, Tolerance,
};
use crate::policy::feed::{Completeness, Feed, SameContent, SameName};
use crate::policy::text::{human_size, human_time};
use crate::terms::columnar::Columnar;

/// Longest line of the text, characters.
const WIDTH: usize = 78;
/// Where the explanations start.
const INDENT: usize = 14;

/// The file specification of a feed, as partners read it under `/help`. Lines end in a line
/// feed.
#[must_use]
pub fn describe(feed: &Feed) -> String {
    let mut page = Page::default();
    let contract = &feed.contract;
    page.put(0, &format!("Files of feed {}", feed.id));
    page.gap();
    match &feed.example {
        Some(example) => {
            page.entry("File name", &format!("like {example}"));
            page.entry(
                "",
                &format!("the whole name must match {}", feed.pattern_text),
            );
        }
        None => page.entry(
            "File name",
            &format!("the whole name must match {}", feed.pattern_text),
        ),
    }
    page.entry(
        "Size",
        &format!("{} at most, as sent", human_size(feed.bytes_max)),
    );
    match feed.completeness {
        Completeness::Close => {}
        Completeness::Size => page.entry(
            "Whole when",
            "its size was declared (scp does that), or it was sent as NAME.part and renamed to NAME",
        ),
        Completeness::Rename => {
            page.entry("Whole when", "it was sent as NAME.part and renamed to NAME");
        }
    }
    if let Some(quiet_ms) = feed.quiet_window_ms {
        let time = human_time(quiet_ms);
        page.entry(
            "Whole when",
            &format!("it was renamed from NAME.part to NAME, or closed and left alone for {time}"),
        );
    }
    page.entry("Format", &format_words(contract));
    page.entry("Sent again", &again_words(feed));
    if let Some(schema) = &contract.schema {
        rows(&mut page, contract, schema);
    }
    page.text
}

/// Lines of limited width.
#[derive(Default)]
struct Page {
    text: String,
}

// === impl Page ===

impl Page {
    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn entry(&mut self, label: &str, words: &str) {
        self.put(INDENT, &format!("{label:<INDENT$}{words}"));
    }

    /// One paragraph: words go to the next line, indented, where they would be too wide.
    fn put(&mut self, indent: usize, words: &str) {
        let plain = ascii(words);
        let mut width = 0;
        let mut fresh = true;
        for word in plain.split_inclusive(' ') {
            let length = word.trim_end().len();
            if width + length > WIDTH && !fresh {
                self.end_line();
                self.text.push_str(&" ".repeat(indent));
                width = indent;
            }
            // A word wider than the page, as a long pattern, is cut into pieces.
            let mut rest = word;
            while width + rest.trim_end().len() > WIDTH {
                let (head, tail) = rest.split_at_checked(WIDTH - width).unwrap_or((rest, ""));
                self.text.push_str(head);
                self.end_line();
                self.text.push_str(&" ".repeat(indent));
                width = indent;
                rest = tail;
            }
            self.text.push_str(rest);
            width += rest.len();
            fresh = false;
        }
        self.end_line();
    }

    fn end_line(&mut self) {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
    }
}

/// Other characters as `\u{..}`.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

fn fixed_words(shape: &FixedShape) -> String {
    let ends = match shape.newline {
        Some(Newline::Any) => "",
        Some(Newline::Crlf) => " and CR LF",
        Some(Newline::Lf) => " and LF",
        None => ", without line ends",
    };
    format!(
        "columns at fixed places, lines of {} characters{ends}",
        shape.length
    )
}

fn encoding_words(contract: &Contract) -> String {
    let titles: Vec<String> = contract.encoding.iter().map(|one| one.title()).collect();
    let titles = titles.join(" or ");
    match contract.bom {
        Bom::Strip => titles,
        Bom::Reject => format!("{titles} without byte order mark"),
    }
}

fn format_words(contract: &Contract) -> String {
    let mut parts = match &contract.format {
        Format::Opaque => return "any; the file is passed on as it is".to_owned(),
        Format::Csv(_) => vec!["CSV (RFC 4180)".to_owned()],
        Format::Fixed(shape) => vec![fixed_words(shape)],
        Format::Json(JsonShape::Array) => vec!["JSON (RFC 8259), one array of objects".to_owned()],
        Format::Json(JsonShape::Lines) => {
            vec!["JSON objects, each on a line of its own".to_owned()]
        }
        Format::Columnar(shape) => return columnar_words(shape),
    };
    parts.push(encoding_words(contract));
    if let Format::Csv(dialect) = &contract.format {
        parts.extend(dialect_words(*dialect));
    }
    let compressions: Vec<&str> = contract
        .compression
        .iter()
        .map(|compression| match compression {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Zip => "zip with one file in it",
            Compression::Zstd => "zstd",
        })
        .collect();
    parts.push(compressions.join(" or "));
    parts.join(", ")
}

fn columnar_words(shape: &ColumnarShape) -> String {
    let title = shape.format.title();
    match (&shape.sheet, shape.format) {
        (Some(sheet), _) => {
            format!("{title}, its sheet {sheet:?}; the first row names the columns")
        }
        (None, Columnar::Xlsx) => {
            format!("{title}, its first sheet; the first row names the columns")
        }
        (None, Columnar::Arrow | Columnar::Avro | Columnar::Parquet) => title.to_owned(),
    }
}

fn dialect_words(dialect: Dialect) -> [String; 4] {
    [
        format!("{} between cells", character(dialect.delimiter)),
        format!(
            "{} around cells that need it, doubled inside",
            character(dialect.quote)
        ),
        match dialect.header {
            Header::Present => "the first line names the columns",
            Header::Absent => "no header line",
        }
        .to_owned(),
        match dialect.newline {
            Newline::Any => "lines end in LF or CR LF",
            Newline::Lf => "lines end in LF",
            Newline::Crlf => "lines end in CR LF",
        }
        .to_owned(),
    ]
}

fn character(byte: u8) -> String {
    match byte {
        b'\t' => "a tab".to_owned(),
        b' ' => "a blank".to_owned(),
        b',' => "a comma".to_owned(),
        b';' => "a semicolon".to_owned(),
        b'|' => "a bar |".to_owned(),
        b'"' => "double quotes".to_owned(),
        b'\'' => "single quotes".to_owned(),
        other => char::from(other).to_string(),
    }
}

fn again_words(feed: &Feed) -> String {
    let content = match feed.same_content {
        SameContent::Allow => "the same content counts as a new file",
        SameContent::Known => "the same content is answered with OK and not taken twice",
        SameContent::Reject => "the same content is refused",
    };
    let name = match feed.same_name {
        SameName::Allow => "a name may be used again",
        SameName::Reject => "a name may be used once",
        SameName::Replace => "a new file of the same name replaces the older one",
    };
    format!("{content}; {name}")
}

fn tolerated(tolerance: Tolerance) -> Option<String> {
    let rows = (tolerance.rows < u64::MAX).then(|| format!("{} at most", tolerance.rows));
    let share = (tolerance.share_ppm < 1_000_000).then(|| {
        let (whole, part) = (tolerance.share_ppm / 10_000, tolerance.share_ppm % 10_000);
        let part = format!(".{part:04}");
        let part = part.trim_end_matches('0').trim_end_matches('.');
        format!("{whole}{part} % at most")
    });
    let all = match (rows, share) {
        (Some(rows), Some(share)) => format!("{rows}, and {share}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "any number".to_owned(),
    };
    let bears = tolerance != Tolerance::NONE;
    bears.then(|| format!("{all}; they are left out, and the receipt names them"))
}

fn rows(page: &mut Page, contract: &Contract, schema: &Schema) {
    page.entry("Rows", &format!("{} at least", schema.rows_min));
    let finding = match contract.on_finding {
        OnFinding::Hold => "a person decides about the whole file",
        OnFinding::Reject => "the whole file is refused",
        OnFinding::Released | OnFinding::Split => {
            "bad rows are left out, and the receipt names them"
        }
    };
    page.entry("Errors", finding);
    if let Some(bears) = tolerated(contract.tolerance) {
        page.entry("Bad rows", &bears);
    }
    for rule in &schema.rules {
        page.entry("Rule", &rule.text);
    }
    match schema.formulas {
        Formulas::Allow => {}
        Formulas::Escape => page.entry("Formulas", "get an apostrophe before them"),
        Formulas::Reject => page.entry("Formulas", "are refused: no text begins like one"),
        Formulas::Warn => page.entry("Formulas", "better none: no text begins like one"),
    }
    if !schema.primary_key.is_empty() {
        let names: Vec<&str> = schema
            .primary_key
            .iter()
            .filter_map(|index| Some(schema.columns.get(*index)?.name.as_str()))
            .collect();
        page.entry(
            "Key",
            &format!("{}: never empty, never twice", names.join(" + ")),
        );
    }
    if let Some(trailer) = &contract.trailer {
        let mut told = Vec::new();
        if let Some(group) = &trailer.rows {
            told.push(format!("{group} is the number of rows"));
        }
        for (index, group) in &trailer.sums {
            if let Some(column) = schema.columns.get(*index) {
                told.push(format!("{group} is the sum of {}", column.name));
            }
        }
        page.entry("Last line", &trailer_pattern(trailer.pattern.as_str()));
        if !told.is_empty() {
            page.entry("", &told.join(", "));
        }
    }
    if schema.missing_values != [String::new()] {
        let words: Vec<String> = schema
            .missing_values
            .iter()
            .map(|value| {
                if value.is_empty() {
                    "an empty cell".to_owned()
                } else {
                    format!("{value:?}")
                }
            })
            .collect();
        let said = if words.is_empty() {
            "nothing: an empty cell is text".to_owned()
        } else {
            words.join(" or ")
        };
        page.entry("No value", &said);
    }
    page.gap();
    page.put(0, &format!("Columns: {}", columns_words(contract, schema)));
    page.gap();
    let widest = schema
        .columns
        .iter()
        .map(|c| ascii(&c.name).len())
        .max()
        .unwrap_or(0);
    let column_width = widest.min(24) + 2;
    let places = match &contract.format {
        Format::Fixed(shape) => shape.places.as_slice(),
        Format::Columnar(_) | Format::Csv(_) | Format::Json(_) | Format::Opaque => &[],
    };
    for (at, column) in schema.columns.iter().enumerate() {
        let name = format!("  {:<column_width$}", ascii(&column.name));
        let place = places.get(at).map_or_else(String::new, |(start, width)| {
            format!("characters {} to {}: ", start + 1, start + width)
        });
        let words = format!("{name}{place}{}", column_words(column));
        page.put(column_width + 2, &words);
    }
}

/// The pattern without the anchors and the spelling of digits that the compiler gave it.
fn trailer_pattern(pattern: &str) -> String {
    pattern
        .strip_prefix("^(?:")
        .and_then(|rest| rest.strip_suffix(")$"))
        .unwrap_or(pattern)
        .replace("[0-9]", r"\d")
}

fn columns_words(contract: &Contract, schema: &Schema) -> String {
    if matches!(&contract.format, Format::Csv(dialect) if dialect.header == Header::Absent) {
        return "in this order.".to_owned();
    }
    if matches!(contract.format, Format::Fixed(_)) {
        return "at these places, blanks around a value are not part of it.".to_owned();
    }
    let is_json = matches!(contract.format, Format::Json(_));
    let set = match schema.fields_match {
        FieldsMatch::Equal if is_json => "a key for each of these",
        FieldsMatch::Equal => "all of these, in any order",
        FieldsMatch::Exact => "all of these, in this order",
        FieldsMatch::Partial => "at least one of these, in any order",
        FieldsMatch::Subset => "all of these, others may stand beside them",
        FieldsMatch::Superset => "some of these, no others",
    };
    let labels = match schema.header_match {
        HeaderMatch::Exact => "labels are written exactly so",
        HeaderMatch::Case => "capitals do not matter in labels",
        HeaderMatch::Trim => "blanks around labels do not matter",
        HeaderMatch::TrimCase => "capitals and blanks around labels do not matter",
    };
    let extra = match schema.extra_columns {
        ExtraColumns::Drop => "; other columns are left out",
        ExtraColumns::Hold => "; a person decides about other columns",
        ExtraColumns::Keep => "; other columns are passed on",
        ExtraColumns::Reject => "",
    };
    let missing = match schema.missing_columns {
        MissingColumns::Hold => "; a person decides about a column that is not there",
        MissingColumns::Null => "; a column that is not there counts as empty",
        MissingColumns::Reject => "",
    };
    format!("{set}; {labels}{extra}{missing}.")
}

fn column_words(column: &Column) -> String {
    let mut parts = vec![kind_words(&column.kind)];
    parts.push(
        if column.required {
            "required"
        } else {
            "may be empty"
        }
        .to_owned(),
    );
    if column.unique {
        parts.push("no value twice".to_owned());
    }
    if !column.values.is_empty() {
        parts.push(format!("one of {}", column.values.join(" ")));
    }
    if let Some(list) = &column.lookup {
        parts.push(format!("in the list {}", list.title()));
    }
    if let Some(pattern) = &column.pattern_text {
        parts.push(format!("the whole cell matches {pattern}"));
    }
    if let Some(low) = &column.minimum {
        parts.push(format!("{} or more", low.text));
    }
    if let Some(high) = &column.maximum {
        parts.push(format!("{} or less", high.text));
    }
    match (column.length_min, column.length_max) {
        (Some(low), Some(high)) => parts.push(format!("{low} to {high} characters")),
        (Some(low), None) => parts.push(format!("{low} characters or more")),
        (None, Some(high)) => parts.push(format!("{high} characters or fewer")),
        (None, None) => {}
    }
    if let Some(scan) = &column.scan {
        let kinds: Vec<&str> = scan.kinds.iter().map(|kind| kind.title()).collect();
        let kinds = kinds.join(" nor ");
        parts.push(match scan.on_match {
            OnMatch::Redact => format!("neither {kinds} is kept"),
            OnMatch::Reject => format!("neither {kinds}"),
            OnMatch::Warn => format!("better neither {kinds}"),
        });
    }
    if !column.aliases.is_empty() {
        parts.push(format!("also labelled {}", column.aliases.join(", ")));
    }
    if let Some(rule) = &column.token {
        let kept = match rule.keep {
            Keep::None => String::new(),
            Keep::Domain => ", all but its domain".to_owned(),
            Keep::First(count) => format!(", all but the first {count}"),
            Keep::Last(count) => format!(", all but the last {count}"),
        };
        parts.push(match rule.kind {
            TokenKind::Cmac | TokenKind::Hmac => format!("stored as a token{kept}"),
            TokenKind::Mask => format!("stored masked{kept}"),
            TokenKind::Redact | TokenKind::Drop => "not stored".to_owned(),
        });
    }
    parts.join("; ")
}

fn kind_words(kind: &Kind) -> String {
    match kind {
        Kind::Text(TextFormat::Any) => "text".to_owned(),
        Kind::Text(TextFormat::Email) => "e-mail address".to_owned(),
        Kind::Text(TextFormat::Iban) => "IBAN without blanks".to_owned(),
        Kind::Text(TextFormat::Pan) => "card number, digits only".to_owned(),
        Kind::Text(TextFormat::Uuid) => "UUID with hyphens".to_owned(),
        Kind::Integer => "whole number, digits only".to_owned(),
        Kind::Decimal { precision, scale } => format!(
            "decimal number, a point and no commas, {} digits before and {scale} after it at most",
            precision.saturating_sub(*scale)
        ),
        Kind::Boolean { yes, no } => format!("{} or {}", yes.join("/"), no.join("/")),
        Kind::Date { formats } => format!("date as {}", formats.join(" or ")),
        Kind::DateTime { formats } => format!("date and time as {}", formats.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile;
    use crate::policy::lists::Lists;

    fn described(file: &str, text: &str) -> String {
        let (policy, _) = compile(file, text, &Lists::default()).unwrap();
        policy.feeds.iter().map(|feed| describe(feed)).collect()
    }

    #[test]
    fn the_shipped_orders_feed_reads_as_a_specification() {
        let text = described("acme.toml", include_str!("../../policies/acme.toml"));
        for line in [
            "Files of feed orders",
            "File name     like orders_20261120.csv",
            "  country     text; required; one of DE AT CH",
            "  email       e-mail address; may be empty; also labelled e-mail; stored as a",
            "              token, all but its domain",
            r"Last line     TRL,(?<rows>\d+),(?<sum_amount>[\d.]+)",
            "              rows is the number of rows, sum_amount is the sum of amount",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n---\n{text}");
        }
    }

    #[test]
    fn no_line_is_wider_than_a_page_and_all_is_ascii() {
        let long = "x".repeat(200);
        let policy = format!(
            "version = 1\n[partner]\nid = \"acme\"\n[[feed]]\nid = \"f\"\nmatch = '{long}'\n\
             store = \"lake\"\nkey = \"{{submission}}\"\n[feed.schema]\ncolumns = [\n\
             {{ name = \"Gr\u{f6}\u{df}e\", type = \"string\", enum = [\"{long}\", \"b\"] }}]\n"
        );
        let shipped = include_str!("../../policies/globex.toml");
        for text in [
            described("acme.toml", &policy),
            described("globex.toml", shipped),
        ] {
            assert!(text.is_ascii());
            for line in text.lines() {
                assert!(line.len() <= WIDTH, "{}: {line}", line.len());
                assert_eq!(line, line.trim_end());
            }
        }
    }
}
