//! What queries cost, with 100,000 accounts in the store and 1,001 hosts.
//!
//! Unit: time of one lookup or one page. `store` is reading alone, out of the store's files; `http` is
//! the whole answer of a running relay over loopback, on a connection that stays open. The limit beside
//! the latter is `http/health`, an answer for which nothing is read. Elements are accounts or hosts.
//!
//! The pages of listReposByCollection belong here once there is an index for them.
//!
//! `just bench pages`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

use std::{path::Path, time::Duration};

use clap::Parser;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use zlay::{
    atproto::{cid::Cid, did::Did, hostname::Endpoint, tid::Tid},
    config::Cli,
    control::{Control, Source, domain::Domain, embedded::Embedded},
    limits::{LIST_HOSTS_MAX, LIST_REPOS_MAX},
    relay::Relay,
    sim::relay::Client,
    store::{
        Counters, Options, Store,
        account::{Account, Head, HostId, HostRecord, Local, Seen, Status},
    },
};

#[path = "support/disk.rs"]
mod disk;

/// Accounts in the store.
const ACCOUNTS: u64 = 100_000;
/// Hosts: one more than a page.
const HOSTS: u32 = LIST_HOSTS_MAX as u32 + 1;
/// Accounts of one batch while the store is filled.
const BATCH: usize = 1_000;

fn options() -> Options {
    Options {
        fsync: false,
        ..Options::default()
    }
}

/// The account of this ordinal: DIDs are in no order.
fn did(ordinal: u64) -> Did {
    let mut rng = fastrand::Rng::with_seed(ordinal);
    let name = std::iter::repeat_with(|| rng.lowercase()).take(24);
    Did::parse(&format!("did:plc:{}", name.collect::<String>())).unwrap()
}

fn account(ordinal: u64) -> Account {
    Account {
        ordinal,
        host: HostId(1 + ordinal as u32 % HOSTS),
        authority_at: 1_700_000_000_000,
        upstream: Status::ACTIVE,
        local: Local::default(),
        head: Some(Head {
            rev: Tid::from_micros(1_700_000_000_000_000 + ordinal, 0),
            commit: Cid::of_cbor(&ordinal.to_le_bytes()),
            data: Cid::of_cbor(&ordinal.to_be_bytes()),
        }),
        seen: Seen {
            epoch: 0,
            seq: ordinal,
        },
    }
}

/// Fills the store, and closes it.
fn fill(dir: &Path) {
    let store = Store::open(dir, options()).unwrap();
    let ordinals: Vec<u64> = (1..=ACCOUNTS).collect();
    for ordinals in ordinals.chunks(BATCH) {
        let mut batch = store.batch();
        for ordinal in ordinals {
            let did = did(*ordinal);
            batch.put_account(&did, &account(*ordinal));
            batch.put_account_order(*ordinal, &did);
        }
        store.commit(batch).unwrap();
    }
    let mut batch = store.batch();
    for host in 1..=HOSTS {
        let record = HostRecord {
            cursor: 1_000_000,
            epoch: 0,
            accounts: ACCOUNTS / u64::from(HOSTS),
        };
        batch.put_host(HostId(host), &record);
    }
    batch.set_counters(Counters {
        next_ordinal: ACCOUNTS + 1,
        accounts: ACCOUNTS,
    });
    store.commit(batch).unwrap();
    store.close().unwrap();
}

/// Adds hosts of a domain that is banned, so that the relay does not try to reach any.
fn add_hosts(dir: &Path) {
    let control = Embedded::open(dir).unwrap();
    let domain = Domain::parse("bench.example.com").unwrap();
    control.ban_domain(&domain, 1).unwrap();
    for n in 1..=HOSTS {
        let endpoint = Endpoint::parse(&format!("pds{n}.{}", domain.as_str())).unwrap();
        control.add_host(&endpoint, Source::Operator, 1).unwrap();
    }
}

fn store(c: &mut Criterion, dir: &Path) {
    // What was in memory is in files after an open.
    let store = Store::open(dir, options()).unwrap();
    let mut group = c.benchmark_group("store");
    let mut rng = fastrand::Rng::with_seed(1);
    let asked: Vec<Did> = (0..10_000).map(|_| did(rng.u64(1..=ACCOUNTS))).collect();
    let mut asked = asked.iter().cycle();
    group.throughput(Throughput::Elements(1));
    group.bench_function("account", |b| {
        b.iter(|| store.account(asked.next()?).unwrap());
    });
    let unknown: Vec<Did> = (0..10_000).map(|n| did(ACCOUNTS + 1 + n)).collect();
    let mut unknown = unknown.iter().cycle();
    group.bench_function("no account", |b| {
        b.iter(|| store.account(unknown.next()?).unwrap());
    });
    let page = LIST_REPOS_MAX as u64;
    let mut after = 0;
    group.throughput(Throughput::Elements(page));
    group.bench_function("accounts_after", |b| {
        b.iter(|| {
            let accounts = store.accounts_after(after, LIST_REPOS_MAX).unwrap();
            after = (after + page) % ACCOUNTS;
            assert_eq!(accounts.len(), LIST_REPOS_MAX);
        });
    });
    group.finish();
    store.close().unwrap();
}

/// The answer to a request, which must be a good one.
fn get(client: &Client, path: &str) -> String {
    let (status, body) = client.get(path).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// How many items the list of this name has.
fn count(body: &str, list: &str) -> usize {
    let body: Value = serde_json::from_str(body).unwrap();
    body[list].as_array().map_or(0, Vec::len)
}

fn http(c: &mut Criterion, dir: &Path) {
    let args = ["zlay", "--bind=127.0.0.1", "--port=0", "--metrics-port=0"];
    let mut config = Cli::parse_from(args).config;
    config.data_dir = dir.to_owned();
    config.upstream = "none".to_owned();
    let relay = Relay::start(&config).unwrap();
    let client = Client::new(&format!("http://{}", relay.public_address()));
    let mut group = c.benchmark_group("http");
    group.throughput(Throughput::Elements(1));
    group.bench_function("health", |b| b.iter(|| get(&client, "/_health")));
    let mut rng = fastrand::Rng::with_seed(1);
    let sync = "/xrpc/com.atproto.sync";
    group.bench_function("getRepoStatus", |b| {
        b.iter(|| {
            let did = did(rng.u64(1..=ACCOUNTS));
            get(&client, &format!("{sync}.getRepoStatus?did={did}"))
        });
    });
    let page = LIST_REPOS_MAX as u64;
    let repos = |after: u64| {
        let cursor = match after {
            0 => String::new(),
            after => format!("&cursor={after}"),
        };
        get(&client, &format!("{sync}.listRepos?limit={page}{cursor}"))
    };
    assert_eq!(count(&repos(page), "repos"), LIST_REPOS_MAX);
    let mut after = 0;
    group.throughput(Throughput::Elements(page));
    group.bench_function("listRepos", |b| {
        b.iter(|| {
            after = (after + page) % ACCOUNTS;
            repos(after)
        });
    });
    let hosts = format!("{sync}.listHosts?limit={LIST_HOSTS_MAX}");
    assert_eq!(count(&get(&client, &hosts), "hosts"), LIST_HOSTS_MAX);
    group.throughput(Throughput::Elements(LIST_HOSTS_MAX as u64));
    group.bench_function("listHosts", |b| b.iter(|| get(&client, &hosts)));
    group.finish();
    drop(client);
    relay.stop().unwrap();
}

fn pages(c: &mut Criterion) {
    let dir = disk::dir();
    fill(dir.path());
    add_hosts(dir.path());
    store(c, dir.path());
    http(c, dir.path());
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = pages
}
criterion_main!(benches);
