//! What shows that a file is whole, for feeds that want more than its CLOSE, and for clients that
//! never rename; what is listed of a file before and after its verdict.

use std::fs;
use std::path::Path;

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Failed, Gateway, Verdict, orders};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a file sent under any partial name is judged at its rename, once and under its final name",
        Needs::OpenSsh,
        partial_names,
    ),
    (
        "a file left under a partial name is taken after the quiet window, one still being sent is not",
        Needs::OpenSsh,
        quiet_window,
    ),
    (
        "a partial name left behind never replaces what came later, also after a restart",
        Needs::OpenSsh,
        left_behind,
    ),
    (
        "a feed that wants a size takes what scp sends and what is renamed, and refuses a plain put",
        Needs::OpenSsh,
        size_wanted,
    ),
    (
        "a feed that wants a rename refuses what came under its final name",
        Needs::OpenSsh,
        rename_wanted,
    ),
    (
        "accepted files leave the inbox at once where the policy says so",
        Needs::OpenSsh,
        hidden,
    ),
    (
        "a file that is being checked is listed with its size, readable by nobody else",
        Needs::OpenSsh,
        being_checked,
    ),
];

/// WRITE, CREATE, TRUNC.
const PUT: u32 = 0x02 | 0x08 | 0x10;
const STAT: u8 = 17;
const ATTRS: u8 = 105;

/// Adds a line behind the `table` of acme's policy.
fn with_line(home: &Path, table: &str, line: &str) -> Verdict {
    let path = home.join("policies/acme.toml");
    let text = fs::read_to_string(&path)?;
    let changed = text.replacen(&format!("{table}\n"), &format!("{table}\n{line}\n"), 1);
    assert_ne!(text, changed);
    Ok(fs::write(path, changed)?)
}

/// A gateway whose feed of orders has one line more.
fn feed_with(line: &str) -> Result<Gateway, Failed> {
    Gateway::start_with(|home| with_line(home, "[[feed]]", line))
}

fn delivered(gateway: &Gateway, count: usize) -> Verdict {
    gateway.wait_until("the objects", || Ok(gateway.objects()?.len() == count))
}

fn partial_names() -> Verdict {
    let gateway = Gateway::start()?;
    let patterns = [
        "*.filepart",
        "*.partial",
        "*.part",
        "*.tmp",
        "*.inprogress",
        ".in.*",
    ];
    for (day, pattern) in (20_261_201..).zip(patterns) {
        let name = format!("orders_{day}.csv");
        let partial = pattern.replace('*', &name);
        let file = gateway.local(&name, orders(day - 20_261_200))?;
        let put = format!("put {} inbox/{partial}\n", file.display());
        gateway.sftp(&put)?.expect_code(0)?;
        gateway.wait_state(&name, "interrupted")?;
        let list = format!("ls inbox/{partial}\nrename inbox/{partial} inbox/{name}\n");
        let verdict = format!("ACCEPTED {name}");
        gateway
            .sftp(&list)?
            .expect_code(0)?
            .expect_stderr(&verdict)?;
        gateway.wait_state(&name, "delivered")?;
    }
    assert_eq!(gateway.objects()?.len(), patterns.len());
    assert_eq!(gateway.submissions()?.len(), patterns.len());
    Ok(())
}

fn quiet_window() -> Verdict {
    let gateway = feed_with("quiet_window = \"1s\"")?;
    let good = gateway.local("good.csv", orders(3))?;
    let bad = gateway.local("bad.csv", orders(4).replace("DE,", "UK,"))?;
    let (good, bad) = (good.display(), bad.display());
    let mut sending = RawSftp::open(&gateway, &[])?;
    let text = orders(5);
    let (first, second) = text.as_bytes().split_at(100);
    let handle = sending.open_file("/inbox/orders_20261203.csv.part", PUT)?;
    let written = sending.ask(raw::WRITE, &[&handle, &[0; 8], &string(first)])?;
    assert_eq!(written.status()?, 0, "{written:?}");
    // Cut off: it was never closed, so nobody knows whether it is whole.
    let mut cut = RawSftp::open(&gateway, &[])?;
    let lost = cut.open_file("/inbox/orders_20261204.csv.part", PUT)?;
    cut.ask(raw::WRITE, &[&lost, &[0; 8], &string(text.as_bytes())])?;
    drop(cut);
    gateway.wait_state("orders_20261204.csv", "interrupted")?;
    gateway
        .sftp(&format!(
            "put {good} inbox/orders_20261201.csv.part\nput {bad} inbox/.in.orders_20261202.csv\n"
        ))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    gateway.wait_state("orders_20261202.csv", "rejected")?;
    let listed = gateway
        .sftp("ls -1 inbox\nls -1 receipts\n")?
        .expect_code(0)?;
    assert!(
        listed.stdout.contains("inbox/orders_20261201.csv\n"),
        "{listed:?}"
    );
    assert!(!listed.stdout.contains("20261201.csv.part"), "{listed:?}");
    assert!(listed.stdout.contains("orders_20261202.csv."), "{listed:?}");
    let state = |name: &str| -> Result<String, Failed> {
        let items = gateway.submissions()?;
        let found = items.iter().find(|item| item["file"] == name);
        Ok(found.ok_or("not listed")?["state"].to_string())
    };
    assert_eq!(state("orders_20261204.csv")?, "\"interrupted\"");
    // Silent for longer than the window, but open.
    let offset = 100_u64.to_be_bytes();
    let written = sending.ask(raw::WRITE, &[&handle, &offset, &string(second)])?;
    assert_eq!(written.status()?, 0, "{written:?}");
    assert_eq!(sending.ask(raw::CLOSE, &[&handle])?.status()?, 0);
    gateway.wait_state("orders_20261203.csv", "delivered")?;
    delivered(&gateway, 2)
}

fn left_behind() -> Verdict {
    let mut gateway = feed_with("quiet_window = \"2s\"")?;
    let (old, new) = (orders(3), orders(4));
    let old = gateway.local("old.csv", old)?;
    let new = gateway.local("new.csv", new)?;
    let name = "inbox/orders_20261201.csv";
    // A client that could not rename, and sent it again directly.
    gateway
        .sftp(&format!(
            "put {} {name}.part\nput {} {name}\n",
            old.display(),
            new.display()
        ))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    // One that can be resumed under its final name is not given up for it.
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file("/inbox/orders_20261202.csv", PUT)?;
    sftp.ask(raw::WRITE, &[&handle, &[0; 8], &string(b"order_id,")])?;
    drop(sftp);
    gateway.wait_state("orders_20261202.csv", "interrupted")?;
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261202.csv.part\n",
            old.display()
        ))?
        .expect_code(0)?;
    // A third is whole and alone, across a restart.
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261203.csv.part\n",
            old.display()
        ))?
        .expect_code(0)?;
    gateway.stop()?;
    gateway.serve()?;
    gateway.wait_state("orders_20261203.csv", "delivered")?;
    let objects = gateway.objects()?;
    let rows: Vec<usize> = objects
        .iter()
        .map(|(_, object)| String::from_utf8_lossy(object).lines().count() - 1)
        .collect();
    assert_eq!(objects.len(), 2, "{rows:?}");
    let state = |path: &str| -> Result<String, Failed> {
        let items = gateway.submissions()?;
        let found = items.iter().find(|item| item["path"] == path);
        Ok(found.ok_or("not listed")?["state"].to_string())
    };
    for path in [
        "/inbox/orders_20261201.csv.part",
        "/inbox/orders_20261202.csv.part",
        "/inbox/orders_20261202.csv",
    ] {
        assert_eq!(state(path)?, "\"interrupted\"", "{path}");
    }
    // Its key is gone: what it has left is not taken for its own.
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261204.csv.part\n",
            old.display()
        ))?
        .expect_code(0)?;
    fs::write(gateway.home().join("partners/acme.pub"), "# none\n")?;
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(state("/inbox/orders_20261204.csv.part")?, "\"interrupted\"");
    assert_eq!(gateway.objects()?.len(), 2);
    Ok(())
}

fn size_wanted() -> Verdict {
    let gateway = feed_with("completeness = \"size\"")?;
    let file = gateway.local("orders_20261201.csv", orders(2))?;
    let put = |name: &str| format!("put {} inbox/{name}\n", file.display());
    gateway
        .sftp(&put("orders_20261201.csv"))?
        .expect_code(1)?
        .expect_stderr("no size was declared; send it with scp")?;
    gateway.scp(&[], &file, "inbox/")?.expect_code(0)?;
    let file = gateway.local("orders_20261202.csv", orders(3))?;
    gateway.scp(&["-O"], &file, "inbox/")?.expect_code(0)?;
    let file = gateway.local("orders_20261203.csv", orders(4))?;
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261203.csv.part\n\
             rename inbox/orders_20261203.csv.part inbox/orders_20261203.csv\n",
            file.display()
        ))?
        .expect_code(0)?;
    delivered(&gateway, 3)
}

fn rename_wanted() -> Verdict {
    let gateway = feed_with("completeness = \"rename\"")?;
    let file = gateway.local("orders_20261201.csv", orders(2))?;
    let name = "inbox/orders_20261201.csv";
    for ran in [
        gateway.sftp(&format!("put {} {name}\n", file.display()))?,
        gateway.scp(&[], &file, name)?,
    ] {
        ran.expect_code(1)?
            .expect_stderr("sent under its final name")?;
    }
    gateway.sftp("get receipts/latest.txt\n")?.expect_code(0)?;
    let receipt = fs::read_to_string(gateway.scratch().join("latest.txt"))?;
    assert!(receipt.contains("completeness = \"rename\""), "{receipt}");
    gateway
        .sftp(&format!(
            "put {} {name}.part\nrename {name}.part {name}\n",
            file.display()
        ))?
        .expect_code(0)?;
    delivered(&gateway, 1)
}

fn hidden() -> Verdict {
    let gateway =
        Gateway::start_with(|home| with_line(home, "[access]", "hide_after_accept = true"))?;
    let file = gateway.local("orders_20261201.csv", orders(2))?;
    let put = |file: &Path| {
        format!(
            "put {} inbox/orders_20261201.csv\nls inbox\n",
            file.display()
        )
    };
    let listed = gateway.sftp(&put(&file))?.expect_code(0)?;
    let shown = |ran: &crate::harness::Ran| ran.stdout.matches("inbox/orders").count();
    // Once as an argument of `put`, not in the listing.
    assert_eq!(shown(&listed), 1, "{listed:?}");
    gateway
        .sftp("ls inbox/orders_20261201.csv\n")?
        .expect_code(1)?;
    gateway
        .sftp("rm inbox/orders_20261201.csv\n")?
        .expect_code(1)?;
    // One in the middle is seen, and the next of its name is taken.
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file("/inbox/orders_20261202.csv", PUT)?;
    let listed = gateway.sftp("ls inbox\n")?.expect_code(0)?;
    assert_eq!(shown(&listed), 1, "{listed:?}");
    drop((sftp, handle));
    // What is out of sight is not forgotten: nothing is appended to it.
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let refused = sftp.open_file("/inbox/orders_20261201.csv", 0x02 | 0x08 | 0x04);
    assert!(format!("{refused:?}").contains("handle"), "{refused:?}");
    drop(sftp);
    let other = gateway.local("other.csv", orders(3))?;
    gateway.sftp(&put(&other))?.expect_code(0)?;
    delivered(&gateway, 2)
}

fn being_checked() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let config = home.join("sallyport.toml");
        let text = fs::read_to_string(&config)?;
        let late = text.replace("#wait = \"10s\"", "wait = \"1ms\"");
        assert_ne!(text, late);
        Ok(fs::write(config, late)?)
    })?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let path = "/inbox/orders_20261201.csv";
    let text = orders(400_000);
    let handle = sftp.open_file(path, PUT)?;
    let mut offset = 0_u64;
    let mut burst = Vec::new();
    let mut asked = 0;
    for piece in text.as_bytes().chunks(200_000) {
        let fields = [&handle[..], &offset.to_be_bytes(), &string(piece)];
        burst.extend(sftp.request(raw::WRITE, &fields).1);
        offset += u64::try_from(piece.len())?;
        asked += 1;
    }
    // All at once: its inspection is far behind when the CLOSE is answered.
    burst.extend(sftp.request(raw::CLOSE, &[&handle]).1);
    burst.extend(sftp.request(STAT, &[&string(path.as_bytes())]).1);
    sftp.send(&burst)?;
    for _ in 0..=asked {
        assert_eq!(sftp.reply()?.status()?, 0);
    }
    let found = sftp.reply()?;
    assert_eq!(found.kind, ATTRS, "{found:?}");
    let number = |at: usize| -> Result<u64, Failed> {
        Ok(u64::from_be_bytes(found.body[at..at + 8].try_into()?))
    };
    // Flags, size, mode.
    assert_eq!(number(4)?, offset);
    assert_eq!(number(12)? >> 32, 0o100_400, "{found:?}");
    let state = gateway.submissions()?.remove(0)["state"].to_string();
    assert_eq!(state, "\"received\"");
    // Until then it is neither replaced nor removed.
    let again = sftp.ask(
        raw::OPEN,
        &[&string(path.as_bytes()), &PUT.to_be_bytes(), &[0; 4]],
    )?;
    let told = String::from_utf8_lossy(&again.body).into_owned();
    assert_eq!(again.status()?, 3, "{told}");
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    let found = sftp.ask(STAT, &[&string(path.as_bytes())])?;
    assert_eq!(found.body[12..16], 0o100_444_u32.to_be_bytes(), "{found:?}");
    Ok(())
}
