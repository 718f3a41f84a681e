//! The pages under /help: made from the policy at the moment they are asked for, so never stale.

use crate::authority::signing::{RECEIPT_NAMESPACE, ReceiptKey};
use crate::intake::receipt::ascii;
use crate::policy;
use crate::policy::feed::{Feed, Policy};
use crate::terms::codes::Code;

/// All pages of a partner: name and text (ASCII, CRLF).
pub(super) fn pages(instance: &str, policy: &Policy, key: &ReceiptKey) -> Vec<(String, String)> {
    let mut pages = vec![("README.txt".to_owned(), crlf(&readme(instance, policy)))];
    for feed in &policy.feeds {
        pages.push((
            format!("{}.spec.txt", feed.id),
            crlf(&policy::describe(feed)),
        ));
    }
    pages.push(("codes.txt".to_owned(), crlf(&codes())));
    let signers = format!(
        "{instance} namespaces=\"{RECEIPT_NAMESPACE}\" {}\n",
        key.public_line(&format!("receipts@{instance}")),
    );
    pages.push(("allowed_signers".to_owned(), signers));
    pages
}

fn readme(instance: &str, policy: &Policy) -> String {
    let inbox = policy.inbox.first().map_or("/inbox", |path| path.as_str());
    let name = ascii(&policy.name, 60);
    let outbox = if policy.outbox.is_some() {
        "/outbox   files for you; remove what you have fetched\n"
    } else {
        ""
    };
    let feeds = if policy.feeds.is_empty() {
        "No kind of file has been agreed yet: every upload is refused.\n".to_owned()
    } else {
        let lines: String = policy.feeds.iter().map(|feed| feed_line(feed)).collect();
        format!("Files you may send:\n{lines}")
    };
    let questions = policy
        .help
        .as_ref()
        .map(|help| format!("\nQuestions: {}\n", ascii(help, 70)));
    let questions = questions.unwrap_or_default();
    format!(
        "This is {instance}, a sallyport gateway, for {name}.\n\n\
         {inbox}   drop files here; they are checked while they arrive\n\
         /test/inbox   the same check, and nothing is forwarded: try a file out here\n\
         {outbox}\
         /receipts   what became of them, 90 days; latest.txt is the newest\n\
         /receipts/rejected   only bad news, for scripts that poll\n\
         /help   this page, the rules of every file, all codes\n\n\
         {feeds}\n\
         A file is taken when your client reports success: by then it is checked and\n\
         safe. A refused file is gone from {inbox}; its receipt says every fault.\n\
         Receipts are signed. To check one (OpenSSH 8.1 or newer):\n\
         \x20 ssh-keygen -Y verify -f allowed_signers -I {instance} \\\n\
         \x20   -n {RECEIPT_NAMESPACE} -s FILE.receipt.txt.sig < FILE.receipt.txt\n\
         {questions}",
    )
}

fn feed_line(feed: &Feed) -> String {
    let like = feed.example.as_ref().map_or_else(
        || format!("named {}", ascii(&feed.pattern_text, 60)),
        |name| format!("like {}", ascii(name, 60)),
    );
    format!(
        "  {:<14} {like}   rules: /help/{}.spec.txt\n",
        feed.id.as_str(),
        feed.id
    )
}

fn codes() -> String {
    let texts: Vec<&str> = Code::ALL
        .iter()
        .map(|code| code.explain().trim_end())
        .collect();
    format!("What the codes mean.\n\n{}\n", texts.join("\n\n"))
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}
