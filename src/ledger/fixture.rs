//! For the tests of this folder: a ledger in a temporary directory, and example submissions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::depot::spool::SealedLane;
use crate::ledger::submissions::{
    Acceptance, Beginning, Origin, Outcome, Partial, ReceiptDocuments, Resuming, Settlement, Whole,
};
use crate::ledger::{HeadSigner, Ledger, LedgerFault};
use crate::seal::Lane;
use crate::terms::clock::{ManualClock, Timestamp};
use crate::terms::digest::{Digest, DigestKind, OldDigests};
use crate::terms::ids::{FeedId, PartnerId, SubmissionId};

/// Its client goes on with a file.
pub(super) const RESUMED: Resuming = Resuming {
    closed: false,
    declared: None,
    in_a_file: false,
    moment: None,
};

/// A ledger, its folder and its clock.
pub(super) struct Desk {
    pub(super) ledger: Ledger,
    pub(super) clock: ManualClock,
    pub(super) folder: tempfile::TempDir,
}

impl Desk {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(at(0));
        let ledger = open(folder.path(), &clock).unwrap();
        Self {
            ledger,
            clock,
            folder,
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    /// Stops and opens again.
    pub(super) async fn restart(&mut self) {
        self.ledger.stop().await;
        self.ledger = open(self.folder.path(), &self.clock).unwrap();
    }

    /// How often `bytes` occur in the database and its log.
    pub(super) fn hits(&self, bytes: &[u8]) -> usize {
        ["state.db", "state.db-wal"]
            .map(|name| std::fs::read(self.folder.path().join(name)).unwrap_or_default())
            .iter()
            .map(|content| memchr::memmem::find_iter(content, bytes).count())
            .sum()
    }
}

pub(super) fn open(folder: &Path, clock: &ManualClock) -> Result<Ledger, LedgerFault> {
    Ledger::open(folder, Arc::new(clock.clone()), signer())
}

pub(super) fn signer() -> HeadSigner {
    Arc::new(|text| format!("signed {} bytes", text.len()))
}

/// Seconds after a certain day's noon.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_795_262_400_000_000 + seconds * 1_000_000)
}

pub(super) fn id(n: u32) -> SubmissionId {
    let mut random = [7; 10];
    random[6..].copy_from_slice(&n.to_be_bytes());
    SubmissionId::new(at(i64::from(n)), random)
}

pub(super) fn acme() -> PartnerId {
    PartnerId::parse("acme").unwrap()
}

pub(super) fn orders() -> FeedId {
    FeedId::parse("orders").unwrap()
}

pub(super) fn beginning(n: u32) -> Beginning {
    Beginning {
        id: id(n),
        partner: acme(),
        feed: orders(),
        path: format!("/inbox/orders_{n}.csv"),
        name: format!("orders_{n}.csv"),
        origin: Origin {
            channel: "sftp".to_owned(),
            address: "198.51.100.7:50022".to_owned(),
            client: "SSH-2.0-OpenSSH_9.2".to_owned(),
            key: "SHA256:9mfj8e2t".to_owned(),
        },
        policy_version: 3,
        policy_hash: [3; 32],
        opened_at: at(i64::from(n)),
        raw_key: format!("wrapped K_raw of {n}").into_bytes(),
        over: None,
    }
}

pub(super) fn partial(n: u32) -> Partial {
    Partial {
        declared: None,
        closed: false,
        bytes: 1000 + u64::from(n),
        raw_inline: Some(format!("sealed raw of {n}").into_bytes()),
        mtime: Some(1_795_000_000),
        at: at(i64::from(n) + 1),
    }
}

pub(super) fn whole(n: u32) -> Whole {
    Whole {
        digest: digest(n),
        old_digests: OldDigests::default(),
        raw: SealedLane {
            bytes: 2000 + u64::from(n),
            tag_digest: [4; 32],
            inline: Some(format!("sealed raw of {n}").into_bytes()),
        },
        mtime: Some(1_795_000_001),
        received_at: at(i64::from(n) + 2),
    }
}

pub(super) fn digest(n: u32) -> Digest {
    let mut bytes = [5; 32];
    bytes[28..].copy_from_slice(&n.to_be_bytes());
    content(bytes)
}

pub(super) fn content(bytes: [u8; 32]) -> Digest {
    let kind = DigestKind::Blake3;
    Digest { kind, bytes }
}

pub(super) fn accepted(n: u32) -> Settlement {
    Settlement {
        instead_of: None,
        whole: whole(n),
        decided_at: at(i64::from(n) + 3),
        rows: 6,
        errors_total: 0,
        rows_left_out: 0,
        drift: Vec::new(),
        codes: vec!["mixed-newlines".to_owned()],
        receipt: ReceiptDocuments {
            base: format!("orders_{n}.csv.{}.receipt", id(n).short()),
            text: b"accepted\r\n".to_vec(),
            json: b"{\"verdict\":\"accepted\"}".to_vec(),
            text_sig: b"signature of text".to_vec(),
            json_sig: b"signature of json".to_vec(),
            errors: None,
            errors_sig: None,
        },
        outcome: Outcome::Accepted(Box::new(Acceptance {
            out_key: Some(format!("wrapped K_out of {n}").into_bytes()),
            out: Some(SealedLane {
                bytes: 1900,
                tag_digest: [6; 32],
                inline: Some(format!("sealed out of {n}").into_bytes()),
            }),
            rejects: None,
            out_lane: Lane::Out,
            out_digest: Some(content([8; 32])),
            store: Some("lake".to_owned()),
            key: Some(format!("acme/orders/{}.csv", id(n))),
            metadata: vec![("feed".to_owned(), "orders".to_owned())],
            known_as: None,
            replaces: None,
        })),
        decision: None,
    }
}

/// What acceptance adds, to be changed.
pub(super) fn acceptance(settlement: &mut Settlement) -> &mut Acceptance {
    let Outcome::Accepted(acceptance) = &mut settlement.outcome else {
        panic!("not accepted");
    };
    acceptance
}

pub(super) fn held(n: u32) -> Settlement {
    Settlement {
        outcome: Outcome::Held,
        ..rejected(n)
    }
}

pub(super) fn rejected(n: u32) -> Settlement {
    Settlement {
        errors_total: 2,
        codes: vec!["missing-cell".to_owned(), "type-error".to_owned()],
        outcome: Outcome::Rejected,
        ..accepted(n)
    }
}
