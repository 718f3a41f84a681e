//! `init`: a configuration, keys and one policy, in one folder. Overwrites nothing.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::authority::signing;
use crate::cli::context::{Context, absolute, write_file};
use crate::cli::exit::{Exit, Failure};
use crate::config::Config;
use crate::terms::ids::{BadTerm, InstanceName, PartnerId};

/// `init [DIR]`
///
/// Makes a folder with everything one gateway needs: the main configuration with every key
/// commented, host, token and receipt keys, and one policy with a good and a bad sample.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport init gw\n  sallyport init gw --partner acme --key-out gw/acme_key\n  sallyport init /etc/sallyport --store file:///srv/lake"
)]
pub struct Arguments {
    /// Where to make it
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// The first partner's id
    #[arg(long, value_name = "ID", default_value = "acme")]
    pub partner: String,
    /// Where accepted files go: a folder (relative to DIR) or a file:// URL
    #[arg(long, value_name = "URL", default_value = "./lake")]
    pub store: String,
    /// Make a key pair for the first partner here, to try the gateway with
    #[arg(long, value_name = "FILE")]
    pub key_out: Option<PathBuf>,
    /// Replace the configuration and the policy that are there; keys are
    /// never replaced
    #[arg(long)]
    pub force: bool,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder.
    pub folder: PathBuf,
    /// The gateway's name.
    pub instance: InstanceName,
    /// The first partner.
    pub partner: PartnerId,
    /// The store's URL, as it will stand in the configuration.
    pub store: String,
    /// Where the first partner's private key goes.
    pub key_out: Option<PathBuf>,
    /// Whether what is there may be replaced.
    pub existing: Existing,
}

/// What to do with files that are there already. Keys are kept either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse to start.
    Refuse,
    /// Replace them.
    Replace,
}

/// One file or folder that was made, with what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// As printed: the path below the folder, as the folder was named.
    pub path: String,
    /// What it is.
    pub what: String,
    /// What happens to it.
    pub fate: Fate,
}

/// What `init` does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Makes it.
    Created,
    /// Leaves it as it was.
    Kept,
    /// Puts a new one in its place.
    Replaced,
}

struct Step {
    path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

const POLICY: &str = include_str!("../../policies/acme.toml");
const POLICIES_README: &str = include_str!("../../policies/README.md");
const GOOD_SAMPLE: &str = include_str!("../../policies/acme/orders_20261120.csv");
const BAD_SAMPLE: &str = include_str!("../../policies/acme/orders_20261121.bad.csv");
const GITIGNORE: &str = "# Private keys, the ledger and delivered files do not belong in git.\n/keys/\n/state/\n/lake/\n/*_key\n";

/// Runs the verb.
///
/// # Errors
/// Exit 6 when something is there already.
pub fn run(context: &mut Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let partner = PartnerId::parse(&arguments.partner)
        .map_err(|error| Failure::usage("init.bad-partner", error.to_string()))?;
    let key_out = match &arguments.key_out {
        Some(path) => Some(path.clone()),
        None if context.console.is_for_people() && context.console.may_ask() => {
            Some(arguments.folder.join(format!("{partner}_key")))
        }
        None => None,
    };
    let plan = Plan {
        instance: instance_of(&arguments.folder)
            .or_else(|_| InstanceName::parse("gw"))
            .map_err(|error| Failure::usage("init.bad-instance", error.to_string()))?,
        folder: arguments.folder.clone(),
        partner,
        store: arguments.store.clone(),
        key_out,
        existing: if arguments.force {
            Existing::Replace
        } else {
            Existing::Refuse
        },
    };
    if context.global.dry_run {
        refuse_existing(&plan)?;
        return report(context, &plan, &listing(&plan));
    }
    let made = create(context, &plan)?;
    report(context, &plan, &made)
}

/// Makes everything.
///
/// # Errors
/// Exit 6 when something is there already; the system's otherwise. What was made before a failure
/// stays, and `--force` goes on from there.
pub fn create(context: &Context, plan: &Plan) -> Result<Vec<Made>, Failure> {
    refuse_existing(plan)?;
    let made = listing(plan);
    let folder = &plan.folder;
    let config_path = folder.join("sallyport.toml");
    let config_text = Config::default_text(plan.instance.as_str(), &plan.store);
    context
        .parse_config(&config_path, &config_text)
        .map_err(|found| {
            crate::cli::context::mistakes(
                &found,
                "init.bad-config",
                "these options make no valid configuration",
            )
            .hint("--store takes a folder or a file:///absolute/folder URL")
        })?;
    make_folder(folder, 0o755)?;
    make_folder(&folder.join("keys"), 0o700)?;
    make_folder(&folder.join("partners"), 0o755)?;
    make_folder(&folder.join("policies"), 0o755)?;
    make_folder(&folder.join("policies").join(plan.partner.as_str()), 0o755)?;
    let host_line = make_keys(context, plan)?;
    let samples = folder.join("policies").join(plan.partner.as_str());
    let mut steps = vec![
        step(&config_path, config_text.as_bytes(), 0o644),
        step(
            &policy_path(plan),
            sample_policy(&plan.partner).as_bytes(),
            0o644,
        ),
        step(
            &folder.join("policies/README.md"),
            POLICIES_README.as_bytes(),
            0o644,
        ),
        step(
            &samples.join("orders_20261120.csv"),
            GOOD_SAMPLE.as_bytes(),
            0o644,
        ),
        step(
            &samples.join("orders_20261121.bad.csv"),
            BAD_SAMPLE.as_bytes(),
            0o644,
        ),
        step(&folder.join(".gitignore"), GITIGNORE.as_bytes(), 0o644),
    ];
    if let Some(key_out) = &plan.key_out {
        let (private, public) = generate(context, &format!("{}-first", plan.partner))?;
        steps.push(step(key_out, private.as_bytes(), 0o600));
        let mut beside = key_out.clone().into_os_string();
        beside.push(".pub");
        steps.push(step(Path::new(&beside), public.as_bytes(), 0o644));
        let partner_keys = folder
            .join("partners")
            .join(format!("{}.pub", plan.partner));
        steps.push(step(&partner_keys, public.as_bytes(), 0o644));
        steps.push(step(
            &folder.join("known_hosts"),
            format!("[127.0.0.1]:2222 {host_line}\n").as_bytes(),
            0o644,
        ));
    }
    for Step { path, bytes, mode } in steps {
        write_file(&path, &bytes, mode)?;
    }
    Ok(made)
}

/// The built-in policy, for another partner.
#[must_use]
pub fn sample_policy(partner: &PartnerId) -> String {
    let text = POLICY
        .replace("\"acme\"", &format!("\"{partner}\""))
        .replace("\"acme/", &format!("\"{partner}/"));
    if partner.as_str() == "acme" {
        return text;
    }
    text.replace("ACME Logistics GmbH", partner.as_str())
        .replace("ACME", partner.as_str())
}

/// The built-in samples: the good one and the bad one.
#[must_use]
pub fn samples() -> (&'static str, &'static str) {
    (GOOD_SAMPLE, BAD_SAMPLE)
}

/// Makes the gateway's own keys where they are missing; gives the host key's public line without
/// its comment.
fn make_keys(context: &Context, plan: &Plan) -> Result<String, Failure> {
    let keys = plan.folder.join("keys");
    let mut host_line = String::new();
    for (name, comment) in [
        ("host_ed25519", format!("host@{}", plan.instance)),
        ("receipt_ed25519", format!("receipts@{}", plan.instance)),
    ] {
        let path = keys.join(name);
        let beside = keys.join(format!("{name}.pub"));
        if !path.exists() {
            let (private, public) = generate(context, &comment)?;
            write_file(&path, private.as_bytes(), 0o600)?;
            write_file(&beside, public.as_bytes(), 0o600)?;
        }
        if name == "host_ed25519" {
            let line = crate::cli::context::read_text(&beside)?;
            host_line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        }
    }
    let token = keys.join("token.key");
    if !token.exists() {
        let root = Zeroizing::new(context.random::<32>()?);
        let text = Zeroizing::new(format!("{}\n", data_encoding::HEXLOWER.encode(&*root)));
        write_file(&token, text.as_bytes(), 0o600)?;
    }
    Ok(host_line.trim().to_owned())
}

/// A key pair: the private half as OpenSSH writes it, the public line ending in a line feed.
fn generate(context: &Context, comment: &str) -> Result<(Zeroizing<String>, String), Failure> {
    let (private, public) = signing::generate_ed25519(&context.rng, comment).map_err(|why| {
        Failure::new(Exit::Internal, "init.key", "cannot make a key").because(why)
    })?;
    Ok((private, format!("{}\n", public.trim_end())))
}

fn refuse_existing(plan: &Plan) -> Result<(), Failure> {
    if let Some(key_out) = &plan.key_out
        && key_out.exists()
    {
        return Err(
            taken(key_out).hint("name another file with --key-out; keys are never replaced")
        );
    }
    if plan.existing == Existing::Replace {
        return Ok(());
    }
    let folder = &plan.folder;
    let in_the_way = [
        folder.join("sallyport.toml"),
        folder.join("keys/host_ed25519"),
        folder.join("keys/token.key"),
        folder.join("keys/receipt_ed25519"),
        policy_path(plan),
    ]
    .into_iter()
    .find(|path| path.exists());
    match in_the_way {
        Some(path) => Err(taken(&path).hint(
            "choose another DIR, or --force to replace configuration and policy (keys are kept)",
        )),
        None => Ok(()),
    }
}

fn taken(path: &Path) -> Failure {
    Failure::conflict("init.exists", format!("{} exists already", path.display()))
}

fn policy_path(plan: &Plan) -> PathBuf {
    plan.folder
        .join("policies")
        .join(format!("{}.toml", plan.partner))
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| Failure::file("make", path, &error))
}

fn step(path: &Path, bytes: &[u8], mode: u32) -> Step {
    Step {
        path: path.to_owned(),
        bytes: bytes.to_owned(),
        mode,
    }
}

/// The folder's own name.
fn instance_of(folder: &Path) -> Result<InstanceName, BadTerm> {
    let folder = absolute(folder);
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    InstanceName::parse(&name)
}

/// What is to be made, as things lie now.
fn listing(plan: &Plan) -> Vec<Made> {
    let partner = &plan.partner;
    let mut made = vec![made_in(
        plan,
        "sallyport.toml",
        "main config, every key commented",
    )];
    for name in ["host_ed25519", "token.key", "receipt_ed25519"] {
        let what = match name {
            "host_ed25519" => "how clients know this gateway",
            "token.key" => "root of all token keys",
            _receipts => "signs receipts and the audit log",
        };
        let mut key = made_in(plan, &format!("keys/{name}"), what);
        if key.fate == Fate::Replaced {
            key.fate = Fate::Kept;
        }
        made.push(key);
    }
    made.extend([
        made_in(
            plan,
            &format!("policies/{partner}.toml"),
            "from the built-in \"orders\" sample; edit me",
        ),
        made_in(
            plan,
            "policies/README.md",
            "explains the language of policies",
        ),
        made_in(
            plan,
            &format!("policies/{partner}/orders_20261120.csv"),
            "a good sample, for `policy test`",
        ),
        made_in(
            plan,
            &format!("policies/{partner}/orders_20261121.bad.csv"),
            "a bad one",
        ),
        made_in(plan, ".gitignore", "keeps keys/ and state/ out of git"),
    ]);
    if let Some(key_out) = &plan.key_out {
        made.push(Made {
            path: key_out.display().to_string(),
            what: format!("a private key to log in as {partner} with"),
            fate: Fate::Created,
        });
        made.push(made_in(
            plan,
            &format!("partners/{partner}.pub"),
            "its public half: who may log in",
        ));
        made.push(made_in(
            plan,
            "known_hosts",
            "the host key, for `sftp -o UserKnownHostsFile`",
        ));
    }
    made
}

fn made_in(plan: &Plan, path: &str, what: &str) -> Made {
    let path = plan.folder.join(path);
    Made {
        fate: if path.exists() {
            Fate::Replaced
        } else {
            Fate::Created
        },
        path: path.display().to_string(),
        what: what.to_owned(),
    }
}

fn report(context: &mut Context, plan: &Plan, made: &[Made]) -> Result<Exit, Failure> {
    let folder = plan.folder.display();
    let next = if plan.folder == Path::new(".") {
        "sallyport serve".to_owned()
    } else {
        format!("cd {folder} && sallyport serve")
    };
    if context.global.json {
        let paths = |fate: Fate| -> Vec<&String> {
            made.iter()
                .filter(|made| made.fate == fate)
                .map(|made| &made.path)
                .collect()
        };
        context.console.json(&json!({
            "created": paths(Fate::Created),
            "kept": paths(Fate::Kept),
            "replaced": paths(Fate::Replaced),
            "dry_run": context.global.dry_run,
            "next": next,
        }))?;
        return Ok(Exit::Done);
    }
    let lines: Vec<(String, &Made)> = made
        .iter()
        .map(|made| {
            let (done, would) = match made.fate {
                Fate::Created => ("created", "create"),
                Fate::Kept => ("kept", "keep"),
                Fate::Replaced => ("replaced", "replace"),
            };
            let word = context.would(done, would);
            (format!("{word} {}", made.path), made)
        })
        .collect();
    let width = lines.iter().map(|(start, _)| start.chars().count());
    let width = width.max().unwrap_or(0);
    for (start, made) in &lines {
        context
            .console
            .line(&format!("{start:width$}  {}", made.what))?;
    }
    if context.global.dry_run {
        return Ok(Exit::Done);
    }
    context.console.say(&format!(
        "Back up {} and the ledger now: without both, tokens cannot be turned back.\n  more: sallyport help security",
        plan.folder.join("keys/token.key").display()
    ));
    context.console.say(&format!("next: {next}"));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cli::context::tests::context;

    fn plan(folder: &Path) -> Plan {
        Plan {
            folder: folder.join("gw"),
            instance: InstanceName::parse("gw").unwrap(),
            partner: PartnerId::parse("beta").unwrap(),
            store: "./lake".to_owned(),
            key_out: Some(folder.join("beta_key")),
            existing: Existing::Refuse,
        }
    }

    #[test]
    fn everything_a_gateway_needs_is_made_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        let (context, _, _) = context();
        create(&context, &plan).unwrap();
        for (path, mode) in [
            ("gw/keys", 0o700),
            ("gw/keys/host_ed25519", 0o600),
            ("gw/keys/host_ed25519.pub", 0o600),
            ("gw/keys/receipt_ed25519", 0o600),
            ("gw/keys/token.key", 0o600),
            ("gw/sallyport.toml", 0o644),
            ("gw/policies/beta.toml", 0o644),
            ("gw/policies/beta/orders_20261120.csv", 0o644),
            ("gw/policies/beta/orders_20261121.bad.csv", 0o644),
            ("gw/partners/beta.pub", 0o644),
            ("gw/known_hosts", 0o644),
            ("gw/.gitignore", 0o644),
            ("beta_key", 0o600),
            ("beta_key.pub", 0o644),
        ] {
            let found = std::fs::metadata(folder.path().join(path))
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
        }
        let token = std::fs::read_to_string(folder.path().join("gw/keys/token.key")).unwrap();
        assert_eq!(token.trim().len(), 64);
        let known = std::fs::read_to_string(folder.path().join("gw/known_hosts")).unwrap();
        assert!(
            known.starts_with("[127.0.0.1]:2222 ssh-ed25519 AAAA"),
            "{known}"
        );
        let partner = std::fs::read_to_string(folder.path().join("gw/partners/beta.pub")).unwrap();
        assert!(partner.starts_with("ssh-ed25519 AAAA"));
    }

    #[test]
    fn nothing_is_overwritten_and_force_keeps_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let first = plan(folder.path());
        let (context, _, _) = context();
        create(&context, &first).unwrap();
        let token = std::fs::read(folder.path().join("gw/keys/token.key")).unwrap();
        let again = Plan {
            key_out: None,
            ..first.clone()
        };
        let failure = create(&context, &again).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        std::fs::write(
            folder.path().join("gw/sallyport.toml"),
            "instance = \"x\"\n",
        )
        .unwrap();
        let forced = Plan {
            existing: Existing::Replace,
            ..again
        };
        let made = create(&context, &forced).unwrap();
        for made in made {
            let expect = if made.path.contains("/keys/") {
                Fate::Kept
            } else {
                Fate::Replaced
            };
            assert_eq!(made.fate, expect, "{}", made.path);
        }
        let config = std::fs::read_to_string(folder.path().join("gw/sallyport.toml")).unwrap();
        assert!(config.len() > 100);
        assert_eq!(
            std::fs::read(folder.path().join("gw/keys/token.key")).unwrap(),
            token
        );
        let failure = create(
            &context,
            &Plan {
                existing: Existing::Replace,
                ..first
            },
        )
        .unwrap_err();
        assert_eq!(
            failure.exit,
            Exit::Conflict,
            "a client key is never replaced"
        );
    }

    #[test]
    fn the_sample_policy_compiles_for_every_partner() {
        for partner in ["acme", "beta-2"] {
            let partner = PartnerId::parse(partner).unwrap();
            let text = sample_policy(&partner);
            let (policy, warnings) = crate::policy::compile(
                &format!("{partner}.toml"),
                &text,
                &crate::policy::lists::Lists::default(),
            )
            .unwrap();
            assert_eq!(policy.partner, partner);
            assert_eq!(warnings, []);
            assert_eq!(policy.feeds.len(), 1);
            if partner.as_str() != "acme" {
                assert_eq!(policy.name, partner.as_str());
                assert!(!text.to_lowercase().contains("acme"), "{text}");
            }
        }
    }

    #[test]
    fn a_dry_run_makes_nothing_and_says_would() {
        let folder = tempfile::tempdir().unwrap();
        let (mut context, out, err) = context();
        context.global.dry_run = true;
        let arguments = Arguments {
            folder: folder.path().join("gw"),
            partner: "acme".to_owned(),
            store: "./lake".to_owned(),
            ..Arguments::default()
        };
        assert_eq!(run(&mut context, &arguments), Ok(Exit::Done));
        assert!(out.text().starts_with("would create "), "{}", out.text());
        assert!(
            out.text()
                .lines()
                .all(|line| line.starts_with("would create "))
        );
        assert_eq!(err.text(), "");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
