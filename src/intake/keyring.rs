//! Data keys and token domain keys: made here, wrapped by the root, kept in the ledger.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::{Ledger, LedgerFault};
use crate::policy::contract::Contract;
use crate::seal::{DataKey, SealFault, WrappingKey};
use crate::telemetry::{NoRandomness, Rng};
use crate::terms::ids::{DomainName, PartnerId, SubmissionId};
use crate::terms::secret::Secret;
use crate::tokens::{DomainKey, TokenKeys};

/// Makes, wraps and unwraps keys.
pub(super) struct Keyring {
    ledger: Ledger,
    wrapping: Arc<WrappingKey>,
    rng: Rng,
    shared: BTreeSet<DomainName>,
    known: Mutex<HashMap<(String, DomainName), DomainKey>>,
}

/// Why a key is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFault {
    /// The ledger could not be asked.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// A wrapped key does not open: the root key is not the one it was wrapped with.
    #[error("{what} does not unwrap; is this the token.key the state directory was made with?")]
    Unwrap {
        /// Which key.
        what: String,
        /// The cause.
        #[source]
        source: SealFault,
    },
}

/// Which of a submission's data keys.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Out,
    Raw,
    Rejects,
}

// === impl Keyring ===

impl Keyring {
    pub(super) fn new(
        ledger: Ledger,
        wrapping: Arc<WrappingKey>,
        rng: Rng,
        shared: BTreeSet<DomainName>,
    ) -> Self {
        Self {
            ledger,
            wrapping,
            rng,
            shared,
            known: Mutex::new(HashMap::new()),
        }
    }

    /// A fresh data key of a submission, and its wrapped form for the ledger.
    pub(super) fn data_key(
        &self,
        id: SubmissionId,
        purpose: Purpose,
    ) -> Result<(DataKey, Vec<u8>), KeyFault> {
        let key = DataKey::new(self.rng.array()?);
        let wrapped = self
            .wrapping
            .wrap(key.expose(), &context(id, purpose), self.rng.array()?);
        Ok((key, wrapped))
    }

    /// A data key back from the ledger's row.
    pub(super) fn open_data_key(
        &self,
        id: SubmissionId,
        purpose: Purpose,
        wrapped: &[u8],
    ) -> Result<DataKey, KeyFault> {
        self.wrapping
            .unwrap(wrapped, &context(id, purpose))
            .map(|secret| DataKey::new(*secret.expose()))
            .map_err(|source| KeyFault::Unwrap {
                what: format!("the key of {id}"),
                source,
            })
    }

    /// The raw key of a submission wrapped as its output key: what was received is what is
    /// delivered.
    pub(super) fn hand_over(&self, id: SubmissionId, wrapped: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let key = self.open_data_key(id, Purpose::Raw, wrapped)?;
        let place = context(id, Purpose::Out);
        Ok(self.wrapping.wrap(key.expose(), &place, self.rng.array()?))
    }

    /// The current keys of every domain a contract names; missing ones are made.
    pub(super) async fn token_keys(
        &self,
        partner: &PartnerId,
        contract: &Contract,
    ) -> Result<TokenKeys, KeyFault> {
        let mut keys = TokenKeys::default();
        for domain in contract.domains() {
            let owner = if self.shared.contains(&domain) {
                "*".to_owned()
            } else {
                partner.to_string()
            };
            let key = self.domain_key(owner, &domain).await?;
            keys.insert(domain, key);
        }
        Ok(keys)
    }

    /// Keys that nobody keeps: for files that are only tried out.
    pub(super) fn throw_away_keys(&self, contract: &Contract) -> Result<TokenKeys, KeyFault> {
        let mut keys = TokenKeys::default();
        for domain in contract.domains() {
            let secret = Secret::new(self.rng.array::<32>()?);
            keys.insert(domain, DomainKey { kid: 1, secret });
        }
        Ok(keys)
    }

    async fn domain_key(&self, owner: String, domain: &DomainName) -> Result<DomainKey, KeyFault> {
        let slot = (owner, domain.clone());
        if let Some(key) = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&slot)
        {
            return Ok(key.clone());
        }
        let place = format!("domain {}/{domain}", slot.0).into_bytes();
        let known = self.ledger.domain_key(&slot.0, domain).await?;
        let row = match known {
            Some(row) => row,
            None => {
                let fresh = Secret::new(self.rng.array::<32>()?);
                let wrapped = self
                    .wrapping
                    .wrap(fresh.expose(), &place, self.rng.array()?);
                self.ledger
                    .create_domain_key(&slot.0, domain, wrapped)
                    .await?
            }
        };
        let secret = self
            .wrapping
            .unwrap(&row.wrapped, &place)
            .map_err(|source| KeyFault::Unwrap {
                what: format!("the key of token domain {domain}"),
                source,
            })?;
        let key = DomainKey {
            kid: row.kid,
            secret,
        };
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(slot, key.clone());
        Ok(key)
    }
}

fn context(id: SubmissionId, purpose: Purpose) -> Vec<u8> {
    match purpose {
        Purpose::Out => format!("out {id}"),
        Purpose::Raw => format!("raw {id}"),
        Purpose::Rejects => format!("rejects {id}"),
    }
    .into_bytes()
}
