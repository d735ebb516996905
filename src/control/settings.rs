//! What the operator can change while the relay runs. What he has not changed is what the
//! configuration says, or a value of [`limits`](crate::limits).

use std::collections::BTreeMap;

use serde_json::Value;

use super::ControlError;

/// One thing that can be changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Setting {
    /// Whether requestCrawl takes new hosts.
    RequestCrawl,
    /// New hosts that requestCrawl may bring in a day.
    NewHostsPerDay,
    /// requestCrawl of one address in a minute.
    CrawlRequestsPerMinute,
    /// Accounts of a host that is not trusted.
    DefaultAccountLimit,
    /// Whose hosts are trusted.
    TrustedDomains,
    /// Events of a host in a second.
    HostEventsPerSecond,
    /// Events of a host in an hour.
    HostEventsPerHour,
    /// Events of a host in a day.
    HostEventsPerDay,
    /// Events of a trusted host in a second.
    TrustedHostEventsPerSecond,
    /// Forced refreshes of DID documents that a host may cause in a minute.
    IdentityRefreshesPerHost,
    /// Forced refreshes of the document of one account in an hour.
    IdentityRefreshesPerAccount,
    /// `#identity` events of a host in a minute that count at once.
    IdentityEventsPerHost,
    /// How long the relay may have been off and still ask hosts for what it has missed.
    CatchUpHours,
}

/// What a setting can be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// A number, of what the setting's name says.
    Number(u64),
    /// Yes or no.
    Switch(bool),
    /// Names, `*.` before one for everything below it.
    Domains(Vec<String>),
}

impl Setting {
    /// Every setting.
    pub const ALL: [Setting; 13] = [
        Setting::RequestCrawl,
        Setting::NewHostsPerDay,
        Setting::CrawlRequestsPerMinute,
        Setting::DefaultAccountLimit,
        Setting::TrustedDomains,
        Setting::HostEventsPerSecond,
        Setting::HostEventsPerHour,
        Setting::HostEventsPerDay,
        Setting::TrustedHostEventsPerSecond,
        Setting::IdentityRefreshesPerHost,
        Setting::IdentityRefreshesPerAccount,
        Setting::IdentityEventsPerHost,
        Setting::CatchUpHours,
    ];

    /// Its name in the store and in the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Setting::RequestCrawl => "request_crawl",
            Setting::NewHostsPerDay => "new_hosts_per_day",
            Setting::CrawlRequestsPerMinute => "crawl_requests_per_minute",
            Setting::DefaultAccountLimit => "default_account_limit",
            Setting::TrustedDomains => "trusted_domains",
            Setting::HostEventsPerSecond => "host_events_per_second",
            Setting::HostEventsPerHour => "host_events_per_hour",
            Setting::HostEventsPerDay => "host_events_per_day",
            Setting::TrustedHostEventsPerSecond => "trusted_host_events_per_second",
            Setting::IdentityRefreshesPerHost => "identity_refreshes_per_host_and_minute",
            Setting::IdentityRefreshesPerAccount => "identity_refreshes_per_account_and_hour",
            Setting::IdentityEventsPerHost => "identity_events_per_host_and_minute",
            Setting::CatchUpHours => "catch_up_hours",
        }
    }

    /// What it does, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Setting::RequestCrawl => {
                "Whether requestCrawl takes hosts that are new; those that are known may ask always."
            }
            Setting::NewHostsPerDay => {
                "New hosts that requestCrawl may bring in 24 hours; trusted ones do not count."
            }
            Setting::CrawlRequestsPerMinute => {
                "requestCrawl of one address (an IPv6 /64 counts as one) in a minute."
            }
            Setting::DefaultAccountLimit => {
                "Accounts of a host that is not trusted and has no limit of its own; deleted ones \
                 do not count. Further ones are throttled until there is room."
            }
            Setting::TrustedDomains => {
                "Hosts without limits of accounts, of events an hour and a day, and of new hosts a \
                 day; *. matches every subdomain."
            }
            Setting::HostEventsPerSecond => {
                "Events of a host in a second, and one more for every 1,000 accounts. What is over \
                 it is read later, and not lost; so with the next three."
            }
            Setting::HostEventsPerHour => {
                "Events of a host in an hour, and one more for every account."
            }
            Setting::HostEventsPerDay => {
                "Events of a host in a day, and ten more for every account."
            }
            Setting::TrustedHostEventsPerSecond => "Events of a trusted host in a second.",
            Setting::IdentityRefreshesPerHost => {
                "Times in a minute that DID documents are fetched anew because events of one host do \
                 not go with them; beyond, these events are refused."
            }
            Setting::IdentityRefreshesPerAccount => "The same for one account, in an hour.",
            Setting::IdentityEventsPerHost => {
                "#identity events of a host in a minute after which a document is fetched anew at \
                 once; beyond, it stays in use a little longer. All are forwarded."
            }
            Setting::CatchUpHours => {
                "Hosts are asked for what the relay has missed if it was off for no longer than this; \
                 else they are read from now on."
            }
        }
    }

    /// The setting of that name.
    pub fn parse(name: &str) -> Option<Setting> {
        Setting::ALL.into_iter().find(|s| s.name() == name)
    }

    /// What a JSON value says of it; the error is for who has sent it.
    pub fn choice(self, value: &Value) -> Result<Choice, String> {
        let name = self.name();
        let number = |least: u64| {
            let number = value.as_u64().filter(|n| (least..=NUMBER_MAX).contains(n));
            number
                .map(Choice::Number)
                .ok_or_else(|| format!("{name} is not a number from {least} to {NUMBER_MAX}"))
        };
        match self {
            Setting::RequestCrawl => value
                .as_bool()
                .map(Choice::Switch)
                .ok_or_else(|| format!("{name} is not true or false")),
            Setting::TrustedDomains => domains(value).map(Choice::Domains).ok_or_else(|| {
                format!("{name} is not a list of domains such as \"pds.example.com\" or \"*.example.com\"")
            }),
            Setting::NewHostsPerDay | Setting::DefaultAccountLimit | Setting::CatchUpHours => {
                number(0)
            }
            Setting::CrawlRequestsPerMinute
            | Setting::HostEventsPerSecond
            | Setting::HostEventsPerHour
            | Setting::HostEventsPerDay
            | Setting::TrustedHostEventsPerSecond
            | Setting::IdentityRefreshesPerHost
            | Setting::IdentityRefreshesPerAccount
            | Setting::IdentityEventsPerHost => number(1),
        }
    }
}

/// The largest number that can be set: every store and every client can hold it.
pub const NUMBER_MAX: u64 = 1_000_000_000_000;

fn domains(value: &Value) -> Option<Vec<String>> {
    let name = |value: &Value| {
        let name = value.as_str()?.trim().to_ascii_lowercase();
        let host = name.strip_prefix("*.").unwrap_or(&name);
        let known = crate::atproto::hostname::Hostname::parse(host).ok()?;
        known.port().is_none().then_some(name)
    };
    value.as_array()?.iter().map(name).collect()
}

impl Choice {
    /// As it is stored and shown.
    pub fn json(&self) -> Value {
        match self {
            Choice::Number(number) => (*number).into(),
            Choice::Switch(on) => (*on).into(),
            Choice::Domains(domains) => domains.clone().into(),
        }
    }
}

/// What was chosen, of some settings or of all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings(BTreeMap<Setting, Choice>);

impl Settings {
    /// What is stored. Names of a later version are passed over; a value that means nothing is damage.
    pub fn read(stored: &BTreeMap<String, Value>) -> Result<Settings, ControlError> {
        let mut settings = Settings::default();
        for (name, value) in stored {
            let Some(setting) = Setting::parse(name) else {
                log::warn!(setting:% = name; "control store: a setting is not known and has no effect");
                continue;
            };
            let choice = setting
                .choice(value)
                .map_err(|error| ControlError::Damaged(format!("setting {error}")))?;
            settings.set(setting, Some(choice));
        }
        Ok(settings)
    }

    /// Chooses, or takes a choice back.
    pub fn set(&mut self, setting: Setting, choice: Option<Choice>) {
        match choice {
            Some(choice) => self.0.insert(setting, choice),
            None => self.0.remove(&setting),
        };
    }

    /// What was chosen.
    pub fn get(&self, setting: Setting) -> Option<&Choice> {
        self.0.get(&setting)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_setting_has_a_name_and_values_that_it_takes() {
        for setting in Setting::ALL {
            assert_eq!(Setting::parse(setting.name()), Some(setting));
            assert!(setting.meaning().ends_with('.'));
            let good = match setting {
                Setting::RequestCrawl => json!(false),
                Setting::TrustedDomains => json!(["*.example.com", "pds.example.org"]),
                _ => json!(7),
            };
            let choice = setting.choice(&good).unwrap();
            assert_eq!(choice.json(), good);
            for bad in [
                json!(null),
                json!("7"),
                json!(-1),
                json!(0.5),
                json!([7]),
                json!({}),
            ] {
                assert!(setting.choice(&bad).is_err(), "{setting:?} {bad}");
            }
        }
        let setting = Setting::HostEventsPerSecond;
        assert!(setting.choice(&json!(0)).is_err());
        assert!(setting.choice(&json!(NUMBER_MAX + 1)).is_err());
        let domains = Setting::TrustedDomains.choice(&json!([" *.Example.COM "]));
        assert_eq!(domains, Ok(Choice::Domains(vec!["*.example.com".into()])));
        for bad in ["*", "*.com", "a b.com", "10.0.0.1", "example.com:443"] {
            assert!(
                Setting::TrustedDomains.choice(&json!([bad])).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_stored_is_read_and_damage_is_named() {
        let stored = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
        let settings = Settings::read(&stored("new_hosts_per_day", json!(3))).unwrap();
        assert_eq!(
            settings.get(Setting::NewHostsPerDay),
            Some(&Choice::Number(3))
        );
        assert_eq!(settings.get(Setting::RequestCrawl), None);
        let later = Settings::read(&stored("of_a_later_version", json!(3))).unwrap();
        assert_eq!(later, Settings::default());
        let error = Settings::read(&stored("request_crawl", json!(3))).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("request_crawl is not true or false")
        );
    }
}
