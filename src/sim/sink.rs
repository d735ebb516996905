//! Subscribers that take the firehose and throw it away unread: load on a relay that costs next to
//! nothing here. One thread reads for all of them, and the kernel drops the bytes without copying.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    net::{RecvFlags, recv},
};
use socket2::{Domain, Socket, Type};

use super::listen::Waker;
use crate::threads::{self, Role, Thread};

/// The stack of the thread that reads, in bytes.
const STACK_BYTES: usize = 128 << 10;
/// Connecting, and every step of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The answer to the handshake, in bytes, at most.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes that one call throws away, at most.
const GULP_BYTES: usize = 1 << 20;
/// Between two signs of life: nobody here sees the relay's pings.
pub(super) const PONG_INTERVAL: Duration = Duration::from_secs(20);
/// A pong without a payload, masked (with zeros) as a client's frames are.
pub(super) const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
/// Source addresses on loopback that sinks take in turn: a relay counts subscribers by address.
const ADDRESSES: usize = 1_000;

/// Bytes and state of one sink.
#[derive(Default, Debug)]
struct Counter {
    bytes: AtomicU64,
    ended: AtomicBool,
}

/// Running sinks; dropping them closes their connections.
#[derive(Debug)]
pub struct Sinks {
    counters: Arc<[Counter]>,
    stop: Waker,
    thread: Option<Thread>,
}

impl Sinks {
    /// Subscribes `count` times to the relay at `address` (`host:port`, plain) with this cursor, or
    /// from now on. Where the relay listens on loopback, each sink has another source address.
    pub fn connect(address: &str, count: usize, cursor: Option<u64>) -> io::Result<Sinks> {
        let relay = address
            .to_socket_addrs()?
            .find(SocketAddr::is_ipv4)
            .ok_or_else(|| io::Error::other(format!("{address} has no IPv4 address")))?;
        let counters: Arc<[Counter]> = (0..count).map(|_| Counter::default()).collect();
        let mut sockets = Vec::with_capacity(count);
        for (i, counter) in counters.iter().enumerate() {
            let (socket, bytes) = subscribe(relay, address, i, cursor)?;
            counter.bytes.store(bytes as u64, Ordering::Relaxed);
            sockets.push(socket);
        }
        Sinks::start(sockets, counters)
    }

    /// Sinks of connections that are there already, such as those of a bare loop of writes.
    pub fn of(sockets: Vec<TcpStream>) -> io::Result<Sinks> {
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        let counters = sockets.iter().map(|_| Counter::default()).collect();
        Sinks::start(sockets, counters)
    }

    fn start(sockets: Vec<TcpStream>, counters: Arc<[Counter]>) -> io::Result<Sinks> {
        let stop = Waker::new()?;
        let reader = Reader::new(sockets, counters.clone(), stop.clone())?;
        let thread = threads::spawn(Role::Simulator, "sinks", STACK_BYTES, move || {
            if let Err(error) = reader.run() {
                log::error!("reading the firehose: {error}");
            }
        })?;
        Ok(Sinks {
            counters,
            stop,
            thread: Some(thread),
        })
    }

    /// Bytes that each sink has taken so far: websocket frames, without the handshake.
    pub fn bytes(&self) -> Vec<u64> {
        let load = |counter: &Counter| counter.bytes.load(Ordering::Relaxed);
        self.counters.iter().map(load).collect()
    }

    /// Bytes that all sinks together have taken so far.
    pub fn total(&self) -> u64 {
        self.bytes().iter().sum()
    }

    /// Sinks whose connection is still open.
    pub fn open(&self) -> usize {
        let ended = |counter: &&Counter| counter.ended.load(Ordering::Relaxed);
        self.counters.len() - self.counters.iter().filter(ended).count()
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.stop.wake();
        drop(self.thread.take());
    }
}

/// One subscription, and how many bytes came with the answer to the handshake.
pub(super) fn subscribe(
    relay: SocketAddr,
    name: &str,
    index: usize,
    cursor: Option<u64>,
) -> io::Result<(TcpStream, usize)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if relay.ip().is_loopback() {
        let index = index % ADDRESSES;
        let source = Ipv4Addr::new(127, 0, 1 + (index / 250) as u8, 1 + (index % 250) as u8);
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
    }
    socket.connect_timeout(&relay.into(), CONNECT_TIMEOUT)?;
    let mut socket: TcpStream = socket.into();
    socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    socket.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    let mut request = String::from("GET /xrpc/com.atproto.sync.subscribeRepos");
    if let Some(cursor) = cursor {
        let _ = write!(request, "?cursor={cursor}");
    }
    let _ = write!(
        request,
        " HTTP/1.1\r\nHost: {name}\r\nUser-Agent: zlay-sim/sink\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: c2lua3NpbmtzaW5rc2luaw==\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let leftover = read_head(&mut socket)?;
    socket.set_nonblocking(true)?;
    Ok((socket, leftover))
}

/// Reads the answer to the handshake; how many bytes of the stream came with it.
fn read_head(socket: &mut TcpStream) -> io::Result<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    loop {
        let mut chunk = [0; 2048];
        let n = match socket.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&chunk[..n]);
        if let Some(at) = head.windows(END.len()).position(|window| window == END) {
            if head.starts_with(b"HTTP/1.1 101 ") {
                return Ok(head.len() - at - END.len());
            }
            let answer = String::from_utf8_lossy(&head).replace("\r\n", " | ");
            return Err(io::Error::other(format!("no subscription: {answer}")));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("an endless answer to the handshake"));
        }
    }
}

struct Reader {
    queue: rustix::fd::OwnedFd,
    sockets: Vec<TcpStream>,
    counters: Arc<[Counter]>,
    /// Readable when the sinks are to end.
    _stop: Waker,
}

impl Reader {
    fn new(sockets: Vec<TcpStream>, counters: Arc<[Counter]>, stop: Waker) -> io::Result<Reader> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (i, socket) in sockets.iter().enumerate() {
            let data = epoll::EventData::new_u64(i as u64);
            epoll::add(&queue, socket, data, epoll::EventFlags::IN)?;
        }
        let data = epoll::EventData::new_u64(u64::MAX);
        epoll::add(&queue, stop.as_fd(), data, epoll::EventFlags::IN)?;
        Ok(Reader {
            queue,
            sockets,
            counters,
            _stop: stop,
        })
    }

    fn run(&self) -> io::Result<()> {
        // Never written to, so that it takes address space only.
        let mut nothing = vec![0; GULP_BYTES];
        let mut ready = Vec::with_capacity(256);
        let mut alive = Instant::now();
        loop {
            let left = PONG_INTERVAL.saturating_sub(alive.elapsed());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            ready.clear();
            match epoll::wait(&self.queue, spare_capacity(&mut ready), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &ready {
                let index = event.data.u64() as usize;
                let Some(socket) = self.sockets.get(index) else {
                    return Ok(());
                };
                self.swallow(socket, &self.counters[index], &mut nothing);
            }
            if alive.elapsed() >= PONG_INTERVAL {
                alive = Instant::now();
                for mut socket in &self.sockets {
                    // Whether it arrives shows in whether the relay goes on sending.
                    let _ = socket.write(&PONG);
                }
            }
        }
    }

    /// Throws away what has arrived, up to a bound, so that others get their turn.
    fn swallow(&self, socket: &TcpStream, counter: &Counter, nothing: &mut [u8]) {
        match recv(socket, nothing, RecvFlags::TRUNC) {
            Ok((0, _)) => {}
            Ok((n, _)) => {
                counter.bytes.fetch_add(n as u64, Ordering::Relaxed);
                return;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(error) => log::warn!("a sink's connection ended: {error}"),
        }
        counter.ended.store(true, Ordering::Relaxed);
        let _ = epoll::delete(&self.queue, socket);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Takes one client's handshake; its request.
    fn accept(listener: &TcpListener, answer: &[u8]) -> (TcpStream, SocketAddr, String) {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(answer).unwrap();
        (stream, peer, String::from_utf8(request).unwrap())
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(30), "it never came");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn every_byte_after_the_handshake_is_counted_and_thrown_away() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let mut clients = Vec::new();
            for _ in 0..2 {
                // Three bytes of the stream come with the answer.
                clients.push(accept(&listener, b"HTTP/1.1 101 Upgrade\r\n\r\nabc"));
            }
            clients
        });
        let sinks = Sinks::connect(&address, 2, Some(7)).unwrap();
        let mut clients = server.join().unwrap();
        assert_eq!(sinks.bytes(), [3, 3]);
        assert!(clients[0].2.contains("subscribeRepos?cursor=7 HTTP/1.1"));
        assert_ne!(clients[0].1.ip(), clients[1].1.ip());
        // Far more than fits into the buffers of a socket, so it only goes through where it is read.
        clients[0].0.write_all(&vec![7; 50 << 20]).unwrap();
        clients[1].0.write_all(b"12345").unwrap();
        wait_until(|| sinks.bytes() == [3 + (50 << 20), 8]);
        assert_eq!((sinks.open(), sinks.total()), (2, (50 << 20) + 11));
        drop(clients.remove(0));
        wait_until(|| sinks.open() == 1);
        drop(sinks);
        assert_eq!(clients[0].0.read(&mut [0; 8]).unwrap_or(0), 0);
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_relay() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            accept(&listener, b"HTTP/1.1 429 Too Many Requests\r\n\r\n");
        });
        let error = Sinks::connect(&address, 1, None).unwrap_err();
        server.join().unwrap();
        assert!(
            error.to_string().contains("429 Too Many Requests"),
            "{error}"
        );
    }
}
