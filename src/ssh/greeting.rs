//! The first words of a connection: ours go out, and the client's are looked at, before russh is
//! started with what suits them.
//!
//! A server chooses nothing: the client's first cipher that the server offers is taken, and
//! OpenSSH's clients before 10 begin with ChaCha20-Poly1305, which costs four times what AES-GCM
//! does on a processor with AES instructions. So who can do AES-GCM is offered nothing else, and
//! everybody else the whole list. The client's KEXINIT follows our version line, one round trip
//! after it; who waits for ours first is not waited for long.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::ssh::algorithms::SERVER_LINE;
use crate::wire::kexinit::{self, Offer};

/// What was said.
pub(super) struct Greeting {
    /// Everything the client has sent so far; russh reads it again.
    pub(super) heard: BytesMut,
    /// The client can do one of the ciphers asked for.
    pub(super) steers: bool,
}

// === impl Greeting ===

impl Greeting {
    /// The client's version line, without its end: `SSH-2.0-OpenSSH_9.6`; as much of it as came.
    pub(super) fn client(&self) -> String {
        let heard = self.heard.chunk();
        let heard = heard.get(..LINE_BYTES_MAX).unwrap_or(heard);
        let line = heard.split(|byte| *byte == b'\n').next();
        String::from_utf8_lossy(line.unwrap_or_default().trim_ascii_end()).into_owned()
    }
}

/// Longest version line (RFC 4253 section 4.2), bytes.
const LINE_BYTES_MAX: usize = 255;
/// How long a client may take to send its KEXINIT before the whole list is offered. Most answer at
/// once; libssh waits for ours.
const PATIENCE: Duration = Duration::from_millis(250);

/// Sends our version line and waits for what the client offers.
///
/// # Errors
/// Of the stream; its end is none, and russh comes upon it in turn.
pub(super) async fn greet<S>(stream: &mut S, ciphers: &[&str]) -> io::Result<Greeting>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(SERVER_LINE.as_bytes()).await?;
    stream.flush().await?;
    let until = Instant::now() + PATIENCE;
    let mut heard = BytesMut::new();
    loop {
        let offer = kexinit::offers_any(heard.chunk(), ciphers);
        if offer != Offer::Unfinished {
            let steers = offer == Offer::Has;
            return Ok(Greeting { heard, steers });
        }
        let count = match timeout_at(until, stream.read_buf(&mut heard)).await {
            Ok(count) => count?,
            Err(_) => 0,
        };
        if count == 0 {
            let steers = false;
            return Ok(Greeting { heard, steers });
        }
    }
}
