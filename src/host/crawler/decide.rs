//! The operator's decisions: kept by who asks for them, then put into force by the crawler.

use super::{CrawlAnswer, Crawler, CrawlerHandle, Order};
use crate::{
    atproto::hostname::Hostname,
    control::{HostTerms, domain::Domain, settings::Settings},
    host::{
        decision::{Decision, DecisionError, Place},
        now_ms,
        table::HostEntry,
        thread::Start,
    },
    limits::RULING_TIMEOUT,
    sequencer::event::Input,
    store::account::HostId,
};

impl CrawlerHandle {
    /// Keeps a decision; what is left is an order. This may wait for the control store.
    pub(super) fn keep(&self, decision: &Decision) -> Result<Order, DecisionError> {
        match decision {
            Decision::Ban { host, banned } => {
                let terms = HostTerms {
                    banned: *banned,
                    ..self.known(host)?.row.terms
                };
                self.keep_terms(host, terms)
            }
            Decision::Change { host, change } => {
                let terms = change.apply(&self.known(host)?.row.terms);
                self.keep_terms(host, terms)
            }
            Decision::BanDomain { domain, banned } => {
                match banned {
                    true => self.control.ban_domain(domain, now_ms())?,
                    false => self.control.unban_domain(domain)?,
                }
                Ok(Order::Domain(domain.clone(), *banned))
            }
            Decision::Set { setting, choice } => {
                let value = choice.as_ref().map(|choice| choice.json());
                self.control.set_setting(setting.name(), value.as_ref())?;
                let mut settings = self.policy.settings();
                settings.set(*setting, choice.clone());
                Ok(Order::Settings(settings))
            }
            Decision::Disconnect { host } => {
                let entry = self.known(host)?;
                let state = entry.state.as_ref();
                if state.and_then(|state| state.connected_ms()).is_none() {
                    return Err(DecisionError::NotConnected);
                }
                Ok(Order::Disconnect(entry.row.id))
            }
            Decision::Reset { host, to } => {
                let entry = self.known(host)?;
                if self.table.is_banned(host) {
                    return Err(DecisionError::Banned);
                }
                Ok(Order::Reset(entry.row.id, *to))
            }
        }
    }

    fn keep_terms(&self, host: &Hostname, terms: HostTerms) -> Result<Order, DecisionError> {
        let id = self.known(host)?.row.id;
        self.control.set_terms(id, &terms)?;
        Ok(Order::Terms(id, terms))
    }

    fn known(&self, host: &Hostname) -> Result<HostEntry, DecisionError> {
        self.table.get(host).ok_or(DecisionError::NoSuchHost)
    }
}

impl Crawler {
    /// Carries an order out. Only one about a host has more to say than that it is done.
    pub(super) fn obey(&mut self, order: Order) -> CrawlAnswer {
        match order {
            Order::Crawl(row, start, source) => return self.crawl(row, start, source),
            Order::Terms(id, terms) => self.change(id, terms),
            Order::Domain(domain, banned) => self.ban_domain(&domain, banned),
            Order::Settings(settings) => self.set(settings),
            Order::Disconnect(id) => {
                if let Some(running) = self.hosts.get(&id).and_then(|host| host.running.as_ref()) {
                    running.plug.cut();
                }
            }
            Order::Reset(id, place) => return self.reset(id, place),
        }
        CrawlAnswer::Retrying
    }

    fn change(&mut self, id: HostId, terms: HostTerms) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let before = host.row.clone();
        host.row.terms = terms;
        if before.terms.banned != terms.banned {
            host.row.observed.failures = 0;
        }
        host.set_terms(&self.shared.policy);
        self.table.put(&host.row, host.state.as_ref());
        log::info!(host:% = host.row.name, terms:? = terms; "the terms of a host are others");
        let limit = |row| self.shared.policy.account_limit(row);
        if limit(&before) != limit(&host.row) {
            self.tell_account_limit(id);
        }
        if before.terms.banned != terms.banned {
            self.obey_bans([id]);
        }
    }

    fn ban_domain(&mut self, domain: &Domain, banned: bool) {
        self.table.set_banned(domain, banned);
        let words = if banned {
            "banned"
        } else {
            "not banned any more"
        };
        log::info!(domain:% = domain; "a domain is {words}");
        let hosts = self.hosts.iter();
        let below = hosts.filter(|(_, host)| domain.covers(&host.row.name));
        let below: Vec<HostId> = below.map(|(id, _)| *id).collect();
        self.obey_bans(below);
    }

    /// Other limits for all hosts.
    fn set(&mut self, settings: Settings) {
        let policy = &self.shared.policy;
        let limits = self
            .hosts
            .values()
            .map(|host| policy.account_limit(&host.row));
        let before: Vec<Option<u64>> = limits.collect();
        policy.change(settings);
        self.shared.directory.set_rates(policy.identity_rates());
        let mut changed = Vec::new();
        for ((id, host), before) in self.hosts.iter().zip(before) {
            host.set_terms(policy);
            if policy.account_limit(&host.row) != before {
                changed.push(*id);
            }
        }
        for id in changed {
            self.tell_account_limit(id);
        }
    }

    /// Reads a host from another place, as soon as its thread has ended.
    fn reset(&mut self, id: HostId, place: Place) -> CrawlAnswer {
        let Some(host) = self.hosts.get_mut(&id) else {
            return CrawlAnswer::Failed("there is no such host".into());
        };
        log::info!(host:% = host.row.name, place:? = place; "a host is read from elsewhere");
        let was_running = host.running.is_some();
        host.end();
        self.table.put(&host.row, None);
        let (cursor, start) = match place {
            Place::Oldest => (None, Start::Oldest),
            Place::Live => (None, Start::Live),
            Place::After(seq) => (Some(seq), Start::Live),
        };
        // Stored before it is answered. What is still on its way of the host is of an older epoch, and
        // moves its cursor no more.
        let question = |done| Input::Reset {
            host: id,
            cursor,
            done,
        };
        let stored = self.shared.inbox.ask(question, RULING_TIMEOUT).is_some();
        if stored {
            host.reset = Some(start);
        }
        // Its thread says when it has ended, and the host is started then.
        if !was_running && host.leaving.is_none() {
            self.start(id, Start::Live);
        }
        match stored {
            true => CrawlAnswer::Retrying,
            false => CrawlAnswer::Failed("the sequencer does not answer".into()),
        }
    }

    /// Ends what is banned of these hosts, and starts what is not any more.
    fn obey_bans(&mut self, hosts: impl IntoIterator<Item = HostId>) {
        for id in hosts {
            let Some(host) = self.hosts.get_mut(&id) else {
                continue;
            };
            if self.table.is_banned(&host.row.name) {
                host.end();
                host.silenced = true;
                self.table.put(&host.row, None);
                self.keeper.observed(id, host.row.observed.clone());
                // What was on its way when its lane was silenced is not published either.
                let banned = true;
                let _ = self.shared.inbox.send(Input::Ban { host: id, banned });
            } else if host.running.is_none() {
                self.start(id, Start::Live);
            }
        }
    }
}
