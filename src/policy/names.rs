//! Regular expressions of a policy, and the template of object keys.
//!
//! Patterns always match the whole text, and `\d` means 0-9: a partner's full-width or Arabic
//! digits must not pass where the policy's author wrote `\d`.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use toml::Spanned;

use crate::policy::feed::{KeyTemplate, Piece};
use crate::policy::mistake::shown;
use crate::policy::text::{Notes, nearest};
use crate::terms::{codes, limits};

/// Placeholders that need no group.
const RESERVED: [&str; 4] = ["submission", "partner", "feed", "received"];

/// Compiles a pattern so that it matches whole texts only.
pub(crate) fn whole(key: &str, text: &Spanned<&str>, notes: &mut Notes<'_>) -> Option<Regex> {
    let pattern = *text.get_ref();
    // Alone first: `a)(b` is a fault, and `(?:a)(b)` is not.
    if let Err(fault) = build(pattern) {
        let (reason, part) = explain(&fault, pattern);
        let span = part.map_or_else(|| text.span(), |part| notes.inside(text, part));
        notes
            .error(
                codes::POLICY_BAD_REGEX,
                &span,
                format!("`{key}` is not a regular expression: {reason}"),
            )
            .under(reason)
            .advise(
                "the syntax is that of the Rust crate regex; write it in single quotes: '\\d{8}'",
            );
        return None;
    }
    let anchored = format!("^(?:{})$", ascii_digits(pattern));
    build(&anchored)
        .map_err(|fault| {
            let (reason, _) = explain(&fault, &anchored);
            notes
                .error(
                    codes::POLICY_BAD_REGEX,
                    &text.span(),
                    format!("`{key}` cannot be anchored: {reason}"),
                )
                .under("a comment of (?x) mode at its end?");
        })
        .ok()
}

/// The names of a pattern's groups.
pub(crate) fn groups(pattern: &Regex) -> Vec<&str> {
    pattern.capture_names().flatten().collect()
}

/// Notes groups that would hide a placeholder of the same name.
pub(crate) fn note_reserved_groups(text: &Spanned<&str>, pattern: &Regex, notes: &mut Notes<'_>) {
    for group in groups(pattern) {
        if RESERVED.contains(&group) {
            notes
                .error(
                    codes::POLICY_DUPLICATE,
                    &text.span(),
                    format!(
                        "`match` names a group `{group}`, but {{{group}}} has a meaning already"
                    ),
                )
                .under(format!("rename the group `{group}`"));
        }
    }
}

/// Takes a key template apart. `groups` are those of the feed's pattern; `None` when that is
/// broken, and nothing can be said about them.
pub(crate) fn key_template(
    text: &Spanned<&str>,
    groups: Option<&[&str]>,
    notes: &mut Notes<'_>,
) -> Option<KeyTemplate> {
    let before = notes.errors();
    let template = *text.get_ref();
    let parts = split(text, notes)?;
    for (piece, part) in &parts {
        if let Piece::Placeholder(word) = piece {
            check_placeholder(text, word, part.clone(), groups, notes);
        }
    }
    check_end(text, &parts, notes);
    check_folders(text, template, notes);
    (notes.errors() == before)
        .then(|| KeyTemplate::new(parts.into_iter().map(|(piece, _)| piece).collect()))
}

/// Literals and placeholders, each with its bytes in the template.
fn split(text: &Spanned<&str>, notes: &mut Notes<'_>) -> Option<Vec<(Piece, Range<usize>)>> {
    let template = *text.get_ref();
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(rest) = template.get(at..).filter(|rest| !rest.is_empty()) {
        let literal = rest.find(['{', '}']).unwrap_or(rest.len());
        if literal > 0 {
            let word = rest.get(..literal).unwrap_or_default();
            parts.push((Piece::Literal(word.to_owned()), at..at + literal));
            at += literal;
            continue;
        }
        let end = rest.find('}').filter(|_| rest.starts_with('{'));
        let Some(word) = end.and_then(|end| rest.get(1..end)) else {
            let span = notes.inside(text, at..at + 1);
            notes
                .error(
                    codes::POLICY_KEY_TEMPLATE,
                    &span,
                    "a brace without its partner in `key`",
                )
                .under("placeholders look like {day}");
            return None;
        };
        let width = word.len() + 2;
        parts.push((Piece::Placeholder(word.to_owned()), at..at + width));
        at += width;
    }
    Some(parts)
}

fn check_placeholder(
    text: &Spanned<&str>,
    word: &str,
    part: Range<usize>,
    groups: Option<&[&str]>,
    notes: &mut Notes<'_>,
) {
    let Some(groups) = groups else { return };
    if RESERVED.contains(&word) || groups.contains(&word) {
        return;
    }
    let available: Vec<&str> = groups.iter().copied().chain(RESERVED).collect();
    let named: Vec<String> = groups.iter().map(|group| format!("{{{group}}}")).collect();
    let message = match named.len() {
        0 => format!("`match` names no group, but `key` uses {{{}}}", shown(word)),
        1 => format!(
            "`match` names group {}, but `key` uses {{{}}}",
            named.concat(),
            shown(word)
        ),
        _ => format!(
            "`match` names groups {}, but `key` uses {{{}}}",
            named.join(" "),
            shown(word)
        ),
    };
    let span = notes.inside(text, part);
    let mistake = notes
        .error(codes::POLICY_UNKNOWN_PLACEHOLDER, &span, message)
        .under(format!("available: {}", available.join(", ")));
    if let Some(near) = nearest(word, available.into_iter()) {
        mistake.advise(format!("did you mean {{{near}}}?"));
    }
}

/// `{submission}` once, and after it nothing but a literal extension.
fn check_end(text: &Spanned<&str>, parts: &[(Piece, Range<usize>)], notes: &mut Notes<'_>) {
    let is_submission = |piece: &Piece| matches!(piece, Piece::Placeholder(w) if w == "submission");
    let mut places = parts
        .iter()
        .enumerate()
        .filter(|(_, (piece, _))| is_submission(piece));
    let (first, second) = (places.next(), places.next());
    let remedy = "write it like \"acme/orders/{submission}.csv\"";
    let Some((index, (_, part))) = first else {
        notes
            .error(
                codes::POLICY_KEY_TEMPLATE,
                &text.span(),
                "`key` must end in {submission}, before the extension",
            )
            .under("without it two files could get one name")
            .advise(remedy);
        return;
    };
    if let Some((_, (_, again))) = second {
        let span = notes.inside(text, again.clone());
        notes
            .error(
                codes::POLICY_KEY_TEMPLATE,
                &span,
                "`key` uses {submission} twice",
            )
            .under("once, at the end of the stem");
        return;
    }
    let fits = match parts.get(index + 1..) {
        None | Some([]) => true,
        Some([(Piece::Literal(tail), _)]) => tail.starts_with('.') && !tail.contains('/'),
        Some(_) => false,
    };
    if !fits {
        let span = notes.inside(text, part.clone());
        notes
            .error(
                codes::POLICY_KEY_TEMPLATE,
                &span,
                "{submission} must end the stem of `key`",
            )
            .under("only an extension may follow, as in {submission}.csv")
            .advise(remedy);
    }
}

/// What no object store takes as a key, or takes for another key.
fn check_folders(text: &Spanned<&str>, template: &str, notes: &mut Notes<'_>) {
    let fault = if template.len() > limits::KEY_BYTES_MAX {
        format!("`key` may have {} bytes at most", limits::KEY_BYTES_MAX)
    } else if template.chars().any(|c| c.is_control() || c == '\\') {
        "`key` must not hold control characters or backslashes".to_owned()
    } else if template
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        "`key` must not start or end with `/`, and no folder may be empty, `.` or `..`".to_owned()
    } else {
        return;
    };
    notes
        .error(codes::POLICY_KEY_TEMPLATE, &text.span(), fault)
        .under("folders and a name, as in \"acme/orders/{submission}.csv\"");
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(limits::REGEX_BYTES_MAX)
        .build()
}

/// The reason alone, and the part of the pattern it is about when the error's picture shows it.
fn explain(fault: &regex::Error, pattern: &str) -> (String, Option<Range<usize>>) {
    let text = match fault {
        regex::Error::Syntax(text) => text.as_str(),
        regex::Error::CompiledTooBig(bytes) => {
            return (
                format!("it is too big, over {bytes} bytes when compiled"),
                None,
            );
        }
        other => return (other.to_string(), None),
    };
    let reason = text
        .rsplit("error: ")
        .next()
        .unwrap_or(text)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    // The picture of a one-line pattern: a title, the pattern and the carets, indented by four.
    let carets = text.lines().nth(2).and_then(|line| line.get(4..));
    let part = carets
        .filter(|_| !pattern.contains('\n'))
        .and_then(|line| Some((line.find('^')?, line.matches('^').count())))
        .map(|(skip, width)| {
            let bytes = |chars: usize| pattern.chars().take(chars).map(char::len_utf8).sum();
            bytes(skip)..bytes(skip + width)
        });
    (reason, part)
}

/// `\d` as `[0-9]`, which means the same inside and outside of a class.
fn ascii_digits(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some(escaped) => out.extend([c, escaped]),
            None => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_d_means_ascii_digits_in_every_position() {
        for (pattern, yes, no) in [
            (r"\d{2}", "12", "\u{661}\u{662}"),
            (r"[\d.]+", "1.5", "\u{ff11}"),
            (r"[^\d]", "\u{661}", "5"),
            (r"\\d", r"\d", "7"),
        ] {
            let regex = build(&format!("^(?:{})$", ascii_digits(pattern))).unwrap();
            assert!(regex.is_match(yes), "{pattern} {yes}");
            assert!(!regex.is_match(no), "{pattern} {no}");
        }
    }
}
