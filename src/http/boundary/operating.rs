//! What the operator decides about hosts, and what anybody may know of one.

use super::*;
use crate::host::decision::Change;

const BASIC: &str = "Authorization: Basic YWRtaW46c2VzYW1l\r\n";

fn tell(relay: &Relay, path: &str, body: &str) -> (u16, Value) {
    post(relay.door.address(), path, BASIC, body)
}

#[test]
fn the_operators_decisions_are_read_as_the_reference_relay_reads_them() {
    let relay = relay();
    relay
        .fake
        .known
        .lock()
        .unwrap()
        .push("pds.example.com".into());
    let host = || Hostname::parse("pds.example.com").unwrap();
    let domain = || Domain::parse("example.com").unwrap();
    let change = |accounts, lenient| Decision::Change {
        host: host(),
        change: Change {
            accounts,
            lenient,
            ..Change::default()
        },
    };
    for (path, body, decision) in [
        (
            "/admin/pds/block?host=pds.example.com",
            "",
            Decision::Ban {
                host: host(),
                banned: true,
            },
        ),
        (
            "/admin/pds/unblock?host=https%3A%2F%2FPDS.example.com",
            "{}",
            Decision::Ban {
                host: host(),
                banned: false,
            },
        ),
        (
            "/admin/subs/banDomain",
            r#"{"Domain":" Example.COM "}"#,
            Decision::BanDomain {
                domain: domain(),
                banned: true,
            },
        ),
        (
            "/admin/subs/unbanDomain",
            r#"{"domain":"example.com"}"#,
            Decision::BanDomain {
                domain: domain(),
                banned: false,
            },
        ),
        (
            "/admin/pds/changeLimits",
            r#"{"host":"pds.example.com","repo_limit":1000}"#,
            change(Some(Some(1_000)), None),
        ),
        (
            "/admin/pds/changeLimits",
            r#"{"host":"pds.example.com","repo_limit":null,"lenient":true,"x":[]}"#,
            change(Some(None), Some(true)),
        ),
    ] {
        let success = serde_json::json!({"success": "true"});
        assert_eq!(tell(&relay, path, body), (200, success), "{path} {body}");
        let decided = relay.fake.decided.lock().unwrap().pop();
        assert_eq!(decided, Some(decision), "{path} {body}");
    }
    let address = relay.door.address();
    let request = format!(
        "GET /admin/subs/listDomainBans HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{BASIC}\r\n"
    );
    let (status, bans) = last_answer(&exchange(address, request.as_bytes()));
    assert_eq!(status, 200);
    assert_eq!(
        bans,
        serde_json::json!({"banned_domains": ["a.com", "b.com"]})
    );
}

#[test]
fn what_is_no_decision_is_refused_and_changes_nothing() {
    let relay = relay();
    let limits = "/admin/pds/changeLimits";
    for (path, body) in [
        ("/admin/pds/block", ""),
        ("/admin/pds/block?host=", ""),
        ("/admin/pds/block?host=10.0.0.1", ""),
        ("/admin/pds/unblock?host=%zz", ""),
        ("/admin/subs/banDomain", ""),
        ("/admin/subs/banDomain", "[]"),
        ("/admin/subs/banDomain", "{}"),
        ("/admin/subs/banDomain", r#"{"Domain":7}"#),
        ("/admin/subs/banDomain", r#"{"Domain":""}"#),
        ("/admin/subs/banDomain", r#"{"Domain":"com"}"#),
        ("/admin/subs/unbanDomain", r#"{"Domain":"a.com:443"}"#),
        (limits, r#"{"repo_limit":1}"#),
        (limits, r#"{"host":"pds.example.com"}"#),
        (limits, r#"{"host":"pds.example.com","repo_limit":-1}"#),
        (limits, r#"{"host":"pds.example.com","repo_limit":"1"}"#),
        (limits, r#"{"host":"pds.example.com","lenient":"yes"}"#),
    ] {
        let (status, answer) = tell(&relay, path, body);
        let error = answer["error"].as_str().unwrap();
        assert_eq!((status, error), (400, "InvalidRequest"), "{path} {body}");
    }
    for (path, body) in [
        ("/admin/pds/block?host=pds.example.com", ""),
        (limits, r#"{"host":"pds.example.com","repo_limit":1}"#),
    ] {
        let (status, answer) = tell(&relay, path, body);
        let error = answer["error"].as_str().unwrap();
        assert_eq!((status, error), (404, "HostNotFound"), "{path}");
        assert_eq!(post(relay.door.address(), path, "", body).0, 401);
        assert_eq!(get(relay.door.address(), path).0, 401);
    }
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    let (status, answer) = tell(&relay, "/admin/subs/banDomain", r#"{"Domain":"a.com"}"#);
    let error = answer["error"].as_str().unwrap();
    assert_eq!((status, error), (503, "InternalServerError"));
    assert!(relay.fake.decided.lock().unwrap().is_empty());
}

#[test]
fn a_host_that_is_not_known_has_no_page() {
    let relay = relay();
    let address = relay.door.address();
    for path in [
        "/hosts/pds.example.com.json",
        "/hosts/localhost%3A2583.json",
        "/hosts/10.0.0.1.json",
        "/hosts/.json",
        "/hosts/%zz.json",
        "/hosts/pds.example.com",
    ] {
        let (status, answer) = get(address, path);
        assert_eq!(
            (status, &answer["error"]),
            (404, &"HostNotFound".into()),
            "{path}"
        );
    }
    let (status, _) = post(address, "/hosts/pds.example.com.json", "", "");
    assert_eq!(status, 405);
}
