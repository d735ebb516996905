//! What HTTP may ask of the other parts, connected to them.

use std::{net::IpAddr, sync::Arc};

use crate::{
    atproto::hostname::{Endpoint, Hostname},
    firehose::{self, Cursor, Firehose},
    host::{
        crawler::{self, CrawlerHandle},
        thread::Start,
    },
    http::{
        crawl::{Crawl, CrawlAnswer, Standing},
        subscribe::{self, Seat},
    },
};

/// The firehose behind the public port.
pub(super) struct FirehosePort(pub(super) Arc<Firehose>);

impl subscribe::Firehose for FirehosePort {
    fn admit(&self, client: IpAddr) -> Option<Seat> {
        let firehose = self.0.clone();
        let admission = firehose.admit(client).ok()?;
        Some(Box::new(move |subscription: subscribe::Subscription| {
            let Ok(peer) = subscription.stream.peer_addr() else {
                return;
            };
            let subscription = firehose::Subscription {
                admission,
                stream: subscription.stream,
                leftover: subscription.leftover,
                cursor: subscription.cursor.map_or(Cursor::Live, Cursor::From),
                peer,
                user_agent: subscription.user_agent,
            };
            if let Err(error) = firehose.subscribe(subscription) {
                log::error!("no thread for the subscriber {peer}: {error}");
            }
        }))
    }
}

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
