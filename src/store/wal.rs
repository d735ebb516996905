//! RocksDB's write-ahead log, looked at before RocksDB reads it.
//!
//! RocksDB takes what it can read of the log and forgets the rest. After a crash that is right: the end
//! is torn, and was never said to be durable. A place in the middle that can not be read is damage, and
//! what stands behind it was durable and is published; RocksDB does not tell the two apart. Here it is
//! told: behind a torn end there is no beginning of another record, because each is synced before the
//! next one is written.
//!
//! The form of the file: <https://github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format>

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Records do not cross the end of a block; what is larger is in parts.
const BLOCK_BYTES: usize = 32 << 10;
/// Checksum, length and type.
const HEADER_BYTES: usize = 7;
/// A record, or the first part of one.
const BEGINNINGS: [u8; 2] = [1, 2];

/// A place in the log that can not be read, with something behind it that can.
#[derive(Debug)]
pub(super) struct Hole {
    /// The file.
    pub(super) file: PathBuf,
    /// The first byte that can not be read.
    pub(super) at: u64,
    /// Where a later record begins.
    pub(super) next: u64,
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hole { file, at, next } = self;
        write!(
            f,
            "its log {} can not be read from byte {at} on, and goes on at byte {next}: what was kept \
             is behind a hole",
            file.display()
        )
    }
}

/// The first hole in the log of a database, if there is one.
pub(super) fn find_hole(directory: &Path) -> io::Result<Option<Hole>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    for file in files {
        if let Some((at, next)) = hole(File::open(&file)?)? {
            return Ok(Some(Hole { file, at, next }));
        }
    }
    Ok(None)
}

/// Where a file can not be read any more, and where a later record begins.
fn hole(mut file: impl Read) -> io::Result<Option<(u64, u64)>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let (mut start, mut torn) = (0, None);
    loop {
        block.clear();
        let read = file.by_ref().take(BLOCK_BYTES as u64);
        let count = { read }.read_to_end(&mut block)?;
        let mut rest = &block[..];
        while rest.len() >= HEADER_BYTES {
            let at = start + (block.len() - rest.len()) as u64;
            let Some((kind, behind)) = record(rest) else {
                // What is left of a block of which a length is wrong is nowhere.
                torn.get_or_insert(at);
                break;
            };
            if let Some(torn) = torn
                && BEGINNINGS.contains(&kind)
            {
                return Ok(Some((torn, at)));
            }
            rest = behind;
        }
        if count < BLOCK_BYTES {
            return Ok(None);
        }
        start += count as u64;
    }
}

/// The type of the record at the beginning of `bytes`, and what is behind it; none where it is not whole.
fn record(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    let (payload, behind) = rest.split_at_checked(length)?;
    let sum = crc32c(crc32c(!0, &[kind]), payload);
    (u32::from_le_bytes([c0, c1, c2, c3]) == masked(!sum)).then_some((kind, behind))
}

/// A checksum as it is stored: one of bytes that have checksums in them would be a poor one.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C of further bytes, before it is inverted.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| {
        let at = (sum ^ u32::from(*byte)) & 0xff;
        TABLE[at as usize] ^ (sum >> 8)
    })
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut sum, mut bit) = (n as u32, 0);
        while bit < 8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[n] = sum;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        atproto::seq::Seq,
        store::{OpenError, Options, Store},
    };

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
    }

    /// A store that was killed after so many batches of one frame each, and the file of its log.
    fn killed(batches: u64, fsync: bool) -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let options = Options {
            fsync,
            ..Options::default()
        };
        let store = Store::open(dir.path(), options).unwrap();
        for seq in 1..=batches {
            let mut batch = store.batch();
            batch.put_event(Seq::new(seq).unwrap(), 1, &[seq as u8; 5_000]);
            store.commit(batch).unwrap();
        }
        drop(store);
        let files = fs::read_dir(dir.path().join("store")).unwrap();
        let logs = files.map(|entry| entry.unwrap().path());
        let mut logs: Vec<_> = logs
            .filter(|p| p.extension() == Some("log".as_ref()))
            .collect();
        logs.sort();
        (dir, logs.pop().unwrap())
    }

    fn open(dir: &TempDir) -> Result<Store, OpenError> {
        Store::open(dir.path(), Options::default())
    }

    #[test]
    fn an_end_that_is_torn_anywhere_is_none() {
        let (dir, log) = killed(20, true);
        let whole = fs::read(&log).unwrap();
        assert!(find_hole(&dir.path().join("store")).unwrap().is_none());
        // The last batch: five kilobytes, over the end of a block or not.
        let last = whole.len() - 5_000;
        for cut in [whole.len() - 1, last, last - 20, 1, 0] {
            assert_eq!(hole(&whole[..cut]).unwrap(), None, "{cut}");
        }
        for torn in [last, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[torn] ^= 1;
            assert_eq!(hole(&bytes[..]).unwrap(), None, "{torn}");
        }
        fs::write(&log, &whole[..last]).unwrap();
        assert_eq!(open(&dir).unwrap().last_seq(), 19);
    }

    #[test]
    fn a_hole_in_the_middle_is_damage_and_nothing_is_changed() {
        let (dir, log) = killed(20, true);
        let whole = fs::read(&log).unwrap();
        let mut bytes = whole.clone();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(&log, &bytes).unwrap();
        let found = find_hole(&dir.path().join("store")).unwrap().unwrap();
        assert!(found.at <= at as u64 && found.next > at as u64, "{found:?}");
        let error = open(&dir).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, OpenError::Damaged { .. }), "{said}");
        let name = log.file_name().unwrap().to_str().unwrap();
        assert!(
            said.contains(name) && said.contains(&found.at.to_string()),
            "{said}"
        );
        assert_eq!(fs::read(&log).unwrap(), bytes);
        // Whoever mends it has everything.
        fs::write(&log, &whole).unwrap();
        assert_eq!(open(&dir).unwrap().last_seq(), 20);
    }

    #[test]
    fn without_syncing_a_power_loss_may_have_left_holes() {
        let (dir, log) = killed(20, false);
        let mut bytes = fs::read(&log).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(&log, &bytes).unwrap();
        assert!(find_hole(&dir.path().join("store")).unwrap().is_some());
        // And the seq jumps over what may be gone.
        assert!(open(&dir).unwrap().last_seq() > crate::limits::SEQ_JUMP);
    }
}
