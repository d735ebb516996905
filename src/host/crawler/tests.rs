//! The set of hosts, with nobody to connect to.

use clap::Parser;

use super::*;
use crate::{
    config::Cli,
    control::{domain::Domain, embedded::Embedded},
    host::{decision::Change, policy::Policy},
    identity::Directory,
    metrics::Metrics,
    outbound::Outbound,
    sequencer::Inbox,
    store::Options,
    testing::wait_until,
    threads::{Stopper, panics, stop_pair},
};

struct Fixture {
    crawler: Crawler,
    handle: CrawlerHandle,
    inputs: Receiver<Input>,
    stopper: Option<Stopper>,
    resolvers: Vec<Thread>,
    _dir: tempfile::TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stopper.take();
        self.crawler.hosts.clear();
        self.resolvers.clear();
    }
}

impl Fixture {
    fn start(flags: &[&str]) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let flags = [&["zlay", "--allow-private-hosts", "true"], flags].concat();
        let config = Cli::parse_from(flags).config;
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(Store::open(dir.path(), Options::default()).unwrap());
        let control = Arc::new(Embedded::open(dir.path()).unwrap());
        let outbound = Outbound::new(&config).unwrap();
        let (stopper, stop) = stop_pair();
        let (directory, resolvers) =
            Directory::start(&config, outbound.clone(), metrics.clone(), stop.clone()).unwrap();
        let (inbox, inputs) = Inbox::with_receiver(metrics.clone());
        let policy = Arc::new(Policy::new(&config, Settings::default()));
        let shared = Shared::new(inbox, directory, outbound, metrics, stop, policy);
        let keeper = Arc::default();
        let keeping = Keeping { control, keeper };
        let (crawler, handle) = Crawler::new(shared, keeping, store).unwrap();
        Fixture {
            crawler,
            handle,
            inputs,
            stopper: Some(stopper),
            resolvers,
            _dir: dir,
        }
    }

    /// Crawls a host where nobody listens: its thread waits between attempts.
    fn crawl(&mut self, name: &str) -> CrawlAnswer {
        match self.handle.row(&endpoint(name), Source::Request) {
            Ok(row) => self
                .crawler
                .obey(Order::Crawl(row, Start::Live, Source::Request)),
            Err(answer) => answer,
        }
    }

    fn decide(&mut self, decision: Decision) {
        let order = self.handle.keep(&decision).unwrap();
        self.crawler.obey(order);
    }

    fn host(&self, name: &str) -> &Host {
        &self.crawler.hosts[&self.crawler.names[&endpoint(name).host]]
    }

    /// What the sequencer was told of limits since this was asked last.
    fn limits(&self) -> Vec<Option<u64>> {
        let inputs = self.inputs.try_iter();
        inputs
            .map(|input| match input {
                Input::AccountLimit { limit, .. } => limit,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Takes the reports of threads until a host has left.
    fn wait_until_left(&mut self) {
        loop {
            match self.crawler.reports.1.recv().unwrap() {
                Report {
                    id,
                    news: News::Ended(thread),
                } => return self.crawler.has_left(id, thread),
                Report {
                    id,
                    news: News::State(state),
                } => self.crawler.note(id, state),
            }
        }
    }
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint::parse(name).unwrap()
}

#[test]
fn a_host_whose_thread_panicked_is_listened_to_again() {
    let mut fixture = Fixture::start(&[]);
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Started);
    let id = fixture.host("localhost:1").row.id;
    let is_finished = |crawler: &Crawler| {
        let running = crawler.hosts[&id].running.as_ref();
        running.unwrap().thread.is_finished()
    };
    let before = panics();
    let panicking = threads::spawn(Role::Host, "test", 512 << 10, || panic!("on purpose"));
    let crawler = &mut fixture.crawler;
    let running = crawler.hosts.get_mut(&id).unwrap().running.as_mut();
    let running = running.unwrap();
    running.plug.pull();
    let old = std::mem::replace(&mut running.thread, panicking.unwrap());
    wait_until("the thread has ended", || is_finished(crawler));
    assert!(panics() > before);
    crawler.revive();
    assert!(!is_finished(crawler));
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Retrying);
    drop(fixture);
    drop(old);
}

#[test]
fn a_host_that_asks_all_the_time_waits_and_the_operator_does_not() {
    let mut fixture = Fixture::start(&[]);
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Started);
    // It has failed, as nobody listens there, and waits.
    match fixture.crawler.reports.1.recv().unwrap() {
        Report {
            id,
            news: News::State(state),
        } => fixture.crawler.note(id, state),
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Retrying);
    for _ in 0..3 {
        let answer = fixture.crawl("localhost:1");
        assert!(
            matches!(answer, CrawlAnswer::BackingOff { .. }),
            "{answer:?}"
        );
        let row = fixture.host("localhost:1").row.clone();
        let order = Order::Crawl(row, Start::Live, Source::Operator);
        assert_eq!(fixture.crawler.obey(order), CrawlAnswer::Retrying);
    }
}

#[test]
fn a_host_has_one_thread_at_a_time_whatever_is_decided() {
    let mut fixture = Fixture::start(&[]);
    let ban = |banned| Decision::Ban {
        host: endpoint("localhost:1").host,
        banned,
    };
    let below = |banned| Decision::BanDomain {
        domain: Domain::parse("localhost").unwrap(),
        banned,
    };
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Started);
    fixture.decide(ban(true));
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Banned);
    let host = fixture.host("localhost:1");
    assert!(host.running.is_none() && host.leaving.is_some());
    // Wanted again while the thread of before has not ended.
    fixture.decide(ban(false));
    assert!(fixture.host("localhost:1").running.is_none());
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Retrying);
    fixture.decide(below(true));
    fixture.decide(ban(true));
    fixture.decide(below(false));
    assert_eq!(fixture.crawl("localhost:1"), CrawlAnswer::Banned);
    fixture.decide(ban(false));
    fixture.wait_until_left();
    let host = fixture.host("localhost:1");
    assert!(host.running.is_some() && host.leaving.is_none());

    fixture.decide(below(true));
    assert_eq!(fixture.crawl("localhost:2"), CrawlAnswer::Banned);
    fixture.wait_until_left();
    let host = fixture.host("localhost:1");
    assert!(host.running.is_none() && host.leaving.is_none());
    assert_eq!(host.row.status(), HostStatus::Active, "that is not its own");
    fixture.decide(below(false));
    assert!(fixture.host("localhost:1").running.is_some());
}

#[test]
fn the_sequencer_is_told_how_many_accounts_a_host_may_have() {
    let mut fixture = Fixture::start(&[]);
    let change = |accounts: Option<u64>, lenient| Decision::Change {
        host: endpoint("localhost:1").host,
        change: Change {
            accounts: accounts.map(Some),
            lenient,
            ..Change::default()
        },
    };
    fixture.crawl("localhost:1");
    fixture.crawl("localhost:1");
    assert_eq!(fixture.limits(), [Some(100)]);
    fixture.decide(change(None, Some(true)));
    fixture.decide(change(Some(7), None));
    assert_eq!(fixture.limits(), [Some(7)]);
    assert!(fixture.host("localhost:1").terms.lenient());

    let mut trusting = Fixture::start(&["--trusted-domains", "localhost"]);
    trusting.crawl("localhost:1");
    trusting.decide(change(Some(7), None));
    assert_eq!(trusting.limits(), [None, Some(7)]);
}
