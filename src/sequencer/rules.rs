//! The account rules: pure decisions on what is known of an account and an event that claims to
//! change it (<https://atproto.com/specs/sync>, <https://atproto.com/specs/account>).

use super::{
    event::{Event, Kind},
    status::{self, Bar, Cause},
};
use crate::{
    atproto::prove::Proven,
    reject::Reject,
    store::account::{Account, Head, HostId, Local, Sanction, Seen, Status},
};

/// What to do with an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Publish it.
    Forward {
        /// What becomes of the account; none where it is not known and does not become so, or
        /// where the event moves nothing.
        change: Option<Change>,
        /// The commit does not continue the last known one; subscribers can see that themselves.
        discontinuous: bool,
    },
    /// Do not publish it.
    Reject {
        /// Why not.
        reject: Reject,
        /// What becomes of the account all the same.
        change: Option<Change>,
        /// Only the word of the account's host is against it, which may have changed meanwhile.
        ask: bool,
    },
}

/// What becomes of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The account from now on.
    pub account: Account,
    /// Subscribers are to be told its status before the event, which does not say it.
    pub announce: bool,
}

/// What a verdict needs to know beside the account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The ordinal that a new account gets.
    pub ordinal: u64,
    /// Whether the event's host may have one more account.
    pub room: bool,
    /// Whether a new account is taken down already: the operator's word outlives what is known of it.
    pub taken_down: bool,
    /// Whether the host's stream was processed up to here, or further, before.
    pub processed: bool,
}

impl Verdict {
    /// The event is not published, and nothing changes.
    const fn reject(reject: Reject) -> Verdict {
        Verdict::Reject {
            reject,
            change: None,
            ask: false,
        }
    }
}

/// Judges an event.
pub fn judge(known: Option<&Account>, event: &Event, terms: Terms) -> Verdict {
    if known.is_some_and(|account| was_seen(account, event)) {
        return Verdict::reject(Reject::Duplicate);
    }
    // Between the proof and now a newer document may have moved the account elsewhere.
    let outdated = |at: u64| {
        known.is_some_and(|account| account.host != event.host && at < account.authority_at)
    };
    let Some(authority_at) = event.authority_at.filter(|at| !outdated(*at)) else {
        // Anybody may say that an identity has changed; it moves nothing, so that no account tells whether it is
        // said again, which some hosts do with the event of the cursor.
        return match event.kind {
            Kind::Identity if terms.processed => Verdict::reject(Reject::Duplicate),
            Kind::Identity => Verdict::Forward {
                change: None,
                discontinuous: false,
            },
            _ => Verdict::reject(Reject::WrongHost),
        };
    };
    let mut account = known
        .cloned()
        .unwrap_or_else(|| new_account(terms, event.host));
    let arrives = known.is_none_or(|known| known.host != event.host);
    let had_place = !arrives && known.is_some_and(Account::is_live);
    if arrives {
        // What another host has claimed of its last commit is that host's claim.
        account.listed = None;
    }
    account.host = event.host;
    account.authority_at = account.authority_at.max(authority_at);
    account.seen = Seen {
        epoch: event.upstream.epoch,
        seq: event.upstream.seq,
    };
    match &event.kind {
        Kind::Account(said) => {
            status::apply(&mut account, Cause::Said(said));
        }
        Kind::Commit(proven) | Kind::Sync(proven) if !is_after_list(&account, proven) => {
            status::apply(&mut account, Cause::Spoke);
        }
        _ => {}
    }
    let told = status::settle(&mut account, had_place, terms.room);
    // Of an account that nobody has heard of there is nothing to take back, and an `#account` says
    // the status itself.
    let was_heard = known.is_some_and(Account::has_host);
    let announce = told && was_heard && !matches!(event.kind, Kind::Account(_));
    let mut discontinuous = false;
    match &event.kind {
        Kind::Identity | Kind::Account(_) => {}
        Kind::Commit(proven) | Kind::Sync(proven) => {
            if let Some(bar) = status::bar(&account) {
                // That an account has arrived at a full host is kept, or it would count as one of
                // the host that it came from, and nobody would learn why nothing of it passes; and one
                // that was listed as deleted needs a place now. So is a new one that is taken down:
                // then it is known, and the operator sees it.
                let finds_no_place = bar == Bar::Limit && (arrives || told);
                let is_kept = finds_no_place || (arrives && known.is_none());
                let change = is_kept.then_some(Change { account, announce });
                return Verdict::Reject {
                    reject: bar.reject(),
                    change,
                    ask: bar == Bar::Host,
                };
            }
            let is_commit = matches!(event.kind, Kind::Commit(_));
            match check_content(&account, proven, is_commit) {
                Ok(is_discontinuous) => discontinuous = is_discontinuous,
                Err(reject) => return Verdict::reject(reject),
            }
            account.head = Some(head(proven));
            account.listed = None;
        }
    }
    Verdict::Forward {
        change: Some(Change { account, announce }),
        discontinuous,
    }
}

/// Whether this very event was processed before: the same host, the same epoch, and a seq up to
/// which the account's events are processed.
fn was_seen(account: &Account, event: &Event) -> bool {
    account.host == event.host
        && account.seen.epoch == event.upstream.epoch
        && event.upstream.seq <= account.seen.seq
}

/// Whether content is later than the list that says that the account is inactive. What is older was sent
/// before that was so, and its `#account` is still to come.
fn is_after_list(account: &Account, proven: &Proven) -> bool {
    !account.upstream.active && account.listed.is_some_and(|listed| listed.rev < proven.rev)
}

/// An account of which nothing is known but that this host speaks for it, or that none does yet.
pub(super) fn new_account(terms: Terms, host: HostId) -> Account {
    let sanction = terms.taken_down.then_some(Sanction::Takedown);
    Account {
        ordinal: terms.ordinal,
        host,
        authority_at: 0,
        upstream: Status::ACTIVE,
        status_heard: false,
        local: Local {
            sanction,
            throttled: false,
        },
        head: None,
        listed: None,
        seen: Seen::default(),
    }
}

/// Whether a commit is discontinuous, if it or a sync may pass at all: the revision must be newer
/// than the last one, across all hosts that the account ever had.
fn check_content(account: &Account, proven: &Proven, is_commit: bool) -> Result<bool, Reject> {
    let Some(head) = &account.head else {
        return Ok(false);
    };
    if proven.rev <= head.rev {
        return Err(Reject::RevStale);
    }
    if !is_commit {
        return Ok(false);
    }
    if proven.prev_data.is_none() && !proven.legacy {
        return Err(Reject::NotInductive);
    }
    let continues = proven.since == Some(head.rev) && proven.prev_data == Some(head.data);
    Ok(!continues)
}

fn head(proven: &Proven) -> Head {
    Head {
        rev: proven.rev,
        commit: proven.commit,
        data: proven.data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        atproto::{cid::Cid, did::Did, prove::Touched, tid::Tid},
        sequencer::event::Upstream,
        store::account::Listed,
    };

    const HOME: HostId = HostId(1);
    const AWAY: HostId = HostId(2);

    fn tid(n: u64) -> Tid {
        Tid::from_micros(1_700_000_000_000_000 + n, 0)
    }

    fn tree(n: u64) -> Cid {
        Cid::of_cbor(&n.to_be_bytes())
    }

    /// The commit `n`, which follows the commit `n - 1`.
    fn commit(n: u64) -> Proven {
        Proven {
            rev: tid(n),
            since: (n > 1).then(|| tid(n - 1)),
            commit: tree(1000 + n),
            data: tree(n),
            prev_data: (n > 1).then(|| tree(n - 1)),
            legacy: false,
            touched: Touched::default(),
        }
    }

    fn event(kind: Kind) -> Event {
        Event {
            host: HOME,
            upstream: Upstream {
                epoch: 0,
                seq: 50,
                cursor: 50,
            },
            did: Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap(),
            authority_at: Some(10),
            kind,
            happened_ms: None,
            frame: crate::sequencer::event::Payload::default(),
            seq_at: 0..0,
            stored: None,
        }
    }

    /// An account of `HOME` after its commit `n`.
    fn after(n: u64) -> Account {
        let proven = commit(n);
        Account {
            authority_at: 10,
            head: Some(head(&proven)),
            status_heard: true,
            seen: Seen { epoch: 0, seq: 49 },
            ordinal: 7,
            ..new_account(ROOM, HOME)
        }
    }

    const ROOM: Terms = Terms {
        ordinal: 99,
        room: true,
        taken_down: false,
        processed: false,
    };
    const FULL: Terms = Terms {
        room: false,
        ..ROOM
    };

    fn forwarded(known: Option<&Account>, event: &Event) -> (Account, bool) {
        match judge(known, event, ROOM) {
            Verdict::Forward {
                change,
                discontinuous,
            } => {
                let change = change.unwrap();
                assert!(!change.announce);
                (change.account, discontinuous)
            }
            reject => panic!("{reject:?}"),
        }
    }

    /// The reason of a rejection that changes nothing.
    fn rejected(known: Option<&Account>, event: &Event) -> Reject {
        match judge(known, event, ROOM) {
            Verdict::Reject {
                reject,
                change: None,
                ..
            } => reject,
            other => panic!("{other:?}"),
        }
    }

    /// The event with a later upstream seq.
    fn at(seq: u64, kind: Kind) -> Event {
        let mut event = event(kind);
        event.upstream.seq = seq;
        event
    }

    #[test]
    fn a_first_event_creates_the_account() {
        for kind in [
            Kind::Identity,
            Kind::Account(Status::ACTIVE),
            Kind::Commit(commit(1)),
            Kind::Commit(commit(5)),
            Kind::Sync(commit(5)),
        ] {
            let (account, discontinuous) = forwarded(None, &event(kind));
            assert_eq!(
                (account.ordinal, account.host, discontinuous),
                (99, HOME, false)
            );
        }
    }

    #[test]
    fn commits_continue_or_are_discontinuous_or_stale() {
        let (account, discontinuous) = forwarded(Some(&after(3)), &event(Kind::Commit(commit(4))));
        assert_eq!(
            (account.head, discontinuous),
            (Some(head(&commit(4))), false)
        );
        let (_, discontinuous) = forwarded(Some(&after(3)), &event(Kind::Commit(commit(5))));
        assert!(discontinuous);
        let other_since = Proven {
            since: Some(tid(1)),
            ..commit(4)
        };
        assert!(forwarded(Some(&after(3)), &event(Kind::Commit(other_since))).1);
        for old in [3, 2] {
            let reject = rejected(Some(&after(3)), &event(Kind::Commit(commit(old))));
            assert_eq!(reject, Reject::RevStale);
        }
        let first_again = Proven {
            rev: tid(9),
            ..commit(1)
        };
        let reject = rejected(Some(&after(3)), &event(Kind::Commit(first_again.clone())));
        assert_eq!(reject, Reject::NotInductive);
        let legacy = Proven {
            legacy: true,
            ..first_again
        };
        assert!(forwarded(Some(&after(3)), &event(Kind::Commit(legacy))).1);
    }

    #[test]
    fn a_sync_resets_and_never_goes_back() {
        let (account, _) = forwarded(Some(&after(3)), &event(Kind::Sync(commit(8))));
        assert_eq!(account.head, Some(head(&commit(8))));
        let (_, discontinuous) = forwarded(Some(&account), &{
            let mut next = event(Kind::Commit(commit(9)));
            next.upstream.seq = 51;
            next
        });
        assert!(!discontinuous);
        for old in [3, 2] {
            let reject = rejected(Some(&after(3)), &event(Kind::Sync(commit(old))));
            assert_eq!(reject, Reject::RevStale);
        }
    }

    #[test]
    fn inactive_accounts_have_no_content_but_identity_and_status() {
        let (gone, _) = forwarded(
            Some(&after(3)),
            &event(Kind::Account(Status::inactive("deactivated"))),
        );
        assert_eq!(gone.effective(), &Status::inactive("deactivated"));
        let next = |kind| at(51, kind);
        for kind in [Kind::Commit(commit(4)), Kind::Sync(commit(4))] {
            assert_eq!(rejected(Some(&gone), &next(kind)), Reject::AccountInactive);
        }
        forwarded(Some(&gone), &next(Kind::Identity));
        let (back, _) = forwarded(Some(&gone), &next(Kind::Account(Status::ACTIVE)));
        let mut last = event(Kind::Commit(commit(4)));
        last.upstream.seq = 52;
        assert!(!forwarded(Some(&back), &last).1);
    }

    #[test]
    fn the_operators_word_goes_before_the_hosts() {
        let taken = Account {
            local: Local {
                sanction: Some(Sanction::Takedown),
                throttled: false,
            },
            ..after(3)
        };
        let (account, _) = forwarded(Some(&taken), &event(Kind::Account(Status::ACTIVE)));
        assert_eq!(account.effective(), &Status::inactive("takendown"));
        let reject = rejected(Some(&taken), &event(Kind::Commit(commit(4))));
        assert_eq!(reject, Reject::AccountInactive);
    }

    #[test]
    fn a_note_beside_active_is_not_inactive() {
        let note = Status {
            active: true,
            reason: Some("desynchronized".into()),
        };
        let (account, _) = forwarded(Some(&after(3)), &event(Kind::Account(note.clone())));
        assert_eq!(account.effective(), &note);
    }

    /// Rules 130, 146, 159: <https://atproto.com/specs/sync>
    #[test]
    fn only_the_authoritative_host_moves_anything() {
        let mut foreign = event(Kind::Identity);
        foreign.host = AWAY;
        foreign.authority_at = None;
        for known in [None, Some(&after(3))] {
            assert_eq!(
                judge(known, &foreign, ROOM),
                Verdict::Forward {
                    change: None,
                    discontinuous: false
                }
            );
        }
        for processed in [false, true] {
            let terms = Terms { processed, ..ROOM };
            let again = judge(Some(&after(3)), &foreign, terms);
            assert_eq!(again == Verdict::reject(Reject::Duplicate), processed);
        }
        for kind in [
            Kind::Account(Status::ACTIVE),
            Kind::Commit(commit(4)),
            Kind::Sync(commit(4)),
        ] {
            foreign.kind = kind;
            assert_eq!(rejected(Some(&after(3)), &foreign), Reject::WrongHost);
        }
    }

    /// Rules 147, 148: <https://atproto.com/guides/account-lifecycle>
    #[test]
    fn an_account_moves_with_its_document_and_not_back() {
        let mut moved = event(Kind::Commit(commit(4)));
        moved.host = AWAY;
        moved.authority_at = Some(20);
        moved.upstream.seq = 1;
        let (account, _) = forwarded(Some(&after(3)), &moved);
        assert_eq!(
            (account.host, account.authority_at, account.ordinal),
            (AWAY, 20, 7)
        );
        // Proven by the old document, judged after the move.
        let mut late = event(Kind::Account(Status::inactive("deactivated")));
        late.upstream.seq = 60;
        assert_eq!(rejected(Some(&account), &late), Reject::WrongHost);
        moved.kind = Kind::Commit(commit(2));
        moved.upstream.seq = 2;
        assert_eq!(rejected(Some(&account), &moved), Reject::RevStale);
    }

    /// What becomes of an account of `HOME`, or of a new one, on a host that is full or not.
    fn arrival(
        known: Option<&Account>,
        event: &Event,
        terms: Terms,
    ) -> (Result<(), Reject>, Change) {
        match judge(known, event, terms) {
            Verdict::Forward { change, .. } => (Ok(()), change.unwrap()),
            Verdict::Reject { reject, change, .. } => (Err(reject), change.unwrap()),
        }
    }

    #[test]
    fn an_account_that_is_too_many_for_its_host_is_throttled() {
        let dropped = Err(Reject::AccountLimit);
        let home = Some(after(3));
        // A new account is not spoken of before it speaks; one that has moved is.
        for (known, host) in [(None, HOME), (home, AWAY)] {
            for (kind, outcome) in [
                (Kind::Commit(commit(4)), dropped),
                (Kind::Sync(commit(4)), dropped),
                (Kind::Identity, Ok(())),
                (Kind::Account(Status::ACTIVE), Ok(())),
            ] {
                let says_so = matches!(kind, Kind::Account(_));
                let mut event = event(kind);
                (event.host, event.authority_at) = (host, Some(20));
                let (passed, change) = arrival(known.as_ref(), &event, FULL);
                assert_eq!((passed, change.account.host), (outcome, host));
                assert_eq!(change.account.effective(), &Status::inactive("throttled"));
                assert_eq!(change.announce, known.is_some() && !says_so);
                assert_eq!(change.account.head, known.as_ref().and_then(|k| k.head));
            }
        }
        // One that is there has its place.
        let verdict = judge(Some(&after(3)), &event(Kind::Commit(commit(4))), FULL);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
    }

    #[test]
    fn a_throttled_account_is_let_in_by_an_event_that_passes() {
        let throttled = Account {
            local: Local {
                sanction: None,
                throttled: true,
            },
            ..after(3)
        };
        for kind in [
            Kind::Commit(commit(4)),
            Kind::Sync(commit(4)),
            Kind::Identity,
            Kind::Account(Status::ACTIVE),
        ] {
            let says_so = matches!(kind, Kind::Account(_));
            let (passed, change) = arrival(Some(&throttled), &event(kind), ROOM);
            assert_eq!((passed, change.announce), (Ok(()), !says_so));
            assert_eq!(change.account.effective(), &Status::ACTIVE);
        }
        let stale = event(Kind::Commit(commit(3)));
        assert_eq!(rejected(Some(&throttled), &stale), Reject::RevStale);
        // While there is no room, nothing of it changes that has not passed.
        let next = event(Kind::Commit(commit(4)));
        assert_eq!(
            judge(Some(&throttled), &next, FULL),
            Verdict::reject(Reject::AccountLimit)
        );
        // Room does not make the host's own word another one, but that can be asked for.
        let gone = Account {
            upstream: Status::inactive("deactivated"),
            ..throttled
        };
        assert_eq!(
            judge(Some(&gone), &next, ROOM),
            Verdict::Reject {
                reject: Reject::AccountInactive,
                change: None,
                ask: true
            }
        );
        let (_, change) = arrival(Some(&gone), &event(Kind::Identity), ROOM);
        assert_eq!(change.account.effective(), &gone.upstream);
        assert!(change.announce);
    }

    #[test]
    fn a_new_account_that_was_taken_down_before_is_so_from_the_start() {
        for room in [true, false] {
            let terms = Terms {
                room,
                taken_down: true,
                ..ROOM
            };
            let dropped = Err(Reject::AccountInactive);
            for (kind, outcome) in [
                (Kind::Commit(commit(4)), dropped),
                (Kind::Sync(commit(4)), dropped),
                (Kind::Identity, Ok(())),
                (Kind::Account(Status::ACTIVE), Ok(())),
            ] {
                let (passed, change) = arrival(None, &event(kind), terms);
                assert_eq!((passed, change.announce), (outcome, false));
                let account = change.account;
                assert_eq!(account.effective(), &Status::inactive("takendown"));
                assert_eq!((account.head, account.local.throttled), (None, !room));
            }
            // Of one that is known, what is known counts.
            let next = event(Kind::Commit(commit(4)));
            let verdict = judge(Some(&after(3)), &next, terms);
            assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        }
    }

    #[test]
    fn a_deleted_account_needs_no_place_until_it_is_no_longer_deleted() {
        let deleted = Status::inactive("deleted");
        let said = |status: &Status| event(Kind::Account(status.clone()));
        let throttled = Account {
            local: Local {
                sanction: None,
                throttled: true,
            },
            ..after(3)
        };
        // Whether it is new, there or throttled: what it says now decides, and that is told.
        for known in [None, Some(&after(3)), Some(&throttled)] {
            let (passed, change) = arrival(known, &said(&deleted), FULL);
            assert_eq!((passed, change.announce), (Ok(()), false));
            assert_eq!(change.account.effective(), &deleted);
            assert!(!change.account.is_live());
        }
        let gone = Account {
            upstream: deleted,
            ..after(3)
        };
        for back in [Status::ACTIVE, Status::inactive("deactivated")] {
            let (_, change) = arrival(Some(&gone), &said(&back), ROOM);
            assert_eq!(change.account.effective(), &back);
            assert!(change.account.is_live());
            let (_, change) = arrival(Some(&gone), &said(&back), FULL);
            assert_eq!(change.account.effective(), &Status::inactive("throttled"));
            assert!(!change.announce, "it says so itself");
            // One that never was deleted has its place, whatever else it was.
            let idle = Account {
                upstream: Status::inactive("suspended"),
                ..after(3)
            };
            let (_, change) = arrival(Some(&idle), &said(&back), FULL);
            assert_eq!(change.account.effective(), &back);
        }
        // What does not say a status leaves it as it was.
        let (_, change) = arrival(Some(&gone), &event(Kind::Identity), FULL);
        assert_eq!(change.account.effective(), &gone.upstream);
        let content = event(Kind::Commit(commit(4)));
        let Verdict::Reject { change, ask, .. } = judge(Some(&gone), &content, FULL) else {
            panic!("content of a deleted account");
        };
        assert_eq!((change, ask), (None, true));
    }

    /// Of one that only a list calls inactive, what is older than the list has passed before it was so.
    #[test]
    fn a_listed_status_bars_only_what_is_later_than_the_list() {
        let listed = |n: u64, status: &Status| Account {
            authority_at: 10,
            upstream: status.clone(),
            listed: Some(Listed {
                rev: tid(n),
                commit: tree(1000 + n),
            }),
            ..new_account(ROOM, HOME)
        };
        let contents = |n: u64| [Kind::Commit(commit(n)), Kind::Sync(commit(n))];
        for word in ["deactivated", "deleted", "takendown", "a word of tomorrow"] {
            let gone = listed(3, &Status::inactive(word));
            for kind in [contents(2), contents(3)].concat() {
                let (account, _) = forwarded(Some(&gone), &event(kind));
                assert_eq!(account.effective(), &Status::ACTIVE, "it speaks: {word}");
                assert!(account.status_heard && account.is_live());
                // From here on nothing counts but what is heard.
                let (account, _) = forwarded(
                    Some(&account),
                    &at(51, Kind::Account(Status::inactive(word))),
                );
                let content = at(52, Kind::Commit(commit(4)));
                assert_eq!(rejected(Some(&account), &content), Reject::AccountInactive);
            }
            for kind in contents(4) {
                let Verdict::Reject {
                    reject: Reject::AccountInactive,
                    change: None,
                    ask: true,
                } = judge(Some(&gone), &event(kind), ROOM)
                else {
                    panic!("{word}");
                };
            }
            // Neither an identity nor a move says what an account is, but another host's list ends.
            let (account, _) = forwarded(Some(&gone), &event(Kind::Identity));
            assert_eq!(account.effective(), &Status::inactive(word));
            assert!(!account.status_heard);
            forwarded(Some(&account), &at(51, Kind::Commit(commit(2))));
            let mut moved = at(1, Kind::Commit(commit(9)));
            (moved.host, moved.authority_at) = (AWAY, Some(20));
            let (account, _) = forwarded(Some(&gone), &moved);
            assert_eq!(account.effective(), &Status::ACTIVE);
        }
        // What the stream says of the status counts whatever a list says of the last commit.
        let (heard, _) = forwarded(
            Some(&listed(3, &Status::ACTIVE)),
            &event(Kind::Account(Status::inactive("deactivated"))),
        );
        assert!(heard.status_heard && heard.listed.is_some());
        let content = at(51, Kind::Commit(commit(2)));
        assert_eq!(rejected(Some(&heard), &content), Reject::AccountInactive);
        // A note beside active is as good as active, and stays.
        let note = Status {
            active: true,
            reason: Some("desynchronized".into()),
        };
        let (account, _) = forwarded(Some(&listed(3, &note)), &event(Kind::Commit(commit(9))));
        assert_eq!(account.effective(), &note);
        // One that was listed as deleted had no place, which it needs now.
        let gone = listed(3, &Status::inactive("deleted"));
        let (passed, change) = arrival(Some(&gone), &event(Kind::Commit(commit(2))), FULL);
        assert_eq!(passed, Err(Reject::AccountLimit));
        assert_eq!(change.account.effective(), &Status::inactive("throttled"));
        assert!(change.account.waits());
    }

    #[test]
    fn what_arrives_again_is_recognised() {
        let mut again = event(Kind::Identity);
        again.upstream.seq = 49;
        assert_eq!(rejected(Some(&after(3)), &again), Reject::Duplicate);
        again.upstream.epoch = 1;
        forwarded(Some(&after(3)), &again);
    }
}
