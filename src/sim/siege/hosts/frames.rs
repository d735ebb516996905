//! Hosts whose frames are large, slow, endless, or none.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Behaviour, HostAttack, Place,
    wire::{BINARY, CONTINUATION, FINAL, PING, RSV1, TEXT, Wire, frame, header},
};
use crate::{
    atproto::cbor::Writer,
    limits::{FRAME_BYTES_MAX, LARGE_EVENT_BYTES},
    sim::{clock, event},
};

/// What is left of a large message for everything but its filler, in bytes.
const FRAME_BYTES_REST: usize = 1_000;
/// Frames of one write, where they are small.
const BUNCH: usize = 1_000;
/// Bytes of a piece of a message that never ends.
const PIECE_BYTES: usize = 64;
/// Between two bytes of a host that drips.
const DRIP: Duration = Duration::from_secs(1);

pub(super) fn all() -> Vec<HostAttack> {
    let protocol = &["websocket: "];
    vec![
        HostAttack::new(
            "large-events",
            "valid events of 5 MB one after another, nearly all of it a field that nobody knows",
            &["received"],
            |place| Ok(Large::boxed(place, Filler::Bytes, FRAME_BYTES_MAX)),
        ),
        HostAttack::new(
            "quarter-megabytes",
            "valid events of 256 KiB, which a host may send more of, one after another",
            &["received"],
            |place| Ok(Large::boxed(place, Filler::Bytes, 256 << 10)),
        ),
        HostAttack::new(
            "half-large",
            "valid events as large as they may be to be written at once, one after another",
            &["received"],
            |place| Ok(Large::boxed(place, Filler::Bytes, LARGE_EVENT_BYTES)),
        ),
        HostAttack::new(
            "large-items",
            "the same, of millions of numbers that all have to be looked at",
            &["received"],
            |place| Ok(Large::boxed(place, Filler::Numbers, FRAME_BYTES_MAX)),
        ),
        HostAttack::new(
            "too-large",
            "messages that say they have 5,000,001 bytes, one in each connection",
            &["over 5,000,000 bytes"],
            |_| {
                let header = header(FINAL | BINARY, FRAME_BYTES_MAX as u64 + 1);
                Ok(Again::boxed(header, Rest::Read))
            },
        ),
        HostAttack::new(
            "compressed",
            "frames that are marked as compressed, though nobody agreed to that",
            protocol,
            |_| {
                Ok(Again::boxed(
                    frame(FINAL | RSV1 | BINARY, &bomb()),
                    Rest::Read,
                ))
            },
        ),
        HostAttack::new(
            "poison",
            "a message that is none, again after each reconnect",
            &["frame_malformed"],
            |_| Ok(Again::boxed(frame(FINAL | BINARY, &[0xff; 64]), Rest::Read)),
        ),
        HostAttack::new(
            "garbage",
            "messages that are none, as fast as they are taken",
            &["frame_malformed"],
            |_| {
                let bunch = frame(FINAL | BINARY, &[0xff; 64]).repeat(BUNCH);
                Ok(Again::boxed(bunch, Rest::Repeat))
            },
        ),
        HostAttack::new(
            "text",
            "text in place of messages, as fast as it is taken",
            &["frame_malformed"],
            |_| {
                Ok(Again::boxed(
                    frame(FINAL | TEXT, b"hello").repeat(BUNCH),
                    Rest::Repeat,
                ))
            },
        ),
        HostAttack::new(
            "drip",
            "a message of 5 MB, a byte a second",
            &["active"],
            |_| Ok(Box::new(Drip { in_pieces: false })),
        ),
        HostAttack::new(
            "drip-pieces",
            "the same in pieces of a byte, with pings between them",
            &["active"],
            |_| Ok(Box::new(Drip { in_pieces: true })),
        ),
        HostAttack::new(
            "endless-pieces",
            "messages in pieces that never end, as fast as they are taken",
            protocol,
            |_| Ok(Pieces::boxed(PIECE_BYTES)),
        ),
        HostAttack::new(
            "empty-pieces",
            "the same in pieces of nothing",
            protocol,
            |_| Ok(Pieces::boxed(0)),
        ),
        HostAttack::new(
            "pings",
            "pings, as fast as they are answered",
            &["pings and pongs"],
            |_| {
                Ok(Again::boxed(
                    frame(FINAL | PING, &[7; 125]).repeat(100),
                    Rest::Repeat,
                ))
            },
        ),
        HostAttack::new(
            "unknown",
            "messages of a kind that nobody knows, as fast as they are taken",
            &["events_per_second hit"],
            |_| {
                let bunch = frame(FINAL | BINARY, &message("#news", 1, |_| {})).repeat(BUNCH);
                Ok(Again::boxed(bunch, Rest::Repeat))
            },
        ),
        HostAttack::new(
            "errors",
            "an error message in each connection",
            &["sent the error"],
            |_| {
                let error = event::error("FutureCursor", "the cursor is from the future");
                Ok(Again::boxed(frame(FINAL | BINARY, &error), Rest::Close))
            },
        ),
    ]
}

/// A message of this kind about no account that there is, and what `more` adds to it.
fn message(t: &str, pairs: usize, more: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::append_to(event::header(t));
    out.map(pairs).text("text").text("of no interest");
    more(&mut out);
    out.into_bytes()
}

/// A few bytes that deflate made of many.
fn bomb() -> Vec<u8> {
    // Blocks of a fixed code: a zero, then lengths of 258 at distance 1, each 13 bits.
    let mut bytes = vec![0x62, 0x60, 0x18, 0x05];
    bytes.resize(4_096, 0);
    bytes
}

/// What fills a large message.
#[derive(Clone, Copy)]
enum Filler {
    Bytes,
    Numbers,
}

/// Valid events of one size.
struct Large {
    did: Arc<str>,
    filler: Filler,
    bytes: usize,
    seq: AtomicU64,
}

impl Large {
    fn boxed(place: &Place<'_>, filler: Filler, bytes: usize) -> Box<dyn Behaviour> {
        let account = place.accounts(1).remove(0);
        Box::new(Large {
            did: account.did().clone(),
            filler,
            bytes,
            seq: AtomicU64::new(0),
        })
    }

    /// An `#identity` with a field that nobody knows.
    fn event(&self, seq: u64) -> Vec<u8> {
        let mut out = Writer::append_to(event::header("#identity"));
        let count = self.bytes - FRAME_BYTES_REST;
        let zeros = vec![0; count];
        out.map(4).text("did").text(&self.did);
        out.text("seq").uint(seq);
        out.text("time").text(&clock::datetime(clock::micros()));
        out.text("filler");
        match self.filler {
            Filler::Bytes => out.bytes(&zeros),
            Filler::Numbers => out.array(count).raw(&zeros),
        };
        out.into_bytes()
    }
}

impl Behaviour for Large {
    fn speak(&self, wire: &mut Wire, cursor: Option<u64>) -> io::Result<()> {
        self.seq
            .fetch_max(cursor.unwrap_or_default(), Ordering::Relaxed);
        loop {
            let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
            wire.message(&self.event(seq))?;
        }
    }
}

/// What follows after the bytes.
#[derive(Clone, Copy)]
enum Rest {
    /// The same again, and whatever comes from the relay is read.
    Repeat,
    /// Nothing, until the relay ends the connection.
    Read,
    /// The end.
    Close,
}

/// The same bytes in every connection.
struct Again {
    bytes: Vec<u8>,
    rest: Rest,
}

impl Again {
    fn boxed(bytes: Vec<u8>, rest: Rest) -> Box<dyn Behaviour> {
        Box::new(Again { bytes, rest })
    }
}

impl Behaviour for Again {
    fn speak(&self, wire: &mut Wire, _cursor: Option<u64>) -> io::Result<()> {
        const LOOK: Duration = Duration::from_millis(5);
        wire.send(&self.bytes)?;
        loop {
            match self.rest {
                Rest::Repeat => wire.send(&self.bytes)?,
                Rest::Read => wire.pause(LOOK)?,
                Rest::Close => return Ok(()),
            }
            wire.discard()?;
        }
    }
}

/// A large message that takes its time.
struct Drip {
    in_pieces: bool,
}

impl Behaviour for Drip {
    fn speak(&self, wire: &mut Wire, _cursor: Option<u64>) -> io::Result<()> {
        if !self.in_pieces {
            wire.send(&header(FINAL | BINARY, FRAME_BYTES_MAX as u64))?;
        }
        let mut first = BINARY;
        loop {
            if self.in_pieces {
                wire.send(&frame(first, &[0]))?;
                wire.send(&frame(FINAL | PING, &[]))?;
                first = CONTINUATION;
            } else {
                wire.send(&[0])?;
            }
            wire.discard()?;
            wire.pause(DRIP)?;
        }
    }
}

/// A message that never ends.
struct Pieces {
    bunch: Vec<u8>,
}

impl Pieces {
    fn boxed(bytes: usize) -> Box<dyn Behaviour> {
        let bunch = frame(CONTINUATION, &vec![0; bytes]).repeat(BUNCH);
        Box::new(Pieces { bunch })
    }
}

impl Behaviour for Pieces {
    fn speak(&self, wire: &mut Wire, _cursor: Option<u64>) -> io::Result<()> {
        wire.send(&frame(BINARY, &[]))?;
        loop {
            wire.send(&self.bunch)?;
            wire.discard()?;
        }
    }
}
