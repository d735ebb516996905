//! The messages of `com.atproto.sync.subscribeRepos`: two items a frame, header and payload
//! (<https://atproto.com/specs/event-stream>,
//! <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/subscribeRepos.json>).
//!
//! Parsing borrows from the frame and remembers where things are, so that what is forwarded can be
//! spliced out of the original bytes.

use std::{fmt, ops::Range};

use super::{
    cbor::{CborError, Reader, ascends},
    cid::Cid,
    mst::{Op, OpKind, Span},
    seq::Seq,
};
use crate::{limits::COMMIT_OPS_MAX, reject::Reject};

#[cfg(test)]
mod tests;

/// One frame of a stream.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every frame is an event; none is kept"
)]
pub enum Message<'a> {
    /// Something that is sequenced.
    Event(Event<'a>),
    /// `#info`: for the log.
    Info {
        /// Such as `OutdatedCursor`.
        name: &'a str,
        /// For people.
        message: Option<&'a str>,
    },
    /// An error frame; the stream ends with it.
    Error {
        /// Such as `FutureCursor`.
        error: &'a str,
        /// For people.
        message: Option<&'a str>,
    },
    /// An op or a type that is not known: to be ignored.
    Unknown,
}

/// A sequenced message.
#[derive(Debug)]
pub struct Event<'a> {
    /// The account, as the message names it; not checked to be a DID.
    pub did: &'a str,
    /// The upstream seq.
    pub seq: Seq,
    /// When the host says that it happened; not checked to be a datetime.
    pub time: &'a str,
    /// What happened.
    pub body: Body<'a>,
    /// Where things are in the frame.
    pub layout: Layout,
}

/// What happened.
#[derive(Debug)]
pub enum Body<'a> {
    /// The repository has a new revision.
    Commit(Commit<'a>),
    /// The repository is now at this revision, however it came there.
    Sync(Sync<'a>),
    /// The identity may have changed.
    Identity {
        /// The handle that the host believes in.
        handle: Option<&'a str>,
    },
    /// The hosting status.
    Account {
        /// Whether the host serves the account.
        active: bool,
        /// Why not, or a note.
        status: Option<&'a str>,
    },
}

impl Body<'_> {
    /// The type in the header, without `#`.
    pub const fn name(&self) -> &'static str {
        match self {
            Body::Commit(_) => "commit",
            Body::Sync(_) => "sync",
            Body::Identity { .. } => "identity",
            Body::Account { .. } => "account",
        }
    }
}

/// The fields of a `#commit`.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The revision, not checked to be a TID.
    pub rev: &'a str,
    /// The revision before, where the host knows one; not checked to be a TID.
    pub since: Option<&'a str>,
    /// The CID of the signed commit object.
    pub commit: Cid,
    /// The root of the tree before.
    pub prev_data: Option<Cid>,
    /// Where the CAR slice is in the frame.
    pub blocks: Range<usize>,
    /// Where the array of operations is in the frame.
    pub ops: Range<usize>,
    /// Deprecated: operations were left out.
    pub too_big: bool,
    /// Deprecated: history was rewritten.
    pub rebase: bool,
}

/// The fields of a `#sync`.
#[derive(Debug)]
pub struct Sync<'a> {
    /// The revision, not checked to be a TID.
    pub rev: &'a str,
    /// Where the CAR slice is in the frame.
    pub blocks: Range<usize>,
}

/// Where things are in a frame.
#[derive(Debug, Default, Clone)]
pub struct Layout {
    /// The head of the payload's map.
    pub map_head: Range<usize>,
    /// How many pairs the payload has.
    pub pairs: usize,
    /// The value of `seq`.
    pub seq: Range<usize>,
    /// The pair `$type`, where there is one: no message of a stream has one by rights.
    pub type_pair: Option<Range<usize>>,
    /// The pair `handle`, where there is one.
    pub handle: Option<Range<usize>>,
    /// The value of `active`.
    pub active: Range<usize>,
    /// The pair `status`, or the empty place where it belongs.
    pub status: Range<usize>,
    /// For each of [`FILLED`] that is not there: the place where it belongs.
    pub missing: [Option<usize>; FILLED.len()],
}

/// Fields that the lexicon of `#commit` requires and that carry nothing any more: some hosts leave
/// them out. They are filled in with these encoded values.
pub const FILLED: [(&str, &[u8]); 4] = [
    ("blobs", &[0x80]),
    ("since", &[0xf6]),
    ("rebase", &[0xf4]),
    ("tooBig", &[0xf4]),
];

/// Why a frame has no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Not two canonical items: the connection can not be trusted any more.
    Malformed,
    /// A known type with a missing field or one of the wrong type: the event is dropped.
    Schema,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::Malformed => "not two canonical DRISL-CBOR items",
            FrameError::Schema => "a message with a missing or mistyped field",
        })
    }
}

impl std::error::Error for FrameError {}

impl From<CborError> for FrameError {
    fn from(error: CborError) -> FrameError {
        match error {
            CborError::Malformed => FrameError::Malformed,
            CborError::Type => FrameError::Schema,
        }
    }
}

impl<'a> Message<'a> {
    /// Parses a whole frame. Both items are checked to be canonical before anything is believed.
    pub fn parse(frame: &'a [u8]) -> Result<Message<'a>, FrameError> {
        let mut reader = Reader::new(frame);
        let header = Header::parse(&mut reader).map_err(|_| FrameError::Malformed)?;
        let payload = reader.skip().map_err(|_| FrameError::Malformed)?;
        if !reader.is_at_end() {
            return Err(FrameError::Malformed);
        }
        let fields = Fields::parse(frame, payload.start, header.kind());
        match header.kind() {
            Kind::Unknown => Ok(Message::Unknown),
            Kind::Info => {
                let fields = fields?;
                let name = fields.name.ok_or(FrameError::Schema)?;
                Ok(Message::Info {
                    name,
                    message: fields.message,
                })
            }
            Kind::Error => {
                let fields = fields?;
                let error = fields.error.ok_or(FrameError::Schema)?;
                Ok(Message::Error {
                    error,
                    message: fields.message,
                })
            }
            kind => fields?
                .into_event(kind)
                .map(Message::Event)
                .ok_or(FrameError::Schema),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Commit,
    Sync,
    Identity,
    Account,
    Info,
    Error,
    Unknown,
}

struct Header<'a> {
    op: i64,
    t: Option<&'a str>,
}

impl<'a> Header<'a> {
    fn parse(reader: &mut Reader<'a>) -> Result<Header<'a>, CborError> {
        let mut map = reader.map()?;
        let (mut op, mut t) = (None, None);
        while let Some(key) = map.next_key(reader)? {
            match key {
                "op" => op = Some(reader.int()?),
                "t" => t = Some(reader.text()?),
                _ => {
                    reader.skip()?;
                }
            }
        }
        Ok(Header {
            op: op.ok_or(CborError::Type)?,
            t,
        })
    }

    fn kind(&self) -> Kind {
        match (self.op, self.t) {
            (-1, _) => Kind::Error,
            (1, Some("#commit")) => Kind::Commit,
            (1, Some("#sync")) => Kind::Sync,
            (1, Some("#identity")) => Kind::Identity,
            (1, Some("#account")) => Kind::Account,
            (1, Some("#info")) => Kind::Info,
            _ => Kind::Unknown,
        }
    }
}

/// The fields of any payload; which of them must be there depends on the type.
#[derive(Default)]
struct Fields<'a> {
    did: Option<&'a str>,
    repo: Option<&'a str>,
    seq: Option<u64>,
    time: Option<&'a str>,
    rev: Option<&'a str>,
    since: Option<&'a str>,
    commit: Option<Cid>,
    prev_data: Option<Cid>,
    blocks: Option<Range<usize>>,
    ops: Option<Range<usize>>,
    too_big: bool,
    rebase: bool,
    handle: Option<&'a str>,
    active: Option<bool>,
    status: Option<&'a str>,
    name: Option<&'a str>,
    error: Option<&'a str>,
    message: Option<&'a str>,
    layout: Layout,
}

impl<'a> Fields<'a> {
    fn parse(frame: &'a [u8], start: usize, kind: Kind) -> Result<Fields<'a>, FrameError> {
        let mut fields = Fields::default();
        if kind == Kind::Unknown {
            return Ok(fields);
        }
        let mut reader = Reader::new(frame);
        reader.seek(start);
        let mut map = reader.map()?;
        fields.layout.map_head = start..reader.position();
        fields.layout.pairs = map.left();
        let mut status_place = None;
        let mut missing = FILLED.map(|(name, _)| Some((name, None)));
        loop {
            let at = reader.position();
            let Some(key) = map.next_key(&mut reader)? else {
                break;
            };
            for slot in &mut missing {
                match slot {
                    Some((name, _)) if *name == key => *slot = None,
                    Some((name, place @ None)) if ascends(name, key) => *place = Some(at),
                    _ => {}
                }
            }
            if status_place.is_none() && key != "status" && ascends("status", key) {
                status_place = Some(at..at);
            }
            fields.value(kind, key, &mut reader)?;
            match key {
                "$type" => fields.layout.type_pair = Some(at..reader.position()),
                "handle" => fields.layout.handle = Some(at..reader.position()),
                "status" => status_place = Some(at..reader.position()),
                _ => {}
            }
        }
        let end = reader.position();
        fields.layout.status = status_place.unwrap_or(end..end);
        if kind == Kind::Commit {
            fields.layout.missing = missing.map(|slot| slot.map(|(_, at)| at.unwrap_or(end)));
        }
        Ok(fields)
    }

    /// Reads the value of `key` where the type has such a field; skips it otherwise.
    fn value(&mut self, kind: Kind, key: &str, reader: &mut Reader<'a>) -> Result<(), CborError> {
        use Kind::{Account, Commit, Error, Identity, Info, Sync};
        let start = reader.position();
        match (kind, key) {
            (Commit | Sync | Identity | Account, "seq") => {
                self.seq = Some(reader.uint()?);
                self.layout.seq = start..reader.position();
            }
            (Commit | Sync | Identity | Account, "time") => self.time = Some(reader.text()?),
            (Sync | Identity | Account, "did") => self.did = Some(reader.text()?),
            (Commit, "repo") => self.repo = Some(reader.text()?),
            (Commit | Sync, "rev") => self.rev = Some(reader.text()?),
            (Commit | Sync, "blocks") => {
                let len = reader.bytes()?.len();
                self.blocks = Some(reader.position() - len..reader.position());
            }
            (Commit, "since") if !reader.take_null() => self.since = Some(reader.text()?),
            (Commit, "since") => {}
            (Commit, "commit") => self.commit = Some(reader.cid()?),
            (Commit, "prevData") => self.prev_data = Some(reader.cid()?),
            (Commit, "ops") => {
                reader.clone().array()?;
                self.ops = Some(reader.skip()?);
            }
            (Commit, "blobs") => {
                for _ in 0..reader.array()? {
                    reader.link()?;
                }
            }
            (Commit, "tooBig") => self.too_big = reader.bool()?,
            (Commit, "rebase") => self.rebase = reader.bool()?,
            (Identity, "handle") => self.handle = Some(reader.text()?),
            (Account, "active") => {
                self.active = Some(reader.bool()?);
                self.layout.active = start..reader.position();
            }
            (Account, "status") => self.status = Some(reader.text()?),
            (Info, "name") => self.name = Some(reader.text()?),
            (Error, "error") => self.error = Some(reader.text()?),
            (Info | Error, "message") => self.message = Some(reader.text()?),
            _ => {
                reader.skip()?;
            }
        }
        Ok(())
    }

    fn into_event(self, kind: Kind) -> Option<Event<'a>> {
        let body = match kind {
            Kind::Commit => Body::Commit(Commit {
                rev: self.rev?,
                since: self.since,
                commit: self.commit?,
                prev_data: self.prev_data,
                blocks: self.blocks?,
                ops: self.ops?,
                too_big: self.too_big,
                rebase: self.rebase,
            }),
            Kind::Sync => Body::Sync(Sync {
                rev: self.rev?,
                blocks: self.blocks?,
            }),
            Kind::Identity => Body::Identity {
                handle: self.handle,
            },
            _ => Body::Account {
                active: self.active?,
                status: self.status,
            },
        };
        let did = if kind == Kind::Commit {
            self.repo?
        } else {
            self.did?
        };
        Some(Event {
            did,
            seq: Seq::new(self.seq?)?,
            time: self.time?,
            body,
            layout: self.layout,
        })
    }
}

/// How many operations a `#commit` lists.
pub fn count_ops(frame: &[u8], ops: &Range<usize>) -> Result<usize, Reject> {
    let mut reader = Reader::new(frame);
    reader.seek(ops.start);
    reader.array().map_err(|_| Reject::SchemaInvalid)
}

/// Parses the operations of a `#commit` into `out`, in place of what it held. True when some lack
/// the `prev` that an inductive commit needs.
pub fn parse_ops(frame: &[u8], ops: &Range<usize>, out: &mut Vec<Op>) -> Result<bool, Reject> {
    out.clear();
    let mut reader = Reader::new(frame);
    reader.seek(ops.start);
    let count = reader.array().map_err(|_| Reject::SchemaInvalid)?;
    if count > COMMIT_OPS_MAX {
        return Err(Reject::TooManyOps);
    }
    let mut legacy = false;
    for _ in 0..count {
        let op = RawOp::parse(&mut reader).map_err(|_| Reject::SchemaInvalid)?;
        let (op, op_legacy) = op.check()?;
        legacy |= op_legacy;
        out.push(op);
    }
    Ok(legacy)
}

struct RawOp<'a> {
    action: Option<&'a str>,
    path: Option<Range<usize>>,
    /// Outer: whether the field is there. Inner: none for `null`.
    cid: Option<Option<Range<usize>>>,
    prev: Option<Range<usize>>,
}

impl<'a> RawOp<'a> {
    fn parse(reader: &mut Reader<'a>) -> Result<RawOp<'a>, CborError> {
        let mut op = RawOp {
            action: None,
            path: None,
            cid: None,
            prev: None,
        };
        let mut map = reader.map()?;
        while let Some(key) = map.next_key(reader)? {
            match key {
                "action" => op.action = Some(reader.text()?),
                "path" => {
                    let len = reader.text()?.len();
                    op.path = Some(reader.position() - len..reader.position());
                }
                "cid" if reader.take_null() => op.cid = Some(None),
                "cid" => op.cid = Some(Some(link(reader)?)),
                "prev" if reader.take_null() => {}
                "prev" => op.prev = Some(link(reader)?),
                _ => {
                    reader.skip()?;
                }
            }
        }
        Ok(op)
    }

    /// The operation, and whether it lacks `prev`
    /// (<https://atproto.com/specs/sync#repository-operations>).
    fn check(self) -> Result<(Op, bool), Reject> {
        let action = self.action.ok_or(Reject::SchemaInvalid)?;
        let path = Span::from(self.path.ok_or(Reject::SchemaInvalid)?);
        let cid = self.cid.ok_or(Reject::SchemaInvalid)?.map(Span::from);
        let prev = self.prev.map(Span::from);
        let nothing = Span::new(0, 0);
        let kind = match (action, cid, prev) {
            ("create", Some(cid), None) => OpKind::Create { cid },
            ("update", Some(cid), _) => OpKind::Update {
                cid,
                prev: prev.unwrap_or(nothing),
            },
            ("delete", None, _) => OpKind::Delete {
                prev: prev.unwrap_or(nothing),
            },
            _ => return Err(Reject::OpInvalid),
        };
        Ok((Op { path, kind }, action != "create" && prev.is_none()))
    }
}

/// Where the binary CID of a link is.
fn link(reader: &mut Reader<'_>) -> Result<Range<usize>, CborError> {
    let len = reader.link()?.len();
    Ok(reader.position() - len..reader.position())
}
