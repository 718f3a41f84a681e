//! Digests that partners ask for: the one taken when a file arrived, and, for clients that compare by
//! them, MD5 and SHA-1.
//!
//! A client that has an old digest of one file wants it of every file it can name, or calls a good
//! transfer corrupt: so what it fetches, and what it has not finished sending, is digested when asked
//! for. What is accepted is gone from here; it was digested when it arrived, if its key had asked by
//! then.

use crate::authority::Identity;
use crate::authority::places::{self, Place};
use crate::intake::hold::LiveFile;
use crate::intake::inspection::{blocking, digest_of};
use crate::intake::keyring::Purpose;
use crate::intake::outbox::unreachable;
use crate::intake::view::{Fetched, absent, broken, canonical, shown};
use crate::intake::{Intake, Refusal, RefusalKind};
use crate::ledger::submissions::{Row, State};
use crate::seal::Lane;
use crate::terms::digest::{Digest, DigestKind, Hasher, OldDigests, OldHasher, OldKind, OldKinds};
use crate::terms::path::VirtualPath;

/// Bytes of an object in one piece.
const PIECE_BYTES: usize = 256 * 1024;

// === impl Intake ===

impl Intake {
    /// The digest, as taken when it arrived, of a file that is listed in the inbox.
    ///
    /// # Errors
    /// [`Refusal`]: no such file, or not whole yet.
    pub async fn digest(&self, who: &Identity, path: &VirtualPath) -> Result<Digest, Refusal> {
        let Some(row) = self.digested(who, path).await? else {
            // What else there is, or the reason why there is not.
            self.stat(who, path).await?;
            return Err(Refusal::new(
                RefusalKind::PermissionDenied,
                format!("{} was not sent by you: no digest was taken", shown(path)),
            ));
        };
        row.digest.ok_or_else(|| {
            let text = format!("{} is not whole yet", shown(path));
            Refusal::new(RefusalKind::Failure, text)
        })
    }

    /// The client of this key compares by an old digest. What it sends from now on has one.
    ///
    /// # Errors
    /// [`Refusal`]: the ledger.
    pub async fn want_old_digest(&self, who: &Identity, kind: OldKind) -> Result<(), Refusal> {
        let (partner, key) = (&who.partner, &who.fingerprint);
        let known = self.old_kinds(partner, key);
        if known == known.and(OldKinds::only(kind)) {
            return Ok(());
        }
        let ledger = &self.0.ledger;
        ledger
            .want_old_digest(partner, key, kind)
            .await
            .map_err(broken)?;
        self.remember_old_kind(partner, key, kind);
        Ok(())
    }

    /// The old digest of any file that can be named, hexadecimal.
    ///
    /// # Errors
    /// [`Refusal`]: no such file, or it arrived before anybody asked for this digest.
    pub async fn old_digest(
        &self,
        who: &Identity,
        path: &VirtualPath,
        kind: OldKind,
    ) -> Result<String, Refusal> {
        // Too late for a file that is gone from here; those that come are digested so.
        self.want_old_digest(who, kind).await?;
        let made = match self.digested(who, path).await? {
            None => self.digest_fetched(who, path, kind).await?,
            Some(row) if row.state == State::Interrupted => {
                self.digest_unfinished(who, &row, kind).await?
            }
            Some(row) => row.old_digests,
        };
        made.get(kind).map(str::to_owned).ok_or_else(|| {
            let text = format!(
                "{} arrived before this key asked for {}; its other digest is in the receipt",
                shown(path),
                kind.name()
            );
            Refusal::new(RefusalKind::Failure, text)
        })
    }

    /// The listed row at a path of the inbox; `None` for the other places.
    async fn digested(&self, who: &Identity, path: &VirtualPath) -> Result<Option<Row>, Refusal> {
        let policy = self.policy_of(who)?;
        let Place::InInbox { area, below, .. } = places::find(&policy, path) else {
            return Ok(None);
        };
        let path = canonical(&policy, area, below)?;
        let row = self
            .0
            .ledger
            .at_path(&who.partner, path.as_str(), self.visible_since())
            .await
            .map_err(broken)?;
        row.map(Some).ok_or_else(|| absent(&path))
    }

    /// Of a receipt, a help page, or a file of the outbox: by reading it.
    async fn digest_fetched(
        &self,
        who: &Identity,
        path: &VirtualPath,
        kind: OldKind,
    ) -> Result<OldDigests, Refusal> {
        let mut hasher = OldHasher::new(OldKinds::only(kind));
        match self.fetch(who, path).await? {
            Fetched::Whole(text) => hasher.update(&text),
            Fetched::Object(object) => {
                let mut offset = 0;
                while offset < object.facts.bytes {
                    let piece = object.read_at(offset, PIECE_BYTES).await;
                    let piece = piece.map_err(|fault| unreachable(&fault))?;
                    if piece.is_empty() {
                        let text = format!("{} changed while it was read", shown(path));
                        return Err(Refusal::new(RefusalKind::Failure, text));
                    }
                    hasher.update(&piece);
                    offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
                }
            }
        }
        Ok(hasher.finish())
    }

    /// Of the bytes there are of a file that is not finished: it waits for its rest, or its rename.
    async fn digest_unfinished(
        &self,
        who: &Identity,
        row: &Row,
        kind: OldKind,
    ) -> Result<OldDigests, Refusal> {
        let ours = |fault: &dyn std::fmt::Display| Refusal::ours("digest a partial file", fault);
        // Nobody else may go on with it meanwhile, also when who asked goes away: the hold is let go
        // where the reading ends.
        let file = LiveFile::new(row.bytes);
        let hold = self.hold(&who.partner, &row.path, &who.source.to_string(), &file)?;
        let row = self.0.ledger.submission(row.id).await.map_err(broken)?;
        let row = row.filter(|row| row.state == State::Interrupted);
        let row = row.ok_or_else(|| {
            Refusal::new(RefusalKind::Failure, "it has changed meanwhile; ask again")
        })?;
        let wrapped = row
            .raw_key
            .as_deref()
            .ok_or_else(|| ours(&"its key is gone"))?;
        let key = self
            .0
            .keyring
            .open_data_key(row.id, Purpose::Raw, wrapped)
            .map_err(|fault| ours(&fault))?;
        let inline = row.raw.as_ref().and_then(|raw| raw.inline.clone());
        let (spool, id, bytes) = (self.0.spool.clone(), row.id, row.bytes);
        // The feed's own digest is of no use for a part; its cost is little.
        let hasher = Hasher::with(DigestKind::Blake3, OldKinds::only(kind));
        let made = blocking(move || {
            let _held = hold;
            let raw = spool.resume(id, Lane::Raw, &key, inline.as_deref())?;
            // It may have been cut by its path, or go on behind a gap.
            digest_of(&raw.reader(), hasher, bytes)
        })
        .await
        .map_err(|fault| ours(&fault))?
        .map_err(|fault| ours(&fault))?;
        Ok(made.old)
    }
}
