//! Clients that never rename: a file closed under a partial name and left alone for the quiet window
//! of its feed is taken under its final name.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::authority::Identity;
use crate::intake::Intake;
use crate::intake::recover::RecoverFault;
use crate::intake::submission::Evidence;
use crate::ledger::LedgerFault;
use crate::ledger::submissions::{Row, State};
use crate::policy::feed::{Feed, Policy};
use crate::telemetry::Event;
use crate::terms::ids::SubmissionId;
use crate::terms::path::VirtualPath;

impl Intake {
    /// Judges what has been left alone for long enough. Call it every few seconds.
    ///
    /// # Errors
    /// The ledger cannot be read; single files that fail are logged and tried again.
    pub async fn take_quiet(&self) -> Result<(), LedgerFault> {
        for policy in self.0.authority.policies().policies.values() {
            for feed in &policy.feeds {
                for id in self.left_alone(policy, feed).await? {
                    if let Err(fault) = self.take(id, policy, feed).await {
                        tracing::warn!(event = Event::SubmissionUnrecovered.as_str(), submission = %id, %fault);
                    }
                }
            }
        }
        Ok(())
    }

    async fn left_alone(
        &self,
        policy: &Policy,
        feed: &Feed,
    ) -> Result<Vec<SubmissionId>, LedgerFault> {
        let Some(quiet_ms) = feed.quiet_window_ms else {
            return Ok(Vec::new());
        };
        let micros = i64::try_from(quiet_ms)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000);
        let before = self.now().plus_micros(-micros);
        let ledger = &self.0.ledger;
        ledger.left_partial(&policy.partner, &feed.id, before).await
    }

    async fn take(
        &self,
        id: SubmissionId,
        policy: &Arc<Policy>,
        feed: &Feed,
    ) -> Result<(), RecoverFault> {
        // Held, and looked at again: its client may go on with it at this moment.
        let Some((row, _hold)) = self.claim(id, State::Interrupted).await? else {
            return Ok(());
        };
        if !self.left_alone(policy, feed).await?.contains(&id) {
            return Ok(());
        }
        let who = sender_of(&row);
        let Some(path) = self.final_path(&row.path) else {
            return Ok(());
        };
        // Under today's keys and policy, as its rename would be.
        let permit = match self.0.authority.may_open(&who, &path) {
            Ok(permit) => permit,
            Err(refused) => {
                // It stays until its time is over, and is looked at again until then.
                tracing::debug!(event = Event::SubmissionUnrecovered.as_str(), submission = %id, why = %refused);
                return Ok(());
            }
        };
        let origin = row.origin.clone();
        // A rejection has its receipt.
        drop(self.complete(permit, row, origin, Evidence::Quiet).await);
        Ok(())
    }

    fn final_path(&self, path: &str) -> Option<VirtualPath> {
        let path = VirtualPath::parse(path.as_bytes()).ok()?;
        let name = self.0.verdict.partial_names.final_name(path.name()?)?;
        path.parent().join(name).ok()
    }
}

/// Who sent a file, as the gate knows it.
fn sender_of(row: &Row) -> Identity {
    Identity {
        partner: row.partner.clone(),
        fingerprint: row.origin.key.clone(),
        comment: String::new(),
        source: row
            .origin
            .address
            .parse()
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    }
}
