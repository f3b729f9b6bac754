//! Waiting for several descriptors with a timeout finer than a millisecond: `ppoll(2)`.

use std::time::Duration;

use rustix::event::Timespec;
pub use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::OsError;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Some entry has something to say; its `revents` say what.
    Ready,
    /// The time is over.
    TimedOut,
    /// A signal was handled.
    Interrupted,
}

/// Waits until one of `entries` has something to say or `timeout` is over (`None`: for ever). Allocates nothing.
///
/// # Errors
/// `EINVAL`: more entries than `RLIMIT_NOFILE` allows, which may have been lowered after they were opened. `ENOMEM`.
pub fn poll(entries: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<Polled, OsError> {
    let timeout = timeout.map(timespec);
    match rustix::event::poll(entries, timeout.as_ref()) {
        Ok(0) => Ok(Polled::TimedOut),
        Ok(_) => Ok(Polled::Ready),
        Err(Errno::INTR) => Ok(Polled::Interrupted),
        Err(errno) => Err(OsError::new("ppoll", errno)),
    }
}

/// Sleeps for `duration`, or until a signal was handled.
pub fn sleep(duration: Duration) {
    // The time that is left after a signal is the caller's business: it looks at the clock anyway.
    let _ = rustix::thread::nanosleep(&timespec(duration));
}

/// Times beyond what the kernel can count (292 thousand million years) become the longest it can.
fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_short_timeout_ends() {
        let before = Instant::now();
        assert_eq!(poll(&mut [], Some(Duration::from_micros(300))), Ok(Polled::TimedOut));
        assert!(before.elapsed() >= Duration::from_micros(300));
        sleep(Duration::from_micros(300));
        assert!(before.elapsed() >= Duration::from_micros(600));
    }
}
