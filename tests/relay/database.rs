//! The relay with its control store in a database: the same relay, which goes on while the database is
//! away, and comes back from it when everything else is lost; and the starts of a relay whose hosts are
//! in every state, with either store.

use serde_json::{Value, json};
use zlay::{
    limits::MIRROR_SEQ_MARGIN,
    reject::Reject,
    sim::{event::Event, feed::Once},
    threads::stop_pair,
};

use crate::{
    crashes,
    follower::Follower,
    http,
    postgres::{Cluster, Database},
    scripted::{Future, Scripted},
    site::{PASSWORD, Relay, Site, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// A site whose relay has its control store there.
fn site_with(hosts: usize, database: &str) -> Site {
    let mut site = Site::new(hosts);
    let url = ("DATABASE_URL", database.to_owned());
    site.variables.push(url);
    site
}

/// Everything that was decided, as it is shown, but for what differs from run to run.
fn decided(relay: &Relay) -> Value {
    let page = relay.look("/admin/hosts");
    let hosts = page["hosts"].as_array().unwrap().iter();
    let hosts = hosts.map(|host| {
        let names = [
            "id",
            "status",
            "own_terms",
            "account_limit",
            "limits",
            "trusted",
            "lenient",
            "added_by",
            "accounts",
        ];
        let fields = names.map(|name| (name.to_owned(), host[name].clone()));
        Value::Object(fields.into_iter().collect())
    });
    let audit = relay.look("/admin/audit");
    let audit = audit["entries"].as_array().unwrap().iter();
    let audit = audit.map(|entry| json!([entry["action"], entry["actor"]]));
    json!({
        "hosts": hosts.collect::<Value>(),
        "settings": relay.look("/admin/settings"),
        "domains": relay.look("/admin/subs/listDomainBans"),
        "takedowns": relay.look("/admin/repo/takedowns")["dids"].as_array().unwrap().len(),
        "audit": audit.collect::<Value>(),
    })
}

/// What the operator decides in the life of a relay, over starts of both kinds: what was shown when all
/// of it was in force, and when all of it was taken back.
fn life(site: Site) -> [Value; 2] {
    let mut stage = Stage::on(site);
    let mut account = stage.known_account();
    let hosts = [0, 1].map(|n| stage.site.network.host(n).clone());
    let mut other = stage.site.account(1);
    stage.pass_from(1, &[&next_commit(&mut other)]);
    let did = json!({ "did": &**account.did() }).to_string();
    stage.relay.change(
        hosts[0].name(),
        json!({ "repo_limit": 9, "trusted": false, "lenient": true, "events_per_day": 5_000 }),
    );
    stage
        .relay
        .set(&json!({ "host_events_per_second": 70, "trusted_domains": ["*.example.com"] }));
    stage
        .relay
        .decide("/admin/subs/banDomain", r#"{"domain":"example.com"}"#);
    stage.relay.decide("/admin/repo/takeDown", &did);
    stage.subscriber.told(&account, false, Some("takendown"));
    stage.relay.ban(hosts[1].name(), true);
    wait_until("the connection ends", || hosts[1].connected() == 0);
    let held_back = next_commit(&mut other);
    stage.site.network.publish(1, &held_back);
    let in_force = decided(&stage.relay);
    for restart in [Stage::restart, Stage::crash] {
        let connections = hosts[0].connections();
        restart(&mut stage);
        wait_until("it is connected again", || {
            hosts[0].connections() > connections
        });
        assert_eq!(decided(&stage.relay), in_force);
        stage.sentinel();
        let unheard = next_commit(&mut account);
        stage.refuse(0, &unheard, Reject::AccountInactive);
    }

    let none =
        json!({ "repo_limit": null, "trusted": null, "lenient": null, "events_per_day": null });
    stage.relay.change(hosts[0].name(), none);
    stage
        .relay
        .set(&json!({ "host_events_per_second": null, "trusted_domains": null }));
    stage
        .relay
        .decide("/admin/subs/unbanDomain", r#"{"domain":"example.com"}"#);
    stage.relay.decide("/admin/repo/reverseTakedown", &did);
    stage.subscriber.told(&account, true, None);
    stage.relay.ban(hosts[1].name(), false);
    stage.subscriber.expect(&[&held_back]);
    let taken_back = decided(&stage.relay);
    stage.crash();
    stage.site.wait_until_connected();
    assert_eq!(decided(&stage.relay), taken_back);
    stage.pass(&[&next_commit(&mut account)]);
    [in_force, taken_back]
}

/// Which hosts are in which order, what was counted, decided, kept and noted: all of it is the same.
#[test]
fn a_relay_with_a_database_is_the_same_relay() {
    let database = Database::new();
    let kept_there = life(site_with(2, database.url()));
    assert_eq!(life(Site::new(2)), kept_there);
    assert_eq!(database.query("SELECT count(*) FROM hosts"), ["2"]);
    assert_eq!(database.query("SELECT count(*) FROM domain_bans"), ["0"]);
}

/// One change that the operator asks for: it can not be kept, so it is refused, with a reason and with
/// when to ask again.
fn refused_for_now(relay: &Relay, path: &str, body: &Value) {
    let headers = format!("Authorization: Bearer {PASSWORD}\r\n");
    let answer = http::ask(relay.public, "POST", path, &headers, &body.to_string());
    assert_eq!(answer.status, 503, "{path}: {answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("can not"), "{message}");
}

/// Of what `/readyz` warns; the relay is ready all the same.
fn warnings(relay: &Relay) -> String {
    let answer = http::ask(relay.internal, "GET", "/readyz", "", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["warnings"].to_string()
}

/// Traffic of all kinds, and a database that is killed in the middle of it. The stream goes on; nothing
/// that would have to be kept is done, and what is in force stays; known hosts may ask, and new ones are
/// told to come back. When the database is back, so is everything, by itself: what was seen of hosts
/// meanwhile is kept, and nothing is missing in the stream.
#[test]
fn a_database_that_is_killed_under_load_costs_no_event() {
    let mut cluster = Cluster::start();
    let mut site = site_with(3, &cluster.url());
    let mut accounts = crashes::accounts(&mut site);
    accounts.retain(|account| account.host == 0);
    let expected = site.network.expected().clone();
    let relay = site.start();
    let hosts = site.network.hosts().to_vec();
    for host in &hosts[..2] {
        assert_eq!(relay.request_crawl(host.name()).0, 200);
    }
    wait_until("it listens to both", || {
        hosts[..2].iter().all(|host| host.connected() == 1)
    });
    let follower = Follower::start(&relay, expected.clone());
    let (stopper, stop) = stop_pair();
    let passes = |count: usize| {
        let before = follower.count();
        wait_until("events pass", || follower.count() >= before + count);
    };
    let did = accounts[0].did().to_string();
    std::thread::scope(|scope| {
        let _stopper = stopper;
        scope.spawn(|| crashes::send(&site.network, &mut accounts, &stop));
        passes(100);
        cluster.stop();
        let (limit, domains) = (
            relay.of_host(hosts[0].name(), "/account_limit"),
            relay.look("/admin/subs/listDomainBans"),
        );
        let settings = relay.look("/admin/settings");
        let name = hosts[0].name();
        wait_until("the operator is warned", || {
            warnings(&relay).contains("control store")
        });
        for (path, body) in [
            ("/admin/pds/block", json!({ "host": name })),
            (
                "/admin/pds/changeLimits",
                json!({ "host": name, "repo_limit": 3 }),
            ),
            ("/admin/subs/banDomain", json!({ "domain": "localhost" })),
            ("/admin/settings/change", json!({ "request_crawl": false })),
            ("/admin/repo/takeDown", json!({ "did": did })),
        ] {
            refused_for_now(&relay, path, &body);
            passes(20);
        }
        assert_eq!(relay.of_host(name, "/account_limit"), limit);
        assert_eq!(relay.of_host(name, "/status"), "active");
        assert_eq!(relay.look("/admin/subs/listDomainBans"), domains);
        assert_eq!(relay.look("/admin/settings"), settings);
        assert_eq!(relay.look("/admin/repo/takedowns")["dids"], json!([]));
        assert_eq!(relay.request_crawl(name).0, 200);
        let (status, answer) = relay.request_crawl(hosts[2].name());
        assert_eq!(status, 503, "{answer}");
        assert_eq!(relay.host_page(hosts[2].name()).0, 404);
        // Something happens to a host meanwhile.
        hosts[1].set_refuses(true);
        hosts[1].inject(Once::Cut);
        wait_until("it has failed", || {
            relay.of_host(hosts[1].name(), "/failures").as_u64() >= Some(2)
        });
        passes(100);

        cluster.run();
        wait_until("the operator is heard again", || {
            let ban = Some(r#"{"domain":"example.com"}"#);
            relay.admin("/admin/subs/banDomain", ban).0 == 200
        });
        wait_until("what was seen meanwhile is kept", || {
            let sql = "SELECT name FROM hosts WHERE failures >= 2";
            cluster.query(sql) == [hosts[1].name()]
        });
        wait_until("nobody is warned any more", || {
            !warnings(&relay).contains("control store")
        });
        hosts[1].set_refuses(false);
        assert_eq!(relay.request_crawl(hosts[2].name()).0, 200);
        passes(100);
    });
    wait_until("everything has come", || expected.outstanding() == 0);
    let differences = expected.verdict();
    assert!(differences.none(), "{differences:#?}");
    let followed = follower.stop();
    assert_eq!(relay.metric("relay_seq"), followed.len() as u64);
    wait_until("it listens to all", || {
        hosts.iter().all(|host| host.connected() == 1)
    });
    // Of what was refused nothing is done in the end.
    let acts = relay.look("/admin/audit")["entries"].clone();
    assert_eq!(acts.as_array().unwrap().len(), 1, "{acts}");
    wait_until("the log says so", || {
        !relay.said("what had to wait is kept").is_empty()
    });
}

/// Reads up to this event; of which accounts came something before it.
fn before(subscriber: &mut Subscriber, event: &Event) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        let seen = subscriber.event();
        if seen.digest == event.digest() {
            return before;
        }
        before.push(seen.did);
    }
}

/// The data directory is gone and the database is not: the window for replay is lost and nothing else.
/// Hosts, bans, limits, takedowns and settings come back, hosts are asked from where they were read, and
/// no seq is given again. Once after a stop, when the database had heard everything, and once after a
/// kill, when it is a little behind: then hosts are asked for a little more.
#[test]
fn what_the_data_directory_has_lost_comes_back_from_the_database() {
    let database = Database::new();
    let mut stage = Stage::on(site_with(2, database.url()));
    let host = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&host.name()).0, 200);
    host.wait_until_asked(1);
    let mut account = host.account(&mut stage.site);
    let mut down = stage.known_account();
    let did = json!({ "did": &**down.did() }).to_string();
    let banned = stage.site.network.host(1).clone();
    let common = stage.site.network.host(0).name().to_owned();
    for seq in [3, 7] {
        let event = next_commit(&mut account);
        host.say(seq, &event);
        stage.subscriber.expect(&[&event]);
    }
    stage.relay.change(
        &common,
        json!({ "repo_limit": 3, "events_per_hour": 4_000 }),
    );
    stage.relay.ban(banned.name(), true);
    stage
        .relay
        .decide("/admin/subs/banDomain", r#"{"domain":"example.com"}"#);
    stage.relay.set(&json!({ "new_hosts_per_day": 8 }));
    stage.relay.decide("/admin/repo/takeDown", &did);
    stage.subscriber.told(&down, false, Some("takendown"));
    let mut kept = decided(&stage.relay);
    let connections = banned.connections();

    for (said, orderly) in (7..).zip([true, false]) {
        let last = stage.relay.metric("relay_seq");
        match orderly {
            true => stage.relay.terminate(),
            // The last seq is there after some seconds, the places of hosts after some more.
            false => stage.relay.kill(),
        }
        let child = &mut stage.relay.child;
        wait_until("the relay ends", || child.try_wait().unwrap().is_some());
        // What is said meanwhile is asked for.
        let asked = host.asked().len();
        let missed = next_commit(&mut account);
        host.say(said + 1, &missed);
        std::fs::remove_dir_all(stage.site.data()).unwrap();
        stage.relay = stage.site.start();
        wait_until("the log says so", || {
            !stage.relay.said("the data directory is new").is_empty()
        });
        host.wait_until_asked(asked + 1);
        let from = host.asked()[asked].unwrap();
        stage.subscriber = Subscriber::from_the_beginning(&stage.relay);
        let mut again = before(&mut stage.subscriber, &missed);
        assert!(stage.subscriber.last() > last + MIRROR_SEQ_MARGIN / 2);
        // The other host is asked from where it was, too.
        let more = next_commit(&mut stage.bystander);
        stage.site.network.publish(0, &more);
        again.extend(before(&mut stage.subscriber, &more));
        if orderly {
            assert_eq!((from, again), (said, Vec::new()));
        } else {
            // It may not have been noted yet that the last ones were read.
            assert!((7..=said).contains(&from), "{from}");
            let known = [&account, &stage.bystander].map(|a| a.did().to_string());
            assert!(again.iter().all(|did| known.contains(did)), "{again:?}");
        }

        let now = decided(&stage.relay);
        // What was counted in the events that are gone is not known any more.
        for part in ["settings", "domains", "takedowns", "audit"] {
            assert_eq!(now[part], kept[part], "{part}");
        }
        for (host, before) in now["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .zip(kept["hosts"].as_array().unwrap())
        {
            for field in ["id", "own_terms", "account_limit", "added_by"] {
                assert_eq!(host[field], before[field], "{field}");
            }
        }
        assert_eq!(stage.relay.of_host(banned.name(), "/status"), "banned");
        assert_eq!(banned.connections(), connections);
        let unheard = next_commit(&mut down);
        stage.refuse(0, &unheard, Reject::AccountInactive);
        assert_eq!(stage.site.network.host(0).outdated(), 0);
        kept = now;
    }
    stage.relay.decide("/admin/repo/reverseTakedown", &did);
    stage.subscriber.told(&down, true, None);
    stage.pass(&[&next_commit(&mut down)]);
}

/// One host is connected, one not reached for long, one knows no cursor, one is over its limit and one is
/// banned when the relay ends. Each is what it was, or is so again as soon as it is tried, and nothing of
/// any of them is lost.
fn every_state(site: Site) {
    let mut stage = Stage::on(site);
    let [away, slow, banned] = [1, 2, 3].map(|n| stage.site.network.host(n).clone());
    let mut accounts = [1, 2, 3].map(|n| stage.site.account(n));
    for account in &mut accounts {
        stage.pass_from(account.host, &[&next_commit(account)]);
    }
    let [of_away, of_slow, of_banned] = &mut accounts;
    let reset = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&reset.name()).0, 200);
    reset.wait_until_asked(1);
    let mut of_reset = reset.account(&mut stage.site);
    let event = next_commit(&mut of_reset);
    reset.say(1_000, &event);
    stage.subscriber.expect(&[&event]);

    let shown = |stage: &Stage, host: &str| {
        let status = stage.relay.of_host(host, "/status");
        status.as_str().unwrap().to_owned()
    };
    away.set_refuses(true);
    away.inject(Once::Cut);
    let body = json!({ "hostname": away.name() }).to_string();
    wait_until("it is offline", || {
        shown(&stage, away.name()) == "offline" || {
            let asked = stage.relay.admin("/admin/pds/requestCrawl", Some(&body));
            assert_eq!(asked.0, 200);
            false
        }
    });
    reset.set_error(Some("FutureCursor"));
    reset.start_anew(Future::Refuse);
    wait_until("it is idle", || shown(&stage, &reset.name()) == "idle");
    stage
        .relay
        .change(slow.name(), json!({ "events_per_hour": 1 }));
    let mut waiting: Vec<_> = (0..4).map(|_| next_commit(of_slow)).collect();
    for event in &waiting {
        stage.site.network.publish(2, event);
    }
    wait_until("it is throttled", || {
        shown(&stage, slow.name()) == "throttled"
    });
    stage.relay.ban(banned.name(), true);
    wait_until("it is banned", || banned.connected() == 0);
    let first = waiting.remove(0);
    stage.subscriber.expect(&[&first]);
    let (from_away, from_banned) = (next_commit(of_away), next_commit(of_banned));
    stage.site.network.publish(1, &from_away);
    stage.site.network.publish(3, &from_banned);

    let connections = banned.connections();
    stage.restart();
    assert_eq!(shown(&stage, away.name()), "offline");
    assert_eq!(shown(&stage, banned.name()), "banned");
    let second = waiting.remove(0);
    // An hour's bucket is full again at the start; nobody else has anything to say yet.
    stage.subscriber.expect(&[&second]);
    wait_until("each is what it was", || {
        shown(&stage, slow.name()) == "throttled" && shown(&stage, &reset.name()) == "idle"
    });
    stage.sentinel();
    assert_eq!(banned.connections(), connections);

    away.set_refuses(false);
    stage.subscriber.expect(&[&from_away]);
    stage
        .relay
        .change(slow.name(), json!({ "events_per_hour": null }));
    stage.subscriber.expect(&waiting.iter().collect::<Vec<_>>());
    stage.relay.ban(banned.name(), false);
    stage.subscriber.expect(&[&from_banned]);
    reset.set_error(None);
    let body = json!({ "hostname": reset.name() }).to_string();
    wait_until("it is tried", || {
        shown(&stage, &reset.name()) == "active" || {
            let asked = stage.relay.admin("/admin/pds/requestCrawl", Some(&body));
            assert_eq!(asked.0, 200);
            false
        }
    });
    wait_until("it is connected", || {
        stage.relay.of_host(&reset.name(), "/state") == "connected"
    });
    let event = next_commit(&mut of_reset);
    reset.say(1, &event);
    stage.subscriber.expect(&[&event]);
    for host in [&away, &slow, &banned] {
        wait_until("all is well", || shown(&stage, host.name()) == "active");
    }
    assert!(stage.relay.rejects().is_empty());
}

/// Rules 40, 50, 51: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_start_finds_hosts_of_every_state() {
    every_state(Site::new(4));
}

/// Rules 40, 50, 51: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_start_finds_hosts_of_every_state_in_a_database() {
    let database = Database::new();
    every_state(site_with(4, database.url()));
}
