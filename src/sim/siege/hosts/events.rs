//! Hosts whose events are wrong, about others, or too many of one kind.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Behaviour, HostAttack, Place, floods::Flood, wire::Wire};
use crate::sim::{
    account::Account,
    clock,
    event::{self, Event},
    forge::{self, Flaw},
    keys::Curve,
};

/// Accounts of a host that says something of many.
const ACCOUNTS: usize = 90;
/// Events that are made ahead.
const EVENTS: usize = 1_500;
/// Accounts that a host makes, one event each: ten thousand a minute by three hosts.
const NEW_ACCOUNTS: usize = 1_000;
/// The largest seq that there is.
const SEQ_MAX: u64 = (1 << 53) - 1;

pub(super) fn all() -> Vec<HostAttack> {
    let second = &["events_per_second hit"];
    vec![
        HostAttack::new(
            "flood-invalid",
            "commits with every flaw that there is, as fast as they are taken",
            &["signature_invalid"],
            |place| Ok(Flood::boxed(flawed(place))),
        ),
        HostAttack::new(
            "flood-forged",
            "commits signed by another key, for each of which the directory would have to be asked",
            &["signature_invalid"],
            |place| Ok(Flood::boxed(forged(place))),
        ),
        HostAttack::new(
            "others-accounts",
            "commits and words about accounts of hosts that behave",
            &["wrong_host"],
            |place| Ok(Flood::boxed(of_others(place))),
        ),
        HostAttack::new(
            "identities",
            "news of the identity of many accounts of its own, over and over",
            second,
            |place| {
                let accounts = place.accounts(ACCOUNTS);
                Ok(Flood::boxed(
                    accounts.iter().map(Account::identity).collect(),
                ))
            },
        ),
        HostAttack::new(
            "others-identities",
            "news of the identity of accounts of hosts that behave, over and over",
            second,
            |place| {
                place.field.network.expected().allow_any_identity();
                let identity = |did| event::identity(did, None, clock::micros());
                Ok(Flood::boxed(others(place).iter().map(identity).collect()))
            },
        ),
        HostAttack::new(
            "unknown-identities",
            "news of the identity of accounts that do not exist",
            second,
            |place| Ok(Flood::boxed(of_nobody(place))),
        ),
        HostAttack::new(
            "new-accounts",
            "new accounts, all of them real, as fast as they are taken and far over the limit",
            &["account_limit"],
            |place| {
                let mut accounts = place.accounts(NEW_ACCOUNTS);
                let hello = |account: &mut Account| {
                    let post = account.post("hello");
                    account.commit(&[post])
                };
                Ok(Flood::boxed(accounts.iter_mut().map(hello).collect()))
            },
        ),
        HostAttack::new(
            "account-flapping",
            "accounts that are active and deactivated in turn",
            second,
            |place| Ok(Flood::boxed(flapping(place))),
        ),
        HostAttack::new(
            "seq-games",
            "seqs that go back, repeat, are zero, or jump as far as they can",
            &["seq_not_increasing"],
            |place| Ok(Box::new(SeqGames::new(place))),
        ),
    ]
}

/// Commits with each flaw in turn, of accounts whose first commit is a good one.
fn flawed(place: &Place<'_>) -> Vec<Event> {
    let mut accounts = place.accounts(2);
    let mut rng = fastrand::Rng::with_seed(place.seed);
    let other = accounts[1].did().clone();
    let account = &mut accounts[0];
    let post = account.post("the last good one");
    let mut events = vec![account.commit(&[post])];
    // Some have megabytes, so that a few of each are enough.
    for flaw in Flaw::ALL.iter().cycle().take(2 * Flaw::ALL.len()) {
        events.push(forge::forge(account, &other, *flaw, &mut rng));
    }
    events
}

/// Commits whose signatures are by another key.
fn forged(place: &Place<'_>) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(place.seed);
    let mut accounts = place.accounts(ACCOUNTS);
    let other = accounts[0].did().clone();
    for account in &mut accounts {
        let post = account.post("unsaid");
        account.commit(&[post]);
    }
    (0..EVENTS)
        .map(|n| forge::forge(&accounts[n % ACCOUNTS], &other, Flaw::WrongKey, &mut rng))
        .collect()
}

/// DIDs of accounts of hosts that behave.
fn others(place: &Place<'_>) -> Vec<Arc<str>> {
    let hosts = place.field.network.hosts().iter();
    hosts.flat_map(|host| host.dids()).collect()
}

/// What only their own hosts may say of them.
fn of_others(place: &Place<'_>) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(place.seed);
    let others = others(place);
    (0..EVENTS)
        .map(|n| {
            let did = &others[n % others.len()];
            let mut account = Account::with_did(&mut rng, 0, Curve::K256, did);
            match n % 3 {
                0 => event::account(did, Some("deleted"), clock::micros()),
                1 => {
                    let post = account.post("in the name of another");
                    account.commit(&[post])
                }
                _ => {
                    account.commit(&[]);
                    let sync = account.sync();
                    sync.unwrap_or_else(|| event::account(did, None, clock::micros()))
                }
            }
        })
        .collect()
}

/// News of accounts of which no directory knows.
fn of_nobody(place: &Place<'_>) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(place.seed);
    (0..EVENTS)
        .map(|_| {
            let account = Account::with_curve(&mut rng, 0, Curve::K256);
            place.field.network.expected().disregard(account.did());
            event::identity(account.did(), None, clock::micros())
        })
        .collect()
}

fn flapping(place: &Place<'_>) -> Vec<Event> {
    let accounts = place.accounts(10);
    (0..EVENTS)
        .map(|n| {
            let did = accounts[n / 2 % accounts.len()].did();
            let status = n.is_multiple_of(2).then_some("deactivated");
            event::account(did, status, clock::micros() + n as u64)
        })
        .collect()
}

/// Valid events under seqs of all kinds.
struct SeqGames {
    events: Vec<Event>,
    next: Mutex<usize>,
    connections: AtomicU64,
}

impl SeqGames {
    fn new(place: &Place<'_>) -> SeqGames {
        let mut account = place.accounts(1).remove(0);
        let next = |_| {
            let post = account.post("one, three, two");
            account.commit(&[post])
        };
        SeqGames {
            events: (0..EVENTS).map(next).collect(),
            next: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }
}

impl Behaviour for SeqGames {
    fn speak(&self, wire: &mut Wire, cursor: Option<u64>) -> io::Result<()> {
        let round = self.connections.fetch_add(1, Ordering::Relaxed);
        let base = cursor.unwrap_or_default().min(SEQ_MAX - 1_000);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        for n in 0.. {
            let event = &self.events[*next % self.events.len()];
            *next += 1;
            let seq = match n % 8 {
                0 => base + n + 1,
                1 => base + n,
                2 => 0,
                3 => base.saturating_sub(n),
                4 => base + n + 500,
                // Once, as nothing comes after it.
                5 if n > 200 && round % 2 == 1 => SEQ_MAX,
                _ => base,
            };
            wire.message(&event.frame(seq))?;
            if n > 400 {
                break;
            }
        }
        wire.cut();
        Ok(())
    }
}
