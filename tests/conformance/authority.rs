//! Which host speaks for an account: the one that its document names, found out by asking for the
//! document, and by asking again where it may have changed
//! (<https://atproto.com/specs/account#account-migration>, <https://atproto.com/specs/did>).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use zlay::{
    limits,
    reject::Reject,
    sim::{
        account::Account,
        clock,
        event::{self, Event},
        keys::{Curve, Key},
        plc::PlcFaults,
    },
};

use crate::{
    site::{Site, next_commit, wait_until},
    stage::Stage,
};

/// A change of a document.
type Change = fn(&mut Value);

/// The document of an account, as its host and the directory have it.
fn document(stage: &Stage, account: &Account) -> Value {
    let host = stage.site.network.host(account.host);
    serde_json::from_str(&account.document(&host.url())).unwrap()
}

/// The directory has this document from now on.
fn set_document(stage: &Stage, account: &Account, document: &Value) {
    let plc = stage.site.network.plc();
    plc.set(account.did(), &document.to_string());
}

/// A new account of the first host whose document is changed in one way.
fn account_with(stage: &mut Stage, change: impl FnOnce(&mut Value)) -> Account {
    let account = stage.site.account(0);
    let mut changed = document(stage, &account);
    change(&mut changed);
    set_document(stage, &account, &changed);
    account
}

/// The document is right now, an identity event says so, and the account is heard.
fn becomes_right(stage: &mut Stage, account: &mut Account) {
    stage.site.network.register(account);
    stage.pass(&[&account.identity(), &next_commit(account)]);
}

/// The account says a commit and a `#sync` of it, and neither passes.
fn is_not_heard(stage: &mut Stage, account: &Account, reject: Reject) {
    let mut copy = account.clone();
    stage.refuse(0, &next_commit(&mut copy), reject);
    stage.refuse(0, &copy.sync().unwrap(), reject);
}

/// Rules 146, 194: <https://atproto.com/specs/sync>
#[test]
fn another_host_is_doubted_once_and_not_heard() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let asked = stage.asked_for(&account);
    let mut copy = account.clone();
    let commit = next_commit(&mut copy);
    stage.refuse(1, &commit, Reject::WrongHost);
    assert_eq!(stage.asked_for(&account), asked + 1);
    // The document is as good as new by now.
    copy.status = Some("deleted");
    for event in [
        next_commit(&mut copy),
        copy.sync().unwrap(),
        copy.account(),
        account.account(),
    ] {
        stage.refuse(1, &event, Reject::WrongHost);
    }
    assert_eq!(stage.asked_for(&account), asked + 1);
    let identity = account.identity();
    stage.pass_as(1, &identity, &identity.without_handle().unwrap());
    stage.pass(&[&next_commit(&mut account)]);
    assert_eq!(stage.relay.metric("relay_events_discontinuous_total"), 0);
}

/// Rule 159: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn an_account_is_not_made_by_what_another_host_says_of_it() {
    let mut stage = Stage::set_up();
    let accounts = stage.relay.metric("relay_accounts");
    let (mut elsewhere, mut nobody) = (stage.site.account(0), stage.site.stranger(1));
    for (account, reject) in [
        (&elsewhere, Reject::WrongHost),
        (&nobody, Reject::IdentityNotFound),
    ] {
        let mut copy = account.clone();
        let identity = copy.identity();
        stage.pass_as(1, &identity, &identity.without_handle().unwrap());
        let commit = next_commit(&mut copy);
        for event in [commit, copy.sync().unwrap(), copy.account()] {
            stage.refuse(1, &event, reject);
        }
    }
    assert_eq!(stage.relay.metric("relay_accounts"), accounts);
    stage.pass(&[&next_commit(&mut elsewhere)]);
    stage.site.network.register(&nobody);
    let identity = nobody.identity();
    stage.pass_from(1, &[&identity, &next_commit(&mut nobody)]);
    wait_until("both are known", || {
        stage.relay.metric("relay_accounts") == accounts + 2
    });
}

/// What happens in the course of a migration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The document names the new host and its key from now on.
    Switch,
    /// The old host's farewell: `#account` deactivated.
    OldAccount,
    /// A commit on the old host, signed with the old key.
    OldCommit,
    /// The new host's `#identity`, with the account's handle.
    NewIdentity,
    /// The new host's `#account` active.
    NewAccount,
    /// A commit on the new host, signed with the new key.
    NewCommit,
}

/// What a correct relay does with an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Passes,
    PassesWithoutHandle,
    Dropped(Reject),
}

/// What a correct relay does with each event of a migration; nothing is to be done with the switch.
///
/// It can not know of the switch before it has a reason to ask: an `#identity`, or an event of a
/// host that is not the one it knows. Until then the old host is believed, and its farewell makes
/// the account inactive; the new host's `#account` makes it active again. From then on the old host
/// is not heard.
fn outcomes(steps: &[Step]) -> Vec<Option<Outcome>> {
    use Outcome::{Dropped, Passes, PassesWithoutHandle};
    let (mut moved, mut known, mut active) = (false, false, true);
    let mut outcome = |step: &Step| match step {
        Step::Switch => {
            moved = true;
            None
        }
        Step::OldAccount | Step::OldCommit if known => Some(Dropped(Reject::WrongHost)),
        Step::OldAccount => {
            active = false;
            Some(Passes)
        }
        Step::OldCommit if !active => Some(Dropped(Reject::AccountInactive)),
        Step::OldCommit => Some(Passes),
        Step::NewIdentity => {
            known = moved;
            Some(if moved { Passes } else { PassesWithoutHandle })
        }
        Step::NewAccount => {
            (known, active) = (true, true);
            Some(Passes)
        }
        Step::NewCommit => Some(Passes),
    };
    steps.iter().map(&mut outcome).collect()
}

/// Every order in which the events of both hosts can arrive, each host's in its own order, and every
/// moment of the switch that comes before the new host's `#account`.
fn migrations() -> Vec<Vec<Step>> {
    use Step::{NewAccount, NewCommit, NewIdentity, OldAccount, OldCommit, Switch};
    let (old, new) = (
        [OldAccount, OldCommit],
        [NewIdentity, NewAccount, NewCommit],
    );
    let mut all = Vec::new();
    for first in 0..5 {
        for second in first + 1..5 {
            let (mut old, mut new) = (old.iter(), new.iter());
            let order = (0..5).filter_map(|place| {
                let of_old = place == first || place == second;
                if of_old { old.next() } else { new.next() }
            });
            let order: Vec<Step> = order.copied().collect();
            let latest = order.iter().position(|step| *step == NewAccount).unwrap();
            for switch in 0..=latest {
                let mut steps = order.clone();
                steps.insert(switch, Switch);
                all.push(steps);
            }
        }
    }
    all
}

/// One account on its way from the first host to the second.
struct Migration {
    old: Account,
    new: Account,
}

impl Migration {
    fn of(old: Account, rng: &mut fastrand::Rng) -> Migration {
        let mut new = old.clone();
        new.host = 1;
        new.key = Arc::new(Key::random(Curve::P256, rng));
        new.handle = format!("moved.{}", old.handle);
        Migration { old, new }
    }

    /// The host and the event of a step; none for the switch, which is made.
    fn event(&mut self, step: Step, stage: &Stage) -> Option<(usize, Event)> {
        Some(match step {
            Step::Switch => {
                stage.site.network.register(&self.new);
                return None;
            }
            Step::OldAccount => (0, self.left().account()),
            Step::OldCommit => (0, next_commit(&mut self.old)),
            Step::NewIdentity => (1, self.new.identity()),
            Step::NewAccount => (1, self.new.account()),
            Step::NewCommit => (1, next_commit(&mut self.new)),
        })
    }

    /// As the old host sees it in the end.
    fn left(&self) -> Account {
        let mut left = self.old.clone();
        left.status = Some("deactivated");
        left
    }
}

/// Rules 138, 147: <https://atproto.com/guides/account-lifecycle>
#[test]
fn a_migration_comes_out_right_in_every_order() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(3);
    let migrations = migrations();
    assert_eq!(migrations.len(), 30);
    for steps in migrations {
        let mut account = Migration::of(stage.known_account(), &mut rng);
        let old_host = stage.site.network.host(0);
        old_host.set_account(account.old.did(), account.left().hosted());
        for (step, outcome) in steps.iter().zip(outcomes(&steps)) {
            let Some((host, event)) = account.event(*step, &stage) else {
                continue;
            };
            // Each is dealt with before the next is sent.
            match outcome.unwrap() {
                Outcome::Passes => stage.pass_from(host, &[&event]),
                Outcome::PassesWithoutHandle => {
                    stage.pass_as(host, &event, &event.without_handle().unwrap());
                }
                Outcome::Dropped(reject) => stage.refuse(host, &event, reject),
            }
        }
        // In the end there is one host, one key, and an active account.
        let late = next_commit(&mut account.old);
        stage.refuse(0, &late, Reject::WrongHost);
        let (left, back) = (account.left().account(), account.old.account());
        stage.refuse(0, &left, Reject::WrongHost);
        stage.refuse(0, &back, Reject::WrongHost);
        stage.refuse(1, &next_commit(&mut account.old), Reject::SignatureInvalid);
        let before = stage.relay.metric("relay_events_discontinuous_total");
        stage.pass_from(1, &[&next_commit(&mut account.new)]);
        let after = stage.relay.metric("relay_events_discontinuous_total");
        assert_eq!(after, before, "{steps:?}");
    }
}

/// Rule 148: <https://atproto.com/specs/sync>
#[test]
fn a_migrated_account_does_not_go_back() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(4);
    let mut account = stage.known_account();
    // The new host has the repository of then, and a commit on it that it has told nobody of.
    let mut behind = Migration::of(account.clone(), &mut rng).new;
    let old = next_commit(&mut behind);
    let old_sync = behind.sync().unwrap();
    stage.pass(&[&next_commit(&mut account)]);
    stage.site.network.register(&behind);
    stage.pass_from(1, &[&behind.identity(), &behind.account()]);
    stage.refuse(1, &old, Reject::RevStale);
    stage.refuse(1, &old_sync, Reject::RevStale);
    stage.pass_from(1, &[&next_commit(&mut behind)]);
}

/// What is wrong with a document, and why nothing of its account passes.
const DEFECTS: &[(&str, Change, Reject)] = &[
    (
        "no keys",
        |d| d["verificationMethod"] = json!(null),
        Reject::IdentityNoKey,
    ),
    (
        "no key of that name",
        |d| d["verificationMethod"][0]["id"] = json!("#atproto_label"),
        Reject::IdentityNoKey,
    ),
    (
        "the key of another",
        |d| d["verificationMethod"][0]["id"] = json!("did:plc:ewvi7nxzyoun6zhxrhs64oiz#atproto"),
        Reject::IdentityNoKey,
    ),
    (
        "controlled by another",
        |d| d["verificationMethod"][0]["controller"] = json!("did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        Reject::IdentityNoKey,
    ),
    (
        "controlled by nobody",
        |d| d["verificationMethod"][0]["controller"] = json!(null),
        Reject::IdentityNoKey,
    ),
    (
        "a key of another type",
        |d| d["verificationMethod"][0]["type"] = json!("JsonWebKey2020"),
        Reject::IdentityNoKey,
    ),
    (
        "not a key",
        |d| d["verificationMethod"][0]["publicKeyMultibase"] = json!("zzzz"),
        Reject::IdentityNoKey,
    ),
    (
        "no services",
        |d| d["service"] = json!([]),
        Reject::IdentityNoHost,
    ),
    (
        "no service of that name",
        |d| d["service"][0]["id"] = json!("#atproto_labeler"),
        Reject::IdentityNoHost,
    ),
    (
        "a service of another type",
        |d| d["service"][0]["type"] = json!("AtprotoLabeler"),
        Reject::IdentityNoHost,
    ),
    (
        "a service without an address",
        |d| d["service"][0]["serviceEndpoint"] = json!({"uri": "https://pds.test"}),
        Reject::IdentityNoHost,
    ),
];

/// Rule 150: <https://atproto.com/specs/did>
#[test]
fn a_document_without_a_usable_key_or_host_speaks_for_nobody() {
    let mut stage = Stage::set_up();
    for (what, change, reject) in DEFECTS {
        let mut account = account_with(&mut stage, change);
        is_not_heard(&mut stage, &account, *reject);
        becomes_right(&mut stage, &mut account);
        // And it is so from the moment on that this is known.
        let mut changed = document(&stage, &account);
        change(&mut changed);
        set_document(&stage, &account, &changed);
        let identity = event::identity(account.did(), None, clock::micros());
        stage.pass(&[&identity]);
        is_not_heard(&mut stage, &account, *reject);
        becomes_right(&mut stage, &mut account);
        assert_eq!(stage.site.network.host(0).connections(), 1, "{what}");
    }
}

/// Rule 151: <https://web.plc.directory/spec/v0.1/did-plc>
#[test]
fn an_account_that_the_directory_does_not_have_is_not_asked_for_again_and_again() {
    let mut stage = Stage::set_up();
    for gone in [false, true] {
        let mut account = stage.site.stranger(0);
        if gone {
            stage.site.network.plc().set_gone(account.did());
        }
        for _ in 0..10 {
            is_not_heard(&mut stage, &account, Reject::IdentityNotFound);
        }
        let account_event = account.account();
        stage.refuse(0, &account_event, Reject::IdentityNotFound);
        // Nor is anything about to be asked.
        assert_eq!(stage.relay.metric("relay_identity_queue_dids"), 0);
        assert_eq!(
            stage
                .relay
                .metric("relay_identity_lookups_total{method=\"plc\",result=\"unreachable\"}"),
            0
        );
        assert_eq!(stage.asked_for(&account), 1);

        becomes_right(&mut stage, &mut account);
        // It goes while it is known, and somebody says so.
        stage.site.network.plc().set_gone(account.did());
        let identity = account.identity();
        stage.pass_as(0, &identity, &identity.without_handle().unwrap());
        is_not_heard(&mut stage, &account, Reject::IdentityNotFound);
        becomes_right(&mut stage, &mut account);
    }
}

/// Accounts that the directory has, but can not tell about: the events of one wait, in order, and
/// the forgery among them is refused in the end.
fn waits_for_the_directory(stage: &mut Stage, faults: PlcFaults) {
    let network = stage.site.network.clone();
    network.plc().set_faults(faults);
    let mut account = stage.site.account(0);
    let mut events = vec![account.account()];
    events.extend((0..3).map(|_| next_commit(&mut account)));
    let mut forger = account.clone();
    forger.key = stage.bystander.key.clone();
    let forged = next_commit(&mut forger);
    events.push(next_commit(&mut account));
    let (failures, refused) = (
        stage
            .relay
            .metric("relay_identity_lookups_total{method=\"plc\",result=\"unreachable\"}"),
        stage.refused(Reject::SignatureInvalid),
    );
    for (n, event) in events.iter().enumerate() {
        if n == 4 {
            network.publish_invalid(0, &forged, Reject::SignatureInvalid);
        }
        network.publish(0, event);
    }
    wait_until("the directory fails", || {
        stage
            .relay
            .metric("relay_identity_lookups_total{method=\"plc\",result=\"unreachable\"}")
            > failures
    });
    // Nothing of it passes or is refused, and everybody else goes on.
    stage.sentinel();
    assert_eq!(stage.relay.metric("relay_events_waiting"), 6);
    assert_eq!(stage.refused(Reject::SignatureInvalid), refused);

    network.plc().set_faults(PlcFaults::default());
    stage.subscriber.expect(&events.iter().collect::<Vec<_>>());
    assert_eq!(stage.refused(Reject::SignatureInvalid), refused + 1);
    stage.pass(&[&next_commit(&mut account)]);
    assert_eq!(stage.relay.rejects().len(), 1);
}

/// Rule 152: <https://atproto.com/specs/sync>
#[test]
fn what_the_directory_can_not_tell_about_waits_for_it() {
    let mut stage = Stage::set_up();
    for (fail, garbage) in [(true, false), (false, true)] {
        let faults = PlcFaults {
            fail,
            garbage,
            ..PlcFaults::default()
        };
        waits_for_the_directory(&mut stage, faults);
    }
}

/// This takes as long as the relay waits for a first answer.
///
/// Rule 152: <https://atproto.com/specs/sync>
#[test]
fn what_a_silent_directory_does_not_tell_about_waits_for_it() {
    let mut stage = Stage::set_up();
    let faults = PlcFaults {
        delay: limits::IDENTITY_LOOKUP_TIMEOUT * 2,
        ..PlcFaults::default()
    };
    waits_for_the_directory(&mut stage, faults);
}

/// Rule 153: <https://atproto.com/specs/did>
#[test]
fn the_document_of_another_is_none() {
    let changes: [Change; 6] = [
        |d| d["id"] = json!("did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        |d| d["id"] = json!(d["id"].as_str().unwrap().to_uppercase()),
        |d| d["id"] = json!(format!("{} ", d["id"].as_str().unwrap())),
        |d| d["id"] = json!(format!("{}#atproto", d["id"].as_str().unwrap())),
        |d| d["id"] = json!(null),
        |d| *d = json!([d]),
    ];
    let mut stage = Stage::set_up();
    for change in changes {
        let mut account = account_with(&mut stage, change);
        is_not_heard(&mut stage, &account, Reject::IdentityInvalid);
        let account_event = account.account();
        stage.refuse(0, &account_event, Reject::IdentityInvalid);
        let identity = account.identity();
        stage.pass_as(0, &identity, &identity.without_handle().unwrap());
        becomes_right(&mut stage, &mut account);
    }
}

/// A verification method of an account's document.
fn method(id: &str, did: &str, kind: &str, multibase: &str) -> Value {
    json!({"id": id, "type": kind, "controller": did, "publicKeyMultibase": multibase})
}

/// A service of an account's document.
fn service(id: &str, kind: &str, url: &str) -> Value {
    json!({"id": id, "type": kind, "serviceEndpoint": url})
}

/// Rule 154: <https://atproto.com/specs/did>
#[test]
fn the_first_entry_of_use_counts_under_either_form_of_its_id() {
    const PDS: &str = "AtprotoPersonalDataServer";
    let mut stage = Stage::set_up();
    for absolute in [false, true] {
        let mut account = stage.site.account(0);
        let (did, right) = (account.did().to_string(), account.key.multikey());
        let wrong = stage.site.stranger(0).key;
        let multikey = wrong.multikey();
        let url = stage.site.network.host(0).url();
        let other = stage.site.network.host(1).url();
        let name = |fragment: &str| match absolute {
            true => format!("{did}{fragment}"),
            false => fragment.to_owned(),
        };
        let mut changed = document(&stage, &account);
        changed["verificationMethod"] = json!([
            "text",
            method(&name("#atproto_label"), &did, "Multikey", &multikey),
            method(&name("#atprot"), &did, "Multikey", &multikey),
            method("atproto", &did, "Multikey", &multikey),
            method("did:web:a.test#atproto", &did, "Multikey", &multikey),
            method(&name("#atproto"), "did:web:a.test", "Multikey", &multikey),
            method(&name("#atproto"), &did, "Other", &multikey),
            method(&name("#atproto"), &did, "Multikey", "zzzz"),
            method(&name("#atproto"), &did, "Multikey", &right),
            method(&name("#atproto"), &did, "Multikey", &multikey),
        ]);
        changed["service"] = json!([
            7,
            service(&name("#atproto_labeler"), PDS, &other),
            service("atproto_pds", PDS, &other),
            service("did:web:a.test#atproto_pds", PDS, &other),
            service(&name("#atproto_pds"), "AtprotoLabeler", &other),
            service(&name("#atproto_pds"), PDS, "not a URL"),
            service(&name("#atproto_pds"), PDS, &url),
            service(&name("#atproto_pds"), PDS, &other),
        ]);
        set_document(&stage, &account, &changed);
        stage.pass(&[&next_commit(&mut account)]);
        let mut forger = account.clone();
        forger.key = wrong;
        let forged = next_commit(&mut forger);
        stage.drops(&mut account, &forged, Reject::SignatureInvalid);
        let commit = next_commit(&mut account.clone());
        stage.refuse(1, &commit, Reject::WrongHost);
    }
}

/// `publicKeyMultibase` of some bytes.
fn multibase(bytes: &[u8]) -> String {
    format!("z{}", bs58::encode(bytes).into_string())
}

/// Rule 155: <https://atproto.com/specs/did>
#[test]
fn keys_of_both_curves_count_in_every_form_of_theirs() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(5);
    for curve in [Curve::K256, Curve::P256] {
        let key = Arc::new(Key::random(curve, &mut rng));
        let (legacy, prefix) = match curve {
            Curve::K256 => ("EcdsaSecp256k1VerificationKey2019", [0xe7, 0x01]),
            Curve::P256 => ("EcdsaSecp256r1VerificationKey2019", [0x80, 0x24]),
        };
        let (point, multikey) = (multibase(key.compressed()), key.multikey());
        let whole = key.legacy_multibase();
        let long = bs58::decode(&whole[1..]).into_vec().unwrap();
        assert_eq!((key.compressed().len(), long.len()), (33, 65));
        let good = [("Multikey", &multikey), (legacy, &whole), (legacy, &point)];
        for (kind, multibase) in good {
            let mut account = stage.site.account(0);
            account.key = key.clone();
            let mut changed = document(&stage, &account);
            changed["verificationMethod"] =
                json!([method("#atproto", account.did(), kind, multibase)]);
            set_document(&stage, &account, &changed);
            stage.pass(&[&next_commit(&mut account)]);
        }
        // An Ed25519 key, and forms that are none.
        let ed25519 = "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".to_owned();
        let bad = [
            ("Multikey", ed25519.clone()),
            ("Ed25519VerificationKey2020", ed25519),
            ("Multikey", multibase(&[&prefix[..], &long].concat())),
            ("Multikey", point),
            ("Multikey", multikey[1..].to_owned()),
            (legacy, multikey),
            (legacy, multibase(&long[1..])),
        ];
        for (kind, multibase) in bad {
            let mut account = stage.site.account(0);
            account.key = key.clone();
            let mut changed = document(&stage, &account);
            changed["verificationMethod"] =
                json!([method("#atproto", account.did(), kind, &multibase)]);
            set_document(&stage, &account, &changed);
            is_not_heard(&mut stage, &account, Reject::IdentityNoKey);
            becomes_right(&mut stage, &mut account);
        }
    }
}

/// Rule 156: <https://atproto.com/specs/did>
#[test]
fn a_did_web_is_asked_of_its_own_host() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(6);
    let host = stage.site.network.host(0).clone();
    let (port, empty) = (host.port(), stage.site.network.host(1).port());
    let asked = stage.site.network.plc().requests();
    let mut named = |did: &str| Account::with_did(&mut rng, 0, Curve::K256, did);
    let mut account = named(&format!("did:web:localhost%3A{port}"));
    let key = named("did:web:other.test").key;
    host.set_document(&account.document(&host.url()));
    stage.pass(&[&account.identity(), &next_commit(&mut account)]);
    // A new key is found there too, without a word and with one.
    account.key = key.clone();
    host.set_document(&account.document(&host.url()));
    stage.pass(&[&next_commit(&mut account)]);
    account.handle = "new.sim.test".into();
    host.set_document(&account.document(&host.url()));
    stage.pass(&[&account.identity(), &next_commit(&mut account)]);
    let mut forger = account.clone();
    forger.key = stage.bystander.key.clone();
    let forged = next_commit(&mut forger);
    stage.drops(&mut account, &forged, Reject::SignatureInvalid);

    // No such document; the document of another; a path; a port, an address and a name that no
    // account can have.
    for (did, reject) in [
        (
            format!("did:web:localhost%3A{empty}"),
            Reject::IdentityNotFound,
        ),
        (
            format!("did:web:LOCALHOST%3A{port}"),
            Reject::IdentityInvalid,
        ),
        (
            format!("did:web:localhost%3A{port}:path"),
            Reject::DidMethodUnsupported,
        ),
        (
            "did:web:example.com%3A443".into(),
            Reject::DidMethodUnsupported,
        ),
        ("did:web:127.0.0.1".into(), Reject::DidMethodUnsupported),
        ("did:web:pds.internal".into(), Reject::DidMethodUnsupported),
    ] {
        let account = named(&did);
        is_not_heard(&mut stage, &account, reject);
    }
    assert_eq!(stage.site.network.plc().requests(), asked);
}

/// Rule 157: <https://atproto.com/specs/did>
#[test]
fn a_host_is_the_same_in_every_spelling_and_another_with_another_port() {
    let mut stage = Stage::set_up();
    let port = stage.site.network.host(0).port();
    let other = stage.site.network.host(1).port();
    let at = |url: &str| url.replace("PORT", &port.to_string());
    // Name and port make a host; by which scheme it is reached is the operator's business.
    for url in [
        "http://localhost:PORT",
        "http://localhost:PORT/",
        "http://LocalHost:PORT/",
        "HTTP://LOCALHOST:PORT",
        "https://localhost:PORT",
    ] {
        let url = at(url);
        let change = |d: &mut Value| d["service"][0]["serviceEndpoint"] = json!(url);
        let mut account = account_with(&mut stage, change);
        stage.pass(&[&account.identity(), &next_commit(&mut account)]);
    }
    let another = [
        format!("http://localhost:{other}"),
        "http://localhost".into(),
        "https://localhost/".into(),
        at("http://pds.localhost:PORT"),
    ];
    let none = [
        "localhost:PORT",
        "ws://localhost:PORT",
        "ftp://localhost:PORT",
        "http://localhost:PORT/path",
        "http://localhost:PORT//",
        "http://localhost:PORT?query",
        "http://localhost:PORT#fragment",
        "http://user@localhost:PORT",
        "http://127.0.0.1:PORT",
        "",
    ];
    let another = another.map(|url| (url, Reject::WrongHost));
    let none = none.map(|url| (at(url), Reject::IdentityNoHost));
    for (url, reject) in another.into_iter().chain(none) {
        let change = |d: &mut Value| d["service"][0]["serviceEndpoint"] = json!(url);
        let account = account_with(&mut stage, change);
        is_not_heard(&mut stage, &account, reject);
    }
}

/// Rule 158: <https://atproto.com/specs/sync>
#[test]
fn what_waits_for_one_document_costs_one_request() {
    let mut stage = Stage::set_up();
    let network = stage.site.network.clone();
    network.plc().set_faults(PlcFaults {
        delay: Duration::from_millis(300),
        ..PlcFaults::default()
    });
    let mut accounts: Vec<_> = (0..2).map(|_| stage.site.account(0)).collect();
    let mut events = Vec::new();
    for _ in 0..50 {
        events.extend(accounts.iter_mut().map(next_commit));
    }
    stage.pass(&events.iter().collect::<Vec<_>>());
    for account in &accounts {
        assert_eq!(stage.asked_for(account), 1);
    }
    assert!(
        stage
            .relay
            .metric("relay_events_deferred_total{reason=\"identity\"}")
            > 2
    );
}

/// Rule 158: <https://atproto.com/specs/sync>
#[test]
fn the_documents_that_are_kept_are_bounded() {
    const KEPT: u64 = 16;
    let mut site = Site::new(2);
    site.variables
        .push(("RELAY_IDENTITY_CACHE_SIZE", KEPT.to_string()));
    let mut stage = Stage::on(site);
    let mut accounts: Vec<_> = (0..100).map(|_| stage.site.account(0)).collect();
    for _ in 0..3 {
        let events: Vec<_> = accounts.iter_mut().map(next_commit).collect();
        stage.pass(&events.iter().collect::<Vec<_>>());
        assert!(stage.relay.metric("relay_identity_cache_entries") <= KEPT);
    }
    assert!(stage.relay.rejects().is_empty());
    // What is kept no longer was asked for anew.
    assert!(stage.site.network.plc().requests() > 101);
}
