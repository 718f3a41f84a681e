//! sallyport: an SFTP gateway that inspects and tokenizes every file while it arrives.
//!
//! The modules are a river; each uses only those above it. *What is a valid X?* `terms`. *What is
//! allowed?* `policy`, `authority`. *What is wrong with a file?* `inspect`. *What goes over the
//! wire?* `wire`. *What happens to a file?* `intake`. *Where is it kept?* `depot`, `ledger`.
//! ARCHITECTURE.md tells the rest.

/// Rank 0. Ids, paths, time, secrets, bounds, codes, faults: valid because they exist.
pub mod terms;

/// Rank 1, pure. Files that are read from their end or as wholes: bytes at any place in, rows out.
#[cfg_attr(
    not(all(feature = "columnar", feature = "xlsx")),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "what only a format left out would use"
    )
)]
pub mod decode;
/// Rank 1, pure. The policy language: text in, compiled contracts or all mistakes out.
pub mod policy;
/// Rank 1, pure. AEAD blocks and key wrapping.
pub mod seal;
/// Rank 1, pure given keys. Values in, tokens out; one file per kind.
pub mod tokens;

/// Rank 2, pure. The main config.
pub mod config;
/// Rank 2, pure. Bytes in; findings and tokenized bytes out, the same for every cut.
pub mod inspect;
/// Rank 2, pure. Packets in, actions out; no socket.
pub mod wire;

/// Rank 3. Decoders in processes of their own.
pub mod isolate;
/// Rank 3. The system clock, randomness, logs, metrics.
pub mod telemetry;

/// Rank 4. Where bytes are kept: the sealed spool, the stores.
pub mod depot;
/// Rank 4. What happened: submissions, keys, audit. The only place with SQL.
pub mod ledger;

/// Rank 5. The gate: who is this, may they? Permits are made here only.
pub mod authority;

/// Rank 6. The life of a submission, and what partners see of it.
pub mod intake;
/// Rank 6. Policies and keys taken up while the gateway runs.
pub mod reload;

/// Rank 7. The acts an admin can do, and the socket they come through.
pub mod admin;

/// Rank 8. Metrics and health over HTTP.
pub mod http;
/// Rank 8. SSH connections and SFTP channels: translate, decide nothing.
pub mod ssh;

/// Rank 9. Everything put together: what `serve`, `demo` and the tests start.
pub mod gateway;

/// Rank 10. The command line; one file per noun.
pub mod cli;
