//! A channel that speaks legacy scp (`scp -O`, `pscp -scp`, curl's `scp://`).
//!
//! What is sent takes the same way as over SFTP: the same gate, the same submission, the same
//! verdict. Payload goes to its submission inside russh's `data` callback; what has to wait (the
//! gate, the verdict) runs as a task, one at a time, as the client waits for each answer. The
//! client's user reads the verdict twice: as lines on stderr, and as the error of their own scp.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::authority::Identity;
use crate::intake::submission::Submission;
use crate::intake::view::{Attributes, Entry, EntryKind, Fetched};
use crate::intake::{Opening, Refusal, RefusalKind, Told};
use crate::ledger::submissions::Origin;
use crate::ssh::Services;
use crate::ssh::outbox::{Post, Sender, kick};
use crate::ssh::quota::OpenFiles;
use crate::ssh::session::{Caller, Desk, Pulse};
use crate::ssh::sftp::refusal_of;
use crate::telemetry::Limit;
use crate::terms::limits;
use crate::terms::path::VirtualPath;
use crate::wire::exec::Word;
use crate::wire::scp::{
    Answer, Events, Malformed, SinkParser, error_line, file_line, folder_line, times_line,
};

/// A running scp channel. Dropped, it hangs up.
pub(super) struct ScpChannel {
    parser: SinkParser,
    desk: Arc<ScpDesk>,
}

/// The part of a channel its tasks share with its callbacks.
pub(super) struct ScpDesk {
    services: Arc<Services>,
    who: Identity,
    origin: Origin,
    /// How many files a second it may send.
    files: Arc<OpenFiles>,
    pulse: Arc<Pulse>,
    post: Post,
    state: Mutex<State>,
}

/// What an upload channel was started with.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) path: VirtualPath,
    /// It has to be a folder, or is known to be one.
    pub(super) folder: bool,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that arises at another moment"
)]
struct State {
    role: Role,
    /// Something went wrong: the exit status will be 1.
    failed: bool,
    /// A task works on an answer.
    is_waiting: bool,
    /// The client sends no more.
    ended: bool,
    gone: bool,
    /// It was ended by us: nothing more is listened to.
    is_failed: bool,
}

enum Role {
    Sink(Box<Sink>),
    /// The client's answers go to the task that sends.
    Source(Option<mpsc::Sender<u8>>, AbortHandle),
}

struct Sink {
    target: Target,
    /// Folders entered below the target.
    folders: Vec<VirtualPath>,
    mtime: Option<i64>,
    upload: Option<Upload>,
    /// The `C` line was answered, the parser does not know yet.
    answered: Option<Answer>,
}

struct Upload {
    submission: Submission,
    offset: u64,
    lines_left: usize,
}

/// One callback: the parser's sink.
struct Turn<'t> {
    desk: &'t Arc<ScpDesk>,
    state: &'t mut State,
}

/// What an answer to the client is.
enum Reply {
    Ok,
    Refused(Refusal),
}

/// Bytes of answers the sending task has not looked at yet: it waits for each, and a message may
/// come with one.
const ANSWERS_WAITING: usize = limits::SCP_LINE_BYTES_MAX;
/// Answers waiting for a client's window, bytes: more than one answer with its lines.
const ANSWER_BYTES_WAITING: usize = 8 * 1024;
/// Bytes read from a store at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Folders below folders that are sent or taken.
const DEPTH_MAX: usize = 32;

// === impl ScpChannel ===

impl ScpChannel {
    /// `scp -t`: the client sends.
    pub(super) fn receive_into(
        services: Arc<Services>,
        caller: Caller,
        half: ChannelWriteHalf<Msg>,
        target: Target,
    ) -> Self {
        let role = Role::Sink(Box::new(Sink {
            target,
            folders: Vec::new(),
            mtime: None,
            upload: None,
            answered: None,
        }));
        let desk = ScpDesk::new(services, caller, half, role);
        desk.post.outbox().packets(vec![0]);
        kick(&desk);
        Self {
            parser: SinkParser::default(),
            desk,
        }
    }

    /// `scp -f`: the client fetches.
    pub(super) fn send_from(
        services: Arc<Services>,
        caller: Caller,
        half: ChannelWriteHalf<Msg>,
        paths: Vec<Word>,
        options: SourceOptions,
    ) -> Option<Self> {
        let runtime = runtime::Handle::try_current().ok()?;
        let (answers, inbox) = mpsc::channel(ANSWERS_WAITING);
        // A task that does nothing stands in until the desk is there for the real one.
        let idle = runtime.spawn(async {}).abort_handle();
        let role = Role::Source(Some(answers), idle);
        let desk = ScpDesk::new(services, caller, half, role);
        let source = Source {
            desk: Arc::clone(&desk),
            answers: inbox,
            options,
        };
        let running = runtime.spawn(source.run(paths)).abort_handle();
        if let Role::Source(_, task) = &mut desk.state().role {
            *task = running;
        }
        Some(Self {
            parser: SinkParser::default(),
            desk,
        })
    }

    /// For who wants to know whether the channel is busy.
    pub(super) fn desk(&self) -> &Arc<ScpDesk> {
        &self.desk
    }

    /// Takes what the client sent.
    ///
    /// # Errors
    /// [`Malformed`]: the caller closes the channel.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<(), Malformed> {
        let mut state = self.desk.state();
        if state.gone || state.is_failed {
            return Ok(());
        }
        if let Role::Source(answers, _) = &state.role {
            let taken = answers
                .iter()
                .all(|answers| data.iter().all(|byte| answers.try_send(*byte).is_ok()));
            return if taken { Ok(()) } else { Err(Malformed::Hasty) };
        }
        if state.is_waiting && !data.is_empty() {
            return Err(Malformed::Hasty);
        }
        if let Role::Sink(sink) = &mut state.role
            && let Some(answer) = sink.answered.take()
        {
            self.parser.proceed(answer);
        }
        let mut turn = Turn {
            desk: &self.desk,
            state: &mut state,
        };
        let fed = self.parser.feed(data, &mut turn);
        drop(state);
        kick(&self.desk);
        // Who takes no answers while it sends on gets no more of them.
        let waiting = self.desk.post.outbox().bytes();
        if fed.is_ok() && waiting > ANSWER_BYTES_WAITING {
            return Err(Malformed::Hasty);
        }
        fed
    }

    /// Tells the client why, and ends the channel; what it sends after that is not looked at.
    pub(super) fn fail(&mut self, why: &str) {
        let mut state = self.desk.state();
        let cut_off = match &mut state.role {
            Role::Sink(sink) => sink.upload.take(),
            Role::Source(_, task) => {
                task.abort();
                None
            }
        };
        (state.failed, state.ended) = (true, true);
        {
            let mut outbox = self.desk.post.outbox();
            outbox.line(why);
            outbox.packets(error_line(why));
        }
        self.desk.finish_if_done(&mut state);
        state.is_failed = true;
        drop(state);
        // Dropping a submission may write to disk: not under the lock.
        drop(cut_off);
        kick(&self.desk);
    }

    /// The client sends no more.
    pub(super) fn end(&mut self) {
        let mut state = self.desk.state();
        if state.ended {
            return;
        }
        state.ended = true;
        if let Role::Source(answers, _) = &mut state.role {
            // The task hears what has come, and then that there is no more.
            answers.take();
        }
        if let Role::Sink(sink) = &mut state.role
            && let Some(answer) = sink.answered.take()
        {
            self.parser.proceed(answer);
        }
        let is_whole = {
            let mut turn = Turn {
                desk: &self.desk,
                state: &mut state,
            };
            self.parser.end(&mut turn)
        };
        if let Role::Sink(sink) = &mut state.role {
            let cut_off = sink.upload.take();
            state.failed |= !is_whole || cut_off.is_some();
            self.desk.finish_if_done(&mut state);
            drop(state);
            // Dropping a submission may write to disk: not under the lock.
            drop(cut_off);
        } else {
            drop(state);
        }
        kick(&self.desk);
    }
}

impl Drop for ScpChannel {
    fn drop(&mut self) {
        self.desk.hang_up();
    }
}

// === impl ScpDesk ===

impl ScpDesk {
    fn new(
        services: Arc<Services>,
        caller: Caller,
        half: ChannelWriteHalf<Msg>,
        role: Role,
    ) -> Arc<Self> {
        let Caller {
            who,
            origin,
            files,
            pulse,
        } = caller;
        Arc::new(Self {
            services,
            who,
            origin,
            files,
            pulse,
            post: Post::new(half),
            state: Mutex::new(State {
                role,
                failed: false,
                is_waiting: false,
                ended: false,
                gone: false,
                is_failed: false,
            }),
        })
    }

    /// Our end of the channel is closed, or the client is gone.
    pub(super) fn is_over(&self) -> bool {
        self.state().gone
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything the client sent is answered: the channel ends.
    fn finish_if_done(&self, state: &mut State) {
        if state.ended && !state.is_waiting && !state.gone {
            self.post.outbox().end(u32::from(state.failed));
        }
    }

    /// Runs what has to wait; the client is told its outcome.
    fn later(
        self: &Arc<Self>,
        state: &mut State,
        work: impl Future<Output = Reply> + Send + 'static,
    ) {
        let Ok(runtime) = runtime::Handle::try_current() else {
            return;
        };
        state.is_waiting = true;
        let pending = Pending {
            desk: Arc::clone(self),
            done: false,
        };
        runtime.spawn(async move {
            let mut pending = pending;
            let reply = work.await;
            pending.settle(&reply);
        });
    }

    fn reply(&self, state: &mut State, reply: &Reply, lines_left: &mut usize) {
        if let Role::Sink(sink) = &mut state.role {
            let answer = match reply {
                Reply::Ok => Answer::Take,
                Reply::Refused(_) => Answer::Refuse,
            };
            // The parser hears of it before it gets the next byte.
            sink.answered = Some(answer);
        }
        let mut outbox = self.post.outbox();
        match reply {
            Reply::Ok => outbox.packets(vec![0]),
            Reply::Refused(refusal) => {
                state.failed = true;
                for line in refusal.lines.iter().take(*lines_left) {
                    outbox.line(line);
                }
                *lines_left = lines_left.saturating_sub(refusal.lines.len());
                outbox.packets(error_line(&refusal.text));
            }
        }
    }

    /// The gate and intake, for a file at a path that may be a folder.
    async fn open(&self, target: Target, name: Vec<u8>, bytes: u64) -> Result<Submission, Refusal> {
        if *self.services.stopping.borrow() {
            return Err(Refusal::new(
                RefusalKind::Failure,
                "TRY LATER gateway-full: the gateway is about to restart; nothing is wrong with \
                 your file",
            ));
        }
        let name = one_name(&name)?;
        let intake = &self.services.intake;
        let is_folder = target.folder
            || matches!(
                intake.stat(&self.who, &target.path).await,
                Ok(Attributes {
                    kind: EntryKind::Folder,
                    ..
                })
            );
        let path = if is_folder {
            let joined = target.path.join(&name);
            joined.map_err(|bad| Refusal::new(RefusalKind::Failure, bad.to_string()))?
        } else {
            target.path
        };
        let permit = self
            .services
            .authority
            .may_open(&self.who, &path)
            .map_err(refusal_of)?;
        let opening = Opening {
            truncate: true,
            create: true,
            declared_bytes: Some(bytes),
            ..Opening::default()
        };
        let per_sec = self.services.authority.files_per_sec(&self.who);
        let wait = self.files.pace(per_sec, Instant::now());
        if !wait.is_zero() {
            self.services.metrics.limit_reached(Limit::FilesRate);
            sleep(wait).await;
        }
        let (origin, peer) = (self.origin.clone(), Arc::clone(&self.pulse));
        intake.open(permit, opening, origin, peer).await
    }
}

impl Desk for ScpDesk {
    fn is_busy(&self) -> bool {
        let state = self.state();
        let is_at_work = match &state.role {
            Role::Sink(sink) => sink.upload.is_some(),
            Role::Source(_, task) => !task.is_finished(),
        };
        is_at_work || state.is_waiting || self.post.outbox().bytes() > 0
    }

    fn is_awaited(&self) -> bool {
        self.state().is_waiting
    }
}

impl Sender for ScpDesk {
    fn post(&self) -> &Post {
        &self.post
    }

    fn drained(self: &Arc<Self>) {}

    /// An upload becomes interrupted; a verdict that is awaited goes on to its end.
    fn hang_up(self: &Arc<Self>) {
        let mut state = self.state();
        state.gone = true;
        let cut_off = match &mut state.role {
            Role::Sink(sink) => sink.upload.take(),
            Role::Source(_, task) => {
                task.abort();
                None
            }
        };
        self.post.outbox().hang_up();
        drop(state);
        // Dropping a submission may write to disk: not under the lock.
        drop(cut_off);
    }
}

/// One answer being worked on; the client gets one however that ends.
struct Pending {
    desk: Arc<ScpDesk>,
    done: bool,
}

// === impl Pending ===

impl Pending {
    fn settle(&mut self, reply: &Reply) {
        self.done = true;
        let mut state = self.desk.state();
        state.is_waiting = false;
        let mut lines = limits::STDERR_LINES_MAX;
        self.desk.reply(&mut state, reply, &mut lines);
        self.desk.finish_if_done(&mut state);
        drop(state);
        kick(&self.desk);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            self.settle(&Reply::Refused(Refusal::new(
                RefusalKind::Failure,
                "TRY LATER internal error: nothing is wrong with your file",
            )));
        }
    }
}

// === impl Turn ===

impl Turn<'_> {
    fn sink(&mut self) -> Option<&mut Sink> {
        match &mut self.state.role {
            Role::Sink(sink) => Some(sink),
            Role::Source(..) => None,
        }
    }

    fn say(&mut self, reply: &Reply) {
        let mut lines = limits::STDERR_LINES_MAX;
        self.desk.reply(self.state, reply, &mut lines);
    }
}

impl Events for Turn<'_> {
    fn times(&mut self, modified: i64) {
        if let Some(sink) = self.sink() {
            sink.mtime = Some(modified);
        }
        self.say(&Reply::Ok);
    }

    fn file(&mut self, name: &[u8], bytes: u64) {
        let desk = Arc::clone(self.desk);
        let Some(sink) = self.sink() else {
            return;
        };
        let target = match sink.folders.last() {
            Some(folder) => Target {
                path: folder.clone(),
                folder: true,
            },
            None => sink.target.clone(),
        };
        let (mtime, name) = (sink.mtime.take(), name.to_vec());
        self.desk.later(self.state, async move {
            match Box::pin(desk.open(target, name, bytes)).await {
                Ok(submission) => {
                    if let Some(mtime) = mtime {
                        submission.set_mtime(mtime);
                    }
                    let mut state = desk.state();
                    if state.gone {
                        drop(state);
                        drop(submission);
                        return Reply::Ok;
                    }
                    if let Role::Sink(sink) = &mut state.role {
                        sink.upload = Some(Upload {
                            submission,
                            offset: 0,
                            lines_left: limits::STDERR_LINES_MAX,
                        });
                    }
                    Reply::Ok
                }
                Err(refusal) => Reply::Refused(with_lines(refusal)),
            }
        });
    }

    fn folder(&mut self, name: &[u8]) {
        let desk = Arc::clone(self.desk);
        let Some(sink) = self.sink() else {
            return;
        };
        let (parent, depth) = match sink.folders.last() {
            Some(folder) => (folder.clone(), sink.folders.len()),
            None => (sink.target.path.clone(), 0),
        };
        let (is_first, name) = (sink.folders.is_empty(), name.to_vec());
        let target_is_folder = sink.target.folder;
        self.desk.later(self.state, async move {
            if depth >= DEPTH_MAX {
                return Reply::Refused(Refusal::new(
                    RefusalKind::Failure,
                    "folders are nested too deeply",
                ));
            }
            match Box::pin(enter(&desk, parent, is_first && !target_is_folder, &name)).await {
                Ok(folder) => {
                    if let Role::Sink(sink) = &mut desk.state().role {
                        sink.folders.push(folder);
                    }
                    Reply::Ok
                }
                Err(refusal) => Reply::Refused(with_lines(refusal)),
            }
        });
    }

    fn folder_end(&mut self) {
        if let Some(sink) = self.sink() {
            sink.folders.pop();
        }
        self.say(&Reply::Ok);
    }

    fn data(&mut self, data: &[u8]) {
        let desk = self.desk;
        let Some(upload) = self.sink().and_then(|sink| sink.upload.as_mut()) else {
            return;
        };
        // A refusal stays with the submission: its verdict tells. The protocol cannot stop a file.
        if let Err(refusal) = upload.submission.write_at(upload.offset, data)
            && upload.offset != u64::MAX
        {
            upload.offset = u64::MAX;
            if upload.lines_left > 0 {
                upload.lines_left -= 1;
                desk.post.outbox().line(&refusal.text);
            }
            return;
        }
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        upload.offset = upload.offset.saturating_add(bytes);
    }

    fn file_end(&mut self, complaint: Option<&[u8]>) {
        let desk = Arc::clone(self.desk);
        let is_cut = complaint.is_some();
        let Some(Upload {
            mut submission,
            lines_left,
            ..
        }) = self.sink().and_then(|sink| sink.upload.take())
        else {
            return;
        };
        if is_cut {
            submission.spoil("your scp could not read the whole file; send it again");
        }
        self.desk.later(self.state, async move {
            match Box::pin(submission.close()).await {
                Ok(Told { lines }) => {
                    let mut outbox = desk.post.outbox();
                    for line in lines.iter().take(lines_left) {
                        outbox.line(line);
                    }
                    Reply::Ok
                }
                Err(mut refusal) => {
                    refusal.lines.truncate(lines_left);
                    Reply::Refused(refusal)
                }
            }
        });
    }

    fn complaint(&mut self, _text: &[u8]) {
        // The client tells its own user.
        self.state.failed = true;
    }
}

/// Where a folder that the client sends lies: the target itself when that is not there yet, as
/// `cp -r` does it.
async fn enter(
    desk: &ScpDesk,
    parent: VirtualPath,
    may_rename: bool,
    name: &[u8],
) -> Result<VirtualPath, Refusal> {
    let intake = &desk.services.intake;
    let is_there = |found: Result<Attributes, Refusal>| {
        found.is_ok_and(|found| found.kind == EntryKind::Folder)
    };
    let folder = if may_rename && !is_there(intake.stat(&desk.who, &parent).await) {
        parent
    } else {
        parent
            .join(&one_name(name)?)
            .map_err(|bad| Refusal::new(RefusalKind::Failure, bad.to_string()))?
    };
    if !is_there(intake.stat(&desk.who, &folder).await) {
        intake.make_folder(&desk.who, &folder).await?;
    }
    Ok(folder)
}

/// A name that is one part of a path.
fn one_name(name: &[u8]) -> Result<String, Refusal> {
    let refused = |text: &str| Refusal::new(RefusalKind::Failure, text);
    let name = std::str::from_utf8(name).map_err(|_| refused("names must be UTF-8"))?;
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return Err(refused("a file's name must be one name, without folders"));
    }
    Ok(name.to_owned())
}

/// What has no lines of its own is told by its text.
fn with_lines(mut refusal: Refusal) -> Refusal {
    if refusal.lines.is_empty() {
        refusal.lines.push(refusal.text.clone());
    }
    refusal
}

// === scp -f ===

/// How `scp -f` was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceOptions {
    pub(super) recursive: bool,
    pub(super) times: bool,
}

/// The side that sends, as one task: it waits for every answer, and for the client's window.
struct Source {
    desk: Arc<ScpDesk>,
    answers: mpsc::Receiver<u8>,
    options: SourceOptions,
}

/// The client ended the transfer, or is gone.
struct Stopped;

// === impl Source ===

impl Source {
    async fn run(mut self, paths: Vec<Word>) {
        // Stopped or not: what was said is sent, and the channel ends.
        let _stopped = self.send_all(&paths).await;
        let mut state = self.desk.state();
        state.ended = true;
        self.desk.finish_if_done(&mut state);
        drop(state);
        kick(&self.desk);
    }

    async fn send_all(&mut self, paths: &[Word]) -> Result<(), Stopped> {
        if !self.answer().await? {
            return Ok(());
        }
        for word in paths {
            match self.named(word).await {
                Ok(paths) => {
                    for path in paths {
                        Box::pin(self.send_path(path, 0)).await?;
                    }
                }
                Err(refusal) => self.refuse(&refusal).await?,
            }
        }
        Ok(())
    }

    /// The paths a word stands for.
    async fn named(&self, word: &Word) -> Result<Vec<VirtualPath>, Refusal> {
        let parse = |raw: &[u8]| {
            VirtualPath::parse(raw)
                .map_err(|bad| Refusal::new(RefusalKind::Failure, bad.to_string()))
        };
        let Some((folder, pattern)) = word.pattern() else {
            return Ok(vec![parse(word.path())?]);
        };
        let folder = parse(folder)?;
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let intake = &self.desk.services.intake;
            let page = Box::pin(intake.list(&self.desk.who, &folder, after)).await?;
            for entry in page.entries {
                if pattern.fits(entry.name.as_bytes()) && found.len() < FOUND_MAX {
                    found.extend(folder.join(&entry.name));
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if found.is_empty() {
            let text = format!("nothing in {folder} fits");
            return Err(Refusal::new(RefusalKind::NoSuchFile, text));
        }
        Ok(found)
    }

    async fn send_path(&mut self, path: VirtualPath, depth: usize) -> Result<(), Stopped> {
        let desk = Arc::clone(&self.desk);
        let intake = &desk.services.intake;
        match Box::pin(intake.stat(&desk.who, &path)).await {
            Err(refusal) => self.refuse(&refusal).await?,
            Ok(facts) => match facts.kind {
                EntryKind::File => return self.send_file(&path, &facts).await,
                EntryKind::Folder if !self.options.recursive || depth >= DEPTH_MAX => {
                    let text = format!("{path} is a folder; fetch it with -r");
                    let refusal = Refusal::new(RefusalKind::Failure, text);
                    self.refuse(&refusal).await?;
                }
                EntryKind::Folder => return Box::pin(self.send_folder(path, depth)).await,
            },
        }
        Ok(())
    }

    async fn send_folder(&mut self, path: VirtualPath, depth: usize) -> Result<(), Stopped> {
        let name = path.name().unwrap_or("partner").to_owned();
        self.say(folder_line(0o755, &name)).await?;
        if !self.answer().await? {
            return Ok(());
        }
        let mut after = None;
        loop {
            let desk = Arc::clone(&self.desk);
            let intake = &desk.services.intake;
            let page = match Box::pin(intake.list(&desk.who, &path, after)).await {
                Ok(page) => page,
                Err(refusal) => {
                    self.refuse(&refusal).await?;
                    break;
                }
            };
            for Entry { name, .. } in page.entries {
                if let Ok(path) = path.join(&name) {
                    Box::pin(self.send_path(path, depth + 1)).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.say(b"E\n".to_vec()).await?;
        self.answer().await.map(drop)
    }

    async fn send_file(&mut self, path: &VirtualPath, facts: &Attributes) -> Result<(), Stopped> {
        let desk = Arc::clone(&self.desk);
        let fetched = Box::pin(desk.services.intake.fetch(&desk.who, path)).await;
        let (bytes, object, whole) = match fetched {
            Ok(Fetched::Whole(whole)) => (u64::try_from(whole.len()).unwrap_or(0), None, whole),
            Ok(Fetched::Object(object)) => (object.facts.bytes, Some(object), Bytes::new()),
            Err(refusal) => {
                return self.refuse(&refusal).await;
            }
        };
        if self.options.times {
            self.say(times_line(facts.mtime)).await?;
            self.answer().await?;
        }
        let name = path.name().unwrap_or_default();
        self.say(file_line(0o644, bytes, name)).await?;
        if !self.answer().await? {
            return Ok(());
        }
        match object {
            None => self.send(whole).await?,
            Some(object) => {
                let mut offset = 0;
                while offset < bytes {
                    match object.read_at(offset, PIECE_BYTES).await {
                        Ok(piece) if !piece.is_empty() => {
                            offset += u64::try_from(piece.len()).unwrap_or(0);
                            self.send(piece).await?;
                        }
                        // The size was promised: the only honest thing left is to hang up.
                        Ok(_) => return Err(self.give_up()),
                        Err(fault) => {
                            drop(crate::intake::unreachable(&fault));
                            return Err(self.give_up());
                        }
                    }
                }
            }
        }
        self.say(vec![0]).await?;
        self.answer().await.map(drop)
    }

    fn give_up(&self) -> Stopped {
        self.desk.state().failed = true;
        Stopped
    }

    /// The client prints it, and waits for the next line.
    async fn refuse(&self, refusal: &Refusal) -> Result<(), Stopped> {
        self.desk.state().failed = true;
        self.say(error_line(&refusal.text)).await
    }

    async fn say(&self, line: Vec<u8>) -> Result<(), Stopped> {
        self.send(line.into()).await
    }

    /// Straight to the client, waiting for its window: there is no queue to fill.
    async fn send(&self, bytes: Bytes) -> Result<(), Stopped> {
        self.desk.post.send(bytes).await.map_err(|_| Stopped)
    }

    /// The client's word on what was sent last; false: "not this one", and its user knows why.
    async fn answer(&mut self) -> Result<bool, Stopped> {
        match self.answers.recv().await {
            Some(0) => Ok(true),
            Some(1) => {
                self.desk.state().failed = true;
                while self.answers.recv().await.ok_or(Stopped)? != b'\n' {}
                Ok(false)
            }
            Some(_) | None => Err(self.give_up()),
        }
    }
}

/// Files one pattern may stand for.
const FOUND_MAX: usize = 100_000;
