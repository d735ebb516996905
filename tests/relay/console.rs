//! The operator page of the real program, as a browser uses it: by forms and a cookie.

use serde_json::Value;

use crate::{
    http::{Answer, ask},
    site::{PASSWORD, Relay, wait_until},
    stage::Stage,
    subscriber::{Next, Subscriber},
};

/// A browser that is logged in.
pub(crate) struct Browser<'a> {
    relay: &'a Relay,
    cookie: String,
    token: String,
}

impl<'a> Browser<'a> {
    pub(crate) fn log_in(relay: &'a Relay) -> Browser<'a> {
        let password = PASSWORD.replace(' ', "+");
        let answer = post(relay, "/admin/login", "", &format!("password={password}"));
        assert_eq!(answer.status, 303, "{answer:?}");
        assert_eq!(answer.header("location"), Some("/admin"));
        let cookie = answer.header("set-cookie").unwrap();
        let cookie = cookie.split(';').next().unwrap();
        let mut browser = Browser {
            relay,
            cookie: format!("Cookie: {cookie}\r\n"),
            token: String::new(),
        };
        let page = browser.page("/admin");
        let token = page.split("name=\"token\" value=\"").nth(1).unwrap();
        browser.token = token.split('"').next().unwrap().to_owned();
        browser
    }

    /// A page, which must be there.
    fn page(&self, path: &str) -> String {
        let answer = ask(self.relay.public, "GET", path, &self.cookie, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// Sends a form, which must be carried out; the page that follows.
    pub(crate) fn does(&self, fields: &str) -> String {
        let form = format!("token={}&sure=yes&{fields}", self.token);
        let answer = post(self.relay, "/admin/console/act", &self.cookie, &form);
        assert_eq!(answer.status, 303, "{fields}: {answer:?}");
        let next = answer.header("location").unwrap();
        self.page(next.split('#').next().unwrap())
    }
}

/// Sends a form as a page of the relay's own does.
fn post(relay: &Relay, path: &str, cookie: &str, form: &str) -> Answer {
    let headers = format!(
        "Origin: http://{}\r\nContent-Type: application/x-www-form-urlencoded\r\n{cookie}",
        relay.public
    );
    ask(relay.public, "POST", path, &headers, form)
}

/// Actions and subjects in the audit log, the oldest first.
fn noted(relay: &Relay) -> Vec<(String, String)> {
    let log = relay.look("/admin/audit");
    let entries = log["entries"].as_array().unwrap().iter().rev();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let noted = entries.map(|entry| (text(&entry["action"]), text(&entry["subject"])));
    noted.collect()
}

/// A host is blocked and unblocked with forms: it is asked for first, in force at once, in the JSON of
/// the admin API and in the audit log; and nothing of it without the password.
#[test]
fn a_host_is_blocked_and_unblocked_with_forms() {
    let stage = Stage::set_up();
    let (relay, host) = (&stage.relay, stage.site.network.host(0).clone());
    let name = host.name();
    let wrong = post(relay, "/admin/login", "", "password=open+sesame");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let out = ask(relay.public, "GET", "/admin/console/hosts", "", "");
    assert_eq!(out.status, 401);
    assert!(!out.body.contains(name), "{}", out.body);

    let browser = Browser::log_in(relay);
    assert!(browser.page("/admin/console/hosts").contains(name));
    let block = format!("act=pds/block&host={name}");
    let form = format!("token={}&{block}", browser.token);
    let asked = post(relay, "/admin/console/act", &browser.cookie, &form);
    assert_eq!(asked.status, 200);
    assert!(
        asked.body.contains(&format!("Block {name}?")),
        "{}",
        asked.body
    );
    assert_eq!(relay.of_host(name, "/status"), "active");

    let page = browser.does(&block);
    assert!(page.contains(&format!("{name} is blocked")), "{page}");
    let detail = relay.look(&format!("/admin/hosts/detail?host={name}"));
    assert_eq!(
        (&detail["status"], &detail["own_terms"]["banned"]),
        (&"banned".into(), &true.into())
    );
    wait_until("the host has no connection", || host.connected() == 0);
    assert!(browser.page("/admin/console/bans").contains(name));

    let page = browser.does(&format!("act=pds/unblock&host={name}"));
    assert!(page.contains("is not blocked any more"), "{page}");
    wait_until("the host is connected", || host.connected() == 1);
    let page = browser.does(&format!(
        "act=pds/changeLimits&host={name}&repo_limit=7&trusted="
    ));
    assert!(page.contains("repo_limit 7"), "{page}");
    assert_eq!(relay.of_host(name, "/account_limit"), 7);
    browser.does("act=settings/change&setting=new_hosts_per_day&value=3");
    assert_eq!(relay.setting("new_hosts_per_day"), 3);

    let said = |action: &str, subject: &str| (action.to_owned(), subject.to_owned());
    let acts = [
        said("login", "operator page"),
        said("pds/block", name),
        said("pds/unblock", name),
        said("pds/changeLimits", name),
        said("settings/change", "new_hosts_per_day"),
    ];
    assert_eq!(noted(relay), acts);
    let page = browser.page("/admin/console/audit");
    assert!(
        page.contains("pds/block") && page.contains("operator page"),
        "{page}"
    );
    let token = browser.cookie.split(['=', '\r']).nth(1).unwrap();
    assert!(relay.said(token).is_empty() && relay.said(PASSWORD).is_empty());
    assert!(relay.said(&browser.token).is_empty());

    let form = format!("token={}", browser.token);
    assert_eq!(
        post(relay, "/admin/logout", &browser.cookie, &form).status,
        303
    );
    let out = ask(
        relay.public,
        "GET",
        "/admin/console/hosts",
        &browser.cookie,
        "",
    );
    assert_eq!(out.status, 401);
}

/// A subscriber that the operator sends away is told that the relay goes away, and may come again; the
/// others stay.
#[test]
fn a_subscriber_is_sent_away_and_may_come_again() {
    let mut stage = Stage::set_up();
    let mut other = Subscriber::after(&stage.relay, stage.subscriber.last());
    let list = || stage.relay.look("/admin/consumers/list");
    wait_until("both have everything", || {
        let list = list();
        let has_all = |one: &Value| one["lag"] == 0 && one["lag_seconds"] == 0;
        list.as_array()
            .unwrap()
            .iter()
            .filter(|one| has_all(one))
            .count()
            == 2
    });
    let id = list()[1]["id"].as_u64().unwrap();
    let browser = Browser::log_in(&stage.relay);
    let page = browser.page("/admin/console/subscribers");
    assert!(page.contains("127.0.0.1:"), "{page}");
    browser.does(&format!("act=consumers/disconnect&id={id}"));
    assert_eq!(other.next(), Next::Close(1001));
    wait_until("it is gone", || list().as_array().unwrap().len() == 1);
    let event = stage.site.publish_post(&mut stage.bystander);
    stage.subscriber.expect(&[&event]);
    Subscriber::from_the_beginning(&stage.relay).next();
}
