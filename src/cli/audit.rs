//! `audit tail|verify`: who did what, hash-chained.

use clap::{Args, Subcommand};

use crate::admin::{self, AdminFault, AuditQuery, AuditVerdict, AuditView, Request};
use crate::authority::signing::ReceiptKey;
use crate::cli::console::{Paint, counted, grouped};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::partner::parse_time;

/// `audit ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The last records
    Tail(Tail),
    /// Check every hash and every signed head; exit 1 when one is wrong
    Verify(Verify),
}

/// `audit tail`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport audit tail\n  sallyport audit tail -f --json\n  sallyport audit tail --lines 200 --offline"
)]
pub struct Tail {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub lines: usize,
    /// Go on as records are written; Ctrl-C ends
    #[arg(short, long, conflicts_with = "offline")]
    pub follow: bool,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// `audit verify`
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport audit verify\n  sallyport audit verify --offline --json"
)]
pub struct Verify {
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
        Command::Tail(arguments) => tail(context, arguments),
        Command::Verify(arguments) => verify(context, arguments),
    }
}

fn tail(context: &mut Context, arguments: &Tail) -> Result<Exit, Failure> {
    let mut query = AuditQuery {
        after: None,
        limit: arguments.lines.max(1),
    };
    loop {
        let records: Vec<AuditView> = if arguments.offline {
            context.offline(|ledger, _| {
                let query = query.clone();
                async move { admin::audit_tail(&ledger, &query).await }
            })?
        } else {
            serde_json::from_value(context.ask(&Request::AuditTail(query.clone()))?)?
        };
        for record in &records {
            print(context, record)?;
        }
        context.console.flush()?;
        if !arguments.follow {
            return Ok(Exit::Done);
        }
        let last = records.last().map(|record| record.seq);
        query = AuditQuery {
            after: last.or(query.after).or(Some(0)),
            limit: FOLLOW_RECORDS,
        };
        std::thread::sleep(FOLLOW_PAUSE);
    }
}

fn print(context: &mut Context, record: &AuditView) -> Result<(), Failure> {
    if context.global.json {
        return context.console.json_line(record);
    }
    let time = match parse_time(&record.at) {
        Some(at) if context.console.is_for_people() => {
            at.to_human().get(11..19).unwrap_or(&record.at).to_owned()
        }
        Some(_) | None => record.at.clone(),
    };
    let line = record_line(&time, record);
    context.console.line(&line)
}

/// One record, one line, however many lines its detail has.
fn record_line(time: &str, record: &AuditView) -> String {
    let mut line = format!(
        "{time}  {:<8}  {:<18}  {}",
        record.actor, record.action, record.subject
    );
    if !record.detail.is_empty() {
        let detail: Vec<&str> = record.detail.lines().map(str::trim_end).collect();
        line.push_str("  ");
        line.push_str(&detail.join("; "));
    }
    line
}

fn verify(context: &mut Context, arguments: &Verify) -> Result<Exit, Failure> {
    let verdict: AuditVerdict = if arguments.offline {
        context.offline(|ledger, config| async move {
            let key = ReceiptKey::read(&config.receipt_key).map_err(|why| {
                AdminFault::new(2, "audit.no-key", "the signed heads cannot be checked").hint(why)
            })?;
            admin::audit_verify(&ledger, &key).await
        })?
    } else {
        serde_json::from_value(context.ask(&Request::AuditVerify {})?)?
    };
    let exit = if verdict.ok {
        Exit::Done
    } else {
        Exit::NotClean
    };
    if context.global.json {
        context.console.json(&verdict)?;
        return Ok(exit);
    }
    for line in verdict_lines(&verdict) {
        let line = if verdict.ok {
            line
        } else {
            context.console.paint(&line, Paint::Red)
        };
        context.console.line(&line)?;
    }
    Ok(exit)
}

fn verdict_lines(verdict: &AuditVerdict) -> Vec<String> {
    let day = |at: &Option<String>| {
        at.as_deref()
            .and_then(|at| at.split('T').next())
            .unwrap_or("-")
            .to_owned()
    };
    let mut lines = Vec::new();
    let head: String = verdict.head.chars().take(16).collect();
    let chain = match (verdict.broken_at, &verdict.broken_why) {
        (Some(seq), Some(why)) => format!("CHAIN BROKEN at record {}: {why}", grouped(seq)),
        (Some(seq), None) => format!("CHAIN BROKEN at record {}", grouped(seq)),
        (None, _) => format!("chain ok, head {head}"),
    };
    lines.push(format!(
        "{}, {} .. {}, {chain}; {}",
        if verdict.records == 1 {
            "1 entry".to_owned()
        } else {
            format!("{} entries", grouped(verdict.records))
        },
        day(&verdict.from),
        day(&verdict.to),
        match verdict.heads_bad.len() {
            0 => format!("{} ok", counted(verdict.heads, "signed head")),
            bad => format!("{bad} of {} WRONG", counted(verdict.heads, "signed head")),
        }
    ));
    for seq in &verdict.heads_bad {
        lines.push(format!(
            "  the signature over record {seq} is not that of this receipt key"
        ));
    }
    lines
}

const FOLLOW_RECORDS: usize = 500;

/// Between two looks of `--follow`.
const FOLLOW_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_however_long_its_detail() {
        let record = AuditView {
            actor: "system".to_owned(),
            action: "config.refuse".to_owned(),
            subject: "policies".to_owned(),
            detail: "acme.toml:1: one\nacme.toml:2: two\n".to_owned(),
            ..AuditView::default()
        };
        assert_eq!(
            record_line("11:02:14", &record),
            "11:02:14  system    config.refuse       policies  acme.toml:1: one; acme.toml:2: two"
        );
    }

    #[test]
    fn a_whole_chain_and_a_broken_one_read_differently() {
        let mut verdict = AuditVerdict {
            ok: true,
            records: 182_440,
            head: "4b1f0000000000c9ffff".to_owned(),
            from: Some("2025-12-01T00:00:00.000Z".to_owned()),
            to: Some("2026-11-22T00:00:00.000Z".to_owned()),
            heads: 355,
            ..AuditVerdict::default()
        };
        assert_eq!(
            verdict_lines(&verdict),
            [
                "182 440 entries, 2025-12-01 .. 2026-11-22, chain ok, head 4b1f0000000000c9; 355 signed heads ok"
            ]
        );
        verdict.broken_at = Some(7);
        verdict.broken_why = Some("hash differs".to_owned());
        verdict.heads_bad = vec![9];
        let lines = verdict_lines(&verdict);
        assert!(lines[0].contains("CHAIN BROKEN at record 7: hash differs"));
        assert!(lines[1].contains("record 9"));
    }
}
