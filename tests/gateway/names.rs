//! What becomes of names: what lies under one is neither lost, nor taken for more than it is.

use std::fs;
use std::path::Path;

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Failed, Gateway, Verdict, orders, pause};
use crate::quarantine::under;
use crate::semantics::{close, write};
use crate::shares::with_bin;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "what was sent behind an interrupted file is not dropped by a write below its end",
        Needs::OpenSsh,
        not_dropped,
    ),
    (
        "a file renamed to a feed of smaller files is refused like one that is sent there",
        Needs::OpenSsh,
        smaller_feed,
    ),
    (
        "what can never fit is refused for good, and takes no room",
        Needs::OpenSsh,
        never_fits,
    ),
    (
        "a rename or a size set by path begins the quiet window anew, as does a new process",
        Needs::OpenSsh,
        not_quiet,
    ),
    (
        "of two partial names of one file both are taken, in the order they were closed",
        Needs::OpenSsh,
        both_quiet,
    ),
    (
        "a time that is set while a file is checked is the file's",
        Needs::OpenSsh,
        late_time,
    ),
    (
        "a name that may be used once is used, whatever was removed",
        Needs::OpenSsh,
        used_once,
    ),
    (
        "what was removed for a file that a person rejects is listed again",
        Needs::OpenSsh,
        removed_for_nothing,
    ),
    (
        "a release does not hide what came since",
        Needs::OpenSsh,
        release_of_the_older,
    ),
    (
        "a release just after kill -9 does not hide what was being sent",
        Needs::OpenSsh,
        release_after_kill,
    ),
    (
        "a partial name closed with a gap is told what is missing, and resumed",
        Needs::OpenSsh,
        gap_under_a_partial_name,
    ),
    (
        "a taken file that is opened and closed is as it was, with the times set meanwhile",
        Needs::OpenSsh,
        touched,
    ),
    (
        "an untouched file whose connection or gateway dies is as it was",
        Needs::OpenSsh,
        untouched_and_cut_off,
    ),
    (
        "a file can be opened again behind a rename over its unfinished predecessor",
        Needs::OpenSsh,
        renamed_over,
    ),
    (
        "what is left of a closed channel is waited for by the next one",
        Needs::OpenSsh,
        channel_again,
    ),
    (
        "what was cut off by kill -9 is there before anything else is checked",
        Needs::OpenSsh,
        there_at_once,
    ),
];

/// WRITE, CREATE, TRUNC.
const PUT: u32 = 0x02 | 0x08 | 0x10;
/// WRITE, CREATE.
const PATCH: u32 = 0x02 | 0x08;
const SETSTAT: u8 = 9;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const ATTRS: u8 = 105;

fn binaries(more: &str) -> Result<Gateway, Failed> {
    Gateway::start_with(|home| with_bin(home, more))
}

/// Puts a line behind another in a file of the gateway's.
fn with_line(home: &Path, file: &str, behind: &str, line: &str) -> Verdict {
    let path = home.join(file);
    let text = fs::read_to_string(&path)?;
    let changed = text.replacen(&format!("{behind}\n"), &format!("{behind}\n{line}\n"), 1);
    assert_ne!(text, changed, "no {behind} in {file}");
    Ok(fs::write(path, changed)?)
}

fn rename(sftp: &mut RawSftp, from: &str, to: &str) -> Result<(u32, String), Failed> {
    let reply = sftp.ask(RENAME, &[&string(from.as_bytes()), &string(to.as_bytes())])?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    Ok((reply.status()?, text))
}

/// Size and mode of what is listed there.
fn stat(sftp: &mut RawSftp, path: &str) -> Result<Option<(u64, u32)>, Failed> {
    let reply = sftp.ask(STAT, &[&string(path.as_bytes())])?;
    if reply.kind != ATTRS {
        return Ok(None);
    }
    let bytes = u64::from_be_bytes(reply.body[4..12].try_into()?);
    let mode = u32::from_be_bytes(reply.body[12..16].try_into()?);
    Ok(Some((bytes, mode & 0o777)))
}

/// A file closed there.
fn put(sftp: &mut RawSftp, path: &str, data: &[u8]) -> Result<(u32, String), Failed> {
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(sftp, &handle, 0, data)?, 0, "{path}");
    close(sftp, &handle)
}

/// A file cut off there.
fn cut_off(gateway: &Gateway, path: &str, data: &[u8]) -> Verdict {
    let mut sftp = RawSftp::open(gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, data)?, 0, "{path}");
    drop(sftp);
    let mut sftp = RawSftp::open(gateway, &[])?;
    gateway.wait_until("the file that was cut off", || {
        let bytes = u64::try_from(data.len())?;
        Ok(gateway.submissions()?.iter().any(|item| {
            item["path"] == path && item["state"] == "interrupted" && item["bytes"] == bytes
        }))
    })?;
    assert!(stat(&mut sftp, path)?.is_some());
    Ok(())
}

fn state_of(gateway: &Gateway, path: &str) -> Result<String, Failed> {
    let items = gateway.submissions()?;
    let item = items.iter().find(|item| item["path"] == path);
    let state = item.and_then(|item| item["state"].as_str());
    Ok(state.unwrap_or_default().to_owned())
}

fn not_dropped() -> Verdict {
    let gateway = binaries("")?;
    let path = "/inbox/a.bin";
    cut_off(&gateway, path, &[b'a'; 100])?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 100, &[b'b'; 100])?, 0);
    assert_eq!(write(&mut sftp, &handle, 0, &[b'c'; 100])?, 4);
    let (status, told) = close(&mut sftp, &handle)?;
    assert!(
        status == 4 && told.contains("100 bytes were there"),
        "{told}"
    );
    // Nothing of it was lost either.
    assert_eq!(stat(&mut sftp, path)?, Some((200, 0o600)));
    let (status, told) = put(&mut sftp, path, &[b'd'; 150])?;
    assert_eq!(status, 0, "{told}");
    Ok(())
}

fn smaller_feed() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        with_bin(home, "")?;
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        let small = text.rsplit("[[feed]]").next().unwrap_or_default();
        let small = small
            .replace("\"bin\"", "\"small\"")
            .replace(".*\\.bin", ".*\\.small")
            .replace("\nstore", "\nmax_size = \"1 kB\"\nstore");
        Ok(fs::write(&path, format!("{text}\n[[feed]]{small}"))?)
    })?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    assert_eq!(put(&mut sftp, "/inbox/a.bin.part", &[7; 5000])?.0, 0);
    let (status, told) = rename(&mut sftp, "/inbox/a.bin.part", "/inbox/a.small")?;
    assert!(
        status == 4 && told.contains("REJECTED limit-exceeded: over 1 kB"),
        "{told}"
    );
    assert_eq!(put(&mut sftp, "/inbox/b.bin.part", &[7; 1000])?.0, 0);
    let (status, told) = rename(&mut sftp, "/inbox/b.bin.part", "/inbox/b.small")?;
    assert_eq!(status, 0, "{told}");
    Ok(())
}

fn never_fits() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        with_bin(home, "")?;
        with_line(home, "policies/acme.toml", "[access]", "quota = \"1 MB\"")
    })?;
    let file = gateway.local("large.bin", vec![1; 1_500_000])?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(1)?
        .expect_stderr("limit-exceeded: over 1 MB, which is all the room there is")?;
    let file = gateway.local("small.bin", vec![1; 900_000])?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?;
    assert_eq!(state_of(&gateway, "/inbox/large.bin")?, "rejected");
    Ok(())
}

fn not_quiet() -> Verdict {
    let mut gateway = Gateway::start_with(|home| {
        with_bin(home, "quiet_window = \"4s\"")?;
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        let slow = text.rsplit("[[feed]]").next().unwrap_or_default();
        let slow = slow
            .replace("\"bin\"", "\"slow\"")
            .replace(".*\\.bin", ".*\\.slow")
            .replace("4s", "1h");
        Ok(fs::write(&path, format!("{text}\n[[feed]]{slow}"))?)
    })?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    for name in ["alone", "renamed", "cut", "slow"] {
        let path = format!("/inbox/{name}.bin.part");
        assert_eq!(put(&mut sftp, &path, &[7; 100])?.0, 0);
    }
    let slow = "/inbox/slow.slow.part";
    assert_eq!(rename(&mut sftp, "/inbox/slow.bin.part", slow)?.0, 0);
    // Until it is taken, the others are touched again and again.
    let mut number = 0;
    while state_of(&gateway, "/inbox/alone.bin")?.is_empty() {
        let from = format!("/inbox/renamed{}.bin.part", "x".repeat(number));
        let to = format!("/inbox/renamed{}.bin.part", "x".repeat(number + 1));
        assert_eq!(rename(&mut sftp, &from, &to)?.0, 0, "{from}");
        number += 1;
        let size = [&1_u32.to_be_bytes()[..], &80_u64.to_be_bytes()].concat();
        let path = string(b"/inbox/cut.bin.part");
        assert_eq!(sftp.ask(SETSTAT, &[&path, &size])?.status()?, 0);
        pause();
        assert!(number < 900);
    }
    let renamed = format!("/inbox/renamed{}.bin", "x".repeat(number));
    for path in [&renamed, "/inbox/cut.bin"] {
        assert_eq!(state_of(&gateway, path)?, "", "{path}");
    }
    drop(sftp);
    gateway.kill()?;
    gateway.serve()?;
    // What nobody could touch was not left alone.
    assert_eq!(state_of(&gateway, &renamed)?, "");
    gateway.wait_until("both taken", || {
        let all = [&renamed, "/inbox/cut.bin"].map(|path| state_of(&gateway, path));
        Ok(all.iter().all(|state| {
            let state = state.as_deref().unwrap_or_default();
            ["accepted", "delivering", "delivered"].contains(&state)
        }))
    })?;
    assert_eq!(state_of(&gateway, slow)?, "interrupted");
    Ok(())
}

fn both_quiet() -> Verdict {
    let gateway = binaries("quiet_window = \"1s\"")?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    assert_eq!(put(&mut sftp, "/inbox/a.bin.part", b"first")?.0, 0);
    assert_eq!(put(&mut sftp, "/inbox/.in.a.bin", b"second!")?.0, 0);
    gateway.wait_until("both objects", || Ok(gateway.objects()?.len() == 2))?;
    assert_eq!(stat(&mut sftp, "/inbox/a.bin")?, Some((7, 0o444)));
    Ok(())
}

fn late_time() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let path = home.join("sallyport.toml");
        let text = fs::read_to_string(&path)?;
        Ok(fs::write(
            path,
            text.replace("#wait = \"10s\"", "wait = \"1ms\""),
        )?)
    })?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let path = "/inbox/orders_20261101.csv";
    let handle = sftp.open_file(path, PUT)?;
    for (number, piece) in (0_u64..).zip(orders(40_000).as_bytes().chunks(32_000)) {
        assert_eq!(write(&mut sftp, &handle, number * 32_000, piece)?, 0);
    }
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    // ACMODTIME
    let times = [
        &8_u32.to_be_bytes()[..],
        &1_000_000_000_u32.to_be_bytes(),
        &1_000_000_000_u32.to_be_bytes(),
    ]
    .concat();
    let set = sftp.ask(SETSTAT, &[&string(path.as_bytes()), &times])?;
    assert_eq!(set.status()?, 0);
    gateway.wait_state("orders_20261101.csv", "delivered")?;
    let reply = sftp.ask(STAT, &[&string(path.as_bytes())])?;
    let mtime = reply.body.rchunks(4).next().unwrap_or_default();
    assert_eq!(mtime, 1_000_000_000_u32.to_be_bytes());
    Ok(())
}

fn used_once() -> Verdict {
    let mut gateway = binaries("same_name = \"reject\"")?;
    let first = gateway.local("a.bin", "one")?;
    let put = |file: &Path| format!("put {} inbox/a.bin\n", file.display());
    gateway.sftp(&put(&first))?.expect_code(0)?;
    gateway.sftp("rm inbox/a.bin\n")?.expect_code(0)?;
    gateway.stop()?;
    gateway.serve()?;
    let second = gateway.local("b.bin", "two")?;
    gateway
        .sftp(&put(&second))?
        .expect_code(1)?
        .expect_stderr("duplicate-file")?;
    gateway.sftp(&put(&first))?.expect_code(0)?;
    Ok(())
}

fn removed_for_nothing() -> Verdict {
    let hold = "extra_columns = \"hold\"";
    let gateway = Gateway::start_with(|home| under(home, "[feed.schema]", hold))?;
    let name = "orders_20261102.csv";
    let path = format!("/inbox/{name}");
    let old = gateway.local(name, orders(3))?;
    gateway
        .sftp(&format!("put {} inbox/\n", old.display()))?
        .expect_code(0)?;
    let wider: String = orders(4)
        .lines()
        .enumerate()
        .map(|(at, line)| match at {
            0 => format!("{line},tier\n"),
            _ if line.starts_with("TRL") => format!("{line}\n"),
            _ => format!("{line},x\n"),
        })
        .collect();
    let wider = gateway.local("wider.csv", wider)?;
    gateway
        .sftp(&format!(
            "put {} inbox/{name}.part\nrm inbox/{name}\nrename inbox/{name}.part inbox/{name}\n",
            wider.display()
        ))?
        .expect_code(0)?
        .expect_stderr("HELD")?;
    let items = gateway.submissions()?;
    let held = items.iter().find(|item| item["state"] == "held");
    let short = held.and_then(|item| item["short"].as_str());
    let short = short.ok_or("nothing is held")?.to_owned();
    gateway
        .cli(&["quarantine", "reject", &short, "--reason", "no", "--yes"])?
        .expect_code(0)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let bytes = u64::try_from(orders(3).len())?;
    assert_eq!(stat(&mut sftp, &path)?, Some((bytes, 0o444)));
    Ok(())
}

fn release_of_the_older() -> Verdict {
    let gateway = binaries("")?;
    let path = "/inbox/a.bin";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    assert_eq!(put(&mut sftp, path, &[1; 90])?.0, 0);
    // Shorter than what it was written over: held.
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[2; 50])?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let items = gateway.submissions()?;
    assert_eq!(items[0]["state"], "held", "{items:?}");
    let short = items[0]["short"].as_str().unwrap_or_default().to_owned();
    cut_off(&gateway, path, &[3; 70])?;
    gateway
        .cli(&["quarantine", "release", &short, "--reason", "y", "--yes"])?
        .expect_code(0)?;
    assert_eq!(stat(&mut sftp, path)?, Some((70, 0o600)));
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 70, &[3; 30])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    assert_eq!(stat(&mut sftp, path)?, Some((100, 0o444)));
    Ok(())
}

fn release_after_kill() -> Verdict {
    let mut gateway = binaries("")?;
    let path = "/inbox/a.bin";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    assert_eq!(put(&mut sftp, path, &[1; 90])?.0, 0);
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[2; 50])?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let items = gateway.submissions()?;
    assert_eq!(items[0]["state"], "held", "{items:?}");
    let short = items[0]["short"].as_str().unwrap_or_default().to_owned();
    let piece = vec![3; 30_000];
    // Large ones first, so that the release comes before what was being sent there is looked at.
    let name = string(b"fsync@openssh.com");
    for other in ["/inbox/b.bin", "/inbox/c.bin", path] {
        let handle = sftp.open_file(other, PUT)?;
        let many = if other == path { 1 } else { 600 };
        for at in 0..many {
            assert_eq!(write(&mut sftp, &handle, at * 30_000, &piece)?, 0);
        }
        let synced = sftp.ask(raw::EXTENDED, &[&name, &handle])?;
        assert_eq!(synced.status()?, 0);
    }
    gateway.kill()?;
    drop(sftp);
    gateway.serve()?;
    gateway
        .cli(&["quarantine", "release", &short, "--reason", "y", "--yes"])?
        .expect_code(0)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    assert_eq!(stat(&mut sftp, path)?, Some((30_000, 0o600)));
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 30_000, &[3; 30])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    assert_eq!(stat(&mut sftp, path)?, Some((30_030, 0o444)));
    Ok(())
}

fn gap_under_a_partial_name() -> Verdict {
    let gateway = binaries("")?;
    let (partial, path) = ("/inbox/a.bin.part", "/inbox/a.bin");
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(partial, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[1; 40])?, 0);
    assert_eq!(write(&mut sftp, &handle, 100, &[2; 100])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert!(
        status == 4 && told.contains("bytes from 40 on are missing"),
        "{told}"
    );
    assert_eq!(stat(&mut sftp, partial)?.map(|(bytes, _)| bytes), Some(40));
    let handle = sftp.open_file(partial, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 40, &[2; 160])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    let (status, told) = rename(&mut sftp, partial, path)?;
    assert_eq!(status, 0, "{told}");
    assert_eq!(stat(&mut sftp, path)?, Some((200, 0o444)));
    Ok(())
}

fn touched() -> Verdict {
    let gateway = binaries("")?;
    let path = "/inbox/a.bin";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    for data in [&[1; 90][..], &[]] {
        let handle = sftp.open_file(path, PUT)?;
        assert_eq!(write(&mut sftp, &handle, 0, data)?, 0);
        assert_eq!(close(&mut sftp, &handle)?.0, 0);
        let kept = || -> Result<usize, Failed> {
            let items = gateway.submissions()?;
            let kept = items.iter().filter(|item| item["state"] != "removed");
            Ok(kept.count())
        };
        let count = kept()?;
        let before = stat(&mut sftp, path)?;
        for syncs in [false, true] {
            let handle = sftp.open_file(path, PATCH)?;
            let times = [8_u32, 900_000_000, 900_000_000].map(u32::to_be_bytes);
            let set = sftp.ask(raw::FSETSTAT, &[&handle, &times.concat()])?;
            assert_eq!(set.status()?, 0);
            if syncs {
                let name = string(b"fsync@openssh.com");
                let synced = sftp.ask(raw::EXTENDED, &[&name, &handle])?;
                assert_eq!(synced.status()?, 0);
            }
            assert_eq!(close(&mut sftp, &handle)?.0, 0);
            assert_eq!(stat(&mut sftp, path)?, before);
            let reply = sftp.ask(STAT, &[&string(path.as_bytes())])?;
            let mtime = reply.body.rchunks(4).next().unwrap_or_default();
            assert_eq!(mtime, 900_000_000_u32.to_be_bytes());
        }
        assert_eq!(kept()?, count);
    }
    Ok(())
}

fn untouched_and_cut_off() -> Verdict {
    let mut gateway = binaries("")?;
    let path = "/inbox/a.bin";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    assert_eq!(put(&mut sftp, path, &[1; 500])?.0, 0);
    for kills in [false, true] {
        let handle = sftp.open_file(path, PATCH)?;
        let name = string(b"fsync@openssh.com");
        let synced = sftp.ask(raw::EXTENDED, &[&name, &handle])?;
        assert_eq!(synced.status()?, 0);
        if kills {
            gateway.kill()?;
            gateway.serve()?;
        }
        drop(sftp);
        sftp = RawSftp::open(&gateway, &[])?;
        gateway.wait_until("the file as it was", || {
            Ok(stat(&mut sftp, path)? == Some((500, 0o444)))
        })?;
        let items = gateway.submissions()?;
        let held = items.iter().any(|item| item["state"] == "held");
        assert!(!held, "{items:?}");
    }
    Ok(())
}

fn renamed_over() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        with_bin(home, "")?;
        with_line(
            home,
            "policies/acme.toml",
            "[access]",
            "hide_after_accept = true",
        )
    })?;
    for number in 0..10 {
        let path = format!("/inbox/{number}.bin");
        cut_off(&gateway, &path, &[1; 100])?;
        let mut sftp = RawSftp::open(&gateway, &[])?;
        let partial = format!("{path}.part");
        assert_eq!(put(&mut sftp, &partial, &[2; 50])?.0, 0);
        let (status, told) = rename(&mut sftp, &partial, &path)?;
        assert_eq!(status, 0, "{told}");
        let handle = sftp.open_file(&path, PATCH)?;
        assert_eq!(write(&mut sftp, &handle, 0, &[3; 60])?, 0);
        let (status, told) = close(&mut sftp, &handle)?;
        assert_eq!(status, 0, "{told}");
    }
    assert!(!gateway.log().contains("intake.failed"));
    Ok(())
}

fn channel_again() -> Verdict {
    let gateway = binaries("")?;
    let control = gateway.scratch().join("control");
    let master = format!("ControlPath={}", control.display());
    let shared = [
        "-o",
        &master,
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=60",
    ];
    let path = "/inbox/a.bin";
    for _ in 0..5 {
        let mut sftp = RawSftp::open(&gateway, &shared)?;
        let handle = sftp.open_file(path, PUT)?;
        for number in 0..100_u64 {
            assert_eq!(
                write(&mut sftp, &handle, number * 30_000, &vec![1; 30_000])?,
                0
            );
        }
        drop(sftp);
        let mut sftp = RawSftp::open(&gateway, &shared)?;
        let handle = sftp.open_file(path, PUT)?;
        assert_eq!(write(&mut sftp, &handle, 0, &[2; 10])?, 0);
        assert_eq!(close(&mut sftp, &handle)?.0, 0);
    }
    drop(gateway.ssh(&["-o", &master, "-O", "exit"], &[])?);
    Ok(())
}

fn there_at_once() -> Verdict {
    let mut gateway = binaries("")?;
    let path = "/inbox/a.bin";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, &vec![1; 30_000])?, 0);
    let name = string(b"fsync@openssh.com");
    let synced = sftp.ask(raw::EXTENDED, &[&name, &handle])?;
    assert_eq!(synced.status()?, 0);
    for _ in 0..5 {
        gateway.kill()?;
        drop(sftp);
        gateway.serve()?;
        sftp = RawSftp::open(&gateway, &[])?;
        assert_eq!(stat(&mut sftp, path)?, Some((30_000, 0o600)));
        let handle = sftp.open_file(path, PATCH)?;
        let synced = sftp.ask(raw::EXTENDED, &[&name, &handle])?;
        assert_eq!(synced.status()?, 0);
    }
    drop(sftp);
    gateway.wait_state("a.bin", "interrupted")?;
    Ok(())
}
