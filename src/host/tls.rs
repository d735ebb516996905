//! TLS of a host's connection, over a room for records that it has only while records arrive.
//!
//! A client of rustls that keeps its own buffers has one of at least four kilobytes for each connection, and lets it
//! grow and shrink with every larger record: with thousands of connections that is not only the sum of them, the
//! allocator also can give back ever less of what lies between (docs/memory.md).

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
    },
};

use super::pool::{Borrowed, Pool};
use crate::limits::{TLS_HANDSHAKE_BYTES_MAX, TLS_RECORD_BYTES_MAX, TLS_WRITE_BYTES_MAX};

/// What TLS runs over.
pub(super) trait Transport: Read + Write {
    /// Waits until a read brings something, or says that there is no more; as long as a read would.
    fn wait(&mut self) -> io::Result<()>;
}

/// Where records of one connection are on their way.
#[derive(Default)]
pub(super) struct Room {
    /// Records as they came, up to `filled`; whatever beyond.
    records: Vec<u8>,
    filled: usize,
    /// What was in records, and nobody has asked for yet, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
}

impl Room {
    fn is_empty(&self) -> bool {
        self.filled == 0 && self.taken == self.plain.len()
    }

    /// Leaves nothing in it, and no more room than a record needs.
    fn clear(&mut self) {
        self.filled = 0;
        self.plain.clear();
        self.taken = 0;
        self.records.truncate(TLS_RECORD_BYTES_MAX);
        self.records.shrink_to_fit();
    }

    fn discard(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.records.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Where more of the records belongs.
    fn spare(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.records.len() {
            // A message of the handshake may be in many records, which stay until it is whole.
            let len = match self.records.len() {
                len if len < TLS_RECORD_BYTES_MAX => TLS_RECORD_BYTES_MAX,
                len if len < TLS_HANDSHAKE_BYTES_MAX => TLS_HANDSHAKE_BYTES_MAX,
                _ => return Err(invalid("a message of the handshake is too large")),
            };
            self.records.reserve_exact(len - self.filled);
            self.records.resize(len, 0);
        }
        Ok(&mut self.records[self.filled..])
    }

    /// Gives what nobody has asked for so far.
    fn give(&mut self, sink: &mut Sink<'_>) {
        self.taken += sink.put(&self.plain[self.taken..]);
        if self.taken == self.plain.len() {
            self.plain.clear();
            self.taken = 0;
        }
    }
}

/// Where the caller wants what was in the records.
struct Sink<'a> {
    buffer: &'a mut [u8],
    count: usize,
}

impl Sink<'_> {
    fn none() -> Sink<'static> {
        Sink {
            buffer: &mut [],
            count: 0,
        }
    }

    /// Whether something was asked for, and all of it is there.
    fn is_full(&self) -> bool {
        !self.buffer.is_empty() && self.count == self.buffer.len()
    }

    /// How many of these bytes have found room.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let room = &mut self.buffer[self.count..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.count += count;
        count
    }
}

/// How far a connection has come with the records that are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reached {
    /// The caller's room is full.
    Full,
    /// What was to be sent is sent.
    Sent,
    /// All records were taken in, and the handshake is not done.
    Handshake,
    /// All records were taken in.
    Idle,
    /// The host sends no more.
    Closed,
}

/// The stream of a host that TLS protects.
pub(super) struct TlsStream<T> {
    connection: UnbufferedClientConnection,
    transport: T,
    room: Option<Borrowed<Room, Arc<Pool<Room>>>>,
    pool: Arc<Pool<Room>>,
    is_closed: bool,
    /// What was wrong behind what is read first.
    failed: Option<io::Error>,
    /// A write was cut short, or a record was wrong: none can follow.
    is_torn: bool,
}

impl<T: Transport> TlsStream<T> {
    /// Does the handshake with a host of this name.
    pub(super) fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        transport: T,
        pool: &Arc<Pool<Room>>,
    ) -> io::Result<TlsStream<T>> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        let mut stream = TlsStream {
            connection,
            transport,
            room: None,
            pool: Arc::clone(pool),
            is_closed: false,
            failed: None,
            is_torn: false,
        };
        loop {
            match stream.advance(&mut Sink::none(), None)? {
                Reached::Handshake => stream.receive()?,
                Reached::Closed => return Err(unexpected_end()),
                Reached::Idle | Reached::Sent => break,
                Reached::Full => {}
            }
        }
        stream.settle();
        Ok(stream)
    }

    /// What it runs over.
    pub(super) fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    fn receive(&mut self) -> io::Result<()> {
        if self.room.is_none() {
            self.transport.wait()?;
        }
        let room = room(&mut self.room, &self.pool);
        match self.transport.read(room.spare()?) {
            Ok(0) => Err(unexpected_end()),
            Ok(count) => {
                room.filled += count;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the room back where nothing is in it.
    fn settle(&mut self) {
        if let Some(mut room) = self.room.take_if(|room| room.is_empty()) {
            room.clear();
        }
    }

    /// Takes in the records that are there, until the sink is full; and sends what the protocol wants to be sent, and
    /// then `to_send`.
    fn advance(&mut self, sink: &mut Sink<'_>, to_send: Option<&[u8]>) -> io::Result<Reached> {
        let room = room(&mut self.room, &self.pool);
        let mut outgoing = Outgoing {
            transport: &mut self.transport,
            bytes: Vec::new(),
            is_torn: &mut self.is_torn,
        };
        loop {
            let records = &mut room.records[..room.filled];
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(records);
            let reached = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        let count = sink.put(record.payload);
                        room.plain.extend_from_slice(&record.payload[count..]);
                    }
                    sink.is_full().then_some(Reached::Full)
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    outgoing.encode(&mut data)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    outgoing.transmit()?;
                    data.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Reached::Handshake),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => match to_send {
                    None => Some(Reached::Idle),
                    Some(plain) => {
                        outgoing.encrypt(&mut traffic, plain)?;
                        outgoing.transmit()?;
                        Some(Reached::Sent)
                    }
                },
                Ok(ConnectionState::PeerClosed) => {
                    self.is_closed = true;
                    // It may still be written to.
                    to_send.is_none().then_some(Reached::Closed)
                }
                // No data is ever early for a client; and what is not known yet ends it.
                Ok(_) => {
                    self.is_closed = true;
                    Some(Reached::Closed)
                }
                Err(error) => {
                    room.discard(discard);
                    // Whether the host hears why is its own affair.
                    let records = &mut room.records[..room.filled];
                    let _ = last_words(&mut self.connection, records, &mut outgoing);
                    (self.is_closed, self.is_torn) = (true, true);
                    return Err(invalid(error));
                }
            };
            room.discard(discard);
            if let Some(reached) = reached {
                // It may be full before the connection asks for what it has encoded.
                outgoing.transmit()?;
                return Ok(reached);
            }
        }
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut sink = Sink { buffer, count: 0 };
        loop {
            if let Some(room) = &mut self.room {
                room.give(&mut sink);
                if !sink.is_full() && !self.is_closed {
                    let advanced = self.advance(&mut sink, None);
                    self.failed = advanced.err().map(not_later);
                }
            }
            if sink.count > 0 {
                return Ok(sink.count);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.is_closed {
                return Ok(0);
            }
            self.settle();
            self.receive()?;
        }
    }
}

impl<T: Transport> Read for TlsStream<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.read_on(buffer);
        self.settle();
        result
    }
}

impl<T: Transport> Write for TlsStream<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.is_torn {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let part = &buffer[..buffer.len().min(TLS_WRITE_BYTES_MAX)];
        let result = self.advance(&mut Sink::none(), Some(part));
        self.settle();
        match result? {
            Reached::Sent => Ok(part.len()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.transport.flush()
    }
}

/// The room of a connection, borrowed where it has none.
fn room<'a>(
    room: &'a mut Option<Borrowed<Room, Arc<Pool<Room>>>>,
    pool: &Arc<Pool<Room>>,
) -> &'a mut Room {
    room.get_or_insert_with(|| {
        let mut room = Borrowed::from(Arc::clone(pool));
        // Whoever had it may have gone in the middle of a record.
        room.clear();
        room
    })
}

/// How much room is needed; or that no room is enough.
struct TooLittle(io::Result<usize>);

/// Records on their way out.
struct Outgoing<'a, T> {
    transport: &'a mut T,
    bytes: Vec<u8>,
    is_torn: &'a mut bool,
}

impl<T: Write> Outgoing<'_, T> {
    /// Adds what `write` writes; it says how much room it needs where there is too little.
    fn add(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, TooLittle>,
    ) -> io::Result<()> {
        let len = self.bytes.len();
        loop {
            match write(&mut self.bytes[len..]) {
                Ok(count) => {
                    self.bytes.truncate(len + count);
                    return Ok(());
                }
                Err(TooLittle(needed)) => self.bytes.resize(len + needed?, 0),
            }
        }
    }

    fn encode<D>(&mut self, data: &mut EncodeTlsData<'_, D>) -> io::Result<()> {
        self.add(|bytes| {
            data.encode(bytes).map_err(|error| match error {
                EncodeError::InsufficientSize(size) => TooLittle(Ok(size.required_size)),
                error => TooLittle(Err(invalid(error))),
            })
        })
    }

    fn encrypt<D>(&mut self, traffic: &mut WriteTraffic<'_, D>, plain: &[u8]) -> io::Result<()> {
        self.add(|bytes| {
            traffic.encrypt(plain, bytes).map_err(|error| match error {
                EncryptError::InsufficientSize(size) => TooLittle(Ok(size.required_size)),
                error => TooLittle(Err(invalid(error))),
            })
        })
    }

    fn transmit(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let sent = self
            .transport
            .write_all(&self.bytes)
            .and_then(|()| self.transport.flush());
        *self.is_torn |= sent.is_err();
        self.bytes.clear();
        sent
    }
}

/// Tells the other side what was wrong, directly after an error. The connection is of no use after that.
fn last_words<T: Write>(
    connection: &mut UnbufferedClientConnection,
    records: &mut [u8],
    outgoing: &mut Outgoing<'_, T>,
) -> io::Result<()> {
    // Only once: it would stumble over the same record again.
    let UnbufferedStatus { state, .. } = connection.process_tls_records(records);
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = state {
        outgoing.encode(&mut data)?;
    }
    outgoing.transmit()
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn unexpected_end() -> io::Error {
    let why = "the connection ended without the end of TLS";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// Of a write that happened while reading: that nothing could be written does not mean that there is nothing to read.
fn not_later(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::other("the host does not read")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests;
