//! Asking a host what it says of one of its accounts
//! (<https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getRepoStatus.json>),
//! for the sequencer, which holds events of an account that was inactive.

use std::{io, sync::Arc};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde::Deserialize;

use crate::{
    atproto::{did::Did, hostname::Endpoint},
    identity::{Directory, Outcome},
    limits::{
        SERVICE_STACK_BYTES, STATUS_BODY_BYTES_MAX, STATUS_QUEUE_MAX, STATUS_THREADS,
        STATUS_TIMEOUT,
    },
    outbound::{GetOptions, Outbound},
    sequencer::{Inbox, event::Input},
    store::account::Status,
    threads::{self, Role, Stop, Thread},
};

/// Both ends of the queue of questions.
pub fn questions() -> (Sender<Did>, Receiver<Did>) {
    bounded(STATUS_QUEUE_MAX)
}

/// Asks, and tells the sequencer what it heard.
#[derive(Clone)]
pub struct Asker {
    /// Who speaks for an account.
    pub directory: Arc<Directory>,
    /// How a host is asked.
    pub outbound: Outbound,
    /// Where the answers go.
    pub inbox: Inbox,
    /// Ends the threads.
    pub stop: Stop,
}

/// The answer, as far as it matters.
#[derive(Deserialize)]
struct Answer {
    did: String,
    active: bool,
    status: Option<String>,
}

impl Asker {
    /// Starts the threads that ask.
    pub fn start(self, questions: &Receiver<Did>) -> io::Result<Vec<Thread>> {
        let thread = |n: usize| {
            let (asker, questions) = (self.clone(), questions.clone());
            let body = move || asker.run(&questions);
            threads::spawn(
                Role::Resolver,
                &format!("status-{n}"),
                SERVICE_STACK_BYTES,
                body,
            )
        };
        threads::spawn_all(STATUS_THREADS, thread)
    }

    fn run(&self, questions: &Receiver<Did>) {
        loop {
            let did = select! {
                recv(questions) -> did => did,
                recv(self.stop.channel()) -> _ => return,
            };
            let Ok(did) = did else { return };
            let status = self.ask(&did);
            if self.inbox.send(Input::Status { did, status }).is_err() {
                return;
            }
        }
    }

    /// What the account's host says of it; nothing where it does not answer.
    fn ask(&self, did: &Did) -> Option<Status> {
        let Some(Outcome::Found(identity)) = self.directory.cached(did) else {
            return None;
        };
        let endpoint = Endpoint {
            host: identity.host.clone()?,
            tls: identity.tls,
        };
        let origin = endpoint.origin();
        let url = format!("{origin}/xrpc/com.atproto.sync.getRepoStatus?did={did}");
        let options = GetOptions {
            timeout: STATUS_TIMEOUT,
            body_bytes_max: STATUS_BODY_BYTES_MAX,
            accept: "application/json",
        };
        let response = self.outbound.get(&url, options).ok()?;
        if response.status != 200 {
            return None;
        }
        parse(did, &response.body)
    }
}

/// The status in the body of an answer about `did`.
fn parse(did: &Did, body: &[u8]) -> Option<Status> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let about = answer.did == did.as_str();
    about.then(|| Status {
        active: answer.active,
        reason: answer.status.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_account_counts() {
        let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap();
        let parse = |body: &str| parse(&did, body.as_bytes());
        assert_eq!(
            parse(r#"{"did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","active":true,"rev":"x"}"#),
            Some(Status::ACTIVE)
        );
        assert_eq!(
            parse(r#"{"did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","active":false,"status":"s"}"#),
            Some(Status {
                active: false,
                reason: Some("s".into())
            })
        );
        for bad in ["", "{}", "[]", r#"{"did":"did:web:a.b","active":true}"#] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
