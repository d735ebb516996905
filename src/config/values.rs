//! How values are written on the command line and in variables; an error is for the operator.

use std::time::Duration;

use crate::limits::{TOP_INTERVAL_MAX, TOP_INTERVAL_MIN};

/// A port.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        if text.starts_with("tcp://") {
            "looks like a variable that Kubernetes injects for a Service named `relay`; set \
             `enableServiceLinks: false` on the pod"
                .to_owned()
        } else {
            "not a port (0 to 65535)".to_owned()
        }
    })
}

/// A span of time with a unit, in seconds without one.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let ms_per_unit = match &text[number.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        _ => return Err("not a time such as 500ms, 1s or 1m".to_owned()),
    };
    let n: u64 = number
        .parse()
        .map_err(|_| "not a time such as 500ms, 1s or 1m".to_owned())?;
    let interval = Duration::from_millis(n.saturating_mul(ms_per_unit));
    match (TOP_INTERVAL_MIN..=TOP_INTERVAL_MAX).contains(&interval) {
        true => Ok(interval),
        false => Err(format!(
            "not between {TOP_INTERVAL_MIN:?} and {TOP_INTERVAL_MAX:?}"
        )),
    }
}

/// A URL of a server, without a slash at its end.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("not an http:// or https:// URL".to_owned()),
    }
}

/// The longest name or address that is shown on pages, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// A name to show.
pub(super) fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.is_empty() || text.len() > SHOWN_BYTES_MAX || text.chars().any(char::is_control) {
        true => Err(format!(
            "not a name of 1 to {SHOWN_BYTES_MAX} bytes in one line"
        )),
        false => Ok(text.to_owned()),
    }
}

/// An address that a page may link to: no other scheme, so that it can be no script.
pub(super) fn page_url(text: &str) -> Result<String, String> {
    let url = http_url(text.trim())?;
    match url.len() > SHOWN_BYTES_MAX || url.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        true => Err(format!(
            "not a URL of at most {SHOWN_BYTES_MAX} bytes without spaces"
        )),
        false => Ok(url),
    }
}

/// `mailto:`, `https:` or `http:`; an address of mail without `mailto:` gets it.
pub(super) fn contact(text: &str) -> Result<String, String> {
    let text = text.trim();
    let mail = text.strip_prefix("mailto:").unwrap_or(text);
    let is_mail = |(user, host): (&str, &str)| {
        let strange = |c: char| c.is_whitespace() || c.is_control() || "<>\"?#&%:/,;".contains(c);
        !user.is_empty() && host.contains('.') && !mail.contains(strange) && !host.contains('@')
    };
    if mail.len() <= SHOWN_BYTES_MAX && mail.split_once('@').is_some_and(is_mail) {
        return Ok(format!("mailto:{mail}"));
    }
    page_url(text).map_err(|_| "neither an address of mail nor an http(s):// URL".to_owned())
}

/// A number of bytes, with a unit or without.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..]
        .to_ascii_lowercase()
        .trim_end_matches("ib")
    {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        unit => return Err(format!("unknown unit {unit:?}; use K, M, G or T")),
    };
    let n: u64 = digits
        .parse()
        .map_err(|_| "not a number of bytes".to_owned())?;
    n.checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_a_unit() {
        let ms = |text| interval(text).map(|interval| interval.as_millis());
        assert_eq!(
            (ms("500ms"), ms("2"), ms("3s"), ms("1m")),
            (Ok(500), Ok(2_000), Ok(3_000), Ok(60_000))
        );
        for wrong in [
            "",
            "s",
            "0s",
            "1h",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "9999m",
            "1ms",
        ] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
