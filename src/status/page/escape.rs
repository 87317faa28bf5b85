//! Text of anyone, written so that no form of the page breaks and no reader is deceived: markup, quotes, control characters,
//! invalid UTF-8, and marks that turn the direction of writing.

use std::fmt::Write;

/// Longer values are cut and end in `...`: a page with a row for each of many workers stays readable and bounded.
pub(super) const MAX_VALUE: usize = 1024;

/// `-` where there is nothing, as php-fpm writes it, and the start of what is too long.
pub(super) fn bounded(bytes: &[u8]) -> (&[u8], &'static str) {
    match bytes.len() {
        0 => (b"-", ""),
        len if len > MAX_VALUE => (&bytes[..MAX_VALUE], "..."),
        _ => (bytes, ""),
    }
}

/// For text and markup: what cannot be seen becomes visible, `\x0a` and `\u{202e}`.
pub(super) fn visible(out: &mut String, bytes: &[u8], mut put: impl FnMut(&mut String, char)) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                // Writing to a String cannot fail.
                c if c.is_ascii_control() => drop(write!(out, "\\x{:02x}", u32::from(c))),
                c if is_treacherous(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
                c => put(out, c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// A character reference for what is markup in HTML and XML, in text and in attributes.
pub(super) fn markup(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    }
}

/// The inside of a JSON string (RFC 8259 §7). What is not UTF-8 becomes U+FFFD.
pub(super) fn json(out: &mut String, bytes: &[u8]) {
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_ascii_control() || is_treacherous(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // a String takes everything
                }
            }
            c => out.push(c),
        }
    }
}

/// Whether a reader cannot see it, or sees something else than what is there: C1 controls, line separators, marks of
/// direction (Unicode TR 36), the byte order mark, and what XML 1.0 forbids.
fn is_treacherous(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}
