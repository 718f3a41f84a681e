//! Digests of whole files, and which function made them.

use std::fmt;

use ring::digest::{Context, SHA256};

/// Which function. A feed names one; it stands in receipts, metadata and duplicate checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestKind {
    /// BLAKE3, 32 bytes: several times cheaper.
    Blake3,
    /// SHA-256 (FIPS 180-4): partners can check it anywhere.
    Sha256,
}

/// 32 bytes that stand for a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Made by.
    pub kind: DigestKind,
    /// The value.
    pub bytes: [u8; 32],
}

/// A digest being made. Feed it the bytes in order.
#[derive(Clone)]
pub struct Hasher(Function);

#[derive(Clone)]
enum Function {
    Blake3(Box<blake3::Hasher>),
    Sha256(Box<Context>),
}

// === impl DigestKind ===

impl DigestKind {
    /// `sha256`, `blake3`: as in policies and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// `SHA-256`, `BLAKE3`: for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Blake3 => "BLAKE3",
            Self::Sha256 => "SHA-256",
        }
    }
}

// === impl Digest ===

impl Digest {
    /// Lower-case hexadecimal, 64 characters.
    #[must_use]
    pub fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.bytes)
    }

    /// The same, if it was made by this function.
    #[must_use]
    pub fn hex_of(&self, kind: DigestKind) -> Option<String> {
        (self.kind == kind).then(|| self.hex())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.hex())
    }
}

// === impl Hasher ===

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    /// A digest of nothing yet.
    #[must_use]
    pub fn new(kind: DigestKind) -> Self {
        Self(match kind {
            DigestKind::Blake3 => Function::Blake3(Box::default()),
            DigestKind::Sha256 => Function::Sha256(Box::new(Context::new(&SHA256))),
        })
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Function::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Function::Sha256(context) => context.update(bytes),
        }
    }

    /// The digest of all bytes so far.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        let kind = match self.0 {
            Function::Blake3(hasher) => {
                bytes = *hasher.finalize().as_bytes();
                DigestKind::Blake3
            }
            Function::Sha256(context) => {
                bytes.copy_from_slice(context.finish().as_ref());
                DigestKind::Sha256
            }
        };
        Digest { kind, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_come_out_however_the_input_is_cut() {
        for (kind, told) in [
            (
                DigestKind::Sha256,
                "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                DigestKind::Blake3,
                "blake3 6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
            ),
        ] {
            let mut whole = Hasher::new(kind);
            whole.update(b"abc");
            let mut cut = Hasher::new(kind);
            cut.update(b"a");
            cut.update(b"");
            cut.update(b"bc");
            assert_eq!(whole.finish().to_string(), told);
            assert_eq!(cut.finish().to_string(), told);
        }
    }
}
