//! The one thread that changes the ledger. Requests that wait together are committed together:
//! one fsync for many (group commit). Each request runs in a savepoint of its own, so one that is
//! refused does not undo its neighbours; nobody is answered before the COMMIT.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::ledger::audit::{self, Act, Chain};
use crate::ledger::{HeadSigner, LedgerFault, Trouble, explain, slots};
use crate::terms::clock::{Clock, Timestamp};
use crate::terms::limits;

/// The thread's handle. Dropping it lets the thread finish what is queued, and joins it.
pub(super) struct Writer {
    /// `None` only while being dropped.
    queue: Option<SyncSender<Message>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    fail_commit_after: Arc<AtomicUsize>,
}

/// What a verb works with: the open transaction, its time, the audit chain.
pub(super) struct Change<'g> {
    connection: &'g Connection,
    at: Timestamp,
    chain: &'g mut Chain,
    has_destroyed: &'g mut bool,
}

struct Message {
    work: Work,
    /// Its place in the queue.
    place: OwnedSemaphorePermit,
}

enum Work {
    Change(Box<dyn Request>),
    Checkpoint(oneshot::Sender<Result<(), LedgerFault>>),
    Stop,
}

/// A verb whose types the thread need not know.
trait Request: Send {
    fn apply(&mut self, change: &mut Change<'_>) -> Result<(), Trouble>;
    fn answer(self: Box<Self>, outcome: Result<(), LedgerFault>);
}

struct Verb<T, F> {
    act: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, LedgerFault>>,
}

/// What the thread owns.
struct Desk {
    connection: Connection,
    path: String,
    clock: Arc<dyn Clock>,
    sign: HeadSigner,
    chain: Chain,
    /// Heads written since the last pruning.
    heads: usize,
    /// Since when destroyed bytes are still in the write-ahead log.
    unscrubbed: Option<Timestamp>,
    /// A checkpoint failed and that was logged; said once until one works.
    complained: bool,
    fail_commit_after: Arc<AtomicUsize>,
}

// === impl Writer ===

impl Writer {
    /// Reads the head of the chain and starts the thread.
    pub(super) fn start(
        connection: Connection,
        path: String,
        clock: Arc<dyn Clock>,
        sign: HeadSigner,
    ) -> Result<Self, LedgerFault> {
        let chain = Chain::load(&connection).map_err(|e| explain(&path, &e))?;
        let shown = path.clone();
        let fail_commit_after = Arc::new(AtomicUsize::new(0));
        let desk = Desk {
            connection,
            path,
            clock,
            sign,
            chain,
            heads: HEADS_BEFORE_PRUNING,
            // A crash may have left destroyed bytes in the log.
            unscrubbed: Some(Timestamp::from_micros(i64::MIN)),
            complained: false,
            fail_commit_after: Arc::clone(&fail_commit_after),
        };
        // Never full: the semaphore has as many permits as the queue has places.
        let (sender, receiver) = sync_channel(limits::LEDGER_QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || desk.run(&receiver))
            .map_err(|error| LedgerFault::Database {
                path: shown,
                detail: format!("cannot start the writer thread: {error}"),
            })?;
        Ok(Self {
            queue: Some(sender),
            room: Arc::new(Semaphore::new(limits::LEDGER_QUEUE_MAX)),
            thread: Mutex::new(Some(thread)),
            fail_commit_after,
        })
    }

    /// Queues a verb and waits until its group is committed.
    pub(super) async fn change<T, F>(&self, verb: F) -> Result<T, LedgerFault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Change<'_>) -> Result<T, Trouble> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Verb {
            act: Some(verb),
            value: None,
            reply,
        };
        self.send(Work::Change(Box::new(request))).await?;
        answer.await.map_err(|_| LedgerFault::Stopped)?
    }

    /// Empties the write-ahead log.
    pub(super) async fn checkpoint(&self) -> Result<(), LedgerFault> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Checkpoint(reply)).await?;
        answer.await.map_err(|_| LedgerFault::Stopped)?
    }

    /// Lets the thread finish what was queued before, and waits for its end.
    pub(super) async fn stop(&self) {
        // An error says that it has stopped already.
        self.send(Work::Stop).await.ok();
        let thread = self.take_thread();
        if let Some(thread) = thread {
            // A panic of the thread was reported by the panic hook.
            tokio::task::spawn_blocking(move || thread.join().ok())
                .await
                .ok();
        }
    }

    /// See `Ledger::danger_fail_commit_after`.
    pub(super) fn fail_commit_after(&self, n: usize) {
        self.fail_commit_after.store(n, Ordering::SeqCst);
    }

    async fn send(&self, work: Work) -> Result<(), LedgerFault> {
        let place = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| LedgerFault::Stopped)?;
        self.queue
            .as_ref()
            .ok_or(LedgerFault::Stopped)?
            .try_send(Message { work, place })
            .map_err(|_| LedgerFault::Stopped)
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        self.thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.take_thread();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            thread.join().ok();
        }
    }
}

// === impl Change ===

impl<'g> Change<'g> {
    /// The open transaction.
    pub(super) fn connection(&self) -> &'g Connection {
        self.connection
    }

    /// Runs a statement that is prepared once and kept.
    pub(super) fn execute(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize, rusqlite::Error> {
        execute_cached(self.connection, sql, values)
    }

    /// When this verb happens.
    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    /// Appends a record to the chain.
    pub(super) fn audit(&mut self, act: &Act) -> Result<(), rusqlite::Error> {
        self.chain.append(self.connection, self.at, act)
    }

    /// Destroys a wrapped key, if there is one.
    pub(super) fn destroy_key(&mut self, slot: Option<i64>) -> Result<(), rusqlite::Error> {
        let Some(slot) = slot else { return Ok(()) };
        *self.has_destroyed = true;
        slots::destroy_key(self.connection, slot)
    }

    /// Destroys sealed bytes, if there are any.
    pub(super) fn destroy_bytes(&mut self, number: Option<i64>) -> Result<(), rusqlite::Error> {
        let Some(number) = number else { return Ok(()) };
        *self.has_destroyed = true;
        slots::destroy_bytes(self.connection, number)
    }
}

// === impl Verb ===

impl<T, F> Request for Verb<T, F>
where
    T: Send,
    F: FnOnce(&mut Change<'_>) -> Result<T, Trouble> + Send,
{
    fn apply(&mut self, change: &mut Change<'_>) -> Result<(), Trouble> {
        let act = self.act.take().ok_or(LedgerFault::Stopped)?;
        self.value = Some(act(change)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), LedgerFault>) {
        let value = self.value;
        let answer = outcome.and_then(|()| value.ok_or(LedgerFault::Stopped));
        // Nobody waits any more: it happened all the same.
        self.reply.send(answer).ok();
    }
}

// === impl Desk ===

impl Desk {
    fn run(mut self, queue: &Receiver<Message>) {
        while let Some(first) = self.next(queue) {
            let mut group = Vec::new();
            let mut after = None;
            let mut next = Some(first);
            while let Some(work) = next.take() {
                match work {
                    Work::Change(request) => group.push(request),
                    Work::Checkpoint(_) | Work::Stop => {
                        after = Some(work);
                        break;
                    }
                }
                if group.len() < limits::LEDGER_GROUP_MAX {
                    next = queue.try_recv().ok().map(Message::leave_queue);
                }
            }
            if !group.is_empty() && self.commit(group).is_break() {
                return;
            }
            match after {
                None => self.scrub_when_due(),
                Some(Work::Checkpoint(reply)) => {
                    reply.send(self.checkpoint(limits::LEDGER_BUSY_MS)).ok();
                }
                Some(Work::Stop | Work::Change(_)) => break,
            }
        }
        self.unscrubbed = Some(self.clock.now());
        self.scrub();
    }

    /// The next request; meanwhile, when nothing comes, destroyed bytes leave the log.
    /// `None`: every handle is gone and the queue is empty.
    fn next(&mut self, queue: &Receiver<Message>) -> Option<Work> {
        loop {
            if self.unscrubbed.is_none() {
                return queue.recv().ok().map(Message::leave_queue);
            }
            match queue.recv_timeout(Duration::from_millis(limits::LEDGER_IDLE_MS)) {
                Ok(message) => return Some(message.leave_queue()),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.scrub(),
            }
        }
    }

    fn commit(&mut self, mut group: Vec<Box<dyn Request>>) -> ControlFlow<()> {
        let chain = self.chain.clone();
        let mut has_destroyed = false;
        match self.try_commit(&mut group, &mut has_destroyed) {
            Ok(outcomes) => {
                if has_destroyed && self.unscrubbed.is_none() {
                    self.unscrubbed = Some(self.clock.now());
                }
                for (request, outcome) in group.into_iter().zip(outcomes) {
                    request.answer(outcome);
                }
                ControlFlow::Continue(())
            }
            Err(broken) => {
                self.chain = chain;
                let rolled_back = self.connection.is_autocommit()
                    || self.connection.execute_batch("ROLLBACK").is_ok();
                let fault = broken.trouble.into_fault(&self.path);
                for request in group {
                    request.answer(Err(fault.clone()));
                }
                if broken.is_explained && rolled_back {
                    ControlFlow::Continue(())
                } else {
                    tracing::error!(path = %self.path, error = %fault, "ledger stopped");
                    ControlFlow::Break(())
                }
            }
        }
    }

    /// One transaction. `Ok`: it is committed, and each request has its outcome.
    fn try_commit(
        &mut self,
        group: &mut [Box<dyn Request>],
        has_destroyed: &mut bool,
    ) -> Result<Vec<Result<(), LedgerFault>>, Broken> {
        let connection = &self.connection;
        let at = self.clock.now();
        let seq_before = self.chain.seq();
        execute_cached(connection, "BEGIN IMMEDIATE", [])?;
        let mut outcomes = Vec::with_capacity(group.len());
        for request in group {
            let chain_before = self.chain.clone();
            execute_cached(connection, "SAVEPOINT request", [])?;
            let applied = request.apply(&mut Change {
                connection,
                at,
                chain: &mut self.chain,
                has_destroyed,
            });
            let outcome = match applied {
                Ok(()) => Ok(()),
                // SQLite has rolled back the whole transaction by itself.
                Err(trouble) if connection.is_autocommit() => return Err(Broken::from(trouble)),
                Err(trouble) => {
                    execute_cached(connection, "ROLLBACK TO request", [])?;
                    self.chain = chain_before;
                    Err(trouble.into_fault(&self.path))
                }
            };
            execute_cached(connection, "RELEASE request", [])?;
            outcomes.push(outcome);
        }
        if self.chain.seq() != seq_before {
            audit::write_head(connection, &self.chain, at, &*self.sign)?;
            self.heads += 1;
            if self.heads >= HEADS_BEFORE_PRUNING {
                audit::prune_heads(connection)?;
                self.heads = 0;
            }
        }
        if self.is_to_fail() {
            return Err(Broken {
                trouble: Trouble::Refused(LedgerFault::Database {
                    path: self.path.clone(),
                    detail: "COMMIT failed, as a test asked for".to_owned(),
                }),
                is_explained: true,
            });
        }
        execute_cached(connection, "COMMIT", [])?;
        Ok(outcomes)
    }

    fn is_to_fail(&self) -> bool {
        let count = |n: usize| n.checked_sub(1);
        let before = self
            .fail_commit_after
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
        before == Ok(1)
    }

    /// While requests keep coming, destroyed bytes still leave the log within a second.
    fn scrub_when_due(&mut self) {
        let Some(since) = self.unscrubbed else { return };
        let waited = self.clock.now().micros_since(since);
        // A clock that went backwards counts as due.
        if !(0..limits::LEDGER_SCRUB_MS * 1000).contains(&waited) {
            self.scrub();
        }
    }

    /// A checkpoint that does not wait for readers; tried again later when one is in the way.
    fn scrub(&mut self) {
        if self.unscrubbed.is_none() {
            return;
        }
        match self.checkpoint(limits::LEDGER_IDLE_MS) {
            Ok(()) => self.complained = false,
            Err(error) => {
                self.unscrubbed = Some(self.clock.now());
                if !self.complained {
                    self.complained = true;
                    tracing::warn!(path = %self.path, %error, "destroyed keys wait in the log");
                }
            }
        }
    }

    /// Empties the log, waiting at most `busy_ms` for readers.
    fn checkpoint(&mut self, busy_ms: u64) -> Result<(), LedgerFault> {
        let sql = |error: rusqlite::Error| explain(&self.path, &error);
        let patience = Duration::from_millis(busy_ms);
        self.connection.busy_timeout(patience).map_err(sql)?;
        let busy = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            });
        self.connection
            .busy_timeout(Duration::from_millis(limits::LEDGER_BUSY_MS))
            .map_err(sql)?;
        if busy.map_err(sql)? == 0 {
            self.unscrubbed = None;
            Ok(())
        } else {
            Err(LedgerFault::Database {
                path: self.path.clone(),
                detail: "a reader keeps the write-ahead log from being emptied; it is tried again"
                    .to_owned(),
            })
        }
    }
}

// === impl Message ===

impl Message {
    /// Makes room for another.
    fn leave_queue(self) -> Work {
        drop(self.place);
        self.work
    }
}

/// A transaction that did not come to its COMMIT.
struct Broken {
    trouble: Trouble,
    /// The file is as it was, and the next transaction may succeed.
    is_explained: bool,
}

// === impl Broken ===

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        let is_explained = match &trouble {
            Trouble::Refused(_) => true,
            Trouble::Sql(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DiskFull
                        | ErrorCode::OutOfMemory
                        | ErrorCode::TooBig
                )
            ),
        };
        Self {
            trouble,
            is_explained,
        }
    }
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(Trouble::Sql(error))
    }
}

/// Heads are pruned once in so many commits.
const HEADS_BEFORE_PRUNING: usize = 64;

/// Runs a statement that is prepared once and kept.
pub(super) fn execute_cached(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<usize, rusqlite::Error> {
    connection.prepare_cached(sql)?.execute(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{Desk, acceptance, accepted, beginning, id, partial};

    fn act() -> Act {
        Act {
            actor: "root".to_owned(),
            action: "config.reload".to_owned(),
            subject: "policies".to_owned(),
            detail: String::new(),
        }
    }

    #[tokio::test]
    async fn what_a_refused_request_wrote_is_undone_with_its_records() {
        let desk = Desk::new();
        let refused: Result<(), _> = desk
            .ledger
            .change(|change| {
                change.audit(&act())?;
                change
                    .connection()
                    .execute("INSERT INTO facts VALUES ('x', '1')", [])?;
                Err(Trouble::Refused(LedgerFault::Stopped))
            })
            .await;
        assert!(matches!(refused, Err(LedgerFault::Stopped)));
        assert_eq!(desk.ledger.instance_fact("x").await.unwrap(), None);
        desk.ledger.record(act()).await.unwrap();
        let report = desk.ledger.verify_chain().await.unwrap();
        assert_eq!((report.records, report.broken), (1, None));
    }

    #[tokio::test]
    async fn a_full_disk_is_said_with_the_remedy_and_gets_over_it() {
        let desk = Desk::new();
        desk.ledger
            .begin(beginning(1), Default::default)
            .await
            .unwrap();
        let pages = |most: i64| {
            desk.ledger.change(move |change| {
                let sql = format!("PRAGMA max_page_count = {most}");
                Ok(change
                    .connection()
                    .query_row(&sql, [], |row| row.get::<_, i64>(0))?)
            })
        };
        pages(1).await.unwrap();
        let mut big = accepted(1);
        acceptance(&mut big).out.as_mut().unwrap().inline = Some(vec![7; 60_000]);
        let full = desk
            .ledger
            .settle(beginning(1), big.clone())
            .await
            .unwrap_err();
        assert!(full.to_string().contains("free some space"), "{full}");
        pages(1_000_000).await.unwrap();
        desk.ledger.settle(beginning(1), big).await.unwrap();
        assert_eq!(desk.ledger.verify_chain().await.unwrap().broken, None);
    }

    #[tokio::test]
    async fn the_writer_stops_at_a_commit_it_cannot_explain() {
        let desk = Desk::new();
        let other = Connection::open(desk.file()).unwrap();
        other.execute_batch("DROP TABLE audit_heads").unwrap();
        let first = desk.ledger.begin(beginning(1), Default::default).await;
        assert!(
            matches!(first, Err(LedgerFault::Database { .. })),
            "{first:?}"
        );
        let next = desk.ledger.begin(beginning(2), Default::default).await;
        assert!(matches!(next, Err(LedgerFault::Stopped)), "{next:?}");
        // Looking is still possible, and shows that nothing happened.
        assert_eq!(desk.ledger.submission(id(1)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_reader_in_the_way_only_delays_the_emptying_of_the_log() {
        let desk = Desk::new();
        let mut first = beginning(1);
        first.raw_key = b"KEY-CANARY".to_vec();
        desk.ledger.interrupt(first, partial(1)).await.unwrap();
        let other = Connection::open(desk.file()).unwrap();
        other
            .execute_batch("BEGIN; SELECT count(*) FROM submissions")
            .unwrap();
        desk.ledger.expire(id(1)).await.unwrap();
        desk.ledger.record(act()).await.unwrap();
        assert!(desk.hits(b"KEY-CANARY") > 0, "still in the reader's view");
        other.execute_batch("COMMIT").unwrap();
        let mut looks = 0;
        while desk.hits(b"KEY-CANARY") > 0 {
            looks += 1;
            assert!(looks < 100_000, "still there");
            desk.ledger.counts().await.unwrap();
        }
    }
}
