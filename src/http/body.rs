//! What the JSON bodies of requests say.

use serde_json::Value;

use super::response::Response;

/// The `hostname` of the body.
pub(super) fn hostname(body: &[u8]) -> Result<String, Response> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|_| Response::invalid("The request body is not JSON"))?;
    match body.get("hostname") {
        Some(Value::String(name)) if !name.trim().is_empty() => Ok(name.clone()),
        _ => Err(Response::invalid("hostname is missing, or is not a string")),
    }
}
