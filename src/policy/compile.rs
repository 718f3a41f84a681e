//! Policy text in, a compiled [`Policy`] or all its mistakes out.
//!
//! The compiler reads no file and no clock. It refuses what this version does not act on
//! instead of ignoring it: a policy never promises more than the gateway does.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::civil::Date;
use regex::Regex;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::columns::{self, Outline, Place};
use crate::policy::contract::{
    Bom, Bound, ColumnarShape, Compression, Contract, Dialect, Encoding, ExtraColumns, FieldsMatch,
    FixedShape, Format, Header, JsonShape, Kind, MissingColumns, Newline, OnFinding,
    OutputCompression, OutputFormat, Schema, Tolerance, Trailer, has_offset,
};
use crate::policy::feed::{
    Completeness, Feed, FeedTest, Folders, KeyTemplate, LEGACY_ALGORITHMS, Legacy, Outbox, Policy,
    SameContent, SameName,
};
use crate::policy::lists::Lists;
use crate::policy::mistake::{Mistake, Severity, shown};
use crate::policy::names;
use crate::policy::text::{Family, Keys, Notes, Span, Table, nearest, network, note_repeats};
use crate::terms::codes::{self, Code};
use crate::terms::columnar::Columnar;
use crate::terms::digest::DigestKind;
use crate::terms::ids::{BadTerm, FeedId, PartnerId, StoreName};
use crate::terms::limits;
use crate::terms::path::VirtualPath;
use crate::terms::verdict::Verdict;

const ROOT_KEYS: Keys = Keys {
    here: &["version", "partner", "access", "feed"],
    later: &[],
};
const PARTNER_KEYS: Keys = Keys {
    here: &["id", "name", "timezone", "allow_from", "contacts"],
    later: &[],
};
const CONTACT_KEYS: Keys = Keys {
    here: &["name", "email", "gets"],
    later: &[],
};
const ACCESS_KEYS: Keys = Keys {
    here: &[
        "auth",
        "inbox",
        "outbox",
        "sessions",
        "quota",
        "bytes_per_second",
        "files_per_second",
        "hide_after_accept",
        "legacy",
    ],
    later: &["tunnel"],
};
const OUTBOX_KEYS: Keys = Keys {
    here: &["store", "prefix"],
    later: &[],
};
const LEGACY_KEYS: Keys = Keys {
    here: &["until", "algorithms"],
    later: &[],
};
const FEED_KEYS: Keys = Keys {
    here: &[
        "id",
        "match",
        "store",
        "key",
        "on_finding",
        "tolerance",
        "same_content",
        "same_name",
        "max_size",
        "encoding",
        "bom",
        "compression",
        "max_ratio",
        "max_output",
        "format",
        "output",
        "digest",
        "completeness",
        "quiet_window",
        "keep_rejected",
        "keep_original",
        "folders",
        "schema",
        "control",
        "test",
    ],
    later: &["sla", "batch"],
};
const TOLERANCE_KEYS: Keys = Keys {
    here: &["rows", "share"],
    later: &[],
};
const FORMAT_KEYS: Keys = Keys {
    here: &[
        "type",
        "delimiter",
        "quote",
        "header",
        "newline",
        "strict_quotes",
        "length",
        "sheet",
    ],
    later: &[],
};
/// Of `format`, what only files of text have.
const KEYS_OF_CSV: [&str; 6] = [
    "delimiter",
    "quote",
    "header",
    "newline",
    "strict_quotes",
    "length",
];
/// Of a feed, what only files of text have.
const KEYS_OF_TEXT: [&str; 6] = [
    "control",
    "encoding",
    "bom",
    "compression",
    "max_ratio",
    "max_output",
];
const OUTPUT_KEYS: Keys = Keys {
    here: &["format", "compression"],
    later: &[],
};
const CONTROL_KEYS: Keys = Keys {
    here: &["trailer", "rows", "sum"],
    later: &["file"],
};
const TEST_KEYS: Keys = Keys {
    here: &["file", "as", "expect", "codes"],
    later: &[],
};

/// The codes of policies and the map of their tables.
static FAMILY: Family = Family {
    syntax: codes::POLICY_SYNTAX,
    too_large: codes::POLICY_TOO_LARGE,
    unknown_key: codes::POLICY_UNKNOWN_KEY,
    missing_key: codes::POLICY_MISSING_KEY,
    wrong_type: codes::POLICY_WRONG_TYPE,
    unknown_word: codes::POLICY_UNKNOWN_WORD,
    bad_value: codes::POLICY_BAD_VALUE,
    duplicate: codes::POLICY_DUPLICATE,
    not_yet: codes::POLICY_NOT_YET,
    tables: &[
        ("the top of the file", &ROOT_KEYS),
        ("[partner]", &PARTNER_KEYS),
        ("contacts of [partner]", &CONTACT_KEYS),
        ("[access]", &ACCESS_KEYS),
        ("`outbox` of [access]", &OUTBOX_KEYS),
        ("`legacy` of [access]", &LEGACY_KEYS),
        ("[[feed]]", &FEED_KEYS),
        ("`format` of [[feed]]", &FORMAT_KEYS),
        ("[feed.schema]", &columns::SCHEMA_KEYS),
        ("a column of [feed.schema]", &columns::COLUMN_KEYS),
        ("`limits` of [feed.schema]", &columns::LIMIT_KEYS),
        ("`token` of a column", &columns::TOKEN_KEYS),
        ("[feed.control]", &CONTROL_KEYS),
        ("[[feed.test]]", &TEST_KEYS),
    ],
};

/// `[partner]`, as far as it could be read.
#[derive(Default)]
struct Partner {
    id: Option<PartnerId>,
    name: Option<String>,
    allow_from: Vec<IpNet>,
    help: Option<String>,
}

/// `[access]`
struct Access {
    inbox: Vec<VirtualPath>,
    sessions_max: usize,
    quota_bytes: Option<u64>,
    bytes_per_sec: Option<u64>,
    files_per_sec: Option<u32>,
    hide_after_accept: bool,
    outbox: Option<Outbox>,
    legacy: Option<Legacy>,
}

/// The name pattern of a feed.
struct Pattern {
    regex: Regex,
    text: String,
}

/// A test and where its name stands.
struct Test {
    test: FeedTest,
    span: Span,
}

/// Compiles the text of one policy. `file` is its path: mistakes name it, and its stem is the
/// partner's id. `lists` are those that its columns may name. Warnings come with the policy.
///
/// ```
/// use sallyport::policy::{compile, lists::Lists};
/// let text = r#"
/// version = 1
/// [partner]
/// id = "acme"
/// nmae = "ACME"
/// "#;
/// let mistakes = compile("acme.toml", text, &Lists::default()).unwrap_err();
/// assert_eq!((mistakes[0].code, mistakes[0].line), ("policy.unknown-key", 5));
/// assert!(mistakes[0].render().contains("did you mean `name`?"));
/// ```
///
/// # Errors
/// Every mistake of the text, in its order, warnings among them; at least one is an error.
pub fn compile(
    file: &str,
    text: &str,
    lists: &Lists,
) -> Result<(Policy, Vec<Mistake>), Vec<Mistake>> {
    let mut notes = Notes::new(file, text, &FAMILY, lists);
    let tree = notes.parse();
    let policy = tree
        .as_ref()
        .and_then(|tree| policy(file, text, tree, &mut notes));
    let mistakes = notes.into_mistakes();
    match policy {
        Some(policy) if mistakes.iter().all(|m| m.severity == Severity::Warning) => {
            Ok((policy, mistakes))
        }
        Some(_) | None => Err(mistakes),
    }
}

/// Compiles any bytes as a policy: whatever they are, there is a policy or there are mistakes,
/// and every mistake has its place inside the text.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz_policy_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.matches('\n').count() + 1;
    let mistakes = match compile("policies/acme.toml", &text, &Lists::default()) {
        Ok((policy, warnings)) => {
            assert_eq!(policy.partner.as_str(), "acme");
            assert!(warnings.iter().all(|m| m.severity == Severity::Warning));
            for feed in &policy.feeds {
                assert!(super::describe(feed).is_ascii());
            }
            assert!(super::changes(&policy, &policy).is_empty());
            warnings
        }
        Err(mistakes) => {
            assert!(mistakes.iter().any(|m| m.severity == Severity::Error));
            mistakes
        }
    };
    for mistake in &mistakes {
        assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1);
        assert!(codes::explain(mistake.code).is_some());
        assert!(mistake.render().ends_with('\n') && mistake.render_ascii().is_ascii());
    }
}

fn policy(file: &str, text: &str, tree: &DeTable<'_>, notes: &mut Notes<'_>) -> Option<Policy> {
    let root = Table::open(tree, 0..0, "the policy", &ROOT_KEYS, notes);
    if root.value("version").is_none() {
        notes.missing(&root, "version", "version = 1");
    }
    let version = root.count("version", 1..=u64::from(u32::MAX), notes);
    let partner = partner(&root, file, notes);
    let access = access(&root, partner.allow_from.is_empty(), notes);
    let feeds = feeds(&root, notes);
    let id = partner.id?;
    Some(Policy {
        name: partner.name.unwrap_or_else(|| id.to_string()),
        partner: id,
        version: u32::try_from(version?.into_inner()).ok()?,
        hash: sha256(text, feeds.as_deref().unwrap_or_default()),
        allow_from: partner.allow_from,
        inbox: access.inbox,
        help: partner.help,
        sessions_max: access.sessions_max,
        quota_bytes: access.quota_bytes,
        bytes_per_sec: access.bytes_per_sec,
        files_per_sec: access.files_per_sec,
        hide_after_accept: access.hide_after_accept,
        outbox: access.outbox,
        legacy: access.legacy,
        feeds: feeds?,
    })
}

/// Of the text, and of the lists behind it where there are any.
fn sha256(text: &str, feeds: &[Arc<Feed>]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(text.as_bytes());
    let schemas = feeds
        .iter()
        .filter_map(|feed| feed.contract.schema.as_ref());
    for list in schemas.flat_map(|schema| schema.columns.iter().filter_map(|c| c.lookup.as_ref())) {
        context.update(&list.hash);
    }
    let digest = context.finish();
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    hash
}

// === [partner] ===

fn partner(root: &Table<'_>, file: &str, notes: &mut Notes<'_>) -> Partner {
    if root.value("partner").is_none() {
        notes.missing(root, "partner", "a table [partner] with id = \"...\"");
    }
    let Some(table) = root.table("partner", "[partner]", &PARTNER_KEYS, notes) else {
        return Partner::default();
    };
    let id = table
        .need_text("id", "id = \"acme\", the name of the file", notes)
        .and_then(|text| partner_id(&text, file, notes));
    if let Some(zone) = table.text("timezone", notes) {
        check_timezone(&zone, notes);
    }
    let name = table.text("name", notes).and_then(|name| {
        let blank =
            name.get_ref().trim().is_empty() || name.get_ref().chars().any(char::is_control);
        if blank {
            notes.bad_value(&name.span(), "`name` must be a name people can read");
        }
        (!blank).then(|| (*name.get_ref()).to_owned())
    });
    Partner {
        id,
        name,
        allow_from: allow_from(&table, notes),
        help: contacts(&table, notes),
    }
}

fn partner_id(text: &Spanned<&str>, file: &str, notes: &mut Notes<'_>) -> Option<PartnerId> {
    let id = term(text, "id", PartnerId::parse, notes)?;
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let stem = name.strip_suffix(".toml").unwrap_or(name);
    if id.as_str() != stem {
        notes
            .error(
                codes::POLICY_PARTNER_ID,
                &text.span(),
                format!("partner id \"{id}\" in the file {}", shown(name)),
            )
            .under(format!(
                "write \"{}\", or rename the file to {id}.toml",
                shown(stem)
            ));
        return None;
    }
    Some(id)
}

/// Only the shape: the time zone database is not asked.
fn check_timezone(zone: &Spanned<&str>, notes: &mut Notes<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    let text = zone.get_ref();
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        notes
            .bad_value(
                &zone.span(),
                format!("\"{}\" is no time zone name", shown(text)),
            )
            .under("as in \"Europe/Berlin\"");
    }
}

fn allow_from(table: &Table<'_>, notes: &mut Notes<'_>) -> Vec<IpNet> {
    let Some(texts) = table.texts("allow_from", notes) else {
        return Vec::new();
    };
    note_repeats("allow_from", texts.get_ref(), notes);
    if texts.get_ref().is_empty() {
        notes
            .bad_value(&texts.span(), "`allow_from` names no network")
            .under("remove it to allow any, or name networks");
    }
    texts
        .get_ref()
        .iter()
        .filter_map(|text| network(text, notes))
        .collect()
}

/// Checks the contacts; the first one's address is what partners are told.
fn contacts(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<String> {
    const EVENTS: &[(&str, ())] = &[
        ("accepted", ()),
        ("held", ()),
        ("rejected", ()),
        ("overdue", ()),
    ];
    let example = "contacts = [{ name = \"EDI desk\", email = \"edi@acme.example\" }]";
    let mut first = None;
    for (index, (map, span)) in table
        .tables("contacts", example, notes)
        .into_iter()
        .enumerate()
    {
        let place = format!("contact {}", index + 1);
        let contact = Table::open(map, span, place, &CONTACT_KEYS, notes);
        contact.text("name", notes);
        contact.words("gets", EVENTS, &[], notes);
        let Some(email) = contact.need_text("email", "email = \"edi@acme.example\"", notes) else {
            continue;
        };
        let text = *email.get_ref();
        let sound = text.is_ascii()
            && !text
                .bytes()
                .any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
            && text.split_once('@').is_some_and(|(local, host)| {
                !local.is_empty() && !host.is_empty() && !host.contains('@')
            });
        if !sound {
            notes
                .bad_value(
                    &email.span(),
                    format!("\"{}\" is no e-mail address", shown(text)),
                )
                .under("as in \"edi@acme.example\"");
        }
        first.get_or_insert_with(|| text.to_owned());
    }
    first
}

// === [access] ===

fn access(root: &Table<'_>, from_anywhere: bool, notes: &mut Notes<'_>) -> Access {
    let mut access = Access {
        inbox: VirtualPath::parse(b"/inbox").into_iter().collect(),
        sessions_max: limits::SSH_SESSIONS_PER_PARTNER_MAX,
        quota_bytes: None,
        bytes_per_sec: None,
        files_per_sec: None,
        hide_after_accept: false,
        outbox: None,
        legacy: None,
    };
    let Some(table) = root.table("access", "[access]", &ACCESS_KEYS, notes) else {
        return access;
    };
    table.words(
        "auth",
        &[("publickey", ())],
        &["certificate", "password"],
        notes,
    );
    if let Some(texts) = table.texts("inbox", notes) {
        note_repeats("inbox", texts.get_ref(), notes);
        if texts.get_ref().is_empty() {
            notes
                .bad_value(&texts.span(), "`inbox` names no folder")
                .under("as in [\"/inbox\"]");
        }
        access.inbox = texts
            .get_ref()
            .iter()
            .filter_map(|text| inbox(text, notes))
            .collect();
    }
    if let Some(sessions) = table.count("sessions", 1..=1000, notes) {
        access.sessions_max = usize::try_from(sessions.into_inner()).unwrap_or(1);
    }
    access.quota_bytes = table
        .size("quota", 1..=u64::MAX, notes)
        .map(Spanned::into_inner);
    access.bytes_per_sec = table
        .size("bytes_per_second", 1_000..=u64::MAX, notes)
        .map(Spanned::into_inner);
    access.files_per_sec = table
        .count("files_per_second", 1..=1_000_000, notes)
        .and_then(|files| u32::try_from(files.into_inner()).ok());
    access.hide_after_accept = table
        .flag("hide_after_accept", notes)
        .is_some_and(Spanned::into_inner);
    access.outbox = outbox(&table, notes);
    access.legacy = legacy(&table, from_anywhere, notes);
    access
}

fn outbox(access: &Table<'_>, notes: &mut Notes<'_>) -> Option<Outbox> {
    let table = access.table("outbox", "outbox of [access]", &OUTBOX_KEYS, notes)?;
    let store = table
        .need_text("store", "store = \"lake\"", notes)
        .and_then(|text| term(&text, "store", StoreName::parse, notes));
    let prefix = table.need_text("prefix", "prefix = \"to-acme/\"", notes)?;
    let written = *prefix.get_ref();
    // What is below it is shown to the partner: it must be a folder, and one of its own.
    let folders = written.strip_suffix('/').map(|rest| rest.split('/'));
    let is_folder = folders.is_some_and(|mut folders| {
        folders.all(|folder| {
            !matches!(folder, "" | "." | "..")
                && !folder.chars().any(|c| c.is_control() || c == '\\')
        })
    });
    if !is_folder || written.len() > limits::KEY_BYTES_MAX {
        notes
            .bad_value(
                &prefix.span(),
                format!("\"{}\" cannot be the outbox", shown(written)),
            )
            .under("a folder of the store that ends in /, as in \"to-acme/\"");
        return None;
    }
    Some(Outbox {
        store: store?,
        prefix: written.to_owned(),
    })
}

fn legacy(access: &Table<'_>, from_anywhere: bool, notes: &mut Notes<'_>) -> Option<Legacy> {
    let table = access.table("legacy", "legacy of [access]", &LEGACY_KEYS, notes)?;
    if from_anywhere {
        let span = access.key_span("legacy").unwrap_or_else(|| table.span());
        notes
            .error(
                codes::POLICY_CONFLICT,
                &span,
                "`legacy` without `allow_from` would weaken the gateway for everybody",
            )
            .under("name the partner's networks in allow_from of [partner]");
    }
    let until = day(&table, "until", "until = 2027-03-31", notes);
    if table.value("algorithms").is_none() {
        notes.missing(&table, "algorithms", "algorithms = [\"ssh-rsa\"]");
    }
    let names = LEGACY_ALGORITHMS.map(|name| (name, name));
    let algorithms = table.words("algorithms", &names, &[], notes)?;
    Some(Legacy {
        until: until?,
        algorithms: algorithms
            .into_inner()
            .into_iter()
            .map(str::to_owned)
            .collect(),
    })
}

/// A day without a time, as TOML writes dates.
fn day(table: &Table<'_>, key: &str, example: &str, notes: &mut Notes<'_>) -> Option<Date> {
    let Some(value) = table.value(key) else {
        notes.missing(table, key, example);
        return None;
    };
    let written = match value.get_ref() {
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            table.wrong_type(key, value, "a date", notes);
            return None;
        }
    };
    let day = written.parse().ok();
    if day.is_none() || written.len() != "2027-03-31".len() {
        notes
            .bad_value(&value.span(), format!("`{key}` is not one day"))
            .under(format!("as in {example}"));
        return None;
    }
    day
}

/// `/`, or one folder that is not one of the gateway's own.
fn inbox(text: &Spanned<&str>, notes: &mut Notes<'_>) -> Option<VirtualPath> {
    const TAKEN: [&str; 4] = ["/receipts", "/help", "/outbox", "/test"];
    let written = *text.get_ref();
    let why = match VirtualPath::parse(written.as_bytes()) {
        Err(bad) => bad.to_string(),
        Ok(path) if path.as_str() != written => format!("write \"{path}\""),
        Ok(path)
            if TAKEN
                .iter()
                .any(|own| path.as_str().eq_ignore_ascii_case(own)) =>
        {
            "the gateway has a folder of this name".to_owned()
        }
        Ok(path) if path != VirtualPath::root() && path.parent() != VirtualPath::root() => {
            "\"/\", or one folder like \"/inbox\"".to_owned()
        }
        Ok(path) => return Some(path),
    };
    notes
        .bad_value(
            &text.span(),
            format!("\"{}\" cannot be an inbox", shown(written)),
        )
        .under(why);
    None
}

// === [[feed]] ===

fn feeds(root: &Table<'_>, notes: &mut Notes<'_>) -> Option<Vec<Arc<Feed>>> {
    let tables = root.tables("feed", "[[feed]]", notes);
    let mut ids: Vec<Spanned<&str>> = Vec::new();
    let mut feeds = Vec::new();
    for (index, (map, span)) in tables.into_iter().enumerate() {
        let id = map
            .get("id")
            .and_then(|id| Some((id.span(), id.get_ref().as_str()?)));
        let place = match &id {
            Some((_, id)) => format!("feed \"{}\"", shown(id)),
            None => format!("feed {}", index + 1),
        };
        if let Some((span, id)) = id {
            if ids.iter().any(|known| *known.get_ref() == id) {
                notes
                    .error(
                        codes::POLICY_DUPLICATE,
                        &span,
                        format!("a feed \"{}\" stands in the policy already", shown(id)),
                    )
                    .under("give it another id");
            }
            ids.push(Spanned::new(span, id));
        }
        let table = Table::open(map, span, place, &FEED_KEYS, notes);
        feeds.push(feed(&table, notes));
    }
    warn_shadowed(&feeds, notes);
    feeds
        .into_iter()
        .map(|feed| feed.map(|(feed, _)| Arc::new(feed)))
        .collect()
}

fn feed(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<(Feed, Vec<Span>)> {
    let id = table
        .need_text("id", "id = \"orders\"", notes)
        .and_then(|text| term(&text, "id", FeedId::parse, notes));
    let pattern = pattern(table, notes);
    let store = table
        .need_text(
            "store",
            "store = \"lake\", as in [store.lake] of the main config",
            notes,
        )
        .and_then(|text| term(&text, "store", StoreName::parse, notes));
    let key = key(table, pattern.as_ref(), notes);
    check_handling(table, notes);
    let (completeness, quiet_window_ms) = evidence(table, notes);
    let digest = table.word("digest", DIGESTS, &[], notes);
    let folders = table.word("folders", FOLDERS, &[], notes);
    let same_content = table.word("same_content", SAME_CONTENT, &[], notes);
    let same_name = table.word("same_name", SAME_NAME, &[], notes);
    let bytes_max = table.size("max_size", 1..=limits::FILE_BYTES_CEILING, notes);
    let contract = contract(table, notes);
    let tests = tests(table, pattern.as_ref(), notes);
    let example = tests
        .iter()
        .filter(|test| test.test.expect == Verdict::Accepted)
        .map(|test| name_of(&test.test).to_owned())
        .find(|name| pattern.as_ref().is_some_and(|p| p.regex.is_match(name)));
    let pattern = pattern?;
    let (spans, tests): (Vec<Span>, Vec<FeedTest>) =
        tests.into_iter().map(|test| (test.span, test.test)).unzip();
    let feed = Feed {
        id: id?,
        pattern: pattern.regex,
        pattern_text: pattern.text,
        example,
        store: store?,
        key: key?,
        bytes_max: bytes_max.map_or(limits::FILE_BYTES_MAX, Spanned::into_inner),
        digest: digest.map_or(DigestKind::Sha256, Spanned::into_inner),
        folders: folders.map_or(Folders::None, Spanned::into_inner),
        completeness,
        quiet_window_ms,
        same_content: same_content.map_or(SameContent::Known, Spanned::into_inner),
        same_name: same_name.map_or(SameName::Replace, Spanned::into_inner),
        contract: Arc::new(contract?),
        tests,
    };
    Some((feed, spans))
}

const DIGESTS: &[(&str, DigestKind)] = &[
    ("sha256", DigestKind::Sha256),
    ("blake3", DigestKind::Blake3),
];
const FOLDERS: &[(&str, Folders)] = &[("none", Folders::None), ("any", Folders::Any)];
const COMPLETENESS: &[(&str, Completeness)] = &[
    ("close", Completeness::Close),
    ("size", Completeness::Size),
    ("rename", Completeness::Rename),
];
const SAME_CONTENT: &[(&str, SameContent)] = &[
    ("known", SameContent::Known),
    ("reject", SameContent::Reject),
    ("allow", SameContent::Allow),
];
const SAME_NAME: &[(&str, SameName)] = &[
    ("replace", SameName::Replace),
    ("reject", SameName::Reject),
    ("allow", SameName::Allow),
];

fn pattern(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<Pattern> {
    let text = table.need_text("match", r"match = 'orders_(?<day>\d{8})\.csv'", notes)?;
    let regex = names::whole("match", &text, notes)?;
    names::note_reserved_groups(&text, &regex, notes);
    if regex.is_match("") {
        notes
            .bad_value(&text.span(), "`match` fits the empty name")
            .under("say what a name must have, as in '.+\\.csv'");
    }
    Some(Pattern {
        regex,
        text: (*text.get_ref()).to_owned(),
    })
}

fn key(table: &Table<'_>, pattern: Option<&Pattern>, notes: &mut Notes<'_>) -> Option<KeyTemplate> {
    let text = table.need_text("key", "key = \"acme/orders/{submission}.csv\"", notes)?;
    let groups = pattern.map(|pattern| names::groups(&pattern.regex));
    names::key_template(&text, groups.as_deref(), notes)
}

/// What shows that a file is whole, and when one under a partial name is taken for whole.
fn evidence(table: &Table<'_>, notes: &mut Notes<'_>) -> (Completeness, Option<u64>) {
    let completeness = table.word("completeness", COMPLETENESS, &["control"], notes);
    let range = limits::QUIET_WINDOW_MS_MIN..=limits::QUIET_WINDOW_MS_MAX;
    let quiet = table.duration_ms("quiet_window", range, notes);
    if let (Some(quiet), Some(wanted)) = (&quiet, &completeness)
        && *wanted.get_ref() != Completeness::Close
    {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &quiet.span(),
                "a file that was only left alone shows no size and no rename",
            )
            .under("remove it, or write completeness = \"close\"");
    }
    (
        completeness.map_or(Completeness::Close, Spanned::into_inner),
        quiet.map(Spanned::into_inner),
    )
}

/// Keys of the language whose other values come later: nothing is stored of them.
fn check_handling(table: &Table<'_>, notes: &mut Notes<'_>) {
    for key in ["keep_rejected", "keep_original"] {
        if let Some(time) = table.duration_ms(key, 0..=u64::MAX, notes)
            && *time.get_ref() > 0
        {
            notes
                .not_yet(&time.span(), &format!("{key} over \"0d\""))
                .under("originals are destroyed at the verdict; write \"0d\"");
        }
    }
}

// === the contract ===

fn contract(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<Contract> {
    const COMPRESSIONS: &[(&str, Compression)] = &[
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("bzip2", Compression::Bzip2),
        ("zip", Compression::Zip),
    ];
    let words = [OnFinding::Reject, OnFinding::Hold, OnFinding::Split];
    let words = words.map(|one| (one.name(), one));
    let before = notes.errors();
    let on_finding = table.word("on_finding", &words, &[], notes);
    let tolerance = tolerance(table, notes);
    note_rules_of_split(table, on_finding.as_ref(), notes);
    let encoding = encodings(table, notes);
    let bom = table.word(
        "bom",
        &[("strip", Bom::Strip), ("reject", Bom::Reject)],
        &[],
        notes,
    );
    let compression = table.words("compression", COMPRESSIONS, &[], notes);
    let ratio = table.count("max_ratio", 1..=1_000_000, notes);
    let output_max = table.size("max_output", 1..=limits::FILE_BYTES_CEILING, notes);
    let mut format = format(table, notes);
    let (output, packing) = output(table, format.as_ref(), notes);
    let (schema, trailer) = match &mut format {
        Some(Format::Fixed(shape)) => {
            let (schema, trailer) = rows_at(table, shape, notes);
            note_rules_of_fixed(table, schema.as_ref(), notes);
            (schema, trailer)
        }
        Some(Format::Csv(dialect)) => rows(table, dialect.header, notes),
        Some(Format::Json(_)) => {
            let (schema, trailer) = rows(table, Header::Present, notes);
            note_rules_of_json(table, schema.as_ref(), notes);
            (schema, trailer)
        }
        // A broken format still shows the mistakes of the schema.
        None => rows(table, Header::Present, notes),
        Some(Format::Columnar(_)) => {
            let (mut schema, trailer) = rows(table, Header::Present, notes);
            note_useless(table, &KEYS_OF_TEXT, "the format has its own", notes);
            if let Some(schema) = &mut schema {
                take_typed(schema);
            }
            (schema, trailer)
        }
        Some(Format::Opaque) => {
            note_rules_of_opaque(table, notes);
            (None, None)
        }
    };
    let mut schema = schema;
    if let (OutputFormat::Parquet, Some(schema)) = (output, &mut schema) {
        // Moments that are read as such come with and without a zone, whatever the formats.
        let reads_moments = matches!(format, Some(Format::Columnar(_)));
        fit_parquet(table, schema, !reads_moments, notes);
    }
    let format = format.filter(|_| notes.errors() == before)?;
    Some(Contract {
        encoding: encoding.unwrap_or_else(|| vec![Encoding::Utf8]),
        bom: bom.map_or(Bom::Strip, Spanned::into_inner),
        compression: compression.map_or_else(|| vec![Compression::None], Spanned::into_inner),
        ratio_max: ratio.map_or(limits::DECOMPRESS_RATIO_MAX, Spanned::into_inner),
        output_bytes_max: output_max.map_or(limits::DECOMPRESS_BYTES_MAX, Spanned::into_inner),
        format,
        output,
        output_compression: packing,
        schema,
        trailer,
        on_finding: on_finding.map_or(OnFinding::Reject, Spanned::into_inner),
        tolerance,
    })
}

/// `tolerance = { rows = 10, share = 0.01 }`: what is not given does not bound.
fn tolerance(table: &Table<'_>, notes: &mut Notes<'_>) -> Tolerance {
    let given = table.table("tolerance", "tolerance", &TOLERANCE_KEYS, notes);
    let Some(given) = given else {
        return Tolerance::NONE;
    };
    let rows = given.count("rows", 0..=u64::MAX, notes);
    let share = given.value("share").and_then(|value| {
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                given.wrong_type("share", value, "a number", notes);
                return None;
            }
        };
        let ppm = millionths(text);
        if ppm.is_none() {
            notes
                .bad_value(&value.span(), "`share` is a part of all rows")
                .under("0 to 1, with at most six digits after the point, as in 0.01");
        }
        ppm
    });
    match (rows.map(Spanned::into_inner), share) {
        (None, None) => Tolerance::NONE,
        (rows, share) => Tolerance {
            rows: rows.unwrap_or(u64::MAX),
            share_ppm: share.unwrap_or(1_000_000),
        },
    }
}

/// A number from 0 to 1, exactly, in millionths.
fn millionths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole = match whole {
        "0" => 0,
        "1" => 1_000_000,
        _ => return None,
    };
    if part.len() > 6 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    (whole + part <= 1_000_000).then_some(whole + part)
}

/// What says nothing where every bad row is left out.
fn note_rules_of_split(
    table: &Table<'_>,
    on_finding: Option<&Spanned<OnFinding>>,
    notes: &mut Notes<'_>,
) {
    let splits = on_finding.is_some_and(|word| *word.get_ref() == OnFinding::Split);
    if let Some(span) = table.key_span("tolerance").filter(|_| splits) {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &span,
                "with on_finding = \"split\" any number of bad rows is left out",
            )
            .under("remove it, or write on_finding = \"reject\" for what is beyond it");
    }
}

/// The encodings taken, when it can be told which of them a file is in.
fn encodings(table: &Table<'_>, notes: &mut Notes<'_>) -> Option<Vec<Encoding>> {
    let words: Vec<(&'static str, Encoding)> =
        Encoding::all().map(|one| (one.name(), one)).collect();
    let found = table.words("encoding", &words, &[], notes)?;
    let taken = found.get_ref();
    let older: Vec<&str> = taken
        .iter()
        .filter(|one| matches!(one, Encoding::Older(_)))
        .map(|one| one.name())
        .collect();
    let is_ebcdic = taken.iter().any(|one| matches!(one, Encoding::Ebcdic(_)));
    let why = if is_ebcdic && taken.len() > 1 {
        "EBCDIC stands alone: in no other encoding do its bytes mean what they mean there"
            .to_owned()
    } else if older.len() > 1 {
        format!(
            "whether a file is in {} cannot be told from its bytes",
            older.join(" or ")
        )
    } else {
        return Some(found.into_inner());
    };
    notes
        .error(codes::POLICY_CONFLICT, &found.span(), why)
        .under("one of them, with utf-8 and utf-16 beside it where needed; or a feed for each");
    None
}

fn format(feed: &Table<'_>, notes: &mut Notes<'_>) -> Option<Format> {
    #[derive(Clone, Copy)]
    enum Shape {
        Columnar(Columnar),
        Fixed,
        Json(JsonShape),
        Opaque,
        Separated(u8),
    }
    const SHAPES: &[(&str, Shape)] = &[
        ("csv", Shape::Separated(b',')),
        ("tsv", Shape::Separated(b'\t')),
        ("ndjson", Shape::Json(JsonShape::Lines)),
        ("json", Shape::Json(JsonShape::Array)),
        ("fixed", Shape::Fixed),
        ("parquet", Shape::Columnar(Columnar::Parquet)),
        ("avro", Shape::Columnar(Columnar::Avro)),
        ("arrow", Shape::Columnar(Columnar::Arrow)),
        ("xlsx", Shape::Columnar(Columnar::Xlsx)),
        ("opaque", Shape::Opaque),
    ];
    const LATER: &[&str] = &["orc", "xml"];
    const NEWLINES: &[(&str, Newline)] = &[
        ("any", Newline::Any),
        ("lf", Newline::Lf),
        ("crlf", Newline::Crlf),
    ];
    let default = Dialect {
        delimiter: b',',
        quote: b'"',
        header: Header::Present,
        newline: Newline::Any,
    };
    if feed.value("format").is_none() {
        return Some(Format::Csv(default));
    }
    let place = format!("format of {}", feed.place());
    let table = feed.table("format", place, &FORMAT_KEYS, notes)?;
    table.need_text("type", "type = \"csv\"", notes)?;
    let word = table.word("type", SHAPES, LATER, notes)?;
    let (span, shape) = (word.span(), word.into_inner());
    let is_workbook = matches!(shape, Shape::Columnar(Columnar::Xlsx));
    let sheet = sheet(&table, is_workbook, notes);
    let (usual, other) = match shape {
        Shape::Columnar(format) => {
            note_built_in(format, &span, notes);
            let format = Format::Columnar(ColumnarShape { format, sheet });
            (b',', Some((format, "its values have marks of their own")))
        }
        Shape::Separated(usual) => (usual, None),
        Shape::Json(json) => (b',', Some((Format::Json(json), "JSON has its own marks"))),
        Shape::Opaque => (b',', Some((Format::Opaque, "opaque files are not opened"))),
        Shape::Fixed => return Some(fixed(&table, notes)),
    };
    if let Some((format, why)) = other {
        note_useless(&table, &KEYS_OF_CSV, why, notes);
        return Some(format);
    }
    let delimiter = mark(&table, "delimiter", usual, notes);
    let quote = mark(&table, "quote", b'"', notes);
    if let (Some(delimiter), Some(quote)) = (delimiter, quote)
        && delimiter == quote
    {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &table.key_span("quote").unwrap_or_else(|| table.span()),
                "delimiter and quote are the same character",
            )
            .under("use another one");
    }
    let header = table.flag("header", notes);
    let newline = table.word("newline", NEWLINES, &[], notes);
    if let Some(strict) = table
        .flag("strict_quotes", notes)
        .filter(|flag| !flag.get_ref())
    {
        notes.not_yet(&strict.span(), "strict_quotes = false");
    }
    Some(Format::Csv(Dialect {
        delimiter: delimiter?,
        quote: quote?,
        header: if header.is_none_or(Spanned::into_inner) {
            Header::Present
        } else {
            Header::Absent
        },
        newline: newline.map_or(Newline::Any, Spanned::into_inner),
    }))
}

/// Columns at fixed places; where they are, the schema says.
fn fixed(table: &Table<'_>, notes: &mut Notes<'_>) -> Format {
    const NEWLINES: &[(&str, Option<Newline>)] = &[
        ("any", Some(Newline::Any)),
        ("lf", Some(Newline::Lf)),
        ("crlf", Some(Newline::Crlf)),
        ("none", None),
    ];
    let keys = ["delimiter", "quote", "header", "strict_quotes"];
    let why = "columns at fixed places need no marks";
    note_useless(table, &keys, why, notes);
    let length = table.count("length", 1..=limits::RECORD_BYTES_CEILING, notes);
    let newline = table.word("newline", NEWLINES, &[], notes);
    Format::Fixed(FixedShape {
        places: Vec::new(),
        length: length.map_or(0, |length| {
            usize::try_from(length.into_inner()).unwrap_or(usize::MAX)
        }),
        newline: newline.map_or(Some(Newline::Any), Spanned::into_inner),
    })
}

/// Where the columns of a schema stand: each behind the one before it, unless it says where.
fn lay_out(shape: &mut FixedShape, places: &[Place], schema: &Table<'_>, notes: &mut Notes<'_>) {
    let mut end = 0_u64;
    for place in places {
        let Some(width) = &place.width else {
            notes
                .error(
                    codes::POLICY_MISSING_KEY,
                    &place.column,
                    "a column at a fixed place needs its `width`",
                )
                .under("as in width = 10, in characters");
            continue;
        };
        let start = place
            .start
            .as_ref()
            .map_or(end, |start| start.get_ref() - 1);
        if start < end {
            let span = place
                .start
                .as_ref()
                .map_or(place.column.clone(), Spanned::span);
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &span,
                    format!("the column before it ends with character {end}"),
                )
                .under("columns stand in the order of the line and do not overlap");
        }
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        shape.places.push((number(start), number(*width.get_ref())));
        end = start + width.get_ref();
    }
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    if shape.length == 0 {
        shape.length = end;
    } else if shape.length < end {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &schema.span(),
                format!(
                    "the columns take {end} characters, a line has {}",
                    shape.length
                ),
            )
            .under("a longer `length` in `format`, or other widths");
    }
}

/// What a schema may say of other files, and means nothing for columns at fixed places.
fn note_rules_of_fixed(feed: &Table<'_>, schema: Option<&Schema>, notes: &mut Notes<'_>) {
    let Some(schema) = schema else { return };
    let wrong = [
        (
            schema.extra_columns != ExtraColumns::Reject,
            "extra_columns",
        ),
        (
            schema.missing_columns != MissingColumns::Reject,
            "missing_columns",
        ),
        (schema.fields_match != FieldsMatch::Equal, "fields_match"),
    ];
    for (_, key) in wrong.iter().filter(|(is_wrong, _)| *is_wrong) {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &feed.span(),
                format!("a line at fixed places has all its columns, so `{key}` says nothing"),
            )
            .under("remove it");
    }
}

/// One ASCII character that no number and no word can hold.
fn mark(table: &Table<'_>, key: &str, default: u8, notes: &mut Notes<'_>) -> Option<u8> {
    if table.value(key).is_none() {
        return Some(default);
    }
    let text = table.text(key, notes)?;
    match text.get_ref().as_bytes() {
        [byte]
            if (byte.is_ascii_punctuation() || matches!(byte, b' ' | b'\t'))
                && !matches!(byte, b'-' | b'.' | b'+') =>
        {
            Some(*byte)
        }
        _ => {
            notes
                .bad_value(
                    &text.span(),
                    format!(
                        "`{key}` must be one ASCII character, not \"{}\"",
                        shown(text.get_ref())
                    ),
                )
                .under("as in \";\" or \"\\t\"; no letter, digit, sign or point");
            None
        }
    }
}

/// The shape of what is forwarded.
fn output(
    feed: &Table<'_>,
    format: Option<&Format>,
    notes: &mut Notes<'_>,
) -> (OutputFormat, OutputCompression) {
    const PACKINGS: &[(&str, OutputCompression)] = &[
        ("none", OutputCompression::None),
        ("gzip", OutputCompression::Gzip),
        ("zstd", OutputCompression::Zstd),
    ];
    let same = match format {
        Some(Format::Json(shape)) => OutputFormat::Json(*shape),
        Some(format) if is_parquet(format) => OutputFormat::Parquet,
        // Values have other widths than their tokens, and other types.
        Some(Format::Columnar(_) | Format::Csv(_) | Format::Fixed(_) | Format::Opaque) | None => {
            OutputFormat::Csv
        }
    };
    let usual = |format| match format {
        OutputFormat::Csv | OutputFormat::Json(_) => OutputCompression::None,
        OutputFormat::Parquet => OutputCompression::Zstd,
    };
    let place = format!("output of {}", feed.place());
    let Some(table) = feed.table("output", place, &OUTPUT_KEYS, notes) else {
        return (same, usual(same));
    };
    let packing = table.word("compression", PACKINGS, &[], notes);
    if let (Some(packing), Some(Format::Opaque)) = (&packing, format)
        && *packing.get_ref() != OutputCompression::None
    {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &packing.span(),
                "opaque files are delivered as they are",
            )
            .under("remove it");
    }
    let words = [
        ("same", same),
        ("csv", OutputFormat::Csv),
        ("ndjson", OutputFormat::Json(JsonShape::Lines)),
        ("json", OutputFormat::Json(JsonShape::Array)),
        ("parquet", OutputFormat::Parquet),
    ];
    let allowed = match format {
        Some(Format::Opaque) => words.get(..1),
        Some(format) if is_parquet(format) => words.get(..),
        Some(Format::Columnar(_) | Format::Fixed(_)) => words.get(1..),
        Some(Format::Csv(_) | Format::Json(_)) | None => words.get(..),
    };
    let word = table.word("format", allowed.unwrap_or_default(), &[], notes);
    if let Some(word) = &word
        && *word.get_ref() == OutputFormat::Parquet
        && !Columnar::Parquet.is_built_in()
    {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &word.span(),
                "this build does not write parquet",
            )
            .under("build it with the feature `columnar`");
    }
    let output = word.map_or(same, Spanned::into_inner);
    (
        output,
        packing.map_or_else(|| usual(output), Spanned::into_inner),
    )
}

fn is_parquet(format: &Format) -> bool {
    matches!(format, Format::Columnar(shape) if shape.format == Columnar::Parquet)
}

/// What a column of Parquet cannot be. It has no integers of more than 64 bits: one without bounds is bound
/// to them, so that a number beyond is a finding and not a fault of ours. Nor has it moments of which only
/// some are in UTC.
fn fit_parquet(feed: &Table<'_>, schema: &mut Schema, checks_moments: bool, notes: &mut Notes<'_>) {
    let bound = |value: i64| Bound {
        text: value.to_string(),
        value: value.into(),
    };
    let (lowest, highest) = (bound(i64::MIN), bound(i64::MAX));
    for column in &mut schema.columns {
        if let Kind::DateTime { formats } = &column.kind
            && checks_moments
            && column.token.is_none()
            && let Some(first) = formats.first()
            && formats
                .iter()
                .any(|one| has_offset(one) != has_offset(first))
        {
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &feed.key_span("output").unwrap_or_else(|| feed.span()),
                    format!(
                        "column {}: some of its formats have an offset from UTC and some have none",
                        column.name
                    ),
                )
                .under("a column of Parquet has one meaning: a feed for each, or another output");
        }
        if column.kind != Kind::Integer || column.token.is_some() {
            continue;
        }
        let least = column.minimum.get_or_insert_with(|| lowest.clone());
        let most = column.maximum.get_or_insert_with(|| highest.clone());
        if least.value < lowest.value || most.value > highest.value {
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &feed.key_span("output").unwrap_or_else(|| feed.span()),
                    format!(
                        "column {}: integers of Parquet have 64 bits, {} to {}",
                        column.name, lowest.text, highest.text
                    ),
                )
                .under("give narrower bounds, or type = \"decimal\" with precision and scale = 0");
        }
    }
}

/// A format that this build leaves out.
fn note_built_in(format: Columnar, span: &Span, notes: &mut Notes<'_>) {
    if format.is_built_in() {
        return;
    }
    let feature = match format {
        Columnar::Arrow | Columnar::Avro | Columnar::Parquet => "columnar",
        Columnar::Xlsx => "xlsx",
    };
    notes
        .error(
            codes::POLICY_CONFLICT,
            span,
            format!("this build does not read {}", format.word()),
        )
        .under(format!("build it with the feature `{feature}`"));
}

/// Keys that say nothing here, and why.
fn note_useless(table: &Table<'_>, keys: &[&str], why: &str, notes: &mut Notes<'_>) {
    for key in keys {
        if let Some(span) = table.key_span(key) {
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &span,
                    format!("{why}, so `{key}` says nothing"),
                )
                .under("remove it");
        }
    }
}

/// The sheet of a workbook.
fn sheet(table: &Table<'_>, is_workbook: bool, notes: &mut Notes<'_>) -> Option<String> {
    let sheet = table.text("sheet", notes)?;
    if is_workbook {
        return Some((*sheet.get_ref()).to_owned());
    }
    notes
        .error(
            codes::POLICY_CONFLICT,
            &sheet.span(),
            "only a workbook has sheets",
        )
        .under("remove it, or write type = \"xlsx\"");
    None
}

/// Values that a file holds as what they are come as text of these forms, whatever else is taken.
fn take_typed(schema: &mut Schema) {
    let add = |words: &mut Vec<String>, more: &[&str]| {
        for word in more {
            if !words.iter().any(|known| known == word) {
                words.push((*word).to_owned());
            }
        }
    };
    for column in &mut schema.columns {
        match &mut column.kind {
            Kind::Boolean { yes, no } => {
                add(yes, &["true"]);
                add(no, &["false"]);
            }
            Kind::Date { formats } => add(formats, &["%Y-%m-%d"]),
            Kind::DateTime { formats } => {
                add(formats, &["%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dT%H:%M:%S%.f"]);
            }
            Kind::Decimal { .. } | Kind::Integer | Kind::Text(_) => {}
        }
    }
}

/// What a schema may say of files of rows in general, and nothing means for JSON.
fn note_rules_of_json(feed: &Table<'_>, schema: Option<&Schema>, notes: &mut Notes<'_>) {
    let mut conflict = |span: Option<Span>, why: &str, remedy: &str| {
        let span = span.unwrap_or_else(|| feed.span());
        notes
            .error(codes::POLICY_CONFLICT, &span, why.to_owned())
            .under(remedy);
    };
    if let Some(span) = feed.key_span("control") {
        let why = "JSON has no last line with control totals";
        conflict(Some(span), why, "remove [feed.control]");
    }
    let Some(schema) = schema else { return };
    if schema.extra_columns == ExtraColumns::Keep {
        conflict(
            None,
            "of JSON, keys the contract does not know cannot be kept: each object may have others",
            "extra_columns = \"drop\", or add the columns",
        );
    }
    if schema.fields_match == FieldsMatch::Exact {
        conflict(
            None,
            "the keys of a JSON object have no order",
            "fields_match = \"equal\"",
        );
    }
}

/// `[feed.schema]` and `[feed.control]` of a feed of rows.
fn rows(
    feed: &Table<'_>,
    header: Header,
    notes: &mut Notes<'_>,
) -> (Option<Schema>, Option<Trailer>) {
    let outline = outline(feed, header, notes);
    for place in outline.iter().flat_map(|outline| &outline.places) {
        for (key, value) in [("start", &place.start), ("width", &place.width)] {
            if let Some(value) = value {
                notes
                    .error(
                        codes::POLICY_CONFLICT,
                        &value.span(),
                        format!("only in a file of fixed places `{key}` says something"),
                    )
                    .under("remove it, or write format = { type = \"fixed\" }");
            }
        }
    }
    let trailer = control(feed, outline.as_ref(), notes);
    (outline.and_then(|outline| outline.schema), trailer)
}

/// The same of a feed of lines with columns at fixed places, which its schema gives.
fn rows_at(
    feed: &Table<'_>,
    shape: &mut FixedShape,
    notes: &mut Notes<'_>,
) -> (Option<Schema>, Option<Trailer>) {
    let outline = outline(feed, Header::Absent, notes);
    if let Some(outline) = &outline {
        lay_out(shape, &outline.places, feed, notes);
        let most = outline
            .schema
            .as_ref()
            .map(|schema| schema.record_bytes_max);
        // A character has four bytes at most.
        if most.is_some_and(|most| shape.length > most / 4) {
            notes
                .error(
                    codes::POLICY_BOUNDS,
                    &feed.span(),
                    format!(
                        "a line of {} characters may be over the limit of a record",
                        shape.length
                    ),
                )
                .under("limits = { record = ... } in the schema, four bytes for each character");
        }
    }
    let trailer = control(feed, outline.as_ref(), notes);
    (outline.and_then(|outline| outline.schema), trailer)
}

fn outline(feed: &Table<'_>, header: Header, notes: &mut Notes<'_>) -> Option<Outline> {
    if feed.value("schema").is_none() {
        notes.missing(
            feed,
            "schema",
            "[feed.schema] with columns = [...]; only opaque feeds have none",
        );
    }
    let place = format!("schema of {}", feed.place());
    feed.table("schema", place, &columns::SCHEMA_KEYS, notes)
        .map(|table| columns::schema(&table, header, notes))
}

fn note_rules_of_opaque(feed: &Table<'_>, notes: &mut Notes<'_>) {
    let place = format!("schema of {}", feed.place());
    if let Some(table) = feed.table("schema", place, &columns::SCHEMA_KEYS, notes) {
        columns::note_tokens_of_opaque(&table, notes);
    }
    let why = "opaque files are delivered unopened";
    note_useless(feed, &KEYS_OF_TEXT, why, notes);
}

// === [feed.control] ===

fn control(feed: &Table<'_>, outline: Option<&Outline>, notes: &mut Notes<'_>) -> Option<Trailer> {
    let place = format!("control of {}", feed.place());
    let table = feed.table("control", place, &CONTROL_KEYS, notes)?;
    let text = table.need_text("trailer", r"trailer = 'TRL,(?<rows>\d+)'", notes);
    let pattern = text
        .as_ref()
        .and_then(|text| names::whole("trailer", text, notes));
    let groups = pattern.as_ref().map(names::groups);
    let rows = table
        .text("rows", notes)
        .and_then(|rows| group_of("rows", &rows, groups.as_deref(), notes));
    let sums = sums(&table, outline, groups.as_deref(), notes);
    Some(Trailer {
        pattern: pattern?,
        rows,
        sums,
    })
}

fn sums(
    control: &Table<'_>,
    outline: Option<&Outline>,
    groups: Option<&[&str]>,
    notes: &mut Notes<'_>,
) -> Vec<(usize, String)> {
    let Some(value) = control.value("sum") else {
        return Vec::new();
    };
    let Some(map) = value.get_ref().as_table() else {
        control
            .wrong_type("sum", value, "a table", notes)
            .under("write sum.amount = \"{sum_amount}\"");
        return Vec::new();
    };
    let table = Table::open_names(map, value.span(), "sum");
    let columns = outline.map_or(&[][..], |outline| &outline.names);
    let known: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let mut sums = Vec::new();
    for name in table.names() {
        let group = table
            .text(name.get_ref(), notes)
            .and_then(|text| group_of("sum", &text, groups, notes));
        let column = columns
            .iter()
            .enumerate()
            .find(|(_, (known, _))| known == name.get_ref());
        match column {
            None if !columns.is_empty() => {
                columns::note_unknown_column("sum", &name, &known, notes);
            }
            Some((_, (_, Some(kind)))) if !is_number(kind) => {
                notes
                    .error(
                        codes::POLICY_UNKNOWN_COLUMN,
                        &name.span(),
                        format!(
                            "\"{}\" has no sum: it is not a number",
                            shown(name.get_ref())
                        ),
                    )
                    .under("name an integer or decimal column");
            }
            Some((index, _)) => sums.extend(group.map(|group| (index, group))),
            None => {}
        }
    }
    sums
}

fn is_number(kind: &Kind) -> bool {
    match kind {
        Kind::Decimal { .. } | Kind::Integer => true,
        Kind::Boolean { .. } | Kind::Date { .. } | Kind::DateTime { .. } | Kind::Text(_) => false,
    }
}

/// The group in `"{group}"`, when the trailer has it.
fn group_of(
    key: &str,
    text: &Spanned<&str>,
    groups: Option<&[&str]>,
    notes: &mut Notes<'_>,
) -> Option<String> {
    let inside = text
        .get_ref()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let Some(group) = inside.filter(|group| !group.contains(['{', '}'])) else {
        notes
            .bad_value(
                &text.span(),
                format!(
                    "`{key}` must name one group of the trailer, not \"{}\"",
                    shown(text.get_ref())
                ),
            )
            .under(format!("as in \"{{{key}}}\""));
        return None;
    };
    let groups = groups?;
    if groups.contains(&group) {
        return Some(group.to_owned());
    }
    let named = if groups.is_empty() {
        "the trailer names no group; write them like (?<rows>\\d+)".to_owned()
    } else {
        format!("groups of the trailer: {}", groups.join(", "))
    };
    notes
        .error(
            codes::POLICY_UNKNOWN_GROUP,
            &text.span(),
            format!(
                "`{key}` names group {{{}}}, which the trailer does not have",
                shown(group)
            ),
        )
        .under("no such group")
        .perhaps(nearest(group, groups.iter().copied()))
        .advise(named);
    None
}

// === [[feed.test]] ===

fn tests(feed: &Table<'_>, pattern: Option<&Pattern>, notes: &mut Notes<'_>) -> Vec<Test> {
    let tables = feed.tables("test", "[[feed.test]]", notes);
    tables
        .into_iter()
        .enumerate()
        .filter_map(|(index, (map, span))| {
            let place = format!("test {} of {}", index + 1, feed.place());
            test(
                &Table::open(map, span, place, &TEST_KEYS, notes),
                pattern,
                notes,
            )
        })
        .collect()
}

fn test(table: &Table<'_>, pattern: Option<&Pattern>, notes: &mut Notes<'_>) -> Option<Test> {
    const VERDICTS: &[(&str, Verdict)] = &[
        ("accepted", Verdict::Accepted),
        ("held", Verdict::Held),
        ("rejected", Verdict::Rejected),
    ];
    let file = table.need_text("file", "file = \"acme/orders_20261120.csv\"", notes);
    if let Some(file) = &file {
        check_test_path(file, notes);
    }
    let name = table.text("as", notes);
    table.need_text("expect", "expect = \"accepted\"", notes)?;
    let expect = table.word("expect", VERDICTS, &[], notes);
    let codes = table
        .texts("codes", notes)
        .map_or_else(Vec::new, Spanned::into_inner);
    note_repeats("codes", &codes, notes);
    for code in &codes {
        check_code(code, expect.as_ref().map(|e| *e.get_ref()), notes);
    }
    let file = file?;
    let span = name.as_ref().unwrap_or(&file).span();
    let test = FeedTest {
        file: (*file.get_ref()).to_owned(),
        name: name.map(|name| (*name.get_ref()).to_owned()),
        expect: expect?.into_inner(),
        codes: codes
            .iter()
            .map(|code| (*code.get_ref()).to_owned())
            .collect(),
    };
    let about_names = test.codes.iter().any(|code| code == Code::NoFeed.as_str());
    if let Some(pattern) = pattern
        && !about_names
        && !pattern.regex.is_match(name_of(&test))
    {
        notes
            .error(
                codes::POLICY_CONFLICT,
                &span,
                format!(
                    "`match` does not fit the name \"{}\"",
                    shown(name_of(&test))
                ),
            )
            .under("add as = \"...\", the name the file would arrive under");
    }
    Some(Test { test, span })
}

/// The name the file of a test arrives under.
fn name_of(test: &FeedTest) -> &str {
    match &test.name {
        Some(name) => name,
        None => test.file.rsplit('/').next().unwrap_or_default(),
    }
}

fn check_test_path(file: &Spanned<&str>, notes: &mut Notes<'_>) {
    let text = *file.get_ref();
    let inside = VirtualPath::parse(text.as_bytes())
        .is_ok_and(|path| path.as_str().strip_prefix('/') == Some(text) && !text.is_empty());
    if !inside {
        notes
            .bad_value(
                &file.span(),
                format!("\"{}\" is no path below the policy folder", shown(text)),
            )
            .under("as in \"acme/orders_20261120.csv\"");
    }
}

fn check_code(code: &Spanned<&str>, expect: Option<Verdict>, notes: &mut Notes<'_>) {
    match Code::find(code.get_ref()) {
        None => {
            let known = Code::ALL.map(Code::as_str);
            let near = nearest(code.get_ref(), known.into_iter());
            notes
                .error(
                    codes::POLICY_UNKNOWN_WORD,
                    &code.span(),
                    format!("there is no code \"{}\"", shown(code.get_ref())),
                )
                .under("sallyport help codes lists them")
                .perhaps(near);
        }
        Some(found) if expect == Some(Verdict::Accepted) && !found.is_warning() => {
            notes
                .error(
                    codes::POLICY_CONFLICT,
                    &code.span(),
                    format!("a file with {found} is never accepted"),
                )
                .under("write expect = \"rejected\", or remove the code");
        }
        Some(_) => {}
    }
}

/// A test file that an earlier feed would take shows that the order of the feeds is wrong.
fn warn_shadowed(feeds: &[Option<(Feed, Vec<Span>)>], notes: &mut Notes<'_>) {
    for (index, (feed, spans)) in feeds.iter().flatten().enumerate() {
        for (test, span) in feed.tests.iter().zip(spans) {
            let name = name_of(test);
            let earlier = feeds
                .iter()
                .flatten()
                .take(index)
                .find(|(earlier, _)| earlier.pattern.is_match(name));
            if let Some((earlier, _)) = earlier {
                notes
                    .warn(
                        codes::POLICY_SHADOWED,
                        span,
                        format!(
                            "\"{}\" goes to feed \"{}\", which stands before feed \"{}\"",
                            shown(name),
                            earlier.id,
                            feed.id
                        ),
                    )
                    .under("the first feed that matches takes the file");
            }
        }
    }
}

/// A name or id, or a mistake that says what one looks like.
fn term<T>(
    text: &Spanned<&str>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, BadTerm>,
    notes: &mut Notes<'_>,
) -> Option<T> {
    parse(text.get_ref())
        .map_err(|bad| {
            notes
                .bad_value(
                    &text.span(),
                    format!("`{key}` = \"{}\" is no {}", shown(text.get_ref()), bad.what),
                )
                .under(bad.why);
        })
        .ok()
}
