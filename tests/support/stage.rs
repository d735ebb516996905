//! What a case needs: a network, a relay that crawls it, a subscriber who reads from the beginning,
//! and an account that has nothing to do with what is tried, whose events show that everything
//! before them was dealt with.

use zlay::{
    reject::Reject,
    sim::{account::Account, event::Event},
};

use crate::{
    site::{Relay, Site, next_commit, wait_until},
    subscriber::{Seen, Subscriber},
};

/// Everything that a case needs.
pub(crate) struct Stage {
    pub(crate) site: Site,
    pub(crate) relay: Relay,
    /// Reads from the beginning, and has read everything that was published.
    pub(crate) subscriber: Subscriber,
    /// An account of the first host that has nothing to do with it.
    pub(crate) bystander: Account,
}

impl Stage {
    /// A network of two hosts.
    pub(crate) fn set_up() -> Stage {
        Stage::on(Site::new(2))
    }

    /// The same on a site that was prepared.
    pub(crate) fn on(mut site: Site) -> Stage {
        let relay = site.start_crawling();
        let mut subscriber = Subscriber::from_the_beginning(&relay);
        let mut bystander = site.account(0);
        subscriber.expect(&[&site.publish_post(&mut bystander)]);
        Stage {
            site,
            relay,
            subscriber,
            bystander,
        }
    }

    /// A new account of the first host, of which the relay has seen one commit.
    pub(crate) fn known_account(&mut self) -> Account {
        let account = self.site.account(0);
        self.seen(account)
    }

    /// Lets the relay see a first commit of an account.
    pub(crate) fn seen(&mut self, mut account: Account) -> Account {
        let event = self.site.publish_post(&mut account);
        self.subscriber.expect(&[&event]);
        account
    }

    /// How many events were refused for this reason so far.
    pub(crate) fn refused(&self, reject: Reject) -> u64 {
        let rejects = self.relay.rejects();
        rejects.get(reject.name()).copied().unwrap_or_default()
    }

    /// Sends events of a host, which must arrive, and nothing before or between them.
    pub(crate) fn pass_from(&mut self, host: usize, events: &[&Event]) {
        for event in events {
            self.site.network.publish(host, event);
        }
        self.subscriber.expect(events);
    }

    /// The same from the first host.
    pub(crate) fn pass(&mut self, events: &[&Event]) {
        self.pass_from(0, events);
    }

    /// Sends an event from a host that must arrive in another form.
    pub(crate) fn pass_as(&mut self, host: usize, event: &Event, arrives: &Event) {
        self.site.network.host(host).emit(event);
        self.subscriber.expect(&[arrives]);
    }

    /// How often the directory was asked for an account so far.
    pub(crate) fn asked_for(&self, account: &Account) -> u64 {
        self.site.network.plc().requests_for(account.did())
    }

    /// The bystander says something, which must be the next that arrives: what was to be dropped
    /// before has not come.
    pub(crate) fn sentinel(&mut self) {
        let sentinel = next_commit(&mut self.bystander);
        self.pass(&[&sentinel]);
    }

    /// Sends an event from a host; shows that it is dropped, and counted under this reason.
    pub(crate) fn refuse(&mut self, host: usize, event: &Event, reject: Reject) {
        let before = self.refused(reject);
        self.site.network.publish_invalid(host, event, reject);
        self.sentinel();
        wait_until(reject.name(), || self.refused(reject) == before + 1);
    }

    /// The same for an event of an account of the first host, whose next commit on the state before
    /// must then pass, as the continuation that it is.
    pub(crate) fn drops(&mut self, account: &mut Account, event: &Event, reject: Reject) {
        let discontinuous = self.relay.metric("relay_events_discontinuous_total");
        self.refuse(0, event, reject);
        let next = next_commit(account);
        self.pass(&[&next]);
        assert_eq!(
            self.relay.metric("relay_events_discontinuous_total"),
            discontinuous,
            "the state before {reject} is the state after it"
        );
    }

    /// Everything that is published and was not read by the subscriber so far.
    pub(crate) fn unread(&mut self) -> Vec<Seen> {
        let left = self.relay.metric("relay_seq") - self.subscriber.last();
        (0..left).map(|_| self.subscriber.event()).collect()
    }

    /// The relay ends orderly and starts again; the subscriber goes on where it was.
    pub(crate) fn restart(&mut self) {
        self.subscriber.leave();
        self.relay.terminate();
        let child = &mut self.relay.child;
        wait_until("the relay ends", || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success());
        self.start_again();
    }

    /// The same without a word to it.
    pub(crate) fn crash(&mut self) {
        self.relay.kill();
        self.start_again();
    }

    fn start_again(&mut self) {
        self.relay = self.site.start();
        self.subscriber = Subscriber::after(&self.relay, self.subscriber.last());
    }
}
