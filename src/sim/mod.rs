//! The simulated network: a PLC directory and any number of PDS hosts on loopback, accounts with
//! real keys and real repositories, signed commits with real proofs, faults on request, and the
//! list of what a correct relay must emit. Everything comes from one seed; only timestamps differ
//! between two runs.
//!
//! ```no_run
//! use zlay::sim::{Config, Network, account::Account};
//!
//! let network = Network::start(&Config::default())?;
//! let mut rng = fastrand::Rng::with_seed(1);
//! let mut alice = Account::random(&mut rng, 0);
//! network.register(&alice);
//! let created = alice.commit(&[alice.post("hello")]);
//! network.publish(0, &created); // the relay must forward this one
//! # std::io::Result::Ok(())
//! ```

pub mod account;
mod bench;
pub mod bursts;
pub mod check;
pub mod cli;
pub mod clock;
pub mod event;
pub mod expected;
pub mod faults;
pub mod feed;
pub mod forge;
pub mod host;
pub mod keys;
pub mod known;
mod lab;
pub mod lies;
pub mod moving;
pub mod plc;
pub mod process;
pub mod relay;
pub mod repo;
mod siege;
pub mod sink;
mod soak;
pub mod tls;
pub mod traffic;
pub mod tree;
pub mod wire;

mod crawl;
mod fit;
mod health;
mod http;
mod listen;
mod plot;
mod report;
mod seen;
mod stream;
#[cfg(test)]
mod tests;
mod workers;

use std::{
    io,
    net::TcpStream,
    sync::{Arc, Mutex, PoisonError},
};

use self::{
    account::Account, event::Event, expected::Expected, host::Host, listen::Waker, plc::Plc,
    tls::Tls,
};
use crate::{
    reject::Reject,
    threads::{self, Role, Thread},
};

/// The stack of a thread that serves one plain connection, in bytes.
const PLAIN_STACK_BYTES: usize = 128 << 10;
/// The stack of a thread that serves one TLS connection, in bytes.
const TLS_STACK_BYTES: usize = 512 << 10;

/// The shape of a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where all randomness comes from.
    pub seed: u64,
    /// PDS hosts.
    pub hosts: usize,
    /// Whether the hosts speak TLS.
    pub tls: bool,
    /// Whether the PLC directory speaks TLS.
    pub plc_tls: bool,
    /// The port of the PLC directory; 0 is any free one.
    pub plc_port: u16,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 1,
            hosts: 2,
            tls: false,
            plc_tls: false,
            plc_port: 0,
        }
    }
}

/// A running network; dropping it ends it.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Arc<Host>>,
    plc: Arc<Plc>,
    plc_port: u16,
    plc_tls: bool,
    expected: Arc<Expected>,
    tls: Option<Tls>,
    stop: Waker,
    connections: Arc<Connections>,
    accepting: Option<Thread>,
}

/// The threads that serve connections.
#[derive(Default, Debug)]
struct Connections(Mutex<Vec<Thread>>);

impl Connections {
    fn add(&self, thread: Thread) {
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropping a finished thread does not wait, and keeps the list as long as the live ones.
        if threads.len() == threads.capacity() {
            threads.retain(|thread| !thread.is_finished());
        }
        threads.push(thread);
    }
}

impl Network {
    /// Starts the directory and the hosts.
    pub fn start(config: &Config) -> io::Result<Network> {
        let tls = (config.tls || config.plc_tls).then(Tls::new).transpose()?;
        let plc_listener = listen::bind(config.plc_port)?;
        let plc_port = plc_listener.local_addr()?.port();
        let mut listeners = Vec::with_capacity(config.hosts + 1);
        let mut hosts = Vec::with_capacity(config.hosts);
        for i in 0..config.hosts {
            let listener = listen::bind(0)?;
            let port = listener.local_addr()?.port();
            let server = tls.as_ref().filter(|_| config.tls);
            let server = server.map(|tls| tls.config.clone());
            let seed = config.seed ^ (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hosts.push(Arc::new(Host::new(port, server, seed)));
            listeners.push(listener);
        }
        listeners.push(plc_listener);
        let mut network = Network {
            hosts,
            plc: Arc::default(),
            plc_port,
            plc_tls: config.plc_tls,
            expected: Arc::default(),
            tls,
            stop: Waker::new()?,
            connections: Arc::default(),
            accepting: None,
        };
        let serve = network.server();
        network.accepting = Some(listen::accept_all(listeners, network.stop.clone(), serve)?);
        Ok(network)
    }

    /// What serves a connection: the last listener is the directory's.
    fn server(&self) -> impl Fn(usize, TcpStream) + Send + 'static {
        let (hosts, plc) = (self.hosts.clone(), self.plc.clone());
        let plc_tls = self.tls.as_ref().filter(|_| self.plc_tls);
        let plc_tls = plc_tls.map(|tls| tls.config.clone());
        let (stop, connections) = (self.stop.clone(), self.connections.clone());
        let stack = if self.tls.is_some() {
            TLS_STACK_BYTES
        } else {
            PLAIN_STACK_BYTES
        };
        move |index, tcp| {
            let (host, plc, stop) = (hosts.get(index).cloned(), plc.clone(), stop.clone());
            let plc_tls = plc_tls.clone();
            let spawned = threads::spawn(Role::Simulator, "serve", stack, move || {
                let served = match &host {
                    Some(host) => host.serve(tcp, &stop),
                    None => plc.serve(tcp, plc_tls.as_ref(), &stop),
                };
                if let Err(error) = served {
                    let name = host.as_ref().map_or("plc", |host| host.name());
                    log::debug!("{name}: connection ended: {error}");
                }
            });
            match spawned {
                Ok(thread) => connections.add(thread),
                Err(error) => log::error!("a connection found no thread: {error}"),
            }
        }
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are no hosts.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// A host; the index counts from 0 and wraps.
    pub fn host(&self, index: usize) -> &Arc<Host> {
        &self.hosts[index % self.hosts.len()]
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// The PLC directory.
    pub fn plc(&self) -> &Plc {
        &self.plc
    }

    /// The directory's URL.
    pub fn plc_url(&self) -> String {
        let scheme = if self.plc_tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.plc_port)
    }

    /// What the relay must emit.
    pub fn expected(&self) -> &Arc<Expected> {
        &self.expected
    }

    /// The certificate of the network's authority, in PEM, where anybody speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.ca_pem.as_str())
    }

    /// Makes an account known: to the directory as it is now, and to its host.
    pub fn register(&self, account: &Account) {
        self.plc.set(
            account.did(),
            &account.document(&self.host(account.host).url()),
        );
        self.host(account.host)
            .set_account(account.did(), account.hosted());
    }

    /// Sends a valid event that the relay must forward; returns its sequence number at the host.
    pub fn publish(&self, host: usize, event: &Event) -> u64 {
        self.expected.expect(event);
        self.host(host).emit(event)
    }

    /// Sends an event that the relay must reject for this reason.
    pub fn publish_invalid(&self, host: usize, event: &Event, reject: Reject) -> u64 {
        self.expected.expect_reject(reject);
        if reject == Reject::AccountInactive {
            self.expected.tolerate(event);
        }
        self.host(host).emit(event)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.wake();
        drop(self.accepting.take());
        let threads = &self.connections.0;
        std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner)).clear();
    }
}
