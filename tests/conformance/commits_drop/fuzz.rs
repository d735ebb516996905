//! Thousands of valid messages with damage anywhere, from one host.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::TcpStream,
    sync::Arc,
};

use ipld_core::{cid::Cid, ipld::Ipld};
use tungstenite::{Bytes, Message, WebSocket};
use zlay::{
    atproto::datetime,
    sim::{
        account::Account,
        event::{Event, header},
        feed::Once,
        host::Host,
    },
};

use super::forgery::{Fields, around_seq, item, writes_a_little};
use crate::{site::next_commit, stage::Stage, subscriber};

/// How often everything is damaged anew.
const ROUNDS: usize = 30;
/// Damaged messages of a round that are messages still.
const MUTANTS: usize = 100;
/// Rounds with a message that is none any more, which costs the connection and so takes time.
const BROKEN_ROUNDS: usize = 6;

type Payload = BTreeMap<String, Ipld>;

/// A valid message.
struct Original {
    event: Event,
    payload: Payload,
}

impl Original {
    fn of(event: Event) -> Original {
        let (_, payload) = items(&event.frame(1)).unwrap();
        Original { event, payload }
    }
}

/// The two items of a frame, for a codec that shares no code with the relay.
fn items(frame: &[u8]) -> Option<(Payload, Payload)> {
    let mut rest = frame;
    let mut item = || match serde_ipld_dagcbor::de::from_reader_once(&mut rest) {
        Ok(Ipld::Map(map)) => Some(map),
        _ => None,
    };
    let items = (item()?, item()?);
    rest.is_empty().then_some(items)
}

/// The payload's pairs but for `seq`.
fn fields(payload: &Payload) -> Fields {
    let mut fields = Fields(Vec::new());
    for (key, value) in payload.iter().filter(|(key, _)| *key != "seq") {
        fields.set(key, item(value.clone()));
    }
    fields
}

/// Damages bytes: `other` is where foreign parts come from.
fn damage(bytes: &mut Vec<u8>, other: &[u8], rng: &mut fastrand::Rng) {
    if bytes.is_empty() {
        bytes.push(rng.u8(..));
        return;
    }
    let at = rng.usize(..bytes.len());
    let up_to = |len: usize, rng: &mut fastrand::Rng| rng.usize(1..=len.clamp(1, 64));
    match rng.u8(..10) {
        0..=3 => bytes[at] ^= 1 << rng.u8(..8),
        4 => {
            for _ in 0..rng.usize(2..9) {
                let at = rng.usize(..bytes.len());
                bytes[at] ^= 1 << rng.u8(..8);
            }
        }
        5 => bytes[at] = rng.u8(..),
        6 => bytes.truncate(at),
        7 => {
            let len = up_to(bytes.len() - at, rng);
            bytes.drain(at..at + len);
        }
        8 => {
            let len = up_to(bytes.len() - at, rng);
            let copy = bytes[at..at + len].to_vec();
            let to = rng.usize(..=bytes.len());
            bytes.splice(to..to, copy);
        }
        _ if other.is_empty() => bytes.insert(at, rng.u8(..)),
        _ => {
            // A part of the other in the place of as many bytes.
            let from = rng.usize(..other.len());
            let len = up_to((other.len() - from).min(bytes.len() - at), rng);
            let len = len.min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&other[from..from + len]);
        }
    }
}

/// Damages a value, by and large without making another type of it.
fn damage_value(value: &mut Ipld, other: Option<&Ipld>, rng: &mut fastrand::Rng) {
    match value {
        Ipld::String(text) => {
            let mut bytes = std::mem::take(text).into_bytes();
            let other = match other {
                Some(Ipld::String(other)) => other.as_bytes(),
                _ => b"x",
            };
            damage(&mut bytes, other, rng);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Ipld::Bytes(bytes) => {
            let other = match other {
                Some(Ipld::Bytes(other)) => &other[..],
                _ => &[],
            };
            damage(bytes, other, rng);
        }
        Ipld::Link(cid) => {
            let mut bytes = cid.to_bytes();
            let at = rng.usize(4..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
            *cid = Cid::try_from(bytes).unwrap();
        }
        Ipld::Bool(bool) => *bool = !*bool,
        Ipld::List(list) if !list.is_empty() => {
            let at = rng.usize(..list.len());
            match rng.u8(..6) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                2 => list.reverse(),
                _ => damage_value(&mut list[at], other, rng),
            }
        }
        Ipld::Map(map) if !map.is_empty() => {
            let key = map.keys().nth(rng.usize(..map.len())).unwrap().clone();
            match rng.u8(..6) {
                0 => drop(map.remove(&key)),
                _ => damage_value(map.get_mut(&key).unwrap(), other, rng),
            }
        }
        _ => *value = Ipld::Integer(rng.i64(..).into()),
    }
}

/// A damaged message: either its bytes are, anywhere but in `seq`, or one of its fields is.
fn mutant(original: &Original, other: &Original, rng: &mut fastrand::Rng) -> Event {
    let mut event = original.event.clone();
    match rng.u8(..4) {
        0 => damage(&mut event.head, &other.event.head, rng),
        1 => damage(&mut event.tail, &other.event.tail, rng),
        _ => {
            let mut payload = original.payload.clone();
            let keys: Vec<_> = payload
                .keys()
                .filter(|key| *key != "seq")
                .cloned()
                .collect();
            let key = &keys[rng.usize(..keys.len())];
            if rng.u8(..16) == 0 {
                let value = other.payload.values().nth(rng.usize(..other.payload.len()));
                payload.insert(key.clone(), value.unwrap().clone());
            } else {
                damage_value(payload.get_mut(key).unwrap(), other.payload.get(key), rng);
            }
            let header = header(event.kind.name());
            (event.head, event.tail) = around_seq(&header, &fields(&payload));
        }
    }
    event
}

/// Everything that a frame which arrives may be.
#[derive(Default)]
struct Oracle {
    originals: Vec<Original>,
    /// Of all originals and of what others say, without `seq`.
    payloads: HashSet<Vec<u8>>,
    handles: BTreeMap<String, String>,
    /// The commits that came.
    commits: Vec<Cid>,
    altered: usize,
}

impl Oracle {
    fn add(&mut self, original: Original) {
        self.payloads.insert(fields(&original.payload).encode());
        self.originals.push(original);
    }

    /// Checks a frame: it is an original, or it differs from one where nothing is proven.
    fn check(&mut self, frame: &[u8]) -> Payload {
        let (header, payload) = items(frame).expect("two items");
        assert_eq!(header["op"], Ipld::Integer(1));
        let Ipld::String(kind) = &header["t"] else {
            panic!("{header:?}");
        };
        if let (Some(Ipld::Link(commit)), "#commit") = (payload.get("commit"), kind.as_str()) {
            self.commits.push(*commit);
        }
        if self.payloads.contains(&fields(&payload).encode()) {
            return payload;
        }
        self.altered += 1;
        let Ipld::String(time) = &payload["time"] else {
            panic!("{payload:?}");
        };
        assert!(datetime::check(time).is_ok(), "{payload:?}");
        let is_like = |original: &&Original, proven: &[&str]| {
            original.event.kind.name() == kind
                && proven
                    .iter()
                    .all(|key| original.payload.get(*key) == payload.get(*key))
        };
        let proven: &[&str] = match kind.as_str() {
            "#commit" => {
                check_unproven(&payload);
                &["repo", "rev", "commit", "prevData", "ops", "blocks"]
            }
            "#sync" => &["did", "rev", "blocks"],
            // What it says is the host's word, for its own accounts.
            "#account" => {
                assert!(matches!(payload["active"], Ipld::Bool(_)), "{payload:?}");
                &["did"]
            }
            "#identity" => {
                self.check_handle(&payload);
                return payload;
            }
            _ => panic!("{kind}"),
        };
        let original = self.originals.iter().find(|o| is_like(o, proven));
        assert!(original.is_some(), "{payload:?}");
        payload
    }

    /// Anybody may say that an identity has changed; but its handle must be the one that it has.
    fn check_handle(&self, payload: &Payload) {
        let (Ipld::String(did), handle) = (&payload["did"], payload.get("handle")) else {
            panic!("{payload:?}");
        };
        assert!(did.starts_with("did:"), "{payload:?}");
        let known = self.handles.get(did).cloned();
        match handle {
            None => {}
            Some(Ipld::String(handle)) => {
                assert_eq!(Some(handle.to_ascii_lowercase()), known, "{payload:?}");
            }
            Some(_) => panic!("{payload:?}"),
        }
    }
}

/// What no signature covers must still be what the lexicon wants.
fn check_unproven(payload: &Payload) {
    for field in ["rebase", "tooBig"] {
        assert_eq!(payload[field], Ipld::Bool(false), "{payload:?}");
    }
    let since = match &payload["since"] {
        Ipld::Null => true,
        Ipld::String(since) => since.len() == 13,
        _ => false,
    };
    let Ipld::List(blobs) = &payload["blobs"] else {
        panic!("{payload:?}");
    };
    let links = blobs.iter().all(|blob| matches!(blob, Ipld::Link(_)));
    assert!(since && links, "{payload:?}");
}

/// The stream as it comes.
fn next_frame(stream: &mut WebSocket<TcpStream>) -> Bytes {
    loop {
        match stream.read().expect("a frame in time") {
            Message::Binary(frame) => return frame,
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The commit that an event is about.
fn commit_of(event: &Event) -> Cid {
    match &Original::of(event.clone()).payload["commit"] {
        Ipld::Link(cid) => *cid,
        other => panic!("{other:?}"),
    }
}

/// Sends damaged messages until there were enough of those that are messages still.
fn storm(host: &Arc<Host>, originals: &[Original], broken: bool, rng: &mut fastrand::Rng) {
    let (mut sent, mut broken) = (0, broken);
    while sent < MUTANTS {
        let original = &originals[rng.usize(..originals.len())];
        let other = &originals[rng.usize(..originals.len())];
        let mutant = mutant(original, other, rng);
        let seq = host.seq() + 2_000;
        let frame = mutant.frame(seq);
        match items(&frame) {
            // Without `op` it is no message; with another `seq` the host would have lied about it.
            Some((header, payload)) => {
                let is_number = matches!(header.get("op"), Some(Ipld::Integer(_)));
                let own = payload.get("seq");
                if is_number && own.is_none_or(|own| *own == Ipld::Integer(seq.into())) {
                    host.emit(&mutant);
                    sent += 1;
                }
            }
            // Should it be taken for a message after all, then for one that came before.
            None if broken => {
                host.inject(Once::Binary(mutant.frame(host.seq())));
                broken = false;
            }
            None => {}
        }
    }
}

/// Bits are flipped, parts cut out, cut off, repeated and exchanged between messages of all four
/// types. Whatever passes is what an account said, but for `time` and the like, which nobody has
/// signed; everything that others say passes; and the accounts whose messages were damaged go on.
///
/// Rule 116: <https://atproto.com/specs/repository#security-considerations>
#[test]
fn damage_anywhere() {
    let mut stage = Stage::set_up();
    let rng = &mut fastrand::Rng::with_seed(116);
    let host = stage.site.network.host(0).clone();
    let mut writers: Vec<Account> = (0..3)
        .map(|_| {
            let account = stage.site.account(0);
            writes_a_little(&mut stage, account)
        })
        .collect();
    // Syncs, identities and statuses are those of others, so that no status silences a writer.
    let others: Vec<Account> = (0..3).map(|_| stage.known_account()).collect();
    let mut distant = stage.site.account(1);
    let first = next_commit(&mut distant);
    stage.pass_from(1, &[&first]);

    let mut oracle = Oracle::default();
    let named = writers.iter().chain(&others);
    oracle.handles = named
        .map(|account| (account.did().to_string(), account.handle.clone()))
        .collect();
    let mut stream = subscriber::open(stage.relay.public, None).unwrap();
    for round in 0..ROUNDS {
        let mut originals = Vec::new();
        let mut awaited = BTreeSet::new();
        let commits: Vec<_> = writers.iter_mut().map(next_commit).collect();
        for commit in &commits {
            awaited.insert(commit_of(commit));
            originals.push(Original::of(commit.clone()));
        }
        for other in &others {
            let mut ahead = other.clone();
            ahead.commit(&[]);
            for event in [ahead.sync().unwrap(), other.identity(), other.account()] {
                originals.push(Original::of(event));
            }
        }
        storm(&host, &originals, round < BROKEN_ROUNDS, rng);
        // The commits themselves; those that passed with another `time` have come already.
        for commit in &commits {
            host.emit(commit);
        }
        originals
            .into_iter()
            .for_each(|original| oracle.add(original));
        for (index, account) in [(0, &mut stage.bystander), (1, &mut distant)] {
            for _ in 0..2 {
                let event = next_commit(account);
                awaited.insert(commit_of(&event));
                oracle.add(Original::of(event.clone()));
                stage.site.network.host(index).emit(&event);
            }
        }
        while !awaited.is_empty() {
            oracle.check(&next_frame(&mut stream));
            if let Some(commit) = oracle.commits.pop() {
                assert!(awaited.remove(&commit), "{commit} once, in this round");
            }
        }
    }
    let metrics = stage.relay.metrics();
    assert_eq!(metrics["relay_panics_total"], 0);
    let rejects = stage.relay.rejects();
    assert!(!rejects.contains_key("internal"), "{rejects:?}");
    let refused: u64 = rejects.values().sum();
    let sent = (ROUNDS * MUTANTS) as u64;
    assert!(refused > sent / 2, "{rejects:?}");
    assert!(oracle.altered > 0, "some damage is nobody's business");
    println!("{} altered of {sent}, {rejects:?}", oracle.altered);
    let discontinuous = metrics["relay_events_discontinuous_total"];

    for account in &mut writers {
        let next = next_commit(account);
        oracle.add(Original::of(next.clone()));
        host.emit(&next);
        while oracle.commits.pop() != Some(commit_of(&next)) {
            oracle.check(&next_frame(&mut stream));
        }
    }
    let name = "relay_events_discontinuous_total";
    assert_eq!(stage.relay.metric(name), discontinuous);
    for mut account in others {
        let active = account.account();
        let next = next_commit(&mut account);
        for event in [&active, &next] {
            oracle.add(Original::of(event.clone()));
            host.emit(event);
        }
        while oracle.commits.pop() != Some(commit_of(&next)) {
            oracle.check(&next_frame(&mut stream));
        }
    }
}
