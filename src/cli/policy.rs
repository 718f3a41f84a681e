//! `policy check|drift|new|test`: policies as files, checked whole and tested against their own samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::console::{Paint, counted};
use crate::cli::context::{Context, mistakes, read_text};
use crate::cli::draft;
use crate::cli::drift;
use crate::cli::exit::{Alphabet, Exit, Failure};
use crate::cli::file::inspect;
use crate::cli::partner::{PolicyFile, policy_file, policy_files, policy_of};
use crate::config::Config;
use crate::inspect::report::Report;
use crate::intake::receipt;
use crate::policy::feed::{Feed, FeedTest, Policy};
use crate::policy::mistake::{Mistake, Severity};
use crate::reload::unknown_stores;
use crate::terms::codes;
use crate::terms::ids::PartnerId;

/// `policy ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look for mistakes, all of them at once; exit 2 when there is one
    Check(Check),
    /// What has changed in partners' files; `approve` adopts it
    Drift(drift::Drifts),
    /// Draft a feed from samples of its files
    New(draft::New),
    /// Run the [[feed.test]] samples; exit 1 when one goes otherwise
    Test(Test),
}

/// `policy check [FILE...]`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport policy check\n  sallyport policy check policies/acme.toml\n  sallyport policy check --deny-warnings --json"
)]
pub struct Check {
    /// Policy files; default: all of the configuration's folder
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Exit 1 when there is a warning
    #[arg(long)]
    pub deny_warnings: bool,
}

/// `policy test [PARTNER...]`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport policy test\n  sallyport policy test acme\n  sallyport policy test policies/acme.toml"
)]
pub struct Test {
    /// Partners or policy files; default: all
    #[arg(value_name = "PARTNER")]
    pub which: Vec<PathBuf>,
}

/// How one test went.
struct Outcome {
    feed: String,
    file: String,
    expected: &'static str,
    found: String,
    codes: Vec<String>,
    passed: bool,
    why: Vec<String>,
}

/// Runs the noun.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &mut Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Check(arguments) => check(context, arguments),
        Command::Drift(arguments) => drift::run(context, arguments),
        Command::New(arguments) => draft::run(context, arguments),
        Command::Test(arguments) => test(context, arguments),
    }
}

fn check(context: &mut Context, arguments: &Check) -> Result<Exit, Failure> {
    let config = if arguments.files.is_empty() {
        Some(context.config()?.config)
    } else {
        context.config().ok().map(|found| found.config)
    };
    let mut files = match (&config, arguments.files.as_slice()) {
        (Some(config), []) => policy_files(&config.policies)?,
        (None | Some(_), some) => some
            .iter()
            .map(|path| policy_file(path.clone()))
            .collect::<Result<_, _>>()?,
    };
    cross_check(&mut files, config.as_ref())?;
    warn_of_loose_matches(&mut files);
    let mut feeds: usize = 0;
    let mut found: Vec<Mistake> = Vec::new();
    for file in &files {
        let name = short_name(&file.path);
        let mut own: Vec<Mistake> = match &file.compiled {
            Ok((_, warnings)) => warnings.clone(),
            Err(mistakes) => mistakes.clone(),
        };
        let errors = count(&own, Severity::Error);
        let line = match &file.compiled {
            Ok((policy, _)) if errors == 0 => {
                feeds += policy.feeds.len();
                let tests: usize = policy.feeds.iter().map(|feed| feed.tests.len()).sum();
                let word = if own.is_empty() { "ok  " } else { "warn" };
                format!(
                    "{name}   {word} {}, {}",
                    counted(to_u64(policy.feeds.len()), "feed"),
                    counted(to_u64(tests), "test")
                )
            }
            Ok(_) | Err(_) => format!("{name}   FAIL {}", counted(to_u64(errors), "error")),
        };
        if !context.global.json {
            let paint = match (errors, own.is_empty()) {
                (0, true) => Paint::Plain,
                (0, false) => Paint::Yellow,
                (_, _) => Paint::Red,
            };
            let line = context.console.paint(&line, paint);
            context.console.line(&line)?;
        }
        found.append(&mut own);
    }
    let errors = count(&found, Severity::Error);
    let warnings = count(&found, Severity::Warning);
    let summary = format!(
        "{} in {}, {}, {}",
        counted(to_u64(feeds), "feed"),
        counted(to_u64(files.len()), "file"),
        counted(to_u64(errors), "error"),
        counted(to_u64(warnings), "warning")
    );
    if context.global.json {
        context.console.json(&found)?;
        return Ok(if errors > 0 {
            Exit::Usage
        } else if warnings > 0 && arguments.deny_warnings {
            Exit::NotClean
        } else {
            Exit::Done
        });
    }
    if errors > 0 {
        return Err(mistakes(&found, "policy.mistakes", &summary)
            .hint("a running gateway keeps the last good version of a policy with mistakes"));
    }
    for warning in &found {
        let shown = match context.alphabet() {
            Alphabet::Ascii => warning.render_ascii(),
            Alphabet::Utf8 => warning.render(),
        };
        context.console.complain(&shown);
    }
    context.console.line(&summary)?;
    if warnings > 0 && arguments.deny_warnings {
        return Ok(Exit::NotClean);
    }
    Ok(Exit::Done)
}

/// What no file can know alone: stores the configuration lacks.
fn cross_check(files: &mut [PolicyFile], config: Option<&Config>) -> Result<(), Failure> {
    let Some(config) = config else {
        return Ok(());
    };
    let stores = config.stores.keys().cloned().collect();
    for file in files {
        let Ok((policy, _)) = &file.compiled else {
            continue;
        };
        let text = read_text(&file.path)?;
        let name = file.path.display().to_string();
        let found = unknown_stores(&name, &text, policy, &stores);
        if !found.is_empty() {
            file.compiled = Err(found);
        }
    }
    Ok(())
}

/// Patterns whose last dot is any character: right for the files at hand, and for others too.
fn warn_of_loose_matches(files: &mut [PolicyFile]) {
    for file in files {
        let Ok((policy, warnings)) = &mut file.compiled else {
            continue;
        };
        let name = file.path.display().to_string();
        for feed in policy
            .feeds
            .iter()
            .filter(|feed| is_loose(&feed.pattern_text))
        {
            let message = format!(
                "`match` of feed \"{}\" takes any character for the dot before the ending; write \\.",
                feed.id
            );
            warnings.push(Mistake::without_place(
                codes::POLICY_LOOSE_MATCH,
                Severity::Warning,
                &name,
                message,
            ));
        }
    }
}

/// Ends in a bare dot and two to five letters or digits.
fn is_loose(pattern: &str) -> bool {
    let Some((before, ending)) = pattern.rsplit_once('.') else {
        return false;
    };
    (2..=5).contains(&ending.len())
        && ending.bytes().all(|b| b.is_ascii_alphanumeric())
        && !before.ends_with(['\\', '['])
}

fn test(context: &mut Context, arguments: &Test) -> Result<Exit, Failure> {
    let mut policies: Vec<(PathBuf, Policy)> = Vec::new();
    if arguments.which.is_empty() {
        let config = context.config()?.config;
        for file in policy_files(&config.policies)? {
            policies.push(usable(file)?);
        }
    }
    for which in &arguments.which {
        let partner = which.to_str().and_then(|id| PartnerId::parse(id).ok());
        match partner {
            Some(partner) if !which.is_file() => {
                policies.push(policy_of(&context.config()?.config, &partner)?);
            }
            Some(_) | None => policies.push(usable(policy_file(which.clone())?)?),
        }
    }
    let mut outcomes = Vec::new();
    for (path, policy) in &policies {
        let folder = path.parent().unwrap_or(Path::new("."));
        for feed in &policy.feeds {
            for test in &feed.tests {
                outcomes.push(run_test(context, folder, feed, test)?);
            }
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let exit = if failed == 0 {
        Exit::Done
    } else {
        Exit::NotClean
    };
    if context.global.json {
        let items: Vec<_> = outcomes
            .iter()
            .map(|outcome| {
                json!({
                    "feed": outcome.feed,
                    "file": outcome.file,
                    "expected": outcome.expected,
                    "found": outcome.found,
                    "codes": outcome.codes,
                    "passed": outcome.passed,
                })
            })
            .collect();
        context
            .console
            .json(&json!({"items": items, "failed": failed}))?;
        return Ok(exit);
    }
    print(context, &outcomes)?;
    context.console.line(&format!(
        "{} passed, {failed} failed",
        outcomes.len() - failed
    ))?;
    if outcomes.is_empty() {
        context.console.say(
            "no policy has a [[feed.test]]; one good and one bad sample make a policy safe to edit",
        );
    }
    Ok(exit)
}

fn print(context: &mut Context, outcomes: &[Outcome]) -> Result<(), Failure> {
    let width = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).max().unwrap_or(0);
    let feed_width = width(|outcome| outcome.feed.chars().count());
    let file_width = width(|outcome| outcome.file.chars().count());
    let verdicts: Vec<String> = outcomes
        .iter()
        .map(|outcome| {
            let mut words = vec![outcome.found.clone()];
            words.extend(outcome.codes.iter().cloned());
            if !outcome.passed {
                words.push(format!(" expected {}", outcome.expected));
            }
            words.join(" ")
        })
        .collect();
    let verdict_width = verdicts
        .iter()
        .map(|v| v.chars().count())
        .max()
        .unwrap_or(0);
    for (outcome, verdict) in outcomes.iter().zip(&verdicts) {
        let (word, paint) = if outcome.passed {
            ("ok", Paint::Green)
        } else {
            ("FAIL", Paint::Red)
        };
        let word = context.console.paint(word, paint);
        context.console.line(&format!(
            "{:feed_width$}  {:file_width$}  {verdict:verdict_width$}  {word}",
            outcome.feed, outcome.file
        ))?;
        for line in &outcome.why {
            context.console.line(&format!("{:feed_width$}{line}", ""))?;
        }
    }
    Ok(())
}

fn run_test(
    context: &Context,
    folder: &Path,
    feed: &Arc<Feed>,
    test: &FeedTest,
) -> Result<Outcome, Failure> {
    let path = folder.join(&test.file);
    let expected = test.expect.as_str();
    let mut outcome = Outcome {
        feed: feed.id.to_string(),
        file: test.file.clone(),
        expected,
        found: String::new(),
        codes: Vec::new(),
        passed: false,
        why: Vec::new(),
    };
    let input = match std::fs::File::open(&path) {
        Ok(file) => Box::new(file),
        Err(error) => {
            "unreadable".clone_into(&mut outcome.found);
            outcome.why = vec![format!("  {}: {error}", path.display())];
            return Ok(outcome);
        }
    };
    let own = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = test.name.clone().unwrap_or(own);
    let takes = feed.pattern.is_match(&name).then(|| Arc::clone(feed));
    let checked = inspect(
        context,
        input,
        &name,
        takes,
        &mut std::io::sink(),
        &mut std::io::sink(),
    )?;
    outcome.codes = codes_of(&checked.report);
    let verdict = checked.report.verdict;
    verdict.as_str().clone_into(&mut outcome.found);
    let as_expected = verdict == test.expect;
    let mut wanted = test.codes.clone();
    wanted.sort();
    wanted.dedup();
    let codes_fit = wanted.is_empty() || wanted == outcome.codes;
    outcome.passed = as_expected && codes_fit;
    if !as_expected {
        outcome.why = receipt::finding_lines(&checked.report.findings);
    } else if !codes_fit {
        outcome.why = vec![format!("  expected the codes {}", wanted.join(" "))];
    }
    Ok(outcome)
}

/// The codes of a report's errors, sorted, each once.
fn codes_of(report: &Report) -> Vec<String> {
    let mut codes: Vec<String> = report
        .errors()
        .map(|finding| finding.code.to_string())
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

fn usable(file: PolicyFile) -> Result<(PathBuf, Policy), Failure> {
    match file.compiled {
        Ok((policy, _)) => Ok((file.path, policy)),
        Err(found) => Err(mistakes(
            &found,
            "policy.mistakes",
            &format!("{} is not a valid policy", file.path.display()),
        )),
    }
}

fn short_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn count(found: &[Mistake], severity: Severity) -> usize {
    found
        .iter()
        .filter(|mistake| mistake.severity == severity)
        .count()
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use crate::cli::init::{Existing, Plan, create};
    use crate::terms::ids::InstanceName;

    fn made(folder: &Path) -> (Context, crate::cli::console::Captured) {
        let (mut context, out, _) = context();
        let plan = Plan {
            folder: folder.join("gw"),
            instance: InstanceName::parse("gw").unwrap(),
            partner: PartnerId::parse("acme").unwrap(),
            store: "./lake".to_owned(),
            key_out: None,
            existing: Existing::Refuse,
        };
        create(&context, &plan).unwrap();
        context.global.config = Some(folder.join("gw/sallyport.toml"));
        (context, out)
    }

    #[test]
    fn a_bare_dot_before_the_ending_is_loose() {
        for (pattern, expect) in [
            (r"orders_\d+.csv", true),
            (r"orders_\d+\.csv", false),
            (r"orders_\d+[.]csv", false),
            (r"orders_.*", false),
            (r"orders_(\d+)\.csv(\.gz)?", false),
        ] {
            assert_eq!(is_loose(pattern), expect, "{pattern}");
        }
    }

    #[test]
    fn the_shipped_policy_is_clean() {
        let folder = tempfile::tempdir().unwrap();
        let (mut context, out) = made(folder.path());
        assert_eq!(check(&mut context, &Check::default()), Ok(Exit::Done));
        assert!(
            out.text().contains("acme.toml   ok   1 feed, "),
            "{}",
            out.text()
        );
        assert!(
            out.text()
                .ends_with("1 feed in 1 file, 0 errors, 0 warnings\n")
        );
    }

    #[test]
    fn the_shipped_samples_behave_as_the_policy_says() {
        let folder = tempfile::tempdir().unwrap();
        let (mut context, out) = made(folder.path());
        assert_eq!(
            test(&mut context, &Test::default()),
            Ok(Exit::Done),
            "{}",
            out.text()
        );
        assert!(out.text().contains(" passed, 0 failed"));
    }

    #[test]
    fn a_store_the_configuration_lacks_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let (mut context, _) = made(folder.path());
        let policy = folder.path().join("gw/policies/acme.toml");
        let text = std::fs::read_to_string(&policy).unwrap();
        std::fs::write(&policy, text.replace("\"lake\"", "\"pond\"")).unwrap();
        let failure = check(&mut context, &Check::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.to_text(Alphabet::Utf8).contains("no store `pond`"),
            "{}",
            failure.to_text(Alphabet::Utf8)
        );
    }

    #[test]
    fn a_sample_that_is_gone_is_a_failed_test() {
        let folder = tempfile::tempdir().unwrap();
        let (mut context, out) = made(folder.path());
        std::fs::remove_file(folder.path().join("gw/policies/acme/orders_20261120.csv")).unwrap();
        assert_eq!(test(&mut context, &Test::default()), Ok(Exit::NotClean));
        assert!(out.text().contains("unreadable"), "{}", out.text());
    }
}
