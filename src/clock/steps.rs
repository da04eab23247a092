//! Hears at once that real time was stepped, a leap second included: a timer that the kernel cancels when the clock is set
//! (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). Without it a step is seen when the clock is sampled next, up to 16 s later,
//! and what was measured between the two has the UTC of before.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use tokio::io::{Interest, unix::AsyncFd};

/// When the timer would go off: in the year 2500.
const NEVER_S: i64 = 16_725_225_600;

/// Listens for steps of real time.
#[derive(Debug)]
pub struct Steps {
    timer: Option<AsyncFd<OwnedFd>>,
}

impl Steps {
    /// Listens from now on, within a tokio runtime. A kernel that has no such timer leaves it to the samples.
    pub fn listen() -> Self {
        Self { timer: timer().inspect_err(|cause| tracing::debug!(%cause, "steps of the clock are seen late")).ok() }
    }

    /// Waits for a step. Cancel-safe: one that came and was not waited for is told next.
    pub async fn stepped(&self) {
        let Some(timer) = &self.timer else { return std::future::pending().await };
        loop {
            let read = |timer: &OwnedFd| Ok(rustix::io::read(timer, &mut [0u8; 8])?);
            match timer.async_io(Interest::READABLE, read).await {
                Err(cause) if cause.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => return,
                // It went off, in the year 2500: the next is as far away.
                Ok(_) => drop(arm(timer.get_ref())),
                // A timer that cannot be read would be asked without an end.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

fn timer() -> io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    arm(&timer)?;
    // SAFETY: the descriptor is the timer's own, open until it is dropped, and is never another.
    let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
    timer.map_err(|refused| refused.into_parts().1)
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: NEVER_S, tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)?;
    Ok(())
}
