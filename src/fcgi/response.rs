//! The head of a CGI response: what an application writes into STDOUT before the body (RFC 3875, section 6). Lines end
//! with LF or CRLF, an empty one ends the head. Parsing borrows; the head is read again from its start when more came.

use std::fmt;

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// From `Status:`; else 302 with a `Location:`, else 200. 100 to 999.
    pub status: u16,
    /// The words after the number in `Status:`; empty where there are none.
    pub reason: &'a [u8],
    /// All fields in their order, `Status` included, names as they were written.
    pub fields: Vec<Field<'a>>,
    /// Bytes of the head with its empty line: the body starts there.
    pub length: usize,
}

/// One field of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name; an HTTP token.
    pub name: &'a str,
    /// The value, without white space around it.
    pub value: &'a [u8],
}

/// A head that no web server can pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// It has not ended after this many bytes.
    TooLong(usize),
    /// The line with this number, counted from 1, is not `Name: value`.
    Line(usize),
    /// The value of `Status` does not begin with a number from 100 to 999.
    Status,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read the response's head: ")?;
        match self {
            HeadError::TooLong(bound) => write!(f, "it is longer than {bound} bytes"),
            HeadError::Line(number) => write!(f, "line {number} is not 'Name: value'"),
            HeadError::Status => f.write_str("its Status does not begin with a number from 100 to 999"),
        }
    }
}

impl std::error::Error for HeadError {}

impl<'a> Head<'a> {
    /// Reads the head at the front of `bytes`; `None` if it has not ended yet.
    ///
    /// # Errors
    /// It is malformed, or longer than `bound` bytes.
    pub fn parse(bytes: &'a [u8], bound: usize) -> Result<Option<Head<'a>>, HeadError> {
        let mut fields = Vec::new();
        let mut at = 0;
        loop {
            let within = &bytes[at..bytes.len().min(bound).max(at)];
            let Some(newline) = within.iter().position(|byte| *byte == b'\n') else {
                return if bytes.len() >= bound { Err(HeadError::TooLong(bound)) } else { Ok(None) };
            };
            let line = &within[..newline];
            at += newline + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                return finish(fields, at).map(Some);
            }
            fields.push(field(line).ok_or(HeadError::Line(fields.len() + 1))?);
        }
    }

    /// The value of the first field with this name; case does not matter.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        value(&self.fields, name)
    }
}

fn finish(fields: Vec<Field<'_>>, length: usize) -> Result<Head<'_>, HeadError> {
    let (status, reason) = match value(&fields, "Status") {
        Some(value) => status(value).ok_or(HeadError::Status)?,
        None if value(&fields, "Location").is_some() => (302, &b"Found"[..]),
        None => (200, &b"OK"[..]),
    };
    Ok(Head { status, reason, fields, length })
}

fn value<'a>(fields: &[Field<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// Number and words of `404 Not Found`.
fn status(value: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = value.split_at_checked(3)?;
    let number: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let ends = rest.first().is_none_or(|byte| *byte == b' ');
    (ends && number >= 100).then(|| (number, rest.trim_ascii_start()))
}

fn field(line: &[u8]) -> Option<Field<'_>> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = &line[..colon];
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return None;
    }
    // A token is ASCII.
    let name = std::str::from_utf8(name).ok()?;
    let value = line[colon + 1..].trim_ascii();
    // A NUL or a lone CR would let the value end early, or start another line, in some reader behind us.
    (!value.contains(&0) && !value.contains(&b'\r')).then_some(Field { name, value })
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Head<'_> {
        Head::parse(text.as_bytes(), 1000).unwrap().unwrap()
    }

    #[test]
    fn a_head_ends_at_the_empty_line_however_lines_end() {
        for text in
            ["Content-Type: text/plain\r\nX-A:b \r\n\r\nbody\n\n", "Content-Type: text/plain\nX-A:b \n\nbody"]
        {
            let head = head(text);
            assert_eq!((head.status, head.reason), (200, &b"OK"[..]));
            assert_eq!(head.fields.len(), 2);
            assert_eq!(head.value("content-type"), Some(&b"text/plain"[..]));
            assert_eq!(head.value("x-a"), Some(&b"b"[..]));
            assert!(text[head.length..].starts_with("body"));
        }
        assert_eq!(head("\n").length, 1);
    }

    #[test]
    fn the_status_is_exact() {
        let not_found = head("Status: 404 Not Found\r\n\r\n");
        assert_eq!((not_found.status, not_found.reason), (404, &b"Not Found"[..]));
        assert_eq!((head("status:204\n\n").status, head("status:204\n\n").reason), (204, &b""[..]));
        assert_eq!(head("Location: /x\n\n").status, 302);
        assert_eq!(head("Location: /x\nStatus: 301\n\n").status, 301);
        for bad in ["", "20", "099", "2000", "200x", "+20", "OK", "20 0"] {
            let text = format!("Status: {bad}\n\n");
            assert_eq!(Head::parse(text.as_bytes(), 1000), Err(HeadError::Status), "{bad}");
        }
    }

    #[test]
    fn lines_that_are_no_fields_are_errors() {
        for (text, line) in [
            ("no colon\n\n", 1),
            ("A: b\n folded: c\n\n", 2),
            (": x\n\n", 1),
            ("A b: c\n\n", 1),
            ("A: b\rc\n\n", 1),
            ("HTTP/1.1 200 OK\n\n", 1),
            ("A: b\0\n\n", 1),
        ] {
            assert_eq!(Head::parse(text.as_bytes(), 1000), Err(HeadError::Line(line)), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_bounded() {
        let text = b"A: b\n\n";
        assert!(Head::parse(text, 6).unwrap().is_some());
        assert_eq!(Head::parse(text, 5), Err(HeadError::TooLong(5)));
        assert_eq!(Head::parse(&[b'a'; 10], 10), Err(HeadError::TooLong(10)));
    }

    proptest! {
        #[test]
        fn a_cut_head_has_not_ended(cut in 0usize..35) {
            let text = b"Status: 200 OK\r\nContent-Type: a/b\r\n\r\n";
            prop_assert_eq!(Head::parse(&text[..cut], 1000), Ok(None));
        }

        #[test]
        fn garbage_never_panics(bytes in vec(prop_oneof![Just(b'\n'), Just(b':'), any::<u8>()], 0..100), bound in 0usize..120) {
            if let Ok(Some(head)) = Head::parse(&bytes, bound) {
                prop_assert!(head.length <= bytes.len());
                prop_assert!(head.length <= bound);
            }
        }
    }
}
