//! Rank 9: the command line. One file per noun; `noun verb`, examples first.
//!
//! stdout is data, stderr is talk. Every command ends in one [`Exit`]; every failure says what,
//! why and what to do, as text or, with `--json`, as a problem document.

pub mod audit;
pub mod config;
pub mod console;
pub mod context;
pub mod demo;
pub mod draft;
pub mod drift;
pub mod exit;
pub mod explain;
pub mod file;
pub mod help;
pub mod init;
pub mod key;
pub mod live;
pub mod partner;
pub mod policy;
pub mod quarantine;
pub mod serve;
pub mod status;
pub mod submission;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::console::{Colour, Console};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::telemetry::Rng;
use crate::terms::clock::Clock;

/// What the process was given: arguments, environment, time.
pub struct Given {
    /// The arguments, the program's name first.
    pub arguments: Vec<OsString>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub rng: Rng,
}

/// sallyport: an SFTP gateway that inspects every file while it arrives
///
/// Partners send files with the SFTP client they have. Each file is checked against its partner's
/// policy while it arrives, sensitive columns are replaced by tokens, and what is good appears in
/// a store: once, whole, or not at all.
#[derive(Debug, Parser)]
#[command(
    name = "sallyport",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 80,
    before_help = "Examples:\n  sallyport demo            play the whole story on this machine\n  sallyport init gw         make a gateway of your own\n  sallyport help clients    what to tell partners"
)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags every verb takes, before or after it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one flag of the command line"
)]
pub struct Global {
    /// Main configuration [default: ./sallyport.toml, then
    /// ~/.config/sallyport/, then /etc/sallyport/]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "SALLYPORT_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Admin socket of the running gateway
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "SALLYPORT_SOCKET",
        hide_env_values = true
    )]
    pub socket: Option<PathBuf>,
    /// Print one JSON document (lists of events: JSON lines)
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but data and failures
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice adds timings
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Change nothing, say what would be done
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,
    /// Answer questions with yes
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Never ask; fail and name the flag
    #[arg(long, global = true)]
    pub no_input: bool,
    /// When to colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub color: Colour,
    /// Why; goes to the audit log
    #[arg(long, global = true, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// The verbs and nouns.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Play the whole story on loopback, check every line, exit
    Demo(demo::Arguments),
    /// Make a configuration, keys and one policy
    Init(init::Arguments),
    /// Run the gateway
    Serve(serve::Arguments),
    /// One screen: what is up, failing, interrupted, expiring
    Status(status::Arguments),
    /// The main configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Who may send
    #[command(subcommand)]
    Partner(partner::Command),
    /// The public keys partners log in with
    #[command(subcommand)]
    Key(key::Command),
    /// What partners may send
    #[command(subcommand)]
    Policy(policy::Command),
    /// Local files
    #[command(subcommand)]
    File(file::Command),
    /// Files that came in
    #[command(subcommand)]
    Submission(submission::Command),
    /// Files that wait for a person to decide
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Who did what, hash-chained
    #[command(subcommand)]
    Audit(audit::Command),
    /// The long form of a code, with an example
    Explain(explain::Arguments),
    /// Completion script for a shell
    Completion(help::CompletionArguments),
    /// Manual pages
    Man(help::ManArguments),
    /// Version of this program
    Version(help::VersionArguments),
    /// Topics, or the help of a command
    Help(help::HelpArguments),
}

/// Runs one command and says how it ended. Everything printed is printed by then.
#[must_use]
pub fn run(given: &Given) -> Exit {
    let env = |name: &str| given.env.get(name).cloned();
    let parsed = command()
        .try_get_matches_from(&given.arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &given.arguments, &env),
    };
    let console = Console::real(cli.global.color, cli.global.quiet, &env);
    let mut context = Context::new(
        cli.global,
        given.env.clone(),
        given.clock.clone(),
        given.rng.clone(),
        console,
    );
    let ending = verb(&mut context, cli.verb).and_then(|exit| {
        context.console.flush()?;
        Ok(exit)
    });
    end(&mut context, ending)
}

/// The whole command tree, for completion, manual pages and help.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what was asked.
///
/// # Errors
/// [`Failure`] with the exit code.
pub fn verb(context: &mut Context, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Demo(arguments) => demo::run(context, &arguments),
        Verb::Init(arguments) => init::run(context, &arguments),
        Verb::Serve(arguments) => serve::run(context, &arguments),
        Verb::Status(arguments) => status::run(context, &arguments),
        Verb::Config(command) => config::run(context, &command),
        Verb::Partner(command) => partner::run(context, &command),
        Verb::Key(command) => key::run(context, &command),
        Verb::Policy(command) => policy::run(context, &command),
        Verb::File(command) => file::run(context, &command),
        Verb::Submission(command) => submission::run(context, &command),
        Verb::Quarantine(command) => quarantine::run(context, &command),
        Verb::Audit(command) => audit::run(context, &command),
        Verb::Explain(arguments) => explain::run(context, &arguments),
        Verb::Completion(arguments) => help::completion(context, &arguments),
        Verb::Man(arguments) => help::man(context, &arguments),
        Verb::Version(arguments) => help::version(context, &arguments),
        Verb::Help(arguments) => help::help(context, &arguments),
    }
}

/// Prints a failure, if it is one, and gives the exit code.
fn end(context: &mut Context, ending: Result<Exit, Failure>) -> Exit {
    match ending {
        Ok(exit) => exit,
        Err(failure) if failure.is_broken_pipe() => Exit::Done,
        Err(failure) => {
            if context.global.json {
                context
                    .console
                    .complain(&format!("{}\n", failure.to_json()));
            } else {
                let text = failure.to_text(context.alphabet());
                let word = format!("error[{}]:", failure.code);
                let painted = context.console.paint_err(&word, console::Paint::Red);
                let painted = text.replacen(&word, &painted, 1);
                context.console.complain(&painted);
            }
            failure.exit
        }
    }
}

/// Help and version go to stdout and are no failure; a misuse goes to stderr.
fn usage(
    error: &clap::Error,
    arguments: &[OsString],
    env: &dyn Fn(&str) -> Option<String>,
) -> Exit {
    use clap::error::ErrorKind;
    let mut console = Console::real(Colour::Auto, false, env);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's enum grows; whatever is neither help nor version is a misuse"
    )]
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            match console.data(error.render().to_string().as_bytes()) {
                Err(failure) if !failure.is_broken_pipe() => failure.exit,
                Ok(()) | Err(_) => Exit::Done,
            }
        }
        _misuse => {
            let text = error.render().to_string();
            if arguments.iter().any(|argument| argument == "--json") {
                let mut lines = text.trim_start_matches("error: ").splitn(2, '\n');
                let failure = Failure {
                    causes: Vec::new(),
                    ..Failure::usage("usage", lines.next().unwrap_or_default())
                };
                let failure = match lines.next().map(str::trim) {
                    Some(rest) if !rest.is_empty() => failure.because(rest),
                    Some(_) | None => failure,
                };
                console.complain(&format!("{}\n", failure.to_json()));
            } else {
                console.complain(&text);
            }
            Exit::Usage
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(command: &clap::Command, path: &str, each: &mut dyn FnMut(&str, &clap::Command)) {
        let path = format!("{path} {}", command.get_name());
        each(path.trim(), command);
        for sub in command.get_subcommands() {
            walk(sub, &path, each);
        }
    }

    #[test]
    fn the_command_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_tree_has_every_verb_of_this_version() {
        let mut paths = Vec::new();
        walk(&command(), "", &mut |path, sub| {
            if !sub.has_subcommands() {
                paths.push(path.trim_start_matches("sallyport ").to_owned());
            }
        });
        for path in [
            "demo",
            "init",
            "serve",
            "status",
            "config check",
            "config show",
            "partner add",
            "partner list",
            "partner show",
            "key add",
            "key list",
            "key revoke",
            "policy check",
            "policy test",
            "file check",
            "submission list",
            "submission show",
            "audit tail",
            "audit verify",
            "explain",
            "completion",
            "man",
            "version",
            "help",
        ] {
            assert!(paths.contains(&path.to_owned()), "{path} is missing");
        }
    }

    #[test]
    fn every_help_starts_with_examples_and_fits_eighty_columns() {
        walk(&command(), "", &mut |path, sub| {
            let mut sub = sub.clone().term_width(80);
            let help = sub.render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{path}: {line}");
            }
            if !sub.has_subcommands() {
                assert!(
                    help.starts_with("Example"),
                    "{path} has no examples:\n{help}"
                );
            }
        });
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in [
            "sallyport --json -c x.toml submission list",
            "sallyport submission list --json -c x.toml",
            "sallyport submission --json list -c x.toml",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json, "{line}");
            assert_eq!(cli.global.config, Some(PathBuf::from("x.toml")), "{line}");
        }
    }

    #[test]
    fn a_misused_command_line_exits_with_two() {
        for line in [
            "sallyport frobnicate",
            "sallyport key add",
            "sallyport --wat",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
