//! Arrow IPC (Arrow columnar format 1.5), as a file with a footer or as a stream.

use std::io::BufReader;
use std::sync::Arc;

use arrow_ipc::reader::{FileReader, StreamReader};

use crate::decode::source::{BUFFER_BYTES, Cursor};
use crate::decode::{DecodeFault, DecodeFaultKind, Sink, Source, batch};

/// What stands behind the last message.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Decodes a whole file.
///
/// # Errors
/// [`DecodeFault`].
pub(super) fn decode(source: &Arc<dyn Source>, sink: &mut Sink<'_>) -> Result<(), DecodeFault> {
    let mut start = [0; 6];
    let is_file = source.read_at(0, &mut start).is_ok() && start == *b"ARROW1";
    let cursor = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(source, 0));
    if is_file {
        let reader = FileReader::try_new(cursor, None).map_err(|fault| batch::broken(&fault))?;
        let fields = reader.schema().fields().clone();
        batch::columns(&fields, sink)?;
        return batch::rows(&fields, reader, sink).map(drop);
    }
    // The reader takes what is cut off between two messages for the end.
    let mut end = [0; 8];
    let at = source.bytes().checked_sub(8);
    if at.is_none_or(|at| source.read_at(at, &mut end).is_err()) || end != END {
        return Err(DecodeFault::new(
            DecodeFaultKind::Broken,
            "its last message does not say that it is the last",
        ));
    }
    let mut reader = StreamReader::try_new(cursor, None).map_err(|fault| batch::broken(&fault))?;
    let fields = reader.schema().fields().clone();
    batch::columns(&fields, sink)?;
    batch::rows(&fields, &mut reader, sink)?;
    if reader.get_ref().get_ref().at() - buffered(reader.get_ref()) != source.bytes() {
        return Err(DecodeFault::new(
            DecodeFaultKind::Broken,
            "something follows its last message",
        ));
    }
    Ok(())
}

fn buffered(reader: &BufReader<Cursor>) -> u64 {
    u64::try_from(reader.buffer().len()).unwrap_or(u64::MAX)
}
