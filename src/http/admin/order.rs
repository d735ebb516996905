//! What the operator can have done. JSON of the admin API and forms of the operator's page are both read
//! into an [`Order`], and from there on there is one way: it is carried out, passed on to the siblings
//! and noted in [`perform`](super::perform).

use serde_json::{Map, Value, json};

use super::{Request, Response};
use crate::{
    atproto::{
        did::Did,
        hostname::{Endpoint, Hostname},
        nsid::Nsid,
    },
    backfill::Wanted,
    control::{
        domain::Domain,
        settings::{Choice, NUMBER_MAX, Setting},
    },
    host::decision::{Change, Place},
    sequencer::event::Ruling,
};

/// Something that the operator wants done, every part of it checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// A host is to be read; its name as he wrote it.
    Crawl { hostname: String },
    /// A host is banned, or no longer.
    Ban { host: Hostname, banned: bool },
    /// A connection ends, and is made anew soon unless the host is banned with it.
    Disconnect { host: Hostname, block: bool },
    /// A domain is banned, or no longer.
    BanDomain { domain: Domain, banned: bool },
    /// A host has other terms.
    Change {
        host: Hostname,
        change: Change,
        /// Whether nobody wants to hear of its limit.
        silenced: Option<bool>,
    },
    /// A host is read from another place.
    Reset { host: Hostname, to: Place },
    /// A sibling has warned its operator of a host's limit (`warning`), or has said that all is well
    /// again (`recovery`).
    Alert {
        host: Hostname,
        kind: String,
        sent: String,
    },
    /// Settings are changed, or are what the configuration says again.
    Set(Vec<(Setting, Option<Choice>)>),
    /// An account is taken down, or no longer.
    Rule { did: Did, ruling: Ruling },
    /// A subscriber is sent away.
    Dismiss { subscriber: u64 },
    /// What was not heard is read from others.
    Fill(Wanted),
    /// That is ended.
    EndFilling,
}

impl Order {
    /// The path of the admin API, without [`PREFIX`](super::PREFIX), that does this.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Order::Crawl { .. } => "pds/requestCrawl",
            Order::Ban { banned: true, .. } => "pds/block",
            Order::Ban { banned: false, .. } => "pds/unblock",
            Order::Disconnect { .. } => "subs/killUpstream",
            Order::BanDomain { banned: true, .. } => "subs/banDomain",
            Order::BanDomain { banned: false, .. } => "subs/unbanDomain",
            Order::Change { .. } => "pds/changeLimits",
            Order::Reset { .. } => "hosts/resetCursor",
            Order::Alert { .. } => "alerts/accountLimitSent",
            Order::Set(_) => "settings/change",
            Order::Rule {
                ruling: Ruling::Takedown,
                ..
            } => "repo/takeDown",
            Order::Rule {
                ruling: Ruling::Reversal,
                ..
            } => "repo/reverseTakedown",
            Order::Dismiss { .. } => "consumers/disconnect",
            Order::Fill(Wanted::Collections { .. }) => "backfill-collections",
            Order::Fill(Wanted::Accounts { .. }) => "backfill-accounts",
            Order::EndFilling => "backfill/cancel",
        }
    }

    /// Whether it holds at the siblings too. Cursors, settings, alerts, subscribers and backfills are of
    /// each relay alone.
    pub(super) fn is_for_siblings(&self) -> bool {
        match self {
            Order::Crawl { .. }
            | Order::Ban { .. }
            | Order::Disconnect { .. }
            | Order::BanDomain { .. }
            | Order::Change { .. }
            | Order::Rule { .. } => true,
            Order::Reset { .. }
            | Order::Alert { .. }
            | Order::Set(_)
            | Order::Dismiss { .. }
            | Order::Fill(_)
            | Order::EndFilling => false,
        }
    }

    /// Query and body that say the same to [`Order::path`] of this relay and of the reference relay,
    /// which reads some of it from the one and some from the other.
    pub(super) fn request(&self) -> (String, Value) {
        let query = |host: &Hostname| format!("host={host}");
        match self {
            Order::Crawl { hostname } => (String::new(), json!({ "hostname": hostname })),
            Order::Ban { host, .. } => (query(host), Value::Null),
            Order::Disconnect { host, block } => {
                (format!("{}&block={block}", query(host)), Value::Null)
            }
            Order::BanDomain { domain, .. } => {
                (String::new(), json!({ "domain": domain.as_str() }))
            }
            Order::Rule { did, .. } => (String::new(), json!({ "did": did.as_str() })),
            Order::Dismiss { subscriber } => (String::new(), json!({ "id": subscriber })),
            Order::Change { host, .. } | Order::Reset { host, .. } | Order::Alert { host, .. } => {
                let mut body = self.detail();
                body["host"] = host.as_str().into();
                (String::new(), body)
            }
            Order::Set(_) => (String::new(), self.detail()),
            Order::Fill(Wanted::Collections { source, .. }) => {
                let mut body = self.detail();
                body["source"] = source.origin().into();
                (String::new(), body)
            }
            Order::Fill(Wanted::Accounts { host }) => {
                let host = host.as_ref().map(Hostname::as_str);
                (String::new(), json!({ "host": host }))
            }
            Order::EndFilling => (String::new(), Value::Null),
        }
    }

    /// What the audit log keeps beside the subject.
    pub(super) fn detail(&self) -> Value {
        match self {
            Order::Crawl { .. }
            | Order::Ban { .. }
            | Order::BanDomain { .. }
            | Order::Rule { .. }
            | Order::Dismiss { .. }
            | Order::Fill(Wanted::Accounts { .. })
            | Order::EndFilling => Value::Null,
            Order::Fill(Wanted::Collections { names, .. }) => {
                let names: Vec<&str> = names.iter().map(Nsid::as_str).collect();
                json!({ "collections": names })
            }
            Order::Disconnect { block, .. } => json!({ "block": block }),
            Order::Change {
                change, silenced, ..
            } => terms(change, *silenced),
            Order::Reset { to, .. } => json!({ "cursor": match to {
                Place::Oldest => json!("oldest"),
                Place::Live => json!("live"),
                Place::After(seq) => json!(seq),
            }}),
            Order::Alert { kind, sent, .. } => json!({ "kind": kind, "sentAt": sent }),
            Order::Set(changes) => {
                let named = changes.iter().map(|(setting, choice)| {
                    let value = choice.as_ref().map_or(Value::Null, Choice::json);
                    (setting.name().to_owned(), value)
                });
                Value::Object(named.collect())
            }
        }
    }

    /// To whom it is done, as far as it says so itself.
    pub(super) fn subject(&self) -> String {
        match self {
            Order::Crawl { hostname } => hostname.clone(),
            Order::Ban { host, .. }
            | Order::Disconnect { host, .. }
            | Order::Change { host, .. }
            | Order::Reset { host, .. }
            | Order::Alert { host, .. } => host.to_string(),
            Order::BanDomain { domain, .. } => domain.to_string(),
            Order::Set(changes) => {
                let names: Vec<&str> = changes.iter().map(|(setting, _)| setting.name()).collect();
                names.join(", ")
            }
            Order::Rule { did, .. } => did.as_str().to_owned(),
            Order::Dismiss { subscriber } => format!("subscriber {subscriber}"),
            Order::Fill(Wanted::Collections { source, .. }) => source.origin(),
            Order::Fill(Wanted::Accounts { host }) => {
                let host = host.as_ref().map_or("all hosts", Hostname::as_str);
                host.to_owned()
            }
            Order::EndFilling => String::new(),
        }
    }
}

/// A change of terms in the words of the admin API.
fn terms(change: &Change, silenced: Option<bool>) -> Value {
    let mut said = Map::new();
    let mut say = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            said.insert(name.to_owned(), value);
        }
    };
    say("lenient", change.lenient.map(Value::from));
    say("trusted", change.trusted.map(Value::from));
    say("repo_limit", change.accounts.map(Value::from));
    say(
        "events_per_second",
        change.events_per_second.map(Value::from),
    );
    say("events_per_hour", change.events_per_hour.map(Value::from));
    say("events_per_day", change.events_per_day.map(Value::from));
    say("account_limit_alerts_silenced", silenced.map(Value::from));
    Value::Object(said)
}

/// A host as requestCrawl would name it.
pub(super) fn host(name: &str) -> Result<Hostname, Response> {
    Endpoint::parse(name)
        .map(|endpoint| endpoint.host)
        .map_err(|error| Response::invalid(&format!("host is {error}")))
}

/// A domain, of which no host need be known.
pub(super) fn domain(name: &str) -> Result<Domain, Response> {
    Domain::parse(name).map_err(|error| Response::invalid(&format!("Domain is {error}")))
}

/// An account.
pub(super) fn did(text: &str) -> Result<Did, Response> {
    Did::parse(text).map_err(|_| Response::invalid("did is not a DID"))
}

/// A limit of one host.
pub(super) fn limit(name: &str, value: &Value) -> Result<u64, Response> {
    let number = value.as_u64().filter(|number| *number <= NUMBER_MAX);
    number.ok_or_else(|| {
        let message = format!("{name} is not null or a number from 0 to {NUMBER_MAX}");
        Response::invalid(&message)
    })
}

/// From where a host is read: the last seq that counts as read, `"oldest"` or `"live"`.
pub(super) fn place(said: &Value) -> Result<Place, Response> {
    let number = match said {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    match (said.as_str(), number) {
        (Some("oldest"), _) | (_, Some(0)) => Ok(Place::Oldest),
        (Some("live"), _) => Ok(Place::Live),
        (_, Some(seq)) if i64::try_from(seq).is_ok() => Ok(Place::After(seq)),
        _ => Err(Response::invalid(
            "cursor is not a seq, \"oldest\" or \"live\"",
        )),
    }
}

/// What a request to the admin API is, as it would come from outside: for the siblings.
pub(super) fn as_request(order: &Order, page: &Request, password: &str) -> Request {
    let (query, body) = order.request();
    let mut headers = crate::http::request::Headers::default();
    headers.push("authorization", format!("Bearer {password}").as_bytes());
    headers.push("content-type", b"application/json");
    // Who asks is the operator's browser: what a relay asks goes no further.
    if let Some(agent) = page.headers.first("user-agent") {
        headers.push("user-agent", agent.as_bytes());
    }
    Request {
        method: crate::http::request::Method::Post,
        path: format!("{}{}", super::PREFIX, order.path()),
        query,
        headers,
        body: match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        },
        client: page.client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::admin::{Act, act};

    fn orders() -> Vec<Order> {
        let host = || host("pds.example.com").unwrap();
        let domain = || domain("example.com").unwrap();
        let did = || did("did:web:a.b").unwrap();
        let mut orders = vec![
            Order::Crawl {
                hostname: "pds.example.com".into(),
            },
            Order::Change {
                host: host(),
                change: Change {
                    lenient: Some(true),
                    trusted: Some(None),
                    accounts: Some(Some(0)),
                    events_per_second: Some(None),
                    events_per_hour: Some(Some(7)),
                    events_per_day: None,
                },
                silenced: Some(false),
            },
            Order::Alert {
                host: host(),
                kind: "warning".into(),
                sent: "2026-01-02T03:04:05Z".into(),
            },
            Order::Set(vec![
                (Setting::RequestCrawl, Some(Choice::Switch(false))),
                (Setting::TrustedDomains, None),
            ]),
            Order::Dismiss { subscriber: 7 },
            Order::Fill(Wanted::Accounts { host: None }),
            Order::Fill(Wanted::Accounts { host: Some(host()) }),
            Order::Fill(Wanted::Collections {
                source: Endpoint::parse("relay.example.com").unwrap(),
                names: vec![Nsid::parse("a.b.c").unwrap()],
            }),
            Order::EndFilling,
        ];
        for yes in [true, false] {
            let (banned, block) = (yes, yes);
            orders.push(Order::Ban {
                host: host(),
                banned,
            });
            orders.push(Order::Disconnect {
                host: host(),
                block,
            });
            orders.push(Order::BanDomain {
                domain: domain(),
                banned,
            });
        }
        for to in [Place::Oldest, Place::Live, Place::After(5)] {
            orders.push(Order::Reset { host: host(), to });
        }
        for ruling in [Ruling::Takedown, Ruling::Reversal] {
            orders.push(Order::Rule { did: did(), ruling });
        }
        orders
    }

    /// What is passed on for a form is what the admin API reads, word for word.
    #[test]
    fn an_order_is_read_back_from_the_request_that_it_makes() {
        let page = Request {
            method: crate::http::request::Method::Post,
            path: "/admin/console/act".into(),
            query: String::new(),
            headers: Default::default(),
            body: Vec::new(),
            client: [192, 0, 2, 1].into(),
        };
        for order in orders() {
            let request = as_request(&order, &page, "sesame");
            assert_eq!(
                request.headers.first("authorization"),
                Some("Bearer sesame")
            );
            let path = request.path.strip_prefix("/admin/").unwrap();
            let Some(Act::Write(read) | Act::Both(_, read)) = act(path) else {
                panic!("{path}");
            };
            assert_eq!(read(&request).ok(), Some(order), "{request:?}");
        }
    }
}
