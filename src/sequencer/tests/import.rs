//! What a backfill brings, and what events make of it.

use tempfile::TempDir;

use super::*;
use crate::{
    atproto::{cid::Cid, nsid::Nsid, tid::Tid},
    limits::ACCOUNT_COLLECTIONS_MAX,
    sequencer::event::{Claim, Import, Skip},
    store::account::Listed,
};

const NAME: &str = "com.example.a";

fn nsid(name: &str) -> Nsid {
    Nsid::parse(name).unwrap()
}

/// A head that no commit of a test has; larger numbers are newer.
fn listed(n: u64) -> Listed {
    Listed {
        rev: Tid::from_micros(n, 0),
        commit: Cid::of_cbor(&n.to_be_bytes()),
    }
}

/// Far in the future of every commit.
const FUTURE: u64 = 8_000_000_000_000_000;

fn claim(person: &Person, head: u64) -> Claim {
    Claim {
        did: did(person),
        authority_at: 0,
        status: Status::ACTIVE,
        listed: listed(head),
    }
}

impl Fixture {
    fn import(&mut self, import: Import) -> Imported {
        let (done, imported) = bounded(1);
        let input = Input::Import { import, done };
        assert!(input.bytes() > 0);
        self.inbox.send(input).unwrap();
        assert!(imported.try_recv().is_err(), "not before it is stored");
        self.work();
        imported.try_recv().unwrap()
    }

    /// Another relay says that people have records of a collection; `(added, known, skipped)`.
    pub(super) fn import_pairs(&mut self, name: &str, people: &[&Person]) -> (u64, u64, Vec<Skip>) {
        let dids = people.iter().map(|person| did(person)).collect();
        let name = nsid(name);
        let imported = self.import(Import::Collection { name, dids });
        (imported.added, imported.known, imported.skipped)
    }

    fn import_claims(&mut self, host: HostId, claims: Vec<Claim>) -> (u64, u64, Vec<Skip>) {
        let imported = self.import(Import::Accounts { host, claims });
        (imported.added, imported.known, imported.skipped)
    }

    fn list(&self, name: &str) -> Vec<Did> {
        let page = self.store.collection_page(name, 0, 100).unwrap();
        assert_eq!(page.next, None);
        page.dids
    }
}

#[test]
fn who_is_known_by_name_only_is_listed_and_has_no_place_anywhere() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (alice, bob) = (person(1), person(2));
    assert_eq!(
        f.import_pairs(NAME, &[&alice, &bob, &alice]),
        (2, 1, vec![])
    );
    assert_eq!(f.import_pairs(NAME, &[&bob]), (0, 1, vec![]));
    assert_eq!(f.list(NAME), [did(&alice), did(&bob)]);
    let account = f.account(&alice);
    assert!(!account.has_host() && !account.is_live());
    assert_eq!((account.head, account.latest()), (None, None));
    assert_eq!(account.effective(), &Status::ACTIVE);
    let counters = f.store.counters();
    assert_eq!((counters.accounts, counters.pairs), (2, 2));
    assert!(f.seqs().is_empty(), "nothing is published");
    assert_eq!(f.host(HostId::NOWHERE), HostRecord::default());
    // The operator's word holds for them too.
    assert_eq!(f.rule(&bob, Ruling::Takedown), Ruled::Holds);
    assert_eq!(f.list(NAME), [did(&alice)]);
    assert_eq!(f.import_pairs("com.example.b", &[&bob]), (1, 0, vec![]));
    assert!(f.list("com.example.b").is_empty(), "hidden");
    f.rule(&bob, Ruling::Reversal);
    assert_eq!(f.list("com.example.b"), [did(&bob)]);
    assert_eq!(f.list(NAME), [did(&alice), did(&bob)]);
    f.close();
}

#[test]
fn an_account_without_a_host_becomes_that_of_the_first_that_speaks_for_it() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, mut bob, carol) = (person(1), person(2), person(3));
    f.import_pairs(NAME, &[&alice, &bob, &carol]);
    // A stranger moves nothing.
    let mut foreign = proven(&alice, &alice.identity(), 1);
    foreign.authority_at = None;
    f.sequence(foreign);
    assert!(!f.account(&alice).has_host());
    let commit = alice.commit(&[]);
    f.sequence(proven(&alice, &commit, 2));
    let account = f.account(&alice);
    assert_eq!((account.host, account.ordinal), (HOME, 1));
    assert!(account.head.is_some());
    assert_eq!(f.host(HOME).accounts, 1);
    // What its host says of it counts from here on.
    let mut leaving = carol.clone();
    leaving.status = Some("deactivated");
    f.sequence(proven(&carol, &leaving.account(), 3));
    assert_eq!(f.list(NAME), [did(&alice), did(&bob)]);
    // A full host has no room for it; nobody was told of it before, so nobody is told that now.
    let limit = Some(1);
    let full = Input::AccountLimit { host: HOME, limit };
    f.inbox.send(full).unwrap();
    f.work();
    let published = f.seqs().len();
    let commit = bob.commit(&[]);
    f.sequence(proven(&bob, &commit, 4));
    let account = f.account(&bob);
    assert!(account.local.throttled && account.host == HOME);
    assert_eq!(f.metrics.rejected.get(Reject::AccountLimit), 1);
    assert_eq!(f.seqs().len(), published);
    assert_eq!(f.list(NAME), [did(&alice)]);
    f.close();
}

#[test]
fn what_is_known_by_events_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    let commit = alice.commit(&[]);
    f.sequence(proven(&alice, &commit, 1));
    let before = f.account(&alice);
    let mut said = claim(&alice, FUTURE);
    said.status = Status::inactive("deactivated");
    assert_eq!(f.import_claims(HOME, vec![said.clone()]), (0, 1, vec![]));
    let other = f.import_claims(AWAY, vec![said]);
    assert_eq!(other, (0, 0, vec![Skip::OtherHost]));
    assert_eq!(f.account(&alice), before);
    // Of one that is deleted nothing is added; of one that is not active it is hidden.
    let mut speaking = alice.clone();
    speaking.status = Some("deleted");
    f.sequence(proven(&alice, &speaking.account(), 2));
    let deleted = f.import_pairs(NAME, &[&alice]);
    assert_eq!(deleted, (0, 0, vec![Skip::Deleted]));
    speaking.status = Some("deactivated");
    f.sequence(proven(&alice, &speaking.account(), 3));
    assert_eq!(f.import_pairs(NAME, &[&alice]), (1, 0, vec![]));
    assert!(f.list(NAME).is_empty());
    speaking.status = None;
    f.sequence(proven(&alice, &speaking.account(), 4));
    assert_eq!(f.list(NAME), [did(&alice)]);
    f.close();
}

#[test]
fn a_host_lists_its_accounts_within_its_limit_and_the_operators_word() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (alice, bob, carol, dave) = (person(1), person(2), person(3), person(4));
    f.import_pairs(NAME, &[&bob]);
    f.rule(&bob, Ruling::Takedown);
    let published = f.seqs().len();
    let limit = Some(2);
    let input = Input::AccountLimit { host: HOME, limit };
    f.inbox.send(input).unwrap();
    f.work();
    let mut gone = claim(&carol, 3);
    gone.status = Status::inactive("deleted");
    let all = vec![claim(&alice, 1), claim(&bob, 2), gone, claim(&dave, 4)];
    assert_eq!(f.import_claims(HOME, all.clone()), (4, 0, vec![]));
    assert_eq!(f.import_claims(HOME, all), (0, 4, vec![]));
    assert_eq!(f.host(HOME).accounts, 2);
    assert_eq!(f.account(&alice).latest(), Some(listed(1)));
    assert_eq!(f.account(&bob).effective(), &Status::inactive("takendown"));
    assert_eq!(f.account(&bob).host, HOME, "its host has spoken for it");
    assert!(f.account(&carol).upstream.is_deleted());
    assert_eq!(f.account(&dave).effective(), &Status::inactive("throttled"));
    assert_eq!(f.seqs().len(), published, "nothing is published");
    // A newer list goes before an older one, whichever comes last.
    assert_eq!(
        f.import_claims(HOME, vec![claim(&alice, 9)]),
        (1, 0, vec![])
    );
    assert_eq!(
        f.import_claims(HOME, vec![claim(&alice, 5)]),
        (0, 1, vec![])
    );
    assert_eq!(f.account(&alice).latest(), Some(listed(9)));
    // Who waits is let in when there is room, as everybody is.
    let limit = None;
    let input = Input::AccountLimit { host: HOME, limit };
    f.inbox.send(input).unwrap();
    f.work();
    assert_eq!(f.account(&dave).effective(), &Status::ACTIVE);
    assert_eq!(f.host(HOME).accounts, 3);
    // A host that is banned says nothing.
    let (host, banned) = (AWAY, true);
    f.inbox.send(Input::Ban { host, banned }).unwrap();
    let refused = f.import_claims(AWAY, vec![claim(&person(9), 1)]);
    assert_eq!(refused, (0, 0, vec![Skip::HostBanned]));
    f.close();
}

#[test]
fn a_claim_never_makes_a_commit_stale_and_ends_with_the_first() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, mut bob, carol) = (person(1), person(2), person(3));
    let claims = [&alice, &bob, &carol].map(|person| claim(person, FUTURE));
    assert_eq!(f.import_claims(HOME, claims.to_vec()), (3, 0, vec![]));
    let commit = alice.commit(&[]);
    f.sequence(proven(&alice, &commit, 1));
    bob.commit(&[]);
    let sync = bob.sync().unwrap();
    f.sequence(proven(&bob, &sync, 2));
    assert_eq!(f.metrics.rejected.total(), 0);
    for person in [&alice, &bob] {
        let account = f.account(person);
        assert_eq!(account.listed, None);
        assert_eq!(account.latest().map(|l| (l.commit, l.rev)), person.head());
    }
    // An event without a commit says nothing of it; a move ends it: it was another host's claim.
    f.sequence(proven(&carol, &carol.identity(), 3));
    assert_eq!(f.account(&carol).listed, Some(listed(FUTURE)));
    f.sequence(moved(&carol, &carol.identity(), 4));
    let account = f.account(&carol);
    assert_eq!((account.host, account.listed), (AWAY, None));
    f.close();
}

/// A host that the operator trusts is believed without a document, until there is one.
#[test]
fn any_document_goes_before_a_hosts_word() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, mut bob) = (person(1), person(2));
    let mut proved = claim(&bob, 1);
    proved.authority_at = 30;
    f.import_claims(AWAY, vec![claim(&alice, 1), proved]);
    let commit = alice.commit(&[]);
    f.sequence(proven(&alice, &commit, 1));
    assert_eq!(f.account(&alice).host, HOME);
    // The document that was fetched for the list is newer than the one of this event.
    let commit = bob.commit(&[]);
    f.sequence(proven(&bob, &commit, 2));
    assert_eq!(f.metrics.rejected.get(Reject::WrongHost), 1);
    assert_eq!(f.account(&bob).host, AWAY);
    assert_eq!((f.host(HOME).accounts, f.host(AWAY).accounts), (1, 1));
    f.close();
}

#[test]
fn an_account_has_so_many_collections_from_lists_too() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    for n in 0..ACCOUNT_COLLECTIONS_MAX {
        let name = nsid(&format!("com.example.n{n}"));
        let dids = vec![did(&alice)];
        let import = Import::Collection { name, dids };
        let (done, _imported) = bounded(1);
        f.inbox.send(Input::Import { import, done }).unwrap();
    }
    f.work();
    let one_more = f.import_pairs("com.example.more", &[&alice]);
    assert_eq!(one_more, (0, 0, vec![Skip::IndexFull]));
    assert_eq!(f.store.counters().pairs, ACCOUNT_COLLECTIONS_MAX as u64);
    let names = f.store.collection_names(3).unwrap();
    assert_eq!(
        names,
        ["com.example.n0", "com.example.n1", "com.example.n10"]
    );
    f.close();
}

/// Everything that was brought is there after the end of the process, and counted right.
#[test]
fn what_was_brought_is_kept() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let people: Vec<Person> = (0..50).map(person).collect();
    let all: Vec<&Person> = people.iter().collect();
    f.import_pairs(NAME, &all);
    f.import_claims(HOME, people[..20].iter().map(|p| claim(p, 7)).collect());
    let accounts: Vec<Account> = people.iter().map(|person| f.account(person)).collect();
    f.close();
    let f = Fixture::open(dir.path());
    for (person, account) in people.iter().zip(accounts) {
        assert_eq!(f.account(person), account);
    }
    assert_eq!(f.list(NAME).len(), 50);
    assert_eq!(
        (f.store.counters().accounts, f.host(HOME).accounts),
        (50, 20)
    );
    f.close();
}

/// What a list says of an account may be later than what its host's stream is about to say.
#[test]
fn a_list_that_is_ahead_of_the_stream_is_shown_and_keeps_nothing_from_passing() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (ask, asked) = bounded(9);
    f.sequencer.ask_through(ask);
    let words = ["deactivated", "deleted", "takendown"];
    let mut people: Vec<Person> = (1..4).map(person).collect();
    let mut events = Vec::new();
    let mut claims = Vec::new();
    for (person, word) in people.iter_mut().zip(words) {
        events.push(proven(person, &person.identity(), events.len() as u64 + 1));
        for n in 0..3 {
            let post = person.post("before");
            let event = person.commit(&[post]);
            let event = if n == 1 {
                person.sync().unwrap()
            } else {
                event
            };
            events.push(proven(person, &event, events.len() as u64 + 1));
        }
        let (commit, rev) = person.head().unwrap();
        person.status = Some(word);
        claims.push(Claim {
            status: Status::inactive(word),
            listed: Listed { rev, commit },
            ..claim(person, 0)
        });
    }
    // One of them was a name in a list before; it is hidden, as is the one that is deleted.
    f.import_pairs("app.bsky.feed.post", &[&people[0]]);
    assert_eq!(f.import_claims(HOME, claims), (3, 0, vec![]));
    let is = |f: &Fixture| {
        let of = |person| f.account(person).effective().clone();
        people.iter().map(of).collect::<Vec<_>>()
    };
    let listed = words.map(Status::inactive);
    assert_eq!(is(&f), listed);
    assert!(f.list("app.bsky.feed.post").is_empty());
    assert_eq!(f.host(HOME).accounts, 2, "the deleted one needs no place");
    assert!(f.seqs().is_empty());
    f.close();

    let mut f = Fixture::open(dir.path());
    let (ask, also_asked) = bounded(9);
    f.sequencer.ask_through(ask);
    assert_eq!(is(&f), listed);
    let count = events.len() as u64;
    for event in events {
        f.sequence(event);
    }
    assert_eq!(f.seqs(), (1..=count).collect::<Vec<_>>());
    assert_eq!(f.metrics.rejected.total(), 0);
    assert!(asked.is_empty() && also_asked.is_empty());
    assert_eq!(is(&f), [(); 3].map(|()| Status::ACTIVE));
    let everybody: Vec<Did> = people.iter().map(did).collect();
    assert_eq!(f.list("app.bsky.feed.post"), everybody);
    assert_eq!(f.host(HOME).accounts, 3);
    for (n, person) in people.iter().enumerate() {
        f.sequence(proven(person, &person.account(), count + 1 + n as u64));
    }
    assert_eq!(is(&f), listed);
    assert!(f.list("app.bsky.feed.post").is_empty());
    assert_eq!(f.host(HOME).accounts, 2);
    assert_eq!(f.host(HOME).cursor, count + 3);
    f.close();
}

/// Nothing was heard of an account but a list, or its identity: then the last list says what it is.
#[test]
fn the_last_list_says_what_an_account_is_until_it_is_heard() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (alice, mut bob) = (person(1), person(2));
    f.sequence(proven(&alice, &alice.identity(), 1));
    let is = |status: &Status, head: u64| Claim {
        status: status.clone(),
        ..claim(&alice, head)
    };
    let [gone, idle] = ["deleted", "deactivated"].map(Status::inactive);
    let import = |f: &mut Fixture, claim: Claim| {
        let (added, known, skipped) = f.import_claims(HOME, vec![claim]);
        assert_eq!((added + known, skipped), (1, vec![]));
        (added == 1, f.account(&alice), f.host(HOME).accounts)
    };
    for (claim, is_news, status, accounts) in [
        (is(&idle, 3), true, &idle, 1),
        (is(&idle, 3), false, &idle, 1),
        (is(&gone, 3), true, &gone, 0),
        (is(&Status::ACTIVE, 2), false, &gone, 0),
        (is(&Status::ACTIVE, 3), true, &Status::ACTIVE, 1),
        (is(&idle, 4), true, &idle, 1),
    ] {
        let (was_news, account, live) = import(&mut f, claim.clone());
        assert_eq!((was_news, live), (is_news, accounts), "{claim:?}");
        assert_eq!(account.effective(), status, "{claim:?}");
    }
    // What its host's stream says goes before any list.
    f.sequence(proven(&alice, &alice.account(), 2));
    let (was_news, account, _) = import(&mut f, is(&idle, 5));
    assert_eq!((was_news, account.listed), (true, Some(listed(5))));
    assert_eq!(account.effective(), &Status::ACTIVE);
    // So does a commit that a list of an active account is followed by.
    f.import_claims(HOME, vec![claim(&bob, 1)]);
    let commit = bob.commit(&[]);
    f.sequence(proven(&bob, &commit, 3));
    let mut later = claim(&bob, FUTURE);
    later.status = idle;
    assert_eq!(f.import_claims(HOME, vec![later]), (0, 1, vec![]));
    assert_eq!(f.account(&bob).effective(), &Status::ACTIVE);
    f.close();
}

/// An account that is listed as inactive and writes after that: its reactivation may have been lost.
#[test]
fn a_host_is_asked_about_what_is_later_than_its_list() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (ask, asked) = bounded(9);
    f.sequencer.ask_through(ask);
    let (mut alice, mut bob) = (person(1), person(2));
    for person in [&alice, &bob] {
        let mut gone = claim(person, 1);
        gone.status = Status::inactive("deactivated");
        f.import_claims(HOME, vec![gone]);
    }
    for (person, status) in [
        (&mut alice, Status::ACTIVE),
        (&mut bob, Status::inactive("deactivated")),
    ] {
        let commit = person.commit(&[]);
        let seq = f.host(HOME).cursor + 1;
        f.sequence(proven(person, &commit, seq));
        let did = asked.try_recv().unwrap();
        let status = Some(status);
        f.inbox.send(Input::Status { did, status }).unwrap();
        f.work();
    }
    assert_eq!(f.seqs(), [1]);
    assert_eq!(f.account(&alice).effective(), &Status::ACTIVE);
    assert!(f.account(&alice).status_heard);
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 1);
    assert_eq!(
        f.account(&bob).effective(),
        &Status::inactive("deactivated")
    );
    assert_eq!(f.host(HOME).cursor, 2);
    f.close();
}
