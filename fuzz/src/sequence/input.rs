//! What the sequencer is told, in a form that both it and the model can read.

use crossbeam_channel::Sender;

use crate::{
    atproto::{
        cbor::Writer,
        cid::Cid,
        did::Did,
        envelope::Message,
        nsid::Nsid,
        prove::{Presence, Proven, Touched},
        tid::Tid,
    },
    limits::LARGE_EVENT_BYTES,
    sequencer::event::{Claim, Event, Import, Input, Kind, Ruled, Ruling, Upstream},
    store::account::{HostId, Listed, Status},
};

pub(super) const DIDS: usize = 4;
pub(super) const HOSTS: usize = 3;
pub(super) const COLLECTIONS: usize = 3;

/// What one service says of an account: whether it is active, and a word.
pub(super) type Word = (bool, Option<&'static str>);

pub(super) const ACTIVE: Word = (true, None);

/// Words of hosts.
pub(super) const WORDS: [Word; 8] = [
    ACTIVE,
    (false, Some("deactivated")),
    (false, Some("deleted")),
    (false, None),
    (true, Some("desynchronized")),
    (false, Some("takendown")),
    (false, Some("a word of tomorrow")),
    (true, Some("throttled")),
];

/// A commit or a sync that was proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Content {
    pub(super) is_commit: bool,
    pub(super) rev: u64,
    pub(super) since: Option<u64>,
    pub(super) data: u64,
    pub(super) prev: Option<u64>,
    pub(super) legacy: bool,
    /// Collections, and whether there are records of them.
    pub(super) touched: Vec<(usize, bool)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    Content(Content),
    Identity,
    Account(Word),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    /// Of this very event; one that is sent again has the same.
    pub(super) id: u64,
    pub(super) host: usize,
    pub(super) did: usize,
    pub(super) epoch: u32,
    pub(super) seq: u64,
    pub(super) cursor: u64,
    pub(super) authority: Option<u64>,
    pub(super) what: What,
    /// Its frame is too large to be written at once.
    pub(super) is_large: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Event(Said),
    Progress(usize, u32, u64),
    Status(usize, Option<Word>),
    Limit(usize, Option<u64>),
    Ban(usize, bool),
    Restart(usize),
    Reset(usize, Option<u64>),
    Rule(usize, bool),
    Pairs(usize, Vec<usize>),
    Listed {
        host: usize,
        did: usize,
        authority: u64,
        word: Word,
        rev: u64,
    },
}

pub(super) fn did(did: usize) -> Did {
    Did::parse(&format!("did:web:n{did}.test")).expect("a DID")
}

/// The number of a host: they count from 1.
pub(super) fn host_id(host: usize) -> HostId {
    HostId(host as u32 + 1)
}

pub(super) fn collection(collection: usize) -> Nsid {
    Nsid::parse(&format!("com.example.c{collection}")).expect("an NSID")
}

pub(super) fn tid(rev: u64) -> Tid {
    Tid::from_micros(1_700_000_000_000_000 + rev, 0)
}

/// The tree of this number: its digest is the number itself.
pub(super) fn tree(n: u64) -> Cid {
    let mut bytes = [0; Cid::LEN];
    bytes[..4].copy_from_slice(&[1, 0x71, 0x12, 0x20]);
    bytes[Cid::LEN - 8..].copy_from_slice(&n.to_be_bytes());
    Cid::from_bytes(&bytes).expect("a CID")
}

pub(super) fn status((active, reason): Word) -> Status {
    Status {
        active,
        reason: reason.map(Into::into),
    }
}

/// When the event of a number happened: long before anything that the relay says itself.
pub(super) fn time(id: u64) -> String {
    format!("1980-01-01T00:00:00.{id:06}Z")
}

/// The number of the event that happened then.
pub(super) fn id_of(time: &str) -> Option<u64> {
    let id = time.strip_prefix("1980-01-01T00:00:00.")?;
    id.strip_suffix('Z')?.parse().ok()
}

impl Said {
    /// The frame of the event, as its host sent it. Only that of an account is looked into.
    pub(super) fn frame(&self) -> Vec<u8> {
        let (did, time) = (did(self.did), time(self.id));
        let word = match &self.what {
            What::Account(word) => Some(*word),
            _ => None,
        };
        let kind = if word.is_some() {
            "#account"
        } else {
            "#identity"
        };
        let mut out = Writer::new();
        out.map(2).text("t").text(kind).text("op").int(1);
        let reason = word.and_then(|(_, reason)| reason);
        let more = [word.is_some(), reason.is_some(), self.is_large];
        out.map(3 + more.map(usize::from).iter().sum::<usize>());
        out.text("did")
            .text(did.as_str())
            .text("seq")
            .uint(self.seq);
        out.text("time").text(&time);
        if let Some((active, _)) = word {
            out.text("active").bool(active);
        }
        if let Some(reason) = reason {
            out.text("status").text(reason);
        }
        if self.is_large {
            out.text("zfiller").bytes(&[7; LARGE_EVENT_BYTES]);
        }
        out.into_bytes()
    }

    pub(super) fn event(&self) -> Event {
        let frame = self.frame();
        let Ok(Message::Event(parsed)) = Message::parse(&frame) else {
            panic!("no frame: {self:?}");
        };
        let seq_at = parsed.layout.seq.clone();
        let kind = match &self.what {
            What::Identity => Kind::Identity,
            What::Account(word) => Kind::Account(status(*word)),
            What::Content(content) if content.is_commit => Kind::Commit(content.proven()),
            What::Content(content) => Kind::Sync(content.proven()),
        };
        Event {
            host: host_id(self.host),
            upstream: Upstream {
                epoch: self.epoch,
                seq: self.seq,
                cursor: self.cursor,
            },
            did: did(self.did),
            authority_at: self.authority,
            kind,
            happened_ms: None,
            frame: frame.into(),
            seq_at,
            stored: None,
        }
    }
}

impl Content {
    fn proven(&self) -> Proven {
        let names: Vec<Nsid> = self.touched.iter().map(|(c, _)| collection(*c)).collect();
        let shown = names.iter().zip(&self.touched).map(|(name, (_, there))| {
            let presence = if *there {
                Presence::Present
            } else {
                Presence::Gone
            };
            (name.as_str(), presence)
        });
        Proven {
            rev: tid(self.rev),
            since: self.since.map(tid),
            commit: tree(1_000_000 + self.rev),
            data: tree(self.data),
            prev_data: self.prev.map(tree),
            legacy: self.legacy,
            touched: Touched::of(&shown.collect::<Vec<_>>()),
        }
    }
}

impl Told {
    /// The message to the sequencer; who waits for an answer to a ruling is `ruled`.
    pub(super) fn input(&self, ruled: Sender<Ruled>) -> Input {
        match self {
            Told::Event(said) => Input::Event(Box::new(said.event())),
            Told::Progress(host, epoch, cursor) => Input::Progress {
                host: host_id(*host),
                epoch: *epoch,
                cursor: *cursor,
            },
            Told::Status(who, word) => Input::Status {
                did: did(*who),
                status: word.map(status),
            },
            Told::Limit(host, limit) => Input::AccountLimit {
                host: host_id(*host),
                limit: *limit,
            },
            Told::Ban(host, banned) => Input::Ban {
                host: host_id(*host),
                banned: *banned,
            },
            Told::Restart(host) => Input::Restart {
                host: host_id(*host),
                done: crossbeam_channel::bounded(1).0,
            },
            Told::Reset(host, cursor) => Input::Reset {
                host: host_id(*host),
                cursor: *cursor,
                done: crossbeam_channel::bounded(1).0,
            },
            Told::Rule(who, down) => Input::Rule {
                did: did(*who),
                ruling: if *down {
                    Ruling::Takedown
                } else {
                    Ruling::Reversal
                },
                done: ruled,
            },
            Told::Pairs(name, who) => Input::Import {
                import: Import::Collection {
                    name: collection(*name),
                    dids: who.iter().map(|who| did(*who)).collect(),
                },
                done: crossbeam_channel::bounded(1).0,
            },
            Told::Listed {
                host,
                did: who,
                authority,
                word,
                rev,
            } => Input::Import {
                import: Import::Accounts {
                    host: host_id(*host),
                    claims: vec![Claim {
                        did: did(*who),
                        authority_at: *authority,
                        status: status(*word),
                        listed: Listed {
                            rev: tid(*rev),
                            commit: tree(*rev),
                        },
                    }],
                },
                done: crossbeam_channel::bounded(1).0,
            },
        }
    }
}
