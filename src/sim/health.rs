//! Does the relay answer while it is busy? Asked as a load balancer asks: a new connection each time.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::workers::Workers;

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(20);
/// Longer than this is no answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The stack of the thread that asks, in bytes.
const STACK_BYTES: usize = 128 << 10;

/// How it answered.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize)]
pub(super) struct Answers {
    pub(super) asked: u64,
    /// No answer in time, or another one than 200.
    pub(super) failed: u64,
    /// The slowest answer, in milliseconds.
    pub(super) slowest_ms: f64,
    /// The median, and what 99 of 100 answers took at most.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

#[derive(Default)]
struct Tally {
    failed: u64,
    /// How long each answer took.
    micros: Vec<u64>,
}

/// Asks until it is dropped.
pub(super) struct Prober {
    tally: Arc<Mutex<Tally>>,
    _workers: Workers,
}

impl Prober {
    /// Asks the relay at `address` (`host:port`) for its health.
    pub(super) fn start(address: &str) -> io::Result<Prober> {
        let relay = address.to_socket_addrs()?.find(SocketAddr::is_ipv4);
        let relay = relay.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let tally = Arc::<Mutex<Tally>>::default();
        let counts = tally.clone();
        let workers = Workers::one("health", STACK_BYTES, move |stop| {
            while !stop.wait(INTERVAL) {
                let began = Instant::now();
                let healthy = ask(relay).unwrap_or(false);
                let micros = began.elapsed().as_micros() as u64;
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                counts.failed += u64::from(!healthy);
                counts.micros.push(micros);
            }
        })?;
        Ok(Prober {
            tally,
            _workers: workers,
        })
    }

    /// How it answered so far.
    pub(super) fn answers(&self) -> Answers {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.micros.sort_unstable();
        let at = |percent: usize| {
            let index = tally.micros.len().saturating_sub(1) * percent / 100;
            tally
                .micros
                .get(index)
                .map_or(0.0, |micros| *micros as f64 / 1e3)
        };
        Answers {
            asked: tally.micros.len() as u64,
            failed: tally.failed,
            slowest_ms: at(100),
            p50_ms: at(50),
            p99_ms: at(99),
        }
    }
}

fn ask(relay: SocketAddr) -> io::Result<bool> {
    let mut socket = TcpStream::connect_timeout(&relay, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.write_all(b"GET /xrpc/_health HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    socket.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_are_counted_and_the_slowest_kept() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let prober = Prober::start(&listener.local_addr().unwrap().to_string()).unwrap();
        for answer in ["200 OK", "503 Busy", "200 OK"] {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 8];
            client.read_exact(&mut request).unwrap();
            let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
            client.write_all(answer.as_bytes()).unwrap();
        }
        drop(listener);
        let began = Instant::now();
        while prober.answers().asked < 3 && began.elapsed() < TIMEOUT {
            std::thread::sleep(Duration::from_millis(2));
        }
        let answers = prober.answers();
        assert!(answers.asked >= 3 && answers.failed >= 1);
        assert!(answers.failed <= answers.asked - 2 && answers.slowest_ms > 0.0);
    }
}
