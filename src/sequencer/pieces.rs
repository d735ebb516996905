//! Large events are written before they have their turn, in pieces, each in a batch with what others have said
//! meanwhile: 5 MB in one batch are tens of milliseconds for which everybody waits. One is written at a time.
//! While it is, the later events of its host wait behind it; other large ones wait for the next time.

use super::{
    Sequencer, SequencerError,
    batch::Forming,
    event::{Event, Input},
    published::overridden,
    rules::Verdict,
};
use crate::{
    limits::PIECE_BYTES,
    store::{Batch, Large},
};

/// A large event while it is written.
pub(super) struct Writing {
    event: Box<Event>,
    large: Large,
    /// How much of it is in batches.
    written: usize,
}

impl Writing {
    /// Puts the next piece into a batch; false where there is none. No piece goes over the place of the seq, which
    /// is left out.
    fn put_piece(&mut self, batch: &mut Batch) -> bool {
        let Event { frame, seq_at, .. } = &*self.event;
        if self.written == seq_at.start {
            self.written = seq_at.end;
        }
        let part = if self.written < seq_at.start {
            &frame[self.written..seq_at.start]
        } else {
            &frame[self.written..]
        };
        let Some(piece) = part.chunks(PIECE_BYTES).next() else {
            return false;
        };
        batch.put_piece(&mut self.large, piece);
        self.written += piece.len();
        true
    }
}

impl Sequencer {
    /// Goes on with the large event that is being written: one piece more, or its turn.
    pub(super) fn go_on_writing(&mut self, forming: &mut Forming) -> Result<(), SequencerError> {
        let Some(mut writing) = self.writing.take() else {
            return Ok(());
        };
        if writing.put_piece(&mut forming.batch) {
            self.writing = Some(writing);
            return Ok(());
        }
        let Writing {
            mut event, large, ..
        } = writing;
        self.outbox.turns.come_back();
        event.stored = Some(large);
        let input = Input::Event(event);
        forming.count(&input);
        self.take(input, forming)
    }

    /// Begins to write what is large and will be published as it is, or held, as far as can be seen; gives back what is
    /// to be dealt with at once.
    pub(super) fn begin_writing(
        &mut self,
        input: Input,
        forming: &mut Forming,
    ) -> Result<Option<Input>, SequencerError> {
        let event = match input {
            Input::Event(event) if event.frame.is_large() && self.writing.is_none() => event,
            other => return Ok(Some(other)),
        };
        if !self.may_pass(&event, forming)? {
            return Ok(Some(Input::Event(event)));
        }
        self.outbox.turns.leave(event.host);
        self.writing = Some(Writing {
            event,
            large: self.store.begin_large(),
            written: 0,
        });
        self.go_on_writing(forming)?;
        Ok(None)
    }

    fn may_pass(&mut self, event: &Event, forming: &Forming) -> Result<bool, SequencerError> {
        if self.banned.contains(&event.host) {
            return Ok(false);
        }
        if self.held.holds(&event.did) {
            return Ok(true);
        }
        let known = self.known(&event.did, forming)?;
        Ok(match self.judge(known.as_ref(), event, forming)? {
            Verdict::Forward { change, .. } => {
                let account = change.as_ref().map(|change| &change.account);
                overridden(event, account).is_none()
            }
            Verdict::Reject { ask, .. } => ask && self.may_ask(event, forming.now_ms),
        })
    }
}
