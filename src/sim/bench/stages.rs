//! What is measured, each under its own name in the report.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{floor, reader, rig::Rig};
use crate::{
    sim::{Config, Network, cli, health::Prober, process::Usage, relay::Launch, sink::Sinks},
    threads::Stop,
};

/// Rounds of what is repeated; the median counts.
const ROUNDS: usize = 3;
/// After a change of what the relay has to do, before it is measured.
const SETTLE: Duration = Duration::from_millis(500);
/// Frames of the ring that are replayed: fewer than a relay keeps in memory.
const RING_FRAMES: u64 = 5_000;
/// The batch whose writing is compared where the relay does not say how large its own are, in
/// events.
const BATCH_EVENTS: f64 = 128.0;

/// Everything at once, and in the relay's sockets before the time runs: how much it can take.
#[derive(Serialize, Debug)]
pub(super) struct Ingest {
    pub(super) events: usize,
    pub(super) frame_bytes_mean: f64,
    /// In each round.
    pub(super) events_per_second: Vec<f64>,
    pub(super) events_per_cpu_second: Vec<f64>,
    pub(super) events_per_cpu_second_median: f64,
    /// Only hashing and verifying the same commits, on one core, before and after each round: the
    /// machine itself is not equally fast all the time.
    pub(super) limit_events_per_cpu_second: Vec<f64>,
    pub(super) share_of_limit: Vec<f64>,
    pub(super) share_of_limit_median: f64,
    pub(super) batch_events_mean: Option<f64>,
    /// Batches of that size appended to a file, with each on the disk before the next, and without.
    pub(super) limit_batches_per_second_synced: f64,
    pub(super) limit_batches_per_second: f64,
}

/// A steady stream: how late an event comes out.
#[derive(Serialize, Debug)]
pub(super) struct Delay {
    pub(super) events_per_second: u32,
    pub(super) events: usize,
    /// From the simulator's send to a subscriber's receive, in milliseconds.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// The relay's processor time for each second of this, in seconds.
    pub(super) cpu_seconds_per_second: f64,
}

/// A steady stream to many subscribers: what one more costs.
#[derive(Serialize, Debug)]
pub(super) struct FanOut {
    pub(super) subscribers: usize,
    pub(super) events_per_second: u32,
    /// Frames that all subscribers together were sent.
    pub(super) delivered: u64,
    /// The relay's processor time for each, beyond what it uses without them, in microseconds.
    pub(super) cpu_us_per_frame: f64,
    /// The same in a bare loop of writes, flat out.
    pub(super) limit_cpu_us_per_frame: f64,
    pub(super) times_the_limit: f64,
}

/// The past, to one subscriber.
#[derive(Serialize, Debug)]
pub(super) struct Replay {
    pub(super) frames_from_disk: u64,
    pub(super) disk_frames_per_second: Vec<f64>,
    pub(super) disk_frames_per_second_median: f64,
    pub(super) frames_from_ring: u64,
    pub(super) ring_frames_per_second: Vec<f64>,
    pub(super) ring_frames_per_second_median: f64,
    /// A bare loop to a socket that is read alike: a write for each frame, and one for many.
    pub(super) limit_frames_per_second: f64,
    pub(super) limit_frames_per_second_vectored: f64,
    pub(super) disk_share_of_limit: f64,
}

/// A start with many hosts.
#[derive(Serialize, Debug)]
pub(super) struct Connect {
    pub(super) hosts: usize,
    /// From the first request to crawl to the last connection.
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    /// Answers of the relay's health meanwhile, in milliseconds.
    pub(super) health_probes: u64,
    /// No answer in time, or another one than 200.
    pub(super) health_failed: u64,
    pub(super) health_p50_ms: f64,
    pub(super) health_p99_ms: f64,
    pub(super) health_max_ms: f64,
    /// Resident memory of the relay afterwards.
    pub(super) rss_bytes: u64,
}

pub(super) fn ingest(rig: &mut Rig, events: usize, stop: &Stop) -> io::Result<Ingest> {
    let round = events / ROUNDS;
    rig.corpus.make(round * ROUNDS);
    let batches = rig.metric("relay_batches_total");
    let (mut rates, mut per_cpu, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let mut limits = vec![floor::proofs(&rig.corpus.samples)];
    for _ in 0..ROUNDS {
        stop.wait(SETTLE);
        let before = rig.usage()?;
        rig.publish_ahead(round, stop)?;
        let start = Instant::now();
        rig.drain(stop)?;
        let used = rig.usage()?.cpu - before.cpu;
        rates.push(round as f64 / start.elapsed().as_secs_f64());
        let cost = round as f64 / used.as_secs_f64().max(1e-9);
        let before = limits.last().copied().unwrap_or_default();
        let after = floor::proofs(&rig.corpus.samples);
        limits.push(after);
        per_cpu.push(cost);
        shares.push(2.0 * cost / (before + after));
    }
    let batch_events_mean = match (batches, rig.metric("relay_batches_total")) {
        (Some(before), Some(after)) if after > before => {
            Some((round * ROUNDS) as f64 / (after - before))
        }
        _ => None,
    };
    let samples = &rig.corpus.samples;
    let bytes: usize = samples.iter().map(|sample| sample.frame.len()).sum();
    let frame_bytes_mean = bytes as f64 / samples.len().max(1) as f64;
    let batch_bytes = batch_events_mean.unwrap_or(BATCH_EVENTS) * frame_bytes_mean;
    let (synced, unsynced) = floor::appends(&rig.relay.data, batch_bytes as usize)?;
    Ok(Ingest {
        events: round * ROUNDS,
        frame_bytes_mean,
        events_per_second: rates,
        events_per_cpu_second_median: median(&per_cpu),
        events_per_cpu_second: per_cpu,
        limit_events_per_cpu_second: limits,
        share_of_limit_median: median(&shares),
        share_of_limit: shares,
        batch_events_mean,
        limit_batches_per_second_synced: synced,
        limit_batches_per_second: unsynced,
    })
}

pub(super) fn delay(rig: &mut Rig, rate: u32, span: Duration, stop: &Stop) -> io::Result<Delay> {
    let events = count(rate, span);
    rig.corpus.make(events);
    stop.wait(SETTLE);
    rig.checker.stats.take_delays();
    let before = rig.usage()?;
    rig.pace(rate, events, stop)?;
    rig.drain(stop)?;
    let used = rig.usage()?.cpu - before.cpu;
    let (p50, p99) = rig.checker.stats.take_delays().unwrap_or_default();
    Ok(Delay {
        events_per_second: rate,
        events,
        p50_ms: p50 as f64 / 1e3,
        p99_ms: p99 as f64 / 1e3,
        cpu_seconds_per_second: used.as_secs_f64() / span.as_secs_f64(),
    })
}

pub(super) fn fan_out(
    rig: &mut Rig,
    rate: u32,
    span: Duration,
    subscribers: &[usize],
    stop: &Stop,
) -> io::Result<Vec<FanOut>> {
    let frames = floor::frames(&rig.corpus.samples);
    let (alone, _) = steady(rig, rate, span, 0, stop)?;
    let mut measured = Vec::new();
    for subscribers in subscribers.iter().copied().filter(|n| *n > 0) {
        let (used, delivered) = steady(rig, rate, span, subscribers, stop)?;
        let beyond = used.saturating_sub(alone).as_secs_f64();
        let cost = beyond * 1e6 / delivered.max(1) as f64;
        let limit = floor::fan_out(&frames, subscribers)?;
        measured.push(FanOut {
            subscribers,
            events_per_second: rate,
            delivered,
            cpu_us_per_frame: cost,
            limit_cpu_us_per_frame: limit,
            times_the_limit: cost / limit,
        });
    }
    Ok(measured)
}

/// A steady stream beside so many further subscribers: the relay's processor time, and the frames
/// that they were sent.
fn steady(
    rig: &mut Rig,
    rate: u32,
    span: Duration,
    subscribers: usize,
    stop: &Stop,
) -> io::Result<(Duration, u64)> {
    let events = count(rate, span);
    rig.corpus.make(events);
    let sinks = Sinks::connect(rig.client.address(), subscribers, None)?;
    stop.wait(SETTLE);
    let received = rig.received_bytes();
    let (before, taken) = (rig.usage()?, sinks.total());
    rig.pace(rate, events, stop)?;
    rig.drain(stop)?;
    // The checker has everything; the others get the last of it a moment later.
    stop.wait(SETTLE);
    let used = rig.usage()?.cpu - before.cpu;
    if sinks.open() < subscribers {
        return Err(io::Error::other("the relay has cut subscribers"));
    }
    let frame_bytes = (rig.received_bytes() - received) as f64 / events as f64;
    let delivered = (sinks.total() - taken) as f64 / frame_bytes;
    Ok((used, delivered as u64))
}

pub(super) fn replay(rig: &mut Rig, stop: &Stop) -> io::Result<Replay> {
    let sent = rig.sent();
    let frames = floor::frames(&rig.corpus.samples);
    let address = rig.client.address().to_owned();
    // The last event's seq counts from wherever the relay began, so it is asked for.
    let last = rig.checker.stats.seq.load(Ordering::Relaxed);
    let ring = RING_FRAMES.min(sent / 2);
    // The newest may be in memory still.
    let old = sent - sent / 5;
    let (mut from_disk, mut from_ring) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for _ in 0..ROUNDS {
        stop.wait(SETTLE);
        let run = reader::replay(&address, 0, old)?;
        if run.frames < old {
            let frames = run.frames;
            let message = format!("a replay brought {frames} of {old} frames");
            return Err(io::Error::other(message));
        }
        seen = run.frames;
        from_disk.push(run.rate());
        stop.wait(SETTLE);
        from_ring.push(reader::replay(&address, last - ring, ring)?.rate());
    }
    let (single, vectored) = floor::stream(&frames, sent)?;
    let disk = median(&from_disk);
    Ok(Replay {
        frames_from_disk: seen,
        disk_frames_per_second_median: disk,
        disk_frames_per_second: from_disk,
        frames_from_ring: ring,
        ring_frames_per_second_median: median(&from_ring),
        ring_frames_per_second: from_ring,
        limit_frames_per_second: single,
        limit_frames_per_second_vectored: vectored,
        disk_share_of_limit: disk / single,
    })
}

/// A relay of its own that has heard of no host.
pub(super) fn connect(config: &Config, launch: &Launch, stop: &Stop) -> io::Result<Connect> {
    let network = Network::start(config)?;
    let mut relay = launch.start(&network, stop)?;
    let client = relay.client();
    let before = Usage::of(relay.pid())?;
    let prober = Prober::start(client.address())?;
    let start = Instant::now();
    cli::crawl(&network, &client, stop)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = Usage::of(relay.pid())?;
    let answers = prober.answers();
    drop(prober);
    let connected = network.hosts().iter().filter(|host| host.connected() > 0);
    let connected = connected.count();
    if connected < network.len() {
        let all = network.len();
        let message = format!("only {connected} of {all} hosts are connected");
        return Err(io::Error::other(message));
    }
    relay.stop()?;
    Ok(Connect {
        hosts: connected,
        seconds,
        cpu_seconds: (after.cpu - before.cpu).as_secs_f64(),
        health_probes: answers.asked,
        health_failed: answers.failed,
        health_p50_ms: answers.p50_ms,
        health_p99_ms: answers.p99_ms,
        health_max_ms: answers.slowest_ms,
        rss_bytes: after.rss,
    })
}

fn count(rate: u32, span: Duration) -> usize {
    (f64::from(rate) * span.as_secs_f64()).round() as usize
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
