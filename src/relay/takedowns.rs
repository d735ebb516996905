//! The operator's word on accounts, as HTTP hands it on.

use std::sync::Arc;

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
        let question = |done| Input::Rule { did, ruling, done };
        let ruled = self.inbox.ask(question, RULING_TIMEOUT);
        ruled.ok_or_else(|| "the sequencer does not answer".to_owned())
    }

    fn list(&self, after: &str, limit: usize) -> Result<Vec<Did>, String> {
        let found = self.store.takedowns_after(after, limit);
        found.map_err(|error| error.to_string())
    }
}
