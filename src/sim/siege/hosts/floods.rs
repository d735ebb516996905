//! Hosts that send events as fast as they can.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Behaviour, HostAttack, Place, wire::Wire};
use crate::sim::event::Event;

/// Accounts of a host that floods.
const ACCOUNTS: usize = 50;
/// Commits that it makes ahead.
const COMMITS: usize = 1_500;
/// The same of one that may say more.
const TRUSTED_COMMITS: usize = 6_000;

pub(super) fn all() -> Vec<HostAttack> {
    vec![
        HostAttack::new(
            "flood-valid",
            "valid commits of many accounts, as fast as they are taken",
            &["events_per_second hit"],
            |place| Ok(Flood::boxed(commits(place, ACCOUNTS, COMMITS))),
        ),
        HostAttack::new(
            "flood-one-account",
            "valid commits of one account, as fast as they are taken",
            &["events_per_second hit"],
            |place| Ok(Flood::boxed(commits(place, 1, COMMITS))),
        ),
        HostAttack::new(
            "flood-trusted",
            "the same by hosts that the operator trusts, with a hundred times the limit",
            &["received"],
            |place| Ok(Flood::boxed(commits(place, ACCOUNTS, TRUSTED_COMMITS))),
        )
        .trusted(),
    ]
}

/// Commits of so many accounts, in turn.
fn commits(place: &Place<'_>, accounts: usize, count: usize) -> Vec<Event> {
    let mut accounts = place.accounts(accounts);
    let many = accounts.len();
    (0..count)
        .map(|n| {
            let account = &mut accounts[n % many];
            let post = account.post("more and more and more of the same");
            account.commit(&[post])
        })
        .collect()
}

/// Events, one after another, and then the same again.
pub(super) struct Flood {
    events: Vec<Event>,
    next: Mutex<usize>,
    seq: AtomicU64,
}

impl Flood {
    pub(super) fn boxed(events: Vec<Event>) -> Box<dyn Behaviour> {
        Box::new(Flood {
            events,
            next: Mutex::default(),
            seq: AtomicU64::new(0),
        })
    }
}

impl Behaviour for Flood {
    fn speak(&self, wire: &mut Wire, cursor: Option<u64>) -> io::Result<()> {
        // Seqs never go back, also where the relay has not read all that was sent before.
        self.seq
            .fetch_max(cursor.unwrap_or_default(), Ordering::Relaxed);
        // One connection at a time, as the relay makes them.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let event = &self.events[*next % self.events.len()];
            let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
            wire.message(&event.frame(seq))?;
            *next += 1;
        }
    }
}
