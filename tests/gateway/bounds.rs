//! Every bound of a login and of a session, run into by a client: what it hears, what is counted, and
//! that the next transfer works.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Failed, Gateway, Verdict, keygen, run};
use crate::preauth::{
    self, CHANNEL_OPENED, EXEMPT, METRICS, RawSsh, WINDOW_ADJUST, content, count_is, gateway_with,
    open_request_with, transfer,
};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "after its attempts to log in a connection is told so and gets no further one",
        Needs::OpenSsh,
        auth_tries,
    ),
    (
        "an unknown partner and a wrong key get the same answer, and neither comes early",
        Needs::Nothing,
        who_is_there,
    ),
    (
        "two logins over the grace time keep their source out, until that is over",
        Needs::OpenSsh,
        grace_penalty,
    ),
    (
        "a partner has its sessions and no more, hears so, and gets the place of one that ends",
        Needs::OpenSsh,
        sessions,
    ),
    (
        "a session without a request ends with a reason, one that asks does not",
        Needs::OpenSsh,
        idle,
    ),
    (
        "a session is read no faster than its partner may send, and nothing is lost by it",
        Needs::OpenSsh,
        bytes_rate,
    ),
    (
        "files over the rate of a partner wait, and all of them arrive",
        Needs::OpenSsh,
        files_rate,
    ),
    (
        "READ and READDIR wait while nobody takes the replies, and are answered in order",
        Needs::Nothing,
        parked,
    ),
    (
        "4,096 requests may wait on a channel; one more closes it, and only it",
        Needs::Nothing,
        requests,
    ),
    (
        "replies nobody takes close their channel at a mebibyte, and only it",
        Needs::Nothing,
        output,
    ),
    (
        "an upload that does not end within the time to stop is kept, and resumed at the next start",
        Needs::OpenSsh,
        drained_too_late,
    ),
];

/// WRITE, CREATE, TRUNC.
const PUT: u32 = 0x02 | 0x08 | 0x10;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const REALPATH: u8 = 16;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;

fn reached(limit: &str, times: u64) -> String {
    format!("sallyport_limits_reached_total{{limit=\"{limit}\"}} {times}\n")
}

/// For differences only.
fn now() -> Result<Duration, Failed> {
    Ok(UNIX_EPOCH.elapsed()?)
}

/// Lines added under `[access]` of acme's policy.
fn access(home: &Path, lines: &str) -> Verdict {
    let policy = home.join("policies/acme.toml");
    let text = fs::read_to_string(&policy)?;
    let changed = text.replace("[access]\n", &format!("[access]\n{lines}\n"));
    assert_ne!(text, changed);
    Ok(fs::write(policy, changed)?)
}

fn limited(lines: &str) -> Result<Gateway, Failed> {
    Gateway::start_with(|home| {
        preauth::configure(home, &[METRICS])?;
        access(home, lines)
    })
}

fn auth_tries() -> Verdict {
    let three = (
        "#limits = { unauthenticated_per_source = 5, unauthenticated = 200, auth_tries = 6 }",
        "limits = { auth_tries = 3 }",
    );
    let gateway = gateway_with(&[EXEMPT, METRICS, three])?;
    let mut options = Vec::new();
    for n in 0..4 {
        let key = gateway.scratch().join(format!("wrong-{n}"));
        keygen(&key)?;
        options.push("-i".to_owned());
        options.push(key.display().to_string());
    }
    // The good key comes last, and too late.
    options.extend(gateway.ssh_options(&gateway.acme_key()));
    let port = gateway.port().to_string();
    let mut ssh = Command::new("ssh");
    ssh.args(&options)
        .args(["-p", &port, "-s", "acme@127.0.0.1", "sftp"])
        .stdin(Stdio::null());
    run(&mut ssh)?
        .expect_code(255)?
        .expect_stderr("Too many authentication")?;
    count_is(&gateway, &reached("auth_tries", 1))?;
    // One that does not ask for the methods first has three as well.
    let mut raw = RawSsh::secured(&gateway)?;
    raw.ask_to_log_in()?;
    for seed in 1..=3 {
        raw.prove("acme", &[seed; 32])?;
        assert!(raw.receive()?.is_some(), "try {seed} was not answered");
    }
    // The right key comes too late.
    let late = raw.log_in_again(&gateway)?;
    assert_eq!(late, None, "a fourth try was answered");
    count_is(&gateway, &reached("auth_tries", 2))?;
    transfer(&gateway, "20261201")?;
    count_is(&gateway, &reached("auth_tries", 2))
}

fn who_is_there() -> Verdict {
    let gateway = preauth::patient()?;
    let ask = |user: &str, seed: u8| -> Result<(Vec<u8>, Duration), Failed> {
        let mut ssh = RawSsh::secured(&gateway)?;
        ssh.ask_to_log_in()?;
        let begun = now()?;
        ssh.prove(user, &[seed; 32])?;
        let answer = ssh.receive()?.ok_or("cut off")?;
        Ok((answer, now()?.saturating_sub(begun)))
    };
    let (wrong_key, late) = ask("acme", 7)?;
    for user in ["nobody", "acme2", "root", "", "../acme"] {
        let (unknown, also_late) = ask(user, 8)?;
        assert_eq!(unknown, wrong_key, "{user:?} is told apart");
        assert!(
            late >= Duration::from_secs(1) && also_late >= Duration::from_secs(1),
            "answered early: {late:?}, {also_late:?}"
        );
    }
    transfer(&gateway, "20261201")
}

fn grace_penalty() -> Verdict {
    let second = ("#login_grace = \"20s\"", "login_grace = \"1s\"");
    let gateway = gateway_with(&[METRICS, second])?;
    for n in 1..=2 {
        RawSsh::secured(&gateway)?.expect_end("a login that takes too long")?;
        count_is(&gateway, &reached("login_grace", n))?;
    }
    let file = gateway.local("x.csv", content("20261201"))?;
    let put = format!("put {} inbox/orders_20261201.csv\n", file.display());
    gateway.sftp(&put)?.expect_code(255)?;
    let refused = "sallyport_ssh_connections_total{result=\"refused_penalty\"} 1\n";
    count_is(&gateway, refused)?;
    let elsewhere = ["-o", "BindAddress=127.0.0.2"];
    let key = gateway.acme_key();
    run(&mut gateway.sftp_command("acme", &key, "ls\n", &elsewhere)?)?.expect_code(0)?;
    // 10 s and 10 s more; then the same key from the same place is let in.
    gateway.wait_until("the end of the penalty", || {
        Ok(gateway.sftp("ls\n")?.code == 0)
    })?;
    gateway.sftp(&put)?.expect_code(0)?;
    gateway.wait_state("orders_20261201.csv", "delivered")
}

fn sessions() -> Verdict {
    let gateway = limited("sessions = 2")?;
    let first = RawSftp::open(&gateway, &[])?;
    let mut second = RawSftp::open(&gateway, &[])?;
    gateway
        .sftp("ls\n")?
        .expect_code(255)?
        .expect_stderr("2 sessions are open already")?;
    count_is(&gateway, &reached("sessions", 1))?;
    // Those inside do not notice.
    let stat = second.ask(REALPATH, &[&string(b".")])?;
    assert_eq!(stat.kind, NAME, "{stat:?}");
    drop(first);
    gateway.wait_until("a place", || Ok(gateway.sftp("ls\n")?.code == 0))?;
    drop(second);
    transfer(&gateway, "20261201")
}

fn idle() -> Verdict {
    let gateway = gateway_with(&[METRICS, ("#idle = \"10m\"", "idle = \"2s\"")])?;
    let (mut mute, mut asking) = (RawSftp::open(&gateway, &[])?, RawSftp::open(&gateway, &[])?);
    let log = "nothing was asked for a while";
    let mut is_over = false;
    for _ in 0..600 {
        let found = asking.ask(REALPATH, &[&string(b".")])?;
        assert_eq!(found.kind, NAME, "{found:?}");
        is_over = gateway.log().contains("why=idle") || gateway.log().contains("\"idle\"");
        if is_over {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(is_over, "{}", gateway.log());
    assert!(mute.reply().is_err(), "it was answered without asking");
    let told = mute.told()?;
    assert!(told.contains(log), "{told}");
    count_is(&gateway, &reached("idle", 1))?;
    let found = asking.ask(REALPATH, &[&string(b".")])?;
    assert_eq!(found.kind, NAME, "{found:?}");
    transfer(&gateway, "20261201")
}

fn bytes_rate() -> Verdict {
    let gateway = limited("bytes_per_second = \"100 kB\"")?;
    let text = crate::harness::orders(4_000);
    assert!(text.len() > 250_000, "{}", text.len());
    let file = gateway.local("x.csv", &text)?;
    let begun = now()?;
    gateway
        .sftp(&format!(
            "put {} inbox/orders_20261201.csv\n",
            file.display()
        ))?
        .expect_code(0)?;
    // A second's worth may be waiting for it; the rest takes its time.
    let took = now()?.saturating_sub(begun);
    assert!(took >= Duration::from_millis(1_500), "{took:?}");
    let counted = "sallyport_limits_reached_total{limit=\"bytes_rate\"} ";
    count_is(&gateway, counted)?;
    assert!(!preauth::metrics(&gateway)?.contains(&reached("bytes_rate", 0)));
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    let objects = gateway.objects()?;
    assert_eq!(
        String::from_utf8_lossy(&objects[0].1).lines().count(),
        4_001
    );
    Ok(())
}

fn files_rate() -> Verdict {
    let gateway = limited("files_per_second = 4")?;
    let mut puts = String::new();
    for n in 0..16 {
        let name = format!("202612{n:02}");
        let file = gateway.local(&name, content(&name))?;
        puts.push_str(&format!("put {} inbox/orders_{name}.csv\n", file.display()));
    }
    let begun = now()?;
    gateway.sftp(&puts)?.expect_code(0)?;
    // Eight at once, and four a second behind them.
    let took = now()?.saturating_sub(begun);
    assert!(took >= Duration::from_millis(1_500), "{took:?}");
    assert!(!preauth::metrics(&gateway)?.contains(&reached("files_rate", 0)));
    gateway.wait_until("16 objects", || Ok(gateway.objects()?.len() == 16))
}

/// A channel of so small a window that little of what is answered can be sent.
fn narrow(ssh: &mut RawSsh) -> Result<u32, Failed> {
    ssh.send(&open_request_with(0, 4_096))?;
    let opened = ssh.receive()?.ok_or("no channel")?;
    assert_eq!(opened[0], CHANNEL_OPENED, "{opened:?}");
    let channel = u32::from_be_bytes(opened[5..9].try_into()?);
    ssh.start_sftp(channel)?;
    Ok(channel)
}

/// A packet with these fields.
fn request(kind: u8, id: u32, fields: &[&[u8]]) -> Vec<u8> {
    string(&[&[kind][..], &id.to_be_bytes(), &fields.concat()].concat())
}

/// The handle of the answer to an OPEN or OPENDIR, as a field.
fn handle(ssh: &mut RawSsh) -> Result<Vec<u8>, Failed> {
    let reply = ssh.frame()?.ok_or("the channel ended")?;
    assert_eq!(reply[0], HANDLE, "{reply:?}");
    Ok(reply[5..].to_vec())
}

fn open_help(ssh: &mut RawSsh, channel: u32) -> Result<Vec<u8>, Failed> {
    let fields = [&string(b"/help/README.txt")[..], &[0, 0, 0, 1], &[0; 4]];
    ssh.say(channel, &request(raw::OPEN, 1, &fields))?;
    handle(ssh)
}

fn parked() -> Verdict {
    let gateway = gateway_with(&[METRICS])?;
    let mut ssh = RawSsh::logged_in(&gateway)?;
    let channel = narrow(&mut ssh)?;
    let file = open_help(&mut ssh, channel)?;
    let list = request(OPENDIR, 2, &[&string(b"/help")]);
    ssh.say(channel, &list)?;
    let folder = handle(&mut ssh)?;
    // Far more than the quarter of a mebibyte that is kept for a client that takes nothing.
    let ids = 10..2_010_u32;
    let burst: Vec<u8> = ids
        .clone()
        .flat_map(|id| match id {
            2_000 => request(READDIR, id, &[&folder]),
            _ => request(raw::READ, id, &[&file, &[0; 8], &[0, 0, 0xff, 0xff]]),
        })
        .collect();
    ssh.say(channel, &burst)?;
    let wide = 1_u32 << 30;
    let adjust = [
        &[WINDOW_ADJUST][..],
        &channel.to_be_bytes(),
        &wide.to_be_bytes(),
    ]
    .concat();
    ssh.send(&adjust)?;
    for id in ids {
        let reply = ssh.frame()?.ok_or("the channel ended")?;
        let kind = if id == 2_000 { NAME } else { DATA };
        assert_eq!((reply[0], &reply[1..5]), (kind, &id.to_be_bytes()[..]));
    }
    for limit in ["output", "requests"] {
        count_is(&gateway, &reached(limit, 0))?;
    }
    ssh.put(channel, "20261201")?;
    transfer(&gateway, "20261202")
}

/// Goes on until the gateway closes the channel.
fn closed(ssh: &mut RawSsh) -> Verdict {
    while let Some(reply) = ssh.frame()? {
        assert!(matches!(reply[0], DATA | NAME | STATUS), "{reply:?}");
    }
    Ok(())
}

fn requests() -> Verdict {
    let gateway = gateway_with(&[METRICS])?;
    let mut ssh = RawSsh::logged_in(&gateway)?;
    let channel = narrow(&mut ssh)?;
    let file = open_help(&mut ssh, channel)?;
    for id in 0..6_000 {
        let read = request(raw::READ, id, &[&file, &[0; 8], &[0, 0, 0xff, 0xff]]);
        ssh.say(channel, &read)?;
    }
    closed(&mut ssh)?;
    count_is(&gateway, &reached("requests", 1))?;
    assert!(
        gateway.log().contains("more than 4096 requests"),
        "{}",
        gateway.log()
    );
    let next = ssh.open_channel(1)?;
    ssh.start_sftp(next)?;
    ssh.put(next, "20261201")?;
    transfer(&gateway, "20261202")
}

fn output() -> Verdict {
    let gateway = gateway_with(&[METRICS])?;
    let mut ssh = RawSsh::logged_in(&gateway)?;
    let channel = narrow(&mut ssh)?;
    let before = gateway.rss_kib()?;
    let long = string(format!("/inbox/{}", "x".repeat(200)).as_bytes());
    for id in 0..6_000 {
        ssh.say(channel, &request(REALPATH, id, &[&long]))?;
    }
    closed(&mut ssh)?;
    count_is(&gateway, &reached("output", 1))?;
    preauth::bounded(&gateway, before)?;
    let next = ssh.open_channel(1)?;
    ssh.start_sftp(next)?;
    ssh.put(next, "20261201")?;
    transfer(&gateway, "20261202")
}

fn drained_too_late() -> Verdict {
    let mut gateway = gateway_with(&[("#drain = \"90s\"", "drain = \"2s\"")])?;
    let text = content("20261201");
    let (half, _) = text.as_bytes().split_at(100);
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let path = "/inbox/orders_20261201.csv";
    let open = sftp.open_file(path, PUT)?;
    let written = sftp.ask(raw::WRITE, &[&open, &[0; 8], &string(half)])?;
    assert_eq!(written.status()?, 0, "{written:?}");
    // A second client that sends until it is cut off: alive, and in the middle.
    let sender = sending(&gateway)?;
    gateway.wait_until("the second upload", || {
        Ok(gateway.log().contains("session.opened")
            && sftp
                .ask(17, &[&string(b"/inbox/orders_20261202.csv")])?
                .kind
                == 105)
    })?;
    assert_eq!(gateway.stop()?, 0, "{}", gateway.log());
    drop(sender);
    gateway.serve()?;
    for name in ["orders_20261201.csv", "orders_20261202.csv"] {
        gateway.wait_state(name, "interrupted")?;
    }
    let file = gateway.local("whole.csv", &text)?;
    gateway
        .sftp(&format!("reput {} {path}\n", file.display()))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261201.csv", "delivered")?;
    let objects = gateway.objects()?;
    assert_eq!(objects.len(), 1);
    assert_eq!(String::from_utf8_lossy(&objects[0].1).lines().count(), 4);
    Ok(())
}

/// Killed when dropped.
struct Sender(Child);

impl Drop for Sender {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The real `sftp` with a file that takes it far longer than a test.
fn sending(gateway: &Gateway) -> Result<Sender, Failed> {
    let file = gateway.local("large.csv", crate::harness::orders(200_000))?;
    let put = format!("put {} inbox/orders_20261202.csv\n", file.display());
    let slow = ["-l", "800"];
    let mut command = gateway.sftp_command("acme", &gateway.acme_key(), &put, &slow)?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Sender(command.spawn()?))
}
