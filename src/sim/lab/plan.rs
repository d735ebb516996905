//! What is compared: relays with an allocator each, in cells of so many hosts and such a stack.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// A relay to measure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Variant {
    /// What tables call it.
    pub(super) name: String,
    /// Its program; none is the `zlay` beside this one.
    pub(super) binary: Option<PathBuf>,
    /// Variables of its environment.
    pub(super) environment: Vec<(String, String)>,
}

impl Variant {
    /// The `zlay` beside this program.
    pub(super) fn beside() -> Variant {
        Variant {
            name: "zlay".into(),
            binary: None,
            environment: Vec::new(),
        }
    }

    /// `NAME=BINARY[,VARIABLE=VALUE...]`.
    pub(super) fn parse(text: &str) -> Result<Variant, String> {
        const FORM: &str = "NAME=BINARY[,VARIABLE=VALUE...]";
        let (name, rest) = text.split_once('=').ok_or(FORM)?;
        let mut parts = rest.split(',');
        let binary = parts.next().filter(|binary| !binary.is_empty());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) {
            return Err("a name is of letters, digits, '-', '_' and '.'".into());
        }
        let variable = |part: &str| {
            let (name, value) = part.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let environment: Option<Vec<_>> = parts.map(variable).collect();
        Ok(Variant {
            name: name.into(),
            binary: Some(binary.ok_or(FORM)?.into()),
            environment: environment.ok_or(FORM)?,
        })
    }
}

/// One relay process: the unit of a comparison.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Cell {
    pub(super) variant: Variant,
    pub(super) hosts: usize,
    pub(super) stack_kib: u32,
}

impl Cell {
    /// A name for a file about this cell.
    pub(super) fn file_name(&self, extension: &str) -> String {
        let (name, hosts, stack) = (&self.variant.name, self.hosts, self.stack_kib);
        format!("{name}-{hosts}-hosts-{stack}-kib.{extension}")
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, hosts, stack) = (&self.variant.name, self.hosts, self.stack_kib);
        write!(f, "{name}, {hosts} hosts, {stack} KiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_have_a_name_a_program_and_variables() {
        let variant = Variant::parse("two-arenas=/bin/zlay,MALLOC_ARENA_MAX=2,A=b=c").unwrap();
        assert_eq!(variant.name, "two-arenas");
        assert_eq!(variant.binary, Some("/bin/zlay".into()));
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [variable("MALLOC_ARENA_MAX", "2"), variable("A", "b=c")];
        assert_eq!(variant.environment, expected);
        for wrong in ["zlay", "=x", "a=", "a b=x", "a=x,y"] {
            assert!(Variant::parse(wrong).is_err(), "{wrong}");
        }
    }
}
