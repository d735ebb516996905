//! The rules of the resolver pool, step by step.

use super::*;
use crate::identity::testing::{asker, plc, web};

fn next(lookups: &mut Lookups<u32>) -> Option<Did> {
    lookups.next(0).map(|next| next.did)
}

#[test]
fn many_requests_are_one_lookup_and_answered_in_order() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    for n in 0..5 {
        lookups.add(&did, asker("a"), Some(n), false, 0);
    }
    assert_eq!(next(&mut lookups), Some(did.clone()));
    assert_eq!(next(&mut lookups), None);
    lookups.add(&did, asker("b"), Some(5), false, 0);
    assert_eq!(lookups.doubt(&did), Some(Doubt::None));
    assert_eq!(lookups.satisfied(&did, 0), [0, 1, 2, 3, 4, 5]);
    // Who comes while those are called has the same answer.
    lookups.add(&did, asker("b"), Some(6), false, 0);
    assert_eq!(next(&mut lookups), None);
    assert_eq!(lookups.satisfied(&did, 0), [6]);
    assert!(lookups.satisfied(&did, 0).is_empty());
    assert_eq!(lookups.len(), 0);
    assert_eq!(next(&mut lookups), None);
}

#[test]
fn a_purge_during_a_lookup_makes_later_ones_wait_for_the_next() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 0);
    assert_eq!(
        lookups.next(0),
        Some(Next {
            did: did.clone(),
            anew: false,
            again: false
        })
    );
    lookups.add(&did, asker("a"), Some(2), false, 0);
    lookups.purge(&did);
    lookups.add(&did, asker("a"), Some(3), false, 0);
    assert_eq!(lookups.doubt(&did), Some(Doubt::Now));
    assert_eq!(lookups.satisfied(&did, 0), [1, 2]);
    assert!(lookups.satisfied(&did, 0).is_empty());
    assert_eq!(
        lookups.next(0),
        Some(Next {
            did: did.clone(),
            anew: true,
            again: false
        })
    );
    lookups.add(&did, asker("a"), Some(4), false, 0);
    // Another purge does not make the third wait even longer.
    lookups.purge(&did);
    assert_eq!(lookups.satisfied(&did, 0), [3, 4]);
    assert!(lookups.satisfied(&did, 0).is_empty());
    assert_eq!(lookups.len(), 0);
}

#[test]
fn a_purge_before_the_lookup_begins_is_met_by_it() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 0);
    lookups.purge(&did);
    lookups.add(&did, asker("a"), Some(2), false, 0);
    assert_eq!(
        lookups.next(0),
        Some(Next {
            did: did.clone(),
            anew: true,
            again: false
        })
    );
    assert_eq!(lookups.doubt(&did), Some(Doubt::None));
    assert_eq!(lookups.satisfied(&did, 0), [1, 2]);
}

#[test]
fn a_forced_request_is_not_satisfied_by_what_is_under_way() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 0);
    next(&mut lookups);
    lookups.add(&did, asker("a"), Some(2), true, 0);
    assert_eq!(lookups.satisfied(&did, 0), [1]);
    assert!(lookups.satisfied(&did, 0).is_empty());
    assert_eq!(next(&mut lookups), Some(did.clone()));
    assert_eq!(lookups.satisfied(&did, 0), [2]);
}

#[test]
fn failures_are_tried_again_ever_more_slowly() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 1000);
    assert!(lookups.next(1000).is_some());
    lookups.retry(&did, |_| true, 0.0, 1000);
    let due = lookups.due(1000).unwrap();
    assert_eq!(due, 1000 + backoff(0, 0.0));
    assert_eq!(lookups.next(due - 1), None);
    lookups.add(&did, asker("a"), Some(2), false, due - 1);
    assert_eq!(lookups.next(due - 1), None);
    assert_eq!(lookups.next(due).unwrap().did, did);
    assert_eq!(lookups.tried_for(&did, due), due - 1000);
    assert_eq!(lookups.due(due), None);
    assert_eq!(lookups.satisfied(&did, due), [1, 2]);

    let first = limits::IDENTITY_RETRY_FIRST.as_millis() as u64;
    let max = limits::IDENTITY_RETRY_MAX.as_millis() as u64;
    assert_eq!(backoff(0, 0.0), first / 2);
    assert!(backoff(0, 0.999) < first);
    assert_eq!(backoff(1, 0.0), first);
    assert_eq!(backoff(u32::MAX, 0.0), max / 2);
}

#[test]
fn what_nobody_waits_for_is_not_tried_again() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 0);
    lookups.add(&did, asker("a"), Some(2), false, 0);
    assert_eq!(next(&mut lookups), Some(did.clone()));
    lookups.retry(&did, |waiter| *waiter == 2, 0.0, 0);
    let due = lookups.due(0).unwrap();
    assert_eq!(lookups.next(due).unwrap().did, did);
    lookups.retry(&did, |_| false, 0.0, due);
    assert_eq!((lookups.len(), lookups.due(due)), (0, None));

    lookups.refresh(&did, 0);
    lookups.refresh(&did, 0);
    assert_eq!(
        lookups.next(0),
        Some(Next {
            did: did.clone(),
            anew: true,
            again: false
        })
    );
    lookups.retry(&did, |_| true, 0.0, 0);
    assert_eq!(lookups.len(), 0);
}

#[test]
fn slow_web_hosts_leave_threads_to_the_directory() {
    let mut lookups = Lookups::new(4, 2);
    for n in 0..10 {
        lookups.add(&web(n), asker("evil"), Some(0), false, 0);
    }
    assert_eq!(next(&mut lookups), Some(web(0)));
    assert_eq!(next(&mut lookups), Some(web(1)));
    assert_eq!(next(&mut lookups), None);
    lookups.add(&plc('a'), asker("good"), Some(0), false, 0);
    assert_eq!(next(&mut lookups), Some(plc('a')));
    lookups.retry(&web(0), |_| true, 0.0, 0);
    assert_eq!(next(&mut lookups), Some(web(2)));
    while !lookups.satisfied(&web(1), 0).is_empty() {}
    assert_eq!(next(&mut lookups), Some(web(3)));
    assert_eq!(next(&mut lookups), None);
}

#[test]
fn a_site_is_asked_for_one_document_at_a_time() {
    let mut lookups = Lookups::new(4, 4);
    let named = |name: &str| Did::parse(&format!("did:web:{name}")).unwrap();
    let neighbours = ["a.evil.test", "b.EVIL.test", "evil.test"].map(named);
    let ports = ["localhost%3A1", "localhost%3A2"].map(named);
    for did in neighbours.iter().chain(&ports) {
        lookups.add(did, asker("a"), Some(1), false, 0);
    }
    let begun = [&neighbours[0], &ports[0], &ports[1]];
    for did in begun {
        assert_eq!(next(&mut lookups).as_ref(), Some(did));
    }
    assert_eq!(next(&mut lookups), None);
    while !lookups.satisfied(&neighbours[0], 0).is_empty() {}
    assert_eq!(next(&mut lookups).as_ref(), Some(&neighbours[1]));
    lookups.retry(&neighbours[1], |_| true, 0.0, 0);
    assert_eq!(next(&mut lookups).as_ref(), Some(&neighbours[2]));
    assert_eq!(next(&mut lookups), None);
}

#[test]
fn what_failed_before_leaves_threads_to_what_is_new() {
    let mut lookups = Lookups::new(4, 2);
    let failing: Vec<_> = ('a'..'i').map(plc).collect();
    for did in &failing {
        lookups.add(did, asker("a"), Some(1), false, 0);
    }
    for _ in 0..2 {
        let begun: Vec<_> = (0..4).map(|_| lookups.next(0).unwrap()).collect();
        assert!(begun.iter().all(|next| !next.again));
        assert_eq!(lookups.next(0), None);
        for next in begun {
            lookups.retry(&next.did, |_| true, 0.0, 0);
        }
    }
    let later = backoff(0, 0.0);
    for _ in 0..2 {
        assert!(lookups.next(later).unwrap().again);
    }
    assert_eq!(lookups.next(later), None);
    for c in ['x', 'y', 'z'] {
        lookups.add(&plc(c), asker("a"), Some(1), false, later);
    }
    for c in ['x', 'y'] {
        assert_eq!(lookups.next(later).unwrap().did, plc(c));
    }
    assert_eq!(lookups.next(later), None);
    // One that failed and ends makes room for another of its kind.
    while !lookups.satisfied(&failing[0], later).is_empty() {}
    assert!(lookups.next(later).unwrap().again);
    assert_eq!(lookups.next(later), None);
}

/// Makes up accounts until there is no lookup left for the host.
fn use_up(lookups: &mut Lookups<u32>, asker: &Asker, now_ms: u64) {
    for n in 0..=limits::IDENTITY_STRANGERS_BURST as usize {
        lookups.add(&web(n), asker.clone(), Some(0), false, now_ms);
    }
    while let Some(Next { did, .. }) = lookups.next(now_ms) {
        lookups.found(&did, None, true);
        while !lookups.satisfied(&did, now_ms).is_empty() {}
    }
    assert_eq!(lookups.len(), 1);
}

#[test]
fn who_makes_up_accounts_waits_and_nobody_else() {
    let mut lookups = Lookups::new(4, 2);
    let evil = asker("evil");
    use_up(&mut lookups, &evil, 0);
    let name = evil.clone().unwrap();
    assert_eq!(lookups.hosts_held(0), HashSet::from([name.clone()]));
    assert_eq!((lookups.in_turn(0), lookups.is_asker(&name)), (0, true));
    lookups.add(&plc('a'), evil.clone(), Some(1), false, 0);
    lookups.add(&plc('b'), asker("good"), Some(1), false, 0);
    lookups.refresh(&plc('c'), 0);
    assert_eq!(next(&mut lookups), Some(plc('b')));
    assert_eq!(next(&mut lookups), Some(plc('c')));
    assert_eq!(next(&mut lookups), None);
    // In a while there is one more, and it is known when.
    let due = lookups.due(0).unwrap();
    assert_eq!(due, millis(limits::IDENTITY_STRANGERS_REFILL));
    assert_eq!(lookups.next(due - 1), None);
    assert!(lookups.next(due).is_some());
    assert_eq!(lookups.next(due), None);
    assert!(lookups.owes(&name, due));
}

#[test]
fn an_account_of_the_host_gives_back_what_it_took() {
    let mut lookups = Lookups::new(1, 1);
    let honest = asker("honest");
    for n in 0..10 * limits::IDENTITY_STRANGERS_BURST as usize {
        lookups.add(&web(n), honest.clone(), Some(1), false, 0);
        assert_eq!(next(&mut lookups), Some(web(n)));
        lookups.found(&web(n), honest.as_ref(), true);
        while !lookups.satisfied(&web(n), 0).is_empty() {}
    }
    let name = honest.clone().unwrap();
    assert!(!lookups.owes(&name, 0));
    // Those of another host do not, however real they are.
    let other = asker("other").unwrap();
    lookups.add(&plc('a'), honest, Some(1), false, 0);
    assert!(next(&mut lookups).is_some());
    lookups.found(&plc('a'), Some(&other), true);
    assert!(lookups.owes(&name, 0));
}

#[test]
fn a_directory_that_fails_costs_nobody_a_lookup_and_a_web_host_does() {
    let mut lookups = Lookups::new(1, 1);
    let asker = asker("a");
    let name = asker.clone().unwrap();
    lookups.add(&plc('a'), asker.clone(), Some(1), false, 0);
    assert!(next(&mut lookups).is_some());
    assert!(lookups.owes(&name, 0));
    lookups.retry(&plc('a'), |_| true, 0.0, 0);
    assert!(!lookups.owes(&name, 0));
    lookups.add(&web(1), asker, Some(1), false, 0);
    assert_eq!(next(&mut lookups), Some(web(1)));
    lookups.retry(&web(1), |_| true, 0.0, 0);
    assert!(lookups.owes(&name, 0));
}

#[test]
fn who_asked_first_for_the_account_of_another_does_not_make_that_one_wait() {
    let mut lookups = Lookups::new(4, 2);
    let evil = asker("evil");
    use_up(&mut lookups, &evil, 0);
    for c in ['a', 'b'] {
        lookups.add(&plc(c), evil.clone(), Some(1), false, 0);
    }
    assert_eq!(next(&mut lookups), None);
    lookups.add(&plc('b'), asker("good"), Some(2), false, 0);
    lookups.add(&plc('b'), asker("good"), Some(3), false, 0);
    assert_eq!(next(&mut lookups), Some(plc('b')));
    assert_eq!(next(&mut lookups), None);
    lookups.found(&plc('b'), asker("good").as_ref(), true);
    assert_eq!(lookups.satisfied(&plc('b'), 0), [1, 2, 3]);
    assert!(lookups.satisfied(&plc('b'), 0).is_empty());
    assert!(!lookups.owes(&asker("good").unwrap(), 0));
    // Nothing of it is left in the other's queue: what follows there is the next.
    let due = lookups.due(0).unwrap();
    let left = [
        lookups.next(due),
        lookups.next(due + due),
        lookups.next(3 * due),
    ];
    assert_eq!(left.iter().flatten().count(), 2);
    assert_eq!(lookups.len(), 2);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_looked_up() {
    let mut lookups = Lookups::new(1, 1);
    let asker = asker("a");
    for n in [1, 2] {
        lookups.add(&plc('a'), asker.clone(), Some(n), false, 0);
    }
    lookups.refresh(&plc('b'), 0);
    assert_eq!(next(&mut lookups), Some(plc('a')));
    assert!(!lookups.abandon(&plc('a'), |waiter| *waiter == 2));
    assert!(lookups.abandon(&plc('a'), |_| false));
    assert!(!lookups.owes(&asker.unwrap(), 0));
    // The thread is free again; and what nobody ever waited for is looked up.
    assert_eq!(next(&mut lookups), Some(plc('b')));
    assert!(!lookups.abandon(&plc('b'), |_| false));
    assert!(lookups.satisfied(&plc('b'), 0).is_empty());
    assert_eq!(lookups.len(), 0);
}

#[test]
fn what_is_held_takes_no_room() {
    let mut lookups = Lookups::new(4, 2);
    let evil = asker("evil");
    use_up(&mut lookups, &evil, 0);
    for n in 0..2 * limits::IDENTITY_QUEUE_MAX {
        lookups.add(&web(n), evil.clone(), Some(0), false, 0);
    }
    assert!(lookups.has_room(&plc('a'), 0));
    assert_eq!(lookups.in_turn(0), 0);
    assert!(lookups.is_shorter_than(1, 0));
}

#[test]
fn one_thread_serves_both_methods_in_turn() {
    let mut lookups = Lookups::new(1, 1);
    for c in ['a', 'b'] {
        lookups.add(&plc(c), asker("a"), None, false, 0);
    }
    for n in 0..2 {
        lookups.add(&web(n), asker("a"), None, false, 0);
    }
    let mut order = Vec::new();
    while let Some(did) = next(&mut lookups) {
        assert!(lookups.satisfied(&did, 0).is_empty());
        order.push(did);
    }
    assert_eq!(order, [plc('a'), web(0), plc('b'), web(1)]);
}

#[test]
fn a_directory_that_asks_for_it_is_left_alone() {
    let pause = millis(limits::IDENTITY_LIMITED_PAUSE);
    let mut lookups = Lookups::new(4, 2);
    lookups.add(&plc('a'), asker("a"), Some(1), false, 0);
    lookups.add(&plc('b'), asker("a"), Some(2), false, 0);
    assert_eq!(next(&mut lookups), Some(plc('a')));
    lookups.pause_plc(None, 0);
    lookups.retry(&plc('a'), |_| true, 0.0, 0);
    assert_eq!(lookups.due(0), Some(backoff(0, 0.0)));
    lookups.wake(pause - 1);
    assert_eq!(lookups.next(pause - 1), None);
    assert_eq!(lookups.due(pause - 1), Some(pause));
    lookups.add(&web(0), asker("a"), Some(3), false, 0);
    assert_eq!(lookups.next(pause - 1).unwrap().did, web(0));
    assert_eq!(lookups.due(pause), None);
    // What failed and what is new have turns.
    assert_eq!(lookups.next(pause).unwrap().did, plc('a'));
    assert_eq!(lookups.next(pause).unwrap().did, plc('b'));
}

#[test]
fn a_directory_is_left_alone_for_as_long_as_it_wants_within_reason() {
    for (wanted, pause) in [
        (Duration::from_secs(7), Duration::from_secs(7)),
        (Duration::ZERO, limits::IDENTITY_LIMITED_PAUSE_MIN),
        (Duration::MAX, limits::IDENTITY_LIMITED_PAUSE_MAX),
    ] {
        let mut lookups = Lookups::<u32>::new(4, 2);
        lookups.pause_plc(Some(wanted), 1000);
        // Who was asked before, and answers later, does not shorten it.
        lookups.pause_plc(Some(Duration::ZERO), 1000);
        assert_eq!(lookups.due(1000), Some(1000 + millis(pause)), "{wanted:?}");
    }
}

#[test]
fn the_queue_is_bounded_but_one_more_may_wait_for_the_same() {
    let mut lookups = Lookups::new(4, 2);
    for n in 0..limits::IDENTITY_QUEUE_MAX {
        assert!(lookups.has_room(&web(n), 0));
        lookups.add(&web(n), asker("a"), Some(0), false, 0);
    }
    assert!(!lookups.has_room(&plc('a'), 0));
    assert!(lookups.has_room(&web(7), 0));
    let did = next(&mut lookups).unwrap();
    while !lookups.satisfied(&did, 0).is_empty() {}
    assert!(lookups.has_room(&plc('a'), 0));
}

#[test]
fn a_lookup_that_is_put_off_waits_unless_somebody_may_have_it_now() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add_at(5000, &did, asker("a"), Some(1), true, 1000);
    assert_eq!(lookups.next(4999), None);
    assert_eq!(lookups.due(1000), Some(5000));
    // Neither later nor twice.
    lookups.add_at(6000, &did, asker("a"), Some(2), true, 1000);
    assert_eq!(lookups.next(4999), None);
    assert_eq!(lookups.next(5000).unwrap().did, did);
    assert_eq!(lookups.next(9000), None);
    assert_eq!(lookups.satisfied(&did, 5000), [1, 2]);
    assert!(lookups.satisfied(&did, 5000).is_empty());

    lookups.add_at(5000, &did, asker("a"), Some(1), true, 1000);
    lookups.add_at(3000, &did, asker("b"), Some(2), true, 1000);
    assert_eq!(lookups.next(2999), None);
    lookups.add(&did, asker("b"), Some(3), false, 2000);
    assert_eq!(lookups.next(2000).unwrap().did, did);
    assert_eq!(lookups.satisfied(&did, 2000), [1, 2, 3]);
    assert!(lookups.satisfied(&did, 2000).is_empty());
    assert_eq!((lookups.next(9000), lookups.len()), (None, 0));
}

#[test]
fn a_purge_that_is_put_off_leaves_an_answer_for_a_while() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 0);
    // The lookup has not begun: it will bring what is true by then.
    lookups.put_off(&did, 7000);
    assert!(!lookups.is_running(&did));
    assert!(next(&mut lookups).is_some());
    assert_eq!(lookups.doubt(&did), Some(Doubt::None));
    lookups.put_off(&did, 7000);
    lookups.put_off(&did, 6000);
    lookups.put_off(&did, 8000);
    assert_eq!(lookups.doubt(&did), Some(Doubt::From(6000)));
    lookups.purge(&did);
    assert_eq!(lookups.doubt(&did), Some(Doubt::Now));
    assert_eq!(lookups.satisfied(&did, 0), [1]);
}

#[test]
fn who_asks_once_a_purge_is_due_does_not_have_what_was_under_way_before() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 0);
    assert!(next(&mut lookups).is_some());
    lookups.put_off(&did, 7000);
    lookups.add(&did, asker("a"), Some(2), false, 6999);
    assert_eq!(lookups.satisfied(&did, 6999), [1, 2]);
    lookups.add(&did, asker("a"), Some(3), false, 7000);
    lookups.add(&did, asker("a"), Some(4), false, 7001);
    assert!(lookups.satisfied(&did, 7001).is_empty());
    assert!(lookups.next(7001).is_some_and(|next| next.anew));
    assert_eq!(lookups.satisfied(&did, 7001), [3, 4]);
    assert!(lookups.satisfied(&did, 7001).is_empty());
    assert_eq!(lookups.len(), 0);
}

#[test]
fn who_is_to_wait_does_not_have_what_is_under_way() {
    let mut lookups = Lookups::new(4, 2);
    let did = plc('a');
    lookups.add(&did, asker("a"), Some(1), false, 0);
    assert!(next(&mut lookups).is_some());
    lookups.add_at(5000, &did, asker("a"), Some(2), false, 0);
    lookups.add_at(4000, &did, asker("a"), Some(3), false, 0);
    assert_eq!(lookups.satisfied(&did, 0), [1]);
    assert!(lookups.satisfied(&did, 0).is_empty());
    assert_eq!(lookups.next(3999), None);
    assert!(lookups.next(4000).is_some_and(|next| next.anew));
    assert_eq!(lookups.satisfied(&did, 4000), [2, 3]);
    assert!(lookups.satisfied(&did, 4000).is_empty());
    assert_eq!(lookups.len(), 0);
}
