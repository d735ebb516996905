//! The merged stream as subscribers see it.

pub mod frame;
use std::sync::Arc;

use crate::atproto::seq::Seq;

/// A published frame: the complete websocket bytes (header and payload, unmasked), built once and
/// shared by every subscriber and the store.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its place in the stream.
    pub seq: Seq,
    /// Websocket header and payload.
    pub bytes: Arc<[u8]>,
}
