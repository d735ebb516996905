//! The control store in a database server, where `DATABASE_URL` names one.
//!
//! One connection, owned by one thread (`link`), which holds the database's lock: one relay a
//! database. Nothing here waits longer than [`CONTROL_TIMEOUT`], and
//! a database that is away costs the relay nothing but what it would have kept meanwhile. The tables
//! (`src/control/migrations`) are made to be read with psql.

mod decisions;
mod failure;
mod hosts;
mod link;
mod schema;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod value;

use std::{collections::BTreeMap, path::Path};

use postgres::{Client, IsolationLevel, Transaction};
use serde_json::Value;

use self::{
    decisions::Values,
    failure::Failure,
    link::{Link, Patience},
    value::{get_number, number},
};
use super::{
    AuditEntry, Ban, Control, ControlError, Dump, HostRow, HostTerms, Mirror, Observed, Source,
    Takedown, domain::Domain,
};
use crate::{
    atproto::{did::Did, hostname::Endpoint},
    config::Secret,
    limits::{CONTROL_COPY_TIMEOUT, CONTROL_TIMEOUT},
    store::{RocksMemory, account::HostId},
};

/// The name of the database and of the server that `url` names, and nothing else of it.
pub(super) fn describe(url: &Secret) -> Result<String, String> {
    target::Target::parse(url).map(|target| target.name)
}

/// The control store in a database.
pub struct Postgres {
    link: Link,
}

impl Postgres {
    /// Connects to the database, waits for it and for a relay before this one to leave it, for
    /// [`CONTROL_START_TIMEOUT`](crate::limits::CONTROL_START_TIMEOUT) at most, and brings its tables
    /// up to date. A server that refuses what the URL says is not waited for.
    ///
    /// Where TLS is used, which `sslmode` decides, the certificate is verified against the roots of
    /// the web and those in `extra_ca`.
    pub fn open(url: &Secret, extra_ca: Option<&Path>) -> Result<Postgres, ControlError> {
        Postgres::open_patiently(url, extra_ca, Patience::default())
    }

    /// The same, and waits no longer than for an answer.
    pub fn open_now(url: &Secret, extra_ca: Option<&Path>) -> Result<Postgres, ControlError> {
        let patience = Patience {
            start: CONTROL_TIMEOUT,
            ..Patience::default()
        };
        Postgres::open_patiently(url, extra_ca, patience)
    }

    fn open_patiently(
        url: &Secret,
        extra_ca: Option<&Path>,
        patience: Patience,
    ) -> Result<Postgres, ControlError> {
        let link = Link::open(url, extra_ca, patience)?;
        Ok(Postgres { link })
    }
}

impl Control for Postgres {
    fn memory(&self) -> Option<RocksMemory> {
        None
    }

    fn available(&self) -> Result<(), String> {
        self.link.available()
    }

    fn id(&self) -> u64 {
        self.link.id()
    }

    fn hosts(&self) -> Result<Vec<HostRow>, ControlError> {
        self.link.call(hosts::all)
    }

    fn add_host(
        &self,
        endpoint: &Endpoint,
        source: Source,
        now_ms: u64,
    ) -> Result<HostRow, ControlError> {
        let endpoint = endpoint.clone();
        self.link
            .call(move |client| hosts::add(client, &endpoint, source, now_ms))
    }

    fn set_terms(&self, host: HostId, terms: &HostTerms) -> Result<(), ControlError> {
        let terms = *terms;
        self.link
            .call(move |client| hosts::set_terms(client, host, &terms))
    }

    fn observe(&self, hosts: &[(HostId, Observed)]) -> Result<(), ControlError> {
        let seen = hosts.to_vec();
        self.link.call(move |client| hosts::observe(client, &seen))
    }

    fn bans(&self) -> Result<Vec<Ban>, ControlError> {
        self.link.call(decisions::bans)
    }

    fn ban_domain(&self, domain: &Domain, now_ms: u64) -> Result<(), ControlError> {
        let ban = Ban {
            domain: domain.clone(),
            since_ms: now_ms,
        };
        self.link
            .call(move |client| decisions::add_ban(client, &ban))
    }

    fn unban_domain(&self, domain: &Domain) -> Result<(), ControlError> {
        let domain = domain.clone();
        self.link
            .call(move |client| decisions::remove_ban(client, &domain))
    }

    fn takedowns(&self) -> Result<Vec<Takedown>, ControlError> {
        self.link.call(decisions::takedowns)
    }

    fn take_down(&self, did: &Did, now_ms: u64) -> Result<(), ControlError> {
        let takedown = Takedown {
            did: did.clone(),
            since_ms: now_ms,
        };
        self.link
            .call(move |client| decisions::add_takedowns(client, &[takedown]))
    }

    fn reverse_takedown(&self, did: &Did) -> Result<(), ControlError> {
        let did = did.clone();
        self.link
            .call(move |client| decisions::remove_takedown(client, &did))
    }

    fn settings(&self) -> Result<BTreeMap<String, Value>, ControlError> {
        self.link.call(|client| Values::Settings.all(client))
    }

    fn set_setting(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError> {
        self.set(Values::Settings, name, value)
    }

    fn note(&self, name: &str) -> Result<Option<Value>, ControlError> {
        let name = name.to_owned();
        self.link
            .call(move |client| Values::Notes.get(client, &name))
    }

    fn set_note(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError> {
        self.set(Values::Notes, name, value)
    }

    fn audit(&self, entry: &AuditEntry) -> Result<u64, ControlError> {
        let entry = entry.clone();
        self.link
            .call(move |client| decisions::audit(client, &entry))
    }

    fn audit_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, ControlError> {
        self.link
            .call(move |client| decisions::audit_before(client, before, limit))
    }

    fn mirror(&self, mirror: &Mirror) -> Result<(), ControlError> {
        let mirror = mirror.clone();
        self.link.call(move |client| hosts::mirror(client, &mirror))
    }

    fn mirrored(&self) -> Result<Mirror, ControlError> {
        self.link.call(hosts::mirrored)
    }

    fn export(&self) -> Result<Dump, ControlError> {
        self.link.call_for(CONTROL_COPY_TIMEOUT, |client| {
            let mut view = unhurried(client)?;
            let row = view.query_one("SELECT id, next_host FROM store", &[])?;
            let mut audit = decisions::audit_before(&mut view, None, usize::MAX)?;
            audit.reverse();
            Ok(Dump {
                id: get_number(&row, "id")?,
                next_host: get_number(&row, "next_host")?,
                hosts: hosts::all(&mut view)?,
                bans: decisions::bans(&mut view)?,
                takedowns: decisions::takedowns(&mut view)?,
                settings: Values::Settings.all(&mut view)?,
                notes: Values::Notes.all(&mut view)?,
                audit,
                mirror: hosts::mirrored(&mut view)?,
            })
        })
    }

    fn import(&self, dump: &Dump) -> Result<(), ControlError> {
        let copy = dump.clone();
        self.link.call_for(CONTROL_COPY_TIMEOUT, move |client| {
            let mut change = unhurried(client)?;
            replace(&mut change, &copy)?;
            Ok(change.commit()?)
        })?;
        self.link.became(dump.id);
        Ok(())
    }
}

impl Postgres {
    fn set(&self, values: Values, name: &str, value: Option<&Value>) -> Result<(), ControlError> {
        let (name, value) = (name.to_owned(), value.cloned());
        self.link
            .call(move |client| values.set(client, &name, value.as_ref()))
    }
}

/// A transaction for everything at once: it sees one state of the database, and each statement of it
/// may take as long as the whole.
fn unhurried(client: &mut Client) -> Result<Transaction<'_>, Failure> {
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()?;
    let milliseconds = CONTROL_COPY_TIMEOUT.as_millis();
    transaction.batch_execute(&format!(
        "SET LOCAL statement_timeout = {milliseconds};
         SET LOCAL idle_in_transaction_session_timeout = {milliseconds};"
    ))?;
    Ok(transaction)
}

/// Replaces everything.
fn replace(change: &mut Transaction<'_>, dump: &Dump) -> Result<(), Failure> {
    change.batch_execute(
        "DELETE FROM hosts; DELETE FROM domain_bans; DELETE FROM takedowns; DELETE FROM settings;
         DELETE FROM notes; DELETE FROM audit_log; DELETE FROM mirror; DELETE FROM mirror_cursors;",
    )?;
    change.execute(
        "UPDATE store SET id = $1, next_host = $2",
        &[&number(dump.id)?, &i64::from(dump.next_host)],
    )?;
    hosts::insert(change, &dump.hosts)?;
    for ban in &dump.bans {
        decisions::add_ban(change, ban)?;
    }
    decisions::add_takedowns(change, &dump.takedowns)?;
    for (values, entries) in [
        (Values::Settings, &dump.settings),
        (Values::Notes, &dump.notes),
    ] {
        for (name, value) in entries {
            values.set(change, name, Some(value))?;
        }
    }
    decisions::insert_audit(change, &dump.audit)?;
    hosts::put_mirror(change, &dump.mirror)
}
