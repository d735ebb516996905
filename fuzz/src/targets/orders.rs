//! What is said to the admin API.

use super::{
    PREFIX, Request, Response,
    order::{self, Order},
    read,
};
use crate::http::{
    body,
    request::{Headers, Method},
};

type Read = fn(&Request) -> Result<Order, Response>;

/// Every method that changes something, under one of its names.
const READS: [(&str, Read); 18] = [
    ("pds/requestCrawl", read::request_crawl),
    ("pds/block", read::block),
    ("pds/unblock", read::unblock),
    ("pds/changeLimits", read::change),
    ("hosts/resetCursor", read::reset),
    ("alerts/accountLimitSent", read::alert_sent),
    ("subs/killUpstream", read::disconnect),
    ("subs/banDomain", read::ban_domain),
    ("subs/unbanDomain", read::unban_domain),
    ("subs/setEnabled", read::set_enabled),
    ("subs/setPerDayLimit", read::set_per_day_limit),
    ("settings/change", read::change_settings),
    ("repo/takeDown", read::take_down),
    ("repo/reverseTakedown", read::reverse_takedown),
    ("backfill-collections", read::begin_collections),
    ("backfill-accounts", read::begin_accounts),
    ("backfill/cancel", read::cancel),
    ("consumers/disconnect", read::dismiss),
];

/// A request to any method: the first byte says to which, a line its query, the rest its body. What is
/// read is read again from what a sibling is told, and so are a form's words from the outside.
pub fn admin(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let line = rest.iter().position(|b| *b == b'\n');
    let (query, said) = match line {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (&[][..], rest),
    };
    // Of a head that is not text there is no query.
    let Ok(query) = str::from_utf8(query) else {
        return;
    };
    let (path, read) = READS[usize::from(*which) % READS.len()];
    let _ = body::hostname(said);
    match read(&request(path, query, said)) {
        Ok(order) => read_again(&order),
        Err(answer) => {
            assert_eq!(answer.status, 400);
            let json: Result<serde_json::Value, _> = serde_json::from_slice(&answer.body);
            assert!(json.is_ok_and(|json| json["message"].is_string()));
        }
    }
}

fn request(path: &str, query: &str, body: &[u8]) -> Request {
    Request {
        method: Method::Post,
        path: format!("{PREFIX}{path}"),
        query: query.to_owned(),
        headers: Headers::default(),
        body: body.to_vec(),
        client: [192, 0, 2, 1].into(),
    }
}

fn read_again(order: &Order) {
    let page = request("console/act", "", &[]);
    let told = order::as_request(order, &page, "sesame");
    let path = told.path.strip_prefix(PREFIX).expect("an admin method");
    let found = READS.iter().find(|(known, _)| *known == path);
    let (_, read) = found.unwrap_or_else(|| panic!("{path} is in no table"));
    let again = read(&told);
    assert_eq!(again.as_ref().ok(), Some(order), "{told:?}");
    let _ = (order.subject(), order.detail(), order.is_for_siblings());
}
