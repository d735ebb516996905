//! The account rules: pure decisions on what is known of an account and an event that claims to
//! change it (<https://atproto.com/specs/sync>, <https://atproto.com/specs/account>).

use super::event::{Event, Kind};
use crate::{
    atproto::prove::Proven,
    reject::Reject,
    store::account::{Account, Head, HostId, Seen, Status},
};

/// What to do with an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Publish it, and let the account be this from now on.
    Forward {
        /// The account after the event; none where it is not known and does not become so.
        account: Option<Account>,
        /// The commit does not continue the last known one; subscribers can see that themselves.
        discontinuous: bool,
    },
    /// Do not publish it; nothing changes.
    Reject(Reject),
}

/// Judges an event. `ordinal` is the one that a new account gets.
pub fn judge(known: Option<&Account>, event: &Event, ordinal: u64) -> Verdict {
    match decide(known, event, ordinal) {
        Ok((account, discontinuous)) => Verdict::Forward {
            account,
            discontinuous,
        },
        Err(reject) => Verdict::Reject(reject),
    }
}

fn decide(
    known: Option<&Account>,
    event: &Event,
    ordinal: u64,
) -> Result<(Option<Account>, bool), Reject> {
    if known.is_some_and(|account| was_seen(account, event)) {
        return Err(Reject::Duplicate);
    }
    let Some(authority_at) = event.authority_at else {
        // Anybody may say that an identity has changed; it moves nothing.
        return match event.kind {
            Kind::Identity => Ok((known.cloned(), false)),
            _ => Err(Reject::WrongHost),
        };
    };
    // Between the proof and now a newer document may have moved the account elsewhere.
    let outdated =
        |account: &Account| account.host != event.host && authority_at < account.authority_at;
    if known.is_some_and(outdated) {
        return match event.kind {
            Kind::Identity => Ok((known.cloned(), false)),
            _ => Err(Reject::WrongHost),
        };
    }
    let mut account = known
        .cloned()
        .unwrap_or_else(|| new_account(ordinal, event.host));
    account.host = event.host;
    account.authority_at = account.authority_at.max(authority_at);
    account.seen = Seen {
        epoch: event.upstream.epoch,
        seq: event.upstream.seq,
    };
    let mut discontinuous = false;
    match &event.kind {
        Kind::Identity => {}
        Kind::Account(status) => account.upstream = status.clone(),
        Kind::Commit(proven) => {
            discontinuous = check_commit(&account, proven)?;
            account.head = Some(head(proven));
        }
        Kind::Sync(proven) => {
            check_content(&account, proven)?;
            account.head = Some(head(proven));
        }
    }
    Ok((Some(account), discontinuous))
}

/// Whether this very event was processed before: the same host, the same epoch, and a seq up to
/// which the account's events are processed.
fn was_seen(account: &Account, event: &Event) -> bool {
    account.host == event.host
        && account.seen.epoch == event.upstream.epoch
        && event.upstream.seq <= account.seen.seq
}

fn new_account(ordinal: u64, host: HostId) -> Account {
    Account {
        ordinal,
        host,
        authority_at: 0,
        upstream: Status::ACTIVE,
        local: Status::ACTIVE,
        head: None,
        seen: Seen::default(),
    }
}

/// What a commit and a sync have in common: the account is active, and the revision is newer than
/// the last one, across all hosts that the account ever had.
fn check_content(account: &Account, proven: &Proven) -> Result<(), Reject> {
    if !account.effective().active {
        return Err(Reject::AccountInactive);
    }
    match &account.head {
        Some(head) if proven.rev <= head.rev => Err(Reject::RevStale),
        _ => Ok(()),
    }
}

/// Whether a commit is discontinuous, if it may pass at all.
fn check_commit(account: &Account, proven: &Proven) -> Result<bool, Reject> {
    check_content(account, proven)?;
    let Some(head) = &account.head else {
        return Ok(false);
    };
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
        atproto::{cid::Cid, did::Did, tid::Tid},
        sequencer::event::Upstream,
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
            frame: Box::default(),
            seq_at: 0..0,
        }
    }

    /// An account of `HOME` after its commit `n`.
    fn after(n: u64) -> Account {
        let proven = commit(n);
        Account {
            authority_at: 10,
            head: Some(head(&proven)),
            seen: Seen { epoch: 0, seq: 49 },
            ..new_account(7, HOME)
        }
    }

    fn forwarded(known: Option<&Account>, event: &Event) -> (Account, bool) {
        match judge(known, event, 99) {
            Verdict::Forward {
                account,
                discontinuous,
            } => (account.unwrap(), discontinuous),
            Verdict::Reject(reject) => panic!("{reject}"),
        }
    }

    fn rejected(known: Option<&Account>, event: &Event) -> Reject {
        match judge(known, event, 99) {
            Verdict::Reject(reject) => reject,
            forward => panic!("{forward:?}"),
        }
    }

    fn inactive(reason: &str) -> Status {
        Status {
            active: false,
            reason: Some(reason.into()),
        }
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
        let reject = rejected(Some(&after(3)), &event(Kind::Commit(first_again)));
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
            &event(Kind::Account(inactive("deactivated"))),
        );
        assert_eq!(gone.effective(), &inactive("deactivated"));
        let next = |kind| {
            let mut next = event(kind);
            next.upstream.seq = 51;
            next
        };
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
            local: inactive("takendown"),
            ..after(3)
        };
        let (account, _) = forwarded(Some(&taken), &event(Kind::Account(Status::ACTIVE)));
        assert_eq!(account.effective(), &inactive("takendown"));
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
        assert_eq!(forwarded(Some(&after(3)), &foreign).0, after(3));
        assert_eq!(
            judge(None, &foreign, 99),
            Verdict::Forward {
                account: None,
                discontinuous: false
            }
        );
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
        let mut late = event(Kind::Account(inactive("deactivated")));
        late.upstream.seq = 60;
        assert_eq!(rejected(Some(&account), &late), Reject::WrongHost);
        moved.kind = Kind::Commit(commit(2));
        moved.upstream.seq = 2;
        assert_eq!(rejected(Some(&account), &moved), Reject::RevStale);
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
