//! The places that a host has for accounts: who has one, and who is let in when there is room.
//!
//! An account without a place is throttled and waits in the store, in the order of first appearance. Where
//! a host may have got room, accounts that wait there are let in at the beginning of the next batch, a
//! bounded number at once, while events are taken in as ever. Nothing has to be remembered for it over
//! an end of the process: at the start the limit of every host is said anew, and each time it is said
//! who waits is looked at.
//!
//! An account that is in no such list is let in by its next event all the same, as everybody is who says
//! something while there is room.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    Forming, Sequencer, SequencerError,
    status::{self, Cause},
};
use crate::{
    atproto::did::Did,
    limits::BATCH_LET_IN_MAX,
    logging::HostName,
    store::{
        StoreError,
        account::{Account, HostId},
    },
};

/// How many accounts hosts may have, and which of them may have got room.
#[derive(Default, Debug)]
pub(super) struct Rooms {
    /// How many accounts a host may have; a host that is not here has no limit.
    limits: HashMap<HostId, u64>,
    /// Hosts where somebody may be let in, each once, in turn.
    turns: VecDeque<HostId>,
    queued: HashSet<HostId>,
}

impl Rooms {
    /// A host may have so many accounts from now on.
    pub(super) fn set_limit(&mut self, host: HostId, limit: Option<u64>) {
        match limit {
            Some(limit) => self.limits.insert(host, limit),
            None => self.limits.remove(&host),
        };
        self.queue(host);
    }

    /// Whether somebody may have to be let in.
    pub(super) fn has_work(&self) -> bool {
        !self.turns.is_empty()
    }

    /// An account has left its place. Where there is no limit nobody waits, or is let in already.
    fn freed(&mut self, host: HostId) {
        if self.limits.contains_key(&host) {
            self.queue(host);
        }
    }

    fn queue(&mut self, host: HostId) {
        if self.queued.insert(host) {
            self.turns.push_back(host);
        }
    }

    fn next(&mut self) -> Option<HostId> {
        let host = self.turns.pop_front()?;
        self.queued.remove(&host);
        Some(host)
    }
}

impl Sequencer {
    /// Whether a host may have one more account.
    pub(super) fn has_room(&self, host: HostId, forming: &Forming) -> bool {
        self.room(host, forming) > 0
    }

    /// How many more accounts a host may have.
    fn room(&self, host: HostId, forming: &Forming) -> u64 {
        let Some(limit) = self.rooms.limits.get(&host) else {
            return u64::MAX;
        };
        let record = forming.hosts.get(&host).or_else(|| self.hosts.get(&host));
        limit.saturating_sub(record.map_or(0, |record| record.accounts))
    }

    /// Lets in who waits at the hosts that may have got room, oldest first. To be called while
    /// nothing else is in the batch: the store then has who waits.
    pub(super) fn let_in(&mut self, forming: &mut Forming) -> Result<(), SequencerError> {
        let mut left = BATCH_LET_IN_MAX;
        while left > 0
            && !forming.index.is_full()
            && let Some(host) = self.rooms.next()
        {
            let room = self.room(host, forming);
            let most = usize::try_from(room).unwrap_or(usize::MAX).min(left);
            if most == 0 {
                continue;
            }
            let waiting = self.store.throttled(host, most)?;
            // To look whether anybody waits costs something too.
            left = left.saturating_sub(waiting.len().max(1));
            let is_all = waiting.len() < most;
            let mut count = 0;
            for (ordinal, did) in waiting {
                count += u64::from(self.let_in_one(host, ordinal, &did, forming)?);
            }
            if count > 0 {
                log::info!(host:% = HostName(host), accounts = count; "accounts are no longer throttled: the host has room");
            }
            if !is_all && self.has_room(host, forming) {
                self.rooms.queue(host);
            }
        }
        Ok(())
    }

    /// Lets in an account that waits at a host; false where it does not wait there any more.
    fn let_in_one(
        &mut self,
        host: HostId,
        ordinal: u64,
        did: &Did,
        forming: &mut Forming,
    ) -> Result<bool, SequencerError> {
        let known = self.known(did, forming)?;
        let place = Some((host, ordinal));
        let Some(known) = known.filter(|known| waits_at(known) == place) else {
            forming.batch.put_throttled(host, ordinal, did, false);
            return Ok(false);
        };
        let mut account = known.clone();
        if status::apply(&mut account, Cause::Room) {
            self.announce(did, &account, forming)?;
        }
        self.keep_account(did, Some(&known), account, forming)?;
        Ok(true)
    }

    /// Notes an account's new state, and all that is counted or listed by it.
    pub(super) fn keep_account(
        &mut self,
        did: &Did,
        known: Option<&Account>,
        account: Account,
        forming: &mut Forming,
    ) -> Result<(), StoreError> {
        if let Some(known) = known {
            self.index_account(did, known, &account, forming)?;
        } else {
            self.counters.next_ordinal += 1;
            self.counters.accounts += 1;
        }
        let place = |account: &Account| account.is_live().then_some(account.host);
        let (before, after) = (known.and_then(place), place(&account));
        if before != after {
            if let Some(host) = before {
                let record = self.host(forming, host);
                record.accounts = record.accounts.saturating_sub(1);
                self.rooms.freed(host);
            }
            if let Some(host) = after {
                self.host(forming, host).accounts += 1;
            }
        }
        let (before, after) = (known.and_then(waits_at), waits_at(&account));
        if before != after {
            if let Some((host, ordinal)) = before {
                forming.batch.put_throttled(host, ordinal, did, false);
            }
            if let Some((host, ordinal)) = after {
                forming.batch.put_throttled(host, ordinal, did, true);
            }
        }
        forming.accounts.insert(did.clone(), account);
        Ok(())
    }
}

/// Where an account waits for a place, and as which.
fn waits_at(account: &Account) -> Option<(HostId, u64)> {
    let place = (account.host, account.ordinal);
    account.waits().then_some(place)
}
