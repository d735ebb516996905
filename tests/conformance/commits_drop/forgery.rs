//! A valid commit that can be changed in one place. Out of what the account wrote, it is put
//! together anew by an encoder of other authors, so that a mistake of the relay's own can not hide
//! itself; what no such encoder writes is written by hand.

use std::sync::Arc;

use aws_lc_rs::digest;
use ipld_core::{cid::Cid, ipld::Ipld};
use zlay::{
    reject::Reject,
    sim::{
        account::{self, Account},
        clock,
        event::{Event, Kind, Op},
        keys::{Curve, Key},
        repo::{Draft, Signing, Write},
    },
};

use crate::stage::Stage;

/// The header of a `#commit`.
pub(super) const HEADER: &[u8] = b"\xa2\x61t\x67#commit\x62op\x01";
/// The codecs of CIDs.
pub(super) const DAG_CBOR: u8 = 0x71;
pub(super) const RAW: u8 = 0x55;

/// The head of an item in its shortest form.
pub(super) fn head(major: u8, n: usize) -> Vec<u8> {
    let major = major << 5;
    match u32::try_from(n).unwrap().to_be_bytes() {
        [0, 0, 0, n @ ..=23] => vec![major | n],
        [0, 0, 0, n] => vec![major | 24, n],
        [0, 0, m, n] => vec![major | 25, m, n],
        [k, l, m, n] => vec![major | 26, k, l, m, n],
    }
}

/// A canonical item.
pub(super) fn item(value: impl Into<Ipld>) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(&value.into()).unwrap()
}

/// A link to a binary CID.
pub(super) fn link(cid: &[u8]) -> Vec<u8> {
    item(Cid::try_from(cid).unwrap())
}

/// A link, or `null`.
pub(super) fn link_or_null(cid: Option<&[u8]>) -> Vec<u8> {
    cid.map_or_else(null, link)
}

/// `null`.
pub(super) fn null() -> Vec<u8> {
    item(Ipld::Null)
}

/// An array of items.
pub(super) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len()), items.concat()].concat()
}

/// The binary CID of a block.
pub(super) fn cid_of(codec: u8, bytes: &[u8]) -> Vec<u8> {
    let hash = digest::digest(&digest::SHA256, bytes);
    [&[1, codec, 0x12, 0x20], hash.as_ref()].concat()
}

/// The binary CID of a block by another hash function than the protocol's, SHA-512.
pub(super) fn sha512_cid_of(bytes: &[u8]) -> Vec<u8> {
    let hash = digest::digest(&digest::SHA512, bytes);
    [&[1, DAG_CBOR, 0x13, 0x40], hash.as_ref()].concat()
}

/// An unsigned LEB128 number.
pub(super) fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// The pairs of a map, their values encoded.
#[derive(Clone, Debug)]
pub(super) struct Fields(pub(super) Vec<(String, Vec<u8>)>);

impl Fields {
    pub(super) fn of<const N: usize>(pairs: [(&str, Vec<u8>); N]) -> Fields {
        let mut fields = Fields(Vec::new());
        for (key, value) in pairs {
            fields.set(key, value);
        }
        fields
    }

    /// Adds a pair in its place, or replaces it.
    pub(super) fn set(&mut self, key: &str, value: Vec<u8>) {
        self.remove(key);
        let before = |other: &str| (other.len(), other) < (key.len(), key);
        let at = self.0.partition_point(|(other, _)| before(other));
        self.0.insert(at, (key.to_owned(), value));
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.retain(|(other, _)| other != key);
    }

    pub(super) fn get(&self, key: &str) -> &[u8] {
        &self.0.iter().find(|(other, _)| other == key).unwrap().1
    }

    /// The map, in canonical form as long as the values are.
    pub(super) fn encode(&self) -> Vec<u8> {
        [head(5, self.0.len()), self.pairs()].concat()
    }

    /// The pairs one after the other.
    pub(super) fn pairs(&self) -> Vec<u8> {
        let pairs = self.0.iter();
        pairs
            .flat_map(|(key, value)| [item(key.as_str()), value.clone()].concat())
            .collect()
    }
}

/// A block under a CID, which need not be its own.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Block {
    pub(super) cid: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

impl Block {
    pub(super) fn of(codec: u8, bytes: Vec<u8>) -> Block {
        Block {
            cid: cid_of(codec, &bytes),
            bytes,
        }
    }

    /// A block that takes exactly `len` bytes of a CAR file.
    pub(super) fn filler(len: usize) -> Block {
        let overhead = |body: usize| head(2, body).len() + 36;
        let frame = |body: usize| {
            let section = body + overhead(body);
            varint(section as u64).len() + section
        };
        let body = (0..len).rev().find(|body| frame(*body) <= len).unwrap();
        assert_eq!(frame(body), len, "no block has this size");
        Block::of(DAG_CBOR, item(vec![7u8; body]))
    }
}

/// A commit before it is packed: its object and everything around it.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) key: Arc<Key>,
    /// The commit object; `sig` is among it once it is signed.
    pub(super) object: Fields,
    /// The operations.
    pub(super) ops: Vec<Fields>,
    /// The message but for `ops`, `seq`, `commit` and `blocks`.
    pub(super) message: Fields,
    /// Nodes and records.
    pub(super) blocks: Vec<Block>,
    /// How the object becomes bytes, for the signature and for the block.
    pub(super) encode: fn(&Fields) -> Vec<u8>,
}

impl Parts {
    fn of(account: &Account, draft: &Draft) -> Parts {
        let rev = item(draft.rev.to_string());
        let data = link(draft.data.as_bytes());
        let prev = draft.prev.as_ref().map(|cid| &cid.as_bytes()[..]);
        let object = Fields::of([
            ("did", item(&*draft.did)),
            ("rev", rev.clone()),
            ("data", data),
            ("prev", link_or_null(prev)),
            ("version", item(draft.version)),
        ]);
        let since = draft.since.map(|since| item(since.to_string()));
        let mut message = Fields::of([
            ("rev", rev),
            ("repo", item(&*draft.did)),
            ("time", item(clock::datetime(draft.micros))),
            ("blobs", array(&[])),
            ("since", since.unwrap_or_else(null)),
            ("rebase", item(false)),
            ("tooBig", item(false)),
        ]);
        if let Some(root) = draft.prev_data {
            message.set("prevData", link(root.as_bytes()));
        }
        let blocks = draft.blocks.iter().map(|block| Block {
            cid: block.cid.as_bytes().to_vec(),
            bytes: block.bytes.to_vec(),
        });
        Parts {
            key: account.key.clone(),
            object,
            ops: draft.ops.iter().map(op_fields).collect(),
            message,
            blocks: blocks.collect(),
            encode: Fields::encode,
        }
    }

    /// A field of the object and of the message alike.
    pub(super) fn set_both(&mut self, in_object: &str, in_message: &str, value: Vec<u8>) {
        self.object.set(in_object, value.clone());
        self.message.set(in_message, value);
    }

    /// The object without its signature.
    pub(super) fn unsigned(&self) -> Fields {
        let mut object = self.object.clone();
        object.remove("sig");
        object
    }

    /// Signs these bytes, whatever they are.
    pub(super) fn sign(&mut self, bytes: &[u8]) {
        let signature = self.key.sign(bytes);
        self.set_signature(&signature);
    }

    /// The signature of what must be signed.
    pub(super) fn signature(&self) -> [u8; 64] {
        self.key.sign(&(self.encode)(&self.unsigned()))
    }

    pub(super) fn set_signature(&mut self, signature: &[u8]) {
        self.object.set("sig", item(signature));
    }
}

fn op_fields(op: &Op) -> Fields {
    let mut fields = Fields::of([
        ("action", item(op.action.as_str())),
        ("path", item(op.path.as_str())),
        (
            "cid",
            link_or_null(op.cid.as_ref().map(|c| &c.as_bytes()[..])),
        ),
    ]);
    if let Some(prev) = &op.prev {
        fields.set("prev", link(prev.as_bytes()));
    }
    fields
}

/// A CAR file before it is bytes.
pub(super) struct File {
    /// The CID of the commit.
    pub(super) commit: Vec<u8>,
    pub(super) header: Vec<u8>,
    /// Everything, the commit somewhere among it.
    pub(super) blocks: Vec<Block>,
}

impl File {
    /// The header of a file with these roots.
    pub(super) fn header(roots: &[&[u8]]) -> Fields {
        let roots: Vec<_> = roots.iter().map(|root| link(root)).collect();
        Fields::of([("roots", array(&roots)), ("version", item(1))])
    }

    /// Where the commit is among the blocks.
    pub(super) fn commit_at(&self) -> usize {
        let is_commit = |block: &Block| block.cid == self.commit;
        self.blocks.iter().position(is_commit).unwrap()
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        let mut out = varint(self.header.len() as u64);
        out.extend_from_slice(&self.header);
        for Block { cid, bytes } in &self.blocks {
            out.extend(varint((cid.len() + bytes.len()) as u64));
            out.extend_from_slice(cid);
            out.extend_from_slice(bytes);
        }
        out
    }
}

type Change<T> = Box<dyn Fn(&mut T)>;

/// What is changed, and when: everything later is made out of what was changed.
pub(super) enum Spoil {
    /// Nothing.
    Nothing,
    /// What the account wrote.
    Draft(Change<Draft>),
    /// Before the object is signed.
    Parts(Change<Parts>),
    /// After it.
    Signed(Change<Parts>),
    /// The bytes of the commit's block, of which its CID is made.
    Block(Change<Vec<u8>>),
    /// The file.
    File(Change<File>),
    /// The file's bytes.
    Car(Change<Vec<u8>>),
    /// The message.
    Message(Change<Fields>),
}

/// The account's next commit with one change; the account itself does not move on.
pub(super) fn forge(account: &Account, writes: &[Write], spoil: &Spoil) -> Event {
    forge_draft(account, account.clone().draft(writes), spoil)
}

/// The same of a draft.
pub(super) fn forge_draft(account: &Account, mut draft: Draft, spoil: &Spoil) -> Event {
    event(account.did(), &message_of(account, &mut draft, spoil))
}

/// The pairs of a commit's message, `seq` not among them.
pub(super) fn message_of(account: &Account, draft: &mut Draft, spoil: &Spoil) -> Fields {
    if let Spoil::Draft(change) = spoil {
        change(draft);
    }
    let mut parts = Parts::of(account, draft);
    if let Spoil::Parts(change) = spoil {
        change(&mut parts);
    }
    parts.set_signature(&parts.signature());
    if let Spoil::Signed(change) = spoil {
        change(&mut parts);
    }
    let mut block = (parts.encode)(&parts.object);
    if let Spoil::Block(change) = spoil {
        change(&mut block);
    }
    let commit = Block::of(DAG_CBOR, block);
    let mut file = File {
        commit: commit.cid.clone(),
        header: File::header(&[&commit.cid]).encode(),
        blocks: parts.blocks,
    };
    file.blocks.insert(file.blocks.len() / 2, commit);
    if let Spoil::File(change) = spoil {
        change(&mut file);
    }
    let mut car = file.pack();
    if let Spoil::Car(change) = spoil {
        change(&mut car);
    }
    let ops: Vec<_> = parts.ops.iter().map(Fields::encode).collect();
    let mut message = parts.message;
    message.set("ops", array(&ops));
    message.set("commit", link(&file.commit));
    message.set("blocks", item(car));
    if let Spoil::Message(change) = spoil {
        change(&mut message);
    }
    message
}

/// The event of a message, to which `seq` is still to come.
fn event(did: &Arc<str>, message: &Fields) -> Event {
    let (head, tail) = around_seq(HEADER, message);
    Event {
        kind: Kind::Commit,
        did: did.clone(),
        head,
        tail,
    }
}

/// What comes before and after the value of `seq` in the frame of a message.
pub(super) fn around_seq(header: &[u8], message: &Fields) -> (Vec<u8>, Vec<u8>) {
    const SEQ: &str = "seq";
    let mut message = message.clone();
    message.set(SEQ, Vec::new());
    let at = message.0.iter().position(|(key, _)| key == SEQ).unwrap();
    let tail = Fields(message.0.split_off(at + 1));
    let pairs = head(5, message.0.len() + tail.0.len());
    let head = [header, &pairs, &message.pairs()].concat();
    (head, tail.pairs())
}

/// One thing that is wrong, in words, and why it must be dropped.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) spoil: Spoil,
    pub(super) reject: Reject,
}

impl Case {
    pub(super) fn new(name: impl Into<String>, spoil: Spoil, reject: Reject) -> Case {
        Case {
            name: name.into(),
            spoil,
            reject,
        }
    }
}

/// Changes, boxed.
pub(super) fn in_draft(change: impl Fn(&mut Draft) + 'static) -> Spoil {
    Spoil::Draft(Box::new(change))
}

pub(super) fn in_parts(change: impl Fn(&mut Parts) + 'static) -> Spoil {
    Spoil::Parts(Box::new(change))
}

pub(super) fn in_signed(change: impl Fn(&mut Parts) + 'static) -> Spoil {
    Spoil::Signed(Box::new(change))
}

pub(super) fn in_block(change: impl Fn(&mut Vec<u8>) + 'static) -> Spoil {
    Spoil::Block(Box::new(change))
}

pub(super) fn in_file(change: impl Fn(&mut File) + 'static) -> Spoil {
    Spoil::File(Box::new(change))
}

pub(super) fn in_car(change: impl Fn(&mut Vec<u8>) + 'static) -> Spoil {
    Spoil::Car(Box::new(change))
}

pub(super) fn in_message(change: impl Fn(&mut Fields) + 'static) -> Spoil {
    Spoil::Message(Box::new(change))
}

/// A create, an update and a delete, in this order.
pub(super) fn one_of_each(account: &Account) -> Vec<Write> {
    let keys = account.repo.tree().keys();
    let edited = account::record("app.bsky.feed.post", "edited", account.records());
    vec![
        account.post("new"),
        Write::Put(keys[0].to_string(), edited),
        Write::Delete(keys[1].to_string()),
    ]
}

/// An account with some posts that the relay has seen.
pub(super) fn writer(stage: &mut Stage) -> Account {
    let account = stage.site.account(0);
    writes_a_little(stage, account)
}

/// Lets an account write some posts.
pub(super) fn writes_a_little(stage: &mut Stage, mut account: Account) -> Account {
    let posts: Vec<_> = (0..5)
        .map(|_| stage.site.publish_post(&mut account))
        .collect();
    stage.subscriber.expect(&posts.iter().collect::<Vec<_>>());
    account
}

/// The next commit as it is passes; with any of these changes it is dropped, and changes nothing.
pub(super) fn drops_all(stage: &mut Stage, account: &mut Account, cases: &[Case]) {
    let writes = one_of_each(account);
    let draft = account.draft(&writes);
    let unchanged = forge_draft(account, draft.clone(), &Spoil::Nothing);
    check_ourselves(account, draft, &unchanged);
    stage.pass(&[&unchanged]);
    for Case {
        name,
        spoil,
        reject,
    } in cases
    {
        // For whoever reads of a failure.
        println!("{name}");
        let forged = forge(account, &one_of_each(account), spoil);
        stage.drops(account, &forged, *reject);
    }
}

/// What is put together here is what others would: a strict codec reads its bytes and writes the
/// same, and the simulator makes the same of the draft, but for signatures that differ each time.
fn check_ourselves(account: &Account, draft: Draft, unchanged: &Event) {
    let frame = unchanged.frame(9);
    let (header, payload) = frame.split_at(HEADER.len());
    for item in [header, payload] {
        let value: Ipld = serde_ipld_dagcbor::from_slice(item).unwrap();
        assert_eq!(serde_ipld_dagcbor::to_vec(&value).unwrap(), item);
    }
    if account.key.curve() == Curve::K256 {
        let sealed = draft.seal(&Signing::Valid(account.key.clone()));
        assert_eq!(*unchanged, sealed.message.event());
    }
}
