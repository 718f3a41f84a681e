//! A [`Source`] as the readers of others want it.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::decode::Source;

/// Read together by a reader that goes from front to back.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Reads a source from a place on.
#[derive(Clone)]
pub(super) struct Cursor {
    source: Arc<dyn Source>,
    at: u64,
}

impl Cursor {
    pub(super) fn new(source: &Arc<dyn Source>, at: u64) -> Self {
        Self {
            source: Arc::clone(source),
            at,
        }
    }

    /// The next byte's offset.
    pub(super) fn at(&self) -> u64 {
        self.at
    }
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.source.bytes().saturating_sub(self.at);
        let bytes = into.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let Some(into) = into.get_mut(..bytes) else {
            return Ok(0);
        };
        self.source.read_at(self.at, into)?;
        self.at += u64::try_from(bytes).unwrap_or(0);
        Ok(bytes)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(back) => self.source.bytes().checked_add_signed(back),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
