//! What queries cost, with 100,000 accounts in the store, twelve collections of each, and 1,001 hosts.
//!
//! Unit: time of one lookup or one page. `store` is reading alone, out of the store's files; `http` is
//! the whole answer of a running relay over loopback, on a connection that stays open. The limit beside
//! the latter is `http/health`, an answer for which nothing is read. Elements are accounts or hosts.
//!
//! Before that, how long pages take that begin anywhere in a list: the middle one and the slowest of a
//! hundred, which is what a client sees; and what the collection index takes of the disk, for each pair
//! of an account and a collection. `ZLAY_BENCH_ACCOUNTS` is another number of accounts. All files are
//! merged before anything is measured, as in a relay that has known the accounts for long.
//!
//! `just bench pages`; with millions of accounts most of the time is filling the store, and what a
//! filter does not select is left out of that too: `just bench pages store/account`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

use std::{
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

use clap::Parser;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use zlay::{
    atproto::{did::Did, hostname::Endpoint},
    config::Cli,
    control::{Control, Source, domain::Domain, embedded::Embedded},
    limits::{LIST_COLLECTION_MAX, LIST_HOSTS_MAX, LIST_REPOS_MAX},
    relay::Relay,
    sim::{
        known::{self, Known},
        relay::Client,
    },
    store::{
        Options, Store,
        account::{HostId, HostRecord},
    },
};

#[path = "support/disk.rs"]
mod disk;

/// Accounts in the store.
static ACCOUNTS: LazyLock<u64> = LazyLock::new(|| {
    let number = std::env::var("ZLAY_BENCH_ACCOUNTS").ok();
    number.map_or(100_000, |text| text.parse().unwrap())
});
/// Accounts of a page of either list.
const PAGE: usize = 1_000;
/// Pages whose times are looked at.
const PAGES: usize = 2_000;
/// Hosts: one more than a page.
const HOSTS: u32 = LIST_HOSTS_MAX as u32 + 1;

fn options() -> Options {
    Options {
        fsync: false,
        ..Options::default()
    }
}

fn did(ordinal: u64) -> Did {
    known::did(ordinal).unwrap()
}

/// What the store is filled with.
fn known() -> Known {
    Known {
        accounts: *ACCOUNTS,
        first_host: HostId(1),
        hosts: HOSTS,
    }
}

/// What is known of the hosts.
fn fill_hosts(dir: &Path) {
    let store = Store::open(dir, options()).unwrap();
    let mut batch = store.batch();
    for host in 1..=HOSTS {
        let record = HostRecord {
            cursor: 1_000_000,
            epoch: 0,
            accounts: *ACCOUNTS / u64::from(HOSTS),
        };
        batch.put_host(HostId(host), &record);
    }
    store.commit(batch).unwrap();
    store.close().unwrap();
}

/// Whether the filter of the command line selects this one, as Criterion understands it.
fn is_wanted(name: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    filters
        .next()
        .is_none_or(|filter| name.contains(&filter) || filter.contains(name))
}

/// How long pages take that begin anywhere.
fn spread(what: &str, mut page: impl FnMut(u64) -> usize) {
    if !is_wanted(what) {
        return;
    }
    let mut rng = fastrand::Rng::with_seed(2);
    let mut times: Vec<Duration> = Vec::with_capacity(PAGES);
    for _ in 0..PAGES {
        let after = rng.u64(1..=*ACCOUNTS - PAGE as u64);
        let start = Instant::now();
        assert_eq!(page(after), PAGE);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[PAGES * share / 100].as_micros();
    println!(
        "{what}: {PAGE} of {} from anywhere: p50 {} us, p99 {} us",
        *ACCOUNTS,
        at(50),
        at(99)
    );
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
    let asked: Vec<Did> = (0..10_000).map(|_| did(rng.u64(1..=*ACCOUNTS))).collect();
    let mut asked = asked.iter().cycle();
    group.throughput(Throughput::Elements(1));
    group.bench_function("account", |b| {
        b.iter(|| store.account(asked.next()?).unwrap());
    });
    let unknown: Vec<Did> = (0..10_000).map(|n| did(*ACCOUNTS + 1 + n)).collect();
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
            after = (after + page) % *ACCOUNTS;
            assert_eq!(accounts.len(), LIST_REPOS_MAX);
        });
    });
    let page = LIST_COLLECTION_MAX as u64;
    let mut after = 0;
    group.throughput(Throughput::Elements(page));
    group.bench_function("collection_page", |b| {
        b.iter(|| {
            let found = store.collection_page(&known::collection(1), after, LIST_COLLECTION_MAX);
            after = (after + page) % *ACCOUNTS;
            assert_eq!(found.unwrap().dids.len(), LIST_COLLECTION_MAX);
        });
    });
    group.finish();
    spread("store/accounts_after", |after| {
        store.accounts_after(after, PAGE).unwrap().len()
    });
    spread("store/collection_page", |after| {
        let found = store.collection_page(&known::collection(1), after, PAGE);
        found.unwrap().dids.len()
    });
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
            let did = did(rng.u64(1..=*ACCOUNTS));
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
            after = (after + page) % *ACCOUNTS;
            repos(after)
        });
    });
    let of_collection = |after: u64, limit: usize| {
        let name = known::collection(1);
        let path = format!("{sync}.listReposByCollection?collection={name}&limit={limit}");
        match after {
            0 => get(&client, &path),
            after => get(&client, &format!("{path}&cursor={after}")),
        }
    };
    let page = LIST_COLLECTION_MAX as u64;
    let mut after = 0;
    group.throughput(Throughput::Elements(page));
    group.bench_function("listReposByCollection", |b| {
        b.iter(|| {
            after = (after + page) % *ACCOUNTS;
            of_collection(after, LIST_COLLECTION_MAX)
        });
    });
    let hosts = format!("{sync}.listHosts?limit={LIST_HOSTS_MAX}");
    assert_eq!(count(&get(&client, &hosts), "hosts"), LIST_HOSTS_MAX);
    group.throughput(Throughput::Elements(LIST_HOSTS_MAX as u64));
    group.bench_function("listHosts", |b| b.iter(|| get(&client, &hosts)));
    group.finish();
    spread("http/listRepos", |after| count(&repos(after), "repos"));
    spread("http/listReposByCollection", |after| {
        count(&of_collection(after, PAGE), "repos")
    });
    drop(client);
    relay.stop().unwrap();
}

fn pages(c: &mut Criterion) {
    let dir = disk::dir();
    let known = known();
    known.fill(dir.path()).unwrap();
    let asks_http = is_wanted("http");
    // A page of a collection is the only thing that needs the index, and it is most of the work.
    if asks_http || is_wanted("store/collection_page") {
        let size = known.index(dir.path()).unwrap();
        println!(
            "bytes on disk of a pair: {:.1}; {:.2} GB for 60 million",
            size.bytes_per_pair(),
            size.bytes_per_pair() * 60e6 / 1e9
        );
    }
    if is_wanted("store") {
        store(c, dir.path());
    }
    if asks_http {
        fill_hosts(dir.path());
        add_hosts(dir.path());
        http(c, dir.path());
    }
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
