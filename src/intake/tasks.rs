//! The owner of everything intake does in the background: nothing is spawned that nobody awaits.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Running background work; [`Tasks::finish`] waits for all of it.
pub(super) struct Tasks {
    runtime: Handle,
    set: Mutex<JoinSet<()>>,
}

impl Tasks {
    /// Runs on the given runtime, so that work can also be started from a destructor.
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            set: Mutex::new(JoinSet::new()),
        }
    }

    /// Starts work that goes on although the one who asked for it goes away.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        while set.try_join_next().is_some() {}
        set.spawn_on(work, &self.runtime);
    }

    /// Waits until nothing runs any more.
    pub(super) async fn finish(&self) {
        loop {
            let mut set = {
                let mut held = self.set.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *held)
            };
            if set.is_empty() {
                return;
            }
            while set.join_next().await.is_some() {}
        }
    }
}
