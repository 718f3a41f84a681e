//! How the columns of each feed's files have differed from its contract, and since when.

use rusqlite::named_params;

use crate::ledger::audit::{Act, unsigned};
use crate::ledger::rows::Parsed;
use crate::ledger::submissions::{Beginning, bare};
use crate::ledger::writer::Change;
use crate::ledger::{Ledger, LedgerFault, Trouble};
use crate::terms::clock::Timestamp;
use crate::terms::drift::{Drift, DriftKind};
use crate::terms::ids::{FeedId, PartnerId, SubmissionId};
use crate::terms::limits;

/// One difference over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftSeen {
    /// Whose.
    pub partner: PartnerId,
    /// Of which feed.
    pub feed: FeedId,
    /// What it is.
    pub drift: Drift,
    /// Files that had it.
    pub files: u64,
    /// When it was seen first.
    pub first_at: Timestamp,
    /// And last.
    pub last_at: Timestamp,
    /// In which submission.
    pub last: SubmissionId,
}

// === impl Ledger ===

impl Ledger {
    /// All that was seen, of one partner or of all, by feed and the last first.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn drifts(&self, partner: Option<PartnerId>) -> Result<Vec<DriftSeen>, LedgerFault> {
        self.read(move |connection| {
            let sql = "SELECT partner, feed, kind, name, now, alike, exact, files, first_at, last_at, last
                 FROM drifts WHERE ?1 IS NULL OR partner = ?1
                 ORDER BY partner, feed, last_at DESC, kind, name, now";
            let mut statement = connection.prepare_cached(sql)?;
            let partner = partner.map(|partner| partner.to_string());
            let found = statement.query_map([partner], |row| {
                let kind: String = row.get("kind")?;
                let now: String = row.get("now")?;
                let alike: u8 = row.get("alike")?;
                // A kind of a later version cannot be here: its ledger would not have been opened.
                let kind = DriftKind::find(&kind).unwrap_or(DriftKind::Added);
                Ok(DriftSeen {
                    partner: row.get::<_, Parsed<_>>("partner")?.0,
                    feed: row.get::<_, Parsed<_>>("feed")?.0,
                    drift: Drift {
                        kind,
                        column: row.get("name")?,
                        now: (kind == DriftKind::Renamed).then_some((now, alike)),
                        is_exact: row.get("exact")?,
                    },
                    files: unsigned(row, "files")?,
                    first_at: Timestamp::from_micros(row.get("first_at")?),
                    last_at: Timestamp::from_micros(row.get("last_at")?),
                    last: row.get::<_, Parsed<_>>("last")?.0,
                })
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }
}

impl Ledger {
    /// Forgets what was seen of one column of a feed; how many differences that were. Seen again, they are
    /// new.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn forget_drifts(
        &self,
        partner: PartnerId,
        feed: FeedId,
        column: String,
        actor: String,
    ) -> Result<usize, LedgerFault> {
        self.change(move |change| {
            let forgotten = change.execute(
                "DELETE FROM drifts WHERE partner = ?1 AND feed = ?2 AND (name = ?3 OR now = ?3)",
                (partner.as_str(), feed.as_str(), &column),
            )?;
            if forgotten > 0 {
                change.audit(&Act {
                    actor,
                    action: "policy.dismiss-drift".to_owned(),
                    subject: format!("{partner}/{feed}"),
                    detail: format!("what was seen of the column {}", bare(&column)),
                })?;
            }
            Ok(forgotten)
        })
        .await
    }
}

/// With the verdict. Once a feed has too many of them, what was seen longest ago makes room.
pub(super) fn note(
    change: &Change<'_>,
    beginning: &Beginning,
    at: Timestamp,
    drift: &[Drift],
) -> Result<(), Trouble> {
    let mut has_new = false;
    for one in drift {
        let (now, alike) = one
            .now
            .as_ref()
            .map_or(("", 0), |(now, alike)| (now, *alike));
        let added = change.execute(
            "INSERT INTO drifts (partner, feed, kind, name, now, alike, exact, files, first_at,
                 last_at, last)
             VALUES (:partner, :feed, :kind, :name, :now, :alike, :exact, 0, :at, :at, :id)
             ON CONFLICT DO NOTHING",
            named_params! {
                ":partner": beginning.partner.as_str(),
                ":feed": beginning.feed.as_str(),
                ":kind": one.kind.as_str(),
                ":name": one.column,
                ":now": now,
                ":alike": alike,
                ":exact": one.is_exact,
                ":at": at.as_micros(),
                ":id": beginning.id.to_string(),
            },
        )?;
        has_new |= added > 0;
        change.execute(
            "UPDATE drifts SET files = files + 1, alike = :alike, last_at = :at, last = :id
             WHERE partner = :partner AND feed = :feed AND kind = :kind AND name = :name
                 AND now = :now",
            named_params! {
                ":partner": beginning.partner.as_str(),
                ":feed": beginning.feed.as_str(),
                ":kind": one.kind.as_str(),
                ":name": one.column,
                ":now": now,
                ":alike": alike,
                ":at": at.as_micros(),
                ":id": beginning.id.to_string(),
            },
        )?;
    }
    if has_new {
        change.execute(
            "DELETE FROM drifts WHERE partner = ?1 AND feed = ?2 AND (kind, name, now) IN (
                 SELECT kind, name, now FROM drifts WHERE partner = ?1 AND feed = ?2
                 ORDER BY last_at DESC, first_at DESC, kind, name, now LIMIT -1 OFFSET ?3)",
            (
                beginning.partner.as_str(),
                beginning.feed.as_str(),
                limits::DRIFTS_PER_FEED_MAX,
            ),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{Desk, accepted, acme, at, beginning, id};
    use crate::ledger::submissions::Settlement;

    fn decided(settlement: Settlement, seconds: i64) -> Settlement {
        Settlement {
            decided_at: at(seconds),
            ..settlement
        }
    }

    fn drift(kind: DriftKind, column: &str) -> Drift {
        Drift {
            kind,
            column: column.to_owned(),
            now: (kind == DriftKind::Renamed).then(|| (format!("{column}2"), 80)),
            is_exact: true,
        }
    }

    #[tokio::test]
    async fn what_differs_is_counted_from_the_first_file_to_the_last() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        for (n, columns) in [(1, &["tier"][..]), (2, &["tier", "note"]), (3, &[])] {
            let mut settlement = decided(accepted(n), i64::from(n) * 10);
            settlement.drift = columns
                .iter()
                .map(|column| drift(DriftKind::Added, column))
                .collect();
            settlement.drift.push(drift(DriftKind::Renamed, "email"));
            ledger.settle(beginning(n), settlement).await.unwrap();
        }
        let seen = ledger.drifts(Some(acme())).await.unwrap();
        let told: Vec<_> = seen
            .iter()
            .map(|one| (one.drift.column.as_str(), one.files, one.last))
            .collect();
        assert_eq!(
            told,
            [("email", 3, id(3)), ("note", 1, id(2)), ("tier", 2, id(2))]
        );
        assert_eq!(seen[0].drift, drift(DriftKind::Renamed, "email"));
        assert_eq!((seen[2].first_at, seen[2].last_at), (at(10), at(20)));
        assert_eq!(ledger.drifts(None).await.unwrap(), seen);
        for (column, forgotten) in [("tier", 1), ("email2", 1), ("tier", 0)] {
            let (feed, actor) = (seen[0].feed.clone(), "ann".to_owned());
            let done = ledger.forget_drifts(acme(), feed, column.to_owned(), actor);
            assert_eq!(done.await.unwrap(), forgotten, "{column}");
        }
        let left = ledger.drifts(None).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].drift.column, "note");
        let globex = PartnerId::parse("globex").unwrap();
        assert!(ledger.drifts(Some(globex)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_feed_has_room_for_so_many_and_no_more() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        let most = usize::try_from(limits::DRIFTS_PER_FEED_MAX).unwrap();
        for n in 1..=2 {
            let mut settlement = decided(accepted(n), i64::from(n) * 10);
            let names = (0..most - 1).map(|at| format!("{n}-{at}"));
            settlement.drift = names.map(|name| drift(DriftKind::Added, &name)).collect();
            settlement.drift.push(drift(DriftKind::Removed, "id"));
            ledger.settle(beginning(n), settlement).await.unwrap();
        }
        let seen = ledger.drifts(None).await.unwrap();
        assert_eq!(seen.len(), most);
        // What was seen longest ago has made room.
        let old = seen.iter().filter(|one| one.drift.column.starts_with("1-"));
        assert_eq!(old.count(), 0);
        let id = seen.iter().find(|one| one.drift.column == "id");
        assert_eq!(id.map(|one| one.files), Some(2));
    }
}
