//! The same main job through the gateway's own russh client: these need no program of the machine.

use std::fs;
use std::future::Future;

use sallyport::ssh::client::{Client, Login};

use crate::harness::{Failed, Gateway, Verdict, orders};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "our own client sees the verdict in the status text, on stderr and in stat",
        Needs::Nothing,
        lanes,
    ),
    (
        "our own client fetches receipts and help and nothing of the inbox",
        Needs::Nothing,
        reading,
    ),
    (
        "a client whose connection drops before close publishes nothing",
        Needs::Nothing,
        dropped,
    ),
    (
        "four clients at once each get their own verdict and object",
        Needs::Nothing,
        many,
    ),
    (
        "the command line shows what happened and verifies the chain",
        Needs::Nothing,
        command_line,
    ),
    (
        "file check gives the same document as the receipt of the same file",
        Needs::Nothing,
        same_document,
    ),
];

fn lanes() -> Verdict {
    let gateway = Gateway::start()?;
    let good = fs::read(gateway.home().join("policies/acme/orders_20261120.csv"))?;
    let bad = fs::read(gateway.home().join("policies/acme/orders_20261121.bad.csv"))?;
    with_client(&gateway, async |client| {
        let taken = client.put("/inbox/orders_20261120.csv", &good).await?;
        assert!(taken.accepted, "{taken:?}");
        assert!(
            taken.lines.iter().any(|line| line.contains("ACCEPTED")),
            "{taken:?}"
        );
        let size = client.size("/inbox/orders_20261120.csv").await?;
        assert_eq!(size, Ok(u64::try_from(good.len())?));
        let refused = client.put("/inbox/orders_20261121.csv", &bad).await?;
        assert!(!refused.accepted, "{refused:?}");
        assert_eq!(refused.step, "CLOSE");
        assert!(
            refused.status.starts_with(
                "REJECTED 3 errors in 3 rows, first: line 3 missing-cell; report /receipts/"
            ),
            "{refused:?}"
        );
        assert!(
            refused.status.len() <= 200 && refused.status.is_ascii(),
            "{refused:?}"
        );
        let gone = client.size("/inbox/orders_20261121.csv").await?;
        let text = gone.err().ok_or("a rejected file still has a size")?;
        assert!(text.contains("REJECTED"), "{text}");
        assert!(
            !client
                .list("/inbox")
                .await?
                .contains(&"orders_20261121.csv".to_owned())
        );
        Ok(())
    })
}

fn reading() -> Verdict {
    let gateway = Gateway::start()?;
    with_client(&gateway, async |client| {
        client
            .put("/inbox/orders_20261118.csv", orders(2).as_bytes())
            .await?;
        assert_eq!(
            client.list("/").await?,
            ["help", "inbox", "receipts", "test"]
        );
        let latest = String::from_utf8(client.get("/receipts/latest.txt").await?)?;
        assert!(latest.contains("ACCEPTED  2 rows"), "{latest}");
        let help = String::from_utf8(client.get("/help/orders.spec.txt").await?)?;
        assert!(help.contains("order_id") && help.is_ascii(), "{help}");
        assert!(client.get("/inbox/orders_20261118.csv").await.is_err());
        assert!(client.get("/receipts/../../state/state.db").await.is_err());
        Ok(())
    })
}

fn dropped() -> Verdict {
    let gateway = Gateway::start()?;
    with_client(&gateway, async |client| {
        client
            .begin("/inbox/orders_20261117.csv", orders(3).as_bytes())
            .await?;
        Ok(())
    })?;
    gateway.wait_state("orders_20261117.csv", "interrupted")?;
    assert_eq!(gateway.objects()?, Vec::new());
    with_client(&gateway, async |client| {
        let size = client.size("/inbox/orders_20261117.csv").await?;
        assert_eq!(
            size,
            Ok(u64::try_from(orders(3).len())?),
            "what is safe can be resumed"
        );
        Ok(())
    })
}

fn many() -> Verdict {
    let gateway = Gateway::start()?;
    std::thread::scope(|scope| {
        let gateway = &gateway;
        let clients: Vec<_> = (1..=4_u32)
            .map(|n| {
                scope.spawn(move || {
                    with_client(gateway, async |client| {
                        let name = format!("/inbox/orders_2026110{n}.csv");
                        let put = client.put(&name, orders(n * 900).as_bytes()).await?;
                        let rows = format!("{} rows", n * 900);
                        assert!(put.lines.iter().any(|line| line.contains(&rows)), "{put:?}");
                        Ok(())
                    })
                })
            })
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().map_err(|_| Failed::from("panicked"))?)
    })?;
    gateway.wait_until("four objects", || Ok(gateway.objects()?.len() == 4))?;
    let mut rows: Vec<usize> = gateway
        .objects()?
        .iter()
        .map(|(_, bytes)| bytes.iter().filter(|b| **b == b'\n').count() - 1)
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, (1..=4).map(|n| n * 900).collect::<Vec<_>>());
    // The list comes in pages; a filter of its own is looked for beyond the first.
    let list = [
        "submission",
        "list",
        "--limit",
        "3",
        "--verdict",
        "accepted",
    ];
    let first = gateway.json(&list)?;
    let next = first["next"].as_str().ok_or("no next page")?.to_owned();
    let second = gateway.json(&[&list[..], &["--cursor", &next]].concat())?;
    assert!(second["next"].is_null(), "{second}");
    let mut files: Vec<String> = [first, second]
        .iter()
        .flat_map(|page| page["items"].as_array().cloned().unwrap_or_default())
        .map(|item| item["file"].to_string())
        .collect();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), 4, "{files:?}");
    Ok(())
}

fn command_line() -> Verdict {
    let gateway = Gateway::start()?;
    let bad = fs::read(gateway.home().join("policies/acme/orders_20261121.bad.csv"))?;
    with_client(&gateway, async |client| {
        client.put("/inbox/orders_20261121.csv", &bad).await?;
        Ok(())
    })?;
    let items = gateway.submissions()?;
    let item = items.first().ok_or("no submission is listed")?;
    assert_eq!(item["verdict"], "rejected", "{item}");
    let short = item["short"].as_str().ok_or("no short id")?;
    gateway
        .cli(&["submission", "show", short])?
        .expect_code(0)?
        .expect_stdout("orders_20261121.csv")?;
    gateway
        .cli(&["submission", "show", "ZZZZZZZZ"])?
        .expect_code(3)?;
    gateway
        .cli(&["audit", "verify"])?
        .expect_code(0)?
        .expect_stdout("chain ok")?;
    gateway
        .cli(&["audit", "tail"])?
        .expect_code(0)?
        .expect_stdout("submission.reject")?;
    gateway
        .cli(&["status"])?
        .expect_code(0)?
        .expect_stdout("1 rejected")?;
    gateway
        .cli(&["policy", "test", "acme"])?
        .expect_code(0)?
        .expect_stdout("2 passed")?;
    gateway
        .cli(&["key", "list"])?
        .expect_code(0)?
        .expect_stdout("acme")?;
    let file = gateway
        .home()
        .join("policies/acme/orders_20261121.bad.csv")
        .display()
        .to_string();
    gateway
        .cli(&[
            "file",
            "check",
            &file,
            "--policy",
            "policies/acme.toml",
            "--name",
            "orders_20261121.csv",
        ])?
        .expect_code(1)?
        .expect_stdout("missing-cell")?;
    Ok(())
}

fn same_document() -> Verdict {
    let gateway = Gateway::start()?;
    let mut receipts = Vec::new();
    for (sample, name) in [
        ("orders_20261120.csv", "orders_20261120.csv"),
        ("orders_20261121.bad.csv", "orders_20261121.csv"),
    ] {
        let file = gateway.home().join("policies/acme").join(sample);
        let bytes = fs::read(&file)?;
        let received = std::cell::RefCell::new(Vec::new());
        with_client(&gateway, async |client| {
            client.put(&format!("/inbox/{name}"), &bytes).await?;
            let receipts = client.list("/receipts").await?;
            let json = receipts
                .iter()
                .find(|receipt| {
                    let base = receipt.strip_suffix(".receipt.json");
                    base.is_some_and(|base| base.starts_with(name))
                })
                .ok_or("no receipt")?;
            *received.borrow_mut() = client.get(&format!("/receipts/{json}")).await?;
            Ok(())
        })?;
        let mut received: serde_json::Value = serde_json::from_slice(&received.into_inner())?;
        let path = file.display().to_string();
        let checked = gateway.cli(&[
            "file", "check", &path, "--policy", "acme", "--name", name, "--json",
        ])?;
        let mut checked: serde_json::Value = serde_json::from_str(&checked.stdout)?;
        assert_eq!(checked["area"], "check", "{checked}");
        // What only a gateway knows, and what differs because nothing was sent.
        for document in [&mut received, &mut checked] {
            let fields = document.as_object_mut().ok_or("no object")?;
            for known_here in ["submission", "instance", "area", "channel", "decided_at"] {
                fields.remove(known_here);
            }
            fields["file"]
                .as_object_mut()
                .ok_or("no file")?
                .remove("received_at");
        }
        assert_eq!(received, checked);
        receipts.push(checked["verdict"].clone());
    }
    assert_eq!(receipts, ["accepted", "rejected"]);
    Ok(())
}

/// One connection as acme; it drops when the block ends.
fn with_client<F>(gateway: &Gateway, work: F) -> Verdict
where
    F: AsyncFnOnce(Client) -> Result<(), Box<dyn std::error::Error>>,
{
    let login = Login {
        address: ([127, 0, 0, 1], gateway.port()).into(),
        user: "acme".to_owned(),
        host_key: gateway.host_key(),
    };
    let key = gateway.acme_key();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(boxed(async move {
            let client = Client::connect(&login, &key).await?;
            work(client).await
        }))
        .map_err(|fault| Failed::from(fault.to_string()))
}

fn boxed<'f, T>(
    work: impl Future<Output = T> + 'f,
) -> std::pin::Pin<Box<dyn Future<Output = T> + 'f>> {
    Box::pin(work)
}
