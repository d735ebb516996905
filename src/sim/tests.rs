//! The network as a consumer sees it, checked with nothing that made it: another decoder, trees
//! from scratch, signatures by another library.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read, Write as _},
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use ipld_core::ipld::Ipld;
use tungstenite::{Message, WebSocket, client::client};

use super::{
    Config, Network,
    account::Account,
    check::Checker,
    event::{self, Digest},
    expected::Observation,
    faults::Faults,
    feed::Once,
    keys::{self, Curve, Key},
    plc::PlcFaults,
    traffic::{Mix, Traffic},
    tree::tests::naive_root,
    wire,
};
use crate::{
    atproto::cid::Cid,
    threads::{self, Role, Thread},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Decodes with the other decoder, which is strict, and checks that it writes the same bytes.
fn canonical(bytes: &[u8]) -> BTreeMap<String, Ipld> {
    let item: Ipld = serde_ipld_dagcbor::from_slice(bytes).unwrap();
    assert_eq!(serde_ipld_dagcbor::to_vec(&item).unwrap(), bytes);
    match item {
        Ipld::Map(map) => map,
        other => panic!("not a map: {other:?}"),
    }
}

fn text(item: &Ipld) -> &str {
    match item {
        Ipld::String(text) => text,
        other => panic!("not text: {other:?}"),
    }
}

fn bytes(item: &Ipld) -> &[u8] {
    match item {
        Ipld::Bytes(bytes) => bytes,
        other => panic!("not bytes: {other:?}"),
    }
}

fn link(item: Option<&Ipld>) -> Option<Cid> {
    match item {
        Some(Ipld::Link(cid)) => Some(Cid::from_bytes(&cid.to_bytes()).unwrap()),
        Some(Ipld::Null) | None => None,
        other => panic!("not a link: {other:?}"),
    }
}

/// The root and the blocks of a CAR file, every one of which is what its CID says.
fn read_car(mut file: &[u8]) -> (Cid, HashMap<Cid, Vec<u8>>) {
    fn take<'a>(file: &mut &'a [u8]) -> &'a [u8] {
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = file[0];
            *file = &file[1..];
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let (item, rest) = file.split_at(len);
        *file = rest;
        item
    }
    let header = canonical(take(&mut file));
    assert_eq!(header["version"], Ipld::Integer(1));
    let Ipld::List(roots) = &header["roots"] else {
        panic!("no roots");
    };
    let mut blocks = HashMap::new();
    while !file.is_empty() {
        let (cid, block) = take(&mut file).split_at(Cid::LEN);
        let cid = Cid::from_bytes(cid).unwrap();
        assert_eq!(Cid::of_cbor(block), cid);
        assert!(blocks.insert(cid, block.to_vec()).is_none(), "twice");
    }
    (link(roots.first()).unwrap(), blocks)
}

/// What a consumer knows of an account.
#[derive(Default)]
struct Known {
    records: BTreeMap<String, Cid>,
    /// Nodes: those of every commit so far.
    mirror: HashMap<Cid, Vec<u8>>,
    keys: Vec<Arc<Key>>,
}

impl Known {
    fn of(account: &Account) -> Known {
        let tree = account.repo.tree();
        let keys = tree.keys().into_iter();
        Known {
            records: keys
                .map(|k| (k.to_string(), tree.get(&k).unwrap()))
                .collect(),
            mirror: HashMap::new(),
            keys: vec![account.key.clone()],
        }
    }

    fn check_signature(&self, block: &[u8]) -> BTreeMap<String, Ipld> {
        let mut object = canonical(block);
        assert_eq!(object["version"], Ipld::Integer(3));
        assert_eq!(object["prev"], Ipld::Null);
        let signature = bytes(&object.remove("sig").unwrap()).to_vec();
        let signed = serde_ipld_dagcbor::to_vec(&Ipld::Map(object.clone())).unwrap();
        let good =
            |key: &Arc<Key>| keys::verify(key.curve(), key.compressed(), &signed, &signature);
        assert!(self.keys.iter().any(good), "nobody's signature");
        object
    }

    /// Applies a commit; false when it does not continue what is known.
    fn commit(&mut self, payload: &BTreeMap<String, Ipld>) -> bool {
        let (root, blocks) = read_car(bytes(&payload["blocks"]));
        assert_eq!(link(payload.get("commit")), Some(root));
        let object = self.check_signature(&blocks[&root]);
        assert_eq!(object["did"], payload["repo"]);
        assert_eq!(object["rev"], payload["rev"]);
        let before = naive_root(&self.records);
        let continues = link(payload.get("prevData")).is_none_or(|prev| prev == before);
        let Ipld::List(ops) = &payload["ops"] else {
            panic!("no ops");
        };
        for op in ops {
            let Ipld::Map(op) = op else { panic!("no op") };
            let path = text(&op["path"]).to_owned();
            let (cid, prev) = (link(op.get("cid")), link(op.get("prev")));
            if let Some(cid) = cid {
                canonical(&blocks[&cid]);
                assert_ne!(Some(cid), prev);
            }
            let had = match cid {
                Some(cid) => self.records.insert(path, cid),
                None => self.records.remove(&path),
            };
            match text(&op["action"]) {
                "create" => assert!(prev.is_none() && cid.is_some()),
                "update" => assert!(prev.is_some() && cid.is_some()),
                "delete" => assert!(prev.is_some() && cid.is_none()),
                other => panic!("{other}"),
            }
            if continues {
                assert_eq!(had, prev);
            }
        }
        self.mirror.extend(blocks);
        if continues {
            assert_eq!(link(object.get("data")), Some(naive_root(&self.records)));
        }
        continues
    }
}

/// A consumer of one host on a thread of its own.
fn consume(network: &Network, host: usize, frames: Sender<(usize, Vec<u8>)>) -> Thread {
    let mut websocket = connect(network, host, "");
    threads::spawn(Role::Host, "consumer", 1 << 20, move || {
        while let Ok(message) = websocket.read() {
            if let Message::Binary(frame) = message {
                frames.send((host, frame.to_vec())).unwrap();
            }
        }
    })
    .unwrap()
}

fn connect(network: &Network, host: usize, query: &str) -> WebSocket<TcpStream> {
    let host = network.host(host);
    let stream = TcpStream::connect(("127.0.0.1", host.port())).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let url = format!(
        "ws://{}/xrpc/com.atproto.sync.subscribeRepos{query}",
        host.name()
    );
    client(url, stream).unwrap().0
}

struct World {
    network: Arc<Network>,
    traffic: Traffic,
    known: HashMap<String, Known>,
    frames: Receiver<(usize, Vec<u8>)>,
    seqs: Vec<u64>,
    kinds: HashMap<String, usize>,
    broken_chains: usize,
}

impl World {
    /// Checks all frames that were sent and have not been looked at.
    fn check_sent(&mut self) {
        for account in self.traffic.accounts() {
            let known = self.known.entry(account.did().to_string()).or_default();
            if !known.keys.iter().any(|key| Arc::ptr_eq(key, &account.key)) {
                known.keys.push(account.key.clone());
            }
        }
        while (0..self.seqs.len()).any(|i| self.seqs[i] < self.network.host(i).seq()) {
            let (host, frame) = self.frames.recv_timeout(TIMEOUT).unwrap();
            self.check(host, &frame);
        }
    }

    fn check(&mut self, host: usize, bytes: &[u8]) {
        let frame = wire::read(bytes).unwrap();
        let header = event::header(frame.t);
        assert!(bytes.starts_with(&header));
        canonical(&header);
        let payload = canonical(&bytes[header.len()..]);
        let seq = frame.seq.unwrap();
        assert!(seq > self.seqs[host]);
        self.seqs[host] = seq;
        *self.kinds.entry(frame.t.to_owned()).or_default() += 1;
        let digest = Digest::of(&bytes[..frame.seq_at.start], &bytes[frame.seq_at.end..]);
        let observed = self.network.expected().observe(frame.did, digest, frame.t);
        assert!(matches!(observed, Observation::Expected(_)), "{observed:?}");
        let known = self.known.get_mut(frame.did).unwrap();
        let mut accounts = self.traffic.accounts();
        let account = accounts.find(|a| &**a.did() == frame.did).unwrap();
        let continues = match frame.t {
            "#commit" => known.commit(&payload),
            "#sync" => {
                let (root, blocks) = read_car(frame.blocks);
                let object = known.check_signature(&blocks[&root]);
                assert_eq!(object["rev"], payload["rev"]);
                false
            }
            _ => true,
        };
        if !continues {
            // Something was not announced: the account itself knows what.
            self.broken_chains += 1;
            let keys = std::mem::take(&mut known.keys);
            *known = Known {
                keys,
                ..Known::of(account)
            };
            let payload_root = (frame.t == "#commit").then(|| {
                let (root, blocks) = read_car(frame.blocks);
                link(canonical(&blocks[&root]).get("data")).unwrap()
            });
            assert!(payload_root.is_none_or(|root| root == naive_root(&known.records)));
        }
    }
}

fn world(mix: Mix, hosts: usize) -> (World, Vec<Thread>) {
    let network = Arc::new(
        Network::start(&Config {
            hosts,
            ..Config::default()
        })
        .unwrap(),
    );
    let traffic = Traffic::new(network.clone(), mix);
    let (sender, frames) = unbounded();
    let consumers = (0..hosts)
        .map(|host| consume(&network, host, sender.clone()))
        .collect();
    let known = traffic
        .accounts()
        .map(|account| (account.did().to_string(), Known::of(account)))
        .collect();
    let world = World {
        seqs: vec![0; hosts],
        kinds: HashMap::new(),
        broken_chains: 0,
        network,
        traffic,
        known,
        frames,
    };
    (world, consumers)
}

#[test]
fn every_event_is_valid_and_as_expected() {
    let mix = Mix {
        seed: 5,
        accounts: 6,
        large: true,
        ..Mix::default()
    };
    let (mut world, consumers) = world(mix, 4);
    for _ in 0..700 {
        world.traffic.step();
        world.check_sent();
        world.traffic.look();
        world.check_sent();
    }
    for kind in ["#commit", "#sync", "#identity", "#account"] {
        assert!(world.kinds[kind] > 5, "{:?}", world.kinds);
    }
    assert!(world.broken_chains > 20);
    assert!(
        world
            .traffic
            .accounts()
            .any(|a| a.key.curve() == Curve::P256)
    );
    assert_eq!(world.network.expected().outstanding(), 0);
    assert!(world.network.expected().differences().none());
    drop(world);
    drop(consumers);
}

#[test]
fn a_seed_makes_the_same_network() {
    let make = || {
        let network = Arc::new(Network::start(&Config::default()).unwrap());
        let mix = Mix {
            accounts: 4,
            faults: Faults::Some,
            ..Mix::default()
        };
        let traffic = Traffic::new(network.clone(), mix);
        let accounts = traffic.accounts().map(|account| {
            let key = account.key.multikey();
            (account.did().clone(), key, account.repo.tree().root().cid)
        });
        accounts.collect::<Vec<_>>()
    };
    assert_eq!(make(), make());
}

fn lone_account(network: &Network) -> Account {
    let account = Account::random(&mut fastrand::Rng::with_seed(3), 0);
    network.register(&account);
    account
}

fn next_seq(websocket: &mut WebSocket<TcpStream>) -> u64 {
    match websocket.read().unwrap() {
        Message::Binary(frame) => wire::read(&frame).unwrap().seq.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cursors_replay_and_the_future_is_refused() {
    let network = Network::start(&Config::default()).unwrap();
    let account = lone_account(&network);
    let seqs: Vec<u64> = (0..5)
        .map(|_| network.publish(0, &account.identity()))
        .collect();
    let mut replay = connect(&network, 0, &format!("?cursor={}", seqs[1]));
    let mut live = connect(&network, 0, "");
    assert_eq!(next_seq(&mut replay), seqs[2]);
    let seq = network.publish(0, &account.account());
    assert_eq!(next_seq(&mut live), seq);
    let rest: Vec<u64> = (0..3).map(|_| next_seq(&mut replay)).collect();
    assert_eq!(rest, [seqs[3], seqs[4], seq]);
    live.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(live.read().unwrap(), Message::Pong("are you there".into()));

    let mut future = connect(&network, 0, &format!("?cursor={}", seq + 1));
    match future.read().unwrap() {
        Message::Binary(frame) => assert_eq!(wire::read(&frame).unwrap().name, "FutureCursor"),
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(future.read(), Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 1008)
    );
}

#[test]
fn what_is_injected_happens_once() {
    let network = Network::start(&Config::default()).unwrap();
    let account = lone_account(&network);
    let first = network.publish(0, &account.identity());
    let event = account.account();
    network
        .host(0)
        .inject(Once::CutInside(event.frame(first + 1)));
    let second = network.publish(0, &event);
    let mut cut = connect(&network, 0, "?cursor=0");
    assert_eq!(next_seq(&mut cut), first);
    assert!(cut.read().is_err());
    let mut again = connect(&network, 0, &format!("?cursor={first}"));
    assert_eq!(next_seq(&mut again), second);
    network.host(0).set_inclusive(true);
    let mut inclusive = connect(&network, 0, &format!("?cursor={first}"));
    assert_eq!(next_seq(&mut inclusive), first);
}

/// A plain request; the status line's code and the body.
fn get(port: u16, path: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn hosts_and_directory_answer() {
    let network = Network::start(&Config::default()).unwrap();
    let mut account = lone_account(&network);
    account.commit(&[account.post("hello")]);
    account.status = Some("takendown");
    network.register(&account);
    let port = network.host(0).port();
    let did = account.did().replace(':', "%3A");
    let (status, body) = get(port, "/xrpc/com.atproto.server.describeServer");
    assert!(status == 200 && body["did"].is_string());
    let (status, body) = get(
        port,
        &format!("/xrpc/com.atproto.sync.getRepoStatus?did={did}"),
    );
    assert_eq!((status, body["active"].as_bool()), (200, Some(false)));
    assert_eq!(body["status"], "takendown");
    let (status, body) = get(port, "/xrpc/com.atproto.sync.getRepoStatus?did=did:plc:x");
    assert_eq!((status, &body["error"]), (400, &"RepoNotFound".into()));
    let (_, body) = get(port, "/xrpc/com.atproto.sync.listRepos");
    assert_eq!(body["repos"][0]["did"], **account.did());

    let plc_port = network
        .plc_url()
        .rsplit_once(':')
        .unwrap()
        .1
        .parse()
        .unwrap();
    let (status, body) = get(plc_port, &format!("/{did}"));
    assert_eq!((status, &body["id"]), (200, &(**account.did()).into()));
    assert_eq!(body["service"][0]["serviceEndpoint"], network.host(0).url());
    assert_eq!(get(plc_port, "/did:plc:nobody").0, 404);
    network.plc().set_faults(PlcFaults {
        fail: true,
        ..PlcFaults::default()
    });
    assert_eq!(get(plc_port, &format!("/{did}")).0, 500);
    assert_eq!(
        (network.plc().requests(), network.plc().not_found()),
        (3, 1)
    );
}

#[test]
fn tls_hosts_are_trusted_through_their_authority() {
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned,
        pki_types::{CertificateDer, pem::PemObject},
    };
    let config = Config {
        tls: true,
        ..Config::default()
    };
    let network = Network::start(&config).unwrap();
    let account = lone_account(&network);
    let mut roots = RootCertStore::empty();
    let pem = network.ca_pem().unwrap();
    let ca = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(tls), "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", network.host(0).port())).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let url = format!(
        "wss://{}/xrpc/com.atproto.sync.subscribeRepos",
        network.host(0).name()
    );
    let (mut websocket, _) = client(url, StreamOwned::new(session, stream)).unwrap();
    assert!(network.host(0).url().starts_with("https://"));
    for _ in 0..3 {
        let seq = network.publish(0, &account.identity());
        match websocket.read().unwrap() {
            Message::Binary(frame) => assert_eq!(wire::read(&frame).unwrap().seq, Some(seq)),
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until the checker has seen `frames` frames.
fn wait_for_frames(checker: &Checker, frames: u64) {
    let deadline = Instant::now() + TIMEOUT;
    while checker.stats.frames.load(Ordering::Relaxed) < frames {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_checker_follows_a_stream_and_names_what_is_wrong() {
    let network = Network::start(&Config::default()).unwrap();
    let (account, host) = (lone_account(&network), network.host(0));
    let events: Vec<_> = (0..40)
        .map(|i| event::identity(account.did(), None, i * 1_000))
        .collect();
    let send = |i: usize, seq: u64| {
        network.expected().expect(&events[i]);
        host.emit_at(&events[i], seq);
    };
    (0..10).for_each(|i| send(i, i as u64 + 1));
    let checker = Checker::start(host.name(), network.expected().clone()).unwrap();
    wait_for_frames(&checker, 10);
    // A lost connection is no difference: the checker comes back with its cursor.
    host.inject(Once::Cut);
    (10..20).for_each(|i| send(i, i as u64 + 1));
    wait_for_frames(&checker, 20);
    assert_eq!(checker.stats.connections.load(Ordering::Relaxed), 2);
    assert!(network.expected().verdict().none());
    assert!(checker.stats.take_delays().is_some());

    host.emit_at(&events[19], 21);
    host.emit_at(&events[30], 22);
    network.expected().expect(&events[20]);
    send(21, 25);
    host.inject(Once::Binary("nonsense".into()));
    wait_for_frames(&checker, 24);
    let verdict = network.expected().verdict();
    let counts = [
        verdict.duplicates,
        verdict.unexpected,
        verdict.missing,
        verdict.gaps,
        verdict.other,
        verdict.out_of_order,
    ];
    assert_eq!(counts, [1, 1, 1, 1, 1, 0], "{verdict:?}");
}
