//! Secrets: from the environment or from a file that it names, never from the command line, where
//! every user of the machine could read them.

use std::{env, fmt, fs::File, io::Read};

use super::Setting;

/// Every secret. Each can be in a file, which `…_FILE` names: as a credential of systemd, or a secret of
/// a container.
pub(super) const NAMES: [&str; 2] = ["RELAY_ADMIN_PASSWORD", "DATABASE_URL"];
/// A file with a secret, in bytes; a longer one is something else.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself; the caller answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Secret {
        Secret(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

/// The variables of all secrets, and of their files.
pub(super) fn variables() -> impl Iterator<Item = String> {
    NAMES
        .iter()
        .flat_map(|name| [(*name).to_owned(), file_variable(name)])
}

fn file_variable(name: &str) -> String {
    format!("{name}_FILE")
}

/// Where the file with a secret is, which is no secret itself.
pub(super) fn file_setting(name: &str) -> Setting {
    let name = file_variable(name);
    let path = env::var_os(&name).filter(|path| !path.is_empty());
    Setting {
        value: path.map(|path| path.to_string_lossy().into_owned()),
        default: None,
        name,
    }
}

/// The secret `name` of the environment; the error is for the operator, and says nothing of the value.
pub(super) fn from_environment(name: &str) -> Result<Option<Secret>, String> {
    from(name, |variable| {
        env::var(variable).or_else(|error| match error {
            env::VarError::NotPresent => Ok(String::new()),
            env::VarError::NotUnicode(_) => Err(format!("{variable} is not UTF-8")),
        })
    })
}

/// The same of any environment, in which an empty variable is one that is not set.
fn from(
    name: &str,
    variable: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<Secret>, String> {
    let file = file_variable(name);
    let (value, path) = (variable(name)?, variable(&file)?);
    match (value.is_empty(), path.is_empty()) {
        (true, true) => Ok(None),
        (false, true) => Ok(Some(Secret(value))),
        (false, false) => Err(format!("{name} and {file} are both set; keep one of them")),
        (true, false) => match read(&path) {
            Ok(secret) => Ok(Some(secret)),
            Err(error) => Err(format!("{file}={path}: {error}")),
        },
    }
}

/// What is in a file, without the end of its line.
fn read(path: &str) -> Result<Secret, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    let value = text.trim_end_matches(['\r', '\n']);
    if value.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("the file has more than {FILE_BYTES_MAX} bytes"));
    }
    if value.contains(['\r', '\n']) {
        return Err("the file has more than one line".to_owned());
    }
    Ok(Secret(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs};

    use super::*;

    fn among(variables: &[(&str, &str)]) -> Result<Option<Secret>, String> {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let get = |name: &str| Ok(variables.get(name).copied().unwrap_or_default().to_owned());
        from("DATABASE_URL", get)
    }

    #[test]
    fn a_secret_is_a_variable_or_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let path = path.to_str().unwrap();
        let from_file = |text: &str| {
            fs::write(path, text).unwrap();
            among(&[("DATABASE_URL_FILE", path)])
        };
        let secret = |value: &str| Ok(Some(Secret::from(value.to_owned())));
        assert_eq!(among(&[]), Ok(None));
        assert_eq!(among(&[("DATABASE_URL", "")]), Ok(None));
        assert_eq!(among(&[("DATABASE_URL", " hunter2 ")]), secret(" hunter2 "));
        for text in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            assert_eq!(from_file(text), secret("hunter2"));
        }
        for wrong in ["", "\n", "two\nlines\n", &"x".repeat(20_000)] {
            let error = from_file(wrong).unwrap_err();
            assert!(
                error.starts_with(&format!("DATABASE_URL_FILE={path}: ")),
                "{error}"
            );
            assert!(!error.contains("two") && !error.contains("xxx"), "{error}");
        }
        assert!(among(&[("DATABASE_URL_FILE", "/nowhere/at/all")]).is_err());
        let both = among(&[("DATABASE_URL", "hunter2"), ("DATABASE_URL_FILE", path)]);
        let error = both.unwrap_err();
        assert!(
            error.contains("both set") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "(set)");
    }
}
