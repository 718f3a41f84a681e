//! Rank 5: the gate. Who is this, and may they? A permit is the only proof that they may.
//!
//! Every answer is judged on one snapshot of policies, keys and revocations, and judged again at
//! each use: a login or a permit of earlier gives no right by itself. The gate never asks a name
//! server, a file or the ledger.

pub mod partner_keys;
pub mod penalties;
pub mod permit;
pub mod places;
pub mod signing;
pub mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use russh::keys::HashAlg;
use tokio::sync::watch;

use crate::authority::partner_keys::{PartnerKey, PartnerKeys};
use crate::authority::permit::UploadPermit;
use crate::authority::places::{Area, Place};
use crate::ledger::keys::Revocation;
use crate::policy::feed::{Feed, Folders, Legacy, Policy, PolicySet};
use crate::terms::clock::{Clock, Timestamp};
use crate::terms::ids::{FeedId, PartnerId};
use crate::terms::limits;
use crate::terms::path::{PartialNames, VirtualPath, quoted};

/// A proven partner, key and source address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub partner: PartnerId,
    /// `SHA256:...` of the key that proved it.
    pub fingerprint: String,
    /// The key's comment, quoted.
    pub comment: String,
    /// Where from; an IPv4 address inside IPv6 is the IPv4 address.
    pub source: IpAddr,
}

/// Why the gate stays shut. `Display` is for the log; partners get `told`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {why}")]
pub struct Refused {
    /// Stable code: `authority.*` at login and admission; `no-feed`, `no-folder` or `inbox-only`
    /// for a path.
    pub code: &'static str,
    /// For the operator.
    pub why: String,
    /// For the partner: one ASCII sentence with the remedy.
    pub told: String,
}

/// The gate: today's policies, keys and revocations. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    gate: Arc<Gate>,
}

/// One counted session of a partner; the count falls when this is dropped.
#[derive(Debug)]
pub struct SessionSlot {
    gate: Arc<Gate>,
    partner: PartnerId,
}

struct Gate {
    clock: Arc<dyn Clock>,
    partial_names: PartialNames,
    truth: ArcSwap<Truth>,
    changes: watch::Sender<u64>,
    sessions: Mutex<BTreeMap<PartnerId, usize>>,
}

/// What is agreed, at one moment.
#[derive(Clone, Default)]
struct Truth {
    policies: Arc<PolicySet>,
    keys: Arc<PartnerKeys>,
    revoked: Arc<BTreeSet<(PartnerId, String)>>,
}

/// What a policy still allows a source today.
fn legacy_of(policy: &Policy, source: IpAddr, now: Timestamp) -> Option<&Legacy> {
    let legacy = policy.legacy.as_ref()?;
    let today = now.to_rfc3339();
    // Days sort as text; the last day itself still counts.
    let is_over = today.get(..10) > Some(legacy.until.to_string().as_str());
    let is_theirs = policy.allow_from.iter().any(|net| net.contains(&source));
    (is_theirs && !is_over).then_some(legacy)
}

// === impl Authority ===

impl Authority {
    /// A gate with nobody behind it.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, partial_names: PartialNames) -> Self {
        Self {
            gate: Arc::new(Gate {
                clock,
                partial_names,
                truth: ArcSwap::default(),
                changes: watch::Sender::new(0),
                sessions: Mutex::default(),
            }),
        }
    }

    /// Puts new truths in force; live sessions are told through [`Authority::changed`].
    pub fn replace_policies(&self, policies: PolicySet) {
        let policies = Arc::new(policies);
        self.replace(|truth| truth.policies = Arc::clone(&policies));
    }

    /// The same for partner keys.
    pub fn replace_keys(&self, keys: PartnerKeys) {
        let keys = Arc::new(keys);
        self.replace(|truth| truth.keys = Arc::clone(&keys));
    }

    /// The same for revocations.
    pub fn replace_revocations(&self, revocations: &[Revocation]) {
        let revoked: BTreeSet<_> = revocations
            .iter()
            .map(|r| (r.partner.clone(), r.fingerprint.clone()))
            .collect();
        // Revocations only grow: of two that arrive at once, the later to get here must not undo
        // the other.
        self.replace(|truth| {
            let mut all = BTreeSet::clone(&truth.revoked);
            all.extend(revoked.iter().cloned());
            truth.revoked = Arc::new(all);
        });
    }

    /// The policies in force.
    #[must_use]
    pub fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.gate.truth.load().policies)
    }

    /// The partner keys in force.
    #[must_use]
    pub fn keys(&self) -> Arc<PartnerKeys> {
        Arc::clone(&self.gate.truth.load().keys)
    }

    /// The policy of a partner.
    #[must_use]
    pub fn policy(&self, partner: &PartnerId) -> Option<Arc<Policy>> {
        self.gate
            .truth
            .load()
            .policies
            .policies
            .get(partner)
            .cloned()
    }

    /// Changes whenever policies, keys or revocations do. A key's expiry is no such change: who
    /// holds a session asks [`Authority::still_may`] from time to time as well.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.gate.changes.subscribe()
    }

    /// May this key log in as `user` from `source`, now? Same work for unknown partners.
    ///
    /// # Errors
    /// [`Refused`]; what the partner is told is the same for every cause.
    pub fn login(
        &self,
        user: &str,
        key: &russh::keys::PublicKey,
        source: IpAddr,
    ) -> Result<Identity, Refused> {
        let truth = self.gate.truth.load();
        let source = source.to_canonical();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let partner = PartnerId::parse(user).ok();
        let now = self.gate.clock.now();
        let comment = truth.judge(user, partner.as_ref(), &fingerprint, source, now)?;
        match partner {
            Some(partner) => Ok(Identity {
                partner,
                fingerprint,
                comment,
                source,
            }),
            None => Err(Refused::login("authority.unknown-partner", String::new())),
        }
    }

    /// Is a login of earlier still right under today's policy, keys and revocations?
    ///
    /// # Errors
    /// [`Refused`].
    pub fn still_may(&self, who: &Identity) -> Result<(), Refused> {
        let now = self.gate.clock.now();
        let truth = self.gate.truth.load();
        truth
            .judge(
                who.partner.as_str(),
                Some(&who.partner),
                &who.fingerprint,
                who.source,
                now,
            )
            .map(|_comment| ())
    }

    /// Counts one more session of the partner.
    ///
    /// # Errors
    /// [`Refused`] at the policy's limit.
    pub fn admit(&self, who: &Identity) -> Result<SessionSlot, Refused> {
        self.still_may(who)?;
        let limit = self.policy(&who.partner).map_or(0, |p| p.sessions_max);
        let mut sessions = self.gate.sessions();
        let open = sessions.entry(who.partner.clone()).or_insert(0);
        if *open >= limit {
            let open = *open;
            return Err(Refused {
                code: "authority.too-many-sessions",
                why: format!(
                    "{} has {open} sessions; its policy allows {limit}",
                    who.partner
                ),
                told: format!("{open} sessions are open already; close one and try again"),
            });
        }
        *open += 1;
        Ok(SessionSlot {
            gate: Arc::clone(&self.gate),
            partner: who.partner.clone(),
        })
    }

    /// Old algorithms that connections from `source` may negotiate today: those of every partner
    /// whose networks it lies in, as nobody has said yet who it is. Sorted, each once.
    #[must_use]
    pub fn legacy_algorithms(&self, source: IpAddr) -> Vec<String> {
        let today = self.gate.clock.now();
        let truth = self.gate.truth.load();
        let names: BTreeSet<&String> = truth
            .policies
            .policies
            .values()
            .filter_map(|policy| legacy_of(policy, source, today))
            .flat_map(|legacy| &legacy.algorithms)
            .collect();
        names.into_iter().cloned().collect()
    }

    /// May `user` prove itself from `source` with an RSA signature over SHA-1, today?
    #[must_use]
    pub fn may_sign_with_sha1(&self, user: &str, source: IpAddr) -> bool {
        let policy = PartnerId::parse(user).ok().and_then(|id| self.policy(&id));
        policy.is_some_and(|policy| {
            legacy_of(&policy, source, self.gate.clock.now())
                .is_some_and(|legacy| legacy.algorithms.iter().any(|name| name == "ssh-rsa"))
        })
    }

    /// Bytes a session of the partner may send a second.
    #[must_use]
    pub fn bytes_per_sec(&self, who: &Identity) -> u64 {
        self.policy(&who.partner)
            .and_then(|policy| policy.bytes_per_sec)
            .unwrap_or(limits::SSH_BYTES_PER_SEC_MAX)
    }

    /// Files a session of the partner may open a second.
    #[must_use]
    pub fn files_per_sec(&self, who: &Identity) -> u32 {
        self.policy(&who.partner)
            .and_then(|policy| policy.files_per_sec)
            .unwrap_or(limits::SFTP_FILES_PER_SEC_MAX)
    }

    /// Sessions of the partner now.
    #[must_use]
    pub fn sessions(&self, partner: &PartnerId) -> usize {
        self.gate.sessions().get(partner).copied().unwrap_or(0)
    }

    /// May this file be sent? Finds the feed by the final name (partial suffixes taken off).
    ///
    /// # Errors
    /// [`Refused`]: `no-feed` when no feed takes the name, `inbox-only` for a path outside the
    /// inbox, `no-folder` for a folder there is not, `authority.*` when the partner may nothing.
    pub fn may_open(&self, who: &Identity, path: &VirtualPath) -> Result<UploadPermit, Refused> {
        self.still_may(who)?;
        let Some(policy) = self.policy(&who.partner) else {
            return Err(Refused::login(
                "authority.no-policy",
                format!("{} has no policy", who.partner),
            ));
        };
        let Place::InInbox { area, feed, below } = places::find(&policy, path) else {
            return Err(outside(&policy, path));
        };
        let (folders, opened_name) = below.rsplit_once('/').unwrap_or(("", below));
        let name = self
            .gate
            .partial_names
            .final_name(opened_name)
            .unwrap_or(opened_name);
        let fits = match &feed {
            None => policy.feed_for(name),
            Some(id) => policy.feed(id).filter(|feed| feed.pattern.is_match(name)),
        };
        let Some(fits) = fits else {
            return Err(no_feed(&policy, feed.as_ref(), name));
        };
        if !folders.is_empty() && fits.folders == Folders::None {
            return Err(no_folder(&policy, path));
        }
        let canonical = area.canonical(&policy, below).map_err(|e| Refused {
            code: "inbox-only",
            why: format!("{}: {e}", who.partner),
            told: format!("REJECTED inbox-only: {e}"),
        })?;
        Ok(UploadPermit::new(
            who.clone(),
            area,
            canonical,
            name.to_owned(),
            Arc::clone(&policy),
            Arc::clone(fits),
        ))
    }

    fn replace(&self, change: impl Fn(&mut Truth)) {
        self.gate.truth.rcu(|truth| {
            let mut next = Truth::clone(truth);
            change(&mut next);
            next
        });
        self.gate.changes.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gate.fmt(f)
    }
}

// === impl Gate ===

impl Gate {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<PartnerId, usize>> {
        // Counts are whole after every statement, so a poisoned lock still guards good data.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("partners", &self.truth.load().policies.policies.len())
            .field("change", &*self.changes.borrow())
            .finish_non_exhaustive()
    }
}

// === impl SessionSlot ===

impl Drop for SessionSlot {
    fn drop(&mut self) {
        let mut sessions = self.gate.sessions();
        if let Some(open) = sessions.get_mut(&self.partner) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                sessions.remove(&self.partner);
            }
        }
    }
}

// === impl Refused ===

impl Refused {
    /// One answer for every cause: it must not tell partners from strangers.
    fn login(code: &'static str, why: String) -> Self {
        Self {
            code,
            why,
            told: "login refused: user name, key or address is not agreed; ask your contact"
                .to_owned(),
        }
    }
}

// === impl Truth ===

impl Truth {
    /// The comment of the line that lets this key in. `partner` is `None` when `user` is not even
    /// a partner id. Whoever asks, a list of at least [`WALK_MIN`] fingerprints is compared whole.
    fn judge(
        &self,
        user: &str,
        partner: Option<&PartnerId>,
        fingerprint: &str,
        source: IpAddr,
        now: Timestamp,
    ) -> Result<String, Refused> {
        let keys = partner.map_or(&[][..], |p| self.keys.of(p));
        let policy = partner.and_then(|p| self.policies.policies.get(p));
        let mut matching: Vec<&PartnerKey> = Vec::new();
        for at in 0..keys.len().max(WALK_MIN) {
            let key = keys.get(at);
            let listed = key.map_or(STAND_IN, PartnerKey::fingerprint);
            if is_same(listed, fingerprint)
                && let Some(key) = key
            {
                matching.push(key);
            }
        }
        let refuse = |code: &'static str, why: &str| {
            let user = quoted(user, USER_CHARS_MAX);
            Err(Refused::login(
                code,
                format!("{user} with {fingerprint} from {source}: {why}"),
            ))
        };
        let (Some(partner), Some(policy)) = (partner, policy) else {
            return if keys.is_empty() {
                refuse("authority.unknown-partner", "there is no such partner")
            } else {
                refuse(
                    "authority.no-policy",
                    "the partner has keys but no policy in force",
                )
            };
        };
        if keys.is_empty() {
            return refuse(
                "authority.no-keys",
                "the partner has a policy but no key; add one with `sallyport key add`",
            );
        }
        if matching.is_empty() {
            return refuse(
                "authority.unknown-key",
                "the key is not among the partner's",
            );
        }
        if self
            .revoked
            .contains(&(partner.clone(), fingerprint.to_owned()))
        {
            return refuse("authority.revoked-key", "the key is revoked");
        }
        let fits = |net: &ipnet::IpNet| net.contains(&source);
        if !policy.allow_from.is_empty() && !policy.allow_from.iter().any(fits) {
            return refuse(
                "authority.wrong-source",
                "the address is not in the policy's allow_from",
            );
        }
        matching.retain(|key| key.sources().allow(source));
        if matching.is_empty() {
            return refuse(
                "authority.wrong-source",
                "the address does not fit the key's from=",
            );
        }
        match matching.iter().find(|key| !key.expiry().is_over(now)) {
            Some(key) => Ok(key.comment().to_owned()),
            None => refuse("authority.expired-key", "the key is past its expiry-time"),
        }
    }
}

/// Compares without stopping at the first difference.
fn is_same(a: &str, b: &str) -> bool {
    let differences = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |acc, (x, y)| acc | (x ^ y));
    a.len() == b.len() && differences == 0
}

fn canonical_inbox(policy: &Policy) -> VirtualPath {
    Area::Production.inbox(policy)
}

/// There can be no file at the path: in a folder there is not, or outside the inbox.
fn outside(policy: &Policy, path: &VirtualPath) -> Refused {
    let is_inside = |inbox: &VirtualPath| {
        *inbox != VirtualPath::root() && path.parent().below(inbox).is_some()
            || *inbox == VirtualPath::root() && path.parent() != VirtualPath::root()
    };
    let is_reserved = path
        .as_str()
        .split('/')
        .nth(1)
        .is_some_and(|top| places::RESERVED_FOLDERS.contains(&top));
    if !is_reserved && policy.inbox.iter().any(is_inside) {
        return no_folder(policy, path);
    }
    let inbox = ascii(canonical_inbox(policy).as_str(), TOLD_PATH_BYTES_MAX);
    let shown = ascii(path.as_str(), TOLD_PATH_BYTES_MAX);
    Refused {
        code: "inbox-only",
        why: format!("{}: {shown} is not a file in the inbox", policy.partner),
        told: if policy.inbox.contains(path) {
            format!("REJECTED inbox-only: {shown} is a folder; name the file, as {shown}/NAME")
        } else {
            format!("REJECTED inbox-only: put files into {inbox}, not to {shown}")
        },
    }
}

fn no_folder(policy: &Policy, path: &VirtualPath) -> Refused {
    let inbox = ascii(canonical_inbox(policy).as_str(), TOLD_PATH_BYTES_MAX);
    let shown = ascii(path.parent().as_str(), TOLD_PATH_BYTES_MAX);
    Refused {
        code: "no-folder",
        why: format!("{}: there is no folder {shown}", policy.partner),
        told: format!("REJECTED no-folder: there is no {shown}; put files into {inbox}"),
    }
}

fn no_feed(policy: &Policy, folder: Option<&FeedId>, name: &str) -> Refused {
    let shown = ascii(name, TOLD_NAME_BYTES_MAX);
    let (fits, example) = match folder.and_then(|id| policy.feed(id)) {
        Some(feed) => (
            format!(
                "does not fit feed {}",
                ascii(feed.id.as_str(), TOLD_FEED_BYTES_MAX)
            ),
            feed.example.as_deref(),
        ),
        None => (
            "fits no feed".to_owned(),
            nearest_example(&policy.feeds, name),
        ),
    };
    let expected = example
        .map(|text| ascii(text, TOLD_NAME_BYTES_MAX))
        .map(|text| format!("; expected like {text}"))
        .unwrap_or_default();
    Refused {
        code: "no-feed",
        why: format!("{}: \"{shown}\" {fits}", policy.partner),
        told: format!("REJECTED no-feed: \"{shown}\" {fits}{expected}. See /help"),
    }
}

/// The example that starts most like `name`; the policy's first where none does.
fn nearest_example<'f>(feeds: &'f [Arc<Feed>], name: &str) -> Option<&'f str> {
    let likeness = |example: &str| {
        example
            .chars()
            .zip(name.chars())
            .take_while(|(a, b)| a.eq_ignore_ascii_case(b))
            .count()
    };
    feeds
        .iter()
        .filter_map(|feed| feed.example.as_deref())
        .rev()
        .max_by_key(|example| likeness(example))
}

/// Partner-supplied text for a status line: ASCII, printable, at most `bytes_max` long.
fn ascii(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let piece = match c {
            '"' => "\\\"".to_owned(),
            c if c.is_ascii() => quoted(c.encode_utf8(&mut [0; 4]), 1),
            c => c.escape_unicode().to_string(),
        };
        if out.len() + piece.len() + 3 > bytes_max {
            out.push_str("...");
            break;
        }
        out.push_str(&piece);
    }
    out
}

/// Fingerprints compared at every login, at least: few partners have more keys than this.
const WALK_MIN: usize = 4;
/// Stands in for the keys a partner does not have; the fingerprint of nothing.
const STAND_IN: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// User names are shown up to here, characters.
const USER_CHARS_MAX: usize = 64;
/// Shares of a status text of at most [`limits::SFTP_STATUS_TEXT_BYTES_MAX`] bytes.
const TOLD_NAME_BYTES_MAX: usize = 54;
const TOLD_PATH_BYTES_MAX: usize = 64;
const TOLD_FEED_BYTES_MAX: usize = 24;
/// The longest of our own words around them.
const TOLD_WORDS_BYTES: usize =
    "REJECTED no-feed: \"\" does not fit feed ; expected like . See /help".len();
const _: () = assert!(
    2 * TOLD_NAME_BYTES_MAX + TOLD_FEED_BYTES_MAX + TOLD_WORDS_BYTES
        <= limits::SFTP_STATUS_TEXT_BYTES_MAX
        && 2 * TOLD_PATH_BYTES_MAX + TOLD_WORDS_BYTES <= limits::SFTP_STATUS_TEXT_BYTES_MAX
);

#[cfg(test)]
mod tests {
    use regex::Regex;
    use russh::keys::{Algorithm, PrivateKey, PublicKey};

    use super::*;
    use crate::authority::partner_keys::FolderFile;
    use crate::policy::contract::{
        Bom, Compression, Contract, Encoding, Format, OnFinding, OutputCompression, OutputFormat,
        Tolerance,
    };
    use crate::policy::feed::{Completeness, Folders, KeyTemplate, Piece, SameContent, SameName};
    use crate::terms::clock::ManualClock;
    use crate::terms::digest::DigestKind;
    use crate::terms::ids::StoreName;

    /// 2026-11-21T05:44:30Z
    const NOW_SECS: i64 = 1_795_239_870;

    struct Stand {
        clock: ManualClock,
        authority: Authority,
        key: PublicKey,
    }

    fn new_key() -> PublicKey {
        PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .unwrap()
            .public_key()
            .clone()
    }

    fn path(text: &str) -> VirtualPath {
        VirtualPath::parse(text.as_bytes()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn feed(id: &str, pattern: &str, example: Option<&str>) -> Arc<Feed> {
        Arc::new(Feed {
            id: FeedId::parse(id).unwrap(),
            pattern: Regex::new(&format!("^(?:{pattern})$")).unwrap(),
            pattern_text: pattern.to_owned(),
            example: example.map(str::to_owned),
            store: StoreName::parse("lake").unwrap(),
            key: KeyTemplate::new(vec![Piece::Placeholder("submission".to_owned())]),
            bytes_max: 1000,
            completeness: Completeness::Close,
            quiet_window_ms: None,
            same_content: SameContent::Known,
            same_name: SameName::Replace,
            digest: DigestKind::Sha256,
            folders: Folders::None,
            contract: Arc::new(Contract {
                encoding: vec![Encoding::Utf8],
                bom: Bom::Reject,
                compression: vec![Compression::None],
                ratio_max: 1,
                output_bytes_max: 1000,
                format: Format::Opaque,
                output: OutputFormat::Csv,
                output_compression: OutputCompression::None,
                schema: None,
                trailer: None,
                on_finding: OnFinding::Reject,
                tolerance: Tolerance::NONE,
            }),
            tests: Vec::new(),
        })
    }

    fn policy() -> Policy {
        Policy {
            partner: PartnerId::parse("acme").unwrap(),
            name: "ACME".to_owned(),
            version: 1,
            hash: [0; 32],
            allow_from: Vec::new(),
            inbox: vec![path("/inbox"), path("/upload")],
            help: None,
            sessions_max: 2,
            quota_bytes: None,
            bytes_per_sec: None,
            files_per_sec: None,
            hide_after_accept: false,
            outbox: None,
            legacy: None,
            feeds: vec![
                feed("orders", r"orders_\d{8}\.csv", Some("orders_20261121.csv")),
                feed("stock", r".*\.txt", Some("stock.txt")),
            ],
        }
    }

    fn set(policy: Policy) -> PolicySet {
        let mut set = PolicySet::default();
        set.policies
            .insert(policy.partner.clone(), Arc::new(policy));
        set
    }

    fn keys(partner: &str, text: &str) -> PartnerKeys {
        let (keys, bad) = PartnerKeys::from_files(&[FolderFile {
            name: format!("{partner}.pub"),
            path: format!("partners/{partner}.pub"),
            content: Ok(text.as_bytes().to_vec()),
        }]);
        assert_eq!(bad, []);
        keys
    }

    fn stand_with(policy: Policy, options: &str) -> Stand {
        let clock = ManualClock::at(Timestamp::from_micros(NOW_SECS * 1_000_000));
        let authority = Authority::new(Arc::new(clock.clone()), PartialNames::default());
        let key = new_key();
        authority.replace_keys(keys(
            "acme",
            &format!(
                "{options} {} acme-batch01",
                key.to_openssh().unwrap().trim()
            ),
        ));
        authority.replace_policies(set(policy));
        Stand {
            clock,
            authority,
            key,
        }
    }

    fn stand() -> Stand {
        stand_with(policy(), "")
    }

    impl Stand {
        fn login(&self, source: &str) -> Result<Identity, Refused> {
            self.authority.login("acme", &self.key, ip(source))
        }

        fn who(&self) -> Identity {
            self.login("198.51.100.7").unwrap()
        }

        fn told(&self, raw: &str) -> (&'static str, String) {
            let refused = self
                .authority
                .may_open(&self.who(), &path(raw))
                .unwrap_err();
            assert!(refused.told.is_ascii(), "{}", refused.told);
            assert!(
                refused.told.len() <= limits::SFTP_STATUS_TEXT_BYTES_MAX,
                "{} bytes: {}",
                refused.told.len(),
                refused.told
            );
            (refused.code, refused.told)
        }
    }

    #[test]
    fn a_listed_key_logs_in_and_says_who_it_is() {
        let stand = stand();
        let who = stand.login("::ffff:198.51.100.7").unwrap();
        assert_eq!(who.partner.as_str(), "acme");
        assert_eq!(who.comment, "acme-batch01");
        assert_eq!(who.source, ip("198.51.100.7"));
        assert!(who.fingerprint.starts_with("SHA256:"));
        assert_eq!(stand.authority.still_may(&who), Ok(()));
    }

    #[test]
    fn strangers_and_partners_with_a_wrong_key_are_told_the_same() {
        let stand = stand();
        let other = new_key();
        let attempts = [
            ("acme", "authority.unknown-key"),
            ("nobody", "authority.unknown-partner"),
            ("Not A Partner!", "authority.unknown-partner"),
            ("", "authority.unknown-partner"),
            ("' OR 1=1 --", "authority.unknown-partner"),
            ("../acme", "authority.unknown-partner"),
        ];
        let mut told = BTreeSet::new();
        for (user, code) in attempts {
            let refused = stand
                .authority
                .login(user, &other, ip("198.51.100.7"))
                .unwrap_err();
            assert_eq!(refused.code, code, "{user}");
            told.insert(refused.told);
        }
        assert_eq!(told.len(), 1);
        // The right key does not help under another name.
        let refused = stand
            .authority
            .login("nobody", &stand.key, ip("198.51.100.7"))
            .unwrap_err();
        assert_eq!(refused.code, "authority.unknown-partner");
    }

    #[test]
    fn the_stand_in_fingerprint_lets_nobody_in() {
        let stand = stand();
        let who = Identity {
            fingerprint: STAND_IN.to_owned(),
            ..stand.who()
        };
        let refused = stand.authority.still_may(&who).unwrap_err();
        assert_eq!(refused.code, "authority.unknown-key");
    }

    #[test]
    fn a_user_name_cannot_write_into_the_log() {
        let stand = stand();
        let refused = stand
            .authority
            .login("a\r\n\u{1b}[2J\u{202e}", &stand.key, ip("198.51.100.7"))
            .unwrap_err();
        assert!(
            refused.why.contains("a\\r\\n\\u{1b}[2J\\u{202e} with"),
            "{refused}"
        );
    }

    #[test]
    fn policy_and_key_must_both_exist() {
        let stand = stand();
        stand.authority.replace_policies(PolicySet::default());
        assert_eq!(
            stand.login("198.51.100.7").unwrap_err().code,
            "authority.no-policy"
        );
        stand.authority.replace_policies(set(policy()));
        stand.authority.replace_keys(PartnerKeys::default());
        assert_eq!(
            stand.login("198.51.100.7").unwrap_err().code,
            "authority.no-keys"
        );
    }

    #[test]
    fn the_source_must_fit_the_policy_and_the_key() {
        let stand = stand_with(
            Policy {
                allow_from: vec![
                    "198.51.100.0/24".parse().unwrap(),
                    "2001:db8::/32".parse().unwrap(),
                ],
                ..policy()
            },
            "from=\"!198.51.100.9,198.51.0.0/16\"",
        );
        let code = |source: &str| stand.login(source).map_err(|r| (r.code, r.why));
        assert!(code("198.51.100.7").is_ok());
        assert!(code("::ffff:198.51.100.7").is_ok());
        for (source, hint) in [
            ("198.51.101.7", "allow_from"),
            ("203.0.113.1", "allow_from"),
            ("198.51.100.9", "from="),
            ("2001:db8::1", "from="),
        ] {
            let (code, why) = code(source).unwrap_err();
            assert_eq!(code, "authority.wrong-source");
            assert!(why.contains(hint), "{source}: {why}");
        }
    }

    #[test]
    fn a_key_expires_while_it_is_in_use() {
        let stand = stand_with(policy(), "expiry-time=\"20261121054431Z\"");
        let who = stand.who();
        stand.clock.advance_micros(1_999_999);
        assert!(stand.login("198.51.100.7").is_ok());
        assert!(stand.authority.still_may(&who).is_ok());
        stand.clock.advance_micros(1);
        let codes = [
            stand.login("198.51.100.7").unwrap_err().code,
            stand.authority.still_may(&who).unwrap_err().code,
            stand.authority.admit(&who).unwrap_err().code,
            stand
                .authority
                .may_open(&who, &path("/inbox/orders_20261121.csv"))
                .unwrap_err()
                .code,
        ];
        assert_eq!(codes, ["authority.expired-key"; 4]);
    }

    #[test]
    fn of_two_lines_for_one_key_either_may_let_it_in() {
        let stand = stand();
        let key = stand.key.to_openssh().unwrap();
        stand.authority.replace_keys(keys(
            "acme",
            &format!("from=\"203.0.113.0/24\" {key} one\nexpiry-time=\"20200101\" {key} two\nfrom=\"198.51.100.0/24\" {key} three\n"),
        ));
        assert_eq!(stand.who().comment, "three");
        assert_eq!(
            stand.login("192.0.2.1").unwrap_err().code,
            "authority.expired-key"
        );
    }

    #[test]
    fn a_revoked_key_is_out_at_once_and_only_for_its_partner() {
        let stand = stand();
        let who = stand.who();
        let changed = stand.authority.changed();
        let revoke = |partner: &str| {
            stand.authority.replace_revocations(&[Revocation {
                partner: PartnerId::parse(partner).unwrap(),
                fingerprint: who.fingerprint.clone(),
                at: Timestamp::from_micros(0),
            }]);
        };
        revoke("globex");
        assert!(changed.has_changed().unwrap());
        assert_eq!(stand.authority.still_may(&who), Ok(()));
        revoke("acme");
        assert_eq!(
            stand.authority.still_may(&who).unwrap_err().code,
            "authority.revoked-key"
        );
        assert_eq!(
            stand.login("198.51.100.7").unwrap_err().code,
            "authority.revoked-key"
        );
    }

    #[test]
    fn every_replacement_is_announced_and_judged_anew() {
        let stand = stand();
        let who = stand.who();
        let mut changed = stand.authority.changed();
        changed.borrow_and_update();
        stand.authority.replace_policies(set(Policy {
            allow_from: vec!["203.0.113.0/24".parse().unwrap()],
            ..policy()
        }));
        assert!(changed.has_changed().unwrap());
        changed.borrow_and_update();
        assert_eq!(
            stand.authority.still_may(&who).unwrap_err().code,
            "authority.wrong-source"
        );
        stand.authority.replace_policies(set(policy()));
        assert_eq!(stand.authority.still_may(&who), Ok(()));
        stand
            .authority
            .replace_keys(keys("acme", &new_key().to_openssh().unwrap()));
        assert!(changed.has_changed().unwrap());
        assert_eq!(
            stand.authority.still_may(&who).unwrap_err().code,
            "authority.unknown-key"
        );
    }

    #[test]
    fn sessions_are_counted_and_given_back() {
        let stand = stand();
        let who = stand.who();
        let first = stand.authority.admit(&who).unwrap();
        let second = stand.authority.admit(&who).unwrap();
        let refused = stand.authority.admit(&who).unwrap_err();
        assert_eq!(refused.code, "authority.too-many-sessions");
        assert_eq!(
            refused.told,
            "2 sessions are open already; close one and try again"
        );
        drop(first);
        let third = stand.authority.admit(&who).unwrap();
        assert_eq!(stand.authority.sessions(&who.partner), 2);
        drop((second, third));
        assert_eq!(stand.authority.sessions(&who.partner), 0);
    }

    #[track_caller]
    fn check_open(raw: &str, canonical: &str, name: &str, feed: &str) {
        let stand = stand();
        let permit = stand.authority.may_open(&stand.who(), &path(raw)).unwrap();
        assert_eq!(permit.path().as_str(), canonical);
        assert_eq!(permit.name(), name);
        assert_eq!(permit.feed().id.as_str(), feed);
        assert_eq!(
            permit.is_partial(),
            canonical.rsplit('/').next() != Some(name)
        );
        assert_eq!(permit.identity(), &stand.who());
        assert_eq!(permit.policy().version, 1);
    }

    #[test]
    fn a_file_in_the_inbox_finds_its_feed_by_its_final_name() {
        let orders = "orders_20261121.csv";
        check_open(
            "/inbox/orders_20261121.csv",
            "/inbox/orders_20261121.csv",
            orders,
            "orders",
        );
        check_open(
            "/upload/orders_20261121.csv",
            "/inbox/orders_20261121.csv",
            orders,
            "orders",
        );
        check_open(
            "/inbox/orders/orders_20261121.csv",
            "/inbox/orders_20261121.csv",
            orders,
            "orders",
        );
        check_open(
            "/upload/orders/orders_20261121.csv",
            "/inbox/orders_20261121.csv",
            orders,
            "orders",
        );
        check_open("/inbox/../inbox//a.txt", "/inbox/a.txt", "a.txt", "stock");
        check_open(
            "/inbox/orders_20261121.csv.filepart",
            "/inbox/orders_20261121.csv.filepart",
            orders,
            "orders",
        );
        check_open("/upload/.in.a.txt", "/inbox/.in.a.txt", "a.txt", "stock");
    }

    #[test]
    fn a_name_that_fits_no_feed_is_told_what_would_fit() {
        let stand = stand();
        assert_eq!(
            stand.told("/inbox/order_20261121.csv"),
            (
                "no-feed",
                "REJECTED no-feed: \"order_20261121.csv\" fits no feed; \
                 expected like orders_20261121.csv. See /help"
                    .to_owned()
            )
        );
        assert_eq!(
            stand.told("/inbox/stock.csv").1,
            "REJECTED no-feed: \"stock.csv\" fits no feed; expected like stock.txt. See /help"
        );
        assert_eq!(
            stand.told("/inbox/x.part").1,
            "REJECTED no-feed: \"x\" fits no feed; expected like orders_20261121.csv. See /help"
        );
        // The folder restricts: the name would fit another feed.
        assert_eq!(
            stand.told("/inbox/orders/a.txt").1,
            "REJECTED no-feed: \"a.txt\" does not fit feed orders; \
             expected like orders_20261121.csv. See /help"
        );
    }

    #[test]
    fn refusals_stay_short_and_ascii_whatever_the_name() {
        let stand = stand();
        assert_eq!(
            stand.told("/inbox/bestellung_\u{e4}\u{202e}\"\\.csv").1,
            "REJECTED no-feed: \"bestellung_\\u{e4}\\u{202e}\\\"\\\\.csv\" fits no feed; \
             expected like orders_20261121.csv. See /help"
        );
        stand.told(&format!("/inbox/{}", "x".repeat(255)));
        stand.told(&format!("/inbox/{}", "\u{1f980}".repeat(60)));
        stand.told(&format!("/inbox/orders/{}", "\u{1f980}".repeat(60)));
        stand.told(&format!(
            "/{}/{}",
            "\u{e4}".repeat(120),
            "\u{1f980}".repeat(60)
        ));
        stand.told(&format!(
            "/inbox/{}/{}",
            "\u{e4}".repeat(120),
            "x".repeat(255)
        ));
        let long_feed = Policy {
            feeds: vec![feed(&"f".repeat(64), "x", Some(&"e".repeat(255)))],
            ..policy()
        };
        stand.authority.replace_policies(set(long_feed));
        stand.told(&format!("/inbox/{}/{}", "f".repeat(64), "y".repeat(255)));
    }

    #[test]
    fn what_is_not_a_file_in_the_inbox_is_refused() {
        let stand = stand();
        assert_eq!(
            stand.told("/receipts/orders_20261121.csv"),
            (
                "inbox-only",
                "REJECTED inbox-only: put files into /inbox, \
                 not to /receipts/orders_20261121.csv"
                    .to_owned()
            )
        );
        for raw in [
            "/",
            "/inbox",
            "/upload",
            "/inbox/orders",
            "/orders_20261121.csv",
            "/inboxorders_20261121.csv",
            "/help/x",
            "/etc/passwd",
        ] {
            assert_eq!(stand.told(raw).0, "inbox-only", "{raw}");
        }
        for raw in [
            "/inbox/none/a.txt",
            "/inbox/orders/deep/a.txt",
            "/inbox/A/a.txt",
        ] {
            assert_eq!(stand.told(raw).0, "no-folder", "{raw}");
        }
        assert_eq!(
            stand.told("/inbox/none/a.txt").1,
            "REJECTED no-folder: there is no /inbox/none; put files into /inbox"
        );
    }

    #[test]
    fn the_root_can_be_an_inbox_but_hides_no_folder() {
        let stand = stand();
        stand.authority.replace_policies(set(Policy {
            inbox: vec![path("/"), path("/in"), path("/upload")],
            feeds: vec![feed("any", ".*", None), feed("help", ".*", None)],
            ..policy()
        }));
        let open = |raw: &str| {
            stand
                .authority
                .may_open(&stand.who(), &path(raw))
                .map(|permit| permit.path().as_str().to_owned())
                .map_err(|refused| refused.code)
        };
        assert_eq!(open("/a.txt"), Ok("/a.txt".to_owned()));
        assert_eq!(open("/any/a.txt"), Ok("/a.txt".to_owned()));
        assert_eq!(open("/upload/a.txt"), Ok("/a.txt".to_owned()));
        assert_eq!(open("/in/any/a.txt"), Ok("/a.txt".to_owned()));
        for raw in [
            "/receipts",
            "/help",
            "/receipts/a.txt",
            "/help/a.txt",
            "/in",
            "/upload",
            "/any",
        ] {
            assert_eq!(open(raw), Err("inbox-only"), "{raw}");
        }
        assert_eq!(open("/none/a.txt"), Err("no-folder"));
        assert_eq!(
            open("/test/inbox/a.txt"),
            Ok("/test/inbox/a.txt".to_owned())
        );
        assert_eq!(
            open("/test/in/any/a.txt"),
            Ok("/test/inbox/a.txt".to_owned())
        );
        assert_eq!(open("/outbox/a.txt"), Err("inbox-only"));
    }

    #[test]
    fn another_partners_permit_cannot_be_had() {
        let stand = stand();
        let who = Identity {
            partner: PartnerId::parse("globex").unwrap(),
            ..stand.who()
        };
        let refused = stand
            .authority
            .may_open(&who, &path("/inbox/a.txt"))
            .unwrap_err();
        assert_eq!(refused.code, "authority.unknown-partner");
    }
}
