//! What the operator has decided beside hosts, and the log of it.

use std::collections::BTreeMap;

use postgres::{GenericClient, Row};
use serde_json::Value;

use super::{
    failure::Failure,
    value::{get, get_json, get_ms, get_number, number, plain, time},
};
use crate::{
    atproto::did::Did,
    control::{AuditEntry, Ban, ControlError, Takedown, domain::Domain},
    limits::CONTROL_COPY_ROWS,
};

/// A table of names and JSON values.
#[derive(Clone, Copy)]
pub(super) enum Values {
    Settings,
    Notes,
}

impl Values {
    const fn table(self) -> &'static str {
        match self {
            Values::Settings => "settings",
            Values::Notes => "notes",
        }
    }

    pub(super) fn all(
        self,
        client: &mut impl GenericClient,
    ) -> Result<BTreeMap<String, Value>, Failure> {
        let sql = format!("SELECT name, value::text FROM {}", self.table());
        let mut values = BTreeMap::new();
        for row in client.query(&sql, &[])? {
            values.insert(get(&row, "name")?, get_json(&row, "value")?);
        }
        Ok(values)
    }

    pub(super) fn get(
        self,
        client: &mut impl GenericClient,
        name: &str,
    ) -> Result<Option<Value>, Failure> {
        let sql = format!("SELECT value::text FROM {} WHERE name = $1", self.table());
        let row = client.query_opt(&sql, &[&name])?;
        Ok(row.map(|row| get_json(&row, "value")).transpose()?)
    }

    pub(super) fn set(
        self,
        client: &mut impl GenericClient,
        name: &str,
        value: Option<&Value>,
    ) -> Result<(), Failure> {
        let table = self.table();
        match value {
            Some(value) => client.execute(
                &format!(
                    "INSERT INTO {table} (name, value) VALUES ($1, $2::text::json)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value"
                ),
                &[&name, &value.to_string()],
            )?,
            None => client.execute(&format!("DELETE FROM {table} WHERE name = $1"), &[&name])?,
        };
        Ok(())
    }
}

pub(super) fn bans(client: &mut impl GenericClient) -> Result<Vec<Ban>, Failure> {
    let rows = client.query("SELECT domain, since FROM domain_bans ORDER BY domain", &[])?;
    Ok(rows.iter().map(ban).collect::<Result<_, _>>()?)
}

fn ban(row: &Row) -> Result<Ban, ControlError> {
    let domain: &str = get(row, "domain")?;
    Ok(Ban {
        domain: Domain::parse(domain).map_err(|error| {
            ControlError::Damaged(format!("the banned domain {domain:?} is {error}"))
        })?,
        since_ms: get_ms(row, "since")?,
    })
}

pub(super) fn add_ban(client: &mut impl GenericClient, ban: &Ban) -> Result<(), Failure> {
    client.execute(
        "INSERT INTO domain_bans (domain, since) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &[&ban.domain.as_str(), &time(ban.since_ms)?],
    )?;
    Ok(())
}

pub(super) fn remove_ban(client: &mut impl GenericClient, domain: &Domain) -> Result<(), Failure> {
    client.execute(
        "DELETE FROM domain_bans WHERE domain = $1",
        &[&domain.as_str()],
    )?;
    Ok(())
}

pub(super) fn takedowns(client: &mut impl GenericClient) -> Result<Vec<Takedown>, Failure> {
    let rows = client.query("SELECT did, since FROM takedowns ORDER BY did", &[])?;
    Ok(rows.iter().map(takedown).collect::<Result<_, _>>()?)
}

fn takedown(row: &Row) -> Result<Takedown, ControlError> {
    let did: &str = get(row, "did")?;
    Ok(Takedown {
        did: Did::parse(did).map_err(|error| {
            ControlError::Damaged(format!("the account {did:?}, taken down, is {error}"))
        })?,
        since_ms: get_ms(row, "since")?,
    })
}

/// Adds those that are not there yet.
pub(super) fn add_takedowns(
    client: &mut impl GenericClient,
    takedowns: &[Takedown],
) -> Result<(), Failure> {
    for takedowns in takedowns.chunks(CONTROL_COPY_ROWS) {
        let dids: Vec<&str> = takedowns.iter().map(|t| t.did.as_str()).collect();
        let since = takedowns.iter().map(|t| time(t.since_ms));
        let since: Vec<_> = since.collect::<Result<_, _>>()?;
        client.execute(
            "INSERT INTO takedowns (did, since)
             SELECT * FROM unnest($1::text[], $2::timestamptz[]) ON CONFLICT DO NOTHING",
            &[&dids, &since],
        )?;
    }
    Ok(())
}

pub(super) fn remove_takedown(client: &mut impl GenericClient, did: &Did) -> Result<(), Failure> {
    client.execute("DELETE FROM takedowns WHERE did = $1", &[&did.as_str()])?;
    Ok(())
}

/// Adds to the log; the number of the entry.
pub(super) fn audit(client: &mut impl GenericClient, entry: &AuditEntry) -> Result<u64, Failure> {
    let row = client.query_one(
        "INSERT INTO audit_log (id, at, actor, action, subject, detail)
         SELECT coalesce(max(id), 0) + 1, $1, $2, $3, $4, $5::text::json FROM audit_log
         RETURNING id",
        &[
            &time(entry.at_ms)?,
            &plain(&entry.actor),
            &plain(&entry.action),
            &plain(&entry.subject),
            &entry.detail.to_string(),
        ],
    )?;
    Ok(get_number(&row, "id")?)
}

/// Adds entries with their numbers.
pub(super) fn insert_audit(
    client: &mut impl GenericClient,
    entries: &[(u64, AuditEntry)],
) -> Result<(), Failure> {
    for entries in entries.chunks(CONTROL_COPY_ROWS) {
        let mut ids = Vec::new();
        let mut times = Vec::new();
        for (id, entry) in entries {
            ids.push(number(*id)?);
            times.push(time(entry.at_ms)?);
        }
        let text = |of: fn(&AuditEntry) -> String| -> Vec<String> {
            entries.iter().map(|(_, entry)| of(entry)).collect()
        };
        client.execute(
            "INSERT INTO audit_log (id, at, actor, action, subject, detail)
             SELECT id, at, actor, action, subject, detail::json
             FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[],
                         $6::text[]) AS entry (id, at, actor, action, subject, detail)",
            &[
                &ids,
                &times,
                &text(|entry| plain(&entry.actor)),
                &text(|entry| plain(&entry.action)),
                &text(|entry| plain(&entry.subject)),
                &text(|entry| entry.detail.to_string()),
            ],
        )?;
    }
    Ok(())
}

/// Entries before a number, the latest first.
pub(super) fn audit_before(
    client: &mut impl GenericClient,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, AuditEntry)>, Failure> {
    let before = before.and_then(|before| i64::try_from(before).ok());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(
        "SELECT id, at, actor, action, subject, detail::text FROM audit_log
         WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        &[&before, &limit],
    )?;
    Ok(rows.iter().map(entry).collect::<Result<_, _>>()?)
}

fn entry(row: &Row) -> Result<(u64, AuditEntry), ControlError> {
    let id: u64 = get_number(row, "id")?;
    let read = || {
        Ok(AuditEntry {
            at_ms: get_ms(row, "at")?,
            actor: get(row, "actor")?,
            action: get(row, "action")?,
            subject: get(row, "subject")?,
            detail: get_json(row, "detail")?,
        })
    };
    let entry = read().map_err(|error: ControlError| match error {
        ControlError::Damaged(what) => ControlError::Damaged(format!("audit entry {id}: {what}")),
        other => other,
    })?;
    Ok((id, entry))
}
