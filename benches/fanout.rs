//! What it costs to give frames to subscribers.
//!
//! `ring`: time of putting 16 frames into the ring, and of 0, 1 or 100 readers taking them from
//! there, one after the other.
//!
//! `bulk` and `live`: the CPU time (not the time of day) that frames of realistic sizes take to get to
//! 1, 10 and 100 subscribers over loopback, which throw them away. In `bulk` 256 frames wait when the
//! subscribers are woken; in `live` it is 2, as at 600 events a second. `subscribers` counts what the
//! threads of the subscribers and the ticker use. The limit beside it is one thread that writes the
//! very same bytes to as many sockets: `write` frame by frame, `write, gathered` as many frames at
//! once as a subscriber does. Elements are frames delivered, so 1 / thrpt is the CPU of one.
//!
//! `just bench fanout`; one size only: `just bench fanout /100/`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

use std::{collections::VecDeque, io::Write, net::TcpStream, sync::Arc, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use zlay::{
    atproto::seq::Seq,
    firehose::{Answer, Cursor, Frame, Ring, frame::ws_message},
    limits::{RING_BYTES_MAX, SUBSCRIBER_PAGE_BYTES_MAX, SUBSCRIBER_WRITE_FRAMES_MAX},
    store::{Options, Store},
    threads::{self, Role, Thread},
};

use self::{drain::Drain, stage::Stage, traffic::Traffic};

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/disk.rs"]
mod disk;
#[path = "support/drain.rs"]
mod drain;
#[path = "support/stage.rs"]
mod stage;
#[path = "support/traffic.rs"]
mod traffic;

/// Frames of one batch of the sequencer.
const BATCH: usize = 16;
/// Numbers of subscribers.
const SUBSCRIBERS: [usize; 3] = [1, 10, 100];
/// Frames that are told apart; then they come again.
const FRAMES: usize = 256;

/// Frames without end, whose bytes are shared.
struct Frames {
    bytes: Vec<Bytes>,
    last: u64,
}

impl Frames {
    fn new() -> Frames {
        let events = Traffic::new(FRAMES / 8, 8).events;
        Frames {
            bytes: (1 << 32..)
                .zip(&events)
                .map(|(seq, event)| ws_message(&[&event.frame(seq)]))
                .collect(),
            last: 0,
        }
    }

    fn next(&mut self, count: usize) -> Vec<Frame> {
        let seqs = self.last + 1..=self.last + count as u64;
        self.last += count as u64;
        seqs.map(|seq| Frame {
            seq: Seq::new(seq).unwrap(),
            bytes: self.bytes[seq as usize % FRAMES].clone(),
        })
        .collect()
    }
}

fn ring(c: &mut Criterion) {
    let mut frames = Frames::new();
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(BATCH as u64));
    let ring = Ring::new(RING_BYTES_MAX, 0);
    for readers in [0, 1, 100] {
        group.bench_function(format!("{readers} readers"), |b| {
            let mut out = VecDeque::new();
            b.iter_batched(
                || frames.next(BATCH),
                |batch| {
                    let after = batch[0].seq.get() - 1;
                    ring.push(batch);
                    for _ in 0..readers {
                        let page = SUBSCRIBER_PAGE_BYTES_MAX;
                        let answer = ring.read_after(after, FRAMES, page, &mut out);
                        assert_eq!((answer, out.len()), (Answer::Frames, BATCH));
                        out.clear();
                    }
                },
                // The ring must see them in order, so that no more than one waits.
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A thread that writes rounds of frames to all of its sockets, one after the other.
struct Writer {
    rounds: Option<Sender<u64>>,
    done: Receiver<()>,
    thread: Option<Thread>,
}

impl Writer {
    /// The name of its thread, as the kernel knows it.
    const NAME: &str = "sim:writer";

    /// Each round is `round`, written in pieces of `gathered` frames.
    fn new(drain: Drain, streams: Vec<TcpStream>, round: &[Frame], gathered: usize) -> Writer {
        let (rounds, asked) = bounded::<u64>(1);
        let (tell, done) = bounded(1);
        let pieces: Vec<Vec<u8>> = round
            .chunks(gathered)
            .map(|frames| {
                frames
                    .iter()
                    .flat_map(|f| f.bytes.iter().copied())
                    .collect()
            })
            .collect();
        let bytes: usize = pieces.iter().map(Vec::len).sum();
        let body = move || {
            for count in asked {
                for _ in 0..count {
                    drain.aim(bytes * streams.len());
                    for piece in &pieces {
                        for mut stream in &streams {
                            stream.write_all(piece).unwrap();
                        }
                    }
                    drain.wait();
                }
                tell.send(()).unwrap();
            }
        };
        Writer {
            rounds: Some(rounds),
            done,
            thread: Some(threads::spawn(Role::Simulator, "writer", 256 << 10, body).unwrap()),
        }
    }

    /// The CPU time of so many rounds.
    fn run(&self, count: u64) -> Duration {
        let before = cpu::used(&[Writer::NAME]);
        assert!(self.rounds.as_ref().is_some_and(|r| r.send(count).is_ok()));
        self.done.recv().unwrap();
        cpu::used(&[Writer::NAME]) - before
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.rounds.take();
        self.thread.take();
    }
}

/// Rounds of `count` frames to every number of subscribers.
fn deliver(c: &mut Criterion, name: &str, count: usize) {
    let dir = disk::dir();
    let store = Arc::new(Store::open(dir.path(), Options::default()).unwrap());
    let mut frames = Frames::new();
    for subscribers in SUBSCRIBERS {
        let mut group = c.benchmark_group(format!("{name}/{subscribers}"));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements((count * subscribers) as u64));

        group.bench_function("subscribers", |b| {
            frames.last = 0;
            let (drain, streams) = Drain::connect(subscribers);
            let stage = Stage::new(Arc::clone(&store));
            for stream in streams {
                stage.subscribe(stream, Cursor::Live);
            }
            let mut round = || {
                let frames = frames.next(count);
                let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
                drain.aim(bytes * subscribers);
                stage.firehose.publish(frames);
                drain.wait();
            };
            let names = ["subscriber", "ticker"];
            b.iter_custom(|iters| {
                let before = cpu::used(&names);
                (0..iters).for_each(|_| round());
                cpu::used(&names) - before
            });
            // The other ends first, so that nobody waits for a closing handshake.
            drop(drain);
        });
        for (name, gathered) in [
            ("write", 1),
            ("write, gathered", SUBSCRIBER_WRITE_FRAMES_MAX),
        ] {
            group.bench_function(name, |b| {
                let (drain, streams) = Drain::connect(subscribers);
                let writer = Writer::new(drain, streams, &frames.next(count), gathered);
                b.iter_custom(|iters| writer.run(iters));
            });
        }
        group.finish();
    }
}

fn bulk(c: &mut Criterion) {
    deliver(c, "bulk", FRAMES);
}

fn live(c: &mut Criterion) {
    deliver(c, "live", 2);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = ring, bulk, live
}
criterion_main!(benches);
