//! What a partner sees: /inbox, /outbox, /receipts, /test, /help; computed, never a directory of the
//! host.

use std::sync::Arc;
use std::sync::PoisonError;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::authority::permit::UploadPermit;
use crate::authority::places::{self, Area, Place};
use crate::authority::{Identity, Refused};
use crate::depot::object::Object;
use crate::intake::hold::{Hold, LOOK_EVERY, LiveFile};
use crate::intake::quota::QuotaUse;
use crate::intake::receipt::ascii;
use crate::intake::settle::is_accepted;
use crate::intake::submission::{Evidence, Submission, Why, being_checked};
use crate::intake::{Intake, Lately, Refusal, RefusalKind, Told, help, micros};
use crate::ledger::LedgerFault;
use crate::ledger::submissions::{Document, Named, Origin, ReceiptEntry, Row, State};
use crate::policy::feed::Policy;
use crate::telemetry::Event;
use crate::terms::clock::Timestamp;
use crate::terms::ids::SubmissionId;
use crate::terms::limits;
use crate::terms::path::VirtualPath;

/// What became of a size set by path.
enum SetSize {
    Done,
    /// It is between two owners at the moment.
    Moving,
    NoFile,
}

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

/// A file that is being written or judged.
struct LiveAt {
    id: SubmissionId,
    file: Arc<LiveFile>,
    mode: u32,
    /// Nobody writes it any more.
    is_sent: bool,
}

/// A file open for reading.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// Of the outbox; read piece by piece.
    Object(Object),
    /// A receipt or a page of help; they are small.
    Whole(Bytes),
}

/// The documents of a receipt, and what is behind its base in their names.
pub(super) const DOCUMENTS: [(&str, Document); 6] = [
    (".txt", Document::Text),
    (".txt.sig", Document::TextSig),
    (".json", Document::Json),
    (".json.sig", Document::JsonSig),
    (".errors.csv", Document::Errors),
    (".errors.csv.sig", Document::ErrorsSig),
];

// === impl Intake ===

impl Intake {
    /// STAT and LSTAT.
    ///
    /// # Errors
    /// [`Refusal`]; a path rejected in the last 15 minutes answers `NoSuchFile` with its verdict.
    pub async fn stat(&self, who: &Identity, path: &VirtualPath) -> Result<Attributes, Refusal> {
        let policy = self.policy_of(who)?;
        match places::find(&policy, path) {
            Place::Root
            | Place::TestRoot
            | Place::Receipts(_, None)
            | Place::Rejected(_, None)
            | Place::Help(None) => Ok(self.folder(0o500)),
            Place::Outbox(None) | Place::Inbox(_) | Place::FeedFolder(_) => Ok(self.folder(0o700)),
            Place::InInbox { area, below, .. } => {
                let canonical = canonical(&policy, area, below)?;
                self.stat_inbox(who, &policy, area, &canonical).await
            }
            Place::Receipts(area, Some(name)) => {
                self.stat_receipt(who, path, area, name, Shown::All).await
            }
            Place::Rejected(area, Some(name)) => {
                self.stat_receipt(who, path, area, name, Shown::Rejected)
                    .await
            }
            Place::Help(Some(name)) => self
                .help_pages(&policy)
                .into_iter()
                .find(|(page, _)| page == name)
                .map(|(_, text)| file_of(u64_of(text.len()), self.now().as_secs()))
                .ok_or_else(|| absent(path)),
            Place::Outbox(Some(below)) => self.stat_outbox(&policy, path, below).await,
            Place::Nowhere => Err(nowhere(&policy, path)),
        }
    }

    async fn stat_inbox(
        &self,
        who: &Identity,
        policy: &Policy,
        area: Area,
        path: &VirtualPath,
    ) -> Result<Attributes, Refusal> {
        self.cut_off_at(&who.partner, path.as_str()).await?;
        if let Some(live) = self.live_attributes(who, path.as_str()) {
            return Ok(live);
        }
        let since = self.shown_since(&who.partner);
        let ledger = &self.0.ledger;
        if let Some(row) = ledger
            .at_path(&who.partner, path.as_str(), since)
            .await
            .map_err(broken)?
        {
            return Ok(attributes_of(&row));
        }
        if policy.takes_folders() && self.is_own_folder(who, path).await? {
            return Ok(self.folder(0o700));
        }
        let recently = self.now().plus_micros(-micros(limits::REJECTED_STAT_SECS));
        let rejected = ledger
            .rejected_at(&who.partner, path.as_str(), recently)
            .await
            .map_err(broken)?;
        Err(match rejected {
            Some(row) => {
                let base = ascii(row.receipt_base.as_deref().unwrap_or_default(), 240);
                let text = format!(
                    "REJECTED {}; report {}/{base}.txt",
                    row.codes.first().map_or("", String::as_str),
                    area.receipts(),
                );
                Refusal::new(RefusalKind::NoSuchFile, text)
            }
            None => absent(path),
        })
    }

    async fn stat_receipt(
        &self,
        who: &Identity,
        path: &VirtualPath,
        area: Area,
        name: &str,
        shown: Shown,
    ) -> Result<Attributes, Refusal> {
        let (receipt, document) = self.find_receipt(who, path, area, name, shown).await?;
        let bytes = size_of(&receipt, document);
        Ok(file_of(bytes, receipt.decided_at.as_secs()))
    }

    /// OPEN for reading.
    ///
    /// # Errors
    /// [`Refusal`]: `inbox is write-only`.
    pub async fn fetch(&self, who: &Identity, path: &VirtualPath) -> Result<Fetched, Refusal> {
        let policy = self.policy_of(who)?;
        match places::find(&policy, path) {
            Place::Receipts(area, Some(name)) => {
                self.read_receipt(who, path, area, name, Shown::All).await
            }
            Place::Rejected(area, Some(name)) => {
                self.read_receipt(who, path, area, name, Shown::Rejected)
                    .await
            }
            Place::Help(Some(name)) => self
                .help_pages(&policy)
                .into_iter()
                .find(|(page, _)| page == name)
                .map(|(_, text)| Fetched::Whole(text.into()))
                .ok_or_else(|| absent(path)),
            Place::Outbox(Some(below)) => self.fetch_outbox(who, &policy, path, below).await,
            Place::InInbox { .. } => Err(Refusal::new(
                RefusalKind::PermissionDenied,
                "inbox is write-only; what became of your files stands in /receipts",
            )),
            Place::Root
            | Place::TestRoot
            | Place::Inbox(_)
            | Place::FeedFolder(_)
            | Place::Outbox(None)
            | Place::Receipts(_, None)
            | Place::Rejected(_, None)
            | Place::Help(None) => Err(is_a_folder(path)),
            Place::Nowhere => Err(nowhere(&policy, path)),
        }
    }

    /// REALPATH: the canonical path, when a folder or file can be there.
    ///
    /// # Errors
    /// [`Refusal`] for an unknown top folder: `no folder /inbx; you have /inbox /receipts /help`.
    pub fn real_path(&self, who: &Identity, path: &VirtualPath) -> Result<VirtualPath, Refusal> {
        let policy = self.policy_of(who)?;
        match places::find(&policy, path) {
            Place::Nowhere => Err(nowhere(&policy, path)),
            Place::Root
            | Place::TestRoot
            | Place::Inbox(_)
            | Place::InInbox { .. }
            | Place::FeedFolder(_)
            | Place::Outbox(_)
            | Place::Receipts(..)
            | Place::Rejected(..)
            | Place::Help(_) => Ok(path.clone()),
        }
    }

    /// What the partner may still put into the spool, for `statvfs@openssh.com`.
    ///
    /// # Errors
    /// [`Refusal`]: the partner is no longer served.
    pub fn quota(&self, who: &Identity) -> Result<QuotaUse, Refusal> {
        let policy = self.policy_of(who)?;
        Ok(self.0.quota.of(&who.partner, policy.quota_bytes))
    }

    /// REMOVE. An unfinished file is destroyed; an accepted or held one leaves the listing, its object
    /// or what is held stays; one of the outbox is acknowledged.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn remove(&self, who: &Identity, path: &VirtualPath) -> Result<(), Refusal> {
        let policy = self.policy_of(who)?;
        if let Place::Outbox(Some(below)) = places::find(&policy, path) {
            return self.acknowledge(who, &policy, path, below).await;
        }
        let (_hold, row) = self.held_row(who, &policy, path, "removed").await?;
        if row.state == State::Interrupted {
            return self.discard(&row).await;
        }
        if row.state == State::Held {
            // Out of sight; a person still decides about it.
            return self.0.ledger.hide(row.id).await.map_err(broken);
        }
        if is_accepted(row.state) {
            self.0.ledger.hide(row.id).await.map_err(broken)?;
            let lately = Lately::Removed(row.id, self.now());
            self.note(&who.partner, &row.path, lately);
            return Ok(());
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
        if from == to {
            // rename(2) of a file to itself does nothing.
            return self.stat(who, from).await.map(|_| Told::default());
        }
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
        if permit.area() != Area::of(&row.path) {
            let text = "a file cannot be moved between /test and the rest; send it again";
            return Err(Refusal::new(RefusalKind::Failure, text));
        }
        if permit.is_partial() {
            let (_hold, there, _) = self.hold_and_look(who, permit.path()).await?;
            if there.is_some() {
                let text = format!("{} exists already", shown(permit.path()));
                return Err(Refusal::new(RefusalKind::Failure, text));
            }
            let named = Named {
                path: permit.path().as_str().to_owned(),
                name: permit.name().to_owned(),
                feed: permit.feed().id.clone(),
            };
            self.0
                .ledger
                .touch(row.id, None, None, Some(named))
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
        self.complete(permit, row, origin, Evidence::Rename).await
    }

    /// Judges a file that was closed under a partial name, under the final name of the permit. The
    /// caller holds its partial name.
    ///
    /// # Errors
    /// [`Refusal`]: the verdict, or the final name is in use.
    pub(super) async fn complete(
        &self,
        permit: UploadPermit,
        row: Row,
        origin: Origin,
        evidence: Evidence,
    ) -> Result<Told, Refusal> {
        let found = self.hold_and_look(permit.identity(), permit.path()).await;
        let (hold, there, file) = found?;
        let mut unfinished = None;
        match there {
            Some(there)
                if evidence == Evidence::Quiet
                    && (there.state == State::Interrupted || there.came_at() > row.moment) =>
            {
                // It has come since the partial name was looked at.
                return Err(being_checked(permit.name()));
            }
            Some(there) if there.state == State::Interrupted => unfinished = Some(there),
            Some(there) if there.state == State::Received => {
                return Err(being_checked(permit.name()));
            }
            Some(_) | None => {}
        }
        file.set_bytes(row.bytes);
        let why = Why::Whole(evidence);
        let mut receiving = self.resume(&permit, origin, row, hold, file, why).await?;
        receiving.unfinished = unfinished;
        Submission::of(receiving).close().await
    }

    /// SETSTAT on a path: mtime is remembered, and that the file is empty now; the rest is accepted
    /// and ignored.
    ///
    /// # Errors
    /// [`Refusal`] when there is nothing at the path.
    pub async fn touch(
        &self,
        who: &Identity,
        path: &VirtualPath,
        mtime: Option<i64>,
        bytes: Option<u64>,
    ) -> Result<(), Refusal> {
        let policy = self.policy_of(who)?;
        let (area, below) = match places::find(&policy, path) {
            Place::Root | Place::TestRoot | Place::Inbox(_) | Place::FeedFolder(_) => return Ok(()),
            Place::InInbox { area, below, .. } => (area, below),
            Place::Outbox(_) | Place::Receipts(..) | Place::Rejected(..) | Place::Help(_) => {
                return Err(Refusal::new(RefusalKind::PermissionDenied, "read only"));
            }
            Place::Nowhere => return Err(nowhere(&policy, path)),
        };
        let path = canonical(&policy, area, below)?;
        self.cut_off_at(&who.partner, path.as_str()).await?;
        if let (Some(mtime), Some(live)) = (mtime, self.live(who, path.as_str())) {
            live.file.set_mtime(mtime);
            if live.is_sent {
                // Whoever judges it may have asked for its time already.
                self.0
                    .ledger
                    .set_mtime(live.id, mtime)
                    .await
                    .map_err(broken)?;
            }
            if bytes.is_none() {
                return Ok(());
            }
        }
        let Some(bytes) = bytes else {
            let Some(row) = self.listed_at(who, &path).await? else {
                return self.touch_folder(who, &policy, &path).await;
            };
            let touched = self.0.ledger.touch(row.id, mtime, None, None).await;
            return touched.map_err(broken);
        };
        let begun = Instant::now();
        loop {
            match self.set_size(who, &path, mtime, bytes).await? {
                SetSize::Done => return Ok(()),
                SetSize::NoFile => return self.touch_folder(who, &policy, &path).await,
                SetSize::Moving if begun.elapsed() > limits::CUT_WITHIN => {
                    return Err(being_checked(path.name().unwrap_or_default()));
                }
                SetSize::Moving => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// SETSTAT size on a path: who writes the file hears it, or its row is changed while nobody can.
    async fn set_size(
        &self,
        who: &Identity,
        path: &VirtualPath,
        mtime: Option<i64>,
        bytes: u64,
    ) -> Result<SetSize, Refusal> {
        let slot = (who.partner.clone(), path.as_str().to_owned());
        let live = {
            let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
            let found = live.get(&slot);
            if found.is_some_and(|live| live.is_judged) {
                return Ok(SetSize::Done);
            }
            found.map(|live| (Arc::clone(&live.file), live.id.filter(|_| !live.is_sent())))
        };
        match live {
            Some((file, Some(id))) => {
                let Some(by) = file.declare_by_path(bytes) else {
                    return Ok(SetSize::Moving);
                };
                let declared = self.0.ledger.declare(id, bytes, by).await;
                return declared.map(|()| SetSize::Done).map_err(broken);
            }
            Some((_, None)) => return Ok(SetSize::Moving),
            None => {}
        }
        let file = LiveFile::new(0);
        let address = who.source.to_string();
        let Ok(_hold) = self.hold(&who.partner, path.as_str(), &address, &file) else {
            return Ok(SetSize::Moving);
        };
        let Some(row) = self.listed_at(who, path).await? else {
            return Ok(SetSize::NoFile);
        };
        if row.state != State::Interrupted {
            // Of a file that was taken, its size is what it is.
            if bytes == 0 {
                self.note(&who.partner, path.as_str(), Lately::Truncated);
            }
            let touched = self.0.ledger.touch(row.id, mtime, None, None).await;
            return touched.map(|()| SetSize::Done).map_err(broken);
        }
        let touched = self.0.ledger.touch(row.id, mtime, Some(bytes), None).await;
        touched.map_err(broken)?;
        let given_up = row.bytes.saturating_sub(bytes);
        self.0.quota.give_back(&who.partner, given_up);
        Ok(SetSize::Done)
    }

    async fn listed_at(&self, who: &Identity, path: &VirtualPath) -> Result<Option<Row>, Refusal> {
        let since = self.visible_since();
        let found = self.0.ledger.at_path(&who.partner, path.as_str(), since);
        found.await.map_err(broken)
    }

    async fn touch_folder(
        &self,
        who: &Identity,
        policy: &Policy,
        path: &VirtualPath,
    ) -> Result<(), Refusal> {
        if policy.takes_folders() && self.is_own_folder(who, path).await? {
            return Ok(());
        }
        Err(absent(path))
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
        let count = match self.0.ledger.receipts_count(&who.partner, since).await {
            Ok(count) => count,
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

    pub(super) fn policy_of(&self, who: &Identity) -> Result<Arc<Policy>, Refusal> {
        self.0.authority.policy(&who.partner).ok_or_else(|| {
            Refusal::new(
                RefusalKind::PermissionDenied,
                "this partner is no longer served",
            )
        })
    }

    pub(super) fn help_pages(&self, policy: &Policy) -> Vec<(String, String)> {
        help::pages(self.0.instance.as_str(), policy, &self.0.receipt_key)
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
        let Place::InInbox { area, below, .. } = places::find(policy, path) else {
            let text = format!("{} cannot be {act}", shown(path));
            return Err(Refusal::new(RefusalKind::PermissionDenied, text));
        };
        let path = canonical(policy, area, below)?;
        let (hold, row, _) = self.hold_and_look(who, &path).await?;
        Ok((hold, row.ok_or_else(|| absent(&path))?))
    }

    /// Holds a canonical path of the inbox and looks what is listed there.
    async fn hold_and_look(
        &self,
        who: &Identity,
        path: &VirtualPath,
    ) -> Result<(Hold, Option<Row>, Arc<LiveFile>), Refusal> {
        let file = LiveFile::new(0);
        self.cut_off_at(&who.partner, path.as_str()).await?;
        let hold = self.hold(&who.partner, path.as_str(), &who.source.to_string(), &file)?;
        let since = self.shown_since(&who.partner);
        let row = self
            .0
            .ledger
            .at_path(&who.partner, path.as_str(), since)
            .await
            .map_err(broken)?;
        if let Some(row) = &row {
            file.set_bytes(row.bytes);
        }
        Ok((hold, row, file))
    }

    /// The file being written at a path; one that is only held for a change does not count.
    fn live(&self, who: &Identity, path: &str) -> Option<LiveAt> {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        let found = live.get(&(who.partner.clone(), path.to_owned()))?;
        Some(LiveAt {
            id: found.id?,
            file: Arc::clone(&found.file),
            mode: found.mode(),
            is_sent: found.is_sent(),
        })
    }

    fn live_attributes(&self, who: &Identity, path: &str) -> Option<Attributes> {
        let LiveAt { file, mode, .. } = self.live(who, path)?;
        Some(Attributes {
            kind: EntryKind::File,
            bytes: file.bytes(),
            mode,
            mtime: file.mtime().unwrap_or_else(|| self.now().as_secs()),
        })
    }

    async fn read_receipt(
        &self,
        who: &Identity,
        path: &VirtualPath,
        area: Area,
        name: &str,
        shown: Shown,
    ) -> Result<Fetched, Refusal> {
        let (receipt, document) = self.find_receipt(who, path, area, name, shown).await?;
        self.0
            .ledger
            .receipt(&who.partner, receipt.id, document)
            .await
            .map_err(broken)?
            .map(|text| Fetched::Whole(text.into()))
            .ok_or_else(|| absent(path))
    }

    /// The receipt and document that a name in the folder of receipts stands for.
    async fn find_receipt(
        &self,
        who: &Identity,
        path: &VirtualPath,
        area: Area,
        name: &str,
        shown: Shown,
    ) -> Result<(ReceiptEntry, Document), Refusal> {
        let since = self.receipts_since();
        let ledger = &self.0.ledger;
        let newest = match name {
            "latest.txt" => Some(Document::Text),
            "latest.txt.sig" => Some(Document::TextSig),
            _ => None,
        };
        if let Some(document) = newest.filter(|_| shown == Shown::All) {
            let latest = ledger
                .newest_receipt(&who.partner, area == Area::Test, since)
                .await
                .map_err(broken)?;
            return latest
                .map(|receipt| (receipt, document))
                .ok_or_else(|| absent(path));
        }
        // Longest ending first: `.txt.sig` ends in neither of the others.
        let parts = DOCUMENTS.iter().find_map(|(ending, document)| {
            let base = name.strip_suffix(ending)?;
            base.ends_with(".receipt").then_some((base, *document))
        });
        let Some((base, document)) = parts else {
            return Err(absent(path));
        };
        ledger
            .receipt_named(&who.partner, base, since)
            .await
            .map_err(broken)?
            .filter(|receipt| shown == Shown::All || receipt.rejected)
            .filter(|receipt| receipt.is_test == (area == Area::Test))
            .filter(|receipt| size_of(receipt, document) > 0)
            .map(|receipt| (receipt, document))
            .ok_or_else(|| absent(path))
    }

    pub(super) fn receipts_since(&self) -> Timestamp {
        let ttl = micros(self.0.spool_config.receipts_ttl_secs);
        self.now().plus_micros(-ttl)
    }

    pub(super) fn folder(&self, mode: u32) -> Attributes {
        Attributes {
            kind: EntryKind::Folder,
            bytes: 0,
            mode,
            mtime: self.now().as_secs(),
        }
    }
}

/// Bytes of a document; 0: there is none.
fn size_of(receipt: &ReceiptEntry, document: Document) -> u64 {
    DOCUMENTS
        .iter()
        .zip(receipt.bytes)
        .find(|((_, known), _)| *known == document)
        .map_or(0, |(_, bytes)| bytes)
}

/// Which receipts a folder shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    All,
    Rejected,
}

/// A file that can only be read.
pub(super) fn file_of(bytes: u64, mtime: i64) -> Attributes {
    Attributes {
        kind: EntryKind::File,
        bytes,
        mode: 0o400,
        mtime,
    }
}

/// The path under the first inbox, aliases and feed folders resolved: what rows are kept under.
pub(super) fn canonical(policy: &Policy, area: Area, below: &str) -> Result<VirtualPath, Refusal> {
    area.canonical(policy, below)
        .map_err(|bad| Refusal::new(RefusalKind::Failure, bad.to_string()))
}

pub(super) fn attributes_of(row: &Row) -> Attributes {
    let mode = match row.state {
        State::Interrupted | State::Receiving => 0o600,
        State::Received | State::Held => 0o400,
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
pub(super) fn shown(path: &VirtualPath) -> String {
    ascii(path.as_str(), 80)
}

pub(super) fn absent(path: &VirtualPath) -> Refusal {
    Refusal::new(RefusalKind::NoSuchFile, format!("no file {}", shown(path)))
}

pub(super) fn is_a_folder(path: &VirtualPath) -> Refusal {
    let text = format!("{} is a folder", shown(path));
    Refusal::new(RefusalKind::Failure, text)
}

pub(super) fn nowhere(policy: &Policy, path: &VirtualPath) -> Refusal {
    let inbox = policy.inbox.first().map_or("/inbox", VirtualPath::as_str);
    let outbox = policy.outbox.as_ref().map_or("", |_| " /outbox");
    let text = format!(
        "no folder {}; you have {inbox}{outbox} /receipts /test /help",
        shown(path)
    );
    Refusal::new(RefusalKind::NoSuchFile, text)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the argument of map_err"
)]
pub(super) fn broken(fault: LedgerFault) -> Refusal {
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

pub(super) fn u64_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
