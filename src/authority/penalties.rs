//! Sources that misbehave wait before they are heard again, as in OpenSSH's `PerSourcePenalties`.
//!
//! Every offence adds a penalty to what its source still has to wait; one repeated while the last
//! is not served yet counts double. Nothing is enforced until [`limits::PENALTY_MIN_MS`] have come
//! together, so a partner who offers one wrong key is not locked out. Memory is bounded: at
//! [`limits::PENALTY_SOURCES_MAX`] sources new ones are let off, never old ones forgotten early.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::terms::clock::Timestamp;
use crate::terms::limits;

/// What a source did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// A connection on which something of ours panicked.
    Crashed,
    /// No login within the grace time.
    GraceOver,
    /// A login was refused and the connection ended without one.
    LoginFailed,
    /// The connection ended without even trying.
    NoLogin,
}

/// Who still has to wait.
#[derive(Debug, Default)]
pub struct Penalties {
    debts: HashMap<IpAddr, Debt>,
    exempt: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    until: Timestamp,
    /// Offences since the source last had nothing to serve.
    offences: u32,
    /// It has come to enough to be enforced, and is until it is served.
    enforced: bool,
}

// === impl Offence ===

impl Offence {
    /// Milliseconds for the first of its kind, and whether the next one is double.
    fn penalty(self) -> (i64, bool) {
        match self {
            Self::Crashed => (limits::PENALTY_CRASH_MS, true),
            Self::GraceOver => (limits::PENALTY_GRACE_MS, true),
            Self::LoginFailed => (limits::PENALTY_LOGIN_MS, true),
            // Health checks of load balancers look like this.
            Self::NoLogin => (limits::PENALTY_NO_LOGIN_MS, false),
        }
    }
}

// === impl Penalties ===

impl Penalties {
    /// Nobody has to wait, and those in `exempt` never will.
    #[must_use]
    pub fn new(exempt: Vec<IpNet>) -> Self {
        Self {
            debts: HashMap::new(),
            exempt,
        }
    }

    /// Notes what a source did at `now`.
    pub fn note(&mut self, source: IpAddr, offence: Offence, now: Timestamp) {
        if self.exempt.iter().any(|net| net.contains(&source)) {
            return;
        }
        if !self.debts.contains_key(&source) && self.debts.len() >= limits::PENALTY_SOURCES_MAX {
            self.debts.retain(|_, debt| debt.until > now);
            if self.debts.len() >= limits::PENALTY_SOURCES_MAX {
                return;
            }
        }
        let fresh = Debt {
            until: now,
            offences: 0,
            enforced: false,
        };
        let debt = self.debts.entry(source).or_insert(fresh);
        if debt.until <= now {
            *debt = fresh;
        }
        let (first, doubles) = offence.penalty();
        let doublings = if doubles { debt.offences.min(16) } else { 0 };
        let penalty = first.saturating_mul(1 << doublings);
        let most = now.plus_micros(limits::PENALTY_MAX_MS.saturating_mul(1000));
        debt.until = debt
            .until
            .plus_micros(penalty.saturating_mul(1000))
            .min(most);
        debt.offences = debt.offences.saturating_add(1);
        let owed = debt.until.micros_since(now);
        debt.enforced |= owed >= limits::PENALTY_MIN_MS.saturating_mul(1000);
    }

    /// How long this source still has to wait; `None`: it may come in.
    #[must_use]
    pub fn remaining(&self, source: IpAddr, now: Timestamp) -> Option<Duration> {
        let debt = self.debts.get(&source).filter(|debt| debt.enforced)?;
        let owed = u64::try_from(debt.until.micros_since(now)).ok()?;
        let most = u64::try_from(limits::PENALTY_MAX_MS.saturating_mul(1000)).unwrap_or(0);
        // More than the most means that the clock was set back: nobody waits for that.
        (1..=most)
            .contains(&owed)
            .then(|| Duration::from_micros(owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(1_795_239_870_000_000).plus_micros(secs * 1_000_000)
    }

    fn source(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn waits(penalties: &Penalties, now: i64) -> Option<u64> {
        penalties
            .remaining(source(7), at(now))
            .map(|left| left.as_secs())
    }

    #[test]
    fn one_wrong_key_is_forgiven_and_the_third_in_a_row_is_not() {
        let mut penalties = Penalties::default();
        penalties.note(source(7), Offence::LoginFailed, at(0));
        assert_eq!(waits(&penalties, 0), None, "5 s are not enforced");
        penalties.note(source(7), Offence::LoginFailed, at(1));
        assert_eq!(waits(&penalties, 1), None, "14 s are not either");
        penalties.note(source(7), Offence::LoginFailed, at(2));
        assert_eq!(waits(&penalties, 2), Some(33), "5 + 10 + 20 - 2");
        assert_eq!(waits(&penalties, 34), Some(1), "enforced to its end");
        assert_eq!(waits(&penalties, 35), None);
        penalties.note(source(7), Offence::LoginFailed, at(36));
        assert_eq!(waits(&penalties, 36), None, "served: it starts anew");
    }

    #[test]
    fn a_crash_is_enforced_at_once_and_nothing_lasts_longer_than_the_most() {
        let mut penalties = Penalties::default();
        penalties.note(source(7), Offence::Crashed, at(0));
        assert_eq!(waits(&penalties, 0), Some(90));
        for _ in 0..100 {
            penalties.note(source(7), Offence::Crashed, at(0));
        }
        assert_eq!(waits(&penalties, 0), Some(600));
        assert_eq!(penalties.remaining(source(8), at(0)), None);
    }

    #[test]
    fn a_health_check_every_two_seconds_never_waits() {
        let mut penalties = Penalties::default();
        for second in (0..1000).step_by(2) {
            penalties.note(source(7), Offence::NoLogin, at(second));
            assert_eq!(waits(&penalties, second), None);
        }
        for _ in 0..20 {
            penalties.note(source(7), Offence::NoLogin, at(1000));
        }
        assert!(waits(&penalties, 1000).is_some(), "a flood of them does");
    }

    #[test]
    fn exempt_networks_never_wait() {
        let mut penalties = Penalties::new(vec!["0.0.0.0/24".parse().unwrap()]);
        penalties.note(source(7), Offence::Crashed, at(0));
        penalties.note(source(300), Offence::Crashed, at(0));
        assert_eq!(penalties.remaining(source(7), at(0)), None);
        assert!(penalties.remaining(source(300), at(0)).is_some());
    }

    #[test]
    fn memory_is_bounded_and_who_owes_is_not_forgotten_for_a_newcomer() {
        let mut penalties = Penalties::default();
        let most = u32::try_from(limits::PENALTY_SOURCES_MAX).unwrap();
        for n in 0..most + 1000 {
            penalties.note(source(n), Offence::Crashed, at(0));
        }
        assert_eq!(penalties.debts.len(), limits::PENALTY_SOURCES_MAX);
        assert!(penalties.remaining(source(0), at(1)).is_some());
        penalties.note(source(most + 1), Offence::Crashed, at(1000));
        assert_eq!(penalties.debts.len(), 1, "those who have served go first");
    }
}
