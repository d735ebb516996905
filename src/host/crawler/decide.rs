//! The operator's decisions, put into force.

use super::{Crawler, Host};
use crate::{
    atproto::hostname::Hostname,
    control::{ControlError, HostRow, HostStatus, domain::Domain},
    host::{
        decision::{Change, Decision, DecisionError},
        now_ms,
        thread::Start,
    },
    sequencer::event::Input,
    store::account::HostId,
};

impl From<ControlError> for DecisionError {
    fn from(error: ControlError) -> Self {
        DecisionError::Failed(error.to_string())
    }
}

impl Crawler {
    /// Keeps a decision, then acts on it.
    pub(super) fn decide(&mut self, decision: Decision) -> Result<(), DecisionError> {
        match decision {
            Decision::Ban { host, banned } => self.ban(&host, banned),
            Decision::BanDomain { domain, banned } => self.ban_domain(&domain, banned),
            Decision::Change { host, change } => self.change(&host, change),
        }
    }

    fn ban(&mut self, name: &Hostname, banned: bool) -> Result<(), DecisionError> {
        let (id, host) = self.known(name)?;
        if (host.row.status == HostStatus::Banned) == banned {
            return Ok(());
        }
        let status = match banned {
            true => HostStatus::Banned,
            false => HostStatus::Active,
        };
        let row = HostRow {
            status,
            failures: 0,
            ..host.row.clone()
        };
        self.keep(id, row)?;
        log::info!(
            "host={name} is {}",
            if banned {
                "banned"
            } else {
                "not banned any more"
            }
        );
        self.obey_bans([id]);
        Ok(())
    }

    fn ban_domain(&mut self, domain: &Domain, banned: bool) -> Result<(), DecisionError> {
        match banned {
            true => self.control.ban_domain(domain, now_ms())?,
            false => self.control.unban_domain(domain)?,
        }
        self.table.set_banned(domain, banned);
        log::info!(
            "domain={domain} is {}",
            if banned {
                "banned"
            } else {
                "not banned any more"
            }
        );
        let below = self
            .hosts
            .iter()
            .filter(|(_, host)| domain.covers(&host.row.name));
        let below: Vec<HostId> = below.map(|(id, _)| *id).collect();
        self.obey_bans(below);
        Ok(())
    }

    fn change(&mut self, name: &Hostname, change: Change) -> Result<(), DecisionError> {
        let (id, host) = self.known(name)?;
        let row = HostRow {
            account_limit: change.account_limit.or(host.row.account_limit),
            lenient: change.lenient.unwrap_or(host.row.lenient),
            ..host.row.clone()
        };
        let same_limit = row.account_limit == host.row.account_limit;
        self.keep(id, row)?;
        log::info!("host={name} changed: {change:?}");
        if !same_limit {
            self.tell_account_limit(id);
        }
        Ok(())
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
                // What was on its way when its lane was silenced is not published either.
                let banned = true;
                let _ = self.shared.inbox.send(Input::Ban { host: id, banned });
            } else if host.running.is_none() {
                self.start(id, Start::Live);
            }
        }
    }

    /// Writes a host's row, and lets its thread and its readers know.
    fn keep(&mut self, id: HostId, row: HostRow) -> Result<(), DecisionError> {
        self.control.update_host(&row)?;
        if let Some(host) = self.hosts.get_mut(&id) {
            host.terms.set(&self.shared.policy, &row);
            self.table.put(&row, host.state.as_ref());
            host.row = row;
        }
        Ok(())
    }

    fn known(&self, name: &Hostname) -> Result<(HostId, &Host), DecisionError> {
        let id = self.names.get(name).ok_or(DecisionError::NoSuchHost)?;
        let host = self.hosts.get(id).ok_or(DecisionError::NoSuchHost)?;
        Ok((*id, host))
    }
}
