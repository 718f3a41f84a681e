//! Every parser of what partners send, on bytes that nobody would send: random ones, and good files with
//! mistakes. `SALLYPORT_SEED` replays a run, `SALLYPORT_FUZZ` says how many tries each parser gets.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test program: a panic is how it fails"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sallyport::inspect::csv::fuzz_csv;
use sallyport::inspect::fuzz_inspection;
use sallyport::policy::fuzz_policy_text;
use sallyport::wire::exec::fuzz_exec;
use sallyport::wire::scp::fuzz_scp;
use sallyport::wire::sftp::fuzz_sftp_frame;

/// Tries of each parser, unless asked for more.
const TRIES: u64 = 400;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.byte()).collect()
    }

    /// A good file with some mistakes.
    fn mistaken(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 => {
                    let till = (at + self.below(20)).min(bytes.len());
                    bytes.drain(at..till);
                }
                3 => {
                    let till = (at + self.below(200)).min(bytes.len());
                    let again = bytes[at..till].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        bytes
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Inputs of the case folders, small ones.
fn corpus() -> Vec<Vec<u8>> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = fs::read_dir(cases)
        .unwrap()
        .flat_map(|case| fs::read_dir(case.unwrap().path()).into_iter().flatten())
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_stem().is_some_and(|stem| stem == "input"))
        .collect();
    files.sort();
    let files = files.iter().map(|path| fs::read(path).unwrap());
    files.filter(|bytes| bytes.len() < 4096).collect()
}

/// Tries a parser on random bytes and on good ones with mistakes; each try has a seed of its own.
fn fuzz(name: &str, good: &[Vec<u8>], parser: impl Fn(&mut Random, Vec<u8>)) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let asked = number("SALLYPORT_SEED");
    let first = asked.unwrap_or_else(|| u64::from(clock.subsec_nanos()) << 20 | 1);
    println!("{name}: SALLYPORT_SEED={first}");
    let tries = number("SALLYPORT_FUZZ").unwrap_or(TRIES);
    for seed in (first..).take(usize::try_from(tries).unwrap()) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let bytes = if good.is_empty() || random.below(8) == 0 {
            random.bytes(300)
        } else {
            let at = random.below(good.len());
            random.mistaken(&good[at])
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| parser(&mut random, bytes.clone())));
        assert!(
            outcome.is_ok(),
            "{name}: SALLYPORT_SEED={seed} SALLYPORT_FUZZ=1: {bytes:?}"
        );
    }
}

#[test]
fn whole_files_of_any_format() {
    let corpus = corpus();
    assert!(corpus.len() > 300);
    fuzz("inspection", &corpus, |random, file| {
        let head = [random.byte(), random.byte(), random.byte(), random.byte()];
        fuzz_inspection(&[&head[..], &file].concat());
    });
}

#[test]
fn the_tokenizer_of_csv() {
    fuzz("csv", &corpus(), |random, file| {
        let head = [random.byte(), random.byte(), random.byte()];
        fuzz_csv(&[&head[..], &file].concat());
    });
}

#[test]
fn policies() {
    let shipped = ["policies/acme.toml", "policies/globex.toml"];
    let shipped = shipped.map(|path| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(path).unwrap();
        text.replace("= \"globex\"", "= \"acme\"").into_bytes()
    });
    fuzz("policy", &shipped, |_, text| fuzz_policy_text(&text));
}

#[test]
fn what_is_said_over_ssh() {
    let commands = [
        "scp -r -p -t -- /inbox/'a b'",
        "scp -f /receipts/*",
        "sha256sum -- /inbox/a.csv \"b\\\"c\"",
        "md5sum",
    ];
    let commands = commands.map(|text| text.as_bytes().to_vec());
    fuzz("exec", &commands, |_, command| fuzz_exec(&command));
    let streams = [
        "T1 0 2 0\nC0644 5 a\nhello\0",
        "D0755 0 d\nC0600 0 x\n\0E\n",
    ];
    let streams = streams.map(|text| text.as_bytes().to_vec());
    fuzz("scp", &streams, |random, stream| {
        let cut = random.below(stream.len() + 1);
        fuzz_scp(&stream, cut);
    });
    let open = b"\0\0\0\x05\x01\0\0\0\x03\0\0\0\x16\x03\0\0\0\x01\0\0\0\x05/in/a\0\0\0\x1a\0\0\0\0";
    fuzz("sftp", &[open.to_vec()], |_, stream| {
        fuzz_sftp_frame(&stream);
    });
}
