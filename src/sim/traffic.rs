//! Mixed traffic over a network: what accounts do, chosen from the seed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Network,
    account::{self, Account},
    bursts::Bursts,
    event::Event,
    faults::{self, Faults},
    keys::Key,
    moving::Moves,
    plc::PlcFaults,
    repo::Write,
};
use crate::{
    limits::{COMMIT_OPS_MAX, RECORD_BYTES_MAX},
    reject::Reject,
    threads::Stop,
};

/// How often accounts that wait for something are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Without anyone who says what arrived, this long counts as arrived.
const UNCHECKED_SETTLED: Duration = Duration::from_secs(1);
/// Text of an ordinary record, in bytes, at most.
const TEXT_BYTES_MAX: usize = 3_000;
/// Accounts that are tried for one event before the event is given up.
const TRIES: usize = 20;
/// Events that may be behind the clock before the rate is given up.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Events a second of a host, at which many of them are about identities.
const HOST_DENSE: f64 = 100.0;
/// The same of one account.
const ACCOUNT_DENSE: f64 = 3.0;

/// What the traffic is like.
#[derive(Clone, PartialEq, Debug)]
pub struct Mix {
    /// Where all choices come from.
    pub seed: u64,
    /// Accounts of each host at the start.
    pub accounts: usize,
    /// Records of an account at the start, at most.
    pub records: usize,
    /// Events a second, over all hosts.
    pub rate: f64,
    /// When there are more of them.
    pub bursts: Option<Bursts>,
    /// Hosts without accounts, the last ones of the network: others may move there.
    pub spares: usize,
    /// The share of those who would join that do.
    pub newcomers: f64,
    /// How unevenly the events spread: host `n` gets a share of `1 / n^skew`.
    pub skew: f64,
    /// How much goes wrong.
    pub faults: Faults,
    /// Now and then a record of up to 1 MB.
    pub large: bool,
    /// Whether the directory fails now and then, where there are faults.
    pub directory_fails: bool,
    /// Whether a checker says what has arrived.
    pub checked: bool,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix {
            seed: 1,
            accounts: 10,
            records: 30,
            rate: 100.0,
            bursts: None,
            spares: 0,
            newcomers: 1.0,
            skew: 1.0,
            faults: Faults::None,
            large: false,
            directory_fails: true,
            checked: true,
        }
    }
}

impl Mix {
    /// Events a second, so long after the start.
    fn rate_at(&self, since_start: Duration) -> f64 {
        let burst = self.bursts.filter(|bursts| bursts.is_on(since_start));
        burst.map_or(self.rate, |bursts| bursts.rate)
    }

    /// Whether so many events a second of one host mean more identity events than a relay looks into
    /// one by one: about a tenth of all are.
    fn is_dense(&self, of_host: f64) -> bool {
        of_host > HOST_DENSE || of_host / self.accounts.max(1) as f64 > ACCOUNT_DENSE
    }
}

/// What was sent so far.
#[derive(Default, Debug)]
pub struct Sent {
    /// Events that the relay must forward.
    pub valid: AtomicU64,
    /// Events that it must not forward.
    pub invalid: AtomicU64,
    /// Other faults: lost connections, stalls, repetitions, frames to be ignored.
    pub faults: AtomicU64,
    /// Bytes of all events.
    pub bytes: AtomicU64,
    /// Choices that found no host ready for an event.
    pub skipped: AtomicU64,
}

/// What an account is in the middle of, once everything it has sent has arrived.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// Another key.
    Rotate,
    /// Another handle.
    Rename,
    /// Another host.
    Migrate,
    /// This other host.
    MoveTo(usize),
    /// The old host goes on talking about an account that has left.
    Echo(Box<Account>),
    /// Active again.
    Reactivate,
}

pub(super) struct Slot {
    pub(super) account: Account,
    /// The relay has heard of its repository.
    pub(super) seen: bool,
    /// Deleted for good.
    pub(super) gone: bool,
    pub(super) plan: Option<(Plan, Instant)>,
}

/// A running mix.
pub struct Traffic {
    pub(super) network: Arc<Network>,
    pub(super) mix: Mix,
    pub(super) rng: fastrand::Rng,
    pub(super) slots: Vec<Slot>,
    /// The accounts of each host.
    pub(super) by_host: Vec<Vec<usize>>,
    /// Sums of the shares of places.
    shares: Vec<f64>,
    /// The host in each place: the one in the first has most to say.
    pub(super) places: Vec<usize>,
    pub(super) moves: Option<Moves>,
    /// Accounts with a plan.
    planned: Vec<usize>,
    pub(super) faults: faults::State,
    sent: Arc<Sent>,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Traffic({} accounts)", self.slots.len())
    }
}

impl Traffic {
    /// Makes the accounts, with histories that nobody was told of.
    pub fn new(network: Arc<Network>, mix: Mix) -> Traffic {
        let all = network.len();
        let hosts = all.saturating_sub(mix.spares);
        let mut shares = Vec::with_capacity(hosts);
        let mut sum = 0.0;
        for i in 0..hosts {
            sum += 1.0 / ((i + 1) as f64).powf(mix.skew);
            shares.push(sum);
        }
        let away = mix.faults != Faults::None && mix.directory_fails;
        let rate = mix.bursts.map_or(mix.rate, |b| b.rate.max(mix.rate));
        if away || mix.is_dense(rate / sum) {
            network.expected().set_handles_optional();
        }
        let mut traffic = Traffic {
            faults: faults::State::new(all),
            rng: fastrand::Rng::with_seed(mix.seed),
            slots: Vec::with_capacity(hosts * mix.accounts),
            by_host: vec![Vec::new(); all],
            shares,
            places: (0..hosts).collect(),
            moves: None,
            planned: Vec::new(),
            sent: Arc::default(),
            network,
            mix,
        };
        for host in 0..hosts {
            for _ in 0..traffic.mix.accounts {
                let mut account = Account::random(&mut traffic.rng, host);
                let records = traffic.rng.usize(..=traffic.mix.records);
                let writes = traffic.creates(&account, records);
                account.commit(&writes);
                traffic.adopt(account, false);
            }
        }
        traffic
    }

    /// What was sent so far, to be read while it runs.
    pub fn sent(&self) -> Arc<Sent> {
        self.sent.clone()
    }

    /// The accounts now, in the order in which they were made.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.slots.iter().map(|slot| &slot.account)
    }

    fn adopt(&mut self, account: Account, seen: bool) -> usize {
        self.network.register(&account);
        let index = self.slots.len();
        self.by_host[account.host].push(index);
        self.slots.push(Slot {
            account,
            seen,
            gone: false,
            plan: None,
        });
        index
    }

    /// Sends events at the chosen rate until `end` or the stop.
    pub fn run(&mut self, stop: &Stop, end: Instant) {
        let began = Instant::now();
        let mut due = began;
        let mut look = due;
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            let wait = due.min(look).saturating_duration_since(now);
            // Without anything to wait for, a look at the stop is enough.
            let stopped = if wait.is_zero() {
                stop.requested()
            } else {
                stop.wait(wait)
            };
            if stopped {
                break;
            }
            let now = Instant::now();
            if now >= look {
                self.look();
                look = now + LOOK_INTERVAL;
            }
            if now >= due {
                self.step();
                let rate = self.mix.rate_at(now - began).max(0.001);
                let interval = Duration::from_secs_f64(1.0 / rate);
                due = (due + interval).max(now.checked_sub(BEHIND_MAX).unwrap_or(now));
            }
        }
        self.calm();
    }

    /// Ends every fault that lasts.
    fn calm(&mut self) {
        self.network.plc().set_faults(PlcFaults::default());
        for host in self.network.hosts() {
            host.set_refuses(false);
            host.set_inclusive(false);
        }
    }

    /// One event, or one fault.
    pub fn step(&mut self) {
        if self.fault() {
            return;
        }
        for _ in 0..TRIES {
            let host = self.pick_host();
            if self.is_ready(host)
                && let Some(slot) = self.pick_account(host)
            {
                return self.act(slot);
            }
        }
        self.sent.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// A commit of an account of `host` with one new record that has a text of so many bytes, not
    /// published yet. Where every account is in the middle of something, a new one makes it.
    pub fn large_commit(&mut self, host: usize, bytes: usize) -> Event {
        let slot = self.pick_account(host).unwrap_or_else(|| {
            let account = Account::random(&mut self.rng, host);
            self.adopt(account, true)
        });
        let text = words(&mut self.rng, bytes.min(RECORD_BYTES_MAX - 200));
        self.slots[slot].seen = true;
        let account = &mut self.slots[slot].account;
        let write = account.post(&text);
        account.commit(&[write])
    }

    /// Whether a host has a consumer and keeps up.
    pub(super) fn is_ready(&self, host: usize) -> bool {
        let host = self.network.host(host);
        host.connections() > 0 && !host.is_congested()
    }

    pub(super) fn pick_host(&mut self) -> usize {
        let total = self.shares.last().copied().unwrap_or(0.0);
        let at = self.rng.f64() * total;
        let place = self.shares.partition_point(|sum| *sum <= at);
        self.places[place.min(self.places.len().saturating_sub(1))]
    }

    /// An active account of the host that is in the middle of nothing.
    pub(super) fn pick_account(&mut self, host: usize) -> Option<usize> {
        let all = &self.by_host[host];
        for _ in 0..TRIES.min(all.len()) {
            let index = all[self.rng.usize(..all.len())];
            let slot = &self.slots[index];
            if slot.plan.is_none() && !slot.gone && slot.account.status.is_none() {
                return Some(index);
            }
        }
        None
    }

    pub(super) fn publish(&mut self, slot: usize, event: &Event) {
        let account = &self.slots[slot].account;
        self.network
            .host(account.host)
            .set_account(account.did(), account.hosted());
        self.network.publish(account.host, event);
        self.faults.count_event(account.host);
        self.sent.valid.fetch_add(1, Ordering::Relaxed);
        self.sent
            .bytes
            .fetch_add(event.size() as u64, Ordering::Relaxed);
    }

    pub(super) fn publish_invalid(&mut self, host: usize, event: &Event, reject: Reject) {
        self.network.publish_invalid(host, event, reject);
        self.sent.invalid.fetch_add(1, Ordering::Relaxed);
        self.sent
            .bytes
            .fetch_add(event.size() as u64, Ordering::Relaxed);
    }

    pub(super) fn count_fault(&self) {
        self.sent.faults.fetch_add(1, Ordering::Relaxed);
    }

    fn commit(&mut self, slot: usize, writes: &[Write]) {
        let event = self.slots[slot].account.commit(writes);
        self.slots[slot].seen = true;
        self.publish(slot, &event);
    }

    /// Something that an account does.
    fn act(&mut self, slot: usize) {
        match self.rng.u32(..1_000) {
            0..600 => self.write(slot, 1),
            600..730 => {
                let ops = self.rng.usize(2..=20);
                self.write(slot, ops);
            }
            730..733 => {
                let ops = self.rng.usize(100..=COMMIT_OPS_MAX);
                self.write(slot, ops);
            }
            733..780 => self.commit(slot, &[]),
            780..800 => self.wipe(slot),
            800..850 => self.sync(slot),
            850..900 => {
                let event = self.slots[slot].account.identity();
                self.publish(slot, &event);
            }
            900..915 => self.plan(slot, Plan::Rename),
            915..930 => self.plan(slot, Plan::Rotate),
            930..945 => self.plan(slot, Plan::Migrate),
            945..970 => self.deactivate(slot),
            970..985 if self.rng.f64() < self.mix.newcomers => self.create_account(slot),
            970..985 => self.write(slot, 1),
            _ => self.lose_commit(slot),
        }
    }

    /// A commit of `ops` creates, updates and deletes.
    fn write(&mut self, slot: usize, ops: usize) {
        let account = &self.slots[slot].account;
        let (mut writes, mut touched) = (Vec::with_capacity(ops), Vec::new());
        for _ in 0..ops {
            let existing = match self.rng.u8(..10) {
                0..6 => None,
                _ => account.repo.tree().pick(&mut self.rng),
            };
            let existing = existing.filter(|path| !touched.contains(path));
            let number = account.records() + writes.len() as u64;
            writes.push(match existing {
                Some(path) => {
                    touched.push(path.clone());
                    if self.rng.bool() {
                        Write::Delete(path.to_string())
                    } else {
                        let text = text(&mut self.rng, ops);
                        let record = account::record(kind(&path), &text, number);
                        Write::Put(path.to_string(), record)
                    }
                }
                None => create(&mut self.rng, account, number, ops, self.mix.large),
            });
        }
        self.commit(slot, &writes);
    }

    fn creates(&mut self, account: &Account, count: usize) -> Vec<Write> {
        let numbers = account.records()..account.records() + count as u64;
        numbers
            .map(|n| create(&mut self.rng, account, n, count.max(2), false))
            .collect()
    }

    /// Deletes everything in one commit, and writes into the empty repository in the next.
    fn wipe(&mut self, slot: usize) {
        let tree = self.slots[slot].account.repo.tree();
        if tree.len() > COMMIT_OPS_MAX {
            return self.write(slot, COMMIT_OPS_MAX);
        }
        let keys = tree.keys();
        let deletes: Vec<_> = keys.iter().map(|k| Write::Delete(k.to_string())).collect();
        self.commit(slot, &deletes);
        self.write(slot, 3);
    }

    /// Changes that were not announced, and the `#sync` after them.
    fn sync(&mut self, slot: usize) {
        let writes = self.creates(&self.slots[slot].account.clone(), 2);
        let account = &mut self.slots[slot].account;
        account.commit(&writes);
        if let Some(event) = account.sync() {
            self.slots[slot].seen = true;
            self.publish(slot, &event);
        }
    }

    /// A commit that never arrives; the next one does not continue what is known, and passes.
    fn lose_commit(&mut self, slot: usize) {
        let writes = self.creates(&self.slots[slot].account.clone(), 1);
        self.slots[slot].account.commit(&writes);
        self.write(slot, 1);
    }

    fn create_account(&mut self, beside: usize) {
        let host = self.slots[beside].account.host;
        let account = Account::random(&mut self.rng, host);
        let records = [0, 0, 1, 5][self.rng.usize(..4)];
        let writes = self.creates(&account, records);
        let slot = self.adopt(account, true);
        let account = &self.slots[slot].account;
        for event in [account.identity(), account.account()] {
            self.publish(slot, &event);
        }
        self.commit(slot, &writes);
        // A PDS says so once more; it is not news.
        if self.mix.faults != Faults::None
            && let Some(event) = self.slots[slot].account.sync()
        {
            self.publish_invalid(host, &event, Reject::RevStale);
        }
    }

    fn deactivate(&mut self, slot: usize) {
        let status = match self.rng.u8(..10) {
            0..5 => "deactivated",
            5..7 => "takendown",
            7..9 => "suspended",
            _ => "deleted",
        };
        let account = &mut self.slots[slot].account;
        account.status = Some(status);
        let event = account.account();
        self.publish(slot, &event);
        if self.slots[slot].seen && self.mix.faults != Faults::None {
            let mut copy = self.slots[slot].account.clone();
            let event = copy.commit(&[copy.post("while inactive")]);
            self.publish_invalid(copy.host, &event, Reject::AccountInactive);
        }
        // An identity passes all the same: when it has arrived, so has what was before it.
        let event = self.slots[slot].account.identity();
        self.publish(slot, &event);
        if status == "deleted" {
            self.slots[slot].gone = true;
        } else {
            self.plan(slot, Plan::Reactivate);
        }
    }

    pub(super) fn plan(&mut self, slot: usize, plan: Plan) {
        self.slots[slot].plan = Some((plan, Instant::now()));
        self.planned.push(slot);
    }

    /// Carries out the plans of accounts whose events have all arrived.
    pub fn look(&mut self) {
        self.look_at_moves();
        let planned = std::mem::take(&mut self.planned);
        for slot in planned {
            let Some((plan, since)) = self.slots[slot].plan.take() else {
                continue;
            };
            let account = &self.slots[slot].account;
            let settled = if self.mix.checked {
                self.network.expected().is_settled(account.did())
            } else {
                since.elapsed() >= UNCHECKED_SETTLED
            };
            if settled && self.is_ready(account.host) {
                self.carry_out(slot, plan);
            } else {
                self.slots[slot].plan = Some((plan, since));
                self.planned.push(slot);
            }
        }
    }

    fn carry_out(&mut self, slot: usize, plan: Plan) {
        match plan {
            Plan::Rename => {
                let account = &mut self.slots[slot].account;
                account.handle = format!("n{}.{}", self.rng.u32(..), "sim.test");
                self.announce(slot);
            }
            Plan::Rotate => {
                let account = &mut self.slots[slot].account;
                account.key = Arc::new(Key::random(account.key.curve(), &mut self.rng));
                self.announce(slot);
                self.write(slot, 1);
            }
            Plan::Migrate => {
                let host = self.pick_host();
                self.migrate(slot, host);
            }
            // Where nobody has connected to it yet, this is planned again.
            Plan::MoveTo(host) => self.migrate(slot, host),
            Plan::Echo(old) => {
                let mut old = *old;
                old.status = Some("deactivated");
                self.publish_invalid(old.host, &old.account(), Reject::WrongHost);
                let event = old.commit(&[old.post("left behind")]);
                self.publish_invalid(old.host, &event, Reject::WrongHost);
            }
            Plan::Reactivate => {
                self.slots[slot].account.status = None;
                let account = &self.slots[slot].account;
                for event in [account.account(), account.identity()] {
                    self.publish(slot, &event);
                }
                self.write(slot, 1);
            }
        }
    }

    /// Updates the document and says so.
    fn announce(&mut self, slot: usize) {
        let account = &self.slots[slot].account;
        self.network.register(account);
        let event = account.identity();
        self.publish(slot, &event);
    }

    /// Goes to another host, if that is ready.
    fn migrate(&mut self, slot: usize, host: usize) {
        let old = self.slots[slot].account.clone();
        if host == old.host || !self.is_ready(host) {
            return;
        }
        self.by_host[old.host].retain(|other| *other != slot);
        self.by_host[host].push(slot);
        let mut left = old.hosted();
        left.status = Some("deactivated".into());
        self.network.host(old.host).set_account(old.did(), left);
        let account = &mut self.slots[slot].account;
        account.host = host;
        account.key = Arc::new(Key::random(account.key.curve(), &mut self.rng));
        self.announce(slot);
        let event = self.slots[slot].account.account();
        self.publish(slot, &event);
        self.write(slot, 1);
        if self.mix.faults != Faults::None {
            self.plan(slot, Plan::Echo(Box::new(old)));
        }
    }
}

/// The collection of a path.
fn kind(path: &str) -> &str {
    path.split_once('/')
        .map_or(path, |(collection, _)| collection)
}

/// Text of a realistic length: mostly short, sometimes long; shorter where there are many.
fn text(rng: &mut fastrand::Rng, ops: usize) -> String {
    let longest = (TEXT_BYTES_MAX / ops.max(1)).clamp(60, TEXT_BYTES_MAX);
    let len = match rng.u8(..10) {
        0..8 => rng.usize(20..60.max(longest / 8) + 1),
        _ => rng.usize(20..=longest),
    };
    words(rng, len)
}

/// `len` bytes of lower-case words.
fn words(rng: &mut fastrand::Rng, len: usize) -> String {
    (0..len)
        .map(|i| if i % 7 == 6 { ' ' } else { rng.lowercase() })
        .collect()
}

/// A write of a new record of some collection.
fn create(rng: &mut fastrand::Rng, account: &Account, n: u64, ops: usize, large: bool) -> Write {
    let collection = match rng.u8(..20) {
        0..8 => "app.bsky.feed.like",
        8..14 => "app.bsky.feed.post",
        14..16 => "app.bsky.feed.repost",
        16..18 => "app.bsky.graph.follow",
        18 => "app.bsky.feed.threadgate",
        _ => "com.example.sim.thing",
    };
    let text = if large && ops == 1 && rng.u16(..500) == 0 {
        let len = rng.usize(TEXT_BYTES_MAX..RECORD_BYTES_MAX - 200);
        words(rng, len)
    } else {
        text(rng, ops)
    };
    let record = account::record(collection, &text, n);
    Write::Put(format!("{collection}/{}", account.rkey(n)), record)
}
