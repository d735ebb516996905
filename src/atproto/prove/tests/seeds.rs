//! Seeds for the targets in `fuzz/`: what the simulated network sends, what real PDSes have sent, and a
//! little of everything that is not a frame.

use std::{fs, path::Path};

use super::{recorded::recordings, *};
use crate::firehose::frame::ws_message;

/// Where they go. The fuzzer and the smoke test of `fuzz/` read them there.
struct Seeds {
    count: usize,
}

impl Seeds {
    fn write(&mut self, target: &str, bytes: &[u8]) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        let folder = seeds.join(target);
        fs::create_dir_all(&folder).unwrap();
        self.count += 1;
        fs::write(folder.join(format!("{:04}", self.count)), bytes).unwrap();
    }

    /// A frame, and the parts of it.
    fn frame(&mut self, frame: &[u8]) {
        self.write("frame", frame);
        self.write("cbor", frame);
        if let Body::Commit(envelope::Commit { blocks, .. })
        | Body::Sync(envelope::Sync { blocks, .. }) = parse(frame).body
        {
            self.write("car", &frame[blocks]);
        }
    }
}

/// The DID of the documents that `fuzz/` reads.
const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

/// The account that signs has the secret that `fuzz/src/targets/mod.rs` knows.
#[test]
#[ignore = "writes the seeds of the fuzz targets"]
fn write_fuzz_seeds() {
    let seeds = &mut Seeds { count: 0 };
    let rng = &mut fastrand::Rng::with_seed(1);
    let mut account = Account::random(rng, 0);
    account.key = Arc::new(Key::from_secret(keys::Curve::K256, [7; 32]).unwrap());
    let mut frames = Vec::new();
    for n in 0..12 {
        let mut writes = vec![account.post(&format!("post {n}"))];
        if let Some(path) = account.repo.tree().pick(rng).filter(|_| n % 3 == 0) {
            writes.push(Write::Delete(path.to_string()));
        }
        frames.push(account.commit(&writes).frame(n + 1).to_vec());
    }
    let sync = account.sync().unwrap();
    for event in [sync, account.identity(), account.account()] {
        frames.push(event.frame(99).to_vec());
    }
    let document = account.document("https://pds.test");
    let mut documents = vec![document.replace(account.did().as_ref(), DID)];
    for recording in recordings() {
        frames.extend(recording.frames);
        let documented = recording.documents.iter();
        documents.extend(documented.map(|(did, json)| json.replace(did, DID)));
    }
    frames.iter().for_each(|frame| seeds.frame(frame));
    for document in &documents {
        seeds.write("did_document", document.as_bytes());
    }
    write_messages(seeds, &frames);
    for name in NAMES {
        seeds.write("names", name.as_bytes());
    }
    for head in HEADS {
        seeds.write("request_head", head.as_bytes());
    }
    for method in 0..18 {
        for said in ADMIN {
            seeds.write("admin", &[&[method], said.as_bytes()].concat());
        }
    }
    for page in PAGES {
        seeds.write("page", page.as_bytes());
    }
    for answer in ANSWERS {
        seeds.write("handshake", &[&[40], answer.as_bytes()].concat());
    }
    for len in [10, 40, 100, 300, 600, 1_200] {
        for _ in 0..6 {
            let bytes: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
            seeds.write("mst_invert", &bytes);
            seeds.write("sequencer", &bytes);
        }
    }
}

/// Websocket bytes of both directions.
fn write_messages(seeds: &mut Seeds, frames: &[Vec<u8>]) {
    for (n, frame) in frames.iter().take(40).enumerate() {
        let message = ws_message(&[frame]);
        seeds.write("websocket", &[&[n as u8], &*message].concat());
    }
    let stream: Vec<u8> = frames
        .iter()
        .take(6)
        .flat_map(|f| ws_message(&[f]).to_vec())
        .collect();
    seeds.write("websocket", &[&[200], &stream[..]].concat());
    // A message in pieces around a ping, a text, a pong, and the end.
    let pieces = b"\x02\x02ab\x89\x01!\x00\x01c\x80\x01d\x81\x02hi\x8a\x00\x88\x04\x03\xe9ok";
    seeds.write("websocket", &[&[0], &pieces[..]].concat());
    let masked = |head: u8, payload: &[u8]| {
        let mask = [1u8, 2, 3, 4];
        let hidden = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
        let mut out = vec![head, 0x80 | payload.len() as u8];
        out.extend(mask);
        out.extend(hidden);
        out
    };
    let frames = [
        masked(0x89, b"are you there"),
        masked(0x8a, b""),
        masked(0x82, &[7; 100]),
        masked(0x02, b"a"),
        masked(0x80, b"b"),
        masked(0x88, b"\x03\xe8bye"),
    ];
    for frame in &frames {
        seeds.write("client_frames", &[&[3], &frame[..]].concat());
    }
    seeds.write("client_frames", &[&[0], &frames.concat()[..]].concat());
    let long = [&[5, 0x82, 0xfe, 1, 0, 1, 2, 3, 4][..], &[9; 256]].concat();
    seeds.write("client_frames", &long);
}

const NAMES: [&str; 22] = [
    DID,
    "did:web:example.com",
    "did:web:localhost%3A2583",
    "alice.example.com",
    "xn--ls8h.test",
    "app.bsky.feed.post",
    "app.bsky.feed.post/3jzfcijpj2z2a",
    "com.example.odd/self",
    "3jzfcijpj2z2a",
    "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",
    "pds.example.com",
    "PDS.example.com:443",
    "https://pds.example.com/",
    "ws://localhost:2583",
    "[::1]:80",
    "10.0.0.1",
    "2026-01-02T03:04:05.678Z",
    "1985-04-12T23:20:50.123456+01:00",
    "9223372036854775807",
    "zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w",
    "zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo",
    "z",
];

const HEADS: [&str; 9] = [
    "GET /xrpc/_health HTTP/1.1\r\nHost: relay\r\n\r\n",
    "GET /xrpc/com.atproto.sync.subscribeRepos?cursor=17 HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n\
     Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Version: 13\r\nX-Forwarded-For: 192.0.2.1, [2001:db8::1]:7\r\n\r\n",
    "GET /xrpc/com.atproto.sync.listRepos?limit=500&cursor=42 HTTP/1.1\r\nHost: relay\r\n\r\n",
    "GET /xrpc/com.atproto.sync.listReposByCollection?collection=app.bsky.feed.post&limit=%31 HTTP/1.1\r\n\
     Host: relay\r\nConnection: close\r\n\r\n",
    "GET /xrpc/com.atproto.sync.getRepo?did=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz&since=3jzfcijpj2z2a \
     HTTP/1.1\r\nHost: relay\r\n\r\n",
    "GET http://relay/xrpc/com.atproto.sync.getHostStatus?hostname=https://PDS.example.com:443/ HTTP/1.0\n\n",
    "POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1\r\nHost: relay\r\nContent-Length: 30\r\n\
     Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n{\"hostname\":\"pds.example.com\"}",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nOrigin: null\r\n\r\n",
];

/// What `listRepos` and `listReposByCollection` say.
const PAGES: [&str; 4] = [
    "{\"cursor\":\"17\",\"repos\":[{\"did\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"active\":true,\
     \"head\":\"bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454\",\"rev\":\"3jzfcijpj2z2a\"}]}",
    "{\"repos\":[{\"did\":\"did:web:example.com\",\"active\":false,\"status\":\"deactivated\",\
     \"head\":\"bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454\",\"rev\":\"3jzfcijpj2z2a\"},\
     {\"did\":7}]}",
    "{\"cursor\":\"a\",\"repos\":[{\"did\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\"},{},null]}",
    "{\"cursor\":\"\",\"repos\":[]}",
];

/// Answers to an opening handshake; `fuzz/` puts the right key in the place of `@`.
const ANSWERS: [&str; 5] = [
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Accept: @\r\n\r\n\u{2}\u{1}a",
    "HTTP/1.1 101 \nupgrade:WebSocket\nconnection: keep-alive, upgrade\nsec-websocket-accept: @\n\
     Sec-WebSocket-Extensions:\n\n",
    "HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\
     Sec-WebSocket-Protocol: chat\r\n\r\n",
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno",
    "HTTP/1.0 101 ok\r\nServer: rsky (atproto-relay)\r\n\r\n",
];

/// A query, a line's end, and a body; `fuzz/` has the methods in an order of its own.
const ADMIN: [&str; 13] = [
    "\n{\"hostname\":\"pds.example.com\",\"Host\":\"localhost:2583\"}",
    "host=pds.example.com&block=true\n",
    "\n{\"domain\":\"example.com\"}",
    "\n{\"did\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\"}",
    "did=did:web:localhost%253A80\n",
    "\n{\"host\":\"a.b\",\"repo_limit\":7,\"events_per_second\":null,\"trusted\":null,\"lenient\":true,\
     \"account_limit_alerts_silenced\":false}",
    "\n{\"host\":\"a.b\",\"cursor\":\"live\"}",
    "cursor=17\n{\"host\":\"a.b\"}",
    "\n{\"host\":\"a.b\",\"kind\":\"warning\",\"sentAt\":\"2026-01-02T03:04:05Z\"}",
    "enabled=true&limit=17&id=7\n",
    "\n{\"request_crawl\":false,\"trusted_domains\":[\"*.host.test\",\"a.b\"],\"new_hosts_per_day\":null,\
     \"host_events_per_hour\":5}",
    "\n{\"source\":\"relay.example.com\",\"collections\":[\"app.bsky.feed.post\",\"a.b.c\"]}",
    "source=https://relay.example.com&collections=a.b.c,%20d.e.f\n",
];
