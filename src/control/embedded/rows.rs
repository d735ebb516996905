//! Rows as they are written. They are JSON because they are few and small, and because a field that a
//! later version adds can then be read, and left out, by either version.

use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::keys::{CURSOR_PREFIX, MIRROR_KEY, long, number, numbered};
use crate::{
    atproto::hostname::Hostname,
    control::{
        AuditEntry, ControlError, Cursor, HostRow, HostStatus, HostTerms, Mirror, Observed, Source,
    },
    store::account::HostId,
};

/// When something began; what it is, is the key.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredSince {
    pub(super) since_ms: u64,
}

/// A [`HostRow`] as it is written; the id is the key.
#[derive(Serialize, Deserialize)]
struct StoredHost {
    name: String,
    tls: bool,
    /// `banned` also where that hides another one.
    status: String,
    /// That other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hidden_status: Option<String>,
    first_seen_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_connected_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(default)]
    failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_why: Option<String>,
    /// Whether trust was decided; none: its domain decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trust: Option<bool>,
    #[serde(default)]
    lenient: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events_per_hour: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events_per_day: Option<u64>,
}

/// An [`AuditEntry`] as it is written; its number is the key.
#[derive(Serialize, Deserialize)]
struct StoredAudit {
    at_ms: u64,
    actor: String,
    action: String,
    subject: String,
    #[serde(default)]
    detail: Value,
}

pub(super) fn encode_audit(entry: &AuditEntry) -> Result<Vec<u8>, ControlError> {
    json(&StoredAudit {
        at_ms: entry.at_ms,
        actor: entry.actor.clone(),
        action: entry.action.clone(),
        subject: entry.subject.clone(),
        detail: entry.detail.clone(),
    })
}

pub(super) fn decode_audit(number: &[u8], bytes: &[u8]) -> Result<(u64, AuditEntry), ControlError> {
    let number = long(number)?;
    let stored: StoredAudit = parse(bytes, &format!("audit entry {number}"))?;
    let entry = AuditEntry {
        at_ms: stored.at_ms,
        actor: stored.actor,
        action: stored.action,
        subject: stored.subject,
        detail: stored.detail,
    };
    Ok((number, entry))
}

pub(super) fn encode(row: &HostRow) -> Result<Vec<u8>, ControlError> {
    let (terms, observed) = (&row.terms, &row.observed);
    let hidden = terms.banned.then(|| observed.status.name().to_owned());
    json(&StoredHost {
        name: row.name.as_str().to_owned(),
        tls: row.tls,
        status: row.status().name().to_owned(),
        hidden_status: hidden,
        first_seen_ms: row.first_seen_ms,
        source: Some(row.source.name().to_owned()),
        last_connected_ms: observed.last_connected_ms,
        last_seen_ms: observed.last_seen_ms,
        last_error: observed.last_error.clone(),
        failures: observed.failures,
        skipped_ms: observed.skipped_ms,
        skipped_why: observed.skipped_why.clone(),
        trust: terms.trusted,
        lenient: terms.lenient,
        account_limit: terms.accounts,
        events_per_second: terms.events_per_second,
        events_per_hour: terms.events_per_hour,
        events_per_day: terms.events_per_day,
    })
}

pub(super) fn decode(id: HostId, bytes: &[u8]) -> Result<HostRow, ControlError> {
    let damaged = |what: String| ControlError::Damaged(format!("host {id}: {what}"));
    let stored: StoredHost = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    let known = |name: &str| {
        HostStatus::parse(name).ok_or_else(|| damaged(format!("unknown status {name:?}")))
    };
    let status = known(&stored.status)?;
    let banned = status == HostStatus::Banned;
    // Older versions forgot it while it was hidden.
    let hidden = stored.hidden_status.as_deref().map(known).transpose()?;
    let source = stored.source.as_deref().map(|source| {
        Source::parse(source).ok_or_else(|| damaged(format!("unknown source {source:?}")))
    });
    Ok(HostRow {
        id,
        name: Hostname::parse(&stored.name)
            .map_err(|e| damaged(format!("{:?} is {e}", stored.name)))?,
        tls: stored.tls,
        first_seen_ms: stored.first_seen_ms,
        // Older versions did not keep it, and most hosts come from a list.
        source: source.transpose()?.unwrap_or(Source::Discovery),
        terms: HostTerms {
            banned,
            trusted: stored.trust,
            lenient: stored.lenient,
            accounts: stored.account_limit,
            events_per_second: stored.events_per_second,
            events_per_hour: stored.events_per_hour,
            events_per_day: stored.events_per_day,
        },
        observed: Observed {
            status: match banned {
                true => hidden.unwrap_or(HostStatus::Active),
                false => status,
            },
            last_connected_ms: stored.last_connected_ms,
            last_seen_ms: stored.last_seen_ms,
            last_error: stored.last_error,
            failures: stored.failures,
            skipped_ms: stored.skipped_ms,
            skipped_why: stored.skipped_why,
        },
    })
}

pub(super) fn put_mirror(batch: &mut WriteBatch, mirror: &Mirror) {
    let seq = [mirror.seq.to_be_bytes(), mirror.at_ms.to_be_bytes()].concat();
    batch.put(MIRROR_KEY, seq);
    for (id, cursor) in &mirror.cursors {
        let value = [&cursor.seq.to_be_bytes()[..], &cursor.epoch.to_be_bytes()].concat();
        batch.put(numbered(CURSOR_PREFIX, *id), value);
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, ControlError> {
    serde_json::to_vec(value).map_err(|e| ControlError::Backend(e.to_string()))
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ControlError> {
    serde_json::from_slice(bytes).map_err(|e| ControlError::Damaged(format!("{what}: {e}")))
}

/// The mirrored seq and its time.
pub(super) fn decode_mirrored(bytes: &[u8]) -> Result<(u64, u64), ControlError> {
    let (seq, at_ms) = bytes.split_at_checked(8).ok_or_else(short)?;
    Ok((long(seq)?, long(at_ms)?))
}

pub(super) fn decode_cursor(bytes: &[u8]) -> Result<Cursor, ControlError> {
    let (seq, epoch) = bytes.split_at_checked(8).ok_or_else(short)?;
    Ok(Cursor {
        seq: long(seq)?,
        epoch: number(epoch)?,
    })
}

fn short() -> ControlError {
    ControlError::Damaged("a value that ends early".into())
}
