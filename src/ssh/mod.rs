//! Rank 8: SSH. Listeners, limits in front of russh, one task per connection, a drain at the end.
//!
//! Files: `socket` (what russh reads and writes), `session` (what russh reports, translated),
//! `sftp` (a file channel), `lane` and `outbox` (its waiting requests and replies), `quota` (what a
//! connection may have open). russh is used nowhere else. A panic or an attack ends the one
//! connection it happens on.

pub mod client;
mod lane;
mod outbox;
mod quota;
mod session;
mod sftp;
mod socket;

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey};
use russh::server::{Config, Handle, RunningSession, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, SshId, cipher, compression};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, interval, sleep, timeout};

use crate::authority::{Authority, Identity};
use crate::config::SshConfig;
use crate::intake::Intake;
use crate::ssh::session::{Conversation, Login, Pulse};
use crate::ssh::socket::{Knife, Socket};
use crate::telemetry::Event;
use crate::terms::clock::Clock;
use crate::terms::path::quoted;

/// What the SSH side is started with.
pub struct SshSettings {
    /// The gateway's own keys; clients choose among their kinds.
    pub host_keys: Vec<PrivateKey>,
    /// `[ssh]`
    pub config: SshConfig,
    /// For dates in listings.
    pub clock: Arc<dyn Clock>,
    /// Time given to running transfers when the gateway is told to stop, milliseconds.
    pub drain_ms: u64,
}

/// Why the SSH side cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// There is nothing to prove the gateway with.
    #[error("no SSH host key: name at least one in [ssh] host_keys")]
    NoHostKey,
    /// There is nowhere to listen.
    #[error("no SSH listener: name at least one address in [ssh] listen")]
    NoListener,
}

/// What every connection needs.
struct Services {
    authority: Authority,
    intake: Intake,
    clock: Arc<dyn Clock>,
    banner: String,
    stopping: watch::Receiver<bool>,
    /// Never used to send: as long as one is held, somebody still works.
    #[expect(dead_code, reason = "its end is what is waited for")]
    alive: mpsc::Sender<Infallible>,
}

/// Counts connections that have not logged in.
struct Lobby {
    places: usize,
    places_per_source: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One place in the lobby; free again when dropped.
struct Unproven {
    lobby: Arc<Lobby>,
    source: IpAddr,
}

/// Why a connection is turned away at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Crowded {
    #[error("too many connections without login")]
    All,
    #[error("too many connections without login from this source")]
    Source,
}

/// A connection and the means to end it. Dropped, it is cut.
struct Connection {
    services: Arc<Services>,
    source: IpAddr,
    running: RunningSession<Conversation>,
    handle: Handle,
    knife: Option<Knife>,
    pulse: Arc<Pulse>,
    patience: Patience,
}

/// How long things may take.
#[derive(Clone, Copy)]
struct Patience {
    /// Until a login is finished.
    grace: Duration,
    /// Without traffic.
    idle: Duration,
    /// After the order to stop.
    drain: Duration,
}

/// Where the gateway version is shown to the world.
const SERVER_ID: &str = concat!("SSH-2.0-sallyport_", env!("CARGO_PKG_VERSION"));
/// Bytes a client may send on one channel ahead of us.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Longest channel message taken; longer ones than a TCP packet gain nothing.
const CHANNEL_PACKET_BYTES: u32 = 65_535;
/// Messages waiting for a session; each is at most one packet of the client's choice.
const SESSION_QUEUE: usize = 32;
/// A peer that is gone without a word is noticed after four of these.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// How often a session is judged anew without an occasion: keys expire by themselves.
const JUDGE_EVERY: Duration = Duration::from_secs(10);
/// How often a draining connection is asked whether it is done.
const DRAIN_EVERY: Duration = Duration::from_millis(200);
/// How long a client may take to hang up after it was told to.
const LAST_WORD: Duration = Duration::from_millis(500);
/// After an accept that failed, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` becomes true or its sender is gone, then lets running transfers end,
/// for [`SshSettings::drain_ms`] at most. Returns when every CLOSE that was received has its end.
///
/// # Errors
/// [`ServeError`], before anything is accepted.
pub async fn serve(
    listeners: Vec<TcpListener>,
    settings: SshSettings,
    authority: Authority,
    intake: Intake,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    if settings.host_keys.is_empty() {
        return Err(ServeError::NoHostKey);
    }
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    let (alive, mut all_done) = mpsc::channel(1);
    let patience = Patience {
        grace: Duration::from_millis(settings.config.login_grace_ms),
        idle: Duration::from_millis(settings.config.idle_ms),
        drain: Duration::from_millis(settings.drain_ms),
    };
    let lobby = Arc::new(Lobby::new(&settings.config));
    let services = Arc::new(Services {
        authority,
        intake,
        clock: settings.clock,
        banner: settings.config.banner.clone(),
        stopping: shutdown.clone(),
        alive,
    });
    let config = Arc::new(russh_config(settings.host_keys, &settings.config));

    let mut connections = JoinSet::new();
    let (mut acceptors, mut accepted) = accept_on(listeners);
    let mut stop = shutdown.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            Some((stream, peer)) = accepted.recv() => {
                let source = peer.ip().to_canonical();
                match lobby.enter(source) {
                    Err(crowded) => tracing::info!(
                        event = Event::ConnectionRefused.as_str(),
                        client.address = %source,
                        why = %crowded,
                    ),
                    Ok(place) => {
                        let services = Arc::clone(&services);
                        let config = Arc::clone(&config);
                        connections.spawn(converse(services, config, stream, source, place, patience));
                    }
                }
            }
        }
    }
    acceptors.shutdown().await;
    drop(accepted);
    let drained = timeout(patience.drain + 4 * LAST_WORD, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(
            event = Event::GatewayStopping.as_str(),
            why = "transfers did not end in time and are cut off",
            connections = connections.len(),
        );
        connections.shutdown().await;
    }
    // What connections left behind: a CLOSE on its way to a verdict.
    drop(services);
    if timeout(patience.drain, all_done.recv()).await.is_err() {
        tracing::warn!(
            event = Event::GatewayStopping.as_str(),
            why = "a request did not end in time; its submission is recovered at the next start",
        );
    }
    Ok(())
}

/// One accepting task per listener; a slow consumer slows accepting.
fn accept_on(
    listeners: Vec<TcpListener>,
) -> (JoinSet<()>, mpsc::Receiver<(TcpStream, SocketAddr)>) {
    let (sender, receiver) = mpsc::channel(1);
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let sender = sender.clone();
        acceptors.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok(accepted) => {
                        if sender.send(accepted).await.is_err() {
                            return;
                        }
                    }
                    Err(e) => {
                        tracing::warn!(event = Event::ConnectionFailed.as_str(), why = %e);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }
    (acceptors, receiver)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        tracing::error!(event = Event::ConnectionFailed.as_str(), why = %e);
    }
}

/// Waits for the order to stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to give the order: that is one, too.
    let _ordered = shutdown.wait_for(|stop| *stop).await;
}

/// One connection from its first byte to its last.
async fn converse(
    services: Arc<Services>,
    config: Arc<Config>,
    stream: TcpStream,
    source: IpAddr,
    place: Unproven,
    patience: Patience,
) {
    let mut grace = pin!(sleep(patience.grace));
    let mut stop = services.stopping.clone();
    if let Err(e) = stream.set_nodelay(true) {
        return log_failed(source, &e.to_string());
    }
    let (socket, knife) = Socket::new(stream);
    let (login, logged_in) = oneshot::channel();
    let pulse = Arc::new(Pulse::default());
    let handler = Conversation::new(
        Arc::clone(&services),
        source,
        Arc::clone(&pulse),
        place,
        login,
    );
    let running = tokio::select! {
        started = run_stream(config, socket, handler) => match started {
            Ok(running) => running,
            Err(e) => return log_failed(source, &e.to_string()),
        },
        () = &mut grace => return log_failed(source, "no login within the grace time"),
        () = stopped(&mut stop) => return,
    };
    let connection = Connection {
        services,
        source,
        handle: running.handle(),
        running,
        knife: Some(knife),
        pulse,
        patience,
    };
    connection.attend(logged_in, grace, stop).await;
}

fn log_failed(source: IpAddr, why: &str) {
    tracing::info!(
        event = Event::ConnectionFailed.as_str(),
        client.address = %source,
        why = quoted(why, 200),
    );
}

/// The algorithms and bounds russh works with.
fn russh_config(host_keys: Vec<PrivateKey>, config: &SshConfig) -> Config {
    let mut keys = Preferred::DEFAULT.key.into_owned();
    // SHA-1. The list is what clients are told; a key offered with it is refused as well.
    keys.retain(|algorithm| !matches!(algorithm, Algorithm::Rsa { hash: None }));
    keys.push(Algorithm::SkEd25519);
    // Sessions end by `Connection::accompany`, with a reason; this is for a peer that takes nothing.
    let stuck = Duration::from_millis(config.idle_ms) + 3 * JUDGE_EVERY;
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SERVER_ID)),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_secs(1),
        // Every client begins with "none" to learn the methods: no guess, no punishment.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: host_keys,
        // The first "none" counts as an attempt.
        max_auth_attempts: config.auth_tries.saturating_add(1),
        window_size: WINDOW_BYTES,
        maximum_packet_size: CHANNEL_PACKET_BYTES,
        // Channels are served by callbacks; their queues are closed at once.
        channel_buffer_size: 1,
        event_buffer_size: SESSION_QUEUE,
        // kex stays russh's list: it holds the names that switch strict key exchange on.
        preferred: Preferred {
            key: Cow::Owned(keys),
            cipher: Cow::Owned(vec![
                cipher::AES_128_GCM,
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
                cipher::AES_192_CTR,
                cipher::AES_128_CTR,
            ]),
            compression: Cow::Owned(vec![compression::NONE]),
            ..Preferred::DEFAULT
        },
        inactivity_timeout: Some(stuck),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        nodelay: true,
        ..Config::default()
    }
}

// === impl Connection ===

impl Connection {
    async fn attend(
        mut self,
        logged_in: oneshot::Receiver<Login>,
        grace: Pin<&mut Sleep>,
        mut stop: watch::Receiver<bool>,
    ) {
        let login = tokio::select! {
            ended = &mut self.running => {
                let why = ended.map_or_else(|e| e.to_string(), |()| "no login".to_owned());
                return log_failed(self.source, &why);
            }
            login = logged_in => login,
            () = grace => return log_failed(self.source, "no login within the grace time"),
            () = stopped(&mut stop) => return,
        };
        let Ok(Login::Opened(who)) = login else {
            // It has been told why; it gets the time to read it.
            let _left = timeout(LAST_WORD, &mut self.running).await;
            return;
        };
        let why = self.accompany(&who, stop).await;
        tracing::info!(
            event = Event::SessionClosed.as_str(),
            partner = %who.partner,
            client.address = %self.source,
            why = quoted(&why, 200),
        );
    }

    /// Stays beside a session until it ends, and ends it when its time has come. Returns why.
    async fn accompany(&mut self, who: &Identity, mut stop: watch::Receiver<bool>) -> String {
        let mut changed = self.services.authority.changed();
        let mut occasion = interval(JUDGE_EVERY);
        let mut beats = self.pulse.beats();
        let mut quiet = Duration::ZERO;
        loop {
            tokio::select! {
                ended = &mut self.running => return end_of(ended),
                () = stopped(&mut stop) => return self.drain().await,
                Ok(()) = changed.changed() => {}
                _ = occasion.tick() => {
                    let now = self.pulse.beats();
                    quiet = if now == beats && !self.pulse.is_awaited() {
                        quiet + JUDGE_EVERY
                    } else {
                        Duration::ZERO
                    };
                    beats = now;
                }
            }
            if let Err(refused) = self.services.authority.still_may(who) {
                self.say_goodbye(&refused.told).await;
                return refused.to_string();
            }
            if quiet >= self.patience.idle {
                self.say_goodbye("nothing was asked for a while: connect again when needed")
                    .await;
                return "idle".to_owned();
            }
        }
    }

    /// Lets what was begun come to its end, but not for ever.
    async fn drain(&mut self) -> String {
        let pulse = Arc::clone(&self.pulse);
        let at_rest = async {
            while pulse.is_busy() {
                sleep(DRAIN_EVERY).await;
            }
        };
        tokio::select! {
            ended = &mut self.running => return end_of(ended),
            _ = timeout(self.patience.drain, at_rest) => {}
        }
        self.say_goodbye("the gateway is restarting: connect again in a minute")
            .await;
        "gateway stops".to_owned()
    }

    /// Disconnects with a reason, and without mercy if that is not heard.
    async fn say_goodbye(&mut self, told: &str) {
        let told = told.to_owned();
        let goodbye = self
            .handle
            .disconnect(Disconnect::ByApplication, told, "en".to_owned());
        let _said = timeout(LAST_WORD, goodbye).await;
        let _left = timeout(LAST_WORD, &mut self.running).await;
        self.cut();
    }

    fn cut(&mut self) {
        if let Some(knife) = self.knife.take() {
            knife.cut();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.cut();
    }
}

fn end_of(ended: Result<(), russh::Error>) -> String {
    match ended {
        Ok(()) => "the client left".to_owned(),
        Err(russh::Error::Join(_)) => {
            "a defect of sallyport: the panic stands above in the log".to_owned()
        }
        Err(e) => e.to_string(),
    }
}

// === impl Lobby ===

impl Lobby {
    fn new(config: &SshConfig) -> Self {
        Self {
            places: config.unauthenticated,
            places_per_source: config.unauthenticated_per_source,
            taken: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, source: IpAddr) -> Result<Unproven, Crowded> {
        let source = neighbourhood(source);
        let mut taken = self.taken();
        if taken.all >= self.places {
            return Err(Crowded::All);
        }
        let here = taken.by_source.entry(source).or_default();
        if *here >= self.places_per_source {
            // With no place at all the entry is new and must not stay.
            let none = *here == 0;
            if none {
                taken.by_source.remove(&source);
            }
            return Err(Crowded::Source);
        }
        *here += 1;
        taken.all += 1;
        Ok(Unproven {
            lobby: Arc::clone(self),
            source,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Counts are whole after every statement, so a poisoned lock still guards good data.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Unproven ===

impl Drop for Unproven {
    fn drop(&mut self) {
        let mut taken = self.lobby.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(here) = taken.by_source.get_mut(&self.source) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// Who shares a fate: one IPv4 address, or one IPv6 /64, as one customer gets it.
fn neighbourhood(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use russh::{kex, mac};

    use super::*;

    fn ssh_config() -> SshConfig {
        SshConfig {
            listen: Vec::new(),
            host_keys: Vec::new(),
            banner: String::new(),
            login_grace_ms: 20_000,
            idle_ms: 600_000,
            unauthenticated_per_source: 2,
            unauthenticated: 3,
            auth_tries: 6,
        }
    }

    #[test]
    fn strict_key_exchange_and_extension_info_are_offered() {
        let config = russh_config(Vec::new(), &ssh_config());
        for name in [
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
            kex::EXTENSION_SUPPORT_AS_SERVER,
        ] {
            assert!(config.preferred.kex.contains(&name), "{name:?}");
        }
    }

    #[test]
    fn nothing_weak_and_no_compression_is_offered() {
        let config = russh_config(Vec::new(), &ssh_config());
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
    fn the_lobby_has_places_for_all_and_for_one_source_and_gets_them_back() {
        let lobby = Arc::new(Lobby::new(&ssh_config()));
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = lobby.enter(from("2001:db8::1")).map_err(drop).unwrap();
        let _second = lobby.enter(from("2001:db8::ffff:2")).map_err(drop).unwrap();
        assert_eq!(
            lobby.enter(from("2001:db8::3")).err(),
            Some(Crowded::Source)
        );
        let _third = lobby.enter(from("2001:db8:0:1::1")).map_err(drop).unwrap();
        assert_eq!(lobby.enter(from("192.0.2.1")).err(), Some(Crowded::All));
        drop(first);
        assert!(lobby.enter(from("2001:db8::3")).is_ok());
        assert_eq!(lobby.taken().by_source.len(), 2);
    }

    #[test]
    fn an_ipv4_address_inside_ipv6_is_the_ipv4_address() {
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(neighbourhood(from("::ffff:192.0.2.9")), from("192.0.2.9"));
        assert_eq!(
            neighbourhood(from("2001:db8:1:2:3:4:5:6")),
            from("2001:db8:1:2::")
        );
    }
}
