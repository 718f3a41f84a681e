//! The door: who may begin to talk at all. Places for connections without a login, random early
//! drop when they grow scarce, penalties for sources that misbehaved.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authority::penalties::{Offence, Penalties};
use crate::config::SshConfig;
use crate::telemetry::{ConnectionResult, Rng};
use crate::terms::clock::Clock;
use crate::terms::limits;

/// Counts connections that have not logged in, and remembers who behaved badly.
pub(super) struct Door {
    places: usize,
    places_per_source: usize,
    taken: Mutex<Taken>,
    penalties: Mutex<Penalties>,
    /// Connections whose PROXY header is awaited.
    anteroom: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    rng: Rng,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One place; free again when dropped.
pub(super) struct Unproven {
    door: Arc<Door>,
    source: IpAddr,
}

/// Why a connection is turned away at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TurnedAway {
    #[error("too many connections without login")]
    Crowded,
    #[error("too many connections without login from this source")]
    CrowdedSource,
    #[error("places are scarce, and this one was dropped at random")]
    Dropped,
    #[error("the source misbehaved and waits {} s more", .0.as_secs())]
    Penalty(Duration),
}

// === impl Door ===

impl Door {
    pub(super) fn new(config: &SshConfig, clock: Arc<dyn Clock>, rng: Rng) -> Self {
        // A load balancer speaks for many: it is never punished for one of them.
        let exempt = config
            .penalty_exempt
            .iter()
            .chain(&config.proxy_protocol_from)
            .copied()
            .collect();
        Self {
            places: config.unauthenticated,
            places_per_source: config.unauthenticated_per_source,
            taken: Mutex::default(),
            penalties: Mutex::new(Penalties::new(exempt)),
            anteroom: Arc::new(Semaphore::new(config.unauthenticated)),
            clock,
            rng,
        }
    }

    /// A place for a connection from `source`.
    pub(super) fn enter(self: &Arc<Self>, source: IpAddr) -> Result<Unproven, TurnedAway> {
        let chance = self.rng.array::<1>().map_or(0, |[byte]| usize::from(byte));
        self.enter_with(source, chance)
    }

    /// `chance`: a random number below 256.
    fn enter_with(self: &Arc<Self>, source: IpAddr, chance: usize) -> Result<Unproven, TurnedAway> {
        let source = neighbourhood(source);
        if let Some(left) = self.penalties().remaining(source, self.clock.now()) {
            return Err(TurnedAway::Penalty(left));
        }
        let mut taken = self.taken();
        if taken.all >= self.places {
            return Err(TurnedAway::Crowded);
        }
        if chance * 100 < drop_percent(taken.all, self.places) * 256 {
            return Err(TurnedAway::Dropped);
        }
        let here = taken.by_source.get(&source).copied().unwrap_or(0);
        if here >= self.places_per_source {
            return Err(TurnedAway::CrowdedSource);
        }
        taken.by_source.insert(source, here + 1);
        taken.all += 1;
        Ok(Unproven {
            door: Arc::clone(self),
            source,
        })
    }

    /// A place for a connection whose source only its PROXY header will tell.
    pub(super) fn wait_outside(&self) -> Result<OwnedSemaphorePermit, TurnedAway> {
        Arc::clone(&self.anteroom)
            .try_acquire_owned()
            .map_err(|_| TurnedAway::Crowded)
    }

    /// Notes what a source did.
    pub(super) fn note(&self, source: IpAddr, offence: Offence) {
        let source = neighbourhood(source);
        self.penalties().note(source, offence, self.clock.now());
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Counts are whole after every statement, so a poisoned lock still guards good data.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.penalties
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Unproven ===

impl Drop for Unproven {
    fn drop(&mut self) {
        let mut taken = self.door.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(here) = taken.by_source.get_mut(&self.source) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

// === impl TurnedAway ===

impl TurnedAway {
    /// How it is counted.
    pub(super) fn result(self) -> ConnectionResult {
        match self {
            Self::Crowded | Self::CrowdedSource => ConnectionResult::RefusedLimit,
            Self::Dropped => ConnectionResult::RefusedEarly,
            Self::Penalty(_) => ConnectionResult::RefusedPenalty,
        }
    }
}

/// Chance in percent that a newcomer is dropped: none while half of the places are free, then
/// rising from [`limits::SSH_EARLY_DROP_PERCENT`] to 100.
fn drop_percent(taken: usize, places: usize) -> usize {
    let (from, least) = (places / 2, limits::SSH_EARLY_DROP_PERCENT);
    match taken.checked_sub(from) {
        None => 0,
        // So few places that halves make no sense.
        Some(_) if places < 10 => 0,
        Some(over) => least + (100 - least) * over / (places - from),
    }
}

/// Who shares a fate: one IPv4 address, or one IPv6 /64, as one customer gets it.
fn neighbourhood(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::tests::ssh_config;
    use crate::terms::clock::{ManualClock, Timestamp};

    fn door(places: usize, per_source: usize) -> Arc<Door> {
        let config = SshConfig {
            unauthenticated: places,
            unauthenticated_per_source: per_source,
            ..ssh_config()
        };
        let clock = ManualClock::at(Timestamp::from_micros(1_795_239_870_000_000));
        Arc::new(Door::new(&config, Arc::new(clock), Rng::danger_seeded(1)))
    }

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn there_are_places_for_all_and_for_one_source_and_they_come_back() {
        let door = door(3, 2);
        let enter = |source| door.enter_with(from(source), 0);
        let first = enter("2001:db8::1").map_err(drop).unwrap();
        let _second = enter("2001:db8::ffff:2").map_err(drop).unwrap();
        assert_eq!(enter("2001:db8::3").err(), Some(TurnedAway::CrowdedSource));
        let _third = enter("2001:db8:0:1::1").map_err(drop).unwrap();
        assert_eq!(enter("192.0.2.1").err(), Some(TurnedAway::Crowded));
        drop(first);
        assert!(enter("2001:db8::3").is_ok());
        assert_eq!(door.taken().by_source.len(), 2);
    }

    #[test]
    fn scarce_places_are_given_by_chance_and_the_last_one_is_still_given() {
        assert_eq!(
            [0, 49, 50, 75, 99].map(|n| drop_percent(n, 100)),
            [0, 0, 30, 65, 98]
        );
        let door = door(100, 100);
        let here = from("192.0.2.1");
        let mut held: Vec<_> = (0..50).map(|_| door.enter_with(here, 0)).collect();
        assert!(held.iter().all(Result::is_ok), "half are free of chance");
        assert_eq!(door.enter_with(here, 0).err(), Some(TurnedAway::Dropped));
        held.extend((0..50).map(|_| door.enter_with(here, 255)));
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(door.enter_with(here, 255).err(), Some(TurnedAway::Crowded));
    }

    #[test]
    fn a_punished_source_waits_and_its_neighbour_in_the_same_64_with_it() {
        let door = door(100, 100);
        door.note(from("2001:db8::1"), Offence::Crashed);
        let refused = door.enter_with(from("2001:db8::2"), 255).err();
        assert_eq!(refused, Some(TurnedAway::Penalty(Duration::from_secs(90))));
        assert!(door.enter_with(from("2001:db8:0:1::1"), 255).is_ok());
    }

    #[test]
    fn an_ipv4_address_inside_ipv6_is_the_ipv4_address() {
        assert_eq!(neighbourhood(from("::ffff:192.0.2.9")), from("192.0.2.9"));
        assert_eq!(
            neighbourhood(from("2001:db8:1:2:3:4:5:6")),
            from("2001:db8:1:2::")
        );
    }
}
