//! A strict CSV tokenizer (RFC 4180): bytes in, an index of records and cells out.
//!
//! It never guesses and never allocates per cell. Quotes surround a whole cell or are a fault;
//! CR ends a line only together with LF. Faults after which the structure is known are *marks*
//! on a cell and the scan goes on: a CR alone, a control character. Faults after which it would
//! be a guess end the scan at an exact byte ([`ScanFault`]): text after a closing quote, a quote
//! inside an unquoted cell, a quote never closed, a line end the dialect does not take, a cell,
//! record or column count over its limit.
//!
//! The scan can stop after any byte and go on later: its state is a few words, and the bytes
//! of the unfinished record stay with the caller. So cutting the input changes nothing.
//!
//! Bytes are looked at eight at a time (arithmetic on words, no intrinsics); only delimiters,
//! quotes, line ends and control characters are then visited one by one.

use crate::inspect::records::{
    Bounds, Cell, Form, Index, Mark, MarkKind, Record, Unfinished, short, wide,
};
use crate::policy::contract::{Dialect, Newline};

/// Why the scan ended before the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanFault {
    /// What it met.
    pub(crate) kind: ScanFaultKind,
    /// Where, in the caller's buffer.
    pub(crate) at: usize,
    /// The physical line; of a quote never closed, where it opened.
    pub(crate) line: u64,
}

/// What ended a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanFaultKind {
    /// A cell over its limit.
    CellTooLong,
    /// CRLF where the dialect takes only LF.
    Crlf,
    /// LF where the dialect takes only CRLF.
    Lf,
    /// Something behind the array.
    JsonBehind,
    /// Text that is not JSON.
    JsonBroken,
    /// The file ends inside an object.
    JsonCut,
    /// Values in values in values.
    JsonDepth,
    /// No array.
    JsonNoArray,
    /// Neither a comma nor the end behind an object.
    JsonNoComma,
    /// No object where one must be.
    JsonNoObject,
    /// The file ends inside the array.
    JsonOpen,
    /// A quote in a cell that did not start with one.
    QuoteInside,
    /// A record over its limit.
    RecordTooLong,
    /// Something else than a delimiter or a line end after a closing quote.
    TextAfterQuote,
    /// More columns than the limit.
    TooManyColumns,
    /// The file ends inside quotes.
    UnclosedQuote,
}

/// The state of a scan between two pieces.
#[derive(Debug)]
pub(crate) struct Scanner {
    delimiter: u8,
    quote: u8,
    newline: Newline,
    bounds: Bounds,
    state: State,
    /// Next byte to look at.
    pos: usize,
    /// Physical line of `pos`, from 1.
    line: u64,
    record_start: usize,
    record_line: u64,
    record_cell: usize,
    record_mark: usize,
    has_quoted: bool,
    content_start: usize,
    cell_line: u64,
    /// Doubled quotes in the cell so far.
    escapes: usize,
    seen: LineEnds,
    mixed_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In or before an unquoted cell.
    Plain,
    /// After a CR at this place outside quotes.
    PlainCr(usize),
    /// Inside quotes.
    Quoted,
    /// After a quote at this place that closes the cell or is the first of a pair.
    Closed(usize),
    /// After a closing quote and a CR at this place.
    ClosedCr(usize),
}

/// The kind of line end met first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnds {
    None,
    Lf,
    Crlf,
}

// === impl Scanner ===

impl Scanner {
    /// Starts at a buffer's first byte, in line 1. Bounds past 1 GiB are taken as 1 GiB.
    pub(crate) fn new(dialect: Dialect, bounds: Bounds) -> Self {
        const SPAN_MAX: usize = 1 << 30;
        Self {
            delimiter: dialect.delimiter,
            quote: dialect.quote,
            newline: dialect.newline,
            bounds: Bounds {
                cell_bytes_max: bounds.cell_bytes_max.min(SPAN_MAX),
                record_bytes_max: bounds.record_bytes_max.min(SPAN_MAX),
                columns_max: bounds.columns_max.clamp(1, SPAN_MAX),
            },
            state: State::Plain,
            pos: 0,
            line: 1,
            record_start: 0,
            record_line: 1,
            record_cell: 0,
            record_mark: 0,
            has_quoted: false,
            content_start: 0,
            cell_line: 1,
            escapes: 0,
            seen: LineEnds::None,
            mixed_told: false,
        }
    }

    /// The physical line of the next byte.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// The unfinished record's cells so far: the number of the cell the next byte belongs to.
    pub(crate) fn column(&self, index: &Index) -> usize {
        index.cells.len() - self.record_cell
    }

    /// Where the record begins that is not whole yet.
    pub(crate) fn unfinished(&self) -> Unfinished {
        Unfinished {
            start: self.record_start,
            cell: self.record_cell,
            mark: self.record_mark,
        }
    }

    /// Whether nothing of another record has been seen.
    fn is_at_record_start(&self) -> bool {
        self.record_start == self.pos && self.state == State::Plain
    }

    /// Follows the buffer after its first `bytes` were removed by [`Index::forget`]: those of
    /// the records forgotten, with all their cells and marks.
    pub(crate) fn shift(&mut self, bytes: usize, index: &Index) {
        self.pos -= bytes;
        self.record_start -= bytes;
        self.content_start -= bytes;
        match &mut self.state {
            State::Plain | State::Quoted => {}
            State::PlainCr(at) | State::Closed(at) | State::ClosedCr(at) => *at -= bytes,
        }
        let whole = index.records.iter();
        self.record_cell = whole.clone().map(|record| wide(record.cells)).sum();
        self.record_mark = whole.map(|record| wide(record.marks)).sum();
    }

    /// Looks at the bytes not yet seen: `bytes` is the whole buffer, its end a character border.
    ///
    /// # Errors
    /// [`ScanFault`] where structure ends; the records before it are in the index. The scanner
    /// must not be used again.
    pub(crate) fn scan(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        const ORDINARY: u8 = b'a';
        let from = self.pos;
        let (blocks, rest) = bytes.get(from..).unwrap_or_default().as_chunks::<64>();
        let mut base = from;
        for block in blocks {
            self.block(base, self.specials(block), bytes, index)?;
            base += 64;
        }
        if !rest.is_empty() {
            let mut block = [ORDINARY; 64];
            for (to, from) in block.iter_mut().zip(rest) {
                *to = *from;
            }
            // A delimiter that is the filler itself would be seen past the end.
            let real = u64::MAX >> (64 - rest.len());
            self.block(base, self.specials(&block) & real, bytes, index)?;
        }
        self.pos = bytes.len();
        self.settle(bytes.len(), index)?;
        self.within_bounds(bytes.len())
    }

    /// The last byte has been scanned: closes the last record, if there is one.
    ///
    /// # Errors
    /// As [`Scanner::scan`].
    pub(crate) fn end(&mut self, index: &mut Index) -> Result<(), ScanFault> {
        if self.is_at_record_start() {
            return Ok(());
        }
        match self.state {
            State::Quoted => {
                let fault = self.fault(ScanFaultKind::UnclosedQuote, self.content_start - 1);
                return Err(ScanFault {
                    line: self.cell_line,
                    ..fault
                });
            }
            State::ClosedCr(at) => return Err(self.fail(ScanFaultKind::TextAfterQuote, at)),
            State::PlainCr(at) => {
                self.mark(MarkKind::LoneCr, at, index);
                self.state = State::Plain;
                self.within_bounds(self.pos)?;
                self.end_cell(self.pos, index)?;
            }
            State::Plain => self.end_cell(self.pos, index)?,
            State::Closed(at) => self.end_cell(at, index)?,
        }
        self.end_record(self.pos, index)?;
        self.record_start = self.pos;
        Ok(())
    }

    /// One bit for every byte of a block that has to be visited.
    #[inline]
    fn specials(&self, block: &[u8; 64]) -> u64 {
        const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
        const SPACES: u64 = 0x2020_2020_2020_2020;
        // Gathers the high bit of each byte into the top byte, in order.
        const GATHER: u64 = 0x0102_0408_1020_4080;
        let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
        let unlike = |word: u64, pattern: u64| {
            let other = word ^ pattern;
            ((other & LOW_BITS) + LOW_BITS) | other
        };
        let (delimiter, quote) = (each(self.delimiter), each(self.quote));
        let (delete, c1_lead) = (each(0x7f), each(0xc2));
        let mut mask = 0;
        for (place, word) in block.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let not_control = ((word | HIGH_BITS) - SPACES) | word;
            let ordinary = not_control
                & unlike(word, delimiter)
                & unlike(word, quote)
                & unlike(word, delete)
                & unlike(word, c1_lead);
            let found = (!ordinary & HIGH_BITS) >> 7;
            mask |= (found.wrapping_mul(GATHER) >> 56) << (place * 8);
        }
        mask
    }

    #[inline]
    fn block(
        &mut self,
        base: usize,
        mut mask: u64,
        bytes: &[u8],
        index: &mut Index,
    ) -> Result<(), ScanFault> {
        while mask != 0 {
            let at = base + wide(mask.trailing_zeros());
            mask &= mask - 1;
            let byte = bytes.get(at).copied().unwrap_or_default();
            self.visit(at, byte, bytes, index)?;
        }
        Ok(())
    }

    /// One byte that may mean something.
    #[inline]
    fn visit(
        &mut self,
        at: usize,
        byte: u8,
        bytes: &[u8],
        index: &mut Index,
    ) -> Result<(), ScanFault> {
        loop {
            match self.state {
                State::Plain => {
                    if byte == self.delimiter {
                        self.end_cell(at, index)?;
                        return self.begin_cell(at, index);
                    }
                    if byte == self.quote {
                        if at == self.content_start {
                            self.state = State::Quoted;
                            self.content_start = at + 1;
                            self.has_quoted = true;
                            return Ok(());
                        }
                        return Err(self.fail(ScanFaultKind::QuoteInside, at));
                    }
                    match byte {
                        b'\n' => {
                            self.end_cell(at, index)?;
                            return self.end_line(LineEnds::Lf, at, at, index);
                        }
                        b'\r' => self.state = State::PlainCr(at),
                        _ => self.control(at, byte, bytes, index),
                    }
                    return Ok(());
                }
                State::PlainCr(cr) => {
                    if at == cr + 1 && byte == b'\n' {
                        self.end_cell(cr, index)?;
                        return self.end_line(LineEnds::Crlf, cr, at, index);
                    }
                    self.mark(MarkKind::LoneCr, cr, index);
                    self.state = State::Plain;
                }
                State::Quoted => {
                    if byte == self.quote {
                        self.state = State::Closed(at);
                    } else if byte == b'\n' {
                        self.line += 1;
                    } else if byte != self.delimiter && byte != b'\r' {
                        self.control(at, byte, bytes, index);
                    }
                    return Ok(());
                }
                State::Closed(close) => {
                    if at != close + 1 {
                        return Err(self.fail(ScanFaultKind::TextAfterQuote, close + 1));
                    }
                    if byte == self.quote {
                        // From here on the pair is one byte: judge what came before it first.
                        self.within_bounds(at)?;
                        self.escapes += 1;
                        self.state = State::Quoted;
                        return Ok(());
                    }
                    if byte == self.delimiter {
                        self.end_cell(close, index)?;
                        return self.begin_cell(at, index);
                    }
                    match byte {
                        b'\n' => {
                            self.end_cell(close, index)?;
                            return self.end_line(LineEnds::Lf, at, at, index);
                        }
                        b'\r' => self.state = State::ClosedCr(at),
                        _ => return Err(self.fail(ScanFaultKind::TextAfterQuote, at)),
                    }
                    return Ok(());
                }
                State::ClosedCr(cr) => {
                    if at == cr + 1 && byte == b'\n' {
                        self.end_cell(cr - 1, index)?;
                        return self.end_line(LineEnds::Crlf, cr, at, index);
                    }
                    return Err(self.fail(ScanFaultKind::TextAfterQuote, cr));
                }
            }
        }
    }

    /// Decides what the end of a piece already decides: bytes between the last visited one and
    /// `end` are ordinary.
    fn settle(&mut self, end: usize, index: &mut Index) -> Result<(), ScanFault> {
        match self.state {
            State::PlainCr(cr) if cr + 1 < end => {
                self.mark(MarkKind::LoneCr, cr, index);
                self.state = State::Plain;
                Ok(())
            }
            State::Closed(close) if close + 1 < end => {
                Err(self.fail(ScanFaultKind::TextAfterQuote, close + 1))
            }
            State::ClosedCr(cr) if cr + 1 < end => {
                Err(self.fail(ScanFaultKind::TextAfterQuote, cr))
            }
            State::Plain
            | State::Quoted
            | State::PlainCr(_)
            | State::Closed(_)
            | State::ClosedCr(_) => Ok(()),
        }
    }

    #[cold]
    fn control(&mut self, at: usize, byte: u8, bytes: &[u8], index: &mut Index) {
        let is_control = match byte {
            b'\t' => false,
            0..=0x1f | 0x7f => true,
            // U+0080 to U+009F.
            0xc2 => bytes.get(at + 1).is_some_and(|next| *next < 0xa0),
            _ => false,
        };
        if is_control {
            self.mark(MarkKind::Control, at, index);
        }
    }

    /// One mark per cell and kind: a flood of them costs no more than the cells do.
    #[cold]
    fn mark(&mut self, kind: MarkKind, at: usize, index: &mut Index) {
        let cell = short(self.column(index));
        let marks = index.marks.get(self.record_mark..).unwrap_or_default();
        let known = marks
            .iter()
            .rev()
            .take_while(|mark| mark.cell == cell)
            .any(|mark| mark.kind == kind);
        if !known {
            let at = short(at);
            index.marks.push(Mark { cell, at, kind });
        }
    }

    /// A cell's content ends before `end`.
    #[inline]
    fn end_cell(&mut self, end: usize, index: &mut Index) -> Result<(), ScanFault> {
        if end - self.content_start - self.escapes > self.bounds.cell_bytes_max
            || end - self.record_start > self.bounds.record_bytes_max
        {
            return self.within_bounds(end);
        }
        let form = match (self.state, self.escapes) {
            (State::Plain | State::PlainCr(_), _) => Form::Plain,
            (State::Quoted | State::Closed(_) | State::ClosedCr(_), 0) => Form::Quoted,
            (State::Quoted | State::Closed(_) | State::ClosedCr(_), _) => Form::Escaped,
        };
        index.cells.push(Cell {
            start: short(self.content_start),
            end: short(end),
            form,
        });
        Ok(())
    }

    /// A delimiter at `at`: the next cell starts behind it.
    #[inline]
    fn begin_cell(&mut self, at: usize, index: &Index) -> Result<(), ScanFault> {
        self.content_start = at + 1;
        self.cell_line = self.line;
        self.escapes = 0;
        self.state = State::Plain;
        if self.column(index) >= self.bounds.columns_max {
            return Err(self.fault(ScanFaultKind::TooManyColumns, at));
        }
        Ok(())
    }

    /// A line end whose bytes are `from..=to`.
    #[inline]
    fn end_line(
        &mut self,
        kind: LineEnds,
        from: usize,
        to: usize,
        index: &mut Index,
    ) -> Result<(), ScanFault> {
        self.end_record(from, index)?;
        let line = self.line;
        self.line += 1;
        self.record_start = to + 1;
        self.record_line = self.line;
        self.content_start = to + 1;
        self.cell_line = self.line;
        self.state = State::Plain;
        match (self.newline, kind) {
            (Newline::Lf, LineEnds::Crlf) => Err(ScanFault {
                kind: ScanFaultKind::Crlf,
                at: from,
                line,
            }),
            (Newline::Crlf, LineEnds::Lf) => Err(ScanFault {
                kind: ScanFaultKind::Lf,
                at: from,
                line,
            }),
            (Newline::Any | Newline::Lf | Newline::Crlf, _) => {
                if self.seen == LineEnds::None {
                    self.seen = kind;
                } else if self.seen != kind && !self.mixed_told {
                    self.mixed_told = true;
                    if let Some(record) = index.records.last_mut() {
                        record.is_mixed = true;
                    }
                }
                Ok(())
            }
        }
    }

    /// All cells of the record are in the index; it ends before `end`.
    #[inline]
    fn end_record(&mut self, end: usize, index: &mut Index) -> Result<(), ScanFault> {
        if end - self.record_start > self.bounds.record_bytes_max {
            return self.within_bounds(end);
        }
        index.records.push(Record {
            start: short(self.record_start),
            end: short(end),
            first_cell: short(self.record_cell),
            first_mark: short(self.record_mark),
            cells: short(index.cells.len() - self.record_cell),
            marks: short(index.marks.len() - self.record_mark),
            line: self.record_line,
            is_plain: !self.has_quoted,
            is_mixed: false,
        });
        self.record_cell = index.cells.len();
        self.record_mark = index.marks.len();
        self.has_quoted = false;
        self.escapes = 0;
        Ok(())
    }

    /// The first bound broken by the bytes before `end`. A pending CR or quote at the very end
    /// is not counted: it may turn out to be no part of the cell.
    fn within_bounds(&self, end: usize) -> Result<(), ScanFault> {
        let (cell_end, record_end) = match self.state {
            State::Plain | State::Quoted => (end, end),
            State::PlainCr(at) => (end.min(at), end.min(at)),
            State::Closed(at) => (end.min(at), end),
            State::ClosedCr(at) => (end.min(at - 1), end.min(at)),
        };
        let cell_full = self.content_start + self.escapes + self.bounds.cell_bytes_max;
        let record_full = self.record_start + self.bounds.record_bytes_max;
        let cell = (cell_end > cell_full).then_some(ScanFault {
            kind: ScanFaultKind::CellTooLong,
            at: cell_full,
            line: self.cell_line,
        });
        let record = (record_end > record_full).then_some(ScanFault {
            kind: ScanFaultKind::RecordTooLong,
            at: record_full,
            line: self.record_line,
        });
        match (cell, record) {
            (Some(cell), Some(record)) if record.at < cell.at => Err(record),
            (Some(fault), _) | (None, Some(fault)) => Err(fault),
            (None, None) => Ok(()),
        }
    }

    /// A fault at `at`, unless a bound was broken before it.
    #[cold]
    fn fail(&self, kind: ScanFaultKind, at: usize) -> ScanFault {
        match self.within_bounds(at) {
            Err(earlier) => earlier,
            Ok(()) => self.fault(kind, at),
        }
    }

    fn fault(&self, kind: ScanFaultKind, at: usize) -> ScanFault {
        let line = self.line;
        ScanFault { kind, at, line }
    }
}

// === fuzzing ===

/// What a scan found, with nothing left that depends on buffers.
#[derive(Debug, PartialEq, Eq)]
struct Scanned {
    records: Vec<(u64, u64, Vec<String>)>,
    marks: Vec<(u64, u32, MarkKind)>,
    fault: Option<(ScanFaultKind, u64, u64)>,
}

/// Scans arbitrary bytes in one dialect whole and cut in several ways, and asserts that cuts
/// change nothing: the first bytes choose the dialect and the bounds, the rest is the input.
///
/// # Panics
/// When a cut changes what is found, which is a defect of the tokenizer.
pub fn fuzz_csv(data: &[u8]) {
    use crate::policy::contract::Header;
    let (&[a, b, c], input) = data.split_first_chunk::<3>().unwrap_or((&[0; 3], data));
    let text = String::from_utf8_lossy(input);
    let pick = |from: &[u8], by: u8| from.get(usize::from(by) % from.len()).copied();
    let dialect = Dialect {
        delimiter: pick(b",;\t|", a).unwrap_or(b','),
        quote: pick(b"\"'", a / 4).unwrap_or(b'"'),
        header: Header::Absent,
        newline: match a / 8 % 3 {
            0 => Newline::Any,
            1 => Newline::Crlf,
            _ => Newline::Lf,
        },
    };
    let bounds = Bounds {
        cell_bytes_max: usize::from(b) + 1,
        record_bytes_max: usize::from(b) * 2 + usize::from(c),
        columns_max: usize::from(c % 32) + 1,
    };
    let whole = scan_in_pieces(&text, usize::MAX, dialect, bounds);
    for piece in [1, 2, 7, 63, 64, 65] {
        let cut = scan_in_pieces(&text, piece, dialect, bounds);
        assert!(
            whole == cut,
            "pieces of {piece} bytes give {cut:?}, the whole gives {whole:?}"
        );
    }
}

/// The driver of [`fuzz_csv`]: pieces of `piece` bytes, moved to the next character border.
fn scan_in_pieces(text: &str, piece: usize, dialect: Dialect, bounds: Bounds) -> Scanned {
    let mut scanner = Scanner::new(dialect, bounds);
    let mut index = Index::default();
    let mut buffer = String::new();
    let mut found = Scanned {
        records: Vec::new(),
        marks: Vec::new(),
        fault: None,
    };
    let mut scratch = String::new();
    let mut base = 0;
    let mut rest = text;
    loop {
        let mut cut = piece.min(rest.len());
        while !rest.is_char_boundary(cut) {
            cut += 1;
        }
        let (now, later) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        rest = later;
        buffer.push_str(now);
        let mut result = scanner.scan(buffer.as_bytes(), &mut index);
        if result.is_ok() && rest.is_empty() {
            result = scanner.end(&mut index);
        }
        let absolute = |at: usize| base + u64::try_from(at).unwrap_or(0);
        for record in &index.records {
            let cells = index.cells(record).iter();
            let texts = cells.map(|cell| cell.text(&buffer, dialect.quote, &mut scratch).into());
            let start = absolute(record.span().start);
            found.records.push((record.line, start, texts.collect()));
            for mark in index.marks(record) {
                found
                    .marks
                    .push((absolute(mark.at()), mark.cell, mark.kind));
            }
        }
        if let Err(fault) = result {
            found.fault = Some((fault.kind, absolute(fault.at), fault.line));
            return found;
        }
        if rest.is_empty() {
            return found;
        }
        let bytes = index.forget(index.records.len(), scanner.unfinished());
        scanner.shift(bytes, &index);
        buffer.drain(..bytes);
        base += u64::try_from(bytes).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::contract::Header;

    const COMMA: Dialect = Dialect {
        delimiter: b',',
        quote: b'"',
        header: Header::Absent,
        newline: Newline::Any,
    };
    const WIDE: Bounds = Bounds {
        cell_bytes_max: 1 << 20,
        record_bytes_max: 1 << 20,
        columns_max: 1000,
    };

    /// The records of `text`, which must be the same for every piece size, and its fault.
    #[track_caller]
    fn scan(text: &str, dialect: Dialect, bounds: Bounds) -> Scanned {
        let whole = scan_in_pieces(text, usize::MAX, dialect, bounds);
        for piece in 1..=text.len().min(70) {
            assert_eq!(
                scan_in_pieces(text, piece, dialect, bounds),
                whole,
                "pieces of {piece}"
            );
        }
        whole
    }

    #[track_caller]
    fn check(text: &str, expect: &[&[&str]]) {
        let found = scan(text, COMMA, WIDE);
        let records: Vec<Vec<String>> = found.records.into_iter().map(|r| r.2).collect();
        assert_eq!(records, expect, "{text:?}");
        assert_eq!(found.fault, None, "{text:?}");
        assert_eq!(found.marks, [], "{text:?}");
    }

    #[track_caller]
    fn check_fault(text: &str, kind: ScanFaultKind, at: u64, line: u64) {
        assert_eq!(
            scan(text, COMMA, WIDE).fault,
            Some((kind, at, line)),
            "{text:?}"
        );
    }

    #[track_caller]
    fn check_marks(text: &str, expect: &[(u64, u32, MarkKind)]) {
        let found = scan(text, COMMA, WIDE);
        assert_eq!(found.marks, expect, "{text:?}");
        assert_eq!(found.fault, None, "{text:?}");
    }

    #[test]
    fn records_are_read_as_rfc_4180_says() {
        check("", &[]);
        check("a", &[&["a"]]);
        check("a\n", &[&["a"]]);
        check("a,b\r\nc,d", &[&["a", "b"], &["c", "d"]]);
        check("a,\n,b\n", &[&["a", ""], &["", "b"]]);
        check("a,", &[&["a", ""]]);
        check(",\n", &[&["", ""]]);
        check("\n\n", &[&[""], &[""]]);
        check("\"a\",\"b\"\n", &[&["a", "b"]]);
        check("\"\"\n", &[&[""]]);
        check("\"\"", &[&[""]]);
        check("\"a,b\"\r\n", &[&["a,b"]]);
        check("\"a\nb\r\nc\"\n", &[&["a\nb\r\nc"]]);
        check("\"a\"\"b\"\n", &[&["a\"b"]]);
        check("\"\"\"\"\n", &[&["\""]]);
        check("\"\"\"\"\"\"\n", &[&["\"\""]]);
        check("\"\"\"a\"\"\"\n", &[&["\"a\""]]);
        check(" a , b \n", &[&[" a ", " b "]]);
        check("a\tb\n", &[&["a\tb"]]);
        check("\"a\tb\"\n", &[&["a\tb"]]);
        check("\u{e4}\u{a7},\u{20ac}\n", &[&["\u{e4}\u{a7}", "\u{20ac}"]]);
    }

    #[test]
    fn other_dialects_are_read_the_same_way() {
        let dialect = Dialect {
            delimiter: b'\t',
            quote: b'\'',
            ..COMMA
        };
        let found = scan("a\t'b\tc'\t\"\n'it''s'\n", dialect, WIDE);
        let records: Vec<Vec<String>> = found.records.into_iter().map(|r| r.2).collect();
        assert_eq!(records, [vec!["a", "b\tc", "\""], vec!["it's"]]);
        assert_eq!(found.marks, []);
    }

    #[test]
    fn lines_are_physical_and_bytes_absolute() {
        let found = scan("\u{e4},\"x\ny\"\r\nb\n", COMMA, WIDE);
        let places: Vec<(u64, u64)> = found.records.iter().map(|r| (r.0, r.1)).collect();
        assert_eq!(places, [(1, 0), (3, 10)]);
    }

    #[test]
    fn a_fault_of_structure_ends_the_scan_where_it_is() {
        check_fault("a\n\"b\"c\n", ScanFaultKind::TextAfterQuote, 5, 2);
        check_fault("\"a\" ,b\n", ScanFaultKind::TextAfterQuote, 3, 1);
        check_fault("\"a\"\rb\n", ScanFaultKind::TextAfterQuote, 3, 1);
        check_fault("\"a\"\r", ScanFaultKind::TextAfterQuote, 3, 1);
        check_fault("\"a\"\r\r\n", ScanFaultKind::TextAfterQuote, 3, 1);
        check_fault("a\n\"b\nc\nd", ScanFaultKind::UnclosedQuote, 2, 2);
        check_fault("a\nb,c\"d\ne\n", ScanFaultKind::QuoteInside, 5, 2);
        check_fault("a \"b\"\n", ScanFaultKind::QuoteInside, 2, 1);
        check_fault("\"", ScanFaultKind::UnclosedQuote, 0, 1);
        check_fault("a,\"b\"\"", ScanFaultKind::UnclosedQuote, 2, 1);
        assert_eq!(scan("a\n\"b\"c\n", COMMA, WIDE).records.len(), 1);
    }

    #[test]
    fn a_fault_inside_a_cell_is_marked_and_the_scan_goes_on() {
        check_marks("a\rb\n", &[(1, 0, MarkKind::LoneCr)]);
        check_marks("a,b\r", &[(3, 1, MarkKind::LoneCr)]);
        check_marks("a\r\r\n", &[(1, 0, MarkKind::LoneCr)]);
        check_marks(
            "a\0b,\0\n",
            &[(1, 0, MarkKind::Control), (4, 1, MarkKind::Control)],
        );
        check_marks("\"a\u{1b}b\"\n", &[(2, 0, MarkKind::Control)]);
        check_marks("a\u{7f}\n", &[(1, 0, MarkKind::Control)]);
        check_marks("a\u{85}\n", &[(1, 0, MarkKind::Control)]);
        check_marks("a\u{9f}\u{a0}\n", &[(1, 0, MarkKind::Control)]);
        check_marks("\0\0\0\0\n", &[(0, 0, MarkKind::Control)]);
        check_marks("a\u{a0}\u{c2}\n", &[]);
    }

    #[test]
    fn line_ends_are_those_of_the_dialect() {
        let lf = Dialect {
            newline: Newline::Lf,
            ..COMMA
        };
        let crlf = Dialect {
            newline: Newline::Crlf,
            ..COMMA
        };
        let found = scan("a\nb\r\nc\n", lf, WIDE);
        assert_eq!(found.fault, Some((ScanFaultKind::Crlf, 3, 2)));
        assert_eq!(found.records.len(), 2);
        let found = scan("\"a\nb\"\r\nb\nc", crlf, WIDE);
        assert_eq!(found.fault, Some((ScanFaultKind::Lf, 8, 3)));
        assert_eq!(scan("a\r\nb", crlf, WIDE).fault, None);
    }

    #[test]
    fn only_the_first_record_with_another_line_end_is_told() {
        let mut scanner = Scanner::new(COMMA, WIDE);
        let mut index = Index::default();
        scanner.scan(b"a\nb\nc\r\nd\ne\r\n", &mut index).unwrap();
        let mixed: Vec<bool> = index.records.iter().map(|r| r.is_mixed).collect();
        assert_eq!(mixed, [false, false, true, false, false]);
    }

    #[test]
    fn bounds_strike_at_their_byte() {
        let bounds = Bounds {
            cell_bytes_max: 4,
            record_bytes_max: 10,
            columns_max: 3,
        };
        let fault = |text| scan(text, COMMA, bounds).fault;
        assert_eq!(
            fault("abcd,\"abcd\"\nx"),
            Some((ScanFaultKind::RecordTooLong, 10, 1))
        );
        assert_eq!(fault("abcd,abcd\r\nx"), None);
        assert_eq!(fault("a\nabcde"), Some((ScanFaultKind::CellTooLong, 6, 2)));
        assert_eq!(
            fault("\"a\nbcd\""),
            Some((ScanFaultKind::CellTooLong, 5, 1))
        );
        assert_eq!(fault("\"abcd\"\r\n"), None);
        assert_eq!(fault("abcd\r"), Some((ScanFaultKind::CellTooLong, 4, 1)));
        assert_eq!(fault("a,b,c\n"), None);
        assert_eq!(fault("a,b,c,"), Some((ScanFaultKind::TooManyColumns, 5, 1)));
        assert_eq!(
            fault("abcd,abcd,a"),
            Some((ScanFaultKind::RecordTooLong, 10, 1))
        );
        assert_eq!(
            fault("\"ab\"cdefghijklm"),
            Some((ScanFaultKind::TextAfterQuote, 4, 1))
        );
        assert_eq!(
            fault("\"abcde\"x"),
            Some((ScanFaultKind::CellTooLong, 5, 1))
        );
        assert_eq!(fault("\"a\"\"\"\"d\"\n"), None);
        assert_eq!(
            fault("\"a\"\"\"\"de\"\n"),
            Some((ScanFaultKind::CellTooLong, 7, 1))
        );
    }

    #[test]
    fn every_byte_is_seen_wherever_it_stands_in_a_block() {
        for byte in 0..=255_u8 {
            let scanner = Scanner::new(COMMA, WIDE);
            let special = byte < 0x20 || [b',', b'"', 0x7f, 0xc2].contains(&byte);
            for place in 0..64 {
                let mut block = [b'x'; 64];
                block[place] = byte;
                let expect = if special { 1 << place } else { 0 };
                assert_eq!(scanner.specials(&block), expect, "byte {byte} at {place}");
            }
            let expect = if special { u64::MAX } else { 0 };
            assert_eq!(
                scanner.specials(&[byte; 64]),
                expect,
                "byte {byte} everywhere"
            );
        }
    }

    /// The records as csv-core reads them.
    fn oracle(text: &str) -> Vec<Vec<String>> {
        let mut reader = csv_core::Reader::new();
        let (mut fields, mut ends) = (vec![0; text.len() + 1], vec![0; text.len() + 2]);
        let (mut records, mut rest) = (Vec::new(), text.as_bytes());
        let (mut written, mut count) = (0, 0);
        loop {
            let (result, read, wrote, more) =
                reader.read_record(rest, &mut fields[written..], &mut ends[count..]);
            (rest, written, count) = (&rest[read..], written + wrote, count + more);
            match result {
                csv_core::ReadRecordResult::InputEmpty => {}
                csv_core::ReadRecordResult::Record => {
                    let mut start = 0;
                    let cells = ends[..count].iter().map(|&end| {
                        let cell = String::from_utf8(fields[start..end].to_vec()).unwrap();
                        start = end;
                        cell
                    });
                    records.push(cells.collect());
                    (written, count) = (0, 0);
                }
                csv_core::ReadRecordResult::End => return records,
                full @ (csv_core::ReadRecordResult::OutputFull
                | csv_core::ReadRecordResult::OutputEndsFull) => panic!("{full:?}"),
            }
        }
    }

    /// Well-formed CSV and its records; no record is a lone empty cell, which is a blank line.
    fn well_formed() -> impl Strategy<Value = (String, Vec<Vec<String>>)> {
        let cell = "[a-c \u{e4}\u{20ac}\t,\"\n\r]{0,8}";
        let row = prop::collection::vec((cell, any::<bool>()), 1..6);
        let rows = prop::collection::vec((row, any::<bool>()), 0..12);
        (rows, any::<bool>()).prop_map(|(rows, ended)| {
            let (mut text, mut records) = (String::new(), Vec::new());
            let count = rows.len();
            for (number, (row, crlf)) in rows.into_iter().enumerate() {
                let alone = row.len() == 1;
                let mut record = Vec::new();
                for (place, (cell, quoted)) in row.into_iter().enumerate() {
                    if place > 0 {
                        text.push(',');
                    }
                    let must = cell.contains(['"', ',', '\n', '\r']) || (alone && cell.is_empty());
                    if quoted || must {
                        text.push('"');
                        text.push_str(&cell.replace('"', "\"\""));
                        text.push('"');
                    } else {
                        text.push_str(&cell);
                    }
                    record.push(cell);
                }
                records.push(record);
                if number + 1 < count || ended {
                    text.push_str(if crlf { "\r\n" } else { "\n" });
                }
            }
            (text, records)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn well_formed_files_read_as_written_and_as_csv_core_reads_them(
            (text, records) in well_formed()
        ) {
            let found = scan_in_pieces(&text, usize::MAX, COMMA, WIDE);
            prop_assert_eq!(found.fault, None);
            prop_assert_eq!(found.marks, vec![]);
            let read: Vec<Vec<String>> = found.records.into_iter().map(|r| r.2).collect();
            prop_assert_eq!(&read, &records);
            prop_assert_eq!(&read, &oracle(&text));
        }

        #[test]
        fn cuts_change_nothing_for_arbitrary_bytes(
            head in any::<[u8; 3]>(),
            body in "[ab,;\t|\"'\n\r\u{0}\u{7f}\u{85}\u{e4}]{0,200}",
        ) {
            let mut data = head.to_vec();
            data.extend_from_slice(body.as_bytes());
            fuzz_csv(&data);
        }
    }
}
