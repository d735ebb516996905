//! An account: its identity, its key, its repository, and the events it makes.

use std::sync::Arc;

use super::{
    clock,
    event::{self, Event},
    host::Hosted,
    keys::{Curve, Key},
    plc::{self, DocumentForm},
    repo::{Draft, Repo, Sealed, Signing, Write},
    tree::Block,
};
use crate::atproto::{cbor::Writer, cid::Cid, tid::Tid};

/// The time of the first record key: record keys come from a count, not from the clock, so that
/// the same seed makes the same trees.
const RKEY_EPOCH_MICROS: u64 = 1_704_067_200_000_000;
/// The last commit, kept for `#sync`.
type Head = Option<(Block, Tid)>;

/// An account of the simulated network. Cloning is cheap: a clone can make commits that the
/// original never made.
#[derive(Clone, Debug)]
pub struct Account {
    did: Arc<str>,
    /// Its handle.
    pub handle: String,
    /// Its signing key.
    pub key: Arc<Key>,
    /// The index of its host.
    pub host: usize,
    /// Why it is inactive; none when active.
    pub status: Option<&'static str>,
    /// How its document names its key.
    pub form: DocumentForm,
    /// Its repository.
    pub repo: Repo,
    head: Head,
    records: u64,
}

impl Account {
    /// A new active account of `host` without commits, all of it chosen by `rng`.
    pub fn random(rng: &mut fastrand::Rng, host: usize) -> Account {
        let curve = if rng.u8(..4) == 0 {
            Curve::P256
        } else {
            Curve::K256
        };
        Account::with_curve(rng, host, curve)
    }

    /// The same with a key on a curve of choice.
    pub fn with_curve(rng: &mut fastrand::Rng, host: usize, curve: Curve) -> Account {
        const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let name: String = (0..24)
            .map(|_| char::from(BASE32[rng.usize(..32)]))
            .collect();
        let form = match rng.u8(..10) {
            0 => DocumentForm::Legacy,
            1 => DocumentForm::MultikeyRelative,
            _ => DocumentForm::Multikey,
        };
        Account {
            handle: format!("{}.sim.test", &name[..12]),
            form,
            ..Account::with_did(rng, host, curve, &format!("did:plc:{name}"))
        }
    }

    /// A new active account of `host` with this DID.
    pub fn with_did(rng: &mut fastrand::Rng, host: usize, curve: Curve, did: &str) -> Account {
        let did: Arc<str> = did.into();
        Account {
            handle: "somebody.sim.test".into(),
            key: Arc::new(Key::random(curve, rng)),
            host,
            status: None,
            form: DocumentForm::Multikey,
            repo: Repo::new(did.clone()),
            head: None,
            records: 0,
            did,
        }
    }

    /// Its DID.
    pub fn did(&self) -> &Arc<str> {
        &self.did
    }

    /// The CID and revision of the last commit.
    pub fn head(&self) -> Option<(Cid, Tid)> {
        self.head.as_ref().map(|(block, rev)| (block.cid, *rev))
    }

    /// Its DID document, with this URL as its host's.
    pub fn document(&self, host_url: &str) -> String {
        plc::document(self.form, &self.did, &self.handle, &self.key, host_url)
    }

    /// What its host reports of it.
    pub fn hosted(&self) -> Hosted {
        Hosted {
            status: self.status.map(str::to_owned),
            head: self.head(),
        }
    }

    /// A write of a new post with this text.
    pub fn post(&self, text: &str) -> Write {
        let rkey = self.rkey(self.records);
        let record = record("app.bsky.feed.post", text, self.records);
        Write::Put(format!("app.bsky.feed.post/{rkey}"), record)
    }

    /// The record key of the `n`-th record of this account: a TID.
    pub fn rkey(&self, n: u64) -> Tid {
        // Distinct per account, so that layers differ too.
        let shift = self
            .did
            .bytes()
            .fold(7u64, |h, b| h.wrapping_mul(31) ^ u64::from(b));
        let micros = RKEY_EPOCH_MICROS + shift % 1_000_000_000 + n * 1_000_003;
        Tid::from_micros(micros, (shift & 0x3ff) as u16)
    }

    /// How many records it has written: the number of the next one.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The commit of `writes`, before it is signed. The repository has moved on.
    pub fn draft(&mut self, writes: &[Write]) -> Draft {
        self.records += writes.len() as u64;
        self.repo.draft(writes, clock::micros())
    }

    /// Signs a draft of this account and keeps it as its head.
    pub fn seal(&mut self, draft: Draft) -> Sealed {
        let rev = draft.rev;
        let sealed = draft.seal(&Signing::Valid(self.key.clone()));
        self.head = Some((sealed.commit.clone(), rev));
        sealed
    }

    /// Commits `writes`; no writes make an empty commit with a new revision.
    pub fn commit(&mut self, writes: &[Write]) -> Event {
        let draft = self.draft(writes);
        self.seal(draft).message.event()
    }

    /// A `#sync` of the last commit; none without one.
    pub fn sync(&self) -> Option<Event> {
        let (commit, rev) = self.head.as_ref()?;
        let car = event::car(1, &[commit.cid], std::slice::from_ref(commit));
        let rev = rev.to_string();
        Some(event::sync(&self.did, &rev, &car, clock::micros()))
    }

    /// An `#identity` with the handle.
    pub fn identity(&self) -> Event {
        event::identity(&self.did, Some(&self.handle), clock::micros())
    }

    /// An `#account` with the status.
    pub fn account(&self) -> Event {
        event::account(&self.did, self.status, clock::micros())
    }
}

/// A record of a type, with a text, and the count as its time.
pub fn record(kind: &str, text: &str, n: u64) -> Block {
    let mut out = Writer::new();
    out.map(4).text("text").text(text);
    out.text("$type").text(kind);
    out.text("langs").array(1).text("en");
    out.text("createdAt")
        .text(&clock::datetime(RKEY_EPOCH_MICROS + n * 1_000_003));
    Block::of_cbor(out.into_bytes())
}
