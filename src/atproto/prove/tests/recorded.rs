//! Streams of real PDSes, which nobody here made: recorded with the directory's documents into
//! `tests/recorded` by `just record-real`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use super::{
    damage::{Subject, places},
    *,
};
use crate::{
    atproto::{
        cbor::{Reader, tests::re_encodes},
        did::Did,
        splice,
    },
    identity::Identity,
};

/// After every recording.
const LATER: Duration = Duration::from_secs(1 << 33);

/// What one PDS sent.
pub(super) struct Recording {
    host: String,
    pub(super) frames: Vec<Vec<u8>>,
    /// The documents of the directory, as JSON.
    pub(super) documents: Vec<(String, String)>,
    /// What the directory said of each account, one after the other.
    identities: HashMap<String, Vec<Identity>>,
}

pub(super) fn recordings() -> [Recording; 2] {
    ["pds-0.4", "pds-0.5"].map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
        let read = |ending: &str| std::fs::read(path.join(format!("{name}.{ending}"))).unwrap();
        let about: serde_json::Value = serde_json::from_slice(&read("json")).unwrap();
        let mut frames = Vec::new();
        let bytes = read("frames");
        let mut rest = &bytes[..];
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            frames.push(frame.to_vec());
            rest = tail;
        }
        assert!(rest.is_empty());
        let documents = about["documents"].as_object().unwrap();
        let identities = documents.iter().map(|(did, list)| {
            let parsed = Did::parse(did).unwrap();
            let list = list.as_array().unwrap().iter();
            let list = list.map(|d| Identity::parse(&parsed, d.to_string().as_bytes(), 0).unwrap());
            (did.clone(), list.collect())
        });
        let each = |(did, list): (&String, &serde_json::Value)| {
            let list = list.as_array().unwrap().iter();
            list.map(|json| (did.clone(), json.to_string()))
                .collect::<Vec<_>>()
        };
        Recording {
            host: about["host"].as_str().unwrap().to_owned(),
            identities: identities.collect(),
            documents: documents.iter().flat_map(each).collect(),
            frames,
        }
    })
}

impl Recording {
    /// The places in the account's list of keys of those that `frame` is proven with.
    fn keys_of(&self, frame: &[u8], did: &str) -> Vec<(usize, Proven)> {
        let keys = self.keys(did);
        let proven = |key| judge_by(frame, key, LATER, false).ok();
        let each = keys.iter().enumerate();
        each.filter_map(|(i, key)| Some((i, proven(key)?)))
            .collect()
    }

    fn keys(&self, did: &str) -> Vec<PublicKey> {
        let keys = self.identities[did]
            .iter()
            .map(|identity| identity.key.clone().unwrap());
        let mut keys: Vec<PublicKey> = keys.collect();
        keys.dedup();
        keys
    }
}

/// Rule 191: <https://dasl.ing/car.html>
#[test]
fn every_frame_and_block_re_encodes_to_itself() {
    for recording in recordings() {
        assert!(recording.frames.len() > 50);
        for frame in &recording.frames {
            let mut reader = Reader::new(frame);
            while !reader.is_at_end() {
                re_encodes(&frame[reader.skip().unwrap()]);
            }
            let event = parse(frame);
            assert_eq!(check_event(&event, LATER), Ok(()));
            let same = splice::put_seq(frame, &event.layout.seq, event.seq, Vec::new());
            assert_eq!(same, *frame);
            let (Body::Commit(envelope::Commit { blocks, .. })
            | Body::Sync(envelope::Sync { blocks, .. })) = event.body
            else {
                continue;
            };
            let mut table = BlockTable::new();
            table.read(frame, blocks.clone()).unwrap();
            let places = places(frame, &blocks);
            assert_eq!(table.len(), places.len());
            let found: Vec<Block> = places
                .iter()
                .map(|place| {
                    let cid = Cid::from_bytes(place.cid_in(frame)).unwrap();
                    assert_eq!(table.get(&cid), Some(place.data.clone()));
                    re_encodes(&frame[place.data.clone()]);
                    let bytes = frame[place.data.clone()].into();
                    Block { cid, bytes }
                })
                .collect();
            let again = event::car(1, &[table.root().unwrap()], &found);
            assert_eq!(again, frame[blocks]);
        }
    }
}

/// The signature, the tree and the operations of every commit; and that each continues the one
/// before it.
#[test]
fn every_commit_is_proven_and_continues_the_one_before() {
    for recording in recordings() {
        let mut last: BTreeMap<&str, (usize, Proven)> = BTreeMap::new();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut firsts, mut empty, mut ops_most) = (0, 0, 0);
        for frame in &recording.frames {
            let event = parse(frame);
            let proven = recording.keys_of(frame, event.did);
            *seen.entry(event.body.name()).or_default() += 1;
            let Body::Commit(message) = &event.body else {
                continue;
            };
            let Ok([(key, proven)]) = <[_; 1]>::try_from(proven) else {
                panic!("{}: not proven with one key", event.did);
            };
            let mut parsed = Vec::new();
            envelope::parse_ops(frame, &message.ops, &mut parsed).unwrap();
            let names = parsed.iter().map(|op| {
                let path = std::str::from_utf8(op.path.of(frame)).unwrap();
                path.split_once('/').unwrap().0
            });
            let names: BTreeSet<&str> = names.collect();
            let touched = proven.touched.iter().map(|(name, _)| name);
            assert_eq!(
                touched.collect::<BTreeSet<_>>(),
                names,
                "nothing is left open"
            );
            let ops = envelope::count_ops(frame, &message.ops).unwrap();
            ops_most = ops_most.max(ops);
            empty += usize::from(ops == 0);
            firsts += usize::from(proven.prev_data.is_none());
            match last.insert(event.did, (key, proven.clone())) {
                Some((key_before, before)) => {
                    assert!(key_before <= key, "a former key again");
                    assert_eq!(proven.since, Some(before.rev));
                    assert_eq!(proven.prev_data, Some(before.data));
                    assert!(before.rev < proven.rev);
                }
                // One account came from another host, with a past and another key.
                None => assert_eq!(proven.since.is_none(), key == 0),
            }
            let key = &recording.keys(event.did)[key];
            let mut identities = recording.identities[event.did].iter();
            let signer = identities.find(|identity| identity.key.as_ref() == Some(key));
            let host = signer.unwrap().host.clone().unwrap();
            assert_eq!(host.to_string(), recording.host);
        }
        assert!(
            seen["commit"] > 30 && seen["identity"] > 4 && seen["account"] > 4,
            "{seen:?}"
        );
        assert!(firsts >= 4 && empty >= firsts && ops_most >= 50);
        let second = last.values().filter(|(key, _)| *key > 0).count();
        assert_eq!(second, 1, "accounts with a second key");
    }
}

/// A `#sync` is proven, unless it is the one that a host sends when an account has moved to it: the
/// commit in it is the old one, under another `rev`.
#[test]
fn syncs_are_proven_but_those_of_movers() {
    for recording in recordings() {
        let (mut proven, mut refused) = (0, Vec::new());
        for frame in &recording.frames {
            let event = parse(frame);
            if !matches!(event.body, Body::Sync(_)) {
                continue;
            }
            if !recording.keys_of(frame, event.did).is_empty() {
                proven += 1;
                continue;
            }
            for key in recording.keys(event.did) {
                let verdict = judge_by(frame, &key, LATER, false);
                assert_eq!(verdict, Err(Reject::CommitMismatch));
            }
            refused.push(event.did);
        }
        assert!(proven >= 4);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(recording.keys(refused[0]).len(), 2);
    }
}

#[test]
fn any_byte_of_a_real_commit_counts() {
    let mut rng = fastrand::Rng::with_seed(7);
    for recording in recordings() {
        let commits = recording.frames.iter().filter(|frame| {
            let Body::Commit(message) = parse(frame).body else {
                return false;
            };
            envelope::count_ops(frame, &message.ops).unwrap() > 0
        });
        for (n, frame) in commits.enumerate() {
            let did = parse(frame).did;
            let (key, _) = recording.keys_of(frame, did)[0];
            let key = &recording.keys(did)[key];
            let subject = Subject::new(frame);
            let mut bytes = subject.bytes();
            // Some commits wholly, of the others a few bytes.
            if n % 16 != 0 {
                rng.shuffle(&mut bytes);
                bytes.truncate(50);
            }
            for at in bytes {
                let judge = |frame: &[u8]| judge_by(frame, key, LATER, false);
                subject.doubt(at, 1 << rng.u8(..8), &judge);
            }
        }
    }
}
