//! The protocol, rule by rule, shown from outside: the real program as a process, between a made-up
//! directory and made-up hosts and a websocket client that shares no code with it. The rules, their
//! sources and the case of each are listed in `docs/conformance.md`; see [`table`].

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod account;
#[path = "../support/admin.rs"]
#[expect(dead_code, reason = "the suite of the whole relay needs more of it")]
mod admin;
mod authority;
mod collections;
mod commits_drop;
mod commits_pass;
mod craft;
mod cursors;
mod forgeries;
mod framing;
mod handshake;
mod host_page;
mod hosts;
#[path = "../support/http.rs"]
mod http;
mod identity;
mod items;
mod lenient;
mod operation;
mod operator;
mod plain;
mod quota;
mod raw;
mod reasons;
#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/site.rs"]
mod site;
#[path = "../support/stage.rs"]
#[expect(dead_code, reason = "the suite of the whole relay needs more of it")]
mod stage;
#[path = "../support/subscriber.rs"]
mod subscriber;
mod sync;
mod table;
mod xrpc;
