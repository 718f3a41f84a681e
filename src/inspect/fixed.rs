//! Columns at fixed places of a line: bytes in, an index of records and cells out.
//!
//! Places are characters, as the file's own encoding has them. Blanks around a value are padding and
//! no part of it. A line of another length is one fault of its row, and none of its cells is looked
//! at: what stands where would be a guess. Characters no column has are not looked at either, and
//! never forwarded.
//!
//! A record is taken when it is whole, so cutting the input changes nothing.

use crate::inspect::csv::{ScanFault, ScanFaultKind};
use crate::inspect::records::{
    Bounds, Cell, Form, Index, Mark, MarkKind, Record, Unfinished, short, wide,
};
use crate::policy::contract::{FixedShape, Newline};

/// The state of a scan between two pieces.
#[derive(Debug)]
pub(crate) struct FixedScanner {
    shape: FixedShape,
    bounds: Bounds,
    /// Where the record begins that is not whole yet.
    start: usize,
    /// Its physical line, from 1.
    line: u64,
    /// Cells and marks of the records before it.
    cells: usize,
    marks: usize,
    seen: Option<Ending>,
    mixed_told: bool,
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Crlf,
    Lf,
}

// === impl FixedScanner ===

impl FixedScanner {
    /// Starts at a buffer's first byte, in line 1.
    pub(crate) fn new(shape: FixedShape, bounds: Bounds) -> Self {
        Self {
            shape,
            bounds,
            start: 0,
            line: 1,
            cells: 0,
            marks: 0,
            seen: None,
            mixed_told: false,
        }
    }

    /// Takes the records that are whole. `bytes` is UTF-8, whole characters.
    ///
    /// # Errors
    /// [`ScanFault`]: a record over its limit, or a line end the shape does not take.
    pub(crate) fn scan(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        match self.shape.newline {
            Some(newline) => self.lines(newline, bytes, index)?,
            None => self.blocks(bytes, index)?,
        }
        // A CR may yet turn out to end the line.
        let has_cr = self.shape.newline.is_some() && bytes.ends_with(b"\r");
        self.within_bounds((bytes.len() - usize::from(has_cr)).max(self.start))
    }

    /// The last byte has been scanned: closes the last record, if there is one.
    ///
    /// # Errors
    /// As [`FixedScanner::scan`].
    pub(crate) fn end(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        if self.start < bytes.len() {
            let end = bytes.len();
            self.within_bounds(end)?;
            self.push(self.start..end, bytes, false, index);
            self.start = end;
        }
        Ok(())
    }

    /// The buffer has lost so many bytes at its front, and the index the records in them.
    pub(crate) fn shift(&mut self, bytes: usize, index: &Index) {
        self.start -= bytes;
        self.cells = index.cells.len();
        self.marks = index.marks.len();
    }

    /// Where the record begins that is not whole yet.
    pub(crate) fn unfinished(&self) -> Unfinished {
        Unfinished {
            start: self.start,
            cell: self.cells,
            mark: self.marks,
        }
    }

    /// Physical line of the record that is not whole yet.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    fn lines(
        &mut self,
        newline: Newline,
        bytes: &[u8],
        index: &mut Index,
    ) -> Result<(), ScanFault> {
        while let Some(rest) = bytes.get(self.start..)
            && let Some(length) = memchr::memchr(b'\n', rest)
        {
            let at = self.start + length;
            let has_cr = length > 0 && bytes.get(at - 1) == Some(&b'\r');
            let end = at - usize::from(has_cr);
            self.within_bounds(end)?;
            let ending = if has_cr { Ending::Crlf } else { Ending::Lf };
            match (newline, ending) {
                (Newline::Lf, Ending::Crlf) => return Err(self.fault(ScanFaultKind::Crlf, end)),
                (Newline::Crlf, Ending::Lf) => return Err(self.fault(ScanFaultKind::Lf, at)),
                (Newline::Any | Newline::Lf | Newline::Crlf, _) => {}
            }
            let is_other = *self.seen.get_or_insert(ending) != ending;
            let is_mixed = is_other && !self.mixed_told;
            self.mixed_told |= is_mixed;
            self.push(self.start..end, bytes, is_mixed, index);
            self.start = at + 1;
            self.line += 1;
        }
        Ok(())
    }

    /// Records without line ends, one behind the other.
    fn blocks(&mut self, bytes: &[u8], index: &mut Index) -> Result<(), ScanFault> {
        while let Some(end) = bytes
            .get(self.start..)
            .filter(|rest| !rest.is_empty())
            .and_then(|rest| Some(self.start + after(rest, self.shape.length)?))
        {
            self.within_bounds(end)?;
            self.push(self.start..end, bytes, false, index);
            self.start = end;
            self.line += 1;
        }
        Ok(())
    }

    /// One record more.
    fn push(
        &mut self,
        span: std::ops::Range<usize>,
        bytes: &[u8],
        is_mixed: bool,
        index: &mut Index,
    ) {
        let line = bytes.get(span.clone()).unwrap_or_default();
        let is_blank = line.is_empty();
        let at = |place: usize| short(span.start + place);
        if is_blank || after(line, self.shape.length) != Some(line.len()) {
            let absent = Cell {
                start: at(0),
                end: at(0),
                form: Form::Absent,
            };
            index.cells.extend(self.shape.places.iter().map(|_| absent));
            if !is_blank {
                let wanted = short(self.shape.length);
                index.marks.push(Mark {
                    cell: 0,
                    at: at(0),
                    kind: MarkKind::Length { wanted },
                });
            }
        } else {
            let mut from = (0, 0);
            for (cell, place) in (0_u32..).zip(&self.shape.places) {
                let value = place_of(line, *place, &mut from);
                controls(line, value.clone(), cell, &at, index);
                index.cells.push(Cell {
                    start: at(value.start),
                    end: at(value.end),
                    form: Form::Plain,
                });
            }
        }
        index.records.push(Record {
            start: at(0),
            end: short(span.end),
            first_cell: short(self.cells),
            first_mark: short(self.marks),
            cells: short(index.cells.len() - self.cells),
            marks: short(index.marks.len() - self.marks),
            line: self.line,
            is_plain: false,
            is_mixed,
        });
        self.cells = index.cells.len();
        self.marks = index.marks.len();
    }

    fn within_bounds(&self, end: usize) -> Result<(), ScanFault> {
        let full = self.start + self.bounds.record_bytes_max;
        if end <= full {
            return Ok(());
        }
        Err(self.fault(ScanFaultKind::RecordTooLong, full))
    }

    fn fault(&self, kind: ScanFaultKind, at: usize) -> ScanFault {
        let line = self.line;
        ScanFault { kind, at, line }
    }
}

/// The offset behind so many characters; `None` when there are fewer.
fn after(text: &[u8], characters: usize) -> Option<usize> {
    if let Some(front) = text.get(..characters)
        && front.is_ascii()
    {
        return Some(characters);
    }
    let is_first = |byte: &u8| byte & 0xc0 != 0x80;
    let mut starts = (0..text.len()).filter(|at| text.get(*at).is_some_and(is_first));
    match starts.nth(characters) {
        Some(at) => Some(at),
        None => {
            let count = text.iter().filter(|byte| is_first(byte)).count();
            (count == characters).then_some(text.len())
        }
    }
}

/// The bytes of a place in a line, its padding left out. `from`: a character and its offset before
/// the place, moved there for the next one.
fn place_of(
    line: &[u8],
    (start, width): (u32, u32),
    from: &mut (usize, usize),
) -> std::ops::Range<usize> {
    let step = |from: &mut (usize, usize), to: usize| {
        let rest = line.get(from.1..).unwrap_or_default();
        let bytes = after(rest, to - from.0).unwrap_or(rest.len());
        *from = (to, from.1 + bytes);
        from.1
    };
    let start = wide(start);
    let begin = step(from, start);
    let end = step(from, start + wide(width));
    let value = line.get(begin..end).unwrap_or_default();
    let is_value = |byte: &u8| *byte != b' ';
    match (
        value.iter().position(is_value),
        value.iter().rposition(is_value),
    ) {
        (Some(first), Some(last)) => begin + first..begin + last + 1,
        _ => begin..begin,
    }
}

/// Marks the first control character of a cell.
fn controls(
    line: &[u8],
    value: std::ops::Range<usize>,
    cell: u32,
    at: &impl Fn(usize) -> u32,
    index: &mut Index,
) {
    let (start, value) = (value.start, line.get(value).unwrap_or_default());
    let found = value.iter().enumerate().find(|(place, byte)| match byte {
        b'\t' => false,
        0..=0x1f | 0x7f => true,
        // U+0080 to U+009F.
        0xc2 => value.get(place + 1).is_some_and(|next| *next < 0xa0),
        _ => false,
    });
    if let Some((place, byte)) = found {
        let kind = match byte {
            b'\r' => MarkKind::LoneCr,
            _ => MarkKind::Control,
        };
        index.marks.push(Mark {
            cell,
            at: at(start + place),
            kind,
        });
    }
}

/// A way in for fuzzing: any bytes, cut anywhere, give the same records, whose cells lie inside them
/// in order.
///
/// # Panics
/// When they do not.
#[cfg(test)]
pub(crate) fn fuzz_fixed(data: &[u8], cut: usize) {
    let text = String::from_utf8_lossy(data);
    let bytes = text.as_bytes();
    let mut cut = cut % (bytes.len() + 1);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let bounds = Bounds {
        cell_bytes_max: 64,
        record_bytes_max: 64,
        columns_max: 8,
    };
    for newline in [
        None,
        Some(Newline::Any),
        Some(Newline::Lf),
        Some(Newline::Crlf),
    ] {
        let shape = FixedShape {
            places: vec![(0, 2), (3, 4)],
            length: 8,
            newline,
        };
        let run = |pieces: &[usize]| {
            let (mut scanner, mut index) =
                (FixedScanner::new(shape.clone(), bounds), Index::default());
            let mut result = Ok(());
            for end in pieces {
                result = result
                    .and_then(|()| scanner.scan(bytes.get(..*end).unwrap_or_default(), &mut index));
            }
            let result = result.and_then(|()| scanner.end(bytes, &mut index));
            (
                result.map_err(|fault| (fault.kind, fault.at, fault.line)),
                index,
            )
        };
        let (whole, index) = run(&[bytes.len()]);
        let (parts, other) = run(&[cut, bytes.len()]);
        assert_eq!(whole, parts, "cut at {cut}");
        assert_eq!(index.records, other.records, "cut at {cut}");
        assert_eq!(index.cells, other.cells, "cut at {cut}");
        assert_eq!(index.marks, other.marks, "cut at {cut}");
        for record in &index.records {
            let span = record.span();
            assert!(index.cells(record).iter().all(|cell| {
                span.start <= cell.start() && cell.start() <= cell.end() && cell.end() <= span.end
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(text: &str, places: &[(u32, u32)], length: usize) -> Vec<Vec<String>> {
        let shape = FixedShape {
            places: places.to_vec(),
            length,
            newline: Some(Newline::Any),
        };
        let bounds = Bounds {
            cell_bytes_max: 1000,
            record_bytes_max: 1000,
            columns_max: 8,
        };
        let (mut scanner, mut index) = (FixedScanner::new(shape, bounds), Index::default());
        scanner.scan(text.as_bytes(), &mut index).unwrap();
        scanner.end(text.as_bytes(), &mut index).unwrap();
        let of = |record: &Record| {
            let cells = index.cells(record).iter();
            cells
                .map(|cell| {
                    if cell.form == Form::Absent {
                        return "absent".to_owned();
                    }
                    text.get(cell.start()..cell.end()).unwrap().to_owned()
                })
                .collect()
        };
        index.records.iter().map(of).collect()
    }

    #[test]
    fn values_stand_at_their_places_without_their_padding() {
        assert_eq!(
            cells("AB  007 x\r\nä    7ö y\n", &[(0, 3), (3, 4), (8, 1)], 9),
            [["AB", "007", "x"], ["\u{e4}", "7\u{f6}", "y"]]
                .map(|row| row.map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn a_line_of_another_length_has_no_cells() {
        let absent = vec!["absent".to_owned(); 2];
        assert_eq!(
            cells("ABCD\nABC\nABCDE\n\nABCD", &[(0, 2), (2, 2)], 4),
            [
                vec!["AB".to_owned(), "CD".to_owned()],
                absent.clone(),
                absent.clone(),
                absent,
                vec!["AB".to_owned(), "CD".to_owned()],
            ]
        );
    }

    #[test]
    fn characters_are_counted_and_not_bytes() {
        assert_eq!(after(b"abc", 3), Some(3));
        assert_eq!(after(b"abc", 4), None);
        assert_eq!(after("äöü".as_bytes(), 2), Some(4));
        assert_eq!(after("äöü".as_bytes(), 3), Some(6));
        assert_eq!(after("äöü".as_bytes(), 4), None);
        assert_eq!(after(b"", 0), Some(0));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(data in "[ a-cäö\\x00\\r\\n]{0,60}", cut in 0_usize..60) {
            fuzz_fixed(data.as_bytes(), cut);
        }
    }
}
