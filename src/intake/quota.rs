//! The spool's quota, exact: every raw byte is counted from the moment it is taken (a declared size
//! at once) until its key is destroyed, for its partner and for all together.
//!
//! In memory; at the start the ledger says what is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::terms::ids::PartnerId;

/// What all partners have in the spool.
#[derive(Debug)]
pub(super) struct SpoolQuota {
    bytes_max: u64,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    all: u64,
    by_partner: HashMap<PartnerId, u64>,
}

/// What one upload takes of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    quota: Arc<SpoolQuota>,
    partner: PartnerId,
    /// Of the partner alone.
    bytes_max: u64,
    /// Taken of what all share.
    bytes: u64,
    /// Taken of the partner's own: never less, a declared size counts there at once.
    own: u64,
}

/// A quota and what is used of it, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// What there is for this partner.
    pub bytes: u64,
    /// What is left of it, and of what all partners share.
    pub free: u64,
}

// === impl SpoolQuota ===

impl SpoolQuota {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            used: Mutex::default(),
        }
    }

    /// Counts what lies in the spool without an upload that owns it: interrupted, or received.
    pub(super) fn add(&self, partner: &PartnerId, bytes: u64) {
        let mut used = self.used();
        used.all = used.all.saturating_add(bytes);
        let own = used.by_partner.entry(partner.clone()).or_default();
        *own = own.saturating_add(bytes);
    }

    /// It is gone.
    pub(super) fn give_back(&self, partner: &PartnerId, bytes: u64) {
        self.give_back_both(partner, bytes, bytes);
    }

    fn give_back_both(&self, partner: &PartnerId, bytes: u64, own: u64) {
        let mut used = self.used();
        used.all = used.all.saturating_sub(bytes);
        if let Some(theirs) = used.by_partner.get_mut(partner) {
            *theirs = theirs.saturating_sub(own);
            if *theirs == 0 {
                used.by_partner.remove(partner);
            }
        }
    }

    /// The share of an upload that goes on with `counted` bytes, which were added before.
    pub(super) fn share(
        self: &Arc<Self>,
        partner: &PartnerId,
        bytes_max: Option<u64>,
        counted: u64,
    ) -> Share {
        Share {
            quota: Arc::clone(self),
            partner: partner.clone(),
            bytes_max: bytes_max.unwrap_or(u64::MAX),
            bytes: counted,
            own: counted,
        }
    }

    /// What a partner with this quota of its own has, and has left.
    pub(super) fn of(&self, partner: &PartnerId, bytes_max: Option<u64>) -> QuotaUse {
        let bytes = bytes_max.unwrap_or(u64::MAX).min(self.bytes_max);
        let used = self.used();
        let own = used.by_partner.get(partner).copied().unwrap_or(0);
        let free = bytes
            .saturating_sub(own)
            .min(self.bytes_max.saturating_sub(used.all));
        QuotaUse { bytes, free }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Counts are whole after every statement, so a poisoned lock still guards good data.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Share ===

impl Share {
    /// The client says how much will come: that much is the partner's at once. What all share is
    /// only asked whether it would fit: a word must not starve others. False when it does not fit.
    pub(super) fn declare(&mut self, bytes: u64) -> bool {
        let mut used = self.quota.used();
        let more = bytes.saturating_sub(self.bytes);
        let fits_all = used.all.saturating_add(more) <= self.quota.bytes_max;
        fits_all
            && take_own(
                &mut used,
                &self.partner,
                &mut self.own,
                bytes,
                self.bytes_max,
            )
    }

    /// The most there ever is for this partner.
    pub(super) fn most(&self) -> u64 {
        self.bytes_max.min(self.quota.bytes_max)
    }

    /// No room will ever be enough for a file of `bytes` bytes.
    pub(super) fn never_fits(&self, bytes: u64) -> bool {
        bytes > self.most()
    }

    /// Takes as much as a file of `bytes` bytes needs; false when there is not enough. What was
    /// taken before stays.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        self.grow_instead(bytes, 0)
    }

    /// The same, where `gone` bytes that others have taken for this partner are about to be given back.
    pub(super) fn grow_instead(&mut self, bytes: u64, gone: u64) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return true;
        };
        let mut used = self.quota.used();
        let fits = used.all.saturating_add(more) <= self.quota.bytes_max.saturating_add(gone)
            && take_own(
                &mut used,
                &self.partner,
                &mut self.own,
                bytes,
                self.bytes_max.saturating_add(gone),
            );
        if fits {
            used.all = used.all.saturating_add(more);
            self.bytes = bytes;
        }
        fits
    }

    /// The file stays in the spool with `bytes` bytes and nobody writing it.
    pub(super) fn leave(mut self, bytes: u64) {
        let (taken, own) = (self.bytes, self.own);
        (self.bytes, self.own) = (0, 0);
        self.quota.add(&self.partner, bytes);
        self.quota.give_back_both(&self.partner, taken, own);
    }
}

/// Raises what a partner takes for one file to `bytes`, if that fits.
fn take_own(
    used: &mut Used,
    partner: &PartnerId,
    own: &mut u64,
    bytes: u64,
    bytes_max: u64,
) -> bool {
    let more = bytes.saturating_sub(*own);
    if more == 0 {
        return true;
    }
    let theirs = used.by_partner.get(partner).copied().unwrap_or(0);
    let fits = theirs.saturating_add(more) <= bytes_max;
    if fits {
        used.by_partner
            .insert(partner.clone(), theirs.saturating_add(more));
        *own = bytes;
    }
    fits
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota
            .give_back_both(&self.partner, self.bytes, self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partner(id: &str) -> PartnerId {
        PartnerId::parse(id).unwrap()
    }

    fn free(quota: &SpoolQuota, id: &str, own: Option<u64>) -> u64 {
        quota.of(&partner(id), own).free
    }

    #[test]
    fn bytes_count_for_their_partner_and_for_all_until_they_are_given_back() {
        let quota = Arc::new(SpoolQuota::new(1000));
        let mut first = quota.share(&partner("acme"), Some(300), 0);
        let mut second = quota.share(&partner("acme"), Some(300), 0);
        assert!(first.grow(200) && first.grow(100), "shrinking is no growth");
        assert!(!second.grow(101), "the partner's own quota");
        assert!(second.grow(100));
        assert_eq!(free(&quota, "acme", Some(300)), 0);
        assert_eq!(free(&quota, "globex", None), 700);
        let mut other = quota.share(&partner("globex"), None, 0);
        assert!(!other.grow(701), "what all share");
        assert!(other.grow(700));
        drop(first);
        assert_eq!(free(&quota, "acme", Some(300)), 200);
        drop((second, other));
        assert_eq!(free(&quota, "acme", None), 1000);
        assert!(quota.used().by_partner.is_empty());
    }

    #[test]
    fn what_is_left_behind_counts_on_and_is_taken_over_by_a_resume() {
        let quota = Arc::new(SpoolQuota::new(1000));
        let mut upload = quota.share(&partner("acme"), None, 0);
        assert!(upload.declare(500) && upload.grow(130));
        upload.leave(120);
        assert_eq!(free(&quota, "acme", None), 880);
        let mut resumed = quota.share(&partner("acme"), None, 120);
        assert!(resumed.grow(1000) && !resumed.grow(1001));
        drop(resumed);
        assert_eq!(free(&quota, "acme", None), 1000);
        quota.add(&partner("acme"), 70);
        quota.give_back(&partner("acme"), 70);
        assert_eq!(
            quota.of(&partner("acme"), Some(50)),
            QuotaUse {
                bytes: 50,
                free: 50
            }
        );
    }

    #[test]
    fn a_declared_size_counts_for_its_partner_and_starves_nobody_else() {
        let quota = Arc::new(SpoolQuota::new(1000));
        let mut uploads: Vec<_> = (0..5)
            .map(|_| quota.share(&partner("acme"), Some(3000), 0))
            .collect();
        let declared = uploads
            .iter_mut()
            .filter_map(|one| one.declare(900).then_some(()));
        assert_eq!(declared.count(), 3, "the partner's own quota ends it");
        assert!(!uploads[4].declare(1001), "more than there is");
        assert!(quota.share(&partner("globex"), None, 0).grow(1000));
        assert!(uploads[0].grow(900) && !uploads[1].grow(101));
        drop(uploads);
        assert_eq!(free(&quota, "acme", Some(3000)), 1000);
        assert!(quota.used().by_partner.is_empty());
    }
}
