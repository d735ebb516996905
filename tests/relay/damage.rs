//! Files of the store that are damaged, gone or can not be read or written: each is said by name, ends what
//! can not go on with a code, and nothing is left out in silence.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use zlay::sim::{account::Account, event::Event};

use crate::{
    faults::Faults,
    process::run,
    site::{Relay, Site, agent, answer, next_commit, wait_until},
    subscriber::{Next, Subscriber},
};

/// The exit code where the store fails.
const EXIT_STORE: i32 = 71;
/// The text of a large event, in bytes.
const LARGE_BYTES: usize = 500_000;
/// So many of them are more than the store gathers in memory.
const EVENTS_OF_A_FILE: usize = 40;

/// Events of one account, so large that they are kept in pieces.
fn large(account: &mut Account, count: usize) -> Vec<Event> {
    events_of(account, LARGE_BYTES, count)
}

/// Events of one account, each of more than one block of the store.
fn events_of(account: &mut Account, bytes: usize, count: usize) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(9);
    let events = (0..count).map(|_| {
        let text: String = (0..bytes).map(|_| rng.alphanumeric()).collect();
        let post = account.post(&text);
        account.commit(&[post])
    });
    events.collect()
}

/// Sends events, and waits until all of them are published.
fn publish(site: &Site, relay: &Relay, events: &[Event], host: usize) {
    let last = relay.metric("relay_seq") + events.len() as u64;
    for event in events {
        site.network.publish(host, event);
    }
    wait_until("all are published", || relay.metric("relay_seq") == last);
}

/// Ends a relay orderly: what it had in memory is in files.
fn stop(relay: Relay) {
    relay.terminate();
    assert!(relay.ended().0.success());
}

/// The files of a column family, by their names.
fn files_of(site: &Site, family: &str) -> Vec<PathBuf> {
    let store = site.data().join("store");
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, &store).unwrap();
    let db = rocksdb::DB::open_cf_for_read_only(&options, &store, families, false).unwrap();
    let files = db.live_files().unwrap().into_iter();
    let own = files.filter(|file| file.column_family_name == family);
    let names = own.map(|file| store.join(file.name.trim_start_matches('/')));
    let names: Vec<PathBuf> = names.collect();
    assert!(!names.is_empty(), "{family} has no files");
    names
}

/// The file of a directory whose name has this in it; the last one.
fn file_with(directory: &Path, part: &str) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let named = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(part));
    named
        .max()
        .unwrap_or_else(|| panic!("no {part} in {}", directory.display()))
}

/// Turns one bit.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn name_of(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

/// The sequencer ends the relay, because this file is damaged.
fn ends_over(relay: Relay, file: &Path) {
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(EXIT_STORE));
    let why = log
        .iter()
        .find(|line| line.contains("the sequencer ends"))
        .unwrap();
    assert!(
        why.contains("Corruption") && why.contains(name_of(file)),
        "{why}"
    );
}

/// How many of the events come in a replay before it is told that there is an error.
fn replayed(relay: &Relay, events: &[Event]) -> usize {
    let mut replay = Subscriber::from_the_beginning(relay);
    let mut count = 0;
    loop {
        match replay.next() {
            Next::Event(seen) => {
                assert_eq!(seen.digest, events[count].digest());
                count += 1;
            }
            end => {
                assert_eq!(end, Next::Note(-1, "InternalServerError".into()));
                assert_eq!(replay.next(), Next::Close(1011));
                return count;
            }
        }
    }
}

/// Whoever replays gets what is before the damage and is then told that there is an error; nobody gets
/// something else, or what comes after, and the relay says what is damaged. Until a merge reads it: then the next
/// write fails (`compaction_over_damage_stops_the_writer_and_names_the_file`).
fn is_never_skipped(bytes: usize, count: usize, family: &str) {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let events = events_of(&mut account, bytes, count);
    publish(&site, &relay, &events, 0);
    stop(relay);
    let files = files_of(&site, family);
    let file = files.last().unwrap();
    let size = fs::metadata(file).unwrap().len() as usize;
    flip(file, size / 2);

    let relay = site.start();
    site.wait_until_connected();
    for _ in 0..2 {
        let count = replayed(&relay, &events);
        assert!((1..events.len()).contains(&count), "{count}");
    }
    let is_it = |line: &String| line.contains(name_of(file));
    wait_until("the log says it", || {
        relay.said("a subscriber ends").iter().any(is_it)
    });
    assert_eq!(
        relay.metric("relay_subscriber_disconnects_total{reason=\"failed\"}"),
        2
    );
}

#[test]
fn a_damaged_file_of_events_is_never_skipped() {
    is_never_skipped(50_000, 40, "events");
}

#[test]
fn a_damaged_file_of_pieces_is_never_skipped() {
    is_never_skipped(LARGE_BYTES, 8, "large");
}

/// A query says that it failed. An event of an account that can not be read ends the relay: what it knows
/// of the account decides whether the event is published.
#[test]
fn a_damaged_file_of_accounts_fails_queries_and_ends_the_relay() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let first = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&first]);
    stop(relay);
    let file = files_of(&site, "accounts").pop().unwrap();
    let whole = fs::read(&file).unwrap();
    flip(&file, 10);

    let relay = site.start();
    for query in ["getRepoStatus", "getLatestCommit"] {
        let (public, did) = (relay.public, account.did());
        let url = format!("http://{public}/xrpc/com.atproto.sync.{query}?did={did}");
        let (status, body) = answer(agent().get(url).call().unwrap());
        assert_eq!(
            (status, &body["error"]),
            (500, &"InternalServerError".into()),
            "{body}"
        );
    }
    // The log may be read a moment after the answers.
    let said = || relay.said("a query can not be answered");
    wait_until("both are in the log", || said().len() == 2);
    let said = said();
    assert!(
        said.iter().all(|line| line.contains(name_of(&file))),
        "{said:#?}"
    );
    site.wait_until_connected();
    let second = site.publish_post(&mut account);
    ends_over(relay, &file);

    // With the file from a backup nothing is missing.
    fs::write(&file, whole).unwrap();
    Subscriber::from_the_beginning(&site.start()).expect(&[&first, &second]);
}

/// Where a merge of files reads the damage, nothing is left out either: the relay ends before it publishes anything
/// more.
#[test]
fn a_merge_over_damage_ends_the_relay_and_costs_nothing() {
    // The lists of the accounts that have records of a collection: nothing but a merge, and who asks for one, reads them.
    let files = |site: &Site| files_of(site, "by_collection");
    let mut site = Site::new(1);
    let mut events = Vec::new();
    let relay = site.start_crawling();
    let mut account = site.account(0);
    events.push(site.publish_post(&mut account));
    Subscriber::from_the_beginning(&relay).expect(&[&events[0]]);
    stop(relay);
    let damaged = files(&site).pop().unwrap();
    flip(&damaged, 10);

    // The start after a kill makes a further file of the log, and two are merged. When, is up to the store.
    let mut relay = site.start();
    for _ in 0..5 {
        let mut account = site.account(0);
        for _ in 0..5 {
            events.push(site.publish_post(&mut account));
            thread::sleep(Duration::from_millis(200));
        }
        if relay.has_ended() {
            break;
        }
        relay.kill();
        relay = site.start();
    }
    ends_over(relay, &damaged);

    // With the file from a backup nothing is missing.
    flip(&damaged, 10);
    let relay = site.start();
    Subscriber::from_the_beginning(&relay).expect(&events.iter().collect::<Vec<_>>());
    wait_until("they are merged", || !damaged.exists());
}

/// A start that misses a file says which, changes nothing, and ends.
#[test]
fn a_file_that_is_gone_is_named_and_the_rest_is_left_alone() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&event]);
    stop(relay);
    let (store, control) = (site.data().join("store"), site.data().join("control"));
    for (file, named) in [
        (files_of(&site, "events").pop().unwrap(), None),
        (files_of(&site, "accounts").pop().unwrap(), None),
        (file_with(&store, "MANIFEST-"), None),
        (store.join("CURRENT"), None),
        (file_with(&control, "MANIFEST-"), Some(&control)),
        (control.join("CURRENT"), Some(&control)),
    ] {
        let away = site.data().join("away");
        fs::rename(&file, &away).unwrap();
        let (code, said) = run(site.command());
        assert_eq!(code, Some(1), "{}: {said}", file.display());
        assert!(said.contains(name_of(&file)), "{}: {said}", file.display());
        let directory = named.unwrap_or(&store).to_str().unwrap();
        assert!(said.contains(directory), "{said}");
        assert!(
            said.contains("can not be used") && said.contains("Restore it"),
            "{said}"
        );
        fs::rename(&away, &file).unwrap();
    }
    Subscriber::from_the_beginning(&site.start()).expect(&[&event]);
}

/// A crash leaves the log to be read by the next start. A place in it that can not be read, with more
/// behind it, is not what a crash leaves.
#[test]
fn a_hole_in_the_log_is_not_the_end_of_it() {
    let mut site = Site::new(1);
    let mut relay = site.start_crawling();
    let mut account = site.account(0);
    let events: Vec<Event> = (0..40).map(|_| next_commit(&mut account)).collect();
    for event in &events {
        publish(&site, &relay, std::slice::from_ref(event), 0);
    }
    relay.kill();
    let log = file_with(&site.data().join("store"), ".log");
    let size = fs::metadata(&log).unwrap().len() as usize;
    flip(&log, size / 2);
    let (code, said) = run(site.command());
    assert_eq!(code, Some(1), "{said}");
    for word in [
        log.to_str().unwrap(),
        "can not be read from byte",
        "Nothing was changed",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    flip(&log, size / 2);
    let events: Vec<&Event> = events.iter().collect();
    Subscriber::from_the_beginning(&site.start()).expect(&events);
}

/// A write that fails, and a write that does not reach the disk: nobody has seen what was in it, the
/// process ends with a code, and the next one has everything.
#[test]
fn a_disk_that_does_not_write_ends_the_relay() {
    let mut site = Site::new(1);
    let faults = Faults::of(&mut site);
    let mut account = site.account(0);
    let mut events: Vec<Event> = Vec::new();
    let mut relay = site.start_crawling();
    for what in ["write", "sync"] {
        let mut subscriber = Subscriber::after(&relay, events.len() as u64);
        events.push(site.publish_post(&mut account));
        subscriber.expect(&[events.last().unwrap()]);
        faults.fail(what, "/store/");
        events.push(site.publish_post(&mut account));
        let (status, log) = relay.ended();
        assert_eq!(status.code(), Some(EXIT_STORE), "{what}: {log:#?}");
        let why = log
            .iter()
            .find(|line| line.contains("the sequencer ends"))
            .unwrap();
        assert!(
            why.contains("/store/") && why.contains("Input/output error"),
            "{why}"
        );
        assert_eq!(
            subscriber.last(),
            events.len() as u64 - 1,
            "it is not published"
        );
        faults.mend();
        relay = site.start();
        let all: Vec<&Event> = events.iter().collect();
        Subscriber::from_the_beginning(&relay).expect(&all);
    }
}

/// What was gathered in memory is to become a file, and there is no room, where there was some a moment before: so
/// nothing held the hosts up.
#[test]
fn a_file_for_which_there_is_no_room_costs_nothing() {
    let mut site = Site::new(1);
    let faults = Faults::of(&mut site);
    let mut account = site.account(0);
    // It keeps what the relay does not read for as long as it takes.
    site.network.host(0).set_backlog_bytes(1 << 30);
    let relay = site.start_crawling();
    faults.fail("full", ".sst");
    let mut events = large(&mut account, EVENTS_OF_A_FILE);
    for event in &events {
        site.network.publish(0, event);
    }
    // It ends with one of the first that are written after that; the others wait.
    for _ in 0..30 {
        events.push(site.publish_post(&mut account));
        thread::sleep(Duration::from_millis(100));
    }
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(EXIT_STORE), "{log:#?}");
    let mut lines = log.iter();
    let why = lines.find(|line| line.contains("the sequencer ends"));
    let why = why.unwrap();
    assert!(
        why.contains("No space left on device") && why.contains(".sst"),
        "{why}"
    );
    faults.mend();
    let all: Vec<&Event> = events.iter().collect();
    Subscriber::from_the_beginning(&site.start()).expect(&all);
}

/// The disk gives back an error instead of what was written: to whoever asks for just that.
#[test]
fn a_disk_that_does_not_read_fails_who_reads() {
    let mut site = Site::new(1);
    let faults = Faults::of(&mut site);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let events = large(&mut account, 6);
    publish(&site, &relay, &events, 0);
    stop(relay);
    let mut relay = site.start();
    site.wait_until_connected();
    faults.fail("read", ".sst");
    // What the start has looked at is in memory.
    assert!(replayed(&relay, &events) < events.len() - 1);
    let is_it = |line: &String| line.contains("Input/output error");
    wait_until("the log says it", || {
        relay.said("a subscriber ends").iter().any(is_it)
    });
    // A merge that meets the same ends the relay; either way nothing is lost.
    relay.kill();
    faults.mend();
    let relay = site.start();
    site.wait_until_connected();
    let next = site.publish_post(&mut account);
    let all: Vec<&Event> = events.iter().chain([&next]).collect();
    Subscriber::from_the_beginning(&relay).expect(&all);
}
