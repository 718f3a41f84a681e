//! The `mask` kind: every character but the kept ones becomes `*`. No key, no way back, and no
//! way to join either. Characters are Unicode scalar values, so the length shows.

use crate::policy::contract::Keep;
use crate::tokens::kept;

/// Appends the masked value. A value no longer than the kept part is masked whole.
pub(super) fn write(keep: Keep, value: &str, out: &mut Vec<u8>) {
    let part = kept(keep, value);
    let stars = value.chars().count() - part.chars().count();
    let stars = std::iter::repeat_n(b'*', stars);
    match keep {
        Keep::First(_) => {
            out.extend_from_slice(part.as_bytes());
            out.extend(stars);
        }
        Keep::Domain | Keep::Last(_) | Keep::None => {
            out.extend(stars);
            out.extend_from_slice(part.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keep: Keep, value: &str, expect: &str) {
        let mut out = Vec::new();
        write(keep, value, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn characters_that_are_not_kept_become_stars() {
        check(Keep::None, "Ada", "***");
        check(Keep::Last(4), "4111111111111234", "************1234");
        check(
            Keep::First(2),
            "DE89370400440532013000",
            "DE********************",
        );
        check(Keep::Domain, "ada@example.org", "***@example.org");
        check(Keep::Domain, "a@b@example.org", "***@example.org");
        check(Keep::Last(1), "äöü", "**ü");
        check(Keep::First(1), "äöü", "ä**");
    }

    #[test]
    fn a_value_no_longer_than_the_kept_part_is_masked_whole() {
        check(Keep::Last(4), "1234", "****");
        check(Keep::Last(4), "123", "***");
        check(Keep::First(4), "1234", "****");
        check(Keep::First(0), "12", "**");
        check(Keep::Last(0), "12", "**");
        check(Keep::Domain, "@example.org", "************");
        check(Keep::Domain, "ada", "***");
        check(Keep::Last(2), "", "");
    }
}
