//! Text of anyone, written so that no page, line or block of ours breaks or is forged, and no reader is deceived: markup,
//! quotes, control characters, invalid UTF-8, and marks that turn the direction of writing.

use std::fmt::Write;

/// Longer values on a page are cut and end in `...`: a page with a row for each of many workers stays readable.
pub(super) const MAX_SHOWN: usize = 1024;

/// How many bytes a value in a log line may take with its escapes; a longer one is cut and ends in `...`.
pub(super) const MAX_LOGGED: usize = 2048;

/// `-` where there is nothing, as php-fpm writes it, and the start of what is too long.
pub(super) fn bounded(bytes: &[u8]) -> (&[u8], &'static str) {
    match bytes.len() {
        0 => (b"-", ""),
        len if len > MAX_SHOWN => (&bytes[..MAX_SHOWN], "..."),
        _ => (bytes, ""),
    }
}

/// For text and markup: what cannot be seen becomes visible, `\x0a` and `\u{202e}`; `put` writes everything else.
pub(super) fn visible(out: &mut String, bytes: &[u8], put: fn(&mut String, char)) {
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
pub(crate) fn markup(out: &mut String, c: char) {
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
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            out.push_str(json_piece(c, &mut [0; 6]));
        }
        if !chunk.invalid().is_empty() {
            out.push('\u{fffd}');
        }
    }
}

/// As `json`, into a log line: at most `MAX_LOGGED` bytes and `...`.
pub(super) fn json_logged(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut room = Room::new(out);
    for chunk in bytes.utf8_chunks() {
        let whole = chunk.valid().chars().all(|c| room.push(json_piece(c, &mut [0; 6]).as_bytes()));
        if !whole || !chunk.invalid().is_empty() && !room.push("\u{fffd}".as_bytes()) {
            return;
        }
    }
}

/// What stands around a value in a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Double quotes.
    Quoted,
    /// Spaces: one inside the value is escaped too.
    Bare,
}

/// As nginx writes foreign text into its access log: quotes, backslashes and all but printable ASCII as `\xHH`; at most
/// `MAX_LOGGED` bytes and `...`.
pub(super) fn logged(out: &mut Vec<u8>, bytes: &[u8], place: Place) {
    let mut room = Room::new(out);
    for byte in bytes {
        let plain = match byte {
            b'"' | b'\\' => false,
            b' ' => place == Place::Quoted,
            byte => byte.is_ascii_graphic(),
        };
        if !(if plain { room.push(&[*byte]) } else { room.push(&hex(*byte)) }) {
            return;
        }
    }
}

/// As `logged` within quotes, but printable text of any script stays as it is: for what people read.
pub(super) fn legible(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut room = Room::new(out);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut encoded = [0; 4];
            let bytes = c.encode_utf8(&mut encoded).as_bytes();
            let plain = !c.is_control() && !is_treacherous(c) && !matches!(c, '"' | '\\');
            if !(if plain { room.push(bytes) } else { bytes.iter().all(|byte| room.push(&hex(*byte))) }) {
                return;
            }
        }
        if !chunk.invalid().iter().all(|byte| room.push(&hex(*byte))) {
            return;
        }
    }
}

/// The place for one value in a log line.
struct Room<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl Room<'_> {
    fn new(out: &mut Vec<u8>) -> Room<'_> {
        Room { out, left: MAX_LOGGED }
    }

    /// Whether the piece was taken whole. Where it did not fit, `...` was, and that was the last one.
    fn push(&mut self, piece: &[u8]) -> bool {
        match self.left.checked_sub(piece.len()) {
            Some(left) => {
                self.left = left;
                self.out.extend_from_slice(piece);
                true
            }
            None => {
                self.out.extend_from_slice(b"...");
                false
            }
        }
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// nginx writes `\x0A`, with capitals.
fn hex(byte: u8) -> [u8; 4] {
    let digit = |value: u8| DIGITS[usize::from(value)].to_ascii_uppercase();
    [b'\\', b'x', digit(byte >> 4), digit(byte & 15)]
}

/// The character as it stands in a JSON string.
fn json_piece(c: char, buffer: &mut [u8; 6]) -> &str {
    match c {
        '"' => return "\\\"",
        '\\' => return "\\\\",
        c if c.is_control() || is_treacherous(c) => {
            // All of these are in the basic plane: one unit, four digits.
            *buffer = *b"\\u0000";
            let nibbles = (0u32..4).map(|place| (u32::from(c) >> (4 * (3 - place))) & 15);
            for (digit, nibble) in buffer[2..].iter_mut().zip(nibbles) {
                *digit = char::from_digit(nibble, 16).map_or(b'0', |digit| digit as u8);
            }
        }
        c => {
            let length = c.encode_utf8(buffer).len();
            return std::str::from_utf8(&buffer[..length]).unwrap_or("?");
        }
    }
    std::str::from_utf8(buffer).unwrap_or("?")
}

/// Whether a reader cannot see it, or sees something else than what is there: C1 controls, line separators, marks of
/// direction (Unicode TR 36), the byte order mark, and what XML 1.0 forbids.
fn is_treacherous(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}
