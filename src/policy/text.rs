//! TOML text as a tree that knows where everything stands, and the notes taken while reading it.
//!
//! Reading never stops at a mistake: every reader notes it and returns `None`, so that one run
//! shows all of them. Tables list what is allowed; any other key is a mistake. Nothing here
//! knows what the words mean. Source: the TOML 1.1 specification, as the `toml` crate parses it.

use std::ops::{Range, RangeInclusive};

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::lists::Lists;
use crate::policy::mistake::{Mistake, Severity, shown};
use crate::terms::limits;

/// Bytes of a text.
pub(crate) type Span = Range<usize>;

/// The codes of one kind of file, and where its keys live.
pub(crate) struct Family {
    pub(crate) syntax: &'static str,
    pub(crate) too_large: &'static str,
    pub(crate) unknown_key: &'static str,
    pub(crate) missing_key: &'static str,
    pub(crate) wrong_type: &'static str,
    pub(crate) unknown_word: &'static str,
    pub(crate) bad_value: &'static str,
    pub(crate) duplicate: &'static str,
    pub(crate) not_yet: &'static str,
    /// Every table of the language, as it is written, with its keys.
    pub(crate) tables: &'static [(&'static str, &'static Keys)],
}

/// The keys of one table.
pub(crate) struct Keys {
    /// Keys this version reads.
    pub(crate) here: &'static [&'static str],
    /// Keys of the language that it does not read yet, and therefore refuses.
    pub(crate) later: &'static [&'static str],
}

/// The mistakes found so far in one text.
pub(crate) struct Notes<'t> {
    file: &'t str,
    text: &'t str,
    family: &'static Family,
    /// The values of other files that the text names.
    lists: &'t Lists,
    mistakes: Vec<Mistake>,
    hidden: Vec<Span>,
}

/// A table and where it stands.
pub(crate) struct Table<'d> {
    map: &'d DeTable<'d>,
    span: Span,
    /// As in `feed "orders"`, for messages.
    place: String,
    /// Keys that stand here in another spelling: said already, so not missing.
    misspelt: Vec<&'static str>,
}

/// Mistakes of syntax shown of one file: most of the rest follow from the first.
const SYNTAX_MISTAKES_MAX: usize = 8;
/// Mistakes shown of one file; past it only their number.
const MISTAKES_MAX: usize = 500;

// === impl Notes ===

impl<'t> Notes<'t> {
    pub(crate) fn new(
        file: &'t str,
        text: &'t str,
        family: &'static Family,
        lists: &'t Lists,
    ) -> Self {
        Self {
            file,
            text,
            family,
            lists,
            mistakes: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// The lists there are.
    pub(crate) fn lists(&self) -> &'t Lists {
        self.lists
    }

    /// The text as a tree; `None`, and the parser's mistakes noted, when it is not TOML.
    pub(crate) fn parse(&mut self) -> Option<DeTable<'t>> {
        if self.text.len() > limits::RULES_BYTES_MAX {
            self.error(
                self.family.too_large,
                &(0..0),
                format!(
                    "the file has {} bytes; {} are the most",
                    self.text.len(),
                    limits::RULES_BYTES_MAX
                ),
            );
            return None;
        }
        let (tree, faults) = DeTable::parse_recoverable(self.text);
        if faults.is_empty() {
            return Some(tree.into_inner());
        }
        for fault in faults.iter().take(SYNTAX_MISTAKES_MAX) {
            self.note_syntax(fault);
        }
        let surplus = faults.len().saturating_sub(SYNTAX_MISTAKES_MAX);
        if surplus > 0
            && let Some(last) = self.mistakes.last_mut()
        {
            last.advise(format!("and {surplus} more that may follow from these"));
        }
        None
    }

    /// Notes a fault of the parser, as in `unclosed array, expected ]`.
    fn note_syntax(&mut self, fault: &toml::de::Error) {
        let span = fault.span().unwrap_or(0..0);
        let line: Vec<&str> = fault.message().split_whitespace().collect();
        let message = line.join(" ");
        if message == "duplicate key" {
            let key = shown(self.text.get(span.clone()).unwrap_or_default());
            self.error(
                self.family.duplicate,
                &span,
                format!("the key `{key}` stands here already"),
            )
            .under("stands here a second time; keep one");
            return;
        }
        let (what, expected) = message.split_once(", expected ").unwrap_or((&message, ""));
        let mistake = self.error(self.family.syntax, &span, what);
        if !expected.is_empty() {
            mistake.under(format!("expected {expected}"));
        }
    }

    /// Notes an error at `span`.
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        span: &Span,
        message: impl Into<String>,
    ) -> &mut Mistake {
        self.note(code, Severity::Error, span, message.into())
    }

    /// Notes a warning at `span`.
    pub(crate) fn warn(
        &mut self,
        code: &'static str,
        span: &Span,
        message: impl Into<String>,
    ) -> &mut Mistake {
        self.note(code, Severity::Warning, span, message.into())
    }

    /// Notes a value its key cannot have.
    pub(crate) fn bad_value(&mut self, span: &Span, message: impl Into<String>) -> &mut Mistake {
        self.error(self.family.bad_value, span, message)
    }

    /// Notes a word of the language that this version does not act on.
    pub(crate) fn not_yet(&mut self, span: &Span, what: &str) -> &mut Mistake {
        self.error(
            self.family.not_yet,
            span,
            format!("{what} is not in this version"),
        )
        .under("this version would not act on it, so it refuses it")
    }

    /// Notes a missing key of a table, unless the table has it misspelt.
    pub(crate) fn missing(&mut self, table: &Table<'_>, key: &str, example: &str) {
        if table.misspelt.contains(&key) {
            return;
        }
        self.error(
            self.family.missing_key,
            &table.span,
            format!("{} needs `{key}`", table.place),
        )
        .under(format!("add {example}"));
    }

    /// Source lines never show these bytes: somebody put a secret here.
    pub(crate) fn hide(&mut self, span: &Span) {
        self.hidden
            .push(self.border(span.start)..self.border(span.end));
    }

    /// Notes a mistake outside the text, as in the environment.
    pub(crate) fn outside(&mut self, code: &'static str, file: &str, message: String) {
        self.mistakes
            .push(Mistake::without_place(code, Severity::Error, file, message));
    }

    /// The bytes of `part` (of the value) in the text. Where the text writes the value with
    /// escapes, the whole value.
    pub(crate) fn inside(&self, value: &Spanned<&str>, part: Range<usize>) -> Span {
        let whole = value.span();
        let raw = self.text.get(whole.clone()).unwrap_or_default();
        match raw.find(*value.get_ref()) {
            Some(quote) if !value.get_ref().is_empty() => {
                let start = whole.start + quote;
                (start + part.start).min(whole.end)..(start + part.end).min(whole.end)
            }
            Some(_) | None => whole,
        }
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.mistakes
            .iter()
            .filter(|mistake| mistake.severity == Severity::Error)
            .count()
    }

    /// All mistakes in the order of the text, with line and column.
    pub(crate) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes
            .sort_by_key(|m| (m.span.as_ref().map(|s| s.start), m.severity, m.code));
        self.mistakes.dedup();
        let lines: Vec<usize> = std::iter::once(0)
            .chain(self.text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let surplus = self.mistakes.len().saturating_sub(MISTAKES_MAX);
        self.mistakes.truncate(MISTAKES_MAX);
        for mistake in &mut self.mistakes {
            let Some(span) = &mistake.span else { continue };
            let line = lines.partition_point(|start| *start <= span.start).max(1);
            let start = lines.get(line - 1).copied().unwrap_or(0);
            let end = lines.get(line).copied().unwrap_or(self.text.len() + 1) - 1;
            let source = self.text.get(start..end).unwrap_or_default();
            let before = self.text.get(start..span.start).unwrap_or_default();
            mistake.line = line;
            mistake.column = before.chars().count() + 1;
            mistake.source = Some(masked(source, start, &self.hidden));
        }
        if surplus > 0
            && let Some(last) = self.mistakes.last_mut()
        {
            last.advise(format!("and {surplus} more mistakes after this one"));
        }
        self.mistakes
    }

    fn note(
        &mut self,
        code: &'static str,
        severity: Severity,
        span: &Span,
        message: String,
    ) -> &mut Mistake {
        let start = self.border(span.start);
        let mut mistake = Mistake::without_place(code, severity, self.file, message);
        mistake.span = Some(start..self.border(span.end).max(start));
        self.mistakes.push_mut(mistake)
    }

    /// The next character border at or before `at`.
    fn border(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

// === impl Table ===

impl<'d> Table<'d> {
    /// Opens a table and notes every key that is not among `keys`.
    pub(crate) fn open(
        map: &'d DeTable<'d>,
        span: Span,
        place: impl Into<String>,
        keys: &Keys,
        notes: &mut Notes<'_>,
    ) -> Self {
        let mut table = Self {
            map,
            span,
            place: place.into(),
            misspelt: Vec::new(),
        };
        for key in map.keys() {
            let name = key.get_ref().as_ref();
            if keys.here.contains(&name) {
                continue;
            }
            if keys.later.contains(&name) {
                notes.not_yet(&key.span(), &format!("`{name}` in {}", table.place));
                continue;
            }
            let lower = name.to_ascii_lowercase();
            if let Some(value) = map.get(name)
                && SECRET_WORDS.iter().any(|word| lower.contains(word))
            {
                notes.hide(&value.span());
            }
            let near = nearest(name, keys.here.iter().chain(keys.later).copied());
            table.misspelt.extend(near);
            let elsewhere: Vec<&str> = notes
                .family
                .tables
                .iter()
                .filter(|(_, keys)| keys.here.contains(&name))
                .map(|(home, _)| *home)
                .collect();
            let allowed = keys.here.join(", ");
            let mistake = notes
                .error(
                    notes.family.unknown_key,
                    &key.span(),
                    format!("unknown key `{}` in {}", shown(name), table.place),
                )
                .perhaps(near)
                .advise(format!("allowed here: {allowed}"));
            if near.is_none() && !elsewhere.is_empty() {
                mistake.under(format!("belongs under {}", elsewhere.join(" or ")));
            }
        }
        table
    }

    /// Opens a table whose keys are names, not words of the language.
    pub(crate) fn open_names(map: &'d DeTable<'d>, span: Span, place: impl Into<String>) -> Self {
        Self {
            map,
            span,
            place: place.into(),
            misspelt: Vec::new(),
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The names of the keys, in order.
    pub(crate) fn names(&self) -> Vec<Spanned<&'d str>> {
        self.map
            .keys()
            .map(|key| Spanned::new(key.span(), key.get_ref().as_ref()))
            .collect()
    }

    /// Where the key stands, when it is there.
    pub(crate) fn key_span(&self, key: &str) -> Option<Span> {
        self.map.get_key_value(key).map(|(name, _)| name.span())
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.map.get(key)
    }

    pub(crate) fn text(&self, key: &str, notes: &mut Notes<'_>) -> Option<Spanned<&'d str>> {
        self.text_of(key, self.value(key)?, notes)
    }

    /// Like `text`, and a missing key is a mistake.
    pub(crate) fn need_text(
        &self,
        key: &str,
        example: &str,
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<&'d str>> {
        if self.value(key).is_none() {
            notes.missing(self, key, example);
        }
        self.text(key, notes)
    }

    pub(crate) fn flag(&self, key: &str, notes: &mut Notes<'_>) -> Option<Spanned<bool>> {
        let value = self.value(key)?;
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(Spanned::new(value.span(), *flag));
        }
        let mistake = self.wrong_type(key, value, "true or false", notes);
        if let Some(word @ ("true" | "false")) = value.get_ref().as_str() {
            mistake.under(format!("write {word}, without quotes"));
        }
        None
    }

    /// An integer inside `range`.
    pub(crate) fn count(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<u64>> {
        let value = self.value(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            let mistake = self.wrong_type(key, value, "an integer", notes);
            if let Some(text) = value.get_ref().as_str()
                && text.parse::<u64>().is_ok()
            {
                mistake.under(format!("write {text}, without quotes"));
            }
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if let Some(number) = number.filter(|number| range.contains(number)) {
            Some(Spanned::new(value.span(), number))
        } else {
            notes.bad_value(
                &value.span(),
                format!(
                    "`{key}` must be {} to {}, not {}",
                    range.start(),
                    range.end(),
                    shown(&integer.to_string())
                ),
            );
            None
        }
    }

    /// Bytes, as in `"5 GB"`.
    pub(crate) fn size(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<u64>> {
        self.measured(
            key,
            "a size like \"5 GB\" or \"64 KiB\"",
            "B",
            notes,
            |text| {
                let bytes = measure(text, SIZE_UNITS)?;
                if range.contains(&bytes) {
                    Ok(bytes)
                } else {
                    Err(format!(
                        "must be {} to {}",
                        human_size(*range.start()),
                        human_size(*range.end())
                    ))
                }
            },
        )
    }

    /// Milliseconds, as in `"10s"`.
    pub(crate) fn duration_ms(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<u64>> {
        self.measured(key, "a time like \"10s\" or \"48h\"", "s", notes, |text| {
            let ms = measure(text, TIME_UNITS)?;
            if range.contains(&ms) {
                Ok(ms)
            } else {
                Err(format!(
                    "must be {} to {}",
                    human_time(*range.start()),
                    human_time(*range.end())
                ))
            }
        })
    }

    /// A list of strings.
    pub(crate) fn texts(
        &self,
        key: &str,
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<Vec<Spanned<&'d str>>>> {
        let value = self.value(key)?;
        let Some(items) = value.get_ref().as_array() else {
            let mistake = self.wrong_type(key, value, "a list of strings", notes);
            if let Some(text) = value.get_ref().as_str() {
                mistake.under(format!("write [\"{}\"]", shown(text)));
            }
            return None;
        };
        let before = items.len();
        let texts: Vec<Spanned<&'d str>> = items
            .iter()
            .filter_map(|item| self.text_of(key, item, notes))
            .collect();
        (texts.len() == before).then(|| Spanned::new(value.span(), texts))
    }

    /// A table under `key`, its keys checked.
    pub(crate) fn table(
        &self,
        key: &str,
        place: impl Into<String>,
        keys: &Keys,
        notes: &mut Notes<'_>,
    ) -> Option<Table<'d>> {
        let value = self.value(key)?;
        if let Some(map) = value.get_ref().as_table() {
            Some(Table::open(map, value.span(), place, keys, notes))
        } else {
            self.wrong_type(key, value, "a table", notes);
            None
        }
    }

    /// A list of tables under `key`, keys not yet checked: each with where it stands.
    pub(crate) fn tables(
        &self,
        key: &str,
        example: &str,
        notes: &mut Notes<'_>,
    ) -> Vec<(&'d DeTable<'d>, Span)> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of tables", notes)
                .under(format!("write {example}"));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| {
                if let Some(map) = item.get_ref().as_table() {
                    Some((map, item.span()))
                } else {
                    self.wrong_type(key, item, "a list of tables", notes)
                        .under(format!("write {example}"));
                    None
                }
            })
            .collect()
    }

    /// One of the words of a list; `later` are words of the language that this version refuses.
    pub(crate) fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        later: &[&'static str],
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<T>> {
        let text = self.text(key, notes)?;
        word_of(key, &text, words, later, notes).map(|word| Spanned::new(text.span(), word))
    }

    /// A list of words, none twice, not empty.
    pub(crate) fn words<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        later: &[&'static str],
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<Vec<T>>> {
        let texts = self.texts(key, notes)?;
        if texts.get_ref().is_empty() {
            notes
                .bad_value(&texts.span(), format!("`{key}` names nothing"))
                .under(format!("one or more of {}", names_of(words).join(", ")));
            return None;
        }
        note_repeats(key, texts.get_ref(), notes);
        let known: Vec<T> = texts
            .get_ref()
            .iter()
            .filter_map(|text| word_of(key, text, words, later, notes))
            .collect();
        (known.len() == texts.get_ref().len()).then(|| Spanned::new(texts.span(), known))
    }

    fn text_of(
        &self,
        key: &str,
        value: &'d Spanned<DeValue<'d>>,
        notes: &mut Notes<'_>,
    ) -> Option<Spanned<&'d str>> {
        if let Some(text) = value.get_ref().as_str() {
            return Some(Spanned::new(value.span(), text));
        }
        let mistake = self.wrong_type(key, value, "a string", notes);
        match value.get_ref() {
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                mistake.under("put it in quotes");
            }
            DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => {}
        }
        None
    }

    pub(crate) fn wrong_type<'n>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
        notes: &'n mut Notes<'_>,
    ) -> &'n mut Mistake {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        notes
            .error(
                notes.family.wrong_type,
                &value.span(),
                format!("`{key}` in {} must be {expected}, not {found}", self.place),
            )
            .under(format!("expected {expected}"))
    }

    fn measured(
        &self,
        key: &str,
        expected: &str,
        unit: &str,
        notes: &mut Notes<'_>,
        read: impl Fn(&str) -> Result<u64, String>,
    ) -> Option<Spanned<u64>> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            let bare = value.get_ref().as_integer().map(ToString::to_string);
            let mistake = self.wrong_type(key, value, expected, notes);
            if let Some(number) = bare {
                mistake.under(format!("say the unit: \"{number} {unit}\""));
            }
            return None;
        };
        match read(text) {
            Ok(number) => Some(Spanned::new(value.span(), number)),
            Err(why) => {
                notes
                    .bad_value(
                        &value.span(),
                        format!("`{key}` = \"{}\" is not {expected}", shown(text)),
                    )
                    .under(why);
                None
            }
        }
    }
}

// === words ===

/// The meaning of a word, or a mistake with the nearest spelling.
pub(crate) fn word_of<T: Copy>(
    key: &str,
    text: &Spanned<&str>,
    words: &[(&'static str, T)],
    later: &[&'static str],
    notes: &mut Notes<'_>,
) -> Option<T> {
    let word = *text.get_ref();
    if let Some((_, meaning)) = words.iter().find(|(name, _)| *name == word) {
        return Some(*meaning);
    }
    let names = names_of(words);
    if later.contains(&word) {
        notes
            .not_yet(&text.span(), &format!("{key} = \"{word}\""))
            .advise(format!("this version has: {}", names.join(", ")));
        return None;
    }
    let near = nearest(word, names.iter().chain(later).copied());
    notes
        .error(
            notes.family.unknown_word,
            &text.span(),
            format!("`{key}` knows no \"{}\"", shown(word)),
        )
        .under(format!("one of {}", names.join(", ")))
        .perhaps(near)
        .advise(format!("this version has: {}", names.join(", ")));
    None
}

/// A network as in `198.51.100.0/24`, without address bits behind its prefix.
pub(crate) fn network(text: &Spanned<&str>, notes: &mut Notes<'_>) -> Option<IpNet> {
    let written = *text.get_ref();
    let Ok(net) = written.parse::<IpNet>() else {
        let remedy = match written.parse::<std::net::IpAddr>() {
            Ok(address) => format!("write \"{}\"", IpNet::from(address)),
            Err(_) => "as in \"198.51.100.0/24\" or \"2001:db8::/32\"".to_owned(),
        };
        notes
            .bad_value(
                &text.span(),
                format!("\"{}\" is no network", shown(written)),
            )
            .under(remedy);
        return None;
    };
    if net.addr() != net.network() {
        notes
            .bad_value(
                &text.span(),
                format!("\"{}\" has address bits behind its prefix", shown(written)),
            )
            .under(format!(
                "did you mean \"{}\" or \"{}\"?",
                net.trunc(),
                IpNet::from(net.addr())
            ));
        return None;
    }
    Some(net)
}

/// Notes every text that stands in the list a second time.
pub(crate) fn note_repeats(key: &str, texts: &[Spanned<&str>], notes: &mut Notes<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    for text in texts {
        if !seen.insert(*text.get_ref()) {
            notes
                .error(
                    notes.family.duplicate,
                    &text.span(),
                    format!("`{key}` names \"{}\" twice", shown(text.get_ref())),
                )
                .under("stands here a second time; keep one");
        }
    }
}

/// The candidate at edit distance 1 (words up to 3 letters) or 2, the nearest first. Case,
/// hyphens and underscores do not count.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let plain = |text: &str| -> Vec<char> {
        text.chars()
            .take(64)
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let target = plain(word);
    let allowed = if target.len() <= 3 { 1 } else { 2 };
    candidates
        .map(|candidate| (distance(&target, &plain(candidate)), candidate))
        .filter(|(far, candidate)| *far <= allowed && *candidate != word)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

fn names_of<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
    words.iter().map(|(name, _)| *name).collect()
}

/// Optimal string alignment: insertions, deletions, substitutions and swapped neighbours.
#[expect(
    clippy::indexing_slicing,
    reason = "rows have one cell more than b has characters, and every index is bounded by a loop"
)]
fn distance(a: &[char], b: &[char]) -> usize {
    let mut two_back: Vec<usize> = Vec::new();
    let mut back: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (back[j] + 1).min(row[j - 1] + 1).min(back[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two_back[j - 2] + 1);
            }
        }
        two_back = std::mem::replace(&mut back, row);
    }
    back[b.len()]
}

// === sizes and times ===

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A whole number and a unit, a space between them allowed.
fn measure(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let unit = rest.strip_prefix(' ').unwrap_or(rest);
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    if number.is_empty() {
        return Err(format!("a whole number, then one of {}", names.join(" ")));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(match names.iter().find(|n| n.eq_ignore_ascii_case(unit)) {
            Some(near) => format!("did you mean \"{number} {near}\"?"),
            None => format!("the unit must be one of {}", names.join(" ")),
        });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| "too large a number".to_owned())
}

/// The largest unit that divides the number, as in `5 GB`, `64 KiB`, `1001 B`.
pub(crate) fn human_size(bytes: u64) -> String {
    const FIRST_FIT: &[&str] = &["TB", "TiB", "GB", "GiB", "MB", "MiB", "KiB", "kB"];
    FIRST_FIT
        .iter()
        .filter_map(|name| SIZE_UNITS.iter().find(|(unit, _)| unit == name))
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(
            || format!("{bytes} B"),
            |(unit, factor)| format!("{} {unit}", bytes / factor),
        )
}

/// The largest unit that divides the number, as in `90d`, `10s`.
pub(crate) fn human_time(ms: u64) -> String {
    TIME_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
        .map_or_else(
            || format!("{ms}ms"),
            |(unit, factor)| format!("{}{unit}", ms / factor),
        )
}

/// A source line that starts at byte `start` of the text, hidden bytes as `*`.
fn masked(line: &str, start: usize, hidden: &[Span]) -> String {
    line.trim_end_matches('\r')
        .char_indices()
        .map(|(at, c)| {
            if hidden.iter().any(|span| span.contains(&(start + at))) {
                '*'
            } else {
                c
            }
        })
        .collect()
}

/// Words in the names of keys that people give to secrets.
const SECRET_WORDS: [&str; 6] = [
    "secret",
    "password",
    "passphrase",
    "access_key",
    "account_key",
    "private",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_spelling_is_found_and_far_ones_are_not() {
        let keys = ["columns", "extra_columns", "limits", "id"];
        let near = |word| nearest(word, keys.into_iter());
        assert_eq!(near("colums"), Some("columns"));
        assert_eq!(near("cloumns"), Some("columns"));
        assert_eq!(near("Extra-Columns"), Some("extra_columns"));
        assert_eq!(near("ids"), Some("id"));
        assert_eq!(near("primary_key"), None);
        assert_eq!(near("xyz"), None);
    }

    #[test]
    fn sizes_and_times_carry_their_unit() {
        assert_eq!(measure("5 GB", SIZE_UNITS), Ok(5_000_000_000));
        assert_eq!(measure("64KiB", SIZE_UNITS), Ok(65_536));
        assert_eq!(measure("10s", TIME_UNITS), Ok(10_000));
        assert_eq!(measure("0d", TIME_UNITS), Ok(0));
        for bad in [
            "",
            "5",
            "GB",
            "5 gigs",
            "5  GB",
            "-5 GB",
            "1.5 GB",
            "99999999999 TB",
        ] {
            assert!(measure(bad, SIZE_UNITS).is_err(), "{bad}");
        }
        assert_eq!(
            measure("5 gb", SIZE_UNITS),
            Err("did you mean \"5 GB\"?".to_owned())
        );
    }

    #[test]
    fn numbers_print_in_the_unit_they_were_written_in() {
        for text in ["5 GB", "64 KiB", "4 MiB", "1001 B", "0 B", "1 TB"] {
            assert_eq!(human_size(measure(text, SIZE_UNITS).unwrap()), text);
        }
        for text in ["90d", "10s", "15m", "48h", "250ms"] {
            let printed = human_time(measure(text, TIME_UNITS).unwrap());
            assert_eq!(measure(&printed, TIME_UNITS), measure(text, TIME_UNITS));
        }
        assert_eq!(human_time(172_800_000), "2d");
    }
}
