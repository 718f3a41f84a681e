//! Programs that print a digest, for clients that look whether what they sent has arrived.
//!
//! The answer is the digest taken when the file came in: nothing is read for it, and of a file that
//! is not whole there is none. Only MD5 and SHA-1, for clients that compare by them, are also made on
//! request where that can be. What cannot be answered ends with a message and a status that is
//! not zero; an empty success would be taken for an answer.

use std::sync::Arc;

use russh::server::Msg;
use russh::{ChannelWriteHalf, Error};

use crate::authority::Identity;
use crate::intake::Refusal;
use crate::ssh::Services;
use crate::ssh::outbox::stderr_line;
use crate::terms::digest::{DigestKind, OldHasher, OldKind, OldKinds};
use crate::terms::path::{VirtualPath, quoted};
use crate::wire::exec::{SumFunction, Word};

/// Which digest a command prints.
#[derive(Clone, Copy)]
enum Wanted {
    /// One that clients compare by.
    Old(OldKind),
    /// The one a feed chooses.
    Own(DigestKind),
}

/// `md5sum` or `sha1sum` without a file: it digests what the client sends. Clients ask so whether
/// there is such a command; from then on what they upload is digested so as well.
pub(super) struct Fed {
    kind: OldKind,
    half: ChannelWriteHalf<Msg>,
    who: Identity,
    hasher: OldHasher,
    bytes: usize,
}

/// The standard error stream (RFC 4254 section 5.2).
const STDERR: u32 = 1;
/// What a client may send to be digested: it is only a question whether we can.
const FED_BYTES_MAX: usize = 1 << 20;
/// Files of one command.
const PATHS_MAX: usize = 1000;

/// Answers `sha256sum FILE...` and its like, and ends the channel.
pub(super) async fn print_sums(
    services: Arc<Services>,
    who: Identity,
    half: ChannelWriteHalf<Msg>,
    function: SumFunction,
    paths: Vec<Word>,
) {
    // A client that is gone needs no answer.
    let _sent = answer(&services, &who, &half, function, &paths).await;
}

async fn answer(
    services: &Services,
    who: &Identity,
    half: &ChannelWriteHalf<Msg>,
    function: SumFunction,
    paths: &[Word],
) -> Result<(), Error> {
    let mut exit_status = 0;
    let (program, wanted) = match function {
        SumFunction::Blake3 => ("b3sum", Wanted::Own(DigestKind::Blake3)),
        SumFunction::Md5 => ("md5sum", Wanted::Old(OldKind::Md5)),
        SumFunction::Sha1 => ("sha1sum", Wanted::Old(OldKind::Sha1)),
        SumFunction::Sha256 => ("sha256sum", Wanted::Own(DigestKind::Sha256)),
    };
    let why = if paths.is_empty() {
        Some(format!("{program} needs the name of a file"))
    } else if paths.len() > PATHS_MAX {
        Some("too many files in one command".to_owned())
    } else {
        None
    };
    if let Some(why) = why {
        half.extended_data_bytes(STDERR, stderr_line(&why)).await?;
        return end(half, 1).await;
    }
    for path in paths {
        match sum(services, who, wanted, path).await {
            Ok(line) => half.data_bytes(line).await?,
            Err(refusal) => {
                exit_status = 1;
                let told = format!("{program}: {}", refusal.text);
                half.extended_data_bytes(STDERR, stderr_line(&told)).await?;
            }
        }
    }
    end(half, exit_status).await
}

/// A line as coreutils print it: a name with a backslash is escaped and marked. A name with a line
/// end, which they would escape too, is refused as no path.
async fn sum(
    services: &Services,
    who: &Identity,
    wanted: Wanted,
    word: &Word,
) -> Result<String, Refusal> {
    use crate::intake::RefusalKind::Failure;
    let path =
        VirtualPath::parse(word.path()).map_err(|bad| Refusal::new(Failure, bad.to_string()))?;
    let digest = match wanted {
        Wanted::Old(kind) => services.intake.old_digest(who, &path, kind).await?,
        Wanted::Own(kind) => {
            let digest = services.intake.digest(who, &path).await?;
            digest.hex_of(kind).ok_or_else(|| {
                let (name, taken) = (quoted(path.as_str(), 80), digest.kind.title());
                let text = format!(
                    "{name} was digested with {taken} when it arrived, and with nothing else"
                );
                Refusal::new(Failure, text)
            })?
        }
    };
    let name = String::from_utf8_lossy(&word.bytes);
    let (mark, name) = if name.contains('\\') {
        ("\\", name.replace('\\', "\\\\"))
    } else {
        ("", name.into_owned())
    };
    Ok(format!("{mark}{digest}  {name}\n"))
}

// === impl Fed ===

impl Fed {
    /// `None` for a function that is not asked for so.
    pub(super) fn kind(function: SumFunction, paths: &[Word]) -> Option<OldKind> {
        match function {
            SumFunction::Md5 if paths.is_empty() => Some(OldKind::Md5),
            SumFunction::Sha1 if paths.is_empty() => Some(OldKind::Sha1),
            SumFunction::Blake3 | SumFunction::Md5 | SumFunction::Sha1 | SumFunction::Sha256 => {
                None
            }
        }
    }

    /// Nothing has come yet.
    pub(super) fn new(kind: OldKind, half: ChannelWriteHalf<Msg>, who: Identity) -> Self {
        Self {
            kind,
            half,
            who,
            hasher: OldHasher::new(OldKinds::only(kind)),
            bytes: 0,
        }
    }

    /// More of what the client sends.
    pub(super) fn receive(&mut self, data: &[u8]) {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes <= FED_BYTES_MAX {
            self.hasher.update(data);
        }
    }

    /// That was all: answers, and ends the channel.
    pub(super) async fn answer(self, services: Arc<Services>) {
        let known = services.intake.want_old_digest(&self.who, self.kind).await;
        let made = self.hasher.finish();
        let digest = made.get(self.kind).unwrap_or_default();
        let told = match known {
            Ok(()) if self.bytes <= FED_BYTES_MAX => Ok(format!("{digest}  -\n")),
            Ok(()) => Err("too much to digest; send it as a file".to_owned()),
            Err(refusal) => Err(refusal.text),
        };
        // A client that is gone needs no answer.
        let _sent = match told {
            Ok(line) => match self.half.data_bytes(line).await {
                Ok(()) => end(&self.half, 0).await,
                Err(error) => Err(error),
            },
            Err(why) => match self
                .half
                .extended_data_bytes(STDERR, stderr_line(&why))
                .await
            {
                Ok(()) => end(&self.half, 1).await,
                Err(error) => Err(error),
            },
        };
    }
}

async fn end(half: &ChannelWriteHalf<Msg>, exit_status: u32) -> Result<(), Error> {
    half.exit_status(exit_status).await?;
    half.eof().await?;
    half.close().await
}
