//! `demo`: the whole story over real SSH on this machine, every line checked.
//!
//! It makes a gateway in a temporary folder, drives it with its own SFTP client, and exits 0 only
//! when everything was as it should be. It is the quick start and the smoke test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::admin;
use crate::authority::signing::RECEIPT_NAMESPACE;
use crate::cli::context::{Context, read_text, write_file};
use crate::cli::exit::{Exit, Failure};
use crate::cli::init::{self, Existing, Plan};
use crate::cli::serve;
use crate::config::{Config, LogFormat};
use crate::gateway::{Gateway, GatewayOptions, Listeners, Watching};
use crate::ledger::submissions::{Filter, Row, State};
use crate::ssh::client::{Client, ClientFault, Login, PutOutcome};
use crate::telemetry;
use crate::terms::ids::{InstanceName, PartnerId};

/// `demo`
///
/// Makes a gateway in a temporary folder, sends it a good and a bad file over SFTP on 127.0.0.1,
/// looks at what became of them, and checks every line. Exit 0: all as expected; 1: not.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport demo\n  sallyport demo --stay        then try it by hand\n  sallyport demo --json"
)]
pub struct Arguments {
    /// Leave the gateway running afterwards, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
    /// Make it here and keep it; default: a temporary folder, removed at the
    /// end
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// One numbered line of the story, and what stands below it.
struct Step {
    name: &'static str,
    headline: String,
    below: Vec<String>,
    facts: Value,
}

/// The stage the story plays on.
struct Stage {
    folder: PathBuf,
    lake: PathBuf,
    partner: PartnerId,
    gateway: Gateway,
    client: Client,
    login: Login,
}

/// Why a line was not as expected.
type Surprise = String;

const PARTNER: &str = "acme";
const STEPS: usize = 7;
const GOOD_NAME: &str = "orders_20261120.csv";
const BAD_NAME: &str = "orders_20261121.csv";
const SECOND_NAME: &str = "orders_20261122.csv";

/// Runs the verb.
///
/// # Errors
/// Exit 1 when a line was not as expected; others when the stage cannot be set.
pub fn run(context: &mut Context, arguments: &Arguments) -> Result<Exit, Failure> {
    if context.global.dry_run {
        context
            .console
            .line("would make a gateway in a temporary folder and play seven steps on 127.0.0.1")?;
        return Ok(Exit::Done);
    }
    if context.global.verbose > 0 {
        let level = if context.global.verbose > 1 {
            "debug"
        } else {
            "info"
        };
        telemetry::init_logging(LogFormat::Text, level)
            .map_err(|why| Failure::usage("demo.log", why))?;
    }
    let made;
    let folder = if let Some(folder) = &arguments.dir {
        folder.clone()
    } else {
        made = tempfile::Builder::new()
            .prefix("sallyport-demo-")
            .tempdir()
            .map_err(|error| Failure::file("make", &std::env::temp_dir(), &error))?;
        made.path().to_owned()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Exit::Internal, "runtime", "cannot start").because(error.to_string())
        })?;
    let exit = runtime.block_on(play(context, &folder, arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

async fn play(
    context: &mut Context,
    folder: &Path,
    arguments: &Arguments,
) -> Result<Exit, Failure> {
    if !context.global.json {
        let place = match &arguments.dir {
            Some(folder) => folder.display().to_string(),
            None => "a temporary directory".to_owned(),
        };
        context.console.line(&format!(
            "sallyport demo: everything below happens on 127.0.0.1 and in {place}"
        ))?;
        context.console.line("")?;
        context.console.flush()?;
    }
    let stage = set(context, folder).await?;
    let mut told = Vec::new();
    let ending = tell(context, &stage, &mut told).await;
    let surprise = match ending {
        Ok(()) => None,
        Err(Ending::Surprise(why)) => Some(why),
        Err(Ending::Failure(failure)) => return Err(failure),
    };
    let ok = surprise.is_none();
    if context.global.json {
        let steps: Vec<&Value> = told.iter().collect();
        context
            .console
            .json(&json!({"ok": ok, "steps": steps, "surprise": surprise}))?;
    } else {
        context.console.line("")?;
        match &surprise {
            None => context.console.line(&format!(
                "all {STEPS} as expected.   Try it by hand:  sallyport demo --stay      Set up your own:  sallyport init"
            ))?,
            Some(why) => context.console.line(&format!(
                "NOT as expected in step {}: {why}",
                told.len() + 1
            ))?,
        }
    }
    if arguments.stay && ok {
        stay(context, &stage).await?;
    }
    let Stage {
        gateway, client, ..
    } = stage;
    if let Err(fault) = client.bye().await {
        context
            .console
            .say(&format!("the client left badly: {fault}"));
    }
    gateway.stop().await;
    Ok(if ok { Exit::Done } else { Exit::NotClean })
}

enum Ending {
    Failure(Failure),
    Surprise(Surprise),
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Surprise> for Ending {
    fn from(surprise: Surprise) -> Self {
        Self::Surprise(surprise)
    }
}

async fn tell(context: &mut Context, stage: &Stage, told: &mut Vec<Value>) -> Result<(), Ending> {
    let (good, bad) = init::samples();
    show(context, told, &stage.up())?;

    let (step, row) = stage.good_file(context, good).await?;
    show(context, told, &step)?;
    let row = stage.delivered(row).await?;
    let (step, first_output) = stage.in_storage(&row, good)?;
    show(context, told, &step)?;

    let (step, receipt) = stage.bad_file(bad).await?;
    show(context, told, &step)?;
    let (step, receipts) = stage.receipt(&receipt).await?;
    show(context, told, &step)?;
    show(context, told, &stage.audit().await?)?;
    let step = stage.tokens(good, bad, &first_output, &receipts).await?;
    show(context, told, &step)?;
    Ok(())
}

fn show(context: &mut Context, told: &mut Vec<Value>, step: &Step) -> Result<(), Failure> {
    let number = told.len() + 1;
    if !context.global.json {
        context
            .console
            .line(format!("{number}  {:<16}  {}", step.name, step.headline).trim_end())?;
        for line in &step.below {
            context.console.line(line)?;
        }
        context.console.flush()?;
    }
    told.push(json!({"step": number, "name": step.name, "ok": true, "facts": step.facts}));
    Ok(())
}

/// Makes the folder, starts the gateway and logs in.
async fn set(context: &Context, folder: &Path) -> Result<Stage, Failure> {
    let term = |error: crate::terms::ids::BadTerm| {
        Failure::new(Exit::Internal, "demo.name", error.to_string())
    };
    let partner = PartnerId::parse(PARTNER).map_err(term)?;
    let key_file = folder.join(format!("{PARTNER}_key"));
    let plan = Plan {
        folder: folder.to_owned(),
        instance: InstanceName::parse("demo").map_err(term)?,
        partner: partner.clone(),
        store: "./lake".to_owned(),
        key_out: Some(key_file.clone()),
        existing: Existing::Refuse,
    };
    init::create(context, &plan).map_err(|failure| {
        if failure.exit == Exit::Conflict {
            failure.hint("give another --dir, or none for a temporary folder")
        } else {
            failure
        }
    })?;
    let config_file = folder.join("sallyport.toml");
    let text = read_text(&config_file)?;
    let mut config: Config = context.parse_config(&config_file, &text).map_err(|found| {
        crate::cli::context::mistakes(&found, "demo.config", "the demo's configuration is bad")
    })?;
    config.ssh.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    config.metrics_listen = None;
    config.admin_socket = crate::cli::context::absolute(&folder.join("admin.sock"));
    let gateway = Gateway::start(GatewayOptions {
        config,
        clock: Arc::clone(&context.clock),
        rng: context.rng.clone(),
        listeners: Listeners::default(),
        watching: Watching::Folders,
    })
    .await
    .map_err(|fault| serve::failure(&fault))?;
    let address = gateway.ssh_addr().ok_or_else(|| {
        Failure::new(
            Exit::Internal,
            "demo.address",
            "the gateway listens nowhere",
        )
    })?;
    let known: Vec<String> = gateway
        .host_keys()
        .iter()
        .map(|key| format!("[127.0.0.1]:{} {}\n", address.port(), key.public_line))
        .collect();
    write_file(
        &folder.join("known_hosts"),
        known.concat().as_bytes(),
        0o644,
    )?;
    let login = Login {
        address,
        user: PARTNER.to_owned(),
        host_key: gateway.host_key_fingerprint().to_owned(),
    };
    let client = Client::connect(&login, &key_file).await.map_err(|fault| {
        Failure::new(
            Exit::NotClean,
            "demo.login",
            "the demo's own client cannot log in",
        )
        .because(fault.to_string())
    })?;
    Ok(Stage {
        lake: folder.join("lake"),
        folder: folder.to_owned(),
        partner,
        gateway,
        client,
        login,
    })
}

async fn stay(context: &mut Context, stage: &Stage) -> Result<(), Failure> {
    let folder = stage.folder.display();
    context.console.say(&format!(
        "\nthe gateway stays up until Ctrl-C. By hand:\n\n  cd {folder}\n  sftp -P {} -i {PARTNER}_key -o UserKnownHostsFile=known_hosts {PARTNER}@127.0.0.1\n  sftp> put policies/{PARTNER}/orders_20261121.bad.csv inbox/orders_20261121.csv\n\nIn another terminal:\n\n  sallyport submission list --socket {folder}/admin.sock\n",
        stage.login.address.port()
    ));
    tokio::signal::ctrl_c().await.map_err(|error| {
        Failure::new(Exit::Internal, "demo.signal", "cannot wait for Ctrl-C")
            .because(error.to_string())
    })
}

// === impl Stage ===

impl Stage {
    fn up(&self) -> Step {
        let fingerprint: String = self.login.host_key.chars().take(14).collect();
        let policies = self.gateway.authority().policies();
        let feeds: Vec<String> = policies
            .policies
            .values()
            .flat_map(|policy| policy.feeds.iter().map(|feed| format!("\"{}\"", feed.id)))
            .collect();
        Step {
            name: "gateway up",
            headline: format!(
                "sftp {}  host key {fingerprint}...  partner \"{}\", feed {}",
                self.login.address,
                self.partner,
                feeds.join(", ")
            ),
            below: Vec::new(),
            facts: json!({
                "address": self.login.address.to_string(),
                "host_key": self.login.host_key,
            }),
        }
    }

    async fn good_file(&self, context: &Context, good: &str) -> Result<(Step, Row), Ending> {
        let began = context.now();
        let outcome = self.put(GOOD_NAME, good).await?;
        let took = context.now().micros_since(began) / 1000;
        let line = said(&outcome, "ACCEPTED")?;
        expect(outcome.accepted, || {
            format!("CLOSE was answered with {:?}", outcome.status)
        })?;
        expect(line.contains("2 rows"), || {
            format!("the client was told {line:?}")
        })?;
        let row = self.newest(GOOD_NAME).await?;
        let step = Step {
            name: "good file",
            headline: format!(
                "put {GOOD_NAME}  ->  ACCEPTED  {} rows   told after {took} ms",
                row.rows
            ),
            below: Vec::new(),
            facts: json!({
                "file": GOOD_NAME,
                "verdict": "accepted",
                "told": line,
                "submission": row.id.to_string(),
                "ms": took,
            }),
        };
        Ok((step, row))
    }

    /// The stored object beside what was sent; gives the object too.
    fn in_storage(&self, row: &Row, good: &str) -> Result<(Step, String), Ending> {
        let key = row.key.clone().unwrap_or_default();
        let path = self.lake.join(&key);
        let output = std::fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        expect(self.objects()?.len() == 1, || {
            "there is not exactly one object in the lake".to_owned()
        })?;
        let wanted = ["order_id", "country", "amount", "email", "iban"];
        let sent = cells(good, 1, &wanted)?;
        let held = cells(&output, 1, &wanted)?;
        expect(sent.get(..3) == held.get(..3), || {
            "columns without a token rule have changed".to_owned()
        })?;
        let tokens = held.iter().skip(3).zip(sent.iter().skip(3));
        expect(
            tokens
                .into_iter()
                .all(|(token, value)| token.starts_with("tok_") && token != value),
            || "email and iban are not tokens".to_owned(),
        )?;
        let held: Vec<String> = held.iter().map(|cell| shortened(cell)).collect();
        let line = |mark: &str, row: &[String], remark: &str| {
            let [order, country, amount, email, iban] =
                [0, 1, 2, 3, 4].map(|at| row.get(at).map_or("", String::as_str));
            format!(
                "   {mark}  {order:<10}  {country:<7} {amount:>6}  {email:<29}  {iban:<22}  {remark}"
            )
            .trim_end()
            .to_owned()
        };
        let header = wanted.map(str::to_owned);
        Ok((
            Step {
                name: "in storage",
                headline: format!("lake/{}", shortened_key(&key, row)),
                below: vec![
                    String::new(),
                    line(" ", &header, ""),
                    line("-", &sent, "as sent"),
                    line("+", &held, "in the lake"),
                    String::new(),
                ],
                facts: json!({"object": row.key, "sha256": row.out_digest.map(|digest| digest.hex())}),
            },
            output,
        ))
    }

    /// Sends the bad file; gives the path of its receipt too.
    async fn bad_file(&self, bad: &str) -> Result<(Step, String), Ending> {
        let outcome = self.put(BAD_NAME, bad).await?;
        expect(!outcome.accepted, || {
            "CLOSE of the bad file was answered with OK".to_owned()
        })?;
        expect(outcome.status.starts_with("REJECTED"), || {
            format!("the status says {:?}", outcome.status)
        })?;
        let line = said(&outcome, "REJECTED")?;
        expect(line.contains("3 errors"), || {
            format!("the client was told {line:?}")
        })?;
        let reasons: Vec<String> = outcome
            .lines
            .iter()
            .map(|line| line.trim_start_matches("sallyport:").trim().to_owned())
            .filter(|line| line.starts_with("line "))
            .collect();
        for (number, code) in [
            (3, "missing-cell"),
            (4, "type-error"),
            (5, "constraint-error"),
        ] {
            let start = format!("line {number} ");
            expect(
                reasons
                    .iter()
                    .any(|reason| reason.starts_with(&start) && reason.contains(code)),
                || format!("no reason names line {number} and {code}: {reasons:?}"),
            )?;
        }
        let row = self.newest(BAD_NAME).await?;
        let base = row.receipt_base.clone().unwrap_or_default();
        let receipt = format!("/receipts/{base}.txt");
        let told_of = outcome.lines.iter().any(|line| line.contains(&receipt));
        expect(told_of, || {
            format!("the client was not told of {receipt}: {:?}", outcome.lines)
        })?;
        let gone = self.size(&format!("/inbox/{BAD_NAME}")).await?;
        expect(gone.is_err(), || {
            "the rejected file is still listed in the inbox".to_owned()
        })?;
        expect(self.objects()?.len() == 1, || {
            "the rejected file has an object".to_owned()
        })?;
        let mut below: Vec<String> = reasons.iter().map(|reason| aligned(reason)).collect();
        below.push(format!("      report: {}", receipt.trim_start_matches('/')));
        let step = Step {
            name: "bad file",
            headline: format!("put {BAD_NAME}  ->  REJECTED  {} errors", row.errors_total),
            below,
            facts: json!({
                "file": BAD_NAME,
                "verdict": "rejected",
                "status": outcome.status,
                "reasons": reasons,
                "submission": row.id.to_string(),
            }),
        };
        Ok((step, receipt))
    }

    /// Fetches the bad file's receipt and checks its signatures; gives all receipts.
    async fn receipt(&self, path: &str) -> Result<(Step, Vec<u8>), Ending> {
        let base = path.trim_end_matches(".txt");
        let mut all = Vec::new();
        for kind in ["txt", "json"] {
            let document = self.get(&format!("{base}.{kind}")).await?;
            let signature = self.get(&format!("{base}.{kind}.sig")).await?;
            let signature = String::from_utf8_lossy(&signature).into_owned();
            let key = self.gateway.receipt_key();
            expect(key.verify(RECEIPT_NAMESPACE, &document, &signature), || {
                format!("the signature of {base}.{kind} does not verify")
            })?;
            let mut altered = document.clone();
            if let Some(byte) = altered.first_mut() {
                *byte ^= 1;
            }
            expect(!key.verify(RECEIPT_NAMESPACE, &altered, &signature), || {
                format!("the signature of {base}.{kind} fits another text as well")
            })?;
            all.extend(document);
        }
        let names = self
            .client
            .list("/receipts")
            .await
            .map_err(|fault| fault.to_string())?;
        for name in names.iter().filter(|name| name.contains(".receipt.")) {
            all.extend(self.get(&format!("/receipts/{name}")).await?);
        }
        let step = Step {
            name: "receipt",
            headline: "fetched as .txt and .json; both signatures verify".to_owned(),
            below: Vec::new(),
            facts: json!({"receipt": path, "signature": "ok", "listed": names.len()}),
        };
        Ok((step, all))
    }

    async fn audit(&self) -> Result<Step, Ending> {
        let verdict = admin::audit_verify(self.gateway.ledger(), self.gateway.receipt_key())
            .await
            .map_err(|fault| fault.to_string())?;
        expect(verdict.ok, || {
            format!(
                "the audit chain is broken: {}",
                verdict.broken_why.clone().unwrap_or_default()
            )
        })?;
        expect(verdict.records > 0, || "the audit is empty".to_owned())?;
        Ok(Step {
            name: "audit",
            headline: format!("{} entries, chain ok", verdict.records),
            below: Vec::new(),
            facts: json!({"records": verdict.records, "head": verdict.head}),
        })
    }

    /// A second file with the same e-mail address; and no raw value anywhere.
    async fn tokens(
        &self,
        good: &str,
        bad: &str,
        first_output: &str,
        receipts: &[u8],
    ) -> Result<Step, Ending> {
        let second = good
            .replace("O-0000000", "O-1000000")
            .replace("2026-11-20T", "2026-11-22T");
        let outcome = self.put(SECOND_NAME, &second).await?;
        expect(outcome.accepted, || {
            format!(
                "the second good file was answered with {:?}",
                outcome.status
            )
        })?;
        let row = self.delivered(self.newest(SECOND_NAME).await?).await?;
        let path = self.lake.join(row.key.unwrap_or_default());
        let output = std::fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        for column in ["email", "iban"] {
            expect(
                cells(first_output, 1, &[column])? == cells(&output, 1, &[column])?,
                || format!("the same {column} has two tokens"),
            )?;
            expect(
                cells(&output, 1, &[column])? != cells(&output, 2, &[column])?,
                || format!("two values of {column} have the same token"),
            )?;
        }
        let values = raw_values(&[good, bad]);
        let mut places: Vec<(String, Vec<u8>)> = vec![("receipts".to_owned(), receipts.to_vec())];
        for folder in [&self.lake, &self.folder.join("state")] {
            for path in files(folder).map_err(|error| error.to_string())? {
                if let Ok(bytes) = std::fs::read(&path) {
                    places.push((path.display().to_string(), bytes));
                }
            }
        }
        for (place, bytes) in &places {
            for value in &values {
                expect(
                    memchr::memmem::find(bytes, value.as_bytes()).is_none(),
                    || format!("a value of a tokenized column lies in the clear in {place}"),
                )?;
            }
        }
        Ok(Step {
            name: "tokens",
            headline: "same value, same token?  yes     a value in the clear anywhere?  no"
                .to_owned(),
            below: Vec::new(),
            facts: json!({
                "same_value_same_token": true,
                "values_searched": values.len(),
                "files_searched": places.len(),
                "found": 0,
            }),
        })
    }

    async fn put(&self, name: &str, text: &str) -> Result<PutOutcome, Surprise> {
        self.client
            .put(&format!("/inbox/{name}"), text.as_bytes())
            .await
            .map_err(|fault| fault.to_string())
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, Surprise> {
        self.client
            .get(path)
            .await
            .map_err(|fault: ClientFault| fault.to_string())
    }

    async fn size(&self, path: &str) -> Result<Result<u64, String>, Surprise> {
        self.client
            .size(path)
            .await
            .map_err(|fault| fault.to_string())
    }

    /// The newest row of a file name.
    async fn newest(&self, name: &str) -> Result<Row, Surprise> {
        let filter = Filter {
            partner: Some(self.partner.clone()),
            ..Filter::default()
        };
        let rows = self
            .gateway
            .ledger()
            .list(filter)
            .await
            .map_err(|fault| fault.to_string())?;
        rows.into_iter()
            .find(|row| row.name == name)
            .ok_or_else(|| format!("the ledger does not know {name}"))
    }

    /// Waits until an accepted row is delivered.
    async fn delivered(&self, row: Row) -> Result<Row, Surprise> {
        let mut row = row;
        for _ in 0..DELIVERY_LOOKS {
            if row.state == State::Delivered {
                return Ok(row);
            }
            tokio::time::sleep(DELIVERY_PAUSE).await;
            row = self
                .gateway
                .ledger()
                .submission(row.id)
                .await
                .map_err(|fault| fault.to_string())?
                .ok_or("the row is gone")?;
        }
        Err(format!(
            "{} was not delivered; it is {} ({})",
            row.name,
            row.state,
            row.last_error.unwrap_or_default()
        ))
    }

    /// Objects of the lake, without their metadata.
    fn objects(&self) -> Result<Vec<PathBuf>, Surprise> {
        let mut found = files(&self.lake).map_err(|error| error.to_string())?;
        found.retain(|path| path.extension().is_some_and(|kind| kind == "csv"));
        Ok(found)
    }
}

fn expect(fits: bool, why: impl FnOnce() -> Surprise) -> Result<(), Surprise> {
    if fits { Ok(()) } else { Err(why()) }
}

/// The line on stderr that tells the verdict.
fn said(outcome: &PutOutcome, verdict: &str) -> Result<String, Surprise> {
    outcome
        .lines
        .iter()
        .find(|line| line.contains(verdict))
        .cloned()
        .ok_or_else(|| format!("{verdict} was not said on stderr, only {:?}", outcome.lines))
}

/// Cells of one line of a CSV file without quotes, by column.
fn cells(text: &str, line: usize, wanted: &[&str]) -> Result<Vec<String>, Surprise> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let row: Vec<&str> = lines
        .nth(line.saturating_sub(1))
        .unwrap_or_default()
        .split(',')
        .collect();
    wanted
        .iter()
        .map(|column| {
            header
                .iter()
                .position(|label| label == column)
                .and_then(|at| row.get(at))
                .map(|cell| (*cell).to_owned())
                .ok_or_else(|| format!("line {line} has no {column}"))
        })
        .collect()
}

/// Values of the tokenized columns: e-mail addresses and IBANs, recognised by their shape.
fn raw_values(texts: &[&str]) -> Vec<String> {
    let mut values: Vec<String> = texts
        .iter()
        .flat_map(|text| text.lines().skip(1))
        .flat_map(|line| line.split(','))
        .filter(|cell| {
            let is_email = cell.contains('@');
            let is_iban = cell.len() > 14
                && cell.starts_with(|c: char| c.is_ascii_uppercase())
                && cell.chars().all(|c| c.is_ascii_alphanumeric());
            is_email || is_iban
        })
        .map(str::to_owned)
        .collect();
    values.sort();
    values.dedup();
    values
}

/// `line 3  missing-cell      6 cells, ...`: one column for the code.
fn aligned(reason: &str) -> String {
    let mut parts = reason.splitn(3, "  ").map(str::trim);
    let place = parts.next().unwrap_or_default();
    let code = parts.next().unwrap_or_default();
    let detail = parts.next().unwrap_or_default();
    format!("      {place}  {code:<16}  {detail}")
        .trim_end()
        .to_owned()
}

/// A token cut in its middle: what is readable stays readable.
fn shortened(token: &str) -> String {
    let (body, tail) = match token.find('@') {
        Some(at) => token.split_at(at),
        None => (token, ""),
    };
    let head: String = body.chars().take(14).collect();
    if head.len() < body.len() {
        format!("{head}...{tail}")
    } else {
        token.to_owned()
    }
}

/// The key with its id cut.
fn shortened_key(key: &str, row: &Row) -> String {
    let id = row.id.to_string();
    let short: String = id.chars().take(8).collect();
    key.replace(&id, &format!("{short}...{}", row.id.short()))
}

fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Looks at a row on its way to the store: ten seconds in all.
const DELIVERY_LOOKS: usize = 1000;
const DELIVERY_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_their_label() {
        let text = "a,b,c\n1,2,3\n4,5,6\n";
        assert_eq!(cells(text, 1, &["c", "a"]).unwrap(), ["3", "1"]);
        assert_eq!(cells(text, 2, &["b"]).unwrap(), ["5"]);
        assert!(cells(text, 1, &["d"]).is_err());
        assert!(cells(text, 3, &["a"]).unwrap()[0].is_empty());
    }

    #[test]
    fn tokens_are_cut_and_keep_their_readable_end() {
        assert_eq!(
            shortened("tok_email_1_9fk2m8x0q1@example.org"),
            "tok_email_1_9f...@example.org"
        );
        assert_eq!(shortened("DE89"), "DE89");
    }

    #[test]
    fn the_samples_have_values_worth_searching_for() {
        let (good, bad) = init::samples();
        let values = raw_values(&[good, bad]);
        assert!(values.iter().any(|value| value.contains('@')));
        assert!(values.contains(&"DE89370400440532013000".to_owned()));
        assert!(!values.iter().any(|value| value.starts_with("TRL")));
    }
}
