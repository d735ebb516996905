//! What every backend of the control store must do.

use super::*;

fn endpoint(text: &str) -> Endpoint {
    Endpoint::parse(text).unwrap()
}

/// Runs against an empty store; `reopen` gives the same store as a new process would see it.
pub(super) fn run(
    mut store: Box<dyn Control>,
    reopen: impl Fn(Box<dyn Control>) -> Box<dyn Control>,
) {
    assert_eq!(store.hosts().unwrap(), []);

    let first = store
        .add_host(&endpoint("zebra.example.com"), 1_000)
        .unwrap();
    let second = store.add_host(&endpoint("localhost:2583"), 2_000).unwrap();
    assert_eq!(
        first,
        HostRow::new(first.id, &endpoint("zebra.example.com"), 1_000)
    );
    assert!(!second.tls);
    assert_ne!(first.id, second.id);

    a_name_is_added_once(&*store, &first);
    rows_are_replaced(&*store, &first);
    wrong_updates_are_refused(&*store, &second);

    domains_are_banned_once_and_until_they_are_not(&*store);

    let before = store.hosts().unwrap();
    store = reopen(store);
    assert_eq!(store.hosts().unwrap(), before, "after reopening");
    assert_eq!(banned(&*store), ["example.com", "zoo.org"]);
    let third = store.add_host(&endpoint("alpha.example.com"), 500).unwrap();
    let names: Vec<_> = store.hosts().unwrap().into_iter().map(|h| h.id).collect();
    assert_eq!(names, [first.id, second.id, third.id], "order of addition");
    additions_at_the_same_time_get_different_ids(&*store);
}

fn a_name_is_added_once(store: &dyn Control, first: &HostRow) {
    let again = store
        .add_host(&endpoint("ZEBRA.example.com"), 9_000)
        .unwrap();
    assert_eq!(again, *first);
    let other_scheme = store
        .add_host(&endpoint("http://zebra.example.com"), 9_000)
        .unwrap();
    assert_eq!(other_scheme, *first, "the name decides");
    assert_eq!(store.hosts().unwrap().len(), 2);
}

fn rows_are_replaced(store: &dyn Control, first: &HostRow) {
    for status in HostStatus::ALL {
        let changed = HostRow {
            status,
            last_connected_ms: Some(3_000),
            last_error: Some("connection refused: \"quoted\"\n".into()),
            failures: u32::MAX,
            trusted: true,
            lenient: true,
            account_limit: Some(u64::MAX),
            ..first.clone()
        };
        store.update_host(&changed).unwrap();
        assert_eq!(store.hosts().unwrap()[0], changed);
        assert_eq!(
            store.add_host(&endpoint("zebra.example.com"), 1).unwrap(),
            changed
        );
    }
}

fn banned(store: &dyn Control) -> Vec<String> {
    let banned = store.banned_domains().unwrap();
    banned.iter().map(Domain::to_string).collect()
}

fn domains_are_banned_once_and_until_they_are_not(store: &dyn Control) {
    let domain = |text| Domain::parse(text).unwrap();
    assert!(banned(store).is_empty());
    for name in ["zoo.org", "example.com", "a.example.com", "Example.com"] {
        store.ban_domain(&domain(name), 1_000).unwrap();
    }
    assert_eq!(banned(store), ["a.example.com", "example.com", "zoo.org"]);
    for name in ["a.example.com", "a.example.com", "never.banned.org"] {
        store.unban_domain(&domain(name)).unwrap();
    }
    assert_eq!(banned(store), ["example.com", "zoo.org"]);
    assert_eq!(store.hosts().unwrap().len(), 2, "hosts are another matter");
}

fn wrong_updates_are_refused(store: &dyn Control, second: &HostRow) {
    let before = store.hosts().unwrap();
    let unknown = HostRow {
        id: HostId(77),
        ..second.clone()
    };
    let renamed = HostRow {
        name: endpoint("other.example.com").host,
        ..second.clone()
    };
    for wrong in [unknown, renamed] {
        let error = store.update_host(&wrong).unwrap_err();
        assert!(
            matches!(error, ControlError::NoSuchHost(id) if id == wrong.id),
            "{error}"
        );
    }
    assert_eq!(store.hosts().unwrap(), before);
}

fn additions_at_the_same_time_get_different_ids(store: &dyn Control) {
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                for n in 0..8 {
                    let name = format!("n{n}.w{}.example.com", writer % 2);
                    store.add_host(&endpoint(&name), 1).unwrap();
                }
            });
        }
    });
    let hosts = store.hosts().unwrap();
    let ids: std::collections::HashSet<_> = hosts.iter().map(|h| h.id).collect();
    assert_eq!((hosts.len(), ids.len()), (3 + 16, 3 + 16));
}
