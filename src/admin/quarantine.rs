//! Held files: the word of the person who decides.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::{AdminFault, Caller, SubmissionView, find_one, view};
use crate::intake::Intake;
use crate::intake::quarantine::DecideFault;
use crate::ledger::Ledger;
use crate::ledger::submissions::{Decision, Document, Row, State};
use crate::telemetry::Event;
use crate::terms::limits;

/// What `quarantine.release` and `quarantine.reject` need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ruling {
    /// A whole id or the end of one.
    pub id: String,
    /// Why; recorded, and read by the partner.
    pub reason: String,
    /// Release only under this version of the policy.
    pub as_policy: Option<u32>,
    /// Look at everything and change nothing.
    pub dry_run: bool,
}

/// A held file, as `quarantine show` has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldView {
    /// Its row.
    pub submission: SubmissionView,
    /// The receipt's `.json`, with what was found.
    pub receipt: Value,
}

/// What a release did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// `sub_` and 26 characters.
    pub submission: String,
    /// The file's name.
    pub file: String,
    /// The version of the policy it was inspected under.
    pub policy_version: u32,
    /// Rows that are forwarded.
    pub rows: u64,
    /// Rows with a fault, which are left out.
    pub rows_left_out: u64,
    /// What is still found, for people.
    pub findings: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// What `quarantine.get` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RejectsQuery {
    /// A whole id or the end of one.
    pub id: String,
    /// Why; recorded.
    pub reason: String,
    /// The first byte wanted.
    pub offset: u64,
}

/// A piece of the rows left out of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectsView {
    /// `sub_` and 26 characters.
    pub submission: String,
    /// Bytes of all pieces.
    pub total: u64,
    /// NDJSON from the offset asked for, base64; empty behind the end.
    pub piece: String,
}

/// The rows left out of an accepted file, as they came: they may hold anything that the file held. Only
/// for the superuser and the gateway's own user; every piece that leaves is in the audit.
///
/// # Errors
/// [`AdminFault`]: somebody else asks, no reason, nothing kept, or the gateway's.
pub async fn get(
    ledger: &Ledger,
    intake: &Intake,
    caller: &Caller,
    query: &RejectsQuery,
) -> Result<RejectsView, AdminFault> {
    let own = rustix::process::geteuid().as_raw();
    if caller.uid != 0 && caller.uid != own {
        let message = format!("{} may not read what partners sent", caller.name);
        return Err(AdminFault::new(4, "quarantine.not-allowed", message)
            .hint("ask root, or run it as the gateway's own user"));
    }
    let reason = query.reason.trim();
    if reason.is_empty() {
        let message = "reading what a partner sent needs a reason; it is recorded";
        return Err(AdminFault::new(2, "quarantine.no-reason", message)
            .hint("--reason \"ACME asks which rows, ticket 5513\""));
    }
    let row = find_one(ledger, &query.id).await?;
    let ours = |fault: &DecideFault| told(&row, fault);
    let piece = intake
        .read_rejects(row.id, query.offset, limits::REJECTS_PIECE_BYTES)
        .await
        .map_err(|fault| ours(&fault))?;
    let Some(piece) = piece else {
        return Err(no_rejects(&row));
    };
    if !piece.bytes.is_empty() {
        let count = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
        let end = query.offset.saturating_add(count);
        let bytes = query.offset..end;
        ledger
            .rejects_read(row.id, caller.name.clone(), bytes, reason)
            .await?;
        tracing::info!(
            event = Event::QuarantineRead.as_str(),
            actor = %caller.name,
            submission = %row.id,
            bytes = count,
        );
    }
    Ok(RejectsView {
        submission: row.id.to_string(),
        total: piece.total,
        piece: BASE64.encode(&piece.bytes),
    })
}

/// Destroys the rows left out of an accepted file; how many bytes of them there were.
///
/// # Errors
/// [`AdminFault`]: no reason, nothing kept, or the gateway's.
pub async fn purge(
    ledger: &Ledger,
    intake: &Intake,
    caller: &Caller,
    ruling: &Ruling,
) -> Result<u64, AdminFault> {
    let row = find_one(ledger, &ruling.id).await?;
    let decision = decision(caller, ruling)?;
    let purged = if ruling.dry_run {
        row.left_out
    } else {
        intake
            .purge_rejects(row.id, &row.partner, &decision.actor, &decision.reason)
            .await?
    };
    purged.ok_or_else(|| no_rejects(&row))
}

fn no_rejects(row: &Row) -> AdminFault {
    let message = format!("nothing is kept of rows left out of {}", row.id.short());
    let hint = match row.known_as {
        Some(id) => format!("its content was accepted as {}: ask for that", id.short()),
        None => "`sallyport quarantine list --left-out` lists what is kept, for quarantine_ttl"
            .to_owned(),
    };
    AdminFault::new(3, "quarantine.no-rejects", message).hint(hint)
}

/// One held file with its receipt.
///
/// # Errors
/// [`AdminFault`]: none or several, not held, or the ledger's.
pub async fn show(ledger: &Ledger, id: &str) -> Result<HeldView, AdminFault> {
    let row = find_held(ledger, id).await?;
    let json = ledger.receipt(&row.partner, row.id, Document::Json).await?;
    let receipt = json.and_then(|json| serde_json::from_slice(&json).ok());
    Ok(HeldView {
        submission: view(&row),
        receipt: receipt.unwrap_or_default(),
    })
}

/// Forwards a held file.
///
/// # Errors
/// [`AdminFault`]: not held, no reason, or it cannot be released.
pub async fn release(
    ledger: &Ledger,
    intake: &Intake,
    caller: &Caller,
    ruling: &Ruling,
) -> Result<ReleaseView, AdminFault> {
    let row = find_held(ledger, &ruling.id).await?;
    let decision = decision(caller, ruling)?;
    let done = intake
        .release(row.id, decision, ruling.as_policy, ruling.dry_run)
        .await
        .map_err(|fault| told(&row, &fault))?;
    Ok(ReleaseView {
        submission: row.id.to_string(),
        file: row.name,
        policy_version: done.policy_version,
        rows: done.rows.saturating_sub(done.rows_left_out),
        rows_left_out: done.rows_left_out,
        findings: done.findings,
        dry_run: ruling.dry_run,
    })
}

/// Refuses a held file.
///
/// # Errors
/// [`AdminFault`]: not held, no reason, or the gateway's.
pub async fn reject(
    ledger: &Ledger,
    intake: &Intake,
    caller: &Caller,
    ruling: &Ruling,
) -> Result<(), AdminFault> {
    let row = find_held(ledger, &ruling.id).await?;
    let decision = decision(caller, ruling)?;
    if ruling.dry_run {
        return Ok(());
    }
    intake
        .reject(row.id, decision)
        .await
        .map_err(|fault| told(&row, &fault))
}

async fn find_held(ledger: &Ledger, id: &str) -> Result<Row, AdminFault> {
    let row = find_one(ledger, id).await?;
    if row.state == State::Held {
        Ok(row)
    } else {
        Err(told(&row, &DecideFault::NotHeld(row.state)))
    }
}

fn decision(caller: &Caller, ruling: &Ruling) -> Result<Decision, AdminFault> {
    let reason = ruling.reason.trim();
    if reason.is_empty() {
        let message = "a decision needs a reason; the partner reads it";
        return Err(AdminFault::new(2, "quarantine.no-reason", message)
            .hint("--reason \"agreed with ACME, ticket 5512\""));
    }
    Ok(Decision {
        actor: caller.name.clone(),
        reason: reason.to_owned(),
    })
}

fn told(row: &Row, fault: &DecideFault) -> AdminFault {
    let short = row.id.short();
    let (exit, code, hint) = match fault {
        DecideFault::Faulty { .. } => (
            6,
            "quarantine.faulty",
            format!("change the policy, or: sallyport quarantine reject {short} --reason TEXT"),
        ),
        DecideFault::InUse => (7, "quarantine.in-use", "try again".to_owned()),
        DecideFault::Newer { .. } => (
            6,
            "quarantine.newer",
            format!("sallyport quarantine reject {short} --reason \"a newer one was accepted\""),
        ),
        DecideFault::NotHeld(_) => (
            6,
            "quarantine.not-held",
            format!("sallyport submission show {short}"),
        ),
        DecideFault::Nothing => (
            3,
            "submission.not-found",
            "`sallyport quarantine list` shows the ids".to_owned(),
        ),
        DecideFault::OtherPolicy { running, .. } => (
            6,
            "quarantine.other-policy",
            format!(
                "`sallyport status` says whether a change was refused; or give --as-policy {running}"
            ),
        ),
        DecideFault::Ours(_) => (
            7,
            "quarantine.failed",
            "the file stays held; if this does not say why, the gateway's log does; try again"
                .to_owned(),
        ),
    };
    let mut message = format!("{short} {}: {fault}", row.name);
    if let DecideFault::Faulty { findings, .. } = fault {
        for line in findings {
            message.push('\n');
            message.push_str(line);
        }
    }
    AdminFault::new(exit, code, message).hint(hint)
}
