//! Apache Parquet (parquet-format 2.12), page by page.

use std::io::BufReader;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnDescPtr;

use crate::decode::batch::{self, ROWS_AT_ONCE};
use crate::decode::source::Cursor;
use crate::decode::{DecodeFault, DecodeFaultKind, Sink, Source};

/// A file for the reader.
struct File(Arc<dyn Source>);

impl Length for File {
    fn len(&self) -> u64 {
        self.0.bytes()
    }
}

impl ChunkReader for File {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(Cursor::new(&self.0, start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = u64::try_from(length)
            .ok()
            .and_then(|n| start.checked_add(n));
        if end.is_none_or(|end| end > self.0.bytes()) {
            return Err(ParquetError::EOF("it points behind its end".to_owned()));
        }
        let mut bytes = vec![0; length];
        self.0.read_at(start, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// Decodes a whole file.
///
/// # Errors
/// [`DecodeFault`].
pub(super) fn decode(source: &Arc<dyn Source>, sink: &mut Sink<'_>) -> Result<(), DecodeFault> {
    let file = File(Arc::clone(source));
    let mut end = [0; 4];
    if let Some(at) = source.bytes().checked_sub(4)
        && source.read_at(at, &mut end).is_ok()
        && end == *b"PARE"
    {
        return Err(DecodeFault::new(
            DecodeFaultKind::Encrypted,
            "its footer is encrypted",
        ));
    }
    // What its writer wrote beside the schema for Arrow is a hint, and no contract.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(|fault| broken(&fault))?;
    let is_old = |column: &ColumnDescPtr| column.physical_type() == Type::INT96;
    if metadata.parquet_schema().columns().iter().any(is_old) {
        // Its reader counts nanoseconds in 64 bits, which wraps before 1677 and after 2262.
        return Err(DecodeFault::new(
            DecodeFaultKind::Broken,
            "it has timestamps of the type INT96, which Parquet has given up; write TIMESTAMP",
        ));
    }
    let wanted = metadata.metadata().file_metadata().num_rows();
    let groups = metadata.metadata().row_groups().iter();
    let held: i64 = groups.fold(0, |sum, group| sum.saturating_add(group.num_rows()));
    if wanted != held {
        let detail = format!("its footer says {wanted} rows, its row groups {held}");
        return Err(DecodeFault::new(DecodeFaultKind::Broken, detail));
    }
    let fields = metadata.schema().fields().clone();
    batch::columns(&fields, sink)?;
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_batch_size(ROWS_AT_ONCE)
        .build()
        .map_err(|fault| broken(&fault))?;
    let given = batch::rows(&fields, reader, sink)?;
    if i64::try_from(given) != Ok(wanted) {
        let detail = format!("its footer says {wanted} rows, it has {given}");
        return Err(DecodeFault::new(DecodeFaultKind::Broken, detail));
    }
    Ok(())
}

fn broken(fault: &ParquetError) -> DecodeFault {
    let text = fault.to_string();
    let (kind, detail) = if text.contains("ncrypt") {
        (DecodeFaultKind::Encrypted, "it is encrypted")
    } else if text.contains("UTF") {
        (DecodeFaultKind::NotUtf8, "a text of it is not UTF-8")
    } else {
        (
            DecodeFaultKind::Broken,
            "it is not sound from some place on",
        )
    };
    DecodeFault::new(kind, detail)
}
