//! Values as the database has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postgres::{Row, row::RowIndex, types::FromSql};
use serde_json::Value;

use crate::control::ControlError;

/// The last millisecond of the year 9999; a later one is no time of anything that has happened.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// A time; the database keeps microseconds, so a millisecond comes back as it was.
pub(super) fn time(ms: u64) -> Result<SystemTime, ControlError> {
    match ms {
        0..=TIME_MS_MAX => Ok(UNIX_EPOCH + Duration::from_millis(ms)),
        _ => Err(ControlError::Backend(format!(
            "{ms} ms since 1970 is no time that the database can keep"
        ))),
    }
}

/// A time that there may be.
pub(super) fn time_of(ms: Option<u64>) -> Result<Option<SystemTime>, ControlError> {
    ms.map(time).transpose()
}

/// A number; half of those that do not fit a signed one of 64 bits are refused.
pub(super) fn number(value: u64) -> Result<i64, ControlError> {
    i64::try_from(value).map_err(|_| {
        ControlError::Backend(format!(
            "{value} is more than the database can keep ({})",
            i64::MAX
        ))
    })
}

/// A number that there may be.
pub(super) fn number_of(value: Option<u64>) -> Result<Option<i64>, ControlError> {
    value.map(number).transpose()
}

/// Text without the one character that the database has no place for; it means nothing in any that
/// is kept here.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A column of a row.
pub(super) fn get<'a, T: FromSql<'a>>(
    row: &'a Row,
    column: impl RowIndex + std::fmt::Display + Copy,
) -> Result<T, ControlError> {
    row.try_get(column)
        .map_err(|error| ControlError::Damaged(format!("{column}: {error}")))
}

/// A column with a time.
pub(super) fn get_ms(row: &Row, column: &str) -> Result<u64, ControlError> {
    ms(get(row, column)?, column)
}

/// A column with a time that there may be.
pub(super) fn get_ms_of(row: &Row, column: &str) -> Result<Option<u64>, ControlError> {
    let time: Option<SystemTime> = get(row, column)?;
    time.map(|time| ms(time, column)).transpose()
}

fn ms(time: SystemTime, column: &str) -> Result<u64, ControlError> {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .ok_or_else(|| ControlError::Damaged(format!("{column}: a time before 1970")))
}

/// A column with a number.
pub(super) fn get_number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T, ControlError> {
    let value: i64 = get(row, column)?;
    fit(value, column)
}

/// A column with a number that there may be.
pub(super) fn get_number_of(row: &Row, column: &str) -> Result<Option<u64>, ControlError> {
    let value: Option<i64> = get(row, column)?;
    value.map(|value| fit(value, column)).transpose()
}

fn fit<T: TryFrom<i64>>(value: i64, column: &str) -> Result<T, ControlError> {
    T::try_from(value).map_err(|_| ControlError::Damaged(format!("{column}: {value}")))
}

/// A column with JSON, selected as text.
pub(super) fn get_json(row: &Row, column: &str) -> Result<Value, ControlError> {
    let text: &str = get(row, column)?;
    serde_json::from_str(text).map_err(|error| ControlError::Damaged(format!("{column}: {error}")))
}
