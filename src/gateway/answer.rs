//! What the gateway answers itself, as a CGI response in FastCGI records: a web server turns a bare FCGI_OVERLOADED into a
//! 502, and a real 503 with Retry-After into what it says. RFC 3875, section 6; RFC 9110, section 10.2.3.

use crate::fcgi::body::ProtocolStatus;
use crate::fcgi::encode;
use crate::fcgi::record::{RecordType, RequestId};

/// An answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its parameters are longer than a request's may be, or than any worker takes.
    HeadTooLarge,
    /// Its worker ended before it answered.
    Broken,
    /// Two workers would not take it.
    Busy,
    /// There is no place for its body.
    NoRoom,
    /// As many requests wait as may wait.
    Full,
    /// It has waited as long as it may.
    Late,
    /// Its worker took longer than it may.
    TimedOut,
}

/// Seconds after which a client may try again when there were too many.
const RETRY_AFTER: &str = "Retry-After: 1\r\n";

impl Answer {
    /// The status in the answer.
    pub fn status(self) -> u16 {
        match self {
            Answer::HeadTooLarge => 431,
            Answer::Broken => 502,
            Answer::Busy | Answer::NoRoom | Answer::Full | Answer::Late => 503,
            Answer::TimedOut => 504,
        }
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Answer::HeadTooLarge => {
                ("Request Header Fields Too Large", "", "The request's parameters are too long.\n")
            }
            Answer::Broken => ("Bad Gateway", "", "The worker ended before it had answered.\n"),
            Answer::Busy => {
                ("Service Unavailable", RETRY_AFTER, "The workers take no more requests at the moment.\n")
            }
            Answer::NoRoom => {
                ("Service Unavailable", RETRY_AFTER, "There is no room for the request's body.\n")
            }
            Answer::Full => ("Service Unavailable", RETRY_AFTER, "Too many requests are waiting.\n"),
            Answer::Late => {
                ("Service Unavailable", RETRY_AFTER, "No worker became free for the request in time.\n")
            }
            Answer::TimedOut => ("Gateway Timeout", "", "The worker took too long.\n"),
        }
    }

    /// Appends the whole answer to `out`.
    pub fn encode(self, out: &mut Vec<u8>, id: RequestId) {
        let (reason, more, text) = self.words();
        let status = self.status();
        let length = text.len();
        let page = format!(
            "Status: {status} {reason}\r\n{more}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}"
        );
        page_of(out, id, page.as_bytes());
    }
}

/// Appends a whole answer that is this CGI response.
pub fn page_of(out: &mut Vec<u8>, id: RequestId, response: &[u8]) {
    encode::stream(out, RecordType::Stdout, id, response);
    encode::end_stream(out, RecordType::Stdout, id);
    encode::end_request(out, id, 0, ProtocolStatus::RequestComplete);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fcgi::decode::Record;
    use crate::fcgi::response::Head;

    #[test]
    fn answers_are_well_formed() {
        for answer in [
            Answer::HeadTooLarge,
            Answer::Broken,
            Answer::NoRoom,
            Answer::Full,
            Answer::Late,
            Answer::TimedOut,
        ] {
            let mut out = Vec::new();
            answer.encode(&mut out, RequestId(3));
            let (record, length) = Record::first(&out).unwrap().unwrap();
            assert_eq!((record.header.kind, record.header.request), (RecordType::Stdout, RequestId(3)));
            let head = Head::parse(record.content, 4096).unwrap().unwrap();
            assert_eq!(head.status, answer.status());
            assert_eq!(head.value("Retry-After").is_some(), head.status == 503);
            let announced = head.value("Content-Length").unwrap();
            assert_eq!(announced, (record.content.len() - head.length).to_string().as_bytes());
            let (end, second) = Record::first(&out[length..]).unwrap().unwrap();
            assert_eq!((end.header.kind, end.content.len()), (RecordType::Stdout, 0));
            let (last, third) = Record::first(&out[length + second..]).unwrap().unwrap();
            assert_eq!((last.header.kind, length + second + third), (RecordType::EndRequest, out.len()));
        }
    }
}
