//! CAR v1 slices: a header with roots, then blocks with their CIDs
//! (<https://dasl.ing/car.html>, <https://atproto.com/specs/repository#car-file-serialization>).
//! Every block is hashed; nothing is copied.

use std::ops::Range;

use crate::{
    atproto::{cbor::Reader, cid::Cid, varint},
    reject::Reject,
};

/// The blocks of one CAR slice by CID; reused from slice to slice.
#[derive(Default, Debug)]
pub struct BlockTable {
    /// Sorted by [`Key`]. The ranges are of the buffer that was given to [`BlockTable::read`].
    blocks: Vec<(Key, Range<u32>)>,
    root: Option<Cid>,
}

/// A CID in an order that is quick to compare: the first four bytes are the same in nearly all of
/// them, and the next eight are in hardly any two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key(u64, Cid);

impl Key {
    fn of(cid: &Cid) -> Key {
        let digest = cid.as_bytes().last_chunk().copied();
        Key(digest.map_or(0, u64::from_le_bytes), *cid)
    }
}

impl BlockTable {
    /// An empty table.
    pub fn new() -> BlockTable {
        BlockTable::default()
    }

    /// Reads the CAR slice at `place` of `buffer`, in place of what the table held.
    ///
    /// Blocks in any order, repeated or unrelated, are fine; a block that does not hash to its CID
    /// is not, and neither are a missing root or anything after the last block.
    pub fn read(&mut self, buffer: &[u8], place: Range<usize>) -> Result<(), Reject> {
        self.blocks.clear();
        self.root = None;
        let end = place.end;
        let slice = buffer.get(..end).ok_or(Reject::CarInvalid)?;
        let mut at = place.start;
        let header_len = length(slice, &mut at)?;
        let header = take(slice, &mut at, header_len)?;
        self.root = Some(root_of(&slice[header])?);
        while at < end {
            let len = length(slice, &mut at)?;
            let block = take(slice, &mut at, len)?;
            let bytes = &slice[block.clone()];
            let cid = bytes.get(..Cid::LEN).ok_or(Reject::CarInvalid)?;
            let cid = Cid::from_bytes(cid).map_err(|_| Reject::CarInvalid)?;
            let data = block.start + Cid::LEN..block.end;
            if Cid::of(cid.codec(), &slice[data.clone()]) != cid {
                return Err(Reject::BlockHash);
            }
            let place = data.start as u32..data.end as u32;
            self.blocks.push((Key::of(&cid), place));
        }
        self.blocks.sort_unstable_by_key(|(key, _)| *key);
        Ok(())
    }

    /// The first root, which is the commit.
    pub fn root(&self) -> Option<Cid> {
        self.root
    }

    /// Where the block of `cid` is in the buffer.
    pub fn get(&self, cid: &Cid) -> Option<Range<usize>> {
        let index = self
            .blocks
            .binary_search_by_key(&Key::of(cid), |(key, _)| *key)
            .ok()?;
        let range = &self.blocks[index].1;
        Some(range.start as usize..range.end as usize)
    }

    /// How many blocks there are, repeated ones counted.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Gives back what an unusually large slice took.
    pub fn shrink(&mut self, blocks_max: usize) {
        self.blocks.clear();
        self.blocks.shrink_to(blocks_max);
    }
}

/// The first root of a CAR header.
fn root_of(header: &[u8]) -> Result<Cid, Reject> {
    let invalid = |_| Reject::CarInvalid;
    let mut reader = Reader::new(header);
    let mut map = reader.map().map_err(invalid)?;
    let (mut root, mut version) = (None, None);
    while let Some(key) = map.next_key(&mut reader).map_err(invalid)? {
        match key {
            "roots" => {
                for i in 0..reader.array().map_err(invalid)? {
                    let cid = reader.cid().map_err(invalid)?;
                    if i == 0 {
                        root = Some(cid);
                    }
                }
            }
            "version" => version = Some(reader.uint().map_err(invalid)?),
            _ => {
                reader.skip().map_err(invalid)?;
            }
        }
    }
    match (root, version) {
        (Some(root), Some(1)) if reader.is_at_end() => Ok(root),
        _ => Err(Reject::CarInvalid),
    }
}

/// The length of what follows; in another than the shortest form it is none.
fn length(slice: &[u8], at: &mut usize) -> Result<u64, Reject> {
    let rest = slice.get(*at..).ok_or(Reject::CarInvalid)?;
    let (value, rest) = varint::read(rest).ok_or(Reject::CarInvalid)?;
    *at = slice.len() - rest.len();
    Ok(value)
}

/// The next `len` bytes, at least one.
fn take(slice: &[u8], at: &mut usize, len: u64) -> Result<Range<usize>, Reject> {
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| at.checked_add(len));
    match end {
        Some(end) if end <= slice.len() && end > *at => {
            let start = std::mem::replace(at, end);
            Ok(start..end)
        }
        _ => Err(Reject::CarInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atproto::{cbor::Writer, cid::Codec};

    fn push(car: &mut Vec<u8>, parts: &[&[u8]]) {
        let mut len = parts.iter().map(|p| p.len()).sum::<usize>();
        while len >= 0x80 {
            car.push(len as u8 | 0x80);
            len >>= 7;
        }
        car.push(len as u8);
        parts.iter().for_each(|p| car.extend_from_slice(p));
    }

    fn header(roots: &[Cid], version: u64) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(2).text("roots").array(roots.len());
        roots.iter().for_each(|cid| {
            writer.cid(cid);
        });
        writer.text("version").uint(version);
        writer.into_bytes()
    }

    fn car(header: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
        let mut car = Vec::new();
        push(&mut car, &[header]);
        for block in blocks {
            push(&mut car, &[Cid::of_cbor(block).as_bytes(), block]);
        }
        car
    }

    fn read(car: &[u8]) -> Result<BlockTable, Reject> {
        let mut table = BlockTable::new();
        table.read(car, 0..car.len()).map(|()| table)
    }

    #[test]
    fn blocks_are_found_by_their_cid_in_any_order() {
        let (a, b) = (Cid::of_cbor(b"a"), Cid::of_cbor(b"b"));
        let file = car(&header(&[a, b], 1), &[b"b", b"c", b"a", b"b"]);
        let table = read(&file).unwrap();
        assert_eq!(table.root(), Some(a));
        assert_eq!(table.len(), 4);
        assert_eq!(&file[table.get(&b).unwrap()], b"b");
        assert_eq!(table.get(&Cid::of_cbor(b"d")), None);
    }

    /// The file that a table makes of its roots and of the blocks that it found.
    fn written(file: &[u8], roots: &[Cid], table: &BlockTable) -> Vec<u8> {
        let mut blocks = table.blocks.clone();
        blocks.sort_by_key(|(_, place)| place.start);
        let mut again = Vec::new();
        push(&mut again, &[&header(roots, 1)]);
        for (Key(_, cid), place) in blocks {
            let data = &file[place.start as usize..place.end as usize];
            push(&mut again, &[cid.as_bytes(), data]);
        }
        again
    }

    /// Rule 191: <https://dasl.ing/car.html>
    #[test]
    fn what_is_read_can_be_written_as_it_was() {
        let (a, raw) = (Cid::of_cbor(b"a"), Cid::of(Codec::Raw, b"raw"));
        let large = vec![7; 70_000];
        let blocks: [&[u8]; 7] = [b"b", b"a", &[7; 91], &[7; 92], &large, b"a", b""];
        for count in 0..=blocks.len() {
            for roots in [&[a][..], &[a, raw], &[raw, a, a]] {
                let mut file = car(&header(roots, 1), &blocks[..count]);
                push(&mut file, &[raw.as_bytes(), b"raw"]);
                let table = read(&file).unwrap();
                assert_eq!((table.len(), table.root()), (count + 1, Some(roots[0])));
                assert_eq!(written(&file, roots, &table), file);
            }
        }
    }

    /// Rule 191: <https://dasl.ing/car.html>
    #[test]
    fn damage_is_named() {
        let a = Cid::of_cbor(b"a");
        let good = car(&header(&[a], 1), &[b"a"]);
        assert!(read(&good).is_ok());
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(read(&flipped).unwrap_err(), Reject::BlockHash);
        for bad in [
            car(&header(&[a], 2), &[b"a"]),
            car(&header(&[], 1), &[b"a"]),
            good[..good.len() - 1].to_vec(),
            [&good[..], &[0]].concat(),
            [&good[..], &[0xff; 12]].concat(),
            // A length in another form than the shortest.
            [&[good[0] | 0x80, 0], &good[1..]].concat(),
            [&good[..], &[5, 1, 2, 3, 4, 5]].concat(),
            vec![0],
            vec![],
            b"\x0a\xa1\x67version\x02".to_vec(),
        ] {
            assert_eq!(read(&bad).unwrap_err(), Reject::CarInvalid);
        }
    }

    #[test]
    fn the_published_header_parses() {
        let cid = Cid::of_cbor(&[0xa2, 0x61, 0x65, 0x80, 0x61, 0x6c, 0xf6]);
        assert_eq!(header(&[cid], 1).len(), 58);
        assert_eq!(root_of(&header(&[cid], 1)), Ok(cid));
    }
}
