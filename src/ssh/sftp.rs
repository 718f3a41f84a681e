//! One SFTP channel: slices in, replies out.
//!
//! Everything that needs no waiting is done inside russh's `data` callback, above all WRITE. What
//! has to wait (the ledger, a verdict, the disk) goes to the channel's lane and runs in tasks of
//! its own, so that a CLOSE waiting for its verdict holds up neither the connection nor the
//! channel. A callback never waits: requests, replies and stderr lines are all bounded, and a
//! client that runs over a bound loses its channel.
//!
//! Nothing about partners, names or files is decided here; that is authority's and intake's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::runtime;
use tokio::time::{Instant, sleep};

use crate::authority::permit::UploadPermit;
use crate::authority::{Identity, Refused};
use crate::depot::object::Object;
use crate::intake::listing::{Cursor, Page};
use crate::intake::submission::{PendingSize, PendingSync, Submission};
use crate::intake::view::{Attributes, Entry, EntryKind, Fetched};
use crate::intake::{self, Opening, Refusal, RefusalKind, Told};
use crate::ledger::submissions::Origin;
use crate::ssh::Services;
use crate::ssh::lane::{Claim, Lane, Ticket};
use crate::ssh::outbox::{Outbox, Post, Sender, kick};
use crate::ssh::quota::{OpenFiles, Place, Purpose, Waiting};
use crate::ssh::readahead::{Found, Window};
use crate::ssh::session::{Caller, Desk, Pulse};
use crate::telemetry::Limit;
use crate::terms::digest::Digest;
use crate::terms::limits;
use crate::terms::path::VirtualPath;
use crate::wire::sftp::{
    Attrs, Fatal, FileRef, Names, Op, OpenFlags, Parser, Permit, Request, Sink, Status, Volume,
    long_name, put_attrs, put_check_file, put_data, put_handle, put_limits, put_path, put_status,
    put_version, put_volume,
};

/// A running SFTP channel. Dropped, it hangs up.
pub(super) struct FileChannel {
    parser: Parser,
    writing: Option<Writing>,
    desk: Arc<FileDesk>,
}

/// The part of a channel its tasks share with its callbacks.
pub(super) struct FileDesk {
    services: Arc<Services>,
    who: Identity,
    origin: Origin,
    /// What the connection has open.
    files: Arc<OpenFiles>,
    pulse: Arc<Pulse>,
    /// Its queue is locked after `state` when both are needed.
    post: Post,
    state: Mutex<State>,
}

/// The channel cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// The client sends requests faster than it takes replies.
    #[error("more than {0} requests or replies wait on one SFTP channel")]
    Overrun(usize),
    /// The stream of packets is lost.
    #[error(transparent)]
    Unreadable(#[from] Fatal),
}

struct State {
    handles: HashMap<u32, Open>,
    last_handle: u32,
    lane: Lane<Job>,
    /// READ and READDIR waiting until replies before them are sent.
    parked: VecDeque<Parked>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client may ask for more.
    Talking,
    /// The client has ended its side; what it asked for is finished first.
    Ended { exit_status: u32 },
    /// Our end of the channel is on its way.
    Closing,
    /// There is no client any more.
    Gone,
}

/// What a handle stands for.
enum Open {
    /// A file being read: whole, in memory.
    Contents(
        Bytes,
        #[expect(dead_code, reason = "counts while it lives")] Place,
    ),
    /// What is left of a listing.
    Folder(Box<Listing>),
    /// A file of the outbox being read.
    Download(Box<Download>),
    /// A file being sent.
    Upload(Box<Upload>),
    /// A file that was refused for good before its CLOSE: it is settled already, or is about to
    /// be, and its CLOSE gets the verdict.
    Condemned(Condemned),
}

struct Listing {
    path: VirtualPath,
    entries: VecDeque<Entry>,
    next: Option<Cursor>,
    /// The next page is on its way.
    is_fetching: bool,
    failed: Option<Refusal>,
    #[expect(dead_code, reason = "counts while it lives")]
    place: Place,
}

struct Download {
    object: Object,
    window: Window,
    #[expect(dead_code, reason = "counts while it lives")]
    place: Place,
}

struct Condemned {
    name: String,
    verdict: Option<Refusal>,
    /// Its CLOSE waits for the verdict.
    is_closing: bool,
    /// Counts as a handle from the verdict on; until then its upload does.
    place: Option<Place>,
}

struct Upload {
    submission: Submission,
    /// Last part of the path.
    name: String,
    tally: Tally,
    /// Kept until the CLOSE has its answer: until then the upload takes memory.
    place: Place,
}

/// What the client has been told on stderr about one file.
struct Tally {
    lines_left: usize,
    said: Option<String>,
}

/// A WRITE whose payload is arriving.
struct Writing {
    id: u32,
    handle: u32,
    offset: u64,
    outcome: Result<(), (Status, String)>,
}

#[derive(Clone, Copy)]
struct Parked {
    id: u32,
    handle: u32,
    want: Want,
}

#[derive(Clone, Copy)]
enum Want {
    Bytes {
        offset: u64,
        bytes: u32,
    },
    /// CLOSE, behind what was asked of the handle before.
    End,
    Names,
}

/// Work for the lane.
enum Job {
    Ask {
        id: u32,
        op: &'static Op,
        work: Work,
        /// What it counts for while it waits; a CLOSE was paid for by its OPEN.
        #[expect(dead_code, reason = "counts while it lives")]
        waiting: Option<Waiting>,
    },
    /// Nobody waits for an answer.
    Unasked(Work),
    Hello,
}

enum Work {
    CheckFile(VirtualPath, Vec<u8>),
    Close(Box<Upload>),
    /// Settles what a WRITE has condemned; nobody asked for it.
    Condemn(u32, Box<Upload>),
    Fetch(VirtualPath, Place),
    List(VirtualPath, Place),
    Open {
        permit: Box<UploadPermit>,
        opening: Opening,
        name: String,
        place: Place,
    },
    MakeFolder(VirtualPath),
    Remove(VirtualPath),
    RemoveFolder(VirtualPath),
    Rename {
        from: VirtualPath,
        to: VirtualPath,
    },
    SetSize(PendingSize),
    Stat(VirtualPath),
    Sync(PendingSync),
    Touch {
        path: VirtualPath,
        mtime: Option<i64>,
        bytes: Option<u64>,
    },
    /// The verdict of a condemned file, for its CLOSE.
    Verdict(u32),
}

/// How work ended.
enum Outcome {
    Attributes(Attributes),
    Condemned(u32, Refusal, Option<Place>),
    Digest(Digest),
    Done { told: Told, tally: Tally },
    Lines(Vec<String>),
    Opened(Open),
    Refused { refusal: Refusal, tally: Tally },
    Verdict(u32),
}

/// One job in a task; settles the books however the task ends.
struct Running {
    desk: Arc<FileDesk>,
    ticket: Ticket,
    ask: Option<(u32, &'static Op)>,
    settled: bool,
}

/// One callback: the parser's sink.
struct Turn<'t> {
    desk: &'t Arc<FileDesk>,
    state: &'t mut State,
    writing: &'t mut Option<Writing>,
    replies: Vec<u8>,
    overrun: bool,
}

/// Queued replies past which the channel is closed, bytes: READs are parked long before, so only
/// a client that ignores the answers to its other requests gets here.
const OUTPUT_BYTES_CLOSE: usize = 4 * limits::SFTP_OUTPUT_BYTES_MAX;

const CONDEMNED: &str = "the file was refused; its receipt says why";
const TOO_MANY_OPEN: &str = "too many files open at once; close some first";

const REGULAR_FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

// === impl FileChannel ===

impl FileChannel {
    /// Starts serving; the first thing the client gets are the lines of `intake.hello`.
    pub(super) fn start(
        services: Arc<Services>,
        caller: Caller,
        half: ChannelWriteHalf<Msg>,
    ) -> Self {
        let Caller {
            who,
            origin,
            files,
            pulse,
        } = caller;
        let desk = Arc::new(FileDesk {
            services,
            who,
            origin,
            files,
            pulse,
            post: Post::new(half),
            state: Mutex::new(State::default()),
        });
        let mut state = desk.state();
        state.lane.push(Claim::default(), Job::Hello);
        desk.advance(&mut state);
        drop(state);
        Self {
            parser: Parser::default(),
            writing: None,
            desk,
        }
    }

    /// For who wants to know whether the channel is busy.
    pub(super) fn desk(&self) -> &Arc<FileDesk> {
        &self.desk
    }

    /// Takes what the client sent.
    ///
    /// # Errors
    /// [`Broken`]: the caller closes the channel or the connection.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<(), Broken> {
        let mut state = self.desk.state();
        if state.phase != Phase::Talking {
            return Ok(());
        }
        let mut turn = Turn {
            desk: &self.desk,
            state: &mut state,
            writing: &mut self.writing,
            replies: Vec::new(),
            overrun: false,
        };
        let fed = self.parser.feed(data, &mut turn);
        let (replies, overrun) = (turn.replies, turn.overrun);
        let waiting = {
            let mut outbox = self.desk.outbox();
            outbox.packets(replies);
            outbox.bytes()
        };
        self.desk.advance(&mut state);
        drop(state);
        kick(&self.desk);
        fed?;
        if overrun {
            return Err(Broken::Overrun(limits::SFTP_PENDING_MAX));
        }
        if waiting > OUTPUT_BYTES_CLOSE {
            return Err(Broken::Overrun(OUTPUT_BYTES_CLOSE));
        }
        Ok(())
    }

    /// The client sends no more. What it asked for is finished, then the channel is closed; what
    /// it did not CLOSE is interrupted.
    pub(super) fn end(&mut self) {
        let exit_status = u32::from(!self.parser.is_between_packets());
        let mut state = self.desk.state();
        if state.phase != Phase::Talking {
            return;
        }
        state.phase = Phase::Ended { exit_status };
        let uploads = state.take_uploads();
        self.desk.advance(&mut state);
        drop(state);
        drop(uploads);
        kick(&self.desk);
    }
}

impl Drop for FileChannel {
    fn drop(&mut self) {
        self.desk.hang_up();
    }
}

// === impl FileDesk ===

impl FileDesk {
    /// Our end of the channel is closed, or the client is gone.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state().phase, Phase::Gone)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside a callback ends the session; its channels still have to hang up.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.post.outbox()
    }

    /// Starts what may run, and ends the channel when everything the client asked for is done.
    fn advance(self: &Arc<Self>, state: &mut State) {
        // Without a runtime there is nobody to run anything: the process is ending.
        if let Ok(runtime) = runtime::Handle::try_current() {
            while let Some((ticket, job)) = state.lane.start() {
                let running = Running::new(Arc::clone(self), ticket, &job);
                runtime.spawn(running.run(job));
            }
        }
        if let Phase::Ended { exit_status } = state.phase
            && state.lane.len() == 0
            && state.parked.is_empty()
        {
            state.phase = Phase::Closing;
            self.outbox().end(exit_status);
        }
    }

    /// Answers parked requests as far as the output bound allows.
    fn unpark(self: &Arc<Self>) {
        let mut state = self.state();
        let mut replies = Vec::new();
        while self.has_room(&replies)
            && let Some(parked) = state.parked.front().copied()
        {
            if !self.answer(&mut state, &parked, &mut replies) {
                break;
            }
            state.parked.pop_front();
        }
        self.outbox().packets(replies);
        self.advance(&mut state);
    }

    fn has_room(&self, replies: &[u8]) -> bool {
        self.outbox().bytes() + replies.len() <= limits::SFTP_OUTPUT_BYTES_MAX
    }

    /// Answers a READ or READDIR; false when what it wants is still on its way.
    fn answer(self: &Arc<Self>, state: &mut State, parked: &Parked, out: &mut Vec<u8>) -> bool {
        let (id, handle) = (parked.id, parked.handle);
        match (state.handles.get_mut(&handle), parked.want) {
            (Some(_), Want::End) => {
                let closed = state.handles.remove(&handle);
                put_status(out, id, Status::Ok, "Success");
                drop(closed);
            }
            (Some(Open::Contents(contents, _)), Want::Bytes { offset, bytes }) => {
                match part_of(contents, offset, bytes) {
                    Some(part) => put_data(out, id, part),
                    None => put_status(out, id, Status::Eof, "End of file"),
                }
            }
            (Some(Open::Download(download)), Want::Bytes { offset, bytes }) => {
                let most = bytes.min(limits::SFTP_READ_BYTES_MAX);
                let found = download.window.read(offset, u64::from(most));
                self.read_ahead(handle, download);
                match found {
                    Found::Here(part) => put_data(out, id, &part),
                    Found::End => put_status(out, id, Status::Eof, "End of file"),
                    Found::Failed(why) => put_status(out, id, Status::Failure, &why),
                    Found::NotYet => return false,
                }
            }
            (Some(Open::Folder(listing)), Want::Names) => {
                if let Some(refusal) = &listing.failed {
                    put_status(out, id, status_of(refusal.kind), &refusal.text);
                } else if !listing.entries.is_empty() {
                    self.put_names(out, id, &mut listing.entries);
                    self.turn_page(handle, listing);
                } else if listing.next.is_some() || listing.is_fetching {
                    self.turn_page(handle, listing);
                    return false;
                } else {
                    put_status(out, id, Status::Eof, "End of folder");
                }
            }
            (Some(Open::Upload(_) | Open::Condemned(_)), Want::Bytes { .. }) => {
                put_status(out, id, Status::PermissionDenied, "inbox is write-only");
            }
            (Some(_), _) => put_status(out, id, Status::Failure, "wrong kind of handle"),
            (None, _) => put_status(out, id, Status::Failure, "unknown handle"),
        }
        true
    }

    /// Fetches the next piece of a download, unless there is enough.
    fn read_ahead(self: &Arc<Self>, handle: u32, download: &mut Download) {
        let Ok(runtime) = runtime::Handle::try_current() else {
            return;
        };
        let Some((offset, bytes)) = download.window.wants() else {
            return;
        };
        let (desk, object) = (Arc::clone(self), download.object.clone());
        runtime.spawn(async move {
            let piece = object.read_at(offset, bytes).await;
            let piece = piece.map_err(|fault| intake::unreachable(&fault).text);
            {
                let mut state = desk.state();
                let Some(Open::Download(download)) = state.handles.get_mut(&handle) else {
                    return;
                };
                download.window.arrived(offset, piece);
                desk.read_ahead(handle, download);
            }
            desk.unpark();
            kick(&desk);
        });
    }

    /// Fetches the next page of a listing when the last one is nearly told.
    fn turn_page(self: &Arc<Self>, handle: u32, listing: &mut Listing) {
        if listing.is_fetching || !listing.entries.is_empty() {
            return;
        }
        let (Some(next), Ok(runtime)) = (listing.next.take(), runtime::Handle::try_current())
        else {
            return;
        };
        listing.is_fetching = true;
        let (desk, path) = (Arc::clone(self), listing.path.clone());
        runtime.spawn(async move {
            let page = Box::pin(desk.services.intake.list(&desk.who, &path, Some(next))).await;
            {
                let mut state = desk.state();
                let Some(Open::Folder(listing)) = state.handles.get_mut(&handle) else {
                    return;
                };
                listing.is_fetching = false;
                match page {
                    Ok(page) => {
                        listing.entries = page.entries.into();
                        listing.next = page.next;
                        // A page of which nothing is shown: on to the next.
                        desk.turn_page(handle, listing);
                    }
                    Err(refusal) => listing.failed = Some(refusal),
                }
            }
            desk.unpark();
            kick(&desk);
        });
    }

    /// A NAME reply with as many entries as fit into one modest packet.
    fn put_names(&self, out: &mut Vec<u8>, id: u32, entries: &mut VecDeque<Entry>) {
        // Two lengths, flags, size, permissions, times.
        const ENTRY_OVERHEAD_BYTES: usize = 4 + 4 + 4 + 8 + 4 + 8;
        let now_secs = self.services.clock.now().as_secs();
        let mut names = Names::begin(out, id);
        let most = limits::SFTP_NAMES_BYTES_MAX;
        let mut first = true;
        while let Some(entry) = entries.front() {
            let attrs = attrs_of(&entry.attributes);
            let long = long_name(&entry.name, self.who.partner.as_str(), &attrs, now_secs);
            let bytes = ENTRY_OVERHEAD_BYTES + entry.name.len() + long.len();
            if !first && names.bytes() + bytes > most {
                break;
            }
            names.push(&entry.name, &long, &attrs);
            first = false;
            entries.pop_front();
        }
        names.finish();
    }
}

impl Desk for FileDesk {
    /// An upload, a request, a reply.
    fn is_busy(&self) -> bool {
        let state = self.state();
        state.lane.len() > 0
            || !state.parked.is_empty()
            || state.handles.values().any(Open::is_upload)
            || self.outbox().bytes() > 0
    }

    fn is_awaited(&self) -> bool {
        let state = self.state();
        state.lane.len() > 0 || !state.parked.is_empty()
    }
}

impl Sender for FileDesk {
    fn post(&self) -> &Post {
        &self.post
    }

    fn drained(self: &Arc<Self>) {
        self.unpark();
    }

    /// Nobody is there any more. Uploads become interrupted; a CLOSE, RENAME or other change that
    /// was received goes on to its end.
    fn hang_up(self: &Arc<Self>) {
        let mut state = self.state();
        state.phase = Phase::Gone;
        let handles = std::mem::take(&mut state.handles);
        state.parked.clear();
        state.lane.retain(Job::outlives_its_client);
        self.outbox().hang_up();
        self.advance(&mut state);
        drop(state);
        // Dropping a submission may write to disk: not under the lock.
        drop(handles);
    }
}

// === impl State ===

impl Default for State {
    fn default() -> Self {
        Self {
            handles: HashMap::new(),
            last_handle: 0,
            lane: Lane::default(),
            parked: VecDeque::new(),
            phase: Phase::Talking,
        }
    }
}

impl State {
    /// A handle for `open`; `None` when the client is no longer there to use it.
    fn admit(&mut self, open: Open) -> Option<[u8; 4]> {
        if self.phase != Phase::Talking {
            return None;
        }
        // Numbers are reused only after four thousand million others.
        loop {
            self.last_handle = self.last_handle.wrapping_add(1);
            if !self.handles.contains_key(&self.last_handle) {
                break;
            }
        }
        self.handles.insert(self.last_handle, open);
        Some(self.last_handle.to_be_bytes())
    }

    /// Takes away every handle that an end of the channel interrupts.
    fn take_uploads(&mut self) -> Vec<Open> {
        self.handles
            .extract_if(|_, open| open.is_upload())
            .map(|(_, open)| open)
            .collect()
    }
}

// === impl Open ===

impl Open {
    fn is_upload(&self) -> bool {
        match self {
            Self::Upload(_) => true,
            Self::Contents(..) | Self::Folder(_) | Self::Download(_) | Self::Condemned(_) => false,
        }
    }
}

// === impl Tally ===

impl Default for Tally {
    fn default() -> Self {
        Self {
            lines_left: limits::STDERR_LINES_MAX,
            said: None,
        }
    }
}

impl Tally {
    fn tell(&mut self, outbox: &mut Outbox, lines: &[String]) {
        for line in lines.iter().take(self.lines_left) {
            outbox.line(line);
        }
        self.lines_left = self.lines_left.saturating_sub(lines.len());
    }

    /// Says on stderr why a request was refused, once. That something is not there is news only when
    /// there is more to say about it: clients ask before they send.
    fn refuse(&mut self, outbox: &mut Outbox, refusal: &Refusal, mutates: bool) {
        if self.said.as_ref() == Some(&refusal.text) {
            return;
        }
        if !refusal.lines.is_empty() {
            self.tell(outbox, &refusal.lines);
        } else if mutates && refusal.kind != RefusalKind::NoSuchFile {
            self.tell(outbox, std::slice::from_ref(&refusal.text));
        } else {
            return;
        }
        self.said = Some(refusal.text.clone());
    }
}

// === impl Job ===

impl Job {
    /// A change the client asked for is made even when the client does not wait for the answer.
    fn outlives_its_client(&self) -> bool {
        match self {
            Self::Hello => false,
            Self::Unasked(work) | Self::Ask { work, .. } => match work {
                Work::Close(_)
                | Work::Condemn(..)
                | Work::MakeFolder(_)
                | Work::Remove(_)
                | Work::RemoveFolder(_)
                | Work::Rename { .. }
                | Work::Touch { .. } => true,
                Work::CheckFile(..)
                | Work::Verdict(_)
                | Work::Fetch(..)
                | Work::List(..)
                | Work::Open { .. }
                | Work::SetSize(_)
                | Work::Stat(_)
                | Work::Sync(_) => false,
            },
        }
    }

    async fn perform(self, desk: &FileDesk) -> Outcome {
        match self {
            Self::Hello => Outcome::Lines(desk.services.intake.hello(&desk.who).await),
            Self::Unasked(work) | Self::Ask { work, .. } => work.perform(desk).await,
        }
    }
}

// === impl Work ===

impl Work {
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of work")]
    async fn perform(self, desk: &FileDesk) -> Outcome {
        let intake = &desk.services.intake;
        let who = &desk.who;
        let done = |result: Result<Told, Refusal>, tally| match result {
            Ok(told) => Outcome::Done { told, tally },
            Err(refusal) => Outcome::Refused { refusal, tally },
        };
        let refused = |refusal| Outcome::Refused {
            refusal,
            tally: Tally::default(),
        };
        match self {
            Self::Close(upload) => {
                let Upload {
                    submission,
                    name: _,
                    tally,
                    place,
                } = *upload;
                let closed = Box::pin(submission.close()).await;
                // Before the answer: who has it may open the next file.
                drop(place);
                done(closed, tally)
            }
            Self::CheckFile(path, wanted) => match Box::pin(intake.digest(who, &path)).await {
                Ok(digest) if is_among(digest.kind.name(), &wanted) => Outcome::Digest(digest),
                Ok(digest) => {
                    let text = format!("only {} was taken when it arrived", digest.kind.name());
                    refused(Refusal::new(RefusalKind::Unsupported, text))
                }
                Err(refusal) => refused(refusal),
            },
            Self::Condemn(handle, upload) => {
                let Upload {
                    submission, place, ..
                } = *upload;
                let closed = Box::pin(submission.close()).await;
                // It cannot have been accepted: the WRITE that was refused is remembered.
                let verdict = closed.err().unwrap_or_else(internal_error);
                Outcome::Condemned(handle, verdict, place.turn_into(Purpose::Reading))
            }
            Self::Verdict(handle) => Outcome::Verdict(handle),
            Self::MakeFolder(path) => {
                let made = Box::pin(intake.make_folder(who, &path)).await;
                done(made.map(|()| Told::default()), Tally::default())
            }
            Self::RemoveFolder(path) => {
                let removed = Box::pin(intake.remove_folder(who, &path)).await;
                done(removed.map(|()| Told::default()), Tally::default())
            }
            Self::Fetch(path, place) => match Box::pin(intake.fetch(who, &path)).await {
                Ok(Fetched::Whole(contents)) => Outcome::Opened(Open::Contents(contents, place)),
                Ok(Fetched::Object(object)) => {
                    let Some(place) = place.turn_into(Purpose::Downloading) else {
                        desk.services.metrics.limit_reached(Limit::Handles);
                        return refused(Refusal::new(RefusalKind::Failure, TOO_MANY_OPEN));
                    };
                    let window = Window::new(object.facts.bytes);
                    Outcome::Opened(Open::Download(Box::new(Download {
                        object,
                        window,
                        place,
                    })))
                }
                Err(refusal) => refused(refusal),
            },
            Self::List(path, place) => match Box::pin(intake.list(who, &path, None)).await {
                Ok(Page { entries, next }) => Outcome::Opened(Open::Folder(Box::new(Listing {
                    path,
                    entries: entries.into(),
                    next,
                    is_fetching: false,
                    failed: None,
                    place,
                }))),
                Err(refusal) => refused(refusal),
            },
            Self::Open {
                permit,
                opening,
                name,
                place,
            } => {
                let per_sec = desk.services.authority.files_per_sec(&desk.who);
                let wait = desk.files.pace(per_sec, Instant::now());
                if !wait.is_zero() {
                    desk.services.metrics.limit_reached(Limit::FilesRate);
                    sleep(wait).await;
                }
                let (origin, peer) = (desk.origin.clone(), Arc::clone(&desk.pulse));
                match Box::pin(intake.open(*permit, opening, origin, peer)).await {
                    Ok(submission) => Outcome::Opened(Open::Upload(Box::new(Upload {
                        submission,
                        name,
                        tally: Tally::default(),
                        place,
                    }))),
                    Err(refusal) => refused(refusal),
                }
            }
            Self::Remove(path) => {
                let removed = Box::pin(intake.remove(who, &path)).await;
                done(removed.map(|()| Told::default()), Tally::default())
            }
            Self::Rename { from, to } => {
                let origin = desk.origin.clone();
                let renamed = Box::pin(intake.rename(who, &from, &to, origin)).await;
                done(renamed, Tally::default())
            }
            Self::Stat(path) => match Box::pin(intake.stat(who, &path)).await {
                Ok(attributes) => Outcome::Attributes(attributes),
                Err(refusal) => refused(refusal),
            },
            Self::SetSize(pending) => {
                let known = Box::pin(pending.finish()).await;
                done(known.map(|()| Told::default()), Tally::default())
            }
            Self::Sync(pending) => {
                let synced = Box::pin(pending.finish()).await;
                done(synced.map(|()| Told::default()), Tally::default())
            }
            Self::Touch { path, mtime, bytes } => {
                let touched = Box::pin(intake.touch(who, &path, mtime, bytes)).await;
                done(touched.map(|()| Told::default()), Tally::default())
            }
        }
    }
}

impl Work {
    /// What its paths take.
    fn path_bytes(&self) -> usize {
        match self {
            Self::CheckFile(path, wanted) => path.as_str().len() + wanted.len(),
            Self::Fetch(path, _)
            | Self::List(path, _)
            | Self::MakeFolder(path)
            | Self::Remove(path)
            | Self::RemoveFolder(path)
            | Self::Stat(path)
            | Self::Touch { path, .. } => path.as_str().len(),
            Self::Rename { from, to } => from.as_str().len() + to.as_str().len(),
            // Its permit has the path.
            Self::Open { .. } => limits::PATH_BYTES_MAX,
            Self::Close(_)
            | Self::Condemn(..)
            | Self::SetSize(_)
            | Self::Sync(_)
            | Self::Verdict(_) => 0,
        }
    }
}

// === impl Running ===

impl Running {
    fn new(desk: Arc<FileDesk>, ticket: Ticket, job: &Job) -> Self {
        let ask = match job {
            Job::Hello | Job::Unasked(_) => None,
            Job::Ask { id, op, .. } => Some((*id, *op)),
        };
        Self {
            desk,
            ticket,
            ask,
            settled: false,
        }
    }

    async fn run(mut self, job: Job) {
        let outcome = job.perform(&self.desk).await;
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        self.settled = true;
        let desk = Arc::clone(&self.desk);
        let mut state = desk.state();
        let mut replies = Vec::new();
        let leftover = self.book(&mut state, outcome, &mut replies);
        desk.outbox().packets(replies);
        state.lane.finish(self.ticket);
        desk.advance(&mut state);
        drop(state);
        drop(leftover);
        kick(&desk);
    }

    /// Writes the outcome into the books and the reply. What has no place any more is returned, to
    /// be dropped without the lock.
    fn book(&self, state: &mut State, outcome: Outcome, replies: &mut Vec<u8>) -> Option<Open> {
        let Some((id, op)) = self.ask else {
            if let Outcome::Lines(lines) = outcome {
                Tally::default().tell(&mut self.desk.outbox(), &lines);
            } else if let Outcome::Condemned(handle, refusal, place) = outcome {
                // One line was said at the WRITE; here is the rest.
                let lines = refusal.lines.as_slice();
                Tally::default().tell(&mut self.desk.outbox(), lines);
                if let Some(Open::Condemned(condemned)) = state.handles.get_mut(&handle) {
                    condemned.verdict = Some(refusal);
                    condemned.place = place;
                }
            }
            return None;
        };
        match outcome {
            Outcome::Digest(digest) => {
                put_check_file(replies, id, digest.kind.name(), &digest.bytes);
            }
            Outcome::Verdict(handle) => {
                let refusal = match state.handles.remove(&handle) {
                    Some(Open::Condemned(Condemned { verdict, .. })) => verdict,
                    _ => None,
                };
                let refusal = refusal.unwrap_or_else(internal_error);
                put_status(replies, id, status_of(refusal.kind), &refusal.text);
            }
            Outcome::Attributes(attributes) => put_attrs(replies, id, &attrs_of(&attributes)),
            Outcome::Done { told, mut tally } => {
                tally.tell(&mut self.desk.outbox(), &told.lines);
                put_status(replies, id, Status::Ok, "Success");
            }
            // Answers to nobody.
            Outcome::Condemned(..) | Outcome::Lines(_) => {}
            Outcome::Opened(open) if state.phase == Phase::Talking => {
                if let Some(handle) = state.admit(open) {
                    put_handle(replies, id, &handle);
                }
            }
            Outcome::Opened(open) => {
                put_status(replies, id, Status::Failure, "the channel has ended");
                return Some(open);
            }
            Outcome::Refused { refusal, mut tally } => {
                tally.refuse(&mut self.desk.outbox(), &refusal, op.mutates);
                put_status(replies, id, status_of(refusal.kind), &refusal.text);
            }
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A panic below, or the end of the process: the client must not wait for ever, nor the
        // requests behind this one.
        if !self.settled {
            self.settle(Outcome::Refused {
                refusal: internal_error(),
                tally: Tally::default(),
            });
        }
    }
}

fn internal_error() -> Refusal {
    Refusal {
        kind: RefusalKind::Failure,
        text: "TRY LATER internal error: nothing is wrong with your file".to_owned(),
        lines: Vec::new(),
    }
}

// === impl Turn ===

impl Turn<'_> {
    fn status(&mut self, id: u32, status: Status, text: &str) {
        put_status(&mut self.replies, id, status, text);
    }

    fn refuse(&mut self, id: u32, op: &Op, refusal: &Refusal) {
        Tally::default().refuse(&mut self.desk.outbox(), refusal, op.mutates);
        self.status(id, status_of(refusal.kind), &refusal.text);
    }

    fn is_full(&mut self) -> bool {
        let pending = self.state.lane.len() + self.state.parked.len();
        self.overrun |= pending >= limits::SFTP_PENDING_MAX;
        self.overrun
    }

    fn ask(&mut self, id: u32, op: &'static Op, claim: Claim, work: Work) {
        let bytes = limits::SFTP_WAITING_REQUEST_BYTES + work.path_bytes();
        let waiting = self.desk.files.wait(bytes);
        self.overrun |= waiting.is_none();
        if !self.is_full() {
            let job = Job::Ask {
                id,
                op,
                work,
                waiting,
            };
            self.state.lane.push(claim, job);
        }
    }

    /// Answers a READ or READDIR, now or when there is room for the answer.
    fn want(&mut self, id: u32, handle: &[u8], want: Want) {
        let Some(handle) = number_of(handle) else {
            return self.status(id, Status::Failure, "unknown handle");
        };
        if let Some(Open::Upload(_) | Open::Condemned(_)) = self.state.handles.get(&handle) {
            // It never waits: what waits for a handle would hold up its CLOSE.
            return self.status(id, Status::PermissionDenied, "this handle is for writing");
        }
        let parked = Parked { id, handle, want };
        let may_go = self.state.parked.is_empty() && self.desk.has_room(&self.replies);
        if may_go && self.desk.answer(self.state, &parked, &mut self.replies) {
            return;
        }
        if !self.is_full() {
            self.state.parked.push_back(parked);
        }
    }

    /// The path in its one form, or an answer that says why there is none.
    fn path(&mut self, id: u32, op: &Op, raw: &[u8]) -> Option<VirtualPath> {
        match VirtualPath::parse(raw) {
            Ok(path) => Some(path),
            Err(why) => {
                let refusal = Refusal::new(RefusalKind::Failure, why.to_string());
                self.refuse(id, op, &refusal);
                None
            }
        }
    }

    /// A place for one more handle, or an answer that says why there is none.
    fn place(&mut self, id: u32, purpose: Purpose) -> Option<Place> {
        let place = self.desk.files.take(purpose);
        if place.is_none() {
            let metrics = &self.desk.services.metrics;
            metrics.limit_reached(Limit::Handles);
            self.status(id, Status::Failure, TOO_MANY_OPEN);
        }
        place
    }

    fn open(
        &mut self,
        id: u32,
        op: &'static Op,
        path: VirtualPath,
        flags: OpenFlags,
        attrs: &Attrs,
    ) {
        let writes = flags.writes();
        let purpose = if writes {
            Purpose::Uploading
        } else {
            Purpose::Reading
        };
        let Some(place) = self.place(id, purpose) else {
            return;
        };
        if !writes {
            let claim = look(&path);
            return self.ask(id, op, claim, Work::Fetch(path, place));
        }
        if *self.desk.services.stopping.borrow() {
            return self.refuse(
                id,
                op,
                &Refusal {
                    kind: RefusalKind::Failure,
                    text: "TRY LATER gateway-full: the gateway is about to restart; nothing is \
                           wrong with your file"
                        .to_owned(),
                    lines: Vec::new(),
                },
            );
        }
        match self.desk.services.authority.may_open(&self.desk.who, &path) {
            Err(refused) => self.refuse(id, op, &refusal_of(refused)),
            Ok(permit) => {
                let opening = Opening {
                    truncate: flags.truncates(),
                    append: flags.appends(),
                    exclusive: flags.excludes(),
                    create: flags.creates(),
                    declared_bytes: attrs.size,
                };
                let name = path.name().unwrap_or_default().to_owned();
                let work = Work::Open {
                    permit: Box::new(permit),
                    opening,
                    name,
                    place,
                };
                self.ask(id, op, change(&[&path]), work);
            }
        }
    }

    fn close(&mut self, id: u32, op: &'static Op, handle: &[u8]) {
        let Some(number) = number_of(handle) else {
            return self.status(id, Status::Failure, "unknown handle");
        };
        let is_asked = |parked: &Parked| parked.handle == number;
        if self.state.parked.iter().any(is_asked) {
            return self.want(id, handle, Want::End);
        }
        match self.state.handles.remove(&number) {
            None => self.status(id, Status::Failure, "unknown handle"),
            Some(Open::Contents(..) | Open::Folder(_) | Open::Download(_)) => {
                self.status(id, Status::Ok, "Success");
            }
            Some(Open::Condemned(condemned)) if condemned.is_closing => {
                self.state
                    .handles
                    .insert(number, Open::Condemned(condemned));
                self.status(id, Status::Failure, "unknown handle");
            }
            Some(Open::Condemned(mut condemned)) => {
                let claim = change_of(condemned.name.clone());
                condemned.is_closing = true;
                self.state
                    .handles
                    .insert(number, Open::Condemned(condemned));
                let work = Work::Verdict(number);
                self.state.lane.push(
                    claim,
                    Job::Ask {
                        id,
                        op,
                        work,
                        waiting: None,
                    },
                );
            }
            // Even over the bound a CLOSE is taken: it was paid for by its OPEN.
            Some(Open::Upload(upload)) => {
                let claim = change_of(upload.name.clone());
                let work = Work::Close(upload);
                self.state.lane.push(
                    claim,
                    Job::Ask {
                        id,
                        op,
                        work,
                        waiting: None,
                    },
                );
            }
        }
    }

    /// Begins an fsync here and now, so that it covers the WRITEs before it; only its answer waits.
    /// The handle stays as it is, and a CLOSE behind it need not wait: it makes all durable itself.
    fn sync(&mut self, id: u32, op: &'static Op, handle: &[u8]) {
        let open = number_of(handle).and_then(|number| self.state.handles.get_mut(&number));
        match open {
            None => self.status(id, Status::Failure, "unknown handle"),
            Some(Open::Contents(..) | Open::Folder(_) | Open::Download(_)) => {
                self.status(id, Status::Ok, "Success");
            }
            Some(Open::Condemned(_)) => self.status(id, Status::Failure, CONDEMNED),
            Some(Open::Upload(upload)) => match upload.submission.begin_sync() {
                Ok(pending) => self.ask(id, op, Claim::default(), Work::Sync(pending)),
                Err(refusal) => {
                    upload
                        .tally
                        .refuse(&mut self.desk.outbox(), &refusal, op.mutates);
                    self.status(id, status_of(refusal.kind), &refusal.text);
                }
            },
        }
    }

    fn stat_handle(&mut self, id: u32, handle: &[u8]) {
        let open = number_of(handle).and_then(|number| self.state.handles.get(&number));
        let attrs = match open {
            None => return self.status(id, Status::Failure, "unknown handle"),
            Some(Open::Contents(contents, _)) => Attrs {
                size: u64::try_from(contents.len()).ok(),
                permissions: Some(REGULAR_FILE | 0o400),
                ..Attrs::default()
            },
            Some(Open::Download(download)) => Attrs {
                size: Some(download.window.bytes()),
                permissions: Some(REGULAR_FILE | 0o600),
                times: Some(seconds(download.object.facts.modified)).map(|at| (at, at)),
                owner: None,
            },
            Some(Open::Condemned(_)) => {
                return self.status(id, Status::Failure, CONDEMNED);
            }
            Some(Open::Folder(_)) => Attrs {
                size: Some(0),
                permissions: Some(DIRECTORY | 0o700),
                ..Attrs::default()
            },
            Some(Open::Upload(upload)) => Attrs {
                size: Some(upload.submission.bytes()),
                permissions: Some(REGULAR_FILE | 0o600),
                times: upload.submission.mtime().map(seconds).map(|at| (at, at)),
                owner: None,
            },
        };
        put_attrs(&mut self.replies, id, &attrs);
    }

    fn set_handle(&mut self, id: u32, op: &'static Op, handle: &[u8], attrs: &Attrs) {
        let open = number_of(handle).and_then(|number| self.state.handles.get_mut(&number));
        match open {
            None => self.status(id, Status::Failure, "unknown handle"),
            Some(Open::Contents(..) | Open::Folder(_) | Open::Download(_)) => {
                self.status(id, Status::PermissionDenied, "this handle is for reading");
            }
            // Its CLOSE tells; clients set times before that.
            Some(Open::Condemned(_)) => self.status(id, Status::Ok, "Success"),
            Some(Open::Upload(upload)) => {
                if let Some((_, modified)) = attrs.times {
                    upload.submission.set_mtime(i64::from(modified));
                }
                match attrs
                    .size
                    .map_or(Ok(None), |size| upload.submission.set_bytes(size))
                {
                    Ok(None) => self.status(id, Status::Ok, "Success"),
                    Ok(Some(pending)) => {
                        self.ask(id, op, Claim::default(), Work::SetSize(pending));
                    }
                    Err(refusal) => {
                        upload
                            .tally
                            .refuse(&mut self.desk.outbox(), &refusal, op.mutates);
                        self.status(id, status_of(refusal.kind), &refusal.text);
                    }
                }
            }
        }
    }

    /// A fault refuses this file whatever follows: it is settled now. Some clients never CLOSE
    /// after a refused WRITE, and try the same name again.
    fn condemn(&mut self, handle: u32) {
        let Some(Open::Upload(upload)) = self.state.handles.remove(&handle) else {
            return;
        };
        let name = upload.name.clone();
        let condemned = Condemned {
            name: name.clone(),
            verdict: None,
            is_closing: false,
            place: None,
        };
        self.state
            .handles
            .insert(handle, Open::Condemned(condemned));
        let work = Work::Condemn(handle, upload);
        self.state.lane.push(change_of(name), Job::Unasked(work));
    }

    fn volume(&mut self, id: u32, op: &Op) {
        match self.desk.services.intake.quota(&self.desk.who) {
            Ok(quota) => {
                let volume = Volume {
                    bytes: quota.bytes,
                    free: quota.free,
                };
                put_volume(&mut self.replies, id, volume);
            }
            Err(refusal) => self.refuse(id, op, &refusal),
        }
    }

    fn real_path(&mut self, id: u32, op: &Op, raw: &[u8]) {
        let Some(path) = self.path(id, op, raw) else {
            return;
        };
        match self.desk.services.intake.real_path(&self.desk.who, &path) {
            Ok(path) => put_path(&mut self.replies, id, path.as_str()),
            Err(refusal) => self.refuse(id, op, &refusal),
        }
    }
}

impl Sink for Turn<'_> {
    fn init(&mut self, _version: u32) {
        put_version(&mut self.replies);
    }

    fn bad(&mut self, id: u32) {
        // It may have been a WRITE, of whichever file: none that is open can be trusted to be whole.
        for open in self.state.handles.values_mut() {
            if let Open::Upload(upload) = open {
                upload
                    .submission
                    .spoil("a request on this channel could not be decoded; send the file again");
            }
        }
        self.status(id, Status::BadMessage, "this request cannot be decoded");
    }

    fn unsupported(&mut self, id: u32) {
        self.status(id, Status::OpUnsupported, "this request is not known here");
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of request")]
    fn request(&mut self, id: u32, op: &'static Op, request: Request<'_>) {
        if op.permit == Permit::Never {
            let text = format!("{} is not available here", op.name);
            return self.status(id, Status::OpUnsupported, &text);
        }
        match request {
            // Only what was digested when it arrived: one digest of the whole.
            Request::CheckFile {
                file: FileRef::Path(path),
                algorithms,
                offset: 0,
                bytes: 0,
                block_bytes: 0,
            } => {
                if let Some(path) = self.path(id, op, path) {
                    let claim = look(&path);
                    let work = Work::CheckFile(path, algorithms.to_vec());
                    self.ask(id, op, claim, work);
                }
            }
            Request::CheckFile { .. } => {
                let text = "only the digest of a whole file, by its name";
                self.status(id, Status::OpUnsupported, text);
            }
            Request::Close { handle } => self.close(id, op, handle),
            Request::ExpandPath { path } => {
                // `~` is the partner's root, and so is `~anybody`.
                let below = match path.strip_prefix(b"~") {
                    None => path,
                    Some(rest) => rest
                        .iter()
                        .position(|byte| *byte == b'/')
                        .and_then(|slash| rest.get(slash..))
                        .unwrap_or_default(),
                };
                self.real_path(id, op, below);
            }
            Request::FSetStat { handle, attrs } => self.set_handle(id, op, handle, &attrs),
            Request::FStat { handle } => self.stat_handle(id, handle),
            Request::FSync { handle } => self.sync(id, op, handle),
            Request::HomeDirectory { .. } => put_path(&mut self.replies, id, "/"),
            Request::Limits => put_limits(&mut self.replies, id),
            Request::MakeFolder { path } => {
                if let Some(path) = self.path(id, op, path) {
                    self.ask(id, op, change(&[&path]), Work::MakeFolder(path));
                }
            }
            Request::RemoveFolder { path } => {
                if let Some(path) = self.path(id, op, path) {
                    let claim = Claim {
                        looks_at_all: true,
                        ..change(&[&path])
                    };
                    self.ask(id, op, claim, Work::RemoveFolder(path));
                }
            }
            Request::Open { path, flags, attrs } => {
                if let Some(path) = self.path(id, op, path) {
                    self.open(id, op, path, flags, &attrs);
                }
            }
            Request::OpenFolder { path } => {
                if let Some(path) = self.path(id, op, path)
                    && let Some(place) = self.place(id, Purpose::Reading)
                {
                    let claim = Claim {
                        looks_at_all: true,
                        ..Claim::default()
                    };
                    self.ask(id, op, claim, Work::List(path, place));
                }
            }
            Request::Read {
                handle,
                offset,
                bytes,
            } => self.want(id, handle, Want::Bytes { offset, bytes }),
            Request::ReadFolder { handle } => self.want(id, handle, Want::Names),
            Request::RealPath { path } => self.real_path(id, op, path),
            Request::Refused => self.status(id, Status::OpUnsupported, "not available here"),
            Request::Remove { path } => {
                if let Some(path) = self.path(id, op, path) {
                    self.ask(id, op, change(&[&path]), Work::Remove(path));
                }
            }
            Request::Rename { from, to } => {
                if let Some(from) = self.path(id, op, from)
                    && let Some(to) = self.path(id, op, to)
                {
                    let claim = change(&[&from, &to]);
                    self.ask(id, op, claim, Work::Rename { from, to });
                }
            }
            Request::SetStat { path, attrs } => {
                if let Some(path) = self.path(id, op, path) {
                    let mtime = attrs.times.map(|(_, modified)| i64::from(modified));
                    let bytes = attrs.size;
                    self.ask(id, op, change(&[&path]), Work::Touch { path, mtime, bytes });
                }
            }
            Request::StatVfs {
                file: FileRef::Path(path),
            } => {
                if let Some(path) = self.path(id, op, path) {
                    match self.desk.services.intake.real_path(&self.desk.who, &path) {
                        Ok(_) => self.volume(id, op),
                        Err(refusal) => self.refuse(id, op, &refusal),
                    }
                }
            }
            Request::StatVfs {
                file: FileRef::Handle(_),
            } => self.volume(id, op),
            Request::Stat { path } => {
                if let Some(path) = self.path(id, op, path) {
                    self.ask(id, op, look(&path), Work::Stat(path));
                }
            }
        }
    }

    fn write_begin(&mut self, id: u32, handle: &[u8], offset: u64, _bytes: u32) {
        let number = number_of(handle);
        let refused = |status, text: &str| Err((status, text.to_owned()));
        let outcome = match number.and_then(|number| self.state.handles.get(&number)) {
            None => refused(Status::Failure, "unknown handle"),
            Some(Open::Contents(..) | Open::Folder(_) | Open::Download(_)) => {
                refused(Status::PermissionDenied, "this handle is for reading")
            }
            Some(Open::Condemned(_)) => refused(Status::Failure, CONDEMNED),
            // The submission judges every offset itself, so that its CLOSE knows what was refused:
            // one whose end is past 64 bits begins past any file, and falls at the first slice.
            Some(Open::Upload(_)) => Ok(()),
        };
        *self.writing = Some(Writing {
            id,
            handle: number.unwrap_or_default(),
            offset,
            outcome,
        });
    }

    fn write_data(&mut self, data: &[u8]) {
        let Some(writing) = self.writing.as_mut().filter(|w| w.outcome.is_ok()) else {
            return;
        };
        // The channel may have hung up between two slices.
        let Some(Open::Upload(upload)) = self.state.handles.get_mut(&writing.handle) else {
            writing.outcome = Err((Status::Failure, "unknown handle".to_owned()));
            return;
        };
        if let Err(refusal) = upload.submission.write_at(writing.offset, data) {
            let is_condemned = upload.submission.is_condemned();
            upload.tally.refuse(&mut self.desk.outbox(), &refusal, true);
            writing.outcome = Err((status_of(refusal.kind), refusal.text));
            if is_condemned {
                let handle = writing.handle;
                return self.condemn(handle);
            }
        }
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        writing.offset = writing.offset.saturating_add(bytes);
    }

    fn write_end(&mut self) {
        match self.writing.take() {
            Some(Writing {
                id,
                outcome: Ok(()),
                ..
            }) => self.status(id, Status::Ok, "Success"),
            Some(Writing {
                id,
                outcome: Err((status, text)),
                ..
            }) => self.status(id, status, &text),
            None => {}
        }
    }
}

/// A name in a list with commas.
fn is_among(name: &str, list: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .any(|one| one == name.as_bytes())
}

/// Which status stands for a refusal.
fn status_of(kind: RefusalKind) -> Status {
    match kind {
        RefusalKind::Failure => Status::Failure,
        RefusalKind::NoSuchFile => Status::NoSuchFile,
        RefusalKind::PermissionDenied => Status::PermissionDenied,
        RefusalKind::Unsupported => Status::OpUnsupported,
    }
}

/// A refusal of the gate as one of the intake: a name that fits nothing is a failure with a text,
/// which more clients show than the text of "permission denied".
pub(super) fn refusal_of(refused: Refused) -> Refusal {
    let kind = match refused.code {
        "no-feed" => RefusalKind::Failure,
        "no-folder" => RefusalKind::NoSuchFile,
        _ => RefusalKind::PermissionDenied,
    };
    Refusal {
        kind,
        lines: vec![refused.told.clone()],
        text: refused.told,
    }
}

fn attrs_of(attributes: &Attributes) -> Attrs {
    let kind = match attributes.kind {
        EntryKind::File => REGULAR_FILE,
        EntryKind::Folder => DIRECTORY,
    };
    let at = seconds(attributes.mtime);
    Attrs {
        size: Some(attributes.bytes),
        owner: None,
        permissions: Some(kind | (attributes.mode & 0o7777)),
        times: Some((at, at)),
    }
}

/// Version 3 has 32 bits for a time.
fn seconds(at: i64) -> u32 {
    u32::try_from(at.max(0)).unwrap_or(u32::MAX)
}

/// Handles are four bytes, because we made them so.
fn number_of(handle: &[u8]) -> Option<u32> {
    handle.try_into().ok().map(u32::from_be_bytes)
}

/// The wanted bytes, as many as one reply carries; `None` at the end.
fn part_of(contents: &[u8], offset: u64, bytes: u32) -> Option<&[u8]> {
    let rest = contents.get(usize::try_from(offset).ok()?..)?;
    let most = usize::try_from(bytes.min(limits::SFTP_READ_BYTES_MAX)).ok()?;
    rest.get(..most.min(rest.len()))
        .filter(|_| !rest.is_empty())
}

fn names_of(paths: &[&VirtualPath]) -> Vec<String> {
    let names = paths.iter().filter_map(|path| path.name());
    names.map(str::to_owned).collect()
}

fn look(path: &VirtualPath) -> Claim {
    Claim {
        names: names_of(&[path]),
        ..Claim::default()
    }
}

fn change(paths: &[&VirtualPath]) -> Claim {
    Claim {
        names: names_of(paths),
        changes: true,
        looks_at_all: false,
    }
}

/// The claim of an upload's end.
fn change_of(name: String) -> Claim {
    Claim {
        names: vec![name],
        changes: true,
        looks_at_all: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::outbox::Piece;

    fn refusal(kind: RefusalKind, text: &str, lines: &[&str]) -> Refusal {
        Refusal {
            kind,
            text: text.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    /// What `refusals` leave on stderr, one tally for all.
    fn told(refusals: &[Refusal], mutates: bool) -> Vec<Piece> {
        let mut outbox = Outbox::default();
        let mut tally = Tally::default();
        for refusal in refusals {
            tally.refuse(&mut outbox, refusal, mutates);
        }
        std::iter::from_fn(|| outbox.next()).collect()
    }

    fn place() -> Place {
        let files = Arc::new(OpenFiles::default());
        files.take(Purpose::Reading).unwrap()
    }

    fn line(text: &str) -> Piece {
        Piece::Line(format!("sallyport: {text}\r\n").into())
    }

    #[test]
    fn a_refused_change_is_told_by_its_lines_else_by_its_text() {
        let failure = RefusalKind::Failure;
        assert_eq!(
            told(&[refusal(failure, "REJECTED x", &["one", "two"])], true),
            [line("one"), line("two")]
        );
        assert_eq!(
            told(&[refusal(failure, "REJECTED x", &[])], true),
            [line("REJECTED x")]
        );
    }

    #[test]
    fn that_nothing_is_there_is_no_news_but_a_verdict_about_it_is() {
        let gone = |lines| refusal(RefusalKind::NoSuchFile, "no such file", lines);
        assert_eq!(told(&[gone(&[])], true), []);
        assert_eq!(told(&[gone(&[])], false), []);
        assert_eq!(
            told(&[refusal(RefusalKind::Failure, "x", &[])], false),
            [],
            "a look that failed is told by its status"
        );
        assert_eq!(told(&[gone(&["REJECTED"])], false), [line("REJECTED")]);
    }

    #[test]
    fn the_same_refusal_is_told_once_and_a_file_has_eight_lines() {
        let same = refusal(RefusalKind::Failure, "REJECTED x", &[]);
        assert_eq!(told(&[same.clone(), same], true), [line("REJECTED x")]);
        let many: Vec<_> = (0..20)
            .map(|n| {
                refusal(
                    RefusalKind::Failure,
                    &format!("REJECTED {n}"),
                    &["a", "b", "c"],
                )
            })
            .collect();
        assert_eq!(told(&many, true).len(), limits::STDERR_LINES_MAX);
    }

    #[test]
    fn a_part_is_what_was_asked_for_as_far_as_there_is_something() {
        let contents = vec![7; 300_000];
        let length = |offset, bytes| part_of(&contents, offset, bytes).map(<[u8]>::len);
        assert_eq!(length(0, 10), Some(10));
        assert_eq!(length(299_990, 100), Some(10));
        assert_eq!(length(0, u32::MAX), Some(261_120));
        assert_eq!(length(300_000, 1), None);
        assert_eq!(length(u64::MAX, 1), None);
        assert_eq!(part_of(&[], 0, 1), None);
    }

    #[test]
    fn the_gate_says_failure_where_clients_show_the_text() {
        let kind = |code| {
            refusal_of(Refused {
                code,
                why: String::new(),
                told: "REJECTED no-feed".to_owned(),
            })
            .kind
        };
        assert_eq!(kind("no-feed"), RefusalKind::Failure);
        assert_eq!(kind("no-folder"), RefusalKind::NoSuchFile);
        assert_eq!(kind("inbox-only"), RefusalKind::PermissionDenied);
        assert_eq!(kind("authority.revoked-key"), RefusalKind::PermissionDenied);
    }

    #[test]
    fn attributes_carry_the_kind_and_times_of_any_century() {
        let attrs = |kind, mtime| {
            attrs_of(&Attributes {
                kind,
                bytes: 5,
                mode: 0o400,
                mtime,
            })
        };
        let file = attrs(EntryKind::File, -1);
        assert_eq!(file.permissions, Some(0o100_400));
        assert_eq!((file.size, file.times), (Some(5), Some((0, 0))));
        let folder = attrs(EntryKind::Folder, i64::MAX);
        assert_eq!(folder.permissions, Some(0o040_400));
        assert_eq!(folder.times, Some((u32::MAX, u32::MAX)));
    }

    #[test]
    fn handles_are_new_numbers_and_only_for_who_is_there() {
        let mut state = State::default();
        let contents = || Open::Contents(Bytes::new(), place());
        assert_eq!(state.admit(contents()), Some([0, 0, 0, 1]));
        state.handles.remove(&1);
        assert_eq!(state.admit(contents()), Some([0, 0, 0, 2]));
        state.last_handle = u32::MAX;
        assert_eq!(state.admit(contents()), Some([0, 0, 0, 0]));
        state.phase = Phase::Gone;
        assert_eq!(state.admit(contents()), None);
    }

    #[test]
    fn changes_outlive_their_client_and_looks_do_not() {
        let ask = |work| Job::Ask {
            id: 1,
            op: &crate::wire::sftp::OPS[0],
            work,
            waiting: None,
        };
        let path = VirtualPath::root;
        for work in [
            Work::Remove(path()),
            Work::Rename {
                from: path(),
                to: path(),
            },
        ] {
            assert!(ask(work).outlives_its_client());
        }
        for work in [
            Work::Stat(path()),
            Work::List(path(), place()),
            Work::Fetch(path(), place()),
        ] {
            assert!(!ask(work).outlives_its_client());
        }
        assert!(!Job::Hello.outlives_its_client());
    }
}
