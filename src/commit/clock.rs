//! When an image was made.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `SOURCE_DATE_EPOCH` is no number of seconds since 1970.
#[derive(Debug, thiserror::Error)]
#[error("SOURCE_DATE_EPOCH is {0:?}, expected seconds since 1970-01-01 as a whole number")]
pub struct InvalidEpoch(String);

/// The time that an image says it was made at, and the latest that its files may have.
///
/// The rules are those of reproducible-builds.org's SOURCE_DATE_EPOCH specification: the variable stands for now, and clamps
/// every time stamp that would be later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    now: OffsetDateTime,
    fixed: Option<i64>,
}

impl Clock {
    /// The clock of the machine, or the value of `SOURCE_DATE_EPOCH`, where there is one.
    pub fn new(source_date_epoch: Option<&str>) -> Result<Self, InvalidEpoch> {
        let Some(text) = source_date_epoch.filter(|text| !text.is_empty()) else {
            return Ok(Self { now: OffsetDateTime::now_utc(), fixed: None });
        };
        let invalid = || InvalidEpoch(text.to_owned());
        let seconds = text.trim().parse::<i64>().map_err(|_| invalid())?;
        let now = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| invalid())?;
        Ok(Self { now, fixed: Some(seconds) })
    }

    /// The clock that the environment of this process asks for.
    pub fn from_environment() -> Result<Self, InvalidEpoch> {
        Self::new(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())
    }

    /// The latest time that a file may have, in seconds since 1970; none when there is no bound.
    pub fn latest(&self) -> Option<i64> {
        self.fixed
    }

    /// Now, in seconds since 1970.
    pub fn seconds(&self) -> i64 {
        self.now.unix_timestamp()
    }

    /// Now, as configurations have it (RFC 3339, UTC).
    pub fn rfc3339(&self) -> String {
        // A year beyond 9999 is the only failure; such a clock is told as the epoch.
        self.now.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_fixes_the_clock() {
        let clock = Clock::new(Some("1700000000")).unwrap();
        assert_eq!((clock.latest(), clock.rfc3339().as_str()), (Some(1_700_000_000), "2023-11-14T22:13:20Z"));
        assert_eq!(Clock::new(Some("")).unwrap().latest(), None);
        assert!(Clock::new(Some("yesterday")).is_err());
        assert!(Clock::new(Some("99999999999999")).is_err());
    }
}
