//! Time as a value. The clock itself is handed in: rank 0 never reads one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Where time comes from: the system clock in the gateway, a hand-moved one in tests.
pub trait Clock: Send + Sync {
    /// The current moment.
    fn now(&self) -> Timestamp;
}

/// A clock that only moves when it is told to; for tests.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

// === impl Timestamp ===

impl Timestamp {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment moved by `micros` (negative: earlier), saturating.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this moment; negative when `earlier` is later.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `2026-11-21 05:44:30 UTC`, for people.
    #[must_use]
    pub fn to_human(self) -> String {
        self.civil("%Y-%m-%d %H:%M:%S UTC")
    }

    /// `2026-11-21T05:44:30.996Z` (RFC 3339, milliseconds), for programs.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        format!(
            "{}.{:03}Z",
            self.civil("%Y-%m-%dT%H:%M:%S"),
            self.as_millis().rem_euclid(1000)
        )
    }

    fn civil(self, format: &str) -> String {
        jiff::Timestamp::from_second(self.as_secs()).map_or_else(
            |_| format!("{}us", self.0),
            |at| at.strftime(format).to_string(),
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

// === impl ManualClock ===

impl ManualClock {
    /// A clock standing at `at`.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(at.0)))
    }

    /// Moves the clock forward by `micros`.
    pub fn advance_micros(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_for_people_and_for_programs() {
        let at = Timestamp::from_micros(1_795_239_870_996_000);
        assert_eq!(at.to_rfc3339(), "2026-11-21T05:44:30.996Z");
        assert_eq!(at.to_human(), "2026-11-21 05:44:30 UTC");
    }
}
