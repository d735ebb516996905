//! Sync events: an account's repository is at a revision, however it came there.

use std::{collections::BTreeMap, sync::Arc};

use zlay::{
    atproto::tid::Tid,
    limits::SYNC_BLOCKS_BYTES_MAX,
    reject::Reject,
    sim::{
        account::Account,
        event::{self, Event},
        keys::Key,
        repo::{Draft, Signing},
        tree::Block,
    },
};

use crate::{
    craft,
    site::{next_commit, wait_until},
    stage::Stage,
};

const DISCONTINUOUS: &str = "relay_events_discontinuous_total";

/// A `#sync` of a draft, signed so, with more blocks behind the commit object.
fn sync_of(draft: &Draft, signing: &Signing, more: &[Block]) -> Event {
    let object = draft.sign(signing);
    let root = object.cid;
    let blocks = [&[object], more].concat();
    let file = event::car(1, &[root], &blocks);
    event::sync(&draft.did, &draft.rev.to_string(), &file, draft.micros)
}

/// The commit that the account would make next; the account does not move on.
fn draft(account: &Account) -> Draft {
    let post = account.post("never seen");
    account.clone().draft(&[post])
}

fn valid(account: &Account) -> Signing {
    Signing::Valid(account.key.clone())
}

/// An account that was seen, and has moved on by commits that were not.
fn moved_on(stage: &mut Stage) -> Account {
    let mut account = stage.known_account();
    for _ in 0..3 {
        next_commit(&mut account);
    }
    account
}

/// Rules 117, 118: <https://atproto.com/specs/sync#sync-events>
#[test]
fn a_sync_is_passed_on_and_the_next_commit_continues_it() {
    let mut stage = Stage::set_up();
    let mut account = moved_on(&mut stage);
    stage.pass(&[&account.sync().unwrap(), &next_commit(&mut account)]);
    // A revision that says nothing new is new all the same.
    account.commit(&[]);
    stage.pass(&[&account.sync().unwrap(), &next_commit(&mut account)]);
    assert_eq!(stage.relay.metric(DISCONTINUOUS), 0);
    assert_eq!(stage.relay.rejects(), BTreeMap::new());
}

/// Whether commits or another sync have come after it.
///
/// Rule 119: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn a_sync_of_an_earlier_revision_is_dropped() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let seen = account.sync().unwrap();
    let unseen = {
        let draft = draft(&account);
        sync_of(&draft, &valid(&account), &[])
    };
    stage.pass(&[&next_commit(&mut account)]);
    for old in [&seen, &unseen] {
        stage.drops(&mut account, old, Reject::RevStale);
    }
    next_commit(&mut account);
    let before = account.sync().unwrap();
    next_commit(&mut account);
    stage.pass(&[&account.sync().unwrap()]);
    stage.drops(&mut account, &before, Reject::RevStale);
}

/// Rule 120: <https://atproto.com/specs/sync#sync-events>
#[test]
fn a_sync_of_the_same_revision_is_dropped() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let same = account.sync().unwrap();
    stage.drops(&mut account, &same, Reject::RevStale);
    let (known, rev) = account.head().unwrap();
    let other = {
        let mut draft = draft(&account);
        draft.rev = rev;
        assert_ne!(draft.sign(&valid(&account)).cid, known);
        sync_of(&draft, &valid(&account), &[])
    };
    stage.drops(&mut account, &other, Reject::RevStale);
    // And of a revision that a sync has told of.
    next_commit(&mut account);
    let sync = account.sync().unwrap();
    stage.pass(&[&sync]);
    stage.drops(&mut account, &sync, Reject::RevStale);
}

/// An event of an account that has one flaw.
type Flawed = fn(&mut Stage, &Account) -> Event;

fn by_a_stranger(_: &mut Stage, account: &Account) -> Event {
    let stranger = Key::random(account.key.curve(), &mut fastrand::Rng::with_seed(121));
    sync_of(&draft(account), &Signing::Valid(Arc::new(stranger)), &[])
}

fn in_the_upper_half(_: &mut Stage, account: &Account) -> Event {
    sync_of(&draft(account), &Signing::HighS(account.key.clone()), &[])
}

fn signed_in_part(_: &mut Stage, account: &Account) -> Event {
    sync_of(&draft(account), &Signing::Bytes(vec![1; 63]), &[])
}

/// The other account has the same key, so that the signature holds.
fn of_another_account(stage: &mut Stage, account: &Account) -> Event {
    let mut other = stage.site.stranger(0);
    other.key = account.key.clone();
    stage.site.network.register(&other);
    let other = stage.seen(other);
    let draft = draft(&other);
    let object = draft.sign(&valid(account));
    let file = event::car(1, &[object.cid], &[object]);
    let rev = draft.rev.to_string();
    event::sync(account.did(), &rev, &file, draft.micros)
}

fn of_another_revision(_: &mut Stage, account: &Account) -> Event {
    let draft = draft(account);
    let object = draft.sign(&valid(account));
    let file = event::car(1, &[object.cid], &[object]);
    let rev = Tid::from_raw(draft.rev.raw() + 1).to_string();
    event::sync(account.did(), &rev, &file, draft.micros)
}

fn of_the_future(_: &mut Stage, account: &Account) -> Event {
    let mut draft = draft(account);
    draft.rev = Tid::from_micros(draft.micros + 3_600_000_000, 0);
    sync_of(&draft, &valid(account), &[])
}

/// Nothing but the root's name.
fn without_blocks(_: &mut Stage, account: &Account) -> Event {
    let draft = draft(account);
    let file = event::car(1, &[draft.sign(&valid(account)).cid], &[]);
    event::sync(account.did(), &draft.rev.to_string(), &file, draft.micros)
}

fn without_the_commit(_: &mut Stage, account: &Account) -> Event {
    let draft = draft(account);
    let root = draft.sign(&valid(account)).cid;
    let file = event::car(1, &[root], &[account.repo.tree().root()]);
    event::sync(account.did(), &draft.rev.to_string(), &file, draft.micros)
}

/// Rule 121: <https://atproto.com/specs/sync#sync-events>
#[test]
fn a_sync_with_a_flaw_is_dropped() {
    let mut stage = Stage::set_up();
    let cases: [(Flawed, Reject); 8] = [
        (by_a_stranger, Reject::SignatureInvalid),
        (in_the_upper_half, Reject::SignatureInvalid),
        (signed_in_part, Reject::SignatureInvalid),
        (of_another_account, Reject::CommitMismatch),
        (of_another_revision, Reject::CommitMismatch),
        (of_the_future, Reject::RevFuture),
        (without_blocks, Reject::CommitBlock),
        (without_the_commit, Reject::CommitBlock),
    ];
    for (flawed, reject) in cases {
        // One each: a signature that does not hold makes the relay look the key up anew, and that
        // not often.
        let mut account = stage.known_account();
        let event = flawed(&mut stage, &account);
        stage.drops(&mut account, &event, reject);
    }
}

/// Rule 121: <https://atproto.com/guides/account-lifecycle>
#[test]
fn a_sync_of_whom_it_is_not_to_come_from_is_dropped() {
    let mut stage = Stage::set_up();
    let mut account = moved_on(&mut stage);
    let sync = account.sync().unwrap();
    stage.refuse(1, &sync, Reject::WrongHost);

    account.status = Some("deactivated");
    // The host says the same when it is asked.
    stage.site.network.register(&account);
    stage.pass(&[&account.account()]);
    stage.refuse(0, &sync, Reject::AccountInactive);
    account.status = None;
    stage.site.network.register(&account);
    // The very same event passes when nothing speaks against it.
    stage.pass(&[&account.account(), &sync, &next_commit(&mut account)]);
    assert_eq!(stage.relay.metric(DISCONTINUOUS), 0);
}

/// Rules 122, 123: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/subscribeRepos.json>
#[test]
fn a_sync_may_carry_more_than_its_commit_up_to_the_limit() {
    let mut stage = Stage::set_up();
    let mut account = moved_on(&mut stage);
    assert_eq!(SYNC_BLOCKS_BYTES_MAX, 10_000);
    let nodes = |account: &Account| -> Vec<Block> {
        let tree = account.repo.tree();
        let keys = tree.keys();
        keys.iter()
            .flat_map(|key| tree.covering_proof(key))
            .collect()
    };
    assert!(!nodes(&account).is_empty());
    // As many bytes as these, after the nodes of the tree.
    let sized = |account: &mut Account, len: usize| {
        let draft = account.draft(&[]);
        let mut blocks = vec![draft.sign(&valid(account))];
        blocks.extend(nodes(account));
        let root = blocks[0].cid;
        blocks.push(craft::filler(len - event::car(1, &[root], &blocks).len()));
        let file = event::car(1, &[root], &blocks);
        assert_eq!(file.len(), len);
        event::sync(account.did(), &draft.rev.to_string(), &file, draft.micros)
    };
    let with_nodes = {
        let draft = account.draft(&[]);
        sync_of(&draft, &valid(&account), &nodes(&account))
    };
    stage.pass(&[&with_nodes, &next_commit(&mut account)]);
    let largest = sized(&mut account, SYNC_BLOCKS_BYTES_MAX);
    stage.pass(&[&largest, &next_commit(&mut account)]);
    let larger = sized(&mut account.clone(), SYNC_BLOCKS_BYTES_MAX + 1);
    stage.drops(&mut account, &larger, Reject::BlocksSize);
    assert_eq!(stage.relay.metric(DISCONTINUOUS), 0);
}

/// Not after a break either: what a relay has not seen, it does not go and get.
///
/// Rule 124: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn nothing_is_fetched_after_a_sync() {
    let mut stage = Stage::set_up();
    let mut account = moved_on(&mut stage);
    stage.pass(&[&next_commit(&mut account)]);
    assert_eq!(stage.relay.metric(DISCONTINUOUS), 1);
    next_commit(&mut account);
    stage.pass(&[&account.sync().unwrap(), &next_commit(&mut account)]);
    stage.sentinel();
    let Stage {
        site,
        relay,
        subscriber,
        ..
    } = stage;
    // Nothing is left to be done that might still ask. A subscriber who does not read would be
    // waited for.
    drop(subscriber);
    relay.terminate();
    assert!(relay.ended().0.success());
    for host in site.network.hosts() {
        let asked: Vec<_> = host.asked().into_keys().collect();
        let expected = [
            "/xrpc/com.atproto.server.describeServer",
            "/xrpc/com.atproto.sync.subscribeRepos",
        ];
        assert_eq!(asked, expected);
    }
}

/// Known are its revision and its tree: the same does not pass twice, and the next commit continues it.
///
/// Rule 125: <https://atproto.com/guides/account-lifecycle>
#[test]
fn a_sync_makes_its_account_known() {
    let mut stage = Stage::set_up();
    let known = stage.relay.metric("relay_accounts");
    let mut account = stage.site.account(0);
    for _ in 0..3 {
        next_commit(&mut account);
    }
    let sync = account.sync().unwrap();
    // Not by a host that does not speak for it.
    stage.refuse(1, &sync, Reject::WrongHost);
    assert_eq!(stage.relay.metric("relay_accounts"), known);
    stage.pass(&[&sync]);
    wait_until("the account is known", || {
        stage.relay.metric("relay_accounts") == known + 1
    });
    stage.drops(&mut account, &sync, Reject::RevStale);
}
