//! The collection index: what it says after any sequence of events is what the repositories hold.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;

use super::*;
use crate::{
    limits::{ACCOUNT_COLLECTIONS_MAX, COMMIT_OPS_MAX},
    sim::{repo::Write, tree::Block},
    store::collections::CollectionPage,
};

/// Names of which some begin like others.
const NAMES: [&str; 7] = [
    "com.example.c",
    "com.example.c-x.y",
    "com.example.c.d",
    "com.example.cc",
    "com.example.b",
    "net.example.z",
    "a.b.c",
];

fn put(name: &str, rkey: u32, value: u64) -> Write {
    let record = Block::of_cbor([&[0x48][..], &value.to_be_bytes()].concat());
    Write::Put(format!("{name}/{rkey}"), record)
}

fn delete(name: &str, rkey: u32) -> Write {
    Write::Delete(format!("{name}/{rkey}"))
}

/// The collections of which a person has records.
fn held_by(person: &Person) -> BTreeSet<String> {
    let keys = person.repo.tree().keys().into_iter();
    let names = keys.map(|key| key.split_once('/').unwrap().0.to_owned());
    names.collect()
}

impl Fixture {
    /// Commits of a person and its place in its host's stream.
    fn writes(&mut self, person: &mut Person, seq: u64, writes: &[Write]) {
        let commit = person.commit(writes);
        self.sequence(proven(person, &commit, seq));
    }

    /// The whole list of a collection, read in parts of `limit`.
    fn listed_by(&self, name: &str, limit: usize) -> Vec<Did> {
        let (mut dids, mut after) = (Vec::new(), 0);
        loop {
            let page = self.store.collection_page(name, after, limit).unwrap();
            assert!(page.dids.len() <= limit);
            dids.extend(page.dids);
            match page.next {
                Some(next) => after = next,
                None => return dids,
            }
        }
    }

    #[track_caller]
    fn lists(&self, name: &str, people: &[&Person]) {
        let expected: Vec<Did> = people.iter().map(|person| did(person)).collect();
        for limit in [1, 2, 100] {
            assert_eq!(self.listed_by(name, limit), expected, "{name}");
        }
    }

    /// What the index has of an account, by name.
    fn indexed(&self, person: &Person) -> BTreeSet<String> {
        let Some(account) = self.store.account(&did(person)).unwrap() else {
            return BTreeSet::new();
        };
        let pairs = self.store.account_collections(account.ordinal).unwrap();
        let names = NAMES.iter().filter(|name| {
            let collection = self.store.collection(name).unwrap();
            collection.is_some_and(|collection| pairs.contains(collection.id))
        });
        let names: BTreeSet<String> = names.map(|name| (*name).to_owned()).collect();
        assert_eq!(names.len(), pairs.len(), "each has a name");
        names
    }
}

/// People whose repositories change at random, and what the index must say of them.
struct World {
    people: Vec<Person>,
    down: Vec<bool>,
    /// Of those that were deleted once the index knows what was touched since.
    was_deleted: Vec<bool>,
    lists: BTreeMap<&'static str, Vec<usize>>,
    seq: u64,
}

impl World {
    fn new(rng: &mut fastrand::Rng) -> World {
        let people: Vec<Person> = (0..5).map(|_| Person::random(rng, 0)).collect();
        World {
            down: vec![false; people.len()],
            was_deleted: vec![false; people.len()],
            people,
            lists: NAMES.map(|name| (name, Vec::new())).into(),
            seq: 0,
        }
    }

    fn is_visible(&self, i: usize) -> bool {
        !self.down[i] && self.people[i].status.is_none()
    }

    /// A commit of several operations, more of them deletions than anything else.
    fn commit(&mut self, i: usize, rng: &mut fastrand::Rng) -> Event {
        let person = &mut self.people[i];
        let mut paths = BTreeSet::new();
        let mut writes = Vec::new();
        for _ in 0..rng.usize(1..7) {
            let (name, rkey) = (NAMES[rng.usize(..NAMES.len())], rng.u32(..4));
            let write = match (person.repo.tree().pick(rng), rng.u8(..5)) {
                (Some(path), 0..3) => Write::Delete(path.to_string()),
                _ => put(name, rkey, rng.u64(..)),
            };
            let (Write::Put(path, _) | Write::Delete(path)) = &write;
            if paths.insert(path.clone()) {
                writes.push(write);
            }
        }
        let commit = person.commit(&writes);
        let held = held_by(person);
        for path in paths {
            let name = path.split_once('/').unwrap().0;
            let list = self.lists.get_mut(name).unwrap();
            match (list.contains(&i), held.contains(name)) {
                (false, true) => list.push(i),
                (true, false) => list.retain(|other| *other != i),
                _ => {}
            }
        }
        self.seq += 1;
        proven(person, &commit, self.seq)
    }

    /// Another relay's index, which is as good as ours should be, has somebody in the list of a
    /// collection. Where ours has missed nothing it has that already, but for accounts that it has not
    /// heard of.
    fn import(&mut self, f: &mut Fixture, i: usize, name: &'static str) {
        let person = &self.people[i];
        let holds = held_by(person).contains(name);
        let gone = person.status == Some("deleted");
        if !holds || (gone && f.store.account(&did(person)).unwrap().is_none()) {
            return;
        }
        let list = self.lists.get_mut(name).unwrap();
        let is_new = !gone && !list.contains(&i);
        let (added, known, skipped) = f.import_pairs(name, &[&self.people[i]]);
        assert_eq!(
            (added, known, skipped.len()),
            match (gone, is_new) {
                (true, _) => (0, 0, 1),
                (false, true) => (1, 0, 0),
                (false, false) => (0, 1, 0),
            }
        );
        if is_new {
            list.push(i);
        }
    }

    /// Its host says something of an account.
    fn says(&mut self, i: usize, status: Option<&'static str>) -> Event {
        let person = &mut self.people[i];
        if status == Some("deleted") && person.status != status {
            for list in self.lists.values_mut() {
                list.retain(|other| *other != i);
            }
            self.was_deleted[i] = true;
        }
        person.status = status;
        self.seq += 1;
        proven(person, &person.account(), self.seq)
    }

    fn check(&self, f: &Fixture) {
        let mut count = 0;
        for (name, list) in &self.lists {
            count += list.len() as u64;
            let visible = list.iter().filter(|i| self.is_visible(**i));
            let visible: Vec<&Person> = visible.map(|i| &self.people[*i]).collect();
            f.lists(name, &visible);
        }
        for (i, person) in self.people.iter().enumerate() {
            let indexed = f.indexed(person);
            if !self.was_deleted[i] {
                assert_eq!(indexed, held_by(person));
            }
            let has = |name: &&&str| self.lists[**name].contains(&i);
            let names = NAMES.iter().filter(has).map(|name| (*name).to_owned());
            assert_eq!(indexed, names.collect());
        }
        assert_eq!(f.store.counters().pairs, count);
        assert_eq!(f.metrics.collection_pairs.get(), count);
    }
}

/// Rule 178: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listReposByCollection.json>
#[test]
fn the_index_is_what_the_repositories_hold() {
    for seed in 0..6 {
        let dir = TempDir::new().unwrap();
        let mut f = Fixture::open(dir.path());
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut world = World::new(rng);
        for _ in 0..250 {
            let i = rng.usize(..world.people.len());
            match rng.u8(..40) {
                0 | 1 => f.send(world.says(i, Some("deactivated"))),
                2 => f.send(world.says(i, Some("deleted"))),
                3..8 => f.send(world.says(i, None)),
                8 => {
                    f.work();
                    let ruling = if world.down[i] {
                        Ruling::Reversal
                    } else {
                        Ruling::Takedown
                    };
                    if f.rule(&world.people[i], ruling) == Ruled::Holds {
                        world.down[i] = !world.down[i];
                    }
                }
                9 => {
                    f.work();
                    f.close();
                    f = Fixture::open(dir.path());
                }
                10..14 => {
                    f.work();
                    let name = NAMES[rng.usize(..NAMES.len())];
                    world.import(&mut f, i, name);
                }
                _ if world.is_visible(i) => f.send(world.commit(i, rng)),
                _ => continue,
            }
            // Several events are one batch now and then.
            if rng.bool() {
                f.work();
                world.check(&f);
            }
        }
        f.work();
        world.check(&f);
        assert_eq!(f.metrics.rejected.total(), 0);
        f.close();
    }
}

/// Rule 178: <https://atproto.com/specs/xrpc#cursors-and-pagination>
#[test]
fn whoever_comes_back_with_an_old_place_finds_what_is_new_after_it() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let name = NAMES[0];
    let mut people: Vec<Person> = (0..6).map(person).collect();
    let after = |f: &Fixture, after, limit| f.store.collection_page(name, after, limit).unwrap();
    for (i, person) in people.iter_mut().take(3).enumerate() {
        f.writes(person, 1 + i as u64, &[put(name, 1, 1)]);
    }
    let dids = |people: &[Person], which: &[usize]| -> Vec<Did> {
        which.iter().map(|i| did(&people[*i])).collect()
    };
    let page = after(&f, 0, 2);
    assert_eq!((page.dids, page.next), (dids(&people, &[0, 1]), Some(2)));
    // The last one of that page goes, comes back, and others come.
    f.writes(&mut people[1], 4, &[delete(name, 1)]);
    f.writes(&mut people[3], 5, &[put(name, 1, 1)]);
    f.close();
    let mut f = Fixture::open(dir.path());
    f.writes(&mut people[1], 6, &[put(name, 2, 1)]);
    let page = after(&f, 2, 10);
    assert_eq!((page.dids, page.next), (dids(&people, &[2, 3, 1]), None));
    assert_eq!(page.last, 5);
    // Nobody is left: the places were given out all the same.
    for (i, rkey, seq) in [(0, 1, 7), (2, 1, 8), (3, 1, 9), (1, 2, 10)] {
        f.writes(&mut people[i], seq, &[delete(name, rkey)]);
    }
    let page = after(&f, 2, 10);
    let nothing = CollectionPage {
        last: 5,
        ..CollectionPage::default()
    };
    assert_eq!(page, nothing);
    f.writes(&mut people[4], 11, &[put(name, 1, 1)]);
    assert_eq!(after(&f, 5, 10).dids, dids(&people, &[4]));
    assert_eq!(after(&f, 0, 10).dids, dids(&people, &[4]));
    assert_eq!(f.metrics.collections.get(), 1);
    f.close();
}

/// What is not shown stays as it is, and what is shown counts whatever came before.
#[test]
fn a_gap_in_a_repository_leaves_the_index_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    let [b, c, d] = ["com.example.b", "com.example.c", "com.example.c.d"];
    f.writes(
        &mut alice,
        1,
        &[put(b, 1, 1), put(c, 1, 1), put(d, 1, 1), put(d, 2, 1)],
    );
    // Nobody hears of this: one collection is gone, another is new.
    alice.commit(&[delete(b, 1), put("a.b.c", 1, 1)]);
    let sync = alice.sync().unwrap();
    f.sequence(proven(&alice, &sync, 2));
    for name in [b, c, d] {
        f.lists(name, &[&alice]);
    }
    f.lists("a.b.c", &[]);
    alice.commit(&[put("a.b.c", 3, 1)]);
    f.writes(&mut alice, 3, &[delete(c, 1), delete(d, 2)]);
    assert_eq!(f.metrics.discontinuous.get(), 1);
    f.lists(c, &[]);
    f.lists(d, &[&alice]);
    f.lists("a.b.c", &[]);
    // An update shows that something is there, and so does what is left beside a deletion.
    f.writes(&mut alice, 4, &[delete("a.b.c", 3)]);
    f.lists("a.b.c", &[&alice]);
    assert_eq!(f.store.counters().pairs, 3);
    f.close();
}

/// What is refused changes nothing.
#[test]
fn only_what_is_forwarded_is_indexed() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, name) = (person(1), NAMES[0]);
    f.writes(&mut alice, 1, &[put(name, 1, 1)]);
    f.rule(&alice, Ruling::Takedown);
    let mut other = alice.clone();
    f.writes(&mut other, 2, &[delete(name, 1), put(NAMES[1], 1, 1)]);
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 1);
    f.lists(name, &[]);
    f.rule(&alice, Ruling::Reversal);
    f.lists(name, &[&alice]);
    f.lists(NAMES[1], &[]);
    f.close();
}

#[test]
fn an_account_has_so_many_collections_and_its_commits_pass() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, mut bob) = (person(1), person(2));
    let name = |n: usize| format!("com.example.n{n}");
    let all: Vec<usize> = (0..=ACCOUNT_COLLECTIONS_MAX).collect();
    for (seq, some) in (1..).zip(all.chunks(COMMIT_OPS_MAX)) {
        let writes: Vec<Write> = some.iter().map(|n| put(&name(*n), 1, 1)).collect();
        f.writes(&mut alice, seq, &writes);
    }
    assert_eq!(f.metrics.rejected.total(), 0);
    assert_eq!(f.metrics.collections_refused.get(), 1);
    let count = ACCOUNT_COLLECTIONS_MAX as u64;
    let last = name(ACCOUNT_COLLECTIONS_MAX);
    assert_eq!(
        (f.store.counters().collections, f.store.counters().pairs),
        (count, count)
    );
    f.lists(&name(0), &[&alice]);
    f.lists(&last, &[]);
    // Others may have it, and so may she where there is room again.
    f.writes(&mut bob, 101, &[put(&last, 1, 1)]);
    f.writes(&mut alice, 102, &[delete(&name(7), 1), put(&last, 2, 1)]);
    let order: &[&Person] = &[&bob, &alice];
    f.writes(&mut alice.clone(), 103, &[put(&last, 3, 1)]);
    f.lists(&last, order);
    f.lists(&name(7), &[]);
    // All of them are hidden and shown at once.
    f.says_of(&alice, Some("deactivated"), 104);
    f.lists(&name(3), &[]);
    f.says_of(&alice, None, 105);
    f.lists(&name(3), &[&alice]);
    f.says_of(&alice, Some("deleted"), 106);
    f.lists(&last, &[&bob]);
    assert_eq!(f.store.counters().pairs, 1);
    assert!(
        f.store
            .account_collections(f.account(&alice).ordinal)
            .unwrap()
            .is_empty()
    );
    f.close();
}

impl Fixture {
    fn says_of(&mut self, person: &Person, status: Option<&'static str>, seq: u64) {
        let mut saying = person.clone();
        saying.status = status;
        self.sequence(proven(person, &saying.account(), seq));
    }
}
