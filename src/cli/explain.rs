//! `explain CODE`: the long form of a code, with an example.

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::terms::codes::{self, COMMAND_CODES, Code, OPERATOR_CODES};

/// `explain CODE`
///
/// Prints what a code means, its usual causes, a wrong and a right example, and what policy can
/// change about it.
#[derive(Args, Debug, Default)]
#[command(
    before_help = "Examples:\n  sallyport explain missing-cell\n  sallyport explain policy.unknown-key\n  sallyport help codes           lists them all"
)]
pub struct Arguments {
    /// The code, as receipts and error messages print it
    #[arg(value_name = "CODE")]
    pub code: String,
}

/// Runs the verb.
///
/// # Errors
/// Exit 3 for a code that is none, with the nearest ones.
pub fn run(context: &mut Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let wanted = arguments.code.trim();
    let Some(text) = codes::explain(wanted) else {
        let near: Vec<&str> = all().filter(|code| is_near(code, wanted)).take(5).collect();
        let failure = Failure::not_found(
            "explain.unknown-code",
            format!("no code is called {wanted:?}"),
        );
        return Err(if near.is_empty() {
            failure.hint("`sallyport help codes` lists them")
        } else {
            failure.hint(format!("did you mean {}?", near.join(" or ")))
        });
    };
    if context.global.json {
        context
            .console
            .json(&json!({"code": wanted, "text": text}))?;
    } else {
        context.console.data(text.as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Every code, those of partners first.
pub fn all() -> impl Iterator<Item = &'static str> {
    Code::ALL.into_iter().map(Code::as_str).chain(
        OPERATOR_CODES
            .iter()
            .chain(COMMAND_CODES)
            .map(|(code, _)| *code),
    )
}

/// Shares a word, or differs in a letter or two.
fn is_near(code: &str, wanted: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split(['-', '.', '_', ' '])
            .filter(|word| word.len() > 2)
            .map(str::to_lowercase)
            .collect()
    };
    let wanted_words = words(wanted);
    words(code)
        .iter()
        .any(|word| wanted_words.iter().any(|other| distance(word, other) <= 1))
        || distance(code, wanted) <= 2
}

/// Edit distance (Levenshtein) of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = cost.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;

    #[test]
    fn every_code_has_a_long_form() {
        for code in all() {
            let (mut context, out, _) = context();
            let arguments = Arguments {
                code: code.to_owned(),
            };
            assert_eq!(run(&mut context, &arguments), Ok(Exit::Done), "{code}");
            assert!(out.text().contains(code), "{code}");
        }
    }

    /// The part of a source file that is not its tests.
    fn without_tests(path: &std::path::Path) -> String {
        let text = std::fs::read_to_string(path).unwrap();
        text.split("#[cfg(test)]").next().unwrap().to_owned()
    }

    #[test]
    fn every_code_of_a_command_or_of_the_admin_socket_is_known() {
        let coded =
            regex::Regex::new(r#"(?:[Ee]xit(?:::\w+)?|new\(\s*\d+|&found|usage\(|conflict\(|not_found\()[,\s]*"([a-z0-9.-]+)""#)
                .unwrap();
        let dotted = regex::Regex::new(r#""([a-z]+\.[a-z0-9-]+)""#).unwrap();
        let files = [".toml", ".csv", ".pub", ".sock", ".key", ".db", ".8"];
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut seen = std::collections::BTreeSet::new();
        for folder in ["src/cli", "src/admin"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let text = without_tests(&entry.unwrap().path());
                let text: String = text
                    .lines()
                    .filter(|line| !line.contains("serde(") && !line.contains("BROKEN_PIPE: "))
                    .fold(String::new(), |all, line| all + line + "\n");
                for found in coded
                    .captures_iter(&text)
                    .chain(dotted.captures_iter(&text))
                {
                    let code = found[1].to_owned();
                    if !files.iter().any(|ending| code.ends_with(ending)) {
                        seen.insert(code);
                    }
                }
            }
        }
        assert!(seen.len() > 80, "{seen:?}");
        let unknown: Vec<_> = seen
            .iter()
            .filter(|code| codes::explain(code).is_none())
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn a_misspelt_code_is_exit_three_with_the_nearest() {
        let (mut context, _, _) = context();
        let arguments = Arguments {
            code: "mising-cell".to_owned(),
        };
        let failure = run(&mut context, &arguments).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.hint.unwrap().contains("missing-cell"));
    }

    #[test]
    fn the_distance_counts_single_edits() {
        for (a, b, expect) in [("", "abc", 3), ("kitten", "sitting", 3), ("a", "a", 0)] {
            assert_eq!(distance(a, b), expect, "{a} {b}");
        }
    }
}
