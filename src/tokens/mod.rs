//! Rank 1, pure given keys: values in, tokens out. One file per keyed kind, and `mask`.
//!
//! A keyed token is `tok_<domain>_<kid>_<body>`. The body is 128 bits in lower-case RFC 4648
//! base 32 without padding (26 characters), the tag of a MAC over the length of the normalised
//! value (8 bytes, big endian) and the normalised value (UTF-8). The MAC's key is
//! HKDF-SHA-256 of the domain's secret, with the kind's versioned label as info and no salt. So
//! equal values of one domain join, and without the key nothing can be tried out.
//!
//! Nothing here draws randomness, and no value appears in an error or in `Debug`.

mod cmac;
mod hmac;
mod mask;

use std::collections::BTreeMap;
use std::fmt;

use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::policy::contract::{Keep, Normalise, TokenKind, TokenRule};
use crate::terms::ids::DomainName;
use crate::terms::secret::Secret;
use crate::tokens::cmac::CmacKey;
use crate::tokens::hmac::HmacKey;

/// One key of a domain, unwrapped.
#[derive(Clone, Debug)]
pub struct DomainKey {
    /// Its number inside the domain, from 1; part of every token.
    pub kid: u32,
    /// 32 random bytes; the key of a kind is HKDF-SHA-256 of it with a versioned label.
    pub secret: Secret<[u8; 32]>,
}

/// The current key of every domain one inspection needs.
#[derive(Clone, Debug, Default)]
pub struct TokenKeys {
    keys: BTreeMap<DomainName, DomainKey>,
}

/// Why a value or a rule gives no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The domain has no key among those handed in.
    #[error("no key for token domain {0}")]
    MissingKey(DomainName),
    /// A keyed kind without a domain; policies are refused before they come to that.
    #[error("a keyed token needs a domain; name one in the policy")]
    NoDomain,
}

/// A token rule with its key, ready for values.
pub struct Tokenizer {
    kind: Kind,
    keep: Keep,
    normalise: Vec<Normalise>,
    /// The normalised value, reused.
    text: Zeroizing<String>,
    /// What a step of normalisation reads while it writes `text`.
    before: Zeroizing<String>,
}

/// The constructions, ready to run.
enum Kind {
    Cmac {
        prefix: String,
        key: CmacKey,
    },
    Hmac {
        prefix: String,
        key: HmacKey,
    },
    Mask,
    /// Redacted cells are empty; dropped columns are never asked for.
    Nothing,
}

/// 128 bits of a MAC.
type Tag = [u8; 16];

// === impl TokenKeys ===

impl TokenKeys {
    /// Adds or replaces the key of a domain.
    pub fn insert(&mut self, domain: DomainName, key: DomainKey) {
        self.keys.insert(domain, key);
    }
    /// The key of a domain.
    #[must_use]
    pub fn get(&self, domain: &DomainName) -> Option<&DomainKey> {
        self.keys.get(domain)
    }
}

// === impl Tokenizer ===

impl Tokenizer {
    /// Derives what the rule needs from its domain's key.
    ///
    /// # Errors
    /// [`TokenFault::MissingKey`] when a keyed kind has no key, [`TokenFault::NoDomain`] when it
    /// has no domain.
    pub fn new(rule: &TokenRule, keys: &TokenKeys) -> Result<Self, TokenFault> {
        let kind = match rule.kind {
            TokenKind::Cmac => {
                let (prefix, secret) = keyed(rule, keys)?;
                let key = CmacKey::new(&derive(secret, cmac::LABEL));
                Kind::Cmac { prefix, key }
            }
            TokenKind::Hmac => {
                let (prefix, secret) = keyed(rule, keys)?;
                let key = HmacKey::new(&derive(secret, hmac::LABEL));
                Kind::Hmac { prefix, key }
            }
            TokenKind::Mask => Kind::Mask,
            TokenKind::Drop | TokenKind::Redact => Kind::Nothing,
        };
        Ok(Self {
            kind,
            keep: rule.keep,
            normalise: rule.normalise.clone(),
            text: Zeroizing::default(),
            before: Zeroizing::default(),
        })
    }

    /// Appends the token for `value` (valid UTF-8, already unquoted) to `out`, as plain text
    /// without CSV quoting. Null handling is the caller's. A dropped column has no cell in the
    /// output, so nobody asks for its token; asked all the same, it is empty.
    ///
    /// # Errors
    /// [`TokenFault`] when this value has no token.
    pub fn token(&mut self, value: &str, out: &mut Vec<u8>) -> Result<(), TokenFault> {
        match &mut self.kind {
            Kind::Cmac { prefix, key } => {
                let text = normalise(&self.normalise, value, &mut self.text, &mut self.before);
                write_token(prefix, &key.tag(text), self.keep, text, out);
            }
            Kind::Hmac { prefix, key } => {
                let text = normalise(&self.normalise, value, &mut self.text, &mut self.before);
                write_token(prefix, &key.tag(text), self.keep, text, out);
            }
            Kind::Mask => mask::write(self.keep, value, out),
            Kind::Nothing => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokenizer(..)")
    }
}

/// `tok_<domain>_<kid>_` and the secret of the rule's domain.
fn keyed<'k>(
    rule: &TokenRule,
    keys: &'k TokenKeys,
) -> Result<(String, &'k Secret<[u8; 32]>), TokenFault> {
    let domain = rule.domain.as_ref().ok_or(TokenFault::NoDomain)?;
    let key = keys
        .get(domain)
        .ok_or_else(|| TokenFault::MissingKey(domain.clone()))?;
    Ok((format!("tok_{domain}_{}_", key.kid), &key.secret))
}

/// The key of one kind: HKDF-SHA-256 (RFC 5869) of the domain's secret.
fn derive(secret: &Secret<[u8; 32]>, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0_u8; 32]);
    let filled = Salt::new(HKDF_SHA256, &[])
        .extract(secret.expose())
        .expand(&[label], HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()));
    assert!(filled.is_ok(), "HKDF-SHA-256 gives up to 8,160 bytes");
    key
}

/// The length that goes before a value into a MAC: what follows it can never be taken for it.
fn length_prefix(text: &str) -> [u8; 8] {
    u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes()
}

/// Runs the steps in their order; without steps the value itself, uncopied.
fn normalise<'t>(
    steps: &[Normalise],
    value: &'t str,
    text: &'t mut String,
    before: &mut String,
) -> &'t str {
    if steps.is_empty() {
        return value;
    }
    text.clear();
    text.push_str(value);
    for step in steps {
        match step {
            Normalise::Digits => text.retain(|c| c.is_ascii_digit()),
            Normalise::Lower if text.is_ascii() => text.make_ascii_lowercase(),
            Normalise::Lower => {
                std::mem::swap(text, before);
                text.clear();
                // A capital sigma is the one character whose lower case depends on its place in
                // the word; `str` knows the rule and pays for it with an allocation.
                if before.contains('\u{3a3}') {
                    text.push_str(&Zeroizing::new(before.to_lowercase()));
                } else {
                    text.extend(before.chars().flat_map(char::to_lowercase));
                }
            }
            Normalise::Trim => {
                text.truncate(text.trim_end().len());
                let blank = text.len() - text.trim_start().len();
                text.drain(..blank);
            }
        }
    }
    text
}

/// Where the kept part of `text` begins and ends, in bytes. Empty when nothing is kept, which is
/// so whenever everything would be.
fn kept(keep: Keep, text: &str) -> &str {
    let part = match keep {
        Keep::Domain => text.rfind('@').and_then(|at| text.get(at..)),
        Keep::First(count) => match text.char_indices().nth(count) {
            Some((end, _)) => text.get(..end),
            None => None,
        },
        Keep::Last(count) => match count.checked_sub(1) {
            Some(back) => text
                .char_indices()
                .nth_back(back)
                .and_then(|(start, _)| text.get(start..)),
            None => None,
        },
        Keep::None => None,
    };
    part.filter(|part| part.len() < text.len()).unwrap_or("")
}

fn write_token(prefix: &str, tag: &Tag, keep: Keep, text: &str, out: &mut Vec<u8>) {
    let part = kept(keep, text).as_bytes();
    match keep {
        Keep::First(_) => {
            out.extend_from_slice(part);
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(&base32(*tag));
        }
        Keep::Domain | Keep::Last(_) | Keep::None => {
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(&base32(*tag));
            out.extend_from_slice(part);
        }
    }
}

/// RFC 4648 section 6 in lower case, without padding: 128 bits are 25 times five, and three more
/// that stand at the left of the last character.
fn base32(tag: Tag) -> [u8; 26] {
    let bits = u128::from_be_bytes(tag);
    let mut shift = 123_u32;
    let mut text = [b'a'; 26];
    for slot in text.iter_mut().take(25) {
        *slot = letter(bits >> shift);
        shift = shift.saturating_sub(5);
    }
    if let Some(last) = text.last_mut() {
        *last = letter(bits << 2);
    }
    text
}

fn letter(bits: u128) -> u8 {
    let place = usize::from((bits & 31).to_be_bytes()[15]);
    BASE32_LETTERS.get(place).copied().unwrap_or(b'a')
}

const BASE32_LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use ::cmac::{Cmac, KeyInit, Mac};
    use data_encoding::BASE32_NOPAD;
    use proptest::prelude::*;

    use super::*;

    fn domain(name: &str) -> DomainName {
        DomainName::parse(name).unwrap()
    }

    fn keys(kid: u32) -> TokenKeys {
        let mut keys = TokenKeys::default();
        for (name, byte) in [("people", 1), ("cards", 2)] {
            let secret = Secret::new([byte; 32]);
            keys.insert(domain(name), DomainKey { kid, secret });
        }
        keys
    }

    fn rule(kind: TokenKind) -> TokenRule {
        TokenRule {
            kind,
            domain: Some(domain("people")),
            keep: Keep::None,
            normalise: Vec::new(),
            tokenise_empty: false,
        }
    }

    fn token(rule: &TokenRule, value: &str) -> String {
        let mut out = Vec::new();
        let mut tokenizer = Tokenizer::new(rule, &keys(1)).unwrap();
        tokenizer.token(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(kind: TokenKind, keep: Keep, value: &str, expect: &str) {
        let rule = TokenRule { keep, ..rule(kind) };
        assert_eq!(token(&rule, value), expect);
    }

    const KEYED: [TokenKind; 2] = [TokenKind::Cmac, TokenKind::Hmac];

    #[test]
    fn a_token_is_tok_domain_kid_and_26_letters_of_base_32() {
        for kind in KEYED {
            let mut out = b"before,".to_vec();
            let mut tokenizer = Tokenizer::new(&rule(kind), &keys(12)).unwrap();
            tokenizer.token("Ada", &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let body = text.strip_prefix("before,tok_people_12_").unwrap();
            assert_eq!(body.len(), 26);
            assert!(body.bytes().all(|b| BASE32_LETTERS.contains(&b)), "{body}");
        }
    }

    #[test]
    fn the_body_is_the_mac_of_length_and_value_under_the_labelled_key() {
        // HKDF, HMAC and base 32 once more, from their definitions and other code.
        let hmac = |key: &[u8], data: &[u8]| {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
            ring::hmac::sign(&key, data).as_ref().to_vec()
        };
        let derived = |label: &[u8]| {
            let prk = hmac(&[0; 32], &[1; 32]);
            hmac(&prk, &[label, &[1]].concat())
        };
        let input = [&[0, 0, 0, 0, 0, 0, 0, 3], b"Ada".as_slice()].concat();

        let tag = hmac(&derived(b"sallyport token v1 hmac"), &input);
        let body = BASE32_NOPAD.encode(&tag[..16]).to_lowercase();
        assert_eq!(
            token(&rule(TokenKind::Hmac), "Ada"),
            format!("tok_people_1_{body}")
        );

        let mut mac =
            Cmac::<aes::Aes256>::new_from_slice(&derived(b"sallyport token v1 cmac")).unwrap();
        mac.update(&input);
        let body = BASE32_NOPAD
            .encode(&mac.finalize().into_bytes())
            .to_lowercase();
        assert_eq!(
            token(&rule(TokenKind::Cmac), "Ada"),
            format!("tok_people_1_{body}")
        );
    }

    #[test]
    fn the_same_value_gives_the_same_token_whatever_came_before() {
        for kind in KEYED {
            let mut tokenizer = Tokenizer::new(&rule(kind), &keys(1)).unwrap();
            for value in ["", "x", "Ada", "a much longer value than one block of AES"] {
                for _ in 0..2 {
                    let mut out = Vec::new();
                    tokenizer.token(value, &mut out).unwrap();
                    assert_eq!(out, token(&rule(kind), value).into_bytes());
                }
            }
        }
    }

    #[test]
    fn domains_kinds_and_keys_are_unlinkable() {
        let body = |text: &str| text.rsplit('_').next().unwrap().to_owned();
        let mut seen = std::collections::BTreeSet::new();
        for kind in KEYED {
            for name in ["people", "cards"] {
                let domain = Some(domain(name));
                assert!(seen.insert(body(&token(
                    &TokenRule {
                        domain,
                        ..rule(kind)
                    },
                    "Ada"
                ))));
            }
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn a_missing_key_or_domain_is_said() {
        for kind in KEYED {
            let unknown = TokenRule {
                domain: Some(domain("lab")),
                ..rule(kind)
            };
            assert_eq!(
                Tokenizer::new(&unknown, &keys(1)).map(|_| ()),
                Err(TokenFault::MissingKey(domain("lab")))
            );
            let none = TokenRule {
                domain: None,
                ..rule(kind)
            };
            assert_eq!(
                Tokenizer::new(&none, &keys(1)).map(|_| ()),
                Err(TokenFault::NoDomain)
            );
        }
        let mask = TokenRule {
            domain: None,
            ..rule(TokenKind::Mask)
        };
        assert!(Tokenizer::new(&mask, &TokenKeys::default()).is_ok());
    }

    #[track_caller]
    fn joins(rule: &TokenRule, one: &str, other: &str) {
        let plain = self::rule(TokenKind::Cmac);
        assert_ne!(token(&plain, one), token(&plain, other));
        assert_eq!(token(rule, one), token(rule, other));
        assert_eq!(token(rule, one), token(&plain, other));
    }

    #[test]
    fn spellings_that_normalise_to_one_value_join() {
        let with = |steps: &[Normalise]| TokenRule {
            normalise: steps.to_vec(),
            ..rule(TokenKind::Cmac)
        };
        let (digits, lower, trim) = (Normalise::Digits, Normalise::Lower, Normalise::Trim);
        joins(
            &with(&[trim, lower]),
            " Ada@Example.ORG\t",
            "ada@example.org",
        );
        joins(&with(&[trim]), "\u{a0}x y\u{2003}", "x y");
        joins(&with(&[lower]), "ÄRGER", "ärger");
        joins(&with(&[lower]), "ΟΔΟΣ ΣΟΦΙΑΣ", "οδος σοφιας");
        joins(&with(&[lower]), "İ", "i\u{307}");
        joins(&with(&[digits]), "+49 (0)30-1234", "490301234");
        joins(&with(&[lower, digits]), "٣4a", "4");
    }

    #[test]
    fn lower_case_is_that_of_unicode_for_every_character() {
        let (mut text, mut before) = (String::new(), String::new());
        for c in '\0'..=char::MAX {
            let value = format!("ß{c}x");
            let got = normalise(&[Normalise::Lower], &value, &mut text, &mut before);
            assert_eq!(got, value.to_lowercase());
        }
    }

    #[test]
    fn the_kept_part_stays_readable_and_is_part_of_the_keyed_input() {
        let plain = |value| token(&rule(TokenKind::Cmac), value);
        let card = plain("4111111111111111");
        check(
            TokenKind::Cmac,
            Keep::Last(4),
            "4111111111111111",
            &format!("{card}1111"),
        );
        check(
            TokenKind::Cmac,
            Keep::First(2),
            "4111111111111111",
            &format!("41{card}"),
        );
        let mail = plain("a@b@example.org");
        check(
            TokenKind::Cmac,
            Keep::Domain,
            "a@b@example.org",
            &format!("{mail}@example.org"),
        );
        let mail = plain("ada");
        check(TokenKind::Cmac, Keep::Domain, "ada", &mail);
        assert_ne!(plain("a@example.org"), plain("a@example.com"));

        let rule = TokenRule {
            keep: Keep::Domain,
            normalise: vec![Normalise::Lower],
            ..rule(TokenKind::Cmac)
        };
        assert!(token(&rule, "ADA@EXAMPLE.ORG").ends_with("@example.org"));
    }

    #[test]
    fn a_value_no_longer_than_what_would_be_kept_keeps_nothing() {
        for value in ["", "4", "41", "äö"] {
            let plain = token(&rule(TokenKind::Hmac), value);
            check(TokenKind::Hmac, Keep::First(2), value, &plain);
            check(TokenKind::Hmac, Keep::Last(2), value, &plain);
            check(TokenKind::Hmac, Keep::Last(0), value, &plain);
            check(TokenKind::Hmac, Keep::First(0), value, &plain);
        }
        let plain = token(&rule(TokenKind::Hmac), "@example.org");
        check(TokenKind::Hmac, Keep::Domain, "@example.org", &plain);
        let plain = token(&rule(TokenKind::Hmac), "äöü");
        check(TokenKind::Hmac, Keep::Last(2), "äöü", &format!("{plain}öü"));
        check(
            TokenKind::Hmac,
            Keep::First(2),
            "äöü",
            &format!("äö{plain}"),
        );
    }

    #[test]
    fn redacted_cells_are_empty() {
        check(TokenKind::Redact, Keep::None, "Ada", "");
        check(TokenKind::Drop, Keep::None, "Ada", "");
    }

    #[test]
    fn debug_shows_neither_key_nor_value() {
        let rule = TokenRule {
            normalise: vec![Normalise::Lower],
            ..rule(TokenKind::Cmac)
        };
        let mut tokenizer = Tokenizer::new(&rule, &keys(1)).unwrap();
        tokenizer.token("canary", &mut Vec::new()).unwrap();
        assert_eq!(format!("{tokenizer:?}"), "Tokenizer(..)");
        assert!(!format!("{:?}", keys(1)).contains("[1"));
    }

    proptest! {
        #[test]
        fn base_32_is_that_of_rfc_4648(tag: [u8; 16]) {
            let text = String::from_utf8(base32(tag).to_vec()).unwrap();
            prop_assert_eq!(text, BASE32_NOPAD.encode(&tag).to_lowercase());
        }

        #[test]
        fn different_values_have_different_tokens(one in ".{0,40}", other in ".{0,40}") {
            for kind in KEYED {
                let equal = token(&rule(kind), &one) == token(&rule(kind), &other);
                prop_assert_eq!(equal, one == other);
            }
        }
    }
}
