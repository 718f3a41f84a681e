//! The text of a CSV file, from its first byte to its last: encoding, structure, header, rows,
//! trailer.
//!
//! These faults refuse the file at once, and nothing behind them is looked at: a byte order mark
//! where the contract takes none, a byte that is not UTF-8, a fault of structure
//! ([`crate::inspect::csv`]), any fault of the header, a cap. Every other fault is counted and
//! the inspection goes on. A fault that ends the inspection takes effect at its byte: the
//! records that end before it are judged, the one it is in is not, wherever pieces were cut.
//!
//! With a trailer, the last line that is not blank is held back until something follows it; a
//! fault that ends the inspection leaves it unjudged.

use std::ops::Range;

use crate::decode::{self, Nature};
use crate::inspect::charset::Width;
use crate::inspect::csv::{ScanFault, ScanFaultKind, Scanner};
use crate::inspect::encoding::{self, Prefix};
use crate::inspect::fixed::FixedScanner;
use crate::inspect::json::JsonScanner;
use crate::inspect::records::{
    Bounds, Cell, Form, Index, Mark, MarkKind, Record, Unfinished, short,
};
use crate::inspect::report::{Refused, Report, Sample};
use crate::inspect::rows::{self, Rows, Text};
use crate::inspect::schema;
use crate::inspect::show;
use crate::inspect::trailer;
use crate::policy::contract::{
    Bom, Dialect, ExtraColumns, FixedShape, Header, JsonShape, Kind, Newline, OutputFormat, Schema,
    Trailer,
};
use crate::terms::codes::Code;
use crate::terms::drift::{Drift, DriftKind};
use crate::terms::limits;
use crate::tokens::Tokenizer;

/// A CSV file being inspected.
pub(crate) struct Table {
    schema: Schema,
    dialect: Dialect,
    output: OutputFormat,
    bom: Bom,
    trailer: Option<Trailer>,
    /// Rows with a fault are left out, and the others written.
    leaves_out: bool,
    seed: [u8; 16],
    /// For the rows, once their layout is known.
    tokenizers: Vec<Option<Tokenizer>>,
    /// Bytes not yet judged; they start at `base` of the file.
    buffer: Vec<u8>,
    base: u64,
    /// How many bytes of the file the buffer's text was.
    width: Width,
    /// Bytes of the buffer known to be UTF-8.
    valid: usize,
    has_begun: bool,
    scanner: Scan,
    /// The output's labels are still to be written.
    owes_labels: bool,
    index: Index,
    /// Records at the index's start that wait for what follows them.
    held: usize,
    rows: Option<Rows>,
}

/// What a CSV file is judged by.
pub(crate) struct TableRules {
    /// The rules for rows.
    pub(crate) schema: Schema,
    /// How the file is written.
    pub(crate) format: RowFormat,
    /// How the output is.
    pub(crate) output: OutputFormat,
    /// What a byte order mark means.
    pub(crate) bom: Bom,
    /// The trailer.
    pub(crate) trailer: Option<Trailer>,
    /// Rows with a fault are left out, and the others written.
    pub(crate) leaves_out: bool,
}

/// How a file of rows is written.
#[derive(Clone, Debug)]
pub(crate) enum RowFormat {
    Csv(Dialect),
    Fixed(FixedShape),
    Json(JsonShape),
    /// Rows are given as they are: nothing is looked for in bytes.
    Given,
}

/// What finds the records of a format.
enum Scan {
    Csv(Scanner),
    Fixed(FixedScanner),
    Json(Box<JsonScanner>),
    None,
}

/// The dialect of CSV made from another format.
const PLAIN: Dialect = Dialect {
    delimiter: b',',
    quote: b'"',
    header: Header::Absent,
    newline: Newline::Any,
};

/// Whether more may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// The file goes on.
    Open,
    /// That was all.
    End,
}

// === impl Scan ===

impl Scan {
    fn scan(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        match self {
            Self::Csv(scanner) => scanner.scan(bytes, index),
            Self::Fixed(scanner) => scanner.scan(bytes, index),
            Self::Json(scanner) => scanner.scan(bytes, index),
            Self::None => Ok(()),
        }
    }

    fn end(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        match self {
            Self::Csv(scanner) => scanner.end(index),
            Self::Fixed(scanner) => scanner.end(bytes, index),
            Self::Json(scanner) => scanner.end(bytes, index),
            Self::None => Ok(()),
        }
    }

    fn shift(&mut self, bytes: usize, index: &Index) {
        match self {
            Self::Csv(scanner) => scanner.shift(bytes, index),
            Self::Fixed(scanner) => scanner.shift(bytes, index),
            Self::Json(scanner) => scanner.shift(bytes, index),
            Self::None => {}
        }
    }

    fn unfinished(&self) -> Unfinished {
        match self {
            Self::Csv(scanner) => scanner.unfinished(),
            Self::Fixed(scanner) => scanner.unfinished(),
            Self::Json(scanner) => scanner.unfinished(),
            Self::None => Unfinished {
                start: 0,
                cell: 0,
                mark: 0,
            },
        }
    }

    fn line(&self) -> u64 {
        match self {
            Self::Csv(scanner) => scanner.line(),
            Self::Fixed(scanner) => scanner.line(),
            Self::Json(scanner) => scanner.line(),
            Self::None => 0,
        }
    }

    /// The place of the column that the next byte belongs to, where that is known.
    fn column(&self, index: &Index) -> Option<usize> {
        match self {
            Self::Csv(scanner) => Some(scanner.column(index)),
            Self::Fixed(_) | Self::Json(_) | Self::None => None,
        }
    }
}

// === impl Table ===

impl Table {
    /// `tokenizers`: for each column of the schema that has one.
    pub(crate) fn new(
        rules: TableRules,
        tokenizers: Vec<Option<Tokenizer>>,
        seed: [u8; 16],
    ) -> Self {
        let TableRules {
            schema,
            format,
            output,
            bom,
            trailer,
            leaves_out,
        } = rules;
        let bounds = Bounds {
            cell_bytes_max: schema.field_bytes_max,
            record_bytes_max: schema.record_bytes_max,
            columns_max: schema.columns_max,
        };
        let owes_labels = !matches!(format, RowFormat::Csv(_)) || output != OutputFormat::Csv;
        let (scanner, dialect) = match format {
            RowFormat::Fixed(shape) => (Scan::Fixed(FixedScanner::new(shape, bounds)), PLAIN),
            RowFormat::Csv(dialect) => (Scan::Csv(Scanner::new(dialect, bounds)), dialect),
            RowFormat::Given => (
                Scan::None,
                Dialect {
                    header: Header::Present,
                    ..PLAIN
                },
            ),
            RowFormat::Json(shape) => {
                let scanner = JsonScanner::new(shape, &schema, bounds);
                (Scan::Json(Box::new(scanner)), PLAIN)
            }
        };
        let mut table = Self {
            scanner,
            owes_labels,
            schema,
            dialect,
            output,
            bom,
            trailer,
            leaves_out,
            seed,
            tokenizers,
            buffer: Vec::new(),
            base: 0,
            width: Width::Utf8,
            valid: 0,
            has_begun: false,
            index: Index::default(),
            held: 0,
            rows: None,
        };
        if table.dialect.header == Header::Absent {
            let layout = schema::in_order(&table.schema);
            table.lay_out(&layout);
        }
        table
    }

    /// Bytes taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.at(self.buffer.len())
    }

    /// The text comes from another encoding than UTF-8; nothing has been pushed yet.
    pub(crate) fn set_width(&mut self, width: Width) {
        self.width = width;
        self.has_begun = true;
    }

    /// So many bytes of the file are no text.
    pub(crate) fn skip(&mut self, bytes: u64) {
        self.base += bytes;
    }

    /// Values tokenized so far, by column.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rows.iter().flat_map(Rows::tokens)
    }

    /// Takes the next bytes of the text.
    ///
    /// # Errors
    /// [`Refused`] when the file is refused whatever follows.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        for piece in input.chunks(limits::INSPECT_PIECE_BYTES) {
            self.buffer.extend_from_slice(piece);
            if self.begin(Rest::Open, report)? {
                self.inspect(Rest::Open, report, out)?;
            }
        }
        Ok(())
    }

    /// The last byte has been pushed.
    ///
    /// # Errors
    /// [`Refused`] as for [`Table::push`].
    pub(crate) fn finish(&mut self, report: &mut Report, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.begin(Rest::End, report)?;
        self.inspect(Rest::End, report, out)?;
        if let Some(&byte) = self.buffer.get(self.valid) {
            let hint = if self.buffer.len() - self.valid == 1 {
                encoding::looks_like(&[byte])
            } else {
                Some("the file ends inside a character".to_owned())
            };
            return Err(self.not_utf8(byte, hint.as_deref(), report));
        }
        let valid = self.buffer.get(..self.valid).unwrap_or_default();
        if let Err(fault) = self.scanner.end(valid, &mut self.index) {
            return Err(self.structure(fault, report));
        }
        let is_empty = self.rows.is_none() && self.index.records.is_empty();
        if is_empty && self.dialect.header == Header::Present {
            return Err(refuse_empty(self.taken(), report));
        }
        self.judge(Rest::End, report, out)?;
        self.close(report, out);
        Ok(())
    }

    /// Writes what belongs behind the last row, and counts them.
    fn close(&mut self, report: &mut Report, out: &mut Vec<u8>) {
        if let Some(rows) = &self.rows {
            if std::mem::take(&mut self.owes_labels) {
                rows.labels(out);
            }
            rows.end(out);
        }
        let left_out = if self.leaves_out {
            report.rows_with_errors
        } else {
            0
        };
        let rows = report.rows.saturating_sub(left_out);
        if rows < self.schema.rows_min {
            let rule = format!("at least {}", show::counted(self.schema.rows_min, "row"));
            let sample = Sample {
                detail: format!(
                    "{}, {} expected",
                    show::counted(rows, "row"),
                    self.schema.rows_min
                ),
                ..Sample::default()
            };
            report.add(Code::TooFewRows, None, &rule, None, sample);
        }
    }

    /// Deals with a byte order mark; false while it is not known whether there is one.
    fn begin(&mut self, rest: Rest, report: &mut Report) -> Result<bool, Refused> {
        if self.has_begun {
            return Ok(true);
        }
        let is_short = self.buffer.len() < encoding::BOM.len();
        if is_short && rest == Rest::Open && encoding::BOM.starts_with(&self.buffer) {
            return Ok(false);
        }
        self.has_begun = true;
        if self.buffer.starts_with(encoding::BOM) {
            if self.bom == Bom::Reject {
                return Err(refuse_mark(report));
            }
            self.buffer.drain(..encoding::BOM.len());
            self.base = u64::try_from(encoding::BOM.len()).unwrap_or(0);
        }
        Ok(true)
    }

    /// Looks at everything in the buffer that has not been looked at.
    fn inspect(
        &mut self,
        rest: Rest,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let fresh = self.buffer.get(self.valid..).unwrap_or_default();
        let faulty = match encoding::prefix(fresh) {
            Prefix::Valid(count) => {
                self.valid += count;
                None
            }
            Prefix::Faulty { valid, byte } => {
                self.valid += valid;
                Some(byte)
            }
        };
        let valid = self.buffer.get(..self.valid).unwrap_or_default();
        let scanned = self.scanner.scan(valid, &mut self.index);
        self.judge(Rest::Open, report, out)?;
        if let Err(fault) = scanned {
            return Err(self.structure(fault, report));
        }
        if let Some(byte) = faulty {
            // What follows tells what the file is, wherever pieces were cut.
            let behind = self.buffer.get(self.valid..).unwrap_or_default();
            let sample = behind.get(..limits::ENCODING_SAMPLE_BYTES);
            if sample.is_some() || rest == Rest::End {
                let hint = encoding::looks_like(sample.unwrap_or(behind));
                return Err(self.not_utf8(byte, hint.as_deref(), report));
            }
        }
        self.forget();
        Ok(())
    }

    /// Removes what has been judged from the buffer.
    fn forget(&mut self) {
        let judged = self.index.records.len() - self.held;
        // White space between objects goes, too.
        let is_idle = self.index.records.is_empty() && self.scanner.unfinished().start > 0;
        if judged == 0 && !is_idle {
            return;
        }
        let bytes = self.index.forget(judged, self.scanner.unfinished());
        self.base = self.at(bytes);
        self.scanner.shift(bytes, &self.index);
        self.buffer.drain(..bytes);
        self.valid -= bytes;
    }

    /// Judges the records found since the last time.
    fn judge(&mut self, rest: Rest, report: &mut Report, out: &mut Vec<u8>) -> Result<(), Refused> {
        let complete = self.index.records.len();
        if complete == self.held && rest == Rest::Open {
            return Ok(());
        }
        let mut next = 0;
        if self.rows.is_none() {
            if complete == 0 {
                return Ok(());
            }
            self.header(report)?;
            next = 1;
        }
        match (self.candidate(next), rest) {
            (Some(last), Rest::Open) => {
                self.held = complete - last;
                self.judge_rows(next..last, report, out)
            }
            (None, Rest::Open) => {
                self.held = 0;
                self.judge_rows(next..complete, report, out)
            }
            (candidate, Rest::End) => {
                self.held = 0;
                self.judge_last(next..complete, candidate, report, out)
            }
        }
    }

    /// The record that may be the trailer: the last one that is not blank.
    fn candidate(&self, next: usize) -> Option<usize> {
        self.trailer.as_ref()?;
        let records = self.index.records.get(next..)?;
        let last = next + records.iter().rposition(|record| !record.is_blank())?;
        let blank = self.index.records.len() - last - 1;
        (blank <= limits::TRAILER_BLANK_LINES_MAX).then_some(last)
    }

    fn judge_rows(
        &mut self,
        records: Range<usize>,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let valid = self.buffer.get(..self.valid).unwrap_or_default();
        let text = Text {
            buffer: simdutf8::basic::from_utf8(valid).unwrap_or_default(),
            base: self.base,
            width: self.width,
            index: &self.index,
        };
        match &mut self.rows {
            Some(rows) if !records.is_empty() => {
                if std::mem::take(&mut self.owes_labels) {
                    rows.labels(out);
                }
                rows.judge(text, records, report, out)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The last records of the file, one of them perhaps the trailer.
    fn judge_last(
        &mut self,
        records: Range<usize>,
        candidate: Option<usize>,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let Some(rules) = self.trailer.clone() else {
            return self.judge_rows(records, report, out);
        };
        let record = candidate.and_then(|at| self.index.records.get(at)).copied();
        let line = record.and_then(|record| {
            let line = self.buffer.get(record.span())?;
            // In a quoted line break, the physical last line is only part of the record.
            let is_one_line = memchr::memchr(b'\n', line).is_none();
            let text = is_one_line.then(|| str::from_utf8(line).ok()).flatten()?;
            Some((record, text.to_owned()))
        });
        let groups = line
            .as_ref()
            .and_then(|(record, line)| Some((record, trailer::read(&rules, line)?)));
        let (Some((record, groups)), Some(at)) = (groups, candidate) else {
            self.judge_rows(records, report, out)?;
            trailer::missing(record.map(|record| record.line), report);
            return Ok(());
        };
        self.judge_rows(records.start..at, report, out)?;
        let text = Text {
            buffer: str::from_utf8(&self.buffer).unwrap_or_default(),
            base: self.base,
            width: self.width,
            index: &self.index,
        };
        let marks = self.index.marks(record).iter();
        // The trailer may be as long as it likes.
        for mark in marks.filter(|mark| !matches!(mark.kind, MarkKind::Length { .. })) {
            rows::note_mark(text, record, None, *mark, None, report);
        }
        if record.is_mixed {
            let sample = Sample {
                line: Some(record.line),
                byte: Some(text.at(record.span().start)),
                detail: "ends unlike the lines before it".to_owned(),
                ..Sample::default()
            };
            report.add(
                Code::MixedNewlines,
                None,
                "one kind of line end",
                None,
                sample,
            );
        }
        self.judge_rows(at + 1..records.end, report, out)?;
        if let Some(rows) = &self.rows {
            trailer::compare(&rules, &groups, record.line, rows.sums(), report);
        }
        Ok(())
    }

    /// Judges the first record as the header.
    fn header(&mut self, report: &mut Report) -> Result<(), Refused> {
        let Some(record) = self.index.records.first().copied() else {
            return Ok(());
        };
        let valid = self.buffer.get(..self.valid).unwrap_or_default();
        let text = Text {
            buffer: simdutf8::basic::from_utf8(valid).unwrap_or_default(),
            base: self.base,
            width: self.width,
            index: &self.index,
        };
        let (start, end) = (text.at(record.span().start), text.at(record.span().end));
        let sample = |detail: String| Sample {
            line: Some(record.line),
            byte: Some(start),
            detail,
            ..Sample::default()
        };
        let marks = self.index.marks(&record);
        let lone_cr = marks.iter().find(|mark| mark.kind == MarkKind::LoneCr);
        // One finding for a file of CR line ends, not one for each of its lines.
        let told = lone_cr.map_or(marks, std::slice::from_ref);
        let mut first = None;
        for mark in told {
            let at = rows::note_mark(text, &record, None, *mark, None, report);
            first = first.or(Some(at));
        }
        if let Some(finding) = first {
            return Err(report.refused_by(finding, end));
        }
        if record.is_blank() {
            let detail = format!("line {} is blank, labels expected", record.line);
            let rule = "every column has a label";
            return Err(report.refuse(end, Code::BlankLabel, None, rule, None, sample(detail)));
        }
        let mut scratch = String::new();
        let labels: Vec<String> = self
            .index
            .cells(&record)
            .iter()
            .map(|cell| {
                cell.text(text.buffer, self.dialect.quote, &mut scratch)
                    .to_owned()
            })
            .collect();
        let place = format!("line {}", record.line);
        let at = Some((record.line, start, end));
        self.take_labels(&labels, &place, at, report).map(|_| ())
    }

    /// From here on rows can be judged.
    fn lay_out(&mut self, layout: &schema::Layout) {
        let sums = self.trailer.iter().flat_map(|trailer| &trailer.sums);
        let summed: Vec<usize> = sums.map(|(column, _)| *column).collect();
        self.rows = Some(Rows::new(
            &self.schema,
            (self.dialect, self.output),
            layout,
            &summed,
            std::mem::take(&mut self.tokenizers),
            self.seed,
            self.leaves_out,
        ));
    }

    /// The offset in the file of a place in the buffer.
    fn at(&self, place: usize) -> u64 {
        self.base + self.width.of(self.buffer.get(..place).unwrap_or_default())
    }

    /// The file is in no encoding the contract takes.
    pub(crate) fn refuse_encoding(
        rule: &str,
        detail: &str,
        hint: &str,
        report: &mut Report,
    ) -> Refused {
        let sample = Sample {
            line: Some(1),
            byte: Some(0),
            detail: detail.to_owned(),
            ..Sample::default()
        };
        let hint = Some(hint.to_owned());
        report.refuse(0, Code::EncodingError, None, rule, hint, sample)
    }

    /// A byte behind all the text so far means nothing in the encoding of this name.
    pub(crate) fn refuse_byte(
        &self,
        encoding: &str,
        byte: u8,
        hint: Option<&str>,
        report: &mut Report,
    ) -> Refused {
        self.no_character(encoding, byte, self.taken(), hint, report)
    }

    /// The byte behind the valid ones is none of UTF-8.
    fn not_utf8(&self, byte: u8, hint: Option<&str>, report: &mut Report) -> Refused {
        self.no_character("UTF-8", byte, self.at(self.valid), hint, report)
    }

    fn no_character(
        &self,
        encoding: &str,
        byte: u8,
        at: u64,
        hint: Option<&str>,
        report: &mut Report,
    ) -> Refused {
        let line = self.scanner.line();
        let column = self.scanner.column(&self.index);
        let column = self.rows.as_ref().and_then(|rows| rows.name(column?));
        let sample = Sample {
            line: Some(line),
            byte: Some(at),
            detail: match column {
                Some(name) => format!(
                    "byte 0x{byte:02X} at line {line} is not {encoding} (in {})",
                    show::name(name)
                ),
                None => format!("byte 0x{byte:02X} at line {line} is not {encoding}"),
            },
            ..Sample::default()
        };
        let hint = hint.map(str::to_owned);
        report.refuse(at, Code::EncodingError, None, encoding, hint, sample)
    }

    /// A fault of structure.
    fn structure(&self, fault: ScanFault, report: &mut Report) -> Refused {
        let usize_bytes = |bytes: usize| show::bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
        let quoted = "quotes around the whole cell, doubled inside";
        let array = (Code::FormatError, || "one array of objects".to_owned());
        let (code, rule, detail) = match fault.kind {
            ScanFaultKind::CellTooLong => (
                Code::LimitExceeded,
                format!("{} a cell", usize_bytes(self.schema.field_bytes_max)),
                "a cell that is longer",
            ),
            ScanFaultKind::RecordTooLong => (
                Code::LimitExceeded,
                format!("{} a record", usize_bytes(self.schema.record_bytes_max)),
                "a record that is longer",
            ),
            ScanFaultKind::TooManyColumns => (
                Code::LimitExceeded,
                format!("{} columns", self.schema.columns_max),
                "more cells than that",
            ),
            ScanFaultKind::Crlf => (
                Code::FormatError,
                "LF line ends".to_owned(),
                "a line that ends with CRLF",
            ),
            ScanFaultKind::Lf => (
                Code::FormatError,
                "CRLF line ends".to_owned(),
                "a line that ends with LF",
            ),
            ScanFaultKind::QuoteInside => (
                Code::FormatError,
                quoted.to_owned(),
                "a quote inside an unquoted cell",
            ),
            ScanFaultKind::TextAfterQuote => (
                Code::FormatError,
                quoted.to_owned(),
                "text after a closing quote",
            ),
            ScanFaultKind::UnclosedQuote => (
                Code::FormatError,
                quoted.to_owned(),
                "a quote that is never closed",
            ),
            ScanFaultKind::JsonBehind => (array.0, array.1(), "something follows the array"),
            ScanFaultKind::JsonBroken => (
                Code::FormatError,
                "JSON (RFC 8259)".to_owned(),
                "no JSON from here on",
            ),
            ScanFaultKind::JsonCut => (array.0, array.1(), "an object that is never closed"),
            ScanFaultKind::JsonDepth => (
                Code::LimitExceeded,
                "values 64 levels deep".to_owned(),
                "values in values in values, deeper than that",
            ),
            ScanFaultKind::JsonNoArray => (array.0, array.1(), "no array begins here"),
            ScanFaultKind::JsonNoComma => (
                array.0,
                array.1(),
                "neither a comma nor the end of the array",
            ),
            ScanFaultKind::JsonNoObject => (array.0, array.1(), "an object is expected"),
            ScanFaultKind::JsonOpen => (array.0, array.1(), "the file ends inside the array"),
        };
        let sample = Sample {
            line: Some(fault.line),
            byte: Some(self.at(fault.at)),
            detail: detail.to_owned(),
            ..Sample::default()
        };
        let hint = self.structure_hint(fault).map(str::to_owned);
        report.refuse(self.at(fault.at), code, None, &rule, hint, sample)
    }

    fn structure_hint(&self, fault: ScanFault) -> Option<&'static str> {
        match fault.kind {
            ScanFaultKind::CellTooLong | ScanFaultKind::RecordTooLong => {
                Some("A quote that is opened and never closed makes a cell endless.")
            }
            ScanFaultKind::TextAfterQuote if self.rows.is_none() => {
                match self.buffer.get(fault.at) {
                    Some(b';') => Some("looks like ';'"),
                    Some(b'\t') => Some("looks like TAB"),
                    Some(b'|') => Some("looks like '|'"),
                    Some(b',') => Some("looks like ','"),
                    Some(_) | None => None,
                }
            }
            ScanFaultKind::QuoteInside | ScanFaultKind::TextAfterQuote => {
                Some("Put quotes around the whole cell and double those inside.")
            }
            ScanFaultKind::JsonNoArray if self.buffer.get(fault.at) == Some(&b'{') => {
                Some("looks like NDJSON")
            }
            ScanFaultKind::JsonBehind
            | ScanFaultKind::JsonBroken
            | ScanFaultKind::JsonCut
            | ScanFaultKind::JsonDepth
            | ScanFaultKind::JsonNoArray
            | ScanFaultKind::JsonNoComma
            | ScanFaultKind::JsonNoObject
            | ScanFaultKind::JsonOpen
            | ScanFaultKind::TooManyColumns
            | ScanFaultKind::Crlf
            | ScanFaultKind::Lf
            | ScanFaultKind::UnclosedQuote => None,
        }
    }
}

// Rows that are given as they are.
impl Table {
    /// The columns of a file that was decoded; `place`: where it says them.
    ///
    /// # Errors
    /// [`Refused`] when they are not the contract's.
    pub(crate) fn columns(
        &mut self,
        columns: &[decode::Column],
        place: &str,
        report: &mut Report,
    ) -> Result<(), Refused> {
        if columns.len() > self.schema.columns_max {
            let rule = format!("{} columns", self.schema.columns_max);
            let sample = told(format!("{} columns", columns.len()));
            return Err(report.refuse(0, Code::LimitExceeded, None, &rule, None, sample));
        }
        let labels: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let layout = self.take_labels(&labels, place, None, report)?;
        let mut first = None;
        for (column, at) in columns.iter().zip(&layout.places) {
            if let (schema::Place::Keep(_), Nature::Other(kind)) = (at, &column.nature) {
                let detail = format!("a column that is kept is {kind}, which no cell can hold");
                let make = || (None, told(detail));
                let rule = "columns of single values";
                let at = report.note(Code::TypeError, None, rule, make);
                first = first.or(Some(at));
            }
            let schema::Place::Column(at) = at else {
                continue;
            };
            let Some(rules) = self.schema.columns.get(*at) else {
                continue;
            };
            let Some((rule, wanted)) = misfit(&column.nature, &rules.kind) else {
                continue;
            };
            let detail = format!("the column is {}, {wanted} expected", named(&column.nature));
            let is_float = matches!(column.nature, Nature::Float(_));
            let hint = is_float.then(|| "Write the column as a decimal.".to_owned());
            let make = || (hint, told(detail));
            let at = report.note(Code::TypeError, Some(&rules.name), &rule, make);
            first = first.or(Some(at));
        }
        match first {
            Some(finding) => Err(report.refused_by(finding, 0)),
            None => Ok(()),
        }
    }

    /// Rows of a file that was decoded, behind its columns.
    ///
    /// # Errors
    /// [`Refused`] when the file is refused whatever follows.
    pub(crate) fn rows(
        &mut self,
        rows: &decode::Rows,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let mut full = None;
        let mut row = report.rows;
        let mut cells = rows.cells();
        self.buffer.clear();
        self.index = Index::default();
        // Every cell has a byte before it, as if it stood in quotes.
        self.buffer.push(b'\n');
        for _ in 0..rows.len() {
            row += 1;
            let start = self.buffer.len();
            let (first_cell, first_mark) = (self.index.cells.len(), self.index.marks.len());
            for (number, span) in cells.by_ref().take(rows.columns).enumerate() {
                let text = span.clone().and_then(|span| rows.text.as_bytes().get(span));
                let at = self.buffer.len();
                let text = text.unwrap_or_default();
                self.buffer.extend_from_slice(text);
                let form = if span.is_some() {
                    Form::Quoted
                } else {
                    Form::Null
                };
                self.index.cells.push(Cell {
                    start: short(at),
                    end: short(self.buffer.len()),
                    form,
                });
                if let Some(found) = control(text) {
                    self.index.marks.push(Mark {
                        cell: short(number),
                        at: short(at + found),
                        kind: MarkKind::Control,
                    });
                }
                if text.len() > self.schema.field_bytes_max {
                    full = full.or(Some((self.schema.field_bytes_max, "a cell", row)));
                }
            }
            let bytes = self.buffer.len() - start;
            if bytes > self.schema.record_bytes_max {
                full = full.or(Some((self.schema.record_bytes_max, "a record", row)));
            }
            if full.is_some() {
                break;
            }
            // A row without a byte is a row all the same.
            self.buffer.push(b'\n');
            self.index.records.push(Record {
                start: short(start),
                end: short(self.buffer.len()),
                first_cell: short(first_cell),
                first_mark: short(first_mark),
                cells: short(rows.columns),
                marks: short(self.index.marks.len() - first_mark),
                line: row,
                is_plain: false,
                is_mixed: false,
            });
        }
        self.valid = self.buffer.len();
        self.judge_rows(0..self.index.records.len(), report, out)?;
        let Some((most, what, row)) = full else {
            return Ok(());
        };
        let most = show::bytes(u64::try_from(most).unwrap_or(u64::MAX));
        let sample = Sample {
            row: Some(row),
            detail: format!("{what} that is longer"),
            ..Sample::default()
        };
        let rule = format!("{most} {what}");
        Err(report.refuse(0, Code::LimitExceeded, None, &rule, None, sample))
    }

    /// The last row was given.
    pub(crate) fn end(&mut self, report: &mut Report, out: &mut Vec<u8>) {
        self.close(report, out);
    }

    /// Matches labels with the contract: rows can be judged from then on.
    fn take_labels(
        &mut self,
        labels: &[String],
        place: &str,
        at: Option<(u64, u64, u64)>,
        report: &mut Report,
    ) -> Result<schema::Layout, Refused> {
        let sample = |detail: String| Sample {
            line: at.map(|(line, _, _)| line),
            byte: at.map(|(_, start, _)| start),
            detail,
            ..Sample::default()
        };
        report.drift = schema::drift(&self.schema, labels);
        match schema::match_labels(&self.schema, self.dialect.delimiter, labels, place) {
            Ok((layout, held)) => {
                if self.schema.extra_columns == ExtraColumns::Drop {
                    for label in dropped(&report.drift) {
                        let label = show::value(&label, show::Sight::Open);
                        let detail = format!("{} is new, and left out", show::name(&label));
                        let make = || (None, sample(detail));
                        let rule = "only columns of the contract";
                        report.note(Code::SchemaDrift, Some(&label), rule, make);
                    }
                }
                for fault in held {
                    let make = || (fault.hint, sample(fault.detail));
                    report.note(fault.code, fault.column.as_deref(), fault.rule, make);
                    report.hold_errors += 1;
                }
                self.lay_out(&layout);
                self.owes_labels = true;
                Ok(layout)
            }
            Err(faults) => {
                let mut first = None;
                for fault in faults {
                    let make = || (fault.hint, sample(fault.detail));
                    let at = report.note(fault.code, fault.column.as_deref(), fault.rule, make);
                    first = first.or(Some(at));
                }
                let end = at.map_or(0, |(_, _, end)| end);
                Err(report.refused_by(first.unwrap_or_default(), end))
            }
        }
    }
}

/// Labels of columns the contract does not know.
fn dropped(drift: &[Drift]) -> Vec<String> {
    let labels = drift.iter().filter_map(|one| match (one.kind, &one.now) {
        (DriftKind::Added, _) => Some(one.column.clone()),
        (DriftKind::Renamed, Some((label, _))) => Some(label.clone()),
        (_, _) => None,
    });
    labels.collect()
}

/// The rule that a column's own type breaks, and what is expected of it.
fn misfit(nature: &Nature, kind: &Kind) -> Option<(String, &'static str)> {
    let (fits, wanted) = match kind {
        Kind::Boolean { .. } => (matches!(nature, Nature::Boolean), "true and false"),
        Kind::Date { .. } => (matches!(nature, Nature::Date), "dates"),
        Kind::DateTime { .. } => (matches!(nature, Nature::DateTime), "dates with times"),
        Kind::Decimal { .. } => (
            matches!(nature, Nature::Decimal | Nature::Integer),
            "decimals",
        ),
        Kind::Integer => (matches!(nature, Nature::Integer), "integers"),
        Kind::Text(_) => (matches!(nature, Nature::Integer), "text"),
    };
    let is_text = matches!(nature, Nature::Any | Nature::Text);
    (!fits && !is_text).then(|| (format!("a column of {wanted}"), wanted))
}

fn named(nature: &Nature) -> &str {
    match nature {
        Nature::Any => "of any type",
        Nature::Boolean => "boolean",
        Nature::Date => "a date",
        Nature::DateTime => "a timestamp",
        Nature::Decimal => "decimal",
        Nature::Float(name) | Nature::Other(name) => name,
        Nature::Integer => "an integer",
        Nature::Text => "text",
    }
}

/// The first control character, where TAB and line ends are none.
fn control(text: &[u8]) -> Option<usize> {
    let suspect = |byte: &u8| *byte < 0x20 || *byte == 0x7f || *byte == 0xc2;
    let from = text.iter().position(suspect)?;
    let is_control = |at: &usize| match text.get(*at) {
        None | Some(b'\t' | b'\n' | b'\r') => false,
        Some(0xc2) => text.get(at + 1).is_some_and(|next| *next < 0xa0),
        Some(byte) => *byte < 0x20 || *byte == 0x7f,
    };
    (from..text.len()).find(is_control)
}

fn told(detail: String) -> Sample {
    Sample {
        detail,
        ..Sample::default()
    }
}

/// A byte order mark where the contract takes none.
pub(crate) fn refuse_mark(report: &mut Report) -> Refused {
    let sample = Sample {
        line: Some(1),
        byte: Some(0),
        detail: "the file starts with a byte order mark".to_owned(),
        ..Sample::default()
    };
    let rule = "no byte order mark";
    let hint = Some("Save the file without a byte order mark (BOM).".to_owned());
    report.refuse(0, Code::EncodingError, None, rule, hint, sample)
}

/// There is nothing in the file.
pub(crate) fn refuse_empty(at: u64, report: &mut Report) -> Refused {
    let sample = Sample {
        detail: "the file is empty".to_owned(),
        ..Sample::default()
    };
    report.refuse(at, Code::FormatError, None, "a header", None, sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::envelope::no_columns;

    #[test]
    fn white_space_between_objects_is_not_kept() {
        let rules = TableRules {
            schema: no_columns(),
            format: RowFormat::Json(JsonShape::Array),
            output: OutputFormat::Json(JsonShape::Array),
            bom: Bom::Strip,
            trailer: None,
            leaves_out: false,
        };
        let mut table = Table::new(rules, Vec::new(), [0; 16]);
        let (mut report, mut out) = (Report::default(), Vec::new());
        table.push(b"[", &mut report, &mut out).unwrap();
        for _ in 0..64 {
            let space = vec![b' '; limits::INSPECT_PIECE_BYTES];
            table.push(&space, &mut report, &mut out).unwrap();
            assert!(table.buffer.len() <= limits::INSPECT_PIECE_BYTES);
        }
        table.push(b"]", &mut report, &mut out).unwrap();
        table.finish(&mut report, &mut out).unwrap();
        let pieces = u64::try_from(64 * limits::INSPECT_PIECE_BYTES).unwrap();
        assert_eq!(table.taken(), pieces + 2);
    }
}
