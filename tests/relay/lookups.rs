//! Who has to wait for whose document: servers that are slow on purpose, and hosts that make accounts
//! up, cost nobody else anything. Nothing here is about how long it takes: an event arrives while what
//! is slow is still under way.

use std::time::Instant;

use zlay::{
    limits,
    reject::Reject,
    sim::{account::Account, event::Event, lies::Lie},
};

use crate::{
    directory::wait_until_waiting,
    lies::{failures, settle, web_account},
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

/// How often somebody new is tried before the others count as being in the way.
const ATTEMPTS: usize = 10;

/// A new account of the first host passes while at least `open` slow answers are under way, and the
/// very same ones before and after it.
fn passes_meanwhile(
    site: &mut Site,
    relay: &Relay,
    subscriber: &mut Subscriber,
    method: &str,
    is_slow: impl Fn(&Site) -> bool,
) {
    for _ in 0..ATTEMPTS {
        wait_until("slow answers are under way", || is_slow(site));
        let failed = failures(relay, method);
        let mut account = site.account(0);
        subscriber.expect(&[&site.publish_post(&mut account)]);
        if is_slow(site) && failures(relay, method) == failed {
            return;
        }
    }
    panic!("every new account had to wait for a slow answer");
}

/// Rule 193: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn hosts_of_did_web_that_drip_leave_the_directory_its_threads() {
    const SLOW: usize = 8;
    for (threads, web) in [(1, 1), (4, 2)] {
        let mut site = Site::new(1 + SLOW);
        let variable = ("RELAY_RESOLVER_THREADS", threads.to_string());
        site.variables.push(variable);
        let relay = site.start_crawling();
        let mut subscriber = Subscriber::from_the_beginning(&relay);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut slow: Vec<_> = (1..=SLOW)
            .map(|host| web_account(&site, host, &mut rng))
            .collect();
        let mut awaited = Vec::new();
        for account in &mut slow {
            site.network
                .host(account.host)
                .lies()
                .set(Some(Lie::DripBody));
            awaited.push(site.publish_post(account));
        }
        let is_slow = |site: &Site| {
            let hosts = site.network.hosts().iter();
            hosts.map(|host| host.lies().open()).sum::<usize>() >= web
        };
        passes_meanwhile(&mut site, &relay, &mut subscriber, "web", is_slow);
        for host in site.network.hosts() {
            host.lies().set(None);
        }
        subscriber.expect(&awaited.iter().collect::<Vec<_>>());
        settle(&site, &relay);
    }
}

/// Rule 193: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn documents_that_the_directory_drips_leave_threads_to_others() {
    const SLOW: usize = 8;
    let mut site = Site::new(2);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut slow: Vec<_> = (0..SLOW).map(|_| site.account(1)).collect();
    let plc = site.network.plc();
    plc.lie_about(slow.iter().map(|account| account.did().to_string()));
    plc.lies().set(Some(Lie::DripBody));
    let awaited: Vec<_> = slow.iter_mut().map(|a| site.publish_post(a)).collect();
    // Each has had its first attempt; from then on they have half of the threads.
    wait_until("all are slow", || failures(&relay, "plc") >= SLOW as u64);
    let is_slow = |site: &Site| site.network.plc().lies().open() >= 2;
    passes_meanwhile(&mut site, &relay, &mut subscriber, "plc", is_slow);
    site.network.plc().lies().set(None);
    subscriber.expect(&awaited.iter().collect::<Vec<_>>());
    settle(&site, &relay);
}

/// Sends an event of each of so many accounts that nobody knows.
fn make_up(site: &mut Site, host: usize, count: usize) {
    for _ in 0..count {
        let stranger = site.stranger(host);
        let reject = Reject::IdentityNotFound;
        site.network
            .publish_invalid(host, &stranger.account(), reject);
    }
}

/// As many as there may have been since.
fn lookups_since(start: Instant) -> u64 {
    let refills = start.elapsed().as_millis() / limits::IDENTITY_STRANGERS_REFILL.as_millis();
    u64::from(limits::IDENTITY_STRANGERS_BURST) + refills as u64 + 1
}

/// Rule 193: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn who_makes_accounts_up_costs_the_directory_little_and_nobody_else_anything() {
    const MADE_UP: usize = 2_000;
    let mut site = Site::new(2);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut known = [site.account(0), site.account(1)];
    for account in &mut known {
        subscriber.expect(&[&site.publish_post(account)]);
    }
    let start = Instant::now();
    make_up(&mut site, 0, MADE_UP);
    wait_until("the host has used up its lookups", || {
        relay.metric("relay_identity_hosts_held") == 1
    });
    // It even asks for the accounts of others before these say a word.
    let mut new: Vec<Account> = (0..20).map(|_| site.account(1)).collect();
    for account in &new {
        site.network.host(0).emit(&account.account());
    }
    wait_until("the host is read to its end", || {
        let refused = relay.rejects().into_values().sum::<u64>();
        relay.metric("relay_events_waiting") + refused == (MADE_UP + new.len()) as u64
    });
    let events: Vec<Event> = new.iter_mut().map(|a| site.publish_post(a)).collect();
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    // Its own accounts go on, too.
    for account in &mut known {
        let events: Vec<Event> = (0..20).map(|_| site.publish_post(account)).collect();
        subscriber.expect(&events.iter().collect::<Vec<_>>());
    }
    assert_eq!(relay.metric("relay_identity_hosts_held"), 1);
    // What was not believed, on a busy machine, is asked once more.
    let asked = site.network.plc().not_found();
    let doubted = relay.metric("relay_identity_doubted_total");
    assert!(asked <= lookups_since(start) + doubted, "{asked}");
    assert_eq!(relay.rejects().len(), 1, "{:?}", relay.rejects());
    let said = relay.log.lock().unwrap().join("\n");
    let words = "accounts that are not its own";
    assert_eq!(said.matches(words).count(), 1, "said once");
}

/// Rule 193: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn an_account_that_is_real_comes_after_those_that_are_not() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let made_up = limits::IDENTITY_STRANGERS_BURST as usize + 3;
    make_up(&mut site, 0, made_up);
    let mut real = site.account(0);
    let events: Vec<_> = (0..3).map(|_| site.publish_post(&mut real)).collect();
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    wait_until_waiting(&relay, 0);
    assert_eq!(site.network.plc().not_found(), made_up as u64);
    settle(&site, &relay);
}

/// Rule 193: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn a_new_host_may_have_as_many_accounts_as_it_likes() {
    const ACCOUNTS: usize = 2_000;
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut accounts: Vec<_> = (0..ACCOUNTS).map(|_| site.account(0)).collect();
    let events: Vec<_> = accounts.iter_mut().map(next_commit).collect();
    for event in &events {
        site.network.publish(0, event);
    }
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    assert_eq!(site.network.plc().requests(), ACCOUNTS as u64);
    let said = relay.log.lock().unwrap().join("\n");
    assert!(!said.contains("accounts that are not its own"));
    settle(&site, &relay);
}
