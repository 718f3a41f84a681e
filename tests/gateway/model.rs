//! Clients nobody thought of: random sequences of requests beside a model of what they mean. What the
//! gateway says it took must be what was sent, whatever it refuses on the way.

use std::collections::{BTreeMap, HashMap};

use ring::digest;

use crate::harness::raw::{self, RawSftp, Reply, string};
use crate::harness::{Gateway, Verdict};
use crate::preauth::Random;
use crate::shares::with_bin;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[(
    "whatever order requests come in, what is accepted is what was sent",
    Needs::OpenSsh,
    random_requests,
)];

const SETSTAT: u8 = 9;
const REMOVE: u8 = 13;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const HANDLE: u8 = 102;
const ATTRS: u8 = 105;
const WRITE_FLAG: u32 = 0x02;
const APPEND_FLAG: u32 = 0x04;
const CREATE_FLAG: u32 = 0x08;
const TRUNC_FLAG: u32 = 0x10;
const EXCL_FLAG: u32 = 0x20;

/// Files of one run; `SALLYPORT_FILES` asks for more.
const FILES: u64 = 60;
/// Requests about one file.
const STEPS: u64 = 24;

/// A file in a client's head: what each of its bytes is, where it has sent one.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct File {
    bytes: Vec<Option<u8>>,
    /// Its size as it was declared, if it was.
    declared: Option<u64>,
    /// It was cut off, and nothing has come since.
    cut: bool,
    /// A request of this handle that changes the file was refused.
    refused: bool,
    /// Bytes of what it is written over, accepted or not, and nobody has cut.
    over: usize,
    /// Bytes at its start that an earlier handle has written.
    inherited: usize,
    /// The size was declared through this handle.
    is_declared_now: bool,
    /// It was closed under a partial name.
    closed: bool,
    /// It was opened over a file that was taken, and nothing said of it since.
    is_nothing_new: bool,
}

/// A handle the gateway gave.
struct Handle {
    name: Vec<u8>,
    path: String,
    append: bool,
}

/// One file, its client and its model.
struct Player {
    random: Random,
    name: String,
    unit: u64,
    /// Unfinished files, by path.
    staged: BTreeMap<String, File>,
    /// Bytes of the last file that was taken.
    accepted: usize,
    /// The same of one that was removed since.
    removed: usize,
    /// The last one was said to be empty, and this process knows it: the next OPEN truncates.
    is_emptied: bool,
    handle: Option<Handle>,
    /// Digests of all that may be accepted.
    meant: Vec<String>,
    /// How often the gateway said OK to what makes a file final.
    taken: usize,
    log: Vec<String>,
}

// === impl File ===

impl File {
    fn len(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    fn resize(&mut self, bytes: u64) {
        self.bytes.resize(usize::try_from(bytes).unwrap_or(0), None);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let offset = usize::try_from(offset).unwrap_or(0);
        let end = offset + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, None);
        }
        for (known, byte) in self.bytes[offset..end].iter_mut().zip(data) {
            *known = Some(*byte);
        }
    }

    /// What a gateway may take of it as whole.
    fn whole(&self) -> Option<Vec<u8>> {
        let is_declared = self.declared == Some(self.len());
        let is_stale = self.bytes.len() < self.over && !(is_declared && self.is_declared_now);
        let differs = self.declared.is_some() && !is_declared;
        if self.cut || self.refused || is_stale || differs {
            return None;
        }
        self.bytes.iter().copied().collect()
    }

    /// Its client has set its size.
    fn set_size(&mut self, bytes: u64) {
        self.resize(bytes);
        let bytes = self.bytes.len();
        self.over = self.over.min(bytes);
        self.inherited = self.inherited.min(bytes);
    }
}

/// A STAT shows what was accepted or is held: nobody may write it.
fn is_settled(reply: &Reply) -> bool {
    let mode = reply.body.get(12..16).filter(|_| reply.kind == ATTRS);
    mode.is_some_and(|mode| mode.last().is_some_and(|low| low & 0o200 == 0))
}

fn hex(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

fn size_of(bytes: u64) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], &bytes.to_be_bytes()].concat()
}

// === impl Player ===

impl Player {
    fn new(mut random: Random, number: u64) -> Self {
        let unit = *random.pick(&[7, 1_000, 40_000]);
        let name = format!("file{number}.bin");
        Self {
            random,
            name,
            unit,
            staged: BTreeMap::new(),
            accepted: 0,
            removed: 0,
            is_emptied: false,
            handle: None,
            meant: Vec::new(),
            taken: 0,
            log: Vec::new(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        u64::try_from(self.random.below(end)).unwrap_or(0)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn path(&mut self) -> String {
        let (which, name) = (self.below(4), &self.name);
        match which {
            0 | 1 => format!("/inbox/{name}"),
            2 => format!("/inbox/{name}.part"),
            _ => format!("/inbox/.in.{name}"),
        }
    }

    fn final_path(&self) -> String {
        format!("/inbox/{}", self.name)
    }

    fn note(&mut self, what: &str, reply: &Reply) {
        let text = String::from_utf8_lossy(&reply.body);
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let line = if reply.kind == HANDLE {
            format!("{what} -> handle")
        } else {
            format!("{what} -> {:?} {text}", reply.status())
        };
        self.log.push(line);
    }

    /// A file became final, as far as the gateway says.
    fn is_taken(&mut self, path: &str) {
        let Some(file) = self.staged.remove(path) else {
            return;
        };
        self.taken += 1;
        if let Some(whole) = file.whole() {
            self.meant.push(hex(&whole));
            self.accepted = whole.len();
        }
    }

    fn open(&mut self, sftp: &mut RawSftp) -> Verdict {
        let path = self.path();
        let mut flags = WRITE_FLAG;
        for (flag, one_in) in [(TRUNC_FLAG, 3), (APPEND_FLAG, 5), (EXCL_FLAG, 12)] {
            if self.one_in(one_in) {
                flags |= flag;
            }
        }
        if !self.one_in(8) {
            flags |= CREATE_FLAG;
        }
        let promised = self.one_in(4).then(|| self.below(6) * self.unit);
        let attributes = promised.map_or(vec![0; 4], size_of);
        let fields = [
            &string(path.as_bytes())[..],
            &flags.to_be_bytes(),
            &attributes,
        ];
        let is_taken = is_settled(&sftp.ask(STAT, &[&string(path.as_bytes())])?);
        let reply = sftp.ask(raw::OPEN, &fields)?;
        self.note(&format!("open {path} {flags:02x} {promised:?}"), &reply);
        if reply.kind != HANDLE {
            return Ok(());
        }
        assert!(self.handle.is_none(), "two writers");
        let mut is_truncated = flags & TRUNC_FLAG != 0;
        if path == self.final_path() {
            is_truncated |= std::mem::take(&mut self.is_emptied);
        }
        let is_over = path == self.final_path() && !is_truncated;
        let known = self.staged.remove(&path).filter(|_| !is_truncated);
        let mut file = known.unwrap_or(File {
            over: if is_over { self.accepted } else { 0 },
            ..File::default()
        });
        file.refused = false;
        // Of nothing there is no rest to come.
        file.cut &= !file.bytes.is_empty();
        // What lies behind a gap comes again.
        let whole = file.bytes.iter().take_while(|byte| byte.is_some()).count();
        if whole < file.bytes.len() {
            file.over = file.over.max(file.bytes.len());
            file.bytes.truncate(whole);
        }
        file.inherited = whole;
        file.is_declared_now = promised.is_some();
        file.is_nothing_new = is_taken && !is_truncated && promised.is_none();
        if promised.is_some() {
            file.declared = promised;
            file.cut &= promised != Some(file.len());
        }
        self.staged.insert(path.clone(), file);
        self.handle = Some(Handle {
            name: reply.body,
            path,
            append: flags & APPEND_FLAG != 0,
        });
        Ok(())
    }

    fn write(&mut self, sftp: &mut RawSftp) -> Verdict {
        let len = match self.below(10) {
            0 => 0,
            1 => self.below(self.unit) + 1,
            n => (n % 3 + 1) * self.unit,
        };
        let data: Vec<u8> = (0..len).map(|_| self.random.byte()).collect();
        let Some(path) = self.handle.as_ref().map(|handle| handle.path.clone()) else {
            return Ok(());
        };
        let end = self.staged.get(&path).map_or(0, File::len);
        let offset = match self.below(9) {
            0 => 0,
            1 => self.below(end + 1),
            2 => self.below(7) * self.unit,
            _ => end,
        };
        let (Some(handle), Some(file)) = (&self.handle, self.staged.get_mut(&path)) else {
            return Ok(());
        };
        let fields = [&handle.name[..], &offset.to_be_bytes(), &string(&data)];
        let reply = sftp.ask(raw::WRITE, &fields)?;
        let offset = if handle.append { end } else { offset };
        file.is_nothing_new &= len == 0 && reply.status()? == 0;
        if reply.status()? != 0 {
            file.refused = true;
        } else if len > 0 {
            let place = usize::try_from(offset)?;
            // Below what was there, behind which more was sent, it has to be refused: otherwise all of it counts.
            if place < file.inherited && end <= u64::try_from(file.inherited)? {
                // Two versions are not to be mixed: how long the old one was is remembered.
                file.over = file.over.max(file.inherited);
                file.inherited = place;
                file.resize(offset);
                if place == 0 && !file.is_declared_now {
                    file.declared = None;
                }
            }
            file.cut = false;
            file.closed = false;
            file.write(offset, &data);
        }
        self.note(&format!("write {offset} +{len} (end {end})"), &reply);
        Ok(())
    }

    fn set_size(&mut self, sftp: &mut RawSftp) -> Verdict {
        let (path, by_handle) = (self.path(), self.one_in(2));
        let handle = self.handle.as_ref().filter(|_| by_handle);
        let path = handle.map_or(path, |handle| handle.path.clone());
        let end = self.staged.get(&path).map_or(0, File::len);
        let bytes = match self.below(4) {
            0 => 0,
            1 => end,
            2 => self.below(end + 1),
            _ => end + self.unit,
        };
        let handle = self.handle.as_ref().filter(|_| by_handle);
        let reply = if let Some(handle) = handle {
            sftp.ask(raw::FSETSTAT, &[&handle.name, &size_of(bytes)])?
        } else {
            sftp.ask(SETSTAT, &[&string(path.as_bytes()), &size_of(bytes)])?
        };
        let (by_handle, is_ok) = (handle.is_some(), reply.status()? == 0);
        let what = if by_handle { "fsetstat" } else { "setstat" };
        self.note(&format!("{what} {path} {bytes} (end {end})"), &reply);
        if !is_ok {
            return Ok(());
        }
        let is_open = self.handle.as_ref().is_some_and(|one| one.path == path);
        if let Some(file) = self.staged.get_mut(&path) {
            file.is_nothing_new = false;
            file.set_size(bytes);
            // What is cut is no longer missed; what is longer is a hole until it is filled.
            file.declared = None;
            file.cut &= !by_handle;
            if is_open && !by_handle && bytes <= end {
                file.cut = false;
            }
        } else if bytes == 0 && path == self.final_path() {
            self.is_emptied = true;
        }
        Ok(())
    }

    fn close(&mut self, sftp: &mut RawSftp) -> Verdict {
        let Some(handle) = self.handle.take() else {
            return Ok(());
        };
        let reply = sftp.ask(raw::CLOSE, &[&handle.name])?;
        self.note("close", &reply);
        let is_ok = reply.status()? == 0;
        let staged = self.staged.get(&handle.path);
        if is_ok && staged.is_some_and(|file| file.is_nothing_new) {
            // The file that was taken is as it was.
            self.staged.remove(&handle.path);
            return Ok(());
        }
        if handle.path == self.final_path() {
            if is_ok {
                self.is_taken(&handle.path);
            } else {
                self.refused(sftp, &handle.path)?;
            }
        } else if let Some(file) = self.staged.get_mut(&handle.path) {
            file.closed |= is_ok;
            if !is_ok {
                self.refused(sftp, &handle.path)?;
            }
        }
        Ok(())
    }

    /// A refused file is kept, or gone for good.
    fn refused(&mut self, sftp: &mut RawSftp, path: &str) -> Verdict {
        let reply = sftp.ask(STAT, &[&string(path.as_bytes())])?;
        let bytes = reply.body.get(4..12).filter(|_| reply.kind == ATTRS);
        let bytes = bytes.map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap_or_default()));
        self.log.push(format!("stat {path} -> {bytes:?}"));
        let is_final = path == self.final_path();
        let is_old = |known: usize| is_final && bytes == u64::try_from(known).ok();
        if is_old(self.removed) {
            // What was removed to make room is there again.
            self.accepted = self.removed;
        }
        if bytes.is_none() || is_settled(&reply) {
            self.staged.remove(path);
        } else if let Some(file) = self.staged.get_mut(path) {
            file.cut = true;
        }
        Ok(())
    }

    /// The process was killed: what is left of a file is shown.
    fn lost(&mut self, sftp: &mut RawSftp, path: &str) -> Verdict {
        self.refused(sftp, path)?;
        let reply = sftp.ask(STAT, &[&string(path.as_bytes())])?;
        let bytes = reply.body.get(4..12).filter(|_| reply.kind == ATTRS);
        if let (Some(bytes), Some(file)) = (bytes, self.staged.get_mut(path)) {
            let bytes = usize::try_from(u64::from_be_bytes(bytes.try_into()?))?;
            file.bytes.truncate(bytes);
        }
        Ok(())
    }

    fn sync(&mut self, sftp: &mut RawSftp) -> Verdict {
        let Some(handle) = &self.handle else {
            return Ok(());
        };
        let name = string(b"fsync@openssh.com");
        let reply = sftp.ask(raw::EXTENDED, &[&name, &handle.name])?;
        self.note("fsync", &reply);
        Ok(())
    }

    fn rename(&mut self, sftp: &mut RawSftp) -> Verdict {
        let (from, to) = (self.path(), self.final_path());
        if from == to {
            return Ok(());
        }
        let fields = [string(from.as_bytes()), string(to.as_bytes())];
        let by_posix = self.one_in(2);
        let reply = if by_posix {
            let name = string(b"posix-rename@openssh.com");
            sftp.ask(raw::EXTENDED, &[&name, &fields[0], &fields[1]])?
        } else {
            sftp.ask(RENAME, &[&fields[0], &fields[1]])?
        };
        self.note(&format!("rename {from}"), &reply);
        if reply.status()? == 0 {
            if let Some(file) = self.staged.get_mut(&from) {
                file.cut |= !file.closed;
            }
            self.is_taken(&from);
            self.staged.remove(&to);
        } else if self.staged.contains_key(&from) && self.handle.is_none() {
            self.refused(sftp, &from)?;
        }
        Ok(())
    }

    fn remove(&mut self, sftp: &mut RawSftp) -> Verdict {
        let path = self.path();
        let reply = sftp.ask(REMOVE, &[&string(path.as_bytes())])?;
        self.note(&format!("remove {path}"), &reply);
        if reply.status()? == 0 && self.staged.remove(&path).is_none() {
            self.removed = std::mem::take(&mut self.accepted);
        }
        Ok(())
    }

    /// Its connection is gone.
    fn cut_off(&mut self, how: &str) {
        self.log.push(how.to_owned());
        let Some(handle) = self.handle.take() else {
            return;
        };
        let is_final = handle.path == self.final_path();
        let Some(file) = self.staged.get_mut(&handle.path) else {
            return;
        };
        file.cut = true;
        file.closed = false;
        if file.bytes.iter().all(Option::is_none) && file.inherited == 0 && is_final {
            // Of one that was opened and never written there is nothing to keep.
            self.staged.remove(&handle.path);
        }
    }

    fn step(&mut self, sftp: &mut RawSftp) -> Verdict {
        match self.below(20) {
            0..=2 => self.open(sftp),
            3..=9 if self.handle.is_none() => self.open(sftp),
            3..=9 => self.write(sftp),
            10 | 11 => self.set_size(sftp),
            12..=15 => self.close(sftp),
            16 | 17 => self.rename(sftp),
            18 if self.one_in(2) => self.remove(sftp),
            18 => self.sync(sftp),
            _ => {
                let path = self.path();
                let reply = sftp.ask(STAT, &[&string(path.as_bytes())])?;
                self.log.push(format!("stat {path} -> {:?}", reply.body));
                Ok(())
            }
        }
    }

    /// What the gateway took beside what was meant.
    fn judge(&self, items: &[serde_json::Value]) -> Verdict {
        let mut taken = 0;
        for item in items {
            let state = item["state"].as_str().unwrap_or_default();
            let is_accepted = matches!(state, "accepted" | "delivering" | "delivered");
            taken += usize::from(is_accepted || state == "held");
            let digest = item["sha256"].as_str().unwrap_or_default();
            if is_accepted && !self.meant.iter().any(|known| known == digest) {
                let log = self.log.join("\n  ");
                return Err(format!("accepted and not meant: {item}\n  {log}").into());
            }
        }
        if taken != self.taken {
            let (log, said) = (self.log.join("\n  "), self.taken);
            return Err(format!("OK was said {said} times, {taken} taken\n  {log}").into());
        }
        Ok(())
    }
}

fn play(gateway: &mut Gateway, player: &mut Player) -> Verdict {
    let mut sftp = RawSftp::open(gateway, &[])?;
    for _ in 0..STEPS {
        let end = player.below(60);
        if end < 3 {
            drop(sftp);
            let mut lost = None;
            match end {
                0 => {
                    gateway.kill()?;
                    lost = player.handle.as_ref().map(|handle| handle.path.clone());
                    player.cut_off("kill");
                    player.is_emptied = false;
                    gateway.serve()?;
                }
                1 => {
                    gateway.stop()?;
                    player.cut_off("stop");
                    player.is_emptied = false;
                    gateway.serve()?;
                }
                _ => player.cut_off("gone"),
            }
            sftp = RawSftp::open(gateway, &[])?;
            if let Some(path) = lost {
                // What never reached the disk is gone with the process.
                player.lost(&mut sftp, &path)?;
            }
        }
        player.step(&mut sftp)?;
    }
    player.close(&mut sftp)
}

fn random_requests() -> Verdict {
    let seed = Random::seeded().seed;
    let given = std::env::var_os("SALLYPORT_FILES");
    let files = given.and_then(|text| text.to_str()?.parse().ok());
    let files: u64 = files.unwrap_or(FILES);
    let mut gateway = Gateway::start_with(|home| with_bin(home, "same_content = \"allow\""))?;
    let mut players = HashMap::new();
    for file in 0..files {
        let mut player = Player::new(Random::of(seed.wrapping_add(file)), file);
        play(&mut gateway, &mut player).map_err(|fault| {
            let log = player.log.join("\n  ");
            format!("SALLYPORT_SEED={seed}: {fault:?}\n  {log}")
        })?;
        players.insert(player.name.clone(), player);
    }
    let list = gateway.json(&["submission", "list", "--limit", "10000"])?;
    let mut by_name: HashMap<String, Vec<serde_json::Value>> = HashMap::new();
    for item in list["items"].as_array().cloned().unwrap_or_default() {
        let name = item["file"].as_str().unwrap_or_default().to_owned();
        by_name.entry(name).or_default().push(item);
    }
    let mut taken = 0;
    let mut faults = Vec::new();
    for (name, player) in &players {
        taken += player.taken;
        let items = by_name.remove(name).unwrap_or_default();
        if let Err(fault) = player.judge(&items) {
            faults.push(format!("{fault:?}").replace("\\n", "\n"));
        }
    }
    assert!(
        faults.is_empty(),
        "SALLYPORT_SEED={seed}, {} files:\n{}",
        faults.len(),
        faults.join("\n\n")
    );
    assert!(
        taken > players.len() / 4,
        "only {taken} taken: the model tries nothing"
    );
    Ok(())
}
