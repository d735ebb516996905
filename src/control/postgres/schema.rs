//! The tables, and who may write them.

use postgres::{Client, GenericClient};

use super::{
    failure::Failure,
    value::{get, get_number},
};
use crate::{
    control::{ControlError, new_id},
    crash::{self, Point},
};

/// Every change of the tables there ever was, in order. One that was released is never edited.
const MIGRATIONS: [(&str, &str); 1] = [("first", include_str!("../migrations/0001_first.sql"))];

/// The lock that the one relay of a database holds for as long as its session lasts
/// (<https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS>): "zlay" in ASCII.
pub(super) const LOCK: i64 = 0x7a6c_6179;

/// Takes the lock of the database for this session; false where another session has it.
pub(super) fn take_lock(client: &mut Client) -> Result<bool, Failure> {
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])?;
    Ok(get(&row, 0)?)
}

/// Brings the tables up to date, and reads the number of the store. To be called with the lock.
pub(super) fn prepare(client: &mut Client) -> Result<u64, Failure> {
    let mut change = client.transaction()?;
    let applied = applied(&mut change)?;
    if applied == 0 {
        change.batch_execute(
            "CREATE TABLE migrations (
                 version bigint PRIMARY KEY,
                 name text NOT NULL,
                 applied timestamptz NOT NULL DEFAULT now()
             );
             COMMENT ON TABLE migrations IS 'Which changes of these tables were made, and when.';",
        )?;
    }
    for (version, (name, sql)) in (1..).zip(MIGRATIONS).skip(applied) {
        let version: i64 = version;
        change.batch_execute(sql)?;
        change.execute(
            "INSERT INTO migrations (version, name) VALUES ($1, $2)",
            &[&version, &name],
        )?;
        log::info!(version = version, name:% = name; "control store: a migration is applied");
    }
    let fresh = i64::try_from(new_id()).unwrap_or(i64::MAX);
    change.execute(
        "INSERT INTO store (id) VALUES ($1) ON CONFLICT DO NOTHING",
        &[&fresh],
    )?;
    let id = id(&mut change)?;
    crash::point(Point::MigrationBefore);
    change.commit()?;
    crash::point(Point::MigrationCommitted);
    Ok(id)
}

/// Whether the tables are those of this version; the number of the store, if there is one.
pub(super) fn check(client: &mut Client) -> Result<Option<u64>, Failure> {
    match applied(client)? {
        0 => Ok(None),
        count if count == MIGRATIONS.len() => id(client).map(Some),
        count => Err(format(count).into()),
    }
}

/// How many migrations were applied: the first so many, in order.
fn applied(client: &mut impl GenericClient) -> Result<usize, Failure> {
    let there = client.query_one("SELECT to_regclass('migrations') IS NOT NULL", &[])?;
    if !get::<bool>(&there, 0)? {
        return Ok(0);
    }
    let rows = client.query("SELECT version FROM migrations ORDER BY version", &[])?;
    for (row, expected) in rows.iter().zip(1i64..) {
        let version: i64 = get(row, 0)?;
        if version != expected {
            let what = format!("migration {version} without migration {expected}");
            return Err(ControlError::Damaged(what).into());
        }
    }
    match rows.len() {
        0 => Err(ControlError::Damaged("the table migrations is empty".to_owned()).into()),
        count if count > MIGRATIONS.len() => Err(format(count).into()),
        count => Ok(count),
    }
}

fn format(found: usize) -> ControlError {
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    ControlError::Format {
        found: number(found),
        known: number(MIGRATIONS.len()),
    }
}

/// The number of the store.
fn id(client: &mut impl GenericClient) -> Result<u64, Failure> {
    let row = client.query_opt("SELECT id FROM store", &[])?;
    let row = row.ok_or_else(|| ControlError::Damaged("the table store is empty".to_owned()))?;
    Ok(get_number(&row, "id")?)
}
