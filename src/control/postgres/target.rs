//! What `DATABASE_URL` says, and what it leaves open.

use std::{fmt::Write as _, time::Duration};

use postgres::{
    Config,
    config::{Host, TargetSessionAttrs},
};

use super::link::Patience;
use crate::{
    config::Secret,
    limits::{
        CONTROL_CONNECT_TIMEOUT, CONTROL_KEEPALIVE_IDLE, CONTROL_KEEPALIVE_INTERVAL,
        CONTROL_KEEPALIVE_PROBES, CONTROL_TCP_TIMEOUT,
    },
};

/// The idle time of the library where the URL says nothing.
const LIBRARY_KEEPALIVE_IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// A database to connect to.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    /// What to call it in the log; without the password.
    pub(super) name: String,
}

impl Target {
    /// Reads the URL. The error quotes nothing of it: a password may be anywhere in a wrong one.
    pub(super) fn parse(url: &Secret) -> Result<Target, String> {
        let mut config: Config = verified(url.expose())
            .parse()
            .map_err(|error| wrong(&error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("DATABASE_URL names no server; it looks like \
                        postgres://USER:PASSWORD@HOST/DATABASE"
                .to_owned());
        }
        let odd = |host: &Host| matches!(host, Host::Tcp(name) if !is_a_name(name));
        if config.get_hosts().iter().any(odd) {
            return Err(
                "DATABASE_URL: what should be the name of the server is none; a password \
                        with @, / or : in it must be percent-encoded"
                    .to_owned(),
            );
        }
        let name = name(&config);
        complete(&mut config);
        Ok(Target { config, name })
    }

    /// What tests wait for less long.
    pub(super) fn hurry(&mut self, patience: &Patience) {
        if patience.call < CONTROL_CONNECT_TIMEOUT {
            self.config.connect_timeout(patience.call);
        }
    }
}

/// `sslmode=verify-full` and `verify-ca` are what `require` is here; the library does not know them.
fn verified(url: &str) -> String {
    ["verify-full", "verify-ca"]
        .iter()
        .fold(url.to_owned(), |url, mode| {
            url.replace(&format!("sslmode={mode}"), "sslmode=require")
        })
}

fn wrong(error: &postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    // These name an option of a fixed list; other texts may quote what stands in the URL.
    let cause = cause.filter(|cause| cause.starts_with("invalid value for option"));
    let mut text = "DATABASE_URL is not of the form \
                    postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE"
        .to_owned();
    if let Some(cause) = cause {
        let _ = write!(text, ": {cause}");
    }
    text
}

fn is_a_name(host: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !host.is_empty() && host.chars().all(fits)
}

fn name(config: &Config) -> String {
    let mut text = config.get_dbname().unwrap_or("the database").to_owned();
    text.push_str(" at ");
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let mut names: Vec<String> = hosts.collect();
    if names.is_empty() {
        names.extend(addresses);
    }
    text.push_str(&names.join(","));
    text
}

/// Sets what the URL does not.
fn complete(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONTROL_CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(CONTROL_TCP_TIMEOUT);
    }
    if config.get_keepalives_idle() == LIBRARY_KEEPALIVE_IDLE {
        config.keepalives_idle(CONTROL_KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(CONTROL_KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(CONTROL_KEEPALIVE_PROBES);
    }
    if config.get_application_name().is_none() {
        config.application_name("zlay");
    }
    // Of several servers the one that takes writes; the others are of no use here.
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config.notice_callback(|notice| log::debug!(notice = notice.message(); "control store: the database says something"));
}

#[cfg(test)]
mod tests {
    use postgres::config::SslMode;

    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::parse(&Secret::from(url.to_owned()))
    }

    #[test]
    fn what_the_url_leaves_open_is_set() {
        let found = target("postgres://relay:hunter2@db.example.com/zlay").unwrap();
        assert_eq!(found.name, "zlay at db.example.com");
        let config = &found.config;
        assert_eq!(config.get_connect_timeout(), Some(&CONTROL_CONNECT_TIMEOUT));
        assert_eq!(config.get_tcp_user_timeout(), Some(&CONTROL_TCP_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), CONTROL_KEEPALIVE_IDLE);
        assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
        let url = "postgres://db/zlay?connect_timeout=3&keepalives_idle=7&tcp_user_timeout=9000\
                   &application_name=mine&sslmode=verify-full";
        let config = target(url).unwrap().config;
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
        assert_eq!(config.get_application_name(), Some("mine"));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn a_wrong_url_is_explained_and_not_quoted() {
        for url in [
            "postgres://relay:hun@ter2@db/zlay",
            "postgres://relay:hunter2@db:hunter2/zlay",
            "postgres://relay:hunter2@db/zlay?hunter2=hunter2",
            "postgres://relay:hunter2@db/zlay?sslmode=hunter2",
            "mysql://relay:hunter2@db/zlay",
            "hunter2",
            "host=db password=hunter2 hunter2",
            "postgres:///zlay",
        ] {
            let error = target(url).err().unwrap();
            assert!(error.contains("DATABASE_URL"), "{error}");
            for secret in ["hunter2", "ter2", "hun"] {
                assert!(!error.contains(secret), "{url}: {error}");
            }
        }
        let error = target("postgres://db/zlay?sslmode=maybe").err().unwrap();
        assert!(error.contains("sslmode"), "{error}");
    }
}
