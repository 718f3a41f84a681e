//! One mistake in a policy or in the main config, with the place, the text it stands in and the
//! way out. It renders itself and never needs the file again.

use std::ops::Range;

use serde::Serialize;

use crate::terms::path::is_format_character;

/// Whether a file with the mistake can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Stable, as in `policy.unknown-key`; one of [`crate::terms::codes::OPERATOR_CODES`].
    pub code: &'static str,
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// The file as it was named to the compiler, or `environment`.
    pub file: String,
    /// From 1; 0 when the mistake has no place in the text.
    pub line: usize,
    /// In characters, from 1; 0 when the mistake has no place in the text.
    pub column: usize,
    /// Bytes of the text.
    pub span: Option<Range<usize>>,
    /// What stands under the carets: usually the remedy.
    #[serde(rename = "hint")]
    pub label: Option<String>,
    /// Further lines of advice.
    pub help: Vec<String>,
    /// The line of the text, for the picture.
    #[serde(skip)]
    pub(crate) source: Option<String>,
}

/// The line-drawing characters of one alphabet.
struct Strokes {
    corner: &'static str,
    bar: &'static str,
    cut: &'static str,
}

const BOX: Strokes = Strokes {
    corner: "\u{250c}\u{2500}",
    bar: "\u{2502}",
    cut: "\u{2026}",
};
const ASCII: Strokes = Strokes {
    corner: "-->",
    bar: "|",
    cut: "...",
};

/// Characters of a source line that are shown at most; the rest is cut away around the carets.
const SHOWN_CHARS_MAX: usize = 110;

// === impl Severity ===

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

// === impl Mistake ===

impl Mistake {
    /// A mistake without a place in a text, as in an environment variable.
    #[must_use]
    pub fn without_place(
        code: &'static str,
        severity: Severity,
        file: &str,
        message: String,
    ) -> Self {
        Self {
            code,
            severity,
            message,
            file: file.to_owned(),
            line: 0,
            column: 0,
            span: None,
            label: None,
            help: Vec::new(),
            source: None,
        }
    }

    /// Sets what stands under the carets.
    pub(crate) fn under(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Adds a line of advice.
    pub(crate) fn advise(&mut self, line: impl Into<String>) -> &mut Self {
        self.help.push(line.into());
        self
    }

    /// Sets the advice under the carets to a spelling, when there is one close by.
    pub(crate) fn perhaps(&mut self, spelling: Option<&str>) -> &mut Self {
        match spelling {
            Some(word) => self.under(format!("did you mean `{word}`?")),
            None => self,
        }
    }

    /// The mistake as a picture with carets, several lines, each ended by a line feed.
    #[must_use]
    pub fn render(&self) -> String {
        self.draw(&BOX)
    }

    /// The same in ASCII, for terminals that know nothing else; other characters become `?`.
    #[must_use]
    pub fn render_ascii(&self) -> String {
        let mut out = String::new();
        for c in self.draw(&ASCII).chars() {
            if c.is_ascii() {
                out.push(c);
            } else {
                // One character for one, so that the carets stay under their text.
                out.push('?');
            }
        }
        out
    }

    fn draw(&self, strokes: &Strokes) -> String {
        let mut out = format!(
            "{}[{}]: {}\n",
            self.severity.as_str(),
            self.code,
            self.message
        );
        let bar = strokes.bar;
        let number = self.line.to_string();
        let pad = " ".repeat(number.len().max(2));
        if let Some(source) = &self.source {
            let (shown, before, carets) = self.excerpt(source, strokes.cut);
            let label = self.label.as_deref().unwrap_or_default();
            let mark = format!("{}{} {label}", " ".repeat(before), "^".repeat(carets));
            put(
                &mut out,
                &format!(
                    "{pad}{} {}:{}:{}",
                    strokes.corner, self.file, self.line, self.column
                ),
            );
            put(&mut out, &format!("{pad}{bar}"));
            put(
                &mut out,
                &format!("{number:>width$}{bar} {shown}", width = pad.len()),
            );
            put(&mut out, &format!("{pad}{bar} {mark}"));
            put(&mut out, &format!("{pad}{bar}"));
        } else {
            put(&mut out, &format!("{pad}{} {}", strokes.corner, self.file));
            if let Some(label) = &self.label {
                put(&mut out, &format!("{pad}= {label}"));
            }
        }
        for line in &self.help {
            put(&mut out, &format!("{pad}= {line}"));
        }
        put(
            &mut out,
            &format!("{pad}= more: sallyport explain {}", self.code),
        );
        out
    }

    /// The part of the line to show, the characters before the carets, and how many carets.
    fn excerpt(&self, source: &str, cut: &str) -> (String, usize, usize) {
        let chars: Vec<char> = source.chars().map(printable).collect();
        let start = self.column.saturating_sub(1).min(chars.len());
        let marked = self.span.as_ref().map_or(1, |span| {
            let bytes: usize = source.chars().take(start).map(char::len_utf8).sum();
            source
                .get(bytes..(bytes + span.len()).min(source.len()))
                .map_or(1, |text| text.chars().count())
        });
        let from = if chars.len() > SHOWN_CHARS_MAX {
            start.saturating_sub(SHOWN_CHARS_MAX / 3)
        } else {
            0
        };
        let to = chars.len().min(from + SHOWN_CHARS_MAX);
        let carets = marked.min(to.saturating_sub(start)).max(1);
        let left = if from > 0 { cut } else { "" };
        let right = if to < chars.len() { cut } else { "" };
        let shown: String = chars.get(from..to).unwrap_or_default().iter().collect();
        let before = left.chars().count() + start - from;
        (format!("{left}{shown}{right}"), before, carets)
    }
}

/// `2 errors in 1 file`, for the end of a list of mistakes; warnings are named when there are any.
#[must_use]
pub fn summary(mistakes: &[Mistake]) -> String {
    let count = |severity| mistakes.iter().filter(|m| m.severity == severity).count();
    let mut files: Vec<&str> = mistakes.iter().map(|m| m.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut counted = plural(errors, "error");
    if warnings > 0 {
        counted = format!("{counted}, {}", plural(warnings, "warning"));
    }
    format!("{counted} in {}", plural(files.len(), "file"))
}

/// Text from a file for use inside a message: one line, cut at 60 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(60).map(printable).collect();
    if text.chars().nth(60).is_some() {
        out.push_str("...");
    }
    out
}

fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

fn put(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// A file's text must not drive the terminal it is quoted on, nor push the carets off it.
fn printable(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() || is_format_character(c) {
        '?'
    } else {
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown_key() -> Mistake {
        Mistake {
            code: "policy.unknown-key",
            severity: Severity::Error,
            message: "unknown key `colums` in feed \"orders\"".to_owned(),
            file: "/etc/sallyport/policies/acme.toml".to_owned(),
            line: 38,
            column: 1,
            span: Some(700..706),
            label: Some("did you mean `columns`?".to_owned()),
            help: vec!["allowed here: columns, limits".to_owned()],
            source: Some("colums = [".to_owned()),
        }
    }

    #[test]
    fn a_mistake_is_drawn_with_its_line_and_carets() {
        assert_eq!(
            unknown_key().render(),
            "\
error[policy.unknown-key]: unknown key `colums` in feed \"orders\"
  ┌─ /etc/sallyport/policies/acme.toml:38:1
  │
38│ colums = [
  │ ^^^^^^ did you mean `columns`?
  │
  = allowed here: columns, limits
  = more: sallyport explain policy.unknown-key
"
        );
    }

    #[test]
    fn the_ascii_picture_has_the_same_columns() {
        let mut mistake = unknown_key();
        mistake.source = Some("\u{e4}\u{e4} colums".to_owned());
        mistake.column = 4;
        let ascii = mistake.render_ascii();
        assert!(ascii.is_ascii());
        assert!(ascii.contains("38| ?? colums\n"), "{ascii}");
        assert!(ascii.contains("  |    ^^^^^^ did you mean"), "{ascii}");
        assert!(ascii.contains("  --> /etc/"), "{ascii}");
    }

    #[test]
    fn long_lines_are_cut_around_the_carets() {
        let mut mistake = unknown_key();
        mistake.source = Some(format!("{}colums{}", "x".repeat(500), "y".repeat(500)));
        mistake.column = 501;
        let picture = mistake.render();
        assert!(picture.lines().all(|line| line.chars().count() < 130));
        let lines: Vec<&str> = picture.lines().collect();
        let before =
            |line: &str, what: &str| line.split_once(what).map(|(left, _)| left.chars().count());
        assert_eq!(before(lines[3], "colums"), before(lines[4], "^^^^^^"));
    }

    #[test]
    fn source_text_cannot_drive_a_terminal() {
        let mut mistake = unknown_key();
        mistake.source = Some("a\u{1b}[2J\u{202e}".to_owned());
        assert!(!mistake.render().contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn a_mistake_without_a_place_still_names_its_file() {
        let mistake = Mistake::without_place(
            "config.bad-value",
            Severity::Error,
            "environment",
            "SALLYPORT_LISTEN is empty".to_owned(),
        );
        assert_eq!(
            mistake.render(),
            "error[config.bad-value]: SALLYPORT_LISTEN is empty\n  \u{250c}\u{2500} environment\n  \
             = more: sallyport explain config.bad-value\n"
        );
    }

    #[test]
    fn programs_read_hint_and_span_and_not_the_source() {
        let json = serde_json::to_value(unknown_key()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "code": "policy.unknown-key", "severity": "error",
                "message": "unknown key `colums` in feed \"orders\"",
                "file": "/etc/sallyport/policies/acme.toml", "line": 38, "column": 1,
                "span": {"start": 700, "end": 706},
                "hint": "did you mean `columns`?",
                "help": ["allowed here: columns, limits"],
            })
        );
    }

    #[test]
    fn the_summary_counts_files_once() {
        let mut warning = unknown_key();
        warning.severity = Severity::Warning;
        assert_eq!(
            summary(&[unknown_key(), unknown_key(), warning]),
            "2 errors, 1 warning in 1 file"
        );
    }
}
