//! The rows that are left out of a file that is forwarded all the same, as NDJSON (RFC 8259, a value a
//! line) in UTF-8.
//!
//! The first line names the columns as they stand in the file: `{"columns":["order_id","country"]}`.
//! Every other line is a row: its number and physical line, why it is left out, and what it was. `record`
//! is its text as it came, in UTF-8, a fixed-width or JSON one too; of a file that was decoded as a whole
//! there are only `cells`, null where there is no value. Blank lines are counted and not kept.
//!
//! ```text
//! {"row":2,"line":3,"errors":[{"code":"constraint-error","column":"country"}],"record":"O-2,UK"}
//! ```

use crate::inspect::encode::json_string;
use crate::inspect::records::{Form, Index, Record};
use crate::inspect::report::Finding;
use crate::terms::limits;

/// What a row was.
pub(crate) enum Content<'t> {
    /// Its text.
    Record(&'t str),
    /// Its cells, in this text.
    Cells(&'t str, &'t Index, &'t Record),
}

/// The line that names the columns.
pub(crate) fn columns<'n>(names: impl Iterator<Item = &'n str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"columns\":");
    list(names, out, json_string);
    out.extend_from_slice(b"}\n");
}

/// One row. `line`: where there are lines; `reasons`: all of them.
pub(crate) fn row(
    row: u64,
    line: Option<u64>,
    reasons: &[&Finding],
    content: &Content<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(format!("{{\"row\":{row},").as_bytes());
    if let Some(line) = line {
        out.extend_from_slice(format!("\"line\":{line},").as_bytes());
    }
    out.extend_from_slice(b"\"errors\":");
    let told = reasons.iter().take(limits::REJECT_REASONS_MAX);
    list(told, out, |reason, out| {
        out.extend_from_slice(b"{\"code\":");
        json_string(reason.code.as_str(), out);
        if let Some(column) = &reason.column {
            out.extend_from_slice(b",\"column\":");
            json_string(column, out);
        }
        out.push(b'}');
    });
    match content {
        Content::Record(text) => {
            out.extend_from_slice(b",\"record\":");
            json_string(text, out);
        }
        Content::Cells(text, index, record) => {
            out.extend_from_slice(b",\"cells\":");
            list(index.cells(record).iter(), out, |cell, out| {
                let own = text.get(cell.start()..cell.end());
                match own.filter(|_| cell.form != Form::Null) {
                    Some(value) => json_string(value, out),
                    None => out.extend_from_slice(b"null"),
                }
            });
        }
    }
    out.extend_from_slice(b"}\n");
}

fn list<T>(items: impl Iterator<Item = T>, out: &mut Vec<u8>, put: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (number, item) in items.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        put(item, out);
    }
    out.push(b']');
}
