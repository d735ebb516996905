//! Which lookup is next, who waits for it, and what a purge means for one that is under way: the
//! rules of the resolver pool, without its threads and its clock.
//!
//! A lookup satisfies those who asked before it began, and those who asked while it ran unless a
//! purge came between: then what it brings may be older than the purge. Those wait for the next
//! lookup, so that everybody waits for at most two, however often somebody else purges.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use super::fair::{Asker, FairQueue};
use crate::{
    atproto::did::{Did, Method},
    limits,
};

/// Every lookup that is queued, under way, or waiting to be tried again. `W` waits for one.
#[derive(Debug)]
pub(super) struct Lookups<W> {
    jobs: HashMap<Did, Job<W>>,
    plc: FairQueue,
    web: FairQueue,
    /// Those that failed, by the time of the next attempt.
    delayed: BinaryHeap<Reverse<(u64, Did)>>,
    /// Lookups of `did:web` under way. Their hosts are anybody's and may all be slow, so they never
    /// occupy every thread.
    web_running: usize,
    web_running_max: usize,
    web_is_next: bool,
    /// Nothing is asked of the PLC directory before this time, in milliseconds.
    plc_paused_until: u64,
}

#[derive(Debug)]
struct Job<W> {
    /// Who waits, and how many purges there had been when they asked; in order of request.
    waiters: VecDeque<(u64, W)>,
    /// Whose turn it takes.
    asker: Asker,
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
}

impl<W> Lookups<W> {
    /// Nothing to look up yet; `threads` will do it.
    pub(super) fn new(threads: usize) -> Lookups<W> {
        Lookups {
            jobs: HashMap::new(),
            plc: FairQueue::default(),
            web: FairQueue::default(),
            delayed: BinaryHeap::new(),
            web_running: 0,
            web_running_max: (threads / 2).max(1),
            web_is_next: false,
            plc_paused_until: 0,
        }
    }

    /// How many DIDs are queued, under way or waiting to be tried again.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether a lookup of `did` can be asked for now.
    pub(super) fn has_room(&self, did: &Did) -> bool {
        self.jobs.len() < limits::IDENTITY_QUEUE_MAX || self.jobs.contains_key(did)
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
            if anew || (job.running && due > now_ms) {
                job.purge();
            }
            let purges = job.purges;
            if purges > job.began {
                job.next_due = Some(job.next_due.map_or(due, |before| before.min(due)));
            }
            job.waiters.extend(waiter.map(|w| (purges, w)));
            // What has failed is not tried sooner because others want it too.
            if job.failures == 0 && job.due.is_some_and(|later| due < later) {
                self.queue(did, due, now_ms);
            }
            return;
        }
        let job = Job {
            waiters: waiter.map(|w| (0, w)).into_iter().collect(),
            asker,
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
            let asker = job.asker.clone();
            self.lane(did).push(asker, did.clone());
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
        let web_may = !self.web.is_empty() && self.web_running < self.web_running_max;
        let plc_may = !self.plc.is_empty() && now_ms >= self.plc_paused_until;
        let take_web = web_may && (self.web_is_next || !plc_may);
        if !take_web && !plc_may {
            return None;
        }
        let did = if take_web {
            self.web_running += 1;
            self.web.pop()?
        } else {
            self.plc.pop()?
        };
        self.web_is_next = !take_web;
        let job = self.jobs.get_mut(&did)?;
        job.running = true;
        job.began = job.purges;
        job.put_off = None;
        job.next_due = None;
        let anew = job.anew;
        Some(Next { did, anew })
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

    /// When there is something to do that can not be done yet, in milliseconds: an attempt at what
    /// failed, or the end of a pause.
    pub(super) fn due(&self, now_ms: u64) -> Option<u64> {
        let resumes = (self.plc_paused_until > now_ms).then_some(self.plc_paused_until);
        self.retry_due().into_iter().chain(resumes).min()
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
        let due = now_ms.saturating_add(backoff(job.failures, jitter));
        job.failures += 1;
        self.queue(did, due, now_ms);
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

    fn lane(&mut self, did: &Did) -> &mut FairQueue {
        if is_web(did) {
            &mut self.web
        } else {
            &mut self.plc
        }
    }

    fn release_thread(&mut self, did: &Did) {
        if is_web(did) {
            self.web_running = self.web_running.saturating_sub(1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atproto::hostname::Hostname;

    fn plc(c: char) -> Did {
        Did::parse(&format!("did:plc:{}", c.to_string().repeat(24))).unwrap()
    }

    fn web(n: usize) -> Did {
        Did::parse(&format!("did:web:n{n}.test")).unwrap()
    }

    fn host(name: &str) -> Asker {
        Some(Hostname::parse(&format!("{name}.test")).unwrap())
    }

    fn next(lookups: &mut Lookups<u32>) -> Option<Did> {
        lookups.next(0).map(|next| next.did)
    }

    #[test]
    fn many_requests_are_one_lookup_and_answered_in_order() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        for n in 0..5 {
            lookups.add(&did, host("a"), Some(n), false, 0);
        }
        assert_eq!(next(&mut lookups), Some(did.clone()));
        assert_eq!(next(&mut lookups), None);
        lookups.add(&did, host("b"), Some(5), false, 0);
        assert_eq!(lookups.doubt(&did), Some(Doubt::None));
        assert_eq!(lookups.satisfied(&did, 0), [0, 1, 2, 3, 4, 5]);
        // Who comes while those are called has the same answer.
        lookups.add(&did, host("b"), Some(6), false, 0);
        assert_eq!(next(&mut lookups), None);
        assert_eq!(lookups.satisfied(&did, 0), [6]);
        assert!(lookups.satisfied(&did, 0).is_empty());
        assert_eq!(lookups.len(), 0);
        assert_eq!(next(&mut lookups), None);
    }

    #[test]
    fn a_purge_during_a_lookup_makes_later_ones_wait_for_the_next() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add(&did, host("a"), Some(1), false, 0);
        assert_eq!(
            lookups.next(0),
            Some(Next {
                did: did.clone(),
                anew: false
            })
        );
        lookups.add(&did, host("a"), Some(2), false, 0);
        lookups.purge(&did);
        lookups.add(&did, host("a"), Some(3), false, 0);
        assert_eq!(lookups.doubt(&did), Some(Doubt::Now));
        assert_eq!(lookups.satisfied(&did, 0), [1, 2]);
        assert!(lookups.satisfied(&did, 0).is_empty());
        assert_eq!(
            lookups.next(0),
            Some(Next {
                did: did.clone(),
                anew: true
            })
        );
        lookups.add(&did, host("a"), Some(4), false, 0);
        // Another purge does not make the third wait even longer.
        lookups.purge(&did);
        assert_eq!(lookups.satisfied(&did, 0), [3, 4]);
        assert!(lookups.satisfied(&did, 0).is_empty());
        assert_eq!(lookups.len(), 0);
    }

    #[test]
    fn a_purge_before_the_lookup_begins_is_met_by_it() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add(&did, host("a"), Some(1), false, 0);
        lookups.purge(&did);
        lookups.add(&did, host("a"), Some(2), false, 0);
        assert_eq!(
            lookups.next(0),
            Some(Next {
                did: did.clone(),
                anew: true
            })
        );
        assert_eq!(lookups.doubt(&did), Some(Doubt::None));
        assert_eq!(lookups.satisfied(&did, 0), [1, 2]);
    }

    #[test]
    fn a_forced_request_is_not_satisfied_by_what_is_under_way() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add(&did, host("a"), Some(1), false, 0);
        next(&mut lookups);
        lookups.add(&did, host("a"), Some(2), true, 0);
        assert_eq!(lookups.satisfied(&did, 0), [1]);
        assert!(lookups.satisfied(&did, 0).is_empty());
        assert_eq!(next(&mut lookups), Some(did.clone()));
        assert_eq!(lookups.satisfied(&did, 0), [2]);
    }

    #[test]
    fn failures_are_tried_again_ever_more_slowly() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add(&did, host("a"), Some(1), false, 1000);
        assert!(lookups.next(1000).is_some());
        lookups.retry(&did, |_| true, 0.0, 1000);
        let due = lookups.due(1000).unwrap();
        assert_eq!(due, 1000 + backoff(0, 0.0));
        assert_eq!(lookups.next(due - 1), None);
        lookups.add(&did, host("a"), Some(2), false, due - 1);
        assert_eq!(lookups.next(due - 1), None);
        assert_eq!(lookups.next(due).unwrap().did, did);
        assert_eq!(lookups.tried_for(&did, due), due - 1000);
        assert_eq!(lookups.due(due), None);
        assert_eq!(lookups.satisfied(&did, due), [1, 2]);

        let first = limits::IDENTITY_RETRY_FIRST.as_millis() as u64;
        let max = limits::IDENTITY_RETRY_MAX.as_millis() as u64;
        assert_eq!(backoff(0, 0.0), first / 2);
        assert!(backoff(0, 0.999) < first);
        assert_eq!(backoff(1, 0.0), first);
        assert_eq!(backoff(u32::MAX, 0.0), max / 2);
    }

    #[test]
    fn what_nobody_waits_for_is_not_tried_again() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add(&did, host("a"), Some(1), false, 0);
        lookups.add(&did, host("a"), Some(2), false, 0);
        assert_eq!(next(&mut lookups), Some(did.clone()));
        lookups.retry(&did, |waiter| *waiter == 2, 0.0, 0);
        let due = lookups.due(0).unwrap();
        assert_eq!(lookups.next(due).unwrap().did, did);
        lookups.retry(&did, |_| false, 0.0, due);
        assert_eq!((lookups.len(), lookups.due(due)), (0, None));

        lookups.refresh(&did, 0);
        lookups.refresh(&did, 0);
        assert_eq!(
            lookups.next(0),
            Some(Next {
                did: did.clone(),
                anew: true
            })
        );
        lookups.retry(&did, |_| true, 0.0, 0);
        assert_eq!(lookups.len(), 0);
    }

    #[test]
    fn slow_web_hosts_leave_threads_to_the_directory() {
        let mut lookups = Lookups::new(4);
        for n in 0..10 {
            lookups.add(&web(n), host("evil"), Some(0), false, 0);
        }
        assert_eq!(next(&mut lookups), Some(web(0)));
        assert_eq!(next(&mut lookups), Some(web(1)));
        assert_eq!(next(&mut lookups), None);
        lookups.add(&plc('a'), host("good"), Some(0), false, 0);
        assert_eq!(next(&mut lookups), Some(plc('a')));
        lookups.retry(&web(0), |_| true, 0.0, 0);
        assert_eq!(next(&mut lookups), Some(web(2)));
        while !lookups.satisfied(&web(1), 0).is_empty() {}
        assert_eq!(next(&mut lookups), Some(web(3)));
        assert_eq!(next(&mut lookups), None);
    }

    #[test]
    fn one_thread_serves_both_methods_in_turn() {
        let mut lookups = Lookups::new(1);
        for c in ['a', 'b'] {
            lookups.add(&plc(c), host("a"), None, false, 0);
        }
        for n in 0..2 {
            lookups.add(&web(n), host("a"), None, false, 0);
        }
        let mut order = Vec::new();
        while let Some(did) = next(&mut lookups) {
            assert!(lookups.satisfied(&did, 0).is_empty());
            order.push(did);
        }
        assert_eq!(order, [plc('a'), web(0), plc('b'), web(1)]);
    }

    #[test]
    fn a_directory_that_asks_for_it_is_left_alone() {
        let pause = millis(limits::IDENTITY_LIMITED_PAUSE);
        let mut lookups = Lookups::new(4);
        lookups.add(&plc('a'), host("a"), Some(1), false, 0);
        lookups.add(&plc('b'), host("a"), Some(2), false, 0);
        assert_eq!(next(&mut lookups), Some(plc('a')));
        lookups.pause_plc(None, 0);
        lookups.retry(&plc('a'), |_| true, 0.0, 0);
        assert_eq!(lookups.due(0), Some(backoff(0, 0.0)));
        lookups.wake(pause - 1);
        assert_eq!(lookups.next(pause - 1), None);
        assert_eq!(lookups.due(pause - 1), Some(pause));
        lookups.add(&web(0), host("a"), Some(3), false, 0);
        assert_eq!(lookups.next(pause - 1).unwrap().did, web(0));
        assert_eq!(lookups.due(pause), None);
        assert_eq!(lookups.next(pause).unwrap().did, plc('b'));
        assert_eq!(lookups.next(pause).unwrap().did, plc('a'));
    }

    #[test]
    fn a_directory_is_left_alone_for_as_long_as_it_wants_within_reason() {
        for (wanted, pause) in [
            (Duration::from_secs(7), Duration::from_secs(7)),
            (Duration::ZERO, limits::IDENTITY_LIMITED_PAUSE_MIN),
            (Duration::MAX, limits::IDENTITY_LIMITED_PAUSE_MAX),
        ] {
            let mut lookups = Lookups::<u32>::new(4);
            lookups.pause_plc(Some(wanted), 1000);
            // Who was asked before, and answers later, does not shorten it.
            lookups.pause_plc(Some(Duration::ZERO), 1000);
            assert_eq!(lookups.due(1000), Some(1000 + millis(pause)), "{wanted:?}");
        }
    }

    #[test]
    fn the_queue_is_bounded_but_one_more_may_wait_for_the_same() {
        let mut lookups = Lookups::new(4);
        for n in 0..limits::IDENTITY_QUEUE_MAX {
            assert!(lookups.has_room(&web(n)));
            lookups.add(&web(n), host("a"), Some(0), false, 0);
        }
        assert!(!lookups.has_room(&plc('a')));
        assert!(lookups.has_room(&web(7)));
        let did = next(&mut lookups).unwrap();
        while !lookups.satisfied(&did, 0).is_empty() {}
        assert!(lookups.has_room(&plc('a')));
    }

    #[test]
    fn a_lookup_that_is_put_off_waits_unless_somebody_may_have_it_now() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add_at(5000, &did, host("a"), Some(1), true, 1000);
        assert_eq!(lookups.next(4999), None);
        assert_eq!(lookups.due(1000), Some(5000));
        // Neither later nor twice.
        lookups.add_at(6000, &did, host("a"), Some(2), true, 1000);
        assert_eq!(lookups.next(4999), None);
        assert_eq!(lookups.next(5000).unwrap().did, did);
        assert_eq!(lookups.next(9000), None);
        assert_eq!(lookups.satisfied(&did, 5000), [1, 2]);
        assert!(lookups.satisfied(&did, 5000).is_empty());

        lookups.add_at(5000, &did, host("a"), Some(1), true, 1000);
        lookups.add_at(3000, &did, host("b"), Some(2), true, 1000);
        assert_eq!(lookups.next(2999), None);
        lookups.add(&did, host("b"), Some(3), false, 2000);
        assert_eq!(lookups.next(2000).unwrap().did, did);
        assert_eq!(lookups.satisfied(&did, 2000), [1, 2, 3]);
        assert!(lookups.satisfied(&did, 2000).is_empty());
        assert_eq!((lookups.next(9000), lookups.len()), (None, 0));
    }

    #[test]
    fn a_purge_that_is_put_off_leaves_an_answer_for_a_while() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add(&did, host("a"), Some(1), false, 0);
        // The lookup has not begun: it will bring what is true by then.
        lookups.put_off(&did, 7000);
        assert!(!lookups.is_running(&did));
        assert!(next(&mut lookups).is_some());
        assert_eq!(lookups.doubt(&did), Some(Doubt::None));
        lookups.put_off(&did, 7000);
        lookups.put_off(&did, 6000);
        lookups.put_off(&did, 8000);
        assert_eq!(lookups.doubt(&did), Some(Doubt::From(6000)));
        lookups.purge(&did);
        assert_eq!(lookups.doubt(&did), Some(Doubt::Now));
        assert_eq!(lookups.satisfied(&did, 0), [1]);
    }

    #[test]
    fn who_is_to_wait_does_not_have_what_is_under_way() {
        let mut lookups = Lookups::new(4);
        let did = plc('a');
        lookups.add(&did, host("a"), Some(1), false, 0);
        assert!(next(&mut lookups).is_some());
        lookups.add_at(5000, &did, host("a"), Some(2), false, 0);
        lookups.add_at(4000, &did, host("a"), Some(3), false, 0);
        assert_eq!(lookups.satisfied(&did, 0), [1]);
        assert!(lookups.satisfied(&did, 0).is_empty());
        assert_eq!(lookups.next(3999), None);
        assert!(lookups.next(4000).is_some_and(|next| next.anew));
        assert_eq!(lookups.satisfied(&did, 4000), [2, 3]);
        assert!(lookups.satisfied(&did, 4000).is_empty());
        assert_eq!(lookups.len(), 0);
    }
}
