//! The operator's word on accounts, as HTTP hands it on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    atproto::{did::Did, hostname::Hostname},
    control::{Control, ControlError},
    host::{now_ms, table::HostTable},
    http::app::Accounts,
    limits::RULING_TIMEOUT,
    sequencer::{
        Inbox,
        event::{Input, Ruled, Ruling},
    },
    store::{Store, account::Account},
};

/// The control store, which keeps the operator's word on accounts; the sequencer, which takes it; and
/// the event store, which has it.
pub(super) struct AccountsPort {
    pub(super) inbox: Inbox,
    pub(super) store: Arc<Store>,
    pub(super) control: Arc<dyn Control>,
    pub(super) hosts: Arc<HostTable>,
    /// One word after the other: both stores hear the same one last.
    pub(super) ruling: Mutex<()>,
}

impl Accounts for AccountsPort {
    fn rule(&self, did: &Did, ruling: Ruling) -> Result<Ruled, String> {
        let _turn = self.ruling.lock().unwrap_or_else(PoisonError::into_inner);
        if self
            .store
            .account(did)
            .map_err(|e| e.to_string())?
            .is_none()
        {
            return Ok(Ruled::Unknown);
        }
        // Kept before it is in force; a crash in between is made good at the next start.
        let kept: Result<(), ControlError> = match ruling {
            Ruling::Takedown => self.control.take_down(did, now_ms()),
            Ruling::Reversal => self.control.reverse_takedown(did),
        };
        kept.map_err(|error| error.to_string())?;
        let did = did.clone();
        let question = |done| Input::Rule { did, ruling, done };
        let ruled = self.inbox.ask(question, RULING_TIMEOUT);
        ruled.ok_or_else(|| "the sequencer does not answer".to_owned())
    }

    fn takedowns(&self, after: &str, limit: usize) -> Result<Vec<Did>, String> {
        let found = self.store.takedowns_after(after, limit);
        found.map_err(|error| error.to_string())
    }

    fn account(&self, did: &Did) -> Result<Option<(Account, Option<Hostname>)>, String> {
        let account = self.store.account(did).map_err(|e| e.to_string())?;
        Ok(account.map(|account| {
            let host = self.hosts.by_id(account.host);
            (account, host.map(|host| host.row.name))
        }))
    }

    fn collections(&self, ordinal: u64) -> Result<usize, String> {
        let pairs = self.store.account_collections(ordinal);
        pairs.map(|pairs| pairs.len()).map_err(|e| e.to_string())
    }
}
