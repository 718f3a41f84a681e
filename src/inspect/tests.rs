//! Whole files through the whole line: worked examples, and the law of split invariance for
//! every one of them.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::inspect::report::Sample;
use crate::inspect::unpack::tests::gzip;
use crate::policy::contract::{
    Bom, Bound, Column, Compression, Dialect, Encoding, ExtraColumns, FieldsMatch, Format,
    Formulas, Header, HeaderMatch, JsonShape, Keep, Kind, MissingColumns, Newline, OnFinding,
    OutputCompression, OutputFormat, Schema, TextFormat, TokenKind, TokenRule, Tolerance, Trailer,
};
use crate::terms::codes::Code;
use crate::terms::ids::DomainName;
use crate::terms::limits;
use crate::terms::secret::Secret;
use crate::tokens::DomainKey;

// === contracts ===

fn column(name: &str, kind: Kind) -> Column {
    Column {
        name: name.to_owned(),
        ..Column::free(kind)
    }
}

fn token(kind: TokenKind, domain: Option<&str>) -> TokenRule {
    TokenRule {
        kind,
        domain: domain.map(|name| DomainName::parse(name).unwrap()),
        keep: Keep::None,
        normalise: Vec::new(),
        tokenise_empty: false,
    }
}

fn text() -> Kind {
    Kind::Text(TextFormat::Any)
}

/// id integer required unique, country DE/AT/CH, amount decimal(12,2), pin text masked, note.
fn orders() -> Contract {
    let mut columns = vec![
        column("id", Kind::Integer),
        column("country", text()),
        column(
            "amount",
            Kind::Decimal {
                precision: 12,
                scale: 2,
            },
        ),
        column("pin", text()),
        column("note", text()),
    ];
    columns[0].required = true;
    columns[0].unique = true;
    columns[1].values = ["DE", "AT", "CH"].map(str::to_owned).to_vec();
    columns[1].values_set = columns[1].values.iter().cloned().collect();
    columns[2].minimum = Some(Bound {
        text: "0".to_owned(),
        value: 0,
    });
    columns[3].token = Some(token(TokenKind::Mask, None));
    columns[3].length_max = Some(6);
    Contract {
        encoding: vec![Encoding::Utf8],
        bom: Bom::Strip,
        compression: vec![Compression::None, Compression::Gzip],
        ratio_max: 200,
        output_bytes_max: 1 << 30,
        format: Format::Csv(Dialect {
            delimiter: b',',
            quote: b'"',
            header: Header::Present,
            newline: Newline::Any,
        }),
        output: OutputFormat::Csv,
        output_compression: OutputCompression::None,
        schema: Some(Schema {
            columns,
            fields_match: FieldsMatch::Equal,
            header_match: HeaderMatch::Exact,
            extra_columns: ExtraColumns::Reject,
            missing_columns: MissingColumns::Reject,
            missing_values: vec![String::new()],
            rows_min: 0,
            primary_key: Vec::new(),
            field_bytes_max: 60,
            record_bytes_max: 90,
            columns_max: 8,
            scan: None,
            formulas: Formulas::Allow,
            rules: Vec::new(),
        }),
        trailer: None,
        on_finding: OnFinding::Reject,
        tolerance: Tolerance::NONE,
    }
}

fn with_trailer() -> Contract {
    Contract {
        trailer: Some(Trailer {
            pattern: Regex::new(r"^(?:TRL,(?<rows>\d+),(?<sum>[-\d.]+))$").unwrap(),
            rows: Some("rows".to_owned()),
            sums: vec![(2, "sum".to_owned())],
        }),
        ..orders()
    }
}

fn edit(mut contract: Contract, change: impl FnOnce(&mut Schema)) -> Contract {
    if let Some(schema) = &mut contract.schema {
        change(schema);
    }
    contract
}

const LABELS: &str = "id,country,amount,pin,note\n";

#[test]
fn what_some_bytes_unpack_to_is_handed_on_piece_by_piece() {
    let contract = Contract {
        compression: vec![Compression::Gzip],
        ratio_max: 10_000,
        on_finding: OnFinding::Split,
        output_compression: OutputCompression::Zstd,
        ..orders()
    };
    // One good row, and some millions of bytes of rows that are too short: each makes much more of itself.
    let text = format!("{LABELS}1,DE,1.00,x,y\n{}", "x\n".repeat(1 << 21));
    let packed = gzip(text.as_bytes());
    assert!(packed.len() < limits::INSPECT_PIECE_BYTES);
    let mut line = Line::for_contract(Arc::new(contract), &TokenKeys::default(), [7; 16]).unwrap();
    let (mut out, mut all, mut most) = (Vec::new(), 0, 0);
    let mut drain = |rows: &mut Vec<u8>, made: &mut Vec<u8>| {
        most = most.max(rows.capacity()).max(made.capacity());
        all += rows.len();
        rows.clear();
        made.clear();
        Flow::Go
    };
    line.push_through(&packed, &mut out, &mut drain);
    let report = line.finish_through(&mut out, &mut drain);
    assert_eq!(report.rows_with_errors, 1 << 21);
    assert!(all > 100 << 20, "{all}");
    assert!(most < 8 << 20, "{most}");
}

#[test]
fn short_rows_that_become_wide_ones_are_handed_on_piece_by_piece() {
    let mut columns: Vec<Column> = (0..500)
        .map(|n| column(&format!("column_{n}"), text()))
        .collect();
    columns[0].name = "id".to_owned();
    let mut contract = edit(orders(), |schema| {
        schema.columns = columns;
        schema.fields_match = FieldsMatch::Partial;
        schema.missing_columns = MissingColumns::Null;
    });
    contract.output = OutputFormat::Json(JsonShape::Lines);
    let file = format!("id\n{}", "x\n".repeat(20_000));
    let mut line = Line::for_contract(Arc::new(contract), &TokenKeys::default(), [7; 16]).unwrap();
    let (mut out, mut all, mut most) = (Vec::new(), 0, 0);
    let mut drain = |_: &mut Vec<u8>, made: &mut Vec<u8>| {
        most = most.max(made.capacity());
        all += made.len();
        made.clear();
        Flow::Go
    };
    line.push_through(file.as_bytes(), &mut out, &mut drain);
    let report = line.finish_through(&mut out, &mut drain);
    assert_eq!((report.rows, report.verdict), (20_000, Verdict::Accepted));
    assert!(all > 150 << 20, "{all}");
    assert!(most < 64 << 20, "{most}");
}

#[test]
fn a_file_over_its_time_is_refused_once_and_keeps_an_earlier_refusal() {
    let line = |head: &[u8]| {
        let mut line =
            Line::for_contract(Arc::new(orders()), &TokenKeys::default(), [7; 16]).unwrap();
        line.push(head, &mut Vec::new());
        line.refuse_for_time(60);
        line.refuse_for_time(60);
        line.push(b"2,DE,1.00,x,y\n", &mut Vec::new());
        line.finish(&mut Vec::new())
    };
    let report = line(format!("{LABELS}1,DE,1.00,x,y\n").as_bytes());
    let [only] = report.findings.as_slice() else {
        panic!("{:?}", report.findings)
    };
    assert_eq!((only.code, only.count), (Code::LimitExceeded, 1));
    assert!(only.samples[0].detail.starts_with("60 s of processor time"));
    assert_eq!(report.verdict, Verdict::Rejected);
    let report = line(b"nothing,of,this\n");
    assert!(
        report
            .findings
            .iter()
            .all(|one| one.code != Code::LimitExceeded)
    );
}

// === inspecting ===

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    report: Report,
    fatal: Option<Finding>,
    output: Vec<u8>,
}

fn inspect<'p>(contract: &Arc<Contract>, pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    let mut line =
        Line::for_contract(Arc::clone(contract), &TokenKeys::default(), [7; 16]).unwrap();
    let mut output = Vec::new();
    for piece in pieces {
        line.push(piece, &mut output);
    }
    let fatal = line.fatal().cloned();
    let report = line.finish(&mut output);
    Outcome {
        report,
        fatal,
        output,
    }
}

/// The outcome of a file, the same for every cut of it.
#[track_caller]
fn check(contract: &Contract, input: &[u8]) -> Outcome {
    let contract = Arc::new(contract.clone());
    let whole = inspect(&contract, [input]);
    assert_eq!(inspect(&contract, input.chunks(1)), whole, "byte by byte");
    assert_eq!(
        inspect(&contract, [b"", input, b""]),
        whole,
        "between empty pieces"
    );
    for at in 1..input.len() {
        let (head, tail) = input.split_at(at);
        assert_eq!(inspect(&contract, [head, tail]), whole, "cut at {at}");
    }
    for finding in &whole.report.findings {
        assert!(!finding.rule.is_empty());
        for sample in &finding.samples {
            assert!(!sample.detail.is_empty() && sample.detail.is_ascii());
        }
    }
    whole
}

#[track_caller]
fn accepted(contract: &Contract, input: &[u8], rows: u64, output: &str) -> Report {
    let outcome = check(contract, input);
    assert!(outcome.report.is_clean(), "{:#?}", outcome.report.findings);
    assert_eq!(String::from_utf8_lossy(&outcome.output), output);
    assert_eq!(outcome.report.rows, rows);
    assert_eq!(outcome.report.rows_with_errors, 0);
    assert_eq!(outcome.fatal, None);
    outcome.report
}

/// Code, column, count, first line, first detail.
type Told<'t> = (Code, Option<&'t str>, u64, Option<u64>, &'t str);

#[track_caller]
fn told(outcome: &Outcome, expect: &[Told<'_>]) {
    let found: Vec<Told<'_>> = outcome
        .report
        .findings
        .iter()
        .map(|f| {
            let first = &f.samples[0];
            (
                f.code,
                f.column.as_deref(),
                f.count,
                first.line,
                first.detail.as_str(),
            )
        })
        .collect();
    assert_eq!(found, expect);
}

#[track_caller]
fn rejected(contract: &Contract, input: &[u8], expect: &[Told<'_>]) -> Outcome {
    let outcome = check(contract, input);
    told(&outcome, expect);
    assert!(!outcome.report.is_clean());
    assert!(outcome.report.tokens.is_empty());
    outcome
}

#[track_caller]
fn rows(body: &str, expect: &[Told<'_>]) -> Outcome {
    rejected(&orders(), format!("{LABELS}{body}").as_bytes(), expect)
}

fn sample(outcome: &Outcome, finding: usize) -> &Sample {
    &outcome.report.findings[finding].samples[0]
}

// === files that are fine ===

#[test]
fn a_good_file_leaves_checked_and_tokenized() {
    let report = accepted(
        &orders(),
        b"id,country,amount,pin,note\r\n1,DE,12.50,abc,\"x, y\"\r\n2,,,,\r\n3,AT,0,z,\"say \"\"hi\"\"\"",
        3,
        "id,country,amount,pin,note\n1,DE,12.50,***,\"x, y\"\n2,,,,\n3,AT,0,*,\"say \"\"hi\"\"\"\n",
    );
    assert_eq!(
        report.tokens.into_iter().collect::<Vec<_>>(),
        [("pin".to_owned(), 2)]
    );
    assert_eq!(report.bytes_inspected, 79);
}

#[test]
fn columns_leave_in_the_contracts_order_and_kept_ones_behind() {
    let lenient = edit(orders(), |schema| {
        schema.missing_columns = MissingColumns::Null;
        schema.fields_match = FieldsMatch::Partial;
        schema.extra_columns = ExtraColumns::Drop;
        schema.columns[4].aliases = vec!["remark".to_owned()];
    });
    accepted(
        &lenient,
        b"remark,x,pin,id\nn,secret,abc,1\n",
        1,
        "id,country,amount,pin,note\n1,,,***,n\n",
    );
    let keep = edit(lenient, |schema| schema.extra_columns = ExtraColumns::Keep);
    accepted(
        &keep,
        b"id,x,pin\n1,\"a,b\",abc\n",
        1,
        "id,country,amount,pin,note,x\n1,,,***,,\"a,b\"\n",
    );
}

#[test]
fn a_header_alone_is_fine_and_a_missing_line_end_too() {
    accepted(&orders(), LABELS.as_bytes(), 0, LABELS);
    accepted(&orders(), LABELS.trim_end().as_bytes(), 0, LABELS);
    accepted(&orders(), format!("\u{feff}{LABELS}").as_bytes(), 0, LABELS);
}

#[test]
fn without_a_header_columns_come_in_the_contracts_order() {
    let mut contract = orders();
    contract.format = Format::Csv(Dialect {
        delimiter: b';',
        quote: b'\'',
        header: Header::Absent,
        newline: Newline::Lf,
    });
    accepted(
        &contract,
        b"1;DE;1;abc;'a;b'\n2;;;;\n",
        2,
        "1;DE;1;***;'a;b'\n2;;;;\n",
    );
    accepted(&contract, b"", 0, "");
    rejected(
        &contract,
        b"1;DE;1;abc\n",
        &[(
            Code::MissingCell,
            None,
            1,
            Some(1),
            "4 cells, 5 expected (note is missing)",
        )],
    );
}

#[test]
fn dropped_columns_are_checked_counted_and_left_out() {
    let contract = edit(orders(), |schema| {
        schema.columns[3].token = Some(token(TokenKind::Drop, None));
    });
    let report = accepted(
        &contract,
        b"id,country,amount,pin,note\n1,,,abc,n\n2,,,,m\n",
        2,
        "id,country,amount,note\n1,,,n\n2,,,m\n",
    );
    assert_eq!(
        report.tokens.into_iter().collect::<Vec<_>>(),
        [("pin".to_owned(), 1)]
    );
    let outcome = rejected(
        &contract,
        b"id,country,amount,pin,note\n1,,,abcdefg,n\n",
        &[(
            Code::ConstraintError,
            Some("pin"),
            1,
            Some(2),
            "at most 6 characters",
        )],
    );
    assert_eq!(sample(&outcome, 0).value.as_deref(), Some("aaaaaaa"));
}

#[test]
fn an_opaque_file_passes_unchanged() {
    let contract = Contract {
        format: Format::Opaque,
        schema: None,
        ..orders()
    };
    let file = gzip(b"\xff\0not looked at");
    let outcome = check(&contract, &file);
    assert!(outcome.report.is_clean());
    assert_eq!(outcome.output, file);
    assert_eq!(
        outcome.report.bytes_inspected,
        u64::try_from(file.len()).unwrap()
    );
}

#[test]
fn a_missing_key_is_told_before_any_byte() {
    let contract = Arc::new(edit(orders(), |schema| {
        schema.columns[3].token = Some(token(TokenKind::Cmac, Some("pins")));
    }));
    let none = TokenKeys::default();
    let fault = Line::for_contract(Arc::clone(&contract), &none, [0; 16]).err();
    let domain = DomainName::parse("pins").unwrap();
    assert_eq!(fault, Some(TokenFault::MissingKey(domain.clone())));
    let mut keys = TokenKeys::default();
    let secret = Secret::new([1; 32]);
    keys.insert(domain, DomainKey { kid: 1, secret });
    let mut out = Vec::new();
    let input = format!("{LABELS}1,,,abc,\n");
    let report = check_all(contract, &keys, [0; 16], input.as_bytes(), &mut out).unwrap();
    assert!(report.is_clean());
    assert!(!String::from_utf8(out).unwrap().contains("abc"));
}

// === rows ===

#[test]
fn each_fault_of_a_row_is_found_where_it_is() {
    let outcome = rows(
        "1,DE,12.50,abc,a\nx,UK,\"12,50\",abcdefg,b\n3,AT,1\n4,,,,,\n\n1,,-1,,\n,,,,\n",
        &[
            (Code::TypeError, Some("id"), 1, Some(3), "not an integer"),
            (
                Code::ConstraintError,
                Some("country"),
                1,
                Some(3),
                "one of DE, AT, CH",
            ),
            (
                Code::TypeError,
                Some("amount"),
                1,
                Some(3),
                "decimal comma, write 12.50",
            ),
            (
                Code::ConstraintError,
                Some("pin"),
                1,
                Some(3),
                "at most 6 characters",
            ),
            (
                Code::MissingCell,
                None,
                1,
                Some(4),
                "3 cells, 5 expected (pin and note are missing)",
            ),
            (Code::ExtraCell, None, 1, Some(5), "6 cells, 5 expected"),
            (Code::BlankRow, None, 1, Some(6), "a line without cells"),
            (
                Code::UniqueError,
                Some("id"),
                1,
                Some(7),
                "first seen in line 2",
            ),
            (
                Code::ConstraintError,
                Some("amount"),
                1,
                Some(7),
                "at least 0",
            ),
            (
                Code::ConstraintError,
                Some("id"),
                1,
                Some(8),
                "empty, but a value is required",
            ),
        ],
    );
    assert_eq!(
        (outcome.report.rows, outcome.report.rows_with_errors),
        (7, 6)
    );
    assert_eq!(outcome.fatal, None);
    let value = |finding| sample(&outcome, finding).value.as_deref();
    assert_eq!(value(1), Some("UK"));
    assert_eq!(value(2), Some("12,50"));
    assert_eq!(value(3), Some("aaaaaaa"));
    assert_eq!(value(9), None);
    // The quote of "12,50" stands at 27 + 17 + 5.
    assert_eq!(sample(&outcome, 2).byte, Some(49));
    assert_eq!(sample(&outcome, 2).row, Some(2));
    assert_eq!(
        outcome.report.findings[4].hint.as_deref(),
        Some("An empty last cell still needs its comma.")
    );
    assert_eq!(outcome.report.findings[4].rule, "5 cells a row");
    // Output ends before the first bad row.
    assert_eq!(
        String::from_utf8_lossy(&outcome.output),
        "id,country,amount,pin,note\n1,DE,12.50,***,a\n"
    );
}

#[test]
fn lines_are_physical_and_rows_are_records() {
    let outcome = rows(
        "1,,,,\"a\nb\"\n2,,,,\"c\r\n\u{1}\"\nx,,,,\n",
        &[
            (
                Code::ControlCharacters,
                Some("note"),
                1,
                Some(5),
                "control character U+0001",
            ),
            (Code::TypeError, Some("id"), 1, Some(6), "not an integer"),
        ],
    );
    assert_eq!(sample(&outcome, 1).row, Some(3));
}

#[test]
fn a_marked_cell_is_that_fault_alone() {
    rows(
        "\0x,DE\u{7f},1\r2,a\u{85},\n",
        &[
            (
                Code::ControlCharacters,
                Some("id"),
                1,
                Some(2),
                "a NUL byte",
            ),
            (
                Code::ControlCharacters,
                Some("country"),
                1,
                Some(2),
                "control character U+007F",
            ),
            (
                Code::ControlCharacters,
                Some("amount"),
                1,
                Some(2),
                "CR without LF",
            ),
            (
                Code::ControlCharacters,
                Some("pin"),
                1,
                Some(2),
                "control character U+0085",
            ),
        ],
    );
}

#[test]
fn every_fault_is_counted_and_listed() {
    let mut body = String::new();
    for n in 0..150 {
        writeln!(body, "x{n},,,,").unwrap();
    }
    let contract = Arc::new(orders());
    let outcome = inspect(&contract, [format!("{LABELS}{body}").as_bytes()]);
    let finding = &outcome.report.findings[0];
    assert_eq!((finding.count, finding.samples.len()), (150, 150));
    assert_eq!(finding.samples[149].line, Some(151));
}

#[test]
fn primary_keys_are_whole_and_different() {
    let contract = edit(orders(), |schema| {
        schema.columns[0].unique = false;
        schema.columns[0].required = false;
        schema.primary_key = vec![0, 1];
    });
    let body = format!("{LABELS}1,DE,,,\n1,AT,,,\n01,DE,,,\n,CH,,,\n3,,,,\n1,UK,,,\n");
    let outcome = rejected(
        &contract,
        body.as_bytes(),
        &[
            (Code::PrimaryKey, None, 3, Some(4), "first seen in line 2"),
            (
                Code::ConstraintError,
                Some("country"),
                1,
                Some(7),
                "one of DE, AT, CH",
            ),
        ],
    );
    let finding = &outcome.report.findings[0];
    assert_eq!(finding.rule, "primary key id, country");
    assert_eq!(finding.samples[1].detail, "id is empty");
    assert_eq!(finding.samples[2].detail, "country is empty");
}

#[test]
fn a_key_of_one_unique_column_is_told_once() {
    let contract = edit(orders(), |schema| schema.primary_key = vec![0]);
    rejected(
        &contract,
        format!("{LABELS}1,,,,\n1,,,,\n").as_bytes(),
        &[(
            Code::UniqueError,
            Some("id"),
            1,
            Some(3),
            "first seen in line 2",
        )],
    );
}

// === faults that end the inspection ===

#[track_caller]
fn fatal(contract: &Contract, input: &[u8], code: Code, line: Option<u64>, detail: &str) {
    let outcome = check(contract, input);
    let fatal = outcome.fatal.as_ref().expect("a fatal finding");
    let first = &fatal.samples[0];
    assert_eq!(
        (fatal.code, first.line, first.detail.as_str()),
        (code, line, detail)
    );
    assert_eq!(outcome.report.findings.last(), Some(fatal));
}

#[test]
fn faults_of_structure_end_the_inspection_at_their_byte() {
    let body = |rest: &str| format!("{LABELS}x,,,,\n{rest}").into_bytes();
    let format_error = Code::FormatError;
    let contract = orders();
    fatal(
        &contract,
        &body("2,\"DE\"x,,,\ny,,,,\n"),
        format_error,
        Some(3),
        "text after a closing quote",
    );
    fatal(
        &contract,
        &body("2,,,,5\" pipe\n"),
        format_error,
        Some(3),
        "a quote inside an unquoted cell",
    );
    fatal(
        &contract,
        &body(&format!("2,{}\n", "x".repeat(61))),
        Code::LimitExceeded,
        Some(3),
        "a cell that is longer",
    );
    fatal(
        &contract,
        &body(&format!("2,{0},{0}\n", "x".repeat(50))),
        Code::LimitExceeded,
        Some(3),
        "a record that is longer",
    );
    fatal(
        &contract,
        &body("2,,,,,,,,\n"),
        Code::LimitExceeded,
        Some(3),
        "more cells than that",
    );
    // Rows before the fault are judged, those after it are not.
    let outcome = check(&contract, &body("2,\"DE\"x,,,\ny,,,,\n"));
    assert_eq!(outcome.report.findings[0].code, Code::TypeError);
    assert_eq!(outcome.report.findings[0].count, 1);
    assert_eq!(outcome.report.rows, 1);
    assert_eq!(outcome.report.bytes_inspected, 39);
}

#[test]
fn a_quote_never_closed_is_told_where_it_opened() {
    let outcome = rows(
        "1,,,,\n2,,,,\"a\nb\nc",
        &[(
            Code::FormatError,
            None,
            1,
            Some(3),
            "a quote that is never closed",
        )],
    );
    assert_eq!(sample(&outcome, 0).byte, Some(38));
    assert_eq!(outcome.report.rows, 1);
}

#[test]
fn line_ends_are_those_agreed() {
    let mut contract = orders();
    let dialect = |newline| {
        Format::Csv(Dialect {
            delimiter: b',',
            quote: b'"',
            header: Header::Present,
            newline,
        })
    };
    let file = format!("{LABELS}1,,,,\r\n2,,,,\n");
    contract.format = dialect(Newline::Lf);
    fatal(
        &contract,
        file.as_bytes(),
        Code::FormatError,
        Some(2),
        "a line that ends with CRLF",
    );
    contract.format = dialect(Newline::Crlf);
    fatal(
        &contract,
        file.as_bytes(),
        Code::FormatError,
        Some(1),
        "a line that ends with LF",
    );
    contract.format = dialect(Newline::Any);
    let outcome = check(&contract, file.as_bytes());
    assert!(outcome.report.is_clean());
    told(
        &outcome,
        &[(
            Code::MixedNewlines,
            None,
            1,
            Some(2),
            "ends unlike the lines before it",
        )],
    );
}

#[test]
fn the_first_bad_byte_is_named_exactly() {
    let mut file = format!("{LABELS}1,,,,\"a\nb\"\n2,,,,M").into_bytes();
    let at = u64::try_from(file.len()).unwrap();
    file.extend_from_slice(b"\xfcller\nx,,,,\n");
    let outcome = rejected(
        &orders(),
        &file,
        &[(
            Code::EncodingError,
            None,
            1,
            Some(4),
            "byte 0xFC at line 4 is not UTF-8 (in note)",
        )],
    );
    assert_eq!(sample(&outcome, 0).byte, Some(at));
    assert_eq!(
        outcome.report.findings[0].hint.as_deref(),
        Some("looks like Windows-1252")
    );
    // It refuses the file while that arrives, once enough of it is there to tell what it is.
    let mut long = file.clone();
    long.extend(b"y,,,,\n".repeat(limits::ENCODING_SAMPLE_BYTES));
    let early = inspect(&Arc::new(orders()), [&long[..]]);
    assert_eq!(
        early.fatal.map(|fatal| fatal.code),
        Some(Code::EncodingError)
    );
    assert_eq!(early.report.bytes_inspected, at);
    assert_eq!(outcome.report.rows, 1);
    assert_eq!(outcome.report.bytes_inspected, at);
    // A character cut by the end of the file is only then a fault.
    let outcome = check(&orders(), b"id,country,amount,pin,note\n1,,,,\xe2\x82");
    told(
        &outcome,
        &[(
            Code::EncodingError,
            None,
            1,
            Some(2),
            "byte 0xE2 at line 2 is not UTF-8 (in note)",
        )],
    );
    assert_eq!(outcome.fatal, None);
}

#[test]
fn a_byte_order_mark_is_refused_where_it_is() {
    let contract = Contract {
        bom: Bom::Reject,
        ..orders()
    };
    fatal(
        &contract,
        format!("\u{feff}{LABELS}").as_bytes(),
        Code::EncodingError,
        Some(1),
        "the file starts with a byte order mark",
    );
    accepted(&contract, LABELS.as_bytes(), 0, LABELS);
}

#[test]
fn a_bad_header_is_told_whole_and_rows_are_not_judged() {
    let outcome = rejected(
        &orders(),
        b"id,country,ammount,pin,,id\nx,,,,,\n",
        &[
            (
                Code::BlankLabel,
                None,
                1,
                Some(1),
                "label 5 of line 1 is empty",
            ),
            (
                Code::DuplicateLabel,
                Some("id"),
                1,
                Some(1),
                "labels 1 and 6 of line 1 are both id",
            ),
            (
                Code::MissingLabel,
                Some("amount"),
                1,
                Some(1),
                "line 1 misses amount, has ammount",
            ),
            (
                Code::MissingLabel,
                Some("note"),
                1,
                Some(1),
                "line 1 misses note",
            ),
            (
                Code::ExtraLabel,
                Some("ammount"),
                1,
                Some(1),
                "ammount is new",
            ),
        ],
    );
    assert_eq!(outcome.fatal.as_ref(), outcome.report.findings.first());
    assert_eq!((outcome.report.rows, outcome.output.len()), (0, 0));
}

#[test]
fn headers_that_are_none_are_one_finding() {
    let contract = orders();
    fatal(
        &contract,
        b"id;country;amount;pin;note\n1;;;;\n",
        Code::FormatError,
        Some(1),
        "line 1 has 1 column, 5 expected",
    );
    fatal(
        &contract,
        b"\"id\";\"country\"\n",
        Code::FormatError,
        Some(1),
        "text after a closing quote",
    );
    fatal(
        &contract,
        b"\nid,country\n",
        Code::BlankLabel,
        Some(1),
        "line 1 is blank, labels expected",
    );
    fatal(
        &contract,
        b"id,country\0,amount\n",
        Code::ControlCharacters,
        Some(1),
        "a NUL byte",
    );
    let outcome = check(&contract, b"id,country\r1,DE\r2,AT\r");
    told(
        &outcome,
        &[(Code::ControlCharacters, None, 1, Some(1), "CR without LF")],
    );
}

#[test]
fn nothing_is_not_a_file() {
    let empty = [(Code::FormatError, None, 1, None, "the file is empty")];
    rejected(&orders(), b"", &empty);
    rejected(&orders(), b"\xef\xbb\xbf", &empty);
    rejected(&orders(), &gzip(b""), &empty);
    let only_gzip = Contract {
        compression: vec![Compression::Gzip],
        ..orders()
    };
    rejected(&only_gzip, b"", &empty);
    let at_least_one = edit(orders(), |schema| schema.rows_min = 1);
    rejected(
        &at_least_one,
        LABELS.as_bytes(),
        &[(Code::TooFewRows, None, 1, None, "0 rows, 1 expected")],
    );
}

// === envelopes ===

#[test]
fn files_are_refused_under_the_name_of_what_they_are() {
    let contract = orders();
    for (head, detail) in [
        (&b"PK\x03\x04\x14\0\0\0\0\0\0"[..], "looks like zip"),
        (b"PAR1\x15\x04\x15", "looks like Parquet"),
        (b"%PDF-1.7", "looks like PDF"),
    ] {
        fatal(&contract, head, Code::FormatError, Some(1), detail);
        fatal(&contract, &gzip(head), Code::FormatError, Some(1), detail);
    }
    fatal(
        &contract,
        b"\xff\xfei\0d\0",
        Code::EncodingError,
        Some(1),
        "looks like UTF-16",
    );
    let twice = gzip(&gzip(LABELS.as_bytes()));
    fatal(
        &contract,
        &twice,
        Code::FormatError,
        Some(1),
        "looks like gzip",
    );
    let plain_only = Contract {
        compression: vec![Compression::None],
        ..orders()
    };
    let once = gzip(LABELS.as_bytes());
    fatal(
        &plain_only,
        &once,
        Code::FormatError,
        Some(1),
        "looks like gzip",
    );
    let gzip_only = Contract {
        compression: vec![Compression::Gzip],
        ..orders()
    };
    accepted(&gzip_only, &once, 0, LABELS);
    fatal(
        &gzip_only,
        LABELS.as_bytes(),
        Code::FormatError,
        Some(1),
        "not gzip",
    );
    // One byte like gzip and nothing else is a header of one control character.
    rejected(
        &contract,
        b"\x1f",
        &[(
            Code::ControlCharacters,
            None,
            1,
            Some(1),
            "control character U+001F",
        )],
    );
}

#[test]
fn compressed_files_are_judged_like_plain_ones() {
    let text = format!("{LABELS}1,,,abc,\"a\nb\"\nx,,,,\n");
    let plain = check(&orders(), text.as_bytes());
    let zipped = check(&orders(), &gzip(text.as_bytes()));
    assert_eq!(plain, zipped);
}

#[test]
fn damaged_gzip_is_a_finding_after_those_of_its_text() {
    let file = gzip(format!("{LABELS}x,,,,\n").as_bytes());
    let outcome = check(&orders(), &file[..file.len() - 1]);
    told(
        &outcome,
        &[
            (Code::TypeError, Some("id"), 1, Some(2), "not an integer"),
            (
                Code::CompressionError,
                None,
                1,
                None,
                "the gzip data ends early",
            ),
        ],
    );
    let joined = [file, b"x".to_vec()].concat();
    fatal(
        &orders(),
        &joined,
        Code::CompressionError,
        None,
        "other bytes follow the gzip data",
    );
    let capped = Contract {
        output_bytes_max: 10,
        ..orders()
    };
    fatal(
        &capped,
        &gzip(LABELS.as_bytes()),
        Code::LimitExceeded,
        None,
        "over 10 bytes decompressed",
    );
}

// === trailers ===

#[test]
fn a_true_trailer_is_taken_and_is_no_row() {
    for end in ["", "\n", "\r\n"] {
        let file = format!("{LABELS}1,DE,12.50,,\n2,,22.60,,\n3,,,,\nTRL,3,35.1{end}");
        let contract = Arc::new(with_trailer());
        let outcome = inspect(&contract, [file.as_bytes()]);
        let errors: Vec<_> = outcome.report.errors().collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    let file = format!("{LABELS}1,DE,12.50,,\n2,,22.60,,\nTRL,2,35.1\n");
    let report = accepted(
        &with_trailer(),
        file.as_bytes(),
        2,
        &format!("{LABELS}1,DE,12.50,,\n2,,22.60,,\n"),
    );
    let controls: Vec<_> = report
        .controls
        .iter()
        .map(|c| (c.name.as_str(), c.declared.as_str(), c.counted.as_deref()))
        .collect();
    assert_eq!(
        controls,
        [
            ("rows", "2", Some("2")),
            ("sum.amount", "35.1", Some("35.10"))
        ]
    );
}

#[test]
fn a_trailer_that_differs_or_is_not_there_is_found() {
    let file = |body: &str| format!("{LABELS}{body}").into_bytes();
    rejected(
        &with_trailer(),
        &file("1,,1.00,,\nTRL,2,2.00\n"),
        &[
            (Code::RowCount, None, 1, Some(3), "1 counted, 2 declared"),
            (
                Code::ControlTotal,
                None,
                1,
                Some(3),
                "1.00 counted, 2.00 declared",
            ),
        ],
    );
    let missing = "trailer missing: the last line is none";
    rejected(
        &with_trailer(),
        &file("1,,1.00,,\n2,,,,\n"),
        &[(Code::ControlTotal, None, 1, Some(3), missing)],
    );
    rejected(
        &with_trailer(),
        &file(""),
        &[(Code::ControlTotal, None, 1, None, missing)],
    );
    rejected(
        &with_trailer(),
        &file("1,,1.00,,\nTRL,1,1.00\n2,,,,\n"),
        &[
            (
                Code::MissingCell,
                None,
                1,
                Some(3),
                "3 cells, 5 expected (pin and note are missing)",
            ),
            (Code::ControlTotal, None, 1, Some(4), missing),
        ],
    );
    // A line inside quotes is no line of its own.
    rejected(
        &with_trailer(),
        &file("1,,1.00,,\"\nTRL,1,1.00\"\n"),
        &[(Code::ControlTotal, None, 1, Some(2), missing)],
    );
}

#[test]
fn blank_lines_behind_a_trailer_are_blank_rows() {
    let file = format!("{LABELS}1,,1.00,,\nTRL,1,1.00\n\n\n");
    let outcome = rejected(
        &with_trailer(),
        file.as_bytes(),
        &[
            (Code::BlankRow, None, 2, Some(4), "a line without cells"),
            (Code::RowCount, None, 1, Some(3), "3 counted, 1 declared"),
        ],
    );
    assert_eq!(outcome.report.rows, 3);
    let flood = format!("{LABELS}1,,1.00,,\nTRL,1,1.00\n{}", "\n".repeat(1100));
    let contract = Arc::new(with_trailer());
    let whole = inspect(&contract, [flood.as_bytes()]);
    assert_eq!(inspect(&contract, flood.as_bytes().chunks(1)), whole);
    let codes: Vec<Code> = whole.report.findings.iter().map(|f| f.code).collect();
    assert_eq!(
        codes,
        [Code::MissingCell, Code::BlankRow, Code::ControlTotal]
    );
    assert_eq!(whole.report.findings[1].count, 1100);
}

#[test]
fn a_sum_is_not_judged_where_a_value_is_unreadable() {
    // A row that is too short still has its amount; one that breaks a bound too.
    let file = format!("{LABELS}1,,1.00\n2,,\"2,00\",,\n3,,-3.00,,\nTRL,3,9.99\n");
    let outcome = check(&with_trailer(), file.as_bytes());
    let codes: Vec<Code> = outcome.report.findings.iter().map(|f| f.code).collect();
    assert_eq!(
        codes,
        [Code::MissingCell, Code::TypeError, Code::ConstraintError]
    );
    let sum = &outcome.report.controls[1];
    assert_eq!((sum.counted.as_deref(), sum.unreadable), (None, 1));
}

// === nothing sensitive ===

#[test]
fn values_of_sensitive_columns_show_as_shape_only() {
    let contract = edit(orders(), |schema| {
        schema.columns[4].sensitive = true;
        schema.columns[4].unique = true;
        schema.columns[4].pattern = Some(Regex::new("^(?:[A-Z]+)$").unwrap());
        schema.columns[4].pattern_text = Some("[A-Z]+".to_owned());
    });
    let file = format!(
        "{LABELS}1,,,SECRET1,SECRET\n2,,,SECRET2,SECRET\n3,,,,secret7\n4,,,,SECRET\u{7}\n5,,,x\n"
    );
    let outcome = check(&contract, file.as_bytes());
    let shown = format!("{:?}", outcome.report);
    assert!(!shown.to_lowercase().contains("secret"), "{shown}");
    assert!(
        shown.contains("AAAAAA9") && shown.contains("aaaaaa9"),
        "{shown}"
    );
}

// === the law, for arbitrary files ===

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let cell = prop_oneof![
        4 => "[0-9]{1,3}",
        2 => Just(String::new()),
        1 => "[A-Z]{2}",
        1 => Just("DE".to_owned()),
        1 => Just("\"a,b\"".to_owned()),
        1 => Just("\"a\"\"\n\"".to_owned()),
        1 => Just("12.50".to_owned()),
        1 => "[\u{e4}\u{20ac}\u{1f600}\u{85}\u{7}\"\r]{1,2}",
    ];
    let row = (prop::collection::vec(cell, 4..7), "\r?\n").prop_map(|(cells, end)| {
        let mut row = cells.join(",");
        row.push_str(&end);
        row
    });
    let rows = prop::collection::vec(prop_oneof![8 => row, 1 => "\n|TRL,2,5.00\n"], 0..20);
    let flip = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (rows, flip, any::<bool>()).prop_map(|(rows, flip, zipped)| {
        let mut file = format!("{LABELS}{}", rows.concat()).into_bytes();
        if zipped {
            file = gzip(&file);
        }
        if let Some((at, byte)) = flip {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(
        file in bytes(),
        lengths in prop::collection::vec(1..40_usize, 1..60),
        trailer in any::<bool>(),
    ) {
        let contract = Arc::new(if trailer { with_trailer() } else { orders() });
        let whole = inspect(&contract, [file.as_slice()]);
        prop_assert_eq!(&inspect(&contract, file.chunks(1)), &whole);
        let (mut rest, mut pieces) = (file.as_slice(), Vec::new());
        for length in lengths {
            let (piece, later) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        pieces.push(rest);
        prop_assert_eq!(&inspect(&contract, pieces), &whole);
    }
}

#[test]
fn cuts_change_nothing_in_files_of_many_pieces() {
    let mut body = String::new();
    for n in 0..30_000_u32 {
        let note = if n % 7_001 == 7_000 {
            "\u{1}"
        } else {
            "\"a\u{e4},\nb\""
        };
        let id = if n % 9_999 == 9_998 { 5 } else { n };
        writeln!(body, "{id},DE,{n}.50,pin{},{note}", n % 10).unwrap();
    }
    let file = format!("{LABELS}{body}TRL,30000,1.00\n").into_bytes();
    let contract = Arc::new(with_trailer());
    let whole = inspect(&contract, [file.as_slice()]);
    assert_eq!(whole.report.rows, 30_000);
    for piece in [1_000, 65_536, 131_071, 131_072, 131_073, 1_000_003] {
        assert!(
            inspect(&contract, file.chunks(piece)) == whole,
            "pieces of {piece}"
        );
    }
    let codes: Vec<(Code, u64)> = whole
        .report
        .findings
        .iter()
        .map(|f| (f.code, f.count))
        .collect();
    assert_eq!(
        codes,
        [
            (Code::ControlCharacters, 4),
            (Code::UniqueError, 3),
            (Code::ControlTotal, 1)
        ]
    );
}
