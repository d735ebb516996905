//! What becomes of one event, given the identity of its account: proven, refused, or to be judged
//! again by a newer document.

use std::{ops::Range, time::Instant};

use super::Lane;
use crate::{
    atproto::{
        datetime,
        did::Did,
        envelope::{Body, Event as Parsed},
        handle::HandleDigest,
        splice,
    },
    identity::{Identity, Outcome},
    metrics::micros,
    reject::Reject,
    sequencer::event::{Kind, Payload},
    store::account::Status,
    threads,
};

/// A proven event, but for its place in the stream.
pub(super) struct Ready {
    pub(super) kind: Kind,
    pub(super) authority_at: Option<u64>,
    pub(super) happened_ms: Option<u64>,
    pub(super) frame: Payload,
    pub(super) seq_at: Range<usize>,
}

/// What to do with an event, given the identity.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once or twice, and nearly always the large one"
)]
pub(super) enum Next {
    Send(Ready),
    Reject(Reject),
    /// Rejected by this identity; a newer one may say otherwise.
    Refresh(Reject),
}

impl Lane {
    /// Decides on an event with what the directory says. This is where a stranger's bytes are
    /// looked into most, and on a resolver's thread a panic would end the process: a fault in it
    /// costs the event, loudly, and nothing else.
    pub(super) fn judge(
        &self,
        event: &Parsed<'_>,
        did: &Did,
        frame: &[u8],
        outcome: &Outcome,
    ) -> Next {
        let judged = threads::survive(|| self.decide(event, did, frame, outcome));
        judged.unwrap_or_else(|| {
            log::error!(
                host:% = self.name, did:% = did, bytes = frame.len();
                "judging an event has panicked: a fault of this relay; the event is rejected"
            );
            Next::Reject(Reject::Internal)
        })
    }

    fn decide(&self, event: &Parsed<'_>, did: &Did, frame: &[u8], outcome: &Outcome) -> Next {
        if let Body::Identity { handle } = event.body {
            return Next::Send(self.ready_identity(event, frame, handle, outcome));
        }
        let identity = match outcome {
            Outcome::Found(identity) => identity,
            Outcome::Missing(missing) => return Next::Reject(missing.reject()),
            Outcome::Unreachable => return Next::Reject(Reject::IdentityUnresolved),
        };
        match &identity.host {
            None => return Next::Refresh(Reject::IdentityNoHost),
            Some(host) if *host != self.name => return Next::Refresh(Reject::WrongHost),
            Some(_) => {}
        }
        match self.prove(event, did, frame, identity) {
            Ok(ready) => Next::Send(ready),
            Err(reject @ (Reject::SignatureInvalid | Reject::IdentityNoKey)) => {
                Next::Refresh(reject)
            }
            Err(reject) => Next::Reject(reject),
        }
    }

    /// An identity event passes from any host; its handle only from the account's own, and only
    /// where the document claims it too (<https://atproto.com/specs/sync#identity-events>).
    fn ready_identity(
        &self,
        event: &Parsed<'_>,
        frame: &[u8],
        handle: Option<&str>,
        outcome: &Outcome,
    ) -> Ready {
        let identity = match outcome {
            Outcome::Found(identity) if identity.host.as_ref() == Some(&self.name) => {
                Some(identity)
            }
            _ => None,
        };
        let claimed = identity.and_then(|identity| identity.handle);
        let agrees = match (handle, claimed) {
            (None, _) => true,
            (Some(handle), Some(claimed)) => HandleDigest::of(handle) == claimed,
            (Some(_), None) => false,
        };
        let spliced = if agrees {
            None
        } else {
            splice::drop_handle(frame, &event.layout)
        };
        Ready::new(
            Kind::Identity,
            identity.map(|i| i.resolved_at),
            event,
            frame,
            spliced,
        )
    }

    /// Reading the clock twice costs a thousandth of a proof.
    fn time_proof(&self) -> Timing<'_> {
        Timing(self, Instant::now())
    }

    /// Proves an event of an account that this host speaks for.
    fn prove(
        &self,
        event: &Parsed<'_>,
        did: &Did,
        frame: &[u8],
        identity: &Identity,
    ) -> Result<Ready, Reject> {
        let key = identity.key.as_ref().ok_or(Reject::IdentityNoKey);
        let mut spliced = None;
        let kind = match &event.body {
            Body::Commit(message) => {
                let _timing = self.time_proof();
                let mut workspace = self.shared.workspaces.borrow();
                let (did, lenient) = (did.as_str(), self.terms.lenient());
                let proven = workspace.prove_commit(frame, did, message, key?, lenient)?;
                spliced = splice::fill_commit(frame, &event.layout);
                Kind::Commit(proven)
            }
            Body::Sync(message) => {
                let _timing = self.time_proof();
                let mut workspace = self.shared.workspaces.borrow();
                Kind::Sync(workspace.prove_sync(frame, did.as_str(), message, key?)?)
            }
            Body::Account { active, status } => Kind::Account(Status {
                active: *active,
                reason: status.map(Into::into),
            }),
            Body::Identity { .. } => Kind::Identity,
        };
        Ok(Ready::new(
            kind,
            Some(identity.resolved_at),
            event,
            frame,
            spliced,
        ))
    }
}

/// Counts how long a proof took, when it is dropped.
struct Timing<'a>(&'a Lane, Instant);

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        let took = micros(self.1.elapsed());
        self.0.shared.metrics.verify_duration.observe(took);
    }
}

impl Ready {
    fn new(
        kind: Kind,
        authority_at: Option<u64>,
        event: &Parsed<'_>,
        frame: &[u8],
        spliced: Option<splice::Spliced>,
    ) -> Ready {
        let plain = || splice::plain(frame, &event.layout, event.body.name());
        let spliced = spliced.or_else(plain);
        let (frame, seq_at) = match spliced {
            Some(spliced) => (spliced.frame.into(), spliced.seq),
            None => (frame.into(), event.layout.seq.clone()),
        };
        Ready {
            kind,
            authority_at,
            happened_ms: datetime::to_millis(event.time),
            frame,
            seq_at,
        }
    }
}
