//! Putting files: accepted, rejected, cut off, overwritten, large.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::raw::{self, RawSftp};
use crate::harness::{Gateway, Verdict, orders, pause, run};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a good file put by sftp becomes one tokenized object",
        Needs::OpenSsh,
        accepted,
    ),
    (
        "a bad file is refused on the partner's own terminal and leaves no object",
        Needs::OpenSsh,
        rejected,
    ),
    (
        "scp takes a good file and refuses a bad one",
        Needs::OpenSsh,
        scp,
    ),
    (
        "an accepted name stays listed with its size and time",
        Needs::OpenSsh,
        listed,
    ),
    (
        "a receipt fetched by sftp verifies with ssh-keygen",
        Needs::OpenSsh,
        receipt_verifies,
    ),
    (
        "a connection cut in mid-upload publishes nothing and can be resumed",
        Needs::OpenSsh,
        cut_and_resumed,
    ),
    (
        "overwriting with a bad file keeps the old object and its listing",
        Needs::OpenSsh,
        bad_overwrite,
    ),
    (
        "a name that fits no feed is refused at open with an example",
        Needs::OpenSsh,
        no_feed,
    ),
    (
        "a temporary name is judged at its rename, not at its close",
        Needs::OpenSsh,
        partial_name,
    ),
    (
        "the same content again is answered as known and stored once",
        Needs::OpenSsh,
        known_content,
    ),
    (
        "rm takes an unfinished file away and an accepted one out of the listing only",
        Needs::OpenSsh,
        remove,
    ),
    (
        "a download from the inbox is refused",
        Needs::OpenSsh,
        write_only,
    ),
    (
        "a 70 KiB file that leaves memory is inspected behind its writes",
        Needs::OpenSsh,
        spilled,
    ),
    (
        "a gzip file is unpacked, checked and delivered plain",
        Needs::OpenSsh,
        gzip,
    ),
    (
        "what is forwarded is compressed where the policy says so",
        Needs::OpenSsh,
        compressed_output,
    ),
    (
        "zstd, bzip2 and zip files are delivered plain, and one with a password or a bomb is refused in words",
        Needs::OpenSsh,
        packed,
    ),
    (
        "files in other encodings are delivered as utf-8, and a byte of none is refused with its place",
        Needs::OpenSsh,
        encodings,
    ),
    (
        "json is tokenized and delivered as json or csv, and a broken line is named",
        Needs::OpenSsh,
        json,
    ),
    (
        "2,200 MiB with two rekeys arrive five times of five in bounded memory",
        Needs::OpenSsh,
        large,
    ),
    (
        "a channel that stops reading does not hold up another channel's verdict",
        Needs::OpenSsh,
        stalled_channel,
    ),
];

const GOOD: &str = "policies/acme/orders_20261120.csv";
const BAD: &str = "policies/acme/orders_20261121.bad.csv";

fn accepted() -> Verdict {
    let gateway = Gateway::start()?;
    let good = gateway.home().join(GOOD);
    let ran = gateway.sftp(&format!(
        "put {} inbox/orders_20261120.csv\n",
        good.display()
    ))?;
    ran.expect_code(0)?
        .expect_stderr("sallyport: ACCEPTED orders_20261120.csv  2 rows  submission ")?;
    gateway.wait_state("orders_20261120.csv", "delivered")?;
    let objects = gateway.objects()?;
    let [(key, bytes)] = objects.as_slice() else {
        return Err(format!("one object expected: {objects:?}").into());
    };
    assert!(key.starts_with("acme/orders/day=20261120/sub_"), "{key}");
    let text = String::from_utf8(bytes.clone())?;
    assert!(
        text.contains("tok_email_1_") && text.contains("@example."),
        "{text}"
    );
    assert!(text.contains("tok_iban_1_"), "{text}");
    assert!(
        !text.contains("DE89370400440532013000"),
        "raw value in the object: {text}"
    );
    assert!(!text.contains("TRL"), "the trailer is not data: {text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    Ok(())
}

fn rejected() -> Verdict {
    let gateway = Gateway::start()?;
    let bad = gateway.home().join(BAD);
    let ran = gateway
        .sftp(&format!(
            "put {} inbox/orders_20261121.csv\n",
            bad.display()
        ))?
        .expect_code(1)?
        .expect_stderr("sallyport: REJECTED orders_20261121.csv  3 errors in 3 rows  submission ")?
        .expect_stderr("line 3  missing-cell  6 cells, 7 expected (note is missing)")?
        .expect_stderr("line 4  type-error")?
        .expect_stderr("line 5  constraint-error")?
        .expect_stderr("all errors: /receipts/orders_20261121.csv.")?;
    assert!(
        ran.stderr.contains("Failure"),
        "OpenSSH's own word is missing: {ran:?}"
    );
    assert_eq!(gateway.objects()?, Vec::new());
    let ran = gateway.sftp("ls -1 inbox\n")?.expect_code(0)?;
    assert!(
        !ran.stdout.contains("orders_20261121.csv"),
        "a rejected file is listed: {ran:?}"
    );
    gateway.sftp("get receipts/latest.txt\n")?.expect_code(0)?;
    let receipt = fs::read_to_string(gateway.scratch().join("latest.txt"))?;
    assert!(
        receipt.contains("REJECTED  3 errors in 3 rows"),
        "{receipt}"
    );
    assert!(
        receipt
            .lines()
            .all(|line| line.len() <= 80 && line.is_ascii()),
        "{receipt}"
    );
    Ok(())
}

fn scp() -> Verdict {
    let gateway = Gateway::start()?;
    gateway
        .scp(&[], &gateway.home().join(GOOD), "inbox/orders_20261120.csv")?
        .expect_code(0)?
        .expect_stderr("ACCEPTED")?;
    gateway
        .scp(
            &["-p"],
            &gateway.home().join(GOOD),
            "inbox/orders_20261119.csv",
        )?
        .expect_code(0)?;
    gateway
        .scp(&[], &gateway.home().join(BAD), "inbox/orders_20261121.csv")?
        .expect_code(1)?
        .expect_stderr("REJECTED")?
        .expect_stderr("missing-cell")?;
    gateway.scp_get("receipts/latest.txt")?.expect_code(0)?;
    let receipt = fs::read_to_string(gateway.scratch().join("latest.txt"))?;
    assert!(receipt.contains("REJECTED  3 errors"), "{receipt}");
    gateway
        .scp_get("inbox/orders_20261120.csv")?
        .expect_code(1)?
        .expect_stderr("inbox is write-only")?;
    Ok(())
}

fn listed() -> Verdict {
    let gateway = Gateway::start()?;
    let file = gateway.local("orders_20261118.csv", orders(3))?;
    run(Command::new("touch")
        .args(["-d", "2026-11-18T01:02:03Z"])
        .arg(&file))?
    .expect_code(0)?;
    gateway
        .sftp(&format!("put -p {} inbox/\n", file.display()))?
        .expect_code(0)?;
    let ran = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    let size = fs::metadata(&file)?.len();
    let line = ran
        .stdout
        .lines()
        .find(|l| l.contains("orders_20261118.csv"))
        .ok_or("not listed")?;
    assert!(line.contains(&size.to_string()), "{line}");
    assert!(line.contains("Nov 18"), "the client's time is kept: {line}");
    assert!(line.starts_with("-r--r--r--"), "{line}");
    Ok(())
}

fn receipt_verifies() -> Verdict {
    let gateway = Gateway::start()?;
    gateway.sftp(&format!(
        "put {} inbox/orders_20261120.csv\n",
        gateway.home().join(GOOD).display()
    ))?;
    gateway
        .sftp("get receipts/*.receipt.txt\nget receipts/*.receipt.json\nget receipts/*.sig\nget help/allowed_signers\n")?
        .expect_code(0)?;
    for kind in ["txt", "json"] {
        let receipt = fs::read_dir(gateway.scratch())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.to_string_lossy()
                    .ends_with(&format!(".receipt.{kind}"))
            })
            .ok_or("no receipt fetched")?;
        let verify = |content: Vec<u8>| {
            crate::harness::run_with_input(
                Command::new("ssh-keygen")
                    .args(["-Y", "verify", "-f", "allowed_signers", "-I", "gw"])
                    .args(["-n", "sallyport-receipt", "-s"])
                    .arg(format!("{}.sig", receipt.display()))
                    .current_dir(gateway.scratch()),
                &content,
            )
        };
        let mut content = fs::read(&receipt)?;
        verify(content.clone())?
            .expect_code(0)?
            .expect_stdout("Good \"sallyport-receipt\" signature")?;
        content[10] ^= 1;
        let forged = verify(content)?;
        assert_ne!(forged.code, 0, "a changed receipt verifies: {forged:?}");
    }
    Ok(())
}

fn cut_and_resumed() -> Verdict {
    let gateway = Gateway::start()?;
    let text = orders(40_000);
    let file = gateway.local("orders_20261117.csv", &text)?;
    let batch = format!("put {} inbox/\n", file.display());
    let mut slow = gateway
        .sftp_command(
            "acme",
            &gateway.acme_key(),
            &batch,
            &["-l", "4000", "-B", "16384"],
        )?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Cut it off once the gateway has taken something, as the partner itself would see it.
    gateway.wait_until("bytes of the upload", || {
        let ran = gateway.sftp("ls -ln inbox\n")?;
        Ok(listed_size(&ran.stdout, "orders_20261117.csv").is_some_and(|size| size > 200_000))
    })?;
    slow.kill()?;
    slow.wait()?;
    gateway.wait_state("orders_20261117.csv", "interrupted")?;
    assert_eq!(
        gateway.objects()?,
        Vec::new(),
        "an unfinished file was published"
    );
    let ran = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    let staged = listed_size(&ran.stdout, "orders_20261117.csv").ok_or("not listed for resume")?;
    assert!(
        staged > 0 && staged < u64::try_from(text.len())?,
        "{staged}"
    );
    gateway
        .sftp(&format!(
            "reput {} inbox/orders_20261117.csv\n",
            file.display()
        ))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261117.csv  40000 rows")?;
    gateway.wait_state("orders_20261117.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn bad_overwrite() -> Verdict {
    let gateway = Gateway::start()?;
    let good = gateway.home().join(GOOD);
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261120.csv\n",
            good.display()
        ))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261120.csv", "delivered")?;
    let before = gateway.objects()?;
    let bad = gateway.home().join(BAD);
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261120.csv\n",
            bad.display()
        ))?
        .expect_code(1)?;
    assert_eq!(gateway.objects()?, before);
    let ran = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    assert_eq!(
        listed_size(&ran.stdout, "orders_20261120.csv"),
        Some(fs::metadata(&good)?.len()),
        "the accepted version is still what is listed"
    );
    Ok(())
}

fn no_feed() -> Verdict {
    let gateway = Gateway::start()?;
    let file = gateway.local("order_20261121.csv", orders(1))?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(1)?
        .expect_stderr(
            "no-feed: \"order_20261121.csv\" fits no feed; expected like orders_20261120.csv",
        )?;
    Ok(())
}

fn partial_name() -> Verdict {
    let gateway = Gateway::start()?;
    let (good, bad) = (gateway.home().join(GOOD), gateway.home().join(BAD));
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261120.csv.filepart\n",
            good.display()
        ))?
        .expect_code(0)?;
    assert_eq!(
        gateway.objects()?,
        Vec::new(),
        "a temporary name was judged at close"
    );
    gateway
        .sftp("rename inbox/orders_20261120.csv.filepart inbox/orders_20261120.csv\n")?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261120.csv  2 rows")?;
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261121.csv.filepart\nrename inbox/orders_20261121.csv.filepart inbox/orders_20261121.csv\n",
            bad.display()
        ))?
        .expect_code(1)?
        .expect_stderr("REJECTED orders_20261121.csv  3 errors")?;
    gateway.wait_state("orders_20261120.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn known_content() -> Verdict {
    let gateway = Gateway::start()?;
    let batch = format!(
        "put {} inbox/orders_20261120.csv\n",
        gateway.home().join(GOOD).display()
    );
    gateway.sftp(&batch)?.expect_code(0)?;
    gateway
        .sftp(&batch)?
        .expect_code(0)?
        .expect_stderr("ACCEPTED already, as ")?;
    gateway.wait_state("orders_20261120.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn remove() -> Verdict {
    let gateway = Gateway::start()?;
    let good = gateway.home().join(GOOD);
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261120.csv.part\nrm inbox/orders_20261120.csv.part\n",
            good.display()
        ))?
        .expect_code(0)?;
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261120.csv\n",
            good.display()
        ))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261120.csv", "delivered")?;
    gateway
        .sftp("rm inbox/orders_20261120.csv\n")?
        .expect_code(0)?;
    let ran = gateway.sftp("ls -1 inbox\n")?.expect_code(0)?;
    assert!(!ran.stdout.contains("orders_"), "{ran:?}");
    assert_eq!(
        gateway.objects()?.len(),
        1,
        "rm by a partner must not touch the store"
    );
    Ok(())
}

fn write_only() -> Verdict {
    let gateway = Gateway::start()?;
    gateway.sftp(&format!(
        "put {} inbox/orders_20261120.csv\n",
        gateway.home().join(GOOD).display()
    ))?;
    let ran = gateway
        .sftp("get inbox/orders_20261120.csv\n")?
        .expect_code(1)?;
    ran.expect_stderr("inbox is write-only")?;
    Ok(())
}

fn spilled() -> Verdict {
    let gateway = Gateway::start()?;
    let file = gateway.local("orders_20261116.csv", orders(20_000))?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261116.csv  20000 rows")?;
    gateway.wait_state("orders_20261116.csv", "delivered")?;
    let objects = gateway.objects()?;
    assert_eq!(objects.len(), 1);
    assert_eq!(
        String::from_utf8(objects[0].1.clone())?.lines().count(),
        20_001
    );
    let bad = orders(20_000).replace("O-00019999,", "O-00019998,");
    let file = gateway.local("orders_20261115.csv", bad)?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(1)?
        .expect_stderr("line 20000  unique-error")?;
    Ok(())
}

fn encodings() -> Verdict {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let gateway = Gateway::start_with(|home| {
        let policy = fs::read(cases.join("_policies/encodings.toml"))?;
        Ok(fs::write(home.join("policies/acme.toml"), policy)?)
    })?;
    let put = |case: &str, name: &str| {
        let input = cases.join(case).join("input.csv");
        gateway.sftp(&format!("put {} inbox/{name}\n", input.display()))
    };
    for (case, name) in [
        ("windows-1252-is-read-beside-utf-8", "latin.csv"),
        ("utf-16-with-a-mark-low-byte-first-is-read", "utf-16.csv"),
        ("shift-jis-is-read", "shift_jis.csv"),
        ("cp037-is-read", "cp037.csv"),
    ] {
        put(case, name)?.expect_code(0)?;
        gateway.wait_state(name, "delivered")?;
    }
    let objects = gateway.objects()?;
    assert_eq!(objects.len(), 4);
    for (key, content) in &objects {
        let text = std::str::from_utf8(content)?;
        assert!(
            text.starts_with("id,note\n1,") && !text.is_ascii(),
            "{key} {text}"
        );
    }
    put(
        "a-letter-of-windows-is-a-fault-in-iso-8859-1",
        "iso-8859-1.csv",
    )?
    .expect_code(1)?
    .expect_stderr("byte 0x93 at line 2 is not ISO-8859-1 (in note)")?;
    Ok(())
}

fn json() -> Verdict {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let gateway = Gateway::start_with(|home| {
        let policy = fs::read(cases.join("_policies/json.toml"))?;
        Ok(fs::write(home.join("policies/acme.toml"), policy)?)
    })?;
    let object = |n: u32| {
        format!(
            "{{\"id\":{n},\"name\":\"n\\u00e4 {n}\",\"amount\":{n}.50,\"paid\":true,\"on\":null,\"pin\":\"12\"}}"
        )
    };
    // Large enough to be inspected while it arrives.
    let objects: Vec<String> = (0..40_000).map(object).collect();
    let lines = gateway.local("lines.json", objects.join("\n"))?;
    let array = gateway.local("array.json", format!("[{}]", objects.join(",\n")))?;
    gateway
        .sftp(&format!(
            "put {0} inbox/lines.json\nput {0} inbox/lines-csv.json\nput {1} inbox/array.json\n",
            lines.display(),
            array.display()
        ))?
        .expect_code(0)?;
    for name in ["lines.json", "lines-csv.json", "array.json"] {
        gateway.wait_state(name, "delivered")?;
    }
    let objects = gateway.objects()?;
    assert_eq!(objects.len(), 3);
    for (key, content) in &objects {
        let text = std::str::from_utf8(content)?;
        let rows: Vec<serde_json::Value> = if key.contains("/array/") {
            serde_json::from_str(text)?
        } else if key.contains("/lines/") {
            text.lines()
                .map(serde_json::from_str)
                .collect::<Result<_, _>>()?
        } else {
            assert!(text.starts_with("id,name,amount,paid,on,pin\n0,n\u{e4} 0,0.50,true,,**\n"));
            assert_eq!(text.lines().count(), 40_001);
            continue;
        };
        assert_eq!(rows.len(), 40_000, "{key}");
        assert_eq!(rows[39_999]["name"], "n\u{e4} 39999", "{key}");
        assert_eq!(rows[7]["pin"], "**", "{key}");
    }
    let broken = gateway.local("broken.json", format!("{}\n{{\"id\":1", object(1)))?;
    gateway
        .sftp(&format!("put {} inbox/lines.json\n", broken.display()))?
        .expect_code(1)?
        .expect_stderr("line 2  format-error  no JSON from here on")?;
    Ok(())
}

fn packed() -> Verdict {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let gateway = Gateway::start_with(|home| {
        let policy = fs::read(cases.join("_policies/notes-packed.toml"))?;
        Ok(fs::write(home.join("policies/acme.toml"), policy)?)
    })?;
    let put = |case: &str, ending: &str| {
        let input = cases.join(case).join(format!("input.csv.{ending}"));
        gateway.sftp(&format!(
            "put {} inbox/notes.csv.{ending}\n",
            input.display()
        ))
    };
    for (case, ending) in [
        ("a-zstd-file-is-read-through", "zst"),
        ("a-bzip2-file-is-read-through", "bz2"),
        ("a-zip-file-with-one-file-is-read-through", "zip"),
    ] {
        put(case, ending)?.expect_code(0)?;
        gateway.wait_state(&format!("notes.csv.{ending}"), "delivered")?;
    }
    let objects = gateway.objects()?;
    assert_eq!(objects.len(), 3);
    for (key, content) in &objects {
        assert_eq!(content, b"id,note\n1,first\n2,second\n", "{key}");
    }
    for (case, code, words) in [
        (
            "a-zip-file-with-a-password-is-refused",
            "encryption-error",
            "it needs a password",
        ),
        (
            "a-zip-bomb-is-stopped-by-its-ratio",
            "limit-exceeded",
            "over 200 times its size",
        ),
    ] {
        put(case, "zip")?
            .expect_code(1)?
            .expect_stderr(code)?
            .expect_stderr(words)?;
    }
    assert_eq!(gateway.objects()?.len(), 3);
    Ok(())
}

fn compressed_output() -> Verdict {
    for (word, program) in [("gzip", "gzip"), ("zstd", "zstd")] {
        let gateway = Gateway::start_with(|home| {
            let path = home.join("policies/acme.toml");
            let text = fs::read_to_string(&path)?;
            let kept: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with("output"))
                .collect();
            let output = format!("[[feed]]\noutput = {{ compression = \"{word}\" }}\n");
            let text = kept.join("\n") + "\n";
            Ok(fs::write(path, text.replacen("[[feed]]\n", &output, 1))?)
        })?;
        let file = gateway.local("orders_20261114.csv", orders(20_000))?;
        gateway
            .sftp(&format!("put {} inbox/\n", file.display()))?
            .expect_code(0)?;
        gateway.wait_state("orders_20261114.csv", "delivered")?;
        let objects = gateway.objects()?;
        let [(_, object)] = objects.as_slice() else {
            return Err(format!("{} objects", objects.len()).into());
        };
        let packed = gateway.local(&format!("object.{word}"), object)?;
        let opened = match program {
            "gzip" => run(Command::new("gzip")
                .arg("-dc")
                .stdin(fs::File::open(&packed)?))?
            .expect_code(0)?
            .stdout
            .into_bytes(),
            _ => zstd::stream::decode_all(object.as_slice())?,
        };
        let text = String::from_utf8(opened)?;
        assert_eq!(text.lines().count(), 20_001, "{word}");
        assert!(object.len() < text.len() / 2, "{word}");
        assert!(!text.contains("p1@example.org"), "{word}");
    }
    Ok(())
}

fn gzip() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        Ok(fs::write(path, text.replace(r"\.csv'", r"\.csv(\.gz)?'"))?)
    })?;
    let plain = gateway.local("orders_20261114.csv", orders(500))?;
    run(Command::new("gzip").arg("-k").arg(&plain))?.expect_code(0)?;
    let packed = gateway.scratch().join("orders_20261114.csv.gz");
    gateway
        .sftp(&format!("put {} inbox/\n", packed.display()))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261114.csv.gz  500 rows")?;
    let mut cut = fs::read(&packed)?;
    cut.truncate(cut.len() - 5);
    let cut = gateway.local("orders_20261113.csv.gz", cut)?;
    gateway
        .sftp(&format!("put {} inbox/\n", cut.display()))?
        .expect_code(1)?
        .expect_stderr("compression-error")?;
    Ok(())
}

fn large() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let policy = "version = 1\n[partner]\nid = \"acme\"\nname = \"Acme\"\n\n[[feed]]\nid = \"raw\"\n\
            match = 'disk_\\d\\.img'\nstore = \"lake\"\nkey = \"raw/{submission}.img\"\n\
            format = { type = \"opaque\" }\nsame_content = \"allow\"\n";
        Ok(fs::write(home.join("policies/acme.toml"), policy)?)
    })?;
    let file = gateway.scratch().join("disk.img");
    fs::File::create(&file)?.set_len(2_200 * 1024 * 1024)?;
    let baseline = gateway.rss_kib()?;
    for n in 0..5 {
        gateway
            .sftp(&format!("put {} inbox/disk_{n}.img\n", file.display()))?
            .expect_code(0)?;
        let grown = gateway.rss_kib()?.saturating_sub(baseline);
        assert!(
            grown < 96 * 1024,
            "peak memory grew by {grown} KiB at upload {n}"
        );
        // One at a time in the store: the disk of a small machine need not hold five.
        gateway.wait_state(&format!("disk_{n}.img"), "delivered")?;
        for (key, _) in object_names(&gateway)? {
            fs::remove_file(gateway.home().join("lake").join(key))?;
        }
    }
    Ok(())
}

/// Names and sizes only: these objects are too large to read into a test.
fn object_names(gateway: &Gateway) -> Result<Vec<(String, u64)>, crate::harness::Failed> {
    let lake = gateway.home().join("lake");
    let mut found = Vec::new();
    for path in crate::harness::files_below(&lake)? {
        let size = fs::metadata(&path)?.len();
        found.push((path.strip_prefix(&lake)?.display().to_string(), size));
    }
    let whole = found
        .iter()
        .filter(|(_, size)| *size == 2_200 * 1024 * 1024)
        .count();
    if whole == 1 {
        Ok(found)
    } else {
        Err(format!("one whole object expected: {found:?}").into())
    }
}

fn stalled_channel() -> Verdict {
    let gateway = Gateway::start()?;
    let control = gateway.scratch().join("ctl");
    let key = gateway.acme_key();
    let mut master = Command::new("ssh")
        .args(gateway.ssh_options(&key))
        .args(["-M", "-N", "-S"])
        .arg(&control)
        .args(["-p", &gateway.port().to_string(), "acme@127.0.0.1"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    gateway.wait_until("the control socket", || Ok(control.exists()))?;
    // The first channel asks for far more than a window holds and never reads an answer.
    let control_option = format!("ControlPath={}", control.display());
    let mut stalled = RawSftp::open(&gateway, &["-o", &control_option])?;
    let handle = stalled.open_file("/help/codes.txt", 1)?;
    let mut flood = Vec::new();
    for _ in 0..4000 {
        let fields = [&handle[..], &0_u64.to_be_bytes(), &32_768_u32.to_be_bytes()];
        flood.extend(stalled.request(raw::READ, &fields).1);
    }
    stalled.send(&flood)?;
    // Give the flood a head start: the master has forwarded it when a probe has gone through.
    for _ in 0..3 {
        pause();
    }
    let put = format!(
        "put {} inbox/orders_20261120.csv\n",
        gateway.home().join(GOOD).display()
    );
    let ran = run(&mut gateway.sftp_command("acme", &key, &put, &["-o", &control_option])?)?;
    ran.expect_code(0)?;
    gateway.wait_state("orders_20261120.csv", "delivered")?;
    drop(stalled);
    master.kill()?;
    master.wait()?;
    Ok(())
}

/// Size in a line of `ls -ln`.
fn listed_size(listing: &str, name: &str) -> Option<u64> {
    let line = listing
        .lines()
        .find(|line| line.trim_end().ends_with(name))?;
    line.split_whitespace().nth(4)?.parse().ok()
}
