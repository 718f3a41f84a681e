//! The legacy scp protocol (BSD rcp), the side that receives: bytes in, events out.
//!
//! There is no specification; this follows OpenSSH's `sink()` in scp.c. Each control line (`C`,
//! `D`, `T`, `E`) waits for an answer of one zero byte, or of 1 and a message. The payload of a
//! file follows its `C` only when that was answered with zero. Nothing is allocated by a length
//! somebody declared, and payload is never kept.

use std::fmt::Write as _;

use crate::terms::limits;
use crate::wire::sftp::ascii_line;

/// Longest text of an answer, bytes: as long as a line on stderr, and a fraction of the 2 KiB that
/// OpenSSH's `scp` reads.
const ERROR_TEXT_BYTES_MAX: usize = 400;

/// Turns what an `scp` client sends into calls on [`Events`].
#[derive(Debug, Default)]
pub struct SinkParser {
    state: State,
}

/// What the client said.
pub trait Events {
    /// `T`: the times of the next file, seconds since 1970. Wants an answer.
    fn times(&mut self, modified: i64);
    /// `C`: a file follows once [`SinkParser::proceed`] was called. Wants an answer.
    fn file(&mut self, name: &[u8], bytes: u64);
    /// `D`: what follows is below this folder. Wants an answer.
    fn folder(&mut self, name: &[u8]);
    /// `E`: the folder is done. Wants an answer.
    fn folder_end(&mut self);
    /// The next piece of the payload, never empty.
    fn data(&mut self, data: &[u8]);
    /// The payload is whole; with a message when the client could not read its file to the end.
    /// Wants an answer.
    fn file_end(&mut self, complaint: Option<&[u8]>);
    /// The client says that something went wrong on its side. Wants none.
    fn complaint(&mut self, text: &[u8]);
}

/// How a `C` line was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The payload may come.
    Take,
    /// The client goes on with the next line.
    Refuse,
}

/// The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Bytes before the answer they have to wait for.
    #[error("the client sent on without waiting for an answer")]
    Hasty,
    /// A control line that is none of the four, or does not hold together.
    #[error("not a line of the scp protocol")]
    Line,
    /// A control line longer than any name.
    #[error(
        "a line of the scp protocol is longer than {} bytes",
        limits::SCP_LINE_BYTES_MAX
    )]
    TooLong,
}

#[derive(Debug)]
enum State {
    /// Collecting a control line, without its line end.
    Line(Vec<u8>),
    /// A `C` line waits for its answer.
    Asked { bytes: u64 },
    /// Another line, or the end of a payload, waits for one.
    Told,
    /// A payload is coming.
    Data { left: u64 },
    /// The byte behind a payload, then a message unless it is zero.
    Status(Option<Vec<u8>>),
    /// It is over.
    Dead(Malformed),
}

// === impl SinkParser ===

impl Default for State {
    fn default() -> Self {
        Self::Line(Vec::new())
    }
}

impl SinkParser {
    /// Takes the next bytes, of any length.
    ///
    /// # Errors
    /// [`Malformed`], and the same again on every later call.
    pub fn feed(&mut self, input: &[u8], events: &mut impl Events) -> Result<(), Malformed> {
        let mut rest = input;
        while !rest.is_empty() {
            if let Err(malformed) = self.step(&mut rest, events) {
                self.state = State::Dead(malformed);
                return Err(malformed);
            }
        }
        Ok(())
    }

    /// The last line was answered.
    pub fn proceed(&mut self, answer: Answer) {
        match (&self.state, answer) {
            (State::Asked { bytes: 0 }, Answer::Take) => self.state = State::Status(None),
            (State::Asked { bytes }, Answer::Take) => self.state = State::Data { left: *bytes },
            (State::Asked { .. }, Answer::Refuse) | (State::Told, _) => {
                self.state = State::default();
            }
            (State::Line(_) | State::Data { .. } | State::Status(_) | State::Dead(_), _) => {}
        }
    }

    /// Nothing is half said.
    fn is_between_lines(&self) -> bool {
        match &self.state {
            State::Line(line) => line.is_empty(),
            State::Told => true,
            State::Asked { .. } | State::Data { .. } | State::Status(_) | State::Dead(_) => false,
        }
    }

    /// The client ends here. Some (libssh2, so curl) end behind the payload, without the byte that
    /// should follow it: a file of which every byte has come is whole all the same. False: it
    /// ended in the middle of something.
    pub fn end(&mut self, events: &mut impl Events) -> bool {
        if matches!(self.state, State::Status(None)) {
            self.state = State::Told;
            events.file_end(None);
        }
        self.is_between_lines()
    }

    fn step(&mut self, rest: &mut &[u8], events: &mut impl Events) -> Result<(), Malformed> {
        match &mut self.state {
            State::Line(line) => {
                if !take_line(rest, line)? {
                    return Ok(());
                }
                let line = std::mem::take(line);
                self.control(&line, events)
            }
            State::Asked { .. } | State::Told => Err(Malformed::Hasty),
            State::Data { left } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let (data, after) = rest.split_at(most.min(rest.len()));
                *rest = after;
                *left = left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
                let is_whole = *left == 0;
                events.data(data);
                if is_whole {
                    self.state = State::Status(None);
                }
                Ok(())
            }
            State::Status(message) => {
                if let Some(message) = message {
                    if take_line(rest, message)? {
                        let message = std::mem::take(message);
                        self.state = State::Told;
                        events.file_end(Some(&message));
                    }
                    return Ok(());
                }
                let Some((byte, after)) = rest.split_first() else {
                    return Ok(());
                };
                *rest = after;
                match byte {
                    0 => {
                        self.state = State::Told;
                        events.file_end(None);
                        Ok(())
                    }
                    1 | 2 => {
                        *message = Some(Vec::new());
                        Ok(())
                    }
                    _ => Err(Malformed::Line),
                }
            }
            State::Dead(malformed) => Err(*malformed),
        }
    }

    fn control(&mut self, line: &[u8], events: &mut impl Events) -> Result<(), Malformed> {
        let (kind, body) = line.split_first().ok_or(Malformed::Line)?;
        match kind {
            1 | 2 => events.complaint(body),
            b'T' => {
                let modified = times(body).ok_or(Malformed::Line)?;
                self.state = State::Told;
                events.times(modified);
            }
            b'C' => {
                let (bytes, name) = entry(body).ok_or(Malformed::Line)?;
                self.state = State::Asked { bytes };
                events.file(name, bytes);
            }
            b'D' => {
                let (_, name) = entry(body).ok_or(Malformed::Line)?;
                self.state = State::Told;
                events.folder(name);
            }
            b'E' if body.is_empty() => {
                self.state = State::Told;
                events.folder_end();
            }
            _ => return Err(Malformed::Line),
        }
        Ok(())
    }
}

/// Moves bytes up to a line end; true when it was there.
fn take_line(rest: &mut &[u8], line: &mut Vec<u8>) -> Result<bool, Malformed> {
    let end = memchr::memchr(b'\n', rest);
    let (front, after) = rest.split_at(end.unwrap_or(rest.len()));
    if line.len() + front.len() > limits::SCP_LINE_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    line.extend_from_slice(front);
    *rest = after.get(usize::from(end.is_some())..).unwrap_or_default();
    Ok(end.is_some())
}

/// `<mtime> <usec> <atime> <usec>`
fn times(body: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(body).ok()?;
    let numbers: Option<Vec<i64>> = text.split(' ').map(|word| word.parse().ok()).collect();
    match numbers?.as_slice() {
        [modified, _, _, _] => Some(*modified),
        _ => None,
    }
}

/// `<mode> <size> <name>`; the name is everything behind the second blank.
fn entry(body: &[u8]) -> Option<(u64, &[u8])> {
    let mut parts = body.splitn(3, |byte| *byte == b' ');
    let (mode, size, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_mode = mode.len() == 4 && mode.iter().all(|byte| (b'0'..=b'7').contains(byte));
    let digits = size.iter().all(u8::is_ascii_digit) && !size.is_empty();
    let bytes = std::str::from_utf8(size).ok()?.parse().ok()?;
    (is_mode && digits && !name.is_empty()).then_some((bytes, name))
}

// === what a source sends ===

/// `T<mtime> 0 <atime> 0`
#[must_use]
pub fn times_line(modified: i64) -> Vec<u8> {
    format!("T{modified} 0 {modified} 0\n").into_bytes()
}

/// `C0444 <size> <name>`
#[must_use]
pub fn file_line(mode: u32, bytes: u64, name: &str) -> Vec<u8> {
    format!("C{:04o} {bytes} {}\n", mode & 0o777, one_line(name)).into_bytes()
}

/// `D0555 0 <name>`
#[must_use]
pub fn folder_line(mode: u32, name: &str) -> Vec<u8> {
    format!("D{:04o} 0 {}\n", mode & 0o777, one_line(name)).into_bytes()
}

/// An answer that something went wrong: what `scp` prints on its user's terminal. Printable ASCII,
/// as everything said on a terminal: not every client escapes what it prints.
#[must_use]
pub fn error_line(text: &str) -> Vec<u8> {
    let text = ascii_line(text, ERROR_TEXT_BYTES_MAX);
    format!("\x01sallyport: {text}\n").into_bytes()
}

/// A name in a control line; a control character would end the line.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a string does not fail.
            let _written = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// However a stream is cut, the same events come out.
///
/// # Panics
/// When they do not: that is what a fuzzer looks for.
pub fn fuzz_scp(stream: &[u8], cut: usize) {
    let whole = Recorder::of(&[stream]);
    let (front, back) = stream.split_at(cut.min(stream.len()));
    assert_eq!(whole, Recorder::of(&[front, back]), "cut at {cut}");
}

/// Events as text; takes every file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recorder {
    seen: String,
    data: Vec<u8>,
    asked: bool,
}

impl Recorder {
    fn of(pieces: &[&[u8]]) -> (Self, Option<Malformed>) {
        let mut parser = SinkParser::default();
        let mut recorder = Self::default();
        for piece in pieces {
            // Byte by byte: a real client waits for the answer to its `C`.
            for byte in *piece {
                if let Err(malformed) = parser.feed(&[*byte], &mut recorder) {
                    return (recorder, Some(malformed));
                }
                if std::mem::take(&mut recorder.asked) {
                    parser.proceed(Answer::Take);
                }
            }
        }
        (recorder, None)
    }

    fn note(&mut self, what: &str, bytes: &[u8]) {
        self.asked = true;
        self.seen.push_str(what);
        self.seen.push_str(&String::from_utf8_lossy(bytes));
        self.seen.push('\n');
    }
}

impl Events for Recorder {
    fn times(&mut self, modified: i64) {
        self.note("times ", modified.to_string().as_bytes());
    }
    fn file(&mut self, name: &[u8], bytes: u64) {
        self.note(&format!("file {bytes} "), name);
    }
    fn folder(&mut self, name: &[u8]) {
        self.note("folder ", name);
    }
    fn folder_end(&mut self) {
        self.note("end", b"");
    }
    fn data(&mut self, data: &[u8]) {
        self.data.extend_from_slice(data);
    }
    fn file_end(&mut self, complaint: Option<&[u8]>) {
        self.note("whole ", complaint.unwrap_or_default());
    }
    fn complaint(&mut self, text: &[u8]) {
        self.note("complaint ", text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(stream: &[u8]) -> String {
        let (recorder, malformed) = Recorder::of(&[stream]);
        assert_eq!(malformed, None);
        recorder.seen
    }

    fn broken(stream: &[u8]) -> Option<Malformed> {
        Recorder::of(&[stream]).1
    }

    #[test]
    fn files_folders_and_times_are_told_in_order() {
        let stream = b"T1700000000 0 1700000001 0\nC0644 5 a b.csv\nhello\0D0755 0 sub\nC0600 0 empty\n\0E\n";
        assert_eq!(
            seen(stream),
            "times 1700000000\nfile 5 a b.csv\nwhole \nfolder sub\nfile 0 empty\nwhole \nend\n"
        );
        assert_eq!(Recorder::of(&[stream]).0.data, b"hello");
    }

    #[test]
    fn a_client_that_could_not_read_its_file_says_so() {
        assert_eq!(
            seen(b"C0644 2 x\nab\x01scp: x: Input/output error\nC0644 0 y\n\0"),
            "file 2 x\nwhole scp: x: Input/output error\nfile 0 y\nwhole \n"
        );
        assert_eq!(
            seen(b"\x01scp: no such file\n"),
            "complaint scp: no such file\n"
        );
    }

    #[test]
    fn a_payload_that_is_all_there_is_whole_although_the_client_says_no_more() {
        let end = |stream: &[u8]| {
            let mut parser = SinkParser::default();
            let mut recorder = Recorder::default();
            parser.feed(b"C0644 2 a\n", &mut recorder).unwrap();
            parser.proceed(Answer::Take);
            parser.feed(stream, &mut recorder).unwrap();
            (parser.end(&mut recorder), recorder.seen)
        };
        assert_eq!(end(b"ab"), (true, "file 2 a\nwhole \n".to_owned()));
        assert_eq!(end(b"ab\0"), (true, "file 2 a\nwhole \n".to_owned()));
        assert_eq!(end(b"a"), (false, "file 2 a\n".to_owned()));
        assert_eq!(end(b""), (false, "file 2 a\n".to_owned()));
    }

    #[test]
    fn a_refused_file_has_no_payload() {
        let mut parser = SinkParser::default();
        let mut recorder = Recorder::default();
        parser.feed(b"C0644 5 a\n", &mut recorder).unwrap();
        parser.proceed(Answer::Refuse);
        parser.feed(b"C0644 0 b\n", &mut recorder).unwrap();
        assert_eq!(recorder.seen, "file 5 a\nfile 0 b\n");
    }

    #[test]
    fn what_is_no_line_ends_the_stream() {
        for line in [
            "X0644 5 a\n",
            "\n",
            "\0\n",
            "C0644 5\n",
            "C0644 -5 a\n",
            "C0644 99999999999999999999 a\n",
            "C644 5 a\n",
            "C0648 5 a\n",
            "C0644 5 \n",
            "T1 2 3\n",
            "T1 2 3 4 5\n",
            "Tx 0 0 0\n",
            "E1\n",
        ] {
            assert!(broken(line.as_bytes()).is_some(), "{line:?}");
        }
        let long = [b"C0644 5 ".to_vec(), vec![b'x'; 9000]].concat();
        assert_eq!(broken(&long), Some(Malformed::TooLong));
        assert_eq!(broken(b"C0644 1 a\nx\x07"), Some(Malformed::Line));
        let mut parser = SinkParser::default();
        let mut recorder = Recorder::default();
        for together in [&b"T1 0 1 0\nC0644 5 a\n"[..], b"E\nE\n", b"D0755 0 a\nE\n"] {
            let mut parser = SinkParser::default();
            let hasty = parser.feed(together, &mut Recorder::default());
            assert_eq!(hasty, Err(Malformed::Hasty));
        }
        let hasty = parser.feed(b"C0644 5 a\nhello\0", &mut recorder);
        assert_eq!(hasty, Err(Malformed::Hasty));
        assert_eq!(parser.feed(b"x", &mut recorder), Err(Malformed::Hasty));
    }

    #[test]
    fn what_a_source_says_is_what_a_sink_reads() {
        let lines = [
            times_line(1_700_000_000),
            file_line(0o444, 3, "a b"),
            b"abc\0".to_vec(),
            folder_line(0o555, "c"),
            b"E\n".to_vec(),
        ];
        assert_eq!(
            seen(&lines.concat()),
            "times 1700000000\nfile 3 a b\nwhole \nfolder c\nend\n"
        );
        assert_eq!(error_line("a\r\nb"), b"\x01sallyport: a\\r\\nb\n");
        assert_eq!(
            error_line("\u{202e}\u{1b}[2J\u{e4}"),
            b"\x01sallyport: \\u{202e}\\u{1b}[2J\\u{e4}\n"
        );
        assert!(error_line(&"x".repeat(10_000)).len() < 450);
    }

    proptest! {
        #[test]
        fn random_streams_never_panic_and_never_depend_on_the_cut(
            stream in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0..200_usize,
        ) {
            fuzz_scp(&stream, cut);
            fuzz_scp(&[b"C0644 20 x\n", &stream[..]].concat(), cut);
        }
    }
}
