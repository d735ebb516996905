//! Datetimes: the intersection of RFC 3339 and ISO 8601
//! (<https://atproto.com/specs/lexicon#datetime>).

use std::fmt;

/// The longest datetime, in bytes.
pub const LEN_MAX: usize = 64;
/// The most digits of a fraction of a second.
const FRACTION_DIGITS_MAX: usize = 20;

/// Why text is not a datetime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DatetimeError;

impl fmt::Display for DatetimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a datetime such as 1985-04-12T23:20:50.123Z")
    }
}

impl std::error::Error for DatetimeError {}

/// Whether `text` is a datetime: four digits of year, upper-case `T` and `Z`, seconds, a time zone
/// that is not `-00:00`, a day and time that exist (a leap second may), and not before the year 0.
pub fn check(text: &str) -> Result<(), DatetimeError> {
    if text.len() <= LEN_MAX && is_datetime(text.as_bytes()).is_some() {
        Ok(())
    } else {
        Err(DatetimeError)
    }
}

/// A time in milliseconds since 1970 as `2026-01-31T23:59:59.123Z`.
pub fn from_millis(millis: u64) -> String {
    let (seconds, milli) = (millis / 1_000, millis % 1_000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// A datetime of 1970 or later, in milliseconds since then; less than a millisecond is cut off.
pub fn to_millis(text: &str) -> Option<u64> {
    check(text).ok()?;
    let text = text.as_bytes();
    let number = |at: usize| two(*text.get(at)?, *text.get(at + 1)?).map(i64::from);
    let days = days_since_1970(number(0)? * 100 + number(2)?, number(5)?, number(8)?);
    let seconds = number(11)? * 3_600 + number(14)? * 60 + number(17)?;
    let rest = text.get(19..)?;
    let zone = after_fraction(rest)?;
    let fraction = rest.get(1..rest.len() - zone.len()).unwrap_or_default();
    let millis = (0..3).fold(0, |millis, at| {
        millis * 10 + fraction.get(at).map_or(0, |digit| i64::from(digit - b'0'))
    });
    let behind = match *zone {
        [sign, h0, h1, _, m0, m1] => {
            let minutes = i64::from(two(h0, h1)? * 60 + two(m0, m1)?);
            if sign == b'+' { -minutes } else { minutes }
        }
        _ => 0,
    };
    u64::try_from((days * 86_400 + seconds + behind * 60) * 1_000 + millis).ok()
}

/// The opposite of [`civil`], also for days before 1970.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of the month of a day counted from 1970.
///
/// Counted from 1 March of the year 0, so that the leap day is the last of its year:
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
pub fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

fn is_datetime(text: &[u8]) -> Option<()> {
    let (clock, rest) = text.split_at_checked(19)?;
    let [
        y0,
        y1,
        y2,
        y3,
        b'-',
        m0,
        m1,
        b'-',
        d0,
        d1,
        b'T',
        h0,
        h1,
        b':',
        n0,
        n1,
        b':',
        s0,
        s1,
    ] = *clock
    else {
        return None;
    };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(m0, m1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(n0, n1)?, two(s0, s1)?);
    let exists = (1..=12).contains(&month)
        && (1..=days_of(month, year)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    let ahead = zone(after_fraction(rest)?)?;
    // East of Greenwich, the first hours of the year 0 are still the year before.
    let before_year_zero = (year, month, day) == (0, 1, 1) && hour * 60 + minute < ahead;
    (exists && !before_year_zero).then_some(())
}

/// What follows the optional fraction of a second.
fn after_fraction(text: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = text.strip_prefix(b".") else {
        return Some(text);
    };
    let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    (1..=FRACTION_DIGITS_MAX)
        .contains(&digits)
        .then(|| &fraction[digits..])
}

/// How many minutes the zone is ahead of UTC; 0 for one that is behind.
fn zone(text: &[u8]) -> Option<u32> {
    match *text {
        [b'Z'] => Some(0),
        [b'-', b'0', b'0', b':', b'0', b'0'] => None,
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            let ahead = if sign == b'+' {
                hours * 60 + minutes
            } else {
                0
            };
            (hours <= 23 && minutes <= 59).then_some(ahead)
        }
        _ => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<u32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}

fn days_of(month: u32, year: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_datetimes() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_599_500, "2024-12-31T23:59:59.500Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(from_millis(millis), text);
            assert_eq!(check(text), Ok(()));
        }
    }

    #[test]
    fn days_and_times_must_exist() {
        for good in [
            "2026-01-01T00:00:00Z",
            "2024-02-29T23:59:60.5+01:45",
            "2000-02-29T00:00:00-07:00",
            "0000-01-01T01:00:00+01:00",
            "2026-01-01T00:00:00.12345678901234567890Z",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00-00:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.123456789012345678901Z",
            "0000-01-01T00:59:59+01:00",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00\u{e9}",
            "",
        ] {
            assert_eq!(check(bad), Err(DatetimeError), "{bad}");
        }
    }

    #[test]
    fn a_datetime_is_a_moment_whatever_its_zone() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:00:00.5+01:00", 500),
            ("1994-11-06T08:49:37.089Z", 784_111_777_089),
            ("1994-11-06T08:49:37.0899999Z", 784_111_777_089),
            ("2000-02-28T19:00:00-05:00", 951_782_400_000),
        ] {
            assert_eq!(to_millis(text), Some(millis), "{text}");
        }
        for millis in [0, 1, 951_782_399_999, 951_868_800_000, 4_102_444_800_000] {
            assert_eq!(to_millis(&from_millis(millis)), Some(millis));
        }
        assert_eq!(to_millis("1969-12-31T23:59:59Z"), None);
        assert_eq!(to_millis("1970-01-01T00:00:00+00:01"), None);
        assert_eq!(to_millis("yesterday"), None);
    }
}
