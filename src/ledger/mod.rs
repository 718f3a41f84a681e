//! Rank 4: the ledger, what happened. One writer thread with group commit, read connections
//! beside it. The interface is domain verbs; no SQL and no rusqlite type leaves this folder.
//!
//! A verb that changes something returns after its COMMIT: WAL with `synchronous=FULL`, so what it
//! says survives a power cut (<https://www.sqlite.org/pragma.html#pragma_synchronous>).

pub mod audit;
pub mod drifts;
#[cfg(test)]
mod fixture;
pub mod keys;
mod migrations;
mod readers;
pub mod rejects;
pub mod rows;
mod slots;
pub mod submissions;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use rustix::fs::FlockOperation;

use crate::ledger::readers::Readers;
use crate::ledger::writer::{Change, Writer};
use crate::terms::clock::Clock;
use crate::terms::fault::{Blame, Fault, Retry};
use crate::terms::limits;

/// Signs audit heads: gets the text to sign, gives an armored sshsig (namespace `sallyport-audit`).
pub type HeadSigner = Arc<dyn Fn(&[u8]) -> String + Send + Sync>;

/// The database of one gateway. Cheap to clone. Dropping the last clone stops it.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

/// What went wrong with the ledger.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerFault {
    /// Another gateway holds this state directory.
    #[error("{path} is in use by another gateway (pid {pid})")]
    InUse {
        /// The lock file.
        path: String,
        /// The other process, when it can be read.
        pid: String,
    },
    /// SQLite said no.
    #[error("ledger {path}: {detail}")]
    Database {
        /// The file.
        path: String,
        /// SQLite's words.
        detail: String,
    },
    /// The file is damaged, or no ledger at all.
    #[error("ledger {path}: {detail}")]
    Damaged {
        /// The file.
        path: String,
        /// SQLite's words and the remedy.
        detail: String,
    },
    /// Written by a newer sallyport.
    #[error("ledger {path} has schema {found}; this build knows up to {known}")]
    TooNew {
        /// The file.
        path: String,
        /// What it has.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// A submission is not in a state that allows this step.
    #[error("submission {id} is {found}; {wanted}")]
    IllegalStep {
        /// Which.
        id: String,
        /// Its state.
        found: String,
        /// What was tried.
        wanted: String,
    },
    /// The writer thread is gone (it stops at the first failed COMMIT it cannot explain).
    #[error("the ledger has stopped; see the log for the cause")]
    Stopped,
}

/// Declared in the order of closing: readers before the writer, the lock last.
struct Inner {
    /// The file, for messages.
    path: String,
    readers: Arc<Readers>,
    /// `None`: opened read-only.
    writer: Option<Writer>,
    /// Held while this process may write; `None` once stopped.
    lock: Mutex<Option<File>>,
}

/// Why a verb did not happen, before the file's name is put to it.
#[derive(Debug)]
enum Trouble {
    /// The verb refused: nobody else is touched.
    Refused(LedgerFault),
    /// SQLite refused.
    Sql(rusqlite::Error),
}

// === impl Ledger ===

impl Ledger {
    /// Opens or creates `state_dir/state.db` (0600), takes the lock, migrates, checks.
    ///
    /// # Errors
    /// [`LedgerFault::InUse`] when another process holds `state_dir/lock`,
    /// [`LedgerFault::TooNew`], [`LedgerFault::Database`] with the file and the remedy.
    pub fn open(
        state_dir: &Path,
        clock: Arc<dyn Clock>,
        sign: HeadSigner,
    ) -> Result<Self, LedgerFault> {
        let file = state_dir.join(FILE_NAME);
        let path = file.display().to_string();
        let on_disk = |what: &str, error: &io::Error| LedgerFault::Database {
            path: path.clone(),
            detail: format!("{what}: {error}; check that this user owns the state directory"),
        };
        make_state_dir(state_dir).map_err(|e| on_disk("cannot create the state directory", &e))?;
        let lock = take_lock(state_dir)?;
        make_file(state_dir, &file).map_err(|e| on_disk("cannot create the file", &e))?;

        let connection = connect(&file, &path, Access::Write)?;
        migrations::migrate(&connection, &path)?;
        let readers = Readers::open(&file, &path)?;
        let writer = Writer::start(connection, path.clone(), clock, sign)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                readers: Arc::new(readers),
                writer: Some(writer),
                lock: Mutex::new(Some(lock)),
            }),
        })
    }

    /// Read-only, beside a running or stopped gateway (`--offline`). Every writing verb fails.
    ///
    /// # Errors
    /// [`LedgerFault::TooNew`], [`LedgerFault::Database`] with the file and the remedy.
    pub fn open_read_only(state_dir: &Path) -> Result<Self, LedgerFault> {
        let file = state_dir.join(FILE_NAME);
        let path = file.display().to_string();
        if !file.exists() {
            return Err(LedgerFault::Database {
                path,
                detail: "there is no such file; no gateway has run with this state directory"
                    .to_owned(),
            });
        }
        let readers = Readers::open(&file, &path)?;
        readers.look(|connection| migrations::is_current(connection, &path))?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                readers: Arc::new(readers),
                writer: None,
                lock: Mutex::new(None),
            }),
        })
    }

    /// The writer thread is there and can commit.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn ping(&self) -> Result<(), LedgerFault> {
        self.change(|_change| Ok(())).await
    }

    /// Whether a state directory has a ledger, whole or not.
    #[must_use]
    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(FILE_NAME).exists()
    }

    /// Puts every destroyed key and byte out of the write-ahead log, now (it happens by itself
    /// within a second of the destruction).
    ///
    /// # Errors
    /// [`LedgerFault::Stopped`]; [`LedgerFault::Database`] also when a reader of another process
    /// stands in the way.
    pub async fn checkpoint(&self) -> Result<(), LedgerFault> {
        self.writer()?.checkpoint().await
    }

    /// Ends the ledger in order: what was asked before is committed, the write-ahead log emptied,
    /// the thread joined, the lock given back. Verbs after it give [`LedgerFault::Stopped`].
    pub async fn stop(&self) {
        self.inner.readers.close();
        if let Some(writer) = &self.inner.writer {
            writer.stop().await;
        }
        let lock = self
            .inner
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(lock);
    }

    /// A remembered fact of this gateway, as set by [`Ledger::set_fact`].
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn instance_fact(&self, key: &str) -> Result<Option<String>, LedgerFault> {
        let key = key.to_owned();
        self.read(move |connection| {
            let sql = "SELECT value FROM facts WHERE name = ?1";
            Ok(connection
                .query_row(sql, [&key], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// Remembers a small fact of this gateway under a name, in place of an earlier one.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn set_fact(&self, key: &str, value: &str) -> Result<(), LedgerFault> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.change(move |change| {
            change.execute(
                "INSERT INTO facts (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [&key, &value],
            )?;
            Ok(())
        })
        .await
    }

    /// Lets the n-th COMMIT from now fail, once, as a full disk would; 0: none. For tests of
    /// those who use the ledger.
    #[doc(hidden)]
    pub fn danger_fail_commit_after(&self, n: usize) {
        if let Some(writer) = &self.inner.writer {
            writer.fail_commit_after(n);
        }
    }

    /// Runs a verb on the writer thread and returns when it is committed. A verb already in the
    /// queue happens even when its caller goes away.
    async fn change<T, F>(&self, verb: F) -> Result<T, LedgerFault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Change<'_>) -> Result<T, Trouble> + Send + 'static,
    {
        self.writer()?.change(verb).await
    }

    /// Finds one row by an index, here and now.
    async fn find_by<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, LedgerFault> {
        self.inner.readers.find(query).await
    }

    /// Runs a query on one of the read connections, off the async threads.
    async fn read<T, F>(&self, query: F) -> Result<T, LedgerFault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    {
        Readers::read(&self.inner.readers, query).await
    }

    fn writer(&self) -> Result<&Writer, LedgerFault> {
        self.inner
            .writer
            .as_ref()
            .ok_or_else(|| LedgerFault::Database {
                path: self.inner.path.clone(),
                detail: "opened read-only; ask the running gateway instead".to_owned(),
            })
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({})", self.inner.path)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.readers.close();
    }
}

// === impl LedgerFault ===

impl Fault for LedgerFault {
    fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "ledger.in-use",
            Self::Damaged { .. } => "ledger.damaged",
            Self::Database { .. } => "ledger.database",
            Self::TooNew { .. } => "ledger.too-new",
            Self::IllegalStep { .. } => "ledger.illegal-step",
            Self::Stopped => "ledger.stopped",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::Database { .. }
            | Self::TooNew { .. }
            | Self::Stopped => Blame::Operator,
            Self::IllegalStep { .. } => Blame::Bug,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Database { .. } | Self::Stopped => Retry::Later,
            Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::TooNew { .. }
            | Self::IllegalStep { .. } => Retry::Never,
        }
    }

    fn told_partner(&self) -> Cow<'static, str> {
        Cow::Borrowed("the gateway cannot record this now; send the file again later")
    }
}

// === impl Trouble ===

impl Trouble {
    /// With the file's name and the remedy.
    fn into_fault(self, path: &str) -> LedgerFault {
        match self {
            Self::Refused(fault) => fault,
            Self::Sql(error) => explain(path, &error),
        }
    }
}

impl From<LedgerFault> for Trouble {
    fn from(fault: LedgerFault) -> Self {
        Self::Refused(fault)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

// === opening ===

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn make_state_dir(state_dir: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
}

/// The database file exists and is 0600 before SQLite sees it: `-wal` and `-shm` inherit its mode.
fn make_file(state_dir: &Path, file: &Path) -> io::Result<()> {
    let handle = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)?;
    if handle.metadata()?.permissions().mode() & 0o077 != 0 {
        handle.set_permissions(Permissions::from_mode(0o600))?;
    }
    handle.sync_all()?;
    File::open(state_dir)?.sync_all()
}

/// Takes the exclusive advisory lock of the state directory. It goes with the process, however
/// that ends; the pid inside is only for the message.
fn take_lock(state_dir: &Path) -> Result<File, LedgerFault> {
    let path = state_dir.join(LOCK_NAME);
    let shown = path.display().to_string();
    let on_disk = |error: &io::Error| LedgerFault::Database {
        path: shown.clone(),
        detail: format!("{error}; check that this user owns the state directory"),
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| on_disk(&e))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            return Err(LedgerFault::InUse {
                path: shown,
                pid: if known {
                    pid.trim().to_owned()
                } else {
                    "unknown".to_owned()
                },
            });
        }
        Err(error) => return Err(on_disk(&error.into())),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|e| on_disk(&e))?;
    Ok(file)
}

/// A connection with every setting it needs.
fn connect(file: &Path, path: &str, access: Access) -> Result<Connection, LedgerFault> {
    set_up(file, access)
        .map_err(|error| explain(path, &error))
        .and_then(|(connection, journal)| match access {
            Access::Write if !journal.eq_ignore_ascii_case("wal") => Err(LedgerFault::Database {
                path: path.to_owned(),
                detail: format!(
                    "the file system cannot carry a write-ahead log (SQLite chose {journal}); \
                     put the state directory on a local disk"
                ),
            }),
            Access::Read | Access::Write => Ok(connection),
        })
}

/// Statements kept prepared on each connection.
const STATEMENTS_PREPARED: usize = 64;

/// The connection, and the journal mode SQLite chose.
fn set_up(file: &Path, access: Access) -> Result<(Connection, String), rusqlite::Error> {
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let connection = Connection::open_with_flags(file, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Statements are put together from a handful of parts: all of them stay prepared.
    connection.set_prepared_statement_cache_capacity(STATEMENTS_PREPARED);
    connection.busy_timeout(Duration::from_millis(limits::LEDGER_BUSY_MS))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    // Without it every new value of a range makes SQLite prepare the statement anew: a third of what
    // a small file costs.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let first = |row: &rusqlite::Row<'_>| row.get(0);
    let journal = match access {
        Access::Read => {
            connection.pragma_update(None, "query_only", true)?;
            connection.pragma_query_value(None, "journal_mode", first)?
        }
        Access::Write => {
            let journal = connection.pragma_update_and_check(None, "journal_mode", "WAL", first)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "secure_delete", true)?;
            journal
        }
    };
    Ok((connection, journal))
}

/// SQLite's words with the file's name and what to do about it. Bound values never appear in them.
fn explain(path: &str, error: &rusqlite::Error) -> LedgerFault {
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            return LedgerFault::Damaged {
                path: path.to_owned(),
                detail: format!(
                    "{error}; restore a backup, or move it away together with its -wal and -shm \
                     files (the gateway then starts with an empty ledger: what was accepted and \
                     not yet delivered is lost, and so are the token keys)"
                ),
            };
        }
        Some(ErrorCode::DiskFull) => "; free some space on the file system of the state directory",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; another program holds the file (a backup, a sqlite3 shell): let it finish"
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            "; check owner and mode of the file and of its directory"
        }
        Some(ErrorCode::SystemIoFailure) => {
            "; the disk failed: look into the kernel log before starting again"
        }
        // Every other code speaks for itself; SQLite's list grows.
        Some(_) | None => "",
    };
    LedgerFault::Database {
        path: path.to_owned(),
        detail: format!("{error}{remedy}"),
    }
}

const FILE_NAME: &str = "state.db";
const LOCK_NAME: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::audit::Act;
    use crate::ledger::fixture::{Desk, accepted, beginning, id, open, rejected};
    use crate::ledger::submissions::{Filter, State};

    fn act(subject: &str) -> Act {
        Act {
            actor: "root".to_owned(),
            action: "config.reload".to_owned(),
            subject: subject.to_owned(),
            detail: String::new(),
        }
    }

    #[tokio::test]
    async fn a_hundred_at_once_are_all_there_and_all_recorded() {
        let desk = Desk::new();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..100 {
            let ledger = desk.ledger.clone();
            all.spawn(async move { ledger.begin(beginning(n), Default::default).await });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap().unwrap();
        }
        let filter = Filter {
            limit: 1000,
            ..Filter::default()
        };
        assert_eq!(desk.ledger.list(filter).await.unwrap().len(), 100);
        let report = desk.ledger.verify_chain().await.unwrap();
        assert_eq!((report.records, report.broken), (100, None));
    }

    #[tokio::test]
    async fn waiting_requests_share_one_commit_and_a_refused_one_harms_no_neighbour() {
        let desk = Desk::new();
        desk.ledger
            .begin(beginning(1), Default::default)
            .await
            .unwrap();
        // While another program holds the file the requests gather.
        let other = Connection::open(desk.file()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (first, good, twice, after, ()) = tokio::join!(
            desk.ledger.record(act("first")),
            desk.ledger.begin(beginning(2), Default::default),
            desk.ledger.begin(beginning(1), Default::default),
            desk.ledger.settle(beginning(3), accepted(3)),
            async { other.execute_batch("COMMIT").unwrap() },
        );
        first.unwrap();
        good.unwrap();
        assert!(
            matches!(twice, Err(LedgerFault::IllegalStep { .. })),
            "{twice:?}"
        );
        after.unwrap();
        let report = desk.ledger.verify_chain().await.unwrap();
        assert_eq!((report.records, report.broken), (4, None));
        assert!(
            report.heads.len() < 4,
            "{} commits for 4 requests",
            report.heads.len()
        );
    }

    #[tokio::test]
    async fn a_failed_commit_fails_its_whole_group_and_leaves_no_trace() {
        let desk = Desk::new();
        desk.ledger
            .begin(beginning(1), Default::default)
            .await
            .unwrap();
        desk.ledger.danger_fail_commit_after(2);
        desk.ledger.record(act("before")).await.unwrap();
        let failed = desk.ledger.settle(beginning(2), accepted(2)).await;
        assert!(
            matches!(failed, Err(LedgerFault::Database { .. })),
            "{failed:?}"
        );
        assert_eq!(desk.ledger.submission(id(2)).await.unwrap(), None);
        // The same again succeeds, and the chain has no gap.
        desk.ledger.settle(beginning(2), accepted(2)).await.unwrap();
        let report = desk.ledger.verify_chain().await.unwrap();
        assert_eq!((report.records, report.broken), (3, None));
    }

    #[tokio::test]
    async fn whatever_commit_fails_a_life_ends_the_same_after_trying_again() {
        for n in 1.. {
            let desk = Desk::new();
            desk.ledger.danger_fail_commit_after(n);
            let mut failures = 0;
            macro_rules! insist {
                ($verb:expr) => {
                    if $verb.await.is_err() {
                        failures += 1;
                        $verb.await.unwrap();
                    }
                };
            }
            let ledger = &desk.ledger;
            insist!(ledger.begin(beginning(1), Default::default));
            insist!(ledger.settle(beginning(1), accepted(1)));
            insist!(ledger.deliver(id(1)));
            insist!(ledger.delivered(id(1), "lake:x".to_owned(), fixture::at(9)));
            let row = ledger.submission(id(1)).await.unwrap().unwrap();
            assert_eq!((row.state, row.attempts), (State::Delivered, 1));
            assert_eq!(ledger.verify_chain().await.unwrap().broken, None);
            if failures == 0 {
                assert_eq!(n, 5, "four verbs, four commits");
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_copy_taken_in_mid_flight_opens_with_every_committed_row() {
        let desk = Desk::new();
        desk.ledger
            .begin(beginning(1), Default::default)
            .await
            .unwrap();
        desk.ledger.settle(beginning(2), accepted(2)).await.unwrap();
        let crashed = tempfile::tempdir().unwrap();
        // The log first: what a checkpoint moves meanwhile is then in both copies.
        for name in ["state.db-wal", "state.db"] {
            std::fs::copy(desk.folder.path().join(name), crashed.path().join(name)).unwrap();
        }
        // Half a frame of a transaction that never came to its COMMIT.
        let mut wal = OpenOptions::new()
            .append(true)
            .open(crashed.path().join("state.db-wal"))
            .unwrap();
        wal.write_all(&[0xa5; 777]).unwrap();

        let reader = Ledger::open_read_only(crashed.path()).unwrap();
        assert!(reader.submission(id(2)).await.unwrap().is_some());
        let again = open(crashed.path(), &desk.clock).unwrap();
        assert_eq!(again.unsettled().await.unwrap().len(), 2);
        assert_eq!(again.verify_chain().await.unwrap().broken, None);
        again.settle(beginning(1), rejected(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_second_gateway_is_told_who_holds_the_directory() {
        let mut desk = Desk::new();
        let second = open(desk.folder.path(), &desk.clock);
        let Err(LedgerFault::InUse { path, pid }) = second else {
            panic!("{second:?}");
        };
        assert!(path.ends_with("/lock"), "{path}");
        assert_eq!(pid, std::process::id().to_string());
        // Given back by stop, although clones are still about.
        let clone = desk.ledger.clone();
        desk.restart().await;
        assert!(matches!(clone.counts().await, Err(LedgerFault::Stopped)));
    }

    #[tokio::test]
    async fn dropping_the_last_clone_gives_the_lock_back() {
        let Desk {
            ledger,
            clock,
            folder,
        } = Desk::new();
        ledger.begin(beginning(1), Default::default).await.unwrap();
        let clone = ledger.clone();
        drop(ledger);
        assert!(open(folder.path(), &clock).is_err());
        drop(clone);
        let again = open(folder.path(), &clock).unwrap();
        assert!(again.submission(id(1)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn stop_commits_what_was_asked_before_and_refuses_what_comes_after() {
        let desk = Desk::new();
        let (asked, ()) = tokio::join!(
            desk.ledger.begin(beginning(1), Default::default),
            desk.ledger.stop()
        );
        asked.unwrap();
        desk.ledger.stop().await;
        for refused in [
            desk.ledger.begin(beginning(2), Default::default).await,
            desk.ledger.checkpoint().await,
            desk.ledger.submission(id(1)).await.map(|_| ()),
        ] {
            assert!(matches!(refused, Err(LedgerFault::Stopped)), "{refused:?}");
        }
        let reader = Ledger::open_read_only(desk.folder.path()).unwrap();
        assert!(reader.submission(id(1)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_reader_works_beside_the_writer_and_never_writes() {
        let desk = Desk::new();
        let reader = Ledger::open_read_only(desk.folder.path()).unwrap();
        desk.ledger
            .begin(beginning(1), Default::default)
            .await
            .unwrap();
        assert!(reader.submission(id(1)).await.unwrap().is_some());
        assert!(matches!(
            reader.begin(beginning(2), Default::default).await,
            Err(LedgerFault::Database { .. })
        ));
        assert_eq!(reader.submission(id(2)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn files_and_folder_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("state");
        let clock = crate::terms::clock::ManualClock::at(fixture::at(0));
        let ledger = open(&inner, &clock).unwrap();
        ledger.begin(beginning(1), Default::default).await.unwrap();
        let mode = |name: &str| inner.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(""), 0o700);
        for name in ["state.db", "state.db-wal", "state.db-shm", "lock"] {
            assert_eq!(mode(name), 0o600, "{name}");
        }
    }

    #[track_caller]
    fn refused(content: &[u8], expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), content).unwrap();
        let clock = crate::terms::clock::ManualClock::at(fixture::at(0));
        let writing = open(folder.path(), &clock).unwrap_err().to_string();
        let reading = Ledger::open_read_only(folder.path())
            .unwrap_err()
            .to_string();
        for said in [writing, reading] {
            assert!(said.contains("/state.db: "), "{said}");
            assert!(said.contains(expect), "{said}");
        }
    }

    #[test]
    fn a_file_that_is_no_ledger_is_named_with_the_remedy() {
        refused(&[0x42; 8192], "restore a backup, or move it away");
        refused(b"name,iban\n", "restore a backup, or move it away");
        // A good header, then garbage where the schema should be.
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("foreign.db");
        let connection = Connection::open(&foreign).unwrap();
        connection
            .execute_batch("CREATE TABLE t (x); PRAGMA user_version = 1")
            .unwrap();
        drop(connection);
        let mut content = std::fs::read(&foreign).unwrap();
        refused(
            &content,
            "not of sallyport; restore a backup, or move it away",
        );
        content[100..400].fill(0xff);
        refused(&content, "restore a backup, or move it away");
    }

    #[tokio::test]
    async fn a_file_of_a_newer_build_is_refused_untouched() {
        let desk = Desk::new();
        desk.ledger.stop().await;
        let other = Connection::open(desk.file()).unwrap();
        other.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(other);
        for newer in [
            open(desk.folder.path(), &desk.clock),
            Ledger::open_read_only(desk.folder.path()),
        ] {
            assert!(
                matches!(newer, Err(LedgerFault::TooNew { found: 99, .. })),
                "{newer:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_missing_ledger_is_not_made_by_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Ledger::open_read_only(folder.path());
        assert!(
            matches!(missing, Err(LedgerFault::Database { .. })),
            "{missing:?}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn facts_are_remembered_over_a_restart() {
        let mut desk = Desk::new();
        assert_eq!(desk.ledger.instance_fact("x").await.unwrap(), None);
        desk.ledger.set_fact("x", "1").await.unwrap();
        desk.ledger.set_fact("x", "2").await.unwrap();
        desk.restart().await;
        assert_eq!(
            desk.ledger.instance_fact("x").await.unwrap().as_deref(),
            Some("2")
        );
    }
}
