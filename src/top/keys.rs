//! Bytes from a terminal as keys. Pure.

/// A key that does something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    Quit,
    Sort,
    Failing,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// The keys among the bytes that a terminal sends; others mean nothing. A sequence that ends in the
/// middle is kept in `pending` for the next call.
///
/// Arrows come as `ESC [ A` or `ESC O A`, pages as `ESC [ 5 ~`
/// (<https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>).
pub(super) fn keys(pending: &mut Vec<u8>, bytes: &[u8]) -> Vec<Key> {
    pending.extend_from_slice(bytes);
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(&byte) = pending.get(at) {
        if byte != 0x1b {
            found.extend(plain(byte));
            at += 1;
            continue;
        }
        match sequence(&pending[at..]) {
            Some((key, length)) => {
                found.extend(key);
                at += length;
            }
            None => break,
        }
    }
    pending.drain(..at);
    // No sequence is this long: whatever it is, the next key must be understood.
    if pending.len() > 16 {
        pending.clear();
    }
    found
}

fn plain(byte: u8) -> Option<Key> {
    Some(match byte {
        // Also Ctrl-C and Ctrl-D.
        b'q' | b'Q' | 3 | 4 => Key::Quit,
        b's' | b'S' => Key::Sort,
        b'f' | b'F' => Key::Failing,
        b'k' => Key::Up,
        b'j' | b'\r' | b'\n' => Key::Down,
        b'b' | 2 => Key::PageUp,
        b' ' | 6 => Key::PageDown,
        b'g' => Key::Home,
        b'G' => Key::End,
        _ => return None,
    })
}

/// What begins with an escape, and how long it is; none where it has not ended yet.
fn sequence(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    match bytes.get(1)? {
        b'[' => {
            let parameters = &bytes[2..];
            let end = parameters.iter().position(|b| (0x40..=0x7e).contains(b))?;
            let key = match (&parameters[..end], parameters[end]) {
                (_, b'A') => Some(Key::Up),
                (_, b'B') => Some(Key::Down),
                (_, b'H') | (b"1" | b"7", b'~') => Some(Key::Home),
                (_, b'F') | (b"4" | b"8", b'~') => Some(Key::End),
                (b"5", b'~') => Some(Key::PageUp),
                (b"6", b'~') => Some(Key::PageDown),
                _ => None,
            };
            Some((key, 2 + end + 1))
        }
        b'O' => {
            let key = match bytes.get(2)? {
                b'A' => Some(Key::Up),
                b'B' => Some(Key::Down),
                b'H' => Some(Key::Home),
                b'F' => Some(Key::End),
                _ => None,
            };
            Some((key, 3))
        }
        // An escape that is a key of its own, and then the next one.
        _ => Some((None, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Key> {
        keys(&mut Vec::new(), bytes)
    }

    #[test]
    fn keys_are_letters_and_sequences() {
        assert_eq!(all(b"sfq"), [Key::Sort, Key::Failing, Key::Quit]);
        assert_eq!(all(b"\x1b[A\x1bOB"), [Key::Up, Key::Down]);
        assert_eq!(all(b"\x1b[5~\x1b[6~"), [Key::PageUp, Key::PageDown]);
        assert_eq!(
            all(b"\x1b[1;5A\x1b[1~\x1b[F"),
            [Key::Up, Key::Home, Key::End]
        );
        assert_eq!(all(b"\x03"), [Key::Quit]);
        assert_eq!(all("xü\u{0}".as_bytes()), []);
    }

    #[test]
    fn a_sequence_may_come_in_pieces() {
        let mut pending = Vec::new();
        assert_eq!(keys(&mut pending, b"\x1b"), []);
        assert_eq!(keys(&mut pending, b"["), []);
        assert_eq!(keys(&mut pending, b"6"), []);
        assert_eq!(keys(&mut pending, b"~s"), [Key::PageDown, Key::Sort]);
        assert!(pending.is_empty());
    }

    #[test]
    fn what_is_no_key_is_forgotten() {
        assert_eq!(all(b"\x1bq"), [Key::Quit]);
        assert_eq!(all(b"\x1b[200~q"), [Key::Quit]);
        let mut pending = Vec::new();
        keys(&mut pending, &[b"\x1b[".as_slice(), &[b'1'; 99]].concat());
        assert_eq!(keys(&mut pending, b"q"), [Key::Quit]);
    }
}
