//! Columns of Arrow as cells of text.

use std::fmt::Write as _;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DecimalType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Fields, TimeUnit};
use jiff::{SignedDuration, civil};

use crate::decode::{
    BATCH_BYTES, Column, DecodeFault, DecodeFaultKind, Decoded, Nature, Rows, Sink, give,
};

/// Rows decoded together.
pub(super) const ROWS_AT_ONCE: usize = 256;

/// Tells the columns.
pub(super) fn columns(fields: &Fields, sink: &mut Sink<'_>) -> Result<(), DecodeFault> {
    let columns = fields.iter().map(|field| Column {
        name: field.name().clone(),
        nature: nature(field.data_type()),
    });
    give(sink, Decoded::Columns(columns.collect()))
}

/// Gives all rows of a reader; how many there were.
pub(super) fn rows(
    fields: &Fields,
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    sink: &mut Sink<'_>,
) -> Result<u64, DecodeFault> {
    let mut given = 0;
    let mut out = Rows::new(fields.len());
    for batch in reader {
        let batch = batch.map_err(|fault| broken(&fault))?;
        if batch.num_columns() != fields.len() {
            return Err(DecodeFault::new(
                DecodeFaultKind::Broken,
                "a part of it has other columns",
            ));
        }
        for row in 0..batch.num_rows() {
            for column in batch.columns() {
                cell(column.as_ref(), row, &mut out)?;
            }
            given += 1;
            out.flush(sink, BATCH_BYTES)?;
        }
    }
    out.flush(sink, 0)?;
    Ok(given)
}

/// A fault of the reader. Its own words may hold what is in the file, and are not passed on.
pub(super) fn broken(fault: &ArrowError) -> DecodeFault {
    let text = fault.to_string();
    if text.contains("UTF") || text.contains("utf8") || text.contains("utf-8") {
        return DecodeFault::new(DecodeFaultKind::NotUtf8, "a text of it is not UTF-8");
    }
    DecodeFault::new(
        DecodeFaultKind::Broken,
        "it is not sound from some place on",
    )
}

fn nature(kind: &DataType) -> Nature {
    match kind {
        DataType::Null => Nature::Any,
        DataType::Boolean => Nature::Boolean,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => Nature::Integer,
        DataType::Float32 | DataType::Float64 => {
            Nature::Float(kind.to_string().to_ascii_lowercase())
        }
        DataType::Timestamp(..) => Nature::DateTime,
        DataType::Date32 | DataType::Date64 => Nature::Date,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Nature::Decimal,
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Nature::Text,
        DataType::Dictionary(_, values) => nature(values),
        DataType::Float16
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::FixedSizeBinary(_)
        | DataType::List(_)
        | DataType::ListView(_)
        | DataType::FixedSizeList(..)
        | DataType::LargeList(_)
        | DataType::LargeListView(_)
        | DataType::Struct(_)
        | DataType::Union(..)
        | DataType::Map(..)
        | DataType::RunEndEncoded(..) => {
            let name = kind.to_string().to_ascii_lowercase();
            let end = name.find('(').unwrap_or(name.len());
            Nature::Other(name.get(..end).unwrap_or_default().to_owned())
        }
    }
}

/// Appends one cell.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`nature` lists every type; what it calls other has no text"
)]
fn cell(column: &dyn Array, row: usize, out: &mut Rows) -> Result<(), DecodeFault> {
    if column.is_null(row) || *column.data_type() == DataType::Null {
        out.null();
        return Ok(());
    }
    match column.data_type() {
        DataType::Boolean => {
            let word = if column.as_boolean().value(row) {
                "true"
            } else {
                "false"
            };
            out.text.push_str(word);
        }
        DataType::Int8 => number::<Int8Type>(column, row, out),
        DataType::Int16 => number::<Int16Type>(column, row, out),
        DataType::Int32 => number::<Int32Type>(column, row, out),
        DataType::Int64 => number::<Int64Type>(column, row, out),
        DataType::UInt8 => number::<UInt8Type>(column, row, out),
        DataType::UInt16 => number::<UInt16Type>(column, row, out),
        DataType::UInt32 => number::<UInt32Type>(column, row, out),
        DataType::UInt64 => number::<UInt64Type>(column, row, out),
        DataType::Float32 => number::<Float32Type>(column, row, out),
        DataType::Float64 => number::<Float64Type>(column, row, out),
        DataType::Decimal32(..) => decimal::<Decimal32Type>(column, row, out),
        DataType::Decimal64(..) => decimal::<Decimal64Type>(column, row, out),
        DataType::Decimal128(..) => decimal::<Decimal128Type>(column, row, out),
        DataType::Decimal256(..) => decimal::<Decimal256Type>(column, row, out),
        DataType::Date32 => date(
            i64::from(column.as_primitive::<Date32Type>().value(row)),
            out,
        ),
        DataType::Date64 => date(
            column
                .as_primitive::<Date64Type>()
                .value(row)
                .div_euclid(86_400_000),
            out,
        ),
        DataType::Timestamp(unit, zone) => {
            let (value, per_second) = match unit {
                TimeUnit::Second => (at::<TimestampSecondType>(column, row), 1),
                TimeUnit::Millisecond => (at::<TimestampMillisecondType>(column, row), 1_000),
                TimeUnit::Microsecond => (at::<TimestampMicrosecondType>(column, row), 1_000_000),
                TimeUnit::Nanosecond => (at::<TimestampNanosecondType>(column, row), 1_000_000_000),
            };
            moment(value, per_second, zone.is_some(), out);
        }
        DataType::Utf8 => out.text.push_str(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.text.push_str(column.as_string::<i64>().value(row)),
        DataType::Utf8View => out.text.push_str(column.as_string_view().value(row)),
        DataType::Binary => text(column.as_binary::<i32>().value(row), out)?,
        DataType::LargeBinary => text(column.as_binary::<i64>().value(row), out)?,
        DataType::BinaryView => text(column.as_binary_view().value(row), out)?,
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let values = dictionary.values();
            let key = key(dictionary.keys(), row);
            return match key.filter(|key| *key < values.len()) {
                Some(key) => cell(values.as_ref(), key, out),
                None => Err(DecodeFault::new(
                    DecodeFaultKind::Broken,
                    "it names a value its dictionary does not have",
                )),
            };
        }
        // What no cell can hold was told with the columns, and refuses the file.
        _ => out.text.push('?'),
    }
    out.end_cell();
    Ok(())
}

/// The place in a dictionary that one row names.
fn key(keys: &dyn Array, row: usize) -> Option<usize> {
    fn of<T: ArrowPrimitiveType>(keys: &dyn Array, row: usize) -> Option<usize>
    where
        usize: TryFrom<T::Native>,
    {
        let key = keys.as_primitive_opt::<T>()?.value(row);
        usize::try_from(key).ok()
    }
    // Keys are whole numbers of some width.
    of::<Int32Type>(keys, row)
        .or_else(|| of::<Int8Type>(keys, row))
        .or_else(|| of::<Int16Type>(keys, row))
        .or_else(|| of::<Int64Type>(keys, row))
        .or_else(|| of::<UInt8Type>(keys, row))
        .or_else(|| of::<UInt16Type>(keys, row))
        .or_else(|| of::<UInt32Type>(keys, row))
        .or_else(|| of::<UInt64Type>(keys, row))
}

fn at<T: ArrowPrimitiveType<Native = i64>>(column: &dyn Array, row: usize) -> i64 {
    column.as_primitive::<T>().value(row)
}

fn number<T: ArrowPrimitiveType>(column: &dyn Array, row: usize, out: &mut Rows)
where
    T::Native: std::fmt::Display,
{
    // Writing to a String does not fail.
    write!(out.text, "{}", column.as_primitive::<T>().value(row)).ok();
}

fn decimal<T: DecimalType + ArrowPrimitiveType>(column: &dyn Array, row: usize, out: &mut Rows) {
    let text = column.as_primitive::<T>().value_as_string(row);
    out.text.push_str(&text);
}

fn text(bytes: &[u8], out: &mut Rows) -> Result<(), DecodeFault> {
    let text = simdutf8::basic::from_utf8(bytes);
    out.text.push_str(
        text.map_err(|_| DecodeFault::new(DecodeFaultKind::NotUtf8, "a text of it is not UTF-8"))?,
    );
    Ok(())
}

/// Days since 1970; what no calendar has stays a number.
fn date(days: i64, out: &mut Rows) {
    let epoch = civil::date(1970, 1, 1);
    let hours = days.checked_mul(24).map(SignedDuration::from_hours);
    let date = hours.and_then(|hours| epoch.checked_add(hours).ok());
    match date {
        Some(date) => write!(out.text, "{date}"),
        None => write!(out.text, "{days} days"),
    }
    .ok();
}

/// Parts of a second since 1970.
fn moment(value: i64, per_second: i64, has_zone: bool, out: &mut Rows) {
    let seconds = value.div_euclid(per_second);
    let parts = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let found = i32::try_from(parts).ok().and_then(|parts| {
        let since = SignedDuration::new(seconds, parts);
        civil::date(1970, 1, 1)
            .at(0, 0, 0, 0)
            .checked_add(since)
            .ok()
    });
    let Some(local) = found else {
        write!(out.text, "{seconds} seconds").ok();
        return;
    };
    write!(out.text, "{local}").ok();
    if has_zone {
        out.text.push('Z');
    }
}
