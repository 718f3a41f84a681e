//! Known shapes of text: e-mail, IBAN, payment card number, UUID.
//!
//! Each is a plain function over the cell as written; nothing is trimmed, upper-cased or
//! repaired. Sources: RFC 5321 section 4.1.2 with the lengths of 4.5.3.1, ISO 13616 and
//! ISO/IEC 7064 (mod 97-10), ISO/IEC 7812-1 annex B (Luhn), RFC 9562 section 4.

use crate::policy::contract::TextFormat;

/// Whether `text` has the format.
pub(crate) fn fits(format: TextFormat, text: &str) -> bool {
    match format {
        TextFormat::Any => true,
        TextFormat::Email => is_email(text),
        TextFormat::Iban => is_iban(text),
        TextFormat::Pan => is_pan(text),
        TextFormat::Uuid => is_uuid(text),
    }
}

/// The format's name in rules; `None` for free text.
pub(crate) fn name(format: TextFormat) -> Option<&'static str> {
    match format {
        TextFormat::Any => None,
        TextFormat::Email => Some("email"),
        TextFormat::Iban => Some("iban"),
        TextFormat::Pan => Some("pan"),
        TextFormat::Uuid => Some("uuid"),
    }
}

/// `local@domain`: a dot-atom of at most 64 bytes, and at least two labels of letters, digits
/// and hyphens, the last not all digits.
fn is_email(text: &str) -> bool {
    const BYTES_MAX: usize = 254;
    const LOCAL_BYTES_MAX: usize = 64;
    const DOMAIN_BYTES_MAX: usize = 253;
    const LABEL_BYTES_MAX: usize = 63;
    let bytes = text.as_bytes();
    let Some(at) = memchr::memchr(b'@', bytes) else {
        return false;
    };
    let (local, domain) = (
        bytes.get(..at).unwrap_or_default(),
        bytes.get(at + 1..).unwrap_or_default(),
    );
    if bytes.len() > BYTES_MAX
        || local.is_empty()
        || local.len() > LOCAL_BYTES_MAX
        || domain.len() > DOMAIN_BYTES_MAX
    {
        return false;
    }
    let mut before = b'.';
    for &byte in local {
        let fits = is_atom_byte(byte) || (byte == b'.' && before != b'.');
        if !fits {
            return false;
        }
        before = byte;
    }
    if before == b'.' {
        return false;
    }
    let (mut before, mut length, mut labels, mut is_number) = (b'.', 0, 0, true);
    for &byte in domain {
        if byte == b'.' {
            if matches!(before, b'.' | b'-') {
                return false;
            }
            (length, is_number, labels) = (0, true, labels + 1);
        } else {
            length += 1;
            let fits = byte.is_ascii_alphanumeric() || (byte == b'-' && before != b'.');
            if !fits || length > LABEL_BYTES_MAX {
                return false;
            }
            is_number &= byte.is_ascii_digit();
        }
        before = byte;
    }
    labels > 0 && !is_number && !matches!(before, b'.' | b'-')
}

/// Letters, digits and the marks of an atom (RFC 5322 section 3.2.3).
#[inline]
fn is_atom_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'='
            | b'?' | b'^'..=b'`' | b'{'..=b'~'
    )
}

/// 15 to 34 of `A-Z 0-9`: two letters, two digits, and remainder 1 modulo 97 once the first
/// four are moved to the end and letters count 10 to 35.
fn is_iban(text: &str) -> bool {
    // Divided once in many digits: two more than that are far from 2^64.
    const FULL: u64 = 1_000_000_000_000_000;
    let bytes = text.as_bytes();
    if !(15..=34).contains(&bytes.len()) {
        return false;
    }
    let Some((head, tail)) = bytes.split_at_checked(4) else {
        return false;
    };
    let [a, b, c, d] = *head else { return false };
    if !(a.is_ascii_uppercase()
        && b.is_ascii_uppercase()
        && c.is_ascii_digit()
        && d.is_ascii_digit())
    {
        return false;
    }
    let mut rest: u64 = 0;
    for &byte in tail.iter().chain(head) {
        if rest >= FULL {
            rest %= 97;
        }
        rest = match byte {
            b'0'..=b'9' => rest * 10 + u64::from(byte - b'0'),
            b'A'..=b'Z' => rest * 100 + u64::from(byte - b'A') + 10,
            _ => return false,
        };
    }
    rest % 97 == 1
}

/// 12 to 19 digits with a Luhn sum divisible by ten.
fn is_pan(text: &str) -> bool {
    // Twice the digit, its own digits added.
    const DOUBLED: [u8; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
    let bytes = text.as_bytes();
    if !(12..=19).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let is_even = bytes.len().is_multiple_of(2);
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| {
            let digit = |at: usize| pair.get(at).map_or(0, |byte| byte - b'0');
            let doubled = |digit: u8| DOUBLED.get(usize::from(digit)).copied().unwrap_or(0);
            let (first, second) = (digit(0), digit(1));
            u32::from(if is_even {
                doubled(first) + second
            } else {
                first + doubled(second)
            })
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Hexadecimal digits in groups of 8-4-4-4-12, either case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: TextFormat, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(fits(format, text), "{text:?} is refused");
        }
        for text in bad {
            assert!(!fits(format, text), "{text:?} is taken");
        }
    }

    #[test]
    fn an_email_is_a_dot_atom_at_a_host_name() {
        check(
            TextFormat::Email,
            &[
                "jane@example.org",
                "j.d+tag@mail.example.co.uk",
                "o'neil@x-y.io",
                "a@1.example",
            ],
            &[
                "",
                "jane",
                "@example.org",
                "jane@",
                "jane@localhost",
                "jane@@example.org",
                "jane@a@example.org",
                ".jane@example.org",
                "jane.@example.org",
                "ja..ne@example.org",
                "jane@-x.org",
                "jane@x-.org",
                "jane@x..org",
                "jane@1.2.3.4",
                " jane@example.org",
                "jane@example.org ",
                "\"jane\"@example.org",
                "j\u{e4}ne@example.org",
                "jane@ex_ample.org",
            ],
        );
        assert!(is_email(&format!("{}@example.org", "x".repeat(64))));
        assert!(!is_email(&format!("{}@example.org", "x".repeat(65))));
        assert!(!is_email(&format!("x@{}.org", "y".repeat(64))));
    }

    #[test]
    fn an_iban_has_remainder_one() {
        check(
            TextFormat::Iban,
            &[
                "DE89370400440532013000",
                "GB82WEST12345698765432",
                "NO9386011117947",
                "MT84MALT011000012345MTLCAST001S",
            ],
            &[
                "",
                "DE89370400440532013001",
                "DE98370400440532013000",
                "de89370400440532013000",
                "DE89 3704 0044 0532 0130 00",
                "DE8937040044",
                "8989370400440532013000",
                "DEX9370400440532013000",
                "DE\u{e4}9370400440532013000",
            ],
        );
    }

    #[test]
    fn a_card_number_has_a_luhn_sum() {
        check(
            TextFormat::Pan,
            &[
                "4111111111111111",
                "378282246310005",
                "6304000000000000",
                "4222222222222",
            ],
            &[
                "",
                "4111111111111112",
                "4111 1111 1111 1111",
                "4111-1111-1111-1111",
                "42222222222",
                "00000000000000000000",
                "\u{ff14}111111111111111",
            ],
        );
    }

    #[test]
    fn a_uuid_is_hyphenated_hexadecimal() {
        check(
            TextFormat::Uuid,
            &[
                "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
                "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
            ],
            &[
                "",
                "f81d4fae7dec11d0a76500a0c91e6bf6",
                "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}",
                "g81d4fae-7dec-11d0-a765-00a0c91e6bf6",
                "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
            ],
        );
    }
}
