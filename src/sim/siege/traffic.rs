//! What the hosts that behave say: commits at a steady rate, by accounts that are known and, now
//! and then, by ones that nobody has heard of.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::field::Field;
use crate::{
    sim::{account::Account, keys::Curve, workers::Workers},
    threads::Stop,
};

/// One event in so many is the first of a new account, for which the directory has to be asked.
const NEWCOMER_EVERY: u64 = 20;
/// Records of an account after which another one takes its place: commits are to cost the same
/// from the first minute to the last.
const RECORDS_MAX: u64 = 400;
/// The stack of the thread, in bytes: trees are followed recursively.
const STACK_BYTES: usize = 8 << 20;

/// Running traffic; dropping it ends it.
pub(super) struct Traffic {
    workers: Workers,
}

impl Traffic {
    /// Lets every account say something once, and then so many events a second in all.
    pub(super) fn start(
        field: Arc<Field>,
        accounts: usize,
        rate: f64,
        seed: u64,
    ) -> io::Result<Traffic> {
        let interval = Duration::try_from_secs_f64(1.0 / rate).map_err(io::Error::other)?;
        let mut crowd = Crowd::new(field, accounts, seed);
        let workers = Workers::one("traffic", STACK_BYTES, move |stop| {
            crowd.talk(interval, stop);
        })?;
        Ok(Traffic { workers })
    }

    /// Whether it has ended by itself, which it never should.
    pub(super) fn has_ended(&self) -> bool {
        self.workers.has_lost_one()
    }
}

struct Crowd {
    field: Arc<Field>,
    accounts: Vec<Account>,
    rng: fastrand::Rng,
    sent: u64,
}

impl Crowd {
    fn new(field: Arc<Field>, accounts: usize, seed: u64) -> Crowd {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hosts = field.network.len();
        let mut crowd = Crowd {
            accounts: (0..accounts * hosts)
                .map(|n| Account::with_curve(&mut rng, n % hosts, Curve::K256))
                .collect(),
            field,
            rng,
            sent: 0,
        };
        for n in 0..crowd.accounts.len() {
            crowd.field.network.register(&crowd.accounts[n]);
            crowd.introduce(n);
        }
        crowd
    }

    fn talk(&mut self, interval: Duration, stop: &Stop) {
        let mut due = Instant::now();
        while !stop.requested() {
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            self.say();
            due += interval;
        }
    }

    fn say(&mut self) {
        self.sent += 1;
        let n = self.rng.usize(..self.accounts.len());
        let account = &mut self.accounts[n];
        if self.sent.is_multiple_of(NEWCOMER_EVERY) || account.records() >= RECORDS_MAX {
            let host = account.host;
            self.accounts[n] = Account::with_curve(&mut self.rng, host, Curve::K256);
            self.field.network.register(&self.accounts[n]);
            return self.introduce(n);
        }
        let post = account.post("a text of the length that people write, more or less");
        let event = account.commit(&[post]);
        // Making it is not part of its delay.
        self.field.network.publish(account.host, &event);
    }

    /// The first word of an account.
    fn introduce(&mut self, n: usize) {
        let account = &mut self.accounts[n];
        let post = account.post("hello");
        let event = account.commit(&[post]);
        self.field.network.expected().expect_apart(&event);
        self.field.network.host(account.host).emit(&event);
    }
}
