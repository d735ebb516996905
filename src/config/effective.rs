//! The configuration as it is in force, for people: made of the definition of the command line, so
//! that no option can be left out of it.

use clap::{ArgMatches, Command};

use super::Secret;

/// One variable and what it is set to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The name of the variable, as `RELAY_PORT`.
    pub name: String,
    /// Its value; none where it has none. Of a secret only that it is set.
    pub value: Option<String>,
    /// The value without any configuration.
    pub default: Option<String>,
}

impl Setting {
    /// Whether the operator has changed something.
    pub fn is_changed(&self) -> bool {
        self.value != self.default
    }
}

/// Every option of `command` that is also a variable, as `matches` has it, in the order of the help.
/// Credentials in a URL are left out.
pub(super) fn settings(command: &Command, matches: &ArgMatches) -> Vec<Setting> {
    let options = command.get_arguments().filter_map(|option| {
        let name = option.get_env()?.to_str()?.to_owned();
        let text = |values: Vec<&std::ffi::OsStr>| {
            let values = values
                .iter()
                .map(|value| without_credentials(&value.to_string_lossy()));
            let values: Vec<String> = values.collect();
            (!values.is_empty()).then(|| values.join(","))
        };
        let given = matches.get_raw(option.get_id().as_str());
        let default = option.get_default_values().iter();
        Some(Setting {
            name,
            value: text(given.map(Iterator::collect).unwrap_or_default()),
            default: text(default.map(|value| value.as_os_str()).collect()),
        })
    });
    options.collect()
}

/// A secret, of which nobody needs to know more than whether there is one.
pub(super) fn secret_setting(name: &str, secret: Option<&Secret>) -> Setting {
    Setting {
        name: name.to_owned(),
        value: secret.map(|_| "(set)".to_owned()),
        default: None,
    }
}

/// The value with what stands before the `@` of a URL left out.
fn without_credentials(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://(hidden){}", &rest[at..]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{super::Cli, *};

    fn of(args: &[&str]) -> Vec<Setting> {
        let command = Cli::command();
        let args = std::iter::once(&"zlay").chain(args);
        let matches = command.clone().try_get_matches_from(args).unwrap();
        settings(&command, &matches)
    }

    fn one(args: &[&str], name: &str) -> Setting {
        let settings = of(args);
        settings.into_iter().find(|s| s.name == name).unwrap()
    }

    #[test]
    fn every_variable_is_there() {
        let mut names: Vec<String> = of(&[]).into_iter().map(|s| s.name).collect();
        names.extend(super::super::secret::variables());
        names.sort();
        assert_eq!(names, super::super::variables());
        assert!(names.len() > 20);
    }

    #[test]
    fn every_flag_but_those_that_end_at_once_is_a_variable() {
        let flags = Cli::command();
        let flags = flags.get_arguments().filter(|arg| arg.get_env().is_none());
        let names: Vec<&str> = flags.map(|arg| arg.get_id().as_str()).collect();
        assert_eq!(names, Vec::<&str>::new());
    }

    #[test]
    fn what_differs_from_the_default_is_known() {
        let port = one(&[], "RELAY_PORT");
        assert_eq!(port.value.as_deref(), Some("3000"));
        assert!(!port.is_changed());
        // Said, and the same all the same.
        assert!(!one(&["--port", "3000"], "RELAY_PORT").is_changed());
        assert!(one(&["--port", "3001"], "RELAY_PORT").is_changed());
        assert!(one(&["--retention-bytes", "5G"], "RELAY_RETENTION_BYTES").is_changed());
        let unset = one(&[], "RELAY_RETENTION_BYTES");
        assert_eq!((unset.value, unset.default), (None, None));
        let domains = one(
            &["--trusted-domains", "a.com,*.b.com"],
            "RELAY_TRUSTED_DOMAINS",
        );
        assert_eq!(domains.value.as_deref(), Some("a.com,*.b.com"));
    }

    #[test]
    fn credentials_are_not_shown() {
        let said = one(
            &["--plc-url", "https://me:hunter2@plc.example/x@y"],
            "RELAY_PLC_URL",
        );
        assert_eq!(
            said.value.as_deref(),
            Some("https://(hidden)@plc.example/x@y")
        );
        for (value, shown) in [
            ("a@b", "a@b"),
            ("http://a.b?x=c@d", "http://a.b?x=c@d"),
            ("https://p@ss@a.b", "https://(hidden)@a.b"),
        ] {
            assert_eq!(without_credentials(value), shown);
        }
        let secret = Secret::from("hunter2".to_owned());
        let said = format!("{:?}", secret_setting("DATABASE_URL", Some(&secret)));
        assert!(!said.contains("hunter2"));
    }
}
