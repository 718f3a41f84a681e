//! Looking at submissions: rows by id, by path, by state; receipts. Never changes anything.

use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension};

use crate::depot::spool::SealedLane;
use crate::ledger::audit::unsigned;
use crate::ledger::submissions::{Document, Filter, Origin, ReceiptEntry, Row, State, backwards};
use crate::ledger::{Ledger, LedgerFault, slots};
use crate::seal::Lane;
use crate::terms::clock::Timestamp;
use crate::terms::digest::{Digest, DigestKind, OldDigests};
use crate::terms::ids::{BadTerm, FeedId, PartnerId, SubmissionId};

/// A submission that waits for somebody, without its bytes: what recovery and delivery plan with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub id: SubmissionId,
    /// Where it is in its life.
    pub state: State,
    /// Not to be tried before.
    pub next_attempt: Option<Timestamp>,
}

// === impl Ledger ===

impl Ledger {
    /// One row.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn submission(&self, id: SubmissionId) -> Result<Option<Row>, LedgerFault> {
        self.first("WHERE s.id = ?1", vec![id.to_string().into()])
            .await
    }

    /// Rows whose printed id ends in `suffix` (any case, `sub_` optional), at most 3.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn find(&self, suffix: &str) -> Result<Vec<Row>, LedgerFault> {
        let upper = suffix.to_ascii_uppercase();
        let body = upper.strip_prefix("SUB_").unwrap_or(&upper);
        if body.is_empty() || !body.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(Vec::new());
        }
        let from = backwards(body);
        // `~` is after every character an id can have.
        let until = format!("{from}~");
        self.rows(
            "WHERE s.backwards >= ?1 AND s.backwards < ?2 ORDER BY s.id LIMIT 3",
            vec![from.into(), until.into()],
        )
        .await
    }

    /// Rows, newest first.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn list(&self, filter: Filter) -> Result<Vec<Row>, LedgerFault> {
        let asked: [(&str, Option<Value>); 4] = [
            ("s.partner =", filter.partner.map(|p| p.to_string().into())),
            ("s.feed =", filter.feed.map(|f| f.to_string().into())),
            (
                "s.state =",
                filter.state.map(|s| s.as_str().to_owned().into()),
            ),
            (
                "s.opened_at >=",
                filter.since.map(|at| at.as_micros().into()),
            ),
        ];
        let mut conditions = vec!["WHERE TRUE".to_owned()];
        let mut values = Vec::new();
        for (condition, value) in asked {
            if let Some(value) = value {
                values.push(value);
                conditions.push(format!("AND {condition} ?{}", values.len()));
            }
        }
        if filter.left_out {
            conditions.push("AND s.seq IN (SELECT submission FROM rejects)".to_owned());
        }
        if let Some(last) = filter.after {
            values.push(last.to_string().into());
            conditions.push(format!(
                "AND (s.opened_at, s.seq) < (
                     SELECT l.opened_at, l.seq FROM submissions AS l WHERE l.id = ?{})",
                values.len()
            ));
        }
        let limit = if filter.limit == 0 {
            LIST_ROWS
        } else {
            filter.limit
        };
        values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        conditions.push(format!(
            "ORDER BY s.opened_at DESC, s.seq DESC LIMIT ?{}",
            values.len()
        ));
        self.rows(&conditions.join(" "), values).await
    }

    /// The newest listed row at a path of a partner: interrupted, received, held, or accepted/delivered/…
    /// since `since`, not hidden, not replaced. Rejected rows are not listed.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn at_path(
        &self,
        partner: &PartnerId,
        path: &str,
        since: Timestamp,
    ) -> Result<Option<Row>, LedgerFault> {
        self.first(
            &format!(
                "WHERE s.partner = ?1 AND s.path = ?3 AND {}
                 ORDER BY s.moment DESC, s.seq DESC LIMIT 1",
                listed("s")
            ),
            vec![
                partner.to_string().into(),
                since.as_micros().into(),
                path.to_owned().into(),
            ],
        )
        .await
    }

    /// The newest accepted row at a path that is still listed, whatever undecided ones lie there.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn accepted_at(
        &self,
        partner: &PartnerId,
        path: &str,
        since: Timestamp,
    ) -> Result<Option<Row>, LedgerFault> {
        self.first(
            &format!(
                "WHERE s.partner = ?1 AND s.path = ?3 AND s.state IN ({ACCEPTED}) AND {}
                 ORDER BY s.moment DESC, s.seq DESC LIMIT 1",
                listed("s")
            ),
            vec![
                partner.to_string().into(),
                since.as_micros().into(),
                path.to_owned().into(),
            ],
        )
        .await
    }

    /// The newest row that was accepted at a path and opened after `after`, whether it is listed or
    /// not.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn newest_accepted_at(
        &self,
        partner: &PartnerId,
        path: &str,
        after: Timestamp,
    ) -> Result<Option<Row>, LedgerFault> {
        self.first(
            &format!(
                "WHERE s.partner = ?1 AND s.path = ?3 AND s.state IN ({ACCEPTED})
                     AND coalesce(s.received_at, s.moment) > ?2
                 ORDER BY s.moment DESC, s.seq DESC LIMIT 1"
            ),
            vec![
                partner.to_string().into(),
                after.as_micros().into(),
                path.to_owned().into(),
            ],
        )
        .await
    }

    /// All listed rows of a partner (same rule), oldest first.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn listed(
        &self,
        partner: &PartnerId,
        since: Timestamp,
    ) -> Result<Vec<Row>, LedgerFault> {
        // The same rule in two halves, so that years of delivered rows are not looked at.
        self.rows(
            &format!(
                "WHERE s.seq IN (
                     SELECT seq FROM submissions
                     WHERE partner = ?1 AND state IN ({UNDECIDED})
                     UNION ALL
                     SELECT seq FROM submissions
                     WHERE partner = ?1 AND state IN ({ACCEPTED}) AND moment >= ?2
                 ) AND {}
                 ORDER BY s.moment, s.seq",
                listed("s")
            ),
            vec![partner.to_string().into(), since.as_micros().into()],
        )
        .await
    }

    /// What [`Ledger::listed`] gives, in the order of arrival, each path once, at most `limit`: from
    /// the first, or those behind one that a page before ended with.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn listed_page(
        &self,
        partner: &PartnerId,
        since: Timestamp,
        after: Option<SubmissionId>,
        limit: usize,
    ) -> Result<Vec<Row>, LedgerFault> {
        let behind = match after {
            Some(_) => "s.seq > (SELECT l.seq FROM submissions AS l WHERE l.id = ?3)",
            None => "?3 IS NULL",
        };
        self.rows(
            &format!(
                "WHERE s.partner = ?1 AND {behind} AND {} AND NOT EXISTS (
                     SELECT 1 FROM submissions AS n
                     WHERE n.partner = ?1 AND n.path = s.path AND {}
                         AND (n.moment, n.seq) > (s.moment, s.seq)
                 )
                 ORDER BY s.seq LIMIT {}",
                listed("s"),
                listed("n"),
                i64::try_from(limit).unwrap_or(i64::MAX),
            ),
            vec![
                partner.to_string().into(),
                since.as_micros().into(),
                after.map(|id| id.to_string()).into(),
            ],
        )
        .await
    }

    /// Whether anything listed has a path that begins like this.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn any_listed_below(
        &self,
        partner: &PartnerId,
        inside: &str,
        since: Timestamp,
    ) -> Result<bool, LedgerFault> {
        let found = self.paths(partner, inside, since, "LIMIT 1").await?;
        Ok(!found.is_empty())
    }

    /// The folders, at any depth below `folder`, that something listed lies in: one path of each.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn listed_paths_below(
        &self,
        partner: &PartnerId,
        folder: &str,
        since: Timestamp,
    ) -> Result<Vec<String>, LedgerFault> {
        let inside = format!("{}/", folder.trim_end_matches('/'));
        // Of all files of a folder one is enough; what lies directly here is none.
        let each = format!(
            "AND instr(substr(s.path, {0}), '/') > 0
             GROUP BY substr(s.path, 1, {0} - 1 + instr(substr(s.path, {0}), '/'))",
            inside.chars().count() + 1
        );
        self.paths(partner, &inside, since, &each).await
    }

    async fn paths(
        &self,
        partner: &PartnerId,
        inside: &str,
        since: Timestamp,
        rest: &str,
    ) -> Result<Vec<String>, LedgerFault> {
        let sql = format!(
            "SELECT s.path FROM submissions AS s
             WHERE s.partner = ?1 AND substr(s.path, 1, length(?3)) = ?3
                 AND s.path >= ?3 AND {} {rest}",
            listed("s")
        );
        let values = (partner.to_string(), since.as_micros(), inside.to_owned());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let found = statement.query_map(values, |row| row.get(0))?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The newest rejected row at a path decided since `since`, when nothing newer is listed there.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn rejected_at(
        &self,
        partner: &PartnerId,
        path: &str,
        since: Timestamp,
    ) -> Result<Option<Row>, LedgerFault> {
        self.first(
            &format!(
                "WHERE s.partner = ?1 AND s.path = ?3 AND s.state = 'rejected'
                     AND s.decided_at >= ?2 AND s.hidden = 0
                     AND NOT EXISTS (
                         SELECT 1 FROM submissions AS n
                         WHERE n.partner = ?1 AND n.path = ?3
                             AND n.state IN ({UNDECIDED}, {ACCEPTED})
                             AND (n.moment, n.seq) > (s.moment, s.seq)
                     )
                 ORDER BY s.moment DESC, s.seq DESC LIMIT 1"
            ),
            vec![
                partner.to_string().into(),
                since.as_micros().into(),
                path.to_owned().into(),
            ],
        )
        .await
    }

    /// The accepted submission (whatever its delivery state) of this feed with this digest that has
    /// an object of its own, and either no row was left out of it or its object has this digest; the
    /// newest, should there be several.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn accepted_content(
        &self,
        partner: &PartnerId,
        feed: &FeedId,
        digest: Digest,
        object: Digest,
    ) -> Result<Option<Row>, LedgerFault> {
        self.first(
            &format!(
                "WHERE s.content_digest = ?1 AND s.partner = ?2 AND s.feed = ?3
                     AND s.store IS NOT NULL AND s.known_as IS NULL AND s.state IN ({ACCEPTED})
                     AND (s.rows_left_out = 0 OR s.object_digest = ?4)
                 ORDER BY s.moment DESC, s.seq DESC LIMIT 1"
            ),
            vec![
                Stored(digest).to_blob().into(),
                partner.to_string().into(),
                feed.to_string().into(),
                Stored(object).to_blob().into(),
            ],
        )
        .await
    }

    /// Rows that recovery or delivery has to move on, oldest first, with their inline bytes: after
    /// a long outage of a store [`Ledger::waiting`] is the lighter way.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn unsettled(&self) -> Result<Vec<Row>, LedgerFault> {
        self.rows(
            &format!("WHERE s.state IN ({UNSETTLED}) ORDER BY s.opened_at, s.seq"),
            Vec::new(),
        )
        .await
    }

    /// The same rows as [`Ledger::unsettled`] in the same order, but only what a plan needs of
    /// them: cheap for a hundred thousand.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn waiting(&self) -> Result<Vec<Waiting>, LedgerFault> {
        self.read(|connection| {
            let sql = format!(
                "SELECT id, state, next_attempt FROM submissions WHERE state IN ({UNSETTLED})
                 ORDER BY opened_at, seq"
            );
            let mut statement = connection.prepare(&sql)?;
            let found = statement.query_map([], read_waiting)?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// What delivery can move on at `now`, the oldest first, at most `limit` of each state: the rest
    /// comes up when these are done.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Waiting>, LedgerFault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |connection| {
            let of = |state: &str, more: &str| {
                format!(
                    "SELECT * FROM (SELECT id, state, next_attempt, opened_at, seq FROM submissions
                     WHERE state = '{state}' {more} ORDER BY opened_at LIMIT ?2)"
                )
            };
            let sql = format!(
                "{} UNION ALL {} UNION ALL {} ORDER BY opened_at, seq",
                // An attempt that ended without a record.
                of("delivering", "AND ?1 IS NOT NULL"),
                of("accepted", ""),
                of("failing", "AND coalesce(next_attempt, 0) <= ?1"),
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let found = statement.query_map((now.as_micros(), limit), read_waiting)?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Rows in a state, interrupted or held, that they came to before `before`.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn stale(
        &self,
        state: State,
        before: Timestamp,
    ) -> Result<Vec<SubmissionId>, LedgerFault> {
        self.read(move |connection| {
            let mut statement = connection.prepare(
                "SELECT id FROM submissions WHERE state = ?1 AND moment < ?2
                 ORDER BY moment, seq",
            )?;
            let found = statement.query_map((state, before.as_micros()), |row| {
                Ok(row.get::<_, Parsed<SubmissionId>>(0)?.0)
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Rows *receiving* at a path.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn receiving_at(
        &self,
        partner: &PartnerId,
        path: &str,
    ) -> Result<Vec<SubmissionId>, LedgerFault> {
        let (partner, path) = (partner.to_string(), path.to_owned());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id FROM submissions WHERE partner = ?1 AND path = ?2 AND state = 'receiving'
                 ORDER BY moment, seq",
            )?;
            let found = statement.query_map((partner, path), |row| {
                Ok(row.get::<_, Parsed<SubmissionId>>(0)?.0)
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Files of a feed that were closed under a partial name before `before`, and not renamed.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn left_partial(
        &self,
        partner: &PartnerId,
        feed: &FeedId,
        before: Timestamp,
    ) -> Result<Vec<SubmissionId>, LedgerFault> {
        let (partner, feed) = (partner.to_string(), feed.to_string());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id FROM submissions WHERE partner = ?1 AND state = 'interrupted'
                     AND moment < ?3 AND feed = ?2 AND closed = 1
                 ORDER BY moment, seq",
            )?;
            let found = statement.query_map((partner, feed, before.as_micros()), |row| {
                Ok(row.get::<_, Parsed<SubmissionId>>(0)?.0)
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Whether such a file, which is in nobody's hands now, is still so.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn is_left_partial(
        &self,
        id: SubmissionId,
        before: Timestamp,
    ) -> Result<bool, LedgerFault> {
        let id = id.to_string();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT 1 FROM submissions
                 WHERE id = ?1 AND state = 'interrupted' AND moment < ?2 AND closed = 1",
            )?;
            Ok(statement.exists((id, before.as_micros()))?)
        })
        .await
    }

    /// Whether anything has come to this path since a moment, whatever became of it.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn came_since(
        &self,
        partner: &PartnerId,
        path: &str,
        since: Timestamp,
    ) -> Result<bool, LedgerFault> {
        let (partner, path) = (partner.to_string(), path.to_owned());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT 1 FROM submissions
                 WHERE partner = ?1 AND path = ?2
                     AND (state = 'interrupted' OR state NOT IN ('removed', 'expired')
                         AND coalesce(received_at, moment) > ?3)",
            )?;
            Ok(statement.exists((partner, path, since.as_micros()))?)
        })
        .await
    }

    /// Raw bytes in the spool of what nobody is writing: interrupted, received and not judged, held.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn spooled(&self) -> Result<Vec<(PartnerId, u64)>, LedgerFault> {
        self.read(|connection| {
            let sql = "SELECT partner, sum(bytes) AS bytes FROM (
                     SELECT partner, bytes FROM submissions
                     WHERE state IN ('interrupted', 'received', 'held')
                     UNION ALL
                     SELECT s.partner, r.bytes FROM rejects AS r
                     JOIN submissions AS s ON s.seq = r.submission)
                 GROUP BY partner";
            let mut statement = connection.prepare(sql)?;
            let found = statement.query_map([], |row| {
                Ok((row.get::<_, Parsed<_>>(0)?.0, unsigned(row, "bytes")?))
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Receipts of a partner decided since `since`, oldest first, at most `limit`: from the first, or
    /// those behind one that a page before ended with.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn receipts(
        &self,
        partner: &PartnerId,
        since: Timestamp,
        after: Option<SubmissionId>,
        limit: usize,
    ) -> Result<Vec<ReceiptEntry>, LedgerFault> {
        let behind = match after {
            Some(_) => {
                "AND (s.decided_at, s.seq) > (
                     SELECT l.decided_at, l.seq FROM submissions AS l WHERE l.id = ?3)"
            }
            None => "AND ?3 IS NULL",
        };
        let conditions = format!(
            "AND s.decided_at >= ?2 {behind} ORDER BY s.decided_at, s.seq LIMIT {}",
            i64::try_from(limit).unwrap_or(i64::MAX)
        );
        let after = after.map(|id| id.to_string());
        self.receipt_rows(partner, &conditions, since, after).await
    }

    /// The newest receipt of a partner decided since `since`, of tests or of production.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn newest_receipt(
        &self,
        partner: &PartnerId,
        tests: bool,
        since: Timestamp,
    ) -> Result<Option<ReceiptEntry>, LedgerFault> {
        let not = if tests { "" } else { "NOT" };
        let conditions = format!(
            "AND s.decided_at >= ?2 AND ?3 IS NULL AND {not} substr(s.path, 1, 6) = '/test/'
             ORDER BY s.decided_at DESC, s.seq DESC LIMIT 1"
        );
        let mut found = self.receipt_rows(partner, &conditions, since, None).await?;
        Ok(found.pop())
    }

    /// The receipt with this base name, decided since `since`.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn receipt_named(
        &self,
        partner: &PartnerId,
        base: &str,
        since: Timestamp,
    ) -> Result<Option<ReceiptEntry>, LedgerFault> {
        let conditions = "AND s.decided_at >= ?2 AND s.receipt_base = ?3 LIMIT 1";
        let base = Some(base.to_owned());
        let mut found = self.receipt_rows(partner, conditions, since, base).await?;
        Ok(found.pop())
    }

    /// How many receipts a partner has since `since`.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn receipts_count(
        &self,
        partner: &PartnerId,
        since: Timestamp,
    ) -> Result<u64, LedgerFault> {
        let partner = partner.to_string();
        self.read(move |connection| {
            let sql = "SELECT count(*) AS count FROM submissions
                 WHERE partner = ?1 AND receipt_base IS NOT NULL AND decided_at >= ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let since = since.as_micros();
            Ok(statement.query_row((&partner, since), |row| unsigned(row, "count"))?)
        })
        .await
    }

    /// `?1` is the partner, `?2` the moment, `?3` what else the conditions need.
    async fn receipt_rows(
        &self,
        partner: &PartnerId,
        conditions: &str,
        since: Timestamp,
        third: Option<String>,
    ) -> Result<Vec<ReceiptEntry>, LedgerFault> {
        let partner = partner.to_string();
        let sql = format!(
            "SELECT s.id, s.receipt_base, s.state, s.decided_at, length(r.text) AS text,
                 length(r.text_sig) AS text_sig, length(r.json) AS json,
                 length(r.json_sig) AS json_sig, coalesce(length(r.errors), 0) AS errors,
                 coalesce(length(r.errors_sig), 0) AS errors_sig, substr(s.path, 1, 6) = '/test/' AS is_test
             FROM submissions AS s JOIN receipts AS r ON r.submission = s.seq
             WHERE s.partner = ?1 AND s.receipt_base IS NOT NULL {conditions}"
        );
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let values = (&partner, since.as_micros(), &third);
            let found = statement.query_map(values, |row| {
                Ok(ReceiptEntry {
                    id: row.get::<_, Parsed<SubmissionId>>(0)?.0,
                    base: row.get(1)?,
                    rejected: row.get::<_, State>(2)? == State::Rejected,
                    decided_at: row.get::<_, At>(3)?.into(),
                    bytes: [
                        unsigned(row, "text")?,
                        unsigned(row, "text_sig")?,
                        unsigned(row, "json")?,
                        unsigned(row, "json_sig")?,
                        unsigned(row, "errors")?,
                        unsigned(row, "errors_sig")?,
                    ],
                    is_test: row.get("is_test")?,
                })
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// One document of a receipt.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn receipt(
        &self,
        partner: &PartnerId,
        id: SubmissionId,
        document: Document,
    ) -> Result<Option<Vec<u8>>, LedgerFault> {
        let asked = (partner.to_string(), id.to_string());
        let column = match document {
            Document::Text => "text",
            Document::TextSig => "text_sig",
            Document::Json => "json",
            Document::JsonSig => "json_sig",
            Document::Errors => "errors",
            Document::ErrorsSig => "errors_sig",
        };
        self.read(move |connection| {
            let sql = format!(
                "SELECT r.{column} FROM submissions AS s JOIN receipts AS r ON r.submission = s.seq
                 WHERE s.partner = ?1 AND s.id = ?2"
            );
            Ok(connection
                .query_row(&sql, asked, |row| row.get(0))
                .optional()?
                .flatten())
        })
        .await
    }

    /// Rows per state, for `status` and metrics.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn counts(&self) -> Result<Vec<(State, u64)>, LedgerFault> {
        self.read(|connection| {
            let sql = "SELECT state, count(*) AS count FROM submissions GROUP BY state";
            let mut statement = connection.prepare(sql)?;
            let found =
                statement.query_map([], |row| Ok((row.get(0)?, unsigned(row, "count")?)))?;
            let found: Vec<(State, u64)> = found.collect::<Result<_, _>>()?;
            let count = |state| {
                found
                    .iter()
                    .find(|(s, _)| *s == state)
                    .map_or(0, |(_, n)| *n)
            };
            Ok(State::ALL.map(|state| (state, count(state))).into())
        })
        .await
    }

    async fn first(
        &self,
        conditions: &str,
        values: Vec<Value>,
    ) -> Result<Option<Row>, LedgerFault> {
        let sql = format!("{SELECT} {conditions}");
        let found = self.find_by(|connection| Ok(select(connection, &sql, &values)?));
        Ok(found.await?.into_iter().next())
    }

    /// `conditions` is SQL of this file; what comes from outside is in `values`.
    async fn rows(&self, conditions: &str, values: Vec<Value>) -> Result<Vec<Row>, LedgerFault> {
        let sql = format!("{SELECT} {conditions}");
        self.read(move |connection| Ok(select(connection, &sql, &values)?))
            .await
    }
}

/// Id, state and next attempt, in this order.
fn read_waiting(row: &rusqlite::Row<'_>) -> Result<Waiting, rusqlite::Error> {
    Ok(Waiting {
        id: row.get::<_, Parsed<SubmissionId>>(0)?.0,
        state: row.get(1)?,
        next_attempt: row.get::<_, Option<At>>(2)?.map(Timestamp::from),
    })
}

/// The rule of what a partner sees in its inbox; `?2` is since when accepted ones are shown.
fn listed(alias: &str) -> String {
    format!(
        "{alias}.hidden = 0 AND {alias}.replaced = 0 AND ({alias}.state IN ({UNDECIDED})
             OR ({alias}.state IN ({ACCEPTED}) AND {alias}.moment >= ?2))"
    )
}

fn select(
    connection: &Connection,
    sql: &str,
    values: &[Value],
) -> Result<Vec<Row>, rusqlite::Error> {
    connection
        .prepare_cached(sql)?
        .query_map(rusqlite::params_from_iter(values), read_row)?
        .collect()
}

fn read_row(row: &rusqlite::Row<'_>) -> Result<Row, rusqlite::Error> {
    let at =
        |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<At>>(column)?.map(Timestamp::from));
    let key = |column| {
        let slot: Option<Vec<u8>> = row.get(column)?;
        Ok::<_, rusqlite::Error>(slot.and_then(|slot| slots::key_in(&slot)))
    };
    Ok(Row {
        id: row.get::<_, Parsed<_>>("id")?.0,
        partner: row.get::<_, Parsed<_>>("partner")?.0,
        feed: row.get::<_, Parsed<_>>("feed")?.0,
        path: row.get("path")?,
        name: row.get("name")?,
        origin: Origin {
            channel: row.get("channel")?,
            address: row.get("address")?,
            client: row.get("client")?,
            key: row.get("fingerprint")?,
        },
        policy_version: row.get("policy_version")?,
        policy_hash: row.get("policy_hash")?,
        state: row.get("state")?,
        opened_at: row.get::<_, At>("opened_at")?.into(),
        moment: row.get::<_, At>("moment")?.into(),
        received_at: at("received_at")?,
        decided_at: at("decided_at")?,
        delivered_at: at("delivered_at")?,
        bytes: unsigned(row, "bytes")?,
        digest: row.get::<_, Option<Stored>>("content_digest")?.map(|d| d.0),
        old_digests: OldDigests {
            md5: row.get("md5")?,
            sha1: row.get("sha1")?,
        },
        mtime: row.get("mtime")?,
        rows: unsigned(row, "data_rows")?,
        errors_total: unsigned(row, "errors_total")?,
        rows_left_out: unsigned(row, "rows_left_out")?,
        codes: row.get::<_, Json<_>>("codes")?.0,
        raw_key: key("raw_wrapped")?,
        raw: lane(row, "raw_digest", "raw_bytes", "raw_sealed")?,
        out_key: key("out_wrapped")?,
        out: lane(row, "out_digest", "out_bytes", "out_sealed")?,
        out_lane: if row.get_ref("out_lane")?.as_str()? == "raw" {
            Lane::Raw
        } else {
            Lane::Out
        },
        out_digest: row.get::<_, Option<Stored>>("object_digest")?.map(|d| d.0),
        store: row.get("store")?,
        key: row.get("object_key")?,
        metadata: row.get::<_, Json<_>>("metadata")?.0,
        attempts: row.get("attempts")?,
        next_attempt: at("next_attempt")?,
        last_error: row.get("last_error")?,
        receipt_base: row.get("receipt_base")?,
        known_as: row.get::<_, Option<Parsed<_>>>("known_as")?.map(|id| id.0),
        replaced: row.get("replaced")?,
        left_out: bytes_of(row, "left_out")?,
        instead_of: row
            .get::<_, Option<Parsed<_>>>("instead_of")?
            .map(|id| id.0),
        hidden: row.get("hidden")?,
        closed: row.get("closed")?,
        decision: row.get("decision")?,
        declared: bytes_of(row, "declared_bytes")?,
        set: bytes_of(row, "set_bytes")?,
        cut: bytes_of(row, "cut_bytes")?,
        over: bytes_of(row, "over_bytes")?,
    })
}

fn bytes_of(row: &rusqlite::Row<'_>, column: &str) -> Result<Option<u64>, rusqlite::Error> {
    let bytes: Option<i64> = row.get(column)?;
    Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()))
}

pub(super) fn lane(
    row: &rusqlite::Row<'_>,
    digest: &str,
    bytes: &str,
    sealed: &str,
) -> Result<Option<SealedLane>, rusqlite::Error> {
    let Some(tag_digest) = row.get(digest)? else {
        return Ok(None);
    };
    Ok(Some(SealedLane {
        bytes: unsigned(row, bytes)?,
        tag_digest,
        inline: row.get(sealed)?,
    }))
}

/// A moment in a column.
struct At(Timestamp);

/// A term in a text column.
pub(super) struct Parsed<T>(pub(super) T);

/// A list in a text column.
struct Json<T>(T);

/// A digest in a column: 32 bytes of SHA-256, or one byte for another function and 32 of its own.
pub(super) struct Stored(pub(super) Digest);

/// The multihash code of BLAKE3 (multiformats table).
const BLAKE3: u8 = 0x1e;

// === impl Stored ===

impl Stored {
    pub(super) fn to_blob(&self) -> Vec<u8> {
        match self.0.kind {
            DigestKind::Sha256 => self.0.bytes.to_vec(),
            DigestKind::Blake3 => [&[BLAKE3][..], &self.0.bytes].concat(),
        }
    }
}

impl ToSql for Stored {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, rusqlite::Error> {
        Ok(self.to_blob().into())
    }
}

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let (kind, bytes) = match value.as_blob()? {
            [BLAKE3, rest @ ..] if rest.len() == 32 => (DigestKind::Blake3, rest),
            bytes => (DigestKind::Sha256, bytes),
        };
        let size = bytes.len();
        let bytes = bytes
            .try_into()
            .map_err(|_| FromSqlError::InvalidBlobSize {
                expected_size: 32,
                blob_size: size,
            })?;
        Ok(Self(Digest { kind, bytes }))
    }
}

// === impl At, Parsed, Json ===

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(Timestamp::from_micros(value.as_i64()?)))
    }
}

impl From<At> for Timestamp {
    fn from(at: At) -> Self {
        at.0
    }
}

impl<T: Term> FromSql for Parsed<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        T::of(value.as_str()?)
            .map(Self)
            .map_err(FromSqlError::other)
    }
}

impl<T: serde::de::DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?)
            .map(Self)
            .map_err(FromSqlError::other)
    }
}

/// What can be parsed from its text; the ledger checks what it reads back.
pub(super) trait Term: Sized {
    fn of(text: &str) -> Result<Self, BadTerm>;
}

impl Term for SubmissionId {
    fn of(text: &str) -> Result<Self, BadTerm> {
        Self::parse(text)
    }
}

impl Term for PartnerId {
    fn of(text: &str) -> Result<Self, BadTerm> {
        Self::from_str(text)
    }
}

impl Term for FeedId {
    fn of(text: &str) -> Result<Self, BadTerm> {
        Self::from_str(text)
    }
}

const SELECT: &str = "SELECT s.*, rk.wrapped AS raw_wrapped, ok.wrapped AS out_wrapped,
     ri.sealed AS raw_sealed, oi.sealed AS out_sealed, lo.bytes AS left_out
 FROM submissions AS s
     LEFT JOIN key_slots AS rk ON rk.slot = s.raw_slot
     LEFT JOIN key_slots AS ok ON ok.slot = s.out_slot
     LEFT JOIN inlines AS ri ON ri.number = s.raw_inline
     LEFT JOIN inlines AS oi ON oi.number = s.out_inline
     LEFT JOIN rejects AS lo ON lo.submission = s.seq";
const ACCEPTED: &str = "'accepted', 'delivering', 'delivered', 'failing'";
const UNDECIDED: &str = "'interrupted', 'received', 'held'";
const UNSETTLED: &str = "'receiving', 'received', 'accepted', 'delivering', 'failing'";
/// Rows of a list that names no limit.
const LIST_ROWS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{
        Desk, acceptance, accepted, acme, at, beginning, digest, id, orders, partial, rejected,
        whole,
    };
    use crate::ledger::submissions::{Beginning, Settlement};

    fn ids(rows: &[Row]) -> Vec<SubmissionId> {
        rows.iter().map(|row| row.id).collect()
    }

    /// The submission `n` at the path all of these tests speak of.
    fn here(n: u32) -> Beginning {
        Beginning {
            path: "/inbox/a.csv".to_owned(),
            ..beginning(n)
        }
    }

    fn decided(settlement: Settlement, seconds: i64) -> Settlement {
        Settlement {
            decided_at: at(seconds),
            ..settlement
        }
    }

    #[tokio::test]
    async fn a_row_is_found_by_the_end_of_its_printed_id() {
        let desk = Desk::new();
        for n in 1..=5 {
            desk.ledger
                .begin(beginning(n), Default::default)
                .await
                .unwrap();
        }
        let find = |suffix: String| {
            let ledger = desk.ledger.clone();
            async move { ids(&ledger.find(&suffix).await.unwrap()) }
        };
        let printed = id(3).to_string();
        assert_eq!(find(id(3).short()).await, [id(3)]);
        assert_eq!(find(id(3).short().to_lowercase()).await, [id(3)]);
        assert_eq!(find(printed.clone()).await, [id(3)]);
        assert_eq!(find(printed.to_uppercase()).await, [id(3)]);
        assert_eq!(find(printed.chars().skip(29).collect()).await, [id(3)]);
        let none: [SubmissionId; 0] = [];
        for strange in ["", "sub_", "%", "_", "' OR 1=1 --", "ZZZZ", "3\0"] {
            assert_eq!(find(strange.to_owned()).await, none, "{strange}");
        }
        // Five end differently, and begin the same.
        assert_eq!(find(printed.chars().take(20).collect()).await, none);
    }

    #[tokio::test]
    async fn at_most_three_are_found() {
        let desk = Desk::new();
        for n in 0..5 {
            let mut one = beginning(n);
            one.id = SubmissionId::new(at(i64::from(n)), [1; 10]);
            desk.ledger.begin(one, Default::default).await.unwrap();
        }
        let suffix = SubmissionId::new(at(0), [1; 10]).short();
        assert_eq!(desk.ledger.find(&suffix).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_list_is_newest_first_and_filters_by_everything() {
        let desk = Desk::new();
        let globex = PartnerId::parse("globex").unwrap();
        let stock = FeedId::parse("stock").unwrap();
        for n in 1..=4 {
            desk.ledger.settle(beginning(n), accepted(n)).await.unwrap();
        }
        desk.ledger.settle(beginning(5), rejected(5)).await.unwrap();
        let mut other = beginning(6);
        other.partner = globex.clone();
        other.feed = stock.clone();
        desk.ledger.begin(other, Default::default).await.unwrap();
        let list = |filter: Filter| {
            let ledger = desk.ledger.clone();
            async move { ids(&ledger.list(filter).await.unwrap()) }
        };
        let any = Filter::default;
        assert_eq!(list(any()).await, [6, 5, 4, 3, 2, 1].map(id));
        let partner = Some(globex);
        assert_eq!(list(Filter { partner, ..any() }).await, [id(6)]);
        let feed = Some(stock);
        assert_eq!(list(Filter { feed, ..any() }).await, [id(6)]);
        let state = Some(State::Rejected);
        assert_eq!(list(Filter { state, ..any() }).await, [id(5)]);
        let since = Some(at(5));
        assert_eq!(list(Filter { since, ..any() }).await, [id(6), id(5)]);
        assert_eq!(list(Filter { limit: 2, ..any() }).await, [id(6), id(5)]);
        let all = Filter {
            partner: Some(acme()),
            feed: Some(orders()),
            state: Some(State::Accepted),
            left_out: false,
            since: Some(at(2)),
            after: None,
            limit: 2,
        };
        assert_eq!(list(all.clone()).await, [id(4), id(3)]);
        let after = Some(id(3));
        assert_eq!(list(Filter { after, ..all }).await, [id(2)]);
        let after = Some(id(1));
        assert_eq!(list(Filter { after, ..any() }).await, []);
    }

    #[tokio::test]
    async fn the_inbox_shows_what_is_unfinished_whole_or_lately_accepted() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        ledger.begin(beginning(1), Default::default).await.unwrap();
        ledger.interrupt(beginning(2), partial(2)).await.unwrap();
        ledger.receive(beginning(3), whole(3)).await.unwrap();
        ledger.settle(beginning(4), rejected(4)).await.unwrap();
        ledger
            .settle(beginning(5), decided(accepted(5), 1000))
            .await
            .unwrap();
        ledger
            .settle(beginning(6), decided(accepted(6), 50))
            .await
            .unwrap();
        ledger
            .settle(beginning(7), decided(accepted(7), 1001))
            .await
            .unwrap();
        ledger.hide(id(7)).await.unwrap();
        ledger
            .settle(beginning(8), decided(accepted(8), 1002))
            .await
            .unwrap();
        ledger.deliver(id(8)).await.unwrap();
        ledger
            .delivered(id(8), "lake:x".to_owned(), at(1003))
            .await
            .unwrap();
        let mut newer = decided(accepted(9), 1004);
        acceptance(&mut newer).replaces = Some(id(5));
        ledger.settle(beginning(9), newer).await.unwrap();
        let mut foreign = beginning(10);
        foreign.partner = PartnerId::parse("globex").unwrap();
        ledger.interrupt(foreign, partial(10)).await.unwrap();

        let shown = [id(2), id(3), id(8), id(9)];
        assert_eq!(ids(&ledger.listed(&acme(), at(1000)).await.unwrap()), shown);
        // The same rule path by path.
        for n in 1..=10 {
            let path = beginning(n).path;
            let found = ledger.at_path(&acme(), &path, at(1000)).await.unwrap();
            let expect = Some(id(n)).filter(|id| shown.contains(id));
            assert_eq!(found.map(|row| row.id), expect, "{n}");
        }
    }

    #[tokio::test]
    async fn a_rejection_is_told_until_something_newer_lies_at_its_path() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        let told = |since| {
            let ledger = ledger.clone();
            async move {
                let row = ledger
                    .rejected_at(&acme(), "/inbox/a.csv", at(since))
                    .await
                    .unwrap();
                row.map(|row| row.id)
            }
        };
        ledger
            .settle(here(1), decided(accepted(1), 10))
            .await
            .unwrap();
        assert_eq!(told(0).await, None);
        ledger
            .settle(here(2), decided(rejected(2), 20))
            .await
            .unwrap();
        assert_eq!(told(0).await, Some(id(2)));
        assert_eq!(told(20).await, Some(id(2)));
        assert_eq!(told(21).await, None);
        // The earlier version is still what lies there.
        let there = ledger
            .at_path(&acme(), "/inbox/a.csv", at(0))
            .await
            .unwrap();
        assert_eq!(there.unwrap().id, id(1));
        ledger
            .settle(here(3), decided(rejected(3), 30))
            .await
            .unwrap();
        assert_eq!(told(0).await, Some(id(3)));
        ledger
            .settle(here(4), decided(accepted(4), 40))
            .await
            .unwrap();
        assert_eq!(told(0).await, None);
        ledger
            .settle(here(5), decided(rejected(5), 50))
            .await
            .unwrap();
        assert_eq!(told(0).await, Some(id(5)));
        ledger.hide(id(5)).await.unwrap();
        assert_eq!(told(0).await, None);
    }

    #[tokio::test]
    async fn content_without_some_rows_is_known_by_its_object() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        // The first time one row was left out, the second time another, the third time none.
        for (n, left_out) in [(1, 1), (2, 1), (3, 0)] {
            let mut settlement = decided(accepted(n), i64::from(n) * 10);
            settlement.whole.digest = digest(50);
            settlement.rows_left_out = left_out;
            acceptance(&mut settlement).out_digest = Some(digest(60 + n));
            for other in 1..=n {
                let row = ledger
                    .accepted_content(&acme(), &orders(), digest(50), digest(60 + other))
                    .await
                    .unwrap();
                let expect = (other < n).then(|| id(other));
                assert_eq!(row.map(|row| row.id), expect);
            }
            ledger.settle(beginning(n), settlement).await.unwrap();
        }
        let whole = ledger
            .accepted_content(&acme(), &orders(), digest(50), digest(99))
            .await
            .unwrap();
        assert_eq!(whole.map(|row| row.id), Some(id(3)));
    }

    #[tokio::test]
    async fn content_is_known_by_partner_feed_and_digest_once_it_has_an_object() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        let known = |n| {
            let ledger = ledger.clone();
            async move {
                let row = ledger
                    .accepted_content(&acme(), &orders(), digest(n), digest(99))
                    .await
                    .unwrap();
                row.map(|row| row.id)
            }
        };
        ledger.settle(beginning(1), rejected(1)).await.unwrap();
        assert_eq!(known(1).await, None);
        ledger.settle(beginning(2), accepted(2)).await.unwrap();
        assert_eq!(known(2).await, Some(id(2)));
        let mut same = decided(accepted(3), 100);
        same.whole.digest = digest(2);
        let acceptance = acceptance(&mut same);
        acceptance.known_as = Some(id(2));
        ledger.settle(beginning(3), same).await.unwrap();
        ledger.deliver(id(2)).await.unwrap();
        ledger
            .delivered(id(2), "lake:x".to_owned(), at(9))
            .await
            .unwrap();
        assert_eq!(known(2).await, Some(id(2)));
        let globex = PartnerId::parse("globex").unwrap();
        let stock = FeedId::parse("stock").unwrap();
        let foreign = ledger
            .accepted_content(&globex, &orders(), digest(2), digest(99))
            .await
            .unwrap();
        assert_eq!(foreign, None);
        assert_eq!(
            ledger
                .accepted_content(&acme(), &stock, digest(2), digest(99))
                .await
                .unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn what_waits_is_told_oldest_first() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        for n in [3, 1] {
            ledger.begin(beginning(n), Default::default).await.unwrap();
        }
        ledger.receive(beginning(2), whole(2)).await.unwrap();
        for n in [4, 5, 6, 7] {
            ledger.settle(beginning(n), accepted(n)).await.unwrap();
        }
        for n in [5, 6, 7] {
            ledger.deliver(id(n)).await.unwrap();
        }
        ledger
            .failing(id(6), "503".to_owned(), at(99))
            .await
            .unwrap();
        ledger
            .delivered(id(7), "lake:x".to_owned(), at(9))
            .await
            .unwrap();
        ledger.settle(beginning(8), rejected(8)).await.unwrap();
        ledger.interrupt(beginning(9), partial(9)).await.unwrap();
        let expect = [1, 2, 3, 4, 5, 6].map(id);
        assert_eq!(ids(&ledger.unsettled().await.unwrap()), expect);
        let waiting = ledger.waiting().await.unwrap();
        assert_eq!(waiting.iter().map(|w| w.id).collect::<Vec<_>>(), expect);
        assert_eq!(
            (waiting[5].state, waiting[5].next_attempt),
            (State::Failing, Some(at(99)))
        );
        let counts = ledger.counts().await.unwrap();
        assert_eq!(counts.len(), State::ALL.len());
        assert!(counts.contains(&(State::Receiving, 2)) && counts.contains(&(State::Expired, 0)));
        assert_eq!(counts.iter().map(|(_, n)| n).sum::<u64>(), 9);
    }

    #[tokio::test]
    async fn an_interrupted_row_is_stale_from_when_it_was_cut_off() {
        let desk = Desk::new();
        for n in [2, 1] {
            desk.ledger
                .interrupt(beginning(n), partial(n))
                .await
                .unwrap();
        }
        let none: [SubmissionId; 0] = [];
        assert_eq!(
            desk.ledger.stale(State::Interrupted, at(2)).await.unwrap(),
            none
        );
        assert_eq!(
            desk.ledger.stale(State::Interrupted, at(3)).await.unwrap(),
            [id(1)]
        );
        assert_eq!(
            desk.ledger.stale(State::Interrupted, at(4)).await.unwrap(),
            [id(1), id(2)]
        );
    }

    #[tokio::test]
    async fn receipts_are_their_partners_own() {
        let desk = Desk::new();
        let ledger = &desk.ledger;
        ledger.settle(beginning(2), accepted(2)).await.unwrap();
        ledger.settle(beginning(1), rejected(1)).await.unwrap();
        ledger.begin(beginning(3), Default::default).await.unwrap();
        let found = ledger.receipts(&acme(), at(4), None, 100).await.unwrap();
        let expect = |n: u32, rejected| ReceiptEntry {
            id: id(n),
            base: accepted(n).receipt.base,
            rejected,
            decided_at: at(i64::from(n) + 3),
            bytes: [10, 17, 22, 17, 0, 0],
            is_test: false,
        };
        assert_eq!(found, [expect(1, true), expect(2, false)]);
        assert_eq!(
            ledger
                .receipts(&acme(), at(5), None, 100)
                .await
                .unwrap()
                .len(),
            1
        );
        for (document, content) in [
            (Document::Text, &b"accepted\r\n"[..]),
            (Document::TextSig, b"signature of text"),
            (Document::Json, b"{\"verdict\":\"accepted\"}"),
            (Document::JsonSig, b"signature of json"),
        ] {
            let read = ledger.receipt(&acme(), id(2), document).await.unwrap();
            assert_eq!(read.as_deref(), Some(content));
        }
        let globex = PartnerId::parse("globex").unwrap();
        assert_eq!(
            ledger.receipts(&globex, at(0), None, 100).await.unwrap(),
            []
        );
        let foreign = ledger
            .receipt(&globex, id(2), Document::Text)
            .await
            .unwrap();
        assert_eq!(foreign, None);
        assert_eq!(
            ledger
                .receipt(&acme(), id(3), Document::Text)
                .await
                .unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn names_that_look_like_sql_are_only_names() {
        let desk = Desk::new();
        let names = [
            "'); DROP TABLE submissions; --.csv",
            "\" OR \"\"=\".csv",
            "%_?1:path@x$y.csv",
            "a\u{0}b.csv",
        ];
        for (n, name) in (1..).zip(names) {
            let mut one = beginning(n);
            one.name = name.to_owned();
            one.path = format!("/inbox/{name}");
            one.origin.client = name.to_owned();
            desk.ledger.settle(one.clone(), accepted(n)).await.unwrap();
            let found = desk
                .ledger
                .at_path(&acme(), &one.path, at(0))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                (found.id, found.name, found.path),
                (id(n), one.name, one.path)
            );
        }
        assert_eq!(desk.ledger.listed(&acme(), at(0)).await.unwrap().len(), 4);
        assert_eq!(
            desk.ledger
                .at_path(&acme(), "/inbox/%", at(0))
                .await
                .unwrap(),
            None
        );
    }
}
