//! What hosts, the operator and limits say of accounts, and what follows
//! (<https://atproto.com/specs/account#hosting-status>).

use serde_json::{Value, json};
use zlay::{
    reject::Reject,
    sim::{
        account::Account,
        clock,
        event::{self, Event},
        feed::Once,
        host::Hosted,
    },
};

use crate::{
    site::{Relay, Site, agent, answer, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// What a host can say of an account that is inactive: the words of the protocol, one that is not
/// among them, and none.
const REASONS: [Option<&str>; 6] = [
    Some("deactivated"),
    Some("takendown"),
    Some("suspended"),
    Some("deleted"),
    Some("hibernating"),
    None,
];
const ASKED: &str = "relay_account_status_asked_total";

/// An `#account` with any combination of `active` and `status`.
fn says(account: &Account, active: bool, status: Option<&str>) -> Event {
    event::account_saying(account.did(), active, status, clock::micros())
}

/// A `#sync` of a commit that nobody has seen.
fn next_sync(account: &Account) -> Event {
    let mut ahead = account.clone();
    next_commit(&mut ahead);
    ahead.sync().unwrap()
}

/// What the account's host says when it is asked.
fn reports(stage: &Stage, account: &Account, status: Option<&str>) {
    let hosted = Hosted {
        status: status.map(str::to_owned),
        ..account.hosted()
    };
    stage
        .site
        .network
        .host(0)
        .set_account(account.did(), hosted);
}

/// Says something of an account as the operator; status and body of the answer.
fn rule(relay: &Relay, path: &str, account: &Account) -> (u16, Value) {
    let body = json!({"did": &**account.did()});
    relay.admin(&format!("/admin/repo/{path}"), Some(&body.to_string()))
}

fn take_down(stage: &Stage, account: &Account) {
    let answer = rule(&stage.relay, "takeDown", account);
    assert_eq!(answer, (200, json!({"success": "true"})));
}

fn reverse(stage: &Stage, account: &Account) {
    let answer = rule(&stage.relay, "reverseTakedown", account);
    assert_eq!(answer, (200, json!({"success": "true"})));
}

/// Accounts that are taken down.
fn takedowns(relay: &Relay) -> Value {
    let (status, body) = relay.admin("/admin/repo/takedowns", None);
    assert_eq!(status, 200, "{body}");
    body
}

/// A commit and a sync of the account are dropped; neither moves its state.
fn drops_content(stage: &mut Stage, account: &Account, reject: Reject) {
    let commit = next_commit(&mut account.clone());
    stage.refuse(0, &commit, reject);
    let sync = next_sync(account);
    stage.refuse(0, &sync, reject);
}

/// The account's next commit passes, as the continuation of the last one that did.
fn continues(stage: &mut Stage, account: &mut Account) {
    let commit = next_commit(account);
    stage.pass(&[&commit]);
    let discontinuous = stage.relay.metric("relay_events_discontinuous_total");
    assert_eq!(discontinuous, 0);
}

/// Whatever word the host has for it, it is kept, and while the account is inactive only what is not
/// content of it passes.
///
/// Rules 133, 134, 135, 136, 137, 141, 142: <https://atproto.com/specs/account#hosting-status>
#[test]
fn an_inactive_account_has_no_content_until_it_is_active_again() {
    let mut stage = Stage::set_up();
    for reason in REASONS {
        let mut account = stage.known_account();
        reports(&stage, &account, Some(reason.unwrap_or("inactive")));
        let gone = says(&account, false, reason);
        stage.pass(&[&gone]);
        drops_content(&mut stage, &account, Reject::AccountInactive);
        // It says again what it is, and that its identity changed, which changes nothing.
        let (again, identity) = (says(&account, false, reason), account.identity());
        stage.pass(&[&again, &identity]);
        drops_content(&mut stage, &account, Reject::AccountInactive);
        let back = says(&account, true, None);
        stage.pass(&[&back]);
        continues(&mut stage, &mut account);
    }
    let rejects = stage.relay.rejects();
    assert_eq!(rejects.len(), 1, "{rejects:?}");
}

/// Rule 140: <https://atproto.com/specs/account#hosting-status>
#[test]
fn a_note_beside_active_is_kept_and_keeps_nothing_from_passing() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for note in ["desynchronized", "throttled", "takendown", "hibernating"] {
        let noted = says(&account, true, Some(note));
        stage.pass(&[&noted]);
        continues(&mut stage, &mut account);
    }
    let plain = says(&account, true, None);
    stage.pass(&[&plain]);
    continues(&mut stage, &mut account);
    assert!(stage.relay.rejects().is_empty());
}

/// Rule 138: <https://atproto.com/guides/account-lifecycle>
#[test]
fn another_host_says_nothing_of_an_account() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for reason in REASONS {
        let foreign = says(&account, false, reason);
        stage.refuse(1, &foreign, Reject::WrongHost);
        continues(&mut stage, &mut account);
    }
    // Nor does it wake one up.
    reports(&stage, &account, Some("deactivated"));
    let gone = says(&account, false, Some("deactivated"));
    stage.pass(&[&gone]);
    let foreign = says(&account, true, None);
    stage.refuse(1, &foreign, Reject::WrongHost);
    drops_content(&mut stage, &account, Reject::AccountInactive);
}

/// However much an inactive account sends, its host is asked about it once in a while; what the host
/// then says counts.
///
/// Rules 135, 139: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn the_host_of_an_inactive_account_is_asked_once_whether_it_still_is() {
    let mut stage = Stage::set_up();
    for sync in [false, true] {
        let mut account = stage.known_account();
        let gone = says(&account, false, Some("deactivated"));
        stage.pass(&[&gone]);
        // The host never says that the account is active again, but it answers so.
        reports(&stage, &account, None);
        if sync {
            next_commit(&mut account);
            let sync = account.sync().unwrap();
            stage.pass(&[&sync]);
        }
        continues(&mut stage, &mut account);
    }
    assert_eq!(stage.relay.metric(ASKED), 2);
    assert!(stage.relay.rejects().is_empty());

    let account = stage.known_account();
    reports(&stage, &account, Some("deactivated"));
    let gone = says(&account, false, Some("deactivated"));
    stage.pass(&[&gone]);
    let mut ahead = account.clone();
    for _ in 0..40 {
        let commit = next_commit(&mut ahead);
        stage
            .site
            .network
            .publish_invalid(0, &commit, Reject::AccountInactive);
    }
    stage.sentinel();
    wait_until("all of them are refused", || {
        stage.refused(Reject::AccountInactive) == 40
    });
    assert_eq!(stage.relay.metric(ASKED), 3);
}

/// Rules 143, 181: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn the_operators_takedown_goes_before_what_the_host_says() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    take_down(&stage, &account);
    stage.subscriber.told(&account, false, Some("takendown"));
    // Once more changes nothing, and says nothing.
    take_down(&stage, &account);
    drops_content(&mut stage, &account, Reject::AccountInactive);

    // Whatever the host says, subscribers hear what holds here; an identity is no content.
    for (active, reason) in [(true, None), (false, Some("deactivated")), (true, None)] {
        let said = says(&account, active, reason);
        stage.site.network.host(0).emit(&said);
        stage.subscriber.told(&account, false, Some("takendown"));
        drops_content(&mut stage, &account, Reject::AccountInactive);
    }
    let identity = account.identity();
    stage.pass(&[&identity]);
    assert_eq!(stage.relay.metric(ASKED), 0, "the host is not asked");
    assert_eq!(takedowns(&stage.relay), json!({"dids": [&**account.did()]}));

    // A reversal says what holds then, which is what the host said last.
    reverse(&stage, &account);
    stage.subscriber.told(&account, true, None);
    continues(&mut stage, &mut account);
    take_down(&stage, &account);
    stage.subscriber.told(&account, false, Some("takendown"));
    let said = says(&account, false, Some("deactivated"));
    stage.site.network.host(0).emit(&said);
    stage.subscriber.told(&account, false, Some("takendown"));
    reverse(&stage, &account);
    stage.subscriber.told(&account, false, Some("deactivated"));
    reverse(&stage, &account);
    reports(&stage, &account, Some("deactivated"));
    drops_content(&mut stage, &account, Reject::AccountInactive);
    assert_eq!(takedowns(&stage.relay), json!({"dids": []}));
    let back = says(&account, true, None);
    stage.pass(&[&back]);
    continues(&mut stage, &mut account);

    let stranger = stage.site.account(0);
    for path in ["takeDown", "reverseTakedown"] {
        let (status, body) = rule(&stage.relay, path, &stranger);
        assert_eq!((status, &body["error"]), (404, &"RepoNotFound".into()));
    }
    stage.sentinel();
}

/// What the relay itself says is in its stream like everything else, and what it decided holds when
/// it starts again.
///
/// Rules 143, 192: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_takedown_outlives_the_process() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    take_down(&stage, &account);
    stage.subscriber.told(&account, false, Some("takendown"));
    stage.relay.kill();

    stage.relay = stage.site.start();
    stage.site.wait_until_connected();
    stage.subscriber = Subscriber::from_the_beginning(&stage.relay);
    // What the account said before is not shown any more; its place in the stream is not empty.
    let kind = |stage: &mut Stage| stage.subscriber.event().kind;
    assert_eq!(kind(&mut stage), "#commit");
    for _ in 0..2 {
        stage.subscriber.told(&account, false, Some("takendown"));
    }
    drops_content(&mut stage, &account, Reject::AccountInactive);
    assert_eq!(takedowns(&stage.relay), json!({"dids": [&**account.did()]}));
    reverse(&stage, &account);
    stage.subscriber.told(&account, true, None);
    continues(&mut stage, &mut account);
    // Now it is shown again.
    stage.subscriber = Subscriber::from_the_beginning(&stage.relay);
    let kinds = [(); 3].map(|()| kind(&mut stage));
    assert_eq!(kinds, ["#commit", "#commit", "#account"]);
}

/// Whoever reads what is past finds, in the place of everything that was published of an account before
/// its takedown, the word that it is taken down; every other event is there, byte for byte, and nothing
/// is missing in the sequence. The same after a restart. A reversal brings all of it back.
///
/// Rules 143, 192: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn a_takedown_hides_what_was_published_before_it_and_a_reversal_shows_it_again() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let said = says(&account, true, None);
    let identity = account.identity();
    stage.pass(&[&said, &identity]);
    for _ in 0..20 {
        continues(&mut stage, &mut account);
        stage.sentinel();
    }
    let read = |relay: &Relay, count: usize| {
        let mut subscriber = Subscriber::from_the_beginning(relay);
        let seen: Vec<_> = (0..count).map(|_| subscriber.event()).collect();
        assert_eq!(seen[0].seq, 1);
        seen
    };
    // The bystander's first, the account's three, and the pairs.
    let count = 1 + 3 + 40;
    let before = read(&stage.relay, count);
    take_down(&stage, &account);
    stage.subscriber.told(&account, false, Some("takendown"));
    stage.sentinel();
    let hides = |relay: &Relay| {
        let after = read(relay, count + 2);
        let (old, new) = after.split_at(count);
        for (was, is) in before.iter().zip(old) {
            assert_eq!((is.seq, &is.did), (was.seq, &was.did));
            if *is.did == **account.did() {
                let down = (false, Some("takendown".to_owned()));
                assert_eq!((&*is.kind, &is.status), ("#account", &Some(down)));
            } else {
                assert_eq!(is, was);
            }
        }
        let kinds: Vec<_> = new.iter().map(|seen| &*seen.kind).collect();
        assert_eq!(kinds, ["#account", "#commit"]);
        after
    };
    hides(&stage.relay);
    // From a cursor in the middle too.
    let mut middle = Subscriber::connect(&stage.relay, Some("3")).unwrap();
    middle.told(&account, false, Some("takendown"));
    stage.relay.kill();
    stage.relay = stage.site.start();
    stage.site.wait_until_connected();
    let after = hides(&stage.relay);

    stage.subscriber = Subscriber::connect(&stage.relay, None).unwrap();
    reverse(&stage, &account);
    stage.subscriber.told(&account, true, None);
    let shown = read(&stage.relay, count + 3);
    assert_eq!(shown[..count], before);
    assert_eq!(shown[count..count + 2], after[count..]);
    assert_eq!(shown[count + 2].status, Some((true, None)));
    continues(&mut stage, &mut account);
}

/// Rule 144: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn a_host_that_is_away_changes_no_status() {
    let mut stage = Stage::set_up();
    let (mut active, mut inactive) = (stage.known_account(), stage.known_account());
    let gone = says(&inactive, false, Some("deactivated"));
    stage.pass(&[&gone]);
    let mut elsewhere = stage.site.account(1);
    let host = stage.site.network.host(0).clone();
    host.set_refuses(true);
    host.inject(Once::Cut);
    wait_until("the relay tries in vain", || {
        stage.relay.failed_connects() >= 2
    });
    // Nothing was said of any account before this.
    let sentinel = next_commit(&mut elsewhere);
    stage.pass_from(1, &[&sentinel]);
    host.set_refuses(false);
    reports(&stage, &inactive, Some("deactivated"));
    drops_content(&mut stage, &inactive, Reject::AccountInactive);
    continues(&mut stage, &mut active);
    let back = says(&inactive, true, None);
    stage.pass(&[&back]);
    continues(&mut stage, &mut inactive);
}

/// A directory that does not know an account any more says nothing of its status here: what can not
/// be verified is dropped, and passes when it can be again.
///
/// Rule 151: <https://atproto.com/specs/account#hosting-status>
#[test]
fn an_account_that_the_directory_has_lost_is_not_heard_and_not_called_deleted() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    stage.site.network.plc().forget(account.did());
    let identity = event::identity(account.did(), None, clock::micros());
    stage.pass(&[&identity]);
    let commit = next_commit(&mut account.clone());
    stage.refuse(0, &commit, Reject::IdentityNotFound);
    let gone = says(&account, false, Some("deleted"));
    stage.refuse(0, &gone, Reject::IdentityNotFound);
    stage.site.network.register(&account);
    let identity = event::identity(account.did(), None, clock::micros());
    stage.pass(&[&identity]);
    continues(&mut stage, &mut account);
}

/// The relay answers for an account what holds here, whoever said it.
///
/// Rules 134, 137, 143, 145, 177: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn queries_answer_with_the_status_that_holds_here() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let latest = ask(&stage.relay, "getLatestCommit", &account);
    assert_eq!(latest.0, 200, "{latest:?}");
    for (reason, error) in [
        ("deactivated", "RepoDeactivated"),
        ("takendown", "RepoTakendown"),
        ("suspended", "RepoSuspended"),
        ("deleted", "RepoNotFound"),
    ] {
        let gone = says(&account, false, Some(reason));
        stage.pass(&[&gone]);
        answers(&stage, &account, reason, error);
    }
    let back = says(&account, true, None);
    stage.pass(&[&back]);
    assert_eq!(ask(&stage.relay, "getLatestCommit", &account), latest);

    take_down(&stage, &account);
    stage.subscriber.told(&account, false, Some("takendown"));
    answers(&stage, &account, "takendown", "RepoTakendown");
    let gone = says(&account, false, Some("deactivated"));
    stage.site.network.host(0).emit(&gone);
    stage.subscriber.told(&account, false, Some("takendown"));
    answers(&stage, &account, "takendown", "RepoTakendown");
    reverse(&stage, &account);
    stage.subscriber.told(&account, false, Some("deactivated"));
    answers(&stage, &account, "deactivated", "RepoDeactivated");
    let back = says(&account, true, None);
    stage.pass(&[&back]);
    assert_eq!(ask(&stage.relay, "getLatestCommit", &account), latest);
    continues(&mut stage, &mut account);
}

fn ask(relay: &Relay, method: &str, account: &Account) -> (u16, Value) {
    let did = account.did();
    let url = format!(
        "http://{}/xrpc/com.atproto.sync.{method}?did={did}",
        relay.public
    );
    // A redirect would lead to a host that has no such repository.
    let request = agent().get(url).config().max_redirects(0).build();
    answer(request.call().unwrap())
}

/// Every query about an inactive account says so.
fn answers(stage: &Stage, account: &Account, reason: &str, error: &str) {
    let (status, body) = ask(&stage.relay, "getRepoStatus", account);
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["did"], **account.did());
    assert_eq!(
        (&body["active"], &body["status"]),
        (&false.into(), &reason.into())
    );
    for method in ["getLatestCommit", "getRepo"] {
        let (status, body) = ask(&stage.relay, method, account);
        assert!((400..500).contains(&status), "{method}: {status} {body}");
        assert_eq!(body["error"], error, "{method}: {body}");
    }
}

/// The limit of accounts that a host has where nobody has said anything of that host.
fn site_with_limit(limit: u64) -> Site {
    let mut site = Site::new(2);
    site.variables.extend([
        ("RELAY_DEFAULT_ACCOUNT_LIMIT", limit.to_string()),
        ("RELAY_TRUSTED_DOMAINS", "trusted.example".to_owned()),
    ]);
    site
}

/// Rule 195: <https://atproto.com/specs/sync>
#[test]
fn an_account_that_is_too_many_for_its_host_is_throttled_until_there_is_room() {
    // One place is the bystander's.
    let mut stage = Stage::on(site_with_limit(2));
    let mut first = stage.known_account();
    let mut second = stage.site.account(0);
    drops_content(&mut stage, &second, Reject::AccountLimit);
    let identity = second.identity();
    stage.pass(&[&identity]);
    for active in [true, false] {
        let reason = (!active).then_some("deactivated");
        let said = says(&second, active, reason);
        stage.site.network.host(0).emit(&said);
        stage.subscriber.told(&second, false, Some("throttled"));
        drops_content(&mut stage, &second, Reject::AccountLimit);
    }
    let said = says(&second, true, None);
    stage.site.network.host(0).emit(&said);
    stage.subscriber.told(&second, false, Some("throttled"));
    // Those that are there are not affected.
    continues(&mut stage, &mut first);

    // The first one moves to a host that has room, and the second one is let in without a word.
    first.host = 1;
    stage.site.network.register(&first);
    let (identity, commit) = (first.identity(), next_commit(&mut first));
    stage.pass_from(1, &[&identity]);
    stage.subscriber.told(&second, true, None);
    stage.pass_from(1, &[&commit]);
    continues(&mut stage, &mut second);
    // Now there is none for anybody else, until the operator makes some.
    let mut third = stage.site.account(0);
    drops_content(&mut stage, &third, Reject::AccountLimit);
    let host = stage.site.network.host(0).name().to_owned();
    let change = json!({"host": host, "repo_limit": 3});
    let (status, body) = stage
        .relay
        .admin("/admin/pds/changeLimits", Some(&change.to_string()));
    assert_eq!(status, 200, "{body}");
    stage.subscriber.told(&third, true, None);
    continues(&mut stage, &mut third);
    let mut fourth = stage.site.account(0);
    drops_content(&mut stage, &fourth, Reject::AccountLimit);
    // One that is deleted gives its place back, and needs one if it comes back.
    let gone = says(&second, false, Some("deleted"));
    stage.pass(&[&gone]);
    stage.subscriber.told(&fourth, true, None);
    continues(&mut stage, &mut fourth);
    let back = says(&second, true, None);
    stage.site.network.host(0).emit(&back);
    stage.subscriber.told(&second, false, Some("throttled"));
    drops_content(&mut stage, &second, Reject::AccountLimit);
}

/// However many accounts a host makes, it has as many as are not deleted.
///
/// Rule 195: <https://atproto.com/specs/sync>
#[test]
fn accounts_that_are_deleted_do_not_fill_their_host() {
    // One place is the bystander's.
    let mut stage = Stage::on(site_with_limit(2));
    for _ in 0..10 {
        let account = stage.known_account();
        let gone = says(&account, false, Some("deleted"));
        stage.pass(&[&gone]);
    }
    assert!(stage.relay.rejects().is_empty());
}
