//! The directory against a PLC directory on loopback that answers, fails and stalls as told.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Parser;
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{Directory, How, Missing, Outcome, RateLimited, Waiter};
use crate::{
    atproto::{did::Did, hostname::Hostname},
    config::Cli,
    limits,
    metrics::{
        Metrics,
        labels::{DidMethod, LookupResult},
    },
    outbound::Outbound,
    testing::wait_until,
    threads::{Stopper, Thread, stop_pair},
};

mod doubts;
mod purges;

/// No answer takes this long.
const LONG: Duration = Duration::from_secs(30);

fn did(c: char) -> Did {
    Did::parse(&format!("did:plc:{}", c.to_string().repeat(24))).unwrap()
}

fn host() -> Hostname {
    Hostname::parse("pds.test").unwrap()
}

/// The document of `did` with its PDS at `pds`.
fn document(did: &str, pds: &str) -> String {
    format!(
        "{{\"id\":\"{did}\",\"service\":[{{\"id\":\"#atproto_pds\",\
         \"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"https://{pds}\"}}]}}"
    )
}

#[derive(Default)]
struct Script {
    /// Status and body by path; 404 for others.
    answers: HashMap<String, (u16, String)>,
    /// Requests answered or held, by path.
    asked: HashMap<String, usize>,
    /// Requests wait while this is set.
    held: bool,
    /// What every answer says of the next request, in seconds.
    retry_after: Option<u64>,
}

/// A server of documents.
#[derive(Clone)]
struct Server {
    port: u16,
    shared: Arc<(Mutex<Script>, Condvar)>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            port: listener.local_addr().unwrap().port(),
            shared: Arc::default(),
        };
        let accepting = server.clone();
        // These threads end with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = accepting.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    fn serve(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().unwrap();
        let mut lines = BufReader::new(stream).lines();
        while let Some(Ok(request)) = lines.next() {
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|l| !l.is_empty()))
            {}
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let (script, changed) = &*self.shared;
            let mut script = script.lock().unwrap();
            // What was true when the request came is what a slow server answers.
            let answer = script.answers.get(&path).cloned();
            *script.asked.entry(path).or_default() += 1;
            changed.notify_all();
            while script.held {
                script = changed.wait(script).unwrap();
            }
            let retry_after = script.retry_after;
            drop(script);
            let (status, body) = answer.unwrap_or((404, String::new()));
            let length = body.len();
            let retry_after = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{}\r\n{body}",
                retry_after.unwrap_or_default()
            );
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
    }

    fn answer(&self, did: &Did, status: u16, body: &str) {
        let answer = (status, body.to_owned());
        self.change(|s| drop(s.answers.insert(format!("/{did}"), answer)));
    }

    fn serve_document(&self, did: &Did, pds: &str) {
        self.answer(did, 200, &document(did.as_str(), pds));
    }

    fn asked(&self, did: &Did) -> usize {
        let script = self.shared.0.lock().unwrap();
        script.asked.get(&format!("/{did}")).copied().unwrap_or(0)
    }

    /// Waits until `did` was asked for `count` times.
    fn wait_asked(&self, did: &Did, count: usize) {
        self.wait_path(&format!("/{did}"), count);
    }

    fn wait_path(&self, path: &str, count: usize) {
        let (script, changed) = &*self.shared;
        let waiting = |s: &mut Script| s.asked.get(path).copied().unwrap_or(0) < count;
        let (_script, late) = changed
            .wait_timeout_while(script.lock().unwrap(), LONG, waiting)
            .unwrap();
        assert!(!late.timed_out(), "{path} was not asked for {count} times");
    }
}

/// A directory, its server, and a clock that can be put forward.
struct Fixture {
    server: Server,
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    ahead_ms: Arc<AtomicU64>,
    answers: Receiver<(u32, String)>,
    sender: Sender<(u32, String)>,
    stopper: Option<Stopper>,
    threads: Vec<Thread>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stopper.take();
        self.threads.clear();
    }
}

struct Report(u32, Sender<(u32, String)>);

impl Waiter for Report {
    fn resolved(&self, _: &Did, outcome: &Outcome) {
        self.1.send((self.0, words(outcome))).unwrap();
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Found(identity) => match &identity.host {
            Some(host) => host.to_string(),
            None => "no host".to_owned(),
        },
        Outcome::Missing(Missing::NotFound) => "not found".to_owned(),
        Outcome::Missing(Missing::Unsupported) => "unsupported".to_owned(),
        Outcome::Missing(Missing::BadDocument) => "bad document".to_owned(),
        Outcome::Unreachable => "unreachable".to_owned(),
    }
}

impl Fixture {
    fn start() -> Fixture {
        Fixture::with_clock(super::directory::steady_clock())
    }

    /// No time passes by itself.
    fn frozen() -> Fixture {
        Fixture::with_clock(Arc::new(|| 1_700_000_000_000))
    }

    fn with_clock(clock: super::directory::Clock) -> Fixture {
        let server = Server::start();
        let url = format!("http://127.0.0.1:{}", server.port);
        let flags = ["zlay", "--allow-private-hosts", "--plc-url", &url];
        let config = Cli::try_parse_from(flags).unwrap().config;
        let metrics = Arc::new(Metrics::default());
        let (stopper, stop) = stop_pair();
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let ahead = ahead_ms.clone();
        let (directory, threads) = Directory::start_with_clock(
            &config,
            Outbound::new(&config).unwrap(),
            metrics.clone(),
            stop,
            Arc::new(move || clock() + ahead.load(Ordering::Relaxed)),
        )
        .unwrap();
        let (sender, answers) = unbounded();
        Fixture {
            server,
            directory,
            metrics,
            ahead_ms,
            answers,
            sender,
            stopper: Some(stopper),
            threads,
        }
    }

    fn request(&self, did: &Did, how: How, n: u32) -> Result<(), RateLimited> {
        let waiter = Arc::new(Report(n, self.sender.clone()));
        self.directory.request(did, how, &host(), waiter)
    }

    /// The next answer: whose, and what.
    fn next(&self) -> (u32, String) {
        self.answers.recv_timeout(LONG).expect("an answer")
    }

    /// Asks, waits for the answer, and for the lookup to have ended.
    fn resolve(&self, did: &Did, how: How) -> String {
        self.request(did, how, 0).unwrap();
        let (_, answer) = self.next();
        wait_until("no lookup is under way", || {
            self.metrics.identity_queue.get() == 0
        });
        answer
    }

    fn cached(&self, did: &Did) -> Option<String> {
        self.directory.cached(did).as_ref().map(words)
    }

    fn put_forward(&self, duration: Duration) {
        let ms = duration.as_millis() as u64;
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Rule 158: <https://atproto.com/specs/sync>
#[test]
fn many_requests_are_one_lookup_answered_in_order() {
    let f = Fixture::start();
    let did = did('a');
    f.server.serve_document(&did, "one.test");
    f.server.change(|s| s.held = true);
    assert_eq!(f.cached(&did), None);
    for n in 0..50 {
        f.request(&did, How::Miss, n).unwrap();
    }
    f.server.wait_asked(&did, 1);
    for n in 50..100 {
        f.request(&did, How::Miss, n).unwrap();
    }
    f.server.change(|s| s.held = false);
    for n in 0..100 {
        assert_eq!(f.next(), (n, "one.test".to_owned()));
    }
    assert_eq!(f.server.asked(&did), 1);
    assert_eq!(f.cached(&did), Some("one.test".to_owned()));
    // Who missed the cache before it was filled has its answer without another lookup.
    assert_eq!(f.resolve(&did, How::Miss), "one.test");
    assert_eq!(f.server.asked(&did), 1);
    assert_eq!(f.metrics.identity_lookups.total(), 1);
    assert_eq!(f.metrics.identity_cached.get(), 1);
}

#[test]
fn a_lookup_that_began_before_a_purge_does_not_satisfy_it() {
    let f = Fixture::start();
    let did = did('a');
    f.server.serve_document(&did, "old.test");
    f.server.change(|s| s.held = true);
    f.request(&did, How::Miss, 1).unwrap();
    f.server.wait_asked(&did, 1);
    f.server.serve_document(&did, "new.test");
    f.directory.purge(&did, &host());
    f.request(&did, How::Miss, 2).unwrap();
    f.server.change(|s| s.held = false);
    assert_eq!(f.next(), (1, "old.test".to_owned()));
    assert_eq!(f.next(), (2, "new.test".to_owned()));
    assert_eq!(f.cached(&did), Some("new.test".to_owned()));
    assert_eq!(f.server.asked(&did), 2);
}

/// Rules 151, 153: <https://web.plc.directory/spec/v0.1/did-plc>
#[test]
fn what_is_missing_is_remembered_until_a_purge() {
    let f = Fixture::start();
    let (gone, bad, other) = (did('a'), did('b'), did('c'));
    f.server.serve_document(&did('w'), "witness.test");
    assert_eq!(f.resolve(&did('w'), How::Miss), "witness.test");
    f.server.answer(&gone, 410, "");
    f.server.answer(&bad, 200, "<html>");
    f.server.serve_document(&did('d'), "a.test");
    f.server
        .answer(&other, 200, &document(did('d').as_str(), "a.test"));
    for (did, answer) in [
        (&gone, "not found"),
        (&bad, "bad document"),
        (&other, "bad document"),
    ] {
        assert_eq!(f.resolve(did, How::Miss), answer);
        assert_eq!(f.cached(did), Some(answer.to_owned()));
    }
    let key = Did::parse("did:key:zQ3sh").unwrap();
    assert_eq!(f.cached(&key), Some("unsupported".to_owned()));

    f.server.serve_document(&gone, "back.test");
    f.directory.purge(&gone, &host());
    assert_eq!(f.cached(&gone), None);
    assert_eq!(f.resolve(&gone, How::Miss), "back.test");

    f.put_forward(limits::IDENTITY_MISSING_FRESH);
    assert_eq!(f.cached(&bad), None);
    f.server.serve_document(&bad, "good.test");
    assert_eq!(f.resolve(&bad, How::Miss), "good.test");
}

#[test]
fn a_good_document_serves_while_the_directory_fails() {
    let f = Fixture::start();
    let did = did('a');
    f.server.serve_document(&did, "good.test");
    assert_eq!(f.resolve(&did, How::Miss), "good.test");
    f.server.answer(&did, 500, "");
    f.directory.purge(&did, &host());
    assert_eq!(f.cached(&did), None);
    assert_eq!(f.resolve(&did, How::Miss), "good.test");
    assert_eq!(f.cached(&did), Some("good.test".to_owned()));
    assert_eq!(f.metrics.identity_stale_used.get(), 1);
    // It is still purged: in a while the directory is asked again first.
    f.server.serve_document(&did, "new.test");
    f.put_forward(limits::IDENTITY_STALE_RETRY);
    assert_eq!(f.cached(&did), None);
    assert_eq!(f.resolve(&did, How::Miss), "new.test");
}

#[test]
fn who_doubts_a_document_waits_until_the_directory_answers() {
    let f = Fixture::start();
    let did = did('a');
    f.server.serve_document(&did, "good.test");
    assert_eq!(f.resolve(&did, How::Miss), "good.test");
    f.server.answer(&did, 500, "");
    f.directory.purge(&did, &host());
    assert_eq!(f.resolve(&did, How::Miss), "good.test");
    f.request(&did, How::Forced, 7).unwrap();
    f.server.wait_asked(&did, 3);
    assert_eq!(f.cached(&did), Some("good.test".to_owned()));
    // Outdated as it is, there is no limit on asking.
    f.request(&did, How::Forced, 8).unwrap();
    f.server.serve_document(&did, "new.test");
    f.put_forward(limits::IDENTITY_RETRY_MAX);
    assert_eq!(f.next(), (7, "new.test".to_owned()));
    assert_eq!(f.next(), (8, "new.test".to_owned()));
}

#[test]
fn a_stale_document_is_used_and_refreshed_behind() {
    let f = Fixture::start();
    let did = did('a');
    f.server.serve_document(&did, "old.test");
    assert_eq!(f.resolve(&did, How::Miss), "old.test");
    f.server.serve_document(&did, "new.test");
    f.put_forward(limits::IDENTITY_FRESH);
    assert_eq!(f.cached(&did), Some("old.test".to_owned()));
    f.server.wait_asked(&did, 2);
    // Whoever asks now joins the refresh or finds it done.
    assert_eq!(f.resolve(&did, How::Miss), "new.test");
    assert_eq!(f.cached(&did), Some("new.test".to_owned()));
    assert_eq!(f.server.asked(&did), 2);
}

/// Rule 152: <https://atproto.com/specs/sync>
#[test]
fn an_unknown_account_waits_for_the_directory_to_recover() {
    let f = Fixture::start();
    let (slow, other) = (did('a'), did('b'));
    f.server.answer(&slow, 503, "");
    f.server.serve_document(&other, "other.test");
    f.request(&slow, How::Miss, 1).unwrap();
    f.server.wait_asked(&slow, 2);
    assert_eq!(f.cached(&slow), None);
    // Nobody else waits for it.
    f.request(&other, How::Miss, 2).unwrap();
    assert_eq!(f.next(), (2, "other.test".to_owned()));
    f.server.serve_document(&slow, "slow.test");
    f.request(&slow, How::Miss, 3).unwrap();
    assert_eq!(f.next(), (1, "slow.test".to_owned()));
    assert_eq!(f.next(), (3, "slow.test".to_owned()));
    assert!(
        f.metrics
            .identity_lookups
            .get((DidMethod::Plc, LookupResult::Unreachable))
            >= 2
    );
    assert_eq!(f.metrics.identity_stale_used.get(), 0);
}

#[test]
fn a_directory_that_limits_us_is_asked_again_after_a_pause() {
    let f = Fixture::start();
    let (known, unknown) = (did('a'), did('b'));
    f.server.serve_document(&known, "known.test");
    assert_eq!(f.resolve(&known, How::Miss), "known.test");
    f.server.answer(&known, 429, "");
    f.server.serve_document(&unknown, "unknown.test");
    f.directory.purge(&known, &host());
    assert_eq!(f.resolve(&known, How::Miss), "known.test");
    f.request(&unknown, How::Miss, 7).unwrap();
    assert_eq!(f.server.asked(&unknown), 0);
    f.put_forward(limits::IDENTITY_LIMITED_PAUSE);
    // The timer sleeps in real time; the next request makes a resolver look.
    f.request(&unknown, How::Miss, 8).unwrap();
    assert_eq!(f.next(), (7, "unknown.test".to_owned()));
    assert_eq!(f.next(), (8, "unknown.test".to_owned()));
}

#[test]
fn a_full_queue_holds_requests_back_until_the_stop() {
    let mut f = Fixture::start();
    f.server.change(|s| s.held = true);
    // All of the directory, whose threads are all held.
    let number = |n: usize| {
        let letter = |place: u32| char::from(b'a' + (n / 26usize.pow(place) % 26) as u8);
        let name: String = (0..4).map(letter).collect();
        Did::parse(&format!("did:plc:{}{name}", "x".repeat(20))).unwrap()
    };
    for c in 'a'..'e' {
        f.request(&did(c), How::Miss, 0).unwrap();
        f.server.wait_asked(&did(c), 1);
    }
    f.server.wait_asked(&did('d'), 1);
    for n in 4..limits::IDENTITY_QUEUE_MAX {
        f.request(&number(n), How::Miss, 0).unwrap();
    }
    assert_eq!(
        f.metrics.identity_queue.get(),
        limits::IDENTITY_QUEUE_MAX as u64
    );
    // Joining a lookup that there is takes no room.
    f.request(&did('a'), How::Miss, 0).unwrap();
    let (sender, returned) = unbounded();
    let (directory, waiter) = (f.directory.clone(), Report(1, f.sender.clone()));
    let blocked = thread::spawn(move || {
        let outcome = directory.request(&did('z'), How::Miss, &host(), Arc::new(waiter));
        sender.send(outcome).unwrap();
    });
    assert!(returned.recv_timeout(Duration::from_millis(100)).is_err());
    f.stopper.take();
    assert_eq!(returned.recv_timeout(LONG), Ok(Ok(())));
    blocked.join().unwrap();
    f.threads.clear();
    assert!(f.answers.is_empty(), "nobody is called");
}

#[test]
fn forced_lookups_ask_anew_but_not_at_will() {
    let f = Fixture::start();
    let did = did('a');
    f.server.serve_document(&did, "old.test");
    assert_eq!(f.resolve(&did, How::Miss), "old.test");
    f.server.serve_document(&did, "new.test");
    assert_eq!(f.resolve(&did, How::Forced), "new.test");
    assert_eq!(f.cached(&did), Some("new.test".to_owned()));
    assert_eq!(f.request(&did, How::Forced, 9), Err(RateLimited));
    f.put_forward(limits::IDENTITY_FORCED_INTERVAL);
    assert_eq!(f.resolve(&did, How::Forced), "new.test");
    assert_eq!(f.server.asked(&did), 3);
    assert!(f.answers.is_empty(), "a refused waiter is not called");
}

/// Is not content with the first answer.
struct Insistent(Arc<Directory>, Report);

impl Waiter for Insistent {
    fn resolved(&self, did: &Did, outcome: &Outcome) {
        self.1.resolved(did, outcome);
        let again = Arc::new(Report(self.1.0 + 1, self.1.1.clone()));
        let asked = self.0.request(did, How::Forced, &host(), again);
        assert_eq!(asked, Ok(()));
    }
}

#[test]
fn a_waiter_may_ask_anew_from_within_its_call() {
    let f = Fixture::start();
    let did = did('a');
    f.server.serve_document(&did, "old.test");
    f.server.change(|s| s.held = true);
    let report = Report(1, f.sender.clone());
    let waiter = Arc::new(Insistent(f.directory.clone(), report));
    let asked = f.directory.request(&did, How::Miss, &host(), waiter);
    assert_eq!(asked, Ok(()));
    f.server.wait_asked(&did, 1);
    f.server.serve_document(&did, "new.test");
    f.server.change(|s| s.held = false);
    assert_eq!(f.next(), (1, "old.test".to_owned()));
    assert_eq!(f.next(), (2, "new.test".to_owned()));
}

/// Rule 156: <https://atproto.com/specs/did>
#[test]
fn did_web_is_asked_of_its_host_and_given_up_in_the_end() {
    let f = Fixture::start();
    let web = Server::start();
    let did = Did::parse(&format!("did:web:localhost%3A{}", web.port)).unwrap();
    let path = "/.well-known/did.json".to_owned();
    let body = document(did.as_str(), "web.test");
    web.change(|s| drop(s.answers.insert(path.clone(), (200, body))));
    assert_eq!(f.resolve(&did, How::Miss), "web.test");

    let web = Server::start();
    let did = Did::parse(&format!("did:web:localhost%3A{}", web.port)).unwrap();
    web.change(|s| drop(s.answers.insert(path, (500, String::new()))));
    f.request(&did, How::Miss, 1).unwrap();
    web.wait_path("/.well-known/did.json", 1);
    f.put_forward(limits::IDENTITY_WEB_PATIENCE);
    assert_eq!(f.next(), (1, "unreachable".to_owned()));
    assert_eq!(f.cached(&did), Some("unreachable".to_owned()));
}

#[test]
fn a_stop_interrupts_lookups_and_drops_who_waits() {
    let mut f = Fixture::start();
    let (held, failing) = (did('a'), did('b'));
    f.server.answer(&failing, 500, "");
    f.request(&failing, How::Miss, 1).unwrap();
    f.server.wait_asked(&failing, 1);
    f.server.change(|s| s.held = true);
    f.request(&held, How::Miss, 2).unwrap();
    f.server.wait_asked(&held, 1);
    f.stopper.take();
    f.threads.clear();
    assert!(f.answers.is_empty(), "nobody is called");
    f.request(&held, How::Miss, 3).unwrap();
    // Ours is the only sender left: the waiters are gone.
    let (sender, _) = unbounded();
    f.sender = sender;
    assert!(
        f.answers
            .recv_timeout(LONG)
            .is_err_and(|e| e.is_disconnected())
    );
}
