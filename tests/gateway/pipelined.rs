//! What no stock client sends, but a conforming one may: pipelines, gaps, rewrites.

use crate::harness::raw::{self, RawSftp, string};
use crate::harness::{Gateway, Verdict, orders};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a write pipelined behind an fsync is not lost",
        Needs::OpenSsh,
        behind_fsync,
    ),
    (
        "a file with a refused write is not accepted when it is cut back and closed",
        Needs::OpenSsh,
        refused_write,
    ),
    (
        "a file with a gap is refused as incomplete",
        Needs::OpenSsh,
        gap,
    ),
    (
        "writes in any order, overlapping, give the file they add up to",
        Needs::OpenSsh,
        any_order,
    ),
    (
        "an fsync that was answered survives kill -9, although the file is small",
        Needs::OpenSsh,
        synced,
    ),
    (
        "an incomplete file past verdict.wait is refused at its close, and the receipt says why",
        Needs::OpenSsh,
        incomplete_and_late,
    ),
];

/// WRITE, CREATE, TRUNC.
const PUT: u32 = 0x02 | 0x08 | 0x10;

fn behind_fsync() -> Verdict {
    let gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let text = orders(4);
    let (first, second) = text.as_bytes().split_at(120);
    let handle = sftp.open_file("/inbox/orders_20261020.csv", PUT)?;
    let burst = [
        sftp.request(raw::WRITE, &[&handle, &0_u64.to_be_bytes(), &string(first)]),
        sftp.request(raw::EXTENDED, &[&string(b"fsync@openssh.com"), &handle]),
        sftp.request(
            raw::WRITE,
            &[&handle, &120_u64.to_be_bytes(), &string(second)],
        ),
        sftp.request(raw::CLOSE, &[&handle]),
    ];
    sftp.send(
        &burst
            .iter()
            .flat_map(|(_, bytes)| bytes.clone())
            .collect::<Vec<_>>(),
    )?;
    for _ in 0..4 {
        let reply = sftp.reply()?;
        assert_eq!(reply.status()?, 0, "{reply:?}");
    }
    gateway.wait_state("orders_20261020.csv", "delivered")?;
    let objects = gateway.objects()?;
    assert_eq!(String::from_utf8_lossy(&objects[0].1).lines().count(), 5);
    Ok(())
}

fn refused_write() -> Verdict {
    let gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    // Good rows up to a line end, without the trailer: what is left would be a whole good file
    // with the trailer that follows below.
    let good = orders(4_000);
    let handle = sftp.open_file("/inbox/orders_20261021.csv", PUT)?;
    let mut offset = 0_u64;
    for piece in good.as_bytes().chunks(32_000) {
        let reply = sftp.ask(
            raw::WRITE,
            &[&handle, &offset.to_be_bytes(), &string(piece)],
        )?;
        assert_eq!(reply.status()?, 0, "{reply:?}");
        offset += u64::try_from(piece.len())?;
    }
    let whole = offset;
    // Then rubbish until the inspection behind has seen it and a WRITE is refused.
    let rubbish = "\"x\"y,\n".repeat(60_000);
    let mut refused = false;
    for _ in 0..2_000 {
        let reply = sftp.ask(
            raw::WRITE,
            &[
                &handle,
                &offset.to_be_bytes(),
                &string(&rubbish.as_bytes()[..60_000]),
            ],
        )?;
        if reply.status()? != 0 {
            refused = true;
            break;
        }
        offset += 60_000;
    }
    assert!(refused, "the fault was never noticed");
    let size = [&1_u32.to_be_bytes()[..], &whole.to_be_bytes()[..]].concat();
    assert_eq!(sftp.ask(raw::FSETSTAT, &[&handle, &size])?.status()?, 0);
    let reply = sftp.ask(raw::CLOSE, &[&handle])?;
    assert_eq!(
        reply.status()?,
        4,
        "a file with a refused write was accepted: {reply:?}"
    );
    assert_eq!(gateway.objects()?, Vec::new());
    Ok(())
}

fn gap() -> Verdict {
    let gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let text = orders(2);
    let handle = sftp.open_file("/inbox/orders_20261022.csv", PUT)?;
    let fields = [&handle[..], &0_u64.to_be_bytes(), &string(text.as_bytes())];
    assert_eq!(sftp.ask(raw::WRITE, &fields)?.status()?, 0);
    let fields = [&handle[..], &5_000_u64.to_be_bytes(), &string(b"more")];
    assert_eq!(sftp.ask(raw::WRITE, &fields)?.status()?, 0);
    let reply = sftp.ask(raw::CLOSE, &[&handle])?;
    assert_eq!(reply.status()?, 4, "{reply:?}");
    assert!(
        String::from_utf8_lossy(&reply.body).contains("incomplete"),
        "{reply:?}"
    );
    assert_eq!(gateway.objects()?, Vec::new());
    Ok(())
}

fn any_order() -> Verdict {
    let gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let text = orders(3_000);
    let bytes = text.as_bytes();
    let handle = sftp.open_file("/inbox/orders_20261023.csv", PUT)?;
    // From the back to the front, every piece reaching 500 bytes into the next, the overlap first
    // written wrong.
    let starts: Vec<usize> = (0..bytes.len()).step_by(20_000).collect();
    for start in starts.iter().rev() {
        let end = (start + 20_500).min(bytes.len());
        let mut piece = bytes[*start..end].to_vec();
        let wrong = piece.len().saturating_sub(500);
        let true_tail = piece[wrong..].to_vec();
        piece[wrong..].fill(b'#');
        let offset = u64::try_from(*start)?;
        assert_eq!(
            sftp.ask(
                raw::WRITE,
                &[&handle, &offset.to_be_bytes(), &string(&piece)]
            )?
            .status()?,
            0
        );
        let offset = u64::try_from(start + wrong)?;
        assert_eq!(
            sftp.ask(
                raw::WRITE,
                &[&handle, &offset.to_be_bytes(), &string(&true_tail)]
            )?
            .status()?,
            0
        );
    }
    let reply = sftp.ask(raw::CLOSE, &[&handle])?;
    assert_eq!(reply.status()?, 0, "{reply:?}");
    gateway.wait_state("orders_20261023.csv", "delivered")?;
    assert_eq!(
        String::from_utf8_lossy(&gateway.objects()?[0].1)
            .lines()
            .count(),
        3_001
    );
    Ok(())
}

fn synced() -> Verdict {
    let mut gateway = Gateway::start()?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    let handle = sftp.open_file("/inbox/orders_20261024.csv", PUT)?;
    let text = orders(3);
    let fields = [&handle[..], &0_u64.to_be_bytes(), &string(text.as_bytes())];
    assert_eq!(sftp.ask(raw::WRITE, &fields)?.status()?, 0);
    let reply = sftp.ask(raw::EXTENDED, &[&string(b"fsync@openssh.com"), &handle])?;
    assert_eq!(reply.status()?, 0, "{reply:?}");
    gateway.kill()?;
    gateway.serve()?;
    gateway.wait_state("orders_20261024.csv", "interrupted")?;
    let file = gateway.local("orders_20261024.csv", &text)?;
    let ran = gateway.sftp("ls -ln inbox\n")?.expect_code(0)?;
    let size = text.len().to_string();
    assert!(
        ran.stdout.contains(&size),
        "{size} bytes were synced: {ran:?}"
    );
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(0)?;
    Ok(())
}

fn incomplete_and_late() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let config = home.join("sallyport.toml");
        let text = std::fs::read_to_string(&config)?;
        let late = text.replace("#wait = \"10s\"", "wait = \"1ms\"");
        assert!(late.contains("wait = \"1ms\""), "{late}");
        Ok(std::fs::write(config, late)?)
    })?;
    let mut sftp = RawSftp::open(&gateway, &[])?;
    // Large enough that a millisecond does not see the end of its inspection.
    let text = orders(150_000);
    let handle = sftp.open_file("/inbox/orders_20261025.csv", PUT)?;
    let mut offset = 0_u64;
    for piece in text.as_bytes().chunks(32_000) {
        let bytes = [&handle, &offset.to_be_bytes()[..], &string(piece)].concat();
        let reply = sftp.ask(raw::WRITE, &[&bytes])?;
        assert_eq!(reply.status()?, 0, "{reply:?}");
        offset += u64::try_from(piece.len())?;
    }
    // The client says that there is more than it sent.
    let more = [&1_u32.to_be_bytes()[..], &(offset + 7).to_be_bytes()[..]].concat();
    assert_eq!(sftp.ask(raw::FSETSTAT, &[&handle, &more])?.status()?, 0);
    let reply = sftp.ask(raw::CLOSE, &[&handle])?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status()?, 4, "{text}");
    assert!(
        text.contains("REJECTED incomplete: not every byte arrived; see /receipts"),
        "{text}"
    );
    gateway.wait_state("orders_20261025.csv", "rejected")?;
    gateway
        .sftp("get receipts/latest.txt late.txt\n")?
        .expect_code(0)?;
    let receipt = std::fs::read_to_string(gateway.scratch().join("late.txt"))?;
    let declared = format!("{} bytes were declared, {offset} arrived", offset + 7);
    assert!(receipt.contains(&declared), "{receipt}");
    assert_eq!(gateway.objects()?, Vec::new());
    Ok(())
}
