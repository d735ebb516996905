//! What the person at the terminal has chosen, and what was seen before. Pure.

use std::{collections::VecDeque, time::Duration};

use super::{
    keys::Key,
    snapshot::{Host, Snapshot},
};

/// Values of the sparkline that are remembered.
const HISTORY: usize = 60;

/// By what hosts are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    Rate,
    Rejected,
    Lag,
    Accounts,
    Name,
}

impl Sort {
    const ALL: [Sort; 5] = [
        Sort::Rate,
        Sort::Rejected,
        Sort::Lag,
        Sort::Accounts,
        Sort::Name,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Sort::Rate => "events/s",
            Sort::Rejected => "rejected/s",
            Sort::Lag => "lag",
            Sort::Accounts => "accounts",
            Sort::Name => "name",
        }
    }

    /// What `/hosts.json` is asked for.
    pub(super) const fn query(self) -> &'static str {
        match self {
            Sort::Rate => "sort=rate",
            Sort::Rejected => "sort=rejected",
            Sort::Lag => "sort=last_event&order=asc",
            Sort::Accounts => "sort=accounts",
            Sort::Name => "sort=name",
        }
    }

    fn next(self) -> Sort {
        let at = Sort::ALL.iter().position(|sort| *sort == self);
        Sort::ALL[at.map_or(0, |at| (at + 1) % Sort::ALL.len())]
    }
}

/// Which hosts a relay is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wish {
    pub(super) sort: Sort,
    pub(super) failing_only: bool,
    /// The first ones of the order; none is all.
    pub(super) hosts: Option<usize>,
}

/// What is shown, and from which row on.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) sort: Sort,
    pub(super) failing_only: bool,
    /// The first host that is shown; the view keeps it within what there is.
    pub(super) first: usize,
    /// Events per second, the latest last.
    pub(super) history: VecDeque<f64>,
    before: Option<(Duration, Snapshot)>,
}

impl Default for State {
    fn default() -> State {
        State {
            sort: Sort::Rate,
            failing_only: false,
            first: 0,
            history: VecDeque::new(),
            before: None,
        }
    }
}

impl State {
    /// Which hosts are to be asked for, where `page` of them are shown.
    pub(super) fn wish(&self, page: usize) -> Wish {
        Wish {
            sort: self.sort,
            failing_only: self.failing_only,
            // One page ahead, for whoever scrolls on.
            hosts: Some(self.first + 2 * page),
        }
    }

    /// Obeys a key where `page` hosts are shown of `total`. Returns whether to go on.
    pub(super) fn press(&mut self, key: Key, page: usize, total: usize) -> bool {
        let last = total.saturating_sub(page);
        self.first = self.first.min(last);
        match key {
            Key::Quit => return false,
            Key::Sort => {
                self.sort = self.sort.next();
                self.first = 0;
            }
            Key::Failing => {
                self.failing_only = !self.failing_only;
                self.first = 0;
            }
            Key::Up => self.first = self.first.saturating_sub(1),
            Key::Down => self.first += 1,
            Key::PageUp => self.first = self.first.saturating_sub(page),
            Key::PageDown => self.first += page,
            Key::Home => self.first = 0,
            Key::End => self.first = last,
        }
        self.first = self.first.min(last);
        true
    }

    /// Takes note of what was seen `at` a time that only grows, and fills in what the relay does not
    /// say itself: rates, out of two counts of the same relay.
    pub(super) fn see(&mut self, at: Duration, snapshot: &mut Snapshot) {
        if let Some((then, before)) = &self.before {
            let seconds = at.saturating_sub(*then).as_secs_f64();
            let is_same = snapshot.uptime_seconds >= before.uptime_seconds;
            if is_same && seconds > 0.0 {
                let rate = |now, then| growth(now, then).map(|more| more / seconds);
                let events = rate(snapshot.events_total, before.events_total);
                snapshot.events_per_second = snapshot.events_per_second.or(events);
                let rejected = rate(snapshot.rejected_total, before.rejected_total);
                snapshot.rejected_per_second = snapshot.rejected_per_second.or(rejected);
                fill_in(&mut snapshot.hosts, &before.hosts, seconds);
            }
        }
        if self.before.is_none() {
            self.history.extend(&snapshot.history);
        }
        self.history.extend(snapshot.events_per_second);
        let old = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..old);
        self.before = Some((at, snapshot.clone()));
    }

    /// The hosts that are asked for, in the order that is asked for.
    pub(super) fn arrange<'a>(&self, hosts: &'a [Host]) -> Vec<&'a Host> {
        let shown = hosts
            .iter()
            .filter(|host| !self.failing_only || host.is_failing());
        let mut shown: Vec<&Host> = shown.collect();
        let known = |n: Option<f64>| n.unwrap_or(-1.0);
        shown.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Rate => known(b.events_per_second).total_cmp(&known(a.events_per_second)),
                Sort::Rejected => {
                    known(b.rejected_per_second).total_cmp(&known(a.rejected_per_second))
                }
                Sort::Lag => b.lag_ms.cmp(&a.lag_ms),
                Sort::Accounts => b.accounts.cmp(&a.accounts),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
        shown
    }
}

/// How much a count has grown; none where it began anew.
fn growth(now: Option<u64>, then: Option<u64>) -> Option<f64> {
    Some(now?.checked_sub(then?)? as f64)
}

fn fill_in(hosts: &mut [Host], before: &[Host], seconds: f64) {
    let before: std::collections::HashMap<&str, &Host> = before
        .iter()
        .map(|host| (host.name.as_str(), host))
        .collect();
    for host in hosts {
        let Some(then) = before.get(host.name.as_str()) else {
            continue;
        };
        let rate = |now, then| growth(now, then).map(|more| more / seconds);
        let events = rate(host.events_total, then.events_total);
        host.events_per_second = host.events_per_second.or(events);
        let rejected = rate(host.rejected_total, then.rejected_total);
        host.rejected_per_second = host.rejected_per_second.or(rejected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, events: u64) -> Host {
        Host {
            name: name.to_owned(),
            events_total: Some(events),
            ..Host::default()
        }
    }

    fn snapshot(uptime: u64, events: u64) -> Snapshot {
        Snapshot {
            uptime_seconds: Some(uptime),
            events_total: Some(events),
            rejected_total: Some(events / 10),
            hosts: vec![host("a", events), host("b", 2 * events)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_of_two_counts() {
        let mut state = State::default();
        let mut first = snapshot(1, 100);
        state.see(Duration::from_secs(1), &mut first);
        assert_eq!(
            (first.events_per_second, first.hosts[0].events_per_second),
            (None, None)
        );
        let mut second = snapshot(3, 200);
        state.see(Duration::from_secs(3), &mut second);
        assert_eq!(second.events_per_second, Some(50.0));
        assert_eq!(second.rejected_per_second, Some(5.0));
        assert_eq!(second.hosts[1].events_per_second, Some(100.0));
        assert_eq!(state.history, [50.0]);
        // The relay was started anew: its counts can not be compared.
        let mut third = snapshot(0, 300);
        state.see(Duration::from_secs(5), &mut third);
        assert_eq!(third.events_per_second, None);
        // What it says itself goes before.
        let mut fourth = Snapshot {
            events_per_second: Some(7.5),
            ..snapshot(9, 900)
        };
        state.see(Duration::from_secs(6), &mut fourth);
        assert_eq!(fourth.events_per_second, Some(7.5));
        assert_eq!(state.history, [50.0, 7.5]);
    }

    #[test]
    fn history_is_bounded_and_begins_with_that_of_the_relay() {
        let mut state = State::default();
        let mut first = Snapshot {
            history: (0..100).map(f64::from).collect(),
            events_per_second: Some(7.0),
            ..Snapshot::default()
        };
        state.see(Duration::ZERO, &mut first.clone());
        assert_eq!(state.history.len(), HISTORY);
        assert_eq!(
            state.history.iter().rev().take(2).collect::<Vec<_>>(),
            [&7.0, &99.0]
        );
        state.see(Duration::from_secs(1), &mut first);
        assert_eq!(
            state.history.iter().rev().take(2).collect::<Vec<_>>(),
            [&7.0, &7.0]
        );
        for n in 0..1_000 {
            let mut snapshot = Snapshot {
                events_per_second: Some(f64::from(n)),
                ..Snapshot::default()
            };
            state.see(Duration::from_secs(1), &mut snapshot);
        }
        assert_eq!(state.history.len(), HISTORY);
        assert_eq!(state.history.back(), Some(&999.0));
    }

    #[test]
    fn scrolling_stays_within_the_hosts() {
        let mut state = State::default();
        let mut press = |key, page, total| {
            assert!(state.press(key, page, total));
            state.first
        };
        assert_eq!(press(Key::Up, 10, 25), 0);
        assert_eq!(press(Key::Down, 10, 25), 1);
        assert_eq!(press(Key::PageDown, 10, 25), 11);
        assert_eq!(press(Key::PageDown, 10, 25), 15);
        assert_eq!(press(Key::PageUp, 10, 25), 5);
        assert_eq!(press(Key::End, 10, 25), 15);
        // There are fewer now.
        assert_eq!(press(Key::Down, 10, 12), 2);
        assert_eq!(press(Key::Home, 10, 12), 0);
        assert_eq!(press(Key::Down, 10, 3), 0);
        assert!(!state.press(Key::Quit, 10, 3));
    }

    #[test]
    fn hosts_are_sorted_and_filtered() {
        let mut hosts = vec![host("b", 0), host("a", 0), host("c", 0)];
        hosts[0].events_per_second = Some(1.0);
        hosts[2].events_per_second = Some(2.0);
        hosts[1].lag_ms = Some(5);
        hosts[1].state = Some("offline".to_owned());
        let mut state = State::default();
        let names = |state: &State| {
            let hosts = state.arrange(&hosts);
            hosts
                .iter()
                .map(|host| host.name.clone())
                .collect::<String>()
        };
        assert_eq!(names(&state), "cba");
        state.sort = Sort::Lag;
        assert_eq!(names(&state), "abc");
        state.press(Key::Failing, 9, 9);
        assert_eq!(names(&state), "a");
        for _ in 0..Sort::ALL.len() {
            state.press(Key::Sort, 9, 9);
        }
        assert_eq!(state.sort, Sort::Lag);
    }
}
