//! Every bound, named, with its unit and who suffers when it is reached. What a variable of the
//! configuration changes is in `config`; here is what no operator should have to think about. A file for
//! each part of the relay; they are used without its name.

// With their paths, because `fuzz/` reads this file as a module of its own.
#[path = "limits/admin.rs"]
mod admin;
#[path = "limits/control.rs"]
mod control;
#[path = "limits/firehose.rs"]
mod firehose;
#[path = "limits/host.rs"]
mod host;
#[path = "limits/http.rs"]
mod http;
#[path = "limits/identity.rs"]
mod identity;
#[path = "limits/lists.rs"]
mod lists;
#[path = "limits/log.rs"]
mod log;
#[path = "limits/metrics.rs"]
mod metrics;
#[path = "limits/outbound.rs"]
mod outbound;
#[path = "limits/pages.rs"]
mod pages;
#[path = "limits/process.rs"]
mod process;
#[path = "limits/protocol.rs"]
mod protocol;
#[path = "limits/sequencer.rs"]
mod sequencer;
#[path = "limits/store.rs"]
mod store;

pub use self::{
    admin::*, control::*, firehose::*, host::*, http::*, identity::*, lists::*, log::*, metrics::*,
    outbound::*, pages::*, process::*, protocol::*, sequencer::*, store::*,
};
