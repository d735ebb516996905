//! What a host sends over its websocket.

use std::{
    io::{self, Read, Write},
    str,
};

use tungstenite::handshake::derive_accept_key;

use super::server_frames::{Found, Parser, Violation};

/// What a host sends over its websocket, in whatever pieces it arrives: the first byte says in which.
pub fn websocket(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let piece = usize::from(*size) + 1;
    assert_eq!(messages(bytes, piece), messages(bytes, usize::MAX));
}

/// What a host answers to the opening handshake, in whatever pieces it arrives: the first byte says in which.
/// The right key, which is another one each time, stands where the bytes have a `@`.
pub fn handshake(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let [pieces, whole] = [usize::from(*size) + 1, usize::MAX].map(|piece| {
        let mut host = Host {
            answer: bytes.to_vec(),
            read: 0,
            piece,
        };
        let upgraded = super::upgrade::upgrade(&mut host, "pds.test", Some(7));
        // What is left over of the answer is the beginning of the stream.
        upgraded
            .map(|rest| [rest.as_slice(), &host.answer[host.read..]].concat())
            .map_err(|error| format!("{error:?}"))
    });
    // Of a bad one it depends on the pieces what is noticed first.
    match (pieces, whole) {
        (Ok(pieces), Ok(whole)) => assert_eq!(pieces.len(), whole.len()),
        (pieces, whole) => assert_eq!(pieces.is_ok(), whole.is_ok(), "{pieces:?} {whole:?}"),
    }
}

struct Host {
    answer: Vec<u8>,
    read: usize,
    piece: usize,
}

impl Write for Host {
    /// Takes the key out of the request.
    fn write(&mut self, request: &[u8]) -> io::Result<usize> {
        let text = str::from_utf8(request).expect("a request");
        let mut lines = text.lines();
        let key = lines
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .expect("a key");
        let accept = derive_accept_key(key.as_bytes());
        let answer = std::mem::take(&mut self.answer);
        for byte in answer {
            match byte {
                b'@' => self.answer.extend_from_slice(accept.as_bytes()),
                byte => self.answer.push(byte),
            }
        }
        Ok(request.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Host {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let left = &self.answer[self.read..];
        let count = left.len().min(room.len()).min(self.piece);
        room[..count].copy_from_slice(&left[..count]);
        self.read += count;
        Ok(count)
    }
}

fn messages(mut bytes: &[u8], piece: usize) -> (Vec<(Found, Vec<u8>)>, Option<Violation>) {
    let (mut parser, mut all) = (Parser::new(&[]), Vec::new());
    loop {
        match parser.advance() {
            Ok(Some(found)) => {
                all.push((found, parser.payload().to_vec()));
                continue;
            }
            Ok(None) if bytes.is_empty() => return (all, None),
            Ok(None) => {}
            Err(violation) => return (all, Some(violation)),
        }
        let room = parser.room();
        assert!(!room.is_empty());
        let (part, rest) = bytes.split_at(piece.min(room.len()).min(bytes.len()));
        room[..part.len()].copy_from_slice(part);
        parser.arrived(part.len());
        bytes = rest;
    }
}
