//! Policies and keys change while the gateway runs.

use std::fs;

use crate::harness::{Gateway, Verdict, keygen, orders};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "an edited policy is in force without a restart",
        Needs::OpenSsh,
        edited,
    ),
    (
        "an edited list is in force without a restart, and shows in the policy's hash",
        Needs::OpenSsh,
        list_edited,
    ),
    (
        "a broken policy is refused with its place and the last good one stays",
        Needs::OpenSsh,
        broken,
    ),
    (
        "a key added by the command line works without a restart",
        Needs::OpenSsh,
        key_added,
    ),
];

fn edited() -> Verdict {
    let gateway = Gateway::start()?;
    let uk = orders(2).replace("DE,", "UK,");
    let file = gateway.local("orders_20261108.csv", uk)?;
    let put = format!("put {} inbox/\n", file.display());
    gateway
        .sftp(&put)?
        .expect_code(1)?
        .expect_stderr("one of DE, AT, CH")?;
    let policy = gateway.home().join("policies/acme.toml");
    let text = fs::read_to_string(&policy)?;
    fs::write(
        &policy,
        text.replace("\"DE\", \"AT\", \"CH\"", "\"DE\", \"AT\", \"CH\", \"UK\""),
    )?;
    gateway.wait_until("the new policy", || {
        Ok(gateway.log().contains("country.enum +UK"))
    })?;
    gateway
        .sftp(&put)?
        .expect_code(0)?
        .expect_stderr("ACCEPTED")?;
    Ok(())
}

fn list_edited() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        let listed = r#"enum = ["DE", "AT", "CH"]"#;
        assert!(text.contains(listed), "{text}");
        fs::write(path, text.replace(listed, r#"lookup = "countries.txt""#))?;
        fs::create_dir(home.join("policies/lists"))?;
        let countries = home.join("policies/lists/countries.txt");
        Ok(fs::write(countries, "DE\nAT\nCH\n")?)
    })?;
    let uk = orders(2).replace("DE,", "UK,");
    let file = gateway.local("orders_20261108.csv", uk)?;
    let put = format!("put {} inbox/\n", file.display());
    gateway
        .sftp(&put)?
        .expect_code(1)?
        .expect_stderr("foreign-key")?
        .expect_stderr("in the list countries.txt")?;
    let list = gateway.home().join("policies/lists/countries.txt");
    fs::write(&list, "DE\nAT\nCH\nUK\n")?;
    gateway.wait_until("the new list", || {
        let log = gateway.log();
        Ok(log.contains("country.lookup countries.txt +1 -0 (widening)"))
    })?;
    gateway
        .sftp(&put)?
        .expect_code(0)?
        .expect_stderr("ACCEPTED")?;
    let listed = gateway.json(&["submission", "list"])?;
    let listed = &listed["items"];
    let hash = |at: usize| -> Result<String, crate::harness::Failed> {
        let id = listed[at]["submission"].as_str().ok_or("no id")?;
        let shown = gateway.json(&["submission", "show", id])?;
        let hash = shown["policy_hash"].as_str();
        Ok(hash.ok_or_else(|| format!("no hash: {shown}"))?.to_owned())
    };
    assert_ne!(hash(0)?, hash(1)?);
    // A list that is gone is a mistake of the policy: the last good one stays in force.
    fs::remove_file(&list)?;
    gateway.wait_until("the refusal", || {
        Ok(gateway.log().contains("there is no list"))
    })?;
    gateway
        .sftp(&put.replace("inbox/", "inbox/orders_20261109.csv"))?
        .expect_code(0)?;
    Ok(())
}

fn broken() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let path = home.join("sallyport.toml");
        let text = fs::read_to_string(&path)?;
        let text = text.replace("#listen = \"127.0.0.1:9464\"", "listen = \"127.0.0.1:0\"");
        Ok(fs::write(path, text)?)
    })?;
    let policy = gateway.home().join("policies/acme.toml");
    let text = fs::read_to_string(&policy)?;
    fs::write(&policy, text.replace("columns = [", "colums = ["))?;
    gateway.wait_until("the refusal", || {
        Ok(gateway.log().contains("config.refused"))
    })?;
    let log = gateway.log();
    assert!(log.contains("did you mean `columns`?"), "{log}");
    assert_eq!(reload_metric(&gateway)?, "0");
    let file = gateway.local("orders_20261107.csv", orders(2))?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?;
    fs::write(&policy, text)?;
    gateway.wait_until("the good policy again", || {
        Ok(reload_metric(&gateway)? == "1")
    })?;
    Ok(())
}

/// The metric as a scraper reads it.
fn reload_metric(gateway: &Gateway) -> Result<String, crate::harness::Failed> {
    use std::io::{Read, Write};
    let status = gateway.json(&["status"])?;
    let address = status["metrics"]
        .as_str()
        .ok_or("status does not say where the metrics are")?;
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    page.lines()
        .find_map(|line| line.strip_prefix("sallyport_config_last_reload_successful "))
        .map(str::to_owned)
        .ok_or_else(|| format!("no such metric: {page}").into())
}

fn key_added() -> Verdict {
    let gateway = Gateway::start()?;
    let key = gateway.scratch().join("second");
    keygen(&key)?;
    let public = format!("{}.pub", key.display());
    gateway.sftp_as("acme", &key, "ls\n")?.expect_code(255)?;
    gateway
        .cli(&["key", "add", "acme", &public, "--yes"])?
        .expect_code(0)?;
    gateway.wait_until("the new key", || {
        Ok(gateway.sftp_as("acme", &key, "ls\n")?.code == 0)
    })?;
    Ok(())
}
