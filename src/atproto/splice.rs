//! Changing the few bytes of a frame that a relay may change, and leaving all others alone.

use std::ops::Range;

use super::{
    cbor::Writer,
    envelope::{FILLED, Layout},
    seq::Seq,
};

/// A frame that is ready for its new seq, and where that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spliced {
    /// The frame, with the upstream seq still in it.
    pub frame: Vec<u8>,
    /// The value of `seq`.
    pub seq: Range<usize>,
}

/// Bytes to put in the place of others, and how many pairs of the payload that adds or removes.
struct Edit<'a> {
    place: Range<usize>,
    bytes: &'a [u8],
    pairs: isize,
}

impl Edit<'_> {
    fn removal(pair: Range<usize>) -> Self {
        Edit {
            place: pair,
            bytes: &[],
            pairs: -1,
        }
    }
}

/// The frame with nothing in its header but type and op, and without a `$type` in its payload; none
/// when that is so already. A header speaks of one hop: what a host adds to it is not for a relay
/// to pass on. `name` is the type without its `#`. All other changes include this one.
pub fn plain(frame: &[u8], layout: &Layout, name: &str) -> Option<Spliced> {
    // Two pairs must be there, so that two are these.
    const TWO_PAIRS: u8 = 0xa2;
    if frame.first() == Some(&TWO_PAIRS) && layout.type_pair.is_none() {
        return None;
    }
    Some(rebuild(frame, layout, name, Vec::new()))
}

/// The frame of a `#commit` with the deprecated fields filled in that its host left out; none when
/// there is nothing to fill in.
pub fn fill_commit(frame: &[u8], layout: &Layout) -> Option<Spliced> {
    let pairs: Vec<(usize, Vec<u8>)> = FILLED
        .iter()
        .zip(layout.missing)
        .filter_map(|((name, value), place)| Some((place?, pair(name, value))))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    // Two that belong in the same place are in canonical order already, as `FILLED` is.
    let edits = pairs
        .iter()
        .map(|(at, bytes)| Edit {
            place: *at..*at,
            bytes,
            pairs: 1,
        })
        .collect();
    Some(rebuild(frame, layout, "commit", edits))
}

/// The frame of an `#identity` without its handle.
pub fn drop_handle(frame: &[u8], layout: &Layout) -> Option<Spliced> {
    let place = layout.handle.clone()?;
    let edit = Edit::removal(place);
    Some(rebuild(frame, layout, "identity", vec![edit]))
}

/// The frame of an `#account` with another status.
pub fn set_status(frame: &[u8], layout: &Layout, active: bool, status: Option<&str>) -> Spliced {
    let active = if active { &[0xf5] } else { &[0xf4] };
    let text = status.map(|status| {
        let mut writer = Writer::new();
        writer.text("status").text(status);
        writer.into_bytes()
    });
    let had = isize::from(!layout.status.is_empty());
    let has = isize::from(text.is_some());
    let status = Edit {
        place: layout.status.clone(),
        bytes: text.as_deref().unwrap_or_default(),
        pairs: has - had,
    };
    let active = Edit {
        place: layout.active.clone(),
        bytes: active,
        pairs: 0,
    };
    rebuild(frame, layout, "account", vec![active, status])
}

/// Appends the frame to `out` with `seq` in the place of the upstream's.
pub fn put_seq(frame: &[u8], place: &Range<usize>, seq: Seq, mut out: Vec<u8>) -> Vec<u8> {
    let start = out.len();
    out.resize(start + len_with_seq(frame, place, seq), 0);
    write_seq(frame, place, seq, &mut out[start..]);
    out
}

/// How long the frame is with `seq` in the place of the upstream's.
pub fn len_with_seq(frame: &[u8], place: &Range<usize>, seq: Seq) -> usize {
    frame.len() - place.len() + uint_len(seq.get())
}

/// Writes the frame with `seq` in the place of the upstream's over all of `out`, which is as long
/// as [`len_with_seq`] says.
pub fn write_seq(frame: &[u8], place: &Range<usize>, seq: Seq, out: &mut [u8]) {
    let (before, rest) = out.split_at_mut(place.start);
    let (value, after) = rest.split_at_mut(uint_len(seq.get()));
    before.copy_from_slice(&frame[..place.start]);
    write_uint(seq.get(), value);
    after.copy_from_slice(&frame[place.end..]);
}

/// Writes an integer in its shortest form, which is as long as `out`.
pub fn write_uint(n: u64, out: &mut [u8]) {
    let [head, argument @ ..] = out else { return };
    *head = match argument.len() {
        0 => n as u8,
        1 => 0x18,
        2 => 0x19,
        4 => 0x1a,
        _ => 0x1b,
    };
    let bytes = n.to_be_bytes();
    argument.copy_from_slice(&bytes[bytes.len() - argument.len()..]);
}

/// How long an integer is when encoded.
pub const fn uint_len(n: u64) -> usize {
    match n {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.text(name).raw(value);
    writer.into_bytes()
}

/// Applies edits, which lie behind the head of the payload's map, under a plain header.
fn rebuild(frame: &[u8], layout: &Layout, name: &str, mut edits: Vec<Edit<'_>>) -> Spliced {
    edits.extend(layout.type_pair.clone().map(Edit::removal));
    edits.sort_by_key(|edit| edit.place.start);
    let delta: isize = edits.iter().map(|edit| edit.pairs).sum();
    let mut writer = Writer::new();
    writer.map(2).text("t").text(&format!("#{name}"));
    writer.text("op").uint(1);
    writer.map(layout.pairs.saturating_add_signed(delta));
    let mut out = writer.into_bytes();
    let mut at = layout.map_head.end;
    let mut seq = layout.seq.clone();
    let mut shift = out.len() as isize - at as isize;
    for edit in &edits {
        if edit.place.start <= layout.seq.start {
            shift += edit.bytes.len() as isize - edit.place.len() as isize;
        }
    }
    for edit in edits {
        out.extend_from_slice(&frame[at..edit.place.start]);
        out.extend_from_slice(edit.bytes);
        at = edit.place.end;
    }
    out.extend_from_slice(&frame[at..]);
    seq = seq.start.saturating_add_signed(shift)..seq.end.saturating_add_signed(shift);
    Spliced { frame: out, seq }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atproto::{
        cid::Cid,
        envelope::{Body, Message},
    };

    fn header(t: &str) -> Writer {
        let mut w = Writer::new();
        w.map(2).text("t").text(t).text("op").uint(1);
        w
    }

    fn parse<'a>(frame: &'a [u8]) -> crate::atproto::envelope::Event<'a> {
        match Message::parse(frame).unwrap() {
            Message::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }

    fn account(seq: u64, active: bool, status: Option<&str>, extra: bool) -> Vec<u8> {
        let mut w = header("#account");
        w.map(4 + usize::from(status.is_some()) + usize::from(extra));
        w.text("did")
            .text("did:web:a.b")
            .text("seq")
            .uint(seq)
            .text("time")
            .text("t");
        w.text("active").bool(active);
        if let Some(status) = status {
            w.text("status").text(status);
        }
        if extra {
            w.text("zzzzzzz").text("kept");
        }
        w.into_bytes()
    }

    #[test]
    fn header_and_type_are_plain_whatever_else_changes() {
        let expected = account(5, true, None, true);
        let event = parse(&expected);
        assert_eq!(plain(&expected, &event.layout, "account"), None);
        let payload = &expected[event.layout.map_head.end..];
        // `did`, `seq` and `time` come before `$type`, the others after it.
        let at = payload.windows(7).position(|w| w == b"\x66active").unwrap();
        let mut header = Writer::new();
        header.map(4).text("a").array(0).text("t").text("#account");
        header.text("op").uint(1).text("new").null();
        header.map(6);
        let mut added = Writer::new();
        added
            .text("$type")
            .text("com.atproto.sync.subscribeRepos#account");
        let (before, after) = payload.split_at(at);
        let frame = [&header.into_bytes()[..], before, &added.into_bytes(), after].concat();
        let event = parse(&frame);
        let spliced = plain(&frame, &event.layout, "account").unwrap();
        assert_eq!(spliced.frame, expected);
        assert_eq!(spliced.seq, parse(&expected).layout.seq);
        let spliced = set_status(&frame, &event.layout, false, Some("deleted"));
        assert_eq!(spliced.frame, account(5, false, Some("deleted"), true));
    }

    #[test]
    fn only_the_seq_changes() {
        let frame = account(5, true, None, true);
        let event = parse(&frame);
        for seq in [
            1,
            23,
            24,
            255,
            256,
            65_535,
            65_536,
            u64::from(u32::MAX),
            (1 << 53) - 1,
        ] {
            let out = put_seq(
                &frame,
                &event.layout.seq,
                Seq::new(seq).unwrap(),
                Vec::new(),
            );
            assert_eq!(out, account(seq, true, None, true));
            assert_eq!(out.len(), frame.len() - 1 + uint_len(seq));
        }
    }

    #[test]
    fn a_status_is_set_changed_and_removed() {
        for extra in [false, true] {
            for (was, is) in [
                (None, Some("takendown")),
                (Some("deactivated"), Some("takendown")),
                (Some("deactivated"), None),
                (None, None),
            ] {
                let frame = account(300, true, was, extra);
                let event = parse(&frame);
                let spliced = set_status(&frame, &event.layout, false, is);
                assert_eq!(spliced.frame, account(300, false, is, extra));
                assert_eq!(spliced.frame[spliced.seq.clone()], [0x19, 1, 44]);
            }
        }
    }

    #[test]
    fn a_handle_is_dropped() {
        let build = |handle: bool| {
            let mut w = header("#identity");
            w.map(3 + usize::from(handle))
                .text("did")
                .text("did:web:a.b");
            w.text("seq").uint(7).text("time").text("t");
            if handle {
                w.text("handle").text("a.b");
            }
            w.into_bytes()
        };
        let frame = build(true);
        let event = parse(&frame);
        assert!(matches!(
            event.body,
            Body::Identity {
                handle: Some("a.b")
            }
        ));
        let spliced = drop_handle(&frame, &event.layout).unwrap();
        assert_eq!(spliced.frame, build(false));
        assert_eq!(spliced.frame[spliced.seq], [7]);
    }

    fn commit(has: [bool; 4]) -> Vec<u8> {
        let cid = Cid::of_cbor(b"x");
        let mut w = header("#commit");
        w.map(8 + has.iter().filter(|h| **h).count());
        w.text("ops")
            .array(0)
            .text("rev")
            .text("r")
            .text("seq")
            .uint(9);
        w.text("repo").text("did:web:a.b").text("time").text("t");
        if has[0] {
            w.text("blobs").array(0);
        }
        if has[1] {
            w.text("since").null();
        }
        w.text("blocks").bytes(b"car").text("commit").cid(&cid);
        if has[2] {
            w.text("rebase").bool(false);
        }
        if has[3] {
            w.text("tooBig").bool(false);
        }
        w.text("prevData").cid(&cid);
        w.into_bytes()
    }

    #[test]
    fn missing_fields_are_filled_in_where_they_belong() {
        let full = commit([true; 4]);
        assert_eq!(fill_commit(&full, &parse(&full).layout), None);
        for bits in 0..15u8 {
            let frame = commit(std::array::from_fn(|i| bits & (1 << i) != 0));
            let spliced = fill_commit(&frame, &parse(&frame).layout).unwrap();
            assert_eq!(spliced.frame, full, "{bits:04b}");
            assert_eq!(spliced.frame[spliced.seq], [9]);
        }
    }
}
