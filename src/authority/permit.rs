//! Permits: private fields, made only here, consumed by use.

use std::sync::Arc;

use crate::authority::Identity;
use crate::authority::places::Area;
use crate::policy::feed::{Feed, Policy};
use crate::terms::path::VirtualPath;

/// One upload passed the gate.
#[derive(Debug)]
pub struct UploadPermit {
    identity: Identity,
    area: Area,
    path: VirtualPath,
    name: String,
    policy: Arc<Policy>,
    feed: Arc<Feed>,
}

impl UploadPermit {
    pub(super) fn new(
        identity: Identity,
        area: Area,
        path: VirtualPath,
        name: String,
        policy: Arc<Policy>,
        feed: Arc<Feed>,
    ) -> Self {
        Self {
            identity,
            area,
            path,
            name,
            policy,
            feed,
        }
    }
    /// Who.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
    /// Whether the file counts.
    #[must_use]
    pub fn area(&self) -> Area {
        self.area
    }
    /// The canonical path as opened (`/inbox/...`, aliases resolved; a partial name stays partial).
    #[must_use]
    pub fn path(&self) -> &VirtualPath {
        &self.path
    }
    /// The final file name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The policy that allowed it.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
    /// The feed that takes it.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
    /// The path is a partial name: CLOSE does not judge, RENAME to the final name does.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.path.name() != Some(self.name.as_str())
    }
}
