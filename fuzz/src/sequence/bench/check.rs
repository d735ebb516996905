//! What is published and kept is what the model says, and what anybody may rely on.

use std::collections::{BTreeMap, BTreeSet};

use super::Bench;
use crate::{
    atproto::{
        envelope::{Body, Message},
        splice,
    },
    firehose::Frame,
    sequence::{
        input::{
            self, COLLECTIONS, DIDS, HOSTS, WORDS, What, Word, collection, host_id, id_of, status,
            tid,
        },
        model::Published,
    },
    store::account::{Account, HostId, HostRecord},
};

/// What a subscriber has seen, which must hold whatever the model says.
#[derive(Default)]
pub(super) struct Watch {
    seq: u64,
    revs: BTreeMap<usize, u64>,
    inactive: BTreeSet<usize>,
    seen: BTreeSet<u64>,
    /// Events that were sent once more after a crash.
    pub(super) repeated: BTreeSet<u64>,
}

impl Bench {
    /// What was published is what the model says, and what any subscriber may rely on.
    pub(super) fn compare(&mut self) {
        let published = std::mem::take(&mut *self.published.lock().expect("no panic"));
        let expected = std::mem::take(&mut self.model.published);
        let mut frames = published.iter();
        for expected in expected {
            if let Published::Shown(who) = expected {
                self.watch.inactive.remove(&who);
                continue;
            }
            let frame = frames.next();
            let got = frame.map(|frame| self.watch(frame));
            assert_eq!(got, Some(expected));
        }
        assert_eq!(frames.len(), 0, "more than there is to say");
        self.check_cursors();
    }

    fn watch(&mut self, frame: &Frame) -> Published {
        let (header, header_len) = crate::firehose::frame::ws_header(payload_len(&frame.bytes));
        assert_eq!(frame.bytes[..header_len], header[..header_len]);
        let payload = &frame.bytes[header_len..];
        let Ok(Message::Event(event)) = Message::parse(payload) else {
            panic!("what is published is no frame");
        };
        assert_eq!(
            (event.seq, frame.seq.get()),
            (frame.seq, self.watch.seq + 1)
        );
        self.watch.seq += 1;
        let who = (0..DIDS).find(|who| input::did(*who).as_str() == event.did);
        let who = who.expect("an account that there is");
        let word = match event.body {
            Body::Account { active, status } => Some(word(active, status)),
            _ => None,
        };
        let Some(id) = id_of(event.time) else {
            let word = word.expect("the relay speaks of status only");
            self.watch.told(who, word);
            return Published::Own(who, word);
        };
        let said = &self.sent[&id];
        assert_eq!(said.did, who);
        let is_first = self.watch.seen.insert(id);
        match &said.what {
            What::Content(content) => {
                assert!(is_first, "{said:?} is published twice");
                assert!(
                    !self.watch.inactive.contains(&who),
                    "{said:?} of an inactive account"
                );
                let last = self.watch.revs.insert(who, content.rev);
                assert!(
                    last.is_none_or(|last| last < content.rev),
                    "{said:?} goes back"
                );
                assert!(said.authority.is_some(), "{said:?} of a strange host");
            }
            What::Identity | What::Account(_) => {
                assert!(
                    is_first || self.watch.repeated.contains(&id),
                    "{said:?} twice"
                );
            }
        }
        if let Some(word) = word {
            self.watch.told(who, word);
        }
        let (sent, seq_at) = {
            let event = said.event();
            (event.frame, event.seq_at)
        };
        let is_as_sent = match &said.what {
            What::Account(said) => Some(*said) == word,
            _ => true,
        };
        if is_as_sent {
            let expected = splice::put_seq(&sent, &seq_at, frame.seq, Vec::new());
            assert_eq!(payload, expected, "only the seq is another one");
        }
        Published::Event(id, word)
    }

    /// A host's stream counts as read up to what is held, and where nothing is up to what was said.
    fn check_cursors(&self) {
        let hosts: BTreeMap<HostId, HostRecord> =
            self.store.hosts().expect("hosts").into_iter().collect();
        for host in 0..HOSTS {
            let record = hosts.get(&host_id(host)).copied().unwrap_or_default();
            let stream = self.model.streams[host];
            assert_eq!(record.epoch, stream.epoch);
            assert_eq!(record.accounts, self.model.live_at(host));
            assert_eq!(record.cursor, stream.read);
            let held = self.model.memory.held.values().flatten();
            let held = held.filter(|said| said.host == host && said.epoch == stream.epoch);
            for said in held.filter(|said| !self.late.contains(&said.id)) {
                assert!(
                    record.cursor < said.seq,
                    "{record:?} passes {said:?}, which is held"
                );
            }
        }
    }

    /// Everything is answered and taken; what is stored is what the model has.
    pub(in super::super) fn finish(mut self) {
        self.work();
        self.answer(0, None);
        self.work();
        let content = self.store.content();
        assert_eq!(content.accounts.len(), self.model.accounts.len());
        assert_eq!(content.order.len(), self.model.accounts.len());
        let mut throttled = BTreeMap::new();
        let mut pairs = 0;
        for (who, account) in &self.model.accounts {
            let did = input::did(*who);
            let bytes = &content.accounts[did.as_str()];
            let stored = Account::decode(bytes).expect("an account");
            assert_eq!(stored.encode(), *bytes);
            assert_eq!(stored.ordinal, account.ordinal);
            assert_eq!(stored.host, account.host.map_or(HostId::NOWHERE, host_id));
            assert_eq!(stored.upstream, status(account.word));
            assert_eq!(stored.status_heard, account.heard);
            assert_eq!(*stored.effective(), status(account.effective()));
            assert_eq!(stored.local.throttled, account.throttled);
            let head = stored.head.map(|head| (head.rev, head.data));
            assert_eq!(
                head,
                account
                    .head
                    .map(|(rev, data)| (tid(rev), input::tree(data)))
            );
            let listed = stored.listed.map(|listed| listed.rev);
            assert_eq!(listed, account.listed.map(tid));
            assert_eq!(content.order[&account.ordinal], did.as_str());
            if account.waits()
                && let Some(host) = account.host
            {
                throttled.insert((host_id(host).0, account.ordinal), did.to_string());
            }
            pairs += account.collections.len();
            for name in 0..COLLECTIONS {
                let known = content.collections.get(collection(name).as_str());
                let listed = content.by_account.get(&account.ordinal);
                let has = known.is_some_and(|c| listed.is_some_and(|l| l.contains(c.id)));
                assert_eq!(has, account.collections.contains(&name), "{account:?}");
            }
        }
        assert_eq!(content.throttled, throttled);
        let down: BTreeSet<String> = content.takedowns.keys().cloned().collect();
        let expected = self
            .model
            .down
            .iter()
            .map(|who| input::did(*who).to_string());
        assert_eq!(down, expected.collect());
        assert_eq!(content.counters.accounts, self.model.accounts.len() as u64);
        assert_eq!(content.counters.pairs, pairs as u64);
        assert_eq!(content.by_collection.len(), pairs);
        for (did, hidden) in content.by_collection.values() {
            let account = self
                .model
                .accounts
                .iter()
                .find(|(who, _)| input::did(**who).as_str() == did);
            let (_, account) = account.expect("an account that there is");
            assert_eq!(*hidden, !account.effective().0, "{account:?}");
        }
    }
}

impl Watch {
    fn told(&mut self, who: usize, (active, _): Word) {
        match active {
            true => self.inactive.remove(&who),
            false => self.inactive.insert(who),
        };
    }
}

/// One of the words that there are.
fn word(active: bool, reason: Option<&str>) -> Word {
    let known = WORDS.iter().copied().chain([(false, Some("throttled"))]);
    let mut found = known.filter(|word| *word == (active, reason));
    found
        .next()
        .unwrap_or_else(|| panic!("nobody has said {active} {reason:?}"))
}

fn payload_len(bytes: &[u8]) -> usize {
    match bytes[1] {
        126 => bytes.len() - 4,
        127 => bytes.len() - 10,
        _ => bytes.len() - 2,
    }
}
