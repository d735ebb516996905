//! Which lookup is next, who waits for it, and what a purge means for one that is under way: the
//! rules of the resolver pool, without its threads and its clock.
//!
//! A lookup satisfies those who asked before it began, and those who asked while it ran unless a
//! purge came between: then what it brings may be older than the purge. Those wait for the next
//! lookup, so that everybody waits for at most two, however often somebody else purges.
//!
//! The directory and the hosts of `did:web` have threads of their own, and of each what has failed
//! before has at most half of them: however many are slow, there is always a thread for the next one
//! that nobody has asked for yet.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use self::pool::{Pool, site};
use super::{
    budget::Budget,
    fair::{Asker, FairQueue},
};
use crate::{
    atproto::{
        did::{Did, Method},
        hostname::Hostname,
    },
    limits,
};

mod pool;
#[cfg(test)]
mod tests;

/// Every lookup that is queued, under way, or waiting to be tried again. `W` waits for one.
#[derive(Debug)]
pub(super) struct Lookups<W> {
    jobs: HashMap<Did, Job<W>>,
    plc: Pool,
    web: Pool,
    /// Sites of `did:web` that are being asked: each is asked for one document at a time, or who makes
    /// up names below one domain could have it flooded, and have all threads wait for it.
    sites: HashSet<String>,
    /// How many lookups hosts may cause of accounts that are not theirs.
    budget: Budget,
    /// Those that failed, by the time of the next attempt.
    delayed: BinaryHeap<Reverse<(u64, Did)>>,
    web_is_next: bool,
    /// Nothing is asked of the PLC directory before this time, in milliseconds.
    plc_paused_until: u64,
}

#[derive(Debug)]
struct Job<W> {
    /// Who waits, and how many purges there had been when they asked; in order of request.
    waiters: VecDeque<(u64, W)>,
    /// Whose turn it may take, each once: any of theirs; and how many purges there had been when they
    /// asked.
    askers: Vec<(u64, Asker)>,
    /// Of whose budget a lookup was taken, and what.
    taken: Option<(Hostname, u64)>,
    /// Purges since the job exists.
    purges: u64,
    /// How many of them had been when the lookup under way began.
    began: u64,
    running: bool,
    /// When the next attempt is due, where it waits for that.
    due: Option<u64>,
    /// A purge that was put off to this time, since the lookup under way began.
    put_off: Option<u64>,
    /// When those have their turn whom the lookup under way will not satisfy.
    next_due: Option<u64>,
    /// The cache is of no use to it.
    anew: bool,
    /// Nothing but an answer will do.
    insists: bool,
    failures: u32,
    /// When it was first asked for, in milliseconds.
    asked_at: u64,
}

/// What a purge makes of the answer of a lookup that was under way already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubt {
    /// There was none.
    None,
    /// The answer will do up to this time, in milliseconds.
    From(u64),
    /// The answer is outdated.
    Now,
}

/// Lookups for which the room is kept when there are none.
const KEEP_JOBS: usize = 1_024;

/// A lookup to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Next {
    /// Of whom.
    pub(super) did: Did,
    /// Whether to ask even where the cache has an answer by now.
    pub(super) anew: bool,
    /// Whether it failed before: it may take longer now.
    pub(super) again: bool,
}

impl<W> Lookups<W> {
    /// Nothing to look up yet; so many threads will ask the directory, and so many hosts of
    /// `did:web`.
    pub(super) fn new(plc: usize, web: usize) -> Lookups<W> {
        Lookups {
            jobs: HashMap::new(),
            plc: Pool::new(plc),
            web: Pool::new(web),
            sites: HashSet::new(),
            budget: Budget::default(),
            delayed: BinaryHeap::new(),
            web_is_next: false,
            plc_paused_until: 0,
        }
    }

    /// How many DIDs are queued, under way or waiting to be tried again.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// How many of them wait for nothing but their turn: not those of hosts that have used up what
    /// they may have. They are bounded by what each of these hosts may park.
    pub(super) fn in_turn(&self, now_ms: u64) -> usize {
        let held: usize = self.held(now_ms).map(|(_, count)| count).sum();
        self.jobs.len().saturating_sub(held)
    }

    /// The hosts that have used up what they may have, and want more.
    pub(super) fn hosts_held(&self, now_ms: u64) -> HashSet<Hostname> {
        self.held(now_ms).map(|(host, _)| host.clone()).collect()
    }

    /// Whether the host has had lookups that it has not made up for.
    pub(super) fn owes(&self, host: &Hostname, now_ms: u64) -> bool {
        self.budget.owes(host, now_ms)
    }

    /// Whether lookups of the host wait.
    pub(super) fn is_asker(&self, host: &Hostname) -> bool {
        let queues = self.plc.queues().into_iter().chain(self.web.queues());
        let asker = Some(host.clone());
        queues.into_iter().any(|queue| queue.has(&asker))
    }

    fn held(&self, now_ms: u64) -> impl Iterator<Item = (&Hostname, usize)> {
        let queues = self.plc.queues().into_iter().chain(self.web.queues());
        queues
            .flat_map(FairQueue::askers)
            .filter_map(move |(asker, count)| {
                let host = asker.as_ref()?;
                (self.budget.due(host, now_ms) > now_ms).then_some((host, count))
            })
    }

    /// Whether a lookup of `did` can be asked for now.
    pub(super) fn has_room(&self, did: &Did, now_ms: u64) -> bool {
        self.is_shorter_than(limits::IDENTITY_QUEUE_MAX, now_ms) || self.jobs.contains_key(did)
    }

    /// Whether fewer than `max` wait for their turn.
    pub(super) fn is_shorter_than(&self, max: usize, now_ms: u64) -> bool {
        self.jobs.len() < max || self.in_turn(now_ms) < max
    }

    /// Asks for a lookup, or joins the one that there is. With `anew`, one that is under way does
    /// not count.
    pub(super) fn add(
        &mut self,
        did: &Did,
        asker: Asker,
        waiter: Option<W>,
        anew: bool,
        now_ms: u64,
    ) {
        self.add_at(now_ms, did, asker, waiter, anew, now_ms);
    }

    /// The same for a lookup that is not made before `due`, unless somebody else asks for it.
    pub(super) fn add_at(
        &mut self,
        due: u64,
        did: &Did,
        asker: Asker,
        waiter: Option<W>,
        anew: bool,
        now_ms: u64,
    ) {
        if let Some(job) = self.jobs.get_mut(did) {
            // Who is to wait does not have what was asked for before.
            // Nor does who asks once a purge is due that was put off.
            let is_outdated = job.put_off.take_if(|due| *due <= now_ms).is_some();
            if anew || is_outdated || (job.running && due > now_ms) {
                job.purge();
            }
            let purges = job.purges;
            if purges > job.began {
                job.next_due = Some(job.next_due.map_or(due, |before| before.min(due)));
            }
            job.waiters.extend(waiter.map(|w| (purges, w)));
            // Who asks has a turn of its own: else a stranger who was quicker could make the account's
            // host wait as long as itself.
            if let Some(before) = job.askers.iter_mut().find(|(_, other)| *other == asker) {
                before.0 = purges;
            } else {
                job.askers.push((purges, asker.clone()));
                if !job.running && job.due.is_none() {
                    let again = job.failures > 0;
                    self.pool(did).queue(again).push(asker, did.clone());
                }
            }
            let Some(job) = self.jobs.get(did) else {
                return;
            };
            // What has failed is not tried sooner because others want it too.
            if job.failures == 0 && job.due.is_some_and(|later| due < later) {
                self.queue(did, due, now_ms);
            }
            return;
        }
        let job = Job {
            waiters: waiter.map(|w| (0, w)).into_iter().collect(),
            askers: vec![(0, asker)],
            taken: None,
            purges: 0,
            began: 0,
            running: false,
            due: None,
            put_off: None,
            next_due: None,
            anew,
            insists: false,
            failures: 0,
            asked_at: now_ms.max(due),
        };
        self.jobs.insert(did.clone(), job);
        self.queue(did, due, now_ms);
    }

    /// Lets the lookup of `did` have its turn from `due` on.
    fn queue(&mut self, did: &Did, due: u64, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(did) else {
            return;
        };
        if due > now_ms {
            job.due = Some(due);
            self.delayed.push(Reverse((due, did.clone())));
        } else {
            job.due = None;
            let (again, askers) = (job.failures > 0, job.askers.clone());
            let queue = self.pool(did).queue(again);
            for (_, asker) in askers {
                queue.push(asker, did.clone());
            }
        }
    }

    /// The lookup of `did` is not done before there is an answer.
    pub(super) fn insist(&mut self, did: &Did) {
        if let Some(job) = self.jobs.get_mut(did) {
            job.insists = true;
        }
    }

    /// Whether somebody waits for an answer and nothing else.
    pub(super) fn insists(&self, did: &Did) -> bool {
        self.jobs.get(did).is_some_and(|job| job.insists)
    }

    /// Asks for a lookup for which nobody waits, unless there is one.
    pub(super) fn refresh(&mut self, did: &Did, now_ms: u64) {
        if !self.jobs.contains_key(did) {
            self.add(did, None, None, true, now_ms);
        }
    }

    /// What a lookup of `did` brings that is already under way is outdated.
    pub(super) fn purge(&mut self, did: &Did) {
        if let Some(job) = self.jobs.get_mut(did) {
            job.purge();
        }
    }

    /// The same, but what it brings will do up to `due`.
    pub(super) fn put_off(&mut self, did: &Did, due: u64) {
        if let Some(job) = self.jobs.get_mut(did).filter(|job| job.running) {
            job.put_off = Some(job.put_off.map_or(due, |before| before.min(due)));
        }
    }

    /// Whether a lookup of `did` waits for its time.
    pub(super) fn is_delayed(&self, did: &Did) -> bool {
        self.jobs.get(did).is_some_and(|job| job.due.is_some())
    }

    /// Whether a lookup of `did` is under way.
    pub(super) fn is_running(&self, did: &Did) -> bool {
        self.jobs.get(did).is_some_and(|job| job.running)
    }

    /// Takes the lookup that is to be made next, if there is one that may be.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Next> {
        self.wake(now_ms);
        let turns = [self.web_is_next, !self.web_is_next];
        let (web, (asker, did)) = turns
            .into_iter()
            .find_map(|web| Some((web, self.pop(web, now_ms)?)))?;
        self.web_is_next = !web;
        if let Some(site) = site(&did) {
            self.sites.insert(site);
        }
        let job = self.jobs.get_mut(&did)?;
        job.running = true;
        job.began = job.purges;
        job.put_off = None;
        job.next_due = None;
        let (anew, again) = (job.anew, job.failures > 0);
        // What was asked for because of a doubt is counted elsewhere.
        if let (false, None, Some(host)) = (anew, &job.taken, &asker) {
            job.taken = Some((host.clone(), self.budget.take(host, now_ms)));
        }
        if job.askers.len() > 1 {
            let others = job.askers.clone();
            let queue = self.pool(&did).queue(again);
            for (_, other) in others.iter().filter(|(_, other)| *other != asker) {
                queue.remove(other, &did);
            }
        }
        Some(Next { did, anew, again })
    }

    /// Takes the next lookup of one method.
    fn pop(&mut self, web: bool, now_ms: u64) -> Option<(Asker, Did)> {
        let (budget, sites) = (&self.budget, &self.sites);
        let may = |asker: &Asker| {
            let host = asker.as_ref();
            host.is_none_or(|host| budget.due(host, now_ms) <= now_ms)
        };
        if web {
            let free = |did: &Did| site(did).is_none_or(|site| !sites.contains(&site));
            self.web.pop(may, free)
        } else if !self.is_plc_paused(now_ms) {
            self.plc.pop(may, |_| true)
        } else {
            None
        }
    }

    /// The lookup of `did` has shown whose account it is; `new` is whether that was not known here.
    pub(super) fn found(&mut self, did: &Did, host: Option<&Hostname>, new: bool) {
        let Some((asker, taken)) = self.jobs.get_mut(did).and_then(|job| job.taken.take()) else {
            return;
        };
        if Some(&asker) == host {
            self.budget.give_back(&asker, taken);
            if new {
                self.budget.grow(&asker);
            }
        }
    }

    /// Queues what is due for another attempt.
    pub(super) fn wake(&mut self, now_ms: u64) {
        while self.retry_due().is_some_and(|due| due <= now_ms) {
            let Some(Reverse((due, did))) = self.delayed.pop() else {
                return;
            };
            // Another time was set since where it is not this one.
            if self.jobs.get(&did).is_some_and(|job| job.due == Some(due)) {
                self.queue(&did, due, now_ms);
            }
        }
    }

    /// Asks nothing of the PLC directory for a while: for as long as it wants, if it has said so and
    /// that is reasonable.
    pub(super) fn pause_plc(&mut self, wanted: Option<Duration>, now_ms: u64) {
        let pause = wanted.unwrap_or(limits::IDENTITY_LIMITED_PAUSE).clamp(
            limits::IDENTITY_LIMITED_PAUSE_MIN,
            limits::IDENTITY_LIMITED_PAUSE_MAX,
        );
        let until = now_ms.saturating_add(millis(pause));
        self.plc_paused_until = self.plc_paused_until.max(until);
    }

    /// Whether the directory has said that it wants to be left alone until later.
    pub(super) fn is_plc_paused(&self, now_ms: u64) -> bool {
        now_ms < self.plc_paused_until
    }

    /// When there is something to do that can not be done yet, in milliseconds: an attempt at what
    /// failed, the end of a pause, or a lookup that a host may have again.
    pub(super) fn due(&self, now_ms: u64) -> Option<u64> {
        let resumes = self.is_plc_paused(now_ms).then_some(self.plc_paused_until);
        let held = self
            .held(now_ms)
            .map(|(host, _)| self.budget.due(host, now_ms));
        self.retry_due()
            .into_iter()
            .chain(resumes)
            .chain(held)
            .min()
    }

    fn retry_due(&self) -> Option<u64> {
        self.delayed.peek().map(|Reverse((due, _))| *due)
    }

    /// What is to be thought of what the lookup of `did` brings; nothing where there is no such
    /// lookup (any more).
    pub(super) fn doubt(&self, did: &Did) -> Option<Doubt> {
        let job = self.jobs.get(did)?;
        Some(match job.put_off {
            _ if job.purges > job.began => Doubt::Now,
            Some(due) => Doubt::From(due),
            None => Doubt::None,
        })
    }

    /// How long the lookup of `did` has been tried, in milliseconds.
    pub(super) fn tried_for(&self, did: &Did, now_ms: u64) -> u64 {
        let asked_at = self.jobs.get(did).map_or(now_ms, |job| job.asked_at);
        now_ms.saturating_sub(asked_at)
    }

    /// The lookup of `did` got no answer: it is tried again later, unless nobody `waits` for it any
    /// more. `jitter` is in [0, 1).
    pub(super) fn retry(
        &mut self,
        did: &Did,
        waits: impl Fn(&W) -> bool,
        jitter: f64,
        now_ms: u64,
    ) {
        self.release_thread(did);
        let Some(job) = self.jobs.get_mut(did) else {
            return;
        };
        job.waiters.retain(|(_, waiter)| waits(waiter));
        if job.waiters.is_empty() {
            self.forget(did);
            return;
        }
        job.running = false;
        // The directory's failure is nobody's fault; a host that does not answer is chosen by who
        // names it.
        if let (false, Some((host, taken))) = (is_web(did), &job.taken) {
            self.budget.give_back(host, *taken);
            job.taken = None;
        }
        let due = now_ms.saturating_add(backoff(job.failures, jitter));
        job.failures += 1;
        self.queue(did, due, now_ms);
    }

    /// Ends a lookup that was just taken where nobody `waits` for it any more, though somebody did;
    /// true where that is so.
    pub(super) fn abandon(&mut self, did: &Did, waits: impl Fn(&W) -> bool) -> bool {
        let Some(job) = self.jobs.get_mut(did) else {
            return false;
        };
        let before = job.waiters.len();
        job.waiters.retain(|(_, waiter)| waits(waiter));
        let is_over = before > 0 && job.waiters.is_empty();
        if is_over {
            if let Some((host, taken)) = job.taken.take() {
                self.budget.give_back(&host, taken);
            }
            self.release_thread(did);
            self.forget(did);
        }
        is_over
    }

    /// Takes those whom the lookup of `did` satisfies, in order of request. They are called without
    /// a lock, others may come meanwhile: so this is repeated until it is empty, and only then has
    /// the lookup ended. Whoever is left then has the next lookup.
    pub(super) fn satisfied(&mut self, did: &Did, now_ms: u64) -> Vec<W> {
        let Some(job) = self.jobs.get_mut(did) else {
            return Vec::new();
        };
        let began = job.began;
        let count = job.waiters.partition_point(|(asked, _)| *asked <= began);
        if count > 0 {
            return job.waiters.drain(..count).map(|(_, w)| w).collect();
        }
        self.release_thread(did);
        let Some(job) = self.jobs.get_mut(did).filter(|job| !job.waiters.is_empty()) else {
            self.forget(did);
            return Vec::new();
        };
        job.running = false;
        job.anew = true;
        job.taken = None;
        // Those who have their answer give no turn any more.
        job.askers.retain(|(asked, _)| *asked > began);
        job.failures = 0;
        let due = job.next_due.map_or(now_ms, |due| due.max(now_ms));
        job.asked_at = due;
        self.queue(did, due, now_ms);
        Vec::new()
    }

    /// A lookup is over.
    fn forget(&mut self, did: &Did) {
        self.jobs.remove(did);
        // A start with an empty cache needs tens of thousands at once, and nothing does afterwards.
        if self.jobs.is_empty() && self.jobs.capacity() > KEEP_JOBS {
            self.jobs = HashMap::new();
        }
    }

    fn pool(&mut self, did: &Did) -> &mut Pool {
        if is_web(did) {
            &mut self.web
        } else {
            &mut self.plc
        }
    }

    fn release_thread(&mut self, did: &Did) {
        let again = self.jobs.get(did).is_some_and(|job| job.failures > 0);
        self.pool(did).release(again);
        if let Some(site) = site(did) {
            self.sites.remove(&site);
        }
    }
}

impl<W> Job<W> {
    fn purge(&mut self) {
        self.anew = true;
        if self.running {
            self.purges += 1;
        }
    }
}

fn is_web(did: &Did) -> bool {
    matches!(did.method(), Method::Web(_))
}

/// The delay after `failures` earlier ones, in milliseconds: doubled each time, capped, and spread
/// over its upper half so that what failed together is not tried together.
fn backoff(failures: u32, jitter: f64) -> u64 {
    let doubled = millis(limits::IDENTITY_RETRY_FIRST).saturating_mul(1 << failures.min(32));
    let delay = doubled.min(millis(limits::IDENTITY_RETRY_MAX));
    delay / 2 + (delay as f64 / 2.0 * jitter) as u64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
