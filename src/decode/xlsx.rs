//! Workbooks of Office Open XML (ECMA-376): one sheet, its first row the labels.
//!
//! Cells have their own kinds. A number is text as short as tells it apart, so `12.5` stays `12.5` and
//! `12.0` is `12`; a formula is the value it had when the workbook was saved.

use std::fmt::Write as _;
use std::io::{self, BufReader};
use std::sync::Arc;

use calamine::{DataRef, ExcelDateTime, Reader as _, SheetVisible, Xlsx, XlsxError};

use crate::decode::source::{BUFFER_BYTES, Cursor};
use crate::decode::{
    BATCH_BYTES, Column, DecodeFault, DecodeFaultKind, Decoded, Nature, Rows, Sink, Source, give,
};

use crate::terms::limits;

/// Numbers up to here are whole in a binary fraction.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Decodes one sheet.
///
/// # Errors
/// [`DecodeFault`].
pub(super) fn decode(
    source: &Arc<dyn Source>,
    sheet: Option<&str>,
    sink: &mut Sink<'_>,
) -> Result<(), DecodeFault> {
    is_sound(source)?;
    let cursor = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(source, 0));
    let mut book: Xlsx<_> = Xlsx::new(cursor).map_err(|fault| broken(&fault))?;
    let mut sheets = book.sheets_metadata().iter();
    let found = match sheet {
        Some(sheet) => sheets.find(|known| known.name == sheet),
        // What nobody sees is not what somebody meant to send.
        None => sheets.find(|known| known.visible == SheetVisible::Visible),
    };
    let Some(name) = found.map(|sheet| sheet.name.clone()) else {
        let detail = match sheet {
            Some(sheet) => format!("it has no sheet {sheet}"),
            None => "it has no sheet".to_owned(),
        };
        return Err(DecodeFault::new(DecodeFaultKind::Broken, detail));
    };
    let mut cells = book
        .worksheet_cells_reader(&name)
        .map_err(|fault| broken(&fault))?;
    let mut sheet = Sheet::default();
    while let Some(cell) = cells
        .next_cell_with_formula_metadata()
        .map_err(|fault| broken(&fault))?
    {
        let (row, column) = cell.pos;
        if cell.value != DataRef::Empty {
            is_exact(row, &cell.value)?;
            sheet.put(row, column, &cell.value, sink)?;
        } else if cell.formula.is_some() {
            return Err(broken_at(row, "a formula without its value"));
        }
    }
    sheet.end(sink)
}

/// Reads every part to its end: that is where its checksum is looked at.
fn is_sound(source: &Arc<dyn Source>) -> Result<(), DecodeFault> {
    let unsound = |_| DecodeFault::new(DecodeFaultKind::Broken, "a part of it is damaged");
    let cursor = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(source, 0));
    let mut archive = zip::ZipArchive::new(cursor).map_err(unsound)?;
    for at in 0..archive.len() {
        let mut part = archive.by_index(at).map_err(unsound)?;
        let damaged = |_| DecodeFault::new(DecodeFaultKind::Broken, "a part of it is damaged");
        io::copy(&mut part, &mut io::sink()).map_err(damaged)?;
    }
    Ok(())
}

/// A value that is not altered by how workbooks are read.
fn is_exact(row: u32, value: &DataRef<'_>) -> Result<(), DecodeFault> {
    match value {
        DataRef::Float(number) if !number.is_finite() || number.abs() >= WHOLE_MAX => {
            Err(broken_at(row, "a number of more than 15 digits"))
        }
        DataRef::DateTime(at) if !(0.0..2_958_466.0).contains(&at.as_f64()) => {
            Err(broken_at(row, "a date no calendar has"))
        }
        DataRef::Error(_) => Err(broken_at(row, "an error instead of a value")),
        DataRef::Int(_)
        | DataRef::Float(_)
        | DataRef::String(_)
        | DataRef::SharedString(_)
        | DataRef::Bool(_)
        | DataRef::DateTime(_)
        | DataRef::DateTimeIso(_)
        | DataRef::DurationIso(_)
        | DataRef::Empty => Ok(()),
    }
}

/// A sheet, cell by cell.
#[derive(Default)]
struct Sheet {
    /// The row of the labels.
    first: Option<u32>,
    labels: Vec<String>,
    rows: Option<Rows>,
    /// The row being filled, and how many of its cells are.
    row: u32,
    filled: usize,
}

// === impl Sheet ===

impl Sheet {
    fn put(
        &mut self,
        row: u32,
        column: u32,
        value: &DataRef<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeFault> {
        let column = usize::try_from(column).unwrap_or(usize::MAX);
        let first = *self.first.get_or_insert(row);
        if row == first {
            // A label in no column is an empty one.
            if column >= limits::SHEET_COLUMNS_MAX || column < self.labels.len() {
                return Err(broken_at(row, "cells out of order"));
            }
            self.labels.resize(column, String::new());
            let mut text = String::new();
            write_value(value, &mut text);
            self.labels.push(text);
            self.row = row + 1;
            return Ok(());
        }
        let columns = self.labels.len();
        if row < self.row || (row == self.row && column < self.filled) {
            return Err(broken_at(row, "cells out of order"));
        }
        if column >= columns {
            return Err(broken_at(row, "a cell behind the last label"));
        }
        while self.row < row {
            self.end_row(sink)?;
        }
        self.begin(sink)?;
        let filled = self.filled;
        if let Some(rows) = &mut self.rows {
            for _ in filled..column {
                rows.null();
            }
            write_value(value, &mut rows.text);
            rows.end_cell();
        }
        self.filled = column + 1;
        Ok(())
    }

    /// Tells the columns, once.
    fn begin(&mut self, sink: &mut Sink<'_>) -> Result<(), DecodeFault> {
        if self.rows.is_some() {
            return Ok(());
        }
        let columns = self.labels.iter().map(|label| Column {
            name: label.clone(),
            nature: Nature::Any,
        });
        give(sink, Decoded::Columns(columns.collect()))?;
        self.rows = Some(Rows::new(self.labels.len()));
        Ok(())
    }

    fn end_row(&mut self, sink: &mut Sink<'_>) -> Result<(), DecodeFault> {
        self.begin(sink)?;
        if let Some(rows) = &mut self.rows {
            for _ in self.filled..self.labels.len() {
                rows.null();
            }
            rows.flush(sink, BATCH_BYTES)?;
        }
        self.row += 1;
        self.filled = 0;
        Ok(())
    }

    /// Rows behind the last value are none.
    fn end(&mut self, sink: &mut Sink<'_>) -> Result<(), DecodeFault> {
        if self.filled > 0 {
            self.end_row(sink)?;
        }
        self.begin(sink)?;
        match &mut self.rows {
            Some(rows) => rows.flush(sink, 0),
            None => Ok(()),
        }
    }
}

fn write_value(value: &DataRef<'_>, out: &mut String) {
    // Writing to a String does not fail.
    match value {
        DataRef::Int(number) => write!(out, "{number}"),
        DataRef::Float(number) if number.fract() == 0.0 && number.abs() < WHOLE_MAX => {
            write!(out, "{number:.0}")
        }
        DataRef::Float(number) => write!(out, "{number}"),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            out.push_str(text);
            Ok(())
        }
        DataRef::SharedString(text) => {
            out.push_str(text);
            Ok(())
        }
        DataRef::Bool(true) => write!(out, "true"),
        DataRef::Bool(false) => write!(out, "false"),
        DataRef::DateTime(at) => write_moment(*at, out),
        DataRef::Error(error) => write!(out, "{error}"),
        DataRef::Empty => Ok(()),
    }
    .ok();
}

/// A day where it is one, else a moment; what only says how long stays a number.
fn write_moment(at: ExcelDateTime, out: &mut String) -> std::fmt::Result {
    if at.is_duration() {
        return write!(out, "{}", at.as_f64());
    }
    let (year, month, day, hour, minute, second, milli) = at.to_ymd_hms_milli();
    write!(out, "{year:04}-{month:02}-{day:02}")?;
    if (hour, minute, second, milli) == (0, 0, 0, 0) {
        return Ok(());
    }
    write!(out, "T{hour:02}:{minute:02}:{second:02}")?;
    if milli > 0 {
        write!(out, ".{milli:03}")?;
    }
    Ok(())
}

fn broken(fault: &XlsxError) -> DecodeFault {
    // Its own words may hold what is in a cell, and are not passed on.
    if matches!(fault, XlsxError::Password) {
        return DecodeFault::new(DecodeFaultKind::Encrypted, "it has a password");
    }
    DecodeFault::new(
        DecodeFaultKind::Broken,
        "it is not sound from some place on",
    )
}

fn broken_at(row: u32, what: &str) -> DecodeFault {
    let detail = format!("{what} in row {} of the sheet", u64::from(row) + 1);
    DecodeFault::new(DecodeFaultKind::Broken, detail)
}
