//! A call that waits is cut short: for those that cannot be told not to, where the descriptor's own flag is not ours to set.
//! timer_create(2), signal(7) on interrupted calls.

use std::cell::OnceCell;
use std::mem;
use std::ptr;

use libc::c_int;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How soon a call ends that waits, nanoseconds; and again, should it not have begun to wait by then.
const SOON: i64 = 1_000_000;

thread_local! {
    static ALARM: OnceCell<Alarm> = const { OnceCell::new() };
}

/// A timer that interrupts this thread and no other.
struct Alarm(libc::timer_t);

/// Does a call that may wait. Where it waits, it ends with `EINTR` within about a millisecond.
///
/// # Errors
/// Those of the call; and of timer_create(2), before the call: no timer is left.
pub fn briefly<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    ALARM.with(|cell| {
        let alarm = match cell.get() {
            Some(alarm) => alarm,
            None => {
                let alarm = Alarm::new()?;
                cell.get_or_init(|| alarm)
            }
        };
        alarm.ring_every(SOON)?;
        let result = call();
        // It has rung before and can be stopped.
        let _ = alarm.ring_every(0);
        result
    })
}

impl Alarm {
    fn new() -> Result<Alarm, Errno> {
        let nothing = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing at all, so that it may run at any moment.
        unsafe { sigaction(Signal::SIGALRM, &nothing) }?;
        // SAFETY: all bytes zero are a valid sigevent: it holds numbers and unions of them.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are to live values, and the kernel copies the event.
        let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        Errno::result(made).map(|_| Alarm(timer))
    }

    /// Nanoseconds; 0 is never again.
    fn ring_every(&self, nanoseconds: i64) -> Result<(), Errno> {
        let interval = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let setting = libc::itimerspec { it_interval: interval, it_value: interval };
        // SAFETY: the timer is ours until `drop`, and the kernel copies the setting.
        let set = unsafe { libc::timer_settime(self.0, 0, &raw const setting, ptr::null_mut()) };
        Errno::result(set).map(drop)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, and nobody uses it after this.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Being called is all that it is for: the call that waits ends.
extern "C" fn nothing(_signal: c_int) {}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_call_that_waits_for_ever_does_not() {
        let (reader, _writer) = std::io::pipe().unwrap();
        for _ in 0..3 {
            let begin = Instant::now();
            let read = briefly(|| nix::unistd::read(&reader, &mut [0; 8]));
            assert_eq!(read, Err(Errno::EINTR));
            assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        }
    }

    #[test]
    fn a_call_that_does_not_wait_is_as_it_was() {
        assert_eq!(briefly(|| Ok(7)), Ok(7));
        assert_eq!(briefly(|| Err::<(), _>(Errno::EBADF)), Err(Errno::EBADF));
    }
}
