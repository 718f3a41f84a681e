//! What is negotiated: modern algorithms for everybody, old ones only for the networks of partners
//! whose policy still allows them, and until its day.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use crate::config::SshConfig;
use crate::ssh::JUDGE_EVERY;
use crate::terms::limits;
use crate::terms::path::quoted;

/// What russh is started with, by the old algorithms a connection may use.
pub(super) struct Algorithms {
    host_keys: Vec<PrivateKey>,
    idle: Duration,
    auth_tries: usize,
    keepalive: Duration,
    modern: Arc<Config>,
    /// The same for who can do AES-GCM.
    steered: Arc<Config>,
    /// Policies are few, so these are.
    legacy: Mutex<HashMap<Vec<String>, Arc<Config>>>,
}

/// The ciphers a client is steered to, as they are called on the wire.
pub(super) const FAST_CIPHERS: [&str; 2] = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
/// The gateway's version line, where its version is shown to the world.
pub(super) const SERVER_LINE: &str =
    concat!("SSH-2.0-sallyport_", env!("CARGO_PKG_VERSION"), "\r\n");
/// Bytes a client may send on one channel ahead of us.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Longest channel message taken; longer ones than a TCP packet gain nothing.
const CHANNEL_PACKET_BYTES: u32 = 65_535;
/// Messages waiting for a session; each is at most one packet of the client's choice.
const SESSION_QUEUE: usize = 32;

/// Sets of old algorithms that are remembered; further ones are put together each time.
const LEGACY_SETS_MAX: usize = 64;

// === impl Algorithms ===

impl Algorithms {
    pub(super) fn new(host_keys: Vec<PrivateKey>, config: &SshConfig) -> Self {
        let idle = Duration::from_millis(config.idle_ms);
        let keepalive = keepalive(config);
        let made = || russh_config(host_keys.clone(), idle, config.auth_tries, keepalive, &[]);
        let (modern, mut steered) = (made(), made());
        steered
            .preferred
            .cipher
            .to_mut()
            .retain(|name| FAST_CIPHERS.contains(&name.as_ref()));
        Self {
            host_keys,
            idle,
            auth_tries: config.auth_tries,
            keepalive,
            modern: Arc::new(modern),
            steered: Arc::new(steered),
            legacy: Mutex::default(),
        }
    }

    /// What to start a connection with that may use these old algorithms; `steers`: its client can
    /// do one of [`FAST_CIPHERS`], and is offered no other where nothing old is allowed.
    pub(super) fn with(&self, legacy: Vec<String>, steers: bool) -> Arc<Config> {
        if legacy.is_empty() {
            let config = if steers && has_aes() {
                &self.steered
            } else {
                &self.modern
            };
            return Arc::clone(config);
        }
        let mut sets = self.legacy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = sets.get(&legacy) {
            return Arc::clone(config);
        }
        let keys = self.host_keys.clone();
        let (idle, tries) = (self.idle, self.auth_tries);
        let config = Arc::new(russh_config(keys, idle, tries, self.keepalive, &legacy));
        if sets.len() < LEGACY_SETS_MAX {
            sets.insert(legacy, Arc::clone(&config));
        }
        config
    }
}

/// Silence after which a keepalive is sent. Longer than a login may take: OpenSSH's clients hang up
/// at one that comes while they still wait for a passphrase or a touch.
pub(super) fn keepalive(config: &SshConfig) -> Duration {
    let grace = Duration::from_millis(config.login_grace_ms);
    limits::KEEPALIVE.max(grace + Duration::from_secs(1))
}

/// How often russh may say no: the first "none" counts as an attempt.
fn attempts(auth_tries: usize) -> usize {
    auth_tries.saturating_add(1)
}

/// Whether the processor has AES instructions; without them AES-GCM is the slow one.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// Why a connection failed, for the operator; with the one-line fix where the client is too old.
pub(super) fn failure(error: &russh::Error) -> String {
    let russh::Error::NoCommonAlgo { kind, ours, theirs } = error else {
        return error.to_string();
    };
    let offered = theirs.join(",");
    format!(
        "no common {kind:?} algorithm: the client offers {}; accepted here are {}. If it cannot be \
         renewed, its partner's policy can allow some for a while: [access] legacy = {{ until = \
         DATE, algorithms = [...] }}",
        quoted(&offered, 400),
        ours.join(","),
    )
}

/// The algorithms and bounds russh works with.
fn russh_config(
    host_keys: Vec<PrivateKey>,
    idle: Duration,
    auth_tries: usize,
    keepalive: Duration,
    legacy: &[String],
) -> Config {
    let mut keys = Preferred::DEFAULT.key.into_owned();
    // SHA-1. The list is what clients are told; a key offered with it is refused as well.
    keys.retain(|algorithm| !matches!(algorithm, Algorithm::Rsa { hash: None }));
    keys.push(Algorithm::SkEd25519);
    // russh's list holds the names that switch strict key exchange on.
    let mut kex = Preferred::DEFAULT.kex.into_owned();
    let mut cipher = vec![
        cipher::AES_128_GCM,
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    let mut mac = Preferred::DEFAULT.mac.into_owned();
    mac.retain(|name| *name != mac::NONE && !name.as_ref().contains("sha1"));
    for name in legacy.iter().map(String::as_str) {
        // A name stands behind the modern ones: who can do better, does.
        if name == "ssh-rsa" {
            keys.push(Algorithm::Rsa { hash: None });
        } else if let Ok(name) = kex::Name::try_from(name) {
            kex.push(name);
        } else if let Ok(name) = cipher::Name::try_from(name) {
            cipher.push(name);
        } else if let Ok(name) = mac::Name::try_from(name) {
            mac.push(name);
        }
    }
    // Sessions end by `Connection::accompany`, with a reason; this is for a peer that takes nothing.
    let stuck = idle + 3 * JUDGE_EVERY;
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SERVER_LINE.trim_ascii_end())),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_secs(1),
        // Every client begins with "none" to learn the methods: no guess, no punishment.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: host_keys,
        max_auth_attempts: attempts(auth_tries),
        window_size: WINDOW_BYTES,
        maximum_packet_size: CHANNEL_PACKET_BYTES,
        // Channels are served by callbacks; their queues are closed at once.
        channel_buffer_size: 1,
        event_buffer_size: SESSION_QUEUE,
        preferred: Preferred {
            kex: Cow::Owned(kex),
            key: Cow::Owned(keys),
            cipher: Cow::Owned(cipher),
            mac: Cow::Owned(mac),
            compression: Cow::Owned(vec![compression::NONE]),
            ..Preferred::DEFAULT
        },
        inactivity_timeout: Some(stuck),
        keepalive_interval: Some(keepalive),
        keepalive_max: limits::KEEPALIVES_UNANSWERED_MAX,
        nodelay: true,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::tests::ssh_config;

    fn modern() -> Arc<Config> {
        Algorithms::new(Vec::new(), &ssh_config()).with(Vec::new(), false)
    }

    #[test]
    fn strict_key_exchange_and_extension_info_are_offered() {
        let config = modern();
        for name in [
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
            kex::EXTENSION_SUPPORT_AS_SERVER,
        ] {
            assert!(config.preferred.kex.contains(&name), "{name:?}");
        }
    }

    #[test]
    fn no_keepalive_comes_before_a_login_must_be_finished() {
        for grace_ms in [0, 20_000, 600_000] {
            let config = SshConfig {
                login_grace_ms: grace_ms,
                ..ssh_config()
            };
            let algorithms = Algorithms::new(Vec::new(), &config);
            let sent =
                [false, true].map(|steers| algorithms.with(Vec::new(), steers).keepalive_interval);
            assert!(
                sent.iter()
                    .all(|sent| *sent > Some(Duration::from_millis(grace_ms)))
            );
        }
    }

    #[test]
    fn who_can_do_aes_gcm_is_offered_nothing_else_where_the_processor_can_too() {
        let algorithms = Algorithms::new(Vec::new(), &ssh_config());
        let offered = |config: &Config| -> Vec<String> {
            let names = config.preferred.cipher.iter();
            names.map(|name| name.as_ref().to_owned()).collect()
        };
        let steered = offered(&algorithms.with(Vec::new(), true));
        if has_aes() {
            assert_eq!(steered, FAST_CIPHERS);
        } else {
            assert_eq!(steered, offered(&modern()));
        }
        assert!(offered(&modern()).starts_with(&FAST_CIPHERS.map(str::to_owned)));
    }

    #[test]
    fn nothing_weak_and_no_compression_is_offered() {
        let config = modern();
        let names = |list: Vec<String>| list.join(",");
        let kex = names(
            config
                .preferred
                .kex
                .iter()
                .map(|n| n.as_ref().to_owned())
                .collect(),
        );
        let cipher = names(
            config
                .preferred
                .cipher
                .iter()
                .map(|n| n.as_ref().to_owned())
                .collect(),
        );
        let mac = names(
            config
                .preferred
                .mac
                .iter()
                .map(|n| n.as_ref().to_owned())
                .collect(),
        );
        let key = names(
            config
                .preferred
                .key
                .iter()
                .map(ToString::to_string)
                .collect(),
        );
        assert_eq!(
            cipher,
            "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
             aes256-ctr,aes192-ctr,aes128-ctr"
        );
        assert!(
            !kex.contains("sha1") && !mac.contains("sha1"),
            "{kex} {mac}"
        );
        assert!(!config.preferred.mac.contains(&mac::NONE));
        assert!(
            key.split(',')
                .all(|name| name != "ssh-rsa" && name != "ssh-dss"),
            "{key}"
        );
        assert!(key.contains("sk-ssh-ed25519@openssh.com") && key.contains("rsa-sha2-512"));
        assert_eq!(config.preferred.compression[..], [compression::NONE]);
        assert_eq!(config.methods[..], [MethodKind::PublicKey]);
    }

    #[test]
    fn every_old_algorithm_a_policy_may_name_is_offered_last_and_only_where_it_is_named() {
        use crate::policy::feed::LEGACY_ALGORITHMS;
        let algorithms = Algorithms::new(Vec::new(), &ssh_config());
        for name in LEGACY_ALGORITHMS {
            let offered = |config: &Config| {
                let preferred = &config.preferred;
                let kex = preferred.kex.iter().map(|n| n.as_ref().to_owned());
                let key = preferred.key.iter().map(ToString::to_string);
                let cipher = preferred.cipher.iter().map(|n| n.as_ref().to_owned());
                let mac = preferred.mac.iter().map(|n| n.as_ref().to_owned());
                [
                    kex.collect(),
                    key.collect(),
                    cipher.collect(),
                    mac.collect::<Vec<_>>(),
                ]
            };
            let old = offered(&algorithms.with(vec![name.to_owned()], true));
            let lists: Vec<_> = old
                .iter()
                .filter(|list| list.iter().any(|n| n == name))
                .collect();
            assert_eq!(lists.len(), 1, "{name}");
            assert_eq!(lists[0].last().unwrap(), name);
            let modern = offered(&algorithms.with(Vec::new(), false));
            assert!(modern.concat().iter().all(|n| n != name), "{name}");
        }
        assert_eq!(
            algorithms.legacy.lock().unwrap().len(),
            LEGACY_ALGORITHMS.len()
        );
    }

    #[test]
    fn a_client_that_is_too_old_is_logged_with_what_it_offers_and_the_fix() {
        let error = russh::Error::NoCommonAlgo {
            kind: russh::AlgorithmKind::Kex,
            ours: vec!["curve25519-sha256".to_owned()],
            theirs: vec![
                "diffie-hellman-group1-sha1".to_owned(),
                "x\u{1b}[2J".to_owned(),
            ],
        };
        let told = failure(&error);
        assert!(told.contains("offers diffie-hellman-group1-sha1,x") && told.contains("legacy ="));
        assert!(!told.contains('\u{1b}'), "{told}");
    }
}
