//! Rows of text into typed columns of Parquet.
//!
//! A [`Writer`](crate::inspect::encode::Writer) hands rows over as *frames*: of each cell its length in
//! four bytes, little-endian, and its text; a cell that is no value has [`NO_VALUE`] for its length. The
//! labels come first, behind their number. What the contract says of a column decides its type:
//!
//! | contract | Parquet |
//! |---|---|
//! | `boolean` | BOOLEAN |
//! | `integer` | INT64 |
//! | `decimal` | DECIMAL of its precision and scale |
//! | `date` | DATE |
//! | `datetime` | TIMESTAMP in microseconds; adjusted to UTC where its first format has an offset |
//! | text, tokens, what is redacted, what the contract does not know | STRING |
//!
//! Rows are gathered into batches and batches into row groups; where either ends depends on what was
//! written alone, so that a file is the same for every cut of the input.
//! <https://parquet.apache.org/docs/file-format/>

use std::io;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema as ArrowSchema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::inspect::encode::NO_VALUE;
use crate::inspect::types::Check;
use crate::policy::contract::{Column, Kind, OnMatch, OutputCompression, Schema, has_offset};

/// Rows on their way into one Parquet file.
pub(crate) struct Parquet {
    known: Vec<Known>,
    compression: Compression,
    table: Option<Table>,
}

/// A column of the contract.
struct Known {
    name: String,
    /// `None`: it is text.
    typed: Option<(Type, Arc<Check>)>,
}

#[derive(Clone, Copy)]
enum Type {
    Boolean,
    Date,
    Decimal { precision: u8, scale: u8 },
    Integer,
    Moment { is_utc: bool },
}

/// What is written once the labels are known.
struct Table {
    schema: Arc<ArrowSchema>,
    columns: Vec<Builder>,
    /// Of the batch that is gathered.
    rows: usize,
    bytes: usize,
    writer: ArrowWriter<Vec<u8>>,
}

/// The cells of one column, for a batch.
enum Builder {
    Boolean(BooleanBuilder, Arc<Check>),
    Date(Date32Builder, Arc<Check>),
    Decimal(Decimal128Builder, (u8, u8), Arc<Check>),
    Integer(Int64Builder, Arc<Check>),
    Moment(TimestampMicrosecondBuilder, bool, Arc<Check>),
    Text(StringBuilder),
}

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 8192;
/// Text of a batch, from which on it is written.
const BATCH_BYTES: usize = 1024 * 1024;
/// Bytes of a row group, from which on it is written.
const GROUP_BYTES: usize = 32 * 1024 * 1024;
/// What it may take of memory before: what an inspection needs beside the rest.
const GROUP_MEMORY_BYTES: usize = 96 * 1024 * 1024;
/// Columns up to which text gets dictionaries.
const DICTIONARIES_MAX: usize = 256;
/// Rows of a row group, at most.
const GROUP_ROWS: usize = 1024 * 1024;

const UTC: &str = "UTC";

// === impl Parquet ===

impl Parquet {
    pub(crate) fn new(schema: &Schema, compression: OutputCompression) -> Self {
        Self {
            known: schema
                .columns
                .iter()
                .map(|column| Known::new(column, &schema.missing_values))
                .collect(),
            compression: match compression {
                OutputCompression::Gzip => Compression::GZIP(GzipLevel::default()),
                OutputCompression::None => Compression::UNCOMPRESSED,
                OutputCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
            },
            table: None,
        }
    }

    /// Takes whole rows, `plain` is empty then, and appends what has come of them to `out`.
    ///
    /// # Errors
    /// A frame that no writer makes, a cell that is no value of its column's type, no memory.
    pub(crate) fn take(&mut self, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
        let mut rest = plain.as_slice();
        let table = match &mut self.table {
            Some(table) => table,
            None if rest.is_empty() => return Ok(()),
            none => {
                let (labels, behind) = labels(rest)?;
                rest = behind;
                none.insert(Table::new(&self.known, &labels, self.compression)?)
            }
        };
        while !rest.is_empty() {
            rest = table.row(rest)?;
            if table.rows >= BATCH_ROWS || table.bytes >= BATCH_BYTES {
                table.write()?;
                out.append(table.writer.inner_mut());
            }
        }
        plain.clear();
        Ok(())
    }

    /// Appends what is still to come. A file whose columns never came to light has nothing.
    ///
    /// # Errors
    /// As of [`Self::take`].
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(mut table) = self.table.take() else {
            return Ok(());
        };
        table.write()?;
        table.writer.finish().map_err(io::Error::other)?;
        out.append(table.writer.inner_mut());
        Ok(())
    }
}

// === impl Known ===

impl Known {
    fn new(column: &Column, missing: &[String]) -> Self {
        let is_changed = column.token.is_some()
            || (column.scan.as_ref()).is_some_and(|scan| scan.on_match == OnMatch::Redact);
        let typed = match &column.kind {
            _ if is_changed => None,
            Kind::Boolean { .. } => Some(Type::Boolean),
            Kind::Date { .. } => Some(Type::Date),
            Kind::DateTime { formats } => Some(Type::Moment {
                is_utc: formats.first().is_some_and(|format| has_offset(format)),
            }),
            Kind::Decimal { precision, scale } => Some(Type::Decimal {
                precision: *precision,
                scale: *scale,
            }),
            Kind::Integer => Some(Type::Integer),
            Kind::Text(_) => None,
        };
        Self {
            name: column.name.clone(),
            typed: typed.map(|kind| (kind, Arc::new(Check::new(column, missing)))),
        }
    }
}

// === impl Table ===

impl Table {
    fn new(known: &[Known], labels: &[&str], compression: Compression) -> io::Result<Self> {
        let columns: Vec<Builder> = labels
            .iter()
            .map(|label| {
                let known = known.iter().find(|known| known.name == *label);
                Builder::new(known.and_then(|known| known.typed.as_ref()))
            })
            .collect();
        let fields: Vec<Field> = labels
            .iter()
            .zip(&columns)
            .map(|(label, column)| Field::new(*label, column.data_type(), true))
            .collect();
        let schema = Arc::new(ArrowSchema::new(fields));
        let mut properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by(concat!("sallyport version ", env!("CARGO_PKG_VERSION")).to_owned());
        // A dictionary takes its room before there is a value.
        let is_wide = labels.len() > DICTIONARIES_MAX;
        for (label, column) in labels.iter().zip(&columns) {
            let helps = matches!(column, Builder::Text(_)) && !is_wide;
            let path = ColumnPath::new(vec![(*label).to_owned()]);
            properties = properties.set_column_dictionary_enabled(path, helps);
        }
        let properties = properties.build();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_schema_root("rows".to_owned());
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options);
        Ok(Self {
            schema,
            columns,
            rows: 0,
            bytes: 0,
            writer: writer.map_err(io::Error::other)?,
        })
    }

    /// Takes the first row of `frames`; what is behind it.
    fn row<'f>(&mut self, frames: &'f [u8]) -> io::Result<&'f [u8]> {
        let mut rest = frames;
        for column in &mut self.columns {
            let (value, behind) = cell(rest)?;
            column.append(value)?;
            rest = behind;
        }
        if rest.len() == frames.len() {
            return Err(malformed("a row without cells"));
        }
        self.rows += 1;
        self.bytes += frames.len() - rest.len();
        Ok(rest)
    }

    /// Writes the batch.
    fn write(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let columns: io::Result<Vec<ArrayRef>> =
            self.columns.iter_mut().map(Builder::finish).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns?);
        let batch = batch.map_err(io::Error::other)?;
        self.writer.write(&batch).map_err(io::Error::other)?;
        let encoded = self.writer.in_progress_size();
        if encoded >= GROUP_BYTES || self.writer.memory_size() >= GROUP_MEMORY_BYTES {
            self.writer.flush().map_err(io::Error::other)?;
        }
        self.rows = 0;
        self.bytes = 0;
        Ok(())
    }
}

// === impl Builder ===

impl Builder {
    fn new(typed: Option<&(Type, Arc<Check>)>) -> Self {
        let Some((kind, check)) = typed else {
            return Self::Text(StringBuilder::new());
        };
        let check = Arc::clone(check);
        match kind {
            Type::Boolean => Self::Boolean(BooleanBuilder::new(), check),
            Type::Date => Self::Date(Date32Builder::new(), check),
            Type::Decimal { precision, scale } => {
                Self::Decimal(Decimal128Builder::new(), (*precision, *scale), check)
            }
            Type::Integer => Self::Integer(Int64Builder::new(), check),
            Type::Moment { is_utc } => {
                Self::Moment(TimestampMicrosecondBuilder::new(), *is_utc, check)
            }
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Boolean(..) => DataType::Boolean,
            Self::Date(..) => DataType::Date32,
            Self::Decimal(_, (precision, scale), _) => {
                DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
            }
            Self::Integer(..) => DataType::Int64,
            Self::Moment(_, is_utc, _) => {
                DataType::Timestamp(TimeUnit::Microsecond, is_utc.then(|| UTC.into()))
            }
            Self::Text(_) => DataType::Utf8,
        }
    }

    fn append(&mut self, cell: Option<&str>) -> io::Result<()> {
        match self {
            Self::Boolean(builder, check) => {
                builder.append_option(cell.and_then(|cell| check.boolean(cell)));
            }
            Self::Date(builder, check) => builder.append_option(number(check, cell)?),
            Self::Decimal(builder, _, check) => builder.append_option(number(check, cell)?),
            Self::Integer(builder, check) => builder.append_option(number(check, cell)?),
            Self::Moment(builder, _, check) => builder.append_option(number(check, cell)?),
            Self::Text(builder) => builder.append_option(cell),
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(builder, _) => Arc::new(builder.finish()),
            Self::Date(builder, _) => Arc::new(builder.finish()),
            Self::Decimal(builder, (precision, scale), _) => {
                let scale = i8::try_from(*scale).map_err(io::Error::other)?;
                let column = builder.finish().with_precision_and_scale(*precision, scale);
                Arc::new(column.map_err(io::Error::other)?)
            }
            Self::Integer(builder, _) => Arc::new(builder.finish()),
            Self::Moment(builder, is_utc, _) => {
                let column = builder.finish();
                if *is_utc {
                    Arc::new(column.with_timezone(UTC))
                } else {
                    Arc::new(column)
                }
            }
            Self::Text(builder) => Arc::new(builder.finish()),
        })
    }
}

/// What a cell is worth, in the width of its column.
fn number<T: TryFrom<i128>>(check: &Check, cell: Option<&str>) -> io::Result<Option<T>> {
    let Some(cell) = cell else { return Ok(None) };
    let number = check
        .number(cell)
        .and_then(|number| T::try_from(number).ok());
    number
        .map(Some)
        .ok_or_else(|| malformed("no value of its column's type"))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The length at the start of `frames`, and what is behind it.
fn length(frames: &[u8]) -> io::Result<(u32, &[u8])> {
    let (length, rest) = frames
        .split_first_chunk::<4>()
        .ok_or_else(|| malformed("half a frame"))?;
    Ok((u32::from_le_bytes(*length), rest))
}

/// The cell at the start of `frames`, and what is behind it.
fn cell(frames: &[u8]) -> io::Result<(Option<&str>, &[u8])> {
    let (bytes, rest) = length(frames)?;
    if bytes == NO_VALUE {
        return Ok((None, rest));
    }
    let (cell, rest) = usize::try_from(bytes)
        .ok()
        .and_then(|bytes| rest.split_at_checked(bytes))
        .ok_or_else(|| malformed("half a frame"))?;
    let cell = std::str::from_utf8(cell).map_err(|_| malformed("no UTF-8"))?;
    Ok((Some(cell), rest))
}

/// The labels, and what is behind them.
fn labels(frames: &[u8]) -> io::Result<(Vec<&str>, &[u8])> {
    let (count, mut rest) = length(frames)?;
    let mut labels = Vec::new();
    for _ in 0..count {
        let (label, behind) = cell(rest)?;
        labels.push(label.ok_or_else(|| malformed("no label"))?);
        rest = behind;
    }
    Ok((labels, rest))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    use super::*;
    use crate::inspect::encode::frame;
    use crate::policy::contract::{
        ExtraColumns, FieldsMatch, Formulas, HeaderMatch, MissingColumns, TextFormat,
    };

    fn schema() -> Schema {
        let column = |name: &str, kind: Kind| Column {
            name: name.to_owned(),
            ..Column::free(kind)
        };
        Schema {
            columns: vec![
                column("n", Kind::Integer),
                column("text", Kind::Text(TextFormat::Any)),
            ],
            fields_match: FieldsMatch::Equal,
            header_match: HeaderMatch::Exact,
            extra_columns: ExtraColumns::Reject,
            missing_columns: MissingColumns::Reject,
            missing_values: vec![String::new()],
            rows_min: 0,
            primary_key: Vec::new(),
            field_bytes_max: 1 << 20,
            record_bytes_max: 1 << 20,
            columns_max: 64,
            scan: None,
            formulas: Formulas::Allow,
            rules: Vec::new(),
        }
    }

    fn labels(labels: &[&str]) -> Vec<u8> {
        let mut frames = u32::try_from(labels.len()).unwrap().to_le_bytes().to_vec();
        for label in labels {
            frame(Some(label.as_bytes()), &mut frames);
        }
        frames
    }

    fn made(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut parquet = Parquet::new(&schema(), OutputCompression::None);
        let mut out = Vec::new();
        for piece in pieces {
            parquet.take(&mut piece.clone(), &mut out).unwrap();
        }
        parquet.finish(&mut out).unwrap();
        out
    }

    #[test]
    fn a_row_group_ends_where_its_memory_does_however_rows_come() {
        let row = |n: u32| {
            let mut frames = Vec::new();
            frame(Some(n.to_string().as_bytes()), &mut frames);
            // No two are alike, so that no dictionary makes them small.
            let text = format!("{:0>400}", n.wrapping_mul(2_654_435_761));
            frame(
                (!n.is_multiple_of(7)).then_some(text.as_bytes()),
                &mut frames,
            );
            frames
        };
        let rows: Vec<Vec<u8>> = (0..150_000).map(row).collect();
        let mut pieces = vec![labels(&["n", "text"])];
        pieces.extend(rows.chunks(997).map(<[Vec<u8>]>::concat));
        let whole = made(&[pieces.concat()]);
        assert!(whole == made(&pieces));
        let reader = SerializedFileReader::new(Bytes::from(whole)).unwrap();
        let groups = reader.metadata().row_groups();
        assert!(groups.len() > 1, "{}", groups.len());
        let most = i64::try_from(GROUP_BYTES + 2 * BATCH_BYTES).unwrap();
        assert!(groups.iter().all(|group| group.total_byte_size() < most));
        let mut count = 0;
        for (at, row) in reader.get_row_iter(None).unwrap().enumerate() {
            let row = row.unwrap().to_string();
            let null = if at % 7 == 0 { "null" } else { "\"0" };
            let start = format!("{{n: {at}, text: {null}");
            assert!(row.starts_with(&start), "{row}");
            count += 1;
        }
        assert_eq!(count, 150_000);
    }

    #[test]
    fn a_value_that_is_none_of_its_type_fails_and_is_never_null() {
        for (n, fails) in [("1", false), ("x", true), ("9223372036854775808", true)] {
            let mut frames = labels(&["n"]);
            frame(Some(n.as_bytes()), &mut frames);
            let mut parquet = Parquet::new(&schema(), OutputCompression::Zstd);
            assert_eq!(parquet.take(&mut frames, &mut Vec::new()).is_err(), fails);
        }
    }

    #[test]
    fn half_a_row_fails_and_no_columns_are_no_file() {
        let mut frames = labels(&["n", "text"]);
        frame(Some(b"1"), &mut frames);
        let mut parquet = Parquet::new(&schema(), OutputCompression::Zstd);
        assert!(parquet.take(&mut frames, &mut Vec::new()).is_err());
        let mut out = Vec::new();
        Parquet::new(&schema(), OutputCompression::Zstd)
            .finish(&mut out)
            .unwrap();
        assert_eq!(out, b"");
    }
}
