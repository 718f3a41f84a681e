//! /outbox: files the organisation leaves for a partner, straight from their store. Removing one
//! acknowledges it.

use crate::authority::Identity;
use crate::depot::object::ObjectFacts;
use crate::depot::store::{Store, StoreFault};
use crate::intake::view::{
    Attributes, Entry, EntryKind, Fetched, absent, broken, file_of, is_a_folder,
};
use crate::intake::{Intake, Refusal, RefusalKind};
use crate::ledger::audit::Act;
use crate::policy::feed::Policy;
use crate::telemetry::Event;
use crate::terms::path::{VirtualPath, quoted};

// === impl Intake ===

impl Intake {
    pub(super) async fn list_outbox(
        &self,
        policy: &Policy,
        path: &VirtualPath,
        below: Option<&str>,
    ) -> Result<Vec<Entry>, Refusal> {
        let (store, key) = self.outbox(policy, below.unwrap_or_default())?;
        let found = store
            .list(key.trim_end_matches('/'))
            .await
            .map_err(|fault| unreachable(&fault))?;
        if found.is_empty() && below.is_some() {
            return Err(absent(path));
        }
        let entries = found.into_iter().map(|entry| Entry {
            attributes: self.attributes_in_outbox(entry.object),
            name: entry.name,
        });
        Ok(entries.collect())
    }

    pub(super) async fn stat_outbox(
        &self,
        policy: &Policy,
        path: &VirtualPath,
        below: &str,
    ) -> Result<Attributes, Refusal> {
        let (store, key) = self.outbox(policy, below)?;
        let fault = |fault: StoreFault| unreachable(&fault);
        if let Some(facts) = store.look(&key).await.map_err(fault)? {
            return Ok(self.attributes_in_outbox(Some(facts)));
        }
        if store.is_prefix(&key).await.map_err(fault)? {
            Ok(self.attributes_in_outbox(None))
        } else {
            Err(absent(path))
        }
    }

    pub(super) async fn fetch_outbox(
        &self,
        who: &Identity,
        policy: &Policy,
        path: &VirtualPath,
        below: &str,
    ) -> Result<Fetched, Refusal> {
        let (store, key) = self.outbox(policy, below)?;
        let fault = |fault: StoreFault| unreachable(&fault);
        let Some(object) = store.read(&key).await.map_err(fault)? else {
            return Err(if store.is_prefix(&key).await.map_err(fault)? {
                is_a_folder(path)
            } else {
                absent(path)
            });
        };
        tracing::info!(
            event = Event::OutboxOpened.as_str(),
            partner = %who.partner,
            client.address = %who.source,
            key = %who.fingerprint,
            object = %quoted(&key, 300),
            bytes = object.facts.bytes,
        );
        Ok(Fetched::Object(object))
    }

    /// REMOVE: the partner has it. Recorded before it is done; a second time is no harm.
    pub(super) async fn acknowledge(
        &self,
        who: &Identity,
        policy: &Policy,
        path: &VirtualPath,
        below: &str,
    ) -> Result<(), Refusal> {
        let (store, key) = self.outbox(policy, below)?;
        let fault = |fault: StoreFault| unreachable(&fault);
        let Some(facts) = store.look(&key).await.map_err(fault)? else {
            return Err(absent(path));
        };
        let act = Act {
            actor: who.partner.to_string(),
            action: "outbox.acknowledge".to_owned(),
            subject: format!("{}:{}", store.name(), quoted(&key, 300)),
            detail: format!("{} bytes, key {}", facts.bytes, who.fingerprint),
        };
        self.0.ledger.record(act).await.map_err(broken)?;
        store.remove(&key).await.map_err(fault)
    }

    /// The store and the key of a path in the outbox.
    fn outbox(&self, policy: &Policy, below: &str) -> Result<(Store, String), Refusal> {
        let outbox = policy.outbox.as_ref();
        let store = outbox.and_then(|outbox| self.0.stores.get(&outbox.store));
        match (outbox, store) {
            (Some(outbox), Some(store)) => Ok((store.clone(), format!("{}{below}", outbox.prefix))),
            _ => Err(Refusal::new(
                RefusalKind::Failure,
                "TRY LATER the outbox cannot be reached",
            )),
        }
    }

    fn attributes_in_outbox(&self, object: Option<ObjectFacts>) -> Attributes {
        match object {
            Some(facts) => Attributes {
                // Removing it is allowed.
                mode: 0o600,
                ..file_of(facts.bytes, facts.modified)
            },
            None => Attributes {
                kind: EntryKind::Folder,
                ..self.folder(0o700)
            },
        }
    }
}

/// A store that does not answer is not the partner's problem, but it is one.
pub(crate) fn unreachable(fault: &StoreFault) -> Refusal {
    tracing::error!(event = Event::IntakeFailed.as_str(), what = "read the outbox", cause = %fault);
    Refusal::new(
        RefusalKind::Failure,
        "TRY LATER the outbox cannot be reached at the moment",
    )
}
