//! What HTTP may ask of the other parts, connected to them.

use crate::{
    atproto::hostname::{Endpoint, Hostname},
    host::{
        crawler::{CrawlAnswer, CrawlerHandle},
        thread::Start,
    },
    http::crawl::{Crawl, Standing},
};

/// The crawler behind `requestCrawl`.
pub(super) struct CrawlPort(pub(super) CrawlerHandle);

impl Crawl for CrawlPort {
    fn standing(&self, host: &Hostname) -> Standing {
        match self.0.knows(host) {
            true => Standing::Known,
            false => Standing::New,
        }
    }

    fn request_crawl(&self, endpoint: Endpoint) -> CrawlAnswer {
        // A host that announces itself is heard from the beginning of what it still has.
        self.0.crawl(endpoint, Start::Oldest)
    }
}
