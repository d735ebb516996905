//! Traffic of all kinds, whose every event must pass, and what the accounts hold in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use zlay::{
    limits::LARGE_EVENT_BYTES,
    sim::{
        Network,
        account::{Account, record},
        repo::Write,
    },
    threads::Stop,
};

use super::ledger::Ledger;

/// The collections, of which some begin like others.
pub(super) const NAMES: [&str; 12] = [
    "app.bsky.feed.post",
    "app.bsky.feed.like",
    "app.bsky.feed.repost",
    "app.bsky.graph.follow",
    "app.bsky.graph.follow.more",
    "app.bsky.actor.profile",
    "com.example.c",
    "com.example.c-x.y",
    "com.example.c.d",
    "com.example.cc",
    "net.example.z",
    "a.b.c",
];
/// Accounts of each host.
const ACCOUNTS_OF_A_HOST: usize = 6;
/// Accounts that there ever are, at most.
const ACCOUNTS_MAX: usize = 400;
/// Between two events that are sent.
const PACE: Duration = Duration::from_millis(2);
/// Events that have not come at which sending pauses: a busy machine must not make the hosts forget
/// what the relay has not read.
const OUTSTANDING_MAX: u64 = 400;

/// The accounts.
pub(super) struct World {
    network: Arc<Network>,
    rng: fastrand::Rng,
    accounts: Vec<Account>,
    /// Those that are deleted, for good.
    gone: Vec<Account>,
    /// Of how many hosts there are accounts.
    populated: usize,
}

impl World {
    pub(super) fn new(network: &Arc<Network>, seed: u64) -> World {
        World {
            network: network.clone(),
            rng: fastrand::Rng::with_seed(seed),
            accounts: Vec::new(),
            gone: Vec::new(),
            populated: 0,
        }
    }

    /// Sends events of the first so many hosts until the stop. The accounts stay at their hosts: an
    /// `#identity` of any other host, a former one included, passes once more when it is read again after
    /// a kill.
    pub(super) fn drive(&mut self, ledger: &Ledger, hosts: &AtomicUsize, stop: &Stop) {
        while !stop.wait(PACE) {
            let hosts = hosts.load(Ordering::Relaxed);
            while self.populated < hosts {
                for _ in 0..ACCOUNTS_OF_A_HOST {
                    self.arrive(self.populated);
                }
                self.populated += 1;
            }
            if self.network.expected().outstanding() < OUTSTANDING_MAX {
                self.step(ledger);
            }
        }
    }

    fn arrive(&mut self, host: usize) {
        let account = Account::random(&mut self.rng, host);
        self.network.register(&account);
        self.accounts.push(account);
    }

    fn step(&mut self, ledger: &Ledger) {
        let crowd = self.accounts.len() + self.gone.len();
        let at = self.rng.usize(..self.accounts.len());
        let account = &mut self.accounts[at];
        let host = account.host;
        if account.status.is_some() {
            // Of one that is not active its host says nothing but this.
            account.status = None;
            list(&self.network, account);
            ledger.publish(host, &account.account());
            return;
        }
        match self.rng.u8(..40) {
            0..4 => ledger.publish(host, &account.identity()),
            4..6 => ledger.publish(host, &account.account()),
            6..9 if account.head().is_some() => {
                let words = ["deactivated", "suspended", "hibernating"];
                account.status = Some(words[self.rng.usize(..words.len())]);
                list(&self.network, account);
                ledger.publish(host, &account.account());
            }
            9 if account.head().is_some() && crowd < ACCOUNTS_MAX => {
                let mut account = self.accounts.swap_remove(at);
                account.status = Some("deleted");
                list(&self.network, &account);
                ledger.publish(host, &account.account());
                self.gone.push(account);
                self.arrive(host);
            }
            10..12 if account.head().is_some() => {
                // One commit, which changes nothing, is not announced; the sync after it says so.
                account.commit(&[]);
                if let Some(sync) = account.sync() {
                    ledger.publish(host, &sync);
                }
            }
            _ => {
                let writes = match self.rng.u8(..) {
                    0 => vec![large_write(account)],
                    _ => writes(account, &mut self.rng),
                };
                let commit = account.commit(&writes);
                ledger.publish(host, &commit);
            }
        }
    }

    /// The accounts that are in the list of each collection.
    pub(super) fn holders(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mut holders: BTreeMap<_, BTreeSet<_>> =
            NAMES.map(|name| (name, BTreeSet::new())).into();
        for account in self.accounts.iter().filter(|a| a.status.is_none()) {
            for key in account.repo.tree().keys() {
                let name = key.split_once('/').map_or("", |(name, _)| name);
                if let Some(list) = holders.get_mut(name) {
                    list.insert(account.did().to_string());
                }
            }
        }
        holders
    }

    /// Every account, those that are gone too.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().chain(&self.gone)
    }
}

/// Its host lists an account as it is, which is ahead of what the relay has heard of it.
fn list(network: &Network, account: &Account) {
    network
        .host(account.host)
        .set_account(account.did(), account.hosted());
}

/// A record that makes a commit too large to be written at once.
pub(super) fn large_write(account: &Account) -> Write {
    let name = NAMES[0];
    let path = format!("{name}/{}", account.rkey(account.records()));
    let text = "large".repeat(LARGE_EVENT_BYTES / 5);
    Write::Put(path, record(name, &text, 0))
}

/// A few changes in any collections.
pub(super) fn writes(account: &Account, rng: &mut fastrand::Rng) -> Vec<Write> {
    let mut paths = BTreeSet::new();
    let mut writes = Vec::new();
    for n in 0..rng.u64(1..5) {
        let text = rng.u32(..).to_string();
        let known = account.repo.tree().pick(rng);
        let write = match (known, rng.u8(..20)) {
            (Some(path), 0..7) => Write::Delete(path.to_string()),
            (Some(path), 7..10) => Write::Put(path.to_string(), record("a.b.c", &text, n)),
            _ => {
                let name = NAMES[rng.usize(..NAMES.len())];
                let rkey = account.rkey(account.records() + n);
                Write::Put(format!("{name}/{rkey}"), record(name, &text, n))
            }
        };
        let (Write::Put(path, _) | Write::Delete(path)) = &write;
        if paths.insert(path.clone()) {
            writes.push(write);
        }
    }
    writes
}
