//! The laws of the house, as tests: ranks, purity, who may use which crate, one crypto provider.
//!
//! They read the source as text. Each law is also shown a planted breach, so that a law that has
//! stopped seeing anything fails.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules by rank; a module imports only from lower ranks. `ssh` and `http` stand on one line:
/// same rank, may not see each other.
const RANKS: &[&[&str]] = &[
    &["terms"],
    &["decode", "policy", "tokens", "seal"],
    &["inspect", "wire", "config"],
    &["isolate", "telemetry"],
    &["ledger", "depot"],
    &["authority"],
    &["intake", "reload"],
    &["admin"],
    &["ssh", "http"],
    &["gateway"],
    &["cli"],
];

/// Same-rank uses that are allowed, with the reason.
const SIBLINGS: &[(&str, &str, &str)] = &[
    (
        "tokens",
        "policy",
        "a tokenizer is built from the contract's rule",
    ),
    (
        "config",
        "policy",
        "mistakes look the same in policies and config",
    ),
    ("ledger", "depot", "a row remembers a sealed lane"),
];

/// Words no pure module (ranks 0 to 2) may use: they reach for the outside.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "tokio::",
    "rusqlite",
    "russh",
    "object_store",
    "notify::",
    "ring::rand",
    "rustix",
    "axum",
    "println!",
    "eprintln!",
];

/// A crate and the modules that may name it.
const CRATES: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("clap", &["cli", "main"]),
    ("notify::", &["reload"]),
    ("object_store::", &["depot"]),
    ("prometheus_client", &["telemetry"]),
    ("rusqlite", &["ledger"]),
    (
        "russh::keys",
        &["ssh", "authority", "intake", "admin", "cli", "gateway"],
    ),
    ("russh::", &["ssh"]),
    ("russh_sftp", &["ssh"]),
    ("std::env::var", &["cli", "main"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// A breach: file, line, the law.
type Breach = String;

#[test]
fn every_module_imports_only_from_lower_ranks() {
    assert_eq!(breaches(&sources(), rank_breaches), Vec::<Breach>::new());
}

#[test]
fn a_planted_import_from_a_higher_rank_is_seen() {
    for (file, line) in [
        ("terms/ids.rs", "use crate::policy::contract::Contract;"),
        ("inspect/csv.rs", "let x = crate::ledger::Ledger::open();"),
        ("ledger/mod.rs", "use crate::{terms::ids, intake::Intake};"),
        ("http/mod.rs", "use crate::ssh::serve;"),
        ("seal.rs", "use super::super::ledger;"),
        ("tokens/mod.rs", "use crate::seal::DataKey;"),
    ] {
        assert_eq!(
            breaches(&planted(file, line), rank_breaches).len(),
            1,
            "{file}: {line}"
        );
    }
}

#[test]
fn pure_ranks_reach_for_nothing_outside() {
    assert_eq!(breaches(&sources(), purity_breaches), Vec::<Breach>::new());
}

#[test]
fn a_planted_reach_outside_is_seen() {
    for word in IMPURE {
        let text = format!("use {word};");
        let found = breaches(&planted("inspect/csv.rs", &text), purity_breaches);
        assert!(!found.is_empty(), "{word} went unseen");
        assert!(breaches(&planted("depot/spool.rs", &text), purity_breaches).is_empty());
    }
}

#[test]
fn each_outside_crate_is_named_only_where_it_may_be() {
    assert_eq!(breaches(&sources(), crate_breaches), Vec::<Breach>::new());
}

#[test]
fn a_planted_crate_in_the_wrong_place_is_seen() {
    for (name, line) in [
        ("rusqlite", "use rusqlite::Connection;"),
        ("russh", "use russh::server::Handler;"),
        ("clap", "use clap::Parser;"),
    ] {
        assert_eq!(
            breaches(&planted("intake/view.rs", line), crate_breaches).len(),
            1,
            "{name}"
        );
    }
}

#[test]
fn every_module_has_a_rank_and_a_place_in_the_map() {
    let ranked: Vec<&str> = RANKS.iter().flat_map(|rank| rank.iter().copied()).collect();
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for module in modules() {
        assert!(ranked.contains(&module.as_str()), "{module} has no rank");
        assert!(
            map.contains(&format!("pub mod {module};")),
            "{module} is not in lib.rs"
        );
    }
}

#[test]
fn every_limit_is_used() {
    let limits = fs::read_to_string(root().join("src/terms/limits.rs")).unwrap();
    let all: String = sources()
        .into_iter()
        .filter(|(file, _)| file != "terms/limits.rs")
        .map(|(_, text)| text)
        .collect();
    for line in limits
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
    {
        let name = line.split(':').next().unwrap_or_default();
        assert!(all.contains(name), "limits::{name} is used nowhere");
    }
}

#[test]
fn names_that_say_nothing_are_not_used_for_modules_or_types() {
    let banned = [
        "util", "utils", "helper", "helpers", "common", "manager", "misc",
    ];
    for (file, text) in sources() {
        let stem = Path::new(&file)
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .to_string();
        assert!(!banned.contains(&stem.as_str()), "{file}");
        for line in text.lines() {
            let declared = ["struct ", "enum ", "trait "].into_iter().find_map(|word| {
                line.trim_start()
                    .trim_start_matches("pub ")
                    .strip_prefix(word)
            });
            if let Some(name) =
                declared.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
            {
                for word in ["Manager", "Helper", "Util"] {
                    assert!(!name.ends_with(word), "{file}: {name}");
                }
            }
        }
    }
}

#[test]
fn ring_is_the_only_crypto_provider_in_the_graph() {
    let tree = cargo_tree(&["--all-features", "--edges", "all", "--prefix", "none"]);
    assert!(
        tree.lines().any(|line| line.starts_with("ring v")),
        "cargo tree printed no graph"
    );
    for banned in [
        "aws-lc-rs v",
        "aws-lc-sys v",
        "openssl-sys v",
        "openssl v",
        "native-tls v",
    ] {
        assert!(
            !tree.lines().any(|line| line.starts_with(banned)),
            "{banned} is in the graph"
        );
    }
}

#[test]
fn the_required_top_level_is_there() {
    for entry in [
        "Cargo.toml",
        "src",
        "keys.example",
        "policies",
        "tests",
        "systemd",
    ] {
        assert!(root().join(entry).exists(), "{entry} is missing");
    }
    for folder in ["keys.example", "policies", "systemd"] {
        assert!(
            fs::read_dir(root().join(folder)).unwrap().count() > 2,
            "{folder} is empty"
        );
    }
}

#[test]
fn no_private_key_is_committed() {
    for path in files_below(&root(), &["target", ".git", "gw"]) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let marker = ["-----BEGIN OPENSSH PRIVATE", " KEY-----"].concat();
        assert!(
            !text.lines().any(|line| line == marker),
            "{}",
            path.display()
        );
    }
}

// === laws ===

fn rank_breaches(file: &str, number: usize, line: &str) -> Option<Breach> {
    let module = module_of(file);
    if line.contains("super::super") {
        return Some(format!(
            "{file}:{number}: super::super hides where it reaches"
        ));
    }
    let own = rank_of(&module)?;
    for name in crate_paths(line) {
        let Some(rank) = rank_of(&name) else { continue };
        let sibling = SIBLINGS
            .iter()
            .any(|(from, to, _)| *from == module && *to == name);
        if name != module && rank >= own && !sibling {
            return Some(format!(
                "{file}:{number}: {module} (rank {own}) uses {name} (rank {rank})"
            ));
        }
    }
    None
}

fn purity_breaches(file: &str, number: usize, line: &str) -> Option<Breach> {
    let rank = rank_of(&module_of(file))?;
    let word = IMPURE.iter().find(|word| line.contains(**word))?;
    (rank <= 2).then(|| format!("{file}:{number}: a pure module uses {word}"))
}

fn crate_breaches(file: &str, number: usize, line: &str) -> Option<Breach> {
    let module = module_of(file);
    let (name, homes) = CRATES.iter().find(|(name, _)| names_crate(line, name))?;
    (!homes.contains(&module.as_str()))
        .then(|| format!("{file}:{number}: {name} belongs to {homes:?}"))
}

/// The crate's name stands there as a path of its own, not inside a longer word.
fn names_crate(line: &str, name: &str) -> bool {
    let path = if name.ends_with("::") || name.contains("::") {
        name.to_owned()
    } else {
        format!("{name}::")
    };
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// Every `crate::name` of a line, grouped imports taken apart.
fn crate_paths(line: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(group) => {
                let mut depth = 0_i32;
                let mut start = true;
                for (at, c) in group.char_indices() {
                    if start && !c.is_whitespace() {
                        names.push(word(&group[at..]));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                    if depth < 0 {
                        break;
                    }
                }
            }
        }
    }
    names
}

fn rank_of(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
}

fn module_of(file: &str) -> String {
    let first = file.split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

// === source as text ===

fn breaches(
    sources: &BTreeMap<String, String>,
    law: fn(&str, usize, &str) -> Option<Breach>,
) -> Vec<Breach> {
    let mut found = Vec::new();
    for (file, text) in sources {
        for (number, line) in (1..).zip(code_lines(text)) {
            found.extend(law(file, number, &line));
        }
    }
    found
}

/// Lines without comments and without what stands below `#[cfg(test)] mod tests`; an import over
/// several lines is joined into one.
fn code_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut joined: Option<String> = None;
    let mut cfg_test = false;
    for line in text.lines() {
        if cfg_test && line.starts_with("mod tests") {
            break;
        }
        cfg_test = line.trim() == "#[cfg(test)]";
        let code = match line.find("//") {
            Some(at) if !line[..at].contains('"') => &line[..at],
            _ => line,
        };
        let text = match joined.take() {
            Some(before) => format!("{before} {}", code.trim()),
            None => code.to_owned(),
        };
        let opens =
            text.trim_start().starts_with("use ") || text.trim_start().starts_with("pub use ");
        if opens && !text.contains(';') {
            joined = Some(text);
            lines.push(String::new());
        } else {
            lines.push(text);
        }
    }
    lines
}

fn sources() -> BTreeMap<String, String> {
    let src = root().join("src");
    let found: BTreeMap<String, String> = files_below(&src, &[])
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .map(|path| {
            let name = path.strip_prefix(&src).unwrap().display().to_string();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(
        found.len() > 40,
        "only {} source files were found",
        found.len()
    );
    found
}

fn planted(file: &str, line: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(file.to_owned(), format!("//! A module.\n\n{line}\n"))])
}

fn modules() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| module_of(&entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name != "lib" && name != "main")
        .collect();
    names.sort();
    names
}

fn files_below(folder: &Path, skip: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().to_string();
            if skip.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn cargo_tree(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
