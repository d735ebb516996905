//! What must hold after a death, and in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use tungstenite::Message;
use zlay::sim::{account::Account, host::Host};

use super::{
    load::World,
    operator::{BANNED, Operator},
    witness::Record,
};
use crate::{
    site::{Relay, agent, answer, wait_until},
    subscriber::{Next, open, read},
};

/// Everything that was seen from `first` on is sent again as it was, without a gap in between.
pub(super) fn replay(relay: &Relay, record: &Record, first: u64, who: &str) -> usize {
    let known = record.seqs_from(first);
    let Some(last) = known.last() else { return 0 };
    let cursor = first.saturating_sub(1).to_string();
    let mut websocket = open(relay.public, Some(&cursor)).unwrap();
    let mut sent = BTreeSet::new();
    while sent.last() < Some(last) {
        let message = websocket.read().unwrap_or_else(|error| {
            panic!("{who}, of {} after {:?}: {error}", known.len(), sent.last())
        });
        let Message::Binary(bytes) = message else {
            continue;
        };
        if sent.is_empty() && matches!(read(&bytes), Next::Note(1, _)) {
            // The window has moved meanwhile.
            return replay(relay, record, window(relay).0 + 1, who);
        }
        sent.extend(record.note(&bytes, who));
        record.check();
    }
    let missing: Vec<&u64> = known.iter().filter(|seq| !sent.contains(*seq)).collect();
    assert!(missing.is_empty(), "{who}: {missing:?} were not sent");
    record.check();
    sent.len()
}

/// What was seen up to `seen` and is gone, where that may be. What comes next has a higher seq.
pub(super) fn lost(relay: &Relay, record: &Record, seen: u64) -> Vec<u64> {
    let (pruned, _) = window(relay);
    let known = record.seqs_from(pruned + 1);
    let mut websocket = open(relay.public, Some(&pruned.to_string())).unwrap();
    let mut sent = BTreeSet::new();
    while sent.last().is_none_or(|last| *last <= seen) {
        if let Message::Binary(bytes) = websocket.read().unwrap() {
            sent.extend(record.note(&bytes, "after a loss"));
            record.check();
        }
    }
    let lost = known.into_iter().filter(|seq| !sent.contains(seq));
    let lost: Vec<u64> = lost.collect();
    record.lose(&lost);
    lost
}

/// The seqs of the window: everything after the one, up to the other.
pub(super) fn window(relay: &Relay) -> (u64, u64) {
    let metrics = relay.metrics();
    (metrics["relay_pruned_seq"], metrics["relay_seq"])
}

/// From where hosts were asked last.
pub(super) fn asked(hosts: &[Arc<Host>]) -> Vec<(usize, u64)> {
    let last = |host: &Arc<Host>| host.cursors().last().copied().flatten();
    let hosts = hosts.iter().enumerate();
    hosts
        .filter_map(|(at, host)| Some((at, last(host)?)))
        .collect()
}

/// No host was asked for what follows an event that is not in the store. To be called once who follows
/// has everything that was in the store when the hosts were asked.
#[track_caller]
pub(super) fn cursors(record: &Record, asked: &[(usize, u64)]) {
    for (host, cursor) in asked {
        let Some((oldest, what)) = record.ledger.oldest_waiting(*host) else {
            continue;
        };
        assert!(
            oldest > *cursor,
            "host {host} was asked for what follows {cursor}, and {oldest} is not in the store: \
             {what}; {:#?}",
            record.ledger.network().expected().differences()
        );
    }
}

/// A whole list.
fn all(relay: &Relay, query: &str, limit: usize) -> Vec<Value> {
    let (mut repos, mut cursor) = (Vec::new(), String::new());
    loop {
        let and = if query.contains('?') { '&' } else { '?' };
        let url = format!(
            "http://{}/xrpc/com.atproto.sync.{query}{and}limit={limit}{cursor}",
            relay.public
        );
        let (status, page) = answer(agent().get(url).call().unwrap());
        assert_eq!(status, 200, "{page}");
        repos.extend(page["repos"].as_array().unwrap().iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => {
                let before = std::mem::replace(&mut cursor, format!("&cursor={next}"));
                assert_ne!(before, cursor);
            }
            None => return repos,
        }
    }
}

fn did(repo: &Value) -> String {
    repo["did"].as_str().unwrap().to_owned()
}

/// The index says of every collection what the accounts hold.
pub(super) fn index(relay: &Relay, holders: &BTreeMap<&'static str, BTreeSet<String>>) {
    for (name, expected) in holders {
        let listed = all(
            relay,
            &format!("listReposByCollection?collection={name}"),
            100,
        );
        let dids: BTreeSet<String> = listed.iter().map(did).collect();
        assert_eq!(
            dids.len(),
            listed.len(),
            "{name}: an account is there twice"
        );
        let lacks: Vec<_> = expected.difference(&dids).collect();
        let more: Vec<_> = dids.difference(expected).collect();
        assert!(
            lacks.is_empty() && more.is_empty(),
            "{name}: lacks {lacks:?}, has {more:?}"
        );
    }
}

/// Every account is in the list, as it is.
pub(super) fn accounts<'a>(relay: &Relay, accounts: impl Iterator<Item = &'a Account>) -> usize {
    let listed = all(relay, "listRepos", 500);
    let known: BTreeMap<String, &Value> = listed.iter().map(|repo| (did(repo), repo)).collect();
    assert_eq!(known.len(), listed.len(), "an account is there twice");
    let mut expected = 0;
    for account in accounts {
        let Some((head, rev)) = account.head() else {
            continue;
        };
        expected += 1;
        let Some(repo) = known.get(account.did().as_ref()) else {
            panic!("{} is not listed", account.did());
        };
        let is = [
            &repo["rev"],
            &repo["head"],
            &repo["active"],
            &repo["status"],
        ];
        let (rev, head) = (Value::from(rev.to_string()), Value::from(head.to_string()));
        let status = account.status.map_or(Value::Null, Value::from);
        let active = Value::from(account.status.is_none());
        assert_eq!(is, [&rev, &head, &active, &status], "{}", account.did());
    }
    assert_eq!(listed.len(), expected);
    expected
}

/// The accounts that their hosts list and that say nothing are found by a backfill.
pub(super) fn backfill(relay: &Relay) {
    const PATH: &str = "/admin/backfill-accounts";
    let done = || relay.look(PATH)["running"] == false;
    wait_until("the backfill of before ends", done);
    let (status, body) = relay.admin(PATH, Some(""));
    assert_eq!(status, 200, "{body}");
    wait_until("the backfill ends", done);
    let status = relay.look(PATH);
    assert_eq!(
        (&status["state"], &status["failed"]),
        (&"done".into(), &0.into()),
        "{status}"
    );
}

/// Everything that hosts have said has come, and everything is as it must be.
pub(super) fn end(relay: &Relay, record: &Record, world: &World, operator: &Operator) -> usize {
    if !record.forgets {
        operator.take_back(relay);
    }
    let expected = record.ledger.network().expected();
    wait_until("everything has come", || {
        record.check();
        expected.outstanding() == 0 || !expected.differences().none()
    });
    let differences = expected.verdict();
    assert!(differences.none(), "{differences:#?}");
    let network = record.ledger.network();
    assert!(network.hosts().iter().all(|host| host.outdated() == 0));
    wait_until("who follows has everything", || {
        record.followed() == record.last()
            && (record.forgets || record.last() == relay.metric("relay_seq"))
    });
    operator.check(relay);
    backfill(relay);
    let operated = operator.accounts();
    let mut holders = world.holders();
    for account in &operated {
        for key in account.repo.tree().keys() {
            let name = key.split_once('/').map_or("", |(name, _)| name);
            let list = holders.get_mut(name).unwrap();
            list.insert(account.did().to_string());
        }
    }
    index(relay, &holders);
    let sleepers = operator.sleepers();
    let everybody = world.everybody().chain(&operated).chain(&sleepers);
    accounts(relay, everybody);
    assert_eq!(relay.metric("relay_panics_total"), 0);
    assert_ne!(
        relay.of_host(network.host(BANNED).name(), "/status"),
        "banned"
    );
    let (pruned, _) = window(relay);
    replay(relay, record, pruned + 1, "the last replay")
}
