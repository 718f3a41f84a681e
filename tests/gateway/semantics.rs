//! What an upload means, in every order clients send it: append, truncate, remove and rename, times,
//! quotas, a stop in the middle.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Failed, Gateway, Verdict, orders};
use crate::{Needs, Test, preauth};

pub(crate) const TESTS: &[Test] = &[
    (
        "an append goes to the end, counted from there or from the start",
        Needs::OpenSsh,
        append_at_the_end,
    ),
    (
        "what would be appended to a file that was taken is refused, by every client that tries",
        Needs::OpenSsh,
        not_appended,
    ),
    (
        "an append elsewhere than at the end loses nothing and is not accepted",
        Needs::OpenSsh,
        append_elsewhere,
    ),
    (
        "an interrupted file that is opened and closed stays interrupted",
        Needs::OpenSsh,
        untouched,
    ),
    (
        "a size is cut, declared, outgrown and remembered as files have it",
        Needs::OpenSsh,
        sizes,
    ),
    (
        "a file cut by its path, or cut off behind a gap, is not whole until all of it has come",
        Needs::OpenSsh,
        cuts,
    ),
    (
        "a file that went past its promise and was cut off is not whole, nor is a shorter one written over it",
        Needs::OpenSsh,
        broken_promise,
    ),
    (
        "a declared size, and what was written over, survive kill -9",
        Needs::OpenSsh,
        killed_between,
    ),
    (
        "an append its client gives up is kept, whatever size it sets",
        Needs::OpenSsh,
        given_up,
    ),
    (
        "a rename cut short by kill -9 can be asked for again",
        Needs::OpenSsh,
        killed_in_a_rename,
    ),
    (
        "what became whole later is the newer file, whenever it was begun",
        Needs::OpenSsh,
        newer_by_its_end,
    ),
    (
        "a read of a file that is being written is refused at once and holds nothing up",
        Needs::OpenSsh,
        read_while_writing,
    ),
    (
        "a file is one transaction, whichever of its names it is sent under",
        Needs::OpenSsh,
        one_transaction,
    ),
    (
        "a file that is not to be created has to be there",
        Needs::OpenSsh,
        not_created,
    ),
    (
        "an interrupted upload is resumed after kill -9 and a restart",
        Needs::OpenSsh,
        resumed_after_restart,
    ),
    (
        "a file refused at a write is settled without its close, and its name is free",
        Needs::OpenSsh,
        condemned,
    ),
    (
        "a shorter file written over a longer one is whole when its size was declared or it was emptied first",
        Needs::OpenSsh,
        no_stale_tail,
    ),
    (
        "remove and rename are one replace: a bad file brings the old one back into the listing",
        Needs::OpenSsh,
        remove_and_rename,
    ),
    (
        "times set by path on a file that is being sent are kept",
        Needs::OpenSsh,
        times_while_sending,
    ),
    (
        "removing or renaming a file that is being sent is refused, and the upload goes on",
        Needs::OpenSsh,
        changed_while_sending,
    ),
    (
        "a second writer hears who is sending and since when",
        Needs::OpenSsh,
        second_writer,
    ),
    (
        "the same key goes on with an upload whose connection is dead and does not know it",
        Needs::OpenSsh,
        overtaken,
    ),
    (
        "the quota is exact: declared sizes count at once, and what is given up is free again",
        Needs::OpenSsh,
        exact_quota,
    ),
    (
        "names of 255 bytes are taken, longer ones and those that are not utf-8 are refused in words",
        Needs::OpenSsh,
        names,
    ),
    (
        "after the order to stop a running upload gets its verdict and nobody new is let in",
        Needs::OpenSsh,
        drained,
    ),
    (
        "a client that is gone without a word does not hold up the end of the gateway for long",
        Needs::OpenSsh,
        drained_of_the_dead,
    ),
];

/// WRITE, CREATE, TRUNC.
const PUT: u32 = 0x02 | 0x08 | 0x10;
/// WRITE, CREATE, APPEND.
const APPEND: u32 = 0x02 | 0x08 | 0x04;
/// WRITE, CREATE.
const PATCH: u32 = 0x02 | 0x08;
const SETSTAT: u8 = 9;
const REMOVE: u8 = 13;
const STAT: u8 = 17;
const RENAME: u8 = 18;

pub(crate) fn write(
    sftp: &mut RawSftp,
    handle: &[u8],
    offset: u64,
    data: &[u8],
) -> Result<u32, Failed> {
    let fields = [handle, &offset.to_be_bytes(), &string(data)];
    sftp.ask(raw::WRITE, &fields)?.status()
}

pub(crate) fn close(sftp: &mut RawSftp, handle: &[u8]) -> Result<(u32, String), Failed> {
    let reply = sftp.ask(raw::CLOSE, &[handle])?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    Ok((reply.status()?, text))
}

/// Changes the line of acme's policy that begins with `key`, or adds it under `table`.
fn policy_line(home: &Path, table: &str, line: &str) -> Verdict {
    let path = home.join("policies/acme.toml");
    let text = fs::read_to_string(&path)?;
    let key = line.split('=').next().unwrap_or_default();
    let kept: Vec<&str> = text
        .lines()
        .filter(|known| !known.starts_with(key))
        .collect();
    let kept = kept.join("\n") + "\n";
    assert!(kept.contains(&format!("{table}\n")), "{kept}");
    let changed = kept.replacen(&format!("{table}\n"), &format!("{table}\n{line}\n"), 1);
    Ok(fs::write(path, changed)?)
}

fn append_at_the_end() -> Verdict {
    let gateway = Gateway::start()?;
    let text = orders(3);
    let (first, second) = text.as_bytes().split_at(100);
    let path = "/inbox/orders_20261101.csv";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, first)?, 0);
    drop(sftp);
    gateway.wait_state("orders_20261101.csv", "interrupted")?;
    // asyncssh counts from the end it finds: the server is to know where that is.
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, APPEND)?;
    for (n, piece) in (0_u64..).zip(second.chunks(40)) {
        // Anew for every second piece.
        let offset = n % 2 * 40;
        assert_eq!(write(&mut sftp, &handle, offset, piece)?, 0);
    }
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_state("orders_20261101.csv", "delivered")?;
    let objects = gateway.objects()?;
    assert_eq!(String::from_utf8_lossy(&objects[0].1).lines().count(), 4);
    Ok(())
}

fn not_appended() -> Verdict {
    let gateway = Gateway::start()?;
    let path = "inbox/orders_20261121.csv";
    let (short, long) = (orders(20), orders(21));
    let file = gateway.local("orders_20261121.csv", &short)?;
    gateway
        .sftp(&format!("put {} {path}\n", file.display()))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261121.csv", "delivered")?;
    let file = gateway.local("longer.csv", &long)?;
    gateway
        .sftp(&format!("reput {} {path}\n", file.display()))?
        .expect_code(1)?
        .expect_stderr("was taken already; send the whole file")?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    assert!(sftp.open_file(&format!("/{path}"), APPEND).is_err());
    // Nothing has become of the file that was taken.
    let listed = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    assert!(
        listed.stdout.contains(&format!(" {} ", short.len())),
        "{listed:?}"
    );
    assert_eq!(gateway.submissions()?.len(), 1);
    gateway
        .sftp(&format!("put {} {path}\n", file.display()))?
        .expect_code(0)?;
    gateway.wait_until("both objects", || Ok(gateway.objects()?.len() == 2))
}

/// A file cut off after so much of it.
fn cut_off(gateway: &Gateway, path: &str, part: &[u8]) -> Verdict {
    let mut sftp = RawSftp::open(gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, part)?, 0);
    drop(sftp);
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.trim_end_matches(".part");
    gateway.wait_state(name, "interrupted")
}

fn append_elsewhere() -> Verdict {
    let gateway = Gateway::start()?;
    let path = "/inbox/orders_20261122.csv";
    let text = orders(3);
    let (first, second) = text.as_bytes().split_at(100);
    cut_off(&gateway, path, first)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, APPEND)?;
    // Its client believes that there are 60 bytes.
    assert_eq!(write(&mut sftp, &handle, 60, &text.as_bytes()[60..])?, 4);
    let (status, told) = close(&mut sftp, &handle)?;
    assert!(
        status == 4 && told.contains("the file ends at 100"),
        "{told}"
    );
    let handle = sftp.open_file(path, APPEND)?;
    assert_eq!(write(&mut sftp, &handle, 100, second)?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_state("orders_20261122.csv", "delivered")
}

fn untouched() -> Verdict {
    let gateway = Gateway::start()?;
    // Whole rows and no trailer would be enough for a feed without one.
    let text = orders(3);
    let path = "/inbox/orders_20261123.csv";
    cut_off(&gateway, path, text.as_bytes())?;
    for flags in [PATCH, APPEND] {
        let mut sftp = RawSftp::open(&gateway, &[])?;
        let handle = sftp.open_file(path, flags)?;
        let (status, told) = close(&mut sftp, &handle)?;
        assert_eq!(status, 4, "{told}");
        assert!(told.contains("it was cut off at"), "{told}");
        drop(sftp);
        gateway.wait_state("orders_20261123.csv", "interrupted")?;
    }
    // Of one that is known to be whole there is nothing to send: cut off before its CLOSE.
    let known = "/inbox/orders_20261120.csv";
    let (all, text) = (orders(2), &text);
    let bytes = u64::try_from(all.len())?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let fields = [
        &string(known.as_bytes())[..],
        &PUT.to_be_bytes(),
        &size_of(bytes),
    ];
    let opened = sftp.ask(raw::OPEN, &fields)?;
    assert_eq!(write(&mut sftp, &opened.body, 0, all.as_bytes())?, 0);
    drop(sftp);
    gateway.wait_state("orders_20261120.csv", "interrupted")?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(known, APPEND)?;
    assert_eq!(close(&mut sftp, &handle)?.0, 4);
    let fields = [
        &string(known.as_bytes())[..],
        &APPEND.to_be_bytes(),
        &size_of(bytes),
    ];
    let opened = sftp.ask(raw::OPEN, &fields)?;
    assert_eq!(close(&mut sftp, &opened.body)?.0, 0);
    gateway.wait_state("orders_20261120.csv", "delivered")?;
    drop(sftp);
    // Under a partial name: still cut off, so its rename is refused.
    let partial = "/inbox/orders_20261124.csv.part";
    cut_off(&gateway, partial, text.as_bytes())?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(partial, PATCH)?;
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let (from, to) = (
        string(partial.as_bytes()),
        string(b"/inbox/orders_20261124.csv"),
    );
    let renamed = sftp.ask(RENAME, &[&from, &to])?;
    assert_eq!(renamed.status()?, 4, "{renamed:?}");
    // One that had been closed is still whole.
    let handle = sftp.open_file(partial, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, text.as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let handle = sftp.open_file(partial, PATCH)?;
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    assert_eq!(sftp.ask(RENAME, &[&from, &to])?.status()?, 0);
    gateway.wait_state("orders_20261124.csv", "delivered")?;
    Ok(())
}

/// The attributes of a size.
fn size_of(bytes: u64) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], &bytes.to_be_bytes()].concat()
}

fn sizes() -> Verdict {
    let gateway = Gateway::start()?;
    let text = orders(3);
    let bytes = u64::try_from(text.len())?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let path = |day: u32| format!("/inbox/orders_{day}.csv");
    // ftruncate(0), then all of it.
    let handle = sftp.open_file(&path(20_261_125), PUT)?;
    assert_eq!(
        sftp.ask(raw::FSETSTAT, &[&handle, &size_of(0)])?.status()?,
        0
    );
    assert_eq!(write(&mut sftp, &handle, 0, text.as_bytes())?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    // By its path while it is being sent: the right size is one, another is none.
    for (day, says, ends) in [(20_261_126, bytes, 0), (20_261_127, bytes - 9, 4)] {
        let handle = sftp.open_file(&path(day), PUT)?;
        let text = text.replace("p1@", &format!("p{day}@"));
        let more = u64::try_from(text.len())? - bytes;
        assert_eq!(write(&mut sftp, &handle, 0, text.as_bytes())?, 0);
        let name = string(path(day).as_bytes());
        let set = sftp.ask(SETSTAT, &[&name, &size_of(says + more)])?;
        assert_eq!(set.status()?, 0, "{set:?}");
        let (status, told) = close(&mut sftp, &handle)?;
        assert_eq!(status, ends, "{told}");
    }
    // Declared, cut off, and gone on with: not forgotten.
    let name = string(path(20_261_128).as_bytes());
    let fields = [&name[..], &PUT.to_be_bytes(), &size_of(bytes + 50)];
    let opened = sftp.ask(raw::OPEN, &fields)?;
    assert_eq!(opened.kind, 102, "{opened:?}");
    assert_eq!(
        write(&mut sftp, &opened.body, 0, &text.as_bytes()[..90])?,
        0
    );
    drop(sftp);
    gateway.wait_state("orders_20261128.csv", "interrupted")?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(&path(20_261_128), APPEND)?;
    assert_eq!(write(&mut sftp, &handle, 90, &text.as_bytes()[90..])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert!(status == 4 && told.contains("incomplete"), "{told}");
    // Cut by its path while nobody sends it: what is left is gone on with, or begun anew.
    let cut = path(20_261_130);
    cut_off(&gateway, &cut, &text.as_bytes()[..90])?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let name = string(cut.as_bytes());
    assert_eq!(sftp.ask(SETSTAT, &[&name, &size_of(60)])?.status()?, 0);
    let handle = sftp.open_file(&cut, PATCH)?;
    let other = text.replace("p2@", "cut@");
    assert_eq!(write(&mut sftp, &handle, 90, &other.as_bytes()[90..])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert!(status == 4 && told.contains("incomplete"), "{told}");
    cut_off(&gateway, &cut, &text.as_bytes()[..90])?;
    assert_eq!(sftp.ask(SETSTAT, &[&name, &size_of(0)])?.status()?, 0);
    let handle = sftp.open_file(&cut, APPEND)?;
    assert_eq!(write(&mut sftp, &handle, 0, other.as_bytes())?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    gateway.wait_state("orders_20261130.csv", "delivered")?;
    // By the path of a partial that waits for its rename.
    let partial = format!("{}.part", path(20_261_129));
    let handle = sftp.open_file(&partial, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, text.as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let from = string(partial.as_bytes());
    assert_eq!(
        sftp.ask(SETSTAT, &[&from, &size_of(bytes + 1)])?.status()?,
        0
    );
    let to = string(path(20_261_129).as_bytes());
    let renamed = sftp.ask(RENAME, &[&from, &to])?;
    let told = String::from_utf8_lossy(&renamed.body).into_owned();
    assert!(
        renamed.status()? == 4 && told.contains("incomplete"),
        "{told}"
    );
    gateway.wait_until("three objects", || Ok(gateway.objects()?.len() == 3))
}

fn cuts() -> Verdict {
    let mut gateway = Gateway::start()?;
    let path = |day: u32| format!("/inbox/orders_{day}.csv");
    let file = |day: u32| crate::harness::orders_with(3, |n| format!("p{n}.{day}@example.org"));
    let stat = |sftp: &mut RawSftp, day: u32| -> Result<u64, Failed> {
        let found = sftp.ask(STAT, &[&string(path(day).as_bytes())])?;
        Ok(u64::from_be_bytes(found.body[4..12].try_into()?))
    };
    // Cut by its path while it is being sent, also behind WRITEs nobody waited for.
    let (day, text) = (20_261_142, file(20_261_142));
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(&path(day), PUT)?;
    let name = string(path(day).as_bytes());
    let junk = [&text.as_bytes()[..60], &[b'#'; 400]].concat();
    let fields = [&handle[..], &[0; 8], &string(&junk)];
    let mut burst = sftp.request(raw::WRITE, &fields).1;
    burst.extend(sftp.request(SETSTAT, &[&name, &size_of(60)]).1);
    let rest = string(&text.as_bytes()[60..]);
    let fields = [&handle[..], &60_u64.to_be_bytes(), &rest];
    burst.extend(sftp.request(raw::WRITE, &fields).1);
    burst.extend(sftp.request(raw::CLOSE, &[&handle]).1);
    sftp.send(&burst)?;
    let statuses: Vec<u32> = (0..4)
        .map(|_| sftp.reply()?.status())
        .collect::<Result<_, _>>()?;
    assert_eq!(
        statuses.iter().sum::<u32>(),
        4,
        "{statuses:?}: only the CLOSE fails"
    );
    // Emptied by its handle over a longer file: nothing of that can be left behind.
    let handle = sftp.open_file(&path(day), PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, text.as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let handle = sftp.open_file(&path(day), PATCH)?;
    assert_eq!(
        sftp.ask(raw::FSETSTAT, &[&handle, &size_of(0)])?.status()?,
        0
    );
    assert_eq!(write(&mut sftp, &handle, 0, orders(1).as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_state("orders_20261142.csv", "delivered")?;
    // Behind a gap: an upload goes on where the file is shown to end, and has to come as far again;
    // also when the gateway was killed.
    for (day, flags, is_killed, is_whole) in [
        (20_261_143, APPEND, false, true),
        (20_261_144, PATCH, true, true),
        (20_261_145, PATCH, false, false),
    ] {
        let text = file(day);
        let mut other = RawSftp::open(&gateway, &[])?;
        let handle = other.open_file(&path(day), PUT)?;
        assert_eq!(write(&mut other, &handle, 0, &text.as_bytes()[..90])?, 0);
        assert_eq!(write(&mut other, &handle, 120, &text.as_bytes()[120..])?, 0);
        if is_killed {
            fsync(&mut other, &handle)?;
            gateway.kill()?;
            gateway.serve()?;
        }
        drop(other);
        gateway.wait_state(&format!("orders_{day}.csv"), "interrupted")?;
        sftp = RawSftp::open(&gateway, &[])?;
        assert_eq!(stat(&mut sftp, day)?, 90);
        let handle = sftp.open_file(&path(day), flags)?;
        let end = if is_whole { text.len() } else { 130 };
        assert_eq!(write(&mut sftp, &handle, 90, &text.as_bytes()[90..end])?, 0);
        let (status, told) = close(&mut sftp, &handle)?;
        assert_eq!(status == 0, is_whole, "{day}: {told}");
    }
    // Cut to nothing and stretched again, which no file has bytes for.
    let partial = format!("{}.part", path(20_261_146));
    let handle = sftp.open_file(&partial, PUT)?;
    let text = file(20_261_146);
    assert_eq!(write(&mut sftp, &handle, 0, text.as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let from = string(partial.as_bytes());
    for bytes in [0, u64::try_from(text.len())?] {
        assert_eq!(sftp.ask(SETSTAT, &[&from, &size_of(bytes)])?.status()?, 0);
    }
    let to = string(path(20_261_146).as_bytes());
    assert_eq!(sftp.ask(RENAME, &[&from, &to])?.status()?, 4);
    gateway.wait_until("four objects", || Ok(gateway.objects()?.len() == 4))
}

fn broken_promise() -> Verdict {
    // One that went past its promise is never whole; from the start it is another file.
    let gateway = Gateway::start()?;
    let (path, text) = ("/inbox/orders_20261147.csv", orders(3));
    let name = string(path.as_bytes());
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let fields = [&name[..], &PUT.to_be_bytes(), &size_of(100)];
    let opened = sftp.ask(raw::OPEN, &fields)?;
    for part in [0..90, 120..150] {
        let offset = u64::try_from(part.start)?;
        assert_eq!(
            write(&mut sftp, &opened.body, offset, &text.as_bytes()[part])?,
            0
        );
    }
    drop(sftp);
    gateway.wait_state("orders_20261147.csv", "interrupted")?;
    sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 90, &text.as_bytes()[90..100])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert!(status == 4 && told.contains("incomplete"), "{told}");
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 300, &[b'#'; 30])?, 0);
    drop(sftp);
    gateway.wait_state("orders_20261147.csv", "interrupted")?;
    sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    let short = crate::harness::orders_with(1, |_| "last@example.org".to_owned());
    assert!(short.len() < 300);
    assert_eq!(write(&mut sftp, &handle, 0, short.as_bytes())?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    // Shorter than what had come, and nobody has said how long it is.
    gateway.wait_state("orders_20261147.csv", "held")?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, short.as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_until("one object", || Ok(gateway.objects()?.len() == 1))
}

fn fsync(sftp: &mut RawSftp, handle: &[u8]) -> Verdict {
    let fields = [&string(b"fsync@openssh.com")[..], handle];
    let synced = sftp.ask(raw::EXTENDED, &fields)?;
    assert_eq!(synced.status()?, 0, "{synced:?}");
    Ok(())
}

/// Kills the gateway and starts it anew; the file it was at is at rest then.
fn killed(gateway: &mut Gateway, path: &str) -> Result<RawSftp, Failed> {
    gateway.kill()?;
    gateway.serve()?;
    gateway.wait_state(path.rsplit('/').next().unwrap_or_default(), "interrupted")?;
    RawSftp::open(gateway, &[])
}

fn killed_between() -> Verdict {
    let mut gateway = Gateway::start_with(|home| crate::shares::with_bin(home, ""))?;
    // Declared before it was sent, and by its path since.
    for (path, promised, set) in [
        ("/inbox/promised.bin", Some(200_u64), None),
        ("/inbox/set.bin", None, Some(40_u64)),
    ] {
        let mut sftp = RawSftp::open(&gateway, &[])?;
        let attributes = promised.map_or(vec![0; 4], size_of);
        let name = string(path.as_bytes());
        let opened = sftp.ask(raw::OPEN, &[&name, &PUT.to_be_bytes(), &attributes])?;
        assert_eq!(write(&mut sftp, &opened.body, 0, &[b'a'; 100])?, 0);
        fsync(&mut sftp, &opened.body)?;
        if let Some(bytes) = set {
            assert_eq!(sftp.ask(SETSTAT, &[&name, &size_of(bytes)])?.status()?, 0);
        }
        sftp = killed(&mut gateway, path)?;
        let handle = sftp.open_file(path, APPEND)?;
        // What was cut is gone; its client has to look where the file ends.
        let written = write(&mut sftp, &handle, 100, &[b'b'; 10])?;
        assert_eq!(written == 0, set.is_none(), "{path}");
        let (status, told) = close(&mut sftp, &handle)?;
        let wanted = if set.is_none() {
            "declared"
        } else {
            "ends at 40"
        };
        assert!(status == 4 && told.contains(wanted), "{path}: {told}");
    }
    // A promise does not bring back what was cut.
    let path = "/inbox/cut.bin";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[b'a'; 100])?, 0);
    let name = string(path.as_bytes());
    assert_eq!(sftp.ask(SETSTAT, &[&name, &size_of(40)])?.status()?, 0);
    drop(sftp);
    gateway.wait_state("cut.bin", "interrupted")?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let opened = sftp.ask(raw::OPEN, &[&name, &PATCH.to_be_bytes(), &size_of(100)])?;
    let (status, told) = close(&mut sftp, &opened.body)?;
    assert_eq!(status, 4, "{told}");
    drop(sftp);
    // A size that was set and outgrown is none.
    let path = "/inbox/outgrown.bin";
    cut_off(&gateway, path, &[b'x'; 10])?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    let emptied = sftp.ask(raw::FSETSTAT, &[&handle, &size_of(0)])?;
    assert_eq!(emptied.status()?, 0);
    assert_eq!(write(&mut sftp, &handle, 0, &[b'y'; 90])?, 0);
    fsync(&mut sftp, &handle)?;
    sftp = killed(&mut gateway, path)?;
    let handle = sftp.open_file(path, APPEND)?;
    assert_eq!(write(&mut sftp, &handle, 90, &[b'y'; 10])?, 0);
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    // What it was written over is remembered.
    let path = "/inbox/shorter.bin";
    cut_off(&gateway, path, &[b'x'; 1_000])?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[b'y'; 30])?, 0);
    fsync(&mut sftp, &handle)?;
    sftp = killed(&mut gateway, path)?;
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 30, &[b'y'; 10])?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_state("shorter.bin", "held")?;
    // Another file in its place: what was there does not come back.
    let path = "/inbox/other.bin";
    cut_off(&gateway, path, &[b'a'; 100])?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[b'b'; 60])?, 0);
    sftp = killed(&mut gateway, path)?;
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 60, &[b'b'; 140])?, 0);
    let (_, told) = close(&mut sftp, &handle)?;
    let objects = gateway.objects()?;
    let is_mixed = |(_, object): &(String, Vec<u8>)| object.contains(&b'a');
    assert!(!objects.iter().any(is_mixed), "{told}");
    Ok(())
}

fn given_up() -> Verdict {
    let gateway = Gateway::start_with(|home| crate::shares::with_bin(home, ""))?;
    let file = gateway.local("large.bin", vec![b'x'; 40_000_000])?;
    for name in ["stopped.bin", "stopped.bin.part"] {
        let path = format!("/inbox/{name}");
        let mut sftp = RawSftp::open(&gateway, &[])?;
        let handle = sftp.open_file(&path, PUT)?;
        assert_eq!(write(&mut sftp, &handle, 0, &vec![b'x'; 100_000])?, 0);
        drop(sftp);
        let is = |state: &str| {
            let items = gateway.submissions()?;
            Ok(items.first().is_some_and(|item| item["state"] == state))
        };
        gateway.wait_until("it is cut off", || is("interrupted"))?;
        // Ctrl-C in the middle of `reput`: the client sets the size, and closes.
        let batch = format!("reput {} inbox/{name}\n", file.display());
        let options = ["-l", "8000"];
        let mut client = gateway
            .sftp_command("acme", &gateway.acme_key(), &batch, &options)?
            .spawn()?;
        gateway.wait_until("it goes on", || is("receiving"))?;
        std::thread::sleep(std::time::Duration::from_millis(700));
        let process = rustix::process::Pid::from_child(&client);
        rustix::process::kill_process(process, Signal::INT)?;
        client.wait()?;
        gateway.wait_until("it is kept", || is("interrupted"))?;
        let bytes = gateway.submissions()?[0]["bytes"].as_u64();
        assert!(bytes >= Some(100_000), "{name}: {bytes:?}");
        let mut sftp = RawSftp::open(&gateway, &[])?;
        let removed = sftp.ask(REMOVE, &[&string(path.as_bytes())])?;
        assert_eq!(removed.status()?, 0);
    }
    assert_eq!(gateway.objects()?.len(), 0);
    // One that goes on after it has cut the file is taken at its word, wherever it counts from.
    let path = "/inbox/emptied.bin";
    cut_off(&gateway, path, &[b'a'; 10])?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, APPEND)?;
    let emptied = sftp.ask(raw::FSETSTAT, &[&handle, &size_of(0)])?;
    assert_eq!(emptied.status()?, 0);
    for offset in [10, 14] {
        assert_eq!(write(&mut sftp, &handle, offset, b"bbbb")?, 0);
    }
    let (status, told) = close(&mut sftp, &handle)?;
    assert_eq!(status, 0, "{told}");
    gateway.wait_state("emptied.bin", "delivered")?;
    let objects = gateway.objects()?;
    assert!(objects.iter().any(|(_, object)| object == b"bbbbbbbb"));
    Ok(())
}

fn killed_in_a_rename() -> Verdict {
    let mut gateway = Gateway::start()?;
    let (from, to) = (
        string(b"/inbox/orders_20261201.csv.part"),
        string(b"/inbox/orders_20261201.csv"),
    );
    let file = gateway.local("large.csv", orders(60_000))?;
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261201.csv.part\n",
            file.display()
        ))?
        .expect_code(0)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let (_, asked) = sftp.request(RENAME, &[&from, &to]);
    sftp.send(&asked)?;
    gateway.wait_until("the file is being judged", || {
        let items = gateway.submissions()?;
        Ok(items.iter().any(|item| item["state"] != "interrupted"))
    })?;
    gateway.kill()?;
    gateway.serve()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let renamed = sftp.ask(RENAME, &[&from, &to])?;
    let told = String::from_utf8_lossy(&renamed.body).into_owned();
    // It may have got its verdict just before.
    let is_done = renamed.status()? == 0 || gateway.submissions()?[0]["verdict"] == "accepted";
    assert!(is_done, "{told}");
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn newer_by_its_end() -> Verdict {
    let gateway = Gateway::start_with(|home| crate::shares::with_bin(home, ""))?;
    let (path, partial) = ("/inbox/one.bin", "/inbox/one.bin.part");
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[b'1'; 1_000])?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    cut_off(&gateway, partial, &[b'3'; 100])?;
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[b'2'; 500])?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_state("one.bin", "held")?;
    let held = gateway.submissions()?[0]["submission"].clone();
    // Once more the same does not slip through either.
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[b'4'; 500])?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_state("one.bin", "held")?;
    let handle = sftp.open_file(partial, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 100, &[b'3'; 600])?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let (from, to) = (string(partial.as_bytes()), string(path.as_bytes()));
    assert_eq!(sftp.ask(RENAME, &[&from, &to])?.status()?, 0);
    let held = held.as_str().unwrap_or_default();
    let release = ["quarantine", "release", held, "--reason", "it is fine"];
    gateway
        .cli(&release)?
        .expect_code(6)?
        .expect_stderr("quarantine.newer")?;
    Ok(())
}

fn read_while_writing() -> Verdict {
    let gateway = Gateway::start_with(|home| crate::shares::with_bin(home, ""))?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let help = sftp.open_file("/help/README.txt", 0x01)?;
    let handle = sftp.open_file("/inbox/read.bin", PUT | 0x01)?;
    assert_eq!(write(&mut sftp, &handle, 0, &[b'a'; 100])?, 0);
    // More output than there is room for, so that what is asked for waits.
    let read = [&0_u64.to_be_bytes()[..], &32_768_u32.to_be_bytes()].concat();
    let mut burst = Vec::new();
    for _ in 0..400 {
        burst.extend(sftp.request(raw::READ, &[&help, &read]).1);
    }
    let (refused, asked) = sftp.request(raw::READ, &[&handle, &read]);
    burst.extend(asked);
    let (closed, asked) = sftp.request(raw::CLOSE, &[&handle]);
    burst.extend(asked);
    sftp.send(&burst)?;
    let mut statuses = Vec::new();
    for _ in 0..402 {
        let reply = sftp.reply()?;
        if reply.id == refused || reply.id == closed {
            statuses.push((reply.id, reply.status()?));
        }
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [(refused, 3), (closed, 0)]);
    gateway.wait_state("read.bin", "delivered")
}

fn one_transaction() -> Verdict {
    let gateway = Gateway::start()?;
    let names = [
        "/inbox/orders_20261130.csv",
        "/inbox/orders_20261130.csv.part",
        "/inbox/.in.orders_20261130.csv",
        "/inbox/orders_20261130.csv.filepart",
    ];
    let mut first = RawSftp::open(&gateway, &[])?;
    for sent in names {
        let handle = first.open_file(sent, PUT)?;
        assert_eq!(write(&mut first, &handle, 0, b"order_id,")?, 0);
        for other in names {
            let fields = [&string(other.as_bytes())[..], &PUT.to_be_bytes(), &[0; 4]];
            let refused = first.ask(raw::OPEN, &fields)?;
            let told = String::from_utf8_lossy(&refused.body).into_owned();
            assert_eq!(refused.status()?, 3, "{sent} and {other}: {told}");
            assert!(
                told.contains(&format!("{sent} is being sent from")),
                "{told}"
            );
        }
        // Another file is another file.
        let other = first.open_file("/inbox/orders_20261201.csv.part", PUT)?;
        assert_eq!(close(&mut first, &other)?.0, 0);
        first.ask(raw::CLOSE, &[&handle])?;
    }
    Ok(())
}

fn not_created() -> Verdict {
    let gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    // WRITE alone, as an editor opens what it has seen.
    let name = string(b"/inbox/orders_20261202.csv");
    let refused = sftp.ask(raw::OPEN, &[&name, &[0, 0, 0, 2], &[0; 4]])?;
    assert_eq!(refused.status()?, 2, "{refused:?}");
    // A rejection is no news any more once a good file has come, also when that is out of sight.
    let bad = gateway.local("bad.csv", orders(2).replace("DE,", "UK,"))?;
    let good = gateway.local("good.csv", orders(2))?;
    let put = |file: &Path| format!("put {} inbox/orders_20261202.csv\n", file.display());
    gateway.sftp(&put(&bad))?.expect_code(1)?;
    gateway
        .sftp(&(put(&good) + "rm inbox/orders_20261202.csv\n"))?
        .expect_code(0)?;
    let found = sftp.ask(STAT, &[&name])?;
    let told = String::from_utf8_lossy(&found.body).into_owned();
    assert_eq!(found.status()?, 2, "{told}");
    assert!(!told.contains("REJECTED"), "{told}");
    Ok(())
}

fn resumed_after_restart() -> Verdict {
    let mut gateway = Gateway::start()?;
    let text = orders(20_000);
    let half = text.len() / 2;
    let path = "/inbox/orders_20261102.csv";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    let mut offset = 0_u64;
    for piece in text.as_bytes()[..half].chunks(32_000) {
        assert_eq!(write(&mut sftp, &handle, offset, piece)?, 0);
        offset += u64::try_from(piece.len())?;
    }
    // What was answered to an fsync survives the kill.
    let synced = sftp.ask(raw::EXTENDED, &[&string(b"fsync@openssh.com"), &handle])?;
    assert_eq!(synced.status()?, 0, "{synced:?}");
    gateway.kill()?;
    drop(sftp);
    gateway.serve()?;
    gateway.wait_state("orders_20261102.csv", "interrupted")?;
    let file = gateway.local("orders_20261102.csv", &text)?;
    gateway
        .sftp(&format!("reput {} {path}\n", file.display()))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261102.csv  20000 rows")?;
    gateway.wait_state("orders_20261102.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn condemned() -> Verdict {
    let gateway =
        Gateway::start_with(|home| policy_line(home, "[[feed]]", "max_size = \"100 kB\""))?;
    let path = "/inbox/orders_20261103.csv";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    let mut refused = 0;
    for n in 0..8 {
        refused = write(&mut sftp, &handle, n * 32_000, &vec![b'x'; 32_000])?;
        if refused != 0 {
            break;
        }
    }
    assert_eq!(refused, 4, "the limit was never noticed");
    // Nobody closes, and the receipt is there.
    gateway.wait_state("orders_20261103.csv", "rejected")?;
    let listed = gateway.sftp("ls receipts\n")?.expect_code(0)?;
    assert!(listed.stdout.contains("orders_20261103.csv."), "{listed:?}");
    // The same name on the same channel, while the old handle is still open.
    let again = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &again, 0, orders(2).as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &again)?.0, 0);
    let (status, text) = close(&mut sftp, &handle)?;
    assert_eq!(status, 4, "{text}");
    assert!(text.contains("REJECTED limit-exceeded"), "{text}");
    let (status, text) = close(&mut sftp, &handle)?;
    assert!(status == 4 && text.contains("unknown handle"), "{text}");
    gateway.wait_state("orders_20261103.csv", "delivered")
}

fn no_stale_tail() -> Verdict {
    let gateway = Gateway::start()?;
    let path = "/inbox/orders_20261104.csv";
    let file = gateway.local("orders_20261104.csv", orders(40))?;
    gateway
        .sftp(&format!("put {} {path}\n", file.display()))?
        .expect_code(0)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    // A size declared, or the file emptied by its path first (as sshfs does): it is whole.
    let short = orders(2);
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, short.as_bytes())?, 0);
    let bytes = u64::try_from(short.len())?;
    let size = [&1_u32.to_be_bytes()[..], &bytes.to_be_bytes()].concat();
    assert_eq!(sftp.ask(raw::FSETSTAT, &[&handle, &size])?.status()?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let empty = [&1_u32.to_be_bytes()[..], &0_u64.to_be_bytes()].concat();
    let emptied = sftp.ask(SETSTAT, &[&string(path.as_bytes()), &empty])?;
    assert_eq!(emptied.status()?, 0, "{emptied:?}");
    let handle = sftp.open_file(path, PATCH)?;
    assert_eq!(write(&mut sftp, &handle, 0, orders(1).as_bytes())?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    Ok(())
}

fn remove_and_rename() -> Verdict {
    let gateway = Gateway::start()?;
    let name = "orders_20261105.csv";
    let good = gateway.local("good.csv", orders(5))?;
    let bad = gateway.local("bad.csv", orders(5).replace("DE,", "UK,"))?;
    let better = gateway.local("better.csv", orders(6))?;
    let (good, bad, better) = (good.display(), bad.display(), better.display());
    gateway
        .sftp(&format!("put {good} inbox/{name}\n"))?
        .expect_code(0)?;
    let replace = |local: &dyn std::fmt::Display| {
        gateway.sftp(&format!(
            "put {local} inbox/.in.{name}\nrm inbox/{name}\nrename inbox/.in.{name} inbox/{name}\n"
        ))
    };
    replace(&bad)?
        .expect_code(1)?
        .expect_stderr("REJECTED orders_20261105.csv")?;
    let size = |text: &str| format!(" {} ", text.len());
    let listed = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    assert!(listed.stdout.contains(&size(&orders(5))), "{listed:?}");
    replace(&better)?.expect_code(0)?;
    let listed = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    assert!(listed.stdout.contains(&size(&orders(6))), "{listed:?}");
    gateway.wait_until("both objects", || Ok(gateway.objects()?.len() == 2))?;
    let items = gateway.submissions()?;
    let replaced = items.iter().filter(|item| item["replaced"] == true).count();
    assert_eq!(replaced, 1, "{items:?}");
    Ok(())
}

fn times_while_sending() -> Verdict {
    let gateway = Gateway::start()?;
    let path = "/inbox/orders_20261106.csv";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, orders(2).as_bytes())?, 0);
    let at = 1_500_000_000_u32.to_be_bytes();
    let times = [&8_u32.to_be_bytes()[..], &at, &at].concat();
    let set = sftp.ask(SETSTAT, &[&string(path.as_bytes()), &times])?;
    assert_eq!(set.status()?, 0, "{set:?}");
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    let found = sftp.ask(STAT, &[&string(path.as_bytes())])?;
    assert!(found.body.ends_with(&at), "{found:?}");
    Ok(())
}

fn changed_while_sending() -> Verdict {
    let gateway = Gateway::start()?;
    let (path, other) = ("/inbox/orders_20261107.csv", "/inbox/orders_20261108.csv");
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    let text = orders(2);
    let (first, second) = text.as_bytes().split_at(50);
    assert_eq!(write(&mut sftp, &handle, 0, first)?, 0);
    let removed = sftp.ask(REMOVE, &[&string(path.as_bytes())])?;
    assert_eq!(removed.status()?, 3, "{removed:?}");
    let names = [string(path.as_bytes()), string(other.as_bytes())];
    let renamed = sftp.ask(RENAME, &[&names[0], &names[1]])?;
    assert_eq!(renamed.status()?, 3, "{renamed:?}");
    assert_eq!(write(&mut sftp, &handle, 50, second)?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    gateway.wait_state("orders_20261107.csv", "delivered")
}

fn second_writer() -> Verdict {
    let gateway = Gateway::start()?;
    let path = "/inbox/orders_20261109.csv";
    let mut first = RawSftp::open(&gateway, &[])?;
    let handle = first.open_file(path, PUT)?;
    assert_eq!(write(&mut first, &handle, 0, orders(2).as_bytes())?, 0);
    let mut second = RawSftp::open(&gateway, &[])?;
    let fields = [&string(path.as_bytes())[..], &PUT.to_be_bytes(), &[0; 4]];
    let refused = second.ask(raw::OPEN, &fields)?;
    assert_eq!(refused.status()?, 3, "{refused:?}");
    let file = gateway.local("orders_20261109.csv", orders(2))?;
    gateway
        .sftp(&format!("put {} {path}\n", file.display()))?
        .expect_code(1)?
        .expect_stderr("is being sent from 127.0.0.1 since 20")?;
    assert_eq!(close(&mut first, &handle)?.0, 0);
    gateway.wait_state("orders_20261109.csv", "delivered")
}

fn exact_quota() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        preauth::configure(home, &[preauth::METRICS])?;
        policy_line(home, "[access]", "quota = \"1 MB\"")
    })?;
    let free = |gateway: &Gateway| -> Result<u64, Failed> {
        let mut sftp = RawSftp::open(gateway, &[])?;
        let reply = sftp.ask(
            raw::EXTENDED,
            &[&string(b"statvfs@openssh.com"), &string(b"/inbox")],
        )?;
        assert_eq!(reply.kind, 201, "{reply:?}");
        let number = |at: usize| -> Result<u64, Failed> {
            let bytes = reply.body.get(at * 8..at * 8 + 8).ok_or("too short")?;
            Ok(u64::from_be_bytes(bytes.try_into()?))
        };
        assert_eq!(number(2)?, 1_000_000 / 4096, "the quota as a disk");
        Ok(number(0)? * number(3)?)
    };
    let all = free(&gateway)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    // 600 kB declared at OPEN are taken before the first byte.
    let size = [&1_u32.to_be_bytes()[..], &600_000_u64.to_be_bytes()].concat();
    let name = string(b"/inbox/orders_20261110.csv");
    let opened = sftp.ask(raw::OPEN, &[&name, &PUT.to_be_bytes(), &size])?;
    assert_eq!(opened.kind, 102, "{opened:?}");
    let left = free(&gateway)?;
    assert!((390_000..=400_000).contains(&left), "{left}");
    let other = string(b"/inbox/orders_20261111.csv");
    let refused = sftp.ask(raw::OPEN, &[&other, &PUT.to_be_bytes(), &size])?;
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("TRY LATER gateway-full: nothing is wrong with your file"),
        "{text}"
    );
    // What is not declared is refused at the byte that does not fit.
    let handle = sftp.open_file("/inbox/orders_20261111.csv", PUT)?;
    let mut taken = 0_u64;
    // Good rows: nothing but the quota may refuse them.
    let text = orders(10_000);
    let mut pieces = text.as_bytes().chunks(10_000);
    while write(&mut sftp, &handle, taken, pieces.next().ok_or("no more")?)? == 0 {
        taken += 10_000;
        assert!(taken <= 400_000, "over the quota");
    }
    assert_eq!(taken, 400_000);
    let counted = "sallyport_limits_reached_total{limit=\"spool\"} 2\n";
    preauth::count_is(&gateway, counted)?;
    drop(sftp);
    gateway.wait_until("the quota given back", || {
        // The one that was spoiled is kept for a resume, the other had no byte.
        Ok(free(&gateway)? >= all - 405_000 && free(&gateway)? < all)
    })?;
    gateway.wait_state("orders_20261111.csv", "interrupted")?;
    gateway
        .sftp("rm inbox/orders_20261111.csv\n")?
        .expect_code(0)?;
    assert_eq!(free(&gateway)?, all);
    Ok(())
}

fn names() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        let wide = text.replace(
            "orders_(?<day>\\d{8})\\.csv",
            "orders_(?<day>\\d{8}).*\\.csv",
        );
        assert_ne!(wide, text);
        Ok(fs::write(path, wide)?)
    })?;
    let file = gateway.local("good.csv", orders(1))?;
    let name = format!("orders_20261112{}.csv", "x".repeat(255 - 19));
    assert_eq!(name.len(), 255);
    gateway
        .sftp(&format!("put {} inbox/{name}\n", file.display()))?
        .expect_code(0)?;
    gateway.wait_state(&name, "delivered")?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    for (raw_name, why) in [
        (&b"/inbox/orders_20261112\xe4.csv"[..], "UTF-8"),
        (b"/inbox/orders_20261112\n.csv", "control characters"),
        (&[b"/inbox/", &[b'x'; 256][..]].concat(), "255 bytes"),
    ] {
        let fields = [&string(raw_name)[..], &PUT.to_be_bytes(), &[0; 4]];
        let refused = sftp.ask(raw::OPEN, &fields)?;
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(text.contains(why), "{text}");
    }
    Ok(())
}

fn drained() -> Verdict {
    let mut gateway = Gateway::start()?;
    let path = "/inbox/orders_20261113.csv";
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file(path, PUT)?;
    let text = orders(2);
    let (first, second) = text.as_bytes().split_at(60);
    assert_eq!(write(&mut sftp, &handle, 0, first)?, 0);
    gateway.terminate()?;
    gateway.wait_until("the door closed", || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", gateway.port())).is_err())
    })?;
    assert_eq!(write(&mut sftp, &handle, 60, second)?, 0);
    assert_eq!(close(&mut sftp, &handle)?.0, 0);
    drop(sftp);
    assert_eq!(gateway.ended()?, 0);
    gateway.serve()?;
    gateway.wait_state("orders_20261113.csv", "delivered")
}

fn overtaken() -> Verdict {
    let gateway = Gateway::start()?;
    let path = "/inbox/orders_20261114.csv";
    let mut first = RawSftp::open(&gateway, &[])?;
    let handle = first.open_file(path, PUT)?;
    let text = orders(2);
    let (front, rest) = text.as_bytes().split_at(60);
    assert_eq!(write(&mut first, &handle, 0, front)?, 0);
    first.signal(Signal::STOP)?;
    let mut second = RawSftp::open(&gateway, &[])?;
    let resumed = second.open_file(path, PATCH)?;
    assert_eq!(write(&mut second, &resumed, 60, rest)?, 0);
    assert_eq!(close(&mut second, &resumed)?.0, 0);
    gateway.wait_state("orders_20261114.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    assert_eq!(gateway.submissions()?.len(), 1);
    first.signal(Signal::CONT)?;
    assert!(write(&mut first, &handle, 60, rest).is_err());
    let log = gateway.log();
    assert!(
        log.contains("the same key goes on from another connection"),
        "{log}"
    );
    Ok(())
}

fn drained_of_the_dead() -> Verdict {
    let mut gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file("/inbox/orders_20261115.csv", PUT)?;
    assert_eq!(write(&mut sftp, &handle, 0, orders(2).as_bytes())?, 0);
    sftp.signal(Signal::STOP)?;
    gateway.terminate()?;
    assert_eq!(gateway.ended()?, 0);
    let log = gateway.log();
    assert!(!log.contains("transfers did not end in time"), "{log}");
    gateway.serve()?;
    gateway.wait_state("orders_20261115.csv", "interrupted")
}
