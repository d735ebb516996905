//! Text that fits into so many columns of a terminal, and commands nothing. Pure.

use unicode_width::UnicodeWidthChar;

use crate::logging::escape::is_unsafe;

/// What a terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Charset {
    /// Any character.
    Unicode,
    /// Those of ASCII; `?` stands for every other.
    Ascii,
}

impl Charset {
    /// What stands where something was cut off.
    fn cut(self) -> char {
        match self {
            Charset::Unicode => '…',
            Charset::Ascii => '~',
        }
    }
}

/// Columns that a character takes, as it is shown.
fn width_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// The text without what a terminal must not be sent: control characters become `?`, and so does what
/// the character set lacks; what has no width of its own is left out, so that columns stay columns.
pub(super) fn clean(text: &str, charset: Charset) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\t' | '\n' => Some(' '),
            c if is_unsafe(c) => Some('?'),
            c if charset == Charset::Ascii && !c.is_ascii() => Some('?'),
            c if width_of(c) == 0 => None,
            c => Some(c),
        })
        .collect()
}

/// The text in exactly `columns`: cut, or filled up with spaces on the right.
pub(super) fn left(text: &str, columns: usize, charset: Charset) -> String {
    let mut out = cut(text, columns, charset);
    let missing = columns.saturating_sub(width(&out));
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// The same, filled up on the left: for numbers.
pub(super) fn right(text: &str, columns: usize, charset: Charset) -> String {
    let text = cut(text, columns, charset);
    let missing = columns.saturating_sub(width(&text));
    let mut out = " ".repeat(missing);
    out.push_str(&text);
    out
}

/// The beginning of the text that fits into `columns`, with a sign where there was more.
pub(super) fn cut(text: &str, columns: usize, charset: Charset) -> String {
    let text = clean(text, charset);
    if width(&text) <= columns {
        return text;
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        if used + width_of(c) + 1 > columns {
            break;
        }
        used += width_of(c);
        out.push(c);
    }
    if columns > 0 {
        out.push(charset.cut());
    }
    out
}

/// A number with a comma between thousands.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A rate: with one digit behind the point while that says anything.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        n if !n.is_finite() || n < 0.0 => "-".to_owned(),
        n if n < 99.95 => format!("{n:.1}"),
        n => thousands(n.round() as u64),
    }
}

/// A span of time in its largest unit: `0.3s`, `12s`, `5m`, `3h`, `2d`.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        10_000..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::{Charset::*, *};

    #[test]
    fn no_command_reaches_the_terminal() {
        let evil = "a\u{1b}[2Jb\u{9b}31m\u{7}\u{202e}x\u{200d}\r\n";
        for charset in [Unicode, Ascii] {
            let shown = cut(evil, 99, charset);
            assert_eq!(shown, "a?[2Jb?31m??x?? ");
        }
        assert_eq!(clean("e\u{301}", Unicode), "e");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(width("日本"), 4);
        assert_eq!(left("日本語", 6, Unicode), "日本語");
        assert_eq!(left("日本語", 5, Unicode), "日本…");
        // Half of a character does not fit: a space stands for it.
        assert_eq!(left("日本語", 4, Unicode), "日… ");
        assert_eq!(left("日本", 4, Ascii), "??  ");
    }

    #[test]
    fn cells_are_as_wide_as_they_should_be() {
        for columns in 0..12 {
            for text in [
                "",
                "abc",
                "abcdefghijkl",
                "äöü",
                "日本語日本語",
                "\u{1b}[0m",
            ] {
                for charset in [Unicode, Ascii] {
                    assert_eq!(width(&left(text, columns, charset)), columns, "{text:?}");
                    assert_eq!(width(&right(text, columns, charset)), columns, "{text:?}");
                }
            }
        }
        assert_eq!(right("7", 3, Ascii), "  7");
        assert_eq!(cut("abcdef", 4, Ascii), "abc~");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(
            (rate(0.0), rate(99.94), rate(99.95)),
            ("0.0".into(), "99.9".into(), "100".into())
        );
        assert_eq!(rate(12_345.6), "12,346");
        assert_eq!(rate(f64::NAN), "-");
        let spans = [340, 9_999, 10_000, 119_999, 120_000, 7_200_000, 172_800_000];
        let shown = ["0.3s", "9.9s", "10s", "119s", "2m", "2h", "2d"];
        assert_eq!(spans.map(span), shown);
    }
}
