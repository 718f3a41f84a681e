//! The schema, one step per version; `PRAGMA user_version` says how many steps a file has seen.
//! A published step is never edited: a change is a new step.

use rusqlite::{Connection, TransactionBehavior};

use crate::ledger::{LedgerFault, explain};

/// Brings a file up to this build, each step in a transaction of its own.
pub(super) fn migrate(connection: &Connection, path: &str) -> Result<(), LedgerFault> {
    let found = version(connection, path)?;
    refuse_newer(found, path)?;
    let sql = |error: rusqlite::Error| explain(path, &error);
    for (step, known) in STEPS.iter().zip(1_u32..) {
        if known <= found {
            continue;
        }
        let transaction =
            rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
                .map_err(sql)?;
        transaction.execute_batch(step).map_err(sql)?;
        transaction
            .pragma_update(None, "user_version", known)
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
    }
    Ok(())
}

/// Says whether a file that may not be written can be read by this build.
pub(super) fn is_current(connection: &Connection, path: &str) -> Result<(), LedgerFault> {
    let found = version(connection, path)?;
    refuse_newer(found, path)?;
    if found < known() {
        return Err(LedgerFault::Database {
            path: path.to_owned(),
            detail: format!(
                "schema {found} is older than {} of this build; start the gateway once to bring it up",
                known()
            ),
        });
    }
    Ok(())
}

fn version(connection: &Connection, path: &str) -> Result<u32, LedgerFault> {
    let sql = |error: rusqlite::Error| explain(path, &error);
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sql)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sql)?;
    let owner: i64 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(sql)?;
    if tables > 0 && owner != APPLICATION_ID {
        return Err(LedgerFault::Damaged {
            path: path.to_owned(),
            detail: "a SQLite file, but not of sallyport; restore a backup, or move it away"
                .to_owned(),
        });
    }
    Ok(found)
}

fn refuse_newer(found: u32, path: &str) -> Result<(), LedgerFault> {
    if found > known() {
        return Err(LedgerFault::TooNew {
            path: path.to_owned(),
            found,
            known: known(),
        });
    }
    Ok(())
}

fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// `saly`, so that `file` and we can tell a ledger from another SQLite file. Also in step 1.
const APPLICATION_ID: i64 = 0x7361_6c79;

const STEPS: [&str; 11] = [
    "
PRAGMA application_id = 0x73616c79;

CREATE TABLE submissions (
    seq            INTEGER PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    backwards      TEXT NOT NULL,
    partner        TEXT NOT NULL,
    feed           TEXT NOT NULL,
    path           TEXT NOT NULL,
    name           TEXT NOT NULL,
    channel        TEXT NOT NULL,
    address        TEXT NOT NULL,
    client         TEXT NOT NULL,
    fingerprint    TEXT NOT NULL,
    policy_version INTEGER NOT NULL,
    policy_hash    BLOB NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('receiving', 'received', 'interrupted',
                       'accepted', 'delivering', 'delivered', 'failing', 'rejected', 'expired',
                       'removed')),
    -- When it came to what its listing shows: cut off, whole, decided, ended.
    moment         INTEGER NOT NULL,
    opened_at      INTEGER NOT NULL,
    received_at    INTEGER,
    decided_at     INTEGER,
    delivered_at   INTEGER,
    bytes          INTEGER NOT NULL DEFAULT 0,
    sha256         BLOB,
    mtime          INTEGER,
    data_rows      INTEGER NOT NULL DEFAULT 0,
    errors_total   INTEGER NOT NULL DEFAULT 0,
    codes          TEXT NOT NULL DEFAULT '[]',
    raw_slot       INTEGER,
    raw_bytes      INTEGER,
    raw_digest     BLOB,
    raw_inline     INTEGER,
    out_slot       INTEGER,
    out_bytes      INTEGER,
    out_digest     BLOB,
    out_inline     INTEGER,
    out_sha256     BLOB,
    store          TEXT,
    object_key     TEXT,
    metadata       TEXT NOT NULL DEFAULT '[]',
    stored_as      TEXT,
    attempts       INTEGER NOT NULL DEFAULT 0,
    next_attempt   INTEGER,
    last_error     TEXT,
    receipt_base   TEXT,
    known_as       TEXT REFERENCES submissions (id),
    replaced       INTEGER NOT NULL DEFAULT 0,
    hidden         INTEGER NOT NULL DEFAULT 0,
    -- An unfinished file whose partial name the client has closed itself.
    closed         INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX submissions_backwards ON submissions (backwards);
CREATE INDEX submissions_at_path ON submissions (partner, path, moment);
CREATE INDEX submissions_listed ON submissions (partner, state, moment);
CREATE INDEX submissions_of_partner ON submissions (partner, opened_at);
CREATE INDEX submissions_in_state ON submissions (state, opened_at);
CREATE INDEX submissions_by_time ON submissions (opened_at);
CREATE INDEX submissions_content ON submissions (sha256, partner, feed)
    WHERE store IS NOT NULL AND known_as IS NULL;
CREATE INDEX submissions_with_receipt ON submissions (partner, decided_at)
    WHERE receipt_base IS NOT NULL;
CREATE INDEX submissions_known_as ON submissions (known_as) WHERE known_as IS NOT NULL;

CREATE TABLE receipts (
    submission INTEGER PRIMARY KEY REFERENCES submissions (seq),
    text       BLOB NOT NULL,
    json       BLOB NOT NULL,
    text_sig   BLOB NOT NULL,
    json_sig   BLOB NOT NULL
) STRICT;

-- All rows of one length, never deleted: see slots.rs before touching this table.
CREATE TABLE key_slots (
    slot    INTEGER PRIMARY KEY,
    used    INTEGER NOT NULL CHECK (used IN (0, 1)),
    wrapped BLOB NOT NULL CHECK (length(wrapped) = 128)
) STRICT;
CREATE INDEX free_key_slots ON key_slots (slot) WHERE used = 0;

CREATE TABLE inlines (
    number INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE domain_keys (
    owner  TEXT NOT NULL,
    domain TEXT NOT NULL,
    kid    INTEGER NOT NULL,
    slot   INTEGER NOT NULL,
    PRIMARY KEY (owner, domain, kid)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    partner     TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (partner, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_uses (
    partner     TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (partner, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL,
    hash    BLOB NOT NULL
) STRICT;

CREATE TABLE audit_heads (
    seq       INTEGER PRIMARY KEY,
    day       INTEGER NOT NULL,
    text      BLOB NOT NULL,
    signature TEXT NOT NULL
) STRICT;

CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
-- Which function made a digest is part of it: 32 bytes are SHA-256, 33 begin with their function.
ALTER TABLE submissions RENAME COLUMN sha256 TO content_digest;
ALTER TABLE submissions RENAME COLUMN out_sha256 TO object_digest;
-- What is delivered may be the very lane that was received.
ALTER TABLE submissions ADD COLUMN out_lane TEXT NOT NULL DEFAULT 'out'
    CHECK (out_lane IN ('out', 'raw'));
",
    "
-- A file may be held until a person decides. SQLite cannot change a CHECK: the column is made anew.
DROP INDEX submissions_listed;
DROP INDEX submissions_in_state;
ALTER TABLE submissions RENAME COLUMN state TO state_before;
ALTER TABLE submissions ADD COLUMN state TEXT NOT NULL DEFAULT 'receiving'
    CHECK (state IN ('receiving', 'received', 'interrupted', 'held', 'accepted', 'delivering',
                     'delivered', 'failing', 'rejected', 'expired', 'removed'));
UPDATE submissions SET state = state_before;
ALTER TABLE submissions DROP COLUMN state_before;
CREATE INDEX submissions_listed ON submissions (partner, state, moment);
CREATE INDEX submissions_in_state ON submissions (state, opened_at);
-- What the person who decided said.
ALTER TABLE submissions ADD COLUMN decision TEXT;
",
    "
-- For clients that compare by them: hexadecimal.
ALTER TABLE submissions ADD COLUMN md5 TEXT;
ALTER TABLE submissions ADD COLUMN sha1 TEXT;
-- Keys whose clients have asked for such a digest: what they send is digested so too.
CREATE TABLE old_kinds (
    partner     TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('md5', 'sha1')),
    PRIMARY KEY (partner, fingerprint, kind)
) STRICT, WITHOUT ROWID;
",
    "
-- It was begun over a file of so many bytes that was not truncated; kept for when it is cut off.
ALTER TABLE submissions ADD COLUMN over_bytes INTEGER;
",
    "
-- A table of the errors, where there are many.
ALTER TABLE receipts ADD COLUMN errors BLOB;
ALTER TABLE receipts ADD COLUMN errors_sig BLOB;
-- The size that the client of an unfinished file has declared.
ALTER TABLE submissions ADD COLUMN declared_bytes INTEGER;
",
    "
-- Of a file that is being sent: the size that was set, which more bytes take back, and the smallest that
-- was set by its path below what was there.
ALTER TABLE submissions ADD COLUMN set_bytes INTEGER;
ALTER TABLE submissions ADD COLUMN cut_bytes INTEGER;
",
    "
-- Rows that were left out of an accepted file, sealed like its other lanes.
CREATE TABLE rejects (
    submission INTEGER PRIMARY KEY REFERENCES submissions (seq),
    slot       INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    digest     BLOB NOT NULL,
    inline     INTEGER,
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX rejects_by_time ON rejects (at);
",
    "
-- Of a held file: the accepted one that was removed to make room for it.
ALTER TABLE submissions ADD COLUMN instead_of TEXT;
",
    "
-- Rows with a fault that are missing in what was forwarded.
ALTER TABLE submissions ADD COLUMN rows_left_out INTEGER NOT NULL DEFAULT 0;
UPDATE submissions SET rows_left_out = errors_total WHERE store IS NOT NULL;
",
    "
-- How the columns of a feed's files have differed from its contract.
CREATE TABLE drifts (
    partner  TEXT NOT NULL,
    feed     TEXT NOT NULL,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    -- Of a renamed one, and how alike the two are in percent.
    now      TEXT NOT NULL,
    alike    INTEGER NOT NULL,
    -- The label is told as it is.
    exact    INTEGER NOT NULL,
    files    INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    last     TEXT NOT NULL,
    PRIMARY KEY (partner, feed, kind, name, now)
) STRICT, WITHOUT ROWID;
",
];
