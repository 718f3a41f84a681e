//! The audit chain: each record holds the SHA-256 of the one before; heads are signed.
//!
//! `hash = SHA-256(hash before || seq || at || actor || action || subject || detail)`, where every
//! field after the hash is preceded by its length (8 bytes, big-endian), numbers are 8 bytes
//! big-endian, `at` is microseconds since 1970, and the hash before the first record is 32 zeros.
//! A chain alone does not show a tail that was cut off; the signed heads do.

use ring::digest;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::ledger::writer::execute_cached;
use crate::ledger::{Ledger, LedgerFault};
use crate::terms::clock::Timestamp;

/// An act to be recorded on its own (submission verbs record theirs themselves).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Who: a Unix user, a partner, or `system`.
    pub actor: String,
    /// What, as in `key.revoke`, `config.reload`, `session.open`.
    pub action: String,
    /// On what.
    pub subject: String,
    /// More, free of values and secrets.
    pub detail: String,
}

/// One record of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// From 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub act: Act,
    /// SHA-256 over the previous hash and this record's canonical text.
    pub hash: [u8; 32],
}

/// What a look at the whole chain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Records looked at.
    pub records: u64,
    /// Hash of the last.
    pub head: [u8; 32],
    /// First and last time.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The first bad record and why; `None`: the chain is whole.
    pub broken: Option<(u64, String)>,
    /// The signed heads: (seq, the signed text, armored sshsig), oldest first. The caller checks them.
    pub heads: Vec<(u64, Vec<u8>, String)>,
}

/// Where the chain stands: number and hash of its last record.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    seq: u64,
    hash: [u8; 32],
}

// === impl Ledger ===

impl Ledger {
    /// Records an act; durable when this returns.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn record(&self, act: Act) -> Result<(), LedgerFault> {
        self.change(move |change| Ok(change.audit(&act)?)).await
    }

    /// Records after `seq`, oldest first, at most `limit`; `seq` `None`: the last `limit`.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn audit_after(
        &self,
        seq: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, LedgerFault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |connection| {
            let Some(seq) = seq else {
                let sql = "SELECT * FROM audit ORDER BY seq DESC LIMIT ?1";
                let mut last = records(connection, sql, [limit])?;
                last.reverse();
                return Ok(last);
            };
            // Nothing comes after a number no record can have.
            let seq = i64::try_from(seq).unwrap_or(i64::MAX);
            let sql = "SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
            Ok(records(connection, sql, [seq, limit])?)
        })
        .await
    }

    /// Reads the chain from the first record to the last.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn verify_chain(&self) -> Result<ChainReport, LedgerFault> {
        self.read(|connection| Ok(verify(connection)?)).await
    }
}

// === impl Chain ===

impl Chain {
    /// Where the chain of a file stands. After a cut-off tail it goes on behind the signed head,
    /// so that the gap stays to be seen.
    pub(super) fn load(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let last = connection
            .query_row(
                "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
                [],
                |row| {
                    Ok(Self {
                        seq: unsigned(row, "seq")?,
                        hash: row.get("hash")?,
                    })
                },
            )
            .optional()?
            .unwrap_or(Self {
                seq: 0,
                hash: [0; 32],
            });
        let head = connection
            .query_row("SELECT max(seq) FROM audit_heads", [], |row| {
                row.get::<_, Option<i64>>(0)
            })?
            .and_then(|seq| u64::try_from(seq).ok())
            .unwrap_or(0);
        Ok(Self {
            seq: last.seq.max(head),
            ..last
        })
    }

    /// Number of the last record.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Writes the next record.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        at: Timestamp,
        act: &Act,
    ) -> Result<(), rusqlite::Error> {
        let seq = self.seq + 1;
        let hash = hash(&self.hash, seq, at, act);
        execute_cached(
            connection,
            "INSERT INTO audit (seq, at, actor, action, subject, detail, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (
                signed(seq)?,
                at.as_micros(),
                &act.actor,
                &act.action,
                &act.subject,
                &act.detail,
                hash,
            ),
        )?;
        *self = Self { seq, hash };
        Ok(())
    }
}

/// The text that is signed for the record `seq` with this hash: three lines, the first one naming
/// the format.
#[must_use]
pub fn head_text(seq: u64, hash: &[u8; 32]) -> String {
    format!(
        "sallyport-audit-head v1\nseq {seq}\nhash {}\n",
        data_encoding::HEXLOWER.encode(hash)
    )
}

/// Has the head signed and stores it, in the transaction that wrote its record.
pub(super) fn write_head(
    connection: &Connection,
    chain: &Chain,
    at: Timestamp,
    sign: &(dyn Fn(&[u8]) -> String + Send + Sync),
) -> Result<(), rusqlite::Error> {
    let text = head_text(chain.seq, &chain.hash);
    let signature = sign(text.as_bytes());
    execute_cached(
        connection,
        "INSERT INTO audit_heads (seq, day, text, signature) VALUES (?1, ?2, ?3, ?4)",
        (
            signed(chain.seq)?,
            at.as_secs().div_euclid(24 * 3600),
            text.as_bytes(),
            signature,
        ),
    )?;
    Ok(())
}

/// Keeps the last hundred heads and the last one of each day.
pub(super) fn prune_heads(connection: &Connection) -> Result<(), rusqlite::Error> {
    execute_cached(
        connection,
        "DELETE FROM audit_heads
         WHERE seq < (SELECT seq FROM audit_heads ORDER BY seq DESC LIMIT 1 OFFSET 99)
           AND seq NOT IN (SELECT max(seq) FROM audit_heads GROUP BY day)",
        [],
    )?;
    Ok(())
}

fn hash(before: &[u8; 32], seq: u64, at: Timestamp, act: &Act) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    let seq = seq.to_be_bytes();
    let at = at.as_micros().to_be_bytes();
    let texts = [&act.actor, &act.action, &act.subject, &act.detail].map(String::as_bytes);
    for field in [&seq[..], &at[..]].into_iter().chain(texts) {
        // usize is at most 64 bits wide.
        let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
        context.update(&length.to_be_bytes());
        context.update(field);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// In pages, so that a long chain never holds the write-ahead log.
fn verify(connection: &Connection) -> Result<ChainReport, rusqlite::Error> {
    let (heads, last) = heads(connection)?;
    let mut report = ChainReport {
        records: 0,
        head: [0; 32],
        span: None,
        broken: None,
        heads,
    };
    let mut unseen = report
        .heads
        .iter()
        .map(|(seq, text, _)| (*seq, text))
        .peekable();
    let mut expected: u64 = 1;
    let mut page_from: i64 = 0;
    let mut broken: Option<(u64, String)> = None;
    let mut blame = |seq: u64, why: String| {
        broken.get_or_insert((seq, why));
    };
    if connection
        .prepare("SELECT 1 FROM audit WHERE seq < 1")?
        .exists([])?
    {
        blame(0, "there are records before the first".to_owned());
    }
    loop {
        let sql = "SELECT * FROM audit WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT 1000";
        let page = records(connection, sql, [page_from, last])?;
        let Some(end) = page.last() else { break };
        page_from = signed(end.seq)?;
        for record in page {
            if record.seq != expected {
                let until = record.seq - 1;
                blame(expected, missing(expected, until));
            } else if record.hash != hash(&report.head, record.seq, record.at, &record.act) {
                blame(
                    record.seq,
                    "it does not fit its hash: this record or the hash before it was changed"
                        .to_owned(),
                );
            }
            while let Some((seq, text)) = unseen.next_if(|(seq, _)| *seq <= record.seq) {
                if seq == record.seq && *text != head_text(seq, &record.hash).into_bytes() {
                    blame(seq, "its hash is not the one of its signed head".to_owned());
                }
            }
            expected = record.seq + 1;
            report.records += 1;
            report.head = record.hash;
            let first = report.span.map_or(record.at, |(first, _)| first);
            report.span = Some((first, record.at));
        }
    }
    // Every commit signs its last record: a head without a record is a tail cut off, a record
    // after the newest head is one nobody signed.
    let newest = report.heads.last().map_or(0, |(seq, _, _)| *seq);
    if newest >= expected {
        blame(
            expected,
            missing(expected, newest) + ", but a signed head names the last of them",
        );
    } else if newest + 1 < expected {
        blame(
            newest + 1,
            "it and what follows has no signed head".to_owned(),
        );
    }
    report.broken = broken;
    Ok(report)
}

fn missing(first: u64, last: u64) -> String {
    if first == last {
        format!("record {first} is missing")
    } else {
        format!("records {first} to {last} are missing")
    }
}

type Heads = Vec<(u64, Vec<u8>, String)>;

/// The heads and the number of the last record, as of one moment.
fn heads(connection: &Connection) -> Result<(Heads, i64), rusqlite::Error> {
    let moment = connection.unchecked_transaction()?;
    let heads = moment
        .prepare("SELECT seq, text, signature FROM audit_heads ORDER BY seq")?
        .query_map([], |row| {
            Ok((unsigned(row, "seq")?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let last = moment.query_row("SELECT coalesce(max(seq), 0) FROM audit", [], |row| {
        row.get(0)
    })?;
    moment.finish()?;
    Ok((heads, last))
}

fn records(
    connection: &Connection,
    sql: &str,
    bounds: impl rusqlite::Params,
) -> Result<Vec<AuditRecord>, rusqlite::Error> {
    connection
        .prepare(sql)?
        .query_map(bounds, |row| {
            Ok(AuditRecord {
                seq: unsigned(row, "seq")?,
                at: Timestamp::from_micros(row.get("at")?),
                act: Act {
                    actor: text(row, "actor")?,
                    action: text(row, "action")?,
                    subject: text(row, "subject")?,
                    detail: text(row, "detail")?,
                },
                // Of another length: changed by hand. Zeros fit no record.
                hash: row.get::<_, Vec<u8>>("hash")?.try_into().unwrap_or([0; 32]),
            })
        })?
        .collect()
}

/// A text column of a record that may have been changed on disk: bytes that are no longer UTF-8
/// must not hide which record it was.
fn text(row: &Row<'_>, column: &str) -> Result<String, rusqlite::Error> {
    let bytes = row.get_ref(column)?.as_bytes()?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// SQLite's integers are signed: a count for it.
pub(super) fn signed(count: u64) -> Result<i64, rusqlite::Error> {
    i64::try_from(count).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// A count from it.
pub(super) fn unsigned(row: &Row<'_>, column: &str) -> Result<u64, rusqlite::Error> {
    let value: i64 = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{Desk, RESUMED, accepted, at, beginning, id, rejected};

    fn act(n: u64) -> Act {
        Act {
            actor: "root".to_owned(),
            action: "config.reload".to_owned(),
            subject: format!("policy {n}"),
            detail: "ok".to_owned(),
        }
    }

    async fn desk_with(records: u64) -> Desk {
        let desk = Desk::new();
        for n in 1..=records {
            desk.ledger.record(act(n)).await.unwrap();
        }
        desk
    }

    /// What `verify_chain` finds after somebody changed the file behind our back.
    async fn broken_by(sql: &str) -> Option<(u64, String)> {
        let desk = desk_with(20).await;
        assert_eq!(desk.ledger.verify_chain().await.unwrap().broken, None);
        let other = Connection::open(desk.file()).unwrap();
        other.execute_batch(sql).unwrap();
        desk.ledger.verify_chain().await.unwrap().broken
    }

    #[tokio::test]
    async fn a_whole_chain_verifies_over_pages_and_restarts() {
        let mut desk = desk_with(0).await;
        assert_eq!(desk.ledger.verify_chain().await.unwrap().records, 0);
        let ledger = desk.ledger.clone();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..1100 {
            let ledger = ledger.clone();
            all.spawn(async move { ledger.record(act(n)).await.unwrap() });
        }
        all.join_all().await;
        desk.restart().await;
        desk.clock.advance_micros(5_000_000);
        desk.ledger.record(act(1)).await.unwrap();
        let report = desk.ledger.verify_chain().await.unwrap();
        assert_eq!((report.records, report.broken.clone()), (1101, None));
        assert_eq!(report.span, Some((at(0), at(5))));
        let (seq, text, signature) = report.heads.last().unwrap();
        assert_eq!(*seq, 1101);
        assert_eq!(*text, head_text(1101, &report.head).into_bytes());
        assert_eq!(*signature, format!("signed {} bytes", text.len()));
    }

    #[test]
    fn the_hash_is_the_one_the_format_says() {
        // Written out by hand from the first lines of this file.
        let mut canonical = vec![0; 32];
        for field in [
            &[0, 0, 0, 0, 0, 0, 0, 1][..],
            &[0, 0, 0, 0, 0, 0, 0x27, 0x10],
            b"root",
            b"config.reload",
            b"policy 7",
            b"ok",
        ] {
            canonical.extend([0, 0, 0, 0, 0, 0, 0, u8::try_from(field.len()).unwrap()]);
            canonical.extend(field);
        }
        let expect = digest::digest(&digest::SHA256, &canonical);
        let found = hash(&[0; 32], 1, Timestamp::from_micros(10_000), &act(7));
        assert_eq!(found, expect.as_ref());
    }

    #[tokio::test]
    async fn a_changed_record_is_named() {
        for sql in [
            "UPDATE audit SET detail = 'oK' WHERE seq = 7",
            "UPDATE audit SET at = at + 1 WHERE seq = 7",
            "UPDATE audit SET actor = 'roo', action = 'tconfig.reload' WHERE seq = 7",
            "UPDATE audit SET hash = zeroblob(32) WHERE seq = 7",
            "UPDATE audit SET hash = zeroblob(31) WHERE seq = 7",
            "UPDATE audit SET detail = CAST(x'6fff' AS TEXT) WHERE seq = 7",
        ] {
            let (seq, why) = broken_by(sql).await.unwrap();
            assert_eq!(seq, 7, "{sql}: {why}");
        }
    }

    #[tokio::test]
    async fn a_byte_flipped_on_disk_is_named() {
        let desk = desk_with(20).await;
        desk.ledger.stop().await;
        let mut content = std::fs::read(desk.file()).unwrap();
        let found = memchr::memmem::find(&content, b"policy 13").unwrap();
        content[found] ^= 0x80;
        std::fs::write(desk.file(), content).unwrap();
        let reader = Ledger::open_read_only(desk.folder.path()).unwrap();
        let (seq, why) = reader.verify_chain().await.unwrap().broken.unwrap();
        assert_eq!(seq, 13, "{why}");
    }

    #[tokio::test]
    async fn a_removed_record_is_named() {
        let (seq, why) = broken_by("DELETE FROM audit WHERE seq = 7").await.unwrap();
        assert_eq!((seq, why.as_str()), (7, "record 7 is missing"));
        let (seq, why) = broken_by("DELETE FROM audit WHERE seq < 4").await.unwrap();
        assert_eq!((seq, why.as_str()), (1, "records 1 to 3 are missing"));
    }

    #[tokio::test]
    async fn a_removed_tail_is_named() {
        let (seq, why) = broken_by("DELETE FROM audit WHERE seq > 17").await.unwrap();
        assert_eq!(seq, 18);
        assert!(why.starts_with("records 18 to 20 are missing"), "{why}");
        let (seq, _) = broken_by("DELETE FROM audit").await.unwrap();
        assert_eq!(seq, 1);
    }

    #[tokio::test]
    async fn records_nobody_signed_are_named() {
        let (seq, _) = broken_by("DELETE FROM audit_heads WHERE seq > 17")
            .await
            .unwrap();
        assert_eq!(seq, 18);
        let planted = "INSERT INTO audit SELECT 0, at, actor, action, subject, detail, hash
                       FROM audit WHERE seq = 1";
        assert_eq!(broken_by(planted).await.unwrap().0, 0);
    }

    #[tokio::test]
    async fn a_chain_computed_anew_does_not_fit_its_signed_heads() {
        let desk = desk_with(20).await;
        let other = Connection::open(desk.file()).unwrap();
        let mut chain = Chain {
            seq: 0,
            hash: [0; 32],
        };
        let mut forged = records(&other, "SELECT * FROM audit ORDER BY seq", []).unwrap();
        forged[6].act.detail = "nothing happened".to_owned();
        other.execute_batch("DELETE FROM audit").unwrap();
        for record in &forged {
            chain.append(&other, record.at, &record.act).unwrap();
        }
        let (seq, why) = desk.ledger.verify_chain().await.unwrap().broken.unwrap();
        assert_eq!(seq, 7, "{why}");
    }

    #[tokio::test]
    async fn a_gateway_started_after_the_tail_was_cut_off_does_not_hide_it() {
        let mut desk = desk_with(20).await;
        let other = Connection::open(desk.file()).unwrap();
        other
            .execute_batch("DELETE FROM audit WHERE seq > 17")
            .unwrap();
        drop(other);
        desk.restart().await;
        for n in 0..5 {
            desk.ledger.record(act(n)).await.unwrap();
        }
        let (seq, why) = desk.ledger.verify_chain().await.unwrap().broken.unwrap();
        assert_eq!((seq, why.as_str()), (18, "records 18 to 20 are missing"));
    }

    #[tokio::test]
    async fn heads_are_thinned_but_the_newest_and_each_days_last_stay() {
        let desk = Desk::new();
        for day in 0..3 {
            for n in 0..200 {
                desk.ledger.record(act(n)).await.unwrap();
            }
            if day < 2 {
                desk.clock.advance_micros(24 * 3600 * 1_000_000);
            }
        }
        let heads: Vec<u64> = desk
            .ledger
            .verify_chain()
            .await
            .unwrap()
            .heads
            .into_iter()
            .map(|(seq, ..)| seq)
            .collect();
        assert_eq!(heads[..2], [200, 400]);
        assert_eq!(heads.last(), Some(&600));
        assert!(heads.contains(&501) && heads.len() < 200, "{}", heads.len());
    }

    #[tokio::test]
    async fn records_are_read_from_the_end_or_after_a_number() {
        let desk = desk_with(9).await;
        let seqs = |records: Vec<AuditRecord>| records.iter().map(|r| r.seq).collect::<Vec<_>>();
        let ledger = &desk.ledger;
        assert_eq!(seqs(ledger.audit_after(None, 3).await.unwrap()), [7, 8, 9]);
        assert_eq!(
            seqs(ledger.audit_after(Some(2), 3).await.unwrap()),
            [3, 4, 5]
        );
        for end in [9, u64::MAX] {
            assert!(ledger.audit_after(Some(end), 3).await.unwrap().is_empty());
        }
        let one = ledger.audit_after(Some(0), 1).await.unwrap().remove(0);
        assert_eq!((one.act, one.at), (act(1), at(0)));
    }

    #[tokio::test]
    async fn every_step_of_a_life_is_recorded_in_its_transaction() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        let partial = crate::ledger::fixture::partial;
        ledger.begin(beginning(1), Default::default).await.unwrap();
        ledger.interrupt(beginning(1), partial(1)).await.unwrap();
        ledger.resume(beginning(1), RESUMED).await.unwrap();
        let whole = crate::ledger::fixture::whole(1);
        ledger.receive(beginning(1), whole).await.unwrap();
        ledger.settle(beginning(1), accepted(1)).await.unwrap();
        for _ in 0..2 {
            ledger.deliver(id(1)).await.unwrap();
            ledger
                .failing(id(1), "503".to_owned(), at(60))
                .await
                .unwrap();
        }
        ledger.deliver(id(1)).await.unwrap();
        ledger
            .delivered(id(1), "lake:a/b.csv".to_owned(), at(61))
            .await
            .unwrap();
        ledger.hide(id(1)).await.unwrap();
        ledger.hide(id(1)).await.unwrap();
        ledger.settle(beginning(2), rejected(2)).await.unwrap();
        for n in [3, 4] {
            ledger.interrupt(beginning(n), partial(n)).await.unwrap();
        }
        ledger.expire(id(3)).await.unwrap();
        ledger.remove(id(4)).await.unwrap();

        let found: Vec<_> = ledger.audit_after(Some(0), 100).await.unwrap();
        let said: Vec<_> = found
            .iter()
            .map(|r| format!("{} {} {}", r.act.actor, r.act.action, r.act.subject))
            .collect();
        let [one, two, three, four] = [1, 2, 3, 4].map(|n| id(n).short());
        assert_eq!(
            said,
            [
                format!("acme submission.begin {one}"),
                format!("acme submission.interrupt {one}"),
                format!("acme submission.resume {one}"),
                format!("acme submission.receive {one}"),
                format!("acme submission.accept {one}"),
                format!("system submission.fail {one}"),
                format!("system submission.deliver {one}"),
                format!("acme submission.hide {one}"),
                format!("acme submission.reject {two}"),
                format!("acme submission.interrupt {three}"),
                format!("acme submission.interrupt {four}"),
                format!("system submission.expire {three}"),
                format!("acme submission.remove {four}"),
            ]
        );
        let reject = &found[8].act.detail;
        assert!(
            reject.starts_with("acme/orders \"orders_2.csv\" policy 3, key SHA256:"),
            "{reject}"
        );
        assert!(reject.ends_with(": missing-cell type-error"), "{reject}");
    }

    #[tokio::test]
    async fn a_file_name_cannot_forge_a_line_of_the_trail() {
        let desk = Desk::new();
        let mut forged = beginning(1);
        forged.name = "a.csv\" policy 9\r\n\u{1b}[2J\u{202e}".to_owned();
        desk.ledger.begin(forged, Default::default).await.unwrap();
        let detail = desk
            .ledger
            .audit_after(None, 1)
            .await
            .unwrap()
            .remove(0)
            .act
            .detail;
        assert!(
            detail.starts_with(r#"acme/orders "a.csv\" policy 9\r\n\u{1b}[2J\u{202e}" policy 3"#),
            "{detail}"
        );
    }
}
