//! What the operator does to hosts that are connected, and what is noted of what he does.

use serde_json::{Value, json};
use zlay::sim::{account::Account, event::Event};

use crate::{
    http,
    scripted::Scripted,
    site::{PASSWORD, Relay, Site, next_commit, wait_until},
    stage::Stage,
};

/// A stage with a host that remembers from where it is asked, and an account of it.
fn scripted() -> (Stage, Scripted, Account) {
    let mut stage = Stage::set_up();
    let host = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&host.name()).0, 200);
    host.wait_until_asked(1);
    let account = host.account(&mut stage.site);
    (stage, host, account)
}

/// The host says a commit of the account, which arrives as the next event.
fn say(stage: &mut Stage, host: &Scripted, account: &mut Account, seq: u64) -> Event {
    let event = next_commit(account);
    host.say(seq, &event);
    stage.subscriber.expect(&[&event]);
    event
}

fn reset(relay: &Relay, host: &str, cursor: &Value) -> (u16, Value) {
    let body = json!({ "host": host, "cursor": cursor }).to_string();
    relay.admin("/admin/hosts/resetCursor", Some(&body))
}

/// The host is read from where the operator says, as its requests show; what it says again is not
/// published again, and the stream goes on without a gap. The place holds over a restart.
///
/// Rules 33, 39: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_host_is_read_from_where_the_operator_says() {
    let (mut stage, host, mut account) = scripted();
    let name = host.name();
    for seq in [2, 4, 6] {
        say(&mut stage, &host, &mut account, seq);
    }
    let mut seq = 6;
    let mut asked = vec![Some(0)];
    let refused = |stage: &Stage| stage.relay.rejects().values().sum::<u64>();
    for (cursor, from, again) in [
        (json!("oldest"), Some(0), 3),
        (json!(0), Some(0), 4),
        (json!(4), Some(4), 3),
        (json!("8"), Some(8), 1),
        (json!("live"), None, 0),
    ] {
        let before = refused(&stage);
        let success = (200, json!({ "success": "true" }));
        assert_eq!(reset(&stage.relay, &name, &cursor), success, "{cursor}");
        asked.push(from);
        host.wait_until_asked(asked.len());
        assert_eq!(host.asked(), asked, "{cursor}");
        wait_until("what is sent again is known", || {
            refused(&stage) == before + again
        });
        seq += 1;
        say(&mut stage, &host, &mut account, seq);
        assert_eq!(stage.relay.of_host(&name, "/seq"), seq);
        assert_eq!(stage.relay.of_host(&name, "/last_skipped"), Value::Null);
    }
    let names: Vec<_> = stage.relay.rejects().into_keys().collect();
    assert!(
        names
            .iter()
            .all(|name| name == "duplicate" || name == "rev_stale"),
        "{names:?}"
    );
    // What the host has not said yet is no place that it knows: it is read from now on.
    assert_eq!(reset(&stage.relay, &name, &json!(1_000)).0, 200);
    host.wait_until_asked(8);
    assert_eq!(host.asked()[6..], [Some(1_000), None]);
    wait_until("its page says so", || {
        let skipped = stage.relay.of_host(&name, "/last_skipped/reason");
        skipped.as_str() == Some("the host sent the error FutureCursor")
    });
    say(&mut stage, &host, &mut account, 20);
    // The latest place is kept like any other.
    assert_eq!(reset(&stage.relay, &name, &json!(10)).0, 200);
    host.wait_until_asked(9);
    say(&mut stage, &host, &mut account, 21);
    stage.crash();
    host.wait_until_asked(10);
    assert_eq!(host.asked()[8..], [Some(10), Some(21)]);
    say(&mut stage, &host, &mut account, 22);
    let total = stage.relay.metric("relay_seq");
    assert_eq!(total, stage.subscriber.last());
}

/// Neither a host that is not known or banned, nor what is no place in a stream.
#[test]
fn what_is_no_place_of_a_stream_is_refused() {
    let (mut stage, host, mut account) = scripted();
    say(&mut stage, &host, &mut account, 1);
    let wrong = [
        json!(-1),
        json!(1.5),
        json!("newest"),
        json!(""),
        json!([]),
        json!(true),
        json!(null),
        json!(u64::MAX),
    ];
    for cursor in &wrong {
        let (status, answer) = reset(&stage.relay, &host.name(), cursor);
        assert_eq!(
            (status, &answer["error"]),
            (400, &"InvalidRequest".into()),
            "{cursor}"
        );
    }
    let path = format!("/admin/hosts/resetCursor?host={}", host.name());
    assert_eq!(stage.relay.admin(&path, Some("")).0, 400);
    let (status, answer) = reset(&stage.relay, "pds.example.com", &json!("live"));
    assert_eq!((status, &answer["error"]), (404, &"HostNotFound".into()));
    stage.relay.ban(&host.name(), true);
    let (status, answer) = reset(&stage.relay, &host.name(), &json!("oldest"));
    let banned = (400, &"The host is banned".into());
    assert_eq!((status, &answer["message"]), banned);
    stage.relay.ban(&host.name(), false);
    host.wait_until_asked(2);
    assert_eq!(host.asked(), [Some(0), Some(1)]);
    say(&mut stage, &host, &mut account, 2);
}

/// A connection that the operator ends is made anew, and goes on where it was; with `block` it is not,
/// until the ban is lifted. Nothing is lost and nothing comes twice.
///
/// Rules 39, 166: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn a_connection_that_the_operator_ends_is_made_anew_unless_he_bans() {
    let (mut stage, host, mut account) = scripted();
    let name = host.name();
    let kill = |stage: &Stage, query: &str| {
        let path = format!("/admin/subs/killUpstream?host={name}{query}");
        stage.relay.admin(&path, Some(""))
    };
    let connected = |stage: &Stage| {
        let list = stage.relay.look("/admin/subs/getUpstreamConns");
        let list = list.as_array().unwrap().clone();
        list.contains(&Value::from(name.as_str()))
    };
    say(&mut stage, &host, &mut account, 5);
    for (n, query) in (2..).zip(["", "&block=false", "&block=False"]) {
        wait_until("it is shown as connected", || connected(&stage));
        assert_eq!(kill(&stage, query).0, 200);
        host.wait_until_asked(n);
    }
    assert_eq!(host.asked(), [Some(0), Some(5), Some(5), Some(5)]);
    say(&mut stage, &host, &mut account, 6);

    assert_eq!(kill(&stage, "&block=true").0, 200);
    assert_eq!(stage.relay.of_host(&name, "/status"), "banned");
    assert!(!connected(&stage));
    let (status, answer) = kill(&stage, "");
    let nothing = (400, &"There is no connection to this host".into());
    assert_eq!((status, &answer["message"]), nothing);
    let unheard = next_commit(&mut account);
    host.say(7, &unheard);
    stage.sentinel();
    assert_eq!(host.asked().len(), 4);
    stage.relay.ban(&name, false);
    stage.subscriber.expect(&[&unheard]);
    assert_eq!(host.asked()[4..], [Some(6)]);
    // Nor while it can not be reached.
    host.set_relay(true);
    host.cut();
    wait_until("it is not connected", || !connected(&stage));
    assert_eq!(kill(&stage, "").0, 400);
    host.set_relay(false);
    say(&mut stage, &host, &mut account, 8);
    let path = "/admin/subs/killUpstream?host=pds.example.com";
    assert_eq!(stage.relay.admin(path, Some("")).0, 404);
    assert!(stage.relay.rejects().is_empty());
}

/// What is noted of one act: what, to whom, and what else was said.
type Noted = (&'static str, String, Value);

/// Does everything that changes something, once; what is to be noted of it, in order.
fn acts(stage: &mut Stage) -> Vec<Noted> {
    let host = stage.site.network.host(0).name().to_owned();
    let other = stage.site.network.host(1).name().to_owned();
    let did = stage.bystander.did().to_string();
    let new = Scripted::start();
    let query = format!("?host={host}");
    let none = Value::Null;
    let sent = json!({ "kind": "warning", "sentAt": "2025-01-02T03:04:05.000Z" });
    let mut alert = sent.clone();
    alert["host"] = host.as_str().into();
    let acts: Vec<(&str, String, Value, String, Value)> = vec![
        (
            "pds/requestCrawl",
            String::new(),
            json!({ "hostname": new.name() }),
            new.name(),
            none.clone(),
        ),
        (
            "pds/block",
            query.clone(),
            none.clone(),
            host.clone(),
            none.clone(),
        ),
        (
            "pds/unblock",
            query.clone(),
            none.clone(),
            host.clone(),
            none.clone(),
        ),
        (
            "pds/changeLimits",
            String::new(),
            json!({ "host": host, "repo_limit": 9, "trusted": null }),
            host.clone(),
            json!({ "repo_limit": 9, "trusted": null }),
        ),
        (
            "subs/banDomain",
            String::new(),
            json!({ "Domain": "Example.com" }),
            "example.com".into(),
            none.clone(),
        ),
        (
            "subs/unbanDomain",
            String::new(),
            json!({ "domain": "example.com" }),
            "example.com".into(),
            none.clone(),
        ),
        (
            "subs/setEnabled",
            "?enabled=false".into(),
            none.clone(),
            "request_crawl".into(),
            json!({ "request_crawl": false }),
        ),
        (
            "subs/setPerDayLimit",
            "?limit=9".into(),
            none.clone(),
            "new_hosts_per_day".into(),
            json!({ "new_hosts_per_day": 9 }),
        ),
        (
            "settings/change",
            String::new(),
            json!({ "catch_up_hours": 5, "request_crawl": null }),
            "catch_up_hours, request_crawl".into(),
            json!({ "catch_up_hours": 5, "request_crawl": null }),
        ),
        (
            "hosts/resetCursor",
            String::new(),
            json!({ "host": host, "cursor": "oldest" }),
            host.clone(),
            json!({ "cursor": "oldest" }),
        ),
        (
            "alerts/accountLimitSent",
            String::new(),
            alert,
            host.clone(),
            sent,
        ),
        (
            "subs/killUpstream",
            format!("?host={other}&block=true"),
            none.clone(),
            other,
            json!({ "block": true }),
        ),
        (
            "repo/takeDown",
            String::new(),
            json!({ "did": did }),
            did.clone(),
            none.clone(),
        ),
        (
            "repo/reverseTakedown",
            String::new(),
            json!({ "did": did }),
            did,
            none,
        ),
    ];
    for (action, query, body, ..) in &acts {
        let path = format!("/admin/{action}{query}");
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let (status, answer) = stage.relay.admin(&path, Some(&body));
        assert_eq!(status, 200, "{path} {body}: {answer}");
    }
    let noted = acts.into_iter();
    let noted = noted.map(|(action, _, _, subject, detail)| (action, subject, detail));
    noted.collect()
}

/// Who has done what, to whom and with which words, is noted of everything that changes something, the
/// latest first, in pages; of what is only looked at, refused or wrong nothing is. It is there after a
/// restart, and the password is nowhere in it.
///
/// Rule 181: <https://atproto.com/specs/xrpc#authentication>
#[test]
fn everything_that_the_operator_does_is_noted() {
    let mut stage = Stage::set_up();
    let mut acts = acts(&mut stage);
    acts.reverse();
    // Nothing of this is an act.
    for path in [
        "hosts",
        "pds/list",
        "settings",
        "audit",
        "repo/takedowns",
        "consumers/list",
        "subs/getEnabled",
        "subs/perDayLimit",
        "subs/listDomainBans",
        "subs/getUpstreamConns",
    ] {
        stage.relay.look(&format!("/admin/{path}"));
    }
    for (path, status) in [
        ("/admin/pds/block?host=pds.example.com", 404),
        ("/admin/subs/banDomain", 400),
        ("/admin/repo/takeDown?did=did:web:example.com", 404),
        ("/admin/nothing", 501),
    ] {
        assert_eq!(stage.relay.admin(path, Some("")).0, status, "{path}");
    }
    let target = "/admin/pds/block?host=pds.example.com";
    let stranger = http::ask(stage.relay.public, "POST", target, "", "");
    assert_eq!(stranger.status, 401);

    let noted = |relay: &Relay| {
        let entries = relay.look("/admin/audit")["entries"].clone();
        entries.as_array().unwrap().clone()
    };
    let entries = noted(&stage.relay);
    let found = entries.iter().map(|entry| {
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        (text("action"), text("subject"), entry["detail"].clone())
    });
    let expected = acts
        .into_iter()
        .map(|(action, subject, detail)| (action.to_owned(), subject, detail));
    assert_eq!(
        found.collect::<Vec<_>>(),
        expected.collect::<Vec<_>>(),
        "{entries:#?}"
    );
    for pair in entries.windows(2) {
        assert!(pair[0]["id"].as_u64() > pair[1]["id"].as_u64());
        assert!(pair[0]["time"].as_str() >= pair[1]["time"].as_str());
        assert_eq!(pair[0]["actor"], "127.0.0.1");
    }
    assert!(!json!(entries).to_string().contains(PASSWORD));

    // A page at a time, to the end.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stage.relay.look(&format!("/admin/audit?limit=4{cursor}"));
        paged.extend(page["entries"].as_array().unwrap().clone());
        let Some(next) = page["cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, entries);
    for query in ["limit=0", "limit=x", "cursor=x"] {
        let path = format!("/admin/audit?{query}");
        assert_eq!(stage.relay.admin(&path, None).0, 400, "{query}");
    }

    // Behind a proxy it is the client that has done it. The names of a path are those of the request.
    stage.relay.kill();
    stage.relay = stage.site.start();
    assert_eq!(noted(&stage.relay), entries);
    let headers = format!("Authorization: Bearer {PASSWORD}\r\nX-Forwarded-For: 203.0.113.7\r\n");
    let target = format!(
        "/admin/hosts/block?host={}",
        stage.site.network.host(0).name()
    );
    let answer = http::ask(stage.relay.public, "POST", &target, &headers, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let latest = noted(&stage.relay)[0].clone();
    assert_eq!(
        (&latest["actor"], &latest["action"]),
        (&"203.0.113.7".into(), &"hosts/block".into())
    );
    let ids = [&latest, &entries[0]].map(|entry| entry["id"].as_u64().unwrap());
    assert!(ids[0] > ids[1], "{ids:?}");
}

/// The relay can be told what it is not to do before there is anybody to do it to.
#[test]
fn a_domain_can_be_banned_before_there_is_a_host() {
    let site = Site::new(1);
    let relay = site.start();
    relay.decide("/admin/subs/banDomain", r#"{"domain":"localhost"}"#);
    let host = site.network.host(0);
    assert_eq!(relay.request_crawl(host.name()).0, 403);
    relay.decide("/admin/subs/unbanDomain", r#"{"domain":"localhost"}"#);
    assert_eq!(relay.request_crawl(host.name()).0, 200);
    site.wait_until_connected();
}
