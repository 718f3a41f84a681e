//! How many files one connection has open, over all its channels.
//!
//! A place is taken at OPEN or OPENDIR, before the request is worked on, and is free again when
//! whatever holds it is dropped: a refused request, a closed handle, an upload whose CLOSE has its
//! answer, a channel that hung up. Nothing here knows which.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use crate::terms::limits;

/// Counts what one connection has open.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    handles: AtomicUsize,
    uploads: AtomicUsize,
    downloads: AtomicUsize,
    /// Bytes of requests that wait.
    waiting: AtomicUsize,
    pace: Mutex<Option<Instant>>,
}

/// What a handle is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Holds what is fetched ahead.
    Downloading,
    Reading,
    /// Costs memory of its own until it is closed.
    Uploading,
}

/// Bytes of a request that waits; free again when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    files: Arc<OpenFiles>,
    bytes: usize,
}

/// One open handle; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    files: Arc<OpenFiles>,
    purpose: Purpose,
}

// === impl OpenFiles ===

impl OpenFiles {
    /// A place for one more handle, unless [`limits::SFTP_HANDLES_MAX`] handles are open, or
    /// [`limits::SFTP_UPLOADS_MAX`] uploads when it is to be one.
    pub(super) fn take(self: &Arc<Self>, purpose: Purpose) -> Option<Place> {
        if !one_more(&self.handles, limits::SFTP_HANDLES_MAX) {
            return None;
        }
        // From here on dropping it gives back what was counted.
        let place = Place {
            files: Arc::clone(self),
            purpose: Purpose::Reading,
        };
        place.turn_into(purpose)
    }

    /// Room for a request of so many bytes to wait, unless [`limits::SFTP_WAITING_BYTES_MAX`] are taken.
    pub(super) fn wait(self: &Arc<Self>, bytes: usize) -> Option<Waiting> {
        let most = limits::SFTP_WAITING_BYTES_MAX;
        let taken = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken.checked_add(bytes).filter(|taken| *taken <= most)
            });
        taken.ok().map(|_| Waiting {
            files: Arc::clone(self),
            bytes,
        })
    }

    /// How long an upload that is opened at `now` has to wait, where `per_sec` a second are allowed,
    /// and those of [`limits::SFTP_FILES_BURST_SECS`] at once (the generic cell rate algorithm).
    pub(super) fn pace(&self, per_sec: u32, now: Instant) -> Duration {
        let each = Duration::from_secs(1) / per_sec.max(1);
        let burst = Duration::from_secs(limits::SFTP_FILES_BURST_SECS.into());
        let mut due = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = due.map_or(now, |due| due.max(now));
        *due = Some(turn + each);
        turn.duration_since(now).saturating_sub(burst)
    }
}

fn one_more(count: &AtomicUsize, most: usize) -> bool {
    // The counts guard no other data.
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < most).then_some(open + 1)
        })
        .is_ok()
}

// === impl Place ===

impl Place {
    /// The same place for what it turns out to be for; `None` when there are too many of those.
    pub(super) fn turn_into(mut self, purpose: Purpose) -> Option<Self> {
        let has_room = match purpose {
            Purpose::Reading => true,
            Purpose::Downloading => one_more(&self.files.downloads, limits::SFTP_DOWNLOADS_MAX),
            Purpose::Uploading => one_more(&self.files.uploads, limits::SFTP_UPLOADS_MAX),
        };
        if !has_room {
            return None;
        }
        self.give_back();
        self.purpose = purpose;
        Some(self)
    }
}

impl Place {
    /// What its purpose counts beside the handle.
    fn give_back(&self) {
        match self.purpose {
            Purpose::Reading => 0,
            Purpose::Downloading => self.files.downloads.fetch_sub(1, Ordering::Relaxed),
            Purpose::Uploading => self.files.uploads.fetch_sub(1, Ordering::Relaxed),
        };
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
        self.files.handles.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.files.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes places until there are no more.
    fn all(files: &Arc<OpenFiles>, purpose: Purpose) -> Vec<Place> {
        std::iter::from_fn(|| files.take(purpose)).collect()
    }

    fn counts(files: &OpenFiles) -> (usize, usize) {
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        (count(&files.handles), count(&files.uploads))
    }

    #[test]
    fn uploads_end_at_their_own_bound_and_leave_the_rest_to_readers() {
        let files = Arc::new(OpenFiles::default());
        let uploads = all(&files, Purpose::Uploading);
        assert_eq!(uploads.len(), limits::SFTP_UPLOADS_MAX);
        let readers = all(&files, Purpose::Reading);
        assert_eq!(
            readers.len(),
            limits::SFTP_HANDLES_MAX - limits::SFTP_UPLOADS_MAX,
            "a refused upload takes no place"
        );
    }

    #[test]
    fn readers_may_take_every_place_and_then_there_is_none_for_an_upload() {
        let files = Arc::new(OpenFiles::default());
        let readers = all(&files, Purpose::Reading);
        assert_eq!(readers.len(), limits::SFTP_HANDLES_MAX);
        assert!(files.take(Purpose::Uploading).is_none());
        assert_eq!(counts(&files), (limits::SFTP_HANDLES_MAX, 0));
    }

    #[test]
    fn a_place_is_given_back_exactly_once() {
        let files = Arc::new(OpenFiles::default());
        let mut uploads = all(&files, Purpose::Uploading);
        drop(uploads.pop());
        assert!(files.take(Purpose::Uploading).is_some_and(|place| {
            uploads.push(place);
            files.take(Purpose::Uploading).is_none()
        }));
        let reader = files.take(Purpose::Reading);
        drop(uploads);
        assert_eq!(counts(&files), (1, 0));
        drop(reader);
        assert_eq!(counts(&files), (0, 0));
    }

    #[test]
    fn downloads_end_at_their_own_bound() {
        let files = Arc::new(OpenFiles::default());
        let downloads = all(&files, Purpose::Downloading);
        assert_eq!(downloads.len(), limits::SFTP_DOWNLOADS_MAX);
        let reader = files.take(Purpose::Reading).unwrap();
        assert!(reader.turn_into(Purpose::Downloading).is_none());
        assert_eq!(counts(&files).0, limits::SFTP_DOWNLOADS_MAX);
        drop(downloads);
        assert_eq!(counts(&files), (0, 0));
    }

    #[test]
    fn a_burst_of_files_is_free_and_what_follows_keeps_the_pace() {
        let files = OpenFiles::default();
        let (now, per_sec) = (Instant::now(), limits::SFTP_FILES_PER_SEC_MAX);
        for _ in 0..=limits::SFTP_FILES_BURST_SECS * per_sec {
            assert_eq!(files.pace(per_sec, now), Duration::ZERO);
        }
        for _ in 0..per_sec {
            files.pace(per_sec, now);
        }
        let wait = files.pace(per_sec, now);
        assert!(wait >= Duration::from_secs(1) && wait < Duration::from_millis(1010));
        let later = now + Duration::from_mins(1);
        assert_eq!(files.pace(per_sec, later), Duration::ZERO);
    }
}
