//! How fast what was stored is read again: 100,000 realistic frames in files of the store (which the
//! system has in memory), page by page as a subscriber reads them (`pages`), and through a subscriber
//! to one socket (`subscriber`).
//!
//! Unit: events a second. The limit beside it (`write`): the same bytes written to one socket from
//! memory, as many at once as a subscriber reads. Before the measurements it says how much of the
//! frames the store has on the disk.
//!
//! `just bench replay`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

use std::{
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use zlay::{
    atproto::seq::Seq,
    firehose::{Cursor, frame::ws_message},
    limits::{BATCH_EVENTS_MAX, SUBSCRIBER_PAGE_BYTES_MAX},
    sim::{clock, event::Event},
    store::{Options, Store},
};

use self::{drain::Drain, stage::Stage, traffic::Traffic};

#[path = "support/disk.rs"]
mod disk;
#[path = "support/drain.rs"]
mod drain;
#[path = "support/stage.rs"]
mod stage;
#[path = "support/traffic.rs"]
mod traffic;

/// Accounts that commit.
const ACCOUNTS: usize = 400;
/// Commits of each. They come again in the store after so many megabytes that no compression sees
/// it.
const ROUNDS: usize = 50;
/// Frames in the store.
const FRAMES: usize = 100_000;
/// Frames of one measured run over pages.
const RUN: usize = 10_000;

fn options() -> Options {
    Options {
        fsync: false,
        ..Options::default()
    }
}

/// Fills a store and returns the bytes of its frames.
fn fill(dir: &Path, events: &[Event]) -> usize {
    let store = Store::open(dir, options()).unwrap();
    let seqs: Vec<u64> = (1..=FRAMES as u64).collect();
    let mut bytes = 0;
    for seqs in seqs.chunks(BATCH_EVENTS_MAX) {
        let mut batch = store.batch();
        for seq in seqs {
            let event = &events[*seq as usize % events.len()];
            let frame = ws_message(&[&event.frame(*seq)]);
            bytes += frame.len();
            batch.put_event(Seq::new(*seq).unwrap(), clock::micros() / 1_000, &frame);
        }
        store.commit(batch).unwrap();
    }
    store.close().unwrap();
    bytes
}

/// Reads the store in pages, over and over.
struct Pages {
    store: Arc<Store>,
    after: u64,
}

impl Pages {
    /// How many frames the next page has, and how many bytes.
    fn read(&mut self) -> (usize, usize) {
        let mut frames = Vec::new();
        let page = SUBSCRIBER_PAGE_BYTES_MAX;
        self.store
            .read_after(self.after, page, usize::MAX, &mut frames)
            .unwrap();
        self.after = match frames.last() {
            Some(last) if last.seq.get() < FRAMES as u64 => last.seq.get(),
            _ => 0,
        };
        let bytes = frames.iter().map(|frame| frame.bytes.len()).sum();
        (frames.len(), bytes)
    }

    /// What as many pages take as have `wanted` frames.
    fn run(&mut self, wanted: u64) -> Duration {
        let (start, mut read) = (Instant::now(), 0);
        while read < wanted {
            read += self.read().0 as u64;
        }
        start.elapsed().mul_f64(wanted as f64 / read as f64)
    }
}

fn replay(c: &mut Criterion) {
    let dir = disk::dir();
    let Traffic { events, .. } = Traffic::new(ACCOUNTS, ROUNDS);
    let bytes = fill(dir.path(), &events);
    drop(events);
    // What was in memory is in files after an open.
    let store = Arc::new(Store::open(dir.path(), options()).unwrap());
    let on_disk = store.events_bytes();
    println!(
        "replay: frames of {} bytes on average, {:.1} % of that on the disk",
        bytes / FRAMES,
        on_disk as f64 / bytes as f64 * 100.0
    );
    let mut group = c.benchmark_group("replay");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(RUN as u64));
    let mut pages = Pages {
        store: Arc::clone(&store),
        after: 0,
    };
    group.bench_function("pages", |b| {
        b.iter_custom(|iters| pages.run(iters * RUN as u64));
    });

    group.throughput(Throughput::Elements(FRAMES as u64));
    let stage = Stage::new(Arc::clone(&store));
    group.bench_function("subscriber", |b| {
        b.iter_custom(|iters| {
            let pass = || {
                let (drain, mut streams) = Drain::connect(1);
                drain.aim(bytes);
                let start = Instant::now();
                stage.subscribe(streams.remove(0), Cursor::From(0));
                drain.wait();
                start.elapsed()
            };
            (0..iters).map(|_| pass()).sum()
        });
    });

    let (drain, mut streams) = Drain::connect(1);
    let stream = &mut streams[0];
    let page = vec![7; SUBSCRIBER_PAGE_BYTES_MAX];
    group.bench_function("write", |b| {
        b.iter(|| {
            drain.aim(bytes);
            let mut left = bytes;
            while left > 0 {
                let len = left.min(page.len());
                stream.write_all(&page[..len]).unwrap();
                left -= len;
            }
            drain.wait();
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = replay
}
criterion_main!(benches);
