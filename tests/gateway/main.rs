//! The gateway as a whole: the real binary on loopback, driven by real clients.
//!
//! Tests that need an OpenSSH program are reported as ignored where it is missing; with `CI` set
//! that is a failure. Everything else needs only the build.

#![allow(
    missing_docs,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    clippy::naive_bytecount,
    clippy::similar_names,
    clippy::string_slice,
    reason = "a panic is how a test fails, and its name is its documentation"
)]

mod access;
mod bounds;
mod canary;
mod columnar;
mod draft;
mod drift;
mod harness;
mod malformed;
mod model;
mod names;
mod own_client;
mod pipelined;
mod preauth;
mod quarantine;
mod readme;
mod recover;
mod reload;
mod requests;
mod semantics;
mod shares;
mod upload;
mod whole;

use libtest_mimic::{Arguments, Trial};

use harness::Verdict;

/// What a test drives the gateway with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// `sftp`, `scp`, `ssh`, `ssh-keygen`.
    OpenSsh,
    /// Only what Cargo builds.
    Nothing,
}

/// One test: a sentence, what it needs, the code.
type Test = (&'static str, Needs, fn() -> Verdict);

fn main() {
    let arguments = Arguments::from_args();
    let missing = ["ssh", "sftp", "scp", "ssh-keygen"]
        .into_iter()
        .find(|program| !on_path(program));
    let must = std::env::var_os("CI").is_some();
    let trials = [
        access::TESTS,
        bounds::TESTS,
        canary::TESTS,
        columnar::TESTS,
        draft::TESTS,
        drift::TESTS,
        malformed::TESTS,
        model::TESTS,
        names::TESTS,
        own_client::TESTS,
        pipelined::TESTS,
        preauth::TESTS,
        readme::TESTS,
        recover::TESTS,
        reload::TESTS,
        requests::TESTS,
        quarantine::TESTS,
        semantics::TESTS,
        shares::TESTS,
        upload::TESTS,
        whole::TESTS,
    ]
    .into_iter()
    .flatten()
    .map(|(name, needs, test)| match missing {
        Some(program) if *needs == Needs::OpenSsh && must => Trial::test(*name, move || {
            Err(format!("{program} not found, and CI is set").into())
        }),
        Some(program) if *needs == Needs::OpenSsh => {
            Trial::test(format!("{name} ({program} not found)"), || Ok(())).with_ignored_flag(true)
        }
        _ => Trial::test(*name, *test),
    })
    .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
