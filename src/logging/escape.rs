//! Text from outside, made harmless: one line stays one line, and a terminal sees no commands.

use std::fmt::{self, Write};

/// Appends `value`, at most so many characters of it, without any that could begin a new line,
/// command a terminal, or hide; those are written as `\u001b`. What is left out is shown by `…`.
pub(crate) fn plain(out: &mut String, value: impl fmt::Display, chars_max: usize) {
    bounded(out, value, chars_max, false);
}

/// The same between quotes and as JSON has it.
pub(crate) fn quoted(out: &mut String, value: impl fmt::Display, chars_max: usize) {
    out.push('"');
    bounded(out, value, chars_max, true);
    out.push('"');
}

/// The same as `plain` where that is one word, else between quotes: what stands behind `name=`.
pub(crate) fn word(out: &mut String, value: impl fmt::Display, chars_max: usize) {
    let mut raw = Raw {
        text: String::new(),
        left: chars_max.saturating_add(1),
    };
    // An error says that there is enough.
    let _ = write!(raw, "{value}");
    let odd = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\') || is_unsafe(c);
    if raw.text.is_empty() || raw.text.contains(odd) {
        quoted(out, raw.text, chars_max);
    } else {
        plain(out, raw.text, chars_max);
    }
}

/// Whether a character must never reach a log or a terminal as it is: control characters, other
/// ends of lines, and what reorders or hides its neighbours.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn bounded(out: &mut String, value: impl fmt::Display, chars_max: usize, quotes: bool) {
    let mut escaped = Escaped {
        out,
        left: chars_max,
        quotes,
        cut: false,
    };
    // An error says that there is enough, or that the value can not say what it is.
    let _ = write!(escaped, "{value}");
    if escaped.cut {
        out.push('…');
    }
}

struct Raw {
    text: String,
    left: usize,
}

impl Write for Raw {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(c);
        }
        Ok(())
    }
}

struct Escaped<'a> {
    out: &'a mut String,
    left: usize,
    quotes: bool,
    cut: bool,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.left == 0 {
                self.cut = true;
                return Err(fmt::Error);
            }
            self.left -= 1;
            match c {
                '"' | '\\' if self.quotes => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                c if is_unsafe(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_plain(text: &str, chars_max: usize) -> String {
        let mut out = String::new();
        plain(&mut out, text, chars_max);
        out
    }

    fn as_word(text: &str, chars_max: usize) -> String {
        let mut out = String::new();
        word(&mut out, text, chars_max);
        out
    }

    #[test]
    fn nothing_begins_a_line_or_commands_a_terminal() {
        let evil = "a\nb\r\u{1b}[2J\u{9b}x\u{202e}\u{2028}\u{200b}é\t";
        assert_eq!(
            as_plain(evil, 99),
            r"a\nb\r\u001b[2J\u009bx\u202e\u2028\u200bé\t"
        );
        assert_eq!(as_plain("say \"a\\b\"", 99), "say \"a\\b\"");
    }

    #[test]
    fn a_value_with_spaces_or_signs_is_quoted() {
        assert_eq!(as_word("pds.example.com:3000", 99), "pds.example.com:3000");
        assert_eq!(as_word("", 99), "\"\"");
        assert_eq!(as_word("a did=x", 99), "\"a did=x\"");
        assert_eq!(as_word("a=b", 99), "\"a=b\"");
        assert_eq!(as_word("say \"\\\"\n", 99), r#""say \"\\\"\n""#);
    }

    #[test]
    fn lengths_are_bounded_in_characters() {
        assert_eq!(as_plain("äöüß", 4), "äöüß");
        assert_eq!(as_plain("äöüßx", 4), "äöüß…");
        assert_eq!(as_word("abcd", 4), "abcd");
        assert_eq!(as_word("abcde", 4), "abcd…");
        assert_eq!(as_word("a cde", 4), "\"a cd…\"");
        assert_eq!(as_plain("x", 0), "…");
    }

    #[test]
    fn what_is_quoted_is_json_for_any_character() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let mut out = String::new();
            quoted(&mut out, c, 9);
            assert!(!out.contains(is_unsafe), "{c:?}");
            let read: String = serde_json::from_str(&out).unwrap();
            assert_eq!(read, c.to_string());
        }
    }
}
