//! Where a path lies: one reading of a partner's folders, for the gate and for what is shown.
//!
//! The gateway's own folders come first: `/receipts`, `/help`, `/outbox` and `/test` are never
//! hidden behind an inbox named `/`. Below `/test` everything is as above it, and never processed.

use crate::policy::feed::Policy;
use crate::terms::ids::FeedId;
use crate::terms::path::{BadPath, VirtualPath};

/// Whether files count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// They are forwarded.
    Production,
    /// They are checked and tokenized with throw-away keys, and nothing else.
    Test,
}

/// Where a path lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'p> {
    /// A page of `/help`.
    Help(Option<&'p str>),
    /// The inbox, under any of its names.
    Inbox(Area),
    /// `/inbox/<feed>`.
    FeedFolder(Area),
    /// A file, or a folder of the partner's own, below the inbox.
    InInbox {
        /// Whether it counts.
        area: Area,
        /// The feed whose folder it lies in.
        feed: Option<FeedId>,
        /// What is below the inbox or the feed's folder; holds `/` when there are folders.
        below: &'p str,
    },
    /// Nothing can be here.
    Nowhere,
    /// The outbox, or what is below it.
    Outbox(Option<&'p str>),
    /// A receipt, or the folder of them.
    Receipts(Area, Option<&'p str>),
    /// The same for `/receipts/rejected`.
    Rejected(Area, Option<&'p str>),
    /// `/`
    Root,
    /// `/test`
    TestRoot,
}

/// Folders that are computed for every partner; no inbox may hide behind their names.
pub const RESERVED_FOLDERS: [&str; 4] = ["receipts", "help", "outbox", "test"];

/// The inbox of the test area.
const TEST_INBOX: &str = "/test/inbox";

// === impl Area ===

impl Area {
    /// `production`, `test`: as in receipts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Test => "test",
        }
    }

    /// The area of a canonical path of the inbox.
    #[must_use]
    pub fn of(path: &str) -> Self {
        if path.starts_with("/test/") {
            Self::Test
        } else {
            Self::Production
        }
    }

    /// The inbox under its first name.
    #[must_use]
    pub fn inbox(self, policy: &Policy) -> VirtualPath {
        match self {
            // A compiled policy has at least one inbox; the root would be the strictest stand-in.
            Self::Production => policy.inbox.first().cloned(),
            Self::Test => VirtualPath::parse(TEST_INBOX.as_bytes()).ok(),
        }
        .unwrap_or_else(VirtualPath::root)
    }

    /// The one path a file or folder below the inbox is known by: aliases and feed folders are
    /// resolved, folders of the partner's own stay.
    ///
    /// # Errors
    /// [`BadPath`] when it would be too long, or in a folder of the gateway's own.
    pub fn canonical(self, policy: &Policy, below: &str) -> Result<VirtualPath, BadPath> {
        let path = self.inbox(policy).join(below)?;
        // What is known by this path must be found at it, and in the same area: with `/` for an
        // inbox a folder of the partner's could be called `test`.
        let is_there = matches!(find(policy, &path), Place::InInbox { area, .. } if area == self);
        if is_there {
            Ok(path)
        } else {
            Err(BadPath::Reserved)
        }
    }

    /// `/receipts`, `/test/receipts`.
    #[must_use]
    pub fn receipts(self) -> &'static str {
        match self {
            Self::Production => "/receipts",
            Self::Test => "/test/receipts",
        }
    }
}

/// Finds where a path lies.
#[must_use]
pub fn find<'p>(policy: &Policy, path: &'p VirtualPath) -> Place<'p> {
    let all = path.as_str().trim_start_matches('/');
    let (first, rest) = match all.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (all, None),
    };
    match (first, rest) {
        ("", _) => Place::Root,
        ("help", rest) if rest.is_none_or(|rest| !rest.contains('/')) => Place::Help(rest),
        ("receipts", rest) => receipts(Area::Production, rest),
        ("outbox", rest) if policy.outbox.is_some() => Place::Outbox(rest),
        ("help" | "outbox", _) => Place::Nowhere,
        ("test", None) => Place::TestRoot,
        ("test", Some(rest)) => match rest.split_once('/') {
            None if rest == "receipts" => receipts(Area::Test, None),
            Some(("receipts", rest)) => receipts(Area::Test, Some(rest)),
            _ => in_test(policy, path, rest),
        },
        _ => in_inbox(policy, path),
    }
}

fn receipts(area: Area, rest: Option<&str>) -> Place<'_> {
    match rest.map(|rest| (rest, rest.split_once('/'))) {
        None => Place::Receipts(area, None),
        Some(("rejected", _)) => Place::Rejected(area, None),
        Some((name, None)) => Place::Receipts(area, Some(name)),
        Some((_, Some(("rejected", name)))) if !name.contains('/') => {
            Place::Rejected(area, Some(name))
        }
        Some(_) => Place::Nowhere,
    }
}

/// `rest` is what is behind `/test/`.
fn in_test<'p>(policy: &Policy, path: &'p VirtualPath, rest: &'p str) -> Place<'p> {
    let names = policy
        .inbox
        .iter()
        .map(|inbox| inbox.as_str().trim_start_matches('/'));
    for name in names.filter(|name| !name.is_empty()).chain(["inbox"]) {
        if rest == name {
            return Place::Inbox(Area::Test);
        }
        let below = rest
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('/'));
        if let Some(below) = below {
            return below_inbox(policy, Area::Test, below);
        }
    }
    debug_assert!(path.as_str().starts_with("/test/"), "the caller has looked");
    Place::Nowhere
}

fn in_inbox<'p>(policy: &Policy, path: &'p VirtualPath) -> Place<'p> {
    if policy.inbox.contains(path) {
        return Place::Inbox(Area::Production);
    }
    // The closest inbox counts where one lies inside another, as `/` and `/upload`.
    let inbox = policy
        .inbox
        .iter()
        .filter(|inbox| path.below(inbox).is_some())
        .max_by_key(|inbox| inbox.as_str().len());
    match inbox.and_then(|inbox| path.below(inbox)) {
        Some(below) => below_inbox(policy, Area::Production, below),
        None => Place::Nowhere,
    }
}

fn below_inbox<'p>(policy: &Policy, area: Area, below: &'p str) -> Place<'p> {
    let feed_of = |name: &str| {
        let id = FeedId::parse(name).ok()?;
        policy.feed(&id).map(|feed| feed.id.clone())
    };
    match below.split_once('/') {
        None if feed_of(below).is_some() => Place::FeedFolder(area),
        None => Place::InInbox {
            area,
            feed: None,
            below,
        },
        Some((folder, name)) => match feed_of(folder) {
            Some(feed) if policy.takes_folders() || !name.contains('/') => Place::InInbox {
                area,
                feed: Some(feed),
                below: name,
            },
            None if policy.takes_folders() => Place::InInbox {
                area,
                feed: None,
                below,
            },
            Some(_) | None => Place::Nowhere,
        },
    }
}
