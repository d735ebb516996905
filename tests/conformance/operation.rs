//! The relay among others: who is slow or lies does no harm to the rest, and everybody that the
//! relay speaks with is told what it is.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
};

use zlay::{
    USER_AGENT,
    reject::Reject,
    sim::{account::Account, event, event::Event},
};

use crate::{
    plain::Plain,
    raw::{Raw, STREAM, UPGRADE},
    scripted::Scripted,
    site::{Site, bare_command, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// Accounts of each of the two hosts.
const ACCOUNTS: usize = 1_000;
/// How many of them the directory takes its time for.
const SLOW: usize = 100;
/// How often each says something.
const ROUNDS: usize = 2;

/// A directory that does not answer for some accounts until it is told to.
struct Directory {
    documents: HashMap<String, String>,
    /// Accounts without an answer.
    held: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Directory {
    fn answer(&self, path: &str) -> (String, String) {
        let did = path.trim_start_matches('/').replace("%3A", ":");
        let held = self.held.lock().unwrap();
        let held = self.changed.wait_while(held, |held| held.contains(&did));
        drop(held.unwrap());
        match self.documents.get(&did) {
            Some(document) => ("200 OK".into(), document.clone()),
            None => ("404 Not Found".into(), "{}".into()),
        }
    }

    fn let_go(&self) {
        self.held.lock().unwrap().clear();
        self.changed.notify_all();
    }
}

/// Each account says one thing, the accounts of a host one after the other, both hosts at the same
/// time; what they said.
fn speak(site: &Site, hosts: &mut [Vec<Account>; 2], rounds: usize) -> Vec<Event> {
    let said = std::thread::scope(|scope| {
        let speaking = hosts.each_mut().map(|accounts| {
            scope.spawn(move || {
                let mut said = Vec::new();
                for _ in 0..rounds {
                    for account in &mut *accounts {
                        let event = next_commit(account);
                        site.network.publish(account.host, &event);
                        said.push(event);
                    }
                }
                said
            })
        });
        speaking.map(|thread| thread.join().unwrap())
    });
    said.into_iter().flatten().collect()
}

/// A thousand accounts each of two hosts speak as fast as they can. For a tenth of them the
/// directory gives no answer: they wait, in order, and nobody else does.
///
/// Rule 193: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn a_directory_that_is_slow_for_some_delays_no_others() {
    let mut site = Site::new(2);
    let mut hosts = [0, 1].map(|host| {
        let accounts = (0..ACCOUNTS).map(|_| site.stranger(host));
        accounts.collect::<Vec<_>>()
    });
    let document = |account: &Account| {
        let url = site.network.host(account.host).url();
        (account.did().to_string(), account.document(&url))
    };
    let directory = Arc::new(Directory {
        documents: hosts.iter().flatten().map(document).collect(),
        held: Mutex::default(),
        changed: Condvar::new(),
    });
    let answering = directory.clone();
    let plc = Plain::start(move |path| answering.answer(path));
    let url = format!("http://{}", plc.name());
    site.variables = vec![("RELAY_PLC_URL", url)];
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);

    // The first words of most: these are known from then on.
    let mut slow = hosts
        .each_mut()
        .map(|accounts| accounts.split_off(ACCOUNTS - SLOW));
    let first = speak(&site, &mut hosts, 1);
    subscriber.expect(&first.iter().collect::<Vec<_>>());

    let dids = slow
        .iter()
        .flatten()
        .map(|account| account.did().to_string());
    directory.held.lock().unwrap().extend(dids);
    let waiting = speak(&site, &mut slow, ROUNDS);
    let passing = speak(&site, &mut hosts, ROUNDS);
    subscriber.expect(&passing.iter().collect::<Vec<_>>());
    wait_until("the others wait", || {
        relay.metric("relay_events_waiting") == waiting.len() as u64
    });
    directory.let_go();
    subscriber.expect(&waiting.iter().collect::<Vec<_>>());
    assert_eq!(relay.metric("relay_events_waiting"), 0);
    assert_eq!(relay.metric("relay_events_discontinuous_total"), 0);
    assert!(relay.rejects().is_empty(), "{:?}", relay.rejects());
    assert!(
        site.network
            .hosts()
            .iter()
            .all(|host| host.connections() == 1)
    );
}

/// A host says everything that can be said about the account of another one: with keys of its own,
/// and with the very events that the other host is about to send. None of it is forwarded or
/// believed, but that somebody should look at the identity, without the handle.
///
/// Rule 194: <https://atproto.com/specs/sync#security-considerations>
/// Rule 194: <https://atproto.com/guides/account-lifecycle>
#[test]
fn a_host_has_no_say_about_accounts_of_others() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let mut unseen = stage.site.account(0);
    for victim in [&mut account, &mut unseen] {
        // The next words of the account itself, heard at the wrong place.
        let commit = next_commit(&mut victim.clone());
        stage.refuse(1, &commit, Reject::WrongHost);
        let mut ahead = victim.clone();
        next_commit(&mut ahead);
        stage.refuse(1, &ahead.sync().unwrap(), Reject::WrongHost);
        // The same, signed by somebody who would like to be the account.
        let mut copy = victim.clone();
        copy.key = stage.site.stranger(1).key;
        let forged = next_commit(&mut copy);
        stage.refuse(1, &forged, Reject::WrongHost);
        stage.refuse(1, &copy.sync().unwrap(), Reject::WrongHost);
        for status in [
            Some("deactivated"),
            Some("deleted"),
            Some("takendown"),
            None,
        ] {
            copy.status = status;
            stage.refuse(1, &copy.account(), Reject::WrongHost);
        }
        copy.handle = "somebody.else.test".into();
        for identity in [victim.identity(), copy.identity()] {
            stage.site.network.host(1).emit(&identity);
            stage
                .subscriber
                .expect(&[&identity.without_handle().unwrap()]);
        }
        let next = [next_commit(victim), victim.account(), victim.identity()];
        stage.pass(&next.each_ref());
    }
    let names: Vec<_> = stage.relay.rejects().into_keys().collect();
    assert_eq!(names, [Reject::WrongHost.name()]);
    assert_eq!(stage.relay.metric("relay_events_discontinuous_total"), 0);
}

/// Everything that the relay asks for, at the directory, at hosts, at the relay that it takes its
/// first hosts from, and as the command that asks another relay.
///
/// Rule 197: <https://github.com/bluesky-social/indigo/blob/main/cmd/relay/HACKING.md>
#[test]
fn every_request_says_who_asks() {
    let mut site = Site::new(1);
    let host = Scripted::start();
    let mut account = host.account(&mut site);
    let document = account.document(&format!("http://{}", host.name()));
    let everything = Plain::start(move |path| match path {
        "/xrpc/com.atproto.sync.requestCrawl" => ("200 OK".into(), "{}".into()),
        path if path.starts_with("/xrpc/com.atproto.sync.listHosts") => {
            ("200 OK".into(), r#"{"hosts":[]}"#.into())
        }
        path if path.starts_with("/did") => ("200 OK".into(), document.clone()),
        _ => ("404 Not Found".into(), "{}".into()),
    });
    site.variables = vec![
        ("RELAY_UPSTREAM", everything.name()),
        ("RELAY_PLC_URL", format!("http://{}", everything.name())),
    ];
    let relay = site.start();
    assert_eq!(relay.request_crawl(&host.name()).0, 200);
    host.wait_until_asked(1);
    let web = format!("did:web:{}", everything.name().replace(':', "%3A"));
    host.say(
        1,
        &event::identity(&web.into(), None, 1_700_000_000_000_000),
    );
    host.say(2, &next_commit(&mut account));
    // It was told that the account is inactive, and hears from it: it asks.
    account.status = Some("deactivated");
    host.say(3, &account.account());
    host.say(4, &next_commit(&mut account));
    let mut command = bare_command();
    let url = format!("http://{}", everything.name());
    command.args(["crawl", "--relay", &url, "pds.example.com"]);
    assert!(command.output().unwrap().status.success());

    let did = account.did().replace(':', "%3A");
    let expected = [
        "GET /xrpc/com.atproto.server.describeServer ",
        "GET /xrpc/com.atproto.sync.subscribeRepos?",
        "GET /xrpc/com.atproto.sync.getRepoStatus?did=",
        "GET /xrpc/com.atproto.sync.listHosts?",
        "POST /xrpc/com.atproto.sync.requestCrawl ",
        "GET /.well-known/did.json ",
        "GET /did",
    ];
    let heads = || [host.heads(), everything.heads()].concat();
    for request in expected {
        wait_until(request, || {
            heads().iter().any(|head| head.starts_with(request))
        });
    }
    let agent = format!("user-agent: {USER_AGENT}").to_ascii_lowercase();
    for head in heads() {
        let lines: Vec<_> = head.lines().map(str::to_ascii_lowercase).collect();
        assert!(lines.contains(&agent), "{head}");
    }
    assert!(
        heads()
            .iter()
            .any(|head| head.contains(&did) || head.contains(&**account.did()))
    );
}

/// Whatever the answer is, it carries the mark by which relays know each other.
///
/// Rule 197: <https://github.com/bluesky-social/indigo/blob/main/cmd/relay/HACKING.md>
#[test]
fn every_answer_says_that_this_is_a_relay() {
    let site = Site::new(1);
    let relay = site.start();
    let plain = "Host: relay\r\nConnection: close\r\n";
    let posted = "Host: relay\r\nContent-Type: application/json\r\nContent-Length: 0\r\n";
    let long = format!("Host: relay\r\nX-Long: {}\r\n", "x".repeat(20_000));
    for (status, method, target, headers) in [
        (101, "GET", STREAM, UPGRADE),
        (400, "GET", &*format!("{STREAM}?cursor=abc"), UPGRADE),
        (405, "POST", STREAM, posted),
        (426, "GET", STREAM, plain),
        (400, "POST", "/xrpc/com.atproto.sync.requestCrawl", posted),
        (501, "GET", "/xrpc/com.example.unknown", plain),
        (200, "GET", "/xrpc/_health", plain),
        (200, "HEAD", "/xrpc/_health", plain),
        (200, "GET", "/", plain),
        (404, "GET", "/nothing", plain),
        (204, "OPTIONS", "/xrpc/_health", plain),
        (401, "POST", "/admin/pds/requestCrawl", posted),
        (431, "GET", "/", &long),
    ] {
        let answer = Raw::ask(&relay, method, target, headers);
        assert_eq!(answer.status, status, "{method} {target}");
        let server = answer.header("Server").expect("who answers");
        assert!(server.contains("atproto-relay"), "{server}");
    }
}
