//! Pages of lists beside a steady stream: how long they take, and what they take from it.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use serde::Serialize;

use super::rig::Rig;
use crate::{
    sim::{
        known::{self, IndexSize, Known},
        relay::Client,
    },
    store::account::HostId,
    threads::{self, Role, Stop, Stopper, Thread},
};

/// Accounts of a page.
const PAGE: u64 = 1_000;
/// After a change of what the relay has to do, before it is measured.
const SETTLE: Duration = Duration::from_millis(500);
/// How long pages are asked for before anything is measured.
const WARM_UP: Duration = Duration::from_secs(15);
/// Hosts of accounts that were known before: none of those that speak in this run.
const OTHER_HOSTS: Known = Known {
    accounts: 0,
    first_host: HostId(1 << 20),
    hosts: 1_001,
};
/// Pairs of an account and a collection for which the index must not take more than a few gigabytes:
/// more than the network has.
const MANY_PAIRS: f64 = 60e6;
/// The stack of a thread that asks for pages, in bytes.
const STACK_BYTES: usize = 512 << 10;

/// Pages of lists beside a steady stream, and the stream without them.
#[derive(Serialize, Debug)]
pub(super) struct Pages {
    pub(super) known_accounts: u64,
    pub(super) pairs: u64,
    /// What the collection index takes of the disk, in both directions.
    pub(super) index_bytes_per_pair: f64,
    pub(super) index_gigabytes_of_60_million_pairs: f64,
    pub(super) events_per_second: u32,
    /// Without queries, before and after.
    pub(super) alone: Vec<Stream>,
    /// With one client of each list, one request after the other.
    pub(super) beside: Stream,
    pub(super) list_repos: Answers,
    pub(super) list_repos_by_collection: Answers,
    /// Of the events that came out within the span without queries, how much less with them.
    pub(super) share_lost: f64,
    /// Everything at once, so that the queries take what ingest could use: events a second, and what
    /// less with queries.
    pub(super) saturated_events_per_second: f64,
    pub(super) saturated_events_per_second_beside: f64,
    pub(super) saturated_share_lost: f64,
    /// Resident memory of the relay at the end.
    pub(super) rss_bytes: u64,
}

/// What became of a steady stream.
#[derive(Serialize, Clone, Copy, Debug)]
pub(super) struct Stream {
    /// Events that came out of the relay while others were still sent, a second.
    pub(super) events_out_per_second: f64,
    /// From the simulator's send to a subscriber's receive, in milliseconds.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// The relay's processor time for each second of this, in seconds.
    pub(super) cpu_seconds_per_second: f64,
}

/// How a list was served.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub(super) struct Answers {
    /// All of them of 1,000 accounts; any other answer ends the run.
    pub(super) pages: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) slowest_ms: f64,
}

/// Accounts that were known before this run.
pub(super) fn known(accounts: u64) -> io::Result<Known> {
    if accounts <= PAGE {
        let message = format!("more than {PAGE} known accounts are needed: a page must be full");
        return Err(io::Error::other(message));
    }
    Ok(Known {
        accounts,
        ..OTHER_HOSTS
    })
}

/// What the hosts send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Events a second of the steady stream.
    pub(super) rate: u32,
    /// How long it lasts.
    pub(super) span: Duration,
    /// Events that are sent at once.
    pub(super) burst: usize,
}

pub(super) fn pages(
    rig: &mut Rig,
    known: Known,
    index: IndexSize,
    load: Load,
    stop: &Stop,
) -> io::Result<Pages> {
    let Load { rate, span, burst } = load;
    // What was just written was never read: files that a relay reads every day are in the page cache.
    eprintln!("asking for pages for {WARM_UP:?} first");
    let askers = Askers::start(&rig.client, known.accounts)?;
    stop.wait(WARM_UP);
    askers.finish()?;
    // Making commits would take the processor from who is measured: all of them are there before.
    let events = (f64::from(rate) * span.as_secs_f64()).round() as usize;
    rig.corpus.make(3 * events + 2 * burst);
    let before = stream(rig, rate, events, stop)?;
    let askers = Askers::start(&rig.client, known.accounts)?;
    let beside = stream(rig, rate, events, stop)?;
    let (list_repos, list_repos_by_collection) = askers.finish()?;
    let after = stream(rig, rate, events, stop)?;
    let saturated = saturated(rig, burst, stop)?;
    let askers = Askers::start(&rig.client, known.accounts)?;
    let saturated_beside = self::saturated(rig, burst, stop)?;
    askers.finish()?;
    let alone = (before.events_out_per_second + after.events_out_per_second) / 2.0;
    Ok(Pages {
        known_accounts: known.accounts,
        pairs: index.pairs,
        index_bytes_per_pair: index.bytes_per_pair(),
        index_gigabytes_of_60_million_pairs: index.bytes_per_pair() * MANY_PAIRS / 1e9,
        events_per_second: rate,
        alone: vec![before, after],
        beside,
        list_repos,
        list_repos_by_collection,
        share_lost: 1.0 - beside.events_out_per_second / alone,
        saturated_events_per_second: saturated,
        saturated_events_per_second_beside: saturated_beside,
        saturated_share_lost: 1.0 - saturated_beside / saturated,
        rss_bytes: rig.usage()?.rss,
    })
}

/// A steady stream, and what came out of it in its time.
fn stream(rig: &mut Rig, rate: u32, events: usize, stop: &Stop) -> io::Result<Stream> {
    stop.wait(SETTLE);
    rig.checker.stats.take_delays();
    let out = |rig: &Rig| rig.checker.stats.frames.load(Ordering::Relaxed);
    let (used, start, first) = (rig.usage()?, Instant::now(), out(rig));
    rig.pace(rate, events, stop)?;
    let (took, frames) = (start.elapsed().as_secs_f64(), out(rig) - first);
    let used = rig.usage()?.cpu - used.cpu;
    rig.drain(stop)?;
    let (p50, p99) = rig.checker.stats.take_delays().unwrap_or_default();
    Ok(Stream {
        events_out_per_second: frames as f64 / took,
        p50_ms: p50 as f64 / 1e3,
        p99_ms: p99 as f64 / 1e3,
        cpu_seconds_per_second: used.as_secs_f64() / took,
    })
}

/// Events a second where all of them are there already.
fn saturated(rig: &mut Rig, events: usize, stop: &Stop) -> io::Result<f64> {
    stop.wait(SETTLE);
    rig.publish_ahead(events, stop)?;
    let start = Instant::now();
    rig.drain(stop)?;
    Ok(events as f64 / start.elapsed().as_secs_f64())
}

/// One client of each list, until they are told to finish.
struct Askers {
    // Dropped in this order: told to stop, then waited for.
    stopper: Stopper,
    repos: Asker,
    by_collection: Asker,
}

impl Askers {
    fn start(client: &Client, accounts: u64) -> io::Result<Askers> {
        let (stopper, stop) = threads::stop_pair();
        Ok(Askers {
            repos: Asker::start(List::Repos, client.clone(), accounts, stop.clone())?,
            by_collection: Asker::start(List::ByCollection, client.clone(), accounts, stop)?,
            stopper,
        })
    }

    fn finish(self) -> io::Result<(Answers, Answers)> {
        drop(self.stopper);
        let measured = |asker: &Asker| asker.measured.recv().map_err(io::Error::other)?;
        Ok((measured(&self.repos)?, measured(&self.by_collection)?))
    }
}

/// A client of one list.
struct Asker {
    measured: Receiver<io::Result<Answers>>,
    _thread: Thread,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum List {
    Repos,
    ByCollection,
}

impl Asker {
    /// Asks for pages from anywhere, one after the other, until it is told to stop.
    fn start(list: List, client: Client, accounts: u64, stop: Stop) -> io::Result<Asker> {
        let (done, measured) = bounded(1);
        let name = format!("{list:?}");
        let thread = threads::spawn(Role::Simulator, &name, STACK_BYTES, move || {
            let _ = done.send(list.ask(&client, accounts, &stop));
        })?;
        Ok(Asker {
            measured,
            _thread: thread,
        })
    }
}

impl List {
    fn ask(self, client: &Client, accounts: u64, stop: &Stop) -> io::Result<Answers> {
        let mut rng = fastrand::Rng::with_seed(self as u64);
        let mut micros = Vec::new();
        while !stop.requested() {
            let cursor = rng.u64(1..=accounts - PAGE);
            let path = format!("{}limit={PAGE}&cursor={cursor}", self.path(&mut rng));
            let start = Instant::now();
            let (status, body) = client.get(&path)?;
            micros.push(start.elapsed().as_micros() as u64);
            let found = body.matches("\"did\":").count() as u64;
            if (status, found) != (200, PAGE) {
                let message = format!("{path} was answered {status} with {found} accounts");
                return Err(io::Error::other(message));
            }
        }
        Ok(Answers::of(micros))
    }

    /// The path up to its last parameters.
    fn path(self, rng: &mut fastrand::Rng) -> String {
        let sync = "/xrpc/com.atproto.sync";
        match self {
            List::Repos => format!("{sync}.listRepos?"),
            List::ByCollection => {
                let collection = known::collection(rng.u32(1..=known::COMMON));
                format!("{sync}.listReposByCollection?collection={collection}&")
            }
        }
    }
}

impl Answers {
    fn of(mut micros: Vec<u64>) -> Answers {
        micros.sort_unstable();
        let at = |percent: usize| {
            let index = micros.len().saturating_sub(1) * percent / 100;
            micros.get(index).map_or(0.0, |micros| *micros as f64 / 1e3)
        };
        Answers {
            pages: micros.len(),
            p50_ms: at(50),
            p99_ms: at(99),
            slowest_ms: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_summed_up_by_rank() {
        let answers = Answers::of((1..=101).rev().map(|ms| ms * 1_000).collect());
        let Answers { p50_ms, p99_ms, .. } = answers;
        assert_eq!((p50_ms, p99_ms, answers.slowest_ms), (51.0, 100.0, 101.0));
        assert_eq!(answers.pages, 101);
        assert_eq!(Answers::of(Vec::new()).slowest_ms, 0.0);
    }

    #[test]
    fn there_must_be_a_full_page_after_any_place() {
        assert!(known(PAGE).is_err());
        assert_eq!(known(PAGE + 1).unwrap().accounts, PAGE + 1);
    }
}
