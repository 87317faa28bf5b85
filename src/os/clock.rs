//! The two clocks: one that only runs (`monotonic`) and one that people set (`wall`), and the wall clock in local time.
//! Owns no timer and formats nothing. clock_gettime(2), localtime_r(3).

use std::mem::MaybeUninit;
use std::time::Duration;

use crate::ids::Moment;

/// The wall clock: time since the epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    /// Whole seconds since 1970-01-01T00:00:00Z; negative before.
    pub seconds: i64,
    /// The rest, 0 to 999,999 microseconds.
    pub micros: u32,
}

/// A wall time as people in the process's time zone read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The year, such as 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60, for leap seconds.
    pub second: u8,
    /// 0 to 999,999.
    pub micros: u32,
    /// Seconds east of UTC.
    pub offset: i32,
}

/// Now, on the clock that nobody sets: CLOCK_MONOTONIC, the same for all processes of one boot.
pub fn monotonic() -> Moment {
    let time = read(libc::CLOCK_MONOTONIC);
    Moment(Duration::new(time.tv_sec.unsigned_abs(), nanos(&time)))
}

/// Now, on the wall clock.
pub fn wall() -> WallTime {
    let time = read(libc::CLOCK_REALTIME);
    WallTime { seconds: time.tv_sec, micros: nanos(&time) / 1000 }
}

/// `wall` in the process's time zone (`TZ`, else /etc/localtime); the epoch for years that no calendar holds.
pub fn local(wall: WallTime) -> LocalTime {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the right type, and the result is only compared with null.
    let filled = unsafe { libc::localtime_r(&wall.seconds, parts.as_mut_ptr()) };
    // SAFETY: all zeros is a valid `tm`, and localtime_r wrote nothing else than valid fields.
    let parts = unsafe { parts.assume_init() };
    if filled.is_null() {
        return LocalTime {
            year: 1970,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            micros: 0,
            offset: 0,
        };
    }
    // Every field but the year and the offset is below 100 by definition of `tm`.
    let small = |field: libc::c_int| u8::try_from(field).unwrap_or(0);
    LocalTime {
        year: parts.tm_year.saturating_add(1900),
        month: small(parts.tm_mon + 1),
        day: small(parts.tm_mday),
        hour: small(parts.tm_hour),
        minute: small(parts.tm_min),
        second: small(parts.tm_sec),
        micros: wall.micros,
        offset: i32::try_from(parts.tm_gmtoff).unwrap_or(0),
    }
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec. The call fails only for unknown clocks and bad pointers, never for these two.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

fn nanos(time: &libc::timespec) -> u32 {
    u32::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_never_goes_back() {
        let first = monotonic();
        let second = monotonic();
        assert!(second >= first);
        assert!(first.0 > Duration::ZERO);
    }

    #[test]
    fn wall_is_the_time_that_std_knows() {
        let theirs = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let ours = wall().seconds;
        assert!(ours.abs_diff(theirs as i64) <= 1, "{ours} {theirs}");
    }

    #[test]
    fn local_time_and_offset_make_up_the_wall_time() {
        // 2026-11-20T08:15:35Z, whatever the zone of the machine is.
        let time = local(WallTime { seconds: 1_795_162_535, micros: 7 });
        let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second);
        let expected = (1_795_162_535 + i64::from(time.offset)).rem_euclid(86_400);
        assert_eq!((time.year, time.month, time.micros), (2026, 11, 7));
        assert_eq!(of_day, expected);
        assert!((19..=21).contains(&time.day));
    }

    #[test]
    fn an_impossible_year_is_the_epoch() {
        assert_eq!(local(WallTime { seconds: i64::MAX, micros: 5 }).year, 1970);
    }
}
