//! The compiled contract: what a file of one feed must be, ready for inspection.
//!
//! Built only by [`crate::policy::compile`]; by then every pattern compiles, every bound is
//! ordered and every name is unique. Inspection reads it and never asks policy text again.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;

use crate::policy::lists::List;
use crate::policy::rules::RowRule;
use crate::terms::columnar::Columnar;
use crate::terms::ids::DomainName;

/// What a file of one feed must be.
#[derive(Clone, Debug)]
pub struct Contract {
    /// How text may become characters; the file tells which of them it is in.
    pub encoding: Vec<Encoding>,
    /// What a leading byte order mark means.
    pub bom: Bom,
    /// Compressions taken, by what the first bytes are.
    pub compression: Vec<Compression>,
    /// Decompressed over compressed size, at most.
    pub ratio_max: u64,
    /// Decompressed bytes, at most.
    pub output_bytes_max: u64,
    /// The file's shape.
    pub format: Format,
    /// The shape of what is forwarded; opaque files stay as they are.
    pub output: OutputFormat,
    /// How that is compressed.
    pub output_compression: OutputCompression,
    /// The rules for its rows; `None` only for [`Format::Opaque`].
    pub schema: Option<Schema>,
    /// A trailer line with control totals.
    pub trailer: Option<Trailer>,
    /// What a finding does to the file.
    pub on_finding: OnFinding,
    /// Rows with faults that are left out before it does.
    pub tolerance: Tolerance,
}

/// What a finding that inspection makes does to the file. Two are for their own key of the policy
/// to decide: [`ExtraColumns::Hold`] and [`MissingColumns::Hold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFinding {
    /// A person decides.
    Hold,
    /// The file is refused.
    Reject,
    /// Rows with a fault are left out and kept apart, whatever their number. Any other finding refuses
    /// the file.
    Split,
    /// A person has looked at it: rows with a fault are left out, and totals that differ are only
    /// told. Any other finding refuses the file.
    Released,
}

/// How many rows of a file may have faults and be left out; both must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// At most so many.
    pub rows: u64,
    /// At most so many of a million.
    pub share_ppm: u64,
}

/// A character encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One of [`EBCDIC`].
    Ebcdic(&'static str),
    /// One of [`OLDER`].
    Older(&'static str),
    /// RFC 2781, whichever way round its bytes are.
    Utf16,
    /// The same, the high byte first.
    Utf16Be,
    /// The same, the low byte first.
    Utf16Le,
    /// RFC 3629.
    Utf8,
}

/// Encodings in which ASCII is ASCII, by their names in the WHATWG Encoding Standard or, where that
/// has none, at IANA.
pub const OLDER: [&str; 34] = [
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "windows-874",
    "iso-8859-1",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "iso-8859-9",
    "iso-8859-10",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-15",
    "iso-8859-16",
    "koi8-r",
    "koi8-u",
    "cp437",
    "cp850",
    "ibm866",
    "shift_jis",
    "euc-jp",
    "euc-kr",
    "gb18030",
    "big5",
];

/// Encodings of IBM mainframes, by their code page.
pub const EBCDIC: [&str; 2] = ["cp037", "cp500"];

/// What to do with a byte order mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bom {
    /// A finding.
    Reject,
    /// Left out of the output.
    Strip,
}

/// A compression, named by what the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// One or more streams.
    Bzip2,
    /// RFC 1952, one or more members.
    Gzip,
    /// As it is.
    None,
    /// An archive of one file.
    Zip,
    /// RFC 8878, one or more frames.
    Zstd,
}

/// The shape of a file.
#[derive(Clone, Debug)]
pub enum Format {
    /// RFC 4180, strictly, in the dialect given.
    Csv(Dialect),
    /// Columns at fixed places of a line.
    Fixed(FixedShape),
    /// RFC 8259, strictly: objects with a key for each column.
    Json(JsonShape),
    /// Decoded as a whole, when the last byte has come.
    Columnar(ColumnarShape),
    /// Name, size and digest only; delivered unchanged.
    Opaque,
}

/// Which rows of a file that is decoded as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnarShape {
    /// Its format.
    pub format: Columnar,
    /// Of a workbook: the sheet's name; else its first one.
    pub sheet: Option<String>,
}

/// Where columns stand in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedShape {
    /// Of each column, in the contract's order: characters before it, and its width in characters.
    /// They lie one behind the other, perhaps with gaps.
    pub places: Vec<(u32, u32)>,
    /// Characters of a line, its end left out.
    pub length: usize,
    /// Which line ends are taken; `None`: there are none, and lines follow one another.
    pub newline: Option<Newline>,
}

/// How JSON objects stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonShape {
    /// As the elements of one array.
    Array,
    /// Each on a line of its own.
    Lines,
}

/// What is forwarded of a file of rows; text is UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// CSV with labels, in the feed's dialect.
    Csv,
    /// JSON objects, numbers and booleans as such.
    Json(JsonShape),
    /// Parquet, columns of the contract's types.
    Parquet,
}

/// How what is forwarded of a file of rows is compressed; of Parquet, its pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputCompression {
    /// RFC 1952, one member.
    Gzip,
    /// Not at all.
    None,
    /// RFC 8878, one frame.
    Zstd,
}

/// The CSV dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// One ASCII byte between cells.
    pub delimiter: u8,
    /// One ASCII byte around cells that need it; doubled inside.
    pub quote: u8,
    /// The first record is the header.
    pub header: Header,
    /// Which line ends are taken.
    pub newline: Newline,
}

/// Whether a file starts with labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// No labels: columns are taken in the contract's order.
    Absent,
    /// The first record names the columns.
    Present,
}

/// Line ends taken. CR alone never ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newline {
    /// CRLF or LF; both in one file is a warning.
    Any,
    /// CRLF only.
    Crlf,
    /// LF only.
    Lf,
}

/// The rules for rows.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The columns, in the contract's order; names and aliases are unique.
    pub columns: Vec<Column>,
    /// How the header's set of labels must relate to the contract's (Table Schema v2 words).
    pub fields_match: FieldsMatch,
    /// How a label is compared with a name.
    pub header_match: HeaderMatch,
    /// What a label no column has means.
    pub extra_columns: ExtraColumns,
    /// What a column without a label means.
    pub missing_columns: MissingColumns,
    /// Cells that mean "no value"; the empty cell unless policy says otherwise.
    pub missing_values: Vec<String>,
    /// Rows, at least.
    pub rows_min: u64,
    /// Indexes into `columns` that together are unique and never null; empty: no key.
    pub primary_key: Vec<usize>,
    /// Longest cell, bytes.
    pub field_bytes_max: usize,
    /// Longest record, bytes.
    pub record_bytes_max: usize,
    /// Most columns of the header.
    pub columns_max: usize,
    /// What is looked for in columns the contract does not describe, where they are kept.
    pub scan: Option<Scan>,
    /// What a text that begins like a formula means.
    pub formulas: Formulas,
    /// Conditions over several columns of a row.
    pub rules: Vec<RowRule>,
}

/// Table Schema v2 `fieldsMatch`: F the contract's columns, D the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldsMatch {
    /// D = F, any order.
    Equal,
    /// D = F, same order.
    Exact,
    /// D and F share at least one column.
    Partial,
    /// D contains F.
    Subset,
    /// F contains D.
    Superset,
}

/// How labels are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// ASCII and Unicode case ignored.
    Case,
    /// Byte for byte.
    Exact,
    /// White space around ignored.
    Trim,
    /// Both.
    TrimCase,
}

/// What a column the contract does not know means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraColumns {
    /// Left out of the output.
    Drop,
    /// A finding that a person decides about; left out when they say yes.
    Hold,
    /// Copied to the output unchecked; policy must ask for it by name.
    Keep,
    /// A finding.
    Reject,
}

/// What a column the file does not have means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingColumns {
    /// A finding that a person decides about, and `Null` when they say yes.
    Hold,
    /// Every cell is null; a finding all the same for a required or tokenized column.
    Null,
    /// A finding.
    Reject,
}

/// One column.
#[derive(Clone, Debug)]
pub struct Column {
    /// The label, and the output's label.
    pub name: String,
    /// Other labels taken for it.
    pub aliases: Vec<String>,
    /// What its cells are.
    pub kind: Kind,
    /// A cell must not be null.
    pub required: bool,
    /// No value occurs twice (null does not count).
    pub unique: bool,
    /// The whole cell must match; compiled anchored at both ends.
    pub pattern: Option<Regex>,
    /// The pattern as written in the policy, for messages.
    pub pattern_text: Option<String>,
    /// The only values taken, in the policy's order; empty: any.
    pub values: Vec<String>,
    /// The same for look-up.
    pub values_set: BTreeSet<String>,
    /// A list of the only values taken, kept in a file of its own.
    pub lookup: Option<Arc<List>>,
    /// Lowest value, in the column's type.
    pub minimum: Option<Bound>,
    /// Highest value, in the column's type.
    pub maximum: Option<Bound>,
    /// Fewest characters.
    pub length_min: Option<usize>,
    /// Most characters.
    pub length_max: Option<usize>,
    /// Values are shown as shape only, everywhere.
    pub sensitive: bool,
    /// Values are replaced before anything is stored. Implies `sensitive`.
    pub token: Option<TokenRule>,
    /// Sensitive values nobody declared are looked for in its text.
    pub scan: Option<Scan>,
}

/// What is looked for in free text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Which values.
    pub kinds: Vec<Sensitive>,
    /// What one means.
    pub on_match: OnMatch,
}

/// A kind of value that should not stand in free text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitive {
    /// An e-mail address.
    Email,
    /// A bank account, with right check digits.
    Iban,
    /// A national id, most with right check digits.
    NationalId,
    /// A payment card number, with a right check digit.
    Pan,
    /// A telephone number with its country code.
    Phone,
}

/// What a sensitive value in free text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMatch {
    /// It is replaced by its kind, and a warning.
    Redact,
    /// A finding.
    Reject,
    /// A warning.
    Warn,
}

/// What text means that a spreadsheet would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formulas {
    /// Nothing.
    Allow,
    /// It gets an apostrophe before it, and a warning.
    Escape,
    /// A finding.
    Reject,
    /// A warning.
    Warn,
}

/// What a cell is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true`/`false` in the words the policy lists.
    Boolean {
        /// Words for true.
        yes: Vec<String>,
        /// Words for false.
        no: Vec<String>,
    },
    /// A calendar date in one of the `strftime` formats.
    Date {
        /// Formats, tried in order.
        formats: Vec<String>,
    },
    /// A moment in one of the `strftime` formats.
    DateTime {
        /// Formats, tried in order.
        formats: Vec<String>,
    },
    /// At most `precision` digits, `scale` of them after the point; exact, never a float.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, up to `precision`.
        scale: u8,
    },
    /// An optional minus and digits, within i128.
    Integer,
    /// Text, of a known shape or free.
    Text(TextFormat),
}

/// Whether moments of this `strftime` format say how far from UTC they are.
pub(crate) fn has_offset(format: &str) -> bool {
    let format = format.replace("%%", "");
    format.ends_with('Z')
        || ["%z", "%:z", "%::z", "%Q", "%:Q", "%s"]
            .iter()
            .any(|part| format.contains(part))
}

/// Known shapes of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Free.
    Any,
    /// `local@domain` as mail systems take it (RFC 5321 dot-atom; no quoted local parts).
    Email,
    /// ISO 13616, mod 97 checked.
    Iban,
    /// A payment card number: 12 to 19 digits, Luhn checked.
    Pan,
    /// RFC 9562, hyphenated.
    Uuid,
}

/// A bound in the column's own type, with the text the policy wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// As written.
    pub text: String,
    /// Comparable: integers as they are, decimals scaled to the column's scale, dates as days
    /// and moments as microseconds since 1970 (moments without an offset as if UTC).
    pub value: i128,
}

/// How a column is tokenized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// The construction.
    pub kind: TokenKind,
    /// The namespace; `None` for the unkeyed kinds.
    pub domain: Option<DomainName>,
    /// The part that stays readable.
    pub keep: Keep,
    /// Applied in this order before a keyed kind.
    pub normalise: Vec<Normalise>,
    /// Empty and null cells are tokenized as well.
    pub tokenise_empty: bool,
}

/// The constructions of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// AES-256-CMAC, SP 800-38B; the default.
    Cmac,
    /// The column is left out of the output.
    Drop,
    /// HMAC-SHA-256, RFC 2104.
    Hmac,
    /// Every character but the kept ones becomes `*`.
    Mask,
    /// The cell becomes empty.
    Redact,
}

/// The part of a value that stays readable, and is part of the keyed input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What follows the last `@`, with it.
    Domain,
    /// The first N characters.
    First(usize),
    /// The last N characters.
    Last(usize),
    /// Nothing.
    None,
}

/// Steps that make equal what people mean as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalise {
    /// Only the digits 0-9 stay.
    Digits,
    /// Unicode lower case.
    Lower,
    /// White space around removed.
    Trim,
}

/// The last line of a file, with control totals. It is not a row and not in the output.
#[derive(Clone, Debug)]
pub struct Trailer {
    /// Matches the whole physical last line, without its line end.
    pub pattern: Regex,
    /// The group that holds the row count.
    pub rows: Option<String>,
    /// Sums: index of an integer or decimal column, and the group that holds its sum.
    pub sums: Vec<(usize, String)>,
}

// === impl OnFinding ===

impl OnFinding {
    /// Its name in policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Reject => "reject",
            Self::Released => "released",
            Self::Split => "split",
        }
    }
}

// === impl Tolerance ===

impl Tolerance {
    /// No row at all.
    pub const NONE: Self = Self {
        rows: 0,
        share_ppm: 0,
    };

    /// Whether so many bad rows of so many rows are within it.
    #[must_use]
    pub fn bears(self, bad: u64, rows: u64) -> bool {
        let share = u128::from(bad) * 1_000_000 <= u128::from(self.share_ppm) * u128::from(rows);
        bad <= self.rows && share
    }
}

// === impl Column ===

impl Column {
    /// A column of a kind, without a name and without any other rule.
    pub(crate) fn free(kind: Kind) -> Self {
        Self {
            name: String::new(),
            aliases: Vec::new(),
            kind,
            required: false,
            unique: false,
            pattern: None,
            pattern_text: None,
            values: Vec::new(),
            values_set: BTreeSet::new(),
            lookup: None,
            minimum: None,
            maximum: None,
            length_min: None,
            length_max: None,
            sensitive: false,
            token: None,
            scan: None,
        }
    }
}

// === impl Sensitive ===

impl Sensitive {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Email,
        Self::Iban,
        Self::NationalId,
        Self::Pan,
        Self::Phone,
    ];

    /// Its name in policies, as in `pan`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Iban => "iban",
            Self::NationalId => "national-id",
            Self::Pan => "pan",
            Self::Phone => "phone",
        }
    }

    /// Its name in messages, as in `a payment card number`.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Email => "an e-mail address",
            Self::Iban => "an IBAN",
            Self::NationalId => "a national id",
            Self::Pan => "a payment card number",
            Self::Phone => "a telephone number",
        }
    }
}

// === impl Encoding ===

impl Encoding {
    /// Its name in policies, as in `windows-1252`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebcdic(name) | Self::Older(name) => name,
            Self::Utf16 => "utf-16",
            Self::Utf16Be => "utf-16be",
            Self::Utf16Le => "utf-16le",
            Self::Utf8 => "utf-8",
        }
    }

    /// Its name in messages, as in `Windows-1252`.
    #[must_use]
    pub fn title(self) -> String {
        match self.name() {
            name if name.starts_with("windows") => name.replacen('w', "W", 1),
            name if name.starts_with("cp") => name.replacen("cp", "code page ", 1),
            "shift_jis" => "Shift_JIS".to_owned(),
            "big5" => "Big5".to_owned(),
            name => name.to_ascii_uppercase(),
        }
    }

    /// One of the three UTF-16.
    #[must_use]
    pub fn is_utf_16(self) -> bool {
        match self {
            Self::Utf16 | Self::Utf16Be | Self::Utf16Le => true,
            Self::Ebcdic(_) | Self::Older(_) | Self::Utf8 => false,
        }
    }

    /// Every encoding a policy may name.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Utf8, Self::Utf16, Self::Utf16Le, Self::Utf16Be]
            .into_iter()
            .chain(OLDER.map(Self::Older))
            .chain(EBCDIC.map(Self::Ebcdic))
    }
}

// === impl Contract ===

impl Contract {
    /// The same contract for a file that a person looked at and released: what only holds a file is
    /// no finding any more, rows with a fault are left out, and totals that differ are only told.
    #[must_use]
    pub fn released(&self) -> Self {
        let mut released = self.clone();
        released.on_finding = OnFinding::Released;
        if let Some(schema) = &mut released.schema {
            if schema.extra_columns == ExtraColumns::Hold {
                schema.extra_columns = ExtraColumns::Drop;
            }
            if schema.missing_columns == MissingColumns::Hold {
                schema.missing_columns = MissingColumns::Null;
            }
        }
        released
    }

    /// Rows with a fault are left out of what is forwarded, as far as the file is accepted.
    #[must_use]
    pub fn leaves_out(&self) -> bool {
        let by_all = match self.on_finding {
            OnFinding::Released | OnFinding::Split => true,
            OnFinding::Hold | OnFinding::Reject => false,
        };
        by_all || self.tolerance != Tolerance::NONE
    }

    /// What is delivered are the bytes as sent, and nothing of them is looked at.
    #[must_use]
    pub fn passes_through(&self) -> bool {
        match self.format {
            Format::Opaque => true,
            Format::Columnar(_) | Format::Csv(_) | Format::Fixed(_) | Format::Json(_) => false,
        }
    }

    /// Its files are decoded as wholes.
    #[must_use]
    pub fn columnar(&self) -> Option<&ColumnarShape> {
        match &self.format {
            Format::Columnar(shape) => Some(shape),
            Format::Csv(_) | Format::Fixed(_) | Format::Json(_) | Format::Opaque => None,
        }
    }

    /// The domains whose keys inspection needs, each once, in order.
    #[must_use]
    pub fn domains(&self) -> BTreeSet<DomainName> {
        self.schema
            .iter()
            .flat_map(|schema| &schema.columns)
            .filter_map(|column| column.token.as_ref()?.domain.clone())
            .collect()
    }
}
