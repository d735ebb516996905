//! Who becomes a host: nobody who was refused is anywhere afterwards, and a ban goes before everything.

use serde_json::json;

use crate::{
    plain::Plain,
    scripted::Scripted,
    site::{Relay, Site, next_commit, wait_until},
    stage::Stage,
};

/// What a PDS says of itself.
const PDS: &str = r#"{"did":"did:web:localhost","availableUserDomains":[]}"#;

/// A server that answers every request like this.
fn answering(head: &'static str, body: &'static str) -> Plain {
    Plain::start(move |_| (head.to_owned(), body.to_owned()))
}

/// Anybody and the operator ask for a host, and are refused.
fn refused(relay: &Relay, name: &str, status: u16, error: &str) {
    let body = json!({ "hostname": name }).to_string();
    for (status_now, answer) in [
        relay.request_crawl(name),
        relay.admin("/admin/pds/requestCrawl", Some(&body)),
    ] {
        let now = (status_now, answer["error"].as_str().unwrap_or_default());
        assert_eq!(now, (status, error), "{name}: {answer}");
    }
}

/// By their name, by the operator, because nobody or somebody else is there, or because it is a relay:
/// whoever is refused is in no list, on no page, and not in what is kept. Names that lead to private
/// addresses are refused where they are looked up, which the tests of `outbound` show.
///
/// Rules 52, 165, 166, 167: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn whoever_is_refused_is_nowhere_also_after_a_restart() {
    let site = Site::new(1);
    let mut relay = site.start();
    relay.decide("/admin/subs/banDomain", r#"{"domain":"example.com"}"#);
    let marked = answering("200 OK\r\nServer: other/1 (atproto-relay)", PDS);
    let missing = answering("404 Not Found", PDS);
    let moved = answering("302 Found\r\nLocation: https://pds.example.org/", PDS);
    let page = answering("200 OK", "<html>");
    let nobody = answering("200 OK", r#"{"availableUserDomains":[]}"#);
    let away = site.network.host(0).clone();
    away.set_refuses(true);
    let (invalid, not_found, banned) = ("InvalidRequest", "HostNotFound", "HostBanned");
    let names = [
        ("10.0.0.1".to_owned(), 400, invalid),
        ("[::1]:2583".to_owned(), 400, invalid),
        ("pds".to_owned(), 400, invalid),
        ("pds.example.org/path".to_owned(), 400, invalid),
        ("ftp://pds.example.org".to_owned(), 400, invalid),
        ("example.com".to_owned(), 403, banned),
        ("pds.example.com".to_owned(), 403, banned),
        ("https://a.b.c.Example.com".to_owned(), 403, banned),
        (marked.name(), 400, invalid),
        (missing.name(), 400, not_found),
        (moved.name(), 400, not_found),
        (page.name(), 400, not_found),
        (nobody.name(), 400, not_found),
        (away.name().to_owned(), 400, not_found),
    ];
    for restarted in [false, true] {
        if restarted {
            relay.kill();
            relay = site.start();
        }
        assert_eq!(relay.look("/admin/hosts"), json!({ "hosts": [] }));
        for (name, status, error) in &names {
            refused(&relay, name, *status, error);
            assert_eq!(relay.host_page(name).0, 404, "{name}");
        }
        assert_eq!(relay.listed(), Vec::<String>::new());
        assert_eq!(relay.look("/admin/pds/list"), json!([]));
        assert_eq!(
            relay.metric("relay_host_connects_total{result=\"connected\"}"),
            0
        );
        assert_eq!(relay.failed_connects(), 0);
    }
    // That it was refused is not held against it.
    away.set_refuses(false);
    assert_eq!(relay.request_crawl(away.name()).0, 200);
    site.wait_until_connected();
    assert_eq!(relay.listed(), [away.name()]);
}

/// A host that is over a limit is banned in the middle of its wait, and the relay is killed. Nobody
/// listens to it until the ban is lifted, and then nothing is missing of what it said before, meanwhile
/// and since.
///
/// Rules 54, 166: <https://github.com/bluesky-social/atproto/tree/main/lexicons/com/atproto/sync>
#[test]
fn a_ban_holds_for_a_host_that_waits_and_over_a_kill() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let host = stage.site.network.host(0).clone();
    stage
        .relay
        .change(host.name(), json!({ "events_per_second": 1 }));
    let mut events: Vec<_> = (0..10).map(|_| next_commit(&mut account)).collect();
    for event in &events {
        stage.site.network.publish(0, event);
    }
    wait_until("it waits", || {
        stage.relay.of_host(host.name(), "/status") == "throttled"
    });
    stage.relay.ban(host.name(), true);
    assert_eq!(stage.relay.of_host(host.name(), "/status"), "banned");
    wait_until("the connection ends", || host.connected() == 0);
    let connections = host.connections();
    stage.crash();
    let state = stage.relay.of_host(host.name(), "/state");
    assert_eq!(state, "banned by the operator");
    let said = stage.relay.request_crawl(host.name());
    assert_eq!((said.0, &said.1["error"]), (403, &"HostBanned".into()));
    for _ in 0..5 {
        events.push(next_commit(&mut account));
        stage.site.network.publish(0, events.last().unwrap());
    }
    let mut heard = stage.unread();
    // The other host is listened to, so that this one would be, too.
    let mut other = stage.site.account(1);
    stage.pass_from(1, &[&next_commit(&mut other)]);
    assert_eq!(host.connections(), connections, "it was never tried");

    let lifted = json!({ "events_per_second": null });
    stage.relay.change(host.name(), lifted);
    assert_eq!(stage.relay.of_host(host.name(), "/status"), "banned");
    stage.relay.ban(host.name(), false);
    // What passed before the ban is not sent again; everything else is, and in order.
    let left = events.len() - heard.len();
    heard.extend((0..left).map(|_| stage.subscriber.event()));
    let heard: Vec<_> = heard.iter().map(|seen| seen.digest).collect();
    let expected: Vec<_> = events.iter().map(|event| event.digest()).collect();
    assert_eq!(heard, expected);
    stage.sentinel();
    assert!(stage.relay.rejects().is_empty());
}

/// The hosts of a banned domain stay unheard over a restart; with the ban goes what was held back.
///
/// Rule 166: <https://github.com/bluesky-social/atproto/tree/main/lexicons/com/atproto/sync>
#[test]
fn a_ban_of_a_domain_holds_over_a_restart_and_costs_nothing_when_it_is_lifted() {
    let mut stage = Stage::set_up();
    stage
        .relay
        .decide("/admin/subs/banDomain", r#"{"domain":"localhost"}"#);
    let hosts = stage.site.network.hosts().to_vec();
    wait_until("both connections end", || {
        hosts.iter().all(|host| host.connected() == 0)
    });
    let connections: Vec<_> = hosts.iter().map(|host| host.connections()).collect();
    let held_back = stage.site.publish_post(&mut stage.bystander);
    stage.restart();
    let bans = stage.relay.look("/admin/subs/listDomainBans");
    assert_eq!(bans, json!({ "banned_domains": ["localhost"] }));
    for host in &hosts {
        let state = stage.relay.of_host(host.name(), "/state");
        let domain = "banned by the operator, with the domain localhost";
        assert_eq!(state, domain);
        assert_eq!(stage.relay.request_crawl(host.name()).0, 403);
    }
    // A host below it that is not known yet is not made known by asking.
    let new = Scripted::start();
    refused(&stage.relay, &new.name(), 403, "HostBanned");
    assert_eq!(new.heads(), Vec::<String>::new());
    let now: Vec<_> = hosts.iter().map(|host| host.connections()).collect();
    assert_eq!(now, connections, "nobody was tried");
    stage
        .relay
        .decide("/admin/subs/unbanDomain", r#"{"domain":"localhost"}"#);
    stage.subscriber.expect(&[&held_back]);
    stage.sentinel();
    assert_eq!(stage.relay.listed().len(), 2);
}
