//! What the internet sends before anybody has logged in: bytes by hand over plain TCP, a transport
//! of our own that can say what no client says, and the real client where it is turned away.
//! After each of them a partner logs in and delivers a file.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, X25519};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use ring::signature::KeyPair as _;
use russh::keys::load_secret_key;
use russh::keys::ssh_key::private::KeypairData;
use sallyport::ssh::client::{Client, Login};

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Failed, Gateway, Verdict, keygen, orders_with, run};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "garbage, lines before the version and endless versions are cut off, and a partner still gets in",
        Needs::Nothing,
        garbage,
    ),
    (
        "SSH packets that claim up to 4 GiB, before and after the key exchange, are cut off and cost no memory",
        Needs::Nothing,
        claimed_lengths,
    ),
    (
        "a key exchange with no point, a short one or one of zeros ends its connection and nothing else",
        Needs::Nothing,
        bad_points,
    ),
    (
        "strict key exchange is always offered and nothing with SHA-1, CBC or compression is",
        Needs::Nothing,
        offered,
    ),
    (
        "who can do AES-GCM is steered to it, who cannot or wants another cipher gets that, and who waits for our offer gets all",
        Needs::OpenSsh,
        steered,
    ),
    (
        "encrypt-then-MAC, every cipher and every key exchange offered carry a file",
        Needs::OpenSsh,
        every_algorithm,
    ),
    (
        "a hardware key of type sk-ssh-ed25519 logs in, and not with another counter than it signed",
        Needs::Nothing,
        hardware_key,
    ),
    (
        "a client that says SUCCESS itself, or asks for channels before login, gets nothing by it",
        Needs::Nothing,
        bypasses,
    ),
    (
        "missing, empty, foreign and replayed signatures open nothing",
        Needs::Nothing,
        signatures,
    ),
    (
        "random mutations of what comes before login break nothing",
        Needs::Nothing,
        mutations,
    ),
    (
        "after three failed logins in a row a source is turned away at the door, and another one is not",
        Needs::OpenSsh,
        penalties,
    ),
    (
        "one source has its places without login and no more, and they come back",
        Needs::OpenSsh,
        places,
    ),
    (
        "when half of the places without login are taken, newcomers are dropped at random, and never all",
        Needs::Nothing,
        dropped_early,
    ),
    (
        "connections that are mute, drip or stop half way end with the grace time, and a session does not",
        Needs::OpenSsh,
        grace,
    ),
    (
        "a flood of a mebibyte before login ends the connection",
        Needs::Nothing,
        flood,
    ),
    (
        "a PROXY header of either version says where a partner is, from listed peers only and always from them",
        Needs::OpenSsh,
        proxied,
    ),
    (
        "old algorithms are spoken with the partner's network until its day and with nobody else",
        Needs::OpenSsh,
        legacy,
    ),
];

/// A hang would block the suite; an answer comes at once.
const ANSWER: Duration = Duration::from_mins(1);
type Sign<'s> = &'s dyn Fn(&[u8]) -> Vec<u8>;

/// SSH message numbers (RFC 4250 section 4.1.2).
const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const SERVICE_REQUEST: u8 = 5;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const ECDH_INIT: u8 = 30;
const USERAUTH_REQUEST: u8 = 50;
const USERAUTH_FAILURE: u8 = 51;
pub(crate) const USERAUTH_SUCCESS: u8 = 52;
const USERAUTH_BANNER: u8 = 53;
const GLOBAL_REQUEST: u8 = 80;
const CHANNEL_OPEN: u8 = 90;
pub(crate) const CHANNEL_OPENED: u8 = 91;
pub(crate) const WINDOW_ADJUST: u8 = 93;
const DATA: u8 = 94;
const EXTENDED_DATA: u8 = 95;
const EOF: u8 = 96;
pub(crate) const CHANNEL_CLOSE: u8 = 97;
pub(crate) const CHANNEL_REQUEST: u8 = 98;
pub(crate) const CHANNEL_REFUSED: u8 = 92;
const CHANNEL_SUCCESS: u8 = 99;
pub(crate) const CHANNEL_FAILURE: u8 = 100;

/// What is said to who has to stay outside.
const NOT_NOW: &str = "Not allowed at this time\r\n";
const WIDE: (&str, &str) = (
    "#limits = { unauthenticated_per_source = 5",
    "limits = { unauthenticated_per_source = 80",
);
pub(crate) const EXEMPT: (&str, &str) =
    ("#penalty_exempt = []", "penalty_exempt = [\"127.0.0.0/8\"]");
pub(crate) const METRICS: (&str, &str) =
    ("#listen = \"127.0.0.1:9464\"", "listen = \"127.0.0.1:0\"");

fn garbage() -> Verdict {
    let gateway = patient()?;
    let mut random = Random::seeded();
    let seed = random.seed;
    let noise: Vec<u8> = (0..60_000).map(|_| random.byte()).collect();
    let lines = b"a line before the version\r\n".repeat(1_000);
    for (what, bytes) in [
        ("noise", &noise[..]),
        ("a web browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"),
        ("an empty line", b"\r\nSSH-2.0-late\r\n"),
        (
            "a thousand lines",
            &[&lines[..], b"SSH-2.0-late\r\n"].concat(),
        ),
        ("a mebibyte of one line", &vec![b'A'; 1 << 20]),
        (
            "an endless version",
            &[&b"SSH-2.0-"[..], &[b'A'; 5_000]].concat(),
        ),
        ("an old version", b"SSH-1.5-old\r\n"),
        ("a version in Latin-1", b"SSH-2.0-\xe4\xf6\xfc\r\n"),
        ("zeros", &[0; 4_096]),
    ] {
        let mut stream = dial(&gateway)?;
        // It may be cut off before it has taken everything.
        drop(stream.write_all(bytes));
        let said = until_its_end(&mut stream).map_err(|e| format!("{what}, seed {seed}: {e:?}"))?;
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.is_empty() || said.starts_with("SSH-2.0-sallyport_") && said.lines().count() == 1,
            "{what}, seed {seed}: {said:?}"
        );
    }
    cut_at_once(&gateway);
    transfer(&gateway, "20261201")
}

fn claimed_lengths() -> Verdict {
    let gateway = patient()?;
    transfer(&gateway, "20261201")?;
    let before = gateway.rss_kib()?;
    for length in [
        0,
        1 << 31,
        u32::MAX,
        u32::MAX - 3,
        16 << 20,
        (256 << 10) + 64,
    ] {
        let mut clear = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
        clear.send_bytes(&[&length.to_be_bytes()[..], &[6; 60]].concat());
        clear.expect_end(&format!("{length} before the key exchange"))?;
        let mut secret = RawSsh::secured(&gateway)?;
        secret.send_bytes(&[&length.to_be_bytes()[..], &[6; 60]].concat());
        secret.expect_end(&format!("{length} after the key exchange"))?;
    }
    cut_at_once(&gateway);
    // The longest that are taken: they hold what arrived and no more than they may.
    let held = (0..40)
        .map(|_| {
            let mut open = RawSsh::secured(&gateway)?;
            open.send_bytes(&((256_u32 << 10) + 1).to_be_bytes());
            Ok(open)
        })
        .collect::<Result<Vec<_>, Failed>>()?;
    transfer(&gateway, "20261202")?;
    bounded(&gateway, before)?;
    drop(held);
    transfer(&gateway, "20261203")
}

fn bad_points() -> Verdict {
    let gateway = patient()?;
    for point in [&[][..], &[0; 31], &[0; 32], &[0xff; 33], &[0; 9_000]] {
        let mut ssh = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
        ssh.send(&kexinit())?;
        ssh.send(&[&[ECDH_INIT][..], &string(point)].concat())?;
        ssh.expect_end(&format!("a point of {} bytes", point.len()))?;
    }
    cut_at_once(&gateway);
    transfer(&gateway, "20261201")
}

fn offered() -> Verdict {
    let gateway = patient()?;
    let mut ssh = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
    let theirs = ssh.receive()?.ok_or("no KEXINIT")?;
    let text = String::from_utf8_lossy(&theirs).into_owned();
    assert!(text.contains("kex-strict-s-v00@openssh.com"), "{text}");
    for weak in [
        "sha1", "-cbc", "ssh-rsa", "zlib", "arcfour", "ssh-dss", "md5",
    ] {
        assert!(!text.contains(weak), "{weak} is offered: {text}");
    }
    drop(ssh);
    transfer(&gateway, "20261201")
}

fn steered() -> Verdict {
    let gateway = patient()?;
    let agreed = |name: &str, options: &[&str], cipher: &str| -> Verdict {
        let local = gateway.local(name, content(name))?;
        let put = format!("put {} inbox/orders_{name}.csv\n", local.display());
        let options = [&["-v"], options].concat();
        run(&mut gateway.sftp_command("acme", &gateway.acme_key(), &put, &options)?)?
            .expect_code(0)?
            .expect_stderr(&format!("kex: client->server cipher: {cipher}"))?
            .expect_stderr(&format!("kex: server->client cipher: {cipher}"))?;
        gateway.wait_state(&format!("orders_{name}.csv"), "delivered")
    };
    // As OpenSSH's clients before 10 list them.
    let stock = "Ciphers=chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com";
    let steers = fs::read_to_string("/proc/cpuinfo")?.contains(" aes");
    let first = if steers {
        "aes256-gcm@openssh.com"
    } else {
        "chacha20-poly1305@openssh.com"
    };
    agreed("20261202", &["-o", stock], first)?;
    for (name, only) in [
        ("20261203", "chacha20-poly1305@openssh.com"),
        ("20261204", "aes192-ctr"),
    ] {
        agreed(name, &["-o", &format!("Ciphers={only}")], only)?;
    }
    let mut waiting = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
    let theirs = waiting.receive()?.ok_or("no KEXINIT")?;
    let text = String::from_utf8_lossy(&theirs);
    for cipher in [
        "aes128-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
    ] {
        assert!(text.contains(cipher), "{cipher} is not offered: {text}");
    }
    // Bytes that come one by one are an offer as well.
    let mut slow = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
    slow.stream.set_nodelay(true)?;
    for byte in RawSsh::clear_packet(&kexinit())? {
        slow.stream.write_all(&[byte])?;
    }
    let theirs = slow.receive()?.ok_or("no KEXINIT")?;
    let text = String::from_utf8_lossy(&theirs);
    assert_eq!(text.contains("chacha20"), !steers, "{text}");
    drop((waiting, slow));
    transfer(&gateway, "20261201")
}

fn every_algorithm() -> Verdict {
    let gateway = patient()?;
    let mut ssh = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
    let theirs = ssh.receive()?.ok_or("no KEXINIT")?;
    // Type and cookie, then the lists.
    let mut rest = &theirs[17..];
    let mut lists = Vec::new();
    for _ in 0..6 {
        let (list, behind) = field(rest)?;
        let names: Vec<String> = String::from_utf8_lossy(list)
            .split(',')
            .map(str::to_owned)
            .collect();
        lists.push(names);
        rest = behind;
    }
    let query = |what: &str| -> Result<String, Failed> {
        Ok(run(Command::new("ssh").args(["-Q", what]))?.stdout)
    };
    let mut day = 20_261_210;
    let mut carried = |options: &[&str]| -> Verdict {
        day += 1;
        let name = day.to_string();
        let local = gateway.local(&name, content(&name))?;
        let put = format!("put {} inbox/orders_{name}.csv\n", local.display());
        run(&mut gateway.sftp_command("acme", &gateway.acme_key(), &put, options)?)?
            .expect_code(0)?;
        gateway.wait_state(&format!("orders_{name}.csv"), "delivered")
    };
    let mut driven = Vec::new();
    for (what, option, list) in [
        ("kex", "KexAlgorithms", &lists[0]),
        ("cipher", "Ciphers", &lists[2]),
        ("mac", "MACs", &lists[4]),
    ] {
        let known = query(what)?;
        for name in list
            .iter()
            .filter(|name| known.lines().any(|one| one == *name))
        {
            let only = format!("{option}={name}");
            // With AES-GCM no MAC is negotiated.
            let mut options = vec!["-o", &only];
            if what == "mac" {
                options.extend(["-o", "Ciphers=aes256-ctr"]);
            }
            carried(&options)?;
            driven.push(name.clone());
        }
    }
    for name in [
        "curve25519-sha256",
        "chacha20-poly1305@openssh.com",
        "aes256-gcm@openssh.com",
        "aes256-ctr",
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
    ] {
        assert!(driven.iter().any(|one| one == name), "{name}: {driven:?}");
    }
    assert!(lists[0].iter().any(|name| name == "mlkem768x25519-sha256"));
    assert!(!harmed(&gateway), "{}", gateway.log());
    Ok(())
}

/// `sk-ssh-ed25519@openssh.com` (OpenSSH `PROTOCOL.u2f`): what is signed is the application's digest,
/// flags, a counter and the digest of the message.
fn hardware_key() -> Verdict {
    const KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
    const APPLICATION: &[u8] = b"ssh:";
    let key = Key::of(&[9; 32])?;
    let public = [
        string(KIND),
        string(key.0.public_key().as_ref()),
        string(APPLICATION),
    ]
    .concat();
    let gateway = Gateway::start_with(|home| {
        configure(home, &[EXEMPT, WIDE])?;
        let file = home.join("partners/acme.pub");
        let known = fs::read_to_string(&file)?;
        let line = format!(
            "{} {} token",
            String::from_utf8_lossy(KIND),
            base64(&public)
        );
        Ok(fs::write(file, format!("{known}{line}\n"))?)
    })?;
    let attempt = |signs: u32, says: u32| -> Result<RawSsh, Failed> {
        let mut ssh = RawSsh::secured(&gateway)?;
        ssh.ask_to_log_in()?;
        let fields = [&[1][..], &string(KIND), &string(&public)].concat();
        let claim = auth_request("acme", b"publickey", &fields);
        let message = [&string(&ssh.session)[..], &claim].concat();
        let signed = [
            digest(&SHA256, APPLICATION).as_ref(),
            &[1],
            &signs.to_be_bytes(),
            digest(&SHA256, &message).as_ref(),
        ]
        .concat();
        let signature = key.0.sign(&signed);
        let blob = [
            &string(KIND)[..],
            &string(signature.as_ref()),
            &[1],
            &says.to_be_bytes(),
        ]
        .concat();
        ssh.send(&[&claim[..], &string(&blob)].concat())?;
        Ok(ssh)
    };
    let mut ssh = attempt(7, 7)?;
    let answer = ssh.receive()?.ok_or("cut off")?;
    assert_eq!(answer[0], USERAUTH_SUCCESS, "{}", gateway.log());
    let channel = ssh.open_channel(0)?;
    ssh.start_sftp(channel)?;
    ssh.put(channel, "20261201")?;
    let answer = attempt(8, 9)?.receive()?.ok_or("cut off")?;
    assert_eq!(answer[0], USERAUTH_FAILURE, "the counter is not signed");
    transfer(&gateway, "20261202")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(char::from(DIGITS[bits >> (18 - 6 * place) & 63]));
        }
        text.extend(std::iter::repeat_n('=', 3 - group.len()));
    }
    text
}

fn bypasses() -> Verdict {
    let gateway = patient()?;
    let forward = [
        &[GLOBAL_REQUEST][..],
        &string(b"tcpip-forward"),
        &[1],
        &string(b"127.0.0.1"),
        &[0; 4],
    ]
    .concat();
    let sftp = [
        &[CHANNEL_REQUEST][..],
        &[0; 4],
        &string(b"subsystem"),
        &[1],
        &string(b"sftp"),
    ]
    .concat();
    let connection = [&[SERVICE_REQUEST][..], &string(b"ssh-connection")].concat();
    for (what, payload) in [
        ("USERAUTH_SUCCESS", vec![USERAUTH_SUCCESS]),
        ("a channel", open_request(0)),
        ("a global request", forward),
        ("a request on a channel", sftp),
        (
            "data on a channel",
            [&[DATA][..], &[0; 4], &string(b"x")].concat(),
        ),
        ("the service behind login", connection),
    ] {
        for after_service in [false, true] {
            let mut ssh = RawSsh::secured(&gateway)?;
            if after_service {
                ssh.ask_to_log_in()?;
            }
            ssh.send(&payload)?;
            ssh.send(&open_request(1))?;
            if !after_service && ssh.ask_to_log_in().is_err() {
                continue;
            }
            // Whatever was said is worth nothing: who it is still has to be proven.
            ssh.send(&auth_request("acme", b"none", &[]))?;
            match ssh.receive()? {
                None => continue,
                Some(answer) => assert_eq!(answer.first(), Some(&USERAUTH_FAILURE), "{what}"),
            }
            let key = Key::acme(&gateway)?;
            ssh.send(
                &[
                    key.claim("acme"),
                    key.sign(&key.claim("acme"), &ssh.session),
                ]
                .concat(),
            )?;
            let answer = ssh.receive()?.ok_or("a good login was cut off")?;
            assert_eq!(answer.first(), Some(&USERAUTH_SUCCESS), "{what}");
            let channel = ssh.open_channel(0)?;
            ssh.start_sftp(channel)?;
        }
    }
    assert!(gateway.log().contains("session.opened"));
    cut_at_once(&gateway);
    transfer(&gateway, "20261201")
}

fn signatures() -> Verdict {
    let gateway = patient()?;
    let key = Key::acme(&gateway)?;
    let stranger = Key::of(&[7; 32])?;
    let claim = key.claim("acme");
    let mut first = RawSsh::secured(&gateway)?;
    first.ask_to_log_in()?;
    let replayed = key.sign(&claim, &first.session);
    first.send(&[&claim[..], &replayed].concat())?;
    assert_eq!(first.receive()?.ok_or("cut off")?[0], USERAUTH_SUCCESS);
    let blob = |kind: &[u8], bytes: &[u8]| string(&[string(kind), string(bytes)].concat());
    let attempts: [(&str, Sign<'_>); 8] = [
        ("no signature", &|_| Vec::new()),
        ("an empty one", &|_| string(&[])),
        ("one without bytes", &|_| blob(b"ssh-ed25519", &[])),
        ("one of zeros", &|_| blob(b"ssh-ed25519", &[0; 64])),
        ("one of no kind", &|_| blob(b"none", &[])),
        ("a replayed one", &|_| replayed.clone()),
        ("one for somebody else", &|session| {
            key.sign(&key.claim("globex"), session)
        }),
        ("one by somebody else", &|session| {
            stranger.sign(&claim, session)
        }),
    ];
    for (what, sign) in attempts {
        let mut ssh = RawSsh::secured(&gateway)?;
        ssh.ask_to_log_in()?;
        ssh.send(&[&claim[..], &sign(&ssh.session)].concat())?;
        if let Some(answer) = ssh.receive()? {
            assert_eq!(answer.first(), Some(&USERAUTH_FAILURE), "{what}");
            ssh.send(&open_request(0))?;
            ssh.stream.shutdown(Shutdown::Write)?;
            assert_eq!(ssh.receive()?, None, "{what}: an answer without a login");
        }
    }
    cut_at_once(&gateway);
    transfer(&gateway, "20261201")
}

fn mutations() -> Verdict {
    let gateway = patient()?;
    let key = Key::acme(&gateway)?;
    let mut random = Random::seeded();
    let seed = random.seed;
    let claim = key.claim("acme");
    let good = [
        kexinit(),
        [&[ECDH_INIT][..], &string(&[9; 32])].concat(),
        vec![NEWKEYS],
        [&[SERVICE_REQUEST][..], &string(b"ssh-userauth")].concat(),
        auth_request("acme", b"none", &[]),
        auth_request("acme", b"password", &[&[0][..], &string(b"x")].concat()),
        auth_request("acme", b"keyboard-interactive", &[0; 8]),
        [&claim[..], &key.sign(&claim, &[0; 32])].concat(),
        vec![61, 0, 0, 0, 1, 0, 0, 0, 0],
        open_request(0),
    ];
    for round in 0..3 {
        // Side by side, because refused logins are answered late on purpose.
        let mut open = Vec::new();
        for place in 0..20 {
            let secret = place % 4 != 0;
            let mut ssh = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
            if secret {
                ssh.exchange_keys()?;
            }
            if secret && place % 2 == 0 {
                ssh.ask_to_log_in()?;
            }
            for _ in 0..3 {
                let mut payload = random.pick(&good).clone();
                random.mutate(&mut payload);
                // It may have been cut off by what went before.
                drop(ssh.send(&payload));
            }
            drop(ssh.stream.shutdown(Shutdown::Write));
            open.push(ssh);
        }
        for mut ssh in open {
            until_its_end(&mut ssh.stream)
                .map_err(|e| format!("seed {seed}, round {round}: {e:?}"))?;
        }
        assert!(
            !harmed(&gateway),
            "seed {seed}, round {round}: {}",
            gateway.log()
        );
    }
    transfer(&gateway, "20261201")
}

fn penalties() -> Verdict {
    let gateway = gateway_with(&[METRICS])?;
    let stranger = gateway.scratch().join("stranger");
    keygen(&stranger)?;
    for _ in 0..3 {
        gateway
            .sftp_as("acme", &stranger, "ls\n")?
            .expect_code(255)?;
    }
    let denied = "sallyport_auth_attempts_total{method=\"publickey\",result=\"denied\"} 3\n";
    count_is(&gateway, denied)?;
    // A penalty is noted when its connection has ended.
    let ended = "sallyport_ssh_connections_total{result=\"handshake_failed\"} 3\n";
    count_is(&gateway, ended)?;
    let count = |n| format!("sallyport_ssh_connections_total{{result=\"refused_penalty\"}} {n}\n");
    count_is(&gateway, &count(0))?;
    for refused in 1..=20 {
        let said = until_its_end(&mut dial(&gateway)?)?;
        assert_eq!(
            String::from_utf8_lossy(&said),
            NOT_NOW,
            "connection {refused}\n{}",
            gateway.log()
        );
        count_is(&gateway, &count(refused))?;
    }
    // The right key does not help.
    let file = gateway.local("x.csv", content("20261201"))?;
    let put = format!("put {} inbox/orders_20261201.csv\n", file.display());
    gateway.sftp(&put)?.expect_code(255)?;
    let elsewhere = ["-o", "BindAddress=127.0.0.2"];
    run(&mut gateway.sftp_command("acme", &gateway.acme_key(), &put, &elsewhere)?)?
        .expect_code(0)?;
    gateway.wait_state("orders_20261201.csv", "delivered")
}

fn places() -> Verdict {
    let two = (WIDE.0, "limits = { unauthenticated_per_source = 2");
    let gateway = gateway_with(&[EXEMPT, METRICS, two])?;
    let mut taken = [
        RawSsh::greet(&gateway, "SSH-2.0-one")?,
        RawSsh::secured(&gateway)?,
    ];
    for _ in 0..200 {
        let said = until_its_end(&mut dial(&gateway)?)?;
        assert_eq!(String::from_utf8_lossy(&said), NOT_NOW);
    }
    let refused = "sallyport_ssh_connections_total{result=\"refused_limit\"} 200\n";
    count_is(&gateway, refused)?;
    let elsewhere = ["-o", "BindAddress=127.0.0.2"];
    let key = gateway.acme_key();
    run(&mut gateway.sftp_command("acme", &key, "ls\n", &elsewhere)?)?.expect_code(0)?;
    // A login gives its place back, and keeps its connection.
    let [_, second] = &mut taken;
    assert_eq!(second.log_in(&gateway, "acme")?, Some(USERAUTH_SUCCESS));
    gateway.sftp("ls\n")?.expect_code(0)?;
    let channel = second.open_channel(0)?;
    second.start_sftp(channel)?;
    second.put(channel, "20261201")?;
    transfer(&gateway, "20261202")
}

fn dropped_early() -> Verdict {
    let places = 20;
    let limits = (
        "#limits = { unauthenticated_per_source = 5, unauthenticated = 200",
        "limits = { unauthenticated_per_source = 1, unauthenticated = 20",
    );
    let gateway = gateway_with(&[EXEMPT, METRICS, limits])?;
    let mut inside = Vec::new();
    let mut dropped_at = Vec::new();
    for source in 10..200 {
        let mut stream = dial_from(&gateway, Ipv4Addr::new(127, 0, 0, source))?;
        let mut first = [0; 3];
        stream.read_exact(&mut first)?;
        if &first == b"SSH" {
            inside.push(stream);
        } else {
            assert_eq!(&first, b"Not");
            dropped_at.push(inside.len());
        }
    }
    assert!(inside.len() <= places, "{} are inside", inside.len());
    // Nobody while places are plenty; some, but not all, while they grow scarce.
    assert!(dropped_at.iter().all(|taken| *taken >= places / 2));
    assert!(inside.len() > places / 2);
    // Ten newcomers in a row that all get in: once in a million.
    assert!(dropped_at.iter().any(|taken| *taken < places));
    assert!(gateway.log().contains("this one was dropped at random"));
    let early = dropped_at.iter().filter(|taken| **taken < places).count();
    let counted = "sallyport_ssh_connections_total{result=\"refused_early\"}";
    count_is(&gateway, &format!("{counted} {early}\n"))?;
    drop(inside);
    gateway.wait_until("places again", || {
        let mut stream = dial_from(&gateway, Ipv4Addr::new(127, 0, 0, 9))?;
        let mut first = [0; 3];
        stream.read_exact(&mut first)?;
        Ok(&first == b"SSH")
    })?;
    transfer(&gateway, "20261201")
}

fn grace() -> Verdict {
    let second = ("#login_grace = \"20s\"", "login_grace = \"1s\"");
    let gateway = gateway_with(&[EXEMPT, METRICS, second])?;
    let mut session = RawSftp::open(&gateway, &[])?;
    let mut mute = dial(&gateway)?;
    let mut dripping = dial(&gateway)?;
    let mut half_a_key = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
    half_a_key.send(&kexinit())?;
    let mut undecided = RawSsh::secured(&gateway)?;
    undecided.ask_to_log_in()?;
    dripping.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut version = b"SSH-2.0-".iter().chain(std::iter::repeat(&b'x')).take(200);
    let cut = version.any(|byte| {
        let gone = dripping.write_all(&[*byte]).is_err();
        let heard = dripping.read(&mut [0; 512]);
        gone || !heard.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
            && matches!(dripping.peek(&mut [0]), Ok(0))
    });
    assert!(cut, "it may drip for ever");
    until_its_end(&mut mute)?;
    half_a_key.expect_end("a connection in the middle of its key exchange")?;
    undecided.expect_end("a connection that has not said who it is")?;
    let reached = "sallyport_limits_reached_total{limit=\"login_grace\"} 4\n";
    count_is(&gateway, reached)?;
    let handle = session.open_file("/inbox/orders_20261201.csv", 0x1a)?;
    let whole = string(content("20261201").as_bytes());
    let written = session.ask(raw::WRITE, &[&handle, &[0; 8], &whole])?;
    assert_eq!(written.status()?, 0, "{written:?}");
    let closed = session.ask(raw::CLOSE, &[&handle])?;
    assert_eq!(closed.status()?, 0, "{closed:?}");
    transfer(&gateway, "20261202")
}

fn flood() -> Verdict {
    let gateway = gateway_with(&[EXEMPT, METRICS, WIDE])?;
    let before = gateway.rss_kib()?;
    let ignored = [&[IGNORE][..], &string(&vec![0; 30_000])].concat();
    for (ended, secret) in [false, true, true].into_iter().enumerate() {
        let mut ssh = RawSsh::greet(&gateway, "SSH-2.0-raw")?;
        if secret {
            ssh.exchange_keys()?;
        }
        if ended == 2 {
            ssh.ask_to_log_in()?;
        }
        // 30 MB in all; it fails when the gateway has had enough.
        let gave_up = (0..1_000).any(|_| ssh.send(&ignored).is_err());
        assert!(gave_up, "30 MB were taken before login");
        ssh.expect_end("a flood")?;
        let reached = "sallyport_limits_reached_total{limit=\"handshake_bytes\"}";
        count_is(&gateway, &format!("{reached} {}\n", ended + 1))?;
        let told = gateway
            .log()
            .matches("more than 1 MiB before login")
            .count();
        assert_eq!(told, ended + 1, "{}", gateway.log());
    }
    bounded(&gateway, before)?;
    transfer(&gateway, "20261201")
}

fn proxied() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let listed = (
            "#proxy_protocol_from = []",
            "proxy_protocol_from = [\"127.0.0.1/32\"]",
        );
        configure(home, &[WIDE, listed])?;
        Gateway::add_partner(home, "globex")?;
        let public = fs::read_to_string(home.join("globex_key.pub"))?;
        let bound = format!("from=\"203.0.113.7\" {public}");
        Ok(fs::write(home.join("partners/globex.pub"), bound)?)
    })?;
    let key = gateway.home().join("globex_key");
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", gateway.port());
    let through = |header: &[u8], file: &str| {
        let port = format!("Port={}", relay(&gateway, header.to_vec())?);
        let options = ["-o", &port, "-o", &alias];
        let local = gateway.local(file, content(file))?;
        let put = format!("put {} inbox/orders_{file}.csv\n", local.display());
        run(&mut gateway.sftp_command("globex", &key, &put, &options)?)
    };
    let v2 = |command: u8, family: u8, body: &[u8]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
        [&header[..], body].concat()
    };
    let mut v4 = vec![203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 0, 22];
    v4.extend([4, 0, 3, 1, 2, 3]);
    for (file, header) in [
        (
            "20261201",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 22\r\n".to_vec(),
        ),
        ("20261202", v2(0x21, 0x11, &v4)),
        (
            "20261203",
            b"PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 12345 22\r\n".to_vec(),
        ),
    ] {
        through(&header, file)?.expect_code(0)?;
        gateway.wait_state(&format!("orders_{file}.csv"), "delivered")?;
    }
    for header in [
        b"PROXY TCP4 203.0.113.8 203.0.113.7 12345 22\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 22\r\nPROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n"
            .to_vec(),
        b"PROXY TCP4 203.0.113.7\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 99999\r\n".to_vec(),
        [&b"PROXY TCP4 "[..], &[b'2'; 200], b"\r\n"].concat(),
        v2(0x20, 0x11, &v4),
        v2(0x31, 0x11, &v4),
        v2(0x21, 0x12, &v4),
        v2(0x21, 0x11, &v4[..7]),
        v2(0x21, 0x11, &[7; 5_000]),
        Vec::new(),
    ] {
        let ran = through(&header, "20261204")?;
        assert_eq!(
            ran.code,
            255,
            "{:?}: {ran:?}",
            String::from_utf8_lossy(&header)
        );
    }
    for why in [
        "though its address is listed",
        "bad PROXY header: version 1",
        "bad PROXY header: longer",
    ] {
        gateway.wait_until(why, || Ok(gateway.log().contains(why)))?;
    }
    // From somebody who is not listed it is not believed, and he needs none.
    let mut unlisted = dial_from(&gateway, Ipv4Addr::new(127, 0, 0, 2))?;
    unlisted.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 22\r\nSSH-2.0-x\r\n")?;
    let said = until_its_end(&mut unlisted)?;
    assert!(said.len() < 40, "a header was believed: {said:?}");
    let local = gateway.local("20261205", content("20261205"))?;
    let put = format!("put {} inbox/orders_20261205.csv\n", local.display());
    let elsewhere = ["-o", "BindAddress=127.0.0.2"];
    run(&mut gateway.sftp_command("globex", &key, &put, &elsewhere)?)?.expect_code(255)?;
    run(&mut gateway.sftp_command("acme", &gateway.acme_key(), &put, &elsewhere)?)?
        .expect_code(0)?;
    gateway.wait_state("orders_20261205.csv", "delivered")
}

fn legacy() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        configure(home, &[EXEMPT])?;
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"])
            .arg(home.join("rsa_key")))?
        .expect_code(0)?;
        let public = fs::read_to_string(home.join("acme_key.pub"))?;
        let rsa = fs::read_to_string(home.join("rsa_key.pub"))?;
        Ok(fs::write(home.join("partners/acme.pub"), public + &rsa)?)
    })?;
    let policy = gateway.home().join("policies/acme.toml");
    let text = fs::read_to_string(&policy)?;
    let until = |version: u32, day: &str| -> Verdict {
        let access = format!(
            "[access]\nlegacy = {{ until = {day}, algorithms = [\"diffie-hellman-group14-sha1\", \
             \"ssh-rsa\", \"hmac-sha1\", \"aes256-cbc\"] }}"
        );
        let text = text
            .replace("version = 3", &format!("version = {version}"))
            .replace("[access]", &access)
            .replace(
                "# allow_from = [\"198.51.100.0/24\", ",
                "allow_from = [\"127.0.0.1/32\", \"127.0.0.2/32\"] # ",
            );
        fs::write(&policy, text)?;
        let loaded = format!("policy acme {} -> {version}", version - 1);
        gateway.wait_until(&loaded, || Ok(gateway.log().contains(&loaded)))
    };
    let old = [
        &["-o", "KexAlgorithms=diffie-hellman-group14-sha1"][..],
        &["-o", "Ciphers=aes256-cbc"],
        // With AES-GCM no MAC is negotiated.
        &["-o", "MACs=hmac-sha1", "-o", "Ciphers=aes256-ctr"],
    ];
    let all = [
        &old.concat()[..],
        &["-o", "PubkeyAcceptedAlgorithms=ssh-rsa"],
    ]
    .concat();
    let rsa = gateway.home().join("rsa_key");
    let attempt = |options: &[&str], name: &str| {
        let local = gateway.local(name, content(name))?;
        let put = format!("put {} inbox/orders_{name}.csv\n", local.display());
        run(&mut gateway.sftp_command("acme", &rsa, &put, options)?)
    };
    let nobody_speaks_them = || -> Verdict {
        for one in old {
            attempt(one, "20261201")?
                .expect_code(255)?
                .expect_stderr("no matching")?;
        }
        attempt(&["-o", "PubkeyAcceptedAlgorithms=ssh-rsa"], "20261201")?
            .expect_code(255)?
            .expect_stderr("Permission denied")?;
        let fix = "[access] legacy = { until = DATE, algorithms = [...] }";
        let told = |log: &str| {
            ["diffie-hellman-group14-sha1", "aes256-cbc", "hmac-sha1"]
                .iter()
                .all(|name| {
                    let offer = format!("the client offers {name}");
                    log.lines().any(|line| {
                        line.contains(&offer)
                            && line.contains(fix)
                            && line.contains("SSH-2.0-OpenSSH_")
                            && line.contains("accepted here are")
                    })
                })
        };
        gateway.wait_until("the fix in the log", || Ok(told(&gateway.log())))
    };
    nobody_speaks_them()?;
    until(4, "2099-01-01")?;
    attempt(&all, "20261202")?.expect_code(0)?;
    gateway.wait_state("orders_20261202.csv", "delivered")?;
    let elsewhere = ["-o", "BindAddress=127.0.0.3"];
    attempt(&[old[0], &elsewhere].concat(), "20261203")?
        .expect_code(255)?
        .expect_stderr("no matching key exchange method")?;
    fs::write(gateway.log_path(), "")?;
    until(5, "2020-01-01")?;
    nobody_speaks_them()?;
    attempt(&[], "20261204")?.expect_code(0)?;
    gateway.wait_state("orders_20261204.csv", "delivered")
}

/// One SSH connection in the words of RFC 4253: curve25519, AES-128-GCM, and whatever payload one
/// likes.
pub(crate) struct RawSsh {
    pub(crate) stream: TcpStream,
    /// The session id, empty before the key exchange.
    session: Vec<u8>,
    secrets: Option<(Gcm, Gcm)>,
    versions: [Vec<u8>; 2],
    /// SFTP bytes that belong to no whole packet yet.
    sftp: Vec<u8>,
}

/// One direction.
struct Gcm {
    key: LessSafeKey,
    nonce: [u8; 12],
}

/// A client key that signs whatever it is given.
pub(crate) struct Key(Ed25519KeyPair);

/// `SplitMix64`: a seed gives the same numbers for ever.
pub(crate) struct Random {
    pub(crate) seed: u64,
    state: u64,
}

// === impl RawSsh ===

impl RawSsh {
    /// A connection whose versions are exchanged.
    pub(crate) fn greet(gateway: &Gateway, version: &str) -> Result<Self, Failed> {
        let mut stream = dial(gateway)?;
        stream.write_all(format!("{version}\r\n").as_bytes())?;
        let mut theirs = Vec::new();
        while !theirs.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            theirs.extend(byte);
        }
        theirs.truncate(theirs.len() - 2);
        Ok(Self {
            stream,
            session: Vec::new(),
            secrets: None,
            versions: [version.as_bytes().to_vec(), theirs],
            sftp: Vec::new(),
        })
    }

    /// A connection whose keys are exchanged.
    pub(crate) fn secured(gateway: &Gateway) -> Result<Self, Failed> {
        let mut ssh = Self::greet(gateway, "SSH-2.0-raw")?;
        ssh.exchange_keys()?;
        Ok(ssh)
    }

    /// A connection that is logged in.
    pub(crate) fn logged_in(gateway: &Gateway) -> Result<Self, Failed> {
        let mut ssh = Self::secured(gateway)?;
        assert_eq!(ssh.log_in(gateway, "acme")?, Some(USERAUTH_SUCCESS));
        Ok(ssh)
    }

    pub(crate) fn exchange_keys(&mut self) -> Verdict {
        let ours = kexinit();
        self.send(&ours)?;
        let theirs = self.receive()?.ok_or("no KEXINIT")?;
        let random = SystemRandom::new();
        let secret = EphemeralPrivateKey::generate(&X25519, &random)?;
        let point = secret.compute_public_key()?;
        self.send(&[&[ECDH_INIT][..], &string(point.as_ref())].concat())?;
        let reply = self.receive()?.ok_or("no reply to the key exchange")?;
        let (host_key, rest) = field(&reply[1..])?;
        let (their_point, _signature) = field(rest)?;
        let peer = UnparsedPublicKey::new(&X25519, their_point);
        let shared = agreement::agree_ephemeral(secret, &peer, positive)?;
        let mut hashed: Vec<u8> = [&self.versions[0][..], &self.versions[1], &ours, &theirs]
            .into_iter()
            .flat_map(string)
            .collect();
        for part in [host_key, point.as_ref(), their_point] {
            hashed.extend(string(part));
        }
        hashed.extend(&shared);
        self.session = digest(&SHA256, &hashed).as_ref().to_vec();
        self.send(&[NEWKEYS])?;
        assert_eq!(self.receive()?.as_deref(), Some(&[NEWKEYS][..]));
        let derived = |letter: u8| {
            let text = [&shared[..], &self.session, &[letter], &self.session].concat();
            digest(&SHA256, &text)
        };
        let gcm = |iv: u8, key: u8| -> Result<Gcm, Failed> {
            let key = UnboundKey::new(&AES_128_GCM, &derived(key).as_ref()[..16])?;
            Ok(Gcm {
                key: LessSafeKey::new(key),
                nonce: derived(iv).as_ref()[..12].try_into()?,
            })
        };
        self.secrets = Some((gcm(b'A', b'C')?, gcm(b'B', b'D')?));
        Ok(())
    }

    /// Sends one payload as a packet.
    pub(crate) fn send(&mut self, payload: &[u8]) -> Verdict {
        let Some((up, _)) = &mut self.secrets else {
            return Ok(self.stream.write_all(&Self::clear_packet(payload)?)?);
        };
        let mut body = padded(payload, 16, 1)?;
        let length = u32::try_from(body.len())?.to_be_bytes();
        let nonce = up.nonce();
        up.key
            .seal_in_place_append_tag(nonce, Aad::from(length), &mut body)?;
        Ok(self.stream.write_all(&[&length[..], &body].concat())?)
    }

    /// A packet as it is before keys are exchanged.
    fn clear_packet(payload: &[u8]) -> Result<Vec<u8>, Failed> {
        let body = padded(payload, 8, 5)?;
        let length = u32::try_from(body.len())?.to_be_bytes();
        Ok([&length[..], &body].concat())
    }

    /// Sends bytes as they are; the connection may be gone already.
    fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// The next payload that is not chatter; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        loop {
            let mut length = [0; 4];
            if !self.fill(&mut length)? {
                return Ok(None);
            }
            let tag = if self.secrets.is_some() { 16 } else { 0 };
            let mut body = vec![0; usize::try_from(u32::from_be_bytes(length))? + tag];
            if !self.fill(&mut body)? {
                return Ok(None);
            }
            let plain = match &mut self.secrets {
                Some((_, down)) => {
                    let nonce = down.nonce();
                    down.key
                        .open_in_place(nonce, Aad::from(length), &mut body)?
                }
                None => &mut body[..],
            };
            let end = plain.len() - usize::from(plain[0]);
            match plain[1..end].first() {
                Some(&DISCONNECT) => return Ok(None),
                Some(&(IGNORE | USERAUTH_BANNER | WINDOW_ADJUST | EXTENDED_DATA)) => {}
                _ => return Ok(Some(plain[1..end].to_vec())),
            }
        }
    }

    /// Whether there were so many bytes before the end.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, Failed> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(e) if is_end(&e) => Ok(false),
            Err(e) => Err(format!("neither an answer nor an end: {e}").into()),
        }
    }

    /// Reads on until the other side hangs up.
    pub(crate) fn expect_end(&mut self, what: &str) -> Verdict {
        until_its_end(&mut self.stream)
            .map(drop)
            .map_err(|e| format!("{what}: {e:?}").into())
    }

    /// `SERVICE_REQUEST`, and its answer.
    pub(crate) fn ask_to_log_in(&mut self) -> Verdict {
        self.send(&[&[SERVICE_REQUEST][..], &string(b"ssh-userauth")].concat())?;
        let accepted = self.receive()?.ok_or("the service was not accepted")?;
        assert_eq!(accepted[0], 6, "{accepted:?}");
        Ok(())
    }

    /// A login with the key of acme; what it was answered with.
    pub(crate) fn log_in(&mut self, gateway: &Gateway, user: &str) -> Result<Option<u8>, Failed> {
        self.ask_to_log_in()?;
        self.try_key(gateway, user)
    }

    /// The same with the service asked for already.
    pub(crate) fn log_in_again(&mut self, gateway: &Gateway) -> Result<Option<u8>, Failed> {
        self.try_key(gateway, "acme")
    }

    fn try_key(&mut self, gateway: &Gateway, user: &str) -> Result<Option<u8>, Failed> {
        let key = Key::acme(gateway)?;
        let claim = key.claim(user);
        let signature = key.sign(&claim, &self.session);
        self.send(&[claim, signature].concat())?;
        Ok(self.receive()?.and_then(|answer| answer.first().copied()))
    }

    /// An attempt to log in as `user` with the key of this seed.
    pub(crate) fn prove(&mut self, user: &str, seed: &[u8; 32]) -> Verdict {
        let key = Key::of(seed)?;
        let claim = key.claim(user);
        let signature = key.sign(&claim, &self.session);
        self.send(&[claim, signature].concat())
    }

    /// A session channel; its number at the other side.
    pub(crate) fn open_channel(&mut self, ours: u32) -> Result<u32, Failed> {
        self.send(&open_request(ours))?;
        let answer = self.receive()?.ok_or("no channel")?;
        assert_eq!(answer[0], CHANNEL_OPENED, "{answer:?}");
        Ok(u32::from_be_bytes(answer[5..9].try_into()?))
    }

    /// The subsystem on a channel, and version 3.
    pub(crate) fn start_sftp(&mut self, channel: u32) -> Verdict {
        self.sftp.clear();
        let fields = [&string(b"subsystem")[..], &[1], &string(b"sftp")].concat();
        self.send(&[&[CHANNEL_REQUEST][..], &channel.to_be_bytes(), &fields].concat())?;
        let answer = self.receive()?.ok_or("no subsystem")?;
        assert_eq!(answer[0], CHANNEL_SUCCESS, "{answer:?}");
        self.say(channel, &[0, 0, 0, 5, 1, 0, 0, 0, 3])?;
        let version = self.frame()?.ok_or("no VERSION")?;
        assert_eq!(version[0], 2, "{version:?}");
        Ok(())
    }

    /// Bytes on a channel.
    pub(crate) fn say(&mut self, channel: u32, bytes: &[u8]) -> Verdict {
        bytes.chunks(30_000).try_for_each(|piece| {
            self.send(&[&[DATA][..], &channel.to_be_bytes(), &string(piece)].concat())
        })
    }

    /// The next SFTP packet; `None` when the channel or the connection ends.
    pub(crate) fn frame(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        loop {
            if let Ok((whole, rest)) = field(&self.sftp) {
                let whole = whole.to_vec();
                self.sftp = rest.to_vec();
                return Ok(Some(whole));
            }
            match self.receive()? {
                Some(data) if data[0] == DATA => self.sftp.extend(field(&data[5..])?.0),
                Some(status) if status[0] == CHANNEL_REQUEST => {}
                Some(end) if end[0] == EOF || end[0] == CHANNEL_CLOSE => return Ok(None),
                Some(other) => return Err(format!("not of SFTP: {other:?}").into()),
                None => return Ok(None),
            }
        }
    }

    /// A good file on an sftp channel.
    pub(crate) fn put(&mut self, channel: u32, day: &str) -> Verdict {
        let path = format!("/inbox/orders_{day}.csv");
        let text = content(day);
        let mut handle = Vec::new();
        for (id, kind) in [(1_u8, raw::OPEN), (2, raw::WRITE), (3, raw::CLOSE)] {
            let fields = match kind {
                raw::OPEN => [&string(path.as_bytes())[..], &[0, 0, 0, 0x1a], &[0; 4]].concat(),
                raw::WRITE => [&handle[..], &[0; 8], &string(text.as_bytes())].concat(),
                _ => handle.clone(),
            };
            self.say(
                channel,
                &string(&[&[kind, 0, 0, 0, id][..], &fields].concat()),
            )?;
            let reply = self.frame()?.ok_or("the channel ended")?;
            if kind == raw::OPEN {
                assert_eq!(reply[0], 102, "{}", String::from_utf8_lossy(&reply));
                handle = reply[5..].to_vec();
            } else {
                assert_eq!(reply[5..9], [0; 4], "{}", String::from_utf8_lossy(&reply));
            }
        }
        Ok(())
    }
}

// === impl Gcm ===

impl Gcm {
    /// The nonce of the next packet: four fixed bytes and a count (RFC 5647 section 7.1).
    fn nonce(&mut self) -> Nonce {
        let nonce = self.nonce;
        for byte in self.nonce[4..].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

// === impl Key ===

impl Key {
    pub(crate) fn acme(gateway: &Gateway) -> Result<Self, Failed> {
        let key = load_secret_key(gateway.acme_key(), None)?;
        let KeypairData::Ed25519(pair) = key.key_data() else {
            return Err("not ed25519".into());
        };
        Self::of(&pair.private.to_bytes())
    }

    fn of(seed: &[u8; 32]) -> Result<Self, Failed> {
        Ok(Self(Ed25519KeyPair::from_seed_unchecked(seed)?))
    }

    /// The request to log in as `user` with this key, up to the signature.
    fn claim(&self, user: &str) -> Vec<u8> {
        let public = [string(b"ssh-ed25519"), string(self.0.public_key().as_ref())].concat();
        let fields = [&[1][..], &string(b"ssh-ed25519"), &string(&public)].concat();
        auth_request(user, b"publickey", &fields)
    }

    /// The signature of a claim, as the field that follows it.
    fn sign(&self, claim: &[u8], session: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&[&string(session)[..], claim].concat());
        string(&[string(b"ssh-ed25519"), string(signature.as_ref())].concat())
    }
}

// === impl Random ===

impl Random {
    /// `SALLYPORT_SEED` repeats a run.
    pub(crate) fn seeded() -> Self {
        let given = std::env::var_os("SALLYPORT_SEED").and_then(|seed| seed.to_str()?.parse().ok());
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self::of(given.unwrap_or_else(|| u64::from(now.subsec_nanos()) ^ now.as_secs() << 30))
    }

    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[7]
    }

    /// A number below `end`, or 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Up to four faults: bits, numbers at the edge, pieces lost, doubled, cut off.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const EDGES: [u32; 6] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x0004_0001];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let to = (at + self.below(12)).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.byte(),
                2 if at + 4 <= bytes.len() => {
                    let edge = self.pick(&EDGES).to_be_bytes();
                    bytes[at..at + 4].copy_from_slice(&edge);
                }
                3 => drop(bytes.drain(at..to)),
                4 => {
                    let piece = bytes[at..to].to_vec();
                    drop(bytes.splice(at..at, piece));
                }
                _ if self.below(4) == 0 => bytes.truncate(at),
                _ => bytes.insert(at, self.byte()),
            }
        }
    }
}

/// A gateway with lines of its config switched on.
pub(crate) fn gateway_with(lines: &[(&str, &str)]) -> Result<Gateway, Failed> {
    Gateway::start_with(|home| configure(home, lines))
}

/// A gateway without penalties, and with places for a test that opens many connections.
pub(crate) fn patient() -> Result<Gateway, Failed> {
    gateway_with(&[EXEMPT, WIDE])
}

pub(crate) fn configure(home: &Path, lines: &[(&str, &str)]) -> Verdict {
    let config = home.join("sallyport.toml");
    let mut text = fs::read_to_string(&config)?;
    for (from, to) in lines {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    Ok(fs::write(config, text)?)
}

/// A good file whose content is its own.
pub(crate) fn content(day: &str) -> String {
    orders_with(3, |n| format!("p{n}.{day}@example.org"))
}

/// What has to work after everything else: a new connection logs in and delivers a file.
pub(crate) fn transfer(gateway: &Gateway, day: &str) -> Verdict {
    let login = Login {
        address: ([127, 0, 0, 1], gateway.port()).into(),
        user: "acme".to_owned(),
        host_key: gateway.host_key(),
    };
    let (key, name) = (gateway.acme_key(), format!("orders_{day}.csv"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let put = runtime.block_on(Box::pin(async {
        let client = Client::connect(&login, &key).await?;
        client
            .put(&format!("/inbox/{name}"), content(day).as_bytes())
            .await
    }))?;
    assert!(put.accepted, "{put:?}");
    assert!(!harmed(gateway), "{}", gateway.log());
    gateway.wait_state(&name, "delivered")
}

/// Something of ours panicked.
pub(crate) fn harmed(gateway: &Gateway) -> bool {
    let log = gateway.log();
    ["panicked", "a defect of sallyport", "internal error"]
        .iter()
        .any(|sign| log.contains(sign))
}

/// Connections ended because of what they sent, not because their time was over.
fn cut_at_once(gateway: &Gateway) {
    let log = gateway.log();
    assert!(!log.contains("grace time"), "{log}");
    assert!(!harmed(gateway), "{}", gateway.log());
}

/// What attackers sent has not made the gateway grow by more than 64 MiB since `before`.
pub(crate) fn bounded(gateway: &Gateway, before: u64) -> Verdict {
    let now = gateway.rss_kib()?;
    assert!(now < before + 64 * 1024, "{before} KiB became {now} KiB");
    Ok(())
}

/// Waits for a line of the metrics.
pub(crate) fn count_is(gateway: &Gateway, line: &str) -> Verdict {
    gateway.wait_until(line, || Ok(metrics(gateway)?.contains(line)))
}

/// The metrics as they are now.
pub(crate) fn metrics(gateway: &Gateway) -> Result<String, Failed> {
    let status = gateway.json(&["status"])?;
    let address = status["metrics"].as_str().ok_or("no metrics")?;
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn dial(gateway: &Gateway) -> Result<TcpStream, Failed> {
    dial_from(gateway, Ipv4Addr::LOCALHOST)
}

/// A connection from any address of this machine.
fn dial_from(gateway: &Gateway, source: Ipv4Addr) -> Result<TcpStream, Failed> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddrV4::new(source, 0))?;
    connect(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, gateway.port()))?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Everything the other side says until it hangs up, which it has to.
fn until_its_end(stream: &mut TcpStream) -> Result<Vec<u8>, Failed> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => Ok(said),
        Err(e) if is_end(&e) => Ok(said),
        Err(e) => Err(format!("it was not cut off: {e}").into()),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

/// A load balancer for one connection: its port.
fn relay(gateway: &Gateway, header: Vec<u8>) -> Result<u16, Failed> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let mut inside = dial(gateway)?;
    std::thread::spawn(move || -> io::Result<()> {
        let (outside, _) = listener.accept()?;
        inside.write_all(&header)?;
        let (mut from, mut to) = (outside.try_clone()?, inside.try_clone()?);
        let up = std::thread::spawn(move || io::copy(&mut from, &mut to));
        drop(io::copy(&mut inside, &mut &outside));
        drop((
            inside.shutdown(Shutdown::Both),
            outside.shutdown(Shutdown::Both),
        ));
        drop(up.join());
        Ok(())
    });
    Ok(port)
}

/// Padding length, payload, padding; `counted` bytes before the payload count for the block.
fn padded(payload: &[u8], block: usize, counted: usize) -> Result<Vec<u8>, Failed> {
    let padding = block + (block - (payload.len() + counted) % block) % block;
    let mut body = vec![u8::try_from(padding)?];
    body.extend(payload);
    body.resize(body.len() + padding, 0);
    Ok(body)
}

fn kexinit() -> Vec<u8> {
    let mut payload = vec![KEXINIT];
    payload.extend([7; 16]);
    for names in [
        "curve25519-sha256",
        "ssh-ed25519",
        "aes128-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-256",
        "none",
        "none",
        "",
        "",
    ] {
        payload.extend(string(names.as_bytes()));
    }
    payload.extend([0; 5]);
    payload
}

pub(crate) fn open_request(ours: u32) -> Vec<u8> {
    open_request_with(ours, 1 << 30)
}

/// The same, for a client that takes only so many bytes.
pub(crate) fn open_request_with(ours: u32, window: u32) -> Vec<u8> {
    let mut payload = vec![CHANNEL_OPEN];
    payload.extend(string(b"session"));
    for number in [ours, window, 32 * 1024] {
        payload.extend(number.to_be_bytes());
    }
    payload
}

fn auth_request(user: &str, method: &[u8], fields: &[u8]) -> Vec<u8> {
    let mut payload = vec![USERAUTH_REQUEST];
    payload.extend(string(user.as_bytes()));
    payload.extend(string(b"ssh-connection"));
    payload.extend(string(method));
    payload.extend(fields);
    payload
}

/// A shared secret as an mpint.
fn positive(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros..];
    if digits.first().is_some_and(|first| *first >= 0x80) {
        string(&[&[0], digits].concat())
    } else {
        string(digits)
    }
}

/// A string field, and what follows it.
pub(crate) fn field(bytes: &[u8]) -> Result<(&[u8], &[u8]), Failed> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or("no length")?;
    let length = usize::try_from(u32::from_be_bytes(*length))?;
    Ok(rest.split_at_checked(length).ok_or("too short")?)
}
