//! How many events a second the sequencer takes: a real one with a real store, fed through its inbox
//! with proven commits of many accounts, in batches of 1, 16, 128 and 512, synced to the disk and
//! not.
//!
//! Unit: events a second, from the first of a batch to its publication; a batch of one is mostly the
//! waking of a thread where nothing is synced. The limits beside each, measured with the very same
//! bytes: one write to a bare RocksDB (`rocksdb`), and one write to the end of a plain file (`file`),
//! both synced where the sequencer is. `without index` is the sequencer with commits of which nobody
//! says what collections they touch: the rest is what the collection index costs.
//!
//! `just bench sequencer`; one case only: `just bench sequencer unsynced/16`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

use std::{
    fs::File,
    io::{Seek, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use rocksdb::{DB, WriteBatch, WriteOptions};
use tempfile::TempDir;
use zlay::{
    atproto::{
        crypto::PublicKey,
        did::Did,
        envelope::{Body, Message},
        prove::{Proven, Touched, Workspace},
        tid::Tid,
    },
    metrics::Metrics,
    sequencer::{
        Inbox, Publication, Sequencer,
        event::{Event, Input, Kind, Upstream},
    },
    sim::keys::Key,
    store::{Options, Store, account::HostId},
    threads::{self, Role, Stopper, Thread, stop_pair},
};

use self::traffic::Traffic;

#[path = "support/disk.rs"]
mod disk;
#[path = "support/rocks.rs"]
mod rocks;
#[path = "support/traffic.rs"]
mod traffic;

/// Accounts that commit.
const ACCOUNTS: usize = 256;
/// Commits of each; then they come again, with newer revisions.
const ROUNDS: usize = 16;
/// Events of one batch.
const BATCHES: [usize; 4] = [1, 16, 128, 512];
/// Where a plain file begins anew, in bytes: it must not fill the disk.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A commit as its host's thread has proven it.
struct Commit {
    account: usize,
    did: Did,
    proven: Proven,
    frame: Box<[u8]>,
    seq_at: std::ops::Range<usize>,
}

/// Proven events without end.
struct Events {
    commits: Vec<Commit>,
    /// What each account has said last: its revision.
    heads: Vec<Option<Proven>>,
    /// Whether they say which collections they touch.
    touch: bool,
    sent: u64,
}

impl Events {
    fn new() -> Events {
        let traffic = Traffic::new(ACCOUNTS, ROUNDS);
        let mut workspace = Workspace::new();
        let commits = traffic.events.iter().enumerate().map(|(n, event)| {
            let account = n % ACCOUNTS;
            let frame = event.frame(1 << 32);
            let key = &traffic.accounts[account].key;
            prove(&mut workspace, account, key, &frame)
        });
        Events {
            commits: commits.collect(),
            heads: vec![None; ACCOUNTS],
            touch: true,
            sent: 0,
        }
    }

    /// The next one. From the second time on a commit has a newer revision than it was signed with,
    /// which nobody sees: what is signed was looked into before.
    fn next(&mut self) -> Event {
        let commit = &self.commits[self.sent as usize % self.commits.len()];
        self.sent += 1;
        let head = &mut self.heads[commit.account];
        let mut proven = match head {
            None => commit.proven.clone(),
            Some(head) => Proven {
                rev: Tid::from_raw(head.rev.raw() + 1),
                since: Some(head.rev),
                prev_data: Some(head.data),
                ..commit.proven.clone()
            },
        };
        if !self.touch {
            proven.touched = Touched::default();
        }
        *head = Some(proven.clone());
        Event {
            host: HostId(1 + commit.account as u32 % 100),
            upstream: Upstream {
                epoch: 0,
                seq: self.sent,
                cursor: self.sent,
            },
            did: commit.did.clone(),
            authority_at: Some(1),
            kind: Kind::Commit(proven),
            happened_ms: Some(1),
            frame: commit.frame[..].into(),
            seq_at: commit.seq_at.clone(),
            stored: None,
        }
    }
}

fn prove(workspace: &mut Workspace, account: usize, key: &Key, frame: &[u8]) -> Commit {
    let Ok(Message::Event(event)) = Message::parse(frame) else {
        unreachable!("an event")
    };
    let Body::Commit(message) = &event.body else {
        unreachable!("a commit")
    };
    let key = PublicKey::from_multikey(&key.multikey()).unwrap();
    Commit {
        account,
        did: Did::parse(event.did).unwrap(),
        proven: workspace
            .prove_commit(frame, event.did, message, &key, false)
            .unwrap(),
        frame: frame.into(),
        seq_at: event.layout.seq.clone(),
    }
}

/// A sequencer that works batch by batch: after each it waits to be told to go on, and meanwhile its
/// inbox is filled.
struct Relay {
    // In the order in which they have to go.
    inbox: Inbox,
    go: Option<Sender<()>>,
    stopper: Option<Stopper>,
    thread: Option<Thread>,
    done: Receiver<usize>,
    metrics: Arc<Metrics>,
    _dir: TempDir,
}

impl Relay {
    /// One that has every account in its store already.
    fn new(events: &mut Events, fsync: bool) -> Relay {
        let dir = disk::dir();
        let options = Options {
            fsync,
            ..Options::default()
        };
        let store = Arc::new(Store::open(dir.path(), options).unwrap());
        let metrics = Arc::new(Metrics::default());
        let (report, done) = bounded(1);
        let (go, wait) = bounded::<()>(1);
        let publish = Box::new(move |new: Publication| {
            // Whoever measures may have gone.
            let _ = report.send(new.frames.len());
            let _ = wait.recv();
        });
        let (sequencer, inbox) = Sequencer::new(store, publish, metrics.clone()).unwrap();
        let (stopper, stop) = stop_pair();
        let body = move || sequencer.run(&stop).unwrap();
        let thread = threads::spawn(Role::Sequencer, "", 1 << 20, body).unwrap();
        let relay = Relay {
            inbox,
            go: Some(go),
            stopper: Some(stopper),
            thread: Some(thread),
            done,
            metrics,
            _dir: dir,
        };
        relay.send(events.next());
        assert_eq!(relay.done.recv(), Ok(1));
        for _ in 0..events.commits.len() / 512 {
            relay.batch(events, 512);
        }
        relay
    }

    fn send(&self, event: Event) {
        let input = Input::Event(Box::new(event));
        assert!(self.inbox.send(input).is_ok(), "the sequencer runs");
    }

    /// What one batch of so many events takes.
    fn batch(&self, events: &mut Events, count: usize) -> Duration {
        for _ in 0..count {
            self.send(events.next());
        }
        let start = Instant::now();
        assert!(self.go.as_ref().is_some_and(|go| go.send(()).is_ok()));
        let published = self.done.recv();
        let taken = start.elapsed();
        assert_eq!(published, Ok(count), "one batch, and nothing refused");
        taken
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.go.take();
        self.stopper.take();
        self.thread.take();
        assert_eq!(self.metrics.discontinuous.get(), 0, "revisions follow");
    }
}

/// A bare RocksDB, with the store's options for events.
struct Rocks {
    db: DB,
    write: WriteOptions,
    key: u64,
    _dir: TempDir,
}

impl Rocks {
    fn new(fsync: bool) -> Rocks {
        let dir = disk::dir();
        let mut write = WriteOptions::default();
        write.set_sync(fsync);
        Rocks {
            db: DB::open(&rocks::options(&rocks::PRESENT), dir.path()).unwrap(),
            write,
            key: 0,
            _dir: dir,
        }
    }

    fn batch(&mut self, frames: &[Box<[u8]>]) -> Duration {
        let start = Instant::now();
        let mut batch = WriteBatch::default();
        for frame in frames {
            self.key += 1;
            batch.put(self.key.to_be_bytes(), frame);
        }
        self.db.write_opt(batch, &self.write).unwrap();
        start.elapsed()
    }
}

/// A plain file that is appended to.
struct Plain {
    file: File,
    fsync: bool,
    written: u64,
    _dir: TempDir,
}

impl Plain {
    fn new(fsync: bool) -> Plain {
        let dir = disk::dir();
        Plain {
            file: File::create(dir.path().join("file")).unwrap(),
            fsync,
            written: 0,
            _dir: dir,
        }
    }

    fn batch(&mut self, bytes: &[u8]) -> Duration {
        if self.written > FILE_BYTES_MAX {
            self.file.set_len(0).unwrap();
            self.file.rewind().unwrap();
            self.written = 0;
        }
        let start = Instant::now();
        self.file.write_all(bytes).unwrap();
        if self.fsync {
            self.file.sync_data().unwrap();
        }
        self.written += bytes.len() as u64;
        start.elapsed()
    }
}

fn sequencer(c: &mut Criterion) {
    let mut events = Events::new();
    let bytes: usize = events.commits.iter().map(|commit| commit.frame.len()).sum();
    println!(
        "sequencer: frames of {} bytes on average",
        bytes / events.commits.len()
    );
    for (name, fsync) in [("synced", true), ("unsynced", false)] {
        for count in BATCHES {
            let frames: Vec<Box<[u8]>> = events.commits[..count]
                .iter()
                .map(|commit| commit.frame.clone())
                .collect();
            let joined = frames.concat();
            let mut group = c.benchmark_group(format!("{name}/{count}"));
            group.sampling_mode(SamplingMode::Flat);
            group.throughput(Throughput::Elements(count as u64));
            for (name, touch) in [("sequencer", true), ("without index", false)] {
                group.bench_function(BenchmarkId::from_parameter(name), |b| {
                    events.heads.fill(None);
                    events.touch = touch;
                    let relay = Relay::new(&mut events, fsync);
                    let events = &mut events;
                    b.iter_custom(|iters| (0..iters).map(|_| relay.batch(events, count)).sum());
                });
            }
            group.bench_function(BenchmarkId::from_parameter("rocksdb"), |b| {
                let mut rocks = Rocks::new(fsync);
                b.iter_custom(|iters| (0..iters).map(|_| rocks.batch(&frames)).sum());
            });
            group.bench_function(BenchmarkId::from_parameter("file"), |b| {
                let mut plain = Plain::new(fsync);
                b.iter_custom(|iters| (0..iters).map(|_| plain.batch(&joined)).sum());
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = sequencer
}
criterion_main!(benches);
