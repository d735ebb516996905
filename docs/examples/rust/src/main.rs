//! A subscriber of an AT Protocol relay: cargo run -- wss://relay.example.com cursor.txt

use std::{
    collections::HashMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ipld_core::{cid::Cid, ipld::Ipld};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_bytes::ByteBuf;
use serde_ipld_dagcbor::de::Deserializer;
use serde_json::{Value, json};
use tungstenite::{Message, http::StatusCode, protocol::WebSocketConfig, stream::MaybeTlsStream};

const FRAME_BYTES_MAX: usize = 5_000_000;
const SAVE_EVERY: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(64);
/// The relay pings after 30 seconds without a frame; longer than this, and the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);

#[derive(Deserialize)]
struct Header {
    op: i64,
    t: Option<String>,
}

/// What an error frame and an `#info` say.
#[derive(Deserialize)]
struct Words {
    #[serde(alias = "error")]
    name: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Event {
    seq: u64,
    #[serde(alias = "repo")]
    did: String,
    active: Option<bool>,
    blocks: Option<ByteBuf>,
    ops: Option<Vec<Op>>,
}

#[derive(Deserialize)]
struct Op {
    action: String,
    path: String,
    cid: Option<Cid>,
}

/// Why a connection has ended.
enum End {
    /// Coming back would not mend it.
    Fatal(String),
    /// Anything else.
    Lost(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for End {
    fn from(error: E) -> End {
        End::Lost(error.into())
    }
}

struct Subscriber {
    url: String,
    file: PathBuf,
    /// The seq of the last event that was dealt with; none: begin with what happens now.
    cursor: Option<u64>,
    saved_at: Instant,
}

impl Subscriber {
    fn new(relay: &str, file: &Path) -> Result<Subscriber, Box<dyn Error>> {
        let cursor = file.exists().then(|| fs::read_to_string(file));
        Ok(Subscriber {
            url: format!("{relay}/xrpc/com.atproto.sync.subscribeRepos"),
            file: file.to_owned(),
            cursor: cursor
                .transpose()?
                .map(|text| text.trim().parse())
                .transpose()?,
            saved_at: Instant::now(),
        })
    }

    /// Whole or not at all: a half-written cursor would be another one.
    fn save(&mut self) -> std::io::Result<()> {
        self.saved_at = Instant::now();
        let Some(cursor) = self.cursor else {
            return Ok(());
        };
        let part = self.file.with_extension("part");
        fs::write(&part, cursor.to_string())?;
        fs::rename(part, &self.file)
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let before = self.cursor;
            match self.connection() {
                Ok(()) => eprintln!("closed"),
                Err(End::Lost(error)) => eprintln!("closed: {error}"),
                Err(End::Fatal(why)) => return Err(why.into()),
            }
            if self.cursor != before {
                backoff = BACKOFF_FIRST;
                self.save()?;
            }
            thread::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0));
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One connection, from its beginning to its end.
    fn connection(&mut self) -> Result<(), End> {
        let url = match self.cursor {
            Some(cursor) => format!("{}?cursor={cursor}", self.url),
            None => self.url.clone(),
        };
        let config = WebSocketConfig::default().max_message_size(Some(FRAME_BYTES_MAX));
        let (mut socket, _) = match tungstenite::client::connect_with_config(url, Some(config), 0) {
            // 429: too many subscriptions of this address. 502 to 504: the proxy has no relay now.
            Err(tungstenite::Error::Http(answer)) if answer.status() == StatusCode::BAD_REQUEST => {
                return Err(End::Fatal("the relay refuses the cursor".into()));
            }
            other => other?,
        };
        match socket.get_ref() {
            MaybeTlsStream::Rustls(tls) => tls.sock.set_read_timeout(Some(SILENCE_MAX))?,
            MaybeTlsStream::Plain(tcp) => tcp.set_read_timeout(Some(SILENCE_MAX))?,
            _ => {}
        }
        loop {
            match socket.read()? {
                Message::Binary(frame) => self.frame(&frame)?,
                Message::Close(Some(close)) => eprintln!("{}: {}", close.code, close.reason),
                // Pings are answered by the library.
                _ => {}
            }
        }
    }

    /// Two DAG-CBOR items: what it is, and what it says.
    fn frame(&mut self, frame: &[u8]) -> Result<(), End> {
        let mut items = Deserializer::from_slice(frame);
        let header = Header::deserialize(&mut items)?;
        match header.t.as_deref() {
            _ if header.op == -1 => {
                let words = Words::deserialize(&mut items)?;
                // After ConsumerTooSlow the cursor is still good; after FutureCursor it is another
                // relay's.
                let text = format!("{}: {}", words.name, words.message);
                if words.name == "FutureCursor" {
                    return Err(End::Fatal(text));
                }
                eprintln!("error: {text}");
            }
            // OutdatedCursor: events are missing.
            Some("#info") => {
                let words = Words::deserialize(&mut items)?;
                eprintln!("info: {}: {}", words.name, words.message);
            }
            Some(kind @ ("#commit" | "#sync" | "#identity" | "#account")) => {
                let event = Event::deserialize(&mut items)?;
                match line(kind, &event) {
                    Ok(line) => println!("{line}"),
                    // One event that this program does not understand must not stop it for ever.
                    Err(error) => eprintln!("{}: {error}", event.seq),
                }
                self.cursor = Some(event.seq);
                if self.saved_at.elapsed() > SAVE_EVERY {
                    self.save()?;
                }
            }
            // A type of a later day.
            _ => {
                IgnoredAny::deserialize(&mut items)?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    r#type: &'a str,
    did: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ops: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
}

fn line(kind: &str, event: &Event) -> Result<String, Box<dyn Error>> {
    let mut ops = None;
    if let (Some(list), Some(file)) = (&event.ops, &event.blocks) {
        let blocks = blocks(file)?;
        ops = Some(
            list.iter()
                .map(|op| operation(op, &blocks))
                .collect::<Result<_, _>>()?,
        );
    }
    let line = Line {
        seq: event.seq,
        r#type: kind,
        did: &event.did,
        ops,
        active: event.active,
    };
    Ok(serde_json::to_string(&line)?)
}

fn operation(op: &Op, blocks: &HashMap<Cid, &[u8]>) -> Result<Value, Box<dyn Error>> {
    let mut kind = None;
    if let Some(cid) = &op.cid {
        let block = blocks.get(cid).ok_or("a record is not in the blocks")?;
        if let Ipld::Map(record) = serde_ipld_dagcbor::from_slice(block)?
            && let Some(Ipld::String(text)) = record.get("$type")
        {
            kind = Some(text.clone());
        }
    }
    Ok(json!([op.action, op.path, kind]))
}

/// The blocks of a CAR file: sections, each behind its length, of which the first is a header.
fn blocks(mut file: &[u8]) -> Result<HashMap<Cid, &[u8]>, Box<dyn Error>> {
    let mut blocks = HashMap::new();
    section(&mut file)?;
    while !file.is_empty() {
        let mut rest = section(&mut file)?;
        let cid = Cid::read_bytes(&mut rest)?;
        blocks.insert(cid, rest);
    }
    Ok(blocks)
}

/// Takes a section off the front; its length is an unsigned LEB128.
fn section<'a>(file: &mut &'a [u8]) -> Result<&'a [u8], Box<dyn Error>> {
    let mut len = 0_usize;
    for shift in (0..28).step_by(7) {
        let (&byte, rest) = file.split_first().ok_or("the file ends early")?;
        *file = rest;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let (section, rest) = file.split_at_checked(len).ok_or("the file ends early")?;
            *file = rest;
            return Ok(section);
        }
    }
    Err("no length".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let relay = arguments.next().ok_or("which relay?")?;
    let file = arguments.next().ok_or("which file for the cursor?")?;
    Subscriber::new(&relay, Path::new(&file))?.run()
}
