//! DID documents, as far as the network uses them (<https://atproto.com/specs/did#did-documents>).

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::atproto::{
    crypto::{Curve, PublicKey},
    did::Did,
    handle::{Handle, HandleDigest},
    hostname::{Endpoint, Hostname},
};

/// What a DID document says of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The key that signs its commits, where the document has a usable one.
    pub key: Option<PublicKey>,
    /// The PDS that speaks for it, where the document names one.
    pub host: Option<Hostname>,
    /// Whether that PDS is spoken to over TLS.
    pub tls: bool,
    /// The handle that it claims; nobody has verified it.
    pub handle: Option<HandleDigest>,
    /// When the document was fetched, in milliseconds since 1970.
    pub resolved_at: u64,
}

/// Why bytes are not the DID document that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DocumentError {
    /// Not a JSON object with an `id`.
    Json,
    /// The `id` is another DID.
    WrongId,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DocumentError::Json => "not a DID document",
            DocumentError::WrongId => "the document of another DID",
        })
    }
}

impl std::error::Error for DocumentError {}

/// The parts of a document that matter. What has an unexpected shape is left out, not refused: a
/// document may hold anything beside them.
#[derive(Deserialize)]
struct Document {
    id: String,
    #[serde(default, rename = "alsoKnownAs")]
    also_known_as: Value,
    #[serde(default, rename = "verificationMethod")]
    verification_method: Value,
    #[serde(default)]
    service: Value,
}

impl Identity {
    /// Parses the document of `did`, fetched at `now_ms` (milliseconds since 1970).
    pub fn parse(did: &Did, json: &[u8], now_ms: u64) -> Result<Identity, DocumentError> {
        let document: Document = serde_json::from_slice(json).map_err(|_| DocumentError::Json)?;
        if document.id != did.as_str() {
            return Err(DocumentError::WrongId);
        }
        let endpoint = items(&document.service)
            .filter(|service| has_id(service, did, "#atproto_pds"))
            .find_map(pds);
        let (host, tls) = match endpoint {
            Some(Endpoint { host, tls }) => (Some(host), tls),
            None => (None, true),
        };
        Ok(Identity {
            key: items(&document.verification_method)
                .filter(|method| has_id(method, did, "#atproto"))
                .find_map(|method| signing_key(method, did)),
            host,
            tls,
            handle: items(&document.also_known_as)
                .filter_map(Value::as_str)
                .filter_map(|uri| uri.strip_prefix("at://"))
                .find(|handle| Handle::check(handle).is_ok())
                .map(HandleDigest::of),
            resolved_at: now_ms,
        })
    }
}

/// The elements of an array; nothing else has any.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str()
}

/// Whether the `id` of `object` is `fragment`, alone or behind the DID.
fn has_id(object: &Value, did: &Did, fragment: &str) -> bool {
    text(object, "id").is_some_and(|id| {
        let id = id.strip_prefix(did.as_str()).unwrap_or(id);
        id == fragment
    })
}

/// The key of a verification method, where the account itself controls it and the type is one that
/// the protocol knows.
fn signing_key(method: &Value, did: &Did) -> Option<PublicKey> {
    if text(method, "controller")? != did.as_str() {
        return None;
    }
    let multibase = text(method, "publicKeyMultibase")?;
    match text(method, "type")? {
        "Multikey" => PublicKey::from_multikey(multibase),
        "EcdsaSecp256k1VerificationKey2019" => PublicKey::from_legacy(Curve::K256, multibase),
        "EcdsaSecp256r1VerificationKey2019" => PublicKey::from_legacy(Curve::P256, multibase),
        _ => return None,
    }
    .ok()
}

/// The endpoint of a service, where it is a PDS and the endpoint is the URL of nothing but a host.
fn pds(service: &Value) -> Option<Endpoint> {
    if text(service, "type")? != "AtprotoPersonalDataServer" {
        return None;
    }
    let url = text(service, "serviceEndpoint")?;
    let (scheme, _) = url.split_once("://")?;
    let http = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    if http {
        Endpoint::parse(url).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::sim::keys;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

    fn did() -> Did {
        Did::parse(DID).unwrap()
    }

    fn key(curve: Curve) -> PublicKey {
        let of = match curve {
            Curve::P256 => keys::Curve::P256,
            Curve::K256 => keys::Curve::K256,
        };
        let key = keys::Key::from_secret(of, [9; 32]).unwrap();
        PublicKey::from_point(curve, key.compressed()).unwrap()
    }

    fn parse(document: &Value) -> Result<Identity, DocumentError> {
        Identity::parse(&did(), document.to_string().as_bytes(), 7)
    }

    fn document() -> Value {
        json!({
            "@context": ["https://www.w3.org/ns/did/v1"],
            "id": DID,
            "alsoKnownAs": ["https://a.test", "at://not a handle", "at://Jan.Test", "at://b.test"],
            "verificationMethod": [{
                "id": format!("{DID}#atproto"),
                "type": "Multikey",
                "controller": DID,
                "publicKeyMultibase": key(Curve::K256).to_multikey(),
            }],
            "service": [{
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": "https://PDS.example.com/",
            }],
        })
    }

    /// Rule 157: <https://atproto.com/specs/did>
    #[test]
    fn a_document_names_key_host_and_handle() {
        let identity = parse(&document()).unwrap();
        assert_eq!(identity.key, Some(key(Curve::K256)));
        assert_eq!(
            identity.host,
            Some(Hostname::parse("pds.example.com").unwrap())
        );
        assert!(identity.tls);
        assert_eq!(identity.handle, Some(HandleDigest::of("jan.test")));
        assert_eq!(identity.resolved_at, 7);
    }

    /// Rules 150, 154: <https://atproto.com/specs/did>
    #[test]
    fn the_first_valid_entry_wins_and_odd_ones_are_passed_over() {
        let mut document = document();
        let good = document["verificationMethod"][0].clone();
        let with = |field: &str, value: Value| {
            let mut method = good.clone();
            method[field] = value;
            method
        };
        let second = with("publicKeyMultibase", json!(key(Curve::P256).to_multikey()));
        document["verificationMethod"] = json!([
            null,
            "text",
            with("id", json!("#atproto_label")),
            with("id", json!(format!("{DID}#atproto_label"))),
            with("id", json!("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#atproto")),
            with("controller", json!("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")),
            with("type", json!("Ed25519VerificationKey2020")),
            with(
                "publicKeyMultibase",
                json!("z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
            ),
            with("publicKeyMultibase", json!(null)),
            second,
            good,
        ]);
        let service = |id: &str, kind: &str, url: Value| {
            let fields = [
                ("id", json!(id)),
                ("type", json!(kind)),
                ("serviceEndpoint", url),
            ];
            fields
                .map(|(k, v)| (k.to_owned(), v))
                .into_iter()
                .collect::<Value>()
        };
        const PDS: &str = "AtprotoPersonalDataServer";
        let absolute = format!("{DID}#atproto_pds");
        document["service"] = json!([
            service("#atproto_pds", "Other", json!("https://a.test")),
            service("#atproto_pds", PDS, json!({"uri": 1})),
            service("#atproto_pds", PDS, json!("a.test")),
            service("#atproto_pds", PDS, json!("wss://a.test")),
            service("#atproto_pds", PDS, json!("https://a.test/path")),
            service("#other", PDS, json!("https://a.test")),
            service(&absolute, PDS, json!("http://localhost:2583")),
            service(&absolute, PDS, json!("https://late.test")),
        ]);
        let identity = parse(&document).unwrap();
        assert_eq!(identity.key, Some(key(Curve::P256)));
        assert_eq!(
            identity.host,
            Some(Hostname::parse("localhost:2583").unwrap())
        );
        assert!(!identity.tls);
    }

    /// Rule 155: <https://atproto.com/specs/did>
    #[test]
    fn legacy_keys_are_points_of_either_length() {
        for (curve, suite) in [
            (Curve::K256, "EcdsaSecp256k1VerificationKey2019"),
            (Curve::P256, "EcdsaSecp256r1VerificationKey2019"),
        ] {
            let key = key(curve);
            let mut document = document();
            let method = &mut document["verificationMethod"][0];
            method["id"] = json!("#atproto");
            method["type"] = json!(suite);
            let point = bs58::encode(key.to_compressed()).into_string();
            method["publicKeyMultibase"] = json!(format!("z{point}"));
            assert_eq!(parse(&document).unwrap().key, Some(key));
        }
    }

    #[test]
    fn missing_and_null_parts_are_tolerated() {
        let nulls = json!({"id": DID, "alsoKnownAs": null, "verificationMethod": null,
            "service": {}, "authentication": null});
        for document in [json!({"id": DID}), nulls] {
            let identity = parse(&document).unwrap();
            assert_eq!(
                (identity.key, identity.host, identity.handle),
                (None, None, None)
            );
        }
    }

    /// Rule 153: <https://atproto.com/specs/did>
    #[test]
    fn the_document_of_another_is_refused() {
        let mut document = document();
        document["id"] = json!("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(parse(&document), Err(DocumentError::WrongId));
        assert_eq!(parse(&json!({})), Err(DocumentError::Json));
        assert_eq!(parse(&json!([])), Err(DocumentError::Json));
        assert_eq!(
            Identity::parse(&did(), b"<html>", 0),
            Err(DocumentError::Json)
        );
        let deep = "[".repeat(100_000);
        assert_eq!(
            Identity::parse(&did(), deep.as_bytes(), 0),
            Err(DocumentError::Json)
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[#a-z:/.]{0,20}".prop_map(Value::from),
            Just(Value::from("#atproto")),
            Just(Value::from(DID)),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let key = prop_oneof![
                Just("id".to_owned()),
                Just("type".to_owned()),
                Just("controller".to_owned()),
                Just("publicKeyMultibase".to_owned()),
                Just("serviceEndpoint".to_owned()),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Identity::parse(&did(), &bytes, 0);
        }

        #[test]
        fn no_shape_panics(known in value(), methods in value(), service in value()) {
            let document = json!({"id": DID, "alsoKnownAs": known, "verificationMethod": methods,
                "service": service});
            prop_assert!(parse(&document).is_ok());
        }
    }
}
