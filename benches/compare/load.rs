//! The client of `run.py`: one kind of work against any SFTP server on loopback, and one line of
//! JSON about it.
//!
//! It must cost less than the servers it measures. So requests are packed by hand, answers are
//! counted inside russh's callback and never copied, and the content of files is one block with a
//! stamp. It accepts any host key: it is meant for servers that `run.py` has started.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a stopwatch with a command line: it reads the clock and prints"
)]

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use clap::{Args, Parser, Subcommand, ValueEnum};
use russh::client::{self, Handle, Msg};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf, Disconnect, Preferred, cipher, kex};
use serde_json::json;
use tokio::io::BufStream;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Puts load on an SFTP server; `run.py` beside this file starts it.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Given by `cargo bench`: there is nothing to run by itself.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    work: Option<Work>,
}

/// Where, as whom, and how.
#[derive(Args, Clone)]
struct Target {
    #[arg(long, default_value = "127.0.0.1:2222")]
    address: SocketAddr,
    #[arg(long, default_value = "root")]
    user: String,
    /// Private key file
    #[arg(long, default_value = "id_ed25519")]
    key: PathBuf,
    #[arg(long, value_enum, default_value_t = Cipher::Aes256Gcm)]
    cipher: Cipher,
    /// Requests without an answer, most
    #[arg(long, default_value_t = 64)]
    outstanding: u32,
    /// Payload of one WRITE; 0 asks the server (limits@openssh.com)
    #[arg(long, default_value_t = 32 * 1024)]
    write_bytes: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

#[derive(Subcommand)]
enum Work {
    /// Uploads one file on each of some connections; {} in the path is the stream's number
    Put {
        #[arg(long)]
        path: String,
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        #[arg(long, default_value_t = 1)]
        streams: u32,
    },
    /// Uploads a local file no faster than a line takes it, and times the answer to its CLOSE
    Verdict {
        #[arg(long)]
        path: String,
        #[arg(long)]
        file: PathBuf,
        /// Mbit/s of the line
        #[arg(long, default_value_t = 1000)]
        mbit: u64,
    },
    /// Downloads one file
    Get {
        #[arg(long)]
        path: String,
    },
    /// Uploads small files, one after the other on each connection; {} is the file's number
    Small {
        #[arg(long)]
        path: String,
        #[arg(long, default_value_t = 2000)]
        files: u32,
        #[arg(long, default_value_t = 4096)]
        bytes: u32,
        #[arg(long, default_value_t = 1)]
        connections: u32,
    },
    /// Logs in, opens an sftp channel and leaves, again and again
    Logins {
        #[arg(long, default_value_t = 50)]
        count: u32,
        #[arg(long, default_value_t = 1)]
        at_once: u32,
    },
    /// Holds sessions with an open sftp channel until its standard input ends
    Idle {
        #[arg(long, default_value_t = 200)]
        sessions: u32,
        /// Upload so much on each session first
        #[arg(long, default_value_t = 0)]
        transfer_mib: u64,
        /// Where to, {} is the session's number
        #[arg(long, default_value = "")]
        path: String,
    },
    /// Sends very many READs before it looks at an answer
    Flood {
        #[arg(long)]
        path: String,
        #[arg(long, default_value_t = 2048)]
        reads: u32,
    },
    /// What SHA-256 costs on this machine
    Sha256 {
        #[arg(long, default_value_t = 512)]
        mib: u64,
    },
}

type Failed = Box<dyn Error + Send + Sync>;

/// A logged-in connection with an sftp channel.
struct Connection {
    ssh: Handle<Ears>,
    channel: ChannelWriteHalf<Msg>,
    answers: mpsc::Receiver<Answer>,
    bulk: Arc<Bulk>,
    outstanding: u32,
    write_bytes: u32,
}

/// The answer to a request that is waited for by itself.
struct Answer {
    kind: u8,
    body: Vec<u8>,
}

/// Requests of which only the number of answers matters.
struct Bulk {
    /// Free places among the outstanding; closed when the connection is gone.
    places: Semaphore,
    answered: AtomicU64,
    data_bytes: AtomicU64,
    refusal: Mutex<Option<String>>,
}

/// What russh tells of a connection: cuts the channel's bytes into SFTP packets.
struct Ears {
    answers: mpsc::Sender<Answer>,
    bulk: Arc<Bulk>,
    head: Vec<u8>,
    body: Vec<u8>,
    /// Bytes of the packet that are still to come, once its head is complete.
    rest: usize,
}

const INIT: u8 = 1;
const VERSION: u8 = 2;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const STAT: u8 = 17;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const ATTRS: u8 = 105;
const EXTENDED: u8 = 200;
const EXTENDED_REPLY: u8 = 201;

const FOR_READING: u32 = 0x01;
const FOR_WRITING: u32 = 0x02 | 0x08 | 0x10; // write, create, truncate
const STATUS_OK: u32 = 0;
const STATUS_END: u32 = 1;

/// The id of every request that is waited for by itself; there is one at a time.
const ALONE: u32 = u32::MAX;
/// Length, type and request id.
const HEAD_BYTES: usize = 9;
const READ_BYTES: u32 = 32 * 1024;
/// READs or WRITEs handed to russh in one piece, most.
const REQUESTS_A_PIECE: u32 = 8;
/// A server that answers nothing for so long hangs; slow ones answer something.
const STALL: Duration = Duration::from_mins(2);
/// Logins under way at once while sessions are gathered.
const ARRIVALS: usize = 16;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(work) = arguments.work else {
        eprintln!("nothing to run by itself: see benches/compare/README.md");
        return ExitCode::from(if arguments.bench { 0 } else { 2 });
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(perform(&arguments.target, work)));
    match done {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(target: &Target, work: Work) -> Result<serde_json::Value, Failed> {
    match work {
        Work::Put { path, mib, streams } => put(target, &path, mib << 20, streams).await,
        Work::Verdict { path, file, mbit } => verdict(target, &path, &file, mbit).await,
        Work::Get { path } => get(target, &path).await,
        Work::Small {
            path,
            files,
            bytes,
            connections,
        } => small(target, &path, files, bytes, connections).await,
        Work::Logins { count, at_once } => logins(target, count, at_once).await,
        Work::Idle {
            sessions,
            transfer_mib,
            path,
        } => idle(target, sessions, transfer_mib << 20, &path).await,
        Work::Flood { path, reads } => flood(target, &path, reads).await,
        Work::Sha256 { mib } => Ok(sha256(mib)),
    }
}

async fn put(
    target: &Target,
    path: &str,
    bytes: u64,
    streams: u32,
) -> Result<serde_json::Value, Failed> {
    let mut ready = Vec::new();
    for number in 0..streams {
        let path = path.replace("{}", &number.to_string());
        ready.push((Connection::open(target).await?, path));
    }
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for (mut connection, path) in ready {
        running.spawn(async move {
            connection.put(&path, bytes).await?;
            Ok::<_, Failed>(connection)
        });
    }
    let done = all(running).await?;
    let seconds = begin.elapsed().as_secs_f64();
    for connection in done {
        connection.bye().await;
    }
    Ok(json!({
        "seconds": seconds,
        "bytes": bytes * u64::from(streams),
        "files": streams,
    }))
}

async fn verdict(
    target: &Target,
    path: &str,
    file: &Path,
    mbit: u64,
) -> Result<serde_json::Value, Failed> {
    let content = std::fs::read(file)?;
    let mut connection = Connection::open(target).await?;
    let handle = connection.open_file(path, FOR_WRITING).await?;
    let begin = Instant::now();
    let mut parts = content.chunks(usize::try_from(connection.write_bytes)?);
    let mut offset = 0_u64;
    while usize::try_from(offset)? < content.len() {
        let mut piece = BytesMut::new();
        for _ in 0..connection.places().await? {
            match parts.next() {
                Some(part) => {
                    write_request(&mut piece, 0, &handle, offset, part)?;
                    offset += u64::try_from(part.len())?;
                }
                None => connection.bulk.places.add_permits(1),
            }
        }
        connection.channel.data_bytes(piece.freeze()).await?;
        let due = Duration::from_nanos(offset.saturating_mul(8_000) / mbit.max(1));
        tokio::time::sleep_until((begin + due).into()).await;
    }
    connection.all_answered().await?;
    let sent = begin.elapsed();
    let asked = Instant::now();
    connection.close(&handle).await?;
    let close_ms = asked.elapsed().as_secs_f64() * 1000.0;
    connection.bye().await;
    Ok(json!({ "seconds": sent.as_secs_f64(), "bytes": offset, "close_ms": close_ms }))
}

async fn get(target: &Target, path: &str) -> Result<serde_json::Value, Failed> {
    let mut connection = Connection::open(target).await?;
    let begin = Instant::now();
    let bytes = connection.size(path).await?;
    let handle = connection.open_file(path, FOR_READING).await?;
    let mut offset = 0;
    while offset < bytes {
        let places = connection.places().await?;
        let mut piece = BytesMut::new();
        for _ in 0..places {
            if offset < bytes {
                read_request(&mut piece, &handle, offset);
                offset += u64::from(READ_BYTES);
            } else {
                connection.bulk.places.add_permits(1);
            }
        }
        connection.channel.data_bytes(piece.freeze()).await?;
    }
    connection.all_answered().await?;
    connection.close(&handle).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let got = connection.bulk.data_bytes.load(Ordering::Relaxed);
    if got != bytes {
        return Err(format!("{path} has {bytes} bytes, {got} came").into());
    }
    connection.bye().await;
    Ok(json!({ "seconds": seconds, "bytes": bytes, "files": 1 }))
}

async fn small(
    target: &Target,
    path: &str,
    files: u32,
    bytes: u32,
    connections: u32,
) -> Result<serde_json::Value, Failed> {
    let mut ready = Vec::new();
    for _ in 0..connections {
        ready.push(Connection::open(target).await?);
    }
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for (first, mut connection) in (0..).zip(ready) {
        let path = path.to_owned();
        running.spawn(async move {
            for number in (first..files).step_by(usize::try_from(connections)?) {
                let path = path.replace("{}", &number.to_string());
                connection.put_small(&path, bytes).await?;
            }
            Ok::<_, Failed>(connection)
        });
    }
    let done = all(running).await?;
    let seconds = begin.elapsed().as_secs_f64();
    for connection in done {
        connection.bye().await;
    }
    Ok(json!({
        "seconds": seconds,
        "bytes": u64::from(files) * u64::from(bytes),
        "files": files,
    }))
}

async fn logins(target: &Target, count: u32, at_once: u32) -> Result<serde_json::Value, Failed> {
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for first in 0..at_once {
        let target = target.clone();
        running.spawn(async move {
            for _ in (first..count).step_by(usize::try_from(at_once)?) {
                Connection::open(&target).await?.bye().await;
            }
            Ok::<_, Failed>(())
        });
    }
    all(running).await?;
    Ok(json!({
        "seconds": begin.elapsed().as_secs_f64(),
        "bytes": 0,
        "files": 0,
        "logins": count,
    }))
}

async fn idle(
    target: &Target,
    sessions: u32,
    transfer_bytes: u64,
    path: &str,
) -> Result<serde_json::Value, Failed> {
    let begin = Instant::now();
    let mut held = Vec::new();
    let mut running: JoinSet<Result<Connection, Failed>> = JoinSet::new();
    for number in 0..sessions {
        while running.len() >= ARRIVALS {
            match running.join_next().await {
                Some(done) => held.push(done??),
                None => break,
            }
        }
        let target = target.clone();
        let path = path.replace("{}", &number.to_string());
        running.spawn(async move {
            let mut connection = Connection::open(&target).await?;
            if transfer_bytes > 0 {
                connection.put(&path, transfer_bytes).await?;
            }
            Ok(connection)
        });
    }
    held.extend(all(running).await?);
    let seconds = begin.elapsed().as_secs_f64();
    println!("{}", json!({ "ready": held.len(), "seconds": seconds }));
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    let lost = held.iter().filter(|one| one.ssh.is_closed()).count();
    if lost > 0 {
        return Err(format!("the server ended {lost} of {sessions} sessions").into());
    }
    for connection in held {
        connection.bye().await;
    }
    Ok(json!({
        "seconds": seconds,
        "bytes": transfer_bytes * u64::from(sessions),
        "files": 0,
        "sessions": sessions,
    }))
}

async fn flood(target: &Target, path: &str, reads: u32) -> Result<serde_json::Value, Failed> {
    let mut target = target.clone();
    target.outstanding = reads;
    let mut connection = Connection::open(&target).await?;
    let bytes = connection.size(path).await?;
    let handle = connection.open_file(path, FOR_READING).await?;
    let begin = Instant::now();
    connection
        .bulk
        .places
        .acquire_many(reads)
        .await
        .map(SemaphorePermit::forget)?;
    let mut piece = BytesMut::new();
    let mut offset = 0;
    for _ in 0..reads {
        read_request(&mut piece, &handle, offset);
        offset += u64::from(READ_BYTES);
        if offset >= bytes {
            offset = 0;
        }
    }
    connection.channel.data_bytes(piece.freeze()).await?;
    connection.all_answered().await?;
    let seconds = begin.elapsed().as_secs_f64();
    connection.close(&handle).await?;
    let got = connection.bulk.data_bytes.load(Ordering::Relaxed);
    connection.bye().await;
    Ok(json!({ "seconds": seconds, "bytes": got, "files": 1, "reads": reads }))
}

fn sha256(mib: u64) -> serde_json::Value {
    let block = block(1 << 20);
    let begin = Instant::now();
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for _ in 0..mib {
        digest.update(&block);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let first = digest.finish().as_ref().first().copied();
    json!({ "seconds": seconds, "bytes": mib << 20, "files": 0, "first": first })
}

/// Waits for all; the first failure is the whole's.
async fn all<T: 'static>(mut running: JoinSet<Result<T, Failed>>) -> Result<Vec<T>, Failed> {
    let mut done = Vec::new();
    while let Some(one) = running.join_next().await {
        done.push(one??);
    }
    Ok(done)
}

// === impl Connection ===

impl Connection {
    async fn open(target: &Target) -> Result<Self, Failed> {
        let key = russh::keys::load_secret_key(&target.key, None)
            .map_err(|e| format!("{}: {e}", target.key.display()))?;
        match timeout(STALL, Self::log_in(target, key)).await {
            Ok(connection) => connection,
            Err(_) => Err("no login within two minutes".into()),
        }
    }

    async fn log_in(target: &Target, key: PrivateKey) -> Result<Self, Failed> {
        let (to_answers, answers) = mpsc::channel(4);
        let bulk = Arc::new(Bulk {
            places: Semaphore::new(usize::try_from(target.outstanding)?),
            answered: AtomicU64::new(0),
            data_bytes: AtomicU64::new(0),
            refusal: Mutex::default(),
        });
        let ears = Ears {
            answers: to_answers,
            bulk: Arc::clone(&bulk),
            head: Vec::with_capacity(HEAD_BYTES),
            body: Vec::new(),
            rest: 0,
        };
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let stream = BufStream::with_capacity(128 * 1024, 64 * 1024, stream);
        let config = Arc::new(client::Config {
            preferred: target.cipher.preferred(),
            ..client::Config::default()
        });
        let mut ssh = client::connect_stream(config, stream, ears).await?;
        let signer = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let answer = ssh.authenticate_publickey(target.user.clone(), signer);
        if !answer.await?.success() {
            return Err(format!("login as {} refused", target.user).into());
        }
        let mut channel = ssh.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure | ChannelMsg::Close) | None => {
                    return Err("no sftp channel".into());
                }
                Some(_) => {}
            }
        }
        // Without a reader russh passes data to `Ears` alone, and nothing queues.
        let (_, channel) = channel.split();
        let mut connection = Self {
            ssh,
            channel,
            answers,
            bulk,
            outstanding: target.outstanding,
            write_bytes: target.write_bytes,
        };
        let mut init = BytesMut::new();
        init.put_u32(5);
        init.put_u8(INIT);
        init.put_u32(3);
        connection.channel.data_bytes(init.freeze()).await?;
        connection.answer("INIT", VERSION).await?;
        if connection.write_bytes == 0 {
            connection.write_bytes = connection.limit().await?;
        }
        Ok(connection)
    }

    async fn put(&mut self, path: &str, bytes: u64) -> Result<(), Failed> {
        let handle = self.open_file(path, FOR_WRITING).await?;
        let mut block = block(usize::try_from(self.write_bytes)?);
        let mut offset = 0;
        while offset < bytes {
            let places = self.places().await?;
            let mut piece = BytesMut::with_capacity(block.len().saturating_add(64) * places);
            for _ in 0..places {
                let size = usize::try_from(bytes.saturating_sub(offset))?.min(block.len());
                if size == 0 {
                    self.bulk.places.add_permits(1);
                    continue;
                }
                stamp(&mut block, path, offset);
                let payload = block.get(..size).unwrap_or_default();
                write_request(&mut piece, 0, &handle, offset, payload)?;
                offset += u64::try_from(size)?;
            }
            self.channel.data_bytes(piece.freeze()).await?;
        }
        self.all_answered().await?;
        self.close(&handle).await
    }

    /// As stock clients do it: each request waits for the answer to the one before.
    async fn put_small(&mut self, path: &str, bytes: u32) -> Result<(), Failed> {
        let handle = self.open_file(path, FOR_WRITING).await?;
        let mut block = block(usize::try_from(bytes)?);
        stamp(&mut block, path, 0);
        let mut request = BytesMut::new();
        write_request(&mut request, ALONE, &handle, 0, &block)?;
        self.channel.data_bytes(request.freeze()).await?;
        self.answer(path, STATUS).await?;
        self.close(&handle).await
    }

    async fn open_file(&mut self, path: &str, flags: u32) -> Result<Vec<u8>, Failed> {
        let mut fields = string(path.as_bytes())?;
        fields.put_u32(flags);
        fields.put_u32(0); // no attributes
        let handle = self.ask(OPEN, &fields, path, HANDLE).await?;
        Ok(handle.get(4..).unwrap_or_default().to_vec())
    }

    async fn close(&mut self, handle: &[u8]) -> Result<(), Failed> {
        self.ask(CLOSE, &string(handle)?, "CLOSE", STATUS).await?;
        Ok(())
    }

    async fn size(&mut self, path: &str) -> Result<u64, Failed> {
        let attrs = self
            .ask(STAT, &string(path.as_bytes())?, path, ATTRS)
            .await?;
        let flags = number(&attrs, 0);
        if flags & 1 == 0 {
            return Err(format!("{path}: no size").into());
        }
        Ok(u64::from(number(&attrs, 4)) << 32 | u64::from(number(&attrs, 8)))
    }

    /// The longest WRITE the server takes.
    async fn limit(&mut self) -> Result<u32, Failed> {
        let name = string(b"limits@openssh.com")?;
        let limits = self.ask(EXTENDED, &name, "limits", EXTENDED_REPLY).await?;
        // Packet, read and write length, 64 bits each.
        match number(&limits, 20) {
            0 => Ok(32 * 1024),
            most => Ok(most),
        }
    }

    async fn ask(
        &mut self,
        kind: u8,
        fields: &[u8],
        what: &str,
        wanted: u8,
    ) -> Result<Vec<u8>, Failed> {
        let mut request = BytesMut::new();
        request.put_u32(u32::try_from(fields.len())? + 5);
        request.put_u8(kind);
        request.put_u32(ALONE);
        request.put_slice(fields);
        self.channel.data_bytes(request.freeze()).await?;
        self.answer(what, wanted).await
    }

    async fn answer(&mut self, what: &str, wanted: u8) -> Result<Vec<u8>, Failed> {
        let answer = match timeout(STALL, self.answers.recv()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(format!("{what}: the connection broke").into()),
            Err(_) => return Err(format!("{what}: stalled, no answer for two minutes").into()),
        };
        let refused = answer.kind == STATUS && number(&answer.body, 0) != STATUS_OK;
        if answer.kind == wanted && !refused {
            return Ok(answer.body);
        }
        Err(format!("{what}: {}", told(answer.kind, &answer.body)).into())
    }

    /// Takes one place among the outstanding requests, and a few more if they are free.
    async fn places(&self) -> Result<usize, Failed> {
        let place = match timeout(STALL, self.bulk.places.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(self.why().into()),
            Err(_) => return Err(self.stalled().into()),
        };
        place.forget();
        let mut taken = 1;
        for _ in 1..REQUESTS_A_PIECE.min(self.outstanding / 4) {
            let Ok(place) = self.bulk.places.try_acquire() else {
                break;
            };
            place.forget();
            taken += 1;
        }
        Ok(taken)
    }

    /// Waits until nothing is outstanding and nothing was refused.
    async fn all_answered(&self) -> Result<(), Failed> {
        let mut seen = self.bulk.answered.load(Ordering::Relaxed);
        loop {
            let all = self.bulk.places.acquire_many(self.outstanding);
            match timeout(STALL, all).await {
                Ok(Ok(places)) => {
                    drop(places);
                    break;
                }
                Ok(Err(_)) => return Err(self.why().into()),
                Err(_) => {
                    let now = self.bulk.answered.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(self.stalled().into());
                    }
                    seen = now;
                }
            }
        }
        match &*self.bulk.refusal() {
            Some(refusal) => Err(refusal.clone().into()),
            None => Ok(()),
        }
    }

    fn why(&self) -> String {
        let refusal = self.bulk.refusal();
        let refusal = refusal.as_deref();
        refusal.unwrap_or("the connection broke").to_owned()
    }

    fn stalled(&self) -> String {
        let answered = self.bulk.answered.load(Ordering::Relaxed);
        format!("stalled: no answer for two minutes, {answered} answered before")
    }

    async fn bye(self) {
        let goodbye = self.ssh.disconnect(Disconnect::ByApplication, "", "");
        if goodbye.await.is_ok() {
            // What the server thinks of it is not asked.
            drop(timeout(Duration::from_secs(1), self.ssh).await);
        }
    }
}

// === impl Bulk ===

impl Bulk {
    fn refusal(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ears ===

impl Ears {
    /// Takes a piece of the stream, however it is cut.
    fn hear(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.head.len() < HEAD_BYTES {
                let missing = HEAD_BYTES - self.head.len();
                let (here, after) = piece.split_at(missing.min(piece.len()));
                self.head.extend_from_slice(here);
                piece = after;
                if self.head.len() < HEAD_BYTES {
                    return;
                }
                let length = usize::try_from(number(&self.head, 0)).unwrap_or(0);
                self.rest = (length + 4).saturating_sub(HEAD_BYTES);
            }
            let (here, after) = piece.split_at(self.rest.min(piece.len()));
            piece = after;
            self.rest -= here.len();
            if self.counts_only() {
                let bytes = u64::try_from(here.len()).unwrap_or(0);
                self.bulk.data_bytes.fetch_add(bytes, Ordering::Relaxed);
            } else {
                self.body.extend_from_slice(here);
            }
            if self.rest == 0 {
                self.packet();
            }
        }
    }

    fn kind(&self) -> u8 {
        self.head.get(4).copied().unwrap_or(0)
    }

    fn counts_only(&self) -> bool {
        self.kind() == DATA
    }

    /// A packet is complete.
    fn packet(&mut self) {
        let kind = self.kind();
        if kind == VERSION || number(&self.head, 5) == ALONE {
            let body = std::mem::take(&mut self.body);
            // There is a place: one such request is under way at a time.
            drop(self.answers.try_send(Answer { kind, body }));
        } else {
            if kind == DATA {
                // Four of its bytes were the length.
                self.bulk.data_bytes.fetch_sub(4, Ordering::Relaxed);
            } else if kind != STATUS || !matches!(number(&self.body, 0), STATUS_OK | STATUS_END) {
                let told = told(kind, &self.body);
                self.bulk.refusal().get_or_insert(told);
            }
            self.bulk.answered.fetch_add(1, Ordering::Relaxed);
            self.bulk.places.add_permits(1);
        }
        self.head.clear();
        self.body.clear();
    }
}

impl client::Handler for Ears {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn data(
        &mut self,
        _channel: ChannelId,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.hear(data);
        Ok(())
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.bulk.places.close();
    }
}

// === impl Cipher ===

impl Cipher {
    /// This cipher only, and one key exchange that every server has.
    fn preferred(self) -> Preferred {
        const KEX: &[kex::Name] = &[
            kex::CURVE25519,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        ];
        let cipher: &'static [cipher::Name] = match self {
            Self::Aes128Gcm => &[cipher::AES_128_GCM],
            Self::Aes256Gcm => &[cipher::AES_256_GCM],
            Self::Chacha20Poly1305 => &[cipher::CHACHA20_POLY1305],
        };
        Preferred {
            kex: KEX.into(),
            cipher: cipher.into(),
            ..Preferred::default()
        }
    }
}

/// Content that no compressor and no comparison of contents gets hold of cheaply.
fn block(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(bytes + 8);
    while block.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block.truncate(bytes);
    block
}

/// Makes a block one of this place in this file: no two files are equal.
fn stamp(block: &mut [u8], path: &str, offset: u64) {
    let stamp = offset.to_be_bytes().into_iter().chain(path.bytes());
    block
        .iter_mut()
        .zip(stamp)
        .for_each(|(byte, mark)| *byte = mark);
}

fn read_request(piece: &mut BytesMut, handle: &[u8], offset: u64) {
    let length = u32::try_from(handle.len()).unwrap_or(0);
    piece.put_u32(1 + 4 + 4 + length + 8 + 4);
    piece.put_u8(READ);
    piece.put_u32(0);
    piece.put_u32(length);
    piece.put_slice(handle);
    piece.put_u64(offset);
    piece.put_u32(READ_BYTES);
}

fn write_request(
    piece: &mut BytesMut,
    id: u32,
    handle: &[u8],
    offset: u64,
    payload: &[u8],
) -> Result<(), Failed> {
    let length = u32::try_from(handle.len())?;
    let payload_bytes = u32::try_from(payload.len())?;
    piece.put_u32(1 + 4 + 4 + length + 8 + 4 + payload_bytes);
    piece.put_u8(WRITE);
    piece.put_u32(id);
    piece.put_u32(length);
    piece.put_slice(handle);
    piece.put_u64(offset);
    piece.put_u32(payload_bytes);
    piece.put_slice(payload);
    Ok(())
}

/// A length-prefixed field.
fn string(bytes: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut field = Vec::with_capacity(bytes.len() + 4);
    field.put_u32(u32::try_from(bytes.len())?);
    field.put_slice(bytes);
    Ok(field)
}

/// The 32-bit number at this place; 0 past the end.
fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

/// An answer that was not wanted, in words.
fn told(kind: u8, body: &[u8]) -> String {
    if kind != STATUS {
        return format!("answer of type {kind}");
    }
    let length = usize::try_from(number(body, 4)).unwrap_or(0);
    let text = body.get(8..8 + length).unwrap_or_default();
    format!("status {}: {}", number(body, 0), text.escape_ascii())
}
