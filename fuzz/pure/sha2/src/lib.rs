//! What the relay uses of aws-lc-rs: SHA-256. There are no P-256 keys here.

/// As in aws-lc-rs.
pub mod digest {
    use sha2::{Digest as _, Sha256};

    /// Which digest.
    #[derive(Debug)]
    pub struct Algorithm;

    /// The only one.
    pub static SHA256: Algorithm = Algorithm;

    /// A digest.
    #[derive(Clone, Copy, Debug)]
    pub struct Digest([u8; 32]);

    impl AsRef<[u8]> for Digest {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    /// The digest of some bytes.
    pub fn digest(_: &'static Algorithm, bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }
}

/// As in aws-lc-rs.
pub mod signature {
    use crate::digest::Digest;

    /// Which kind of key.
    #[derive(Debug)]
    pub struct Kind;

    /// The only one.
    pub static ECDSA_P256_SHA256_FIXED: Kind = Kind;

    /// Why there is no key: there are none here.
    #[derive(Debug)]
    pub struct NoKey;

    /// A key, which there is not.
    #[derive(Debug)]
    pub enum ParsedPublicKey {}

    impl AsRef<[u8]> for ParsedPublicKey {
        fn as_ref(&self) -> &[u8] {
            match *self {}
        }
    }

    impl ParsedPublicKey {
        /// Nothing is a key.
        pub fn new(_: &'static Kind, _: &[u8]) -> Result<ParsedPublicKey, NoKey> {
            Err(NoKey)
        }

        /// Nothing is verified.
        pub fn verify_digest_sig(&self, _: &Digest, _: &[u8]) -> Result<(), NoKey> {
            match *self {}
        }
    }
}
