//! The last line with its control totals: read, and compared exactly.

use crate::inspect::report::{Control, Report, Sample};
use crate::inspect::show;
use crate::inspect::types;
use crate::policy::contract::Trailer;
use crate::terms::codes::Code;

/// What rows add up to in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The column in the contract.
    pub(crate) column: usize,
    /// Its name.
    pub(crate) name: String,
    /// How its numbers are shown: in a file of one row the sum is the value.
    pub(crate) sight: show::Sight,
    /// Digits after the point; 0 of an integer column.
    pub(crate) scale: u8,
    /// The sum, scaled by 10^scale; `None` past 128 bits.
    pub(crate) total: Option<i128>,
    /// Values that could not be read.
    pub(crate) unreadable: u64,
}

// === impl Sum ===

impl Sum {
    /// Adds one cell: its number, or that it has none.
    pub(crate) fn add(&mut self, number: Option<i128>) {
        match number {
            Some(number) => {
                self.total = self.total.and_then(|total| total.checked_add(number));
            }
            None => self.unreadable += 1,
        }
    }
}

/// The groups of a trailer, if `line` is one.
pub(crate) fn read<'t>(trailer: &Trailer, line: &'t str) -> Option<Vec<(String, Option<&'t str>)>> {
    let found = trailer.pattern.captures(line)?;
    let whole = found.get(0)?;
    if whole.range() != (0..line.len()) {
        return None;
    }
    let groups = trailer
        .rows
        .iter()
        .chain(trailer.sums.iter().map(|sum| &sum.1));
    Some(
        groups
            .map(|group| (group.clone(), found.name(group).map(|m| m.as_str())))
            .collect(),
    )
}

/// Compares what a trailer in `line` declares with what was counted.
pub(crate) fn compare(
    trailer: &Trailer,
    groups: &[(String, Option<&str>)],
    line: u64,
    sums: &[Sum],
    report: &mut Report,
) {
    let declared = |group: &str| {
        let found = groups.iter().find(|(name, _)| name == group);
        found.and_then(|(_, text)| *text).unwrap_or_default()
    };
    if let Some(group) = &trailer.rows {
        rows(declared(group), line, report);
    }
    for (column, group) in &trailer.sums {
        if let Some(sum) = sums.iter().find(|sum| sum.column == *column) {
            compare_sum(declared(group), sum, line, report);
        }
    }
}

fn rows(declared: &str, line: u64, report: &mut Report) {
    let counted = report.rows;
    let is_same = types::integer(declared) == Some(i128::from(counted));
    report.controls.push(Control {
        name: "rows".to_owned(),
        declared: show::value(declared, show::Sight::Open),
        counted: Some(counted.to_string()),
        ok: Some(is_same),
        unreadable: 0,
    });
    if !is_same {
        fault(
            Code::RowCount,
            "rows as declared",
            format!("{counted} counted, {} declared", said(declared)),
            line,
            report,
        );
    }
}

fn compare_sum(declared: &str, sum: &Sum, line: u64, report: &mut Report) {
    let total = sum.total.filter(|_| sum.unreadable == 0);
    let counted = total.map(|total| show::value(&decimal_text(total, sum.scale), sum.sight));
    let is_same =
        |total| number(declared).is_some_and(|number| is_equal((total, sum.scale), number));
    report.controls.push(Control {
        name: format!("sum.{}", sum.name),
        declared: show::value(declared, sum.sight),
        counted: counted.clone(),
        ok: total.map(is_same),
        unreadable: sum.unreadable,
    });
    if sum.unreadable > 0 {
        return;
    }
    let rule = format!("sum of {} as declared", show::name(&sum.name));
    let detail = match (sum.total, number(declared)) {
        (None, _) => "the sum needs more than 128 bits".to_owned(),
        (Some(total), _) if is_same(total) => return,
        (Some(_), _) if sum.sight == show::Sight::Shape => "the sums differ".to_owned(),
        (Some(_), None) => format!("{} is no number", said(declared)),
        (Some(_), Some(_)) => format!(
            "{} counted, {} declared",
            counted.unwrap_or_default(),
            said(declared)
        ),
    };
    fault(Code::ControlTotal, &rule, detail, line, report);
}

fn fault(code: Code, rule: &str, detail: String, line: u64, report: &mut Report) {
    let sample = Sample {
        line: Some(line),
        detail,
        ..Sample::default()
    };
    report.add(code, None, rule, None, sample);
}

/// The file ends without its trailer; `line`: its last one.
pub(crate) fn missing(line: Option<u64>, report: &mut Report) {
    let sample = Sample {
        line,
        detail: "trailer missing: the last line is none".to_owned(),
        ..Sample::default()
    };
    let hint = "The file may be cut short; send it whole.";
    report.add(
        Code::ControlTotal,
        None,
        "a trailer as last line",
        Some(hint),
        sample,
    );
}

fn said(declared: &str) -> String {
    if declared.is_empty() {
        "nothing".to_owned()
    } else {
        show::name(declared)
    }
}

/// A decimal of any scale: its digits as one number, and how many are after the point.
fn number(text: &str) -> Option<(i128, u8)> {
    let Some((whole, fraction)) = text.split_once('.') else {
        return types::integer(text).map(|number| (number, 0));
    };
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let scale = u8::try_from(fraction.len()).ok()?;
    types::integer(whole)?;
    types::integer(&format!("{whole}{fraction}")).map(|number| (number, scale))
}

/// Whether two scaled numbers are the same. What does not fit 128 bits when brought to one
/// scale is not.
fn is_equal((a, a_scale): (i128, u8), (b, b_scale): (i128, u8)) -> bool {
    let scale = a_scale.max(b_scale);
    let to_scale = |number: i128, own: u8| {
        let factor = 10_i128.checked_pow(u32::from(scale - own))?;
        number.checked_mul(factor)
    };
    match (to_scale(a, a_scale), to_scale(b, b_scale)) {
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => false,
    }
}

fn decimal_text(number: i128, scale: u8) -> String {
    if scale == 0 {
        return number.to_string();
    }
    let scale = usize::from(scale);
    let sign = if number < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits
        .split_at_checked(digits.len() - scale)
        .unwrap_or((&digits, ""));
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn sum(total: i128) -> Sum {
        Sum {
            sight: show::Sight::Open,
            column: 2,
            name: "amount".to_owned(),
            scale: 2,
            total: Some(total),
            unreadable: 0,
        }
    }

    fn trailer() -> Trailer {
        Trailer {
            pattern: Regex::new(r"TRL,(?<n>\d+)(,(?<t>[-+.\dx]*))?").unwrap(),
            rows: Some("n".to_owned()),
            sums: vec![(2, "t".to_owned())],
        }
    }

    #[track_caller]
    fn check(line: &str, rows: u64, sum: &Sum, expect: &[(Code, &str)]) {
        let trailer = trailer();
        let mut report = Report {
            rows,
            ..Report::default()
        };
        let groups = read(&trailer, line).expect("a trailer");
        compare(&trailer, &groups, 9, std::slice::from_ref(sum), &mut report);
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|f| (f.code, f.samples[0].detail.as_str()))
            .collect();
        assert_eq!(found, expect, "{line:?}");
        assert_eq!(report.controls.len(), 2);
        assert_eq!(report.controls[0].name, "rows");
        assert_eq!(report.controls[1].name, "sum.amount");
    }

    #[test]
    fn totals_are_compared_as_numbers() {
        check("TRL,3,35.10", 3, &sum(3510), &[]);
        check("TRL,003,35.1", 3, &sum(3510), &[]);
        check("TRL,3,35.1000", 3, &sum(3510), &[]);
        check("TRL,3,-0.01", 3, &sum(-1), &[]);
        check("TRL,3,0", 3, &sum(0), &[]);
        check(
            "TRL,4,35.11",
            3,
            &sum(3510),
            &[
                (Code::RowCount, "3 counted, 4 declared"),
                (Code::ControlTotal, "35.10 counted, 35.11 declared"),
            ],
        );
        check(
            "TRL,3,35.101",
            3,
            &sum(3510),
            &[(Code::ControlTotal, "35.10 counted, 35.101 declared")],
        );
    }

    #[test]
    fn what_is_no_number_is_a_fault() {
        for text in ["1.2.3", "1.", ".5", "+1", "1x", "-"] {
            check(
                &format!("TRL,3,{text}"),
                3,
                &sum(3510),
                &[(Code::ControlTotal, &format!("{text} is no number"))],
            );
        }
        check(
            "TRL,3",
            3,
            &sum(0),
            &[(Code::ControlTotal, "nothing is no number")],
        );
    }

    #[test]
    fn a_sum_with_unreadable_values_is_not_judged() {
        let mut unreadable = sum(3510);
        unreadable.add(None);
        check("TRL,3,1.00", 3, &unreadable, &[]);
    }

    #[test]
    fn a_sum_past_128_bits_is_a_fault() {
        let mut huge = sum(i128::MAX);
        huge.add(Some(1));
        check(
            "TRL,3,1.00",
            3,
            &huge,
            &[(Code::ControlTotal, "the sum needs more than 128 bits")],
        );
    }

    #[test]
    fn a_trailer_is_the_whole_line() {
        assert!(read(&trailer(), "TRL,3,1.00").is_some());
        assert!(read(&trailer(), "TRL,3,1.00 ").is_none());
        assert!(read(&trailer(), " TRL,3,1.00").is_none());
        assert!(read(&trailer(), "1,a,2").is_none());
    }

    #[test]
    fn decimals_print_at_their_scale() {
        assert_eq!(decimal_text(3510, 2), "35.10");
        assert_eq!(decimal_text(-1, 2), "-0.01");
        assert_eq!(decimal_text(0, 2), "0.00");
        assert_eq!(decimal_text(7, 0), "7");
        assert_eq!(
            decimal_text(i128::MIN, 2),
            "-1701411834604692317316873037158841057.28"
        );
    }
}
