//! Rank 1, pure. Files that are read from their end or as wholes: bytes at any place in, rows out.
//!
//! Parquet, Arrow, Avro and workbooks say where their rows are in places a stream has long passed. They
//! are decoded when the last byte has come, from a [`Source`] that reads anywhere, into batches of cells
//! in text, which `inspect` judges like those of any other file. What a partner can do to a decoder
//! here is bounded outside: [`crate::isolate`] runs it in a process of its own.

#[cfg(feature = "columnar")]
mod avro;
#[cfg(feature = "columnar")]
mod batch;
#[cfg(feature = "columnar")]
mod ipc;
#[cfg(feature = "columnar")]
mod parquet;
mod source;
pub mod wire;
#[cfg(feature = "xlsx")]
mod xlsx;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::terms::columnar::Columnar;

/// The bytes of a whole file, at any place.
pub trait Source: Send + Sync {
    /// How many there are.
    fn bytes(&self) -> u64;

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// Where the bytes come from; [`io::ErrorKind::UnexpectedEof`] past the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// What a decoder makes of a file, in order: the columns once, then rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The columns.
    Columns(Vec<Column>),
    /// Some rows.
    Rows(Rows),
}

/// One column as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub nature: Nature,
}

/// What the values of a column are, as the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Anything: cells of a workbook, or a column of nothing but nulls.
    Any,
    /// `true` or `false`.
    Boolean,
    /// `2026-11-29`.
    Date,
    /// `2026-11-29T09:48:00`, with a fraction where there is one, and `Z` where its zone is known.
    DateTime,
    /// Digits, perhaps a point and more.
    Decimal,
    /// A binary fraction, which no decimal is: named here as the file names it.
    Float(String),
    /// Digits.
    Integer,
    /// Nothing a cell can hold: lists, structures, bytes; as the file names it.
    Other(String),
    /// Text.
    Text,
}

/// Some rows, cell by cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Cells of a row.
    pub columns: usize,
    /// The text of all cells, one behind the other, row by row.
    pub text: String,
    /// Where each cell's text ends; `None`: it is null.
    pub ends: Vec<Option<u32>>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More is wanted.
    Go,
    /// Nobody wants the rest.
    Stop,
}

/// Why a file could not be decoded to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeFault {
    /// What kind of fault.
    pub kind: DecodeFaultKind,
    /// One sentence, ASCII.
    pub detail: String,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFaultKind {
    /// It is not what its format says.
    Broken,
    /// It is encrypted, and there is no key.
    Encrypted,
    /// It needs more memory, time or depth than there is.
    Limit,
    /// Text that is no UTF-8.
    NotUtf8,
    /// Its bytes could not be read: nothing is wrong with the file.
    Ours,
    /// Whoever takes the rows wants no more.
    Stopped,
}

/// Takes what a decoder makes.
pub type Sink<'s> = dyn FnMut(Decoded) -> Flow + 's;

/// Text of one batch of rows, at most about so much.
const BATCH_BYTES: usize = 256 * 1024;

/// Decodes a whole file. `sheet`: the name of a workbook's sheet; its first one else.
///
/// # Errors
/// [`DecodeFault`]; what was given before it stands.
pub fn decode(
    format: Columnar,
    sheet: Option<&str>,
    source: &Arc<dyn Source>,
    sink: &mut Sink<'_>,
) -> Result<(), DecodeFault> {
    match format {
        #[cfg(feature = "columnar")]
        Columnar::Arrow => ipc::decode(source, sink),
        #[cfg(feature = "columnar")]
        Columnar::Avro => avro::decode(source, sink),
        #[cfg(feature = "columnar")]
        Columnar::Parquet => parquet::decode(source, sink),
        #[cfg(feature = "xlsx")]
        Columnar::Xlsx => xlsx::decode(source, sheet, sink),
        #[cfg(not(feature = "columnar"))]
        Columnar::Arrow | Columnar::Avro | Columnar::Parquet => Err(not_built_in(format)),
        #[cfg(not(feature = "xlsx"))]
        Columnar::Xlsx => Err(not_built_in(format)),
    }
}

#[cfg(not(all(feature = "columnar", feature = "xlsx")))]
fn not_built_in(format: Columnar) -> DecodeFault {
    let detail = format!("this build does not read {}", format.word());
    DecodeFault::new(DecodeFaultKind::Ours, detail)
}

// === impl DecodeFault ===

impl DecodeFault {
    /// A fault; characters that are not ASCII are replaced.
    pub fn new(kind: DecodeFaultKind, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        let plain = |c: char| {
            if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                '?'
            }
        };
        Self {
            kind,
            detail: detail.chars().map(plain).take(300).collect(),
        }
    }
}

// === impl Rows ===

impl Rows {
    /// Room for rows of so many cells.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The cells in order: where the text of each is, or `None` for null.
    pub fn cells(&self) -> impl Iterator<Item = Option<Range<usize>>> + '_ {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let end = usize::try_from((*end)?).ok()?;
            let span = start..end;
            start = end;
            Some(span)
        })
    }

    /// Ends the cell whose text was pushed last.
    fn end_cell(&mut self) {
        self.ends.push(u32::try_from(self.text.len()).ok());
    }

    fn null(&mut self) {
        self.ends.push(None);
    }

    /// Gives the batch away when it is full.
    fn flush(&mut self, sink: &mut Sink<'_>, at: usize) -> Result<(), DecodeFault> {
        // A cell costs something, however short it is.
        if self.text.len() < at && self.ends.len() < at / 4 {
            return Ok(());
        }
        let full = std::mem::replace(self, Self::new(self.columns));
        if full.is_empty() {
            return Ok(());
        }
        give(sink, Decoded::Rows(full))
    }
}

/// A file in memory.
impl Source for Vec<u8> {
    fn bytes(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let there = start.checked_add(into.len());
        let there = there.and_then(|end| self.get(start..end));
        into.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn give(sink: &mut Sink<'_>, decoded: Decoded) -> Result<(), DecodeFault> {
    match sink(decoded) {
        Flow::Go => Ok(()),
        Flow::Stop => Err(DecodeFault::new(DecodeFaultKind::Stopped, "")),
    }
}
