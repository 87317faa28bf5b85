//! A time on the wall clock as a plain value, and how it is written: strftime(3) in the C locale, without a clock, a time
//! zone file or the C library. What would write a line break, or needs a zone's name, is refused when a format is read.

/// A point of wall-clock time with the local offset that holds then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Whole seconds since 1970-01-01T00:00:00Z; negative before.
    pub seconds: i64,
    /// The rest, 0 to 999,999 microseconds.
    pub micros: u32,
    /// Seconds east of UTC, less than a day either way.
    pub offset: i32,
}

/// php-fpm's form of a time in the status page and, by default, in the access log: `20/Nov/2026:08:19:21 +0000`.
pub const COMMON: &str = "%d/%b/%Y:%H:%M:%S %z";

/// php-fpm's form of a time in its logs: `20-Nov-2026 08:19:23`.
pub const LOGGED: &str = "%d-%b-%Y %H:%M:%S";

/// RFC 3339 with microseconds; the offset is added by `Stamp::rfc3339`, since strftime has no colon in its own.
const DATE_AND_TIME: &str = "%Y-%m-%dT%H:%M:%S.%f";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Every conversion that `TimeFormat` knows: those of strftime(3) that stay on one line and need no zone's name, and
/// `%f`, the microseconds in six digits.
const CONVERSIONS: &str = "%aAbBcCdDeFfgGhHIjklmMpPrRsSTuUVwWxXyYz";

/// A format of strftime(3), read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Conversion(char),
}

/// A stamp on the calendar and the clock of its offset.
struct Parts {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
    /// 0 is Sunday.
    weekday: i64,
    /// 0 to 365.
    yearday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Stamp {
    /// As `format`, one of this module's, says.
    pub fn text(&self, format: &str) -> String {
        let mut out = Vec::new();
        put(&mut out, self, &self.parts(), format);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// `2026-11-20T08:19:21.000123+01:00` (RFC 3339).
    pub fn rfc3339(&self) -> String {
        let (sign, hours, minutes) = self.zone();
        format!("{}{sign}{hours:02}:{minutes:02}", self.text(DATE_AND_TIME))
    }

    fn zone(&self) -> (char, u32, u32) {
        let minutes = self.offset.unsigned_abs() / 60;
        (if self.offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }

    /// The proleptic Gregorian calendar, counted in its cycles of 400 years (146,097 days) from a 1st of March, so that the
    /// leap day is a year's last day.
    fn parts(&self) -> Parts {
        let local = self.seconds.saturating_add(self.offset.into());
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let since_march_0 = days + 719_468;
        let (cycle, day_of_cycle) = (since_march_0.div_euclid(146_097), since_march_0.rem_euclid(146_097));
        let year_of_cycle =
            (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
        let day_from_march = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
        let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        let yearday = if month > 2 { day_from_march + 59 + leap } else { day_from_march - 306 };
        Parts {
            year,
            month,
            day: day_from_march - (153 * month_from_march + 2) / 5 + 1,
            weekday: (days + 4).rem_euclid(7),
            yearday,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }
}

impl TimeFormat {
    /// # Errors
    /// Which conversion is unknown, or that a control character stands in the format.
    pub fn parse(text: &str) -> Result<TimeFormat, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c.is_control() {
                return Err(format!("a time format is one line of text, not '{}'", text.escape_debug()));
            }
            if c != '%' {
                literal.push(c);
                continue;
            }
            match chars.next() {
                Some(letter) if CONVERSIONS.contains(letter) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Conversion(letter));
                }
                Some('Z') => return Err("a time format has no zone's name (%Z); %z writes +0100".into()),
                Some(letter) => {
                    return Err(format!("'%{}' is no conversion of a time", letter.escape_debug()));
                }
                None => return Err("a time format does not end in '%'; a percent sign is '%%'".into()),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(TimeFormat(pieces))
    }

    /// Appends `stamp`.
    pub fn write(&self, stamp: &Stamp, out: &mut Vec<u8>) {
        let parts = stamp.parts();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Conversion(letter) => convert(out, stamp, &parts, *letter),
            }
        }
    }
}

/// `format` is one of ours: its conversions are known.
fn put(out: &mut Vec<u8>, stamp: &Stamp, parts: &Parts, format: &str) {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('%', Some(letter)) => {
                chars.next();
                convert(out, stamp, parts, letter);
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn convert(out: &mut Vec<u8>, stamp: &Stamp, parts: &Parts, letter: char) {
    match letter {
        'a' | 'A' | 'b' | 'B' | 'h' | 'p' | 'P' => name(out, parts, letter),
        'c' => put(out, stamp, parts, "%a %b %e %H:%M:%S %Y"),
        'D' | 'x' => put(out, stamp, parts, "%m/%d/%y"),
        'F' => put(out, stamp, parts, "%Y-%m-%d"),
        'r' => put(out, stamp, parts, "%I:%M:%S %p"),
        'R' => put(out, stamp, parts, "%H:%M"),
        'T' | 'X' => put(out, stamp, parts, "%H:%M:%S"),
        's' => padded(out, stamp.seconds, 1, b'0'),
        'f' => padded(out, stamp.micros.into(), 6, b'0'),
        'z' => {
            let (sign, hours, minutes) = stamp.zone();
            out.push(sign as u8);
            padded(out, hours.into(), 2, b'0');
            padded(out, minutes.into(), 2, b'0');
        }
        '%' => out.push(b'%'),
        _ => number(out, parts, letter),
    }
}

fn name(out: &mut Vec<u8>, parts: &Parts, letter: char) {
    let of = |names: &[&'static str], index: i64| {
        usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("?")
    };
    let (day, month) = (of(&DAYS, parts.weekday), of(&MONTHS, parts.month - 1));
    let noon = usize::from(parts.hour >= 12);
    let text = match letter {
        'A' => day,
        'a' => day.get(..3).unwrap_or(day),
        'B' => month,
        'P' => ["am", "pm"][noon],
        'p' => ["AM", "PM"][noon],
        _ => month.get(..3).unwrap_or(month),
    };
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, parts: &Parts, letter: char) {
    let twelve = (parts.hour + 11) % 12 + 1;
    let monday = (parts.weekday + 6) % 7;
    let (value, width, fill) = match letter {
        'C' => (parts.year.div_euclid(100), 2, b'0'),
        'd' => (parts.day, 2, b'0'),
        'e' => (parts.day, 2, b' '),
        'g' => (parts.iso_week().0.rem_euclid(100), 2, b'0'),
        'G' => (parts.iso_week().0, 1, b'0'),
        'H' => (parts.hour, 2, b'0'),
        'I' => (twelve, 2, b'0'),
        'j' => (parts.yearday + 1, 3, b'0'),
        'k' => (parts.hour, 2, b' '),
        'l' => (twelve, 2, b' '),
        'm' => (parts.month, 2, b'0'),
        'M' => (parts.minute, 2, b'0'),
        'S' => (parts.second, 2, b'0'),
        'u' => (monday + 1, 1, b'0'),
        'U' => ((parts.yearday + 7 - parts.weekday) / 7, 2, b'0'),
        'V' => (parts.iso_week().1, 2, b'0'),
        'w' => (parts.weekday, 1, b'0'),
        'W' => ((parts.yearday + 7 - monday) / 7, 2, b'0'),
        'y' => (parts.year.rem_euclid(100), 2, b'0'),
        'Y' => (parts.year, 1, b'0'),
        _ => return, // `parse` lets nothing else in.
    };
    padded(out, value, width, fill);
}

impl Parts {
    /// Year and week by ISO 8601: weeks begin on Monday, and the first one has the year's first Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let week = (self.yearday + 11 - ((self.weekday + 6) % 7 + 1)) / 7;
        if week < 1 {
            (self.year - 1, weeks_of(self.year - 1))
        } else if week > weeks_of(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }
}

/// 53 in years that begin on a Thursday, or end on one.
fn weeks_of(year: i64) -> i64 {
    let last_weekday =
        |year: i64| (year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400)).rem_euclid(7);
    if last_weekday(year) == 4 || last_weekday(year - 1) == 3 { 53 } else { 52 }
}

/// Decimal digits with `fill` before them, up to `width`. By hand: the formatting of the standard library is several times
/// slower, and this runs for each request that is logged.
fn padded(out: &mut Vec<u8>, value: i64, width: usize, fill: u8) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [fill; 20];
    let mut first = digits.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] = b"0123456789"[(rest % 10) as usize];
        rest /= 10;
    }
    out.extend_from_slice(&digits[first.min(digits.len() - width)..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64, offset: i32) -> Stamp {
        Stamp { seconds, micros: 123, offset }
    }

    fn formatted(format: &str, stamp: Stamp) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format).unwrap().write(&stamp, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn php_fpm_writes_times_like_that() {
        let stamp = at(1_795_162_761, 0);
        assert_eq!(stamp.text(COMMON), "20/Nov/2026:08:19:21 +0000");
        assert_eq!(stamp.text(LOGGED), "20-Nov-2026 08:19:21");
        assert_eq!(at(1_795_162_761, -12_600).text(COMMON), "20/Nov/2026:04:49:21 -0330");
        assert_eq!(at(1_795_162_761, 20_700).rfc3339(), "2026-11-20T14:04:21.000123+05:45");
    }

    /// The expected texts are those of `LC_ALL=C TZ=UTC date -d @SECONDS +FORMAT`.
    #[test]
    fn every_conversion_agrees_with_strftime() {
        let all = "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F|%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%p|%P|%r|%R|%s|%S|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%z|%%";
        for (seconds, wanted) in [
            (
                0,
                "Thu|Thursday|Jan|January|Thu Jan  1 00:00:00 1970|19|01|01/01/70| 1|1970-01-01|70|1970|Jan|00|12|001| 0|12|01|00|AM|am|12:00:00 AM|00:00|0|00|00:00:00|4|00|01|4|00|01/01/70|00:00:00|70|1970|+0000|%",
            ),
            (
                1_709_211_599,
                "Thu|Thursday|Feb|February|Thu Feb 29 12:59:59 2024|20|29|02/29/24|29|2024-02-29|24|2024|Feb|12|12|060|12|12|02|59|PM|pm|12:59:59 PM|12:59|1709211599|59|12:59:59|4|08|09|4|09|02/29/24|12:59:59|24|2024|+0000|%",
            ),
            (
                1_230_681_600,
                "Wed|Wednesday|Dec|December|Wed Dec 31 00:00:00 2008|20|31|12/31/08|31|2008-12-31|09|2009|Dec|00|12|366| 0|12|12|00|AM|am|12:00:00 AM|00:00|1230681600|00|00:00:00|3|52|01|3|52|12/31/08|00:00:00|08|2008|+0000|%",
            ),
            (
                1_262_476_800,
                "Sun|Sunday|Jan|January|Sun Jan  3 00:00:00 2010|20|03|01/03/10| 3|2010-01-03|09|2009|Jan|00|12|003| 0|12|01|00|AM|am|12:00:00 AM|00:00|1262476800|00|00:00:00|7|01|53|0|00|01/03/10|00:00:00|10|2010|+0000|%",
            ),
        ] {
            assert_eq!(formatted(all, at(seconds, 0)), wanted);
        }
        assert_eq!(formatted("<%f>", at(-1, 0)), "<000123>");
    }

    #[test]
    fn a_format_that_forges_lines_or_is_unknown_is_refused() {
        for bad in ["%", "a%", "%n", "%t", "%Z", "%E", "%Ey", "%é", "a\nb", "\t", "%\n"] {
            let fault = TimeFormat::parse(bad).unwrap_err();
            assert!(!fault.contains(char::is_control), "{fault}");
        }
        assert_eq!(TimeFormat::parse("%Q").unwrap_err(), "'%Q' is no conversion of a time");
    }

    proptest! {
        #[test]
        fn days_follow_each_other(day in -4_000_000i64..4_000_000) {
            let parts = |day: i64| at(day * 86_400 + 86_399, 0).parts();
            let (today, next) = (parts(day), parts(day + 1));
            prop_assert_eq!(next.weekday, (today.weekday + 1) % 7);
            prop_assert_eq!((today.hour, today.minute, today.second), (23, 59, 59));
            let same_month = (next.year, next.month, next.day) == (today.year, today.month, today.day + 1);
            let next_month = (next.year, next.month, next.day) == (today.year, today.month + 1, 1);
            let next_year = (next.year, next.month, next.day) == (today.year + 1, 1, 1);
            prop_assert!(same_month && today.day < 31 || next_month && today.day > 27 || next_year && today.month == 12);
            prop_assert_eq!(next.yearday, if next_year { 0 } else { today.yearday + 1 });
        }

        #[test]
        fn any_time_in_any_format_is_one_line(seconds: i64, micros in 0u32..1_000_000, offset: i32, format in "(%[a-zA-Z%]|[ -~é])*") {
            if let Ok(read) = TimeFormat::parse(&format) {
                let mut out = Vec::new();
                read.write(&Stamp { seconds, micros, offset }, &mut out);
                prop_assert!(!String::from_utf8(out).unwrap().contains(char::is_control));
            }
        }
    }
}
