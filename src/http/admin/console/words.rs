//! Orders in words: what they are going to do, what they have done, and what can be done where they
//! failed.

use serde_json::Value;

use super::{Order, Response, view};
use crate::{
    backfill::Wanted,
    control::settings::Choice,
    host::decision::Place,
    http::pages::{html::in_url, words::grouped},
    sequencer::event::Ruling,
};

/// An order in words, before it is carried out.
pub(super) struct Question {
    pub(super) title: String,
    /// What it does, a paragraph each.
    pub(super) will: Vec<String>,
    /// What the button says.
    pub(super) button: &'static str,
}

/// Whether an order can do harm, so that it is shown once more before it is carried out.
pub(super) fn asks_first(order: &Order) -> bool {
    match order {
        Order::Ban { banned, .. } | Order::BanDomain { banned, .. } => *banned,
        Order::Disconnect { .. }
        | Order::Reset { .. }
        | Order::Dismiss { .. }
        | Order::EndFilling => true,
        Order::Rule { ruling, .. } => *ruling == Ruling::Takedown,
        Order::Crawl { .. }
        | Order::Change { .. }
        | Order::Alert { .. }
        | Order::Set(_)
        | Order::Fill(_) => false,
    }
}

/// What is asked before an order is carried out.
pub(super) fn question(order: &Order) -> Question {
    let (title, will, button): (String, Vec<String>, &'static str) = match order {
        Order::Ban { host, banned: true } => (
            format!("Block {host}?"),
            vec![
                "Its connection is ended now, and no other one is made; its requests to be crawled are \
                 refused. Its accounts stay as they are, but nothing new is heard of them."
                    .to_owned(),
                "It can be unblocked at any time, and is then read on from where it was.".to_owned(),
            ],
            "Block it",
        ),
        Order::Disconnect { host, block: false } => (
            format!("Disconnect {host}?"),
            vec![
                "Its connection is ended now, and made anew within seconds. It is read on from where it \
                 was, and nothing is lost."
                    .to_owned(),
            ],
            "Disconnect it",
        ),
        Order::Disconnect { host, block: true } => (
            format!("Disconnect and block {host}?"),
            vec!["Its connection is ended now, and no other one is made.".to_owned()],
            "Disconnect and block it",
        ),
        Order::BanDomain { domain, .. } => (
            format!("Ban the domain {domain}?"),
            vec![
                format!(
                    "{domain} and every host below it are banned, those that are known now and those \
                     that would come later: connections are ended now, and requests to be crawled are \
                     refused."
                ),
                "The ban can be lifted at any time; hosts are then read on from where they were."
                    .to_owned(),
            ],
            "Ban it",
        ),
        Order::Reset { host, to } => (
            format!("Read {host} from another place?"),
            vec![place_in_words(*to)],
            "Reset the cursor",
        ),
        Order::Rule { did, .. } => (
            format!("Take down {did}?"),
            vec![
                "Subscribers are told now that the account is taken down, and its events are not passed \
                 on any more; those that are in the replay window already are not given out again."
                    .to_owned(),
                "The takedown can be reversed at any time. What the account does meanwhile is not sent \
                 later."
                    .to_owned(),
            ],
            "Take it down",
        ),
        Order::Dismiss { subscriber } => (
            format!("Disconnect subscriber {subscriber}?"),
            vec![
                "Its connection is closed now. Nothing keeps it from connecting again; with its cursor \
                 it then misses nothing that is still in the replay window."
                    .to_owned(),
            ],
            "Disconnect it",
        ),
        Order::EndFilling => (
            "End the backfill?".to_owned(),
            vec![
                "It ends after the page that it reads now. What it has brought in stays; another one \
                 begins from the start."
                    .to_owned(),
            ],
            "End it",
        ),
        Order::Ban { .. }
        | Order::Crawl { .. }
        | Order::Change { .. }
        | Order::Alert { .. }
        | Order::Set(_)
        | Order::Fill(_) => ("Do it?".to_owned(), Vec::new(), "Do it"),
    };
    Question {
        title,
        will,
        button,
    }
}

fn place_in_words(to: Place) -> String {
    match to {
        Place::Oldest => {
            "Its connection is made anew, and everything that it still has is read again. What was \
             passed on before is recognised and not passed on again; on a large host this takes a while."
                .to_owned()
        }
        Place::Live => {
            "Its connection is made anew, and it is read from now on. What it has said since its \
             cursor, and was not read yet, is passed over: accounts with such events are out of step \
             until their next commit."
                .to_owned()
        }
        Place::After(seq) => format!(
            "Its connection is made anew, and it is read from what follows its seq {}. A later place \
             than its cursor passes over what lies between; from an earlier one, what was passed on \
             before is recognised and not passed on again.",
            grouped(seq)
        ),
    }
}

/// What was done; `siblings` are told of it too.
pub(super) fn done(order: &Order, answer: &Response, siblings: usize) -> String {
    let mut words = match order {
        Order::Crawl { .. } => {
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
            format!("{}: {}.", text("hostname"), text("state"))
        }
        Order::Ban { host, banned: true } | Order::Disconnect { host, block: true } => {
            format!("{host} is blocked, and not connected any more.")
        }
        Order::Ban { host, .. } => format!(
            "{host} is not blocked any more, and is connected to unless a domain above it is banned."
        ),
        Order::Disconnect { host, .. } => {
            format!("{host} was disconnected, and is connected to again.")
        }
        Order::BanDomain { domain, banned } => match banned {
            true => format!("{domain} and every host below it are banned."),
            false => format!("{domain} is not banned any more."),
        },
        Order::Change { host, .. } => format!(
            "{host} has other terms from now on: {}.",
            listed(&order.detail())
        ),
        Order::Reset { host, to } => match to {
            Place::Oldest => format!("{host} is read from the oldest that it still has."),
            Place::Live => format!("{host} is read from now on."),
            Place::After(seq) => format!("{host} is read from after its seq {}.", grouped(*seq)),
        },
        Order::Alert { host, .. } => format!("The alert about {host} is kept."),
        Order::Set(changes) => {
            let words = changes.iter().map(|(setting, choice)| match choice {
                Some(choice) => format!("{} is {}", setting.name(), chosen(choice)),
                None => format!("{} is what the configuration says", setting.name()),
            });
            format!("{} from now on.", words.collect::<Vec<_>>().join("; "))
        }
        Order::Rule { did, ruling } => match ruling {
            Ruling::Takedown => format!("{did} is taken down, and subscribers are told so."),
            Ruling::Reversal => {
                format!("{did} is not taken down any more, and subscribers are told so.")
            }
        },
        Order::Dismiss { subscriber } => format!("Subscriber {subscriber} is being disconnected."),
        Order::Fill(Wanted::Collections { source, .. }) => {
            format!(
                "The backfill of collections from {} has begun.",
                source.origin()
            )
        }
        Order::Fill(Wanted::Accounts { host: Some(host) }) => {
            format!("The backfill of the accounts of {host} has begun.")
        }
        Order::Fill(Wanted::Accounts { host: None }) => {
            "The backfill of the accounts of all hosts has begun.".to_owned()
        }
        Order::EndFilling => "The backfill is ending.".to_owned(),
    };
    if order.is_for_siblings() && siblings > 0 {
        let plural = if siblings == 1 { "" } else { "s" };
        words.push_str(&format!(" {siblings} sibling relay{plural} will be told."));
    }
    words
}

/// A choice in a sentence.
pub(super) fn chosen(choice: &Choice) -> String {
    match choice {
        Choice::Number(number) => grouped(*number),
        Choice::Switch(true) => "on".to_owned(),
        Choice::Switch(false) => "off".to_owned(),
        Choice::Domains(domains) if domains.is_empty() => "no domain".to_owned(),
        Choice::Domains(domains) => domains.join(", "),
    }
}

/// What JSON says, for people: `repo_limit 5, trusted default`.
pub(super) fn listed(detail: &Value) -> String {
    let word = |value: &Value| match value {
        Value::Null => "default".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match detail {
        Value::Null => String::new(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let words = fields.map(|(name, value)| format!("{name} {}", word(value)));
            words.collect::<Vec<_>>().join(", ")
        }
        other => word(other),
    }
}

/// What can be done where the admin API has answered with this status.
pub(super) fn advice(status: u16) -> &'static str {
    match status {
        400 => "Nothing was changed. Go back, and correct what the form says.",
        403 => "Nothing was changed.",
        404 => {
            "Nothing was changed. It may have been removed, or its name may be spelled differently."
        }
        409 => "Nothing was changed. Wait for its end, or end it.",
        429 => "Nothing was changed. Try again in a moment.",
        503 => {
            "Nothing is in force, but it may have been stored: say it again. Where this lasts, look \
             whether the control store (DATABASE_URL) can be reached and has room, and what the log \
             of the relay says. Hosts and subscribers are served on meanwhile."
        }
        _ => "Nothing is in force. The log of the relay says why.",
    }
}

/// The page from which an order comes, and to which its form goes back. `subject` is what it was about
/// as the relay has it, where that is known.
pub(super) fn back(order: &Order, subject: &str) -> String {
    match order {
        Order::Crawl { .. } if subject.is_empty() => view::HOSTS.to_owned(),
        Order::Crawl { .. } => format!("{}?host={}", view::HOST, in_url(subject)),
        Order::Ban { host, .. }
        | Order::Disconnect { host, .. }
        | Order::Change { host, .. }
        | Order::Reset { host, .. }
        | Order::Alert { host, .. } => format!("{}?host={}", view::HOST, in_url(host.as_str())),
        Order::BanDomain { .. } => view::BANS.to_owned(),
        Order::Rule { did, .. } => format!("{}?did={}", view::TAKEDOWNS, in_url(did.as_str())),
        Order::Dismiss { .. } => view::SUBSCRIBERS.to_owned(),
        Order::Fill(_) | Order::EndFilling => view::BACKFILL.to_owned(),
        Order::Set(changes) => match changes.first() {
            Some((setting, _)) => format!("{}#{}", view::SETTINGS, setting.name()),
            None => view::SETTINGS.to_owned(),
        },
    }
}

/// The entry of the navigation that an order belongs to.
pub(super) fn section(order: &Order) -> &'static str {
    match order {
        Order::Crawl { .. }
        | Order::Ban { .. }
        | Order::Disconnect { .. }
        | Order::Change { .. }
        | Order::Reset { .. }
        | Order::Alert { .. } => view::HOSTS,
        Order::BanDomain { .. } => view::BANS,
        Order::Rule { .. } => view::TAKEDOWNS,
        Order::Dismiss { .. } => view::SUBSCRIBERS,
        Order::Fill(_) | Order::EndFilling => view::BACKFILL,
        Order::Set(_) => view::SETTINGS,
    }
}
