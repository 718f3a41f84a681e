//! Rank 7: the acts an admin can do, as plain functions over the ledger and the gate.
//!
//! The socket only dispatches to them; `--offline` calls the reading ones on a ledger opened
//! read-only. Documents out of here are what `--json` prints: fields are only ever added.

pub mod quarantine;
pub mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::admin::quarantine::{RejectsQuery, Ruling};
use crate::authority::Authority;
use crate::authority::signing::{AUDIT_NAMESPACE, ReceiptKey};
use crate::intake::Intake;
use crate::ledger::audit::AuditRecord;
use crate::ledger::drifts::DriftSeen;
use crate::ledger::submissions::{Filter, Row, State};
use crate::ledger::{Ledger, LedgerFault};
use crate::telemetry::Metrics;
use crate::terms::clock::{Clock, Timestamp};
use crate::terms::codes::Code;
use crate::terms::digest::DigestKind;
use crate::terms::ids::{BadTerm, FeedId, PartnerId};
use crate::terms::limits;
use crate::terms::verdict::Verdict;

/// Everything the live acts work on. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    ledger: Ledger,
    authority: Authority,
    receipt_key: ReceiptKey,
    clock: Arc<dyn Clock>,
    facts: Arc<Facts>,
    signs: Option<Signs>,
    intake: Intake,
}

/// What changes while a gateway runs and no ledger knows.
#[derive(Clone)]
struct Signs {
    metrics: Metrics,
    is_ready: watch::Receiver<bool>,
}

/// What is fixed while a gateway runs, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The gateway's name.
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Addresses it listens on for SSH.
    pub ssh: Vec<String>,
    /// `SHA256:...` of its host keys.
    pub host_keys: Vec<String>,
    /// Stores: name and URL.
    pub stores: BTreeMap<String, String>,
    /// Where `/metrics` answers; told as [`Status::metrics`].
    #[serde(skip)]
    pub metrics: Option<String>,
}

/// Who asks: a Unix user, as the kernel names the other end of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's number.
    pub uid: u32,
    /// The user's name, or `uid 1000` where it has none.
    pub name: String,
}

/// One line to the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act")]
pub enum Request {
    /// Records of the audit chain.
    #[serde(rename = "audit.tail")]
    AuditTail(AuditQuery),
    /// A look at the whole chain.
    #[serde(rename = "audit.verify")]
    AuditVerify {},
    /// When each key was used last.
    #[serde(rename = "key.list")]
    KeyList {},
    /// Refuses a key from now on.
    #[serde(rename = "key.revoke")]
    KeyRevoke(KeyRevocation),
    /// What the ledger knows of partners.
    #[serde(rename = "partner.facts")]
    PartnerFacts {
        /// The partners asked about.
        partners: Vec<String>,
    },
    /// How the columns of files have differed from their contracts.
    #[serde(rename = "policy.drift")]
    PolicyDrift {
        /// One partner's.
        partner: Option<String>,
    },
    /// Forgets what was seen of a column.
    #[serde(rename = "policy.dismiss")]
    PolicyDismiss {
        /// Whose.
        partner: String,
        /// Of which feed.
        feed: String,
        /// The contract's column, or the label.
        column: String,
    },
    /// The rows left out of an accepted file, in pieces.
    #[serde(rename = "quarantine.get")]
    QuarantineGet(RejectsQuery),
    /// Destroys the rows left out of an accepted file.
    #[serde(rename = "quarantine.purge")]
    QuarantinePurge(Ruling),
    /// Refuses a held file.
    #[serde(rename = "quarantine.reject")]
    QuarantineReject(Ruling),
    /// Forwards a held file.
    #[serde(rename = "quarantine.release")]
    QuarantineRelease(Ruling),
    /// One held file, with what was found in it.
    #[serde(rename = "quarantine.show")]
    QuarantineShow {
        /// A whole id or the end of one.
        id: String,
    },
    /// One screen.
    #[serde(rename = "status")]
    Status {},
    /// Files that came in.
    #[serde(rename = "submission.list")]
    SubmissionList(SubmissionQuery),
    /// One of them.
    #[serde(rename = "submission.show")]
    SubmissionShow {
        /// A whole id or the end of one.
        id: String,
    },
}

/// One line back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error(AdminFault),
}

/// An act that did not work, as it travels over the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AdminFault {
    /// Stable dotted code.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The exit code the command line ends with.
    pub exit: u8,
}

/// What `submission.list` may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubmissionQuery {
    /// One partner's.
    pub partner: Option<String>,
    /// One feed's.
    pub feed: Option<String>,
    /// In this state, in its own word.
    pub state: Option<String>,
    /// `accepted`, `held` or `rejected`.
    pub verdict: Option<String>,
    /// With this finding.
    pub code: Option<String>,
    /// Of which rows left out are kept.
    pub left_out: bool,
    /// Whose file name contains this, or fits it where it has `*`.
    pub file: Option<String>,
    /// Opened at or after, microseconds since 1970.
    pub since_micros: Option<i64>,
    /// Listed behind this one, by id: [`SubmissionList::next`] of the page before.
    pub cursor: Option<String>,
    /// Newest first, at most (0: 100).
    pub limit: usize,
}

/// What `audit.tail` may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// Records after this one; `None`: the last ones.
    pub after: Option<u64>,
    /// At most (0: 20).
    pub limit: usize,
}

/// What `key.revoke` needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevocation {
    /// Whose key.
    pub partner: String,
    /// `SHA256:...`
    pub fingerprint: String,
    /// Why; recorded.
    pub reason: String,
}

/// One submission as `--json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubmissionView {
    /// `sallyport.submission/1`
    pub schema: String,
    /// `sub_` and 26 characters.
    pub submission: String,
    /// Its last eight characters.
    pub short: String,
    /// Who sent it.
    pub partner: String,
    /// Which kind of file.
    pub feed: String,
    /// The file's name.
    pub file: String,
    /// The virtual path.
    pub path: String,
    /// Where it is in its life.
    pub state: String,
    /// `accepted`, `held` or `rejected`, once there is one.
    pub verdict: Option<String>,
    /// `sftp`, `scp`.
    pub channel: String,
    /// The client's address.
    pub client_address: String,
    /// The client's version.
    pub client: String,
    /// The key's fingerprint.
    pub key: String,
    /// The policy's version.
    pub policy_version: u32,
    /// The policy's hash, hexadecimal.
    pub policy_hash: String,
    /// First byte, RFC 3339; the same for those below.
    pub opened_at: String,
    /// Last byte.
    pub received_at: Option<String>,
    /// Verdict.
    pub decided_at: Option<String>,
    /// In its store.
    pub delivered_at: Option<String>,
    /// Bytes as sent.
    pub bytes: u64,
    /// Digest as sent, hexadecimal.
    pub sha256: Option<String>,
    /// The same where the feed digests with BLAKE3.
    pub blake3: Option<String>,
    /// Data rows.
    pub rows: u64,
    /// Faults.
    pub errors: u64,
    /// Codes found.
    pub codes: Vec<String>,
    /// `store:key` of the object, once accepted; none where the same content has one already.
    pub object: Option<String>,
    /// Digest of the object, hexadecimal.
    pub object_sha256: Option<String>,
    /// The same where the feed digests with BLAKE3.
    pub object_blake3: Option<String>,
    /// Facts stored with the object.
    pub metadata: BTreeMap<String, String>,
    /// Delivery attempts.
    pub attempts: u32,
    /// When delivery is tried next.
    pub next_attempt: Option<String>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Path of the receipt's text, for the partner.
    pub receipt: Option<String>,
    /// The submission whose object holds the same content already.
    pub known_as: Option<String>,
    /// A newer accepted submission took its place in the listing.
    pub replaced: bool,
    /// Bytes of the rows left out of it, while `quarantine get` has them.
    pub rejects_bytes: Option<u64>,
    /// The partner took it out of the listing.
    pub hidden: bool,
    /// What the person said who decided about it while it was held.
    pub decision: Option<String>,
}

/// A list, as `--json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmissionList {
    /// Newest first.
    pub items: Vec<SubmissionView>,
    /// The cursor of the next page; `None`: this is the last one.
    pub next: Option<String>,
}

/// A difference between the columns of a feed's files and its contract's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftView {
    /// Whose.
    pub partner: String,
    /// Of which feed.
    pub feed: String,
    /// `added`, `removed`, `renamed`, `reordered` or `type_changed`.
    pub kind: String,
    /// The contract's column; the file's label where it was added.
    pub column: String,
    /// Of a renamed one: its label now.
    pub now: Option<String>,
    /// And how alike the two are, in percent.
    pub alike: Option<u8>,
    /// The label is told as it is; else it is only its shape or its start.
    pub exact: bool,
    /// Files that had it.
    pub files: u64,
    /// When it was seen first.
    pub first_at: String,
    /// And last.
    pub last_at: String,
    /// The submission it was seen in last.
    pub last: String,
    /// The policy on disk does not agree to it; whoever has that at hand says so.
    pub open: bool,
}

/// One record of the audit chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditView {
    /// From 1, without gaps.
    pub seq: u64,
    /// When, RFC 3339.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// On what.
    pub subject: String,
    /// More.
    pub detail: String,
    /// The record's hash, hexadecimal.
    pub hash: String,
}

/// What a look at the whole audit chain says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerdict {
    /// Chain whole, every head's signature right.
    pub ok: bool,
    /// Records looked at.
    pub records: u64,
    /// The last record's hash, hexadecimal.
    pub head: String,
    /// Time of the first record.
    pub from: Option<String>,
    /// Time of the last record.
    pub to: Option<String>,
    /// Signed heads.
    pub heads: u64,
    /// Heads whose signature is wrong, by record.
    pub heads_bad: Vec<u64>,
    /// The first bad record.
    pub broken_at: Option<u64>,
    /// Why it is bad.
    pub broken_why: Option<String>,
}

/// When a key was used last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// Whose.
    pub partner: String,
    /// `SHA256:...`
    pub fingerprint: String,
    /// RFC 3339.
    pub last_used: Option<String>,
    /// Revoked in the ledger since.
    pub revoked_at: Option<String>,
}

/// What the ledger knows of one partner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerFacts {
    /// Opening of its newest submission, RFC 3339.
    pub last_file: Option<String>,
    /// Accepted within 24 hours.
    pub accepted: u64,
    /// Rejected within 24 hours.
    pub rejected: u64,
    /// Accepted, but the store does not take them.
    pub failing: u64,
}

/// One screen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `sallyport.status/1`
    pub schema: String,
    /// A gateway answered; false when read with `--offline`.
    pub running: bool,
    /// It takes no more connections and ends when the running transfers have.
    pub stopping: bool,
    /// What is fixed while it runs.
    pub gateway: Facts,
    /// Where `/metrics` answers, if anywhere.
    pub metrics: Option<String>,
    /// Partners with a policy in force.
    pub partners: u64,
    /// Feeds of all of them.
    pub feeds: u64,
    /// Rows by state.
    pub states: BTreeMap<String, u64>,
    /// Since midnight UTC.
    pub today: Today,
    /// What a person should look at, worst first.
    pub attention: Vec<Attention>,
}

/// Since midnight UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Today {
    /// Whole files.
    pub received: u64,
    /// Accepted.
    pub accepted: u64,
    /// Rejected.
    pub rejected: u64,
    /// Held for a person.
    pub held: u64,
    /// Bytes as sent.
    pub bytes: u64,
}

/// Something a person should look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// `FAILING`, `HELD`, `INTERRUPTED`, `REFUSED`.
    pub what: String,
    /// On what.
    pub subject: String,
    /// More.
    pub detail: String,
    /// The next command.
    pub remedy: String,
}

// === impl Admin ===

impl Admin {
    /// The acts of one gateway.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        authority: Authority,
        receipt_key: ReceiptKey,
        clock: Arc<dyn Clock>,
        facts: Facts,
        intake: Intake,
    ) -> Self {
        Self {
            ledger,
            authority,
            receipt_key,
            clock,
            facts: Arc::new(facts),
            signs: None,
            intake,
        }
    }

    /// Lets `status` say whether the last reload was refused, and whether the gateway is ending.
    #[must_use]
    pub fn with_signs(mut self, metrics: Metrics, is_ready: watch::Receiver<bool>) -> Self {
        self.signs = Some(Signs { metrics, is_ready });
        self
    }

    /// Does one act for somebody.
    ///
    /// # Errors
    /// [`AdminFault`] for the caller.
    pub async fn act(&self, caller: &Caller, request: Request) -> Result<Value, AdminFault> {
        let now = self.clock.now();
        match request {
            Request::AuditTail(query) => value(audit_tail(&self.ledger, &query).await?),
            Request::AuditVerify {} => value(audit_verify(&self.ledger, &self.receipt_key).await?),
            Request::KeyList {} => value(key_list(&self.ledger).await?),
            Request::KeyRevoke(revocation) => {
                key_revoke(&self.ledger, caller, &revocation).await?;
                self.authority
                    .replace_revocations(&self.ledger.revocations().await?);
                value(Value::Null)
            }
            Request::PartnerFacts { partners } => {
                value(partner_facts(&self.ledger, &partners, now).await?)
            }
            Request::PolicyDrift { partner } => {
                value(policy_drift(&self.ledger, partner.as_deref()).await?)
            }
            Request::PolicyDismiss {
                partner,
                feed,
                column,
            } => value(policy_dismiss(&self.ledger, caller, (&partner, &feed), column).await?),
            Request::QuarantineGet(query) => {
                value(quarantine::get(&self.ledger, &self.intake, caller, &query).await?)
            }
            Request::QuarantinePurge(ruling) => {
                value(quarantine::purge(&self.ledger, &self.intake, caller, &ruling).await?)
            }
            Request::QuarantineReject(ruling) => {
                value(quarantine::reject(&self.ledger, &self.intake, caller, &ruling).await?)
            }
            Request::QuarantineRelease(ruling) => {
                value(quarantine::release(&self.ledger, &self.intake, caller, &ruling).await?)
            }
            Request::QuarantineShow { id } => value(quarantine::show(&self.ledger, &id).await?),
            Request::Status {} => value(self.status(now).await?),
            Request::SubmissionList(query) => value(submission_list(&self.ledger, &query).await?),
            Request::SubmissionShow { id } => value(submission_show(&self.ledger, &id).await?),
        }
    }

    async fn status(&self, now: Timestamp) -> Result<Status, AdminFault> {
        let policies = self.authority.policies();
        let feeds: usize = policies.policies.values().map(|p| p.feeds.len()).sum();
        let mut told = status(&self.ledger, now).await?;
        let mut stopping = false;
        if let Some(signs) = &self.signs {
            stopping = !*signs.is_ready.borrow();
            if signs.metrics.is_config_refused() {
                told.attention.insert(0, refused_config());
            }
        }
        Ok(Status {
            running: true,
            stopping,
            gateway: (*self.facts).clone(),
            metrics: self.facts.metrics.clone(),
            partners: count(policies.policies.len()),
            feeds: count(feeds),
            ..told
        })
    }
}

// === impl Caller ===

impl Caller {
    /// The caller of a numeric user id, named as `/etc/passwd` names it.
    #[must_use]
    pub fn of_uid(uid: u32) -> Self {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self {
            uid,
            name: user_name(uid, &passwd),
        }
    }
}

/// The name of a user id in the text of a passwd(5) file; `uid 1000` where it has none.
#[must_use]
pub fn user_name(uid: u32, passwd: &str) -> String {
    let number = uid.to_string();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let found = fields.nth(1)?;
            (found == number && !name.is_empty()).then(|| name.to_owned())
        })
        .unwrap_or_else(|| format!("uid {uid}"))
}

// === acts ===

/// Submissions, newest first.
///
/// # Errors
/// [`AdminFault`]: a filter that means nothing, or the ledger's.
pub async fn submission_list(
    ledger: &Ledger,
    query: &SubmissionQuery,
) -> Result<SubmissionList, AdminFault> {
    let wanted = if query.limit == 0 { 100 } else { query.limit };
    let wanted = wanted.min(limits::ADMIN_ROWS_MAX);
    let mut filter = Filter {
        partner: parsed(query.partner.as_deref(), PartnerId::parse)?,
        feed: parsed(query.feed.as_deref(), FeedId::parse)?,
        state: query.state.as_deref().map(find_state).transpose()?,
        left_out: query.left_out,
        since: query.since_micros.map(Timestamp::from_micros),
        after: match query.cursor.as_deref() {
            Some(cursor) => Some(find_one(ledger, cursor).await?.id),
            None => None,
        },
        limit: wanted.saturating_add(1),
    };
    check_words(query)?;
    // Some filters are not the ledger's: pages are read until there is one row more than wanted.
    let mut items = Vec::new();
    loop {
        let rows = ledger.list(filter.clone()).await?;
        let is_last = rows.len() < filter.limit;
        filter.after = rows.last().map(|row| row.id);
        items.extend(rows.iter().map(view).filter(|row| is_wanted(row, query)));
        if is_last || items.len() > wanted {
            break;
        }
        filter.limit = limits::ADMIN_ROWS_MAX;
    }
    let has_more = items.len() > wanted;
    items.truncate(wanted);
    let next = items.last().filter(|_| has_more);
    let next = next.map(|row| row.submission.clone());
    Ok(SubmissionList { items, next })
}

/// How the columns of files have differed from their contracts, by feed, the last first.
///
/// # Errors
/// [`AdminFault`]: no partner's name, or the ledger's.
pub async fn policy_drift(
    ledger: &Ledger,
    partner: Option<&str>,
) -> Result<Vec<DriftView>, AdminFault> {
    let partner = parsed(partner, PartnerId::parse)?;
    let seen = ledger.drifts(partner).await?;
    let view = |one: DriftSeen| {
        let (now, alike) = one.drift.now.unzip();
        DriftView {
            partner: one.partner.to_string(),
            feed: one.feed.to_string(),
            kind: one.drift.kind.to_string(),
            column: one.drift.column,
            now,
            alike,
            exact: one.drift.is_exact,
            files: one.files,
            first_at: one.first_at.to_rfc3339(),
            last_at: one.last_at.to_rfc3339(),
            last: one.last.to_string(),
            open: false,
        }
    };
    Ok(seen.into_iter().map(view).collect())
}

/// Forgets what was seen of one column of a feed; how many differences that were.
///
/// # Errors
/// [`AdminFault`]: no partner's or feed's name, nothing seen of it, or the ledger's.
pub async fn policy_dismiss(
    ledger: &Ledger,
    caller: &Caller,
    (partner, feed): (&str, &str),
    column: String,
) -> Result<usize, AdminFault> {
    let partner = parsed(Some(partner), PartnerId::parse)?;
    let feed = parsed(Some(feed), FeedId::parse)?;
    let shown = crate::terms::path::quoted(&column, 80);
    let forgotten = match (partner, feed) {
        (Some(partner), Some(feed)) => {
            let actor = caller.name.clone();
            ledger.forget_drifts(partner, feed, column, actor).await?
        }
        (_, _) => 0,
    };
    if forgotten == 0 {
        let message = format!("nothing was seen of the column {shown}");
        return Err(AdminFault::new(3, "policy.no-drift", message)
            .hint("`sallyport policy drift` lists what was"));
    }
    Ok(forgotten)
}

/// One submission, by its id or any unique end of it.
///
/// # Errors
/// [`AdminFault`]: none or several, or the ledger's.
pub async fn submission_show(ledger: &Ledger, id: &str) -> Result<SubmissionView, AdminFault> {
    Ok(view(&find_one(ledger, id).await?))
}

async fn find_one(ledger: &Ledger, id: &str) -> Result<Row, AdminFault> {
    let suffix = id.trim();
    let fits = !suffix.is_empty()
        && suffix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let mut rows = if fits {
        ledger.find(suffix).await?
    } else {
        Vec::new()
    };
    if rows.len() == 1
        && let Some(row) = rows.pop()
    {
        return Ok(row);
    }
    match rows.as_slice() {
        [] => Err(AdminFault::new(
            3,
            "submission.not-found",
            format!("no submission ends in {suffix:?}"),
        )
        .hint("`sallyport submission list` shows the ids")),
        several => {
            let ids: Vec<String> = several.iter().map(|row| row.id.to_string()).collect();
            Err(AdminFault::new(
                2,
                "submission.ambiguous",
                format!("several submissions end in {suffix:?}: {}", ids.join(", ")),
            )
            .hint("give more of the id"))
        }
    }
}

/// Records of the audit chain, oldest first.
///
/// # Errors
/// The ledger's.
pub async fn audit_tail(ledger: &Ledger, query: &AuditQuery) -> Result<Vec<AuditView>, AdminFault> {
    let limit = if query.limit == 0 { 20 } else { query.limit };
    let records = ledger
        .audit_after(query.after, limit.min(limits::ADMIN_ROWS_MAX))
        .await?;
    Ok(records.into_iter().map(audit_view).collect())
}

/// Reads the whole chain and checks every signed head.
///
/// # Errors
/// The ledger's; a broken chain is no error but a verdict.
pub async fn audit_verify(ledger: &Ledger, key: &ReceiptKey) -> Result<AuditVerdict, AdminFault> {
    let report = ledger.verify_chain().await?;
    let heads_bad: Vec<u64> = report
        .heads
        .iter()
        .filter(|(_, text, armored)| !key.verify(AUDIT_NAMESPACE, text, armored))
        .map(|(seq, _, _)| *seq)
        .collect();
    Ok(AuditVerdict {
        ok: report.broken.is_none() && heads_bad.is_empty(),
        records: report.records,
        head: hex(&report.head),
        from: report.span.map(|(from, _)| from.to_rfc3339()),
        to: report.span.map(|(_, to)| to.to_rfc3339()),
        heads: count(report.heads.len()),
        heads_bad,
        broken_at: report.broken.as_ref().map(|(seq, _)| *seq),
        broken_why: report.broken.map(|(_, why)| why),
    })
}

/// Last use and revocation of every key the ledger knows.
///
/// # Errors
/// The ledger's.
pub async fn key_list(ledger: &Ledger) -> Result<Vec<KeyUse>, AdminFault> {
    let mut uses: BTreeMap<(PartnerId, String), KeyUse> = BTreeMap::new();
    for (partner, fingerprint, at) in ledger.keys_used().await? {
        let entry = uses
            .entry((partner.clone(), fingerprint.clone()))
            .or_default();
        entry.last_used = Some(at.to_rfc3339());
    }
    for revocation in ledger.revocations().await? {
        let entry = uses
            .entry((revocation.partner, revocation.fingerprint))
            .or_default();
        entry.revoked_at = Some(revocation.at.to_rfc3339());
    }
    Ok(uses
        .into_iter()
        .map(|((partner, fingerprint), entry)| KeyUse {
            partner: partner.to_string(),
            fingerprint,
            ..entry
        })
        .collect())
}

/// Writes a revocation down, with actor and reason. A running gateway takes it into force by
/// itself.
///
/// # Errors
/// [`AdminFault`]: no reason given, not a partner's name, revoked already, or the ledger's.
pub async fn key_revoke(
    ledger: &Ledger,
    caller: &Caller,
    revocation: &KeyRevocation,
) -> Result<(), AdminFault> {
    if revocation.reason.trim().is_empty() {
        return Err(
            AdminFault::new(2, "key.no-reason", "a revocation needs a reason")
                .hint("--reason \"laptop lost\""),
        );
    }
    if !revocation.fingerprint.starts_with("SHA256:") {
        return Err(AdminFault::new(
            2,
            "key.bad-fingerprint",
            format!("{:?} is not a fingerprint", revocation.fingerprint),
        )
        .hint("it starts with SHA256:, as `sallyport key list` prints it"));
    }
    let partner = PartnerId::parse(&revocation.partner).map_err(|error| bad_term(&error))?;
    let known = ledger.revocations().await?;
    if let Some(known) = known
        .iter()
        .find(|known| known.partner == partner && known.fingerprint == revocation.fingerprint)
    {
        return Err(revoked_already(
            &revocation.fingerprint,
            &known.at.to_rfc3339(),
        ));
    }
    ledger
        .revoke_key(
            &partner,
            &revocation.fingerprint,
            &caller.name,
            revocation.reason.trim(),
        )
        .await?;
    Ok(())
}

/// A second revocation of one key; `at` is a date or a moment.
#[must_use]
pub fn revoked_already(fingerprint: &str, at: &str) -> AdminFault {
    let day = at.split('T').next().unwrap_or(at);
    AdminFault::new(
        6,
        "key.revoked",
        format!("{fingerprint} was revoked already on {day}"),
    )
}

/// What the ledger knows of partners, for `partner list`.
///
/// # Errors
/// [`AdminFault`]: not a partner's name, or the ledger's.
pub async fn partner_facts(
    ledger: &Ledger,
    partners: &[String],
    now: Timestamp,
) -> Result<BTreeMap<String, PartnerFacts>, AdminFault> {
    let mut facts = BTreeMap::new();
    for name in partners {
        let partner = PartnerId::parse(name).map_err(|error| bad_term(&error))?;
        let newest = ledger
            .list(Filter {
                partner: Some(partner.clone()),
                limit: 1,
                ..Filter::default()
            })
            .await?;
        let day = ledger
            .list(Filter {
                partner: Some(partner.clone()),
                since: Some(now.plus_micros(-DAY_MICROS)),
                limit: limits::ADMIN_ROWS_MAX,
                ..Filter::default()
            })
            .await?;
        let failing = ledger
            .list(Filter {
                partner: Some(partner),
                state: Some(State::Failing),
                limit: limits::ADMIN_ROWS_MAX,
                ..Filter::default()
            })
            .await?;
        facts.insert(
            name.clone(),
            PartnerFacts {
                last_file: newest.first().map(|row| row.opened_at.to_rfc3339()),
                accepted: with_verdict(&day, "accepted"),
                rejected: with_verdict(&day, "rejected"),
                failing: count(failing.len()),
            },
        );
    }
    Ok(facts)
}

fn refused_config() -> Attention {
    Attention {
        what: "REFUSED".to_owned(),
        subject: "policies and keys".to_owned(),
        detail: "what is on disk is not, or not all, in force".to_owned(),
        remedy: "sallyport config check".to_owned(),
    }
}

/// What the ledger alone can say about now.
///
/// # Errors
/// The ledger's.
pub async fn status(ledger: &Ledger, now: Timestamp) -> Result<Status, AdminFault> {
    let midnight = now.plus_micros(-now.as_micros().rem_euclid(DAY_MICROS));
    let day = ledger
        .list(Filter {
            since: Some(midnight),
            limit: limits::ADMIN_ROWS_MAX,
            ..Filter::default()
        })
        .await?;
    let states = ledger.counts().await?;
    let mut attention = Vec::new();
    for (state, what, noun) in [
        (State::Failing, "FAILING", "submission"),
        (State::Held, "HELD", "quarantine"),
        (State::Interrupted, "INTERRUPTED", "submission"),
    ] {
        let rows = ledger
            .list(Filter {
                state: Some(state),
                limit: ATTENTION_MAX,
                ..Filter::default()
            })
            .await?;
        attention.extend(rows.iter().map(|row| Attention {
            what: what.to_owned(),
            subject: format!("{}/{}", row.partner, row.feed),
            detail: match &row.last_error {
                Some(why) => format!("{}, {} attempts: {why}", row.name, row.attempts),
                None if state == State::Held => format!("{}: {}", row.name, row.codes.join(" ")),
                None => row.name.clone(),
            },
            remedy: format!("sallyport {noun} show {}", row.id.short()),
        }));
    }
    Ok(Status {
        schema: "sallyport.status/1".to_owned(),
        states: states
            .into_iter()
            .map(|(state, rows)| (state.to_string(), rows))
            .collect(),
        today: Today {
            received: count(day.iter().filter(|row| row.received_at.is_some()).count()),
            accepted: with_verdict(&day, "accepted"),
            rejected: with_verdict(&day, "rejected"),
            held: with_verdict(&day, "held"),
            bytes: day.iter().map(|row| row.bytes).sum(),
        },
        attention,
        ..Status::default()
    })
}

// === views ===

/// A row as `--json` prints it.
#[must_use]
pub fn view(row: &Row) -> SubmissionView {
    let at = |at: Option<Timestamp>| at.map(Timestamp::to_rfc3339);
    SubmissionView {
        schema: "sallyport.submission/1".to_owned(),
        submission: row.id.to_string(),
        short: row.id.short(),
        partner: row.partner.to_string(),
        feed: row.feed.to_string(),
        file: row.name.clone(),
        path: row.path.clone(),
        state: row.state.to_string(),
        verdict: verdict_word(row.state).map(str::to_owned),
        channel: row.origin.channel.clone(),
        client_address: row.origin.address.clone(),
        client: row.origin.client.clone(),
        key: row.origin.key.clone(),
        policy_version: row.policy_version,
        policy_hash: hex(&row.policy_hash),
        opened_at: row.opened_at.to_rfc3339(),
        received_at: at(row.received_at),
        decided_at: at(row.decided_at),
        delivered_at: at(row.delivered_at),
        bytes: row.bytes,
        sha256: row.digest.and_then(|d| d.hex_of(DigestKind::Sha256)),
        blake3: row.digest.and_then(|d| d.hex_of(DigestKind::Blake3)),
        rows: row.rows,
        errors: row.errors_total,
        codes: row.codes.clone(),
        object: match (&row.store, &row.key, row.known_as) {
            (Some(store), Some(key), None) => Some(format!("{store}:{key}")),
            // Nothing was stored twice.
            (Some(_) | None, _, _) => None,
        },
        object_sha256: row.out_digest.and_then(|d| d.hex_of(DigestKind::Sha256)),
        object_blake3: row.out_digest.and_then(|d| d.hex_of(DigestKind::Blake3)),
        metadata: row.metadata.iter().cloned().collect(),
        attempts: row.attempts,
        next_attempt: at(row.next_attempt),
        last_error: row.last_error.clone(),
        receipt: row
            .receipt_base
            .as_ref()
            .map(|base| format!("/receipts/{base}.txt")),
        known_as: row.known_as.map(|id| id.to_string()),
        replaced: row.replaced,
        rejects_bytes: row.left_out,
        hidden: row.hidden,
        decision: row.decision.clone(),
    }
}

fn audit_view(record: AuditRecord) -> AuditView {
    AuditView {
        seq: record.seq,
        at: record.at.to_rfc3339(),
        actor: record.act.actor,
        action: record.act.action,
        subject: record.act.subject,
        detail: record.act.detail,
        hash: hex(&record.hash),
    }
}

/// The verdict that a state implies.
#[must_use]
pub fn verdict_word(state: State) -> Option<&'static str> {
    match state {
        State::Accepted | State::Delivering | State::Delivered | State::Failing => Some("accepted"),
        State::Held => Some("held"),
        State::Rejected => Some("rejected"),
        State::Receiving
        | State::Received
        | State::Interrupted
        | State::Expired
        | State::Removed => None,
    }
}

fn find_state(word: &str) -> Result<State, AdminFault> {
    State::find(word).ok_or_else(|| {
        let words = State::ALL.map(State::as_str).join(", ");
        AdminFault::new(
            2,
            "filter.bad-state",
            format!("no state is called {word:?}"),
        )
        .hint(format!("states are {words}"))
    })
}

fn check_words(query: &SubmissionQuery) -> Result<(), AdminFault> {
    if let Some(verdict) = &query.verdict
        && !Verdict::ALL
            .map(Verdict::as_str)
            .contains(&verdict.as_str())
    {
        return Err(AdminFault::new(
            2,
            "filter.bad-verdict",
            format!("no verdict is called {verdict:?}"),
        )
        .hint("verdicts are accepted, held, rejected"));
    }
    if let Some(code) = &query.code
        && Code::find(code).is_none()
    {
        return Err(
            AdminFault::new(2, "filter.bad-code", format!("no code is called {code:?}"))
                .hint("`sallyport help codes` lists them"),
        );
    }
    Ok(())
}

fn is_wanted(row: &SubmissionView, query: &SubmissionQuery) -> bool {
    query
        .verdict
        .as_ref()
        .is_none_or(|verdict| row.verdict.as_ref() == Some(verdict))
        && query
            .code
            .as_ref()
            .is_none_or(|code| row.codes.contains(code))
        && query.file.as_ref().is_none_or(|glob| fits(glob, &row.file))
}

/// `*` stands for any run of characters; without one, a part of the name is enough.
fn fits(glob: &str, name: &str) -> bool {
    if !glob.contains('*') {
        return name.contains(glob);
    }
    let mut rest = name;
    let mut parts = glob.split('*').peekable();
    if let Some(first) = parts.next() {
        match rest.strip_prefix(first) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

fn with_verdict(rows: &[Row], verdict: &str) -> u64 {
    count(
        rows.iter()
            .filter(|row| verdict_word(row.state) == Some(verdict))
            .count(),
    )
}

fn parsed<T>(
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, BadTerm>,
) -> Result<Option<T>, AdminFault> {
    text.map(parse)
        .transpose()
        .map_err(|error| bad_term(&error))
}

fn bad_term(error: &BadTerm) -> AdminFault {
    AdminFault::new(2, "input.bad-name", error.to_string())
}

fn value(document: impl Serialize) -> Result<Value, AdminFault> {
    serde_json::to_value(document)
        .map_err(|error| AdminFault::new(70, "admin.document", error.to_string()))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

// === impl AdminFault ===

impl AdminFault {
    /// A fault without a remedy yet; `exit` as `sallyport help exit-codes` lists them.
    #[must_use]
    pub fn new(exit: u8, code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            exit,
        }
    }

    /// Sets the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<LedgerFault> for AdminFault {
    fn from(fault: LedgerFault) -> Self {
        let message = fault.to_string();
        match fault {
            LedgerFault::InUse { .. } => Self::new(6, "ledger.in-use", message)
                .hint("one state directory has one gateway; stop the other, or give this one its own state_dir"),
            LedgerFault::Damaged { .. } => Self::new(2, "ledger.damaged", message),
            LedgerFault::Database { .. } => Self::new(7, "ledger.database", message)
                .hint("check that the state directory exists, is yours and has space left"),
            LedgerFault::TooNew { .. } => Self::new(2, "ledger.too-new", message)
                .hint("run the newer sallyport that wrote it"),
            LedgerFault::IllegalStep { .. } => Self::new(6, "ledger.illegal-step", message),
            LedgerFault::Stopped => Self::new(7, "ledger.stopped", message)
                .hint("restart the gateway; nothing acknowledged is lost"),
        }
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

/// Rows of one kind shown by `status`.
const ATTENTION_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_json_object_with_an_act() {
        let request = Request::SubmissionShow {
            id: "1X0YHC7Q".to_owned(),
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"act":"submission.show","id":"1X0YHC7Q"}"#);
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        let short: Request = serde_json::from_str(r#"{"act":"submission.list"}"#).unwrap();
        assert_eq!(short, Request::SubmissionList(SubmissionQuery::default()));
        assert!(serde_json::from_str::<Request>(r#"{"act":"shell"}"#).is_err());
    }

    #[test]
    fn an_answer_is_ok_or_error() {
        let text = serde_json::to_string(&Answer::Ok(Value::from(7))).unwrap();
        assert_eq!(text, r#"{"ok":7}"#);
        let fault = AdminFault::new(3, "submission.not-found", "no submission ends in \"X\"");
        let text = serde_json::to_string(&Answer::Error(fault)).unwrap();
        assert_eq!(
            text,
            r#"{"error":{"code":"submission.not-found","message":"no submission ends in \"X\"","exit":3}}"#
        );
    }

    #[test]
    fn a_caller_has_the_name_of_the_password_file() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n\nbroken\nj.doe:x:1000:1000::/home/j:/bin/sh\n";
        assert_eq!(user_name(0, passwd), "root");
        assert_eq!(user_name(1000, passwd), "j.doe");
        assert_eq!(user_name(1001, passwd), "uid 1001");
    }

    #[test]
    fn file_filters_take_parts_and_stars() {
        for (glob, name, expect) in [
            ("orders", "orders_1.csv", true),
            ("*.csv", "orders_1.csv", true),
            ("orders*csv", "orders_1.csv", true),
            ("*_1*", "orders_1.csv", true),
            ("orders*", "x_orders_1.csv", false),
            ("*.json", "orders_1.csv", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(glob, name), expect, "{glob} {name}");
        }
    }

    #[test]
    fn every_state_has_one_word_and_is_found_by_it() {
        for state in State::ALL {
            assert_eq!(find_state(state.as_str()), Ok(state));
        }
        assert_eq!(find_state("lost").unwrap_err().exit, 2);
    }
}
