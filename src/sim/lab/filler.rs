//! Accounts in any number that cost nothing until somebody asks for them: DID and document follow
//! from a number, and a few keys are shared by all.

use std::sync::Arc;

use crate::sim::{
    Network, clock,
    event::{self, Event},
    keys::{Curve, Key},
    plc::{self, DocumentForm},
};

/// Keys that all of them share; every fourth is of the rarer curve.
const KEYS: usize = 16;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const PREFIX: &str = "did:plc:";
/// Characters of a half of the identifier, of 5 bits each.
const HALF: usize = 12;
const HALF_MASK: u64 = (1 << (5 * HALF)) - 1;
/// An odd factor that scatters consecutive numbers, and its inverse modulo 2^60.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15 & HALF_MASK;
const GATHER: u64 = inverse(SCATTER);

/// The accounts 0 to `count` of some hosts.
#[derive(Clone)]
pub(super) struct Filler {
    count: u64,
    keys: Arc<[Key]>,
    /// The URLs of the hosts, which have the accounts in turn.
    hosts: Arc<[String]>,
}

impl Filler {
    /// So many accounts on the first `hosts` hosts of `network`, whose directory knows them from now
    /// on.
    pub(super) fn new(network: &Network, hosts: usize, count: u64, seed: u64) -> Filler {
        let mut rng = fastrand::Rng::with_seed(seed);
        let curve = |i: usize| {
            // As on the network, where hardly any account has one.
            if i.is_multiple_of(32) {
                Curve::P256
            } else {
                Curve::K256
            }
        };
        let keys = (0..KEYS).map(|i| Key::random(curve(i), &mut rng));
        let hosts = network.hosts().iter().take(hosts.max(1));
        let filler = Filler {
            count,
            keys: keys.collect(),
            hosts: hosts.map(|host| host.url()).collect(),
        };
        let known = filler.clone();
        network
            .plc()
            .set_generator(Box::new(move |did| known.document(did)));
        filler
    }

    /// The index of the host that has the account of this number.
    pub(super) fn host(&self, number: u64) -> usize {
        (number % self.hosts.len() as u64) as usize
    }

    /// An `#account` that says that the account of this number is active.
    pub(super) fn event(number: u64) -> Event {
        event::account(&did(number).into(), None, clock::micros())
    }

    /// The document of a DID that is one of these.
    fn document(&self, did: &str) -> Option<String> {
        let number = number(did).filter(|number| *number < self.count)?;
        let key = &self.keys[number as usize % self.keys.len()];
        let handle = format!("{}.filler.sim.test", &did[PREFIX.len()..][..HALF]);
        let host = self.hosts.get(self.host(number))?;
        Some(plc::document(
            DocumentForm::Multikey,
            did,
            &handle,
            key,
            host,
        ))
    }
}

/// The DID of a number below 2^60: as scattered as real ones, which are hashes, so that they are as
/// bad to sort and to compress.
fn did(number: u64) -> String {
    let first = number.wrapping_mul(SCATTER) & HALF_MASK;
    let mut did = String::with_capacity(PREFIX.len() + 2 * HALF);
    did.push_str(PREFIX);
    for half in [first, second_half(first)] {
        for i in 0..HALF {
            did.push(char::from(BASE32[(half >> (5 * i)) as usize & 31]));
        }
    }
    did
}

/// The number of a DID; none where it is not of these.
fn number(text: &str) -> Option<u64> {
    let first = text.strip_prefix(PREFIX)?.as_bytes().get(..HALF)?;
    let mut half = 0;
    for (i, byte) in first.iter().enumerate() {
        let digit = BASE32.iter().position(|b| b == byte)? as u64;
        half |= digit << (5 * i);
    }
    let number = half.wrapping_mul(GATHER) & HALF_MASK;
    (did(number) == text).then_some(number)
}

/// A second half that looks unlike the first and follows from it.
fn second_half(first: u64) -> u64 {
    let mixed = (first ^ (first >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)) & HALF_MASK
}

/// The inverse of an odd number modulo 2^60: each step of Newton's method doubles the bits.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse & HALF_MASK
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        atproto::did::Did,
        sim::{Config, Network},
    };

    #[test]
    fn a_did_says_which_number_it_is() {
        let mut seen = HashSet::new();
        for i in (0..2_000).chain([499_999, (1 << 60) - 1]) {
            let text = did(i);
            assert_eq!(number(&text), Some(i), "{text}");
            assert!(Did::parse(&text).is_ok(), "{text}");
            assert!(seen.insert(text));
        }
        assert_eq!(number("did:plc:aaaaaaaaaaaaaaaaaaaaaaab"), None);
        assert_eq!(number("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), None);
        assert_eq!(number("did:web:a.test"), None);
    }

    #[test]
    fn the_directory_makes_documents_on_request() {
        let network = Network::start(&Config::default()).unwrap();
        let filler = Filler::new(&network, 2, 5, 1);
        let document = filler.document(&did(3)).unwrap();
        assert!(document.contains(&network.host(1).url()), "{document}");
        assert!(document.contains(&did(3)) && document.contains(".filler.sim.test"));
        assert_eq!(filler.document(&did(5)), None);
        let url = network.plc_url();
        let client = crate::sim::relay::Client::new(&url);
        let (status, body) = client.get(&format!("/{}", did(3))).unwrap();
        assert_eq!((status, body), (200, document));
        assert_eq!(client.get(&format!("/{}", did(5))).unwrap().0, 404);
        assert_eq!(network.plc().requests(), 2);
    }
}
