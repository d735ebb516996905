//! Commit objects (<https://atproto.com/specs/repository#commit-objects>).

use std::ops::Range;

use crate::{
    atproto::{
        cbor::{CborError, Reader, Writer},
        cid::{Cid, Codec},
        tid::Tid,
    },
    reject::Reject,
};

/// A signed commit object, borrowed from its block.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The account.
    pub did: &'a str,
    /// The revision.
    pub rev: Tid,
    /// The root of the tree.
    pub data: Cid,
    /// The signature over [`Commit::unsigned_into`]; of any length, the verifier decides.
    pub sig: &'a [u8],
    block: &'a [u8],
    /// The pair `sig`, key and value.
    sig_pair: Range<usize>,
    pairs: usize,
}

/// The version of the repository format that the network uses.
const VERSION: u64 = 3;

impl<'a> Commit<'a> {
    /// Parses the whole of `block`, which must be canonical.
    pub fn parse(block: &'a [u8]) -> Result<Commit<'a>, Reject> {
        Commit::parse_map(block)
            .ok()
            .flatten()
            .ok_or(Reject::CommitInvalid)
    }

    fn parse_map(block: &'a [u8]) -> Result<Option<Commit<'a>>, CborError> {
        let mut reader = Reader::new(block);
        let mut map = reader.map()?;
        let pairs = map.left();
        let (mut did, mut rev, mut sig, mut data) = (None, None, None, None);
        let (mut prev_seen, mut version) = (false, None);
        loop {
            let start = reader.position();
            let Some(key) = map.next_key(&mut reader)? else {
                break;
            };
            match key {
                "did" => did = Some(reader.text()?),
                "rev" => rev = Tid::parse(reader.text()?).ok(),
                "sig" => sig = Some((reader.bytes()?, start..reader.position())),
                "data" => data = Some(reader.cid()?).filter(|c| c.codec() == Codec::DagCbor),
                "prev" => {
                    prev_seen = true;
                    if !reader.take_null() {
                        reader.cid()?;
                    }
                }
                "version" => version = Some(reader.uint()?),
                _ => {
                    reader.skip()?;
                }
            }
        }
        if !reader.is_at_end() || !prev_seen || version != Some(VERSION) {
            return Ok(None);
        }
        let (Some(did), Some(rev), Some((sig, sig_pair)), Some(data)) = (did, rev, sig, data)
        else {
            return Ok(None);
        };
        Ok(Some(Commit {
            did,
            rev,
            data,
            sig,
            block,
            sig_pair,
            pairs,
        }))
    }

    /// Writes what the signature covers into `out`, in place of what it held: the same map without
    /// `sig`, fields that are not known here included.
    pub fn unsigned_into(&self, out: &mut Vec<u8>) {
        out.clear();
        let mut writer = Writer::append_to(std::mem::take(out));
        writer.map(self.pairs - 1);
        // The head of a map this small is one byte in both forms; of a larger one, up to nine.
        let mut head = Reader::new(self.block);
        let body = head.map().map_or(1, |_| head.position());
        writer.raw(&self.block[body..self.sig_pair.start]);
        writer.raw(&self.block[self.sig_pair.end..]);
        *out = writer.into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(version: u64, extra: bool, prev: bool) -> Vec<u8> {
        let mut w = Writer::new();
        w.map(5 + usize::from(extra) + usize::from(prev));
        w.text("did").text("did:plc:ewvi7nxzyoun6zhxrhs64oiz");
        w.text("rev")
            .text("3jzfcijpj2z2a")
            .text("sig")
            .bytes(&[7; 64]);
        w.text("data").cid(&Cid::of_cbor(b"tree"));
        if prev {
            w.text("prev").null();
        }
        if extra {
            w.text("zzzz").uint(1);
        }
        w.text("version").uint(version);
        w.into_bytes()
    }

    #[test]
    fn the_signature_is_cut_out_and_nothing_else() {
        let bytes = block(3, true, true);
        let commit = Commit::parse(&bytes).unwrap();
        let mut unsigned = Vec::new();
        commit.unsigned_into(&mut unsigned);
        let mut w = Writer::new();
        w.map(6)
            .text("did")
            .text(commit.did)
            .text("rev")
            .text("3jzfcijpj2z2a");
        w.text("data")
            .cid(&Cid::of_cbor(b"tree"))
            .text("prev")
            .null();
        w.text("zzzz").uint(1).text("version").uint(3);
        assert_eq!(unsigned, w.into_bytes());
    }

    /// Rule 184: <https://dasl.ing/drisl.html>
    #[test]
    fn keys_are_in_their_order_and_there_once() {
        let fields = |order: &[usize]| {
            let mut w = Writer::new();
            w.map(order.len());
            for field in order {
                match field {
                    0 => w.text("did").text("did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
                    1 => w.text("rev").text("3jzfcijpj2z2a"),
                    2 => w.text("sig").bytes(&[7; 64]),
                    3 => w.text("data").cid(&Cid::of_cbor(b"tree")),
                    4 => w.text("prev").null(),
                    _ => w.text("version").uint(3),
                };
            }
            w.into_bytes()
        };
        let order: Vec<usize> = (0..6).collect();
        assert!(Commit::parse(&fields(&order)).is_ok());
        for at in 0..order.len() {
            let mut repeated = order.clone();
            repeated.insert(at, at);
            assert!(Commit::parse(&fields(&repeated)).is_err());
            if at > 0 {
                let mut swapped = order.clone();
                swapped.swap(at - 1, at);
                assert!(Commit::parse(&fields(&swapped)).is_err());
            }
        }
    }

    #[test]
    fn missing_fields_other_versions_and_trailing_bytes_are_refused() {
        assert!(Commit::parse(&block(3, false, true)).is_ok());
        assert!(Commit::parse(&block(2, false, true)).is_err());
        assert!(Commit::parse(&block(3, false, false)).is_err());
        let mut long = block(3, false, true);
        long.push(0);
        assert!(Commit::parse(&long).is_err());
        assert!(Commit::parse(&[]).is_err());
    }
}
