//! The list of hosts as data: what a line has, and which lines are asked for in which order.

use std::cmp::Ordering;

use serde::Serialize;

use crate::{
    atproto::datetime,
    control::HostStatus,
    host::state::State,
    http::{hosts::Detail, query::Query, response::Response},
    limits::{HOST_BEHIND_SHOWN, HOSTS_FILTER_BYTES_MAX, HOSTS_PAGE_SIZE},
};

/// A host in the list.
#[derive(Clone, Serialize, Debug)]
pub(super) struct Line {
    pub(super) hostname: String,
    pub(super) status: &'static str,
    /// In a few words.
    pub(super) state: &'static str,
    /// Whether it could be heard and is not, though the relay tries.
    pub(super) failing: bool,
    pub(super) accounts: u64,
    pub(super) account_limit: Option<u64>,
    pub(super) received: u64,
    pub(super) forwarded: u64,
    pub(super) rejected: u64,
    pub(super) per_second: f64,
    pub(super) seq: u64,
    pub(super) last_event: Option<String>,
    #[serde(skip)]
    pub(super) last_event_ms: u64,
    pub(super) last_error: Option<String>,
}

impl Line {
    pub(super) fn new(detail: &Detail) -> Line {
        let tally = detail.tally.as_deref();
        let count = |count: fn(&crate::metrics::hosts::Tally) -> u64| tally.map_or(0, count);
        let last_event_ms = count(|tally| tally.received_at_ms.get());
        let refused = |tally: &crate::metrics::hosts::Tally| {
            tally.refused().iter().map(|(_, count)| count).sum()
        };
        Line {
            hostname: detail.row.name.to_string(),
            status: detail.status.name(),
            state: state(detail),
            failing: is_failing(detail),
            accounts: detail.accounts,
            account_limit: detail.account_limit,
            received: count(|tally| tally.received.get()),
            forwarded: count(|tally| tally.forwarded.get()),
            rejected: tally.map_or(0, refused),
            per_second: count(|tally| tally.rate_milli.get()) as f64 / 1_000.0,
            seq: detail.cursor,
            last_event: (last_event_ms > 0).then(|| datetime::from_millis(last_event_ms)),
            last_event_ms,
            last_error: detail.row.observed.last_error.clone(),
        }
    }
}

/// How a host does, in a few words.
pub(super) fn state(detail: &Detail) -> &'static str {
    if detail.status == HostStatus::Banned {
        return "banned";
    }
    let behind = detail.tally.as_ref().and_then(|tally| tally.behind_ms());
    let is_behind = behind.is_some_and(|ms| u128::from(ms) >= HOST_BEHIND_SHOWN.as_millis());
    match &detail.state {
        None => "about to connect",
        Some(State::Connected { .. }) if is_behind => "catching up",
        Some(State::Connected { .. }) => "connected",
        Some(State::Throttled { .. }) => "over its limit",
        Some(State::Idle { .. }) => "about to connect",
        Some(State::BackingOff { .. }) => "waiting to retry",
        Some(State::Offline { .. }) => "not reached",
    }
}

fn is_failing(detail: &Detail) -> bool {
    detail.status != HostStatus::Banned
        && (detail.status == HostStatus::Offline
            || matches!(
                detail.state,
                Some(State::BackingOff { .. } | State::Offline { .. })
            ))
}

/// A column by which the list can be in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    Name,
    State,
    Accounts,
    Received,
    Forwarded,
    Rejected,
    Rate,
    Seq,
    LastEvent,
    LastError,
}

impl Sort {
    pub(super) const ALL: [Sort; 10] = [
        Sort::Name,
        Sort::State,
        Sort::Accounts,
        Sort::Rate,
        Sort::Received,
        Sort::Forwarded,
        Sort::Rejected,
        Sort::Seq,
        Sort::LastEvent,
        Sort::LastError,
    ];

    /// The name in the query.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::State => "state",
            Sort::Accounts => "accounts",
            Sort::Received => "received",
            Sort::Forwarded => "forwarded",
            Sort::Rejected => "rejected",
            Sort::Rate => "rate",
            Sort::Seq => "seq",
            Sort::LastEvent => "last_event",
            Sort::LastError => "last_error",
        }
    }

    /// The head of the column.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Sort::Name => "Host",
            Sort::State => "State",
            Sort::Accounts => "Accounts / limit",
            Sort::Received => "Received",
            Sort::Forwarded => "Forwarded",
            Sort::Rejected => "Rejected",
            Sort::Rate => "Per second",
            Sort::Seq => "Cursor",
            Sort::LastEvent => "Last event",
            Sort::LastError => "Last error",
        }
    }

    pub(super) const fn is_number(self) -> bool {
        !matches!(self, Sort::Name | Sort::State | Sort::LastError)
    }

    /// What is first where no order is asked for: of numbers the largest.
    pub(super) const fn descends(self) -> bool {
        self.is_number() || matches!(self, Sort::LastError)
    }

    fn compare(self, a: &Line, b: &Line) -> Ordering {
        match self {
            Sort::Name => Ordering::Equal,
            Sort::State => a.state.cmp(b.state),
            Sort::Accounts => a.accounts.cmp(&b.accounts),
            Sort::Received => a.received.cmp(&b.received),
            Sort::Forwarded => a.forwarded.cmp(&b.forwarded),
            Sort::Rejected => a.rejected.cmp(&b.rejected),
            Sort::Rate => a.per_second.total_cmp(&b.per_second),
            Sort::Seq => a.seq.cmp(&b.seq),
            Sort::LastEvent => a.last_event_ms.cmp(&b.last_event_ms),
            Sort::LastError => a.last_error.cmp(&b.last_error),
        }
    }
}

/// Which hosts are asked for, and in which order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wish {
    /// In lower case; empty: any.
    pub(super) text: String,
    pub(super) status: Option<HostStatus>,
    pub(super) failing: bool,
    pub(super) sort: Sort,
    pub(super) descending: bool,
    /// From 1.
    pub(super) page: usize,
}

impl Wish {
    /// Of the parameters `q`, `status`, `show`, `sort`, `order` and `page`; the error is the answer.
    pub(super) fn parse(raw: &str) -> Result<Wish, Response> {
        let query = Query::parse(raw)?;
        let names = ["q", "status", "show", "sort", "order", "page"];
        if let Some(name) = names.into_iter().find(|name| query.repeats(name)) {
            return Err(Response::invalid(&format!("{name} is there twice")));
        }
        let text = query.get("q").unwrap_or_default().trim().to_lowercase();
        if text.len() > HOSTS_FILTER_BYTES_MAX {
            let message = format!("q has more than {HOSTS_FILTER_BYTES_MAX} bytes");
            return Err(Response::invalid(&message));
        }
        let status = one_of(&query, "status", &HostStatus::ALL, HostStatus::name)?;
        let failing = one_of(&query, "show", &["failing"], |name| name)?.is_some();
        let sort = one_of(&query, "sort", &Sort::ALL, Sort::name)?.unwrap_or(Sort::Name);
        let order = one_of(&query, "order", &["asc", "desc"], |name| name)?;
        let page = query.get("page").unwrap_or("1");
        let digits = page.bytes().all(|b| b.is_ascii_digit());
        let page = page.parse().ok().filter(|page| digits && *page > 0);
        Ok(Wish {
            text,
            status,
            failing,
            sort,
            descending: order.map_or(sort.descends(), |order| order == "desc"),
            page: page.ok_or_else(|| Response::invalid("page is not a number from 1"))?,
        })
    }

    /// The query for the same with other values of some parameters.
    pub(super) fn query(&self, change: impl FnOnce(&mut Wish)) -> String {
        let mut wish = self.clone();
        change(&mut wish);
        let mut pairs = Vec::new();
        let mut push = |name: &str, value: &str| {
            pairs.push(format!("{name}={}", super::html::in_url(value)));
        };
        if !wish.text.is_empty() {
            push("q", &wish.text);
        }
        if let Some(status) = wish.status {
            push("status", status.name());
        }
        if wish.failing {
            push("show", "failing");
        }
        if wish.sort != Sort::Name || wish.descending {
            push("sort", wish.sort.name());
            if wish.descending != wish.sort.descends() {
                push("order", if wish.descending { "desc" } else { "asc" });
            }
        }
        if wish.page > 1 {
            push("page", &wish.page.to_string());
        }
        match pairs.is_empty() {
            true => "/hosts".to_owned(),
            false => format!("/hosts?{}", pairs.join("&")),
        }
    }

    /// The lines of the page that is asked for, and how many there are on all pages.
    pub(super) fn of<'a>(&self, lines: &'a [Line]) -> (Vec<&'a Line>, usize) {
        let mut found: Vec<&Line> = lines.iter().filter(|line| self.fits(line)).collect();
        found.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            let order = if self.descending {
                order.reverse()
            } else {
                order
            };
            let by_name = a.hostname.cmp(&b.hostname);
            let reversed = self.sort == Sort::Name && self.descending;
            order.then(if reversed { by_name.reverse() } else { by_name })
        });
        let matching = found.len();
        let first = (self.page - 1)
            .saturating_mul(HOSTS_PAGE_SIZE)
            .min(matching);
        let last = first.saturating_add(HOSTS_PAGE_SIZE).min(matching);
        (found[first..last].to_vec(), matching)
    }

    fn fits(&self, line: &Line) -> bool {
        self.status
            .is_none_or(|status| status.name() == line.status)
            && (!self.failing || line.failing)
            && (self.text.is_empty() || line.hostname.contains(&self.text))
    }
}

/// Pages that so many hosts fill; at least one.
pub(super) fn pages(matching: usize) -> usize {
    matching.div_ceil(HOSTS_PAGE_SIZE).max(1)
}

/// The value that a parameter names; the error names all that it can.
fn one_of<T: Copy>(
    query: &Query,
    parameter: &str,
    values: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Response> {
    let Some(text) = query.get(parameter) else {
        return Ok(None);
    };
    let value = values.iter().copied().find(|value| name(*value) == text);
    let names = || values.iter().map(|value| name(*value)).collect::<Vec<_>>();
    value
        .map(Some)
        .ok_or_else(|| Response::invalid(&format!("{parameter} is none of {}", names().join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{atproto::hostname::Hostname, http::hosts::tests::detail};

    fn lines(count: u64) -> Vec<Line> {
        let line = |n| {
            let mut detail = detail();
            detail.row.name = Hostname::parse(&format!("pds{n:04}.example.com")).unwrap();
            detail.accounts = n % 7;
            if n % 10 == 0 {
                detail.status = HostStatus::Offline;
                detail.row.observed.last_error = Some(format!("refused {n}"));
            }
            Line::new(&detail)
        };
        (0..count).map(line).collect()
    }

    #[test]
    fn hosts_are_filtered_sorted_and_cut_into_pages() {
        let lines = lines(2_750);
        let names = |query: &str| {
            let (page, matching) = Wish::parse(query).unwrap().of(&lines);
            let names: Vec<String> = page.iter().map(|line| line.hostname.clone()).collect();
            (names, matching)
        };
        let (all, matching) = names("");
        assert_eq!((all.len(), matching, pages(matching)), (100, 2_750, 28));
        assert_eq!(all[0], "pds0000.example.com");
        assert_eq!(names("page=28").0.len(), 50);
        assert_eq!(names("page=29").0.len(), 0);
        assert_eq!(names("page=99999999999999999").0.len(), 0);
        assert_eq!(names("q=PDS274").1, 10);
        assert_eq!(names("q=nothing").1, 0);
        assert_eq!(names("status=offline"), names("show=failing"));
        assert_eq!(names("show=failing&status=active").1, 0);
        assert_eq!(names("sort=accounts").0[0], "pds0006.example.com");
        assert_eq!(names("sort=accounts&order=asc").0[0], "pds0000.example.com");
        assert_eq!(names("sort=name&order=desc").0[0], "pds2749.example.com");
        assert_eq!(names("sort=last_error").0[0], "pds0990.example.com");
        for sort in Sort::ALL {
            assert_eq!(names(&format!("sort={}", sort.name())).1, 2_750);
        }
    }

    #[test]
    fn what_can_not_be_asked_for_is_said() {
        for bad in [
            "page=0",
            "page=-1",
            "page=x",
            "page=%2B1",
            "sort=color",
            "order=up",
            "status=fine",
            "show=all",
            "q=%ff",
            &format!("q={}", "x".repeat(254)),
        ] {
            assert_eq!(Wish::parse(bad).unwrap_err().status, 400, "{bad}");
        }
        let text = |raw: &str| Wish::parse(raw).unwrap().query(|_| ());
        for same in [
            "/hosts?q=a%20b&status=offline&sort=seq&order=asc&page=3",
            "/hosts",
        ] {
            let query = same.split_once('?').map_or("", |(_, query)| query);
            assert_eq!(text(query), same);
        }
    }
}
