//! What goes wrong on request.

use std::time::{Duration, Instant};

use super::{
    feed::Once,
    forge::{self, Flaw},
    plc::PlcFaults,
    traffic::Traffic,
};
use crate::reject::Reject;

/// How much goes wrong.
#[derive(clap::ValueEnum, Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Faults {
    /// Nothing.
    #[default]
    None,
    /// One event in a hundred is a fault.
    Some,
    /// One event in fifteen is a fault.
    Many,
}

impl Faults {
    /// The share of steps that are faults.
    fn share(self) -> f64 {
        match self {
            Faults::None => 0.0,
            Faults::Some => 1.0 / 100.0,
            Faults::Many => 1.0 / 15.0,
        }
    }
}

/// Events that a host has sent before its connection is disturbed: by then the relay has a cursor
/// to come back with.
const EVENTS_FIRST: u64 = 5;
/// And how long ago the first of them was.
const QUIET_FIRST: Duration = Duration::from_secs(3);
/// Between two disturbances of one host's connection.
const QUIET_BETWEEN: Duration = Duration::from_secs(5);
/// The longest silence of a stalled host.
const STALL_MAX: Duration = Duration::from_secs(3);
/// How long a host or the directory is away.
const AWAY_MAX: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Default, Debug)]
struct HostState {
    events: u64,
    first: Option<Instant>,
    disturbed: Option<Instant>,
    refuses_until: Option<Instant>,
}

/// What went wrong where.
#[derive(Debug)]
pub(super) struct State {
    hosts: Vec<HostState>,
    directory_until: Option<Instant>,
    next_flaw: usize,
}

impl State {
    pub(super) fn new(hosts: usize) -> State {
        State {
            hosts: vec![HostState::default(); hosts],
            directory_until: None,
            next_flaw: 0,
        }
    }

    pub(super) fn count_event(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        state.events += 1;
        state.first.get_or_insert_with(Instant::now);
    }

    /// Whether the host's connection may be disturbed now; if so, it is.
    fn disturb(&mut self, host: usize) -> bool {
        let state = &mut self.hosts[host];
        let settled = state.events >= EVENTS_FIRST
            && state.first.is_some_and(|t| t.elapsed() > QUIET_FIRST)
            && state.disturbed.is_none_or(|t| t.elapsed() > QUIET_BETWEEN);
        if settled {
            state.disturbed = Some(Instant::now());
        }
        settled
    }
}

impl Traffic {
    /// Perhaps a fault instead of an event.
    pub(super) fn fault(&mut self) -> bool {
        self.end_absences();
        if self.rng.f64() >= self.mix.faults.share() {
            return false;
        }
        let host = self.pick_host();
        if !self.is_ready(host) {
            return false;
        }
        match self.rng.u8(..100) {
            0..70 => self.inject_flaw(host),
            70..80 => self.repeat(host),
            80..86 => self.inject_ignored(host),
            _ => self.disturb(host),
        }
    }

    fn end_absences(&mut self) {
        let now = Instant::now();
        if self
            .faults
            .directory_until
            .is_some_and(|until| now >= until)
        {
            self.faults.directory_until = None;
            self.network.plc().set_faults(PlcFaults::default());
        }
        for (i, host) in self.faults.hosts.iter_mut().enumerate() {
            if host.refuses_until.is_some_and(|until| now >= until) {
                host.refuses_until = None;
                self.network.host(i).set_refuses(false);
            }
        }
    }

    /// An account of the host whose repository the relay knows.
    fn pick_seen(&mut self, host: usize) -> Option<usize> {
        self.pick_account(host)
            .filter(|slot| self.slots[*slot].seen)
    }

    /// The next kind of invalid event, so that all of them come.
    fn inject_flaw(&mut self, host: usize) -> bool {
        let (Some(slot), Some(other)) = (self.pick_seen(host), self.pick_seen(host)) else {
            return false;
        };
        // One kind beyond the flaws: a valid event from a host that has no say.
        let kind = self.faults.next_flaw % (Flaw::ALL.len() + 1);
        let account = self.slots[slot].account.clone();
        match Flaw::ALL.get(kind) {
            Some(flaw) => {
                let other = self.slots[other].account.did().clone();
                if *flaw == Flaw::RepoMismatch && other == *account.did() {
                    return false;
                }
                if *flaw == Flaw::UpdateWithoutPrev && account.repo.tree().is_empty() {
                    return false;
                }
                let event = forge::forge(&account, &other, *flaw, &mut self.rng);
                self.publish_invalid(host, &event, flaw.reject());
            }
            None => {
                let elsewhere = self.pick_host();
                if elsewhere == host || !self.is_ready(elsewhere) {
                    return false;
                }
                let mut copy = account;
                let event = copy.commit(&[copy.post("from elsewhere")]);
                self.publish_invalid(elsewhere, &event, Reject::WrongHost);
            }
        }
        self.faults.next_flaw += 1;
        true
    }

    /// The last commit again: under a new sequence number, or under the last one of the host.
    fn repeat(&mut self, host: usize) -> bool {
        let Some(slot) = self.pick_seen(host) else {
            return false;
        };
        let account = &self.slots[slot].account;
        if self.rng.bool() {
            if let Some(event) = account.sync() {
                self.publish_invalid(host, &event, Reject::RevStale);
            }
        } else {
            let mut copy = account.clone();
            let event = copy.commit(&[copy.post("not later than the last")]);
            let seq = self.network.host(host).seq();
            if seq == 0 {
                return false;
            }
            let expected = self.network.expected();
            expected.expect_reject(Reject::SeqNotIncreasing);
            // Where a new connection begins with it, it can not be told from a replay that includes the
            // event of the cursor, and it is valid by itself.
            expected.tolerate(&event);
            self.network.host(host).emit_at(&event, seq);
            self.count_fault();
        }
        true
    }

    fn inject_ignored(&mut self, host: usize) -> bool {
        let Some(slot) = self.pick_seen(host) else {
            return false;
        };
        let event = self.slots[slot].account.identity();
        let seq = self.network.host(host).seq() + 1;
        let once = forge::ignored(&event, seq, &mut self.rng);
        self.network.host(host).inject(once);
        self.count_fault();
        true
    }

    /// Something about the connection, or about the directory.
    fn disturb(&mut self, host: usize) -> bool {
        if !self.faults.disturb(host) {
            return false;
        }
        let Some(slot) = self.pick_account(host) else {
            return false;
        };
        let mut copy = self.slots[slot].account.clone();
        let event = copy.commit(&[copy.post("never whole")]);
        let seq = self.network.host(host).seq() + 1;
        let target = self.network.host(host).clone();
        match self.rng.u8(..20) {
            0..5 => target.inject(Once::Cut),
            5..9 => target.inject(Once::CutInside(event.frame(seq))),
            9..11 => target.inject(Once::Close),
            11..13 => {
                let stall = STALL_MAX.mul_f64(self.rng.f64());
                target.inject(Once::Stall(stall));
            }
            13..17 => {
                target.inject(forge::broken(&event, seq, &mut self.rng));
                self.network
                    .expected()
                    .expect_reject(Reject::FrameMalformed);
            }
            17 => {
                target.inject(forge::oversized());
                self.network
                    .expected()
                    .expect_reject(Reject::FrameMalformed);
            }
            18 => {
                target.set_refuses(true);
                target.inject(Once::Cut);
                let away = AWAY_MAX.mul_f64(self.rng.f64());
                self.faults.hosts[host].refuses_until = Some(Instant::now() + away);
            }
            _ if !self.mix.directory_fails => target.inject(Once::Cut),
            _ => {
                let away = AWAY_MAX.mul_f64(self.rng.f64());
                self.faults.directory_until = Some(Instant::now() + away);
                let fail = self.rng.bool();
                let delay = Duration::from_millis(if fail { 0 } else { 500 });
                self.network.plc().set_faults(PlcFaults {
                    fail,
                    delay,
                    ..PlcFaults::default()
                });
            }
        }
        // A replay that begins with what is known already.
        target.set_inclusive(self.rng.bool());
        self.count_fault();
        true
    }
}
