//! Reading frames, as far as comparing them needs it. Apart from the relay's own decoder, so that
//! one can not hide the other's mistakes.

use std::ops::Range;

/// How deep containers are followed.
const DEPTH_MAX: u32 = 64;

/// What a frame says about itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Frame<'a> {
    /// 1 for a message, -1 for an error.
    pub op: i64,
    /// The type of a message.
    pub t: &'a str,
    /// The sequence number, where there is one.
    pub seq: Option<u64>,
    /// The place of its value in the frame.
    pub seq_at: Range<usize>,
    /// `did`, or `repo` of a `#commit`.
    pub did: &'a str,
    /// `error` of an error frame, `name` of an `#info`.
    pub name: &'a str,
    /// `rev`, where there is one.
    pub rev: &'a str,
    /// `blocks`, where there are any.
    pub blocks: &'a [u8],
    /// `active` of an `#account`.
    pub active: Option<bool>,
    /// `status`, where there is one.
    pub status: Option<&'a str>,
    /// `time`, where there is one.
    pub time: &'a str,
}

/// One item's major type, its argument, and where its content begins.
fn head(bytes: &[u8], at: usize) -> Option<(u8, u64, usize)> {
    let first = *bytes.get(at)?;
    let width = match first & 31 {
        small @ 0..=23 => return Some((first >> 5, u64::from(small), at + 1)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let argument = bytes.get(at + 1..at + 1 + width)?;
    let argument = argument.iter().fold(0, |n, b| (n << 8) | u64::from(*b));
    Some((first >> 5, argument, at + 1 + width))
}

/// Where the item that begins at `at` ends.
fn skip(bytes: &[u8], at: usize, depth: u32) -> Option<usize> {
    let (major, argument, at) = head(bytes, at)?;
    let items = match major {
        2 | 3 => {
            let end = at.checked_add(usize::try_from(argument).ok()?)?;
            return (end <= bytes.len()).then_some(end);
        }
        4 => argument,
        5 => argument.checked_mul(2)?,
        6 => 1,
        _ => return Some(at),
    };
    if depth >= DEPTH_MAX {
        return None;
    }
    (0..items).try_fold(at, |at, _| skip(bytes, at, depth + 1))
}

fn content(bytes: &[u8], at: usize, wanted: u8) -> Option<&[u8]> {
    let (major, argument, at) = head(bytes, at)?;
    let end = at.checked_add(usize::try_from(argument).ok()?)?;
    (major == wanted).then(|| bytes.get(at..end)).flatten()
}

fn text(bytes: &[u8], at: usize) -> Option<&str> {
    std::str::from_utf8(content(bytes, at, 3)?).ok()
}

/// Calls `visit` with every key of the map at `at` and the place of its value; returns the end.
fn map<'a>(
    bytes: &'a [u8],
    at: usize,
    mut visit: impl FnMut(&'a str, Range<usize>) -> Option<()>,
) -> Option<usize> {
    let (5, pairs, mut at) = head(bytes, at)? else {
        return None;
    };
    for _ in 0..pairs {
        let key = text(bytes, at)?;
        let value = skip(bytes, at, 0)?;
        at = skip(bytes, value, 0)?;
        visit(key, value..at)?;
    }
    Some(at)
}

/// Reads a frame; none when it is not two items of the expected shape.
pub fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let mut frame = Frame::default();
    let payload = map(bytes, 0, |key, value| {
        match key {
            "t" => frame.t = text(bytes, value.start)?,
            "op" => {
                frame.op = match head(bytes, value.start)? {
                    (0, n, _) => i64::try_from(n).ok()?,
                    (1, n, _) => -1 - i64::try_from(n).ok()?,
                    _ => return None,
                };
            }
            _ => {}
        }
        Some(())
    })?;
    let end = map(bytes, payload, |key, value| {
        match key {
            "seq" => {
                let (0, seq, _) = head(bytes, value.start)? else {
                    return None;
                };
                frame.seq = Some(seq);
                frame.seq_at = value;
            }
            "did" | "repo" => frame.did = text(bytes, value.start)?,
            "rev" => frame.rev = text(bytes, value.start)?,
            "error" | "name" => frame.name = text(bytes, value.start)?,
            "blocks" => frame.blocks = content(bytes, value.start, 2)?,
            "time" => frame.time = text(bytes, value.start)?,
            "status" => frame.status = Some(text(bytes, value.start)?),
            "active" => {
                frame.active = match bytes.get(value.start)? {
                    0xf4 => Some(false),
                    0xf5 => Some(true),
                    _ => return None,
                };
            }
            _ => {}
        }
        Some(())
    })?;
    (end == bytes.len()).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::event;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".into();
        let event = event::sync(&did, "3jzfcijpj2z2a", b"blocks", 77);
        for seq in [1, 200, 70_000, 1 << 33] {
            let bytes = event.frame(seq);
            let frame = read(&bytes).unwrap();
            assert_eq!((frame.op, frame.t, frame.seq), (1, "#sync", Some(seq)));
            assert_eq!((frame.did, frame.rev), (&*did, "3jzfcijpj2z2a"));
            assert_eq!(frame.blocks, b"blocks");
            assert_eq!(&bytes[..frame.seq_at.start], &event.head[..]);
            assert_eq!(&bytes[frame.seq_at.end..], &event.tail[..]);
            assert_eq!(read(&bytes[..bytes.len() - 1]), None);
            assert_eq!(read(&[&bytes[..], &[0]].concat()), None);
        }
        for (active, status) in [(true, None), (true, Some("x")), (false, None)] {
            let bytes = event::account_saying(&did, active, status, 1_000_000).frame(9);
            let frame = read(&bytes).unwrap();
            assert_eq!((frame.active, frame.status), (Some(active), status));
            assert_eq!(frame.time, "1970-01-01T00:00:01.000Z");
        }
        let bytes = event::error("FutureCursor", "no");
        let frame = read(&bytes).unwrap();
        assert_eq!((frame.op, frame.name), (-1, "FutureCursor"));
    }

    #[test]
    fn nonsense_is_not_a_frame() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x9f; 40]), None);
        assert_eq!(read(&[0x81; 400]), None);
        assert_eq!(read(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }
}
