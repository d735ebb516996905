//! What the event store and the control store say of each other at the start: whether they belong
//! together, and what one of them can tell the other that has lost it.

use std::{collections::BTreeSet, time::Duration};

use super::StartError;
use crate::{
    atproto::did::{Did, Method},
    control::{Control, Mirror, Takedown, keeper::seq_beyond, settings::Setting},
    host::{now_ms, policy::Policy},
    limits::{IDENTITY_WITNESSES_SOUGHT, RULING_TIMEOUT, TAKEDOWNS_PAGE_MAX},
    sequencer::{
        Inbox,
        event::{Input, Ruling},
    },
    store::{
        Store, StoreError,
        account::{Account, HostRecord},
    },
};

/// Accounts that the directory has known: the latest of them, the very last one last.
pub(super) fn witnesses(store: &Store) -> Result<Vec<Did>, StoreError> {
    let newest = store.counters().next_ordinal.saturating_sub(1);
    let after = newest.saturating_sub(IDENTITY_WITNESSES_SOUGHT as u64);
    let mut proven = Vec::new();
    for entry in store.accounts_after(after, IDENTITY_WITNESSES_SOUGHT)? {
        let is_proven = |account: Account| account.authority_at > 0 && account.upstream.active;
        if entry.did.method() == Method::Plc && store.account(&entry.did)?.is_some_and(is_proven) {
            proven.push(entry.did);
        }
    }
    Ok(proven)
}

/// Makes the stores agree; when the relay was last at work, in milliseconds since 1970, if it ever
/// was. An error is one that the operator must see to.
pub(super) fn agree(control: &dyn Control, store: &Store) -> Result<Option<u64>, StartError> {
    let mirror = control.mirrored()?;
    match store.control_id()? {
        Some(id) if id != control.id() && !store.is_fresh() => {
            return Err("the events in RELAY_DATA_DIR belong to another control store: the numbers of \
                        hosts would be mixed up. Copy that one with `zlay control copy`, or give the \
                        relay an empty data directory"
                .into());
        }
        Some(id) if id == control.id() => {}
        _ => {
            if store.is_fresh() {
                if mirror.seq > 0 {
                    log::warn!(
                        "the data directory is new and the control store is not: hosts, cursors \
                         and takedowns come from there; what was published can not be replayed"
                    );
                }
                let record = |cursor: &crate::control::Cursor| HostRecord {
                    cursor: cursor.seq,
                    epoch: cursor.epoch,
                    accounts: 0,
                };
                let cursors = mirror.cursors.iter();
                let hosts: Vec<_> = cursors.map(|(id, cursor)| (*id, record(cursor))).collect();
                let down = control.takedowns()?.into_iter();
                let down: Vec<_> = down.map(|t| (t.did, t.since_ms)).collect();
                store.seed(&hosts, &down)?;
            }
            store.set_control_id(control.id())?;
        }
    }
    if store.last_seq() < mirror.seq {
        let floor = seq_beyond(&mirror, now_ms());
        log::warn!(
            seq = store.last_seq(), given_before = mirror.seq, goes_on_after = floor;
            "the event store has lost the last events: the seq jumps ahead"
        );
        store.raise_seq(floor)?;
        // So that it holds if everything is lost once more before the next time it is mirrored.
        control.mirror(&Mirror {
            seq: floor,
            at_ms: now_ms(),
            cursors: Vec::new(),
        })?;
    }
    Ok((mirror.at_ms > 0).then_some(mirror.at_ms))
}

/// Why hosts are not asked for what the relay has missed, if it was off for too long.
pub(super) fn too_long(missed_ms: Option<u64>, policy: &Policy, now_ms: u64) -> Option<String> {
    let off = Duration::from_millis(now_ms.saturating_sub(missed_ms?));
    let hours = policy.number(Setting::CatchUpHours);
    let hours_off = off.as_secs() / 3_600;
    (off > Duration::from_secs(hours.saturating_mul(3_600))).then(|| {
        format!("the relay was off for {hours_off} hours, which is over catch_up_hours ({hours})")
    })
}

/// Takedowns that only one of the stores knows of: the control store has heard of a takedown that a
/// crash has kept from the event store, and the event store has those that were made before the
/// control store kept any. In doubt an account is down.
pub(super) fn rule(control: &dyn Control, store: &Store, inbox: &Inbox) -> Result<(), StartError> {
    let kept = control.takedowns()?.into_iter();
    let kept: BTreeSet<Did> = kept.map(|Takedown { did, .. }| did).collect();
    let in_force = takedowns(store)?;
    for did in kept.difference(&in_force) {
        let (did, ruling) = (did.clone(), Ruling::Takedown);
        let question = |done| Input::Rule { did, ruling, done };
        if inbox.ask(question, RULING_TIMEOUT).is_none() {
            return Err("the sequencer does not answer".into());
        }
    }
    for did in in_force.difference(&kept) {
        control.take_down(did, now_ms())?;
    }
    Ok(())
}

fn takedowns(store: &Store) -> Result<BTreeSet<Did>, StoreError> {
    let mut all = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = store.takedowns_after(&after, TAKEDOWNS_PAGE_MAX)?;
        let Some(last) = page.last() else {
            return Ok(all);
        };
        after = last.as_str().to_owned();
        all.extend(page);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        atproto::hostname::Endpoint,
        config::Cli,
        control::{Cursor, Source, embedded::Embedded, settings::Settings},
        store::{Options, account::HostId},
    };

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(dir.path(), Options::default()).unwrap()
    }

    #[test]
    fn a_new_event_store_learns_from_the_control_store() {
        let (kept, lost) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let control = Embedded::open(kept.path()).unwrap();
        let host = Endpoint::parse("pds.example.com").unwrap();
        let host = control.add_host(&host, Source::Request, 1).unwrap().id;
        let did = Did::parse("did:web:a.example.com").unwrap();
        control.take_down(&did, 5).unwrap();
        let cursor = Cursor { seq: 70, epoch: 3 };
        let mirror = Mirror {
            seq: 1_234,
            at_ms: now_ms() - 10_000,
            cursors: vec![(host, cursor)],
        };
        control.mirror(&mirror).unwrap();
        let store = open(&lost);
        assert_eq!(agree(&control, &store).unwrap(), Some(mirror.at_ms));
        let record = store.host(host).unwrap().unwrap();
        assert_eq!((record.cursor, record.epoch), (70, 3));
        assert!(store.takedown(&did).unwrap());
        assert!(store.last_seq() >= 1_234 + 1_000_000 + 10 * 20_000);
        // And only once.
        let last = store.last_seq();
        drop(store);
        let store = open(&lost);
        agree(&control, &store).unwrap();
        assert_eq!(store.last_seq(), last);
    }

    #[test]
    fn stores_that_do_not_belong_together_are_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (
            Embedded::open(one.path()).unwrap(),
            Embedded::open(other.path()).unwrap(),
        );
        let store = open(&one);
        agree(&a, &store).unwrap();
        // Nothing is in it yet that could be mixed up.
        agree(&b, &store).unwrap();
        agree(&a, &store).unwrap();
        store
            .seed(&[(HostId(1), HostRecord::default())], &[])
            .unwrap();
        let error = agree(&b, &store).unwrap_err().to_string();
        assert!(error.contains("zlay control copy"), "{error}");
    }

    #[test]
    fn a_relay_that_was_off_for_long_reads_from_now_on() {
        let config = Cli::parse_from(["zlay", "--retention-hours", "48"]).config;
        let policy = Policy::new(&config, Settings::default());
        let now = 1_000 * 3_600_000;
        let after = |hours: u64| too_long(Some(now - hours * 3_600_000), &policy, now);
        assert_eq!(too_long(None, &policy, now), None);
        assert_eq!(after(48), None);
        assert!(after(49).unwrap().contains("49 hours"));
    }
}
