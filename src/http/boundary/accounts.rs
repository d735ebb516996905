//! What the operator says of accounts.

use super::*;
use crate::{
    atproto::{cid::Cid, tid::Tid},
    sequencer::event::{Ruled, Ruling},
    store::account::{Account, Listed, Local, Sanction, Seen, Status},
};

const LISTED: &str = "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454";
const LOGIN: &str = "Authorization: Bearer sesame\r\n";

impl Accounts for Fake {
    fn rule(&self, did: &Did, ruling: Ruling) -> Result<Ruled, String> {
        self.storage()?;
        let mut accounts = self.rulings.lock().unwrap();
        let Some(is_down) = accounts.get_mut(did) else {
            return Ok(Ruled::Unknown);
        };
        *is_down = ruling == Ruling::Takedown;
        Ok(Ruled::Holds)
    }

    fn takedowns(&self, after: &str, limit: usize) -> Result<Vec<Did>, String> {
        self.storage()?;
        let accounts = self.rulings.lock().unwrap();
        let down = accounts.iter().filter(|(_, is_down)| **is_down);
        let later = down.filter(|(did, _)| did.as_str() > after);
        Ok(later.take(limit).map(|(did, _)| did.clone()).collect())
    }

    fn account(&self, did: &Did) -> Result<Option<(Account, Option<Hostname>)>, String> {
        self.storage()?;
        let accounts = self.rulings.lock().unwrap();
        Ok(accounts.get(did).map(|is_down| {
            let account = Account {
                ordinal: 3,
                host: HostId(1),
                authority_at: 0,
                upstream: Status::inactive("deactivated"),
                status_heard: true,
                local: Local {
                    sanction: is_down.then_some(Sanction::Takedown),
                    throttled: false,
                },
                head: None,
                listed: Some(Listed {
                    rev: Tid::parse("3jzfcijpj2z2a").unwrap(),
                    commit: Cid::parse(LISTED).unwrap(),
                }),
                seen: Seen { epoch: 0, seq: 9 },
            };
            (account, Hostname::parse("pds.example.com").ok())
        }))
    }

    fn collections(&self, _ordinal: u64) -> Result<usize, String> {
        Ok(2)
    }
}

fn rule(relay: &Relay, path: &str, body: &str) -> (u16, Value) {
    post(relay.door.address(), path, LOGIN, body)
}

/// A page of takedowns.
fn page(relay: &Relay, query: &str) -> (u16, Value) {
    let request = format!(
        "GET /admin/repo/takedowns{query} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{LOGIN}\r\n"
    );
    last_answer(&exchange(relay.door.address(), request.as_bytes()))
}

#[test]
fn takedowns_are_made_taken_back_and_listed() {
    let relay = relay();
    let dids: Vec<String> = (0..5).map(|n| format!("did:web:n{n}.test")).collect();
    for did in &dids {
        let did = Did::parse(did).unwrap();
        relay.fake.rulings.lock().unwrap().insert(did, false);
    }
    assert_eq!(page(&relay, ""), (200, json!({ "dids": [] })));
    for did in &dids {
        let body = json!({ "did": did }).to_string();
        let answer = rule(&relay, "/admin/repo/takeDown", &body);
        assert_eq!(answer, (200, json!({ "success": "true" })));
    }
    let body = json!({ "did": dids[1] }).to_string();
    let answer = rule(&relay, "/admin/repo/reverseTakedown", &body);
    assert_eq!(answer, (200, json!({ "success": "true" })));
    let all = json!({ "dids": [dids[0], dids[2], dids[3], dids[4]] });
    assert_eq!(page(&relay, ""), (200, all.clone()));
    assert_eq!(page(&relay, "?size=4"), (200, all));
    let first = json!({ "dids": [dids[0], dids[2], dids[3]], "cursor": dids[3] });
    assert_eq!(page(&relay, "?size=3"), (200, first));
    let next = format!("?size=3&cursor={}", dids[3].replace(':', "%3A"));
    assert_eq!(page(&relay, &next), (200, json!({ "dids": [dids[4]] })));
}

/// Rule 181: <https://atproto.com/specs/xrpc#authentication>
#[test]
fn only_the_operator_says_something_of_accounts_that_are_known() {
    let relay = relay();
    let body = r#"{"did":"did:web:a.test"}"#;
    let paths = ["/admin/repo/takeDown", "/admin/repo/reverseTakedown"];
    for path in paths {
        let (status, answer) = post(relay.door.address(), path, "", body);
        assert_eq!(
            (status, &answer["error"]),
            (401, &"AuthenticationRequired".into())
        );
        let (status, answer) = rule(&relay, path, body);
        assert_eq!((status, &answer["error"]), (404, &"RepoNotFound".into()));
        for bad in ["", "[]", "{}", r#"{"did":7}"#, r#"{"did":"did:x"}"#] {
            let (status, answer) = rule(&relay, path, bad);
            assert_eq!((status, &answer["error"]), (400, &"InvalidRequest".into()));
        }
        assert_eq!(get(relay.door.address(), path).0, 401);
    }
    assert_eq!(get(relay.door.address(), "/admin/repo/takedowns").0, 401);
    for bad in ["?size=0", "?size=501", "?size=x", "?cursor=%"] {
        assert_eq!(page(&relay, bad).0, 400, "{bad}");
    }
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    for path in paths {
        assert_eq!(rule(&relay, path, body).0, 503);
    }
    assert_eq!(page(&relay, "").0, 503);
}

#[test]
fn the_operator_sees_what_is_known_of_an_account_and_what_is_against_it() {
    let relay = relay();
    let did = Did::parse("did:web:a.test").unwrap();
    relay.fake.rulings.lock().unwrap().insert(did, true);
    let look = |query: &str| {
        let request = format!(
            "GET /admin/repo/lookup{query} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{LOGIN}\r\n"
        );
        last_answer(&exchange(relay.door.address(), request.as_bytes()))
    };
    let (status, account) = look("?did=did%3Aweb%3Aa.test");
    assert_eq!(status, 200);
    let expected = json!({
        "did": "did:web:a.test",
        "host": "pds.example.com",
        "status": { "active": false, "status": "takendown" },
        "upstream": { "active": false, "status": "deactivated" },
        "takendown": true,
        "suspended": false,
        "throttled": false,
        "rev": null,
        "commit": null,
        "data": null,
        "listed": {
            "rev": "3jzfcijpj2z2a",
            "commit": LISTED,
        },
        "last_upstream_seq": 9,
        "number": 3,
    });
    assert_eq!(account, expected);
    assert_eq!(look("?did=did:web:b.test").0, 404);
    assert_eq!(look("?did=x").0, 400);
    assert_eq!(look("").0, 400);
}
