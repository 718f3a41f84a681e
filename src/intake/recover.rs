//! After a crash: every row that is between two states is ended, in the background.
//!
//! A row *receiving* had no answer: it becomes *interrupted*, resumable. A row *received* was
//! promised a verdict: it is judged. A row *held* waits for a person, until its time is over. A row *delivering* is tried again; the store tells whether
//! the earlier attempt had succeeded. Files the ledger does not know are noise without a key.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Instant, sleep};

use crate::authority::places::Area;
use crate::depot::spool::{SpoolFault, SpoolReader};
use crate::inspect::report::Sample;
use crate::intake::hold::{Hold, LOOK_EVERY, LiveFile};
use crate::intake::inspection::{Effort, Inspected, InspectionFault, blocking, digest_of};
use crate::intake::keyring::Purpose;
use crate::intake::settle::{Case, UploadFault, inspect, is_accepted};
use crate::intake::submission::{Ending, Unjudged, over_when_cut_off};
use crate::intake::{Intake, Refusal, micros};
use crate::ledger::LedgerFault;
use crate::ledger::submissions::{Beginning, Row, State};
use crate::policy::feed::Feed;
use crate::seal::Lane;
use crate::telemetry::Event;
use crate::terms::clock::Timestamp;
use crate::terms::digest::Digest;
use crate::terms::ids::{PartnerId, SubmissionId};
use crate::terms::limits;
use crate::terms::verdict::Verdict;

/// Why a row could not be ended; the next start tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecoverFault {
    #[error(transparent)]
    Inspection(#[from] InspectionFault),
    #[error(transparent)]
    Key(#[from] crate::intake::keyring::KeyFault),
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    #[error("the row lacks its raw key or lane")]
    NoRaw,
    #[error(
        "partner {0} or its feed is no longer in the policies; put the policy back to have the file judged"
    )]
    NoPolicy(String),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Spool(#[from] SpoolFault),
}

// === impl Intake ===

impl Intake {
    /// Sweeps what an earlier run left and nobody knows. Call it once, before the first connection
    /// is taken; [`Intake::tend`] then ends what is between two states, in the background.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn recover(&self) -> Result<(), LedgerFault> {
        for (partner, key, kind) in self.0.ledger.old_digests_wanted().await? {
            self.remember_old_kind(&partner, &key, kind);
        }
        for (partner, bytes) in self.0.ledger.spooled().await? {
            self.0.quota.add(&partner, bytes);
        }
        let waiting = self.0.ledger.waiting().await?;
        let far_future = Timestamp::from_micros(i64::MAX);
        let mut keep: HashSet<(SubmissionId, Lane)> = HashSet::new();
        for one in &waiting {
            keep.extend([(one.id, Lane::Raw), (one.id, Lane::Out)]);
        }
        for state in [State::Interrupted, State::Held] {
            let ids = self.0.ledger.stale(state, far_future).await?;
            keep.extend(ids.into_iter().map(|id| (id, Lane::Raw)));
        }
        let left_out = self.0.ledger.rejects_kept(far_future).await?;
        keep.extend(left_out.into_iter().map(|kept| (kept.id, Lane::Rejects)));
        self.sweep(keep).await;
        for store in self.0.stores.values() {
            match store.sweep().await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(event = Event::StoreSwept.as_str(), store = %store.name(), count);
                }
                Err(fault) => {
                    tracing::warn!(event = Event::StoreUnswept.as_str(), store = %store.name(), %fault);
                }
            }
        }
        Ok(())
    }

    /// Moves on what nobody is at work on: rows *receiving* or *received* whose upload has ended
    /// without a record, and interrupted ones whose time is over. Call it at the start, and then
    /// every minute.
    ///
    /// # Errors
    /// The ledger cannot be read; single rows that fail are logged and tried again.
    pub async fn tend(&self) -> Result<(), LedgerFault> {
        self.expire().await?;
        self.purge().await?;
        let mut waiting = self.0.ledger.waiting().await?;
        // What was being sent comes first: its client may want to go on, and that takes no time.
        waiting.sort_by_key(|one| one.state != State::Receiving);
        for one in waiting {
            if one.state != State::Receiving {
                self.0.has_cut_off.store(true, Ordering::Release);
            }
            if self.is_owned(one.id) {
                continue;
            }
            // One at a time: what is waited for here may be large.
            let done = match one.state {
                State::Receiving => self.cut_off(one.id).await,
                State::Received => Box::pin(self.rejudge(one.id)).await,
                State::Accepted
                | State::Delivering
                | State::Failing
                | State::Interrupted
                | State::Held
                | State::Delivered
                | State::Rejected
                | State::Expired
                | State::Removed => continue,
            };
            match done {
                Ok(()) => {
                    tracing::info!(event = Event::SubmissionRecovered.as_str(), submission = %one.id);
                }
                // Its path is in use again; it is tried later.
                Err(RecoverFault::Refused(refusal)) => {
                    tracing::info!(event = Event::SubmissionUnrecovered.as_str(), submission = %one.id, why = %refusal);
                }
                Err(fault) => {
                    tracing::error!(event = Event::SubmissionUnrecovered.as_str(), submission = %one.id, %fault);
                }
            }
        }
        self.0.has_cut_off.store(true, Ordering::Release);
        Ok(())
    }

    /// What an earlier process was receiving at a path is cut off before anybody looks there: until
    /// [`Intake::tend`] has come by it, it would not be seen.
    pub(super) async fn cut_off_at(&self, partner: &PartnerId, path: &str) -> Result<(), Refusal> {
        if self.0.has_cut_off.load(Ordering::Acquire) {
            return Ok(());
        }
        let broken = |fault: &dyn std::fmt::Display| Refusal::ours("look what came before", fault);
        let ledger = &self.0.ledger;
        let found = ledger.receiving_at(partner, path).await;
        for id in found.map_err(|fault| broken(&fault))? {
            let begun = Instant::now();
            while self.is_mended(id) && begun.elapsed() < limits::CUT_WITHIN {
                sleep(LOOK_EVERY).await;
            }
            if self.is_owned(id) {
                continue;
            }
            match self.cut_off(id).await {
                // Somebody else is at it.
                Ok(()) | Err(RecoverFault::Refused(_)) => {}
                Err(fault) => return Err(broken(&fault)),
            }
        }
        Ok(())
    }

    /// A row as it is now, with its path held, when it is still in this state.
    pub(super) async fn claim(
        &self,
        id: SubmissionId,
        state: State,
    ) -> Result<Option<(Row, Hold)>, RecoverFault> {
        let Some(row) = self.0.ledger.submission(id).await? else {
            return Ok(None);
        };
        let file = LiveFile::new(row.bytes);
        let hold = self.hold(&row.partner, &row.path, "an earlier session", &file)?;
        hold.own(id);
        // Read again under the hold: its upload may have ended it meanwhile.
        let row = self.0.ledger.submission(id).await?;
        Ok(row.filter(|row| row.state == state).map(|row| (row, hold)))
    }

    /// Destroys interrupted submissions whose time to resume is over.
    ///
    /// # Errors
    /// The ledger.
    async fn expire(&self) -> Result<(), LedgerFault> {
        let before = self
            .now()
            .plus_micros(-micros(self.0.spool_config.partial_ttl_secs));
        let ledger = &self.0.ledger;
        for id in ledger.stale(State::Interrupted, before).await? {
            // Held, and looked at again: it may be resumed at this moment.
            let Ok(Some((row, _hold))) = self.claim(id, State::Interrupted).await else {
                continue;
            };
            let still = ledger.stale(State::Interrupted, before).await?;
            if !still.contains(&id) {
                continue;
            }
            if let Err(fault) = self.0.ledger.expire(id).await {
                tracing::error!(event = Event::SubmissionUnrecovered.as_str(), submission = %id, %fault);
                continue;
            }
            self.0.quota.give_back(&row.partner, row.bytes);
            self.unlink(id, &Lane::ALL).await;
            tracing::info!(event = Event::SubmissionExpired.as_str(), submission = %id);
        }
        Ok(())
    }

    /// `receiving`: nobody was told anything; what is on disk can be resumed.
    async fn cut_off(&self, id: SubmissionId) -> Result<(), RecoverFault> {
        let Some((row, _hold)) = self.claim(id, State::Receiving).await? else {
            return Ok(());
        };
        let there = self
            .0
            .ledger
            .at_path(&row.partner, &row.path, self.visible_since())
            .await?;
        let is_newer = |newer: &Row| newer.id != id && newer.came_at() > row.moment;
        if there.as_ref().is_some_and(is_newer) {
            // A newer file has taken its place; nothing of this one was acknowledged.
            return Ok(self.discard(&row).await?);
        }
        let wrapped = row.raw_key.clone().ok_or(RecoverFault::NoRaw)?;
        let is_taken = |row: &Row| is_accepted(row.state) || row.state == State::Held;
        let is_over_taken = there.as_ref().is_some_and(is_taken) && row.over.is_some();
        let is_as_opened = is_over_taken && row.set.is_none() && row.cut.is_none();
        let key = self
            .0
            .keyring
            .open_data_key(row.id, Purpose::Raw, &wrapped)?;
        let (spool, id) = (self.0.spool.clone(), row.id);
        // One that was closed is as long as it was shown to be, perhaps cut by its path.
        let most = if row.closed {
            row.bytes
        } else {
            row.cut.unwrap_or(u64::MAX)
        };
        let inline = row.raw.as_ref().and_then(|raw| raw.inline.clone());
        let found = blocking(move || {
            spool
                .resume(id, Lane::Raw, &key, inline.as_deref())
                .and_then(|mut raw| {
                    let bytes = raw.contiguous().min(most);
                    let sealed = raw.finish()?;
                    raw.sync()?;
                    Ok((sealed, bytes))
                })
        })
        .await?;
        let (sealed, bytes) = match found {
            Ok(found) => found,
            // Nothing was acknowledged, and what is there is of no use to anybody.
            Err(SpoolFault::Damaged { .. }) => return Ok(self.discard(&row).await?),
            Err(SpoolFault::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(self.discard(&row).await?);
            }
            Err(fault) => return Err(fault.into()),
        };
        if is_as_opened && row.declared.is_none() && bytes == 0 {
            // Opened over a file that was taken, and nothing written: that one is as it was.
            return Ok(self.discard(&row).await?);
        }
        let unjudged = Unjudged {
            beginning: Beginning {
                over: over_when_cut_off(row.over, row.cut, row.set.filter(|set| *set > bytes)),
                ..beginning_of(&row, wrapped)
            },
            raw_inline: sealed.inline,
            mtime: row.mtime,
            bytes,
            // A size that was set is taken back by what was written past it.
            declared: row
                .set
                .filter(|set| *set > bytes)
                .or(row.declared)
                .filter(|_| row.cut.is_none()),
            at: row.moment,
            // It was being judged when the process died, and still has its partial name.
            ending: if row.closed {
                Ending::Closed
            } else {
                Ending::CutOff
            },
        };
        self.interrupt(unjudged).await?;
        self.0.quota.add(&row.partner, bytes);
        Ok(())
    }

    /// `received`: whole and durable, a verdict was promised.
    async fn rejudge(&self, id: SubmissionId) -> Result<(), RecoverFault> {
        let Some((row, _hold)) = self.claim(id, State::Received).await? else {
            return Ok(());
        };
        let (mut case, reader) = self.reopen(&row, Arc::clone).await?;
        let (inspected, digest) = self.look(&mut case, reader).await?;
        // Accepted or rejected: the partner reads it in the receipt.
        let mut share = Some(self.0.quota.share(&row.partner, None, row.bytes));
        drop(self.settle(case, inspected, digest, &mut share).await);
        if let Some(share) = share {
            share.leave(row.bytes);
        }
        Ok(())
    }

    /// A whole file of an earlier session as a case again, under the policy now in force; `feed_of`
    /// may change its feed.
    pub(super) async fn reopen(
        &self,
        row: &Row,
        feed_of: impl FnOnce(&Arc<Feed>) -> Arc<Feed>,
    ) -> Result<(Case, SpoolReader), RecoverFault> {
        let gone = || RecoverFault::NoPolicy(row.partner.to_string());
        let policy = self.0.authority.policy(&row.partner).ok_or_else(gone)?;
        let feed = feed_of(policy.feed(&row.feed).ok_or_else(gone)?);
        let wrapped = row.raw_key.clone().ok_or(RecoverFault::NoRaw)?;
        let raw_key = self
            .0
            .keyring
            .open_data_key(row.id, Purpose::Raw, &wrapped)?;
        let raw = row.raw.clone().ok_or(RecoverFault::NoRaw)?;
        let keyring = &self.0.keyring;
        let keys = match Area::of(&row.path) {
            Area::Production => keyring.token_keys(&row.partner, &feed.contract).await?,
            Area::Test => keyring.throw_away_keys(&feed.contract)?,
        };
        let (setup, out_key_wrapped) =
            self.setup(row.id, &row.partner, &row.origin.key, &feed, keys)?;
        let (spool, id, sealed) = (self.0.spool.clone(), row.id, raw.clone());
        let reader = blocking(move || spool.read(id, Lane::Raw, &raw_key, &sealed)).await??;
        let mut faults = Vec::new();
        if reader.available() < raw.bytes {
            let detail = format!("bytes from {} on were not all sent", reader.available());
            let sample = Sample {
                detail,
                ..Sample::default()
            };
            faults.push(UploadFault::incomplete(
                Verdict::Rejected,
                "no gaps",
                sample,
            ));
        }
        let mut beginning = beginning_of(row, wrapped);
        beginning.policy_version = policy.version;
        beginning.policy_hash = policy.hash;
        let case = Case {
            beginning,
            policy,
            feed,
            setup,
            out_key: out_key_wrapped,
            raw,
            file: None,
            old_digests: row.old_digests.clone(),
            received_at: row.received_at.unwrap_or(row.opened_at),
            faults,
            decision: None,
            instead_of: None,
            untaken: None,
        };
        Ok((case, reader))
    }

    /// Digests and inspects a case that was opened again.
    pub(super) async fn look(
        &self,
        case: &mut Case,
        reader: SpoolReader,
    ) -> Result<(Inspected, Digest), RecoverFault> {
        let raw_reader = reader.clone();
        let hasher = case.setup.hasher();
        let made = blocking(move || digest_of(&raw_reader, hasher, u64::MAX)).await??;
        case.old_digests = made.old;
        let inspected = inspect(Effort::Large, None, case.setup.clone(), reader, None).await?;
        Ok((inspected, made.digest))
    }

    async fn sweep(&self, keep: HashSet<(SubmissionId, Lane)>) {
        let spool = self.0.spool.clone();
        let swept = blocking(move || {
            let mut count = 0_u64;
            for (id, lane) in spool.list()? {
                if !keep.contains(&(id, lane)) {
                    spool.remove(id, lane)?;
                    count = count.saturating_add(1);
                }
            }
            Ok::<u64, SpoolFault>(count)
        })
        .await;
        match swept {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::info!(event = Event::SpoolSwept.as_str(), count),
            Ok(Err(fault)) => tracing::warn!(event = Event::SpoolUnswept.as_str(), %fault),
            Err(fault) => tracing::warn!(event = Event::SpoolUnswept.as_str(), %fault),
        }
    }
}

/// The row's own facts, as they were when its first byte arrived.
pub(super) fn beginning_of(row: &Row, raw_key: Vec<u8>) -> Beginning {
    Beginning {
        id: row.id,
        partner: row.partner.clone(),
        feed: row.feed.clone(),
        path: row.path.clone(),
        name: row.name.clone(),
        origin: row.origin.clone(),
        policy_version: row.policy_version,
        policy_hash: row.policy_hash,
        opened_at: row.opened_at,
        raw_key,
        over: row.over,
    }
}
