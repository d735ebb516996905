//! Identity events in numbers: the directory is asked no more than it can bear, and what the events
//! said is not forgotten.

use super::*;

fn other() -> Hostname {
    Hostname::parse("other.test").unwrap()
}

/// Does not care.
struct Nobody;

impl Waiter for Nobody {
    fn resolved(&self, _: &Did, _: &Outcome) {}
}

impl Fixture {
    /// So many identity events of one account as count at once, each followed by a lookup.
    fn use_up_purges(&self, did: &Did) -> usize {
        let before = self.server.asked(did);
        let burst = limits::IDENTITY_PURGE_ACCOUNT_BURST as usize;
        for n in 1..=burst {
            self.directory.purge(did, &host());
            assert_eq!(self.cached(did), None, "{n}");
            self.resolve(did, How::Miss);
            assert_eq!(self.server.asked(did), before + n);
        }
        assert_eq!(self.metrics.identity_put_off.get(), 0);
        before + burst
    }

    /// Lets the resolvers see that time has passed, by a request of no interest: the timer sleeps in
    /// real time.
    fn put_forward_and_look(&self, duration: Duration) {
        // That there is no such account would be doubted, and one that is known asked for to see.
        self.server.serve_document(&did('z'), "other.test");
        self.put_forward(duration);
        let asked = self
            .directory
            .request(&did('z'), How::Miss, &host(), Arc::new(Nobody));
        assert_eq!(asked, Ok(()));
    }
}

/// Rule 129: <https://atproto.com/specs/sync>
#[test]
fn too_many_purges_leave_a_document_in_use_for_a_while() {
    let f = Fixture::frozen();
    let did = did('a');
    f.server.serve_document(&did, "old.test");
    assert_eq!(f.resolve(&did, How::Miss), "old.test");
    let asked = f.use_up_purges(&did);
    f.server.serve_document(&did, "new.test");
    for n in 1..=1000 {
        f.directory.purge(&did, &host());
        assert_eq!(f.cached(&did), Some("old.test".to_owned()));
        assert_eq!(f.metrics.identity_put_off.get(), n);
    }
    assert_eq!(f.server.asked(&did), asked);
    f.put_forward(limits::IDENTITY_PURGE_ACCOUNT_REFILL);
    assert_eq!(f.cached(&did), None);
    assert_eq!(f.resolve(&did, How::Miss), "new.test");
    assert_eq!(f.server.asked(&did), asked + 1);
    // What one host has used up is not missing to another.
    f.directory.purge(&did, &host());
    assert_eq!(f.cached(&did), Some("new.test".to_owned()));
    f.directory.purge(&did, &other());
    assert_eq!(f.cached(&did), None);
}

/// Rule 129: <https://atproto.com/specs/sync>
#[test]
fn a_document_that_was_not_purged_refuses_nothing_unasked() {
    let f = Fixture::frozen();
    let did = did('a');
    f.server.serve_document(&did, "old.test");
    assert_eq!(f.resolve(&did, How::Miss), "old.test");
    let asked = f.use_up_purges(&did);
    // Nor is there a refresh to be had.
    assert_eq!(f.resolve(&did, How::Forced), "old.test");
    assert_eq!(f.request(&did, How::Forced, 1), Err(RateLimited));
    assert_eq!(f.metrics.identity_refused.get(), 1);
    f.server.serve_document(&did, "new.test");
    f.directory.purge(&did, &host());
    assert_eq!(f.cached(&did), Some("old.test".to_owned()));
    f.request(&did, How::Forced, 2).unwrap();
    f.request(&did, How::Forced, 3).unwrap();
    assert!(f.answers.is_empty());
    f.put_forward_and_look(limits::IDENTITY_PURGE_ACCOUNT_REFILL);
    assert_eq!(f.next(), (2, "new.test".to_owned()));
    assert_eq!(f.next(), (3, "new.test".to_owned()));
    assert_eq!(f.server.asked(&did), asked + 2);
    assert_eq!(f.cached(&did), Some("new.test".to_owned()));
}

#[test]
fn that_there_is_nothing_is_asked_again_after_every_purge() {
    let f = Fixture::frozen();
    let did = did('a');
    assert_eq!(f.resolve(&did, How::Miss), "not found");
    let asked = f.use_up_purges(&did);
    f.directory.purge(&did, &host());
    f.server.serve_document(&did, "new.test");
    assert_eq!(f.cached(&did), None);
    f.request(&did, How::Miss, 1).unwrap();
    f.request(&did, How::Miss, 2).unwrap();
    assert_eq!(f.server.asked(&did), asked);
    f.put_forward_and_look(limits::IDENTITY_PURGE_ACCOUNT_REFILL);
    assert_eq!(f.next(), (1, "new.test".to_owned()));
    assert_eq!(f.next(), (2, "new.test".to_owned()));
    assert_eq!(f.server.asked(&did), asked + 1);
    assert_eq!(f.cached(&did), Some("new.test".to_owned()));
}

#[test]
fn what_one_host_has_to_wait_for_another_may_have_at_once() {
    let f = Fixture::frozen();
    let did = did('a');
    assert_eq!(f.resolve(&did, How::Miss), "not found");
    f.use_up_purges(&did);
    f.directory.purge(&did, &host());
    f.request(&did, How::Miss, 1).unwrap();
    f.server.serve_document(&did, "new.test");
    f.directory.purge(&did, &other());
    let waiter = Arc::new(Report(2, f.sender.clone()));
    f.directory
        .request(&did, How::Miss, &other(), waiter)
        .unwrap();
    assert_eq!(f.next(), (1, "new.test".to_owned()));
    assert_eq!(f.next(), (2, "new.test".to_owned()));
}

#[test]
fn a_purge_that_is_put_off_during_a_lookup_counts_too() {
    let f = Fixture::frozen();
    let did = did('a');
    f.server.serve_document(&did, "old.test");
    f.resolve(&did, How::Miss);
    let asked = f.use_up_purges(&did);
    f.put_forward(limits::IDENTITY_PURGE_ACCOUNT_REFILL);
    f.directory.purge(&did, &host());
    f.server.change(|s| s.held = true);
    f.request(&did, How::Miss, 1).unwrap();
    f.server.wait_asked(&did, asked + 1);
    f.server.serve_document(&did, "new.test");
    f.directory.purge(&did, &host());
    assert_eq!(f.metrics.identity_put_off.get(), 1);
    f.server.change(|s| s.held = false);
    assert_eq!(f.next(), (1, "old.test".to_owned()));
    assert_eq!(f.cached(&did), Some("old.test".to_owned()));
    f.put_forward(limits::IDENTITY_PURGE_ACCOUNT_REFILL);
    assert_eq!(f.cached(&did), None);
    assert_eq!(f.resolve(&did, How::Miss), "new.test");
}
