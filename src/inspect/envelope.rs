//! What a file comes in: as it is, or compressed. The first bytes decide, never the name.
//!
//! A file that is not what its contract takes is refused before anything inside is looked at,
//! under the name of what it is. What was unpacked is judged like what was sent, so there are no
//! archives in archives.

use crate::decode::{DecodeFault, DecodeFaultKind, Decoded, Flow};
use crate::inspect::charset::Charset;
use crate::inspect::magic::{self, Sniffed};
use crate::inspect::report::{Refused, Report, Sample};
use crate::inspect::show;
use crate::inspect::table::{self, RowFormat, Table, TableRules};
use crate::inspect::unpack::{Packing, Unpack, UnpackFault};
use crate::policy::contract::{
    Compression, Contract, ExtraColumns, FieldsMatch, Format, Formulas, HeaderMatch,
    MissingColumns, Schema, TokenKind,
};
use crate::terms::codes::Code;
use crate::terms::columnar::Columnar;
use crate::terms::limits;
use crate::tokens::{TokenFault, TokenKeys, Tokenizer};

/// The outermost stage.
pub(crate) enum Envelope {
    /// A file that is decoded as a whole.
    Columnar(Box<Whole>),
    /// A file of rows.
    Csv(Box<Csv>),
    /// A file whose bytes nobody looks at; holds how many there were.
    Opaque(u64),
}

/// A file that is decoded as a whole, by somebody else.
pub(crate) struct Whole {
    format: Columnar,
    /// First bytes, until they tell what the file is.
    head: Option<Vec<u8>>,
    /// So many have come.
    bytes: u64,
    table: Table,
    /// It was decoded to its end.
    is_done: bool,
}

/// A file of rows, perhaps compressed.
pub(crate) struct Csv {
    wrapping: Wrapping,
    takes: Vec<Packing>,
    takes_plain: bool,
    ratio_max: u64,
    output_bytes_max: u64,
    contents: Contents,
}

/// Takes what has come of a piece of text, so that what was small compressed is never held as a whole.
pub(crate) type Drain<'d> = dyn FnMut(&mut Report, &mut Vec<u8>) -> Flow + 'd;

/// How the bytes are wrapped.
enum Wrapping {
    /// First bytes, until they tell what the file is.
    Unknown(Vec<u8>),
    Packed(Box<Unpack>),
    Plain,
}

/// The bytes inside.
struct Contents {
    /// First bytes, until they tell what the file is.
    head: Option<Vec<u8>>,
    /// Plain bytes are refused even when they are text: the compressions wanted.
    wanted: Option<String>,
    /// What plain text is called.
    text: &'static str,
    /// Text that is taken at once.
    piece_bytes: usize,
    charset: Charset,
    table: Table,
}

/// Columns up to which text is inspected in the largest pieces.
const COLUMNS_USUAL: usize = 16;

/// Text to take at once: of wide rows the less, the more columns there are.
fn piece_bytes(columns: usize) -> usize {
    let most = limits::INSPECT_PIECE_BYTES;
    (most * COLUMNS_USUAL / columns.max(COLUMNS_USUAL)).max(most / 64)
}

// === impl Envelope ===

impl Envelope {
    /// The stages for one contract.
    ///
    /// # Errors
    /// [`TokenFault`] when a keyed column has no key.
    pub(crate) fn new(
        contract: &Contract,
        keys: &TokenKeys,
        seed: [u8; 16],
    ) -> Result<Self, TokenFault> {
        let format = match &contract.format {
            Format::Opaque => return Ok(Self::Opaque(0)),
            Format::Csv(dialect) => RowFormat::Csv(*dialect),
            Format::Fixed(shape) => RowFormat::Fixed(shape.clone()),
            Format::Json(shape) => RowFormat::Json(*shape),
            Format::Columnar(_) => RowFormat::Given,
        };
        let text = match format {
            RowFormat::Csv(_) => "CSV text",
            RowFormat::Fixed(_) => "text",
            RowFormat::Json(_) => "JSON text",
            RowFormat::Given => "",
        };
        // Without rules no column is known, so that every file is refused.
        let schema = contract.schema.clone().unwrap_or_else(no_columns);
        let mut tokenizers = Vec::new();
        for column in &schema.columns {
            tokenizers.push(match &column.token {
                Some(rule) if rule.kind != TokenKind::Drop => Some(Tokenizer::new(rule, keys)?),
                Some(_) | None => None,
            });
        }
        let columns = schema.columns.len();
        let rules = TableRules {
            schema,
            format,
            output: contract.output,
            bom: contract.bom,
            trailer: contract.trailer.clone(),
            leaves_out: contract.leaves_out(),
        };
        if let Format::Columnar(shape) = &contract.format {
            return Ok(Self::Columnar(Box::new(Whole {
                format: shape.format,
                head: Some(Vec::new()),
                bytes: 0,
                table: Table::new(rules, tokenizers, seed),
                is_done: false,
            })));
        }
        let takes = contract.compression.iter().copied();
        Ok(Self::Csv(Box::new(Csv {
            wrapping: Wrapping::Unknown(Vec::new()),
            takes: takes.filter_map(Packing::of).collect(),
            takes_plain: contract.compression.contains(&Compression::None),
            ratio_max: contract.ratio_max,
            output_bytes_max: contract.output_bytes_max,
            contents: Contents {
                head: Some(Vec::new()),
                wanted: None,
                text,
                piece_bytes: piece_bytes(columns),
                charset: Charset::new(&contract.encoding, contract.bom),
                table: Table::new(rules, tokenizers, seed),
            },
        })))
    }

    /// Takes the next bytes as sent.
    ///
    /// # Errors
    /// [`Refused`] when the file is refused whatever follows.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        report: &mut Report,
        out: &mut Vec<u8>,
        drain: &mut Drain<'_>,
    ) -> Result<(), Refused> {
        match self {
            Self::Columnar(whole) => whole.push(input, report),
            Self::Csv(csv) => csv.push(input, report, out, drain),
            Self::Opaque(bytes) => {
                *bytes += u64::try_from(input.len()).unwrap_or(0);
                out.extend_from_slice(input);
                Ok(())
            }
        }
    }

    /// The last byte has been pushed, and nothing has refused the file.
    pub(crate) fn finish(&mut self, report: &mut Report, out: &mut Vec<u8>, drain: &mut Drain<'_>) {
        match self {
            Self::Columnar(whole) => whole.finish(report),
            Self::Csv(csv) => {
                if csv.finish(report, out, drain).is_ok() {
                    report.bytes_inspected = csv.contents.table.taken();
                }
            }
            Self::Opaque(bytes) => report.bytes_inspected = *bytes,
        }
    }

    /// Values tokenized, by column.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&str, u64)> {
        let table = match self {
            Self::Columnar(whole) => Some(&whole.table),
            Self::Csv(csv) => Some(&csv.contents.table),
            Self::Opaque(_) => None,
        };
        table.into_iter().flat_map(Table::tokens)
    }
}

// === impl Whole ===

impl Whole {
    /// Only the first bytes are looked at: whether it is what it should be.
    fn push(&mut self, input: &[u8], report: &mut Report) -> Result<(), Refused> {
        self.bytes += u64::try_from(input.len()).unwrap_or(0);
        let Some(head) = &mut self.head else {
            return Ok(());
        };
        top_up(head, input);
        if head.len() < magic::BYTES_MAX {
            return Ok(());
        }
        let head = self.head.take().unwrap_or_default();
        self.is_what_it_should_be(&head, report)
    }

    fn is_what_it_should_be(&self, head: &[u8], report: &mut Report) -> Result<(), Refused> {
        if magic::is_columnar(self.format, head) {
            return Ok(());
        }
        let (detail, hint) = match magic::sniff(head, true) {
            Sniffed::Foreign(magic) => (format!("looks like {}", magic.name), magic.hint),
            Sniffed::Text | Sniffed::Unknown if head.is_empty() => {
                ("the file is empty".to_owned(), None)
            }
            Sniffed::Text | Sniffed::Unknown => ("looks like text".to_owned(), None),
        };
        let sample = Sample {
            detail,
            ..Sample::default()
        };
        let hint = hint.map(str::to_owned);
        Err(report.refuse(
            0,
            Code::FormatError,
            None,
            self.format.title(),
            hint,
            sample,
        ))
    }

    /// What its decoder found, in order.
    pub(crate) fn decoded(
        &mut self,
        decoded: &Decoded,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        if let Some(head) = self.head.take() {
            self.is_what_it_should_be(&head, report)?;
        }
        match decoded {
            Decoded::Columns(columns) => {
                let place = match self.format {
                    Columnar::Xlsx => "its first row",
                    Columnar::Arrow | Columnar::Avro | Columnar::Parquet => "its schema",
                };
                self.table.columns(columns, place, report)
            }
            Decoded::Rows(rows) => self.table.rows(rows, report, out),
        }
    }

    /// Its decoder is done.
    pub(crate) fn ended(
        &mut self,
        result: &Result<(), DecodeFault>,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        if let Some(head) = self.head.take() {
            self.is_what_it_should_be(&head, report)?;
        }
        let Err(fault) = result else {
            self.is_done = true;
            self.table.end(report, out);
            return Ok(());
        };
        let (code, rule) = match fault.kind {
            DecodeFaultKind::Encrypted => (Code::EncryptionError, "a file without encryption"),
            DecodeFaultKind::Limit => (Code::LimitExceeded, "what a decoder may take"),
            DecodeFaultKind::NotUtf8 => (Code::EncodingError, "UTF-8"),
            DecodeFaultKind::Broken | DecodeFaultKind::Ours | DecodeFaultKind::Stopped => {
                (Code::FormatError, self.format.title())
            }
        };
        let hint = match fault.kind {
            DecodeFaultKind::Encrypted => "Send it without encryption.",
            DecodeFaultKind::Limit => "Send the rows in several files, in smaller groups.",
            DecodeFaultKind::NotUtf8 => "Write text as UTF-8.",
            DecodeFaultKind::Broken | DecodeFaultKind::Ours | DecodeFaultKind::Stopped => {
                "Write the file anew with another tool, or send it again whole."
            }
        };
        let sample = Sample {
            detail: fault.detail.clone(),
            ..Sample::default()
        };
        let hint = Some(hint.to_owned());
        Err(report.refuse(self.bytes, code, None, rule, hint, sample))
    }

    /// The last byte has come; what has not been decoded to its end is not whole.
    fn finish(&mut self, report: &mut Report) {
        if !self.is_done {
            let fault = DecodeFault::new(DecodeFaultKind::Broken, "it was not read to its end");
            self.ended(&Err(fault), report, &mut Vec::new()).ok();
        }
        report.bytes_inspected = self.bytes;
    }
}

// === impl Csv ===

impl Csv {
    fn push(
        &mut self,
        input: &[u8],
        report: &mut Report,
        out: &mut Vec<u8>,
        drain: &mut Drain<'_>,
    ) -> Result<(), Refused> {
        let Wrapping::Unknown(head) = &mut self.wrapping else {
            return self.unwrap(input, report, out, drain);
        };
        let rest = top_up(head, input);
        let sniffed = magic::sniff(head, false);
        if sniffed == Sniffed::Unknown {
            return Ok(());
        }
        let head = std::mem::take(head);
        self.begin(sniffed);
        self.unwrap(&head, report, out, drain)?;
        self.unwrap(rest, report, out, drain)
    }

    fn begin(&mut self, sniffed: Sniffed) {
        let packing = match sniffed {
            Sniffed::Foreign(magic) => self.takes.iter().find(|one| one.name() == magic.name),
            Sniffed::Text | Sniffed::Unknown => None,
        };
        self.wrapping = match packing {
            Some(packing) => {
                let unpack = Unpack::new(*packing, self.ratio_max, self.output_bytes_max);
                Wrapping::Packed(Box::new(unpack))
            }
            None => {
                let names: Vec<&str> = self.takes.iter().map(|one| one.name()).collect();
                self.contents.wanted = (!self.takes_plain).then(|| names.join(" or "));
                Wrapping::Plain
            }
        };
    }

    fn unwrap(
        &mut self,
        input: &[u8],
        report: &mut Report,
        out: &mut Vec<u8>,
        drain: &mut Drain<'_>,
    ) -> Result<(), Refused> {
        let caps = self.caps();
        let contents = &mut self.contents;
        let unpack = match &mut self.wrapping {
            Wrapping::Unknown(_) | Wrapping::Plain => {
                return contents.push_through(input, report, out, drain).map(drop);
            }
            Wrapping::Packed(unpack) => unpack,
        };
        let mut refused = Ok(());
        let result = unpack.push(input, |text| {
            match contents.push_through(text, report, out, drain) {
                Ok(flow) => flow,
                Err(fault) => {
                    refused = Err(fault);
                    Flow::Stop
                }
            }
        });
        refused?;
        result.map_err(|fault| compression(fault, unpack, caps, report))
    }

    fn finish(
        &mut self,
        report: &mut Report,
        out: &mut Vec<u8>,
        drain: &mut Drain<'_>,
    ) -> Result<(), Refused> {
        if let Wrapping::Unknown(head) = &mut self.wrapping {
            let head = std::mem::take(head);
            if head.is_empty() {
                self.wrapping = Wrapping::Plain;
            } else {
                self.begin(magic::sniff(&head, true));
                self.unwrap(&head, report, out, drain)?;
            }
        }
        if let Wrapping::Packed(unpack) = &self.wrapping {
            let caps = self.caps();
            unpack
                .finish()
                .map_err(|fault| compression(fault, unpack, caps, report))?;
        }
        self.contents.finish(report, out)
    }

    fn caps(&self) -> (u64, u64) {
        (self.ratio_max, self.output_bytes_max)
    }
}

// === impl Contents ===

impl Contents {
    /// Takes text piece by piece: a short row may become a wide one.
    fn push_through(
        &mut self,
        text: &[u8],
        report: &mut Report,
        out: &mut Vec<u8>,
        drain: &mut Drain<'_>,
    ) -> Result<Flow, Refused> {
        for piece in text.chunks(self.piece_bytes) {
            self.push(piece, report, out)?;
            if drain(report, out) == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Go)
    }

    fn push(
        &mut self,
        input: &[u8],
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let Some(head) = &mut self.head else {
            return self.charset.push(input, &mut self.table, report, out);
        };
        let rest = top_up(head, input);
        let sniffed = magic::sniff(head, false);
        self.decide(sniffed, report, out)?;
        if rest.is_empty() {
            return Ok(());
        }
        self.charset.push(rest, &mut self.table, report, out)
    }

    fn finish(&mut self, report: &mut Report, out: &mut Vec<u8>) -> Result<(), Refused> {
        if let Some(head) = &self.head {
            if head.is_empty() && self.wanted.is_some() {
                return Err(table::refuse_empty(0, report));
            }
            let sniffed = magic::sniff(head, true);
            self.decide(sniffed, report, out)?;
        }
        self.charset.finish(&mut self.table, report, out)?;
        self.table.finish(report, out)
    }

    fn decide(
        &mut self,
        sniffed: Sniffed,
        report: &mut Report,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let sniffed = match sniffed {
            Sniffed::Foreign(magic) if magic.name == "UTF-16" && self.charset.takes_utf_16() => {
                Sniffed::Text
            }
            Sniffed::Foreign(_) | Sniffed::Text | Sniffed::Unknown => sniffed,
        };
        let (code, detail, hint) = match sniffed {
            Sniffed::Unknown => return Ok(()),
            Sniffed::Text => {
                let Some(wanted) = &self.wanted else {
                    let head = self.head.take().unwrap_or_default();
                    return self.charset.push(&head, &mut self.table, report, out);
                };
                (
                    Code::FormatError,
                    format!("not {wanted}"),
                    Some(format!("Compress the file with {wanted}.")),
                )
            }
            Sniffed::Foreign(magic) => (
                // Text in another encoding is text all the same.
                if magic.name.starts_with("UTF") {
                    Code::EncodingError
                } else {
                    Code::FormatError
                },
                format!("looks like {}", magic.name),
                magic.hint.map(str::to_owned),
            ),
        };
        let sample = Sample {
            line: Some(1),
            byte: Some(0),
            detail,
            ..Sample::default()
        };
        let rule = self.wanted.as_deref().unwrap_or(self.text);
        Err(report.refuse(0, code, None, rule, hint, sample))
    }
}

/// Fills up the first bytes that tell what a file is; the rest of the input.
fn top_up<'i>(head: &mut Vec<u8>, input: &'i [u8]) -> &'i [u8] {
    let missing = magic::BYTES_MAX.saturating_sub(head.len());
    let (now, rest) = input.split_at(missing.min(input.len()));
    head.extend_from_slice(now);
    rest
}

/// Tells a fault of a compressed file, of which so much text was read.
fn compression(
    fault: UnpackFault,
    unpack: &Unpack,
    (ratio_max, output_bytes_max): (u64, u64),
    report: &mut Report,
) -> Refused {
    let name = unpack.packing().name();
    let broken = |detail: String| {
        let rule = format!("{name}, whole and nothing behind it");
        (Code::CompressionError, rule, detail)
    };
    let archive = |detail: &str| {
        let rule = format!("{name} with one file in it");
        (Code::CompressionError, rule, detail.to_owned())
    };
    let (code, rule, detail) = match fault {
        UnpackFault::Broken => broken("the compressed data is broken".to_owned()),
        UnpackFault::Checksum => broken("the checksum differs".to_owned()),
        UnpackFault::Directory => archive("its directory and its contents differ"),
        UnpackFault::Empty => archive("no file is in it"),
        UnpackFault::Folder => archive("a folder is in it"),
        UnpackFault::Encrypted => (
            Code::EncryptionError,
            "a file that can be read".to_owned(),
            "it needs a password".to_owned(),
        ),
        UnpackFault::Header => broken(format!("the {name} header is broken")),
        UnpackFault::Length => broken("the length differs".to_owned()),
        UnpackFault::Members => archive("more than one file is in it"),
        UnpackFault::Method => archive("it is compressed in another way than deflate"),
        UnpackFault::Pieces => (
            Code::LimitExceeded,
            format!("{name} in one stream, or in large ones"),
            format!("made of a great many {name} streams"),
        ),
        UnpackFault::Trailing => broken(format!("other bytes follow the {name} data")),
        UnpackFault::Truncated => broken(format!("the {name} data ends early")),
        UnpackFault::Output => (
            Code::LimitExceeded,
            format!("{} decompressed", show::bytes(output_bytes_max)),
            format!("over {} decompressed", show::bytes(output_bytes_max)),
        ),
        UnpackFault::Ratio => (
            Code::LimitExceeded,
            format!("{ratio_max} times its size decompressed"),
            format!("decompresses to over {ratio_max} times its size"),
        ),
        UnpackFault::Window => (
            Code::LimitExceeded,
            "a window of 8 MiB".to_owned(),
            "it takes more than 8 MiB of memory to read".to_owned(),
        ),
    };
    let given = unpack.given();
    let sample = Sample {
        byte: Some(given),
        detail,
        ..Sample::default()
    };
    let hint = if fault == UnpackFault::Encrypted {
        Some("Send it without a password.")
    } else if fault == UnpackFault::Folder {
        Some("Pack the file alone, without its folder.")
    } else if fault == UnpackFault::Members {
        Some("Send each file by itself.")
    } else if fault == UnpackFault::Pieces {
        Some("Compress the whole file at once.")
    } else if fault == UnpackFault::Window {
        Some("Compress it without --long and --ultra.")
    } else {
        None
    };
    report.refuse(given, code, None, &rule, hint.map(str::to_owned), sample)
}

pub(crate) fn no_columns() -> Schema {
    Schema {
        columns: Vec::new(),
        fields_match: FieldsMatch::Exact,
        header_match: HeaderMatch::Exact,
        extra_columns: ExtraColumns::Reject,
        missing_columns: MissingColumns::Reject,
        missing_values: Vec::new(),
        rows_min: 0,
        primary_key: Vec::new(),
        field_bytes_max: 0,
        record_bytes_max: 0,
        columns_max: 1,
        scan: None,
        formulas: Formulas::Allow,
        rules: Vec::new(),
    }
}
