//! Revisions: what they look like, and that they only go forward, and not too far.

use std::time::Duration;

use zlay::{
    atproto::tid::Tid,
    reject::Reject,
    sim::{clock, repo::Signing},
};

use super::forgery::{
    Case, Spoil, drops_all, forge, forge_draft, in_draft, in_message, in_parts, item, one_of_each,
    writer,
};
use crate::stage::Stage;

/// A revision of the commit and of the message alike.
fn revision(rev: &str) -> Spoil {
    let value = item(rev);
    in_parts(move |parts| parts.set_both("rev", "rev", value.clone()))
}

/// The revision is the same in the commit object. What `since` names must be one too.
///
/// Rule 82: <https://atproto.com/specs/tid>
#[test]
fn a_rev_that_is_no_tid() {
    let revs = [
        "",
        "x",
        "0",
        "3jzfcijpj2z2",
        "3jzfcijpj2z2aa",
        "kjzfcijpj2z2a",
        "zzzzzzzzzzzzz",
        "3jzfcijpj2z20",
        "3jzfcijpj2z21",
        "3jzfcijpj2z28",
        "3jzfcijpj2z29",
        "3JZFCIJPJ2Z2A",
        "3jzf-cij-pj2z-2a",
        "3jzfcijpj2z2 ",
        "2026-01-02T03:04:05Z",
        "3jzfcijpj2\u{17f}a",
    ];
    let case = |rev: &&str| Case::new(*rev, revision(rev), Reject::RevInvalid);
    let mut cases: Vec<_> = revs.iter().map(case).collect();
    for since in ["", "kjzfcijpj2z2a", "3jzf-cij-pj2z-2a"] {
        let spoil = in_message(move |m| m.set("since", item(since)));
        let name = format!("since: {since}");
        cases.push(Case::new(name, spoil, Reject::RevInvalid));
    }
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// One of the two revisions is another one, which itself could be that of the next commit.
///
/// Rule 83: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn a_rev_that_differs_from_that_of_the_commit() {
    let later = || item(Tid::from_micros(clock::micros() + 1_000_000, 5).to_string());
    let cases = [
        Case::new(
            "the message is ahead",
            in_message(move |m| m.set("rev", later())),
            Reject::CommitMismatch,
        ),
        Case::new(
            "the commit is ahead",
            in_parts(move |parts| parts.object.set("rev", later())),
            Reject::CommitMismatch,
        ),
    ];
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// The very same commit again, the one before it again, and new commits whose revision is that of
/// the last one or of an earlier one.
///
/// Rules 86, 87: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn a_rev_that_is_not_newer() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let mut sent = Vec::new();
    for _ in 0..2 {
        let writes = one_of_each(&account);
        let draft = account.draft(&writes);
        let rev = draft.rev;
        let event = forge_draft(&account, draft, &Spoil::Nothing);
        stage.pass(&[&event]);
        sent.push((event, rev));
    }
    // `drops` makes the account write on, so that both are old after the first time.
    for (event, _) in sent.iter().rev() {
        for _ in 0..2 {
            stage.drops(&mut account, event, Reject::RevStale);
        }
    }
    let before_all = Tid::from_micros(1_700_000_000_000_000, 0);
    type Earlier = fn(Tid) -> Tid;
    let earlier: [(&str, Earlier); 3] = [
        ("the last one", |since| since),
        ("just before it", |since| Tid::from_raw(since.raw() - 1)),
        ("the first of all", |_| Tid::from_raw(0)),
    ];
    for (name, rev) in earlier {
        println!("{name}");
        let spoil = in_draft(move |draft| draft.rev = rev(draft.since.unwrap()));
        let forged = forge(&account, &one_of_each(&account), &spoil);
        stage.drops(&mut account, &forged, Reject::RevStale);
    }
    for rev in [sent[0].1, before_all] {
        let forged = forge(
            &account,
            &one_of_each(&account),
            &revision(&rev.to_string()),
        );
        stage.drops(&mut account, &forged, Reject::RevStale);
    }
    // That it was dropped is not owed to `since` or `prevData`, which may be anything.
    let mut draft = account.clone().draft(&one_of_each(&account));
    draft.rev = draft.since.unwrap();
    draft.since = Some(sent[0].1);
    let event = draft
        .seal(&Signing::Valid(account.key.clone()))
        .message
        .event();
    stage.drops(&mut account, &event, Reject::RevStale);
}

/// The next commit passes with the revision of now, so the one of tomorrow was not remembered.
///
/// Rules 88, 89: <https://atproto.com/specs/tid>
#[test]
fn a_rev_of_the_future() {
    let ahead = |minutes: u64| {
        let ahead = Duration::from_secs(minutes * 60).as_micros() as u64;
        Tid::from_micros(clock::micros() + ahead, 0).to_string()
    };
    let revs = [
        ahead(6),
        ahead(60),
        ahead(366 * 24 * 60),
        "bzzzzzzzzzzzz".to_owned(),
        // With the highest bit set.
        "c222222222222".to_owned(),
        "fzzzzzzzzzzzz".to_owned(),
        "jzzzzzzzzzzzz".to_owned(),
    ];
    let case = |rev: &String| Case::new(rev, revision(rev), Reject::RevFuture);
    let cases: Vec<_> = revs.iter().map(case).collect();
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}
