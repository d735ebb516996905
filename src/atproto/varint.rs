//! Unsigned LEB128 numbers, of which CAR files and CIDs are made
//! (<https://github.com/multiformats/unsigned-varint>).

/// The first number of `bytes` and what follows it: at most 63 bits, in the shortest form.
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            let shortest = i == 0 || *byte != 0;
            return shortest.then_some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Appends a number of at most 63 bits.
pub(crate) fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for (bytes, number) in [
            (&[0][..], 0),
            (&[0x7f], 127),
            (&[0x80, 0x01], 128),
            (&[0xff, 0x7f], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
                i64::MAX as u64,
            ),
        ] {
            assert_eq!(read(bytes), Some((number, &[][..])));
            let mut written = Vec::new();
            write(number, &mut written);
            assert_eq!(written, bytes);
            let followed = [bytes, &[0x80, 9]].concat();
            assert_eq!(read(&followed), Some((number, &[0x80, 9][..])));
            assert_eq!(read(&bytes[..bytes.len() - 1]), None);
        }
        for bytes in [
            &[0x80, 0x00][..],
            &[0xff, 0x00],
            &[0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            &[0xff; 20],
        ] {
            assert_eq!(read(bytes), None, "{bytes:x?}");
        }
    }
}
