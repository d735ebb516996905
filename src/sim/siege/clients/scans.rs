//! Everything that can be replayed, by many at once, again and again.

use std::{io, time::Duration};

use super::{
    super::{
        attack::{Attack, Seen, stand_back},
        field::Field,
    },
    crowd::panics,
};
use crate::{
    sim::{account::Account, keys::Curve, sink::Sinks},
    threads::Stop,
};

/// Subscribers at once.
const CLIENTS: usize = 50;
/// Commits that there are to be replayed, and the text of each, in bytes: more than the relay has in
/// memory.
const COMMITS: usize = 6_000;
const TEXT_BYTES: usize = 16 << 10;
/// Accounts that make them; the tree of one must not grow too large.
const ACCOUNTS: usize = 60;
/// Between two looks at how far they are.
const LOOK: Duration = Duration::from_millis(200);

/// How long they may take to come out of the relay.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
/// Events of those who behave that are on their way at any time.
const UNDER_WAY: u64 = 100;

/// The attack.
#[derive(Default)]
pub(super) struct Scans {
    bytes: u64,
    scans: usize,
    panics: f64,
}

impl Attack for Scans {
    fn name(&self) -> &'static str {
        "window-scans"
    }

    fn about(&self) -> &'static str {
        "50 subscribers that replay the whole window at once, again and again"
    }

    fn prepare(&mut self, field: &Field) -> io::Result<()> {
        self.panics = panics(field)?;
        let mut rng = fastrand::Rng::with_seed(0x5ca1);
        let hosts = field.network.len();
        let mut accounts: Vec<Account> = (0..ACCOUNTS)
            .map(|n| Account::with_curve(&mut rng, n % hosts, Curve::K256))
            .collect();
        for account in &accounts {
            field.network.register(account);
        }
        for n in 0..COMMITS {
            let account = &mut accounts[n % ACCOUNTS];
            // As compressible as text.
            let text: String = (0..TEXT_BYTES / 8)
                .map(|_| format!("{:07} ", rng.u32(..10_000_000)))
                .collect();
            let post = account.post(&text);
            let event = account.commit(&[post]);
            field.network.publish(account.host, &event);
        }
        // The hosts may send so many only little by little.
        let looks = READY_TIMEOUT.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if field.network.expected().outstanding() <= UNDER_WAY {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Err(io::Error::other("the window was not filled in time"))
    }

    fn run(&mut self, field: &Field, stop: &Stop) -> io::Result<()> {
        stand_back()?;
        while !stop.requested() {
            let sinks = Sinks::connect(field.client.address(), CLIENTS, Some(0))?;
            let window = (COMMITS * TEXT_BYTES) as u64;
            let all = |sinks: &Sinks| sinks.bytes().iter().all(|bytes| *bytes > window);
            while !all(&sinks) && !stop.wait(LOOK) {}
            self.bytes += sinks.total();
            self.scans += sinks
                .bytes()
                .iter()
                .filter(|bytes| **bytes > window)
                .count();
        }
        Ok(())
    }

    fn seen(&mut self, field: &Field) -> io::Result<Seen> {
        let words = format!("{} whole scans, {} MiB sent", self.scans, self.bytes >> 20);
        let panicked = panics(field)? > self.panics;
        Ok(Seen {
            words,
            amiss: panicked.then(|| "a panic".to_owned()),
        })
    }
}
