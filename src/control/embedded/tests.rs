//! The store on a disk: what every store does, and what is refused.

use super::{rows::decode, *};
use crate::control::{HostStatus, suite};

#[test]
fn does_what_every_control_store_does() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Box::new(Embedded::open(dir.path()).unwrap());
    suite::run(open(), |store| {
        drop(store);
        open()
    });
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    store.db.put(FORMAT_KEY, 2u32.to_be_bytes()).unwrap();
    drop(store);
    for _ in 0..2 {
        let error = Embedded::open(dir.path()).err().unwrap();
        assert!(
            matches!(error, ControlError::Format { found: 2, known: 1 }),
            "{error}"
        );
    }
}

#[test]
fn damage_is_named_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let row = store
        .add_host(
            &Endpoint::parse("a.example.com").unwrap(),
            Source::Request,
            1,
        )
        .unwrap();
    store
        .db
        .put(numbered(HOST_PREFIX, row.id), b"{\"name\":\"10.0.0.1\"}")
        .unwrap();
    drop(store);
    let error = Embedded::open(dir.path()).err().unwrap();
    assert!(matches!(error, ControlError::Damaged(_)), "{error}");
}

#[test]
fn a_ban_that_can_not_be_read_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    store.db.put(b"dcom", b"{}").unwrap();
    drop(store);
    let error = Embedded::open(dir.path()).err().unwrap();
    assert!(matches!(error, ControlError::Damaged(_)), "{error}");
}

#[test]
fn fields_of_later_versions_do_not_hinder() {
    let bytes = br#"{"name":"a.b","tls":true,"status":"idle","first_seen_ms":7,"later":[1]}"#;
    let row = decode(HostId(3), bytes).unwrap();
    assert_eq!((row.status(), row.first_seen_ms), (HostStatus::Idle, 7));
    let banned = br#"{"name":"a.b","tls":true,"status":"banned","first_seen_ms":7}"#;
    let row = decode(HostId(3), banned).unwrap();
    assert!(row.terms.banned && row.source == Source::Discovery);
    assert_eq!(row.observed.status, HostStatus::Active);
}

#[test]
fn two_processes_can_not_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Embedded::open(dir.path()).unwrap();
    assert!(Embedded::open(dir.path()).is_err());
}
