//! strtol(3) in the C locale, because the old command line takes numbers as that function does: leading blanks, signs,
//! anything behind the digits, saturation; and then cuts them to the width that they are stored in.

/// The number at the start of `text` in `base` (2 to 10; no prefix is known), and what stands behind it. Without a digit it is
/// 0 with all of `text` behind it.
pub fn leading_number(text: &[u8], base: u8) -> (i64, &[u8]) {
    let blanks = text.iter().take_while(|b| matches!(b, b' ' | b'\t'..=b'\r')).count();
    let unsigned = &text[blanks..];
    let (negative, digits) = match unsigned.first() {
        Some(b'-') => (true, &unsigned[1..]),
        Some(b'+') => (false, &unsigned[1..]),
        _ => (false, unsigned),
    };
    let length = digits.iter().take_while(|b| b.is_ascii_digit() && *b - b'0' < base).count();
    if length == 0 {
        return (0, text);
    }
    // Counted downwards: the least number has no positive counterpart.
    let value = digits[..length]
        .iter()
        .try_fold(0_i64, |sum, b| sum.checked_mul(i64::from(base))?.checked_sub(i64::from(b - b'0')));
    let value = match (negative, value) {
        (true, value) => value.unwrap_or(i64::MIN),
        (false, value) => value.and_then(i64::checked_neg).unwrap_or(i64::MAX),
    };
    (value, &digits[length..])
}

/// The number, cut to a C `int`.
pub fn int(text: &[u8]) -> i32 {
    low_bits(leading_number(text, 10).0) as i32
}

/// The low 32 bits, as C stores a `long` in an `unsigned`.
pub fn low_bits(value: i64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_strtol_reads() {
        let cases: [(&str, u8, i64, &str); 16] = [
            ("", 10, 0, ""),
            (" ", 10, 0, " "),
            ("x1", 10, 0, "x1"),
            ("-", 10, 0, "-"),
            ("+-1", 10, 0, "+-1"),
            ("80", 10, 80, ""),
            (" \t\n\u{b}\u{c}\r80", 10, 80, ""),
            ("+80x", 10, 80, "x"),
            ("-1 ", 10, -1, " "),
            ("9223372036854775807", 10, i64::MAX, ""),
            ("9223372036854775808", 10, i64::MAX, ""),
            ("-9223372036854775808", 10, i64::MIN, ""),
            ("-99999999999999999999z", 10, i64::MIN, "z"),
            ("0660", 8, 0o660, ""),
            ("668", 8, 0o66, "8"),
            ("0x10", 8, 0, "x10"),
        ];
        for (text, base, value, behind) in cases {
            assert_eq!(leading_number(text.as_bytes(), base), (value, behind.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn an_int_keeps_the_low_bits() {
        assert_eq!(int(b"3"), 3);
        assert_eq!(int(b"many"), 0);
        assert_eq!(int(b"4294967297"), 1);
        assert_eq!(int(b"99999999999999999999"), -1);
        assert_eq!(int(b"2147483648"), i32::MIN);
    }
}
