//! What the demo worker answers, without any I/O: which page a request asks for, and its text. Everything that comes from
//! the request is escaped, since a page is the classic place to forget it.

use std::fmt::Write;
use std::time::Duration;

use crate::fcgi::session::Request;
use crate::status::escape::markup;

/// The longest that `/slow` waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The most that `/bytes` sends.
const MOST_BYTES: u64 = 1 << 40;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/` or `/hello`: who served the request, and what it was.
    Welcome,
    /// `/echo`: the request's body.
    Echo,
    /// `/slow?ms=N`: as `Welcome`, after a while.
    Slow(Duration),
    /// `/crash`: no answer at all; the worker exits with code 3.
    Crash,
    /// `/bytes?n=N`: so many bytes.
    Bytes(u64),
    /// Anything else.
    Missing,
    /// A number in the query is none.
    Wrong,
}

/// Who the worker is, as it learned from its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The pool, where fpmd said it.
    pub pool: Option<String>,
    /// The generation, where fpmd said it.
    pub generation: Option<String>,
    /// The worker's pid.
    pub pid: u32,
    /// Requests that it has served, this one included.
    pub served: u64,
}

/// A page as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// `200 OK`.
    pub status: &'static str,
    /// The value of Content-Type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Page {
    /// Which page `request` asks for.
    pub fn of(request: &Request) -> Page {
        let uri = uri(request);
        let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
        let number = |name: &str, default: u64| match argument(query, name) {
            None => Some(default),
            Some(text) => text.parse().ok(),
        };
        match path {
            "/" | "" | "/hello" => Page::Welcome,
            "/echo" => Page::Echo,
            "/crash" => Page::Crash,
            "/slow" => number("ms", 1000)
                .map_or(Page::Wrong, |ms| Page::Slow(Duration::from_millis(ms).min(LONGEST_PAUSE))),
            "/bytes" => number("n", 1 << 20).map_or(Page::Wrong, |n| Page::Bytes(n.min(MOST_BYTES))),
            _ => Page::Missing,
        }
    }
}

/// The welcome page: HTML for those who accept it, else plain text.
pub fn welcome(request: &Request, identity: &Identity, body: u64) -> Answer {
    let text = |name| String::from_utf8_lossy(request.param(name).unwrap_or_default()).into_owned();
    let params = request.params().count();
    let known = [("pool", &identity.pool), ("generation", &identity.generation)];
    let mut facts: Vec<(&str, String)> =
        known.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    facts.extend([
        ("worker", format!("pid {}, request {} of this worker", identity.pid, identity.served)),
        ("request", format!("{} {}", text("REQUEST_METHOD"), uri(request))),
        ("parameters", params.to_string()),
        ("body", format!("{body} bytes")),
    ]);
    let html = text("HTTP_ACCEPT").contains("text/html");
    if html { html_page(&facts) } else { text_page(&facts) }
}

/// The answer to a path that is no page.
pub fn missing() -> Answer {
    let body = "There is no such page here. There are:\n  /\n  /echo            the request's body\n  \
                /slow?ms=500     an answer after a while\n  /bytes?n=1048576 so many bytes\n  \
                /crash           the worker exits with code 3\n";
    Answer { status: "404 Not Found", content_type: "text/plain; charset=utf-8", body: body.to_owned() }
}

/// The answer to a number that is none.
pub fn wrong() -> Answer {
    let body = "The number in the query is not one.\n".to_owned();
    Answer { status: "400 Bad Request", content_type: "text/plain; charset=utf-8", body }
}

/// The answer to a body that `/echo` does not keep.
pub fn too_long(bound: u64) -> Answer {
    let body = format!("The body is longer than {bound} bytes, the most that comes back.\n");
    Answer { status: "413 Content Too Large", content_type: "text/plain; charset=utf-8", body }
}

fn text_page(facts: &[(&str, String)]) -> Answer {
    let mut body = "fpmd works.\n\n".to_owned();
    for (name, value) in facts {
        let shown: String = value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let _ = writeln!(body, "{name:11} {shown}"); // a String takes everything
    }
    Answer { status: "200 OK", content_type: "text/plain; charset=utf-8", body }
}

fn html_page(facts: &[(&str, String)]) -> Answer {
    let mut body =
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>fpmd works</title>\n<h1>fpmd works</h1>\n\
                    <table>\n"
            .to_owned();
    for (name, value) in facts {
        let _ = writeln!(body, "<tr><th>{name}<td>{}", escaped(value)); // a String takes everything
    }
    body.push_str("</table>\n");
    Answer { status: "200 OK", content_type: "text/html; charset=utf-8", body }
}

/// Text that means only itself in HTML, between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push('\u{fffd}'),
            c => markup(&mut out, c),
        }
    }
    out
}

/// REQUEST_URI where the web server sends it, else what CGI has: script, path and query.
fn uri(request: &Request) -> String {
    let text = |name| request.param(name).map(String::from_utf8_lossy);
    if let Some(uri) = text("REQUEST_URI").filter(|uri| !uri.is_empty()) {
        return uri.into_owned();
    }
    let path = [text("SCRIPT_NAME"), text("PATH_INFO")].into_iter().flatten().collect::<String>();
    match text("QUERY_STRING").filter(|query| !query.is_empty()) {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// The value of `name` in a query; the pages take numbers only, so nothing needs to be decoded.
fn argument<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|part| part.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fcgi::body::{BeginRequest, Connection, Role};
    use crate::fcgi::decode::Record;
    use crate::fcgi::encode;
    use crate::fcgi::record::RequestId;
    use crate::fcgi::session::{Capacity, Session, Step};

    fn request(params: &[(&str, &str)]) -> Request {
        let mut bytes = Vec::new();
        let begin = BeginRequest { role: Role::Responder, connection: Connection::Close };
        let pairs = params.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        encode::request(&mut bytes, RequestId(1), &begin, pairs, b"").unwrap();
        let mut session = Session::new(Capacity { connections: 1, requests: 1 }, 10_000);
        let mut rest = &bytes[..];
        loop {
            let (record, length) = Record::first(rest).unwrap().unwrap();
            if let Step::Request(request) = session.take(record, &mut Vec::new()).unwrap() {
                return request;
            }
            rest = &rest[length..];
        }
    }

    fn page(uri: &str) -> Page {
        Page::of(&request(&[("REQUEST_URI", uri)]))
    }

    fn identity() -> Identity {
        Identity { pool: Some("demo".into()), generation: None, pid: 77, served: 3 }
    }

    #[test]
    fn paths_lead_to_pages() {
        assert_eq!(page("/"), Page::Welcome);
        assert_eq!(page("/?x=1"), Page::Welcome);
        assert_eq!(page("/hello"), Page::Welcome);
        assert_eq!(page("/echo"), Page::Echo);
        assert_eq!(page("/crash"), Page::Crash);
        assert_eq!(page("/slow?ms=500"), Page::Slow(Duration::from_millis(500)));
        assert_eq!(page("/slow?ms=99999999999"), Page::Slow(LONGEST_PAUSE));
        assert_eq!(page("/slow"), Page::Slow(Duration::from_secs(1)));
        assert_eq!(page("/bytes?a=b&n=7"), Page::Bytes(7));
        assert_eq!(page("/bytes?n=-1"), Page::Wrong);
        assert_eq!(page("/other"), Page::Missing);
        let cgi = request(&[("SCRIPT_NAME", "/bytes"), ("QUERY_STRING", "n=5")]);
        assert_eq!(Page::of(&cgi), Page::Bytes(5));
    }

    #[test]
    fn the_welcome_page_is_text_by_default() {
        let request = request(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/?\u{1b}[31m<b>")]);
        let answer = welcome(&request, &identity(), 12);
        assert_eq!(answer.content_type, "text/plain; charset=utf-8");
        assert_eq!(
            answer.body,
            "fpmd works.\n\n\
             pool        demo\n\
             worker      pid 77, request 3 of this worker\n\
             request     GET /?\u{fffd}[31m<b>\n\
             parameters  2\n\
             body        12 bytes\n"
        );
    }

    #[test]
    fn html_is_escaped() {
        let uri = "/?<script>\"'&";
        let request = request(&[("REQUEST_URI", uri), ("HTTP_ACCEPT", "text/html,*/*")]);
        let answer = welcome(&request, &identity(), 0);
        assert_eq!(answer.content_type, "text/html; charset=utf-8");
        assert!(answer.body.contains("/?&lt;script&gt;&quot;&#39;&amp;"), "{}", answer.body);
        assert!(!answer.body.contains("<script>"));
    }
}
