//! Relays of one operator that tell each other what they are told.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::{
    console::Browser,
    plain::Plain,
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

/// A port where nobody listens now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A site of a relay that listens at `port` and has these siblings.
fn site(hosts: usize, port: u16, siblings: &[String]) -> Site {
    let mut site = Site::new(hosts);
    site.variables.extend([
        ("RELAY_PORT", port.to_string()),
        ("RELAY_SIBLING_RELAYS", siblings.join(",")),
    ]);
    site
}

/// Two sites, each the sibling of the other, with one network, which is that of the first.
fn pair(hosts: usize, more: &[String]) -> [Site; 2] {
    let ports = [free_port(), free_port()];
    let names = ports.map(|port| format!("localhost:{port}"));
    let siblings = [more, &names[1..]].concat();
    let one = site(hosts, ports[0], &siblings);
    let mut other = site(0, ports[1], &names[..1]);
    let directory = ("RELAY_PLC_URL", one.network.plc_url());
    other.variables.push(directory);
    [one, other]
}

/// How many requests a relay has passed on, and how many were not taken.
fn passed_on(relay: &Relay) -> (u64, u64) {
    let count = |name: &str| relay.metric(&format!("relay_siblings_{name}_total"));
    (count("told"), count("failed"))
}

/// The actions in the audit log, the oldest first, with who has done each.
fn noted(relay: &Relay) -> Vec<(String, String)> {
    let page = relay.look("/admin/audit");
    let entries = page["entries"].as_array().unwrap().iter().rev();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let noted = entries.map(|entry| (text(&entry["action"]), text(&entry["actor"])));
    noted.collect()
}

/// What hosts ask for and what the operator decides at one relay holds at the other, whichever of them
/// was asked; each is told once, and what one was told by the other goes no further.
#[test]
fn what_one_relay_is_told_holds_at_its_sibling_and_goes_no_further() {
    let [mut one, two] = pair(2, &[]);
    let relays = [one.start(), two.start()];
    let hosts = one.network.hosts().to_vec();
    // Each host asks only one of them.
    for (relay, host) in relays.iter().zip(&hosts) {
        assert_eq!(relay.request_crawl(host.name()).0, 200);
    }
    wait_until("both relays are connected to both hosts", || {
        hosts.iter().all(|host| host.connected() == 2)
    });
    let mut account = one.account(0);
    let event = one.publish_post(&mut account);
    let mut subscribers = [0, 1].map(|n| Subscriber::from_the_beginning(&relays[n]));
    for subscriber in &mut subscribers {
        subscriber.expect(&[&event]);
    }
    // A host that is connected and asks again is no news.
    wait_until("the host is known to be connected", || {
        relays[0].of_host(hosts[0].name(), "/state") == "connected"
    });
    assert_eq!(relays[0].request_crawl(hosts[0].name()).0, 200);

    let name = hosts[0].name().to_owned();
    let [from, to] = [&relays[0], &relays[1]];
    from.change(&name, json!({ "repo_limit": 7, "events_per_hour": 3_000 }));
    wait_until("the limits are the same", || {
        to.of_host(&name, "/account_limit") == 7
    });
    assert_eq!(to.of_host(&name, "/limits/events_per_hour"), 3_000);
    let did = json!({ "did": &**account.did() }).to_string();
    from.decide("/admin/repo/takeDown", &did);
    for subscriber in &mut subscribers {
        subscriber.told(&account, false, Some("takendown"));
    }
    from.decide("/admin/subs/banDomain", r#"{"domain":"example.com"}"#);
    wait_until("the domain is banned there, too", || {
        to.look("/admin/subs/listDomainBans") == json!({ "banned_domains": ["example.com"] })
    });
    from.ban(&name, true);
    wait_until("nobody listens to a host that is banned", || {
        hosts[0].connected() == 0
    });
    wait_until("it is banned there, too", || {
        to.of_host(&name, "/status") == "banned"
    });
    // The other one takes it back.
    to.ban(&name, false);
    wait_until("both listen to it again", || hosts[0].connected() == 2);

    wait_until("everything was passed on", || {
        (passed_on(from), passed_on(to)) == ((5, 0), (2, 0))
    });
    let ours = "127.0.0.1".to_owned();
    let theirs = format!("{ours} via 1.1 atproto-relay");
    let acts = [
        "pds/changeLimits",
        "repo/takeDown",
        "subs/banDomain",
        "pds/block",
    ];
    let of = |from: &String, to: &String| {
        let acts = acts.iter().map(|act| ((*act).to_owned(), from.clone()));
        let last = ("pds/unblock".to_owned(), to.clone());
        acts.chain([last]).collect::<Vec<_>>()
    };
    assert_eq!(noted(from), of(&ours, &theirs));
    assert_eq!(noted(to), of(&theirs, &ours));
    let event = next_commit(&mut one.account(1));
    one.network.publish(1, &event);
    for subscriber in &mut subscribers {
        subscriber.expect(&[&event]);
    }
    assert_eq!((passed_on(from), passed_on(to)), ((5, 0), (2, 0)));
}

/// One sibling takes connections and never answers, and one is not there at all. What is decided is in
/// force here and at the third while both are still tried; what the one gets is what was said, with the
/// mark of who says it.
#[test]
fn a_sibling_that_does_not_answer_delays_nothing() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let silent = Plain::start(move |_| {
        // Until the test is over.
        let _ = held.lock().unwrap().recv();
        ("503 Service Unavailable".to_owned(), String::new())
    });
    let absent = format!("localhost:{}", free_port());
    let [one, two] = pair(1, &[silent.name(), absent]);
    let relays = [one.start(), two.start()];
    let host = one.network.host(0).clone();
    assert_eq!(relays[0].request_crawl(host.name()).0, 200);
    for limit in 1..=5 {
        wait_until("both listen", || host.connected() == 2);
        relays[0].change(host.name(), json!({ "repo_limit": limit }));
        wait_until("the limit is the same", || {
            relays[1].of_host(host.name(), "/account_limit") == limit
        });
    }
    wait_until("everything was passed on to it", || {
        passed_on(&relays[0]) == (6, 0)
    });
    // The silent one has been asked for the first thing and no other.
    wait_until("the silent one was asked", || !silent.heads().is_empty());
    let [head] = silent.heads().try_into().unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /xrpc/com.atproto.sync.requestcrawl "));
    assert!(head.contains("\nvia: 1.1 atproto-relay\n"), "{head}");
    wait_until("the absent one was tried", || {
        !relays[0].said("attempt=1 ").is_empty()
    });
    // A stop does not wait for them either.
    let [relay, _] = relays;
    relay.terminate();
    assert!(relay.ended().0.success());
    drop(hold);
}

/// What a form of the operator page does holds at the sibling, too, which is told with the password that
/// both have; what is of one relay alone stays there.
#[test]
fn what_a_form_does_holds_at_the_sibling() {
    let [one, two] = pair(1, &[]);
    let [from, to] = [one.start(), two.start()];
    let name = one.network.host(0).name().to_owned();
    let browser = Browser::log_in(&from);
    browser.does(&format!("act=pds/requestCrawl&hostname={name}"));
    wait_until("both know the host", || to.host_page(&name).0 == 200);
    let page = browser.does(&format!("act=pds/block&host={name}"));
    assert!(page.contains("1 sibling relay will be told"), "{page}");
    wait_until("it is blocked at both", || {
        to.of_host(&name, "/status") == "banned"
    });
    browser.does("act=settings/change&setting=new_hosts_per_day&value=3");
    browser.does(&format!("act=pds/changeLimits&host={name}&repo_limit=9"));
    wait_until("the limit is the same", || {
        to.of_host(&name, "/account_limit") == 9
    });
    assert_ne!(to.setting("new_hosts_per_day"), 3);
    wait_until("all is told", || passed_on(&from) == (3, 0));
    assert_eq!(passed_on(&to), (0, 0));
}
