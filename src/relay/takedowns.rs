//! The operator's word on accounts, as HTTP hands it on.

use std::sync::Arc;

use crossbeam_channel::bounded;

use crate::{
    atproto::did::Did,
    http::app::Takedowns,
    limits::RULING_TIMEOUT,
    sequencer::{
        Inbox,
        event::{Input, Ruled, Ruling},
    },
    store::Store,
};

/// The sequencer, which takes the operator's word on accounts, and the store, which has it.
pub(super) struct TakedownPort {
    pub(super) inbox: Inbox,
    pub(super) store: Arc<Store>,
}

impl Takedowns for TakedownPort {
    fn rule(&self, did: Did, ruling: Ruling) -> Result<Ruled, String> {
        let (done, ruled) = bounded(1);
        self.inbox
            .send(Input::Rule { did, ruling, done })
            .map_err(|_| "the sequencer has ended".to_owned())?;
        ruled
            .recv_timeout(RULING_TIMEOUT)
            .map_err(|error| format!("the sequencer does not answer: {error}"))
    }

    fn list(&self, after: &str, limit: usize) -> Result<Vec<Did>, String> {
        let found = self.store.takedowns_after(after, limit);
        found.map_err(|error| error.to_string())
    }
}
