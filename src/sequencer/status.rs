//! The status of an account as a state machine: what it is made of, what moves it, and what follows
//! for commits, syncs and subscribers (<https://atproto.com/specs/account#hosting-status>). Pure.
//!
//! Three things are known of an account: what its host says (*upstream*), what this relay's operator
//! has against it (the *sanction*), and whether its host has as many accounts as it may without it
//! (*throttled*). Subscribers are told the first of these that is so, the *effective* status:
//!
//! | sanction | throttled | upstream | effective | commits and syncs |
//! |---|---|---|---|---|
//! | takedown | any | any | inactive, `takendown` | dropped: `account_inactive` |
//! | suspension | any | any | inactive, `suspended` | dropped: `account_inactive` |
//! | none | yes | any | inactive, `throttled` | dropped: `account_limit` |
//! | none | no | inactive | what the host says, word for word or without one | dropped: `account_inactive`; the host may be asked |
//! | none | no | active | what the host says, with its note if it adds one | pass |
//!
//! `#identity` and `#account` always pass, the latter with the effective status. A new account begins
//! active and without a sanction, or taken down where the operator's word is older than the account is
//! here.
//!
//! What the host says is *heard* where its stream has shown it. Its list, which a backfill reads, may be
//! ahead of the stream: what a list says holds until the stream shows something, and is in the way of no
//! commit and no sync that is older than it.
//!
//! | what happens | upstream | sanction | throttled | `#account` of our own |
//! |---|---|---|---|---|
//! | `#account` of the account's host | what it says | stays | stays | no: it is itself forwarded |
//! | its answer to getRepoStatus: active | active, if it was not | stays | stays | no: what follows shows it |
//! | its answer: inactive | stays | stays | stays | no |
//! | its list, where nothing was heard | what it says | stays | stays | no |
//! | a commit or sync, where nothing was heard, unless it is later than a list that says inactive | active, if it was not | stays | stays | no: it shows it |
//! | the operator takes it down | stays | takedown | stays | if it was not taken down |
//! | the operator takes that back | stays | none, if it was a takedown | stays | if it was taken down |
//! | its host has room for it, or it needs none | stays | stays | no | if it was throttled and has no sanction |
//! | its host has no room for it | stays | stays | yes | if it was not and has no sanction |
//!
//! A host has room for so many *live* accounts: not throttled, and not deleted as the host itself
//! says (inactive, `deleted`). After each event of an account's host it is settled whether the account
//! has a place, with the status that the event says if it is an `#account`:
//!
//! | before the event | the host says now | is there room? | its place |
//! |---|---|---|---|
//! | any | deleted | not asked | none, and it needs none |
//! | live at this host | anything else | not asked | keeps it |
//! | new, elsewhere, throttled or deleted | anything else | yes | has one from now on |
//! | new, elsewhere, throttled or deleted | anything else | no | none: throttled |
//!
//! So a deletion gives a place back, and an account that comes back from it needs one again. A
//! takedown gives none back, because the operator's word does not last for ever. A move changes
//! nothing else: the new host is heard, or asked, like the old one.

use crate::{
    reject::Reject,
    store::account::{Account, Sanction, Status},
};

/// What can happen to the status of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause<'a> {
    /// An `#account` of the account's host.
    Said(&'a Status),
    /// The host's answer to the question what it says of the account now.
    Answered(&'a Status),
    /// The list of the account's host, which a backfill reads.
    Listed(&'a Status),
    /// A commit or a sync of the account's host that is not later than a list which calls it inactive.
    Spoke,
    /// The operator takes the account down.
    Takedown,
    /// The operator takes a takedown back.
    Reversal,
    /// The account has a place among those of its host, or needs none.
    Room,
    /// The account needs a place among those of its host, and there is none.
    NoRoom,
}

/// What keeps the commits and syncs of an account from passing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// A sanction of the operator.
    Sanction,
    /// It is throttled.
    Limit,
    /// Its host says that it is inactive, and nothing else is against it.
    Host,
}

impl Bar {
    /// The reason under which they are dropped.
    pub const fn reject(self) -> Reject {
        match self {
            Bar::Sanction | Bar::Host => Reject::AccountInactive,
            Bar::Limit => Reject::AccountLimit,
        }
    }
}

/// Lets something happen to an account. True where this relay's own word on it has changed, so that
/// subscribers must be told.
pub fn apply(account: &mut Account, cause: Cause<'_>) -> bool {
    let before = account.local.status();
    let local = &mut account.local;
    match cause {
        Cause::Said(status) => (account.upstream, account.status_heard) = (status.clone(), true),
        Cause::Answered(status) if status.active && !account.upstream.active => {
            (account.upstream, account.status_heard) = (status.clone(), true);
        }
        Cause::Listed(status) if !account.status_heard => account.upstream = status.clone(),
        Cause::Spoke if !account.status_heard => {
            account.status_heard = true;
            if !account.upstream.active {
                account.upstream = Status::ACTIVE;
            }
        }
        Cause::Answered(_) | Cause::Listed(_) | Cause::Spoke => {}
        Cause::Takedown => local.sanction = Some(Sanction::Takedown),
        Cause::Reversal if local.sanction == Some(Sanction::Takedown) => local.sanction = None,
        Cause::Reversal => {}
        Cause::Room => local.throttled = false,
        Cause::NoRoom => local.throttled = true,
    }
    account.local.status() != before
}

/// Settles whether an account has a place among those of its host, after something of it was heard;
/// `had`: it had one there before. True where subscribers must be told.
pub fn settle(account: &mut Account, had: bool, room: bool) -> bool {
    let cause = if had || room || account.upstream.is_deleted() {
        Cause::Room
    } else {
        Cause::NoRoom
    };
    apply(account, cause)
}

/// What keeps the account's commits and syncs from passing; none: they may.
pub fn bar(account: &Account) -> Option<Bar> {
    if account.local.sanction.is_some() {
        Some(Bar::Sanction)
    } else if account.local.throttled {
        Some(Bar::Limit)
    } else {
        (!account.upstream.active).then_some(Bar::Host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::account::{HostId, Local, Seen};

    fn account(upstream: Status, local: Local) -> Account {
        Account {
            ordinal: 1,
            host: HostId(1),
            authority_at: 0,
            upstream,
            status_heard: true,
            local,
            head: None,
            listed: None,
            seen: Seen::default(),
        }
    }

    fn status(active: bool, reason: Option<&str>) -> Status {
        Status {
            active,
            reason: reason.map(Into::into),
        }
    }

    /// What a host can say: with and without a reason or a note, known words and one that is not.
    fn words() -> Vec<Status> {
        vec![
            status(true, None),
            status(true, Some("desynchronized")),
            status(true, Some("throttled")),
            status(false, None),
            status(false, Some("deactivated")),
            status(false, Some("takendown")),
            status(false, Some("deleted")),
            status(false, Some("a word of tomorrow")),
        ]
    }

    fn locals() -> Vec<Local> {
        let sanctions = [None, Some(Sanction::Takedown), Some(Sanction::Suspension)];
        let local = |throttled| {
            sanctions.map(|sanction| Local {
                sanction,
                throttled,
            })
        };
        [local(false), local(true)].concat()
    }

    fn states() -> Vec<Account> {
        let of = |local: &Local| {
            let local = *local;
            words().into_iter().map(move |said| account(said, local))
        };
        let heard: Vec<Account> = locals().iter().flat_map(of).collect();
        let unheard = heard.iter().cloned().map(|account| Account {
            status_heard: false,
            ..account
        });
        unheard.chain(heard.clone()).collect()
    }

    /// The first table of the module's documentation.
    ///
    /// Rules 135, 137, 140, 141, 142, 143, 195: <https://atproto.com/specs/account#hosting-status>
    #[test]
    fn every_state_has_one_effective_status() {
        use Sanction::{Suspension, Takedown};
        // Sanction, throttled, whether the host says active; what is told, what is in the way.
        // Where the host's own words are told there is none here.
        let rows = [
            (
                Some(Takedown),
                None,
                None,
                Some("takendown"),
                Some(Bar::Sanction),
            ),
            (
                Some(Suspension),
                None,
                None,
                Some("suspended"),
                Some(Bar::Sanction),
            ),
            (None, Some(true), None, Some("throttled"), Some(Bar::Limit)),
            (None, Some(false), Some(false), None, Some(Bar::Host)),
            (None, Some(false), Some(true), None, None),
        ];
        for account in states() {
            let row = rows.iter().filter(|(sanction, throttled, active, ..)| {
                *sanction == account.local.sanction
                    && throttled.is_none_or(|is| is == account.local.throttled)
                    && active.is_none_or(|is| is == account.upstream.active)
            });
            let row: Vec<_> = row.collect();
            let [(.., told, in_the_way)] = row[..] else {
                panic!("{account:?} is in {} rows", row.len());
            };
            let effective = told.map_or(account.upstream.clone(), Status::inactive);
            assert_eq!(account.effective(), &effective, "{account:?}");
            assert_eq!(bar(&account), *in_the_way, "{account:?}");
            assert_eq!(account.effective().active, in_the_way.is_none());
        }
        assert_eq!(Bar::Sanction.reject(), Reject::AccountInactive);
        assert_eq!(Bar::Host.reject(), Reject::AccountInactive);
        assert_eq!(Bar::Limit.reject(), Reject::AccountLimit);
    }

    /// The third table: every word of a host in every state, with and without a place and room.
    ///
    /// Rule 195: <https://atproto.com/specs/sync>
    #[test]
    fn every_account_is_settled() {
        for before in states() {
            let deleted = before.upstream == Status::inactive("deleted");
            for (had, room) in [(false, false), (false, true), (true, false), (true, true)] {
                if had && !before.is_live() {
                    continue;
                }
                let throttled = !deleted && !had && !room;
                let mut after = before.clone();
                let told = settle(&mut after, had, room);
                let local = Local {
                    throttled,
                    ..before.local
                };
                let settled = Account {
                    local,
                    ..before.clone()
                };
                assert_eq!(after, settled, "{before:?}");
                let moved = throttled != before.local.throttled;
                assert_eq!(told, moved && before.local.sanction.is_none(), "{before:?}");
                assert_eq!(after.is_live(), !deleted && (had || room), "{before:?}");
            }
        }
    }

    /// Every row of the second table in every state.
    ///
    /// Rules 136, 139, 143, 195: <https://atproto.com/specs/account#hosting-status-propagation>
    #[test]
    fn every_cause_has_its_effect_in_every_state() {
        let takedown = Some(Sanction::Takedown);
        for before in states() {
            let local = before.local;
            // Cause, what the host says after it, what is against the account here after it, and
            // whether subscribers are told.
            let mut rows = vec![
                (
                    Cause::Takedown,
                    before.upstream.clone(),
                    Local {
                        sanction: takedown,
                        ..local
                    },
                    local.sanction != takedown,
                ),
                (
                    Cause::Reversal,
                    before.upstream.clone(),
                    Local {
                        sanction: local.sanction.filter(|s| *s != Sanction::Takedown),
                        ..local
                    },
                    local.sanction == takedown,
                ),
                (
                    Cause::Room,
                    before.upstream.clone(),
                    Local {
                        throttled: false,
                        ..local
                    },
                    local.throttled && local.sanction.is_none(),
                ),
                (
                    Cause::NoRoom,
                    before.upstream.clone(),
                    Local {
                        throttled: true,
                        ..local
                    },
                    !local.throttled && local.sanction.is_none(),
                ),
            ];
            let words = words();
            let heard = before.status_heard;
            for said in &words {
                rows.push((Cause::Said(said), said.clone(), local, false));
                let answered = match (before.upstream.active, said.active) {
                    (false, true) => said,
                    _ => &before.upstream,
                };
                rows.push((Cause::Answered(said), answered.clone(), local, false));
                let listed = if heard { &before.upstream } else { said };
                rows.push((Cause::Listed(said), listed.clone(), local, false));
            }
            let spoken = match heard || before.upstream.active {
                true => before.upstream.clone(),
                false => Status::ACTIVE,
            };
            rows.push((Cause::Spoke, spoken, local, false));
            for (cause, upstream, local, told) in rows {
                let mut after = before.clone();
                assert_eq!(apply(&mut after, cause), told, "{before:?} {cause:?}");
                let status_heard = match cause {
                    Cause::Said(_) | Cause::Spoke => true,
                    Cause::Answered(said) => heard || (said.active && !before.upstream.active),
                    _ => heard,
                };
                let expected = Account {
                    status_heard,
                    ..account(upstream, local)
                };
                assert_eq!(after, expected, "{before:?} {cause:?}");
                // The same once more moves nothing and is not told again.
                let once = after.clone();
                assert!(!apply(&mut after, cause), "{before:?} {cause:?} twice");
                assert_eq!(after, once, "{before:?} {cause:?} twice");
            }
        }
    }
}
