//! What else a partner finds: the outbox, the test area, folders of their own, long listings,
//! digests, and the legacy scp protocol.

use std::fs;
use std::path::Path;

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Failed, Gateway, Verdict, files_below, orders};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "the outbox is listed, fetched and acknowledged by removing, and that is audited",
        Needs::OpenSsh,
        outbox,
    ),
    (
        "a download from the outbox comes whole however its reads are cut",
        Needs::OpenSsh,
        cut_reads,
    ),
    (
        "a file in the test area is checked in full, tokenized with keys nobody keeps, and not forwarded",
        Needs::OpenSsh,
        test_area,
    ),
    (
        "folders may be made, filled, listed and removed where the feed allows it, and nowhere else",
        Needs::OpenSsh,
        folders,
    ),
    (
        "no folder of a partner can pass for one of the gateway's own",
        Needs::OpenSsh,
        own_names,
    ),
    (
        "an scp client that does not wait for answers is told so, and floods cost nothing",
        Needs::OpenSsh,
        hasty_scp,
    ),
    (
        "a listing of 100,000 files comes whole and is never in memory at once",
        Needs::OpenSsh,
        long_listing,
    ),
    (
        "legacy scp takes a good file, refuses a bad one with its error, and fetches receipts",
        Needs::OpenSsh,
        legacy_scp,
    ),
    (
        "md5 and sha1 are there for what a key sends once it has asked for them, also after a restart",
        Needs::OpenSsh,
        old_digests,
    ),
    (
        "a digest is told from what was taken at arrival, and never an empty success",
        Needs::OpenSsh,
        digests,
    ),
    (
        "an opaque file is delivered byte for byte from the lane it arrived in, also after kill -9",
        Needs::OpenSsh,
        opaque,
    ),
];

const STAT_RECEIPTS: &str = "ls receipts\nls test/receipts\n";

/// An opaque feed of acme's: anything named `*.bin`.
pub(crate) fn with_bin(home: &Path, more: &str) -> Verdict {
    let path = home.join("policies/acme.toml");
    let mut text = fs::read_to_string(&path)?;
    text.push_str(&format!(
        "\n[[feed]]\nid = \"bin\"\nmatch = '.*\\.bin'\nstore = \"lake\"\n\
         key = \"acme/bin/{{submission}}.bin\"\nformat = {{ type = \"opaque\" }}\n\
         output = {{ format = \"same\" }}\n{more}\n"
    ));
    Ok(fs::write(path, text)?)
}

fn with_access(home: &Path, line: &str) -> Verdict {
    let path = home.join("policies/acme.toml");
    let text = fs::read_to_string(&path)?;
    let changed = text.replacen("[access]\n", &format!("[access]\n{line}\n"), 1);
    assert_ne!(changed, text);
    Ok(fs::write(path, changed)?)
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count)
        .map(|n| (n * 31 + n / 251).to_le_bytes()[0])
        .collect()
}

fn outbox() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        with_access(home, "outbox = { store = \"lake\", prefix = \"to-acme/\" }")
    })?;
    let lake = gateway.home().join("lake");
    fs::create_dir_all(lake.join("to-acme/2026"))?;
    fs::write(lake.join("to-acme/price.csv"), "a;b\n")?;
    fs::write(lake.join("to-acme/2026/old.csv"), "old\n")?;
    fs::write(lake.join("secret.csv"), "not for acme\n")?;
    let listed = gateway
        .sftp("ls -l outbox\nls outbox/2026\n")?
        .expect_code(0)?;
    assert!(
        listed.stdout.contains("price.csv") && listed.stdout.contains("old.csv"),
        "{listed:?}"
    );
    gateway
        .sftp("get outbox/price.csv\nget outbox/2026/old.csv\n")?
        .expect_code(0)?;
    assert_eq!(
        fs::read_to_string(gateway.scratch().join("price.csv"))?,
        "a;b\n"
    );
    for away in [
        "get outbox/../secret.csv",
        "get outbox/%2e%2e/secret.csv",
        "put price.csv outbox/x.csv",
        "mkdir outbox/x",
        "rename outbox/price.csv outbox/other.csv",
    ] {
        gateway.sftp(&format!("{away}\n"))?.expect_code(1)?;
    }
    gateway.sftp("rm outbox/price.csv\n")?.expect_code(0)?;
    assert!(!lake.join("to-acme/price.csv").exists());
    gateway.sftp("rm outbox/price.csv\n")?.expect_code(1)?;
    gateway
        .cli(&["audit", "tail"])?
        .expect_code(0)?
        .expect_stdout("outbox.acknowledge")?;
    Ok(())
}

fn cut_reads() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        with_access(home, "outbox = { store = \"lake\", prefix = \"to-acme/\" }")
    })?;
    let content = bytes(3_000_001);
    let lake = gateway.home().join("lake/to-acme");
    fs::create_dir_all(&lake)?;
    fs::write(lake.join("big.bin"), &content)?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    // READ; sizes that never meet the borders of what is fetched ahead.
    let handle = sftp.open_file("/outbox/big.bin", 1)?;
    for most in [30_000_u32, 32_768, 100_003, 261_120] {
        // All asked for at once, as paramiko's prefetch does.
        let mut burst = Vec::new();
        let mut asked = 0_u64;
        while asked < 3_000_001 {
            let fields = [&handle[..], &asked.to_be_bytes(), &most.to_be_bytes()];
            burst.extend(sftp.request(raw::READ, &fields).1);
            asked += u64::from(most);
        }
        sftp.send(&burst)?;
        let mut got = Vec::new();
        while got.len() < content.len() {
            let reply = sftp.reply()?;
            assert_eq!(reply.kind, 103, "{:?} at {}", reply.kind, got.len());
            let part = &reply.body[4..];
            let whole = usize::try_from(most)?.min(content.len() - got.len());
            assert_eq!(part.len(), whole, "a short answer at {}", got.len());
            got.extend_from_slice(part);
        }
        assert!(got == content, "what came is not what lies there");
    }
    let end = [&handle[..], &3_000_001_u64.to_be_bytes(), &[0, 0, 0, 9]];
    assert_eq!(sftp.ask(raw::READ, &end)?.status()?, 1, "end of file");
    let nothing = [&handle[..], &7_u64.to_be_bytes(), &[0; 4]];
    assert_eq!(
        sftp.ask(raw::READ, &nothing)?.body,
        [0; 4],
        "no byte wanted"
    );
    // A CLOSE sent behind READs is answered behind them.
    let far = [&handle[..], &1_500_000_u64.to_be_bytes(), &[0, 0, 1, 0]];
    let burst = [
        sftp.request(raw::READ, &far).1,
        sftp.request(raw::READ, &far).1,
        sftp.request(raw::CLOSE, &[&handle]).1,
    ];
    sftp.send(&burst.concat())?;
    let kinds: Vec<u8> = (0..3)
        .map(|_| sftp.reply().map(|reply| reply.kind))
        .collect::<Result<_, _>>()?;
    assert_eq!(kinds, [103, 103, 101], "answered in order");
    Ok(())
}

fn test_area() -> Verdict {
    let gateway = Gateway::start()?;
    let file = gateway.local("orders_20261101.csv", orders(3))?;
    let put = format!("put {} test/inbox/orders_20261101.csv\n", file.display());
    for _ in 0..2 {
        // A trial can be repeated: it never is "accepted already".
        gateway
            .sftp(&put)?
            .expect_code(0)?
            .expect_stderr("ACCEPTED orders_20261101.csv  3 rows")?
            .expect_stderr("a test: nothing is forwarded")?;
    }
    let bad = gateway.local("bad.csv", orders(3).replace("DE,", "UK,"))?;
    gateway
        .sftp(&format!(
            "put {} test/inbox/orders_20261102.csv\n",
            bad.display()
        ))?
        .expect_code(1)?
        .expect_stderr("all errors: /test/receipts/orders_20261102.csv")?;
    assert_eq!(gateway.objects()?, Vec::new());
    assert_eq!(files_below(&gateway.home().join("state/spool"))?.len(), 0);
    let listed = gateway.sftp(STAT_RECEIPTS)?.expect_code(0)?;
    let (ours, tests) = listed
        .stdout
        .split_once("sftp> ls test/receipts")
        .ok_or("no second listing")?;
    assert!(!ours.contains("orders_2026"), "{ours}");
    assert!(tests.contains("orders_20261101.csv."), "{tests}");
    gateway
        .sftp("get test/receipts/latest.txt\n")?
        .expect_code(0)?;
    let receipt = fs::read_to_string(gateway.scratch().join("latest.txt"))?;
    assert!(receipt.contains("Area        test"), "{receipt}");
    // In production the same content is new.
    gateway
        .sftp(&put.replace("test/inbox", "inbox"))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261101.csv  3 rows")?;
    gateway.wait_state("orders_20261101.csv", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn folders() -> Verdict {
    let gateway = Gateway::start_with(|home| with_bin(home, "folders = \"any\""))?;
    let file = gateway.local("a.bin", bytes(1000))?;
    let file = file.display();
    gateway
        .sftp(&format!(
            "mkdir inbox/out\nmkdir inbox/out/deep\nput {file} inbox/out/deep/a.bin\n\
             put {file} inbox/out/b.bin\n"
        ))?
        .expect_code(0)?;
    let listed = gateway
        .sftp("ls inbox\nls inbox/out\nls inbox/out/deep\n")?
        .expect_code(0)?;
    let told = listed.stdout.replace('\r', "");
    for wanted in [
        "inbox/out",
        "inbox/out/deep",
        "inbox/out/b.bin",
        "inbox/out/deep/a.bin",
    ] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    // A folder with files stays, an empty one goes; a csv feed takes none.
    gateway.sftp("rmdir inbox/out\n")?.expect_code(1)?;
    gateway
        .sftp("rm inbox/out/deep/a.bin\nrmdir inbox/out/deep\n")?
        .expect_code(0)?;
    gateway.sftp("ls inbox/out/deep\n")?.expect_code(1)?;
    let orders = gateway.local("orders_20261101.csv", orders(1))?;
    gateway
        .sftp(&format!(
            "put {} inbox/out/orders_20261101.csv\n",
            orders.display()
        ))?
        .expect_code(1)?
        .expect_stderr("REJECTED no-folder")?;
    gateway.wait_until("the objects", || Ok(gateway.objects()?.len() == 1))?;
    Ok(())
}

fn own_names() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        with_bin(home, "folders = \"any\"")?;
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        let changed = text.replace("[\"/inbox\", \"/upload\"]", "[\"/\", \"/upload\"]");
        assert_ne!(changed, text);
        Ok(fs::write(path, changed)?)
    })?;
    let file = gateway.local("a.bin", bytes(100))?;
    for path in [
        "upload/test/a.bin",
        "bin/test/inbox/a.bin",
        "bin/receipts/a.bin",
        "upload/outbox/a.bin",
        "upload/help/a.bin",
    ] {
        gateway
            .sftp(&format!("put {} {path}\n", file.display()))?
            .expect_code(1)?
            .expect_stderr("the gateway's own")?;
    }
    gateway
        .sftp(&format!("put {} upload/tests/a.bin\n", file.display()))?
        .expect_code(0)?;
    gateway.wait_state("a.bin", "delivered")?;
    assert_eq!(gateway.objects()?.len(), 1);
    Ok(())
}

fn hasty_scp() -> Verdict {
    let gateway = Gateway::start()?;
    let say = |command: &str, input: &[u8]| {
        crate::harness::run_with_input(
            std::process::Command::new("ssh")
                .args(gateway.ssh_options(&gateway.acme_key()))
                .args(["-T", "-p", &gateway.port().to_string()])
                .args(["acme@127.0.0.1", command]),
            input,
        )
    };
    for flood in [&b"E\n"[..], b"T1 0 1 0\n", b"D0755 0 x\n"] {
        say("scp -r -t inbox", &flood.repeat(50_000))?
            .expect_code(1)?
            .expect_stderr("without waiting for an answer")?;
    }
    let text = orders(1).replace("DE,", "UK,");
    let together = format!("C0644 {} orders_20261101.csv\n{text}\0E\n", text.len());
    let ran = say("scp -t inbox", together.as_bytes())?.expect_code(1)?;
    assert!(!ran.stderr.contains("ACCEPTED"), "{ran:?}");
    say("scp -t inbox", b"X\n")?
        .expect_code(1)?
        .expect_stderr("not a line of the scp protocol")?;
    say("scp -t 'inbox/a\x01b'", b"")?
        .expect_code(1)?
        .expect_stderr("control characters")?;
    let grown = gateway.rss_kib()?;
    assert!(grown < 200 * 1024, "{grown} KiB");
    let file = gateway.local("orders_20261102.csv", orders(1))?;
    gateway.scp(&["-O"], &file, "inbox/")?.expect_code(0)?;
    Ok(())
}

fn long_listing() -> Verdict {
    const FILES: usize = 100_000;
    let mut gateway = Gateway::start()?;
    let file = gateway.local("orders_20261101.csv", orders(1))?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?;
    gateway.wait_state("orders_20261101.csv", "delivered")?;
    gateway.stop()?;
    // The one row a hundred thousand times, under names of their own.
    let ledger = rusqlite::Connection::open(gateway.home().join("state/state.db"))?;
    let columns: Vec<String> = ledger
        .prepare("SELECT name FROM pragma_table_info('submissions')")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let values: Vec<String> = columns
        .iter()
        .map(|column| match column.as_str() {
            "seq" => "s.seq + n.n".to_owned(),
            "id" | "backwards" => format!("s.{column} || n.n"),
            "path" => "'/inbox/f' || n.n || '.csv'".to_owned(),
            "receipt_base" => "NULL".to_owned(),
            column => format!("s.{column}"),
        })
        .collect();
    // Ids have to be ids: digits in the place of the last eight characters.
    let values = values.join(", ").replace(
        "s.id || n.n",
        "substr(s.id, 1, length(s.id) - 8) || printf('%08d', n.n)",
    );
    ledger.execute_batch(&format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {FILES})
         INSERT INTO submissions ({}) SELECT {values} FROM submissions AS s, n WHERE s.seq = 1;",
        columns.join(", "),
    ))?;
    drop(ledger);
    gateway.serve()?;
    gateway.sftp("ls receipts\n")?.expect_code(0)?;
    let before = gateway.rss_kib()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let opened = sftp.ask(11, &[&string(b"/inbox")])?;
    assert_eq!(opened.kind, 102, "{opened:?}");
    let mut names = 0_usize;
    loop {
        let reply = sftp.ask(12, &[&opened.body])?;
        if reply.kind == 101 {
            assert_eq!(reply.status()?, 1, "{reply:?}");
            break;
        }
        names += usize::try_from(u32::from_be_bytes(reply.body[..4].try_into()?))?;
    }
    assert_eq!(names, FILES + 1);
    let grown = gateway.rss_kib()?.saturating_sub(before);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
    Ok(())
}

fn legacy_scp() -> Verdict {
    let gateway = Gateway::start()?;
    let good = gateway.local("orders_20261101.csv", orders(4))?;
    gateway
        .scp(&["-O", "-p"], &good, "inbox/")?
        .expect_code(0)?
        .expect_stderr("ACCEPTED orders_20261101.csv  4 rows")?;
    gateway.wait_state("orders_20261101.csv", "delivered")?;
    let item = gateway.submissions()?.remove(0);
    assert_eq!(item["channel"], "scp", "{item}");
    let bad = gateway.local("orders_20261102.csv", orders(4).replace("DE,", "UK,"))?;
    gateway
        .scp(&["-O"], &bad, "inbox/orders_20261102.csv")?
        .expect_code(1)?
        .expect_stderr("sallyport: REJECTED 4 errors in 4 rows")?;
    let unknown = gateway.local("unknown.txt", "x")?;
    gateway
        .scp(&["-O"], &unknown, "inbox/")?
        .expect_code(1)?
        .expect_stderr("REJECTED no-feed")?;
    let empty = gateway.local("orders_20261103.csv", "")?;
    gateway
        .scp(&["-O"], &empty, "inbox/")?
        .expect_code(1)?
        .expect_stderr("REJECTED")?;
    let folder = gateway.scratch().join("folder");
    fs::create_dir_all(&folder)?;
    gateway
        .scp(&["-O", "-r"], &folder, "inbox/")?
        .expect_code(1)?
        .expect_stderr("folders cannot be made")?;
    // Receipts, by a pattern and by name.
    let fetched = crate::harness::run(
        std::process::Command::new("scp")
            .args(gateway.ssh_options(&gateway.acme_key()))
            .args(["-O", "-p", "-P", &gateway.port().to_string()])
            .arg("acme@127.0.0.1:receipts/orders_*.txt")
            .arg(&folder),
    )?;
    fetched.expect_code(0)?;
    assert_eq!(fs::read_dir(&folder)?.count(), 3);
    let away = crate::harness::run(
        std::process::Command::new("scp")
            .args(gateway.ssh_options(&gateway.acme_key()))
            .args(["-O", "-P", &gateway.port().to_string()])
            .arg("acme@127.0.0.1:inbox/orders_20261101.csv")
            .arg(&folder),
    )?;
    away.expect_code(1)?.expect_stderr("inbox is write-only")?;
    // A folder with what is in it.
    let into = gateway.scratch().join("into");
    fs::create_dir_all(&into)?;
    let whole = crate::harness::run(
        std::process::Command::new("scp")
            .args(gateway.ssh_options(&gateway.acme_key()))
            .args(["-O", "-r", "-P", &gateway.port().to_string()])
            .arg("acme@127.0.0.1:receipts")
            .arg(&into),
    )?;
    whole.expect_code(0)?;
    let fetched = |folder: &str| -> Result<usize, Failed> {
        let names = fs::read_dir(into.join(folder))?;
        let names = names.map(|entry| Ok::<_, Failed>(entry?.file_name().into_string()));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let texts = names.into_iter().flatten();
        Ok(texts.filter(|name| name.ends_with(".receipt.txt")).count())
    };
    assert_eq!(
        (fetched("receipts")?, fetched("receipts/rejected")?),
        (3, 2)
    );
    // Without -r a folder is refused; so are two files for one name.
    let folder_only = crate::harness::run(
        std::process::Command::new("scp")
            .args(gateway.ssh_options(&gateway.acme_key()))
            .args(["-O", "-P", &gateway.port().to_string()])
            .arg("acme@127.0.0.1:receipts")
            .arg(&into),
    )?;
    folder_only.expect_code(1)?.expect_stderr("is a folder")?;
    let two = crate::harness::run(
        std::process::Command::new("scp")
            .args(gateway.ssh_options(&gateway.acme_key()))
            .args(["-O", "-P", &gateway.port().to_string()])
            .args([&good, &bad])
            .arg("acme@127.0.0.1:inbox/orders_20261101.csv"),
    )?;
    two.expect_code(1)?
        .expect_stderr("no-folder: there is no /inbox/orders_20261101.csv")?;
    Ok(())
}

fn old_digests() -> Verdict {
    let mut gateway = Gateway::start_with(|home| with_bin(home, "digest = \"blake3\""))?;
    let bin = gateway.local("a.bin", "abc")?;
    gateway
        .sftp(&format!("put {} inbox/\n", bin.display()))?
        .expect_code(0)?;
    let sum = |command: &str| gateway.ssh(&["-T"], &[command]);
    let late = sum("md5sum inbox/a.bin")?.expect_code(1)?;
    late.expect_stderr("arrived before this key asked for md5")?;
    // Asked for before the upload, and after a restart: as rclone does, which remembers the command.
    let empty = "d41d8cd98f00b204e9800998ecf8427e";
    sum("md5sum")?
        .expect_code(0)?
        .expect_stdout(&format!("{empty}  -\n"))?;
    gateway.kill()?;
    gateway.serve()?;
    let sum = |command: &str| gateway.ssh(&["-T"], &[command]);
    for (name, text) in [
        ("b.bin", "abc".to_owned()),
        ("c.bin", "abc".repeat(100_000)),
    ] {
        let file = gateway.local(name, &text)?;
        gateway
            .sftp(&format!("put {} inbox/\n", file.display()))?
            .expect_code(0)?;
        let theirs = crate::harness::run(std::process::Command::new("md5sum").arg(&file))?;
        let theirs = theirs
            .stdout
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        sum(&format!("md5sum inbox/{name}"))?
            .expect_code(0)?
            .expect_stdout(&format!("{theirs}  inbox/{name}\n"))?;
    }
    sum("sha1sum inbox/c.bin")?
        .expect_code(1)?
        .expect_stderr("arrived before this key asked for sha1")?;
    // Of a file that waits for its rename, and of what can be fetched, it is made when asked for.
    let part = gateway.local("e.bin.part", "abc")?;
    gateway
        .sftp(&format!("put {} inbox/\n", part.display()))?
        .expect_code(0)?;
    let page = gateway.local("page.txt", "")?;
    gateway
        .sftp(&format!("get help/README.txt {}\n", page.display()))?
        .expect_code(0)?;
    let theirs = crate::harness::run(std::process::Command::new("md5sum").arg(&page))?;
    sum("md5sum inbox/e.bin.part help/README.txt")?
        .expect_code(0)?
        .expect_stdout("900150983cd24fb0d6963f7d28e17f72  inbox/e.bin.part\n")?
        .expect_stdout(theirs.stdout.split(' ').next().unwrap_or("no digest"))?;
    // That was asking too: what comes now has it.
    let file = gateway.local("d.bin", "abc")?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?;
    sum("sha1sum inbox/d.bin")?
        .expect_code(0)?
        .expect_stdout("a9993e364706816aba3e25717850c26c9cd0d89d  inbox/d.bin\n")?;
    Ok(())
}

fn digests() -> Verdict {
    let gateway = Gateway::start_with(|home| with_bin(home, "digest = \"blake3\""))?;
    let bin = gateway.local("a.bin", "abc")?;
    let csv = gateway.local("orders_20261101.csv", orders(1))?;
    gateway
        .sftp(&format!(
            "put {} inbox/\nput {} inbox/\n",
            bin.display(),
            csv.display()
        ))?
        .expect_code(0)?;
    let sum = |command: &str| gateway.ssh(&["-T"], &[command]);
    // The published value of BLAKE3 for "abc".
    let blake3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
    sum("b3sum inbox/a.bin")?
        .expect_code(0)?
        .expect_stdout(&format!("{blake3}  inbox/a.bin\n"))?;
    let theirs = crate::harness::run(std::process::Command::new("sha256sum").arg(&csv))?;
    let theirs = theirs
        .stdout
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    sum("sha256sum 'inbox/orders_20261101.csv'")?
        .expect_code(0)?
        .expect_stdout(&theirs)?;
    for (command, why) in [
        ("sha256sum inbox/a.bin", "digested with BLAKE3"),
        ("b3sum inbox/orders_20261101.csv", "digested with SHA-256"),
        ("sha256sum inbox/none.bin", "no file"),
        ("sha256sum", "needs the name of a file"),
    ] {
        let ran = sum(command)?.expect_code(1)?.expect_stderr(why)?;
        assert_eq!(ran.stdout, "", "{command}");
    }
    // The same by SFTP, and in the receipt.
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let check = |name: &[u8], algorithms: &[u8]| {
        [
            string(b"check-file-name"),
            string(name),
            string(algorithms),
            vec![0; 8 + 8 + 4],
        ]
        .concat()
    };
    let told = sftp.ask(raw::EXTENDED, &[&check(b"/inbox/a.bin", b"md5,blake3")])?;
    let digest = data_encoding::HEXLOWER.encode(&told.body[told.body.len() - 32..]);
    assert_eq!((told.kind, digest.as_str()), (201, blake3), "{told:?}");
    let other = sftp.ask(raw::EXTENDED, &[&check(b"/inbox/a.bin", b"sha256")])?;
    assert_eq!(other.status()?, 8, "{other:?}");
    let item = gateway.submissions()?;
    let of_bin = item.iter().find(|item| item["file"] == "a.bin");
    assert_eq!(of_bin.ok_or("not listed")?["blake3"], blake3);
    Ok(())
}

fn opaque() -> Verdict {
    let mut gateway = Gateway::start_with(|home| with_bin(home, ""))?;
    // One that stays in its ledger row, one that has a file in the spool.
    let contents = [bytes(10_000), bytes(5_000_003)];
    let lake = gateway.home().join("lake");
    let aside = gateway.home().join("lake-aside");
    fs::rename(&lake, &aside)?;
    for (n, content) in contents.iter().enumerate() {
        let file = gateway.local(&format!("{n}.bin"), content)?;
        gateway
            .sftp(&format!("put {} inbox/\n", file.display()))?
            .expect_code(0)?
            .expect_stderr("ACCEPTED")?;
    }
    gateway.kill()?;
    fs::rename(&aside, &lake)?;
    gateway.serve()?;
    for n in 0..contents.len() {
        gateway.wait_state(&format!("{n}.bin"), "delivered")?;
    }
    let mut objects: Vec<Vec<u8>> = gateway.objects()?.into_iter().map(|o| o.1).collect();
    objects.sort_by_key(Vec::len);
    assert!(
        objects == contents,
        "what lies in the lake is not what was sent"
    );
    gateway.wait_until("an empty spool", || {
        Ok(files_below(&gateway.home().join("state/spool"))?.is_empty())
    })
}
