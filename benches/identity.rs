//! The identity cache with 500,000 documents in it.
//!
//! Unit: time of one call of the directory. `hit` and `miss` are what the thread of a host does for
//! every event; `insert` is what a resolver does with what it has fetched, in a cache that is full. The
//! limit beside them (`map`) is a hash map of the same documents behind a lock, without a bound and
//! without a thought of how old they are. Before the measurements it says how many bytes of memory a
//! document takes: asked of the allocator, and resident in this process with this allocator. Keys are of
//! K-256, as nearly all are.
//!
//! The allocator counts, which makes `insert` a little slower than it is.
//!
//! `just bench identity`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

use std::{
    collections::HashMap,
    fs,
    hint::black_box,
    sync::{Arc, RwLock},
    time::Duration,
};

use clap::Parser;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use peak_alloc::PeakAlloc;
use zlay::{
    atproto::{crypto::PublicKey, did::Did, handle::HandleDigest, hostname::Hostname},
    config::Cli,
    identity::{Directory, Identity},
    metrics::Metrics,
    outbound::Outbound,
    sim::keys::{Curve, Key},
    threads::stop_pair,
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Documents in the cache, and the most that it may have.
const IDENTITIES: u32 = 500_000;
/// Hosts that they name.
const HOSTS: u32 = 2_750;
/// Keys that are told apart: making one costs more than everything else here.
const KEYS: usize = 64;
/// Accounts that are asked for, in an order in which no processor's cache has them.
const ASKED: usize = 1 << 16;

/// What the document of the `n`-th account says.
fn identity(n: u32, keys: &[PublicKey]) -> Identity {
    Identity {
        key: Some(keys[n as usize % KEYS].clone()),
        host: Hostname::parse(&format!("pds{}.host.example.com", n % HOSTS)).ok(),
        tls: true,
        handle: Some(HandleDigest::of(&format!("person{n}.example.com"))),
        resolved_at: 1_700_000_000_000,
    }
}

fn keys() -> Vec<PublicKey> {
    let mut rng = fastrand::Rng::with_seed(1);
    let keys = (0..KEYS).map(|_| Key::random(Curve::K256, &mut rng).multikey());
    keys.map(|key| PublicKey::from_multikey(&key).unwrap())
        .collect()
}

/// The `n`-th account: a DID of the length that those of PLC have.
fn did(n: u32) -> Did {
    let digits = format!("{n:024b}").replace('1', "z").replace('0', "a");
    Did::parse(&format!("did:plc:{digits}")).unwrap()
}

/// What of this process is in memory, in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let resident = pages.split(' ').nth(1).unwrap();
    resident.parse::<usize>().unwrap() * 4096
}

/// Some accounts from `first` on, in no order, over and over.
fn asked(first: u32) -> impl Iterator<Item = Did> + Clone {
    let mut rng = fastrand::Rng::with_seed(2);
    let dids: Vec<Did> = (0..ASKED)
        .map(|_| did(first + rng.u32(..IDENTITIES)))
        .collect();
    dids.into_iter().cycle()
}

fn cache(c: &mut Criterion) {
    let config = Cli::parse_from(["zlay"]).config;
    let outbound = Outbound::new(&config).unwrap();
    let keys = keys();
    let before = (ALLOCATED.current_usage(), resident());
    let (stopper, stop) = stop_pair();
    let metrics = Arc::new(Metrics::default());
    let (directory, threads) = Directory::start(&config, outbound, metrics, stop).unwrap();
    for n in 0..IDENTITIES {
        directory.remember(&did(n), identity(n, &keys));
    }
    let after = (ALLOCATED.current_usage(), resident());
    let is_known = |n: &u32| directory.cached(&did(*n)).is_some();
    let kept = (0..IDENTITIES).filter(is_known).count();
    println!(
        "identity: {kept} documents kept of {IDENTITIES}; of each {} bytes asked for, {} resident",
        (after.0 - before.0) / kept,
        (after.1 - before.1) / kept,
    );

    let mut group = c.benchmark_group("identity");
    let mut dids = asked(0);
    group.bench_function("hit", |b| {
        b.iter(|| directory.cached(black_box(&dids.next()?)));
    });
    let mut dids = asked(IDENTITIES);
    group.bench_function("miss", |b| {
        b.iter(|| directory.cached(black_box(&dids.next()?)));
    });
    let map: HashMap<Did, Arc<Identity>> = (0..IDENTITIES)
        .map(|n| (did(n), Arc::new(identity(n, &keys))))
        .collect();
    let map = RwLock::new(map);
    let mut dids = asked(0);
    group.bench_function("map", |b| {
        b.iter(|| map.read().unwrap().get(black_box(&dids.next()?)).cloned());
    });
    drop(map);
    let mut next = IDENTITIES;
    group.bench_function("insert", |b| {
        b.iter_batched(
            || {
                next += 1;
                (did(next), identity(next, &keys))
            },
            |(did, identity)| directory.remember(&did, identity),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    drop(stopper);
    drop(threads);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    targets = cache
}
criterion_main!(benches);
