//! The receipt: one record of what became of a file, for people (`.txt`), for programs (`.json`),
//! and the short lines a client sees while it is still connected.
//!
//! Everything here is ASCII and bounded; values come from the report, which holds nothing
//! sensitive. The same inputs give the same bytes.

use serde::Serialize;

use crate::authority::places::Area;
use crate::inspect::report::{Control, Finding, Report, Sample};
use crate::ledger::submissions::{Beginning, Row};
use crate::terms::clock::Timestamp;
use crate::terms::codes::Code;
use crate::terms::digest::{Digest, DigestKind};
use crate::terms::ids::{FeedId, PartnerId, SubmissionId};
use crate::terms::limits;
use crate::terms::verdict::Verdict;

/// What a receipt is about.
#[derive(Debug)]
pub(super) struct Facts<'f> {
    /// The gateway's name.
    pub(super) instance: &'f str,
    /// Where partners ask.
    pub(super) help: Option<&'f str>,
    /// The submission as it began.
    pub(super) beginning: &'f Beginning,
    /// Bytes as sent.
    pub(super) bytes: u64,
    /// Digest as sent.
    pub(super) digest: Digest,
    /// Last byte.
    pub(super) received_at: Timestamp,
    /// Verdict.
    pub(super) decided_at: Timestamp,
    /// What inspection found, with the findings of intake itself.
    pub(super) report: &'f Report,
    /// The submission that holds the same content already, and when it was accepted.
    pub(super) known_as: Option<KnownAs>,
    /// Whether it counts.
    pub(super) area: Area,
    /// What it comes to.
    pub(super) verdict: Verdict,
    /// What the person said who decided about it while it was held.
    pub(super) decision: Option<&'f str>,
}

/// A file that was checked where it lies and never sent: what its receipt would say.
#[derive(Debug)]
pub struct Preview<'f> {
    /// Whose policy it was held against.
    pub partner: &'f PartnerId,
    /// The feed that took it; `None`: its name fits none.
    pub feed: Option<&'f FeedId>,
    /// Version of that policy.
    pub policy_version: u32,
    /// Where partners ask.
    pub help: Option<&'f str>,
    /// The name it was checked under.
    pub name: &'f str,
    /// Bytes as read.
    pub bytes: u64,
    /// Digest of them; `None` when they were not read.
    pub digest: Option<Digest>,
    /// When.
    pub checked_at: Timestamp,
    /// What inspection found.
    pub report: &'f Report,
}

/// `sallyport.receipt/1`; fields are only ever added. What is not known is left out.
#[derive(Debug, Serialize)]
struct ReceiptJson<'f> {
    schema: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    submission: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'f str>,
    /// `production`, `test`, or `check` for a file that was never sent.
    area: &'static str,
    partner: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    feed: Option<&'f str>,
    policy_version: u32,
    channel: &'f str,
    file: FileJson<'f>,
    verdict: &'static str,
    decided_at: String,
    rows: u64,
    errors_total: u64,
    rows_with_errors: u64,
    /// Rows with a fault, of a file that is forwarded without them.
    #[serde(skip_serializing_if = "is_zero")]
    rows_left_out: u64,
    truncated: bool,
    errors: Vec<ErrorJson<'f>>,
    warnings: Vec<ErrorJson<'f>>,
    control: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    tokenized: std::collections::BTreeMap<&'f str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known_as: Option<String>,
    /// Of a file that was held: what the person said who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionJson<'f>>,
    next: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'f str>,
}

#[derive(Debug, Serialize)]
struct DecisionJson<'f> {
    reason: &'f str,
}

#[derive(Debug, Serialize)]
struct FileJson<'f> {
    name: &'f str,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct ErrorJson<'f> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'f str>,
    count: u64,
    rule: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'f str>,
    examples: Vec<ExampleJson<'f>>,
}

#[derive(Debug, Serialize)]
struct ExampleJson<'f> {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    byte: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'f str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'f str,
}

/// The submission that holds the same content.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownAs {
    pub(super) id: SubmissionId,
    /// When it was accepted.
    pub(super) at: Timestamp,
    /// No row was left out of it.
    pub(super) is_whole: bool,
}

// === impl KnownAs ===

impl KnownAs {
    /// `now`: should its own decision have no time.
    pub(super) fn of(row: &Row, now: Timestamp) -> Self {
        Self {
            id: row.id,
            at: row.decided_at.unwrap_or(now),
            is_whole: row.rows_left_out == 0,
        }
    }
}

// === impl Facts ===

impl Facts<'_> {
    /// Base of the receipt's names: the file's name cut at 200 bytes on a character border, the
    /// short id, `receipt`.
    #[must_use]
    pub(super) fn base(&self) -> String {
        let mut name = self.beginning.name.as_str();
        if name.len() > 200 {
            let cut = (0..=200)
                .rev()
                .find(|at| name.is_char_boundary(*at))
                .unwrap_or(0);
            name = name.get(..cut).unwrap_or_default();
        }
        format!("{name}.{}.receipt", self.beginning.id.short())
    }

    /// The `.txt`: at most 80 columns, ASCII, CRLF.
    #[must_use]
    pub(super) fn to_text(&self) -> String {
        let mut page = Page::default();
        let title = "SALLYPORT RECEIPT";
        page.line(&format!(
            "{title}{:>width$}",
            self.instance,
            width = 80 - title.len()
        ));
        page.line("");
        page.line(&format!(
            "File        {}   {} bytes",
            ascii(&self.beginning.name, 120),
            self.bytes
        ));
        page.line(&format!(
            "{:<12}{}",
            self.digest.kind.title(),
            self.digest.hex()
        ));
        page.line(&format!(
            "Received    {}  by {}, feed {}, policy version {}",
            self.received_at.to_human(),
            self.beginning.origin.channel.to_ascii_uppercase(),
            self.beginning.feed,
            self.beginning.policy_version,
        ));
        page.line(&format!(
            "Submission  {}   (quote this when you write to us)",
            self.beginning.id.short()
        ));
        if self.area == Area::Test {
            page.line("Area        test: checked in full, and nothing is forwarded or kept");
        }
        page.line("");
        self.verdict_text(&mut page);
        self.control_text(&mut page);
        self.next_text(&mut page);
        page.text
    }

    fn verdict_text(&self, page: &mut Page) {
        if let Some(KnownAs { id, at, .. }) = self.known_as {
            page.line(&format!(
                "ACCEPTED  already, as {} on {}.",
                id.short(),
                at.to_human()
            ));
            page.line("The same content was accepted before; nothing was stored twice.");
            if self.left_out() == 0 {
                return;
            }
            page.line(&format!(
                "Left out as they were then: {} of {}.",
                self.left_out(),
                self.report.rows
            ));
        }
        match self.verdict {
            Verdict::Accepted if self.known_as.is_some() => {}
            Verdict::Accepted => page.line(&format!("ACCEPTED  {}", self.size_words())),
            Verdict::Held => page.line(&format!(
                "HELD  {}. Nothing is forwarded until a person has looked at it.",
                self.error_words()
            )),
            Verdict::Rejected => page.line(&format!(
                "REJECTED  {}. Nothing from this file was processed.",
                self.error_words()
            )),
        }
        if let Some(reason) = self.decision {
            page.line(&format!("Decided     by a person: {}", ascii(reason, 400)));
        }
        for finding in self.report.findings.iter().filter(|f| f.is_warning) {
            page.line(&format!("warning: {}  {}", finding.code, heading(finding)));
        }
        for (number, finding) in (1_usize..).zip(self.report.errors()) {
            page.line("");
            page.line(&format!(
                "{number}. {}   {}",
                finding.code,
                heading(finding)
            ));
            for (place, told) in places(finding) {
                page.item(&place, &told);
            }
        }
    }

    fn control_text(&self, page: &mut Page) {
        if self.report.controls.is_empty() {
            return;
        }
        page.line("");
        for control in &self.report.controls {
            page.line(&format!("Trailer     {}", control_words(control)));
        }
    }

    fn next_text(&self, page: &mut Page) {
        page.line("");
        let now = match self.verdict {
            Verdict::Held => {
                "Wait: this receipt will say what was decided. Or send a correct file."
            }
            Verdict::Accepted | Verdict::Rejected => next(self.verdict, self.left_out()),
        };
        if self.verdict != Verdict::Accepted || self.left_out() > 0 {
            page.line(&format!("What now    {now}"));
            let base = ascii(&self.base(), 240);
            page.line(&format!("            Same list for programs: {base}.json"));
            if self.report.errors_total() > limits::TABLE_FROM_ERRORS {
                page.line(&format!("            As a table: {base}.errors.csv"));
            }
        }
        if let Some(help) = self.help {
            page.line(&format!("Questions   {}", ascii(help, 60)));
        }
    }

    /// The `.json`.
    #[must_use]
    pub(super) fn to_json(&self) -> String {
        let mut receipt = ReceiptJson::of(self.report, self.verdict);
        receipt.submission = Some(self.beginning.id.to_string());
        receipt.instance = Some(self.instance);
        receipt.area = self.area.name();
        receipt.partner = self.beginning.partner.as_str();
        receipt.feed = Some(self.beginning.feed.as_str());
        receipt.policy_version = self.beginning.policy_version;
        receipt.channel = &self.beginning.origin.channel;
        receipt.file = FileJson {
            name: &self.beginning.name,
            bytes: self.bytes,
            sha256: self.digest.hex_of(DigestKind::Sha256),
            blake3: self.digest.hex_of(DigestKind::Blake3),
            received_at: Some(self.received_at.to_rfc3339()),
        };
        receipt.decided_at = self.decided_at.to_rfc3339();
        receipt.known_as = self.known_as.map(|known| known.id.to_string());
        receipt.rows_left_out = self.left_out();
        receipt.next = next(self.verdict, self.left_out());
        receipt.decision = self.decision.map(|reason| DecisionJson { reason });
        receipt.help = self.help;
        let mut text = serde_json::to_string_pretty(&receipt).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The `.errors.csv` (RFC 4180), in file order, where there are more than
    /// [`limits::TABLE_FROM_ERRORS`]; what is not listed is counted in its last lines.
    #[must_use]
    pub(super) fn to_table(&self) -> Option<String> {
        if self.report.errors_total() <= limits::TABLE_FROM_ERRORS {
            return None;
        }
        let mut table = "line,row,column,code,value_or_shape,detail\r\n".to_owned();
        let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
        let mut listed: Vec<(&Finding, u64)> = self.report.errors().map(|one| (one, 0)).collect();
        for (finding, sample) in self.examples() {
            if table.len() >= limits::TABLE_BYTES_MAX {
                break;
            }
            let count = listed
                .iter_mut()
                .find(|(one, _)| std::ptr::eq(*one, finding));
            if let Some((_, count)) = count {
                *count += 1;
            }
            let detail = if sample.detail.is_empty() {
                &finding.rule
            } else {
                &sample.detail
            };
            table_line(
                &mut table,
                [
                    &number(sample.line),
                    &number(sample.row),
                    finding.column.as_deref().unwrap_or_default(),
                    finding.code.as_str(),
                    sample.value.as_deref().unwrap_or_default(),
                    detail,
                ],
            );
        }
        for (finding, listed) in listed {
            let rest = finding.count.saturating_sub(listed);
            if rest > 0 {
                let column = finding.column.as_deref().unwrap_or_default();
                let more = format!("and {rest} more of this kind");
                let cells = ["", "", column, finding.code.as_str(), "", &more];
                table_line(&mut table, cells);
            }
        }
        Some(table)
    }

    /// What the client's screen shows: at most [`limits::STDERR_LINES_MAX`] lines.
    #[must_use]
    pub(super) fn told_lines(&self) -> Vec<String> {
        let name = ascii(&self.beginning.name, 80);
        let short = self.beginning.id.short();
        if let Some(KnownAs { id, at, is_whole }) = self.known_as {
            let left_out = match self.report.rows_with_errors {
                0 => String::new(),
                _ if is_whole => "  whole, under the rules of then".to_owned(),
                rows => format!("  {rows} left out, as before"),
            };
            return vec![format!(
                "ACCEPTED already, as {} on {}  {name}{left_out}",
                id.short(),
                at.to_human()
            )];
        }
        let first = match self.verdict {
            Verdict::Accepted => {
                let test = match self.area {
                    Area::Production => "",
                    Area::Test => "  (a test: nothing is forwarded)",
                };
                format!(
                    "ACCEPTED {name}  {}  submission {short}{test}",
                    self.size_words()
                )
            }
            Verdict::Held => format!(
                "HELD {name}  {}; a person will decide  submission {short}",
                self.error_words()
            ),
            Verdict::Rejected => {
                format!(
                    "REJECTED {name}  {}  submission {short}",
                    self.error_words()
                )
            }
        };
        let mut lines = vec![first];
        if self.report.errors().next().is_none() {
            return lines;
        }
        let room = limits::STDERR_LINES_MAX.saturating_sub(2);
        lines.extend(self.examples().take(room).map(|(finding, sample)| {
            let place = position(sample);
            let gap = if place.is_empty() { "" } else { "  " };
            format!(
                "  {place}{gap}{}  {}",
                finding.code,
                cut(&what(finding, sample), 120)
            )
        }));
        lines.push(format!(
            "  all errors: {}/{}.txt",
            self.area.receipts(),
            ascii(&self.base(), 240)
        ));
        lines
    }

    /// The status text of a refused CLOSE or RENAME.
    #[must_use]
    pub(super) fn status_text(&self) -> String {
        let report = format!(
            "; report {}/{}.txt",
            self.area.receipts(),
            ascii(&self.base(), 240)
        );
        let mut text = match (self.report.rows_with_errors, self.examples().next()) {
            (0, Some((finding, sample))) => {
                format!("REJECTED {}: {}", finding.code, what(finding, sample))
            }
            (_, Some((finding, sample))) => {
                format!(
                    "REJECTED {}, first: {} {}",
                    self.error_words(),
                    position(sample),
                    finding.code
                )
            }
            (_, None) => "REJECTED".to_owned(),
        };
        let room = limits::SFTP_STATUS_TEXT_BYTES_MAX.saturating_sub(report.len());
        if text.len() > room {
            text = cut(&text, room.saturating_sub(3).max(40));
        }
        cut(&(text + &report), limits::SFTP_STATUS_TEXT_BYTES_MAX - 3)
    }

    /// Samples of all errors in file order: what a person would fix first stands first.
    fn examples(&self) -> impl Iterator<Item = (&Finding, &Sample)> {
        let mut all: Vec<_> = self
            .report
            .errors()
            .flat_map(|f| f.samples.iter().map(move |s| (f, s)))
            .collect();
        all.sort_by_key(|(_, sample)| (sample.line.unwrap_or(0), sample.byte.unwrap_or(0)));
        all.into_iter()
    }

    fn size_words(&self) -> String {
        let left_out = self.left_out();
        let rows = self.report.rows.saturating_sub(left_out);
        if self.report.rows == 0 && self.report.tokens.is_empty() && self.report.controls.is_empty()
        {
            return format!("{} bytes", self.bytes);
        }
        let rows = if rows == 1 {
            "1 row".to_owned()
        } else {
            format!("{rows} rows")
        };
        match left_out {
            0 => rows,
            _ => format!("{rows}, {left_out} left out"),
        }
    }

    /// Rows with a fault that are not forwarded with the others.
    fn left_out(&self) -> u64 {
        match self.known_as {
            Some(KnownAs { is_whole: true, .. }) => 0,
            Some(_) | None => left_out(self.report, self.verdict),
        }
    }

    fn error_words(&self) -> String {
        let total = self.report.errors_total();
        let errors = if total == 1 {
            "1 error".to_owned()
        } else {
            format!("{total} errors")
        };
        match self.report.rows_with_errors {
            0 => errors,
            1 => format!("{errors} in 1 row"),
            rows => format!("{errors} in {rows} rows"),
        }
    }
}

// === impl Preview ===

impl Preview<'_> {
    /// The document a `.json` receipt would be, without what only a gateway can know.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut receipt = ReceiptJson::of(self.report, self.report.verdict);
        receipt.partner = self.partner.as_str();
        receipt.feed = self.feed.map(FeedId::as_str);
        receipt.policy_version = self.policy_version;
        receipt.file = FileJson {
            name: self.name,
            bytes: self.bytes,
            sha256: self.digest.and_then(|d| d.hex_of(DigestKind::Sha256)),
            blake3: self.digest.and_then(|d| d.hex_of(DigestKind::Blake3)),
            received_at: None,
        };
        receipt.decided_at = self.checked_at.to_rfc3339();
        receipt.help = self.help;
        serde_json::to_value(&receipt).unwrap_or_default()
    }
}

// === impl ReceiptJson ===

impl<'f> ReceiptJson<'f> {
    /// What a report says by itself; who sent the file, and to whom, is filled in by the caller.
    fn of(report: &'f Report, verdict: Verdict) -> Self {
        Self {
            schema: "sallyport.receipt/1",
            submission: None,
            instance: None,
            area: "check",
            partner: "",
            feed: None,
            policy_version: 0,
            channel: "file",
            file: FileJson {
                name: "",
                bytes: 0,
                sha256: None,
                blake3: None,
                received_at: None,
            },
            verdict: verdict.as_str(),
            decided_at: String::new(),
            rows: report.rows,
            errors_total: report.errors_total(),
            rows_with_errors: report.rows_with_errors,
            rows_left_out: left_out(report, verdict),
            truncated: report
                .findings
                .iter()
                .any(|f| u64::try_from(in_json(f)).is_ok_and(|shown| shown < f.count)),
            errors: report.errors().map(error_json).collect(),
            warnings: report
                .findings
                .iter()
                .filter(|f| f.is_warning)
                .map(error_json)
                .collect(),
            control: report.controls.iter().map(control_json).collect(),
            tokenized: report
                .tokens
                .iter()
                .filter(|_| verdict == Verdict::Accepted)
                .map(|(name, count)| (name.as_str(), *count))
                .collect(),
            known_as: None,
            decision: None,
            next: next(verdict, left_out(report, verdict)),
            help: None,
        }
    }
}

/// What its sender is to do.
fn next(verdict: Verdict, left_out: u64) -> &'static str {
    match verdict {
        Verdict::Accepted if left_out == 0 => "Nothing to do.",
        Verdict::Accepted => "Send the rows that were left out again, corrected, in a new file.",
        Verdict::Held => "Wait for a person's decision, or send a correct file.",
        Verdict::Rejected => "Correct the file and upload it again under the same name.",
    }
}

/// Rows with a fault, of a file that is forwarded without them.
fn left_out(report: &Report, verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Accepted => report.rows_with_errors,
        Verdict::Held | Verdict::Rejected => 0,
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The report as its receipt's `.json` has it: what is needed to write the receipt again.
pub(super) fn report_of(json: &[u8]) -> Option<Report> {
    let receipt: serde_json::Value = serde_json::from_slice(json).ok()?;
    let number =
        |of: &serde_json::Value, key: &str| of.get(key).and_then(serde_json::Value::as_u64);
    let text = |of: &serde_json::Value, key: &str| {
        of.get(key)
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
    };
    let mut report = Report {
        rows: number(&receipt, "rows")?,
        rows_with_errors: number(&receipt, "rows_with_errors")?,
        ..Report::default()
    };
    for (list, is_warning) in [("errors", false), ("warnings", true)] {
        for finding in receipt.get(list)?.as_array()? {
            let samples = finding.get("examples")?.as_array()?.iter();
            report.findings.push(Finding {
                code: Code::find(finding.get("code")?.as_str()?)?,
                column: text(finding, "column"),
                rule: text(finding, "rule")?,
                hint: text(finding, "hint"),
                count: number(finding, "count")?,
                samples: samples
                    .map(|sample| Sample {
                        line: number(sample, "line"),
                        row: number(sample, "row"),
                        byte: number(sample, "byte"),
                        value: text(sample, "value"),
                        detail: text(sample, "detail").unwrap_or_default(),
                    })
                    .collect(),
                is_warning,
            });
        }
    }
    let controls = receipt.get("control").and_then(|all| all.as_object());
    report.controls = controls
        .into_iter()
        .flatten()
        .map(|(name, control)| Control {
            name: name.clone(),
            declared: text(control, "declared").unwrap_or_default(),
            counted: text(control, "counted"),
            ok: control.get("ok").and_then(serde_json::Value::as_bool),
            unreadable: text(control, "skipped")
                .and_then(|words| words.split(' ').next()?.parse().ok())
                .unwrap_or(0),
        })
        .collect();
    Some(report)
}

/// Findings for people, grouped under what they have in common: code, how often, column and rule,
/// then the first places. Lines are ASCII.
#[must_use]
pub fn finding_lines(findings: &[Finding]) -> Vec<String> {
    let width = findings
        .iter()
        .map(|finding| finding.code.as_str().len())
        .max()
        .unwrap_or(0);
    let mut order: Vec<_> = Vec::new();
    for finding in findings {
        if !order.contains(&finding.code) {
            order.push(finding.code);
        }
    }
    let mut out = Vec::new();
    for code in order {
        for finding in findings.iter().filter(|finding| finding.code == code) {
            let warning = if finding.is_warning {
                "  (warning)"
            } else {
                ""
            };
            out.push(format!(
                "  {:width$}  {}{warning}",
                code.as_str(),
                heading(finding)
            ));
            for (place, told) in places(finding) {
                let place = if place.is_empty() {
                    place
                } else {
                    format!("{place:<11}  ")
                };
                out.push(format!("    {place}{told}"));
            }
        }
    }
    out
}

/// How often, in which column, and the rule: `2 times in amount: decimal(12,2)`.
fn heading(finding: &Finding) -> String {
    let column = finding
        .column
        .as_ref()
        .map(|column| format!(" in {}", ascii(column, 40)))
        .unwrap_or_default();
    let times = times(finding.count);
    format!("{times}{column}: {}", ascii(&finding.rule, 200))
}

/// The first places of a finding with what is wrong there, how many more there are, and the hint.
fn places(finding: &Finding) -> Vec<(String, String)> {
    let shown = finding.samples.len().min(limits::SAMPLES_IN_TEXT_MAX);
    let mut lines: Vec<_> = finding
        .samples
        .iter()
        .take(shown)
        .map(|sample| (position(sample), under_heading(finding, sample)))
        .collect();
    let rest = finding
        .count
        .saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX));
    if rest > 0 {
        lines.push((String::new(), format!("... and {rest} more")));
    }
    if let Some(hint) = &finding.hint {
        lines.push((String::new(), ascii(hint, 200)));
    }
    lines
}

/// One fault below its heading: the value where there is one, and the cause where the heading does
/// not say it.
fn under_heading(finding: &Finding, sample: &Sample) -> String {
    let is_news = !sample.detail.is_empty() && sample.detail != finding.rule;
    match &sample.value {
        Some(value) if is_news => {
            format!("\"{}\": {}", ascii(value, 60), ascii(&sample.detail, 200))
        }
        Some(value) => format!("\"{}\"", ascii(value, 60)),
        None if is_news => ascii(&sample.detail, 200),
        None => ascii(&finding.rule, 200),
    }
}

/// `line 3`, `row 2` of a file without lines, or nothing for a fault of the whole file.
fn position(sample: &Sample) -> String {
    match (sample.line, sample.row) {
        (Some(line), _) => format!("line {line}"),
        (None, Some(row)) => format!("row {row}"),
        (None, None) => String::new(),
    }
}

/// One fault in words, without its position.
fn what(finding: &Finding, sample: &Sample) -> String {
    let why = if sample.detail.is_empty() {
        finding.rule.as_str()
    } else {
        sample.detail.as_str()
    };
    match (&finding.column, &sample.value) {
        (Some(column), Some(value)) => {
            format!(
                "{} \"{}\": {}",
                ascii(column, 40),
                ascii(value, 60),
                ascii(why, 200)
            )
        }
        (Some(column), None) if !why.contains(column.as_str()) => {
            format!("{}: {}", ascii(column, 40), ascii(why, 200))
        }
        _ => ascii(why, 200),
    }
}

fn times(count: u64) -> String {
    if count == 1 {
        "once".to_owned()
    } else {
        format!("{count} times")
    }
}

/// A control total against what was counted.
#[must_use]
pub fn control_words(control: &Control) -> String {
    let name = ascii(&control.name, 60);
    let declared = ascii(&control.declared, 60);
    match &control.counted {
        Some(_) if control.ok == Some(true) => format!("{name} {declared}, as declared"),
        Some(counted) => format!("{name} declared {declared}, counted {}", ascii(counted, 60)),
        None => format!(
            "{name} {declared} not checked ({} unreadable values)",
            control.unreadable
        ),
    }
}

fn control_json(control: &Control) -> (String, serde_json::Value) {
    let mut value = serde_json::json!({ "declared": control.declared });
    if let Some(fields) = value.as_object_mut() {
        match &control.counted {
            Some(counted) => {
                fields.insert("counted".to_owned(), counted.clone().into());
                fields.insert("ok".to_owned(), control.ok.into());
            }
            None => {
                let skipped = format!("{} unreadable values", control.unreadable);
                fields.insert("skipped".to_owned(), skipped.into());
            }
        }
    }
    (control.name.clone(), value)
}

/// How many samples of a finding the `.json` shows.
fn in_json(finding: &Finding) -> usize {
    finding.samples.len().min(limits::SAMPLES_PER_CODE_MAX)
}

fn error_json(finding: &Finding) -> ErrorJson<'_> {
    ErrorJson {
        code: finding.code.as_str(),
        column: finding.column.as_deref(),
        count: finding.count,
        rule: &finding.rule,
        hint: finding.hint.as_deref(),
        examples: finding
            .samples
            .iter()
            .take(in_json(finding))
            .map(|sample| ExampleJson {
                line: sample.line,
                row: sample.row,
                byte: sample.byte,
                value: sample.value.as_deref(),
                detail: &sample.detail,
            })
            .collect(),
    }
}

/// Lower-case hex.
#[must_use]
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Partner text made safe for any screen: everything beyond printable ASCII is escaped, the whole
/// is cut at `chars_max`.
#[must_use]
pub(super) fn ascii(text: &str, chars_max: usize) -> String {
    let escaped: String = text
        .chars()
        .take(chars_max.saturating_add(1))
        .flat_map(|c| {
            let plain = (' '..='~').contains(&c);
            let escape = if plain {
                None
            } else {
                Some(c.escape_default())
            };
            plain
                .then_some(c)
                .into_iter()
                .chain(escape.into_iter().flatten())
        })
        .collect();
    cut(&escaped, chars_max)
}

/// One line of the table of errors. People open it in a spreadsheet, which may take another mark than
/// a comma for the end of a cell: nothing in it is a formula there.
fn table_line(out: &mut String, cells: [&str; 6]) {
    const SEPARATORS: [char; 6] = [',', ';', '\t', '|', '\r', '\n'];
    let is_formula = |c: char| matches!(c, '=' | '+' | '-' | '@');
    for (place, cell) in cells.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        let needs_quotes = cell.contains(SEPARATORS) || cell.contains('"');
        if !needs_quotes && !cell.trim_start().starts_with(is_formula) {
            out.push_str(cell);
            continue;
        }
        out.push('"');
        let mut begins = true;
        for c in cell.chars() {
            if begins && is_formula(c) {
                out.push('\'');
            }
            begins = SEPARATORS.contains(&c) || begins && matches!(c, ' ' | '"' | '\'');
            if c == '"' {
                out.push('"');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push_str("\r\n");
}

/// Cuts ASCII text, showing that it was cut.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}...", text.get(..bytes_max).unwrap_or_default())
}

/// Lines of at most 80 columns with CRLF ends.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.wrapped(line, 12);
    }

    fn item(&mut self, place: &str, what: &str) {
        self.wrapped(&format!("   {place:<14}   {what}"), 20);
    }

    fn wrapped(&mut self, line: &str, indent: usize) {
        let mut rest = line;
        let mut lead = 0;
        loop {
            let width = 80 - lead;
            if rest.len() <= width {
                self.raw(rest, lead);
                return;
            }
            let window = rest.get(..width).unwrap_or(rest);
            let at = window
                .rfind(' ')
                .filter(|at| *at > width / 2)
                .unwrap_or(width);
            let (head, tail) = rest.split_at(at);
            self.raw(head.trim_end(), lead);
            rest = tail.trim_start();
            lead = indent;
        }
    }

    fn raw(&mut self, line: &str, lead: usize) {
        self.text.extend(std::iter::repeat_n(
            ' ',
            if line.is_empty() { 0 } else { lead },
        ));
        self.text.push_str(line);
        self.text.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::submissions::Origin;
    use crate::terms::digest::{Digest, DigestKind};
    use crate::terms::ids::{FeedId, PartnerId};

    fn beginning(name: &str) -> Beginning {
        let opened_at = Timestamp::from_micros(1_795_239_870_996_000);
        Beginning {
            id: SubmissionId::new(opened_at, [7; 10]),
            partner: PartnerId::parse("acme").unwrap(),
            feed: FeedId::parse("orders").unwrap(),
            path: format!("/inbox/{name}"),
            name: name.to_owned(),
            origin: Origin {
                channel: "sftp".to_owned(),
                address: "127.0.0.1".to_owned(),
                client: "OpenSSH".to_owned(),
                key: "SHA256:x".to_owned(),
            },
            policy_version: 3,
            policy_hash: [0; 32],
            opened_at,
            raw_key: Vec::new(),
            over: None,
        }
    }

    fn facts<'f>(beginning: &'f Beginning, report: &'f Report) -> Facts<'f> {
        Facts {
            instance: "gw-eu-1",
            help: Some("edi@example.com"),
            beginning,
            bytes: 386,
            digest: Digest {
                kind: DigestKind::Sha256,
                bytes: [0xab; 32],
            },
            received_at: beginning.opened_at,
            decided_at: beginning.opened_at,
            report,
            known_as: None,
            area: Area::Production,
            verdict: report.verdict,
            decision: None,
        }
    }

    fn sample(line: u64, value: Option<&str>, detail: &str) -> Sample {
        Sample {
            line: Some(line),
            value: value.map(str::to_owned),
            detail: detail.to_owned(),
            ..Sample::default()
        }
    }

    fn three_errors() -> Report {
        let mut report = Report {
            rows: 4,
            rows_with_errors: 3,
            verdict: Verdict::Rejected,
            ..Report::default()
        };
        let missing = sample(3, None, "6 cells, 7 expected (note is missing)");
        report.add(Code::MissingCell, None, "7 cells a row", None, missing);
        let comma = sample(4, Some("12,50"), "decimal comma, write 12.50");
        report.add(
            Code::TypeError,
            Some("amount"),
            "decimal(12,2)",
            None,
            comma,
        );
        let country = sample(5, Some("UK"), "one of DE, AT, CH");
        report.add(
            Code::ConstraintError,
            Some("country"),
            "one of DE, AT, CH",
            None,
            country,
        );
        report
    }

    #[test]
    fn a_rejection_is_told_in_file_order_with_place_cause_and_report() {
        let (beginning, report) = (beginning("orders_20261121.csv"), three_errors());
        let lines = facts(&beginning, &report).told_lines();
        let short = beginning.id.short();
        assert_eq!(
            lines,
            [
                format!("REJECTED orders_20261121.csv  3 errors in 3 rows  submission {short}"),
                "  line 3  missing-cell  6 cells, 7 expected (note is missing)".to_owned(),
                "  line 4  type-error  amount \"12,50\": decimal comma, write 12.50".to_owned(),
                "  line 5  constraint-error  country \"UK\": one of DE, AT, CH".to_owned(),
                format!("  all errors: /receipts/orders_20261121.csv.{short}.receipt.txt"),
            ]
        );
    }

    #[test]
    fn a_flood_of_errors_stays_within_the_lines_and_the_status_bytes() {
        let name = format!("{}.csv", "\u{e4}".repeat(120));
        let mut report = Report {
            rows: 500,
            rows_with_errors: 500,
            verdict: Verdict::Rejected,
            ..Report::default()
        };
        for line in 0..500 {
            let long = sample(line, Some(&"x".repeat(400)), &"why ".repeat(100));
            report.add(Code::TypeError, Some("amount"), "decimal(12,2)", None, long);
        }
        let beginning = beginning(&name);
        let facts = facts(&beginning, &report);
        assert_eq!(facts.told_lines().len(), limits::STDERR_LINES_MAX);
        let status = facts.status_text();
        assert!(
            status.len() <= limits::SFTP_STATUS_TEXT_BYTES_MAX && status.is_ascii(),
            "{status}"
        );
        assert!(
            facts.base().len() <= limits::NAME_BYTES_MAX,
            "{}",
            facts.base()
        );
    }

    #[test]
    fn the_text_is_ascii_in_80_columns_with_crlf() {
        let beginning = beginning("orders \u{1b}[2J\u{202e}.csv");
        let mut report = three_errors();
        let long = sample(9, Some("v"), &"a long explanation ".repeat(12));
        report.add(
            Code::TypeError,
            Some("amount"),
            &"rule ".repeat(60),
            Some("a hint"),
            long,
        );
        let text = facts(&beginning, &report).to_text();
        for line in text.split("\r\n") {
            assert!(line.len() <= 80, "{}: {line}", line.len());
            assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line:?}");
        }
        assert!(
            text.contains("REJECTED  4 errors in 3 rows. Nothing from this file was processed.")
        );
    }

    #[test]
    fn the_json_counts_all_and_names_places() {
        let (beginning, report) = (beginning("orders_20261121.csv"), three_errors());
        let json: serde_json::Value =
            serde_json::from_str(&facts(&beginning, &report).to_json()).unwrap();
        assert_eq!(json["schema"], "sallyport.receipt/1");
        assert_eq!(json["verdict"], "rejected");
        assert_eq!(json["errors_total"], 3);
        assert_eq!(json["errors"][1]["examples"][0]["line"], 4);
        assert_eq!(json["errors"][1]["column"], "amount");
    }

    #[test]
    fn an_accepted_file_says_how_much_was_taken() {
        let beginning = beginning("orders_20261120.csv");
        let report = Report {
            rows: 2,
            ..Report::default()
        };
        let facts = facts(&beginning, &report);
        assert!(
            facts.told_lines()[0].starts_with("ACCEPTED orders_20261120.csv  2 rows  submission ")
        );
        assert!(facts.to_text().contains("ACCEPTED  2 rows"));
    }

    #[test]
    fn findings_are_grouped_and_cut() {
        let mut report = Report::default();
        for line in 4..=10 {
            let detail = format!("detail of {line}");
            let sample = sample(line, None, &detail);
            let hint = Some("The hint.");
            report.add(Code::TypeError, Some("amount"), "the rule", hint, sample);
        }
        assert_eq!(
            finding_lines(&report.findings),
            [
                "  type-error  7 times in amount: the rule",
                "    line 4       detail of 4",
                "    line 5       detail of 5",
                "    line 6       detail of 6",
                "    line 7       detail of 7",
                "    line 8       detail of 8",
                "    ... and 2 more",
                "    The hint.",
            ]
        );
    }

    #[test]
    fn under_a_heading_the_value_is_shown_and_the_rule_is_not_said_twice() {
        let mut report = Report::default();
        for (value, detail) in [("UK", "one of DE, AT"), ("12,50", "decimal comma")] {
            let sample = sample(5, Some(value), detail);
            let country = Some("country");
            report.add(
                Code::ConstraintError,
                country,
                "one of DE, AT",
                None,
                sample,
            );
        }
        assert_eq!(
            finding_lines(&report.findings),
            [
                "  constraint-error  2 times in country: one of DE, AT",
                "    line 5       \"UK\"",
                "    line 5       \"12,50\": decimal comma",
            ]
        );
    }

    #[test]
    fn control_totals_say_ok_wrong_or_skipped() {
        let control = |name: &str, counted: Option<&str>, unreadable| Control {
            name: name.to_owned(),
            declared: "4".to_owned(),
            counted: counted.map(str::to_owned),
            ok: counted.map(|counted| counted == "4"),
            unreadable,
        };
        let words = |control| control_words(&control);
        assert_eq!(words(control("rows", Some("4"), 0)), "rows 4, as declared");
        assert_eq!(
            words(control("sum.amount", None, 1)),
            "sum.amount 4 not checked (1 unreadable values)"
        );
        assert_eq!(
            words(control("sum.fee", Some("5"), 0)),
            "sum.fee declared 4, counted 5"
        );
    }
}
