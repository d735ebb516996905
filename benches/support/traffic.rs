//! Realistic commits of many accounts: what people write on the network, in the shares in which they
//! write it, in repositories of very different sizes. What cannot be compressed in reality (CIDs,
//! keys, signatures) cannot be here, and what repeats there repeats here no more often.

use zlay::{
    atproto::{cbor::Writer, cid::Cid, tid::Tid},
    sim::{
        account::Account,
        clock,
        event::Event,
        repo::Write,
        tree::Block,
    },
};

/// Words that people use.
const VOCABULARY: usize = 5_000;
/// Records that an account has at the start: so many at least and at the most, each order of
/// magnitude as often as the others.
const RECORDS: (f64, f64) = (50.0, 5_000.0);

/// Accounts, and what they do next.
pub(crate) struct Traffic {
    rng: fastrand::Rng,
    words: Vec<String>,
    pub(crate) accounts: Vec<Account>,
}

impl Traffic {
    /// So many accounts, with histories.
    pub(crate) fn new(accounts: usize) -> Traffic {
        let mut rng = fastrand::Rng::with_seed(1);
        let words = (0..VOCABULARY).map(|_| word(&mut rng)).collect();
        let people = (0..accounts).map(|_| Account::random(&mut rng, 0));
        let mut traffic = Traffic {
            accounts: people.collect(),
            words,
            rng,
        };
        for n in 0..accounts {
            let records = RECORDS.0 * (RECORDS.1 / RECORDS.0).powf(traffic.rng.f64());
            let mut account = traffic.accounts[n].clone();
            let writes: Vec<Write> = (0..records as u64)
                .map(|record| traffic.create(&account, record))
                .collect();
            // Nobody is told of it, so it need not be signed.
            account.draft(&writes);
            traffic.accounts[n] = account;
        }
        traffic
    }

    /// The next commit, and the index of its account.
    pub(crate) fn commit(&mut self) -> (usize, Event) {
        let index = self.rng.usize(..self.accounts.len());
        let mut account = self.accounts[index].clone();
        let existing = match self.rng.u8(..100) {
            0..7 => account.repo.tree().pick(&mut self.rng),
            _ => None,
        };
        let write = match existing {
            Some(path) => Write::Delete(path.to_string()),
            None => self.create(&account, account.records()),
        };
        let event = account.commit(&[write]);
        self.accounts[index] = account;
        (index, event)
    }

    fn create(&mut self, account: &Account, n: u64) -> Write {
        let (collection, record) = match self.rng.u8(..100) {
            0..60 => {
                let name = "app.bsky.feed.like";
                (name, self.about_post(name))
            }
            60..75 => {
                let name = "app.bsky.feed.repost";
                (name, self.about_post(name))
            }
            75..85 => ("app.bsky.graph.follow", self.follow()),
            _ => ("app.bsky.feed.post", self.post()),
        };
        let path = format!("{collection}/{}", account.rkey(n));
        Write::Put(path, Block::of_cbor(record.into_bytes()))
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
        out.map(3).text("$type").text("app.bsky.graph.follow");
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
        out.text("$type").text("app.bsky.feed.post");
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
