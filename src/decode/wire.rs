//! What a decoder in a process of its own says and hears: one message behind the other, each a kind, a
//! length and so many bytes. Numbers are little endian.
//!
//! The decoder asks for bytes of the file and tells what it found; the other side answers each question
//! with the bytes. Neither trusts a length that is over [`MESSAGE_BYTES_MAX`].

use std::io::{self, Read, Write};

use crate::decode::{Column, DecodeFault, DecodeFaultKind, Decoded, Nature, Rows};

/// The longest message.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a decoder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It wants so many bytes from there.
    Wants {
        /// The first byte's offset in the file.
        offset: u64,
        /// How many.
        bytes: u32,
    },
    /// It has found something.
    Found(Decoded),
    /// It is done.
    Done(Result<(), DecodeFault>),
}

const WANTS: u8 = 1;
const COLUMNS: u8 = 2;
const ROWS: u8 = 3;
const END: u8 = 4;
const FAULT: u8 = 5;
/// Where a cell ends that is null.
const NULL: u32 = u32::MAX;

const NATURES: [Nature; 7] = [
    Nature::Any,
    Nature::Boolean,
    Nature::Date,
    Nature::DateTime,
    Nature::Decimal,
    Nature::Integer,
    Nature::Text,
];
const FLOAT: u8 = 100;
const OTHER: u8 = 101;

const FAULTS: [DecodeFaultKind; 6] = [
    DecodeFaultKind::Broken,
    DecodeFaultKind::Encrypted,
    DecodeFaultKind::Limit,
    DecodeFaultKind::NotUtf8,
    DecodeFaultKind::Ours,
    DecodeFaultKind::Stopped,
];

/// Writes one message of a decoder.
///
/// # Errors
/// Those of the pipe.
pub fn say(said: &Said, to: &mut impl Write) -> io::Result<()> {
    let mut body = Vec::new();
    let kind = match said {
        Said::Wants { offset, bytes } => {
            body.extend_from_slice(&offset.to_le_bytes());
            body.extend_from_slice(&bytes.to_le_bytes());
            WANTS
        }
        Said::Found(Decoded::Columns(columns)) => {
            for column in columns {
                let (nature, name) = match &column.nature {
                    Nature::Float(name) => (FLOAT, name.as_str()),
                    Nature::Other(name) => (OTHER, name.as_str()),
                    Nature::Any
                    | Nature::Boolean
                    | Nature::Date
                    | Nature::DateTime
                    | Nature::Decimal
                    | Nature::Integer
                    | Nature::Text => (place(&NATURES, &column.nature), ""),
                };
                body.push(nature);
                put(name.as_bytes(), &mut body)?;
                put(column.name.as_bytes(), &mut body)?;
            }
            COLUMNS
        }
        Said::Found(Decoded::Rows(rows)) => {
            body.extend_from_slice(&short(rows.columns)?.to_le_bytes());
            body.extend_from_slice(&short(rows.ends.len())?.to_le_bytes());
            for end in &rows.ends {
                body.extend_from_slice(&end.unwrap_or(NULL).to_le_bytes());
            }
            body.extend_from_slice(rows.text.as_bytes());
            ROWS
        }
        Said::Done(Ok(())) => END,
        Said::Done(Err(fault)) => {
            body.push(place(&FAULTS, &fault.kind));
            body.extend_from_slice(fault.detail.as_bytes());
            FAULT
        }
    };
    to.write_all(&[kind])?;
    to.write_all(&short(body.len())?.to_le_bytes())?;
    to.write_all(&body)?;
    to.flush()
}

/// Reads one message of a decoder.
///
/// # Errors
/// Those of the pipe; [`io::ErrorKind::InvalidData`] for what no decoder says.
pub fn hear(from: &mut impl Read) -> io::Result<Said> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, a, b, c, d] = head;
    let bytes = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(io::Error::other)?;
    if bytes > MESSAGE_BYTES_MAX {
        return Err(nonsense());
    }
    let mut body = Vec::new();
    let length = u64::try_from(bytes).map_err(io::Error::other)?;
    if from.take(length).read_to_end(&mut body)? != bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut rest = body.as_slice();
    Ok(match kind {
        WANTS => Said::Wants {
            offset: u64::from_le_bytes(*take::<8>(&mut rest)?),
            bytes: u32::from_le_bytes(*take::<4>(&mut rest)?),
        },
        COLUMNS => {
            let mut columns = Vec::new();
            while !rest.is_empty() {
                let [nature] = *take::<1>(&mut rest)?;
                let name = get(&mut rest)?;
                let nature = match nature {
                    FLOAT => Nature::Float(name),
                    OTHER => Nature::Other(name),
                    known => NATURES
                        .get(usize::from(known))
                        .cloned()
                        .ok_or_else(nonsense)?,
                };
                let name = get(&mut rest)?;
                columns.push(Column { name, nature });
            }
            Said::Found(Decoded::Columns(columns))
        }
        ROWS => Said::Found(Decoded::Rows(rows(&mut rest)?)),
        END => Said::Done(Ok(())),
        FAULT => {
            let [kind] = *take::<1>(&mut rest)?;
            let kind = FAULTS.get(usize::from(kind)).copied();
            let detail = String::from_utf8_lossy(rest).into_owned();
            Said::Done(Err(DecodeFault::new(kind.ok_or_else(nonsense)?, detail)))
        }
        _ => return Err(nonsense()),
    })
}

fn rows(rest: &mut &[u8]) -> io::Result<Rows> {
    let columns =
        usize::try_from(u32::from_le_bytes(*take::<4>(rest)?)).map_err(io::Error::other)?;
    let cells = usize::try_from(u32::from_le_bytes(*take::<4>(rest)?)).map_err(io::Error::other)?;
    let ends = cells
        .checked_mul(4)
        .and_then(|bytes| rest.split_at_checked(bytes));
    let (ends, text) = ends.ok_or_else(nonsense)?;
    let text = simdutf8::basic::from_utf8(text).map_err(|_| nonsense())?;
    let mut before = 0;
    let mut read = Vec::with_capacity(cells);
    for end in ends.as_chunks::<4>().0 {
        let end = u32::from_le_bytes(*end);
        if end == NULL {
            read.push(None);
            continue;
        }
        let is_sound = usize::try_from(end).is_ok_and(|end| text.is_char_boundary(end));
        if end < before || !is_sound {
            return Err(nonsense());
        }
        before = end;
        read.push(Some(end));
    }
    if columns == 0 || !cells.is_multiple_of(columns) {
        return Err(nonsense());
    }
    Ok(Rows {
        columns,
        text: text.to_owned(),
        ends: read,
    })
}

fn put(text: &[u8], body: &mut Vec<u8>) -> io::Result<()> {
    body.extend_from_slice(&short(text.len())?.to_le_bytes());
    body.extend_from_slice(text);
    Ok(())
}

fn get(rest: &mut &[u8]) -> io::Result<String> {
    let bytes = usize::try_from(u32::from_le_bytes(*take::<4>(rest)?)).map_err(io::Error::other)?;
    let (text, behind) = rest.split_at_checked(bytes).ok_or_else(nonsense)?;
    *rest = behind;
    String::from_utf8(text.to_vec()).map_err(|_| nonsense())
}

fn take<'r, const N: usize>(rest: &mut &'r [u8]) -> io::Result<&'r [u8; N]> {
    let (front, behind) = rest.split_first_chunk::<N>().ok_or_else(nonsense)?;
    *rest = behind;
    Ok(front)
}

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let place = all.iter().position(|known| known == one);
    place.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}

fn short(n: usize) -> io::Result<u32> {
    u32::try_from(n).map_err(io::Error::other)
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no message of a decoder")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_said_is_heard() {
        let rows = Rows {
            columns: 2,
            text: "ab\u{e4}".to_owned(),
            ends: vec![Some(1), None, Some(1), Some(4)],
        };
        let columns = vec![
            Column {
                name: "a".to_owned(),
                nature: Nature::Float("float64".to_owned()),
            },
            Column {
                name: String::new(),
                nature: Nature::Text,
            },
        ];
        for said in [
            Said::Wants {
                offset: u64::MAX,
                bytes: 7,
            },
            Said::Found(Decoded::Columns(columns)),
            Said::Found(Decoded::Rows(rows)),
            Said::Done(Ok(())),
            Said::Done(Err(DecodeFault::new(DecodeFaultKind::Limit, "x"))),
        ] {
            let mut pipe = Vec::new();
            say(&said, &mut pipe).unwrap();
            assert_eq!(hear(&mut pipe.as_slice()).unwrap(), said);
            pipe.pop();
            assert!(hear(&mut pipe.as_slice()).is_err());
        }
    }

    proptest! {
        #[test]
        fn noise_is_never_more_than_an_error(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(hear(&mut noise.as_slice()));
        }
    }
}
