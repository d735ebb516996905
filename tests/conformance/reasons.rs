//! The reasons that no single forged event can cause: they need a state of the host, of the account
//! or of the directory. And that, with the forgeries, no reason is without a test.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use zlay::{
    reject::Reject,
    sim::{
        account::Account,
        clock, event,
        feed::Once,
        forge::{self, Flaw},
        repo::Signing,
    },
};

use crate::{
    site::{next_commit, wait_until},
    stage::Stage,
};

/// Makes the relay refuse something for one reason, and shows that all goes on.
type Show = fn(&mut Stage);

/// One way at least to cause each reason.
const CASES: &[(Reject, Show)] = &[
    (Reject::FrameMalformed, broken_messages),
    (Reject::SeqNotIncreasing, a_seq_twice),
    (Reject::IdentityNotFound, nobody_knows_the_account),
    (Reject::IdentityInvalid, the_document_is_none),
    (Reject::IdentityNoKey, no_key_in_the_document),
    (Reject::IdentityNoHost, no_host_in_the_document),
    (Reject::WrongHost, another_host_speaks),
    (Reject::AccountInactive, a_commit_while_inactive),
    (Reject::Duplicate, a_replay_with_what_is_known),
];

/// What takes more than a minute, and so runs by itself.
const SLOW: (Reject, Show) = (Reject::IdentityUnresolved, a_web_host_that_fails);

/// Reasons without a test here, and why.
const EXCEPTIONS: &[(Reject, &str)] = &[
    (
        Reject::AccountLimit,
        "it takes a relay with another limit than that of these tests: see the cases of accounts",
    ),
    (
        Reject::Internal,
        "a fault of the relay's own, which no host is known to cause",
    ),
];

fn broken_messages(stage: &mut Stage) {
    let mut account = stage.known_account();
    let mut rng = fastrand::Rng::with_seed(1);
    let host = stage.site.network.host(0).clone();
    for n in 0..6 {
        let (before, connections) = (stage.refused(Reject::FrameMalformed), host.connections());
        let event = next_commit(&mut account.clone());
        host.inject(match n {
            0 => forge::oversized(),
            1 => Once::Text("text".into()),
            _ => forge::broken(&event, host.seq() + 1, &mut rng),
        });
        let next = next_commit(&mut account);
        stage.pass(&[&next]);
        assert_eq!(stage.refused(Reject::FrameMalformed), before + 1);
        assert_eq!(host.connections(), connections + 1, "the host was dropped");
    }
}

fn a_seq_twice(stage: &mut Stage) {
    let mut account = stage.known_account();
    let host = stage.site.network.host(0).clone();
    let repeated = next_commit(&mut account.clone());
    host.emit_at(&repeated, host.seq());
    let before = host.seq() - 1;
    host.emit_at(&repeated, before);
    stage.pass(&[&next_commit(&mut account)]);
    assert_eq!(stage.refused(Reject::SeqNotIncreasing), 2);
}

fn nobody_knows_the_account(stage: &mut Stage) {
    let mut account = stage.site.stranger(0);
    let early = next_commit(&mut account);
    stage.refuse(0, &early, Reject::IdentityNotFound);
    becomes_known(stage, account);
}

fn the_document_is_none(stage: &mut Stage) {
    let mut account = stage.site.stranger(0);
    for document in [
        "[]".to_owned(),
        stage.bystander.document("http://localhost"),
    ] {
        stage.site.network.plc().set(account.did(), &document);
        // An identity event makes the relay look again, and needs no document itself.
        let identity = zlay::sim::event::identity(account.did(), None, 1_700_000_000_000_000);
        let early = next_commit(&mut account);
        stage.pass(&[&identity]);
        stage.refuse(0, &early, Reject::IdentityInvalid);
    }
    becomes_known(stage, account);
}

fn no_key_in_the_document(stage: &mut Stage) {
    without(stage, "verificationMethod", Reject::IdentityNoKey);
}

fn no_host_in_the_document(stage: &mut Stage) {
    without(stage, "service", Reject::IdentityNoHost);
}

fn without(stage: &mut Stage, field: &str, reject: Reject) {
    let mut account = stage.site.stranger(0);
    let document = account.document(&stage.site.network.host(0).url());
    let mut document: Value = serde_json::from_str(&document).unwrap();
    document[field] = json!([]);
    let network = &stage.site.network;
    network.plc().set(account.did(), &document.to_string());
    let early = next_commit(&mut account);
    stage.refuse(0, &early, reject);
    becomes_known(stage, account);
}

/// The directory is right now, an identity event says so, and the account is heard.
fn becomes_known(stage: &mut Stage, mut account: Account) {
    stage.site.network.register(&account);
    let (identity, commit) = (account.identity(), next_commit(&mut account));
    stage.pass(&[&identity, &commit]);
}

fn another_host_speaks(stage: &mut Stage) {
    let mut account = stage.known_account();
    let commit = next_commit(&mut account.clone());
    stage.refuse(1, &commit, Reject::WrongHost);
    account.status = Some("deleted");
    stage.refuse(1, &account.account(), Reject::WrongHost);
    account.status = None;
    stage.pass(&[&next_commit(&mut account)]);
}

fn a_commit_while_inactive(stage: &mut Stage) {
    let mut account = stage.known_account();
    for status in ["deactivated", "takendown", "suspended"] {
        account.status = Some(status);
        // The host says the same when it is asked.
        stage.site.network.register(&account);
        stage.pass(&[&account.account()]);
        let commit = next_commit(&mut account.clone());
        stage.refuse(0, &commit, Reject::AccountInactive);
        account.status = None;
        stage.site.network.register(&account);
        let (active, commit) = (account.account(), next_commit(&mut account));
        stage.pass(&[&active, &commit]);
    }
}

fn a_replay_with_what_is_known(stage: &mut Stage) {
    let mut account = stage.known_account();
    comes_again(stage, 0);
    stage.pass(&[&next_commit(&mut account)]);
    // Anybody may say that an identity has changed, which leaves no trace in the account.
    let identity = event::identity(account.did(), None, clock::micros());
    stage.pass_from(1, &[&identity]);
    comes_again(stage, 1);
    stage.sentinel();
}

/// The host is cut off, and sends the event of the cursor once more.
fn comes_again(stage: &Stage, host: usize) {
    let before = stage.refused(Reject::Duplicate);
    let host = stage.site.network.host(host);
    host.set_inclusive(true);
    host.inject(Once::Cut);
    wait_until("the event of the cursor comes again", || {
        stage.refused(Reject::Duplicate) == before + 1
    });
    host.set_inclusive(false);
}

/// The host of a `did:web`, which closes every connection until it is told to answer.
struct WebHost {
    port: u16,
    answers: Arc<AtomicBool>,
}

impl WebHost {
    /// A host whose document will be what `document` says of its DID.
    fn start(document: impl FnOnce(&str) -> String) -> WebHost {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = WebHost {
            port,
            answers: Arc::default(),
        };
        let (answers, document) = (host.answers.clone(), document(&host.did()));
        // It ends with the process: nothing waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if answers.load(Ordering::Relaxed) {
                    answer(stream, &document);
                }
            }
        });
        host
    }

    fn did(&self) -> String {
        format!("did:web:localhost%3A{}", self.port)
    }
}

fn answer(mut stream: TcpStream, body: &str) {
    let mut head = [0; 4096];
    let len = stream.read(&mut head).unwrap();
    assert!(head[..len].starts_with(b"GET /.well-known/did.json HTTP/1.1\r\n"));
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
}

fn a_web_host_that_fails(stage: &mut Stage) {
    let mut account = stage.site.stranger(0);
    let url = stage.site.network.host(0).url();
    let document = account.document(&url);
    let web = WebHost::start(|did| document.replace(&**account.did(), did));
    let did: Arc<str> = web.did().into();
    let post = account.post("hello");
    let mut draft = account.draft(&[post]);
    draft.did = did.clone();
    let signing = Signing::Valid(account.key.clone());
    let early = draft.seal(&signing).message.event();
    let reject = Reject::IdentityUnresolved;
    stage.site.network.publish_invalid(0, &early, reject);
    // Others of the same host do not wait.
    stage.sentinel();
    assert_eq!(stage.refused(reject), 0, "it waits");
    let deadline = Instant::now() + Duration::from_secs(240);
    while stage.refused(reject) == 0 {
        assert!(Instant::now() < deadline, "it waits for ever");
        std::thread::sleep(Duration::from_millis(200));
    }
    stage.sentinel();
    // An identity event makes the relay look again; the same event is welcome then.
    web.answers.store(true, Ordering::Relaxed);
    let identity = event::identity(&did, None, clock::micros());
    stage.pass(&[&identity, &early]);
}

/// Text, garbage and oversized messages; a `seq` twice; no document, a document of another account,
/// one without a key or a host; another host's word; an account that is not active; a replay.
///
/// Rules 44, 45, 46, 47, 135, 137, 138, 146, 150, 151, 153, 196: <https://atproto.com/specs/sync>
#[test]
fn what_depends_on_state_is_refused_for_its_reason_and_changes_nothing() {
    CASES.iter().for_each(show);
}

/// The account's events wait for a minute, those of others do not; so this takes a minute too.
///
/// Rules 156, 196: <https://atproto.com/specs/did>
#[test]
fn what_takes_a_minute_is_refused_for_its_reason_and_changes_nothing() {
    show(&SLOW);
}

fn show((reject, show): &(Reject, Show)) {
    let mut stage = Stage::set_up();
    show(&mut stage);
    let rejects = stage.relay.rejects();
    let reasons: Vec<_> = rejects.keys().collect();
    assert_eq!(reasons, [reject.name()], "nothing else was refused");
    // The bystander's last word: what was not to come has not come before it.
    stage.sentinel();
}

/// Rule 196: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn every_reason_has_a_test_or_says_why_not() {
    let forged: BTreeSet<_> = Flaw::ALL.iter().map(|flaw| flaw.reject().name()).collect();
    let shown = CASES.iter().chain([&SLOW]);
    let shown: BTreeSet<_> = shown.map(|(reject, _)| reject.name()).collect();
    let excepted: BTreeSet<_> = EXCEPTIONS.iter().map(|(reject, _)| reject.name()).collect();
    let tested = &forged | &shown;
    assert!(tested.is_disjoint(&excepted), "{excepted:?}");
    let all: BTreeSet<_> = Reject::ALL.iter().map(|reject| reject.name()).collect();
    assert_eq!(&tested | &excepted, all);
}
