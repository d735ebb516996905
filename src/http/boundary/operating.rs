//! What the operator decides about hosts, and what anybody may know of one.

use super::*;
use crate::{
    control::{
        HostRow, HostStatus,
        settings::{Choice, Setting},
    },
    host::{
        decision::{Change, Place},
        quota::Limits,
        state::State,
    },
    store::account::HostId,
};

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

/// What the operator reads at this path.
fn read(relay: &Relay, path: &str) -> (u16, Value) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{BASIC}\r\n");
    last_answer(&exchange(relay.door.address(), request.as_bytes()))
}

/// A host that is known, and connected or not.
pub(super) fn know(relay: &Relay, id: u32, name: &str, connected: bool) {
    let endpoint = Endpoint::parse(name).unwrap();
    let detail = Detail {
        timeline: crate::host::timeline::Timeline::default(),
        waiting: None,
        row: HostRow::new(HostId(id), &endpoint, Source::Request, 784_111_777_000),
        status: HostStatus::Active,
        state: connected.then_some(State::Connected { at_ms: 1_000 }),
        banned_domain: None,
        cursor: 70,
        accounts: 3,
        account_limit: (id == 1).then_some(100),
        limits: Limits::new([Some(50), Some(2_500), None]),
        trusted: false,
        lenient: false,
        tally: None,
        counted_since_ms: 0,
    };
    relay.fake.details.lock().unwrap().push(detail);
    relay.fake.known.lock().unwrap().push(name.into());
}

#[test]
fn hosts_are_listed_as_the_reference_relay_lists_them() {
    let relay = relay();
    assert_eq!(read(&relay, "/admin/pds/list"), (200, json!([])));
    assert_eq!(
        read(&relay, "/admin/subs/getUpstreamConns"),
        (200, Value::Null)
    );
    know(&relay, 1, "pds.example.com", true);
    know(&relay, 2, "other.example.com", false);
    let (status, hosts) = read(&relay, "/admin/pds/list");
    let expected = json!({
        "ID": 1,
        "CreatedAt": "1994-11-06T08:49:37.000Z",
        "Host": "pds.example.com",
        "SSL": true,
        "Cursor": 70,
        "Registered": true,
        "Blocked": false,
        "CrawlRateLimit": 0,
        "RepoCount": 3,
        "RepoLimit": 100,
        "HasActiveConnection": true,
        "EventsSeenSinceStartup": 0,
        "PerSecondEventRate": { "Max": 50.0, "Window": 1 },
        "PerHourEventRate": { "Max": 2_500.0, "Window": 3_600 },
        "PerDayEventRate": { "Max": -1.0, "Window": 86_400 },
        "UserCount": 3,
        "AccountLimitAlertsSilenced": false,
        "AccountLimitAlertState": "none",
    });
    assert_eq!((status, &hosts[0]), (200, &expected));
    assert_eq!(hosts[1]["PerSecondEventRate"]["Max"], -1.0);
    assert_eq!(hosts[1]["RepoLimit"], -1);
    let connected = json!(["pds.example.com"]);
    assert_eq!(
        read(&relay, "/admin/subs/getUpstreamConns"),
        (200, connected)
    );

    let (_, all) = read(&relay, "/admin/hosts");
    assert_eq!(all["hosts"][1]["hostname"], "other.example.com");
    let (status, one) = read(&relay, "/admin/hosts/detail?host=pds.example.com");
    assert_eq!((status, &one), (200, &all["hosts"][0]));
    assert_eq!(one["own_terms"]["repo_limit"], Value::Null);
    assert_eq!(
        read(&relay, "/admin/hosts/detail?host=x.example.com").0,
        404
    );
    assert_eq!(read(&relay, "/admin/hosts/detail").0, 400);

    // What a sibling says of its alerts is kept, and shown.
    let alert = r#"{"kind":"warning","hostID":1,"hostname":"pds.example.com","accountCount":80,
        "accountLimit":100,"usage":0.8,"sentAt":"2026-01-02T03:04:05Z"}"#;
    assert_eq!(tell(&relay, "/admin/alerts/accountLimitSent", alert).0, 200);
    let silence = r#"{"host":"pds.example.com","account_limit_alerts_silenced":true}"#;
    assert_eq!(tell(&relay, "/admin/pds/changeLimits", silence).0, 200);
    let (_, hosts) = read(&relay, "/admin/pds/list");
    assert_eq!(hosts[0]["AccountLimitAlertState"], "warning");
    assert_eq!(hosts[0]["AccountLimitAlertSentAt"], "2026-01-02T03:04:05Z");
    assert_eq!(hosts[0]["AccountLimitAlertsSilenced"], true);
    for bad in [
        alert.replace("warning", "panic"),
        alert.replace("2026-01-02T", ""),
        alert.replace("pds.example.com", "10.0.0.1"),
    ] {
        assert_eq!(tell(&relay, "/admin/alerts/accountLimitSent", &bad).0, 400);
    }
}

#[test]
fn what_the_reference_relay_can_not_is_decided_too() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", true);
    let host = || Hostname::parse("pds.example.com").unwrap();
    let reset = |to| Decision::Reset { host: host(), to };
    let set = |setting, choice| Decision::Set {
        setting,
        choice: Some(choice),
    };
    let change = Change {
        trusted: Some(None),
        events_per_second: Some(Some(5)),
        events_per_day: Some(None),
        ..Change::default()
    };
    for (path, body, decision) in [
        (
            "/admin/hosts/resetCursor",
            r#"{"host":"pds.example.com","cursor":"oldest"}"#,
            reset(Place::Oldest),
        ),
        (
            "/admin/hosts/resetCursor",
            r#"{"host":"pds.example.com","cursor":"live"}"#,
            reset(Place::Live),
        ),
        (
            "/admin/hosts/resetCursor?host=pds.example.com&cursor=12",
            "",
            reset(Place::After(12)),
        ),
        (
            "/admin/subs/killUpstream?host=pds.example.com",
            "",
            Decision::Disconnect { host: host() },
        ),
        (
            "/admin/subs/killUpstream?host=pds.example.com&block=true",
            "",
            Decision::Ban {
                host: host(),
                banned: true,
            },
        ),
        (
            "/admin/hosts/block",
            r#"{"hostname":"pds.example.com"}"#,
            Decision::Ban {
                host: host(),
                banned: true,
            },
        ),
        (
            "/admin/hosts/changeLimits",
            r#"{"host":"pds.example.com","trusted":null,"events_per_second":5,"events_per_day":null}"#,
            Decision::Change {
                host: host(),
                change,
            },
        ),
        (
            "/admin/subs/setEnabled?enabled=false",
            "",
            set(Setting::RequestCrawl, Choice::Switch(false)),
        ),
        (
            "/admin/subs/setPerDayLimit?limit=7",
            "",
            set(Setting::NewHostsPerDay, Choice::Number(7)),
        ),
        (
            "/admin/settings/change",
            r#"{"host_events_per_second":9}"#,
            set(Setting::HostEventsPerSecond, Choice::Number(9)),
        ),
        (
            "/admin/settings/change",
            r#"{"trusted_domains":null}"#,
            Decision::Set {
                setting: Setting::TrustedDomains,
                choice: None,
            },
        ),
    ] {
        let success = json!({"success": "true"});
        assert_eq!(tell(&relay, path, body), (200, success), "{path} {body}");
        let decided = relay.fake.decided.lock().unwrap().pop();
        assert_eq!(decided, Some(decision), "{path} {body}");
    }
    for (path, body) in [
        ("/admin/hosts/resetCursor", r#"{"host":"pds.example.com"}"#),
        (
            "/admin/hosts/resetCursor",
            r#"{"host":"pds.example.com","cursor":"x"}"#,
        ),
        (
            "/admin/hosts/resetCursor",
            r#"{"host":"pds.example.com","cursor":-1}"#,
        ),
        (
            "/admin/subs/killUpstream?host=pds.example.com",
            r#"{"block":7}"#,
        ),
        (
            "/admin/subs/killUpstream?host=pds.example.com&block=yes",
            "",
        ),
        ("/admin/subs/setEnabled?enabled=maybe", ""),
        ("/admin/subs/setEnabled", ""),
        ("/admin/subs/setPerDayLimit?limit=-1", ""),
        ("/admin/subs/setPerDayLimit?limit=many", ""),
        ("/admin/settings/change", ""),
        ("/admin/settings/change", "[]"),
        ("/admin/settings/change", r#"{"nothing":1}"#),
        (
            "/admin/settings/change",
            r#"{"new_hosts_per_day":1,"request_crawl":1}"#,
        ),
    ] {
        let (status, answer) = tell(&relay, path, body);
        assert_eq!(
            (status, &answer["error"]),
            (400, &"InvalidRequest".into()),
            "{path} {body}"
        );
    }
    assert!(relay.fake.decided.lock().unwrap().is_empty());
    assert_eq!(
        read(&relay, "/admin/subs/getEnabled"),
        (200, json!({"enabled": true}))
    );
    assert_eq!(
        read(&relay, "/admin/subs/perDayLimit"),
        (200, json!({"limit": 50}))
    );
    let (_, settings) = read(&relay, "/admin/settings");
    assert_eq!(settings.as_object().unwrap().len(), Setting::ALL.len());
    assert_eq!(settings["default_account_limit"]["default"], 100);
    assert_eq!(settings["default_account_limit"]["changed"], false);
}

#[test]
fn what_was_done_is_noted_and_what_was_read_or_refused_is_not() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", true);
    let change = r#"{"host":"pds.example.com","repo_limit":5}"#;
    assert_eq!(
        tell(&relay, "/admin/pds/block?host=pds.example.com", "").0,
        200
    );
    let via = format!("{BASIC}Via: 1.1 atproto-relay\r\nX-Forwarded-For: 203.0.113.7\r\n");
    let address = relay.door.address();
    assert_eq!(
        post(address, "/admin/pds/changeLimits", &via, change).0,
        200
    );
    assert_eq!(
        tell(&relay, "/admin/pds/block?host=x.example.com", "").0,
        404
    );
    assert_eq!(post(address, "/admin/pds/changeLimits", "", change).0, 401);
    let crawl = r#"{"hostname":" https://PDS.example.com/ "}"#;
    assert_eq!(tell(&relay, "/admin/pds/requestCrawl", crawl).0, 200);
    let banned = r#"{"hostname":"banned.com"}"#;
    assert_eq!(tell(&relay, "/admin/pds/requestCrawl", banned).0, 403);
    let (status, log) = read(&relay, "/admin/audit");
    assert_eq!(status, 200);
    let entries = log["entries"].as_array().unwrap();
    let brief: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                &entry["id"],
                &entry["actor"],
                &entry["action"],
                &entry["subject"],
            )
        })
        .map(|(id, actor, action, subject)| json!([id, actor, action, subject]))
        .collect();
    assert_eq!(
        brief,
        [
            json!([3, "127.0.0.1", "pds/requestCrawl", "pds.example.com"]),
            json!([
                2,
                "203.0.113.7 via 1.1 atproto-relay",
                "pds/changeLimits",
                "pds.example.com"
            ]),
            json!([1, "127.0.0.1", "pds/block", "pds.example.com"]),
        ]
    );
    assert_eq!(entries[1]["detail"], json!({ "repo_limit": 5 }));
    assert!(!log.to_string().contains("sesame"));
    let (_, first) = read(&relay, "/admin/audit?limit=1");
    assert_eq!(
        (&first["entries"][0]["id"], &first["cursor"]),
        (&3.into(), &"3".into())
    );
    let (_, second) = read(&relay, "/admin/audit?limit=1&cursor=3");
    assert_eq!(second["entries"][0]["id"], 2);
    assert_eq!(read(&relay, "/admin/audit?cursor=x").0, 400);
    assert_eq!(read(&relay, "/admin/audit?limit=501").0, 400);
}

#[test]
fn subscribers_are_listed_with_how_far_they_are_behind() {
    let relay = relay();
    relay.app.metrics.last_seq.set(40);
    let (status, mut list) = read(&relay, "/admin/consumers/list");
    // It grows while this is read.
    assert!(list[0]["lag_seconds"].take().as_u64().unwrap() > 1_000_000_000);
    let expected = json!([{
        "id": 7,
        "remote_addr": "203.0.113.7:1234",
        "user_agent": "jetstream",
        "events_consumed": 5,
        "connected_at": "1970-01-01T00:00:00.000Z",
        "bytes_sent": 600,
        "seq": 0,
        "lag": 40,
        "lag_seconds": null,
    }]);
    assert_eq!((status, list), (200, expected));
    assert_eq!(get(relay.door.address(), "/admin/consumers/list").0, 401);
    relay.app.metrics.last_seq.set(0);
    let (_, list) = read(&relay, "/admin/consumers/list");
    assert_eq!(
        (&list[0]["lag"], &list[0]["lag_seconds"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn a_subscriber_is_sent_away_by_its_number() {
    let relay = relay();
    let path = "/admin/consumers/disconnect";
    assert_eq!(tell(&relay, path, r#"{"id":7}"#).0, 200);
    assert_eq!(tell(&relay, &format!("{path}?id=7"), "").0, 200);
    let (status, answer) = tell(&relay, path, r#"{"id":8}"#);
    assert_eq!(
        (status, &answer["error"]),
        (404, &"SubscriberNotFound".into())
    );
    for wrong in ["", "{}", r#"{"id":-1}"#, r#"{"id":"x"}"#] {
        assert_eq!(tell(&relay, path, wrong).0, 400, "{wrong}");
    }
    assert_eq!(*relay.fake.dismissed.lock().unwrap(), [7, 7, 8]);
    let audited = relay.fake.audited.lock().unwrap();
    assert_eq!(audited.len(), 2);
    assert_eq!(audited[0].subject, "subscriber 7");
}
