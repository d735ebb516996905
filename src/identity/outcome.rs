//! What comes of looking an identity up.

use std::sync::Arc;

use super::document::Identity;
use crate::reject::Reject;

/// What is known of an identity.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// This; possibly a document that could not be refreshed.
    Found(Arc<Identity>),
    /// There is none, conclusively.
    Missing(Missing),
    /// Whoever should have the document has not answered for a long time.
    Unreachable,
}

/// Why there is no identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The DID is not registered, or no longer; or there is no such host.
    NotFound,
    /// The DID's method, or the host that it names, is none that this network uses.
    Unsupported,
    /// What is served is not the DID's document.
    BadDocument,
}

impl Missing {
    /// As the reason for which an event is refused.
    pub fn reject(self) -> Reject {
        match self {
            Missing::NotFound => Reject::IdentityNotFound,
            Missing::Unsupported => Reject::DidMethodUnsupported,
            Missing::BadDocument => Reject::IdentityInvalid,
        }
    }
}
