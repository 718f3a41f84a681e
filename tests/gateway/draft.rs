//! A policy drafted from samples of a partner's files.

use std::fs;
use std::process::Command;

use crate::harness::{Failed, Gateway, Ran, Verdict, binary, run};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a feed drafted from a sample takes the sample from a real client",
        Needs::OpenSsh,
        drafted,
    ),
    (
        "a draft says what it cannot tell, and guesses nothing that changes a meaning",
        Needs::Nothing,
        remarks,
    ),
    (
        "what a draft cannot be made from is refused with the reason",
        Needs::Nothing,
        refused,
    ),
];

fn draft(arguments: &[&str]) -> Result<Ran, Failed> {
    run(Command::new(binary())
        .args(["policy", "new"])
        .args(arguments))
}

/// Fifty rows, with a semicolon between cells, in Windows-1252.
fn german() -> Vec<u8> {
    let mut text = b"Nummer;Datum;Betrag;Land;E-Mail;Notiz\r\n".to_vec();
    let lands = ["DE", "AT", "CH"].into_iter().cycle();
    for (n, land) in (1..=50_u32).zip(lands) {
        let day = n % 28 + 1;
        let row = format!("K-{n:05};{day:02}.11.2026;{n}.50;{land};p{n}@example.org;");
        text.extend_from_slice(row.as_bytes());
        text.extend_from_slice(b"sch\xf6n\r\n");
    }
    text
}

fn drafted() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let sample = home.join("stock_20261120.csv");
        fs::write(&sample, german())?;
        let policy = home.join("policies/acme.toml");
        fs::remove_file(&policy)?;
        let (sample, policy) = (sample.to_str(), policy.to_str());
        let (Some(sample), Some(policy)) = (sample, policy) else {
            return Err("no UTF-8".into());
        };
        let arguments = ["acme/stock", "--from-sample", sample, "--out", policy];
        draft(&arguments)?
            .expect_code(0)?
            .expect_stderr("accepted by this draft")?;
        draft(&arguments)?
            .expect_code(6)?
            .expect_stderr("policy.exists")?;
        Ok(())
    })?;
    let file = gateway.local("stock_20261121.csv", german())?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED stock_20261121.csv  50 rows")?;
    gateway.wait_state("stock_20261121.csv", "delivered")?;
    let objects = gateway.objects()?;
    let text = String::from_utf8(objects[0].1.clone())?;
    assert!(text.contains("sch\u{f6}n"), "{text}");
    let worse = String::from_utf8_lossy(&german()).replace("02.11.2026", "2026-11-02");
    let file = gateway.local("stock_20261122.csv", worse.replace('\u{fffd}', "o"))?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(1)?
        .expect_stderr("type-error")?;
    Ok(())
}

fn remarks() -> Verdict {
    let folder = tempfile::tempdir()?;
    let sample = folder.path().join("stock_20261120.csv");
    fs::write(&sample, german())?;
    let draft_of = |sample: Option<&str>| -> Result<String, Failed> {
        let sample = sample.ok_or("no UTF-8")?;
        Ok(draft(&["acme/stock", "--from-sample", sample])?
            .expect_code(0)?
            .stdout)
    };
    let text = draft_of(sample.to_str())?;
    for line in [
        r"match    = 'stock_\d{8}\.csv'",
        "encoding = [\"windows-1252\"]",
        "delimiter = \";\", header = true",
        "# no value occurs twice: unique = true ?",
        r"# all of one shape: pattern = '[A-Z]\-\d{5}' ?",
        "{ name = \"Datum\", type = \"date\", formats = [\"%d.%m.%Y\"], required = true },",
        "{ name = \"Betrag\", type = \"decimal(12,2)\", required = true },",
        "# few values: enum = [\"AT\", \"CH\", \"DE\"] ?",
        "# e-mail addresses, stored in clear unless: token = {",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let json = folder.path().join("events.ndjson");
    fs::write(
        &json,
        "{\"id\":1,\"at\":\"01/02/2026\"}\n{\"id\":2,\"at\":null,\"new\":true}\n",
    )?;
    let text = draft_of(json.to_str())?;
    for line in [
        "format   = { type = \"ndjson\" }",
        "# the sample fits as well: type = \"date\", formats = [\"%m/%d/%Y\"]",
        "{ name = \"id\", type = \"integer\", required = true },",
        "{ name = \"new\", type = \"boolean\", true_values = [\"true\"], false_values = [\"false\"] },",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    Ok(())
}

fn refused() -> Verdict {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, content: &[u8]| -> Result<String, Failed> {
        let path = folder.path().join(name);
        fs::write(&path, content)?;
        Ok(path.to_str().ok_or("no UTF-8")?.to_owned())
    };
    let good = file("a.csv", b"a,b\nx,1\n")?;
    let other = file("b.csv", b"a,c\nx,1\n")?;
    draft(&["acme/x", "--from-sample", &good, &other])?
        .expect_code(2)?
        .expect_stderr("written otherwise than the first one")?;
    for (name, content, why) in [
        ("empty.csv", &b""[..], "it is empty"),
        ("zip.csv", b"PK\x03\x04\0\0", "it is no text"),
        ("cut.json", b"[{\"a\":1}", "JSON"),
        ("list.json", b"[1]", "a row is no object"),
    ] {
        let path = file(name, content)?;
        draft(&["acme/x", "--from-sample", &path])?
            .expect_code(2)?
            .expect_stderr(why)?;
    }
    draft(&["acme", "--from-sample", &good])?
        .expect_code(2)?
        .expect_stderr("policy.bad-feed")?;
    // A trailer is seen, and left to a person.
    let trailer = file("t.csv", b"a,b\nx,1\ny,2\nTRL,2,3\n")?;
    draft(&["acme/x", "--from-sample", &trailer])?
        .expect_code(0)?
        .expect_stdout("# trailer = 'TRL.*'")?
        .expect_stderr("rejected by this draft: line 4 extra-cell")?;
    // What stands in labels and values cannot break out of the draft.
    let hostile = file(
        "h'.csv",
        b"\"a\"\"] }\",b'\n\"\"\"\"\"\"\"\",\"x\ny = 1\"\n",
    )?;
    draft(&["acme/x", "--from-sample", &hostile])?.expect_code(0)?;
    let screen = "a\u{202e}b,c\nx\u{9b}2J,\u{7f}\u{e9}\n".repeat(30);
    let screen = file("s.c{}\u{202e}", screen.as_bytes())?;
    let ran = draft(&["acme/x", "--from-sample", &screen])?.expect_code(0)?;
    let moves = |c: char| c != '\n' && c != '\u{e9}' && !c.is_ascii_graphic() && c != ' ';
    assert!(!ran.stdout.contains(moves), "{:?}", ran.stdout);
    assert!(!ran.stderr.contains(moves), "{:?}", ran.stderr);
    let absent = draft(&["acme/x", "--from-sample", "no\u{1b}[31m.csv"])?.expect_code(2)?;
    assert!(!absent.stderr.contains(moves), "{:?}", absent.stderr);
    assert!(ran.stdout.contains(r"a\U0000202Eb"), "{}", ran.stdout);
    let broken = file("c.csv", b"\"a\nb\",c\nx,y\n")?;
    draft(&["acme/x", "--from-sample", &broken])?
        .expect_code(2)?
        .expect_stderr("cannot be a label")?;
    Ok(())
}
