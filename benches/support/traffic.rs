//! Realistic commits of many accounts: what people write on the network, in the shares in which they
//! write it, in repositories of very different sizes. What cannot be compressed in reality (CIDs,
//! keys, signatures) cannot be here, and what repeats there repeats here no more often.

use std::thread;

use zlay::{
    atproto::{cbor::Writer, cid::Cid, tid::Tid},
    sim::{account::Account, clock, event::Event, repo::Write, tree::Block},
};

/// Words that people use.
const VOCABULARY: usize = 5_000;
/// Records that an account has at the start: so many at least and at the most, each order of
/// magnitude as often as the others.
const RECORDS: (f64, f64) = (100.0, 8_000.0);

/// What people write, the most common first.
const COLLECTIONS: [&str; 4] = [
    "app.bsky.feed.like",
    "app.bsky.feed.repost",
    "app.bsky.graph.follow",
    "app.bsky.feed.post",
];

/// Accounts, and what they do.
pub(crate) struct Traffic {
    /// The accounts as they are in the end.
    #[allow(dead_code, reason = "who only stores frames needs no keys")]
    pub(crate) accounts: Vec<Account>,
    /// Their commits, one of each account in turn: so no two of an account are near each other, and
    /// no compression finds more in them than in those of a large network.
    pub(crate) events: Vec<Event>,
}

impl Traffic {
    /// So many accounts with histories, and so many commits of each.
    pub(crate) fn new(accounts: usize, rounds: usize) -> Traffic {
        let mut rng = fastrand::Rng::with_seed(1);
        let words: Vec<String> = (0..VOCABULARY).map(|_| word(&mut rng)).collect();
        let mut people: Vec<Person<'_>> = (0..accounts as u64)
            .map(|n| Person::new(n, &words))
            .collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut shares: Vec<_> = people.chunks_mut(accounts.div_ceil(threads)).collect();
        let commits: Vec<Vec<Vec<Event>>> = thread::scope(|scope| {
            let running: Vec<_> = shares
                .iter_mut()
                .map(|share| scope.spawn(|| commits(share, rounds)))
                .collect();
            let ended = running.into_iter().map(|thread| thread.join().unwrap());
            ended.collect()
        });
        let mut commits: Vec<_> = commits.into_iter().map(Vec::into_iter).collect();
        let mut events = Vec::with_capacity(accounts * rounds);
        for _ in 0..rounds {
            events.extend(commits.iter_mut().filter_map(Iterator::next).flatten());
        }
        let accounts = people.into_iter().map(|person| person.account);
        Traffic {
            accounts: accounts.collect(),
            events,
        }
    }
}

/// Gives everybody a history, and then lets each commit in turn.
fn commits(people: &mut [Person<'_>], rounds: usize) -> Vec<Vec<Event>> {
    people.iter_mut().for_each(Person::begin);
    let round = |_| people.iter_mut().map(Person::commit).collect();
    (0..rounds).map(round).collect()
}

/// Who writes.
struct Person<'a> {
    rng: fastrand::Rng,
    words: &'a [String],
    account: Account,
}

impl Person<'_> {
    fn new(seed: u64, words: &[String]) -> Person<'_> {
        let mut rng = fastrand::Rng::with_seed(seed);
        Person {
            account: Account::random(&mut rng, 0),
            words,
            rng,
        }
    }

    /// Writes records of which nobody is told, so that they need neither content nor signature.
    fn begin(&mut self) {
        let records = RECORDS.0 * (RECORDS.1 / RECORDS.0).powf(self.rng.f64());
        let writes: Vec<Write> = (0..records as u64)
            .map(|n| {
                let collection = COLLECTIONS[self.kind()];
                let path = format!("{collection}/{}", self.account.rkey(n));
                Write::Put(path, Block::of_cbor(self.rng.u64(..).to_le_bytes().into()))
            })
            .collect();
        self.account.draft(&writes);
    }

    /// Writes one record, or deletes one.
    fn commit(&mut self) -> Event {
        let existing = match self.rng.u8(..100) {
            0..7 => self.account.repo.tree().pick(&mut self.rng),
            _ => None,
        };
        let write = match existing {
            Some(path) => Write::Delete(path.to_string()),
            None => self.create(),
        };
        self.account.commit(&[write])
    }

    /// The place of a collection, the common ones more often.
    fn kind(&mut self) -> usize {
        match self.rng.u8(..100) {
            0..60 => 0,
            60..75 => 1,
            75..85 => 2,
            _ => 3,
        }
    }

    fn create(&mut self) -> Write {
        let kind = self.kind();
        let collection = COLLECTIONS[kind];
        let record = match kind {
            0 | 1 => self.about_post(collection),
            2 => self.follow(),
            _ => self.post(),
        };
        let rkey = self.account.rkey(self.account.records());
        Write::Put(
            format!("{collection}/{rkey}"),
            Block::of_cbor(record.into_bytes()),
        )
    }

    /// A like or a repost.
    fn about_post(&mut self, collection: &str) -> Writer {
        let mut out = Writer::new();
        out.map(3).text("$type").text(collection);
        out.text("subject");
        self.reference(&mut out);
        out.text("createdAt").text(&now());
        out
    }

    fn follow(&mut self) -> Writer {
        let mut out = Writer::new();
        out.map(3).text("$type").text(COLLECTIONS[2]);
        out.text("subject").text(&self.did());
        out.text("createdAt").text(&now());
        out
    }

    /// A post, often an answer.
    fn post(&mut self) -> Writer {
        let replies = self.rng.bool();
        let mut out = Writer::new();
        out.map(4 + usize::from(replies));
        out.text("text").text(&self.text());
        out.text("$type").text(COLLECTIONS[3]);
        out.text("langs").array(1).text("en");
        if replies {
            out.text("reply").map(2).text("root");
            self.reference(&mut out);
            out.text("parent");
            self.reference(&mut out);
        }
        out.text("createdAt").text(&now());
        out
    }

    /// A post of somebody.
    fn reference(&mut self, out: &mut Writer) {
        let cid = Cid::of_cbor(&self.rng.u64(..).to_le_bytes());
        let rkey = Tid::from_micros(self.rng.u64(1 << 50..1 << 51), self.rng.u16(..1 << 10));
        let uri = format!("at://{}/app.bsky.feed.post/{rkey}", self.did());
        out.map(2).text("cid").text(&cid.to_string());
        out.text("uri").text(&uri);
    }

    /// Somebody.
    fn did(&mut self) -> String {
        const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let name = (0..24).map(|_| char::from(BASE32[self.rng.usize(..32)]));
        format!("did:plc:{}", name.collect::<String>())
    }

    /// Words, the common ones more often.
    fn text(&mut self) -> String {
        let count = self.rng.usize(1..45);
        let words = (0..count).map(|_| {
            let place = (VOCABULARY as f64).powf(self.rng.f64());
            &*self.words[place as usize - 1]
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn now() -> String {
    clock::datetime(clock::micros())
}

/// A word that nobody knows.
fn word(rng: &mut fastrand::Rng) -> String {
    let syllables = rng.usize(1..4);
    let letters = (0..syllables).flat_map(|_| {
        let consonant = b"bcdfghjklmnprstvwz"[rng.usize(..18)];
        [consonant, b"aeiou"[rng.usize(..5)]]
    });
    letters.map(char::from).collect()
}
