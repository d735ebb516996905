//! Deaths at what is written once in the life of a data directory, or after a loss of one of its stores:
//! each has a data directory of its own, which must live on.

use std::{collections::BTreeSet, os::unix::process::ExitStatusExt, path::Path};

use rocksdb::{DBWithThreadMode, IteratorMode, MultiThreaded};
use serde_json::{Value, json};
use zlay::{
    crash::{AT, PASSED, Point},
    sim::account::Account,
};

use super::{Tally, checks, life, load::large_write};
use crate::{
    postgres::Database,
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

/// What a data directory has been through before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Past {
    /// Nothing.
    New,
    /// The event store was lost, and the control store was not.
    Lost,
    /// It is of a version that counted otherwise, and kept less of takedowns.
    Old,
    /// There is more in its window than there may be.
    Full,
}

/// Kills one relay at a point, and shows that the next one begins as it should.
fn die_and_live_on(past: Past, point: Point, database: Option<&Database>) {
    let mut site = Site::new(1);
    if let Some(database) = database {
        let url = database.url().to_owned();
        site.variables.push(("DATABASE_URL", url));
    }
    let [mut account, down] = [0; 2].map(|host| site.account(host));
    let before = (past != Past::New).then(|| {
        let last = first_life(&site, &mut account, down.clone());
        match past {
            Past::New | Past::Full => {}
            Past::Lost => std::fs::remove_dir_all(site.data().join("store")).unwrap(),
            Past::Old => age(&site.data()),
        }
        last
    });
    let mut command = site.command();
    command.env(AT, format!("{}:1", point.name()));
    if past == Past::Full {
        command.env("RELAY_RETENTION_BYTES", "1");
    }
    let (status, log) = match Relay::launch(command) {
        Err(ended) => ended,
        Ok(relay) => relay.ended(),
    };
    assert_eq!(status.signal(), Some(9), "{past:?} {point:?}: {log:#?}");

    let relay = site.start();
    let stored = relay.metric("relay_seq");
    match (past, before) {
        (Past::New, _) => assert_eq!(stored, 0),
        (Past::Lost, before) => assert!(Some(stored) > before.map(|(seq, _)| seq + 500_000)),
        (Past::Old | Past::Full, before) => {
            let counted = relay.of_host(site.network.host(0).name(), "/accounts");
            assert_eq!(Some((stored, counted)), before);
        }
    }
    let taken_down = relay.look("/admin/repo/takedowns").to_string();
    assert_eq!(taken_down.contains(&**down.did()), past != Past::New);
    let mut subscriber = Subscriber::after(&relay, stored);
    if past == Past::New {
        assert_eq!(relay.request_crawl(site.network.host(0).name()).0, 200);
    }
    let said: Vec<_> = (0..3).map(|_| site.publish_post(&mut account)).collect();
    subscriber.expect(&said.iter().collect::<Vec<_>>());
}

/// What there is before: two accounts, one of them taken down, something large, and a clean end. The
/// last seq, and how many accounts the host has.
fn first_life(site: &Site, account: &mut Account, mut down: Account) -> (u64, Value) {
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    subscriber.expect(&[&site.publish_post(account)]);
    let large = account.commit(&[large_write(account)]);
    for event in [&large, &next_commit(&mut down)] {
        site.network.publish(0, event);
        subscriber.expect(&[event]);
    }
    let body = format!(r#"{{"did":"{}"}}"#, down.did());
    relay.decide("/admin/repo/takeDown", &body);
    subscriber.told(&down, false, Some("takendown"));
    subscriber.leave();
    let last = relay.metric("relay_seq");
    let counted = relay.of_host(site.network.host(0).name(), "/accounts");
    relay.terminate();
    assert_eq!(relay.ended().0.code(), Some(0));
    (last, counted)
}

/// Makes the event store one of an earlier version: takedowns without a seq, and accounts that were not
/// counted in the way of today.
fn age(data: &Path) {
    let path = data.join("store");
    let options = rocksdb::Options::default();
    let names = rocksdb::DB::list_cf(&options, &path).unwrap();
    let store: DBWithThreadMode<MultiThreaded> =
        DBWithThreadMode::open_cf(&options, &path, names).unwrap();
    let [meta, takedowns, throttled] =
        ["meta", "takedowns", "throttled"].map(|name| store.cf_handle(name).unwrap());
    store.delete_cf(&meta, "counting").unwrap();
    let down: Vec<_> = store.iterator_cf(&takedowns, IteratorMode::Start).collect();
    assert!(!down.is_empty());
    for entry in down {
        store.put_cf(&takedowns, entry.unwrap().0, b"").unwrap();
    }
    drop(throttled);
    drop((meta, takedowns));
    store.drop_cf("throttled").unwrap();
}

/// The points of beginnings, each with what has to be before it is reached.
fn beginnings() -> Vec<(Past, Point)> {
    use Point::{
        ControlFormatted, ControlIdBefore, ControlIdWritten, ControlMade, ControlNumbered,
        FreeAfter, FreeBefore, FreeLargeAfter, FreeLargeBefore, FreeSome, RaiseBefore,
        RaiseWritten, RecountBefore, RecountWritten, RetentionBefore, RetentionMarked, SeedBefore,
        SeedWritten, StoreMade, StoreRecovered, TakedownsBefore, TakedownsWritten,
    };
    let new = [
        StoreMade,
        StoreRecovered,
        RecountBefore,
        RecountWritten,
        ControlMade,
        ControlFormatted,
        ControlNumbered,
        SeedBefore,
        SeedWritten,
        ControlIdBefore,
        ControlIdWritten,
    ];
    let lost = [
        StoreMade,
        StoreRecovered,
        SeedBefore,
        SeedWritten,
        ControlIdBefore,
        ControlIdWritten,
        RaiseBefore,
        RaiseWritten,
    ];
    let full = [
        RetentionBefore,
        RetentionMarked,
        FreeBefore,
        FreeSome,
        FreeAfter,
        FreeLargeBefore,
        FreeLargeAfter,
    ];
    let old = [
        TakedownsBefore,
        TakedownsWritten,
        RecountBefore,
        RecountWritten,
    ];
    let with = |past, points: &[Point]| -> Vec<_> { points.iter().map(|p| (past, *p)).collect() };
    [
        with(Past::New, &new),
        with(Past::Lost, &lost),
        with(Past::Old, &old),
        with(Past::Full, &full),
    ]
    .concat()
}

/// `just crashes`: every beginning.
#[test]
#[ignore = "takes minutes: just crashes"]
fn crashes_of_beginnings() {
    let mut tally = Tally::default();
    for (past, point) in beginnings() {
        die_and_live_on(past, point, None);
        tally.add(point.name());
    }
    for point in [Point::MigrationBefore, Point::MigrationCommitted] {
        let database = Database::new();
        die_and_live_on(Past::New, point, Some(&database));
        tally.add(point.name());
    }
    let rare: Vec<Point> = Point::ALL
        .iter()
        .copied()
        .filter(|p| !life::everyday(p))
        .collect();
    assert_eq!(tally.lacks(&rare), [""; 0]);
    tally.print("beginnings");
}

/// A few of them, where what is lost has to come from the other store.
#[test]
fn a_death_at_a_beginning_is_made_good_by_the_next_one() {
    die_and_live_on(Past::New, Point::ControlMade, None);
    die_and_live_on(Past::Lost, Point::SeedWritten, None);
    die_and_live_on(Past::Lost, Point::RaiseWritten, None);
    die_and_live_on(Past::Old, Point::RecountWritten, None);
}

/// A point that no run comes to shows nothing. Here a relay is led past every one of them.
#[test]
fn every_point_is_passed() {
    let mut site = Site::new(2);
    let file = site.data().with_file_name("passed");
    let passed = file.to_str().unwrap().to_owned();
    site.variables.push((PASSED, passed.clone()));
    site.variables
        .push(("RELAY_RETENTION_BYTES", "1".to_owned()));
    let [mut account, down] = [0; 2].map(|host| site.account(host));
    first_life(&site, &mut account, down);
    age(&site.data());

    let relay = site.start();
    let host = site.network.host(1).name().to_owned();
    assert_eq!(relay.request_crawl(&host).0, 200);
    let mut sleeper = site.account(0);
    next_commit(&mut sleeper);
    site.network.register(&sleeper);
    checks::backfill(&relay);
    relay.set(&json!({ "new_hosts_per_day": 8 }));
    relay.change(&host, json!({ "repo_limit": 9 }));
    for word in ["banDomain", "unbanDomain"] {
        let path = format!("/admin/subs/{word}");
        relay.decide(&path, r#"{"domain":"example.com"}"#);
    }
    let taken_down = relay.look("/admin/repo/takedowns");
    let body = json!({ "did": taken_down["dids"][0] });
    relay.decide("/admin/repo/reverseTakedown", &body.to_string());
    wait_until("it is kept how hosts do", || {
        let passed = std::fs::read_to_string(&file).unwrap();
        passed.contains(Point::ObserveAfter.name())
    });
    relay.terminate();
    assert_eq!(relay.ended().0.code(), Some(0));
    // What was in memory is a file, which the window has no room for.
    let relay = site.start();
    wait_until("the window has moved", || checks::window(&relay).0 > 0);
    relay.terminate();
    assert_eq!(relay.ended().0.code(), Some(0));
    std::fs::remove_dir_all(site.data().join("store")).unwrap();
    drop(site.start());
    let database = Database::new();
    let mut other = Site::new(0);
    other.variables.push((PASSED, passed));
    other
        .variables
        .push(("DATABASE_URL", database.url().to_owned()));
    drop(other.start());

    let passed = std::fs::read_to_string(&file).unwrap();
    let passed: BTreeSet<&str> = passed.lines().collect();
    let names = Point::ALL.iter().map(|point| point.name());
    let missed: Vec<&str> = names.filter(|name| !passed.contains(name)).collect();
    assert_eq!(missed, [""; 0], "never passed");
}
