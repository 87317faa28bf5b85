//! The parameters of one request: the content of its PARAMS stream, put together, checked once, and kept as it came.
//! Nothing is parsed into maps: the few names that the gateway, its logs and its status page want are looked up. FastCGI
//! 1.0, sections 3.4 and 5.2; names from RFC 3875.

use std::borrow::Cow;

use crate::fcgi::pairs::{self, PairError, Pairs};

/// Names that are looked up for every request: found once, when the stream is complete. In the order of `Known`.
const KNOWN: [&str; 8] = [
    "REQUEST_METHOD",
    "REQUEST_URI",
    "QUERY_STRING",
    "SCRIPT_NAME",
    "SCRIPT_FILENAME",
    "REMOTE_USER",
    "CONTENT_LENGTH",
    "REMOTE_ADDR",
];

/// Where in `KNOWN` a name is.
#[derive(Debug, Clone, Copy)]
enum Known {
    Method,
    Uri,
    Query,
    ScriptName,
    Script,
    User,
    ContentLength,
    Client,
}

/// What Apache's mod_proxy puts before the path in SCRIPT_FILENAME, with a host behind it: php-fpm takes that away, and so do
/// we, as no program knows it. php-cgi would look for a file of that name.
const APACHE: [&[u8]; 2] = [b"proxy:fcgi://", b"proxy:balancer://"];

/// The parameters of one request, as the web server sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    bytes: Vec<u8>,
    /// Where the values of `KNOWN` are; only after `check`.
    known: Option<[Option<(usize, usize)>; KNOWN.len()]>,
}

impl Params {
    /// Adds the content of the next PARAMS record. A pair may straddle two.
    ///
    /// # Errors
    /// All together would be longer than `bound` bytes; nothing is added then.
    pub fn push(&mut self, content: &[u8], bound: usize) -> Result<(), PairError> {
        if content.len() > bound.saturating_sub(self.bytes.len()) {
            return Err(PairError::TooMany(bound));
        }
        self.bytes.extend_from_slice(content);
        self.known = None;
        Ok(())
    }

    /// The stream is complete: are all pairs whole? A path that Apache has disguised is itself behind this.
    ///
    /// # Errors
    /// The last one is cut.
    pub fn check(&mut self) -> Result<(), PairError> {
        let mut known = [None; KNOWN.len()];
        let (mut pairs, all) = (Pairs::new(&self.bytes), self.bytes.len());
        while let Some(pair) = pairs.next() {
            let (name, value) = pair?;
            let place = place(name);
            if let Some(place) = place.filter(|place| known[*place].is_none()) {
                // A pair ends with its value.
                let end = all - pairs.left();
                known[place] = Some((end - value.len(), end));
            }
        }
        self.known = Some(known);
        if APACHE.iter().any(|disguise| self.script().starts_with(disguise)) {
            return self.undisguise();
        }
        Ok(())
    }

    /// Puts the path itself in the place of the one that Apache sent.
    fn undisguise(&mut self) -> Result<(), PairError> {
        let all = self.bytes.len();
        let (mut pairs, mut start) = (Pairs::new(&self.bytes), 0);
        while let Some(pair) = pairs.next() {
            let (name, value) = pair?;
            let end = all - pairs.left();
            if name == b"SCRIPT_FILENAME" {
                let mut plain = Vec::new();
                pairs::encode(&mut plain, name, path_behind_host(value))?;
                self.bytes.splice(start..end, plain);
                break;
            }
            start = end;
        }
        // What comes behind has moved.
        self.check()
    }

    /// All pairs in their order.
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs::new(&self.bytes)
    }

    /// The value of the first parameter with this name; names are case-sensitive.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let place = place(name.as_bytes());
        if let Some((places, place)) = self.known.zip(place) {
            return places[place].and_then(|(start, end)| self.bytes.get(start..end));
        }
        let mut pairs = self.pairs().map_while(Result::ok);
        pairs.find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// As `value`, without a search once the stream is complete.
    fn known(&self, known: Known) -> Option<&[u8]> {
        match &self.known {
            Some(places) => places[known as usize].and_then(|(start, end)| self.bytes.get(start..end)),
            None => self.value(KNOWN[known as usize]),
        }
    }

    /// REQUEST_METHOD; empty where there is none, like the others.
    pub fn method(&self) -> &[u8] {
        self.known(Known::Method).unwrap_or_default()
    }

    /// What the browser asked for, query included where the web server gives it: REQUEST_URI, else SCRIPT_NAME.
    pub fn uri(&self) -> &[u8] {
        self.known(Known::Uri).unwrap_or_else(|| self.script_name())
    }

    /// QUERY_STRING, without its question mark.
    pub fn query(&self) -> &[u8] {
        self.known(Known::Query).unwrap_or_default()
    }

    /// SCRIPT_NAME: the URL path of the script.
    pub fn script_name(&self) -> &[u8] {
        self.known(Known::ScriptName).unwrap_or_default()
    }

    /// SCRIPT_FILENAME: the file that answers.
    pub fn script(&self) -> &[u8] {
        self.known(Known::Script).unwrap_or_default()
    }

    /// REMOTE_USER, after authentication.
    pub fn user(&self) -> &[u8] {
        self.known(Known::User).unwrap_or_default()
    }

    /// CONTENT_LENGTH, where it is a number.
    pub fn content_length(&self) -> Option<u64> {
        std::str::from_utf8(self.known(Known::ContentLength)?).ok()?.parse().ok()
    }

    /// The whole stream, as it can be sent again.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets everything but the memory, of which it keeps at most `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.known = None;
    }
}

/// Where in `KNOWN` a name is. This is asked for every parameter of every request: comparisons with constants need no call.
#[inline]
fn place(name: &[u8]) -> Option<usize> {
    let known = match name {
        b"REQUEST_METHOD" => Known::Method,
        b"REQUEST_URI" => Known::Uri,
        b"QUERY_STRING" => Known::Query,
        b"SCRIPT_NAME" => Known::ScriptName,
        b"SCRIPT_FILENAME" => Known::Script,
        b"REMOTE_USER" => Known::User,
        b"CONTENT_LENGTH" => Known::ContentLength,
        b"REMOTE_ADDR" => Known::Client,
        _ => return None,
    };
    Some(known as usize)
}

/// `proxy:fcgi://host:port/path?query`: the path. Nothing where there is none.
fn path_behind_host(disguised: &[u8]) -> &[u8] {
    let host = disguised.iter().position(|byte| *byte == b'/').map_or(0, |slash| slash + 2);
    let behind = disguised.get(host..).unwrap_or_default();
    let path = behind.iter().position(|byte| *byte == b'/').map_or(&b""[..], |slash| &behind[slash..]);
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// A text of a request, short enough for a log line whatever it holds: the log escapes it, and wraps lines of 8 KiB.
pub fn brief(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(256)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fcgi::pairs;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            pairs::encode(&mut bytes, name.as_bytes(), value.as_bytes()).unwrap();
        }
        Params { bytes, known: None }
    }

    #[test]
    fn pairs_may_straddle_records() {
        let whole = params(&[("A", "1"), ("QUERY_STRING", "x=y")]);
        for cut in 0..whole.bytes.len() {
            let mut parts = Params::default();
            parts.push(&whole.bytes[..cut], 100).unwrap();
            parts.push(&whole.bytes[cut..], 100).unwrap();
            assert_eq!(parts.query(), b"x=y");
            assert_eq!(parts.check(), Ok(()));
        }
    }

    #[test]
    fn known_names_are_found_in_their_places() {
        for (at, name) in KNOWN.iter().enumerate() {
            assert_eq!(place(name.as_bytes()), Some(at), "{name}");
            assert_eq!(place(name.to_lowercase().as_bytes()), None);
        }
    }

    #[test]
    fn a_checked_stream_has_the_same_values() {
        let unchecked =
            params(&[("CONTENT_LENGTH", "7"), ("X", "y"), ("REMOTE_USER", ""), ("CONTENT_LENGTH", "8")]);
        let mut checked = unchecked.clone();
        checked.check().unwrap();
        for name in KNOWN.iter().chain(&["X", "Z"]) {
            assert_eq!(checked.value(name), unchecked.value(name), "{name}");
        }
        assert_eq!((checked.content_length(), checked.value("REMOTE_USER")), (Some(7), Some(&b""[..])));
    }

    #[test]
    fn every_known_name_is_found_by_its_length() {
        for (index, name) in KNOWN.iter().enumerate() {
            assert_eq!(place(name.as_bytes()), Some(index), "{name}");
        }
    }

    #[test]
    fn each_method_finds_its_own_name() {
        let all: Vec<(&str, String)> =
            KNOWN.iter().enumerate().map(|(index, name)| (*name, index.to_string())).collect();
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut params = params(&all);
        for _ in 0..2 {
            let found =
                [params.method(), params.uri(), params.query(), params.script_name(), params.script()];
            assert_eq!(found, [b"0", b"1", b"2", b"3", b"4"]);
            assert_eq!((params.user(), params.content_length()), (&b"5"[..], Some(6)));
            params.check().unwrap();
        }
    }

    #[test]
    fn the_path_behind_apache_s_disguise_counts() {
        let long = format!("/srv/{}.php", "x".repeat(200));
        for (sent, script) in [
            ("proxy:fcgi://localhost/srv/a.php", "/srv/a.php"),
            ("proxy:fcgi://localhost//srv/a.php", "//srv/a.php"),
            ("proxy:fcgi://127.0.0.1:9000/srv/a.php?x=/y", "/srv/a.php"),
            ("proxy:balancer://pool/srv/a.php", "/srv/a.php"),
            (&format!("proxy:fcgi://h{long}"), &long),
            ("proxy:fcgi://localhost", ""),
            ("/srv/proxy:fcgi://localhost/a.php", "/srv/proxy:fcgi://localhost/a.php"),
        ] {
            let mut params =
                params(&[("A", "1"), ("SCRIPT_FILENAME", sent), ("QUERY_STRING", "x=/y"), ("B", "2")]);
            params.check().unwrap();
            assert_eq!(params.script(), script.as_bytes(), "{sent}");
            assert_eq!((params.query(), params.value("B")), (&b"x=/y"[..], Some(&b"2"[..])));
            let names: Vec<&[u8]> = params.pairs().map(|pair| pair.unwrap().0).collect();
            assert_eq!(names, [&b"A"[..], b"SCRIPT_FILENAME", b"QUERY_STRING", b"B"]);
        }
    }

    #[test]
    fn excess_and_cut_pairs_are_errors() {
        let mut params = Params::default();
        assert_eq!(params.push(&[0; 11], 10), Err(PairError::TooMany(10)));
        params.push(&[0; 10], 10).unwrap();
        assert_eq!(params.push(&[0], 10), Err(PairError::TooMany(10)));
        params.clear(0);
        params.push(&[5, 5, b'a'], 10).unwrap();
        assert_eq!(params.check(), Err(PairError::Truncated));
        assert_eq!(params.value("a"), None);
    }

    #[test]
    fn the_uri_falls_back_to_the_script() {
        assert_eq!(params(&[("SCRIPT_NAME", "/a")]).uri(), b"/a");
        assert_eq!(params(&[("SCRIPT_NAME", "/a"), ("REQUEST_URI", "/b?c")]).uri(), b"/b?c");
        assert_eq!(params(&[("CONTENT_LENGTH", "12")]).content_length(), Some(12));
        assert_eq!(params(&[("CONTENT_LENGTH", "")]).content_length(), None);
    }
}
