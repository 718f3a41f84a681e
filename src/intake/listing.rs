//! Listings, page by page: a folder of 100,000 receipts is never in memory at once.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use crate::authority::Identity;
use crate::authority::places::{self, Area, Place};
use crate::intake::view::{
    Attributes, DOCUMENTS, Entry, EntryKind, Shown, absent, attributes_of, broken, file_of,
    nowhere, u64_of,
};
use crate::intake::{Intake, Refusal};
use crate::ledger::submissions::ReceiptEntry;
use crate::policy::feed::Policy;
use crate::terms::clock::Timestamp;
use crate::terms::ids::SubmissionId;
use crate::terms::limits;
use crate::terms::path::VirtualPath;

/// Part of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Entries, each name once.
    pub entries: Vec<Entry>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// Where a listing goes on: behind this submission; and when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(SubmissionId, Timestamp);

// === impl Intake ===

impl Intake {
    /// OPENDIR and READDIR: the first page, or the one that a page before named.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn list(
        &self,
        who: &Identity,
        path: &VirtualPath,
        after: Option<Cursor>,
    ) -> Result<Page, Refusal> {
        let policy = self.policy_of(who)?;
        let whole = |entries| Page {
            entries,
            next: None,
        };
        match places::find(&policy, path) {
            Place::Root => {
                let mut page = Page::default();
                if policy.inbox.iter().any(|inbox| inbox.as_str() == "/") {
                    page = self
                        .list_inbox(who, &policy, Area::Production, "", after.clone())
                        .await?;
                }
                if after.is_none() {
                    let folders = self.top(&policy);
                    page.entries
                        .retain(|entry| folders.iter().all(|folder| folder.name != entry.name));
                    page.entries.extend(folders);
                }
                Ok(page)
            }
            Place::TestRoot => Ok(whole(
                self.folders(&[("inbox", 0o700), ("receipts", 0o500)]),
            )),
            Place::Inbox(area) => self.list_inbox(who, &policy, area, "", after).await,
            Place::FeedFolder(_) => Ok(Page::default()),
            Place::InInbox { area, below, .. } if policy.takes_folders() => {
                let folder = area.canonical(&policy, below).ok();
                let is_folder = match &folder {
                    Some(folder) => self.is_own_folder(who, folder).await?,
                    None => false,
                };
                if !is_folder {
                    return Err(absent(path));
                }
                self.list_inbox(who, &policy, area, below, after).await
            }
            Place::Receipts(area, None) => self.list_receipts(who, area, Shown::All, after).await,
            Place::Rejected(area, None) => {
                self.list_receipts(who, area, Shown::Rejected, after).await
            }
            Place::Outbox(below) => Ok(whole(self.list_outbox(&policy, path, below).await?)),
            Place::Help(None) => {
                let at = self.now().as_secs();
                let pages = self.help_pages(&policy).into_iter();
                let entries = pages.map(|(name, text)| Entry {
                    name,
                    attributes: file_of(u64_of(text.len()), at),
                });
                Ok(whole(entries.collect()))
            }
            Place::InInbox { .. }
            | Place::Receipts(_, Some(_))
            | Place::Rejected(_, Some(_))
            | Place::Help(Some(_)) => Err(absent(path)),
            Place::Nowhere => Err(nowhere(&policy, path)),
        }
    }

    /// MKDIR, where a feed says `folders = "any"`.
    ///
    /// # Errors
    /// [`Refusal`]: not allowed, or there already.
    pub async fn make_folder(&self, who: &Identity, path: &VirtualPath) -> Result<(), Refusal> {
        let policy = self.policy_of(who)?;
        let Some(folder) = own_folder(&policy, path)? else {
            return Err(fixed(&policy, path));
        };
        if self.stat(who, path).await.is_ok() {
            return Err(there_already(path));
        }
        let mut made = self
            .0
            .folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = made.entry(who.partner.clone()).or_default();
        if own.len() >= limits::FOLDERS_REMEMBERED_MAX {
            // Folders with files in them show anyway.
            own.pop_first();
        }
        own.insert(folder.as_str().to_owned());
        Ok(())
    }

    /// RMDIR: an empty folder of the partner's own.
    ///
    /// # Errors
    /// [`Refusal`]: not one, or not empty.
    pub async fn remove_folder(&self, who: &Identity, path: &VirtualPath) -> Result<(), Refusal> {
        let policy = self.policy_of(who)?;
        let Some(folder) = own_folder(&policy, path)? else {
            return Err(fixed(&policy, path));
        };
        if !self.is_own_folder(who, &folder).await? {
            return Err(absent(path));
        }
        if self.has_files(who, &folder).await? {
            return Err(not_empty(path));
        }
        let mut made = self
            .0
            .folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = made.get_mut(&who.partner) {
            let inside = format!("{folder}/");
            if own.iter().any(|known| known.starts_with(&inside)) {
                return Err(not_empty(path));
            }
            own.remove(folder.as_str());
        }
        Ok(())
    }

    /// A folder the partner made, or one that files lie in.
    pub(super) async fn is_own_folder(
        &self,
        who: &Identity,
        path: &VirtualPath,
    ) -> Result<bool, Refusal> {
        let is_made = {
            let made = self
                .0
                .folders
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let inside = format!("{path}/");
            made.get(&who.partner).is_some_and(|own| {
                own.iter()
                    .any(|known| known == path.as_str() || known.starts_with(&inside))
            })
        };
        Ok(is_made || self.has_files(who, path).await?)
    }

    async fn has_files(&self, who: &Identity, folder: &VirtualPath) -> Result<bool, Refusal> {
        let inside = format!("{folder}/");
        let is_live = {
            let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.keys()
                .any(|(partner, path)| *partner == who.partner && path.starts_with(&inside))
        };
        if is_live {
            return Ok(true);
        }
        self.0
            .ledger
            .any_listed_below(&who.partner, &inside, self.shown_since(&who.partner))
            .await
            .map_err(broken)
    }

    /// `below`: a folder of the partner's own, or the inbox itself.
    async fn list_inbox(
        &self,
        who: &Identity,
        policy: &Policy,
        area: Area,
        below: &str,
        after: Option<Cursor>,
    ) -> Result<Page, Refusal> {
        let Ok(folder) = (if below.is_empty() {
            Ok(area.inbox(policy))
        } else {
            area.canonical(policy, below)
        }) else {
            return Ok(Page::default());
        };
        let mut entries = Vec::new();
        // Folders are told once, on the first page: files of one may come on any.
        let mut folders = BTreeSet::new();
        let mut writing = BTreeSet::new();
        let is_first = after.is_none();
        let begun_at = after.as_ref().map_or(self.now(), |Cursor(_, at)| *at);
        {
            let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
            for ((partner, path), one) in live.iter() {
                if *partner != who.partner || one.id.is_none() || Area::of(path) != area {
                    continue;
                }
                match directly_below(path, &folder) {
                    // What began later than the listing was not on its first page.
                    Some(Below::File(_)) if one.since > begun_at => {}
                    Some(Below::File(name)) => {
                        writing.insert(path.clone());
                        entries.push(Entry {
                            name: name.to_owned(),
                            attributes: Attributes {
                                kind: EntryKind::File,
                                bytes: one.file.bytes(),
                                mode: one.mode(),
                                mtime: one.file.mtime().unwrap_or_else(|| one.since.as_secs()),
                            },
                        });
                    }
                    Some(Below::Folder(name)) => drop(folders.insert(name.to_owned())),
                    None => {}
                }
            }
        }
        if !is_first {
            entries.clear();
        }
        let rows = self
            .0
            .ledger
            .listed_page(
                &who.partner,
                self.shown_since(&who.partner),
                after.map(|Cursor(id, _)| id),
                limits::LISTING_ROWS_MAX,
            )
            .await
            .map_err(broken)?;
        let next = (rows.len() >= limits::LISTING_ROWS_MAX)
            .then(|| rows.last().map(|row| Cursor(row.id, begun_at)))
            .flatten();
        for row in &rows {
            if writing.contains(&row.path) || Area::of(&row.path) != area {
                continue;
            }
            if let Some(Below::File(name)) = directly_below(&row.path, &folder) {
                entries.push(Entry {
                    name: name.to_owned(),
                    attributes: attributes_of(row),
                });
            }
        }
        if is_first && policy.takes_folders() {
            self.add_folders(who, &folder, area, &mut folders).await?;
            entries.extend(folders.into_iter().map(|name| Entry {
                name,
                attributes: self.folder(0o700),
            }));
        }
        Ok(Page { entries, next })
    }

    async fn add_folders(
        &self,
        who: &Identity,
        folder: &VirtualPath,
        area: Area,
        folders: &mut BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let paths = self
            .0
            .ledger
            .listed_paths_below(
                &who.partner,
                folder.as_str(),
                self.shown_since(&who.partner),
            )
            .await
            .map_err(broken)?;
        let made = self
            .0
            .folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = made.get(&who.partner).into_iter().flatten();
        for path in own.filter(|path| Area::of(path) == area) {
            match directly_below(path, folder) {
                Some(Below::File(name) | Below::Folder(name)) => {
                    folders.insert(name.to_owned());
                }
                None => {}
            }
        }
        for path in paths.iter().filter(|path| Area::of(path) == area) {
            if let Some(Below::Folder(name)) = directly_below(path, folder) {
                folders.insert(name.to_owned());
            }
        }
        Ok(())
    }

    async fn list_receipts(
        &self,
        who: &Identity,
        area: Area,
        shown: Shown,
        after: Option<Cursor>,
    ) -> Result<Page, Refusal> {
        let is_first = after.is_none();
        let (since, is_test) = (self.receipts_since(), area == Area::Test);
        let ledger = &self.0.ledger;
        let receipts = ledger
            .receipts(
                &who.partner,
                since,
                after.map(|Cursor(id, _)| id),
                limits::LISTING_ROWS_MAX,
            )
            .await
            .map_err(broken)?;
        let next = (receipts.len() >= limits::LISTING_ROWS_MAX)
            .then(|| {
                receipts
                    .last()
                    .map(|receipt| Cursor(receipt.id, self.now()))
            })
            .flatten();
        let wanted = receipts
            .iter()
            .filter(|receipt| receipt.is_test == is_test)
            .filter(|receipt| shown == Shown::All || receipt.rejected);
        let mut entries: Vec<Entry> = wanted.flat_map(documents).collect();
        if is_first && shown == Shown::All {
            let latest = ledger
                .newest_receipt(&who.partner, is_test, since)
                .await
                .map_err(broken)?;
            if let Some(last) = latest {
                let [text, text_sig, ..] = last.bytes;
                let at = last.decided_at.as_secs();
                for (name, bytes) in [("latest.txt", text), ("latest.txt.sig", text_sig)] {
                    entries.push(Entry {
                        name: name.to_owned(),
                        attributes: file_of(bytes, at),
                    });
                }
            }
            entries.extend(self.folders(&[("rejected", 0o500)]));
        }
        Ok(Page { entries, next })
    }

    fn top(&self, policy: &Policy) -> Vec<Entry> {
        let inbox = policy
            .inbox
            .first()
            .map_or("inbox", |path| path.as_str().trim_start_matches('/'));
        let mut folders = vec![(inbox, 0o700)];
        folders.retain(|(name, _)| !name.is_empty() && !name.contains('/'));
        if policy.outbox.is_some() {
            folders.push(("outbox", 0o700));
        }
        folders.extend([("receipts", 0o500), ("test", 0o500), ("help", 0o500)]);
        self.folders(&folders)
    }

    fn folders(&self, names: &[(&str, u32)]) -> Vec<Entry> {
        names
            .iter()
            .map(|(name, mode)| Entry {
                name: (*name).to_owned(),
                attributes: self.folder(*mode),
            })
            .collect()
    }
}

/// The four files of a receipt.
fn documents(receipt: &ReceiptEntry) -> impl Iterator<Item = Entry> {
    let at = receipt.decided_at.as_secs();
    DOCUMENTS
        .iter()
        .zip(receipt.bytes)
        .filter(|(_, bytes)| *bytes > 0)
        .map(move |((suffix, _), bytes)| Entry {
            name: format!("{}{suffix}", receipt.base),
            attributes: file_of(bytes, at),
        })
}

/// What a path is to a folder above it.
enum Below<'p> {
    File(&'p str),
    /// It lies in this folder of the folder.
    Folder(&'p str),
}

fn directly_below<'p>(path: &'p str, folder: &VirtualPath) -> Option<Below<'p>> {
    let rest = match folder.as_str() {
        "/" => path.strip_prefix('/')?,
        folder => path.strip_prefix(folder)?.strip_prefix('/')?,
    };
    Some(match rest.split_once('/') {
        Some((name, _)) => Below::Folder(name),
        None => Below::File(rest),
    })
}

/// The canonical path, where folders of the partner's own may be.
fn own_folder(policy: &Policy, path: &VirtualPath) -> Result<Option<VirtualPath>, Refusal> {
    let Place::InInbox { area, below, .. } = places::find(policy, path) else {
        return Ok(None);
    };
    if !policy.takes_folders() {
        return Ok(None);
    }
    super::view::canonical(policy, area, below).map(Some)
}

/// Why there is no making or removing of this folder.
fn fixed(policy: &Policy, path: &VirtualPath) -> Refusal {
    match places::find(policy, path) {
        Place::Nowhere | Place::InInbox { .. } | Place::Outbox(Some(_)) => Refusal::new(
            super::RefusalKind::PermissionDenied,
            "folders cannot be made or removed here; put files straight into /inbox",
        ),
        Place::Root
        | Place::TestRoot
        | Place::Inbox(_)
        | Place::FeedFolder(_)
        | Place::Outbox(None)
        | Place::Receipts(..)
        | Place::Rejected(..)
        | Place::Help(_) => there_already(path),
    }
}

fn not_empty(path: &VirtualPath) -> Refusal {
    let text = format!("{} is not empty", super::view::shown(path));
    Refusal::new(super::RefusalKind::Failure, text)
}

fn there_already(path: &VirtualPath) -> Refusal {
    let text = format!("{} is there already", super::view::shown(path));
    Refusal::new(super::RefusalKind::Failure, text)
}
