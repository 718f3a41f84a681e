//! `submission list|show`: files that came in.

use clap::{Args, Subcommand};

use crate::admin::{self, Request, SubmissionList, SubmissionQuery, SubmissionView};
use crate::cli::console::{Paint, Table, grouped};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::key::parse_span;
use crate::cli::partner::{self, parse_time};
use crate::terms::clock::Timestamp;
use crate::terms::ids::PartnerId;
use crate::terms::path::quoted;

/// `submission ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Newest first
    List(List),
    /// One file's life, step by step
    Show(Show),
}

/// `submission list`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport submission list\n  sallyport submission list --partner acme --since 24h --verdict rejected\n  sallyport submission list --code missing-cell --json"
)]
pub struct List {
    /// One partner's
    #[arg(long, value_name = "ID")]
    pub partner: Option<String>,
    /// One feed's
    #[arg(long, value_name = "ID")]
    pub feed: Option<String>,
    /// In this state, as in delivered or failing
    #[arg(long)]
    pub state: Option<String>,
    /// accepted, held or rejected
    #[arg(long)]
    pub verdict: Option<String>,
    /// With this finding, as in missing-cell
    #[arg(long)]
    pub code: Option<String>,
    /// Whose name contains this, or fits it where it has *
    #[arg(long, value_name = "GLOB")]
    pub file: Option<String>,
    /// Within this time (24h), or since a day or moment (2026-11-20)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// At most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// The page behind this submission, as the page before says at its end
    #[arg(long, value_name = "ID")]
    pub cursor: Option<String>,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// `submission show ID`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport submission show 1X0YHC7Q\n  sallyport submission show sub_01KB3Q8Z5N6V7M2T4R9W1X0YHC --json"
)]
pub struct Show {
    /// Its id, or any unique end of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// Runs the noun.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &mut Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::List(arguments) => list(context, arguments),
        Command::Show(arguments) => show(context, arguments),
    }
}

fn list(context: &mut Context, arguments: &List) -> Result<Exit, Failure> {
    let now = context.now();
    let since = arguments
        .since
        .as_deref()
        .map(|text| parse_since(text, now))
        .transpose()?;
    let query = SubmissionQuery {
        partner: arguments.partner.clone(),
        feed: arguments.feed.clone(),
        state: arguments.state.clone(),
        verdict: arguments.verdict.clone(),
        left_out: false,
        code: arguments.code.clone(),
        file: arguments.file.clone(),
        since_micros: since.map(Timestamp::as_micros),
        cursor: arguments.cursor.clone(),
        limit: arguments.limit,
    };
    let list = ask(context, arguments.offline, query)?;
    if list.items.is_empty() {
        refuse_unknown_partner(context, arguments)?;
    }
    if context.global.json {
        context.console.json(&list)?;
        return Ok(Exit::Done);
    }
    if list.items.is_empty() {
        context.console.say("no submissions fit");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        "ID",
        "RECEIVED",
        "PARTNER/FEED",
        "FILE",
        ">SIZE",
        ">ROWS",
        "VERDICT",
        "STATE",
        ">TOOK",
    ])
    .narrowing(
        &["FILE", "PARTNER/FEED"],
        &["TOOK", "ROWS", "SIZE", "RECEIVED"],
    );
    for row in &list.items {
        let plain = |text: String| (text, Paint::Plain);
        let opened = parse_time(&row.opened_at)
            .map_or_else(|| row.opened_at.clone(), |at| context.console.time(at, now));
        let (state, state_paint) = match (row.state.as_str(), row.verdict.as_deref()) {
            ("rejected", _) => ("-".to_owned(), Paint::Plain),
            ("held", _) => ("waiting".to_owned(), Paint::Yellow),
            ("failing", _) => (row.state.clone(), Paint::Red),
            ("interrupted", _) => (row.state.clone(), Paint::Yellow),
            (_, _) => (row.state.clone(), Paint::Plain),
        };
        table.painted_row([
            plain(row.short.clone()),
            plain(opened),
            plain(format!("{}/{}", row.partner, row.feed)),
            plain(row.file.clone()),
            plain(context.console.size(row.bytes)),
            plain(if context.console.is_for_people() {
                grouped(row.rows)
            } else {
                row.rows.to_string()
            }),
            verdict_cell(row),
            (state, state_paint),
            plain(took(row)),
        ]);
    }
    context.console.table(&table)?;
    if let Some(next) = &list.next {
        let short = next.get(next.len().saturating_sub(8)..).unwrap_or(next);
        context.console.say(&format!("more: add --cursor {short}"));
    }
    Ok(Exit::Done)
}

fn ask(
    context: &Context,
    offline: bool,
    query: SubmissionQuery,
) -> Result<SubmissionList, Failure> {
    if offline {
        return context
            .offline(|ledger, _| async move { admin::submission_list(&ledger, &query).await });
    }
    let answer = context.ask(&Request::SubmissionList(query))?;
    Ok(serde_json::from_value(answer)?)
}

/// Nothing found is one thing, a partner nobody has ever heard of another.
fn refuse_unknown_partner(context: &Context, arguments: &List) -> Result<(), Failure> {
    let Some(wanted) = &arguments.partner else {
        return Ok(());
    };
    let (Ok(partner), Ok(found)) = (PartnerId::parse(wanted), context.config()) else {
        return Ok(());
    };
    let Err(failure) = partner::refuse_unknown(&found.config, &partner) else {
        return Ok(());
    };
    let any = SubmissionQuery {
        partner: arguments.partner.clone(),
        limit: 1,
        ..SubmissionQuery::default()
    };
    if ask(context, arguments.offline, any)?.items.is_empty() {
        return Err(failure);
    }
    Ok(())
}

fn verdict_cell(row: &SubmissionView) -> (String, Paint) {
    match row.verdict.as_deref() {
        Some("accepted") => ("accepted".to_owned(), Paint::Green),
        Some("held") => ("held".to_owned(), Paint::Yellow),
        Some("rejected") => ("rejected".to_owned(), Paint::Red),
        Some(other) => (other.to_owned(), Paint::Plain),
        None => ("-".to_owned(), Paint::Plain),
    }
}

/// From the last byte to the verdict.
fn took(row: &SubmissionView) -> String {
    let at = |text: &Option<String>| text.as_deref().and_then(parse_time);
    match (at(&row.received_at), at(&row.decided_at)) {
        (Some(received), Some(decided)) => span(decided.micros_since(received)),
        (None, _) | (Some(_), None) => "-".to_owned(),
    }
}

fn span(micros: i64) -> String {
    let millis = micros.max(0) / 1000;
    if millis < 1000 {
        format!("{millis}ms")
    } else {
        format!("{}.{}s", millis / 1000, millis % 1000 / 100)
    }
}

fn show(context: &mut Context, arguments: &Show) -> Result<Exit, Failure> {
    let row: SubmissionView = if arguments.offline {
        let id = arguments.id.clone();
        context.offline(|ledger, _| async move { admin::submission_show(&ledger, &id).await })?
    } else {
        serde_json::from_value(context.ask(&Request::SubmissionShow {
            id: arguments.id.clone(),
        })?)?
    };
    if context.global.json {
        context.console.json(&row)?;
        return Ok(Exit::Done);
    }
    for (text, paint) in timeline(&row) {
        let text = context.console.paint(&text, paint);
        context.console.line(&text)?;
    }
    Ok(Exit::Done)
}

/// One file's life, a line a step.
fn timeline(row: &SubmissionView) -> Vec<(String, Paint)> {
    let plain = |text: String| (text, Paint::Plain);
    let mut lines = vec![plain(format!(
        "{}  {}/{}  {}",
        row.submission, row.partner, row.feed, row.file
    ))];
    let day = row.opened_at.get(..10).unwrap_or_default();
    lines.push(plain(format!("  {day}, times in UTC")));
    lines.push(plain(step(
        &row.opened_at,
        "opened",
        &format!(
            "{} {} {} key {}",
            row.channel, row.client_address, row.client, row.key
        ),
    )));
    if let Some(at) = &row.received_at {
        let digest = match (&row.sha256, &row.blake3) {
            (Some(sha256), _) => format!("sha256 {sha256}"),
            (None, Some(blake3)) => format!("blake3 {blake3}"),
            (None, None) => "no digest".to_owned(),
        };
        lines.push(plain(step(
            at,
            "received",
            &format!("{} B  {digest}", grouped(row.bytes)),
        )));
    }
    if let Some(at) = &row.decided_at {
        lines.push(plain(step(
            at,
            "checked",
            &format!(
                "policy v{}, {} rows, {} errors",
                row.policy_version,
                grouped(row.rows),
                grouped(row.errors)
            ),
        )));
        match row.verdict.as_deref() {
            Some("accepted") => {
                let waited = took(row);
                let detail = match &row.known_as {
                    Some(id) => format!("already, as {id}; no second object"),
                    None => format!("told the client after {waited}"),
                };
                lines.push((step(at, "accepted", &detail), Paint::Green));
                if let Some(bytes) = row.rejects_bytes {
                    let detail = format!(
                        "rows in {} B, kept: sallyport quarantine get {} --out FILE --reason ...",
                        grouped(bytes),
                        row.short
                    );
                    lines.push((step(at, "left out", &detail), Paint::Yellow));
                }
            }
            Some("held") => {
                lines.push((step(at, "held", &row.codes.join(" ")), Paint::Yellow));
            }
            Some("rejected") => {
                lines.push((step(at, "rejected", &row.codes.join(" ")), Paint::Red));
            }
            Some(_) | None => {}
        }
        if let Some(reason) = &row.decision {
            lines.push(plain(format!(
                "  decided       by a person: {}",
                quoted(reason, 400)
            )));
        }
    }
    lines.extend(whereabouts(row));
    if let Some(receipt) = &row.receipt {
        let base = receipt.trim_end_matches(".txt");
        lines.push(plain(format!(
            "  receipts      {base}.{{txt,json}}{{,.sig}}"
        )));
    }
    lines
}

/// Where the file is now, or what became of it.
fn whereabouts(row: &SubmissionView) -> Vec<(String, Paint)> {
    let plain = |text: String| (text, Paint::Plain);
    let mut lines = Vec::new();
    if let Some(object) = &row.object {
        match &row.delivered_at {
            Some(at) => lines.push(plain(step(at, "delivered", object))),
            None => {
                lines.push(plain(format!(
                    "  waiting       {:<11} {object}",
                    "to deliver"
                )));
            }
        }
    }
    if let Some(why) = &row.last_error {
        let next = row.next_attempt.as_deref().unwrap_or("soon");
        lines.push((
            format!(
                "  failing       {} attempts, next {next}: {why}",
                row.attempts
            ),
            Paint::Red,
        ));
    }
    match row.state.as_str() {
        "interrupted" => lines.push((
            format!(
                "  interrupted   {} B are kept; the partner can resume",
                grouped(row.bytes)
            ),
            Paint::Yellow,
        )),
        "held" => lines.push((
            format!("  waiting       sallyport quarantine show {}", row.short),
            Paint::Yellow,
        )),
        "expired" => lines.push(plain(
            "  expired       never resumed; its bytes are destroyed".to_owned(),
        )),
        "removed" => lines.push(plain(
            "  removed       by the partner, before it was whole".to_owned(),
        )),
        _settled => {}
    }
    if row.replaced {
        lines.push(plain(
            "  replaced      by a newer accepted file of this name".to_owned(),
        ));
    }
    if row.hidden {
        lines.push(plain(
            "  hidden        the partner took it out of its listing".to_owned(),
        ));
    }
    lines
}

/// One step: its time of day, its name, more.
fn step(at: &str, what: &str, detail: &str) -> String {
    let clock = at.get(11..23).unwrap_or(at);
    format!("  {clock}  {what:<11} {detail}")
        .trim_end()
        .to_owned()
}

/// `24h` before now, a day (its start, UTC), or a moment.
fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let text = text.trim();
    if let Ok(micros) = parse_span(text) {
        return Ok(now.plus_micros(-micros));
    }
    if let Some(at) = parse_time(text) {
        return Ok(at);
    }
    parse_time(&format!("{text}T00:00:00Z")).ok_or_else(|| {
        Failure::usage("time.bad", format!("{text:?} is not a time"))
            .hint("like 24h, 7d, 2026-11-20 or 2026-11-20T07:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> SubmissionView {
        SubmissionView {
            submission: "sub_01KB3Q8Z5N6V7M2T4R9W1X0YHC".to_owned(),
            short: "1X0YHC".to_owned(),
            partner: "acme".to_owned(),
            feed: "orders".to_owned(),
            file: "orders_20261120.csv".to_owned(),
            state: "delivered".to_owned(),
            verdict: Some("accepted".to_owned()),
            channel: "sftp".to_owned(),
            client_address: "198.51.100.7".to_owned(),
            client: "OpenSSH_9.6".to_owned(),
            key: "SHA256:rrfg".to_owned(),
            policy_version: 3,
            opened_at: "2026-11-20T05:41:07.004Z".to_owned(),
            received_at: Some("2026-11-20T05:41:07.604Z".to_owned()),
            decided_at: Some("2026-11-20T05:41:08.590Z".to_owned()),
            delivered_at: Some("2026-11-20T05:41:09.412Z".to_owned()),
            bytes: 5_120_044,
            sha256: Some("9f2c".to_owned()),
            rows: 48_211,
            object: Some("lake:acme/orders/x.csv".to_owned()),
            receipt: Some("/receipts/orders_20261120.csv.1X0YHC7Q.receipt.txt".to_owned()),
            ..SubmissionView::default()
        }
    }

    #[test]
    fn an_accepted_file_reads_as_a_timeline() {
        let lines: Vec<String> = timeline(&accepted())
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        assert_eq!(
            lines,
            [
                "sub_01KB3Q8Z5N6V7M2T4R9W1X0YHC  acme/orders  orders_20261120.csv",
                "  2026-11-20, times in UTC",
                "  05:41:07.004  opened      sftp 198.51.100.7 OpenSSH_9.6 key SHA256:rrfg",
                "  05:41:07.604  received    5 120 044 B  sha256 9f2c",
                "  05:41:08.590  checked     policy v3, 48 211 rows, 0 errors",
                "  05:41:08.590  accepted    told the client after 986ms",
                "  05:41:09.412  delivered   lake:acme/orders/x.csv",
                "  receipts      /receipts/orders_20261120.csv.1X0YHC7Q.receipt.{txt,json}{,.sig}",
            ]
        );
    }

    #[test]
    fn trouble_is_named_in_the_timeline() {
        let mut row = accepted();
        row.state = "failing".to_owned();
        row.delivered_at = None;
        row.attempts = 4;
        row.last_error = Some("disk full".to_owned());
        let text: Vec<String> = timeline(&row).into_iter().map(|(line, _)| line).collect();
        let text = text.join("\n");
        assert!(text.contains("waiting"), "{text}");
        assert!(text.contains("4 attempts, next soon: disk full"), "{text}");
        let mut row = accepted();
        row.verdict = Some("rejected".to_owned());
        row.codes = vec!["missing-cell".to_owned(), "type-error".to_owned()];
        assert!(timeline(&row).iter().any(|(line, paint)| {
            line.ends_with("rejected    missing-cell type-error") && *paint == Paint::Red
        }));
    }

    #[test]
    fn since_takes_spans_days_and_moments() {
        let now = Timestamp::from_micros(1_795_239_870_996_000);
        let check = |text: &str, expect: &str| {
            assert_eq!(parse_since(text, now).unwrap().to_rfc3339(), expect);
        };
        check("24h", "2026-11-20T05:44:30.996Z");
        check("2026-11-20", "2026-11-20T00:00:00.000Z");
        check("2026-11-20T07:00:00Z", "2026-11-20T07:00:00.000Z");
        assert_eq!(parse_since("yesterday", now).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn short_spans_are_milliseconds() {
        assert_eq!(span(4_000), "4ms");
        assert_eq!(span(1_800_000), "1.8s");
    }
}
