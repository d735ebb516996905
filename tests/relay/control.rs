//! The control store in a database: moved there and back, and what happens when it is away.

use serde_json::{Value, json};

use crate::{
    postgres::{Cluster, Database},
    process::run,
    site::{PASSWORD, Relay, Site, agent, answer, bare_command, wait_until},
    subscriber::Subscriber,
};

/// `zlay control copy` with the site's directory and a database.
fn copy(site: &Site, database: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = site.command();
    command
        .env("DATABASE_URL", database)
        .args(["control", "copy"])
        .args(arguments);
    run(command)
}

/// A request of the operator.
fn post(relay: &Relay, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("http://{}/admin/{path}", relay.public);
    let request = agent()
        .post(url)
        .header("Authorization", format!("Bearer {PASSWORD}"))
        .header("Content-Type", "application/json");
    answer(request.send(body.to_string()).unwrap())
}

fn get(relay: &Relay, path: &str) -> (u16, Value) {
    let url = format!("http://{}/{path}", relay.internal);
    let request = agent()
        .get(url)
        .header("Authorization", format!("Bearer {PASSWORD}"));
    answer(request.call().unwrap())
}

fn banned(relay: &Relay) -> String {
    let (status, bans) = get(relay, "admin/subs/listDomainBans");
    assert_eq!(status, 200, "{bans}");
    bans.to_string()
}

/// A site whose relays have their control store in that database.
fn site_with(database: &str) -> Site {
    let mut site = Site::new(1);
    site.variables.push(("DATABASE_URL", database.to_owned()));
    site
}

fn end(relay: Relay) -> String {
    relay.terminate();
    let (status, log) = relay.ended();
    assert!(status.success(), "{log:#?}");
    log.join("\n")
}

#[test]
fn everything_moves_to_a_database_and_back() {
    let database = Database::new();
    let mut site = Site::new(2);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let first = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&first]);
    let ban = json!({"domain": "banned.example.com"});
    assert_eq!(post(&relay, "subs/banDomain", &ban).0, 200);

    let (code, said) = copy(&site, database.url(), &["--to", "postgres"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    end(relay);
    let (code, said) = copy(&site, database.url(), &["--to", "postgres"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("hosts           2\n"), "{said}");
    assert!(said.contains("banned domains  1\n"), "{said}");
    assert_eq!(database.query("SELECT name FROM hosts").len(), 2);

    // A relay goes on with the copy, without being told of any host.
    let data = site.data();
    site.variables
        .push(("DATABASE_URL", database.url().to_owned()));
    let relay = site.start();
    site.wait_until_connected();
    assert!(banned(&relay).contains("banned.example.com"));
    let second = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&first, &second]);
    let ban = json!({"domain": "later.example.com"});
    assert_eq!(post(&relay, "subs/banDomain", &ban).0, 200);

    // Nobody else may use the database meanwhile.
    let other = Site::new(1);
    let (code, said) = copy(&other, database.url(), &["--to", "embedded"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another relay uses this database"), "{said}");
    end(relay);

    let (code, said) = copy(&site, database.url(), &["--to", "embedded"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--overwrite"), "{said}");
    let (code, said) = copy(&site, database.url(), &["--to", "embedded", "--overwrite"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("banned domains  2\n"), "{said}");
    site.variables.pop();
    assert_eq!(site.data(), data);
    let relay = site.start();
    site.wait_until_connected();
    assert!(banned(&relay).contains("later.example.com"));
    let third = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&first, &second, &third]);
}

#[test]
fn what_can_not_be_copied_is_explained() {
    let database = Database::new();
    let site = Site::new(1);
    let (code, said) = copy(&site, database.url(), &["--to", "postgres"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no control store in"), "{said}");
    let (code, said) = copy(&site, database.url(), &["--to", "embedded"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing that could be copied"), "{said}");
    let (code, said) = copy(&site, "", &["--to", "embedded"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("DATABASE_URL is not set"), "{said}");
    let (code, said) = copy(&site, database.url(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--to"), "{said}");
    let (code, said) = copy(&site, database.url(), &["--help"]);
    assert_eq!(code, Some(0), "{said}");
    for word in ["postgres", "embedded", "--overwrite", "DATABASE_URL"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

#[test]
fn a_relay_goes_on_without_its_database() {
    let mut cluster = Cluster::with_password("hunter2");
    let mut site = site_with(&cluster.url());
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let mut events = vec![site.publish_post(&mut account)];
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    subscriber.expect(&[&events[0]]);
    assert_eq!(get(&relay, "readyz").0, 200);

    for outage in [Cluster::stop, |cluster: &mut Cluster| cluster.pause()] {
        outage(&mut cluster);
        events.push(site.publish_post(&mut account));
        subscriber.expect(&[events.last().unwrap()]);
        let ban = json!({"domain": "example.com"});
        assert_eq!(post(&relay, "subs/banDomain", &ban).0, 503);
        assert_eq!(get(&relay, "healthz").0, 200);
        events.push(site.publish_post(&mut account));
        subscriber.expect(&[events.last().unwrap()]);
        match cluster.is_running() {
            true => cluster.resume(),
            false => cluster.run(),
        }
        wait_until("the operator is heard again", || {
            let ban = json!({"domain": "example.org"});
            post(&relay, "subs/banDomain", &ban).0 == 200
        });
    }
    let bans = "SELECT domain FROM domain_bans WHERE domain = 'example.org'";
    assert_eq!(cluster.query(bans), ["example.org"]);
    let log = end(relay);
    assert!(log.contains("lost "), "{log}");
    assert!(log.contains("is back"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn a_new_relay_waits_for_the_old_one_to_leave_the_database() {
    let database = Database::new();
    let old = site_with(database.url());
    let new = site_with(database.url());
    let leaving = old.start();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let stderr = std::fs::File::create(&log).unwrap();
    let mut starting = new.command().stderr(stderr).spawn().unwrap();
    let says = |what: &str| std::fs::read_to_string(&log).unwrap().contains(what);
    wait_until("the new one has tried in vain", || {
        says("another relay uses this database")
    });
    assert!(!says("listening public="));
    end(leaving);
    wait_until("the new one starts", || says("listening public="));
    starting.kill().unwrap();
    starting.wait().unwrap();
}

#[test]
fn a_wrong_password_of_the_database_ends_the_start_at_once() {
    let cluster = Cluster::with_password("right");
    let mut command = bare_command();
    let directory = tempfile::tempdir().unwrap();
    command
        .env("RELAY_DATA_DIR", directory.path())
        .env("DATABASE_URL", cluster.url().replace("right", "hunter2"));
    let (code, said) = run(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("password authentication failed"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
