//! Commits that must pass however unusual they are, limits met exactly, and damage that must never
//! pass. Flaws by their reason are the business of `sim::forge`.

mod damage;
mod random;
mod recorded;
mod seeds;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    atproto::{
        cbor::{Writer, tests::NOT_CANONICAL},
        envelope::{Body, Event, Message},
    },
    sim::{
        account::Account,
        clock, event,
        keys::{self, Key},
        repo::{Draft, Sealed, Signing, Write},
        tree::Block,
    },
};

fn now() -> Duration {
    Duration::from_micros(clock::micros())
}

fn parse(frame: &[u8]) -> Event<'_> {
    match Message::parse(frame).unwrap() {
        Message::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

fn key(account: &Account) -> PublicKey {
    PublicKey::from_multikey(&account.key.multikey()).unwrap()
}

/// What the prover says of a frame of `account`, whatever bytes it has.
fn judge(frame: &[u8], account: &Account, lenient: bool) -> Result<Proven, Reject> {
    judge_by(frame, &key(account), now(), lenient)
}

fn judge_by(frame: &[u8], key: &PublicKey, now: Duration, lenient: bool) -> Result<Proven, Reject> {
    let event = match Message::parse(frame) {
        Ok(Message::Event(event)) => event,
        Ok(_) => return Err(Reject::FrameMalformed),
        Err(envelope::FrameError::Malformed) => return Err(Reject::FrameMalformed),
        Err(envelope::FrameError::Schema) => return Err(Reject::SchemaInvalid),
    };
    check_event(&event, now)?;
    let mut workspace = Workspace::new();
    let mut prove = || match &event.body {
        Body::Commit(message) => workspace.prove_commit(frame, event.did, message, key, lenient),
        Body::Sync(message) => workspace.prove_sync(frame, event.did, message, key),
        _ => Err(Reject::SchemaInvalid),
    };
    let proven = prove();
    assert_eq!(prove(), proven, "nothing is left of the event before");
    proven
}

#[track_caller]
fn passes(sealed: &Sealed, account: &Account) -> Proven {
    judge(&sealed.message.event().frame(1), account, false).unwrap()
}

/// An account with a few records.
fn account(rng: &mut fastrand::Rng) -> Account {
    let mut account = Account::random(rng, 0);
    for n in 0..rng.usize(3..40) {
        let post = account.post(&format!("post {n}"));
        account.commit(&[post]);
    }
    account
}

fn draft(account: &mut Account) -> Draft {
    let writes = [account.post("a"), account.post("b")];
    let writes = writes[..1].to_vec();
    account.draft(&writes)
}

/// The CAR file anew, after the blocks have changed.
fn repack(sealed: &mut Sealed, roots: &[Cid]) {
    sealed.message.blocks = event::car(1, roots, &sealed.blocks);
}

#[test]
fn what_is_proven_is_what_the_message_says() {
    let mut rng = fastrand::Rng::with_seed(1);
    for curve in [keys::Curve::K256, keys::Curve::P256] {
        let mut account = Account::with_curve(&mut rng, 0, curve);
        let mut before: Option<Proven> = None;
        for n in 0..30 {
            let post = account.post(&n.to_string());
            let draft = account.draft(&[post]);
            let (rev, data) = (draft.rev, draft.data);
            let sealed = account.seal(draft);
            let proven = passes(&sealed, &account);
            let expected = Proven {
                rev,
                since: before.as_ref().map(|proven| proven.rev),
                commit: sealed.commit.cid,
                data,
                prev_data: before.as_ref().map(|proven| proven.data),
                legacy: false,
                touched: Touched::of(&[("app.bsky.feed.post", Presence::Present)]),
            };
            assert_eq!(proven, expected);
            before = Some(proven);
        }
        let sync = account.sync().unwrap().frame(1);
        let proven = judge(&sync, &account, false).unwrap();
        let before = before.unwrap();
        assert_eq!(
            (proven.rev, proven.commit, proven.data),
            (before.rev, before.commit, before.data)
        );
        assert_eq!((proven.since, proven.prev_data), (None, None));
        assert!(proven.touched.is_empty());
    }
}

#[test]
fn blocks_may_be_in_any_order_repeated_and_unrelated() {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut account = account(&mut rng);
    let draft = draft(&mut account);
    let mut sealed = account.seal(draft);
    let commit = sealed.commit.cid;
    for _ in 0..20 {
        rng.shuffle(&mut sealed.blocks);
        repack(&mut sealed, &[commit]);
        passes(&sealed, &account);
    }
    sealed.blocks.push(sealed.blocks[0].clone());
    sealed.blocks.push(Block::of_cbor(vec![0x80]));
    repack(&mut sealed, &[commit]);
    passes(&sealed, &account);
    // More roots than one, the commit first; and not first.
    repack(&mut sealed, &[commit, Cid::of_cbor(b"x")]);
    passes(&sealed, &account);
    repack(&mut sealed, &[Cid::of_cbor(b"x"), commit]);
    let frame = sealed.message.event().frame(1);
    assert_eq!(judge(&frame, &account, false), Err(Reject::CommitBlock));
}

#[test]
fn empty_commits_need_no_tree() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut account = account(&mut rng);
    let draft = account.draft(&[]);
    let sealed = account.seal(draft);
    assert_eq!(sealed.blocks.len(), 1, "the commit alone");
    let proven = passes(&sealed, &account);
    assert_eq!(proven.prev_data, Some(proven.data));
    // The first one of an account is of an empty tree.
    let mut fresh = Account::random(&mut rng, 0);
    let draft = fresh.draft(&[]);
    let sealed = fresh.seal(draft);
    assert_eq!(passes(&sealed, &fresh).data, mst::empty_root());
}

#[test]
fn a_repository_may_be_emptied_and_filled_again() {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut account = account(&mut rng);
    let paths: Vec<_> = account.repo.tree().keys();
    let deletes: Vec<_> = paths
        .iter()
        .map(|path| Write::Delete(path.to_string()))
        .collect();
    let draft = account.draft(&deletes);
    assert_eq!(draft.data, mst::empty_root());
    let sealed = account.seal(draft);
    passes(&sealed, &account);
    let post = account.post("again");
    let draft = account.draft(&[post]);
    let sealed = account.seal(draft);
    assert_eq!(passes(&sealed, &account).prev_data, Some(mst::empty_root()));
}

#[test]
fn a_record_may_move() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut account = account(&mut rng);
    let Write::Put(from, record) = account.post("moves") else {
        panic!("a post");
    };
    account.commit(&[Write::Put(from.clone(), record.clone())]);
    let to = "com.example.moved/a:b~c_d.e".to_owned();
    let draft = account.draft(&[Write::Delete(from), Write::Put(to, record)]);
    let sealed = account.seal(draft);
    passes(&sealed, &account);
}

#[test]
fn limits_may_be_met() {
    let mut rng = fastrand::Rng::with_seed(6);
    let mut account = account(&mut rng);
    let block = |len: usize| {
        let mut out = Writer::new();
        out.bytes(&vec![7; len - 5]);
        Block::of_cbor(out.into_bytes())
    };
    // A record of exactly the limit; that it need not be CBOR is nobody's business here.
    let large = block(RECORD_BYTES_MAX);
    let writes = [Write::Put("com.example.large/self".into(), large)];
    let draft = account.draft(&writes);
    let mut sealed = account.seal(draft);
    passes(&sealed, &account);
    // Blocks of exactly the limit.
    let fill = COMMIT_BLOCKS_BYTES_MAX - sealed.message.blocks.len() - Cid::LEN - 3;
    sealed.blocks.push(block(fill));
    let commit = sealed.commit.cid;
    repack(&mut sealed, &[commit]);
    assert_eq!(sealed.message.blocks.len(), COMMIT_BLOCKS_BYTES_MAX);
    passes(&sealed, &account);
    let writes: Vec<Write> = (0..COMMIT_OPS_MAX)
        .map(|n| Write::Put(format!("com.example.many/{n}"), block(10 + n)))
        .collect();
    let draft = account.draft(&writes);
    let sealed = account.seal(draft);
    assert_eq!(sealed.message.ops.len(), COMMIT_OPS_MAX);
    passes(&sealed, &account);
}

#[test]
fn revisions_may_be_a_little_ahead() {
    let frame = |ahead: Duration| {
        let rev = Tid::from_micros(clock::micros() + ahead.as_micros() as u64, 0);
        let did: Arc<str> = "did:web:a.b".into();
        event::sync(&did, &rev.to_string(), b"x", clock::micros()).frame(1)
    };
    let check = |frame: &[u8]| check_event(&parse(frame), now());
    assert_eq!(check(&frame(Duration::ZERO)), Ok(()));
    assert_eq!(check(&frame(Duration::from_secs(4 * 60))), Ok(()));
    assert_eq!(
        check(&frame(Duration::from_secs(6 * 60))),
        Err(Reject::RevFuture)
    );
    let did: Arc<str> = "did:web:a.b".into();
    let top = event::sync(&did, "jzzzzzzzzzzzz", b"x", clock::micros()).frame(1);
    assert_eq!(check(&top), Err(Reject::RevFuture));
}

#[test]
fn commits_from_before_sync_1_1_pass_only_where_it_is_allowed() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut account = account(&mut rng);
    let path = account.repo.tree().pick(&mut rng).unwrap().to_string();
    let mut draft = account.draft(&[Write::Delete(path)]);
    draft.prev_data = None;
    draft.ops[0].prev = None;
    let sealed = draft.clone().seal(&Signing::Valid(account.key.clone()));
    let frame = sealed.message.event().frame(1);
    assert_eq!(judge(&frame, &account, false), Err(Reject::NotInductive));
    let proven = judge(&frame, &account, true).unwrap();
    assert!(proven.legacy);
    // The signature counts all the same, and so do the operations where they can be checked.
    let stranger = Arc::new(Key::random(account.key.curve(), &mut rng));
    let sealed = draft.clone().seal(&Signing::Valid(stranger));
    let frame = sealed.message.event().frame(1);
    assert_eq!(judge(&frame, &account, true), Err(Reject::SignatureInvalid));
    draft.ops[0].path = "not a path".into();
    let sealed = draft.seal(&Signing::Valid(account.key.clone()));
    let frame = sealed.message.event().frame(1);
    assert_eq!(judge(&frame, &account, true), Err(Reject::OpInvalid));
    // What can be proven is proven in lenient mode too.
    let mut draft = account.draft(&[account.post("x")]);
    draft.prev_data = Some(Cid::of_cbor(b"wrong"));
    let sealed = draft.seal(&Signing::Valid(account.key.clone()));
    let frame = sealed.message.event().frame(1);
    assert_eq!(judge(&frame, &account, true), Err(Reject::TreeMismatch));
}

#[test]
fn unusual_commit_objects_are_still_commits() {
    let mut rng = fastrand::Rng::with_seed(8);
    let mut account = account(&mut rng);
    let mut draft = draft(&mut account);
    draft.prev = Some(Cid::of_cbor(b"a commit of the old days"));
    let sealed = account.seal(draft);
    passes(&sealed, &account);
}

/// The signed object of a draft with one field more, of which only the encoding matters.
fn sealed_with(draft: &Draft, account: &Account, item: &[u8]) -> Sealed {
    let object = |signature: Option<&[u8]>| {
        let mut out = Writer::new();
        out.map(6 + usize::from(signature.is_some()));
        out.text("did").text(&draft.did);
        out.text("rev").text(&draft.rev.to_string());
        if let Some(signature) = signature {
            out.text("sig").bytes(signature);
        }
        out.text("data").cid(&draft.data).text("prev").null();
        out.text("version").int(3).text("unknownField").raw(item);
        out.into_bytes()
    };
    let signature = account.key.sign(&object(None));
    let commit = Block::of_cbor(object(Some(&signature)));
    let mut sealed = draft.clone().seal(&Signing::Valid(account.key.clone()));
    sealed.blocks.push(commit.clone());
    sealed.message.commit = commit.cid;
    repack(&mut sealed, &[commit.cid]);
    sealed
}

/// Rule 184: <https://dasl.ing/drisl.html>
#[test]
fn a_signature_does_not_excuse_what_is_not_canonical() {
    let mut rng = fastrand::Rng::with_seed(10);
    let mut account = account(&mut rng);
    let draft = draft(&mut account);
    for item in [&[0x00][..], &[0xa1, 0x61, b'k', 0x81, 0xf6]] {
        passes(&sealed_with(&draft, &account, item), &account);
    }
    for (why, hex) in NOT_CANONICAL {
        let item = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        let frame = sealed_with(&draft, &account, &item)
            .message
            .event()
            .frame(1);
        let verdict = judge(&frame, &account, false);
        assert_eq!(verdict, Err(Reject::CommitInvalid), "{why}");
    }
}

/// Records are not looked into: what is wrong inside of one is a matter between its author and its
/// readers.
#[test]
fn records_may_be_anything() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut account = account(&mut rng);
    for (_, hex) in NOT_CANONICAL {
        let item = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        let record = Block::of_cbor(item);
        let draft = account.draft(&[Write::Put("com.example.odd/self".into(), record)]);
        let sealed = account.seal(draft);
        passes(&sealed, &account);
    }
}

#[test]
fn a_sync_may_carry_more_than_its_commit() {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut account = account(&mut rng);
    let draft = account.draft(&[]);
    let (rev, micros) = (draft.rev.to_string(), draft.micros);
    let commit = account.seal(draft).commit;
    let mut blocks = vec![account.repo.tree().root(), commit.clone()];
    let car = |blocks: &[Block]| event::car(1, &[commit.cid], blocks);
    let fill = SYNC_BLOCKS_BYTES_MAX - car(&blocks).len() - Cid::LEN - 2;
    let mut out = Writer::new();
    out.bytes(&vec![7; fill - 3]);
    blocks.push(Block::of_cbor(out.into_bytes()));
    assert_eq!(car(&blocks).len(), SYNC_BLOCKS_BYTES_MAX);
    let sync = event::sync(account.did(), &rev, &car(&blocks), micros).frame(1);
    assert_eq!(judge(&sync, &account, false).unwrap().commit, commit.cid);
}

#[test]
fn a_status_is_a_word_and_not_a_book() {
    let did: Arc<str> = "did:web:a.b".into();
    for (len, verdict) in [
        (ACCOUNT_STATUS_BYTES_MAX, Ok(())),
        (ACCOUNT_STATUS_BYTES_MAX + 1, Err(Reject::SchemaInvalid)),
    ] {
        let frame = event::account(&did, Some(&"x".repeat(len)), clock::micros()).frame(1);
        assert_eq!(check_event(&parse(&frame), now()), verdict);
    }
}

/// The parts of a frame in which every byte is proven.
fn proven_parts(frame: &[u8]) -> Vec<Range<usize>> {
    let event = parse(frame);
    let place = |text: &str| {
        let start = text.as_ptr() as usize - frame.as_ptr() as usize;
        start..start + text.len()
    };
    match &event.body {
        Body::Commit(message) => vec![
            message.blocks.clone(),
            message.ops.clone(),
            place(event.did),
            place(message.rev),
        ],
        Body::Sync(message) => vec![message.blocks.clone(), place(event.did), place(message.rev)],
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Flipping any bit of a node, the commit, a record, an operation, the DID or the revision is
    /// noticed.
    #[test]
    fn any_damage_is_noticed(seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut account = account(rng);
        let path = account.repo.tree().pick(rng).unwrap().to_string();
        let writes = [account.post("new"), Write::Delete(path)];
        let commit = account.commit(&writes).frame(1);
        let sync = account.sync().unwrap().frame(1);
        for frame in [commit, sync] {
            prop_assert!(judge(&frame, &account, false).is_ok());
            for part in proven_parts(&frame) {
                for _ in 0..40 {
                    let mut damaged = frame.to_vec();
                    damaged[rng.usize(part.clone())] ^= 1 << rng.u8(..8);
                    prop_assert!(judge(&damaged, &account, false).is_err());
                }
            }
        }
    }

    /// Whatever happens to a frame, judging it ends, and never with another commit.
    #[test]
    fn damaged_frames_are_survived(seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut account = account(rng);
        let commit = { let post = account.post("new"); account.commit(&[post]) }.frame(1);
        let good = judge(&commit, &account, false).unwrap();
        for lenient in [false, true] {
            let mut damaged = commit.to_vec();
            for _ in 0..8 {
                let at = rng.usize(..damaged.len());
                match rng.u8(..4) {
                    0 => damaged[at] = rng.u8(..),
                    1 => damaged[at] ^= 1 << rng.u8(..8),
                    2 => { damaged.remove(at); }
                    _ => damaged.insert(at, rng.u8(..)),
                }
                if let Ok(proven) = judge(&damaged, &account, lenient) {
                    prop_assert_eq!((proven.rev, proven.commit, proven.data), (good.rev, good.commit, good.data));
                }
            }
        }
    }
}
