//! `policy new`: a draft of a feed from samples of its files.
//!
//! What is guessed is said, with what it was guessed from; what would change the meaning of a file
//! (which values are sensitive, which are allowed, what repeats) stands in comments for a person to
//! decide. The draft is compiled and held against its own samples before it is shown.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::console::counted;
use crate::cli::context::{Context, write_file};
use crate::cli::exit::{Exit, Failure};
use crate::cli::file::inspect;
use crate::cli::partner::policy_files;
use crate::inspect::infer::{Guess, Sketch};
use crate::policy;
use crate::policy::contract::{Kind, TextFormat};
use crate::policy::lists::Lists;
use crate::policy::mistake::Mistake;
use crate::terms::ids::{FeedId, PartnerId};
use crate::terms::verdict::Verdict;

/// `policy new PARTNER/FEED --from-sample FILE...`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport policy new acme/orders --from-sample orders_20261120.csv\n  sallyport policy new acme/orders --from-sample a.csv b.csv --out policies/acme.toml"
)]
pub struct New {
    /// Whose feed it will be, and its name
    #[arg(value_name = "PARTNER/FEED")]
    pub feed: String,
    /// Files that are as they should be: CSV in any dialect, or JSON objects
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub from_sample: Vec<PathBuf>,
    /// Where the draft goes; default: to the screen. Nothing is replaced
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How a sample is written, and its columns.
struct Sample {
    format: Format,
    encoding: &'static str,
    rows: u64,
    columns: Vec<Sketch>,
    /// The last line, where it is unlike the rows.
    trailer: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv { delimiter: u8, header: bool },
    JsonLines,
    JsonArray,
}

/// What the draft says of a sample.
struct Tried {
    file: String,
    verdict: Verdict,
    /// Why it refuses it; begins with a colon.
    why: String,
}

/// Bytes of a sample that are looked at.
const SAMPLE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rows that tell the delimiter.
const ROWS_FOR_DIALECT: usize = 200;

/// Drafts a feed.
///
/// # Errors
/// [`Failure`]: a sample cannot be read or is no such file; the output exists.
pub fn run(context: &mut Context, arguments: &New) -> Result<Exit, Failure> {
    let (partner, feed) = names(&arguments.feed)?;
    if let Some(out) = &arguments.out
        && std::fs::symlink_metadata(out).is_ok()
    {
        return Err(
            Failure::conflict("policy.exists", format!("{} exists already", shown(out)))
                .hint("nothing is replaced; leave --out away and paste what you need"),
        );
    }
    let mut samples = Vec::new();
    for path in &arguments.from_sample {
        samples.push(read(path)?);
    }
    let sample = merge(&arguments.from_sample, samples)?;
    let is_known = context.config().is_ok_and(|found| {
        policy_files(&found.config.policies).is_ok_and(|files| {
            let is_theirs = |path: &Path| path.file_stem().is_some_and(|s| s == partner.as_str());
            files.iter().any(|file| is_theirs(&file.path))
        })
    });
    let head = head_of(&partner);
    let body = feed_of(&partner, &feed, &arguments.from_sample, &sample);
    let whole = format!("{head}\n{body}");
    let verdicts = try_out(context, &partner, &whole, &arguments.from_sample)?;
    // Behind an existing policy goes only the feed.
    let text = if is_known && arguments.out.is_none() {
        &body
    } else {
        &whole
    };
    if context.global.json {
        context.console.json(&json!({
            "draft": text,
            "samples": verdicts.iter().map(Tried::document).collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Done);
    }
    match &arguments.out {
        Some(out) if !context.global.dry_run => {
            write_file(out, text.as_bytes(), 0o644)?;
            context.console.line(&format!("wrote {}", shown(out)))?;
        }
        Some(_) | None => context.console.line(text.trim_end())?,
    }
    for Tried { file, verdict, why } in &verdicts {
        let verdict = verdict.as_str();
        context
            .console
            .say(&format!("{file}: {verdict} by this draft{why}"));
    }
    Ok(Exit::Done)
}

pub(super) fn names(text: &str) -> Result<(PartnerId, FeedId), Failure> {
    let bad = || {
        Failure::usage("policy.bad-feed", format!("{text:?} is not PARTNER/FEED"))
            .hint("as in acme/orders; 1 to 64 of a-z 0-9 - _ each")
    };
    let (partner, feed) = text.split_once('/').ok_or_else(bad)?;
    let partner = PartnerId::parse(partner).map_err(|_| bad())?;
    let feed = FeedId::parse(feed).map_err(|_| bad())?;
    Ok((partner, feed))
}

// === impl Tried ===

impl Tried {
    fn document(&self) -> Value {
        json!({
            "file": self.file,
            "verdict": self.verdict.as_str(),
            "why": self.why.trim_start_matches(": "),
        })
    }
}

// === samples ===

fn read(path: &Path) -> Result<Sample, Failure> {
    let unreadable = |error: std::io::Error| Failure::file("read", path, &error);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(unreadable)?
        .take(SAMPLE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let is_cut = u64::try_from(bytes.len()).is_ok_and(|count| count == SAMPLE_BYTES_MAX);
    let (encoding, text) = match String::from_utf8(bytes) {
        Ok(text) => ("utf-8", text),
        Err(fault) if is_cut && fault.utf8_error().error_len().is_none() => {
            let valid = fault.utf8_error().valid_up_to();
            let mut bytes = fault.into_bytes();
            bytes.truncate(valid);
            ("utf-8", String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(fault) => {
            let (text, _) = encoding_rs::WINDOWS_1252.decode_without_bom_handling(fault.as_bytes());
            ("windows-1252", text.into_owned())
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.contains('\0') {
        return Err(no_sample(path, "it is no text"));
    }
    // Of a long file the last row may be cut.
    let text = match text.rfind('\n').filter(|_| is_cut) {
        Some(end) => text.get(..=end).unwrap_or(text),
        None => text,
    };
    let sample = match text.trim_start().chars().next() {
        None => return Err(no_sample(path, "it is empty")),
        Some('[') => json_rows(path, text, Format::JsonArray)?,
        Some('{') => json_rows(path, text, Format::JsonLines)?,
        Some(_) => csv_rows(path, text)?,
    };
    if let Some(column) = sample.columns.iter().find(|column| !is_label(&column.name)) {
        let label = crate::terms::path::quoted(&column.name, 80);
        return Err(no_sample(path, &format!("\"{label}\" cannot be a label")));
    }
    Ok(Sample { encoding, ..sample })
}

/// A contract can name it.
fn is_label(name: &str) -> bool {
    !name.trim().is_empty() && !name.chars().any(char::is_control)
}

/// A path as it may be shown: a sample's name is its partner's.
fn shown(path: &Path) -> String {
    crate::terms::path::quoted(&path.to_string_lossy(), 4096)
}

fn no_sample(path: &Path, why: &str) -> Failure {
    Failure::usage(
        "policy.bad-sample",
        format!("{} is no sample: {why}", shown(path)),
    )
    .hint("a sample is CSV in UTF-8 or Windows-1252, or JSON objects; write other feeds by hand")
}

fn json_rows(path: &Path, text: &str, format: Format) -> Result<Sample, Failure> {
    let broken = |fault: serde_json::Error| no_sample(path, &format!("JSON: {fault}"));
    let rows: Vec<Value> = match format {
        Format::JsonArray => serde_json::from_str(text).map_err(broken)?,
        Format::JsonLines | Format::Csv { .. } => serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(broken)?,
    };
    let mut columns: Vec<Sketch> = Vec::new();
    let mut count: u64 = 0;
    for row in &rows {
        let Some(object) = row.as_object() else {
            return Err(no_sample(path, "a row is no object"));
        };
        for name in object.keys() {
            if !columns.iter().any(|column| column.name == *name) {
                let mut column = Sketch::new(name);
                for _ in 0..count {
                    column.add("");
                }
                columns.push(column);
            }
        }
        for column in &mut columns {
            match object.get(&column.name) {
                Some(Value::String(text)) => column.add(text),
                Some(Value::Null) | None => column.add(""),
                Some(other) => column.add(&other.to_string()),
            }
        }
        count += 1;
    }
    Ok(Sample {
        format,
        encoding: "utf-8",
        rows: count,
        columns,
        trailer: None,
    })
}

fn csv_rows(path: &Path, text: &str) -> Result<Sample, Failure> {
    let delimiter = [b',', b';', b'\t', b'|']
        .into_iter()
        .max_by_key(|delimiter| regularity(text, *delimiter))
        .unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let broken = |fault: csv::Error| no_sample(path, &format!("CSV: {fault}"));
    let Some(first) = records.next().transpose().map_err(broken)? else {
        return Err(no_sample(path, "it is empty"));
    };
    let header = is_header(&first);
    let mut columns: Vec<Sketch> = first
        .iter()
        .enumerate()
        .map(|(number, label)| {
            if header {
                Sketch::new(label)
            } else {
                Sketch::new(&format!("column_{}", number + 1))
            }
        })
        .collect();
    let mut rows = 0;
    let mut trailer = None;
    let given = (!header).then_some(Ok(first.clone()));
    for record in given.into_iter().chain(records) {
        let record = record.map_err(broken)?;
        trailer = None;
        if record.len() != columns.len() {
            // Elsewhere than at the end it is a broken row: the draft says so of its sample.
            trailer = record.get(0).map(str::to_owned);
            continue;
        }
        rows += 1;
        for (column, value) in columns.iter_mut().zip(&record) {
            column.add(value);
        }
    }
    Ok(Sample {
        format: Format::Csv { delimiter, header },
        encoding: "utf-8",
        rows,
        columns,
        trailer,
    })
}

/// How many of the first rows have as many cells as the first, and how many cells that are.
fn regularity(text: &str, delimiter: u8) -> (usize, usize) {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(text.as_bytes());
    let cells: Vec<usize> = reader
        .records()
        .take(ROWS_FOR_DIALECT)
        .map_while(Result::ok)
        .map(|record| record.len())
        .collect();
    let first = cells.first().copied().unwrap_or(0);
    if first < 2 {
        return (0, first);
    }
    let same = cells.iter().filter(|count| **count == first).count();
    (same, first)
}

/// Labels are not empty, differ, and none is a number or a date.
fn is_header(record: &csv::StringRecord) -> bool {
    let labels: std::collections::BTreeSet<&str> = record.iter().collect();
    let is_label = |label: &str| {
        let mut sketch = Sketch::new("");
        sketch.add(label);
        let is_text = matches!(sketch.guess().kind, Kind::Text(TextFormat::Any));
        !label.trim().is_empty() && is_text
    };
    labels.len() == record.len() && record.iter().all(is_label)
}

/// Samples of one feed have the same columns.
fn merge(paths: &[PathBuf], samples: Vec<Sample>) -> Result<Sample, Failure> {
    let mut samples = samples.into_iter();
    let Some(mut all) = samples.next() else {
        return Err(Failure::usage("policy.bad-sample", "there is no sample"));
    };
    for (sample, path) in samples.zip(paths.iter().skip(1)) {
        let names = |sample: &Sample| -> Vec<String> {
            let columns = sample.columns.iter();
            columns.map(|column| column.name.clone()).collect()
        };
        if sample.format != all.format || names(&sample) != names(&all) {
            return Err(no_sample(
                path,
                "it is written otherwise than the first one",
            ));
        }
        if sample.encoding != all.encoding {
            all.encoding = "windows-1252";
        }
        all.rows += sample.rows;
        for (column, more) in all.columns.iter_mut().zip(sample.columns) {
            column.join(more);
        }
    }
    Ok(all)
}

// === the draft ===

fn head_of(partner: &PartnerId) -> String {
    format!("version = 1\n\n[partner]\nid   = \"{partner}\"\nname = \"{partner}\"\n")
}

fn feed_of(partner: &PartnerId, feed: &FeedId, paths: &[PathBuf], sample: &Sample) -> String {
    let file_name = |path: &PathBuf| -> String {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let first = paths.first().map(file_name).unwrap_or_default();
    let ending = Path::new(&first).extension();
    let ending = ending.and_then(|ending| ending.to_str());
    let is_plain = |ending: &&str| ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let ending = ending.filter(is_plain);
    let ending = ending.map_or(String::new(), |ending| format!(".{ending}"));
    let mut text = String::new();
    let shown = |path: &PathBuf| crate::terms::path::quoted(&file_name(path), 80);
    let names: Vec<String> = paths.iter().map(shown).collect();
    let rows = counted(sample.rows, "row");
    // Writing to a text does not fail.
    let mut line = |args: std::fmt::Arguments<'_>| {
        let written = text.write_fmt(args);
        debug_assert!(written.is_ok());
        text.push('\n');
    };
    line(format_args!(
        "# A draft, from {rows} of {}. Read every line: the",
        names.join(", ")
    ));
    line(format_args!(
        "# sample shows what files look like, not what they may look like."
    ));
    line(format_args!("[[feed]]"));
    line(format_args!("id       = {}", quoted(feed.as_str())));
    line(format_args!("match    = {}", literal(&match_of(&first))));
    line(format_args!(
        "store    = \"lake\"                  # a [store.NAME] of the main config"
    ));
    line(format_args!(
        "key      = \"{partner}/{feed}/{{submission}}{ending}\""
    ));
    match sample.encoding {
        "utf-8" => line(format_args!("encoding = [\"utf-8\"]")),
        other => line(format_args!(
            "encoding = [{}]       # not UTF-8; the most usual of the others is guessed",
            quoted(other)
        )),
    }
    match sample.format {
        Format::Csv { delimiter, header } => line(format_args!(
            "format   = {{ type = \"csv\", delimiter = {}, header = {header} }}",
            quoted(&char::from(delimiter).to_string())
        )),
        Format::JsonLines => line(format_args!("format   = {{ type = \"ndjson\" }}")),
        Format::JsonArray => line(format_args!("format   = {{ type = \"json\" }}")),
    }
    line(format_args!("\n[feed.schema]\ncolumns = ["));
    for column in &sample.columns {
        let (definition, remarks) = column_of(column);
        for remark in remarks {
            line(format_args!("  # {remark}"));
        }
        line(format_args!("  {definition},"));
    }
    line(format_args!("]"));
    if let Some(first) = &sample.trailer {
        let pattern = format!("{}.*", regex::escape(first).replace("\\-", "-"));
        line(format_args!(
            "\n# The last line is unlike the rows: a trailer? Its groups can be compared with sums."
        ));
        line(format_args!("# [feed.control]"));
        line(format_args!("# trailer = {}", literal(&pattern)));
    }
    text
}

/// The column, and what a person should know and decide about it.
fn column_of(column: &Sketch) -> (String, Vec<String>) {
    let guess = column.guess();
    let mut parts = vec![format!("name = {}", quoted(&column.name))];
    parts.extend(kind_of(&guess.kind));
    if guess.required {
        parts.push("required = true".to_owned());
    }
    let mut remarks = Vec::new();
    remarks.extend(guess.remark.map(str::to_owned));
    if !guess.or.is_empty() {
        let others: Vec<String> = guess
            .or
            .iter()
            .map(|kind| kind_of(kind).join(", "))
            .collect();
        remarks.push(format!("the sample fits as well: {}", others.join("; ")));
    }
    remarks.extend(decisions(&guess));
    (format!("{{ {} }}", parts.join(", ")), remarks)
}

/// What is not for a program to decide.
fn decisions(guess: &Guess) -> Vec<String> {
    let mut remarks = Vec::new();
    if guess.unique {
        remarks.push("no value occurs twice: unique = true ?".to_owned());
    }
    if !guess.values.is_empty() {
        let values: Vec<String> = guess.values.iter().map(|value| quoted(value)).collect();
        remarks.push(format!("few values: enum = [{}] ?", values.join(", ")));
    }
    if let Some(pattern) = &guess.pattern {
        remarks.push(format!(
            "all of one shape: pattern = {} ?",
            literal(pattern)
        ));
    }
    let token = match guess.kind {
        Kind::Text(TextFormat::Email) => Some(("e-mail addresses", "email", ", keep = \"domain\"")),
        Kind::Text(TextFormat::Iban) => Some(("bank accounts", "iban", "")),
        Kind::Text(TextFormat::Pan) => Some(("card numbers", "pan", ", keep = \"last:4\"")),
        Kind::Boolean { .. }
        | Kind::Date { .. }
        | Kind::DateTime { .. }
        | Kind::Decimal { .. }
        | Kind::Integer
        | Kind::Text(TextFormat::Any | TextFormat::Uuid) => None,
    };
    if let Some((what, domain, keep)) = token {
        remarks.push(format!(
            "{what}, stored in clear unless: token = {{ kind = \"cmac\", domain = \"{domain}\"{keep} }}"
        ));
    }
    remarks
}

fn kind_of(kind: &Kind) -> Vec<String> {
    let typed = |name: &str| format!("type = \"{name}\"");
    let formats = |formats: &[String]| {
        let formats: Vec<String> = formats.iter().map(|format| quoted(format)).collect();
        format!("formats = [{}]", formats.join(", "))
    };
    match kind {
        Kind::Boolean { yes, no } => {
            let words = |words: &[String]| {
                let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                words.join(", ")
            };
            vec![
                typed("boolean"),
                format!("true_values = [{}]", words(yes)),
                format!("false_values = [{}]", words(no)),
            ]
        }
        Kind::Date { formats: own } => vec![typed("date"), formats(own)],
        Kind::DateTime { formats: own } => vec![typed("datetime"), formats(own)],
        Kind::Decimal { precision, scale } => vec![typed(&format!("decimal({precision},{scale})"))],
        Kind::Integer => vec![typed("integer")],
        Kind::Text(format) => {
            let name = match format {
                TextFormat::Any => None,
                TextFormat::Email => Some("email"),
                TextFormat::Iban => Some("iban"),
                TextFormat::Pan => Some("pan"),
                TextFormat::Uuid => Some("uuid"),
            };
            let format = name.map(|name| format!("format = \"{name}\""));
            [typed("string")].into_iter().chain(format).collect()
        }
    }
}

/// A pattern for names like this one: its numbers may be others.
fn match_of(name: &str) -> String {
    let mut pattern = String::new();
    let chars: Vec<char> = name.chars().collect();
    for run in chars.chunk_by(|one, next| one.is_ascii_digit() == next.is_ascii_digit()) {
        let text: String = run.iter().collect();
        let is_number = text.starts_with(|c: char| c.is_ascii_digit());
        match (is_number, text.len()) {
            (true, 8) => pattern.push_str(r"\d{8}"),
            (true, _) => pattern.push_str(r"\d+"),
            (false, _) => pattern.push_str(&regex::escape(&text).replace("\\-", "-")),
        }
    }
    pattern
}

/// The same without escapes, where that can be.
fn literal(text: &str) -> String {
    if text.chars().all(|c| is_shown(c) && c != '\'') {
        return format!("'{text}'");
    }
    quoted(text)
}

/// A string of TOML, on one line and harmless to a terminal, whatever is in it.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    // What JSON escapes, TOML reads.
    for c in Value::from(text).to_string().chars() {
        if is_shown(c) {
            out.push(c);
        } else {
            let escaped = format!("\\U{:08X}", u32::from(c));
            out.push_str(&escaped);
        }
    }
    out
}

/// It stands for itself, and moves nothing on a screen.
fn is_shown(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric()
}

/// What the draft says of its own samples.
fn try_out(
    context: &mut Context,
    partner: &PartnerId,
    text: &str,
    paths: &[PathBuf],
) -> Result<Vec<Tried>, Failure> {
    let (policy, _) = policy::compile(&format!("{partner}.toml"), text, &Lists::default())
        .map_err(|mistakes| {
            let why = mistakes
                .first()
                .map_or(String::new(), Mistake::render_ascii);
            Failure::new(Exit::Internal, "policy.draft", "the draft is not valid").because(why)
        })?;
    let mut verdicts = Vec::new();
    for path in paths {
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| Failure::file("read", path, &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let feed = policy.feeds.first().cloned();
        let mut nowhere = (std::io::sink(), std::io::sink());
        let checked = inspect(
            context,
            Box::new(file),
            &name,
            feed,
            &mut nowhere.0,
            &mut nowhere.1,
        )?;
        let mut why = String::new();
        if let Some(finding) = checked.report.errors().next() {
            let sample = finding.samples.first();
            let place = sample.and_then(|sample| sample.line);
            let place = place.map_or(String::new(), |line| format!("line {line} "));
            let detail = sample.map_or("", |sample| sample.detail.as_str());
            why = format!(": {place}{}: {detail}", finding.code);
        }
        verdicts.push(Tried {
            file: shown(path),
            verdict: checked.report.verdict,
            why,
        });
    }
    Ok(verdicts)
}
