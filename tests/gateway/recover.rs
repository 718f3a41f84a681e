//! kill -9 at any instant: what was acknowledged is delivered once, what was not is not visible.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use crate::harness::{Gateway, Verdict, orders_with, pause};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "after kill -9 under load every acknowledged file is delivered once, no other is visible",
        Needs::OpenSsh,
        killed_under_load,
    ),
    (
        "a clean stop and start loses nothing and keeps the listing",
        Needs::OpenSsh,
        restarted,
    ),
    (
        "an accepted file whose store was away is delivered when it is back",
        Needs::OpenSsh,
        store_away,
    ),
    (
        "a file received but not yet judged at kill -9 gets its verdict after the restart",
        Needs::OpenSsh,
        received,
    ),
    (
        "a damaged ledger is named with the way out",
        Needs::Nothing,
        damaged_ledger,
    ),
];

fn killed_under_load() -> Verdict {
    let mut gateway = Gateway::start()?;
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    let mut sent = 0_u32;
    for round in 0..4_u32 {
        // Several clients at once, small and spilled files mixed; each file has its own content.
        let mut clients = Vec::new();
        for client in 0..3_u32 {
            let mut batch = String::new();
            let mut names = Vec::new();
            for n in 0..6_u32 {
                let day = format!("{:04}{:02}{:02}", 2000 + round, client + 1, n + 1);
                let name = format!("orders_{day}.csv");
                let rows = if n % 2 == 0 { 3 } else { 4_000 };
                let file = gateway.local(
                    &name,
                    orders_with(rows, |r| format!("p{r}.{day}@example.org")),
                )?;
                batch.push_str(&format!("put {} inbox/\n", file.display()));
                names.push(name);
                sent += 1;
            }
            let child = gateway
                .sftp_command("acme", &gateway.acme_key(), &batch, &[])?
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            clients.push(child);
        }
        // Kill at a moment that moves with the round: nothing here depends on when.
        for _ in 0..=(round * 3) {
            pause();
        }
        gateway.kill()?;
        for client in clients {
            let output = client.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            for line in said
                .lines()
                .filter_map(|line| line.strip_prefix("sallyport: ACCEPTED "))
            {
                acknowledged.insert(
                    line.split_whitespace()
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
        }
        gateway.serve()?;
    }
    gateway.wait_until("every acknowledged file in the store", || {
        Ok(gateway.submissions()?.iter().all(|item| {
            ["delivered", "interrupted"].contains(&item["state"].as_str().unwrap_or_default())
        }))
    })?;
    let items = gateway.json(&["submission", "list", "--limit", "1000"])?;
    let items = items["items"].as_array().cloned().unwrap_or_default();
    let delivered: Vec<String> = items
        .iter()
        .filter(|item| item["state"] == "delivered")
        .map(|item| item["file"].as_str().unwrap_or_default().to_owned())
        .collect();
    for name in &acknowledged {
        let times = delivered.iter().filter(|file| *file == name).count();
        assert_eq!(times, 1, "{name} was acknowledged; delivered {times} times");
    }
    // No object without an accepted submission, none twice, none partial.
    let objects = gateway.objects()?;
    assert_eq!(
        objects.len(),
        delivered.len(),
        "objects and delivered rows differ"
    );
    for (key, bytes) in &objects {
        let lines = bytes.split(|b| *b == b'\n').count() - 1;
        assert!(lines == 4 || lines == 4_001, "{key} has {lines} lines");
    }
    for path in crate::harness::files_below(&gateway.home().join("lake"))? {
        assert!(
            !path.to_string_lossy().contains('#'),
            "a staging file was left: {}",
            path.display()
        );
    }
    assert!(sent > 0);
    gateway
        .cli(&["audit", "verify"])?
        .expect_code(0)?
        .expect_stdout("chain ok")?;
    Ok(())
}

fn received() -> Verdict {
    let mut gateway = Gateway::start_with(|home| {
        let path = home.join("sallyport.toml");
        let text = fs::read_to_string(&path)?;
        let text = text.replace("#wait = \"10s\"", "wait = \"1ms\"");
        assert!(text.contains("wait = \"1ms\""), "{text}");
        Ok(fs::write(path, text)?)
    })?;
    let rows = 300_000;
    let file = gateway.local(
        "orders_20261106.csv",
        orders_with(rows, |r| format!("t{r}@example.org")),
    )?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?
        .expect_stderr("RECEIVED orders_20261106.csv  still checking; result in /receipts")?;
    gateway.kill()?;
    gateway.serve()?;
    gateway.wait_state("orders_20261106.csv", "delivered")?;
    let objects = gateway.objects()?;
    assert_eq!(objects.len(), 1);
    let lines = objects[0].1.iter().filter(|b| **b == b'\n').count();
    assert_eq!(lines, usize::try_from(rows)? + 1);
    gateway.sftp("get receipts/latest.txt\n")?.expect_code(0)?;
    let receipt = fs::read_to_string(gateway.scratch().join("latest.txt"))?;
    assert!(receipt.contains("ACCEPTED  300000 rows"), "{receipt}");
    Ok(())
}

fn restarted() -> Verdict {
    let mut gateway = Gateway::start()?;
    let file = gateway.local(
        "orders_20261110.csv",
        orders_with(5, |r| format!("q{r}@example.org")),
    )?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?;
    assert_eq!(gateway.stop()?, 0);
    gateway.serve()?;
    gateway.wait_state("orders_20261110.csv", "delivered")?;
    gateway
        .sftp("ls inbox/orders_20261110.csv\nget receipts/latest.txt\n")?
        .expect_code(0)?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn store_away() -> Verdict {
    let gateway = Gateway::start()?;
    let lake = gateway.home().join("lake");
    // A file in the place of the partner's folder: the store takes nothing for acme.
    fs::write(lake.join("acme"), "in the way")?;
    let file = gateway.local(
        "orders_20261109.csv",
        orders_with(5, |r| format!("s{r}@example.org")),
    )?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED")?;
    gateway.wait_state("orders_20261109.csv", "failing")?;
    fs::remove_file(lake.join("acme"))?;
    gateway.wait_state("orders_20261109.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn damaged_ledger() -> Verdict {
    let mut gateway = Gateway::start()?;
    gateway.stop()?;
    let state = gateway.home().join("state");
    fs::write(state.join("state.db"), vec![0x55; 65_536])?;
    drop(fs::remove_file(state.join("state.db-wal")));
    let failed = gateway.serve();
    let Err(failed) = failed else {
        return Err("serve started on a damaged ledger".into());
    };
    let text = failed.message().unwrap_or_default().to_owned();
    assert!(text.contains("state.db"), "the file is not named: {text}");
    assert!(text.contains("backup"), "no way out is named: {text}");
    Ok(())
}
