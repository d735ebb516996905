//! What the operator can change while the relay runs.

use serde_json::{Value, json};
use zlay::{
    control::settings::{Setting, Settings},
    limits::HOST_EVENTS_A_SECOND_MAX,
};

use crate::{
    http::{self, Answer},
    scripted::Scripted,
    site::{Relay, Site, next_commit, wait_until},
    stage::Stage,
};

/// A value that the setting does not have by itself.
fn another(setting: Setting, value: &Value) -> Value {
    match setting {
        Setting::RequestCrawl => (!value.as_bool().unwrap()).into(),
        Setting::TrustedDomains => json!(["pds.example.com", "*.example.com"]),
        _ => (value.as_u64().unwrap() + 1).into(),
    }
}

/// Each setting is shown with what it is and would be, and what it means; changed, it is so after a
/// restart, and taken back it is what it was.
#[test]
fn every_setting_can_be_changed_is_kept_and_can_be_taken_back() {
    let site = Site::new(0);
    let mut relay = site.start();
    let before = relay.look("/admin/settings");
    let shown = before.as_object().unwrap();
    assert_eq!(shown.len(), Setting::ALL.len());
    let mut changed = Settings::default();
    for setting in Setting::ALL {
        let row = &shown[setting.name()];
        assert_eq!(row["changed"], false, "{row}");
        assert_eq!(row["value"], row["default"]);
        assert!(row["meaning"].as_str().unwrap().ends_with('.'), "{row}");
        let value = another(setting, &row["value"]);
        relay.set(&json!({ setting.name(): value }));
        let now = relay.look("/admin/settings")[setting.name()].clone();
        assert_eq!(now["value"], value);
        assert_eq!(now["default"], row["default"]);
        assert_eq!(now["changed"], true);
        changed.set(setting, Some(setting.choice(&value).unwrap()));
    }
    let after = relay.look("/admin/settings");
    relay.kill();
    relay = site.start();
    assert_eq!(relay.look("/admin/settings"), after);
    for setting in Setting::ALL {
        let value = relay.setting(setting.name());
        assert_eq!(&value, &changed.get(setting).unwrap().json());
    }
    let nothing = Setting::ALL.map(|setting| (setting.name().to_owned(), Value::Null));
    relay.set(&Value::Object(nothing.into_iter().collect()));
    assert_eq!(relay.look("/admin/settings"), before);
    relay.kill();
    assert_eq!(site.start().look("/admin/settings"), before);
}

/// What is wrong is named; nothing of what came with it is changed, or is in the audit log.
#[test]
fn what_is_no_setting_or_no_value_changes_nothing() {
    let site = Site::new(0);
    let relay = site.start();
    let before = relay.look("/admin/settings");
    let number = "is not a number from";
    for (name, value, why) in [
        ("defaul_account_limit", json!(5), "is not a setting"),
        ("default_account_limit", json!(-1), number),
        ("default_account_limit", json!(1.5), number),
        ("default_account_limit", json!("5"), number),
        (
            "default_account_limit",
            json!(1_000_000_000_001_u64),
            number,
        ),
        ("host_events_per_second", json!(0), number),
        ("catch_up_hours", json!([1]), number),
        ("request_crawl", json!("true"), "is not true or false"),
        ("request_crawl", json!(1), "is not true or false"),
        (
            "trusted_domains",
            json!("example.com"),
            "is not a list of domains",
        ),
        (
            "trusted_domains",
            json!(["exa mple.com"]),
            "is not a list of domains",
        ),
        (
            "trusted_domains",
            json!(["example.com:443"]),
            "is not a list of domains",
        ),
    ] {
        let mut body = json!({ "new_hosts_per_day": 7, "catch_up_hours": 7 });
        body[name] = value;
        let (status, answer) = relay.admin("/admin/settings/change", Some(&body.to_string()));
        assert_eq!((status, &answer["error"]), (400, &"InvalidRequest".into()));
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(name) && message.contains(why), "{message}");
        assert_eq!(relay.look("/admin/settings"), before, "{body}");
    }
    for body in ["", "{}", "[]", "{", "null", "\"request_crawl\""] {
        let (status, answer) = relay.admin("/admin/settings/change", Some(body));
        assert_eq!(
            (status, &answer["error"]),
            (400, &"InvalidRequest".into()),
            "{body}"
        );
    }
    assert_eq!(relay.look("/admin/settings"), before);
    assert_eq!(relay.look("/admin/audit"), json!({ "entries": [] }));
}

/// One answer to requestCrawl, as `client` behind a proxy gets it.
fn crawl(relay: &Relay, host: &str, client: &str) -> Answer {
    let forwarded = format!("X-Forwarded-For: {client}\r\n");
    let body = json!({ "hostname": host }).to_string();
    let target = "/xrpc/com.atproto.sync.requestCrawl";
    http::ask(relay.public, "POST", target, &forwarded, &body)
}

/// It is refused for now: the seconds after which to ask again.
fn retry_after(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.json()["error"], "RateLimitExceeded", "{answer:?}");
    answer.header("retry-after").unwrap().parse().unwrap()
}

/// Without requestCrawl new hosts are refused, and those that are known may ask all the same; the
/// operator may bring whom he likes.
///
/// Rule 164: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn request_crawl_can_be_closed_to_new_hosts() {
    let site = Site::new(3);
    let mut relay = site.start();
    let [known, new, brought] = [0, 1, 2].map(|n| site.network.host(n).clone());
    assert_eq!(relay.request_crawl(known.name()).0, 200);
    wait_until("it is connected", || known.connected() == 1);
    relay.set(&json!({ "request_crawl": false }));
    for restarted in [false, true] {
        if restarted {
            relay.kill();
            relay = site.start();
            wait_until("it is connected again", || known.connections() == 2);
        }
        let enabled = relay.look("/admin/subs/getEnabled");
        assert_eq!(enabled, json!({ "enabled": false }));
        let (status, answer) = relay.request_crawl(new.name());
        assert_eq!((status, &answer["error"]), (403, &"Forbidden".into()));
        assert_eq!(relay.host_page(new.name()).0, 404);
        let (status, answer) = relay.request_crawl(known.name());
        assert_eq!(status, 200, "{answer}");
    }
    let body = json!({ "hostname": brought.name() }).to_string();
    let (status, answer) = relay.admin("/admin/pds/requestCrawl", Some(&body));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(relay.of_host(brought.name(), "/added_by"), "operator");
    relay.set(&json!({ "request_crawl": null }));
    assert_eq!(relay.request_crawl(new.name()).0, 200);
    assert_eq!(relay.of_host(new.name(), "/added_by"), "request");
    assert_eq!(relay.listed().len(), 3);
}

/// A day's new hosts are counted by what is kept of them: a restart does not begin a new day. Those that
/// the operator brings and those that are trusted do not count.
#[test]
fn a_day_brings_so_many_new_hosts_and_a_restart_no_more() {
    let mut site = Site::new(5);
    let trusting = ("RELAY_TRUSTED_DOMAINS", "trusted.example".to_owned());
    site.variables.push(trusting);
    let mut relay = site.start();
    let names: Vec<_> = site.network.hosts().iter().map(|h| h.name()).collect();
    let ask = |relay: &Relay, name: &str| crawl(relay, name, "203.0.113.7");
    relay.set(&json!({ "new_hosts_per_day": 1 }));
    let body = json!({ "hostname": names[4] }).to_string();
    assert_eq!(relay.admin("/admin/pds/requestCrawl", Some(&body)).0, 200);
    assert_eq!(ask(&relay, names[0]).status, 200);
    for restarted in [false, true] {
        if restarted {
            relay.kill();
            relay = site.start();
        }
        let seconds = retry_after(&ask(&relay, names[1]));
        let day = 24 * 3_600;
        assert!((day - 600..=day).contains(&seconds), "{seconds}");
        assert_eq!(relay.host_page(names[1]).0, 404);
        // It is one of them already.
        assert_eq!(ask(&relay, names[0]).status, 200);
    }
    relay.set(&json!({ "new_hosts_per_day": 2 }));
    assert_eq!(ask(&relay, names[1]).status, 200);
    retry_after(&ask(&relay, names[2]));
    relay.set(&json!({ "trusted_domains": ["localhost"] }));
    assert_eq!(ask(&relay, names[2]).status, 200);
    // It counts, now that it is not trusted any more.
    relay.set(&json!({ "trusted_domains": null, "new_hosts_per_day": 3 }));
    retry_after(&ask(&relay, names[3]));
    relay.set(&json!({ "new_hosts_per_day": 4 }));
    assert_eq!(ask(&relay, names[3]).status, 200);
    assert_eq!(relay.listed().len(), 5);
}

/// Each address may ask so often in a minute, and no other is affected.
#[test]
fn an_address_may_ask_so_often_in_a_minute() {
    let site = Site::new(1);
    let relay = site.start();
    let host = site.network.host(0).name();
    let (one, other) = ("203.0.113.7", "203.0.113.8");
    relay.set(&json!({ "crawl_requests_per_minute": 2 }));
    for _ in 0..2 {
        assert_eq!(crawl(&relay, host, one).status, 200);
    }
    let seconds = retry_after(&crawl(&relay, host, one));
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(crawl(&relay, host, other).status, 200);
    relay.set(&json!({ "crawl_requests_per_minute": 4 }));
    for _ in 0..2 {
        assert_eq!(crawl(&relay, host, one).status, 200);
    }
    retry_after(&crawl(&relay, host, one));
    relay.set(&json!({ "crawl_requests_per_minute": null }));
    assert_eq!(crawl(&relay, host, one).status, 200);
    // Who asks from beside the relay is the operator, or a network of his own.
    for _ in 0..20 {
        assert_eq!(relay.request_crawl(host).0, 200);
    }
}

/// The common limits of events, for hosts that are not trusted and for those that are.
///
/// Rule 54: <https://atproto.com/specs/sync>
#[test]
fn common_limits_of_events_hold_at_once_for_hosts_that_are_connected() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let host = stage.site.network.host(0).name().to_owned();
    let limit = |stage: &Stage| stage.relay.of_host(&host, "/limits/events_per_second");
    let delayed = |stage: &Stage| {
        let pointer = "/events/limits_hit/events_per_second";
        stage.relay.of_host(&host, pointer).as_u64().unwrap()
    };
    for (name, trusted) in [
        ("trusted_host_events_per_second", true),
        ("host_events_per_second", false),
    ] {
        stage.relay.change(&host, json!({ "trusted": trusted }));
        stage.relay.set(&json!({ name: 8 }));
        assert_eq!(limit(&stage), 8);
        let before = delayed(&stage);
        let events: Vec<_> = (0..20).map(|_| next_commit(&mut account)).collect();
        stage.pass(&events.iter().collect::<Vec<_>>());
        assert!(delayed(&stage) >= before + 8, "{name}");
        stage.relay.set(&json!({ name: null }));
    }
    assert_eq!(limit(&stage), HOST_EVENTS_A_SECOND_MAX);
    let common = json!({ "host_events_per_hour": 70, "host_events_per_day": 900 });
    stage.relay.set(&common);
    // The bystander and the account are two, and each makes for some more.
    stage.restart();
    assert_eq!(stage.relay.of_host(&host, "/limits/events_per_hour"), 72);
    assert_eq!(stage.relay.of_host(&host, "/limits/events_per_day"), 920);
    assert!(stage.relay.rejects().is_empty());
}

/// A relay that was off for longer than it is to catch up reads hosts from now on, and says so of each.
/// Otherwise they are asked for what it has missed.
///
/// Rule 40: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn how_much_is_caught_up_with_is_the_operators_choice() {
    let mut stage = Stage::set_up();
    let host = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&host.name()).0, 200);
    host.wait_until_asked(1);
    let mut account = host.account(&mut stage.site);
    let mut say = |seq| {
        let event = next_commit(&mut account);
        host.say(seq, &event);
        event
    };
    let first = say(1);
    stage.subscriber.expect(&[&first]);
    stage.restart();
    host.wait_until_asked(2);
    let second = say(2);
    stage.subscriber.expect(&[&second]);
    let nothing = stage.relay.of_host(&host.name(), "/last_skipped");
    assert_eq!(nothing, Value::Null);

    stage.relay.set(&json!({ "catch_up_hours": 0 }));
    stage.relay.kill();
    let _missed = say(3);
    stage.crash();
    host.wait_until_asked(3);
    assert_eq!(host.asked(), [Some(0), Some(1), None]);
    let fourth = say(4);
    stage.subscriber.expect(&[&fourth]);
    wait_until("its page says so", || {
        stage.relay.of_host(&host.name(), "/last_skipped") != Value::Null
    });
    let skipped = stage.relay.of_host(&host.name(), "/last_skipped");
    let reason = skipped["reason"].as_str().unwrap();
    assert!(reason.contains("catch_up_hours (0)"), "{reason}");
    assert!(skipped["time"].is_string());
    assert_eq!(stage.relay.metric("relay_events_discontinuous_total"), 1);
}
