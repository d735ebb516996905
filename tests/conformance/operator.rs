//! What the operator decides about hosts: bans.

use serde_json::{Value, json};
use zlay::sim::event::Event;

use crate::{
    site::{Relay, Site, agent, answer, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// Status and name of the error with which a host is not crawled.
fn crawl(relay: &Relay, host: &str) -> (u16, String) {
    let (status, body) = relay.request_crawl(host);
    (
        status,
        body["error"].as_str().unwrap_or_default().to_owned(),
    )
}

fn banned() -> (u16, String) {
    (403, "HostBanned".to_owned())
}

/// The connection of a banned host ends at once, what it says is not heard, and asking does not
/// help, also after a restart. Unbanned, it goes on where it was.
///
/// Rule 166: <https://github.com/bluesky-social/atproto/tree/main/lexicons/com/atproto/sync>
#[test]
fn a_banned_host_is_not_listened_to_until_it_is_unbanned() {
    let mut stage = Stage::set_up();
    let mut other = stage.site.account(1);
    let first = next_commit(&mut other);
    stage.pass_from(1, &[&first]);
    let host = stage.site.network.host(0).clone();
    let (block, unblock) = (
        format!("/admin/pds/block?host={}", host.name()),
        format!("/admin/pds/unblock?host={}", host.name()),
    );
    for _ in 0..2 {
        stage.relay.decide(&block, "");
        wait_until("the connection ends", || host.connected() == 0);
    }
    assert_eq!(stage.relay.of_host(host.name(), "/status"), "banned");
    assert_eq!(crawl(&stage.relay, host.name()), banned());
    let unheard = stage.site.publish_post(&mut stage.bystander);
    let heard = next_commit(&mut other);
    stage.pass_from(1, &[&heard]);

    stage.subscriber.leave();
    stage.relay.terminate();
    assert!(stage.relay.ended().0.success());
    let relay = stage.site.start();
    wait_until("the other host is connected", || {
        stage.site.network.host(1).connected() == 1
    });
    assert_eq!(relay.of_host(host.name(), "/status"), "banned");
    assert_eq!(crawl(&relay, host.name()), banned());
    let mut live = Subscriber::connect(&relay, None).unwrap();
    live.expect(&[&stage.site.publish_post(&mut other)]);
    assert_eq!(host.connections(), 1, "it was never tried");

    for _ in 0..2 {
        relay.decide(&unblock, "");
    }
    live.expect(&[&unheard, &stage.site.publish_post(&mut stage.bystander)]);
    wait_until("its page says so", || {
        relay.of_host(host.name(), "/status") == "active"
    });
    assert_eq!(host.connections(), 2);
    assert_eq!(crawl(&relay, host.name()).0, 200);
}

/// Nobody below a banned domain is asked anything, known or not, and those that are connected lose
/// their connection at once. The limit of new hosts is 0 here: a ban goes before it.
///
/// Rule 166: <https://github.com/bluesky-social/atproto/tree/main/lexicons/com/atproto/sync>
#[test]
fn a_banned_domain_bans_every_host_below_it() {
    let mut site = Site::new(2);
    let limit = ("RELAY_NEW_HOSTS_PER_DAY_LIMIT", "0".to_owned());
    site.variables.push(limit);
    let mut stage = Stage::on(site);
    let relay = &stage.relay;
    let list = || relay.admin("/admin/subs/listDomainBans", None);
    assert_eq!(list(), (200, json!({"banned_domains": []})));
    let (ban, unban) = ("/admin/subs/banDomain", "/admin/subs/unbanDomain");
    relay.decide(ban, r#"{"Domain":"Example.COM"}"#);
    relay.decide(ban, r#"{"domain":"example.com"}"#);
    assert_eq!(list(), (200, json!({"banned_domains": ["example.com"]})));
    for host in [
        "example.com",
        "pds.example.com",
        "a.b.EXAMPLE.com:8443",
        "https://pds.example.com",
    ] {
        assert_eq!(crawl(relay, host), banned(), "{host}");
        let body = json!({"hostname": host}).to_string();
        let (status, answer) = relay.admin("/admin/pds/requestCrawl", Some(&body));
        assert_eq!((status, &answer["error"]), (403, &"HostBanned".into()));
    }

    relay.decide(ban, r#"{"Domain":"localhost"}"#);
    let hosts = stage.site.network.hosts().to_vec();
    wait_until("both connections end", || {
        hosts.iter().all(|host| host.connected() == 0)
    });
    for host in &hosts {
        assert_eq!(relay.of_host(host.name(), "/status"), "banned");
        assert_eq!(crawl(relay, host.name()), banned());
        // It has no ban of its own that could be lifted.
        relay.decide(&format!("/admin/pds/unblock?host={}", host.name()), "");
        assert_eq!(host.connected(), 0);
    }
    let unheard: Event = stage.site.publish_post(&mut stage.bystander);
    let own = format!("/admin/pds/block?host={}", hosts[1].name());
    relay.decide(&own, "");
    for _ in 0..2 {
        relay.decide(unban, r#"{"DOMAIN":"localhost"}"#);
    }
    stage.subscriber.expect(&[&unheard]);
    assert_eq!(list(), (200, json!({"banned_domains": ["example.com"]})));
    assert_eq!(hosts[1].connected(), 0, "it has a ban of its own");
    assert_eq!(crawl(relay, hosts[1].name()), banned());
    assert_eq!(crawl(relay, hosts[0].name()).0, 200);
}

/// A host that can not be reached is banned as well, and unbanned it is tried as one that can.
///
/// Rule 166: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn a_host_that_fails_can_be_banned() {
    let mut stage = Stage::set_up();
    let host = stage.site.network.host(0).clone();
    host.set_refuses(true);
    host.inject(zlay::sim::feed::Once::Cut);
    wait_until("it is tried in vain", || stage.relay.failed_connects() > 1);
    stage
        .relay
        .decide(&format!("/admin/pds/block?host={}", host.name()), "");
    assert_eq!(stage.relay.of_host(host.name(), "/status"), "banned");
    host.set_refuses(false);
    assert_eq!(crawl(&stage.relay, host.name()), banned());
    stage
        .relay
        .decide(&format!("/admin/pds/unblock?host={}", host.name()), "");
    stage.sentinel();
    wait_until("its page says so", || {
        stage.relay.of_host(host.name(), "/last_error") == Value::Null
    });
}

/// However quickly bans come and go: the last one counts, and there is one connection.
///
/// Rule 166: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn a_ban_that_is_taken_back_at_once_costs_nothing_but_a_connection() {
    let mut stage = Stage::set_up();
    let host = stage.site.network.host(0).clone();
    for _ in 0..10 {
        for word in ["block", "unblock"] {
            let path = format!("/admin/pds/{word}?host={}", host.name());
            stage.relay.decide(&path, "");
        }
    }
    stage.sentinel();
    wait_until("the other connections have ended", || host.connected() == 1);
    stage.sentinel();
}

/// Only the operator decides, and about hosts that there are.
///
/// Rule 181: <https://atproto.com/specs/xrpc>
#[test]
fn decisions_are_the_operators_and_about_known_hosts() {
    let site = Site::new(1);
    let relay = site.start();
    for path in [
        "/admin/pds/block?host=a.example.com",
        "/admin/subs/banDomain",
    ] {
        let url = format!("http://{}{path}", relay.public);
        let (status, body) = answer(agent().post(url).send("{}").unwrap());
        assert_eq!(
            (status, &body["error"]),
            (401, &"AuthenticationRequired".into())
        );
    }
    let change = r#"{"host":"a.example.com","lenient":true}"#;
    for (path, body) in [
        ("/admin/pds/block?host=a.example.com", ""),
        ("/admin/pds/unblock?host=a.example.com", ""),
        ("/admin/pds/changeLimits", change),
    ] {
        let (status, answer) = relay.admin(path, Some(body));
        assert_eq!(
            (status, &answer["error"]),
            (404, &"HostNotFound".into()),
            "{path}"
        );
    }
    assert_eq!(relay.host_page("a.example.com").0, 404);
}
