//! `config check|show`: the main configuration.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::context::{Context, Found, counted_mistakes, mistakes, read_text};
use crate::cli::exit::{Alphabet, Exit, Failure};
use crate::cli::partner;
use crate::config::{Config, LogFormat};
use crate::gateway;
use crate::policy::mistake::Severity;

/// `config ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look for mistakes; exit 2 when there is one
    #[command(
        before_help = "Examples:\n  sallyport config check\n  sallyport config check --config /etc/sallyport/sallyport.toml --json"
    )]
    Check,
    /// Print what is in force, or the defaults
    Show(Show),
}

/// `config show`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport config show              the file, as it is\n  sallyport config show --effective  what is in force, as JSON\n  sallyport config show --defaults   every key, commented"
)]
pub struct Show {
    /// The commented default configuration
    #[arg(long, conflicts_with = "effective")]
    pub defaults: bool,
    /// What file, environment and defaults make together, as JSON
    #[arg(long)]
    pub effective: bool,
}

/// Runs the noun.
///
/// # Errors
/// Exit 2 with every mistake.
pub fn run(context: &mut Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Check => check(context),
        Command::Show(arguments) => show(context, arguments),
    }
}

/// Checks the configuration and what it names, as a start of the gateway would.
///
/// # Errors
/// Exit 2 with every mistake.
pub fn check(context: &mut Context) -> Result<Exit, Failure> {
    let path = context.config_path()?;
    let text = read_text(&path)?;
    let config = match context.parse_config(&path, &text) {
        Ok(config) => config,
        Err(found) => {
            if context.global.json {
                context.console.json(&found)?;
                return Ok(Exit::Usage);
            }
            let message = format!("{} in {}", counted_mistakes(found.len()), path.display());
            return Err(mistakes(&found, "config.mistakes", &message)
                .hint("`sallyport config show --defaults` prints every key with its default"));
        }
    };
    let found = gateway::check(&config, &context.clock);
    let errors = found
        .iter()
        .filter(|mistake| mistake.severity == Severity::Error)
        .count();
    if context.global.json {
        context.console.json(&found)?;
        return Ok(if errors == 0 { Exit::Done } else { Exit::Usage });
    }
    if errors > 0 {
        let message = format!(
            "{} would keep the gateway of {} from starting",
            counted_mistakes(errors),
            path.display()
        );
        return Err(mistakes(&found, "config.mistakes", &message));
    }
    for warning in &found {
        let shown = match context.alphabet() {
            Alphabet::Ascii => warning.render_ascii(),
            Alphabet::Utf8 => warning.render(),
        };
        context.console.complain(&shown);
    }
    let policies = partner::policy_files(&config.policies)?.len();
    context.console.line(&format!(
        "{}   ok   instance {}, {}",
        path.display(),
        config.instance,
        if policies == 1 {
            "1 policy".to_owned()
        } else {
            format!("{policies} policies")
        }
    ))?;
    match partner::read_keys(&config) {
        Ok((_, bad)) => {
            for bad in bad {
                context.console.warn(&format!("warning: {bad}"));
            }
        }
        Err(failure) => {
            let cause = failure.causes.join(": ");
            context
                .console
                .warn(&format!("warning: {}: {cause}", failure.message));
        }
    }
    Ok(Exit::Done)
}

fn show(context: &mut Context, arguments: &Show) -> Result<Exit, Failure> {
    if arguments.defaults {
        let text = Config::default_text("gw", "./lake");
        context.console.data(text.as_bytes())?;
        return Ok(Exit::Done);
    }
    if arguments.effective || context.global.json {
        let Found { path, config } = context.config()?;
        let document = effective(&path, &config);
        context.console.json(&document)?;
        return Ok(Exit::Done);
    }
    let path = context.config_path()?;
    let text = read_text(&path)?;
    context.console.say(&format!("# {}", path.display()));
    context.console.data(text.as_bytes())?;
    Ok(Exit::Done)
}

/// Paths, never contents: secrets do not stand in the configuration.
fn effective(path: &std::path::Path, config: &Config) -> Value {
    let stores: serde_json::Map<String, Value> = config
        .stores
        .iter()
        .map(|(name, store)| (name.to_string(), json!({"url": store.url})))
        .collect();
    json!({
        "file": path,
        "instance": config.instance.as_str(),
        "policies": config.policies,
        "partners": config.partners,
        "state_dir": config.state_dir,
        "ssh": {
            "listen": config.ssh.listen,
            "host_keys": config.ssh.host_keys,
            "banner": config.ssh.banner,
            "drain_ms": config.ssh.drain_ms,
            "login_grace_ms": config.ssh.login_grace_ms,
            "idle_ms": config.ssh.idle_ms,
            "unauthenticated_per_source": config.ssh.unauthenticated_per_source,
            "unauthenticated": config.ssh.unauthenticated,
            "auth_tries": config.ssh.auth_tries,
        },
        "verdict": {
            "wait_ms": config.verdict.wait_ms,
            "keep_visible_secs": config.verdict.keep_visible_secs,
        },
        "store": stores,
        "spool": {
            "quota_bytes": config.spool.quota_bytes,
            "partial_ttl_secs": config.spool.partial_ttl_secs,
            "quarantine_ttl_secs": config.spool.quarantine_ttl_secs,
            "receipts_ttl_secs": config.spool.receipts_ttl_secs,
        },
        "tokens": {
            "key": config.tokens.key,
            "shared": config.tokens.shared.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "receipts": {"key": config.receipt_key},
        "admin": {"socket": config.admin_socket},
        "metrics": {"listen": config.metrics_listen},
        "log": {
            "format": match config.log.format {
                LogFormat::Auto => "auto",
                LogFormat::Json => "json",
                LogFormat::Text => "text",
            },
            "level": config.log.level,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use crate::cli::init::{Existing, Plan, create};
    use crate::terms::ids::{InstanceName, PartnerId};

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        let (mut context, out, _) = context();
        let arguments = Show {
            defaults: true,
            effective: false,
        };
        assert_eq!(show(&mut context, &arguments), Ok(Exit::Done));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sallyport.toml");
        assert!(context.parse_config(&path, &out.text()).is_ok());
    }

    #[test]
    fn a_misspelt_key_is_exit_two_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sallyport.toml");
        std::fs::write(&path, "instanze = \"gw\"\n").unwrap();
        let (mut context, _, _) = context();
        context.global.config = Some(path);
        let failure = check(&mut context).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.to_text(Alphabet::Utf8).contains("instanze"),
            "{}",
            failure.to_text(Alphabet::Utf8)
        );
    }

    #[test]
    fn whatever_would_stop_a_start_is_found_and_all_of_it_at_once() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (mut context, out, _) = context();
        let gw = folder.path().join("gw");
        let plan = Plan {
            folder: gw.clone(),
            instance: InstanceName::parse("gw").unwrap(),
            partner: PartnerId::parse("acme").unwrap(),
            store: "./lake".to_owned(),
            key_out: None,
            existing: Existing::Refuse,
        };
        create(&context, &plan).unwrap();
        context.global.config = Some(gw.join("sallyport.toml"));
        assert_eq!(check(&mut context), Ok(Exit::Done));
        assert!(out.text().contains("ok   instance gw, 1 policy"));
        assert!(!gw.join("lake").exists(), "a check makes nothing");

        std::fs::write(gw.join("lake"), "a file").unwrap();
        std::fs::write(gw.join("keys/token.key"), "0a0a\n").unwrap();
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(gw.join("keys/receipt_ed25519"), open).unwrap();
        std::fs::remove_file(gw.join("keys/host_ed25519")).unwrap();
        std::fs::write(gw.join("policies/beta.toml"), b"\xff").unwrap();
        let failure = check(&mut context).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let text = failure.to_text(Alphabet::Utf8);
        for part in [
            "64 hexadecimal digits",
            "mode 0644",
            "keys/host_ed25519",
            "[store.lake]",
            "policy.unreadable",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("0a0a"), "{text}");
        context.global.json = true;
        let (console, out, _) = crate::cli::console::Console::captured();
        context.console = console;
        assert_eq!(check(&mut context), Ok(Exit::Usage));
        let found: Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!(found.as_array().unwrap().len(), 5, "{found}");
    }
}
