//! What russh reports, translated; nothing is decided here.
//!
//! Every callback of [`russh::server::Handler`] is named: russh's own versions answer nothing, and
//! a client that gets no answer hangs. What is not an sftp channel is refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use russh::keys::{Algorithm, Certificate, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Disconnect, Error, Pty, Sig,
};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::authority::{Identity, SessionSlot};
use crate::intake::Peer;
use crate::ledger::submissions::Origin;
use crate::ssh::Services;
use crate::ssh::door::Unproven;
use crate::ssh::exec::{self, Fed};
use crate::ssh::outbox::stderr_line;
use crate::ssh::quota::OpenFiles;
use crate::ssh::scp::{self, ScpChannel};
use crate::ssh::sftp::{Broken, FileChannel};
use crate::ssh::socket::Valve;
use crate::telemetry::{AuthMethod, AuthResult, Event, Limit, SessionCount, SessionKind};
use crate::terms::limits;
use crate::terms::path::{VirtualPath, quoted};
use crate::wire::exec::Exec;

/// One connection's callbacks.
pub(super) struct Conversation {
    services: Arc<Services>,
    source: IpAddr,
    pulse: Arc<Pulse>,
    phase: Phase,
    channels: HashMap<ChannelId, Line>,
    /// Shared by all channels.
    files: Arc<OpenFiles>,
    /// Channels opened since the connection began.
    opened: usize,
    /// Opened wide at login.
    valve: Arc<Valve>,
}

/// Signs of life, for the task that watches the connection and for who comes after it.
pub(super) struct Pulse {
    valve: Arc<Valve>,
    keepalive: Duration,
    /// Somebody else of the same key goes on with what it was sending.
    overtaken: Notify,
    /// It has ended.
    gone: AtomicBool,
    beats: AtomicU64,
    /// The client's version line.
    client: OnceLock<String>,
    denied: AtomicBool,
    /// Attempts to log in that were refused, the question for the methods included.
    rejected: AtomicUsize,
    /// The same without that question.
    tried: AtomicUsize,
    desks: Mutex<Vec<Weak<dyn Desk>>>,
}

/// Who talks on a channel, and what all channels of its connection share.
pub(super) struct Caller {
    pub(super) who: Identity,
    pub(super) origin: Origin,
    pub(super) files: Arc<OpenFiles>,
    pub(super) pulse: Arc<Pulse>,
}

/// How a login ended.
pub(super) enum Login {
    /// The partner is in.
    Opened(Identity),
    /// The key was right, but the partner has to stay out; it has been told.
    TurnedAway,
}

enum Phase {
    /// Only authentication is answered.
    Unproven {
        proven: Option<Identity>,
        place: Option<Unproven>,
        login: Option<oneshot::Sender<Login>>,
    },
    /// Channels may be opened.
    Open {
        who: Identity,
        #[expect(dead_code, reason = "counts while it lives")]
        slot: SessionSlot,
    },
}

/// One session channel.
enum Line {
    /// Nothing runs on it yet.
    Quiet(ChannelWriteHalf<Msg>),
    /// What it was asked to run there is not: it has been told so, and is good for nothing more.
    Refused(#[expect(dead_code, reason = "open until its client closes it")] ChannelWriteHalf<Msg>),
    Files(
        FileChannel,
        #[expect(dead_code, reason = "counts while it lives")] SessionCount,
    ),
    Scp(
        ScpChannel,
        #[expect(dead_code, reason = "counts while it lives")] SessionCount,
    ),
    /// A digest of what the client sends.
    Fed(Fed),
    /// Digests are on their way.
    Sums(Sums),
}

/// A task that ends with its channel: it may be waiting for window nobody will ever give.
struct Sums(AbortHandle);

/// What a channel does that a client may wait for.
pub(super) trait Desk: Send + Sync {
    /// Something was begun that would be lost.
    fn is_busy(&self) -> bool;

    /// A request is being worked on.
    fn is_awaited(&self) -> bool;
}

/// Channels of one connection, also the closed ones: russh remembers each for as long as the
/// connection lives.
const CHANNELS_EVER_MAX: usize = 100_000;

/// How long a refused command waits for the client to show why.
const HINT: Duration = Duration::from_secs(1);
const NO_EXEC: &str = "this command is not available; there is sftp, scp, sha256sum and b3sum";

// === impl Conversation ===

impl Conversation {
    pub(super) fn new(
        services: Arc<Services>,
        source: IpAddr,
        pulse: Arc<Pulse>,
        place: Unproven,
        login: oneshot::Sender<Login>,
        valve: Arc<Valve>,
    ) -> Self {
        Self {
            services,
            source,
            pulse,
            phase: Phase::Unproven {
                proven: None,
                place: Some(place),
                login: Some(login),
            },
            channels: HashMap::new(),
            files: Arc::default(),
            opened: 0,
            valve,
        }
    }

    /// The gate's answer about a key. SHA-1 signatures are refused, unless a policy allows them.
    fn judge(&self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Option<Identity> {
        let is_sha1 = matches!(algorithm, Algorithm::Rsa { hash: None });
        let authority = &self.services.authority;
        if is_sha1 && !authority.may_sign_with_sha1(user, self.source) {
            self.deny(user, "authority.sha1-signature", "ssh-rsa with SHA-1");
            return None;
        }
        match self.services.authority.login(user, key, self.source) {
            Ok(identity) => Some(identity),
            Err(refused) => {
                self.deny(user, refused.code, &refused.why);
                None
            }
        }
    }

    /// A no to an attempt to log in.
    fn reject(&self) -> Auth {
        self.pulse.rejected.fetch_add(1, Ordering::Relaxed);
        Auth::reject()
    }

    /// One real attempt to log in more, where there is one left: russh counts the question for the
    /// methods as one, which not every client asks.
    fn one_try_more(&self) -> Result<(), Error> {
        if self.pulse.tried.load(Ordering::Relaxed) >= self.services.auth_tries {
            return Err(Error::NotAuthenticated);
        }
        Ok(())
    }

    /// A no to a real attempt.
    fn refuse_try(&self) -> Result<Auth, Error> {
        self.one_try_more()?;
        self.pulse.tried.fetch_add(1, Ordering::Relaxed);
        Ok(self.reject())
    }

    fn deny(&self, user: &str, code: &str, why: &str) {
        self.pulse.denied.store(true, Ordering::Relaxed);
        let metrics = &self.services.metrics;
        metrics.auth_attempt(AuthMethod::PublicKey, AuthResult::Denied);
        self.log_denied(user, code, why);
    }

    fn log_denied(&self, user: &str, code: &str, why: &str) {
        tracing::info!(
            event = Event::SessionDenied.as_str(),
            client.address = %self.source,
            user = quoted(user, 64),
            code,
            why,
        );
    }

    /// Refuses a channel request. On a channel whose refusal is still on its way that would be the answer
    /// to an earlier one: such a channel is closed.
    fn refuse(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.pulse.beat();
        if let Some(Line::Refused(_)) = self.channels.get(&channel) {
            self.channels.remove(&channel);
            self.services.metrics.limit_reached(Limit::Requests);
            return session.close(channel);
        }
        session.channel_failure(channel)
    }

    fn caller(&self, who: &Identity, channel: &str, session: &Session) -> Caller {
        Caller {
            who: who.clone(),
            origin: Origin {
                channel: channel.to_owned(),
                address: self.source.to_string(),
                client: client_of(session),
                key: who.fingerprint.clone(),
            },
            files: Arc::clone(&self.files),
            pulse: Arc::clone(&self.pulse),
        }
    }

    /// Starts a command there is.
    fn run(&mut self, channel: ChannelId, exec: Exec, session: &mut Session) -> Result<(), Error> {
        let Phase::Open { who, .. } = &self.phase else {
            return self.refuse(channel, session);
        };
        let Some(half) = take_quiet(&mut self.channels, channel) else {
            return self.refuse(channel, session);
        };
        let (services, who) = (Arc::clone(&self.services), who.clone());
        let caller = self.caller(&who, "scp", session);
        let count = self.services.metrics.session(SessionKind::Scp);
        let line = match exec {
            Exec::Target { path, folder, .. } => {
                let parsed = VirtualPath::parse(path.path());
                let target = scp::Target {
                    path: parsed.clone().unwrap_or_else(|_| VirtualPath::root()),
                    folder: folder || path.bytes.ends_with(b"/"),
                };
                let mut scp = ScpChannel::receive_into(services, caller, half, target);
                if let Err(bad) = parsed {
                    scp.fail(&bad.to_string());
                }
                self.pulse.watch(scp.desk());
                Line::Scp(scp, count)
            }
            Exec::Source {
                paths,
                recursive,
                times,
            } => {
                let options = scp::SourceOptions { recursive, times };
                let sending = ScpChannel::send_from(services, caller, half, paths, options);
                let Some(scp) = sending else {
                    return self.refuse(channel, session);
                };
                self.pulse.watch(scp.desk());
                Line::Scp(scp, count)
            }
            Exec::Sum { function, paths } => match Fed::kind(function, &paths) {
                Some(kind) => Line::Fed(Fed::new(kind, half, who)),
                None => {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "it ends with its few answers, or with its channel"
                    )]
                    let task = tokio::spawn(exec::print_sums(services, who, half, function, paths));
                    Line::Sums(Sums(task.abort_handle()))
                }
            },
            Exec::Unknown => Line::Quiet(half),
        };
        self.channels.insert(channel, line);
        session.channel_success(channel)
    }

    /// Ends what cannot go on: a lost stream ends the connection, an overrun its channel.
    fn give_up(
        &mut self,
        channel: ChannelId,
        broken: Broken,
        session: &mut Session,
    ) -> Result<(), Error> {
        let partner = match &self.phase {
            Phase::Open { who, .. } => who.partner.as_str(),
            Phase::Unproven { .. } => "",
        };
        tracing::warn!(
            event = Event::ConnectionFailed.as_str(),
            partner,
            client.address = %self.source,
            channel = channel.number(),
            why = %broken,
        );
        self.channels.remove(&channel);
        self.services.metrics.limit_reached(match broken {
            Broken::Overrun(limits::SFTP_PENDING_MAX) => Limit::Requests,
            Broken::Overrun(_) => Limit::Output,
            Broken::Unreadable(_) => Limit::Packet,
        });
        match broken {
            Broken::Overrun(_) => session.close(channel),
            Broken::Unreadable(_) => {
                session.disconnect(Disconnect::ProtocolError, &broken.to_string(), "en")
            }
        }
    }
}

impl Handler for Conversation {
    type Error = Error;

    // --- login

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        let banner = self.services.banner.trim_end();
        Ok((!banner.is_empty()).then(|| format!("{banner}\r\n")))
    }

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Error> {
        Ok(self.reject())
    }

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, Error> {
        self.refuse_try()
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        _response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        self.refuse_try()
    }

    async fn auth_openssh_certificate(
        &mut self,
        _user: &str,
        _certificate: &Certificate,
    ) -> Result<Auth, Error> {
        self.refuse_try()
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        self.one_try_more()?;
        match self.judge(user, offer.public_key, offer.algorithm) {
            Some(_) => Ok(Auth::Accept),
            None => self.refuse_try(),
        }
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        self.one_try_more()?;
        let identity = self.judge(user, key.public_key, key.algorithm);
        match (&mut self.phase, identity) {
            (Phase::Unproven { proven, .. }, Some(identity)) => {
                *proven = Some(identity);
                Ok(Auth::Accept)
            }
            (Phase::Unproven { .. } | Phase::Open { .. }, _) => self.refuse_try(),
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        let Phase::Unproven {
            proven,
            place,
            login,
        } = &mut self.phase
        else {
            return Err(Error::Inconsistent);
        };
        let (Some(who), Some(login)) = (proven.take(), login.take()) else {
            return Err(Error::Inconsistent);
        };
        drop(place.take());
        let metrics = &self.services.metrics;
        metrics.auth_attempt(AuthMethod::PublicKey, AuthResult::Ok);
        let rate = self.services.authority.bytes_per_sec(&who);
        self.valve.open(rate);
        match self.services.authority.admit(&who) {
            Ok(slot) => {
                tracing::info!(
                    event = Event::SessionOpened.as_str(),
                    partner = %who.partner,
                    client.address = %self.source,
                    client = client_of(session),
                    key = who.fingerprint,
                    comment = who.comment,
                );
                // An error means that nobody watches any more: the connection is ending.
                let _ending = login.send(Login::Opened(who.clone()));
                self.phase = Phase::Open { who, slot };
                Ok(())
            }
            Err(refused) => {
                metrics.limit_reached(Limit::Sessions);
                self.log_denied(who.partner.as_str(), refused.code, &refused.why);
                let _ending = login.send(Login::TurnedAway);
                session.disconnect(Disconnect::TooManyConnections, &refused.told, "en")
            }
        }
    }

    // --- channels

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.pulse.beat();
        self.channels.retain(|_, line| !line.is_over());
        if self.channels.len() >= limits::SSH_CHANNELS_MAX || self.opened >= CHANNELS_EVER_MAX {
            self.services.metrics.limit_reached(Limit::Channels);
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.opened += 1;
        // Without its reading half the channel's queue is closed: russh skips it and only calls
        // the callbacks below.
        let (_, half) = channel.split();
        self.channels.insert(half.id(), Line::Quiet(half));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        prohibit(reply).await
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        prohibit(reply).await
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        prohibit(reply).await
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        prohibit(reply).await
    }

    async fn channel_open_confirmation(
        &mut self,
        _id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // The gateway opens no channels.
        Err(Error::Inconsistent)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.pulse.beat();
        match self.channels.get_mut(&channel) {
            Some(Line::Files(files, _)) => match files.receive(data) {
                Ok(()) => Ok(()),
                Err(broken) => self.give_up(channel, broken, session),
            },
            Some(Line::Scp(scp, _)) => match scp.receive(data) {
                Ok(()) => Ok(()),
                Err(malformed) => {
                    scp.fail(&malformed.to_string());
                    self.services.metrics.limit_reached(Limit::Packet);
                    Ok(())
                }
            },
            Some(Line::Fed(fed)) => {
                fed.receive(data);
                Ok(())
            }
            Some(Line::Quiet(_) | Line::Refused(_) | Line::Sums(_)) | None => Ok(()),
        }
    }

    async fn extended_data(
        &mut self,
        _channel: ChannelId,
        _code: u32,
        _data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        match self.channels.get_mut(&channel) {
            Some(Line::Files(files, _)) => {
                files.end();
                Ok(())
            }
            Some(Line::Scp(scp, _)) => {
                scp.end();
                Ok(())
            }
            Some(Line::Quiet(_) | Line::Refused(_)) => {
                self.channels.remove(&channel);
                session.close(channel)
            }
            Some(Line::Fed(_)) => {
                let Some(Line::Fed(fed)) = self.channels.remove(&channel) else {
                    return Ok(());
                };
                #[expect(
                    clippy::disallowed_methods,
                    reason = "it ends with its one answer, or with its channel"
                )]
                let task = tokio::spawn(fed.answer(Arc::clone(&self.services)));
                let line = Line::Sums(Sums(task.abort_handle()));
                self.channels.insert(channel, line);
                Ok(())
            }
            Some(Line::Sums(_)) | None => Ok(()),
        }
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn window_adjusted(
        &mut self,
        _channel: ChannelId,
        _new_size: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // Whoever waits for window is woken by russh itself.
        self.pulse.beat();
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, current: u32) -> u32 {
        current
    }

    // --- requests on a channel

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let (Phase::Open { who, .. }, "sftp") = (&self.phase, name) else {
            return self.refuse(channel, session);
        };
        let Some(half) = take_quiet(&mut self.channels, channel) else {
            return self.refuse(channel, session);
        };
        session.channel_success(channel)?;
        let caller = self.caller(who, "sftp", session);
        let files = FileChannel::start(Arc::clone(&self.services), caller, half);
        self.pulse.watch(files.desk());
        let count = self.services.metrics.session(SessionKind::Sftp);
        self.channels.insert(channel, Line::Files(files, count));
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        let exec = Exec::parse(data);
        if exec != Exec::Unknown {
            return self.run(channel, exec, session);
        }
        let Some(half) = take_quiet(&mut self.channels, channel) else {
            return self.refuse(channel, session);
        };
        let line = stderr_line(NO_EXEC);
        let has_room = half.writable_packet_size().await >= line.len();
        if !has_room {
            self.channels.insert(channel, Line::Quiet(half));
            return self.refuse(channel, session);
        }
        self.channels.insert(channel, Line::Refused(half));
        self.pulse.beat();
        session.extended_data(channel, 1, line)?;
        // OpenSSH ends at the refusal without printing what came just before it. So the refusal
        // waits for a sign that the line was taken.
        let (ask, taken) = oneshot::channel();
        session.send_ping(ask)?;
        let handle = session.handle();
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends within HINT, and there is one a channel"
        )]
        tokio::spawn(async move {
            let _shown = timeout(HINT, taken).await;
            let _refused = handle.channel_failure(channel).await;
        });
        Ok(())
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse(channel, session)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse(channel, session)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse(channel, session)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _variable_name: &str,
        _variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse(channel, session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _x11_auth_protocol: &str,
        _x11_auth_cookie: &str,
        _x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse(channel, session)
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        _signal: Sig,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse(channel, session)
    }

    // --- requests about the connection

    async fn tcpip_forward(
        &mut self,
        _address: &str,
        _port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        _address: &str,
        _port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    async fn streamlocal_forward(
        &mut self,
        _socket_path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        _socket_path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(false)
    }
}

/// The client's version string, as in `OpenSSH_9.6`.
fn client_of(session: &Session) -> String {
    let id = String::from_utf8_lossy(session.remote_sshid());
    quoted(id.trim_start_matches("SSH-2.0-"), 80)
}

/// The channel, if nothing runs on it yet.
fn take_quiet(
    channels: &mut HashMap<ChannelId, Line>,
    channel: ChannelId,
) -> Option<ChannelWriteHalf<Msg>> {
    let line = channels.remove(&channel)?;
    if let Line::Quiet(half) = line {
        return Some(half);
    }
    channels.insert(channel, line);
    None
}

async fn prohibit(reply: ChannelOpenHandle) -> Result<(), Error> {
    reply
        .reject(ChannelOpenFailure::AdministrativelyProhibited)
        .await;
    Ok(())
}

// === impl Line ===

impl Line {
    /// The gateway has closed it; russh does not report that.
    fn is_over(&self) -> bool {
        match self {
            Self::Files(files, _) => files.desk().is_over(),
            Self::Scp(scp, _) => scp.desk().is_over(),
            Self::Sums(Sums(task)) => task.is_finished(),
            Self::Fed(_) | Self::Quiet(_) | Self::Refused(_) => false,
        }
    }
}

// === impl Sums ===

impl Drop for Sums {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl Pulse ===

impl Peer for Pulse {
    fn silence(&self) -> Duration {
        self.valve.silence()
    }

    fn patience(&self) -> Duration {
        self.keepalive + limits::KEEPALIVE_ANSWER
    }

    fn cut(&self) {
        self.overtaken.notify_one();
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl Pulse {
    /// The connection has ended.
    pub(super) fn ends(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(super) fn new(valve: Arc<Valve>, keepalive: Duration) -> Self {
        Self {
            valve,
            keepalive,
            overtaken: Notify::new(),
            gone: AtomicBool::new(false),
            beats: AtomicU64::new(0),
            client: OnceLock::new(),
            denied: AtomicBool::new(false),
            rejected: AtomicUsize::new(0),
            tried: AtomicUsize::new(0),
            desks: Mutex::default(),
        }
    }

    /// Returns when somebody else of the same key goes on with what was sent here.
    pub(super) async fn overtaken(&self) {
        self.overtaken.notified().await;
    }

    /// Changes whenever the client did something.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// A login was refused.
    pub(super) fn was_denied(&self) -> bool {
        self.denied.load(Ordering::Relaxed)
    }

    /// Remembers how the client calls itself.
    pub(super) fn is_client(&self, line: String) {
        // Said once a connection.
        let _told_before = self.client.set(line);
    }

    /// How the client calls itself; empty until it has said so.
    pub(super) fn client(&self) -> &str {
        self.client.get().map_or("", String::as_str)
    }

    /// Whether all attempts to log in were refused.
    pub(super) fn has_used_up(&self, tries: usize) -> bool {
        self.tried.load(Ordering::Relaxed) >= tries || self.rejected.load(Ordering::Relaxed) > tries
    }

    /// From now on `per_sec` bytes a second.
    pub(super) fn pace(&self, per_sec: u64) {
        self.valve.open(per_sec);
    }

    /// Whether the client was slowed down since this was last asked.
    pub(super) fn was_slowed(&self) -> bool {
        self.valve.was_slowed()
    }

    /// A channel has begun what would be lost.
    pub(super) fn is_busy(&self) -> bool {
        self.any(|desk| desk.is_busy())
    }

    /// A client waits for an answer that takes time.
    pub(super) fn is_awaited(&self) -> bool {
        self.any(|desk| desk.is_awaited())
    }

    fn any(&self, is: impl Fn(&dyn Desk) -> bool) -> bool {
        let desks: Vec<_> = {
            let desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
            desks.iter().filter_map(Weak::upgrade).collect()
        };
        desks.iter().any(|desk| is(desk.as_ref()))
    }

    fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    fn watch<D: Desk + 'static>(&self, desk: &Arc<D>) {
        let desk: Arc<dyn Desk> = desk.clone();
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.retain(|desk| desk.strong_count() > 0);
        desks.push(Arc::downgrade(&desk));
    }
}
