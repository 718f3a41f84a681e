//! Clients that never rename: a file closed under a partial name and left alone for the quiet window
//! of its feed is taken under its final name.

use std::net::{IpAddr, Ipv4Addr};

use crate::authority::Identity;
use crate::authority::permit::UploadPermit;
use crate::intake::Intake;
use crate::intake::recover::RecoverFault;
use crate::intake::submission::Evidence;
use crate::ledger::LedgerFault;
use crate::ledger::submissions::{Row, State};
use crate::policy::feed::Feed;
use crate::telemetry::Event;
use crate::terms::clock::Timestamp;
use crate::terms::ids::SubmissionId;
use crate::terms::path::VirtualPath;

impl Intake {
    /// Judges what has been left alone for long enough, unless `is_stopping`. Call it every few
    /// seconds.
    ///
    /// # Errors
    /// The ledger cannot be read; single files that fail are logged and tried again.
    pub async fn take_quiet(&self, is_stopping: impl Fn() -> bool) -> Result<(), LedgerFault> {
        for policy in self.0.authority.policies().policies.values() {
            for feed in &policy.feeds {
                let Some(before) = self.left_before(feed) else {
                    continue;
                };
                let ledger = &self.0.ledger;
                for id in ledger
                    .left_partial(&policy.partner, &feed.id, before)
                    .await?
                {
                    if is_stopping() {
                        return Ok(());
                    }
                    if let Err(fault) = self.take(id, before).await {
                        tracing::warn!(event = Event::SubmissionUnrecovered.as_str(), submission = %id, %fault);
                    }
                }
            }
        }
        Ok(())
    }

    /// What was left alone since then has been so for the feed's quiet window; `None`: it has none, or
    /// nobody could have touched anything for so long yet.
    fn left_before(&self, feed: &Feed) -> Option<Timestamp> {
        let micros = i64::try_from(feed.quiet_window_ms?).unwrap_or(i64::MAX);
        let before = self.now().plus_micros(-micros.saturating_mul(1000));
        (before >= self.0.started_at).then_some(before)
    }

    async fn take(&self, id: SubmissionId, before: Timestamp) -> Result<(), RecoverFault> {
        // Held, and looked at again: its client may go on with it at this moment.
        let Some((row, _hold)) = self.claim(id, State::Interrupted).await? else {
            return Ok(());
        };
        let ledger = &self.0.ledger;
        if !ledger.is_left_partial(id, before).await? {
            return Ok(());
        }
        let permit = match self.permit_for(&row).await? {
            Ok(permit) => permit,
            Err(why) => {
                // It stays until its time is over, and is looked at again until then.
                tracing::debug!(event = Event::SubmissionUnrecovered.as_str(), submission = %id, why);
                return Ok(());
            }
        };
        let origin = row.origin.clone();
        // A rejection has its receipt.
        drop(self.complete(permit, row, origin, Evidence::Quiet).await);
        Ok(())
    }

    /// The permit to give a file its final name, or why it keeps its partial one.
    async fn permit_for(&self, row: &Row) -> Result<Result<UploadPermit, String>, LedgerFault> {
        let path = match VirtualPath::parse(self.final_path_of(&row.path).as_bytes()) {
            Ok(path) if path.as_str() != row.path => path,
            Ok(_) => return Ok(Err("its name is final".to_owned())),
            Err(bad) => return Ok(Err(bad.to_string())),
        };
        // Under today's keys and policy, as its rename would be.
        let permit = match self.0.authority.may_open(&sender_of(row), &path) {
            Ok(permit) => permit,
            Err(refused) => return Ok(Err(refused.to_string())),
        };
        let before = self.left_before(permit.feed());
        if before.is_none_or(|before| row.moment >= before) {
            let why = "its feed has no quiet window any more, or a longer one";
            return Ok(Err(why.to_owned()));
        }
        let (ledger, path) = (&self.0.ledger, permit.path().as_str());
        if ledger.came_since(&row.partner, path, row.moment).await? {
            // Its client has gone on without it, and knows best.
            return Ok(Err(
                "its final name has a newer file, or one to be resumed".to_owned()
            ));
        }
        Ok(Ok(permit))
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
