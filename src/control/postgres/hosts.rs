//! Hosts, and what was mirrored of them.

use std::{collections::BTreeMap, time::SystemTime};

use postgres::{GenericClient, Row};

use super::{
    failure::Failure,
    value::{
        get, get_ms, get_ms_of, get_number, get_number_of, number, number_of, plain, time, time_of,
    },
};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    control::{ControlError, Cursor, HostRow, HostStatus, HostTerms, Mirror, Observed, Source},
    limits::CONTROL_COPY_ROWS,
    store::account::HostId,
};

const COLUMNS: &str = "id, name, tls, first_seen, source, banned, trusted, lenient, account_limit, \
                       events_per_second, events_per_hour, events_per_day, status, last_connected, \
                       last_seen, last_error, failures, skipped, skipped_why";

pub(super) fn all(client: &mut impl GenericClient) -> Result<Vec<HostRow>, Failure> {
    let rows = client.query(&format!("SELECT {COLUMNS} FROM hosts ORDER BY id"), &[])?;
    Ok(rows.iter().map(decode).collect::<Result<_, _>>()?)
}

/// Adds a host, or returns the one of that name as it is.
pub(super) fn add(
    client: &mut impl GenericClient,
    endpoint: &Endpoint,
    source: Source,
    now_ms: u64,
) -> Result<HostRow, Failure> {
    let name = endpoint.host.as_str();
    // The last number is not given, so that the one after it can be kept.
    let add = format!(
        "WITH next AS (
             UPDATE store SET next_host = next_host + 1
             WHERE next_host < $5 AND NOT EXISTS (SELECT FROM hosts WHERE name = $1)
             RETURNING next_host - 1 AS id
         )
         INSERT INTO hosts (id, name, tls, first_seen, source)
         SELECT id, $1, $2, $3, $4 FROM next RETURNING {COLUMNS}"
    );
    let added = client.query_opt(
        &add,
        &[
            &name,
            &endpoint.tls,
            &time(now_ms)?,
            &source.name(),
            &i64::from(u32::MAX),
        ],
    )?;
    if let Some(row) = added {
        return Ok(decode(&row)?);
    }
    let known = format!("SELECT {COLUMNS} FROM hosts WHERE name = $1");
    match client.query_opt(&known, &[&name])? {
        Some(row) => Ok(decode(&row)?),
        None => Err(ControlError::Full.into()),
    }
}

/// Adds rows as they are.
pub(super) fn insert(client: &mut impl GenericClient, rows: &[HostRow]) -> Result<(), Failure> {
    for rows in rows.chunks(CONTROL_COPY_ROWS) {
        let mut ids = Vec::new();
        let mut names = Vec::new();
        let mut tls = Vec::new();
        let mut first_seen = Vec::new();
        let mut sources = Vec::new();
        for row in rows {
            ids.push(key(row.id));
            names.push(row.name.as_str());
            tls.push(row.tls);
            first_seen.push(time(row.first_seen_ms)?);
            sources.push(row.source.name());
        }
        client.execute(
            "INSERT INTO hosts (id, name, tls, first_seen, source)
             SELECT * FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::timestamptz[],
                                  $5::text[])",
            &[&ids, &names, &tls, &first_seen, &sources],
        )?;
        for row in rows.iter().filter(|row| row.terms != HostTerms::default()) {
            set_terms(client, row.id, &row.terms)?;
        }
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.id, row.observed.clone()))
            .collect();
        observe(client, &seen)?;
    }
    Ok(())
}

pub(super) fn set_terms(
    client: &mut impl GenericClient,
    host: HostId,
    terms: &HostTerms,
) -> Result<(), Failure> {
    let changed = client.execute(
        "UPDATE hosts SET banned = $2, trusted = $3, lenient = $4, account_limit = $5,
                events_per_second = $6, events_per_hour = $7, events_per_day = $8
         WHERE id = $1",
        &[
            &key(host),
            &terms.banned,
            &terms.trusted,
            &terms.lenient,
            &number_of(terms.accounts)?,
            &number_of(terms.events_per_second)?,
            &number_of(terms.events_per_hour)?,
            &number_of(terms.events_per_day)?,
        ],
    )?;
    match changed {
        0 => Err(ControlError::NoSuchHost(host).into()),
        _ => Ok(()),
    }
}

/// Keeps what was seen of hosts, in one statement: of all of them, or of none.
pub(super) fn observe(
    client: &mut impl GenericClient,
    hosts: &[(HostId, Observed)],
) -> Result<(), Failure> {
    // The last word on a host counts, and the database takes only one.
    let last: BTreeMap<i64, &Observed> = hosts.iter().map(|(id, seen)| (key(*id), seen)).collect();
    let ids: Vec<i64> = last.keys().copied().collect();
    let mut change = client.transaction()?;
    let known = change.query(
        "SELECT id FROM hosts WHERE id = ANY($1) FOR UPDATE",
        &[&ids],
    )?;
    if known.len() != ids.len() {
        let known: Vec<i64> = known
            .iter()
            .map(|row| get(row, "id"))
            .collect::<Result<_, _>>()?;
        let unknown = hosts.iter().find(|(id, _)| !known.contains(&key(*id)));
        return Err(ControlError::NoSuchHost(unknown.map_or(HostId(0), |(id, _)| *id)).into());
    }
    let mut status = Vec::new();
    let mut connected: Vec<Option<SystemTime>> = Vec::new();
    let mut last_seen = Vec::new();
    let mut errors = Vec::new();
    let mut failures = Vec::new();
    let mut skipped = Vec::new();
    let mut skipped_why = Vec::new();
    for seen in last.values() {
        status.push(seen.status.name());
        connected.push(time_of(seen.last_connected_ms)?);
        last_seen.push(time_of(seen.last_seen_ms)?);
        errors.push(seen.last_error.as_deref().map(plain));
        failures.push(i64::from(seen.failures));
        skipped.push(time_of(seen.skipped_ms)?);
        skipped_why.push(seen.skipped_why.as_deref().map(plain));
    }
    change.execute(
        "UPDATE hosts SET status = seen.status, last_connected = seen.last_connected,
                last_seen = seen.last_seen, last_error = seen.last_error,
                failures = seen.failures, skipped = seen.skipped,
                skipped_why = seen.skipped_why
         FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[],
                     $6::bigint[], $7::timestamptz[], $8::text[])
              AS seen (id, status, last_connected, last_seen, last_error, failures, skipped,
                       skipped_why)
         WHERE hosts.id = seen.id",
        &[
            &ids,
            &status,
            &connected,
            &last_seen,
            &errors,
            &failures,
            &skipped,
            &skipped_why,
        ],
    )?;
    change.commit()?;
    Ok(())
}

/// Notes the last seq and the cursors of some hosts.
pub(super) fn mirror(client: &mut impl GenericClient, mirror: &Mirror) -> Result<(), Failure> {
    let mut change = client.transaction()?;
    // It is written all the time, and of use only where more than the last seconds of it are lost
    // elsewhere: the server need not sync for it.
    change.batch_execute("SET LOCAL synchronous_commit = off")?;
    put_mirror(&mut change, mirror)?;
    change.commit()?;
    Ok(())
}

/// The same, as durable as the transaction that it is a part of.
pub(super) fn put_mirror(client: &mut impl GenericClient, mirror: &Mirror) -> Result<(), Failure> {
    client.execute(
        "INSERT INTO mirror (seq, at) VALUES ($1, $2)
         ON CONFLICT (one_row) DO UPDATE SET seq = excluded.seq, at = excluded.at",
        &[&number(mirror.seq)?, &time(mirror.at_ms)?],
    )?;
    let last: BTreeMap<i64, Cursor> = mirror
        .cursors
        .iter()
        .map(|(id, c)| (key(*id), *c))
        .collect();
    let ids: Vec<i64> = last.keys().copied().collect();
    let seqs: Vec<i64> = last
        .values()
        .map(|c| number(c.seq))
        .collect::<Result<_, _>>()?;
    let epochs: Vec<i64> = last.values().map(|c| i64::from(c.epoch)).collect();
    client.execute(
        "INSERT INTO mirror_cursors (host, seq, epoch)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
         ON CONFLICT (host) DO UPDATE SET seq = excluded.seq, epoch = excluded.epoch",
        &[&ids, &seqs, &epochs],
    )?;
    Ok(())
}

pub(super) fn mirrored(client: &mut impl GenericClient) -> Result<Mirror, Failure> {
    let mut mirror = Mirror::default();
    if let Some(row) = client.query_opt("SELECT seq, at FROM mirror", &[])? {
        mirror.seq = get_number(&row, "seq")?;
        mirror.at_ms = get_ms(&row, "at")?;
    }
    let rows = client.query(
        "SELECT host, seq, epoch FROM mirror_cursors ORDER BY host",
        &[],
    )?;
    for row in &rows {
        let cursor = Cursor {
            seq: get_number(row, "seq")?,
            epoch: get_number(row, "epoch")?,
        };
        mirror
            .cursors
            .push((HostId(get_number(row, "host")?), cursor));
    }
    Ok(mirror)
}

fn key(host: HostId) -> i64 {
    host.0.into()
}

fn decode(row: &Row) -> Result<HostRow, ControlError> {
    let id = HostId(get_number(row, "id")?);
    read(id, row).map_err(|error| match error {
        ControlError::Damaged(what) => ControlError::Damaged(format!("host {id}: {what}")),
        other => other,
    })
}

fn read(id: HostId, row: &Row) -> Result<HostRow, ControlError> {
    let name: &str = get(row, "name")?;
    let source: &str = get(row, "source")?;
    let status: &str = get(row, "status")?;
    let unknown =
        |what: &str, name: &str| ControlError::Damaged(format!("unknown {what} {name:?}"));
    Ok(HostRow {
        id,
        name: Hostname::parse(name)
            .map_err(|error| ControlError::Damaged(format!("{name:?} is {error}")))?,
        tls: get(row, "tls")?,
        first_seen_ms: get_ms(row, "first_seen")?,
        source: Source::parse(source).ok_or_else(|| unknown("source", source))?,
        terms: HostTerms {
            banned: get(row, "banned")?,
            trusted: get(row, "trusted")?,
            lenient: get(row, "lenient")?,
            accounts: get_number_of(row, "account_limit")?,
            events_per_second: get_number_of(row, "events_per_second")?,
            events_per_hour: get_number_of(row, "events_per_hour")?,
            events_per_day: get_number_of(row, "events_per_day")?,
        },
        observed: Observed {
            status: HostStatus::parse(status).ok_or_else(|| unknown("status", status))?,
            last_connected_ms: get_ms_of(row, "last_connected")?,
            last_seen_ms: get_ms_of(row, "last_seen")?,
            last_error: get(row, "last_error")?,
            failures: get_number(row, "failures")?,
            skipped_ms: get_ms_of(row, "skipped")?,
            skipped_why: get(row, "skipped_why")?,
        },
    })
}
