//! Apache Avro object container files (Avro 1.12).

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::sync::Arc;

use arrow_avro::reader::ReaderBuilder;

use crate::decode::batch::{self, ROWS_AT_ONCE};
use crate::decode::source::{BUFFER_BYTES, Cursor};
use crate::decode::{DecodeFault, DecodeFaultKind, Sink, Source};

/// What stands between blocks.
const MARKER_BYTES: u64 = 16;

/// Decodes a whole file.
///
/// # Errors
/// [`DecodeFault`].
pub(super) fn decode(source: &Arc<dyn Source>, sink: &mut Sink<'_>) -> Result<(), DecodeFault> {
    // The reader takes what is cut off for the end.
    if !is_whole(source).unwrap_or(false) {
        return Err(DecodeFault::new(
            DecodeFaultKind::Broken,
            "its blocks do not fill it to its end",
        ));
    }
    let cursor = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(source, 0));
    let reader = ReaderBuilder::new()
        .with_batch_size(ROWS_AT_ONCE)
        .build(cursor)
        .map_err(|fault| batch::broken(&fault))?;
    let fields = reader.schema().fields().clone();
    batch::columns(&fields, sink)?;
    batch::rows(&fields, reader, sink).map(drop)
}

/// Whether its blocks, each with its marker, fill it to the last byte.
fn is_whole(source: &Arc<dyn Source>) -> io::Result<bool> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(source, 0));
    file.read_exact(&mut [0; 4])?;
    // The metadata: blocks of keys and values; a negative count has a size behind it.
    let mut at = 4;
    loop {
        let mut count = number(&mut file, &mut at)?;
        if count == 0 {
            break;
        }
        if count < 0 {
            count = count.checked_neg().ok_or(io::ErrorKind::InvalidData)?;
            number(&mut file, &mut at)?;
        }
        for _ in 0..count.checked_mul(2).ok_or(io::ErrorKind::InvalidData)? {
            let bytes = number(&mut file, &mut at)?;
            skip(&mut file, bytes, &mut at)?;
        }
    }
    let mut marker = [0; 16];
    file.read_exact(&mut marker)?;
    at += MARKER_BYTES;
    while !file.fill_buf()?.is_empty() {
        let count = number(&mut file, &mut at)?;
        let bytes = number(&mut file, &mut at)?;
        // The reader never ends a block of no rows with bytes, and passes over rows without any.
        if (count > 0) != (bytes > 0) || count < 0 {
            return Ok(false);
        }
        skip(&mut file, bytes, &mut at)?;
        let mut found = [0; 16];
        file.read_exact(&mut found)?;
        at += MARKER_BYTES;
        if found != marker {
            return Ok(false);
        }
    }
    Ok(at == source.bytes())
}

/// A long: zigzag, seven bits a byte.
fn number(file: &mut BufReader<Cursor>, at: &mut u64) -> io::Result<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        *at += 1;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            let half = i64::try_from(value >> 1).map_err(io::Error::other)?;
            return Ok(if value & 1 == 0 { half } else { !half });
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn skip(file: &mut BufReader<Cursor>, bytes: i64, at: &mut u64) -> io::Result<()> {
    let forward = u64::try_from(bytes).map_err(io::Error::other)?;
    *at = at.checked_add(forward).ok_or(io::ErrorKind::InvalidData)?;
    file.seek_relative(bytes)
}
