//! The public interoperability vectors (<https://github.com/bluesky-social/atproto-interop-tests>)
//! of identifiers and keys. `ZLAY_VECTORS` names the folder; without it the tests are ignored.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::PathBuf;

use data_encoding::{BASE64_NOPAD, HEXLOWER};
use serde_json::Value;
use zlay::atproto::{
    crypto::{Curve, PublicKey, SigningKey},
    datetime,
    did::Did,
    handle::Handle,
    nsid::Nsid,
    record_key,
    tid::Tid,
};

fn read(path: &str) -> String {
    let folder = PathBuf::from(std::env::var_os("ZLAY_VECTORS").expect("ZLAY_VECTORS is set"));
    std::fs::read_to_string(folder.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn json(path: &str) -> Vec<Value> {
    serde_json::from_str(&read(path)).unwrap()
}

/// Every line of `syntax/{name}.txt` must be `valid` to `check`.
fn syntax(name: &str, valid: bool, check: impl Fn(&str) -> bool) {
    let text = read(&format!("syntax/{name}.txt"));
    let lines: Vec<&str> = text
        .split('\n')
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert!(!lines.is_empty(), "{name} has no lines");
    for line in lines {
        assert_eq!(check(line), valid, "{name}: {line:?}");
    }
}

#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn identifiers_are_told_from_what_is_none() {
    let did = |s: &str| Did::parse(s).is_ok();
    let tid = |s: &str| Tid::parse(s).is_ok();
    let nsid = |s: &str| Nsid::parse(s).is_ok();
    let handle = |s: &str| Handle::parse(s).is_ok();
    let rkey = |s: &str| record_key::check(s).is_ok();
    let datetime = |s: &str| datetime::check(s).is_ok();
    for (name, check) in [
        ("did", &did as &dyn Fn(&str) -> bool),
        ("tid", &tid),
        ("nsid", &nsid),
        ("handle", &handle),
        ("recordkey", &rkey),
        ("datetime", &datetime),
    ] {
        syntax(&format!("{name}_syntax_valid"), true, check);
        syntax(&format!("{name}_syntax_invalid"), false, check);
    }
    // Valid at first sight only, such as a month 13.
    syntax("datetime_parse_invalid", false, datetime);
}

#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn signatures_are_accepted_only_in_their_one_form() {
    let fixtures = json("crypto/signature-fixtures.json");
    assert!(!fixtures.is_empty());
    for fixture in fixtures {
        let text = |field: &str| fixture[field].as_str().unwrap();
        let bytes = |field| BASE64_NOPAD.decode(text(field).as_bytes()).unwrap();
        let curve = match text("algorithm") {
            "ES256" => Curve::P256,
            "ES256K" => Curve::K256,
            other => panic!("unknown algorithm {other}"),
        };
        let key = PublicKey::from_did_key(text("publicKeyDid")).unwrap();
        assert_eq!(key.curve(), curve);
        assert_eq!(key.to_did_key(), text("publicKeyDid"));
        let legacy = PublicKey::from_legacy(curve, text("publicKeyMultibase")).unwrap();
        assert_eq!(legacy, key);
        let valid = key.verify(&bytes("messageBase64"), &bytes("signatureBase64"));
        assert_eq!(
            valid.is_ok(),
            fixture["validSignature"].as_bool().unwrap(),
            "{}",
            text("comment")
        );
    }
}

#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn secrets_have_their_known_did_key() {
    let k256 = json("crypto/w3c_didkey_K256.json");
    let p256 = json("crypto/w3c_didkey_P256.json");
    assert!(!k256.is_empty() && !p256.is_empty());
    for (curve, fixture) in k256
        .iter()
        .map(|f| (Curve::K256, f))
        .chain(p256.iter().map(|f| (Curve::P256, f)))
    {
        let secret = match fixture["privateKeyBytesHex"].as_str() {
            Some(hex) => HEXLOWER.decode(hex.as_bytes()).unwrap(),
            None => bs58::decode(fixture["privateKeyBytesBase58"].as_str().unwrap())
                .into_vec()
                .unwrap(),
        };
        let key = SigningKey::from_secret(curve, secret.as_slice().try_into().unwrap()).unwrap();
        assert_eq!(key.public().to_did_key(), fixture["publicDidKey"]);
        let signature = key.sign(b"message");
        assert_eq!(key.public().verify(b"message", &signature), Ok(()));
    }
}
