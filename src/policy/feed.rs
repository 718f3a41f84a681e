//! A compiled policy and its feeds: what one partner may send, and where it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::civil::Date;
use regex::Regex;

use crate::policy::contract::Contract;
use crate::terms::digest::DigestKind;
use crate::terms::ids::{FeedId, PartnerId, StoreName, SubmissionId};
use crate::terms::path::VirtualPath;
use crate::terms::verdict::Verdict;

/// All rules for one partner; immutable, hashed.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whose rules these are.
    pub partner: PartnerId,
    /// The partner's name for people.
    pub name: String,
    /// The author's version number, recorded with every submission.
    pub version: u32,
    /// SHA-256 of the policy text and, in their order there, of the SHA-256 of each list it names.
    pub hash: [u8; 32],
    /// Networks logins may come from; empty: anywhere.
    pub allow_from: Vec<IpNet>,
    /// Names of the inbox; the first is canonical, never empty.
    pub inbox: Vec<VirtualPath>,
    /// Where partners ask, for receipts: the first contact's address.
    pub help: Option<String>,
    /// Sessions at once.
    pub sessions_max: usize,
    /// Raw bytes in the spool, at most; `None`: only the gateway's own quota.
    pub quota_bytes: Option<u64>,
    /// Bytes a session may send a second; `None`: [`crate::terms::limits::SSH_BYTES_PER_SEC_MAX`].
    pub bytes_per_sec: Option<u64>,
    /// Files a session may open a second; `None`: [`crate::terms::limits::SFTP_FILES_PER_SEC_MAX`].
    pub files_per_sec: Option<u32>,
    /// An accepted file leaves the inbox at once.
    pub hide_after_accept: bool,
    /// What the partner may fetch; `None`: nothing.
    pub outbox: Option<Outbox>,
    /// Old algorithms for connections from [`Policy::allow_from`]; `None`: none.
    pub legacy: Option<Legacy>,
    /// The feeds, in the policy's order; the first whose pattern matches takes the file.
    pub feeds: Vec<Arc<Feed>>,
}

/// Files the organisation leaves for a partner: objects of a store below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// Where they lie.
    pub store: StoreName,
    /// What their keys begin with; ends in `/`.
    pub prefix: String,
}

/// Algorithms nobody should use any more, for one partner's networks and until a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legacy {
    /// The last day, in UTC.
    pub until: Date,
    /// Names as in SSH; all of [`LEGACY_ALGORITHMS`].
    pub algorithms: Vec<String>,
}

/// What `legacy` may name: weak, but known to the SSH library.
pub const LEGACY_ALGORITHMS: [&str; 9] = [
    "ssh-rsa",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group-exchange-sha1",
    "aes256-cbc",
    "aes192-cbc",
    "aes128-cbc",
    "hmac-sha1",
    "hmac-sha1-etm@openssh.com",
];

/// Whether partners may make folders in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folders {
    /// Any, to any depth; the feed is found by the last part of the path.
    Any,
    /// None.
    None,
}

/// One kind of file.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its name inside the policy.
    pub id: FeedId,
    /// Matches the whole final name.
    pub pattern: Regex,
    /// The pattern as written.
    pub pattern_text: String,
    /// A name that matches, made from the first test file or the pattern; for messages.
    pub example: Option<String>,
    /// The store its objects go to.
    pub store: StoreName,
    /// How the object's key is made.
    pub key: KeyTemplate,
    /// Largest file, bytes as sent.
    pub bytes_max: u64,
    /// The digest of its files.
    pub digest: DigestKind,
    /// Whether its files may lie in folders of the partner's own.
    pub folders: Folders,
    /// What shows that a file is whole.
    pub completeness: Completeness,
    /// A file closed under a partial name and left alone for so long, milliseconds, is taken under
    /// its final name; `None`: only its rename is its end.
    pub quiet_window_ms: Option<u64>,
    /// What the same content again means.
    pub same_content: SameContent,
    /// What the same name again means.
    pub same_name: SameName,
    /// What its files must be.
    pub contract: Arc<Contract>,
    /// The policy's own tests.
    pub tests: Vec<FeedTest>,
}

/// What shows that a file is whole, beside the CLOSE of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Completeness {
    /// Nothing more.
    Close,
    /// The client declared its size, or renamed it from a partial name.
    Size,
    /// The client renamed it from a partial name.
    Rename,
}

/// What the same content again means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameContent {
    /// A new submission.
    Allow,
    /// OK, "accepted already, as ...", no second object.
    Known,
    /// A finding.
    Reject,
}

/// What the same name again means. Judged at CLOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameName {
    /// Both stay.
    Allow,
    /// A finding.
    Reject,
    /// The listing shows the newer; objects are never overwritten.
    Replace,
}

/// One `[[feed.test]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedTest {
    /// Path relative to the policy folder.
    pub file: String,
    /// The name to pretend; the file's own otherwise.
    pub name: Option<String>,
    /// The verdict it must get.
    pub expect: Verdict,
    /// Codes that must occur, exactly these; empty: not looked at.
    pub codes: Vec<String>,
}

/// `acme/orders/day={day}/{submission}.csv`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    pieces: Vec<Piece>,
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Copied.
    Literal(String),
    /// A named group of the feed's pattern, or `partner`, `feed`, `submission`, `received` (the
    /// date of arrival, `2026-11-21`).
    Placeholder(String),
}

/// The policies of all partners at one moment.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// By partner.
    pub policies: BTreeMap<PartnerId, Arc<Policy>>,
}

// === impl Policy ===

impl Policy {
    /// The feed that takes a file of this final name.
    #[must_use]
    pub fn feed_for(&self, name: &str) -> Option<&Arc<Feed>> {
        self.feeds.iter().find(|feed| feed.pattern.is_match(name))
    }

    /// Some feed takes files from folders the partner made.
    #[must_use]
    pub fn takes_folders(&self) -> bool {
        self.feeds.iter().any(|feed| feed.folders == Folders::Any)
    }

    /// The feed of this id.
    #[must_use]
    pub fn feed(&self, id: &FeedId) -> Option<&Arc<Feed>> {
        self.feeds.iter().find(|feed| feed.id == *id)
    }
}

// === impl KeyTemplate ===

impl KeyTemplate {
    /// From pieces that the compiler has checked.
    #[must_use]
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self { pieces }
    }

    /// The object key for one submission. Group values have `/` and control characters replaced
    /// by `_`, and a folder that would be empty, `.` or `..` becomes `_`, so a name can never
    /// choose a folder. `received` is a date like `2026-11-21`.
    #[must_use]
    pub fn fill(
        &self,
        policy: &Policy,
        feed: &Feed,
        name: &str,
        id: SubmissionId,
        received: &str,
    ) -> String {
        let captures = feed.pattern.captures(name);
        let mut key = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => key.push_str(text),
                Piece::Placeholder(word) => match word.as_str() {
                    "partner" => key.push_str(policy.partner.as_str()),
                    "feed" => key.push_str(feed.id.as_str()),
                    "submission" => key.push_str(&id.to_string()),
                    "received" => key.push_str(received),
                    group => {
                        let value = captures
                            .as_ref()
                            .and_then(|found| found.name(group))
                            .map_or("", |m| m.as_str());
                        key.extend(value.chars().map(safe_in_key));
                    }
                },
            }
        }
        let folders: Vec<&str> = key
            .split('/')
            .map(|folder| {
                if matches!(folder, "" | "." | "..") {
                    "_"
                } else {
                    folder
                }
            })
            .collect();
        folders.join("/")
    }

    /// The template as the policy wrote it.
    #[must_use]
    pub fn text(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Placeholder(word) => format!("{{{word}}}"),
            })
            .collect()
    }
}

fn safe_in_key(c: char) -> char {
    if c == '/' || c == '\\' || c.is_control() {
        '_'
    } else {
        c
    }
}
