//! Rank 2, pure: bytes in, findings and tokenized bytes out.
//!
//! [`Line`] is one submission's line of stages: envelope (compression) → charset (to UTF-8) → CSV →
//! schema → tokens → encode. One law holds for it: **split invariance**. However the input is
//! cut into pieces, the findings, their positions and the output are the same.
//!
//! Faults of a file are findings, never `Err`. Nothing in here knows a clock, a disk or a socket.
//!
//! A finding is *fatal* when nothing behind it can be judged: the module `table` lists which, and those of
//! the envelope are. It takes effect at its byte, and all input after it is ignored.

mod charset;
pub mod csv;
mod dates;
mod encode;
mod encoding;
mod envelope;
mod fixed;
mod formats;
mod fuzz;
pub mod infer;
mod json;
mod judge;
mod magic;
mod mojibake;
mod pack;
mod pages;
#[cfg(feature = "columnar")]
mod parquet;
mod records;
mod rejects;
pub mod report;
mod rows;
mod scan;
mod schema;
mod show;
mod table;
mod trailer;
mod types;
mod unique;
mod unpack;

#[cfg(test)]
mod tests;

pub use fuzz::fuzz_inspection;

use std::sync::Arc;

use crate::decode::{DecodeFault, Decoded, Flow};
use crate::inspect::envelope::Envelope;
use crate::inspect::pack::Packer;
use crate::inspect::report::{Finding, Refused, Report, Sample};
use crate::policy::contract::{Contract, OnFinding, Tolerance};
use crate::terms::codes::Code;
use crate::terms::verdict::Verdict;
use crate::tokens::{TokenFault, TokenKeys};

pub use crate::inspect::judge::check_all;

/// One submission's inspection.
pub struct Line {
    envelope: Envelope,
    report: Report,
    fatal: Option<Refused>,
    on_finding: OnFinding,
    tolerance: Tolerance,
    packer: Packer,
    /// Not yet compressed.
    plain: Vec<u8>,
}

// === impl Line ===

impl Line {
    /// `seed`: fresh randomness for the keyed hashes of uniqueness checks.
    ///
    /// # Errors
    /// [`TokenFault`] when a keyed column has no key.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers share one contract among many lines"
    )]
    pub fn for_contract(
        contract: Arc<Contract>,
        keys: &TokenKeys,
        seed: [u8; 16],
    ) -> Result<Self, TokenFault> {
        Ok(Self {
            envelope: Envelope::new(&contract, keys, seed)?,
            report: Report {
                has_no_places: contract.columnar().is_some(),
                ..Report::default()
            },
            fatal: None,
            on_finding: contract.on_finding,
            tolerance: contract.tolerance,
            packer: Packer::new(&contract),
            plain: Vec::new(),
        })
    }

    /// Takes the next bytes as sent, appends tokenized output to `out`. The output is whole only
    /// when the verdict is *accepted*: it stops before the first row with a fault, or goes on without
    /// it where such rows are left out.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.push_through(input, out, &mut |_, _| Flow::Go);
    }

    /// The same, giving `drain` what has come of each piece of text: some bytes may unpack to
    /// gigabytes. What it leaves is appended to. Once it has said [`Flow::Stop`] the rest of the input
    /// is not looked at, and the line is of no more use.
    pub fn push_through(&mut self, input: &[u8], out: &mut Vec<u8>, drain: &mut Drain<'_>) {
        if self.fatal.is_none() {
            let result = self.through(out, drain, |envelope, report, made, each| {
                envelope.push(input, report, made, each)
            });
            self.fatal = result.err();
            self.pack(out);
        }
        drain(self.report.rejects_up_to(self.left_out_max()), out);
    }

    /// Does some work whose output goes through the packer, and from there to `drain`.
    fn through<T>(
        &mut self,
        out: &mut Vec<u8>,
        drain: &mut Drain<'_>,
        work: impl FnOnce(&mut Envelope, &mut Report, &mut Vec<u8>, &mut envelope::Drain<'_>) -> T,
    ) -> T {
        let most = self.left_out_max();
        let (packer, report) = (&mut self.packer, &mut self.report);
        if packer.is_none() {
            let mut each =
                |report: &mut Report, out: &mut Vec<u8>| drain(report.rejects_up_to(most), out);
            return work(&mut self.envelope, report, out, &mut each);
        }
        let mut each = |report: &mut Report, plain: &mut Vec<u8>| {
            report.has_failed |= packer.take(plain, out).is_err();
            drain(report.rejects_up_to(most), out)
        };
        work(&mut self.envelope, report, &mut self.plain, &mut each)
    }

    /// How many rows may be left out before none of them will be asked for.
    fn left_out_max(&self) -> u64 {
        match self.on_finding {
            OnFinding::Hold | OnFinding::Reject => self.tolerance.rows,
            OnFinding::Released | OnFinding::Split => u64::MAX,
        }
    }

    /// Compresses what was made.
    fn pack(&mut self, out: &mut Vec<u8>) {
        if !self.plain.is_empty() {
            self.report.has_failed |= self.packer.take(&mut self.plain, out).is_err();
        }
    }

    /// What the decoder of a file that is decoded as a whole has found, in order; it stops when this
    /// says so.
    pub fn decoded(&mut self, decoded: &Decoded, out: &mut Vec<u8>) -> Flow {
        if let (None, Envelope::Columnar(whole)) = (self.fatal, &mut self.envelope) {
            let made = sink(&self.packer, &mut self.plain, out);
            self.fatal = whole.decoded(decoded, &mut self.report, made).err();
        }
        self.pack(out);
        match self.fatal {
            Some(_) => Flow::Stop,
            None => Flow::Go,
        }
    }

    /// Its decoder has ended so.
    pub fn decoding_ended(&mut self, result: &Result<(), DecodeFault>, out: &mut Vec<u8>) {
        if let (None, Envelope::Columnar(whole)) = (self.fatal, &mut self.envelope) {
            let made = sink(&self.packer, &mut self.plain, out);
            self.fatal = whole.ended(result, &mut self.report, made).err();
        }
        self.pack(out);
    }

    /// The finding that already refuses the file whatever follows (header, encoding, format, a cap).
    #[must_use]
    pub fn fatal(&self) -> Option<&Finding> {
        self.report.findings.get(self.fatal?.0)
    }

    /// The file has taken more than its time: a finding that refuses it, unless one has already.
    pub fn refuse_for_time(&mut self, seconds: u64) {
        if self.fatal.is_some() {
            return;
        }
        let sample = Sample {
            detail: format!("{seconds} s of processor time are more than so few bytes may take"),
            ..Sample::default()
        };
        let rule = "time to check";
        let refused = (self.report).refuse(0, Code::LimitExceeded, None, rule, None, sample);
        self.fatal = Some(refused);
    }

    /// Appends the rows left out since the last time, as [`rejects`] writes them; whole, like the output,
    /// only when the verdict is *accepted*.
    pub fn take_rejects(&mut self, into: &mut Vec<u8>) {
        into.append(&mut self.report.rejects);
    }

    /// The last byte has been pushed. Rows left out that were not taken are in [`Report::rejects`].
    pub fn finish(self, out: &mut Vec<u8>) -> Report {
        self.finish_through(out, &mut |_, _| Flow::Go)
    }

    /// The same, giving `drain` what has come of each piece of text that is left.
    pub fn finish_through(mut self, out: &mut Vec<u8>, drain: &mut Drain<'_>) -> Report {
        if self.fatal.is_none() {
            self.through(out, drain, |envelope, report, made, each| {
                envelope.finish(report, made, each);
            });
        }
        self.pack(out);
        if !self.packer.is_none() {
            self.report.has_failed |= self.packer.finish(out).is_err();
        }
        self.report.judge(self.on_finding, self.tolerance);
        if self.report.verdict == Verdict::Accepted {
            let tokens = self.envelope.tokens();
            self.report.tokens = tokens
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| (name.to_owned(), count))
                .collect();
        }
        self.report
    }
}

/// What takes the rows left out since the last time, as of [`Line::take_rejects`], and the output.
pub type Drain<'d> = dyn FnMut(&mut Vec<u8>, &mut Vec<u8>) -> Flow + 'd;

/// Where the output goes first: to its end, or before a compressor.
fn sink<'o>(packer: &Packer, plain: &'o mut Vec<u8>, out: &'o mut Vec<u8>) -> &'o mut Vec<u8> {
    if packer.is_none() { out } else { plain }
}
