//! The operator's page: who is let in, what a form does, and what no other page in his browser can.

use super::{operating::know, *};
use crate::{
    backfill::Wanted,
    control::settings::{Choice, Setting},
    host::decision::{Change, Place},
    limits::ADMIN_FAILURES_MAX,
    sequencer::event::Ruling,
};

/// What a browser says of a page of the relay's own.
const OWN: &str = "Origin: http://r\r\nSec-Fetch-Site: same-origin\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
/// Every page of the operator.
const PAGES: [&str; 11] = [
    "/admin",
    "/admin/",
    "/admin/console/hosts",
    "/admin/console/host?host=pds.example.com",
    "/admin/console/bans",
    "/admin/console/takedowns",
    "/admin/console/subscribers",
    "/admin/console/settings",
    "/admin/console/backfill",
    "/admin/console/audit",
    "/admin/console/confirm?act=pds/block&host=pds.example.com",
];

/// An answer as it is: status, head, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut named = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value)
    }
}

fn ask(relay: &Relay, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let text = exchange(relay.door.address(), request.as_bytes());
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// A browser that is logged in.
struct Browser<'a> {
    relay: &'a Relay,
    cookie: String,
    token: String,
}

impl<'a> Browser<'a> {
    fn log_in(relay: &'a Relay) -> Browser<'a> {
        let answer = ask(relay, "POST", "/admin/login", OWN, "password=sesame");
        assert_eq!(answer.status, 303, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap();
        let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
        let mut browser = Browser {
            relay,
            cookie,
            token: String::new(),
        };
        let page = browser.get("/admin");
        assert_eq!(page.status, 200);
        let token = page.body.split("name=\"token\" value=\"").nth(1).unwrap();
        browser.token = token.split('"').next().unwrap().to_owned();
        browser
    }

    fn get(&self, path: &str) -> Answer {
        ask(
            self.relay,
            "GET",
            path,
            &format!("{OWN}{}", self.cookie),
            "",
        )
    }

    /// Sends a form as a page of the relay's own does.
    fn send(&self, fields: &str) -> Answer {
        let body = format!("token={}&{fields}", self.token);
        let headers = format!("{OWN}{FORM}{}", self.cookie);
        ask(self.relay, "POST", "/admin/console/act", &headers, &body)
    }

    /// The same, which must be carried out; what the next page says of it.
    fn does(&self, fields: &str) -> String {
        let answer = self.send(fields);
        assert_eq!(answer.status, 303, "{fields}: {}", answer.body);
        let page = self.get(
            answer
                .header("location")
                .unwrap()
                .split('#')
                .next()
                .unwrap(),
        );
        assert_eq!(page.status, 200, "{fields}");
        let notice = page
            .body
            .split("<p class=\"notice good\" role=\"status\">")
            .nth(1);
        let notice = notice.unwrap_or_else(|| panic!("no word of {fields}"));
        notice.split("</p>").next().unwrap().to_owned()
    }
}

#[test]
fn the_password_gives_a_cookie_that_opens_the_pages_until_the_log_out() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", true);
    let form = ask(&relay, "GET", "/admin", "", "");
    assert_eq!(form.status, 200);
    assert!(form.body.contains("type=\"password\""), "{}", form.body);
    assert_eq!(form.header("set-cookie"), None);
    let look = ask(&relay, "GET", "/admin", "Accept: text/html\r\n", "");
    assert_eq!(
        look.status, 401,
        "a page that looks again learns that it is out"
    );
    let answer = ask(
        &relay,
        "POST",
        "/admin/login",
        OWN,
        "password=sesame&next=/admin/console/bans",
    );
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), Some("/admin/console/bans"));
    let cookie = answer.header("set-cookie").unwrap();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(value.len(), "zlay_admin=".len() + 64);
    assert_eq!(
        attributes,
        "Path=/admin; Max-Age=43200; HttpOnly; SameSite=Strict"
    );
    let proxied = format!("{OWN}X-Forwarded-Proto: https\r\n");
    let answer = ask(&relay, "POST", "/admin/login", &proxied, "password=sesame");
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));

    let browser = Browser::log_in(&relay);
    for path in PAGES {
        let page = browser.get(path);
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(page.body.contains("Log out"), "{path}");
        assert!(!page.body.contains(value) && !page.body.contains(&browser.cookie[8..40]));
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "same-origin"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(page.header(name), Some(value), "{path}");
        }
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        let out = ask(&relay, "GET", path, "", "");
        let expected = if path.starts_with("/admin/console") {
            401
        } else {
            200
        };
        assert_eq!(out.status, expected, "{path}");
        assert!(out.body.contains("type=\"password\"") && !out.body.contains("Log out"));
    }
    let body = format!("token={}", browser.token);
    let headers = format!("{OWN}{}", browser.cookie);
    let answer = ask(&relay, "POST", "/admin/logout", &headers, &body);
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/admin"))
    );
    assert!(
        answer
            .header("set-cookie")
            .unwrap()
            .starts_with("zlay_admin=; Path=/admin; Max-Age=0")
    );
    assert_eq!(browser.get("/admin/console/hosts").status, 401);
    let api = browser.get("/admin/pds/list");
    assert_eq!((api.status, api.header("www-authenticate")), (401, None));
    let audited = relay.fake.audited.lock().unwrap();
    let acts: Vec<&str> = audited.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(acts, ["login", "login", "login", "logout"]);
}

#[test]
fn guesses_count_wherever_they_are_made_and_do_not_throw_anybody_out() {
    let relay = relay();
    let browser = Browser::log_in(&relay);
    let guess = |n: u32| match n % 2 {
        0 => ask(&relay, "POST", "/admin/login", OWN, "password=guess").status,
        _ => {
            ask(
                &relay,
                "GET",
                "/admin/pds/list",
                "Authorization: Bearer no\r\n",
                "",
            )
            .status
        }
    };
    for n in 0..ADMIN_FAILURES_MAX {
        assert_eq!(guess(n), 401);
    }
    let answer = ask(&relay, "POST", "/admin/login", OWN, "password=sesame");
    assert_eq!((answer.status, answer.header("set-cookie")), (429, None));
    assert!(answer.header("retry-after").is_some());
    assert!(
        answer.body.contains("Too many wrong passwords"),
        "{}",
        answer.body
    );
    assert_eq!(browser.get("/admin/console/audit").status, 200);
    assert_eq!(browser.get("/admin/pds/list").status, 200);
}

#[test]
fn without_a_password_the_page_says_so() {
    let fake = Arc::new(Fake::default());
    let app = app(&fake, &[], false);
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let door = FrontDoor::start(listener, Arc::clone(&app), Bounds::default()).unwrap();
    let relay = Relay { fake, app, door };
    for (method, path) in [
        ("GET", "/admin"),
        ("GET", "/admin/console/hosts"),
        ("POST", "/admin/login"),
    ] {
        let answer = ask(&relay, method, path, OWN, "password=");
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.body.contains("RELAY_ADMIN_PASSWORD"), "{path}");
        assert_eq!(answer.header("set-cookie"), None);
    }
}

/// The paths of the table of the admin API that change something.
fn writes() -> Vec<String> {
    let table = include_str!("../admin/mod.rs");
    let table = table.split("fn act(").nth(1).unwrap();
    let table = table.split("=> return").next().unwrap();
    let routes = table.lines().filter(|line| !line.contains("=> Read("));
    let names = routes.flat_map(|line| line.split('"').skip(1).step_by(2));
    names.map(|name| format!("/admin/{name}")).collect()
}

#[test]
fn no_other_page_in_the_browser_changes_anything() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", true);
    let browser = Browser::log_in(&relay);
    let before = relay.fake.audited.lock().unwrap().len();
    let writes = writes();
    assert!(writes.len() > 20, "{writes:?}");
    let (cookie, token) = (&browser.cookie, &browser.token);
    let header = format!("X-Zlay-Token: {token}\r\n");
    let body = r#"{"host":"pds.example.com","hostname":"pds.example.com","domain":"a.b","id":7}"#;
    for path in &writes {
        for (headers, why) in [
            (
                format!("{cookie}{header}Sec-Fetch-Site: cross-site\r\n"),
                "cross-site",
            ),
            (
                format!("{cookie}{header}Sec-Fetch-Site: same-site\r\n"),
                "same-site",
            ),
            (
                format!("{cookie}{header}Origin: https://evil.test\r\n"),
                "other origin",
            ),
            (format!("{cookie}{header}Origin: null\r\n"), "no origin"),
            (format!("{cookie}{OWN}"), "no token"),
            (
                format!("{cookie}{OWN}X-Zlay-Token: {}\r\n", "0".repeat(64)),
                "wrong token",
            ),
            (
                "Authorization: Bearer sesame\r\nSec-Fetch-Site: cross-site\r\n".into(),
                "password",
            ),
        ] {
            let answer = ask(&relay, "POST", path, &headers, body);
            assert_eq!(answer.status, 403, "{path}, {why}: {}", answer.body);
        }
    }
    let form = format!("token={token}&act=pds/unblock&host=pds.example.com");
    for path in ["/admin/console/act", "/admin/logout", "/admin/login"] {
        for from in [
            "Sec-Fetch-Site: cross-site\r\n",
            "Origin: https://evil.test\r\n",
        ] {
            let answer = ask(&relay, "POST", path, &format!("{cookie}{from}"), &form);
            assert_eq!(answer.status, 403, "{path} {from}");
        }
    }
    for path in ["/admin/console/act", "/admin/logout"] {
        for wrong in [
            "",
            "token=&",
            "token=0&",
            &format!("token={}&", &token[..63]),
        ] {
            let form = format!("{wrong}act=pds/unblock&host=pds.example.com");
            let answer = ask(&relay, "POST", path, &format!("{cookie}{OWN}"), &form);
            assert_eq!(answer.status, 403, "{path} {wrong}");
        }
    }
    assert!(relay.fake.decided.lock().unwrap().is_empty());
    assert_eq!(relay.fake.audited.lock().unwrap().len(), before);
    assert_eq!(browser.get("/admin").status, 200, "still logged in");
    // A script of the page says the token, and is heard.
    let headers = format!("{cookie}{OWN}{header}");
    let answer = ask(&relay, "POST", "/admin/pds/block", &headers, body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let audited = relay.fake.audited.lock().unwrap();
    assert_eq!(audited.last().unwrap().actor, "127.0.0.1, operator page");
}

#[test]
fn no_other_page_reads_what_the_cookie_opens() {
    let relay = relay();
    let browser = Browser::log_in(&relay);
    let own = browser.get("/admin/consumers/list");
    assert_eq!(own.status, 200);
    assert_eq!(own.header("cache-control"), Some("no-store"));
    for from in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.test\r\n",
    ] {
        let headers = format!("{}{from}", browser.cookie);
        let answer = ask(&relay, "GET", "/admin/consumers/list", &headers, "");
        assert_eq!(answer.status, 403, "{from}");
        assert!(!answer.body.contains("203.0.113.7"), "{}", answer.body);
    }
    for path in ["/admin", "/admin/consumers/list", "/admin/pds/block"] {
        let from = format!(
            "{}Origin: https://evil.test\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: x-zlay-token\r\n",
            browser.cookie
        );
        for method in ["OPTIONS", "GET"] {
            let answer = ask(&relay, method, path, &from, "");
            // With this, and without leave to show credentials, a browser keeps the answer to itself.
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            assert_eq!(answer.header("access-control-allow-credentials"), None);
            let allowed = answer
                .header("access-control-allow-headers")
                .unwrap_or_default();
            assert!(!allowed.to_ascii_lowercase().contains("token"), "{allowed}");
        }
    }
}

#[test]
fn a_form_does_what_the_api_does_and_asks_first_where_it_can_do_harm() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", true);
    let did = Did::parse("did:web:a.example.com").unwrap();
    relay
        .fake
        .rulings
        .lock()
        .unwrap()
        .insert(did.clone(), false);
    let browser = Browser::log_in(&relay);
    let host = || Hostname::parse("pds.example.com").unwrap();
    let domain = || Domain::parse("example.com").unwrap();
    let ban = |banned| Decision::Ban {
        host: host(),
        banned,
    };
    let reset = |to| Decision::Reset { host: host(), to };
    let set = |setting, choice| Decision::Set { setting, choice };
    let change = Change {
        trusted: Some(Some(true)),
        accounts: Some(Some(1_500)),
        ..Change::default()
    };
    let of = "host=pds.example.com";
    for (fields, asks, decision, path) in [
        (format!("act=pds/block&{of}"), true, ban(true), "pds/block"),
        (
            format!("act=pds/unblock&{of}"),
            false,
            ban(false),
            "pds/unblock",
        ),
        (
            format!("act=subs/killUpstream&{of}"),
            true,
            Decision::Disconnect { host: host() },
            "subs/killUpstream",
        ),
        (
            "act=subs/banDomain&domain=+Example.com".into(),
            true,
            Decision::BanDomain {
                domain: domain(),
                banned: true,
            },
            "subs/banDomain",
        ),
        (
            "act=subs/unbanDomain&domain=example.com".into(),
            false,
            Decision::BanDomain {
                domain: domain(),
                banned: false,
            },
            "subs/unbanDomain",
        ),
        (
            format!("act=hosts/resetCursor&{of}&to=oldest&seq="),
            true,
            reset(Place::Oldest),
            "hosts/resetCursor",
        ),
        (
            format!("act=hosts/resetCursor&{of}&to=live"),
            true,
            reset(Place::Live),
            "hosts/resetCursor",
        ),
        (
            format!("act=hosts/resetCursor&{of}&to=after&seq=1,234"),
            true,
            reset(Place::After(1_234)),
            "hosts/resetCursor",
        ),
        (
            format!(
                "act=pds/changeLimits&{of}&repo_limit=1500&events_per_second=&events_per_hour=&events_per_day=&trusted=yes&lenient=no"
            ),
            false,
            Decision::Change {
                host: host(),
                change,
            },
            "pds/changeLimits",
        ),
        (
            "act=settings/change&setting=new_hosts_per_day&value=7".into(),
            false,
            set(Setting::NewHostsPerDay, Some(Choice::Number(7))),
            "settings/change",
        ),
        (
            "act=settings/change&setting=request_crawl&value=no".into(),
            false,
            set(Setting::RequestCrawl, Some(Choice::Switch(false))),
            "settings/change",
        ),
        (
            "act=settings/change&setting=trusted_domains&value=*.a.com%0D%0Ab.com".into(),
            false,
            set(
                Setting::TrustedDomains,
                Some(Choice::Domains(vec!["*.a.com".into(), "b.com".into()])),
            ),
            "settings/change",
        ),
        (
            "act=settings/change&setting=catch_up_hours&reset=yes".into(),
            false,
            set(Setting::CatchUpHours, None),
            "settings/change",
        ),
    ] {
        if asks {
            let answer = browser.send(&fields);
            assert_eq!(answer.status, 200, "{fields}");
            assert!(
                answer.body.contains("name=\"sure\" value=\"yes\""),
                "{fields}"
            );
            let asked = browser.get(&format!("/admin/console/confirm?{fields}"));
            assert_eq!(asked.status, 200, "{fields}: {}", asked.body);
            assert!(
                asked.body.contains("name=\"sure\" value=\"yes\""),
                "{fields}"
            );
            assert!(relay.fake.decided.lock().unwrap().is_empty(), "{fields}");
        }
        let said = browser.does(&format!("{fields}&sure=yes"));
        assert!(!said.is_empty());
        let decided = relay.fake.decided.lock().unwrap().pop();
        assert_eq!(decided, Some(decision), "{fields}");
        let audited = relay.fake.audited.lock().unwrap().pop().unwrap();
        assert_eq!(audited.action, path, "{fields}");
        assert_eq!(audited.actor, "127.0.0.1, operator page");
    }
    for fields in [
        "act=backfill-accounts&host=",
        "act=backfill/cancel&sure=yes",
        "act=backfill-collections&source=relay.test&collections=a.b.c%0D%0Aa.b.d",
    ] {
        *relay.fake.filling.lock().unwrap() = None;
        assert!(browser.does(fields).contains("backfill"), "{fields}");
    }
    let answer = browser.send("act=backfill-accounts&host=pds.example.com");
    assert_eq!(answer.status, 409);
    assert!(
        answer.body.contains("There is one at a time"),
        "{}",
        answer.body
    );
    assert!(
        browser
            .get("/admin/console/backfill")
            .body
            .contains("End it")
    );
    assert_eq!(browser.send("act=backfill/cancel").status, 200);
    let wanted = relay.fake.wanted.lock().unwrap();
    assert_eq!(wanted[0], Wanted::Accounts { host: None });
    let names = ["a.b.c", "a.b.d"].map(|name| Nsid::parse(name).unwrap());
    let source = Endpoint::parse("relay.test").unwrap();
    let names = names.to_vec();
    assert_eq!(wanted[1..], [Wanted::Collections { source, names }]);
    for (act, ruling) in [
        ("repo/takeDown", Ruling::Takedown),
        ("repo/reverseTakedown", Ruling::Reversal),
    ] {
        let said = browser.does(&format!("act={act}&did={did}&sure=yes"));
        assert!(said.starts_with("did:web:a.example.com is "), "{said}");
        let is_down = ruling == Ruling::Takedown;
        assert_eq!(relay.fake.rulings.lock().unwrap()[&did], is_down);
    }
    let crawl = "act=pds/requestCrawl&hostname=https://pds.example.com";
    assert!(browser.does(crawl).starts_with("pds.example.com: "));
    assert_eq!(browser.send("act=consumers/disconnect&id=7").status, 200);
    browser.does("act=consumers/disconnect&id=7&sure=yes");
    assert_eq!(*relay.fake.dismissed.lock().unwrap(), [7]);
}

#[test]
fn what_fails_is_told_in_words_with_what_to_do() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", true);
    let browser = Browser::log_in(&relay);
    for (fields, status, words) in [
        (
            "act=pds/block&host=x.example.com&sure=yes",
            404,
            "knows no such host",
        ),
        ("act=pds/block&host=10.0.0.1&sure=yes", 400, "host is"),
        ("act=pds/block", 400, "host is missing"),
        ("act=nothing", 400, "nothing that is known"),
        ("act=subs/banDomain&domain=com", 400, "Domain is"),
        ("act=repo/takeDown&did=x", 400, "did is not a DID"),
        (
            "act=repo/takeDown&did=did:web:a.b&sure=yes",
            404,
            "No event of this account",
        ),
        (
            "act=settings/change&setting=new_hosts_per_day&value=many",
            400,
            "is not a number",
        ),
        (
            "act=settings/change&setting=x&value=1",
            400,
            "no such setting",
        ),
        (
            "act=pds/changeLimits&host=pds.example.com&lenient=no",
            400,
            "is so already",
        ),
        (
            "act=pds/changeLimits&host=pds.example.com&repo_limit=-1",
            400,
            "repo_limit is not",
        ),
        (
            "act=hosts/resetCursor&host=pds.example.com&to=after&sure=yes",
            400,
            "cursor is not",
        ),
        (
            "act=consumers/disconnect&id=8&sure=yes",
            404,
            "no such subscriber",
        ),
        ("act=%zz", 400, "percent-encoded"),
    ] {
        let answer = browser.send(fields);
        assert_eq!(answer.status, status, "{fields}: {}", answer.body);
        assert!(answer.body.contains(words), "{fields}: {}", answer.body);
        assert!(answer.body.contains("<h1>Not done</h1>"), "{fields}");
    }
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    let answer = browser.send("act=subs/banDomain&domain=a.com&sure=yes");
    assert_eq!(answer.status, 503);
    for words in [
        "control store does not answer",
        "DATABASE_URL",
        "Try again",
        "role=\"alert\"",
    ] {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    assert!(answer.header("retry-after").is_some());
    assert_eq!(browser.get("/admin/console/hosts").status, 503);
    assert_eq!(browser.get("/admin/console/settings").status, 200);
    assert!(relay.fake.decided.lock().unwrap().is_empty());
}

#[test]
fn what_strangers_say_is_only_ever_text() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", false);
    let evil = "<script>alert(1)</script>\"'&";
    {
        let mut details = relay.fake.details.lock().unwrap();
        details[0].row.observed.last_error = Some(evil.into());
        details[0].row.observed.failures = 2;
    }
    *relay.fake.agent.lock().unwrap() = Some(evil.into());
    let browser = Browser::log_in(&relay);
    relay.fake.audited.lock().unwrap().push(AuditEntry {
        at_ms: 1,
        actor: evil.into(),
        action: evil.into(),
        subject: evil.into(),
        detail: json!({ evil: evil }),
    });
    let quoted = "%3Cscript%3Ealert(1)%3C/script%3E%22'%26";
    let more = [
        format!("/admin/console/hosts?q={quoted}&status={quoted}&sort={quoted}&page={quoted}"),
        format!("/admin/console/host?host={quoted}"),
        format!("/admin/console/takedowns?did={quoted}&after={quoted}"),
        format!("/admin/console/takedowns?did=did:web:{quoted}"),
        format!("/admin/console/audit?before={quoted}"),
        format!("/admin/console/confirm?act={quoted}&host={quoted}"),
        format!("/admin/console/confirm?act=repo/takeDown&did=did:web:{quoted}"),
        "/admin/console/confirm?act=consumers/disconnect&id=7".to_owned(),
    ];
    let mut shown = 0;
    for path in PAGES.map(str::to_owned).into_iter().chain(more) {
        let page = browser.get(&path);
        let out = ask(&relay, "GET", &path, "", "");
        for body in [&page.body, &out.body] {
            assert!(
                !body.contains("<script>") && !body.contains("\"'&\""),
                "{path}: {body}"
            );
        }
        shown += page.body.matches("&lt;script&gt;").count();
    }
    assert!(shown > 10, "{shown}");
    let answer = browser.send(&format!("act=subs/banDomain&domain={quoted}"));
    assert!(!answer.body.contains("<script>"));
    let next = format!("password=x&next=/admin?{quoted}");
    let answer = ask(&relay, "POST", "/admin/login", OWN, &next);
    assert!(!answer.body.contains("<script>"), "{}", answer.body);
}

/// Without a script, and for those who hear a page: every field has a name, every table a caption.
#[test]
fn fields_have_labels_and_tables_captions() {
    let relay = relay();
    know(&relay, 1, "pds.example.com", true);
    let browser = Browser::log_in(&relay);
    for path in PAGES {
        let body = browser.get(path).body;
        for part in body.split('<') {
            let is_field = ["input ", "select ", "textarea "]
                .iter()
                .any(|tag| part.starts_with(tag));
            if !is_field || part.contains("type=\"hidden\"") || part.contains("type=\"radio\"") {
                continue;
            }
            let id = part
                .split(" id=\"")
                .nth(1)
                .unwrap_or_else(|| panic!("{path}: {part}"));
            let id = id.split('"').next().unwrap();
            assert!(
                body.contains(&format!("<label for=\"{id}\"")),
                "{path}: {id}"
            );
            assert_eq!(
                body.matches(&format!(" id=\"{id}\"")).count(),
                1,
                "{path}: {id}"
            );
        }
        assert_eq!(
            body.matches("<table>").count(),
            body.matches("<caption>").count(),
            "{path}"
        );
        assert_eq!(
            body.matches("<th ").count(),
            body.matches(" scope=\"").count(),
            "{path}"
        );
        assert_eq!(body.matches("<h1>").count(), 1, "{path}");
        // What a script changes holds no form: a row could move below a field that stays.
        for live in body.split(" data-live>").skip(1) {
            assert!(!up_to_end(live).contains("<input"), "{path}");
        }
    }
}

/// What is within an element, from behind its beginning.
fn up_to_end(text: &str) -> &str {
    let (mut depth, mut end) = (1, 0);
    while depth > 0 {
        let next = end + text[end..].find("div").unwrap();
        match &text[..next] {
            before if before.ends_with("</") => depth -= 1,
            before if before.ends_with('<') => depth += 1,
            _ => {}
        }
        end = next + "div".len();
    }
    &text[..end]
}
