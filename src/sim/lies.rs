//! What a server of DID documents can do wrong: lie, hesitate, break off.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    listen::{self, Waker},
    stream::Stream,
};
use crate::limits::{HTTP_WRITE_TIMEOUT, IDENTITY_DOCUMENT_BYTES_MAX};

/// A way not to give the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// The document of another DID.
    WrongId,
    /// A document of many times the size that anybody needs; its length is said.
    Huge,
    /// A body without an end, whose length is not said.
    Endless,
    /// A body without an end in small chunks.
    EndlessChunks,
    /// A head without an end.
    EndlessHead,
    /// One interim answer after another.
    EndlessHints,
    /// The document, a byte a second.
    DripBody,
    /// The head, a byte a second.
    DripHead,
    /// To be looked for here; nothing: where it was asked for.
    Redirect(&'static str),
    /// The right document under the type of a web page.
    ContentType,
    /// Half a document, said to be whole.
    Half,
    /// JSON that is nothing but nested.
    Deep,
    /// A page of words with the status of success.
    Page,
    /// There is no such document: this status, and a page.
    Gone(u16),
    /// Fewer questions, please; for so many seconds.
    Limited(u64),
    /// An error of the server.
    Failed(u16),
    /// Connections are accepted, and that is all: no handshake, no answer.
    Silent,
    /// The connection is reset in the middle of the document.
    Reset,
    /// The connection is closed in the middle of the document.
    Cut,
    /// Not HTTP.
    Garbage,
}

/// How long one lie is kept up.
const HELD_MAX: Duration = Duration::from_secs(60);
/// How soon it is seen that it is over.
const LOOK: Duration = Duration::from_millis(50);
/// The pause between two bytes that drip.
const DRIP: Duration = Duration::from_secs(1);
/// What is written at once of what has no end.
const PIECE: usize = 16 << 10;
const JSON: &str = "application/json";

/// What is told at present, and what it has cost.
#[derive(Default, Debug)]
pub struct Lies {
    present: Mutex<Option<Lie>>,
    told: AtomicU64,
    open: AtomicUsize,
    bytes_max: AtomicU64,
}

impl Lies {
    /// Lies in this way from now on, or no longer.
    pub fn set(&self, lie: Option<Lie>) {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }

    /// The present one.
    pub fn get(&self) -> Option<Lie> {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often somebody was lied to.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// How many are being lied to now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The most bytes that anybody has taken of one lie; what lies in the buffers of both ends counts
    /// too.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Leaves a connection alone that was just accepted, where that is the lie; true where it was.
    pub(crate) fn hold(&self, stop: &Waker) -> bool {
        let holds = self.get() == Some(Lie::Silent);
        if holds {
            self.told.fetch_add(1, Ordering::Relaxed);
            self.open.fetch_add(1, Ordering::Relaxed);
            self.wait(Lie::Silent, HELD_MAX, stop);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        holds
    }

    /// Tells a lie instead of `document`; true where the connection may be used again.
    pub(crate) fn tell(
        &self,
        lie: Lie,
        document: &str,
        stream: &mut Stream,
        stop: &Waker,
    ) -> io::Result<bool> {
        self.told.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut telling = Telling {
            lies: self,
            lie,
            stream,
            stop,
            bytes: 0,
        };
        let told = telling.tell(document);
        self.bytes_max.fetch_max(telling.bytes, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
        told
    }

    /// Waits while this is the lie, for so long at most; true where it still is.
    fn wait(&self, lie: Lie, most: Duration, stop: &Waker) -> bool {
        let mut waited = Duration::ZERO;
        while waited < most {
            if self.get() != Some(lie) || listen::sleep(stop, LOOK) {
                return false;
            }
            waited += LOOK;
        }
        true
    }
}

struct Telling<'a> {
    lies: &'a Lies,
    lie: Lie,
    stream: &'a mut Stream,
    stop: &'a Waker,
    bytes: u64,
}

impl Telling<'_> {
    fn tell(&mut self, document: &str) -> io::Result<bool> {
        let half = &document[..document.len() / 2];
        match self.lie {
            Lie::WrongId => {
                // Another DID of the same length, wherever the document has its own.
                let wrong = document.replace("\"id\":\"did:", "\"id\":\"did:x");
                self.answer("200 OK", JSON, &wrong)
            }
            Lie::Huge => {
                let filler = "x".repeat(16 * IDENTITY_DOCUMENT_BYTES_MAX);
                let huge = document.replacen('{', &format!("{{\"filler\":\"{filler}\","), 1);
                self.answer("200 OK", JSON, &huge)
            }
            Lie::Endless => self.endless("\r\n", &"x".repeat(PIECE)),
            Lie::EndlessChunks => self.endless("Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
            Lie::EndlessHead => self.endless("", "X-Header: value\r\n"),
            Lie::EndlessHints => {
                let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
                while self.lasts() {
                    self.send(hint.as_bytes())?;
                }
                Ok(false)
            }
            Lie::DripBody => {
                self.send(head("200 OK", JSON, document.len()).as_bytes())?;
                self.drip(document)
            }
            Lie::DripHead => self.drip(&(head("200 OK", JSON, document.len()) + document)),
            Lie::Redirect(to) => {
                let answer =
                    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                self.send(answer.as_bytes()).map(|()| true)
            }
            Lie::ContentType => self.answer("200 OK", "text/html", document),
            Lie::Half => self.answer("200 OK", JSON, half),
            Lie::Deep => {
                let deep = "[".repeat(IDENTITY_DOCUMENT_BYTES_MAX / 2);
                let deep = document.replacen('{', &format!("{{\"service\":{deep},"), 1);
                self.answer("200 OK", JSON, &deep)
            }
            Lie::Page => self.answer("200 OK", "text/html", "<html>Back soon.</html>"),
            Lie::Gone(status) | Lie::Failed(status) => {
                let status = format!("{status} Whatever");
                self.answer(&status, "text/html", "<html>Sorry.</html>")
            }
            Lie::Limited(seconds) => {
                let answer = format!(
                    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {seconds}\r\n\
                     Content-Length: 0\r\n\r\n"
                );
                self.send(answer.as_bytes()).map(|()| true)
            }
            Lie::Silent => {
                self.lies.wait(self.lie, HELD_MAX, self.stop);
                Ok(false)
            }
            Lie::Reset | Lie::Cut => {
                self.send(head("200 OK", JSON, document.len()).as_bytes())?;
                self.send(half.as_bytes())?;
                if self.lie == Lie::Reset {
                    self.stream.reset_on_close()?;
                }
                Ok(false)
            }
            Lie::Garbage => {
                self.send(b"220 mail.test ESMTP at your service\r\n")?;
                Ok(false)
            }
        }
    }

    fn answer(&mut self, status: &str, kind: &str, body: &str) -> io::Result<bool> {
        self.send(head(status, kind, body.len()).as_bytes())?;
        for piece in body.as_bytes().chunks(PIECE) {
            self.send(piece)?;
        }
        Ok(true)
    }

    /// A head that goes on with `begin`, and then `more` for as long as anybody takes it.
    fn endless(&mut self, begin: &str, more: &str) -> io::Result<bool> {
        self.send(format!("HTTP/1.1 200 OK\r\n{begin}").as_bytes())?;
        let more = more.repeat(PIECE.div_ceil(more.len()));
        while self.lasts() {
            self.send(more.as_bytes())?;
        }
        Ok(false)
    }

    fn drip(&mut self, text: &str) -> io::Result<bool> {
        for byte in text.bytes() {
            if !self.lies.wait(self.lie, DRIP, self.stop) {
                return Ok(false);
            }
            self.send(&[byte])?;
        }
        Ok(true)
    }

    fn lasts(&self) -> bool {
        self.lies.get() == Some(self.lie)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.send_all(bytes, self.stop, HTTP_WRITE_TIMEOUT)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn head(status: &str, kind: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
}
