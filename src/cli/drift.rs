//! `policy drift [approve|dismiss]`: how partners' files have come to differ from their contracts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::{fs, io};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::{self, DriftView, Request};
use crate::cli::console::{Paint, Table, grouped};
use crate::cli::context::{Context, mistakes, read_text, write_file};
use crate::cli::draft::names;
use crate::cli::exit::{Exit, Failure};
use crate::cli::partner::{lists_beside, parse_time, policy_of};
use crate::config::Config;
use crate::policy::contract::{ExtraColumns, FieldsMatch, HeaderMatch, MissingColumns, Schema};
use crate::policy::feed::Policy;
use crate::policy::{self, adopt, changes};
use crate::terms::drift::{Drift, DriftKind};
use crate::terms::ids::PartnerId;
use crate::terms::path::quoted;

/// `policy drift [PARTNER[/FEED]]`
///
/// Columns that were added, removed, renamed, moved or are of another type, as the gateway has seen them in
/// files of production, whatever came of those. Exit 1 when the policy on disk does not agree to one.
#[derive(Args, Debug, Default)]
#[command(
    args_conflicts_with_subcommands = true,
    before_help = "Examples:\n  sallyport policy drift\n  sallyport policy drift acme/orders\n  sallyport policy drift approve acme/orders tier\n  sallyport policy drift dismiss acme/orders amount"
)]
pub struct Drifts {
    /// Only this partner's, or this feed's
    #[arg(value_name = "PARTNER[/FEED]")]
    pub which: Option<String>,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
    /// What to do about it
    #[command(subcommand)]
    pub act: Option<Act>,
}

/// `policy drift ...`
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Write the next version of a policy, which agrees to what has changed
    Approve(Approve),
    /// Forget what was seen of a column: it was a mistake, or is settled
    Dismiss(Dismiss),
}

/// `policy drift dismiss PARTNER/FEED COLUMN`
#[derive(Args, Debug, Default)]
#[command(before_help = "Examples:\n  sallyport policy drift dismiss acme/orders amount")]
pub struct Dismiss {
    /// The feed
    #[arg(value_name = "PARTNER/FEED")]
    pub feed: String,
    /// The contract's column, or the label
    #[arg(value_name = "COLUMN")]
    pub column: String,
}

/// `policy drift approve PARTNER/FEED [COLUMN...]`
///
/// A new column becomes one of text, sensitive until you say otherwise, and is forwarded; a renamed one gets
/// its new label as an alias; an order is no longer asked for. Only where you name its column: one that is
/// gone may be missing, as any other optional one then may, and a label that is less than 85 % alike becomes
/// an alias. The rest of the file stays as it is; commit it, and the gateway takes it as any other change.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport policy drift approve acme/orders --dry-run\n  sallyport policy drift approve acme/orders tier e-mail"
)]
pub struct Approve {
    /// The feed
    #[arg(value_name = "PARTNER/FEED")]
    pub feed: String,
    /// Only what is about these columns; default: everything that is open
    #[arg(value_name = "COLUMN")]
    pub columns: Vec<String>,
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &mut Context, arguments: &Drifts) -> Result<Exit, Failure> {
    match &arguments.act {
        Some(Act::Approve(arguments)) => approve(context, arguments),
        Some(Act::Dismiss(arguments)) => dismiss(context, arguments),
        None => list(context, arguments),
    }
}

fn list(context: &mut Context, arguments: &Drifts) -> Result<Exit, Failure> {
    let (partner, feed) = match arguments.which.as_deref().map(|text| text.split_once('/')) {
        None => (None, None),
        Some(None) => (arguments.which.clone(), None),
        Some(Some((partner, feed))) => (Some(partner.to_owned()), Some(feed.to_owned())),
    };
    let mut seen = ask(context, arguments.offline, partner)?;
    seen.retain(|one| feed.as_ref().is_none_or(|feed| one.feed == *feed));
    let config = context.config()?.config;
    let mut policies: BTreeMap<String, Option<Policy>> = BTreeMap::new();
    for one in &mut seen {
        let policy = match policies.entry(one.partner.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(policy_now(&config, &one.partner)?),
        };
        one.open = policy.as_ref().is_some_and(|policy| is_open(policy, one));
    }
    let is_clean = seen.iter().all(|one| !one.open);
    let exit = if is_clean { Exit::Done } else { Exit::NotClean };
    if context.global.json {
        context.console.json(&seen)?;
        return Ok(exit);
    }
    if seen.is_empty() {
        context
            .console
            .say("all files had the columns of their contracts");
        return Ok(exit);
    }
    let now = context.now();
    let mut table = Table::new(&[
        "PARTNER/FEED",
        "COLUMN",
        "WHAT",
        ">FILES",
        "SINCE",
        "LAST",
        "POLICY",
    ])
    .narrowing(&["COLUMN", "WHAT", "PARTNER/FEED"], &["SINCE", "FILES"]);
    for one in &seen {
        let plain = |text: String| (text, Paint::Plain);
        let time = |text: &str| parse_time(text).map(|at| context.console.time(at, now));
        let word = if one.open {
            ("open".to_owned(), Paint::Yellow)
        } else {
            plain("agrees".to_owned())
        };
        table.painted_row([
            plain(format!("{}/{}", one.partner, one.feed)),
            plain(quoted(&one.column, 60)),
            plain(what(one)),
            plain(grouped(one.files)),
            plain(time(&one.first_at).unwrap_or_default()),
            plain(time(&one.last_at).unwrap_or_default()),
            word,
        ]);
    }
    context.console.table(&table)?;
    if let Some(one) = seen.iter().find(|one| one.open) {
        context.console.say(&format!(
            "next: sallyport policy drift approve {}/{} --dry-run",
            one.partner, one.feed
        ));
    }
    Ok(exit)
}

/// The policy on disk; a partner that is gone has none.
fn policy_now(config: &Config, partner: &str) -> Result<Option<Policy>, Failure> {
    let Ok(partner) = PartnerId::parse(partner) else {
        return Ok(None);
    };
    match policy_of(config, &partner) {
        Ok((_, policy)) => Ok(Some(policy)),
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn what(one: &DriftView) -> String {
    let kind = one.kind.replace('_', " ");
    match (&one.now, one.alike) {
        (Some(now), Some(alike)) => {
            format!("{kind}: {} ({alike} % alike)", quoted(now, 60))
        }
        (_, _) => kind,
    }
}

fn ask(
    context: &Context,
    offline: bool,
    partner: Option<String>,
) -> Result<Vec<DriftView>, Failure> {
    if offline {
        return context.offline(|ledger, _| async move {
            admin::policy_drift(&ledger, partner.as_deref()).await
        });
    }
    let answer = context.ask(&Request::PolicyDrift { partner })?;
    Ok(serde_json::from_value(answer)?)
}

/// Whether the policy does not agree to a difference.
fn is_open(policy: &Policy, one: &DriftView) -> bool {
    let feed = policy
        .feeds
        .iter()
        .find(|feed| feed.id.as_str() == one.feed);
    let Some(schema) = feed.and_then(|feed| feed.contract.schema.as_ref()) else {
        return false;
    };
    let knows = |label: &str| {
        schema.columns.iter().any(|column| {
            let mut names = column.aliases.iter().chain([&column.name]);
            names.any(|name| is_same(schema, name, label))
        })
    };
    match DriftKind::find(&one.kind) {
        Some(DriftKind::Added) => {
            let is_refused = match schema.extra_columns {
                ExtraColumns::Hold | ExtraColumns::Reject => true,
                ExtraColumns::Drop | ExtraColumns::Keep => match schema.fields_match {
                    FieldsMatch::Exact | FieldsMatch::Superset => true,
                    FieldsMatch::Equal | FieldsMatch::Partial | FieldsMatch::Subset => false,
                },
            };
            is_refused && !knows(&one.column)
        }
        // Dropped and missing, it would be lost in silence.
        Some(DriftKind::Renamed) => knows(&one.column) && !one.now.as_deref().is_some_and(knows),
        Some(DriftKind::Removed) => {
            let mut columns = schema.columns.iter().enumerate();
            let column = columns.find(|(_, column)| column.name == one.column);
            let may_miss = schema.missing_columns == MissingColumns::Null
                && match schema.fields_match {
                    FieldsMatch::Exact | FieldsMatch::Subset => false,
                    FieldsMatch::Equal | FieldsMatch::Partial | FieldsMatch::Superset => true,
                };
            column.is_some_and(|(at, column)| {
                !may_miss
                    || column.required
                    || column.token.is_some()
                    || schema.primary_key.contains(&at)
            })
        }
        Some(DriftKind::Reordered) => schema.fields_match == FieldsMatch::Exact,
        // The policy cannot tell.
        Some(DriftKind::Retyped) => knows(&one.column),
        None => false,
    }
}

fn is_same(schema: &Schema, name: &str, label: &str) -> bool {
    match schema.header_match {
        HeaderMatch::Exact => name == label,
        HeaderMatch::Trim => name.trim() == label.trim(),
        HeaderMatch::Case => name.to_lowercase() == label.to_lowercase(),
        HeaderMatch::TrimCase => name.trim().to_lowercase() == label.trim().to_lowercase(),
    }
}

fn dismiss(context: &mut Context, arguments: &Dismiss) -> Result<Exit, Failure> {
    let (partner, feed) = names(&arguments.feed)?;
    let forgotten = if context.global.dry_run {
        let mut seen = ask(context, false, Some(partner.to_string()))?;
        seen.retain(|one| one.feed == feed.as_str() && is_named(one, &arguments.column));
        seen.len()
    } else {
        let answer = context.ask(&Request::PolicyDismiss {
            partner: partner.to_string(),
            feed: feed.to_string(),
            column: arguments.column.clone(),
        })?;
        serde_json::from_value(answer)?
    };
    if context.global.json {
        let is_dry = context.global.dry_run;
        context
            .console
            .json(&json!({ "dismissed": forgotten, "dry_run": is_dry }))?;
    } else {
        let done = context.would("forgotten; seen again, it is new", "forget it");
        context.console.line(&done)?;
    }
    Ok(Exit::Done)
}

fn approve(context: &mut Context, arguments: &Approve) -> Result<Exit, Failure> {
    let (partner, feed) = names(&arguments.feed)?;
    let config = context.config()?.config;
    let (path, old) = policy_of(&config, &partner)?;
    let mut seen = ask(context, arguments.offline, Some(partner.to_string()))?;
    seen.retain(|one| one.feed == feed.as_str() && is_open(&old, one));
    let (adopts, left) = chosen(seen, &arguments.columns)?;
    for one in &left {
        context.console.say(&format!(
            "left to you: {} {}; name it to adopt it",
            quoted(&one.column, 60),
            what(one)
        ));
    }
    let seen = adopts;
    if seen.is_empty() {
        context.console.say(if left.is_empty() {
            "nothing is open"
        } else {
            "nothing else is open"
        });
        return Ok(Exit::Done);
    }
    let drifts: Vec<Drift> = seen.iter().filter_map(drift_of).collect();
    let text = read_text(&path)?;
    let adopted = adopt(&text, &feed, &drifts).map_err(|why| {
        Failure::conflict("policy.not-adopted", quoted(&why.to_string(), 400))
            .hint("name the columns to adopt, or write the policy by hand")
    })?;
    let name = path.display().to_string();
    let (new, warnings) =
        policy::compile(&name, &adopted, &lists_beside(&path)?).map_err(|found| {
            mistakes(
                &found,
                "policy.not-adopted",
                "what would be written is no valid policy",
            )
            .hint("nothing was changed; write the policy by hand")
        })?;
    let lines = changes(&old, &new);
    if context.global.json {
        let is_dry = context.global.dry_run;
        context.console.json(&json!({
            "policy": path, "version": new.version, "changes": lines, "dry_run": is_dry,
        }))?;
    } else {
        context.console.line(&format!(
            "policy {partner} {} -> {}:",
            old.version, new.version
        ))?;
        for line in &lines {
            context.console.line(&format!("  {}", quoted(line, 400)))?;
        }
        for warning in &warnings {
            context.console.complain(&warning.render_ascii());
        }
    }
    if context.global.dry_run {
        return Ok(Exit::Done);
    }
    let has_new = drifts.iter().any(|one| one.kind == DriftKind::Added);
    if has_new {
        context.console.warn(
            "a new column is forwarded as it comes, and files without it are refused unless the policy\n\
             says otherwise: give it a token if it holds what nobody should store",
        );
    }
    context.confirm(&format!("Write {}?", quoted(&name, 400)))?;
    replace(&path, &text, &adopted)?;
    if !context.global.json {
        context.console.say(
            "written; look at it, mark what is not sensitive, commit it, and tell the partner",
        );
    }
    Ok(Exit::Done)
}

/// Puts the new text in the place of the one that was looked at.
fn replace(path: &Path, looked_at: &str, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::file("write", path, &error);
    // A link stays one.
    let path = fs::canonicalize(path).map_err(failed)?;
    let before = fs::metadata(&path).map_err(failed)?;
    if read_text(&path)? != looked_at {
        return Err(Failure::conflict(
            "policy.not-adopted",
            "the policy has been changed meanwhile; nothing was written",
        )
        .hint("look at it again"));
    }
    write_file(&path, text.as_bytes(), before.mode() & 0o777)?;
    let (owner, group) = (before.uid(), before.gid());
    let now = fs::metadata(&path).map_err(failed)?;
    if (now.uid(), now.gid()) != (owner, group) {
        chown(&path, Some(owner), Some(group)).map_err(failed)?;
    }
    Ok(())
}

/// What is adopted, and what is not without being named: what widens most, and what may be chance.
fn chosen(
    open: Vec<DriftView>,
    names: &[String],
) -> Result<(Vec<DriftView>, Vec<DriftView>), Failure> {
    if names.is_empty() {
        let is_plain = |one: &DriftView| match DriftKind::find(&one.kind) {
            Some(DriftKind::Added) => one.exact,
            Some(DriftKind::Renamed) => one.exact && one.alike >= Some(SURELY_RENAMED_PERCENT),
            Some(DriftKind::Reordered) => true,
            Some(DriftKind::Removed | DriftKind::Retyped) | None => false,
        };
        return Ok(open.into_iter().partition(is_plain));
    }
    for name in names {
        if !open.iter().any(|one| is_named(one, name)) {
            return Err(Failure::not_found(
                "policy.no-drift",
                format!("nothing is open about the column {}", quoted(name, 80)),
            )
            .hint("`sallyport policy drift` lists what is"));
        }
    }
    let about: Vec<DriftView> = open
        .into_iter()
        .filter(|one| names.iter().any(|name| is_named(one, name)))
        .collect();
    // What nobody can adopt holds up nothing else that is said of the same column.
    let is_retyped = |one: &DriftView| DriftKind::find(&one.kind) == Some(DriftKind::Retyped);
    let (retyped, others): (Vec<_>, Vec<_>) = about.into_iter().partition(is_retyped);
    Ok(if others.is_empty() {
        (retyped, Vec::new())
    } else {
        (others, retyped)
    })
}

/// How alike a label must be to be adopted without being named.
const SURELY_RENAMED_PERCENT: u8 = 85;

fn is_named(one: &DriftView, column: &str) -> bool {
    one.column == column || one.now.as_deref() == Some(column)
}

fn drift_of(one: &DriftView) -> Option<Drift> {
    Some(Drift {
        kind: DriftKind::find(&one.kind)?,
        column: one.column.clone(),
        now: one.now.clone().zip(one.alike),
        is_exact: one.exact,
    })
}
