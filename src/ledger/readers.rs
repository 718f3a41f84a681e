//! A few read-only connections, lent to one blocking query each. They see every committed change
//! and never wait for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::ledger::{Access, LedgerFault, Trouble, connect};
use crate::terms::limits;

/// The idle connections, and as many permits as there are connections.
pub(super) struct Readers {
    path: String,
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
}

/// One connection on loan; goes back when dropped, also by a panic.
struct Loan<'r> {
    connection: Option<Connection>,
    readers: &'r Readers,
}

// === impl Readers ===

impl Readers {
    /// Opens them all: a file that cannot be read is found out here.
    pub(super) fn open(file: &Path, path: &str) -> Result<Self, LedgerFault> {
        let connections = (0..limits::LEDGER_READERS_MAX)
            .map(|_| connect(file, path, Access::Read))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            path: path.to_owned(),
            free: Arc::new(Semaphore::new(connections.len())),
            idle: Mutex::new(connections),
        })
    }

    /// Runs `query` on the caller's thread as soon as a connection is free: for one row by an index,
    /// some pages that lie in memory as a rule. Handing it to another thread costs more than it does.
    pub(super) async fn find<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, LedgerFault> {
        let permit = self.free.acquire().await;
        let _permit = permit.map_err(|_| LedgerFault::Stopped)?;
        self.lend()?.run(query)
    }

    /// Runs `query` on a blocking thread as soon as a connection is free.
    pub(super) async fn read<T, F>(this: &Arc<Self>, query: F) -> Result<T, LedgerFault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    {
        let permit = Arc::clone(&this.free)
            .acquire_owned()
            .await
            .map_err(|_| LedgerFault::Stopped)?;
        let readers = Arc::clone(this);
        tokio::task::spawn_blocking(move || {
            let answer = readers.lend().and_then(|loan| loan.run(query));
            drop(permit);
            answer
        })
        .await
        .map_err(|_| LedgerFault::Stopped)?
    }

    /// Runs `query` here and now; only while opening.
    pub(super) fn look<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, LedgerFault>,
    ) -> Result<T, LedgerFault> {
        query(
            self.lend()?
                .connection
                .as_ref()
                .ok_or(LedgerFault::Stopped)?,
        )
    }

    /// Closes the idle connections; the others close when they come back.
    pub(super) fn close(&self) {
        self.free.close();
        let closed = std::mem::take(&mut *self.idle());
        drop(closed);
    }

    fn lend(&self) -> Result<Loan<'_>, LedgerFault> {
        let connection = self.idle().pop().ok_or(LedgerFault::Stopped)?;
        Ok(Loan {
            connection: Some(connection),
            readers: self,
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Loan ===

impl Loan<'_> {
    fn run<T>(
        self,
        query: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, LedgerFault> {
        let connection = self.connection.as_ref().ok_or(LedgerFault::Stopped)?;
        query(connection).map_err(|trouble| trouble.into_fault(&self.readers.path))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.readers.free.is_closed()
        {
            self.readers.idle().push(connection);
        }
    }
}
