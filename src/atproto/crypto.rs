//! Keys and signatures (<https://atproto.com/specs/cryptography>): ECDSA with SHA-256 over P-256
//! and secp256k1, compact 64-byte signatures, low-S on both curves.
//!
//! secp256k1 is verified by libsecp256k1 (24 us) and P-256 by aws-lc (37 us), the fastest of each
//! that were measured. Most libraries accept a high S on P-256, and a signature that can be
//! rewritten by anybody is not an identity, so the range of both numbers is checked here.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest::{self, Digest},
    signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey},
};
use secp256k1::{Message, ecdsa};

/// The two curves of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Curve {
    /// NIST P-256, also called secp256r1.
    P256,
    /// secp256k1, also called K-256.
    K256,
}

/// A public key, parsed; cheap to clone. It is 72 bytes in memory, and a P-256 key about 180 more
/// behind a pointer: aws-lc's own form.
#[derive(Clone)]
pub struct PublicKey(Key);

#[derive(Clone)]
enum Key {
    P256(Arc<ParsedPublicKey>),
    K256(secp256k1::PublicKey),
}

/// Why text or bytes are not a public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// Not `z` and base58, or longer than any key.
    Encoding,
    /// A key of another kind than the two curves, such as Ed25519.
    Unsupported,
    /// Not a point of its curve, or not in the form that is asked for.
    Point,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Encoding => "not a base58 multibase string of a key's length",
            KeyError::Unsupported => "neither a P-256 nor a secp256k1 key",
            KeyError::Point => "not a point of the curve",
        })
    }
}

impl std::error::Error for KeyError {}

/// The signature is not 64 bytes, not in range, not low-S, or not by this key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignatureError;

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a valid low-S signature by this key")
    }
}

impl std::error::Error for SignatureError {}

/// A number of 256 bits, big endian: arrays of bytes compare as the numbers do.
type Scalar = [u8; 32];

impl Curve {
    /// The multicodec prefix of a compressed public key.
    const fn multicodec(self) -> [u8; 2] {
        match self {
            Curve::P256 => [0x80, 0x24],
            Curve::K256 => [0xe7, 0x01],
        }
    }

    /// The order `n` of the group.
    const fn order(self) -> Scalar {
        match self {
            Curve::P256 => P256_ORDER,
            Curve::K256 => K256_ORDER,
        }
    }

    /// `n / 2`, rounded down: the largest low S.
    const fn half_order(self) -> Scalar {
        match self {
            Curve::P256 => const { halved(P256_ORDER) },
            Curve::K256 => const { halved(K256_ORDER) },
        }
    }
}

const P256_ORDER: Scalar = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const K256_ORDER: Scalar = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

const fn halved(n: Scalar) -> Scalar {
    let mut half = [0; 32];
    let mut carry = 0;
    let mut i = 0;
    while i < 32 {
        half[i] = (carry << 7) | (n[i] >> 1);
        carry = n[i] & 1;
        i += 1;
    }
    half
}

impl PublicKey {
    /// Parses a Multikey: `z`, base58, the curve's multicodec prefix and a compressed point.
    pub fn from_multikey(text: &str) -> Result<PublicKey, KeyError> {
        let mut buffer = [0; KEY_BYTES_MAX];
        let bytes = multibase(text, &mut buffer)?;
        let (codec, point) = bytes.split_first_chunk().ok_or(KeyError::Unsupported)?;
        let curve = [Curve::K256, Curve::P256]
            .into_iter()
            .find(|c| c.multicodec() == *codec)
            .ok_or(KeyError::Unsupported)?;
        if point.len() != COMPRESSED_LEN {
            return Err(KeyError::Point);
        }
        PublicKey::from_point(curve, point)
    }

    /// Parses the `publicKeyMultibase` of the legacy verification methods, which name the curve in
    /// their type: `z`, base58, a point. The specification says uncompressed; compressed ones
    /// exist.
    pub fn from_legacy(curve: Curve, text: &str) -> Result<PublicKey, KeyError> {
        let mut buffer = [0; KEY_BYTES_MAX];
        PublicKey::from_point(curve, multibase(text, &mut buffer)?)
    }

    /// Parses a SEC1 point, compressed (33 bytes) or uncompressed (65 bytes).
    pub fn from_point(curve: Curve, point: &[u8]) -> Result<PublicKey, KeyError> {
        match (point.len(), point.first()) {
            (COMPRESSED_LEN, Some(2 | 3)) | (UNCOMPRESSED_LEN, Some(4)) => {}
            _ => return Err(KeyError::Point),
        }
        Ok(PublicKey(match curve {
            Curve::P256 => Key::P256(Arc::new(
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .map_err(|_| KeyError::Point)?,
            )),
            Curve::K256 => {
                Key::K256(secp256k1::PublicKey::from_slice(point).map_err(|_| KeyError::Point)?)
            }
        }))
    }

    /// The curve that the key is on.
    pub fn curve(&self) -> Curve {
        match self.0 {
            Key::P256(_) => Curve::P256,
            Key::K256(_) => Curve::K256,
        }
    }

    /// The compressed SEC1 point.
    pub fn to_compressed(&self) -> [u8; COMPRESSED_LEN] {
        match &self.0 {
            Key::P256(key) => compressed(key.as_ref().as_ref()),
            Key::K256(key) => key.serialize(),
        }
    }

    /// The Multikey form, `z…`.
    pub fn to_multikey(&self) -> String {
        let mut bytes = [0; 2 + COMPRESSED_LEN];
        bytes[..2].copy_from_slice(&self.curve().multicodec());
        bytes[2..].copy_from_slice(&self.to_compressed());
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// The `did:key:` form.
    pub fn to_did_key(&self) -> String {
        format!("did:key:{}", self.to_multikey())
    }

    /// Whether `signature` is this key's over the SHA-256 of `message`: 64 bytes, `r` and `s` in
    /// range, `s` in the lower half. Nothing is allocated, but for what aws-lc does inside.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        check_range(self.curve(), signature)?;
        let digest = digest::digest(&digest::SHA256, message);
        match &self.0 {
            Key::P256(key) => key
                .verify_digest_sig(&digest, signature)
                .map_err(|_| SignatureError),
            Key::K256(key) => {
                let signature =
                    ecdsa::Signature::from_compact(signature).map_err(|_| SignatureError)?;
                ecdsa::verify(&signature, hashed(&digest)?, key).map_err(|_| SignatureError)
            }
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.curve() == other.curve() && self.to_compressed() == other.to_compressed()
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_did_key())
    }
}

/// The length of a compressed point, in bytes.
pub const COMPRESSED_LEN: usize = 33;
/// The length of an uncompressed point, in bytes.
const UNCOMPRESSED_LEN: usize = 65;
/// The longest key with its prefix that is worth decoding, in bytes.
const KEY_BYTES_MAX: usize = 68;
/// The longest base58 text of [`KEY_BYTES_MAX`] bytes; decoding is quadratic in the length.
const KEY_TEXT_MAX: usize = 96;

/// Decodes `z` and base58 into `buffer`.
fn multibase<'a>(text: &str, buffer: &'a mut [u8; KEY_BYTES_MAX]) -> Result<&'a [u8], KeyError> {
    let base58 = text.strip_prefix('z').ok_or(KeyError::Encoding)?;
    if base58.len() > KEY_TEXT_MAX {
        return Err(KeyError::Encoding);
    }
    let length = bs58::decode(base58)
        .onto(buffer.as_mut_slice())
        .map_err(|_| KeyError::Encoding)?;
    Ok(&buffer[..length])
}

/// The compressed form of a valid point in either form.
fn compressed(point: &[u8]) -> [u8; COMPRESSED_LEN] {
    let mut out = [0; COMPRESSED_LEN];
    out.copy_from_slice(&point[..COMPRESSED_LEN]);
    if point.len() == UNCOMPRESSED_LEN {
        out[0] = 2 + (point[UNCOMPRESSED_LEN - 1] & 1);
    }
    out
}

/// Whether `signature` is two numbers of which `r` is in [1, n-1] and `s` in [1, n/2].
fn check_range(curve: Curve, signature: &[u8]) -> Result<(), SignatureError> {
    let signature: &[u8; 64] = signature.try_into().map_err(|_| SignatureError)?;
    let (r, s) = scalars(signature);
    let zero = [0; 32];
    if r != zero && r < curve.order() && s != zero && s <= curve.half_order() {
        Ok(())
    } else {
        Err(SignatureError)
    }
}

fn scalars(signature: &[u8; 64]) -> (Scalar, Scalar) {
    let (mut r, mut s) = ([0; 32], [0; 32]);
    r.copy_from_slice(&signature[..32]);
    s.copy_from_slice(&signature[32..]);
    (r, s)
}

fn hashed(digest: &Digest) -> Result<Message, SignatureError> {
    let digest = digest.as_ref().try_into().map_err(|_| SignatureError)?;
    Ok(Message::from_digest(digest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::keys::{self, Key as Signer};

    const CURVES: [Curve; 2] = [Curve::P256, Curve::K256];

    fn signer(curve: Curve) -> Signer {
        let curve = match curve {
            Curve::P256 => keys::Curve::P256,
            Curve::K256 => keys::Curve::K256,
        };
        Signer::from_secret(curve, [7; 32]).unwrap()
    }

    fn public(curve: Curve) -> PublicKey {
        PublicKey::from_point(curve, signer(curve).compressed()).unwrap()
    }

    fn uncompressed(curve: Curve) -> Vec<u8> {
        let text = signer(curve).legacy_multibase();
        bs58::decode(&text[1..]).into_vec().unwrap()
    }

    #[test]
    fn half_the_order_is_rounded_down() {
        for curve in CURVES {
            let (n, half) = (curve.order(), curve.half_order());
            // n is odd: n = half + half + 1.
            let mut sum = [0; 32];
            let mut carry = 1;
            for i in (0..32).rev() {
                let digit = 2 * u16::from(half[i]) + carry;
                (sum[i], carry) = ((digit % 256) as u8, digit / 256);
            }
            assert_eq!((sum, carry), (n, 0));
        }
    }

    #[test]
    fn only_the_low_one_of_two_signatures_is_valid() {
        for curve in CURVES {
            let (key, public) = (signer(curve), public(curve));
            // P-256 signatures are random: half of them are normalised.
            for i in 0..32u8 {
                let signature = key.sign(&[i]);
                assert_eq!(public.verify(&[i], &signature), Ok(()), "{curve:?}");
                let high = key.other_s(&signature);
                assert_eq!(public.verify(&[i], &high), Err(SignatureError));
                assert_eq!(public.verify(&[i + 1], &signature), Err(SignatureError));
            }
        }
    }

    #[test]
    fn lengths_and_ranges_are_exact() {
        for curve in CURVES {
            let public = public(curve);
            let good = signer(curve).sign(b"m");
            assert!(public.verify(b"m", &good[..63]).is_err());
            assert!(public.verify(b"m", &[&good[..], &[0]].concat()).is_err());
            assert!(public.verify(b"m", b"").is_err());
            for (at, number) in [(0, [0; 32]), (32, [0; 32]), (0, curve.order())] {
                let mut bad = good;
                bad[at..at + 32].copy_from_slice(&number);
                assert!(public.verify(b"m", &bad).is_err());
            }
            for bit in [0, 255, 256, 511] {
                let mut bad = good;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(public.verify(b"m", &bad).is_err());
            }
        }
    }

    #[test]
    fn keys_have_one_value_in_every_form() {
        for curve in CURVES {
            let public = public(curve);
            assert_eq!(public.to_multikey(), signer(curve).multikey());
            assert_eq!(
                PublicKey::from_multikey(&public.to_multikey()),
                Ok(public.clone())
            );
            for point in [public.to_compressed().to_vec(), uncompressed(curve)] {
                let text = format!("z{}", bs58::encode(&point).into_string());
                assert_eq!(PublicKey::from_legacy(curve, &text), Ok(public.clone()));
                // A Multikey has a prefix, and its point is compressed.
                assert!(PublicKey::from_multikey(&text).is_err());
            }
            let long = [&curve.multicodec()[..], &uncompressed(curve)].concat();
            let long = format!("z{}", bs58::encode(long).into_string());
            assert_eq!(PublicKey::from_multikey(&long), Err(KeyError::Point));
        }
        assert_ne!(public(Curve::P256), public(Curve::K256));
    }

    #[test]
    fn other_keys_are_named() {
        let ed25519 = "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
        assert_eq!(
            PublicKey::from_multikey(ed25519),
            Err(KeyError::Unsupported)
        );
        assert_eq!(PublicKey::from_multikey("z"), Err(KeyError::Unsupported));
        assert_eq!(PublicKey::from_multikey("m"), Err(KeyError::Encoding));
        assert_eq!(PublicKey::from_multikey("z0OIl"), Err(KeyError::Encoding));
        let huge = format!("z{}", "2".repeat(100_000));
        assert_eq!(PublicKey::from_multikey(&huge), Err(KeyError::Encoding));
        let off_curve = [&[2][..], &[0xff; 32]].concat();
        for curve in CURVES {
            assert_eq!(
                PublicKey::from_point(curve, &off_curve),
                Err(KeyError::Point)
            );
            assert_eq!(PublicKey::from_point(curve, &[]), Err(KeyError::Point));
        }
    }

    proptest! {
        #[test]
        fn no_text_or_point_panics(
            text in ".{0,120}",
            bytes in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            let base58 = format!("z{}", bs58::encode(&bytes).into_string());
            for text in [text.as_str(), base58.as_str()] {
                let _ = PublicKey::from_multikey(text);
                for curve in CURVES {
                    let _ = PublicKey::from_legacy(curve, text);
                    let _ = PublicKey::from_point(curve, text.as_bytes());
                }
            }
        }

        #[test]
        fn no_bytes_are_a_signature(signature in prop::collection::vec(any::<u8>(), 0..80)) {
            for curve in CURVES {
                prop_assert!(public(curve).verify(b"m", &signature).is_err());
            }
        }
    }
}
