//! Rank 8.5: the running whole. Configuration in, an open gateway out; and its orderly end.
//!
//! `serve`, `demo` and the tests start the same [`Gateway`]. It decides nothing: it puts the
//! parts together in the order in which they need each other, and takes them apart in reverse.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admin::socket::{AdminSocket, SocketFault};
use crate::admin::{Admin, Facts};
use crate::authority::Authority;
use crate::authority::signing::{self, AUDIT_NAMESPACE, ReceiptKey};
use crate::config::Config;
use crate::depot::spool::{SpoolDir, SpoolFault};
use crate::depot::store::{Store, StoreFault};
use crate::intake::{Intake, IntakeParts};
use crate::ledger::{HeadSigner, Ledger, LedgerFault};
use crate::policy::mistake::{Mistake, Severity};
use crate::reload::{Outcome, Reload, Trigger, Watched};
use crate::seal::WrappingKey;
use crate::ssh::{self, SshSettings};
use crate::telemetry::{Event, Metrics, Rng};
use crate::terms::clock::{Clock, Timestamp};
use crate::terms::ids::StoreName;
use crate::terms::limits;
use crate::terms::secret::Secret;

/// What a gateway is started with.
pub struct GatewayOptions {
    /// The whole configuration.
    pub config: Config,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Rng,
    /// Sockets somebody else has opened; what is missing is opened here.
    pub listeners: Listeners,
    /// Whether changed files are taken up while it runs.
    pub watching: Watching,
}

/// Sockets passed in, by systemd or by a test.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Those named `ssh`; empty: `[ssh] listen` is opened.
    pub ssh: Vec<std::net::TcpListener>,
    /// The one named `admin`; `None`: `[admin] socket` is made.
    pub admin: Option<std::os::unix::net::UnixListener>,
}

/// Whether changed policies and keys are taken up without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// Yes, within seconds.
    Folders,
    /// Only when [`Gateway::reload`] is called.
    Nothing,
}

/// How a look at policies and keys is asked for.
enum Reloading {
    /// By looking ourselves.
    ByHand(Arc<Reload>),
    /// By asking the task that watches.
    Watched(Trigger),
}

/// A host key, without its private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// `ssh-ed25519`
    pub algorithm: String,
    /// `SHA256:...`
    pub fingerprint: String,
    /// `ssh-ed25519 AAAA...`, for `known_hosts`.
    pub public_line: String,
}

/// A running gateway. Call [`Gateway::stop`]; dropping it ends its tasks at once.
pub struct Gateway {
    ssh: JoinSet<()>,
    close_ssh: watch::Sender<bool>,
    ssh_addresses: Vec<SocketAddr>,
    host_keys: Vec<HostKey>,
    authority: Authority,
    intake: Intake,
    ledger: Ledger,
    metrics: Metrics,
    receipt_key: ReceiptKey,
    admin: AdminSocket,
    metrics_address: Option<SocketAddr>,
    reload: Reloading,
    ready: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    warnings: Vec<String>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayFault {
    /// A folder cannot be made or is not one.
    #[error("{path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A key file is missing, open to others, damaged, or the example.
    #[error("{0}")]
    Secret(String),
    /// No host key, no store: the configuration names too little.
    #[error("{0}")]
    Incomplete(String),
    /// The token key is well-formed, but another than the one in use.
    #[error(
        "{path}: does not unwrap what this state directory holds; is this the token.key it was made with?"
    )]
    OtherRoot {
        /// The key file.
        path: PathBuf,
    },
    /// The policies have mistakes, and there is no earlier set to fall back to.
    #[error("the policies have mistakes, and none is in force yet")]
    Policies {
        /// All of them, rendered.
        shown: String,
    },
    /// The ledger does not open.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// A store does not open.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The spool does not open.
    #[error(transparent)]
    Spool(#[from] SpoolFault),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The admin socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketFault),
}

// === impl Gateway ===

impl Gateway {
    /// Opens everything and takes connections.
    ///
    /// # Errors
    /// [`GatewayFault`]; nothing stays open then.
    #[expect(
        clippy::too_many_lines,
        reason = "one list, in the order in which the parts need each other"
    )]
    pub async fn start(options: GatewayOptions) -> Result<Self, GatewayFault> {
        let GatewayOptions {
            config,
            clock,
            rng,
            listeners,
            watching,
        } = options;
        let started_at = clock.now();

        let receipt_key = ReceiptKey::read(&config.receipt_key).map_err(GatewayFault::Secret)?;
        let root = read_root_key(&config.tokens.key)?;
        let wrapping = Arc::new(WrappingKey::derive(&root));
        drop(root);
        let metrics = Metrics::new();
        let (ssh_settings, host_keys) = ssh_settings(&config, &clock, &rng, &metrics)?;

        // The lock comes first: a second gateway on this state directory is told so, and not of
        // the addresses it would find taken as well.
        make_private_folder(&config.state_dir)?;
        let signer: HeadSigner = {
            let key = receipt_key.clone();
            Arc::new(move |text: &[u8]| key.sign(AUDIT_NAMESPACE, text))
        };
        let ledger = Ledger::open(&config.state_dir, Arc::clone(&clock), signer)?;
        refuse_other_root(&ledger, &wrapping, &config.tokens.key).await?;
        let ssh_listeners = open_listeners(&config.ssh.listen, listeners.ssh)?;
        let ssh_addresses = addresses_of(&ssh_listeners)?;
        let metrics_listener = config.metrics_listen.map(bind).transpose()?;
        let metrics_address = metrics_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());

        let spool = SpoolDir::open(&config.state_dir.join("spool"))?;
        let stores = open_stores(&config)?;

        let authority = Authority::new(Arc::clone(&clock), config.verdict.partial_names.clone());
        authority.replace_revocations(&ledger.revocations().await?);
        let reload = Reload::new(
            config.policies.clone(),
            config.partners.clone(),
            stores.keys().cloned().collect(),
            authority.clone(),
            metrics.clone(),
            Arc::clone(&clock),
        );
        let warnings = first_look(&reload)?;

        let intake = Intake::start(IntakeParts {
            ledger: ledger.clone(),
            spool,
            stores,
            wrapping,
            authority: authority.clone(),
            receipt_key: receipt_key.clone(),
            clock: Arc::clone(&clock),
            rng: rng.clone(),
            metrics: metrics.clone(),
            verdict: config.verdict.clone(),
            spool_config: config.spool.clone(),
            shared_domains: config.tokens.shared.clone(),
            instance: config.instance.clone(),
        });
        intake.recover().await?;

        let (ready, is_ready) = watch::channel(true);
        let admin = Admin::new(
            ledger.clone(),
            authority.clone(),
            receipt_key.clone(),
            Arc::clone(&clock),
            Facts {
                metrics: metrics_address.map(|address| address.to_string()),
                ..facts(&config, started_at, &ssh_addresses, &host_keys)
            },
            intake.clone(),
        )
        .with_signs(metrics.clone(), is_ready.clone());
        let admin = open_socket(&config.admin_socket, listeners.admin, admin)?;

        let (close_ssh, ssh_closed) = watch::channel(false);
        let mut ssh = JoinSet::new();
        ssh.spawn(serve_ssh(
            ssh_listeners,
            ssh_settings,
            authority.clone(),
            intake.clone(),
            ssh_closed,
        ));

        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let reload = match watching {
            Watching::Folders => {
                let trigger = reload.trigger();
                tasks.spawn(reload.run(ledger.clone(), until(stopped.clone())));
                Reloading::Watched(trigger)
            }
            Watching::Nothing => Reloading::ByHand(Arc::new(reload)),
        };
        if let Some(listener) = metrics_listener {
            let stop = until(stopped.clone());
            tasks.spawn(serve_metrics(listener, metrics.clone(), is_ready, stop));
        }
        tasks.spawn(count_states(
            ledger.clone(),
            metrics.clone(),
            stopped.clone(),
        ));
        tasks.spawn(tend(intake.clone(), stopped.clone()));
        tasks.spawn(take_quiet(intake.clone(), stopped.clone()));
        {
            let intake = intake.clone();
            tasks.spawn(async move { intake.deliver_until(stopped).await });
        }

        Ok(Self {
            ssh,
            close_ssh,
            ssh_addresses,
            host_keys,
            authority,
            intake,
            ledger,
            metrics,
            receipt_key,
            admin,
            metrics_address,
            reload,
            ready,
            stop,
            tasks,
            warnings,
        })
    }

    /// The first address it listens on for SSH.
    #[must_use]
    pub fn ssh_addr(&self) -> Option<SocketAddr> {
        self.ssh_addresses.first().copied()
    }

    /// All of them.
    #[must_use]
    pub fn ssh_addresses(&self) -> &[SocketAddr] {
        &self.ssh_addresses
    }

    /// `SHA256:...` of its first host key.
    #[must_use]
    pub fn host_key_fingerprint(&self) -> &str {
        self.host_keys
            .first()
            .map_or("", |key| key.fingerprint.as_str())
    }

    /// All its host keys.
    #[must_use]
    pub fn host_keys(&self) -> &[HostKey] {
        &self.host_keys
    }

    /// The gate.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The life of submissions.
    #[must_use]
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// What happened.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Its series.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What signs its receipts.
    #[must_use]
    pub fn receipt_key(&self) -> &ReceiptKey {
        &self.receipt_key
    }

    /// Where `/metrics` answers, if anywhere.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What the first look at policies and keys found worth saying.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Looks at policies and keys now, as SIGHUP does. What came of it stands in log and audit.
    pub async fn reload(&self) {
        let reload = match &self.reload {
            Reloading::Watched(trigger) => {
                trigger.pull();
                return;
            }
            Reloading::ByHand(reload) => Arc::clone(reload),
        };
        match tokio::task::spawn_blocking(move || reload.scan()).await {
            Ok(outcomes) => {
                for outcome in outcomes {
                    if let Err(cause) = self.ledger.record(outcome.to_act()).await {
                        error!(event = Event::LedgerFailed.as_str(), %cause);
                    }
                }
            }
            Err(cause) => error!(%cause, "the look at policies and keys ended by a panic"),
        }
    }

    /// The ledger can be written; a watchdog asks.
    pub async fn is_alive(&self) -> bool {
        let wait = Duration::from_millis(limits::ALIVE_WAIT_MS);
        matches!(
            tokio::time::timeout(wait, self.ledger.ping()).await,
            Ok(Ok(()))
        )
    }

    /// Takes no more connections, lets running transfers end for a while, settles what is whole,
    /// and closes.
    pub async fn stop(mut self) {
        self.ready.send_replace(false);
        self.close_ssh.send_replace(true);
        join(&mut self.ssh).await;
        self.intake.finish().await;
        self.admin.stop().await;
        self.stop.send_replace(true);
        join(&mut self.tasks).await;
        info!(event = Event::GatewayStopped.as_str());
    }
}

/// What would keep a gateway from starting with a configuration, all of it, in the words of the
/// start itself: keys, folders, stores, policies. Makes nothing. Warnings of policies are among
/// the mistakes.
#[must_use]
pub fn check(config: &Config, clock: &Arc<dyn Clock>) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut refused = |code, file: &Path, why: &str| {
        let file = file.display().to_string();
        let why = why.strip_prefix(&format!("{file}: ")).unwrap_or(why);
        let mistake = Mistake::without_place(code, Severity::Error, &file, why.to_owned());
        found.push(mistake);
    };
    if let Err(why) = ReceiptKey::read(&config.receipt_key) {
        refused(SECRET, &config.receipt_key, &why);
    }
    if let Err(fault) = read_root_key(&config.tokens.key) {
        refused(SECRET, &config.tokens.key, &fault.to_string());
    }
    if config.ssh.host_keys.is_empty() {
        let why = ssh_settings(config, clock, &Rng::system(), &Metrics::new())
            .err()
            .map(|fault| fault.to_string());
        refused(INCOMPLETE, Path::new("[ssh]"), &why.unwrap_or_default());
    }
    for path in &config.ssh.host_keys {
        if let Err(why) = signing::read_private_key(path) {
            refused(SECRET, path, &why);
        }
    }
    if config.state_dir.exists() && !config.state_dir.is_dir() {
        refused(FOLDER, &config.state_dir, "state_dir is not a directory");
    }
    if config.stores.is_empty() {
        refused(INCOMPLETE, Path::new("[store]"), NO_STORE);
    }
    for (name, store) in &config.stores {
        if let Err(fault) = Store::check(name, &store.url) {
            let place = format!("[store.{name}]");
            refused(STORE, Path::new(&place), &fault.to_string());
        }
    }
    let stores = config.stores.keys().cloned().collect();
    match Reload::load_policies(&config.policies, &stores) {
        Ok((_, warnings)) => found.extend(warnings),
        Err(mistakes) => found.extend(mistakes),
    }
    found
}

/// A root key that does not unwrap what is there would make other tokens for the same values, and
/// lose every file in flight.
async fn refuse_other_root(
    ledger: &Ledger,
    wrapping: &WrappingKey,
    path: &Path,
) -> Result<(), GatewayFault> {
    let other = || GatewayFault::OtherRoot {
        path: path.to_owned(),
    };
    if let Some((owner, domain, key)) = ledger.any_domain_key().await? {
        let context = format!("domain {owner}/{domain}");
        return match wrapping.unwrap(&key.wrapped, context.as_bytes()) {
            Ok(_) => Ok(()),
            Err(_) => Err(other()),
        };
    }
    // No tokens so far; a file in flight has keys as well.
    let Some(waiting) = ledger.waiting().await?.into_iter().next() else {
        return Ok(());
    };
    let Some(row) = ledger.submission(waiting.id).await? else {
        return Ok(());
    };
    for (purpose, key) in [("raw", row.raw_key), ("out", row.out_key)] {
        let context = format!("{purpose} {}", row.id);
        if key.is_some_and(|key| wrapping.unwrap(&key, context.as_bytes()).is_err()) {
            return Err(other());
        }
    }
    Ok(())
}

/// Host keys, and what is told of them.
fn ssh_settings(
    config: &Config,
    clock: &Arc<dyn Clock>,
    rng: &Rng,
    metrics: &Metrics,
) -> Result<(SshSettings, Vec<HostKey>), GatewayFault> {
    let mut settings = SshSettings {
        host_keys: Vec::new(),
        config: config.ssh.clone(),
        clock: Arc::clone(clock),
        rng: rng.clone(),
        metrics: metrics.clone(),
    };
    let mut told = Vec::new();
    for path in &config.ssh.host_keys {
        let key = signing::read_private_key(path).map_err(GatewayFault::Secret)?;
        let public = key.public_key();
        #[expect(
            clippy::default_trait_access,
            reason = "the digest is the SSH library's default, SHA-256, and that library is named only in ssh"
        )]
        let fingerprint = public.fingerprint(Default::default());
        told.push(HostKey {
            algorithm: public.algorithm().as_str().to_owned(),
            fingerprint: fingerprint.to_string(),
            public_line: bare_line(&public.to_string()),
        });
        settings.host_keys.push(key);
    }
    if told.is_empty() {
        return Err(GatewayFault::Incomplete(
            "[ssh] host_keys names no key; `sallyport init` makes one".to_owned(),
        ));
    }
    Ok((settings, told))
}

fn addresses_of(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, GatewayFault> {
    listeners
        .iter()
        .map(|listener| {
            listener
                .local_addr()
                .map_err(|source| GatewayFault::Listen {
                    address: "an ssh socket".to_owned(),
                    source,
                })
        })
        .collect()
}

fn open_socket(
    path: &Path,
    passed: Option<std::os::unix::net::UnixListener>,
    admin: Admin,
) -> Result<AdminSocket, GatewayFault> {
    if let Some(listener) = passed {
        return Ok(AdminSocket::inherit(listener, admin)?);
    }
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        make_private_folder(folder)?;
    }
    Ok(AdminSocket::bind(path, admin)?)
}

async fn serve_ssh(
    listeners: Vec<TcpListener>,
    settings: SshSettings,
    authority: Authority,
    intake: Intake,
    closed: watch::Receiver<bool>,
) {
    if let Err(cause) = ssh::serve(listeners, settings, authority, intake, closed).await {
        error!(%cause, "the SSH side did not start");
    }
}

async fn serve_metrics(
    listener: TcpListener,
    metrics: Metrics,
    ready: watch::Receiver<bool>,
    stop: impl Future<Output = ()> + Send,
) {
    if let Err(cause) = crate::http::serve(listener, metrics, ready, stop).await {
        error!(%cause, "the metrics listener ended");
    }
}

/// Policies and keys for the first time. Mistakes of policies end the start: there is no earlier
/// set to keep. Bad lines of key files are only said.
fn first_look(reload: &Reload) -> Result<Vec<String>, GatewayFault> {
    let mut warnings = Vec::new();
    for outcome in reload.scan() {
        match outcome {
            Outcome::Reloaded { .. } => {}
            Outcome::Refused {
                what: Watched::Policies,
                shown,
                ..
            } => return Err(GatewayFault::Policies { shown }),
            Outcome::Refused {
                what: Watched::Keys,
                mistakes,
                ..
            } => warnings.extend(mistakes),
        }
    }
    Ok(warnings)
}

/// 32 bytes, written as 64 hexadecimal digits.
fn read_root_key(path: &Path) -> Result<Secret<[u8; 32]>, GatewayFault> {
    let text = signing::read_secret(path).map_err(GatewayFault::Secret)?;
    let text = text.trim_ascii();
    let mut root = [0; 32];
    // The decoder asserts that lengths fit, so they are looked at first.
    if text.len() == 2 * root.len()
        && data_encoding::HEXLOWER_PERMISSIVE
            .decode_mut(text, &mut root)
            .is_ok()
    {
        return Ok(Secret::new(root));
    }
    Err(GatewayFault::Secret(format!(
        "{}: must hold 64 hexadecimal digits; make one with: openssl rand -hex 32",
        path.display()
    )))
}

fn open_stores(config: &Config) -> Result<BTreeMap<StoreName, Store>, GatewayFault> {
    if config.stores.is_empty() {
        return Err(GatewayFault::Incomplete(NO_STORE.to_owned()));
    }
    let mut stores = BTreeMap::new();
    for (name, store) in &config.stores {
        let opened = Store::open(name.clone(), &store.url)?;
        stores.insert(name.clone(), opened);
    }
    Ok(stores)
}

fn open_listeners(
    addresses: &[SocketAddr],
    passed: Vec<std::net::TcpListener>,
) -> Result<Vec<TcpListener>, GatewayFault> {
    if passed.is_empty() {
        return addresses.iter().map(|address| bind(*address)).collect();
    }
    passed
        .into_iter()
        .map(|listener| {
            listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener))
                .map_err(|source| GatewayFault::Listen {
                    address: "the socket passed by systemd".to_owned(),
                    source,
                })
        })
        .collect()
}

/// An IPv6 address is for IPv6 only, so that `0.0.0.0` and `[::]` can stand side by side.
fn bind(address: SocketAddr) -> Result<TcpListener, GatewayFault> {
    let open = || -> io::Result<TcpListener> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        TcpListener::from_std(std::net::TcpListener::from(socket))
    };
    open().map_err(|source| GatewayFault::Listen {
        address: address.to_string(),
        source,
    })
}

fn make_private_folder(path: &Path) -> Result<(), GatewayFault> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| GatewayFault::Folder {
            path: path.to_owned(),
            source,
        })
}

fn facts(
    config: &Config,
    started_at: Timestamp,
    addresses: &[SocketAddr],
    host_keys: &[HostKey],
) -> Facts {
    Facts {
        instance: config.instance.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: started_at.to_rfc3339(),
        ssh: addresses.iter().map(ToString::to_string).collect(),
        host_keys: host_keys
            .iter()
            .map(|key| format!("{} {}", key.algorithm, key.fingerprint))
            .collect(),
        stores: config
            .stores
            .iter()
            .map(|(name, store)| (name.to_string(), store.url.clone()))
            .collect(),
        metrics: None,
    }
}

/// Without its comment.
fn bare_line(line: &str) -> String {
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Ends what an earlier run, or a fault, left between two states; at once, then every minute.
async fn tend(intake: Intake, stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::EXPIRY_LOOKS_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let stop = until(stopped);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        if let Err(cause) = Box::pin(intake.tend()).await {
            warn!(%cause, "unfinished files were not looked at");
        }
    }
}

/// Takes what was left under a partial name for long enough.
async fn take_quiet(intake: Intake, stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::QUIET_LOOKS_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let is_stopping = {
        let stopped = stopped.clone();
        move || *stopped.borrow()
    };
    let stop = until(stopped);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        if let Err(cause) = intake.take_quiet(&is_stopping).await {
            warn!(%cause, "files left under partial names were not looked at");
        }
    }
}

/// Keeps the gauges of states near the ledger's truth.
async fn count_states(ledger: Ledger, metrics: Metrics, stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::STATES_COUNTED_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let stop = until(stopped);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        match ledger.counts().await {
            Ok(counts) => {
                let counts: Vec<_> = counts
                    .into_iter()
                    .map(|(state, rows)| (state.as_str(), rows))
                    .collect();
                metrics.submissions_in_state(&counts);
            }
            Err(cause) => warn!(%cause, "states not counted"),
        }
    }
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(cause) = ended
            && cause.is_panic()
        {
            error!(%cause, "a task of the gateway ended by a panic");
        }
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means the gateway was dropped: that is a stop as well.
    drop(stopped.wait_for(|stop| *stop).await);
}

const NO_STORE: &str = "no [store.NAME] is configured; accepted files have nowhere to go";

/// Codes of what [`check`] finds, as a failed start has them.
const FOLDER: &str = "serve.folder";
const INCOMPLETE: &str = "serve.incomplete";
const SECRET: &str = "serve.secret";
const STORE: &str = "serve.store";

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[track_caller]
    fn check(text: &str, good: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        match read_root_key(&path) {
            Ok(_) => assert!(good, "{text:?} was taken"),
            Err(fault) => {
                assert!(!good, "{text:?} was refused: {fault}");
                assert!(
                    fault.to_string().contains("64 hexadecimal digits"),
                    "{fault}"
                );
                assert!(text.len() < 4 || !fault.to_string().contains(text.trim()));
            }
        }
    }

    #[test]
    fn a_root_key_is_sixty_four_hexadecimal_digits_and_nothing_else() {
        check(&format!("{}\n", "0a".repeat(32)), true);
        check(&"0A".repeat(32), true);
        for bad in [
            "",
            "\n",
            "xy",
            "0a0a0",
            &"0a".repeat(31),
            &"0a".repeat(33),
            &"zz".repeat(32),
        ] {
            check(bad, false);
        }
    }

    #[tokio::test]
    async fn a_root_key_is_the_one_that_wrapped_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(crate::terms::clock::ManualClock::at(
            Timestamp::from_micros(0),
        ));
        let signer: HeadSigner = Arc::new(|_: &[u8]| String::new());
        let ledger = Ledger::open(folder.path(), clock, signer).unwrap();
        let [ours, other] = [1, 2].map(|byte| WrappingKey::derive(&Secret::new([byte; 32])));
        let path = Path::new("keys/token.key");
        refuse_other_root(&ledger, &other, path).await.unwrap();
        let domain = crate::terms::ids::DomainName::parse("iban").unwrap();
        let wrapped = ours.wrap(&[7; 32], b"domain acme/iban", [0; 12]);
        ledger
            .create_domain_key("acme", &domain, wrapped)
            .await
            .unwrap();
        refuse_other_root(&ledger, &ours, path).await.unwrap();
        let fault = refuse_other_root(&ledger, &other, path).await.unwrap_err();
        assert_eq!(
            fault.to_string(),
            "keys/token.key: does not unwrap what this state directory holds; is this the token.key it was made with?"
        );
    }

    #[tokio::test]
    async fn ipv4_and_ipv6_wildcards_can_share_a_port() {
        // The IPv4 port may be taken by somebody else; not eight times in a row.
        let shared = (0..8).any(|_| {
            let Ok(six) = bind("[::]:0".parse().unwrap()) else {
                return true; // No IPv6 on this machine.
            };
            let port = six.local_addr().unwrap().port();
            bind(SocketAddr::from(([0, 0, 0, 0], port))).is_ok()
        });
        assert!(shared);
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let fault = bind(address).unwrap_err();
        assert!(fault.to_string().contains(&address.to_string()), "{fault}");
    }
}
