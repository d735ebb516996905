//! An [`Order`] carried out.

use serde_json::{Value, json};

use super::{
    App, Response, accounts, backfill,
    hosts::{decide, set_alert},
    order::Order,
    unavailable,
};
use crate::{
    atproto::hostname::Hostname, host::decision::Decision, http::hosts::not_found,
    sequencer::event::Ruled,
};

/// What was done.
pub(super) struct Done {
    /// To whom.
    pub(super) subject: String,
    /// What the admin API answers.
    pub(super) answer: Response,
}

impl Order {
    /// Does it. The error is what the admin API answers, and nothing is in force then.
    pub(super) fn carry_out(&self, app: &App) -> Result<Done, Response> {
        match self {
            Order::Crawl { hostname } => return crawl(app, hostname),
            Order::Fill(wanted) => return backfill::begin(app, wanted, self.subject()),
            Order::EndFilling => return Ok(backfill::end(app)),
            Order::Ban { host, banned } => ban(app, host, *banned)?,
            Order::Disconnect { host, block: true } => ban(app, host, true)?,
            Order::Disconnect { host, block: false } => {
                decide(app, &Decision::Disconnect { host: host.clone() })?;
            }
            Order::BanDomain { domain, banned } => {
                let (domain, banned) = (domain.clone(), *banned);
                decide(app, &Decision::BanDomain { domain, banned })?;
            }
            Order::Change {
                host,
                change,
                silenced,
            } => {
                let (host, change) = (host.clone(), *change);
                let name = host.to_string();
                decide(app, &Decision::Change { host, change })?;
                if let Some(silenced) = *silenced {
                    set_alert(app, &name, |alert| alert["silenced"] = silenced.into())?;
                }
            }
            Order::Reset { host, to } => {
                let (host, to) = (host.clone(), *to);
                decide(app, &Decision::Reset { host, to })?;
            }
            Order::Alert { host, kind, sent } => {
                let known = app.hosts.detail(host).map_err(|e| unavailable(&e))?;
                known.ok_or_else(not_found)?;
                set_alert(app, host.as_str(), |alert| {
                    alert["state"] = kind.as_str().into();
                    alert["sent_at"] = sent.as_str().into();
                })?;
            }
            Order::Set(changes) => {
                for (setting, choice) in changes {
                    let (setting, choice) = (*setting, choice.clone());
                    decide(app, &Decision::Set { setting, choice })?;
                }
            }
            Order::Rule { did, ruling } => match app.accounts.rule(did, *ruling) {
                Ok(Ruled::Holds) => {}
                Ok(Ruled::Unknown) => return Err(accounts::not_found()),
                Err(error) => return Err(unavailable(&error)),
            },
            Order::Dismiss { subscriber } => {
                if !app.firehose.dismiss(*subscriber) {
                    let message = "There is no such subscriber, or it has left already";
                    return Err(Response::error(404, "SubscriberNotFound", message));
                }
            }
        }
        Ok(Done {
            subject: self.subject(),
            // A string: clients read it as one.
            answer: Response::json(&json!({ "success": "true" })),
        })
    }
}

fn crawl(app: &App, hostname: &str) -> Result<Done, Response> {
    let answer = app.desk.operator(hostname);
    if answer.status != 200 {
        return Err(answer);
    }
    // As it is kept, in whatever form it was asked for.
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Ok(Done {
        subject: said["hostname"].as_str().unwrap_or_default().to_owned(),
        answer,
    })
}

fn ban(app: &App, host: &Hostname, banned: bool) -> Result<(), Response> {
    let host = host.clone();
    decide(app, &Decision::Ban { host, banned })
}
