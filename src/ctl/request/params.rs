//! The parameters of a request: those that nginx's `fastcgi_params` sends, from what was typed. RFC 3875, section 4.

use crate::cli::request::Request;

/// Who sends the request.
const SOFTWARE: &str = concat!("fpmctl/", env!("CARGO_PKG_VERSION"));

/// What curl(1) says about data of which it knows no more.
const FORM: &str = "application/x-www-form-urlencoded";

/// All parameters of `request`, whose body has `length` bytes; `None` where there is no body.
pub fn params(request: &Request, length: Option<u64>) -> Vec<(String, String)> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let script = decoded(path);
    let root = request.root.as_deref().map_or("", |root| root.trim_end_matches('/'));
    let method = request.method.as_deref().unwrap_or(if length.is_some() { "POST" } else { "GET" });
    let mut params = Params::default();
    for (name, value) in [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", SOFTWARE),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_ADDR", "127.0.0.1"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "0"),
        ("REQUEST_SCHEME", "http"),
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", &request.path),
        ("DOCUMENT_URI", &script),
        ("SCRIPT_NAME", &script),
        ("SCRIPT_FILENAME", &format!("{root}{script}")),
        ("DOCUMENT_ROOT", if root.is_empty() { "/" } else { root }),
        ("QUERY_STRING", query),
        ("CONTENT_TYPE", if length.is_some() { FORM } else { "" }),
        ("CONTENT_LENGTH", &length.map_or(String::new(), |length| length.to_string())),
        // php-cgi as a CGI program serves nothing without it.
        ("REDIRECT_STATUS", "200"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_USER_AGENT", SOFTWARE),
        ("HTTP_ACCEPT", "*/*"),
    ] {
        params.set(name, value.to_owned());
    }
    params.headers(&request.headers);
    for (name, value) in &request.params {
        params.set(name, value.clone());
    }
    params.0
}

/// Names and values in the order in which the names came first.
#[derive(Default)]
struct Params(Vec<(String, String)>);

impl Params {
    /// Adds a parameter, or exchanges its value.
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Adds what was typed as headers. The first of a name takes the place of our own, more are joined as RFC 9110,
    /// section 5.3, does it.
    fn headers(&mut self, headers: &[(String, String)]) {
        let mut typed: Vec<(String, String)> = Vec::new();
        for (name, value) in headers {
            let name = meta_variable(name);
            let separator = if name == "HTTP_COOKIE" { "; " } else { ", " };
            match typed.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => {
                    all.push_str(separator);
                    all.push_str(value);
                }
                None => typed.push((name, value.clone())),
            }
        }
        for (name, value) in typed {
            self.set(&name, value);
        }
    }
}

/// RFC 3875, section 4.1.18.
fn meta_variable(header: &str) -> String {
    let name = header.to_ascii_uppercase().replace('-', "_");
    match name.as_str() {
        "CONTENT_TYPE" | "CONTENT_LENGTH" => name,
        _ => format!("HTTP_{name}"),
    }
}

/// A path without its percent signs, as a web server hands it on; what is not encoded right stays as it is.
fn decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let code = others.split_at_checked(2).filter(|_| *first == b'%').and_then(|(digits, after)| {
            // from_str_radix alone would take "+1".
            let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
            Some((u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?, after))
        });
        let (byte, after) = code.unwrap_or((*first, others));
        out.push(byte);
        rest = after;
    }
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::request::{Endpoint, Target};

    fn request(path: &str) -> Request {
        Request {
            target: Target::Endpoint(Endpoint::Abstract("test".into())),
            path: path.into(),
            method: None,
            data: None,
            headers: Vec::new(),
            params: Vec::new(),
            root: None,
            include: false,
            timeout: Duration::from_secs(1),
        }
    }

    fn value(params: &[(String, String)], name: &str) -> Option<String> {
        assert!(params.iter().filter(|(known, _)| known == name).count() <= 1, "{name} twice");
        params.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    #[track_caller]
    fn check(request: &Request, length: Option<u64>, expected: &[(&str, &str)]) {
        let params = params(request, length);
        for (name, wanted) in expected {
            assert_eq!(value(&params, name).as_deref(), Some(*wanted), "{name}");
        }
    }

    #[test]
    fn a_path_is_taken_apart() {
        let request = Request { root: Some("/srv/www/".into()), ..request("/a%20b.php?x=%20&y") };
        check(
            &request,
            None,
            &[
                ("REQUEST_METHOD", "GET"),
                ("REQUEST_URI", "/a%20b.php?x=%20&y"),
                ("SCRIPT_NAME", "/a b.php"),
                ("SCRIPT_FILENAME", "/srv/www/a b.php"),
                ("DOCUMENT_ROOT", "/srv/www"),
                ("QUERY_STRING", "x=%20&y"),
                ("CONTENT_LENGTH", ""),
                ("REDIRECT_STATUS", "200"),
            ],
        );
    }

    #[test]
    fn without_a_root_the_path_is_the_script() {
        check(&request("/srv/a.php"), None, &[("SCRIPT_FILENAME", "/srv/a.php"), ("DOCUMENT_ROOT", "/")]);
    }

    #[test]
    fn data_makes_a_post() {
        let expected = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "0"), ("CONTENT_TYPE", FORM)];
        check(&request("/"), Some(0), &expected);
        let put = Request { method: Some("PUT".into()), ..request("/") };
        check(&put, Some(7), &[("REQUEST_METHOD", "PUT"), ("CONTENT_LENGTH", "7")]);
    }

    #[test]
    fn headers_and_parameters_take_the_place_of_ours() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = Request {
            headers: vec![
                pair("Host", "example.org"),
                pair("X-A", "1"),
                pair("x-a", "2"),
                pair("Cookie", "a"),
                pair("cookie", "b"),
                pair("Content-Type", "image/png"),
            ],
            params: vec![pair("SERVER_PORT", "443"), pair("HTTPS", "on"), pair("HTTPS", "off")],
            ..request("/")
        };
        check(
            &request,
            Some(1),
            &[
                ("HTTP_HOST", "example.org"),
                ("HTTP_X_A", "1, 2"),
                ("HTTP_COOKIE", "a; b"),
                ("CONTENT_TYPE", "image/png"),
                ("SERVER_PORT", "443"),
                ("HTTPS", "off"),
            ],
        );
        assert_eq!(value(&params(&request, Some(1)), "HTTP_CONTENT_TYPE"), None);
    }

    #[test]
    fn percent_signs_that_encode_nothing_stay() {
        for path in ["/%", "/%4", "/%zz", "/%+1", "/%ff"] {
            assert_eq!(decoded(path), path);
        }
        assert_eq!(decoded("/%41%2f%c3%a9"), "/A/é");
    }
}
