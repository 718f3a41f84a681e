//! Programs that print a digest, for clients that look whether what they sent has arrived.
//!
//! The answer is the digest taken when the file came in: nothing is read for it, and of a file that
//! is not whole there is none. What cannot be answered ends with a message and a status that is
//! not zero; an empty success would be taken for an answer.

use std::sync::Arc;

use russh::server::Msg;
use russh::{ChannelWriteHalf, Error};

use crate::authority::Identity;
use crate::intake::Refusal;
use crate::ssh::Services;
use crate::ssh::outbox::stderr_line;
use crate::terms::digest::DigestKind;
use crate::terms::path::{VirtualPath, quoted};
use crate::wire::exec::{SumFunction, Word};

/// The standard error stream (RFC 4254 section 5.2).
const STDERR: u32 = 1;
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
    let (program, kind) = match function {
        SumFunction::Blake3 => ("b3sum", Some(DigestKind::Blake3)),
        SumFunction::Md5 => ("md5sum", None),
        SumFunction::Sha1 => ("sha1sum", None),
        SumFunction::Sha256 => ("sha256sum", Some(DigestKind::Sha256)),
    };
    let why = match kind {
        None => Some(format!(
            "{program} is not available: files are digested with SHA-256 or BLAKE3 when they arrive"
        )),
        Some(_) if paths.is_empty() => Some(format!("{program} needs the name of a file")),
        Some(_) if paths.len() > PATHS_MAX => Some("too many files in one command".to_owned()),
        Some(_) => None,
    };
    if let Some(why) = why {
        half.extended_data_bytes(STDERR, stderr_line(&why)).await?;
        return end(half, 1).await;
    }
    for path in paths {
        match sum(services, who, kind, path).await {
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
    kind: Option<DigestKind>,
    word: &Word,
) -> Result<String, Refusal> {
    use crate::intake::RefusalKind::Failure;
    let path =
        VirtualPath::parse(word.path()).map_err(|bad| Refusal::new(Failure, bad.to_string()))?;
    let digest = services.intake.digest(who, &path).await?;
    if Some(digest.kind) != kind {
        let (name, taken) = (quoted(path.as_str(), 80), digest.kind.title());
        let text =
            format!("{name} was digested with {taken} when it arrived, and with nothing else");
        return Err(Refusal::new(Failure, text));
    }
    let name = String::from_utf8_lossy(&word.bytes);
    let (mark, name) = if name.contains('\\') {
        ("\\", name.replace('\\', "\\\\"))
    } else {
        ("", name.into_owned())
    };
    Ok(format!("{mark}{}  {name}\n", digest.hex()))
}

async fn end(half: &ChannelWriteHalf<Msg>, exit_status: u32) -> Result<(), Error> {
    half.exit_status(exit_status).await?;
    half.eof().await?;
    half.close().await
}
