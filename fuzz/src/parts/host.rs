//! See `src/host`.

#[path = "../../../src/host/decision.rs"]
pub mod decision;
#[path = "../../../src/host/server_frames.rs"]
mod server_frames;
#[path = "../targets/hosts.rs"]
pub(crate) mod targets;
#[path = "../../../src/host/upgrade.rs"]
mod upgrade;

mod dial {
    //! In the place of `src/host/dial.rs`, which dials.

    /// As far as an answer can be wrong.
    #[derive(Debug)]
    pub(super) enum DialError {
        Handshake(String),
        Status(u16),
        IsRelay,
        Timeout,
    }
}
