//! How a command ends: one exit code, and for failures one message with cause and remedy.
//!
//! The codes are a promise to scripts: they are documented by `sallyport help exit-codes` and
//! never change their meaning. Codes a caller does not know mean failure.

use std::io;

use serde_json::{Value, json};

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or checked and clean.
    Done,
    /// 1: checked and not clean.
    NotClean,
    /// 2: usage or configuration; nothing was tried.
    Usage,
    /// 3: no such partner, key, submission.
    NotFound,
    /// 4: not permitted, or confirmation refused.
    NotPermitted,
    /// 5: the gateway does not answer on its socket.
    Unreachable,
    /// 6: exists already, wrong state, somebody else acted first.
    Conflict,
    /// 7: worth another try.
    Temporary,
    /// 70: a defect of sallyport.
    Internal,
    /// 130: interrupted.
    Interrupted,
}

/// A command that did not end well. Printed once, by [`crate::cli::run`].
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Stable dotted code, as in `config.not-found`.
    pub code: String,
    /// One sentence without a full stop.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Mistakes of files, printed before the message.
    pub mistakes: Option<Box<Mistakes>>,
}

/// Mistakes of files, rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistakes {
    /// With carets.
    pub shown: String,
    /// The same for terminals that know only ASCII.
    pub shown_ascii: String,
    /// As data.
    pub data: Value,
}

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Only that.
    Ascii,
    /// Everything.
    Utf8,
}

// === impl Exit ===

impl Exit {
    /// Every code with its meaning, as `help exit-codes` prints them.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Done, "done, or checked and clean"),
        (
            Self::NotClean,
            "checked and not clean: file rejected, test failed, audit chain broken",
        ),
        (
            Self::Usage,
            "usage or configuration error; nothing was tried",
        ),
        (Self::NotFound, "no such partner, key, submission"),
        (Self::NotPermitted, "not permitted, or confirmation refused"),
        (Self::Unreachable, "gateway not reachable on its socket"),
        (
            Self::Conflict,
            "conflict: exists already, wrong state, someone else acted first",
        ),
        (
            Self::Temporary,
            "temporary: store unreachable, locked, timed out; worth retrying",
        ),
        (Self::Internal, "internal error (a bug)"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The number the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotClean => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NotPermitted => 4,
            Self::Unreachable => 5,
            Self::Conflict => 6,
            Self::Temporary => 7,
            Self::Internal => 70,
            Self::Interrupted => 130,
        }
    }

    /// The code of a number; unknown numbers are a failure.
    #[must_use]
    pub fn of(code: u8) -> Self {
        Self::ALL
            .iter()
            .map(|(exit, _)| *exit)
            .find(|exit| exit.code() == code)
            .unwrap_or(Self::Internal)
    }
}

// === impl Failure ===

impl Failure {
    /// A failure with a message and nothing more yet.
    #[must_use]
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            mistakes: None,
        }
    }

    /// A mistake on the command line or in a file; exit 2.
    #[must_use]
    pub fn usage(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, message)
    }

    /// Something asked for that is not there; exit 3.
    #[must_use]
    pub fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, code, message)
    }

    /// Something that is there already or in the wrong state; exit 6.
    #[must_use]
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Conflict, code, message)
    }

    /// A file that cannot be read or written.
    #[must_use]
    pub fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::PermissionDenied {
            Exit::NotPermitted
        } else {
            Exit::Usage
        };
        Self::new(
            exit,
            "file.io",
            format!(
                "cannot {what} {}",
                crate::terms::path::quoted(&path.to_string_lossy(), 4096)
            ),
        )
        .because(error.to_string())
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The reader of our output has gone; that is no failure at all.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        self.code == BROKEN_PIPE
    }

    /// The failure as a problem document (RFC 9457 members, and ours).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut problem = json!({
            "type": format!("https://example.invalid/sallyport/codes#{}", self.code),
            "title": self.message,
            "code": self.code,
            "exit": self.exit.code(),
        });
        if let Some(members) = problem.as_object_mut() {
            if !self.causes.is_empty() {
                members.insert("detail".to_owned(), self.causes.join(": ").into());
            }
            if let Some(hint) = &self.hint {
                members.insert("hint".to_owned(), hint.as_str().into());
            }
            if let Some(mistakes) = &self.mistakes {
                members.insert("mistakes".to_owned(), mistakes.data.clone());
            }
        }
        problem
    }

    /// The failure for people: what, why, an empty line, what to do.
    #[must_use]
    pub fn to_text(&self, alphabet: Alphabet) -> String {
        let mut text = String::new();
        if let Some(mistakes) = &self.mistakes {
            text.push_str(match alphabet {
                Alphabet::Ascii => mistakes.shown_ascii.trim_end(),
                Alphabet::Utf8 => mistakes.shown.trim_end(),
            });
            text.push('\n');
        }
        text.extend(["error[", &self.code, "]: ", &self.message]);
        text.push('\n');
        for cause in &self.causes {
            text.push_str("cause: ");
            text.push_str(cause);
            text.push('\n');
        }
        if let Some(hint) = &self.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, BROKEN_PIPE, "");
        }
        Self::new(Exit::Internal, "output.io", "cannot write the output").because(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(
            Exit::Internal,
            "json.shape",
            "a JSON document is not of the expected shape",
        )
        .because(error.to_string())
        .hint("the gateway may be of another version than this command; compare `sallyport version` with `sallyport status`")
    }
}

const BROKEN_PIPE: &str = "output.broken-pipe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_codes_are_those_scripts_rely_on() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 70, 130]);
        for (exit, _) in Exit::ALL {
            assert_eq!(Exit::of(exit.code()), exit);
        }
        assert_eq!(Exit::of(99), Exit::Internal);
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let failure = Failure::usage("config.not-found", "no configuration found")
            .because("looked at ./sallyport.toml")
            .hint("sallyport init");
        assert_eq!(
            failure.to_text(Alphabet::Utf8),
            "error[config.not-found]: no configuration found\ncause: looked at ./sallyport.toml\n\nhint: sallyport init\n"
        );
        let json = failure.to_json();
        assert_eq!(json["exit"], 2);
        assert_eq!(json["code"], "config.not-found");
        assert_eq!(json["hint"], "sallyport init");
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_broken_pipe());
        assert_eq!(failure.exit, Exit::Done);
    }
}
