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
        's' => push(out, format_args!("{}", stamp.seconds)),
        'f' => push(out, format_args!("{:06}", stamp.micros)),
        'z' => {
            let (sign, hours, minutes) = stamp.zone();
            push(out, format_args!("{sign}{hours:02}{minutes:02}"));
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
    let (year, week) = parts.iso_week();
    match letter {
        'C' => push(out, format_args!("{:02}", parts.year.div_euclid(100))),
        'd' => push(out, format_args!("{:02}", parts.day)),
        'e' => push(out, format_args!("{:2}", parts.day)),
        'g' => push(out, format_args!("{:02}", year.rem_euclid(100))),
        'G' => push(out, format_args!("{year}")),
        'H' => push(out, format_args!("{:02}", parts.hour)),
        'I' => push(out, format_args!("{twelve:02}")),
        'j' => push(out, format_args!("{:03}", parts.yearday + 1)),
        'k' => push(out, format_args!("{:2}", parts.hour)),
        'l' => push(out, format_args!("{twelve:2}")),
        'm' => push(out, format_args!("{:02}", parts.month)),
        'M' => push(out, format_args!("{:02}", parts.minute)),
        'S' => push(out, format_args!("{:02}", parts.second)),
        'u' => push(out, format_args!("{}", (parts.weekday + 6) % 7 + 1)),
        'U' => push(out, format_args!("{:02}", (parts.yearday + 7 - parts.weekday) / 7)),
        'V' => push(out, format_args!("{week:02}")),
        'w' => push(out, format_args!("{}", parts.weekday)),
        'W' => push(out, format_args!("{:02}", (parts.yearday + 7 - (parts.weekday + 6) % 7) / 7)),
        'y' => push(out, format_args!("{:02}", parts.year.rem_euclid(100))),
        'Y' => push(out, format_args!("{}", parts.year)),
        _ => {} // `parse` lets nothing else in.
    }
}

impl Parts {
    /// Year and week by ISO 8601: weeks begin on Monday, and the first one has the year's first Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let week = (self.yearday + 10 - ((self.weekday + 6) % 7 + 1)) / 7;
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

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(out, text); // a Vec takes everything
}
