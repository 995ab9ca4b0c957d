//! When a request is tried again, and after how long. Every wait is bounded.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// The longest a server may ask us to wait; one that asks for more gets no further try.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How failures that may pass are met.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Tries after the first.
    pub retries: u32,
    /// Wait before the first of them; doubled each time, at most [`Retry::ceiling`].
    pub base: Duration,
    /// The longest wait of our own choice.
    pub ceiling: Duration,
}

impl Default for Retry {
    /// Five retries, as podman has, from 0.2 to 10 seconds apart: an outage of about six seconds is ridden out unnoticed.
    fn default() -> Self {
        Self { retries: 5, base: Duration::from_millis(200), ceiling: Duration::from_secs(10) }
    }
}

impl Retry {
    /// How long to wait before retry number `retry` (from 0); `asked` is what the server wants. `None` gives up.
    pub fn wait(&self, retry: u32, asked: Option<Duration>) -> Option<Duration> {
        if retry >= self.retries || asked.is_some_and(|asked| asked > LONGEST_WAIT) {
            return None;
        }
        let doubled = self.base.saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX)).min(self.ceiling);
        // Up to half as much again, so that many clients do not come back in step.
        let jitter = doubled.mul_f64(random_fraction() / 2.0);
        Some(asked.unwrap_or_default().max(doubled + jitter))
    }
}

/// Whether the status says that the same request may succeed later.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// The wait a `Retry-After` header asks for: seconds, or a date seen from `now`.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = time::OffsetDateTime::parse(value.trim(), &time::format_description::well_known::Rfc2822).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

/// A number in 0..1, different in each call; std's hash keys are random.
fn random_fraction() -> f64 {
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Tells the threads of one transfer that it is over. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the transfer.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the transfer is over.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for `duration`; false when the transfer ended meanwhile.
    pub fn sleep(&self, duration: Duration) -> bool {
        let slice = Duration::from_millis(50);
        let mut left = duration;
        while !left.is_zero() && !self.is_cancelled() {
            let nap = left.min(slice);
            std::thread::sleep(nap);
            left = left.saturating_sub(nap);
        }
        !self.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let retry = Retry { retries: 3, base: Duration::from_millis(100), ceiling: Duration::from_millis(300) };
        for (number, least) in [(0, 100), (1, 200), (2, 300)] {
            let wait = retry.wait(number, None).expect("a retry");
            assert!(wait >= Duration::from_millis(least) && wait <= Duration::from_millis(least * 3 / 2), "{wait:?}");
        }
        assert_eq!(retry.wait(3, None), None);
    }

    #[test]
    fn the_server_is_obeyed_within_reason() {
        let retry = Retry::default();
        assert_eq!(retry.wait(0, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(retry.wait(0, Some(LONGEST_WAIT + Duration::from_secs(1))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        assert_eq!(retry_after("3", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn a_cancelled_sleep_ends_at_once() {
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(!cancel.sleep(Duration::from_secs(3600)));
    }
}
