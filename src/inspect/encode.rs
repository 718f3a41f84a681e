//! Accepted rows out again, in UTF-8: CSV with LF under the contract's labels, JSON objects with the
//! contract's names for keys, or frames of cells for what makes columns of them.
//!
//! Columns stand in the order they are given in, whatever the file's. A cell of CSV is quoted only
//! where it must be; everything that needs no change is copied in runs. In JSON, numbers and booleans
//! are such where they are written like one, and what is no value is `null`. Values of token columns
//! are replaced here and nowhere are they copied.

use crate::inspect::records::{Cell, Form, Record};
use crate::inspect::scan;
use crate::policy::contract::{Column, JsonShape, Kind, Scan};
use crate::tokens::{TokenFault, Tokenizer};

/// Writes the rows of one file.
pub(crate) struct Writer {
    delimiter: u8,
    quote: u8,
    /// Each with whether a delimiter goes before it.
    steps: Vec<(bool, Step)>,
    cells: usize,
    tokens: Vec<TokenColumn>,
    rewrites: Vec<Rewrite>,
    missing: Vec<String>,
    scratch: String,
    token: Vec<u8>,
    /// A row has been written.
    has_begun: bool,
    style: Style,
}

/// How rows are written.
pub(crate) enum Style {
    /// As frames: the length of each cell in four bytes, little-endian, and its text; [`NO_VALUE`] for
    /// one that is no value. The labels come first, behind their number.
    Cells,
    /// As CSV.
    Csv,
    /// As JSON objects.
    Json {
        /// How they stand.
        shape: JsonShape,
        /// Those of an object, one for each column that is not left out.
        members: Vec<Member>,
    },
}

/// The length of a cell that is no value.
pub(crate) const NO_VALUE: u32 = u32::MAX;

/// One member of an object.
pub(crate) struct Member {
    /// Its key, with quotes and colon.
    key: Vec<u8>,
    words: Words,
}

/// What text of a column is no JSON string.
enum Words {
    /// These mean true and false.
    Booleans(Vec<String>, Vec<String>),
    Numbers,
    Text,
}

/// Where a column of the output comes from.
pub(crate) enum Output {
    /// The cell at this place of the file's rows, as it is.
    Copy(usize),
    /// Nowhere: the file lacks the column.
    Empty,
    /// The cell at this place, with parts of its text changed.
    Rewrite(usize, Box<Rewrite>),
    /// The cell at this place, replaced, or counted and left out.
    Token(usize, Box<TokenColumn>),
}

/// What is changed in the text of a column.
pub(crate) struct Rewrite {
    /// Values found by this are replaced by their kind.
    pub(crate) scan: Option<Scan>,
    /// An apostrophe goes before what begins like a formula.
    pub(crate) escapes: bool,
}

/// A column whose values never leave.
pub(crate) struct TokenColumn {
    /// The column's name.
    pub(crate) name: String,
    /// `None`: the whole column is left out.
    pub(crate) tokenizer: Option<Tokenizer>,
    /// No value is tokenized, too.
    pub(crate) tokenise_empty: bool,
    /// Values so far.
    pub(crate) values: u64,
    /// Its place in the file's rows.
    at: usize,
}

/// One part of an output row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// These places of the file's row, the last included.
    Copy { first: usize, last: usize },
    /// Counts values and writes nothing.
    Count(usize),
    /// A column the file lacks.
    Empty,
    /// The cell at this place, changed by this rewrite.
    Rewrite { at: usize, rewrite: usize },
    /// A token.
    Token(usize),
}

/// A value that has no token, by its place in the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoToken {
    /// The cell's place.
    pub(crate) at: usize,
    /// Why.
    pub(crate) fault: TokenFault,
}

// === impl TokenColumn ===

impl TokenColumn {
    /// A token column; its place is known once the writer has it.
    pub(crate) fn new(name: &str, tokenizer: Option<Tokenizer>, tokenise_empty: bool) -> Self {
        Self {
            name: name.to_owned(),
            tokenizer,
            tokenise_empty,
            values: 0,
            at: 0,
        }
    }
}

// === impl Writer ===

impl Writer {
    /// `outputs`: the columns of the output, in order; `missing`: the cells that mean "no value".
    pub(crate) fn new(
        style: Style,
        (delimiter, quote): (u8, u8),
        outputs: Vec<Output>,
        missing: &[String],
    ) -> Self {
        let runs = matches!(style, Style::Csv);
        let mut steps = Vec::new();
        let mut tokens = Vec::new();
        let mut rewrites = Vec::new();
        for output in outputs {
            match output {
                Output::Copy(at) => match steps.last_mut() {
                    Some(Step::Copy { last, .. }) if runs && *last + 1 == at => *last = at,
                    _ => steps.push(Step::Copy {
                        first: at,
                        last: at,
                    }),
                },
                Output::Empty => steps.push(Step::Empty),
                Output::Rewrite(at, rewrite) => {
                    let number = rewrites.len();
                    steps.push(Step::Rewrite {
                        at,
                        rewrite: number,
                    });
                    rewrites.push(*rewrite);
                }
                Output::Token(at, column) => {
                    steps.push(match column.tokenizer {
                        Some(_) => Step::Token(tokens.len()),
                        None => Step::Count(tokens.len()),
                    });
                    tokens.push(TokenColumn { at, ..*column });
                }
            }
        }
        let width = |step: &Step| match step {
            Step::Copy { first, last } => last - first + 1,
            Step::Count(_) => 0,
            Step::Empty | Step::Rewrite { .. } | Step::Token(_) => 1,
        };
        let mut cells = 0;
        let steps = steps
            .into_iter()
            .map(|step| {
                let before = cells;
                cells += width(&step);
                (before > 0 && cells > before, step)
            })
            .collect();
        Self {
            delimiter,
            quote,
            steps,
            cells,
            tokens,
            rewrites,
            missing: missing.to_vec(),
            scratch: String::new(),
            token: Vec::new(),
            has_begun: false,
            style,
        }
    }

    /// Values tokenized so far, by column.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tokens
            .iter()
            .map(|column| (column.name.as_str(), column.values))
    }

    /// Writes what stands before the first row: the labels.
    pub(crate) fn labels<'l>(&self, labels: impl Iterator<Item = &'l str>, out: &mut Vec<u8>) {
        match &self.style {
            Style::Cells => {
                let labels: Vec<&str> = labels.collect();
                let count = u32::try_from(labels.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&count.to_le_bytes());
                for label in labels {
                    frame(Some(label.as_bytes()), out);
                }
            }
            Style::Csv => {
                for (number, label) in labels.enumerate() {
                    if number > 0 {
                        out.push(self.delimiter);
                    }
                    self.cell(label.as_bytes(), out);
                }
                out.push(b'\n');
            }
            Style::Json { shape, .. } => match shape {
                JsonShape::Array => out.push(b'['),
                JsonShape::Lines => {}
            },
        }
    }

    /// Writes what stands behind the last row.
    pub(crate) fn end(&self, out: &mut Vec<u8>) {
        if matches!(
            self.style,
            Style::Json {
                shape: JsonShape::Array,
                ..
            }
        ) {
            out.extend_from_slice(b"\n]\n");
        }
    }

    /// Writes one row that was found good. Nothing is written when a value has no token.
    pub(crate) fn row(
        &mut self,
        text: &str,
        record: &Record,
        cells: &[Cell],
        out: &mut Vec<u8>,
    ) -> Result<(), NoToken> {
        let start = out.len();
        // Out of the way: the rest of the writer changes meanwhile.
        let style = std::mem::replace(&mut self.style, Style::Csv);
        let result = match &style {
            Style::Cells => self.frames(text, cells, out),
            Style::Csv => self.cells(text, record, cells, out),
            Style::Json { shape, members } => self.object(*shape, members, text, cells, out),
        };
        self.style = style;
        match result {
            Ok(()) => self.has_begun = true,
            Err(_) => out.truncate(start),
        }
        result
    }

    /// One row of CSV.
    fn cells(
        &mut self,
        text: &str,
        record: &Record,
        cells: &[Cell],
        out: &mut Vec<u8>,
    ) -> Result<(), NoToken> {
        let start = out.len();
        for at in 0..self.steps.len() {
            let Some((delimited, step)) = self.steps.get(at).copied() else {
                break;
            };
            if delimited {
                out.push(self.delimiter);
            }
            match step {
                Step::Copy { first, last } => {
                    let cells = cells.get(first..=last).unwrap_or_default();
                    self.copy(text, record, cells, out);
                }
                Step::Empty => {}
                Step::Rewrite { at, rewrite } => {
                    if self.rewrite(rewrite, at, text, cells) {
                        self.cell(&self.token, out);
                    } else {
                        let cell = cells.get(at..=at).unwrap_or_default();
                        self.copy(text, record, cell, out);
                    }
                }
                Step::Count(column) | Step::Token(column) => {
                    self.replace(column, text, cells, out)?;
                }
            }
        }
        if self.cells == 1 && out.len() == start {
            // A lone empty cell is quoted: a blank line would be no row.
            out.extend_from_slice(&[self.quote, self.quote]);
        }
        out.push(b'\n');
        Ok(())
    }

    /// One row as frames.
    fn frames(&mut self, text: &str, cells: &[Cell], out: &mut Vec<u8>) -> Result<(), NoToken> {
        for at in 0..self.steps.len() {
            match self.steps.get(at).copied() {
                None => break,
                Some((_, Step::Copy { first, .. })) => self.frame_cell(first, text, cells, out),
                Some((_, Step::Count(column))) => self.replace(column, text, cells, out)?,
                Some((_, Step::Empty)) => frame(None, out),
                Some((_, Step::Rewrite { at, rewrite })) => {
                    if self.rewrite(rewrite, at, text, cells) {
                        frame(Some(&self.token), out);
                    } else {
                        self.frame_cell(at, text, cells, out);
                    }
                }
                Some((_, Step::Token(column))) => {
                    let is_value = self.is_value(column, text, cells)?;
                    frame(is_value.then_some(&self.token), out);
                }
            }
        }
        Ok(())
    }

    fn frame_cell(&mut self, at: usize, text: &str, cells: &[Cell], out: &mut Vec<u8>) {
        let Some(cell) = cells.get(at) else {
            frame(None, out);
            return;
        };
        let value = cell.text(text, self.quote, &mut self.scratch);
        let is_null = matches!(cell.form, Form::Null | Form::Absent)
            || self.missing.iter().any(|missing| missing == value);
        frame((!is_null).then_some(value.as_bytes()), out);
    }

    fn object(
        &mut self,
        shape: JsonShape,
        members: &[Member],
        text: &str,
        cells: &[Cell],
        out: &mut Vec<u8>,
    ) -> Result<(), NoToken> {
        match shape {
            JsonShape::Lines => {}
            JsonShape::Array if self.has_begun => out.extend_from_slice(b",\n"),
            JsonShape::Array => out.push(b'\n'),
        }
        let mut members = members.iter();
        let mut before = b'{';
        for at in 0..self.steps.len() {
            let Some((_, step)) = self.steps.get(at).copied() else {
                break;
            };
            if let Step::Count(column) = step {
                self.replace(column, text, cells, out)?;
                continue;
            }
            let Some(member) = members.next() else { break };
            out.push(before);
            before = b',';
            out.extend_from_slice(&member.key);
            match step {
                Step::Copy { first, .. } => {
                    if let Some(cell) = cells.get(first) {
                        self.value(member, text, *cell, out);
                    }
                }
                Step::Empty => out.extend_from_slice(b"null"),
                Step::Rewrite { at, rewrite } => {
                    if self.rewrite(rewrite, at, text, cells) {
                        json_string(&String::from_utf8_lossy(&self.token), out);
                    } else if let Some(cell) = cells.get(at) {
                        self.value(member, text, *cell, out);
                    }
                }
                Step::Count(_) => {}
                Step::Token(column) => self.json_token(column, text, cells, out)?,
            }
        }
        if before == b'{' {
            out.push(before);
        }
        out.push(b'}');
        if shape == JsonShape::Lines {
            out.push(b'\n');
        }
        Ok(())
    }

    /// One cell as a JSON value.
    fn value(&mut self, member: &Member, text: &str, cell: Cell, out: &mut Vec<u8>) {
        let value = cell.text(text, self.quote, &mut self.scratch);
        let is_missing = |value: &str| self.missing.iter().any(|missing| missing == value);
        if matches!(cell.form, Form::Null | Form::Absent) || is_missing(value) {
            out.extend_from_slice(b"null");
            return;
        }
        match &member.words {
            Words::Booleans(yes, _) if yes.iter().any(|word| word == value) => {
                out.extend_from_slice(b"true");
            }
            Words::Booleans(_, no) if no.iter().any(|word| word == value) => {
                out.extend_from_slice(b"false");
            }
            Words::Numbers if is_number(value) => out.extend_from_slice(value.as_bytes()),
            Words::Booleans(..) | Words::Numbers | Words::Text
                if cell.form == Form::JsonEscaped =>
            {
                // It is written as it must be already.
                let content = text.as_bytes().get(cell.start()..cell.end());
                out.push(b'"');
                out.extend_from_slice(content.unwrap_or_default());
                out.push(b'"');
            }
            Words::Booleans(..) | Words::Numbers | Words::Text => json_string(value, out),
        }
    }

    fn json_token(
        &mut self,
        column: usize,
        text: &str,
        cells: &[Cell],
        out: &mut Vec<u8>,
    ) -> Result<(), NoToken> {
        if self.is_value(column, text, cells)? {
            json_string(&String::from_utf8_lossy(&self.token), out);
        } else {
            out.extend_from_slice(b"null");
        }
        Ok(())
    }

    /// Puts what stands for a cell of a token column into `token`; false when that is no value.
    fn is_value(&mut self, column: usize, text: &str, cells: &[Cell]) -> Result<bool, NoToken> {
        self.replace_plain(column, text, cells)?;
        let Some(column) = self.tokens.get(column) else {
            return Ok(false);
        };
        let cell = cells.get(column.at);
        let is_null = cell.is_none_or(|cell| matches!(cell.form, Form::Null | Form::Absent));
        let is_missing = is_null
            || self
                .missing
                .iter()
                .any(|missing| missing.as_bytes() == self.token);
        Ok(column.tokenise_empty || !is_missing)
    }

    fn copy(&self, text: &str, record: &Record, cells: &[Cell], out: &mut Vec<u8>) {
        let bytes = text.as_bytes();
        if let (true, [first, .., last] | [first @ last]) = (record.is_plain, cells) {
            // Cells and the delimiters between them are already what they should be.
            out.extend_from_slice(bytes.get(first.start()..last.end()).unwrap_or_default());
            return;
        }
        for (number, cell) in cells.iter().enumerate() {
            if number > 0 {
                out.push(self.delimiter);
            }
            let content = bytes.get(cell.start()..cell.end()).unwrap_or_default();
            match cell.form {
                Form::Plain => out.extend_from_slice(content),
                Form::Absent => {}
                Form::Null => self.null(out),
                Form::JsonEscaped => {
                    let mut undone = String::new();
                    let text = cell.text(text, self.quote, &mut undone);
                    self.cell(text.as_bytes(), out);
                }
                Form::Quoted => self.cell(content, out),
                Form::Escaped => {
                    // The content is still doubled as it must be.
                    out.push(self.quote);
                    out.extend_from_slice(content);
                    out.push(self.quote);
                }
            }
        }
    }

    /// Puts the changed text of a cell into `token`; false when nothing of it is to be changed.
    fn rewrite(&mut self, rewrite: usize, at: usize, text: &str, cells: &[Cell]) -> bool {
        let (Some(rewrite), Some(cell)) = (self.rewrites.get(rewrite), cells.get(at)) else {
            return false;
        };
        let value = cell.text(text, self.quote, &mut self.scratch);
        // What is no value stays that, however it is written.
        if matches!(cell.form, Form::Null | Form::Absent)
            || self.missing.iter().any(|missing| missing == value)
        {
            return false;
        }
        let mut changed = String::new();
        if let Some(scan) = &rewrite.scan {
            scan::redact(scan, value, &mut changed);
        } else {
            changed.push_str(value);
        }
        if rewrite.escapes && scan::is_formula(&changed) {
            changed.insert(0, '\'');
        }
        let is_changed = changed != value;
        self.token.clear();
        self.token.extend_from_slice(changed.as_bytes());
        is_changed
    }

    /// No value, as cells say it.
    fn null(&self, out: &mut Vec<u8>) {
        let is_empty = self.missing.iter().any(String::is_empty);
        if let Some(word) = self.missing.first().filter(|_| !is_empty) {
            self.cell(word.as_bytes(), out);
        }
    }

    fn replace(
        &mut self,
        column: usize,
        text: &str,
        cells: &[Cell],
        out: &mut Vec<u8>,
    ) -> Result<(), NoToken> {
        self.replace_plain(column, text, cells)?;
        let Some(column) = self.tokens.get(column) else {
            return Ok(());
        };
        let cell = cells.get(column.at);
        let is_null = cell.is_some_and(|cell| cell.form == Form::Null) && !column.tokenise_empty;
        if column.tokenizer.is_some() && is_null {
            self.null(out);
        } else if column.tokenizer.is_some() {
            self.cell(&self.token, out);
        }
        Ok(())
    }

    /// The token of a cell, or the cell itself where it is no value, into `token`.
    fn replace_plain(&mut self, column: usize, text: &str, cells: &[Cell]) -> Result<(), NoToken> {
        self.token.clear();
        let Some(column) = self.tokens.get_mut(column) else {
            return Ok(());
        };
        let Some(cell) = cells.get(column.at) else {
            return Ok(());
        };
        let value = cell.text(text, self.quote, &mut self.scratch);
        let is_null =
            cell.form == Form::Null || self.missing.iter().any(|missing| missing == value);
        let tokenise = !is_null || column.tokenise_empty;
        if tokenise {
            column.values += 1;
        }
        match &mut column.tokenizer {
            None => return Ok(()),
            Some(tokenizer) if tokenise => {
                tokenizer
                    .token(value, &mut self.token)
                    .map_err(|fault| NoToken {
                        at: column.at,
                        fault,
                    })?;
            }
            Some(_) => self.token.extend_from_slice(value.as_bytes()),
        }
        Ok(())
    }

    /// One cell from plain text, quoted where it must be.
    fn cell(&self, text: &[u8], out: &mut Vec<u8>) {
        let needs_quotes = memchr::memchr3(self.delimiter, self.quote, b'\n', text).is_some()
            || memchr::memchr(b'\r', text).is_some();
        if !needs_quotes {
            out.extend_from_slice(text);
            return;
        }
        out.push(self.quote);
        for piece in text.split_inclusive(|byte| *byte == self.quote) {
            out.extend_from_slice(piece);
            if piece.ends_with(&[self.quote]) {
                out.push(self.quote);
            }
        }
        out.push(self.quote);
    }
}

// === impl Member ===

impl Member {
    /// The member under this label; `column`: its rules, where the contract knows it.
    pub(crate) fn new(label: &str, column: Option<&Column>) -> Self {
        let mut key = Vec::new();
        json_string(label, &mut key);
        key.push(b':');
        let words = match column {
            // A token is text, whatever it stands for.
            Some(column) if column.token.is_some() => Words::Text,
            Some(column) => match &column.kind {
                Kind::Boolean { yes, no } => Words::Booleans(yes.clone(), no.clone()),
                Kind::Decimal { .. } | Kind::Integer => Words::Numbers,
                Kind::Date { .. } | Kind::DateTime { .. } | Kind::Text(_) => Words::Text,
            },
            None => Words::Text,
        };
        Self { key, words }
    }
}

/// Whether text is a number as JSON writes them: no leading zeros, no plus.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    all(whole) && all(fraction) && (whole == "0" || !whole.starts_with('0'))
}

/// One cell as a frame.
pub(crate) fn frame(cell: Option<&[u8]>, out: &mut Vec<u8>) {
    // No cell is that long: policy bounds them far below.
    let bytes = cell.map_or(NO_VALUE, |cell| {
        u32::try_from(cell.len()).unwrap_or(NO_VALUE)
    });
    out.extend_from_slice(&bytes.to_le_bytes());
    if bytes != NO_VALUE {
        out.extend_from_slice(cell.unwrap_or_default());
    }
}

/// Text in quotes; only what must be is escaped.
pub(crate) fn json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    // All of it is looked at, without an early end: that is many bytes at a time.
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let has_special = text.bytes().fold(false, |any, byte| any | is_special(byte));
    if !has_special {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::csv::Scanner;
    use crate::inspect::records::{Bounds, Index};
    use crate::policy::contract::{
        Dialect, Header, Keep, Newline, Normalise, TokenKind, TokenRule,
    };
    use crate::tokens::TokenKeys;

    fn mask(at: usize, name: &str, tokenise_empty: bool) -> Output {
        let rule = TokenRule {
            kind: TokenKind::Mask,
            domain: None,
            keep: Keep::None,
            normalise: Vec::<Normalise>::new(),
            tokenise_empty,
        };
        let tokenizer = Tokenizer::new(&rule, &TokenKeys::default()).unwrap();
        Output::Token(
            at,
            Box::new(TokenColumn::new(name, Some(tokenizer), tokenise_empty)),
        )
    }

    fn drop(at: usize, name: &str) -> Output {
        Output::Token(at, Box::new(TokenColumn::new(name, None, false)))
    }

    fn writer(outputs: Vec<Output>) -> Writer {
        Writer::new(Style::Csv, (b',', b'"'), outputs, &[String::new()])
    }

    fn rows(writer: &mut Writer, text: &str) -> String {
        let dialect = Dialect {
            delimiter: b',',
            quote: b'"',
            header: Header::Absent,
            newline: Newline::Any,
        };
        let bounds = Bounds {
            cell_bytes_max: 100,
            record_bytes_max: 1000,
            columns_max: 10,
        };
        let mut index = Index::default();
        let mut scanner = Scanner::new(dialect, bounds);
        scanner.scan(text.as_bytes(), &mut index).unwrap();
        scanner.end(&mut index).unwrap();
        let mut out = Vec::new();
        for record in &index.records {
            writer
                .row(text, record, index.cells(record), &mut out)
                .unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(outputs: Vec<Output>, text: &str, expect: &str) {
        assert_eq!(rows(&mut writer(outputs), text), expect, "{text:?}");
    }

    #[test]
    fn cells_are_quoted_only_where_they_must_be() {
        let copy = || vec![Output::Copy(0), Output::Copy(1)];
        check(copy(), "a,b\r\n,\n", "a,b\n,\n");
        check(copy(), "\"a\",\" b \"\n", "a, b \n");
        check(copy(), "\"a,b\",\"c\"\"d\"\n", "\"a,b\",\"c\"\"d\"\n");
        check(copy(), "\"a\nb\",\"c\rd\"\n", "\"a\nb\",\"c\rd\"\n");
        check(copy(), "\"\",\"\"\"\"\n", ",\"\"\"\"\n");
        check(copy(), "\"'\",\"\t\"\n", "',\t\n");
    }

    #[test]
    fn a_lone_empty_cell_never_becomes_a_blank_line() {
        check(vec![Output::Copy(0)], "\"\"\na\n", "\"\"\na\n");
        check(vec![Output::Copy(0)], ",x\n", "\"\"\n");
        check(vec![mask(0, "m", false), drop(1, "d")], ",x\n", "\"\"\n");
    }

    #[test]
    fn columns_left_out_leave_no_delimiter_and_absent_ones_are_empty() {
        let outputs = || vec![drop(0, "d"), Output::Copy(1), Output::Copy(3)];
        let mut more = outputs();
        more.extend([Output::Empty, Output::Empty]);
        check(more, "1,2,3,4\n", "2,4,,\n");
        check(outputs(), "\"1\",\"2\",\"3\",\"4\"\n", "2,4\n");
        check(vec![Output::Empty], "1,2\n", "\"\"\n");
    }

    #[test]
    fn columns_leave_in_the_order_given() {
        let outputs = vec![Output::Copy(2), Output::Copy(0), mask(1, "m", false)];
        check(outputs, "a,b,c\n\"x,\",y,\"z\"\n", "c,a,*\nz,\"x,\",*\n");
    }

    #[test]
    fn values_are_replaced_and_counted_and_no_value_stays_none() {
        let mut writer = writer(vec![mask(0, "m", false), Output::Copy(1), drop(2, "d")]);
        assert_eq!(
            rows(&mut writer, "\"a\"\"b\",x,1\n,y,\nzz,\"z\",2\n"),
            "***,x\n,y\n**,z\n"
        );
        let counts: Vec<(&str, u64)> = writer.tokens().collect();
        assert_eq!(counts, [("m", 2), ("d", 2)]);
    }

    #[test]
    fn labels_are_quoted_like_cells() {
        let writer = writer(vec![Output::Copy(0)]);
        let mut out = Vec::new();
        writer.labels(["id", "a,b", "c\"d"].into_iter(), &mut out);
        assert_eq!(out, b"id,\"a,b\",\"c\"\"d\"\n");
    }
}
