//! Connections that all behave in one way, driven by one thread.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::super::{
    attack::{Attack, Seen, stand_back},
    field::Field,
};
use crate::threads::Stop;

/// A connection that the relay does not take in this time is tried again later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The receive buffer of who does not read: small, so that the relay notices soon.
const NARROW_BYTES: usize = 4 << 10;
/// Connections of one address.
const PER_ADDRESS: usize = 32;
/// What an answer begins with, up to its status.
const STATUS: &[u8] = b"HTTP/1.1 ";

/// How each connection of a crowd behaves.
pub(super) struct Manner {
    /// The name in the table.
    pub(super) name: &'static str,
    /// What it does, in one line.
    pub(super) about: &'static str,
    /// Connections at the same time.
    pub(super) clients: usize,
    /// Between two turns of one connection.
    pub(super) pause: Duration,
    /// Whether its receive buffer is small.
    pub(super) is_narrow: bool,
    /// What the connection of this number says first.
    pub(super) hello: fn(u64) -> Vec<u8>,
    /// What it does when its turn comes; an error ends it, and another one takes its place.
    pub(super) turn: fn(&mut Client) -> io::Result<()>,
    /// Every status that it may be answered.
    pub(super) statuses: &'static [u16],
}

/// One connection.
pub(super) struct Client {
    socket: TcpStream,
    /// How many connections there were before it.
    pub(super) number: u64,
    /// Turns before this one.
    pub(super) turns: u64,
    statuses: BTreeMap<u16, u64>,
    /// What the relay has not taken yet.
    unsaid: Vec<u8>,
}

impl Client {
    /// Says as much of this as the relay takes now, and the rest later; while there is a rest, nothing more.
    pub(super) fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.unsaid.is_empty() {
            self.unsaid.extend_from_slice(bytes);
        }
        let said = later(self.socket.write(&self.unsaid))?;
        self.unsaid.drain(..said.unwrap_or(0));
        Ok(())
    }

    /// Reads so much at most; whether there was anything.
    pub(super) fn hear(&mut self, bytes: usize) -> io::Result<bool> {
        let mut buffer = vec![0; bytes];
        let Some(read) = later(self.socket.read(&mut buffer))? else {
            return Ok(false);
        };
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.count(&buffer[..read]);
        Ok(true)
    }

    /// Reads all that there is.
    pub(super) fn hear_all(&mut self) -> io::Result<()> {
        while self.hear(256 << 10)? {}
        Ok(())
    }

    /// Counts the answers that begin here. One that is cut at the edge of a read is not seen.
    fn count(&mut self, bytes: &[u8]) {
        for (at, _) in bytes
            .windows(STATUS.len())
            .enumerate()
            .filter(|(_, w)| *w == STATUS)
        {
            let digits = bytes.get(at + STATUS.len()..at + STATUS.len() + 3);
            let status = digits.and_then(|d| std::str::from_utf8(d).ok()?.parse().ok());
            if let Some(status) = status {
                *self.statuses.entry(status).or_default() += 1;
            }
        }
    }
}

/// What would have to be waited for is nothing.
fn later(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An attack of such connections.
pub(super) struct Crowd {
    manner: Manner,
    /// Connections that were made, and that have ended before the attack was over.
    made: u64,
    ended: u64,
    /// Attempts to connect that failed.
    unheard: u64,
    statuses: BTreeMap<u16, u64>,
    panics: f64,
}

impl Crowd {
    pub(super) fn new(manner: Manner) -> Crowd {
        Crowd {
            manner,
            made: 0,
            ended: 0,
            unheard: 0,
            statuses: BTreeMap::new(),
            panics: 0.0,
        }
    }

    fn connect(&mut self, relay: SocketAddr) -> io::Result<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if relay.ip().is_loopback() {
            let index = self.made as usize % self.manner.clients / PER_ADDRESS;
            let source = Ipv4Addr::new(127, 9, (index / 250) as u8, (1 + index % 250) as u8);
            socket.bind(&SocketAddrV4::new(source, 0).into())?;
        }
        if self.manner.is_narrow {
            socket.set_recv_buffer_size(NARROW_BYTES)?;
        }
        socket.connect_timeout(&relay.into(), CONNECT_TIMEOUT)?;
        socket.set_nonblocking(true)?;
        let mut client = Client {
            socket: socket.into(),
            number: self.made,
            turns: 0,
            statuses: BTreeMap::new(),
            unsaid: Vec::new(),
        };
        self.made += 1;
        client.say(&(self.manner.hello)(client.number))?;
        Ok(client)
    }

    /// One connection's turn.
    fn turn(&mut self, place: &mut Option<Client>, relay: SocketAddr) {
        let Some(client) = place else {
            match self.connect(relay) {
                Ok(client) => *place = Some(client),
                Err(_) => self.unheard += 1,
            }
            return;
        };
        let went_on = (self.manner.turn)(client);
        client.turns += 1;
        for (status, count) in std::mem::take(&mut client.statuses) {
            *self.statuses.entry(status).or_default() += count;
        }
        if went_on.is_err() {
            self.ended += 1;
            *place = None;
        }
    }
}

impl Attack for Crowd {
    fn name(&self) -> &'static str {
        self.manner.name
    }

    fn about(&self) -> &'static str {
        self.manner.about
    }

    fn prepare(&mut self, field: &Field) -> io::Result<()> {
        self.panics = panics(field)?;
        Ok(())
    }

    fn run(&mut self, field: &Field, stop: &Stop) -> io::Result<()> {
        stand_back()?;
        let relay = address(field)?;
        let mut places: Vec<Option<Client>> = (0..self.manner.clients).map(|_| None).collect();
        while !stop.requested() {
            for place in &mut places {
                if stop.requested() {
                    break;
                }
                self.turn(place, relay);
            }
            stop.wait(self.manner.pause);
        }
        Ok(())
    }

    fn seen(&mut self, field: &Field) -> io::Result<Seen> {
        let answers = self.statuses.iter();
        let answers: Vec<String> = answers.map(|(s, n)| format!("{n} × {s}")).collect();
        let mut words = format!("{} connections, {} ended", self.made, self.ended);
        if !answers.is_empty() {
            words.push_str(&format!("; {}", answers.join(", ")));
        }
        if self.unheard > 0 {
            words.push_str(&format!("; {} attempts failed", self.unheard));
        }
        let strange = self
            .statuses
            .keys()
            .find(|s| !self.manner.statuses.contains(s));
        let amiss = match strange {
            Some(status) => Some(format!("an answer {status}")),
            None if panics(field)? > self.panics => Some("a panic".to_owned()),
            None => None,
        };
        Ok(Seen { words, amiss })
    }
}

/// Panics that the relay has survived.
pub(super) fn panics(field: &Field) -> io::Result<f64> {
    Ok(field.metric("relay_panics_total")?.unwrap_or_default())
}

/// Where the relay's public port is.
fn address(field: &Field) -> io::Result<SocketAddr> {
    let address = field.client.address();
    let mut addresses = address.to_socket_addrs()?;
    addresses
        .find(SocketAddr::is_ipv4)
        .ok_or_else(|| io::Error::other(format!("{address} has no IPv4 address")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_are_counted_by_their_status() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = listener.local_addr().unwrap();
        let mut crowd = Crowd::new(Manner {
            name: "test",
            about: "for a test",
            clients: 1,
            pause: Duration::ZERO,
            is_narrow: true,
            hello: |number| format!("hello {number}").into_bytes(),
            turn: |client| client.hear_all(),
            statuses: &[],
        });
        let mut place = None;
        crowd.turn(&mut place, relay);
        let (mut peer, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), Ipv4Addr::new(127, 9, 0, 1));
        let mut hello = [0; 7];
        peer.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello 0");
        peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 429 Too")
            .unwrap();
        drop(peer);
        while place.is_some() {
            crowd.turn(&mut place, relay);
        }
        assert_eq!(crowd.statuses, BTreeMap::from([(200, 1), (429, 1)]));
        assert_eq!((crowd.made, crowd.ended, crowd.unheard), (1, 1, 0));
    }
}
