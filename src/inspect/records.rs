//! Records of cells, whatever the format they stand in: an index into the caller's buffer, filled by a
//! scanner and read by the judge of rows.

use crate::inspect::json;

/// How one cell was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing to judge: a mark says why.
    Absent,
    /// In quotes, with doubled quotes inside.
    Escaped,
    /// In quotes, with the escapes of JSON inside.
    JsonEscaped,
    /// No value, in so many words.
    Null,
    /// Without quotes.
    Plain,
    /// In quotes, and none inside.
    Quoted,
}

/// The span of one cell's content, its quotes left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(super) start: u32,
    pub(super) end: u32,
    /// How it was written.
    pub(crate) form: Form,
}

/// One record: a span of bytes without its line end, and its cells and marks in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) first_cell: u32,
    pub(super) first_mark: u32,
    /// Cells, at least 1.
    pub(crate) cells: u32,
    /// Marks.
    pub(crate) marks: u32,
    /// Physical line it starts in, from 1.
    pub(crate) line: u64,
    /// No cell is quoted, so its bytes are its cells.
    pub(crate) is_plain: bool,
    /// The first record whose line end differs from those before.
    pub(crate) is_mixed: bool,
}

/// A fault inside a cell that leaves the structure known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The cell's number inside its record, from 0.
    pub(crate) cell: u32,
    pub(super) at: u32,
    /// What it is.
    pub(crate) kind: MarkKind,
}

/// What a mark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkKind {
    /// NUL, another C0 control, DEL or a C1 control; TAB is none, CR and LF not in quotes.
    Control,
    /// A line of another length than its columns take, in characters.
    Length {
        /// How long it should be.
        wanted: u32,
    },
    /// Something follows an object on its line.
    JsonBehind,
    /// Text that is not JSON.
    JsonBroken,
    /// A key the contract does not know.
    JsonExtraKey,
    /// A value of a kind the column cannot have.
    JsonKind,
    /// A column without a key.
    JsonNoKey,
    /// A line that is no object.
    JsonNoObject,
    /// A key for the second time.
    JsonRepeat,
    /// CR without LF outside quotes.
    LoneCr,
}

/// Bounds of one scan.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "units and bounds come last in a name"
)]
pub(crate) struct Bounds {
    /// Longest cell, bytes between its quotes or delimiters; a doubled quote is one.
    pub(crate) cell_bytes_max: usize,
    /// Longest record without its line end, bytes.
    pub(crate) record_bytes_max: usize,
    /// Most cells of a record.
    pub(crate) columns_max: usize,
}

/// Records found and not yet taken, and the cells of the unfinished one.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(super) cells: Vec<Cell>,
    pub(super) marks: Vec<Mark>,
    /// Whole records.
    pub(crate) records: Vec<Record>,
}

/// Where the record begins that a scanner has not finished, and its first cell and mark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfinished {
    /// Its first byte in the buffer.
    pub(crate) start: usize,
    /// The number of its first cell.
    pub(crate) cell: usize,
    /// The number of its first mark.
    pub(crate) mark: usize,
}

// === impl Form ===

impl Form {
    /// A quote stands before the content.
    pub(crate) fn is_quoted(self) -> bool {
        match self {
            Self::Escaped | Self::JsonEscaped | Self::Quoted => true,
            Self::Absent | Self::Null | Self::Plain => false,
        }
    }
}

// === impl Cell ===

impl Cell {
    /// Where its content starts in the caller's buffer.
    pub(crate) fn start(self) -> usize {
        wide(self.start)
    }

    /// Where its content ends.
    pub(crate) fn end(self) -> usize {
        wide(self.end)
    }

    /// Its content; doubled quotes and escapes are undone into `scratch`.
    #[inline]
    pub(crate) fn text<'t>(self, buffer: &'t str, quote: u8, scratch: &'t mut String) -> &'t str {
        let raw = buffer.get(self.start()..self.end()).unwrap_or_default();
        match self.form {
            Form::Plain | Form::Quoted => raw,
            Form::Absent | Form::Null => "",
            Form::JsonEscaped => {
                scratch.clear();
                json::unescape(raw, scratch);
                scratch
            }
            Form::Escaped => {
                scratch.clear();
                let quote = char::from(quote);
                let mut after_quote = false;
                for piece in raw.split_inclusive(quote) {
                    // Every second quote of a pair stands alone in its piece.
                    let is_second = after_quote && piece.len() == 1 && piece.starts_with(quote);
                    if !is_second {
                        scratch.push_str(piece);
                    }
                    after_quote = !is_second && piece.ends_with(quote);
                }
                scratch
            }
        }
    }
}

// === impl Record ===

impl Record {
    /// A line without anything in it.
    pub(crate) fn is_blank(&self) -> bool {
        self.start == self.end
    }

    /// Its bytes in the caller's buffer, quotes included, line end left out.
    pub(crate) fn span(&self) -> std::ops::Range<usize> {
        wide(self.start)..wide(self.end)
    }
}

// === impl Mark ===

impl Mark {
    /// Where it is in the caller's buffer.
    pub(crate) fn at(&self) -> usize {
        wide(self.at)
    }
}

// === impl Index ===

impl Index {
    /// The cells of a record.
    #[inline]
    pub(crate) fn cells(&self, record: &Record) -> &[Cell] {
        let first = wide(record.first_cell);
        self.cells
            .get(first..first + wide(record.cells))
            .unwrap_or_default()
    }

    /// The marks of a record.
    pub(crate) fn marks(&self, record: &Record) -> &[Mark] {
        let first = wide(record.first_mark);
        self.marks
            .get(first..first + wide(record.marks))
            .unwrap_or_default()
    }

    /// Forgets the first `count` records. Returns how many bytes of the buffer go with them;
    /// the caller removes these and shifts its scanner. `unfinished`: where what is no record yet
    /// begins.
    pub(crate) fn forget(&mut self, count: usize, unfinished: Unfinished) -> usize {
        let (bytes, cells, marks) = match self.records.get(count) {
            Some(next) => (
                wide(next.start),
                wide(next.first_cell),
                wide(next.first_mark),
            ),
            None => (unfinished.start, unfinished.cell, unfinished.mark),
        };
        self.records.drain(..count.min(self.records.len()));
        self.cells.drain(..cells.min(self.cells.len()));
        self.marks.drain(..marks.min(self.marks.len()));
        let (less, fewer_cells, fewer_marks) = (short(bytes), short(cells), short(marks));
        for record in &mut self.records {
            record.start -= less;
            record.end -= less;
            record.first_cell -= fewer_cells;
            record.first_mark -= fewer_marks;
        }
        for cell in &mut self.cells {
            cell.start -= less;
            cell.end -= less;
        }
        for mark in &mut self.marks {
            mark.at -= less;
        }
        bytes
    }
}

/// Spans are at most 1 GiB and a piece, so this never saturates.
#[inline]
pub(crate) fn short(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[inline]
pub(crate) fn wide(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
