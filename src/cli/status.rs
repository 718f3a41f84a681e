//! `status`: one screen that says what is up and what a person should look at.

use clap::Args;
use serde_json::Value;

use crate::admin::{self, Request, Status};
use crate::authority::partner_keys::Expiry;
use crate::cli::console::{Paint, counted, relative};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::partner::{self, parse_time};

/// `status`
///
/// What is up, failing, interrupted or expiring; each line of trouble with the next command.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport status\n  sallyport status --json\n  sallyport status --offline"
)]
pub struct Arguments {
    /// Read the ledger itself, without a gateway
    #[arg(long)]
    pub offline: bool,
}

/// Runs the verb.
///
/// # Errors
/// Exit 5 when no gateway runs.
pub fn run(context: &mut Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let now = context.now();
    let status: Status = if arguments.offline {
        context.offline(|ledger, config| async move {
            let mut status = admin::status(&ledger, now).await?;
            config
                .instance
                .as_str()
                .clone_into(&mut status.gateway.instance);
            Ok(status)
        })?
    } else {
        serde_json::from_value(context.ask(&Request::Status {})?)?
    };
    if context.global.json {
        context.console.json(&document(&status)?)?;
        return Ok(Exit::Done);
    }
    print(context, &status)?;
    Ok(Exit::Done)
}

/// As JSON; what only a running gateway knows is null without one, not nothing.
fn document(status: &Status) -> Result<Value, Failure> {
    let mut document = serde_json::to_value(status)?;
    if status.running {
        return Ok(document);
    }
    if let Some(members) = document.as_object_mut() {
        for name in ["partners", "feeds", "metrics"] {
            members.insert(name.to_owned(), Value::Null);
        }
        let gateway = members.get_mut("gateway").and_then(Value::as_object_mut);
        for (name, value) in gateway.into_iter().flatten() {
            if name != "instance" {
                *value = Value::Null;
            }
        }
    }
    Ok(document)
}

fn print(context: &mut Context, status: &Status) -> Result<(), Failure> {
    let now = context.now();
    let gateway = &status.gateway;
    if status.running {
        let up = parse_time(&gateway.started_at)
            .map(|at| {
                relative(at, now)
                    .trim_end_matches(" ago")
                    .replace("now", "0s")
            })
            .unwrap_or_default();
        context.console.line(&format!(
            "{}  sallyport {}  up {up}{}  {}, {}",
            gateway.instance,
            gateway.version,
            if status.stopping { "  stopping" } else { "" },
            counted(status.partners, "partner"),
            counted(status.feeds, "feed")
        ))?;
        for (address, key) in gateway.ssh.iter().zip(
            gateway
                .host_keys
                .iter()
                .map(String::as_str)
                .chain(std::iter::repeat("")),
        ) {
            context
                .console
                .line(format!("ssh       {address}  {key}").trim_end())?;
        }
        if let Some(address) = &status.metrics {
            context.console.line(&format!("metrics   {address}"))?;
        }
    } else {
        context.console.line(&format!(
            "{}  read from the ledger; the gateway was not asked",
            gateway.instance
        ))?;
    }
    for line in &status.attention {
        let paint = if line.what == "INTERRUPTED" {
            Paint::Yellow
        } else {
            Paint::Red
        };
        let word = format!("{:<11}", line.what);
        let word = context.console.paint(&word, paint);
        context.console.line(&format!(
            "{word}  {}  {}    {}",
            line.subject, line.detail, line.remedy
        ))?;
    }
    expiring(context)?;
    let today = &status.today;
    let bytes = context.console.size(today.bytes);
    let unit = if context.console.is_for_people() {
        ""
    } else {
        " bytes"
    };
    context.console.line(&format!(
        "today     {} received  {} accepted  {} held  {} rejected  {bytes}{unit}",
        today.received, today.accepted, today.held, today.rejected
    ))?;
    let state = |word: &str| status.states.get(word).copied().unwrap_or(0);
    context.console.line(&format!(
        "now       {} receiving  {} checking  {} delivering  {} interrupted  {} failing",
        state("receiving"),
        state("received"),
        state("accepted") + state("delivering"),
        state("interrupted"),
        state("failing"),
    ))?;
    Ok(())
}

/// Keys that expire within 30 days, from the files; silent when there is no configuration here.
fn expiring(context: &mut Context) -> Result<(), Failure> {
    let Ok(found) = context.config() else {
        return Ok(());
    };
    let Ok((keys, _)) = partner::read_keys(&found.config) else {
        return Ok(());
    };
    let now = context.now();
    for (partner, keys) in keys.iter() {
        for key in keys {
            let Expiry::At(at) = key.expiry() else {
                continue;
            };
            if at > now.plus_micros(SOON_MICROS) {
                continue;
            }
            let (word, paint) = if key.expiry().is_over(now) {
                ("EXPIRED", Paint::Red)
            } else {
                ("EXPIRES", Paint::Yellow)
            };
            let word = context.console.paint(&format!("{word:<11}"), paint);
            let when = context.console.time(at, now);
            context.console.line(&format!(
                "{word}  {partner}  key {}  {when}    sallyport key add {partner} NEW.pub",
                key.comment()
            ))?;
        }
    }
    Ok(())
}

const SOON_MICROS: i64 = 30 * 86_400 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Attention;
    use crate::cli::context::tests::context;

    #[test]
    fn what_only_a_gateway_knows_is_null_without_one() {
        let mut status = Status::default();
        status.gateway.instance = "gw".to_owned();
        let offline = document(&status).unwrap();
        assert_eq!(offline["partners"], Value::Null);
        assert_eq!(offline["gateway"]["pid"], Value::Null);
        assert_eq!(offline["gateway"]["instance"], "gw");
        assert_eq!(offline["today"]["received"], 0);
        status.running = true;
        assert_eq!(document(&status).unwrap()["partners"], 0);
    }

    #[test]
    fn one_screen_names_trouble_with_its_next_command() {
        let (mut context, out, _) = context();
        let mut status = Status {
            running: true,
            partners: 2,
            feeds: 3,
            attention: vec![Attention {
                what: "FAILING".to_owned(),
                subject: "acme/orders".to_owned(),
                detail: "orders_20261120.csv, 4 attempts: disk full".to_owned(),
                remedy: "sallyport submission show 1X0YHC7Q".to_owned(),
            }],
            ..Status::default()
        };
        status.gateway.instance = "gw-eu-1".to_owned();
        status.gateway.version = "0.1.0".to_owned();
        status.gateway.started_at = "2026-11-21T05:40:00.000Z".to_owned();
        status.stopping = true;
        status.states.insert("failing".to_owned(), 1);
        print(&mut context, &status).unwrap();
        let text = out.text();
        assert!(
            text.starts_with("gw-eu-1  sallyport 0.1.0  up 4m  stopping  2 partners, 3 feeds\n")
        );
        assert!(text.contains("FAILING      acme/orders  orders_20261120.csv, 4 attempts: disk full    sallyport submission show 1X0YHC7Q\n"), "{text}");
        assert!(text.contains("1 failing"));
    }
}
