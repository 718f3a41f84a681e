//! `key add|list|revoke`: the public keys partners log in with. The files in `partners/` are the
//! truth for what was agreed; the ledger remembers revocations and last use.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::{self, AdminFault, KeyRevocation, KeyUse, Request};
use crate::authority::partner_keys::{EXAMPLE_FINGERPRINTS, Expiry, PartnerKey};
use crate::authority::signing::{AUDIT_NAMESPACE, ReceiptKey};
use crate::authority::sources::Sources;
use crate::cli::console::{Paint, Table, needs_flag};
use crate::cli::context::{Context, read_text, runtime, write_file};
use crate::cli::exit::{Exit, Failure};
use crate::cli::partner;
use crate::config::Config;
use crate::ledger::{HeadSigner, Ledger, LedgerFault};
use crate::terms::ids::PartnerId;
use crate::terms::limits;

/// `key ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a public key log in as a partner
    Add(Add),
    /// All keys: expiry, last use
    List(List),
    /// Refuse a key from now on, on live sessions too
    Revoke(Revoke),
}

/// `key add PARTNER FILE`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport key add acme ./acme_batch01.pub\n  sallyport key add acme ./acme_batch01.pub --expires 2027-12-31 \\\n      --from 198.51.100.0/24 --fingerprint SHA256:rrfgPjJO..."
)]
pub struct Add {
    /// The partner
    #[arg(value_name = "PARTNER")]
    pub partner: String,
    /// The public key as the partner sent it; - reads stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The fingerprint you were told over a second channel; then nothing is
    /// asked
    #[arg(long, value_name = "SHA256:...")]
    pub fingerprint: Option<String>,
    /// Networks the key may come from; default: those of the partner
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    pub from: Vec<String>,
    /// Last day it is good, UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub expires: Option<String>,
    /// Name it; default: the key's own comment
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
}

/// `key list`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport key list\n  sallyport key list --expiring 60d\n  sallyport key list --partner acme --json"
)]
pub struct List {
    /// One partner's
    #[arg(long, value_name = "ID")]
    pub partner: Option<String>,
    /// Those that expire within this time, as in 60d
    #[arg(long, value_name = "TIME")]
    pub expiring: Option<String>,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// A key that stands commented out in its partner's file.
struct RevokedLine {
    /// `2026-11-21`
    day: String,
    key: PartnerKey,
}

/// `key revoke PARTNER KEY --reason TEXT`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Example:\n  sallyport key revoke acme acme-batch01 --reason \"laptop lost\""
)]
pub struct Revoke {
    /// The partner
    #[arg(value_name = "PARTNER")]
    pub partner: String,
    /// Its fingerprint or its comment, as `key list` prints them
    #[arg(value_name = "KEY")]
    pub key: String,
}

/// Runs the noun.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &mut Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Add(arguments) => add(context, arguments),
        Command::List(arguments) => list(context, arguments),
        Command::Revoke(arguments) => revoke(context, arguments),
    }
}

fn add(context: &mut Context, arguments: &Add) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let partner = parse_partner(&arguments.partner)?;
    partner::policy_of(&config, &partner)?;
    let text = read_key_text(&arguments.file)?;
    let bare = bare_key_line(&text)?;
    let line = key_line(&bare, arguments)?;
    let key = parse_key_line(&line)?;
    if key.expiry().is_over(context.now()) {
        return Err(Failure::usage(
            "key.expired",
            "--expires lies in the past; the key could never log in",
        ));
    }
    refuse_known(context, &config, &partner, &key)?;
    let algorithm = key.public().algorithm();
    let shown = format!(
        "  {} {} {}",
        algorithm.as_str(),
        key.fingerprint(),
        key.comment()
    );
    agree(context, arguments, &key, &shown)?;
    let path = key_file(&config, &partner);
    if !context.global.dry_run {
        let mut text = if path.exists() {
            read_text(&path)?
        } else {
            format!(
                "# Keys of {partner}: authorized_keys(5) format, one a line; watched, no restart needed.\n"
            )
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
        text.push('\n');
        write_file(&path, text.as_bytes(), 0o644)?;
    }
    if context.global.json {
        context.console.json(&json!({
            "added": key.fingerprint(),
            "comment": key.comment(),
            "dry_run": context.global.dry_run,
            "expires": partner::expires_json(&key),
            "file": path.display().to_string(),
            "partner": partner.as_str(),
        }))?;
    } else {
        let word = context.would("added to", "add to");
        context
            .console
            .line(&format!("{word} {}", path.display()))?;
        if !context.global.dry_run {
            context
                .console
                .say("a running gateway takes it within seconds, without a restart");
        }
    }
    Ok(Exit::Done)
}

/// Shows the fingerprint and gets a yes, by flag or by a person.
fn agree(
    context: &mut Context,
    arguments: &Add,
    key: &PartnerKey,
    shown: &str,
) -> Result<(), Failure> {
    context.console.say(shown);
    if let Some(told) = &arguments.fingerprint {
        let told = told.trim().trim_end_matches('=');
        if told == key.fingerprint() {
            return Ok(());
        }
        return Err(Failure::new(
            Exit::NotPermitted,
            "key.other-fingerprint",
            format!("the file holds {}, not {told}", key.fingerprint()),
        )
        .hint("ask the partner again over a second channel; do not add this key"));
    }
    if context.global.yes || context.global.dry_run {
        return Ok(());
    }
    let question = "Read this fingerprint to the partner over a second channel. Does it match?";
    if context.global.no_input || !context.console.may_ask() {
        return Err(needs_flag(
            "whether the fingerprint is the partner's",
            &format!("--fingerprint {}", key.fingerprint()),
        ));
    }
    context.confirm(question)
}

fn list(context: &mut Context, arguments: &List) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let wanted = arguments
        .partner
        .as_deref()
        .map(parse_partner)
        .transpose()?;
    let now = context.now();
    let until = match &arguments.expiring {
        Some(text) => Some(now.plus_micros(parse_span(text)?)),
        None => None,
    };
    if let Some(wanted) = &wanted {
        partner::refuse_unknown(&config, wanted)?;
    }
    let (keys, bad) = partner::read_keys(&config)?;
    let uses = if arguments.offline {
        Some(context.offline(|ledger, _| async move { admin::key_list(&ledger).await })?)
    } else {
        partner::key_uses(context, &config)
    };
    let mut table = Table::new(&[
        "PARTNER",
        "KEY",
        "TYPE",
        "FINGERPRINT",
        "EXPIRES",
        "LAST USED",
    ])
    .narrowing(&["FINGERPRINT", "KEY"], &["TYPE"]);
    let mut items = Vec::new();
    for (partner, keys) in keys.iter() {
        if wanted.as_ref().is_some_and(|wanted| wanted != partner) {
            continue;
        }
        for key in keys {
            let expires_soon = |until| match key.expiry() {
                Expiry::At(at) => at <= until,
                Expiry::Never => false,
            };
            if !until.is_none_or(expires_soon) {
                continue;
            }
            let found = uses
                .as_deref()
                .and_then(|uses| partner::used(uses, partner, key));
            let revoked = found.and_then(|found| found.revoked_at.as_deref());
            let last = found.and_then(|found| found.last_used.as_deref());
            let last = last_used(context, uses.is_some(), last);
            let (expires, paint) = expires_cell(context, key, revoked);
            let plain = |text: String| (text, Paint::Plain);
            table.painted_row([
                plain(partner.to_string()),
                plain(key.comment().to_owned()),
                plain(key.public().algorithm().as_str().to_owned()),
                plain(key.fingerprint().to_owned()),
                (expires, paint),
                plain(last),
            ]);
            items.push(json!({
                "partner": partner.as_str(),
                "key": key.comment(),
                "type": key.public().algorithm().as_str(),
                "fingerprint": key.fingerprint(),
                "expires": partner::expires_json(key),
                "last_used": found.and_then(|found| found.last_used.clone()),
                "revoked_at": found.and_then(|found| found.revoked_at.clone()),
            }));
        }
    }
    if until.is_none() {
        let gone = gone_keys(&config, wanted.as_ref(), uses.as_deref())?;
        for gone in gone {
            let last = last_used(context, uses.is_some(), gone.last_used.as_deref());
            let expires = format!("REVOKED {}", day_of(&gone.at));
            let plain = |text: &str| (text.to_owned(), Paint::Plain);
            table.painted_row([
                plain(&gone.partner),
                plain(&gone.comment),
                plain(&gone.algorithm),
                plain(&gone.fingerprint),
                (expires, Paint::Red),
                plain(&last),
            ]);
            items.push(gone.to_json());
        }
    }
    if context.global.json {
        context.console.json(&json!({"items": items}))?;
    } else if table.is_empty() {
        context.console.say("no keys");
        context.console.say("next: sallyport key add PARTNER FILE");
    } else {
        context.console.table(&table)?;
    }
    for bad in bad {
        context.console.warn(&format!("warning: {bad}"));
    }
    Ok(Exit::Done)
}

/// A revoked key that stands in no file as a key any more.
struct GoneKey {
    partner: String,
    comment: String,
    algorithm: String,
    fingerprint: String,
    /// A date or a moment.
    at: String,
    last_used: Option<String>,
}

// === impl GoneKey ===

impl GoneKey {
    fn to_json(&self) -> serde_json::Value {
        json!({
            "partner": self.partner,
            "key": self.comment,
            "type": self.algorithm,
            "fingerprint": self.fingerprint,
            "expires": null,
            "last_used": self.last_used,
            "revoked_at": self.at,
        })
    }
}

/// `?` where nobody could be asked.
fn last_used(context: &Context, is_known: bool, at: Option<&str>) -> String {
    match at {
        None if is_known => "never".to_owned(),
        None => "?".to_owned(),
        Some(at) => partner::parse_time(at).map_or_else(
            || at.to_owned(),
            |at| context.console.time(at, context.now()),
        ),
    }
}

/// Until when a key is good, or since when it is not.
fn expires_cell(context: &Context, key: &PartnerKey, revoked: Option<&str>) -> (String, Paint) {
    let now = context.now();
    match (revoked, key.expiry()) {
        (Some(at), _) => (format!("REVOKED {}", day_of(at)), Paint::Red),
        (None, Expiry::Never) => ("never".to_owned(), Paint::Plain),
        (None, expiry) if expiry.is_over(now) => ("EXPIRED".to_owned(), Paint::Red),
        (None, Expiry::At(at)) if at <= now.plus_micros(SOON_MICROS) => {
            (context.console.time(at, now), Paint::Yellow)
        }
        (None, Expiry::At(at)) => (context.console.time(at, now), Paint::Plain),
    }
}

/// Revoked keys out of the ledger and out of the comments of the files, each once.
fn gone_keys(
    config: &Config,
    wanted: Option<&PartnerId>,
    uses: Option<&[KeyUse]>,
) -> Result<Vec<GoneKey>, Failure> {
    let is_wanted = |partner: &str| wanted.is_none_or(|wanted| wanted.as_str() == partner);
    let (keys, _) = partner::read_keys(config)?;
    let is_listed = |partner: &str, fingerprint: &str| {
        PartnerId::parse(partner).is_ok_and(|partner| {
            let mut own = keys.of(&partner).iter();
            own.any(|key| key.fingerprint() == fingerprint)
        })
    };
    let mut gone: Vec<GoneKey> = Vec::new();
    for used in uses.into_iter().flatten() {
        let Some(at) = &used.revoked_at else {
            continue;
        };
        if is_wanted(&used.partner) && !is_listed(&used.partner, &used.fingerprint) {
            gone.push(GoneKey {
                partner: used.partner.clone(),
                comment: String::new(),
                algorithm: String::new(),
                fingerprint: used.fingerprint.clone(),
                at: at.clone(),
                last_used: used.last_used.clone(),
            });
        }
    }
    for (partner, line) in all_revoked_lines(config)? {
        let fingerprint = line.key.fingerprint();
        if !is_wanted(&partner) || is_listed(&partner, fingerprint) {
            continue;
        }
        let comment = line.key.comment().to_owned();
        let algorithm = line.key.public().algorithm().as_str().to_owned();
        let known = gone
            .iter_mut()
            .find(|gone| gone.partner == partner && gone.fingerprint == fingerprint);
        if let Some(known) = known {
            known.comment = comment;
            known.algorithm = algorithm;
        } else {
            gone.push(GoneKey {
                fingerprint: fingerprint.to_owned(),
                partner,
                comment,
                algorithm,
                at: line.day,
                last_used: None,
            });
        }
    }
    Ok(gone)
}

/// The revoked keys in the comments of every partner's file.
fn all_revoked_lines(config: &Config) -> Result<Vec<(String, RevokedLine)>, Failure> {
    let unreadable = |error| Failure::file("read", &config.partners, &error);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&config.partners).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(partner) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".pub"))
        else {
            continue;
        };
        // What cannot be read is told by those who read the keys themselves.
        if let Ok(text) = std::fs::read_to_string(&path) {
            let found = revoked_lines(&text).into_iter();
            all.extend(found.map(|line| (partner.to_owned(), line)));
        }
    }
    all.sort_by(|(a, one), (b, other)| (a, &one.day).cmp(&(b, &other.day)));
    Ok(all)
}

/// `# revoked 2026-11-21 why: ssh-ed25519 AAAA... comment`, as [`comment_out`] writes it.
fn revoked_lines(text: &str) -> Vec<RevokedLine> {
    let parse = |line: &str| {
        let rest = line.strip_prefix("# revoked ")?;
        let (day, rest) = rest.split_once(' ')?;
        // The reason may hold colons as well: the key is the first part that is one.
        let key = rest
            .match_indices(": ")
            .find_map(|(at, _)| PartnerKey::parse(rest.get(at + 2..)?).ok().flatten())?;
        Some(RevokedLine {
            day: day.to_owned(),
            key,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// The date of a moment.
fn day_of(at: &str) -> &str {
    at.split('T').next().unwrap_or(at)
}

fn revoke(context: &mut Context, arguments: &Revoke) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let partner = parse_partner(&arguments.partner)?;
    let reason = match context.global.reason.as_deref().map(str::trim) {
        Some(reason) if !reason.is_empty() => one_line(reason),
        Some(_) | None => {
            return Err(
                Failure::usage("key.no-reason", "a revocation needs a reason")
                    .hint("--reason \"laptop lost\"; it goes to the audit log"),
            );
        }
    };
    let path = key_file(&config, &partner);
    let (keys, _) = partner::read_keys(&config)?;
    let fits: Vec<&PartnerKey> = keys
        .of(&partner)
        .iter()
        .filter(|key| key.fingerprint() == arguments.key || key.comment() == arguments.key)
        .collect();
    let key = match fits.as_slice() {
        [key] => *key,
        [] => {
            refuse_revoked_twice(context, &config, &partner, &arguments.key)?;
            return Err(Failure::not_found(
                "key.not-found",
                format!(
                    "{partner} has no key {:?} in {}",
                    arguments.key,
                    path.display()
                ),
            )
            .hint(format!(
                "`sallyport key list --partner {partner}` shows them"
            )));
        }
        several => {
            let all: Vec<&str> = several.iter().map(|key| key.fingerprint()).collect();
            return Err(Failure::usage(
                "key.ambiguous",
                format!("{partner} has several keys {:?}", arguments.key),
            )
            .because(all.join(", "))
            .hint("name the fingerprint"));
        }
    };
    if context.global.dry_run {
        context.console.line(&format!(
            "would revoke {} {} of {partner}",
            key.fingerprint(),
            key.comment()
        ))?;
        return Ok(Exit::Done);
    }
    context.confirm(&format!(
        "Revoking {} {} of {partner} ends its live sessions now. Revoke?",
        key.fingerprint(),
        key.comment()
    ))?;
    let revocation = KeyRevocation {
        partner: partner.to_string(),
        fingerprint: key.fingerprint().to_owned(),
        reason: reason.clone(),
    };
    let already = match write_down(context, &config, &revocation) {
        Ok(()) => None,
        // The file does not know yet what the ledger does.
        Err(failure) if failure.code == "key.revoked" => Some(failure),
        Err(failure) => return Err(failure),
    };
    let today = context.now().to_rfc3339();
    let today = today.split('T').next().unwrap_or_default();
    let text = read_text(&path)?;
    let edited = comment_out(&text, key.fingerprint(), today, &reason);
    write_file(&path, edited.as_bytes(), 0o644)?;
    if let Some(already) = already {
        return Err(already.hint(format!(
            "its line in {} is commented out now",
            path.display()
        )));
    }
    if context.global.json {
        context.console.json(&json!({
            "revoked": key.fingerprint(),
            "partner": partner.as_str(),
            "file": path.display().to_string(),
            "in_ledger": true,
        }))?;
    } else {
        context.console.line(&format!(
            "revoked {} {}; commented out in {}",
            key.fingerprint(),
            key.comment(),
            path.display()
        ))?;
    }
    Ok(Exit::Done)
}

/// Puts the revocation into ledger and audit: through the gateway, or, when none runs, ourselves.
fn write_down(
    context: &Context,
    config: &Config,
    revocation: &KeyRevocation,
) -> Result<(), Failure> {
    let asked = context.ask(&Request::KeyRevoke(revocation.clone()));
    let unreachable = match asked {
        Ok(_) => return Ok(()),
        Err(failure) if failure.exit == Exit::Unreachable => Failure {
            message: "cannot reach the running gateway; nothing was changed".to_owned(),
            causes: std::iter::once(failure.message)
                .chain(failure.causes)
                .collect(),
            hint: Some(
                "name its socket with --socket, or stop the gateway and revoke again".to_owned(),
            ),
            ..failure
        },
        Err(failure) => return Err(failure),
    };
    if context.global.socket.is_some() {
        return Err(unreachable);
    }
    refuse_other_user(&config.state_dir)?;
    let receipt_key =
        ReceiptKey::read(&config.receipt_key).map_err(|why| Failure::usage("serve.secret", why))?;
    let signer: HeadSigner = Arc::new(move |text: &[u8]| receipt_key.sign(AUDIT_NAMESPACE, text));
    let ledger = match Ledger::open(&config.state_dir, Arc::clone(&context.clock), signer) {
        Ok(ledger) => ledger,
        Err(LedgerFault::InUse { .. }) => return Err(unreachable),
        Err(fault) => return Err(AdminFault::from(fault).into()),
    };
    let caller = context.caller();
    let written = runtime()?.block_on(async {
        let written = admin::key_revoke(&ledger, &caller, revocation).await;
        ledger.stop().await;
        written
    });
    Ok(written?)
}

/// Files made in somebody else's state directory would keep its gateway from starting.
fn refuse_other_user(state_dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let ours = rustix::process::geteuid().as_raw();
    match std::fs::metadata(state_dir) {
        Ok(found) if found.uid() != ours => Err(Failure::new(
            Exit::NotPermitted,
            "ledger.other-user",
            format!("{} belongs to another user", state_dir.display()),
        )
        .because("no gateway is running, so this command has to write to the ledger itself")
        .hint("run it as the gateway's user")),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A key that is no key any more because it was revoked before.
fn refuse_revoked_twice(
    context: &Context,
    config: &Config,
    partner: &PartnerId,
    wanted: &str,
) -> Result<(), Failure> {
    let line = all_revoked_lines(config)?
        .into_iter()
        .find(|(owner, line)| {
            owner == partner.as_str()
                && (line.key.fingerprint() == wanted || line.key.comment() == wanted)
        });
    if let Some((_, line)) = line {
        return Err(admin::revoked_already(line.key.fingerprint(), &line.day).into());
    }
    let uses = partner::key_uses(context, config).unwrap_or_default();
    let known = uses
        .iter()
        .find(|known| known.partner == partner.as_str() && known.fingerprint == wanted);
    match known.and_then(|known| known.revoked_at.as_deref()) {
        Some(at) => Err(admin::revoked_already(wanted, at).into()),
        None => Ok(()),
    }
}

/// Turns the line of a key into a comment that says when and why.
fn comment_out(text: &str, fingerprint: &str, date: &str, reason: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let is_it = matches!(
            PartnerKey::parse(line),
            Ok(Some(key)) if key.fingerprint() == fingerprint
        );
        if is_it {
            out.extend(["# revoked ", date, " ", reason, ": "]);
        }
        out.push_str(line);
    }
    out
}

/// Refuses a key that is anywhere already, or was revoked.
fn refuse_known(
    context: &Context,
    config: &Config,
    partner: &PartnerId,
    key: &PartnerKey,
) -> Result<(), Failure> {
    let (keys, _) = partner::read_keys(config)?;
    let owner = keys.iter().find(|(_, keys)| {
        keys.iter()
            .any(|known| known.fingerprint() == key.fingerprint())
    });
    match owner {
        Some((owner, _)) if owner == partner => {
            return Err(
                Failure::conflict("key.exists", format!("{partner} has this key already"))
                    .hint("edit the file to change its options"),
            );
        }
        Some((owner, _)) => {
            return Err(Failure::conflict(
                "key.exists",
                format!("this is a key of {owner}; a key proves one partner only"),
            )
            .hint("ask for a key pair of its own"));
        }
        None => {}
    }
    let lines = all_revoked_lines(config)?.into_iter();
    let mut revoked: Vec<(String, String)> = lines
        .filter(|(_, line)| line.key.fingerprint() == key.fingerprint())
        .map(|(owner, line)| (owner, line.day))
        .collect();
    let uses = partner::key_uses(context, config).unwrap_or_default();
    revoked.extend(
        uses.into_iter()
            .filter(|known| known.fingerprint == key.fingerprint())
            .filter_map(|known| Some((known.partner, known.revoked_at?))),
    );
    if let Some((owner, at)) = revoked.first() {
        return Err(Failure::conflict(
            "key.revoked",
            format!("this key of {owner} was revoked on {}", day_of(at)),
        )
        .hint("ask for a new key pair; a revoked key stays revoked"));
    }
    Ok(())
}

fn read_key_text(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let most = limits::KEY_FILE_BYTES_MAX;
    let read = if path == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::file("read", path, &error))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::usage(
            "key.not-text",
            format!("{} is not a text file", path.display()),
        )
        .hint("a public key is one line that starts with ssh-ed25519, ecdsa-sha2-... or ssh-rsa")
    })
}

/// The one `type base64 comment` line of a file somebody sent; a clear word where it is no such
/// file.
fn bare_key_line(text: &str) -> Result<String, Failure> {
    if text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File") {
        return Err(Failure::usage(
            "key.private",
            "that is a PRIVATE key; nobody but its owner may have it",
        )
        .because("whoever has seen this file can log in with it")
        .hint("delete it, tell the owner to make a new pair, and ask for the .pub file"));
    }
    if text.contains("BEGIN SSH2 PUBLIC KEY") {
        return Err(
            Failure::usage("key.rfc4716", "that is a public key in the SSH2 format")
                .hint("convert it first: ssh-keygen -i -f FILE > key.pub"),
        );
    }
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    match lines.as_slice() {
        [line] => Ok((*line).to_owned()),
        [] => Err(Failure::usage("key.empty", "the file holds no key")),
        several => Err(Failure::usage(
            "key.several",
            format!(
                "the file holds {} lines; add one key at a time",
                several.len()
            ),
        )),
    }
}

/// The line as it will stand in the partner's file: options, key, comment.
fn key_line(bare: &str, arguments: &Add) -> Result<String, Failure> {
    let mut words = bare.splitn(3, [' ', '\t']);
    let (kind, body) = match (words.next(), words.next()) {
        (Some(kind), Some(body)) => (kind, body),
        (_, None) | (None, _) => ("", ""),
    };
    let is_bare = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
    if !is_bare {
        return Err(Failure::usage(
            "key.options",
            "the line does not start with a key type",
        )
        .hint("a public key starts with ssh-ed25519, ecdsa-sha2-... or ssh-rsa; give options with --from and --expires"));
    }
    let own = words.next().unwrap_or_default().trim();
    let comment = match &arguments.comment {
        Some(comment) => one_line(comment),
        None => one_line(own),
    };
    let mut options = Vec::new();
    if !arguments.from.is_empty() {
        let networks = arguments
            .from
            .iter()
            .map(|network| partner::parse_network(network).map(|network| network.to_string()))
            .collect::<Result<Vec<_>, _>>()?;
        let list = networks.join(",");
        Sources::parse(&list).map_err(|why| Failure::usage("key.bad-from", why))?;
        options.push(format!("from=\"{list}\""));
    }
    if let Some(date) = &arguments.expires {
        options.push(format!("expiry-time=\"{}\"", expiry_time(date)?));
    }
    let mut line = options.join(",");
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(kind);
    line.push(' ');
    line.push_str(body);
    if !comment.is_empty() {
        line.push(' ');
        line.push_str(&comment);
    }
    Ok(line)
}

/// `2027-12-31` becomes the last second of that day, UTC.
fn expiry_time(date: &str) -> Result<String, Failure> {
    let day: jiff::civil::Date = date.trim().parse().map_err(|_| {
        Failure::usage("key.bad-date", format!("{date:?} is not a date")).hint("like 2027-12-31")
    })?;
    Ok(day.strftime("%Y%m%d235959Z").to_string())
}

fn parse_key_line(line: &str) -> Result<PartnerKey, Failure> {
    match PartnerKey::parse(line) {
        Ok(Some(key)) if EXAMPLE_FINGERPRINTS.contains(&key.fingerprint()) => Err(Failure::usage(
            "key.example",
            "this is the example key; anybody can have its private half",
        )),
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(Failure::usage("key.empty", "the file holds no key")),
        Err(why) => Err(Failure::usage("key.bad", "this key is not taken").because(why)),
    }
}

fn key_file(config: &Config, partner: &PartnerId) -> PathBuf {
    config.partners.join(format!("{partner}.pub"))
}

fn parse_partner(text: &str) -> Result<PartnerId, Failure> {
    PartnerId::parse(text).map_err(|error| Failure::usage("partner.bad-id", error.to_string()))
}

/// Line ends and other control characters become spaces: the text goes into a file of lines.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// `60d`, `12h`, `30m`, `45s` in microseconds.
///
/// # Errors
/// Exit 2 with an example.
pub fn parse_span(text: &str) -> Result<i64, Failure> {
    let text = text.trim();
    let bad = || {
        Failure::usage("time.bad-span", format!("{text:?} is not a span of time"))
            .hint("like 45s, 30m, 24h or 60d")
    };
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _unknown => return Err(bad()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u32 = number.parse().map_err(|_| bad())?;
    Ok(i64::from(number).saturating_mul(seconds * 1_000_000))
}

/// A key that expires within 30 days is shown in yellow.
const SOON_MICROS: i64 = 30 * 86_400 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::signing;
    use crate::cli::context::tests::context;
    use crate::cli::init::{Existing, Plan, create};
    use crate::telemetry::Rng;
    use crate::terms::ids::InstanceName;

    struct Folder {
        folder: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (context, _, _) = context();
            let plan = Plan {
                folder: folder.path().join("gw"),
                instance: InstanceName::parse("gw").unwrap(),
                partner: PartnerId::parse("acme").unwrap(),
                store: "./lake".to_owned(),
                key_out: None,
                existing: Existing::Refuse,
            };
            create(&context, &plan).unwrap();
            Self { folder }
        }

        fn context(&self) -> Context {
            let (mut context, _, _) = context();
            context.global.config = Some(self.folder.path().join("gw/sallyport.toml"));
            context
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn new_key(&self, name: &str) -> PathBuf {
            let (_, public) = signing::generate_ed25519(&Rng::system(), "acme@batch01").unwrap();
            self.write(name, &public)
        }

        fn keys(&self) -> String {
            std::fs::read_to_string(self.folder.path().join("gw/partners/acme.pub"))
                .unwrap_or_default()
        }
    }

    fn arguments(file: PathBuf) -> Add {
        Add {
            partner: "acme".to_owned(),
            file,
            ..Add::default()
        }
    }

    #[test]
    fn a_key_is_added_with_its_options_and_can_be_read_back() {
        let here = Folder::new();
        let mut context = here.context();
        context.global.yes = true;
        let file = here.new_key("a.pub");
        let wanted = Add {
            from: vec!["198.51.100.0/24".to_owned()],
            expires: Some("2027-12-31".to_owned()),
            comment: Some("acme-batch01".to_owned()),
            ..arguments(file)
        };
        assert_eq!(add(&mut context, &wanted), Ok(Exit::Done));
        let text = here.keys();
        assert!(
            text.contains("from=\"198.51.100.0/24\",expiry-time=\"20271231235959Z\" ssh-ed25519 "),
            "{text}"
        );
        let config = context.config().unwrap().config;
        let (keys, bad) = partner::read_keys(&config).unwrap();
        assert_eq!(bad, []);
        let key = &keys.of(&PartnerId::parse("acme").unwrap())[0];
        assert_eq!(key.comment(), "acme-batch01");
        assert_eq!(
            partner::expires_json(key).unwrap(),
            "2027-12-31T23:59:59.000Z"
        );
    }

    #[test]
    fn a_key_without_anybody_to_agree_is_not_added() {
        let here = Folder::new();
        let mut context = here.context();
        let file = here.new_key("a.pub");
        let failure = add(&mut context, &arguments(file)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hint.unwrap().contains("--fingerprint SHA256:"));
        assert_eq!(here.keys(), "");
    }

    #[test]
    fn a_key_with_another_fingerprint_than_told_is_not_added() {
        let here = Folder::new();
        let mut context = here.context();
        let wanted = Add {
            fingerprint: Some("SHA256:AAAA".to_owned()),
            ..arguments(here.new_key("a.pub"))
        };
        let failure = add(&mut context, &wanted).unwrap_err();
        assert_eq!(failure.exit, Exit::NotPermitted);
        assert_eq!(here.keys(), "");
    }

    #[test]
    fn the_same_key_is_refused_twice_and_after_its_revocation() {
        let here = Folder::new();
        let mut context = here.context();
        context.global.yes = true;
        let file = here.new_key("a.pub");
        add(&mut context, &arguments(file.clone())).unwrap();
        let failure = add(&mut context, &arguments(file.clone())).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        context.global.reason = Some("laptop\nlost: really".to_owned());
        let wanted = Revoke {
            partner: "acme".to_owned(),
            key: "acme@batch01".to_owned(),
        };
        assert_eq!(revoke(&mut context, &wanted), Ok(Exit::Done));
        assert!(
            here.keys()
                .contains("# revoked 2026-11-21 laptop lost: really: ssh-ed25519 "),
            "{}",
            here.keys()
        );
        let failure = revoke(&mut context, &wanted).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        assert!(
            failure
                .message
                .ends_with("was revoked already on 2026-11-21"),
            "{}",
            failure.message
        );
        let failure = add(&mut context, &arguments(file.clone())).unwrap_err();
        assert_eq!(failure.code, "key.revoked");

        // The ledger knows it without the file, and has the reason.
        std::fs::remove_file(here.folder.path().join("gw/partners/acme.pub")).unwrap();
        let failure = add(&mut context, &arguments(file)).unwrap_err();
        assert_eq!(
            (failure.exit, failure.code.as_str()),
            (Exit::Conflict, "key.revoked")
        );
        let trail = context
            .offline(|ledger, _| async move {
                admin::audit_tail(&ledger, &admin::AuditQuery::default()).await
            })
            .unwrap();
        assert_eq!(trail[0].action, "key.revoke");
        assert!(trail[0].detail.ends_with("laptop lost: really"));
        let (console, out, _) = crate::cli::console::Console::captured();
        context.console = console;
        let all = List {
            offline: true,
            ..List::default()
        };
        list(&mut context, &all).unwrap();
        assert!(out.text().contains("REVOKED 2026-11-21"), "{}", out.text());
    }

    #[test]
    fn without_a_way_to_the_running_gateway_nothing_is_revoked() {
        let here = Folder::new();
        let mut context = here.context();
        context.global.yes = true;
        add(&mut context, &arguments(here.new_key("a.pub"))).unwrap();
        let before = here.keys();
        context.global.reason = Some("lost".to_owned());
        let wanted = Revoke {
            partner: "acme".to_owned(),
            key: "acme@batch01".to_owned(),
        };
        let check = |context: &mut Context| {
            let failure = revoke(context, &wanted).unwrap_err();
            assert_eq!(failure.exit, Exit::Unreachable);
            assert!(failure.message.contains("cannot reach the running gateway"));
            assert_eq!(here.keys(), before);
        };
        context.global.socket = Some(here.folder.path().join("nobody.sock"));
        check(&mut context);
        context.global.socket = None;
        let state = context.config().unwrap().config.state_dir;
        let signer: HeadSigner = Arc::new(|_: &[u8]| String::new());
        let running = Ledger::open(&state, Arc::clone(&context.clock), signer).unwrap();
        check(&mut context);
        drop(running);
    }

    #[test]
    fn keys_of_nobody_are_not_listed() {
        let here = Folder::new();
        let wanted = List {
            partner: Some("nope".to_owned()),
            ..List::default()
        };
        let failure = list(&mut here.context(), &wanted).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
    }

    #[test]
    fn a_revocation_without_a_reason_is_refused() {
        let here = Folder::new();
        let mut context = here.context();
        let wanted = Revoke {
            partner: "acme".to_owned(),
            key: "x".to_owned(),
        };
        assert_eq!(
            revoke(&mut context, &wanted).unwrap_err().code,
            "key.no-reason"
        );
    }

    #[test]
    fn a_private_key_is_refused_with_a_warning_to_its_owner() {
        let (private, _) = signing::generate_ed25519(&Rng::system(), "x").unwrap();
        let failure = bare_key_line(&private).unwrap_err();
        assert_eq!(failure.code, "key.private");
        assert!(failure.hint.unwrap().contains("new pair"));
        let putty = "PuTTY-User-Key-File-3: ssh-ed25519\n";
        assert_eq!(bare_key_line(putty).unwrap_err().code, "key.private");
    }

    #[test]
    fn the_example_key_is_refused() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKA0rONfTLwbOhimF9GCUBaBMTPeEcf7nQwlJOkEt6wo acme-batch01";
        assert_eq!(parse_key_line(line).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn an_unknown_partner_gets_no_key() {
        let here = Folder::new();
        let mut context = here.context();
        context.global.yes = true;
        let wanted = Add {
            partner: "beta".to_owned(),
            ..arguments(here.new_key("a.pub"))
        };
        assert_eq!(add(&mut context, &wanted).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn spans_are_read_in_their_units() {
        assert_eq!(parse_span("2m"), Ok(120_000_000));
        assert_eq!(parse_span("60d"), Ok(60 * 86_400 * 1_000_000));
        for bad in ["", "d", "5", "-1d", "5y", "1.5h"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
