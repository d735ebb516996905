//! What holds for all hosts: what the configuration says, and what the operator has said since, which may
//! be while they are connected.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use super::{
    quota::{Limits, Span},
    terms::Terms,
    trust::TrustedDomains,
};
use crate::{
    atproto::hostname::Hostname,
    config::Config,
    control::{
        HostRow,
        settings::{Choice, Setting, Settings},
    },
    identity::{Rate, Rates},
    limits::{
        CRAWL_REQUESTS_MAX, HOST_EVENTS_A_DAY_MAX, HOST_EVENTS_A_SECOND_MAX,
        HOST_EVENTS_AN_HOUR_MAX, IDENTITY_FORCED_INTERVAL, IDENTITY_FORCED_REFILL,
        IDENTITY_PURGE_HOST_REFILL, TRUSTED_HOST_EVENTS_A_SECOND_MAX,
    },
};

/// What holds for all hosts: what the configuration says, and what the operator has said since.
#[derive(Debug)]
pub struct Policy {
    /// Commits without the fields of Sync 1.1 pass, whichever host they come from.
    pub lenient: bool,
    /// The stack of a host thread, in bytes.
    pub stack_bytes: usize,
    defaults: Settings,
    now: RwLock<Now>,
}

#[derive(Default, Debug)]
struct Now {
    settings: Settings,
    trusted: TrustedDomains,
}

impl Policy {
    /// What this configuration says, and these settings.
    pub fn new(config: &Config, settings: Settings) -> Policy {
        let mut defaults = Settings::default();
        for setting in Setting::ALL {
            defaults.set(setting, Some(default(config, setting)));
        }
        let policy = Policy {
            lenient: config.lenient_sync_validation,
            stack_bytes: config.connection_stack_bytes(),
            defaults,
            now: RwLock::default(),
        };
        policy.change(settings);
        policy
    }

    /// What the operator has said is this from now on.
    pub fn change(&self, settings: Settings) {
        let domains = settings
            .get(Setting::TrustedDomains)
            .or_else(|| self.defaults.get(Setting::TrustedDomains));
        let trusted = match domains {
            Some(Choice::Domains(domains)) => TrustedDomains::new(domains),
            _ => TrustedDomains::default(),
        };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Now { settings, trusted };
    }

    /// What the operator has said.
    pub fn settings(&self) -> Settings {
        self.read().settings.clone()
    }

    /// What a setting is where the operator has said nothing.
    pub fn default_of(&self, setting: Setting) -> Choice {
        let default = self.defaults.get(setting).cloned();
        default.unwrap_or(Choice::Switch(false))
    }

    /// A setting that is a number.
    pub fn number(&self, setting: Setting) -> u64 {
        match self.read().settings.get(setting) {
            Some(Choice::Number(number)) => *number,
            _ => match self.defaults.get(setting) {
                Some(Choice::Number(number)) => *number,
                _ => 0,
            },
        }
    }

    /// Whether requestCrawl takes hosts that are new.
    pub fn takes_requests(&self) -> bool {
        let now = self.read();
        let chosen = now.settings.get(Setting::RequestCrawl);
        chosen.or_else(|| self.defaults.get(Setting::RequestCrawl)) == Some(&Choice::Switch(true))
    }

    /// Whether the host's domain is trusted.
    pub fn trusts_domain(&self, host: &Hostname) -> bool {
        self.read().trusted.include(host)
    }

    /// Whether commits of the host without the fields of Sync 1.1 pass.
    pub fn is_lenient(&self, row: &HostRow) -> bool {
        self.lenient || row.terms.lenient
    }

    /// The terms of a host that has no accounts yet.
    pub(super) fn terms(&self, row: &HostRow) -> Terms {
        Terms::new(self.is_lenient(row), &self.limits(row, 0))
    }

    /// Whether the host is trusted, by what was said of it or by its domain.
    pub fn trusts(&self, row: &HostRow) -> bool {
        let said = row.terms.trusted;
        said.unwrap_or_else(|| self.trusts_domain(&row.name))
    }

    /// How many accounts the host may have; none: as many as it likes. What the operator has said
    /// about this very host goes before trust.
    pub fn account_limit(&self, row: &HostRow) -> Option<u64> {
        let default = || {
            let limit = self.number(Setting::DefaultAccountLimit);
            (!self.trusts(row)).then_some(limit)
        };
        row.terms.accounts.or_else(default)
    }

    /// How many events a host with so many accounts may send. What the operator has said about this
    /// very host goes before what its accounts and trust give.
    pub fn limits(&self, row: &HostRow, accounts: u64) -> Limits {
        let common = if self.trusts(row) {
            Limits::of_trusted(self.number(Setting::TrustedHostEventsPerSecond))
        } else {
            Limits::of(
                accounts,
                [
                    Setting::HostEventsPerSecond,
                    Setting::HostEventsPerHour,
                    Setting::HostEventsPerDay,
                ]
                .map(|setting| self.number(setting)),
            )
        };
        common
            .or(Span::Second, row.terms.events_per_second)
            .or(Span::Hour, row.terms.events_per_hour)
            .or(Span::Day, row.terms.events_per_day)
    }

    /// How often the directory may be asked for what is known already.
    pub fn identity_rates(&self) -> Rates {
        let rate = |setting, seconds: u64, burst: Option<u32>| {
            let number = self.number(setting).max(1);
            let whole = u32::try_from(number).unwrap_or(u32::MAX);
            Rate {
                burst: burst.unwrap_or(whole),
                refill: Duration::from_secs(seconds).div_f64(number as f64),
            }
        };
        Rates {
            refreshes_of_host: rate(Setting::IdentityRefreshesPerHost, 60, None),
            refreshes_of_account: rate(Setting::IdentityRefreshesPerAccount, 3_600, Some(1)),
            purges_of_host: rate(Setting::IdentityEventsPerHost, 60, None),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a setting is without a word of the operator.
fn default(config: &Config, setting: Setting) -> Choice {
    let per = |seconds: u64, each: Duration| {
        let count = Duration::from_secs(seconds).as_millis() / each.as_millis().max(1);
        u64::try_from(count).unwrap_or(u64::MAX)
    };
    Choice::Number(match setting {
        Setting::RequestCrawl => return Choice::Switch(!config.disable_request_crawl),
        Setting::TrustedDomains => {
            let domains = config.trusted_domains.iter();
            let trimmed = domains.map(|domain| domain.trim().to_ascii_lowercase());
            return Choice::Domains(trimmed.filter(|domain| !domain.is_empty()).collect());
        }
        Setting::NewHostsPerDay => config.new_hosts_per_day_limit,
        Setting::CrawlRequestsPerMinute => CRAWL_REQUESTS_MAX.into(),
        Setting::DefaultAccountLimit => config.default_account_limit,
        Setting::HostEventsPerSecond => HOST_EVENTS_A_SECOND_MAX,
        Setting::HostEventsPerHour => HOST_EVENTS_AN_HOUR_MAX,
        Setting::HostEventsPerDay => HOST_EVENTS_A_DAY_MAX,
        Setting::TrustedHostEventsPerSecond => TRUSTED_HOST_EVENTS_A_SECOND_MAX,
        Setting::IdentityRefreshesPerHost => per(60, IDENTITY_FORCED_REFILL),
        Setting::IdentityRefreshesPerAccount => per(3_600, IDENTITY_FORCED_INTERVAL),
        Setting::IdentityEventsPerHost => per(60, IDENTITY_PURGE_HOST_REFILL),
        Setting::CatchUpHours => config.retention_hours.into(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::{
        atproto::hostname::Endpoint, config::Cli, control::Source, store::account::HostId,
    };

    fn row(name: &str) -> HostRow {
        let endpoint = Endpoint::parse(name).unwrap();
        HostRow::new(HostId(1), &endpoint, Source::Request, 0)
    }

    fn policy(flags: &[&str]) -> Policy {
        let config = Cli::parse_from([&["zlay"], flags].concat()).config;
        Policy::new(&config, Settings::default())
    }

    fn all(limits: Limits) -> [Option<u64>; 3] {
        Span::ALL.map(|span| limits.get(span))
    }

    #[test]
    fn the_operators_word_goes_before_trust_and_trust_before_the_default() {
        let policy = policy(&["--trusted-domains", "*.example.com"]);
        let (mut stranger, mut friend) = (row("pds.example.org"), row("pds.example.com"));
        assert_eq!(policy.account_limit(&stranger), Some(100));
        assert_eq!(policy.account_limit(&friend), None);
        stranger.terms.accounts = Some(7);
        friend.terms.accounts = Some(0);
        assert_eq!(policy.account_limit(&stranger), Some(7));
        assert_eq!(policy.account_limit(&friend), Some(0));
        let trusted = [Some(5_000), None, None];
        assert_eq!(all(policy.limits(&friend, 0)), trusted);
        stranger.terms.trusted = Some(true);
        friend.terms.trusted = Some(false);
        friend.terms.accounts = None;
        assert_eq!(all(policy.terms(&stranger).limits()), trusted);
        assert_eq!(policy.account_limit(&friend), Some(100));
        let common = [Some(50), Some(2_500), Some(20_000)];
        assert_eq!(all(policy.limits(&friend, 0)), common);
    }

    /// The values of the reference relay.
    ///
    /// Rule 54: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
    #[test]
    fn the_limits_grow_with_the_accounts() {
        let (policy, row) = (policy(&[]), row("pds.example.org"));
        let limits = |accounts| all(policy.limits(&row, accounts));
        assert_eq!(limits(0), [Some(50), Some(2_500), Some(20_000)]);
        assert_eq!(limits(5_999), [Some(55), Some(8_499), Some(79_990)]);
        assert_eq!(limits(u64::MAX)[1], Some(u64::MAX));
    }

    #[test]
    fn terms_change_while_they_are_in_force() {
        let (policy, mut row) = (policy(&[]), row("pds.example.org"));
        let terms = policy.terms(&row);
        assert!(!terms.lenient());
        row.terms.lenient = true;
        row.terms.events_per_hour = Some(9);
        let limits = policy.limits(&row, 3_000);
        assert!(!terms.set(policy.is_lenient(&row), &limits), "nobody waits");
        assert!(terms.lenient());
        assert_eq!(all(terms.limits()), [Some(53), Some(9), Some(50_000)]);
    }

    #[test]
    fn a_setting_goes_before_the_configuration_until_it_is_taken_back() {
        let policy = policy(&["--disable-request-crawl", "--default-account-limit", "5"]);
        let host = row("pds.example.org");
        assert!(!policy.takes_requests());
        assert_eq!(policy.account_limit(&host), Some(5));
        let mut settings = Settings::default();
        for (setting, value) in [
            (Setting::RequestCrawl, json!(true)),
            (Setting::DefaultAccountLimit, json!(9)),
            (Setting::TrustedDomains, json!([])),
            (Setting::HostEventsPerSecond, json!(1)),
        ] {
            settings.set(setting, Some(setting.choice(&value).unwrap()));
        }
        policy.change(settings);
        assert!(policy.takes_requests());
        assert_eq!(policy.account_limit(&host), Some(9));
        assert!(!policy.trusts(&row("a.host.bsky.network")));
        assert_eq!(policy.limits(&host, 0).get(Span::Second), Some(1));
        policy.change(Settings::default());
        assert!(policy.trusts(&row("a.host.bsky.network")));
        assert_eq!(policy.account_limit(&host), Some(5));
        for setting in Setting::ALL {
            let default = policy.default_of(setting);
            assert_eq!(setting.choice(&default.json()), Ok(default), "{setting:?}");
        }
    }
}
