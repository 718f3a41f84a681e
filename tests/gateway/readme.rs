//! The README cannot rot: its transcript is the demo's, its tour runs as it stands.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;

use crate::harness::{Failed, Verdict, binary, run};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "the demo ends well and prints what the README shows",
        Needs::Nothing,
        demo,
    ),
    ("the README's tour runs as it stands", Needs::OpenSsh, tour),
];

fn demo() -> Verdict {
    let ran = run(Command::new(binary()).arg("demo"))?.expect_code(0)?;
    let readme = readme()?;
    let shown = blocks(&readme)
        .into_iter()
        .find(|block| block.contains("$ cargo run --release -- demo"))
        .ok_or("the README shows no demo")?;
    let shown: Vec<String> = shown.lines().skip(1).map(masked).collect();
    let printed: Vec<String> = ran.stdout.trim_end().lines().map(masked).collect();
    for (number, (shown, printed)) in (1..).zip(shown.iter().zip(&printed)) {
        assert_eq!(
            shown, printed,
            "line {number} of the demo\nprinted:\n{}",
            ran.stdout
        );
    }
    assert_eq!(shown.len(), printed.len(), "printed:\n{}", ran.stdout);
    Ok(())
}

/// What differs from run to run becomes a mark: ids, tokens, keys, ports, times.
fn masked(line: &str) -> String {
    let masks = [
        (r"SHA256:[A-Za-z0-9+/]+", "SHA256:*"),
        (r"tok_([a-z]+)_1_[a-z2-7]+", "tok_${1}_1_*"),
        (r"sub_[0-9A-Z]+(\.\.\.[0-9A-Z]{8})?", "sub_*"),
        (r"\.[0-9A-HJKMNP-TV-Z]{8}\.receipt", ".*.receipt"),
        (r"submission [0-9A-HJKMNP-TV-Z]{8}", "submission *"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:*"),
        (r"\d+ ms", "* ms"),
        (r"\d+ entries", "* entries"),
        (r" {2,}", "  "),
        (r"\s+$", ""),
    ];
    masks
        .into_iter()
        .fold(line.to_owned(), |line, (pattern, mark)| {
            match Regex::new(pattern) {
                Ok(regex) => regex.replace_all(&line, mark).into_owned(),
                Err(_) => line,
            }
        })
}

fn tour() -> Verdict {
    let folder = tempfile::tempdir()?;
    let readme = readme()?;
    let part = readme
        .split("<!-- tour: run verbatim by a test -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- end of the tour -->").next())
        .ok_or("the README has no marked tour")?;
    let mut script = "set -euo pipefail\nexport LC_ALL=C\ntrap 'kill %1' EXIT\n".to_owned();
    for block in blocks(part) {
        script.push_str(&typed(&block));
    }
    let mut child = Command::new("bash")
        .arg("-m")
        .current_dir(folder.path())
        .env("PATH", with_binary()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .ok_or("no stdin")?
        .write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = format!(
        "{script}\n--- stdout\n{}\n--- stderr\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        return Err(format!("the tour ended with {:?}\n{said}", output.status.code()).into());
    }
    for part in [
        "ready in",
        "sallyport: ACCEPTED orders_20261120.csv  2 rows",
        "sallyport: REJECTED orders_20261121.csv  3 errors",
        "SALLYPORT RECEIPT",
        "tok_email_1_",
        "chain ok",
    ] {
        assert!(said.contains(part), "{part:?} was not said:\n{said}");
    }
    Ok(())
}

/// A block as one types it: `sftp>` lines go to the `sftp` above them (a refused put must not end
/// the session, as it does not at a prompt); `serve &` and what the lake holds are waited for as a
/// person would.
fn typed(block: &str) -> String {
    let mut script = String::new();
    let mut in_sftp = false;
    for line in block.lines() {
        match line.strip_prefix("sftp> ") {
            Some(command) => {
                script.push_str(&format!("-{command}\n"));
                continue;
            }
            None if in_sftp => {
                script.push_str("END\n");
                in_sftp = false;
            }
            None => {}
        }
        if line.starts_with("sftp ") {
            script.push_str(&line.replacen("sftp ", "sftp -b - ", 1));
            script.push_str(" <<'END'\n");
            in_sftp = true;
        } else if line.ends_with("serve &") {
            script.push_str("coproc SERVE { exec sallyport serve 2>serve.log; }\n");
            script.push_str("while read -r said <&${SERVE[0]}; do echo \"$said\"; case $said in ready*) break;; esac; done\n");
        } else {
            if let Some(object) = line.strip_prefix("cat lake/") {
                // Delivery follows the verdict: the object is looked for as often as a busy
                // machine may need, and `cat` says when it never came.
                script.push_str(&format!(
                    "for look in {{1..600}}; do compgen -G 'lake/{object}' >/dev/null && break; sleep 0.05; done\n"
                ));
            }
            script.push_str(line);
            script.push('\n');
        }
    }
    if in_sftp {
        script.push_str("END\n");
    }
    script
}

fn blocks(text: &str) -> Vec<String> {
    text.split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.trim_start_matches('\n').to_owned())
        .collect()
}

fn readme() -> Result<String, Failed> {
    Ok(fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"),
    )?)
}

fn with_binary() -> Result<std::ffi::OsString, Failed> {
    let mut paths = vec![Path::new(binary()).parent().ok_or("no folder")?.to_owned()];
    paths.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    Ok(std::env::join_paths(paths)?)
}
