//! What one channel still has to say, in order, and never more than its window takes.
//!
//! russh offers two ways out. `Session::data` keeps what exceeds the client's window in the
//! channel's pending data, and while *any* channel of a connection has some, the session takes no
//! message from its queue: one client that stops reading one channel would freeze the verdicts of
//! all others. `ChannelWriteHalf` knows the window, waits for it outside the session, and only then
//! puts a message in that queue. So everything a file channel says goes through its write half,
//! one piece after the other, and nothing through `Session::data`.
//!
//! (`Session::sender_window_size` is no help: it is the window *we* grant.)
//!
//! The first attempt to send is made inside the callback that produced the piece, without a task:
//! as long as there is window, a reply is in the session's queue when the callback returns, and
//! the session takes it from there before it reads the next packet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::runtime;
use tokio::task::AbortHandle;

use crate::terms::limits;
use crate::wire::sftp::ascii_line;

/// The queue of one channel. Whoever gets `true` from [`Outbox::begin`] sends, alone, until
/// [`Outbox::rest`] lets it go.
#[derive(Debug)]
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes in `pieces`.
    bytes: usize,
    stderr_left: usize,
    /// Somebody is sending.
    driven: bool,
    /// That somebody, once it is a task of its own.
    driver: Option<AbortHandle>,
    /// The end is queued: nothing comes after it.
    closing: bool,
    /// There is nobody to send to.
    gone: bool,
}

/// A channel's way out: its queue, and the half through which it leaves.
pub(super) struct Post {
    half: ChannelWriteHalf<Msg>,
    outbox: Mutex<Outbox>,
}

/// Whose replies leave through a [`Post`].
pub(super) trait Sender: Send + Sync + 'static {
    fn post(&self) -> &Post;

    /// The queue is empty: what waited for room may go on.
    fn drained(self: &Arc<Self>);

    /// There is nobody to send to any more.
    fn hang_up(self: &Arc<Self>);
}

/// One thing to send; whole SFTP packets, a line, or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// SFTP packets.
    Packets(Bytes),
    /// A line for the client's standard error.
    Line(Bytes),
    /// exit-status, EOF and CLOSE.
    End {
        /// 0 when the client ended the channel between two packets.
        exit_status: u32,
    },
}

/// The standard error stream (RFC 4254 section 5.2).
const STDERR: u32 = 1;
/// Longest line on stderr, bytes without prefix and line end.
const LINE_BYTES_MAX: usize = 400;

// === impl Post ===

impl Post {
    pub(super) fn new(half: ChannelWriteHalf<Msg>) -> Self {
        Self {
            half,
            outbox: Mutex::default(),
        }
    }

    /// Sends at once, waiting for window, past a queue that has to be empty.
    ///
    /// # Errors
    /// The session is over.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), russh::Error> {
        self.half.data_bytes(bytes).await
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends what is queued: at once as far as there is window, the rest from a task. Must not be
/// called with a lock held.
pub(super) fn kick<S: Sender>(sender: &Arc<S>) {
    if !sender.post().outbox().begin() {
        return;
    }
    let mut driving = Box::pin(drive(Arc::clone(sender)));
    if driving.as_mut().now_or_never().is_none() {
        let mut outbox = sender.post().outbox();
        if let Ok(runtime) = runtime::Handle::try_current()
            && !outbox.is_gone()
        {
            // The lock is held: the task cannot be through before it is known.
            outbox.driven_by(runtime.spawn(driving).abort_handle());
        }
    }
}

async fn drive<S: Sender>(sender: Arc<S>) {
    loop {
        let piece = sender.post().outbox().next();
        if let Some(piece) = piece {
            let ends = matches!(piece, Piece::End { .. });
            if piece.send(&sender.post().half).await.is_err() || ends {
                sender.hang_up();
                return;
            }
        } else {
            sender.drained();
            if sender.post().outbox().rest() {
                return;
            }
        }
    }
}

// === impl Outbox ===

impl Default for Outbox {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            stderr_left: limits::STDERR_BYTES_MAX,
            driven: false,
            driver: None,
            closing: false,
            gone: false,
        }
    }
}

impl Outbox {
    /// Queues SFTP packets.
    pub(super) fn packets(&mut self, packets: Vec<u8>) {
        if !packets.is_empty() {
            self.push(Piece::Packets(packets.into()));
        }
    }

    /// Queues `sallyport: <line>`, unless the channel has had its share of lines.
    pub(super) fn line(&mut self, line: &str) {
        let text = stderr_line(line);
        if let Some(left) = self.stderr_left.checked_sub(text.len()) {
            self.stderr_left = left;
            self.push(Piece::Line(text));
        }
    }

    /// Queues the end of the channel; nothing is taken after it.
    pub(super) fn end(&mut self, exit_status: u32) {
        self.push(Piece::End { exit_status });
        self.closing = true;
    }

    /// The channel is gone: forgets everything, takes nothing more, stops who is sending.
    pub(super) fn hang_up(&mut self) {
        self.gone = true;
        self.pieces.clear();
        self.bytes = 0;
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }

    /// There is nobody to send to.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Bytes waiting to be sent.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True for the one caller that has to send now.
    pub(super) fn begin(&mut self) -> bool {
        let begins = !self.driven && !self.pieces.is_empty();
        self.driven |= begins;
        begins
    }

    /// The next piece, for who is sending.
    pub(super) fn next(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.bytes = self.bytes.saturating_sub(piece.len());
        Some(piece)
    }

    /// Who is sending may stop, as nothing is left. Otherwise it has to go on.
    pub(super) fn rest(&mut self) -> bool {
        if self.pieces.is_empty() {
            self.driven = false;
            self.driver = None;
        }
        !self.driven
    }

    /// Who is sending has to wait, as a task of its own. Called before that task can run.
    pub(super) fn driven_by(&mut self, task: AbortHandle) {
        if self.gone {
            task.abort();
        } else {
            self.driver = Some(task);
        }
    }

    fn push(&mut self, piece: Piece) {
        if !self.closing && !self.gone {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

// === impl Piece ===

impl Piece {
    /// Sends the piece, waiting for window as long as it takes.
    ///
    /// # Errors
    /// The session is over.
    pub(super) async fn send(self, half: &ChannelWriteHalf<Msg>) -> Result<(), russh::Error> {
        match self {
            Self::Packets(bytes) => half.data_bytes(bytes).await,
            Self::Line(bytes) => half.extended_data_bytes(STDERR, bytes).await,
            Self::End { exit_status } => {
                half.exit_status(exit_status).await?;
                half.eof().await?;
                half.close().await
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Packets(bytes) | Self::Line(bytes) => bytes.len(),
            Self::End { .. } => 0,
        }
    }
}

/// A line as the client's terminal gets it.
pub(super) fn stderr_line(line: &str) -> Bytes {
    format!("sallyport: {}\r\n", ascii_line(line, LINE_BYTES_MAX)).into()
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
mod tests {
    use super::*;

    fn rest_of(outbox: &mut Outbox) -> Vec<Piece> {
        std::iter::from_fn(|| outbox.next()).collect()
    }

    #[test]
    fn pieces_leave_in_the_order_they_came_in_and_bytes_are_counted() {
        let mut outbox = Outbox::default();
        outbox.packets(vec![1, 2, 3]);
        outbox.packets(Vec::new());
        outbox.line("ACCEPTED a.csv");
        outbox.end(0);
        assert_eq!(outbox.bytes(), 3 + "sallyport: ACCEPTED a.csv\r\n".len());
        assert_eq!(
            rest_of(&mut outbox),
            [
                Piece::Packets(vec![1, 2, 3].into()),
                Piece::Line("sallyport: ACCEPTED a.csv\r\n".into()),
                Piece::End { exit_status: 0 },
            ]
        );
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn only_one_sends_and_it_goes_on_while_there_is_something() {
        let mut outbox = Outbox::default();
        assert!(!outbox.begin(), "nothing to send");
        outbox.packets(vec![1]);
        assert!(outbox.begin());
        outbox.packets(vec![2]);
        assert!(!outbox.begin(), "somebody sends already");
        assert!(outbox.next().is_some());
        assert!(!outbox.rest(), "one piece is left");
        assert!(outbox.next().is_some());
        assert!(outbox.rest());
        outbox.packets(vec![3]);
        assert!(outbox.begin());
    }

    #[test]
    fn nothing_is_queued_after_the_end_or_a_hang_up() {
        let mut outbox = Outbox::default();
        outbox.end(0);
        outbox.packets(vec![1]);
        outbox.end(1);
        assert_eq!(rest_of(&mut outbox), [Piece::End { exit_status: 0 }]);

        let mut outbox = Outbox::default();
        outbox.packets(vec![1]);
        outbox.hang_up();
        outbox.packets(vec![2]);
        assert!(outbox.is_gone() && outbox.bytes() == 0 && !outbox.begin());
    }

    #[test]
    fn a_channel_has_its_share_of_lines_and_no_more() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.line(&"x".repeat(1000));
        }
        let lines = rest_of(&mut outbox);
        let bytes: usize = lines.iter().map(Piece::len).sum();
        assert!(bytes <= limits::STDERR_BYTES_MAX);
        assert_eq!(lines.len(), limits::STDERR_BYTES_MAX / (400 + 13));
    }

    #[test]
    fn a_line_cannot_drive_a_terminal() {
        assert_eq!(
            &stderr_line("a\r\n\u{1b}[2J")[..],
            br"sallyport: a\r\n\u{1b}[2J"
                .iter()
                .chain(b"\r\n")
                .copied()
                .collect::<Vec<_>>()
        );
    }

    #[tokio::test]
    async fn a_hang_up_stops_who_waits_for_window() {
        let mut outbox = Outbox::default();
        outbox.packets(vec![1]);
        assert!(outbox.begin());
        let waiting = tokio::spawn(std::future::pending::<()>());
        outbox.driven_by(waiting.abort_handle());
        outbox.hang_up();
        assert!(waiting.await.is_err_and(|e| e.is_cancelled()));

        let late = tokio::spawn(std::future::pending::<()>());
        outbox.driven_by(late.abort_handle());
        assert!(late.await.is_err_and(|e| e.is_cancelled()));
    }
}
