//! Rank 6: the life of a submission, from permit to receipt, and what partners see of it.
//!
//! `open(permit) -> Submission -> close -> verdict -> settlement -> delivery`. Each step consumes
//! the one before; none can be skipped or run twice. What a step promises is durable before the
//! partner hears of it.

mod delivery;
mod help;
mod hold;
mod inspection;
mod keyring;
pub mod listing;
mod outbox;
pub mod quarantine;
mod quiet;
pub mod quota;
pub mod receipt;
mod recover;
mod settle;
pub mod submission;
mod sums;
mod tasks;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::authority::Authority;
use crate::authority::signing::ReceiptKey;
use crate::config::{SpoolConfig, VerdictConfig};
use crate::depot::spool::SpoolDir;
use crate::depot::store::Store;
use crate::intake::hold::Live;
use crate::intake::keyring::Keyring;
use crate::intake::quota::SpoolQuota;
use crate::intake::tasks::Tasks;
use crate::ledger::Ledger;
use crate::seal::WrappingKey;
use crate::telemetry::{Event, Metrics, Rng};
use crate::terms::clock::{Clock, Timestamp};
use crate::terms::digest::{Digest, OldKind, OldKinds};
use crate::terms::ids::{DomainName, InstanceName, PartnerId, StoreName, SubmissionId};
use crate::terms::limits;

pub use crate::intake::hold::Peer;
pub(crate) use crate::intake::outbox::unreachable;

/// Everything intake is made of.
pub struct IntakeParts {
    /// What happened.
    pub ledger: Ledger,
    /// Sealed bytes in flight.
    pub spool: SpoolDir,
    /// Where accepted files go.
    pub stores: BTreeMap<StoreName, Store>,
    /// Wraps data keys and domain keys.
    pub wrapping: Arc<WrappingKey>,
    /// The gate.
    pub authority: Authority,
    /// Signs receipts.
    pub receipt_key: ReceiptKey,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Rng,
    /// What is counted.
    pub metrics: Metrics,
    /// `[verdict]`
    pub verdict: VerdictConfig,
    /// `[spool]`
    pub spool_config: SpoolConfig,
    /// Token domains that all partners share.
    pub shared_domains: BTreeSet<DomainName>,
    /// The gateway's name.
    pub instance: InstanceName,
}

/// Opens, judges, settles and shows submissions. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    spool: SpoolDir,
    stores: BTreeMap<StoreName, Store>,
    keyring: Keyring,
    authority: Authority,
    receipt_key: ReceiptKey,
    clock: Arc<dyn Clock>,
    rng: Rng,
    metrics: Metrics,
    verdict: VerdictConfig,
    spool_config: SpoolConfig,
    instance: InstanceName,
    /// What lies in the spool.
    quota: Arc<SpoolQuota>,
    /// What clients compare by, for each key that has asked.
    old_kinds: Mutex<HashMap<(PartnerId, String), OldKinds>>,
    /// What partners have just done to names, before they send the next file of that name.
    names: Mutex<HashMap<(PartnerId, String), Lately>>,
    /// Folders partners made and nothing lies in yet.
    folders: Mutex<HashMap<PartnerId, BTreeSet<String>>>,
    /// One for all contents that may be the same, while it is found out whether they are.
    contents: Contents,
    /// Paths being written or judged right now.
    live: Mutex<HashMap<(PartnerId, String), Live>>,
    tasks: Tasks,
    /// Something waits for delivery.
    due: Notify,
    /// What an earlier process was receiving is cut off.
    has_cut_off: AtomicBool,
    started_at: Timestamp,
}

/// Locks for contents, by digest: few of them, so that two that differ may wait for each other, which
/// costs nothing but time.
struct Contents([tokio::sync::Mutex<()>; 256]);

impl Contents {
    fn of(&self, digest: Digest) -> &tokio::sync::Mutex<()> {
        let [first, ..] = digest.bytes;
        let [one, ..] = &self.0;
        self.0.get(usize::from(first)).unwrap_or(one)
    }
}

/// What has just happened to a name.
#[derive(Clone, Copy, Debug)]
enum Lately {
    /// This accepted file was removed at that moment; the next of its name replaces it.
    Removed(SubmissionId, Timestamp),
    /// SETSTAT said that it is empty now: the next OPEN need not say TRUNC.
    Truncated,
}

/// How a client opened a file for writing (from SFTP pflags and attributes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags on the wire")]
pub struct Opening {
    /// `SSH_FXF_TRUNC`
    pub truncate: bool,
    /// `SSH_FXF_APPEND`
    pub append: bool,
    /// `SSH_FXF_EXCL`
    pub exclusive: bool,
    /// `SSH_FXF_CREAT`
    pub create: bool,
    /// Size in the OPEN attributes.
    pub declared_bytes: Option<u64>,
}

/// A request refused: which kind of status, and the text for the partner (ASCII, one sentence).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Which SFTP status fits.
    pub kind: RefusalKind,
    /// Status text; also the stderr line when `lines` is empty.
    pub text: String,
    /// Lines for the channel's stderr, without prefix and line end; at most 8.
    pub lines: Vec<String>,
}

/// The kinds a protocol edge maps to its own codes, by one total function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// `SSH_FX_FAILURE`
    Failure,
    /// `SSH_FX_NO_SUCH_FILE`
    NoSuchFile,
    /// `SSH_FX_PERMISSION_DENIED`
    PermissionDenied,
    /// `SSH_FX_OP_UNSUPPORTED`
    Unsupported,
}

/// Good news about a CLOSE or RENAME: lines for stderr, without prefix and line end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// At most 8.
    pub lines: Vec<String>,
}

// === impl Intake ===

impl Intake {
    /// Puts the parts together and starts delivering what waits for it. Call it on a runtime, and
    /// [`Intake::recover`] next.
    #[must_use]
    pub fn start(parts: IntakeParts) -> Self {
        let keyring = Keyring::new(
            parts.ledger.clone(),
            parts.wrapping,
            parts.rng.clone(),
            parts.shared_domains,
        );
        Self(Arc::new(Inner {
            ledger: parts.ledger,
            spool: parts.spool,
            stores: parts.stores,
            keyring,
            authority: parts.authority,
            receipt_key: parts.receipt_key,
            clock: Arc::clone(&parts.clock),
            rng: parts.rng,
            metrics: parts.metrics,
            verdict: parts.verdict,
            quota: Arc::new(SpoolQuota::new(parts.spool_config.quota_bytes)),
            spool_config: parts.spool_config,
            instance: parts.instance,
            names: Mutex::default(),
            old_kinds: Mutex::default(),
            folders: Mutex::default(),
            contents: Contents(std::array::from_fn(|_| tokio::sync::Mutex::new(()))),
            live: Mutex::new(HashMap::new()),
            tasks: Tasks::new(tokio::runtime::Handle::current()),
            due: Notify::new(),
            has_cut_off: AtomicBool::new(false),
            started_at: parts.clock.now(),
        }))
    }

    /// Waits until everything begun is settled or interrupted, durably.
    pub async fn finish(&self) {
        self.0.tasks.finish().await;
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Somebody holds the path of this submission and will bring it to an end.
    fn is_owned(&self, id: SubmissionId) -> bool {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.values().any(|live| live.id == Some(id))
    }

    /// It is being brought from one state to another, and nobody sends or judges it.
    fn is_mended(&self, id: SubmissionId) -> bool {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.values()
            .any(|live| live.id == Some(id) && live.is_sent() && !live.is_judged)
    }

    /// What the client of a key compares by.
    fn old_kinds(&self, partner: &PartnerId, key: &str) -> OldKinds {
        let known = self
            .0
            .old_kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&(partner.clone(), key.to_owned()));
        found.copied().unwrap_or_default()
    }

    fn remember_old_kind(&self, partner: &PartnerId, key: &str, kind: OldKind) {
        let mut known = self
            .0
            .old_kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kinds = known.entry((partner.clone(), key.to_owned())).or_default();
        *kinds = kinds.and(OldKinds::only(kind));
    }

    /// Listed since: accepted names stay in the inbox this long.
    fn visible_since(&self) -> Timestamp {
        self.now()
            .plus_micros(-micros(self.0.verdict.keep_visible_secs))
    }

    /// The same for the eyes of a partner, who may want accepted names out of the way at once.
    fn shown_since(&self, partner: &PartnerId) -> Timestamp {
        let policy = self.0.authority.policy(partner);
        if policy.is_some_and(|policy| policy.hide_after_accept) {
            return Timestamp::from_micros(i64::MAX);
        }
        self.visible_since()
    }

    /// Remembers what was done to a name.
    fn note(&self, partner: &PartnerId, path: &str, lately: Lately) {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= limits::NAMES_REMEMBERED_MAX {
            names.clear();
        }
        names.insert((partner.clone(), path.to_owned()), lately);
    }

    /// The file just removed from this name, if any; asked for once.
    fn removed_lately(&self, partner: &PartnerId, path: &str) -> Option<SubmissionId> {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = names.remove(&(partner.clone(), path.to_owned()));
        let now = self.now();
        match lately {
            Some(Lately::Removed(id, at))
                if now.micros_since(at) <= limits::REPLACE_WITHIN_MICROS =>
            {
                Some(id)
            }
            Some(Lately::Removed(..) | Lately::Truncated) | None => None,
        }
    }

    /// Whether the name was truncated by itself; asked for once.
    fn is_truncated(&self, partner: &PartnerId, path: &str) -> bool {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (partner.clone(), path.to_owned());
        let is_so = matches!(names.get(&slot), Some(Lately::Truncated));
        if is_so {
            names.remove(&slot);
        }
        is_so
    }
}

// === impl Refusal ===

impl Refusal {
    /// A refusal of one sentence.
    #[must_use]
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            lines: Vec::new(),
        }
    }

    /// Something of ours is broken: the cause goes to the log, the partner hears that the file is
    /// fine and when to come back.
    fn ours(what: &'static str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(event = Event::IntakeFailed.as_str(), what, cause = %cause);
        Self::new(
            RefusalKind::Failure,
            "TRY LATER gateway-full: nothing is wrong with your file; the gateway could not take it",
        )
    }
}

/// Seconds of a config value as microseconds.
fn micros(secs: u64) -> i64 {
    i64::try_from(secs)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000)
}
