//! Hosts that are up to no good: nothing of it is forwarded wrongly, the events of another host all
//! pass meanwhile, and the page of the host says what it did. How long others wait is measured by
//! `zlay-sim siege`; what of this is a rule of the protocol is in the conformance suite.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tungstenite::Bytes;
use zlay::{
    atproto::cbor::Writer,
    limits::{
        HOST_CONTROL_FRAMES_AN_HOUR_MAX, HOST_DIALS_MAX, HOST_EVENTS_A_SECOND_MAX,
        HOST_MESSAGE_PIECES_MAX, HOST_REDIALS_MAX,
    },
    reject::Reject,
    sim::{account::Account, event},
};

use crate::{
    scripted::{Future, Scripted},
    site::{Relay, Site, next_commit, wait_until},
    stage::Stage,
};

/// The largest seq that there is (<https://atproto.com/specs/event-stream#sequence-numbers>).
const SEQ_MAX: u64 = (1 << 53) - 1;

/// A host that behaves, one that does not, and an account of that.
fn siege() -> (Stage, Scripted, Account) {
    let mut site = Site::new(1);
    let variables = [
        ("RELAY_TRUSTED_DOMAINS", "*.example.com"),
        ("RELAY_NEW_HOSTS_PER_DAY_LIMIT", "1000"),
    ];
    let variables = variables.map(|(name, value)| (name, value.to_owned()));
    site.variables.extend(variables);
    let mut stage = Stage::on(site);
    let host = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&host.name()).0, 200);
    host.wait_until_asked(1);
    let account = host.account(&mut stage.site);
    (stage, host, account)
}

fn page_says(relay: &Relay, host: &Scripted, words: &str) {
    wait_until(words, || {
        let error = relay.of_host(&host.name(), "/last_error");
        error.as_str().is_some_and(|error| error.contains(words))
    });
}

fn count(relay: &Relay, host: &str, pointer: &str) -> u64 {
    let (_, page) = relay.host_page(host);
    page.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// A frame as a server sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    assert!(len < 126);
    [&[first, len], payload].concat()
}

/// Frames that no server may send, in every connection anew: marked as compressed, though the relay
/// offers no compression; a message in pieces of nothing that never ends; more pings than anybody needs.
#[test]
fn abuse_of_the_websocket_ends_the_connection_and_is_named() {
    let pieces = HOST_MESSAGE_PIECES_MAX as usize;
    let pings = HOST_CONTROL_FRAMES_AN_HOUR_MAX as usize + 10;
    let endless = [frame(0x02, &[]), frame(0x00, &[]).repeat(pieces)].concat();
    for (bytes, words) in [
        (frame(0xc2, b"\x62\x60\x18\x05\0\0"), "reserved bits"),
        (endless, "too many pieces"),
        (frame(0x89, b"ping").repeat(pings), "pings and pongs"),
    ] {
        let (mut stage, host, mut account) = siege();
        let event = next_commit(&mut account);
        host.say(1, &event);
        stage.subscriber.expect(&[&event]);
        host.say_wire(2, bytes.into());
        page_says(&stage.relay, &host, words);
        stage.sentinel();
        host.wait_until_asked(2);
        assert_eq!(host.asked()[..2], [Some(0), Some(1)]);
        let ended = "relay_host_disconnects_total{reason=\"protocol\"}";
        assert!(stage.relay.metric(ended) >= 1);
        // Nothing more of it was taken, and nothing was refused: there was no message.
        assert_eq!(count(&stage.relay, &host.name(), "/events/received"), 1);
        stage.sentinel();
    }
}

/// Text where messages belong ends the connection twice, and is skipped from then on; that is no way
/// around the limits.
#[test]
fn text_that_is_skipped_is_under_the_limits_of_events() {
    let (mut stage, host, mut account) = siege();
    let event = next_commit(&mut account);
    host.say(1, &event);
    stage.subscriber.expect(&[&event]);
    let texts = 2 * HOST_EVENTS_A_SECOND_MAX;
    host.say_wire(2, frame(0x81, b"hi").repeat(texts as usize).into());
    let event = next_commit(&mut account);
    host.say(3, &event);
    stage.sentinel();
    stage.subscriber.expect(&[&event]);
    assert_eq!(stage.refused(Reject::FrameMalformed), texts + 2);
    let hits = "/events/limits_hit/events_per_second";
    assert!(count(&stage.relay, &host.name(), hits) >= 1);
    assert_eq!(host.asked(), [0, 1, 1].map(Some));
}

/// Pings between the pieces of a message are answered, and it is an event like any other in the end.
#[test]
fn a_message_in_pieces_with_pings_between_them_is_a_message() {
    let (mut stage, host, mut account) = siege();
    let event = next_commit(&mut account);
    let message = event.frame(1);
    let mut first = 0x02;
    for piece in message.chunks(100) {
        host.say_wire(1, [frame(first, piece), frame(0x89, b"?")].concat().into());
        first = 0x00;
    }
    stage.sentinel();
    host.say_wire(1, frame(0x80, &[]).into());
    stage.subscriber.expect(&[&event]);
    assert_eq!(host.asked().len(), 1);
    stage.sentinel();
}

/// A host that says something in every connection and goes at once is tried all the same, but not as
/// if nothing were: its page counts the times, and nothing that it says is lost.
#[test]
fn a_host_that_goes_again_and_again_is_left_alone_a_little_longer() {
    let (mut stage, host, mut account) = siege();
    for seq in 1..=3 {
        let event = next_commit(&mut account);
        host.say(seq, &event);
        stage.subscriber.expect(&[&event]);
        host.cut();
        wait_until("the times are counted", || {
            count(&stage.relay, &host.name(), "/failures") == seq
        });
        stage.sentinel();
        host.wait_until_asked(seq as usize + 1);
    }
    assert_eq!(host.asked(), [0, 1, 2, 3].map(Some));
    assert!(stage.relay.rejects().is_empty());
}

/// Valid events of megabytes count as many: they are all forwarded, and the host waits.
#[test]
fn large_events_count_as_many() {
    let (mut stage, host, account) = siege();
    let mut events = Vec::new();
    for (seq, bytes) in [(1, 2_000_000), (2, 2_000_000), (3, 4_900_000)] {
        let mut out = Writer::append_to(event::header("#identity"));
        out.map(4).text("did").text(account.did());
        out.text("seq").uint(seq);
        out.text("time").text("2026-01-02T03:04:05.678Z");
        out.text("filler").bytes(&vec![seq as u8; bytes]);
        let bytes = out.into_bytes();
        host.say_raw(seq, Bytes::from(bytes.clone()));
        events.push(bytes);
    }
    for _ in &events {
        let seen = stage.subscriber.event();
        assert_eq!(seen.did, **account.did());
    }
    stage.sentinel();
    let hits = "/events/limits_hit/events_per_second";
    assert!(count(&stage.relay, &host.name(), hits) >= 1);
    assert_eq!(count(&stage.relay, &host.name(), "/events/forwarded"), 3);
    assert!(stage.relay.metric("relay_inbox_bytes") <= 8 << 20);
    assert!(stage.relay.rejects().is_empty());
}

/// News of the identity of somebody else's account, over and over: all that comes of it is what any
/// host may say, without a handle, and the account itself is heard as before.
#[test]
fn rumours_of_other_identities_silence_nobody() {
    let (mut stage, host, _) = siege();
    let mut victim = stage.known_account();
    for seq in 1..=60 {
        let rumour = event::identity(victim.did(), Some("mallory.sim.test"), seq);
        host.say(seq, &rumour);
        stage
            .subscriber
            .expect(&[&rumour.without_handle().unwrap()]);
        if seq % 10 == 0 {
            let event = next_commit(&mut victim);
            stage.pass(&[&event]);
        }
    }
    assert!(stage.relay.rejects().is_empty());
    assert_eq!(
        count(&stage.relay, &host.name(), "/events/by_type/identity"),
        60
    );
}

/// Whatever a host says of accounts that are not its own, but for that, is refused and named.
#[test]
fn words_about_others_accounts_are_refused_and_named() {
    let (mut stage, host, _) = siege();
    let mut victim = stage.known_account();
    let mut forged = victim.clone();
    let mut seq = 0;
    for _ in 0..5 {
        let commit = next_commit(&mut forged);
        let sync = forged.sync().unwrap();
        let gone = event::account(victim.did(), Some("deleted"), 1);
        for event in [commit, sync, gone] {
            seq += 1;
            host.say(seq, &event);
        }
        stage.sentinel();
    }
    let refused = format!("/events/rejected/{}/count", Reject::WrongHost.name());
    wait_until("all are refused", || {
        count(&stage.relay, &host.name(), &refused) == seq
    });
    stage.pass(&[&next_commit(&mut victim)]);
    assert_eq!(count(&stage.relay, &host.name(), "/events/forwarded"), 0);
}

/// An account that is active and deactivated in turn: its words pass in their order, what it says while
/// it is not active does not, and nobody else is concerned.
#[test]
fn an_account_that_flaps_is_followed() {
    let (mut stage, host, mut account) = siege();
    let event = next_commit(&mut account);
    host.say(1, &event);
    stage.subscriber.expect(&[&event]);
    for seq in 2..=41 {
        let status = (seq % 2 == 0).then_some("deactivated");
        host.say(seq, &event::account(account.did(), status, seq));
        stage.subscriber.told(&account, status.is_none(), status);
    }
    stage.sentinel();
    let event = next_commit(&mut account);
    host.say(42, &event);
    stage.subscriber.expect(&[&event]);
    assert!(stage.relay.rejects().is_empty());
}

/// More accounts than a host may have, all of them real: those within the limit are heard, the others
/// wait for a place and are counted, and those of another host are not concerned.
#[test]
fn accounts_over_the_limit_of_a_host_wait_and_are_counted() {
    let (mut stage, host, _) = siege();
    let limit = 5;
    let terms = json!({ "repo_limit": limit });
    stage.relay.change(&host.name(), terms);
    for seq in 1..=40 {
        let mut account = host.account(&mut stage.site);
        let event = next_commit(&mut account);
        host.say(seq, &event);
        if seq <= limit {
            stage.subscriber.expect(&[&event]);
        }
    }
    wait_until("all others are refused", || {
        stage.refused(Reject::AccountLimit) == 40 - limit
    });
    stage.sentinel();
    let mut newcomer = stage.site.account(0);
    stage.pass(&[&next_commit(&mut newcomer)]);
    let of_host = |pointer| count(&stage.relay, &host.name(), pointer);
    assert_eq!(of_host("/accounts"), limit);
    assert_eq!(of_host("/accounts_waiting"), 40 - limit);
    assert_eq!(of_host("/events/rejected/account_limit/count"), 40 - limit);
}

/// A host that jumps to the last seq that there is has said its last word in that connection; once it
/// goes on from where it was, its sequence counts as begun anew.
#[test]
fn a_jump_to_the_last_seq_is_no_end() {
    let (mut stage, host, mut account) = siege();
    for seq in [1, SEQ_MAX] {
        let event = next_commit(&mut account);
        host.say(seq, &event);
        stage.subscriber.expect(&[&event]);
    }
    let mut unheard = account.clone();
    for seq in [SEQ_MAX, 2, 0, 1] {
        host.say(seq, &next_commit(&mut unheard));
    }
    wait_until("all are refused", || {
        stage.refused(Reject::SeqNotIncreasing) + stage.refused(Reject::SchemaInvalid) == 4
    });
    stage.sentinel();
    host.start_anew(Future::Replay);
    let event = next_commit(&mut account);
    host.say(2, &event);
    stage.subscriber.expect(&[&event]);
    assert_eq!(host.asked()[..2], [Some(0), Some(SEQ_MAX)]);
    stage.sentinel();
}

/// A host whose connections hang in the handshake, or fail in it.
struct Stalling {
    name: String,
    state: Arc<Stalls>,
}

#[derive(Default)]
struct Stalls {
    /// Handshakes hang; before, they fail.
    hangs: AtomicBool,
    failed: AtomicUsize,
    ended: AtomicBool,
}

impl Stalling {
    fn start(hanging: &Arc<AtomicUsize>) -> Stalling {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let state = Arc::<Stalls>::default();
        let (stalls, hanging) = (state.clone(), hanging.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stalls.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (stalls, hanging) = (stalls.clone(), hanging.clone());
                std::thread::spawn(move || stalls.serve(stream, &hanging));
            }
        });
        Stalling { name, state }
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&*self.name);
    }
}

impl Stalls {
    fn serve(&self, mut stream: TcpStream, hanging: &AtomicUsize) {
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap_or(0);
        let is_stream = head[..read].starts_with(b"GET /xrpc/com.atproto.sync.subscribeRepos");
        if !is_stream {
            let body = r#"{"did":"did:web:localhost"}"#;
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        } else if self.hangs.load(Ordering::Relaxed) {
            hanging.fetch_add(1, Ordering::Relaxed);
            // Until the relay gives it up.
            let _ = stream.read(&mut head);
            hanging.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// More hosts than are dialed at once whose handshakes hang: they wait for each other, and a host that
/// is new is connected to at once.
#[test]
fn handshakes_that_hang_keep_only_each_other_waiting() {
    let mut stage = Stage::on({
        let mut site = Site::new(2);
        let limit = ("RELAY_NEW_HOSTS_PER_DAY_LIMIT", "1000".to_owned());
        site.variables.push(limit);
        site
    });
    let hanging = Arc::<AtomicUsize>::default();
    let hosts: Vec<_> = (0..HOST_DIALS_MAX + 6)
        .map(|_| Stalling::start(&hanging))
        .collect();
    for host in &hosts {
        let body = json!({ "hostname": host.name }).to_string();
        let answer = stage.relay.admin("/admin/pds/requestCrawl", Some(&body));
        assert_eq!(answer.0, 200, "{}", answer.1);
        wait_until("it could not be connected to", || {
            host.state.failed.load(Ordering::Relaxed) > 0
        });
        host.state.hangs.store(true, Ordering::Relaxed);
    }
    wait_until("as many hang as may", || {
        hanging.load(Ordering::Relaxed) == HOST_REDIALS_MAX
    });
    let late = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&late.name()).0, 200);
    late.wait_until_asked(1);
    let mut account = late.account(&mut stage.site);
    let event = next_commit(&mut account);
    late.say(1, &event);
    stage.subscriber.expect(&[&event]);
    stage.sentinel();
    assert!(hanging.load(Ordering::Relaxed) <= HOST_REDIALS_MAX);
    let page = stage.relay.host_page(&hosts[0].name).1;
    assert!(page["failures"].as_u64() >= Some(1), "{page}");
    assert!(page["last_error"].is_string(), "{page}");
}
