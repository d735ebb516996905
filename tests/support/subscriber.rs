//! A plain websocket client of the firehose.

use std::{
    collections::{HashMap, VecDeque},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use tungstenite::{Error, Message, WebSocket, client};
use zlay::sim::{
    account::Account,
    event::{Digest, Event},
    wire,
};

use crate::site::{Relay, TIMEOUT};

/// A frame that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) did: String,
    pub(crate) kind: String,
    pub(crate) digest: Digest,
    /// What an `#account` says: `active`, and `status` where there is one.
    pub(crate) status: Option<(bool, Option<String>)>,
}

/// What came next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// An event.
    Event(Seen),
    /// An info or error frame: its op and its name.
    Note(i64, String),
    /// The close frame: its code.
    Close(u16),
}

/// A subscriber. Its sequence numbers must be contiguous.
pub(crate) struct Subscriber {
    websocket: WebSocket<TcpStream>,
    last: Option<u64>,
}

impl Subscriber {
    /// Subscribes with a cursor, which need not be one; status and body where it is refused.
    pub(crate) fn connect(
        relay: &Relay,
        cursor: Option<&str>,
    ) -> Result<Subscriber, (u16, String)> {
        let websocket = open(relay.public, cursor).map_err(|error| match error {
            Error::Http(response) => {
                let body = response.body().clone().unwrap_or_default();
                let body = String::from_utf8(body.to_vec()).unwrap();
                (response.status().as_u16(), body)
            }
            other => panic!("{other}"),
        })?;
        Ok(Subscriber {
            websocket,
            last: None,
        })
    }

    /// Subscribes from the oldest event on.
    pub(crate) fn from_the_beginning(relay: &Relay) -> Subscriber {
        Subscriber::connect(relay, Some("0")).unwrap()
    }

    /// Subscribes from what follows this seq.
    pub(crate) fn after(relay: &Relay, seq: u64) -> Subscriber {
        let mut subscriber = Subscriber::connect(relay, Some(&seq.to_string())).unwrap();
        subscriber.last = Some(seq);
        subscriber
    }

    /// Goes without a word. Who does not read is waited for when the relay ends.
    pub(crate) fn leave(&self) {
        let socket = self.websocket.get_ref();
        socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// The seq of the last event that came; 0: none did.
    pub(crate) fn last(&self) -> u64 {
        self.last.unwrap_or_default()
    }

    /// Waits for whatever comes next.
    pub(crate) fn next(&mut self) -> Next {
        // Pings come too, and must not count as something.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for the next frame");
            self.websocket
                .get_ref()
                .set_read_timeout(Some(left))
                .unwrap();
            match self.websocket.read().expect("a frame in time") {
                Message::Binary(bytes) => {
                    let next = read(&bytes);
                    if let Next::Event(seen) = &next {
                        if let Some(last) = self.last {
                            assert_eq!(seen.seq, last + 1, "the sequence is contiguous");
                        }
                        self.last = Some(seen.seq);
                    }
                    return next;
                }
                Message::Close(frame) => return Next::Close(frame.unwrap().code.into()),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for the next event.
    pub(crate) fn event(&mut self) -> Seen {
        match self.next() {
            Next::Event(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    /// The next event is an `#account` of this account that says this.
    pub(crate) fn told(&mut self, account: &Account, active: bool, status: Option<&str>) {
        let seen = self.event();
        assert_eq!((&*seen.did, &*seen.kind), (&**account.did(), "#account"));
        assert_eq!(seen.status, Some((active, status.map(str::to_owned))));
    }

    /// The next events are these and no others; those of one account are in this order.
    pub(crate) fn expect(&mut self, events: &[&Event]) {
        let mut awaited: HashMap<&str, VecDeque<&Event>> = HashMap::new();
        for event in events {
            awaited.entry(&event.did).or_default().push_back(event);
        }
        for n in 1..=events.len() {
            let seen = self.event();
            let next = awaited.get_mut(&*seen.did).and_then(VecDeque::pop_front);
            let is_it = next.is_some_and(|event| event.digest() == seen.digest);
            // The events themselves may be megabytes.
            let at = events
                .iter()
                .position(|event| event.digest() == seen.digest);
            assert!(
                is_it,
                "{n} of {}: {seen:?}, which is number {at:?}",
                events.len()
            );
        }
    }
}

/// Opens a subscription.
pub(crate) fn open(relay: SocketAddr, cursor: Option<&str>) -> Result<WebSocket<TcpStream>, Error> {
    let stream = TcpStream::connect(relay)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let query = cursor.map(|c| format!("?cursor={c}")).unwrap_or_default();
    let url = format!("ws://{relay}/xrpc/com.atproto.sync.subscribeRepos{query}");
    match client(url, stream) {
        Ok((websocket, _)) => Ok(websocket),
        Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
        Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("no answer in time"),
    }
}

/// Reads a binary message.
pub(crate) fn read(bytes: &[u8]) -> Next {
    let frame = wire::read(bytes).expect("a frame");
    match frame.seq {
        None => Next::Note(frame.op, frame.name.to_owned()),
        Some(seq) => Next::Event(Seen {
            seq,
            did: frame.did.to_owned(),
            kind: frame.t.to_owned(),
            digest: Digest::of(&bytes[..frame.seq_at.start], &bytes[frame.seq_at.end..]),
            status: frame
                .active
                .map(|active| (active, frame.status.map(str::to_owned))),
        }),
    }
}
