//! The admin socket: JSON lines over a Unix socket, each with the kernel's word on who asks.
//!
//! The file mode is the only gate: root, the gateway's own user, and whoever the mode lets in.
//! The socket only reads lines and dispatches; what an act does stands in [`crate::admin`].

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::admin::{Admin, AdminFault, Answer, Caller, Request};
use crate::telemetry::Event;
use crate::terms::limits;

/// A socket being served.
#[derive(Debug)]
pub struct AdminSocket {
    task: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
    path: Option<PathBuf>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketFault {
    /// Another process answers on it.
    #[error("another gateway answers on {path}")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The folder belongs to somebody else, or others may write to it.
    #[error("{folder} is not a safe place for the admin socket: {why}")]
    UnsafeFolder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something else lies there.
    #[error("{path} exists and is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Unix socket paths are short: 107 bytes on Linux.
    #[error("{path} is {bytes} bytes long; a socket path may have {SOCKET_PATH_BYTES_MAX}")]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The system said no.
    #[error("admin socket {path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

// === impl AdminSocket ===

impl AdminSocket {
    /// Makes the socket file, 0600, and serves it. A stale file of a dead gateway is replaced.
    ///
    /// # Errors
    /// [`SocketFault`].
    pub fn bind(path: &Path, admin: Admin) -> Result<Self, SocketFault> {
        let listener = listen(path)?;
        Ok(Self::serve(listener, Some(path.to_owned()), admin))
    }

    /// Serves a socket that systemd made; its mode and group are the unit's matter.
    ///
    /// # Errors
    /// [`SocketFault::Io`].
    pub fn inherit(
        listener: std::os::unix::net::UnixListener,
        admin: Admin,
    ) -> Result<Self, SocketFault> {
        let as_fault = |source| SocketFault::Io {
            path: PathBuf::from("passed by systemd"),
            source,
        };
        listener.set_nonblocking(true).map_err(as_fault)?;
        let listener = UnixListener::from_std(listener).map_err(as_fault)?;
        Ok(Self::serve(listener, None, admin))
    }

    fn serve(listener: UnixListener, path: Option<PathBuf>, admin: Admin) -> Self {
        let (stop, stopped) = watch::channel(false);
        #[expect(clippy::disallowed_methods, reason = "`stop` awaits it")]
        let task = tokio::spawn(accept(listener, admin, stopped));
        Self { task, stop, path }
    }

    /// Takes no more questions, ends the open ones and removes the file it made.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            warn!("the admin socket ended by a panic");
        }
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            debug!(path = %path.display(), %error, "admin socket not removed");
        }
    }
}

async fn accept(listener: UnixListener, admin: Admin, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        let slot = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            slot = Arc::clone(&slots).acquire_owned() => match slot {
                Ok(slot) => slot,
                Err(_) => break,
            },
        };
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let admin = admin.clone();
                open.spawn(async move {
                    converse(stream, &admin).await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "admin socket does not accept");
                tokio::time::sleep(Duration::from_millis(limits::ADMIN_ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    open.shutdown().await;
}

/// Answers the lines of one connection, in order.
async fn converse(mut stream: UnixStream, admin: &Admin) {
    let caller = match stream.peer_cred() {
        Ok(peer) => Caller::of_uid(peer.uid()),
        Err(error) => {
            warn!(%error, "admin peer unknown, connection closed");
            return;
        }
    };
    let idle = Duration::from_millis(limits::ADMIN_IDLE_MS);
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    loop {
        let Ok(Ok(Some(line))) = timeout(idle, read_line(&mut reading)).await else {
            return;
        };
        let too_long = line.len() > limits::ADMIN_LINE_BYTES_MAX;
        let answer = if too_long {
            Answer::Error(AdminFault::new(
                2,
                "admin.line-too-long",
                format!("a request may have {} bytes", limits::ADMIN_LINE_BYTES_MAX),
            ))
        } else {
            answer(admin, &caller, &line).await
        };
        let mut text = serde_json::to_vec(&answer).unwrap_or_else(|_| UNPRINTABLE.into());
        text.push(b'\n');
        let sent = timeout(idle, writing.write_all(&text)).await;
        if too_long || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer(admin: &Admin, caller: &Caller, line: &[u8]) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            return Answer::Error(
                AdminFault::new(2, "admin.bad-request", format!("not a request: {error}"))
                    .hint("is this command of the same version as the gateway?"),
            );
        }
    };
    match &request {
        Request::KeyRevoke(revocation) => info!(
            event = Event::KeyRevoked.as_str(),
            actor = %caller.name,
            partner = %revocation.partner,
            key = %revocation.fingerprint,
        ),
        Request::PolicyDismiss {
            partner,
            feed,
            column,
        } => info!(
            event = Event::AdminActed.as_str(),
            actor = %caller.name,
            act = "dismiss drift",
            partner = %partner,
            feed = %feed,
            column = %crate::terms::path::quoted(column, 80),
        ),
        Request::QuarantinePurge(ruling)
        | Request::QuarantineReject(ruling)
        | Request::QuarantineRelease(ruling) => info!(
            event = Event::QuarantineDecided.as_str(),
            actor = %caller.name,
            submission = %ruling.id,
            dry_run = ruling.dry_run,
        ),
        Request::AuditTail(_)
        | Request::AuditVerify {}
        | Request::KeyList {}
        | Request::PartnerFacts { .. }
        | Request::PolicyDrift { .. }
        | Request::QuarantineGet(_)
        | Request::QuarantineShow { .. }
        | Request::Status {}
        | Request::SubmissionList(_)
        | Request::SubmissionShow { .. } => debug!(
            event = Event::AdminActed.as_str(),
            actor = %caller.name,
            ?request,
        ),
    }
    match admin.act(caller, request).await {
        Ok(value) => Answer::Ok(value),
        Err(fault) => Answer::Error(fault),
    }
}

/// One line without its end; `None` at the end of the stream. Reads one byte more than the limit
/// at most, so that a line over it is seen and never kept.
async fn read_line<R: tokio::io::AsyncRead + Unpin>(
    reading: &mut BufReader<R>,
) -> io::Result<Option<Vec<u8>>> {
    let most = u64::try_from(limits::ADMIN_LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    reading
        .take(most.saturating_add(1))
        .read_until(b'\n', &mut line)
        .await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(Some(line))
}

/// Binds under another name, sets the mode, then renames: nobody meets a socket of a wider mode.
fn listen(path: &Path) -> Result<UnixListener, SocketFault> {
    let as_fault = |source| SocketFault::Io {
        path: path.to_owned(),
        source,
    };
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    let bytes = staged.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(SocketFault::TooLong {
            path: path.to_owned(),
            bytes,
        });
    }
    check_folder(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketFault::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(SocketFault::InUse {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(as_fault(error)),
    }
    match std::fs::remove_file(&staged) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(as_fault(error)),
    }
    let listener = UnixListener::bind(&staged).map_err(as_fault)?;
    std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o600)).map_err(as_fault)?;
    std::fs::rename(&staged, path).map_err(as_fault)?;
    Ok(listener)
}

/// The folder must be ours (or root's) and not open to writing by others.
fn check_folder(path: &Path) -> Result<(), SocketFault> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let found = std::fs::metadata(folder).map_err(|source| SocketFault::Io {
        path: folder.to_owned(),
        source,
    })?;
    let us = rustix::process::geteuid().as_raw();
    let why = if found.uid() != us && found.uid() != 0 {
        format!("it belongs to user {}", found.uid())
    } else if found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0 {
        format!("mode {:o} lets everybody write", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(SocketFault::UnsafeFolder {
        folder: folder.to_owned(),
        why,
    })
}

/// `sun_path` of Linux has 108 bytes, the last one NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

const UNPRINTABLE: &str =
    r#"{"error":{"code":"admin.document","message":"the answer cannot be printed","exit":70}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_file_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _listener = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketFault::InUse { .. })));
        drop(first);
        let second = listen(&path);
        assert!(second.is_ok(), "{second:?}");
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&path), Err(SocketFault::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_folder_everybody_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).unwrap();
        assert!(matches!(
            listen(&folder.path().join("admin.sock")),
            Err(SocketFault::UnsafeFolder { .. })
        ));
    }

    #[tokio::test]
    async fn a_path_the_kernel_would_cut_is_refused() {
        let path = PathBuf::from("/tmp").join("x".repeat(110));
        assert!(matches!(listen(&path), Err(SocketFault::TooLong { .. })));
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_seen_and_cut() {
        let long = vec![b'x'; limits::ADMIN_LINE_BYTES_MAX + 10];
        let mut reading = BufReader::new(long.as_slice());
        let line = read_line(&mut reading).await.unwrap().unwrap();
        assert_eq!(line.len(), limits::ADMIN_LINE_BYTES_MAX + 1);
        let mut reading = BufReader::new(&b"{}\nrest"[..]);
        assert_eq!(read_line(&mut reading).await.unwrap().unwrap(), b"{}");
    }
}
