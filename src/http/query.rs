//! The parameters of a query.

use super::response::Response;

/// Decoded parameters in the order in which they came.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what follows the `?`. The error is the answer to the client.
    pub fn parse(text: &str) -> Result<Query, Response> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        decoded
            .collect::<Option<Vec<_>>>()
            .map(Query)
            .ok_or_else(|| Response::invalid("The query is not percent-encoded UTF-8"))
    }

    /// The first value of the parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.said(name).filter(|value| !value.is_empty())
    }

    /// Whether the parameter is there more than once.
    pub fn repeats(&self, name: &str) -> bool {
        self.0.iter().filter(|(n, _)| n == name).nth(1).is_some()
    }

    /// The first value of the parameter, which may be empty.
    pub fn said(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(n, _)| n == name);
        named.next().map(|(_, value)| value.as_str())
    }
}

/// Decodes percent escapes, and `+` as a space, as forms and browsers write it.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 180: <https://atproto.com/specs/xrpc>
    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("did=did%3Aplc%3aabc&&cursor=&x&q=a+b%20c&did=2").unwrap();
        assert_eq!(query.get("did"), Some("did:plc:abc"));
        assert_eq!(query.get("cursor"), None);
        assert_eq!((query.get("x"), query.said("x")), (None, Some("")));
        assert_eq!(query.said("y"), None);
        assert_eq!(query.get("q"), Some("a b c"));
        assert_eq!(Query::parse("").unwrap().get("q"), None);
    }

    #[test]
    fn bad_escapes_are_the_clients_error() {
        for text in ["a=%", "a=%2", "a=%zz", "a=%ff", "%+1=1"] {
            assert_eq!(Query::parse(text).unwrap_err().status, 400, "{text}");
        }
    }
}
