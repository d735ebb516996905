//! What happens to a database beside being away: every process of it killed at once, stopped where it is,
//! no room on its disk. The stream goes on; a decision is kept, or refused with a reason; what was
//! answered as kept is there afterwards, and nobody starts the relay for it.

use serde_json::{Value, json};

use crate::{
    http,
    mount::Mount,
    postgres::Cluster,
    site::{PASSWORD, Relay, Site, next_commit, wait_until},
    stage::Stage,
};

/// Decisions after which the disk of a database must be full.
const DECISIONS_MAX: usize = 4_000;

fn stage_with(cluster: &Cluster) -> Stage {
    let mut site = Site::new(2);
    site.variables.push(("DATABASE_URL", cluster.url()));
    Stage::on(site)
}

/// Bans a domain; whether that was kept, or why not.
fn ban(relay: &Relay, domain: &str) -> Result<(), String> {
    let headers = format!("Authorization: Bearer {PASSWORD}\r\n");
    let body = json!({ "domain": domain }).to_string();
    let answer = http::ask(
        relay.public,
        "POST",
        "/admin/subs/banDomain",
        &headers,
        &body,
    );
    match answer.status {
        200 => Ok(()),
        503 => {
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            Err(answer.json()["message"].as_str().unwrap().to_owned())
        }
        _ => panic!("{answer:?}"),
    }
}

fn domain(n: usize) -> String {
    format!("d{n}.{}.example.com", "x".repeat(60))
}

/// Known hosts are heard, and new ones are told to come back.
fn goes_on(stage: &mut Stage) {
    stage.sentinel();
    let mut account = stage.site.account(1);
    stage.pass_from(1, &[&next_commit(&mut account)]);
    let name = stage.site.network.host(0).name().to_owned();
    assert_eq!(stage.relay.request_crawl(&name).0, 200);
    let (status, answer) = stage.relay.request_crawl("localhost:1");
    assert!((400..=503).contains(&status), "{answer}");
    assert_eq!(
        http::ask(stage.relay.internal, "GET", "/healthz", "", "").status,
        200
    );
}

/// Waits until decisions are kept again; what was kept before is there, and in force.
fn recovers(stage: &mut Stage, cluster: &Cluster, kept: &[String]) {
    wait_until("a decision is kept again", || {
        ban(&stage.relay, "last.example.com").is_ok()
    });
    let rows = cluster.query("SELECT domain FROM domain_bans");
    let shown = stage.relay.look("/admin/subs/listDomainBans").to_string();
    for domain in kept {
        assert!(rows.contains(domain), "{domain} was answered as kept");
        assert!(shown.contains(domain.as_str()), "{domain}");
    }
    goes_on(stage);
    assert_eq!(stage.relay.metric("relay_panics_total"), 0);
}

#[test]
fn a_database_whose_processes_are_all_killed_loses_no_decision() {
    let mut cluster = Cluster::start();
    let mut stage = stage_with(&cluster);
    let mut kept = Vec::new();
    for round in 0..3 {
        for n in 0..5 {
            let domain = domain(10 * round + n);
            ban(&stage.relay, &domain).unwrap();
            kept.push(domain);
        }
        cluster.kill();
        let why = ban(&stage.relay, "lost.example.com").unwrap_err();
        assert!(why.contains("can not be kept now"), "{why}");
        goes_on(&mut stage);
        cluster.run();
        recovers(&mut stage, &cluster, &kept);
    }
    assert!(
        !cluster
            .query("SELECT domain FROM domain_bans")
            .contains(&"lost.example.com".to_owned())
    );
}

/// It takes connections and says nothing: whoever asks waits for a bounded time, and nobody else.
#[test]
fn a_database_that_is_stopped_where_it_is_loses_no_decision() {
    let cluster = Cluster::start();
    let mut stage = stage_with(&cluster);
    let mut kept = Vec::new();
    for n in 0..5 {
        ban(&stage.relay, &domain(n)).unwrap();
        kept.push(domain(n));
    }
    cluster.pause();
    for _ in 0..2 {
        let why = ban(&stage.relay, "stopped.example.com").unwrap_err();
        assert!(why.contains("can not be kept now"), "{why}");
        goes_on(&mut stage);
    }
    cluster.resume();
    recovers(&mut stage, &cluster, &kept);
}

/// It answers, late: decisions wait, and nobody else does.
#[test]
fn a_slow_database_delays_decisions_only() {
    let cluster = Cluster::start();
    let mut stage = stage_with(&cluster);
    cluster.query(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(0.7); RETURN NEW; END $$; \
         CREATE TRIGGER slow BEFORE INSERT ON domain_bans FOR EACH ROW EXECUTE FUNCTION wait()",
    );
    let relay = &stage.relay;
    let kept: Vec<String> = (0..4).map(domain).collect();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| kept.iter().for_each(|domain| ban(relay, domain).unwrap()));
        let mut passed = 0;
        while !asking.is_finished() {
            let next = next_commit(&mut stage.bystander);
            stage.site.network.publish(0, &next);
            stage.subscriber.expect(&[&next]);
            passed += 1;
        }
        assert!(
            passed > kept.len(),
            "{passed} events in the time of four decisions"
        );
        asking.join().unwrap();
    });
    cluster.query("DROP TRIGGER slow ON domain_bans");
    recovers(&mut stage, &cluster, &kept);
}

/// First its tables can not grow, and it says so; then it may end itself, because there is no room for
/// its log. Either way a decision is refused until there is room.
#[test]
fn a_database_whose_disk_is_full_refuses_decisions_until_there_is_room() {
    let name = "a_database_whose_disk_is_full_refuses_decisions_until_there_is_room";
    let Some(disk) = Mount::new(name, 400 << 20) else {
        return;
    };
    let mut cluster = Cluster::start_in(disk.path());
    let mut stage = stage_with(&cluster);
    let mut kept = Vec::new();
    ban(&stage.relay, &domain(0)).unwrap();
    kept.push(domain(0));
    disk.leave(0);
    let mut why = None;
    for n in 1..DECISIONS_MAX {
        match ban(&stage.relay, &domain(n)) {
            Ok(()) => kept.push(domain(n)),
            Err(said) => {
                why = Some(said);
                break;
            }
        }
    }
    let why = why.expect("the disk is full at some time");
    assert!(why.contains("can not be kept now"), "{why}");
    assert!(
        why.contains("No space left") || why.contains("database"),
        "{why}"
    );
    goes_on(&mut stage);
    let shown = stage.relay.look("/admin/subs/listDomainBans");
    assert_eq!(
        shown["banned_domains"].as_array().map(Vec::len),
        Some(kept.len()),
        "{shown}"
    );
    let has_ended = cluster.has_ended();
    disk.resize(400 << 20);
    if has_ended {
        cluster.run();
    }
    recovers(&mut stage, &cluster, &kept);
    assert_ne!(stage.relay.look("/admin/audit")["entries"], Value::Null);
}
