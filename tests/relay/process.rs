//! The program as an operator meets it: how it refuses to start, and what it says of itself.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use crate::{
    site::{PASSWORD, Relay, Site, bare_command},
    subscriber::Subscriber,
};

/// Runs a program that is to end by itself.
pub(crate) fn run(mut command: Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_second_relay_on_a_directory_is_refused_and_the_first_goes_on() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let (code, said) = run(site.command());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    assert!(said.contains(site.data().to_str().unwrap()), "{said}");
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&event]);
}

#[test]
fn a_taken_port_is_named() {
    let site = Site::new(1);
    let relay = site.start();
    let other = Site::new(1);
    let mut command = other.command();
    command.env("RELAY_PORT", relay.public.port().to_string());
    let (code, said) = run(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&relay.public.to_string()), "{said}");
}

/// Makes a store say that another version wrote it; returns what it said.
fn set_format(store: &Path, format: u64) -> u64 {
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, store).unwrap();
    let db = rocksdb::DB::open_cf(&options, store, families).unwrap();
    let meta = db.cf_handle("meta").unwrap();
    let before = db.get_cf(meta, "format").unwrap().unwrap();
    db.put_cf(meta, "format", format.to_le_bytes()).unwrap();
    u64::from_le_bytes(before.try_into().unwrap())
}

#[test]
fn a_directory_of_a_later_version_is_refused_and_left_alone() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&event]);
    relay.terminate();
    assert!(relay.ended().0.success());
    let store = site.data().join("store");
    let format = set_format(&store, 99);
    let (code, said) = run(site.command());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has format 99"), "{said}");
    assert!(said.contains("later version"), "{said}");
    // Whoever has that version finds everything.
    set_format(&store, format);
    Subscriber::from_the_beginning(&site.start()).expect(&[&event]);
}

#[test]
fn a_misspelt_variable_is_an_error_that_names_the_right_one() {
    for (wrong, right) in [
        ("RELAY_PROT", "RELAY_PORT"),
        ("RELAY_RETENTION_HOUR", "RELAY_RETENTION_HOURS"),
        ("RELAY_ADMIN_PASWORD", "RELAY_ADMIN_PASSWORD"),
    ] {
        let mut command = bare_command();
        command.env(wrong, "1");
        let (code, said) = run(command);
        assert_eq!(code, Some(2), "{said}");
        let message = format!("{wrong}; did you mean {right}?");
        assert!(said.contains(&message), "{said}");
    }
}

#[test]
fn a_value_that_can_not_be_is_an_error_that_names_the_option() {
    for (name, value, option) in [
        ("RELAY_PORT", "http", "--port"),
        ("RELAY_PLC_URL", "plc.directory", "--plc-url"),
        ("RELAY_RETENTION_BYTES", "7 apples", "--retention-bytes"),
    ] {
        let mut command = bare_command();
        command.env(name, value);
        let (code, said) = run(command);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(option) && said.contains(value), "{said}");
    }
}

#[test]
fn the_help_names_every_variable() {
    let mut command = bare_command();
    command.arg("--help");
    let (code, said) = run(command);
    assert_eq!(code, Some(0), "{said}");
    for name in zlay::config::variables() {
        assert!(said.contains(&name), "{name} is not in the help");
    }
}

#[test]
fn the_password_is_never_said() {
    let site = Site::new(1);
    let relay = site.start_crawling();
    relay.terminate();
    let (status, log) = relay.ended();
    assert!(status.success() && !log.is_empty());
    assert!(!log.iter().any(|line| line.contains(PASSWORD)));
}

/// How nice each of its threads is that has one of these names, by the name.
fn niceness(relay: &Relay, names: &[&str]) -> BTreeMap<String, i32> {
    let tasks = format!("/proc/{}/task", relay.pid().as_raw_nonzero());
    let mut found = BTreeMap::new();
    for task in std::fs::read_dir(tasks).unwrap() {
        // Whoever has ended meanwhile is not there.
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else {
            continue;
        };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(") ").unwrap();
        let name = name.split(':').next().unwrap();
        // Behind the name the state is the third field of proc_pid_stat(5), and this the 19th.
        let nice = rest.split(' ').nth(19 - 3).unwrap().parse().unwrap();
        if names.contains(&name) {
            found.insert(name.to_owned(), nice);
        }
    }
    found
}

/// Who is served through a thread that stands back does not for that stand back too.
#[test]
fn what_strangers_ask_for_comes_behind_what_happens_now() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    subscriber.expect(&[&event]);
    let names = ["host", "http", "sequencer", "subscriber"];
    let niceness = niceness(&relay, &names);
    let own = niceness["sequencer"];
    let wanted = [own.max(10), own.max(15), own, own];
    let wanted = names.map(str::to_owned).into_iter().zip(wanted);
    assert_eq!(niceness, wanted.collect());
}
