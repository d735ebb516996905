//! The style, the script and the icon of the pages: files in this directory that are part of the program.

use crate::http::{
    request::{Method, Request},
    response::Response,
};

/// Every one of them begins with this.
pub const PREFIX: &str = "/assets/";

/// A file that pages load.
#[derive(Debug)]
pub struct Asset {
    /// What follows [`PREFIX`].
    name: &'static str,
    content_type: &'static str,
    body: &'static str,
    /// Differs when the body does.
    hash: u64,
}

/// The style of all pages.
pub static STYLE: Asset = Asset::new(
    "zlay.css",
    "text/css; charset=utf-8",
    include_str!("assets/zlay.css"),
);

/// The script of all pages, which keeps their numbers up to date.
pub static SCRIPT: Asset = Asset::new(
    "zlay.js",
    "text/javascript; charset=utf-8",
    include_str!("assets/zlay.js"),
);

/// What stands in the tab of a browser.
pub static ICON: Asset = Asset::new("zlay.svg", "image/svg+xml", include_str!("assets/zlay.svg"));

static ALL: [&Asset; 3] = [&STYLE, &SCRIPT, &ICON];

impl Asset {
    /// A file; `body` is what `include_str!` gives.
    pub const fn new(name: &'static str, content_type: &'static str, body: &'static str) -> Asset {
        Asset {
            name,
            content_type,
            body,
            hash: hash(body.as_bytes()),
        }
    }

    /// Where a page finds it: another address when it has changed, so that no browser shows a page
    /// with the style of an earlier version.
    pub fn address(&self) -> String {
        format!("{PREFIX}{}?v={:016x}", self.name, self.hash)
    }

    /// The answer to a request for it: 304 where the client has it already.
    pub fn answer(&self, request: &Request) -> Response {
        let tag = format!("\"{:016x}\"", self.hash);
        let has_it = request.headers.lists("if-none-match", &tag)
            || request.headers.lists("if-none-match", &format!("W/{tag}"));
        let of_this_version = request.query == format!("v={:016x}", self.hash);
        let (status, body) = match has_it {
            true => (304, ""),
            false => (200, self.body),
        };
        let caching = match of_this_version {
            true => "public, max-age=31536000, immutable",
            false => "public, max-age=300",
        };
        Response::text(self.content_type, body.to_owned())
            .status(status)
            .with("ETag", tag)
            .with("Cache-Control", caching)
            .with("X-Content-Type-Options", "nosniff")
    }
}

/// Answers a request below [`PREFIX`].
pub fn route(request: &Request) -> Response {
    if !matches!(request.method, Method::Get | Method::Head) {
        return Response::method_not_allowed("GET, HEAD");
    }
    let name = request.path.strip_prefix(PREFIX);
    match ALL.iter().find(|asset| name == Some(asset.name)) {
        Some(asset) => asset.answer(request),
        None => Response::error(404, "NotFound", "There is nothing at this path"),
    }
}

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>): enough to tell versions of one file apart.
const fn hash(bytes: &[u8]) -> u64 {
    let (mut hash, mut i) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_its_authors() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_files_load_nothing_from_elsewhere() {
        for asset in ALL {
            let body = asset.body.replace("http://www.w3.org/2000/svg", "");
            for outside in ["http:", "https:", "//cdn", "@import", "eval("] {
                assert!(!body.contains(outside), "{}: {outside}", asset.name);
            }
        }
    }
}
