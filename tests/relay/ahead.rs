//! A backfill reads lists that are ahead of the streams of their hosts: what they say of an account is
//! shown, and is in the way of nothing that the host has sent before.

use serde_json::{Value, json};
use zlay::sim::{account::Account, event::Event};

use crate::{
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

const ACCOUNTS: &str = "/admin/backfill-accounts";

/// The status of each account, as anybody may ask for it.
fn statuses(relay: &Relay, accounts: &[Account]) -> Vec<Value> {
    let status = |account: &Account| {
        let query = format!("getRepoStatus?did={}", account.did());
        let (code, body) = relay.query(&query);
        assert_eq!(code, 200, "{body}");
        match body["active"].as_bool().unwrap() {
            true => "active".into(),
            false => body["status"].clone(),
        }
    };
    accounts.iter().map(status).collect()
}

/// The relay is so slow with a host that a list of it is read before most of what the host has sent.
/// It is killed in between, and asks again.
#[test]
fn what_was_sent_before_an_account_was_listed_as_inactive_passes() {
    let mut site = Site::new(1);
    let mut relay = site.start_crawling();
    let host = site.network.host(0).name().to_owned();
    relay.change(&host, json!({ "events_per_hour": 2 }));
    let mut talker = site.account(0);
    let mut events: Vec<Event> = (0..8).map(|_| site.publish_post(&mut talker)).collect();
    let first = relay.metric("relay_seq");
    assert!(first < 8, "all of it was read already");

    let words = ["deactivated", "suspended", "takendown", "deleted"];
    let crowd = 2 * words.len() + 2;
    let mut accounts: Vec<Account> = (0..crowd).map(|_| site.account(0)).collect();
    let say = |events: &mut Vec<Event>, event: Event| {
        site.network.publish(0, &event);
        events.push(event);
    };
    for (n, account) in accounts.iter_mut().enumerate() {
        if n % 2 == 1 {
            say(&mut events, account.identity());
        }
        say(&mut events, next_commit(account));
        // One that is not announced: the sync after it says so.
        next_commit(account);
        say(&mut events, account.sync().unwrap());
        say(&mut events, next_commit(account));
    }
    let [back, left] = [crowd - 2, crowd - 1];
    for (n, account) in accounts.iter_mut().enumerate() {
        if n != left {
            account.status = Some(words[(n / 2) % words.len()]);
            say(&mut events, account.account());
        }
        let hosted = account.hosted();
        site.network.host(0).set_account(account.did(), hosted);
    }
    let listed: Vec<Value> = accounts
        .iter()
        .map(|account| account.status.unwrap_or("active").into())
        .collect();

    let (status, body) = relay.admin(ACCOUNTS, Some(""));
    assert_eq!(status, 200, "{body}");
    wait_until("the list is read", || {
        relay.look(ACCOUNTS)["state"] == "done"
    });
    assert_eq!(statuses(&relay, &accounts), listed);
    relay.kill();
    let relay = site.start();
    assert_eq!(statuses(&relay, &accounts), listed);
    // Of one the list is overtaken by its host's word to come, of one by what it writes then.
    accounts[left].status = Some("deactivated");
    say(&mut events, accounts[left].account());
    accounts[back].status = None;
    say(&mut events, accounts[back].account());
    say(&mut events, next_commit(&mut accounts[back]));

    let unlimited = json!({ "events_per_hour": null });
    relay.change(&host, unlimited);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    assert!(relay.rejects().is_empty(), "{:?}", relay.rejects());
    let said: Vec<Value> = accounts
        .iter()
        .map(|account| account.status.unwrap_or("active").into())
        .collect();
    assert_eq!(statuses(&relay, &accounts), said);
    let live = |account: &&Account| account.status != Some("deleted");
    let count = 1 + accounts.iter().filter(live).count();
    assert_eq!(relay.of_host(&host, "/accounts"), count);
    let posts = relay.listed_by("app.bsky.feed.post");
    assert_eq!(posts.len(), 2, "the talker, and the one who came back");
}
