//! What a partner with a good key may send that no client should: broken packets, numbers at the
//! edge, paths that try to leave, text that tries to be something else. After each of them a file
//! is delivered, where the protocol lets it live on the same channel, and on a new connection.

use std::collections::BTreeMap;
use std::fs;
use std::net::Shutdown;
use std::path::PathBuf;

use crate::harness::raw::{self, RawSftp, Reply, string};
use crate::harness::{Failed, Gateway, Verdict, files_below};
use crate::preauth::{
    self, CHANNEL_OPENED, CHANNEL_REQUEST, Random, RawSsh, USERAUTH_SUCCESS, bounded, content,
    gateway_with, harmed, open_request, transfer,
};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "what few clients send is answered: extensions, unknown requests, surplus bytes, EXCL",
        Needs::OpenSsh,
        seldom,
    ),
    (
        "SFTP packets that claim up to 4 GiB, or too little, end the connection and cost no memory",
        Needs::OpenSsh,
        lengths,
    ),
    (
        "handles that are none, are closed or belong to another session are refused one by one",
        Needs::OpenSsh,
        handles,
    ),
    (
        "offsets and sizes around 2^63 and 2^64 are refused, and a file with one is not accepted",
        Needs::OpenSsh,
        offsets,
    ),
    (
        "22 spellings of a way out, in every request with a path, lead nowhere",
        Needs::OpenSsh,
        paths,
    ),
    (
        "of 10,000 OPENs a connection gets its 256 uploads and 1,024 handles and can go on",
        Needs::OpenSsh,
        opens,
    ),
    (
        "random mutations of a good conversation break nothing",
        Needs::Nothing,
        mutations,
    ),
    (
        "a window widened past 32 bits and a pty with 200 modes do no harm to anything else",
        Needs::Nothing,
        windows,
    ),
    (
        "of 1,000 channels a connection gets 64, and each of them works",
        Needs::Nothing,
        channels,
    ),
    (
        "20,000 commands on one channel end it, and nothing piles up",
        Needs::Nothing,
        commands,
    ),
    (
        "requests that wait for a silent client take a bounded room, whatever their paths",
        Needs::OpenSsh,
        waiting,
    ),
    (
        "line ends, escapes and turned text in names stay inside one escaped line of the log",
        Needs::Nothing,
        log_lines,
    ),
    (
        "SQL as a user, a file or a partner is a name that does not exist, and changes nothing",
        Needs::Nothing,
        injections,
    ),
];

/// WRITE, CREATE, TRUNC.
const PUT: u32 = 0x02 | 0x08 | 0x10;
/// More of the type bytes of draft-ietf-secsh-filexfer-02 section 3.
const LSTAT: u8 = 7;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const RMDIR: u8 = 15;
const REALPATH: u8 = 16;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const READLINK: u8 = 19;
const SYMLINK: u8 = 20;
const NAME: u8 = 104;

fn lengths() -> Verdict {
    let gateway = gateway_with(&[preauth::METRICS])?;
    transfer(&gateway, "20261201")?;
    let before = gateway.rss_kib()?;
    let wrong = [0, 1, 4, (256 << 10) + 1, 1 << 31, u32::MAX];
    for (day, length) in (20_261_101..).zip(wrong) {
        let mut sftp = RawSftp::open(&gateway, &[])?;
        sftp.send(&[&length.to_be_bytes()[..], &[STAT, 0, 0, 0, 1]].concat())?;
        let reply = sftp.reply();
        assert!(reply.is_err(), "{length} was answered: {reply:?}");
        transfer(&gateway, &format!("{day}"))?;
    }
    let ended = "sallyport_limits_reached_total{limit=\"packet\"} 6\n";
    preauth::count_is(&gateway, ended)?;
    // As long as it may be, but no request is: answered, and the next packet is found.
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let longest = sftp.ask(STAT, &[&vec![0; (256 << 10) - 5]])?;
    assert_eq!(longest.status()?, 5, "{longest:?}");
    put(&mut sftp, "20261202")?;
    bounded(&gateway, before)?;
    transfer(&gateway, "20261203")
}

fn handles() -> Verdict {
    let gateway = Gateway::start()?;
    let mut other = RawSftp::open(&gateway, &[])?;
    let theirs = other.open_file("/inbox/orders_20261201.csv", PUT)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let closed = sftp.open_file("/help/README.txt", 1)?;
    assert_eq!(sftp.ask(raw::CLOSE, &[&closed])?.status()?, 0);
    let wrong = [
        closed,
        theirs.clone(),
        string(b""),
        string(&[0; 3]),
        string(&[0xff; 4]),
        string(&[0, 0, 0, 1, 0]),
        string(&[1; 256]),
        string(&[1; 257]),
        vec![0xff; 4],
        vec![0, 0, 0, 4, 1],
        vec![],
    ];
    for handle in &wrong {
        for kind in [
            raw::READ,
            raw::WRITE,
            raw::CLOSE,
            FSTAT,
            raw::FSETSTAT,
            READDIR,
            raw::EXTENDED,
        ] {
            let reply = match kind {
                raw::EXTENDED => sftp.ask(kind, &[&string(b"fsync@openssh.com"), handle]),
                _ => sftp.ask(kind, &[handle, &[0; 8], &string(b"data")]),
            }?;
            assert!(
                [4, 5].contains(&reply.status()?),
                "{kind} {handle:?}: {reply:?}"
            );
        }
    }
    put(&mut sftp, "20261202")?;
    // The other session's upload has not noticed anything.
    let text = string(content("20261201").as_bytes());
    assert_eq!(
        other
            .ask(raw::WRITE, &[&theirs, &[0; 8], &text])?
            .status()?,
        0
    );
    assert_eq!(other.ask(raw::CLOSE, &[&theirs])?.status()?, 0);
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    gateway.wait_state("orders_20261202.csv", "delivered")?;
    transfer(&gateway, "20261203")
}

fn offsets() -> Verdict {
    let gateway = Gateway::start()?;
    transfer(&gateway, "20261201")?;
    let before = gateway.rss_kib()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let readme = sftp.open_file("/help/README.txt", 1)?;
    let name = "/inbox/orders_20261202.csv";
    let text = string(content("20261202").as_bytes());
    for edge in [
        1 << 63,
        (1 << 63) - 1,
        u64::MAX,
        u64::MAX - 3,
        u64::from(u32::MAX) << 16,
    ] {
        let bytes = edge.to_be_bytes();
        let read = sftp.ask(raw::READ, &[&readme, &bytes, &[0xff; 4]])?;
        assert_eq!(read.status()?, 1, "READ at {edge}: {read:?}");
        // Written there, beside a good file: it stays incomplete.
        let handle = sftp.open_file(name, PUT)?;
        assert_eq!(
            sftp.ask(raw::WRITE, &[&handle, &[0; 8], &text])?.status()?,
            0
        );
        let written = sftp.ask(raw::WRITE, &[&handle, &bytes, &string(b"more")])?;
        assert!(written.status()? == 4, "WRITE at {edge}: {written:?}");
        let ended = sftp.ask(raw::CLOSE, &[&handle])?;
        assert_eq!(ended.status()?, 4, "WRITE at {edge}, then CLOSE: {ended:?}");
        // Declared, at the OPEN or later: the same.
        let size = [&1_u32.to_be_bytes()[..], &bytes].concat();
        let open = [&string(name.as_bytes())[..], &PUT.to_be_bytes(), &size].concat();
        let opened = sftp.ask(raw::OPEN, &[&open])?;
        let handle = if opened.kind == 102 {
            opened.body
        } else {
            sftp.open_file(name, PUT)?
        };
        assert_eq!(
            sftp.ask(raw::WRITE, &[&handle, &[0; 8], &text])?.status()?,
            0
        );
        sftp.ask(raw::FSETSTAT, &[&handle, &size])?.status()?;
        let ended = sftp.ask(raw::CLOSE, &[&handle])?;
        assert_eq!(
            ended.status()?,
            4,
            "a size of {edge}, then CLOSE: {ended:?}"
        );
    }
    assert_eq!(
        gateway.objects()?.len(),
        1,
        "a file with a hole was accepted"
    );
    put(&mut sftp, "20261203")?;
    gateway.wait_state("orders_20261203.csv", "delivered")?;
    bounded(&gateway, before)?;
    transfer(&gateway, "20261204")
}

fn paths() -> Verdict {
    let gateway = Gateway::start()?;
    transfer(&gateway, "20261201")?;
    let before = everything(&gateway)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let ways: [&[u8]; 22] = [
        b"../",
        b"..//",
        b"./../",
        b"../../../../../../../../",
        b"inbox/../../",
        b"inbox/./.././../",
        b"receipts/../../../",
        b"help/../inbox/../../",
        b"....//",
        b".../",
        b"..;/",
        b".. /",
        b"~/../",
        b"..\\",
        b"..%2f",
        b"%2e%2e/",
        b"..%252f",
        b"..%c0%af",
        b"\xc0\xae\xc0\xae/",
        "\u{ff0e}\u{ff0e}/".as_bytes(),
        "..\u{2215}".as_bytes(),
        b"..\0/",
    ];
    let mut names: Vec<Vec<u8>> = Vec::new();
    for way in ways {
        for target in [&b"etc/passwd"[..], b"keys/token.key", b"state/state.db"] {
            names.push([way, target].concat());
            names.push([b"/", way, target].concat());
        }
    }
    // And what other programs would replace by something else.
    for text in [
        "<INCLUDE>/etc/passwd</INCLUDE>",
        "{hostname}",
        "%u",
        "$HOME",
        "${HOME}/x",
        "~root/x",
        "`id`",
        "$(id)",
        "*",
        "file:///etc/passwd",
        "inbox/orders_20261201.csv\0.txt",
        "inbox\r\nx",
    ] {
        names.push(text.as_bytes().to_vec());
    }
    names.push(vec![b'x'; 256]);
    names.push(b"a/".repeat(2_049));
    names.push(b"/".repeat(4_097));
    let good = string(b"/inbox/orders_20261201.csv");
    for name in &names {
        let path = string(name);
        let requests = every_request(&path, &good);
        let mut asked = BTreeMap::new();
        let mut burst = Vec::new();
        for (place, (kind, fields)) in requests.iter().enumerate() {
            let (id, bytes) = sftp.request(*kind, fields);
            asked.insert(id, (place, *kind));
            burst.extend(bytes);
        }
        sftp.send(&burst)?;
        while !asked.is_empty() {
            let reply = sftp.reply()?;
            let asked = asked.remove(&reply.id).ok_or("an answer to nothing")?;
            let what = format!("{:?} {asked:?}: {reply:?}", String::from_utf8_lossy(name));
            if reply.kind == NAME {
                assert!(matches!(asked.1, REALPATH | raw::EXTENDED), "{what}");
                let shown =
                    String::from_utf8_lossy(preauth::field(&reply.body[4..])?.0).into_owned();
                assert!(
                    shown.starts_with('/') && shown.split('/').all(|part| part != ".."),
                    "{what}"
                );
            } else {
                assert_ne!(reply.status()?, 0, "{what}");
            }
        }
    }
    assert_eq!(everything(&gateway)?, before, "files have changed");
    assert_eq!(gateway.submissions()?.len(), 1);
    put(&mut sftp, "20261202")?;
    gateway.wait_state("orders_20261202.csv", "delivered")?;
    transfer(&gateway, "20261203")
}

fn opens() -> Verdict {
    let gateway = gateway_with(&[preauth::METRICS])?;
    transfer(&gateway, "20261201")?;
    let before = gateway.rss_kib()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let (mut uploads, mut readers) = (Vec::new(), Vec::new());
    for burst in 0..20_u32 {
        let mut bytes = Vec::new();
        let mut writing = BTreeMap::new();
        for n in burst * 500..(burst + 1) * 500 {
            let (path, flags) = match n % 2 {
                0 => (format!("/inbox/orders_{n:08}.csv"), PUT),
                _ => ("/help/README.txt".to_owned(), 1),
            };
            let fields = [&string(path.as_bytes())[..], &flags.to_be_bytes(), &[0; 4]];
            let (id, request) = sftp.request(raw::OPEN, &fields);
            writing.insert(id, flags == PUT);
            bytes.extend(request);
        }
        sftp.send(&bytes)?;
        for _ in 0..500 {
            let reply = sftp.reply()?;
            let writes = writing.remove(&reply.id).ok_or("an answer to nothing")?;
            match (reply.kind, writes) {
                (102, true) => uploads.push(reply.body),
                (102, false) => readers.push(reply.body),
                _ => says(&reply, "too many files open at once")?,
            }
        }
    }
    assert_eq!((uploads.len(), readers.len()), (256, 768));
    let counted = "sallyport_limits_reached_total{limit=\"handles\"}";
    preauth::count_is(&gateway, &format!("{counted} {}\n", 10_000 - 1_024))?;
    bounded(&gateway, before)?;
    let one = uploads.pop().ok_or("no upload")?;
    says(&sftp.ask(raw::CLOSE, &[&one])?, "REJECTED")?;
    put(&mut sftp, "20261202")?;
    gateway.wait_state("orders_20261202.csv", "delivered")?;
    drop(sftp);
    transfer(&gateway, "20261203")
}

fn mutations() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let policy = home.join("policies/acme.toml");
        let text = fs::read_to_string(&policy)?;
        Ok(fs::write(
            policy,
            text.replace("[access]", "[access]\nsessions = 500"),
        )?)
    })?;
    let before = gateway.rss_kib()?;
    let mut random = Random::seeded();
    let seed = random.seed;
    let text = content("20261210");
    let (inbox, handle) = (string(b"/inbox/orders_20261210.csv"), string(&[0, 0, 0, 1]));
    let fields: [(u8, &[&[u8]]); 12] = [
        (raw::OPEN, &[&inbox, &[0, 0, 0, 0x1a], &[0; 4]]),
        (raw::WRITE, &[&handle, &[0; 8], &string(text.as_bytes())]),
        (raw::FSETSTAT, &[&handle, &[0, 0, 0, 8], &[7; 8]]),
        (raw::EXTENDED, &[&string(b"fsync@openssh.com"), &handle]),
        (FSTAT, &[&handle]),
        (raw::CLOSE, &[&handle]),
        (STAT, &[&inbox]),
        (OPENDIR, &[&string(b"/receipts")]),
        (READDIR, &[&string(&[0, 0, 0, 2])]),
        (RENAME, &[&inbox, &string(b"/inbox/orders_20261211.csv")]),
        (raw::READ, &[&string(&[0, 0, 0, 2]), &[0; 8], &[0, 1, 0, 0]]),
        (REMOVE, &[&inbox]),
    ];
    let talk: Vec<Vec<u8>> = (1_u32..)
        .zip(fields)
        .map(|(id, (kind, fields))| {
            string(&[&[kind][..], &id.to_be_bytes(), &fields.concat()].concat())
        })
        .collect();
    for round in 0..300 {
        let mut ssh = RawSsh::logged_in(&gateway)?;
        let channel = ssh.open_channel(0)?;
        ssh.start_sftp(channel)?;
        let mut frames = talk.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(frames.len());
            random.mutate(&mut frames[place]);
        }
        drop(ssh.say(channel, &frames.concat()));
        // One layer further out.
        for _ in 0..random.below(6) {
            let kind = *random.pick(&[20, 21, 80, 82, 90, 91, 93, 94, 95, 96, 97, 98, 100]);
            let what = *random.pick(&[
                &b"session"[..],
                b"pty-req",
                b"exec",
                b"subsystem",
                b"x11-req",
            ]);
            let mut payload = [
                &[kind][..],
                &channel.to_be_bytes(),
                &string(what),
                &[1, 0, 0, 0, 4, b'x', 0, 0, 0],
            ]
            .concat();
            random.mutate(&mut payload);
            drop(ssh.send(&payload));
        }
        drop(ssh.stream.shutdown(Shutdown::Write));
        ssh.expect_end(&format!("seed {seed}, round {round}"))?;
        assert!(
            !harmed(&gateway),
            "seed {seed}, round {round}: {}",
            gateway.log()
        );
        if round % 60 == 59 {
            let day = format!("202612{}", 11 + round / 60);
            transfer(&gateway, &day).map_err(|e| format!("seed {seed}: {e:?}"))?;
        }
    }
    bounded(&gateway, before)
}

fn windows() -> Verdict {
    let gateway = Gateway::start()?;
    let mut ssh = RawSsh::logged_in(&gateway)?;
    let channel = ssh.open_channel(0)?;
    ssh.start_sftp(channel)?;
    for of in [channel, channel, channel, 77, u32::MAX] {
        ssh.send(&[&[preauth::WINDOW_ADJUST][..], &of.to_be_bytes(), &[0xff; 4]].concat())?;
    }
    ssh.put(channel, "20261201")?;
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    let second = ssh.open_channel(1)?;
    let pty = |modes: usize| {
        let modes = [&[1, 0, 0, 0, 3].repeat(modes)[..], &[0]].concat();
        let fields = [&string(b"xterm")[..], &[0; 16], &string(&modes)].concat();
        let head = [&second.to_be_bytes()[..], &string(b"pty-req"), &[1]].concat();
        [&[CHANNEL_REQUEST][..], &head, &fields].concat()
    };
    ssh.send(&pty(130))?;
    let answer = ssh.receive()?.ok_or("the connection ended")?;
    assert_eq!(answer[0], preauth::CHANNEL_FAILURE, "{answer:?}");
    ssh.put(channel, "20261202")?;
    // More than there are ends the connection, and nothing else.
    ssh.send(&pty(200))?;
    assert_eq!(ssh.receive()?, None);
    transfer(&gateway, "20261203")
}

fn channels() -> Verdict {
    let gateway = gateway_with(&[preauth::METRICS])?;
    let before = gateway.rss_kib()?;
    let mut ssh = RawSsh::logged_in(&gateway)?;
    for ours in 0..1_000 {
        ssh.send(&open_request(ours))?;
    }
    let mut open = Vec::new();
    for _ in 0..1_000 {
        let answer = ssh.receive()?.ok_or("the connection ended")?;
        if answer[0] == CHANNEL_OPENED {
            open.push(u32::from_be_bytes(answer[5..9].try_into()?));
        } else {
            assert_eq!(answer[0], preauth::CHANNEL_REFUSED, "{answer:?}");
        }
    }
    assert_eq!(open.len(), 64);
    let counted = "sallyport_limits_reached_total{limit=\"channels\"}";
    preauth::count_is(&gateway, &format!("{counted} {}\n", 1_000 - 64))?;
    for channel in &open {
        ssh.start_sftp(*channel)?;
    }
    ssh.put(open[63], "20261201")?;
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    bounded(&gateway, before)?;
    transfer(&gateway, "20261202")
}

fn commands() -> Verdict {
    let gateway = gateway_with(&[preauth::METRICS])?;
    let before = gateway.rss_kib()?;
    let mut ssh = RawSsh::logged_in(&gateway)?;
    // Wide enough for everything that might be said.
    ssh.send(&preauth::open_request_with(0, u32::MAX))?;
    let opened = ssh.receive()?.ok_or("no channel")?;
    assert_eq!(opened[0], CHANNEL_OPENED, "{opened:?}");
    let channel = &opened[5..9];
    let exec = [&string(b"exec")[..], &[1], &string(b"id")].concat();
    let request = [&[CHANNEL_REQUEST][..], channel, &exec].concat();
    for _ in 0..20_000 {
        ssh.send(&request)?;
    }
    // Nobody answers the keepalives.
    let mut told = 0;
    loop {
        match ssh.receive()?.ok_or("the connection ended")?[0] {
            preauth::CHANNEL_CLOSE => break,
            _ => told += 1,
        }
    }
    assert!(told <= 3, "{told}");
    bounded(&gateway, before)?;
    let again = ssh.open_channel(1)?;
    ssh.start_sftp(again)?;
    ssh.put(again, "20261201")?;
    transfer(&gateway, "20261202")
}

fn waiting() -> Verdict {
    let gateway = gateway_with(&[preauth::METRICS])?;
    let path = string(b"/inbox/orders_20261201.csv");
    let mut first = RawSftp::open(&gateway, &[])?;
    let open = [&path[..], &PUT.to_be_bytes(), &[0; 4]];
    assert_eq!(first.ask(raw::OPEN, &open)?.kind, 102);
    first.signal(rustix::process::Signal::STOP)?;
    let before = gateway.rss_kib()?;
    let mut second = RawSftp::open(&gateway, &[])?;
    let (_, asked) = second.request(raw::OPEN, &open);
    second.send(&asked)?;
    // Each waits for the OPEN before it, and has two paths of nearly 4 KiB.
    let folders = format!("{}/", "f".repeat(250)).repeat(15);
    let long = string(format!("/inbox/{folders}orders_20261201.csv").as_bytes());
    for _ in 0..2_000 {
        let (_, rename) = second.request(RENAME, &[&long, &long]);
        if second.send(&rename).is_err() {
            break;
        }
    }
    let ended = "sallyport_limits_reached_total{limit=\"requests\"} 1\n";
    preauth::count_is(&gateway, ended)?;
    bounded(&gateway, before)?;
    first.signal(rustix::process::Signal::CONT)?;
    transfer(&gateway, "20261202")
}

fn log_lines() -> Verdict {
    let gateway = preauth::patient()?;
    let hostile = [
        "acme\r\n{\"event\":\"session.opened\"}",
        "\u{1b}[2J\u{1b}[1;1H",
        "\u{202e}emca\u{2066}",
        "acme\0\u{7f}\u{9b}2J\u{2028}",
        "\",\"event\":\"session.opened\",\"x\":\"",
    ];
    for user in hostile {
        let mut ssh = RawSsh::secured(&gateway)?;
        let answer = ssh.log_in(&gateway, user)?;
        assert_ne!(answer, Some(USERAUTH_SUCCESS), "{user:?}");
    }
    let mut ssh = RawSsh::greet(&gateway, "SSH-2.0-x\u{1b}[2J\u{202e}\r{\"event\":\"x\"}")?;
    ssh.exchange_keys()?;
    assert_eq!(ssh.log_in(&gateway, "acme")?, Some(USERAUTH_SUCCESS));
    let channel = ssh.open_channel(0)?;
    ssh.start_sftp(channel)?;
    for (id, name) in (1_u8..).zip(hostile) {
        let path = string(format!("/inbox/{name}").as_bytes());
        for (kind, fields) in [
            (raw::OPEN, &[0, 0, 0, 0x1a, 0, 0, 0, 0][..]),
            (REMOVE, &[]),
            (RENAME, &string(b"/inbox/orders_20261201.csv")),
        ] {
            let request = [&[kind, 0, 0, 0, id][..], &path, fields].concat();
            ssh.say(channel, &string(&request))?;
            let reply = ssh.frame()?.ok_or("the channel ended")?;
            let text = preauth::field(&reply[9..])?.0;
            let shown = text.iter().all(|byte| (b' '..=b'~').contains(byte));
            assert!(shown, "{}", String::from_utf8_lossy(text));
        }
    }
    ssh.put(channel, "20261201")?;
    transfer(&gateway, "20261202")?;
    let log = gateway.log();
    let (mut denied, mut opened) = (0, 0);
    for line in log.lines() {
        let event: serde_json::Value =
            serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        let turned = |c: char| {
            c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!line.contains(turned), "{line:?}");
        for (name, value) in event.as_object().ok_or("no object")? {
            // What is several lines of our own is in `block`.
            let text = value.as_str().unwrap_or_default();
            assert!(
                name == "block" || !text.contains(turned),
                "{name} in {line}"
            );
        }
        denied += usize::from(event["event"] == "session.denied");
        opened += usize::from(event["event"] == "session.opened");
    }
    assert_eq!(
        (denied, opened),
        (hostile.len(), 2),
        "one event, one line: {log}"
    );
    assert!(log.contains("u{202e}") && log.contains("u{1b}[2J"), "{log}");
    Ok(())
}

fn injections() -> Verdict {
    let gateway = preauth::patient()?;
    transfer(&gateway, "20261201")?;
    let audited = gateway.cli(&["audit", "verify"])?.expect_code(0)?.stdout;
    let hostile = [
        "' OR 1=1 --",
        "acme' --",
        "acme\" OR \"\"=\"",
        "x'; DROP TABLE submissions; --",
        "%",
        "orders_2026120_.csv",
    ];
    for text in hostile {
        let mut stranger = RawSsh::secured(&gateway)?;
        assert_ne!(
            stranger.log_in(&gateway, text)?,
            Some(USERAUTH_SUCCESS),
            "{text}"
        );
        for args in [
            &["submission", "show", text][..],
            &["key", "list", text],
            &["submission", "list", "--partner", text],
        ] {
            let ran = gateway.cli(args)?;
            assert!(!ran.stdout.contains("orders_"), "{args:?}: {ran:?}");
            assert!(
                !ran.stderr.to_lowercase().contains("syntax"),
                "{args:?}: {ran:?}"
            );
        }
    }
    let mut ssh = RawSsh::logged_in(&gateway)?;
    let channel = ssh.open_channel(0)?;
    ssh.start_sftp(channel)?;
    for text in hostile {
        let path = string(format!("/inbox/{text}").as_bytes());
        for (kind, fields) in [
            (raw::OPEN, &[0, 0, 0, 0x1a, 0, 0, 0, 0][..]),
            (STAT, &[]),
            (REMOVE, &[]),
        ] {
            let request = [&[kind, 0, 0, 0, 1][..], &path, fields].concat();
            ssh.say(channel, &string(&request))?;
            let reply = ssh.frame()?.ok_or("the channel ended")?;
            assert_eq!(reply[0], 101, "{text}");
            assert_ne!(reply[5..9], [0; 4], "{text}");
        }
    }
    assert_eq!(gateway.submissions()?.len(), 1);
    let verified = gateway.cli(&["audit", "verify"])?.expect_code(0)?.stdout;
    assert_eq!(verified, audited, "the audit has grown");
    ssh.put(channel, "20261202")?;
    gateway.wait_state("orders_20261202.csv", "delivered")?;
    transfer(&gateway, "20261203")
}

/// A field: `posix-rename@openssh.com`.
const POSIX_RENAME: &[u8] = b"\0\0\0\x18posix-rename@openssh.com";

/// Every request that takes a path; those with two also with a good one.
fn every_request<'a>(path: &'a [u8], good: &'a [u8]) -> [(u8, Vec<&'a [u8]>); 21] {
    const NONE: &[u8] = &[0; 4];
    [
        (raw::OPEN, vec![path, &[0, 0, 0, 1], NONE]),
        (raw::OPEN, vec![path, &[0, 0, 0, 0x1a], NONE]),
        (LSTAT, vec![path]),
        (SETSTAT, vec![path, NONE]),
        (OPENDIR, vec![path]),
        (REMOVE, vec![path]),
        (MKDIR, vec![path, NONE]),
        (RMDIR, vec![path]),
        (REALPATH, vec![path]),
        (STAT, vec![path]),
        (RENAME, vec![path, good]),
        (RENAME, vec![good, path]),
        (READLINK, vec![path]),
        (SYMLINK, vec![path, good]),
        (SYMLINK, vec![good, path]),
        (raw::EXTENDED, vec![POSIX_RENAME, path, good]),
        (raw::EXTENDED, vec![POSIX_RENAME, good, path]),
        (
            raw::EXTENDED,
            vec![b"\0\0\0\x14lsetstat@openssh.com", path, NONE],
        ),
        (
            raw::EXTENDED,
            vec![b"\0\0\0\x17expand-path@openssh.com", path],
        ),
        (
            raw::EXTENDED,
            vec![b"\0\0\0\x14hardlink@openssh.com", good, path],
        ),
        (raw::EXTENDED, vec![b"\0\0\0\x13statvfs@openssh.com", path]),
    ]
}

fn seldom() -> Verdict {
    const NONE: &[u8] = &[0; 4];
    const EXCL: u32 = 0x20;
    const EXTENDED_REPLY: u8 = 201;
    const UNSUPPORTED: u32 = 8;
    let gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    put(&mut sftp, "20261101")?;
    let file = string(b"/inbox/orders_20261101.csv");
    let holds = |reply: &Reply, path: &[u8]| {
        let name = string(path);
        assert_eq!(reply.kind, NAME, "{reply:?}");
        assert_eq!(reply.body.get(4..4 + name.len()), Some(&*name), "{reply:?}");
    };
    let home = [&string(b"home-directory")[..], &string(b"acme")].concat();
    holds(&sftp.ask(raw::EXTENDED, &[&home])?, b"/");
    let expand = string(b"expand-path@openssh.com");
    for path in ["~/inbox", "inbox", "/inbox/../inbox"] {
        let told = sftp.ask(raw::EXTENDED, &[&expand, &string(path.as_bytes())])?;
        holds(&told, b"/inbox");
    }
    let set = string(b"lsetstat@openssh.com");
    let told = sftp.ask(raw::EXTENDED, &[&set, &file, NONE])?;
    assert_eq!(told.status()?, 0, "{told:?}");
    let told = sftp.ask(raw::EXTENDED, &[&string(b"limits@openssh.com")])?;
    assert_eq!(
        (told.kind, told.body.len()),
        (EXTENDED_REPLY, 32),
        "{told:?}"
    );
    let open = sftp.open_file("/inbox/orders_20261102.csv", PUT)?;
    let told = sftp.ask(raw::EXTENDED, &[&string(b"fstatvfs@openssh.com"), &open])?;
    assert_eq!(
        (told.kind, told.body.len()),
        (EXTENDED_REPLY, 88),
        "{told:?}"
    );
    // Bytes behind a request that is whole are no reason to refuse it.
    let told = sftp.ask(STAT, &[&file, b"surplus"])?;
    assert_eq!(told.kind, 105, "{told:?}");
    for (kind, field) in [
        (raw::EXTENDED, string(b"copy-data")),
        (raw::EXTENDED, string(b"nobody@example.org")),
        (99, Vec::new()),
    ] {
        let told = sftp.ask(kind, &[&field])?;
        assert_eq!(told.status()?, UNSUPPORTED, "{told:?}");
    }
    // Links, and a digest of what is open, by name.
    let hardlink = string(b"hardlink@openssh.com");
    let by_handle = [&string(b"check-file-handle")[..], &open, &string(b"sha256")].concat();
    for (kind, fields, says) in [
        (
            SYMLINK,
            [&file[..], &file].concat(),
            "symlink is not available",
        ),
        (
            raw::EXTENDED,
            [&hardlink[..], &file, &file].concat(),
            "hardlink@openssh.com is not",
        ),
        (
            raw::EXTENDED,
            [&by_handle[..], &[0; 20]].concat(),
            "of a whole file, by its name",
        ),
    ] {
        let told = sftp.ask(kind, &[&fields])?;
        assert_eq!(told.status()?, UNSUPPORTED, "{told:?}");
        let text = String::from_utf8_lossy(&told.body);
        assert!(text.contains(says), "{text}");
    }
    for line in [
        "ln inbox/orders_20261101.csv inbox/x",
        "ln -s inbox inbox/x",
    ] {
        let ran = gateway.sftp(&format!("{line}\n"))?.expect_code(1)?;
        assert!(ran.stderr.to_lowercase().contains("support"), "{ran:?}");
    }
    let flags = (PUT | EXCL).to_be_bytes();
    let told = sftp.ask(raw::OPEN, &[&file, &flags, NONE])?;
    says(&told, "exists already")?;
    put(&mut sftp, "20261103")
}

/// A good file on this very channel.
fn put(sftp: &mut RawSftp, day: &str) -> Verdict {
    let handle = sftp.open_file(&format!("/inbox/orders_{day}.csv"), PUT)?;
    let text = string(content(day).as_bytes());
    let written = sftp.ask(raw::WRITE, &[&handle, &[0; 8], &text])?;
    assert_eq!(written.status()?, 0, "{written:?}");
    let closed = sftp.ask(raw::CLOSE, &[&handle])?;
    assert_eq!(
        closed.status()?,
        0,
        "{}",
        String::from_utf8_lossy(&closed.body)
    );
    Ok(())
}

/// The reply is a failure with this text.
fn says(reply: &Reply, text: &str) -> Verdict {
    assert_eq!(reply.status()?, 4, "{reply:?}");
    let told = String::from_utf8_lossy(&reply.body);
    assert!(told.contains(text), "{told}");
    Ok(())
}

/// Every file of the gateway that only the organisation changes, and what was delivered.
fn everything(gateway: &Gateway) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failed> {
    let state = gateway.home().join("state");
    files_below(&gateway.home())?
        .into_iter()
        .filter(|path| !path.starts_with(&state))
        .map(|path| Ok((path.clone(), fs::read(&path)?)))
        .collect()
}
