//! The two streams of a command: data on stdout, talk on stderr. Knows terminals, colours,
//! tables and questions; knows nothing about gateways.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::cli::exit::{Exit, Failure};
use crate::terms::clock::Timestamp;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal that can, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// The only colours used, each beside a word that says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Verdict accepted.
    Green,
    /// Nothing.
    Plain,
    /// A person must act.
    Red,
    /// Will need a person.
    Yellow,
}

/// The streams of one command.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact about one of the streams"
)]
pub struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    answers: Box<dyn BufRead + Send>,
    out_is_tty: bool,
    in_is_tty: bool,
    colour_out: bool,
    colour_err: bool,
    columns: usize,
    quiet: bool,
}

/// Bytes written by a command under test.
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

/// Rows of text in aligned columns: upper-case headers, two spaces between, no borders.
#[derive(Clone, Debug)]
pub struct Table {
    headers: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<(String, Paint)>>,
    shorten: Vec<&'static str>,
    leave_out: Vec<&'static str>,
}

// === impl Console ===

impl Console {
    /// The real streams. `env` answers for `NO_COLOR`, `TERM` and `COLUMNS`.
    #[must_use]
    pub fn real(colour: Colour, quiet: bool, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let may = |tty: bool| match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                tty && env("NO_COLOR").is_none_or(|v| v.is_empty())
                    && env("TERM").is_none_or(|v| v != "dumb")
            }
        };
        let out_is_tty = io::stdout().is_terminal();
        let columns = env("COLUMNS")
            .and_then(|text| text.parse().ok())
            .or_else(|| {
                rustix::termios::tcgetwinsize(io::stdout())
                    .ok()
                    .map(|size| usize::from(size.ws_col))
            })
            .filter(|columns| *columns >= 20)
            .unwrap_or(100);
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            answers: Box::new(io::BufReader::new(io::stdin())),
            out_is_tty,
            in_is_tty: io::stdin().is_terminal() && io::stderr().is_terminal(),
            colour_out: may(out_is_tty),
            colour_err: may(io::stderr().is_terminal()),
            columns,
            quiet,
        }
    }

    /// Streams in memory, with nobody to answer questions; for tests and for `demo`'s own parts.
    #[must_use]
    pub fn captured() -> (Self, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let console = Self {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            answers: Box::new(io::empty()),
            out_is_tty: false,
            in_is_tty: false,
            colour_out: false,
            colour_err: false,
            columns: 100,
            quiet: false,
        };
        (console, out, err)
    }

    /// A person reads stdout: relative times, short ids, cut tables.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        self.out_is_tty
    }

    /// Questions can be asked.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.in_is_tty
    }

    /// One line of data.
    ///
    /// # Errors
    /// The stream's; a closed pipe becomes a quiet success.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    /// Data as it is.
    ///
    /// # Errors
    /// As for [`Console::line`].
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        Ok(())
    }

    /// One JSON document, indented.
    ///
    /// # Errors
    /// As for [`Console::line`].
    pub fn json(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document)?;
        self.line(&text)
    }

    /// One JSON document on one line.
    ///
    /// # Errors
    /// As for [`Console::line`].
    pub fn json_line(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document)?;
        self.line(&text)
    }

    /// A table; cut to the terminal only when there is one.
    ///
    /// # Errors
    /// As for [`Console::line`].
    pub fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let columns = self.out_is_tty.then_some(self.columns);
        for line in table.lines(columns, self.colour_out) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// One line of talk; silent with `--quiet`. A terminal that is gone harms nobody.
    pub fn say(&mut self, text: &str) {
        if !self.quiet {
            drop(writeln!(self.err, "{text}"));
        }
    }

    /// Talk that `--quiet` does not silence.
    pub fn warn(&mut self, text: &str) {
        let text = self.paint_err(text, Paint::Yellow);
        drop(writeln!(self.err, "{text}"));
    }

    /// Already rendered talk, whatever `--quiet` says.
    pub fn complain(&mut self, text: &str) {
        drop(write!(self.err, "{text}"));
    }

    /// Colours a word for stdout.
    #[must_use]
    pub fn paint(&self, text: &str, paint: Paint) -> String {
        painted(text, paint, self.colour_out)
    }

    /// Colours a word for stderr.
    #[must_use]
    pub fn paint_err(&self, text: &str, paint: Paint) -> String {
        painted(text, paint, self.colour_err)
    }

    /// Asks on stderr; only `y` or `yes` is a yes.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub fn ask(&mut self, question: &str) -> Result<bool, Failure> {
        write!(self.err, "{question} [y/N] ")?;
        self.err.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(matches!(
            answer.trim().to_ascii_lowercase().as_str(),
            "y" | "yes"
        ))
    }

    /// Pushes out what is buffered.
    ///
    /// # Errors
    /// As for [`Console::line`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush()?;
        Ok(())
    }

    /// A moment: relative on a terminal, RFC 3339 otherwise.
    #[must_use]
    pub fn time(&self, at: Timestamp, now: Timestamp) -> String {
        if self.out_is_tty {
            relative(at, now)
        } else {
            at.to_rfc3339()
        }
    }

    /// A size: IEC units on a terminal, bytes otherwise.
    #[must_use]
    pub fn size(&self, bytes: u64) -> String {
        if self.out_is_tty {
            iec(bytes)
        } else {
            bytes.to_string()
        }
    }
}

// === impl Captured ===

impl Captured {
    /// What was written so far, as text.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Table ===

impl Table {
    /// A table with these headers; one that starts with `>` is aligned to the right.
    #[must_use]
    pub fn new(headers: &[&'static str]) -> Self {
        Self {
            headers: headers.iter().map(|h| h.trim_start_matches('>')).collect(),
            right: headers.iter().map(|h| h.starts_with('>')).collect(),
            rows: Vec::new(),
            shorten: Vec::new(),
            leave_out: Vec::new(),
        }
    }

    /// Says what gives way on a narrow terminal: the cells of some columns are shortened in their
    /// middle, then whole columns are left out, the first named first. All others stay whole.
    #[must_use]
    pub fn narrowing(mut self, shorten: &[&'static str], leave_out: &[&'static str]) -> Self {
        self.shorten = shorten.to_vec();
        self.leave_out = leave_out.to_vec();
        self
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.painted_row(cells.map(|cell| (cell, Paint::Plain)));
    }

    /// Adds a row with colours.
    pub fn painted_row<const N: usize>(&mut self, cells: [(String, Paint); N]) {
        self.rows.push(cells.into());
    }

    /// No row yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, without trailing spaces, cut to `columns` when given.
    #[must_use]
    pub fn lines(&self, columns: Option<usize>, colour: bool) -> Vec<String> {
        if let Some(columns) = columns
            && !(self.shorten.is_empty() && self.leave_out.is_empty())
        {
            return self.narrowed(columns).lines(Some(columns), colour);
        }
        let widths = self.widths();
        let header: Vec<(String, Paint)> = self
            .headers
            .iter()
            .map(|h| ((*h).to_owned(), Paint::Plain))
            .collect();
        std::iter::once(&header)
            .chain(&self.rows)
            .map(|row| self.one_line(row, &widths, columns, colour))
            .collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headers.iter().map(|h| h.chars().count()).collect();
        for row in &self.rows {
            for (width, (cell, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    /// As it fits into so many columns; nothing in it gives way any more.
    fn narrowed(&self, columns: usize) -> Self {
        let mut table = self.clone();
        table.shorten.clear();
        let over = |table: &Self| {
            let widths = table.widths();
            let gaps = 2 * widths.len().saturating_sub(1);
            (widths.iter().sum::<usize>() + gaps).saturating_sub(columns)
        };
        let place = |table: &Self, name: &str| table.headers.iter().position(|h| *h == name);
        // What the columns could give away, if each kept the least.
        let spare: usize = self
            .shorten
            .iter()
            .filter_map(|name| self.widths().get(place(self, name)?).copied())
            .map(|width| width.saturating_sub(LEAST_WIDTH))
            .sum();
        for name in std::mem::take(&mut table.leave_out) {
            if over(&table) <= spare {
                break;
            }
            if let Some(at) = place(&table, name) {
                table.headers.remove(at);
                table.right.remove(at);
                for row in &mut table.rows {
                    row.remove(at);
                }
            }
        }
        for name in &self.shorten {
            let (over, at) = (over(&table), place(&table, name));
            let width = at.and_then(|at| table.widths().get(at).copied());
            let (Some(at), Some(width)) = (at, width) else {
                continue;
            };
            let room = width.saturating_sub(over).max(LEAST_WIDTH);
            if let Some(header) = table.headers.get_mut(at) {
                *header = header.get(..room).unwrap_or(header);
            }
            for (cell, _) in table.rows.iter_mut().filter_map(|row| row.get_mut(at)) {
                *cell = middle_cut(cell, room);
            }
        }
        table
    }

    fn one_line(
        &self,
        row: &[(String, Paint)],
        widths: &[usize],
        columns: Option<usize>,
        colour: bool,
    ) -> String {
        let mut line = String::new();
        let mut used = 0;
        let mut owed = 0;
        for (((cell, paint), width), right) in row.iter().zip(widths).zip(&self.right) {
            let pad = width.saturating_sub(cell.chars().count());
            let (before, after) = if *right { (pad, 0) } else { (0, pad) };
            let mut text = cell.clone();
            if let Some(columns) = columns {
                let room = columns.saturating_sub(used + owed + before);
                if text.chars().count() > room {
                    text = text.chars().take(room.saturating_sub(1)).collect();
                    if room > 0 {
                        text.push('…');
                    }
                }
            }
            if text.is_empty() {
                owed += before;
            } else {
                line.extend(std::iter::repeat_n(' ', owed + before));
                used += owed + before + text.chars().count();
                line.push_str(&painted(&text, *paint, colour));
                owed = 0;
            }
            owed += after + 2;
        }
        line
    }
}

/// `orders_2…21.csv`: both ends tell more than one.
fn middle_cut(text: &str, room: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= room {
        return text.to_owned();
    }
    let left = room.saturating_sub(1) / 2;
    let right = room.saturating_sub(1) - left;
    let start = chars.iter().take(left);
    let end = chars.iter().skip(chars.len().saturating_sub(right));
    start.chain(&['…']).chain(end).collect()
}

fn painted(text: &str, paint: Paint, colour: bool) -> String {
    let code = match paint {
        Paint::Plain => return text.to_owned(),
        Paint::Red => "31",
        Paint::Yellow => "33",
        Paint::Green => "32",
    };
    if colour {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// `3m ago`, `in 9d`, `now`.
#[must_use]
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.micros_since(at) / 1_000_000;
    let span = match seconds.unsigned_abs() {
        0 => return "now".to_owned(),
        s @ 1..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    };
    if seconds > 0 {
        format!("{span} ago")
    } else {
        format!("in {span}")
    }
}

/// `4.9 MiB`.
#[must_use]
pub fn iec(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut whole = bytes;
    let mut rest = 0;
    let mut unit = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit == 0 {
        format!("{whole} {name}")
    } else {
        format!("{whole}.{} {name}", rest * 10 / 1024)
    }
}

/// `5 120 044`: digits in groups of three.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`.
#[must_use]
pub fn counted(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{} {one}s", grouped(number))
    }
}

/// A refusal to guess an answer nobody can give: names the flag that would.
#[must_use]
pub fn needs_flag(question: &str, flag: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        "input.needed",
        format!("{question} needs an answer, and there is no terminal to ask on"),
    )
    .hint(format!("give {flag}"))
}

/// Characters that a shortened column keeps.
const LEAST_WIDTH: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_table_keeps_the_columns_that_matter_whole() {
        let mut table = Table::new(&["ID", "FILE", ">SIZE", "VERDICT", "STATE", ">TOOK"])
            .narrowing(&["FILE"], &["TOOK", "SIZE"]);
        table.row(
            [
                "1X0YHC7Q",
                "orders_of_the_day_20261120.csv",
                "4.9 MiB",
                "accepted",
                "delivered",
                "1.8s",
            ]
            .map(str::to_owned),
        );
        assert_eq!(
            table.lines(Some(60), false),
            [
                "ID        FILE               SIZE  VERDICT   STATE      TOOK",
                "1X0YHC7Q  orders…120.csv  4.9 MiB  accepted  delivered  1.8s",
            ]
        );
        assert_eq!(
            table.lines(Some(50), false),
            [
                "ID        FILE                 VERDICT   STATE",
                "1X0YHC7Q  orders_of…61120.csv  accepted  delivered",
            ]
        );
        assert!(table.lines(None, false)[1].contains("orders_of_the_day_20261120.csv"));
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_spaces() {
        let mut table = Table::new(&["ID", ">SIZE", "FILE"]);
        table.row(["A".to_owned(), "7".to_owned(), "x.csv".to_owned()]);
        table.row(["BCD".to_owned(), "12345".to_owned(), String::new()]);
        assert_eq!(
            table.lines(None, false),
            ["ID    SIZE  FILE", "A        7  x.csv", "BCD  12345"]
        );
    }

    #[test]
    fn a_table_is_cut_only_where_a_width_is_given() {
        let mut table = Table::new(&["ID", "FILE"]);
        table.row(["A".to_owned(), "abcdefghij".to_owned()]);
        assert_eq!(table.lines(Some(9), false)[1], "A   abcd…");
        assert_eq!(table.lines(None, false)[1], "A   abcdefghij");
    }

    #[test]
    fn times_and_sizes_are_short_for_people() {
        let now = Timestamp::from_micros(1_000_000_000_000_000);
        let check = |micros: i64, expect: &str| {
            assert_eq!(relative(now.plus_micros(micros), now), expect);
        };
        check(0, "now");
        check(-12_000_000, "12s ago");
        check(-12 * 60_000_000, "12m ago");
        check(9 * 86_400_000_000, "in 9d");
        assert_eq!(iec(386), "386 B");
        assert_eq!(iec(5_120_044), "4.8 MiB");
        assert_eq!(grouped(5_120_044), "5 120 044");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(48_211, "row"), "48 211 rows");
    }

    #[test]
    fn nothing_is_coloured_unless_asked() {
        assert_eq!(painted("LATE", Paint::Red, false), "LATE");
        assert_eq!(painted("LATE", Paint::Red, true), "\u{1b}[31mLATE\u{1b}[0m");
    }
}
