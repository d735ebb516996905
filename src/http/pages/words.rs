//! Numbers and times as people read them.

use super::html::Html;
use crate::atproto::datetime;

/// `1,234,567`
pub fn grouped(n: u64) -> String {
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

/// `3 d 4 h`, `4 h 5 min`, `5 min 6 s`, `6 s`; a second part of nothing is left out below a day.
pub fn duration(seconds: u64) -> String {
    let (d, h, min, s) = (
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (d, h, min) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) if s == 0 => format!("{min} min"),
        (0, 0, _) => format!("{min} min {s} s"),
        (0, _, 0) => format!("{h} h"),
        (0, ..) => format!("{h} h {min} min"),
        _ => format!("{d} d {h} h"),
    }
}

/// `3 ms`, `450 ms`, `1.5 s`, `2 min 3 s`: a time that may be short, in milliseconds.
pub fn brief(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => duration(ms / 1_000),
    }
}

/// `1.2 GB`
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1_000 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64 / 1_000.0, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1 host`, `2 hosts`: a number of things whose name takes an `s`.
pub fn counted(n: u64, name: &str) -> String {
    match n {
        1 => format!("1 {name}"),
        n => format!("{} {name}s", grouped(n)),
    }
}

/// `5 min ago`, or `in 5 min`, with the time itself for machines and on hover. Both in milliseconds
/// since 1970.
pub fn when(at_ms: u64, now_ms: u64) -> Html {
    let exact = datetime::from_millis(at_ms);
    let words = match (now_ms / 1_000).abs_diff(at_ms / 1_000) {
        0 => "now".to_owned(),
        seconds if at_ms <= now_ms => format!("{} ago", duration(seconds)),
        seconds => format!("in {}", duration(seconds)),
    };
    let title = format!("{} {} UTC", &exact[..10], &exact[11..19]);
    let template = "<time datetime=\"{}\" title=\"{}\">{}</time>";
    Html::of(template, &[&exact, &title, &words])
}

/// The same, or words where there is no time.
pub fn when_or(at_ms: Option<u64>, now_ms: u64, none: &'static str) -> Html {
    match at_ms {
        Some(at_ms) => when(at_ms, now_ms),
        None => Html::of("<span class=\"dim\">{}</span>", &[&none]),
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
        assert_eq!(
            [0, 999, 1_500, 61_000].map(brief),
            ["0 ms", "999 ms", "1.5 s", "1 min 1 s"]
        );
        assert_eq!(
            [999, 1_000, 1_250_000, 999_960_000, u64::MAX].map(bytes),
            ["999 B", "1.0 kB", "1.2 MB", "1.0 GB", "18.4 EB"]
        );
        assert_eq!(counted(1, "host"), "1 host");
        assert_eq!(counted(1_000, "host"), "1,000 hosts");
    }

    #[test]
    fn times_are_relative_and_exact_on_hover() {
        let html = when(784_111_777_000, 784_111_777_000 + 61_000);
        assert_eq!(
            html.as_str(),
            "<time datetime=\"1994-11-06T08:49:37.000Z\" title=\"1994-11-06 08:49:37 UTC\">\
             1 min 1 s ago</time>"
        );
        assert!(when(2_000, 2_900).as_str().contains(">now<"));
        assert!(when(65_000, 0).as_str().contains(">in 1 min 5 s<"));
        assert!(when_or(None, 0, "never").as_str().contains(">never<"));
    }
}
