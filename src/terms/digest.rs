//! Digests of whole files, and which function made them.

use std::fmt;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

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

/// Functions nothing of ours relies on, which some clients compare by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OldKind {
    /// RFC 1321.
    Md5,
    /// FIPS 180-4.
    Sha1,
}

/// Which of [`OldKind`] are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldKinds {
    /// [`OldKind::Md5`]
    pub md5: bool,
    /// [`OldKind::Sha1`]
    pub sha1: bool,
}

/// Digests by [`OldKind`], lower-case hexadecimal, where they were wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldDigests {
    /// [`OldKind::Md5`]
    pub md5: Option<String>,
    /// [`OldKind::Sha1`]
    pub sha1: Option<String>,
}

/// All digests of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// The one of its feed.
    pub digest: Digest,
    /// Those its sender's client compares by.
    pub old: OldDigests,
}

/// A digest being made. Feed it the bytes in order.
#[derive(Clone)]
pub struct Hasher {
    function: Function,
    old: OldHasher,
}

/// Digests by [`OldKind`] being made.
#[derive(Clone, Default)]
pub struct OldHasher {
    md5: Option<Box<md5::Context>>,
    sha1: Option<Box<Context>>,
}

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
        Self::with(kind, OldKinds::default())
    }

    /// The same, with others beside it.
    #[must_use]
    pub fn with(kind: DigestKind, old: OldKinds) -> Self {
        let function = match kind {
            DigestKind::Blake3 => Function::Blake3(Box::default()),
            DigestKind::Sha256 => Function::Sha256(Box::new(Context::new(&SHA256))),
        };
        let old = OldHasher::new(old);
        Self { function, old }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.old.update(bytes);
        match &mut self.function {
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
        let kind = match self.function {
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

    /// The same, with those beside it.
    #[must_use]
    pub fn finish_all(mut self) -> Digests {
        let old = std::mem::take(&mut self.old).finish();
        let digest = self.finish();
        Digests { digest, old }
    }
}

// === impl OldHasher ===

impl OldHasher {
    /// Digests of nothing yet.
    #[must_use]
    pub fn new(kinds: OldKinds) -> Self {
        let sha1 = || Box::new(Context::new(&SHA1_FOR_LEGACY_USE_ONLY));
        Self {
            md5: kinds.md5.then(|| Box::new(md5::Context::new())),
            sha1: kinds.sha1.then(sha1),
        }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.consume(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
    }

    /// The digests of all bytes so far.
    #[must_use]
    pub fn finish(self) -> OldDigests {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        OldDigests {
            md5: self.md5.map(|md5| hex(&md5.finalize().0)),
            sha1: self.sha1.map(|sha1| hex(sha1.finish().as_ref())),
        }
    }
}

// === impl OldKind ===

impl OldKind {
    /// `md5`, `sha1`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
        }
    }
}

// === impl OldKinds ===

impl OldKinds {
    /// Only this one.
    #[must_use]
    pub fn only(kind: OldKind) -> Self {
        Self {
            md5: kind == OldKind::Md5,
            sha1: kind == OldKind::Sha1,
        }
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            md5: self.md5 || other.md5,
            sha1: self.sha1 || other.sha1,
        }
    }
}

// === impl OldDigests ===

impl OldDigests {
    /// The one of a kind.
    #[must_use]
    pub fn get(&self, kind: OldKind) -> Option<&str> {
        match kind {
            OldKind::Md5 => self.md5.as_deref(),
            OldKind::Sha1 => self.sha1.as_deref(),
        }
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

    #[test]
    fn old_digests_are_made_where_they_are_wanted() {
        let kinds = OldKinds::only(OldKind::Md5).and(OldKinds::only(OldKind::Sha1));
        let mut hasher = Hasher::with(DigestKind::Sha256, kinds);
        hasher.update(b"a");
        hasher.update(b"bc");
        let made = hasher.finish_all();
        assert_eq!(made.digest.to_string().get(..13), Some("sha256 ba7816"));
        // RFC 1321 appendix A.5, FIPS 180-4's example.
        let expect = [
            (OldKind::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (OldKind::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ];
        for (kind, hex) in expect {
            assert_eq!(made.old.get(kind), Some(hex));
        }
        let none = OldHasher::new(OldKinds::default()).finish();
        assert_eq!(none, OldDigests::default());
    }
}
