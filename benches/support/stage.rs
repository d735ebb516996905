//! A firehose with subscribers, and no relay around it.

use std::{net::TcpStream, sync::Arc};

use zlay::{
    firehose::{Cursor, Firehose, Settings, Subscription},
    metrics::Metrics,
    store::Store,
    threads::{Stopper, Thread, stop_pair},
};

/// The firehose; dropping it ends it.
pub(crate) struct Stage {
    // In the order in which they have to go.
    stopper: Option<Stopper>,
    ticker: Option<Thread>,
    pub(crate) firehose: Arc<Firehose>,
}

impl Stage {
    /// One whose settings are those of a relay, but for the number of subscribers.
    pub(crate) fn new(store: Arc<Store>) -> Stage {
        let mut settings = Settings::new(256 << 10);
        settings.subscribers_max = (1_000, 1_000);
        let (stopper, stop) = stop_pair();
        let metrics = Arc::new(Metrics::default());
        let (firehose, ticker) = Firehose::start(store, metrics, settings, stop).unwrap();
        Stage {
            stopper: Some(stopper),
            ticker: Some(ticker),
            firehose,
        }
    }

    /// Serves a subscriber whose request was answered.
    pub(crate) fn subscribe(&self, stream: TcpStream, cursor: Cursor) {
        let peer = stream.peer_addr().unwrap();
        let subscription = Subscription {
            admission: self.firehose.admit(peer.ip()).unwrap(),
            stream,
            leftover: Vec::new(),
            cursor,
            peer,
            user_agent: "bench".into(),
        };
        self.firehose.subscribe(subscription).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stopper.take();
        self.ticker.take();
    }
}
