//! The judge of rows: a batch of indexed records in, findings and output rows out.
//!
//! A batch is checked column by column, because one column's rule on many cells is fast; its
//! faults are then put into the file's order, row by row and cell by cell, before they are
//! told. So findings and samples do not depend on how records fell into batches.
//!
//! What is judged of a row: a line without cells is `blank-row`, another number of cells than
//! labels is `missing-cell` or `extra-cell`, and the cells of such rows are not judged, since
//! it is not known which is which. A cell with a control character is that fault and no other.
//! Every other cell is judged by its column, then for uniqueness. Output stops for good before
//! the first row with a fault, or goes on without it in a released file.

use std::borrow::Cow;
use std::ops::Range;

use crate::inspect::charset::Width;
use crate::inspect::encode::{Member, Output, Rewrite, Style, TokenColumn, Writer};
use crate::inspect::mojibake;
use crate::inspect::records::{Cell, Form, Index, Mark, MarkKind, Record};
use crate::inspect::rejects::{self, Content};
use crate::inspect::report::{Finding, Refused, Report, Sample};
use crate::inspect::scan;
use crate::inspect::schema::{Layout, Place};
use crate::inspect::show::{self, Sight};
use crate::inspect::trailer::Sum;
use crate::inspect::types::{Broken, Check, Saying, Value};
use crate::inspect::unique::{Seen, Uniques};
use crate::policy::contract::{
    Dialect, ExtraColumns, Formulas, Kind, MissingColumns, OnMatch, OutputFormat, Scan, Schema,
    Sensitive, TextFormat, TokenKind,
};
use crate::policy::rules::{Operand, RowRule};
use crate::terms::codes::Code;
use crate::terms::limits;
use crate::tokens::Tokenizer;

/// Judges the rows of one file under one layout.
pub(crate) struct Rows {
    columns: Vec<FileColumn>,
    quote: u8,
    uniques: Uniques,
    /// One for each column whose values are hashed.
    keys: Vec<Key>,
    primary: Option<Primary>,
    sums: Vec<Sum>,
    rules: Vec<Rule>,
    writer: Writer,
    labels: Vec<String>,
    holds: Holds,
    /// Nothing has been found yet that refuses the file.
    is_clean: bool,
    /// Rows with a fault are left out, and the others written.
    leaves_out: bool,
    /// Nothing has been left out yet: what is kept of it has no columns.
    owes_columns: bool,
    batch: Batch,
}

/// What a person decides about, of JSON.
#[derive(Clone, Copy)]
struct Holds {
    /// Keys the contract does not know.
    extra: bool,
    /// Columns without a key.
    missing: bool,
}

/// Records of one buffer to judge together.
#[derive(Clone, Copy)]
pub(crate) struct Text<'t> {
    /// The buffer.
    pub(crate) buffer: &'t str,
    /// Its first byte's offset in the file.
    pub(crate) base: u64,
    /// How many bytes of the file its text was.
    pub(crate) width: Width,
    /// Its records.
    pub(crate) index: &'t Index,
}

/// One column as it stands in the file.
struct FileColumn {
    name: String,
    sight: Sight,
    /// `None`: a column the contract does not know.
    check: Option<Check>,
    key: Option<usize>,
    sum: Option<usize>,
    /// What is looked for in its text.
    scan: Option<Scan>,
    /// What text that begins like a formula means.
    formulas: Formulas,
}

/// A column whose values are remembered.
struct Key {
    /// Its place in the file.
    at: usize,
    /// Its set, when its values must differ.
    set: Option<usize>,
}

/// A rule over several columns.
struct Rule {
    rule: RowRule,
    /// Its columns, with their places in the file; `None`: the file lacks it.
    places: Vec<(usize, Option<usize>)>,
}

/// A cell's value, for as long as a row is looked at.
enum Owned<'t> {
    Bool(bool),
    Number(i128),
    Text(Cow<'t, str>),
}

/// The primary key.
struct Primary {
    keys: Vec<usize>,
    /// `None`: one column that is unique by itself.
    set: Option<usize>,
    rule: String,
}

/// Room for one batch, kept from batch to batch.
#[derive(Default)]
struct Batch {
    /// Records with the right number of cells, by number in the batch.
    regular: Vec<usize>,
    /// For each key, for each record.
    hashes: Vec<Vec<KeyValue>>,
    faults: Vec<Fault>,
    /// Where garbled text begins.
    places: Vec<usize>,
    scratch: String,
    bytes: Vec<u8>,
}

/// A cell as part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyValue {
    /// It has a fault of its own.
    Faulty,
    Hash(u128),
    Null,
}

/// A fault of a batch, not yet told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault {
    /// The record's number in the batch.
    row: usize,
    /// Its place in the row's order.
    at: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Blank,
    Cell(CellFault),
    /// Text that was decoded once too often begins here.
    Garbled(usize),
    KeyNull(usize),
    KeyRepeat(Option<u64>),
    Mark(usize),
    /// The rule of this number.
    Rule(usize),
    Mixed,
    Ragged,
}

/// What a fault means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It is an error of its row.
    Counts,
    /// A person decides.
    Holds,
    /// Nothing.
    Warns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CellFault {
    Broken(Broken),
    Formula,
    NoToken,
    Repeat(Option<u64>),
    Sensitive(Sensitive),
}

/// Rows whose look-ups wait for memory together.
const TOUCHED_AT_ONCE: usize = 32;
/// After the cells of a row.
const AT_RULE: usize = usize::MAX - 2;
const AT_KEY: usize = usize::MAX - 1;
const AT_LINE_END: usize = usize::MAX;

// === impl Rows ===

impl Rows {
    /// `tokenizers`: one for each of the schema's columns that is tokenized and not dropped.
    /// `leaves_out`: good rows are written whatever the others are.
    pub(crate) fn new(
        schema: &Schema,
        (dialect, output): (Dialect, OutputFormat),
        layout: &Layout,
        summed: &[usize],
        mut tokenizers: Vec<Option<Tokenizer>>,
        seed: [u8; 16],
        leaves_out: bool,
    ) -> Self {
        let mut columns = Vec::new();
        let mut keys = Vec::new();
        let mut sets = 0;
        let sums: Vec<Sum> = summed.iter().filter_map(|at| sum(schema, *at)).collect();
        for (at, place) in layout.places.iter().enumerate() {
            let (name, column) = match place {
                Place::Column(index) => match schema.columns.get(*index) {
                    Some(column) => (&column.name, Some((*index, column))),
                    None => continue,
                },
                Place::Keep(label) | Place::Drop(label) => (label, None),
            };
            let rule = column.and_then(|(_, column)| column.token.as_ref());
            let is_kept = matches!(place, Place::Keep(_));
            let mut file_column = FileColumn {
                name: name.clone(),
                // What is in a column nobody described may be sensitive.
                sight: Sight::Shape,
                check: None,
                key: None,
                sum: None,
                scan: schema.scan.clone().filter(|_| is_kept),
                formulas: if is_kept || column.is_some() {
                    schema.formulas
                } else {
                    Formulas::Allow
                },
            };
            if let Some((index, column)) = column {
                file_column.scan.clone_from(&column.scan);
                let is_text = matches!(column.kind, Kind::Text(_)) && column.token.is_none();
                if !is_text {
                    file_column.formulas = Formulas::Allow;
                }
                file_column.check = Some(Check::new(column, &schema.missing_values));
                // What is scanned may hold sensitive values, whatever else is wrong with it.
                if !column.sensitive && rule.is_none() && column.scan.is_none() {
                    file_column.sight = Sight::Open;
                }
                file_column.sum = sums.iter().position(|sum| sum.column == index);
                if column.unique || schema.primary_key.contains(&index) {
                    file_column.key = Some(keys.len());
                    let set = column.unique.then_some(sets);
                    sets += usize::from(column.unique);
                    keys.push(Key { at, set });
                }
            }
            columns.push(file_column);
        }
        let primary = Primary::new(schema, layout, &columns, &keys, sets);
        sets += usize::from(
            primary
                .as_ref()
                .is_some_and(|primary| primary.set.is_some()),
        );
        let (outputs, labels) = outputs(schema, layout, &mut tokenizers);
        let (delimiter, quote) = (dialect.delimiter, dialect.quote);
        let missing = &schema.missing_values;
        let style = match output {
            OutputFormat::Csv => Style::Csv,
            OutputFormat::Json(shape) => {
                let members = labels.iter().map(|label| {
                    let column = schema.columns.iter().find(|column| column.name == *label);
                    Member::new(label, column)
                });
                Style::Json {
                    shape,
                    members: members.collect(),
                }
            }
            OutputFormat::Parquet => Style::Cells,
        };
        let writer = Writer::new(style, (delimiter, quote), outputs, missing);
        Self {
            quote,
            uniques: Uniques::new(seed, sets, limits::UNIQUE_BYTES_MAX),
            batch: Batch {
                hashes: keys.iter().map(|_| Vec::new()).collect(),
                ..Batch::default()
            },
            columns,
            keys,
            primary,
            sums,
            rules: Rule::all(schema, layout),
            writer,
            labels,
            holds: Holds {
                extra: schema.extra_columns == ExtraColumns::Hold,
                missing: schema.missing_columns == MissingColumns::Hold,
            },
            is_clean: true,
            leaves_out,
            owes_columns: true,
        }
    }

    /// Writes the output's labels.
    pub(crate) fn labels(&self, out: &mut Vec<u8>) {
        self.writer
            .labels(self.labels.iter().map(String::as_str), out);
    }

    /// Writes what belongs behind the last row.
    pub(crate) fn end(&self, out: &mut Vec<u8>) {
        self.writer.end(out);
    }

    /// The name of the column at a place of the file's rows.
    pub(crate) fn name(&self, at: usize) -> Option<&str> {
        self.columns.get(at).map(|column| column.name.as_str())
    }

    /// Sums so far.
    pub(crate) fn sums(&self) -> &[Sum] {
        &self.sums
    }

    /// Values tokenized so far, by column.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&str, u64)> {
        self.writer.tokens()
    }

    /// Judges some records of a buffer as rows and writes those that are good.
    ///
    /// # Errors
    /// [`Refused`] when uniqueness needs more memory than there is.
    pub(crate) fn judge(
        &mut self,
        text: Text<'_>,
        records: Range<usize>,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let all = text.index.records.get(records).unwrap_or_default();
        self.is_clean = self.is_clean && report.is_clean();
        self.batch.begin(all.len());
        self.shapes(text, all);
        self.garbled(text, all);
        for at in 0..self.columns.len() {
            self.column(at, text, all);
            self.look_into(at, text, all);
        }
        self.row_rules(text, all);
        let full = self.repeats(all);
        let judged = match full {
            Some(row) => all.get(..=row).unwrap_or(all),
            None => all,
        };
        self.batch.faults.retain(|fault| fault.row < judged.len());
        self.write(text, judged, full, out);
        self.batch.faults.sort_by_key(|fault| (fault.row, fault.at));
        self.tell(text, judged, report);
        match full {
            Some(row) => Err(out_of_memory(text, all.get(row), report)),
            None => Ok(()),
        }
    }

    /// Faults that are about whole rows, and marks.
    fn shapes(&mut self, text: Text<'_>, records: &[Record]) {
        for (row, record) in records.iter().enumerate() {
            if record.is_mixed {
                self.batch.fault(row, AT_LINE_END, What::Mixed);
            }
            for (number, mark) in text.index.marks(record).iter().enumerate() {
                let at = usize::try_from(mark.cell).unwrap_or(usize::MAX);
                self.batch.fault(row, at, What::Mark(number));
            }
            if record.is_blank() {
                self.batch.fault(row, 0, What::Blank);
            } else if usize::try_from(record.cells) == Ok(self.columns.len()) {
                self.batch.regular.push(row);
            } else {
                self.batch.fault(row, 0, What::Ragged);
                self.sum_ragged(text, record);
            }
        }
    }

    /// Text that was read in the wrong encoding before it came here: once for each cell.
    fn garbled(&mut self, text: Text<'_>, records: &[Record]) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return;
        };
        let (start, end) = (first.span().start, last.span().end);
        let bytes = text.buffer.as_bytes().get(start..end).unwrap_or_default();
        let mut places = std::mem::take(&mut self.batch.places);
        mojibake::find(bytes, &mut places);
        let mut told = None;
        for place in places.drain(..) {
            let place = start + place;
            let row = records.partition_point(|record| record.span().end <= place);
            let cells = records.get(row).map(|record| text.index.cells(record));
            let cells = cells.unwrap_or_default();
            // Cells of CSV stand in order; those of JSON are few.
            let inside = |cell: &&Cell| cell.start() <= place && place < cell.end();
            let near = cells.partition_point(|cell| cell.end() <= place);
            let at = match cells.get(near).as_ref().filter(|cell| inside(cell)) {
                Some(_) => Some(near),
                None => cells.iter().position(|cell| inside(&cell)),
            };
            let at = at.unwrap_or(usize::MAX - 3);
            if told != Some((row, at)) {
                told = Some((row, at));
                self.batch.fault(row, at, What::Garbled(place));
            }
        }
        self.batch.places = places;
    }

    /// The amounts of a row with too few or too many cells still belong to the sum, as far as
    /// they are there.
    fn sum_ragged(&mut self, text: Text<'_>, record: &Record) {
        let cells = text.index.cells(record);
        for (at, column) in self.columns.iter().enumerate() {
            let Some(sum) = column.sum.and_then(|sum| self.sums.get_mut(sum)) else {
                continue;
            };
            let Some(check) = &column.check else { continue };
            match cells.get(at) {
                Some(cell) => {
                    let value = cell.text(text.buffer, self.quote, &mut self.batch.scratch);
                    if cell.form != Form::Null && !check.is_null(value) {
                        sum.add(check.number(value));
                    }
                }
                None => sum.add(None),
            }
        }
    }

    /// Judges one column over the whole batch.
    fn column(&mut self, at: usize, text: Text<'_>, records: &[Record]) {
        let Some(column) = self.columns.get(at) else {
            return;
        };
        let Some(check) = &column.check else { return };
        let Batch {
            regular,
            hashes,
            faults,
            scratch,
            ..
        } = &mut self.batch;
        let mut hashes = column.key.and_then(|key| hashes.get_mut(key));
        let mut sum = column.sum.and_then(|sum| self.sums.get_mut(sum));
        for &row in regular.iter() {
            let Some(record) = records.get(row) else {
                continue;
            };
            let Some(cell) = text.index.cells(record).get(at) else {
                continue;
            };
            if cell.form == Form::Absent
                || record.marks > 0 && is_marked(text.index.marks(record), at)
            {
                if let Some(sum) = &mut sum {
                    sum.add(None);
                }
                continue;
            }
            let value = cell.text(text.buffer, self.quote, scratch);
            let judged = if cell.form == Form::Null {
                check.null()
            } else {
                check.judge(value)
            };
            if let Err(broken) = judged {
                faults.push(Fault {
                    row,
                    at,
                    what: What::Cell(CellFault::Broken(broken)),
                });
            }
            if let Some(sum) = &mut sum {
                match judged {
                    Ok(Value::Number(number)) => sum.add(Some(number.get())),
                    Ok(Value::Null | Value::Text) | Err(Broken::Required) => {}
                    Err(_) => sum.add(check.number(value)),
                }
            }
            if let Some(own) = hashes.as_deref_mut().and_then(|hashes| hashes.get_mut(row)) {
                *own = match judged {
                    Ok(Value::Null) => KeyValue::Null,
                    Ok(Value::Number(number)) => {
                        KeyValue::Hash(self.uniques.hash(&number.get().to_le_bytes()))
                    }
                    Ok(Value::Text) => KeyValue::Hash(self.uniques.hash(value.as_bytes())),
                    Err(_) => KeyValue::Faulty,
                };
            }
        }
    }

    /// Looks into the text of one column over the whole batch, whether the contract describes it or
    /// not: sensitive values and formulas.
    fn look_into(&mut self, at: usize, text: Text<'_>, records: &[Record]) {
        let Some(column) = self.columns.get(at) else {
            return;
        };
        if column.scan.is_none() && column.formulas == Formulas::Allow {
            return;
        }
        let Batch {
            regular,
            faults,
            scratch,
            ..
        } = &mut self.batch;
        for &row in regular.iter() {
            let Some(record) = records.get(row) else {
                continue;
            };
            let Some(cell) = text.index.cells(record).get(at) else {
                continue;
            };
            let value = cell.text(text.buffer, self.quote, scratch);
            let mut fault = |fault: CellFault| {
                let what = What::Cell(fault);
                faults.push(Fault { row, at, what });
            };
            if let Some((_, kind)) = column
                .scan
                .as_ref()
                .and_then(|scan| scan::find(scan, value))
            {
                fault(CellFault::Sensitive(kind));
            }
            if column.formulas != Formulas::Allow && scan::is_formula(value) {
                fault(CellFault::Formula);
            }
        }
    }

    /// Conditions over several columns. A row of which one of a rule's cells has a fault of its own
    /// is not held against the rule.
    fn row_rules(&mut self, text: Text<'_>, records: &[Record]) {
        let mut values: Vec<(usize, Option<Owned<'_>>)> = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            for &row in &self.batch.regular {
                let Some(record) = records.get(row) else {
                    continue;
                };
                let cells = text.index.cells(record);
                values.clear();
                let mut is_faulty = false;
                for &(column, at) in &rule.places {
                    let own = at.and_then(|at| Some((self.columns.get(at)?, *cells.get(at)?, at)));
                    let Some((file_column, cell, at)) = own else {
                        values.push((column, None));
                        continue;
                    };
                    // An absent cell has a mark of its own, or its whole line has one.
                    let is_off = record.marks > 0
                        && (cell.form == Form::Absent || is_marked(text.index.marks(record), at));
                    match self.value_of(file_column, text, cell) {
                        Ok(value) if !is_off => values.push((column, value)),
                        Ok(_) | Err(()) => is_faulty = true,
                    }
                }
                if is_faulty {
                    continue;
                }
                let value = |column: usize| {
                    let found = values.iter().find(|(own, _)| *own == column)?;
                    found.1.as_ref().map(Owned::operand)
                };
                let when = rule.rule.when.as_ref();
                let applies = when.is_none_or(|when| when.is_true(&value) == Some(true));
                if applies && rule.rule.assert.is_true(&value) == Some(false) {
                    self.batch.faults.push(Fault {
                        row,
                        at: AT_RULE,
                        what: What::Rule(number),
                    });
                }
            }
        }
    }

    /// A cell's value for a rule; `Err`: it has a fault.
    fn value_of<'t>(
        &self,
        column: &FileColumn,
        text: Text<'t>,
        cell: Cell,
    ) -> Result<Option<Owned<'t>>, ()> {
        let Some(check) = &column.check else {
            return Ok(None);
        };
        let own: Cow<'t, str> = match cell.form {
            Form::Null | Form::Absent => return check.null().map(|_| None).map_err(drop),
            Form::Plain | Form::Quoted => {
                let raw = text.buffer.get(cell.start()..cell.end());
                raw.unwrap_or_default().into()
            }
            Form::Escaped | Form::JsonEscaped => {
                let mut scratch = String::new();
                let own = cell.text(text.buffer, self.quote, &mut scratch);
                own.to_owned().into()
            }
        };
        Ok(match check.judge(&own).map_err(drop)? {
            Value::Null => None,
            Value::Number(number) => Some(Owned::Number(number.get())),
            Value::Text => Some(match check.boolean(&own) {
                Some(is) => Owned::Bool(is),
                None => Owned::Text(own),
            }),
        })
    }

    fn tell_rule(
        &self,
        text: Text<'_>,
        record: &Record,
        row: u64,
        number: usize,
        report: &mut Report,
    ) -> Option<usize> {
        let rule = self.rules.get(number)?;
        let make = || {
            let cells = text.index.cells(record);
            let shown = rule.places.iter().map(|(_, at)| {
                let own = at.and_then(|at| Some((self.columns.get(at)?, *cells.get(at)?)));
                let Some((column, cell)) = own else {
                    return "a missing column".to_owned();
                };
                let mut scratch = String::new();
                let value = cell.text(text.buffer, self.quote, &mut scratch);
                let value = show::value(value, column.sight);
                format!("{} \"{}\"", show::name(&column.name), show::name(&value))
            });
            let sample = Sample {
                line: Some(record.line),
                row: Some(row),
                byte: Some(text.at(record.span().start)),
                value: None,
                detail: shown.collect::<Vec<_>>().join(", "),
            };
            (None, sample)
        };
        let rule = format!("{}: {}", rule.rule.name, rule.rule.text);
        Some(report.note(Code::RowConstraint, None, &rule, make))
    }

    /// Brings near what the next rows will look up.
    fn touch(&self, from: usize) {
        let rows = self.batch.regular.iter().skip(from).take(TOUCHED_AT_ONCE);
        let mut seen = 0;
        for row in rows {
            for (key, hashes) in self.keys.iter().zip(&self.batch.hashes) {
                if let (Some(set), Some(KeyValue::Hash(hash))) = (key.set, hashes.get(*row)) {
                    seen ^= self.uniques.touch(set, *hash);
                }
            }
        }
        std::hint::black_box(seen);
    }

    /// Repeated values and keys, row by row. Returns the row at which memory ran out.
    fn repeats(&mut self, records: &[Record]) -> Option<usize> {
        if self.keys.is_empty() {
            return None;
        }
        // A row that is left out takes no value from the good one behind it.
        let mut bad: Vec<usize> = Vec::new();
        if self.leaves_out {
            let faults = self.batch.faults.iter();
            let errors = faults.filter(|fault| is_error(&self.columns, fault));
            bad.extend(errors.map(|fault| fault.row));
            bad.sort_unstable();
        }
        for number in 0..self.batch.regular.len() {
            if number % TOUCHED_AT_ONCE == 0 {
                self.touch(number);
            }
            let row = *self.batch.regular.get(number)?;
            if bad.binary_search(&row).is_ok() {
                continue;
            }
            let line = records.get(row).map_or(0, |record| record.line);
            let primary = self.primary.as_ref();
            let key = primary.map(|primary| primary.value(row, &mut self.batch, &self.uniques));
            // All are looked up before any is remembered: what repeats one value is left out, and
            // takes none of its others.
            let remembers = !(self.leaves_out && self.is_repeat(row, key));
            for (key, hashes) in self.keys.iter().zip(&self.batch.hashes) {
                let Some(set) = key.set else { continue };
                let Some(KeyValue::Hash(hash)) = hashes.get(row) else {
                    continue;
                };
                match see(&mut self.uniques, remembers, set, *hash, line) {
                    Seen::First => {}
                    Seen::Full => return Some(row),
                    Seen::Before(first) => self.batch.faults.push(Fault {
                        row,
                        at: key.at,
                        what: What::Cell(CellFault::Repeat(first)),
                    }),
                }
            }
            let (Some(primary), Some(key)) = (&self.primary, key) else {
                continue;
            };
            match key {
                KeyValue::Faulty => {}
                KeyValue::Null => {
                    let null = |key: &&usize| {
                        let hashes = self.batch.hashes.get(**key);
                        hashes.and_then(|hashes| hashes.get(row)) == Some(&KeyValue::Null)
                    };
                    let key = primary.keys.iter().find(null).copied().unwrap_or(0);
                    self.batch.fault(row, AT_KEY, What::KeyNull(key));
                }
                KeyValue::Hash(hash) => {
                    let Some(set) = primary.set else { continue };
                    match see(&mut self.uniques, remembers, set, hash, line) {
                        Seen::First => {}
                        Seen::Full => return Some(row),
                        Seen::Before(first) => {
                            self.batch.fault(row, AT_KEY, What::KeyRepeat(first));
                        }
                    }
                }
            }
        }
        None
    }

    /// Whether a row has a value or a key that is there already, or no key.
    fn is_repeat(&self, row: usize, key: Option<KeyValue>) -> bool {
        let repeats = |(key, hashes): (&Key, &Vec<KeyValue>)| match (key.set, hashes.get(row)) {
            (Some(set), Some(KeyValue::Hash(hash))) => self.uniques.has(set, *hash),
            _ => false,
        };
        if self.keys.iter().zip(&self.batch.hashes).any(repeats) {
            return true;
        }
        let set = self.primary.as_ref().and_then(|primary| primary.set);
        match (key, set) {
            (Some(KeyValue::Null), _) => true,
            (Some(KeyValue::Hash(hash)), Some(set)) => self.uniques.has(set, hash),
            _ => false,
        }
    }

    /// Writes the good rows: all of a released file, else those before the file's first fault.
    fn write(
        &mut self,
        text: Text<'_>,
        records: &[Record],
        full: Option<usize>,
        out: &mut Vec<u8>,
    ) {
        if !self.is_clean && !self.leaves_out {
            return;
        }
        let columns = &self.columns;
        let errors = self
            .batch
            .faults
            .iter()
            .filter(|fault| is_error(columns, fault));
        let mut bad: Vec<usize> = errors.map(|fault| fault.row).chain(full).collect();
        bad.sort_unstable();
        bad.dedup();
        self.is_clean = self.is_clean && bad.is_empty();
        let mut bad = bad.into_iter().peekable();
        for (row, record) in records.iter().enumerate() {
            let is_good = bad.next_if_eq(&row).is_none() && {
                let cells = text.index.cells(record);
                let written = self.writer.row(text.buffer, record, cells, out);
                if let Err(no_token) = &written {
                    let what = What::Cell(CellFault::NoToken);
                    self.batch.fault(row, no_token.at, what);
                    self.is_clean = false;
                }
                written.is_ok()
            };
            if !is_good && !self.leaves_out {
                return;
            }
        }
    }

    /// Adds the batch's faults to the report, in the file's order, and keeps the rows left out.
    fn tell(&mut self, text: Text<'_>, records: &[Record], report: &mut Report) {
        let faults = std::mem::take(&mut self.batch.faults);
        let mut reasons = Vec::new();
        for of_row in faults.chunk_by(|one, next| one.row == next.row) {
            reasons.clear();
            for fault in of_row {
                let row = report.rows + u64::try_from(fault.row).unwrap_or(0) + 1;
                let told = records
                    .get(fault.row)
                    .and_then(|record| self.tell_one(text, record, row, *fault, report));
                match self.weight(text, records, fault) {
                    Weight::Warns => continue,
                    Weight::Holds => report.hold_errors += 1,
                    Weight::Counts => report.row_errors += 1,
                }
                reasons.push(told);
            }
            if let (Some(first), false) = (of_row.first(), reasons.is_empty()) {
                report.rows_with_errors += 1;
                // Of a blank line there is nothing to keep.
                let record = records.get(first.row).filter(|record| !record.is_blank());
                if let Some(record) = record.filter(|_| self.leaves_out) {
                    let row = report.rows + u64::try_from(first.row).unwrap_or(0) + 1;
                    self.keep(text, record, row, &reasons, report);
                }
            }
        }
        self.batch.faults = faults;
        report.rows += u64::try_from(records.len()).unwrap_or(0);
    }

    /// Keeps a row that is left out.
    fn keep(
        &mut self,
        text: Text<'_>,
        record: &Record,
        row: u64,
        reasons: &[Option<usize>],
        report: &mut Report,
    ) {
        let mut rejects = std::mem::take(&mut report.rejects);
        if std::mem::take(&mut self.owes_columns) {
            let names = self.columns.iter().map(|column| column.name.as_str());
            rejects::columns(names, &mut rejects);
        }
        let reasons: Vec<&Finding> = reasons
            .iter()
            .filter_map(|at| report.findings.get((*at)?))
            .collect();
        let (line, content) = if report.has_no_places {
            (None, Content::Cells(text.buffer, text.index, record))
        } else {
            let own = text.buffer.get(record.span()).unwrap_or_default();
            (Some(record.line), Content::Record(own))
        };
        rejects::row(row, line, &reasons, &content, &mut rejects);
        report.rejects = rejects;
    }

    /// What one fault means for the file.
    fn weight(&self, text: Text<'_>, records: &[Record], fault: &Fault) -> Weight {
        if !is_error(&self.columns, fault) {
            return Weight::Warns;
        }
        let What::Mark(number) = fault.what else {
            return Weight::Counts;
        };
        let marks = records
            .get(fault.row)
            .map(|record| text.index.marks(record));
        let mark = marks.and_then(|marks| marks.get(number));
        match mark.map(|mark| mark.kind) {
            Some(MarkKind::JsonExtraKey) if self.holds.extra => Weight::Holds,
            Some(MarkKind::JsonNoKey) if self.holds.missing => Weight::Holds,
            Some(_) | None => Weight::Counts,
        }
    }

    fn tell_one(
        &self,
        text: Text<'_>,
        record: &Record,
        row: u64,
        fault: Fault,
        report: &mut Report,
    ) -> Option<usize> {
        let cells = text.index.cells(record);
        let whole = |detail: String| Sample {
            line: Some(record.line),
            row: Some(row),
            byte: Some(text.at(record.span().start)),
            value: None,
            detail,
        };
        let expected = self.columns.len();
        Some(match fault.what {
            What::Blank => {
                let make = || (None, whole("a line without cells".to_owned()));
                report.note(Code::BlankRow, None, "no blank lines", make)
            }
            What::Mixed => {
                let make = || {
                    let detail = "ends unlike the lines before it".to_owned();
                    (None, whole(detail))
                };
                report.note(Code::MixedNewlines, None, "one kind of line end", make)
            }
            What::Garbled(place) => self.tell_garbled(text, record, row, (fault.at, place), report),
            What::Ragged => {
                let found = cells.len();
                let code = if found < expected {
                    Code::MissingCell
                } else {
                    Code::ExtraCell
                };
                let rule = format!("{} a row", counted(expected));
                let make = || {
                    let (detail, hint) = self.ragged(found);
                    (Some(hint), whole(detail))
                };
                report.note(code, None, &rule, make)
            }
            What::KeyNull(key) => {
                let name = self.keys.get(key).and_then(|key| self.name(key.at));
                let make = || {
                    let detail = format!("{} is empty", show::name(name.unwrap_or_default()));
                    (None, whole(detail))
                };
                report.note(Code::PrimaryKey, None, self.key_rule(), make)
            }
            What::Rule(number) => self.tell_rule(text, record, row, number, report)?,
            What::KeyRepeat(first) => {
                let counts_rows = report.has_no_places;
                let make = || (None, whole(seen_in(first, counts_rows)));
                report.note(Code::PrimaryKey, None, self.key_rule(), make)
            }
            What::Mark(number) => {
                let mark = text.index.marks(record).get(number)?;
                let is_regular = cells.len() == expected;
                let column = self.columns.get(fault.at).filter(|_| is_regular);
                if mark.kind == MarkKind::JsonKind
                    && let Some(column) = column
                {
                    return Self::tell_kind(text, record, row, *mark, column, report);
                }
                note_mark(
                    text,
                    record,
                    Some(row),
                    *mark,
                    column.map(|column| (column.name.as_str(), column.sight)),
                    report,
                )
            }
            What::Cell(cell_fault) => {
                let (column, cell) = (self.columns.get(fault.at)?, cells.get(fault.at)?);
                let at = CellAt { text, record, row };
                self.tell_cell(at, column, *cell, cell_fault, report)?
            }
        })
    }

    /// A JSON value of a kind the column cannot have.
    fn tell_kind(
        text: Text<'_>,
        record: &Record,
        row: u64,
        mark: Mark,
        column: &FileColumn,
        report: &mut Report,
    ) -> Option<usize> {
        let check = column.check.as_ref()?;
        let make = || {
            let found = match text.buffer.as_bytes().get(mark.at()) {
                Some(b'{') => "an object",
                Some(b'[') => "an array",
                Some(b't' | b'f') => "true or false",
                Some(b'-' | b'0'..=b'9') => "a number",
                Some(_) | None => "text",
            };
            let wanted = check.json_kind();
            let sample = Sample {
                line: Some(text.line_of(record, mark.at())),
                row: Some(row),
                byte: Some(text.at(mark.at())),
                value: None,
                detail: format!("{found}, where {wanted} is expected"),
            };
            (None, sample)
        };
        let rule = check.rule(Broken::Type);
        Some(report.note(Code::TypeError, Some(&column.name), &rule, make))
    }

    fn tell_garbled(
        &self,
        text: Text<'_>,
        record: &Record,
        row: u64,
        (at, place): (usize, usize),
        report: &mut Report,
    ) -> usize {
        let cells = text.index.cells(record);
        let is_regular = cells.len() == self.columns.len();
        // Columns that only the file knows are told together: there may be thousands.
        let is_known = |column: &&FileColumn| is_regular && column.check.is_some();
        let column = self.columns.get(at).filter(is_known);
        let make = || {
            let raw = cells.get(at);
            let raw = raw.and_then(|cell| text.buffer.get(cell.start()..cell.end()));
            let sample = Sample {
                line: Some(text.line_of(record, place)),
                row: Some(row),
                byte: Some(text.at(place)),
                value: raw
                    .zip(column)
                    .map(|(raw, column)| show::value(raw, column.sight)),
                detail: "it was read in the wrong encoding, and written again".to_owned(),
            };
            (
                Some("Export it again from where it comes from, as UTF-8.".to_owned()),
                sample,
            )
        };
        let (name, rule) = (column.map(|column| column.name.as_str()), "readable text");
        report.note(Code::SuspectMojibake, name, rule, make)
    }

    fn tell_cell(
        &self,
        at: CellAt<'_>,
        column: &FileColumn,
        cell: Cell,
        fault: CellFault,
        report: &mut Report,
    ) -> Option<usize> {
        let check = column.check.as_ref();
        let (code, rule) = match fault {
            CellFault::Broken(broken) => {
                let check = check?;
                (Check::code(broken), check.rule(broken))
            }
            CellFault::Formula => (Code::FormulaInjection, "no formulas in text".to_owned()),
            CellFault::Repeat(_) => (Code::UniqueError, "unique".to_owned()),
            CellFault::NoToken => (Code::TokenError, "every value has a token".to_owned()),
            CellFault::Sensitive(kind) => (
                Code::SensitiveUndeclared,
                format!("no text that holds {}", kind.title()),
            ),
        };
        let is_warning = !column.refuses(fault);
        let counts_rows = report.has_no_places;
        let make = || {
            let mut scratch = String::new();
            let value = cell.text(at.text.buffer, self.quote, &mut scratch);
            let plain = |detail: &str| Saying {
                detail: detail.to_owned(),
                hint: None,
            };
            // What is sensitive shows as shape, wherever it stands.
            let sight = match fault {
                CellFault::Sensitive(_) => Sight::Shape,
                CellFault::Broken(_)
                | CellFault::Formula
                | CellFault::NoToken
                | CellFault::Repeat(_) => column.sight,
            };
            let saying = match fault {
                CellFault::Broken(broken) => match check {
                    Some(check) => check.saying(broken, value, column.sight),
                    None => plain(""),
                },
                CellFault::Formula => plain(&column.told("a spreadsheet would run it")),
                CellFault::Sensitive(kind) => plain(&column.told(&column.said(kind))),
                CellFault::Repeat(first) => Saying {
                    detail: seen_in(first, counts_rows),
                    hint: None,
                },
                CellFault::NoToken => Saying {
                    detail: "the value cannot be replaced by a token".to_owned(),
                    hint: None,
                },
            };
            let place = cell.start() - usize::from(cell.form.is_quoted());
            let is_empty = fault == CellFault::Broken(Broken::Required);
            let sample = Sample {
                line: Some(at.text.line_of(at.record, place)),
                row: Some(at.row),
                byte: Some(at.text.at(place)),
                value: (!is_empty).then(|| show::value(value, sight)),
                detail: saying.detail,
            };
            (saying.hint, sample)
        };
        // Columns that only the file knows are told together: there may be thousands.
        let name = check.map(|_| column.name.as_str());
        Some(report.note_as(is_warning, code, name, &rule, make))
    }

    fn ragged(&self, found: usize) -> (String, String) {
        let expected = self.columns.len();
        let cells = format!("{}, {expected} expected", counted(found));
        if found > expected {
            let hint = "A cell that holds the delimiter needs quotes around it.";
            return (cells, hint.to_owned());
        }
        let missing = self.columns.iter().skip(found);
        let names = show::names(missing.map(|column| column.name.as_str()));
        let verb = if found + 1 == expected { "is" } else { "are" };
        (
            format!("{cells} ({names} {verb} missing)"),
            "An empty last cell still needs its comma.".to_owned(),
        )
    }

    fn key_rule(&self) -> &str {
        self.primary
            .as_ref()
            .map_or("primary key", |primary| primary.rule.as_str())
    }
}

// === impl Primary ===

impl Primary {
    fn new(
        schema: &Schema,
        layout: &Layout,
        columns: &[FileColumn],
        keys: &[Key],
        sets: usize,
    ) -> Option<Self> {
        let at = |index: &usize| {
            let place = Place::Column(*index);
            layout.places.iter().position(|other| *other == place)
        };
        let places: Vec<usize> = schema.primary_key.iter().filter_map(at).collect();
        let parts = places
            .iter()
            .filter_map(|at| columns.get(*at)?.key)
            .collect::<Vec<usize>>();
        let is_unique = |key: &usize| keys.get(*key).is_some_and(|key| key.set.is_some());
        let set = match parts.as_slice() {
            [] => return None,
            [only] if is_unique(only) => None,
            _ => Some(sets),
        };
        let names = schema.primary_key.iter();
        let names: Vec<String> = names
            .filter_map(|index| schema.columns.get(*index))
            .map(|column| show::name(&column.name))
            .collect();
        Some(Self {
            keys: parts,
            set,
            rule: format!("primary key {}", names.join(", ")),
        })
    }

    /// The key of one row.
    fn value(&self, row: usize, batch: &mut Batch, uniques: &Uniques) -> KeyValue {
        batch.bytes.clear();
        let mut has_null = false;
        for key in &self.keys {
            let value = batch.hashes.get(*key).and_then(|hashes| hashes.get(row));
            match value {
                Some(KeyValue::Hash(hash)) => batch.bytes.extend_from_slice(&hash.to_le_bytes()),
                Some(KeyValue::Null) => has_null = true,
                Some(KeyValue::Faulty) | None => return KeyValue::Faulty,
            }
        }
        if has_null {
            KeyValue::Null
        } else {
            KeyValue::Hash(uniques.hash(&batch.bytes))
        }
    }
}

// === impl Batch ===

impl Batch {
    fn begin(&mut self, records: usize) {
        self.regular.clear();
        self.faults.clear();
        for hashes in &mut self.hashes {
            hashes.clear();
            hashes.resize(records, KeyValue::Faulty);
        }
    }

    fn fault(&mut self, row: usize, at: usize, what: What) {
        self.faults.push(Fault { row, at, what });
    }
}

// === impl Rule ===

impl Rule {
    fn all(schema: &Schema, layout: &Layout) -> Vec<Self> {
        let place = |column: usize| {
            let is_it = |place: &Place| matches!(place, Place::Column(of) if *of == column);
            (column, layout.places.iter().position(is_it))
        };
        let rules = schema.rules.iter().map(|rule| Self {
            places: rule.columns.iter().map(|column| place(*column)).collect(),
            rule: rule.clone(),
        });
        rules.collect()
    }
}

// === impl Owned ===

impl Owned<'_> {
    fn operand(&self) -> Operand<'_> {
        match self {
            Self::Bool(is) => Operand::Bool(*is),
            Self::Number(number) => Operand::Number(*number),
            Self::Text(text) => Operand::Text(text),
        }
    }
}

// === impl FileColumn ===

impl FileColumn {
    /// Whether such a fault refuses the file, or is only worth saying.
    fn refuses(&self, fault: CellFault) -> bool {
        match fault {
            CellFault::Formula => self.formulas == Formulas::Reject,
            CellFault::Sensitive(_) => self.on_match() == OnMatch::Reject,
            CellFault::Broken(_) | CellFault::NoToken | CellFault::Repeat(_) => true,
        }
    }

    fn on_match(&self) -> OnMatch {
        self.scan
            .as_ref()
            .map_or(OnMatch::Reject, |scan| scan.on_match)
    }

    /// The same, with the column's name where the finding does not have it.
    fn told(&self, detail: &str) -> String {
        match self.check {
            Some(_) => detail.to_owned(),
            None => format!("{}: {detail}", show::name(&self.name)),
        }
    }

    /// What is said of a sensitive value.
    fn said(&self, kind: Sensitive) -> String {
        match self.on_match() {
            OnMatch::Redact => format!("it holds {}, replaced by [{}]", kind.title(), kind.name()),
            OnMatch::Reject | OnMatch::Warn => format!("it holds {}", kind.title()),
        }
    }
}

/// No mere warning.
fn is_error(columns: &[FileColumn], fault: &Fault) -> bool {
    match fault.what {
        What::Cell(cell) => columns
            .get(fault.at)
            .is_none_or(|column| column.refuses(cell)),
        What::Garbled(_) | What::Mixed => false,
        What::Blank
        | What::KeyNull(_)
        | What::KeyRepeat(_)
        | What::Mark(_)
        | What::Ragged
        | What::Rule(_) => true,
    }
}

// === impl Text ===

impl Text<'_> {
    /// The offset in the file of a place in the buffer.
    pub(crate) fn at(&self, place: usize) -> u64 {
        let before = self.buffer.as_bytes().get(..place).unwrap_or_default();
        self.base + self.width.of(before)
    }

    /// The physical line of a place inside a record.
    fn line_of(&self, record: &Record, place: usize) -> u64 {
        let before = self.buffer.get(record.span().start..place);
        let breaks = memchr::memchr_iter(b'\n', before.unwrap_or_default().as_bytes());
        record.line + u64::try_from(breaks.count()).unwrap_or(0)
    }
}

/// Where a cell is, for its sample.
#[derive(Clone, Copy)]
struct CellAt<'t> {
    text: Text<'t>,
    record: &'t Record,
    row: u64,
}

/// Tells one mark; `column` as far as it is known.
pub(crate) fn note_mark(
    text: Text<'_>,
    record: &Record,
    row: Option<u64>,
    mark: Mark,
    column: Option<(&str, Sight)>,
    report: &mut Report,
) -> usize {
    let is_of_line = matches!(mark.kind, MarkKind::Length { .. });
    let column = column.filter(|_| !is_of_line);
    let (code, rule) = match mark.kind {
        MarkKind::Control => (Code::ControlCharacters, "no control characters"),
        MarkKind::Length { wanted } => {
            let code = if length_of(text, record) < wanted {
                Code::MissingCell
            } else {
                Code::ExtraCell
            };
            (code, "every line as long as its columns")
        }
        MarkKind::JsonBehind | MarkKind::JsonBroken | MarkKind::JsonNoObject => {
            (Code::FormatError, "one JSON object (RFC 8259) a line")
        }
        MarkKind::JsonExtraKey => (Code::ExtraLabel, "only keys of the contract"),
        MarkKind::JsonKind => (Code::TypeError, "a value of the column's kind"),
        MarkKind::JsonNoKey => (Code::MissingLabel, "every key of the contract"),
        MarkKind::JsonRepeat => (Code::DuplicateLabel, "no key twice in an object"),
        MarkKind::LoneCr => (Code::ControlCharacters, "CR only together with LF"),
    };
    let make = || {
        let rest = text.buffer.get(mark.at()..).unwrap_or_default();
        let character = rest.chars().next().map_or(0, u32::from);
        let character = match rest.as_bytes() {
            // As JSON writes it.
            [b'\\', b'u', digits @ ..] => digits
                .get(..4)
                .and_then(|digits| str::from_utf8(digits).ok())
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .unwrap_or(0),
            [b'\\', b'b', ..] => 0x8,
            [b'\\', b'f', ..] => 0xc,
            _ => character,
        };
        let detail = match mark.kind {
            MarkKind::LoneCr => "CR without LF".to_owned(),
            MarkKind::Control if character == 0 => "a NUL byte".to_owned(),
            MarkKind::Control => format!("control character U+{character:04X}"),
            MarkKind::Length { wanted } => {
                format!("{} characters, {wanted} expected", length_of(text, record))
            }
            MarkKind::JsonBehind => "something follows the object".to_owned(),
            MarkKind::JsonBroken => "no JSON from here on".to_owned(),
            MarkKind::JsonExtraKey => format!("{} is new", key_shown(rest)),
            MarkKind::JsonKind => "a value of another kind".to_owned(),
            MarkKind::JsonNoKey => match column {
                Some((name, _)) => format!("{} is missing", show::name(name)),
                None => "a key is missing".to_owned(),
            },
            MarkKind::JsonNoObject => "an object is expected".to_owned(),
            MarkKind::JsonRepeat => format!("{} stands twice", key_shown(rest)),
        };
        let cell = usize::try_from(mark.cell).unwrap_or(usize::MAX);
        let cell = text.index.cells(record).get(cell);
        let raw = cell.and_then(|cell| text.buffer.get(cell.start()..cell.end()));
        let is_of_cell = matches!(mark.kind, MarkKind::Control | MarkKind::LoneCr);
        let value = raw
            .zip(column.filter(|_| is_of_cell))
            .map(|(raw, (_, sight))| show::value(raw, sight));
        let sample = Sample {
            line: Some(text.line_of(record, mark.at())),
            row,
            byte: Some(text.at(mark.at())),
            value,
            detail,
        };
        (None, sample)
    };
    report.note(code, column.map(|(name, _)| name), rule, make)
}

/// Characters of a record.
fn length_of(text: Text<'_>, record: &Record) -> u32 {
    let line = text.buffer.get(record.span()).unwrap_or_default();
    u32::try_from(line.chars().count()).unwrap_or(u32::MAX)
}

/// The key whose quote `rest` begins with. One that is no name may be a value: its shape only.
fn key_shown(rest: &str) -> String {
    let key = rest
        .strip_prefix('"')
        .and_then(|rest| rest.split('"').next());
    let key = key.unwrap_or_default();
    let is_name = key.len() <= 60
        && key.bytes().filter(u8::is_ascii_digit).count() < 5
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    let sight = if is_name { Sight::Open } else { Sight::Shape };
    show::name(&show::value(key, sight))
}

fn is_marked(marks: &[Mark], at: usize) -> bool {
    marks
        .iter()
        .any(|mark| usize::try_from(mark.cell) == Ok(at))
}

fn is_dropped(kind: Option<TokenKind>) -> bool {
    kind == Some(TokenKind::Drop)
}

fn sum(schema: &Schema, at: usize) -> Option<Sum> {
    let column = schema.columns.get(at)?;
    let scale = match &column.kind {
        Kind::Decimal { scale, .. } => *scale,
        Kind::Integer => 0,
        Kind::Boolean { .. } | Kind::Date { .. } | Kind::DateTime { .. } | Kind::Text(_) => {
            return None;
        }
    };
    Some(Sum {
        column: at,
        name: column.name.clone(),
        sight: if column.sensitive || column.token.is_some() {
            Sight::Shape
        } else {
            Sight::Open
        },
        scale,
        total: Some(0),
        unreadable: 0,
    })
}

/// Uniqueness needs more memory than there is, at this record.
fn out_of_memory(text: Text<'_>, record: Option<&Record>, report: &mut Report) -> Refused {
    let most = u64::try_from(limits::UNIQUE_BYTES_MAX).unwrap_or(u64::MAX);
    let end = record.map_or(text.base, |record| text.at(record.span().end));
    let sample = Sample {
        line: record.map(|record| record.line),
        row: Some(report.rows),
        byte: record.map(|record| text.at(record.span().start)),
        value: None,
        detail: "too many different values to tell repeated ones".to_owned(),
    };
    let rule = format!("{} for unique values", show::bytes(most));
    let hint = Some("Split the file.".to_owned());
    report.refuse(end, Code::LimitExceeded, None, &rule, hint, sample)
}

fn seen_in(first: Option<u64>, counts_rows: bool) -> String {
    let unit = if counts_rows { "row" } else { "line" };
    match first {
        Some(number) => format!("first seen in {unit} {number}"),
        None => "seen before".to_owned(),
    }
}

fn counted(cells: usize) -> String {
    show::counted(u64::try_from(cells).unwrap_or(u64::MAX), "cell")
}

/// The output's columns and labels: the contract's in its order, then the kept others in the
/// file's. So the objects of one feed look alike, whatever the order of a partner's columns.
fn outputs(
    schema: &Schema,
    layout: &Layout,
    tokenizers: &mut [Option<Tokenizer>],
) -> (Vec<Output>, Vec<String>) {
    let mut outputs = Vec::new();
    let mut labels = Vec::new();
    for (index, column) in schema.columns.iter().enumerate() {
        let place = layout
            .places
            .iter()
            .position(|place| matches!(place, Place::Column(of) if *of == index));
        let is_left_out = is_dropped(column.token.as_ref().map(|rule| rule.kind));
        let output = match (place, &column.token) {
            (Some(at), Some(rule)) => {
                let tokenizer = tokenizers.get_mut(index).and_then(Option::take);
                let token = TokenColumn::new(&column.name, tokenizer, rule.tokenise_empty);
                Output::Token(at, Box::new(token))
            }
            (Some(at), None) => copy(at, column.scan.as_ref(), schema.formulas, &column.kind),
            (None, _) if layout.absent.contains(&index) && !is_left_out => Output::Empty,
            (None, _) => continue,
        };
        outputs.push(output);
        if !is_left_out {
            labels.push(column.name.clone());
        }
    }
    for (at, place) in layout.places.iter().enumerate() {
        if let Place::Keep(label) = place {
            let kind = Kind::Text(TextFormat::Any);
            outputs.push(copy(at, schema.scan.as_ref(), schema.formulas, &kind));
            labels.push(label.clone());
        }
    }
    (outputs, labels)
}

/// Looks a value up, and remembers it where it is to be.
fn see(uniques: &mut Uniques, remembers: bool, set: usize, hash: u128, line: u64) -> Seen {
    if remembers {
        uniques.insert(set, hash, line)
    } else {
        uniques.seen(set, hash)
    }
}

/// A column as it is, or with what policy wants changed in its text.
fn copy(at: usize, scan: Option<&Scan>, formulas: Formulas, kind: &Kind) -> Output {
    let is_text = matches!(kind, Kind::Text(_));
    let scan = scan.filter(|scan| scan.on_match == OnMatch::Redact);
    let escapes = is_text && formulas == Formulas::Escape;
    if scan.is_none() && !escapes {
        return Output::Copy(at);
    }
    let scan = scan.cloned();
    Output::Rewrite(at, Box::new(Rewrite { scan, escapes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::csv::Scanner;
    use crate::inspect::records::Bounds;
    use crate::inspect::schema;
    use crate::policy::contract::{
        Column, ExtraColumns, FieldsMatch, Header, HeaderMatch, MissingColumns, Newline, TextFormat,
    };

    fn unique_texts() -> Schema {
        let column = |name: &str| Column {
            name: name.to_owned(),
            unique: true,
            length_max: Some(3),
            ..Column::free(Kind::Text(TextFormat::Any))
        };
        Schema {
            columns: vec![column("a"), column("b")],
            fields_match: FieldsMatch::Equal,
            header_match: HeaderMatch::Exact,
            extra_columns: ExtraColumns::Reject,
            missing_columns: MissingColumns::Reject,
            missing_values: vec![String::new()],
            rows_min: 0,
            primary_key: Vec::new(),
            field_bytes_max: 100,
            record_bytes_max: 100,
            columns_max: 10,
            scan: None,
            formulas: Formulas::Allow,
            rules: Vec::new(),
        }
    }

    /// Judges `text` in batches of `size` records under a memory of `values` unique values.
    fn judge(text: &str, size: usize, values: usize) -> (Report, Option<Refused>, String) {
        let dialect = Dialect {
            delimiter: b',',
            quote: b'"',
            header: Header::Absent,
            newline: Newline::Any,
        };
        let bounds = Bounds {
            cell_bytes_max: 100,
            record_bytes_max: 100,
            columns_max: 10,
        };
        let schema = unique_texts();
        let layout = schema::in_order(&schema);
        let mut rows = Rows::new(
            &schema,
            (dialect, OutputFormat::Csv),
            &layout,
            &[],
            Vec::new(),
            [3; 16],
            false,
        );
        rows.uniques = Uniques::new([3; 16], 2, values * limits::UNIQUE_VALUE_BYTES);
        let mut index = Index::default();
        let mut scanner = Scanner::new(dialect, bounds);
        scanner.scan(text.as_bytes(), &mut index).unwrap();
        let (mut report, mut out) = (Report::default(), Vec::new());
        let whole = Text {
            buffer: text,
            base: 0,
            width: Width::Utf8,
            index: &index,
        };
        let mut refused = None;
        let all = index.records.len();
        for start in (0..all).step_by(size) {
            let batch = start..(start + size).min(all);
            let result = rows.judge(whole, batch, &mut report, &mut out);
            refused = result.err();
            if refused.is_some() {
                break;
            }
        }
        (report, refused, String::from_utf8(out).unwrap())
    }

    #[test]
    fn memory_runs_out_at_the_same_row_in_every_batch() {
        let text = "a,1\nb,2\na,\nc,3\nlong,4\nd,5\ne,6\n";
        let (report, refused, out) = judge(text, 100, 7);
        let codes: Vec<Code> = report.findings.iter().map(|f| f.code).collect();
        assert_eq!(
            codes,
            [
                Code::UniqueError,
                Code::ConstraintError,
                Code::LimitExceeded
            ]
        );
        // a 1 b 2 c 3, then 4 is the seventh; d has no room.
        assert_eq!(report.findings[2].samples[0].line, Some(6));
        assert_eq!(report.rows, 6);
        assert_eq!(refused, Some(Refused(2)));
        assert_eq!(out, "a,1\nb,2\n");
        for size in 1..8 {
            assert_eq!(
                judge(text, size, 7),
                (report.clone(), refused, out.clone()),
                "batches of {size}"
            );
        }
        assert_eq!(judge(text, 100, 12).1, None);
    }
}
