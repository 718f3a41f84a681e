//! The case folders: a policy, a file as sent, and what inspection must say about it.
//!
//! `tests/cases/NAME/` holds `input.*` (the exact bytes), `expect.toml` and a `policy.toml`, or
//! `expect.toml` names a policy that several cases share. A folder added is a test added. Every
//! input is inspected whole, byte by byte, at every two-piece cut (short inputs) and at random
//! cuts: the report and the output must be the same each time, and must be what `expect.toml`
//! says. Nothing in here writes an expectation.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use libtest_mimic::{Arguments, Failed, Trial};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::printer::print_schema;
use ring::digest;
use sallyport::decode::{Source, decode};
use sallyport::inspect::Line;
use sallyport::inspect::report::{Finding, Report};
use sallyport::policy::contract::Contract;
use sallyport::policy::lists::Lists;
use sallyport::terms;
use sallyport::terms::codes::Code;
use sallyport::terms::ids::DomainName;
use sallyport::terms::limits;
use sallyport::terms::secret::Secret;
use sallyport::tokens::{DomainKey, TokenKeys};
use serde::Deserialize;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        Trial::test(
            "there_are_at_least_two_hundred_cases",
            there_are_enough_cases,
        ),
        Trial::test(
            "every_code_inspection_can_emit_occurs_in_a_case",
            every_code_occurs,
        ),
        Trial::test("every_shared_policy_has_a_case", every_policy_is_used),
    ];
    match folders() {
        Ok(folders) => trials.extend(folders.into_iter().map(|folder| {
            let name = name_of(&folder);
            Trial::test(name, move || run(&folder).map_err(Failed::from))
        })),
        Err(why) => trials.push(Trial::test("the_case_folders_can_be_read", move || {
            Err(Failed::from(why))
        })),
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// `expect.toml`. A key that is not here is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// The file's name as the partner sent it; chooses the feed.
    name: String,
    /// A shared policy, relative to the folder; `policy.toml` in the folder otherwise.
    policy: Option<String>,
    /// A person has released the file.
    #[serde(default)]
    released: bool,
    verdict: Verdict,
    /// Data rows; always given for accepted files.
    rows: Option<u64>,
    rows_with_errors: Option<u64>,
    /// The code that refuses the file while it still arrives.
    fatal: Option<String>,
    /// Texts of the input that no report, and no output, may hold.
    #[serde(default)]
    secret: Vec<String>,
    /// Values tokenized, by column.
    tokens: Option<BTreeMap<String, u64>>,
    /// Keys of domains that differ from the usual one.
    #[serde(default)]
    keys: BTreeMap<String, Key>,
    /// The output, verbatim; or its SHA-256. One of them for accepted files, none for rejected.
    output: Option<String>,
    output_sha256: Option<String>,
    /// How the output is packed, `gzip`, `zstd` or `parquet`: it is compared when it is opened.
    output_packing: Option<String>,
    /// The rows left out, verbatim; only where a verdict leaves some out.
    rejects: Option<String>,
    /// All findings, in order of first appearance.
    #[serde(default)]
    finding: Vec<Wanted>,
    /// All control totals, when given.
    control: Option<Vec<WantedControl>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Accepted,
    Held,
    Rejected,
}

/// A domain key: 32 times the same byte.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    fill: u8,
    kid: u32,
}

/// One finding; `line`, `row`, `byte`, `value` and `detail` are those of the first sample.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    code: String,
    /// Left out: the finding is about no column.
    column: Option<String>,
    count: u64,
    line: Option<u64>,
    row: Option<u64>,
    byte: Option<u64>,
    /// The lines of all samples kept.
    lines: Option<Vec<u64>>,
    /// The sample's value as a report may show it, whole.
    sample_value: Option<String>,
    /// Part of the detail.
    detail: Option<String>,
    /// Part of the rule.
    rule: Option<String>,
    /// Part of the hint.
    hint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedControl {
    name: String,
    declared: String,
    /// Left out: it could not be counted.
    counted: Option<String>,
    #[serde(default)]
    unreadable: u64,
}

/// A case, read and compiled.
struct Case {
    expect: Expect,
    input: Vec<u8>,
    contract: Arc<Contract>,
    keys: TokenKeys,
}

/// What one inspection gave.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    report: Report,
    /// Known before the end of the file was.
    fatal: Option<Finding>,
    /// Empty for a rejected file: what was written until then is thrown away.
    output: Vec<u8>,
}

/// Inputs up to this size are cut at every position, bytes.
const EXHAUSTIVE_BYTES_MAX: usize = 4096;
/// Random ways of cutting a longer input.
const RANDOM_CUTS: u64 = 16;
/// The secret of every domain, unless the case says otherwise.
const KEY_FILL: u8 = 0x2a;
/// Randomness of the uniqueness checks.
const SEED: [u8; 16] = *b"the same for all";

// === the tests about all cases ===

fn there_are_enough_cases() -> Result<(), Failed> {
    let found = folders()?.len();
    if found < 200 {
        return Err(format!("{found} case folders, 200 at least").into());
    }
    Ok(())
}

fn every_code_occurs() -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    for folder in folders()? {
        seen.extend(expectation(&folder)?.finding.into_iter().map(|f| f.code));
    }
    let missing: Vec<_> = Code::ALL
        .into_iter()
        .filter(|code| is_of_inspection(*code) && !seen.contains(code.as_str()))
        .map(Code::as_str)
        .collect();
    if !missing.is_empty() {
        return Err(format!("no case expects {}", missing.join(", ")).into());
    }
    Ok(())
}

fn every_policy_is_used() -> Result<(), Failed> {
    let mut used = BTreeSet::new();
    for folder in folders()? {
        used.extend(expectation(&folder)?.policy);
    }
    for policy in entries(&root().join("_policies"))? {
        let shared = format!("../_policies/{}", name_of(&policy));
        if !used.contains(&shared) {
            return Err(format!("{shared} is used by no case").into());
        }
    }
    Ok(())
}

/// Codes that come from the bytes of a file, not from its name or its arrival.
fn is_of_inspection(code: Code) -> bool {
    match code {
        Code::FormatError
        | Code::EncodingError
        | Code::CompressionError
        | Code::EncryptionError
        | Code::LimitExceeded
        | Code::RowCount
        | Code::TooFewRows
        | Code::ControlTotal
        | Code::BlankLabel
        | Code::DuplicateLabel
        | Code::ExtraLabel
        | Code::MissingLabel
        | Code::IncorrectLabel
        | Code::BlankRow
        | Code::PrimaryKey
        | Code::ExtraCell
        | Code::MissingCell
        | Code::TypeError
        | Code::ConstraintError
        | Code::ForeignKey
        | Code::UniqueError
        | Code::ControlCharacters
        | Code::RowConstraint
        | Code::FormulaInjection
        | Code::SensitiveUndeclared
        | Code::MixedNewlines
        | Code::SchemaDrift
        | Code::SuspectMojibake => true,
        // None of the token kinds of this build can fail on a value.
        Code::TokenError
        | Code::DuplicateFile
        | Code::Incomplete
        | Code::NoFeed
        | Code::GatewayFull => false,
    }
}

/// Codes that end the inspection where they occur.
fn is_fatal(code: Code) -> bool {
    match code {
        Code::FormatError
        | Code::EncodingError
        | Code::CompressionError
        | Code::EncryptionError
        | Code::LimitExceeded
        | Code::BlankLabel
        | Code::DuplicateLabel
        | Code::ExtraLabel
        | Code::MissingLabel
        | Code::IncorrectLabel => true,
        Code::RowCount
        | Code::TooFewRows
        | Code::ControlTotal
        | Code::BlankRow
        | Code::PrimaryKey
        | Code::ExtraCell
        | Code::MissingCell
        | Code::TypeError
        | Code::ConstraintError
        | Code::ForeignKey
        | Code::UniqueError
        | Code::ControlCharacters
        | Code::TokenError
        | Code::RowConstraint
        | Code::FormulaInjection
        | Code::SensitiveUndeclared
        | Code::MixedNewlines
        | Code::SchemaDrift
        | Code::SuspectMojibake
        | Code::DuplicateFile
        | Code::Incomplete
        | Code::NoFeed
        | Code::GatewayFull => false,
    }
}

// === one case ===

fn run(folder: &Path) -> Result<(), String> {
    let case = read(folder)?;
    let whole = inspect(&case, [case.input.as_slice()])?;
    let mut faults = compare(&case, &whole);
    faults.extend(lawful(&case, &whole));
    if !faults.is_empty() {
        return Err(format!(
            "\n  {}\n\ngot\n{}",
            faults.join("\n  "),
            render(&whole)
        ));
    }
    cut_everywhere(&case, &whole)
}

fn read(folder: &Path) -> Result<Case, String> {
    let expect = expectation(folder)?;
    let input = entries(folder)?
        .into_iter()
        .find(|path| path.file_stem().is_some_and(is_input))
        .ok_or("no input.* in the folder")?;
    let input = fs::read(&input).map_err(|e| format!("{}: {e}", input.display()))?;
    let policy = folder.join(expect.policy.as_deref().unwrap_or("policy.toml"));
    let mut contract = contract(&policy, &expect.name)?;
    if expect.released {
        contract = Arc::new(contract.released());
    }
    let mut keys = TokenKeys::default();
    for domain in contract.domains() {
        let own = expect.keys.get(domain.as_str());
        let (fill, kid) = own.map_or((KEY_FILL, 1), |key| (key.fill, key.kid));
        let secret = Secret::new([fill; 32]);
        keys.insert(domain, DomainKey { kid, secret });
    }
    for domain in expect.keys.keys() {
        let name = DomainName::parse(domain).map_err(|e| e.to_string())?;
        if keys.get(&name).is_none() {
            return Err(format!(
                "expect.toml has a key for {domain}, a domain the policy lacks"
            ));
        }
    }
    Ok(Case {
        expect,
        input,
        contract,
        keys,
    })
}

fn is_input(stem: &OsStr) -> bool {
    stem.to_str()
        .is_some_and(|stem| stem == "input" || stem.starts_with("input."))
}

fn expectation(folder: &Path) -> Result<Expect, String> {
    let path = folder.join("expect.toml");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let expect: Expect = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let outputs = [&expect.output, &expect.output_sha256];
    let given = outputs.iter().filter(|output| output.is_some()).count();
    match expect.verdict {
        Verdict::Accepted if given != 1 || expect.rows.is_none() => Err(format!(
            "{}: an accepted file needs `rows` and one of `output`, `output_sha256`",
            path.display()
        )),
        Verdict::Held | Verdict::Rejected if given != 0 => Err(format!(
            "{}: only an accepted file has an output",
            path.display()
        )),
        Verdict::Accepted | Verdict::Held | Verdict::Rejected => Ok(expect),
    }
}

/// The compiled contract of the feed that takes a file of this name.
fn contract(path: &Path, name: &str) -> Result<Arc<Contract>, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (policy, _warnings) = sallyport::policy::compile("policies/acme.toml", &text, &lists()?)
        .map_err(|mistakes| {
            let mistakes: Vec<_> = mistakes.iter().map(|m| format!("{m:?}")).collect();
            format!("{}: {}", path.display(), mistakes.join("\n"))
        })?;
    let feed = policy
        .feed_for(name)
        .ok_or_else(|| format!("{name} fits no feed"))?;
    Ok(Arc::clone(&feed.contract))
}

/// The lists that contracts may name.
fn lists() -> Result<Lists, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/_lists");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|e| e.to_string())? {
        let entry = entry.map_err(|e| e.to_string())?;
        let content = fs::read(entry.path()).map_err(|e| e.to_string());
        files.push((entry.file_name().to_string_lossy().into_owned(), content));
    }
    Ok(Lists::new(files))
}

/// Inspects the pieces one after the other.
fn inspect<'p>(case: &Case, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Outcome, String> {
    let mut line = Line::for_contract(Arc::clone(&case.contract), &case.keys, SEED)
        .map_err(|e| e.to_string())?;
    let mut output = Vec::new();
    for piece in pieces {
        line.push(piece, &mut output);
    }
    if let Some(shape) = case.contract.columnar() {
        let source: Arc<dyn Source> = Arc::new(case.input.clone());
        let result = decode(
            shape.format,
            shape.sheet.as_deref(),
            &source,
            &mut |found| line.decoded(&found, &mut output),
        );
        line.decoding_ended(&result, &mut output);
    }
    let fatal = line.fatal().cloned();
    let report = line.finish(&mut output);
    if report.verdict != terms::verdict::Verdict::Accepted {
        output.clear();
    }
    Ok(Outcome {
        report,
        fatal,
        output,
    })
}

// === against expect.toml ===

/// Every difference, one line each.
fn compare(case: &Case, got: &Outcome) -> Vec<String> {
    let expect = &case.expect;
    let report = &got.report;
    let mut faults = Vec::new();
    let verdict = match report.verdict {
        terms::verdict::Verdict::Accepted => Verdict::Accepted,
        terms::verdict::Verdict::Held => Verdict::Held,
        terms::verdict::Verdict::Rejected => Verdict::Rejected,
    };
    differ(&mut faults, "verdict", &expect.verdict, &verdict);
    if let Some(rows) = &expect.rows {
        differ(&mut faults, "rows", rows, &report.rows);
    }
    if let Some(rows) = &expect.rows_with_errors {
        differ(
            &mut faults,
            "rows_with_errors",
            rows,
            &report.rows_with_errors,
        );
    }
    if let Some(tokens) = &expect.tokens {
        differ(&mut faults, "tokens", tokens, &report.tokens);
    }
    let fatal = got.fatal.as_ref().map(|finding| finding.code);
    let may_be_fatal = expect
        .finding
        .iter()
        .any(|wanted| Code::find(&wanted.code).is_some_and(is_fatal));
    if expect.fatal.is_some() || !may_be_fatal {
        let fatal = fatal.map(|code| code.as_str().to_owned());
        differ(&mut faults, "fatal before the end", &expect.fatal, &fatal);
    }
    for (number, pair) in (1..).zip(pairs(&expect.finding, &report.findings)) {
        match pair {
            (Some(wanted), Some(finding)) => {
                compare_finding(&mut faults, number, wanted, finding);
            }
            (Some(wanted), None) => faults.push(format!(
                "finding {number}: expected {} {}, got none",
                wanted.code,
                wanted.column.as_deref().unwrap_or("-"),
            )),
            (None, Some(finding)) => faults.push(format!(
                "finding {number}: expected none, got {} {}",
                finding.code,
                finding.column.as_deref().unwrap_or("-"),
            )),
            (None, None) => {}
        }
    }
    if let Some(wanted) = &expect.control {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|c| (&c.name, &c.declared, &c.counted, c.unreadable))
            .collect();
        let found: Vec<_> = report
            .controls
            .iter()
            .map(|c| (&c.name, &c.declared, &c.counted, c.unreadable))
            .collect();
        differ(&mut faults, "control", &wanted, &found);
    }
    if let Some(output) = &expect.output {
        let found = opened(&got.output, expect.output_packing.as_deref());
        let found = String::from_utf8_lossy(&found);
        differ(&mut faults, "output", &output.as_str(), &found.as_ref());
    }
    let rejects = String::from_utf8_lossy(&report.rejects);
    if let Some(wanted) = &expect.rejects {
        differ(&mut faults, "rejects", &wanted.as_str(), &&*rejects);
    } else if expect.verdict != Verdict::Accepted && !rejects.is_empty() {
        faults.push(format!(
            "rows are kept of a file that is not accepted: {rejects}"
        ));
    }
    if let Some(wanted) = &expect.output_sha256 {
        let found = HEXLOWER.encode(digest::digest(&digest::SHA256, &got.output).as_ref());
        differ(&mut faults, "output_sha256", wanted, &found);
    }
    faults
}

/// What was packed, or why it does not open.
fn opened(output: &[u8], packing: Option<&str>) -> Vec<u8> {
    let opened = match packing {
        Some("gzip") => {
            let mut opened = Vec::new();
            flate2::read::MultiGzDecoder::new(output)
                .read_to_end(&mut opened)
                .map(|_| opened)
        }
        Some("parquet") => rows_of_parquet(output).map_err(io::Error::other),
        Some("zstd") => zstd::stream::decode_all(output),
        Some(other) => Ok(format!("no such compression: {other}").into_bytes()),
        None => Ok(output.to_vec()),
    };
    opened.unwrap_or_else(|fault| fault.to_string().into_bytes())
}

/// Type and name of each column, how the first one is compressed, and each row.
fn rows_of_parquet(output: &[u8]) -> Result<Vec<u8>, ParquetError> {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(output))?;
    let mut text = Vec::new();
    print_schema(&mut text, reader.metadata().file_metadata().schema());
    for group in reader.metadata().row_groups() {
        if let Some(column) = group.columns().first() {
            text.extend_from_slice(format!("{}\n", column.compression()).as_bytes());
        }
    }
    for row in reader.get_row_iter(None)? {
        text.extend_from_slice(format!("{}\n", row?).as_bytes());
    }
    Ok(text)
}

fn compare_finding(faults: &mut Vec<String>, number: u32, wanted: &Wanted, finding: &Finding) {
    let mut field = |name: &str, wanted: &dyn std::fmt::Debug, got: &dyn std::fmt::Debug| {
        let (wanted, got) = (format!("{wanted:?}"), format!("{got:?}"));
        if wanted != got {
            faults.push(format!(
                "finding {number}: {name}: expected {wanted}, got {got}"
            ));
        }
    };
    field("code", &wanted.code, &finding.code.as_str());
    field("column", &wanted.column, &finding.column);
    field("count", &wanted.count, &finding.count);
    let first = finding.samples.first().cloned().unwrap_or_default();
    for (name, wanted, got) in [
        ("line", wanted.line, first.line),
        ("row", wanted.row, first.row),
        ("byte", wanted.byte, first.byte),
    ] {
        if wanted.is_some() {
            field(name, &wanted, &got);
        }
    }
    if let Some(lines) = &wanted.lines {
        let got: Vec<_> = finding.samples.iter().filter_map(|s| s.line).collect();
        field("lines", lines, &got);
    }
    if wanted.sample_value.is_some() {
        field("value", &wanted.sample_value, &first.value);
    }
    for (name, part, whole) in [
        ("detail", &wanted.detail, Some(&first.detail)),
        ("rule", &wanted.rule, Some(&finding.rule)),
        ("hint", &wanted.hint, finding.hint.as_ref()),
    ] {
        if let Some(part) = part
            && !whole.is_some_and(|whole| whole.contains(part.as_str()))
        {
            let got = whole.map_or("none", |whole| whole.as_str());
            faults.push(format!(
                "finding {number}: {name}: expected to hold {part:?}, got {got:?}"
            ));
        }
    }
}

/// What holds for every report, whatever the case.
fn lawful(case: &Case, got: &Outcome) -> Vec<String> {
    let mut faults = Vec::new();
    let report = &got.report;
    if report.rows_with_errors > report.rows {
        faults.push("more rows with errors than rows".to_owned());
    }
    for finding in &report.findings {
        let code = finding.code;
        let kept = u64::try_from(finding.samples.len()).unwrap_or(u64::MAX);
        let cap = u64::try_from(limits::SAMPLES_PER_CODE_MAX).unwrap_or(u64::MAX);
        if kept < finding.count.min(cap) || kept > finding.count {
            faults.push(format!("{code}: {} faults, {kept} samples", finding.count));
        }
        for sample in &finding.samples {
            let size = u64::try_from(case.input.len()).unwrap_or(u64::MAX);
            let is_plain = got.report.bytes_inspected == size;
            if is_plain && sample.byte.is_some_and(|byte| byte > size) {
                faults.push(format!("{code}: a position past the end of the file"));
            }
            if sample.line == Some(0) || sample.row == Some(0) {
                faults.push(format!("{code}: lines and rows count from 1"));
            }
            if !sample.detail.is_ascii() || sample.detail.chars().any(char::is_control) {
                faults.push(format!("{code}: detail {:?} is not plain", sample.detail));
            }
            if sample.detail.is_empty() {
                faults.push(format!("{code}: a sample without detail"));
            }
            let value = sample.value.as_deref().unwrap_or_default();
            if value.chars().any(char::is_control) {
                faults.push(format!("{code}: value {value:?} can drive a terminal"));
            }
        }
    }
    let shown = format!("{report:?} {:?}", got.fatal);
    let output = String::from_utf8_lossy(&got.output);
    for secret in &case.expect.secret {
        if shown.contains(secret.as_str()) || output.contains(secret.as_str()) {
            faults.push(format!("{secret:?} shows in the report or in the output"));
        }
    }
    faults
}

fn differ<T: PartialEq + std::fmt::Debug>(
    faults: &mut Vec<String>,
    what: &str,
    wanted: &T,
    got: &T,
) {
    if wanted != got {
        faults.push(format!(
            "{what}:\n    expected {wanted:?}\n    got      {got:?}"
        ));
    }
}

/// Both lists side by side, to the end of the longer one.
fn pairs<'a, A, B>(
    left: &'a [A],
    right: &'a [B],
) -> impl Iterator<Item = (Option<&'a A>, Option<&'a B>)> {
    (0..left.len().max(right.len())).map(|at| (left.get(at), right.get(at)))
}

fn render(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let mut lines = vec![format!(
        "rows {} with errors {} bytes {} tokens {:?}",
        report.rows, report.rows_with_errors, report.bytes_inspected, report.tokens
    )];
    for finding in &report.findings {
        lines.push(format!(
            "{} column {:?} count {} rule {:?} hint {:?}",
            finding.code, finding.column, finding.count, finding.rule, finding.hint
        ));
        lines.extend(finding.samples.iter().take(8).map(|sample| {
            format!(
                "  line {:?} row {:?} byte {:?} value {:?} detail {:?}",
                sample.line, sample.row, sample.byte, sample.value, sample.detail
            )
        }));
    }
    lines.extend(report.controls.iter().map(|control| format!("{control:?}")));
    if let Some(fatal) = &outcome.fatal {
        lines.push(format!("fatal before the end: {}", fatal.code));
    }
    if report.is_clean() {
        let text = String::from_utf8_lossy(&outcome.output);
        let shown: String = text.chars().take(2000).collect();
        lines.push(format!("output {shown:?}"));
    }
    format!("  {}\n", lines.join("\n  "))
}

// === split invariance ===

fn cut_everywhere(case: &Case, whole: &Outcome) -> Result<(), String> {
    let input = case.input.as_slice();
    let same = |how: &dyn Fn() -> String, got: &Outcome| {
        if got == whole {
            return Ok(());
        }
        Err(format!(
            "\n  not the same {}\n\nwhole\n{}\ncut\n{}",
            how(),
            render(whole),
            render(got)
        ))
    };
    let got = inspect(case, [&b""[..], input, b""])?;
    same(&|| "between two empty pieces".to_owned(), &got)?;
    if input.len() <= EXHAUSTIVE_BYTES_MAX {
        for at in 0..=input.len() {
            let (head, tail) = input.split_at(at);
            let got = inspect(case, [head, tail])?;
            same(&|| format!("when cut at {at}"), &got)?;
        }
    }
    let got = inspect(case, input.chunks(1))?;
    same(&|| "byte by byte".to_owned(), &got)?;
    let mut random = Random::seeded(input);
    for _ in 0..RANDOM_CUTS {
        let longest = 1 << (1 + random.below(16));
        let mut lengths = Vec::new();
        let mut pieces = Vec::new();
        let mut rest = input;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at((1 + random.below(longest)).min(rest.len()));
            lengths.push(head.len());
            pieces.push(head);
            rest = tail;
        }
        let got = inspect(case, pieces)?;
        same(&|| format!("in pieces of {lengths:?}"), &got)?;
    }
    Ok(())
}

/// Xorshift: the cuts of an input are the same on every run.
struct Random(u64);

// === impl Random ===

impl Random {
    fn seeded(input: &[u8]) -> Self {
        let fnv = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(fnv | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound).unwrap_or(1).max(1);
        usize::try_from((self.0 >> 11) % bound).unwrap_or(0)
    }
}

// === folders ===

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// The case folders, sorted; those that start with `_` are shared material.
fn folders() -> Result<Vec<PathBuf>, String> {
    let mut found = entries(&root())?;
    found.retain(|path| path.is_dir() && !name_of(path).starts_with('_'));
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let read = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found = Vec::new();
    for entry in read {
        found.push(entry.map_err(|e| e.to_string())?.path());
    }
    found.sort();
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
