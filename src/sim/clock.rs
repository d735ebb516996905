//! The wall clock, in the forms that the protocol uses.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub fn micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_micros() as u64)
}

/// `micros` since 1970 as `2026-01-31T23:59:59.123Z`.
pub fn datetime(micros: u64) -> String {
    let (days, rest) = (micros / 86_400_000_000, micros % 86_400_000_000);
    let (hour, minute) = (rest / 3_600_000_000, rest / 60_000_000 % 60);
    let (second, milli) = (rest / 1_000_000 % 60, rest / 1_000 % 1_000);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a day counted from 1970, in the Gregorian calendar: years are counted
/// from March, so that the leap day is the last one, in eras of 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(datetime(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(datetime(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(datetime(951_868_800_000_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(datetime(1_798_761_599_123_456), "2026-12-31T23:59:59.123Z");
    }
}
