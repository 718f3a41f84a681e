//! The order of slow requests on one channel: what may run beside what.
//!
//! A request that names something a request before it changes waits for that one; the others run
//! beside each other, up to a bound. This is bookkeeping only: nothing here runs anything.

use std::collections::{HashMap, VecDeque};

/// Requests that wait, and the claims of those that run.
#[derive(Debug)]
pub(super) struct Lane<J> {
    waiting: VecDeque<(Ticket, Claim, J)>,
    running: Vec<(Ticket, Claim)>,
    last_ticket: u64,
}

/// What a request touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// Last parts of the paths. Folders do not count: with aliases one file has several.
    pub(super) names: Vec<String>,
    /// It changes what the names stand for.
    pub(super) changes: bool,
    /// It looks at everything: it waits for every change before it.
    pub(super) looks_at_all: bool,
}

/// A request's place in the order of arrival; given back to [`Lane::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Requests of one channel that run at the same time.
const RUNNING_MAX: usize = 32;

// === impl Lane ===

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            running: Vec::new(),
            last_ticket: 0,
        }
    }
}

impl<J> Lane<J> {
    /// Puts a request behind all others.
    pub(super) fn push(&mut self, claim: Claim, job: J) {
        self.last_ticket += 1;
        self.waiting
            .push_back((Ticket(self.last_ticket), claim, job));
    }

    /// Takes the first request that may run now.
    pub(super) fn start(&mut self) -> Option<(Ticket, J)> {
        if self.running.len() >= RUNNING_MAX {
            return None;
        }
        let place = self.runnable()?;
        let (ticket, claim, job) = self.waiting.remove(place)?;
        self.running.push((ticket, claim));
        Some((ticket, job))
    }

    /// The request has ended; what waited for it may run.
    pub(super) fn finish(&mut self, ticket: Ticket) {
        self.running.retain(|(running, _)| *running != ticket);
    }

    /// Drops waiting requests that `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&J) -> bool) {
        self.waiting.retain(|(_, _, job)| keep(job));
    }

    /// Requests waiting and running.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    fn runnable(&self) -> Option<usize> {
        let mut ahead = Ahead::default();
        for (ticket, claim) in &self.running {
            ahead.add(*ticket, claim);
        }
        for (place, (ticket, claim, _)) in self.waiting.iter().enumerate() {
            if !ahead.blocks(*ticket, claim) {
                return Some(place);
            }
            ahead.add(*ticket, claim);
        }
        None
    }
}

/// The claims of running requests and of those waiting before one, summed up.
#[derive(Default)]
struct Ahead<'l> {
    /// Name and whether one of its claims is a change.
    names: HashMap<&'l str, bool>,
    first_change: Option<Ticket>,
}

impl<'l> Ahead<'l> {
    fn add(&mut self, ticket: Ticket, claim: &'l Claim) {
        if claim.changes {
            self.first_change = Some(self.first_change.map_or(ticket, |first| first.min(ticket)));
        }
        for name in &claim.names {
            *self.names.entry(name).or_default() |= claim.changes;
        }
    }

    fn blocks(&self, ticket: Ticket, claim: &Claim) -> bool {
        // A change that came later may run already; a look at everything need not wait for it.
        let change_before = self.first_change.is_some_and(|first| first < ticket);
        (claim.looks_at_all && change_before)
            || claim.names.iter().any(|name| {
                self.names
                    .get(name.as_str())
                    .is_some_and(|changed| *changed || claim.changes)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(names: &[&str], changes: bool) -> Claim {
        Claim {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            changes,
            looks_at_all: false,
        }
    }

    fn look_at_all() -> Claim {
        Claim {
            looks_at_all: true,
            ..Claim::default()
        }
    }

    /// Starts all that may run; their names in order.
    fn started(lane: &mut Lane<&'static str>) -> Vec<(Ticket, &'static str)> {
        std::iter::from_fn(|| lane.start()).collect()
    }

    fn names(jobs: &[(Ticket, &'static str)]) -> Vec<&'static str> {
        jobs.iter().map(|(_, job)| *job).collect()
    }

    #[test]
    fn a_look_waits_for_the_change_of_its_name_and_others_pass() {
        let mut lane = Lane::default();
        lane.push(claim(&["a"], true), "close a");
        lane.push(claim(&["a"], false), "stat a");
        lane.push(claim(&["b"], false), "stat b");
        lane.push(claim(&["b"], false), "stat b again");
        let first = started(&mut lane);
        assert_eq!(names(&first), ["close a", "stat b", "stat b again"]);
        lane.finish(first[0].0);
        assert_eq!(names(&started(&mut lane)), ["stat a"]);
    }

    #[test]
    fn a_change_waits_for_looks_before_it_and_nothing_overtakes_it() {
        let mut lane = Lane::default();
        lane.push(claim(&["a"], false), "stat a");
        lane.push(claim(&["a.part", "a"], true), "rename");
        lane.push(claim(&["a"], false), "stat a after");
        lane.push(claim(&["a.part"], false), "stat part after");
        let first = started(&mut lane);
        assert_eq!(names(&first), ["stat a"]);
        lane.finish(first[0].0);
        let second = started(&mut lane);
        assert_eq!(names(&second), ["rename"]);
        lane.finish(second[0].0);
        assert_eq!(
            names(&started(&mut lane)),
            ["stat a after", "stat part after"]
        );
    }

    #[test]
    fn a_listing_waits_for_every_change_before_it_and_holds_nobody_up() {
        let mut lane = Lane::default();
        lane.push(claim(&["a"], true), "close a");
        lane.push(look_at_all(), "list");
        lane.push(claim(&["b"], true), "close b");
        let first = started(&mut lane);
        assert_eq!(names(&first), ["close a", "close b"]);
        assert_eq!(names(&started(&mut lane)), [""; 0]);
        lane.finish(first[0].0);
        assert_eq!(names(&started(&mut lane)), ["list"]);
    }

    #[test]
    fn no_more_than_the_bound_run_at_once() {
        let mut lane = Lane::default();
        for _ in 0..RUNNING_MAX + 5 {
            lane.push(claim(&["a"], false), "stat");
        }
        let first = started(&mut lane);
        assert_eq!(first.len(), RUNNING_MAX);
        assert_eq!(lane.len(), RUNNING_MAX + 5);
        lane.finish(first[3].0);
        assert_eq!(started(&mut lane).len(), 1);
        assert_eq!(lane.len(), RUNNING_MAX + 4);
    }

    #[test]
    fn what_is_not_kept_never_runs_and_blocks_nobody() {
        let mut lane = Lane::default();
        lane.push(claim(&["a"], true), "close a");
        lane.push(claim(&["a"], true), "open a");
        lane.push(claim(&["a"], true), "rename a");
        let first = started(&mut lane);
        lane.retain(|job| !job.starts_with("open"));
        lane.finish(first[0].0);
        assert_eq!(names(&started(&mut lane)), ["rename a"]);
        assert_eq!(lane.len(), 1);
    }
}
