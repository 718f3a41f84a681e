//! `partners/<id>.pub`: `authorized_keys(5)` lines with `from=` and `expiry-time=`.
//!
//! Follows `AUTHORIZED_KEYS FILE FORMAT` of `sshd(8)`. A line that cannot be honoured as it
//! stands is never honoured in part: an option we do not have, a key type we do not take, a damaged key
//! each make a [`BadKeyLine`], and the lines beside it stay good. `ssh_key`'s own parser of these
//! lines is not used: it cuts a line at any `#`, misses options before a key without comment, and
//! does not know `\"`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey};

use crate::authority::sources::Sources;
use crate::terms::clock::Timestamp;
use crate::terms::ids::PartnerId;
use crate::terms::limits;
use crate::terms::path::quoted;

/// The keys of all partners, as the files say.
#[derive(Clone, Debug, Default)]
pub struct PartnerKeys {
    by_partner: BTreeMap<PartnerId, Vec<PartnerKey>>,
}

/// One good line: a key, where it may come from and until when.
#[derive(Clone, Debug)]
pub struct PartnerKey {
    public: PublicKey,
    fingerprint: String,
    comment: String,
    sources: Sources,
    expiry: Expiry,
    line: usize,
}

/// Until when a key is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// Good up to and including this second, as in OpenSSH.
    At(Timestamp),
    /// No `expiry-time=`.
    Never,
}

/// A line that is not a usable key: file, line and remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {why}")]
pub struct BadKeyLine {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub why: String,
}

/// One file of a watched folder, as it was when the folder was looked at.
#[derive(Clone, Debug)]
pub(crate) struct FolderFile {
    /// The name inside the folder.
    pub(crate) name: String,
    /// The whole path, for messages.
    pub(crate) path: String,
    /// Its bytes, or why there are none.
    pub(crate) content: Result<Vec<u8>, String>,
}

/// Fingerprints of the keys in `keys.example/`: everybody can read their origin, so nobody may
/// log in with them.
pub const EXAMPLE_FINGERPRINTS: [&str; 1] = ["SHA256:rrfgPjJOItbIeEF91jMVGGo1Hqzi8wilpCxH/eyPgf8"];

// === impl PartnerKeys ===

impl PartnerKeys {
    /// Reads every `<id>.pub` of the folder. Bad lines are returned beside the good ones: one bad
    /// line must not lock the others out.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read(folder: &Path) -> io::Result<(Self, Vec<BadKeyLine>)> {
        let files = folder_files(folder, "pub", limits::KEY_FILE_BYTES_MAX)?;
        Ok(Self::from_files(&files))
    }

    /// The same from files already read.
    pub(crate) fn from_files(files: &[FolderFile]) -> (Self, Vec<BadKeyLine>) {
        let mut keys = Self::default();
        let mut bad = Vec::new();
        for file in files {
            let whole = |why: String| BadKeyLine {
                file: file.path.clone(),
                line: 1,
                why,
            };
            let stem = file.name.strip_suffix(".pub").unwrap_or(&file.name);
            let partner = match PartnerId::parse(stem) {
                Ok(partner) => partner,
                Err(why) => {
                    bad.push(whole(format!("{why}; rename the file to <partner>.pub")));
                    continue;
                }
            };
            match &file.content {
                Ok(bytes) => {
                    let (good, faults) = parse_lines(&file.path, bytes);
                    bad.extend(faults);
                    if !good.is_empty() {
                        keys.by_partner.insert(partner, good);
                    }
                }
                Err(why) => bad.push(whole(why.clone())),
            }
        }
        (keys, bad)
    }

    /// The keys of one partner, in the order of its file; empty for a partner without any.
    #[must_use]
    pub fn of(&self, partner: &PartnerId) -> &[PartnerKey] {
        self.by_partner.get(partner).map_or(&[], Vec::as_slice)
    }

    /// All partners with at least one key, and their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&PartnerId, &[PartnerKey])> {
        self.by_partner
            .iter()
            .map(|(partner, keys)| (partner, keys.as_slice()))
    }
}

// === impl PartnerKey ===

impl PartnerKey {
    /// Reads one line of a key file; `None` for a blank line or a comment.
    ///
    /// # Errors
    /// What is wrong and what would be right, without file and line number.
    pub fn parse(line: &str) -> Result<Option<Self>, String> {
        let line = line.trim_matches([' ', '\t', '\r', '\n']);
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if let Some(c) = line.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!(
                "there is a control character ({}) in the line; type the line again",
                c.escape_unicode()
            ));
        }
        let (options, rest) = split_options(line)?;
        let (sources, expiry) = parse_options(options)?;
        let (public, comment) = parse_key(rest)?;
        let fingerprint = public.fingerprint(HashAlg::Sha256).to_string();
        if EXAMPLE_FINGERPRINTS.contains(&fingerprint.as_str()) {
            return Err("this is the example key; ask the partner for its own public key".into());
        }
        Ok(Some(Self {
            public,
            fingerprint,
            comment: quoted(comment, limits::KEY_COMMENT_CHARS_MAX),
            sources,
            expiry,
            line: 1,
        }))
    }

    /// The key itself.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// `SHA256:...`, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The comment, quoted and cut.
    #[must_use]
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// Where it may come from.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Until when it is good.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// One line for logs and the audit: fingerprint, comment, and its limits.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut line = self.fingerprint.clone();
        if !self.comment.is_empty() {
            line = format!("{line} ({})", self.comment);
        }
        if let Sources::Listed(_) = &self.sources {
            line = format!("{line} from={}", self.sources);
        }
        if let Expiry::At(last) = self.expiry {
            line = format!("{line} until {}", last.to_human());
        }
        line
    }

    /// Its line in the file, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }
}

// === impl Expiry ===

impl Expiry {
    /// Whole seconds count, as in OpenSSH: at the named second the key is still good.
    #[must_use]
    pub fn is_over(self, now: Timestamp) -> bool {
        match self {
            Self::At(last) => now.as_secs() > last.as_secs(),
            Self::Never => false,
        }
    }

    /// Reads `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, each with an optional `Z`. Without it
    /// OpenSSH takes local time; the gateway takes UTC, so that no time zone setting of the host
    /// changes who may log in.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "expiry-time {text:?} is not a time; write \"20271231\" or \"202712312359Z\" (UTC)"
            )
        };
        let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
        if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let number = |from: usize, to: usize| -> Result<i8, String> {
            match digits.get(from..to) {
                Some(part) => part.parse().map_err(|_| bad()),
                None => Ok(0),
            }
        };
        let year: i16 = digits
            .get(..4)
            .and_then(|part| part.parse().ok())
            .ok_or_else(bad)?;
        jiff::civil::DateTime::new(
            year,
            number(4, 6)?,
            number(6, 8)?,
            number(8, 10)?,
            number(10, 12)?,
            number(12, 14)?,
            0,
        )
        .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
        .map(|zoned| Self::At(Timestamp::from_micros(zoned.timestamp().as_microsecond())))
        .map_err(|_| bad())
    }
}

/// The regular files of a folder with this extension, by name; hidden files (editors' locks) are
/// left out. A file that cannot be read is in the list with its reason.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn folder_files(
    folder: &Path,
    extension: &str,
    bytes_max: u64,
) -> io::Result<Vec<FolderFile>> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(named)? {
        let path = entry.map_err(named)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with('.') || path.extension().is_none_or(|found| found != extension) {
            continue;
        }
        files.push(FolderFile {
            content: read_bounded(&path, bytes_max),
            path: path.display().to_string(),
            name,
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let unreadable = |e: io::Error| format!("cannot be read: {e}; check owner and mode");
    // Asked before opening: opening a FIFO would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a file; remove it or replace it by one".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(format!(
            "has more than {bytes_max} bytes; split or shorten it"
        ));
    }
    Ok(bytes)
}

fn parse_lines(file: &str, bytes: &[u8]) -> (Vec<PartnerKey>, Vec<BadKeyLine>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut inside_block = false;
    for (index, raw) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = index + 1;
        let mut fault = |why: String| {
            bad.push(BadKeyLine {
                file: file.to_owned(),
                line,
                why,
            });
        };
        if line > limits::KEY_FILE_LINES_MAX {
            fault(format!(
                "more than {} lines; what follows is ignored",
                limits::KEY_FILE_LINES_MAX
            ));
            break;
        }
        if raw.len() > limits::KEY_LINE_BYTES_MAX {
            fault(format!(
                "the line is over {} bytes; one key a line",
                limits::KEY_LINE_BYTES_MAX
            ));
            continue;
        }
        let Ok(text) = str::from_utf8(raw) else {
            fault("the line is not UTF-8; save the file as UTF-8 text".to_owned());
            continue;
        };
        if text.starts_with('\u{feff}') {
            fault("a byte order mark stands before the key; save as UTF-8 without it".to_owned());
            continue;
        }
        if let Some(words) = block_mark(text) {
            inside_block = words.contains("BEGIN");
            if inside_block {
                fault(told_of_block(words));
            }
            continue;
        }
        if inside_block {
            continue;
        }
        match PartnerKey::parse(text) {
            Ok(Some(key)) => good.push(PartnerKey { line, ..key }),
            Ok(None) => {}
            Err(why) => fault(why),
        }
    }
    (good, bad)
}

/// `-----BEGIN OPENSSH PRIVATE KEY-----` and `---- BEGIN SSH2 PUBLIC KEY ----`.
fn block_mark(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix("----")
}

fn told_of_block(words: &str) -> String {
    if words.contains("PRIVATE") {
        "this is a private key: it must not be here, treat it as lost and ask for a new public one"
            .to_owned()
    } else {
        "this is not the one-line format; convert it with: ssh-keygen -i -f FILE".to_owned()
    }
}

/// Splits a line into its options (may be empty) and what follows, as
/// `sshkey_advance_past_options` does.
fn split_options(line: &str) -> Result<(&str, &str), String> {
    let first = line.split([' ', '\t']).next().unwrap_or_default();
    if ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|start| first.starts_with(start))
    {
        return Ok(("", line));
    }
    let mut is_quoted = false;
    let mut previous = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if previous != '\\' => is_quoted = !is_quoted,
            ' ' | '\t' if !is_quoted => {
                let (options, rest) = line.split_at(at);
                return Ok((options, rest.trim_start_matches([' ', '\t'])));
            }
            _ => {}
        }
        previous = c;
    }
    Err(if is_quoted {
        "a quote is not closed; options look like from=\"198.51.100.0/24\"".to_owned()
    } else {
        "this is not a key; a line is [options] key-type base64-key comment".to_owned()
    })
}

fn parse_options(options: &str) -> Result<(Sources, Expiry), String> {
    let mut sources = Sources::Anywhere;
    let mut expiry = Expiry::Never;
    let mut rest = options;
    while !rest.is_empty() {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix('=') {
            Some(text) => {
                let (value, after) = dequote(name, text)?;
                (Some(value), after)
            }
            None => (None, after),
        };
        rest = match after.strip_prefix(',') {
            Some("") => return Err("the options end in a comma; remove it".to_owned()),
            Some(more) => more,
            None if after.is_empty() => after,
            None => return Err(format!("a comma is missing after {name}=\"...\"")),
        };
        match (name.to_ascii_lowercase().as_str(), value) {
            ("from", Some(list)) => {
                if sources != Sources::Anywhere {
                    return Err("from= stands twice; put all patterns into one".to_owned());
                }
                sources = Sources::parse(&list)?;
            }
            // Twice is allowed; the earlier one counts, as in OpenSSH.
            ("expiry-time", Some(time)) => expiry = expiry.min(Expiry::parse(&time)?),
            (
                "restrict"
                | "no-pty"
                | "no-port-forwarding"
                | "no-agent-forwarding"
                | "no-x11-forwarding"
                | "no-user-rc",
                None,
            ) => {}
            ("from" | "expiry-time", None) => {
                return Err(format!("{name} needs a value, as in {name}=\"...\""));
            }
            ("cert-authority", _) => {
                return Err("cert-authority is not taken in partner files; \
                     write the partner's own key"
                    .to_owned());
            }
            (_, _) => {
                return Err(format!(
                    "option {:?} is not known here and the line cannot be honoured without it; \
                     remove it. Known: from, expiry-time, restrict, no-pty, no-port-forwarding, \
                     no-agent-forwarding, no-X11-forwarding, no-user-rc",
                    quoted(name, 40)
                ));
            }
        }
    }
    Ok((sources, expiry))
}

/// The quoted value at the start of `text`, and what follows it; `\"` stands for a quote.
fn dequote<'t>(name: &str, text: &'t str) -> Result<(String, &'t str), String> {
    let bad = || format!("the value of {name} must stand in double quotes");
    let body = text.strip_prefix('"').ok_or_else(bad)?;
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, body.get(at + 1..).unwrap_or_default())),
            '\\' if body.get(at + 1..).is_some_and(|rest| rest.starts_with('"')) => {
                chars.next();
                value.push('"');
            }
            other => value.push(other),
        }
    }
    Err(bad())
}

fn parse_key(text: &str) -> Result<(PublicKey, &str), String> {
    let (kind, rest) = split_word(text);
    let (base64, comment) = split_word(rest);
    if kind == "ssh-dss" {
        return Err("DSA keys are not taken; make one with: ssh-keygen -t ed25519".to_owned());
    }
    if kind.contains("-cert-v") {
        return Err("this is a certificate; write the partner's plain public key".to_owned());
    }
    if base64.is_empty() {
        return Err("the key itself is missing; copy the whole line of the .pub file".to_owned());
    }
    let public = PublicKey::from_openssh(&format!("{kind} {base64}")).map_err(|_| {
        format!(
            "the {} key is cut or altered; copy the whole line of the .pub file again",
            quoted(kind, 40)
        )
    })?;
    judge_kind(public.key_data())?;
    Ok((public, comment))
}

fn judge_kind(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) | KeyData::Ecdsa(_) => Ok(()),
        KeyData::Rsa(rsa) => {
            let bits = rsa.n().as_positive_bytes().map_or(0, |bytes| {
                let unused = bytes.first().map_or(0, |b| b.leading_zeros());
                u32::try_from(bytes.len() * 8).unwrap_or(u32::MAX) - unused
            });
            if (limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX).contains(&bits) {
                Ok(())
            } else {
                Err(format!(
                    "RSA keys have {} to {} bits here, this one has {bits}; \
                     make one with: ssh-keygen -t ed25519",
                    limits::RSA_BITS_MIN,
                    limits::RSA_BITS_MAX
                ))
            }
        }
        // The library's enum may grow; what is not listed above is not taken.
        KeyData::Dsa(_)
        | KeyData::SkEcdsaSha2NistP256(_)
        | KeyData::Certificate(_)
        | KeyData::Other(_)
        | _ => Err(format!(
            "keys of type {} are not taken; take ssh-ed25519, sk-ssh-ed25519@openssh.com, \
             ecdsa-sha2-nistp256/384/521 or ssh-rsa",
            quoted(key.algorithm().as_str(), 40)
        )),
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    match text.find([' ', '\t']) {
        Some(at) => {
            let (word, rest) = text.split_at(at);
            (word, rest.trim_matches([' ', '\t']))
        }
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFQlQkpN1AjgdZ5itrxlU4cHoHuTQZ5DEOEp4ewUlKQD";
    const EXAMPLE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKA0rONfTLwbOhimF9GCUBaBMTPeEcf7nQwlJOkEt6wo";
    const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBAO6LFtZQP19N4j6zHucdC4KdpumtTekoV7668HA1HsHrBIpAWKZWGYRM/YH9lmJX8psYXfP17i92vufoLDi+Rw=";
    const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBHnpfHcfwhtREz6smXLZiruhON1mYc13IIvlz39mPqq/g6UKonlj7pCD1mL4S9LqplhtCAy0uidqtrMpcMKmHlL2gWvLh8F7soSNN2O8jfLcztjkRgpFCIXNx4K0kYHZ5g==";
    const P521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAEiNu6z+SAmSZVntZ/QM5In5hWbrO6MbRzIWxXCNDZ3ga67QM3bEi6hh4ENH9+5GMHhOjQsEJrm4vYBvnITTIh9TAHPgzCrM+llixTBN3XYhSSm+qZrA0lJtVuPtEaYJA3hNCE4Rkn7pOuPNgKl+7W7N9pW+V9EnHsOJQ5rHzct7amRiA==";
    const RSA2048: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDJJhYrWeZpyJgUmkvxHzIrnZRadqJ2yH99n2xZv8krPuMzsA/2RYXzS2ORTNxyXlgyvMqYNidG3AlM9c6INAY0F5eR0APpzmllvlv/apWrKBgstZ9D6MPw25Te6lqDFgZI+CTsr9uPEjZA94aktA9PUV3+Ag+iBaaWJiZH8P0BN3vNQEXiFTcE7bKdhzK8DCm0FJlvytjbV0S4zniX7alo02CZog17wOIZSBHTn6t8SkkQjW9A/NgTYYnx07j2RmvBElsQl4IsCKTX0NxPRlTjBM5sK/Q+M5uldbyQe8OY6AdJEnCYTkZwEWzif440oyFJOpn6iiZ8bsQ6TAx/i4jv";
    const RSA1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCqgMZgU5fgyGjF/mGomXadF68yauU0QPgqvPhUjnc77N0qbWZCmfXJnScw0v00reQxoXa65yE+Cq1P7k/itMoiPUDZqyoxjA54GNIndzHoWKmjWhYMGAOHBU3KCnW7LZDmgQAjsDdWQg5XYWt5zSAi3thtZouMzWajIECGtaiFOQ==";

    #[track_caller]
    fn good(line: &str) -> PartnerKey {
        match PartnerKey::parse(line) {
            Ok(Some(key)) => key,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    #[track_caller]
    fn refuse(line: &str, hint: &str) {
        let why = PartnerKey::parse(line).unwrap_err();
        assert!(why.contains(hint), "{line:?} said: {why}");
    }

    fn seconds(expiry: Expiry) -> Option<i64> {
        match expiry {
            Expiry::At(last) => Some(last.as_secs()),
            Expiry::Never => None,
        }
    }

    #[test]
    fn every_modern_key_type_is_taken() {
        for line in [ED25519, P256, P384, P521, RSA2048] {
            good(line);
        }
        let body = [
            &[0, 0, 0, 26][..],
            b"sk-ssh-ed25519@openssh.com",
            &[0, 0, 0, 32],
            &[7; 32],
            &[0, 0, 0, 4],
            b"ssh:",
        ]
        .concat();
        good(&format!(
            "sk-ssh-ed25519@openssh.com {}",
            data_encoding::BASE64.encode(&body)
        ));
    }

    #[test]
    fn weak_and_foreign_key_types_are_refused_with_the_remedy() {
        refuse(
            RSA1024,
            "this one has 1024; make one with: ssh-keygen -t ed25519",
        );
        refuse(
            "ssh-dss AAAAB3NzaC1kc3MAAACBANMYG36u",
            "DSA keys are not taken",
        );
        refuse(
            "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5",
            "plain public key",
        );
        let body = [&[0, 0, 0, 7][..], b"ssh-foo", &[0, 0, 0, 1, 9]].concat();
        let foreign = format!("ssh-foo {}", data_encoding::BASE64.encode(&body));
        assert!(PartnerKey::parse(&foreign).is_err());
    }

    #[test]
    fn damaged_lines_are_refused_with_the_remedy() {
        refuse("ssh-ed25519", "the key itself is missing");
        refuse("ssh-ed25519 AAAAC3Nz", "cut or altered");
        refuse(&ED25519.replace("ssh-ed25519", "ssh-rsa"), "cut or altered");
        refuse(&format!("{ED25519}A"), "cut or altered");
        refuse("hello", "this is not a key");
        refuse(
            "from=\"198.51.100.7 ssh-ed25519 AAAA",
            "a quote is not closed",
        );
        refuse(&format!("{ED25519} a\u{1b}[2Jb"), "control character");
    }

    #[test]
    fn options_are_read_with_and_without_a_comment() {
        for comment in ["", " acme-batch01", " acme #1 of \"two\""] {
            let key = good(&format!(
                "from=\"198.51.100.0/24\",expiry-time=\"20271231\" {ED25519}{comment}"
            ));
            assert_eq!(key.comment(), comment.trim());
            assert!(key.sources().allow("198.51.100.7".parse().unwrap()));
            assert!(!key.sources().allow("203.0.113.7".parse().unwrap()));
            assert_eq!(seconds(key.expiry()), Some(1_830_211_200));
        }
        let key = good(&format!(
            "restrict,No-PTY,no-X11-forwarding\t{ED25519}\tacme"
        ));
        assert_eq!(key.sources(), &Sources::Anywhere);
        assert_eq!(key.expiry(), Expiry::Never);
        assert_eq!(key.comment(), "acme");
    }

    #[test]
    fn an_option_that_cannot_be_honoured_refuses_the_line() {
        for option in [
            "command=\"ls -l\"",
            "environment=\"A=b\"",
            "permitopen=\"h:1\"",
            "tunnel=\"0\"",
            "pty",
            "verify-required",
            "restrict=\"x\"",
            "FROM-HERE=\"1\"",
        ] {
            refuse(&format!("{option} {ED25519}"), "remove it. Known: from,");
        }
        refuse(&format!("cert-authority {ED25519}"), "partner's own key");
        refuse(&format!("from=198.51.100.7 {ED25519}"), "double quotes");
        refuse(&format!("from {ED25519}"), "needs a value");
        refuse(&format!("restrict, {ED25519}"), "end in a comma");
        refuse(&format!("from=\"*\"restrict {ED25519}"), "comma is missing");
        refuse(
            &format!("from=\"*\",from=\"::1\" {ED25519}"),
            "stands twice",
        );
        refuse(&format!("from=\"a\\\" b\" {ED25519}"), "is not an address");
    }

    #[test]
    fn expiry_times_are_utc_and_the_earlier_of_two_counts() {
        let at = |text: &str| seconds(Expiry::parse(text).unwrap());
        assert_eq!(at("20271231"), Some(1_830_211_200));
        assert_eq!(at("20271231Z"), Some(1_830_211_200));
        assert_eq!(at("202712312359"), Some(1_830_297_540));
        assert_eq!(at("20271231235959z"), Some(1_830_297_599));
        for text in [
            "",
            "2027",
            "20271301",
            "20270229",
            "202712312460",
            "2027123123",
            "-2027123",
            "20271231T00",
            "99999999",
        ] {
            assert!(Expiry::parse(text).is_err(), "{text:?}");
        }
        let key = good(&format!(
            "expiry-time=\"20280101\",expiry-time=\"20271231\" {ED25519}"
        ));
        assert_eq!(seconds(key.expiry()), Some(1_830_211_200));
    }

    #[test]
    fn a_key_is_good_at_its_last_second_and_not_after() {
        let expiry = Expiry::parse("20271231Z").unwrap();
        let at = |secs: i64| Timestamp::from_micros((1_830_211_200 + secs) * 1_000_000);
        assert!(!expiry.is_over(at(-1)));
        assert!(!expiry.is_over(at(0)));
        assert!(expiry.is_over(at(1)));
        assert!(!Expiry::Never.is_over(at(i64::from(i32::MAX))));
    }

    #[test]
    fn the_example_key_is_refused() {
        refuse(EXAMPLE, "this is the example key");
        refuse(
            &format!("from=\"*\" {EXAMPLE} mine"),
            "this is the example key",
        );
    }

    #[test]
    fn a_folder_gives_its_good_lines_and_names_its_bad_ones() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write(
            "acme.pub",
            format!("# two keys\r\n\r\n{ED25519} one\r\ncommand=\"x\" {P256}\r\n{P384} three\r\n")
                .as_bytes(),
        );
        write("Bad Name.pub", ED25519.as_bytes());
        write("README.md", b"not a key");
        write(".#acme.pub", b"an editor's lock");
        write("latin.pub", b"ssh-ed25519 AAAA \xe4");
        write(
            "block.pub",
            b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----\n",
        );
        write(
            "private.pub",
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
        );
        write("bom.pub", format!("\u{feff}{ED25519}").as_bytes());
        write(
            "big.pub",
            &vec![b'#'; usize::try_from(limits::KEY_FILE_BYTES_MAX).unwrap() + 1],
        );
        write(
            "long.pub",
            "\n".repeat(limits::KEY_FILE_LINES_MAX + 9).as_bytes(),
        );
        std::fs::create_dir(folder.path().join("folder.pub")).unwrap();

        let (keys, bad) = PartnerKeys::read(folder.path()).unwrap();
        let acme = PartnerId::parse("acme").unwrap();
        let lines: Vec<usize> = keys.of(&acme).iter().map(PartnerKey::line).collect();
        assert_eq!(lines, [3, 5]);
        assert_eq!(keys.iter().count(), 1);
        let said: Vec<String> = bad
            .iter()
            .map(|b| {
                let name = b.file.rsplit('/').next().unwrap();
                format!("{name}:{}: {}", b.line, b.why)
            })
            .collect();
        let expect = [
            ("Bad Name.pub:1: ", "rename the file"),
            ("acme.pub:4: ", "\"command\" is not known"),
            ("big.pub:1: ", "bytes; split"),
            ("block.pub:1: ", "ssh-keygen -i"),
            ("bom.pub:1: ", "byte order mark"),
            ("folder.pub:1: ", "is not a file"),
            ("latin.pub:1: ", "is not UTF-8"),
            ("long.pub:1001: ", "more than 1000 lines"),
            ("private.pub:1: ", "treat it as lost"),
        ];
        assert_eq!(said.len(), expect.len(), "{said:#?}");
        for (line, (start, hint)) in said.iter().zip(expect) {
            assert!(line.starts_with(start) && line.contains(hint), "{line}");
        }
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let fault = PartnerKeys::read(Path::new("/nonexistent/partners")).unwrap_err();
        assert!(fault.to_string().contains("/nonexistent/partners"));
    }
}
