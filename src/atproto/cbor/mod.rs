//! DRISL-CBOR, the strict deterministic subset that the protocol is written in
//! (<https://dasl.ing/drisl.html>, <https://atproto.com/specs/data-model>).

mod writer;

pub use writer::Writer;
