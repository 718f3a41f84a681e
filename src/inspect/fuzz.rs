//! Arbitrary bytes through the whole line, for fuzzers.

use std::sync::Arc;

use crate::inspect::Line;
use crate::inspect::report::{Finding, Report};
use crate::policy::compile;
use crate::policy::contract::Contract;
use crate::policy::lists::Lists;
use crate::terms::verdict::Verdict;
use crate::tokens::TokenKeys;

/// What of one line's work has to be the same for every cut.
type Outcome = (Report, Option<Finding>, Vec<u8>, Vec<u8>);

/// Inspects arbitrary bytes whole, and in pieces, under a contract that the first four bytes choose:
/// format, encoding, compression, output and what a finding does. The rest is the file.
///
/// # Panics
/// When a cut changes what comes of it, when a file is accepted although something refuses it, or when what
/// is tokenized shows: each a defect.
pub fn fuzz_inspection(data: &[u8]) {
    let (&[how, coded, ends, piece], file) = data.split_first_chunk().unwrap_or((&[0; 4], data));
    let Some(contract) = contract(how, coded, ends) else {
        return;
    };
    let contract = Arc::new(contract);
    let whole = outcome(&contract, file, file.len().max(1));
    assert_eq!(outcome(&contract, file, usize::from(piece) + 1), whole);
    let (report, fatal, out, _) = whole;
    let accepted = report.verdict == Verdict::Accepted;
    assert!(!accepted || fatal.is_none(), "{report:?}");
    assert!(!report.has_failed, "{report:?}");
    // A card number that is found never leaves, compressed or not.
    let leaks = memchr::memmem::find(&out, b"4111111111111111").is_some();
    assert!(!(accepted && leaks), "{report:?}");
}

/// The contract that three bytes stand for.
fn contract(how: u8, coded: u8, ends: u8) -> Option<Contract> {
    let pick = |words: &[&'static str], by: u8| -> &'static str {
        let at = usize::from(by) % words.len().max(1);
        words.get(at).copied().unwrap_or_default()
    };
    let format = pick(
        &[
            "type = \"csv\"",
            "type = \"tsv\", quote = \"'\"",
            "type = \"csv\", delimiter = \";\", header = false, newline = \"crlf\"",
            "type = \"ndjson\"",
            "type = \"json\"",
            "type = \"fixed\", length = 40",
            "type = \"fixed\", length = 40, newline = \"none\"",
        ],
        how,
    );
    let encoding = pick(
        &[
            "\"utf-8\"",
            "\"utf-8\", \"utf-16\", \"windows-1252\"",
            "\"shift_jis\"",
            "\"gb18030\", \"utf-16le\"",
            "\"cp037\"",
            "\"utf-16be\"",
        ],
        coded,
    );
    let compression = pick(
        &[
            "\"none\"",
            "\"none\", \"gzip\", \"zstd\", \"bzip2\", \"zip\"",
            "\"gzip\"",
            "\"zip\"",
        ],
        coded / 8,
    );
    let output = pick(
        &[
            "",
            "output = { format = \"json\", compression = \"gzip\" }",
            "output = { format = \"csv\", compression = \"zstd\" }",
            #[cfg(feature = "columnar")]
            "output = { format = \"parquet\" }",
        ],
        how / 8,
    );
    let finding = pick(&["reject", "split", "hold"], ends);
    let place = |at: &'static str| if format.contains("fixed") { at } else { "" };
    let text = format!(
        "version = 1\n[partner]\nid = \"acme\"\n[[feed]]\nid = \"fuzz\"\nmatch = '.+'\nstore = \"lake\"\n\
         key = \"{{submission}}\"\nformat = {{ {format} }}\nencoding = [{encoding}]\n\
         compression = [{compression}]\n{output}\non_finding = \"{finding}\"\n[feed.schema]\n\
         limits = {{ field = \"1 KiB\", record = \"4 KiB\", columns = 16 }}\ncolumns = [\n\
         {{ name = \"id\", type = \"integer\", required = true, unique = true{} }},\n\
         {{ name = \"day\", type = \"date\", formats = [\"%Y-%m-%d\", \"%d %b %Y\"]{} }},\n\
         {{ name = \"card\", type = \"string\", required = true, token = {{ kind = \"mask\" }}{} }},\n\
         {{ name = \"amount\", type = \"decimal(12,2)\"{} }},\n]\nscan = [\"pan\", \"iban\", \"email\"]\n\
         on_match = \"redact\"\n",
        place(", start = 1, width = 8"),
        place(", start = 9, width = 11"),
        place(", start = 20, width = 11"),
        place(", start = 31, width = 10"),
    );
    let (policy, _) = compile("acme.toml", &text, &Lists::default()).ok()?;
    let feed = policy.feeds.first()?;
    Some((*feed.contract).clone())
}

fn outcome(contract: &Arc<Contract>, file: &[u8], piece: usize) -> Outcome {
    let line = Line::for_contract(Arc::clone(contract), &TokenKeys::default(), [7; 16]);
    // Only masks, which need no key.
    let Ok(mut line) = line else {
        return Outcome::default();
    };
    let (mut out, mut rejects) = (Vec::new(), Vec::new());
    for piece in file.chunks(piece) {
        line.push(piece, &mut out);
        line.take_rejects(&mut rejects);
    }
    let fatal = line.fatal().cloned();
    let mut report = line.finish(&mut out);
    rejects.append(&mut report.rejects);
    if report.verdict != Verdict::Accepted {
        // What was made of it before that was known is thrown away.
        out.clear();
        rejects.clear();
    }
    (report, fatal, out, rejects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_every_choice_is_a_contract() {
        let (mut made, mut all, mut refused) = (0, 0, Vec::new());
        for how in 0..64 {
            for coded in 0..32 {
                all += 1;
                match contract(how, coded, 0) {
                    Some(_) => made += 1,
                    None => refused.push((how, coded)),
                }
            }
        }
        assert!(made * 10 > all * 9, "{made} of {all}: {refused:?}");
    }
}
