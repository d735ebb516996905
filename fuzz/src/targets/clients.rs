//! What a subscriber sends.

use super::client_frames::{ClientFrame, Parser, Violation};

/// What a client sends over its websocket, in whatever pieces it arrives: the first byte says in which.
pub fn client_frames(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = read(bytes, usize::MAX);
    assert_eq!(whole, read(bytes, usize::from(*size) + 1));
    for frame in &whole.0 {
        if let ClientFrame::Ping(payload) | ClientFrame::Close(payload) = frame {
            assert!(payload.len() <= super::frame::CONTROL_BYTES_MAX);
        }
    }
}

fn read(bytes: &[u8], piece: usize) -> (Vec<ClientFrame>, Option<Violation>) {
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    for part in bytes.chunks(piece.min(bytes.len().max(1))) {
        if let Err(violation) = parser.feed(part, &mut found) {
            return (found, Some(violation));
        }
    }
    (found, None)
}
