//! What a page of `listRepos` or `listReposByCollection` says. Entries that are not what they have to be
//! are counted, and do not spoil the others.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    atproto::{cid::Cid, did::Did, tid::Tid},
    limits::ACCOUNT_STATUS_BYTES_MAX,
    store::account::{Listed, Status},
};

/// A page of either list
/// (<https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listRepos.json>).
#[derive(Deserialize, Debug)]
pub(super) struct Page {
    #[serde(default)]
    cursor: Option<String>,
    repos: Vec<Value>,
}

/// An account of a host, as the host lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) did: Did,
    pub(super) status: Status,
    pub(super) listed: Listed,
}

impl Page {
    /// How many entries it has, good or not.
    pub(super) fn len(&self) -> usize {
        self.repos.len()
    }

    /// Where the next page begins, after one that began at `cursor`; none: this is the last. An empty
    /// page, or a cursor that stays, would go on for ever.
    pub(super) fn next(&self, cursor: Option<&str>) -> Option<String> {
        let next = self.cursor.clone().filter(|next| !next.is_empty());
        next.filter(|next| !self.repos.is_empty() && Some(next.as_str()) != cursor)
    }

    /// The accounts, each once, and how many entries name none.
    pub(super) fn dids(&self) -> (Vec<Did>, u64) {
        good(&self.repos, did)
    }

    /// The accounts with what is said of them, and how many entries are malformed.
    pub(super) fn entries(&self) -> (Vec<Entry>, u64) {
        good(&self.repos, entry)
    }
}

/// Those that can be read, and how many can not.
fn good<T>(repos: &[Value], read: impl Fn(&Value) -> Option<T>) -> (Vec<T>, u64) {
    let good: Vec<T> = repos.iter().filter_map(read).collect();
    let malformed = (repos.len() - good.len()) as u64;
    (good, malformed)
}

fn did(repo: &Value) -> Option<Did> {
    Did::parse(repo["did"].as_str()?).ok()
}

fn entry(repo: &Value) -> Option<Entry> {
    let reason = match &repo["status"] {
        Value::Null => None,
        Value::String(reason) if reason.len() <= ACCOUNT_STATUS_BYTES_MAX => Some(reason),
        _ => return None,
    };
    let active = match &repo["active"] {
        // Hosts of an early version list only accounts that are.
        Value::Null => true,
        Value::Bool(active) => *active,
        _ => return None,
    };
    Some(Entry {
        did: did(repo)?,
        status: Status {
            active,
            reason: reason.map(|reason| reason.as_str().into()),
        },
        listed: Listed {
            rev: Tid::parse(repo["rev"].as_str()?).ok()?,
            commit: Cid::parse(repo["head"].as_str()?).ok()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(value: Value) -> Page {
        serde_json::from_value(value).unwrap()
    }

    const HEAD: &str = "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454";

    #[test]
    fn entries_are_read_one_by_one() {
        let good = json!({ "did": "did:web:a.test", "rev": "3jzfcijpj2z2a", "head": HEAD });
        let with = |name: &str, value: Value| {
            let mut entry = good.clone();
            entry[name] = value;
            entry
        };
        let bad = [
            json!(null),
            json!("did:web:a.test"),
            json!({}),
            with("did", json!("a.test")),
            with("did", json!(7)),
            with("rev", json!("3JZ")),
            with("rev", Value::Null),
            with("head", json!("bafy")),
            with("active", json!("yes")),
            with("status", json!(1)),
            with("status", json!("x".repeat(ACCOUNT_STATUS_BYTES_MAX + 1))),
        ];
        let inactive = json!({ "active": false, "status": "deactivated", "more": [1] });
        let mut last = good.clone();
        for (name, value) in inactive.as_object().unwrap() {
            last[name] = value.clone();
        }
        let all: Vec<Value> = [&[good], &bad[..], &[last]].concat();
        let page = page(json!({ "repos": all, "cursor": "x" }));
        let (entries, malformed) = page.entries();
        assert_eq!(malformed, bad.len() as u64);
        let statuses: Vec<&Status> = entries.iter().map(|entry| &entry.status).collect();
        assert_eq!(
            statuses,
            [&Status::ACTIVE, &Status::inactive("deactivated")]
        );
        assert_eq!(entries[0].listed.rev.to_string(), "3jzfcijpj2z2a");
        assert_eq!(entries[0].listed.commit.to_string(), HEAD);
        // Of who is in an index nothing but the name matters.
        let (dids, malformed) = page.dids();
        assert_eq!((dids.len(), malformed), (all.len() - 5, 5));
        assert_eq!(page.len(), all.len());
    }

    #[test]
    fn a_list_ends_without_a_cursor_or_where_it_would_not_end() {
        let full = json!({ "repos": [{}], "cursor": "b" });
        assert_eq!(page(full.clone()).next(None).as_deref(), Some("b"));
        assert_eq!(page(full.clone()).next(Some("a")).as_deref(), Some("b"));
        assert_eq!(page(full).next(Some("b")), None, "the same");
        for end in [
            json!({ "repos": [{}] }),
            json!({ "repos": [{}], "cursor": null }),
            json!({ "repos": [{}], "cursor": "" }),
            json!({ "repos": [], "cursor": "c" }),
        ] {
            assert_eq!(page(end.clone()).next(Some("a")), None, "{end}");
        }
        assert!(serde_json::from_str::<Page>("{}").is_err());
        assert!(serde_json::from_str::<Page>(r#"{"repos":{}}"#).is_err());
    }
}
