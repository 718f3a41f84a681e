//! A small SFTP client, for `demo` and for tests of ours: one connection, one channel, what was
//! said on its stderr kept apart.
//!
//! It trusts exactly one host key and no other. It speaks SFTP version 3 through russh-sftp's
//! packet layer, because the text of a status is the very thing it is after.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{ChannelMsg, Disconnect};
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Status, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::terms::limits;

/// A logged-in connection with an sftp channel.
pub struct Client {
    ssh: Handle<Pinned>,
    sftp: RawSftpSession,
    said: watch::Receiver<Vec<u8>>,
    banner: Arc<Mutex<String>>,
    /// Owns the pump between channel and packet layer; dropped with the client.
    _pump: JoinSet<()>,
}

/// How to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where.
    pub address: SocketAddr,
    /// As whom.
    pub user: String,
    /// The only host key to be trusted, `SHA256:...`.
    pub host_key: String,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// Every request was answered with `SSH_FX_OK`.
    pub accepted: bool,
    /// Which request was refused: `OPEN`, `WRITE` or `CLOSE`; `CLOSE` when none was.
    pub step: &'static str,
    /// The text of the last status.
    pub status: String,
    /// Lines on the channel's stderr since the upload began, without line ends.
    pub lines: Vec<String>,
}

/// What went wrong apart from refusals of uploads.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// No answer in time.
    #[error("no answer within {CLIENT_WAIT_SECS} s while trying to {0}")]
    Late(&'static str),
    /// The key did not get in.
    #[error("login as {user} refused")]
    LoginRefused {
        /// As whom.
        user: String,
    },
    /// A status other than `SSH_FX_OK`.
    #[error("{what}: {text}")]
    Refused {
        /// The request.
        what: String,
        /// The server's text.
        text: String,
    },
    /// The private key cannot be read.
    #[error("{path}: {why}")]
    Key {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The connection broke.
    #[error("connection: {0}")]
    Connection(String),
}

/// Trusts one host key.
struct Pinned {
    host_key: String,
    banner: Arc<Mutex<String>>,
}

// === impl Client ===

impl Client {
    /// Connects, checks the host key, logs in with a private key file and opens a channel.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn connect(login: &Login, key_file: &Path) -> Result<Self, ClientFault> {
        let key =
            russh::keys::load_secret_key(key_file, None).map_err(|error| ClientFault::Key {
                path: key_file.display().to_string(),
                why: error.to_string(),
            })?;
        Self::connect_with(login, key).await
    }

    /// The same with a key in memory.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn connect_with(login: &Login, key: PrivateKey) -> Result<Self, ClientFault> {
        let banner = Arc::new(Mutex::new(String::new()));
        let pinned = Pinned {
            host_key: login.host_key.clone(),
            banner: Arc::clone(&banner),
        };
        let config = Arc::new(client::Config {
            nodelay: true,
            ..client::Config::default()
        });
        let mut ssh = in_time("connect", client::connect(config, login.address, pinned))
            .await?
            .map_err(|error| ClientFault::Connection(error.to_string()))?;
        let signer = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let answer = in_time(
            "log in",
            ssh.authenticate_publickey(login.user.clone(), signer),
        )
        .await?
        .map_err(|error| ClientFault::Connection(error.to_string()))?;
        if !answer.success() {
            return Err(ClientFault::LoginRefused {
                user: login.user.clone(),
            });
        }
        let (sftp, said, pump) = in_time("open a channel", open_channel(&ssh)).await??;
        in_time("agree on a version", sftp.init())
            .await?
            .map_err(|error| refused("INIT", &error))?;
        Ok(Self {
            ssh,
            sftp,
            said,
            banner,
            _pump: pump,
        })
    }

    /// What the server sent before login.
    #[must_use]
    pub fn banner(&self) -> String {
        self.banner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Uploads as `sftp put` does: OPEN write, create, truncate; WRITEs; CLOSE.
    ///
    /// # Errors
    /// [`ClientFault`] when there is no answer; a refusal is an outcome.
    pub async fn put(&self, path: &str, bytes: &[u8]) -> Result<PutOutcome, ClientFault> {
        let heard = self.said.borrow().len();
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let opened = in_time(
            "open a file",
            self.sftp.open(path, flags, FileAttributes::empty()),
        )
        .await?;
        let handle = match opened {
            Ok(opened) => opened.handle,
            Err(error) => return self.outcome("OPEN", Err(error), heard).await,
        };
        let mut offset = 0;
        for piece in bytes.chunks(WRITE_BYTES) {
            let written = in_time(
                "write",
                self.sftp.write(handle.clone(), offset, piece.to_vec()),
            )
            .await?;
            if let Err(error) = written {
                let outcome = self.outcome("WRITE", Err(error), heard).await?;
                // The refusal stands; what CLOSE adds to it is of no interest here.
                drop(in_time("close", self.sftp.close(handle)).await?);
                return Ok(outcome);
            }
            offset += u64::try_from(piece.len()).unwrap_or(0);
        }
        let closed = in_time("close", self.sftp.close(handle)).await?;
        self.outcome("CLOSE", closed, heard).await
    }

    /// OPEN and one WRITE, and no CLOSE: what a connection leaves behind that ends too early.
    ///
    /// # Errors
    /// [`ClientFault`]; also when the server refuses.
    pub async fn begin(&self, path: &str, bytes: &[u8]) -> Result<(), ClientFault> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let handle = in_time(
            "open a file",
            self.sftp.open(path, flags, FileAttributes::empty()),
        )
        .await?
        .map_err(|error| refused(path, &error))?
        .handle;
        in_time("write", self.sftp.write(handle, 0, bytes.to_vec()))
            .await?
            .map_err(|error| refused(path, &error))?;
        Ok(())
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, ClientFault> {
        let handle = in_time(
            "open a file",
            self.sftp
                .open(path, OpenFlags::READ, FileAttributes::empty()),
        )
        .await?
        .map_err(|error| refused(path, &error))?
        .handle;
        let mut bytes = Vec::new();
        loop {
            let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let read = in_time(
                "read",
                self.sftp
                    .read(handle.clone(), offset, limits::SFTP_READ_BYTES_MAX),
            )
            .await?;
            match read {
                Ok(data) => bytes.extend_from_slice(&data.data),
                Err(error) if is_end(&error) => break,
                Err(error) => return Err(refused(path, &error)),
            }
        }
        drop(in_time("close", self.sftp.close(handle)).await?);
        Ok(bytes)
    }

    /// The names in a folder, sorted, `.` and `..` left out.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn list(&self, path: &str) -> Result<Vec<String>, ClientFault> {
        let handle = in_time("open a folder", self.sftp.opendir(path))
            .await?
            .map_err(|error| refused(path, &error))?
            .handle;
        let mut names = Vec::new();
        loop {
            match in_time("list", self.sftp.readdir(handle.clone())).await? {
                Ok(page) => names.extend(page.files.into_iter().map(|file| file.filename)),
                Err(error) if is_end(&error) => break,
                Err(error) => return Err(refused(path, &error)),
            }
        }
        drop(in_time("close", self.sftp.close(handle)).await?);
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// The size of a file; `None` with the server's text when there is none.
    ///
    /// # Errors
    /// [`ClientFault`] when there is no answer.
    pub async fn size(&self, path: &str) -> Result<Result<u64, String>, ClientFault> {
        Ok(in_time("stat", self.sftp.stat(path))
            .await?
            .map(|found| found.attrs.size.unwrap_or(0))
            .map_err(|error| text_of(&error)))
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// [`ClientFault`].
    pub async fn bye(self) -> Result<(), ClientFault> {
        in_time(
            "say goodbye",
            self.ssh.disconnect(Disconnect::ByApplication, "", ""),
        )
        .await?
        .map_err(|error| ClientFault::Connection(error.to_string()))
    }

    /// The outcome with what was said on stderr. The server says it before it answers, so it is
    /// in the same order on the wire; a short wait covers our own pump.
    async fn outcome(
        &self,
        step: &'static str,
        answer: Result<Status, SftpError>,
        heard: usize,
    ) -> Result<PutOutcome, ClientFault> {
        let (accepted, status) = match answer {
            Ok(status) => (true, status.error_message),
            Err(SftpError::Status(status)) => (false, status.error_message),
            Err(error) => return Err(ClientFault::Connection(error.to_string())),
        };
        let mut said = self.said.clone();
        let new = said.wait_for(|said| said.len() > heard && said.ends_with(b"\n"));
        let waited = timeout(Duration::from_millis(STDERR_WAIT_MS), new).await;
        drop(waited);
        let all = self.said.borrow().clone();
        let text = String::from_utf8_lossy(all.get(heard..).unwrap_or_default()).into_owned();
        Ok(PutOutcome {
            accepted,
            step,
            status,
            lines: text.lines().map(str::to_owned).collect(),
        })
    }
}

// === impl Pinned ===

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn auth_banner(
        &mut self,
        banner: &str,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.banner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(banner);
        Ok(())
    }

    async fn check_server_key(
        &mut self,
        key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(match key {
            russh::keys::PublicKeyOrCertificate::PublicKey { key, .. } => {
                key.fingerprint(HashAlg::Sha256).to_string() == self.host_key
            }
            russh::keys::PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}

/// Opens a session channel, asks for sftp and starts the pump: data to the packet layer, extended
/// data into `said`.
async fn open_channel(
    ssh: &Handle<Pinned>,
) -> Result<(RawSftpSession, watch::Receiver<Vec<u8>>, JoinSet<()>), ClientFault> {
    let broken = |error: russh::Error| ClientFault::Connection(error.to_string());
    let channel = ssh.channel_open_session().await.map_err(broken)?;
    channel
        .request_subsystem(true, "sftp")
        .await
        .map_err(broken)?;
    let (mut from_server, to_server) = channel.split();
    let (ours, packets) = tokio::io::duplex(PIPE_BYTES);
    let (mut down, mut up) = tokio::io::split(ours);
    let (tell, said) = watch::channel(Vec::new());
    let mut pump = JoinSet::new();
    pump.spawn(async move {
        let mut gone = false;
        while let Some(message) = from_server.wait().await {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "the library's enum grows; other messages do not concern a file channel"
            )]
            match message {
                ChannelMsg::Data { data } => gone = up.write_all(&data).await.is_err(),
                ChannelMsg::ExtendedData { data, .. } => tell.send_modify(|said| {
                    let room = HEARD_BYTES_MAX.saturating_sub(said.len());
                    said.extend_from_slice(data.get(..data.len().min(room)).unwrap_or_default());
                }),
                ChannelMsg::Close | ChannelMsg::Failure => gone = true,
                _other => {}
            }
            if gone {
                break;
            }
        }
        // Whoever waits for an answer learns that none comes.
        let ended: io::Result<()> = up.shutdown().await;
        drop(ended);
    });
    pump.spawn(async move {
        let mut piece = vec![0; WRITE_BYTES];
        while let Ok(count @ 1..) = down.read(&mut piece).await {
            let Some(bytes) = piece.get(..count) else {
                break;
            };
            if to_server.data(bytes).await.is_err() {
                break;
            }
        }
    });
    let sftp = RawSftpSession::new(packets);
    sftp.set_timeout(CLIENT_WAIT_SECS);
    Ok((sftp, said, pump))
}

async fn in_time<T>(what: &'static str, work: impl Future<Output = T>) -> Result<T, ClientFault> {
    timeout(Duration::from_secs(CLIENT_WAIT_SECS), work)
        .await
        .map_err(|_| ClientFault::Late(what))
}

fn is_end(error: &SftpError) -> bool {
    matches!(error, SftpError::Status(status) if status.status_code == StatusCode::Eof)
}

fn text_of(error: &SftpError) -> String {
    if let SftpError::Status(status) = error {
        status.error_message.clone()
    } else {
        error.to_string()
    }
}

fn refused(what: &str, error: &SftpError) -> ClientFault {
    ClientFault::Refused {
        what: what.to_owned(),
        text: text_of(error),
    }
}

/// Longest wait for any answer; a verdict is told within 10 s.
const CLIENT_WAIT_SECS: u64 = 30;

/// One WRITE; the default of OpenSSH's sftp.
const WRITE_BYTES: usize = 32 * 1024;

/// Between channel and packet layer.
const PIPE_BYTES: usize = 512 * 1024;

/// Kept of what the server says on stderr.
const HEARD_BYTES_MAX: usize = 256 * 1024;

/// For a line on stderr after its status, when there was none before it.
const STDERR_WAIT_MS: u64 = 250;
