//! What HTTP may ask of the other parts, connected to them.

use crate::{
    atproto::hostname::{Endpoint, Hostname},
    host::{
        crawler::{self, CrawlerHandle},
        thread::Start,
    },
    http::crawl::{Crawl, CrawlAnswer, Standing},
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
        let host = endpoint.host.clone();
        // A host that announces itself is heard from the beginning of what it still has.
        match self.0.crawl(endpoint, Start::Oldest) {
            crawler::CrawlAnswer::Started | crawler::CrawlAnswer::Retrying => CrawlAnswer::Started,
            crawler::CrawlAnswer::AlreadyConnected => CrawlAnswer::AlreadyConnected,
            crawler::CrawlAnswer::Banned => CrawlAnswer::Banned,
            crawler::CrawlAnswer::Failed(error) => {
                log::error!("host={host} can not be crawled: {error}");
                CrawlAnswer::Failed
            }
        }
    }
}
