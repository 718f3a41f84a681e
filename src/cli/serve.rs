//! `serve`: runs the gateway until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::admin::socket::SocketFault;
use crate::cli::config;
use crate::cli::console::counted;
use crate::cli::context::{Context, Found};
use crate::cli::exit::{Exit, Failure, Mistakes};
use crate::config::Config;
use crate::depot::store::StoreFault;
use crate::gateway::{Gateway, GatewayFault, GatewayOptions, Listeners, Watching};
use crate::ledger::LedgerFault;
use crate::telemetry::{self, Event};

/// `serve`
///
/// Listens for SFTP and SCP, takes up changes of policies and keys while it runs, and drains on
/// SIGTERM or Ctrl-C (a second one stops at once). SIGHUP looks at policies and keys now.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport serve\n  sallyport serve --config /etc/sallyport/sallyport.toml\n  sallyport serve --check && systemctl restart sallyport"
)]
pub struct Arguments {
    /// Do not watch policies and keys; SIGHUP still takes them up
    #[arg(long)]
    pub no_watch: bool,
    /// Only check the configuration, as `config check`
    #[arg(long)]
    pub check: bool,
}

/// Signals that end or nudge a gateway.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// Runs the verb.
///
/// # Errors
/// [`Failure`] when it does not start; exit 130 when told twice to stop.
pub fn run(context: &mut Context, arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.check {
        return config::check(context);
    }
    let found = context.config()?;
    if context.global.dry_run {
        context
            .console
            .line(&format!("would serve {}", found.path.display()))?;
        return Ok(Exit::Done);
    }
    harden(context);
    let level = match context.global.verbose {
        0 => found.config.log.level.clone(),
        1 => "info,sallyport=debug".to_owned(),
        2.. => "debug,sallyport=trace".to_owned(),
    };
    telemetry::init_logging(found.config.log.format, &level)
        .map_err(|why| Failure::usage("config.log", why))?;
    let listeners = inherited(context)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Exit::Internal, "runtime", "cannot start").because(error.to_string())
        })?;
    let watching = if arguments.no_watch {
        Watching::Nothing
    } else {
        Watching::Folders
    };
    let exit = runtime.block_on(serve(context, found, listeners, watching));
    // A blocked thread must not hold up the end of the process for ever.
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// Core dumps and debuggers of other processes would see keys.
fn harden(context: &mut Context) {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let hidden =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if limited.is_err() && hidden.is_err() {
        context
            .console
            .warn("warning: core dumps cannot be switched off here");
    }
}

/// Sockets of systemd, by their names; `ssh` where names are missing.
fn inherited(context: &Context) -> Result<Listeners, Failure> {
    let mut passed = ListenFd::from_env();
    let names = context
        .env
        .get("LISTEN_FDNAMES")
        .cloned()
        .unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut listeners = Listeners::default();
    for index in 0..passed.len() {
        let bad = |error: std::io::Error| {
            Failure::usage("serve.socket", format!("socket {index} passed by systemd"))
                .because(error.to_string())
                .hint("FileDescriptorName= must be ssh (a stream socket) or admin (a Unix socket)")
        };
        match names.get(index).copied() {
            Some("admin") => {
                listeners.admin = passed.take_unix_listener(index).map_err(bad)?;
            }
            Some(_) | None => {
                listeners
                    .ssh
                    .extend(passed.take_tcp_listener(index).map_err(bad)?);
            }
        }
    }
    Ok(listeners)
}

async fn serve(
    context: &mut Context,
    found: Found,
    listeners: Listeners,
    watching: Watching,
) -> Result<Exit, Failure> {
    let began = context.now();
    let mut signals = Signals::take()?;
    let config = found.config;
    info!(
        event = Event::GatewayStarted.as_str(),
        version = env!("CARGO_PKG_VERSION"),
        instance = %config.instance,
        config = %found.path.display(),
    );
    let gateway = Gateway::start(GatewayOptions {
        config: config.clone(),
        clock: Arc::clone(&context.clock),
        rng: context.rng.clone(),
        listeners,
        watching,
    })
    .await
    .map_err(|fault| failure(&fault))?;
    for warning in gateway.warnings() {
        context.console.warn(&format!("warning: {warning}"));
    }
    let took = context.now().micros_since(began) / 1000;
    // Logs have stderr for themselves, so that they can be read by programs.
    if !context.global.quiet {
        tell(context, &gateway, &config, watching, took)?;
    }
    info!(
        event = Event::GatewayReady.as_str(),
        ms = took,
        ssh = ?gateway.ssh_addresses(),
        host_key = gateway.host_key_fingerprint(),
    );
    notify(&[
        NotifyState::Ready,
        NotifyState::Status(&status_line(&gateway)),
    ]);
    attend(&gateway, &mut signals).await;

    info!(event = Event::GatewayStopping.as_str());
    notify(&[NotifyState::Stopping]);
    tokio::select! {
        () = gateway.stop() => Ok(Exit::Done),
        () = signals.end() => {
            warn!("stopped without draining; interrupted files can be resumed");
            Ok(Exit::Interrupted)
        }
    }
}

/// The banner, and that all is ready, on stdout. A reader that has gone is no reason to stop.
fn tell(
    context: &mut Context,
    gateway: &Gateway,
    config: &Config,
    watching: Watching,
    took: i64,
) -> Result<(), Failure> {
    let mut lines = banner(gateway, config, watching);
    lines.push(format!(
        "ready in {took} ms.  Ctrl-C drains for up to {} s; again to stop now.",
        config.ssh.drain_ms / 1000
    ));
    lines.push(String::new());
    match context
        .console
        .data(lines.join("\n").as_bytes())
        .and_then(|()| context.console.flush())
    {
        Err(failure) if !failure.is_broken_pipe() => Err(failure),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Until the first request to end: reloads when asked, and tells the watchdog that all is well.
async fn attend(gateway: &Gateway, signals: &mut Signals) {
    let every = sd_notify::watchdog_enabled().map_or(STATUS_EVERY, |longest| longest / 2);
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => return,
            _ = signals.terminate.recv() => return,
            _ = signals.hangup.recv() => {
                let mut states = vec![NotifyState::Reloading];
                states.extend(NotifyState::monotonic_usec_now());
                notify(&states);
                gateway.reload().await;
                notify(&[NotifyState::Ready]);
            }
            _ = ticks.tick() => {
                if gateway.is_alive().await {
                    let status = status_line(gateway);
                    notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
                } else {
                    warn!("the ledger does not answer");
                }
            }
        }
    }
}

// === impl Signals ===

impl Signals {
    fn take() -> Result<Self, Failure> {
        let take = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Internal, "serve.signals", "cannot take signals")
                    .because(error.to_string())
            })
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hangup: take(SignalKind::hangup())?,
        })
    }

    /// The next SIGINT or SIGTERM.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd was not told");
    }
}

fn status_line(gateway: &Gateway) -> String {
    let policies = gateway.authority().policies();
    let feeds: usize = policies.policies.values().map(|p| p.feeds.len()).sum();
    format!("{} partners, {feeds} feeds", policies.policies.len())
}

/// What is open, a line each.
fn banner(gateway: &Gateway, config: &Config, watching: Watching) -> Vec<String> {
    let mut lines = vec![format!(
        "sallyport {}  instance {}",
        env!("CARGO_PKG_VERSION"),
        config.instance
    )];
    let addresses: Vec<String> = gateway
        .ssh_addresses()
        .iter()
        .map(SocketAddr::to_string)
        .collect();
    let mut addresses = addresses.join(", ");
    for key in gateway.host_keys() {
        lines.push(format!(
            "  ssh      {addresses}   {} {}",
            key.algorithm, key.fingerprint
        ));
        addresses = " ".repeat(addresses.chars().count());
    }
    lines.push(format!("  admin    {}", config.admin_socket.display()));
    if let Some(address) = gateway.metrics_address() {
        lines.push(format!("  metrics  {address}"));
    }
    for (name, store) in &config.stores {
        lines.push(format!("  store    {name} {}", store.url));
    }
    let policies = gateway.authority().policies();
    let feeds: usize = policies.policies.values().map(|p| p.feeds.len()).sum();
    let to_u64 = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let watched = match watching {
        Watching::Folders => format!("; watching {}", config.policies.display()),
        Watching::Nothing => String::new(),
    };
    lines.push(format!(
        "  policies {}, {}, {}{watched}",
        counted(to_u64(policies.policies.len()), "partner"),
        counted(to_u64(feeds), "feed"),
        counted(to_u64(gateway.warnings().len()), "warning"),
    ));
    lines
}

/// A gateway that does not start, as an exit code with a remedy.
#[must_use]
pub fn failure(fault: &GatewayFault) -> Failure {
    let message = fault.to_string();
    let (exit, code, hint) = match fault {
        GatewayFault::Policies { shown } => {
            return Failure {
                mistakes: Some(Box::new(Mistakes {
                    shown: shown.clone(),
                    shown_ascii: shown
                        .chars()
                        .map(|c| if c.is_ascii() { c } else { '|' })
                        .collect(),
                    data: serde_json::Value::String(shown.clone()),
                })),
                ..Failure::usage("policy.mistakes", message)
            }
            .hint("`sallyport policy check` shows them all");
        }
        GatewayFault::Folder { .. } => (
            Exit::Usage,
            "serve.folder",
            "state_dir must be a folder this user may write to",
        ),
        GatewayFault::Secret(_) | GatewayFault::OtherRoot { .. } => (
            Exit::Usage,
            "serve.secret",
            "`sallyport help files` lists the key files; `sallyport init` makes them",
        ),
        GatewayFault::Incomplete(_) => (
            Exit::Usage,
            "serve.incomplete",
            "`sallyport config show --defaults` prints every key",
        ),
        GatewayFault::Ledger(cause) => {
            let (exit, hint) = match cause {
                LedgerFault::InUse { .. } => (
                    Exit::Conflict,
                    "one state directory has one gateway: stop the other one, or give this one its own state_dir",
                ),
                LedgerFault::TooNew { .. } => (
                    Exit::Usage,
                    "run the newer sallyport that wrote it; the file was not touched",
                ),
                LedgerFault::Damaged { .. } => {
                    return Failure::usage("serve.ledger", message);
                }
                LedgerFault::Database { .. }
                | LedgerFault::IllegalStep { .. }
                | LedgerFault::Stopped => (
                    Exit::Temporary,
                    "check owner, mode and free space of state_dir; the file was not touched",
                ),
            };
            (exit, "serve.ledger", hint)
        }
        GatewayFault::Store(cause) => match cause {
            StoreFault::BadUrl { .. } => (
                Exit::Usage,
                "serve.store",
                "[store.NAME] url takes a folder or file:///absolute/folder",
            ),
            StoreFault::Occupied { .. } | StoreFault::Unavailable { .. } => (
                Exit::Temporary,
                "serve.store",
                "check that the folder of the store can be written to",
            ),
        },
        GatewayFault::Spool(_) => (
            Exit::Temporary,
            "serve.spool",
            "check owner, mode and free space of state_dir/spool",
        ),
        GatewayFault::Listen { .. } => (
            Exit::Conflict,
            "serve.listen",
            "another process may have the address; change [ssh] listen or stop it",
        ),
        GatewayFault::Socket(cause) => match cause {
            SocketFault::InUse { .. } => (
                Exit::Conflict,
                "serve.socket",
                "stop the other gateway, or set another [admin] socket",
            ),
            SocketFault::UnsafeFolder { .. }
            | SocketFault::NotASocket { .. }
            | SocketFault::TooLong { .. }
            | SocketFault::Io { .. } => (
                Exit::Usage,
                "serve.socket",
                "set [admin] socket to a short path in a folder of the gateway's own",
            ),
        },
    };
    Failure::new(exit, code, message).hint(hint)
}

/// Between two status lines for systemd, where no watchdog asks more often.
const STATUS_EVERY: Duration = Duration::from_secs(15);
