//! The status of a CGI response, found on the way past, without an allocation (RFC 3875, section 6). Whether the head is
//! well-formed is the web server's business; `fcgi::response` reads heads in full.

/// Bytes of a head that are looked at and kept. Longer ones are passed on without a status.
pub const BOUND: usize = 16 * 1024;

/// A complete head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// From `Status:`; else 302 with a `Location:`, else 200.
    pub status: u16,
    /// Bytes of the head with its empty line.
    pub length: usize,
}

/// Reads the head at the front of `bytes`; `None` while its end has not come. Lines end with LF or CRLF.
pub fn summary(bytes: &[u8]) -> Option<Summary> {
    let (mut at, mut status, mut redirects) = (0, None, false);
    loop {
        let newline = bytes[at..].iter().position(|byte| *byte == b'\n')?;
        let line = &bytes[at..at + newline];
        at += newline + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let implied = if redirects { 302 } else { 200 };
            return Some(Summary { status: status.unwrap_or(implied), length: at });
        }
        match value(line, b"status:") {
            Some(value) if status.is_none() => status = number(value),
            Some(_) | None => redirects |= value(line, b"location:").is_some(),
        }
    }
}

fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| rest.trim_ascii_start())
}

fn number(value: &[u8]) -> Option<u16> {
    let digits = value.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    (number >= 100).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fcgi::response::Head;

    #[test]
    fn statuses_are_found() {
        let cases = [
            ("Content-Type: a\r\n\r\nbody", Some((200, 19))),
            ("Status: 404 Not Found\n\n", Some((404, 23))),
            ("X: y\r\nsTaTuS:503\r\n\r\n", Some((503, 20))),
            ("Location: /x\n\n", Some((302, 14))),
            ("Location: /x\nStatus: 201\n\n", Some((201, 26))),
            ("Status: abc\n\n", Some((200, 13))),
            ("Status: 404\r\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = summary(text.as_bytes()).map(|head| (head.status, head.length));
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_full_reader(text in "([A-Za-z]{1,8}: [a-z0-9 ]{0,8}\r?\n|Status: [1-9][0-9]{2}( x)?\n){0,5}\r?\n") {
            if let Ok(Some(head)) = Head::parse(text.as_bytes(), 4096) {
                let found = summary(text.as_bytes()).unwrap();
                prop_assert_eq!((found.status, found.length), (head.status, head.length));
            }
        }
    }
}
