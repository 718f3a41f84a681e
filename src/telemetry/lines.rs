//! Log lines on stderr: JSON for machines, text for people. Whatever a line shows, control
//! characters in it are escaped, and partner-supplied text cannot start a line of its own.

use std::fmt;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::telemetry::SystemClock;
use crate::terms::clock::Clock;
use crate::terms::path::quoted;

/// A `tracing` layer that writes one line an event.
struct Lines {
    shape: Shape,
    clock: Arc<dyn Clock>,
    write: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Json,
    Text,
}

/// Fields of an event or a span, in the order they were given.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

#[derive(Debug)]
enum Value {
    /// Digits, `true` or `false`: needs no quotes.
    Bare(String),
    Text(String),
}

/// A field of this name is several lines of our own making. Text logs print it as a block below
/// the line, each of its lines escaped by itself; JSON logs as any other text.
pub const BLOCK_FIELD: &str = "block";

/// Sets up logging to stderr for the whole process. `level` is a filter as in `info` or
/// `info,sallyport::ssh=debug`.
///
/// # Errors
/// One sentence: the filter is none, or logging is set up already.
pub fn init_logging(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .parse(level)
        .map_err(|e| {
            format!(
                "log level {:?} is not a filter ({e}); \
                 write error, warn, info, debug or trace, or info,sallyport::ssh=debug",
                quoted(level, 80)
            )
        })?;
    let shape = match format {
        LogFormat::Text => Shape::Text,
        LogFormat::Auto if std::io::stderr().is_terminal() => Shape::Text,
        LogFormat::Auto | LogFormat::Json => Shape::Json,
    };
    let lines = Lines {
        shape,
        clock: Arc::new(SystemClock),
        write: Box::new(|line| {
            // One write a line keeps lines of several threads apart. When stderr is gone there is
            // nobody left to tell.
            match std::io::stderr().lock().write_all(line.as_bytes()) {
                Ok(()) | Err(_) => {}
            }
        }),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|e| format!("logging is set up already: {e}"))
}

// === impl Lines ===

impl Lines {
    fn line(&self, level: Level, target: &str, fields: &[(&str, &Value)]) -> String {
        let find = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let event = find("event").or_else(|| find("message"));
        let at = self.clock.now().to_rfc3339();
        let mut out = String::new();
        match self.shape {
            Shape::Json => {
                out.push_str("{\"ts\":");
                json_text(&mut out, &at);
                out.push_str(",\"level\":");
                json_text(&mut out, &level.as_str().to_ascii_lowercase());
                if find("event").is_none() {
                    out.push_str(",\"target\":");
                    json_text(&mut out, target);
                }
                let first = |name: &str| i32::from(name != "event");
                let mut sorted: Vec<_> = fields.to_vec();
                sorted.sort_by_key(|(name, _)| first(name));
                for (name, value) in sorted {
                    out.push(',');
                    json_text(&mut out, name);
                    out.push(':');
                    match value {
                        Value::Bare(bare) => out.push_str(bare),
                        Value::Text(text) => json_text(&mut out, text),
                    }
                }
                out.push('}');
            }
            Shape::Text => {
                let level = level.as_str();
                out.push_str(&at);
                out.push_str(if level.len() < 5 { "  " } else { " " });
                out.push_str(level);
                out.push(' ');
                if find("event").is_none() {
                    plain_text(&mut out, target);
                    out.push_str(": ");
                }
                if let Some(Value::Text(text) | Value::Bare(text)) = event {
                    plain_text(&mut out, text);
                }
                for (name, value) in fields {
                    let is_told = event.is_some_and(|told| std::ptr::eq(told, *value));
                    if is_told || *name == BLOCK_FIELD {
                        continue;
                    }
                    out.push(' ');
                    out.push_str(name);
                    out.push('=');
                    match value {
                        Value::Bare(bare) => out.push_str(bare),
                        Value::Text(text) => value_text(&mut out, text),
                    }
                }
                if let Some(Value::Text(block)) = find(BLOCK_FIELD) {
                    for line in block.lines() {
                        out.push_str("\n    ");
                        plain_text(&mut out, line);
                    }
                }
            }
        }
        out.push('\n');
        out
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        // Records of the `log` crate carry their target as a field.
        let log_target = own.0.iter().find_map(|(name, value)| match value {
            Value::Text(text) if *name == "log.target" => Some(text.clone()),
            Value::Text(_) | Value::Bare(_) => None,
        });
        let target = log_target.unwrap_or_else(|| event.metadata().target().to_owned());
        own.0.retain(|(name, _)| !name.starts_with("log."));

        let spans: Vec<_> = context.event_scope(event).into_iter().flatten().collect();
        let held: Vec<_> = spans.iter().map(|span| span.extensions()).collect();
        let inherited = held.iter().filter_map(|held| held.get::<Fields>());
        let mut fields: Vec<(&str, &Value)> = Vec::new();
        // The event's own fields, then those of its spans from the inside out; of two with the
        // same name the inner one counts.
        for group in std::iter::once(&own).chain(inherited) {
            for (name, value) in &group.0 {
                if !fields.iter().any(|(known, _)| known == name) {
                    fields.push((name, value));
                }
            }
        }
        (self.write)(&self.line(*event.metadata().level(), &target, &fields));
    }
}

// === impl Fields ===

impl Fields {
    /// The last value recorded for a name counts.
    fn put(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for infinity or "not a number".
        let text = value.to_string();
        self.put(
            field,
            if value.is_finite() {
                Value::Bare(text)
            } else {
                Value::Text(text)
            },
        );
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::Text(format!("{value:?}")));
    }
}

/// A JSON string (RFC 8259) whose bytes are printable wherever it is shown: control and
/// direction-changing characters are escaped too where JSON would not ask for it.
fn json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let escape = format!("\\u{unit:04x}");
                    out.push_str(&escape);
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Text as it is, hidden characters escaped.
fn plain_text(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// A value of a text line: in quotes when it is not one plain word.
fn value_text(out: &mut String, text: &str) {
    let is_word = !text.is_empty()
        && text
            .chars()
            .all(|c| !is_hidden(c) && !c.is_whitespace() && !matches!(c, '"' | '\\' | '='));
    if is_word {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if is_hidden(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Characters that a terminal would act on instead of showing them.
fn is_hidden(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && !quoted(c.encode_utf8(&mut [0; 4]), 1).starts_with(c))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::{info, info_span, warn};

    use super::*;
    use crate::telemetry::Event;
    use crate::terms::clock::{ManualClock, Timestamp};

    /// What a program that logs like this writes.
    fn logged(shape: Shape, program: impl FnOnce()) -> Vec<String> {
        let written: Arc<Mutex<String>> = Arc::default();
        let sink = Arc::clone(&written);
        let lines = Lines {
            shape,
            clock: Arc::new(ManualClock::at(Timestamp::from_micros(
                1_795_239_870_996_000,
            ))),
            write: Box::new(move |line| sink.lock().unwrap().push_str(line)),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), program);
        let text = written.lock().unwrap().clone();
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_json_line_is_flat_and_starts_with_time_level_and_event() {
        let lines = logged(Shape::Json, || {
            let span = info_span!("submission", submission = "sub_1", partner = "acme");
            let _inside = span.enter();
            info!(
                rows = 48_211_u64,
                sure = true,
                share = 0.5,
                event = Event::SubmissionSettled.as_str(),
                file.name = "a.csv",
                partner = "acme-2",
            );
        });
        assert_eq!(
            lines,
            ["{\"ts\":\"2026-11-21T05:44:30.996Z\",\"level\":\"info\",\
              \"event\":\"submission.settled\",\"rows\":48211,\"sure\":true,\"share\":0.5,\
              \"file.name\":\"a.csv\",\"partner\":\"acme-2\",\"submission\":\"sub_1\"}"]
        );
    }

    #[test]
    fn hostile_names_stay_one_json_line_and_keep_their_value() {
        let name = "a\r\n{\"x\":1}\u{1b}[2J\u{202e}\u{7f}\u{85}\0\\\u{e4}";
        let lines = logged(Shape::Json, || {
            warn!(event = Event::SessionDenied.as_str(), file.name = name);
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].chars().all(|c| !c.is_control() && c != '\u{202e}'));
        let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(json["file.name"], name);
        assert_eq!(json["level"], "warn");
    }

    #[test]
    fn hostile_names_stay_one_text_line() {
        let lines = logged(Shape::Text, || {
            warn!(
                event = Event::SessionDenied.as_str(),
                user = "x partner=acme\r\n\u{1b}[2J\u{202e}\"",
                empty = "",
                plain = "orders_1.csv",
                name = "\u{e4}",
            );
        });
        assert_eq!(
            lines,
            ["2026-11-21T05:44:30.996Z  WARN session.denied \
              user=\"x partner=acme\\r\\n\\u{1b}[2J\\u{202e}\\\"\" empty=\"\" plain=orders_1.csv name=\u{e4}"]
        );
    }

    #[test]
    fn a_block_is_shown_line_by_line_below_a_text_line_only() {
        let program = || {
            info!(
                event = Event::ConfigRefused.as_str(),
                mistakes = 1_u64,
                block = "error: x\n  ^^^ \u{1b}[2J\n"
            );
        };
        assert_eq!(
            logged(Shape::Text, program),
            [
                "2026-11-21T05:44:30.996Z  INFO config.refused mistakes=1",
                "    error: x",
                "      ^^^ \\u{1b}[2J",
            ]
        );
        let lines = logged(Shape::Json, program);
        assert_eq!(lines.len(), 1);
        let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(json["block"], "error: x\n  ^^^ \u{1b}[2J\n");
    }

    #[test]
    fn lines_of_libraries_name_their_target() {
        let program = || tracing::error!(target: "russh::server", code = 7, "went \u{1b} wrong");
        let json: serde_json::Value =
            serde_json::from_str(&logged(Shape::Json, program)[0]).unwrap();
        assert_eq!(json["target"], "russh::server");
        assert_eq!(json["message"], "went \u{1b} wrong");
        assert_eq!(
            logged(Shape::Text, program),
            ["2026-11-21T05:44:30.996Z ERROR russh::server: went \\u{1b} wrong code=7"]
        );
    }

    #[test]
    fn fields_recorded_later_are_shown() {
        let lines = logged(Shape::Text, || {
            let span = info_span!("session", partner = tracing::field::Empty, tries = 0);
            let _inside = span.enter();
            span.record("partner", "acme");
            span.record("tries", 2);
            info!(event = Event::SessionOpened.as_str());
        });
        assert!(
            lines[0].ends_with("session.opened tries=2 partner=acme"),
            "{}",
            lines[0]
        );
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_the_remedy() {
        let why = init_logging(LogFormat::Text, "sallyport=loud").unwrap_err();
        assert!(
            why.contains("sallyport=loud") && why.contains("write error, warn"),
            "{why}"
        );
    }
}
