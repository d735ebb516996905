//! The routes of backfills.

use super::*;
use crate::backfill::{Failure, Kind, Phase, Progress, Refused, Status, Trouble, Wanted};

const BASIC: &str = "Authorization: Basic YWRtaW46c2VzYW1l\r\n";
const COLLECTIONS: &str = "/admin/backfill-collections";
const ACCOUNTS: &str = "/admin/backfill-accounts";
const CANCEL: &str = "/admin/backfill/cancel";

impl Backfills for Fake {
    fn begin(&self, wanted: &Wanted) -> Result<Status, Refused> {
        if let Err(error) = Health::storage(self) {
            return Err(Refused::Unavailable(error));
        }
        let mut filling = self.filling.lock().unwrap();
        if let Some(status) = filling.as_ref().filter(|s| s.progress.is_running()) {
            let source = status.progress.source.clone();
            return Err(Refused::Running(status.progress.kind, source));
        }
        if let Wanted::Accounts { host: Some(host) } = wanted {
            match self.standing(host) {
                Standing::Known => {}
                Standing::New => return Err(Refused::NoSuchHost),
                Standing::Banned => return Err(Refused::Banned),
            }
        }
        let (kind, items) = match wanted {
            Wanted::Collections { names, .. } => (Kind::Collections, names.len()),
            Wanted::Accounts { .. } => (Kind::Accounts, 1),
        };
        if items == 0 {
            return Err(Refused::Nothing);
        }
        self.wanted.lock().unwrap().push(wanted.clone());
        let status = status(kind);
        *filling = Some(status.clone());
        Ok(status)
    }

    fn status(&self, kind: Kind) -> Option<Status> {
        let filling = self.filling.lock().unwrap().clone();
        filling.filter(|status| status.progress.kind == kind)
    }

    fn cancel(&self) -> Option<Kind> {
        let mut filling = self.filling.lock().unwrap();
        let status = filling.as_mut().filter(|s| s.progress.is_running())?;
        status.progress.phase = Phase::Cancelling;
        Some(status.progress.kind)
    }
}

/// One in the middle of its second list.
fn status(kind: Kind) -> Status {
    Status {
        progress: Progress {
            kind,
            source: Some("https://relay.example.com".to_owned()),
            phase: Phase::Running,
            total: 2,
            completed: 1,
            left_out: 0,
            cursor: None,
            entries: 5,
            anew: false,
            pages: 7,
            imported: 30,
            known: 4,
            skipped: BTreeMap::from([("malformed".to_owned(), 3)]),
            failed: 1,
            failures: vec![Failure {
                item: "com.example.a".to_owned(),
                reason: "status 501".to_owned(),
            }],
            started_ms: 0,
            ended_ms: None,
            trouble: Some(Trouble {
                error: "no answer in time".to_owned(),
                next_try_ms: 1_000,
            }),
        },
        items: Arc::from(["com.example.a".to_owned(), "com.example.b".to_owned()]),
    }
}

fn tell(relay: &Relay, path: &str, body: &str) -> (u16, Value) {
    post(relay.door.address(), path, BASIC, body)
}

fn ask(relay: &Relay, path: &str) -> Value {
    let request = format!("GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{BASIC}\r\n");
    let (status, body) = last_answer(&exchange(relay.door.address(), request.as_bytes()));
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn what_is_to_be_filled_in_is_read_from_query_and_body() {
    let relay = relay();
    relay.fake.known.lock().unwrap().push("pds.test".into());
    let collections = |source: &str, names: &[&str]| Wanted::Collections {
        source: Endpoint::parse(source).unwrap(),
        names: names
            .iter()
            .map(|name| Nsid::parse(name).unwrap())
            .collect(),
    };
    let names = ["a.b.c", "a.b.d"];
    let host = Hostname::parse("pds.test").unwrap();
    for (path, body, wanted) in [
        (
            "/admin/backfill-collections?source=relay.test&collections=a.b.c,a.b.d,",
            "",
            collections("relay.test", &names),
        ),
        (
            COLLECTIONS,
            r#"{"Source":"http://localhost:7/","collections":["a.b.c"," a.b.d "]}"#,
            collections("localhost:7", &names),
        ),
        (ACCOUNTS, "", Wanted::Accounts { host: None }),
        (
            ACCOUNTS,
            r#"{"host":null}"#,
            Wanted::Accounts { host: None },
        ),
        (
            "/admin/backfill-accounts?host=https%3A%2F%2Fpds.test",
            "",
            Wanted::Accounts { host: Some(host) },
        ),
    ] {
        let (status, body) = tell(&relay, path, body);
        assert_eq!(
            (status, &body["running"]),
            (200, &true.into()),
            "{path}: {body}"
        );
        let asked = relay.fake.wanted.lock().unwrap().pop();
        assert_eq!(asked, Some(wanted), "{path}");
        // While it runs there is no other, of whichever kind.
        for other in [
            ACCOUNTS,
            "/admin/backfill-collections?source=a.test&collections=a.b.c",
        ] {
            let (status, body) = tell(&relay, other, "");
            assert_eq!((status, &body["error"]), (409, &"BackfillRunning".into()));
            let message = body["message"].as_str().unwrap();
            assert!(
                message.contains("from https://relay.example.com"),
                "{message}"
            );
        }
        let kind = if path.contains("accounts") {
            "accounts"
        } else {
            "collections"
        };
        let (status, body) = tell(&relay, CANCEL, "");
        assert_eq!(status, 200);
        assert_eq!(body["was_running"], true);
        assert_eq!(body["cancelled"], kind);
        *relay.fake.filling.lock().unwrap() = None;
        let (_, body) = tell(&relay, CANCEL, "");
        assert_eq!(
            body,
            json!({ "success": "true", "was_running": false, "cancelled": null })
        );
    }
    let audited = relay.fake.audited.lock().unwrap();
    let first = &audited[0];
    assert_eq!(
        (first.action.as_str(), first.subject.as_str(), &first.detail),
        (
            "backfill-collections",
            "https://relay.test",
            &json!({ "collections": names })
        )
    );
    assert_eq!(audited.len(), 15, "what was refused is not there");
}

#[test]
fn what_can_not_be_filled_in_is_refused() {
    let relay = relay();
    for (path, body, status) in [
        (COLLECTIONS, "", 400),
        ("/admin/backfill-collections?source=10.0.0.1", "", 400),
        (
            "/admin/backfill-collections?source=https://a.test/path",
            "",
            400,
        ),
        ("/admin/backfill-collections?source=a.test", "", 400),
        (
            "/admin/backfill-collections?source=a.test&collections=a.b",
            "",
            400,
        ),
        (COLLECTIONS, r#"{"source":"a.test","collections":7}"#, 400),
        (
            COLLECTIONS,
            r#"{"source":"a.test","collections":["a.b.c",7]}"#,
            400,
        ),
        (COLLECTIONS, "[]", 400),
        ("/admin/backfill-accounts?host=10.0.0.1", "", 400),
        (ACCOUNTS, r#"{"host":7}"#, 400),
        ("/admin/backfill-accounts?host=a.banned.com", "", 409),
        ("/admin/backfill-accounts?host=unknown.test", "", 404),
    ] {
        let (is, body) = tell(&relay, path, body);
        assert_eq!(is, status, "{path}: {body}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
    assert!(relay.fake.wanted.lock().unwrap().is_empty());
    assert!(relay.fake.audited.lock().unwrap().is_empty());
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    assert_eq!(tell(&relay, ACCOUNTS, "").0, 503);
    for path in [COLLECTIONS, ACCOUNTS, CANCEL] {
        assert_eq!(post(relay.door.address(), path, "", "").0, 401, "{path}");
    }
    assert_eq!(get(relay.door.address(), ACCOUNTS).0, 401);
}

#[test]
fn how_far_a_backfill_is_has_one_form() {
    let relay = relay();
    let names =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let none = [COLLECTIONS, ACCOUNTS].map(|path| ask(&relay, path));
    assert_eq!(none[0]["state"], "none");
    assert_eq!(
        (&none[1]["running"], &none[1]["total"]),
        (&false.into(), &0.into())
    );
    *relay.fake.filling.lock().unwrap() = Some(status(Kind::Collections));
    let page = ask(
        &relay,
        "/admin/backfill-collections?source=relay.example.com",
    );
    assert_eq!(names(&page), names(&none[0]));
    assert_eq!(
        page,
        json!({
            "running": true,
            "state": "waiting",
            "source": "https://relay.example.com",
            "total": 2,
            "completed": 1,
            "in_progress": "com.example.b",
            "total_imported": 30,
            "already_known": 4,
            "skipped": { "malformed": 3 },
            "failed": 1,
            "failures": [{ "collection": "com.example.a", "reason": "status 501" }],
            "left_out": 0,
            "pages": 7,
            "started_at": "1970-01-01T00:00:00.000Z",
            "ended_at": null,
            "last_error": "no answer in time",
            "next_try_at": "1970-01-01T00:00:01.000Z",
        })
    );
    assert_eq!(ask(&relay, ACCOUNTS)["state"], "none");
    let mut ended = status(Kind::Accounts);
    ended.progress.phase = Phase::Done;
    *relay.fake.filling.lock().unwrap() = Some(ended);
    let page = ask(&relay, ACCOUNTS);
    assert_eq!(names(&page), names(&none[1]));
    assert_eq!(page["in_progress"], Value::Null);
    assert_eq!(page["failures"][0]["host"], "com.example.a");
}
