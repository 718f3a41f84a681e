//! SFTP version 3 as bytes: a streaming parser of requests, one table of operations, encoders of
//! replies. Sources: draft-ietf-secsh-filexfer-02 (version 3) and OpenSSH's PROTOCOL section 4.
//!
//! The parser never allocates by a length somebody declared, never buffers the payload of a WRITE,
//! never decides whether a request may be answered, and gives the same events however the input
//! is cut.

use std::fmt::Write as _;

use crate::terms::limits;

/// The version spoken, whatever the client asks for.
pub const VERSION: u32 = 3;

/// Turns the bytes of one channel into calls on a [`Sink`].
#[derive(Debug)]
pub struct Parser {
    greeted: bool,
    state: State,
}

/// What the parser found. Calls between `write_begin` and `write_end` are `write_data` only.
pub trait Sink {
    /// `SSH_FXP_INIT` with the client's version.
    fn init(&mut self, version: u32);
    /// Any whole request but WRITE.
    fn request(&mut self, id: u32, op: &'static Op, request: Request<'_>);
    /// A request whose body does not fit its type.
    fn bad(&mut self, id: u32);
    /// A type or extension that is not in the table.
    fn unsupported(&mut self, id: u32);
    /// A WRITE whose payload of `bytes` bytes follows.
    fn write_begin(&mut self, id: u32, handle: &[u8], offset: u64, bytes: u32);
    /// The next slice of the payload, never empty.
    fn write_data(&mut self, data: &[u8]);
    /// The payload is whole.
    fn write_end(&mut self);
}

/// The stream cannot be followed any further; the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// A request before `SSH_FXP_INIT`, or an INIT without a version.
    #[error("the first SFTP packet is not a valid SSH_FXP_INIT")]
    NotGreeted,
    /// A packet without type or request id: nobody could be answered.
    #[error("an SFTP packet of {0} bytes has no room for type and request id")]
    TooShort(u32),
    /// Longer than [`limits::SFTP_PACKET_BYTES_MAX`].
    #[error("an SFTP packet of {0} bytes; at most 262144 are taken")]
    TooLong(u32),
}

/// One request the gateway knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Op {
    /// As in the protocol text; the extension's name for extended requests.
    pub name: &'static str,
    /// The type byte; 200 for extended requests.
    pub code: u8,
    /// It changes something a partner can see.
    pub mutates: bool,
    /// What has to be allowed before it is done.
    pub permit: Permit,
    decode: Decode,
}

/// What a request needs from the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// A change to something the partner owns: rename, remove, times.
    Alter,
    /// Nothing: it is about the session, or about a handle that was allowed when it was opened.
    Free,
    /// A look at a path.
    Look,
    /// Refused to everybody.
    Never,
    /// An upload permit when it opens for writing, else a look.
    Upload,
}

/// A whole request, borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// check-file-name and check-file-handle (draft-ietf-secsh-filexfer-extensions-00 section 3)
    CheckFile {
        /// Whose digest.
        file: FileRef<'a>,
        /// Names of digests the client takes, with commas, the best first.
        algorithms: &'a [u8],
        /// From where.
        offset: u64,
        /// How much; 0: to the end.
        bytes: u64,
        /// One digest for each so many bytes; 0: one for all.
        block_bytes: u32,
    },
    /// CLOSE
    Close {
        /// The handle.
        handle: &'a [u8],
    },
    /// expand-path@openssh.com
    ExpandPath {
        /// May start with `~`.
        path: &'a [u8],
    },
    /// FSETSTAT
    FSetStat {
        /// The handle.
        handle: &'a [u8],
        /// What to set.
        attrs: Attrs,
    },
    /// FSTAT
    FStat {
        /// The handle.
        handle: &'a [u8],
    },
    /// fsync@openssh.com
    FSync {
        /// The handle.
        handle: &'a [u8],
    },
    /// home-directory
    HomeDirectory {
        /// Whose; empty: the partner's own.
        user: &'a [u8],
    },
    /// limits@openssh.com
    Limits,
    /// MKDIR
    MakeFolder {
        /// The folder.
        path: &'a [u8],
    },
    /// OPEN
    Open {
        /// The file.
        path: &'a [u8],
        /// How.
        flags: OpenFlags,
        /// Attributes of a new file.
        attrs: Attrs,
    },
    /// OPENDIR
    OpenFolder {
        /// The folder.
        path: &'a [u8],
    },
    /// READ
    Read {
        /// The handle.
        handle: &'a [u8],
        /// From where.
        offset: u64,
        /// How much at most.
        bytes: u32,
    },
    /// READDIR
    ReadFolder {
        /// The handle.
        handle: &'a [u8],
    },
    /// REALPATH
    RealPath {
        /// The path.
        path: &'a [u8],
    },
    /// A request of the table that is refused to everybody; its body is not looked at.
    Refused,
    /// REMOVE
    Remove {
        /// The file.
        path: &'a [u8],
    },
    /// RMDIR
    RemoveFolder {
        /// The folder.
        path: &'a [u8],
    },
    /// RENAME and posix-rename@openssh.com
    Rename {
        /// The old name.
        from: &'a [u8],
        /// The new name.
        to: &'a [u8],
    },
    /// SETSTAT and lsetstat@openssh.com
    SetStat {
        /// The file.
        path: &'a [u8],
        /// What to set.
        attrs: Attrs,
    },
    /// STAT and LSTAT: there are no links.
    Stat {
        /// The file or folder.
        path: &'a [u8],
    },
    /// statvfs@openssh.com and fstatvfs@openssh.com
    StatVfs {
        /// On which file system; here there is one.
        file: FileRef<'a>,
    },
}

/// A file, by one of its two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRef<'a> {
    /// By an open handle.
    Handle(&'a [u8]),
    /// By its path.
    Path(&'a [u8]),
}

/// What `statvfs@openssh.com` tells of: a partner's quota as a disk. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its size.
    pub bytes: u64,
    /// What is left.
    pub free: u64,
}

/// The pflags of OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags(u32);

/// File attributes; what is `None` is not on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Bytes.
    pub size: Option<u64>,
    /// User and group number.
    pub owner: Option<(u32, u32)>,
    /// Permission and type bits.
    pub permissions: Option<u32>,
    /// Access and modification time, seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// Status codes of version 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `SSH_FX_OK`
    Ok,
    /// `SSH_FX_EOF`
    Eof,
    /// `SSH_FX_NO_SUCH_FILE`
    NoSuchFile,
    /// `SSH_FX_PERMISSION_DENIED`
    PermissionDenied,
    /// `SSH_FX_FAILURE`
    Failure,
    /// `SSH_FX_BAD_MESSAGE`
    BadMessage,
    /// `SSH_FX_OP_UNSUPPORTED`
    OpUnsupported,
}

/// A NAME reply being written; it grows entry by entry so that its writer can stop in time.
#[derive(Debug)]
pub struct Names<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decode {
    CheckHandle,
    CheckName,
    Close,
    ExpandPath,
    FSetStat,
    FStat,
    FSync,
    HomeDirectory,
    Init,
    Limits,
    MakeFolder,
    Open,
    OpenFolder,
    Read,
    ReadFolder,
    RealPath,
    Refused,
    Remove,
    RemoveFolder,
    Rename,
    SetStat,
    Stat,
    StatVfsHandle,
    StatVfsName,
    Write,
}

#[derive(Debug)]
enum State {
    /// Collecting the four length bytes.
    Length { have: usize, bytes: [u8; 4] },
    /// The type byte comes next; `length` counts it.
    Type { length: u32 },
    /// A request too long to be one of the small ones: its id is wanted, the rest skipped.
    Overlong { left: u32, id: Vec<u8> },
    /// A small request, `body` grows to `need` bytes.
    Gather {
        code: u8,
        need: usize,
        body: Vec<u8>,
    },
    /// A WRITE up to its payload. `left` counts the packet's bytes after the type.
    WriteHead { left: u32, head: Vec<u8> },
    /// A WRITE's payload, then `tail` bytes nobody needs.
    WriteBody { left: u32, tail: u32 },
    /// Bytes to be ignored.
    Skip { left: u32 },
    /// It is over.
    Dead(Fatal),
}

/// Whether a step of the parser could finish with the input at hand.
#[derive(PartialEq, Eq)]
enum Step {
    Done,
    Starved,
}

struct Reader<'a>(&'a [u8]);

const EXTENDED: u8 = 200;
const REPLY_VERSION: u8 = 2;
const REPLY_STATUS: u8 = 101;
const REPLY_HANDLE: u8 = 102;
const REPLY_DATA: u8 = 103;
const REPLY_NAME: u8 = 104;
const REPLY_ATTRS: u8 = 105;
const REPLY_EXTENDED: u8 = 201;

const ATTR_SIZE: u32 = 0x1;
const ATTR_OWNER: u32 = 0x2;
const ATTR_PERMISSIONS: u32 = 0x4;
const ATTR_TIMES: u32 = 0x8;

/// Longest handle a client may send back, bytes (draft section 3, "Handles").
const HANDLE_BYTES_MAX: usize = 256;
/// Longest request but WRITE, bytes: two paths of `PATH_MAX`, attributes and room for oddities.
const SMALL_PACKET_BYTES_MAX: u32 = 32 * 1024;

const fn op(name: &'static str, code: u8, mutates: bool, permit: Permit, decode: Decode) -> Op {
    Op {
        name,
        code,
        mutates,
        permit,
        decode,
    }
}

/// Every request the gateway knows; what is not in here is unsupported.
#[rustfmt::skip] // one row a request
pub static OPS: [Op; 36] = [
    op("init", 1, false, Permit::Free, Decode::Init),
    op("open", 3, true, Permit::Upload, Decode::Open),
    op("close", 4, true, Permit::Free, Decode::Close),
    op("read", 5, false, Permit::Free, Decode::Read),
    op("write", 6, true, Permit::Free, Decode::Write),
    op("lstat", 7, false, Permit::Look, Decode::Stat),
    op("fstat", 8, false, Permit::Free, Decode::FStat),
    op("setstat", 9, true, Permit::Alter, Decode::SetStat),
    op("fsetstat", 10, true, Permit::Free, Decode::FSetStat),
    op("opendir", 11, false, Permit::Look, Decode::OpenFolder),
    op("readdir", 12, false, Permit::Free, Decode::ReadFolder),
    op("remove", 13, true, Permit::Alter, Decode::Remove),
    op("mkdir", 14, true, Permit::Alter, Decode::MakeFolder),
    op("rmdir", 15, true, Permit::Alter, Decode::RemoveFolder),
    op("realpath", 16, false, Permit::Look, Decode::RealPath),
    op("stat", 17, false, Permit::Look, Decode::Stat),
    op("rename", 18, true, Permit::Alter, Decode::Rename),
    op("readlink", 19, false, Permit::Never, Decode::Refused),
    op("symlink", 20, true, Permit::Never, Decode::Refused),
    op("link", 21, true, Permit::Never, Decode::Refused),
    op("block", 22, true, Permit::Never, Decode::Refused),
    op("unblock", 23, true, Permit::Never, Decode::Refused),
    op("posix-rename@openssh.com", EXTENDED, true, Permit::Alter, Decode::Rename),
    op("fsync@openssh.com", EXTENDED, true, Permit::Free, Decode::FSync),
    op("limits@openssh.com", EXTENDED, false, Permit::Free, Decode::Limits),
    op("lsetstat@openssh.com", EXTENDED, true, Permit::Alter, Decode::SetStat),
    op("home-directory", EXTENDED, false, Permit::Look, Decode::HomeDirectory),
    op("expand-path@openssh.com", EXTENDED, false, Permit::Look, Decode::ExpandPath),
    op("hardlink@openssh.com", EXTENDED, true, Permit::Never, Decode::Refused),
    op("copy-data", EXTENDED, true, Permit::Never, Decode::Refused),
    op("copy-file", EXTENDED, true, Permit::Never, Decode::Refused),
    op("statvfs@openssh.com", EXTENDED, false, Permit::Look, Decode::StatVfsName),
    op("fstatvfs@openssh.com", EXTENDED, false, Permit::Free, Decode::StatVfsHandle),
    op("check-file-name", EXTENDED, false, Permit::Look, Decode::CheckName),
    op("check-file-handle", EXTENDED, false, Permit::Free, Decode::CheckHandle),
    op("users-groups-by-id@openssh.com", EXTENDED, false, Permit::Never, Decode::Refused),
];

/// Extensions of the VERSION reply, in the order they are sent.
const ADVERTISED: [(&str, &str); 9] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("fsync@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("home-directory", "1"),
    ("expand-path@openssh.com", "1"),
    ("check-file", "1"),
];

// === impl Parser ===

impl Default for Parser {
    fn default() -> Self {
        Self {
            greeted: false,
            state: State::start(),
        }
    }
}

impl Parser {
    /// Takes the next bytes of the channel, of any length, and reports what they complete.
    ///
    /// # Errors
    /// [`Fatal`], and the same one again on every later call.
    pub fn feed(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<(), Fatal> {
        let mut rest = input;
        loop {
            match self.step(&mut rest, sink) {
                Ok(Step::Done) => {}
                Ok(Step::Starved) => return Ok(()),
                Err(fatal) => {
                    self.state = State::Dead(fatal);
                    return Err(fatal);
                }
            }
        }
    }

    /// No packet is half read: an end of the channel here is a clean one.
    #[must_use]
    pub fn is_between_packets(&self) -> bool {
        matches!(self.state, State::Length { have: 0, .. })
    }

    fn step(&mut self, rest: &mut &[u8], sink: &mut impl Sink) -> Result<Step, Fatal> {
        match &mut self.state {
            State::Length { have, bytes } => {
                while *have < bytes.len() {
                    let [byte] = take(rest, 1) else {
                        return Ok(Step::Starved);
                    };
                    if let Some(place) = bytes.get_mut(*have) {
                        *place = *byte;
                    }
                    *have += 1;
                }
                let length = u32::from_be_bytes(*bytes);
                if length > limits::SFTP_PACKET_BYTES_MAX {
                    return Err(Fatal::TooLong(length));
                }
                if length == 0 {
                    return Err(Fatal::TooShort(length));
                }
                self.state = State::Type { length };
                Ok(Step::Done)
            }
            State::Type { length } => {
                let length = *length;
                let [code] = take(rest, 1) else {
                    return Ok(Step::Starved);
                };
                self.begin(*code, length, rest, sink)
            }
            State::Overlong { left, id } => {
                if !fill(id, 4, rest) {
                    return Ok(Step::Starved);
                }
                let left = left.saturating_sub(4);
                if let Some(id) = Reader(id).u32() {
                    sink.bad(id);
                }
                self.state = State::skip(left);
                Ok(Step::Done)
            }
            State::Gather { code, need, body } => {
                if !fill(body, *need, rest) {
                    return Ok(Step::Starved);
                }
                let (code, body) = (*code, std::mem::take(body));
                self.state = State::start();
                self.decode(code, &body, sink)?;
                Ok(Step::Done)
            }
            State::WriteHead { left, head } => {
                let left = *left;
                match write_head(left, head, rest) {
                    None => Ok(Step::Starved),
                    Some(Head::Bad { id, left }) => {
                        sink.bad(id);
                        self.state = State::skip(left);
                        Ok(Step::Done)
                    }
                    Some(Head::Whole { bytes, tail }) => {
                        let mut reader = Reader(head);
                        if let (Some(id), Some(handle), Some(offset)) =
                            (reader.u32(), reader.string(), reader.u64())
                        {
                            sink.write_begin(id, handle, offset, bytes);
                        }
                        self.state = State::WriteBody { left: bytes, tail };
                        Ok(Step::Done)
                    }
                }
            }
            State::WriteBody { left, tail } => {
                if *left > 0 {
                    let data = take(rest, *left);
                    if data.is_empty() {
                        return Ok(Step::Starved);
                    }
                    *left = left.saturating_sub(length_of(data));
                    sink.write_data(data);
                    return Ok(Step::Done);
                }
                let tail = *tail;
                sink.write_end();
                self.state = State::skip(tail);
                Ok(Step::Done)
            }
            State::Skip { left } => {
                let skipped = take(rest, *left);
                if skipped.is_empty() {
                    return Ok(Step::Starved);
                }
                self.state = State::skip(left.saturating_sub(length_of(skipped)));
                Ok(Step::Done)
            }
            State::Dead(fatal) => Err(*fatal),
        }
    }

    /// The type is known: choose how the rest of the packet is taken.
    fn begin(
        &mut self,
        code: u8,
        length: u32,
        rest: &mut &[u8],
        sink: &mut impl Sink,
    ) -> Result<Step, Fatal> {
        let decode = OPS
            .iter()
            .find(|op| op.code == code)
            .map_or(Decode::Refused, |op| op.decode);
        if !self.greeted && decode != Decode::Init {
            return Err(Fatal::NotGreeted);
        }
        let left = length.saturating_sub(1);
        if left < 4 {
            return Err(Fatal::TooShort(length));
        }
        if decode == Decode::Write {
            self.state = State::WriteHead {
                left,
                head: Vec::new(),
            };
        } else if left > SMALL_PACKET_BYTES_MAX {
            if decode == Decode::Init {
                return Err(Fatal::NotGreeted);
            }
            self.state = State::Overlong {
                left,
                id: Vec::new(),
            };
        } else if length_of(rest) >= left {
            self.state = State::start();
            let body = take(rest, left);
            self.decode(code, body, sink)?;
        } else {
            self.state = State::Gather {
                code,
                need: size(left),
                body: Vec::new(),
            };
        }
        Ok(Step::Done)
    }

    fn decode(&mut self, code: u8, body: &[u8], sink: &mut impl Sink) -> Result<(), Fatal> {
        let mut reader = Reader(body);
        let too_short = Fatal::TooShort(length_of(body).saturating_add(1));
        let id = reader.u32().ok_or(too_short)?;
        if code == 1 {
            self.greeted = true;
            sink.init(id);
            return Ok(());
        }
        let found = if code == EXTENDED {
            let Some(name) = reader.string() else {
                sink.bad(id);
                return Ok(());
            };
            OPS.iter()
                .find(|op| op.code == EXTENDED && op.name.as_bytes() == name)
        } else {
            OPS.iter().find(|op| op.code == code)
        };
        match found {
            None => sink.unsupported(id),
            Some(op) => match op.decode.request(&mut reader) {
                None => sink.bad(id),
                Some(request) => sink.request(id, op, request),
            },
        }
        Ok(())
    }
}

// === impl State ===

impl State {
    fn start() -> Self {
        Self::Length {
            have: 0,
            bytes: [0; 4],
        }
    }

    fn skip(left: u32) -> Self {
        if left == 0 {
            Self::start()
        } else {
            Self::Skip { left }
        }
    }
}

enum Head {
    /// Does not hold together; `left` bytes of the packet are still to come.
    Bad { id: u32, left: u32 },
    /// All there, the payload comes next.
    Whole { bytes: u32, tail: u32 },
}

/// Collects id, handle, offset and payload length of a WRITE; `None` until there is enough.
fn write_head(left: u32, head: &mut Vec<u8>, rest: &mut &[u8]) -> Option<Head> {
    let after = |head: &[u8]| left.saturating_sub(length_of(head));
    if !fill(head, size(left).min(8), rest) {
        return None;
    }
    let mut reader = Reader(head);
    let id = reader.u32()?;
    let Some(handle_bytes) = reader.u32().map(size).filter(|n| *n <= HANDLE_BYTES_MAX) else {
        return Some(Head::Bad {
            id,
            left: after(head),
        });
    };
    // id, handle with its length, offset, payload length
    let need = 4 + 4 + handle_bytes + 8 + 4;
    if need > size(left) {
        return Some(Head::Bad {
            id,
            left: after(head),
        });
    }
    if !fill(head, need, rest) {
        return None;
    }
    let mut reader = Reader(head);
    let (_, _, _) = (reader.u32()?, reader.string()?, reader.u64()?);
    let bytes = reader.u32()?;
    match after(head).checked_sub(bytes) {
        Some(tail) => Some(Head::Whole { bytes, tail }),
        None => Some(Head::Bad {
            id,
            left: after(head),
        }),
    }
}

/// At most `count` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a [u8], count: u32) -> &'a [u8] {
    let (taken, left) = rest.split_at(size(count).min(rest.len()));
    *rest = left;
    taken
}

/// Moves bytes from `rest` until `buffer` holds `need`; tells whether it does. The buffer grows
/// with what has arrived, never with what was announced.
fn fill(buffer: &mut Vec<u8>, need: usize, rest: &mut &[u8]) -> bool {
    let missing = need.saturating_sub(buffer.len());
    let (taken, left) = rest.split_at(missing.min(rest.len()));
    buffer.extend_from_slice(taken);
    *rest = left;
    buffer.len() >= need
}

/// A length on the wire as a length in memory.
fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A length in memory as a length on the wire.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

// === impl Decode ===

impl Decode {
    /// Reads what follows the id; bytes left over are nobody's business.
    fn request<'a>(self, body: &mut Reader<'a>) -> Option<Request<'a>> {
        Some(match self {
            Self::CheckHandle => check_file(FileRef::Handle(body.string()?), body)?,
            Self::CheckName => check_file(FileRef::Path(body.string()?), body)?,
            Self::Close => Request::Close {
                handle: body.string()?,
            },
            Self::ExpandPath => Request::ExpandPath {
                path: body.string()?,
            },
            Self::FSetStat => Request::FSetStat {
                handle: body.string()?,
                attrs: body.attrs()?,
            },
            Self::FStat => Request::FStat {
                handle: body.string()?,
            },
            Self::FSync => Request::FSync {
                handle: body.string()?,
            },
            Self::HomeDirectory => Request::HomeDirectory {
                user: body.string()?,
            },
            Self::Limits => Request::Limits,
            Self::MakeFolder => Request::MakeFolder {
                path: body.string()?,
            },
            Self::Open => Request::Open {
                path: body.string()?,
                flags: OpenFlags(body.u32()?),
                attrs: body.attrs()?,
            },
            Self::OpenFolder => Request::OpenFolder {
                path: body.string()?,
            },
            Self::Read => Request::Read {
                handle: body.string()?,
                offset: body.u64()?,
                bytes: body.u32()?,
            },
            Self::ReadFolder => Request::ReadFolder {
                handle: body.string()?,
            },
            Self::RealPath => Request::RealPath {
                path: body.string()?,
            },
            // INIT and WRITE are taken before; naming them keeps this match total.
            Self::Init | Self::Refused | Self::Write => Request::Refused,
            Self::Remove => Request::Remove {
                path: body.string()?,
            },
            Self::RemoveFolder => Request::RemoveFolder {
                path: body.string()?,
            },
            Self::Rename => Request::Rename {
                from: body.string()?,
                to: body.string()?,
            },
            Self::SetStat => Request::SetStat {
                path: body.string()?,
                attrs: body.attrs()?,
            },
            Self::Stat => Request::Stat {
                path: body.string()?,
            },
            Self::StatVfsHandle => Request::StatVfs {
                file: FileRef::Handle(body.string()?),
            },
            Self::StatVfsName => Request::StatVfs {
                file: FileRef::Path(body.string()?),
            },
        })
    }
}

/// What is common to both check-file requests.
fn check_file<'a>(file: FileRef<'a>, body: &mut Reader<'a>) -> Option<Request<'a>> {
    Some(Request::CheckFile {
        file,
        algorithms: body.string()?,
        offset: body.u64()?,
        bytes: body.u64()?,
        block_bytes: body.u32()?,
    })
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let bytes = size(self.u32()?);
        let (front, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(front)
    }

    /// Extended attributes come last and are ignored, as everything behind a request is.
    fn attrs(&mut self) -> Option<Attrs> {
        let flags = self.u32()?;
        let mut attrs = Attrs::default();
        if flags & ATTR_SIZE != 0 {
            attrs.size = Some(self.u64()?);
        }
        if flags & ATTR_OWNER != 0 {
            attrs.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & ATTR_PERMISSIONS != 0 {
            attrs.permissions = Some(self.u32()?);
        }
        if flags & ATTR_TIMES != 0 {
            attrs.times = Some((self.u32()?, self.u32()?));
        }
        Some(attrs)
    }
}

// === impl OpenFlags ===

impl OpenFlags {
    /// From the number on the wire.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// `SSH_FXF_WRITE`, or one of the flags that only make sense with it.
    #[must_use]
    pub fn writes(self) -> bool {
        self.0 & 0x2 != 0 || self.appends() || self.truncates()
    }

    /// `SSH_FXF_APPEND`
    #[must_use]
    pub fn appends(self) -> bool {
        self.0 & 0x4 != 0
    }

    /// `SSH_FXF_TRUNC`
    #[must_use]
    pub fn truncates(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// `SSH_FXF_CREAT`
    #[must_use]
    pub fn creates(self) -> bool {
        self.0 & 0x8 != 0
    }

    /// `SSH_FXF_EXCL`
    #[must_use]
    pub fn excludes(self) -> bool {
        self.0 & 0x20 != 0
    }
}

// === impl Attrs ===

impl Attrs {
    fn encode(&self, out: &mut Vec<u8>) {
        let flag = |there: bool, bit: u32| if there { bit } else { 0 };
        let flags = flag(self.size.is_some(), ATTR_SIZE)
            | flag(self.owner.is_some(), ATTR_OWNER)
            | flag(self.permissions.is_some(), ATTR_PERMISSIONS)
            | flag(self.times.is_some(), ATTR_TIMES);
        put_u32(out, flags);
        if let Some(size) = self.size {
            out.extend_from_slice(&size.to_be_bytes());
        }
        if let Some((user, group)) = self.owner {
            put_u32(out, user);
            put_u32(out, group);
        }
        if let Some(permissions) = self.permissions {
            put_u32(out, permissions);
        }
        if let Some((accessed, modified)) = self.times {
            put_u32(out, accessed);
            put_u32(out, modified);
        }
    }
}

// === impl Status ===

impl Status {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Eof => 1,
            Self::NoSuchFile => 2,
            Self::PermissionDenied => 3,
            Self::Failure => 4,
            Self::BadMessage => 5,
            Self::OpUnsupported => 8,
        }
    }
}

/// Appends the VERSION reply: version 3 and our extensions.
pub fn put_version(out: &mut Vec<u8>) {
    put_packet(out, REPLY_VERSION, |out| {
        put_u32(out, VERSION);
        for (extension, version) in ADVERTISED {
            put_string(out, extension.as_bytes());
            put_string(out, version.as_bytes());
        }
    });
}

/// Appends a STATUS reply. The text is made ASCII and cut at 200 bytes.
pub fn put_status(out: &mut Vec<u8>, id: u32, status: Status, text: &str) {
    put_packet(out, REPLY_STATUS, |out| {
        put_u32(out, id);
        put_u32(out, status.code());
        let line = ascii_line(text, limits::SFTP_STATUS_TEXT_BYTES_MAX);
        put_string(out, line.as_bytes());
        put_string(out, b"en");
    });
}

/// Appends a HANDLE reply.
pub fn put_handle(out: &mut Vec<u8>, id: u32, handle: &[u8]) {
    put_packet(out, REPLY_HANDLE, |out| {
        put_u32(out, id);
        put_string(out, handle);
    });
}

/// Appends a DATA reply.
pub fn put_data(out: &mut Vec<u8>, id: u32, data: &[u8]) {
    put_packet(out, REPLY_DATA, |out| {
        put_u32(out, id);
        put_string(out, data);
    });
}

/// Appends an ATTRS reply.
pub fn put_attrs(out: &mut Vec<u8>, id: u32, attrs: &Attrs) {
    put_packet(out, REPLY_ATTRS, |out| {
        put_u32(out, id);
        attrs.encode(out);
    });
}

/// Appends the reply to limits@openssh.com: packet, READ, WRITE, handles.
pub fn put_limits(out: &mut Vec<u8>, id: u32) {
    put_packet(out, REPLY_EXTENDED, |out| {
        put_u32(out, id);
        for limit in [
            u64::from(limits::SFTP_PACKET_BYTES_MAX),
            u64::from(limits::SFTP_READ_BYTES_MAX),
            u64::from(limits::SFTP_WRITE_BYTES_MAX),
            u64::try_from(limits::SFTP_HANDLES_MAX).unwrap_or(u64::MAX),
        ] {
            out.extend_from_slice(&limit.to_be_bytes());
        }
    });
}

/// Appends the reply to statvfs@openssh.com (OpenSSH's PROTOCOL section 4.4). Blocks
/// of 4 KiB: smaller ones overflow the arithmetic of some clients.
pub fn put_volume(out: &mut Vec<u8>, id: u32, volume: Volume) {
    const BLOCK_BYTES: u64 = 4096;
    const READ_ONLY_NO: u64 = 0;
    put_packet(out, REPLY_EXTENDED, |out| {
        put_u32(out, id);
        let (blocks, free) = (volume.bytes / BLOCK_BYTES, volume.free / BLOCK_BYTES);
        let name_bytes = u64::try_from(limits::NAME_BYTES_MAX).unwrap_or(u64::MAX);
        for number in [
            BLOCK_BYTES,
            BLOCK_BYTES,
            blocks,
            free,
            free,
            // Files are not counted.
            1 << 31,
            1 << 31,
            1 << 31,
            0,
            READ_ONLY_NO,
            name_bytes,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    });
}

/// Appends the reply to a check-file request: which digest, and its value.
pub fn put_check_file(out: &mut Vec<u8>, id: u32, algorithm: &str, digest: &[u8]) {
    put_packet(out, REPLY_EXTENDED, |out| {
        put_u32(out, id);
        put_string(out, b"check-file");
        put_string(out, algorithm.as_bytes());
        out.extend_from_slice(digest);
    });
}

/// Appends a NAME reply with one path and no attributes, as REALPATH wants it.
pub fn put_path(out: &mut Vec<u8>, id: u32, path: &str) {
    let mut names = Names::begin(out, id);
    names.push(path, path, &Attrs::default());
    names.finish();
}

// === impl Names ===

impl<'o> Names<'o> {
    /// Starts the reply at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>, id: u32) -> Self {
        let start = out.len();
        put_u32(out, 0);
        out.push(REPLY_NAME);
        put_u32(out, id);
        put_u32(out, 0);
        Self {
            out,
            start,
            count: 0,
        }
    }

    /// Adds one entry.
    pub fn push(&mut self, name: &str, long_name: &str, attrs: &Attrs) {
        put_string(self.out, name.as_bytes());
        put_string(self.out, long_name.as_bytes());
        attrs.encode(self.out);
        self.count += 1;
    }

    /// Size of the packet so far, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.out.len().saturating_sub(self.start)
    }

    /// Ends the reply.
    pub fn finish(self) {
        // length, type, id
        let count_at = self.start + 4 + 1 + 4;
        if let Some(place) = self.out.get_mut(count_at..count_at + 4) {
            place.copy_from_slice(&self.count.to_be_bytes());
        }
        set_length(self.out, self.start);
    }
}

/// One line of `ls -l`, as clients print it: `-r--r--r--   1 acme     acme      386 Nov 21 05:44 a`.
/// Files older than half a year show their year instead of the time, as `ls` does.
#[must_use]
pub fn long_name(name: &str, owner: &str, attrs: &Attrs, now_secs: i64) -> String {
    const HALF_A_YEAR_SECS: i64 = 182 * 24 * 3600;
    let modified = attrs.times.map_or(0, |(_, modified)| i64::from(modified));
    let age_secs = now_secs.saturating_sub(modified);
    let format = if (-3600..HALF_A_YEAR_SECS).contains(&age_secs) {
        "%b %e %H:%M"
    } else {
        "%b %e  %Y"
    };
    let date = jiff::Timestamp::from_second(modified)
        .map(|at| at.strftime(format).to_string())
        .unwrap_or_default();
    format!(
        "{} {:>3} {owner:<8} {owner:<8} {:>8} {date} {name}",
        mode_text(attrs.permissions.unwrap_or(0)),
        1,
        attrs.size.unwrap_or(0),
    )
}

/// `drwx------`
fn mode_text(mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(if mode & 0o170_000 == 0o040_000 {
        'd'
    } else {
        '-'
    });
    for shift in [6, 3, 0] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(if bits & 1 != 0 { 'x' } else { '-' });
    }
    text
}

/// `text` on one line of printable ASCII: everything else is written as an escape, and what is
/// over `bytes_max` is cut with `...`.
#[must_use]
pub fn ascii_line(text: &str, bytes_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        if matches!(c, ' '..='~') {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
        if line.len() > bytes_max {
            line.truncate(bytes_max.saturating_sub(3));
            line.push_str("...");
            break;
        }
    }
    line
}

fn put_packet(out: &mut Vec<u8>, code: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_u32(out, 0);
    out.push(code);
    body(out);
    set_length(out, start);
}

/// Writes the length of everything behind the four bytes at `start` into them.
fn set_length(out: &mut [u8], start: usize) {
    let body = out.get(start + 4..).map_or(0, length_of);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&body.to_be_bytes());
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, length_of(bytes));
    out.extend_from_slice(bytes);
}

/// Feeds `data` whole, byte by byte and cut by its own content: the events must be the same, the
/// parser must not panic. For fuzzers and tests.
///
/// # Panics
/// When the events differ: that is its purpose.
pub fn fuzz_sftp_frame(data: &[u8]) {
    let whole = Seen::of(std::iter::once(data));
    assert_eq!(whole, Seen::of(data.chunks(1)), "cut into single bytes");
    let step = 2 + data
        .iter()
        .fold(0, |sum: usize, b| (sum + usize::from(*b)) % 61);
    assert_eq!(whole, Seen::of(data.chunks(step)), "cut every {step} bytes");
}

/// What a parser reported, in a form two runs can be compared by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    events: Vec<String>,
    payload: Vec<u8>,
    fatal: Option<Fatal>,
    between: bool,
}

impl Seen {
    fn of<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> Self {
        let mut seen = Self::default();
        let mut parser = Parser::default();
        for piece in pieces {
            if let Err(fatal) = parser.feed(piece, &mut seen) {
                seen.fatal = Some(fatal);
            }
        }
        seen.between = parser.is_between_packets();
        seen
    }

    fn flush_payload(&mut self) {
        if !self.payload.is_empty() {
            let mut line = String::from("data ");
            for byte in self.payload.drain(..) {
                let _infallible = write!(line, "{byte:02x}");
            }
            self.events.push(line);
        }
    }
}

impl Sink for Seen {
    fn init(&mut self, version: u32) {
        self.events.push(format!("init {version}"));
    }
    fn request(&mut self, id: u32, op: &'static Op, request: Request<'_>) {
        self.events.push(format!("{id} {} {request:?}", op.name));
    }
    fn bad(&mut self, id: u32) {
        self.events.push(format!("{id} bad"));
    }
    fn unsupported(&mut self, id: u32) {
        self.events.push(format!("{id} unsupported"));
    }
    fn write_begin(&mut self, id: u32, handle: &[u8], offset: u64, bytes: u32) {
        self.events
            .push(format!("{id} write {handle:?} {offset} {bytes}"));
    }
    fn write_data(&mut self, data: &[u8]) {
        assert!(!data.is_empty());
        self.payload.extend_from_slice(data);
    }
    fn write_end(&mut self) {
        self.flush_payload();
        self.events.push("end".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INIT: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];

    fn packet(code: u8, id: u32, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        put_packet(&mut out, code, |out| {
            put_u32(out, id);
            for part in parts {
                out.extend_from_slice(part);
            }
        });
        out
    }

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, bytes);
        out
    }

    fn write_packet(id: u32, handle: &[u8], offset: u64, data: &[u8]) -> Vec<u8> {
        let parts = [string(handle), offset.to_be_bytes().to_vec(), string(data)];
        packet(6, id, &[&parts[0], &parts[1], &parts[2]])
    }

    /// The events of `packets` after a greeting, the greeting's own left out.
    fn seen(packets: &[&[u8]]) -> Seen {
        let mut stream = INIT.to_vec();
        stream.extend(packets.concat());
        fuzz_sftp_frame(&stream);
        let mut seen = Seen::of(std::iter::once(&stream[..]));
        seen.flush_payload();
        assert_eq!(seen.events.remove(0), "init 3");
        seen
    }

    #[test]
    fn every_name_and_every_plain_code_stands_once_in_the_table() {
        for (place, op) in OPS.iter().enumerate() {
            for other in &OPS[place + 1..] {
                assert_ne!(op.name, other.name);
                assert!(op.code == EXTENDED || op.code != other.code, "{}", op.name);
            }
            assert_eq!(op.permit == Permit::Never, op.decode == Decode::Refused);
        }
    }

    #[test]
    fn what_is_advertised_is_in_the_table_and_allowed() {
        for (name, _) in ADVERTISED {
            // The one name stands for two requests.
            let wanted = if name == "check-file" {
                "check-file-name"
            } else {
                name
            };
            let op = OPS.iter().find(|op| op.name == wanted).unwrap();
            assert_eq!(op.code, EXTENDED);
            assert_ne!(op.permit, Permit::Never);
        }
    }

    #[test]
    fn a_plain_put_of_openssh_is_followed_to_the_byte() {
        let got = seen(&[
            &packet(200, 1, &[&string(b"limits@openssh.com")]),
            &packet(16, 2, &[&string(b".")]),
            &packet(
                3,
                3,
                &[
                    &string(b"/inbox/a.csv"),
                    &[0, 0, 0, 0x1a],
                    &[0, 0, 0, 4, 0, 0, 0o1, 0o244],
                ],
            ),
            &write_packet(4, b"\0\0\0\x01", 7, b"abc"),
            &packet(4, 5, &[&string(b"\0\0\0\x01")]),
        ]);
        assert_eq!(
            got.events,
            [
                "1 limits@openssh.com Limits",
                "2 realpath RealPath { path: [46] }",
                "3 open Open { path: [47, 105, 110, 98, 111, 120, 47, 97, 46, 99, 115, 118], \
                 flags: OpenFlags(26), attrs: Attrs { size: None, owner: None, \
                 permissions: Some(420), times: None } }",
                "4 write [0, 0, 0, 1] 7 3",
                "data 616263",
                "end",
                "5 close Close { handle: [0, 0, 0, 1] }",
            ]
        );
        assert!(got.between);
        assert_eq!(got.fatal, None);
    }

    #[test]
    fn bytes_behind_a_request_are_ignored() {
        let got = seen(&[
            &packet(4, 1, &[&string(b"h"), b"junk"]),
            &packet(6, 2, &[&string(b"h"), &[0; 8], &string(b"xy"), b"junk"]),
            &packet(17, 3, &[&string(b"/")]),
        ]);
        assert_eq!(
            got.events,
            [
                "1 close Close { handle: [104] }",
                "2 write [104] 0 2",
                "data 7879",
                "end",
                "3 stat Stat { path: [47] }",
            ]
        );
    }

    #[test]
    fn a_request_that_does_not_hold_together_is_bad_under_its_own_id() {
        let got = seen(&[
            &packet(4, 7, &[&[0, 0, 0, 9, 1]]),
            &packet(6, 8, &[&[0, 0, 0, 9, 1]]),
            &packet(6, 9, &[]),
            &packet(6, 10, &[&string(&[1; 257]), &[0; 8], &string(b"x")]),
            &packet(6, 11, &[&string(b"h"), &[0; 8], &[0, 0, 0, 5, 1, 2]]),
            &packet(200, 12, &[]),
            &packet(18, 13, &[&string(b"/only-one")]),
            &packet(17, 14, &[&vec![0; 40_000]]),
            &packet(17, 15, &[&string(b"/")]),
        ]);
        let mut expected: Vec<_> = (7..=14).map(|id| format!("{id} bad")).collect();
        expected.push("15 stat Stat { path: [47] }".to_owned());
        assert_eq!(got.events, expected);
    }

    #[test]
    fn what_is_not_in_the_table_is_unsupported_and_what_is_refused_is_not_read() {
        let got = seen(&[
            &packet(99, 1, &[b"?"]),
            &packet(200, 2, &[&string(b"space-available")]),
            &packet(20, 3, &[]),
            &packet(200, 4, &[&string(b"copy-data")]),
        ]);
        assert_eq!(
            got.events,
            [
                "1 unsupported",
                "2 unsupported",
                "3 symlink Refused",
                "4 copy-data Refused",
            ]
        );
    }

    #[test]
    fn lengths_beyond_the_cap_and_below_an_id_end_the_stream() {
        let over = limits::SFTP_PACKET_BYTES_MAX + 1;
        for (length, fatal) in [
            (over, Fatal::TooLong(over)),
            (u32::MAX, Fatal::TooLong(u32::MAX)),
            (1 << 31, Fatal::TooLong(1 << 31)),
            (0, Fatal::TooShort(0)),
            (4, Fatal::TooShort(4)),
        ] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend([4, 0, 0, 0]);
            assert_eq!(seen(&[&bytes]).fatal, Some(fatal), "{length}");
        }
    }

    #[test]
    fn a_dead_parser_stays_dead() {
        let mut parser = Parser::default();
        let mut sink = Seen::default();
        assert_eq!(
            parser.feed(&[0xff; 4], &mut sink),
            Err(Fatal::TooLong(u32::MAX))
        );
        assert_eq!(parser.feed(INIT, &mut sink), Err(Fatal::TooLong(u32::MAX)));
        assert_eq!(sink.events, Vec::<String>::new());
    }

    #[test]
    fn nothing_is_answered_before_the_greeting() {
        let stat = packet(17, 1, &[&string(b"/")]);
        let got = Seen::of(std::iter::once(&stat[..]));
        assert_eq!(got.fatal, Some(Fatal::NotGreeted));
    }

    #[test]
    fn the_largest_packet_is_taken_and_its_payload_never_kept() {
        let payload = vec![7; 261_120];
        let stream = [INIT, &write_packet(1, b"\0\0\0\x01", 0, &payload)].concat();
        let mut parser = Parser::default();
        let mut sink = Seen::default();
        for piece in stream.chunks(32 * 1024) {
            parser.feed(piece, &mut sink).unwrap();
            if let State::WriteHead { head, .. } = &parser.state {
                assert!(head.capacity() < 1024, "{} bytes kept", head.capacity());
            }
        }
        assert!(parser.is_between_packets());
        assert_eq!(sink.events.last().unwrap(), "end");
    }

    #[test]
    fn an_announced_length_alone_allocates_nothing() {
        let mut parser = Parser::default();
        parser.feed(INIT, &mut Seen::default()).unwrap();
        parser
            .feed(&[0, 0, 0x70, 0, 17, 0], &mut Seen::default())
            .unwrap();
        let State::Gather { body, .. } = &parser.state else {
            panic!("{:?}", parser.state);
        };
        assert!(body.capacity() < 64);
        assert!(!parser.is_between_packets());
    }

    #[test]
    fn attributes_survive_the_way_out_and_in() {
        let attrs = Attrs {
            size: Some(u64::MAX),
            owner: Some((1, 2)),
            permissions: Some(0o100_644),
            times: Some((3, 4)),
        };
        let mut bytes = Vec::new();
        attrs.encode(&mut bytes);
        assert_eq!(Reader(&bytes).attrs(), Some(attrs));
    }

    #[test]
    fn the_version_reply_is_fixed_to_the_byte() {
        let mut out = Vec::new();
        put_version(&mut out);
        let mut expected = Vec::new();
        put_packet(&mut expected, 2, |out| {
            out.extend([0, 0, 0, 3]);
            for (name, version) in [
                (&b"posix-rename@openssh.com"[..], b"1"),
                (b"statvfs@openssh.com", b"2"),
                (b"fstatvfs@openssh.com", b"2"),
                (b"fsync@openssh.com", b"1"),
                (b"limits@openssh.com", b"1"),
                (b"lsetstat@openssh.com", b"1"),
                (b"home-directory", b"1"),
                (b"expand-path@openssh.com", b"1"),
                (b"check-file", b"1"),
            ] {
                out.extend(string(name));
                out.extend(string(version));
            }
        });
        assert_eq!(out, expected);
        assert_eq!(out[..9], [0, 0, 0, 251, 2, 0, 0, 0, 3]);
    }

    #[test]
    fn a_status_text_is_one_line_of_ascii_and_at_most_200_bytes() {
        let mut out = Vec::new();
        put_status(&mut out, 9, Status::Failure, "a\r\n\u{1b}[2J\u{e4}b");
        assert_eq!(
            out,
            packet(
                101,
                9,
                &[
                    &[0, 0, 0, 4],
                    &string(br"a\r\n\u{1b}[2J\u{e4}b"),
                    &string(b"en")
                ]
            )
        );
        let long = ascii_line(&"\u{e4}x".repeat(150), 200);
        assert!(long.is_ascii() && long.len() <= 200 && long.ends_with("..."));
        assert_eq!(ascii_line(&"x".repeat(200), 200), "x".repeat(200));
    }

    #[test]
    fn replies_have_the_layout_of_the_draft() {
        let mut out = Vec::new();
        put_handle(&mut out, 1, b"ab");
        put_data(&mut out, 2, b"xyz");
        assert_eq!(
            out,
            [
                &[0, 0, 0, 11, 102, 0, 0, 0, 1, 0, 0, 0, 2, b'a', b'b'][..],
                &[0, 0, 0, 12, 103, 0, 0, 0, 2, 0, 0, 0, 3, b'x', b'y', b'z'],
            ]
            .concat()
        );
        let mut out = vec![9];
        put_path(&mut out, 3, "/i");
        assert_eq!(
            out,
            [
                &[9, 0, 0, 0, 25, 104, 0, 0, 0, 3, 0, 0, 0, 1][..],
                &[0, 0, 0, 2, b'/', b'i', 0, 0, 0, 2, b'/', b'i', 0, 0, 0, 0],
            ]
            .concat()
        );
        let mut out = Vec::new();
        put_limits(&mut out, 4);
        assert_eq!(out.len(), 4 + 1 + 4 + 32);
        assert_eq!(out[9..17], 262_144_u64.to_be_bytes());
        assert_eq!(out[25..33], 261_120_u64.to_be_bytes());
    }

    #[test]
    fn a_long_name_looks_like_ls() {
        let attrs = |mode, size, at| Attrs {
            size: Some(size),
            owner: None,
            permissions: Some(mode),
            times: Some((at, at)),
        };
        let at = 1_795_239_870;
        assert_eq!(
            long_name(
                "a.csv",
                "acme",
                &attrs(0o100_444, 386, at),
                i64::from(at) + 60
            ),
            "-r--r--r--   1 acme     acme          386 Nov 21 05:44 a.csv"
        );
        assert_eq!(
            long_name("inbox", "acme", &attrs(0o040_700, 0, at), i64::from(at) * 2),
            "drwx------   1 acme     acme            0 Nov 21  2026 inbox"
        );
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_never_depend_on_the_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            fuzz_sftp_frame(&bytes);
            fuzz_sftp_frame(&[INIT, &bytes].concat());
        }

        #[test]
        fn damaged_requests_never_depend_on_the_cut(
            codes in proptest::collection::vec((0..24_u8, 0..8_usize, any::<u32>()), 1..8),
            strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 8),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut stream = INIT.to_vec();
            for (code, place, number) in codes {
                let code = if code == 23 { EXTENDED } else { code };
                let name = OPS[OPS.len() - 1 - place].name.as_bytes();
                let first = string(if code == EXTENDED { name } else { &strings[place] });
                stream.extend(packet(
                    code,
                    number,
                    &[&first, &number.to_be_bytes(), &[0; 4], &string(&strings[7 - place])],
                ));
            }
            for (at, byte) in damage {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
            fuzz_sftp_frame(&stream);
        }
    }
}
