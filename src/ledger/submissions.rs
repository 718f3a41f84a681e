//! Submissions: the legal steps between their states, and the verbs that take them.
//!
//! `receiving -> received -> accepted | held | rejected`, `held -> accepted | rejected`,
//! `receiving <-> interrupted -> expired | removed`,
//! `accepted -> delivering -> delivered`, `delivering <-> failing`; what is delivered in a moment goes
//! from `accepted` straight to its outcome. Every verb is one transaction
//! with its audit record; a verb on a row in the wrong state is [`LedgerFault::IllegalStep`].
//! An attempt to deliver is not recorded, its outcome is. Keys and sealed bytes are destroyed in
//! the transaction that ends their use.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, named_params};

use crate::depot::spool::SealedLane;
use crate::ledger::audit::{Act, signed};
use crate::ledger::rejects::{self, Rejects};
use crate::ledger::rows::Stored;
use crate::ledger::writer::{Change, execute_cached};
use crate::ledger::{Ledger, LedgerFault, Trouble, drifts, slots};
use crate::seal::Lane;
use crate::terms::clock::Timestamp;
use crate::terms::digest::{Digest, OldDigests};
use crate::terms::drift::Drift;
use crate::terms::ids::{FeedId, PartnerId, SubmissionId};
use crate::terms::path::quoted;

/// Where a submission is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Bytes are arriving.
    Receiving,
    /// Whole; being checked.
    Received,
    /// Cut off; can be resumed.
    Interrupted,
    /// Verdict: a person decides. Kept sealed until then.
    Held,
    /// Verdict: good. Waits for delivery.
    Accepted,
    /// Being written to its store.
    Delivering,
    /// In its store.
    Delivered,
    /// The store does not take it; retried for ever.
    Failing,
    /// Verdict: bad.
    Rejected,
    /// Cut off and never resumed; destroyed.
    Expired,
    /// Removed by the partner before it was whole.
    Removed,
}

/// How a submission came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `sftp`, later `scp`, `link`.
    pub channel: String,
    /// The client's address.
    pub address: String,
    /// The client's version string, quoted.
    pub client: String,
    /// Fingerprint of the key, `SHA256:...`.
    pub key: String,
}

/// What is known when the first byte arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The submission.
    pub id: SubmissionId,
    /// Who sends.
    pub partner: PartnerId,
    /// Which kind of file.
    pub feed: FeedId,
    /// The virtual path as named by the client (a partial name for a temp-name upload).
    pub path: String,
    /// The final file name.
    pub name: String,
    /// How it comes in.
    pub origin: Origin,
    /// The policy's version number.
    pub policy_version: u32,
    /// The policy's hash.
    pub policy_hash: [u8; 32],
    /// When the first byte arrived.
    pub opened_at: Timestamp,
    /// `K_raw`, wrapped.
    pub raw_key: Vec<u8>,
    /// It was opened over an accepted or held file of so many bytes, which was not truncated.
    pub over: Option<u64>,
}

/// An unfinished file, kept for resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Contiguous sealed bytes.
    pub bytes: u64,
    /// The sealed raw lane, when it has no file.
    pub raw_inline: Option<Vec<u8>>,
    /// The client's mtime, seconds since 1970, when it set one.
    pub mtime: Option<i64>,
    /// The size the client has declared.
    pub declared: Option<u64>,
    /// The client closed it under a partial name: whole, as far as the client knows.
    pub closed: bool,
    /// When it was cut off.
    pub at: Timestamp,
}

/// What its client has said of the size of a file that is being sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// When it was opened.
    pub promised: Option<u64>,
    /// Since; more bytes take it back.
    pub set: Option<u64>,
    /// By its path, below what was there: the smallest.
    pub cut: Option<u64>,
}

/// Another name of an unfinished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its path.
    pub path: String,
    /// The name it will have when it is whole.
    pub name: String,
    /// The feed that takes that name.
    pub feed: FeedId,
}

/// How a size was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// By the handle that writes: what was promised before is void, and the file is cut.
    Handle,
    /// By its path, not below what is there.
    Path,
    /// By its path, below what is there.
    PathBelow,
}

/// How an unfinished file is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resuming {
    /// It was closed under its partial name, and is judged now.
    pub closed: bool,
    /// The size its client has declared.
    pub declared: Option<u64>,
    /// Its bytes have moved from the row to a file of their own.
    pub in_a_file: bool,
    /// Since when it is what it is; now, where nothing else is said.
    pub moment: Option<Timestamp>,
}

/// The facts of a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Of the bytes as sent.
    pub digest: Digest,
    /// The same by old functions, where the sender's client compares by them.
    pub old_digests: OldDigests,
    /// The raw lane: length and tag digest (its inline bytes only where they are still needed).
    pub raw: SealedLane,
    /// The client's mtime, seconds since 1970.
    pub mtime: Option<i64>,
    /// When the last byte arrived.
    pub received_at: Timestamp,
}

/// The verdict and everything that becomes true with it, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The whole file.
    pub whole: Whole,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Data rows.
    pub rows: u64,
    /// Faults.
    pub errors_total: u64,
    /// Rows with a fault that are missing in what is forwarded.
    pub rows_left_out: u64,
    /// How its columns differ from the contract's.
    pub drift: Vec<Drift>,
    /// Codes found, sorted, each once.
    pub codes: Vec<String>,
    /// The four receipt documents.
    pub receipt: ReceiptDocuments,
    /// What it comes to.
    pub outcome: Outcome,
    /// What the person said who decided about a held file.
    pub decision: Option<Decision>,
    /// The accepted file that its client removed to make room for this one, if this one is held.
    pub instead_of: Option<SubmissionId>,
}

/// What a verdict comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Forwarded; `K_raw` is destroyed.
    Accepted(Box<Acceptance>),
    /// A person decides; `K_raw` and the raw lane stay until then.
    Held,
    /// `K_raw` is destroyed.
    Rejected,
}

/// A person's word on a held file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Who, as the audit chain names them.
    pub actor: String,
    /// Why; the partner reads it in the receipt.
    pub reason: String,
}

/// What acceptance adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// `K_out`, wrapped; `None` when the content was accepted already (no second object).
    pub out_key: Option<Vec<u8>>,
    /// The output lane.
    pub out: Option<SealedLane>,
    /// Which of the submission's two files it is: the raw one where nothing is changed. `K_raw` is
    /// destroyed all the same; `out_key` is that key wrapped anew.
    pub out_lane: Lane,
    /// The rows that are left out of it, kept apart.
    pub rejects: Option<Rejects>,
    /// Digest of the output.
    pub out_digest: Option<Digest>,
    /// The store's name; `None`: nothing is forwarded, and the submission is at its end.
    pub store: Option<String>,
    /// The object key.
    pub key: Option<String>,
    /// The object's metadata.
    pub metadata: Vec<(String, String)>,
    /// The submission whose object holds this content already.
    pub known_as: Option<SubmissionId>,
    /// An earlier accepted submission of the same path that this one replaces in the listing.
    pub replaces: Option<SubmissionId>,
}

/// A receipt as partners fetch it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptDocuments {
    /// Base of their names, as in `orders_20261121.csv.9MFJ8E2T.receipt`.
    pub base: String,
    /// `.txt`, CRLF.
    pub text: Vec<u8>,
    /// `.json`.
    pub json: Vec<u8>,
    /// `.txt.sig`.
    pub text_sig: Vec<u8>,
    /// `.json.sig`.
    pub json_sig: Vec<u8>,
    /// `.errors.csv`, where there are many.
    pub errors: Option<Vec<u8>>,
    /// `.errors.csv.sig`.
    pub errors_sig: Option<Vec<u8>>,
}

/// One row, as far as views, lists and delivery need it. Keys stay wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The submission.
    pub id: SubmissionId,
    /// Who sent it.
    pub partner: PartnerId,
    /// Which kind of file.
    pub feed: FeedId,
    /// The virtual path.
    pub path: String,
    /// The final file name.
    pub name: String,
    /// How it came in.
    pub origin: Origin,
    /// The policy's version number.
    pub policy_version: u32,
    /// The policy's hash.
    pub policy_hash: [u8; 32],
    /// Where it is in its life.
    pub state: State,
    /// First byte.
    pub opened_at: Timestamp,
    /// When it came to where it is in the order of its path: cut off, closed or whole.
    pub moment: Timestamp,
    /// Last byte.
    pub received_at: Option<Timestamp>,
    /// Verdict.
    pub decided_at: Option<Timestamp>,
    /// In its store.
    pub delivered_at: Option<Timestamp>,
    /// Bytes as sent (contiguous ones, while unfinished).
    pub bytes: u64,
    /// Digest as sent.
    pub digest: Option<Digest>,
    /// The same by old functions, where the sender's client compares by them.
    pub old_digests: OldDigests,
    /// The client's mtime.
    pub mtime: Option<i64>,
    /// Data rows.
    pub rows: u64,
    /// Faults.
    pub errors_total: u64,
    /// Rows with a fault that are missing in what was forwarded.
    pub rows_left_out: u64,
    /// Codes found.
    pub codes: Vec<String>,
    /// Wrapped `K_raw` while it lives.
    pub raw_key: Option<Vec<u8>>,
    /// The raw lane while it lives. Until the file is whole: as of the last interruption, with a
    /// tag digest of zeros.
    pub raw: Option<SealedLane>,
    /// Wrapped `K_out` until delivered.
    pub out_key: Option<Vec<u8>>,
    /// The output lane until delivered.
    pub out: Option<SealedLane>,
    /// Which of the submission's two files that is.
    pub out_lane: Lane,
    /// Digest of the output.
    pub out_digest: Option<Digest>,
    /// The store's name.
    pub store: Option<String>,
    /// The object key.
    pub key: Option<String>,
    /// The object's metadata.
    pub metadata: Vec<(String, String)>,
    /// Delivery attempts so far.
    pub attempts: u32,
    /// Not to be tried before.
    pub next_attempt: Option<Timestamp>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Base of its receipt's names.
    pub receipt_base: Option<String>,
    /// The submission whose object holds this content already.
    pub known_as: Option<SubmissionId>,
    /// A newer accepted submission of the same path has replaced it in the listing.
    pub replaced: bool,
    /// Bytes of the rows that were left out of it, while they are kept.
    pub left_out: Option<u64>,
    /// Of a held one: the accepted file that its client removed to make room for it.
    pub instead_of: Option<SubmissionId>,
    /// The partner removed it from the listing (a delivered object is not touched).
    pub hidden: bool,
    /// An unfinished file whose partial name the client has closed itself.
    pub closed: bool,
    /// What the person said who decided about it while it was held.
    pub decision: Option<String>,
    /// Of an unfinished file: the size its client has declared.
    pub declared: Option<u64>,
    /// Of one that is being sent: the size that was set meanwhile, which more bytes take back.
    pub set: Option<u64>,
    /// The smallest that was set by its path, below what was there.
    pub cut: Option<u64>,
    /// It was opened over an accepted or held file of so many bytes, which was not truncated.
    pub over: Option<u64>,
}

// === impl Row ===

impl Row {
    /// When its last byte came; of an unfinished one, when it was cut off or closed.
    #[must_use]
    pub fn came_at(&self) -> Timestamp {
        self.received_at.unwrap_or(self.moment)
    }
}

/// What `list` may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One partner's.
    pub partner: Option<PartnerId>,
    /// One feed's.
    pub feed: Option<FeedId>,
    /// In this state.
    pub state: Option<State>,
    /// Of which rows left out are kept.
    pub left_out: bool,
    /// Opened at or after.
    pub since: Option<Timestamp>,
    /// Listed behind this one: the next page.
    pub after: Option<SubmissionId>,
    /// Newest first, at most (0: 100).
    pub limit: usize,
}

/// Which document of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `.txt`
    Text,
    /// `.txt.sig`
    TextSig,
    /// `.json`
    Json,
    /// `.json.sig`
    JsonSig,
    /// `.errors.csv`
    Errors,
    /// `.errors.csv.sig`
    ErrorsSig,
}

/// A receipt in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptEntry {
    /// The submission.
    pub id: SubmissionId,
    /// Base of the names.
    pub base: String,
    /// Verdict: rejected?
    pub rejected: bool,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Bytes of text, text sig, json, json sig, errors, errors sig; 0: there is none.
    pub bytes: [u64; 6],
    /// Of a file of the test area.
    pub is_test: bool,
}

// === impl State ===

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Receiving,
        Self::Received,
        Self::Interrupted,
        Self::Held,
        Self::Accepted,
        Self::Delivering,
        Self::Delivered,
        Self::Failing,
        Self::Rejected,
        Self::Expired,
        Self::Removed,
    ];

    /// The word for it, as in `receiving`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Received => "received",
            Self::Interrupted => "interrupted",
            Self::Held => "held",
            Self::Accepted => "accepted",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Failing => "failing",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Removed => "removed",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// The table of legal steps; `from` is `None` for a submission without a row.
///
/// A small file has its first row when it is settled or cut off, hence the many beginnings.
#[must_use]
pub fn may_follow(from: Option<State>, to: State) -> bool {
    let allowed: &[Option<State>] = match to {
        State::Receiving => &[None, Some(State::Interrupted)],
        State::Received | State::Interrupted => &[None, Some(State::Receiving)],
        State::Held => &[None, Some(State::Receiving), Some(State::Received)],
        State::Accepted | State::Rejected => &[
            None,
            Some(State::Receiving),
            Some(State::Received),
            Some(State::Held),
        ],
        State::Delivering => &[Some(State::Accepted), Some(State::Failing)],
        State::Delivered | State::Failing => &[Some(State::Accepted), Some(State::Delivering)],
        State::Expired => &[Some(State::Interrupted)],
        State::Removed => &[Some(State::Receiving), Some(State::Interrupted)],
    };
    allowed.contains(&from)
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::find(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

// === impl Ledger ===

impl Ledger {
    /// `receiving`: the row, written when the raw lane spills (small files get theirs when settled).
    /// `sizes` is asked at that moment: what the client says of its size later finds the row.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn begin(
        &self,
        beginning: Beginning,
        sizes: impl FnOnce() -> Sizes + Send + 'static,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| {
            if let Some(known) = Known::find(change.connection(), beginning.id)? {
                return Err(illegal(
                    beginning.id,
                    Some(known.state),
                    "it cannot begin again",
                ));
            }
            let row = Known::place(change, &beginning, State::Receiving, beginning.opened_at)?;
            row.keep_raw_key(change, &beginning.raw_key)?;
            let sizes = sizes();
            row.keep_declared(change, sizes.promised)?;
            row.keep_set(change, sizes.set, sizes.cut)?;
            Known::audit(change, &beginning, "begin", "")
        })
        .await
    }

    /// `receiving -> interrupted` (makes the row when there is none yet).
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn interrupt(
        &self,
        beginning: Beginning,
        partial: Partial,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::place(change, &beginning, State::Interrupted, partial.at)?;
            row.keep_raw_key(change, &beginning.raw_key)?;
            let lane = SealedLane {
                bytes: partial.bytes,
                tag_digest: [0; 32],
                inline: partial.raw_inline,
            };
            row.keep_raw_lane(change, &lane)?;
            row.keep_mtime(change, partial.mtime)?;
            row.keep_closed(change, partial.closed)?;
            row.keep_declared(change, partial.declared)?;
            let detail = format!(", cut off after {} bytes", partial.bytes);
            Known::audit(change, &beginning, "interrupt", &detail)
        })
        .await
    }

    /// `interrupted -> receiving`: resumed, perhaps under a new path, origin and policy version.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn resume(
        &self,
        beginning: Beginning,
        resuming: Resuming,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| {
            if Known::find(change.connection(), beginning.id)?.is_none() {
                return Err(illegal(beginning.id, None, "there is nothing to resume"));
            }
            let moment = resuming.moment.unwrap_or(change.at());
            let row = Known::place(change, &beginning, State::Receiving, moment)?;
            row.keep_raw_key(change, &beginning.raw_key)?;
            row.keep_closed(change, resuming.closed)?;
            row.keep_declared(change, resuming.declared)?;
            if resuming.in_a_file {
                change.destroy_bytes(row.raw_inline)?;
                let sql = "UPDATE submissions SET raw_inline = NULL WHERE seq = ?1";
                change.execute(sql, [row.seq])?;
            }
            Known::audit(change, &beginning, "resume", "")
        })
        .await
    }

    /// A file that is being sent gets its size set, where there is a row of it already.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn declare(
        &self,
        id: SubmissionId,
        bytes: u64,
        by: SetBy,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| match Known::find(change.connection(), id)? {
            Some(row) if row.state == State::Receiving => {
                let sql = match by {
                    SetBy::Handle => {
                        "UPDATE submissions SET declared_bytes = NULL, set_bytes = ?2,
                             cut_bytes = CASE WHEN cut_bytes < ?2 THEN cut_bytes END
                         WHERE seq = ?1"
                    }
                    SetBy::Path => "UPDATE submissions SET set_bytes = ?2 WHERE seq = ?1",
                    SetBy::PathBelow => {
                        "UPDATE submissions SET cut_bytes = min(coalesce(cut_bytes, ?2), ?2)
                         WHERE seq = ?1"
                    }
                };
                change.execute(sql, (row.seq, signed(bytes)?))?;
                Ok(())
            }
            Some(_) | None => Ok(()),
        })
        .await
    }

    /// `receiving -> received`: whole, durable, still being checked (row made when there is none).
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn receive(&self, beginning: Beginning, whole: Whole) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::place(change, &beginning, State::Received, whole.received_at)?;
            row.keep_raw_key(change, &beginning.raw_key)?;
            row.keep_whole(change, &whole)?;
            row.keep_raw_lane(change, &whole.raw)?;
            Known::audit(change, &beginning, "receive", &described(&whole))
        })
        .await
    }

    /// `receiving | received -> accepted | held | rejected` (row made when there is none), and
    /// `held -> accepted | rejected` with a decision. An acceptance with `known_as` goes straight
    /// to `delivered`.
    ///
    /// # Errors
    /// [`LedgerFault`]; [`LedgerFault::IllegalStep`] also when `replaces` names no accepted
    /// submission of the same partner.
    pub async fn settle(
        &self,
        beginning: Beginning,
        settlement: Settlement,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| settle(change, &beginning, &settlement))
            .await
    }

    /// `accepted | failing -> delivering`, counting the attempt. A row found in `delivering` after
    /// a restart is there already: its attempt goes on with [`Ledger::delivered`] or
    /// [`Ledger::failing`].
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn deliver(&self, id: SubmissionId) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::step(change, id, State::Delivering)?;
            change.execute(
                "UPDATE submissions SET attempts = attempts + 1, next_attempt = NULL WHERE seq = ?1",
                [row.seq],
            )?;
            Ok(())
        })
        .await
    }

    /// `accepted | delivering -> delivered`, counting the attempt of an accepted one: `K_out` and the sealed output are destroyed.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn delivered(
        &self,
        id: SubmissionId,
        address: String,
        at: Timestamp,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::step(change, id, State::Delivered)?;
            row.destroy_out(change)?;
            change.execute(
                "UPDATE submissions SET delivered_at = ?2, stored_as = ?3, last_error = NULL,
                     attempts = attempts + ?4
                 WHERE seq = ?1",
                (row.seq, at.as_micros(), &address, row.uncounted_attempts()),
            )?;
            row.audit_act(
                change,
                id,
                SYSTEM,
                "deliver",
                &format!(", to {}", bare(&address)),
            )
        })
        .await
    }

    /// `accepted | delivering -> failing`, counting the attempt of an accepted one, to be tried again at `next`. Audited the first time only.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn failing(
        &self,
        id: SubmissionId,
        why: String,
        next: Timestamp,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::step(change, id, State::Failing)?;
            change.execute(
                "UPDATE submissions SET next_attempt = ?2, last_error = ?3,
                     attempts = attempts + ?4
                 WHERE seq = ?1",
                (row.seq, next.as_micros(), &why, row.uncounted_attempts()),
            )?;
            if row.has_failed {
                return Ok(());
            }
            row.audit_act(change, id, SYSTEM, "fail", &format!(": {}", bare(&why)))
        })
        .await
    }

    /// `interrupted -> expired`: `K_raw` and the inline bytes are destroyed.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn expire(&self, id: SubmissionId) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::step(change, id, State::Expired)?;
            row.end(change)?;
            row.audit_act(change, id, SYSTEM, "expire", "")
        })
        .await
    }

    /// `receiving | interrupted -> removed`: the same, by the partner's hand.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn remove(&self, id: SubmissionId) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::step(change, id, State::Removed)?;
            row.end(change)?;
            row.audit_act(change, id, &row.partner, "remove", "")
        })
        .await
    }

    /// Takes a settled row out of its partner's listing; the object stays.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn hide(&self, id: SubmissionId) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::find(change.connection(), id)?
                .ok_or_else(|| illegal(id, None, "it cannot be hidden"))?;
            match row.state {
                State::Held
                | State::Accepted
                | State::Delivering
                | State::Delivered
                | State::Failing
                | State::Rejected => {}
                State::Receiving
                | State::Received
                | State::Interrupted
                | State::Expired
                | State::Removed => {
                    return Err(illegal(
                        id,
                        Some(row.state),
                        "only a settled one can be hidden",
                    ));
                }
            }
            let sql = "UPDATE submissions SET hidden = 1 WHERE seq = ?1 AND hidden = 0";
            if change.execute(sql, [row.seq])? == 0 {
                return Ok(());
            }
            row.audit_act(change, id, &row.partner, "hide", "")
        })
        .await
    }

    /// Puts a row back into its partner's listing: what was to replace it was refused.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn show(&self, id: SubmissionId) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::find(change.connection(), id)?
                .ok_or_else(|| illegal(id, None, "it cannot be shown"))?;
            let sql = "UPDATE submissions SET hidden = 0 WHERE seq = ?1 AND hidden = 1";
            if change.execute(sql, [row.seq])? == 0 {
                return Ok(());
            }
            row.audit_act(
                change,
                id,
                &row.partner,
                "show",
                "its replacement was refused",
            )
        })
        .await
    }

    /// Remembers a client-set mtime; of one that the ledger does not know yet, nothing.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn set_mtime(&self, id: SubmissionId, mtime: i64) -> Result<(), LedgerFault> {
        self.change(move |change| match Known::find(change.connection(), id)? {
            Some(row) => row.keep_mtime(change, Some(mtime)),
            None => Ok(()),
        })
        .await
    }

    /// Remembers a client-set mtime, and a new size or name of an interrupted submission. With one of
    /// these, it has not been left alone.
    ///
    /// # Errors
    /// [`LedgerFault`]; [`LedgerFault::IllegalStep`] for a name of one that is not interrupted.
    pub async fn touch(
        &self,
        id: SubmissionId,
        mtime: Option<i64>,
        declared: Option<u64>,
        named: Option<Named>,
    ) -> Result<(), LedgerFault> {
        self.change(move |change| {
            let row = Known::find(change.connection(), id)?
                .ok_or_else(|| illegal(id, None, "it cannot be touched"))?;
            if named.is_some() && row.state != State::Interrupted {
                return Err(illegal(
                    id,
                    Some(row.state),
                    "only an interrupted one can get another path",
                ));
            }
            row.keep_mtime(change, mtime)?;
            if let Some(bytes) = declared {
                row.set_size(change, bytes)?;
            }
            if let Some(Named { path, name, feed }) = &named {
                change.execute(
                    "UPDATE submissions SET path = ?2, name = ?3, feed = ?4 WHERE seq = ?1",
                    (row.seq, path, name, feed.as_str()),
                )?;
            }
            if named.is_some() || declared.is_some() {
                change.execute(
                    "UPDATE submissions SET moment = ?2 WHERE seq = ?1 AND state = 'interrupted'",
                    (row.seq, change.at().as_micros()),
                )?;
            }
            Ok(())
        })
        .await
    }
}

/// The verdict, and everything that becomes true with it.
fn settle(
    change: &mut Change<'_>,
    beginning: &Beginning,
    settlement: &Settlement,
) -> Result<(), Trouble> {
    let verdict = match settlement.outcome {
        Outcome::Accepted(_) => State::Accepted,
        Outcome::Held => State::Held,
        Outcome::Rejected => State::Rejected,
    };
    let is_released = settlement.decision.is_some() && verdict == State::Accepted;
    let mut moment = settlement.decided_at;
    if is_released && let Some(newer) = came_behind(change, beginning, settlement)? {
        // Its path shows what came last, not what was decided last.
        moment = newer.plus_micros(-1).min(moment);
    }
    let row = Known::place(change, beginning, verdict, moment)?;
    row.keep_whole(change, &settlement.whole)?;
    if verdict == State::Held {
        row.keep_raw_key(change, &beginning.raw_key)?;
        row.keep_raw_lane(change, &settlement.whole.raw)?;
    } else {
        row.destroy_raw(change)?;
    }
    let receipt = &settlement.receipt;
    let decision = settlement.decision.as_ref();
    change.execute(
        "UPDATE submissions SET decided_at = :decided_at, data_rows = :rows,
             errors_total = :errors_total, rows_left_out = :rows_left_out, codes = :codes,
             receipt_base = :receipt_base,
             decision = :decision, instead_of = :instead_of
         WHERE seq = :seq",
        named_params! {
            ":seq": row.seq,
            ":decided_at": settlement.decided_at.as_micros(),
            ":rows": signed(settlement.rows)?,
            ":errors_total": signed(settlement.errors_total)?,
            ":rows_left_out": signed(settlement.rows_left_out)?,
            ":codes": json(&settlement.codes)?,
            ":receipt_base": receipt.base,
            ":decision": decision.map(|decision| &decision.reason),
            ":instead_of": settlement.instead_of.map(|id| id.to_string()),
        },
    )?;
    drifts::note(change, beginning, settlement.decided_at, &settlement.drift)?;
    // The receipt of a held file says so until the decision.
    change.execute(
        "INSERT OR REPLACE INTO receipts (submission, text, json, text_sig, json_sig, errors,
             errors_sig)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            row.seq,
            &receipt.text,
            &receipt.json,
            &receipt.text_sig,
            &receipt.json_sig,
            &receipt.errors,
            &receipt.errors_sig,
        ),
    )?;
    let mut detail = described(&settlement.whole);
    let mut add = |text: String| detail.push_str(&text);
    let action = match &settlement.outcome {
        Outcome::Accepted(acceptance) => {
            row.keep_acceptance(change, acceptance, settlement.decided_at)?;
            if let Some(left_out) = &acceptance.rejects {
                rejects::keep(change, row.seq, left_out, settlement.decided_at)?;
                add(", without some".to_owned());
            }
            add(format!(", {} rows", settlement.rows));
            if let Some(known) = acceptance.known_as {
                add(format!(", the same content as {}", known.short()));
            }
            if let Some(older) = acceptance.replaces {
                replace(change, older, &beginning.partner)?;
                add(format!(", replaces {}", older.short()));
            }
            "accept"
        }
        Outcome::Held => "hold",
        Outcome::Rejected => "reject",
    };
    if action != "accept" && !settlement.codes.is_empty() {
        add(format!(": {}", bare(&settlement.codes.join(" "))));
    }
    let Some(decision) = decision else {
        return Known::audit(change, beginning, action, &detail);
    };
    add(format!(", because: {}", bare(&decision.reason)));
    row.audit_act(change, beginning.id, &decision.actor, action, &detail)
}

/// When the first came of what has come to the path of a held file since, and is not decided.
fn came_behind(
    change: &Change<'_>,
    beginning: &Beginning,
    settlement: &Settlement,
) -> Result<Option<Timestamp>, Trouble> {
    let sql = "SELECT min(moment) FROM submissions
         WHERE partner = ?1 AND path = ?2 AND id != ?3 AND moment > ?4
             AND state IN ('receiving', 'interrupted', 'received', 'held')";
    let mut statement = change.connection().prepare_cached(sql)?;
    let found: Option<i64> = statement.query_row(
        (
            beginning.partner.as_str(),
            &beginning.path,
            beginning.id.to_string(),
            settlement.whole.received_at.as_micros(),
        ),
        |row| row.get(0),
    )?;
    Ok(found.map(Timestamp::from_micros))
}

/// Takes an earlier accepted submission of the same partner out of the listing.
fn replace(
    change: &mut Change<'_>,
    older: SubmissionId,
    partner: &PartnerId,
) -> Result<(), Trouble> {
    let wanted = "only an accepted one of the same partner can be replaced";
    let row = Known::find(change.connection(), older)?;
    let state = row.as_ref().map(|row| row.state);
    let fits = state.is_some_and(|state| match state {
        State::Accepted | State::Delivering | State::Delivered | State::Failing => true,
        State::Receiving
        | State::Received
        | State::Interrupted
        | State::Held
        | State::Rejected
        | State::Expired
        | State::Removed => false,
    });
    match row {
        Some(row) if fits && row.partner == partner.as_str() => {
            let sql = "UPDATE submissions SET replaced = 1 WHERE seq = ?1";
            change.execute(sql, [row.seq])?;
            Ok(())
        }
        Some(_) | None => Err(illegal(older, state, wanted)),
    }
}

/// What a verb has to know of the row it works on, as it was before.
struct Known {
    seq: i64,
    partner: String,
    feed: String,
    name: String,
    state: State,
    raw_slot: Option<i64>,
    raw_inline: Option<i64>,
    out_slot: Option<i64>,
    out_inline: Option<i64>,
    has_failed: bool,
}

// === impl Known ===

impl Known {
    fn find(connection: &Connection, id: SubmissionId) -> Result<Option<Self>, rusqlite::Error> {
        let sql = "SELECT seq, partner, feed, name, state, raw_slot, raw_inline, out_slot,
                       out_inline, last_error IS NOT NULL
                   FROM submissions WHERE id = ?1";
        connection
            .prepare_cached(sql)?
            .query_row([id.to_string()], |row| {
                Ok(Self {
                    seq: row.get(0)?,
                    partner: row.get(1)?,
                    feed: row.get(2)?,
                    name: row.get(3)?,
                    state: row.get(4)?,
                    raw_slot: row.get(5)?,
                    raw_inline: row.get(6)?,
                    out_slot: row.get(7)?,
                    out_inline: row.get(8)?,
                    has_failed: row.get(9)?,
                })
            })
            .optional()
    }

    /// An attempt is counted when it begins; one whose beginning was not recorded, with its outcome.
    fn uncounted_attempts(&self) -> u32 {
        u32::from(self.state == State::Accepted)
    }

    /// Takes the step to `to` on an existing row; gives it as it was.
    fn step(change: &Change<'_>, id: SubmissionId, to: State) -> Result<Self, Trouble> {
        let row = Self::find(change.connection(), id)?;
        let from = row.as_ref().map(|row| row.state);
        match row {
            Some(row) if may_follow(from, to) => {
                let sql = "UPDATE submissions SET state = ?2 WHERE seq = ?1";
                change.execute(sql, (row.seq, to))?;
                Ok(row)
            }
            Some(_) | None => Err(illegal(id, from, &format!("it cannot become {to}"))),
        }
    }

    /// Takes the step to `to` with what the beginning says, making the row when there is none.
    fn place(
        change: &Change<'_>,
        beginning: &Beginning,
        to: State,
        moment: Timestamp,
    ) -> Result<Self, Trouble> {
        let id = beginning.id;
        let known = Self::find(change.connection(), id)?;
        let from = known.as_ref().map(|row| row.state);
        if !may_follow(from, to) {
            return Err(illegal(id, from, &format!("it cannot become {to}")));
        }
        if known
            .as_ref()
            .is_some_and(|row| row.partner != beginning.partner.as_str())
        {
            return Err(illegal(id, from, "it belongs to another partner"));
        }
        let origin = &beginning.origin;
        let sql =
            "INSERT INTO submissions (id, backwards, partner, feed, path, name, channel, address,
                 client, fingerprint, policy_version, policy_hash, state, moment, opened_at,
                 over_bytes)
             VALUES (:id, :backwards, :partner, :feed, :path, :name, :channel, :address,
                 :client, :fingerprint, :policy_version, :policy_hash, :state, :moment, :opened_at,
                 :over_bytes)
             ON CONFLICT (id) DO UPDATE SET feed = excluded.feed, path = excluded.path,
                 name = excluded.name, channel = excluded.channel, address = excluded.address,
                 client = excluded.client, fingerprint = excluded.fingerprint,
                 policy_version = excluded.policy_version, policy_hash = excluded.policy_hash,
                 state = excluded.state, moment = excluded.moment,
                 over_bytes = excluded.over_bytes
             RETURNING seq";
        let seq = change.connection().prepare_cached(sql)?.query_row(
            named_params! {
                ":id": id.to_string(),
                ":backwards": backwards(&id.to_string()),
                ":partner": beginning.partner.as_str(),
                ":feed": beginning.feed.as_str(),
                ":path": beginning.path,
                ":name": beginning.name,
                ":channel": origin.channel,
                ":address": origin.address,
                ":client": origin.client,
                ":fingerprint": origin.key,
                ":policy_version": beginning.policy_version,
                ":policy_hash": beginning.policy_hash,
                ":state": to,
                ":moment": moment.as_micros(),
                ":opened_at": beginning.opened_at.as_micros(),
                ":over_bytes": beginning.over.map(signed).transpose()?,
            },
            |row| row.get(0),
        )?;
        Ok(known.unwrap_or_else(|| Self {
            seq,
            partner: beginning.partner.to_string(),
            feed: beginning.feed.to_string(),
            name: beginning.name.clone(),
            state: to,
            raw_slot: None,
            raw_inline: None,
            out_slot: None,
            out_inline: None,
            has_failed: false,
        }))
    }

    fn keep_raw_key(&self, change: &mut Change<'_>, wrapped: &[u8]) -> Result<(), Trouble> {
        // A resumed submission keeps its K_raw, perhaps wrapped anew.
        change.destroy_key(self.raw_slot)?;
        let slot = slots::keep_key(change.connection(), wrapped)?;
        let sql = "UPDATE submissions SET raw_slot = ?2 WHERE seq = ?1";
        change.execute(sql, (self.seq, slot))?;
        Ok(())
    }

    fn keep_raw_lane(&self, change: &mut Change<'_>, lane: &SealedLane) -> Result<(), Trouble> {
        change.destroy_bytes(self.raw_inline)?;
        let inline = keep_inline(change, lane)?;
        let bytes = signed(lane.bytes)?;
        change.execute(
            "UPDATE submissions SET bytes = ?2, raw_bytes = ?2, raw_digest = ?3, raw_inline = ?4
             WHERE seq = ?1",
            (self.seq, bytes, lane.tag_digest, inline),
        )?;
        Ok(())
    }

    fn keep_whole(&self, change: &Change<'_>, whole: &Whole) -> Result<(), Trouble> {
        self.keep_mtime(change, whole.mtime)?;
        change.execute(
            "UPDATE submissions SET bytes = ?2, content_digest = ?3, received_at = ?4, md5 = ?5,
                 sha1 = ?6
             WHERE seq = ?1",
            (
                self.seq,
                signed(whole.raw.bytes)?,
                Stored(whole.digest),
                whole.received_at.as_micros(),
                &whole.old_digests.md5,
                &whole.old_digests.sha1,
            ),
        )?;
        Ok(())
    }

    fn keep_mtime(&self, change: &Change<'_>, mtime: Option<i64>) -> Result<(), Trouble> {
        change.execute(
            "UPDATE submissions SET mtime = coalesce(?2, mtime) WHERE seq = ?1",
            (self.seq, mtime),
        )?;
        Ok(())
    }

    fn keep_declared(&self, change: &Change<'_>, declared: Option<u64>) -> Result<(), Trouble> {
        change.execute(
            "UPDATE submissions SET declared_bytes = ?2, set_bytes = NULL, cut_bytes = NULL
             WHERE seq = ?1",
            (self.seq, declared.map(signed).transpose()?),
        )?;
        Ok(())
    }

    fn keep_set(
        &self,
        change: &Change<'_>,
        set: Option<u64>,
        cut: Option<u64>,
    ) -> Result<(), Trouble> {
        change.execute(
            "UPDATE submissions SET set_bytes = ?2, cut_bytes = ?3 WHERE seq = ?1",
            (
                self.seq,
                set.map(signed).transpose()?,
                cut.map(signed).transpose()?,
            ),
        )?;
        Ok(())
    }

    /// A size set by path: cuts what is there, or says how long it will be.
    fn set_size(&self, change: &Change<'_>, bytes: u64) -> Result<(), Trouble> {
        change.execute(
            "UPDATE submissions SET
                 declared_bytes = CASE WHEN ?2 > bytes THEN ?2 END,
                 over_bytes = CASE WHEN ?2 > bytes THEN max(coalesce(over_bytes, 0), ?2)
                     ELSE min(over_bytes, ?2) END,
                 bytes = min(bytes, ?2),
                 raw_bytes = min(raw_bytes, ?2)
             WHERE seq = ?1",
            (self.seq, signed(bytes)?),
        )?;
        Ok(())
    }

    fn keep_closed(&self, change: &Change<'_>, closed: bool) -> Result<(), Trouble> {
        change.execute(
            "UPDATE submissions SET closed = ?2 WHERE seq = ?1",
            (self.seq, closed),
        )?;
        Ok(())
    }

    fn keep_acceptance(
        &self,
        change: &Change<'_>,
        acceptance: &Acceptance,
        decided_at: Timestamp,
    ) -> Result<(), Trouble> {
        let connection = change.connection();
        let known = acceptance.known_as;
        let is_over = known.is_some() || acceptance.store.is_none();
        let slot = match &acceptance.out_key {
            Some(wrapped) => Some(slots::keep_key(connection, wrapped)?),
            None => None,
        };
        let (bytes, inline) = match &acceptance.out {
            Some(lane) => (Some(signed(lane.bytes)?), keep_inline(change, lane)?),
            None => (None, None),
        };
        execute_cached(
            connection,
            "UPDATE submissions SET state = :state, delivered_at = :delivered_at,
                 out_slot = :slot, out_bytes = :bytes, out_digest = :digest, out_inline = :inline,
                 object_digest = :object, out_lane = :lane, store = :store, object_key = :key, metadata = :metadata,
                 known_as = :known_as
             WHERE seq = :seq",
            named_params! {
                ":seq": self.seq,
                ":state": if is_over { State::Delivered } else { State::Accepted },
                ":delivered_at": is_over.then(|| decided_at.as_micros()),
                ":slot": slot,
                ":bytes": bytes,
                ":digest": acceptance.out.as_ref().map(|lane| lane.tag_digest),
                ":inline": inline,
                ":object": acceptance.out_digest.map(Stored),
                ":lane": match acceptance.out_lane {
                    Lane::Out | Lane::Rejects => "out",
                    Lane::Raw => "raw",
                },
                ":store": acceptance.store,
                ":key": acceptance.key,
                ":metadata": json(&acceptance.metadata)?,
                ":known_as": known.map(|id| id.to_string()),
            },
        )?;
        Ok(())
    }

    fn destroy_raw(&self, change: &mut Change<'_>) -> Result<(), Trouble> {
        change.destroy_key(self.raw_slot)?;
        change.destroy_bytes(self.raw_inline)?;
        change.execute(
            "UPDATE submissions SET raw_slot = NULL, raw_bytes = NULL, raw_digest = NULL,
                 raw_inline = NULL
             WHERE seq = ?1",
            [self.seq],
        )?;
        Ok(())
    }

    fn destroy_out(&self, change: &mut Change<'_>) -> Result<(), Trouble> {
        change.destroy_key(self.out_slot)?;
        change.destroy_bytes(self.out_inline)?;
        change.execute(
            "UPDATE submissions SET out_slot = NULL, out_bytes = NULL, out_digest = NULL,
                 out_inline = NULL
             WHERE seq = ?1",
            [self.seq],
        )?;
        Ok(())
    }

    /// Ended without a verdict: nothing of the file stays.
    fn end(&self, change: &mut Change<'_>) -> Result<(), Trouble> {
        self.destroy_raw(change)?;
        let sql = "UPDATE submissions SET moment = ?2 WHERE seq = ?1";
        change
            .connection()
            .execute(sql, (self.seq, change.at().as_micros()))?;
        Ok(())
    }

    /// The record of a step that the partner's doing caused, with what was just said of the file.
    fn audit(
        change: &mut Change<'_>,
        beginning: &Beginning,
        action: &str,
        more: &str,
    ) -> Result<(), Trouble> {
        let detail = format!(
            "{} policy {}, key {}{more}",
            file(
                beginning.partner.as_str(),
                beginning.feed.as_str(),
                &beginning.name
            ),
            beginning.policy_version,
            bare(&beginning.origin.key),
        );
        change.audit(&Act {
            actor: beginning.partner.to_string(),
            action: format!("submission.{action}"),
            subject: beginning.id.short(),
            detail,
        })?;
        Ok(())
    }

    fn audit_act(
        &self,
        change: &mut Change<'_>,
        id: SubmissionId,
        actor: &str,
        action: &str,
        more: &str,
    ) -> Result<(), Trouble> {
        change.audit(&Act {
            actor: actor.to_owned(),
            action: format!("submission.{action}"),
            subject: id.short(),
            detail: format!("{}{more}", file(&self.partner, &self.feed, &self.name)),
        })?;
        Ok(())
    }
}

fn keep_inline(change: &Change<'_>, lane: &SealedLane) -> Result<Option<i64>, rusqlite::Error> {
    match &lane.inline {
        Some(sealed) => slots::keep_bytes(change.connection(), sealed).map(Some),
        None => Ok(None),
    }
}

/// The printed id, last character first: what ends in a text then begins with it.
pub(super) fn backwards(text: &str) -> String {
    text.chars().rev().collect()
}

fn illegal(id: SubmissionId, found: Option<State>, wanted: &str) -> Trouble {
    Trouble::Refused(LedgerFault::IllegalStep {
        id: id.to_string(),
        found: found.map_or("not in the ledger", State::as_str).to_owned(),
        wanted: wanted.to_owned(),
    })
}

/// `acme/orders "orders.csv"`.
fn file(partner: &str, feed: &str, name: &str) -> String {
    format!("{partner}/{feed} \"{}\"", bare(name).replace('"', "\\\""))
}

fn described(whole: &Whole) -> String {
    format!(", {} bytes, {}", whole.raw.bytes, whole.digest)
}

/// Text of a stranger for the audit trail.
pub(super) fn bare(text: &str) -> String {
    quoted(text, DETAIL_CHARS_MAX)
}

fn json(value: &impl serde::Serialize) -> Result<String, rusqlite::Error> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// The actor where no person acted.
pub(super) const SYSTEM: &str = "system";
/// Longest quoted text in a record: one file name.
const DETAIL_CHARS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{
        Desk, RESUMED, acceptance, accepted, acme, at, beginning, content, digest, held, id,
        partial, rejected, whole,
    };

    const ALL: [State; 11] = State::ALL;

    #[test]
    fn the_table_of_steps_allows_these_and_nothing_else() {
        use State::{
            Accepted, Delivered, Delivering, Expired, Failing, Held, Interrupted, Received,
            Receiving, Rejected, Removed,
        };
        let legal = [
            (None, Receiving),
            (None, Received),
            (None, Interrupted),
            (None, Accepted),
            (None, Held),
            (None, Rejected),
            (Some(Receiving), Received),
            (Some(Receiving), Interrupted),
            (Some(Receiving), Accepted),
            (Some(Receiving), Held),
            (Some(Receiving), Rejected),
            (Some(Receiving), Removed),
            (Some(Received), Accepted),
            (Some(Received), Held),
            (Some(Received), Rejected),
            (Some(Held), Accepted),
            (Some(Held), Rejected),
            (Some(Interrupted), Receiving),
            (Some(Interrupted), Expired),
            (Some(Interrupted), Removed),
            (Some(Accepted), Delivered),
            (Some(Accepted), Delivering),
            (Some(Accepted), Failing),
            (Some(Delivering), Delivered),
            (Some(Delivering), Failing),
            (Some(Failing), Delivering),
        ];
        let mut pairs = 0;
        for from in ALL.map(Some).into_iter().chain([None]) {
            for to in ALL {
                assert_eq!(
                    may_follow(from, to),
                    legal.contains(&(from, to)),
                    "{from:?} -> {to:?}"
                );
                pairs += 1;
            }
        }
        assert_eq!(pairs, 132);
    }

    #[test]
    fn every_state_is_found_by_its_word() {
        for state in ALL {
            assert_eq!(State::find(state.as_str()), Some(state));
        }
        assert_eq!(State::find("Accepted"), None);
    }

    /// Brings submission `n` into a state by legal steps.
    async fn bring(ledger: &Ledger, n: u32, to: Option<State>) {
        let Some(to) = to else { return };
        match to {
            State::Receiving => ledger.begin(beginning(n), Default::default).await.unwrap(),
            State::Received => ledger.receive(beginning(n), whole(n)).await.unwrap(),
            State::Interrupted | State::Expired | State::Removed => {
                ledger.interrupt(beginning(n), partial(n)).await.unwrap();
            }
            State::Accepted | State::Delivering | State::Delivered | State::Failing => {
                ledger.settle(beginning(n), accepted(n)).await.unwrap();
            }
            State::Held => ledger.settle(beginning(n), held(n)).await.unwrap(),
            State::Rejected => ledger.settle(beginning(n), rejected(n)).await.unwrap(),
        }
        match to {
            State::Expired => ledger.expire(id(n)).await.unwrap(),
            State::Removed => ledger.remove(id(n)).await.unwrap(),
            State::Delivering | State::Delivered | State::Failing => {
                ledger.deliver(id(n)).await.unwrap();
            }
            State::Receiving
            | State::Received
            | State::Interrupted
            | State::Held
            | State::Accepted
            | State::Rejected => {}
        }
        match to {
            State::Delivered => {
                ledger
                    .delivered(id(n), "lake:x".to_owned(), at(9))
                    .await
                    .unwrap();
            }
            State::Failing => ledger
                .failing(id(n), "503".to_owned(), at(9))
                .await
                .unwrap(),
            State::Receiving
            | State::Received
            | State::Interrupted
            | State::Held
            | State::Accepted
            | State::Delivering
            | State::Rejected
            | State::Expired
            | State::Removed => {}
        }
        let row = ledger.submission(id(n)).await.unwrap().unwrap();
        assert_eq!(row.state, to);
    }

    #[tokio::test]
    async fn every_verb_refuses_every_row_it_does_not_fit_and_changes_nothing() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        let mut n = 0;
        for from in ALL.map(Some).into_iter().chain([None]) {
            for verb in 0..12 {
                n += 1;
                bring(ledger, n, from).await;
                let before = ledger.submission(id(n)).await.unwrap();
                let records = ledger.verify_chain().await.unwrap().records;
                let (to, done) = match verb {
                    0 => (
                        State::Receiving,
                        ledger.begin(beginning(n), Default::default).await,
                    ),
                    1 => (State::Receiving, ledger.resume(beginning(n), RESUMED).await),
                    2 => (
                        State::Interrupted,
                        ledger.interrupt(beginning(n), partial(n)).await,
                    ),
                    3 => (
                        State::Received,
                        ledger.receive(beginning(n), whole(n)).await,
                    ),
                    4 => (
                        State::Accepted,
                        ledger.settle(beginning(n), accepted(n)).await,
                    ),
                    5 => (
                        State::Rejected,
                        ledger.settle(beginning(n), rejected(n)).await,
                    ),
                    6 => (State::Delivering, ledger.deliver(id(n)).await),
                    7 => {
                        let done = ledger.delivered(id(n), "lake:x".to_owned(), at(9)).await;
                        (State::Delivered, done)
                    }
                    8 => {
                        let done = ledger.failing(id(n), "503".to_owned(), at(9)).await;
                        (State::Failing, done)
                    }
                    9 => (State::Held, ledger.settle(beginning(n), held(n)).await),
                    10 => (State::Expired, ledger.expire(id(n)).await),
                    _ => (State::Removed, ledger.remove(id(n)).await),
                };
                let fits_verb = match verb {
                    0 => from.is_none(),
                    1 => from.is_some(),
                    _ => true,
                };
                let after = ledger.submission(id(n)).await.unwrap();
                if may_follow(from, to) && fits_verb {
                    done.unwrap();
                    assert_eq!(after.unwrap().state, to);
                } else {
                    assert!(
                        matches!(done, Err(LedgerFault::IllegalStep { .. })),
                        "{from:?} -> {to}: {done:?}"
                    );
                    assert_eq!(after, before);
                    assert_eq!(ledger.verify_chain().await.unwrap().records, records);
                }
            }
        }
        assert_eq!(ledger.verify_chain().await.unwrap().broken, None);
    }

    #[tokio::test]
    async fn hiding_is_for_settled_rows_and_a_new_path_for_interrupted_ones() {
        let desk = Desk::new();
        for (n, state) in (1..).zip(ALL) {
            bring(&desk.ledger, n, Some(state)).await;
            let is_settled = matches!(
                state,
                State::Held
                    | State::Accepted
                    | State::Delivering
                    | State::Delivered
                    | State::Failing
                    | State::Rejected
            );
            assert_eq!(desk.ledger.hide(id(n)).await.is_ok(), is_settled, "{state}");
            let named = Named {
                path: "/inbox/b".to_owned(),
                name: "b".to_owned(),
                feed: FeedId::parse("other").unwrap(),
            };
            let moved = desk
                .ledger
                .touch(id(n), None, None, Some(named.clone()))
                .await;
            assert_eq!(moved.is_ok(), state == State::Interrupted, "{state}");
            desk.ledger
                .touch(id(n), Some(-5), Some(7), None)
                .await
                .unwrap();
            let row = desk.ledger.submission(id(n)).await.unwrap().unwrap();
            assert_eq!((row.hidden, row.mtime), (is_settled, Some(-5)));
            assert_eq!(row.declared, (row.bytes < 7).then_some(7), "{state}");
            let is_named = (row.path.as_str(), row.feed.as_str()) == ("/inbox/b", "other");
            assert_eq!(is_named, state == State::Interrupted);
        }
        assert!(desk.ledger.hide(id(99)).await.is_err());
        assert!(desk.ledger.touch(id(99), None, None, None).await.is_err());
    }

    fn row(n: u32, state: State) -> Row {
        let first = beginning(n);
        Row {
            declared: None,
            set: None,
            cut: None,
            moment: first.opened_at,
            id: first.id,
            partner: first.partner,
            feed: first.feed,
            path: first.path,
            name: first.name,
            origin: first.origin,
            policy_version: 3,
            policy_hash: [3; 32],
            state,
            opened_at: first.opened_at,
            received_at: None,
            decided_at: None,
            delivered_at: None,
            bytes: 0,
            digest: None,
            old_digests: OldDigests::default(),
            mtime: None,
            rows: 0,
            errors_total: 0,
            rows_left_out: 0,
            codes: Vec::new(),
            raw_key: Some(first.raw_key),
            raw: None,
            out_key: None,
            out: None,
            out_lane: Lane::Out,
            out_digest: None,
            store: None,
            key: None,
            metadata: Vec::new(),
            attempts: 0,
            next_attempt: None,
            last_error: None,
            receipt_base: None,
            known_as: None,
            replaced: false,
            left_out: None,
            instead_of: None,
            hidden: false,
            closed: false,
            decision: None,
            over: None,
        }
    }

    #[tokio::test]
    #[expect(clippy::too_many_lines, reason = "a row has many fields")]
    async fn every_field_of_a_row_comes_back_as_it_was_given() {
        let mut desk = Desk::new();
        let expect = |row: Row| {
            let ledger = desk.ledger.clone();
            async move { assert_eq!(ledger.submission(row.id).await.unwrap(), Some(row)) }
        };
        let mut is = row(1, State::Receiving);
        desk.ledger
            .begin(beginning(1), Default::default)
            .await
            .unwrap();
        expect(is.clone()).await;

        desk.ledger
            .interrupt(beginning(1), partial(1))
            .await
            .unwrap();
        is.state = State::Interrupted;
        is.moment = partial(1).at;
        is.bytes = 1001;
        is.mtime = Some(1_795_000_000);
        is.raw = Some(SealedLane {
            bytes: 1001,
            tag_digest: [0; 32],
            inline: Some(b"sealed raw of 1".to_vec()),
        });
        expect(is.clone()).await;

        let mut again = beginning(1);
        again.path = "/inbox/ä' OR 1=1 --.csv".to_owned();
        again.name = "ä\"\\.csv".to_owned();
        again.origin.channel = "scp".to_owned();
        again.origin.address = "[2001:db8::1]:22".to_owned();
        again.origin.client = "SSH-2.0-WinSCP".to_owned();
        again.origin.key = "SHA256:other".to_owned();
        again.policy_version = u32::MAX;
        again.policy_hash = [9; 32];
        desk.ledger.resume(again.clone(), RESUMED).await.unwrap();
        is.state = State::Receiving;
        is.moment = at(0);
        is.path.clone_from(&again.path);
        is.name.clone_from(&again.name);
        is.origin = again.origin.clone();
        is.policy_version = u32::MAX;
        is.policy_hash = [9; 32];
        expect(is.clone()).await;

        let mut all = whole(1);
        all.mtime = None;
        all.raw.inline = None;
        desk.ledger
            .receive(again.clone(), all.clone())
            .await
            .unwrap();
        is.state = State::Received;
        is.moment = at(3);
        is.received_at = Some(at(3));
        is.digest = Some(digest(1));
        is.bytes = 2001;
        is.raw = Some(all.raw);
        expect(is.clone()).await;

        let mut verdict = accepted(1);
        desk.ledger.settle(again, verdict.clone()).await.unwrap();
        is.state = State::Accepted;
        is.moment = at(4);
        is.decided_at = Some(at(4));
        is.mtime = Some(1_795_000_001);
        is.rows = 6;
        is.codes.clone_from(&verdict.codes);
        is.raw_key = None;
        is.raw = None;
        is.receipt_base = Some(verdict.receipt.base.clone());
        let acceptance = acceptance(&mut verdict).clone();
        is.out_key.clone_from(&acceptance.out_key);
        is.out.clone_from(&acceptance.out);
        is.out_digest = Some(content([8; 32]));
        is.store = Some("lake".to_owned());
        is.key = acceptance.key;
        is.metadata = acceptance.metadata;
        expect(is.clone()).await;

        desk.ledger.deliver(id(1)).await.unwrap();
        desk.ledger
            .failing(id(1), "503".to_owned(), at(60))
            .await
            .unwrap();
        is.state = State::Failing;
        is.attempts = 1;
        is.last_error = Some("503".to_owned());
        is.next_attempt = Some(at(60));
        expect(is.clone()).await;

        desk.ledger.deliver(id(1)).await.unwrap();
        is.state = State::Delivering;
        is.attempts = 2;
        is.next_attempt = None;
        expect(is.clone()).await;

        desk.ledger
            .delivered(id(1), "lake:x".to_owned(), at(61))
            .await
            .unwrap();
        is.state = State::Delivered;
        is.delivered_at = Some(at(61));
        is.last_error = None;
        is.out_key = None;
        is.out = None;
        expect(is.clone()).await;

        desk.restart().await;
        assert_eq!(desk.ledger.submission(id(1)).await.unwrap(), Some(is));
    }

    #[tokio::test]
    async fn a_rejected_file_leaves_its_verdict_and_nothing_of_its_bytes() {
        let desk = Desk::new();
        desk.ledger.receive(beginning(1), whole(1)).await.unwrap();
        desk.ledger.settle(beginning(1), rejected(1)).await.unwrap();
        let found = desk.ledger.submission(id(1)).await.unwrap().unwrap();
        assert_eq!(
            found,
            Row {
                moment: at(4),
                received_at: Some(at(3)),
                decided_at: Some(at(4)),
                bytes: 2001,
                digest: Some(digest(1)),
                mtime: Some(1_795_000_001),
                rows: 6,
                errors_total: 2,
                codes: vec!["missing-cell".to_owned(), "type-error".to_owned()],
                raw_key: None,
                receipt_base: Some(rejected(1).receipt.base),
                ..row(1, State::Rejected)
            }
        );
    }

    #[tokio::test]
    async fn a_held_file_keeps_key_and_bytes_until_the_decision_and_then_loses_them() {
        for (n, mut verdict) in [(1, accepted(1)), (2, rejected(2))] {
            let desk = Desk::new();
            desk.ledger.settle(beginning(n), held(n)).await.unwrap();
            let found = desk.ledger.submission(id(n)).await.unwrap().unwrap();
            assert_eq!(found.state, State::Held);
            assert_eq!(found.raw_key, Some(beginning(n).raw_key));
            assert_eq!(found.raw, Some(whole(n).raw));
            assert_eq!(
                desk.ledger.stale(State::Held, at(99)).await.unwrap(),
                [id(n)]
            );
            assert_eq!(
                desk.ledger.spooled().await.unwrap(),
                [(acme(), 2000 + u64::from(n))]
            );
            verdict.decision = Some(Decision {
                actor: "j.doe".to_owned(),
                reason: "ticket 5512".to_owned(),
            });
            verdict.receipt.text = b"decided\r\n".to_vec();
            desk.ledger.settle(beginning(n), verdict).await.unwrap();
            let found = desk.ledger.submission(id(n)).await.unwrap().unwrap();
            assert_eq!((found.raw_key, found.raw), (None, None));
            assert_eq!(found.decision.as_deref(), Some("ticket 5512"));
            let text = desk.ledger.receipt(&acme(), id(n), Document::Text).await;
            assert_eq!(text.unwrap(), Some(b"decided\r\n".to_vec()));
            let record = desk
                .ledger
                .audit_after(None, 1)
                .await
                .unwrap()
                .pop()
                .unwrap();
            assert_eq!(record.act.actor, "j.doe");
            assert!(
                record.act.detail.contains("because: ticket 5512"),
                "{record:?}"
            );
        }
    }

    #[tokio::test]
    async fn content_known_already_is_delivered_at_once() {
        let desk = Desk::new();
        desk.ledger.settle(beginning(1), accepted(1)).await.unwrap();
        let mut same = accepted(2);
        let changed = acceptance(&mut same);
        changed.out_key = None;
        changed.out = None;
        changed.known_as = Some(id(1));
        desk.ledger
            .settle(beginning(2), same.clone())
            .await
            .unwrap();
        let found = desk.ledger.submission(id(2)).await.unwrap().unwrap();
        assert_eq!(found.state, State::Delivered);
        assert_eq!(
            (found.delivered_at, found.known_as),
            (found.decided_at, Some(id(1)))
        );
        assert!(desk.ledger.deliver(id(2)).await.is_err());
        // Known as something that is not there: refused whole.
        acceptance(&mut same).known_as = Some(id(98));
        assert!(desk.ledger.settle(beginning(3), same).await.is_err());
        assert_eq!(desk.ledger.submission(id(3)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_replaced_is_marked_in_the_same_transaction() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        ledger.settle(beginning(1), accepted(1)).await.unwrap();
        ledger.settle(beginning(2), rejected(2)).await.unwrap();
        let mut newer = accepted(3);
        for wrong in [2, 77] {
            acceptance(&mut newer).replaces = Some(id(wrong));
            let refused = ledger.settle(beginning(3), newer.clone()).await;
            assert!(
                matches!(refused, Err(LedgerFault::IllegalStep { .. })),
                "{refused:?}"
            );
        }
        let mut foreign = beginning(3);
        foreign.partner = PartnerId::parse("globex").unwrap();
        acceptance(&mut newer).replaces = Some(id(1));
        assert!(ledger.settle(foreign, newer.clone()).await.is_err());
        assert!(!ledger.submission(id(1)).await.unwrap().unwrap().replaced);
        ledger.settle(beginning(3), newer).await.unwrap();
        assert!(ledger.submission(id(1)).await.unwrap().unwrap().replaced);
    }

    #[tokio::test]
    async fn a_row_does_not_change_hands() {
        let desk = Desk::new();
        desk.ledger
            .interrupt(beginning(1), partial(1))
            .await
            .unwrap();
        let mut foreign = beginning(1);
        foreign.partner = PartnerId::parse("globex").unwrap();
        let refused = desk.ledger.resume(foreign, RESUMED).await;
        assert!(
            matches!(refused, Err(LedgerFault::IllegalStep { .. })),
            "{refused:?}"
        );
        let row = desk.ledger.submission(id(1)).await.unwrap().unwrap();
        assert_eq!((row.partner, row.state), (acme(), State::Interrupted));
    }

    #[tokio::test]
    async fn a_destroyed_key_and_its_bytes_are_in_no_file() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        for n in 1..=5 {
            let mut partial = partial(n);
            partial.raw_inline = Some(b"RAW-CANARY".repeat(3000));
            let mut beginning = beginning(n);
            beginning.raw_key = b"KEY-CANARY".to_vec();
            ledger.interrupt(beginning.clone(), partial).await.unwrap();
            ledger.checkpoint().await.unwrap();
            assert!(desk.hits(b"RAW-CANARY") > 0 && desk.hits(b"KEY-CANARY") > 0);
            match n {
                1 => ledger.expire(id(n)).await.unwrap(),
                2 => ledger.remove(id(n)).await.unwrap(),
                3 | 4 => {
                    ledger.resume(beginning.clone(), RESUMED).await.unwrap();
                    let mut verdict = if n == 3 { rejected(n) } else { accepted(n) };
                    verdict.whole.raw.inline = Some(b"RAW-CANARY".repeat(3000));
                    ledger.settle(beginning, verdict).await.unwrap();
                }
                _ => {
                    let mut verdict = accepted(n);
                    let acceptance = acceptance(&mut verdict);
                    acceptance.out_key = Some(b"KEY-CANARY".to_vec());
                    acceptance.out.as_mut().unwrap().inline = Some(b"RAW-CANARY".repeat(3000));
                    ledger.resume(beginning.clone(), RESUMED).await.unwrap();
                    ledger.settle(beginning, verdict).await.unwrap();
                    ledger.deliver(id(n)).await.unwrap();
                    ledger.checkpoint().await.unwrap();
                    assert!(desk.hits(b"RAW-CANARY") > 0 && desk.hits(b"KEY-CANARY") > 0);
                    ledger
                        .delivered(id(n), "lake:x".to_owned(), at(9))
                        .await
                        .unwrap();
                }
            }
            ledger.checkpoint().await.unwrap();
            assert_eq!(
                (desk.hits(b"RAW-CANARY"), desk.hits(b"KEY-CANARY")),
                (0, 0),
                "{n}"
            );
        }
    }

    #[tokio::test]
    async fn destroyed_keys_leave_the_log_by_themselves() {
        let desk = Desk::new();
        let mut first = beginning(1);
        first.raw_key = b"KEY-CANARY".to_vec();
        desk.ledger.interrupt(first, partial(1)).await.unwrap();
        desk.ledger.expire(id(1)).await.unwrap();
        // Each look is one more read; many seconds' worth of them are allowed.
        let mut looks = 0;
        while desk.hits(b"KEY-CANARY") > 0 {
            looks += 1;
            assert!(looks < 100_000, "still there");
            desk.ledger.counts().await.unwrap();
        }
    }
}
