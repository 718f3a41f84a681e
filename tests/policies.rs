//! Policies as their authors meet them: the shipped ones compile, every mistake is found in its
//! place with its remedy, and no text whatever makes the compiler fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test's helpers fail by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use sallyport::policy::feed::Policy;
use sallyport::policy::lists::Lists;
use sallyport::policy::mistake::{Mistake, Severity};
use sallyport::policy::{changes, compile, describe, fuzz_policy_text};
use sallyport::terms::codes;
use sallyport::terms::ids::SubmissionId;
use sallyport::terms::verdict::Verdict;

/// A small policy without a mistake; the tables below break it in one place each.
const BASE: &str = r#"version = 1

[partner]
id = "acme"
allow_from = ["198.51.100.0/24"]
contacts = [{ email = "edi@acme.example" }]

[access]
inbox = ["/inbox"]

[[feed]]
id = "orders"
match = 'orders_(?<day>\d{8})\.csv'
store = "lake"
key = "acme/day={day}/{submission}.csv"
format = { type = "csv" }

[feed.schema]
columns = [
  { name = "order_id", type = "string", required = true },
  { name = "amount", type = "decimal(12,2)" },
  { name = "email", type = "string", format = "email", token = { domain = "email" } },
  { name = "born", type = "date", formats = ["%Y-%m-%d"] },
  { name = "paid", type = "boolean" },
]
primary_key = ["order_id"]

[feed.control]
trailer = 'TRL,(?<rows>\d+),(?<total>[\d.]+)'
rows = "{rows}"
sum.amount = "{total}"

[[feed.test]]
file = "acme/orders_20261120.csv"
expect = "accepted"
"#;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"))
}

/// The shipped policies, by file name.
fn shipped() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn pictures(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::render).collect()
}

#[track_caller]
fn compiled(file: &str, text: &str) -> Policy {
    match compile(file, text, &Lists::default()) {
        Ok((policy, _)) => policy,
        Err(mistakes) => panic!("{}", pictures(&mistakes)),
    }
}

/// Errors and warnings alike.
fn mistakes_of(text: &str) -> Vec<Mistake> {
    match compile("acme.toml", text, &Lists::default()) {
        Ok((_, warnings)) => warnings,
        Err(mistakes) => mistakes,
    }
}

/// Puts `to` in the place of `from` in [`BASE`]: there must be one mistake, of this code, where
/// the text then has its `@@`, with `hint` under the carets.
#[track_caller]
fn check(from: &str, to: &str, code: &str, hint: &str) {
    assert_eq!(BASE.matches(from).count(), 1, "{from}");
    let marked = BASE.replacen(from, to, 1);
    let (before, after) = marked.split_once("@@").expect("no mark");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    let mistakes = mistakes_of(&format!("{before}{after}"));
    let picture = pictures(&mistakes);
    assert_eq!(mistakes.len(), 1, "{picture}");
    let mistake = &mistakes[0];
    assert_eq!(mistake.code, code, "{picture}");
    assert_eq!((mistake.line, mistake.column), (line, column), "{picture}");
    let label = mistake.label.as_deref().unwrap_or_default();
    assert!(label.contains(hint), "{picture}");
}

/// The same for a line more in the feed.
#[track_caller]
fn check_in_feed(line: &str, code: &str, hint: &str) {
    check("[[feed]]\n", &format!("[[feed]]\n{line}\n"), code, hint);
}

// === shipped policies ===

#[test]
fn every_shipped_policy_compiles_without_a_warning() {
    let files = shipped();
    assert!(files.len() >= 2);
    for (file, text) in files {
        let (policy, warnings) = compile(&file, &text, &Lists::default())
            .unwrap_or_else(|mistakes| panic!("{}", pictures(&mistakes)));
        assert!(warnings.is_empty(), "{}", pictures(&warnings));
        assert_eq!(format!("{}.toml", policy.partner), file);
    }
}

#[test]
fn every_shipped_feed_has_tests_with_files_and_every_sample_has_a_test() {
    for (file, text) in shipped() {
        let policy = compiled(&file, &text);
        let mut used = BTreeSet::new();
        for feed in &policy.feeds {
            assert!(feed.example.is_some(), "{file} {}", feed.id);
            assert!(
                feed.tests
                    .iter()
                    .any(|test| test.expect == Verdict::Accepted)
            );
            for test in &feed.tests {
                assert!(folder().join(&test.file).is_file(), "{}", test.file);
                used.insert(test.file.clone());
            }
        }
        let samples = folder().join(policy.partner.as_str());
        for sample in std::fs::read_dir(samples).unwrap() {
            let name = sample.unwrap().file_name().into_string().unwrap();
            assert!(
                used.contains(&format!("{}/{name}", policy.partner)),
                "{name}"
            );
        }
    }
}

#[test]
fn the_orders_feed_is_what_the_guide_shows() {
    let text = std::fs::read_to_string(folder().join("acme.toml")).unwrap();
    let policy = compiled("/etc/sallyport/policies/acme.toml", &text);
    assert_eq!(policy.version, 3);
    assert_eq!(policy.help.as_deref(), Some("edi-support@example.com"));
    let feed = policy.feed_for("orders_20261121.csv").unwrap();
    assert_eq!(feed.example.as_deref(), Some("orders_20261120.csv"));
    for name in [
        "orders_20261121.csv.bak",
        "xorders_20261121.csv",
        "orders_2026112.csv",
        "orders_\u{662}\u{660}261121.csv",
    ] {
        assert!(policy.feed_for(name).is_none(), "{name}");
    }
    let domains: Vec<String> = feed
        .contract
        .domains()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(domains, ["email", "iban"]);
}

// === all mistakes, each in its place ===

#[test]
fn the_base_of_these_tests_has_no_mistake() {
    assert!(
        mistakes_of(BASE).is_empty(),
        "{}",
        pictures(&mistakes_of(BASE))
    );
}

#[test]
fn unknown_keys_are_found_with_their_nearest_spelling() {
    let code = "policy.unknown-key";
    check_in_feed("@@stor = \"x\"", code, "did you mean `store`?");
    check(
        "required = true",
        "required = true, @@uniqe = true",
        code,
        "did you mean `unique`?",
    );
    check(
        "token = { domain",
        "token = { @@knid = \"cmac\", domain",
        code,
        "did you mean `kind`?",
    );
    check(
        "[feed.control]",
        "[feed.@@kontrol]\nrows = 1\n[feed.control]",
        code,
        "did you mean `control`?",
    );
    check(
        "id = \"acme\"",
        "id = \"acme\"\n@@primary_key = []",
        code,
        "belongs under [feed.schema]",
    );
    check("[access]", "@@zzz = 1\n[access]", code, "");
}

#[test]
fn missing_keys_are_asked_for_with_an_example() {
    let code = "policy.missing-key";
    check("version = 1\n", "@@\n", code, "add version = 1");
    check(
        "[partner]\nid = \"acme\"",
        "@@[partner]",
        code,
        "add id = \"acme\"",
    );
    check(
        "[[feed]]\nid = \"orders\"",
        "@@[[feed]]",
        code,
        "add id = \"orders\"",
    );
    check(
        "{ email = \"edi@acme.example\" }",
        "@@{ name = \"EDI\" }",
        code,
        "add email = ",
    );
    check(
        "{ name = \"born\", type = \"date\", formats = [\"%Y-%m-%d\"] }",
        "@@{ name = \"born\" }",
        code,
        "add type = ",
    );
    check(
        "token = { domain = \"email\" }",
        "token = @@{ kind = \"hmac\" }",
        code,
        "add domain = \"email\"",
    );
    check(
        "[[feed.test]]\nfile = \"acme/orders_20261120.csv\"\nexpect = \"accepted\"\n",
        "@@[[feed.test]]\nfile = \"acme/orders_20261120.csv\"\n",
        code,
        "add expect = ",
    );
}

#[test]
fn values_of_the_wrong_type_say_how_to_write_them() {
    let code = "policy.wrong-type";
    check(
        "version = 1",
        "version = @@\"1\"",
        code,
        "write 1, without quotes",
    );
    check(
        "inbox = [\"/inbox\"]",
        "inbox = @@\"/inbox\"",
        code,
        "write [\"/inbox\"]",
    );
    check("\"lake\"", "@@7", code, "put it in quotes");
    check(
        "required = true",
        "required = @@\"true\"",
        code,
        "write true, without quotes",
    );
    check_in_feed("max_size = @@5000", code, "say the unit: \"5000 B\"");
    check_in_feed("bom = @@[\"strip\"]", code, "expected a string");
    let single = BASE.replace("[[feed]]", "[feed]");
    let mistakes = mistakes_of(&single);
    assert_eq!(mistakes[0].code, code, "{}", pictures(&mistakes));
    assert_eq!(mistakes[0].label.as_deref(), Some("write [[feed]]"));
}

#[test]
fn bad_values_show_a_good_one() {
    let code = "policy.bad-value";
    check_in_feed("max_size = @@\"5 gb\"", code, "did you mean \"5 GB\"?");
    check_in_feed("max_size = @@\"0 B\"", code, "must be 1 B to 5 TB");
    check_in_feed(
        "keep_rejected = @@\"0 days\"",
        code,
        "the unit must be one of",
    );
    check("\"lake\"", "@@\"The Lake\"", code, "1 to 64 of a-z 0-9 - _");
    check("version = 1", "version = @@0", code, "");
    check(
        "\"198.51.100.0/24\"",
        "@@\"198.51.100.7/24\"",
        code,
        "\"198.51.100.0/24\"",
    );
    check(
        "\"198.51.100.0/24\"",
        "@@\"198.51.100.7\"",
        code,
        "write \"198.51.100.7/32\"",
    );
    check(
        "\"edi@acme.example\"",
        "@@\"EDI desk\"",
        code,
        "edi@acme.example",
    );
    check(
        "[\"/inbox\"]",
        "[@@\"/receipts\"]",
        code,
        "folder of this name",
    );
    check("[\"/inbox\"]", "[@@\"inbox/\"]", code, "write \"/inbox\"");
    check(
        "\"decimal(12,2)\"",
        "@@\"decimal(12,20)\"",
        code,
        "S of them after the point",
    );
    check(
        "{ type = \"csv\" }",
        "{ type = \"csv\", delimiter = @@\";;\" }",
        code,
        "as in \";\"",
    );
    check(
        "\"acme/orders_20261120.csv\"",
        "@@\"../orders_20261120.csv\"",
        code,
        "acme/orders_20261120.csv",
    );
    check(
        "domain = \"email\" }",
        "domain = \"email\", keep = @@\"last4\" }",
        code,
        "\"last:N\"",
    );
}

#[test]
fn unknown_words_are_found_with_their_nearest_spelling() {
    let code = "policy.unknown-word";
    check_in_feed("same_name = @@\"replce\"", code, "did you mean `replace`?");
    check_in_feed(
        "same_name = @@\"overwrite\"",
        code,
        "one of replace, reject, allow",
    );
    check("\"boolean\"", "@@\"bool\"", code, "did you mean `boolean`?");
    check(
        "\"boolean\"",
        "@@\"timestamp\"",
        code,
        "did you mean `datetime`?",
    );
    check(
        "format = \"email\"",
        "format = @@\"e-mail\"",
        code,
        "did you mean `email`?",
    );
    check(
        "expect = \"accepted\"",
        "expect = \"rejected\"\ncodes = [@@\"type-eror\"]",
        code,
        "did you mean `type-error`?",
    );
}

#[test]
fn a_lookup_names_a_list_that_can_be_used() {
    let lists = Lists::new([
        ("countries.txt".to_owned(), Ok(b"DE\nAT\n".to_vec())),
        ("empty.txt".to_owned(), Ok(Vec::new())),
        ("skus.csv".to_owned(), Ok(b"sku,title\nA,b\n".to_vec())),
    ]);
    let with = |lookup: &str, kind: &str| {
        let column =
            format!("columns = [\n  {{ name = \"x\", type = \"{kind}\", lookup = {lookup} }},");
        let text = BASE.replacen("columns = [", &column, 1);
        compile("acme.toml", &text, &lists)
    };
    let hash = |lookup| with(lookup, "string").unwrap().0.hash;
    let countries = hash("\"countries.txt\"");
    assert_ne!(countries, hash("{ list = \"skus.csv\", column = \"sku\" }"));
    for (lookup, kind, code, says) in [
        (
            "\"countrys.txt\"",
            "string",
            "policy.list",
            "did you mean `countries.txt`?",
        ),
        (
            "\"empty.txt\"",
            "string",
            "policy.list",
            "cannot be used: it has no value in it",
        ),
        (
            "\"skus.csv\"",
            "string",
            "policy.bad-value",
            "a table needs to be told which column",
        ),
        (
            "{ list = \"skus.csv\", column = \"skuu\" }",
            "string",
            "policy.list",
            "did you mean `sku`?",
        ),
        (
            "{ list = \"countries.txt\", column = \"sku\" }",
            "string",
            "policy.bad-value",
            "only a table (*.csv) has columns",
        ),
        (
            "{ column = \"sku\" }",
            "string",
            "policy.missing-key",
            "list = \"skus.csv\"",
        ),
        (
            "\"countries.txt\"",
            "date",
            "policy.conflict",
            "says nothing about a date column",
        ),
    ] {
        let mistakes = with(lookup, kind).unwrap_err();
        let picture = pictures(&mistakes);
        assert_eq!((mistakes.len(), mistakes[0].code), (1, code), "{picture}");
        assert!(picture.contains(says), "{picture}");
    }
}

#[test]
fn a_tolerance_is_exact_and_stands_beside_no_split() {
    let bears = |line: &str, bad, rows| {
        let text = BASE.replacen("[[feed]]\n", &format!("[[feed]]\n{line}\n"), 1);
        let policy = compiled("acme.toml", &text);
        policy.feeds[0].contract.tolerance.bears(bad, rows)
    };
    let share = "tolerance = { share = 0.000001 }";
    assert!(bears(share, 1, 1_000_000) && !bears(share, 1, 999_999));
    assert!(bears(share, 0, 0) && !bears(share, 2, 1_999_999));
    let rows = "tolerance = { rows = 2 }";
    assert!(bears(rows, 2, 2) && !bears(rows, 3, u64::MAX));
    let both = "tolerance = { rows = 2, share = 1 }";
    assert!(bears(both, 2, 2) && !bears(both, 3, 9));
    assert!(bears("tolerance = { share = 1.0 }", u64::MAX, u64::MAX));
    for nothing in [
        "tolerance = { rows = 0, share = 0.0 }",
        "tolerance = {}",
        "",
    ] {
        assert!(!bears(nothing, 1, u64::MAX), "{nothing}");
    }
    let bad = "policy.bad-value";
    for share in ["1.1", "2", "-0.1", "0.0000001", "1e-2", "inf", "1_0.0"] {
        let line = format!("tolerance = {{ share = @@{share} }}");
        check_in_feed(&line, bad, "at most six digits after the point");
    }
    check_in_feed("tolerance = { share = @@\"1\" }", "policy.wrong-type", "");
    check_in_feed(
        "on_finding = \"split\"\n@@tolerance = { rows = 1 }",
        "policy.conflict",
        "on_finding = \"reject\"",
    );
}

#[test]
fn an_outbox_is_a_folder_of_a_store() {
    let outbox = |value: &str, code, hint| {
        let to = format!("[access]\noutbox = {value}\n");
        check("[access]\n", &to, code, hint);
    };
    let bad = "policy.bad-value";
    for prefix in ["", "/", "to-acme", "/to-acme/", "a/../b/", "a//", "./"] {
        let value = format!("{{ store = \"lake\", prefix = @@\"{prefix}\" }}");
        outbox(&value, bad, "as in \"to-acme/\"");
    }
    outbox(
        "@@{ store = \"lake\" }",
        "policy.missing-key",
        "prefix = \"to-acme/\"",
    );
    outbox("{ store = @@\"Lake!\", prefix = \"to-acme/\" }", bad, "");
    let good = BASE.replacen(
        "[access]\n",
        "[access]\noutbox = { store = \"lake\", prefix = \"to/acme/\" }\n",
        1,
    );
    let (policy, _) = compile("acme.toml", &good, &Lists::default()).unwrap();
    assert_eq!(policy.outbox.unwrap().prefix, "to/acme/");
}

#[test]
fn old_algorithms_are_for_named_networks_and_until_a_day() {
    let legacy = |value: &str, code, hint| {
        let to = format!("[access]\nlegacy = {value}\n");
        check("[access]\n", &to, code, hint);
    };
    let bad = "policy.bad-value";
    legacy(
        "{ until = @@\"soon\", algorithms = [\"ssh-rsa\"] }",
        bad,
        "until = 2027-03-31",
    );
    legacy(
        "{ until = @@2027-03-31T10:00:00Z, algorithms = [\"ssh-rsa\"] }",
        bad,
        "until = 2027-03-31",
    );
    legacy(
        "{ until = @@3, algorithms = [\"ssh-rsa\"] }",
        "policy.wrong-type",
        "",
    );
    legacy(
        "{ until = 2027-03-31, algorithms = [@@\"ssh-dss\"] }",
        "policy.unknown-word",
        "ssh-rsa",
    );
    legacy("@@{ until = 2027-03-31 }", "policy.missing-key", "ssh-rsa");
    let anywhere = |text: &str| {
        let to = "[access]\nlegacy = { until = 2027-03-31, algorithms = [\"ssh-rsa\"] }\n";
        mistakes_of(&text.replacen("[access]\n", to, 1))
    };
    let from = BASE.lines().find(|line| line.starts_with("allow_from"));
    let open = BASE.replacen(from.expect("BASE names networks"), "", 1);
    assert_eq!(anywhere(BASE).len(), 0);
    assert_eq!(anywhere(&open)[0].code, "policy.conflict");
}

#[test]
fn what_means_nothing_for_json_is_refused() {
    let code = "policy.conflict";
    let csv = BASE.lines().find(|line| line.starts_with("format"));
    let csv = csv.expect("BASE names a format");
    let found = |schema: &str, format: &str| {
        let text = BASE.replacen(csv, &format!("format = {{ type = \"ndjson\"{format} }}"), 1);
        let text = text.replacen("[feed.schema]\n", &format!("[feed.schema]\n{schema}\n"), 1);
        let mistakes = mistakes_of(&text);
        assert!(mistakes.iter().all(|one| one.code == code), "{mistakes:?}");
        let messages = mistakes.into_iter().map(|one| one.message);
        messages.collect::<Vec<_>>().join("; ")
    };
    assert_eq!(found("", ""), "JSON has no last line with control totals");
    for (schema, format, why) in [
        ("", ", delimiter = \";\"", "so `delimiter` says nothing"),
        ("fields_match = \"exact\"", "", "have no order"),
    ] {
        let found = found(schema, format);
        assert!(found.contains(why), "{found}");
    }
}

#[test]
fn a_mistake_in_a_row_rule_is_shown_at_its_place() {
    let rule = |assert: &str| {
        let rule = format!(
            "[[feed.schema.row_rule]]\nname = \"r\"\nassert = '{assert}'\n\n[feed.control]"
        );
        BASE.replacen("[feed.control]", &rule, 1)
    };
    assert_eq!(mistakes_of(&rule("amount < 5 and paid")).len(), 0);
    for (assert, column, code, hint) in [
        (
            "amuont < 5",
            11,
            "policy.unknown-column",
            "did you mean `amount`?",
        ),
        ("paid and amount = 5", 27, "policy.bad-rule", "write =="),
        (
            "born > \"x\"",
            11,
            "policy.bad-rule",
            "as in \"2026-01-31\"",
        ),
    ] {
        let found = mistakes_of(&rule(assert));
        assert_eq!(
            (found.len(), found[0].code, found[0].column),
            (1, code, column),
            "{found:?}"
        );
        assert!(found[0].render().contains(hint), "{}", found[0].render());
    }
}

#[test]
fn what_is_scanned_is_free_text() {
    let code = "policy.conflict";
    let amount = "@@scan = [\"pan\"], name = \"amount\"";
    check("name = \"amount\"", amount, code, "use type = \"string\"");
    let email = "@@scan = [\"pan\"], token = { domain = \"email\" }";
    check("token = { domain = \"email\" }", email, code, "remove it");
    let schema = "[feed.schema]\n@@on_match = \"redact\"";
    check("[feed.schema]", schema, code, "add scan");
    let schema = "[feed.schema]\nscan = [\"pan\", @@\"ssn\"]";
    check(
        "[feed.schema]",
        schema,
        "policy.unknown-word",
        "one of pan, iban",
    );
}

#[test]
fn encodings_that_cannot_be_told_apart_are_refused_together() {
    let code = "policy.conflict";
    let hint = "a feed for each";
    check_in_feed(
        "encoding = @@[\"windows-1252\", \"iso-8859-15\"]",
        code,
        hint,
    );
    check_in_feed("encoding = @@[\"utf-8\", \"cp037\"]", code, hint);
    let near = "did you mean `windows-1252`?";
    check_in_feed(
        "encoding = [@@\"windows1252\"]",
        "policy.unknown-word",
        near,
    );
    let every = "encoding = [\"utf-8\", \"utf-16\", \"shift_jis\"]";
    let text = BASE.replacen("[[feed]]\n", &format!("[[feed]]\n{every}\n"), 1);
    assert_eq!(mistakes_of(&text).len(), 0);
}

#[test]
fn columns_at_fixed_places_say_where_they_stand() {
    let fixed = |columns: &str, format: &str| {
        let text = format!(
            "version = 1\n[partner]\nid = \"acme\"\nname = \"ACME\"\n[[feed]]\nid = \"stock\"\n\
             match = 'stock\\.txt'\nstore = \"lake\"\nkey = \"a/{{submission}}.csv\"\n\
             format = {{ type = \"fixed\"{format} }}\n[feed.schema]\ncolumns = [\n{columns}\n]\n"
        );
        let mistakes = mistakes_of(&text);
        mistakes
            .iter()
            .map(|mistake| (mistake.code.to_owned(), mistake.message.clone()))
            .collect::<Vec<_>>()
    };
    let two = "{ name = \"a\", type = \"string\", width = 4 },\n\
               { name = \"b\", type = \"string\", start = 7, width = 3 },";
    assert_eq!(fixed(two, ""), []);
    assert_eq!(fixed(two, ", length = 9"), []);
    for (columns, format, code, says) in [
        (
            two,
            ", length = 8",
            "policy.conflict",
            "take 9 characters, a line has 8",
        ),
        (
            two,
            ", delimiter = \";\"",
            "policy.conflict",
            "need no marks",
        ),
        (
            "{ name = \"a\", type = \"string\" },",
            "",
            "policy.missing-key",
            "needs its `width`",
        ),
        (
            "{ name = \"a\", type = \"string\", width = 4 },\n\
             { name = \"b\", type = \"string\", start = 4, width = 3 },",
            "",
            "policy.conflict",
            "ends with character 4",
        ),
        (
            "{ name = \"a\", type = \"string\", width = 2000000 },",
            "",
            "policy.bounds",
            "over the limit of a record",
        ),
    ] {
        let found = fixed(columns, format);
        assert!(
            found
                .iter()
                .any(|(of, told)| of == code && told.contains(says)),
            "{columns}: {found:?}"
        );
    }
    check(
        "type = \"boolean\"",
        "type = \"boolean\", width = @@3",
        "policy.conflict",
        "remove it",
    );
}

#[test]
fn moments_of_two_meanings_are_no_column_of_parquet() {
    let formats = |formats: &str| {
        let text = BASE.replacen(
            "name = \"born\", type = \"date\", formats = [\"%Y-%m-%d\"]",
            &format!("name = \"born\", type = \"datetime\", formats = [{formats}]"),
            1,
        );
        pictures(&mistakes_of(&text.replacen(
            "[[feed]]\n",
            "[[feed]]\noutput = { format = \"parquet\" }\n",
            1,
        )))
    };
    let mixed = formats("\"%Y-%m-%d %H:%M:%S\", \"%Y-%m-%d %H:%M:%S%z\"");
    assert!(
        mixed.contains("column born: some of its formats have an offset"),
        "{mixed}"
    );
    assert_eq!(
        formats("\"%Y-%m-%dT%H:%M:%SZ\", \"%Y-%m-%d %H:%M:%S%z\""),
        ""
    );
}

#[test]
fn integers_that_parquet_cannot_hold_are_refused() {
    let bounded = |bound: &str| {
        let column =
            format!("type = \"integer\", maximum = \"{bound}\" }},\n  {{ name = \"email\"");
        let text = BASE.replacen(
            "type = \"decimal(12,2)\" },\n  { name = \"email\"",
            &column,
            1,
        );
        let text = text.replacen("sum.amount = \"{total}\"", "", 1);
        mistakes_of(&text.replacen(
            "[[feed]]\n",
            "[[feed]]\noutput = { format = \"parquet\" }\n",
            1,
        ))
    };
    let mistakes = bounded("9223372036854775808");
    let picture = pictures(&mistakes);
    assert_eq!(mistakes.len(), 1, "{picture}");
    assert_eq!(mistakes[0].code, "policy.conflict", "{picture}");
    assert!(
        picture.contains("column amount: integers of Parquet have 64 bits"),
        "{picture}"
    );
    assert!(picture.contains("give narrower bounds"), "{picture}");
    assert_eq!(pictures(&bounded("9223372036854775807")), "");
}

#[test]
fn what_this_version_does_not_act_on_is_refused() {
    let code = "policy.not-yet";
    check("domain = \"email\"", "kind = @@\"siv\"", code, "");
    check_in_feed("completeness = @@\"control\"", code, "");
    check_in_feed(
        "completeness = \"rename\"\nquiet_window = @@\"5m\"",
        "policy.conflict",
        "completeness = \"close\"",
    );
    check_in_feed("quiet_window = @@\"2d\"", "policy.bad-value", "1s to 1d");
    check_in_feed("keep_rejected = @@\"3d\"", code, "write \"0d\"");
    check(
        "[feed.control]",
        "[feed.@@sla]\nby = \"07:00\"\n[feed.control]",
        code,
        "",
    );
    check("[access]\n", "[access]\n@@tunnel = []\n", code, "");
    check("\"csv\" }", "\"csv\", strict_quotes = @@false }", code, "");
    check("\"csv\" }", "@@\"orc\" }", code, "");
    check(
        "domain = \"email\"",
        "domain = \"email\", normalise = [@@\"nfc\"]",
        code,
        "",
    );
}

#[test]
fn a_token_kind_of_a_later_version_names_those_of_this_one() {
    for kind in [
        "siv",
        "ff1",
        "vault",
        "truncate",
        "generalise",
        "date-shift",
    ] {
        let rule = format!("kind = \"{kind}\"");
        let mistakes = mistakes_of(&BASE.replace("domain = \"email\"", &rule));
        assert_eq!(mistakes[0].code, "policy.not-yet");
        assert_eq!(
            mistakes[0].help,
            ["this version has: cmac, hmac, mask, redact, drop"]
        );
    }
}

#[test]
fn regular_expressions_point_into_the_pattern() {
    let code = "policy.bad-regex";
    let with = |pattern: &str| format!("required = true, pattern = '{pattern}'");
    check("(?<day>", "@@((?<day>", code, "unclosed group");
    check(
        "required = true",
        &with("O-[@@z-a]"),
        code,
        "invalid character class range",
    );
    check("required = true", &with("a@@)(b"), code, "unopened group");
    check(
        "required = true",
        "required = true, pattern = @@'(.{1000}){1000}'",
        code,
        "too big",
    );
}

#[test]
fn keys_of_objects_are_unique_and_filled() {
    check(
        "day={day}",
        "day=@@{date}",
        "policy.unknown-placeholder",
        "available: day, submission, partner, feed, received",
    );
    check(
        "match = 'orders_(?<day>\\d{8})\\.csv'\nstore = \"lake\"\nkey = \"acme/day={day}",
        "match = @@'orders_(?<feed>\\d{8})\\.csv'\nstore = \"lake\"\nkey = \"acme/day={feed}",
        "policy.duplicate",
        "rename the group",
    );
    let code = "policy.key-template";
    check(
        "\"acme/day={day}/{submission}.csv\"",
        "@@\"acme/day={day}.csv\"",
        code,
        "one name",
    );
    check(
        "{day}/{submission}.csv",
        "{day}/@@{submission}/x.csv",
        code,
        "only an extension may follow",
    );
    check(
        "{day}/{submission}.csv",
        "{day}/@@{submission}_{day}.csv",
        code,
        "only an extension may follow",
    );
    check(
        "day={day}/{submission}",
        "{submission}/@@{submission}",
        code,
        "once, at the end of the stem",
    );
    check("day={day}/", "day=@@}/", code, "placeholders look like");
    check("\"acme/day", "@@\"../acme/day", code, "folders and a name");
    check("\"acme/day", "@@\"/acme/day", code, "folders and a name");
}

#[test]
fn names_that_occur_twice_are_found() {
    let code = "policy.duplicate";
    check(
        "name = \"born\"",
        "name = @@\"order_id\"",
        code,
        "must all be different",
    );
    check(
        "name = \"paid\"",
        "name = \"paid\", aliases = [@@\"email\"]",
        code,
        "must all be different",
    );
    check(
        "[\"/inbox\"]",
        "[\"/inbox\", @@\"/inbox\"]",
        code,
        "a second time",
    );
    check(
        "store = \"lake\"",
        "store = \"lake\"\n@@store = \"lake\"",
        code,
        "a second time",
    );
    check(
        "primary_key = [\"order_id\"]",
        "primary_key = [\"order_id\", @@\"order_id\"]",
        code,
        "a second time",
    );
    check(
        "\"boolean\"",
        "\"boolean\", true_values = [\"1\"], false_values = [@@\"1\"]",
        code,
        "keep it in one list",
    );
}

#[test]
fn a_second_feed_of_the_same_id_is_found() {
    let feed = &BASE[BASE.find("[[feed]]").unwrap()..];
    let (_, rest) = feed.split_once("[[feed.test]]").unwrap();
    let untested = feed.replace(&format!("[[feed.test]]{rest}"), "");
    let mistakes = mistakes_of(&format!("{BASE}{untested}"));
    let found: Vec<&str> = mistakes.iter().map(|m| m.code).collect();
    assert_eq!(found, ["policy.duplicate"], "{}", pictures(&mistakes));
    assert_eq!(mistakes[0].line, BASE.matches('\n').count() + 2);
}

#[test]
fn labels_that_header_match_makes_equal_are_duplicates() {
    let text = BASE
        .replace(
            "[feed.schema]",
            "[feed.schema]\nheader_match = \"trim-case\"",
        )
        .replace("\"born\"", "\" Order_ID \"");
    let mistakes = mistakes_of(&text);
    assert_eq!(mistakes.len(), 1, "{}", pictures(&mistakes));
    assert_eq!(mistakes[0].code, "policy.duplicate");
}

#[test]
fn references_to_columns_and_groups_are_checked() {
    check(
        "primary_key = [\"order_id\"]",
        "primary_key = [@@\"orderid\"]",
        "policy.unknown-column",
        "did you mean `order_id`?",
    );
    check(
        "sum.amount",
        "sum.@@ammount",
        "policy.unknown-column",
        "did you mean `amount`?",
    );
    check(
        "sum.amount",
        "sum.@@email",
        "policy.unknown-column",
        "integer or decimal",
    );
    check(
        "rows = \"{rows}\"",
        "rows = @@\"{row}\"",
        "policy.unknown-group",
        "did you mean `rows`?",
    );
    check("\"{total}\"", "@@\"total\"", "policy.bad-value", "as in");
}

#[test]
fn bounds_are_ordered_and_of_their_columns_type() {
    let code = "policy.bounds";
    let amount = "\"decimal(12,2)\"";
    check(
        amount,
        "\"decimal(12,2)\", minimum = 5, maximum = @@1",
        code,
        "nothing could ever fit",
    );
    check(
        amount,
        "\"decimal(12,2)\", minimum = @@\"0.001\"",
        code,
        "more than 2 digits after the point",
    );
    check(
        amount,
        "\"decimal(12,2)\", maximum = @@\"1e5\"",
        code,
        "digits and a point",
    );
    check(
        "[\"%Y-%m-%d\"]",
        "[\"%Y-%m-%d\"], minimum = @@\"2026-02-30\"",
        code,
        "as in \"1900-01-31\"",
    );
    check(
        "format = \"email\"",
        "format = \"email\", minimum = @@\"a\"",
        code,
        "min_length",
    );
    check(
        "required = true",
        "required = true, min_length = 9, max_length = @@5",
        code,
        "nothing could ever fit",
    );
    check(
        "\"boolean\"",
        "\"boolean\", @@max_length = 5",
        code,
        "minimum and maximum",
    );
    check(
        "[feed.schema]",
        "[feed.schema]\nlimits = { field = @@\"2 MiB\", record = \"1 MiB\" }",
        code,
        "record's limit",
    );
}

#[test]
fn date_formats_must_be_complete_and_distinguishable() {
    check(
        "[\"%Y-%m-%d\"]",
        "[\"%d/%m/%Y\", @@\"%m/%d/%Y\"]",
        "policy.ambiguous-dates",
        "\"01/02/2003\" fits both",
    );
    check(
        "\"%Y-%m-%d\"",
        "@@\"%Y-%m\"",
        "policy.bad-format",
        "%Y-%m-%d",
    );
    check(
        "\"%Y-%m-%d\"",
        "@@\"%F %H:%M\"",
        "policy.bad-format",
        "%Y-%m-%d",
    );
    check(
        "\"%Y-%m-%d\"",
        "@@\"%y%m%d\"",
        "policy.short-year",
        "four digits",
    );
    check(
        "formats = [\"%Y-%m-%d\"]",
        "@@format = \"%Y-%m-%d\"",
        "policy.conflict",
        "write formats = ",
    );
}

#[test]
fn rules_that_contradict_each_other_are_found() {
    let code = "policy.conflict";
    check(
        "{ type = \"csv\" }\n\n[feed.schema]\n",
        "{ type = \"csv\", header = false }\n\n[feed.schema]\n@@fields_match = \"exact\"\n",
        code,
        "order of the schema",
    );
    check(
        "required = true",
        "required = true, max_length = 1, enum = [@@\"DE\"]",
        code,
        "no cell can ever",
    );
    check(
        "required = true",
        "required = true, enum = [\"DE\", @@\"\"]",
        code,
        "required = false allows it",
    );
    check(
        "\"boolean\"",
        "\"boolean\", @@enum = [\"true\"]",
        code,
        "pattern",
    );
    check(
        "\"acme/orders_20261120.csv\"",
        "@@\"acme/other.csv\"",
        code,
        "add as = ",
    );
    check(
        "expect = \"accepted\"",
        "expect = \"accepted\"\ncodes = [@@\"type-error\"]",
        code,
        "expect = \"rejected\"",
    );
    check(
        "{ type = \"csv\" }",
        "{ type = \"csv\", delimiter = '\"', @@quote = '\"' }",
        code,
        "use another one",
    );
}

#[test]
fn token_rules_that_do_not_protect_are_errors() {
    let code = "policy.token";
    check(
        "domain = \"email\"",
        "kind = \"redact\", @@domain = \"email\"",
        code,
        "cmac",
    );
    check(
        "domain = \"email\"",
        "kind = \"drop\", keep = @@\"first:2\"",
        code,
        "mask",
    );
    check(
        "format = \"email\", token = { domain = \"email\"",
        "token = { domain = \"email\", keep = @@\"domain\"",
        code,
        "format = \"email\"",
    );
    check(
        "format = \"email\", token = { domain = \"email\"",
        "format = \"pan\", token = { domain = \"pan\", keep = @@\"first:8\"",
        code,
        "first:6",
    );
    check(
        "format = \"email\", token",
        "format = \"email\", sensitive = @@false, token",
        code,
        "remove it",
    );
}

#[test]
fn a_token_column_that_could_be_renamed_cannot_stand_beside_kept_columns() {
    let kept = "[feed.schema]\nextra_columns = \"keep\"";
    let text = BASE.replace("[feed.schema]", kept);
    let mistakes = mistakes_of(&text);
    assert_eq!(mistakes.len(), 1, "{}", pictures(&mistakes));
    assert_eq!(mistakes[0].code, "policy.token-leak");
    assert_eq!(mistakes[0].severity, Severity::Error);
    let required = text.replace("format = \"email\"", "format = \"email\", required = true");
    assert!(mistakes_of(&required).is_empty());
    for harmless in ["drop", "reject"] {
        assert!(mistakes_of(&text.replace("\"keep\"", &format!("\"{harmless}\""))).is_empty());
    }
}

#[test]
fn equal_tokens_over_few_values_are_a_warning() {
    let code = "policy.small-domain";
    check(
        "type = \"boolean\"",
        "type = \"boolean\", @@token = { domain = \"paid\" }",
        code,
        "redact",
    );
    check(
        "format = \"email\", token",
        "enum = [\"a@b.c\", \"d@e.f\"], @@token",
        code,
        "redact",
    );
    check(
        "type = \"boolean\"",
        "type = \"integer\", minimum = 1900, maximum = 2026, @@token = { domain = \"year\" }",
        code,
        "redact",
    );
    let text = BASE.replace(
        "type = \"boolean\"",
        "type = \"boolean\", token = { domain = \"paid\" }",
    );
    let (_, warnings) = compile("acme.toml", &text, &Lists::default()).unwrap();
    assert_eq!(warnings[0].severity, Severity::Warning);
}

#[test]
fn what_is_delivered_as_it_is_is_not_compressed() {
    let text = BASE.replace("type = \"csv\"", "type = \"opaque\"");
    let with = text.replacen(
        "[[feed]]\n",
        "[[feed]]\noutput = { compression = \"gzip\" }\n",
        1,
    );
    let picture = pictures(&mistakes_of(&with));
    assert!(
        picture.contains("opaque files are delivered as they are"),
        "{picture}"
    );
}

#[test]
fn opaque_feeds_have_no_rules_for_rows_and_never_tokens() {
    let mistakes = mistakes_of(&BASE.replace("type = \"csv\"", "type = \"opaque\""));
    let found: Vec<&str> = mistakes.iter().map(|m| m.code).collect();
    assert_eq!(found, ["policy.conflict", "policy.conflict"]);
    assert!(
        mistakes[0].message.contains("token column"),
        "{}",
        pictures(&mistakes)
    );
    assert!(mistakes[1].message.contains("`control`"));
}

#[test]
fn the_partners_id_is_the_name_of_its_file() {
    check(
        "id = \"acme\"",
        "id = @@\"acme-gmbh\"",
        "policy.partner-id",
        "write \"acme\", or rename the file to acme-gmbh.toml",
    );
    for file in ["acme.toml", "/etc/sallyport/policies/acme.toml"] {
        assert!(compile(file, BASE, &Lists::default()).is_ok(), "{file}");
    }
}

#[test]
fn a_test_file_that_an_earlier_feed_takes_is_a_warning() {
    let first = "[[feed]]\nid = \"any\"\nmatch = '.+\\.csv'\nstore = \"lake\"\n\
                 key = \"any/{submission}\"\nformat = { type = \"opaque\" }\n\n[[feed]]\n";
    let mistakes = mistakes_of(&BASE.replace("[[feed]]\n", first));
    assert_eq!(mistakes.len(), 1, "{}", pictures(&mistakes));
    assert_eq!(mistakes[0].code, "policy.shadowed");
    assert_eq!(mistakes[0].severity, Severity::Warning);
}

#[test]
fn toml_that_does_not_parse_shows_more_than_its_first_mistake() {
    let text = BASE
        .replace("id = \"acme\"", "id = acme")
        .replace("store = \"lake\"", "store = ");
    let mistakes = mistakes_of(&text);
    let lines: BTreeSet<usize> = mistakes.iter().map(|m| m.line).collect();
    assert!(
        lines.contains(&4) && lines.contains(&14),
        "{}",
        pictures(&mistakes)
    );
    assert!(mistakes.iter().all(|m| m.code == "policy.syntax"));
}

#[test]
fn all_mistakes_of_a_file_come_at_once_in_its_order() {
    let text = BASE
        .replace("version = 1", "version = \"1\"")
        .replace("store = ", "stroe = ")
        .replace("={day}", "={date}")
        .replace("type = \"boolean\"", "type = \"bool\"")
        .replace("[feed.control]", "[feed.kontrol]");
    let mistakes = mistakes_of(&text);
    let found: Vec<(&str, usize)> = mistakes.iter().map(|m| (m.code, m.line)).collect();
    assert_eq!(
        found,
        [
            ("policy.wrong-type", 1),
            ("policy.unknown-key", 14),
            ("policy.unknown-placeholder", 15),
            ("policy.unknown-word", 24),
            ("policy.unknown-key", 28),
        ],
        "{}",
        pictures(&mistakes)
    );
}

#[test]
fn a_mistake_renders_as_the_manual_shows_it() {
    let mistakes = mistakes_of(&BASE.replace("={day}", "={date}"));
    assert_eq!(
        pictures(&mistakes),
        "\
error[policy.unknown-placeholder]: `match` names group {day}, but `key` uses {date}
  ┌─ acme.toml:15:17
  │
15│ key = \"acme/day={date}/{submission}.csv\"
  │                 ^^^^^^ available: day, submission, partner, feed, received
  │
  = did you mean {day}?
  = more: sallyport explain policy.unknown-placeholder
"
    );
}

#[test]
fn a_file_over_the_limit_is_not_parsed() {
    let mistakes = mistakes_of(&"# x\n".repeat(300_000));
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].code, "policy.too-large");
}

#[test]
fn every_operator_code_is_used_and_none_is_written_as_a_bare_string() {
    let sources = [
        include_str!("../src/policy/compile.rs"),
        include_str!("../src/policy/columns.rs"),
        include_str!("../src/policy/names.rs"),
        include_str!("../src/policy/dates.rs"),
        include_str!("../src/config.rs"),
    ]
    .map(|source| {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    });
    // These have dotted words of other kinds as well: failures of commands, acts of the audit.
    let others = [
        include_str!("../src/reload.rs"),
        include_str!("../src/cli/policy.rs"),
    ];
    for (slug, _) in codes::OPERATOR_CODES {
        let name = format!("codes::{}", slug.to_uppercase().replace(['.', '-'], "_"));
        assert!(
            sources
                .iter()
                .map(String::as_str)
                .chain(others)
                .any(|source| source.contains(&name)),
            "{name}"
        );
    }
    for source in &sources {
        assert!(!source.contains("\"policy.") && !source.contains("\"config."));
    }
}

// === whatever the text ===

#[test]
fn hostile_texts_are_mistakes_and_nothing_worse() {
    let deep = format!("a = {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let dotted = format!("{}x = 1", "a.".repeat(50_000));
    let tables = format!("{}x = 1", "{ a = ".repeat(2_000));
    let many = "zzz = 1\n".repeat(5_000);
    for text in [
        "",
        "\0",
        "\u{feff}version = 1",
        "version = 99999999999999999999999999",
        "[[feed]]\n[feed]\n",
        "feed = 1",
        "feed = [1, 2]",
        "[partner.id]",
        "version = 1\r\n[partner]\r\nid = \"\u{202e}acme\"\r\n",
        &deep,
        &dotted,
        &tables,
        &many,
    ] {
        fuzz_policy_text(text.as_bytes());
    }
    fuzz_policy_text(b"\xff\xfe\x00v");
}

/// One edit of a policy text.
#[derive(Clone, Debug)]
enum Edit {
    Cut(usize, usize),
    Insert(usize, String),
    Repeat(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = |text: &str| Just(text.to_owned());
    let signs: Vec<char> = "[]{}=\",.'#\\ \n\r\t09az-\u{e4}\u{202e}".chars().collect();
    let pieces = prop_oneof![
        prop::collection::vec(prop::sample::select(signs), 1..6)
            .prop_map(|signs| signs.into_iter().collect::<String>()),
        piece("[[feed]]\n"),
        piece("[feed.schema]\n"),
        piece("token = { kind = \"cmac\", domain = \"x\" }, "),
        piece("{submission}"),
        piece("(?<day>"),
        piece("-99999999999999999999999999999999999999999"),
        piece("1979-05-27T07:32:00Z"),
    ];
    prop_oneof![
        (any::<usize>(), 0..60_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (any::<usize>(), pieces).prop_map(|(at, text)| Edit::Insert(at, text)),
        (any::<usize>(), 0..200_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for edit in edits {
        let most = chars.len();
        let place = |at: usize| at % (most + 1);
        match edit {
            Edit::Cut(at, length) => {
                let at = place(*at);
                chars.drain(at..(at + length).min(most));
            }
            Edit::Insert(at, text) => {
                let at = place(*at);
                chars.splice(at..at, text.chars());
            }
            Edit::Repeat(at, length) => {
                let at = place(*at);
                let again: Vec<char> = chars[at..(at + length).min(most)].to_vec();
                chars.splice(at..at, again);
            }
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_edited_policy_compiles_or_has_mistakes(
        which in 0..2_usize,
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        let acme = include_str!("../policies/acme.toml");
        // Under the id the fuzzer's file name asks for.
        let globex = include_str!("../policies/globex.toml").replace("= \"globex\"", "= \"acme\"");
        fuzz_policy_text(edited([acme, &globex][which], &edits).as_bytes());
    }

    #[test]
    fn arbitrary_bytes_compile_or_have_mistakes(
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        fuzz_policy_text(&data);
    }
}

// === what else is said about a policy ===

#[test]
fn two_versions_of_a_shipped_policy_tell_their_difference() {
    let text = std::fs::read_to_string(folder().join("globex.toml")).unwrap();
    let old = compiled("globex.toml", &text);
    let new = compiled(
        "globex.toml",
        &text.replace("maximum = 1_000_000", "maximum = 500"),
    );
    assert_eq!(
        changes(&old, &new),
        ["stock: quantity.maximum: 1000000 -> 500 (narrowing)"]
    );
    assert!(changes(&old, &old).is_empty());
    assert!(describe(&old.feeds[1]).contains("passed on as it is"));
}

#[test]
fn a_file_name_can_never_choose_the_folder_of_its_object() {
    let text = BASE
        .replace(r"orders_(?<day>\d{8})\.csv", r"(?<day>.*)\.csv")
        .replace("day={day}", "{day}");
    let policy = compiled("acme.toml", &text);
    let feed = &policy.feeds[0];
    let id = SubmissionId::from_bytes([0; 16]);
    let key = |name: &str| feed.key.fill(&policy, feed, name, id, "2026-11-21");
    assert_eq!(key("a.csv"), format!("acme/a/{id}.csv"));
    for name in ["...csv", "..csv", ".csv", "/.csv"] {
        assert_eq!(key(name), format!("acme/_/{id}.csv"), "{name}");
    }
    assert_eq!(key("../x.csv"), format!("acme/.._x/{id}.csv"));
}
