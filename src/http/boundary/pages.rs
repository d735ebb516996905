//! The pages that people see: what is on them, their headers, and what is refused.

use super::*;
use crate::{
    control::HostStatus,
    host::state::State,
    http::hosts::tests::detail,
    http::pages::assets,
    metrics::hosts::{Refusal, Tally},
    reject::Reject,
};

const EVIL: &str = "<script>alert(1)</script>";

/// An answer: its status, its head in lower case, and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| *n == name).map(|(_, v)| v).next()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn send(relay: &Relay, method: &str, target: &str, headers: &str) -> Answer {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: relay.example\r\nConnection: close\r\n{headers}\
         Content-Length: 0\r\n\r\n"
    );
    let text = exchange(relay.door.address(), request.as_bytes());
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

fn browse(relay: &Relay, target: &str) -> Answer {
    send(relay, "GET", target, "Accept: text/html\r\n")
}

/// A relay with a host that fails, two that do not, and a contact.
fn known() -> Relay {
    let flags = [
        "--allow-private-hosts",
        "--name",
        "Relay <of> tests",
        "--contact",
        "ops@example.com",
        "--policy-url",
        "https://example.com/policy",
    ];
    let relay = start(&flags, Bounds::default());
    let host = |name: &str| {
        let mut detail = detail();
        detail.row.name = Hostname::parse(name).unwrap();
        detail
    };
    let tally = Arc::new(Tally::default());
    tally.received.add(10);
    for (reject, seq) in [(Reject::WrongHost, 6), (Reject::RevFuture, 7)] {
        tally.refuse(Refusal::new(reject, "did:web:a.b", seq, now_ms()));
    }
    tally.refuse(Refusal::new(Reject::DidInvalid, EVIL, 8, now_ms()));
    let mut failing = host("failing.example.com");
    failing.status = HostStatus::Offline;
    failing.tally = Some(tally);
    failing.row.observed.last_error = Some(format!("answered {EVIL}"));
    failing.row.observed.failures = 30;
    failing.waiting = Some(742);
    failing.accounts = 100;
    let state = State::Offline {
        why: format!("answered {EVIL}"),
        failures: 30,
        next_ms: now_ms() + 60_000,
    };
    failing.timeline.note(&State::Connected { at_ms: 1 }, 1);
    failing.timeline.note(&state, now_ms());
    failing.state = Some(state);
    let mut details = relay.fake.details.lock().unwrap();
    details.extend([host("a.example.com"), failing, host("b.example.org")]);
    drop(details);
    relay
}

/// What every page has to have, also for who can not see it.
fn check_page(answer: &Answer) {
    let page = &answer.body;
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
    let policy = answer.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!page.contains(EVIL), "{page}");
    for inline in [" style=", "<style", " onclick", "javascript:", "<script>"] {
        assert!(!page.contains(inline), "{inline} in {page}");
    }
    assert_eq!(page.matches("<h1>").count(), 1);
    assert_eq!(page.matches("<main").count(), 1);
    assert_eq!(
        page.matches("<table").count(),
        page.matches("<caption>").count()
    );
    assert!(!page.contains("<th>"), "every head has a scope");
    // What scrolls can be reached by keyboard.
    let scrolling = page.matches("class=\"table\"").count();
    let reached = page
        .matches("class=\"table\" tabindex=\"0\" role=\"region\" aria-label=")
        .count();
    assert_eq!(scrolling, reached);
    let ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    let unique: std::collections::HashSet<&&str> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    // What a label is for, and what a link within the page leads to, is there.
    for (from, end) in [("<label for=\"", '"'), ("href=\"#", '"')] {
        for rest in page.split(from).skip(1) {
            let target = rest.split(end).next().unwrap();
            assert!(ids.contains(&target), "{target} in {ids:?}");
        }
    }
    let live = page.matches(" data-live").count();
    assert!(!page.contains("data-refresh") || live > 0);
}

#[test]
fn every_page_is_whole_safe_and_says_whose_it_is() {
    let relay = known();
    for (target, status) in [
        ("/", 200),
        ("/hosts", 200),
        ("/hosts?q=a&status=offline&sort=rate&order=asc&page=2", 200),
        ("/hosts?page=0", 400),
        ("/hosts?sort=%3Cscript%3E", 400),
        ("/hosts?q=%3Cscript%3Ealert(1)%3C/script%3E", 200),
        ("/hosts/failing.example.com", 200),
        ("/hosts/FAILING.example.com", 200),
        ("/hosts/a.example.com?asked=tried", 200),
        ("/hosts/a.example.com?asked=%3Cscript%3E", 200),
        ("/hosts/unknown.example.com", 404),
        ("/hosts/%3Cscript%3Ealert(1)%3C/script%3E", 404),
        ("/accounts", 200),
        ("/accounts?did=%3Cscript%3Ealert(1)%3C/script%3E", 400),
        ("/accounts?did=alice.example.com", 400),
        ("/accounts?did=%zz", 400),
        ("/accounts/did:web:unknown.example", 404),
        ("/accounts/%3Cscript%3Ealert(1)%3C/script%3E", 400),
        ("/reasons", 200),
        ("/accounts.json", 404),
    ] {
        let answer = browse(&relay, target);
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
        check_page(&answer);
        let contact = "<a href=\"mailto:ops@example.com\">ops@example.com</a>";
        for part in [
            contact,
            "Relay &lt;of&gt; tests",
            "https://example.com/policy",
        ] {
            assert!(answer.body.contains(part), "{target}: {part}");
        }
        let head = send(&relay, "HEAD", target, "Accept: text/html\r\n");
        assert_eq!((head.status, head.body.as_str()), (status, ""), "{target}");
        let post = send(&relay, "POST", target, "");
        assert_eq!(post.status, 405, "{target}");
    }
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    for target in ["/hosts/a.example.com", "/accounts/did:web:a.b"] {
        let answer = browse(&relay, target);
        assert_eq!(answer.status, 500, "{target}");
        assert!(!answer.body.contains("disk on fire"), "that is for the log");
        check_page(&answer);
    }
}

#[test]
fn a_terminal_gets_the_address_of_the_firehose() {
    let relay = known();
    let text = send(&relay, "GET", "/", "Accept: */*\r\n");
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(text.header("vary"), Some("accept"));
    assert_eq!(browse(&relay, "/").header("vary"), Some("accept"));
    for line in [
        "firehose  ws://relay.example/xrpc/com.atproto.sync.subscribeRepos\n",
        "contact   ops@example.com\n",
        "policy    https://example.com/policy\n",
        "status    /status.json\n",
    ] {
        assert!(text.body.contains(line), "{line} in {}", text.body);
    }
    let secure = send(&relay, "GET", "/", "X-Forwarded-Proto: https\r\n");
    assert!(
        secure.body.contains("firehose  wss://relay.example/"),
        "{}",
        secure.body
    );
    // A name that is none is not repeated.
    let request = b"GET / HTTP/1.1\r\nHost: <b>\r\nConnection: close\r\n\r\n";
    let text = exchange(relay.door.address(), request);
    assert!(!text.contains("<b>"), "{text}");
}

#[test]
fn the_state_is_there_for_programs() {
    let relay = known();
    let status = browse(&relay, "/status.json").json();
    assert_eq!(status["hosts"], json!({ "active": 2, "offline": 1 }));
    assert_eq!(status["contact"], "mailto:ops@example.com");
    assert_eq!(status["delay_seconds"], json!({ "p50": null, "p99": null }));
    assert_eq!(status["history"]["interval_seconds"], 2);
    relay.app.metrics.subscribers.set(77);
    let again = browse(&relay, "/status.json").json();
    let (then, now) = (&status["subscribers"], &again["subscribers"]);
    assert!(
        now == then || *now == 77,
        "shared for a while, then anew: {now}"
    );
}

#[test]
fn hosts_are_listed_as_they_are_asked_for() {
    let relay = known();
    let list = |query: &str| {
        let answer = browse(&relay, &format!("/hosts.json{query}"));
        let value = answer.json();
        let names = value["hosts"].as_array().map(|hosts| {
            let names = hosts.iter().map(|host| host["hostname"].as_str().unwrap());
            names.map(str::to_owned).collect::<Vec<_>>()
        });
        (answer.status, names.unwrap_or_default(), value)
    };
    let (status, names, value) = list("");
    let all = ["a.example.com", "b.example.org", "failing.example.com"];
    assert_eq!((status, names), (200, all.map(str::to_owned).into()));
    assert_eq!((&value["total"], &value["pages"]), (&3.into(), &1.into()));
    assert_eq!(list("?q=EXAMPLE.COM").1.len(), 2);
    assert_eq!(list("?show=failing").1, ["failing.example.com"]);
    assert_eq!(list("?sort=rejected").1[0], "failing.example.com");
    assert_eq!(list("?page=2").1.len(), 0);
    let (status, _, error) = list("?status=fine");
    assert_eq!((status, &error["error"]), (400, &"InvalidRequest".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("active, idle, offline"), "{message}");
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    let page = browse(&relay, "/hosts?q=b.");
    assert!(
        page.body.contains("href=\"/hosts/b.example.org\""),
        "{}",
        page.body
    );
}

#[test]
fn the_page_of_a_host_says_why_it_is_not_heard() {
    let relay = known();
    let page = browse(&relay, "/hosts/failing.example.com").body;
    for part in [
        "742 accounts are not heard",
        "The relay can not connect",
        "answered &lt;script&gt;",
        "action=\"/hosts/failing.example.com/retry\"",
        "href=\"/reasons#wrong_host\"",
        "href=\"/accounts/did:web:a.b\"",
        "Many of its events are not forwarded",
        "seq 7",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let value = browse(&relay, "/hosts/failing.example.com.json").json();
    assert_eq!(value["accounts_waiting"], 742);
    assert_eq!(value["timeline"].as_array().unwrap().len(), 2);
    assert_eq!(value["events"]["rejected"]["rev_future"]["last"]["seq"], 7);
    let unknown = browse(&relay, "/hosts/unknown.example.com").body;
    assert!(
        unknown.contains("com.atproto.sync.requestCrawl"),
        "{unknown}"
    );
}

#[test]
fn a_host_is_tried_again_when_its_own_page_asks() {
    let relay = known();
    let name = "failing.example.com";
    relay.fake.known.lock().unwrap().push(name.into());
    let path = format!("/hosts/{name}/retry");
    let ask = |headers: &str| send(&relay, "POST", &path, headers);
    for foreign in [
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://relay.example\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
    ] {
        assert_eq!(ask(foreign).status, 403, "{foreign}");
    }
    assert!(relay.fake.crawled.lock().unwrap().is_empty());
    for own in [
        "Sec-Fetch-Site: same-origin\r\n",
        "Origin: http://relay.example\r\n",
        "",
    ] {
        let answer = ask(own);
        assert_eq!(answer.status, 303, "{own}");
        let location = format!("/hosts/{name}?asked=tried");
        assert_eq!(answer.header("location"), Some(location.as_str()));
        assert!(
            browse(&relay, &location)
                .body
                .contains("role=\"status\"><p>The relay tries")
        );
    }
    assert_eq!(relay.fake.crawled.lock().unwrap().len(), 3);
    let outcomes: Vec<bool> = (0..12)
        .map(|_| ask("X-Forwarded-For: 203.0.113.9\r\n"))
        .map(|answer| answer.header("location").unwrap().ends_with("too_often"))
        .collect();
    assert_eq!(outcomes, [&[false; 10][..], &[true; 2]].concat());
    assert_eq!(send(&relay, "GET", &path, "").status, 405);
    let unknown = send(&relay, "POST", "/hosts/unknown.example.com/retry", "");
    assert_eq!(unknown.status, 404);
    assert_eq!(relay.fake.crawled.lock().unwrap().len(), 13);
}

#[test]
fn the_page_of_an_account_says_why_it_is_not_heard() {
    let relay = known();
    let did = "did:web:alice.example";
    let parsed = Did::parse(did).unwrap();
    relay
        .fake
        .rulings
        .lock()
        .unwrap()
        .insert(parsed.clone(), false);
    let page = browse(&relay, &format!("/accounts/{did}")).body;
    assert!(
        page.contains("Its owner has deactivated it, its host says."),
        "{page}"
    );
    assert!(page.contains("None is remembered"), "{page}");
    let refusal = Refusal::new(Reject::SignatureInvalid, did, 9, now_ms());
    let metrics = &relay.app.metrics;
    metrics.refuse(HostId(1), &Tally::default(), refusal);
    relay.fake.rulings.lock().unwrap().insert(parsed, true);
    let answer = browse(&relay, &format!("/accounts/{}", did.replace(':', "%3A")));
    check_page(&answer);
    let page = answer.body;
    assert!(page.contains("has taken the account down"), "{page}");
    assert!(
        page.contains("href=\"/reasons#signature_invalid\""),
        "{page}"
    );
    let value = browse(&relay, &format!("/accounts/{did}.json")).json();
    assert_eq!(
        value["here"],
        json!({ "active": false, "status": "takendown" })
    );
    assert_eq!(value["upstream"]["status"], "deactivated");
    assert_eq!(value["last_rejected"]["reason"], "signature_invalid");
    assert_eq!(value["collections"], 2);
    // Of one that is not known it is said, too.
    let stranger = "did:web:bob.example";
    metrics.refuse(
        HostId(1),
        &Tally::default(),
        Refusal::new(Reject::IdentityNotFound, stranger, 9, now_ms()),
    );
    let answer = browse(&relay, &format!("/accounts/{stranger}"));
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("identity_not_found"));
    let answer = browse(&relay, &format!("/accounts/{stranger}.json"));
    let value = answer.json();
    assert_eq!(
        (answer.status, &value["error"]),
        (404, &"RepoNotFound".into())
    );
    assert_eq!(value["last_rejected"]["reason"], "identity_not_found");
    assert_eq!(browse(&relay, "/accounts/alice.json").status, 400);
    let form = browse(&relay, &format!("/accounts?did=%20{did}"));
    let location = format!("/accounts/{did}");
    assert_eq!(
        (form.status, form.header("location")),
        (303, Some(location.as_str()))
    );
}

#[test]
fn every_reason_has_its_anchor() {
    let relay = known();
    let page = browse(&relay, "/reasons").body;
    let reasons = browse(&relay, "/reasons.json").json();
    assert_eq!(
        reasons["reasons"].as_array().unwrap().len(),
        Reject::ALL.len()
    );
    for reject in Reject::ALL {
        assert!(page.contains(&format!(" id=\"{reject}\"")), "{reject}");
        assert!(page.contains(reject.rule()), "{reject}");
    }
}

#[test]
fn style_and_script_are_kept_by_the_browser_until_they_change() {
    let relay = known();
    for asset in [&assets::STYLE, &assets::SCRIPT, &assets::ICON] {
        let address = asset.address();
        assert!(browse(&relay, "/").body.contains(&address), "{address}");
        let answer = browse(&relay, &address);
        assert_eq!(answer.status, 200);
        let forever = Some("public, max-age=31536000, immutable");
        assert_eq!(answer.header("cache-control"), forever);
        let tag = answer.header("etag").unwrap();
        let again = send(
            &relay,
            "GET",
            &address,
            &format!("If-None-Match: {tag}\r\n"),
        );
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        assert_eq!(again.header("content-length"), None);
        let plain = browse(&relay, address.split('?').next().unwrap());
        assert_eq!(plain.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(send(&relay, "POST", &address, "").status, 405);
    }
    assert_eq!(browse(&relay, "/assets/other.css").status, 404);
    assert_eq!(browse(&relay, "/assets/../src/main.rs").status, 404);
}
