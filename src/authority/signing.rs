//! Signing receipts and audit heads: Ed25519, armored sshsig (PROTOCOL.sshsig of OpenSSH).
//!
//! Anybody with `ssh-keygen -Y verify` can check what is signed here. Private keys are read from
//! unencrypted OpenSSH files that nobody else may read; they are never printed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use ring::signature::Ed25519KeyPair;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{LineEnding, Signature, SshSig};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::authority::partner_keys::EXAMPLE_FINGERPRINTS;
use crate::telemetry::Rng;
use crate::terms::limits;

/// The gateway's receipt key.
#[derive(Clone)]
pub struct ReceiptKey {
    /// Made once: `ssh_key` computes the pair anew for every signature, which was a tenth of a small
    /// file. It has signed in both namespaces when this was made.
    pair: Arc<Ed25519KeyPair>,
    public: Arc<PublicKey>,
}

/// Which statements a signature is for; part of what is signed.
pub const RECEIPT_NAMESPACE: &str = "sallyport-receipt";
/// The same for audit heads.
pub const AUDIT_NAMESPACE: &str = "sallyport-audit";

// === impl ReceiptKey ===

impl ReceiptKey {
    /// Reads an unencrypted OpenSSH private key file (mode 0600 or stricter).
    ///
    /// # Errors
    /// One sentence with file and remedy.
    pub fn read(path: &Path) -> Result<Self, String> {
        let key = read_private_key(path)?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(format!(
                "{}: receipts are signed with Ed25519, this key is {}; \
                 make one with: ssh-keygen -t ed25519 -N '' -f {0}",
                path.display(),
                key.algorithm()
            ));
        }
        let unusable = || {
            format!(
                "{}: the two halves of the key do not match; make a new one",
                path.display()
            )
        };
        let KeypairData::Ed25519(halves) = key.key_data() else {
            return Err(unusable());
        };
        let seed = Zeroizing::new(halves.private.to_bytes());
        let pair = Ed25519KeyPair::from_seed_and_public_key(&*seed, &halves.public.0)
            .map_err(|_| unusable())?;
        let made = Self {
            pair: Arc::new(pair),
            public: Arc::new(key.public_key().clone()),
        };
        for namespace in [RECEIPT_NAMESPACE, AUDIT_NAMESPACE] {
            let armored = made.sign(namespace, b"trial");
            if !made.verify(namespace, b"trial", &armored) {
                return Err(format!(
                    "{}: the key does not sign what its public half verifies; make a new one",
                    path.display()
                ));
            }
        }
        Ok(made)
    }

    /// Armored signature over `message`.
    #[must_use]
    pub fn sign(&self, namespace: &str, message: &[u8]) -> String {
        // Ed25519 signing is deterministic and the key has signed in both namespaces before: the
        // empty text can only come from an empty namespace, and no verifier takes it.
        SshSig::signed_data(namespace, HashAlg::Sha512, message)
            .and_then(|data| {
                let raw = self.pair.sign(&data).as_ref().to_vec();
                let signature = Signature::new(Algorithm::Ed25519, raw)?;
                let public = self.public.key_data().clone();
                SshSig::new(public, namespace, HashAlg::Sha512, signature)
            })
            .and_then(|signature| signature.to_pem(LineEnding::LF))
            .unwrap_or_default()
    }

    /// Checks an armored signature made with this key.
    #[must_use]
    pub fn verify(&self, namespace: &str, message: &[u8], armored: &str) -> bool {
        SshSig::from_pem(armored).is_ok_and(|signature| {
            // The version is not part of what is signed, and the parser takes older ones.
            signature.version() == SshSig::VERSION
                && self.public.verify(namespace, message, &signature).is_ok()
        })
    }

    /// The public half, one line: `ssh-ed25519 AAAA... receipts@<instance>`.
    #[must_use]
    pub fn public_line(&self, comment: &str) -> String {
        let mut public = (*self.public).clone();
        public.set_comment(comment);
        public.to_string()
    }
}

impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReceiptKey")
            .field(&self.public.fingerprint(HashAlg::Sha256).to_string())
            .finish()
    }
}

/// Reads an unencrypted OpenSSH private key that only its owner may read.
///
/// # Errors
/// One sentence with file and remedy.
pub fn read_private_key(path: &Path) -> Result<PrivateKey, String> {
    let text = read_secret(path)?;
    let key = PrivateKey::from_openssh(&*text).map_err(|_| {
        format!(
            "{}: not an OpenSSH private key; convert it with: ssh-keygen -p -N '' -f {0}",
            path.display()
        )
    })?;
    if key.is_encrypted() {
        return Err(format!(
            "{}: the key has a passphrase, and the gateway starts with nobody there to type it; \
             take it off with: ssh-keygen -p -N '' -f {0}",
            path.display()
        ));
    }
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    if EXAMPLE_FINGERPRINTS.contains(&fingerprint.as_str()) {
        return Err(format!(
            "{}: this is the example key; make your own with: sallyport init",
            path.display()
        ));
    }
    Ok(key)
}

/// Reads a small secret file that only its owner may read.
///
/// The rule is that of OpenSSH: the group bits of a file that belongs to somebody else are not
/// judged. systemd passes credentials as root's files with an access list, whose mask shows in
/// the group bits. A file that everybody may read is refused whoever owns it.
///
/// # Errors
/// One sentence with file and remedy.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |e: std::io::Error| {
        format!(
            "{}: cannot be read: {e}; `sallyport init` makes missing keys",
            path.display()
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let judged = if is_ours { 0o077 } else { 0o007 };
    if metadata.mode() & judged != 0 {
        return Err(format!(
            "{}: others may read this secret (mode {:04o}); run: chmod 600 {0}",
            path.display(),
            metadata.mode() & 0o7777
        ));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limits::PRIVATE_KEY_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

/// A new Ed25519 key: the private half as an OpenSSH file's text, the public half as one line.
///
/// # Errors
/// The system gives no randomness, or the comment cannot be written into a key.
pub fn generate_ed25519(rng: &Rng, comment: &str) -> Result<(Zeroizing<String>, String), String> {
    let seed = Zeroizing::new(rng.array::<32>().map_err(|e| e.to_string())?);
    let pair = Ed25519Keypair::from_seed(&seed);
    let key = PrivateKey::new(KeypairData::from(pair), comment)
        .map_err(|e| format!("cannot make a key: {e}"))?;
    let private = key
        .to_openssh(LineEnding::LF)
        .map_err(|e| format!("cannot write a key: {e}"))?;
    Ok((private, key.public_key().to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn write(folder: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn receipt_key() -> ReceiptKey {
        let folder = folder();
        let (private, _) = generate_ed25519(&Rng::system(), "receipts@test").unwrap();
        let path = write(folder.path(), "receipt", private.as_bytes(), 0o600);
        ReceiptKey::read(&path).unwrap()
    }

    #[test]
    fn what_is_signed_verifies() {
        let key = receipt_key();
        let armored = key.sign(RECEIPT_NAMESPACE, b"ACCEPTED");
        assert!(armored.starts_with("-----BEGIN SSH SIGNATURE-----\n"));
        assert!(armored.ends_with("-----END SSH SIGNATURE-----\n"));
        assert!(key.verify(RECEIPT_NAMESPACE, b"ACCEPTED", &armored));
    }

    #[test]
    fn another_text_namespace_key_or_signature_does_not_verify() {
        let key = receipt_key();
        let armored = key.sign(RECEIPT_NAMESPACE, b"ACCEPTED");
        assert!(!key.verify(RECEIPT_NAMESPACE, b"ACCEPTEE", &armored));
        assert!(!key.verify(AUDIT_NAMESPACE, b"ACCEPTED", &armored));
        assert!(!receipt_key().verify(RECEIPT_NAMESPACE, b"ACCEPTED", &armored));
        assert!(!key.verify(RECEIPT_NAMESPACE, b"ACCEPTED", ""));
        let body: Vec<&str> = armored.lines().filter(|l| !l.starts_with('-')).collect();
        let mut blob = data_encoding::BASE64
            .decode(body.concat().as_bytes())
            .unwrap();
        for at in 0..blob.len() {
            blob[at] ^= 1;
            let flipped = format!(
                "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
                data_encoding::BASE64.encode(&blob)
            );
            assert!(
                !key.verify(RECEIPT_NAMESPACE, b"ACCEPTED", &flipped),
                "byte {at}"
            );
            blob[at] ^= 1;
        }
    }

    #[test]
    fn an_empty_namespace_gives_nothing_that_verifies() {
        let key = receipt_key();
        let armored = key.sign("", b"x");
        assert!(!key.verify("", b"x", &armored));
    }

    #[test]
    fn a_generated_key_has_matching_halves_and_its_comment() {
        let folder = folder();
        let (private, public) = generate_ed25519(&Rng::system(), "receipts@gw-eu-1").unwrap();
        let path = write(folder.path(), "k", private.as_bytes(), 0o600);
        let key = ReceiptKey::read(&path).unwrap();
        assert_eq!(key.public_line("receipts@gw-eu-1"), public);
        assert!(public.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"));
        assert!(public.ends_with(" receipts@gw-eu-1"));
        let (other, _) = generate_ed25519(&Rng::system(), "receipts@gw-eu-1").unwrap();
        assert_ne!(*private, *other);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_exact_remedy() {
        let folder = folder();
        let (private, _) = generate_ed25519(&Rng::system(), "x").unwrap();
        for mode in [0o604, 0o640, 0o620, 0o644, 0o601] {
            let path = write(folder.path(), "k", private.as_bytes(), mode);
            let why = ReceiptKey::read(&path).unwrap_err();
            let remedy = format!("run: chmod 600 {}", path.display());
            assert!(why.contains(&remedy), "{why}");
            assert!(why.contains(&format!("{mode:04o}")), "{why}");
        }
        for mode in [0o600, 0o400, 0o700] {
            let path = write(folder.path(), "k", private.as_bytes(), mode);
            assert!(ReceiptKey::read(&path).is_ok());
        }
    }

    #[test]
    fn what_is_no_usable_key_is_refused_by_name() {
        let folder = folder();
        let check = |text: &[u8], hint: &str| {
            let path = write(folder.path(), "k", text, 0o600);
            let why = ReceiptKey::read(&path).unwrap_err();
            assert!(why.contains(hint), "{why}");
            assert!(why.contains(&path.display().to_string()), "{why}");
        };
        check(b"", "not an OpenSSH private key");
        check(b"\xff\xfe", "not an OpenSSH private key");
        let rng = &mut russh::keys::key::safe_rng();
        let openssh = |key: PrivateKey| key.to_openssh(LineEnding::LF).unwrap();
        let plain = PrivateKey::random(rng, Algorithm::Ed25519).unwrap();
        let locked = openssh(plain.encrypt(rng, "secret").unwrap());
        check(locked.as_bytes(), "ssh-keygen -p -N ''");
        let curve = russh::keys::EcdsaCurve::NistP256;
        let ecdsa = openssh(PrivateKey::random(rng, Algorithm::Ecdsa { curve }).unwrap());
        check(ecdsa.as_bytes(), "ssh-keygen -t ed25519");
        let why = ReceiptKey::read(&folder.path().join("absent")).unwrap_err();
        assert!(
            why.contains("absent") && why.contains("sallyport init"),
            "{why}"
        );
    }

    #[test]
    fn debug_shows_the_fingerprint_and_not_the_key() {
        let shown = format!("{:?}", receipt_key());
        assert!(
            shown.starts_with("ReceiptKey(\"SHA256:") && shown.len() < 70,
            "{shown}"
        );
    }
}
