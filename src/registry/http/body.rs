//! Bodies of answers, read at a pace.

use super::failure::{Failure, FailureKind};
use std::io::{self, Read};
use std::time::{Duration, Instant};
use ureq::BodyReader;

/// Bytes a second that a server must manage while it is waited for. A server that sends a byte now and then never stands
/// still, and a transfer from it never ends.
const PACE: u64 = 1 << 10;

/// The body of an answer. Errors of the connection arrive as [`Failure`] or as what ureq has inside the I/O error.
pub struct Body {
    inner: BodyReader<'static>,
    /// The longest the body may be waited for without [`PACE`].
    stall: Duration,
    /// How long it was waited for, and what came, since the last time that was looked at.
    waited: Duration,
    came: u64,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("stall", &self.stall).finish_non_exhaustive()
    }
}

impl Body {
    pub(super) fn new(inner: BodyReader<'static>, stall: Duration) -> Self {
        Self { inner, stall, waited: Duration::ZERO, came: 0 }
    }

    /// Only waiting in here counts: a reader that is busy elsewhere is not the server's fault.
    fn keeps_pace(&mut self, waited: Duration, came: usize) -> bool {
        self.waited += waited;
        self.came += came as u64;
        if self.waited < self.stall {
            return true;
        }
        let enough = self.came >= self.waited.as_secs().saturating_mul(PACE);
        (self.waited, self.came) = (Duration::ZERO, 0);
        enough
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let count = self.inner.read(buffer)?;
        if count > 0 && !self.keeps_pace(begun.elapsed(), count) {
            let failure = Failure::new(FailureKind::Stalled, "data come too slowly");
            return Err(io::Error::new(io::ErrorKind::TimedOut, failure));
        }
        Ok(count)
    }
}
