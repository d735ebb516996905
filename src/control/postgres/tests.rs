//! The control store against real servers, which come and go.

use std::{fs, sync::Arc, time::Duration};

use serde_json::json;

use super::*;
use crate::{control::suite, testing::wait_until};

#[path = "../../../tests/support/postgres.rs"]
#[expect(dead_code, reason = "the tests of the whole relay need more of it")]
mod server;

use server::{Cluster, Database};

/// Nothing here takes this long unless the test fails.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits less long than a relay does.
const HASTY: Patience = Patience {
    call: Duration::from_secs(1),
    start: Duration::from_secs(1),
    ping: Duration::from_millis(200),
};
/// Waits for what must come.
const PATIENT: Patience = Patience {
    start: TIMEOUT,
    ..HASTY
};

/// Ends the session of the relay.
const KILL: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                    WHERE application_name = 'zlay'";

fn open(url: &str, patience: Patience) -> Result<Postgres, ControlError> {
    Postgres::open_patiently(&url.to_owned().into(), None, patience)
}

fn entry(subject: &str) -> AuditEntry {
    AuditEntry {
        at_ms: 1,
        actor: "203.0.113.7".into(),
        action: "test".into(),
        subject: subject.into(),
        detail: json!({}),
    }
}

fn refused(error: Result<Postgres, ControlError>) -> String {
    error.err().expect("it is refused").to_string()
}

#[test]
fn does_what_every_control_store_does() {
    let database = Database::new();
    let open = || -> Box<dyn Control> { Box::new(open(database.url(), PATIENT).unwrap()) };
    suite::run(open(), |store| {
        drop(store);
        open()
    });
}

#[test]
fn people_can_read_the_tables() {
    let database = Database::new();
    let store = open(database.url(), PATIENT).unwrap();
    let endpoint = Endpoint::parse("pds.example.com").unwrap();
    let host = store
        .add_host(&endpoint, Source::Request, 1_700_000_000_123)
        .unwrap();
    let seen = Observed {
        last_error: Some("a\0b".into()),
        ..Observed::default()
    };
    store.observe(&[(host.id, seen)]).unwrap();
    let sql = "SELECT name || ' ' || (first_seen AT TIME ZONE 'UTC')::text || ' ' || status
               FROM hosts";
    assert_eq!(
        database.query(sql),
        ["pds.example.com 2023-11-14 22:13:20.123 active"]
    );
    // The one character that a database does not take.
    assert_eq!(
        database.query("SELECT last_error FROM hosts"),
        ["a\u{fffd}b"]
    );
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    let expected = [
        "audit_log",
        "domain_bans",
        "hosts",
        "migrations",
        "mirror",
        "mirror_cursors",
        "notes",
        "settings",
        "store",
        "takedowns",
    ];
    assert_eq!(database.query(tables), expected);
}

#[test]
fn rows_that_make_no_sense_are_damage_and_not_passed_over() {
    let database = Database::new();
    let store = open(database.url(), PATIENT).unwrap();
    let mut client = database.client();
    let wrong = "INSERT INTO hosts (id, name, tls, first_seen, source)
                 VALUES (7, '10.0.0.1', true, now(), 'request')";
    client.batch_execute(wrong).unwrap();
    let error = store.hosts().unwrap_err();
    assert!(matches!(error, ControlError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("host 7"), "{error}");
    client
        .batch_execute("INSERT INTO domain_bans VALUES ('com', now())")
        .unwrap();
    let error = store.bans().unwrap_err();
    assert!(matches!(error, ControlError::Damaged(_)), "{error}");
    // What the server itself refuses is neither damage nor an outage.
    client.batch_execute("DROP TABLE takedowns").unwrap();
    let error = store.takedowns().unwrap_err();
    assert!(matches!(error, ControlError::Backend(_)), "{error}");
    store.available().unwrap();
}

#[test]
fn numbers_and_times_that_do_not_fit_are_refused() {
    let database = Database::new();
    let store = open(database.url(), PATIENT).unwrap();
    let endpoint = Endpoint::parse("pds.example.com").unwrap();
    let error = store
        .add_host(&endpoint, Source::Request, u64::MAX)
        .unwrap_err();
    assert!(matches!(error, ControlError::Backend(_)), "{error}");
    let host = store.add_host(&endpoint, Source::Request, 1).unwrap();
    let terms = HostTerms {
        accounts: Some(u64::MAX),
        ..HostTerms::default()
    };
    let error = store.set_terms(host.id, &terms).unwrap_err();
    assert!(matches!(error, ControlError::Backend(_)), "{error}");
    assert_eq!(store.hosts().unwrap(), [host]);
}

#[test]
fn host_numbers_end_some_day() {
    let database = Database::new();
    let store = open(database.url(), PATIENT).unwrap();
    let mut client = database.client();
    let add = |name: &str| {
        let endpoint = Endpoint::parse(name).unwrap();
        store.add_host(&endpoint, Source::Request, 1)
    };
    client
        .batch_execute("UPDATE store SET next_host = 4294967294")
        .unwrap();
    let last = add("a.example.com").unwrap();
    assert_eq!(last.id, HostId(u32::MAX - 1));
    let error = add("b.example.com").unwrap_err();
    assert!(matches!(error, ControlError::Full), "{error}");
    assert_eq!(add("a.example.com").unwrap(), last);
}

#[test]
fn a_second_relay_is_refused_until_the_first_has_left() {
    let database = Database::new();
    let first = open(database.url(), PATIENT).unwrap();
    let error = refused(open(database.url(), HASTY));
    assert!(
        error.contains("another relay uses this database"),
        "{error}"
    );
    first.available().unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| open(database.url(), PATIENT));
        std::thread::sleep(Duration::from_millis(100));
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn tables_of_a_later_version_are_refused_and_left_alone() {
    let database = Database::new();
    drop(open(database.url(), PATIENT).unwrap());
    let mut client = database.client();
    client
        .batch_execute("INSERT INTO migrations (version, name) VALUES (2, 'later')")
        .unwrap();
    client.batch_execute("DELETE FROM store").unwrap();
    for _ in 0..2 {
        let error = open(database.url(), PATIENT).err().unwrap();
        assert!(
            matches!(error, ControlError::Format { found: 2, known: 1 }),
            "{error}"
        );
    }
    assert!(database.query("SELECT id FROM store").is_empty());
    client
        .batch_execute("DELETE FROM migrations WHERE version = 1")
        .unwrap();
    let error = open(database.url(), PATIENT).err().unwrap();
    assert!(matches!(error, ControlError::Damaged(_)), "{error}");
}

#[test]
fn tables_of_somebody_else_are_left_alone() {
    let database = Database::new();
    let mut client = database.client();
    client
        .batch_execute("CREATE TABLE settings (theirs int)")
        .unwrap();
    let error = refused(open(database.url(), PATIENT));
    assert!(error.contains("settings"), "{error}");
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.query(tables), ["settings"]);
}

#[test]
fn a_server_that_is_not_there_is_waited_for() {
    let mut cluster = Cluster::start();
    cluster.stop();
    let error = refused(open(&cluster.url(), HASTY));
    assert!(error.contains("not available"), "{error}");
    std::thread::scope(|scope| {
        let url = cluster.url();
        let waiting = scope.spawn(move || open(&url, PATIENT));
        std::thread::sleep(Duration::from_millis(100));
        cluster.run();
        waiting.join().unwrap().unwrap();
    });
    // One that takes connections and does not say a word.
    cluster.pause();
    let error = refused(open(&cluster.url(), HASTY));
    assert!(error.contains("not available"), "{error}");
}

#[test]
fn what_the_server_refuses_is_said_at_once_and_without_the_password() {
    let cluster = Cluster::with_password("correct horse");
    let right = cluster.url();
    drop(open(&right.replace("correct horse", "correct%20horse"), PATIENT).unwrap());
    let never = Patience {
        start: Duration::from_secs(3_600),
        ..PATIENT
    };
    for (url, said) in [
        (right.replace("correct horse", "hunter2"), "password"),
        (right.replace("relay:", "stranger:"), "password"),
        (cluster.url_of("nowhere"), "nowhere"),
    ] {
        let error = refused(open(&url, never));
        assert!(error.contains(said), "{error}");
        assert!(
            !error.contains("hunter2") && !error.contains("horse"),
            "{error}"
        );
    }
}

#[test]
fn certificates_are_verified() {
    let cluster = Cluster::with_tls();
    let never = Patience {
        start: Duration::from_secs(3_600),
        ..PATIENT
    };
    let open = |url: &str, ca| Postgres::open_patiently(&url.to_owned().into(), ca, never);
    let store = open(&cluster.url(), Some(cluster.ca_file())).unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE ssl AND application_name = 'zlay'";
    assert_eq!(cluster.query(encrypted), ["1"]);
    let endpoint = Endpoint::parse("pds.example.com").unwrap();
    let host = store.add_host(&endpoint, Source::Request, 1).unwrap();
    assert_eq!(store.hosts().unwrap(), [host]);
    drop(store);

    // Of an authority that nobody knows, or that is not the one of the file: also where TLS is not
    // required, because somebody on the way could offer it.
    let other = tempfile::NamedTempFile::new().unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    fs::write(other.path(), stranger.cert.pem()).unwrap();
    let prefer = cluster.url().replace("sslmode=require", "sslmode=prefer");
    for url in [cluster.url(), prefer] {
        for ca in [None, Some(other.path())] {
            let error = refused(open(&url, ca));
            assert!(error.contains("certificate"), "{error}");
        }
    }
    // Of another name.
    let address = cluster.url().replace("localhost", "127.0.0.1");
    let error = refused(open(&address, Some(cluster.ca_file())));
    assert!(error.contains("certificate"), "{error}");
    let plain = cluster.url().replace("sslmode=require", "sslmode=disable");
    drop(open(&plain, None).unwrap());
    assert_eq!(cluster.query(encrypted), ["0"]);
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required() {
    let cluster = Cluster::start();
    let url = format!("{}&sslmode=require", cluster.url());
    let error = refused(open(&url, PATIENT));
    assert!(error.contains("TLS"), "{error}");
}

#[test]
fn an_outage_is_told_at_once_and_ends_by_itself() {
    let mut cluster = Cluster::start();
    let store = open(&cluster.url(), PATIENT).unwrap();
    let id = store.id();
    store.audit(&entry("before")).unwrap();
    cluster.stop();
    let error = store.audit(&entry("meanwhile")).unwrap_err();
    assert!(matches!(error, ControlError::Unavailable(_)), "{error}");
    wait_until("it is known", || store.available().is_err());
    let error = store.audit(&entry("meanwhile")).unwrap_err();
    assert!(matches!(error, ControlError::Unavailable(_)), "{error}");
    cluster.run();
    wait_until("it is back", || store.available().is_ok());
    store.audit(&entry("after")).unwrap();
    let subjects = cluster.query("SELECT subject FROM audit_log ORDER BY id");
    assert_eq!(subjects, ["before", "after"]);
    assert_eq!(store.id(), id);
}

#[test]
fn an_outage_is_noticed_though_nobody_asks() {
    let mut cluster = Cluster::start();
    let store = open(&cluster.url(), PATIENT).unwrap();
    cluster.stop();
    wait_until("it is known", || store.available().is_err());
    cluster.run();
    wait_until("it is back", || store.available().is_ok());
    cluster.pause();
    wait_until("it is known", || store.available().is_err());
    cluster.resume();
    wait_until("it is back", || store.available().is_ok());
}

#[test]
fn a_dead_connection_costs_nobody_an_answer() {
    let cluster = Cluster::start();
    let rare = Patience {
        ping: TIMEOUT,
        ..PATIENT
    };
    let store = open(&cluster.url(), rare).unwrap();
    assert_eq!(cluster.query(KILL), ["t"]);
    std::thread::sleep(crate::limits::CONTROL_TRUSTED_IDLE);
    store.audit(&entry("first")).unwrap();
    assert_eq!(cluster.query("SELECT subject FROM audit_log"), ["first"]);
}

#[test]
fn a_server_that_hangs_hangs_nobody_and_nothing_is_done_twice() {
    let cluster = Cluster::start();
    let rare = Patience {
        ping: TIMEOUT,
        ..PATIENT
    };
    let store = Arc::new(open(&cluster.url(), rare).unwrap());
    store.audit(&entry("before")).unwrap();
    cluster.pause();
    let asked: Vec<_> = ["under way", "waiting", "waiting"]
        .into_iter()
        .map(|subject| {
            let store = store.clone();
            let asked = std::thread::spawn(move || store.audit(&entry(subject)));
            std::thread::sleep(Duration::from_millis(50));
            asked
        })
        .collect();
    for asked in asked {
        let error = asked.join().unwrap().unwrap_err();
        assert!(matches!(error, ControlError::Unavailable(_)), "{error}");
    }
    assert!(store.available().is_err());
    // Not even for a moment any more.
    let error = store.hosts().unwrap_err();
    assert!(error.to_string().contains("has not answered"), "{error}");
    cluster.resume();
    wait_until("it is back", || store.available().is_ok());
    store.audit(&entry("after")).unwrap();
    let subjects = cluster.query("SELECT subject FROM audit_log ORDER BY id");
    assert_eq!(subjects, ["before", "under way", "after"]);
}

#[test]
fn a_lock_of_somebody_else_ends_the_wait_with_a_reason() {
    let cluster = Cluster::start();
    // The server's answer comes before it is no longer waited for, however busy the machine is.
    let patience = Patience {
        call: Duration::from_secs(8),
        ..PATIENT
    };
    let store = open(&cluster.url(), patience).unwrap();
    let mut client = cluster.client();
    let mut change = client.transaction().unwrap();
    change.batch_execute("LOCK TABLE hosts").unwrap();
    let error = store.hosts().unwrap_err();
    assert!(matches!(error, ControlError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("statement timeout"), "{error}");
    change.rollback().unwrap();
    store.hosts().unwrap();
}

#[test]
fn a_relay_that_lost_its_database_to_another_one_writes_nothing() {
    let mut cluster = Cluster::start();
    let first = open(&cluster.url(), PATIENT).unwrap();
    cluster.stop();
    wait_until("it is known", || first.available().is_err());
    cluster.run();
    wait_until("it is back", || first.available().is_ok());
    let error = refused(open(&cluster.url(), HASTY));
    assert!(error.contains("another relay"), "{error}");

    // Another one waits for the lock, and has it before the first is back.
    let mut other = cluster.client();
    let other = std::thread::spawn(move || {
        other
            .query("SELECT pg_advisory_lock($1)", &[&schema::LOCK])
            .unwrap();
        other
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    wait_until("it waits", || cluster.query(waiting) == ["1"]);
    assert_eq!(cluster.query(KILL), ["t"]);
    let other = other.join().unwrap();
    wait_until("it knows", || {
        let why = first.available();
        why.is_err_and(|why| why.contains("another relay"))
    });
    let error = first.audit(&entry("refused")).unwrap_err();
    assert!(matches!(error, ControlError::Unavailable(_)), "{error}");
    assert!(cluster.query("SELECT subject FROM audit_log").is_empty());
    drop(other);
    wait_until("it is back", || first.available().is_ok());
    first.audit(&entry("after")).unwrap();
}

#[test]
fn another_store_in_its_place_is_not_written_to() {
    let mut cluster = Cluster::start();
    let store = open(&cluster.url(), PATIENT).unwrap();
    let mut client = cluster.client();
    client
        .batch_execute(&format!("UPDATE store SET id = 5; {KILL}"))
        .unwrap();
    wait_until("it knows", || {
        store
            .available()
            .is_err_and(|why| why.contains("another store"))
    });
    let error = store.audit(&entry("refused")).unwrap_err();
    assert!(matches!(error, ControlError::Unavailable(_)), "{error}");
    assert!(cluster.query("SELECT subject FROM audit_log").is_empty());

    // An empty one is not made into a store behind the back of a running relay either.
    client
        .batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .unwrap();
    cluster.stop();
    wait_until("it knows", || store.hosts().is_err());
    cluster.run();
    wait_until("it knows", || {
        let why = store.available();
        why.is_err_and(|why| why.contains("another store"))
    });
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    assert!(cluster.query(tables).is_empty());
}
