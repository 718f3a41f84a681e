//! The catalogue of codes: every finding and refusal a partner can meet ([`Code`]), and every
//! mistake in rules an operator can make ([`OPERATOR_CODES`]).
//!
//! Names of partner codes are those of the Frictionless error types where one exists, and in
//! that style where none does. `sallyport explain CODE` prints the long texts.

use std::fmt;

/// What can be wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The bytes are not the format the feed declares.
    FormatError,
    /// A byte is not valid in the declared encoding.
    EncodingError,
    /// The compressed stream is broken, truncated or followed by other bytes.
    CompressionError,
    /// The file can only be read with a password or key.
    EncryptionError,
    /// The same content again where policy refuses it, or a name that may not be replaced.
    DuplicateFile,
    /// A size, ratio or count over its cap.
    LimitExceeded,
    /// A gap, a stale tail, or fewer bytes than declared.
    Incomplete,
    /// The trailer's row count differs.
    RowCount,
    /// Fewer rows than `min_rows`.
    TooFewRows,
    /// The trailer's sum differs, or the trailer is missing.
    ControlTotal,
    /// The name fits no feed.
    NoFeed,
    /// The gateway cannot take the file now.
    GatewayFull,
    /// A header cell is empty.
    BlankLabel,
    /// Two header cells are the same.
    DuplicateLabel,
    /// The header has a column the contract does not know.
    ExtraLabel,
    /// The header lacks a column.
    MissingLabel,
    /// The header has the right columns in the wrong order, or misspelt.
    IncorrectLabel,
    /// A line without cells.
    BlankRow,
    /// The primary key repeats or is empty.
    PrimaryKey,
    /// A row has more cells than the header.
    ExtraCell,
    /// A row has fewer cells than the header.
    MissingCell,
    /// A cell is not of its column's type.
    TypeError,
    /// A cell breaks a rule of its column.
    ConstraintError,
    /// A cell is not in the list of its column.
    ForeignKey,
    /// A value of a unique column repeats.
    UniqueError,
    /// NUL or another control character.
    ControlCharacters,
    /// A rule over several columns of a row.
    RowConstraint,
    /// A value cannot be tokenized.
    TokenError,
    /// Text that a spreadsheet would run.
    FormulaInjection,
    /// A sensitive value where nobody declared one.
    SensitiveUndeclared,
    /// Warning: CRLF and LF in one file.
    MixedNewlines,
    /// Warning: text that was read in the wrong encoding and written again.
    SuspectMojibake,
    /// The file has a column that was not agreed, and that is left out.
    SchemaDrift,
}

// === impl Code ===

impl Code {
    /// Every code, in the order of the catalogue.
    pub const ALL: [Self; 33] = [
        Self::FormatError,
        Self::EncodingError,
        Self::CompressionError,
        Self::EncryptionError,
        Self::DuplicateFile,
        Self::LimitExceeded,
        Self::Incomplete,
        Self::RowCount,
        Self::TooFewRows,
        Self::ControlTotal,
        Self::NoFeed,
        Self::GatewayFull,
        Self::BlankLabel,
        Self::DuplicateLabel,
        Self::ExtraLabel,
        Self::MissingLabel,
        Self::IncorrectLabel,
        Self::BlankRow,
        Self::PrimaryKey,
        Self::ExtraCell,
        Self::MissingCell,
        Self::TypeError,
        Self::ConstraintError,
        Self::ForeignKey,
        Self::UniqueError,
        Self::ControlCharacters,
        Self::RowConstraint,
        Self::TokenError,
        Self::FormulaInjection,
        Self::SensitiveUndeclared,
        Self::MixedNewlines,
        Self::SuspectMojibake,
        Self::SchemaDrift,
    ];

    /// The slug, as in `missing-cell`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FormatError => "format-error",
            Self::EncodingError => "encoding-error",
            Self::CompressionError => "compression-error",
            Self::EncryptionError => "encryption-error",
            Self::DuplicateFile => "duplicate-file",
            Self::LimitExceeded => "limit-exceeded",
            Self::Incomplete => "incomplete",
            Self::RowCount => "row-count",
            Self::TooFewRows => "too-few-rows",
            Self::ControlTotal => "control-total",
            Self::NoFeed => "no-feed",
            Self::GatewayFull => "gateway-full",
            Self::BlankLabel => "blank-label",
            Self::DuplicateLabel => "duplicate-label",
            Self::ExtraLabel => "extra-label",
            Self::MissingLabel => "missing-label",
            Self::IncorrectLabel => "incorrect-label",
            Self::BlankRow => "blank-row",
            Self::PrimaryKey => "primary-key",
            Self::ExtraCell => "extra-cell",
            Self::MissingCell => "missing-cell",
            Self::TypeError => "type-error",
            Self::ConstraintError => "constraint-error",
            Self::ForeignKey => "foreign-key",
            Self::UniqueError => "unique-error",
            Self::ControlCharacters => "control-characters",
            Self::RowConstraint => "row-constraint",
            Self::TokenError => "token-error",
            Self::FormulaInjection => "formula-injection",
            Self::SensitiveUndeclared => "sensitive-undeclared",
            Self::MixedNewlines => "mixed-newlines",
            Self::SuspectMojibake => "suspect-mojibake",
            Self::SchemaDrift => "schema-drift",
        }
    }

    /// Worth saying, but no reason to refuse.
    #[must_use]
    pub fn is_warning(self) -> bool {
        matches!(
            self,
            Self::MixedNewlines | Self::SchemaDrift | Self::SuspectMojibake
        )
    }

    /// The long text: what it is, usual causes, an example, what policy can change. Lines end
    /// with a line feed, the last one too; plain ASCII, 80 columns.
    #[must_use]
    #[expect(
        clippy::too_many_lines,
        reason = "one text for each code, in one table"
    )]
    pub fn explain(self) -> &'static str {
        match self {
            Self::FormatError => {
                "\
format-error - the bytes are not the format the feed declares
  Usual causes: a spreadsheet or archive under the name of a CSV file; a quote
    that is opened and never closed; text after a closing quote; a delimiter
    other than the agreed one.
  Wrong: 7,\"Main St 5\" Berlin     Right: 7,\"Main St 5 Berlin\"
  Policy: `format` names the dialect; nothing switches the check off.
"
            }
            Self::EncodingError => {
                "\
encoding-error - a byte is not valid in the agreed character encoding
  Usual causes: a file saved in another encoding than agreed; a file cut in the
    middle of a character; two files of different encodings put together.
  Wrong: the byte E4 for an a-umlaut     Right: the bytes C3 A4 (UTF-8)
  Policy: `encoding` lists what is taken, `bom` says what a byte order mark
    means.
"
            }
            Self::CompressionError => {
                "\
compression-error - the compressed file is broken, cut short, or not allowed
  Usual causes: an upload that stopped; a gzip file with other bytes behind it;
    a zip archive with more than one file in it, or none.
  Right: test it before sending: gzip -t orders.csv.gz
  Policy: `compression` lists what is taken; damage is never let through.
"
            }
            Self::EncryptionError => {
                "\
encryption-error - the file can only be read with a password or a key
  Usual causes: a zip archive made with a password; a document that is
    protected.
  Wrong: zip -e orders.zip orders.csv     Right: zip orders.zip orders.csv
  Policy: nothing switches the check off; the connection itself is encrypted.
"
            }
            Self::DuplicateFile => {
                "\
duplicate-file - this content, or this name, was accepted before
  Usual causes: a job that ran twice; yesterday's file under today's name; a
    correction sent under a name that may not be replaced.
  Right: send each file once; ask under which name corrections are expected.
  Policy: `same_content` and `same_name` decide what a repetition means.
"
            }
            Self::LimitExceeded => {
                "\
limit-exceeded - the file is over an agreed size, ratio or count
  Usual causes: a file larger than `max_size`; a cell, a record or a header
    without end because a quote or a line break is missing; a file that grows
    enormously when decompressed.
  Right: split the file, or agree on a higher limit.
  Policy: `max_size`, `max_ratio`, `max_output` and the schema's `limits`.
"
            }
            Self::Incomplete => {
                "\
incomplete - bytes are missing, or an older and longer file shines through
  Usual causes: a connection that broke; a client that writes parts and skips
    one; an overwrite that is shorter than the file before it.
  Right: upload the whole file again; clients that write to a temporary name
    and rename it at the end are safest.
  Policy: `completeness` says what proves that a file is whole.
"
            }
            Self::RowCount => {
                "\
row-count - the trailer announces another number of rows than there are
  Usual causes: rows lost or doubled on the way; a count that includes the
    header or the trailer; a file cut and closed by hand.
  Wrong: two rows, then TRL,3     Right: two rows, then TRL,2
  Policy: `[feed.control] rows`; it cannot be off by a tolerance.
"
            }
            Self::TooFewRows => {
                "\
too-few-rows - the file has fewer rows than agreed
  Usual causes: an export that ran before the data was there; a filter that
    matched nothing. The header and the trailer are not rows.
  Right: send the file when it has its rows; ask whether empty days are sent.
  Policy: `min_rows` of the schema; 0 takes a file with a header only.
"
            }
            Self::ControlTotal => {
                "\
control-total - the trailer is missing, or its sum is not the sum of the rows
  Usual causes: rows changed after the trailer was made; a sum rounded by a
    spreadsheet; a decimal comma; a last line that does not look as agreed.
  Wrong: 10.00 and 2.50, then TRL,2,12.5,EUR     Right: TRL,2,12.50
  Policy: `[feed.control] trailer` and `sum.COLUMN`; sums are exact.
"
            }
            Self::NoFeed => {
                "\
no-feed - the name of the file fits none of the agreed names
  Usual causes: a misspelt name; a date in another order; an ending added by a
    browser or a mail program; lower and upper case exchanged.
  Wrong: Orders 2026-11-21.csv     Right: orders_20261121.csv
  Policy: `match` of each feed; /help names the feeds with examples.
"
            }
            Self::GatewayFull => {
                "\
gateway-full - the gateway cannot take the file now; nothing is wrong with it
  Usual causes: the storage behind the gateway is away and files wait; a
    partner's quota is used up by unfinished uploads.
  Right: try again later; remove unfinished uploads that are no longer needed.
  Policy: `[access] quota`, and the gateway's own `[spool] quota`.
"
            }
            Self::BlankLabel => {
                "\
blank-label - a cell of the header is empty
  Usual causes: a delimiter too many at the end of the first line; an empty
    column in the spreadsheet the file was made from.
  Wrong: order_id,,amount     Right: order_id,country,amount
  Policy: cannot be switched off.
"
            }
            Self::DuplicateLabel => {
                "\
duplicate-label - two cells of the header are the same
  Usual causes: a join that kept both key columns; a column copied in a
    spreadsheet; a name and its alias in one file.
  Wrong: order_id,amount,amount     Right: order_id,amount,amount_net
  Policy: cannot be switched off.
"
            }
            Self::ExtraLabel => {
                "\
extra-label - the header has a column that was not agreed
  Usual causes: a new column in the source; a misspelt label (then the right
    one is missing as well).
  Wrong: order_id,amount,colour     Right: order_id,amount
  Policy: `extra_columns` = \"reject\", \"drop\" or \"keep\"; `aliases` of a column.
"
            }
            Self::MissingLabel => {
                "\
missing-label - the header lacks an agreed column
  Usual causes: a column removed or renamed in the source; another delimiter,
    so that the whole line is one label; no header at all.
  Wrong: order_id,ammount     Right: order_id,amount
  Policy: `missing_columns` = \"reject\" or \"null\", `aliases` of a column. A
    required or tokenized column must always be there.
"
            }
            Self::IncorrectLabel => {
                "\
incorrect-label - the right columns in the wrong order, or written differently
  Usual causes: columns moved in the source; capitals or blanks in labels.
  Wrong: amount,order_id     Right: order_id,amount
  Policy: `fields_match` = \"equal\" takes any order; `header_match` forgives
    case and blanks.
"
            }
            Self::BlankRow => {
                "\
blank-row - a line without any cell
  Usual causes: an empty line at the end, made by an editor; line ends that are
    doubled (CR CR LF); empty lines as separators.
  Wrong: two line ends after the last row     Right: one line end
  Policy: cannot be switched off.
"
            }
            Self::PrimaryKey => {
                "\
primary-key - the columns that identify a row are empty or repeat
  Usual causes: the same row twice; a key that is unique in one region only.
  Wrong: O-00000001 in two rows     Right: one row for each key
  Policy: `primary_key` of the schema lists the columns.
"
            }
            Self::ExtraCell => {
                "\
extra-cell - a row has more cells than the header
  Usual causes: a comma inside an unquoted value; a delimiter at the end of the
    line; a decimal comma.
  Wrong: 7,Main St 5, Berlin     Right: 7,\"Main St 5, Berlin\"
  Policy: cannot be switched off.
"
            }
            Self::MissingCell => {
                "\
missing-cell - a row has fewer cells than the header
  Usual causes: a missing last comma for an empty cell; a line break inside an
    unquoted value.
  Wrong: O-00000002,DE     Right: O-00000002,DE,
  Policy: cannot be switched off.
"
            }
            Self::TypeError => {
                "\
type-error - a cell is not of its column's type
  Usual causes: a decimal comma; a thousands separator; a currency sign; a date
    in another order; text where a number belongs; more digits than agreed; a
    spreadsheet that shortened a long number; 12.0 where whole numbers belong.
  Wrong: \"12,50\" or 1e3     Right: 12.50 or 1000
  Policy: `type` and `formats` of the column; numbers are never rounded.
"
            }
            Self::ConstraintError => {
                "\
constraint-error - a cell breaks a rule of its column
  Usual causes: an empty cell where a value is required; a value outside the
    list, the pattern, the length or the bounds; zeros in front that a
    spreadsheet removed.
  Wrong: UK where DE, AT, CH are agreed     Right: DE
  Policy: `required`, `enum`, `pattern`, `minimum`, `maximum`, `min_length`,
    `max_length` and `format` of the column.
"
            }
            Self::ForeignKey => {
                "\
foreign-key - a cell is not in the list that its column is looked up in
  Usual causes: a new customer, article or branch that the receiver does not
    know yet; a typing error; zeros in front that a spreadsheet removed.
  Wrong: SKU-0099 where no such article is known     Right: one that is
  Policy: `lookup` of the column, and the list itself in policies/lists.
"
            }
            Self::UniqueError => {
                "\
unique-error - a value occurs twice in a column where each must be different
  Usual causes: the same row twice; two exports put together.
  Wrong: O-00000001 in lines 2 and 9     Right: one of the two lines
  Policy: `unique` of the column; empty cells do not count.
"
            }
            Self::ControlCharacters => {
                "\
control-characters - a cell holds NUL or another control character
  Usual causes: text copied from a terminal; a binary file under the name of a
    text file; padding with NUL by an old system.
  Wrong: a cell with the byte 00 or 1B     Right: the same cell without it
  Policy: cannot be switched off. Line ends inside quotes and tabs are fine.
"
            }
            Self::TokenError => {
                "\
token-error - a value cannot be replaced by its token
  Usual causes: a value of another shape than the column's, so that the part to
    be kept cannot be found.
  Wrong: ann.example.org as an e-mail address     Right: ann@example.org
  Policy: `token` of the column; a value that cannot be replaced is never
    stored as it is.
"
            }
            Self::MixedNewlines => {
                "\
mixed-newlines - some lines end in CR LF and some in LF (a warning)
  Usual causes: files of two systems put together; an editor on one part.
  Right: one kind of line end in the whole file.
  Policy: `newline` = \"lf\" or \"crlf\" makes the other kind a finding.
"
            }
            Self::RowConstraint => {
                "\
row-constraint - the values of a row do not go together
  Usual causes: a total that was not updated; an end before its beginning; a
    value that one country or kind may not have.
  Wrong: from 2026-02-01 to 2026-01-01     Right: from 2026-01-01 to 2026-02-01
  Policy: `[[feed.schema.row_rule]]` of the feed: where `when` is true, `assert`
    must not be false.
"
            }
            Self::FormulaInjection => {
                "\
formula-injection - text begins so that a spreadsheet would run it
  Usual causes: a field that people fill in; an attack on whoever opens it.
  Wrong: =HYPERLINK(\"http://...\")     Right: '=HYPERLINK(...)
  Signs before a plain number (-5, +49 30 1234) are no formula.
  Policy: `formulas` = \"reject\", \"escape\" (an apostrophe goes before it),
    \"warn\" or \"allow\".
"
            }
            Self::SensitiveUndeclared => {
                "\
sensitive-undeclared - a sensitive value stands in a column not declared so
  Usual causes: a card number or an address typed into a note; a column whose
    meaning has changed.
  What is found: payment cards, IBANs, e-mail addresses, telephone numbers,
    national ids, as `scan` lists them. Their check digits must be right.
  Wrong: paid with 4111 1111 1111 1111     Right: paid by card
  Policy: `scan` and `on_match` of the schema or of a column; \"redact\" replaces
    the value by its kind.
"
            }
            Self::SchemaDrift => {
                "\
schema-drift - a column that was not agreed is left out (a warning)
  Usual causes: the system that writes the file has got a new column.
  Wrong: id,amount,tier     Right: id,amount
  Policy: `extra_columns` says what one means. `sallyport policy drift` shows
    what has changed since when; `policy drift approve` adopts it.
"
            }
            Self::SuspectMojibake => {
                "\
suspect-mojibake - text may have been read in the wrong encoding (a warning)
  Usual causes: UTF-8 that a program took for Windows-1252 and wrote as UTF-8
    again; a program that put U+FFFD where it could not read a character.
  Wrong: A-tilde and a currency sign     Right: a-umlaut
  Policy: nothing; the text is forwarded as it came.
"
            }
        }
    }

    /// The code of this slug.
    #[must_use]
    pub fn find(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == slug)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === operator codes ===

/// The code of this slug, partner's or operator's, with its long text.
#[must_use]
pub fn explain(slug: &str) -> Option<&'static str> {
    let of_partners = Code::find(slug).map(Code::explain);
    of_partners.or_else(|| {
        OPERATOR_CODES
            .iter()
            .chain(COMMAND_CODES)
            .find(|(code, _)| *code == slug)
            .map(|(_, text)| *text)
    })
}

/// Every operator code is a const and a row of the table, so that neither can lack the other.
macro_rules! operator_codes {
    ($($name:ident = $slug:literal: $text:literal,)*) => {
        $(
            #[doc = concat!("`", $slug, "`")]
            pub const $name: &str = $slug;
        )*

        /// Codes of mistakes in policies and in the main config, each with its long text.
        pub const OPERATOR_CODES: &[(&str, &str)] = &[$(($name, $text)),*];
    };
}

operator_codes! {
    POLICY_AMBIGUOUS_DATES = "policy.ambiguous-dates": "\
policy.ambiguous-dates - one text fits two date formats, with two meanings
  Usual causes: formats of several senders in one list.
  Wrong: formats = [\"%d/%m/%Y\", \"%m/%d/%Y\"]
  Right: formats = [\"%d/%m/%Y\", \"%Y-%m-%d\"], or two feeds
",
    POLICY_BAD_FORMAT = "policy.bad-format": "\
policy.bad-format - a date format tells too little or too much
  Formats are those of strftime. A date needs year, month and day; a datetime
  hour and minute too. Names of time zones and locale formats are not taken.
  Wrong: formats = [\"%d.%m\"]     Right: formats = [\"%d.%m.%Y\"]
",
    POLICY_BAD_RULE = "policy.bad-rule": "\
policy.bad-rule - a row rule is no condition over columns
  `when` and `assert` compare columns, numbers and text in quotes with == != <
  <= > >=, in (...), is null; and, or, not, brackets, + - * and length(...) go
  between them. Columns with other characters stand in backticks.
  Wrong: assert = 'amount = 5'     Right: assert = 'amount == 5'
",
    POLICY_BAD_REGEX = "policy.bad-regex": "\
policy.bad-regex - a regular expression does not compile, or is too big
  The syntax is that of the Rust crate `regex`: no look-around, no back
  references. It always matches the whole text; \\d means 0-9. Write it in
  single quotes, so that backslashes stay as they are.
  Wrong: match = \"orders_(\\d{8}.csv\"     Right: match = 'orders_(\\d{8})\\.csv'
",
    POLICY_BAD_VALUE = "policy.bad-value": "\
policy.bad-value - the value of a key is out of its range or of the wrong shape
  Sizes are a whole number and a unit (\"5 GB\", \"64 KiB\"), times likewise (\"10s\",
  \"48h\"). Names have 1 to 64 of a-z 0-9 - _.
  Wrong: max_size = \"5 gigs\"     Right: max_size = \"5 GB\"
",
    POLICY_BOUNDS = "policy.bounds": "\
policy.bounds - the bounds of a column fit neither each other nor its type
  Usual causes: minimum and maximum exchanged; more decimal places than the
  type has; bounds on text (use min_length, max_length or pattern).
  Wrong: type = \"decimal(12,2)\", minimum = \"0.001\"     Right: minimum = \"0.01\"
",
    POLICY_CONFLICT = "policy.conflict": "\
policy.conflict - two rules of a feed contradict each other
  Usual causes: rules about labels in a feed without a header; rules about cells
  in a feed of opaque files; an allowed value that another rule refuses.
  Wrong: header = false with aliases     Right: header = true, or no aliases
",
    POLICY_DUPLICATE = "policy.duplicate": "\
policy.duplicate - a name or key occurs twice where each must be different
  Feed ids, columns with their aliases, list entries and keys are unique. When
  header_match ignores case or blanks, names must differ in more than that.
  Wrong: two columns named amount     Right: amount and amount_net
",
    POLICY_KEY_TEMPLATE = "policy.key-template": "\
policy.key-template - the template of object keys is not safe
  {submission} stands once, at the end of the stem: it makes every key unique,
  so that a retry can never overwrite another object.
  Wrong: key = \"acme/{submission}/orders.csv\"
  Right: key = \"acme/orders/{submission}.csv\"
",
    POLICY_LIST = "policy.list": "\
policy.list - a list that a column is looked up in cannot be used
  Lists lie in policies/lists: *.txt with one value a line, or *.csv with labels
  in the first line and `column` in the policy. Both are UTF-8 and not empty.
  Wrong: lookup = \"countrys.txt\"     Right: lookup = \"countries.txt\"
",
    POLICY_LOOSE_MATCH = "policy.loose-match": "\
policy.loose-match - the dot before the ending matches any character (a warning)
  In a regular expression `.` is any character; a dot itself is `\\.`.
  Wrong: match = 'orders_\\d+.csv', which takes orders_1xcsv too
  Right: match = 'orders_\\d+\\.csv'
",
    POLICY_MISSING_KEY = "policy.missing-key": "\
policy.missing-key - a table lacks a key that has no default
  A policy needs version and [partner] id; a feed id, match, store and key, and
  [feed.schema] with columns unless its files are opaque.
  Right: add the key; the message shows an example.
",
    POLICY_NOT_YET = "policy.not-yet": "\
policy.not-yet - a word of the policy language that this version does not act on
  It is refused rather than ignored: a policy never promises more than the
  gateway does. Remove the key, or use one of the values the message lists.
  Wrong: digest = \"blake3\"     Right: digest = \"sha256\"
",
    POLICY_PARTNER_ID = "policy.partner-id": "\
policy.partner-id - partner.id is not the name of the policy file
  The file acme.toml holds the policy of the partner acme, who logs in as acme.
  Wrong: id = \"acme-gmbh\" in acme.toml     Right: id = \"acme\"
",
    POLICY_SHADOWED = "policy.shadowed": "\
policy.shadowed - an earlier feed takes the file of a test (a warning)
  The first feed whose `match` fits takes a file, in the order of the policy.
  Right: make the earlier pattern narrower, or put the narrower feed first.
",
    POLICY_SHORT_YEAR = "policy.short-year": "\
policy.short-year - a date format has two-digit years (a warning)
  69 to 99 are read as 1969 to 1999, 00 to 68 as 2000 to 2068.
  Wrong: formats = [\"%d.%m.%y\"]     Right: formats = [\"%d.%m.%Y\"]
",
    POLICY_SMALL_DOMAIN = "policy.small-domain": "\
policy.small-domain - a keyed token on a column with few values (a warning)
  The same value gives the same token, so counting tokens of a country or a
  yes/no column tells which is which, without any key.
  Right: kind = \"redact\" or \"drop\", or no token when the value is harmless.
",
    POLICY_SYNTAX = "policy.syntax": "\
policy.syntax - the file is not TOML
  Usual causes: a quote or bracket that is not closed; a Windows path or a regex
  in double quotes; a table header without brackets.
  Wrong: match = \"a\\d\"     Right: match = 'a\\d'
",
    POLICY_TOKEN = "policy.token": "\
policy.token - the token rule of a column contradicts itself or its column
  cmac and hmac need a domain; mask, redact and drop have none. keep belongs to
  cmac, hmac and mask; keep = \"domain\" to e-mail addresses. Of a card number at
  most the first 6 or the last 4 digits stay.
  Wrong: token = { kind = \"redact\", domain = \"email\" }
  Right: token = { kind = \"cmac\", domain = \"email\" }
",
    POLICY_TOKEN_LEAK = "policy.token-leak": "\
policy.token-leak - a renamed column would be stored in clear
  A tokenized column that may be missing, together with extra_columns = \"keep\":
  when a sender renames it, the values arrive under an unknown label and are
  kept as they are.
  Right: required = true for the column, or extra_columns = \"reject\" or \"drop\"
",
    POLICY_TOO_LARGE = "policy.too-large": "\
policy.too-large - the policy file is over 1 MiB
  Usual causes: a data file under the name of a policy; a list of values that
  belongs into a pattern.
",
    POLICY_UNKNOWN_COLUMN = "policy.unknown-column": "\
policy.unknown-column - a rule names no column of its kind
  primary_key names columns; sum.NAME names an integer or decimal column.
  Wrong: sum.ammount = \"{total}\"     Right: sum.amount = \"{total}\"
",
    POLICY_UNKNOWN_GROUP = "policy.unknown-group": "\
policy.unknown-group - the trailer pattern has no group of that name
  Wrong: trailer = 'TRL,(\\d+)' with rows = \"{rows}\"
  Right: trailer = 'TRL,(?<rows>\\d+)' with rows = \"{rows}\"
",
    POLICY_UNKNOWN_KEY = "policy.unknown-key": "\
policy.unknown-key - a key that the language does not have at this place
  Usual causes: a misspelling; a key under the wrong table header. Unknown keys
  are refused, because a misspelt rule would otherwise be no rule.
  Wrong: colums = [...]     Right: columns = [...]
",
    POLICY_UNKNOWN_PLACEHOLDER = "policy.unknown-placeholder": "\
policy.unknown-placeholder - the key uses a placeholder nothing fills
  Placeholders are the named groups of `match`, and partner, feed, submission
  and received (the date of arrival).
  Wrong: match = 'orders_(\\d{8})\\.csv', key = \"orders/{day}/{submission}.csv\"
  Right: match = 'orders_(?<day>\\d{8})\\.csv'
",
    POLICY_UNKNOWN_STORE = "policy.unknown-store": "\
policy.unknown-store - a feed delivers to a store that the main config lacks
  Usual causes: a misspelling; a policy of another gateway.
  Wrong: store = \"lakes\" where sallyport.toml has only [store.lake]
  Right: store = \"lake\", or a table [store.lakes] with a url in sallyport.toml
",
    POLICY_UNKNOWN_WORD = "policy.unknown-word": "\
policy.unknown-word - a value that is none of the words the key takes
  Wrong: same_name = \"overwrite\"     Right: same_name = \"replace\"
",
    POLICY_UNREADABLE = "policy.unreadable": "\
policy.unreadable - the policy folder or a file in it cannot be read as text
  Usual causes: an editor that saved in Latin-1; owner or mode that keep the
  gateway out; a directory called NAME.toml. The message names the byte.
  Right: save the file as UTF-8, readable by the user the gateway runs as. Other
    commands go on without it; a running gateway keeps the last good policies.
",
    POLICY_WRONG_TYPE = "policy.wrong-type": "\
policy.wrong-type - the value of a key is of the wrong TOML type
  Wrong: version = \"3\"     Right: version = 3
  Wrong: inbox = \"/inbox\"     Right: inbox = [\"/inbox\"]
",
    CONFIG_BAD_VALUE = "config.bad-value": "\
config.bad-value - the value of a key is out of its range or of the wrong shape
  Sizes are a whole number and a unit (\"200 GB\"), times likewise (\"10s\", \"48h\"),
  addresses an IP address and a port.
  Wrong: listen = [\":2222\"]     Right: listen = [\"0.0.0.0:2222\", \"[::]:2222\"]
",
    CONFIG_CREDENTIAL = "config.credential": "\
config.credential - a cred: path without a credentials directory
  cred:NAME is the file NAME in $CREDENTIALS_DIRECTORY, which systemd sets for
  units with LoadCredential=. Outside of systemd write a path.
  Right: LoadCredential=token.key:/etc/sallyport/keys/token.key in the unit, or
    key = \"keys/token.key\"
",
    CONFIG_DUPLICATE = "config.duplicate": "\
config.duplicate - a key or a list entry occurs twice
  Wrong: listen = [\"0.0.0.0:2222\", \"0.0.0.0:2222\"]     Right: one of the two
",
    CONFIG_ENVIRONMENT = "config.environment": "\
config.environment - an environment variable has an unusable value
  SALLYPORT_STATE_DIR (a path), SALLYPORT_LISTEN (addresses with commas) and
  SALLYPORT_LOG (a level) override the file. Unset the variable or correct it.
",
    CONFIG_MISSING_KEY = "config.missing-key": "\
config.missing-key - a table lacks a key that has no default
  [store.NAME] needs url; everything else has a default.
  Right: url = \"file:///srv/lake\"
",
    CONFIG_NOT_YET = "config.not-yet": "\
config.not-yet - a setting that this version does not act on
  It is refused rather than ignored: a configuration never promises more than
  the gateway does. Remove the key, or use one of the values listed.
",
    CONFIG_SECRET = "config.secret": "\
config.secret - the file holds a secret
  The main config is readable by everybody. Keys and passwords live in files of
  their own, mode 0600, or in systemd credentials.
  Wrong: url = \"s3://KEY:SECRET@bucket\"     Right: url = \"s3://bucket\"
",
    CONFIG_SYNTAX = "config.syntax": "\
config.syntax - the file is not TOML
  Usual causes: a quote or bracket that is not closed; a key without a value.
  Wrong: listen = 0.0.0.0:2222     Right: listen = [\"0.0.0.0:2222\"]
",
    CONFIG_TOO_LARGE = "config.too-large": "\
config.too-large - the config file is over 1 MiB
  Usual cause: another file named with --config.
",
    CONFIG_UNKNOWN_KEY = "config.unknown-key": "\
config.unknown-key - a key that the main config does not have at this place
  Usual causes: a misspelling; a key under the wrong table header.
  Wrong: [ssh] hostkeys = [...]     Right: [ssh] host_keys = [...]
",
    CONFIG_UNKNOWN_WORD = "config.unknown-word": "\
config.unknown-word - a value that is none of the words the key takes
  Wrong: format = \"plain\"     Right: format = \"text\"
",
    CONFIG_WRONG_TYPE = "config.wrong-type": "\
config.wrong-type - the value of a key is of the wrong TOML type
  Wrong: listen = \"0.0.0.0:2222\"     Right: listen = [\"0.0.0.0:2222\"]
",
}

/// Each with a sentence or two: the message of the failure says the rest.
macro_rules! command_codes {
    ($($slug:literal: $short:literal, $text:literal;)*) => {
        /// Codes of failures of commands and of the admin socket, each with its text.
        pub const COMMAND_CODES: &[(&str, &str)] =
            &[$(($slug, concat!($slug, " - ", $short, "\n  ", $text, "\n"))),*];
    };
}

command_codes! {
    "admin.bad-request": "a request on the admin socket is not understood",
        "Usual cause: a command of another version than the gateway. Compare\n  `sallyport version` with `sallyport status`.";
    "admin.document": "the gateway could not write its answer as JSON",
        "A defect of sallyport; please report it.";
    "admin.line-too-long": "a request on the admin socket is too long",
        "Requests are one short line of JSON; the commands of sallyport send no other.";
    "admin.not-permitted": "the admin socket is not open to you",
        "Join the group that owns the socket, or run the command as the gateway's user.";
    "admin.timeout": "the gateway did not answer in time",
        "Try again; `submission`, `audit` and `status` also read the ledger --offline.";
    "admin.unreachable": "no gateway answers on its admin socket",
        "Start it with `sallyport serve`, or name its socket with --socket. A key is\n  not revoked while a gateway runs that cannot be told.";
    "audit.no-key": "the receipt key cannot be read, so signed heads cannot be checked",
        "Run `audit verify` as a user who may read [receipts] key, or ask the gateway.";
    "config.log": "the log level in the configuration is not understood",
        "Right: level = \"info\" or \"info,sallyport=debug\"";
    "config.mistakes": "a start with this configuration would fail",
        "Every mistake is shown above the message, with its own code.";
    "config.not-found": "there is no sallyport.toml in the usual places",
        "Make one with `sallyport init DIR`, or name it with --config FILE.";
    "demo.address": "the demo's gateway listens nowhere",
        "A defect of sallyport; please report it.";
    "demo.config": "the demo's own configuration is not valid",
        "Usual cause: SALLYPORT_ variables in the environment; unset them.";
    "demo.log": "the demo cannot start its log",
        "A defect of sallyport; please report it.";
    "demo.login": "the demo's own client cannot log in",
        "Usual cause: something on this machine stands between 127.0.0.1 and itself.";
    "demo.name": "a name of the demo is not valid",
        "A defect of sallyport; please report it.";
    "demo.signal": "the demo cannot wait for Ctrl-C",
        "The operating system refused a signal handler; play it without --stay.";
    "explain.unknown-code": "no code has this name",
        "`sallyport help codes` lists them all.";
    "file.output": "what would be forwarded cannot be compressed",
        "There is too little memory; free some and try again.";
    "file.bad-feed": "--feed is not a feed id",
        "Ids have 1 to 64 of a-z 0-9 - _.";
    "file.bad-name": "the file has no name in UTF-8",
        "Give one with --name.";
    "file.exists": "--out DIR holds a file of this name already",
        "`file check` replaces nothing. Give a folder of its own.";
    "file.decoder": "the process that decodes a file could not be run",
        "The cause stands below the message.";
    "file.io": "a file or folder cannot be read or written",
        "The cause stands below the message: a missing file, its owner or its mode.";
    "file.is-directory": "a directory stands where a file is needed",
        "Name the files in it.";
    "file.no-name": "stdin has no name to find a feed by",
        "Give one with --name.";
    "file.no-such-feed": "the policy has no feed of this id",
        "The hint lists the feeds it has.";
    "file.several-names": "--name with several files",
        "Check one file at a time.";
    "file.tokens": "throw-away token keys do not fit the policy",
        "A defect of sallyport; please report it with the policy.";
    "file.unreadable": "a file could be opened but not read",
        "The cause stands below the message.";
    "filter.bad-code": "--code is no code of findings",
        "`sallyport help codes` lists them.";
    "filter.bad-state": "--state is no state of a submission",
        "The hint lists them.";
    "filter.bad-verdict": "--verdict is neither accepted nor rejected",
        "Files without a verdict are found with --state.";
    "help.unknown": "there is no such topic or command",
        "The hint lists the topics.";
    "init.bad-config": "the options make no valid configuration",
        "--store takes a folder or a file:///absolute/folder URL.";
    "init.bad-instance": "the folder's name makes no name for the gateway",
        "Names have 1 to 64 of a-z 0-9 - _.";
    "init.bad-partner": "--partner is not a partner id",
        "Ids have 1 to 64 of a-z 0-9 - _; the partner logs in with it.";
    "init.exists": "something is there already",
        "`init` replaces nothing without --force, and keys never.";
    "init.key": "a key could not be made",
        "The cause stands below the message.";
    "input.bad-name": "a partner or feed id is not one",
        "Ids have 1 to 64 of a-z 0-9 - _.";
    "input.needed": "a question needs an answer, and nobody is there to give it",
        "The hint names the flag that answers it.";
    "input.refused": "the question was not answered with yes",
        "Nothing was changed.";
    "json.shape": "a JSON document is not of the expected shape",
        "The gateway may be of another version than this command.";
    "key.ambiguous": "several keys of the partner have this comment",
        "Name the fingerprint instead.";
    "key.bad": "the key is not taken",
        "Weak or unknown kinds are refused: use ssh-ed25519, ecdsa-sha2-... or ssh-rsa\n  of 3072 bits or more.";
    "key.bad-date": "--expires is not a date",
        "Right: --expires 2027-12-31";
    "key.bad-fingerprint": "not the fingerprint of a key",
        "It starts with SHA256:, as `sallyport key list` prints it.";
    "key.bad-from": "--from is not a list of networks",
        "Right: --from 198.51.100.0/24";
    "key.empty": "the file holds no key",
        "A public key is one line that starts with its type.";
    "key.example": "the key of the examples",
        "Everybody can have its private half; make a pair of your own.";
    "key.exists": "the key is a partner's already",
        "A key proves one partner only.";
    "key.expired": "--expires lies in the past",
        "The key could never log in.";
    "key.no-reason": "a revocation without a reason",
        "--reason \"laptop lost\"; it goes to the audit log.";
    "key.not-found": "the partner has no such key",
        "`sallyport key list` shows fingerprints and comments.";
    "key.not-text": "the file is not text",
        "A public key is one line of text, as ssh-keygen writes it into NAME.pub.";
    "key.options": "the line does not start with a key type",
        "Options come from --from and --expires, not from the partner's file.";
    "key.other-fingerprint": "the file holds another key than the one you were told",
        "Ask the partner again over a second channel; do not add it.";
    "key.private": "the file holds a private key",
        "Nobody but its owner may have it: delete it, and ask for a new pair's .pub.";
    "key.revoked": "the key was revoked",
        "A revoked key stays revoked; ask for a new pair.";
    "key.rfc4716": "the key is in the SSH2 format",
        "Convert it: ssh-keygen -i -f FILE > key.pub";
    "key.several": "the file holds several lines",
        "Add one key at a time.";
    "ledger.damaged": "the ledger is damaged, or another file lies in its place",
        "Restore a backup of the state directory. The message says what is lost\n  when a gateway starts without it.";
    "ledger.database": "the ledger cannot be opened, read or written now",
        "Check owner, mode and free space of the state directory.";
    "ledger.illegal-step": "a submission is not in a state that allows this",
        "A defect of sallyport; please report it.";
    "ledger.in-use": "another gateway holds the state directory",
        "One state directory has one gateway.";
    "ledger.none": "there is no ledger in the state directory",
        "No gateway has run with this configuration yet.";
    "ledger.other-user": "the state directory belongs to another user",
        "Run the command as that user: files it makes must stay the gateway's own.";
    "ledger.stopped": "the ledger has stopped after a failed write",
        "Restart the gateway; nothing acknowledged is lost.";
    "ledger.too-new": "the ledger was written by a newer sallyport",
        "Run that version.";
    "network.bad": "not a network or an address",
        "Right: 198.51.100.0/24, 2001:db8:77::/48 or 198.51.100.7";
    "output.io": "the output cannot be written",
        "Usual cause: a full disk behind a redirection.";
    "partner.bad-id": "not a partner id",
        "Ids have 1 to 64 of a-z 0-9 - _.";
    "partner.bad-options": "the options make no valid policy",
        "Every mistake is shown above the message, with its own code.";
    "partner.exists": "there is a policy for this partner already",
        "Edit its file to change it.";
    "partner.not-found": "no policy is for this partner",
        "`sallyport partner list` shows all; `sallyport partner add` makes one.";
    "policy.bad-feed": "not a partner and a feed",
        "As in acme/orders: 1 to 64 of a-z 0-9 - _ each.";
    "policy.bad-sample": "a file that no feed can be drafted from",
        "A sample is CSV in UTF-8 or Windows-1252, or JSON objects.";
    "policy.draft": "the draft is not valid: a defect of sallyport",
        "Please report it with a sample that shows it.";
    "policy.exists": "the file to write to exists already",
        "Nothing is replaced. Leave --out away and paste what you need.";
    "policy.no-drift": "nothing is open about a column",
        "`sallyport policy drift` lists what has changed, and what is open.";
    "policy.not-adopted": "the policy cannot be made to agree by itself",
        "Nothing was changed. Name the columns to adopt, or write it by hand.";
    "policy.mistakes": "a policy has mistakes",
        "Every one is shown above the message, with its own code.";
    "random": "the operating system gives no random bytes",
        "Look into the kernel log.";
    "runtime": "the operating system gives no threads",
        "Check the limits of this user (ulimit -u).";
    "quarantine.answer": "the gateway's answer is not what was asked for",
        "Is the command of the same version as the gateway?";
    "quarantine.exists": "the file to write to exists already",
        "Nothing is replaced. Give another --out FILE.";
    "quarantine.failed": "the gateway could not decide about a held file",
        "It stays held. If the message does not say why, the gateway's log does.";
    "quarantine.faulty": "a held file cannot be forwarded as it is",
        "What is listed refuses the whole file. Change the policy, or reject it.";
    "quarantine.in-use": "the path of a held file is in use",
        "Its partner is sending a file of that name. Try again when that is over.";
    "quarantine.newer": "a newer file of the same name was accepted",
        "Released, the old one would stand before the new one. Reject it.";
    "quarantine.no-reason": "a decision without a reason",
        "Add --reason TEXT; it goes to the audit log and into the partner's receipt.";
    "quarantine.no-rejects": "no rows left out of this submission are kept",
        "`submission show` says whether some were; they are kept for quarantine_ttl.";
    "quarantine.not-allowed": "you may not read what partners sent",
        "Only root and the gateway's own user may, with a reason that is recorded.";
    "quarantine.not-held": "the submission is not held",
        "Perhaps somebody was faster: sallyport submission show ID";
    "quarantine.other-policy": "another version of the policy is in force",
        "`sallyport status` says whether a change was refused; name the one in force.";
    "serve.folder": "a folder the gateway needs cannot be made or is not one",
        "state_dir must be a folder the gateway's user may write to.";
    "serve.incomplete": "the configuration names too little to start",
        "A gateway needs a host key and a store.";
    "serve.ledger": "the ledger does not open",
        "The message names the cause and the remedy.";
    "serve.listen": "an address cannot be listened on",
        "Another process may have it; change [ssh] listen or stop it.";
    "serve.secret": "a key file is missing, damaged, open to others, or the wrong one",
        "`sallyport help files` lists them; `sallyport init` makes missing ones. A\n  token.key belongs to its state directory: restore both from one backup.";
    "serve.signals": "signals cannot be taken",
        "The operating system refused a signal handler.";
    "serve.socket": "the admin socket cannot be made",
        "Set [admin] socket to a short path in a folder of the gateway's own.";
    "serve.spool": "the spool does not open",
        "Check owner, mode and free space of state_dir/spool.";
    "serve.store": "a store does not open",
        "[store.NAME] url takes a folder the gateway's user may write to.";
    "submission.ambiguous": "several submissions end in this",
        "Give more of the id.";
    "submission.not-found": "no submission ends in this",
        "`sallyport submission list` shows the ids.";
    "time.bad": "not a time",
        "Right: 24h, 7d, 2026-11-20 or 2026-11-20T07:00:00Z";
    "time.bad-span": "not a span of time",
        "Right: 45s, 30m, 24h or 60d";
    "usage": "the command line is not understood",
        "--help behind the command shows its options, examples first.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_slug_of_its_own_and_a_long_text_that_opens_with_it() {
        let mut slugs = BTreeSet::new();
        let partner = Code::ALL.map(|code| (code.as_str(), code.explain()));
        for (slug, text) in partner.iter().chain(OPERATOR_CODES).chain(COMMAND_CODES) {
            assert!(slugs.insert(*slug), "{slug} twice");
            assert!(text.starts_with(&format!("{slug} - ")), "{slug}");
            assert!(text.ends_with('\n') && text.lines().count() > 1, "{slug}");
            assert!(text.is_ascii(), "{slug}");
            assert_eq!(explain(slug), Some(*text));
            for line in text.lines() {
                assert!(line.len() <= 80, "{slug}: {line}");
            }
        }
        assert_eq!(explain("no-such-code"), None);
    }

    #[test]
    fn partner_codes_say_what_policy_can_change() {
        for code in Code::ALL {
            assert!(code.explain().contains("\n  Policy: "), "{code}");
            assert!(code.explain().contains("Right: "), "{code}");
        }
    }

    #[test]
    fn operator_codes_name_their_kind_of_file() {
        for (slug, _) in OPERATOR_CODES {
            assert!(
                slug.starts_with("policy.") || slug.starts_with("config."),
                "{slug}"
            );
        }
    }
}
