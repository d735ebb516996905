//! Who we listen to: admission, dialing, and one thread per host that reads, proves and hands on.

pub mod admission;
pub mod backoff;
pub mod crawler;
pub mod decision;
mod dial;
pub mod discovery;
mod lane;
pub mod policy;
mod pool;
pub mod quota;
mod rush;
mod server_frames;
pub mod state;
pub mod status;
mod stream;
pub mod table;
mod terms;
pub mod thread;
pub mod timeline;
mod tls;
pub mod trust;
mod upgrade;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use self::{policy::Policy, pool::Pool};
use crate::{
    atproto::prove::Workspace, identity::Directory, limits, metrics::Metrics, outbound::Outbound,
    sequencer::Inbox, threads::Stop,
};

/// What all host threads share.
pub struct Shared {
    /// Where proven events go.
    pub inbox: Inbox,
    /// Who may sign for an account.
    pub directory: Arc<Directory>,
    /// How connections are made.
    pub outbound: Outbound,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends all host threads.
    pub stop: Stop,
    /// What holds for all hosts.
    pub policy: Arc<Policy>,
    workspaces: Pool<Workspace>,
    cores: rush::Cores,
    tls_rooms: Arc<Pool<tls::Room>>,
    dials: dial::Dials,
    /// The same of hosts that could not be connected to the last time.
    redials: dial::Dials,
    /// Bytes of events of all hosts that wait for an identity.
    parked_bytes: AtomicUsize,
}

impl Shared {
    /// Everything that host threads need.
    pub fn new(
        inbox: Inbox,
        directory: Arc<Directory>,
        outbound: Outbound,
        metrics: Arc<Metrics>,
        stop: Stop,
        policy: Arc<Policy>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            inbox,
            directory,
            outbound,
            metrics,
            stop,
            policy,
            workspaces: Pool::new(limits::WORKSPACES_KEPT_MAX),
            cores: rush::Cores::all_but_one(),
            tls_rooms: Arc::new(Pool::new(limits::TLS_ROOMS_KEPT_MAX)),
            dials: dial::Dials::new(limits::HOST_DIALS_MAX),
            redials: dial::Dials::new(limits::HOST_REDIALS_MAX),
            parked_bytes: AtomicUsize::new(0),
        })
    }

    /// Workspaces for proving that are kept and not in use now.
    pub fn workspaces(&self) -> u64 {
        self.workspaces.count() as u64
    }

    /// Rooms for records of TLS that are kept and not in use now.
    pub fn tls_rooms(&self) -> u64 {
        self.tls_rooms.count() as u64
    }
}

/// The time since 1970.
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The time since 1970, in milliseconds.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}
