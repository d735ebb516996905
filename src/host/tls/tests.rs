//! Against a server of rustls that keeps its own buffers.

use std::collections::VecDeque;

use proptest::prelude::*;
use rustls::{
    Error, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::*;

/// A server at the other end of a wire without sockets.
struct Wire {
    server: ServerConnection,
    /// What the server has sent, and was not read.
    sent: VecDeque<u8>,
    /// A read brings no more than this.
    piece: usize,
    /// What the server has heard.
    heard: Vec<u8>,
    /// What the server was told in the last alert, or found wrong.
    error: Option<Error>,
    /// After what is sent, the connection ends.
    ends: bool,
    /// Nothing can be written.
    is_stuck: bool,
    waits: usize,
}

impl Wire {
    fn new(config: ServerConfig, piece: usize) -> Wire {
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        server.set_buffer_limit(None);
        Wire {
            server,
            sent: VecDeque::new(),
            piece,
            heard: Vec::new(),
            error: None,
            ends: false,
            is_stuck: false,
            waits: 0,
        }
    }

    fn send(&mut self) {
        while self.server.wants_write() {
            self.server.write_tls(&mut self.sent).unwrap();
        }
    }

    /// What the server says next.
    fn say(&mut self, bytes: &[u8]) {
        self.server.writer().write_all(bytes).unwrap();
        self.send();
    }

    fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty());
        self.wait()?;
        let count = buffer.len().min(self.piece);
        self.sent.read(&mut buffer[..count])
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.is_stuck {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Only a little at a time.
        let mut part = &buffer[..buffer.len().min(1_000)];
        let count = self.server.read_tls(&mut part)?;
        if let Err(error) = self.server.process_new_packets() {
            self.error = Some(error);
        }
        match self.server.reader().read_to_end(&mut self.heard) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            end => drop(end.unwrap()),
        }
        self.send();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Wire {
    fn wait(&mut self) -> io::Result<()> {
        self.waits += 1;
        match self.sent.is_empty() && !self.ends {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    }
}

/// A server for `localhost`, with so many bytes of certificates more than it needs; and a client that trusts it.
fn configs(
    version: &'static SupportedProtocolVersion,
    more_bytes: usize,
) -> (ServerConfig, Arc<ClientConfig>) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = certified.signing_key.serialize_pem();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut chain = vec![certified.cert.der().clone()];
    chain.extend((more_bytes > 0).then(|| CertificateDer::from(vec![0; more_bytes])));
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, Arc::new(client))
}

fn connect(wire: Wire, config: Arc<ClientConfig>) -> io::Result<TlsStream<Wire>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsStream::connect(config, name, wire, &Arc::new(Pool::new(3)))
}

/// A connection on which a read of the socket brings no more than `piece` bytes.
fn connected(version: &'static SupportedProtocolVersion, piece: usize) -> TlsStream<Wire> {
    let (server, client) = configs(version, 0);
    let stream = connect(Wire::new(server, piece), client).unwrap();
    assert_eq!(stream.pool.count(), 1);
    stream
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn some_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// Reads until there is nothing, in reads of these lengths, over and over.
fn read_all(stream: &mut TlsStream<Wire>, lens: &[usize]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for len in lens.iter().cycle() {
        let mut buffer = vec![0; *len];
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn everything_arrives_in_order_and_no_room_is_kept(
        said in prop::collection::vec((0usize..60_000, any::<u64>()), 1..6),
        answers in prop::collection::vec(0usize..40_000, 1..4),
        fragment in prop::sample::select(vec![None, Some(32), Some(700)]),
        piece in prop::sample::select(vec![1usize, 7, 1_448, 20_000, 1 << 20]),
        lens in prop::collection::vec(1usize..30_000, 1..5),
        version in prop::sample::select(VERSIONS.to_vec()),
        half_rtt in any::<bool>(),
    ) {
        let (mut server, client) = configs(version, 0);
        server.max_fragment_size = fragment;
        server.send_half_rtt_data = half_rtt;
        let mut wire = Wire::new(server, piece);
        // Before anybody has said a word.
        let early = b"the server begins";
        wire.server.writer().write_all(early).unwrap();
        let mut stream = connect(wire, client).unwrap();
        let mut expected = early.to_vec();
        for (len, seed) in said {
            let bytes = some_bytes(len, seed);
            stream.transport().say(&bytes);
            expected.extend(bytes);
        }
        let mut all = vec![0; 3];
        stream.read_exact(&mut all).unwrap();
        // Words in the middle of what is read.
        let mut heard = Vec::new();
        for len in answers {
            let answer = some_bytes(len, len as u64);
            stream.write_all(&answer).unwrap();
            heard.extend(answer);
            all.extend(read_all(&mut stream, &lens).unwrap());
        }
        prop_assert!(all == expected);
        prop_assert!(stream.transport().heard() == heard);
        prop_assert!(stream.room.is_none());
        prop_assert_eq!(stream.pool.count(), 1);
    }
}

#[test]
fn whoever_says_nothing_has_no_room_and_half_a_record_keeps_it() {
    for version in VERSIONS {
        let mut stream = connected(version, 1 << 20);
        read_all(&mut stream, &[100]).unwrap();
        let wire = stream.transport();
        wire.say(&[7; 5_000]);
        let late = wire.sent.split_off(3_000);
        let mut buffer = [0; 6_000];
        for _ in 0..2 {
            let error = stream.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            assert_eq!(stream.room.as_ref().unwrap().filled, 3_000);
        }
        // What is sent meanwhile does not touch it.
        stream.write_all(b"well?").unwrap();
        assert_eq!(stream.transport().heard(), b"well?");
        stream.transport().sent.extend(late);
        assert_eq!(stream.read(&mut buffer).unwrap(), 5_000);
        assert_eq!(buffer[..5_000], [7; 5_000]);
        assert!(stream.room.is_none());
        let error = stream.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(stream.room.is_none());
        // Who gets it next finds nothing in it.
        stream.transport().say(b"more");
        stream.transport().sent.truncate(5);
        assert!(stream.read(&mut buffer).is_err());
        let pool = Arc::clone(&stream.pool);
        drop(stream);
        assert_eq!(pool.count(), 1);
        let mut room = None;
        assert!(super::room(&mut room, &pool).is_empty());
    }
}

#[test]
fn a_connection_ends_as_tls_does_or_is_cut() {
    for version in VERSIONS {
        let mut stream = connected(version, 1 << 20);
        let wire = stream.transport();
        wire.say(b"bye");
        wire.server.send_close_notify();
        wire.send();
        wire.ends = true;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"bye");
        assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
        // The other half is open.
        stream.write_all(b"bye too").unwrap();
        assert_eq!(stream.transport().heard(), b"bye too");

        for cut in [0, 1, 20] {
            let mut stream = connected(version, 1 << 20);
            read_all(&mut stream, &[100]).unwrap();
            stream.transport().say(&[1; 100]);
            stream.transport().sent.truncate(cut);
            stream.transport().ends = true;
            let error = stream.read(&mut [0; 200]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
    }
}

#[test]
fn what_is_no_record_of_the_host_is_an_error_that_the_host_hears_of() {
    for version in VERSIONS {
        let forged: [fn(&mut Wire); 3] = [
            |wire| wire.sent.extend(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            |wire| {
                wire.say(b"true");
                *wire.sent.back_mut().unwrap() ^= 1;
            },
            // A record that says it is longer than any.
            |wire| wire.sent.extend([23, 3, 3, 0xff, 0xff, 0]),
        ];
        for forge in forged {
            let mut stream = connected(version, 1 << 20);
            read_all(&mut stream, &[100]).unwrap();
            stream.transport().say(b"before");
            forge(stream.transport());
            // What came before it is not lost.
            let mut buffer = [0; 100];
            assert_eq!(stream.read(&mut buffer[..4]).unwrap(), 4);
            assert_eq!(stream.read(&mut buffer[4..]).unwrap(), 2);
            assert_eq!(&buffer[..6], b"before");
            let error = stream.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(stream.read(&mut buffer).unwrap(), 0);
            assert!(stream.write(b"well").is_err());
            let heard = stream.transport().error.take();
            assert!(matches!(heard, Some(Error::AlertReceived(_))), "{heard:?}");
        }
    }
}

#[test]
fn a_certificate_that_is_not_trusted_ends_the_handshake() {
    for version in VERSIONS {
        let (server, _) = configs(version, 0);
        let (_, client) = configs(version, 0);
        let mut wire = Wire::new(server, 100);
        let name = ServerName::try_from("localhost").unwrap();
        let pool = Arc::new(Pool::new(3));
        let error = TlsStream::connect(client, name, &mut wire, &pool)
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let text = error.to_string();
        assert!(text.contains("invalid peer certificate"), "{text}");
        let heard = wire.error.take();
        assert!(matches!(heard, Some(Error::AlertReceived(_))), "{heard:?}");
        assert_eq!(pool.count(), 1);
    }
}

#[test]
fn a_host_that_ends_or_stalls_in_the_handshake() {
    let (_, client) = configs(&TLS13, 0);
    for (ends, kind) in [
        (true, io::ErrorKind::UnexpectedEof),
        (false, io::ErrorKind::WouldBlock),
    ] {
        let (server, _) = configs(&TLS13, 0);
        let mut wire = Wire::new(server, 100);
        wire.ends = ends;
        let mut wire = Deaf(wire);
        let name = ServerName::try_from("localhost").unwrap();
        let pool = Arc::new(Pool::new(3));
        let error = TlsStream::connect(Arc::clone(&client), name, &mut wire, &pool);
        assert_eq!(error.err().unwrap().kind(), kind);
        assert_eq!(wire.0.waits, 1);
    }
}

#[test]
fn a_long_chain_of_certificates_is_read_and_an_endless_one_is_not() {
    for version in VERSIONS {
        for piece in [1_000, 1 << 20] {
            let (server, client) = configs(version, 40_000);
            let mut stream = connect(Wire::new(server, piece), client).unwrap();
            stream.transport().say(b"hello");
            assert_eq!(read_all(&mut stream, &[100]).unwrap(), b"hello");
            // Nobody keeps the room that took.
            let room = super::room(&mut stream.room, &stream.pool);
            assert!(room.records.capacity() <= TLS_RECORD_BYTES_MAX);

            let (server, client) = configs(version, 70_000);
            let error = connect(Wire::new(server, piece), client).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }
}

#[test]
fn keys_change_on_the_way() {
    let mut stream = connected(&TLS13, 1_448);
    for round in 0..20 {
        let wire = stream.transport();
        wire.server.refresh_traffic_keys().unwrap();
        wire.say(&[round; 3_000]);
        assert_eq!(read_all(&mut stream, &[4_000]).unwrap(), [round; 3_000]);
        stream.write_all(&[round; 50]).unwrap();
        let wire = stream.transport();
        assert_eq!(wire.heard(), [round; 50]);
        assert_eq!(wire.error, None);
    }
}

#[test]
fn nothing_follows_half_a_record() {
    let mut stream = connected(&TLS13, 1 << 20);
    stream.transport().is_stuck = true;
    let error = stream.write(b"lost").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    stream.transport().is_stuck = false;
    let error = stream.write(b"next").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(stream.transport().heard(), b"");
}

/// A wire whose server hears nothing.
struct Deaf(Wire);

impl Read for Deaf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Deaf {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Deaf {
    fn wait(&mut self) -> io::Result<()> {
        self.0.wait()
    }
}

impl<T: Transport> Transport for &mut T {
    fn wait(&mut self) -> io::Result<()> {
        (**self).wait()
    }
}
