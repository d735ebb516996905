//! Lists over files of every kind, and what is damage.

use tempfile::TempDir;

use super::*;
use crate::{
    sim::known::{Known, did},
    store::{
        Batch, Options,
        account::{HostId, Status},
    },
};

/// What the first version wrote into the order.
fn put_name(batch: &mut Batch, ordinal: u64, did: &Did) {
    let family = batch.db.family(Family::AccountOrder);
    let key = ordinal_key(ordinal);
    batch.batch.put_cf(&family, key, did.as_str());
}

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
    let mut expected = all(&store);
    assert_eq!(expected.len(), 3_000);
    let known_as = |ordinal| (did(ordinal).unwrap(), known.account(ordinal));
    for (entry, ordinal) in expected.iter().zip(1..) {
        let (did, account) = known_as(ordinal);
        assert_eq!(entry, &ListEntry::of(did, &account));
    }
    // Half of them are as the first version left them.
    let mut batch = store.batch();
    for entry in expected.iter().step_by(2) {
        put_name(&mut batch, entry.ordinal, &entry.did);
    }
    store.commit(batch).unwrap();
    assert_eq!(all(&store), expected);
    drop(store);
    Store::write_whole_filters(dir.path());
    let store = open(&dir);
    assert_eq!(all(&store), expected);
    for entry in &expected {
        let account = store.account(&entry.did).unwrap();
        assert_eq!(account, Some(known_as(entry.ordinal).1));
    }
    let unknown = Did::parse("did:web:nobody.test").unwrap();
    assert_eq!(store.account(&unknown).unwrap(), None);
    assert!(!store.account_collections(3_000).unwrap().is_empty());
    // Some of them move, and their files are merged with those of before.
    let mut batch = store.batch();
    for entry in expected.iter_mut().step_by(3) {
        let (did, mut account) = known_as(entry.ordinal);
        account.upstream = Status::inactive("deactivated");
        batch.put_account(&did, &account);
        *entry = ListEntry::of(did, &account);
        assert_eq!(entry.status.reason.as_deref(), Some("deactivated"));
    }
    store.commit(batch).unwrap();
    assert_eq!(all(&store), expected);
    store.settle().unwrap();
    assert_eq!(all(&store), expected);
    let ordinals = |after, limit| {
        let found = store.accounts_after(after, limit).unwrap();
        found.iter().map(|entry| entry.ordinal).collect::<Vec<_>>()
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
    put_name(&mut batch, 1, &did);
    store.commit(batch).unwrap();
    let error = store.accounts_after(0, 10).unwrap_err().to_string();
    assert!(error.contains("did:web:a.test"), "{error}");
}
