//! Lenient mode: commits of hosts that do not know Sync 1.1 yet pass on their signature alone.

use zlay::{
    reject::Reject,
    sim::{
        account::{self, Account},
        event::Event,
        repo::{Draft, Signing, Write},
    },
};

use crate::{
    site::{Site, next_commit},
    stage::Stage,
    subscriber::Subscriber,
};

/// What a commit of before Sync 1.1 lacks.
#[derive(Clone, Copy, Debug)]
enum Lacks {
    PrevData,
    Prev,
    Both,
}

/// The account's next commit, which changes a record that there is, without what it lacks.
fn draft(account: &mut Account, lacks: Lacks) -> Draft {
    let path = account.repo.tree().pick(&mut fastrand::Rng::with_seed(3));
    let path = path.expect("a record").to_string();
    let record = account::record("app.bsky.feed.post", "edited", account.records());
    let mut draft = account.draft(&[Write::Put(path, record)]);
    if !matches!(lacks, Lacks::Prev) {
        draft.prev_data = None;
    }
    if !matches!(lacks, Lacks::PrevData) {
        draft.ops.iter_mut().for_each(|op| op.prev = None);
    }
    draft
}

fn legacy(account: &mut Account, lacks: Lacks) -> Event {
    let draft = draft(account, lacks);
    account.seal(draft).message.event()
}

const ALL: [Lacks; 3] = [Lacks::PrevData, Lacks::Prev, Lacks::Both];

/// What is wrong with a commit beside what it lacks is seen all the same; the account has not moved
/// on.
fn bad_ones(account: &Account, stranger: &Account) -> Vec<(Event, Reject)> {
    let mut bad = Vec::new();
    for lacks in ALL {
        let unsigned = || draft(&mut account.clone(), lacks);
        let foreign = Signing::Valid(stranger.key.clone());
        let high = Signing::HighS(account.key.clone());
        for signing in [foreign, high, Signing::Bytes(vec![1; 64])] {
            let event = unsigned().seal(&signing).message.event();
            bad.push((event, Reject::SignatureInvalid));
        }
        let mut without_record = unsigned();
        let record = without_record.ops[0].cid;
        without_record
            .blocks
            .retain(|block| Some(block.cid) != record);
        let mut stale = unsigned();
        stale.rev = stale.since.unwrap();
        for (draft, reject) in [
            (without_record, Reject::RecordMissing),
            (stale, Reject::RevStale),
        ] {
            let signing = Signing::Valid(account.key.clone());
            bad.push((draft.seal(&signing).message.event(), reject));
        }
    }
    bad
}

fn lenient_total(stage: &Stage) -> u64 {
    stage.relay.metric("relay_events_lenient_total")
}

/// Rule 115: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn a_lenient_relay_takes_old_commits_by_their_signature_and_counts_them() {
    let mut site = Site::new(1);
    let lenient = ("RELAY_LENIENT_SYNC_VALIDATION", "true".to_owned());
    site.variables.push(lenient);
    let mut stage = Stage::on(site);
    let host = stage.site.network.host(0).name().to_owned();
    let stranger = stage.site.stranger(0);
    for (n, lacks) in ALL.into_iter().enumerate() {
        let mut account = stage.known_account();
        let old = legacy(&mut account, lacks);
        // One that lacks nothing follows on it.
        let new = next_commit(&mut account);
        stage.pass(&[&old, &new]);
        let count = n as u64 + 1;
        assert_eq!(lenient_total(&stage), count);
        assert_eq!(stage.relay.of_host(&host, "/events/lenient"), count);
    }
    assert!(stage.relay.rejects().is_empty());
    assert_eq!(stage.relay.of_host(&host, "/lenient"), true);
    let lenient = lenient_total(&stage);
    for n in 0..bad_ones(&stage.bystander, &stranger).len() {
        // An account each: a bad signature makes the relay ask for a document, and that not often.
        let mut account = stage.known_account();
        let (event, reject) = bad_ones(&account, &stranger).swap_remove(n);
        stage.drops(&mut account, &event, reject);
    }
    assert_eq!(lenient_total(&stage), lenient);
}

/// The operator's word on one host holds for it alone, from then on, without a new connection, and
/// after a restart.
///
/// Rule 115: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn one_host_may_be_lenient_and_no_other() {
    let mut stage = Stage::set_up();
    let (mut here, stranger) = (stage.known_account(), stage.site.stranger(0));
    let mut there = stage.site.account(1);
    let first = next_commit(&mut there);
    stage.pass_from(1, &[&first]);
    let names = [0, 1].map(|host| stage.site.network.host(host).name().to_owned());
    let say = |stage: &Stage, lenient: bool| {
        let body = serde_json::json!({"host": names[0], "lenient": lenient});
        stage
            .relay
            .decide("/admin/pds/changeLimits", &body.to_string());
        assert_eq!(stage.relay.of_host(&names[0], "/lenient"), lenient);
        assert_eq!(stage.relay.of_host(&names[1], "/lenient"), false);
    };
    let old = legacy(&mut here.clone(), Lacks::Both);
    stage.drops(&mut here, &old, Reject::NotInductive);

    say(&stage, true);
    let old = legacy(&mut here, Lacks::Both);
    let new = next_commit(&mut here);
    stage.pass(&[&old, &new]);
    assert_eq!(lenient_total(&stage), 1);
    assert_eq!(stage.relay.of_host(&names[0], "/events/lenient"), 1);
    assert_eq!(stage.relay.of_host(&names[1], "/events/lenient"), 0);
    let forged = draft(&mut here.clone(), Lacks::Both);
    let forged = forged.seal(&Signing::Valid(stranger.key)).message.event();
    stage.drops(&mut here, &forged, Reject::SignatureInvalid);
    let old = legacy(&mut there.clone(), Lacks::Both);
    stage.refuse(1, &old, Reject::NotInductive);
    stage.pass_from(1, &[&next_commit(&mut there)]);
    for host in stage.site.network.hosts() {
        assert_eq!(host.connections(), 1, "no new connection was needed");
    }

    stage.subscriber.leave();
    let Stage { site, relay, .. } = stage;
    relay.terminate();
    assert!(relay.ended().0.success());
    let relay = site.start();
    site.wait_until_connected();
    let mut live = Subscriber::connect(&relay, None).unwrap();
    let old = legacy(&mut here, Lacks::PrevData);
    site.network.publish(0, &old);
    live.expect(&[&old]);
}
