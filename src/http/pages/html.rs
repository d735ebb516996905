//! HTML that can not be broken from outside: markup comes from this program's source alone, and every
//! value that is put into it is escaped.

use std::fmt::{Display, Write};

use crate::percent;

/// A piece of HTML. Its markup can only be a `&'static str`; whatever else goes in goes in as text.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Html(String);

/// What can stand in a hole of a template: text, which is escaped, or [`Html`], which is markup
/// already.
pub trait Part {
    /// Appends it.
    fn put_into(&self, html: &mut Html);
}

impl Part for Html {
    fn put_into(&self, html: &mut Html) {
        html.0.push_str(&self.0);
    }
}

macro_rules! text_parts {
    ($($text:ty),+) => { $(impl Part for $text {
        fn put_into(&self, html: &mut Html) {
            html.text(self);
        }
    })+ };
}

text_parts!(str, String, &str, Box<str>, char, u16, u32, u64, usize);

impl<P: Part> Part for Option<P> {
    /// Nothing, where there is nothing.
    fn put_into(&self, html: &mut Html) {
        if let Some(part) = self {
            part.put_into(html);
        }
    }
}

impl Html {
    /// A template with these values in its holes; see [`Html::put`].
    pub fn of(template: &'static str, parts: &[&dyn Part]) -> Html {
        let mut html = Html::default();
        html.put(template, parts);
        html
    }

    /// Appends markup of ours; each `{}` in it is a hole for one of `parts`, in their order. A hole
    /// within a tag has to stand between double quotes.
    pub fn put(&mut self, template: &'static str, parts: &[&dyn Part]) -> &mut Html {
        let mut rest = template.split("{}");
        self.0.push_str(rest.next().unwrap_or_default());
        let mut parts = parts.iter();
        for markup in rest {
            let part = parts.next();
            debug_assert!(part.is_some(), "a hole is left in {template}");
            if let Some(part) = part {
                part.put_into(self);
            }
            self.0.push_str(markup);
        }
        debug_assert!(parts.next().is_none(), "a value is left over: {template}");
        self
    }

    /// Appends markup of ours as it is, without holes.
    pub fn markup(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Appends a piece.
    pub fn add(&mut self, part: &dyn Part) -> &mut Html {
        part.put_into(self);
        self
    }

    /// Appends text, escaped so that it is nothing but text also within quotes.
    pub fn text(&mut self, text: impl Display) -> &mut Html {
        // Writing to a string does not fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
        self
    }

    /// Appends a text of ours; what is between backticks in it is code.
    pub fn marked_up(&mut self, text: &str) -> &mut Html {
        for (i, part) in text.split('`').enumerate() {
            match i % 2 {
                0 => self.text(part),
                _ => self.put("<code>{}</code>", &[&part]),
            };
        }
        self
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The markup.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The markup.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Writes text as markup that shows it.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Not allowed in HTML, or able to turn the direction of what follows.
                '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                    self.0.push('\u{fffd}');
                }
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// A text as one part of a path, or as a value in a query.
pub fn in_url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    percent::encode(text, b"~:", &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_only_ever_text() {
        let evil = "<script>alert('1')</script>\" onclick=\"x&amp;";
        let html = Html::of("<a title=\"{}\">{}</a>", &[&evil, &evil.to_owned()]);
        let shown =
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onclick=&quot;x&amp;amp;";
        assert_eq!(html.as_str(), format!("<a title=\"{shown}\">{shown}</a>"));
        let mut html = Html::default();
        html.text("a\u{0}b\u{202e}c\u{85}d\ne\u{e9}");
        assert_eq!(html.as_str(), "a\u{fffd}b\u{fffd}c\u{fffd}d\ne\u{e9}");
        // A hole in a value is none.
        assert_eq!(Html::of("<b>{}</b>", &[&"{}"]).as_str(), "<b>{}</b>");
    }

    #[test]
    fn pieces_are_put_together() {
        let inner = Html::of("<i>{}</i>", &[&7_u64]);
        let none: Option<&str> = None;
        let html = Html::of("{}{}|{}", &[&inner, &none, &Some("<")]);
        assert_eq!(html.as_str(), "<i>7</i>|&lt;");
        let mut html = Html::default();
        assert!(html.is_empty());
        html.marked_up("no `<b>` here");
        assert_eq!(html.into_string(), "no <code>&lt;b&gt;</code> here");
    }

    #[test]
    fn what_stands_in_an_address_stays_one_part_of_it() {
        assert_eq!(in_url("did:web:localhost%3A80"), "did:web:localhost%253A80");
        assert_eq!(
            in_url("a/b?c#d e&f=\u{e9}"),
            "a%2Fb%3Fc%23d%20e%26f%3D%C3%A9"
        );
    }
}
