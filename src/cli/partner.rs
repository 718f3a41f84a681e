//! `partner add|list|show`: who may send. Works on the files; what happened comes from the
//! gateway, or from its ledger, where one can be reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::json;

use crate::admin::{self, KeyUse, PartnerFacts, Request};
use crate::authority::partner_keys::{Expiry, FolderFile, PartnerKey, PartnerKeys};
use crate::cli::console::{Paint, Table, counted};
use crate::cli::context::{Context, Found, mistakes, write_file};
use crate::cli::exit::{Exit, Failure};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::policy;
use crate::policy::feed::Policy;
use crate::policy::lists::Lists;
use crate::policy::mistake::Mistake;
use crate::reload::{LISTS, lists_of, policy_text, read_lists, read_policies};
use crate::terms::clock::Timestamp;
use crate::terms::ids::PartnerId;

/// `partner ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a policy file for a new partner; it has no feeds yet
    Add(Add),
    /// All partners on one screen
    #[command(before_help = "Examples:\n  sallyport partner list\n  sallyport partner list --json")]
    List,
    /// One partner: networks, keys, feeds
    Show(Show),
}

/// `partner add ID`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Example:\n  sallyport partner add acme --name \"ACME Logistics GmbH\" \\\n      --from 198.51.100.0/24 --email edi@acme.example"
)]
pub struct Add {
    /// The partner's id, and the user name it logs in with
    #[arg(value_name = "ID")]
    pub partner: String,
    /// Its name for people [default: the id]
    #[arg(long)]
    pub name: Option<String>,
    /// Networks it may log in from; default: anywhere
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    pub from: Vec<String>,
    /// Whom to write to; printed in receipts as the address for questions
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
}

/// `partner show ID`
#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  sallyport partner show acme\n  sallyport partner show acme --json"
)]
pub struct Show {
    /// The partner's id
    #[arg(value_name = "ID")]
    pub partner: String,
}

/// A policy file and what it says.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// The file.
    pub path: PathBuf,
    /// The compiled policy with its warnings, or every mistake.
    pub compiled: Result<(Policy, Vec<Mistake>), Vec<Mistake>>,
}

/// Runs the noun.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &mut Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Add(arguments) => add(context, arguments),
        Command::List => list(context),
        Command::Show(arguments) => show(context, arguments),
    }
}

/// Every `*.toml` of the policy folder, compiled, by file name; one that cannot be read is one
/// with a mistake.
///
/// # Errors
/// The folder cannot be read.
pub fn policy_files(folder: &Path) -> Result<Vec<PolicyFile>, Failure> {
    let files = read_policies(folder).map_err(|error| Failure::file("read", folder, &error))?;
    let lists = lists_in(folder)?;
    let compiled = |file: &FolderFile| PolicyFile {
        path: folder.join(&file.name),
        compiled: policy_text(file).and_then(|text| policy::compile(&file.path, text, &lists)),
    };
    Ok(files.iter().map(compiled).collect())
}

/// One policy file, compiled.
///
/// # Errors
/// It cannot be read.
pub fn policy_file(path: PathBuf) -> Result<PolicyFile, Failure> {
    let bytes = std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
    let file = FolderFile {
        name: String::new(),
        path: path.display().to_string(),
        content: Ok(bytes),
    };
    let lists = lists_beside(&path)?;
    let compiled = policy_text(&file).and_then(|text| policy::compile(&file.path, text, &lists));
    Ok(PolicyFile { path, compiled })
}

/// The lists beside a policy file.
///
/// # Errors
/// They cannot be read.
pub fn lists_beside(path: &Path) -> Result<Lists, Failure> {
    lists_in(path.parent().unwrap_or(Path::new("")))
}

/// The lists beside the policies of a folder.
fn lists_in(folder: &Path) -> Result<Lists, Failure> {
    let files = read_lists(folder);
    let files = files.map_err(|error| Failure::file("read", &folder.join(LISTS), &error))?;
    Ok(lists_of(&files))
}

/// The policy of one partner, from the files.
///
/// # Errors
/// Exit 3 when there is none; exit 2 when its file has mistakes.
pub fn policy_of(config: &Config, partner: &PartnerId) -> Result<(PathBuf, Policy), Failure> {
    let files = policy_files(&config.policies)?;
    let expected = format!("{partner}.toml");
    for file in files {
        match file.compiled {
            Ok((policy, _)) if policy.partner == *partner => return Ok((file.path, policy)),
            Err(found)
                if file
                    .path
                    .file_name()
                    .is_some_and(|name| name == expected.as_str()) =>
            {
                return Err(mistakes(
                    &found,
                    "policy.mistakes",
                    &format!("{} is not a valid policy", file.path.display()),
                )
                .hint("`sallyport policy check` shows this file alone"));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(Failure::not_found(
        "partner.not-found",
        format!(
            "no policy in {} is for a partner {partner}",
            config.policies.display()
        ),
    )
    .hint(format!("`sallyport partner add {partner}` makes one")))
}

/// Refuses the id of a partner that has neither a policy nor a file of keys.
///
/// # Errors
/// Exit 3.
pub fn refuse_unknown(config: &Config, partner: &PartnerId) -> Result<(), Failure> {
    let has = |folder: &Path, ending: &str| folder.join(format!("{partner}.{ending}")).exists();
    if has(&config.policies, "toml") || has(&config.partners, "pub") {
        return Ok(());
    }
    Err(Failure::not_found(
        "partner.not-found",
        format!("there is no partner {partner}"),
    )
    .hint("`sallyport partner list` shows them"))
}

fn add(context: &mut Context, arguments: &Add) -> Result<Exit, Failure> {
    let Found { config, .. } = context.config()?;
    let partner = PartnerId::parse(&arguments.partner)
        .map_err(|error| Failure::usage("partner.bad-id", error.to_string()))?;
    let path = config.policies.join(format!("{partner}.toml"));
    if path.exists() {
        return Err(exists(&partner, &path));
    }
    for file in policy_files(&config.policies)? {
        if file
            .compiled
            .as_ref()
            .is_ok_and(|(policy, _)| policy.partner == partner)
        {
            return Err(exists(&partner, &file.path));
        }
    }
    let text = new_policy(&partner, arguments)?;
    if let Err(found) = policy::compile(&path.display().to_string(), &text, &Lists::default()) {
        return Err(mistakes(
            &found,
            "partner.bad-options",
            "these options make no valid policy",
        ));
    }
    if !context.global.dry_run {
        write_file(&path, text.as_bytes(), 0o644)?;
    }
    let word = context.would("created", "create");
    if context.global.json {
        context.console.json(&json!({
            "created": path.display().to_string(),
            "dry_run": context.global.dry_run,
            "partner": partner.as_str(),
        }))?;
    } else {
        context.console.line(&format!(
            "{word} {}  (version 1, no feeds yet: uploads are refused)",
            path.display()
        ))?;
        context.console.say(&format!(
            "next: add a [[feed]] to it, then: sallyport policy check\n      sallyport key add {partner} ./their_key.pub"
        ));
    }
    Ok(Exit::Done)
}

fn exists(partner: &PartnerId, path: &Path) -> Failure {
    Failure::conflict(
        "partner.exists",
        format!("partner {partner} exists already, in {}", path.display()),
    )
    .hint(format!(
        "`sallyport partner show {partner}`; edit the file to change it"
    ))
}

/// A policy without feeds.
fn new_policy(partner: &PartnerId, arguments: &Add) -> Result<String, Failure> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let name = arguments.name.as_deref().unwrap_or(partner.as_str());
    let mut text = format!(
        "version = 1                    # bump on change; recorded with every submission\n\n[partner]\nid         = {}\nname       = {}\n",
        quoted(partner.as_str()),
        quoted(name)
    );
    if !arguments.from.is_empty() {
        let networks = arguments
            .from
            .iter()
            .map(|network| parse_network(network).map(|network| quoted(&network.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        text.extend(["allow_from = [", &networks.join(", "), "]\n"]);
    }
    if let Some(email) = &arguments.email {
        text.extend([
            "contacts   = [{ name = ",
            &quoted(name),
            ", email = ",
            &quoted(email),
            " }]
",
        ]);
    }
    text.push_str(
        "\n# Each [[feed]] is one kind of file: a name, where it goes, what it must be.\n# Without one, every upload is refused.\n",
    );
    Ok(text)
}

/// A network, or an address as the network of one.
///
/// # Errors
/// Exit 2 with an example.
pub fn parse_network(text: &str) -> Result<IpNet, Failure> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| {
            Failure::usage(
                "network.bad",
                format!("{text:?} is not a network or an address"),
            )
            .hint("like 198.51.100.0/24, 2001:db8:77::/48 or 198.51.100.7")
        })
}

fn list(context: &mut Context) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let files = policy_files(&config.policies)?;
    let (keys, bad_keys) = read_keys(&config)?;
    let names: Vec<String> = files
        .iter()
        .filter_map(|file| Some(file.compiled.as_ref().ok()?.0.partner.to_string()))
        .collect();
    let facts = facts(context, &config, &names);
    let now = context.now();
    let mut table = Table::new(&[
        "PARTNER",
        ">FEEDS",
        ">KEYS",
        "LAST FILE",
        ">24H OK/BAD",
        "STATE",
    ]);
    let mut items = Vec::new();
    for file in &files {
        let Ok((policy, _)) = &file.compiled else {
            let stem = file.path.file_stem().unwrap_or_default().to_string_lossy();
            table.painted_row([
                (stem.clone().into_owned(), Paint::Plain),
                plain("-"),
                plain("-"),
                plain("-"),
                plain("-"),
                ("bad policy".to_owned(), Paint::Red),
            ]);
            items.push(json!({"partner": stem, "state": "bad policy"}));
            continue;
        };
        let of = keys.of(&policy.partner);
        let usable = of.iter().filter(|key| !key.expiry().is_over(now)).count();
        let known = facts
            .as_ref()
            .and_then(|facts| facts.get(policy.partner.as_str()));
        let (state, paint) = if usable == 0 {
            (
                if of.is_empty() {
                    "no key"
                } else {
                    "keys expired"
                },
                Paint::Yellow,
            )
        } else if policy.feeds.is_empty() {
            ("no feeds", Paint::Yellow)
        } else if known.is_some_and(|facts| facts.failing > 0) {
            ("failing", Paint::Red)
        } else {
            ("active", Paint::Plain)
        };
        table.painted_row([
            plain(policy.partner.as_str()),
            plain(&policy.feeds.len().to_string()),
            plain(&of.len().to_string()),
            plain(&last_file(context, known, now)),
            plain(&day(known)),
            (state.to_owned(), paint),
        ]);
        items.push(json!({
            "partner": policy.partner.as_str(),
            "name": policy.name,
            "feeds": policy.feeds.len(),
            "keys": of.len(),
            "policy_version": policy.version,
            "facts": known,
            "state": state,
        }));
    }
    if context.global.json {
        context.console.json(&json!({"items": items}))?;
    } else if table.is_empty() {
        context.console.say("no partners yet");
        context.console.say("next: sallyport partner add ID");
    } else {
        context.console.table(&table)?;
    }
    for bad in bad_keys {
        context.console.warn(&format!("warning: {bad}"));
    }
    Ok(Exit::Done)
}

fn plain(text: &str) -> (String, Paint) {
    (text.to_owned(), Paint::Plain)
}

fn last_file(context: &Context, facts: Option<&PartnerFacts>, now: Timestamp) -> String {
    match facts {
        None => "?".to_owned(),
        Some(facts) => match facts.last_file.as_deref().and_then(parse_time) {
            Some(at) => context.console.time(at, now),
            None => "never".to_owned(),
        },
    }
}

fn day(facts: Option<&PartnerFacts>) -> String {
    match facts {
        None => "?".to_owned(),
        Some(facts) if facts.accepted + facts.rejected == 0 => "-".to_owned(),
        Some(facts) => format!("{}/{}", facts.accepted, facts.rejected),
    }
}

fn show(context: &mut Context, arguments: &Show) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let partner = PartnerId::parse(&arguments.partner)
        .map_err(|error| Failure::usage("partner.bad-id", error.to_string()))?;
    let (path, policy) = policy_of(&config, &partner)?;
    let (keys, bad_keys) = read_keys(&config)?;
    let known = facts(context, &config, &[partner.to_string()])
        .and_then(|mut facts| facts.remove(partner.as_str()));
    let uses = key_uses(context, &config).unwrap_or_default();
    let now = context.now();
    if context.global.json {
        context.console.json(&json!({
            "partner": partner.as_str(),
            "name": policy.name,
            "policy": path.display().to_string(),
            "policy_version": policy.version,
            "policy_hash": data_encoding::HEXLOWER.encode(&policy.hash),
            "allow_from": policy.allow_from,
            "contact": policy.help,
            "inbox": policy.inbox.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "feeds": policy.feeds.iter().map(|feed| json!({
                "feed": feed.id.as_str(),
                "match": feed.pattern_text,
                "store": feed.store.as_str(),
            })).collect::<Vec<_>>(),
            "keys": keys.of(&partner).iter().map(|key| json!({
                "key": key.comment(),
                "fingerprint": key.fingerprint(),
                "expires": expires_json(key),
                "last_used": used(&uses, &partner, key).and_then(|found| found.last_used.clone()),
            })).collect::<Vec<_>>(),
            "facts": known,
        }))?;
        return Ok(Exit::Done);
    }
    context.console.line(&format!(
        "{partner}  {}    policy version {}  ({})",
        policy.name,
        policy.version,
        path.display()
    ))?;
    let from: Vec<String> = policy.allow_from.iter().map(ToString::to_string).collect();
    let from = if from.is_empty() {
        "anywhere".to_owned()
    } else {
        from.join(", ")
    };
    context.console.line(&format!("  from      {from}"))?;
    let mut label = "keys";
    for key in keys.of(&partner) {
        let last = match used(&uses, &partner, key).and_then(|found| found.last_used.as_deref()) {
            Some(at) => {
                parse_time(at).map_or_else(|| at.to_owned(), |at| context.console.time(at, now))
            }
            None => "never".to_owned(),
        };
        context.console.line(&format!(
            "  {label:<8}  {}  {}  last used {last}  {}",
            key.comment(),
            key.fingerprint(),
            expires_text(context, key, now)
        ))?;
        label = "";
    }
    if keys.of(&partner).is_empty() {
        context.console.line(&format!(
            "  keys      none: nobody can log in.  sallyport key add {partner} FILE"
        ))?;
    }
    let mut label = "feeds";
    for feed in &policy.feeds {
        context.console.line(&format!(
            "  {label:<8}  {}  {}  to {}, {}",
            feed.id,
            feed.pattern_text,
            feed.store,
            counted(u64::try_from(feed.tests.len()).unwrap_or(0), "test")
        ))?;
        label = "";
    }
    if policy.feeds.is_empty() {
        context
            .console
            .line("  feeds     none: every upload is refused")?;
    }
    if let Some(facts) = &known {
        context.console.line(&format!(
            "  files     last {}, 24 h: {} accepted, {} rejected, {} failing",
            last_file(context, Some(facts), now),
            facts.accepted,
            facts.rejected,
            facts.failing
        ))?;
    }
    if let Some(contact) = &policy.help {
        context.console.line(&format!("  contact   {contact}"))?;
    }
    for bad in bad_keys {
        context.console.warn(&format!("warning: {bad}"));
    }
    Ok(Exit::Done)
}

/// The partners' keys, as the files say, and the lines that are none.
///
/// # Errors
/// The folder cannot be read.
pub fn read_keys(
    config: &Config,
) -> Result<(PartnerKeys, Vec<crate::authority::partner_keys::BadKeyLine>), Failure> {
    PartnerKeys::read(&config.partners)
        .map_err(|error| Failure::file("read", &config.partners, &error))
}

/// What the ledger knows: from the gateway, else from its file; `None` when neither answers.
fn facts(
    context: &Context,
    config: &Config,
    partners: &[String],
) -> Option<BTreeMap<String, PartnerFacts>> {
    let request = Request::PartnerFacts {
        partners: partners.to_vec(),
    };
    if let Ok(value) = context.ask(&request) {
        return serde_json::from_value(value).ok();
    }
    let ledger = Ledger::open_read_only(&config.state_dir).ok()?;
    let now = context.now();
    let runtime = crate::cli::context::runtime().ok()?;
    runtime
        .block_on(admin::partner_facts(&ledger, partners, now))
        .ok()
}

/// When keys were used: from the gateway, else from its file; `None` when neither answers.
#[must_use]
pub fn key_uses(context: &Context, config: &Config) -> Option<Vec<KeyUse>> {
    if let Ok(value) = context.ask(&Request::KeyList {}) {
        return serde_json::from_value(value).ok();
    }
    let ledger = Ledger::open_read_only(&config.state_dir).ok()?;
    let runtime = crate::cli::context::runtime().ok()?;
    runtime.block_on(admin::key_list(&ledger)).ok()
}

/// The use of one key.
#[must_use]
pub fn used<'u>(uses: &'u [KeyUse], partner: &PartnerId, key: &PartnerKey) -> Option<&'u KeyUse> {
    uses.iter()
        .find(|found| found.partner == partner.as_str() && found.fingerprint == key.fingerprint())
}

/// `expires 2027-12-31`, `expired`, `no expiry`.
#[must_use]
pub fn expires_text(context: &Context, key: &PartnerKey, now: Timestamp) -> String {
    match key.expiry() {
        Expiry::Never => "no expiry".to_owned(),
        expiry if expiry.is_over(now) => context.console.paint("EXPIRED", Paint::Red),
        Expiry::At(at) => format!("expires {}", context.console.time(at, now)),
    }
}

/// The expiry as data.
#[must_use]
pub fn expires_json(key: &PartnerKey) -> Option<String> {
    match key.expiry() {
        Expiry::Never => None,
        Expiry::At(at) => Some(at.to_rfc3339()),
    }
}

/// RFC 3339 back to a moment.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(|at| Timestamp::from_micros(at.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &Add) -> Policy {
        let partner = PartnerId::parse(&arguments.partner).unwrap();
        let text = new_policy(&partner, arguments).unwrap();
        let (policy, warnings) = policy::compile("acme.toml", &text, &Lists::default())
            .unwrap_or_else(|found| panic!("{text}\n{}", found[0].render()));
        assert_eq!(warnings, [], "{text}");
        policy
    }

    #[test]
    fn a_new_partner_is_a_valid_policy_without_feeds() {
        let policy = check(&Add {
            partner: "acme".to_owned(),
            ..Add::default()
        });
        assert_eq!(policy.partner.as_str(), "acme");
        assert_eq!(policy.name, "acme");
        assert_eq!(policy.version, 1);
        assert!(policy.feeds.is_empty());
        assert!(policy.allow_from.is_empty());
    }

    #[test]
    fn networks_names_and_addresses_reach_the_policy() {
        let policy = check(&Add {
            partner: "acme".to_owned(),
            name: Some("ACME \"Logistics\" \\ GmbH".to_owned()),
            from: vec!["198.51.100.0/24".to_owned(), "2001:db8::7".to_owned()],
            email: Some("edi@acme.example".to_owned()),
        });
        assert_eq!(policy.name, "ACME \"Logistics\" \\ GmbH");
        assert_eq!(
            policy.allow_from,
            ["198.51.100.0/24", "2001:db8::7/128"].map(|net| net.parse::<IpNet>().unwrap())
        );
        assert_eq!(policy.help.as_deref(), Some("edi@acme.example"));
    }

    #[test]
    fn a_policy_that_is_not_text_harms_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let acme = PartnerId::parse("acme").unwrap();
        let good = crate::cli::init::sample_policy(&acme);
        std::fs::write(folder.path().join("acme.toml"), good).unwrap();
        std::fs::write(folder.path().join("beta.toml"), b"# M\xfcller\n").unwrap();
        let files = policy_files(folder.path()).unwrap();
        assert!(files[0].compiled.is_ok());
        let mistakes = files[1].compiled.as_ref().unwrap_err();
        assert_eq!(mistakes[0].code, "policy.unreadable");
        assert!(mistakes[0].message.contains("byte 3"), "{mistakes:?}");
    }

    #[test]
    fn a_network_that_is_none_is_refused_with_an_example() {
        let failure = parse_network("198.51.100.0/33").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hint.unwrap().contains("198.51.100.0/24"));
    }
}
