//! What a stranger calls an account, kept for who asks why it is not heard.

use std::{borrow::Cow, fmt};

use crate::limits::REFUSAL_DID_CHARS_MAX;

/// The name of an account as it was sent, cut off where it is long. Thousands of hosts have dozens of them each, and
/// each is soon another one; so nearly all, which are `did:plc`, are in the place where they are noted and
/// not in small blocks of the heap, of which each keeps a page from being given back.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AccountName(Form);

/// A name has one form only.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// `did:plc:` and this.
    Plc([u8; 24]),
    Other(Box<str>),
}

const PLC: &str = "did:plc:";

impl AccountName {
    /// Of what was sent; none where that is nothing.
    pub fn new(sent: &str) -> Option<AccountName> {
        if sent.is_empty() {
            return None;
        }
        let id = sent.strip_prefix(PLC).filter(|id| id.is_ascii());
        let id = id.and_then(|id| id.as_bytes().try_into().ok());
        Some(AccountName(match id {
            Some(id) => Form::Plc(id),
            None => Form::Other(sent.chars().take(REFUSAL_DID_CHARS_MAX).collect()),
        }))
    }

    /// As text.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Plc(id) => {
                let id = id.iter().copied().map(char::from);
                PLC.chars().chain(id).collect::<String>().into()
            }
            Form::Other(text) => Cow::Borrowed(text),
        }
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_was_sent() {
        let long = "é".repeat(1 << 20);
        for (sent, kept) in [
            ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", None),
            ("did:plc:ewvi7nxzyoun6zhxrhs64oi", None),
            ("did:plc:ewvi7nxzyoun6zhxrhs64oizz", None),
            ("did:plc:EWVI 7nxzyoun6zhxrhs\0\u{7f}oi", None),
            ("did:plc:éééééééééééé", None),
            ("did:web:a.test", None),
            ("did:plc:", None),
            ("?", None),
            (&long, Some("é".repeat(REFUSAL_DID_CHARS_MAX))),
        ] {
            let name = AccountName::new(sent).unwrap();
            assert_eq!(name.text(), kept.as_deref().unwrap_or(sent));
            assert_eq!(AccountName::new(&name.text()), Some(name));
        }
        assert_eq!(AccountName::new(""), None);
    }

    #[test]
    fn most_have_no_block_of_their_own_and_are_small() {
        let name = AccountName::new("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap();
        assert!(matches!(name.0, Form::Plc(_)));
        assert_eq!(size_of::<Option<AccountName>>(), 32);
    }
}
