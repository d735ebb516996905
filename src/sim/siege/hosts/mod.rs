//! Hosts that are up to no good. Each attack is a [`Behaviour`], which so many hosts have at once;
//! everything else is the same for all: they are admitted, crawled and known before the first round,
//! say what they like while the attack is on, and nothing otherwise.

mod events;
mod floods;
mod frames;
mod gate;
mod handshake;
mod host;
mod wire;

use std::{io, sync::Arc};

use serde_json::{Value, json};

use self::{gate::Gate, host::Hostile, wire::Wire};
use super::{
    attack::{Attack, Seen},
    field::Field,
};
use crate::{
    sim::{account::Account, keys::Curve},
    threads::Stop,
};

/// What a host does. One value is shared by all its connections.
trait Behaviour: Send + Sync {
    /// Speaks on a connection whose websocket is open, while the attack is on; the connection is
    /// closed when it returns.
    fn speak(&self, wire: &mut Wire, cursor: Option<u64>) -> io::Result<()>;

    /// Answers the request for a websocket in another way than with `answer`, which is the right one;
    /// true where it has, and the connection is over.
    fn answer(&self, _wire: &mut Wire, _answer: &[u8]) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether it lets TLS handshakes hang, while the attack is on.
    fn stalls_tls(&self) -> bool {
        false
    }
}

/// Makes the behaviour of one host, whose accounts it may register.
type Make = fn(&Place<'_>) -> io::Result<Box<dyn Behaviour>>;

/// Where a host is, and what it can reach.
struct Place<'a> {
    field: &'a Field,
    /// The URL of the host.
    url: &'a str,
    seed: u64,
}

impl Place<'_> {
    /// So many new accounts of this host, which the directory knows and nobody compares.
    fn accounts(&self, count: usize) -> Vec<Account> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        (0..count)
            .map(|_| {
                let account = Account::with_curve(&mut rng, 0, Curve::K256);
                self.register(&account);
                account
            })
            .collect()
    }

    /// Makes an account known as one of this host.
    fn register(&self, account: &Account) {
        let network = &self.field.network;
        network
            .plc()
            .set(account.did(), &account.document(self.url));
        network.expected().disregard(account.did());
    }
}

/// An attack of several hosts that behave alike.
struct HostAttack {
    name: &'static str,
    about: &'static str,
    make: Make,
    /// What the page of each host has to say: one of these words.
    says: &'static [&'static str],
    attackers: usize,
    tls: bool,
    /// The operator trusts them.
    trusted: bool,
    gate: Arc<Gate>,
    hosts: Vec<Hostile>,
    /// What the page of each host said at the end of a round.
    said: Vec<String>,
}

impl HostAttack {
    fn new(
        name: &'static str,
        about: &'static str,
        says: &'static [&'static str],
        make: Make,
    ) -> HostAttack {
        HostAttack {
            name,
            about,
            make,
            says,
            attackers: 0,
            tls: false,
            trusted: false,
            gate: Arc::default(),
            hosts: Vec::new(),
            said: Vec::new(),
        }
    }

    fn with_tls(self) -> HostAttack {
        HostAttack { tls: true, ..self }
    }

    fn trusted(self) -> HostAttack {
        HostAttack {
            trusted: true,
            ..self
        }
    }

    fn by(self, attackers: usize) -> HostAttack {
        HostAttack { attackers, ..self }
    }
}

/// Every attack of hosts, each by so many of them.
pub(super) fn all(attackers: usize) -> Vec<Box<dyn Attack>> {
    let all = [
        floods::all(),
        events::all(),
        frames::all(),
        handshake::all(),
    ];
    let all = all.into_iter().flatten();
    all.map(|attack| Box::new(attack.by(attackers)) as Box<dyn Attack>)
        .collect()
}

impl Attack for HostAttack {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn prepare(&mut self, field: &Field) -> io::Result<()> {
        for n in 0..self.attackers {
            let tls = self.tls.then(|| field.tls.config.clone());
            let socket = host::bind(tls.is_some())?;
            let place = Place {
                field,
                url: &socket.url,
                seed: fastrand::u64(..).wrapping_add(n as u64),
            };
            let behaviour = (self.make)(&place)?;
            let host = Hostile::start(socket, tls, behaviour, self.gate.clone())?;
            field.client.request_crawl_of(host.url())?;
            if self.trusted {
                field.change(&json!({"host": host.name(), "trusted": true}))?;
            }
            self.hosts.push(host);
        }
        Ok(())
    }

    fn run(&mut self, field: &Field, stop: &Stop) -> io::Result<()> {
        self.gate.open();
        // Nobody ever sends anything here: it is the end that is waited for.
        let _ = stop.channel().recv();
        // While it is on: of a host that does well again, the page no longer says what was wrong.
        let pages = self.hosts.iter().map(|host| field.host_page(host.name()));
        let said: io::Result<_> = pages.map(|page| Ok(words(&page?))).collect();
        self.gate.close();
        self.said = said?;
        Ok(())
    }

    fn seen(&mut self, _field: &Field) -> io::Result<Seen> {
        let mut seen = Seen::default();
        for (host, words) in self.hosts.iter().zip(&self.said) {
            if !self.says.iter().any(|word| words.contains(word)) {
                let said = format!("the page of {} says: {words}", host.name());
                seen.amiss.get_or_insert(said);
            }
            seen.words.clone_from(words);
        }
        let connections: u64 = self.hosts.iter().map(Hostile::connections).sum();
        seen.words += &format!("; {connections} connections");
        Ok(seen)
    }
}

/// What the page of a host says of what it does.
fn words(page: &Value) -> String {
    let text = |pointer: &str| page.pointer(pointer).and_then(Value::as_str);
    let number = |pointer: &str| page.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let mut words = vec![text("/status").unwrap_or_default().to_owned()];
    words.extend(text("/last_error").map(|error| format!("“{error}”")));
    for limit in ["events_per_second", "events_per_hour", "events_per_day"] {
        let hits = number(&format!("/events/limits_hit/{limit}"));
        words.extend((hits > 0).then(|| format!("{limit} hit {hits}×")));
    }
    let rejected = page.pointer("/events/rejected").and_then(Value::as_object);
    for (reason, what) in rejected.into_iter().flatten() {
        words.push(format!("{reason} {}×", what["count"]));
    }
    words.push(format!(
        "{} received, {} forwarded",
        number("/events/received"),
        number("/events/forwarded")
    ));
    words.join(", ")
}
