//! Content identifiers, of the one shape that the protocol blesses: CIDv1, dag-cbor or raw,
//! SHA-256 (<https://atproto.com/specs/data-model#link-and-cid-formats>).

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::BASE32_NOPAD;

use super::varint;

/// A 36-byte binary CID: version, codec, hash function, hash length, digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid([u8; Cid::LEN]);

/// What the bytes behind a [`Cid`] are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// DRISL-CBOR (0x71): commits, tree nodes, records.
    DagCbor,
    /// Raw bytes (0x55): blobs.
    Raw,
}

/// Why bytes or text are not a blessed CID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CidError;

impl fmt::Display for CidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a CIDv1 of dag-cbor or raw with SHA-256")
    }
}

impl std::error::Error for CidError {}

impl Cid {
    /// The length of the binary form, in bytes.
    pub const LEN: usize = 36;

    /// Parses the binary form; the slice must be exactly [`Cid::LEN`] long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Cid, CidError> {
        let cid: [u8; Cid::LEN] = bytes.try_into().map_err(|_| CidError)?;
        match cid {
            [0x01, 0x71 | 0x55, 0x12, 0x20, ..] => Ok(Cid(cid)),
            _ => Err(CidError),
        }
    }

    /// Parses the text form, `b` and lower-case base32 without padding.
    pub fn parse(text: &str) -> Result<Cid, CidError> {
        let base32 = text.strip_prefix('b').ok_or(CidError)?;
        if text.len() != 59 || base32.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(CidError);
        }
        let bytes = BASE32_NOPAD
            .decode(base32.to_ascii_uppercase().as_bytes())
            .map_err(|_| CidError)?;
        Cid::from_bytes(&bytes)
    }

    /// The CID of `block` as DRISL-CBOR.
    pub fn of_cbor(block: &[u8]) -> Cid {
        Cid::of(Codec::DagCbor, block)
    }

    /// The CID of `block` under `codec`.
    pub fn of(codec: Codec, block: &[u8]) -> Cid {
        let mut cid = [0; Cid::LEN];
        cid[..4].copy_from_slice(&[
            0x01,
            match codec {
                Codec::DagCbor => 0x71,
                Codec::Raw => 0x55,
            },
            0x12,
            0x20,
        ]);
        cid[4..].copy_from_slice(digest::digest(&digest::SHA256, block).as_ref());
        Cid(cid)
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8; Cid::LEN] {
        &self.0
    }

    /// What the bytes behind it are.
    pub fn codec(&self) -> Codec {
        if self.0[1] == 0x71 {
            Codec::DagCbor
        } else {
            Codec::Raw
        }
    }
}

/// Whether `bytes` are one whole binary CID of any version, codec and hash function: what a link
/// may be to in a record, whose links are nobody's business here but for their form.
pub fn is_cid(bytes: &[u8]) -> bool {
    match bytes {
        // The bare hash of version 0.
        [0x12, 0x20, digest @ ..] => digest.len() == 32,
        [0x01, rest @ ..] if bytes.len() <= CID_BYTES_MAX => {
            is_multihash(varint::read(rest).and_then(|(_codec, rest)| varint::read(rest)))
        }
        _ => false,
    }
}

/// What follows the hash function: the length of the digest, and so many bytes.
fn is_multihash(hash: Option<(u64, &[u8])>) -> bool {
    let digest = hash.and_then(|(_function, rest)| varint::read(rest));
    digest.is_some_and(|(len, digest)| len == digest.len() as u64)
}

/// The longest CID, in bytes: hash functions in use give up to 64.
const CID_BYTES_MAX: usize = 100;

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 36 bytes are 58 characters of five bits.
        let mut text = [0; 58];
        BASE32_NOPAD.encode_mut(&self.0, &mut text);
        text.make_ascii_lowercase();
        f.write_str("b")?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_tree_has_its_known_cid() {
        let cid = Cid::of_cbor(&[0xa2, 0x61, 0x65, 0x80, 0x61, 0x6c, 0xf6]);
        let text = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm";
        assert_eq!(cid.to_string(), text);
        assert_eq!(Cid::parse(text), Ok(cid));
        assert_eq!(Cid::from_bytes(cid.as_bytes()), Ok(cid));
        assert_eq!(cid.codec(), Codec::DagCbor);
    }

    #[test]
    fn other_hashes_versions_and_cases_are_refused() {
        let mut bytes = *Cid::of(Codec::Raw, b"x").as_bytes();
        assert!(Cid::from_bytes(&bytes).is_ok());
        bytes[2] = 0x13;
        assert!(Cid::from_bytes(&bytes).is_err());
        assert!(Cid::from_bytes(&bytes[..35]).is_err());
        let upper = Cid::of_cbor(b"x").to_string().to_ascii_uppercase();
        assert!(Cid::parse(&upper).is_err());
        assert!(Cid::parse("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n").is_err());
    }

    #[test]
    fn links_of_records_have_the_form_of_a_cid() {
        let digest = [7; 64];
        let with = |head: &[u8], len: usize| is_cid(&[head, &digest[..len]].concat());
        for (head, len) in [
            (&[0x01, 0x71, 0x12, 0x20][..], 32),
            (&[0x01, 0x55, 0x12, 0x20], 32),
            // Version 0, another codec, other hash functions, also a long one, also none at all.
            (&[0x12, 0x20], 32),
            (&[0x01, 0x70, 0x12, 0x20], 32),
            (&[0x01, 0xa9, 0x02, 0x13, 0x40], 64),
            (&[0x01, 0x71, 0xa0, 0xe4, 0x02, 0x20], 32),
            (&[0x01, 0x71, 0x00, 0x00], 0),
        ] {
            assert!(with(head, len), "{head:x?}");
            assert!(!with(&head[..head.len() - 1], len), "{head:x?} cut");
            for other in [len.wrapping_sub(1), len + 1] {
                assert!(other > 64 || !with(head, other), "{head:x?}, {other} bytes");
            }
        }
        for head in [
            &[][..],
            &[0x00],
            &[0x01],
            &[0x01, 0x71],
            &[0x02, 0x71, 0x12, 0x20],
            &[0x00, 0x71, 0x12, 0x20],
            // Not in the shortest form, and without an end.
            &[0x81, 0x00, 0x71, 0x12, 0x20],
            &[0x01, 0xf1, 0x00, 0x12, 0x20],
            &[0x01, 0x71, 0x92, 0x00, 0x20],
            &[0x01, 0x71, 0x12, 0xa0, 0x00],
            &[
                0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x12, 0x20,
            ],
        ] {
            assert!(!with(head, 32), "{head:x?}");
        }
        let of_length = |len: u8| [&[0x01, 0x71, 0x00, len][..], &vec![7; len.into()]].concat();
        assert!(is_cid(&of_length(96)));
        assert!(!is_cid(&of_length(97)), "101 bytes");
    }
}
