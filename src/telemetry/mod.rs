//! Rank 3: what the gateway says about itself, and the two things that the outside world alone
//! can give, time and randomness.
//!
//! This is the only place that reads the system's clock and the only one that spells a metric or
//! event name. Cell values, tokens and secrets have no way in here: callers pass names, counts and
//! ids.

mod lines;
mod metrics;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

pub use crate::telemetry::lines::{BLOCK_FIELD, init_logging};
pub use crate::telemetry::metrics::{
    AuthMethod, AuthResult, Channel, ConnectionResult, Limit, Metrics, SessionCount, SessionKind,
};
use crate::terms::clock::{Clock, Timestamp};

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Where random bytes come from. One is made in `main` and handed around. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rng(Source);

/// The operating system gave no random bytes; nothing secret can be made without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness;

#[derive(Clone, Debug)]
enum Source {
    System(SystemRandom),
    Seeded { seed: u64, next: Arc<AtomicU64> },
}

/// Names of log lines: the value of their `event` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An admin asked for something through the socket.
    AdminActed,
    /// Changed files are not in force; the last good ones are.
    ConfigRefused,
    /// Changed files are in force.
    ConfigReloaded,
    /// A connection broke before login, or broke the protocol.
    ConnectionFailed,
    /// A connection was turned away before login.
    ConnectionRefused,
    /// Delivery cannot see what waits.
    DeliveryBlind,
    /// An attempt to deliver panicked; it is tried again.
    DeliveryPanicked,
    /// The outcome of a delivery could not be recorded.
    DeliveryUnrecorded,
    /// Start-up is complete.
    GatewayReady,
    /// The process begins.
    GatewayStarted,
    /// The process ends.
    GatewayStopped,
    /// No more connections are taken; running ones are let out.
    GatewayStopping,
    /// A file could not be taken, through no fault of its own.
    IntakeFailed,
    /// A file of the outbox was opened.
    OutboxOpened,
    /// A line of a partner's key file is not in force.
    KeyRefused,
    /// A key was revoked.
    KeyRevoked,
    /// The ledger cannot be written.
    LedgerFailed,
    /// Somebody released or rejected a held file.
    QuarantineDecided,
    /// Rows left out of a file were read by a person.
    QuarantineRead,
    /// A session ended.
    SessionClosed,
    /// A login was refused.
    SessionDenied,
    /// A login succeeded.
    SessionOpened,
    /// The spool has no room for another file.
    SpoolFull,
    /// A file of the spool could not be unlinked; its key is gone.
    SpoolLeftover,
    /// Files nobody knows were removed from the spool.
    SpoolSwept,
    /// Files nobody knows could not be removed.
    SpoolUnswept,
    /// What a crash left in a store was removed.
    StoreSwept,
    /// What a crash left in a store could not be removed.
    StoreUnswept,
    /// An object reached its store.
    SubmissionDelivered,
    /// An unfinished file was destroyed at the end of its time.
    SubmissionExpired,
    /// A store does not take an object; it is tried again.
    SubmissionFailing,
    /// A file was cut off and can be resumed.
    SubmissionInterrupted,
    /// A file of an earlier run was moved on.
    SubmissionRecovered,
    /// A partner removed an unfinished file.
    SubmissionRemoved,
    /// A verdict was reached.
    SubmissionSettled,
    /// A file of an earlier run could not be moved on; the next start tries again.
    SubmissionUnrecovered,
}

// === impl SystemClock ===

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

// === impl Rng ===

impl Rng {
    /// The operating system's generator.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System(SystemRandom::new()))
    }

    /// The same bytes for the same seed: a test can be replayed, and nothing is secret.
    #[must_use]
    pub fn danger_seeded(seed: u64) -> Self {
        Self(Source::Seeded {
            seed,
            next: Arc::default(),
        })
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`NoRandomness`]; `bytes` must not be used then.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        match &self.0 {
            Source::System(system) => system.fill(bytes).map_err(|_| NoRandomness),
            Source::Seeded { seed, next } => {
                for chunk in bytes.chunks_mut(ring::digest::SHA256_OUTPUT_LEN) {
                    let count = next.fetch_add(1, Ordering::SeqCst);
                    let block = [seed.to_be_bytes(), count.to_be_bytes()].concat();
                    let digest = ring::digest::digest(&ring::digest::SHA256, &block);
                    for (to, from) in chunk.iter_mut().zip(digest.as_ref()) {
                        *to = *from;
                    }
                }
                Ok(())
            }
        }
    }

    /// `N` random bytes.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn array<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

// === impl Event ===

impl Event {
    /// `submission.settled` and the like.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdminActed => "admin.acted",
            Self::ConfigReloaded => "config.reloaded",
            Self::ConfigRefused => "config.refused",
            Self::ConnectionFailed => "connection.failed",
            Self::ConnectionRefused => "connection.refused",
            Self::GatewayReady => "gateway.ready",
            Self::GatewayStarted => "gateway.started",
            Self::GatewayStopped => "gateway.stopped",
            Self::GatewayStopping => "gateway.stopping",
            Self::KeyRefused => "key.refused",
            Self::KeyRevoked => "key.revoked",
            Self::LedgerFailed => "ledger.failed",
            Self::QuarantineDecided => "quarantine.decided",
            Self::QuarantineRead => "quarantine.read",
            Self::SessionClosed => "session.closed",
            Self::SessionDenied => "session.denied",
            Self::SessionOpened => "session.opened",
            Self::SubmissionDelivered => "submission.delivered",
            Self::SubmissionExpired => "submission.expired",
            Self::SubmissionFailing => "submission.failing",
            Self::SubmissionInterrupted => "submission.interrupted",
            Self::SubmissionRecovered => "submission.recovered",
            Self::SubmissionRemoved => "submission.removed",
            Self::SubmissionUnrecovered => "submission.unrecovered",
            Self::StoreUnswept => "store.unswept",
            Self::StoreSwept => "store.swept",
            Self::SpoolUnswept => "spool.unswept",
            Self::SpoolSwept => "spool.swept",
            Self::SpoolLeftover => "spool.leftover",
            Self::IntakeFailed => "intake.failed",
            Self::OutboxOpened => "outbox.opened",
            Self::DeliveryUnrecorded => "delivery.unrecorded",
            Self::DeliveryPanicked => "delivery.panicked",
            Self::DeliveryBlind => "delivery.blind",
            Self::SpoolFull => "spool.full",
            Self::SubmissionSettled => "submission.settled",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_the_day_this_was_built_for() {
        assert!(SystemClock.now() > Timestamp::from_micros(1_700_000_000_000_000));
    }

    #[test]
    fn random_bytes_differ_and_seeded_ones_replay() {
        let rng = Rng::system();
        assert_ne!(rng.array::<32>().unwrap(), rng.array::<32>().unwrap());
        let (one, two) = (Rng::danger_seeded(7), Rng::danger_seeded(7));
        let first = one.array::<80>().unwrap();
        assert_eq!(first, two.array::<80>().unwrap());
        assert_ne!(first, one.array::<80>().unwrap());
        assert_ne!(first, Rng::danger_seeded(8).array::<80>().unwrap());
        assert_ne!(first[..32], first[32..64]);
    }
}
