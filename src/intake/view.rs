//! What a partner sees: /inbox, /receipts, /help; computed, never a directory of the host.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::authority::{Identity, Refused};
use crate::intake::receipt::ascii;
use crate::intake::settle::is_accepted;
use crate::intake::submission::{Submission, being_checked};
use crate::intake::{Hold, Intake, Refusal, RefusalKind, Told, help, micros};
use crate::ledger::LedgerFault;
use crate::ledger::submissions::{Document, Origin, ReceiptEntry, Row, State};
use crate::policy::feed::Policy;
use crate::telemetry::Event;
use crate::terms::clock::Timestamp;
use crate::terms::limits;
use crate::terms::path::VirtualPath;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// SFTP attributes of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// File or folder.
    pub kind: EntryKind,
    /// Size.
    pub bytes: u64,
    /// Permission bits, as in 0o444; the type bits are the edge's matter.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One name.
    pub name: String,
    /// Its attributes.
    pub attributes: Attributes,
}

/// Where a path lies.
enum Place<'p> {
    Root,
    /// The inbox, or the part below it.
    Inbox(Option<&'p str>),
    /// `/inbox/<feed>`.
    Feed,
    Receipts(Option<&'p str>),
    /// `/receipts/rejected`, or a name in it.
    Rejected(Option<&'p str>),
    Help(Option<&'p str>),
    Nowhere,
}

/// The four documents of a receipt, and what is behind its base in their names.
const DOCUMENTS: [(&str, Document); 4] = [
    (".txt", Document::Text),
    (".txt.sig", Document::TextSig),
    (".json", Document::Json),
    (".json.sig", Document::JsonSig),
];

// === impl Intake ===

impl Intake {
    /// STAT and LSTAT.
    ///
    /// # Errors
    /// [`Refusal`]; a path rejected in the last 15 minutes answers `NoSuchFile` with its verdict.
    pub async fn stat(&self, who: &Identity, path: &VirtualPath) -> Result<Attributes, Refusal> {
        let policy = self.policy_of(who)?;
        match place(&policy, path) {
            Place::Root | Place::Receipts(None) | Place::Rejected(None) | Place::Help(None) => {
                Ok(self.folder(0o500))
            }
            Place::Inbox(None) | Place::Feed => Ok(self.folder(0o700)),
            Place::Inbox(Some(_)) => self.stat_inbox(who, &policy, path).await,
            Place::Receipts(Some(_)) | Place::Rejected(Some(_)) | Place::Help(Some(_)) => {
                let name = path.name().unwrap_or_default();
                self.list(who, &path.parent())
                    .await?
                    .into_iter()
                    .find(|entry| entry.name == name)
                    .map(|entry| entry.attributes)
                    .ok_or_else(|| absent(path))
            }
            Place::Nowhere => Err(nowhere(&policy, path)),
        }
    }

    async fn stat_inbox(
        &self,
        who: &Identity,
        policy: &Policy,
        path: &VirtualPath,
    ) -> Result<Attributes, Refusal> {
        let path = canonical(policy, path);
        if let Some(bytes) = self.live_bytes(who, path.as_str()) {
            let mtime = self.now().as_secs();
            return Ok(Attributes {
                kind: EntryKind::File,
                bytes,
                mode: 0o600,
                mtime,
            });
        }
        let since = self.visible_since();
        if let Some(row) = self
            .0
            .ledger
            .at_path(&who.partner, path.as_str(), since)
            .await
            .map_err(broken)?
        {
            return Ok(attributes_of(&row));
        }
        let recently = self.now().plus_micros(-micros(limits::REJECTED_STAT_SECS));
        let rejected = self
            .0
            .ledger
            .rejected_at(&who.partner, path.as_str(), recently)
            .await
            .map_err(broken)?;
        Err(match rejected {
            Some(row) => {
                let base = ascii(row.receipt_base.as_deref().unwrap_or_default(), 240);
                let text = format!(
                    "REJECTED {}; report /receipts/{base}.txt",
                    row.codes.first().map_or("", String::as_str),
                );
                Refusal::new(RefusalKind::NoSuchFile, text)
            }
            None => absent(&path),
        })
    }

    /// OPENDIR.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn list(&self, who: &Identity, path: &VirtualPath) -> Result<Vec<Entry>, Refusal> {
        let policy = self.policy_of(who)?;
        match place(&policy, path) {
            Place::Root => {
                let mut entries = self.top(&policy);
                if policy.inbox.iter().any(|inbox| inbox.as_str() == "/") {
                    entries.extend(self.list_inbox(who, &policy).await?);
                }
                Ok(entries)
            }
            Place::Inbox(None) => self.list_inbox(who, &policy).await,
            Place::Feed => Ok(Vec::new()),
            Place::Receipts(None) => self.list_receipts(who, Shown::All).await,
            Place::Rejected(None) => self.list_receipts(who, Shown::Rejected).await,
            Place::Help(None) => Ok(help::pages(
                self.0.instance.as_str(),
                &policy,
                &self.0.receipt_key,
            )
            .into_iter()
            .map(|(name, text)| Self::file(name, u64_of(text.len()), self.now().as_secs()))
            .collect()),
            Place::Inbox(Some(_))
            | Place::Receipts(Some(_))
            | Place::Rejected(Some(_))
            | Place::Help(Some(_)) => Err(absent(path)),
            Place::Nowhere => Err(nowhere(&policy, path)),
        }
    }

    /// OPEN for reading: receipts and help, whole (they are small).
    ///
    /// # Errors
    /// [`Refusal`]: `inbox is write-only`.
    pub async fn read(&self, who: &Identity, path: &VirtualPath) -> Result<Bytes, Refusal> {
        let policy = self.policy_of(who)?;
        match place(&policy, path) {
            Place::Receipts(Some(name)) => self.read_receipt(who, path, name, Shown::All).await,
            Place::Rejected(Some(name)) => {
                self.read_receipt(who, path, name, Shown::Rejected).await
            }
            Place::Help(Some(name)) => {
                help::pages(self.0.instance.as_str(), &policy, &self.0.receipt_key)
                    .into_iter()
                    .find(|(page, _)| page == name)
                    .map(|(_, text)| Bytes::from(text))
                    .ok_or_else(|| absent(path))
            }
            Place::Inbox(Some(_)) => Err(Refusal::new(
                RefusalKind::PermissionDenied,
                "inbox is write-only; what became of your files stands in /receipts",
            )),
            Place::Root
            | Place::Inbox(None)
            | Place::Feed
            | Place::Receipts(None)
            | Place::Rejected(None)
            | Place::Help(None) => Err(Refusal::new(
                RefusalKind::Failure,
                format!("{} is a folder", shown(path)),
            )),
            Place::Nowhere => Err(nowhere(&policy, path)),
        }
    }

    /// REALPATH: the canonical path, when a folder or file can be there.
    ///
    /// # Errors
    /// [`Refusal`] for an unknown top folder: `no folder /inbx; you have /inbox /receipts /help`.
    pub fn real_path(&self, who: &Identity, path: &VirtualPath) -> Result<VirtualPath, Refusal> {
        let policy = self.policy_of(who)?;
        match place(&policy, path) {
            Place::Nowhere => Err(nowhere(&policy, path)),
            Place::Root
            | Place::Inbox(_)
            | Place::Feed
            | Place::Receipts(_)
            | Place::Rejected(_)
            | Place::Help(_) => Ok(path.clone()),
        }
    }

    /// REMOVE. An unfinished file is destroyed; an accepted one leaves the listing, its object
    /// stays.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn remove(&self, who: &Identity, path: &VirtualPath) -> Result<(), Refusal> {
        let policy = self.policy_of(who)?;
        let (_hold, row) = self.held_row(who, &policy, path, "removed").await?;
        if row.state == State::Interrupted {
            return self.discard(row.id).await;
        }
        if is_accepted(row.state) {
            return self.0.ledger.hide(row.id).await.map_err(broken);
        }
        Err(Refusal::new(
            RefusalKind::PermissionDenied,
            format!(
                "{} is being checked; its receipt will say what became of it",
                shown(path)
            ),
        ))
    }

    /// RENAME and posix-rename: from a partial to the final name this is the moment of judgement.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn rename(
        &self,
        who: &Identity,
        from: &VirtualPath,
        to: &VirtualPath,
        origin: Origin,
    ) -> Result<Told, Refusal> {
        let policy = self.policy_of(who)?;
        let (_from_hold, row) = self.held_row(who, &policy, from, "renamed").await?;
        if row.state != State::Interrupted {
            return Err(Refusal::new(
                RefusalKind::PermissionDenied,
                format!(
                    "{} was taken under this name; send it again under the new one",
                    shown(from)
                ),
            ));
        }
        let permit = self
            .0
            .authority
            .may_open(who, to)
            .map_err(|refused| gate(&refused))?;
        if permit.is_partial() {
            let (_hold, there, _) = self.hold_and_look(who, permit.path()).await?;
            if there.is_some() {
                let text = format!("{} exists already", shown(permit.path()));
                return Err(Refusal::new(RefusalKind::Failure, text));
            }
            let path = permit.path().as_str().to_owned();
            self.0
                .ledger
                .touch(row.id, None, Some(path))
                .await
                .map_err(broken)?;
            return Ok(Told::default());
        }
        if !row.closed {
            return Err(Refusal::new(
                RefusalKind::Failure,
                format!(
                    "incomplete: {} was cut off at {} bytes; send the rest first",
                    shown(from),
                    row.bytes
                ),
            ));
        }
        let (hold, there, size) = self.hold_and_look(who, permit.path()).await?;
        match there {
            Some(there) if there.state == State::Interrupted => self.discard(there.id).await?,
            Some(there) if there.state == State::Received => {
                return Err(being_checked(permit.name()));
            }
            Some(_) | None => {}
        }
        size.store(row.bytes, Ordering::Relaxed);
        let receiving = self.resume(&permit, origin, row, hold, size, true).await?;
        Submission::of(receiving).close().await
    }

    /// SETSTAT on a path: mtime is remembered, the rest accepted and ignored.
    ///
    /// # Errors
    /// [`Refusal`] when there is nothing at the path.
    pub async fn touch(
        &self,
        who: &Identity,
        path: &VirtualPath,
        mtime: Option<i64>,
    ) -> Result<(), Refusal> {
        let policy = self.policy_of(who)?;
        match place(&policy, path) {
            Place::Root | Place::Inbox(None) | Place::Feed => return Ok(()),
            Place::Inbox(Some(_)) => {}
            Place::Receipts(_) | Place::Rejected(_) | Place::Help(_) => {
                return Err(Refusal::new(RefusalKind::PermissionDenied, "read only"));
            }
            Place::Nowhere => return Err(nowhere(&policy, path)),
        }
        if self
            .live_bytes(who, canonical(&policy, path).as_str())
            .is_some()
        {
            return Ok(());
        }
        let path = canonical(&policy, path);
        let since = self.visible_since();
        let row = self
            .0
            .ledger
            .at_path(&who.partner, path.as_str(), since)
            .await
            .map_err(broken)?;
        let row = row.ok_or_else(|| absent(&path))?;
        match mtime {
            Some(_) => self
                .0
                .ledger
                .touch(row.id, mtime, None)
                .await
                .map_err(broken),
            None => Ok(()),
        }
    }

    /// MKDIR and RMDIR: refused with the reason; an existing folder says that it is there.
    ///
    /// # Errors
    /// [`Refusal`] always.
    pub fn make_folder(&self, who: &Identity, path: &VirtualPath) -> Result<(), Refusal> {
        let policy = self.policy_of(who)?;
        Err(match place(&policy, path) {
            Place::Nowhere | Place::Inbox(Some(_)) => Refusal::new(
                RefusalKind::PermissionDenied,
                "folders cannot be made or removed here; put files straight into /inbox",
            ),
            Place::Root
            | Place::Inbox(None)
            | Place::Feed
            | Place::Receipts(_)
            | Place::Rejected(_)
            | Place::Help(_) => Refusal::new(
                RefusalKind::Failure,
                format!("{} is there already", shown(path)),
            ),
        })
    }

    /// Lines for a new sftp channel's stderr: `hello acme. 1 receipt of the last day in /receipts.`
    /// Also remembers that the key was used.
    pub async fn hello(&self, who: &Identity) -> Vec<String> {
        let now = self.now();
        if let Err(fault) = self
            .0
            .ledger
            .key_used(&who.partner, &who.fingerprint, now)
            .await
        {
            tracing::error!(event = Event::LedgerFailed.as_str(), %fault);
        }
        let since = self.visible_since();
        let count = match self.0.ledger.receipts(&who.partner, since).await {
            Ok(receipts) => receipts.len(),
            Err(fault) => {
                tracing::error!(event = Event::LedgerFailed.as_str(), %fault);
                0
            }
        };
        let receipts = match count {
            0 => "no receipts of the last day".to_owned(),
            1 => "1 receipt of the last day in /receipts".to_owned(),
            many => format!("{many} receipts of the last day in /receipts"),
        };
        vec![format!(
            "hello {}. {receipts}. File rules: /help",
            who.partner
        )]
    }

    // --- helpers ---

    fn policy_of(&self, who: &Identity) -> Result<Arc<Policy>, Refusal> {
        self.0.authority.policy(&who.partner).ok_or_else(|| {
            Refusal::new(
                RefusalKind::PermissionDenied,
                "this partner is no longer served",
            )
        })
    }

    /// The listed row at a path of the inbox, held against writers and other changes; other places
    /// cannot be changed.
    async fn held_row(
        &self,
        who: &Identity,
        policy: &Policy,
        path: &VirtualPath,
        act: &str,
    ) -> Result<(Hold, Row), Refusal> {
        if !matches!(place(policy, path), Place::Inbox(Some(_))) {
            let text = format!("{} cannot be {act}", shown(path));
            return Err(Refusal::new(RefusalKind::PermissionDenied, text));
        }
        let path = canonical(policy, path);
        let (hold, row, _) = self.hold_and_look(who, &path).await?;
        Ok((hold, row.ok_or_else(|| absent(&path))?))
    }

    /// Holds a canonical path of the inbox and looks what is listed there.
    async fn hold_and_look(
        &self,
        who: &Identity,
        path: &VirtualPath,
    ) -> Result<(Hold, Option<Row>, Arc<AtomicU64>), Refusal> {
        let size = Arc::new(AtomicU64::new(0));
        let hold = self.hold(&who.partner, path.as_str(), &who.source.to_string(), &size)?;
        let since = self.visible_since();
        let row = self
            .0
            .ledger
            .at_path(&who.partner, path.as_str(), since)
            .await
            .map_err(broken)?;
        if let Some(row) = &row {
            size.store(row.bytes, Ordering::Relaxed);
        }
        Ok((hold, row, size))
    }

    fn live_bytes(&self, who: &Identity, path: &str) -> Option<u64> {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(&(who.partner.clone(), path.to_owned()))
            .map(|live| live.bytes.load(Ordering::Relaxed))
    }

    fn top(&self, policy: &Policy) -> Vec<Entry> {
        let inbox = policy
            .inbox
            .first()
            .map_or("inbox", |path| path.as_str().trim_start_matches('/'));
        [(inbox, 0o700), ("receipts", 0o500), ("help", 0o500)]
            .into_iter()
            .filter(|(name, _)| !name.is_empty() && !name.contains('/'))
            .map(|(name, mode)| Entry {
                name: name.to_owned(),
                attributes: self.folder(mode),
            })
            .collect()
    }

    async fn list_inbox(&self, who: &Identity, policy: &Policy) -> Result<Vec<Entry>, Refusal> {
        let inbox = policy
            .inbox
            .first()
            .cloned()
            .unwrap_or_else(VirtualPath::root);
        let rows = self
            .0
            .ledger
            .listed(&who.partner, self.visible_since())
            .await
            .map_err(broken)?;
        let mut entries: std::collections::BTreeMap<String, Attributes> = rows
            .iter()
            .filter_map(|row| {
                let path = VirtualPath::parse(row.path.as_bytes()).ok()?;
                Some((path.below(&inbox)?.to_owned(), attributes_of(row)))
            })
            .collect();
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        for ((partner, path), writing) in live.iter() {
            if *partner == who.partner
                && let Ok(path) = VirtualPath::parse(path.as_bytes())
                && let Some(name) = path.below(&inbox)
            {
                let attributes = Attributes {
                    kind: EntryKind::File,
                    bytes: writing.bytes.load(Ordering::Relaxed),
                    mode: 0o600,
                    mtime: writing.since.as_secs(),
                };
                entries.insert(name.to_owned(), attributes);
            }
        }
        Ok(entries
            .into_iter()
            .map(|(name, attributes)| Entry { name, attributes })
            .collect())
    }

    async fn list_receipts(&self, who: &Identity, shown: Shown) -> Result<Vec<Entry>, Refusal> {
        let receipts = self.receipts_of(who, shown).await?;
        let mut entries: Vec<Entry> = receipts
            .iter()
            .flat_map(|receipt| {
                DOCUMENTS
                    .iter()
                    .zip(receipt.bytes)
                    .map(|((suffix, _), bytes)| {
                        let name = format!("{}{suffix}", receipt.base);
                        Self::file(name, bytes, receipt.decided_at.as_secs())
                    })
            })
            .collect();
        if shown == Shown::All {
            if let Some(last) = receipts.last() {
                let [text, text_sig, ..] = last.bytes;
                let at = last.decided_at.as_secs();
                entries.push(Self::file("latest.txt".to_owned(), text, at));
                entries.push(Self::file("latest.txt.sig".to_owned(), text_sig, at));
            }
            entries.push(Entry {
                name: "rejected".to_owned(),
                attributes: self.folder(0o500),
            });
        }
        Ok(entries)
    }

    async fn read_receipt(
        &self,
        who: &Identity,
        path: &VirtualPath,
        name: &str,
        shown: Shown,
    ) -> Result<Bytes, Refusal> {
        let receipts = self.receipts_of(who, shown).await?;
        let wanted = match (name, receipts.last()) {
            ("latest.txt", Some(last)) if shown == Shown::All => Some((last.id, Document::Text)),
            ("latest.txt.sig", Some(last)) if shown == Shown::All => {
                Some((last.id, Document::TextSig))
            }
            _ => receipts.iter().rev().find_map(|receipt| {
                let suffix = name.strip_prefix(&receipt.base)?;
                let (_, document) = DOCUMENTS.iter().find(|(known, _)| *known == suffix)?;
                Some((receipt.id, *document))
            }),
        };
        let (id, document) = wanted.ok_or_else(|| absent(path))?;
        self.0
            .ledger
            .receipt(&who.partner, id, document)
            .await
            .map_err(broken)?
            .map(Bytes::from)
            .ok_or_else(|| absent(path))
    }

    async fn receipts_of(
        &self,
        who: &Identity,
        shown: Shown,
    ) -> Result<Vec<ReceiptEntry>, Refusal> {
        let since = self
            .now()
            .plus_micros(-micros(self.0.spool_config.receipts_ttl_secs));
        let mut receipts = self
            .0
            .ledger
            .receipts(&who.partner, since)
            .await
            .map_err(broken)?;
        receipts.retain(|receipt| shown == Shown::All || receipt.rejected);
        Ok(receipts)
    }

    fn folder(&self, mode: u32) -> Attributes {
        Attributes {
            kind: EntryKind::Folder,
            bytes: 0,
            mode,
            mtime: self.now().as_secs(),
        }
    }

    fn file(name: String, bytes: u64, mtime: i64) -> Entry {
        Entry {
            name,
            attributes: Attributes {
                kind: EntryKind::File,
                bytes,
                mode: 0o400,
                mtime,
            },
        }
    }
}

/// Which receipts a folder shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    All,
    Rejected,
}

/// Finds where a path lies. `/receipts` and `/help` come first: an inbox named `/` has the rest.
fn place<'p>(policy: &Policy, path: &'p VirtualPath) -> Place<'p> {
    let mut parts = path.as_str().trim_start_matches('/').splitn(3, '/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    match (first, second, third) {
        ("", None, None) => return Place::Root,
        ("receipts", None, None) => return Place::Receipts(None),
        ("receipts", Some("rejected"), None) => return Place::Rejected(None),
        ("receipts", Some("rejected"), Some(name)) if !name.contains('/') => {
            return Place::Rejected(Some(name));
        }
        ("receipts", Some(name), None) => return Place::Receipts(Some(name)),
        ("help", None, None) => return Place::Help(None),
        ("help", Some(name), None) => return Place::Help(Some(name)),
        ("receipts" | "help", Some(_), Some(_)) => return Place::Nowhere,
        _ => {}
    }
    for inbox in &policy.inbox {
        if path == inbox {
            return Place::Inbox(None);
        }
        let Some(below) = path.below(inbox) else {
            continue;
        };
        let is_feed = |name: &str| policy.feeds.iter().any(|feed| feed.id.as_str() == name);
        match below.split_once('/') {
            None if inbox.as_str() != "/" && is_feed(below) => return Place::Feed,
            None => return Place::Inbox(Some(below)),
            Some((feed, name)) if is_feed(feed) && !name.contains('/') => {
                return Place::Inbox(Some(name));
            }
            Some(_) => {}
        }
    }
    Place::Nowhere
}

/// The path under the first inbox, aliases and feed folders resolved: what rows are kept under.
fn canonical(policy: &Policy, path: &VirtualPath) -> VirtualPath {
    let name = path.name().unwrap_or_default();
    policy
        .inbox
        .first()
        .and_then(|inbox| inbox.join(name).ok())
        .unwrap_or_else(|| path.clone())
}

fn attributes_of(row: &Row) -> Attributes {
    let mode = match row.state {
        State::Interrupted | State::Receiving => 0o600,
        State::Received => 0o400,
        State::Accepted | State::Delivering | State::Delivered | State::Failing => 0o444,
        State::Rejected | State::Expired | State::Removed => 0o000,
    };
    let at: Timestamp = row.received_at.unwrap_or(row.opened_at);
    Attributes {
        kind: EntryKind::File,
        bytes: row.bytes,
        mode,
        mtime: row.mtime.unwrap_or_else(|| at.as_secs()),
    }
}

/// A path for a status text: ASCII and short.
fn shown(path: &VirtualPath) -> String {
    ascii(path.as_str(), 80)
}

fn absent(path: &VirtualPath) -> Refusal {
    Refusal::new(RefusalKind::NoSuchFile, format!("no file {}", shown(path)))
}

fn nowhere(policy: &Policy, path: &VirtualPath) -> Refusal {
    let inbox = policy.inbox.first().map_or("/inbox", VirtualPath::as_str);
    let text = format!(
        "no folder {}; you have {inbox} /receipts /help",
        shown(path)
    );
    Refusal::new(RefusalKind::NoSuchFile, text)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the argument of map_err"
)]
fn broken(fault: LedgerFault) -> Refusal {
    Refusal::ours("ask the ledger", &fault)
}

/// The gate's no, as a protocol edge needs it.
pub(crate) fn gate(refused: &Refused) -> Refusal {
    let kind = if refused.code == "no-feed" {
        RefusalKind::Failure
    } else {
        RefusalKind::PermissionDenied
    };
    Refusal::new(kind, refused.told.clone())
}

fn u64_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
