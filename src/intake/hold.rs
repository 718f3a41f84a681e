//! Who writes to a path: one at a time. Whoever comes second is refused, and told who is there and
//! since when; unless the first is the same key on a connection that is dead and does not know it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::intake::{Intake, Refusal, RefusalKind, receipt};
use crate::ledger::submissions::{Origin, SetBy};
use crate::terms::clock::Timestamp;
use crate::terms::ids::{PartnerId, SubmissionId};
use crate::terms::limits;

/// The connection a file is sent on.
pub trait Peer: Send + Sync {
    /// How long it has been listened to in vain. One that lives answers a keepalive.
    fn silence(&self) -> Duration;
    /// Silence after which it is dead.
    fn patience(&self) -> Duration;
    /// Ends it; what it was sending is kept as far as it came.
    fn cut(&self);
    /// It has ended: nobody waits for an answer.
    fn is_gone(&self) -> bool;
}

/// A path being written or judged.
pub(super) struct Live {
    /// Which submission, once that is known.
    pub(super) id: Option<SubmissionId>,
    pub(super) since: Timestamp,
    address: String,
    /// The path the file will have when it is whole.
    final_path: String,
    /// Who sends, where somebody does.
    sender: Option<Sender>,
    /// It was taken as it was at its CLOSE.
    pub(super) is_judged: bool,
    /// Its handle is gone without a CLOSE: what came of it is being kept.
    is_ending: bool,
    pub(super) file: Arc<LiveFile>,
}

#[derive(Clone)]
struct Sender {
    /// The fingerprint it has logged in with.
    key: String,
    peer: Arc<dyn Peer>,
}

/// What others see of a file while it is being written, and may say about it.
#[derive(Debug)]
pub(super) struct LiveFile {
    bytes: AtomicU64,
    /// Seconds since 1970; [`NO_TIME`] when the client has set none.
    mtime: AtomicI64,
    /// The size its client has set, by handle or by path; [`NO_SIZE`] when it has set none.
    set_bytes: AtomicU64,
    /// The smallest that was set by path, below what was there; [`NO_SIZE`] when none was.
    cut_to: AtomicU64,
    /// Nothing that is said of it from now on reaches who has been writing it.
    is_over: AtomicBool,
}

/// Holds a path against other writers; lets go when dropped.
pub(super) struct Hold {
    intake: Intake,
    slot: (PartnerId, String),
}

/// No file is that old.
const NO_TIME: i64 = i64::MIN;
/// No file is so large.
const NO_SIZE: u64 = u64::MAX;
/// Between two looks whether an earlier sender gives a sign of life, or has let go.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

// === impl Live ===

impl Live {
    /// Nobody sends it any more.
    pub(super) fn is_sent(&self) -> bool {
        self.sender.is_none()
    }

    /// What it is listed with: open while its client is at it, closed while it is being judged.
    pub(super) fn mode(&self) -> u32 {
        if self.sender.is_some() { 0o600 } else { 0o400 }
    }
}

// === impl Intake ===

impl Intake {
    /// Holds a path while it is changed or judged.
    pub(super) fn hold(
        &self,
        partner: &PartnerId,
        path: &str,
        address: &str,
        file: &Arc<LiveFile>,
    ) -> Result<Hold, Refusal> {
        self.hold_for(partner, path, address, None, file)
    }

    /// Holds a path for who sends a file. Where the same key sends it already, on another connection
    /// that has fallen silent, this waits until that one speaks, or is silent for so long that it is
    /// dead: then it is cut off, and what it has sent can be resumed.
    pub(super) async fn hold_to_send(
        &self,
        partner: &PartnerId,
        path: &str,
        origin: &Origin,
        peer: Arc<dyn Peer>,
        file: &Arc<LiveFile>,
    ) -> Result<Hold, Refusal> {
        let sender = Sender {
            key: origin.key.clone(),
            peer,
        };
        let begun = Instant::now();
        let mut cut_at = None;
        loop {
            let address = &origin.address;
            let held = self.hold_for(partner, path, address, Some(sender.clone()), file);
            let Err(refusal) = held else {
                return held;
            };
            let Some((earlier, is_ending)) = self.sender_at(partner, path) else {
                return Err(refusal);
            };
            if sender.peer.is_gone() {
                // Nothing is taken from anybody for who has left meanwhile.
                return Err(refusal);
            }
            if is_ending && begun.elapsed() <= limits::CUT_WITHIN {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let is_other = !Arc::ptr_eq(&earlier.peer, &sender.peer);
            if earlier.key != sender.key || !is_other {
                return Err(refusal);
            }
            let silence = earlier.peer.silence();
            let is_over = match cut_at {
                Some(at) => Instant::now().duration_since(at) > limits::CUT_WITHIN,
                // It has spoken since.
                None => silence < begun.elapsed(),
            };
            if is_over {
                return Err(refusal);
            }
            if cut_at.is_none() && silence >= earlier.peer.patience() {
                earlier.peer.cut();
                cut_at = Some(Instant::now());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn hold_for(
        &self,
        partner: &PartnerId,
        path: &str,
        address: &str,
        sender: Option<Sender>,
        file: &Arc<LiveFile>,
    ) -> Result<Hold, Refusal> {
        let slot = (partner.clone(), path.to_owned());
        let mut live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        let is_sender = sender.is_some();
        if let Some((path, other)) = self.in_the_way(&live, partner, path, is_sender) {
            return Err(Refusal::new(
                RefusalKind::PermissionDenied,
                format!(
                    "{} is being sent from {} since {}; wait until it is done",
                    receipt::ascii(path, 80),
                    other.address,
                    other.since.to_human(),
                ),
            ));
        }
        live.insert(
            slot.clone(),
            Live {
                id: None,
                since: self.now(),
                address: address.to_owned(),
                final_path: self.final_path_of(path),
                sender,
                is_judged: false,
                is_ending: false,
                file: Arc::clone(file),
            },
        );
        Ok(Hold {
            intake: self.clone(),
            slot,
        })
    }

    /// The path with the name the file will have when it is whole.
    pub(super) fn final_path_of(&self, path: &str) -> String {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = self
            .0
            .verdict
            .partial_names
            .final_name(name)
            .unwrap_or(name);
        format!("{folder}/{name}")
    }

    /// Who sends, and whether what came is being kept already.
    fn sender_at(&self, partner: &PartnerId, path: &str) -> Option<(Sender, bool)> {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, live) = self.in_the_way(&live, partner, path, true)?;
        Some((live.sender.clone()?, live.is_ending))
    }

    /// Who holds this path; and for who wants to send, who sends the same file under another of its
    /// names: `X`, `X.part` and `.in.X` become one file.
    fn in_the_way<'l>(
        &self,
        live: &'l HashMap<(PartnerId, String), Live>,
        partner: &PartnerId,
        path: &str,
        is_sender: bool,
    ) -> Option<(&'l str, &'l Live)> {
        if let Some(((_, path), found)) = live.get_key_value(&(partner.clone(), path.to_owned())) {
            return Some((path, found));
        }
        if !is_sender {
            return None;
        }
        let wanted = self.final_path_of(path);
        live.iter()
            .filter(|((whose, _), one)| one.final_path == wanted && whose == partner)
            .find(|(_, one)| one.sender.is_some())
            .map(|((_, path), one)| (path.as_str(), one))
    }
}

// === impl Hold ===

impl Hold {
    /// Says which submission the path is held for: nobody else mends it meanwhile.
    pub(super) fn own(&self, id: SubmissionId) {
        self.with(|live| live.id = Some(id));
    }

    /// It is judged as it is: what is said of it from now on changes nothing.
    pub(super) fn is_judged(&self) {
        self.with(|live| live.is_judged = true);
    }

    /// Its handle is gone, and what came is kept.
    pub(super) fn is_ending(&self) {
        self.with(|live| live.is_ending = true);
    }

    /// Nothing more is sent: it is judged now, whatever becomes of the connection.
    pub(super) fn is_sent(&self) {
        self.with(|live| live.sender = None);
    }

    fn with(&self, act: impl FnOnce(&mut Live)) {
        let lives = &self.intake.0.live;
        let mut lives = lives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = lives.get_mut(&self.slot) {
            act(live);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let lives = &self.intake.0.live;
        let mut lives = lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.remove(&self.slot);
    }
}

// === impl LiveFile ===

impl LiveFile {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicU64::new(bytes),
            mtime: AtomicI64::new(NO_TIME),
            set_bytes: AtomicU64::new(NO_SIZE),
            cut_to: AtomicU64::new(NO_SIZE),
            is_over: AtomicBool::new(false),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The size its client has set; what is written past it takes that back, as a file grows.
    pub(super) fn declared(&self) -> Option<u64> {
        Some(self.set_bytes.load(Ordering::SeqCst)).filter(|bytes| *bytes != NO_SIZE)
    }

    /// Its client has set its size.
    pub(super) fn declare(&self, bytes: u64) {
        self.set_bytes
            .store(bytes.min(NO_SIZE - 1), Ordering::SeqCst);
    }

    /// Its client has set its size by its path. Below what is there, it is not whole any more: which
    /// WRITEs the client meant to come before that and which behind it, nobody can tell. `None` when
    /// nobody writes it any more.
    pub(super) fn declare_by_path(&self, bytes: u64) -> Option<SetBy> {
        let by = if bytes < self.bytes() {
            self.cut_to.fetch_min(bytes, Ordering::SeqCst);
            SetBy::PathBelow
        } else {
            self.declare(bytes);
            SetBy::Path
        };
        (!self.is_over.load(Ordering::SeqCst)).then_some(by)
    }

    /// Where it was cut by its path.
    pub(super) fn cut_to(&self) -> Option<u64> {
        Some(self.cut_to.load(Ordering::SeqCst)).filter(|bytes| *bytes != NO_SIZE)
    }

    /// It was cut by its handle, at this place.
    pub(super) fn is_cut(&self, bytes: u64) {
        if bytes <= self.cut_to.load(Ordering::SeqCst) {
            self.cut_to.store(NO_SIZE, Ordering::SeqCst);
        }
    }

    /// From now on nothing said of it counts.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Bytes up to `end` were written.
    pub(super) fn grow_to(&self, end: u64) {
        if self.set_bytes.load(Ordering::SeqCst) < end {
            self.set_bytes.store(NO_SIZE, Ordering::SeqCst);
        }
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        Some(self.mtime.load(Ordering::Relaxed)).filter(|at| *at != NO_TIME)
    }

    pub(super) fn set_mtime(&self, mtime: i64) {
        self.mtime.store(mtime, Ordering::Relaxed);
    }
}
