//! Connections to listeners on loopback that are well behaved, slow, or hostile.

use std::{
    fs, io,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Parser;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use socket2::SockRef;

use super::{AddressError, FetchError, GetOptions, Outbound, Response};
use crate::{USER_AGENT, atproto::hostname::Endpoint, config::Cli, testing::wait_until};

/// For what must succeed.
const LONG: Duration = Duration::from_secs(30);
/// For what must not be waited for.
const SHORT: Duration = Duration::from_millis(300);

fn outbound(flags: &[&str]) -> Outbound {
    let cli = Cli::try_parse_from([&["zlay"], flags].concat()).unwrap();
    Outbound::new(&cli.config).unwrap()
}

fn open() -> Outbound {
    outbound(&["--allow-private-hosts"])
}

fn options(timeout: Duration) -> GetOptions<'static> {
    GetOptions {
        timeout,
        body_bytes_max: 1000,
        accept: "application/json",
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::parse(&format!("localhost:{port}")).unwrap()
}

/// A listener that hands each connection to `serve`, and how many there were.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let serve = Arc::new(serve);
        // These threads end with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Server { port, connections }
    }

    /// Answers every request with the same bytes, and closes.
    fn answering(answer: impl Into<Vec<u8>>) -> Server {
        let answer = answer.into();
        Server::start(move |mut stream| {
            head(&mut stream);
            let _ = stream.write_all(&answer);
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/path", self.port)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads a request up to its empty line; empty where the client closed.
fn head(stream: &mut impl Read) -> String {
    let mut head = String::new();
    for line in BufReader::with_capacity(1, stream).lines() {
        match line {
            Ok(line) if !line.is_empty() => head.push_str(&(line + "\n")),
            _ => break,
        }
    }
    head
}

/// Rule 53: <https://atproto.com/specs/sync#security-considerations>
#[test]
fn a_private_host_is_connected_to_only_where_allowed() {
    let server = Server::start(drop);
    let endpoint = endpoint(server.port);
    let refused = outbound(&[]).connect(&endpoint, LONG).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    let refused = outbound(&[]).get(&server.url(), options(LONG));
    let port = AddressError::Port(server.port);
    assert_eq!(refused, Err(FetchError::Address(port)));

    let stream = open().connect(&endpoint, LONG).unwrap();
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(&stream).keepalive().unwrap());
    // The server closes; by then it has counted.
    assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
    assert_eq!(server.connections(), 1);
}

/// Rule 53: <https://atproto.com/specs/sync#security-considerations>
#[test]
fn private_addresses_are_refused_in_every_spelling() {
    let outbound = outbound(&[]);
    for url in [
        "http://127.0.0.1/",
        "http://localhost/",
        "https://localhost/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f000001/",
    ] {
        let refused = Err(FetchError::Address(AddressError::NotPublic));
        assert_eq!(outbound.get(url, options(LONG)), refused, "{url}");
    }
    for url in ["", "localhost", "ftp://localhost/", "http:///path"] {
        assert_eq!(
            outbound.get(url, options(LONG)),
            Err(FetchError::Url),
            "{url}"
        );
    }
}

#[test]
fn a_host_that_does_not_listen_is_an_error() {
    // A bound socket that does not listen refuses, and nobody else can take its port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    assert!(open().connect(&endpoint(port), LONG).is_err());
    let url = format!("http://127.0.0.1:{port}/");
    let error = open().get(&url, options(LONG)).unwrap_err();
    assert!(matches!(error, FetchError::Failed(_)), "{error}");
}

#[test]
fn a_request_says_who_asks_and_an_answer_of_any_status_is_one() {
    let server = Server::start(|mut stream| {
        let head = head(&mut stream).to_ascii_lowercase();
        let agent = format!("user-agent: {USER_AGENT}\n").to_ascii_lowercase();
        let good = head.starts_with("get /path http/1.1\n")
            && head.contains(&agent)
            && head.contains("accept: application/json\n");
        let status = if good { 404 } else { 400 };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nServer: s\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nhi"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let response = Response {
        status: 404,
        server: Some("s".to_owned()),
        retry_after: Some(Duration::from_secs(7)),
        body: b"hi".to_vec(),
    };
    assert_eq!(open().get(&server.url(), options(LONG)), Ok(response));
}

/// Rule 53: <https://atproto.com/specs/sync#security-considerations>
#[test]
fn redirects_are_answers_and_not_followed() {
    let target = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let location = target.url();
    let server = Server::answering(format!(
        "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    ));
    let response = open().get(&server.url(), options(LONG)).unwrap();
    assert_eq!(response.status, 302);
    assert_eq!(target.connections(), 0);
}

#[test]
fn bodies_and_heads_are_bounded() {
    let with_body = |length: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let server = Server::answering([head.into_bytes(), vec![b'x'; length]].concat());
        open()
            .get(&server.url(), options(LONG))
            .map(|r| r.body.len())
    };
    assert_eq!(with_body(1000), Ok(1000));
    assert_eq!(with_body(1001), Err(FetchError::TooLarge));
    assert_eq!(with_body(50_000_000), Err(FetchError::TooLarge));

    let endless = |prefix: &'static str, more: &'static [u8]| {
        let server = Server::start(move |mut stream| {
            head(&mut stream);
            let _ = stream.write_all(prefix.as_bytes());
            while stream.write_all(more).is_ok() {}
        });
        open().get(&server.url(), options(LONG))
    };
    let body = endless("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]);
    assert_eq!(body, Err(FetchError::TooLarge));
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = endless(chunks, b"4\r\nxxxx\r\n");
    assert_eq!(chunked, Err(FetchError::TooLarge));
    let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    assert_eq!(endless("", hint), Err(FetchError::TooLarge));
    let headers = endless("HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n");
    assert!(headers.is_err());
    let header = endless("HTTP/1.1 200 OK\r\nX-Header: ", &[b'x'; 4096]);
    assert_eq!(header, Err(FetchError::TooLarge));
}

#[test]
fn an_answer_that_drips_is_cut_at_the_deadline() {
    for prefix in [
        "HTTP/1.1 200 OK\r\nX-Header: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n",
    ] {
        let server = Server::start(move |mut stream| {
            head(&mut stream);
            let _ = stream.write_all(prefix.as_bytes());
            while stream.write_all(b"x").is_ok() {
                thread::sleep(SHORT / 10);
            }
        });
        let answer = open().get(&server.url(), options(SHORT));
        assert_eq!(answer, Err(FetchError::Timeout), "{prefix:?}");
    }
}

#[test]
fn a_directory_connection_is_kept_and_replaced_when_it_went_stale() {
    // Every connection answers twice and then closes at the third request.
    let server = Server::start(|mut stream| {
        for _ in 0..2 {
            if head(&mut stream).is_empty() {
                return;
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
            stream.write_all(answer).unwrap();
        }
        head(&mut stream);
    });
    let url = format!("http://127.0.0.1:{}", server.port);
    // Private addresses are not allowed: the directory is the operator's word.
    let outbound = outbound(&["--plc-url", &url]);
    for request in 0..6 {
        let response = outbound.get_directory("/path", options(LONG)).unwrap();
        assert_eq!(response.body, b"hi");
        assert_eq!(server.connections(), request / 2 + 1);
    }
}

#[test]
fn requests_under_way_can_be_aborted() {
    let server = Server::start(|mut stream| {
        head(&mut stream);
        let _ = stream.read(&mut [0]);
    });
    let outbound = open();
    let (asking, url) = (outbound.clone(), server.url());
    let request = thread::spawn(move || asking.get(&url, options(LONG)));
    wait_until("the request is under way", || server.connections() > 0);
    outbound.abort_requests();
    let error = request.join().unwrap().unwrap_err();
    assert!(matches!(error, FetchError::Failed(_)), "{error}");
    assert!(outbound.get(&server.url(), options(LONG)).is_err());
}

/// A server with a certificate for `localhost`, which is also its own root at `ca`.
fn tls_server(ca: &Path) -> Server {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(ca, certified.cert.pem()).unwrap();
    let key = certified.signing_key.serialize_pem();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    Server::start(move |stream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        if !head(&mut stream).is_empty() {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
            stream.write_all(answer).unwrap();
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

#[test]
fn tls_trusts_further_roots_only_where_they_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let server = tls_server(&ca);
    let url = format!("https://localhost:{}/", server.port);
    let trusting = [
        "--allow-private-hosts",
        "--extra-ca-file",
        ca.to_str().unwrap(),
    ];
    let response = outbound(&trusting).get(&url, options(LONG)).unwrap();
    assert_eq!(response.body, b"hi");
    let error = open().get(&url, options(LONG)).unwrap_err();
    assert!(matches!(error, FetchError::Failed(_)), "{error}");
    // The name counts too.
    let other = format!("https://127.0.0.1:{}/", server.port);
    assert!(outbound(&trusting).get(&other, options(LONG)).is_err());
}

#[test]
fn a_tls_handshake_has_the_same_deadline() {
    let server = Server::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("https://localhost:{}/", server.port);
    assert_eq!(open().get(&url, options(SHORT)), Err(FetchError::Timeout));
}
