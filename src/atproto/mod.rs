//! The protocol, pure: bytes in, values out. No I/O, no clock, no threads, no logging, and nothing
//! of ours is imported here. Everything is bounded for any input: it runs on small stacks and is
//! fed by strangers.

pub mod car;
pub mod cbor;
pub mod cid;
pub mod commit;
pub mod crypto;
pub mod datetime;
pub mod did;
pub mod envelope;
pub mod handle;
pub mod hostname;
pub mod mst;
pub mod nsid;
pub mod prove;
pub mod record_key;
pub mod seq;
pub mod splice;
pub mod tid;
pub(crate) mod varint;
