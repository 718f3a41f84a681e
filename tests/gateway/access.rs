//! Who gets in, who does not, and what a session may ask for.

use std::fs;
use std::process::Command;

use crate::harness::{Gateway, Verdict, binary, keygen, orders, run};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a key nobody added is refused, for known and unknown partners alike",
        Needs::OpenSsh,
        wrong_key,
    ),
    (
        "a revoked key is refused at once and its live session is cut",
        Needs::OpenSsh,
        revoked_key,
    ),
    (
        "an expired key and a key from the wrong network are refused",
        Needs::OpenSsh,
        bounded_keys,
    ),
    (
        "partner A cannot see or touch what partner B sent",
        Needs::OpenSsh,
        partners_apart,
    ),
    (
        "shell, exec and forwarding are refused with a proper failure",
        Needs::OpenSsh,
        only_sftp,
    ),
    (
        "a second gateway on the same state directory refuses to start",
        Needs::Nothing,
        second_gateway,
    ),
    (
        "a readable secret and an example key are refused with the remedy",
        Needs::Nothing,
        bad_keys,
    ),
    (
        "paths that try to escape stay inside the partner's folders",
        Needs::OpenSsh,
        no_escape,
    ),
];

fn wrong_key() -> Verdict {
    let gateway = Gateway::start()?;
    let stranger = gateway.scratch().join("stranger");
    keygen(&stranger)?;
    for user in ["acme", "nobody", "root"] {
        gateway
            .sftp_as(user, &stranger, "ls\n")?
            .expect_code(255)?
            .expect_stderr("Permission denied (publickey)")?;
    }
    Ok(())
}

fn revoked_key() -> Verdict {
    let gateway = Gateway::start()?;
    gateway.sftp("ls\n")?.expect_code(0)?;
    let line = fs::read_to_string(gateway.home().join("acme_key.pub"))?;
    let fingerprint = run(Command::new("ssh-keygen")
        .arg("-lf")
        .arg(gateway.home().join("acme_key.pub")))?
    .expect_code(0)?
    .stdout;
    let fingerprint = fingerprint
        .split_whitespace()
        .nth(1)
        .ok_or("no fingerprint")?
        .to_owned();
    let text = orders(400_000);
    let file = gateway.local("orders_20261112.csv", text)?;
    let mut live = gateway
        .sftp_command(
            "acme",
            &gateway.acme_key(),
            &format!("put {} inbox/\n", file.display()),
            &["-l", "8000"],
        )?
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    gateway.wait_until("the live session", || {
        let ran = gateway.sftp("ls inbox\n")?;
        Ok(ran.stdout.contains("orders_20261112.csv"))
    })?;
    gateway
        .cli(&[
            "key",
            "revoke",
            "acme",
            &fingerprint,
            "--reason",
            "laptop lost",
            "--yes",
        ])?
        .expect_code(0)?;
    assert!(!live.wait()?.success(), "the live session went on");
    gateway.sftp("ls\n")?.expect_code(255)?;
    // Putting the line back into the file does not undo a revocation.
    fs::write(gateway.home().join("partners/acme.pub"), line)?;
    gateway.sftp("ls\n")?.expect_code(255)?;
    gateway
        .cli(&["audit", "tail"])?
        .expect_code(0)?
        .expect_stdout("key.revoke")?;
    Ok(())
}

fn bounded_keys() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let path = home.join("partners/acme.pub");
        let line = fs::read_to_string(&path)?;
        for (name, options) in [
            ("old", "expiry-time=\"20200101Z\""),
            ("far", "from=\"198.51.100.0/24\""),
            ("near", "from=\"127.0.0.0/8\""),
        ] {
            keygen(&home.join(name))?;
            Gateway::add_partner(home, name)?;
            let public = fs::read_to_string(home.join(format!("{name}.pub")))?;
            fs::write(
                home.join(format!("partners/{name}.pub")),
                format!("{options} {public}"),
            )?;
        }
        Ok(fs::write(path, line)?)
    })?;
    for (user, code) in [("old", 255), ("far", 255), ("near", 0)] {
        gateway
            .sftp_as(user, &gateway.home().join(user), "ls\n")?
            .expect_code(code)?;
    }
    Ok(())
}

fn partners_apart() -> Verdict {
    let gateway = Gateway::start_with(|home| Gateway::add_partner(home, "globex"))?;
    let globex = gateway.home().join("globex_key");
    let good = gateway.home().join("policies/acme/orders_20261120.csv");
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261120.csv\n",
            good.display()
        ))?
        .expect_code(0)?;
    let receipts = gateway.sftp("ls -1 receipts\n")?.stdout;
    let receipt = receipts
        .lines()
        .find(|l| l.ends_with(".receipt.txt"))
        .ok_or("no receipt")?;
    let seen = gateway
        .sftp_as("globex", &globex, "ls -1 inbox\nls -1 receipts\n")?
        .expect_code(0)?;
    assert!(!seen.stdout.contains("orders_20261120"), "{seen:?}");
    let name = receipt.trim().rsplit('/').next().ok_or("no name")?;
    for attempt in [
        format!("get receipts/{name}\n"),
        "rm inbox/orders_20261120.csv\n".to_owned(),
        "get ../acme/receipts/latest.txt\n".to_owned(),
        "rename inbox/orders_20261120.csv inbox/orders_20261101.csv\n".to_owned(),
    ] {
        gateway
            .sftp_as("globex", &globex, &attempt)?
            .expect_code(1)?;
    }
    // The same name and content from another partner is another submission with other tokens.
    gateway
        .sftp_as(
            "globex",
            &globex,
            &format!("put {} inbox/orders_20261120.csv\n", good.display()),
        )?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261120.csv")?;
    gateway.wait_until("both objects", || Ok(gateway.objects()?.len() == 2))?;
    let objects = gateway.objects()?;
    assert_ne!(
        objects[0].1, objects[1].1,
        "two partners share tokens without a shared domain"
    );
    Ok(())
}

fn only_sftp() -> Verdict {
    let gateway = Gateway::start()?;
    let exec = gateway.ssh(&["-T"], &["id"])?;
    assert_ne!(exec.code, 0, "{exec:?}");
    assert!(
        exec.stderr.contains("request failed") || exec.stderr.contains("not available"),
        "{exec:?}"
    );
    let shell = gateway.ssh(&["-tt"], &[])?;
    assert_ne!(shell.code, 0, "{shell:?}");
    let forward = gateway.ssh(&["-W", "127.0.0.1:22"], &[])?;
    assert_ne!(forward.code, 0, "{forward:?}");
    assert!(
        forward.stderr.contains("administratively prohibited"),
        "{forward:?}"
    );
    let remote = gateway.ssh(
        &[
            "-N",
            "-o",
            "ExitOnForwardFailure=yes",
            "-R",
            "0:127.0.0.1:22",
        ],
        &[],
    )?;
    assert_ne!(remote.code, 0, "{remote:?}");
    let x11 = gateway.ssh(&["-T", "-o", "ForwardX11=yes", "-A"], &["true"])?;
    assert_ne!(x11.code, 0, "{x11:?}");
    Ok(())
}

fn second_gateway() -> Verdict {
    let gateway = Gateway::start()?;
    let ran = run(Command::new(binary())
        .args(["serve", "--config"])
        .arg(gateway.home().join("sallyport.toml"))
        .stdin(std::process::Stdio::null()))?;
    assert_ne!(ran.code, 0, "{ran:?}");
    ran.expect_stderr("in use by another gateway")?;
    Ok(())
}

fn bad_keys() -> Verdict {
    use std::os::unix::fs::PermissionsExt;
    let mut gateway = Gateway::start()?;
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/keys.example/partners/acme.pub"
    );
    let line = fs::read_to_string(example)?;
    let bare = line
        .find("ssh-ed25519")
        .and_then(|at| line.get(at..))
        .ok_or("no key in it")?;
    let bare = gateway.local("example.pub", bare)?.display().to_string();
    let added = gateway.cli(&["key", "add", "acme", &bare, "--yes"])?;
    assert_ne!(added.code, 0, "the example key was added: {added:?}");
    added.expect_stderr("example")?;
    // Written by hand it is no key either, and says so in the log.
    fs::write(gateway.home().join("partners/example.pub"), line)?;
    gateway.wait_until("the refusal of the example key", || {
        Ok(gateway.log().contains("example key"))
    })?;
    gateway.stop()?;
    let token_key = gateway.home().join("keys/token.key");
    fs::set_permissions(&token_key, fs::Permissions::from_mode(0o644))?;
    let serve = || {
        run(Command::new(binary())
            .args(["serve", "--config"])
            .arg(gateway.home().join("sallyport.toml"))
            .stdin(std::process::Stdio::null()))
    };
    serve()?.expect_code(2)?.expect_stderr("chmod 600")?;
    fs::set_permissions(&token_key, fs::Permissions::from_mode(0o600))?;
    fs::write(&token_key, "short\n")?;
    let ran = serve()?.expect_code(2)?;
    assert!(
        !ran.stderr.contains("short"),
        "key material is printed: {ran:?}"
    );
    ran.expect_stderr("token.key")?;
    Ok(())
}

fn no_escape() -> Verdict {
    let gateway = Gateway::start()?;
    for path in [
        "../../../etc/passwd",
        "/etc/passwd",
        "inbox/../../keys/token.key",
        "/state/state.db",
        "help/../../x",
    ] {
        gateway.sftp(&format!("get {path}\n"))?.expect_code(1)?;
    }
    let file = gateway.local("orders_20261111.csv", orders(1))?;
    for path in [
        "/orders_20261111.csv",
        "receipts/orders_20261111.csv",
        "help/x",
        "inbox/a/b/orders_20261111.csv",
    ] {
        gateway
            .sftp(&format!("put {} {path}\n", file.display()))?
            .expect_code(1)?;
    }
    for command in [
        "symlink a b",
        "ln a b",
        "mkdir inbox/new",
        "rmdir inbox",
        "chmod 777 receipts",
    ] {
        gateway.sftp(&format!("{command}\n"))?.expect_code(1)?;
    }
    assert_eq!(gateway.objects()?, Vec::new());
    Ok(())
}
