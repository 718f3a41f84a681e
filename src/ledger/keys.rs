//! Token domain keys (wrapped), and partner keys that were revoked or have been used.

use rusqlite::{Connection, OptionalExtension};

use crate::ledger::audit::Act;
use crate::ledger::rows::Parsed;
use crate::ledger::submissions::SYSTEM;
use crate::ledger::{Ledger, LedgerFault, slots};
use crate::terms::clock::Timestamp;
use crate::terms::digest::OldKind;
use crate::terms::ids::{DomainName, PartnerId};
use crate::terms::path::quoted;

/// A domain key as it lies in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedDomainKey {
    /// Number inside the domain, from 1.
    pub kid: u32,
    /// Wrapped by the root.
    pub wrapped: Vec<u8>,
}

/// A revoked partner key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose key.
    pub partner: PartnerId,
    /// `SHA256:...`
    pub fingerprint: String,
    /// When.
    pub at: Timestamp,
}

// === impl Ledger ===

impl Ledger {
    /// The newest key of (owner, domain); `owner` is the partner id, or `*` for a shared domain.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn domain_key(
        &self,
        owner: &str,
        domain: &DomainName,
    ) -> Result<Option<WrappedDomainKey>, LedgerFault> {
        let (owner, domain) = (owner.to_owned(), domain.to_string());
        self.read(move |connection| Ok(newest(connection, &owner, &domain)?))
            .await
    }

    /// Some key of some domain, with owner and domain; `None` where none was ever made. Whoever
    /// cannot unwrap it has another root key.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn any_domain_key(
        &self,
    ) -> Result<Option<(String, String, WrappedDomainKey)>, LedgerFault> {
        self.read(|connection| {
            let sql = "SELECT d.owner, d.domain, d.kid, k.wrapped FROM domain_keys AS d
                 JOIN key_slots AS k ON k.slot = d.slot WHERE k.used = 1 LIMIT 1";
            let found = connection.query_row(sql, [], |row| {
                let slot: Vec<u8> = row.get(3)?;
                let key = WrappedDomainKey {
                    kid: row.get(2)?,
                    wrapped: slots::key_in(&slot).unwrap_or_default(),
                };
                Ok((row.get(0)?, row.get(1)?, key))
            });
            Ok(found.optional()?)
        })
        .await
    }

    /// Stores kid 1 of a new (owner, domain), audited; when two race, both get the one that won.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn create_domain_key(
        &self,
        owner: &str,
        domain: &DomainName,
        wrapped: Vec<u8>,
    ) -> Result<WrappedDomainKey, LedgerFault> {
        let (owner, domain) = (owner.to_owned(), domain.to_string());
        self.change(move |change| {
            if let Some(winner) = newest(change.connection(), &owner, &domain)? {
                return Ok(winner);
            }
            let slot = slots::keep_key(change.connection(), &wrapped)?;
            change.execute(
                "INSERT INTO domain_keys (owner, domain, kid, slot) VALUES (?1, ?2, 1, ?3)",
                (&owner, &domain, slot),
            )?;
            change.audit(&Act {
                actor: SYSTEM.to_owned(),
                action: "domain.create".to_owned(),
                subject: format!("{owner}/{domain}"),
                detail: "kid 1".to_owned(),
            })?;
            Ok(WrappedDomainKey { kid: 1, wrapped })
        })
        .await
    }

    /// Revokes a partner's key by fingerprint, audited with actor and reason. A key revoked before
    /// keeps its time; the second act is recorded as well.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn revoke_key(
        &self,
        partner: &PartnerId,
        fingerprint: &str,
        actor: &str,
        reason: &str,
    ) -> Result<(), LedgerFault> {
        let (partner, fingerprint) = (partner.to_string(), fingerprint.to_owned());
        let act = Act {
            actor: actor.to_owned(),
            action: "key.revoke".to_owned(),
            subject: partner.clone(),
            detail: format!(
                "{}: {}",
                quoted(&fingerprint, REASON_CHARS_MAX),
                quoted(reason, REASON_CHARS_MAX)
            ),
        };
        self.change(move |change| {
            change.execute(
                "INSERT INTO revocations (partner, fingerprint, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
                (&partner, &fingerprint, change.at().as_micros()),
            )?;
            Ok(change.audit(&act)?)
        })
        .await
    }

    /// All revocations, oldest first.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn revocations(&self) -> Result<Vec<Revocation>, LedgerFault> {
        let found = self.by_key("revocations").await?;
        let revocation = |(partner, fingerprint, at)| Revocation {
            partner,
            fingerprint,
            at,
        };
        Ok(found.into_iter().map(revocation).collect())
    }

    /// The client of a key compares by an old digest: what it sends is digested so too, from now on.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn want_old_digest(
        &self,
        partner: &PartnerId,
        fingerprint: &str,
        kind: OldKind,
    ) -> Result<(), LedgerFault> {
        let (partner, fingerprint) = (partner.to_string(), fingerprint.to_owned());
        self.change(move |change| {
            let sql = "INSERT INTO old_kinds (partner, fingerprint, kind) VALUES (?1, ?2, ?3)
                       ON CONFLICT DO NOTHING";
            change.execute(sql, (&partner, &fingerprint, kind.name()))?;
            Ok(())
        })
        .await
    }

    /// Every key that has asked for old digests, and for which.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn old_digests_wanted(
        &self,
    ) -> Result<Vec<(PartnerId, String, OldKind)>, LedgerFault> {
        self.read(|connection| {
            let mut statement =
                connection.prepare("SELECT partner, fingerprint, kind FROM old_kinds")?;
            let found = statement.query_map([], |row| {
                let kind = match row.get_ref(2)?.as_str()? {
                    "md5" => OldKind::Md5,
                    _ => OldKind::Sha1,
                };
                Ok((row.get::<_, Parsed<PartnerId>>(0)?.0, row.get(1)?, kind))
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Remembers that a key logged in (at most one write a minute and key).
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn key_used(
        &self,
        partner: &PartnerId,
        fingerprint: &str,
        at: Timestamp,
    ) -> Result<(), LedgerFault> {
        let (partner, fingerprint) = (partner.to_string(), fingerprint.to_owned());
        let asked = (partner.clone(), fingerprint.clone());
        let last: Option<i64> = self
            .read(move |connection| {
                let sql = "SELECT at FROM key_uses WHERE partner = ?1 AND fingerprint = ?2";
                Ok(connection
                    .query_row(sql, asked, |row| row.get(0))
                    .optional()?)
            })
            .await?;
        let age = last.map(|last| at.micros_since(Timestamp::from_micros(last)));
        if age.is_some_and(|age| age < KEY_USE_MICROS) {
            return Ok(());
        }
        self.change(move |change| {
            change.execute(
                "INSERT INTO key_uses (partner, fingerprint, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET at = max(at, excluded.at)",
                (&partner, &fingerprint, at.as_micros()),
            )?;
            Ok(())
        })
        .await
    }

    /// Last use of every key: (partner, fingerprint, when).
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn keys_used(&self) -> Result<Vec<(PartnerId, String, Timestamp)>, LedgerFault> {
        self.by_key("key_uses").await
    }

    /// `table` is one of this file's.
    async fn by_key(
        &self,
        table: &'static str,
    ) -> Result<Vec<(PartnerId, String, Timestamp)>, LedgerFault> {
        self.read(move |connection| {
            let sql = format!("SELECT partner, fingerprint, at FROM {table} ORDER BY at");
            let mut statement = connection.prepare(&sql)?;
            let found = statement.query_map([], |row| {
                let partner: Parsed<PartnerId> = row.get(0)?;
                Ok((partner.0, row.get(1)?, Timestamp::from_micros(row.get(2)?)))
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn newest(
    connection: &Connection,
    owner: &str,
    domain: &str,
) -> Result<Option<WrappedDomainKey>, rusqlite::Error> {
    connection
        .query_row(
            "SELECT d.kid, k.wrapped FROM domain_keys AS d JOIN key_slots AS k ON k.slot = d.slot
             WHERE d.owner = ?1 AND d.domain = ?2 AND k.used = 1 ORDER BY d.kid DESC LIMIT 1",
            (owner, domain),
            |row| {
                let slot: Vec<u8> = row.get(1)?;
                Ok(WrappedDomainKey {
                    kid: row.get(0)?,
                    wrapped: slots::key_in(&slot).unwrap_or_default(),
                })
            },
        )
        .optional()
}

/// One write a minute and key.
const KEY_USE_MICROS: i64 = 60_000_000;
/// Longest reason kept.
const REASON_CHARS_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixture::{Desk, acme, at};

    #[tokio::test]
    async fn when_two_make_a_domain_key_both_get_the_one_that_won() {
        let mut desk = Desk::new();
        let iban = DomainName::parse("iban").unwrap();
        assert_eq!(desk.ledger.domain_key("acme", &iban).await.unwrap(), None);
        assert_eq!(desk.ledger.any_domain_key().await.unwrap(), None);
        let (one, two, shared) = tokio::join!(
            desk.ledger.create_domain_key("acme", &iban, vec![1; 60]),
            desk.ledger.create_domain_key("acme", &iban, vec![2; 60]),
            desk.ledger.create_domain_key("*", &iban, vec![3; 60]),
        );
        let winner = one.unwrap();
        assert_eq!(winner, two.unwrap());
        assert_eq!(winner.kid, 1);
        assert_eq!(shared.unwrap().wrapped, vec![3; 60]);
        desk.restart().await;
        assert_eq!(
            desk.ledger.domain_key("acme", &iban).await.unwrap(),
            Some(winner)
        );
        let trail = desk.ledger.audit_after(None, 10).await.unwrap();
        let mut subjects: Vec<_> = trail.iter().map(|r| r.act.subject.as_str()).collect();
        subjects.sort_unstable();
        assert_eq!(subjects, ["*/iban", "acme/iban"]);
        let (owner, domain, key) = desk.ledger.any_domain_key().await.unwrap().unwrap();
        let iban = DomainName::parse(&domain).unwrap();
        assert_eq!(
            desk.ledger.domain_key(&owner, &iban).await.unwrap(),
            Some(key)
        );
    }

    #[tokio::test]
    async fn a_revoked_key_stays_revoked_with_its_first_time_and_every_reason() {
        let mut desk = Desk::new();
        let print = "SHA256:abc'); DROP TABLE revocations; --";
        desk.ledger
            .revoke_key(&acme(), print, "mona", "laptop stolen")
            .await
            .unwrap();
        desk.clock.advance_micros(9_000_000);
        desk.ledger
            .revoke_key(&acme(), print, "root", "again")
            .await
            .unwrap();
        desk.restart().await;
        let expect = Revocation {
            partner: acme(),
            fingerprint: print.to_owned(),
            at: at(0),
        };
        assert_eq!(desk.ledger.revocations().await.unwrap(), [expect]);
        let trail = desk.ledger.audit_after(None, 10).await.unwrap();
        let said: Vec<_> = trail
            .iter()
            .map(|r| (r.act.actor.as_str(), &r.act.detail))
            .collect();
        assert_eq!(said[0], ("mona", &format!("{print}: laptop stolen")));
        assert_eq!(said[1], ("root", &format!("{print}: again")));
    }

    #[tokio::test]
    async fn the_use_of_a_key_is_written_once_a_minute() {
        let desk = Desk::new();
        let mut seen = Vec::new();
        for seconds in [0, 59, 30, 60, 61] {
            desk.ledger
                .key_used(&acme(), "SHA256:abc", at(seconds))
                .await
                .unwrap();
            let used = desk.ledger.keys_used().await.unwrap();
            seen.push(used[0].2.micros_since(at(0)) / 1_000_000);
            assert_eq!((used.len(), used[0].1.as_str()), (1, "SHA256:abc"));
        }
        assert_eq!(seen, [0, 0, 0, 60, 60]);
    }
}
