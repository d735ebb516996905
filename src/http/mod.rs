//! HTTP: the public port, the internal port, and the routes that both serve.
//!
//! The public port is our own acceptor, because strangers reach it: every step of a connection has
//! a deadline and every buffer a bound. The internal port is `tiny_http`. Both hand a [`Request`]
//! to [`router::route`] and write the [`Response`] that it returns.
//!
//! [`Request`]: request::Request
//! [`Response`]: response::Response

pub mod admin;
pub mod app;
mod body;
#[cfg(test)]
pub(crate) mod boundary;
pub mod client;
mod connection;
pub mod crawl;
mod fresh;
pub mod front_door;
pub mod gate;
mod head;
pub mod hosts;
pub mod internal;
pub mod pages;
pub mod query;
pub mod rate;
pub mod request;
pub mod response;
pub mod router;
pub mod siblings;
pub mod status;
pub mod subscribe;
mod time;
mod wake;
pub mod xrpc;
