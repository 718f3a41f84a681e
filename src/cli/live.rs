//! The way to a running gateway: its admin socket. One request line, one answer line.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::admin::{AdminFault, Answer, Request};
use crate::cli::exit::{Exit, Failure};
use crate::terms::limits;

/// Asks once. Blocks: the command line has nothing else to do.
///
/// # Errors
/// Exit 5 when nobody answers, 4 when the socket is not for us, else what the gateway says.
pub fn ask(socket: &Path, request: &Request) -> Result<Value, Failure> {
    let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    let answer = exchange(&stream, request).map_err(|error| {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        if !matches!(error.kind(), TimedOut | WouldBlock) {
            return unreachable(socket, &error);
        }
        let message = format!("the gateway did not answer within {ANSWER_SECS} s");
        Failure::new(Exit::Temporary, "admin.timeout", message)
            .hint("try again, or read the ledger itself with --offline")
    })?;
    let answer: Answer = serde_json::from_str(&answer)?;
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error(fault) => Err(fault.into()),
    }
}

fn exchange(mut stream: &UnixStream, request: &Request) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECS)))?;
    stream.set_write_timeout(Some(Duration::from_secs(ANSWER_SECS)))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(limits::ADMIN_ANSWER_BYTES_MAX)).read_line(&mut answer)?;
    if answer.ends_with('\n') {
        Ok(answer)
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return Failure::new(
            Exit::NotPermitted,
            "admin.not-permitted",
            format!("the admin socket {} is not open to you", socket.display()),
        )
        .because(error.to_string())
        .hint("join the group that owns the socket, or run this as the gateway's own user");
    }
    Failure::new(
        Exit::Unreachable,
        "admin.unreachable",
        format!("no gateway answers on {}", socket.display()),
    )
    .because(error.to_string())
    .hint("is the gateway running? start it with `sallyport serve`; submission, audit and status also read the ledger with --offline")
}

impl From<AdminFault> for Failure {
    fn from(fault: AdminFault) -> Self {
        let mut failure = Self::new(Exit::of(fault.exit), &fault.code, fault.message);
        failure.hint = fault.hint;
        failure
    }
}

/// Longest wait for one answer; `audit verify` of a long chain takes the most.
const ANSWER_SECS: u64 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_gateway_is_exit_five_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let failure = ask(&folder.path().join("admin.sock"), &Request::KeyList {}).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.hint.unwrap().contains("--offline"));
    }
}
