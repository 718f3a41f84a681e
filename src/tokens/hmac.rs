//! The `hmac` kind: HMAC-SHA-256 (RFC 2104), the first 128 bits of the tag.

use ring::hmac::{Context, HMAC_SHA256, Key};

use crate::tokens::{Tag, length_prefix};

/// HKDF info of this kind's key; the number changes with the construction.
pub(super) const LABEL: &[u8] = b"sallyport token v1 hmac";

/// The key with both pads hashed in.
pub(super) struct HmacKey(Key);

// === impl HmacKey ===

impl HmacKey {
    /// Prepares the key.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// The front of the tag of the value, with its length before it.
    pub(super) fn tag(&self, text: &str) -> Tag {
        let mut context = Context::with_key(&self.0);
        context.update(&length_prefix(text));
        context.update(text.as_bytes());
        let mut front = Tag::default();
        for (slot, byte) in front.iter_mut().zip(context.sign().as_ref()) {
            *slot = *byte;
        }
        front
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[track_caller]
    fn check(key: &[u8], message: &[u8], expect: &str) {
        let tag = ring::hmac::sign(&Key::new(HMAC_SHA256, key), message);
        assert_eq!(HEXLOWER.encode(tag.as_ref()), expect);
    }

    #[test]
    fn the_hmac_we_build_on_gives_the_tags_of_rfc_4231() {
        check(
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        );
        check(
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        );
        check(
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        );
        check(
            &HEXLOWER
                .decode(b"0102030405060708090a0b0c0d0e0f10111213141516171819")
                .unwrap(),
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        );
        check(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
        check(
            &[0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size \
              data. The key needs to be hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        );
    }
}
