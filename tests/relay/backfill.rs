//! Filling a relay with what it has not heard, from another relay and from hosts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, mpsc},
};

use serde_json::{Value, json};
use zlay::sim::{account::Account, event::Event};

use crate::{
    plain::Plain,
    postgres::Database,
    site::{Relay, Site, agent, answer, next_commit, wait_until},
    subscriber::Subscriber,
};

const COLLECTIONS: &str = "/admin/backfill-collections";
const ACCOUNTS: &str = "/admin/backfill-accounts";
const CANCEL: &str = "/admin/backfill/cancel";
const POST: &str = "app.bsky.feed.post";

impl Relay {
    /// Asks a query of the public port.
    pub(crate) fn query(&self, query: &str) -> (u16, Value) {
        let url = format!("http://{}/xrpc/com.atproto.sync.{query}", self.public);
        answer(agent().get(url).call().unwrap())
    }

    /// The DIDs of a whole list, page by page, two at once.
    fn all(&self, query: &str) -> Vec<String> {
        let (mut dids, mut cursor) = (Vec::new(), String::new());
        loop {
            let and = if query.contains('?') { '&' } else { '?' };
            let (status, page) = self.query(&format!("{query}{and}limit=2{cursor}"));
            assert_eq!(status, 200, "{page}");
            let repos = page["repos"].as_array().unwrap().iter();
            dids.extend(repos.map(|repo| repo["did"].as_str().unwrap().to_owned()));
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return dids,
            }
        }
    }

    pub(crate) fn listed_by(&self, collection: &str) -> Vec<String> {
        self.all(&format!("listReposByCollection?collection={collection}"))
    }

    /// Begins a backfill, which must be possible.
    fn fill(&self, path: &str) {
        let (status, body) = self.admin(path, Some(""));
        assert_eq!((status, &body["running"]), (200, &true.into()), "{body}");
    }

    /// Waits until the last backfill of a kind is in this state.
    fn wait_for(&self, path: &str, state: &str) -> Value {
        wait_until(state, || self.look(path)["state"] == state);
        self.look(path)
    }
}

fn from(source: &str, collections: &str) -> String {
    format!("{COLLECTIONS}?source={source}&collections={collections}")
}

fn dids(accounts: &[&Account]) -> Vec<String> {
    accounts
        .iter()
        .map(|account| account.did().to_string())
        .collect()
}

/// A relay that has heard everything, and one of the same network that is new.
fn old_and_new(hosts: usize) -> (Site, Relay, Site, Relay) {
    let old = Site::new(hosts);
    let first = old.start_crawling();
    let mut new = Site::new(0);
    new.variables.push(("RELAY_PLC_URL", old.network.plc_url()));
    let second = new.start();
    (old, first, new, second)
}

/// A second relay is told by the first who has records of what. It lists them, knows nothing else of
/// them, and takes the first word of their host as it would have otherwise.
///
/// Rule 178: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listReposByCollection.json>
#[test]
fn a_new_relay_learns_from_another_who_has_records_of_what() {
    let (mut old, first, new, second) = old_and_new(1);
    let mut accounts: Vec<Account> = (0..5).map(|_| old.account(0)).collect();
    let mut subscriber = Subscriber::from_the_beginning(&first);
    let post = |account: &mut Account| old.publish_post(account);
    let events: Vec<Event> = accounts.iter_mut().map(post).collect();
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    let expected = first.listed_by(POST);
    assert_eq!(expected.len(), 5);
    let source = first.public.to_string().replace("127.0.0.1", "localhost");
    second.fill(&from(&source, POST));
    let status = second.wait_for(COLLECTIONS, "done");
    let part = |name: &str| status[name].clone();
    assert_eq!(part("running"), false);
    assert_eq!(part("source"), format!("http://{source}"));
    assert_eq!((part("total"), part("completed")), (1.into(), 1.into()));
    assert_eq!(
        (part("total_imported"), part("in_progress")),
        (5.into(), Value::Null)
    );
    assert_eq!((part("failed"), part("skipped")), (0.into(), json!({})));
    assert_eq!(second.listed_by(POST), expected);
    assert_eq!(second.metric("relay_backfill_imported_total"), 5);
    assert_eq!(second.metric("relay_backfill_running"), 0);
    assert_eq!(second.metric("relay_seq"), 0, "nothing is published");
    // It is a name in a list and no more.
    let did = accounts[0].did().to_string();
    for query in ["getRepoStatus", "getLatestCommit", "getRepo"] {
        let (status, body) = second.query(&format!("{query}?did={did}"));
        assert_eq!(
            (status, &body["error"]),
            (404, &"RepoNotFound".into()),
            "{query}"
        );
    }
    assert!(second.all("listRepos").is_empty());
    let lookup = second.look(&format!("/admin/repo/lookup?did={did}"));
    assert_eq!(
        (&lookup["host"], &lookup["rev"]),
        (&Value::Null, &Value::Null)
    );
    // The operator's word hides it.
    let body = json!({ "did": did }).to_string();
    second.decide("/admin/repo/takeDown", &body);
    let others: Vec<&String> = expected.iter().filter(|other| **other != did).collect();
    assert_eq!(second.listed_by(POST).iter().collect::<Vec<_>>(), others);
    second.decide("/admin/repo/reverseTakedown", &body);
    // What it knows by itself is asked for without being named, and brings nothing new.
    second.fill(&format!("{COLLECTIONS}?source={source}"));
    let again = second.wait_for(COLLECTIONS, "done");
    assert_eq!(
        (&again["total_imported"], &again["already_known"]),
        (&0.into(), &5.into())
    );
    // The host speaks for them: of what it has said before, and of what comes.
    let mut own = Subscriber::after(&second, second.metric("relay_seq"));
    assert_eq!(second.request_crawl(old.network.host(0).name()).0, 200);
    own.expect(&events.iter().collect::<Vec<_>>());
    own.expect(&[&old.publish_post(&mut accounts[0])]);
    assert_eq!(second.query(&format!("getRepoStatus?did={did}")).0, 200);
    assert_eq!(second.listed_by(POST), expected);
    drop(new);
}

/// What a source answers to each question, and how often it was asked.
type Script = Arc<Mutex<HashMap<String, u64>>>;

fn page(n: u64, cursor: Option<u64>) -> (String, String) {
    let repos: Vec<Value> = (0..3)
        .map(|k| json!({ "did": format!("did:web:n{n}-{k}.test") }))
        .collect();
    let mut page = json!({ "repos": repos });
    if let Some(cursor) = cursor {
        page["cursor"] = cursor.to_string().into();
    }
    ("200 OK".to_owned(), page.to_string())
}

/// The collection and the cursor of a question.
fn question(path: &str) -> (String, u64) {
    let query = path.split_once('?').unwrap().1;
    let part = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value.to_owned())
    };
    assert_eq!(part("limit").as_deref(), Some("2000"));
    let cursor = part("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    (part("collection").unwrap(), cursor)
}

/// One that is busy, fails, talks nonsense and refuses is asked with patience where that helps.
#[test]
fn a_source_that_is_busy_is_waited_for_and_one_list_does_not_spoil_the_others() {
    let asked: Script = Arc::default();
    let counting = asked.clone();
    let source = Plain::start(move |path| {
        let (collection, cursor) = question(path);
        let count = {
            let mut asked = counting.lock().unwrap();
            let count = asked.entry(format!("{collection} {cursor}")).or_default();
            *count += 1;
            *count
        };
        let plain = |status: &str| (status.to_owned(), "{}".to_owned());
        match (collection.as_str(), cursor, count) {
            ("com.example.a", 0, 1) => plain("429 Too Many Requests\r\nRetry-After: 2"),
            ("com.example.a", 0, 2) => plain("500 Internal Server Error"),
            ("com.example.a", 0, _) => page(1, Some(1)),
            ("com.example.a", ..) => {
                let repos = json!([{ "did": "did:web:last.test" }, { "did": 7 }, "x", {}]);
                ("200 OK".to_owned(), json!({ "repos": repos }).to_string())
            }
            ("com.example.b", ..) => plain("501 Not Implemented"),
            ("com.example.c", ..) => ("200 OK".to_owned(), "[nonsense".to_owned()),
            // The same cursor again and again.
            ("com.example.d", ..) => page(4, Some(1)),
            _ => page(5, None),
        }
    });
    let site = Site::new(0);
    let relay = site.start();
    let names = "com.example.e,com.example.d,com.example.c,com.example.b,com.example.a";
    relay.fill(&from(&source.name(), names));
    wait_until("it is shown why it waits", || {
        let status = relay.look(COLLECTIONS);
        status["state"] == "waiting"
            && status["last_error"] == "listReposByCollection has status 429"
            && status["next_try_at"].is_string()
            && status["in_progress"] == "com.example.a"
    });
    assert_eq!(relay.metric("relay_backfill_running"), 1);
    let status = relay.wait_for(COLLECTIONS, "done");
    assert_eq!(
        (&status["total"], &status["completed"]),
        (&5.into(), &5.into())
    );
    assert_eq!(status["failed"], 2);
    let failures = status["failures"].as_array().unwrap();
    let named = |n: usize| failures[n]["collection"].as_str().unwrap();
    assert_eq!([named(0), named(1)], ["com.example.b", "com.example.c"]);
    assert!(failures[0]["reason"].as_str().unwrap().contains("501"));
    assert!(
        failures[1]["reason"]
            .as_str()
            .unwrap()
            .contains("not what it should be")
    );
    // a: three, one and three that are none; d: the same three twice; e: three.
    assert_eq!(status["total_imported"], 3 + 1 + 3 + 3);
    assert_eq!(status["already_known"], 3);
    assert_eq!(status["skipped"], json!({ "malformed": 3 }));
    let skipped = "relay_backfill_skipped_total{reason=\"malformed\"}";
    assert_eq!(relay.metric(skipped), 3);
    let asked = asked.lock().unwrap();
    let times = |key: &str| asked.get(key).copied().unwrap_or_default();
    assert_eq!([times("com.example.a 0"), times("com.example.a 1")], [3, 1]);
    assert_eq!([times("com.example.b 0"), times("com.example.c 0")], [1, 3]);
    assert_eq!([times("com.example.d 0"), times("com.example.d 1")], [1, 1]);
    let listed = relay.listed_by("com.example.a");
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[3], "did:web:last.test");
}

/// Killed, or stopped, in the middle of a list, it goes on at the page where it was.
fn goes_on(mut site: Site, database: Option<&Database>) {
    if let Some(database) = database {
        site.variables
            .push(("DATABASE_URL", database.url().to_owned()));
    }
    let (pages, asked): (u64, Script) = (6, Arc::default());
    let (reached, at) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let (reached, held) = (Mutex::new(reached), Mutex::new(held));
    let counting = asked.clone();
    let source = Plain::start(move |path| {
        let (_, cursor) = question(path);
        let count = {
            let mut asked = counting.lock().unwrap();
            let count = asked.entry(cursor.to_string()).or_default();
            *count += 1;
            *count
        };
        if matches!((cursor, count), (2 | 4, 1)) {
            reached.lock().unwrap().send(cursor).unwrap();
            let _ = held.lock().unwrap().recv();
        }
        page(cursor, (cursor + 1 < pages).then_some(cursor + 1))
    });
    let mut relay = site.start();
    relay.fill(&from(&source.name(), "com.example.a"));
    assert_eq!(at.recv().unwrap(), 2);
    let status = relay.look(COLLECTIONS);
    assert_eq!(
        (&status["pages"], &status["total_imported"]),
        (&2.into(), &6.into())
    );
    relay.kill();
    release.send(()).unwrap();
    let relay = site.start();
    assert_eq!(at.recv().unwrap(), 4);
    // A stop does not wait for the source.
    relay.terminate();
    assert!(relay.ended().0.success());
    release.send(()).unwrap();
    let relay = site.start();
    let status = relay.wait_for(COLLECTIONS, "done");
    assert_eq!(
        (&status["pages"], &status["completed"]),
        (&pages.into(), &1.into())
    );
    assert_eq!(
        (&status["total_imported"], &status["failed"]),
        (&18.into(), &0.into())
    );
    assert_eq!(relay.listed_by("com.example.a").len(), 18);
    let asked = asked.lock().unwrap();
    let times: Vec<u64> = (0..pages).map(|n| asked[&n.to_string()]).collect();
    assert_eq!(times, [1, 1, 2, 1, 2, 1], "nothing is read from the start");
    // What is done is shown, and not done again.
    assert_eq!(relay.look(COLLECTIONS)["state"], "done");
}

#[test]
fn a_backfill_goes_on_after_the_end_of_the_process() {
    goes_on(Site::new(0), None);
}

#[test]
fn a_backfill_goes_on_after_the_end_of_the_process_with_postgres() {
    let database = Database::new();
    goes_on(Site::new(0), Some(&database));
}

/// There is one at a time; it ends when it is told to, at once also where it waits for its source, and
/// that holds after a restart.
#[test]
fn a_backfill_is_cancelled_and_another_begins() {
    let source = Plain::start(|_| ("503 Service Unavailable".to_owned(), String::new()));
    let site = Site::new(0);
    let relay = site.start();
    let path = from(&source.name(), "com.example.a");
    assert_eq!(relay.admin(CANCEL, Some("")).1["was_running"], false);
    relay.fill(&path);
    for path in [path.as_str(), ACCOUNTS] {
        let (status, body) = relay.admin(path, Some(""));
        assert_eq!((status, &body["error"]), (409, &"BackfillRunning".into()));
        assert!(
            body["message"].as_str().unwrap().contains(&source.name()),
            "{body}"
        );
    }
    relay.wait_for(COLLECTIONS, "waiting");
    let (status, body) = relay.admin(CANCEL, Some(""));
    assert_eq!((status, &body["cancelled"]), (200, &"collections".into()));
    let ended = relay.wait_for(COLLECTIONS, "cancelled");
    assert_eq!(
        (&ended["running"], &ended["in_progress"]),
        (&false.into(), &Value::Null)
    );
    assert!(ended["ended_at"].is_string() && ended["last_error"] == Value::Null);
    relay.terminate();
    assert!(relay.ended().0.success());
    let relay = site.start();
    assert_eq!(relay.look(COLLECTIONS), ended);
    assert_eq!(relay.metric("relay_backfill_running"), 0);
    relay.fill(&path);
    assert_eq!(relay.admin(CANCEL, Some("")).1["was_running"], true);
    let entries = relay.look("/admin/audit");
    let noted = entries["entries"].as_array().unwrap().iter();
    let noted: Vec<&str> = noted.map(|e| e["action"].as_str().unwrap()).collect();
    let (begun, cancelled) = ("backfill-collections", "backfill/cancel");
    assert_eq!(noted, [cancelled, begun, cancelled, begun, cancelled]);
}

/// A host lists accounts that have said nothing yet. One that is trusted is believed; of another only
/// those whose documents name it are taken.
#[test]
fn hosts_list_accounts_that_have_said_nothing_yet() {
    let mut site = Site::new(3);
    let relay = site.start_crawling();
    let hosts = site.network.hosts().to_vec();
    relay.change(hosts[1].name(), json!({ "trusted": false }));
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    // One that the relay has heard of, and others that have written when nobody was listening.
    let mut heard = site.account(0);
    subscriber.expect(&[&site.publish_post(&mut heard)]);
    let mut silent = |host: usize| {
        let mut account = site.account(host);
        next_commit(&mut account);
        account
    };
    let (mut trusted, mut left, own, foreign) = (silent(0), silent(0), silent(1), silent(2));
    left.status = Some("deactivated");
    let mut unknown = site.stranger(1);
    next_commit(&mut unknown);
    let list = |host: usize, account: &Account| {
        hosts[host].set_account(account.did(), account.hosted());
    };
    for account in [&heard, &trusted, &left] {
        list(0, account);
    }
    for account in [&own, &foreign, &unknown, &heard] {
        list(1, account);
    }
    let (status, body) = relay.admin(&format!("{ACCOUNTS}?host=localhost:1"), Some(""));
    assert_eq!((status, &body["error"]), (404, &"HostNotFound".into()));
    relay.ban(hosts[2].name(), true);
    let banned = format!("{ACCOUNTS}?host={}", hosts[2].name());
    assert_eq!(relay.admin(&banned, Some("")).0, 409);

    relay.fill(&format!("{ACCOUNTS}?host={}", hosts[1].name()));
    let status = relay.wait_for(ACCOUNTS, "done");
    assert_eq!(
        (&status["host"], &status["total"]),
        (&hosts[1].name().into(), &1.into())
    );
    assert_eq!(status["total_imported"], 1);
    assert_eq!(
        status["skipped"],
        json!({ "no_document": 1, "other_host": 2 })
    );
    relay.fill(ACCOUNTS);
    let status = relay.wait_for(ACCOUNTS, "done");
    assert_eq!(
        (&status["host"], &status["total"]),
        (&Value::Null, &2.into()),
        "not the banned"
    );
    assert_eq!(
        (&status["total_imported"], &status["already_known"]),
        (&2.into(), &2.into())
    );
    assert_eq!(status["failed"], 0, "{status}");

    let mut expected = dids(&[&heard, &own, &trusted, &left]);
    let mut listed = relay.all("listRepos");
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
    let ask =
        |query: &str, account: &Account| relay.query(&format!("{query}?did={}", account.did()));
    let (cid, rev) = trusted.head().unwrap();
    let latest = json!({ "cid": cid.to_string(), "rev": rev.to_string() });
    assert_eq!(ask("getLatestCommit", &trusted), (200, latest));
    let (_, status) = ask("getRepoStatus", &left);
    assert_eq!(
        (&status["active"], &status["status"]),
        (&false.into(), &"deactivated".into())
    );
    assert_eq!(ask("getRepoStatus", &foreign).0, 404);
    assert_eq!(relay.of_host(hosts[0].name(), "/accounts"), 3);
    assert_eq!(relay.of_host(hosts[1].name(), "/accounts"), 1);
    // Nothing was said, and what comes next is taken as it comes.
    let event = site.publish_post(&mut trusted);
    subscriber.expect(&[&event]);
    let (cid, rev) = trusted.head().unwrap();
    let latest = json!({ "cid": cid.to_string(), "rev": rev.to_string() });
    assert_eq!(ask("getLatestCommit", &trusted), (200, latest));
    assert!(relay.rejects().is_empty());
}

/// A host that can not be read does not keep the others waiting for ever.
#[test]
fn a_host_that_can_not_be_read_is_left_out() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let host = Plain::start(|path| {
        if path.contains("describeServer") {
            let body = json!({ "did": "did:web:localhost", "availableUserDomains": [] });
            return ("200 OK".to_owned(), body.to_string());
        }
        ("503 Service Unavailable".to_owned(), String::new())
    });
    assert_eq!(relay.request_crawl(&host.name()).0, 200);
    let mut account = site.account(0);
    next_commit(&mut account);
    site.network
        .host(0)
        .set_account(account.did(), account.hosted());
    relay.fill(ACCOUNTS);
    let status = relay.wait_for(ACCOUNTS, "done");
    assert_eq!(
        (&status["completed"], &status["failed"]),
        (&2.into(), &1.into())
    );
    let failure = &status["failures"][0];
    assert_eq!(failure["host"], host.name());
    assert!(
        failure["reason"].as_str().unwrap().contains("503"),
        "{status}"
    );
    assert_eq!(relay.all("listRepos"), dids(&[&account]));
}
