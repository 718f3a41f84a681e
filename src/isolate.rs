//! Rank 3. Decoders in processes of their own.
//!
//! What decodes Parquet or a workbook believes lengths it reads, and a partner writes them: one of them
//! may ask for more memory than there is, and an allocation that fails ends the process it is in. So
//! every such file is decoded by a child that holds no key, no socket and no file: it asks for bytes over
//! a pipe, and tells rows over another. Memory, time and core dumps are bounded by the kernel
//! (setrlimit(2)); however it ends, the answer is a fault of the file and the gateway goes on.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use zeroize::Zeroizing;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use crate::decode::wire::{Said, hear, say};
use crate::decode::{DecodeFault, DecodeFaultKind, Flow, Sink, Source, decode};
use crate::terms::columnar::Columnar;
use crate::terms::limits;

/// The first argument of a child; no verb of the command line.
const CHILD: &str = "__decode";
/// What a panic ends with.
const PANICKED: i32 = 101;

/// What a child ends with that is not allowed to bound itself.
const UNBOUND: i32 = 3;

/// Children at work at this moment, and who waits for a place.
static AT_WORK: (Mutex<Places>, Condvar) = (
    Mutex::new(Places {
        taken: 0,
        waiting: 0,
    }),
    Condvar::new(),
);

/// How many there are.
struct Places {
    taken: usize,
    waiting: usize,
}

/// A place among the children; given back when dropped.
struct Place;

/// A child that does not outlive its parent's interest.
struct Running(Child);

/// Decodes a whole file in a child. Blocks; `sink` gets what it finds.
///
/// # Errors
/// What is not the file's fault: no child could be started, or `source` cannot be read. The result inside
/// is the file's.
pub fn decode_apart(
    format: Columnar,
    sheet: Option<&str>,
    source: &dyn Source,
    sink: &mut Sink<'_>,
) -> io::Result<Result<(), DecodeFault>> {
    let _place = Place::wait()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(CHILD)
        .arg(format.word())
        .arg(source.bytes().to_string())
        .args(sheet)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = Running(command.spawn()?);
    let (Some(to), Some(from)) = (child.0.stdin.take(), child.0.stdout.take()) else {
        return Err(io::Error::other("a child without pipes"));
    };
    match talk(to, from, source, sink)? {
        Some(result) => Ok(result),
        // It has ended without a word, or said what no decoder says.
        None => {
            let status = child.end()?;
            if status.code() == Some(UNBOUND) {
                return Err(io::Error::other(
                    "a decoder may not bound itself (setrlimit)",
                ));
            }
            Ok(Err(why(status)))
        }
    }
}

/// What a process started as a child does, if it was: its exit code.
#[must_use]
pub fn child(arguments: &[OsString]) -> Option<u8> {
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str());
    if word(1) != Some(CHILD) {
        return None;
    }
    let format = word(2).and_then(Columnar::find);
    let bytes = word(3).and_then(|bytes| bytes.parse().ok());
    let (Some(format), Some(bytes)) = (format, bytes) else {
        return Some(1);
    };
    if bound(bytes).is_err() {
        return u8::try_from(UNBOUND).ok();
    }
    let pipe = Arc::new(Pipe {
        bytes,
        ends: Mutex::new((io::stdin(), BufWriter::new(io::stdout()))),
    });
    let tell = |said: &Said| {
        let mut ends = pipe.ends.lock().unwrap_or_else(PoisonError::into_inner);
        say(said, &mut ends.1)
    };
    let source: Arc<dyn Source> = pipe.clone();
    let result = decode(
        format,
        word(4),
        &source,
        &mut |found| match tell(&Said::Found(found)) {
            Ok(()) => Flow::Go,
            Err(_) => Flow::Stop,
        },
    );
    Some(u8::from(tell(&Said::Done(result)).is_err()))
}

/// Reads what a child says until it is done; `None` when it ends before.
fn talk(
    mut to: ChildStdin,
    from: ChildStdout,
    source: &dyn Source,
    sink: &mut Sink<'_>,
) -> io::Result<Option<Result<(), DecodeFault>>> {
    let mut from = BufReader::with_capacity(limits::INSPECT_PIECE_BYTES, from);
    // What passes here is a partner's file in the clear.
    let mut bytes = Zeroizing::new(Vec::new());
    loop {
        match hear(&mut from) {
            Err(_) => return Ok(None),
            Ok(Said::Done(result)) => return Ok(Some(result)),
            Ok(Said::Found(found)) => {
                if sink(found) == Flow::Stop {
                    let stopped = DecodeFault::new(DecodeFaultKind::Stopped, "");
                    return Ok(Some(Err(stopped)));
                }
            }
            Ok(Said::Wants {
                offset,
                bytes: wanted,
            }) => {
                let end = offset.saturating_add(u64::from(wanted));
                if end > source.bytes() {
                    return Ok(None);
                }
                bytes.resize(usize::try_from(wanted).map_err(io::Error::other)?, 0);
                source.read_at(offset, &mut bytes)?;
                // It may have been ended by the kernel: what it says next tells.
                drop(to.write_all(&bytes).and_then(|()| to.flush()));
            }
        }
    }
}

/// Bounds this process for a file of so many bytes.
fn bound(bytes: u64) -> rustix::io::Result<()> {
    let most = |most: u64| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    let seconds = limits::DECODE_SECONDS_MIN + bytes / limits::DECODE_BYTES_PER_SECOND_MIN;
    // A child that its parent has left has nobody to tell.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setrlimit(Resource::Core, most(0))?;
    setrlimit(Resource::Cpu, most(seconds))?;
    setrlimit(Resource::Data, most(limits::DECODE_MEMORY_BYTES_MAX))
}

/// What it means for a file that its decoder ended so.
fn why(status: ExitStatus) -> DecodeFault {
    // signal(7): ABRT is how an allocation fails, SEGV a stack that is used up.
    let (kind, detail) = match (status.signal(), status.code()) {
        (Some(6 | 11), _) => (
            DecodeFaultKind::Limit,
            format!(
                "reading it takes more memory than {} MiB",
                limits::DECODE_MEMORY_BYTES_MAX >> 20
            ),
        ),
        (Some(9 | 24), _) => (
            DecodeFaultKind::Limit,
            "reading it takes longer than any file of its size".to_owned(),
        ),
        (_, Some(PANICKED)) => (
            DecodeFaultKind::Broken,
            "it is broken in a way its reader does not know".to_owned(),
        ),
        (_, _) => (
            DecodeFaultKind::Broken,
            "its reader gave up on it".to_owned(),
        ),
    };
    DecodeFault::new(kind, detail)
}

// === impl Place ===

impl Place {
    /// Waits until one is free, unless too many wait already: each of them holds a thread.
    fn wait() -> io::Result<Self> {
        let (places, freed) = &AT_WORK;
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.waiting >= limits::DECODERS_WAITING_MAX {
            return Err(io::Error::other("too many files wait for a decoder"));
        }
        places.waiting += 1;
        while places.taken >= limits::DECODERS_MAX {
            places = freed.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
        places.waiting -= 1;
        places.taken += 1;
        Ok(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (places, freed) = &AT_WORK;
        places.lock().unwrap_or_else(PoisonError::into_inner).taken -= 1;
        freed.notify_one();
    }
}

// === impl Running ===

impl Running {
    /// How it ends by itself: its pipes are closed.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is not harmed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The file, at the other end of the pipes.
struct Pipe {
    bytes: u64,
    ends: Mutex<(io::Stdin, BufWriter<io::Stdout>)>,
}

// === impl Pipe ===

impl Source for Pipe {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        for (offset, piece) in (offset..)
            .step_by(limits::INSPECT_BATCH_BYTES)
            .zip(into.chunks_mut(limits::INSPECT_BATCH_BYTES))
        {
            let bytes = u32::try_from(piece.len()).map_err(io::Error::other)?;
            let end = offset.checked_add(u64::from(bytes));
            if end.is_none_or(|end| end > self.bytes) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            say(&Said::Wants { offset, bytes }, &mut ends.1)?;
            ends.0.read_exact(piece)?;
        }
        Ok(())
    }
}
