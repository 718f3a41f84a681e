//! The nouns the tests speak with: a gateway (the real binary, on loopback, in a directory of its
//! own), its partners, and what a client run came to.

pub(crate) mod raw;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// What a test says when it fails.
pub(crate) type Failed = libtest_mimic::Failed;
/// What a test gives back.
pub(crate) type Verdict = Result<(), Failed>;

/// How often a state is looked at before a test gives up waiting for it. Waiting ends as soon as
/// the state is there; the bound only keeps a broken gateway from hanging the suite.
const LOOKS_MAX: u32 = 1200;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A running gateway and its directory.
pub(crate) struct Gateway {
    dir: TempDir,
    child: Option<Child>,
    port: u16,
    host_key: String,
}

/// What a client or the CLI did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

// === impl Gateway ===

impl Gateway {
    /// `sallyport init` with the example partner `acme` and its key, then `sallyport serve`.
    pub(crate) fn start() -> Result<Self, Failed> {
        Self::start_with(|_| Ok(()))
    }

    /// The same, with the directory changed before the first start.
    pub(crate) fn start_with(change: impl FnOnce(&Path) -> Verdict) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let home = dir.path().join("gw");
        let ran = run(Command::new(binary())
            .args(["init", "--no-input", "--partner", "acme"])
            .args([
                OsStr::new("--key-out"),
                home.join("acme_key").as_os_str(),
                OsStr::new("--store"),
                home.join("lake").as_os_str(),
                home.as_os_str(),
            ]))?;
        ran.expect_code(0)?;
        let config = home.join("sallyport.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(&config, text.replace("127.0.0.1:2222", "127.0.0.1:0"))?;
        change(&home)?;
        let mut gateway = Self {
            dir,
            child: None,
            port: 0,
            host_key: String::new(),
        };
        gateway.serve()?;
        Ok(gateway)
    }

    /// Starts `serve` in the directory and waits until it says that it is ready.
    pub(crate) fn serve(&mut self) -> Verdict {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut child = Command::new(binary())
            .args(["serve", "--config"])
            .arg(self.home().join("sallyport.toml"))
            .env("SALLYPORT_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut said = String::new();
        let mut lines = BufReader::new(stdout).lines();
        for line in lines.by_ref() {
            let line = line?;
            if let Some(port) = ssh_port(&line) {
                self.port = port;
                let fingerprint = line
                    .split_whitespace()
                    .find(|word| word.starts_with("SHA256:"));
                self.host_key = fingerprint.map(str::to_owned).unwrap_or_default();
            }
            let ready = line.starts_with("ready");
            said.push_str(&line);
            said.push('\n');
            if ready {
                break;
            }
        }
        // The rest of its output is read so that it never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        if self.port == 0 || !said.contains("ready") {
            let code = child.wait()?.code();
            let log = fs::read_to_string(self.log_path())?;
            return Err(format!("serve did not get ready ({code:?}):\n{said}\n{log}").into());
        }
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    pub(crate) fn kill(&mut self) -> Verdict {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> Result<i32, Failed> {
        self.terminate()?;
        self.ended()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) -> Verdict {
        if let Some(child) = &self.child {
            let process = rustix::process::Pid::from_child(child);
            rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        }
        Ok(())
    }

    /// The exit code of the end that was asked for.
    pub(crate) fn ended(&mut self) -> Result<i32, Failed> {
        match self.child.take() {
            Some(mut child) => Ok(child.wait()?.code().unwrap_or(-1)),
            None => Ok(0),
        }
    }

    /// The process id of `serve`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The gateway's directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("gw")
    }

    /// A scratch folder of the client, outside the gateway.
    pub(crate) fn scratch(&self) -> PathBuf {
        let path = self.dir.path().join("client");
        drop(fs::create_dir_all(&path));
        path
    }

    /// A local file of the client.
    pub(crate) fn local(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, Failed> {
        let path = self.scratch().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `SHA256:...` of the host key, as `serve` prints it.
    pub(crate) fn host_key(&self) -> String {
        self.host_key.clone()
    }

    /// Options every OpenSSH client gets: our key, our host key, nothing of the machine's.
    pub(crate) fn ssh_options(&self, key: &Path) -> Vec<String> {
        let known_hosts = self.scratch().join("known_hosts");
        let host =
            fs::read_to_string(self.home().join("keys/host_ed25519.pub")).unwrap_or_default();
        let wanted = format!("[127.0.0.1]:{} {host}", self.port);
        // Not while a client may be reading it.
        if fs::read_to_string(&known_hosts).ok().as_ref() != Some(&wanted) {
            drop(fs::write(&known_hosts, wanted));
        }
        [
            "-F".to_owned(),
            "none".to_owned(),
            "-i".to_owned(),
            key.display().to_string(),
            "-o".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "-o".to_owned(),
            format!("UserKnownHostsFile={}", known_hosts.display()),
            "-o".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "-o".to_owned(),
            "BatchMode=yes".to_owned(),
            "-o".to_owned(),
            "IdentityAgent=none".to_owned(),
        ]
        .into()
    }

    /// The key `init` made for acme.
    pub(crate) fn acme_key(&self) -> PathBuf {
        self.home().join("acme_key")
    }

    /// The real `sftp`, as acme, with a batch file: it stops at the first failure.
    pub(crate) fn sftp(&self, batch: &str) -> Result<Ran, Failed> {
        self.sftp_as("acme", &self.acme_key(), batch)
    }

    /// The same as somebody else.
    pub(crate) fn sftp_as(&self, user: &str, key: &Path, batch: &str) -> Result<Ran, Failed> {
        run(self
            .sftp_command(user, key, batch, &[])?
            .current_dir(self.scratch()))
    }

    /// The command itself, to be spawned and cut off.
    pub(crate) fn sftp_command(
        &self,
        user: &str,
        key: &Path,
        batch: &str,
        options: &[&str],
    ) -> Result<Command, Failed> {
        let name = format!("batch-{:016x}", hash_of(&(batch, options, user)));
        let file = self.local(&name, batch)?;
        let mut command = Command::new("sftp");
        command
            .args(self.ssh_options(key))
            .args(options)
            .args(["-P", &self.port.to_string(), "-b"])
            .arg(file)
            .arg(format!("{user}@127.0.0.1"))
            .current_dir(self.scratch());
        Ok(command)
    }

    /// The real `scp` from a local file to a remote path.
    pub(crate) fn scp(&self, options: &[&str], local: &Path, remote: &str) -> Result<Ran, Failed> {
        run(Command::new("scp")
            .args(self.ssh_options(&self.acme_key()))
            .args(options)
            .args(["-P", &self.port.to_string()])
            .arg(local)
            .arg(format!("acme@127.0.0.1:{remote}"))
            .current_dir(self.scratch()))
    }

    /// The real `scp` from a remote path into the scratch folder.
    pub(crate) fn scp_get(&self, remote: &str) -> Result<Ran, Failed> {
        run(Command::new("scp")
            .args(self.ssh_options(&self.acme_key()))
            .args(["-P", &self.port.to_string()])
            .arg(format!("acme@127.0.0.1:{remote}"))
            .arg(self.scratch()))
    }

    /// The real `ssh`.
    pub(crate) fn ssh(&self, options: &[&str], rest: &[&str]) -> Result<Ran, Failed> {
        run(Command::new("ssh")
            .args(self.ssh_options(&self.acme_key()))
            .args(options)
            .args(["-p", &self.port.to_string(), "acme@127.0.0.1"])
            .args(rest)
            .stdin(Stdio::null()))
    }

    /// Our own command line against this gateway.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<Ran, Failed> {
        run(Command::new(binary())
            .args(args)
            .arg("--no-input")
            .arg("--config")
            .arg(self.home().join("sallyport.toml"))
            .current_dir(self.home()))
    }

    /// The same, its output as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Result<serde_json::Value, Failed> {
        let mut args = args.to_vec();
        args.push("--json");
        let ran = self.cli(&args)?.expect_code(0)?;
        Ok(serde_json::from_str(&ran.stdout).map_err(|e| format!("{e}: {}", ran.stdout))?)
    }

    /// All submissions as the CLI lists them.
    pub(crate) fn submissions(&self) -> Result<Vec<serde_json::Value>, Failed> {
        let list = self.json(&["submission", "list"])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until the newest submissions with this file name are in this state.
    pub(crate) fn wait_state(&self, file: &str, state: &str) -> Verdict {
        let mut seen = String::new();
        for _ in 0..LOOKS_MAX {
            let items = self.submissions()?;
            let newest = items.iter().find(|item| item["file"] == file);
            if newest.is_some_and(|item| item["state"] == state) {
                return Ok(());
            }
            seen = format!("{newest:?}");
            pause();
        }
        Err(format!(
            "{file} never got {state}; last seen: {seen}\n{}",
            self.log()
        )
        .into())
    }

    /// Objects in the lake: (key, bytes), metadata files left out.
    pub(crate) fn objects(&self) -> Result<Vec<(String, Vec<u8>)>, Failed> {
        let lake = self.home().join("lake");
        let mut found = Vec::new();
        for path in files_below(&lake)? {
            let key = path.strip_prefix(&lake)?.display().to_string();
            if key.ends_with(".meta.json") {
                continue;
            }
            match fs::read(&path) {
                Ok(object) => found.push((key, object)),
                // A part that got its final name meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        found.sort();
        Ok(found)
    }

    /// Waits for a condition of the outside world.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        mut is: impl FnMut() -> Result<bool, Failed>,
    ) -> Verdict {
        for _ in 0..LOOKS_MAX {
            if is()? {
                return Ok(());
            }
            pause();
        }
        Err(format!("waited in vain for: {what}\n{}", self.log()).into())
    }

    /// Resident memory of `serve`, KiB.
    pub(crate) fn rss_kib(&self) -> Result<u64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .ok_or("no VmHWM")?;
        Ok(line.split_whitespace().nth(1).ok_or("no figure")?.parse()?)
    }

    /// A further partner with the example policy under another id, and a key of its own.
    pub(crate) fn add_partner(home: &Path, id: &str) -> Verdict {
        let policy = fs::read_to_string(home.join("policies/acme.toml"))?;
        fs::write(
            home.join(format!("policies/{id}.toml")),
            policy.replace("\"acme\"", &format!("{id:?}")),
        )?;
        keygen(&home.join(format!("{id}_key")))?;
        fs::copy(
            home.join(format!("{id}_key.pub")),
            home.join(format!("partners/{id}.pub")),
        )?;
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

// === impl Ran ===

impl Ran {
    pub(crate) fn expect_code(self, code: i32) -> Result<Self, Failed> {
        if self.code == code {
            Ok(self)
        } else {
            Err(format!("exit {code} expected: {self:#?}").into())
        }
    }

    pub(crate) fn expect_stderr(self, part: &str) -> Result<Self, Failed> {
        if self.stderr.contains(part) {
            Ok(self)
        } else {
            Err(format!("{part:?} is not on stderr: {self:#?}").into())
        }
    }

    pub(crate) fn expect_stdout(self, part: &str) -> Result<Self, Failed> {
        if self.stdout.contains(part) {
            Ok(self)
        } else {
            Err(format!("{part:?} is not on stdout: {self:#?}").into())
        }
    }
}

/// The binary under test.
pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_sallyport")
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<Ran, Failed> {
    let output: Output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command with bytes on its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Ran, Failed> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    match child.stdin.take().ok_or("no stdin")?.write_all(input) {
        // It stopped reading: its exit code and words tell why.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let output = child.wait_with_output()?;
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A fresh client key.
pub(crate) fn keygen(path: &Path) -> Verdict {
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path))?
    .expect_code(0)?;
    Ok(())
}

/// Every file below a folder.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// One pause of a waiting loop.
pub(crate) fn pause() {
    std::thread::sleep(LOOK_PAUSE);
}

/// A good orders file: header, `rows` rows, trailer.
pub(crate) fn orders(rows: u32) -> String {
    orders_with(rows, |n| format!("p{n}@example.org"))
}

/// The same with e-mail addresses of one's own.
pub(crate) fn orders_with(rows: u32, email: impl Fn(u32) -> String) -> String {
    let mut text = "order_id,ordered_at,country,amount,email,iban,note\n".to_owned();
    for n in 1..=rows {
        text.push_str(&format!(
            "O-{n:08},2026-11-20T05:41:07Z,DE,1.25,{},DE89370400440532013000,\n",
            email(n)
        ));
    }
    let cents = u64::from(rows) * 125;
    text.push_str(&format!("TRL,{rows},{}.{:02}\n", cents / 100, cents % 100));
    text
}

fn ssh_port(line: &str) -> Option<u16> {
    let rest = line.trim_start().strip_prefix("ssh ")?;
    rest.split_whitespace()
        .next()?
        .trim_end_matches(',')
        .rsplit(':')
        .next()?
        .parse()
        .ok()
}

fn hash_of(value: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
