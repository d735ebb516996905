//! The status pages of a relay that hears hosts: what a person sees who asks why an event is missing.

use crate::{
    http::ask,
    scripted::Scripted,
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

fn browse(relay: &Relay, target: &str) -> (u16, String) {
    let answer = ask(relay.public, "GET", target, "Accept: text/html\r\n", "");
    (answer.status, answer.body)
}

#[test]
fn a_refused_event_is_found_from_its_host_and_from_its_account() {
    let mut site = Site::new(1);
    let host = Scripted::start();
    let relay = site.start();
    let name = host.name();
    assert_eq!(browse(&relay, &format!("/hosts/{name}")).0, 404);
    assert_eq!(relay.request_crawl(&name).0, 200);
    host.wait_until_asked(1);
    let mut account = host.account(&mut site);
    let did = account.did().to_string();
    let page_of_account = format!("/accounts/{did}");
    assert_eq!(browse(&relay, &page_of_account).0, 404);

    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let event = next_commit(&mut account);
    host.say(3, &event);
    subscriber.expect(&[&event]);
    // Signed by somebody else.
    let mut copy = account.clone();
    copy.key = site.stranger(0).key;
    host.say(4, &next_commit(&mut copy));
    wait_until("it is refused", || {
        relay.rejects().contains_key("signature_invalid")
    });

    let (status, page) = browse(&relay, &format!("/hosts/{name}"));
    assert_eq!(status, 200);
    for part in [
        "<span class=\"badge good\">connected</span>",
        "href=\"/reasons#signature_invalid\"",
        &format!("href=\"/accounts/{did}\""),
        "seq 4",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let (status, page) = browse(&relay, &page_of_account);
    assert_eq!(status, 200);
    for part in [
        "Its events are forwarded.",
        "href=\"/reasons#signature_invalid\"",
        &format!("href=\"/hosts/{name}\""),
        "seq 4",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let list = ask(relay.public, "GET", "/hosts.json?sort=rejected", "", "").json();
    assert_eq!(list["hosts"][0]["hostname"], name.as_str(), "{list}");
    let front = || ask(relay.public, "GET", "/status.json", "", "").json();
    // The sampler has looked.
    wait_until("the window is known", || {
        front()["window"]["seconds"].is_u64()
    });
    let front = front();
    assert_eq!(front["hosts"]["active"], 1, "{front}");
    assert!(front["delay_seconds"]["p99"].is_number(), "{front}");
    assert!(
        !front["history"]["events_per_second"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn the_button_of_a_host_does_what_it_says() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut account = site.account(0);
    subscriber.expect(&[&site.publish_post(&mut account)]);
    let list = ask(relay.public, "GET", "/hosts.json", "", "").json();
    let name = list["hosts"][0]["hostname"].as_str().unwrap().to_owned();
    let path = format!("/hosts/{name}/retry");
    let foreign = "Sec-Fetch-Site: cross-site\r\n";
    assert_eq!(ask(relay.public, "POST", &path, foreign, "").status, 403);
    let own = "Sec-Fetch-Site: same-origin\r\n";
    let answer = ask(relay.public, "POST", &path, own, "");
    assert_eq!(answer.status, 303, "{answer:?}");
    let location = answer.header("location").unwrap();
    assert_eq!(location, format!("/hosts/{name}?asked=connected"));
    let (_, page) = browse(&relay, location);
    assert!(page.contains("The host is connected already"), "{page}");
}
