//! Commands that clients run instead of a subsystem: legacy `scp`, and programs that print a digest.
//!
//! There is no shell. A command is taken apart by the quoting rules of POSIX (Shell Command
//! Language, section 2.2), because clients quote for one; what would need one (`;`, `|`, `$`,
//! backquotes, redirections) makes it an unknown command. Nothing is ever expanded but `~` at the
//! front of a path, which is the partner's root, and `*` and `?` in what `scp -f` is to send.

/// A command, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exec {
    /// `md5sum`, `sha1sum`, `sha256sum` or `b3sum` of files.
    Sum {
        /// Which.
        function: SumFunction,
        /// The files, as written; empty: of standard input.
        paths: Vec<Word>,
    },
    /// `scp -f`: the client fetches.
    Source {
        /// What to send.
        paths: Vec<Word>,
        /// `-r`
        recursive: bool,
        /// `-p`
        times: bool,
    },
    /// `scp -t`: the client sends.
    Target {
        /// Where to.
        path: Word,
        /// `-r`
        recursive: bool,
        /// `-d`: the target has to be a folder.
        folder: bool,
    },
    /// Anything else.
    Unknown,
}

/// A program that prints a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumFunction {
    /// `b3sum`
    Blake3,
    /// `md5sum`
    Md5,
    /// `sha1sum`
    Sha1,
    /// `sha256sum`
    Sha256,
}

/// One word of a command, quotes taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where in them an unquoted `*` or `?` stands.
    wild: Vec<usize>,
    /// It began with an unquoted `~`.
    home: bool,
}

// === impl Exec ===

impl Exec {
    /// Takes a command apart; never fails, as there is [`Exec::Unknown`].
    #[must_use]
    pub fn parse(command: &[u8]) -> Self {
        let Some(words) = words(command) else {
            return Self::Unknown;
        };
        let mut words = words.into_iter();
        let Some(program) = words.next() else {
            return Self::Unknown;
        };
        let name = program.bytes.rsplit(|b| *b == b'/').next();
        let function = match name.unwrap_or_default() {
            b"scp" => return scp(words),
            b"b3sum" => SumFunction::Blake3,
            b"md5sum" => SumFunction::Md5,
            b"sha1sum" => SumFunction::Sha1,
            b"sha256sum" => SumFunction::Sha256,
            _ => return Self::Unknown,
        };
        let mut paths: Vec<Word> = words.collect();
        if paths.first().is_some_and(|word| word.bytes == b"--") {
            paths.remove(0);
        }
        if paths.iter().any(|word| word.bytes.starts_with(b"-")) {
            return Self::Unknown;
        }
        Self::Sum { function, paths }
    }
}

/// The options of OpenSSH's scp that a client passes to the other side; `-v`, `-q` and `-E` say
/// nothing here.
fn scp(words: impl Iterator<Item = Word>) -> Exec {
    let (mut to, mut from, mut recursive, mut times, mut folder) =
        (false, false, false, false, false);
    let mut paths = Vec::new();
    let mut only_paths = false;
    for word in words {
        match word.bytes.as_slice() {
            b"--" if !only_paths => only_paths = true,
            [b'-', options @ ..] if !only_paths && !options.is_empty() && paths.is_empty() => {
                for option in options {
                    match option {
                        b't' => to = true,
                        b'f' => from = true,
                        b'r' => recursive = true,
                        b'p' => times = true,
                        b'd' => folder = true,
                        b'v' | b'q' | b'E' => {}
                        _ => return Exec::Unknown,
                    }
                }
            }
            _ => paths.push(word),
        }
    }
    match (to, from, paths.pop()) {
        (true, false, Some(path)) if paths.is_empty() => Exec::Target {
            path,
            recursive,
            folder,
        },
        (false, true, Some(last)) => {
            paths.push(last);
            Exec::Source {
                paths,
                recursive,
                times,
            }
        }
        _ => Exec::Unknown,
    }
}

/// The words of a command; `None` when it needs a shell.
fn words(command: &[u8]) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut rest = command.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        b'\'' => break,
                        byte => word.bytes.push(byte),
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        b'"' => break,
                        b'$' | b'`' => return None,
                        b'\\' => match rest.next()? {
                            byte @ (b'$' | b'`' | b'"' | b'\\') => word.bytes.push(byte),
                            byte => word.bytes.extend([b'\\', byte]),
                        },
                        byte => word.bytes.push(byte),
                    }
                }
            }
            b'\\' => word.get_or_insert_default().bytes.push(rest.next()?),
            b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' | b'\n' | b'\r' | 0 => {
                return None;
            }
            b'~' if word.is_none() => {
                word = Some(Word {
                    home: true,
                    ..Word::default()
                });
            }
            b'*' | b'?' => {
                let word = word.get_or_insert_default();
                word.wild.push(word.bytes.len());
                word.bytes.push(byte);
            }
            byte => word.get_or_insert_default().bytes.push(byte),
        }
    }
    words.extend(word);
    Some(words)
}

// === impl Word ===

impl Word {
    /// The path it names: of `~/x` and `~acme/x` what is behind the first part.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        if !self.home {
            return &self.bytes;
        }
        let slash = self.bytes.iter().position(|byte| *byte == b'/');
        slash
            .and_then(|slash| self.bytes.get(slash..))
            .unwrap_or(b"/")
    }

    /// The folder and the pattern for names in it, when the last part has an unquoted `*` or `?`.
    #[must_use]
    pub fn pattern(&self) -> Option<(&[u8], Pattern<'_>)> {
        let path = self.path();
        let skipped = self.bytes.len().saturating_sub(path.len());
        let name_at = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let first = self.wild.first()?.checked_sub(skipped)?;
        let (folder, name) = path.split_at_checked(name_at)?;
        (first >= name_at).then_some((
            folder,
            Pattern {
                name,
                wild: &self.wild,
                at: skipped + name_at,
            },
        ))
    }
}

/// A name with unquoted `*` and `?`.
#[derive(Clone, Copy, Debug)]
pub struct Pattern<'w> {
    name: &'w [u8],
    wild: &'w [usize],
    at: usize,
}

impl Pattern<'_> {
    /// Whether a name fits. Linear in both but for the last `*` (the usual backtracking).
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        let is_wild = |index: usize| self.wild.contains(&(self.at + index));
        let (mut p, mut n) = (0, 0);
        let mut back = None;
        while let Some(byte) = name.get(n) {
            match self.name.get(p) {
                Some(b'*') if is_wild(p) => {
                    back = Some((p, n));
                    p += 1;
                    continue;
                }
                Some(b'?') if is_wild(p) => {
                    p += 1;
                    n += 1;
                    continue;
                }
                Some(wanted) if wanted == byte => {
                    p += 1;
                    n += 1;
                    continue;
                }
                Some(_) | None => {}
            }
            let Some((star, from)) = back else {
                return false;
            };
            back = Some((star, from + 1));
            p = star + 1;
            n = from + 1;
        }
        while self.name.get(p) == Some(&b'*') && is_wild(p) {
            p += 1;
        }
        p == self.name.len()
    }
}

/// Anything at all may be sent as a command.
///
/// # Panics
/// When it may not: that is what a fuzzer looks for.
pub fn fuzz_exec(command: &[u8]) {
    if let Exec::Source { paths, .. } = Exec::parse(command) {
        for path in &paths {
            if let Some((folder, pattern)) = path.pattern() {
                assert!(folder.len() <= path.bytes.len());
                let _fits = pattern.fits(command);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(text: &str) -> Word {
        Word {
            bytes: text.as_bytes().to_vec(),
            ..Word::default()
        }
    }

    fn target(path: &str, recursive: bool, folder: bool) -> Exec {
        let path = word(path);
        Exec::Target {
            path,
            recursive,
            folder,
        }
    }

    #[test]
    fn what_scp_clients_send_is_understood() {
        // OpenSSH, pscp, libssh2 (curl), JSch, WinSCP.
        for (command, wanted) in [
            ("scp -t inbox/", target("inbox/", false, false)),
            ("scp -v -r -p -d -t .", target(".", true, true)),
            (
                "scp -pt '/inbox/a b.csv'",
                target("/inbox/a b.csv", false, false),
            ),
            (
                "scp -p -t -- \"it's.csv\"",
                target("it's.csv", false, false),
            ),
            ("/usr/bin/scp -r -t a\\ b", target("a b", true, false)),
            ("scp -t -- -x.csv", target("-x.csv", false, false)),
        ] {
            assert_eq!(Exec::parse(command.as_bytes()), wanted, "{command}");
        }
        let source = Exec::Source {
            paths: vec![word("receipts/latest.txt")],
            recursive: false,
            times: true,
        };
        assert_eq!(Exec::parse(b"scp -p -f receipts/latest.txt"), source);
        let sum = Exec::Sum {
            function: SumFunction::Sha256,
            paths: vec![word("inbox/x.bin")],
        };
        assert_eq!(Exec::parse(b"sha256sum 'inbox/x.bin'"), sum);
        assert_eq!(Exec::parse(b"/bin/sha256sum -- inbox/x.bin"), sum);
        let nothing = Exec::Sum {
            function: SumFunction::Md5,
            paths: Vec::new(),
        };
        assert_eq!(Exec::parse(b"md5sum"), nothing);
    }

    #[test]
    fn what_needs_a_shell_or_another_program_is_unknown() {
        for command in [
            "",
            "  ",
            "ls",
            "scp",
            "scp -t",
            "scp -t a b",
            "scp -f",
            "scp -t -f x",
            "scp -S /bin/sh -t x",
            "scp -t x; rm -rf /",
            "scp -t $(id)",
            "scp -t `id`",
            "scp -t \"$HOME\"",
            "scp -t x > y",
            "scp -t 'x",
            "scp -t \"x",
            "scp -t x\\",
            "scp -t x\nid",
            "sha256sum -c sums",
            "echo abc | sha256sum",
            "sh -c 'scp -t x'",
        ] {
            assert_eq!(Exec::parse(command.as_bytes()), Exec::Unknown, "{command}");
        }
    }

    #[test]
    fn home_is_the_root_and_patterns_are_for_the_last_part() {
        let Some(words) = words(b"~/receipts/*.txt ~ ~acme/x '~/x' r*/x '*' a?c**") else {
            panic!("no words");
        };
        let paths: Vec<_> = words.iter().map(|word| word.path().to_vec()).collect();
        assert_eq!(paths[0], b"/receipts/*.txt");
        assert_eq!(
            paths[1..4],
            [b"/".to_vec(), b"/x".to_vec(), b"~/x".to_vec()]
        );
        let (folder, pattern) = words[0].pattern().unwrap();
        assert_eq!(folder, b"/receipts/");
        assert!(pattern.fits(b"a.csv.txt") && pattern.fits(b".txt"));
        assert!(!pattern.fits(b"a.csv.txt.sig") && !pattern.fits(b"txt"));
        assert!(words[4].pattern().is_none(), "not the last part");
        assert!(words[5].pattern().is_none(), "quoted");
        let (_, pattern) = words[6].pattern().unwrap();
        assert!(pattern.fits(b"abc") && pattern.fits(b"abcx") && !pattern.fits(b"ac"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_command(command in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_exec(&command);
            fuzz_exec(&[b"scp -f ", &command[..]].concat());
        }
    }
}
