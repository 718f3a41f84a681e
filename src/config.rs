//! Rank 2, pure: the main config. File text, flags and environment in, a valid [`Config`] or all
//! its mistakes out. Secrets never stand in it, only where they lie.
//!
//! Precedence: environment, then the file, then the default. What this version does not act on
//! is refused, not ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeTable;

use crate::policy::lists::Lists;
use crate::policy::mistake::{Mistake, shown};
use crate::policy::text::{Family, Keys, Notes, Table, network, note_repeats};
use crate::terms::ids::{DomainName, InstanceName, StoreName};
use crate::terms::path::PartialNames;
use crate::terms::{codes, limits};

/// The whole configuration, every path absolute, every duration and size a number.
#[derive(Clone, Debug)]
pub struct Config {
    /// Appears in logs, events and receipts.
    pub instance: InstanceName,
    /// Folder of policies, watched.
    pub policies: PathBuf,
    /// Folder of `<id>.pub`, watched.
    pub partners: PathBuf,
    /// Ledger, spool, admin socket.
    pub state_dir: PathBuf,
    /// `[ssh]`
    pub ssh: SshConfig,
    /// `[verdict]`
    pub verdict: VerdictConfig,
    /// `[store.NAME]`: the URL as written, `file://` and plain paths made absolute.
    pub stores: BTreeMap<StoreName, StoreConfig>,
    /// `[spool]`
    pub spool: SpoolConfig,
    /// `[tokens]`
    pub tokens: TokensConfig,
    /// `[receipts] key`: OpenSSH private key that signs receipts and audit heads.
    pub receipt_key: PathBuf,
    /// `[admin] socket`
    pub admin_socket: PathBuf,
    /// `[metrics] listen`; `None`: no listener.
    pub metrics_listen: Option<SocketAddr>,
    /// `[log]`
    pub log: LogConfig,
}

/// `[ssh]`
#[derive(Clone, Debug)]
pub struct SshConfig {
    /// Where to listen, unless systemd passes a socket named `ssh`.
    pub listen: Vec<SocketAddr>,
    /// Host key files.
    pub host_keys: Vec<PathBuf>,
    /// Sent before login.
    pub banner: String,
    /// Login must be finished by then.
    pub login_grace_ms: u64,
    /// A connection without traffic ends.
    pub idle_ms: u64,
    /// Time given to running transfers when the gateway is told to stop.
    pub drain_ms: u64,
    /// Not yet logged in, one source.
    pub unauthenticated_per_source: usize,
    /// Not yet logged in, all.
    pub unauthenticated: usize,
    /// Attempts of one connection.
    pub auth_tries: usize,
    /// Load balancers: their connections begin with a PROXY header, and it is believed.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Sources that never get a penalty.
    pub penalty_exempt: Vec<IpNet>,
}

/// `[verdict]`
#[derive(Clone, Debug)]
pub struct VerdictConfig {
    /// Longest a CLOSE waits.
    pub wait_ms: u64,
    /// How long an accepted name stays listed.
    pub keep_visible_secs: u64,
    /// Names of files that are not whole yet.
    pub partial_names: PartialNames,
}

/// `[store.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// `file:///abs/dir`; other schemes come with delivery.
    pub url: String,
}

/// `[spool]`
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Raw bytes of all partners.
    pub quota_bytes: u64,
    /// How long an interrupted submission can be resumed.
    pub partial_ttl_secs: u64,
    /// How long a held file waits for a decision, seconds; then it is rejected.
    pub quarantine_ttl_secs: u64,
    /// How long receipts are listed.
    pub receipts_ttl_secs: u64,
}

/// `[tokens]`
#[derive(Clone, Debug)]
pub struct TokensConfig {
    /// File of the 32-byte root key.
    pub key: PathBuf,
    /// Domains that all partners share.
    pub shared: BTreeSet<DomainName>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// A tracing-subscriber filter, as in `info` or `info,sallyport::ssh=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Reads an environment variable; the process environment in the gateway, a table in tests.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

const ROOT_KEYS: Keys = Keys {
    here: &[
        "instance",
        "policies",
        "partners",
        "state_dir",
        "ssh",
        "verdict",
        "store",
        "spool",
        "tokens",
        "receipts",
        "admin",
        "metrics",
        "log",
    ],
    later: &["quarantine", "links", "webhook", "lineage"],
};
const SSH_KEYS: Keys = Keys {
    here: &[
        "listen",
        "host_keys",
        "banner",
        "login_grace",
        "idle",
        "drain",
        "limits",
        "auth",
        "say_on_stderr",
        "proxy_protocol_from",
        "penalty_exempt",
    ],
    later: &["user_ca", "max_sessions_per_partner"],
};
const LIMIT_KEYS: Keys = Keys {
    here: &[
        "unauthenticated_per_source",
        "unauthenticated",
        "auth_tries",
    ],
    later: &[],
};
const VERDICT_KEYS: Keys = Keys {
    here: &["wait", "on_timeout", "keep_visible", "partial_names"],
    later: &[],
};
const STORE_KEYS: Keys = Keys {
    here: &["url"],
    later: &["options", "retry"],
};
const SPOOL_KEYS: Keys = Keys {
    here: &["quota", "partial_ttl", "quarantine_ttl", "receipts_ttl"],
    later: &["floor"],
};
const TOKENS_KEYS: Keys = Keys {
    here: &["key", "domains"],
    later: &["kms"],
};
const DOMAIN_KEYS: Keys = Keys {
    here: &["shared"],
    later: &[],
};
const RECEIPTS_KEYS: Keys = Keys {
    here: &["key"],
    later: &[],
};
const ADMIN_KEYS: Keys = Keys {
    here: &["socket"],
    later: &["listen"],
};
const METRICS_KEYS: Keys = Keys {
    here: &["listen"],
    later: &[],
};
const LOG_KEYS: Keys = Keys {
    here: &["format", "level"],
    later: &[],
};

/// The codes of the main config and the map of its tables.
static FAMILY: Family = Family {
    syntax: codes::CONFIG_SYNTAX,
    too_large: codes::CONFIG_TOO_LARGE,
    unknown_key: codes::CONFIG_UNKNOWN_KEY,
    missing_key: codes::CONFIG_MISSING_KEY,
    wrong_type: codes::CONFIG_WRONG_TYPE,
    unknown_word: codes::CONFIG_UNKNOWN_WORD,
    bad_value: codes::CONFIG_BAD_VALUE,
    duplicate: codes::CONFIG_DUPLICATE,
    not_yet: codes::CONFIG_NOT_YET,
    tables: &[
        ("the top of the file", &ROOT_KEYS),
        ("[ssh]", &SSH_KEYS),
        ("`limits` of [ssh]", &LIMIT_KEYS),
        ("[verdict]", &VERDICT_KEYS),
        ("[store.NAME]", &STORE_KEYS),
        ("[spool]", &SPOOL_KEYS),
        ("[tokens]", &TOKENS_KEYS),
        ("[receipts]", &RECEIPTS_KEYS),
        ("[admin]", &ADMIN_KEYS),
        ("[metrics]", &METRICS_KEYS),
        ("[log]", &LOG_KEYS),
    ],
};

const INSTANCE: &str = "sallyport";
const LISTEN: [&str; 2] = ["0.0.0.0:2222", "[::]:2222"];
const BANNER: &str = "Authorised partners only. Activity is logged.\n";
const LOG_LEVEL: &str = "info";

/// Longest any time of the config may be: ten years, milliseconds.
const TIME_MS_MAX: u64 = 10 * 366 * 86_400_000;

/// Where mistakes of the environment are said to stand.
const ENVIRONMENT: &str = "environment";

// === impl Config ===

impl Config {
    /// Reads the main config. `file` is how mistakes name it, `base` the absolute folder that
    /// relative paths start from, `env` the environment.
    ///
    /// # Errors
    /// Every mistake of the text and of the variables that override it.
    pub fn parse(text: &str, file: &str, base: &str, env: Env<'_>) -> Result<Self, Vec<Mistake>> {
        let lists = Lists::default();
        let mut notes = Notes::new(file, text, &FAMILY, &lists);
        let tree = notes.parse();
        let paths = Paths {
            base: Path::new(base),
            env,
        };
        let config = tree
            .as_ref()
            .and_then(|tree| config(tree, &paths, &mut notes));
        match config.filter(|_| notes.errors() == 0) {
            Some(config) => Ok(config),
            None => Err(notes.into_mistakes()),
        }
    }

    /// The commented file that `init` writes: every key with its default, and only what a first
    /// gateway needs switched on. `store_path` is the folder of the store `lake`.
    #[must_use]
    pub fn default_text(instance: &str, store_path: &str) -> String {
        let name = match instance {
            INSTANCE => format!("#instance  = {:21}", quoted(INSTANCE)),
            other => format!("instance  = {:22}", quoted(other)),
        };
        format!(
            r#"# The main config of sallyport. `sallyport config check` validates it.
# Every key is optional; what is commented out shows the default.
# Precedence: flag, SALLYPORT_* environment, this file, default. No secrets here.
# Relative paths start at the folder of this file.

{name} # in logs, events and receipts
#policies  = "policies"            # one <partner>.toml each; watched
#partners  = "partners"            # one <partner>.pub each, authorized_keys format; watched
#state_dir = "state"               # ledger and spool; $STATE_DIRECTORY under systemd

[ssh]
listen = ["127.0.0.1:2222"]        # default: ["0.0.0.0:2222", "[::]:2222"]
#host_keys = ["keys/host_ed25519"] # a path, or cred:NAME for $CREDENTIALS_DIRECTORY/NAME
#banner = {banner}
#auth = ["publickey"]
#login_grace = "20s"
#idle = "10m"
#drain = "90s"                     # for running transfers at a stop; below TimeoutStopSec
#say_on_stderr = true              # verdicts on the session's stderr
#limits = {{ unauthenticated_per_source = 5, unauthenticated = 200, auth_tries = 6 }}
#proxy_protocol_from = []          # load balancers that begin with a PROXY v1 or v2 header
#penalty_exempt = []               # networks that never wait after failed logins

[verdict]
#wait = "10s"                      # longest a CLOSE waits for it; WinSCP gives up at 15s
#on_timeout = "accept_for_checking"
#keep_visible = "24h"              # an accepted name stays listed this long
#partial_names = ["*.filepart", "*.partial", "*.part", "*.tmp", "*.inprogress", ".in.*"]

[store.lake]
url = {url}

[spool]
#quota = "200 GB"                  # raw bytes of all partners
#partial_ttl = "48h"               # an interrupted upload can be resumed this long
#quarantine_ttl = "30d"            # a held file nobody decides about is rejected then
#receipts_ttl = "90d"              # in /receipts; the ledger keeps them longer

[tokens]
#key = "keys/token.key"            # 32 random bytes; in your backup, with the ledger
#domains.iban = {{ shared = false }} # true: equal tokens for all partners

[receipts]
#key = "keys/receipt_ed25519"      # signs receipts and audit heads

[admin]
#socket = "state/admin.sock"       # default: admin.sock in state_dir

[metrics]
#listen = "127.0.0.1:9464"         # default: no listener

[log]
#format = "auto"                   # text on a terminal, json otherwise
#level = "info"
"#,
            name = name,
            banner = quoted(BANNER),
            url = quoted(store_path),
        )
    }
}

/// A TOML basic string on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.extend(
                ['\\', 'u']
                    .into_iter()
                    .chain(format!("{:04X}", u32::from(c)).chars()),
            ),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Makes paths absolute.
struct Paths<'p> {
    base: &'p Path,
    env: Env<'p>,
}

// === impl Paths ===

impl Paths<'_> {
    /// `cred:NAME`, `file:PATH` or a path.
    fn resolve(&self, text: &Spanned<&str>, notes: &mut Notes<'_>) -> Option<PathBuf> {
        let written = *text.get_ref();
        let Some(name) = written.strip_prefix("cred:") else {
            let path = written.strip_prefix("file:").unwrap_or(written);
            if path.is_empty() || path.contains('\0') {
                notes
                    .bad_value(&text.span(), format!("\"{}\" is no path", shown(written)))
                    .under("a path, or cred:NAME");
                return None;
            }
            return Some(self.absolute(path));
        };
        if name.is_empty() || name.contains(['/', '\0']) || matches!(name, "." | "..") {
            notes
                .bad_value(
                    &text.span(),
                    format!("\"{}\" names no credential", shown(written)),
                )
                .under("as in \"cred:token.key\"");
            return None;
        }
        let Some(folder) = (self.env)("CREDENTIALS_DIRECTORY").filter(|f| f.starts_with('/'))
        else {
            notes
                .error(
                    codes::CONFIG_CREDENTIAL,
                    &text.span(),
                    format!(
                        "\"{}\" needs $CREDENTIALS_DIRECTORY, which is not set",
                        shown(written)
                    ),
                )
                .under("add LoadCredential= to the unit, or write a path")
                .advise(format!(
                    "as in LoadCredential={name}:/etc/sallyport/keys/{name}"
                ));
            return None;
        };
        Some(Path::new(&folder).join(name))
    }

    /// Joined to the base, `.` and `..` taken out by name.
    fn absolute(&self, path: &str) -> PathBuf {
        let mut out = PathBuf::new();
        for part in self.base.join(path).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    out.pop();
                }
                Component::Normal(_) | Component::Prefix(_) | Component::RootDir => out.push(part),
            }
        }
        out
    }

    /// The path under `key`, or the default.
    fn path(&self, table: &Table<'_>, key: &str, default: &str, notes: &mut Notes<'_>) -> PathBuf {
        table
            .text(key, notes)
            .and_then(|text| self.resolve(&text, notes))
            .unwrap_or_else(|| self.absolute(default))
    }

    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }
}

fn config(tree: &DeTable<'_>, paths: &Paths<'_>, notes: &mut Notes<'_>) -> Option<Config> {
    let root = Table::open(tree, 0..0, "the config", &ROOT_KEYS, notes);
    let instance = match root.text("instance", notes) {
        Some(text) => InstanceName::parse(text.get_ref())
            .map_err(|bad| {
                notes
                    .bad_value(
                        &text.span(),
                        format!("\"{}\" is no instance name", shown(text.get_ref())),
                    )
                    .under(bad.why);
            })
            .ok(),
        None => InstanceName::parse(INSTANCE).ok(),
    };
    let state_dir = state_dir(&root, paths, notes);
    let table = |key: &str, keys: &Keys, notes: &mut Notes<'_>| {
        root.table(key, format!("[{key}]"), keys, notes)
    };
    let ssh = table("ssh", &SSH_KEYS, notes);
    let verdict = table("verdict", &VERDICT_KEYS, notes);
    let spool = table("spool", &SPOOL_KEYS, notes);
    let tokens = table("tokens", &TOKENS_KEYS, notes);
    let receipts = table("receipts", &RECEIPTS_KEYS, notes);
    let admin = table("admin", &ADMIN_KEYS, notes);
    let metrics = table("metrics", &METRICS_KEYS, notes);
    let log = table("log", &LOG_KEYS, notes);
    Some(Config {
        policies: paths.path(&root, "policies", "policies", notes),
        partners: paths.path(&root, "partners", "partners", notes),
        ssh: read_ssh(ssh.as_ref(), paths, notes),
        verdict: read_verdict(verdict.as_ref(), notes),
        stores: stores(&root, paths, notes),
        spool: read_spool(spool.as_ref(), notes),
        tokens: read_tokens(tokens.as_ref(), paths, notes),
        receipt_key: path_of(
            receipts.as_ref(),
            "key",
            "keys/receipt_ed25519",
            paths,
            notes,
        ),
        admin_socket: admin
            .as_ref()
            .and_then(|table| table.text("socket", notes))
            .and_then(|text| paths.resolve(&text, notes))
            .unwrap_or_else(|| state_dir.join("admin.sock")),
        metrics_listen: metrics
            .as_ref()
            .and_then(|table| table.text("listen", notes))
            .and_then(|text| address(&text, notes)),
        log: read_log(log.as_ref(), paths, notes),
        state_dir,
        instance: instance?,
    })
}

fn state_dir(root: &Table<'_>, paths: &Paths<'_>, notes: &mut Notes<'_>) -> PathBuf {
    let written = root
        .text("state_dir", notes)
        .and_then(|text| paths.resolve(&text, notes));
    if let Some(path) = paths.variable("SALLYPORT_STATE_DIR") {
        return paths.absolute(&path);
    }
    // systemd separates several state directories by colons; the first is ours.
    let systemd = || {
        let folders = paths.variable("STATE_DIRECTORY")?;
        folders.split(':').next().map(|first| paths.absolute(first))
    };
    written
        .or_else(systemd)
        .unwrap_or_else(|| paths.absolute("state"))
}

// === [ssh] ===

fn read_ssh(table: Option<&Table<'_>>, paths: &Paths<'_>, notes: &mut Notes<'_>) -> SshConfig {
    let mut ssh = SshConfig {
        listen: LISTEN.iter().filter_map(|text| text.parse().ok()).collect(),
        host_keys: vec![paths.absolute("keys/host_ed25519")],
        banner: BANNER.to_owned(),
        drain_ms: limits::DRAIN_MS,
        login_grace_ms: limits::SSH_LOGIN_GRACE_MS,
        idle_ms: limits::SSH_IDLE_MS,
        unauthenticated_per_source: limits::SSH_UNAUTHENTICATED_PER_SOURCE_MAX,
        unauthenticated: limits::SSH_UNAUTHENTICATED_MAX,
        auth_tries: limits::SSH_AUTH_TRIES_MAX,
        proxy_protocol_from: Vec::new(),
        penalty_exempt: Vec::new(),
    };
    if let Some(table) = table {
        if let Some(texts) = list(table, "listen", "[\"0.0.0.0:2222\"]", notes) {
            ssh.listen = texts
                .iter()
                .filter_map(|text| address(text, notes))
                .collect();
        }
        if let Some(texts) = list(table, "host_keys", "[\"keys/host_ed25519\"]", notes) {
            ssh.host_keys = texts
                .iter()
                .filter_map(|text| paths.resolve(text, notes))
                .collect();
        }
        if let Some(text) = table.text("banner", notes) {
            ssh.banner = (*text.get_ref()).to_owned();
            let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
            if text.get_ref().chars().any(control) {
                notes.bad_value(&text.span(), "`banner` must not hold control characters");
            }
        }
        let times = 1_000..=TIME_MS_MAX;
        ssh.login_grace_ms = time(
            table,
            "login_grace",
            times.clone(),
            ssh.login_grace_ms,
            notes,
        );
        ssh.idle_ms = time(table, "idle", times.clone(), ssh.idle_ms, notes);
        ssh.drain_ms = time(table, "drain", times, ssh.drain_ms, notes);
        table.words(
            "auth",
            &[("publickey", ())],
            &["certificate", "password"],
            notes,
        );
        if let Some(flag) = table
            .flag("say_on_stderr", notes)
            .filter(|flag| !flag.get_ref())
        {
            notes.not_yet(&flag.span(), "say_on_stderr = false");
        }
        read_ssh_limits(table, &mut ssh, notes);
        ssh.proxy_protocol_from = networks(table, "proxy_protocol_from", notes);
        ssh.penalty_exempt = networks(table, "penalty_exempt", notes);
    }
    if let Some(text) = paths.variable("SALLYPORT_LISTEN") {
        let parsed: Result<Vec<SocketAddr>, _> =
            text.split(',').map(|part| part.trim().parse()).collect();
        match parsed {
            Ok(addresses) => ssh.listen = addresses,
            Err(_) => notes.outside(
                codes::CONFIG_ENVIRONMENT,
                ENVIRONMENT,
                format!(
                    "SALLYPORT_LISTEN = \"{}\" is no list of addresses like 0.0.0.0:2222,[::]:2222",
                    shown(&text)
                ),
            ),
        }
    }
    ssh
}

fn read_ssh_limits(table: &Table<'_>, ssh: &mut SshConfig, notes: &mut Notes<'_>) {
    let Some(table) = table.table("limits", "limits of [ssh]", &LIMIT_KEYS, notes) else {
        return;
    };
    let mut count = |key: &str, most: u64, value: &mut usize| {
        let number = table.count(key, 1..=most, notes).map(Spanned::into_inner);
        if let Some(number) = number.and_then(|number| usize::try_from(number).ok()) {
            *value = number;
        }
    };
    count(
        "unauthenticated_per_source",
        100_000,
        &mut ssh.unauthenticated_per_source,
    );
    count("unauthenticated", 100_000, &mut ssh.unauthenticated);
    count("auth_tries", 100, &mut ssh.auth_tries);
    if ssh.unauthenticated_per_source > ssh.unauthenticated {
        notes
            .bad_value(
                &table.span(),
                "`unauthenticated_per_source` is over `unauthenticated`",
            )
            .under("one source must not be allowed more than all together");
    }
}

/// Networks; an empty list is one, too.
fn networks(table: &Table<'_>, key: &str, notes: &mut Notes<'_>) -> Vec<IpNet> {
    let Some(texts) = table.texts(key, notes) else {
        return Vec::new();
    };
    note_repeats(key, texts.get_ref(), notes);
    let texts = texts.into_inner();
    texts
        .iter()
        .filter_map(|text| network(text, notes))
        .collect()
}

/// A list with at least one entry, none twice.
fn list<'d>(
    table: &Table<'d>,
    key: &str,
    example: &str,
    notes: &mut Notes<'_>,
) -> Option<Vec<Spanned<&'d str>>> {
    let texts = table.texts(key, notes)?;
    if texts.get_ref().is_empty() {
        notes
            .bad_value(&texts.span(), format!("`{key}` lists nothing"))
            .under(format!("as in {example}"));
    }
    note_repeats(key, texts.get_ref(), notes);
    Some(texts.into_inner())
}

fn address(text: &Spanned<&str>, notes: &mut Notes<'_>) -> Option<SocketAddr> {
    let written = *text.get_ref();
    let remedy = match written.strip_prefix(':').or(written.strip_prefix("*:")) {
        Some(port) => format!("write \"0.0.0.0:{0}\" and \"[::]:{0}\"", shown(port)),
        None => "an IP address and a port, as in \"0.0.0.0:2222\" or \"[::1]:2222\"".to_owned(),
    };
    written
        .parse()
        .map_err(|_| {
            notes
                .bad_value(
                    &text.span(),
                    format!("\"{}\" is no address", shown(written)),
                )
                .under(remedy);
        })
        .ok()
}

fn time(
    table: &Table<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
    default: u64,
    notes: &mut Notes<'_>,
) -> u64 {
    table
        .duration_ms(key, range, notes)
        .map_or(default, Spanned::into_inner)
}

fn path_of(
    table: Option<&Table<'_>>,
    key: &str,
    default: &str,
    paths: &Paths<'_>,
    notes: &mut Notes<'_>,
) -> PathBuf {
    match table {
        Some(table) => paths.path(table, key, default, notes),
        None => paths.absolute(default),
    }
}

// === [verdict], [spool], [log] ===

fn read_verdict(table: Option<&Table<'_>>, notes: &mut Notes<'_>) -> VerdictConfig {
    let mut verdict = VerdictConfig {
        wait_ms: limits::VERDICT_WAIT_MS,
        keep_visible_secs: limits::KEEP_VISIBLE_SECS,
        partial_names: PartialNames::default(),
    };
    let Some(table) = table else { return verdict };
    verdict.wait_ms = time(table, "wait", 0..=600_000, verdict.wait_ms, notes);
    verdict.keep_visible_secs = seconds(table, "keep_visible", verdict.keep_visible_secs, notes);
    table.word(
        "on_timeout",
        &[("accept_for_checking", ())],
        &["fail"],
        notes,
    );
    if let Some(texts) = table.texts("partial_names", notes) {
        let patterns: Vec<String> = texts
            .get_ref()
            .iter()
            .map(|text| (*text.get_ref()).to_owned())
            .collect();
        match PartialNames::parse(&patterns) {
            Ok(names) => verdict.partial_names = names,
            Err(bad) => {
                let span = texts
                    .get_ref()
                    .iter()
                    .find(|text| **text.get_ref() == bad)
                    .map_or_else(|| texts.span(), Spanned::span);
                notes
                    .bad_value(&span, format!("\"{}\" is no pattern of names", shown(&bad)))
                    .under("one * at the start or the end, as in \"*.part\" or \".in.*\"");
            }
        }
    }
    verdict
}

/// A time of at least a second, in seconds.
fn seconds(table: &Table<'_>, key: &str, default: u64, notes: &mut Notes<'_>) -> u64 {
    time(
        table,
        key,
        1_000..=TIME_MS_MAX,
        default.saturating_mul(1_000),
        notes,
    ) / 1_000
}

fn read_spool(table: Option<&Table<'_>>, notes: &mut Notes<'_>) -> SpoolConfig {
    let mut spool = SpoolConfig {
        quota_bytes: limits::SPOOL_QUOTA_BYTES,
        partial_ttl_secs: limits::PARTIAL_TTL_SECS,
        quarantine_ttl_secs: limits::QUARANTINE_TTL_SECS,
        receipts_ttl_secs: limits::RECEIPTS_TTL_SECS,
    };
    let Some(table) = table else { return spool };
    if let Some(quota) = table.size("quota", 1_000_000..=u64::MAX, notes) {
        spool.quota_bytes = quota.into_inner();
    }
    spool.partial_ttl_secs = seconds(table, "partial_ttl", spool.partial_ttl_secs, notes);
    spool.quarantine_ttl_secs = seconds(table, "quarantine_ttl", spool.quarantine_ttl_secs, notes);
    spool.receipts_ttl_secs = seconds(table, "receipts_ttl", spool.receipts_ttl_secs, notes);
    spool
}

fn read_log(table: Option<&Table<'_>>, paths: &Paths<'_>, notes: &mut Notes<'_>) -> LogConfig {
    const FORMATS: &[(&str, LogFormat)] = &[
        ("auto", LogFormat::Auto),
        ("json", LogFormat::Json),
        ("text", LogFormat::Text),
    ];
    let mut log = LogConfig {
        format: LogFormat::Auto,
        level: LOG_LEVEL.to_owned(),
    };
    let expected = "a level (error, warn, info, debug, trace, off), or levels of modules like \
                    \"info,sallyport::ssh=debug\"";
    if let Some(table) = table {
        if let Some(format) = table.word("format", FORMATS, &[], notes) {
            log.format = format.into_inner();
        }
        if let Some(text) = table.text("level", notes) {
            (*text.get_ref()).clone_into(&mut log.level);
            if !is_level_list(text.get_ref()) {
                notes
                    .bad_value(
                        &text.span(),
                        format!("\"{}\" is no log level", shown(text.get_ref())),
                    )
                    .under(expected);
            }
        }
    }
    if let Some(level) = paths.variable("SALLYPORT_LOG") {
        if !is_level_list(&level) {
            notes.outside(
                codes::CONFIG_ENVIRONMENT,
                ENVIRONMENT,
                format!("SALLYPORT_LOG = \"{}\" is not {expected}", shown(&level)),
            );
        }
        log.level = level;
    }
    log
}

/// `info`, `sallyport::ssh=debug`, or several with commas.
fn is_level_list(text: &str) -> bool {
    let is_level = |word: &str| {
        ["error", "warn", "info", "debug", "trace", "off"]
            .iter()
            .any(|level| level.eq_ignore_ascii_case(word))
    };
    let is_target = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
    };
    text.split(',')
        .all(|part| match part.trim().split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(part.trim()),
        })
}

// === [store.NAME], [tokens] ===

fn stores(
    root: &Table<'_>,
    paths: &Paths<'_>,
    notes: &mut Notes<'_>,
) -> BTreeMap<StoreName, StoreConfig> {
    let mut stores = BTreeMap::new();
    let Some(value) = root.value("store") else {
        return stores;
    };
    let Some(map) = value.get_ref().as_table() else {
        root.wrong_type("store", value, "a table", notes)
            .under("write [store.lake] and url = \"...\"");
        return stores;
    };
    let names = Table::open_names(map, value.span(), "[store]");
    for name in names.names() {
        let parsed = StoreName::parse(name.get_ref())
            .map_err(|bad| {
                notes
                    .bad_value(
                        &name.span(),
                        format!("\"{}\" is no store name", shown(name.get_ref())),
                    )
                    .under(bad.why);
            })
            .ok();
        let place = format!("[store.{}]", shown(name.get_ref()));
        let Some(table) = names.table(name.get_ref(), place, &STORE_KEYS, notes) else {
            continue;
        };
        let url = table
            .need_text("url", "url = \"file:///srv/lake\"", notes)
            .and_then(|text| store_url(&text, paths, notes));
        if let (Some(parsed), Some(url)) = (parsed, url) {
            stores.insert(parsed, StoreConfig { url });
        }
    }
    stores
}

/// `file:///abs/dir` from a `file:` URL or a plain path.
fn store_url(text: &Spanned<&str>, paths: &Paths<'_>, notes: &mut Notes<'_>) -> Option<String> {
    let written = *text.get_ref();
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, written),
    };
    let path = match scheme {
        None if !written.is_empty() && !written.contains('\0') => {
            paths.absolute(written.strip_prefix("file:").unwrap_or(written))
        }
        Some("file") if rest.starts_with('/') => paths.absolute(rest),
        Some("file") => {
            notes
                .bad_value(
                    &text.span(),
                    format!("\"{}\" names a host, not a folder", shown(written)),
                )
                .under("three slashes, as in \"file:///srv/lake\", or a plain path");
            return None;
        }
        Some(scheme)
            if rest
                .split('/')
                .next()
                .is_some_and(|host| host.contains('@')) =>
        {
            let scheme = shown(scheme);
            notes.hide(&text.span());
            notes
                .error(
                    codes::CONFIG_SECRET,
                    &text.span(),
                    format!("the {scheme}:// URL holds a user or a key"),
                )
                .under("take it out: this file is readable by everybody");
            return None;
        }
        Some(scheme) => {
            notes
                .not_yet(&text.span(), &format!("a store at {}://", shown(scheme)))
                .under("this version has local folders, as in \"file:///srv/lake\"");
            return None;
        }
        None => {
            notes
                .bad_value(&text.span(), "`url` names no folder")
                .under("as in \"file:///srv/lake\"");
            return None;
        }
    };
    if let Some(path) = path.to_str() {
        Some(format!("file://{path}"))
    } else {
        notes.bad_value(
            &text.span(),
            "`url` lies below a folder whose name is not UTF-8",
        );
        None
    }
}

fn read_tokens(
    table: Option<&Table<'_>>,
    paths: &Paths<'_>,
    notes: &mut Notes<'_>,
) -> TokensConfig {
    TokensConfig {
        key: path_of(table, "key", "keys/token.key", paths, notes),
        shared: table.map_or_else(BTreeSet::new, |table| shared_domains(table, notes)),
    }
}

fn shared_domains(tokens: &Table<'_>, notes: &mut Notes<'_>) -> BTreeSet<DomainName> {
    let mut shared = BTreeSet::new();
    let Some(value) = tokens.value("domains") else {
        return shared;
    };
    let Some(map) = value.get_ref().as_table() else {
        tokens
            .wrong_type("domains", value, "a table", notes)
            .under("write domains.iban = { shared = true }");
        return shared;
    };
    let names = Table::open_names(map, value.span(), "domains");
    for name in names.names() {
        let place = format!("domain {}", shown(name.get_ref()));
        let flag = names
            .table(name.get_ref(), place, &DOMAIN_KEYS, notes)
            .and_then(|table| table.flag("shared", notes));
        match DomainName::parse(name.get_ref()) {
            Ok(domain) => {
                if flag.is_some_and(Spanned::into_inner) {
                    shared.insert(domain);
                }
            }
            Err(bad) => {
                notes
                    .bad_value(
                        &name.span(),
                        format!("\"{}\" is no token domain", shown(name.get_ref())),
                    )
                    .under(bad.why);
            }
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/srv/gw";

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<Mistake>> {
        let find = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::parse(text, "sallyport.toml", BASE, &find)
    }

    #[track_caller]
    fn parsed(text: &str, env: &[(&str, &str)]) -> Config {
        parse(text, env).unwrap_or_else(|mistakes| {
            panic!(
                "{}",
                mistakes.iter().map(Mistake::render).collect::<String>()
            )
        })
    }

    /// The text, less its `@@`, has one mistake: of this code, at the `@@`, with this hint.
    #[track_caller]
    fn check(marked: &str, code: &str, hint: &str) {
        let (before, after) = marked.split_once("@@").unwrap();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        let mistakes = parse(&format!("{before}{after}"), &[]).unwrap_err();
        let picture: String = mistakes.iter().map(Mistake::render).collect();
        assert_eq!(mistakes.len(), 1, "{picture}");
        assert_eq!(mistakes[0].code, code, "{picture}");
        assert_eq!(
            (mistakes[0].line, mistakes[0].column),
            (line, column),
            "{picture}"
        );
        let label = mistakes[0].label.as_deref().unwrap_or_default();
        assert!(label.contains(hint), "{picture}");
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parsed("", &[]);
        assert_eq!(config.instance.as_str(), "sallyport");
        assert_eq!(config.policies, Path::new("/srv/gw/policies"));
        assert_eq!(config.partners, Path::new("/srv/gw/partners"));
        assert_eq!(config.state_dir, Path::new("/srv/gw/state"));
        assert_eq!(config.admin_socket, Path::new("/srv/gw/state/admin.sock"));
        assert_eq!(
            config.ssh.host_keys,
            [Path::new("/srv/gw/keys/host_ed25519")]
        );
        assert_eq!(config.tokens.key, Path::new("/srv/gw/keys/token.key"));
        assert_eq!(
            config.receipt_key,
            Path::new("/srv/gw/keys/receipt_ed25519")
        );
        let listen: Vec<String> = config.ssh.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["0.0.0.0:2222", "[::]:2222"]);
        assert_eq!(config.ssh.login_grace_ms, 20_000);
        assert_eq!(config.verdict.wait_ms, 10_000);
        assert_eq!(config.verdict.keep_visible_secs, 86_400);
        assert_eq!(config.spool.partial_ttl_secs, 48 * 3600);
        assert_eq!(config.spool.quarantine_ttl_secs, 30 * 86_400);
        assert_eq!(config.spool.receipts_ttl_secs, 90 * 86_400);
        assert_eq!(config.metrics_listen, None);
        assert_eq!(config.log.level, "info");
        assert!(config.stores.is_empty());
    }

    #[test]
    fn what_the_file_says_is_taken() {
        let config = parsed(
            r#"
            instance = "gw-eu-1"
            state_dir = "/var/lib/sallyport"
            partners = "../partners"
            [ssh]
            listen = ["127.0.0.1:22", "[::1]:22"]
            idle = "1h"
            limits = { auth_tries = 3 }
            [verdict]
            partial_names = ["*.half"]
            [store.lake]
            url = "lake/./landing"
            [store.other]
            url = "file:///srv/other"
            [tokens]
            domains.iban = { shared = true }
            domains.email = { shared = false }
            [metrics]
            listen = "127.0.0.1:9464"
            [log]
            format = "json"
            level = "info,sallyport::ssh=debug"
            "#,
            &[],
        );
        assert_eq!(config.partners, Path::new("/srv/partners"));
        assert_eq!(
            config.admin_socket,
            Path::new("/var/lib/sallyport/admin.sock")
        );
        assert_eq!(config.ssh.idle_ms, 3_600_000);
        assert_eq!(config.ssh.auth_tries, 3);
        assert_eq!(config.ssh.unauthenticated, limits::SSH_UNAUTHENTICATED_MAX);
        assert_eq!(config.verdict.partial_names.final_name("a.half"), Some("a"));
        let urls: Vec<&str> = config
            .stores
            .values()
            .map(|store| store.url.as_str())
            .collect();
        assert_eq!(urls, ["file:///srv/gw/lake/landing", "file:///srv/other"]);
        let shared: Vec<&str> = config
            .tokens
            .shared
            .iter()
            .map(DomainName::as_str)
            .collect();
        assert_eq!(shared, ["iban"]);
        assert_eq!(config.log.format, LogFormat::Json);
    }

    #[test]
    fn the_environment_comes_before_the_file_and_the_file_before_systemd() {
        let text = "state_dir = \"/file\"\n[log]\nlevel = \"warn\"\n";
        let systemd = ("STATE_DIRECTORY", "/var/lib/sallyport:/var/lib/other");
        assert_eq!(
            parsed("", &[systemd]).state_dir,
            Path::new("/var/lib/sallyport")
        );
        assert_eq!(parsed(text, &[systemd]).state_dir, Path::new("/file"));
        let config = parsed(
            text,
            &[
                systemd,
                ("SALLYPORT_STATE_DIR", "mine"),
                ("SALLYPORT_LISTEN", "127.0.0.1:1, [::1]:2"),
                ("SALLYPORT_LOG", "debug"),
            ],
        );
        assert_eq!(config.state_dir, Path::new("/srv/gw/mine"));
        assert_eq!(config.admin_socket, Path::new("/srv/gw/mine/admin.sock"));
        assert_eq!(config.ssh.listen.len(), 2);
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn a_bad_variable_is_named() {
        for (name, value) in [("SALLYPORT_LISTEN", "2222"), ("SALLYPORT_LOG", "loud")] {
            let mistakes = parse("", &[(name, value)]).unwrap_err();
            assert_eq!(mistakes[0].code, "config.environment");
            assert_eq!(
                (mistakes[0].file.as_str(), mistakes[0].line),
                ("environment", 0)
            );
            assert!(
                mistakes[0].message.starts_with(name),
                "{}",
                mistakes[0].message
            );
        }
    }

    #[test]
    fn credentials_come_from_the_directory_systemd_names() {
        let text = "[tokens]\nkey = \"cred:token.key\"\n";
        let config = parsed(text, &[("CREDENTIALS_DIRECTORY", "/run/credentials/x")]);
        assert_eq!(config.tokens.key, Path::new("/run/credentials/x/token.key"));
        check(
            "[tokens]\nkey = @@\"cred:token.key\"\n",
            "config.credential",
            "LoadCredential=",
        );
        check(
            "[tokens]\nkey = @@\"cred:../token.key\"\n",
            "config.bad-value",
            "cred:token.key",
        );
    }

    #[test]
    fn mistakes_have_a_place_and_a_remedy() {
        check(
            "[ssh]\n@@hostkeys = []",
            "config.unknown-key",
            "did you mean `host_keys`?",
        );
        check(
            "@@listen = []",
            "config.unknown-key",
            "belongs under [ssh] or [metrics]",
        );
        check(
            "[ssh]\nlisten = @@\"0.0.0.0:22\"",
            "config.wrong-type",
            "write [\"0.0.0.0:22\"]",
        );
        check(
            "[ssh]\nlisten = [@@\":22\"]",
            "config.bad-value",
            "\"0.0.0.0:22\" and \"[::]:22\"",
        );
        check("[ssh]\nlisten = @@[]", "config.bad-value", "0.0.0.0:2222");
        check(
            "[ssh]\nlisten = [\"[::]:1\", @@\"[::]:1\"]",
            "config.duplicate",
            "a second time",
        );
        check(
            "[ssh]\nproxy_protocol_from = [@@\"10.0.0.1/8\"]",
            "config.bad-value",
            "10.0.0.0/8",
        );
        check(
            "[ssh]\npenalty_exempt = [@@\"lb.internal\"]",
            "config.bad-value",
            "198.51.100.0/24",
        );
        check("[ssh]\nidle = @@10", "config.wrong-type", "\"10 s\"");
        check(
            "[ssh]\nidle = @@\"0s\"",
            "config.bad-value",
            "must be 1s to",
        );
        check(
            "[log]\nformat = @@\"jsn\"",
            "config.unknown-word",
            "did you mean `json`?",
        );
        check(
            "[log]\nlevel = @@\"loud\"",
            "config.bad-value",
            "error, warn, info",
        );
        check("instance = @@\"GW 1\"", "config.bad-value", "a-z 0-9");
        check("@@[store.lake]", "config.missing-key", "add url = ");
        check(
            "[store.lake]\nurl = @@\"file://srv/lake\"",
            "config.bad-value",
            "three slashes",
        );
        check(
            "[verdict]\npartial_names = [\"*.a\", @@\"b\"]",
            "config.bad-value",
            "one *",
        );
        check("instance = @@gw", "config.syntax", "");
        check("[log]\n[@@log]", "config.duplicate", "a second time");
    }

    #[test]
    fn settings_of_later_versions_are_refused() {
        let code = "config.not-yet";
        check(
            "[store.lake]\nurl = @@\"s3://acme-lake/landing\"",
            code,
            "local folders",
        );
        check("[ssh]\n@@user_ca = [\"cred:user_ca.pub\"]", code, "");
        check("[ssh]\nauth = [@@\"password\"]", code, "");
        check("[tokens]\n@@kms = \"vault\"", code, "");
        check("[@@quarantine]\nrelease_needs = 2", code, "");
        check("[@@links]", code, "");
        check("[[@@webhook]]\nname = \"x\"", code, "");
        check("[@@lineage]", code, "");
        check("[admin]\n@@listen = \"127.0.0.1:9443\"", code, "");
        check("[verdict]\non_timeout = @@\"fail\"", code, "");
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_not_shown() {
        let url = "[store.lake]\nurl = \"s3://AKIA:hunter2@bucket\"";
        let key = "[store.lake]\nurl = \"lake\"\naws_secret_access_key = \"hunter2\"";
        for text in [url, key] {
            let mistakes = parse(text, &[]).unwrap_err();
            assert_eq!(mistakes.len(), 1);
            assert!(
                !mistakes[0].render().contains("hunter2"),
                "{}",
                mistakes[0].render()
            );
        }
        assert_eq!(parse(url, &[]).unwrap_err()[0].code, "config.secret");
    }

    #[test]
    fn the_file_that_init_writes_is_valid_with_and_without_its_comments() {
        let text = Config::default_text("gw-1", "/srv/lake");
        let written = parsed(&text, &[]);
        assert_eq!(written.instance.as_str(), "gw-1");
        assert_eq!(written.ssh.listen, ["127.0.0.1:2222".parse().unwrap()]);
        let store = &written.stores[&StoreName::parse("lake").unwrap()];
        assert_eq!(store.url, "file:///srv/lake");
        // A key that is commented out shows its default: switched on, nothing changes.
        let all: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    format!("{key}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let mut switched = parsed(&all, &[]);
        assert!(switched.metrics_listen.take().is_some());
        assert_eq!(format!("{switched:?}"), format!("{written:?}"));
    }

    #[test]
    fn the_file_that_init_writes_names_every_key() {
        let text = Config::default_text("sallyport", "lake");
        assert!(text.contains("#instance"));
        for (_, keys) in FAMILY.tables {
            for key in keys.here {
                assert!(text.contains(key), "{key}");
            }
            for key in keys.later.iter().filter(|key| **key != "listen") {
                assert!(!text.contains(&format!("{key} ")), "{key}");
            }
        }
    }

    #[test]
    fn names_with_quotes_do_not_break_the_file_that_init_writes() {
        let config = parsed(&Config::default_text("sallyport", "a \"b\" \\ c"), &[]);
        let store = config.stores.values().next().unwrap();
        assert_eq!(store.url, "file:///srv/gw/a \"b\" \\ c");
    }
}
