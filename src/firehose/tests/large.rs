//! Frames that are larger than a page.

use std::{io::Read, thread};

use super::*;
use crate::{atproto::cbor::Writer, store::Takedown};

/// Of a large frame: more than a connection takes of whoever does not read.
const LARGE: usize = 6 << 20;

/// More than a small frame of these tests has.
const SMALL: usize = 1_000;

/// Frames from seq 1 on, of these lengths, by this account.
fn frames(lens: &[usize], of: &str) -> Vec<Frame> {
    let frame = |(seq, len): (u64, &usize)| {
        let mut out = Writer::new();
        out.map(2).text("t").text("#commit").text("op").int(1);
        out.map(2).text("repo").text(of);
        out.text("blocks").bytes(&vec![seq as u8; *len]);
        let seq = Seq::new(seq).unwrap();
        let bytes = ws_message(&[&out.into_bytes()]);
        Frame { seq, bytes }
    };
    (1..).zip(lens).map(frame).collect()
}

/// A relay whose ring holds nothing that anybody here asks for, with room for large frames of so many bytes.
fn relay(large_bytes_max: usize) -> Relay {
    let mut settings = settings();
    settings.ring_bytes_max = 1;
    settings.page_bytes_max = 20_000;
    settings.large_bytes_max = large_bytes_max;
    Relay::new(settings)
}

impl Relay {
    /// Waits until all subscribers wait for their sockets in the middle of a large frame: nothing more is sent to
    /// anybody, for a second, in which one may be read from the disk of a busy machine.
    fn wait_for_silence(&self, subscribers: usize) {
        let sent = || -> Vec<u64> {
            let subscribers = self.firehose.subscribers();
            subscribers
                .iter()
                .map(|subscriber| subscriber.bytes)
                .collect()
        };
        wait_until("nothing is sent any more", || {
            let before = sent();
            let has_begun =
                before.len() == subscribers && before.iter().all(|bytes| *bytes > SMALL as u64);
            has_begun
                && (0..5).all(|_| {
                    thread::sleep(Duration::from_millis(200));
                    sent() == before
                })
        });
    }

    fn large_bytes(&self) -> u64 {
        self.metrics().large_frames_bytes.get()
    }
}

#[test]
fn whoever_does_not_read_holds_no_large_frame_that_is_not_kept_for_all() {
    const SUBSCRIBERS: usize = 8;
    let lens: Vec<usize> = (0..10).flat_map(|n| [LARGE + n, 100, 30_000]).collect();
    let frames = frames(&lens, "did:web:a.test");
    // No room; room for two; room for all.
    for room in [0, 2 * LARGE + 1_000, usize::MAX] {
        let relay = relay(room);
        relay.emit_frames(&frames);
        let mut clients: Vec<_> = (0..SUBSCRIBERS)
            .map(|n| relay.connect(Some(&(3 * n).to_string())))
            .collect();
        relay.wait_for_silence(SUBSCRIBERS);
        // Those who wait have none.
        let turns =
            (0..limits::LARGE_FRAME_TURNS).map(|_| relay.firehose.large.turn(Duration::ZERO));
        let turns: Vec<_> = turns.map(Option::unwrap).collect();
        let kept = relay.large_bytes() as usize / LARGE;
        let expected = (room / LARGE).min(SUBSCRIBERS);
        assert_eq!(kept, expected, "{room}");
        // A word comes after the frame that was begun.
        let ping = Message::Ping(Bytes::from_static(b"now"));
        clients[0].0.send(ping).unwrap();
        drop(turns);
        thread::scope(|scope| {
            for (n, client) in clients.iter_mut().enumerate() {
                let expected = &frames[3 * n..];
                scope.spawn(move || client.expect_frames(expected));
            }
        });
        assert!(relay.large_bytes() <= room as u64);
        drop(clients);
        wait_until("all have gone", || relay.firehose.subscribers().is_empty());
        assert_eq!(relay.large_bytes(), 0);
    }
}

#[test]
fn who_sends_the_same_large_frame_shares_it() {
    let relay = relay(usize::MAX);
    let frames = frames(&[LARGE, 100], "did:web:a.test");
    relay.emit_frames(&frames);
    let mut clients = [(); 5].map(|()| relay.connect(Some("0")));
    relay.wait_for_silence(clients.len());
    assert_eq!(relay.large_bytes(), frames[0].bytes.len() as u64);
    for client in &mut clients {
        client.expect_frames(&frames);
    }
}

/// There is no way to say a word in the middle of a frame.
#[test]
fn a_large_frame_that_leaves_the_window_while_it_is_sent_ends_the_connection() {
    let relay = relay(0);
    let frames = frames(&[LARGE, 100], "did:web:a.test");
    relay.emit_frames(&frames);
    let mut client = relay.connect(Some("0"));
    relay.wait_for_silence(1);
    relay.store.prune(2_000, None).unwrap();
    let mut rest = Vec::new();
    client.0.get_mut().read_to_end(&mut rest).unwrap();
    assert!(!rest.is_empty() && rest.len() < LARGE, "{}", rest.len());
    assert!(frames[0].bytes.starts_with(&rest));
    assert_eq!(relay.metrics().subscribers_left.get(Leave::TooSlow), 1);
}

#[test]
fn a_large_frame_is_hidden_unless_it_was_begun() {
    let relay = relay(0);
    let frames = frames(&[100, LARGE, LARGE, 100], "did:web:a.test");
    relay.emit_frames(&frames);
    let mut client = relay.connect(Some("0"));
    relay.wait_for_silence(1);
    let did = Did::parse("did:web:a.test").unwrap();
    let takedown = Takedown { seq: 5, at_ms: 7 };
    relay.firehose.hide(vec![(did.clone(), Some(takedown))]);
    client.expect_frames(&frames[..2]);
    for seq in 3..=4 {
        let seq = Seq::new(seq).unwrap();
        let status = crate::store::account::Status::inactive("takendown");
        let bytes = frame::account(seq, &did, 7, &status);
        client.expect_frames(&[Frame { seq, bytes }]);
    }
}

#[test]
fn who_waits_for_a_turn_is_not_too_slow() {
    let mut settings = settings();
    settings.ring_bytes_max = 1;
    settings.page_bytes_max = 20_000;
    settings.large_bytes_max = 0;
    settings.timing.stall_max = Duration::from_millis(300);
    let relay = Relay::new(settings);
    let frames = frames(&[LARGE, 100], "did:web:a.test");
    relay.emit_frames(&frames);
    let turns: Vec<_> = (0..limits::LARGE_FRAME_TURNS)
        .map(|_| relay.firehose.large.turn(Duration::ZERO).unwrap())
        .collect();
    let _client = relay.connect(Some("0"));
    wait_until("it has come", || relay.firehose.subscribers().len() == 1);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(relay.metrics().bytes_sent.get(), 0);
    assert_eq!(relay.metrics().subscribers_left.get(Leave::TooSlow), 0);
    drop(turns);
    // How fast a client reads is not looked at here: on a busy machine it may well be too slow from now on.
    wait_until("it is sent", || relay.metrics().bytes_sent.get() > 0);
}
