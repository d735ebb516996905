//! Hosts that do not let a connection be made, or do so again and again.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Behaviour, HostAttack, Place, wire::Wire};
use crate::sim::event::Event;

/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(500);
/// Events that a host says one at a time.
const EVENTS: usize = 500;

pub(super) fn all() -> Vec<HostAttack> {
    let cut = &["closed", "broke", "without a closing handshake"];
    let not_connected = &[
        "no answer in time",
        "closed",
        "broke",
        "without a closing handshake",
    ];
    vec![
        HostAttack::new(
            "stall-tls",
            "TLS handshakes that hang after the connection is made",
            not_connected,
            |_| Ok(Box::new(StallTls)),
        )
        .with_tls(),
        HostAttack::new(
            "drip-upgrade",
            "an answer to the websocket's handshake that comes a byte at a time",
            not_connected,
            |_| Ok(Box::new(DripUpgrade)),
        ),
        HostAttack::new(
            "reconnect",
            "connections that are closed as soon as they are made",
            cut,
            |_| {
                Ok(Box::new(Brief {
                    events: Vec::new(),
                    seq: AtomicU64::new(0),
                }))
            },
        ),
        HostAttack::new(
            "reconnect-event",
            "the same after one valid event, which makes each of them a success",
            cut,
            |place| {
                Ok(Box::new(Brief {
                    events: events(place),
                    seq: AtomicU64::new(0),
                }))
            },
        ),
    ]
}

fn events(place: &Place<'_>) -> Vec<Event> {
    let mut account = place.accounts(1).remove(0);
    let next = |_| {
        let post = account.post("hello, and goodbye");
        account.commit(&[post])
    };
    (0..EVENTS).map(next).collect()
}

/// Everything is well until the attack begins: then its connections are cut, and no further one
/// gets through its handshake.
struct StallTls;

impl Behaviour for StallTls {
    fn speak(&self, wire: &mut Wire, _cursor: Option<u64>) -> io::Result<()> {
        wire.cut();
        Ok(())
    }

    fn stalls_tls(&self) -> bool {
        true
    }
}

/// The same where it is the websocket's handshake that takes for ever.
struct DripUpgrade;

impl Behaviour for DripUpgrade {
    fn speak(&self, wire: &mut Wire, _cursor: Option<u64>) -> io::Result<()> {
        wire.cut();
        Ok(())
    }

    fn answer(&self, wire: &mut Wire, answer: &[u8]) -> io::Result<bool> {
        for byte in answer {
            wire.send(std::slice::from_ref(byte))?;
            wire.pause(DRIP)?;
        }
        Ok(true)
    }
}

/// One event at most, and the end.
struct Brief {
    events: Vec<Event>,
    seq: AtomicU64,
}

impl Behaviour for Brief {
    fn speak(&self, wire: &mut Wire, cursor: Option<u64>) -> io::Result<()> {
        const SHORTLY: Duration = Duration::from_millis(20);
        self.seq
            .fetch_max(cursor.unwrap_or_default(), Ordering::Relaxed);
        let seq = self.seq.load(Ordering::Relaxed);
        if let Some(event) = self.events.get(seq as usize) {
            wire.message(&event.frame(seq + 1))?;
            // What is not read yet would be lost with the connection.
            wire.pause(SHORTLY)?;
        }
        wire.cut();
        Ok(())
    }
}
