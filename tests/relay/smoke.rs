//! The shortest way from a host to a subscriber, with and without TLS.

use zlay::sim::account::Account;

use crate::{
    site::{Site, next_commit},
    subscriber::Subscriber,
};

/// What every kind of account event is: four kinds, from two hosts, live and replayed.
fn passes_everything(site: &mut Site) {
    let relay = site.start_crawling();
    let mut accounts: Vec<Account> = (0..2).map(|host| site.account(host)).collect();
    let mut live = Subscriber::connect(&relay, None).unwrap();
    let mut events = Vec::new();
    for account in &mut accounts {
        events.extend([account.identity(), account.account()]);
        events.extend([next_commit(account), next_commit(account)]);
        // One commit is not announced; the sync after it says so.
        next_commit(account);
        events.extend([account.sync().unwrap(), next_commit(account)]);
        for event in events.iter().rev().take(6).rev() {
            site.network.publish(account.host, event);
        }
    }
    let events: Vec<_> = events.iter().collect();
    live.expect(&events);
    Subscriber::from_the_beginning(&relay).expect(&events);
    assert!(relay.rejects().is_empty(), "{:?}", relay.rejects());
    assert_eq!(relay.metric("relay_seq"), events.len() as u64);
}

#[test]
fn every_kind_of_event_passes() {
    passes_everything(&mut Site::new(2));
}

#[test]
fn every_kind_of_event_passes_over_tls() {
    passes_everything(&mut Site::with_tls(2));
}

#[test]
fn hosts_of_an_authority_that_nobody_trusts_are_not_crawled() {
    let mut site = Site::with_tls(1);
    site.variables.clear();
    let relay = site.start();
    let (status, body) = relay.request_crawl(&site.network.host(0).url());
    assert_eq!((status, &body["error"]), (400, &"HostNotFound".into()));
    assert_eq!(site.network.host(0).connections(), 0);
}
