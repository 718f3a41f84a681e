//! From the bytes of a file to characters, by the encodings its contract takes.
//!
//! Which one it is, the file tells: a byte order mark, or zeros where UTF-16 has them. Where UTF-8 is
//! taken beside an older encoding, the first character that is not ASCII decides, and nothing is ever
//! decided again: what then does not fit is a finding at its byte. UTF-8 goes on as it is and is
//! judged by the table; everything else becomes UTF-8 here, and positions stay those of the file.
//!
//! Sources: WHATWG Encoding Standard (by `encoding_rs`), RFC 2781, and [`pages`].

use encoding_rs::{DecoderResult, EncoderResult};

use crate::inspect::encoding::{self, Prefix};
use crate::inspect::pages::{self, Page};
use crate::inspect::report::{Refused, Report};
use crate::inspect::table::{self, Table};
use crate::policy::contract::{Bom, Encoding};

/// How a file becomes characters.
pub(crate) struct Charset {
    taken: Vec<Encoding>,
    bom: Bom,
    state: State,
    /// Bytes that decide nothing yet.
    pending: Vec<u8>,
}

enum State {
    /// Before the first character.
    Start,
    /// Only ASCII so far, where UTF-8 and this one are taken.
    Ascii(Encoding),
    /// The table judges the bytes.
    Utf8,
    Decode(Box<Decoder>),
}

/// What turns bytes into characters.
struct Decoder {
    encoding: Encoding,
    method: Method,
    /// The last bytes before the current piece: a fault may have begun in them.
    recent: Vec<u8>,
}

enum Method {
    Page(&'static Page),
    Web(encoding_rs::Decoder),
}

/// How many bytes of the file a piece of its text was.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Width {
    /// As many as in UTF-8.
    Utf8,
    /// One for each character.
    Chars,
    /// Two or four.
    Utf16,
    /// As many as this encoding takes.
    Web(&'static encoding_rs::Encoding),
}

/// Bytes that mean nothing in the encoding.
struct Undecodable {
    byte: u8,
    /// The file ends inside a character.
    is_cut: bool,
}

/// Bytes decoded at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Longest character, bytes.
const CHARACTER_BYTES_MAX: usize = 8;

// === impl Charset ===

impl Charset {
    pub(crate) fn new(taken: &[Encoding], bom: Bom) -> Self {
        Self {
            taken: taken.to_vec(),
            bom,
            state: State::Start,
            pending: Vec::new(),
        }
    }

    /// Whether UTF-16 may be in the file.
    pub(crate) fn takes_utf_16(&self) -> bool {
        self.taken.iter().any(|one| one.is_utf_16())
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`Refused`] when the file is refused whatever follows.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        table: &mut Table,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        self.take(input, false, table, report, out)
    }

    /// The last byte has been pushed.
    ///
    /// # Errors
    /// [`Refused`] as for [`Charset::push`].
    pub(crate) fn finish(
        &mut self,
        table: &mut Table,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        self.take(&[], true, table, report, out)
    }

    fn take(
        &mut self,
        input: &[u8],
        is_last: bool,
        table: &mut Table,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let joined;
        let mut input = input;
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(input);
            joined = std::mem::take(&mut self.pending);
            input = &joined;
        }
        if matches!(self.state, State::Start) {
            match self.start(input, is_last, table, report)? {
                Some(skipped) => input = input.get(skipped..).unwrap_or_default(),
                None => {
                    self.pending = input.to_vec();
                    return Ok(());
                }
            }
        }
        if let State::Ascii(other) = self.state {
            let ascii = input.iter().position(|byte| !byte.is_ascii());
            let (front, rest) = input.split_at(ascii.unwrap_or(input.len()));
            table.push(front, report, out)?;
            if rest.is_empty() {
                return Ok(());
            }
            self.state = match encoding::prefix(rest) {
                Prefix::Valid(1..) | Prefix::Faulty { valid: 1.., .. } => State::Utf8,
                Prefix::Valid(_) if !is_last => {
                    self.pending = rest.to_vec();
                    return Ok(());
                }
                Prefix::Valid(_) | Prefix::Faulty { .. } => {
                    State::Decode(Box::new(decoder(other, table)))
                }
            };
            input = rest;
        }
        match &mut self.state {
            State::Start | State::Ascii(_) => Ok(()),
            State::Utf8 => table.push(input, report, out),
            State::Decode(decoder) => {
                for piece in input.chunks(PIECE_BYTES) {
                    decoder.push(piece, false, table, report, out)?;
                }
                if is_last {
                    decoder.push(&[], true, table, report, out)?;
                }
                Ok(())
            }
        }
    }

    /// The file says so itself, and the contract takes none.
    fn is_utf_8(&self, report: &mut Report) -> Refused {
        let titles: Vec<String> = self.taken.iter().map(|one| one.title()).collect();
        let titles = titles.join(" or ");
        let hint = format!("Save the file as {titles}.");
        Table::refuse_encoding(&titles, "looks like UTF-8", &hint, report)
    }

    /// Looks at the first bytes; how many of them are a mark to be left out. `None`: more are needed.
    fn start(
        &mut self,
        head: &[u8],
        is_last: bool,
        table: &mut Table,
        report: &mut Report,
    ) -> Result<Option<usize>, Refused> {
        let has = |wanted: &[Encoding]| wanted.iter().any(|one| self.taken.contains(one));
        let is_little = has(&[Encoding::Utf16, Encoding::Utf16Le]);
        let is_big = has(&[Encoding::Utf16, Encoding::Utf16Be]);
        let wanted = if is_little || is_big { 2 } else { 0 };
        if !has(&[Encoding::Utf8]) {
            if head.starts_with(encoding::BOM) {
                return Err(self.is_utf_8(report));
            }
            if !head.is_empty() && encoding::BOM.starts_with(head) && !is_last {
                return Ok(None);
            }
        }
        if head.len() < wanted && !is_last {
            return Ok(None);
        }
        let is_older = |one: &Encoding| matches!(one, Encoding::Older(_) | Encoding::Ebcdic(_));
        let older = self.taken.iter().copied().find(is_older);
        let (found, mark) = match head {
            [0xff, 0xfe, ..] if is_little => (Some(Encoding::Utf16Le), 2),
            [0xfe, 0xff, ..] if is_big => (Some(Encoding::Utf16Be), 2),
            [1..=0xff, 0, ..] if is_little => (Some(Encoding::Utf16Le), 0),
            [0, 1..=0xff, ..] if is_big => (Some(Encoding::Utf16Be), 0),
            _ if has(&[Encoding::Utf8]) || head.is_empty() => (None, 0),
            _ => match (older, is_little, is_big) {
                (Some(older), _, _) => (Some(older), 0),
                (None, true, false) => (Some(Encoding::Utf16Le), 0),
                (None, false, true) => (Some(Encoding::Utf16Be), 0),
                (None, _, _) => {
                    let hint = "Save the file with a byte order mark.";
                    let detail = "neither a byte order mark nor zeros tell which UTF-16 it is";
                    return Err(Table::refuse_encoding("UTF-16", detail, hint, report));
                }
            },
        };
        if mark > 0 {
            if self.bom == Bom::Reject {
                return Err(table::refuse_mark(report));
            }
            table.skip(mark);
        }
        self.state = match (found, older) {
            (Some(found), _) => State::Decode(Box::new(decoder(found, table))),
            (None, Some(older)) if !head.is_empty() && !encoding::BOM.starts_with(head) => {
                if head.starts_with(encoding::BOM) {
                    State::Utf8
                } else {
                    State::Ascii(older)
                }
            }
            // It may be the start of a mark.
            (None, Some(_)) if !is_last && head.len() < encoding::BOM.len() => return Ok(None),
            (None, Some(older)) if head.len() < encoding::BOM.len() => State::Ascii(older),
            (None, _) => State::Utf8,
        };
        if matches!(self.state, State::Utf8 | State::Ascii(_)) {
            return Ok(Some(0));
        }
        Ok(Some(usize::try_from(mark).unwrap_or(0)))
    }
}

fn decoder(encoding: Encoding, table: &mut Table) -> Decoder {
    let (method, width) = method_of(encoding);
    table.set_width(width);
    Decoder {
        encoding,
        method,
        recent: Vec::new(),
    }
}

/// What reads an encoding, and how its text is measured.
fn method_of(encoding: Encoding) -> (Method, Width) {
    let name = encoding.name();
    if let Some(page) = pages::find(name) {
        return (Method::Page(page), Width::Chars);
    }
    let web = encoding_rs::Encoding::for_label_no_replacement(name.as_bytes());
    let web = web.unwrap_or(encoding_rs::UTF_8);
    let width = if encoding.is_utf_16() {
        Width::Utf16
    } else if web.is_single_byte() {
        Width::Chars
    } else {
        Width::Web(web)
    };
    (Method::Web(web.new_decoder_without_bom_handling()), width)
}

// === impl Decoder ===

impl Decoder {
    fn push(
        &mut self,
        piece: &[u8],
        is_last: bool,
        table: &mut Table,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let mut text = String::new();
        let decoded = match &mut self.method {
            Method::Page(page) => read_page(page, piece, &mut text),
            Method::Web(web) => read_web(web, piece, is_last, &self.recent, &mut text),
        };
        // A control character stands before the byte that means nothing: it is the first fault.
        let decoded = self.no_controls(&mut text).and(decoded);
        let kept = self.recent.len().saturating_sub(CHARACTER_BYTES_MAX);
        self.recent.drain(..kept);
        let tail = piece.len().saturating_sub(CHARACTER_BYTES_MAX);
        self.recent
            .extend_from_slice(piece.get(tail..).unwrap_or_default());
        table.push(text.as_bytes(), report, out)?;
        decoded.map_err(|fault| {
            // Where ISO 8859-1 has controls, Windows has the letters people mean.
            let is_windows = !matches!(fault.byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d);
            let hint = match (fault.is_cut, self.encoding) {
                (true, _) => Some("the file ends inside a character"),
                (false, Encoding::Older("iso-8859-1")) if is_windows => {
                    Some("looks like Windows-1252")
                }
                (false, _) => None,
            };
            table.refuse_byte(&self.encoding.title(), fault.byte, hint, report)
        })
    }

    /// No file means the control characters above 0x7F: in Windows code pages the Encoding Standard
    /// lets bytes without a meaning through as such, in ISO 8859 they are letters of Windows.
    fn no_controls(&self, text: &mut String) -> Result<(), Undecodable> {
        let name = self.encoding.name();
        if !name.starts_with("windows-") && !name.starts_with("iso-8859-") {
            return Ok(());
        }
        let found = text
            .char_indices()
            .find(|(_, c)| ('\u{80}'..='\u{9f}').contains(c));
        let Some((at, control)) = found else {
            return Ok(());
        };
        text.truncate(at);
        Err(Undecodable {
            byte: u8::try_from(u32::from(control)).unwrap_or(0),
            is_cut: false,
        })
    }
}

fn read_page(page: &Page, piece: &[u8], text: &mut String) -> Result<(), Undecodable> {
    text.reserve(piece.len());
    for &byte in piece {
        match page.get(usize::from(byte)) {
            Some(&char::REPLACEMENT_CHARACTER) | None => {
                return Err(Undecodable {
                    byte,
                    is_cut: false,
                });
            }
            Some(&char) => text.push(char),
        }
    }
    Ok(())
}

fn read_web(
    web: &mut encoding_rs::Decoder,
    piece: &[u8],
    is_last: bool,
    recent: &[u8],
    text: &mut String,
) -> Result<(), Undecodable> {
    let mut read = 0;
    loop {
        let rest = piece.get(read..).unwrap_or_default();
        let room = web.max_utf8_buffer_length_without_replacement(rest.len());
        text.reserve(room.unwrap_or(rest.len()));
        let (result, count) = web.decode_to_string_without_replacement(rest, text, is_last);
        read += count;
        match result {
            DecoderResult::InputEmpty => return Ok(()),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(bad, after) => {
                let back = usize::from(bad) + usize::from(after);
                let byte = match read.checked_sub(back) {
                    Some(at) => piece.get(at),
                    None => recent
                        .get((recent.len() + read).saturating_sub(back)..)
                        .and_then(<[u8]>::first),
                };
                return Err(Undecodable {
                    byte: byte.copied().unwrap_or(0),
                    is_cut: is_last && piece.is_empty(),
                });
            }
        }
    }
}

// === impl Width ===

impl Width {
    /// Bytes of the file that became `text`.
    pub(crate) fn of(self, text: &[u8]) -> u64 {
        let count = match self {
            Self::Utf8 => text.len(),
            Self::Chars => text.iter().filter(|byte| is_first(**byte)).count(),
            // Characters outside the first plane take four bytes in UTF-8.
            Self::Utf16 => {
                let firsts = text.iter().filter(|byte| is_first(**byte)).count();
                let long = text.iter().filter(|byte| **byte >= 0xf0).count();
                2 * (firsts + long)
            }
            Self::Web(_) if text.is_ascii() => text.len(),
            Self::Web(web) => std::str::from_utf8(text)
                .unwrap_or_default()
                .chars()
                .map(|char| width_in(web, char))
                .sum(),
        };
        u64::try_from(count).unwrap_or(0)
    }
}

fn is_first(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

/// Bytes of a character of this encoding. Some can be read and never written: those of JIS X 0212
/// take three, those of Big5 two, and its two accents belong to the letter before them.
fn width_in(web: &'static encoding_rs::Encoding, char: char) -> usize {
    if char.is_ascii() {
        return 1;
    }
    let (mut utf8, mut bytes) = ([0; 4], [0; 16]);
    let mut encoder = web.new_encoder();
    let (result, _, written) = encoder.encode_from_utf8_without_replacement(
        char.encode_utf8(&mut utf8),
        &mut bytes,
        false,
    );
    match result {
        EncoderResult::InputEmpty => written,
        EncoderResult::OutputFull | EncoderResult::Unmappable(_) => {
            if web == encoding_rs::BIG5 && matches!(char, '\u{304}' | '\u{30c}') {
                0
            } else if web == encoding_rs::EUC_JP {
                3
            } else {
                2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a whole text and gives it with the width it is measured by.
    fn decode(encoding: Encoding, bytes: &[u8]) -> Option<(String, Width)> {
        let (method, width) = method_of(encoding);
        let mut text = String::new();
        let decoded = match method {
            Method::Page(page) => read_page(page, bytes, &mut text),
            Method::Web(mut web) => read_web(&mut web, bytes, true, &[], &mut text),
        };
        decoded.ok().map(|()| (text, width))
    }

    #[track_caller]
    fn check_width(encoding: Encoding, bytes: &[u8]) {
        if let Some((text, width)) = decode(encoding, bytes) {
            let counted = width.of(text.as_bytes());
            assert_eq!(
                counted,
                u64::try_from(bytes.len()).unwrap(),
                "{} {bytes:02x?} {text:?}",
                encoding.name()
            );
        }
    }

    #[test]
    fn the_width_of_text_is_that_of_its_bytes_in_every_encoding() {
        let is_wide =
            |encoding: Encoding| matches!(method_of(encoding).1, Width::Web(_) | Width::Utf16);
        for encoding in Encoding::all().filter(|one| *one != Encoding::Utf8) {
            for first in 0..=0xff_u8 {
                if encoding == Encoding::Older("gb18030") && first == 0x80 {
                    // It reads as the euro sign, which is written with two bytes.
                    continue;
                }
                check_width(encoding, &[first]);
                if !is_wide(encoding) {
                    continue;
                }
                for second in 0..=0xff_u8 {
                    if first >= 0x80 || encoding.is_utf_16() {
                        check_width(encoding, &[first, second]);
                    }
                }
            }
        }
        for (encoding, bytes) in [
            ("gb18030", &b"\x81\x30\x81\x30\xc4\xe3"[..]),
            ("gb18030", b"\x94\x39\xda\x33"),
            ("euc-jp", b"\x8f\xb0\xa1\x8e\xb1\xa4\xa2"),
            ("big5", b"\x88\x62\xa4\x40"),
            ("shift_jis", b"\x95\x5c\xb1\x81\x60"),
        ] {
            check_width(Encoding::Older(encoding), bytes);
        }
        for pair in ["\u{1f600}a", "\u{10ffff}", "\u{fffe}x"] {
            let bytes: Vec<u8> = pair.encode_utf16().flat_map(u16::to_be_bytes).collect();
            check_width(Encoding::Utf16Be, &bytes);
        }
    }

    #[test]
    fn every_name_is_one_the_decoder_knows() {
        for encoding in Encoding::all() {
            let name = encoding.name();
            let known = encoding_rs::Encoding::for_label_no_replacement(name.as_bytes());
            let web = known.map(|web| web.name().to_ascii_lowercase());
            match web {
                _ if pages::find(name).is_some() || name == "utf-16" => {}
                Some(web) => assert_eq!(web, name),
                None => panic!("{name}"),
            }
        }
    }
}
