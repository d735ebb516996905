//! The disk of the data directory fills up, to the reserve or to the last byte, and has room again.

use serde_json::Value;

use zlay::sim::{account::Account, event::Event};

use crate::{
    follower::Follower,
    http,
    mount::Mount,
    site::{PASSWORD, Relay, Site, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// Enough for everything that a test here writes.
const LARGE: u64 = 700 << 20;
/// What is left to the store of so small a disk.
const RESERVE: u64 = 128 << 20;
const MIB: u64 = 1 << 20;

/// A site whose relay has its data there.
fn site_on(disk: &Mount) -> Site {
    let mut site = Site::new(2);
    site.variables.push(disk.data_dir());
    for host in site.network.hosts() {
        // They keep what the relay does not read for as long as it takes.
        host.set_backlog_bytes(1 << 30);
    }
    site
}

/// A commit of half a megabyte, which can hardly be compressed.
fn large_commit(account: &mut Account, rng: &mut fastrand::Rng) -> Event {
    let text: String = (0..500_000).map(|_| rng.alphanumeric()).collect();
    let post = account.post(&text);
    account.commit(&[post])
}

fn is_full(relay: &Relay) -> bool {
    relay.metric("relay_disk_full") == 1
}

/// What one of the probes says.
fn probe(relay: &Relay, path: &str) -> (u16, Value) {
    let answer = http::ask(relay.internal, "GET", path, "", "");
    (answer.status, answer.json())
}

/// Everything that anybody looks at says that the disk is full, and how full.
fn everything_says_so(relay: &Relay) {
    let named = |text: &Value| {
        let text = text.as_str().unwrap_or_else(|| panic!("{text}"));
        let text = text.to_lowercase();
        assert!(
            text.contains("the disk is full: ") && text.contains("mib are needed"),
            "{text}"
        );
    };
    for path in ["/_health", "/xrpc/_health"] {
        let (status, body) = probe(relay, path);
        assert_eq!(
            (status, &body["error"]),
            (503, &"DiskFull".into()),
            "{body}"
        );
        named(&body["message"]);
    }
    // Whoever is started again for it comes back to the same disk, and whoever is taken out of service
    // serves nobody what there is.
    let (status, body) = probe(relay, "/healthz");
    assert_eq!((status, &body["status"]), (200, &"ok".into()), "{body}");
    named(&body["warnings"][0]);
    let (status, body) = probe(relay, "/readyz");
    assert_eq!(
        (status, &body["checks"]["disk_space"]["status"]),
        (200, &"warning".into())
    );
    named(&body["checks"]["disk_space"]["message"]);
    for part in ["store", "sequencer", "hosts"] {
        assert_eq!(body["checks"][part]["status"], "ok", "{body}");
    }
    wait_until("the status page says so", || {
        let (_, status) = probe(relay, "/status.json");
        let full = &status["disk_full"];
        full["free_bytes"].as_u64() < full["needed_bytes"].as_u64()
    });
    for accept in ["Accept: text/html\r\n", ""] {
        let page = http::ask(relay.public, "GET", "/", accept, "").body;
        assert!(page.contains("the disk is full: "), "{page}");
    }
    assert!(relay.look("/admin/pds/list").is_array());
    wait_until("the log says so", || {
        !relay.said("the disk is full").is_empty()
    });
}

/// What is published is served, live and again; hosts wait; what the operator decides passes. With room
/// everything comes that waited, once, without a start.
#[test]
fn a_full_disk_holds_the_hosts_up_and_nobody_else() {
    let Some(disk) = Mount::new("a_full_disk_holds_the_hosts_up_and_nobody_else", LARGE) else {
        return;
    };
    let mut stage = Stage::on(site_on(&disk));
    let (mut one, taken) = (stage.known_account(), stage.known_account());
    let mut other = stage.site.account(1);
    stage.pass_from(1, &[&next_commit(&mut other)]);
    let before = stage.relay.metric("relay_seq");
    assert_eq!(probe(&stage.relay, "/_health").0, 200);
    assert!(!is_full(&stage.relay));

    disk.leave(RESERVE - 20 * MIB);
    let mut held: Vec<Event> = (0..30).map(|_| stage.site.publish_post(&mut one)).collect();
    held.extend((0..10).map(|_| stage.site.publish_post(&mut other)));
    wait_until("the relay sees it", || is_full(&stage.relay));
    everything_says_so(&stage.relay);
    let mut again = Subscriber::from_the_beginning(&stage.relay);
    for _ in 0..before {
        again.event();
    }

    // The operator is heard, and so are those who ask him to be.
    let did = serde_json::json!({ "did": &**taken.did() }).to_string();
    stage.relay.decide("/admin/repo/takeDown", &did);
    stage.subscriber.told(&taken, false, Some("takendown"));
    again.told(&taken, false, Some("takendown"));
    let name = stage.site.network.host(1).name().to_owned();
    stage.relay.ban(&name, true);
    wait_until("it is let go", || {
        stage.site.network.host(1).connected() == 0
    });
    stage.relay.ban(&name, false);
    wait_until("it is connected again", || {
        stage.site.network.host(1).connected() == 1
    });
    assert_eq!(stage.relay.request_crawl(&name).0, 200);
    stage
        .relay
        .change(&name, serde_json::json!({ "repo_limit": 70 }));
    assert_eq!(stage.relay.metric("relay_seq"), before + 1);
    assert!(is_full(&stage.relay));

    disk.resize(LARGE);
    let held: Vec<&Event> = held.iter().collect();
    stage.subscriber.expect(&held);
    again.expect(&held);
    wait_until("nobody says so any more", || !is_full(&stage.relay));
    assert_eq!(probe(&stage.relay, "/_health").0, 200);
    assert!(
        !probe(&stage.relay, "/readyz")
            .1
            .to_string()
            .contains("the disk is full")
    );
    assert_eq!(probe(&stage.relay, "/healthz").1["warnings"], Value::Null);
    stage.sentinel();
    wait_until("the log says so", || {
        !stage.relay.said("the disk has room again").is_empty()
    });
    assert_eq!(stage.relay.metric("relay_panics_total"), 0);
}

/// More than the inbox holds, so that hosts wait for it. Who waits is no reason not to stop, and a start
/// on a full disk waits too, instead of ending.
#[test]
fn a_relay_stops_and_starts_on_a_full_disk() {
    let Some(disk) = Mount::new("a_relay_stops_and_starts_on_a_full_disk", LARGE) else {
        return;
    };
    let mut site = site_on(&disk);
    let expected = site.network.expected().clone();
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let follower = Follower::start(&relay, expected.clone());
    site.publish_post(&mut account);
    wait_until("it comes", || follower.count() == 1);

    disk.leave(RESERVE - 10 * MIB);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut sent = 0;
    while relay.metric("relay_hosts_waiting{for=\"inbox\"}") == 0 {
        assert!(sent < 300, "the inbox is never full");
        for _ in 0..10 {
            let event = large_commit(&mut account, &mut rng);
            site.network.publish(0, &event);
            sent += 1;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(is_full(&relay));
    assert_eq!(relay.metric("relay_seq"), 1);
    relay.terminate();
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(
        log.last()
            .is_some_and(|line| line.contains(" stopped seq=1"))
    );

    let relay = site.start();
    follower.turn_to(&relay);
    wait_until("it is the same again", || is_full(&relay));
    everything_says_so(&relay);
    site.wait_until_connected();
    assert_eq!((relay.metric("relay_seq"), follower.count()), (1, 1));

    disk.resize(LARGE);
    wait_until("everything has come", || expected.outstanding() == 0);
    let differences = expected.verdict();
    assert!(differences.none(), "{differences:#?}");
    let followed = follower.stop();
    assert_eq!(followed.len(), sent + 1);
    assert_eq!(relay.metric("relay_seq"), followed.len() as u64);
}

/// The reserve is not kept, or something else takes it: a write fails. The process ends and says why,
/// nobody has seen what is not stored, and with room everything goes on.
#[test]
fn a_disk_that_is_full_to_the_last_byte_ends_the_relay_and_costs_nothing() {
    let name = "a_disk_that_is_full_to_the_last_byte_ends_the_relay_and_costs_nothing";
    let Some(disk) = Mount::new(name, LARGE) else {
        return;
    };
    let mut site = site_on(&disk);
    site.variables.push(("RELAY_DISK_RESERVE", "0".into()));
    let expected = site.network.expected().clone();
    let mut relay = site.start_crawling();
    let mut account = site.account(0);
    let follower = Follower::start(&relay, expected.clone());
    site.publish_post(&mut account);
    wait_until("it comes", || follower.count() == 1);
    disk.leave(5 * MIB);
    let mut rng = fastrand::Rng::with_seed(6);
    let mut sent = 1;
    while relay.child.try_wait().unwrap().is_none() {
        assert!(sent < 600, "it never ends");
        let event = large_commit(&mut account, &mut rng);
        site.network.publish(0, &event);
        sent += 1;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(71), "{log:#?}");
    let why = log.iter().find(|line| line.contains("the sequencer ends"));
    let why = why.unwrap_or_else(|| panic!("{log:#?}"));
    assert!(why.contains("No space left on device"), "{why}");

    // Without room it says so and does not begin; nothing is harmed by that.
    disk.leave(0);
    let output = site.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(71) {
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
    assert!(said.contains("No space left on device"), "{said}");

    disk.resize(LARGE);
    let relay = site.start();
    follower.turn_to(&relay);
    wait_until("everything has come", || expected.outstanding() == 0);
    let differences = expected.verdict();
    assert!(differences.none(), "{differences:#?}");
    let followed = follower.stop();
    assert_eq!(followed.len(), sent);
    let mut again = Subscriber::from_the_beginning(&relay);
    for seen in &followed {
        assert_eq!(again.event(), *seen);
    }
}

/// Less than even a decision may take: it is refused, with a reason, and nothing else changes.
#[test]
fn decisions_that_can_not_be_kept_are_refused_with_a_reason() {
    let name = "decisions_that_can_not_be_kept_are_refused_with_a_reason";
    let Some(disk) = Mount::new(name, LARGE) else {
        return;
    };
    let mut stage = Stage::on(site_on(&disk));
    let account = stage.known_account();
    let hosts = stage.site.network.hosts().to_vec();
    let relay = &stage.relay;
    disk.leave(6 * MIB);
    let did = serde_json::json!({ "did": &**account.did() });
    let domain = serde_json::json!({ "domain": "example.com" });
    let block = format!("/admin/pds/block?host={}", hosts[0].name());
    for (path, body) in [
        ("/admin/repo/takeDown", did.to_string()),
        ("/admin/subs/banDomain", domain.to_string()),
        (&*block, String::new()),
    ] {
        let headers = format!("Authorization: Bearer {PASSWORD}\r\n");
        let answer = http::ask(relay.public, "POST", path, &headers, &body);
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("the disk is full"), "{message}");
    }
    assert_eq!(hosts[0].connected(), 1);
    assert_eq!(
        relay.look("/admin/repo/takedowns")["dids"],
        serde_json::json!([])
    );
    wait_until("the control store is said to be away", || {
        relay.metric("relay_control_up") == 0
    });
    disk.resize(LARGE);
    assert!(disk.free() > RESERVE);
    relay.decide("/admin/subs/banDomain", &domain.to_string());
    wait_until("it is back", || relay.metric("relay_control_up") == 1);
    stage.sentinel();
    stage.relay.decide("/admin/repo/takeDown", &did.to_string());
    stage.subscriber.told(&account, false, Some("takendown"));
}
