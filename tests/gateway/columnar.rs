//! Files that are decoded as wholes, sent by real clients; and what a partner can do to a decoder.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::harness::{Failed, Gateway, Verdict};
use crate::preauth::Random;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "parquet, arrow, avro and a workbook are checked, tokenized and delivered",
        Needs::OpenSsh,
        delivered,
    ),
    (
        "rows of a CSV file are delivered as typed columns of parquet",
        Needs::OpenSsh,
        written,
    ),
    (
        "whatever is broken in a file, its decoder ends and the gateway goes on",
        Needs::OpenSsh,
        broken,
    ),
    (
        "a length nobody has memory for is a finding",
        Needs::Nothing,
        lying_lengths,
    ),
];

/// Cases with a good file each.
const GOOD: [(&str, &str); 4] = [
    ("a-parquet-file-is-read-as-what-it-holds", "parquet"),
    ("an-arrow-file-is-read-as-what-it-holds", "arrow"),
    ("an-avro-file-is-read-as-what-it-holds", "avro"),
    ("the-first-sheet-of-a-workbook-is-read", "xlsx"),
];
/// Broken files of each format.
const BROKEN: u32 = 40;

fn cases() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn good(case: &str, format: &str) -> Result<Vec<u8>, Failed> {
    Ok(fs::read(
        cases().join(case).join(format!("input.{format}")),
    )?)
}

/// A gateway with the feeds of the cases.
fn gateway() -> Result<Gateway, Failed> {
    Gateway::start_with(|home| {
        let policy = fs::read_to_string(cases().join("_policies/columnar.toml"))?;
        Ok(fs::write(home.join("policies/acme.toml"), policy)?)
    })
}

fn delivered() -> Verdict {
    let gateway = gateway()?;
    for (number, (case, format)) in (1..).zip(GOOD) {
        let name = format!("people.{format}");
        let file = gateway.local(&name, good(case, format)?)?;
        gateway
            .sftp(&format!("put {} inbox/{name}\n", file.display()))?
            .expect_code(0)?
            .expect_stderr("ACCEPTED")?;
        gateway.wait_until("the object", || Ok(gateway.objects()?.len() == number))?;
    }
    for (key, object) in gateway.objects()? {
        if key.contains(".meta.json") {
            continue;
        }
        let text = String::from_utf8_lossy(&object).into_owned();
        assert!(
            text.starts_with("id,name,amount,born,seen,active,email\n"),
            "{key}: {text}"
        );
        assert!(!text.contains("example"), "{key}: {text}");
    }
    // Refused for what is in it, by row.
    let bad = good("faults-of-a-parquet-file-are-told-by-row", "parquet")?;
    let file = gateway.local("people.parquet", bad)?;
    gateway
        .sftp(&format!("put {} inbox/people.parquet\n", file.display()))?
        .expect_code(1)?
        .expect_stderr("row 2")?;
    Ok(())
}

fn written() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let policy = fs::read_to_string(cases().join("_policies/parquet-output.toml"))?;
        Ok(fs::write(home.join("policies/acme.toml"), policy)?)
    })?;
    let mut text = String::from("id,amount,born,seen,local,active,note,email,fax\n");
    for n in 0..30_000 {
        writeln!(
            text,
            "{n},{n}.50,2026-02-28,2026-11-29T10:00:00Z,,Y,\"row {n},\",{n}@mail.example,1"
        )?;
    }
    let file = gateway.local("rows.csv", text)?;
    gateway
        .sftp(&format!("put {} inbox/rows.csv\n", file.display()))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED")?;
    let is_object = |(key, _): &(String, Vec<u8>)| key.ends_with(".parquet");
    gateway.wait_until("the object", || {
        Ok(gateway.objects()?.iter().any(is_object))
    })?;
    let mut objects = gateway.objects()?.into_iter();
    let (_, object) = objects.find(is_object).ok_or("no object")?;
    assert!(!object.windows(12).any(|bytes| bytes == b"mail.example"));
    let reader = SerializedFileReader::new(Bytes::from(object))?;
    let mut count = 0;
    for (n, row) in reader.get_row_iter(None)?.enumerate() {
        let row = row?.to_string();
        let start =
            format!("{{id: {n}, amount: {n}.50, born: 2026-02-28, seen: 2026-11-29 10:00:00");
        assert!(row.starts_with(&start), "{row}");
        assert!(
            row.contains(&format!("note: \"row {n},\", email: \"*")),
            "{row}"
        );
        count += 1;
    }
    assert_eq!(count, 30_000);
    Ok(())
}

fn broken() -> Verdict {
    let gateway = gateway()?;
    let mut random = Random::seeded();
    let seed = random.seed;
    for (case, format) in GOOD {
        let whole = good(case, format)?;
        let name = format!("people.{format}");
        for _ in 0..BROKEN {
            let mut bytes = whole.clone();
            random.mutate(&mut bytes);
            let file = gateway.local(&name, bytes)?;
            let path = file.display().to_string();
            let ran = gateway.cli(&["file", "check", &path, "--policy", "acme"])?;
            assert!(
                ran.code == 0 || ran.code == 1,
                "SALLYPORT_SEED={seed} {name}: {ran:?}"
            );
        }
        // Over the wire as well: the answer is a verdict, and the next file is taken.
        let cut = whole.len() - 7;
        let file = gateway.local(&name, &whole[..cut])?;
        gateway
            .sftp(&format!("put {} inbox/{name}\n", file.display()))?
            .expect_code(1)?
            .expect_stderr("REJECTED")?;
        let file = gateway.local(&name, &whole)?;
        gateway
            .sftp(&format!("put {} inbox/{name}\n", file.display()))?
            .expect_code(0)?;
    }
    Ok(())
}

fn lying_lengths() -> Verdict {
    let gateway = gateway()?;
    let whole = good(GOOD[0].0, "parquet")?;
    // Every place where four bytes could be a length says two gigabytes; the footer's own last.
    for at in (4..whole.len() - 4).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f]);
        let file = gateway.local("people.parquet", bytes)?;
        let path = file.display().to_string();
        let ran = gateway.cli(&["file", "check", &path, "--policy", "acme"])?;
        assert!(ran.code == 0 || ran.code == 1, "at {at}: {ran:?}");
    }
    Ok(())
}
