//! The servers of DID documents lie, hesitate and break off, in every way of [`Lie`]. Whatever it is:
//! nothing is forwarded that is not proven, known keys go on, what can not be proven waits and nobody
//! else does, and all that is valid has arrived soon after the lie is over.

use zlay::{
    limits,
    reject::Reject,
    sim::{
        Config,
        account::Account,
        event::Event,
        keys::Curve,
        lies::{Lie, Lies},
    },
};

use crate::{
    directory::{publish_first_events, wait_until_waiting},
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

/// What becomes of an account's events while its document is lied about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// They wait.
    Wait,
    /// They pass: it is no lie that matters.
    Pass,
    /// They are refused: it is the word of the only one who knows.
    Refused(Reject),
}

/// Every lie, and what follows from it at the directory, and at the host of a `did:web`.
const LIES: &[(Lie, Then, Then)] = &[
    (Lie::WrongId, Then::Wait, Then::Wait),
    (Lie::Huge, Then::Wait, Then::Wait),
    (Lie::Endless, Then::Wait, Then::Wait),
    (Lie::EndlessChunks, Then::Wait, Then::Wait),
    (Lie::EndlessHead, Then::Wait, Then::Wait),
    (Lie::EndlessHints, Then::Wait, Then::Wait),
    (Lie::DripBody, Then::Wait, Then::Wait),
    (Lie::DripHead, Then::Wait, Then::Wait),
    (Lie::Redirect(""), Then::Wait, Then::Wait),
    (Lie::Redirect("/trap"), Then::Wait, Then::Wait),
    (
        Lie::Redirect("http://169.254.169.254/trap"),
        Then::Wait,
        Then::Wait,
    ),
    (Lie::ContentType, Then::Pass, Then::Pass),
    (Lie::Half, Then::Wait, Then::Wait),
    (Lie::Deep, Then::Wait, Then::Wait),
    (Lie::Page, Then::Wait, Then::Wait),
    (
        Lie::Gone(404),
        Then::Wait,
        Then::Refused(Reject::IdentityNotFound),
    ),
    (
        Lie::Gone(410),
        Then::Wait,
        Then::Refused(Reject::IdentityNotFound),
    ),
    (Lie::Limited(2), Then::Wait, Then::Wait),
    (Lie::Failed(500), Then::Wait, Then::Wait),
    (Lie::Failed(503), Then::Wait, Then::Wait),
    (Lie::Failed(403), Then::Wait, Then::Wait),
    (Lie::Silent, Then::Wait, Then::Wait),
    (Lie::Reset, Then::Wait, Then::Wait),
    (Lie::Cut, Then::Wait, Then::Wait),
    (Lie::Garbage, Then::Wait, Then::Wait),
];

/// The most that one lie may make the relay take, in bytes: the document's limit, and what the
/// buffers of two sockets on loopback hold by the system's defaults (up to 4 and 6 MiB).
const BYTES_MAX: u64 = limits::IDENTITY_DOCUMENT_BYTES_MAX as u64 + (10 << 20) + (1 << 20);

/// Threads beside those that there always are: each resolver has one more while it resolves a name.
const SPARE_THREADS: u64 = 8;

/// Everything that was published, read once more from the beginning, is what had to come.
pub(crate) fn settle(site: &Site, relay: &Relay) {
    let mut subscriber = Subscriber::from_the_beginning(relay);
    let expected = site.network.expected();
    for _ in 0..relay.metric("relay_seq") {
        let seen = subscriber.event();
        expected.observe(&seen.did, seen.digest, &seen.kind);
    }
    let verdict = expected.verdict();
    assert!(verdict.none(), "{verdict:#?}");
    let injected = expected.rejects().into_iter();
    let injected = injected.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(relay.rejects(), injected.collect());
}

/// Answers that were no document, so far.
pub(crate) fn failures(relay: &Relay, method: &str) -> u64 {
    let lookups = format!("relay_identity_lookups_total{{method=\"{method}\"");
    let failed = relay
        .metrics()
        .into_iter()
        .filter(|(name, _)| name.starts_with(&lookups) && !name.contains("result=\"found\""));
    failed.map(|(_, count)| count).sum()
}

/// One lie of the directory after another, to everybody.
fn a_lying_directory(mut site: Site) {
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut known = [site.account(0), site.account(1)];
    for account in &mut known {
        subscriber.expect(&[&site.publish_post(account)]);
    }
    let threads = relay.metric("process_threads");
    for (lie, then, _) in LIES {
        let lies = site.network.plc().lies();
        let (told, failed) = (lies.told(), failures(&relay, "plc"));
        lies.set(Some(*lie));
        let mut new = [site.account(0), site.account(1)];
        let mut awaited = Vec::new();
        for account in &mut new {
            awaited.extend(publish_first_events(&site, account, &known[0]));
        }
        // The document of somebody who is known is doubted: it serves all the same, in the end.
        let mut events = vec![known[0].identity(), next_commit(&mut known[0])];
        for event in &events {
            site.network.publish(0, event);
        }
        if *then == Then::Wait {
            wait_until("everybody is lied to", || {
                site.network.plc().lies().told() >= told + 2 && failures(&relay, "plc") > failed
            });
            events.extend((0..5).map(|_| site.publish_post(&mut known[1])));
            subscriber.expect(&events.iter().collect::<Vec<_>>());
            assert_eq!(relay.metric("relay_events_waiting"), 10, "{lie:?}");
            assert_eq!(lies_bytes(&site), None, "{lie:?}");
            // A thread for each name that is resolved comes and goes.
            assert!(relay.metric("process_threads") <= threads + SPARE_THREADS);
            assert_eq!(site.network.plc().requests_for("trap"), 0);
            site.network.plc().lies().set(None);
        } else {
            awaited.append(&mut events);
        }
        subscriber.expect(&awaited.iter().collect::<Vec<_>>());
        wait_until_waiting(&relay, 0);
        site.network.plc().lies().set(None);
    }
    assert!(relay.metric("relay_identity_doubted_total") > 0);
    assert!(relay.metric("relay_identity_stale_used_total") > 0);
    for host in site.network.hosts() {
        let log = relay.log.lock().unwrap();
        let about = log.iter().filter(|line| line.contains(host.name()));
        let about: Vec<_> = about.filter(|line| line.contains("connect")).collect();
        assert_eq!(host.connections(), 1, "{about:#?}");
    }
    settle(&site, &relay);
}

/// How many bytes one lie has cost at most, where that is too much.
fn lies_bytes(site: &Site) -> Option<u64> {
    let hosts = site.network.hosts().iter().map(|host| host.lies());
    let bytes = hosts
        .chain([site.network.plc().lies()])
        .map(Lies::bytes_max);
    bytes.max().filter(|bytes| *bytes > BYTES_MAX)
}

/// Rules 152, 153: <https://atproto.com/specs/sync>
#[test]
fn whatever_the_directory_says_nothing_unproven_passes_and_nothing_is_lost() {
    a_lying_directory(Site::new(2));
}

/// The same over TLS, where silence begins before the handshake.
///
/// Rules 152, 153: <https://atproto.com/specs/sync>
#[test]
fn whatever_the_directory_says_over_tls_is_no_worse() {
    a_lying_directory(Site::of(&Config {
        plc_tls: true,
        ..Config::default()
    }));
}

/// The account of a host's own `did:web`.
pub(crate) fn web_account(site: &Site, host: usize, rng: &mut fastrand::Rng) -> Account {
    let server = site.network.host(host);
    let did = format!("did:web:localhost%3A{}", server.port());
    let account = Account::with_did(rng, host, Curve::K256, &did);
    server.set_document(&account.document(&server.url()));
    account
}

/// Rules 152, 153, 156: <https://atproto.com/specs/did>
#[test]
fn whatever_web_hosts_say_nothing_unproven_passes_and_nothing_is_lost() {
    lying_web_hosts(|lie| !is_slow(lie));
}

/// Rules 152, 156: <https://atproto.com/specs/did>
#[test]
fn however_slow_web_hosts_are_nothing_unproven_passes_and_nothing_is_lost() {
    lying_web_hosts(is_slow);
}

/// Whether it takes as long as the relay waits for it.
fn is_slow(lie: Lie) -> bool {
    [Lie::DripBody, Lie::DripHead, Lie::Silent].contains(&lie)
}

/// Many lies at once, each of two hosts: one whose account is new, and one whose account is known.
fn lying_web_hosts(choice: impl Fn(Lie) -> bool) {
    let lies: Vec<_> = LIES.iter().filter(|(lie, ..)| choice(*lie)).collect();
    let mut site = Site::new(2 * lies.len());
    // So that no lie waits until another has been told.
    site.variables
        .push(("RELAY_RESOLVER_THREADS", "128".into()));
    let relay = site.start_crawling();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut bystander = site.account(0);
    subscriber.expect(&[&site.publish_post(&mut bystander)]);
    let hosts = 0..2 * lies.len();
    let mut accounts: Vec<_> = hosts.map(|n| web_account(&site, n, &mut rng)).collect();
    let known = accounts.iter_mut().skip(1).step_by(2);
    let firsts: Vec<_> = known.map(|account| site.publish_post(account)).collect();
    subscriber.expect(&firsts.iter().collect::<Vec<_>>());

    for (n, (lie, ..)) in lies.iter().enumerate() {
        for host in [2 * n, 2 * n + 1] {
            site.network.host(host).lies().set(Some(*lie));
        }
    }
    let (mut at_once, mut later, mut waiting) = (Vec::new(), Vec::new(), 0);
    for (n, (_, _, then)) in lies.iter().enumerate() {
        let (new, known) = (2 * n, 2 * n + 1);
        match then {
            Then::Refused(reject) => {
                let early = next_commit(&mut accounts[new].clone());
                site.network.publish_invalid(new, &early, *reject);
                // It is believed of who was known, too.
                let identity = accounts[known].identity();
                let anonymous = identity.without_handle().unwrap();
                site.network.expected().expect(&anonymous);
                site.network.host(known).emit(&identity);
                at_once.push(anonymous);
                let early = next_commit(&mut accounts[known].clone());
                site.network.publish_invalid(known, &early, *reject);
            }
            _ => {
                let awaited = publish_first_events(&site, &mut accounts[new], &bystander);
                if *then == Then::Wait {
                    later.extend(awaited);
                    waiting += 5;
                } else {
                    at_once.extend(awaited);
                }
                let account = &mut accounts[known];
                let events = [account.identity(), next_commit(account)];
                events.iter().for_each(|event| {
                    site.network.publish(known, event);
                });
                at_once.extend(events);
            }
        }
    }
    // Nobody who is known waits for anything but an answer, and not for ever.
    subscriber.expect(&at_once.iter().collect::<Vec<_>>());
    subscriber.expect(&[&site.publish_post(&mut bystander)]);
    assert_eq!(relay.metric("relay_events_waiting"), waiting);
    for (n, (lie, ..)) in lies.iter().enumerate() {
        for host in [2 * n, 2 * n + 1] {
            let host = site.network.host(host);
            assert!(host.lies().told() > 0, "{lie:?}");
            assert_eq!(host.asked().get("/trap"), None);
            host.lies().set(None);
        }
    }
    assert_eq!(lies_bytes(&site), None);
    subscriber.expect(&later.iter().collect::<Vec<_>>());
    wait_until_waiting(&relay, 0);
    // Whose word it was that there is nothing says otherwise.
    for (n, (_, _, then)) in lies.iter().enumerate() {
        for account in &mut accounts[2 * n..2 * n + 2] {
            let mut events: Vec<Event> = Vec::new();
            if let Then::Refused(_) = then {
                events.push(account.identity());
            }
            events.push(next_commit(account));
            for event in &events {
                site.network.publish(account.host, event);
            }
            subscriber.expect(&events.iter().collect::<Vec<_>>());
        }
    }
    settle(&site, &relay);
}
