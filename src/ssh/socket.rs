//! The socket under russh: reads ahead, and sends what is written in few large pieces.
//!
//! russh reads each packet in two small steps and flushes after each one. Unwrapped, a packet
//! costs three system calls; wrapped, 128 KiB of packets cost two.
//!
//! **Why nothing is held back for ever.** A flush is put off only while bytes lie here that russh
//! has not read yet. russh always reads next: either those bytes complete a packet, which ends in
//! another flush, or they do not, and then it asks for more while nothing is left here. In that
//! moment, before the socket is asked, everything written goes out; if the socket does not take
//! it, the task is woken when it does and asks again. Writing out never waits for the peer to
//! send, and 64 KiB are never exceeded.
//!
//! What comes in passes a [`Valve`]: few bytes before login, a bounded stream after it. What was said
//! and heard before russh began ([`Greeting`]) is not said twice, and heard again.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use crate::ssh::algorithms::SERVER_LINE;
use crate::ssh::greeting::Greeting;
use crate::terms::limits;

/// A buffered stream that can be cut from outside. Both buffers are given back when it idles.
#[derive(Debug)]
pub(super) struct Socket<S> {
    stream: S,
    /// Read from the stream, not yet by russh.
    input: BytesMut,
    /// What the last read brought: tells bulk from chatter.
    last_read: usize,
    /// Nothing came for a while: read straight into the reader's own buffer.
    idle: bool,
    /// Written by russh, not yet to the stream; `sent` bytes of it are gone already.
    output: Vec<u8>,
    sent: usize,
    /// What russh will write first has been sent already.
    said: &'static [u8],
    /// What was heard is not yet read again: it may be all there ever is, and the answer is not held
    /// back for more.
    is_beginning: bool,
    cut: Cut,
    valve: Arc<Valve>,
    /// Bytes read before the valve was opened.
    unproven: usize,
    pace: Pace,
}

/// How much may come in, and when something came: shared with who watches the connection.
#[derive(Debug)]
pub(super) struct Valve {
    /// Bytes a second; 0: nobody has logged in yet.
    per_sec: AtomicU64,
    made_at: Instant,
    /// Since when nothing has come although somebody listens, milliseconds after it was made; 0:
    /// nobody listens, or something has just come.
    waiting_ms: AtomicU64,
    /// It was read no faster than it may send.
    slowed: AtomicBool,
}

/// A bucket that holds what one second brings.
#[derive(Debug)]
struct Pace {
    /// Bytes; below zero when a read has taken more than there was, as it may.
    left: i64,
    filled_at: Instant,
    waiting: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Cut {
    /// Done.
    Done,
    /// Nobody can cut any more.
    Never,
    /// The knife may fall.
    Possible(oneshot::Receiver<()>),
}

/// Ends the socket at once, whatever russh is doing with it.
#[derive(Debug)]
pub(super) struct Knife(oneshot::Sender<()>);

/// A read of at least this many bytes means bulk: the next one gets the large buffer.
const CHATTER_BYTES: usize = 16 * 1024;
const READ_BYTES: usize = 128 * 1024;
const WRITE_BYTES: usize = 64 * 1024;
/// Between two looks whether the bucket has something again.
const PACE_STEP: Duration = Duration::from_millis(2);
pub(super) const TOO_MUCH: &str = "more than 1 MiB before login";

// === impl Valve ===

impl Default for Valve {
    fn default() -> Self {
        Self {
            per_sec: AtomicU64::new(0),
            made_at: Instant::now(),
            waiting_ms: AtomicU64::new(0),
            slowed: AtomicBool::new(false),
        }
    }
}

impl Valve {
    /// How long the peer has been listened to in vain. What it says while we are busy, or cannot
    /// get rid of what we say, is not its silence.
    pub(super) fn silence(&self) -> Duration {
        match self.waiting_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self
                .made_at
                .elapsed()
                .saturating_sub(Duration::from_millis(since)),
        }
    }

    /// The peer says nothing, and is listened to.
    fn wait(&self) {
        if self.waiting_ms.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.made_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.waiting_ms.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// It has said something, or is not listened to.
    fn end_wait(&self) {
        self.waiting_ms.store(0, Ordering::Relaxed);
    }

    /// The login is done: from now on `per_sec` bytes a second, at least one.
    pub(super) fn open(&self, per_sec: u64) {
        self.per_sec.store(per_sec.max(1), Ordering::Relaxed);
    }

    /// Whether it was slowed down since this was last asked.
    pub(super) fn was_slowed(&self) -> bool {
        self.slowed.swap(false, Ordering::Relaxed)
    }

    /// `None` before login.
    fn rate(&self) -> Option<u64> {
        Some(self.per_sec.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }
}

// === impl Pace ===

impl Pace {
    fn new() -> Self {
        Self {
            left: 0,
            filled_at: Instant::now(),
            waiting: None,
        }
    }

    /// Ready when something may be read.
    fn poll_ready(&mut self, rate: u64, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        if self.left > 0 {
            return Poll::Ready(());
        }
        let now = Instant::now();
        self.fill(rate, now);
        if self.left > 0 {
            return Poll::Ready(());
        }
        let mut waiting = Box::pin(sleep_until(now + self.debt(rate).max(PACE_STEP)));
        let woken = waiting.as_mut().poll(cx);
        self.waiting = Some(waiting);
        woken
    }

    /// Puts in what has come since it was last filled; no more than it holds.
    fn fill(&mut self, rate: u64, now: Instant) {
        let (rate, most) = (u128::from(rate), i64::try_from(rate).unwrap_or(i64::MAX));
        let passed = now.duration_since(self.filled_at).as_micros();
        let come = passed.saturating_mul(rate) / 1_000_000;
        // What is less than a byte counts the next time.
        let counted = u64::try_from((come * 1_000_000).div_ceil(rate)).unwrap_or(u64::MAX);
        self.filled_at += Duration::from_micros(counted);
        let come = i64::try_from(come).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(come).min(most);
    }

    fn take(&mut self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(count);
    }

    /// How long it takes until there is something again.
    fn debt(&self, rate: u64) -> Duration {
        let micros = u128::from(self.left.unsigned_abs()) * 1_000_000 / u128::from(rate);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

// === impl Knife ===

impl Knife {
    /// Every read and write from now on fails.
    pub(super) fn cut(self) {
        // An error means that the socket is gone already.
        let _gone = self.0.send(());
    }
}

// === impl Socket ===

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) fn greeted(stream: S, valve: Arc<Valve>, greeting: Greeting) -> (Self, Knife) {
        let (mut socket, knife) = Self::new(stream, valve);
        socket.unproven = greeting.heard.len();
        socket.input = greeting.heard;
        socket.said = SERVER_LINE.as_bytes();
        socket.is_beginning = true;
        (socket, knife)
    }

    fn new(stream: S, valve: Arc<Valve>) -> (Self, Knife) {
        let (knife, cut) = oneshot::channel();
        let socket = Self {
            stream,
            input: BytesMut::new(),
            last_read: 0,
            idle: true,
            output: Vec::new(),
            sent: 0,
            said: &[],
            is_beginning: false,
            cut: Cut::Possible(cut),
            valve,
            unproven: 0,
            pace: Pace::new(),
        };
        (socket, Knife(knife))
    }

    /// Takes what the peer knows already.
    fn skip(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (now, later) = self.said.split_at(self.said.len().min(buf.len()));
        if !buf.starts_with(now) {
            return Err(io::Error::other("another version line than the one sent"));
        }
        self.said = later;
        Ok(now.len())
    }

    /// Ready when the valve lets something through.
    fn poll_valve(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.valve.rate() {
            Some(rate) => {
                let ready = self.pace.poll_ready(rate, cx);
                if ready.is_pending() {
                    self.valve.slowed.store(true, Ordering::Relaxed);
                }
                ready
            }
            None => Poll::Ready(()),
        }
    }

    /// Counts what was read.
    fn took(&mut self, count: usize) -> io::Result<()> {
        self.last_read = count;
        self.valve.end_wait();
        if self.valve.rate().is_some() {
            self.pace.take(count);
            return Ok(());
        }
        self.unproven = self.unproven.saturating_add(count);
        if self.unproven > limits::SSH_HANDSHAKE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, TOO_MUCH));
        }
        Ok(())
    }

    /// Fails once the knife has fallen, and wakes the caller when it does.
    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Cut::Possible(knife) = &mut self.cut
            && let Poll::Ready(fallen) = Pin::new(knife).poll(cx)
        {
            self.cut = fallen.map_or(Cut::Never, |()| Cut::Done);
        }
        match self.cut {
            Cut::Done => Err(io::ErrorKind::ConnectionAborted.into()),
            Cut::Never | Cut::Possible(_) => Ok(()),
        }
    }

    /// Writes out everything russh has written.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, rest) else {
                self.valve.end_wait();
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.sent = 0;
        self.output.clear();
        if self.output.capacity() > CHATTER_BYTES {
            self.output = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is there to be read; the peer's turn, unless it does not take what we say.
    fn listens(&self) {
        if self.output.is_empty() {
            self.valve.wait();
        }
    }

    /// Reads ahead. Ready with an empty `input` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let want = if self.last_read >= CHATTER_BYTES {
            READ_BYTES
        } else {
            CHATTER_BYTES
        };
        self.input.reserve(want);
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        match read {
            Poll::Ready(count) => Poll::Ready(self.took(count?)),
            Poll::Pending => {
                self.listens();
                if self.last_read < CHATTER_BYTES {
                    self.idle = true;
                    self.input = BytesMut::new();
                    if self.output.is_empty() {
                        self.output = Vec::new();
                    }
                }
                Poll::Pending
            }
        }
    }

    /// Bytes of memory held by the two buffers.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.input.is_empty() {
            this.is_beginning = false;
            this.check_cut(cx)?;
            // What was held back goes before we wait. If the stream does not take it now, its
            // readiness to write wakes this task as well.
            if let Poll::Ready(Err(e)) = this.poll_drain(cx) {
                return Poll::Ready(Err(e));
            }
            ready!(this.poll_valve(cx));
            if this.idle {
                let before = buf.filled().len();
                let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
                    this.listens();
                    return Poll::Pending;
                };
                read?;
                this.idle = false;
                let count = buf.filled().len() - before;
                return Poll::Ready(this.took(count));
            }
            ready!(this.poll_fill(cx))?;
        }
        let count = this.input.len().min(buf.remaining());
        if let Some(front) = this.input.get(..count) {
            buf.put_slice(front);
        }
        this.input.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_cut(cx)?;
        if !this.said.is_empty() {
            return Poll::Ready(this.skip(buf));
        }
        if this.output.len() + buf.len() > WRITE_BYTES {
            ready!(this.poll_drain(cx))?;
            if buf.len() > WRITE_BYTES {
                return Pin::new(&mut this.stream).poll_write(cx, buf);
            }
        }
        this.output.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_cut(cx)?;
        if !this.input.is_empty() && !this.is_beginning {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_cut(cx)?;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair(bytes: usize) -> (Socket<DuplexStream>, Knife, DuplexStream) {
        let (near, far) = duplex(bytes);
        let valve = Valve::default();
        valve.open(u64::MAX);
        let (socket, knife) = Socket::new(near, Arc::new(valve));
        (socket, knife, far)
    }

    #[tokio::test]
    async fn what_was_said_is_not_said_twice_and_what_was_heard_is_heard_again() {
        let (near, mut far) = duplex(1024);
        let greeting = Greeting {
            heard: BytesMut::from(&b"SSH-2.0-x"[..]),
            steers: true,
        };
        let (mut socket, _knife) = Socket::greeted(near, Arc::default(), greeting);
        assert_eq!(socket.unproven, 9);
        far.write_all(b"\r\nmore").await.unwrap();
        assert_eq!(read(&mut socket, 5).await, b"SSH-2");
        let (first, second) = SERVER_LINE.as_bytes().split_at(5);
        socket.write_all(first).await.unwrap();
        socket.write_all(second).await.unwrap();
        socket.write_all(b"kexinit").await.unwrap();
        socket.flush().await.unwrap();
        // Not held back, although something is unread: the client may turn out to be no match.
        assert_eq!(read(&mut far, 7).await, b"kexinit");
        assert_eq!(read(&mut socket, 10).await, b".0-x\r\nmore");
    }

    #[tokio::test]
    async fn another_version_line_than_the_one_sent_is_refused() {
        let (near, _far) = duplex(1024);
        let greeting = Greeting {
            heard: BytesMut::new(),
            steers: false,
        };
        let (mut socket, _knife) = Socket::greeted(near, Arc::default(), greeting);
        assert!(socket.write_all(b"SSH-2.0-other\r\n").await.is_err());
    }

    #[tokio::test]
    async fn silence_is_counted_only_while_the_peer_is_listened_to() {
        let (near, mut far) = duplex(8);
        let valve = Arc::new(Valve::default());
        let (mut socket, _knife) = Socket::new(near, Arc::clone(&valve));
        let while_ago = Duration::from_millis(20);
        let pass = || tokio::time::sleep(while_ago);
        pass().await;
        assert_eq!(valve.silence(), Duration::ZERO, "nobody listens");
        assert!(socket.read_u8().now_or_never().is_none());
        pass().await;
        assert!(valve.silence() >= while_ago);
        far.write_all(b"x").await.unwrap();
        socket.read_u8().await.unwrap();
        pass().await;
        assert_eq!(valve.silence(), Duration::ZERO, "it has spoken");
        assert!(socket.read_u8().now_or_never().is_none());
        socket.write_all(b"more than fits").await.unwrap();
        assert!(socket.flush().now_or_never().is_none());
        pass().await;
        assert_eq!(valve.silence(), Duration::ZERO, "it cannot hear us");
    }

    #[tokio::test]
    async fn before_login_a_mebibyte_is_enough() {
        let (near, mut far) = duplex(256 * 1024);
        let (mut socket, _knife) = Socket::new(near, Arc::default());
        let sending = async {
            // It fails when the reader gives up.
            drop(
                far.write_all(&vec![1; 2 * limits::SSH_HANDSHAKE_BYTES_MAX])
                    .await,
            );
            drop(far);
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(sending, async {
            let read = socket.read_to_end(&mut got).await;
            drop(socket);
            read
        });
        assert_eq!(read.unwrap_err().to_string(), TOO_MUCH);
        assert!(got.len() <= limits::SSH_HANDSHAKE_BYTES_MAX);
    }

    #[tokio::test]
    async fn after_login_a_second_brings_the_agreed_bytes_and_no_more_are_saved_up() {
        let mut pace = Pace::new();
        let begun = pace.filled_at;
        let mut got = 0_usize;
        // Reads are larger than what there is, and what is too much is waited for afterwards.
        for ms in 1..=3_000 {
            pace.fill(1_000_000, begun + Duration::from_millis(ms));
            if pace.left > 0 {
                got += READ_BYTES;
                pace.take(READ_BYTES);
            }
        }
        let most = 3_000_000 + READ_BYTES;
        assert!(got > 3_000_000 - READ_BYTES && got <= most, "{got}");
        let debt = pace.debt(1_000_000);
        assert!(
            !debt.is_zero() && debt <= Duration::from_millis(132),
            "{debt:?}"
        );
        // Slower than a byte a step: nothing is lost by looking often.
        let mut slow = Pace::new();
        let begun = slow.filled_at;
        for step in 1..=3_000 {
            slow.fill(1_500, begun + Duration::from_micros(500 * step));
        }
        assert_eq!(slow.left, 1_500);
        pace.fill(1_000_000, begun + Duration::from_hours(1));
        assert_eq!(pace.left, 1_000_000);
    }

    #[tokio::test]
    async fn a_paced_stream_arrives_whole() {
        let (near, mut far) = duplex(1024);
        let valve = Arc::new(Valve::default());
        let (mut socket, _knife) = Socket::new(near, Arc::clone(&valve));
        valve.open(200_000);
        let sent: Vec<u8> = (0..20_000).map(|n: u32| n.to_be_bytes()[3]).collect();
        let (got, sending) = tokio::join!(read(&mut socket, sent.len()), far.write_all(&sent));
        sending.unwrap();
        assert_eq!(got, sent);
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn with_nothing_unread_a_flush_is_a_flush() {
        let (mut socket, _knife, mut far) = pair(64);
        socket.write_all(b"abc").await.unwrap();
        socket.flush().await.unwrap();
        assert_eq!(read(&mut far, 3).await, b"abc");
    }

    #[tokio::test]
    async fn a_reply_waits_for_unread_input_and_leaves_before_we_wait_for_more() {
        let (mut socket, _knife, mut far) = pair(1024);
        far.write_all(b"onetwo and a half").await.unwrap();
        // The first read passes through, the second reads ahead.
        assert_eq!(read(&mut socket, 3).await, b"one");
        assert_eq!(read(&mut socket, 3).await, b"two");
        socket.write_all(b"reply").await.unwrap();
        socket.flush().await.unwrap();
        assert!(far.read_u8().now_or_never().is_none(), "held back");
        // 11 bytes are there, 12 are wanted: the reader has to wait.
        assert!(read(&mut socket, 12).now_or_never().is_none());
        assert_eq!(read(&mut far, 5).await, b"reply");
    }

    #[tokio::test]
    async fn what_is_written_without_a_flush_leaves_before_we_wait() {
        let (mut socket, _knife, mut far) = pair(64);
        socket.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        assert!(socket.read_u8().now_or_never().is_none());
        assert_eq!(read(&mut far, 11).await, b"SSH-2.0-x\r\n");
    }

    #[tokio::test]
    async fn a_reader_is_woken_to_send_what_the_peer_did_not_take_at_first() {
        let (mut socket, _knife, mut far) = pair(4);
        socket.write_all(b"0123456789").await.unwrap();
        let (near, far) = tokio::join!(socket.read_u8(), async {
            let seen = read(&mut far, 10).await;
            far.write_all(b"!").await.unwrap();
            seen
        });
        assert_eq!((near.unwrap(), far), (b'!', b"0123456789".to_vec()));
    }

    #[tokio::test]
    async fn megabytes_pass_both_ways_unchanged() {
        let (mut socket, _knife, mut far) = pair(50_000);
        let bytes: Vec<u8> = (0..3_000_000_u32)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let there = async {
            for piece in bytes.chunks(70_001) {
                far.write_all(piece).await.unwrap();
                let mut back = vec![0; piece.len()];
                far.read_exact(&mut back).await.unwrap();
                assert_eq!(back, piece);
            }
            far.shutdown().await.unwrap();
        };
        let back = async {
            let mut piece = [0; 1000];
            loop {
                let count = socket.read(&mut piece).await.unwrap();
                if count == 0 {
                    break;
                }
                socket.write_all(&piece[..count]).await.unwrap();
                socket.flush().await.unwrap();
            }
            socket.shutdown().await.unwrap();
        };
        tokio::join!(there, back);
    }

    #[tokio::test]
    async fn an_idle_socket_holds_no_buffers() {
        let (mut socket, _knife, mut far) = pair(1 << 20);
        far.write_all(&vec![1; 300_000]).await.unwrap();
        read(&mut socket, 4).await;
        read(&mut socket, 40_000).await;
        assert!(socket.held() > CHATTER_BYTES);
        read(&mut socket, 259_996).await;
        far.write_all(b"end").await.unwrap();
        read(&mut socket, 3).await;
        socket.write_all(b"bye").await.unwrap();
        assert!(socket.read_u8().now_or_never().is_none());
        assert_eq!(socket.held(), 0);
    }

    #[tokio::test]
    async fn the_knife_ends_a_waiting_reader_and_a_stuck_writer() {
        let (mut socket, knife, _far) = pair(4);
        knife.cut();
        let kind = |e: io::Error| e.kind();
        assert_eq!(
            socket.read_u8().await.map_err(kind),
            Err(io::ErrorKind::ConnectionAborted)
        );
        assert_eq!(
            socket.write_all(b"x").await.map_err(kind),
            Err(io::ErrorKind::ConnectionAborted)
        );

        let (mut socket, knife, _far) = pair(4);
        let (read, ()) = tokio::join!(socket.read_u8(), async { knife.cut() });
        assert_eq!(read.map_err(kind), Err(io::ErrorKind::ConnectionAborted));
    }

    #[tokio::test]
    async fn losing_the_knife_does_not_cut() {
        let (mut socket, knife, mut far) = pair(4);
        drop(knife);
        far.write_all(b"x").await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'x');
    }
}
