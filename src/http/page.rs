//! The front page, for people: as text, and for browsers as HTML that refreshes itself.

use std::fmt::Write;

use super::{status::Snapshot, subscribe};
use crate::reject::Reject;

/// Seconds between two looks of a browser.
const REFRESH_SECONDS: u32 = 2;

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--dim:#656d76;--line:#d8dee4}\
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--dim:#8d96a0;--line:#30363d}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);\
max-width:44rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1rem;margin:2rem 0 .5rem}p{color:var(--dim)}\
code{font-size:.9em}a{color:inherit}\
table{border-collapse:collapse;width:100%}\
td{border-top:1px solid var(--line);padding:.35rem 0}\
td:last-child{text-align:right;font-variant-numeric:tabular-nums}";

/// The page for terminals.
pub(super) fn text(now: &Snapshot) -> String {
    format!(
        "zlay {}, an AT Protocol relay\n\n\
         firehose  {}\n\
         status    /status.json\n\
         health    /xrpc/_health\n\n\
         up {}, {} hosts connected, {} events, {:.1} a second, {} subscribers\n\
         replay from seq {} to {}\n",
        now.version,
        subscribe::PATH,
        duration(now.uptime_seconds),
        grouped(now.hosts_connected),
        grouped(now.events_sequenced),
        now.events_per_second,
        grouped(now.subscribers),
        now.oldest_seq,
        now.last_seq,
    )
}

/// The page for browsers. Everything in it is a number or a name of our own.
pub(super) fn html(now: &Snapshot) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=refresh content={REFRESH_SECONDS}>\
         <title>zlay relay</title><style>{STYLE}</style>\
         <h1>zlay</h1><p>An AT Protocol relay, version {}. The firehose is at <code>{}</code>; \
         this page as JSON is <a href=/status.json>status.json</a>.</p><table>",
        now.version,
        subscribe::PATH,
    );
    let rows = [
        ("Uptime", duration(now.uptime_seconds)),
        ("Hosts connected", grouped(now.hosts_connected)),
        ("Events sequenced", grouped(now.events_sequenced)),
        ("Events a second", format!("{:.1}", now.events_per_second)),
        ("Last seq", grouped(now.last_seq)),
        ("Oldest seq that can be replayed", grouped(now.oldest_seq)),
        ("Subscribers", grouped(now.subscribers)),
        ("Events rejected", grouped(now.rejected_total)),
    ];
    for (name, value) in rows {
        // Writing to a string does not fail.
        let _ = write!(page, "<tr><td>{name}<td>{value}");
    }
    page.push_str("</table><h2>Rejected by reason</h2><table>");
    let reasons = Reject::ALL.iter().map(|reject| {
        let count = now.rejected.get(reject.name()).copied();
        (reject, count.unwrap_or(0))
    });
    for (reject, count) in reasons.filter(|(_, count)| *count > 0) {
        let meaning = marked_up(reject.meaning());
        let count = grouped(count);
        let _ = write!(page, "<tr><td><code>{reject}</code> {meaning}<td>{count}");
    }
    page.push_str("</table>");
    page
}

/// What a browser may load for the page: nothing.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A text of ours as HTML; what is between backticks is code.
fn marked_up(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let mut out = String::with_capacity(escaped.len() + 26);
    for (i, part) in escaped.split('`').enumerate() {
        match i % 2 {
            0 => out.push_str(part),
            _ => out.extend(["<code>", part, "</code>"]),
        }
    }
    out
}

/// `1,234,567`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3 d 4 h`, `4 h 5 min`, `5 min 6 s`, `6 s`
fn duration(seconds: u64) -> String {
    let (d, h, min, s) = (
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (d, h, min) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{min} min {s} s"),
        (0, ..) => format!("{h} h {min} min"),
        _ => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(3_599), "59 min 59 s");
        assert_eq!(duration(86_399), "23 h 59 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
