//! Numbers and foreign text as a person reads them: short, and harmless to a terminal.

/// `42s`, `5m 10s`, `3h 12m`, `2d 3h`: the two greatest units.
pub fn span(seconds: u64) -> String {
    let (minute, hour, day) = (60, 3600, 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / minute, seconds % minute),
        3600..86_400 => format!("{}h {}m", seconds / hour, seconds % hour / minute),
        _ => format!("{}d {}h", seconds / day, seconds % day / hour),
    }
}

/// `0.25s`, `12.5s`, then as `span`. What is no time is `?`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked to be from 100 on, and `as` saturates.
pub fn fine_span(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => "?".into(),
        s if s < 10.0 => format!("{s:.2}s"),
        s if s < 100.0 => format!("{s:.1}s"),
        s => span(s as u64),
    }
}

/// `0.1ms`, `25ms`, then as `fine_span`.
pub fn micros(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{}ms", micros / 1000, micros % 1000 / 100),
        10_000..1_000_000 => format!("{}ms", micros / 1000),
        _ => fine_span(std::time::Duration::from_micros(micros).as_secs_f64()),
    }
}

/// `812B`, `9.8K`, `512K`, `1.2M`: powers of 1024, two or three digits.
#[allow(clippy::cast_precision_loss)] // Three digits are shown.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut scaled = bytes as f64;
    let mut unit = ' ';
    for next in ['K', 'M', 'G', 'T', 'P', 'E'] {
        if scaled < 999.5 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, next);
    }
    if scaled < 9.95 { format!("{scaled:.1}{unit}") } else { format!("{scaled:.0}{unit}") }
}

/// The text on one line, with nothing in it that moves the cursor, changes colours or turns the direction of writing.
pub fn harmless(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = |c| matches!(c, '\u{2028}' | '\u{2029}');
    lines.join("; ").replace(|c: char| c.is_control() || turns(c) || breaks(c), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_read_as_what_they_amount_to() {
        for (number, text) in
            [(0, "0.0ms"), (250, "0.2ms"), (9_999, "9.9ms"), (25_000, "25ms"), (1_250_000, "1.25s")]
        {
            assert_eq!(micros(number), text);
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (3599, "59m 59s"),
            (3600, "1h 0m"),
            (86_399, "23h 59m"),
            (86_400, "1d 0h"),
            (u64::MAX, "213503982334601d 7h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn fine_spans_lose_digits_as_they_grow() {
        for (seconds, text) in [
            (0.0, "0.00s"),
            (0.254, "0.25s"),
            (12.34, "12.3s"),
            (61.0, "61.0s"),
            (130.9, "2m 10s"),
            (f64::NAN, "?"),
            (f64::INFINITY, "?"),
            (-1.0, "?"),
        ] {
            assert_eq!(fine_span(seconds), text);
        }
    }

    #[test]
    fn sizes_keep_to_five_characters() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (10_189, "10K"),
            (1_023_000, "999K"),
            (1_024_000, "1.0M"),
            (56 * 1024 * 1024, "56M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn foreign_text_is_one_harmless_line() {
        assert_eq!(harmless("a\u{1b}[31mb\tc"), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(harmless("first\r\n\n second\n"), "first; second");
        assert_eq!(harmless("x\u{202e}y\u{2028}z\u{9b}"), "x\u{fffd}y\u{fffd}z\u{fffd}");
        assert_eq!(harmless("größe"), "größe");
    }
}
