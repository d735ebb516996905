//! Commits made before the clock runs: making one costs the simulator more than proving one costs
//! a relay, so that a relay could not be driven to its limit by commits made on the way.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    atproto::{commit::Commit, crypto::PublicKey},
    sim::{
        Network,
        account::{self, Account},
        event::Event,
        keys::Curve,
        repo::{Sealed, Write},
        tree::Block,
    },
};

/// Writes of one commit of an account's history.
const HISTORY_CHUNK: usize = 100;
/// Commits that are kept in their parts, for the limit that they stand beside.
const SAMPLES_MAX: usize = 2_000;

/// A network's accounts, and what they will say.
pub(super) struct Corpus {
    /// Commits in the order in which they are to be sent, with the index of their host.
    events: VecDeque<(usize, Event)>,
    /// What the first commits are made of.
    pub(super) samples: Vec<Sample>,
    accounts: Vec<Account>,
}

/// What a proof of a commit can not do without.
pub(super) struct Sample {
    /// Everything that has to be hashed.
    pub(super) blocks: Vec<Block>,
    /// What was signed.
    pub(super) unsigned: Vec<u8>,
    /// The signature.
    pub(super) signature: Vec<u8>,
    /// Whose it is.
    pub(super) key: Arc<PublicKey>,
    /// The whole frame.
    pub(super) frame: Vec<u8>,
}

impl Corpus {
    /// Accounts with `records` records each, which nobody has heard of, spread over the hosts of
    /// `network`.
    pub(super) fn new(network: &Network, accounts: usize, records: usize, seed: u64) -> Corpus {
        let mut rng = fastrand::Rng::with_seed(seed);
        let accounts = (0..accounts)
            .map(|n| {
                let host = n % network.len();
                // Nearly all accounts of the network have keys on this curve.
                let mut account = Account::with_curve(&mut rng, host, Curve::K256);
                for start in (0..records).step_by(HISTORY_CHUNK) {
                    let end = records.min(start + HISTORY_CHUNK);
                    let writes: Vec<Write> = (start..end).map(|n| write(&account, n)).collect();
                    account.commit(&writes);
                }
                network.register(&account);
                account
            })
            .collect();
        Corpus {
            events: VecDeque::new(),
            samples: Vec::new(),
            accounts,
        }
    }

    /// Makes `count` further commits, of one new record each, by all accounts in turn.
    pub(super) fn make(&mut self, count: usize) {
        let accounts = self.accounts.len();
        for n in 0..count {
            let account = &mut self.accounts[n % accounts];
            let next = write(account, account.records() as usize);
            let draft = account.draft(&[next]);
            let sealed = account.seal(draft);
            let event = sealed.message.event();
            if self.samples.len() < SAMPLES_MAX {
                self.samples.extend(Sample::of(account, &sealed, &event));
            }
            self.events.push_back((account.host, event));
        }
    }

    /// The next commit and its host; none where too few were made.
    pub(super) fn next(&mut self) -> Option<(usize, Event)> {
        self.events.pop_front()
    }

    /// How many accounts there are.
    pub(super) fn accounts(&self) -> usize {
        self.accounts.len()
    }
}

impl Sample {
    fn of(account: &Account, sealed: &Sealed, event: &Event) -> Option<Sample> {
        let object = Commit::parse(&sealed.commit.bytes).ok()?;
        let mut unsigned = Vec::new();
        object.unsigned_into(&mut unsigned);
        Some(Sample {
            blocks: sealed.blocks.clone(),
            unsigned,
            signature: object.sig.to_vec(),
            key: Arc::new(PublicKey::from_multikey(&account.key.multikey()).ok()?),
            frame: event.frame(1).to_vec(),
        })
    }
}

/// The `n`-th record of an account: posts of the length that people write, and as many likes.
fn write(account: &Account, n: usize) -> Write {
    let text = "a text of the length that people write, more or less, in a post of theirs. ";
    let rkey = account.rkey(n as u64);
    let (kind, text) = match n % 2 {
        0 => ("app.bsky.feed.post", text.repeat(3)),
        _ => ("app.bsky.feed.like", String::new()),
    };
    let record = account::record(kind, &text, n as u64);
    Write::Put(format!("{kind}/{rkey}"), record)
}
