//! Why a subscription ends, and what is said of it: to the client, in the log, and in the metrics.

use std::{fmt, io};

use bytes::Bytes;
use log::Level;

use super::{
    client_frames::Violation,
    frame::{self, CloseCode},
};
use crate::{metrics::labels::Leave, store::StoreError};

/// Why a subscription ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client said so.
    Closed(Vec<u8>),
    /// The connection is gone, or nobody answers on it.
    Vanished,
    /// The client takes nothing, or what it needs has left the window.
    TooSlow,
    /// The cursor is beyond the last seq.
    Future,
    /// The client sent what no client may send.
    Violation,
    /// The relay stops.
    Stopping,
    /// The operator has sent it away.
    Dismissed,
    /// The store can not be read.
    Failed(StoreError),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Closed(_) => "closed by the client",
            End::Vanished => "the connection is gone",
            End::TooSlow => "too slow",
            End::Future => "its cursor is in the future",
            End::Violation => "it broke the protocol",
            End::Stopping => "the relay stops",
            End::Dismissed => "sent away by the operator",
            End::Failed(error) => return fmt::Display::fmt(error, f),
        })
    }
}

impl End {
    /// What it is counted as.
    pub(super) fn reason(&self) -> Leave {
        match self {
            End::Closed(_) => Leave::Closed,
            End::Vanished => Leave::Gone,
            End::TooSlow => Leave::TooSlow,
            End::Future => Leave::FutureCursor,
            End::Violation => Leave::Protocol,
            End::Stopping => Leave::Stopping,
            End::Dismissed => Leave::Dismissed,
            End::Failed(_) => Leave::Failed,
        }
    }

    /// How it is logged.
    pub(super) fn level(&self) -> Level {
        match self {
            End::TooSlow | End::Dismissed => Level::Info,
            End::Failed(_) => Level::Error,
            End::Closed(_) | End::Vanished | End::Future | End::Violation | End::Stopping => {
                Level::Debug
            }
        }
    }

    /// What the client is told, in this order: an error frame where it has to know why, and a close frame. Nothing where
    /// there is nobody.
    pub(super) fn last_words(&self) -> Vec<Bytes> {
        let (code, reason, message) = match self {
            End::Vanished => return Vec::new(),
            End::Closed(payload) => return vec![frame::close_reply(payload)],
            End::TooSlow => (
                CloseCode::Policy,
                "ConsumerTooSlow",
                Some("Stream consumer too slow"),
            ),
            End::Future => (
                CloseCode::Policy,
                "FutureCursor",
                Some("Cursor in the future."),
            ),
            End::Failed(_) => (
                CloseCode::Internal,
                "InternalServerError",
                Some("The relay failed"),
            ),
            End::Violation => (CloseCode::Policy, "ProtocolError", None),
            End::Stopping => (CloseCode::GoingAway, "The relay stops", None),
            End::Dismissed => (CloseCode::GoingAway, "Disconnected by the operator", None),
        };
        let error = message.map(|message| frame::error(reason, message));
        error
            .into_iter()
            .chain([frame::close(code, reason)])
            .collect()
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Vanished
    }
}

impl From<Violation> for End {
    fn from(_: Violation) -> End {
        End::Violation
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> End {
        End::Failed(error)
    }
}
