//! How many files one connection has open, over all its channels.
//!
//! A place is taken at OPEN or OPENDIR, before the request is worked on, and is free again when
//! whatever holds it is dropped: a refused request, a closed handle, an upload whose CLOSE has its
//! answer, a channel that hung up. Nothing here knows which.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::terms::limits;

/// Counts what one connection has open.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    handles: AtomicUsize,
    uploads: AtomicUsize,
}

/// What a handle is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Reading,
    /// Costs memory of its own until it is closed.
    Uploading,
}

/// One open handle; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    files: Arc<OpenFiles>,
    uploads: bool,
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
        let mut place = Place {
            files: Arc::clone(self),
            uploads: false,
        };
        match purpose {
            Purpose::Reading => {}
            Purpose::Uploading if one_more(&self.uploads, limits::SFTP_UPLOADS_MAX) => {
                place.uploads = true;
            }
            Purpose::Uploading => return None,
        }
        Some(place)
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

impl Drop for Place {
    fn drop(&mut self) {
        if self.uploads {
            self.files.uploads.fetch_sub(1, Ordering::Relaxed);
        }
        self.files.handles.fetch_sub(1, Ordering::Relaxed);
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
}
