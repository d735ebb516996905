//! DRISL-CBOR, the strict deterministic subset that the protocol is written in
//! (<https://dasl.ing/drisl.html>, <https://atproto.com/specs/data-model>).

mod reader;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use reader::{CborError, Map, Reader, ascends};
pub use writer::Writer;
