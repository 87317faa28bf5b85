//! Durations, sizes and file modes as text: `250ms`, `64K`, `0660`. fpmd.toml(5), VALUES.

use std::time::Duration;

/// The longest time that a setting takes, 365 days: longer ones are mistakes in the unit.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// All of 10,000 CPUs.
const MOST_PERCENT: u32 = 1_000_000;

/// Units of time, the largest first, in milliseconds.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size, the largest first, in bytes.
const SIZES: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

/// Reads a whole number with a unit: `250ms`, `30s`, `5m`, `2h`, `1d`.
///
/// # Errors
/// A sentence that says what is right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "'{text}' is not a time; write a whole number with ms, s, m, h or d, such as \"250ms\" or \"30s\""
        )
    };
    let (digits, unit) = split(text);
    let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    within_a_year(number.checked_mul(*factor).map(Duration::from_millis), text)
}

/// The time of a bare number, which counts seconds.
///
/// # Errors
/// A sentence that names the range.
pub fn seconds(number: i64) -> Result<Duration, String> {
    within_a_year(u64::try_from(number).ok().map(Duration::from_secs), &number.to_string())
}

fn within_a_year(time: Option<Duration>, text: &str) -> Result<Duration, String> {
    time.filter(|time| *time <= LONGEST).ok_or_else(|| format!("{text} is out of range; a time is 0 to 365d"))
}

/// Writes a time in the largest unit that gives a whole number; less than a millisecond is cut off.
pub fn show_duration(time: Duration) -> String {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let whole = |(_, factor): &&(&str, u64)| milliseconds.is_multiple_of(*factor);
    match TIMES.iter().find(whole) {
        Some((unit, factor)) => format!("{}{unit}", milliseconds / factor),
        None => format!("{milliseconds}ms"),
    }
}

/// Reads a size in bytes: `64K`, `512M`, `2G`, `1T` (powers of 1,024; a `B` after the unit is allowed) or digits alone.
///
/// # Errors
/// A sentence that says what is right.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("'{text}' is not a size; write bytes or a whole number with K, M, G or T, such as \"64K\"")
    };
    let (digits, unit) = split(text);
    let unit = unit.to_ascii_uppercase();
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor = match unit.strip_suffix('B').unwrap_or(&unit) {
        "" => 1,
        name => SIZES.iter().find(|(unit, _)| *unit == name).ok_or_else(wrong)?.1,
    };
    let bytes = number.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok());
    bytes.ok_or_else(|| format!("{text} is out of range; a size is less than 8388608T"))
}

/// Writes a size in the largest unit that gives a whole number.
pub fn show_size(bytes: u64) -> String {
    let whole = |(_, factor): &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(*factor);
    match SIZES.iter().find(whole) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Reads a part of one CPU, or several: `50%`, `200%`.
///
/// # Errors
/// A sentence that says what is right.
pub fn percent(text: &str) -> Result<u32, String> {
    let wrong =
        || format!("'{text}' is not a part of a CPU; write percents of one CPU, such as \"50%\" or \"200%\"");
    let digits = text.strip_suffix('%').ok_or_else(wrong)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let percent = is_number.then(|| digits.parse().ok()).flatten().ok_or_else(wrong)?;
    // The kernel takes no less than 1 ms of the 100 ms that it counts by.
    if (1..=MOST_PERCENT).contains(&percent) {
        Ok(percent)
    } else {
        Err(format!("{text} is out of range; it is 1% to {MOST_PERCENT}%"))
    }
}

/// Writes a part of one CPU.
pub fn show_percent(percent: u32) -> String {
    format!("{percent}%")
}

/// Reads permission bits in octal: `0660`, `660`, `0o660`.
///
/// # Errors
/// A sentence that says what is right.
pub fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let bits = octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
    bits.filter(|bits| *bits <= 0o777)
        .ok_or_else(|| format!("'{text}' is not a mode; write octal digits from \"0000\" to \"0777\""))
}

/// Writes permission bits with four octal digits.
pub fn show_mode(bits: u32) -> String {
    format!("{bits:04o}")
}

/// Digits first, then whatever follows them.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_of_a_cpu_are_percents() {
        for (text, value) in [("1%", 1), ("50%", 50), ("200%", 200), ("1000000%", 1_000_000)] {
            assert_eq!(percent(text), Ok(value));
            assert_eq!(show_percent(value), text);
        }
        for bad in ["", "%", "50", "5.5%", "-5%", "+5%", "50 %", "99999999999%"] {
            assert!(percent(bad).expect_err(bad).contains("is not a part of a CPU"), "{bad}");
        }
        assert_eq!(percent("0%"), Err("0% is out of range; it is 1% to 1000000%".to_owned()));
    }

    #[test]
    fn times_are_read_in_every_unit() {
        let cases = [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("365d"), Ok(LONGEST));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in ["", "s", "30", "1.5s", "-1s", "+1s", "30 s", "30S", "30sec", "1m30s", " 1s", "1w", "٣s"]
        {
            let message = duration(text).expect_err(text);
            assert!(message.starts_with(&format!("'{text}' is not a time; write")), "{message}");
        }
        for text in ["366d", "18446744073709551615d"] {
            assert_eq!(duration(text), Err(format!("{text} is out of range; a time is 0 to 365d")));
        }
        assert_eq!(seconds(-1), Err("-1 is out of range; a time is 0 to 365d".to_owned()));
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases =
            [("0", 0), ("4096", 4096), ("64K", 65_536), ("64k", 65_536), ("64KB", 65_536), ("2G", 2 << 30)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "1.5K", "-1", "1 K", "1KiB", "1X", "99999999999999999999"] {
            assert!(size(text).expect_err(text).starts_with(&format!("'{text}' is not a size; write")));
        }
        assert_eq!(
            size("8388608T"),
            Err("8388608T is out of range; a size is less than 8388608T".to_owned())
        );
    }

    #[test]
    fn modes_are_octal() {
        for (text, bits) in [("0660", 0o660), ("660", 0o660), ("0o777", 0o777), ("0", 0)] {
            assert_eq!(mode(text), Ok(bits), "{text}");
        }
        for text in ["", "0888", "1777", "-1", "+7", "rw-", "00000000000000001000"] {
            assert!(mode(text).is_err(), "{text}");
        }
        assert_eq!(show_mode(0o7), "0007");
    }

    proptest! {
        #[test]
        fn a_shown_time_is_read_back(milliseconds in 0u64..=31_536_000_000) {
            let time = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        }

        #[test]
        fn a_shown_size_is_read_back(bytes in 0u64..=i64::MAX as u64, shift in 0u32..50) {
            let bytes = bytes >> shift << (shift / 10 * 10);
            if i64::try_from(bytes).is_ok() {
                prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            }
        }

        #[test]
        fn a_shown_mode_is_read_back(bits in 0u32..=0o777) {
            prop_assert_eq!(mode(&show_mode(bits)), Ok(bits));
        }

        #[test]
        fn no_text_breaks_a_reader(text in ".{0,24}") {
            let _ = (duration(&text), size(&text), mode(&text));
        }
    }
}
