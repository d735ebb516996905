//! What the relay says that its memory is made of.

use serde_json::Value;

use crate::{
    site::{Relay, Site, agent, answer, wait_until},
    subscriber::Subscriber,
};

/// What the variables of this test set, and the relay must leave alone.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

fn document(relay: &Relay) -> Value {
    let url = format!("http://{}/memory.json", relay.internal);
    let (status, document) = answer(agent().get(url).call().unwrap());
    assert_eq!(status, 200, "{document}");
    document
}

/// The entry of a list whose `key` is `name`.
fn entry<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    let entries = list.as_array().unwrap();
    let found = entries.iter().find(|entry| entry[key] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[test]
fn memory_is_broken_down_in_metrics_and_in_a_document() {
    let mut site = Site::new(3);
    let relay = site.start_crawling();
    let mut live = Subscriber::connect(&relay, None).unwrap();
    let mut account = site.account(0);
    live.expect(&[&site.publish_post(&mut account)]);

    // A document that was asked for before its threads were there is not shown for long.
    let hosts = |document: &Value| entry(&document["stacks"], "role", "host").clone();
    let mut taken = Value::Null;
    wait_until("three hosts have stacks", || {
        taken = document(&relay);
        hosts(&taken)["threads"] == 3
    });
    let stack = hosts(&taken);
    let (reserved, resident) = (&stack["reserved_bytes"], &stack["resident_bytes"]);
    let [reserved, resident] = [reserved, resident].map(|bytes| bytes.as_u64().unwrap());
    assert!(resident > 0 && resident < reserved, "{stack}");
    let high = stack["high_water_bytes"].as_u64().unwrap();
    assert!(high > 0 && high < reserved / 3, "{stack}");
    let part = |name| entry(&taken["parts"], "part", name);
    assert!(part("ring")["bytes"].as_u64().unwrap() > 0, "{taken}");
    assert!(
        part("identities")["entries"].as_u64().unwrap() > 0,
        "{taken}"
    );
    assert_eq!(part("subscribers")["entries"], 1, "{taken}");
    for name in ["store", "control"] {
        let database = entry(&taken["databases"], "database", name);
        assert!(database["memtables_bytes"].as_u64().unwrap() > 0, "{taken}");
    }
    let heap = entry(&taken["heaps"], "allocator", "system");
    assert!(heap["in_use_bytes"].as_u64().unwrap() > 0, "{heap}");
    let process = &taken["process"];
    let whole = process["resident_bytes"].as_u64().unwrap();
    assert!(heap["in_use_bytes"].as_u64().unwrap() < whole, "{taken}");

    let metrics = relay.metrics();
    for name in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_open_fds",
        "relay_process_resident_bytes{kind=\"anon\"}",
        "relay_process_page_faults_total{kind=\"minor\"}",
        "relay_process_proportional_bytes",
        "relay_process_mappings",
        "relay_memory_stack_resident_bytes{role=\"host\"}",
        "relay_memory_stack_high_water_bytes{role=\"subscriber\"}",
        "relay_memory_heap_in_use_bytes{allocator=\"system\"}",
        "relay_memory_bytes{kind=\"ring\"}",
        "relay_memory_database_bytes{database=\"store\",kind=\"memtable\"}",
    ] {
        assert!(metrics.get(name).is_some_and(|value| *value > 0), "{name}");
    }
    assert!(metrics.contains_key("process_cpu_seconds_total"));
    let is_build = |name: &String| name.starts_with("relay_build_info{version=");
    assert_eq!(metrics.keys().filter(|name| is_build(name)).count(), 1);
}

#[test]
#[cfg(target_env = "gnu")]
fn the_environment_has_the_last_word_on_the_allocator() {
    let said = |site: &Site| {
        let relay = site.start();
        let log = relay.log.lock().unwrap();
        let line = log.iter().find(|line| line.contains(" allocator="));
        line.unwrap().clone()
    };
    let mut site = Site::new(0);
    let usual = said(&site);
    assert!(usual.contains("glibc.malloc.arena_max="), "{usual}");
    site.variables.push((ARENAS.0, ARENAS.1.to_owned()));
    let told = said(&site);
    assert!(!told.contains("glibc.malloc.arena_max="), "{told}");
    assert!(told.contains("glibc.malloc.mmap_threshold="), "{told}");
}

/// What the C library reads only before a program begins is in the environment of a relay that runs, which
/// has the process and the name that it was started with.
#[test]
#[cfg(target_env = "gnu")]
fn the_c_library_is_told_what_threads_may_keep() {
    let begun = |site: &Site| {
        let relay = site.start();
        let of = |what: &str| {
            let path = format!("/proc/{}/{what}", relay.child.id());
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(of("comm"), "zlay\n");
        let environment = of("environ");
        let mut tunables = environment
            .split('\0')
            .filter_map(|set| set.strip_prefix("GLIBC_TUNABLES="));
        tunables.next().unwrap_or_default().to_owned()
    };
    let mut site = Site::new(0);
    site.variables.push(("GLIBC_TUNABLES", String::new()));
    assert_eq!(begun(&site), "glibc.malloc.tcache_count=0");
    let own = "glibc.malloc.tcache_count=3";
    site.variables.push(("GLIBC_TUNABLES", own.to_owned()));
    assert_eq!(begun(&site), own);
}
