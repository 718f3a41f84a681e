//! `quarantine list|show|get|purge|release|reject`: files that wait for a person, and rows left out of others.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::admin::quarantine::{HeldView, RejectsQuery, RejectsView, ReleaseView, Ruling};
use crate::admin::{self, Request, SubmissionList, SubmissionQuery};
use crate::cli::console::{Paint, Table, grouped};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::partner::parse_time;
use crate::terms::clock::Timestamp;

/// `quarantine ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Held files, newest first
    List(List),
    /// One held file, and what was found in it
    Show(Show),
    /// Fetch the rows that were left out of an accepted file, as they came
    Get(Get),
    /// Destroy the rows that were left out of an accepted file
    Purge(Purge),
    /// Forward a held file; rows with a fault are left out
    Release(Release),
    /// Refuse a held file and destroy its bytes
    Reject(Reject),
}

/// `quarantine list`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport quarantine list\n  sallyport quarantine list --partner acme --json\n  sallyport quarantine list --left-out"
)]
pub struct List {
    /// One partner's
    #[arg(long, value_name = "ID")]
    pub partner: Option<String>,
    /// Accepted files instead, of which rows left out are kept
    #[arg(long)]
    pub left_out: bool,
    /// At most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// `quarantine show ID`
#[derive(Args, Debug, Default)]
#[command(before_help = "Examples:\n  sallyport quarantine show K2V7QX40")]
pub struct Show {
    /// Its id, or any unique end of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// `quarantine get ID`
///
/// Writes NDJSON: the columns, then a line for each row with its number, its line, why it was left out
/// and what it was. It may hold anything that the partner sent: the file gets mode 0600, only root and
/// the gateway's own user may ask, and the reason is recorded.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport quarantine get K2V7QX40 --out rejects.ndjson --reason \"ACME asks which rows, ticket 5513\""
)]
pub struct Get {
    /// The accepted file's id, or any unique end of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Where to; nothing is replaced
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `quarantine purge ID`
///
/// The good rows stay where they were forwarded to.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport quarantine purge K2V7QX40 --reason \"ACME has sent them again\""
)]
pub struct Purge {
    /// The accepted file's id, or any unique end of it
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `quarantine release ID`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport quarantine release K2V7QX40 --reason \"agreed with ACME, ticket 5512\"\n  sallyport quarantine release K2V7QX40 --as-policy 4 --reason \"column is known now\"\n  sallyport quarantine release K2V7QX40 --reason x --dry-run"
)]
pub struct Release {
    /// Its id, or any unique end of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Only under this version of the partner's policy
    #[arg(long, value_name = "N")]
    pub as_policy: Option<u32>,
}

/// `quarantine reject ID`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport quarantine reject K2V7QX40 --reason \"resend without loyalty_tier\""
)]
pub struct Reject {
    /// Its id, or any unique end of it
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Runs the noun.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &mut Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::List(arguments) => list(context, arguments),
        Command::Show(arguments) => show(context, arguments),
        Command::Get(arguments) => get(context, arguments),
        Command::Purge(arguments) => purge(context, arguments),
        Command::Release(arguments) => release(context, arguments),
        Command::Reject(arguments) => reject(context, arguments),
    }
}

fn list(context: &mut Context, arguments: &List) -> Result<Exit, Failure> {
    let query = SubmissionQuery {
        partner: arguments.partner.clone(),
        state: (!arguments.left_out).then(|| "held".to_owned()),
        left_out: arguments.left_out,
        limit: arguments.limit,
        ..SubmissionQuery::default()
    };
    let list: SubmissionList = if arguments.offline {
        context.offline(|ledger, _| async move { admin::submission_list(&ledger, &query).await })?
    } else {
        serde_json::from_value(context.ask(&Request::SubmissionList(query))?)?
    };
    if context.global.json {
        context.console.json(&list)?;
        return Ok(Exit::Done);
    }
    if list.items.is_empty() {
        context.console.say(if arguments.left_out {
            "no rows left out are kept"
        } else {
            "nothing is held"
        });
        return Ok(Exit::Done);
    }
    let now = context.now();
    // Without its configuration, nobody knows how long a gateway waits.
    let ttl = context
        .config()
        .ok()
        .map(|found| found.config.spool.quarantine_ttl_secs);
    let ttl = ttl.and_then(|secs| i64::try_from(secs).ok());
    let end = if arguments.left_out {
        "UNTIL"
    } else {
        "DECIDE BY"
    };
    let mut table = Table::new(&["ID", "SINCE", "PARTNER/FEED", "FILE", ">SIZE", "WHY", end])
        .narrowing(&["FILE", "PARTNER/FEED"], &["SIZE", "SINCE", end]);
    for row in &list.items {
        let plain = |text: String| (text, Paint::Plain);
        let held_at = row.decided_at.as_deref().and_then(parse_time);
        let since = held_at.map_or_else(|| "-".to_owned(), |at| context.console.time(at, now));
        let until = held_at.zip(ttl).map_or_else(
            || "-".to_owned(),
            |(at, secs)| {
                let until: Timestamp = at.plus_micros(secs.saturating_mul(1_000_000));
                until.to_rfc3339().get(..10).unwrap_or_default().to_owned()
            },
        );
        table.painted_row([
            plain(row.short.clone()),
            plain(since),
            plain(format!("{}/{}", row.partner, row.feed)),
            plain(row.file.clone()),
            plain(context.console.size(row.rejects_bytes.unwrap_or(row.bytes))),
            (row.codes.join(" "), Paint::Yellow),
            plain(until),
        ]);
    }
    context.console.table(&table)?;
    Ok(Exit::Done)
}

fn show(context: &mut Context, arguments: &Show) -> Result<Exit, Failure> {
    let id = arguments.id.clone();
    let held: HeldView = if arguments.offline {
        context.offline(|ledger, _| async move { admin::quarantine::show(&ledger, &id).await })?
    } else {
        serde_json::from_value(context.ask(&Request::QuarantineShow { id })?)?
    };
    if context.global.json {
        context.console.json(&held)?;
        return Ok(Exit::Done);
    }
    for line in lines(&held) {
        context.console.line(&line)?;
    }
    let short = &held.submission.short;
    context.console.say(&format!(
        "next: sallyport quarantine release {short} --reason TEXT --dry-run"
    ));
    Ok(Exit::Done)
}

/// A held file in words: what it is, and every finding with its first places.
fn lines(held: &HeldView) -> Vec<String> {
    let row = &held.submission;
    let mut lines = vec![
        format!(
            "{}  {}/{}  {}",
            row.submission, row.partner, row.feed, row.file
        ),
        format!(
            "  held since {}  {} B, {} rows, policy version {}",
            row.decided_at.as_deref().unwrap_or("-"),
            grouped(row.bytes),
            grouped(row.rows),
            row.policy_version
        ),
    ];
    let text = |of: &Value, key: &str| {
        let found = of.get(key).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let array = |of: &Value, key: &str| of.get(key).and_then(Value::as_array).cloned();
    for finding in array(&held.receipt, "errors").unwrap_or_default() {
        let count = finding.get("count").and_then(Value::as_u64).unwrap_or(0);
        let column = match text(&finding, "column") {
            column if column.is_empty() => String::new(),
            column => format!(" in {column}"),
        };
        let times = match count {
            1 => "once".to_owned(),
            count => format!("{} times", grouped(count)),
        };
        lines.push(format!(
            "  {}  {times}{column}: {}",
            text(&finding, "code"),
            text(&finding, "rule")
        ));
        for example in array(&finding, "examples")
            .unwrap_or_default()
            .iter()
            .take(5)
        {
            let number = |key: &str| example.get(key).and_then(Value::as_u64);
            let place = match (number("line"), number("row")) {
                (Some(line), _) => format!("line {line}  "),
                (None, Some(row)) => format!("row {row}  "),
                (None, None) => String::new(),
            };
            let value = match text(example, "value") {
                value if value.is_empty() => String::new(),
                value => format!("\"{value}\": "),
            };
            lines.push(format!("    {place}{value}{}", text(example, "detail")));
        }
    }
    lines
}

fn release(context: &mut Context, arguments: &Release) -> Result<Exit, Failure> {
    let mut ruling = Ruling {
        id: arguments.id.clone(),
        reason: context.global.reason.clone().unwrap_or_default(),
        as_policy: arguments.as_policy,
        dry_run: true,
    };
    let would = ask_release(context, &ruling)?;
    if context.global.dry_run {
        return told(context, &would, "would be released");
    }
    for line in &would.findings {
        context.console.say(line);
    }
    let left_out = match would.rows_left_out {
        0 => "leaves nothing out".to_owned(),
        rows => format!("leaves {} out", counted_rows(rows)),
    };
    context.confirm(&format!(
        "This accepts {} under policy version {}: {}, {left_out}. Release?",
        would.file,
        would.policy_version,
        counted_rows(would.rows),
    ))?;
    ruling.dry_run = false;
    // What was agreed to, and nothing else.
    ruling.as_policy = Some(would.policy_version);
    let done = ask_release(context, &ruling)?;
    told(
        context,
        &done,
        "released: accepted, and on its way to the store",
    )
}

fn ask_release(context: &Context, ruling: &Ruling) -> Result<ReleaseView, Failure> {
    let answer = context.ask(&Request::QuarantineRelease(ruling.clone()))?;
    Ok(serde_json::from_value(answer)?)
}

fn told(context: &mut Context, done: &ReleaseView, what: &str) -> Result<Exit, Failure> {
    if context.global.json {
        context.console.json(done)?;
        return Ok(Exit::Done);
    }
    let left_out = match done.rows_left_out {
        0 => String::new(),
        rows => format!(", {} left out", counted_rows(rows)),
    };
    context.console.line(&format!(
        "{} {what}: {}{left_out}",
        done.file,
        counted_rows(done.rows)
    ))?;
    Ok(Exit::Done)
}

fn reject(context: &mut Context, arguments: &Reject) -> Result<Exit, Failure> {
    let ruling = Ruling {
        id: arguments.id.clone(),
        reason: context.global.reason.clone().unwrap_or_default(),
        as_policy: None,
        dry_run: true,
    };
    context.ask(&Request::QuarantineReject(ruling.clone()))?;
    if !context.global.dry_run {
        context
            .confirm("Rejecting destroys the held bytes; the partner reads the reason. Reject?")?;
        let ruling = Ruling {
            dry_run: false,
            ..ruling
        };
        context.ask(&Request::QuarantineReject(ruling))?;
    }
    let done = context.would(
        "rejected; the reason is in the partner's receipt",
        "reject it",
    );
    if context.global.json {
        let is_dry = context.global.dry_run;
        context
            .console
            .json(&json!({ "rejected": arguments.id, "dry_run": is_dry }))?;
    } else {
        context.console.line(&done)?;
    }
    Ok(Exit::Done)
}

fn get(context: &mut Context, arguments: &Get) -> Result<Exit, Failure> {
    let out = &arguments.out;
    let failed = |error: std::io::Error| Failure::file("write to", out, &error);
    if std::fs::symlink_metadata(out).is_ok() {
        return Err(Failure::conflict(
            "quarantine.exists",
            format!("{} exists already", out.display()),
        )
        .hint("nothing is replaced; give another --out FILE"));
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".sallyport-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(failed)?;
    let mut query = RejectsQuery {
        id: arguments.id.clone(),
        reason: context.global.reason.clone().unwrap_or_default(),
        offset: 0,
    };
    let mut rows: u64 = 0;
    loop {
        let answer = context.ask(&Request::QuarantineGet(query.clone()))?;
        let view: RejectsView = serde_json::from_value(answer)?;
        let piece = BASE64.decode(view.piece.as_bytes()).map_err(|fault| {
            Failure::new(Exit::Internal, "quarantine.answer", fault.to_string())
        })?;
        let lines = memchr::memchr_iter(b'\n', &piece).count();
        rows = rows.saturating_add(u64::try_from(lines).unwrap_or(0));
        file.write_all(&piece).map_err(failed)?;
        let taken = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        query.offset = query.offset.saturating_add(taken);
        if piece.is_empty() || query.offset >= view.total {
            break;
        }
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(out)
        .map_err(|error| failed(error.error))?;
    // The first line names the columns.
    let rows = rows.saturating_sub(1);
    if context.global.json {
        context.console.json(&json!({
            "submission": arguments.id, "file": out, "rows": rows, "bytes": query.offset,
        }))?;
    } else {
        let line = format!("wrote {}: {}", out.display(), counted_rows(rows));
        context.console.line(&line)?;
    }
    Ok(Exit::Done)
}

fn purge(context: &mut Context, arguments: &Purge) -> Result<Exit, Failure> {
    let ruling = Ruling {
        id: arguments.id.clone(),
        reason: context.global.reason.clone().unwrap_or_default(),
        as_policy: None,
        dry_run: true,
    };
    let answer = context.ask(&Request::QuarantinePurge(ruling.clone()))?;
    let bytes: u64 = serde_json::from_value(answer)?;
    if !context.global.dry_run {
        let bytes = grouped(bytes);
        context.confirm(&format!(
            "This destroys {bytes} B of rows left out, which nobody has but their sender. Purge?"
        ))?;
        context.ask(&Request::QuarantinePurge(Ruling {
            dry_run: false,
            ..ruling
        }))?;
    }
    let done = context.would(
        &format!("{} B of rows left out are destroyed", grouped(bytes)),
        "destroy them",
    );
    if context.global.json {
        let is_dry = context.global.dry_run;
        context
            .console
            .json(&json!({ "purged": arguments.id, "bytes": bytes, "dry_run": is_dry }))?;
    } else {
        context.console.line(&done)?;
    }
    Ok(Exit::Done)
}

fn counted_rows(rows: u64) -> String {
    if rows == 1 {
        "1 row".to_owned()
    } else {
        format!("{} rows", grouped(rows))
    }
}
