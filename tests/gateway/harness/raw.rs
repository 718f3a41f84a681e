//! SFTP packets by hand, through the real `ssh -s`: for what no stock client sends.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Failed, Gateway, Verdict};

/// One sftp channel.
pub(crate) struct RawSftp {
    ssh: Child,
    requests: Option<ChildStdin>,
    answers: ChildStdout,
    next_id: u32,
}

/// A reply: packet type and what follows the request id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub kind: u8,
    pub id: u32,
    pub body: Vec<u8>,
}

pub(crate) const OPEN: u8 = 3;
pub(crate) const CLOSE: u8 = 4;
pub(crate) const READ: u8 = 5;
pub(crate) const WRITE: u8 = 6;
pub(crate) const FSETSTAT: u8 = 10;
pub(crate) const EXTENDED: u8 = 200;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;

// === impl RawSftp ===

impl RawSftp {
    /// Opens the subsystem and agrees on version 3.
    pub(crate) fn open(gateway: &Gateway, options: &[&str]) -> Result<Self, Failed> {
        let mut ssh = Command::new("ssh")
            .args(gateway.ssh_options(&gateway.acme_key()))
            .args(options)
            .args([
                "-p",
                &gateway.port().to_string(),
                "-s",
                "acme@127.0.0.1",
                "sftp",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let requests = ssh.stdin.take();
        let answers = ssh.stdout.take().ok_or("no stdout")?;
        let mut raw = Self {
            ssh,
            requests,
            answers,
            next_id: 0,
        };
        raw.send(&packet(1, &[&3_u32.to_be_bytes()]))?;
        let version = raw.read_packet()?;
        assert_eq!(version.first(), Some(&2), "VERSION expected: {version:?}");
        Ok(raw)
    }

    /// Stops the client's process, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) -> Verdict {
        Ok(kill_process(Pid::from_child(&self.ssh), signal)?)
    }

    /// What the client printed; to be asked when it has ended.
    pub(crate) fn told(&mut self) -> Result<String, Failed> {
        let mut said = String::new();
        let stderr = self.ssh.stderr.as_mut().ok_or("no stderr")?;
        stderr.read_to_string(&mut said)?;
        Ok(said)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Verdict {
        let requests = self.requests.as_mut().ok_or("closed")?;
        requests.write_all(bytes)?;
        Ok(requests.flush()?)
    }

    /// A request with a fresh id; not sent yet.
    pub(crate) fn request(&mut self, kind: u8, fields: &[&[u8]]) -> (u32, Vec<u8>) {
        self.next_id += 1;
        let id = self.next_id.to_be_bytes();
        let mut all: Vec<&[u8]> = vec![&id];
        all.extend(fields);
        (self.next_id, packet(kind, &all))
    }

    /// The next reply, whichever request it belongs to.
    pub(crate) fn reply(&mut self) -> Result<Reply, Failed> {
        let packet = self.read_packet()?;
        Ok(Reply {
            kind: packet[0],
            id: u32::from_be_bytes(packet[1..5].try_into()?),
            body: packet[5..].to_vec(),
        })
    }

    /// Sends one request and takes its reply.
    pub(crate) fn ask(&mut self, kind: u8, fields: &[&[u8]]) -> Result<Reply, Failed> {
        let (id, bytes) = self.request(kind, fields);
        self.send(&bytes)?;
        let reply = self.reply()?;
        assert_eq!(reply.id, id, "{reply:?}");
        Ok(reply)
    }

    /// OPEN; the handle as a field of later requests.
    pub(crate) fn open_file(&mut self, path: &str, flags: u32) -> Result<Vec<u8>, Failed> {
        let reply = self.ask(
            OPEN,
            &[&string(path.as_bytes()), &flags.to_be_bytes(), &[0; 4]],
        )?;
        if reply.kind == HANDLE {
            Ok(reply.body)
        } else {
            Err(format!("no handle: {reply:?}").into())
        }
    }
}

impl Drop for RawSftp {
    fn drop(&mut self) {
        self.requests.take();
        drop(self.ssh.kill());
        drop(self.ssh.wait());
    }
}

// === impl Reply ===

impl Reply {
    /// The status code; 0 is OK.
    pub(crate) fn status(&self) -> Result<u32, Failed> {
        if self.kind != STATUS {
            return Err(format!("STATUS expected: {self:?}").into());
        }
        Ok(u32::from_be_bytes(self.body[..4].try_into()?))
    }
}

/// A length-prefixed string field.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut field = u32::try_from(bytes.len())
        .unwrap_or(0)
        .to_be_bytes()
        .to_vec();
    field.extend(bytes);
    field
}

fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(fields.concat());
    string(&body)
}

impl RawSftp {
    fn read_packet(&mut self) -> Result<Vec<u8>, Failed> {
        let mut len = [0; 4];
        self.answers.read_exact(&mut len)?;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(len))?];
        self.answers.read_exact(&mut body)?;
        Ok(body)
    }
}
