//! `file check`: a policy's verdict on a local file, by the same inspection the gateway runs.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::console::{Paint, counted};
use crate::cli::context::{Context, mistakes};
use crate::cli::exit::{Exit, Failure};
use crate::cli::partner::{policy_file, policy_of};
use crate::decode::Flow;
use crate::inspect::Line;
use crate::inspect::report::{Report, Sample};
use crate::intake::receipt;
use crate::isolate::decode_apart;
use crate::policy::feed::{Feed, Policy};
use crate::terms::codes::Code;
use crate::terms::digest::{Digest, Hasher};
use crate::terms::ids::{FeedId, PartnerId, SubmissionId};
use crate::terms::limits;
use crate::terms::path::quoted;
use crate::terms::secret::Secret;
use crate::terms::verdict::Verdict;
use crate::tokens::{DomainKey, TokenKeys};

/// `file ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a gateway would say about a file
    Check(Check),
}

/// `file check FILE...`
///
/// Runs the gateway's own inspection, offline, with throw-away keys. Exit 0: accepted; 1: at least
/// one file rejected; 2: a file or the policy cannot be read.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport file check orders_20261121.csv --policy policies/acme.toml\n  sallyport file check *.csv --policy acme --json\n  zcat x.gz | sallyport file check - --name orders_20261121.csv --policy acme"
)]
pub struct Check {
    /// The files; - reads stdin and needs --name
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// A policy file, or the id of a partner of the configuration
    #[arg(long, value_name = "POLICY")]
    pub policy: PathBuf,
    /// The name to pretend; one file only
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The feed; default: the first whose pattern fits the name
    #[arg(long, value_name = "ID")]
    pub feed: Option<String>,
    /// Write what would be delivered here, tokenized with throw-away keys, and rows left out beside it
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What inspection said about one file.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The name the file goes by.
    pub name: String,
    /// Which feed took it; `None`: none did.
    pub feed: Option<Arc<Feed>>,
    /// Bytes as read.
    pub bytes: u64,
    /// Digest of them; `None` when no feed took the file and it was not read.
    pub digest: Option<Digest>,
    /// The findings.
    pub report: Report,
}

/// Runs the noun.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &mut Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Check(arguments) => check(context, arguments),
    }
}

fn check(context: &mut Context, arguments: &Check) -> Result<Exit, Failure> {
    if arguments.name.is_some() && arguments.files.len() > 1 {
        return Err(Failure::usage(
            "file.several-names",
            "--name names one file, and there are several",
        ));
    }
    let policy = find_policy(context, &arguments.policy)?;
    let wanted = match &arguments.feed {
        Some(id) => Some(find_feed(&policy, id)?),
        None => None,
    };
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for path in &arguments.files {
        let name = name_of(path, arguments.name.as_deref())?;
        let feed = wanted.clone().or_else(|| policy.feed_for(&name).cloned());
        let checked = match &arguments.out {
            Some(folder) => check_into(context, path, &name, feed, folder)?,
            None => {
                let input = open(path)?;
                let mut nowhere = (std::io::sink(), std::io::sink());
                inspect(context, input, &name, feed, &mut nowhere.0, &mut nowhere.1)
                    .map_err(|failure| of_path(failure, path))?
            }
        };
        if checked.report.verdict != Verdict::Accepted {
            exit = Exit::NotClean;
        }
        if context.global.json {
            documents.push(document(context, &policy, &checked));
        } else {
            for (line, paint) in lines(&policy, &checked) {
                let line = context.console.paint(&line, paint);
                context.console.line(&line)?;
            }
        }
    }
    if context.global.json {
        match documents.as_slice() {
            [one] => context.console.json(one)?,
            several => context.console.json(&json!({"items": several}))?,
        }
    }
    Ok(exit)
}

/// A path to a policy file, or a partner of the configuration.
fn find_policy(context: &Context, wanted: &Path) -> Result<Policy, Failure> {
    if !wanted.exists()
        && let Some(partner) = wanted.to_str().and_then(|id| PartnerId::parse(id).ok())
    {
        let config = context.config()?.config;
        return Ok(policy_of(&config, &partner)?.1);
    }
    let file = policy_file(wanted.to_owned())?;
    match file.compiled {
        Ok((policy, _)) => Ok(policy),
        Err(found) => Err(mistakes(
            &found,
            "policy.mistakes",
            &format!("{} is not a valid policy", wanted.display()),
        )),
    }
}

fn find_feed(policy: &Policy, id: &str) -> Result<Arc<Feed>, Failure> {
    let parsed =
        FeedId::parse(id).map_err(|error| Failure::usage("file.bad-feed", error.to_string()))?;
    policy.feed(&parsed).cloned().ok_or_else(|| {
        let all: Vec<&str> = policy.feeds.iter().map(|feed| feed.id.as_str()).collect();
        Failure::not_found(
            "file.no-such-feed",
            format!("{} has no feed {id}", policy.partner),
        )
        .hint(format!("it has {}", all.join(", ")))
    })
}

fn name_of(path: &Path, given: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = given {
        return Ok(name.to_owned());
    }
    if path == Path::new("-") {
        return Err(
            Failure::usage("file.no-name", "stdin has no name").hint("--name orders_20261121.csv")
        );
    }
    path.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::usage(
                "file.bad-name",
                format!("{} has no UTF-8 file name", path.display()),
            )
            .hint("give one with --name")
        })
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = std::fs::File::open(path).map_err(|error| Failure::file("read", path, &error))?;
    // A folder opens like a file; only reading it fails, and in words nobody understands.
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(Failure::usage(
            "file.is-directory",
            format!("{} is a directory", path.display()),
        )
        .hint("name the files in it"));
    }
    Ok(Box::new(file))
}

/// A failed read names the file as it was given, not as it would be called on the gateway.
fn of_path(failure: Failure, path: &Path) -> Failure {
    if failure.code == UNREADABLE {
        return Failure {
            message: format!("cannot read {}", path.display()),
            ..failure
        };
    }
    failure
}

/// As [`inspect`], with the output written into a folder; nothing stays there for a rejected file,
/// and nothing that lies there is replaced: it may be the very file that is looked at.
fn check_into(
    context: &mut Context,
    path: &Path,
    name: &str,
    feed: Option<Arc<Feed>>,
    folder: &Path,
) -> Result<Checked, Failure> {
    let target = folder.join(name.replace(['/', '\\', '\0'], "_"));
    let mut beside = target.clone().into_os_string();
    beside.push(".rejects.ndjson");
    let beside = PathBuf::from(beside);
    for path in [&target, &beside] {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(taken(path));
        }
    }
    let input = open(path)?;
    let named = |failure| of_path(failure, path);
    if context.global.dry_run {
        let mut nowhere = (std::io::sink(), std::io::sink());
        let checked =
            inspect(context, input, name, feed, &mut nowhere.0, &mut nowhere.1).map_err(named)?;
        if checked.report.verdict == Verdict::Accepted {
            context
                .console
                .say(&format!("would write {}", target.display()));
        }
        return Ok(checked);
    }
    let as_failure = |error: std::io::Error| Failure::file("write to", folder, &error);
    std::fs::create_dir_all(folder).map_err(as_failure)?;
    let mut out = tempfile::NamedTempFile::new_in(folder).map_err(as_failure)?;
    let mut rejects = tempfile::NamedTempFile::new_in(folder).map_err(as_failure)?;
    let checked = inspect(context, input, name, feed, &mut out, &mut rejects).map_err(named)?;
    if checked.report.verdict == Verdict::Accepted {
        let left_some_out = rejects
            .as_file()
            .metadata()
            .is_ok_and(|file| file.len() > 0);
        let both = [(out, &target, true), (rejects, &beside, left_some_out)];
        for (file, path, _) in both.into_iter().filter(|(_, _, is_wanted)| *is_wanted) {
            file.persist_noclobber(path).map_err(|error| {
                if error.error.kind() == std::io::ErrorKind::AlreadyExists {
                    taken(path)
                } else {
                    as_failure(error.error)
                }
            })?;
            context.console.say(&format!("wrote {}", path.display()));
        }
    }
    Ok(checked)
}

fn taken(target: &Path) -> Failure {
    Failure::conflict(
        "file.exists",
        format!("{} exists already", target.display()),
    )
    .hint("nothing is replaced; give another --out DIR")
}

/// Runs the gateway's inspection over a file, with throw-away keys; the tokenized output goes to
/// `out`, the rows left out of it to `rejects`, sealed by nothing.
///
/// # Errors
/// The file cannot be read, the output not written.
pub fn inspect(
    context: &Context,
    mut input: Box<dyn Read>,
    name: &str,
    feed: Option<Arc<Feed>>,
    out: &mut dyn Write,
    rejects: &mut dyn Write,
) -> Result<Checked, Failure> {
    let Some(feed) = feed else {
        let mut report = Report::default();
        let sample = Sample {
            detail: format!("\"{}\" fits no feed", quoted(name, 80)),
            ..Sample::default()
        };
        report.object(
            Verdict::Rejected,
            Code::NoFeed,
            "a name that fits a feed",
            sample,
        );
        return Ok(Checked {
            name: name.to_owned(),
            feed: None,
            bytes: 0,
            digest: None,
            report,
        });
    };
    let mut keys = TokenKeys::default();
    for domain in feed.contract.domains() {
        let secret = Secret::new(context.random::<32>()?);
        keys.insert(domain, DomainKey { kid: 1, secret });
    }
    let mut line = Line::for_contract(Arc::clone(&feed.contract), &keys, context.random()?)
        .map_err(|fault| Failure::new(Exit::Internal, "file.tokens", fault.to_string()))?;
    // Only the document says it.
    let mut hasher = context.global.json.then(|| Hasher::new(feed.digest));
    let mut buffer = vec![0; limits::INSPECT_BATCH_BYTES];
    let mut made = Vec::new();
    let mut bytes: u64 = 0;
    let columnar = feed.contract.columnar();
    let mut whole = Vec::new();
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::usage(UNREADABLE, format!("cannot read {name}"))
                    .because(error.to_string()));
            }
        };
        let piece = buffer.get(..count).unwrap_or_default();
        bytes = bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if let Some(hasher) = &mut hasher {
            hasher.update(piece);
        }
        let mut written = Ok(());
        line.push_through(piece, &mut made, &mut put_into(out, rejects, &mut written));
        written?;
        if columnar.is_some() {
            whole.extend_from_slice(piece);
        }
    }
    let mut rows = Vec::new();
    // What is something else by its first bytes is not decoded.
    if let Some(shape) = columnar.filter(|_| line.fatal().is_none()) {
        let mut written = Ok(());
        let sheet = shape.sheet.as_deref();
        let result = decode_apart(shape.format, sheet, &whole, &mut |found| {
            let flow = line.decoded(&found, &mut made);
            line.take_rejects(&mut rows);
            if written.is_ok() {
                written = put(&mut made, out, &mut rows, rejects);
            }
            if written.is_ok() { flow } else { Flow::Stop }
        });
        written?;
        let decoder = |fault: std::io::Error| {
            Failure::new(Exit::Internal, "file.decoder", "no decoder could be run")
                .because(fault.to_string())
        };
        line.decoding_ended(&result.map_err(decoder)?, &mut made);
    }
    let mut written = Ok(());
    let mut drain = put_into(out, rejects, &mut written);
    let mut report = line.finish_through(&mut made, &mut drain);
    drop(drain);
    written?;
    if report.has_failed {
        let text = "the output cannot be compressed";
        return Err(Failure::new(Exit::Internal, "file.output", text));
    }
    put(&mut made, out, &mut report.rejects, rejects)?;
    if bytes > feed.bytes_max {
        let sample = Sample {
            detail: format!("{bytes} bytes; the feed takes {}", feed.bytes_max),
            ..Sample::default()
        };
        let rule = format!("at most {} bytes", feed.bytes_max);
        report.object(Verdict::Rejected, Code::LimitExceeded, &rule, sample);
    }
    Ok(Checked {
        name: name.to_owned(),
        feed: Some(feed),
        bytes,
        digest: hasher.map(Hasher::finish),
        report,
    })
}

/// Passes on what inspection makes, until that fails.
fn put_into<'w>(
    out: &'w mut dyn Write,
    rejects: &'w mut dyn Write,
    written: &'w mut std::io::Result<()>,
) -> impl FnMut(&mut Vec<u8>, &mut Vec<u8>) -> Flow + 'w {
    |rows, made| {
        // One that has failed is not forgotten by one that succeeds.
        if written.is_ok() {
            *written = put(made, out, rows, rejects);
        }
        if written.is_ok() {
            Flow::Go
        } else {
            Flow::Stop
        }
    }
}

/// Passes on what inspection has made.
fn put(
    made: &mut Vec<u8>,
    out: &mut dyn Write,
    rows: &mut Vec<u8>,
    rejects: &mut dyn Write,
) -> std::io::Result<()> {
    out.write_all(made)?;
    made.clear();
    rejects.write_all(rows)?;
    rows.clear();
    Ok(())
}

/// The verdict for people.
#[must_use]
pub fn lines(policy: &Policy, checked: &Checked) -> Vec<(String, Paint)> {
    let plain = |text: String| (text, Paint::Plain);
    let report = &checked.report;
    let name = quoted(&checked.name, 120);
    let mut out = Vec::new();
    match &checked.feed {
        None => {
            out.push(plain(name));
            out.push((
                "REJECTED  no-feed: the name fits no feed".to_owned(),
                Paint::Red,
            ));
            for feed in &policy.feeds {
                let like = feed.example.as_deref().unwrap_or(&feed.pattern_text);
                out.push(plain(format!("  {} takes names like {like}", feed.id)));
            }
            return out;
        }
        Some(feed) => {
            let has_trailer = feed.contract.trailer.is_some() && !report.controls.is_empty();
            let trailer = if has_trailer { " + trailer" } else { "" };
            out.push(plain(format!(
                "{name}  feed {}  {} B, {}{trailer}",
                feed.id,
                checked.bytes,
                counted(report.rows, "row")
            )));
        }
    }
    if report.verdict == Verdict::Accepted {
        let rows = report.rows.saturating_sub(report.rows_with_errors);
        let left_out = match report.rows_with_errors {
            0 => String::new(),
            bad => format!(", {bad} left out"),
        };
        out.push((
            format!("ACCEPTED  {}{left_out}", counted(rows, "row")),
            Paint::Green,
        ));
    } else {
        let rows = if report.rows_with_errors == 0 {
            String::new()
        } else {
            format!(" in {}", counted(report.rows_with_errors, "row"))
        };
        out.push((
            format!(
                "{}  {}{rows}",
                report.verdict.as_str().to_uppercase(),
                counted(report.errors_total(), "error")
            ),
            match report.verdict {
                Verdict::Accepted | Verdict::Held => Paint::Yellow,
                Verdict::Rejected => Paint::Red,
            },
        ));
    }
    if !report.findings.is_empty() {
        out.push(plain(String::new()));
        out.extend(
            receipt::finding_lines(&report.findings)
                .into_iter()
                .map(plain),
        );
    }
    let mut tail: Vec<String> = report
        .controls
        .iter()
        .map(|control| format!("  trailer: {}", receipt::control_words(control)))
        .collect();
    if let Some(feed) = &checked.feed {
        let tokenized: Vec<&str> = feed
            .contract
            .schema
            .iter()
            .flat_map(|schema| &schema.columns)
            .filter(|column| column.token.is_some())
            .map(|column| column.name.as_str())
            .collect();
        if !tokenized.is_empty() {
            tail.push(format!("  would tokenize: {}", tokenized.join(", ")));
        }
        if report.verdict == Verdict::Accepted {
            tail.push(format!(
                "  would write: {}",
                object(policy, feed, &checked.name)
            ));
        }
    }
    if !tail.is_empty() {
        out.push(plain(String::new()));
        out.extend(tail.into_iter().map(plain));
    }
    out
}

/// The object's address with a placeholder for the id it would get.
fn object(policy: &Policy, feed: &Feed, name: &str) -> String {
    let id = SubmissionId::from_bytes([0; 16]);
    let key = feed.key.fill(policy, feed, name, id, "<date>");
    format!("{}:{}", feed.store, key.replace(&id.to_string(), "<id>"))
}

/// The verdict as data: the receipt's own document.
fn document(context: &Context, policy: &Policy, checked: &Checked) -> Value {
    receipt::Preview {
        partner: &policy.partner,
        feed: checked.feed.as_ref().map(|feed| &feed.id),
        policy_version: policy.version,
        help: policy.help.as_deref(),
        name: &checked.name,
        bytes: checked.bytes,
        digest: checked.digest,
        checked_at: context.now(),
        report: &checked.report,
    }
    .to_json()
}

const UNREADABLE: &str = "file.unreadable";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use crate::cli::init;

    /// A good file and the policy that takes it, in a folder of their own.
    fn good(folder: &Path) -> (PathBuf, Check) {
        let partner = PartnerId::parse("acme").unwrap();
        let policy = folder.join("acme.toml");
        std::fs::write(&policy, init::sample_policy(&partner)).unwrap();
        let file = folder.join("orders_20261120.csv");
        std::fs::write(&file, init::samples().0).unwrap();
        let arguments = Check {
            files: vec![file.clone()],
            policy,
            out: Some(folder.to_owned()),
            ..Check::default()
        };
        (file, arguments)
    }

    #[test]
    fn the_output_replaces_neither_the_input_nor_any_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, arguments) = good(folder.path());
        let (mut context, _, _) = context();
        let failure = check(&mut context, &arguments).unwrap_err();
        assert_eq!(
            (failure.exit, failure.code.as_str()),
            (Exit::Conflict, "file.exists")
        );
        assert_eq!(std::fs::read_to_string(file).unwrap(), init::samples().0);
    }

    #[test]
    fn the_output_is_named_and_a_dry_run_writes_none() {
        let folder = tempfile::tempdir().unwrap();
        let (_, arguments) = good(folder.path());
        let out = folder.path().join("out");
        let arguments = Check {
            out: Some(out.clone()),
            ..arguments
        };
        let target = out.join("orders_20261120.csv");
        let (mut dry, _, err) = context();
        dry.global.dry_run = true;
        assert_eq!(check(&mut dry, &arguments), Ok(Exit::Done));
        assert_eq!(err.text(), format!("would write {}\n", target.display()));
        assert!(!out.exists());
        let (mut context, _, err) = context();
        assert_eq!(check(&mut context, &arguments), Ok(Exit::Done));
        assert_eq!(err.text(), format!("wrote {}\n", target.display()));
        assert!(target.is_file());
    }

    #[test]
    fn an_empty_file_has_no_trailer_and_a_directory_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, arguments) = good(folder.path());
        let arguments = Check {
            out: None,
            ..arguments
        };
        std::fs::write(&file, "").unwrap();
        let (mut context, out, _) = context();
        assert_eq!(check(&mut context, &arguments), Ok(Exit::NotClean));
        assert!(!out.text().contains("trailer\n"), "{}", out.text());
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let failure = check(&mut context, &arguments).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.message,
            format!("{} is a directory", file.display())
        );
    }

    #[test]
    fn stdin_needs_a_name() {
        assert_eq!(name_of(Path::new("-"), None).unwrap_err().exit, Exit::Usage);
        assert_eq!(name_of(Path::new("-"), Some("x.csv")).unwrap(), "x.csv");
        assert_eq!(name_of(Path::new("/a/b.csv"), None).unwrap(), "b.csv");
    }
}
