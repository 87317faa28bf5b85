//! The answers that are given without a worker, as a worker would write them to FCGI_STDOUT: CGI header lines, an empty line,
//! a body (RFC 3875 §6). php-fpm's headers for its status and ping pages; an answer to HEAD has no body.

use super::page::{self, Asked, PoolPage};

/// Pages of one moment are kept by nobody.
const NOT_KEPT: &str = "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\n";

/// Appends the status page that the query asks for.
pub fn status(page: &PoolPage<'_>, query: &[u8], method: &[u8], out: &mut Vec<u8>) {
    let asked = Asked::parse(query);
    let head = format!("{NOT_KEPT}Content-Type: {}\r\n\r\n", asked.form.content_type());
    out.extend_from_slice(head.as_bytes());
    if method != b"HEAD" {
        out.extend_from_slice(page::render(page, asked).as_bytes());
    }
}

/// Appends the ping page.
pub fn ping(response: &str, method: &[u8], out: &mut Vec<u8>) {
    let head = format!("Content-Type: text/plain;charset=UTF-8\r\n{NOT_KEPT}\r\n");
    out.extend_from_slice(head.as_bytes());
    if method != b"HEAD" {
        out.extend_from_slice(response.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// php-fpm's but for X-Powered-By.
    #[test]
    fn ping_answers_as_php_fpm() {
        let head = "Content-Type: text/plain;charset=UTF-8\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                    Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\n\r\n";
        for (method, wanted) in [(b"GET".as_slice(), format!("{head}pong")), (b"HEAD", head.to_owned())] {
            let mut out = Vec::new();
            ping("pong", method, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
