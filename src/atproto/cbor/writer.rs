//! Writing canonical items. The caller gives map keys in canonical order: shorter first, then
//! bytewise.

use crate::atproto::cid::Cid;

/// Appends items to a byte buffer, each in its shortest form.
#[derive(Default, Debug)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// A writer that goes on at the end of `out`.
    pub fn append_to(out: Vec<u8>) -> Writer {
        Writer { out }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// A map of `pairs` pairs; the pairs follow.
    pub fn map(&mut self, pairs: usize) -> &mut Writer {
        self.head(5, pairs as u64)
    }

    /// An array of `items` items; they follow.
    pub fn array(&mut self, items: usize) -> &mut Writer {
        self.head(4, items as u64)
    }

    /// A text string.
    pub fn text(&mut self, text: &str) -> &mut Writer {
        self.head(3, text.len() as u64);
        self.raw(text.as_bytes())
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.head(2, bytes.len() as u64);
        self.raw(bytes)
    }

    /// An integer.
    pub fn int(&mut self, n: i64) -> &mut Writer {
        match u64::try_from(n) {
            Ok(n) => self.head(0, n),
            Err(_) => self.head(1, !n as u64),
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, n: u64) -> &mut Writer {
        self.head(0, n)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, b: bool) -> &mut Writer {
        self.raw(&[if b { 0xf5 } else { 0xf4 }])
    }

    /// `null`.
    pub fn null(&mut self) -> &mut Writer {
        self.raw(&[0xf6])
    }

    /// A link: tag 42 around a byte string of 0x00 and the binary CID.
    pub fn cid(&mut self, cid: &Cid) -> &mut Writer {
        self.raw(&[0xd8, 0x2a, 0x58, 0x25, 0x00]);
        self.raw(cid.as_bytes())
    }

    /// A link to a binary CID of any kind, as [`Reader::link`](super::Reader::link) gives it.
    pub fn link(&mut self, cid: &[u8]) -> &mut Writer {
        self.raw(&[0xd8, 0x2a]);
        self.head(2, cid.len() as u64 + 1);
        self.raw(&[0]).raw(cid)
    }

    /// A link or `null`.
    pub fn cid_or_null(&mut self, cid: Option<&Cid>) -> &mut Writer {
        match cid {
            Some(cid) => self.cid(cid),
            None => self.null(),
        }
    }

    /// Bytes that are already canonical items.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Writer {
        self.out.extend_from_slice(bytes);
        self
    }

    /// The head of an item: its major type (0 to 7) and its argument, in the shortest form.
    fn head(&mut self, major: u8, argument: u64) -> &mut Writer {
        let major = major << 5;
        match argument {
            0..=23 => self.out.push(major | argument as u8),
            24..=0xff => self.out.extend_from_slice(&[major | 24, argument as u8]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&(argument as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&(argument as u32).to_be_bytes());
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&argument.to_be_bytes());
            }
        }
        self
    }
}
