//! What the machine can do at best, measured in the same run as the relay, so that the relay's
//! numbers can be read as shares of it on any machine.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::time::{ClockId, clock_gettime};

use super::{corpus::Sample, reader};
use crate::{
    firehose::frame,
    sim::sink::Sinks,
    threads::{self, Role},
};

/// How long each limit is measured, about.
const SPAN: Duration = Duration::from_millis(1_500);
/// The stack of a thread that reads what a loop writes, in bytes.
const STACK_BYTES: usize = 512 << 10;
/// Frames of one vectored write.
const VECTOR_FRAMES: usize = 64;

/// The processor time of the calling thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(now.tv_sec.unsigned_abs());
    seconds + Duration::from_nanos(now.tv_nsec.unsigned_abs())
}

/// Commits whose blocks are hashed and whose signature is verified, a second of one core: nobody
/// who proves them can do less.
pub(super) fn proofs(samples: &[Sample]) -> f64 {
    let (start, mut done) = (cpu(), 0u64);
    while cpu() - start < SPAN && !samples.is_empty() {
        for sample in samples {
            let mut hashed = 0u8;
            for block in &sample.blocks {
                hashed ^= digest(&SHA256, &block.bytes).as_ref()[0];
            }
            std::hint::black_box(hashed);
            let good = sample.key.verify(&sample.unsigned, &sample.signature);
            assert!(good.is_ok(), "the simulator signs as it must");
            done += 1;
        }
    }
    per_second(done, cpu() - start)
}

/// The websocket frames of the samples.
pub(super) fn frames(samples: &[Sample]) -> Vec<Vec<u8>> {
    let frame = |sample: &Sample| {
        let (header, used) = frame::ws_header(sample.frame.len());
        [&header[..used], &sample.frame].concat()
    };
    samples.iter().map(frame).collect()
}

/// Microseconds of processor time for one frame to one socket, where each of `sockets` gets every
/// frame by a `write` of its own.
pub(super) fn fan_out(frames: &[Vec<u8>], sockets: usize) -> io::Result<f64> {
    let mut writers = Vec::with_capacity(sockets);
    let mut readers = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let (writer, reader) = pair()?;
        writers.push(writer);
        readers.push(reader);
    }
    let sinks = Sinks::of(readers)?;
    let (start, began, mut written) = (cpu(), Instant::now(), 0u64);
    'all: loop {
        for frame in frames {
            for writer in &mut writers {
                writer.write_all(frame)?;
            }
            written += sockets as u64;
            if began.elapsed() > SPAN {
                break 'all;
            }
        }
    }
    let used = cpu() - start;
    drop(sinks);
    Ok(used.as_secs_f64() * 1e6 / written.max(1) as f64)
}

/// Frames a second that a bare loop brings to one socket which is read like a replay: each by a
/// `write` of its own, and many by one vectored write.
pub(super) fn stream(frames: &[Vec<u8>], count: u64) -> io::Result<(f64, f64)> {
    let single = race(frames, count, |socket, frames| {
        frames.iter().try_for_each(|frame| socket.write_all(frame))
    })?;
    let vectored = race(frames, count, |socket, frames| {
        for chunk in frames.chunks(VECTOR_FRAMES) {
            let mut slices: Vec<IoSlice<'_>> = chunk.iter().map(|f| IoSlice::new(f)).collect();
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                let written = socket.write_vectored(rest)?;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    })?;
    Ok((single, vectored))
}

fn race(
    frames: &[Vec<u8>],
    count: u64,
    mut write: impl FnMut(&mut TcpStream, &[Vec<u8>]) -> io::Result<()>,
) -> io::Result<f64> {
    let (mut writer, mut reader) = pair()?;
    let start = Instant::now();
    let (done, result) = crossbeam_channel::bounded(1);
    let thread = threads::spawn(Role::Simulator, "count", STACK_BYTES, move || {
        let _ = done.send(reader::count(&mut reader, &[], count, start));
    })?;
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    while left > 0 && !frames.is_empty() {
        let part = &frames[..left.min(frames.len())];
        write(&mut writer, part)?;
        left -= part.len();
    }
    let run = result.recv().map_err(io::Error::other)??;
    drop(thread);
    Ok(run.rate())
}

/// Batches a second of `bytes` each, appended to a file of `directory`: with each on the disk
/// before the next, and without.
pub(super) fn appends(directory: &Path, bytes: usize) -> io::Result<(f64, f64)> {
    let path = directory.join("appends");
    let mut batch = vec![0; bytes];
    fastrand::Rng::with_seed(1).fill(&mut batch);
    let rate = |sync: bool| -> io::Result<f64> {
        let mut file = File::create(&path)?;
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < SPAN / 2 {
            file.write_all(&batch)?;
            if sync {
                file.sync_data()?;
            }
            done += 1;
        }
        Ok(per_second(done, start.elapsed()))
    };
    let rates = (rate(true)?, rate(false)?);
    std::fs::remove_file(&path)?;
    Ok(rates)
}

/// Two ends of a connection on loopback.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let writer = TcpStream::connect(listener.local_addr()?)?;
    let (reader, _) = listener.accept()?;
    writer.set_nodelay(true)?;
    Ok((writer, reader))
}

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}
