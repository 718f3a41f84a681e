//! Rank 8: SSH. Listeners, limits in front of russh, one task per connection, a drain at the end.
//!
//! Files: `door` and `proxy` (who may begin to talk), `greeting` and `algorithms` (what is
//! negotiated), `socket` (what russh reads and writes), `session` (what russh reports, translated),
//! `sftp` (a file channel), `lane` and `outbox` (its waiting requests and replies), `quota` (what a
//! connection may have open). russh is used nowhere else. A panic or an attack ends the one
//! connection it happens on.

mod algorithms;
pub mod client;
mod door;
mod exec;
mod greeting;
mod lane;
mod outbox;
mod proxy;
mod quota;
mod readahead;
mod scp;
mod session;
mod sftp;
mod socket;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use russh::Disconnect;
use russh::keys::PrivateKey;
use russh::server::{Handle, RunningSession, run_stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, interval_at, sleep, timeout};

use crate::authority::penalties::Offence;
use crate::authority::{Authority, Identity};
use crate::config::SshConfig;
use crate::intake::{Intake, Peer as _};
use crate::ssh::algorithms::{Algorithms, FAST_CIPHERS};
use crate::ssh::door::{Door, TurnedAway, Unproven};
use crate::ssh::greeting::greet;
use crate::ssh::session::{Conversation, Login, Pulse};
use crate::ssh::socket::{Knife, Socket, Valve};
use crate::telemetry::{ConnectionResult, Event, Limit, Metrics, Rng};
use crate::terms::clock::Clock;
use crate::terms::path::quoted;

/// What the SSH side is started with.
pub struct SshSettings {
    /// The gateway's own keys; clients choose among their kinds.
    pub host_keys: Vec<PrivateKey>,
    /// `[ssh]`
    pub config: SshConfig,
    /// For dates in listings, and for penalties.
    pub clock: Arc<dyn Clock>,
    /// Decides who is dropped while places are scarce.
    pub rng: Rng,
    /// What is counted.
    pub metrics: Metrics,
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
    metrics: Metrics,
    door: Arc<Door>,
    algorithms: Algorithms,
    /// Attempts to log in that a connection has.
    auth_tries: usize,
    /// Load balancers whose PROXY header is believed.
    proxies: Vec<IpNet>,
    banner: String,
    stopping: watch::Receiver<bool>,
    /// Never used to send: as long as one is held, somebody still works.
    #[expect(dead_code, reason = "its end is what is waited for")]
    alive: mpsc::Sender<Infallible>,
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

/// How a connection came in.
enum Entrance {
    /// It speaks for itself.
    Known { source: IpAddr, place: Unproven },
    /// Its PROXY header will tell.
    Proxied {
        proxy: IpAddr,
        waiting: OwnedSemaphorePermit,
    },
}

/// How long things may take.
#[derive(Clone, Copy)]
struct Patience {
    /// Until a login is finished.
    grace: Duration,
    /// Without traffic.
    idle: Duration,
    /// Silence, until it is asked whether it is still there.
    keepalive: Duration,
    /// After the order to stop.
    drain: Duration,
}

/// What OpenSSH says to a source with a penalty.
const NOT_NOW: &[u8] = b"Not allowed at this time\r\n";
/// How often a session is judged anew without an occasion: keys expire by themselves.
const JUDGE_EVERY: Duration = Duration::from_secs(10);
/// How often a draining connection is asked whether it is done.
const DRAIN_EVERY: Duration = Duration::from_millis(200);
/// How long a client may take to hang up after it was told to.
const LAST_WORD: Duration = Duration::from_millis(500);
/// After an accept that failed, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` becomes true or its sender is gone, then lets running transfers end,
/// for [`SshConfig::drain_ms`] at most. Returns when every CLOSE that was received has its end.
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
        keepalive: algorithms::keepalive(&settings.config),
        drain: Duration::from_millis(settings.config.drain_ms),
    };
    let door = Door::new(
        &settings.config,
        Arc::clone(&settings.clock),
        settings.rng.clone(),
    );
    let algorithms = Algorithms::new(settings.host_keys, &settings.config);
    let services = Arc::new(Services {
        authority,
        intake,
        clock: settings.clock,
        metrics: settings.metrics,
        door: Arc::new(door),
        algorithms,
        auth_tries: settings.config.auth_tries,
        proxies: settings.config.proxy_protocol_from.clone(),
        banner: settings.config.banner.clone(),
        stopping: shutdown.clone(),
        alive,
    });

    let mut connections = JoinSet::new();
    let (mut acceptors, mut accepted) = accept_on(listeners);
    let mut stop = shutdown.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            Some((stream, peer)) = accepted.recv() => {
                let peer = peer.ip().to_canonical();
                if let Some(entrance) = services.admit(&stream, peer) {
                    let services = Arc::clone(&services);
                    connections.spawn(converse(services, stream, entrance, patience));
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
    mut stream: TcpStream,
    entrance: Entrance,
    patience: Patience,
) {
    let mut grace = pin!(sleep(patience.grace));
    let mut stop = services.stopping.clone();
    let (source, place) = match entrance {
        Entrance::Known { source, place } => (source, place),
        Entrance::Proxied { proxy, waiting } => {
            let header = tokio::select! {
                header = proxy::read_header(&mut stream) => header,
                () = &mut grace => {
                    services.metrics.limit_reached(Limit::LoginGrace);
                    return services.log_failed(proxy, "", "no PROXY header in time");
                }
                () = stopped(&mut stop) => return,
            };
            let source = match header {
                Ok(source) => source.map_or(proxy, |source| source.to_canonical()),
                Err(bad) => {
                    if matches!(bad, proxy::BadHeader::TooLong) {
                        services.metrics.limit_reached(Limit::HandshakeBytes);
                    }
                    return services.log_failed(proxy, "", &bad.to_string());
                }
            };
            drop(waiting);
            let Some(place) = services.place(&stream, source) else {
                return;
            };
            (source, place)
        }
    };
    if let Err(e) = stream.set_nodelay(true) {
        return services.log_failed(source, "", &e.to_string());
    }
    let valve = Arc::new(Valve::default());
    let (login, logged_in) = oneshot::channel();
    let pulse = Arc::new(Pulse::new(Arc::clone(&valve), patience.keepalive));
    let handler = Conversation::new(
        Arc::clone(&services),
        source,
        Arc::clone(&pulse),
        place,
        login,
        Arc::clone(&valve),
    );
    let greeting = tokio::select! {
        greeting = greet(&mut stream, &FAST_CIPHERS) => greeting,
        () = &mut grace => return services.too_slow(source, &pulse),
        () = stopped(&mut stop) => return,
    };
    let greeting = match greeting {
        Ok(greeting) => greeting,
        Err(e) => return services.end_unproven(source, &pulse, &e.to_string()),
    };
    let steers = greeting.steers;
    pulse.is_client(greeting.client());
    let (socket, knife) = Socket::greeted(stream, valve, greeting);
    let legacy = services.authority.legacy_algorithms(source);
    let config = services.algorithms.with(legacy, steers);
    let running = tokio::select! {
        started = run_stream(config, socket, handler) => match started {
            Ok(running) => running,
            Err(e) => return services.end_unproven(source, &pulse, &algorithms::failure(&e)),
        },
        () = &mut grace => return services.too_slow(source, &pulse),
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

// === impl Services ===

impl Services {
    /// A connection just accepted: a place for it, or the way to one. `None`: it was turned away.
    fn admit(&self, stream: &TcpStream, peer: IpAddr) -> Option<Entrance> {
        if self.proxies.iter().any(|net| net.contains(&peer)) {
            return match self.door.wait_outside() {
                Ok(waiting) => Some(Entrance::Proxied {
                    proxy: peer,
                    waiting,
                }),
                Err(why) => {
                    self.turn_away(stream, peer, why);
                    None
                }
            };
        }
        let place = self.place(stream, peer)?;
        Some(Entrance::Known {
            source: peer,
            place,
        })
    }

    fn place(&self, stream: &TcpStream, source: IpAddr) -> Option<Unproven> {
        match self.door.enter(source) {
            Ok(place) => Some(place),
            Err(why) => {
                self.turn_away(stream, source, why);
                None
            }
        }
    }

    fn turn_away(&self, stream: &TcpStream, source: IpAddr, why: TurnedAway) {
        self.metrics.connection(why.result());
        tracing::info!(
            event = Event::ConnectionRefused.as_str(),
            client.address = %source,
            why = %why,
        );
        // As OpenSSH says it; a line before the version is allowed (RFC 4253 section 4.2). Whether
        // it arrives is nobody's worry.
        let _said = stream.try_write(NOT_NOW);
    }

    /// A connection ended before anybody was known.
    fn end_unproven(&self, source: IpAddr, pulse: &Pulse, why: &str) {
        self.door.note(
            source,
            if pulse.was_denied() {
                Offence::LoginFailed
            } else {
                Offence::NoLogin
            },
        );
        if pulse.has_used_up(self.auth_tries) {
            self.metrics.limit_reached(Limit::AuthTries);
        }
        if why.contains(socket::TOO_MUCH) {
            self.metrics.limit_reached(Limit::HandshakeBytes);
        }
        self.log_failed(source, pulse.client(), why);
    }

    fn too_slow(&self, source: IpAddr, pulse: &Pulse) {
        self.door.note(source, Offence::GraceOver);
        self.metrics.limit_reached(Limit::LoginGrace);
        self.log_failed(source, pulse.client(), "no login within the grace time");
    }

    fn log_failed(&self, source: IpAddr, client: &str, why: &str) {
        self.metrics.connection(ConnectionResult::HandshakeFailed);
        tracing::info!(
            event = Event::ConnectionFailed.as_str(),
            client.address = %source,
            client = quoted(client, 80),
            why = quoted(why, 1000),
        );
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
                let why = self.end_of(ended.map(|()| "no login"));
                return self.services.end_unproven(self.source, &self.pulse, &why);
            }
            // Without a login nobody tells: the connection itself is about to.
            Ok(login) = logged_in => login,
            () = grace => return self.services.too_slow(self.source, &self.pulse),
            () = stopped(&mut stop) => return,
        };
        let Login::Opened(who) = login else {
            // It has been told why; it gets the time to read it.
            let _left = timeout(LAST_WORD, &mut self.running).await;
            return;
        };
        self.services.metrics.connection(ConnectionResult::Ok);
        let why = self.accompany(&who, stop).await;
        self.count_slowed();
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
        let every = JUDGE_EVERY.min(self.patience.idle);
        let mut occasion = interval_at(Instant::now() + every, every);
        let mut beats = self.pulse.beats();
        let mut quiet = Duration::ZERO;
        let pulse = Arc::clone(&self.pulse);
        loop {
            tokio::select! {
                ended = &mut self.running => return self.end_of(ended.map(|()| "the client left")),
                () = stopped(&mut stop) => return self.drain().await,
                () = pulse.overtaken() => {
                    self.cut();
                    return "silent, and the same key goes on from another connection".to_owned();
                }
                Ok(()) = changed.changed() => {
                    self.pulse.pace(self.services.authority.bytes_per_sec(who));
                }
                _ = occasion.tick() => {
                    let now = self.pulse.beats();
                    quiet = if now == beats && !self.pulse.is_awaited() {
                        quiet + every
                    } else {
                        Duration::ZERO
                    };
                    beats = now;
                    self.count_slowed();
                }
            }
            if let Err(refused) = self.services.authority.still_may(who) {
                self.say_goodbye(&refused.told).await;
                return refused.to_string();
            }
            if quiet >= self.patience.idle {
                self.services.metrics.limit_reached(Limit::Idle);
                self.say_goodbye("nothing was asked for a while: connect again when needed")
                    .await;
                return "idle".to_owned();
            }
        }
    }

    fn count_slowed(&self) {
        if self.pulse.was_slowed() {
            self.services.metrics.limit_reached(Limit::BytesRate);
        }
    }

    /// Lets what was begun come to its end, but not for ever, and not for who is gone.
    async fn drain(&mut self) -> String {
        let pulse = Arc::clone(&self.pulse);
        let at_rest = async {
            while pulse.is_busy() && pulse.silence() < pulse.patience() {
                sleep(DRAIN_EVERY).await;
            }
        };
        tokio::select! {
            ended = &mut self.running => return self.end_of(ended.map(|()| "the client left")),
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

    fn end_of(&self, ended: Result<&str, russh::Error>) -> String {
        end_of(&self.services.door, self.source, ended)
    }

    fn cut(&mut self) {
        if let Some(knife) = self.knife.take() {
            knife.cut();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pulse.ends();
        self.cut();
    }
}

/// Why the connection ended. A panic is a defect of ours, and its source is kept away for a
/// while: whatever it sent must not take the gateway down by repetition.
fn end_of(door: &Door, source: IpAddr, ended: Result<&str, russh::Error>) -> String {
    match ended {
        Ok(why) => why.to_owned(),
        Err(russh::Error::Join(_)) => {
            door.note(source, Offence::Crashed);
            "a defect of sallyport: the panic stands above in the log".to_owned()
        }
        Err(e) => algorithms::failure(&e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::clock::{ManualClock, Timestamp};

    /// A session with a defect.
    struct Defect;

    impl russh::server::Handler for Defect {
        type Error = russh::Error;

        async fn auth_none(&mut self, _user: &str) -> Result<russh::server::Auth, Self::Error> {
            panic!("a defect")
        }
    }

    /// A client that trusts everybody.
    struct Trusting;

    impl russh::client::Handler for Trusting {
        type Error = russh::Error;

        async fn check_server_key(
            &mut self,
            _key: &russh::keys::PublicKeyOrCertificate,
        ) -> Result<bool, Self::Error> {
            Ok(true)
        }
    }

    #[tokio::test]
    async fn a_panic_keeps_its_source_out_for_90_seconds_and_no_longer() {
        let key = PrivateKey::random(
            &mut russh::keys::key::safe_rng(),
            russh::keys::Algorithm::Ed25519,
        );
        let config = russh::server::Config {
            keys: vec![key.unwrap()],
            ..Default::default()
        };
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let asking = async {
            let client = russh::client::connect_stream(Arc::default(), theirs, Trusting);
            drop(client.await.unwrap().authenticate_none("acme").await);
        };
        let serving = async {
            let running = run_stream(Arc::new(config), ours, Defect).await;
            running.unwrap().await
        };
        let (panicked, ()) = tokio::join!(serving, asking);
        let source = IpAddr::from([203, 0, 113, 7]);
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
        let shared: Arc<dyn Clock> = clock.clone();
        let door = Arc::new(Door::new(&ssh_config(), shared, Rng::danger_seeded(1)));
        let why = end_of(&door, source, panicked.map(|()| ""));
        assert!(why.contains("defect"), "{why}");
        let turned_away = |door: &Arc<Door>| door.enter(source).err();
        assert!(matches!(turned_away(&door), Some(TurnedAway::Penalty(_))));
        clock.advance_micros(90_000_000 - 1);
        assert!(matches!(turned_away(&door), Some(TurnedAway::Penalty(_))));
        clock.advance_micros(1);
        assert_eq!(turned_away(&door), None);
    }

    pub(super) fn ssh_config() -> SshConfig {
        SshConfig {
            listen: Vec::new(),
            host_keys: Vec::new(),
            banner: String::new(),
            login_grace_ms: 20_000,
            idle_ms: 600_000,
            drain_ms: 90_000,
            unauthenticated_per_source: 2,
            unauthenticated: 3,
            auth_tries: 6,
            proxy_protocol_from: Vec::new(),
            penalty_exempt: Vec::new(),
        }
    }
}
