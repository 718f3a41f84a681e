//! What inspection found: every fault counted, samples bounded, nothing sensitive.
//!
//! A report is built from the bytes alone and is the same, byte for byte, for every way of
//! cutting them into pieces.

use std::collections::BTreeMap;

use crate::policy::contract::{OnFinding, Tolerance};
use crate::terms::codes::Code;
use crate::terms::drift::{Drift, DriftKind};
use crate::terms::limits;
use crate::terms::verdict::Verdict;

/// The outcome of one inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Findings, in order of first appearance.
    pub findings: Vec<Finding>,
    /// Data rows, the header and the trailer left out.
    pub rows: u64,
    /// Rows with at least one finding.
    pub rows_with_errors: u64,
    /// What the trailer said, in the contract's order: `rows` first, then sums.
    pub controls: Vec<Control>,
    /// Values tokenized, by column name (dropped columns count their values too).
    pub tokens: BTreeMap<String, u64>,
    /// How the file's columns differ from the contract's.
    pub drift: Vec<Drift>,
    /// Bytes after decompression.
    pub bytes_inspected: u64,
    /// What it comes to; inspection sets it at its end.
    pub verdict: Verdict,
    /// Errors that belong to one row each.
    pub(crate) row_errors: u64,
    /// Errors that a person decides about, whatever other errors would do.
    pub(crate) hold_errors: u64,
    /// The output could not be made, through no fault of the file: it must not be forwarded.
    pub has_failed: bool,
    /// Rows that were left out of the output, not yet taken by whoever keeps them.
    pub rejects: Vec<u8>,
    /// Samples of all findings.
    pub(crate) samples: usize,
    /// The file has neither lines nor places in bytes, only rows.
    pub(crate) has_no_places: bool,
}

/// All faults of one code and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub code: Code,
    /// Where it is about one column.
    pub column: Option<String>,
    /// The rule that was broken, as in `decimal(12,2)` or `one of DE, AT, CH`.
    pub rule: String,
    /// What to do about it, one sentence, when something can be said.
    pub hint: Option<String>,
    /// How often, exactly.
    pub count: u64,
    /// The first ones: [`limits::SAMPLES_PER_CODE_MAX`], and more while all findings together have
    /// fewer than [`limits::SAMPLES_IN_TABLE_MAX`].
    pub samples: Vec<Sample>,
    /// Worth saying, but no reason to refuse.
    pub is_warning: bool,
}

/// One fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Physical line, from 1; `None` for faults of the whole file.
    pub line: Option<u64>,
    /// Data row, from 1; `None` outside rows.
    pub row: Option<u64>,
    /// Offset in the decompressed bytes, from 0.
    pub byte: Option<u64>,
    /// The cell, cut and quoted; of a sensitive column only its shape.
    pub value: Option<String>,
    /// One sentence, ASCII, without the position, as in `6 cells, 7 expected (note is missing)`.
    pub detail: String,
}

/// A declared total against the counted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `rows`, or `sum.amount`.
    pub name: String,
    /// As the trailer wrote it.
    pub declared: String,
    /// As counted; `None` when unreadable values made the sum impossible.
    pub counted: Option<String>,
    /// Both are the same number; `None` when that cannot be told. Compare this, not the texts: of a
    /// sensitive column they are only shapes.
    pub ok: Option<bool>,
    /// Values that could not be read.
    pub unreadable: u64,
}

/// Proof that the report holds a finding that refuses the file whatever follows: its place in
/// [`Report::findings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) usize);

// === impl Report ===

impl Report {
    /// No finding that refuses the file. Warnings do not.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.is_warning)
    }

    /// All faults together, warnings left out.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors().map(|finding| finding.count).sum()
    }

    /// The findings that refuse the file.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.is_warning)
    }

    /// Adds a fault that inspection knows nothing of, and makes the verdict at least so bad.
    pub fn object(&mut self, verdict: Verdict, code: Code, rule: &str, sample: Sample) {
        self.add(code, None, rule, None, sample);
        self.verdict = self.verdict.max(verdict);
    }

    /// What these findings come to under a contract.
    pub(crate) fn judge(&mut self, on_finding: OnFinding, tolerance: Tolerance) {
        let errors = self.errors_total();
        let of_rows = self.row_errors.saturating_add(self.hold_errors);
        let of_totals: u64 = self
            .errors()
            .filter(|one| is_total(one.code))
            .map(|one| one.count)
            .sum();
        // A file without one good row is no file to forward.
        let has_good = self.rows_with_errors < self.rows || self.rows_with_errors == 0;
        let good = if self.hold_errors > 0 {
            Verdict::Held
        } else {
            Verdict::Accepted
        };
        let only_rows = errors == of_rows && has_good;
        self.verdict = if errors == 0 {
            Verdict::Accepted
        } else if errors == self.hold_errors {
            Verdict::Held
        } else if only_rows && tolerance.bears(self.rows_with_errors, self.rows) {
            good
        } else {
            match on_finding {
                OnFinding::Hold => Verdict::Held,
                OnFinding::Split if only_rows => good,
                OnFinding::Released if errors == of_rows.saturating_add(of_totals) && has_good => {
                    good
                }
                OnFinding::Released | OnFinding::Reject | OnFinding::Split => Verdict::Rejected,
            }
        };
        if self.verdict != Verdict::Accepted {
            self.rejects.clear();
        }
        self.note_retyped();
    }

    /// Columns of which nine values in ten are of another type.
    fn note_retyped(&mut self) {
        if self.rows < limits::RETYPED_ROWS_MIN {
            return;
        }
        let most = self.rows.saturating_mul(9);
        let retyped = self.findings.iter().filter_map(|finding| {
            let is_many = finding.count.saturating_mul(10) >= most;
            let is_one = finding.code == Code::TypeError && is_many;
            let column = finding.column.clone().filter(|_| is_one)?;
            Some(Drift {
                kind: DriftKind::Retyped,
                column,
                now: None,
                is_exact: true,
            })
        });
        let room = limits::DRIFTS_PER_FILE_MAX.saturating_sub(self.drift.len());
        let retyped: Vec<Drift> = retyped.take(room).collect();
        self.drift.extend(retyped);
    }

    /// Rows with a fault, of a file that is forwarded without them.
    #[must_use]
    pub fn rows_left_out(&self) -> u64 {
        match self.verdict {
            Verdict::Accepted => self.rows_with_errors,
            Verdict::Held | Verdict::Rejected => 0,
        }
    }

    /// The rows left out since the last time; none of a file with more than `most` of them.
    pub(crate) fn rejects_up_to(&mut self, most: u64) -> &mut Vec<u8> {
        if self.rows_with_errors > most {
            self.rejects.clear();
        }
        &mut self.rejects
    }

    /// Counts one fault under its code and column, keeping it as a sample while there is room.
    pub fn add(
        &mut self,
        code: Code,
        column: Option<&str>,
        rule: &str,
        hint: Option<&str>,
        sample: Sample,
    ) {
        self.note(code, column, rule, || (hint.map(str::to_owned), sample));
    }

    /// The same, where making hint and sample costs: `make` runs only while there is room.
    /// Returns the finding's place in [`Report::findings`].
    pub(crate) fn note(
        &mut self,
        code: Code,
        column: Option<&str>,
        rule: &str,
        make: impl FnOnce() -> (Option<String>, Sample),
    ) -> usize {
        self.note_as(code.is_warning(), code, column, rule, make)
    }

    /// The same for a code that policy makes a warning, or an error.
    pub(crate) fn note_as(
        &mut self,
        is_warning: bool,
        code: Code,
        column: Option<&str>,
        rule: &str,
        make: impl FnOnce() -> (Option<String>, Sample),
    ) -> usize {
        let known = self
            .findings
            .iter()
            .position(|f| f.code == code && f.column.as_deref() == column && f.rule == rule);
        let at = known.unwrap_or(self.findings.len());
        if known.is_none() {
            self.findings.push(Finding {
                code,
                column: column.map(str::to_owned),
                rule: rule.to_owned(),
                hint: None,
                count: 0,
                samples: Vec::new(),
                is_warning,
            });
        }
        if let Some(finding) = self.findings.get_mut(at) {
            finding.count = finding.count.saturating_add(1);
            if finding.samples.len() < limits::SAMPLES_PER_CODE_MAX
                || self.samples < limits::SAMPLES_IN_TABLE_MAX
            {
                let (hint, mut sample) = make();
                if self.has_no_places {
                    (sample.line, sample.byte) = (None, None);
                }
                finding.hint = finding.hint.take().or(hint);
                finding.samples.push(sample);
                self.samples += 1;
            }
        }
        at
    }

    /// Adds a finding that ends the inspection after `bytes` of the file.
    pub(crate) fn refuse(
        &mut self,
        bytes: u64,
        code: Code,
        column: Option<&str>,
        rule: &str,
        hint: Option<String>,
        sample: Sample,
    ) -> Refused {
        let finding = self.note(code, column, rule, || (hint, sample));
        self.refused_by(finding, bytes)
    }

    /// The finding at this place ends the inspection after `bytes` of the file.
    pub(crate) fn refused_by(&mut self, finding: usize, bytes: u64) -> Refused {
        self.bytes_inspected = bytes;
        Refused(finding)
    }
}

/// A finding about the sums of a file, which says nothing about any one row.
fn is_total(code: Code) -> bool {
    matches!(code, Code::ControlTotal | Code::RowCount | Code::TooFewRows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_counted_and_the_first_ones_are_kept() {
        let mut report = Report::default();
        for line in 1..=12_000 {
            let sample = Sample {
                line: Some(line),
                ..Sample::default()
            };
            report.add(Code::TypeError, Some("amount"), "integer", None, sample);
        }
        report.add(
            Code::MixedNewlines,
            None,
            "one line end",
            None,
            Sample::default(),
        );
        for _ in 0..150 {
            report.add(
                Code::BlankRow,
                None,
                "no blank rows",
                None,
                Sample::default(),
            );
        }
        assert_eq!(report.findings[0].count, 12_000);
        assert_eq!(report.findings[0].samples.len(), 2_000);
        assert_eq!(report.findings[0].samples[1_999].line, Some(2_000));
        // A flood of one kind hides no other.
        assert_eq!(report.findings[2].samples.len(), 100);
        assert_eq!(report.errors_total(), 12_150);
        assert!(!report.is_clean());
    }

    #[test]
    fn a_warning_alone_leaves_a_report_clean() {
        let mut report = Report::default();
        report.add(
            Code::MixedNewlines,
            None,
            "one line end",
            None,
            Sample::default(),
        );
        assert!(report.is_clean());
        assert_eq!(report.errors_total(), 0);
    }
}
