//! Lists over files of every kind, and what is damage.

use tempfile::TempDir;

use super::*;
use crate::{
    sim::known::Known,
    store::{Options, account::HostId},
};

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), Options::default()).unwrap()
}

/// Accounts of a list are found wherever they are: in memory, in files of this version and of an
/// earlier one.
#[test]
fn files_of_an_earlier_version_are_read_and_replaced() {
    let dir = TempDir::new().unwrap();
    let known = Known {
        accounts: 3_000,
        first_host: HostId(1),
        hosts: 7,
    };
    known.fill(dir.path()).unwrap();
    known.index(dir.path()).unwrap();
    let all = |store: &Store| store.accounts_after(0, 10_000).unwrap();
    let store = open(&dir);
    let expected = all(&store);
    assert_eq!(expected.len(), 3_000);
    assert!(expected.iter().zip(1..).all(|((_, a), n)| a.ordinal == n));
    drop(store);
    Store::write_whole_filters(dir.path());
    let store = open(&dir);
    assert_eq!(all(&store), expected);
    for (did, account) in &expected {
        assert_eq!(store.account(did).unwrap().as_ref(), Some(account));
    }
    let unknown = Did::parse("did:web:nobody.test").unwrap();
    assert_eq!(store.account(&unknown).unwrap(), None);
    assert!(!store.account_collections(3_000).unwrap().is_empty());
    // Some of them move, and their files are merged with those of before.
    let mut moved = expected;
    let mut batch = store.batch();
    for (did, account) in moved.iter_mut().step_by(3) {
        account.authority_at += 1;
        batch.put_account(did, account);
    }
    store.commit(batch).unwrap();
    assert_eq!(all(&store), moved);
    store.settle().unwrap();
    assert_eq!(all(&store), moved);
    let ordinals = |after, limit| {
        let found = store.accounts_after(after, limit).unwrap();
        found.iter().map(|(_, a)| a.ordinal).collect::<Vec<_>>()
    };
    assert_eq!(ordinals(2_998, 5), [2_999, 3_000]);
    assert_eq!(ordinals(10, 1), [11]);
    assert!(ordinals(0, 0).is_empty() && ordinals(u64::MAX, 5).is_empty());
}

#[test]
fn an_account_that_is_listed_and_not_known_is_damage() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let did = Did::parse("did:web:a.test").unwrap();
    let mut batch = store.batch();
    batch.put_account_order(1, &did);
    store.commit(batch).unwrap();
    let error = store.accounts_after(0, 10).unwrap_err().to_string();
    assert!(error.contains("did:web:a.test"), "{error}");
}
