//! The `cmac` kind: AES-256-CMAC (NIST SP 800-38B, RFC 4493), the whole tag of 128 bits.

use ::cmac::{Cmac, KeyInit, Mac};
use aes::Aes256Enc;

use crate::tokens::{Tag, length_prefix};

/// HKDF info of this kind's key; the number changes with the construction.
pub(super) const LABEL: &[u8] = b"sallyport token v1 cmac";

/// AES-256 with its key schedule, reset after every value.
pub(super) struct CmacKey(Cmac<Aes256Enc>);

// === impl CmacKey ===

impl CmacKey {
    /// Expands the key.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Cmac::new(key.into()))
    }

    /// The tag of the value, with its length before it.
    pub(super) fn tag(&mut self, text: &str) -> Tag {
        self.0.update(&length_prefix(text));
        self.0.update(text.as_bytes());
        self.0.finalize_reset().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// The key and the message of NIST SP 800-38B, appendix D.3 (AES-256).
    const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
    const MESSAGE: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                           30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";

    #[track_caller]
    fn check(key: &[u8], message: &[u8], expect: &str) {
        let mut mac = Cmac::<Aes256Enc>::new_from_slice(key).unwrap();
        // The second round shows that a reset leaves nothing of the first behind.
        for _ in 0..2 {
            mac.update(message);
            assert_eq!(HEXLOWER.encode(&mac.finalize_reset().into_bytes()), expect);
        }
    }

    #[test]
    fn the_cmac_we_build_on_gives_the_tags_of_sp_800_38b() {
        let key = HEXLOWER.decode(KEY.as_bytes()).unwrap();
        let message = HEXLOWER.decode(MESSAGE.as_bytes()).unwrap();
        check(&key, &message[..0], "028962f61b7bf89efc6b551f4667d983");
        check(&key, &message[..16], "28a7023f452e8f82bd4bf28d8c37c35c");
        check(&key, &message[..40], "aaf3d8f1de5640c232f5b169b9c911e6");
        check(&key, &message, "e1992190549f6ed5696a2c056c315410");
    }

    #[test]
    fn the_cmac_we_build_on_gives_the_tags_of_rfc_4493() {
        // RFC 4493 section 4 is AES-128: the same mode, the smaller key.
        let key = HEXLOWER
            .decode(b"2b7e151628aed2a6abf7158809cf4f3c")
            .unwrap();
        let message = HEXLOWER.decode(MESSAGE.as_bytes()).unwrap();
        for (bytes, expect) in [
            (0, "bb1d6929e95937287fa37d129b756746"),
            (16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (40, "dfa66747de9ae63030ca32611497c827"),
            (64, "51f0bebf7e3b9d92fc49741779363cfe"),
        ] {
            let mut mac = Cmac::<aes::Aes128>::new_from_slice(&key).unwrap();
            mac.update(&message[..bytes]);
            assert_eq!(HEXLOWER.encode(&mac.finalize().into_bytes()), expect);
        }
    }
}
