//! Rank 1, pure: AEAD blocks and key wrapping. Randomness comes in as arguments.
//!
//! AES-256-GCM (NIST SP 800-38D) by ring, 96-bit nonces handed in by the caller, 128-bit tags.
//! Nothing here gives back a byte that was not authenticated, and no error tells more than that
//! the bytes do not open.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::terms::ids::SubmissionId;
use crate::terms::secret::Secret;

/// A submission's data key.
#[derive(Clone, Debug)]
pub struct DataKey(Secret<[u8; 32]>);

/// Wraps and unwraps data keys and domain keys; derived from the root key by HKDF-SHA-256.
pub struct WrappingKey {
    key: LessSafeKey,
}

/// Which of a submission's files an extent belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The tokenized output.
    Out,
    /// The bytes as the partner sent them.
    Raw,
    /// The rows that are left out of the output.
    Rejects,
}

/// Sealed bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// Wrong key, or flipped, moved, missing or replayed bytes.
    #[error("sealed bytes do not open: wrong key, or they were changed on disk")]
    DoesNotOpen,
}

/// A root key file that holds no root key. Never quotes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRootKey {
    /// All 32 bytes are the same: a placeholder, not a key.
    #[error("all 32 bytes are the same; put 32 random bytes there")]
    Constant,
    /// Neither 32 bytes nor a text of 32 bytes.
    #[error("{bytes} bytes; a root key is 32 random bytes, or 64 hex digits or base64 of them")]
    Length {
        /// Length of what was given.
        bytes: usize,
    },
    /// 32 characters of text, as a password or 16 bytes in hex would be.
    #[error("32 characters of text are not a key; put 32 random bytes or 64 hex digits there")]
    Text,
}

/// Seals and opens the extents of one lane of one submission.
pub struct Sealer {
    key: LessSafeKey,
    submission: SubmissionId,
    lane: Lane,
}

/// The root key out of the contents of its file: 32 raw bytes, or 64 hex digits or base64
/// (RFC 4648, padded or not) of them with white space around.
///
/// # Errors
/// [`BadRootKey`]: another length, a text where bytes should be, or a placeholder.
pub fn root_key(contents: &[u8]) -> Result<Secret<[u8; 32]>, BadRootKey> {
    let length = BadRootKey::Length {
        bytes: contents.len(),
    };
    let text = contents.trim_ascii();
    let key = if let Ok(raw) = <[u8; 32]>::try_from(contents) {
        if raw.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'..=b'\r')) {
            return Err(BadRootKey::Text);
        }
        Secret::new(raw)
    } else {
        let decoded = match text.len() {
            43 => BASE64_NOPAD.decode(text),
            44 => BASE64.decode(text),
            64 => HEXLOWER_PERMISSIVE.decode(text),
            _ => return Err(length),
        };
        let decoded = Zeroizing::new(decoded.map_err(|_| length)?);
        Secret::new(<[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| length)?)
    };
    let first = key.expose().first();
    if key.expose().iter().all(|b| Some(b) == first) {
        return Err(BadRootKey::Constant);
    }
    Ok(key)
}

// === impl DataKey ===

impl DataKey {
    /// From 32 fresh random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }
    /// The key bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

// === impl WrappingKey ===

impl WrappingKey {
    /// Derived from the 32-byte root key: HKDF-SHA-256 (RFC 5869) with a label of its own, so the
    /// root can serve other labels without either learning the other's key.
    #[must_use]
    pub fn derive(root: &Secret<[u8; 32]>) -> Self {
        let key = hkdf(root, WRAPPING_LABEL);
        Self { key: aead(&key) }
    }
    /// `nonce || ciphertext || tag`; `context` (who and what the key is for) is authenticated.
    #[must_use]
    pub fn wrap(&self, key: &[u8; 32], context: &[u8], nonce: [u8; 12]) -> Vec<u8> {
        let mut block = *key;
        let tag = seal_block(&self.key, nonce, context, &mut block);
        [nonce.as_slice(), &block, &tag].concat()
    }
    /// The key back.
    ///
    /// # Errors
    /// [`SealFault::DoesNotOpen`].
    pub fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret<[u8; 32]>, SealFault> {
        let (nonce, sealed) = wrapped
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealFault::DoesNotOpen)?;
        let mut block = Zeroizing::new(sealed.to_vec());
        let plain = open_block(&self.key, *nonce, context, &mut block)?;
        <[u8; 32]>::try_from(&*plain)
            .map(Secret::new)
            .map_err(|_| SealFault::DoesNotOpen)
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey(..)")
    }
}

// === impl Lane ===

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::Out, Self::Raw, Self::Rejects];

    /// The byte that stands for the lane in what is authenticated and in file headers.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Out => 2,
            Self::Raw => 1,
            Self::Rejects => 3,
        }
    }
}

// === impl Sealer ===

impl Sealer {
    /// For one lane of one submission.
    #[must_use]
    pub fn new(key: &DataKey, submission: SubmissionId, lane: Lane) -> Self {
        Self {
            key: aead(key.expose()),
            submission,
            lane,
        }
    }
    /// Encrypts `block` in place and returns its tag. Authenticated: submission, lane, seq, offset, length.
    pub fn seal(&self, seq: u64, offset: u64, nonce: [u8; 12], block: &mut [u8]) -> [u8; 16] {
        let data = self.authenticated(seq, offset, block.len());
        seal_block(&self.key, nonce, &data, block)
    }
    /// Decrypts `block` (ciphertext then tag) in place; the plaintext is the front part returned.
    /// After an error `block` holds nothing of use: no plaintext, and no ciphertext any more.
    ///
    /// # Errors
    /// [`SealFault::DoesNotOpen`].
    pub fn open<'b>(
        &self,
        seq: u64,
        offset: u64,
        nonce: [u8; 12],
        block: &'b mut [u8],
    ) -> Result<&'b mut [u8], SealFault> {
        let bytes = block
            .len()
            .checked_sub(MAX_TAG_LEN)
            .ok_or(SealFault::DoesNotOpen)?;
        let data = self.authenticated(seq, offset, bytes);
        open_block(&self.key, nonce, &data, block)
    }

    /// Submission id, lane, seq, offset, length: fixed widths, big endian, so that no two
    /// positions share one encoding.
    fn authenticated(&self, seq: u64, offset: u64, bytes: usize) -> [u8; AAD_BYTES] {
        let mut data = [0_u8; AAD_BYTES];
        let submission = self.submission.to_bytes();
        let parts = [
            submission.as_slice(),
            &[self.lane.code()],
            &seq.to_be_bytes(),
            &offset.to_be_bytes(),
            &u64::try_from(bytes).unwrap_or(u64::MAX).to_be_bytes(),
        ];
        for (slot, byte) in data.iter_mut().zip(parts.into_iter().flatten()) {
            *slot = *byte;
        }
        data
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("submission", &self.submission)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// HKDF-SHA-256 without salt, 32 bytes.
fn hkdf(secret: &Secret<[u8; 32]>, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0_u8; 32]);
    let filled = Salt::new(HKDF_SHA256, &[])
        .extract(secret.expose())
        .expand(&[label], HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()));
    assert!(filled.is_ok(), "HKDF-SHA-256 gives up to 8,160 bytes");
    key
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    let Ok(key) = UnboundKey::new(&AES_256_GCM, key) else {
        unreachable!("AES-256-GCM takes every key of 32 bytes")
    };
    LessSafeKey::new(key)
}

fn seal_block(key: &LessSafeKey, nonce: [u8; 12], aad: &[u8], block: &mut [u8]) -> [u8; 16] {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let Ok(tag) = key.seal_in_place_separate_tag(nonce, Aad::from(aad), block) else {
        unreachable!("AES-256-GCM seals blocks of up to 64 GiB")
    };
    let mut out = [0_u8; MAX_TAG_LEN];
    out.copy_from_slice(tag.as_ref());
    out
}

fn open_block<'b>(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    block: &'b mut [u8],
) -> Result<&'b mut [u8], SealFault> {
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), block)
        .map_err(|_| SealFault::DoesNotOpen)
}

/// HKDF info of the wrapping key; the number changes with the construction.
const WRAPPING_LABEL: &[u8] = b"sallyport wrapping key v1";
/// 16 submission, 1 lane, 8 seq, 8 offset, 8 length.
const AAD_BYTES: usize = 41;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: u8) -> SubmissionId {
        let mut bytes = [7; 16];
        bytes[15] = last;
        SubmissionId::from_bytes(bytes)
    }

    fn root() -> Secret<[u8; 32]> {
        Secret::new(std::array::from_fn(|at| u8::try_from(at).unwrap()))
    }

    #[test]
    fn a_block_opens_only_where_it_was_sealed() {
        let key = DataKey::new([9; 32]);
        let sealer = Sealer::new(&key, id(1), Lane::Raw);
        let mut block = b"4111 1111 1111 1111".to_vec();
        let tag = sealer.seal(3, 70, [1; 12], &mut block);
        block.extend_from_slice(&tag);
        assert!(!block.windows(4).any(|part| part == b"4111"));

        let open = |sealer: &Sealer, seq, offset, nonce, block: &[u8]| {
            let mut copy = block.to_vec();
            sealer
                .open(seq, offset, nonce, &mut copy)
                .map(|plain| plain.to_vec())
        };
        assert_eq!(
            open(&sealer, 3, 70, [1; 12], &block),
            Ok(b"4111 1111 1111 1111".to_vec())
        );
        let refused = Err(SealFault::DoesNotOpen);
        assert_eq!(open(&sealer, 4, 70, [1; 12], &block), refused);
        assert_eq!(open(&sealer, 3, 71, [1; 12], &block), refused);
        assert_eq!(open(&sealer, 3, 70, [2; 12], &block), refused);
        let other = Sealer::new(&key, id(2), Lane::Raw);
        assert_eq!(open(&other, 3, 70, [1; 12], &block), refused);
        let other = Sealer::new(&key, id(1), Lane::Out);
        assert_eq!(open(&other, 3, 70, [1; 12], &block), refused);
        let other = Sealer::new(&DataKey::new([8; 32]), id(1), Lane::Raw);
        assert_eq!(open(&other, 3, 70, [1; 12], &block), refused);
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert_eq!(open(&sealer, 3, 70, [1; 12], &bad), refused, "byte {at}");
            assert_eq!(open(&sealer, 3, 70, [1; 12], &block[..at]), refused);
        }
    }

    #[test]
    fn what_is_authenticated_is_fixed_width_and_in_order() {
        let sealer = Sealer::new(&DataKey::new([9; 32]), id(1), Lane::Out);
        let data = sealer.authenticated(0x0102, 0x0304, 0x0506);
        let expect = [
            [7; 15].as_slice(),
            &[1, 2],
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 0, 0, 0, 3, 4],
            &[0, 0, 0, 0, 0, 0, 5, 6],
        ]
        .concat();
        assert_eq!(data.as_slice(), expect);
    }

    #[test]
    fn a_wrapped_key_comes_back_only_in_its_context() {
        let wrapping = WrappingKey::derive(&root());
        let wrapped = wrapping.wrap(&[5; 32], b"domain acme/people 1", [3; 12]);
        assert_eq!(wrapped.len(), 60);
        let key = wrapping.unwrap(&wrapped, b"domain acme/people 1").unwrap();
        assert_eq!(key.expose(), &[5; 32]);
        assert!(wrapping.unwrap(&wrapped, b"domain acme/people 2").is_err());
        let other = WrappingKey::derive(&Secret::new([1; 32]));
        assert!(other.unwrap(&wrapped, b"domain acme/people 1").is_err());
        for at in 0..wrapped.len() {
            let mut bad = wrapped.clone();
            bad[at] ^= 0x80;
            assert!(wrapping.unwrap(&bad, b"domain acme/people 1").is_err());
            assert!(
                wrapping
                    .unwrap(&wrapped[..at], b"domain acme/people 1")
                    .is_err()
            );
        }
    }

    #[test]
    fn the_wrapping_key_is_hkdf_of_the_root() {
        // RFC 5869 written out with plain HMAC: one block of output is HMAC(PRK, info || 1).
        let hmac = |key: &[u8], data: &[u8]| {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
            ring::hmac::sign(&key, data).as_ref().to_vec()
        };
        let prk = hmac(&[0; 32], root().expose());
        let okm = hmac(&prk, b"sallyport wrapping key v1\x01");
        let by_hand = WrappingKey {
            key: aead(&okm.try_into().unwrap()),
        };
        let wrapped = by_hand.wrap(&[6; 32], b"c", [0; 12]);
        let key = WrappingKey::derive(&root()).unwrap(&wrapped, b"c").unwrap();
        assert_eq!(key.expose(), &[6; 32]);
    }

    #[test]
    fn a_root_key_file_is_bytes_hex_or_base64() {
        let want = root();
        let hex = data_encoding::HEXLOWER.encode(want.expose());
        let base64 = BASE64.encode(want.expose());
        for contents in [
            want.expose().to_vec(),
            hex.clone().into_bytes(),
            format!("{hex}\n").into_bytes(),
            format!("{}\r\n", hex.to_uppercase()).into_bytes(),
            base64.clone().into_bytes(),
            format!("{base64}\n").into_bytes(),
            format!("{}\n", base64.trim_end_matches('=')).into_bytes(),
        ] {
            let key = root_key(&contents).map(|key| *key.expose());
            assert_eq!(key, Ok(*want.expose()));
        }
    }

    #[test]
    fn what_is_no_root_key_is_refused_without_being_quoted() {
        let refusal = |contents: &[u8]| root_key(contents).map(|_| ()).unwrap_err();
        assert_eq!(refusal(b""), BadRootKey::Length { bytes: 0 });
        assert_eq!(refusal(&[1; 31]), BadRootKey::Length { bytes: 31 });
        assert_eq!(refusal(&[b'g'; 64]), BadRootKey::Length { bytes: 64 });
        assert_eq!(
            refusal(b"0123456789abcdef0123456789abcdef"),
            BadRootKey::Text
        );
        assert_eq!(
            refusal(b"correct horse battery staple 12\n"),
            BadRootKey::Text
        );
        assert_eq!(refusal(&[0; 32]), BadRootKey::Constant);
        assert_eq!(refusal("00".repeat(32).as_bytes()), BadRootKey::Constant);
    }

    #[test]
    fn debug_shows_no_key() {
        let key = DataKey::new([0xab; 32]);
        let text = format!(
            "{key:?} {:?} {:?}",
            WrappingKey::derive(&root()),
            Sealer::new(&key, id(1), Lane::Raw)
        );
        assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
    }
}
