//! Names and ids. Each is valid because it exists; `parse` is the only way in from text.

use std::fmt;
use std::str::FromStr;

use crate::terms::clock::Timestamp;

/// A text that is not what its type demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {why}")]
pub struct BadTerm {
    /// The kind of term, as in `partner id`.
    pub what: &'static str,
    /// The text as given, cut at 80 characters.
    pub text: String,
    /// What a valid one looks like.
    pub why: &'static str,
}

/// One file's life, from first byte to receipt: 128 bits, time-ordered (ULID).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubmissionId(u128);

// === impl BadTerm ===

impl BadTerm {
    /// A refusal that quotes at most 80 characters of `text`.
    #[must_use]
    pub fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self {
            what,
            text: text.chars().take(80).collect(),
            why,
        }
    }
}

/// Names that appear in paths, keys, labels and file names share one alphabet.
macro_rules! slug {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Accepts 1 to 64 characters of `a-z 0-9 - _`, the first a letter or a digit.
            ///
            /// # Errors
            /// [`BadTerm`] with the text and the rule.
            pub fn parse(text: &str) -> Result<Self, BadTerm> {
                if is_slug(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadTerm::new(
                        $what,
                        text,
                        "must be 1 to 64 of a-z 0-9 - _ and start with a letter or a digit",
                    ))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadTerm;
            fn from_str(text: &str) -> Result<Self, BadTerm> {
                Self::parse(text)
            }
        }
    };
}

slug!(
    /// A partner: who sends, and the SSH user name it logs in with.
    PartnerId, "partner id"
);
slug!(
    /// One kind of file inside a partner's policy.
    FeedId, "feed id"
);
slug!(
    /// A named object store of the main config.
    StoreName, "store name"
);
slug!(
    /// A token namespace: same value and same domain give the same token.
    DomainName, "token domain"
);
slug!(
    /// The gateway's own name in receipts, logs and events.
    InstanceName, "instance name"
);

fn is_slug(text: &str) -> bool {
    let bytes = text.as_bytes();
    let first_ok = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
    first_ok
        && bytes.len() <= 64
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

// === impl SubmissionId ===

/// Crockford's base 32: no I, L, O, U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl SubmissionId {
    /// A new id: 48 bits of milliseconds, then 80 random bits.
    #[must_use]
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        let millis = u128::from(at.as_millis().max(0).unsigned_abs() & 0xffff_ffff_ffff);
        let tail = random
            .iter()
            .fold(0_u128, |acc, b| (acc << 8) | u128::from(*b));
        Self((millis << 80) | tail)
    }

    /// The 128 bits, big-endian: the ledger's key.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Back from the ledger's key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The last eight characters: what people read out on the phone.
    ///
    /// ```
    /// use sallyport::terms::ids::SubmissionId;
    ///
    /// let id = SubmissionId::parse("sub_01KB3Q9MA2C4E6G8J09MFJ8E2T")?;
    /// assert_eq!(id.short(), "9MFJ8E2T");
    /// # Ok::<(), sallyport::terms::ids::BadTerm>(())
    /// ```
    #[must_use]
    pub fn short(self) -> String {
        self.ulid().split_off(18)
    }

    /// Accepts `sub_` and 26 characters of Crockford base 32, any case.
    ///
    /// # Errors
    /// [`BadTerm`] with the text and the rule.
    pub fn parse(text: &str) -> Result<Self, BadTerm> {
        let bad = || {
            BadTerm::new(
                "submission id",
                text,
                "must be sub_ and 26 characters, as printed by --json",
            )
        };
        let body = text.strip_prefix("sub_").ok_or_else(bad)?;
        if body.len() != 26 || !body.starts_with(|c: char| ('0'..='7').contains(&c)) {
            return Err(bad());
        }
        let mut bits = 0_u128;
        for byte in body.bytes() {
            let upper = byte.to_ascii_uppercase();
            let digit = CROCKFORD.iter().position(|c| *c == upper).ok_or_else(bad)?;
            bits = (bits << 5) | u128::try_from(digit).map_err(|_| bad())?;
        }
        Ok(Self(bits))
    }

    fn ulid(self) -> String {
        (0..26_u32)
            .rev()
            .map(|place| {
                let digit = usize::try_from((self.0 >> (5 * place)) & 31).unwrap_or(0);
                char::from(CROCKFORD.get(digit).copied().unwrap_or(b'0'))
            })
            .collect()
    }
}

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sub_{}", self.ulid())
    }
}

impl fmt::Debug for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_id_survives_printing_and_parsing() {
        let id = SubmissionId::new(Timestamp::from_micros(1_795_239_870_996_000), [7; 10]);
        assert_eq!(SubmissionId::parse(&id.to_string()), Ok(id));
        assert_eq!(SubmissionId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.short().len(), 8);
        assert!(id.to_string().ends_with(&id.short()));
    }

    #[test]
    fn a_submission_id_that_overflows_or_misspells_is_refused() {
        for text in [
            "",
            "sub_",
            "sub_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "sub_01KB3Q9MA2C4E6G8J0MFJ8E2TU",
        ] {
            assert!(SubmissionId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for text in [
            "",
            "..",
            "a/b",
            "-a",
            "A",
            "a b",
            "a\n",
            "é",
            &"a".repeat(65),
        ] {
            assert!(PartnerId::parse(text).is_err(), "{text}");
        }
        assert!(PartnerId::parse("acme-2_eu").is_ok());
    }
}
