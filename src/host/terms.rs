//! On which terms hosts are listened to: what the configuration says about all of them, and what is
//! said about one, which may change while it is connected.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{quota::Limits, trust::TrustedDomains};
use crate::{config::Config, control::HostRow};

/// What the configuration says about all hosts.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Commits without the fields of Sync 1.1 pass, whichever host they come from.
    pub lenient: bool,
    /// Whose hosts have wider limits.
    pub trusted: TrustedDomains,
    /// How many accounts a host may have of which nothing else was said.
    pub account_limit: u64,
    /// The stack of a host thread, in bytes.
    pub stack_bytes: usize,
}

impl Policy {
    /// What this configuration says.
    pub fn new(config: &Config) -> Policy {
        Policy {
            lenient: config.lenient_sync_validation,
            trusted: TrustedDomains::new(&config.trusted_domains),
            account_limit: config.default_account_limit,
            stack_bytes: config.connection_stack_bytes(),
        }
    }

    /// Whether the host is trusted, by its domain or by its row; nothing sets it in a row yet.
    pub fn trusts(&self, row: &HostRow) -> bool {
        row.trusted || self.trusted.include(&row.name)
    }

    /// How many accounts the host may have; none: as many as it likes. What the operator has said
    /// about this very host goes before trust.
    pub fn account_limit(&self, row: &HostRow) -> Option<u64> {
        let default = (!self.trusts(row)).then_some(self.account_limit);
        row.account_limit.or(default)
    }
}

/// The terms of one host: written by the crawler, read at every event.
#[derive(Debug)]
pub(super) struct Terms {
    lenient: AtomicBool,
    trusted: AtomicBool,
    accounts: AtomicU64,
}

impl Terms {
    /// Those of this host, which has no accounts yet.
    pub(super) fn new(policy: &Policy, row: &HostRow) -> Terms {
        let terms = Terms {
            lenient: AtomicBool::new(false),
            trusted: AtomicBool::new(false),
            accounts: AtomicU64::new(0),
        };
        terms.set(policy, row);
        terms
    }

    /// The operator has said something else.
    pub(super) fn set(&self, policy: &Policy, row: &HostRow) {
        let lenient = policy.lenient || row.lenient;
        self.lenient.store(lenient, Ordering::Relaxed);
        self.trusted.store(policy.trusts(row), Ordering::Relaxed);
    }

    /// The host has so many accounts now.
    pub(super) fn set_accounts(&self, accounts: u64) {
        self.accounts.store(accounts, Ordering::Relaxed);
    }

    /// Whether commits without the fields of Sync 1.1 pass.
    pub(super) fn lenient(&self) -> bool {
        self.lenient.load(Ordering::Relaxed)
    }

    /// How many events the host may send.
    pub(super) fn limits(&self) -> Limits {
        if self.trusted.load(Ordering::Relaxed) {
            Limits::TRUSTED
        } else {
            Limits::of(self.accounts.load(Ordering::Relaxed))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{atproto::hostname::Endpoint, config::Cli, store::account::HostId};

    fn row(name: &str) -> HostRow {
        HostRow::new(HostId(1), &Endpoint::parse(name).unwrap(), 0)
    }

    fn policy(flags: &[&str]) -> Policy {
        Policy::new(&Cli::parse_from([&["zlay"], flags].concat()).config)
    }

    #[test]
    fn the_operators_word_goes_before_trust_and_trust_before_the_default() {
        let policy = policy(&["--trusted-domains", "*.example.com"]);
        let (mut stranger, mut friend) = (row("pds.example.org"), row("pds.example.com"));
        assert_eq!(policy.account_limit(&stranger), Some(100));
        assert_eq!(policy.account_limit(&friend), None);
        stranger.account_limit = Some(7);
        friend.account_limit = Some(0);
        assert_eq!(policy.account_limit(&stranger), Some(7));
        assert_eq!(policy.account_limit(&friend), Some(0));
        stranger.trusted = true;
        assert_eq!(Terms::new(&policy, &stranger).limits(), Limits::TRUSTED);
    }

    #[test]
    fn terms_change_while_they_are_in_force() {
        let (policy, mut row) = (policy(&[]), row("pds.example.org"));
        let terms = Terms::new(&policy, &row);
        assert!(!terms.lenient());
        assert_eq!(terms.limits(), Limits::of(0));
        row.lenient = true;
        terms.set(&policy, &row);
        terms.set_accounts(3_000);
        assert!(terms.lenient());
        assert_eq!(terms.limits(), Limits::of(3_000));
    }
}
