//! Memory that many frames share. Each in a block of its own would be thousands of small blocks a second, which live
//! for seconds between others that live for hours: what the allocator can not give back between them grows with time.

use bytes::{Bytes, BytesMut};

use crate::limits::{PACK_BYTES, PACK_FRAME_BYTES_MAX};

/// Packs frames one behind the other into blocks of [`PACK_BYTES`]. A block is freed when the last of its frames is: who
/// keeps a page of frames keeps at most one block more at each end.
#[derive(Default, Debug)]
pub struct Packer {
    /// What is left of the newest block.
    left: BytesMut,
}

impl Packer {
    /// A frame of `len` bytes, which `write` fills; they are zero before.
    pub fn pack(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Bytes {
        if len > PACK_FRAME_BYTES_MAX {
            let mut own = vec![0; len];
            write(&mut own);
            return own.into();
        }
        if self.left.capacity() < len {
            self.left = BytesMut::with_capacity(PACK_BYTES);
        }
        self.left.resize(len, 0);
        write(&mut self.left);
        self.left.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_are_whole_and_lie_one_behind_the_other(
            lens in proptest::collection::vec(
                prop_oneof![9 => 0usize..9_000, 1 => 0..2 * PACK_FRAME_BYTES_MAX],
                0..200,
            ),
        ) {
            let mut packer = Packer::default();
            let fill = |n: usize| move |out: &mut [u8]| out.fill(n as u8);
            let frames: Vec<Bytes> = lens
                .iter()
                .enumerate()
                .map(|(n, len)| packer.pack(*len, fill(n)))
                .collect();
            for (n, (frame, len)) in frames.iter().zip(&lens).enumerate() {
                prop_assert_eq!(frame, &vec![n as u8; *len]);
            }
            let packed: Vec<&Bytes> = frames
                .iter()
                .filter(|frame| !frame.is_empty() && frame.len() <= PACK_FRAME_BYTES_MAX)
                .collect();
            let bytes: usize = packed.iter().map(|frame| frame.len()).sum();
            let follows = |pair: &&[&Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
            let blocks = packed.windows(2).filter(|pair| !follows(pair)).count();
            // Nothing is left free that another frame would have fitted into.
            prop_assert!(blocks <= bytes / (PACK_BYTES - PACK_FRAME_BYTES_MAX));
        }
    }
}
