//! Files that wait for a person: held, released, rejected, forgotten.

use std::fs;
use std::path::Path;

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Gateway, Verdict, files_below, orders, orders_with, pause};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a shorter file written over a longer one without truncation is held until a person decides",
        Needs::OpenSsh,
        stale_tail,
    ),
    (
        "that it was written over a longer one is not forgotten when it is cut off and resumed",
        Needs::OpenSsh,
        stale_tail_cut_off,
    ),
    (
        "a new column is held, survives kill -9, and is left out when it is released",
        Needs::OpenSsh,
        new_column,
    ),
    (
        "of a released file with bad rows the good ones are delivered, and the receipt names the others",
        Needs::OpenSsh,
        bad_rows,
    ),
    (
        "a held file whose content was accepted meanwhile cannot be released, and is not the gateway's fault",
        Needs::OpenSsh,
        known_content,
    ),
    (
        "many errors are a signed table beside the receipt, before and after a person's no",
        Needs::OpenSsh,
        table_of_errors,
    ),
    (
        "a rejected held file leaves its reason in the receipt and nothing in the spool",
        Needs::OpenSsh,
        rejected,
    ),
    (
        "bad rows are split from a file, sealed, fetched with a reason, and destroyed in time",
        Needs::OpenSsh,
        split,
    ),
    (
        "many rows left out survive kill -9, and are not those of a file that is refused",
        Needs::OpenSsh,
        split_large,
    ),
    (
        "what was left out under another list is taken when it is sent again",
        Needs::OpenSsh,
        list_mended,
    ),
    (
        "the same content sent many times at once is stored once",
        Needs::OpenSsh,
        at_once,
    ),
    (
        "rows left out are listed and purged, and give their room back",
        Needs::OpenSsh,
        purged,
    ),
    (
        "rows left out have to find room, and leave none behind",
        Needs::OpenSsh,
        no_room,
    ),
    (
        "what is nowhere any more is not listed again for a person's no",
        Needs::OpenSsh,
        not_listed_again,
    ),
    (
        "what nobody decides about is rejected when its time is over",
        Needs::OpenSsh,
        forgotten,
    ),
];

/// WRITE, CREATE.
const PATCH: u32 = 0x02 | 0x08;

/// Puts a line under a table of acme's policy.
pub(crate) fn under(home: &Path, table: &str, line: &str) -> Verdict {
    let path = home.join("policies/acme.toml");
    let text = fs::read_to_string(&path)?;
    let key = line.split('=').next().unwrap_or_default();
    let kept: Vec<&str> = text.lines().filter(|l| !l.starts_with(key)).collect();
    let kept = kept.join("\n") + "\n";
    let changed = kept.replacen(&format!("{table}\n"), &format!("{table}\n{line}\n"), 1);
    assert_ne!(kept, changed, "no {table} in {kept}");
    Ok(fs::write(path, changed)?)
}

/// Sends a file that is held; its short id.
fn put_held(gateway: &Gateway, name: &str, text: &str) -> Result<String, crate::harness::Failed> {
    let file = gateway.local(name, text)?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?
        .expect_stderr(&format!("HELD {name}"))?;
    gateway.wait_state(name, "held")?;
    let items = gateway.submissions()?;
    let item = items.iter().find(|item| item["file"] == name);
    let short = item.and_then(|item| item["short"].as_str());
    Ok(short.unwrap_or_default().to_owned())
}

fn spool_files(gateway: &Gateway) -> Result<usize, crate::harness::Failed> {
    Ok(files_below(&gateway.home().join("state/spool"))?.len())
}

fn only_object(gateway: &Gateway) -> Result<String, crate::harness::Failed> {
    let objects = gateway.objects()?;
    let [(_, object)] = objects.as_slice() else {
        return Err(format!("{} objects", objects.len()).into());
    };
    Ok(String::from_utf8_lossy(object).into_owned())
}

fn receipt(gateway: &Gateway, base: &str) -> Result<String, crate::harness::Failed> {
    let to = gateway.scratch().join("receipt.txt");
    let get = format!("get /receipts/{base}.txt {}\n", to.display());
    gateway.sftp(&get)?.expect_code(0)?;
    Ok(fs::read_to_string(to)?)
}

/// The receipt of the file that came last.
fn newest_receipt(gateway: &Gateway) -> Result<String, crate::harness::Failed> {
    let items = gateway.submissions()?;
    let path = items[0]["receipt"].as_str().ok_or("no receipt")?;
    let base = path
        .trim_start_matches("/receipts/")
        .trim_end_matches(".txt");
    receipt(gateway, base)
}

fn stale_tail() -> Verdict {
    let gateway = Gateway::start()?;
    let path = "/inbox/orders_20261104.csv";
    let file = gateway.local("orders_20261104.csv", orders(40))?;
    gateway
        .sftp(&format!("put {} {path}\n", file.display()))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261104.csv", "delivered")?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    let fields = [
        &handle[..],
        &0_u64.to_be_bytes(),
        &string(orders(3).as_bytes()),
    ];
    assert_eq!(sftp.ask(raw::WRITE, &fields)?.status()?, 0);
    assert_eq!(sftp.ask(raw::CLOSE, &[&handle])?.status()?, 0);
    let items = gateway.submissions()?;
    let held = &items[0];
    assert_eq!(
        (&held["state"], &held["verdict"], &held["codes"][0]),
        (&"held".into(), &"held".into(), &"incomplete".into()),
        "{held}"
    );
    // It is there, and nobody may touch it yet.
    let listed = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    assert!(listed.stdout.contains("-r--------"), "{listed:?}");
    let short = held["short"].as_str().unwrap_or_default();
    let base = format!("orders_20261104.csv.{short}.receipt");
    assert!(receipt(&gateway, &base)?.contains("HELD  1 error. Nothing is forwarded"));
    assert_eq!(gateway.objects()?.len(), 1);

    gateway
        .cli(&["quarantine", "list"])?
        .expect_code(0)?
        .expect_stdout("incomplete")?;
    gateway
        .cli(&["quarantine", "show", short])?
        .expect_code(0)?
        .expect_stdout("were written over a file of")?;
    let no_reason = gateway.cli(&["quarantine", "release", short, "--yes"])?;
    no_reason
        .expect_code(2)?
        .expect_stderr("quarantine.no-reason")?;
    let release = [
        "quarantine",
        "release",
        short,
        "--reason",
        "the partner says so",
    ];
    // Nobody to ask, and no --yes: nothing is done.
    gateway.cli(&release)?.expect_code(2)?;
    let wrong = [&release[..], &["--as-policy", "77", "--yes"]].concat();
    gateway
        .cli(&wrong)?
        .expect_code(6)?
        .expect_stderr("quarantine.other-policy")?;
    let dry = [&release[..], &["--dry-run"]].concat();
    gateway
        .cli(&dry)?
        .expect_code(0)?
        .expect_stdout("would be released: 3 rows")?;
    gateway.wait_state("orders_20261104.csv", "held")?;
    let yes = [&release[..], &["--yes"]].concat();
    gateway
        .cli(&yes)?
        .expect_code(0)?
        .expect_stdout("released")?;
    gateway.wait_until("both objects", || Ok(gateway.objects()?.len() == 2))?;
    let text = receipt(&gateway, &base)?;
    assert!(text.contains("ACCEPTED  3 rows"), "{text}");
    assert!(text.contains("by a person: the partner says so"), "{text}");
    gateway
        .cli(&yes)?
        .expect_code(6)?
        .expect_stderr("quarantine.not-held")?;
    gateway
        .cli(&["audit", "tail"])?
        .expect_stdout("because: the partner says so")?;
    Ok(())
}

fn stale_tail_cut_off() -> Verdict {
    let mut gateway = Gateway::start()?;
    let path = "/inbox/orders_20261112.csv";
    let file = gateway.local("orders_20261112.csv", orders(4000))?;
    gateway
        .sftp(&format!("put {} {path}\n", file.display()))?
        .expect_code(0)?;
    // Written over it without truncation, large enough to be known, and cut off.
    let short = orders(2000);
    let (first, rest) = short.as_bytes().split_at(100_000);
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    let write = |sftp: &mut RawSftp, handle: &[u8], offset: u64, data: &[u8]| {
        let fields = [handle, &offset.to_be_bytes(), &string(data)];
        sftp.ask(raw::WRITE, &fields)?.status()
    };
    for (at, piece) in (0_u64..).zip(first.chunks(20_000)) {
        assert_eq!(write(&mut sftp, &handle, at * 20_000, piece)?, 0);
    }
    sftp.signal(rustix::process::Signal::KILL)?;
    drop(sftp);
    gateway.wait_until("the cut", || {
        let items = gateway.submissions()?;
        Ok(items.iter().any(|item| item["state"] == "interrupted"))
    })?;
    gateway.kill()?;
    gateway.serve()?;
    // Resumed to its own end, it is still shorter than what it was written over.
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    let mut offset = 100_000_u64;
    for piece in rest.chunks(20_000) {
        assert_eq!(write(&mut sftp, &handle, offset, piece)?, 0);
        offset += u64::try_from(piece.len())?;
    }
    assert_eq!(sftp.ask(raw::CLOSE, &[&handle])?.status()?, 0);
    gateway.wait_state("orders_20261112.csv", "held")
}

fn new_column() -> Verdict {
    let mut gateway =
        Gateway::start_with(|home| under(home, "[feed.schema]", "extra_columns = \"hold\""))?;
    let name = "orders_20261105.csv";
    let text: String = orders(2000)
        .lines()
        .enumerate()
        .map(|(at, line)| match at {
            0 => format!("{line},loyalty_tier\n"),
            _ if line.starts_with("TRL") => format!("{line}\n"),
            _ => format!("{line},tier-canary-{at}\n"),
        })
        .collect();
    let short = put_held(&gateway, name, &text)?;
    gateway
        .cli(&["quarantine", "list"])?
        .expect_stdout("extra-label")?;
    gateway.kill()?;
    gateway.serve()?;
    gateway
        .cli(&["status"])?
        .expect_stdout("HELD")?
        .expect_stdout(&format!("sallyport quarantine show {short}"))?;
    assert!(gateway.objects()?.is_empty());
    gateway
        .cli(&[
            "quarantine",
            "release",
            &short,
            "--reason",
            "known",
            "--yes",
        ])?
        .expect_code(0)?
        .expect_stdout("2 000 rows")?;
    gateway.wait_state(name, "delivered")?;
    let object = only_object(&gateway)?;
    assert_eq!(object.lines().count(), 2001);
    // Tokens are random letters: `tier` alone may well be in one.
    assert!(
        !object.contains("tier-canary") && !object.contains("loyalty_tier"),
        "{}",
        object.get(..200).unwrap_or_default()
    );
    gateway.wait_until("an empty spool", || Ok(spool_files(&gateway)? == 0))?;
    Ok(())
}

fn known_content() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        under(home, "[[feed]]", "on_finding = \"hold\"")?;
        under(home, "[[feed]]", "same_content = \"reject\"")
    })?;
    let text = orders(6).replacen(",DE,", ",UK,", 1);
    let first = put_held(&gateway, "orders_20261108.csv", &text)?;
    let second = put_held(&gateway, "orders_20261109.csv", &text)?;
    let release =
        |short: &str| gateway.cli(&["quarantine", "release", short, "--reason", "x", "--yes"]);
    release(&first)?.expect_code(0)?;
    gateway.wait_state("orders_20261108.csv", "delivered")?;
    release(&second)?
        .expect_code(6)?
        .expect_stderr("quarantine.faulty")?
        .expect_stderr("duplicate-file")?;
    gateway.wait_state("orders_20261109.csv", "held")?;
    only_object(&gateway)?;
    Ok(())
}

fn bad_rows() -> Verdict {
    let gateway = Gateway::start_with(|home| under(home, "[[feed]]", "on_finding = \"hold\""))?;
    let name = "orders_20261106.csv";
    let text = orders(6).replacen(",DE,", ",UK,", 1);
    let short = put_held(&gateway, name, &text)?;
    // A file that is no file of rows is held as well, and nobody can release it.
    let broken = "order_id;x\n".to_owned() + &"1;2\n".repeat(1 << 20);
    let broken = put_held(&gateway, "orders_20261107.csv", &broken)?;
    gateway
        .cli(&["quarantine", "release", &broken, "--reason", "x", "--yes"])?
        .expect_code(6)?
        .expect_stderr("quarantine.faulty")?;
    gateway.wait_state("orders_20261107.csv", "held")?;
    gateway
        .cli(&[
            "quarantine",
            "release",
            &short,
            "--reason",
            "5 are enough",
            "--yes",
        ])?
        .expect_code(0)?
        .expect_stdout("5 rows, 1 row left out")?;
    gateway.wait_state(name, "delivered")?;
    let object = only_object(&gateway)?;
    assert_eq!(object.lines().count(), 6, "{object}");
    assert!(!object.contains(",UK,"), "{object}");
    let text = receipt(&gateway, &format!("{name}.{short}.receipt"))?;
    assert!(text.contains("ACCEPTED  5 rows, 1 left out"), "{text}");
    assert!(text.contains("constraint-error"), "{text}");
    // A file of the same name that was accepted since is not stepped over.
    let older = put_held(&gateway, "orders_20261108.csv", &text_with_fault(4))?;
    let good = gateway.local("orders_20261108.csv", orders(5))?;
    gateway
        .sftp(&format!("put {} inbox/\n", good.display()))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261108.csv")?;
    gateway
        .cli(&["quarantine", "release", &older, "--reason", "late", "--yes"])?
        .expect_code(6)?
        .expect_stderr("quarantine.newer")?;
    Ok(())
}

fn text_with_fault(rows: u32) -> String {
    orders(rows).replacen(",DE,", ",UK,", 1)
}

fn table_of_errors() -> Verdict {
    let gateway = Gateway::start_with(|home| under(home, "[[feed]]", "on_finding = \"hold\""))?;
    let name = "orders_20261112.csv";
    // 150 bad cells, one of them a formula; more than a receipt shows.
    let text = orders(150)
        .replace(",DE,", ",UK,")
        .replacen(",UK,", ",\"=1+1,\"\"x\",", 1)
        .replacen(",UK,", ",x; =2,", 1);
    let short = put_held(&gateway, name, &text)?;
    let base = format!("{name}.{short}.receipt");
    let fetch = |document: &str| -> Result<String, crate::harness::Failed> {
        let to = gateway.scratch().join(document);
        let get = format!("get /receipts/{document} {}\n", to.display());
        gateway.sftp(&get)?.expect_code(0)?;
        Ok(fs::read_to_string(to)?)
    };
    let table = format!("{base}.errors.csv");
    let listed = gateway.sftp("ls -1 receipts\n")?.expect_code(0)?;
    for document in [table.clone(), format!("{table}.sig")] {
        assert!(
            listed.stdout.contains(&format!("/{document}\n")),
            "{listed:?}"
        );
    }
    assert!(receipt(&gateway, &base)?.contains(&format!("As a table: {table}")));
    let held = fetch(&table)?;
    let lines: Vec<&str> = held.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 151, "{held}");
    assert_eq!(
        lines[..4],
        [
            "line,row,column,code,value_or_shape,detail",
            "2,1,country,constraint-error,\"'=1+1,\"\"x\",\"one of DE, AT, CH\"",
            "3,2,country,constraint-error,\"x; '=2\",\"one of DE, AT, CH\"",
            "4,3,country,constraint-error,UK,\"one of DE, AT, CH\"",
        ]
    );
    let reject = ["quarantine", "reject", &short, "--reason", "no", "--yes"];
    gateway.cli(&reject)?.expect_code(0)?;
    gateway.wait_state(name, "rejected")?;
    assert_eq!(fetch(&table)?, held);
    let (signers, signature) = (fetch_help(&gateway)?, fetch(&format!("{table}.sig"))?);
    let (signers, signature) = (
        gateway.local("signers", signers)?,
        gateway.local("table.sig", signature)?,
    );
    crate::harness::run_with_input(
        std::process::Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", "gw", "-n", "sallyport-receipt", "-f"])
            .arg(signers)
            .arg("-s")
            .arg(signature),
        held.as_bytes(),
    )?
    .expect_code(0)?;
    // Few errors need no table.
    let few = put_held(&gateway, "orders_20261113.csv", &text_with_fault(3))?;
    let get = format!("get /receipts/orders_20261113.csv.{few}.receipt.errors.csv\n");
    gateway.sftp(&get)?.expect_code(1)?;
    Ok(())
}

fn fetch_help(gateway: &Gateway) -> Result<String, crate::harness::Failed> {
    let to = gateway.scratch().join("allowed_signers");
    let get = format!("get /help/allowed_signers {}\n", to.display());
    gateway.sftp(&get)?.expect_code(0)?;
    Ok(fs::read_to_string(to)?)
}

fn rejected() -> Verdict {
    let gateway = Gateway::start_with(|home| under(home, "[[feed]]", "on_finding = \"hold\""))?;
    let name = "orders_20261109.csv";
    let short = put_held(&gateway, name, &text_with_fault(3000))?;
    assert!(spool_files(&gateway)? > 0);
    let reject = ["quarantine", "reject", &short, "--reason", "send UK apart"];
    gateway
        .cli(&[&reject[..], &["--dry-run"]].concat())?
        .expect_code(0)?;
    gateway.wait_state(name, "held")?;
    gateway
        .cli(&[&reject[..], &["--yes"]].concat())?
        .expect_code(0)?
        .expect_stdout("rejected")?;
    gateway.wait_state(name, "rejected")?;
    gateway.wait_until("an empty spool", || Ok(spool_files(&gateway)? == 0))?;
    let text = receipt(&gateway, &format!("rejected/{name}.{short}.receipt"))?;
    assert!(text.contains("REJECTED  1 error in 1 row."), "{text}");
    assert!(text.contains("by a person: send UK apart"), "{text}");
    // A held file may be taken out of sight, and replaced by a good one.
    let hidden = put_held(&gateway, "orders_20261110.csv", &text_with_fault(4))?;
    gateway
        .sftp("rm inbox/orders_20261110.csv\n")?
        .expect_code(0)?;
    let listed = gateway.sftp("ls inbox\n")?.expect_code(0)?;
    assert!(!listed.stdout.contains("orders_20261110.csv"), "{listed:?}");
    gateway
        .cli(&["quarantine", "list"])?
        .expect_stdout(&hidden)?;
    Ok(())
}

fn forgotten() -> Verdict {
    let mut gateway = Gateway::start_with(|home| {
        under(home, "[[feed]]", "on_finding = \"hold\"")?;
        let path = home.join("sallyport.toml");
        let text = fs::read_to_string(&path)?;
        let changed = text.replacen("[spool]\n", "[spool]\nquarantine_ttl = \"1s\"\n", 1);
        Ok(fs::write(path, changed)?)
    })?;
    let name = "orders_20261111.csv";
    let short = put_held(&gateway, name, &text_with_fault(3))?;
    // It looks at the start, and then every minute.
    let mut looks = 0;
    loop {
        gateway.stop()?;
        gateway.serve()?;
        pause();
        let items = gateway.submissions()?;
        if items.iter().any(|item| item["state"] == "rejected") {
            break;
        }
        looks += 1;
        assert!(looks < 50, "{items:?}");
    }
    let text = receipt(&gateway, &format!("{name}.{short}.receipt"))?;
    assert!(text.contains("nobody decided within 1 second"), "{text}");
    assert!(!text.contains("seconds"), "{text}");
    Ok(())
}

fn split() -> Verdict {
    let mut gateway = Gateway::start_with(|home| {
        under(home, "[[feed]]", "on_finding = \"split\"")?;
        let path = home.join("sallyport.toml");
        let text = fs::read_to_string(&path)?;
        let changed = text.replacen("[spool]\n", "[spool]\nquarantine_ttl = \"5s\"\n", 1);
        Ok(fs::write(path, changed)?)
    })?;
    let name = "orders_20261112.csv";
    let text = orders_with(6, |n| format!("canary-{n}@example.org")).replacen(",DE,", ",UK,", 2);
    let file = gateway.local(name, &text)?;
    let put = |to: &str| format!("put {} {to}\n", file.display());
    gateway
        .sftp(&put("inbox/"))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED")?
        .expect_stderr("4 rows, 2 left out")?;
    gateway.wait_state(name, "delivered")?;
    let object = only_object(&gateway)?;
    assert_eq!(object.lines().count(), 5, "{object}");
    assert!(
        !object.contains("UK") && !object.contains("canary"),
        "{object}"
    );
    let items = gateway.submissions()?;
    let short = items[0]["short"].as_str().unwrap_or_default().to_owned();
    let metadata = &items[0]["metadata"];
    assert_eq!(
        (&metadata["rows"], &metadata["rows-left-out"]),
        (&"4".into(), &"2".into()),
        "{metadata}"
    );
    let said = receipt(&gateway, &format!("{name}.{short}.receipt"))?;
    assert!(
        said.contains("Send the rows that were left out again"),
        "{said}"
    );
    assert!(!said.contains("canary"), "{said}");
    let files = files_below(&gateway.home())?;
    for path in files.into_iter().filter(|path| path.is_file()) {
        let bytes = fs::read(&path)?;
        let found = memchr::memmem::find(&bytes, b"canary-1@example.org");
        assert!(found.is_none(), "in {}", path.display());
    }
    gateway
        .cli(&["submission", "show", &short])?
        .expect_stdout(&format!("sallyport quarantine get {short} --out FILE"))?;
    let to = gateway.scratch().join("rejects.ndjson");
    let to = to.to_str().ok_or("no UTF-8")?;
    let get = ["quarantine", "get", &short, "--out", to];
    gateway
        .cli(&get)?
        .expect_code(2)?
        .expect_stderr("quarantine.no-reason")?;
    assert!(!Path::new(to).exists());
    let with_reason = [&get[..], &["--reason", "which ones, ticket 7"]].concat();
    gateway
        .cli(&with_reason)?
        .expect_code(0)?
        .expect_stdout("2 rows")?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(to)?.permissions());
    assert_eq!(mode & 0o777, 0o600);
    let kept = fs::read_to_string(to)?;
    let lines: Vec<serde_json::Value> = kept
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 3, "{kept}");
    assert_eq!(lines[0]["columns"][0], "order_id");
    assert_eq!(
        (&lines[2]["row"], &lines[2]["line"]),
        (&2.into(), &3.into())
    );
    assert_eq!(lines[2]["errors"][0]["code"], "constraint-error");
    assert_eq!(lines[2]["errors"][0]["column"], "country");
    let record = text.lines().nth(2).unwrap_or_default();
    assert_eq!(lines[2]["record"], record);
    gateway
        .cli(&with_reason)?
        .expect_code(6)?
        .expect_stderr("quarantine.exists")?;
    let audit = gateway.cli(&["audit", "tail", "--json"])?;
    assert!(audit.stdout.contains("which ones, ticket 7"), "{audit:?}");
    kept_once(&mut gateway, &file, &short)
}

/// Nothing is kept of what is not forwarded; what is kept is destroyed in time.
fn kept_once(gateway: &mut Gateway, file: &Path, short: &str) -> Verdict {
    let put = |to: &str| format!("put {} {to}\n", file.display());
    // The same content again: nothing more is forwarded, and nothing more kept.
    gateway
        .sftp(&put("inbox/orders_20261113.csv"))?
        .expect_code(0)?;
    // A test run keeps nothing.
    gateway.sftp(&put("test/inbox/"))?.expect_code(0)?;
    let kept: Vec<_> = gateway.submissions()?;
    let kept = kept.iter().filter(|item| !item["rejects_bytes"].is_null());
    assert_eq!(kept.count(), 1);
    let mut looks = 0;
    loop {
        gateway.stop()?;
        gateway.serve()?;
        pause();
        let shown = gateway.json(&["submission", "show", short])?;
        if shown["rejects_bytes"].is_null() {
            break;
        }
        looks += 1;
        assert!(looks < 200, "{shown}");
    }
    let other = gateway.scratch().join("other.ndjson");
    let other = other.to_str().ok_or("no UTF-8")?;
    gateway
        .cli(&["quarantine", "get", short, "--out", other, "--reason", "x"])?
        .expect_code(3)?
        .expect_stderr("quarantine.no-rejects")?;
    assert!(!Path::new(other).exists());
    gateway.cli(&["audit", "verify"])?.expect_code(0)?;
    Ok(())
}

fn split_large() -> Verdict {
    let mut gateway =
        Gateway::start_with(|home| under(home, "[[feed]]", "tolerance = { share = 0.5 }"))?;
    let name = "orders_20261114.csv";
    // Two of five are bad: more than one piece of them.
    let text: String = orders(60_000)
        .lines()
        .map(|line| {
            let is_row = line.starts_with("O-");
            let is_bad = is_row && ["1,", "3,", "6,", "8,"].contains(&&line[9..11]);
            if is_bad {
                format!("{}{}\n", line.replace(",DE,", ",UK,"), "n".repeat(300))
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    let file = gateway.local(name, &text)?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?
        .expect_stderr("24000 left out")?;
    gateway.kill()?;
    gateway.serve()?;
    gateway.wait_state(name, "delivered")?;
    assert_eq!(only_object(&gateway)?.lines().count(), 36_001);
    let items = gateway.submissions()?;
    let short = items[0]["short"].as_str().unwrap_or_default().to_owned();
    gateway.wait_until("one file in the spool", || Ok(spool_files(&gateway)? == 1))?;
    let to = gateway.scratch().join("rejects.ndjson");
    let path = to.to_str().ok_or("no UTF-8")?;
    gateway
        .cli(&["quarantine", "get", &short, "--out", path, "--reason", "x"])?
        .expect_code(0)?
        .expect_stdout("24 000 rows")?;
    let kept = fs::read_to_string(&to)?;
    let bad: Vec<&str> = text.lines().filter(|line| line.contains(",UK,")).collect();
    let mut records = Vec::new();
    for line in kept.lines().skip(1) {
        let line: serde_json::Value = serde_json::from_str(line)?;
        records.push(line["record"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(records, bad);
    // More than half of the next file: it is refused as ever, and nothing of it is kept.
    let worse = orders(2000).replace(",DE,", ",UK,");
    let file = gateway.local("orders_20261115.csv", worse)?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(1)?
        .expect_stderr("REJECTED")?;
    gateway.wait_until("one file in the spool", || Ok(spool_files(&gateway)? == 1))?;
    Ok(())
}

fn list_mended() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        under(home, "[[feed]]", "on_finding = \"split\"")?;
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        let listed = r#"enum = ["DE", "AT", "CH"]"#;
        fs::write(&path, text.replace(listed, r#"lookup = "countries.txt""#))?;
        fs::create_dir(home.join("policies/lists"))?;
        Ok(fs::write(
            home.join("policies/lists/countries.txt"),
            "DE\n",
        )?)
    })?;
    let text = orders(4).replacen(",DE,", ",CH,", 1);
    let file = gateway.local("orders_20261120.csv", text)?;
    let put = |name: &str| format!("put {} inbox/{name}\n", file.display());
    gateway
        .sftp(&put("orders_20261120.csv"))?
        .expect_code(0)?
        .expect_stderr("3 rows, 1 left out")?;
    // Under the same rules it is the same, and says so; a comment is no rule.
    let path = gateway.home().join("policies/acme.toml");
    let policy = fs::read_to_string(&path)?;
    fs::write(&path, format!("{policy}# agreed by telephone\n"))?;
    gateway.wait_until("the comment", || {
        Ok(gateway.log().contains("no rule changed"))
    })?;
    gateway
        .sftp(&put("orders_20261121.csv"))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED already")?
        .expect_stderr("1 left out, as before")?;
    let told = newest_receipt(&gateway)?;
    assert!(
        told.contains("Left out as they were then: 1 of 4."),
        "{told}"
    );
    assert!(told.contains("foreign-key"), "{told}");
    assert!(
        told.contains("Send the rows that were left out again"),
        "{told}"
    );
    fs::write(
        gateway.home().join("policies/lists/countries.txt"),
        "DE\nCH\n",
    )?;
    gateway.wait_until("the new list", || {
        Ok(gateway.log().contains("countries.txt +1 -0"))
    })?;
    gateway
        .sftp(&put("orders_20261120.csv"))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261120.csv  4 rows")?;
    gateway.wait_until("both objects", || Ok(gateway.objects()?.len() == 2))?;
    // Under a narrower list nothing of it is missing all the same.
    fs::write(gateway.home().join("policies/lists/countries.txt"), "DE\n")?;
    gateway.wait_until("the old list", || {
        Ok(gateway.log().contains("countries.txt +0 -1"))
    })?;
    gateway
        .sftp(&put("orders_20261122.csv"))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED already")?
        .expect_stderr("whole, under the rules of then")?;
    assert_eq!(gateway.objects()?.len(), 2);
    let told = newest_receipt(&gateway)?;
    assert!(!told.contains("left out"), "{told}");
    let items = gateway.submissions()?;
    assert_eq!(items[0]["object"], serde_json::Value::Null);
    Ok(())
}

fn at_once() -> Verdict {
    let gateway = Gateway::start()?;
    for content in 1..=4_u32 {
        let file = gateway.local("same.csv", orders(content))?;
        std::thread::scope(|scope| {
            let senders: Vec<_> = (1..=4)
                .map(|n| {
                    let put = format!(
                        "put {} inbox/orders_2026{content:02}{n:02}.csv\n",
                        file.display()
                    );
                    let gateway = &gateway;
                    scope.spawn(move || gateway.sftp(&put)?.expect_code(0).map(drop))
                })
                .collect();
            senders
                .into_iter()
                .try_for_each(|sender| sender.join().map_err(|_| "a sender panicked")?)
        })?;
    }
    gateway.wait_until("all deliveries", || {
        let items = gateway.submissions()?;
        Ok(items.iter().all(|item| item["state"] == "delivered"))
    })?;
    assert_eq!(gateway.objects()?.len(), 4);
    Ok(())
}

fn purged() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        under(home, "[[feed]]", "on_finding = \"split\"")?;
        under(home, "[access]", "quota = \"400 kB\"")
    })?;
    let put = |name: &str, text: String| -> Result<_, crate::harness::Failed> {
        let file = gateway.local(name, text)?;
        gateway.sftp(&format!("put {} inbox/\n", file.display()))
    };
    let bad = orders(2000).replacen(",DE,", ",UK,", 1500);
    put("orders_20261120.csv", bad.clone())?
        .expect_code(0)?
        .expect_stderr("1500 left out")?;
    // What is left of the quota is less than both its bytes and its rows left out.
    let other = bad.replace(",UK,", ",FR,");
    put("orders_20261121.csv", other.clone())?
        .expect_code(1)?
        .expect_stderr("TRY LATER")?;
    // What was left out of the one, and the other as sent: nothing that was made of it.
    gateway.wait_until("two files in the spool", || Ok(spool_files(&gateway)? == 2))?;
    let list = gateway.cli(&["quarantine", "list", "--left-out"])?;
    assert_eq!(list.stdout.lines().count(), 2, "{list:?}");
    let items = gateway.json(&["quarantine", "list", "--left-out"])?;
    let short = items["items"][0]["short"].as_str().ok_or("no id")?;
    gateway
        .cli(&["quarantine", "purge", short, "--yes"])?
        .expect_code(2)?
        .expect_stderr("needs a reason")?;
    let purge = [
        "quarantine",
        "purge",
        short,
        "--reason",
        "sent again",
        "--yes",
    ];
    gateway
        .cli(&[&purge[..], &["--dry-run"]].concat())?
        .expect_code(0)?
        .expect_stdout("would destroy them")?;
    gateway
        .cli(&purge)?
        .expect_code(0)?
        .expect_stdout("rows left out are destroyed")?;
    gateway
        .cli(&purge)?
        .expect_code(3)?
        .expect_stderr("nothing is kept of rows left out")?;
    put("orders_20261121.csv", other)?
        .expect_code(0)?
        .expect_stderr("1500 left out")?;
    gateway
        .cli(&["audit", "tail"])?
        .expect_stdout("the rows left out of it are destroyed: sent again")?;
    Ok(())
}

fn no_room() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        under(home, "[[feed]]", "on_finding = \"split\"")?;
        under(home, "[access]", "quota = \"3 MB\"")
    })?;
    // Short rows: what is kept of each is many times as long.
    let mut text = orders(2).replace("TRL,2,2.50\n", "");
    text.push_str(&"x\n".repeat(100_000));
    text.push_str("TRL,100002,2.50\n");
    let file = gateway.local("orders_20261120.csv", &text)?;
    let put = format!("put {} inbox/\n", file.display());
    gateway
        .sftp(&put)?
        .expect_code(1)?
        .expect_stderr("limit-exceeded")?;
    gateway.wait_until("an empty spool", || Ok(spool_files(&gateway)? == 0))?;
    // A file without a good row leaves nothing either.
    let bad = text.replace(",DE,", ",UK,").replacen("x\n", "", 95_000);
    let bad = gateway.local("orders_20261121.csv", bad)?;
    gateway
        .sftp(&format!("put {} inbox/\n", bad.display()))?
        .expect_code(1)?;
    gateway.wait_until("an empty spool", || Ok(spool_files(&gateway)? == 0))?;
    let good = gateway.local("orders_20261122.csv", orders(5000))?;
    gateway
        .sftp(&format!("put {} inbox/\n", good.display()))?
        .expect_code(0)?;
    Ok(())
}

fn not_listed_again() -> Verdict {
    let gateway = Gateway::start_with(|home| under(home, "[[feed]]", "on_finding = \"hold\""))?;
    for (day, removes_the_held) in [(20_261_101, true), (20_261_102, false)] {
        let name = format!("orders_{day}.csv");
        let good = gateway.local("good.csv", orders(day - 20_261_100))?;
        let newer = gateway.local("newer.csv", orders(day - 20_261_090))?;
        let bad = gateway.local("bad.csv", text_with_fault(day - 20_261_080))?;
        let put = |file: &Path| format!("put {} inbox/{name}\n", file.display());
        let rm = format!("rm inbox/{name}\n");
        gateway
            .sftp(&format!("{}{rm}{}", put(&good), put(&bad)))?
            .expect_code(0)?
            .expect_stderr("HELD")?;
        let held = gateway.submissions()?;
        let held = held.iter().find(|item| item["state"] == "held");
        let short = held.and_then(|item| item["short"].as_str());
        let short = short.ok_or("nothing is held")?.to_owned();
        if removes_the_held {
            gateway.sftp(&rm)?.expect_code(0)?;
        } else {
            gateway
                .sftp(&format!("{}{rm}", put(&newer)))?
                .expect_code(0)?;
        }
        gateway
            .cli(&["quarantine", "reject", &short, "--reason", "no", "--yes"])?
            .expect_code(0)?;
        let listed = gateway.sftp("ls inbox\n")?.expect_code(0)?;
        let names: Vec<&str> = listed.stdout.lines().skip(1).collect();
        assert!(!names.iter().any(|line| line.contains(&name)), "{names:?}");
    }
    Ok(())
}
