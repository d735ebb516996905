//! Hosts that come and go, and an operator who bans and disconnects some.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use serde::Serialize;
use serde_json::json;

use super::{
    args::SoakArgs,
    tally::{Tally, note},
};
use crate::{
    sim::{Network, moving::Move, relay::Client, workers::Workers},
    threads::Stop,
};

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(100);
/// A host whose first event is that old is known to the relay by a cursor.
const SETTLED: Duration = Duration::from_secs(10);
/// A host that everybody has left still talks for so long.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// Hosts that are tried for one thing.
const TRIES: usize = 30;
/// The stack of the thread, in bytes.
const STACK_BYTES: usize = 512 << 10;

/// What was done so far.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct Told {
    /// Hosts that vanished, and came back under the same name.
    pub(super) vanished: u64,
    pub(super) returned: u64,
    /// Hosts that began to move to a new one, and those of them that are gone and banned for good.
    pub(super) moved: u64,
    pub(super) retired: u64,
    /// Hosts that were banned for a while, and are not any more.
    pub(super) banned: u64,
    pub(super) unbanned: u64,
    /// Hosts that the operator disconnected.
    pub(super) disconnected: u64,
    /// Requests that the relay did not grant, and some of them in words.
    pub(super) failed: u64,
    pub(super) failures: Vec<String>,
}

/// Churn under way; dropping it brings every host back that is away.
pub(super) struct Churn {
    tally: Tally<Told>,
    _workers: Workers,
}

impl Churn {
    /// Begins; the last `spares` hosts of the network are those that others move to.
    pub(super) fn start(
        args: &SoakArgs,
        network: Arc<Network>,
        client: Client,
        moves: Sender<Move>,
        left: Receiver<usize>,
    ) -> io::Result<Churn> {
        let tally = Tally::default();
        let spares = args.spares();
        let now = Instant::now();
        let kinds = [
            (Kind::Vanish, args.vanish),
            (Kind::Move, args.moves),
            (Kind::Ban, args.bans),
            (Kind::Disconnect, args.disconnects),
        ];
        let dues = kinds.into_iter().filter(|(_, rate)| *rate > 0.0);
        let dues = dues.map(|(kind, rate)| {
            let every = Duration::from_secs_f64(60.0 / rate.max(0.001));
            (kind, every, now + every)
        });
        let mut run = Run {
            dues: dues.collect(),
            spares: (network.len() - spares..network.len()).collect(),
            hosts: vec![Place::default(); network.len()],
            later: Vec::new(),
            rng: fastrand::Rng::with_seed(args.network.seed ^ 0x636f_6d65_2067_6f21),
            away: args.away,
            ban: args.ban,
            network,
            client,
            moves,
            left,
            tally: tally.clone(),
        };
        let workers = Workers::one("churn", STACK_BYTES, move |stop| run.run(stop))?;
        Ok(Churn {
            tally,
            _workers: workers,
        })
    }

    /// Brings every host back; what was done in the end.
    pub(super) fn end(self) -> Told {
        let tally = self.tally.clone();
        drop(self);
        tally.told()
    }
}

/// Counts what was done, or notes why it was not.
fn count(
    tally: &Tally<Told>,
    number: fn(&mut Told) -> &mut u64,
    what: &str,
    host: &str,
    result: io::Result<()>,
) -> bool {
    let mut told = tally.add();
    let told = &mut *told;
    match &result {
        Ok(()) => *number(told) += 1,
        Err(error) => {
            let words = format!("{what} {host}: {error}");
            note(&mut told.failed, &mut told.failures, words);
        }
    }
    result.is_ok()
}

/// What happens to a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Vanish,
    Move,
    Ban,
    Disconnect,
}

/// What follows later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Return,
    Unban,
    Retire,
}

/// What is known of a host here.
#[derive(Clone, Copy, Default)]
struct Place {
    /// When it was first seen to have sent something.
    sent: Option<Instant>,
    /// Something happens to it.
    busy: bool,
}

struct Run {
    network: Arc<Network>,
    client: Client,
    dues: Vec<(Kind, Duration, Instant)>,
    spares: VecDeque<usize>,
    hosts: Vec<Place>,
    later: Vec<(Instant, Then, usize)>,
    rng: fastrand::Rng,
    away: Duration,
    ban: Duration,
    moves: Sender<Move>,
    left: Receiver<usize>,
    tally: Tally<Told>,
}

impl Run {
    fn run(&mut self, stop: &Stop) {
        while !stop.wait(LOOK) {
            let now = Instant::now();
            while let Ok(host) = self.left.try_recv() {
                self.later.push((now + LAST_WORDS, Then::Retire, host));
            }
            self.follow_up(|at, _| at <= now);
            for i in 0..self.dues.len() {
                let (kind, every, due) = self.dues[i];
                if now >= due {
                    self.dues[i].2 = now + every;
                    self.begin(kind, now);
                }
            }
        }
        // Whatever is still to come from them can only come once they are back.
        self.follow_up(|_, then| then != Then::Retire);
    }

    /// Does what is due of what was to follow.
    fn follow_up(&mut self, is_due: impl Fn(Instant, Then) -> bool) {
        let all = std::mem::take(&mut self.later);
        for (at, then, index) in all {
            let done = !is_due(at, then) || self.finish(then, index);
            if !done || !is_due(at, then) {
                self.later.push((at, then, index));
            }
        }
    }

    /// Ends something; false where that has to be tried again.
    fn finish(&mut self, then: Then, index: usize) -> bool {
        let host = self.network.host(index).clone();
        let name = host.name();
        let tally = &self.tally;
        match then {
            Then::Return => {
                host.set_away(false);
                let asked = self.client.request_crawl(&host);
                count(
                    tally,
                    |told| &mut told.returned,
                    "requestCrawl",
                    name,
                    asked,
                );
            }
            Then::Unban => {
                let said = self
                    .client
                    .post("/admin/pds/unblock", &json!({"host": name}));
                if !count(tally, |told| &mut told.unbanned, "unblock", name, said) {
                    return false;
                }
            }
            Then::Retire => {
                host.set_away(true);
                let said = self.client.post("/admin/pds/block", &json!({"host": name}));
                // Nobody is there any more, and it stays busy for ever.
                return count(tally, |told| &mut told.retired, "block", name, said);
            }
        }
        self.hosts[index].busy = false;
        true
    }

    /// Lets something happen to a host that has a part in the traffic and is in the middle of nothing.
    fn begin(&mut self, kind: Kind, now: Instant) {
        let Some(index) = self.pick(now) else {
            return;
        };
        let host = self.network.host(index).clone();
        let name = host.name();
        let tally = &self.tally;
        let part = 0.2 + 0.8 * self.rng.f64();
        match kind {
            Kind::Vanish => {
                host.set_away(true);
                tally.add().vanished += 1;
                let back = now + self.away.mul_f64(part);
                self.later.push((back, Then::Return, index));
            }
            Kind::Ban => {
                let said = self.client.post("/admin/pds/block", &json!({"host": name}));
                if !count(tally, |told| &mut told.banned, "block", name, said) {
                    return;
                }
                let end = now + self.ban.mul_f64(part);
                self.later.push((end, Then::Unban, index));
            }
            Kind::Disconnect => {
                let path = "/admin/subs/killUpstream";
                let said = self.client.post(path, &json!({"host": name}));
                count(
                    tally,
                    |told| &mut told.disconnected,
                    "killUpstream",
                    name,
                    said,
                );
                return;
            }
            Kind::Move => {
                let Some(to) = self.spares.pop_front() else {
                    return;
                };
                let new = self.network.host(to);
                let asked = self.client.request_crawl(new);
                if !count(
                    tally,
                    |told| &mut told.moved,
                    "requestCrawl",
                    new.name(),
                    asked,
                ) {
                    return;
                }
                if self.moves.send(Move { from: index, to }).is_err() {
                    return;
                }
            }
        }
        self.hosts[index].busy = true;
    }

    /// A host of which the relay knows where it was.
    fn pick(&mut self, now: Instant) -> Option<usize> {
        for _ in 0..TRIES {
            let index = self.rng.usize(..self.hosts.len());
            let (place, host) = (&mut self.hosts[index], self.network.host(index));
            if host.seq() > 0 && host.unsent() == 0 {
                place.sent.get_or_insert(now);
            }
            let settled = place.sent.is_some_and(|sent| now - sent > SETTLED);
            if settled && !place.busy && host.connected() > 0 {
                return Some(index);
            }
        }
        None
    }
}

/// Asks the relay to crawl every host that it is not connected to and that has something to say.
pub(super) fn call_back(network: &Network, client: &Client) {
    let waiting = network.hosts().iter();
    for host in waiting.filter(|host| host.connected() == 0 && host.unsent() > 0) {
        if let Err(error) = client.request_crawl(host) {
            log::debug!("requestCrawl of {}: {error}", host.name());
        }
    }
}
