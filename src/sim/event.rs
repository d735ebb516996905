//! The messages of a stream, and their frames with the sequence number left open
//! (<https://atproto.com/specs/event-stream>).

use std::sync::Arc;

use aws_lc_rs::digest;
use tungstenite::Bytes;

use crate::{
    atproto::{cbor::Writer, cid::Cid},
    sim::{clock, tree::Block},
};

/// What kind of event a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `#commit`.
    Commit,
    /// `#sync`.
    Sync,
    /// `#identity`.
    Identity,
    /// `#account`.
    Account,
}

impl Kind {
    /// The type in the frame's header.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Commit => "#commit",
            Kind::Sync => "#sync",
            Kind::Identity => "#identity",
            Kind::Account => "#account",
        }
    }
}

/// What tells two frames apart, whatever their sequence numbers: the first 16 bytes of the SHA-256
/// of the frame without the value of `seq`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// The digest of the parts of a frame before and after the value of `seq`.
    pub fn of(head: &[u8], tail: &[u8]) -> Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(head);
        context.update(tail);
        let mut first = [0; 16];
        first.copy_from_slice(&context.finish().as_ref()[..16]);
        Digest(u128::from_be_bytes(first))
    }

    /// Half of it.
    pub(super) fn half(self) -> u64 {
        self.0 as u64
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A frame whose sequence number is still open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its kind.
    pub kind: Kind,
    /// The account it is about.
    pub did: Arc<str>,
    /// The frame up to the value of `seq`.
    pub head: Vec<u8>,
    /// The frame after the value of `seq`.
    pub tail: Vec<u8>,
}

impl Event {
    /// The frame with a sequence number.
    pub fn frame(&self, seq: u64) -> Bytes {
        let mut out = Vec::with_capacity(self.head.len() + 9 + self.tail.len());
        out.extend_from_slice(&self.head);
        let mut out = Writer::append_to(out);
        out.uint(seq).raw(&self.tail);
        Bytes::from(out.into_bytes())
    }

    /// The frame's digest, which does not depend on the sequence number.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.head, &self.tail)
    }

    /// An `#identity` with a handle, without it.
    pub fn without_handle(&self) -> Option<Event> {
        const KEY: &[u8] = b"\x66handle";
        let at = self.tail.windows(KEY.len()).position(|w| w == KEY)?;
        if self.kind != Kind::Identity {
            return None;
        }
        let mut event = self.clone();
        // The handle is the last of the payload's pairs, whose number follows the header.
        event.tail.truncate(at);
        event.head[header(self.kind.name()).len()] -= 1;
        Some(event)
    }

    /// The size of the frame without the value of `seq`, in bytes.
    pub fn size(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// The header of a message: `{t, op: 1}`.
pub fn header(t: &str) -> Vec<u8> {
    let mut out = Writer::new();
    out.map(2).text("t").text(t).text("op").int(1);
    out.into_bytes()
}

/// An `#info` frame.
pub fn info(name: &str, message: &str) -> Bytes {
    let mut out = Writer::append_to(header("#info"));
    out.map(2).text("name").text(name);
    out.text("message").text(message);
    Bytes::from(out.into_bytes())
}

/// An error frame.
pub fn error(name: &str, message: &str) -> Bytes {
    let mut out = Writer::new();
    out.map(1).text("op").int(-1);
    out.map(2).text("error").text(name);
    out.text("message").text(message);
    Bytes::from(out.into_bytes())
}

/// What an op does to its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The record is new.
    Create,
    /// The record has another value.
    Update,
    /// The record is gone.
    Delete,
}

impl Action {
    /// The name in the message.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        }
    }
}

/// One change of a commit. Nothing stops an op from contradicting itself: see [`super::forge`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    /// The action, by its name in the message.
    pub action: String,
    /// `collection/rkey`.
    pub path: String,
    /// The record now.
    pub cid: Option<Cid>,
    /// The record before.
    pub prev: Option<Cid>,
}

/// The fields of a `#commit`. `repo`, `rev` and the like are text so that they can be wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitMessage {
    /// The account.
    pub repo: Arc<str>,
    /// The revision.
    pub rev: String,
    /// The revision before.
    pub since: Option<String>,
    /// The commit's CID.
    pub commit: Cid,
    /// The root of the tree before; left out when none.
    pub prev_data: Option<Cid>,
    /// The changes.
    pub ops: Vec<Op>,
    /// Deprecated.
    pub blobs: Vec<Cid>,
    /// A CAR file.
    pub blocks: Vec<u8>,
    /// When, as a datetime.
    pub time: String,
    /// Deprecated.
    pub rebase: bool,
    /// Deprecated.
    pub too_big: bool,
}

impl CommitMessage {
    /// The frame.
    pub fn event(&self) -> Event {
        let mut head = Writer::append_to(header(Kind::Commit.name()));
        head.map(11 + usize::from(self.prev_data.is_some()));
        head.text("ops").array(self.ops.len());
        for op in &self.ops {
            head.map(3 + usize::from(op.prev.is_some()));
            head.text("cid").cid_or_null(op.cid.as_ref());
            head.text("path").text(&op.path);
            if let Some(prev) = &op.prev {
                head.text("prev").cid(prev);
            }
            head.text("action").text(&op.action);
        }
        head.text("rev").text(&self.rev).text("seq");
        let mut tail = Writer::new();
        tail.text("repo").text(&self.repo);
        tail.text("time").text(&self.time);
        tail.text("blobs").array(self.blobs.len());
        self.blobs.iter().for_each(|blob| {
            tail.cid(blob);
        });
        tail.text("since");
        match &self.since {
            Some(since) => tail.text(since),
            None => tail.null(),
        };
        tail.text("blocks").bytes(&self.blocks);
        tail.text("commit").cid(&self.commit);
        tail.text("rebase").bool(self.rebase);
        tail.text("tooBig").bool(self.too_big);
        if let Some(prev_data) = &self.prev_data {
            tail.text("prevData").cid(prev_data);
        }
        Event {
            kind: Kind::Commit,
            did: self.repo.clone(),
            head: head.into_bytes(),
            tail: tail.into_bytes(),
        }
    }
}

/// A `#sync`: the account's repository is now at the commit in `blocks`.
pub fn sync(did: &Arc<str>, rev: &str, blocks: &[u8], micros: u64) -> Event {
    let mut head = Writer::append_to(header(Kind::Sync.name()));
    head.map(5).text("did").text(did);
    head.text("rev").text(rev).text("seq");
    let mut tail = Writer::new();
    tail.text("time").text(&clock::datetime(micros));
    tail.text("blocks").bytes(blocks);
    Event {
        kind: Kind::Sync,
        did: did.clone(),
        head: head.into_bytes(),
        tail: tail.into_bytes(),
    }
}

/// An `#identity`.
pub fn identity(did: &Arc<str>, handle: Option<&str>, micros: u64) -> Event {
    let mut head = Writer::append_to(header(Kind::Identity.name()));
    head.map(3 + usize::from(handle.is_some()));
    head.text("did").text(did).text("seq");
    let mut tail = Writer::new();
    tail.text("time").text(&clock::datetime(micros));
    if let Some(handle) = handle {
        tail.text("handle").text(handle);
    }
    Event {
        kind: Kind::Identity,
        did: did.clone(),
        head: head.into_bytes(),
        tail: tail.into_bytes(),
    }
}

/// An `#account`: active without a status, inactive with one.
pub fn account(did: &Arc<str>, status: Option<&str>, micros: u64) -> Event {
    account_saying(did, status.is_none(), status, micros)
}

/// An `#account` with any combination of `active` and `status`.
pub fn account_saying(did: &Arc<str>, active: bool, status: Option<&str>, micros: u64) -> Event {
    let mut head = Writer::append_to(header(Kind::Account.name()));
    head.map(4 + usize::from(status.is_some()));
    head.text("did").text(did).text("seq");
    let mut tail = Writer::new();
    tail.text("time").text(&clock::datetime(micros));
    tail.text("active").bool(active);
    if let Some(status) = status {
        tail.text("status").text(status);
    }
    Event {
        kind: Kind::Account,
        did: did.clone(),
        head: head.into_bytes(),
        tail: tail.into_bytes(),
    }
}

/// A CAR file (<https://atproto.com/specs/repository#car-file-serialization>).
pub fn car(version: u64, roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut header = Writer::new();
    header.map(2).text("roots").array(roots.len());
    roots.iter().for_each(|root| {
        header.cid(root);
    });
    header.text("version").uint(version);
    let header = header.into_bytes();
    let size: usize = blocks.iter().map(|b| b.bytes.len() + 40).sum();
    let mut out = Vec::with_capacity(header.len() + 2 + size);
    varint(&mut out, header.len() as u64);
    out.extend_from_slice(&header);
    for block in blocks {
        varint(&mut out, (Cid::LEN + block.bytes.len()) as u64);
        out.extend_from_slice(block.cid.as_bytes());
        out.extend_from_slice(&block.bytes);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

    #[test]
    fn frames_are_byte_exact() {
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        let event = identity(&DID.into(), None, 1_767_225_600_000_000);
        assert_eq!(
            hex(&event.frame(1)),
            "a2617469236964656e74697479626f7001a36364696478206469643a706c633a65777669376e787a796f\
             756e367a687872687336346f697a63736571016474696d657818323032362d30312d30315430303a3030\
             3a30302e3030305a"
        );
        assert_eq!(
            hex(&error("FutureCursor", "Cursor in the future.")),
            "a1626f7020a2656572726f726c467574757265437572736f72676d65737361676575437572736f722069\
             6e20746865206675747572652e"
        );
        let message = "Requested cursor exceeded limit. Possibly missing events";
        assert_eq!(
            hex(&info("OutdatedCursor", message)),
            "a261746523696e666f626f7001a2646e616d656e4f75746461746564437572736f72676d657373616765\
             783852657175657374656420637572736f72206578636565646564206c696d69742e20506f737369626c\
             79206d697373696e67206576656e7473"
        );
        let empty = Cid::parse("bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm");
        assert_eq!(
            hex(&car(1, &[empty.unwrap()], &[])),
            "3aa265726f6f747381d82a582500017112209dfefe61dd76ea3dcae5023880b08379d57adf20482d6fdb\
             e2759289f647677b6776657273696f6e01"
        );
    }

    #[test]
    fn the_digest_does_not_see_the_seq() {
        let event = account(&DID.into(), Some("deactivated"), 5);
        let frame = event.frame(1 << 40);
        assert_eq!(frame.len(), event.size() + 9);
        assert_eq!(
            Digest::of(&frame[..event.head.len()], &frame[event.head.len() + 9..]),
            event.digest()
        );
        assert_ne!(event.digest(), account(&DID.into(), None, 5).digest());
    }
}
