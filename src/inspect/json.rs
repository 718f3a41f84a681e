//! A strict reader of JSON records (RFC 8259): one object a line, or one array of objects.
//!
//! It finds where each object ends, takes it apart, and fills the index of rows: a cell for each
//! column of the contract, in the contract's order, whose span is in the caller's buffer as it was
//! sent. Strings with escapes are undone when they are looked at, numbers stay text. What leaves the
//! object's place in the file known is a *mark* and the scan goes on: a key twice, a key the contract
//! does not know, a value of the wrong kind, on its own line even a broken object. What does not ends
//! the scan at an exact byte.
//!
//! No recursion: what is nested is only skipped, with a bit for each level. Cutting the input changes
//! nothing, since an object is looked at when all of it is there.

use std::collections::BTreeMap;

use crate::inspect::csv::{ScanFault, ScanFaultKind};
use crate::inspect::records::{
    Bounds, Cell, Form, Index, Mark, MarkKind, Record, Unfinished, short, wide,
};
use crate::inspect::schema;
use crate::policy::contract::{ExtraColumns, JsonShape, Kind, MissingColumns, Schema};

/// Deepest nesting of a value.
const DEPTH_MAX: u32 = 64;

/// The state of a scan between two pieces.
pub(crate) struct JsonScanner {
    shape: JsonShape,
    bounds: Bounds,
    columns: Columns,
    /// Next byte to look at.
    pos: usize,
    /// Physical line of `pos`, from 1.
    line: u64,
    record_start: usize,
    record_line: u64,
    state: State,
    cells: usize,
    marks: usize,
}

/// Where a scan is outside the objects' own text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the array.
    Start,
    /// Behind its bracket.
    First,
    /// Behind a comma.
    Next,
    /// In an object.
    Inside {
        depth: u32,
        in_string: bool,
        is_escaped: bool,
    },
    /// Behind an object.
    Behind,
    /// Behind the array.
    End,
}

/// The contract's columns, as keys look them up.
struct Columns {
    names: Vec<String>,
    kinds: Vec<Wanted>,
    map: BTreeMap<String, usize>,
    schema: Schema,
    /// A key without a column is a fault.
    asks_extra: bool,
    /// A column without a key is a fault.
    asks_missing: bool,
    /// Cells of the object being read.
    slots: Vec<Option<Cell>>,
}

/// What a value of a column may be in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Boolean,
    /// A number, or its text.
    Number,
    Text,
}

/// A value that was read.
struct Value {
    kind: ValueKind,
    /// Its text, quotes left out.
    start: usize,
    end: usize,
    is_escaped: bool,
    /// The first byte behind it.
    next: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueKind {
    Array,
    Boolean,
    Null,
    Number,
    Object,
    Text,
}

/// What is wrong with an object.
#[derive(Debug)]
struct Broken {
    at: usize,
    flaw: Flaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// It is not JSON.
    Broken,
    /// Values in values, too deep.
    Depth,
    /// It is no object.
    NoObject,
    /// More members than a record may have columns.
    TooMany,
    /// A value over its limit.
    TooLong,
}

// === impl JsonScanner ===

impl JsonScanner {
    /// Starts at a buffer's first byte, in line 1.
    pub(crate) fn new(shape: JsonShape, schema: &Schema, bounds: Bounds) -> Self {
        const SPAN_MAX: usize = 1 << 30;
        Self {
            shape,
            bounds: Bounds {
                cell_bytes_max: bounds.cell_bytes_max.min(SPAN_MAX),
                record_bytes_max: bounds.record_bytes_max.min(SPAN_MAX),
                columns_max: bounds.columns_max,
            },
            columns: Columns::new(schema),
            pos: 0,
            line: 1,
            record_start: 0,
            record_line: 1,
            state: State::Start,
            cells: 0,
            marks: 0,
        }
    }

    /// The physical line of the next byte.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Where the record begins that is not whole yet.
    pub(crate) fn unfinished(&self) -> Unfinished {
        Unfinished {
            start: self.record_start,
            cell: self.cells,
            mark: self.marks,
        }
    }

    /// Follows the buffer after its first `bytes` were removed by [`Index::forget`].
    pub(crate) fn shift(&mut self, bytes: usize, index: &Index) {
        self.pos -= bytes;
        self.record_start -= bytes;
        let whole = index.records.iter();
        self.cells = whole.clone().map(|record| wide(record.cells)).sum();
        self.marks = whole.map(|record| wide(record.marks)).sum();
    }

    /// Looks at the bytes not yet seen: `bytes` is the whole buffer, its end a character border.
    ///
    /// # Errors
    /// [`ScanFault`] where structure ends; the records before it are in the index. The scanner
    /// must not be used again.
    pub(crate) fn scan(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        match self.shape {
            JsonShape::Lines => self.lines(bytes, index),
            JsonShape::Array => self.array(bytes, index),
        }
    }

    /// The last byte has been scanned.
    ///
    /// # Errors
    /// As [`JsonScanner::scan`].
    pub(crate) fn end(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        match (self.shape, self.state) {
            (JsonShape::Lines, _) => {
                if self.record_start < bytes.len() {
                    self.one_line(bytes, bytes.len(), index)?;
                    self.record_start = bytes.len();
                }
                Ok(())
            }
            (JsonShape::Array, State::End) => Ok(()),
            (JsonShape::Array, State::Start) => {
                Err(self.fault(ScanFaultKind::JsonNoArray, bytes.len()))
            }
            (JsonShape::Array, State::Inside { .. }) => Err(ScanFault {
                kind: ScanFaultKind::JsonCut,
                at: self.record_start,
                line: self.record_line,
            }),
            (JsonShape::Array, State::First | State::Next | State::Behind) => {
                Err(self.fault(ScanFaultKind::JsonOpen, bytes.len()))
            }
        }
    }

    // --- one object a line ---

    fn lines(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        while let Some(found) = memchr::memchr(b'\n', bytes.get(self.pos..).unwrap_or_default()) {
            let end = self.pos + found;
            self.one_line(bytes, end, index)?;
            self.line += 1;
            self.pos = end + 1;
            self.record_start = self.pos;
            self.record_line = self.line;
        }
        self.pos = bytes.len();
        self.within_bounds(bytes.len())
    }

    fn one_line(&mut self, bytes: &[u8], end: usize, index: &mut Index) -> Result<(), ScanFault> {
        self.within_bounds(end)?;
        let start = self.record_start;
        let line = bytes.get(start..end).unwrap_or_default();
        if line.iter().all(|byte| is_space(*byte)) {
            // A blank line is a row without cells.
            self.columns.slots.clear();
            self.push(start..start, index);
            return Ok(());
        }
        match self.object(bytes, start, end, index) {
            Ok(next) => match after_spaces(bytes, next, end) {
                None => {}
                Some(at) => self.broken(at, MarkKind::JsonBehind, index),
            },
            Err(broken) => match broken.flaw {
                Flaw::Depth | Flaw::TooLong | Flaw::TooMany => {
                    return Err(self.fault(broken.flaw.kind(), broken.at));
                }
                Flaw::NoObject => self.broken(broken.at, MarkKind::JsonNoObject, index),
                Flaw::Broken => self.broken(broken.at, MarkKind::JsonBroken, index),
            },
        }
        self.push(start..end, index);
        Ok(())
    }

    /// The line's own cells are not to be judged; one mark says why.
    fn broken(&mut self, at: usize, kind: MarkKind, index: &mut Index) {
        index.cells.truncate(self.cells);
        index.marks.truncate(self.marks);
        self.columns.slots.fill(None);
        index.marks.push(Mark {
            cell: u32::MAX,
            at: short(at),
            kind,
        });
    }

    // --- an array of objects ---

    fn array(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        while let Some(&byte) = bytes.get(self.pos) {
            let at = self.pos;
            self.pos += 1;
            if byte == b'\n' {
                self.line += 1;
            }
            if let State::Inside {
                depth,
                in_string,
                is_escaped,
            } = self.state
            {
                self.inside(bytes, at, byte, (depth, in_string, is_escaped), index)?;
                continue;
            }
            if is_space(byte) {
                continue;
            }
            self.state = match (self.state, byte) {
                (State::Start, b'[') => State::First,
                (State::Start, _) => return Err(self.fault(ScanFaultKind::JsonNoArray, at)),
                (State::First | State::Next, b'{') => {
                    self.record_start = at;
                    self.record_line = self.line;
                    State::Inside {
                        depth: 1,
                        in_string: false,
                        is_escaped: false,
                    }
                }
                (State::First | State::Behind, b']') => State::End,
                (State::Behind, b',') => State::Next,
                (State::First | State::Next, _) => {
                    return Err(self.fault(ScanFaultKind::JsonNoObject, at));
                }
                (State::Behind, _) => return Err(self.fault(ScanFaultKind::JsonNoComma, at)),
                (State::End, _) => return Err(self.fault(ScanFaultKind::JsonBehind, at)),
                (State::Inside { .. }, _) => self.state,
            };
        }
        match self.state {
            State::Inside { .. } => self.within_bounds(bytes.len()),
            State::Start | State::First | State::Next | State::Behind | State::End => {
                self.record_start = self.pos;
                self.record_line = self.line;
                Ok(())
            }
        }
    }

    #[inline]
    fn inside(
        &mut self,
        bytes: &[u8],
        at: usize,
        byte: u8,
        (depth, in_string, is_escaped): (u32, bool, bool),
        index: &mut Index,
    ) -> Result<(), ScanFault> {
        let mut next = (depth, in_string, false);
        match byte {
            _ if in_string && is_escaped => {}
            b'\\' if in_string => next.2 = true,
            b'"' => next.1 = !in_string,
            b'{' | b'[' if !in_string => next.0 += 1,
            b'}' | b']' if !in_string => next.0 -= 1,
            _ => {}
        }
        if next.0 > 0 {
            self.state = State::Inside {
                depth: next.0,
                in_string: next.1,
                is_escaped: next.2,
            };
            return Ok(());
        }
        let end = at + 1;
        self.within_bounds(end)?;
        let start = self.record_start;
        let line = self.record_line;
        let breaks = |to: usize| {
            let before = bytes.get(start..to).unwrap_or_default();
            u64::try_from(memchr::memchr_iter(b'\n', before).count()).unwrap_or(0)
        };
        match self.object(bytes, start, end, index) {
            Ok(next) if next == end => {}
            // The object ends before its brackets are even: they are of two kinds.
            Ok(next) => {
                return Err(ScanFault {
                    kind: ScanFaultKind::JsonBroken,
                    at: next,
                    line: line + breaks(next),
                });
            }
            Err(broken) => {
                return Err(ScanFault {
                    kind: broken.flaw.kind(),
                    at: broken.at,
                    line: line + breaks(broken.at),
                });
            }
        }
        self.push(start..end, index);
        self.state = State::Behind;
        self.record_start = end;
        self.record_line = self.line;
        Ok(())
    }

    // --- one object ---

    /// Reads the object that begins behind white space at `start` and ends at most before `end`.
    /// Gives the first byte behind it.
    fn object(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        index: &mut Index,
    ) -> Result<usize, Broken> {
        let text = bytes.get(..end).unwrap_or_default();
        let columns = &mut self.columns;
        columns.slots.clear();
        columns.slots.resize(columns.names.len(), None);
        let mut at = skip_spaces(text, start);
        if text.get(at) != Some(&b'{') {
            let flaw = Flaw::NoObject;
            return Err(Broken { at, flaw });
        }
        at = skip_spaces(text, at + 1);
        let (mut expected, mut members) = (0, 0);
        if text.get(at) == Some(&b'}') {
            self.absent(at, index);
            return Ok(at + 1);
        }
        loop {
            let key = string(text, at)?;
            members += 1;
            if members > self.bounds.columns_max {
                let flaw = Flaw::TooMany;
                return Err(Broken { at, flaw });
            }
            at = skip_spaces(text, key.next);
            if text.get(at) != Some(&b':') {
                return Err(broken(at));
            }
            at = skip_spaces(text, at + 1);
            let value = value(text, at)?;
            if value.end - value.start > self.bounds.cell_bytes_max {
                let at = value.start + self.bounds.cell_bytes_max;
                let flaw = Flaw::TooLong;
                return Err(Broken { at, flaw });
            }
            let found = self.columns.find(text, &key, expected);
            expected = found.map_or(expected, |column| column + 1);
            self.take(text, &key, &value, found, index);
            at = skip_spaces(text, value.next);
            match text.get(at) {
                Some(b',') => at = skip_spaces(text, at + 1),
                Some(b'}') => break,
                Some(_) | None => return Err(broken(at)),
            }
        }
        self.absent(at, index);
        Ok(at + 1)
    }

    /// One member of an object.
    fn take(
        &mut self,
        text: &[u8],
        key: &Value,
        value: &Value,
        column: Option<usize>,
        index: &mut Index,
    ) {
        let mut mark = |cell: usize, at: usize, kind: MarkKind| {
            index.marks.push(Mark {
                cell: short(cell),
                at: short(at),
                kind,
            });
        };
        let Some(column) = column else {
            if self.columns.asks_extra {
                mark(usize::MAX, key.start - 1, MarkKind::JsonExtraKey);
            }
            return;
        };
        let wanted = self.columns.kinds.get(column).copied();
        let Some(slot) = self.columns.slots.get_mut(column) else {
            return;
        };
        if slot.is_some() {
            mark(column, key.start - 1, MarkKind::JsonRepeat);
            return;
        }
        let form = match (value.kind, wanted) {
            (ValueKind::Null, _) => Form::Null,
            (ValueKind::Text, Some(Wanted::Text | Wanted::Number)) if value.is_escaped => {
                Form::JsonEscaped
            }
            (ValueKind::Text, Some(Wanted::Text | Wanted::Number)) => Form::Quoted,
            (ValueKind::Number, Some(Wanted::Number))
            | (ValueKind::Boolean, Some(Wanted::Boolean)) => Form::Plain,
            (_, _) => {
                let quote = usize::from(value.kind == ValueKind::Text);
                mark(column, value.start - quote, MarkKind::JsonKind);
                Form::Absent
            }
        };
        *slot = Some(Cell {
            start: short(value.start),
            end: short(value.end),
            form,
        });
        if value.kind == ValueKind::Text && form != Form::Absent {
            let content = text.get(value.start..value.end).unwrap_or_default();
            if let Some(found) = control(content, value.is_escaped) {
                mark(column, value.start + found, MarkKind::Control);
            }
        }
    }

    /// The object is over: columns without a key are null, or marked.
    fn absent(&mut self, end: usize, index: &mut Index) {
        for (column, slot) in self.columns.slots.iter_mut().enumerate() {
            if slot.is_some() {
                continue;
            }
            let form = if self.columns.asks_missing {
                index.marks.push(Mark {
                    cell: short(column),
                    at: short(end),
                    kind: MarkKind::JsonNoKey,
                });
                Form::Absent
            } else {
                Form::Null
            };
            *slot = Some(Cell {
                start: short(end),
                end: short(end),
                form,
            });
        }
        index
            .marks
            .get_mut(self.marks..)
            .unwrap_or_default()
            .sort_by_key(|mark| mark.at);
    }

    /// One record more, of the cells in the slots.
    fn push(&mut self, span: std::ops::Range<usize>, index: &mut Index) {
        let at = short(span.end);
        let absent = Cell {
            start: at,
            end: at,
            form: Form::Absent,
        };
        let cells = self.columns.slots.iter().map(|slot| slot.unwrap_or(absent));
        index.cells.extend(cells);
        index.records.push(Record {
            start: short(span.start),
            end: at,
            first_cell: short(self.cells),
            first_mark: short(self.marks),
            cells: short(index.cells.len() - self.cells),
            marks: short(index.marks.len() - self.marks),
            line: self.record_line,
            is_plain: false,
            is_mixed: false,
        });
        self.cells = index.cells.len();
        self.marks = index.marks.len();
    }

    /// Whether the record that ends before `end`, or goes on there, is within its bound.
    fn within_bounds(&self, end: usize) -> Result<(), ScanFault> {
        let full = self.record_start + self.bounds.record_bytes_max;
        if end <= full {
            return Ok(());
        }
        Err(ScanFault {
            kind: ScanFaultKind::RecordTooLong,
            at: full,
            line: self.record_line,
        })
    }

    fn fault(&self, kind: ScanFaultKind, at: usize) -> ScanFault {
        let line = self.line;
        ScanFault { kind, at, line }
    }
}

// === impl Flaw ===

impl Flaw {
    /// The fault where nothing behind it can be judged.
    fn kind(self) -> ScanFaultKind {
        match self {
            Self::Broken => ScanFaultKind::JsonBroken,
            Self::Depth => ScanFaultKind::JsonDepth,
            Self::NoObject => ScanFaultKind::JsonNoObject,
            Self::TooLong => ScanFaultKind::CellTooLong,
            Self::TooMany => ScanFaultKind::TooManyColumns,
        }
    }
}

// === impl Columns ===

impl Columns {
    fn new(schema: &Schema) -> Self {
        let kinds = schema.columns.iter().map(|column| match column.kind {
            Kind::Boolean { .. } => Wanted::Boolean,
            Kind::Decimal { .. } | Kind::Integer => Wanted::Number,
            Kind::Date { .. } | Kind::DateTime { .. } | Kind::Text(_) => Wanted::Text,
        });
        Self {
            names: schema.columns.iter().map(|one| one.name.clone()).collect(),
            kinds: kinds.collect(),
            map: schema::names(schema),
            asks_extra: schema::refuses_extra(schema) || schema.extra_columns == ExtraColumns::Hold,
            asks_missing: schema::refuses_missing(schema)
                || schema.missing_columns == MissingColumns::Hold,
            schema: schema.clone(),
            slots: Vec::new(),
        }
    }

    /// The column of a key; `expected` is looked at first, as objects mostly have one order.
    #[inline]
    fn find(&self, text: &[u8], key: &Value, expected: usize) -> Option<usize> {
        let raw = text.get(key.start..key.end).unwrap_or_default();
        let is_next = self
            .names
            .get(expected)
            .is_some_and(|name| name.as_bytes() == raw);
        if is_next && !key.is_escaped {
            return Some(expected);
        }
        let raw = str::from_utf8(raw).unwrap_or_default();
        let mut undone = String::new();
        let label = if key.is_escaped {
            unescape(raw, &mut undone);
            &undone
        } else {
            raw
        };
        self.map.get(&schema::key(&self.schema, label)).copied()
    }
}

// === the grammar ===

fn broken(at: usize) -> Broken {
    let flaw = Flaw::Broken;
    Broken { at, flaw }
}

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[inline]
fn skip_spaces(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while text.get(at).is_some_and(|byte| is_space(*byte)) {
        at += 1;
    }
    at
}

/// The first byte before `end` that is no white space.
fn after_spaces(text: &[u8], from: usize, end: usize) -> Option<usize> {
    let at = skip_spaces(text.get(..end).unwrap_or_default(), from);
    (at < end).then_some(at)
}

/// The string whose quote is at `at`.
fn string(text: &[u8], at: usize) -> Result<Value, Broken> {
    if text.get(at) != Some(&b'"') {
        return Err(broken(at));
    }
    let start = at + 1;
    let mut from = start;
    let mut is_escaped = false;
    loop {
        let rest = text.get(from..).unwrap_or_default();
        let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
            return Err(raw_control(text, start, text.len()).unwrap_or(broken(text.len())));
        };
        let at = from + found;
        if text.get(at) == Some(&b'"') {
            if let Some(fault) = raw_control(text, start, at) {
                return Err(fault);
            }
            return Ok(Value {
                kind: ValueKind::Text,
                start,
                end: at,
                is_escaped,
                next: at + 1,
            });
        }
        is_escaped = true;
        from = escape(text, at)?;
    }
}

/// A control character stands in no string as it is.
fn raw_control(text: &[u8], start: usize, end: usize) -> Option<Broken> {
    let content = text.get(start..end).unwrap_or_default();
    // Whether there is one first: that is fast.
    if !content.iter().any(|byte| *byte < 0x20) {
        return None;
    }
    let at = content.iter().position(|byte| *byte < 0x20)?;
    Some(broken(start + at))
}

/// The first byte behind the escape at `at`.
fn escape(text: &[u8], at: usize) -> Result<usize, Broken> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let first = four(text, at).ok_or(broken(at))?;
            match first {
                0xd800..=0xdbff => match four(text, at + 6) {
                    Some(0xdc00..=0xdfff) => Ok(at + 12),
                    Some(_) | None => Err(broken(at)),
                },
                0xdc00..=0xdfff => Err(broken(at)),
                _ => Ok(at + 6),
            }
        }
        Some(_) | None => Err(broken(at)),
    }
}

/// The number in `\u0000` at `at`.
fn four(text: &[u8], at: usize) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = text.get(at..at + 6)? else {
        return None;
    };
    digits.iter().try_fold(0, |sum, digit| {
        Some(sum * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// The value that begins at `at`.
fn value(text: &[u8], at: usize) -> Result<Value, Broken> {
    let plain = |kind, end| Value {
        kind,
        start: at,
        end,
        is_escaped: false,
        next: end,
    };
    match text.get(at) {
        Some(b'"') => string(text, at),
        Some(b'-' | b'0'..=b'9') => Ok(plain(ValueKind::Number, number(text, at)?)),
        Some(b't') => Ok(plain(ValueKind::Boolean, word(text, at, b"true")?)),
        Some(b'f') => Ok(plain(ValueKind::Boolean, word(text, at, b"false")?)),
        Some(b'n') => Ok(plain(ValueKind::Null, word(text, at, b"null")?)),
        Some(b'{') => Ok(plain(ValueKind::Object, nested(text, at)?)),
        Some(b'[') => Ok(plain(ValueKind::Array, nested(text, at)?)),
        Some(_) | None => Err(broken(at)),
    }
}

fn word(text: &[u8], at: usize, word: &[u8]) -> Result<usize, Broken> {
    let end = at + word.len();
    if text.get(at..end) == Some(word) {
        Ok(end)
    } else {
        Err(broken(at))
    }
}

/// `-`, no leading zeros, a fraction, an exponent.
fn number(text: &[u8], at: usize) -> Result<usize, Broken> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            Err(broken(from))
        } else {
            Ok(from + count)
        }
    };
    let start = at + usize::from(text.get(at) == Some(&b'-'));
    let mut end = digits(start)?;
    if text.get(start) == Some(&b'0') && end > start + 1 {
        return Err(broken(start + 1));
    }
    if text.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        end = digits(end + 1 + sign)?;
    }
    Ok(end)
}

/// Where in an object or array a byte may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// A value.
    Value,
    /// A value, or the bracket that closes.
    ValueOrEnd,
    /// A key.
    Key,
    /// A key, or the bracket that closes.
    KeyOrEnd,
    /// A comma, or the bracket that closes.
    Comma,
}

/// The first byte behind the object or array at `at`. Level by level, without recursion.
fn nested(text: &[u8], at: usize) -> Result<usize, Broken> {
    // A bit for each level: set for an object.
    let mut objects: u64 = 0;
    let mut depth = 0_u32;
    let mut at = at;
    let mut want = Want::Value;
    loop {
        at = skip_spaces(text, at);
        let Some(&byte) = text.get(at) else {
            return Err(broken(at));
        };
        let is_object = objects & 1 == 1;
        match (want, byte) {
            (Want::Value | Want::ValueOrEnd, b'{' | b'[') => {
                depth += 1;
                if depth > DEPTH_MAX {
                    let flaw = Flaw::Depth;
                    return Err(Broken { at, flaw });
                }
                objects = objects << 1 | u64::from(byte == b'{');
                want = if byte == b'{' {
                    Want::KeyOrEnd
                } else {
                    Want::ValueOrEnd
                };
                at += 1;
            }
            (Want::ValueOrEnd | Want::Comma, b']') if !is_object => {
                (depth, objects, at, want) = (depth - 1, objects >> 1, at + 1, Want::Comma);
            }
            (Want::KeyOrEnd | Want::Comma, b'}') if is_object => {
                (depth, objects, at, want) = (depth - 1, objects >> 1, at + 1, Want::Comma);
            }
            (Want::Comma, b',') => {
                want = if is_object { Want::Key } else { Want::Value };
                at += 1;
            }
            (Want::Key | Want::KeyOrEnd, b'"') => {
                at = skip_spaces(text, string(text, at)?.next);
                if text.get(at) != Some(&b':') {
                    return Err(broken(at));
                }
                (at, want) = (at + 1, Want::Value);
            }
            (Want::Value | Want::ValueOrEnd, b'"') => {
                (at, want) = (string(text, at)?.next, Want::Comma);
            }
            (Want::Value | Want::ValueOrEnd, b'-' | b'0'..=b'9') => {
                (at, want) = (number(text, at)?, Want::Comma);
            }
            (Want::Value | Want::ValueOrEnd, b't') => {
                (at, want) = (word(text, at, b"true")?, Want::Comma);
            }
            (Want::Value | Want::ValueOrEnd, b'f') => {
                (at, want) = (word(text, at, b"false")?, Want::Comma);
            }
            (Want::Value | Want::ValueOrEnd, b'n') => {
                (at, want) = (word(text, at, b"null")?, Want::Comma);
            }
            (_, _) => return Err(broken(at)),
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// The first control character of a string's content: DEL or a C1 control, or one that is escaped.
/// Tabs and line breaks are none.
fn control(content: &[u8], is_escaped: bool) -> Option<usize> {
    let raw = memchr::memchr2(0x7f, 0xc2, content).and_then(|_| {
        let follows = |at: usize| content.get(at + 1).copied().unwrap_or(0);
        (0..content.len()).find(|at| match content.get(*at) {
            Some(0x7f) => true,
            Some(0xc2) => follows(*at) < 0xa0,
            Some(_) | None => false,
        })
    });
    if !is_escaped {
        return raw;
    }
    let mut from = 0;
    while let Some(found) = memchr::memchr(b'\\', content.get(from..).unwrap_or_default()) {
        let at = from + found;
        if raw.is_some_and(|raw| raw < at) {
            return raw;
        }
        let is_control = match content.get(at + 1) {
            Some(b'b' | b'f') => true,
            Some(b'u') => four(content, at).is_some_and(|code| match code {
                0x09 | 0x0a | 0x0d => false,
                code => code < 0x20 || (0x7f..0xa0).contains(&code),
            }),
            Some(_) | None => false,
        };
        if is_control {
            return Some(at);
        }
        from = at + 2;
    }
    raw
}

/// Undoes the escapes of a string's content that was found right.
pub(crate) fn unescape(content: &str, out: &mut String) {
    let mut rest = content;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(rest.get(..at).unwrap_or_default());
        let bytes = rest.as_bytes();
        let (char, length) = match bytes.get(at + 1) {
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => {
                let first = four(bytes, at).unwrap_or(0);
                match four(bytes, at + 6) {
                    Some(second) if (0xd800..0xdc00).contains(&first) => {
                        let code = 0x10000 + ((first - 0xd800) << 10) + (second & 0x3ff);
                        (char::from_u32(code).unwrap_or_default(), 12)
                    }
                    Some(_) | None => (char::from_u32(first).unwrap_or_default(), 6),
                }
            }
            Some(other) => (char::from(*other), 2),
            None => break,
        };
        out.push(char);
        rest = rest.get(at + length..).unwrap_or_default();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the whole text is one value.
    fn is_json(text: &str) -> bool {
        let bytes = text.as_bytes();
        match value(bytes, skip_spaces(bytes, 0)) {
            Ok(found) => after_spaces(bytes, found.next, bytes.len()).is_none(),
            Err(_) => false,
        }
    }

    #[test]
    fn what_the_grammar_takes_is_taken_and_nothing_else() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-0.0e-0",
            "1E5",
            "1e+5",
            "12.50",
            "\"\"",
            r#""\" \\ \/ \b\f\n\r\t""#,
            r#""\u00e4\uD83D\uDE00""#,
            "\"\u{e4}\u{7f}\u{2028}\"",
            "[]",
            "{}",
            " [ 1 , [ ] , { } ] ",
            r#"{"":{"a":[null]}}"#,
            "\t\r\n1 ",
            r#"{"a":1,"a":2}"#,
            "123456789012345678901234567890.123456789e999",
        ] {
            assert!(is_json(text), "{text:?}");
        }
        for text in [
            "",
            " ",
            "nul",
            "nullx",
            "True",
            "NaN",
            "Infinity",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1.e1",
            "1e",
            "1e+",
            "0x1",
            "1_000",
            "\"",
            "\"a",
            "'a'",
            "\"\t\"",
            "\"\n\"",
            "\"\0\"",
            r#""\x""#,
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
            "[",
            "]",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "{",
            "}",
            "{a:1}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            "{1:2}",
            "[1}",
            r#"{"a":[}"#,
            "// x\n1",
            "/**/1",
            "1 2",
            "\u{feff}1",
            "\u{a0}1",
            "\u{c}1",
        ] {
            assert!(!is_json(text), "{text:?}");
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(&deep(64)) && !is_json(&deep(65)));
        assert!(!is_json(&"[".repeat(100_000)));
    }

    #[test]
    fn escapes_are_undone() {
        let mut out = String::new();
        unescape(r#"a\"\\\/\b\f\n\r\t\u00e4\uD83D\uDE00z"#, &mut out);
        assert_eq!(out, "a\"\\/\u{8}\u{c}\n\r\t\u{e4}\u{1f600}z");
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\"b\":", "1", "-", "0", ".5", "e1",
            "true", "null", "false", " ", "\n", "\\", "\\n", "\\u00e4", "\u{e4}", "x", "{\"a\":",
            "[1,",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|all| all.concat())
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_takes(text in pieces()) {
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_json(&text), theirs, "{}", text);
        }
    }
}
