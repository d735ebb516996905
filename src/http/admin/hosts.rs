//! What the operator says of hosts.

use super::{App, Request, Response};

/// Answers a request that is the operator's; none where the path is not one of these.
pub(super) fn route(_app: &App, _request: &Request) -> Option<Response> {
    None
}
