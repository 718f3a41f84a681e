//! Delivery: accepted output to its store, once, whatever happens in between.
//!
//! The ledger drives it, not memory: what waits is read from there after every settlement, every
//! restart and every pause. A store that says no is asked again for ever, ever more slowly.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::intake::Intake;
use crate::intake::inspection::blocking;
use crate::intake::keyring::Purpose;
use crate::ledger::submissions::{Row, State};
use crate::seal::Lane;
use crate::telemetry::Event;
use crate::terms::ids::SubmissionId;
use crate::terms::limits;

/// First pause after a failed attempt, milliseconds; doubles with each.
const PAUSE_MS_FIRST: u64 = 500;
/// Longest pause between attempts, milliseconds.
const PAUSE_MS_MAX: u64 = 5 * 60_000;
/// How often the ledger is looked at although nothing was said, milliseconds.
const LOOK_EVERY_MS: u64 = 1_000;

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
enum DeliveryFault {
    #[error(transparent)]
    Key(#[from] crate::intake::keyring::KeyFault),
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerFault),
    #[error(transparent)]
    Inspection(#[from] crate::intake::inspection::InspectionFault),
    #[error(transparent)]
    Spool(#[from] crate::depot::spool::SpoolFault),
    #[error(transparent)]
    Store(#[from] crate::depot::store::StoreFault),
    /// The config has no such store any more.
    #[error("no store {0:?} in the config; add [store.{0}] again")]
    NoStore(String),
    /// The row lacks what delivery needs.
    #[error("the ledger row lacks {0}")]
    Lacks(&'static str),
}

// === impl Intake ===

impl Intake {
    /// Delivers what waits until `stop` turns true; attempts that run are finished first.
    pub async fn deliver_until(&self, mut stop: watch::Receiver<bool>) {
        let mut running: JoinSet<()> = JoinSet::new();
        let mut busy: HashMap<tokio::task::Id, SubmissionId> = HashMap::new();
        while !*stop.borrow() {
            // Twice as many as may run: some of them do already.
            match self
                .0
                .ledger
                .due(self.now(), 2 * limits::DELIVERIES_MAX)
                .await
            {
                Ok(due) => {
                    for one in due {
                        if running.len() >= limits::DELIVERIES_MAX {
                            break;
                        }
                        if !busy.values().any(|id| *id == one.id) {
                            let intake = self.clone();
                            let task = running.spawn(async move { intake.deliver(one.id).await });
                            busy.insert(task.id(), one.id);
                        }
                    }
                }
                Err(fault) => tracing::error!(event = Event::DeliveryBlind.as_str(), %fault),
            }
            tokio::select! {
                Some(done) = running.join_next_with_id(), if !running.is_empty() => {
                    let task = match done {
                        Ok((task, ())) => task,
                        // A panic in one attempt harms no other; the ledger still knows the file.
                        Err(fault) => {
                            tracing::error!(event = Event::DeliveryPanicked.as_str(), %fault);
                            if let Some(id) = busy.get(&fault.id()) {
                                self.put_off(*id, "the attempt panicked").await;
                            }
                            fault.id()
                        }
                    };
                    busy.remove(&task);
                }
                () = self.0.due.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)) => {}
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// What made one attempt panic may do it again: not at once.
    async fn put_off(&self, id: SubmissionId, why: &str) {
        let pause = i64::try_from(PAUSE_MS_MAX).unwrap_or(0);
        let next = self.now().plus_micros(pause.saturating_mul(1000));
        if let Err(fault) = self.0.ledger.failing(id, why.to_owned(), next).await {
            tracing::error!(event = Event::DeliveryUnrecorded.as_str(), submission = %id, %fault);
        }
    }

    async fn deliver(&self, id: SubmissionId) {
        let row = match self.0.ledger.submission(id).await {
            Ok(Some(row)) => row,
            Ok(None) => return,
            Err(fault) => return tracing::error!(event = Event::DeliveryBlind.as_str(), %fault),
        };
        let attempts = row.attempts;
        let started = self.now();
        let fault = match self.attempt(&row).await {
            Ok(address) => {
                tracing::info!(
                    event = Event::SubmissionDelivered.as_str(),
                    submission = %id,
                    partner = %row.partner,
                    feed = %row.feed,
                    object = %crate::terms::path::quoted(&address, 1100),
                    attempts = attempts.saturating_add(1),
                    ms.deliver = self.now().micros_since(started) / 1000,
                );
                // What lay in the ledger's row has no file.
                if row.out.as_ref().is_some_and(|out| out.inline.is_none()) {
                    self.unlink(id, &[Lane::Raw, Lane::Out]).await;
                }
                return;
            }
            Err(fault) => fault,
        };
        let pause = pause_ms(attempts, self.0.rng.array().unwrap_or_default());
        let next = self
            .now()
            .plus_micros(i64::try_from(pause).unwrap_or(0).saturating_mul(1000));
        tracing::warn!(
            event = Event::SubmissionFailing.as_str(),
            submission = %id,
            partner = %row.partner,
            attempts = attempts.saturating_add(1),
            next_ms = pause,
            %fault,
        );
        if let Err(fault) = self.0.ledger.failing(id, fault.to_string(), next).await {
            tracing::error!(event = Event::DeliveryUnrecorded.as_str(), submission = %id, %fault);
        }
    }

    async fn attempt(&self, row: &Row) -> Result<String, DeliveryFault> {
        if row.state == State::Delivering {
            let why = "an attempt ended without a record".to_owned();
            self.0.ledger.failing(row.id, why, self.now()).await?;
        }
        // A small object is there in less time than its beginning takes to be recorded; after a crash
        // it is found there, or made anew.
        let is_small = row.out.as_ref().is_some_and(|out| out.inline.is_some());
        if !is_small || row.state != State::Accepted {
            self.0.ledger.deliver(row.id).await?;
        }
        let name = row.store.clone().ok_or(DeliveryFault::Lacks("its store"))?;
        let store = self
            .0
            .stores
            .iter()
            .find(|(known, _)| known.as_str() == name)
            .map(|(_, store)| store.clone())
            .ok_or(DeliveryFault::NoStore(name))?;
        let wrapped = row
            .out_key
            .as_deref()
            .ok_or(DeliveryFault::Lacks("its output key"))?;
        let sealed = row.out.clone().ok_or(DeliveryFault::Lacks("its output"))?;
        let digest = row
            .out_digest
            .ok_or(DeliveryFault::Lacks("its output digest"))?;
        let key = row
            .key
            .as_deref()
            .ok_or(DeliveryFault::Lacks("its object key"))?;
        let out_key = self
            .0
            .keyring
            .open_data_key(row.id, Purpose::Out, wrapped)?;
        let (spool, id, bytes) = (self.0.spool.clone(), row.id, sealed.bytes);
        let lane = row.out_lane;
        let reader = blocking(move || spool.read(id, lane, &out_key, &sealed)).await??;
        let mut position = 0_u64;
        let pieces = move || {
            let mut piece = Vec::new();
            let taken = reader
                .read_at(position, limits::INSPECT_BATCH_BYTES, &mut piece)
                .map_err(|fault| fault.to_string())?;
            position = position.saturating_add(u64::try_from(taken).unwrap_or(0));
            Ok((taken > 0).then(|| bytes::Bytes::from(piece)))
        };
        let metadata = row.metadata.iter().cloned().collect();
        let stored = store.create(key, bytes, digest, &metadata, pieces).await?;
        self.0
            .ledger
            .delivered(row.id, stored.address.clone(), self.now())
            .await?;
        Ok(stored.address)
    }
}

/// Full jitter under a doubling cap.
fn pause_ms(attempts: u32, random: [u8; 8]) -> u64 {
    let cap = PAUSE_MS_FIRST
        .saturating_mul(1 << attempts.min(20))
        .min(PAUSE_MS_MAX);
    u64::from_le_bytes(random) % cap.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_cap_and_never_beyond() {
        assert!(pause_ms(0, [0xff; 8]) < PAUSE_MS_FIRST);
        for attempts in [0, 5, 20, u32::MAX] {
            assert!(pause_ms(attempts, [0xfe; 8]) < PAUSE_MS_MAX);
        }
    }
}
