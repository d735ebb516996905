//! The sequencer and the model side by side.

mod check;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use self::check::Watch;
use super::{
    Bytes,
    input::{self, COLLECTIONS, Content, DIDS, HOSTS, Said, Told, WORDS, What, Word, host_id},
    model::Model,
};
use crate::{
    atproto::did::Did,
    firehose::Frame,
    limits::BATCH_EVENTS_MAX,
    metrics::Metrics,
    sequencer::{Inbox, Publication, Sequencer, event::Ruled},
    store::{Store, Takedown},
};

/// What an account's person does.
#[derive(Default, Debug)]
struct Person {
    /// The host of each version of the document.
    documents: Vec<usize>,
    /// The last revision and tree.
    head: (u64, u64),
}

/// A process: what is lost with it.
struct Process {
    sequencer: Sequencer,
    inbox: Inbox,
    questions: Option<Receiver<Did>>,
}

pub(super) struct Bench {
    store: Arc<Store>,
    published: Arc<Mutex<Vec<Frame>>>,
    process: Process,
    model: Model,
    people: [Person; DIDS],
    /// What each host has sent in this epoch, by its seq.
    streams: [BTreeMap<u64, Said>; HOSTS],
    /// Who waits for an answer to a ruling.
    rulings: VecDeque<Receiver<Ruled>>,
    /// In the inbox, and not taken yet.
    waiting: Vec<Told>,
    sent: BTreeMap<u64, Said>,
    /// Up to where each host was said to be read, in this epoch.
    told: [u64; HOSTS],
    /// Events with a seq up to which their host was said to be read before: no cursor goes back for them.
    late: BTreeSet<u64>,
    next_rev: u64,
    watch: Watch,
}

fn start(store: &Arc<Store>, published: &Arc<Mutex<Vec<Frame>>>, asks: bool) -> Process {
    let (sink, stored) = (published.clone(), store.clone());
    let publish = Box::new(move |new: Publication| {
        for frame in new.frames {
            let content = stored.content();
            let bytes = content.events.get(&frame.seq.get());
            assert_eq!(
                bytes,
                Some(&frame.bytes),
                "nothing is published before it is stored"
            );
            drop(content);
            sink.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(frame);
        }
    });
    let made = Sequencer::new(store.clone(), publish, Arc::new(Metrics::default()));
    let (mut sequencer, inbox) = made.expect("a sequencer");
    let (sender, receiver) = bounded(64);
    if asks {
        sequencer.ask_through(sender);
    }
    Process {
        sequencer,
        inbox,
        questions: asks.then_some(receiver),
    }
}

impl Bench {
    /// The bits of `how`: whether hosts are asked about inactive accounts; whether the last account was
    /// taken down before anything of it was seen.
    pub(super) fn new(how: u8) -> Bench {
        let (store, published) = (Arc::new(Store::default()), Arc::default());
        let mut model = Model {
            asks: how & 1 != 0,
            ..Model::default()
        };
        if how & 2 != 0 {
            let who = DIDS - 1;
            let takedown = Takedown { seq: 0, at_ms: 0 };
            let did = input::did(who).to_string();
            store.content().takedowns.insert(did, takedown);
            model.down.insert(who);
        }
        let process = start(&store, &published, model.asks);
        Bench {
            store,
            published,
            process,
            model,
            people: Default::default(),
            streams: Default::default(),
            rulings: VecDeque::new(),
            waiting: Vec::new(),
            sent: BTreeMap::new(),
            told: [0; HOSTS],
            late: BTreeSet::new(),
            next_rev: 1,
            watch: Watch::default(),
        }
    }

    /// One step: something is sent, or what was sent is taken, or the process ends and begins anew.
    pub(super) fn step(&mut self, bytes: &mut Bytes<'_>) {
        let (op, who) = (bytes.next() % 16, usize::from(bytes.next()));
        let (host, did) = (who % HOSTS, who / HOSTS % DIDS);
        match op {
            0..=7 => {
                let said = self.event(host, did, bytes);
                self.send_event(said);
            }
            8 => {
                let epoch = self.model.streams[host].epoch;
                let seq = self.last_seq(host);
                self.told[host] = seq.max(self.told[host]);
                self.send(Told::Progress(host, epoch, seq));
            }
            9 => {
                let word = WORDS.get(usize::from(bytes.next()) % 10).copied();
                self.answer(did, word);
            }
            10 => {
                let limit = u64::from(bytes.next() % 5);
                self.send(Told::Limit(host, (limit < 4).then_some(limit)));
            }
            11 => self.send(Told::Ban(host, bytes.next() % 2 == 0)),
            12 => {
                // Its stream begins anew, or is read from another place: what was sent is not asked for.
                self.work();
                let to = bytes.next();
                let last = self.last_seq(host);
                let told = match to % 3 {
                    0 => Told::Restart(host),
                    1 => Told::Reset(host, None),
                    _ => Told::Reset(host, Some(u64::from(to) % (last + 1))),
                };
                self.streams[host].clear();
                self.send(told);
                self.work();
                self.told[host] = self.model.streams[host].offered;
            }
            13 => self.send(Told::Rule(did, bytes.next() % 2 == 0)),
            14 => {
                let what = usize::from(bytes.next());
                let told = match what % 2 {
                    0 => Told::Pairs(what / 2 % COLLECTIONS, vec![did, (did + 1) % DIDS]),
                    _ => Told::Listed {
                        host,
                        did,
                        authority: self.authority(host, did, 1).unwrap_or(0),
                        word: WORDS[what / 2 % WORDS.len()],
                        rev: self.next_rev,
                    },
                };
                self.send(told);
            }
            _ if who % 8 == 7 => self.crash(),
            _ => self.work(),
        }
    }

    fn last_seq(&self, host: usize) -> u64 {
        let last = self.streams[host].last_key_value();
        last.map_or(self.model.streams[host].offered, |(seq, _)| *seq)
    }

    /// When the document was fetched that names the host; `how`: the newest one, where that names it, or
    /// the oldest one that does, or the account moves there first.
    fn authority(&mut self, host: usize, did: usize, how: u8) -> Option<u64> {
        let documents = &mut self.people[did].documents;
        if documents.is_empty() || how & 2 != 0 && documents.last() != Some(&host) {
            documents.push(host);
        }
        let version = match how & 1 {
            0 => documents.iter().position(|named| *named == host),
            _ => documents.iter().rposition(|named| *named == host),
        };
        version.map(|version| 10 * (version as u64 + 1))
    }

    fn event(&mut self, host: usize, did: usize, bytes: &mut Bytes<'_>) -> Said {
        let (how, kind, detail) = (bytes.next(), bytes.next(), bytes.next());
        let stream = self.model.streams[host];
        let last = self.last_seq(host);
        let authority = match how & 3 {
            0 => None,
            how => self.authority(host, did, how),
        };
        let what = match kind % 8 {
            0..=3 => What::Content(self.content(did, true, detail)),
            4 => What::Content(self.content(did, false, detail)),
            5 => What::Identity,
            6 => What::Account(WORDS[0]),
            _ => What::Account(WORDS[usize::from(detail) % WORDS.len()]),
        };
        // Only an identity may be of a host that does not speak for the account.
        let what = match authority {
            None => What::Identity,
            Some(_) => what,
        };
        let seq = match how & 4 {
            0 => last + 1 + u64::from(how >> 6),
            _ => 1 + u64::from(detail) % (last + 1),
        };
        let behind = u64::from(how >> 5 & 1);
        Said {
            id: self.sent.len() as u64,
            host,
            did,
            epoch: stream.epoch - u32::from(how & 8 != 0 && stream.epoch > 0),
            seq,
            cursor: seq - behind,
            authority,
            what,
            is_large: kind >= 248,
        }
    }

    fn content(&mut self, did: usize, is_commit: bool, detail: u8) -> Content {
        let (rev, data) = self.people[did].head;
        let is_new = detail & 3 != 3;
        let next = match is_new {
            true => self.next_rev,
            false => rev,
        };
        self.next_rev += u64::from(is_new);
        let continues = detail & 4 == 0;
        let prev = (detail & 8 == 0).then_some(data + u64::from(!continues));
        let touched = usize::from(detail >> 5) % COLLECTIONS;
        let content = Content {
            is_commit,
            rev: next,
            since: Some(rev),
            data: next,
            prev,
            legacy: is_commit && detail & 16 != 0,
            touched: match is_commit && detail & 32 == 0 {
                true => vec![(touched, detail & 2 == 0)],
                false => Vec::new(),
            },
        };
        self.people[did].head = (next, next);
        content
    }

    fn send_event(&mut self, said: Said) {
        if said.seq <= self.told[said.host] {
            self.late.insert(said.id);
        }
        self.sent.insert(said.id, said.clone());
        if said.epoch == self.model.streams[said.host].epoch {
            let told = &mut self.told[said.host];
            *told = said.cursor.max(*told);
            // Of two with one seq a host sends the first once more.
            self.streams[said.host]
                .entry(said.seq)
                .or_insert_with(|| said.clone());
        }
        self.send(Told::Event(said));
    }

    fn send(&mut self, told: Told) {
        // Others overtake what is large while it is written; here there are none.
        let is_large = matches!(&told, Told::Event(said) if said.is_large);
        if is_large {
            self.work();
        }
        let (done, ruled) = bounded(1);
        let sent = self.process.inbox.send(told.input(done));
        sent.expect("a sequencer that is there");
        if let Told::Rule(..) = told {
            self.rulings.push_back(ruled);
        }
        self.waiting.push(told);
        if is_large {
            self.work();
        }
    }

    /// An answer to a question that was asked; none where none was.
    fn answer(&mut self, who: usize, word: Option<Word>) {
        self.work();
        let Some(questions) = &self.process.questions else {
            return;
        };
        let asked: Vec<Did> = questions.try_iter().collect();
        for did in asked {
            let Some(who) = (0..DIDS).find(|who| input::did(*who) == did) else {
                panic!("{did} was asked about");
            };
            self.send(Told::Status(who, word));
        }
        // And one to a question that nobody has asked.
        self.send(Told::Status(who, word));
    }

    /// Everything that waits is taken, in as many batches as that is.
    fn work(&mut self) {
        let waiting = in_turns(std::mem::take(&mut self.waiting));
        let batches = waiting.chunks(BATCH_EVENTS_MAX).chain([&[][..]]);
        for batch in batches {
            self.process.sequencer.step().expect("a store that works");
            self.model.let_in();
            for told in batch {
                if let Some(holds) = self.model.take(told) {
                    let ruled = self.rulings.pop_front().expect("a ruling that was sent");
                    let expected = if holds { Ruled::Holds } else { Ruled::Unknown };
                    assert_eq!(ruled.try_recv(), Ok(expected));
                }
            }
        }
        self.compare();
    }

    /// The process ends without notice. The next one is told limits and bans, and hosts send again what
    /// does not count as read.
    fn crash(&mut self) {
        self.waiting.clear();
        self.rulings.clear();
        let limits = self.model.memory.limits.clone();
        let banned = self.model.memory.banned.clone();
        self.model.crash();
        self.process = start(&self.store, &self.published, self.model.asks);
        for (host, limit) in limits {
            self.send(Told::Limit(host, Some(limit)));
        }
        for host in banned {
            self.send(Told::Ban(host, true));
        }
        let hosts = self.store.hosts().expect("hosts");
        for host in 0..HOSTS {
            let record = hosts.iter().find(|(id, _)| *id == host_id(host));
            let cursor = record.map_or(0, |(_, record)| record.cursor);
            self.model.streams[host].offered = cursor;
            self.model.streams[host].read = cursor;
            self.told[host] = cursor;
            let again: Vec<Said> = self.streams[host]
                .range(cursor + 1..)
                .map(|(_, said)| said.clone())
                .collect();
            for said in again {
                self.watch.repeated.insert(said.id);
                self.told[host] = said.cursor.max(self.told[host]);
                self.send(Told::Event(said));
            }
        }
    }
}

/// The order in which one batch takes what waits: what was decided, then of each host one thing at a time, as of what no
/// host has said; those begin that were there first. Nothing that is sent here is so large that it waits for more
/// than one turn.
fn in_turns(waiting: Vec<Told>) -> Vec<Told> {
    let whose = |told: &Told| match told {
        Told::Event(Said { host, .. }) | Told::Progress(host, ..) => Some(*host),
        _ => None,
    };
    let is_decision = |told: &Told| match told {
        Told::Limit(..) | Told::Ban(..) | Told::Restart(_) | Told::Reset(..) | Told::Rule(..) => {
            true
        }
        Told::Event(_)
        | Told::Progress(..)
        | Told::Status(..)
        | Told::Pairs(..)
        | Told::Listed { .. } => false,
    };
    let (mut taken, said): (Vec<Told>, Vec<Told>) = waiting.into_iter().partition(is_decision);
    let mut rows: Vec<(Option<usize>, VecDeque<Told>)> = Vec::new();
    for told in said {
        let whose = whose(&told);
        match rows.iter_mut().find(|(of, _)| *of == whose) {
            Some((_, row)) => row.push_back(told),
            None => rows.push((whose, VecDeque::from([told]))),
        }
    }
    while !rows.is_empty() {
        taken.extend(rows.iter_mut().filter_map(|(_, row)| row.pop_front()));
        rows.retain(|(_, row)| !row.is_empty());
    }
    taken
}
