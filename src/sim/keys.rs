//! Signing keys of both curves, made from a seed
//! (<https://atproto.com/specs/cryptography>).

use aws_lc_rs::{
    agreement,
    digest::{self, SHA256},
    encoding::{AsBigEndian, EcPublicKeyCompressedBin},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa};

/// An elliptic curve of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Curve {
    /// secp256k1.
    K256,
    /// NIST P-256.
    P256,
}

/// The orders of the two groups, big-endian.
const ORDER_K256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
const ORDER_P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

enum Secret {
    K256(SecretKey),
    P256(Box<EcdsaKeyPair>),
}

/// A private key and its public point.
pub struct Key {
    secret: Secret,
    compressed: [u8; 33],
    uncompressed: [u8; 65],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {})", self.curve(), self.multikey())
    }
}

impl Key {
    /// The next key of `rng`.
    pub fn random(curve: Curve, rng: &mut fastrand::Rng) -> Key {
        loop {
            let mut secret = [0; 32];
            rng.fill(&mut secret);
            if let Some(key) = Key::from_secret(curve, secret) {
                return key;
            }
        }
    }

    /// The key whose private scalar is `secret`, big-endian; none if it is not in the group.
    pub fn from_secret(curve: Curve, secret: [u8; 32]) -> Option<Key> {
        match curve {
            Curve::K256 => {
                let secret = SecretKey::from_secret_bytes(secret).ok()?;
                let public = PublicKey::from_secret_key(&secret);
                Some(Key {
                    compressed: public.serialize(),
                    uncompressed: public.serialize_uncompressed(),
                    secret: Secret::K256(secret),
                })
            }
            Curve::P256 => {
                let ecdh =
                    agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, &secret).ok()?;
                let public = ecdh.compute_public_key().ok()?;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &secret,
                    public.as_ref(),
                )
                .ok()?;
                let compressed: EcPublicKeyCompressedBin<'_> =
                    pair.public_key().as_be_bytes().ok()?;
                Some(Key {
                    compressed: compressed.as_ref().try_into().ok()?,
                    uncompressed: public.as_ref().try_into().ok()?,
                    secret: Secret::P256(Box::new(pair)),
                })
            }
        }
    }

    /// The key's curve.
    pub fn curve(&self) -> Curve {
        match self.secret {
            Secret::K256(_) => Curve::K256,
            Secret::P256(_) => Curve::P256,
        }
    }

    /// Signs the SHA-256 of `message`: r and s, big-endian, s in the lower half.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.secret {
            Secret::K256(secret) => {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest::digest(&SHA256, message).as_ref());
                ecdsa::sign(Message::from_digest(hash), secret).serialize_compact()
            }
            Secret::P256(pair) => {
                let mut signature = [0; 64];
                match pair.sign(&SystemRandom::new(), message) {
                    Ok(signed) => signature.copy_from_slice(signed.as_ref()),
                    Err(_) => unreachable!("signing with a valid key can not fail"),
                }
                let other = self.other_s(&signature);
                // Of s and n - s the smaller one is in the lower half.
                if other[32..] < signature[32..] {
                    other
                } else {
                    signature
                }
            }
        }
    }

    /// The other valid signature of the same message: s becomes n - s, so low becomes high. The
    /// protocol allows only the low one.
    pub fn other_s(&self, signature: &[u8; 64]) -> [u8; 64] {
        let order = match self.curve() {
            Curve::K256 => &ORDER_K256,
            Curve::P256 => &ORDER_P256,
        };
        let mut other = *signature;
        let mut borrow = 0;
        for i in (0..32).rev() {
            let difference = i16::from(order[i]) - i16::from(signature[32 + i]) - borrow;
            borrow = i16::from(difference < 0);
            other[32 + i] = difference.rem_euclid(256) as u8;
        }
        other
    }

    /// The public point, 33 bytes.
    pub fn compressed(&self) -> &[u8; 33] {
        &self.compressed
    }

    /// The public point as `publicKeyMultibase` of a `Multikey`.
    pub fn multikey(&self) -> String {
        let codec: &[u8] = match self.curve() {
            Curve::K256 => &[0xe7, 0x01],
            Curve::P256 => &[0x80, 0x24],
        };
        let bytes = [codec, &self.compressed].concat();
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// The public point as `publicKeyMultibase` of a legacy verification method: 65 bytes without
    /// a codec.
    pub fn legacy_multibase(&self) -> String {
        format!("z{}", bs58::encode(self.uncompressed).into_string())
    }

    /// The type of a legacy verification method of this curve.
    pub fn legacy_type(&self) -> &'static str {
        match self.curve() {
            Curve::K256 => "EcdsaSecp256k1VerificationKey2019",
            Curve::P256 => "EcdsaSecp256r1VerificationKey2019",
        }
    }
}

/// Whether `signature` is a valid low-S signature of `message` by the compressed `public` key: the
/// simulator's own check, used by its tests.
#[cfg(test)]
pub(crate) fn verify(curve: Curve, public: &[u8; 33], message: &[u8], signature: &[u8]) -> bool {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, UnparsedPublicKey,
    };
    let (algorithm, order) = match curve {
        Curve::K256 => (&ECDSA_P256K1_SHA256_FIXED, ORDER_K256),
        Curve::P256 => (&ECDSA_P256_SHA256_FIXED, ORDER_P256),
    };
    let Ok(s) = <[u8; 32]>::try_from(&signature[32..]) else {
        return false;
    };
    // s <= n/2, as a comparison of the halved order.
    let mut half = [0; 32];
    let mut carry = 0;
    for i in 0..32 {
        half[i] = (order[i] >> 1) | (carry << 7);
        carry = order[i] & 1;
    }
    s <= half
        && UnparsedPublicKey::new(algorithm, public)
            .verify(message, signature)
            .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_low_and_their_twins_are_not() {
        let mut rng = fastrand::Rng::with_seed(7);
        for curve in [Curve::K256, Curve::P256] {
            let key = Key::random(curve, &mut rng);
            for i in 0..20u8 {
                let signature = key.sign(&[i]);
                assert!(verify(curve, key.compressed(), &[i], &signature));
                assert!(!verify(curve, key.compressed(), &[i, i], &signature));
                let twin = key.other_s(&signature);
                assert!(!verify(curve, key.compressed(), &[i], &twin));
                assert_eq!(key.other_s(&twin), signature);
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_keys() {
        for curve in [Curve::K256, Curve::P256] {
            let a = Key::random(curve, &mut fastrand::Rng::with_seed(1));
            let b = Key::random(curve, &mut fastrand::Rng::with_seed(1));
            assert_eq!(a.multikey(), b.multikey());
            assert!(a.multikey().starts_with("z"));
            assert!(a.legacy_multibase().len() > a.multikey().len());
        }
    }
}
