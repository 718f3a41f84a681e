//! A sensitive value goes in by every way there is and is then searched for.

use std::fs;
use std::process::Stdio;

use crate::harness::{Gateway, Verdict, files_below, orders_with};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[(
    "a sensitive value is nowhere at rest, accepted, rejected or interrupted",
    Needs::OpenSsh,
    canary,
)];

/// Never in any sample, test or source but here.
const CANARY: &str = "zq7canary9x";
const IBAN: &str = "GB33BUKB20201555555555";

fn canary() -> Verdict {
    let mut gateway = Gateway::start()?;
    let email = |_| format!("{CANARY}@example.org");
    let small = orders_with(20, email).replace("DE89370400440532013000", IBAN);
    let large = orders_with(30_000, email).replace("DE89370400440532013000", IBAN);
    let bad_small = small
        .replace("DE,1.25", "UK,1,25")
        .replace(IBAN, &format!("{IBAN}0"));
    let bad_large = large.replace("DE,1.25", "UK,1.25");
    let bad_email = small.replace("@example.org", " at example");
    for (day, text) in [
        (1, &small),
        (2, &large),
        (3, &bad_small),
        (4, &bad_large),
        (5, &bad_email),
    ] {
        let file = gateway.local(&format!("orders_2026100{day}.csv"), text)?;
        let ran = gateway.sftp(&format!("put {} inbox/\n", file.display()))?;
        assert_eq!(ran.code, i32::from(day > 2), "{ran:?}");
        assert!(!ran.stderr.contains(CANARY), "the value is echoed: {ran:?}");
    }
    // Two interrupted ones: a temporary name that is closed, and a connection that is cut.
    let part = gateway.local("orders_20261006.csv.part", &small)?;
    gateway
        .sftp(&format!("put {} inbox/\n", part.display()))?
        .expect_code(0)?;
    let cut = gateway.local("orders_20261007.csv", &large)?;
    let mut slow = gateway
        .sftp_command(
            "acme",
            &gateway.acme_key(),
            &format!("put {} inbox/\n", cut.display()),
            &["-l", "4000"],
        )?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    gateway.wait_until("the cut upload in the spool", || {
        Ok(files_below(&gateway.home().join("state/spool"))?
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|m| m.len() > 100_000)))
    })?;
    slow.kill()?;
    slow.wait()?;
    gateway.wait_state("orders_20261007.csv", "interrupted")?;
    gateway.wait_state("orders_20261001.csv", "delivered")?;
    gateway.wait_state("orders_20261002.csv", "delivered")?;
    search(&gateway, "while it runs")?;
    gateway.sftp("get receipts/*.receipt.*\n")?.expect_code(0)?;
    for path in files_below(&gateway.scratch())? {
        if path.to_string_lossy().contains(".receipt.") {
            absent_from(&path, "a receipt")?;
        }
    }
    gateway.kill()?;
    search(&gateway, "after kill -9")?;
    gateway.serve()?;
    gateway.stop()?;
    search(&gateway, "after a clean stop")?;
    Ok(())
}

fn search(gateway: &Gateway, when: &str) -> Verdict {
    let mut looked_at = 0_u32;
    for folder in ["state", "lake"] {
        for path in files_below(&gateway.home().join(folder))? {
            absent_from(&path, when)?;
            looked_at += 1;
        }
    }
    absent_from(&gateway.log_path(), when)?;
    if looked_at < 4 {
        Err(format!("only {looked_at} files looked at").into())
    } else {
        Ok(())
    }
}

/// As UTF-8, UTF-16, base64 (all three alignments) and hex.
fn absent_from(path: &std::path::Path, when: &str) -> Verdict {
    let Ok(bytes) = fs::read(path) else {
        return Ok(());
    };
    for value in [CANARY, IBAN] {
        let utf16: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut needles = vec![
            value.as_bytes().to_vec(),
            utf16,
            data_encoding::HEXLOWER
                .encode(value.as_bytes())
                .into_bytes(),
            data_encoding::HEXUPPER
                .encode(value.as_bytes())
                .into_bytes(),
        ];
        for skip in 0..3 {
            let text = data_encoding::BASE64.encode(&value.as_bytes()[skip..]);
            needles.push(text.as_bytes()[..text.len() - 6].to_vec());
        }
        for needle in needles {
            if bytes.windows(needle.len()).any(|window| window == needle) {
                return Err(format!("{value} found in {} {when}", path.display()).into());
            }
        }
    }
    Ok(())
}
