//! Rank 6: policies and partner keys are files that people edit; this puts their changes in force.
//!
//! The truth is a periodic look at both folders: the content of their files decides whether
//! anything changed. The operating system's notices (inotify) only make the look come sooner. A
//! policy folder with one mistake is refused whole and the last good set stays in force; a bad
//! line of a key file is refused alone, for it must not lock other keys out or in. Every change
//! and every refusal is logged, counted and recorded in the audit.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use crate::authority::Authority;
use crate::authority::partner_keys::{BadKeyLine, FolderFile, PartnerKeys, folder_files};
use crate::ledger::Ledger;
use crate::ledger::audit::Act;
use crate::policy;
use crate::policy::feed::{Policy, PolicySet};
use crate::policy::lists::Lists;
use crate::policy::mistake::{Mistake, Severity};
use crate::telemetry::{Event, Metrics};
use crate::terms::clock::Clock;
use crate::terms::codes;
use crate::terms::ids::StoreName;
use crate::terms::limits;

/// Keeps the gate in step with the folders.
pub struct Reload {
    scanner: Arc<Scanner>,
    asked: mpsc::Receiver<()>,
    ask: Trigger,
}

/// Asks for a look at once, as SIGHUP does. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trigger(mpsc::Sender<()>);

/// One folder's part of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What is on disk is in force now.
    Reloaded {
        /// Which folder.
        what: Watched,
        /// One line a change; empty when only comments or layout changed.
        changes: Vec<String>,
    },
    /// Something on disk is not in force.
    Refused {
        /// Which folder.
        what: Watched,
        /// One line a mistake: code or place, and cause.
        mistakes: Vec<String>,
        /// The same for people, with the lines and carets.
        shown: String,
    },
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// `partners/*.pub`
    Keys,
    /// `policies/*.toml`
    Policies,
}

/// What can make the next look come.
struct Watch {
    /// Dropping it ends the notices; `None` where the system gives none.
    _watcher: Option<RecommendedWatcher>,
    hints: mpsc::Receiver<()>,
    ticks: Interval,
}

struct Scanner {
    policies: PathBuf,
    partners: PathBuf,
    stores: BTreeSet<StoreName>,
    authority: Authority,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

/// What the last look that was acted upon has found.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    policies: Side,
    keys: Side,
}

#[derive(Clone, Copy, Debug, Default)]
struct Side {
    digest: Option<[u8; 32]>,
    in_force: bool,
}

/// Both folders at one moment.
struct Look {
    policies: io::Result<Vec<FolderFile>>,
    lists: io::Result<Vec<FolderFile>>,
    keys: io::Result<Vec<FolderFile>>,
}

/// The folder of lists, in the folder of policies.
pub(crate) const LISTS: &str = "lists";

/// Whether folders that did not change are acted upon as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Asked,
    Noticed,
}

// === impl Reload ===

impl Reload {
    /// Watches nothing until [`Reload::scan`] or [`Reload::run`]. `stores` are the names that
    /// feeds may deliver to.
    #[must_use]
    pub fn new(
        policies: PathBuf,
        partners: PathBuf,
        stores: BTreeSet<StoreName>,
        authority: Authority,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (ask, asked) = mpsc::channel(1);
        Self {
            scanner: Arc::new(Scanner {
                policies,
                partners,
                stores,
                authority,
                metrics,
                clock,
                seen: Mutex::default(),
            }),
            asked,
            ask: Trigger(ask),
        }
    }

    /// Asks [`Reload::run`] for a look; see [`Trigger::pull`].
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.ask.clone()
    }

    /// Reads and compiles every `*.toml` directly in the folder, calendars and samples below it
    /// not among them. Warnings come with the set.
    ///
    /// # Errors
    /// Every mistake of every file; at least one is an error.
    pub fn load_policies(
        folder: &Path,
        stores: &BTreeSet<StoreName>,
    ) -> Result<(PolicySet, Vec<Mistake>), Vec<Mistake>> {
        let (files, lists) = (read_policies(folder), read_lists(folder));
        compile_folder(folder, files.as_deref(), lists.as_deref(), stores)
    }

    /// Looks at both folders and puts in force what changed since the last look. Reads files:
    /// not for an async thread. The first call is the gateway's start.
    #[must_use]
    pub fn scan(&self) -> Vec<Outcome> {
        self.scanner.apply(&self.scanner.look(), Cause::Noticed)
    }

    /// Looks again and again until `shutdown` is done.
    pub async fn run(mut self, ledger: Ledger, shutdown: impl Future<Output = ()> + Send) {
        let mut watch = self.watch();
        tokio::pin!(shutdown);
        loop {
            let outcomes = tokio::select! {
                () = &mut shutdown => return,
                outcomes = self.next(&mut watch) => outcomes,
            };
            for outcome in outcomes {
                let act = outcome.to_act();
                let action = act.action.clone();
                if let Err(fault) = ledger.record(act).await {
                    tracing::error!(
                        event = Event::LedgerFailed.as_str(),
                        action,
                        cause = %fault,
                    );
                }
            }
        }
    }

    /// Waits for a reason to look, then looks until the folders are at rest.
    async fn next(&mut self, watch: &mut Watch) -> Vec<Outcome> {
        let cause = tokio::select! {
            Some(()) = self.asked.recv() => Cause::Asked,
            Some(()) = watch.hints.recv() => Cause::Noticed,
            _ = watch.ticks.tick() => Cause::Noticed,
        };
        let Some(mut look) = self.off_thread(Scanner::look).await else {
            return Vec::new();
        };
        if cause == Cause::Noticed && !self.scanner.is_news(&look) {
            return Vec::new();
        }
        // Editors and checkouts write in steps: wait until two looks are the same. A folder that
        // never rests is taken as it is.
        for _ in 0..limits::RELOAD_SETTLE_ROUNDS_MAX {
            tokio::time::sleep(Duration::from_millis(limits::RELOAD_SETTLE_MS)).await;
            let Some(later) = self.off_thread(Scanner::look).await else {
                return Vec::new();
            };
            let is_at_rest = later.digests() == look.digests();
            look = later;
            if is_at_rest {
                break;
            }
        }
        self.off_thread(move |scanner| scanner.apply(&look, cause))
            .await
            .unwrap_or_default()
    }

    /// Runs blocking work elsewhere. `None`: it panicked; the next look starts afresh, and what
    /// was in force stays.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Scanner) -> T + Send + 'static,
    ) -> Option<T> {
        let scanner = Arc::clone(&self.scanner);
        match tokio::task::spawn_blocking(move || work(&scanner)).await {
            Ok(result) => Some(result),
            Err(fault) => {
                self.scanner.metrics.config_refused();
                tracing::error!(
                    event = Event::ConfigRefused.as_str(),
                    cause = %fault,
                    hint = "a defect of sallyport: please report it with the changed files",
                );
                None
            }
        }
    }

    fn watch(&self) -> Watch {
        let (hint, hints) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |notice: notify::Result<notify::Event>| {
            if is_hint(&notice) {
                nudge(&hint);
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(&self.scanner.policies, RecursiveMode::NonRecursive)?;
            watcher.watch(&self.scanner.partners, RecursiveMode::NonRecursive)?;
            // One that is made later is found by looking.
            let lists = self.scanner.policies.join(LISTS);
            if lists.is_dir() {
                watcher.watch(&lists, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        })
        .map_err(|fault| {
            tracing::warn!(
                message = "folders are not watched, only looked at from time to time",
                interval_ms = limits::SCAN_INTERVAL_MS,
                cause = %fault,
            );
        })
        .ok();
        let mut ticks = tokio::time::interval(Duration::from_millis(limits::SCAN_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watch {
            _watcher: watcher,
            hints,
            ticks,
        }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload")
            .field("policies", &self.scanner.policies)
            .field("partners", &self.scanner.partners)
            .finish_non_exhaustive()
    }
}

// === impl Trigger ===

impl Trigger {
    /// Asks for a look at once; its outcome is logged even when nothing changed.
    pub fn pull(&self) {
        nudge(&self.0);
    }
}

/// A full channel means that somebody asked already.
fn nudge(channel: &mpsc::Sender<()>) {
    match channel.try_send(()) {
        Ok(()) | Err(_) => {}
    }
}

/// Our own reads make notices too (OPEN); taking them as hints would never end.
fn is_hint(notice: &notify::Result<notify::Event>) -> bool {
    match notice {
        Ok(event) if event.need_rescan() => true,
        Ok(event) => match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            EventKind::Any
            | EventKind::Create(_)
            | EventKind::Modify(_)
            | EventKind::Remove(_)
            | EventKind::Other => true,
        },
        Err(_) => true,
    }
}

// === impl Watched ===

impl Watched {
    /// `policies` or `partners`, as the folders are called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "partners",
            Self::Policies => "policies",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// What the audit remembers of it.
    #[must_use]
    pub fn to_act(&self) -> Act {
        let (action, what, lines) = match self {
            Self::Reloaded { what, changes } => ("config.reload", what, changes),
            Self::Refused { what, mistakes, .. } => ("config.refuse", what, mistakes),
        };
        let mut detail = String::new();
        for line in lines {
            if detail.len() + line.len() > limits::RELOAD_DETAIL_BYTES_MAX {
                detail.push_str("...");
                break;
            }
            detail.push_str(line);
            detail.push('\n');
        }
        Act {
            actor: "system".to_owned(),
            action: action.to_owned(),
            subject: what.as_str().to_owned(),
            detail: detail.trim_end().to_owned(),
        }
    }

    fn log(&self) {
        match self {
            Self::Reloaded { what, changes } => tracing::info!(
                event = Event::ConfigReloaded.as_str(),
                what = what.as_str(),
                changes = changes.len(),
                block = changes.join("\n"),
            ),
            Self::Refused {
                what,
                mistakes,
                shown,
            } => tracing::error!(
                event = Event::ConfigRefused.as_str(),
                what = what.as_str(),
                mistakes = mistakes.len(),
                in_force = match what {
                    Watched::Keys => "all other keys",
                    Watched::Policies => "the last good policies",
                },
                block = shown.as_str(),
            ),
        }
    }
}

// === impl Scanner ===

impl Scanner {
    fn look(&self) -> Look {
        Look {
            policies: read_policies(&self.policies),
            lists: read_lists(&self.policies),
            keys: folder_files(&self.partners, "pub", limits::KEY_FILE_BYTES_MAX),
        }
    }

    fn is_news(&self, look: &Look) -> bool {
        let seen = *self.seen();
        let (policies, keys) = look.digests();
        seen.policies.digest != Some(policies) || seen.keys.digest != Some(keys)
    }

    fn apply(&self, look: &Look, cause: Cause) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let (policies, keys) = look.digests();
        let mut seen = self.seen();
        let is_due =
            |side: &Side, digest: [u8; 32]| cause == Cause::Asked || side.digest != Some(digest);
        // Noted before the work: content that makes the work fail is not tried again and again.
        if is_due(&seen.policies, policies) {
            seen.policies = Side {
                digest: Some(policies),
                in_force: false,
            };
            let outcome = self.put_policies_in_force(look);
            seen.policies.in_force = matches!(outcome, Outcome::Reloaded { .. });
            outcomes.push(outcome);
        }
        if is_due(&seen.keys, keys) {
            seen.keys = Side {
                digest: Some(keys),
                in_force: false,
            };
            let both = self.put_keys_in_force(look);
            seen.keys.in_force = both.iter().all(|o| matches!(o, Outcome::Reloaded { .. }));
            outcomes.extend(both);
        }
        if !outcomes.is_empty() {
            if seen.policies.in_force && seen.keys.in_force {
                self.metrics.config_reloaded(self.clock.now());
            } else {
                self.metrics.config_refused();
            }
        }
        for outcome in &outcomes {
            outcome.log();
        }
        outcomes
    }

    fn put_policies_in_force(&self, look: &Look) -> Outcome {
        let what = Watched::Policies;
        match compile_folder(
            &self.policies,
            look.policies.as_deref(),
            look.lists.as_deref(),
            &self.stores,
        ) {
            Ok((set, warnings)) => {
                if !warnings.is_empty() {
                    tracing::warn!(
                        event = Event::ConfigReloaded.as_str(),
                        what = what.as_str(),
                        warnings = warnings.len(),
                        block = render(&warnings),
                    );
                }
                let changes = policy_changes(&self.authority.policies(), &set);
                self.authority.replace_policies(set);
                Outcome::Reloaded { what, changes }
            }
            Err(mistakes) => Outcome::Refused {
                what,
                mistakes: mistakes.iter().map(one_line).collect(),
                shown: render(&mistakes),
            },
        }
    }

    /// Good lines come into force beside bad ones, so there can be two outcomes.
    fn put_keys_in_force(&self, look: &Look) -> Vec<Outcome> {
        let what = Watched::Keys;
        let refused = |mistakes: Vec<String>| Outcome::Refused {
            what,
            shown: mistakes.join("\n"),
            mistakes,
        };
        let files = match &look.keys {
            Ok(files) => files,
            Err(fault) => {
                return vec![refused(vec![format!(
                    "the folder of partner keys cannot be read: {fault}; \
                     check its owner and mode"
                )])];
            }
        };
        let (keys, bad) = PartnerKeys::from_files(files);
        let changes = key_changes(&self.authority.keys(), &keys);
        self.authority.replace_keys(keys);
        let mut outcomes = vec![Outcome::Reloaded { what, changes }];
        if !bad.is_empty() {
            outcomes.push(refused(bad.iter().map(BadKeyLine::to_string).collect()));
        }
        outcomes
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A panic between two assignments leaves "not in force", which is true.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Look ===

impl Look {
    fn digests(&self) -> ([u8; 32], [u8; 32]) {
        (
            digest(&[&self.policies, &self.lists]),
            digest(&[&self.keys]),
        )
    }
}

/// SHA-256 over names and contents, each with its length, so that no two folders look the same.
fn digest(folders: &[&io::Result<Vec<FolderFile>>]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut put = |kind: u8, bytes: &[u8]| {
        context.update(&[kind]);
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    for files in folders {
        put(b'd', &[]);
        match files {
            Ok(files) => {
                for file in files {
                    put(b'n', file.name.as_bytes());
                    match &file.content {
                        Ok(bytes) => put(b'c', bytes),
                        Err(why) => put(b'e', why.as_bytes()),
                    }
                }
            }
            Err(fault) => put(b'f', fault.to_string().as_bytes()),
        }
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

/// Every `*.toml` directly in the folder, by name.
pub(crate) fn read_policies(folder: &Path) -> io::Result<Vec<FolderFile>> {
    folder_files(folder, "toml", limits::POLICY_FILE_BYTES_MAX)
}

/// Every `*.txt` and `*.csv` of the folder `lists` in the folder of policies, where there is one.
pub(crate) fn read_lists(folder: &Path) -> io::Result<Vec<FolderFile>> {
    let folder = folder.join(LISTS);
    let mut files = Vec::new();
    for extension in ["csv", "txt"] {
        match folder_files(&folder, extension, limits::LIST_FILE_BYTES_MAX) {
            Ok(more) => files.extend(more),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(files)
}

/// The lists of these files.
pub(crate) fn lists_of(files: &[FolderFile]) -> Lists {
    let files = files.iter();
    Lists::new(files.map(|file| (file.name.clone(), file.content.clone())))
}

fn compile_folder(
    folder: &Path,
    files: Result<&[FolderFile], &io::Error>,
    lists: Result<&[FolderFile], &io::Error>,
    stores: &BTreeSet<StoreName>,
) -> Result<(PolicySet, Vec<Mistake>), Vec<Mistake>> {
    let files = files.map_err(|fault| {
        let why = format!("the folder of policies cannot be read: {fault}");
        let folder = folder.display().to_string();
        vec![Mistake::without_place(
            UNREADABLE,
            Severity::Error,
            &folder,
            why,
        )]
    })?;
    let mut set = PolicySet::default();
    let mut mistakes = Vec::new();
    let lists = lists.map_or_else(
        |fault| {
            let why = format!("the folder of lists cannot be read: {fault}");
            let folder = folder.join(LISTS).display().to_string();
            mistakes.push(Mistake::without_place(
                UNREADABLE,
                Severity::Error,
                &folder,
                why,
            ));
            Lists::default()
        },
        lists_of,
    );
    for file in files {
        let text = match policy_text(file) {
            Ok(text) => text,
            Err(more) => {
                mistakes.extend(more);
                continue;
            }
        };
        match policy::compile(&file.path, text, &lists) {
            Ok((policy, warnings)) => {
                mistakes.extend(warnings);
                mistakes.extend(unknown_stores(&file.path, text, &policy, stores));
                set.policies
                    .insert(policy.partner.clone(), Arc::new(policy));
            }
            Err(more) => mistakes.extend(more),
        }
    }
    if mistakes.iter().any(|m| m.severity == Severity::Error) {
        Err(mistakes)
    } else {
        Ok((set, mistakes))
    }
}

/// The text of a policy file, or why there is none.
pub(crate) fn policy_text(file: &FolderFile) -> Result<&str, Vec<Mistake>> {
    let why = match &file.content {
        Ok(bytes) => match str::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(fault) => format!(
                "not UTF-8 from byte {} on; save it as UTF-8 text",
                fault.valid_up_to()
            ),
        },
        Err(why) => why.clone(),
    };
    let severity = Severity::Error;
    Err(vec![Mistake::without_place(
        UNREADABLE, severity, &file.path, why,
    )])
}

/// Stores a policy names and the main config lacks: the compiler knows only the policy.
#[must_use]
pub fn unknown_stores(
    file: &str,
    text: &str,
    policy: &Policy,
    stores: &BTreeSet<StoreName>,
) -> Vec<Mistake> {
    let unknown: BTreeSet<&StoreName> = policy
        .feeds
        .iter()
        .map(|feed| &feed.store)
        .chain(policy.outbox.as_ref().map(|outbox| &outbox.store))
        .filter(|store| !stores.contains(store))
        .collect();
    let known: Vec<&str> = stores.iter().map(StoreName::as_str).collect();
    unknown
        .into_iter()
        .map(|store| {
            let message = format!("the main config has no store `{store}`");
            let mut mistake = Mistake::without_place(UNKNOWN_STORE, Severity::Error, file, message);
            mistake.label = Some(if known.is_empty() {
                format!("add [store.{store}] with a url to the main config")
            } else {
                format!("stores there are: {}", known.join(", "))
            });
            if let Some((line, at, source)) = store_line(text, store) {
                let before = source.get(..at).unwrap_or_default();
                let start = offset_of(text, line) + at;
                mistake.line = line;
                mistake.column = before.chars().count() + 1;
                mistake.span = Some(start..start + store.as_str().len());
                mistake.source = Some(source.to_owned());
            }
            mistake
        })
        .collect()
}

/// The first `store = "..."` of this name: line from 1, byte inside the line, the line.
fn store_line<'t>(text: &'t str, store: &StoreName) -> Option<(usize, usize, &'t str)> {
    text.lines().zip(1..).find_map(|(source, line)| {
        let key = source.trim_start().strip_prefix("store")?;
        let value = key.trim_start().strip_prefix('=')?.trim_start();
        let name = value.strip_prefix(['"', '\''])?;
        let rest = name.strip_prefix(store.as_str())?;
        rest.starts_with(['"', '\''])
            .then(|| (line, source.len() - name.len(), source))
    })
}

/// Byte where a line (from 1) starts.
fn offset_of(text: &str, line: usize) -> usize {
    text.split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum()
}

fn policy_changes(old: &PolicySet, new: &PolicySet) -> Vec<String> {
    let mut lines = Vec::new();
    for (partner, policy) in &new.policies {
        let Some(before) = old.policies.get(partner) else {
            lines.push(format!("policy {partner} new, version {}", policy.version));
            continue;
        };
        if before.hash == policy.hash {
            continue;
        }
        let start = format!("policy {partner} {} -> {}", before.version, policy.version);
        let changes = policy::changes(before, policy);
        if changes.is_empty() {
            lines.push(format!("{start}: no rule changed"));
        }
        lines.extend(changes.iter().map(|change| format!("{start}: {change}")));
    }
    for (partner, policy) in &old.policies {
        if !new.policies.contains_key(partner) {
            lines.push(format!(
                "policy {partner} removed, was version {}",
                policy.version
            ));
        }
    }
    lines
}

fn key_changes(old: &PartnerKeys, new: &PartnerKeys) -> Vec<String> {
    let rows = |keys: &PartnerKeys| -> BTreeSet<String> {
        keys.iter()
            .flat_map(|(partner, keys)| {
                keys.iter()
                    .map(move |key| format!("{partner} {}", key.describe()))
            })
            .collect()
    };
    let (old, new) = (rows(old), rows(new));
    let removed = old.difference(&new).map(|row| format!("key -{row}"));
    let added = new.difference(&old).map(|row| format!("key +{row}"));
    removed.chain(added).collect()
}

fn one_line(mistake: &Mistake) -> String {
    let Mistake {
        code,
        message,
        file,
        line,
        column,
        ..
    } = mistake;
    match line {
        0 => format!("{file}: {code}: {message}"),
        _ => format!("{file}:{line}:{column}: {code}: {message}"),
    }
}

fn render(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(Mistake::render)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A feed delivers to a store that the main config does not have.
const UNKNOWN_STORE: &str = codes::POLICY_UNKNOWN_STORE;
/// A file or the folder cannot be read as text.
const UNREADABLE: &str = codes::POLICY_UNREADABLE;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::clock::{ManualClock, Timestamp};
    use crate::terms::ids::PartnerId;
    use crate::terms::path::PartialNames;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFQlQkpN1AjgdZ5itrxlU4cHoHuTQZ5DEOEp4ewUlKQD";
    const FINGERPRINT: &str = "SHA256:Kk4tOPrM8hXxSN/G8LEHA1r5WaoZUnFOHSVmSDGsGTA";

    struct Stand {
        folder: tempfile::TempDir,
        authority: Authority,
        metrics: Metrics,
        clock: ManualClock,
        reload: Reload,
    }

    fn acme(version: u32, countries: &str) -> String {
        format!(
            "version = {version}\n[partner]\nid = \"acme\"\n\n[[feed]]\nid = \"orders\"\n\
             match = 'orders_\\d{{8}}\\.csv'\nstore = \"lake\"\nkey = \"acme/{{submission}}.csv\"\n\n\
             [feed.schema]\ncolumns = [\n  \
             {{ name = \"country\", type = \"string\", enum = [{countries}] }},\n]\n"
        )
    }

    fn stores() -> BTreeSet<StoreName> {
        BTreeSet::from([StoreName::parse("lake").unwrap()])
    }

    fn partner(id: &str) -> PartnerId {
        PartnerId::parse(id).unwrap()
    }

    fn stand() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        for name in ["policies", "partners"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let clock = ManualClock::at(Timestamp::from_micros(1_795_239_870_000_000));
        let authority = Authority::new(Arc::new(clock.clone()), PartialNames::default());
        let metrics = Metrics::new();
        let reload = Reload::new(
            folder.path().join("policies"),
            folder.path().join("partners"),
            stores(),
            authority.clone(),
            metrics.clone(),
            Arc::new(clock.clone()),
        );
        Stand {
            folder,
            authority,
            metrics,
            clock,
            reload,
        }
    }

    impl Stand {
        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }

        fn remove(&self, name: &str) {
            std::fs::remove_file(self.folder.path().join(name)).unwrap();
        }

        fn version(&self, id: &str) -> Option<u32> {
            self.authority.policy(&partner(id)).map(|p| p.version)
        }

        fn metric(&self, name: &str) -> String {
            let text = self.metrics.render();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        }

        fn is_successful(&self) -> bool {
            self.metric("sallyport_config_last_reload_successful ") == "1"
        }

        #[track_caller]
        fn reloaded(&self, what: Watched, expect: &[&str]) {
            let changes = expect.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(self.reload.scan(), [Outcome::Reloaded { what, changes }]);
        }

        #[track_caller]
        fn refused(&self) -> (Vec<String>, String) {
            match self.reload.scan().as_slice() {
                [
                    Outcome::Refused {
                        what: Watched::Policies,
                        mistakes,
                        shown,
                    },
                ] => {
                    let folder = format!("{}/", self.folder.path().display());
                    let short = |text: &str| text.replace(&folder, "");
                    (mistakes.iter().map(|m| short(m)).collect(), short(shown))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_bad_change_keeps_the_last_good_set_until_it_is_good_again() {
        let stand = stand();
        stand.write("policies/acme.toml", acme(1, "\"DE\", \"AT\""));
        stand.write("partners/acme.pub", format!("{KEY} batch\n"));
        assert_eq!(
            stand.reload.scan(),
            [
                Outcome::Reloaded {
                    what: Watched::Policies,
                    changes: vec!["policy acme new, version 1".to_owned()],
                },
                Outcome::Reloaded {
                    what: Watched::Keys,
                    changes: vec![format!("key +acme {FINGERPRINT} (batch)")],
                },
            ]
        );
        assert!(stand.is_successful());
        let stamp = "sallyport_config_last_reload_success_timestamp_seconds ";
        assert_eq!(stand.metric(stamp), "1795239870");

        stand.clock.advance_micros(60_000_000);
        stand.write(
            "policies/acme.toml",
            acme(2, "\"DE\", \"AT\"").replace("columns", "colums"),
        );
        let (mistakes, shown) = stand.refused();
        assert!(
            mistakes
                .iter()
                .any(|m| m.starts_with("policies/acme.toml:12:1: policy.unknown-key: ")),
            "{mistakes:?}"
        );
        assert!(shown.contains("^^^^^^ did you mean `columns`?"), "{shown}");
        assert_eq!(stand.version("acme"), Some(1));
        assert!(!stand.is_successful());
        assert_eq!(stand.metric(stamp), "1795239870");
        // The same bad text is not said again and again.
        assert_eq!(stand.reload.scan(), []);
        assert!(!stand.is_successful());

        stand.write("policies/acme.toml", acme(2, "\"DE\", \"AT\", \"UK\""));
        stand.reloaded(
            Watched::Policies,
            &["policy acme 1 -> 2: country.enum +UK (widening)"],
        );
        assert_eq!(stand.version("acme"), Some(2));
        assert!(stand.is_successful());
        assert_eq!(stand.metric(stamp), "1795239930");
    }

    #[test]
    fn one_bad_file_refuses_the_whole_change() {
        let stand = stand();
        stand.write("policies/acme.toml", acme(1, "\"DE\""));
        assert_eq!(stand.reload.scan().len(), 2);
        stand.write("policies/acme.toml", acme(2, "\"DE\""));
        stand.write("policies/globex.toml", "version = ");
        let (mistakes, _) = stand.refused();
        assert!(
            mistakes[0].starts_with("policies/globex.toml:1:"),
            "{mistakes:?}"
        );
        assert_eq!(stand.version("acme"), Some(1));
        assert_eq!(stand.version("globex"), None);
        stand.remove("policies/globex.toml");
        stand.reloaded(Watched::Policies, &["policy acme 1 -> 2: no rule changed"]);
    }

    #[test]
    fn a_removed_policy_is_said_and_gone() {
        let stand = stand();
        stand.write("policies/acme.toml", acme(3, "\"DE\""));
        assert_eq!(stand.reload.scan().len(), 2);
        stand.remove("policies/acme.toml");
        stand.reloaded(Watched::Policies, &["policy acme removed, was version 3"]);
        assert_eq!(stand.version("acme"), None);
    }

    #[test]
    fn calendars_samples_and_other_files_are_not_policies() {
        let stand = stand();
        for folder in ["policies/calendars", "policies/acme"] {
            std::fs::create_dir(stand.folder.path().join(folder)).unwrap();
        }
        stand.write("policies/calendars/de.toml", "not a policy");
        stand.write("policies/acme/orders.csv", "country\nDE\n");
        stand.write("policies/README.md", "not a policy");
        stand.write("policies/.#acme.toml", "an editor's lock");
        stand.write("policies/acme.toml~", "an editor's copy");
        stand.write("policies/acme.toml", acme(1, "\"DE\""));
        let (set, warnings) =
            Reload::load_policies(&stand.folder.path().join("policies"), &stores()).unwrap();
        assert_eq!(set.policies.keys().collect::<Vec<_>>(), [&partner("acme")]);
        assert_eq!(warnings, []);
    }

    #[test]
    fn a_store_that_the_config_lacks_is_a_mistake_at_its_place() {
        let stand = stand();
        stand.write(
            "policies/acme.toml",
            acme(1, "\"DE\"").replace("\"lake\"", "\"lak\""),
        );
        let mistakes =
            Reload::load_policies(&stand.folder.path().join("policies"), &stores()).unwrap_err();
        let text = acme(1, "\"DE\"").replace("\"lake\"", "\"lak\"");
        assert_eq!(mistakes.len(), 1);
        let mistake = &mistakes[0];
        assert_eq!(
            (mistake.code, mistake.severity, mistake.line, mistake.column),
            ("policy.unknown-store", Severity::Error, 8, 10)
        );
        assert_eq!(text.get(mistake.span.clone().unwrap()), Some("lak"));
        let picture = mistake.render();
        assert!(
            picture.contains(" store = \"lak\"\n")
                && picture.contains(" ^^^ stores there are: lake\n"),
            "{picture}"
        );
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let stand = stand();
        stand.write("policies/acme.toml", b"version = 1\n# \xff\n");
        std::fs::create_dir(stand.folder.path().join("policies/globex.toml")).unwrap();
        let outcomes = stand.reload.scan();
        let Outcome::Refused { mistakes, .. } = &outcomes[0] else {
            panic!("{outcomes:?}");
        };
        let folder = format!("{}/", stand.folder.path().display());
        let mistakes: Vec<String> = mistakes.iter().map(|m| m.replace(&folder, "")).collect();
        assert_eq!(
            mistakes,
            [
                "policies/acme.toml: policy.unreadable: not UTF-8 from byte 14 on; \
                 save it as UTF-8 text",
                "policies/globex.toml: policy.unreadable: is not a file; \
                 remove it or replace it by one",
            ]
        );
    }

    #[test]
    fn folders_that_are_gone_change_nothing_that_is_in_force() {
        let stand = stand();
        stand.write("policies/acme.toml", acme(1, "\"DE\""));
        stand.write("partners/acme.pub", KEY);
        assert_eq!(stand.reload.scan().len(), 2);
        for name in ["policies", "partners"] {
            std::fs::rename(
                stand.folder.path().join(name),
                stand.folder.path().join(format!("{name}.away")),
            )
            .unwrap();
        }
        let outcomes = stand.reload.scan();
        assert_eq!(outcomes.len(), 2);
        for outcome in outcomes {
            let Outcome::Refused { what, mistakes, .. } = outcome else {
                panic!("{outcome:?}");
            };
            let path = stand.folder.path().join(what.as_str());
            assert!(
                mistakes[0].contains(&path.display().to_string()),
                "{mistakes:?}"
            );
        }
        assert_eq!(stand.version("acme"), Some(1));
        assert_eq!(stand.authority.keys().of(&partner("acme")).len(), 1);
        assert!(!stand.is_successful());
    }

    #[test]
    fn a_bad_key_line_is_refused_beside_good_ones() {
        let stand = stand();
        stand.write("partners/acme.pub", format!("{KEY} batch\n"));
        assert_eq!(stand.reload.scan().len(), 2);
        let mut changed = stand.authority.changed();
        changed.borrow_and_update();
        stand.write(
            "partners/acme.pub",
            format!("from=\"198.51.100.0/24\" {KEY} batch\ncommand=\"x\" {KEY}\n"),
        );
        let outcomes = stand.reload.scan();
        assert_eq!(
            outcomes[0],
            Outcome::Reloaded {
                what: Watched::Keys,
                changes: vec![
                    format!("key -acme {FINGERPRINT} (batch)"),
                    format!("key +acme {FINGERPRINT} (batch) from=198.51.100.0/24"),
                ],
            }
        );
        let Outcome::Refused { mistakes, .. } = &outcomes[1] else {
            panic!("{outcomes:?}");
        };
        assert!(
            mistakes[0].contains("partners/acme.pub:2: option \"command\""),
            "{mistakes:?}"
        );
        assert!(changed.has_changed().unwrap());
        assert!(!stand.is_successful());
        // A later change of policies alone does not make it a success.
        stand.write("policies/acme.toml", acme(1, "\"DE\""));
        assert_eq!(stand.reload.scan().len(), 1);
        assert!(!stand.is_successful());
        stand.write("partners/acme.pub", format!("{KEY} batch\n"));
        assert_eq!(stand.reload.scan().len(), 1);
        assert!(stand.is_successful());
    }

    #[test]
    fn untouched_folders_are_no_news_whatever_their_times() {
        let stand = stand();
        stand.write("policies/acme.toml", acme(1, "\"DE\""));
        assert_eq!(stand.reload.scan().len(), 2);
        stand.write("policies/acme.toml", acme(1, "\"DE\""));
        assert_eq!(stand.reload.scan(), []);
        // A name that moves from one file to another is news though the bytes are the same.
        stand.write("partners/a.pub", KEY);
        assert_eq!(stand.reload.scan().len(), 1);
        std::fs::rename(
            stand.folder.path().join("partners/a.pub"),
            stand.folder.path().join("partners/b.pub"),
        )
        .unwrap();
        stand.reloaded(
            Watched::Keys,
            &[
                &format!("key -a {FINGERPRINT}"),
                &format!("key +b {FINGERPRINT}"),
            ],
        );
    }

    #[test]
    fn an_outcome_is_audited_in_bounded_space() {
        let act = Outcome::Reloaded {
            what: Watched::Policies,
            changes: vec!["policy acme new, version 1".to_owned()],
        }
        .to_act();
        assert_eq!(
            act,
            Act {
                actor: "system".to_owned(),
                action: "config.reload".to_owned(),
                subject: "policies".to_owned(),
                detail: "policy acme new, version 1".to_owned(),
            }
        );
        let act = Outcome::Refused {
            what: Watched::Keys,
            mistakes: vec!["x".repeat(100); 1000],
            shown: String::new(),
        }
        .to_act();
        assert_eq!(
            (act.action.as_str(), act.subject.as_str()),
            ("config.refuse", "partners")
        );
        assert!(act.detail.len() <= limits::RELOAD_DETAIL_BYTES_MAX + 200);
        assert!(act.detail.ends_with("..."));
    }

    #[test]
    fn our_own_reads_are_no_hints() {
        use notify::event::{CreateKind, ModifyKind, RemoveKind, RenameMode};
        let event = |kind| Ok(notify::Event::new(kind));
        for kind in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
        ] {
            assert!(!is_hint(&event(EventKind::Access(kind))), "{kind:?}");
        }
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Create(CreateKind::File),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Remove(RemoveKind::File),
        ] {
            assert!(is_hint(&event(kind)), "{kind:?}");
        }
        let overflow = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert!(is_hint(&Ok(overflow)));
        assert!(is_hint(&Err(notify::Error::generic("queue"))));
    }

    #[tokio::test]
    async fn a_change_on_disk_is_noticed_without_a_signal() {
        let mut stand = stand();
        stand.write("policies/acme.toml", acme(1, "\"DE\""));
        assert_eq!(stand.reload.scan().len(), 2);
        let mut watch = stand.reload.watch();
        stand.write("policies/acme.toml", acme(2, "\"DE\", \"UK\""));
        loop {
            // A tick or a notice may come before the write is seen; then there is no news yet.
            let outcomes = stand.reload.next(&mut watch).await;
            if !outcomes.is_empty() {
                assert!(matches!(outcomes[..], [Outcome::Reloaded { .. }]));
                break;
            }
        }
        assert_eq!(stand.version("acme"), Some(2));
    }

    #[tokio::test]
    async fn a_pulled_trigger_looks_even_when_nothing_changed() {
        let mut stand = stand();
        stand.write("policies/acme.toml", "version = ");
        assert_eq!(stand.reload.scan().len(), 2);
        assert_eq!(stand.reload.scan(), []);
        let trigger = stand.reload.trigger();
        let mut watch = stand.reload.watch();
        trigger.pull();
        trigger.pull();
        loop {
            let outcomes = stand.reload.next(&mut watch).await;
            if !outcomes.is_empty() {
                assert!(matches!(
                    outcomes[..],
                    [Outcome::Refused { .. }, Outcome::Reloaded { .. }]
                ));
                break;
            }
        }
    }
}
