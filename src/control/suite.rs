//! What every backend of the control store must do.

use serde_json::json;

use super::*;

fn endpoint(text: &str) -> Endpoint {
    Endpoint::parse(text).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn did(name: &str) -> Did {
    Did::parse(&format!("did:web:{name}.example.com")).unwrap()
}

/// Nobody has this number.
const NOBODY: HostId = HostId(4_000_000_000);

/// Runs against an empty store; `reopen` gives the same store as a new process would see it.
pub(super) fn run(
    mut store: Box<dyn Control>,
    reopen: impl Fn(Box<dyn Control>) -> Box<dyn Control>,
) {
    nothing_is_there(&*store);
    store.available().unwrap();
    let id = store.id();
    assert!((1..1 << 63).contains(&id), "{id}");

    let first = store
        .add_host(&endpoint("zebra.example.com"), Source::Request, 1_001)
        .unwrap();
    let second = store
        .add_host(&endpoint("localhost:2583"), Source::Operator, 2_000)
        .unwrap();
    assert_eq!(
        first,
        HostRow::new(
            first.id,
            &endpoint("zebra.example.com"),
            Source::Request,
            1_001
        )
    );
    assert!(!second.tls && second.source == Source::Operator);
    assert_ne!(first.id, second.id);

    a_name_is_added_once(&*store, &first);
    terms_and_what_was_seen_do_not_touch_each_other(&*store, &first);
    many_hosts_are_observed_or_none(&*store, &first, &second);
    domains_are_banned_once_and_until_they_are_not(&*store);
    accounts_are_taken_down_once_and_until_they_are_not(&*store);
    settings_and_notes_come_back_as_they_were(&*store);
    the_log_is_read_backwards(&*store);
    a_mirror_keeps_what_it_is_not_told_of(&*store);

    let before = store.export().unwrap();
    assert_eq!(before.id, id);
    assert_eq!(before.hosts, store.hosts().unwrap());
    store = reopen(store);
    assert_eq!(store.export().unwrap(), before, "after reopening");
    assert_eq!(store.id(), id, "after reopening");

    let third = store
        .add_host(&endpoint("alpha.example.com"), Source::Discovery, 500)
        .unwrap();
    let ids: Vec<_> = store.hosts().unwrap().into_iter().map(|h| h.id).collect();
    assert_eq!(ids, [first.id, second.id, third.id], "order of addition");
    additions_at_the_same_time_get_different_ids(&*store);
    let moved = everything_moves(&*store);
    store = reopen(store);
    assert_eq!(
        (store.export().unwrap(), store.id()),
        (moved.clone(), moved.id)
    );
}

fn nothing_is_there(store: &dyn Control) {
    assert_eq!(store.hosts().unwrap(), []);
    assert_eq!(store.bans().unwrap(), []);
    assert_eq!(store.takedowns().unwrap(), []);
    assert!(store.settings().unwrap().is_empty());
    assert_eq!(store.note("anything").unwrap(), None);
    assert_eq!(store.audit_before(None, 10).unwrap(), []);
    assert_eq!(store.mirrored().unwrap(), Mirror::default());
}

fn a_name_is_added_once(store: &dyn Control, first: &HostRow) {
    for name in ["ZEBRA.example.com", "http://zebra.example.com"] {
        let again = store
            .add_host(&endpoint(name), Source::Discovery, 9_000)
            .unwrap();
        assert_eq!(again, *first, "{name}");
    }
    assert_eq!(store.hosts().unwrap().len(), 2);
}

fn terms_and_what_was_seen_do_not_touch_each_other(store: &dyn Control, first: &HostRow) {
    let row = |store: &dyn Control| store.hosts().unwrap().remove(0);
    let terms = HostTerms {
        banned: true,
        trusted: Some(false),
        lenient: true,
        accounts: Some(i64::MAX.unsigned_abs()),
        events_per_second: Some(0),
        events_per_hour: Some(7),
        events_per_day: None,
    };
    store.set_terms(first.id, &terms).unwrap();
    let mut expected = HostRow {
        terms,
        ..first.clone()
    };
    assert_eq!(row(store), expected);
    let seen = [
        HostStatus::Active,
        HostStatus::Offline,
        HostStatus::Throttled,
        HostStatus::Idle,
    ];
    for status in seen {
        expected.observed = Observed {
            status,
            last_connected_ms: Some(1_700_000_000_123),
            last_seen_ms: Some(1_700_000_000_999),
            last_error: Some("connection refused: \"quoted\"\n".into()),
            failures: u32::MAX,
            skipped_ms: Some(1),
            skipped_why: Some("It was too far behind; \u{1f980}".into()),
        };
        let observed = expected.observed.clone();
        store.observe(&[(first.id, observed)]).unwrap();
        assert_eq!(row(store), expected);
        assert_eq!(row(store).status(), HostStatus::Banned);
    }
    let again = store.add_host(&endpoint("zebra.example.com"), Source::Request, 1);
    assert_eq!(again.unwrap(), expected);
    // What there was is replaced by nothing, too.
    store.observe(&[(first.id, Observed::default())]).unwrap();
    store.set_terms(first.id, &HostTerms::default()).unwrap();
    assert_eq!(row(store), *first);
    store.set_terms(first.id, &terms).unwrap();
    store
        .observe(&[(first.id, expected.observed.clone())])
        .unwrap();
    assert_eq!(row(store), expected, "also seen while it was banned");
    let error = store.set_terms(NOBODY, &terms).unwrap_err();
    assert!(matches!(error, ControlError::NoSuchHost(NOBODY)), "{error}");
}

fn many_hosts_are_observed_or_none(store: &dyn Control, first: &HostRow, second: &HostRow) {
    let seen = |failures| Observed {
        status: HostStatus::Offline,
        failures,
        ..Observed::default()
    };
    let failures = || -> Vec<u32> {
        let hosts = store.hosts().unwrap();
        hosts.iter().map(|h| h.observed.failures).collect()
    };
    store
        .observe(&[(second.id, seen(2)), (first.id, seen(1))])
        .unwrap();
    assert_eq!(failures(), [1, 2]);
    let wrong = [(first.id, seen(5)), (NOBODY, seen(6)), (second.id, seen(7))];
    let error = store.observe(&wrong).unwrap_err();
    assert!(matches!(error, ControlError::NoSuchHost(NOBODY)), "{error}");
    assert_eq!(failures(), [1, 2]);
    store
        .observe(&[(first.id, seen(8)), (first.id, seen(9))])
        .unwrap();
    assert_eq!(failures(), [9, 2], "the last word counts");
    store.observe(&[]).unwrap();
    assert_eq!(failures(), [9, 2]);
}

fn domains_are_banned_once_and_until_they_are_not(store: &dyn Control) {
    let banned = || -> Vec<(String, u64)> {
        let bans = store.bans().unwrap();
        bans.iter()
            .map(|ban| (ban.domain.to_string(), ban.since_ms))
            .collect()
    };
    let names = [
        "zoo.org",
        "example.com",
        "a-b.example.com",
        "a.example.com",
        "Example.com",
    ];
    for (at, name) in (1_000..).zip(names) {
        store.ban_domain(&domain(name), at).unwrap();
    }
    // By their bytes: a hyphen comes before a dot.
    let all = [
        ("a-b.example.com".to_owned(), 1_002),
        ("a.example.com".to_owned(), 1_003),
        ("example.com".to_owned(), 1_001),
        ("zoo.org".to_owned(), 1_000),
    ];
    assert_eq!(banned(), all);
    for name in ["a.example.com", "a.example.com", "never.banned.org"] {
        store.unban_domain(&domain(name)).unwrap();
    }
    let [first, _, third, fourth] = all;
    assert_eq!(banned(), [first, third, fourth]);
    assert_eq!(store.hosts().unwrap().len(), 2, "hosts are another matter");
}

fn accounts_are_taken_down_once_and_until_they_are_not(store: &dyn Control) {
    for (at, name) in (1_000..).zip(["zoe", "ann", "bob", "ann"]) {
        store.take_down(&did(name), at).unwrap();
    }
    for name in ["bob", "bob", "eve"] {
        store.reverse_takedown(&did(name)).unwrap();
    }
    let left = [("ann", 1_001), ("zoe", 1_000)].map(|(name, since_ms)| Takedown {
        did: did(name),
        since_ms,
    });
    assert_eq!(store.takedowns().unwrap(), left);
}

fn settings_and_notes_come_back_as_they_were(store: &dyn Control) {
    let values = [
        json!(null),
        json!(true),
        json!(u64::MAX),
        json!(-1),
        json!(1.0),
        json!(0.1),
        json!("\u{0}\" \\ \u{1f980}"),
        json!({"b": [1, {"a": null}], "a": ""}),
    ];
    for value in &values {
        store.set_setting("limit", Some(value)).unwrap();
        assert_eq!(store.settings().unwrap()["limit"], *value);
        store.set_note("limit", Some(value)).unwrap();
        assert_eq!(store.note("limit").unwrap().as_ref(), Some(value));
    }
    store.set_setting("other", Some(&json!(1))).unwrap();
    let names: Vec<_> = store.settings().unwrap().into_keys().collect();
    assert_eq!(names, ["limit", "other"]);
    for name in ["limit", "limit", "never"] {
        store.set_setting(name, None).unwrap();
        store.set_note(name, None).unwrap();
    }
    assert_eq!(store.settings().unwrap().len(), 1);
    assert_eq!(store.note("limit").unwrap(), None);
    let progress = json!({"page": 7});
    store.set_note("backfill", Some(&progress)).unwrap();
    assert_eq!(store.note("backfill").unwrap(), Some(progress));
}

fn the_log_is_read_backwards(store: &dyn Control) {
    let entry = |n: u64| AuditEntry {
        at_ms: 1_700_000_000_000 + n,
        actor: "203.0.113.7 via 10.0.0.1".into(),
        action: "pds/changeLimits".into(),
        subject: format!("host{n}.example.com"),
        detail: json!({"accounts": n, "why": "a\u{0}b"}),
    };
    let numbers: Vec<u64> = (0..5).map(|n| store.audit(&entry(n)).unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let all: Vec<_> = (0..5).map(|n| (numbers[n as usize], entry(n))).collect();
    let latest: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(store.audit_before(None, usize::MAX).unwrap(), latest);
    assert_eq!(store.audit_before(None, 2).unwrap(), latest[..2]);
    assert_eq!(
        store.audit_before(Some(numbers[3]), 2).unwrap(),
        latest[2..4]
    );
    assert_eq!(store.audit_before(Some(u64::MAX), 9).unwrap(), latest);
    assert_eq!(store.audit_before(Some(numbers[0]), 9).unwrap(), []);
    assert_eq!(store.audit_before(Some(0), 9).unwrap(), []);
    assert_eq!(store.audit_before(None, 0).unwrap(), []);
}

fn a_mirror_keeps_what_it_is_not_told_of(store: &dyn Control) {
    let cursor = |seq, epoch| Cursor { seq, epoch };
    let told = |seq, cursors: &[(u32, Cursor)]| Mirror {
        seq,
        at_ms: 1_700_000_000_000 + seq,
        cursors: cursors.iter().map(|(id, c)| (HostId(*id), *c)).collect(),
    };
    let largest = cursor(i64::MAX.unsigned_abs(), u32::MAX);
    let all = [(1, cursor(10, 0)), (2, largest), (300, cursor(30, 3))];
    let unordered = [all[2], all[0], all[1]];
    store.mirror(&told(5, &unordered)).unwrap();
    assert_eq!(store.mirrored().unwrap(), told(5, &all));
    store.mirror(&told(6, &[(1, cursor(2, 1))])).unwrap();
    store.mirror(&told(7, &[])).unwrap();
    let now = told(7, &[(1, cursor(2, 1)), all[1], all[2]]);
    assert_eq!(store.mirrored().unwrap(), now);
}

fn additions_at_the_same_time_get_different_ids(store: &dyn Control) {
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                for n in 0..8 {
                    let name = format!("n{n}.w{}.example.com", writer % 2);
                    store
                        .add_host(&endpoint(&name), Source::Discovery, 1)
                        .unwrap();
                }
            });
        }
    });
    let hosts = store.hosts().unwrap();
    let ids: std::collections::HashSet<_> = hosts.iter().map(|h| h.id).collect();
    assert_eq!((hosts.len(), ids.len()), (3 + 16, 3 + 16));
}

/// Into an embedded store and back over whatever is here by then.
fn everything_moves(store: &dyn Control) -> Dump {
    let dir = tempfile::tempdir().unwrap();
    let other = embedded::Embedded::open(dir.path()).unwrap();
    other.ban_domain(&domain("gone.example.com"), 1).unwrap();
    let dump = Dump {
        // A number was given and its host is no more.
        next_host: store.export().unwrap().next_host + 5,
        ..store.export().unwrap()
    };
    other.import(&dump).unwrap();
    assert_eq!(other.export().unwrap(), dump);
    assert_eq!(other.id(), store.id());
    drop(other);

    let other = embedded::Embedded::open(dir.path()).unwrap();
    let added = other
        .add_host(&endpoint("moved.example.com"), Source::Request, 2)
        .unwrap();
    assert_eq!(added.id, HostId(dump.next_host));
    store.take_down(&did("carl"), 1).unwrap();
    let dump = Dump {
        id: 77,
        ..other.export().unwrap()
    };
    store.import(&dump).unwrap();
    assert_eq!((store.export().unwrap(), store.id()), (dump.clone(), 77));
    let next = store.audit(&dump.audit[0].1).unwrap();
    assert_eq!(next, dump.audit.last().unwrap().0 + 1);
    store.export().unwrap()
}
