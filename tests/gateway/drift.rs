//! Columns that change: seen in what partners send, told, and adopted.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Failed, Gateway, Verdict, orders};
use crate::quarantine::under;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "columns that change are told over time, and the next policy agrees to them",
        Needs::OpenSsh,
        adopted,
    ),
    (
        "a column that is dropped is told to its sender, and labels that may be values to nobody",
        Needs::OpenSsh,
        dropped,
    ),
];

/// A column more, one with another label, and two that have changed places.
fn changed(rows: u32) -> String {
    let text = orders(rows);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let mut out = format!("{},tier\n", head.replace("country", "Country_Code"));
    for line in lines {
        let more = if line.starts_with("TRL") { "" } else { ",gold" };
        out.push_str(line);
        out.push_str(more);
        out.push('\n');
    }
    out
}

fn drift(gateway: &Gateway) -> Result<(i32, Vec<serde_json::Value>), Failed> {
    let ran = gateway.cli(&["policy", "drift", "acme", "--json"])?;
    let found: Vec<serde_json::Value> = serde_json::from_str(&ran.stdout)?;
    Ok((ran.code, found))
}

fn adopted() -> Verdict {
    let gateway = Gateway::start()?;
    assert_eq!(drift(&gateway)?, (0, Vec::new()));
    let put = |name: &str, text: String| {
        let file = gateway.local(name, text)?;
        gateway.sftp(&format!("put {} inbox/\n", file.display()))
    };
    for (name, rows) in [("orders_20261120.csv", 3), ("orders_20261121.csv", 4)] {
        put(name, changed(rows))?
            .expect_code(1)?
            .expect_stderr("REJECTED")?;
    }
    let (code, found) = drift(&gateway)?;
    assert_eq!(code, 1);
    let told: Vec<_> = found
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            let files = one["files"].as_u64().unwrap_or_default();
            (
                text("kind"),
                text("column"),
                text("now"),
                files,
                one["open"] == true,
            )
        })
        .collect();
    let expect = [
        ("added", "tier", "", 2, true),
        ("renamed", "country", "Country_Code", 2, true),
    ];
    let expect = expect.map(|(kind, column, now, files, open)| {
        (
            kind.to_owned(),
            column.to_owned(),
            now.to_owned(),
            files,
            open,
        )
    });
    assert_eq!(told, expect);
    let table = gateway.cli(&["policy", "drift"])?.expect_code(1)?;
    assert!(
        table.stdout.contains("renamed: Country_Code ("),
        "{table:?}"
    );
    // Nothing is written before somebody has seen it.
    let path = gateway.home().join("policies/acme.toml");
    let before = fs::read_to_string(&path)?;
    let approve = ["policy", "drift", "approve", "acme/orders"];
    gateway
        .cli(&[&approve[..], &["--dry-run"]].concat())?
        .expect_code(0)?
        .expect_stderr("left to you: country renamed: Country_Code")?
        .expect_stdout("tier")?;
    assert_eq!(fs::read_to_string(&path)?, before);
    gateway
        .cli(&[&approve[..], &["nothing", "--yes"]].concat())?
        .expect_code(3)?
        .expect_stderr("nothing is open about the column nothing")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
    gateway
        .cli(&[&approve[..], &["tier", "country", "--yes"]].concat())?
        .expect_code(0)?
        .expect_stderr("a new column is forwarded as it comes")?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o640);
    let after = fs::read_to_string(&path)?;
    let new: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    assert_eq!(new.len(), 3, "{new:?}");
    gateway.wait_until("the next policy", || Ok(gateway.log().contains("tier")))?;
    put("orders_20261122.csv", changed(5))?
        .expect_code(0)?
        .expect_stderr("ACCEPTED")?;
    let (code, found) = drift(&gateway)?;
    assert_eq!(code, 0, "{found:?}");
    assert_eq!(found.len(), 2);
    gateway
        .cli(&approve)?
        .expect_code(0)?
        .expect_stderr("nothing is open")?;
    // A column of another type in one file is open until somebody says that it was a mistake.
    let typed = changed(20).replace(",1.25,", ",x,");
    put("orders_20261123.csv", typed)?.expect_code(1)?;
    let (_, found) = drift(&gateway)?;
    let retyped = found.iter().find(|one| one["kind"] == "type_changed");
    let column = retyped.and_then(|one| one["column"].as_str());
    let column = column.ok_or(format!("{found:?}"))?;
    let dismiss = ["policy", "drift", "dismiss", "acme/orders", column];
    gateway.cli(&dismiss)?.expect_code(0)?;
    gateway
        .cli(&dismiss)?
        .expect_code(3)?
        .expect_stderr("nothing was seen of the column")?;
    let (_, found) = drift(&gateway)?;
    assert!(
        found.iter().all(|one| one["kind"] != "type_changed"),
        "{found:?}"
    );
    Ok(())
}

fn dropped() -> Verdict {
    let gateway = Gateway::start_with(|home| {
        let path = home.join("policies/acme.toml");
        let text = fs::read_to_string(&path)?;
        fs::write(&path, text.replace("extra_columns = \"reject\"", ""))?;
        under(home, "[feed.schema]", "extra_columns = \"drop\"")
    })?;
    let text = orders(12)
        .replacen(
            '\n',
            ",ann@mail.example,DE89370400440532013000,loyalty\n",
            1,
        )
        .replace(".00,", ".x,");
    let mut wider = String::new();
    for (at, line) in text.lines().enumerate() {
        let is_row = at > 0 && !line.starts_with("TRL");
        let more = if is_row { ",1,2,3" } else { "" };
        writeln!(wider, "{line}{more}")?;
    }
    let file = gateway.local("orders_20261120.csv", wider)?;
    let ran = gateway.sftp(&format!("put {} inbox/\n", file.display()))?;
    let (_, found) = drift(&gateway)?;
    let columns: Vec<_> = found.iter().map(|one| one["column"].as_str()).collect();
    assert!(columns.contains(&Some("loyalty")), "{columns:?} {ran:?}");
    let everything = format!("{found:?} {}", gateway.log());
    assert!(!everything.contains("mail.example"), "{everything}");
    assert!(
        !everything.contains("DE89370400440532013000"),
        "{everything}"
    );
    // A label that would turn the line is shown as what it is.
    let path = gateway.home().join("policies/acme.toml");
    let policy = fs::read_to_string(&path)?;
    let asks = "extra_columns = \"reject\"\nfields_match = \"exact\"";
    fs::write(&path, policy.replace("extra_columns = \"drop\"", asks))?;
    let screen = orders(2).replacen('\n', ",a\u{202e}b\n", 1);
    let file = gateway.local("orders_20261121.csv", screen)?;
    gateway
        .sftp(&format!("put {} inbox/\n", file.display()))?
        .expect_code(1)?;
    let label = "a\u{202e}b";
    let approve = ["policy", "drift", "approve", "acme/orders", label, "--yes"];
    for (command, says) in [
        (
            &["policy", "drift"][..],
            "next: sallyport policy drift approve",
        ),
        (
            &approve,
            "the contract asks for an order, in which a\\u{202e}b has no place",
        ),
    ] {
        let ran = gateway.cli(command)?.expect_stderr(says)?;
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            all.contains("a\\u{202e}b") && !all.contains('\u{202e}'),
            "{ran:?}"
        );
    }
    let shown = gateway.cli(&["submission", "list"])?;
    assert!(shown.stdout.contains("orders_20261120.csv"), "{shown:?}");
    Ok(())
}
