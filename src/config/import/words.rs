//! php-fpm's values as text: truths, whole numbers, times. Stricter than php-fpm in one thing: what it silently cuts off,
//! as in `1.5s` or `10 seconds`, is said.

/// `yes`, `no` and their relatives.
///
/// # Errors
/// A sentence that says what is right.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "" | "0" | "no" | "none" | "false" | "off" => Ok(false),
        _ => Err(format!("'{text}' is neither yes nor no")),
    }
}

/// A whole number, perhaps a negative one.
///
/// # Errors
/// A sentence that says what is right.
pub(super) fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a whole number"))
}

/// A time in seconds.
///
/// # Errors
/// A sentence that says what is right.
pub(super) fn time(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is not a time; php-fpm has whole numbers with s, m, h or d");
    let (digits, factor) = match text.char_indices().last().ok_or_else(wrong)? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 60 * 60),
        (at, 'd') => (&text[..at], 24 * 60 * 60),
        _ => (text, 1),
    };
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|seconds| *seconds >= 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_php_fpm_s() {
        assert_eq!([flag("Yes"), flag("0"), flag("")], [Ok(true), Ok(false), Ok(false)]);
        assert!(flag("maybe").is_err());
        assert_eq!([number("-1"), number("50")], [Ok(-1), Ok(50)]);
        assert!(number("50M").is_err());
        assert_eq!([time("30"), time("30s"), time("5m"), time("1d")], [Ok(30), Ok(30), Ok(300), Ok(86_400)]);
        for text in ["", "s", "1.5s", "-1", "10 s", "1w"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
