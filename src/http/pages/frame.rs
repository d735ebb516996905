//! What every page has: head, header, navigation, footer, and the headers of the answer.

use super::{assets, html::Html};
use crate::http::{request::Request, response::Response};

/// What a browser may do with a page: load our own style and script, ask us, and post forms to us.
pub const SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// The navigation of the public pages: address and name.
pub const PUBLIC_LINKS: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/hosts", "Hosts"),
    ("/accounts", "Account look-up"),
    ("/reasons", "Reasons"),
];

/// Whose relay it is, as its operator says.
#[derive(Clone, Default, Debug)]
pub struct Site {
    /// What it is called; none: by the name of the software.
    pub name: Option<String>,
    /// Where the operator is reached: `mailto:`, `https:` or `http:`.
    pub contact: Option<String>,
    /// What holds for those who use the relay: `https:` or `http:`.
    pub policy: Option<String>,
}

impl Site {
    /// What it is called.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("zlay relay")
    }

    /// A link to the operator, where he says how he is reached.
    pub fn contact_link(&self) -> Option<Html> {
        let contact = self.contact.as_ref()?;
        let shown = contact.strip_prefix("mailto:").unwrap_or(contact);
        Some(Html::of("<a href=\"{}\">{}</a>", &[contact, &shown]))
    }
}

/// A page without what all pages have.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// What the page is called, in the title and in the first heading.
    pub title: &'a str,
    /// What stands below that heading, if anything.
    pub lead: Html,
    /// Address and name of each entry of the navigation: [`PUBLIC_LINKS`].
    pub links: &'static [(&'static str, &'static str)],
    /// The address of the entry that the page belongs to.
    pub section: &'static str,
    /// What stands at the end of the header, if anything.
    pub tools: Html,
    /// Where the same is for programs.
    pub twin: Option<&'a str>,
    /// Whether the script keeps the parts that are marked `data-live` up to date.
    pub is_live: bool,
    /// Addresses of further scripts of ours.
    pub scripts: &'a [&'a str],
    /// The content, in `main` after the first heading.
    pub main: Html,
}

impl Default for Frame<'_> {
    fn default() -> Self {
        Frame {
            title: "",
            lead: Html::default(),
            links: PUBLIC_LINKS,
            section: "",
            tools: Html::default(),
            twin: None,
            is_live: false,
            scripts: &[],
            main: Html::default(),
        }
    }
}

impl Frame<'_> {
    /// The whole page.
    pub fn document(&self, site: &Site) -> Html {
        let mut page = Html::default();
        page.put(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>{} · {}</title>\
             <link rel=\"icon\" href=\"{}\" type=\"image/svg+xml\">\
             <link rel=\"stylesheet\" href=\"{}\">",
            &[
                &self.title,
                &site.title(),
                &assets::ICON.address(),
                &assets::STYLE.address(),
            ],
        );
        if let Some(twin) = self.twin {
            let link = "<link rel=\"alternate\" type=\"application/json\" href=\"{}\">";
            page.put(link, &[&twin]);
        }
        let script = "<script src=\"{}\" defer></script>";
        page.put(script, &[&assets::SCRIPT.address()]);
        for address in self.scripts {
            page.put(script, &[address]);
        }
        page.markup(if self.is_live {
            "</head><body data-refresh>"
        } else {
            "</head><body>"
        });
        page.markup("<a class=\"skip\" href=\"#main\">Skip to the content</a>");
        self.header(&mut page, site);
        page.put(
            "<main id=\"main\" tabindex=\"-1\"><div class=\"title\"><h1>{}</h1>{}</div>{}</main>",
            &[&self.title, &self.lead, &self.main],
        );
        self.footer(&mut page, site);
        page.markup("</body></html>\n");
        page
    }

    fn header(&self, page: &mut Html, site: &Site) {
        page.put(
            "<header class=\"top\"><div class=\"bar\">\
             <a class=\"brand\" href=\"/\"><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\">\
             <path d=\"M3 3.5h10L3 12.5h10\"/></svg><span>{}</span></a>\
             <nav aria-label=\"Pages\"><ul>",
            &[&site.title()],
        );
        for (address, name) in self.links {
            let template = if *address == self.section {
                "<li><a href=\"{}\" aria-current=\"page\">{}</a></li>"
            } else {
                "<li><a href=\"{}\">{}</a></li>"
            };
            page.put(template, &[address, name]);
        }
        page.markup("</ul></nav>");
        if self.is_live {
            page.markup(
                "<div class=\"live\"><span id=\"live\" role=\"status\"></span>\
                 <button type=\"button\" id=\"pause\" hidden>Pause</button></div>",
            );
        }
        page.put("{}</div></header>", &[&self.tools]);
    }

    fn footer(&self, page: &mut Html, site: &Site) {
        page.put(
            "<footer><ul><li>zlay {}</li>",
            &[&env!("CARGO_PKG_VERSION")],
        );
        if let Some(twin) = self.twin {
            page.put("<li><a href=\"{}\">This page as JSON</a></li>", &[&twin]);
        }
        if let Some(contact) = site.contact_link() {
            page.put("<li>Contact: {}</li>", &[&contact]);
        }
        if let Some(policy) = &site.policy {
            page.put("<li><a href=\"{}\">Policy</a></li>", &[policy]);
        }
        page.markup("</ul></footer>");
    }

    /// The answer with the page; it is not to be stored anywhere, as it is of this moment.
    pub fn answer(&self, site: &Site) -> Response {
        let body = self.document(site).into_string();
        Response::text("text/html; charset=utf-8", body)
            .with("Content-Security-Policy", SECURITY_POLICY)
            .with("X-Content-Type-Options", "nosniff")
            // A form of ours has to say where it comes from; nobody else is told.
            .with("Referrer-Policy", "same-origin")
            .with("Cache-Control", "no-store")
    }
}

/// An error as a page: what is wrong, and what to do about it.
pub fn error(site: &Site, status: u16, title: &str, main: Html) -> Response {
    let frame = Frame {
        title,
        main,
        ..Frame::default()
    };
    frame.answer(site).status(status)
}

/// Whether the request is a browser's, which wants a page and not text for a terminal.
pub fn wants_html(request: &Request) -> bool {
    request
        .headers
        .all("accept")
        .any(|accept| accept.to_ascii_lowercase().contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_every_page_has_and_nothing_inline() {
        let site = Site {
            name: Some("<b>relay</b>".into()),
            contact: Some("mailto:ops@example.com".into()),
            policy: Some("https://example.com/?a=1&b=2".into()),
        };
        let frame = Frame {
            title: "A <host>",
            section: "/hosts",
            twin: Some("/x.json"),
            is_live: true,
            main: Html::of("<p id=\"p\" data-live>{}</p>", &[&"<&>"]),
            ..Frame::default()
        };
        let page = frame.document(&site).into_string();
        for part in [
            "<html lang=\"en\">",
            "<title>A &lt;host&gt; · &lt;b&gt;relay&lt;/b&gt;</title>",
            "<a href=\"/hosts\" aria-current=\"page\">Hosts</a>",
            "<a href=\"#main\"",
            "<h1>A &lt;host&gt;</h1>",
            "<p id=\"p\" data-live>&lt;&amp;&gt;</p>",
            "<a href=\"mailto:ops@example.com\">ops@example.com</a>",
            "<a href=\"https://example.com/?a=1&amp;b=2\">Policy</a>",
            "<a href=\"/x.json\">",
        ] {
            let part = part.replace("<a href=\"#main\"", "href=\"#main\"");
            assert!(page.contains(&part), "{part} is not in {page}");
        }
        for inline in [" style=", "<style", " onclick", "javascript:", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
        let answer = frame.answer(&site);
        let header = |name| answer.headers.iter().find(|(n, _)| *n == name).unwrap();
        assert!(
            header("Content-Security-Policy")
                .1
                .starts_with("default-src 'none'")
        );
        assert_eq!(header("Cache-Control").1, "no-store");
    }
}
