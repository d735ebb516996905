//! Asks whether something that can do harm is to be done, and says what is known of whom it is done to.

use super::{
    Context, Order, Response, acts,
    view::{self, Sheet},
    words,
};
use crate::{
    control::HostStatus,
    http::pages::{
        html::Html,
        words::{counted, grouped},
    },
};

/// The question that the fields of a query ask for.
pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let order = acts::read(context.app, &context.query)?;
    sheet(context, &order)
}

/// The question before an order is carried out.
pub(super) fn sheet(context: &Context<'_>, order: &Order) -> Result<Sheet, Response> {
    let question = words::question(order);
    let mut main = Html::default();
    main.markup("<div class=\"card\">");
    for paragraph in &question.will {
        main.put("<p>{}</p>", &[paragraph]);
    }
    let siblings = context.app.siblings.count();
    if order.is_for_siblings() && siblings > 0 {
        let relays = counted(siblings as u64, "sibling relay");
        main.put("<p>The same is passed on to {}.</p>", &[&relays]);
    }
    main.add(&known(context, order)?);
    main.markup("</div><div class=\"acts\">");
    let label = Html::of("{}", &[&question.button]);
    main.add(&view::order_form(context, order, label, "main danger"));
    main.put(
        "<a class=\"button\" href=\"{}\">Leave it as it is</a></div>",
        &[&words::back(order, "")],
    );
    Ok(Sheet {
        title: question.title,
        lead: Html::default(),
        section: words::section(order),
        is_live: false,
        main,
    })
}

/// What is known of whom it is about.
fn known(context: &Context<'_>, order: &Order) -> Result<Html, Response> {
    let app = context.app;
    let unavailable = |error: String| super::super::unavailable(&error);
    Ok(match order {
        Order::Ban { host, .. } | Order::Disconnect { host, .. } | Order::Reset { host, .. } => {
            let detail = app.hosts.detail(host).map_err(unavailable)?;
            let detail = detail.ok_or_else(crate::http::hosts::not_found)?;
            Html::of(
                "<dl class=\"facts\"><dt>Status now</dt><dd>{}</dd><dt>Accounts</dt><dd>{}</dd>\
                 <dt>Cursor</dt><dd>{}</dd></dl>",
                &[
                    &detail.status.name(),
                    &grouped(detail.accounts),
                    &grouped(detail.cursor),
                ],
            )
        }
        Order::BanDomain { domain, .. } => {
            let details = app.hosts.details().map_err(unavailable)?;
            let below = details.iter().filter(|host| domain.covers(&host.row.name));
            let (mut hosts, mut connected, mut accounts) = (0, 0, 0_u64);
            for host in below.filter(|host| host.status != HostStatus::Banned) {
                hosts += 1;
                connected += u64::from(super::super::hosts::is_connected(host));
                accounts = accounts.saturating_add(host.accounts);
            }
            Html::of(
                "<dl class=\"facts\"><dt>Hosts that this ends</dt><dd>{}, {} of them connected</dd>\
                 <dt>Their accounts</dt><dd>{}</dd></dl>",
                &[&grouped(hosts), &grouped(connected), &grouped(accounts)],
            )
        }
        Order::Rule { did, .. } => {
            let found = app.accounts.account(did).map_err(unavailable)?;
            let (account, host) = found.ok_or_else(super::super::accounts::not_found)?;
            super::takedowns::facts(&account, host.as_ref())
        }
        Order::Dismiss { subscriber } => {
            let list = app.firehose.subscribers();
            let found = list.into_iter().find(|one| one.id == *subscriber);
            match found {
                Some(one) => Html::of(
                    "<dl class=\"facts\"><dt>Address</dt><dd class=\"mono\">{}</dd>\
                     <dt>Agent</dt><dd>{}</dd></dl>",
                    &[&one.peer.to_string(), &one.user_agent],
                ),
                None => {
                    let message = "There is no such subscriber, or it has left already";
                    return Err(Response::error(404, "SubscriberNotFound", message));
                }
            }
        }
        Order::Crawl { .. }
        | Order::Change { .. }
        | Order::Alert { .. }
        | Order::Set(_)
        | Order::Fill(_)
        | Order::EndFilling => Html::default(),
    })
}
