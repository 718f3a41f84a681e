//! Rows that were left out of accepted files: their sealed lanes, until somebody purges them.

use std::ops::Range;

use crate::depot::spool::SealedLane;
use crate::ledger::audit::{Act, signed, unsigned};
use crate::ledger::rows::{Parsed, lane};
use crate::ledger::submissions::bare;
use crate::ledger::writer::Change;
use crate::ledger::{Ledger, LedgerFault, Trouble, slots};
use crate::terms::clock::Timestamp;
use crate::terms::ids::{PartnerId, SubmissionId};

/// What was left out of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejects {
    /// The lane's key, wrapped.
    pub key: Vec<u8>,
    /// The lane.
    pub lane: SealedLane,
}

/// The same, without its bytes, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRejects {
    /// Of which submission.
    pub id: SubmissionId,
    /// Of whom.
    pub partner: PartnerId,
    /// Bytes.
    pub bytes: u64,
    /// Since when.
    pub at: Timestamp,
}

// === impl Ledger ===

impl Ledger {
    /// What was left out of a submission, if it is still kept.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn rejects(&self, id: SubmissionId) -> Result<Option<Rejects>, LedgerFault> {
        self.read(move |connection| {
            let sql = "SELECT k.wrapped, r.bytes, r.digest, i.sealed
                 FROM rejects AS r JOIN submissions AS s ON s.seq = r.submission
                     JOIN key_slots AS k ON k.slot = r.slot
                     LEFT JOIN inlines AS i ON i.number = r.inline
                 WHERE s.id = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([id.to_string()])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let key = slots::key_in(&row.get::<_, Vec<u8>>("wrapped")?);
            let lane = lane(row, "digest", "bytes", "sealed")?;
            Ok(key.zip(lane).map(|(key, lane)| Rejects { key, lane }))
        })
        .await
    }

    /// All that is kept since before `before`, the oldest first.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn rejects_kept(&self, before: Timestamp) -> Result<Vec<KeptRejects>, LedgerFault> {
        self.read(move |connection| {
            let sql = "SELECT s.id, s.partner, r.bytes AS bytes, r.at
                 FROM rejects AS r JOIN submissions AS s ON s.seq = r.submission
                 WHERE r.at < ?1 ORDER BY r.at, r.submission";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_map([before.as_micros()], |row| {
                Ok(KeptRejects {
                    id: row.get::<_, Parsed<_>>(0)?.0,
                    partner: row.get::<_, Parsed<_>>(1)?.0,
                    bytes: unsigned(row, "bytes")?,
                    at: Timestamp::from_micros(row.get(3)?),
                })
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Records that somebody has read these bytes of what was left out of a submission.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn rejects_read(
        &self,
        id: SubmissionId,
        actor: String,
        bytes: Range<u64>,
        why: &str,
    ) -> Result<(), LedgerFault> {
        let (from, to) = (bytes.start, bytes.end);
        self.record(Act {
            actor,
            action: "submission.read-rejects".to_owned(),
            subject: id.short(),
            detail: format!(
                "bytes {from} to {to} of the rows left out, because: {}",
                bare(why)
            ),
        })
        .await
    }

    /// Destroys what was left out of a submission, key and bytes; how many, where any were kept. `why` is
    /// for the audit.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn purge_rejects(
        &self,
        id: SubmissionId,
        actor: String,
        why: &str,
    ) -> Result<Option<u64>, LedgerFault> {
        let detail = format!("the rows left out of it are destroyed: {}", bare(why));
        self.change(move |change| {
            let sql = "SELECT r.submission, r.slot, r.inline, r.bytes AS bytes FROM rejects AS r
                 JOIN submissions AS s ON s.seq = r.submission WHERE s.id = ?1";
            let found = change
                .connection()
                .prepare_cached(sql)?
                .query_map([id.to_string()], |row| {
                    let bytes = unsigned(row, "bytes")?;
                    Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, bytes))
                })?
                .next()
                .transpose()?;
            let Some((seq, slot, inline, bytes)) = found else {
                return Ok(None);
            };
            change.destroy_key(slot)?;
            change.destroy_bytes(inline)?;
            change.execute("DELETE FROM rejects WHERE submission = ?1", [seq])?;
            change.audit(&Act {
                actor,
                action: "submission.purge".to_owned(),
                subject: id.short(),
                detail,
            })?;
            Ok(Some(bytes))
        })
        .await
    }
}

/// With the verdict.
pub(super) fn keep(
    change: &Change<'_>,
    seq: i64,
    rejects: &Rejects,
    at: Timestamp,
) -> Result<(), Trouble> {
    let connection = change.connection();
    let slot = slots::keep_key(connection, &rejects.key)?;
    let inline = match &rejects.lane.inline {
        Some(sealed) => Some(slots::keep_bytes(connection, sealed)?),
        None => None,
    };
    change.execute(
        "INSERT INTO rejects (submission, slot, bytes, digest, inline, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (
            seq,
            slot,
            signed(rejects.lane.bytes)?,
            rejects.lane.tag_digest,
            inline,
            at.as_micros(),
        ),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{Desk, accepted, at, beginning, id};
    use crate::ledger::submissions::Outcome;

    #[tokio::test]
    async fn what_is_left_out_is_kept_with_the_verdict_and_destroyed_once() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        let rejects = |inline: Option<Vec<u8>>| Rejects {
            key: vec![7; 60],
            lane: SealedLane {
                bytes: 123,
                tag_digest: [5; 32],
                inline,
            },
        };
        for (n, inline) in [(1, Some(vec![1, 2, 3])), (2, None)] {
            let mut settlement = accepted(n);
            if let Outcome::Accepted(acceptance) = &mut settlement.outcome {
                acceptance.rejects = Some(rejects(inline.clone()));
            }
            ledger.settle(beginning(n), settlement).await.unwrap();
            let found = ledger.rejects(id(n)).await.unwrap();
            assert_eq!(found, Some(rejects(inline)));
        }
        assert_eq!(ledger.rejects(id(3)).await.unwrap(), None);
        let all = Timestamp::from_micros(i64::MAX);
        let kept = ledger.rejects_kept(all).await.unwrap();
        assert_eq!(
            kept.iter().map(|one| one.id).collect::<Vec<_>>(),
            [id(1), id(2)]
        );
        assert!(
            ledger
                .rejects_kept(at(-1_000_000))
                .await
                .unwrap()
                .is_empty()
        );
        let spooled = ledger.spooled().await.unwrap();
        assert_eq!(spooled.iter().map(|(_, bytes)| bytes).sum::<u64>(), 246);
        for purged in [Some(123), None] {
            let done = ledger.purge_rejects(id(1), "ann".to_owned(), "over");
            assert_eq!(done.await.unwrap(), purged);
        }
        assert_eq!(ledger.rejects(id(1)).await.unwrap(), None);
        assert_eq!(ledger.rejects_kept(all).await.unwrap().len(), 1);
        let purges = ledger.audit_after(None, 100).await.unwrap();
        let purges = purges
            .iter()
            .filter(|one| one.act.action == "submission.purge");
        assert_eq!(purges.count(), 1);
    }
}
