//! `docs/openapi.yaml` has every path of the public port, and every name that can be in an answer. What
//! is answered there is compared by schemathesis in `tests/real`.

use super::*;
use crate::{
    control::{HostStatus, settings::Setting},
    reject::Reject,
};

const DESCRIPTION: &str = include_str!("../../../docs/openapi.yaml");

/// Method and path of every operation; a parameter in a path has the name of a host in its place.
fn operations() -> Vec<(&'static str, String)> {
    let (mut operations, mut path) = (Vec::new(), "");
    let from = DESCRIPTION.find("\npaths:\n").unwrap();
    let until = DESCRIPTION.find("\ncomponents:\n").unwrap();
    for line in DESCRIPTION[from..until].lines() {
        if let Some(name) = line.strip_prefix("  /") {
            path = name.strip_suffix(':').unwrap();
        }
        for (key, method) in [("    get:", "GET"), ("    post:", "POST")] {
            if line.starts_with(key) {
                let path = path
                    .replace("{name}", "pds.example.com")
                    .replace("{did}", "did:web:a.b");
                operations.push((method, format!("/{path}")));
            }
        }
    }
    operations
}

/// The names in quotes in a part of a source.
fn quoted(source: &str, from: &str, until: &str) -> Vec<String> {
    let part = source.split(from).nth(1).unwrap().split(until).next();
    let names = part.unwrap().split('"').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn every_operation_that_is_described_is_there_and_has_no_other_method() {
    let relay = relay();
    let answer = |method: &str, path: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: 0\r\n\
             Authorization: Bearer sesame\r\n\r\n"
        );
        let text = exchange(relay.door.address(), request.as_bytes());
        let allow = text.lines().find_map(|line| line.strip_prefix("Allow: "));
        (last_answer(&text), allow.map(str::to_owned))
    };
    let operations = operations();
    assert!(operations.len() > 40, "{operations:?}");
    for (method, path) in &operations {
        let ((status, body), _) = answer(method, path);
        let missing = body["error"] == "NotFound" || matches!(status, 405 | 501);
        assert!(!missing, "{method} {path}: {status} {body}");
        let (other, allowed) = match *method {
            "GET" => ("POST", "GET"),
            _ => ("GET", "POST"),
        };
        if operations.contains(&(other, path.clone())) {
            continue;
        }
        let ((status, body), allow) = answer(other, path);
        assert_eq!(status, 405, "{other} {path}: {body}");
        assert!(allow.unwrap().starts_with(allowed), "{path}");
    }
}

#[test]
fn every_route_is_described() {
    let xrpc = quoted(include_str!("../xrpc/mod.rs"), "fn query(", "_ => return");
    let admin = quoted(include_str!("../admin/mod.rs"), "fn act(", "=> return");
    let console = include_str!("../admin/console/mod.rs");
    let console = quoted(console, "fn page(", "_ => return");
    let mut paths = quoted(
        include_str!("../router.rs"),
        "fn route(",
        "_ => pages::nothing",
    );
    // Those of the internal port, and what no route answers.
    paths.retain(|path| path.starts_with('/') && get_public(path) != 404);
    paths.extend(xrpc.iter().map(|name| format!("/xrpc/{name}")));
    paths.extend(admin.iter().map(|name| format!("/admin/{name}")));
    let console = console.iter().filter(|name| !name.is_empty());
    paths.extend(console.map(|name| format!("/admin/{name}")));
    let constants = [
        crate::http::subscribe::PATH,
        crate::http::crawl::PATH,
        crate::http::crawl::NOTIFY_PATH,
        "/_health",
        "/xrpc/_health",
    ];
    paths.extend(constants.map(str::to_owned));
    assert!(paths.len() > 40, "{paths:?}");
    let operations = operations();
    for path in paths {
        assert!(operations.iter().any(|(_, known)| *known == path), "{path}");
    }
}

fn get_public(path: &str) -> u16 {
    get(relay().door.address(), path).0
}

#[test]
fn every_name_is_described() {
    let items = |names: Vec<&str>| {
        for name in names {
            assert!(
                DESCRIPTION.contains(&format!("        - {name}\n")),
                "{name}"
            );
        }
    };
    items(Reject::ALL.iter().map(|reject| reject.name()).collect());
    items(Setting::ALL.iter().map(|setting| setting.name()).collect());
    let list = |names: &[&str]| format!("enum: [{}]", names.join(", "));
    let statuses = list(&HostStatus::ALL.map(HostStatus::name));
    let sources = list(&Source::ALL.map(Source::name));
    assert!(DESCRIPTION.contains(&statuses), "{statuses}");
    assert!(DESCRIPTION.contains(&sources), "{sources}");
}
