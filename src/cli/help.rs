//! `help`, `completion`, `man`, `version`: what the program says about itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::command;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::explain;
use crate::terms::codes;

/// `help [TOPIC | COMMAND...]`
///
/// Topics: clients, codes, environment, exit-codes, files, security. Without a topic, the list of
/// commands; with a command, its help.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport help clients\n  sallyport help exit-codes\n  sallyport help key add"
)]
pub struct HelpArguments {
    /// A topic, or a command
    #[arg(value_name = "TOPIC")]
    pub words: Vec<String>,
}

/// `completion SHELL`
#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  sallyport completion bash > /etc/bash_completion.d/sallyport\n  sallyport completion zsh > ~/.zfunc/_sallyport\n  sallyport completion fish > ~/.config/fish/completions/sallyport.fish"
)]
pub struct CompletionArguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Shells with completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// fish
    Fish,
    /// zsh
    Zsh,
}

/// `man [DIR]`
///
/// Prints sallyport(8), or writes it and a page for every command into a folder.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport man | man -l -\n  sallyport man /usr/local/share/man/man8"
)]
pub struct ManArguments {
    /// Where to write all pages; default: the main one to stdout
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// `version`
#[derive(Args, Debug, Default)]
#[command(before_help = "Examples:\n  sallyport version\n  sallyport version --json")]
pub struct VersionArguments {}

const TOPICS: [(&str, &str); 6] = [
    ("clients", CLIENTS),
    ("codes", ""),
    ("environment", ENVIRONMENT),
    ("exit-codes", ""),
    ("files", FILES),
    ("security", SECURITY),
];

/// Runs `help`.
///
/// # Errors
/// Exit 2 for a topic that is none.
pub fn help(context: &mut Context, arguments: &HelpArguments) -> Result<Exit, Failure> {
    let text = match arguments.words.as_slice() {
        [] => {
            let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).collect();
            format!(
                "{}\nTopics: sallyport help {}\n",
                command().render_help(),
                topics.join(" | ")
            )
        }
        [word] if topic(word).is_some() => topic(word).unwrap_or_default(),
        words => command_help(words)?,
    };
    context.console.data(text.as_bytes())?;
    Ok(Exit::Done)
}

/// The text of a topic.
#[must_use]
pub fn topic(name: &str) -> Option<String> {
    let (name, text) = TOPICS.iter().find(|(topic, _)| *topic == name)?;
    Some(match *name {
        "codes" => codes_text(),
        "exit-codes" => exit_codes_text(),
        _written => (*text).to_owned(),
    })
}

fn command_help(words: &[String]) -> Result<String, Failure> {
    let mut current = command();
    current.build();
    for word in words {
        current = current.find_subcommand(word).cloned().ok_or_else(|| {
            let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).collect();
            Failure::usage(
                "help.unknown",
                format!("there is no topic or command {:?}", words.join(" ")),
            )
            .hint(format!("topics are {}", topics.join(", ")))
        })?;
    }
    Ok(current.render_long_help().to_string())
}

fn exit_codes_text() -> String {
    let lines: Vec<String> = Exit::ALL
        .iter()
        .map(|(exit, meaning)| format!("  {:>3}  {meaning}\n", exit.code()))
        .collect();
    format!(
        "Exit codes\n\n{}\nUnknown codes mean failure.\n",
        lines.concat()
    )
}

fn codes_text() -> String {
    let mut text = String::from("Codes; `sallyport explain CODE` says more\n\n");
    for code in explain::all() {
        let first = codes::explain(code)
            .and_then(|long| long.lines().next())
            .and_then(|line| line.split_once(" - "))
            .map_or("", |(_, short)| short);
        text.push_str(format!("  {code:<28}  {first}").trim_end());
        text.push('\n');
    }
    text
}

/// Runs `completion`.
///
/// # Errors
/// The stream's.
pub fn completion(context: &mut Context, arguments: &CompletionArguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let mut tree = command();
    let name = "sallyport";
    match arguments.shell {
        Shell::Bash => {
            clap_complete::generate(clap_complete::Shell::Bash, &mut tree, name, &mut script);
        }
        Shell::Fish => {
            clap_complete::generate(clap_complete::Shell::Fish, &mut tree, name, &mut script);
        }
        Shell::Zsh => {
            clap_complete::generate(clap_complete::Shell::Zsh, &mut tree, name, &mut script);
        }
    }
    context.console.data(&script)?;
    Ok(Exit::Done)
}

/// Runs `man`.
///
/// # Errors
/// The folder cannot be written.
pub fn man(context: &mut Context, arguments: &ManArguments) -> Result<Exit, Failure> {
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command())
            .section("8")
            .render(&mut page)?;
        context.console.data(&page)?;
        return Ok(Exit::Done);
    };
    if context.global.dry_run {
        context
            .console
            .line(&format!("would write pages to {}", folder.display()))?;
        return Ok(Exit::Done);
    }
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))?;
    let mut tree = command();
    tree.build();
    let mut pages = Vec::new();
    collect(&tree, "", &mut pages);
    for (name, page) in &pages {
        let path = folder.join(format!("{name}.8"));
        crate::cli::context::write_file(&path, page, 0o644)?;
    }
    if context.global.json {
        let names: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
        context.console.json(&json!({"pages": names}))?;
    } else {
        context.console.line(&format!(
            "wrote {} pages to {}",
            pages.len(),
            folder.display()
        ))?;
    }
    Ok(Exit::Done)
}

fn collect(command: &clap::Command, prefix: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = if prefix.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{prefix}-{}", command.get_name())
    };
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .section("8");
    if man.render(&mut page).is_ok() {
        pages.push((name.clone(), page));
    }
    for sub in command.get_subcommands() {
        collect(sub, &name, pages);
    }
}

/// Runs `version`.
///
/// # Errors
/// The stream's.
pub fn version(context: &mut Context, _arguments: &VersionArguments) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if context.global.json {
        context
            .console
            .json(&json!({"name": "sallyport", "version": version}))?;
    } else {
        context.console.line(&format!("sallyport {version}"))?;
    }
    Ok(Exit::Done)
}

const CLIENTS: &str = "\
What partners need to know

Every SFTP client works; the verdict is on the client's own screen.

  OpenSSH    sftp -P 2222 -i key acme@gw.example.com
             put orders_20261120.csv inbox/
             scp -P 2222 -i key orders_20261120.csv acme@gw.example.com:inbox/
             (with -O for the old protocol as well)
             ssh -p 2222 -i key acme@gw.example.com sha256sum inbox/FILE
  WinSCP     host gw.example.com, port 2222, user acme, the .ppk key; the text
             behind `Error message from server` is the reason
  FileZilla  sftp://acme@gw.example.com:2222, logon type `Key file`
  lftp       lftp sftp://acme@gw.example.com:2222; shows the reason itself
  curl       curl -T file --key key sftp://acme@gw.example.com:2222/inbox/
             curl reports no refusal at CLOSE; look into /receipts
  rclone     sftp backend; shows the reason itself

Folders
  /inbox     drop files here; write-only
  /outbox    where the policy has one: files to fetch; remove what you have
  /receipts  what became of each file, as .txt and .json, signed
  /test      the same again for trial runs: checked in full, never forwarded
  /help      the rules

What they see
  ACCEPTED   the file is good and durable
  REJECTED   nothing of it was processed; the lines say what to fix; send the
             corrected file under the same name
  RECEIVED   checking takes longer; the verdict comes to /receipts
  TRY LATER  nothing is wrong with the file

A connection that breaks before the end submits nothing; most clients can
resume (sftp: reput). With `sftp`, use -b FILE in scripts: fed on stdin it
exits 0 whatever happens.
";

const ENVIRONMENT: &str = "\
Environment

  SALLYPORT_CONFIG       main configuration, as --config
  SALLYPORT_SOCKET       admin socket, as --socket
  CREDENTIALS_DIRECTORY  where `cred:NAME` in the configuration looks; systemd
                         sets it for the service. Elsewhere: keys/ beside the
                         configuration
  STATE_DIRECTORY        state_dir where the configuration has none; systemd
                         sets it
  XDG_CONFIG_HOME        where sallyport/sallyport.toml is looked for
  NO_COLOR, TERM=dumb    no colours
  COLUMNS                width of tables on a terminal
  LISTEN_FDS, LISTEN_FDNAMES, NOTIFY_SOCKET, WATCHDOG_USEC
                         systemd's socket activation, readiness and watchdog

A flag wins over the environment, the environment over the file, the file over
the default. Secrets are never read from the environment.
";

const FILES: &str = "\
Files

  sallyport.toml           main configuration; no secrets
  policies/<id>.toml       one policy a partner; watched, last good one stays
  policies/<id>/           its samples, for `policy test`
  partners/<id>.pub        keys that may log in as <id>, authorized_keys format;
                           watched
  keys/                    0700; each file 0600
    host_ed25519, .pub     SSH host key
    token.key              root of all token keys; 32 bytes, hexadecimal
    receipt_ed25519, .pub  signs receipts and heads of the audit chain
  state/                   state_dir
    state.db, -wal         the ledger: submissions, receipts, audit
    spool/                 sealed files in flight
    admin.sock             where `sallyport status` and others ask

Looked for in this order: --config, ./sallyport.toml,
$XDG_CONFIG_HOME/sallyport/sallyport.toml, /etc/sallyport/sallyport.toml.
";

const SECURITY: &str = "\
Security

  - Back up keys/token.key and the ledger. Without both, tokens of old and new
    files no longer match; without token.key, files in flight are lost too.
  - keys/ holds the private halves. No file in it may be readable by others;
    `serve` refuses to start otherwise. Under systemd they come as credentials.
  - Partners send public keys. Read the fingerprint back over a second channel
    before `key add`; never accept a private key.
  - `key revoke` acts on live sessions at once, and needs a --reason.
  - Raw bytes are sealed as they arrive and their key is destroyed with the
    verdict. Values of sensitive columns are shown as their shape only, in
    receipts, logs and errors.
  - Receipts and audit heads are sshsig signatures (namespaces
    sallyport-receipt and sallyport-audit): ssh-keygen -Y verify checks them.
  - `audit verify` reads the whole chain and names the first bad record.
  - The admin socket's file mode decides who may ask; the audit log has the
    Unix user.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;

    fn output(words: &[&str]) -> String {
        let (mut context, out, _) = context();
        let arguments = HelpArguments {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        assert_eq!(help(&mut context, &arguments), Ok(Exit::Done));
        out.text()
    }

    #[test]
    fn every_topic_fits_eighty_columns() {
        for (name, _) in TOPICS {
            let text = output(&[name]);
            assert!(text.lines().count() > 3, "{name}");
            if name != "codes" {
                for line in text.lines() {
                    assert!(line.chars().count() <= 80, "{name}: {line}");
                }
            }
        }
    }

    #[test]
    fn help_knows_topics_commands_and_says_so_otherwise() {
        assert!(output(&[]).contains("Topics: sallyport help clients | codes"));
        assert!(output(&["key", "add"]).contains("sallyport key add acme"));
        assert!(output(&["exit-codes"]).contains("130  interrupted"));
        assert!(output(&["codes"]).contains("missing-cell"));
        let (mut context, _, _) = context();
        let arguments = HelpArguments {
            words: vec!["cooking".to_owned()],
        };
        let failure = help(&mut context, &arguments).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hint.unwrap().contains("clients"));
    }

    #[test]
    fn completion_scripts_know_the_verbs() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let (mut context, out, _) = context();
            completion(&mut context, &CompletionArguments { shell }).unwrap();
            for word in ["submission", "revoke", "dry-run"] {
                assert!(out.text().contains(word), "{shell:?} lacks {word}");
            }
        }
    }

    #[test]
    fn manual_pages_are_written_for_every_command() {
        let (mut plain, out, _) = context();
        man(&mut plain, &ManArguments::default()).unwrap();
        assert!(out.text().contains(".TH sallyport 8"), "{}", out.text());
        let folder = tempfile::tempdir().unwrap();
        let (mut context, _, _) = context();
        let arguments = ManArguments {
            folder: Some(folder.path().to_owned()),
        };
        man(&mut context, &arguments).unwrap();
        for page in ["sallyport.8", "sallyport-key-add.8", "sallyport-serve.8"] {
            assert!(folder.path().join(page).is_file(), "{page}");
        }
    }
}
