//! A FastCGI client that costs little: one thread, many connections, closed loop. Each connection sends its next request
//! when the last one is answered, over a new connection or, with FCGI_KEEP_CONN, over the same.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fpmd::fcgi::body::{BeginRequest, Connection, Role};
use fpmd::fcgi::decode::{Decoder, Place};
use fpmd::fcgi::encode;
use fpmd::fcgi::record::{RecordType, RequestId};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

use crate::support::fastcgi::script;

/// Who asks for what, and how.
#[derive(Debug, Clone)]
pub struct Load {
    pub socket: PathBuf,
    pub path: String,
    pub clients: usize,
    pub connection: Connection,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub requests: u64,
    pub span: Duration,
    /// Of each request, sorted.
    latencies: Vec<Duration>,
}

impl Outcome {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.span.as_secs_f64()
    }

    /// The latency that half of the requests do not exceed.
    #[allow(dead_code, reason = "not each benchmark asks")]
    pub fn p50(&self) -> Duration {
        self.latencies[self.latencies.len() / 2]
    }

    /// The latency that 99 of 100 requests do not exceed.
    pub fn p99(&self) -> Duration {
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

/// One client.
struct Client {
    stream: UnixStream,
    decoder: Decoder,
    written: usize,
    since: Instant,
    body: u64,
}

impl Load {
    /// The request's records, with as many parameters as a web server sends.
    pub fn request(&self) -> Vec<u8> {
        // The shortest script there is, and the one that does anything.
        let script = script(if self.path == "/hello" { "php/hello.php" } else { "php/app.php" });
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
        let pairs = [
            ("SCRIPT_FILENAME", script.as_str()),
            ("QUERY_STRING", ""),
            ("REQUEST_METHOD", "GET"),
            ("CONTENT_TYPE", ""),
            ("CONTENT_LENGTH", ""),
            ("SCRIPT_NAME", "/app.php"),
            ("REQUEST_URI", self.path.as_str()),
            ("DOCUMENT_URI", "/app.php"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REQUEST_SCHEME", "http"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_PORT", "54321"),
            ("SERVER_ADDR", "127.0.0.1"),
            ("SERVER_PORT", "80"),
            ("SERVER_NAME", "localhost"),
            ("HTTP_HOST", "localhost"),
            ("HTTP_USER_AGENT", agent),
            ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"),
        ];
        let mut out = Vec::new();
        let begin = BeginRequest { role: Role::Responder, connection: self.connection };
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        encode::request(&mut out, RequestId(1), &begin, pairs, &[]).unwrap();
        out
    }

    /// Asks for so long.
    pub fn run(&self, span: Duration) -> Outcome {
        let (request, mut poll) = (self.request(), Poll::new().unwrap());
        let mut clients: Vec<Client> = (0..self.clients).map(|at| connect(&self.socket, &poll, at)).collect();
        let (mut events, mut buffer) = (Events::with_capacity(256), vec![0; 256 * 1024]);
        let (start, mut latencies) = (Instant::now(), Vec::new());
        while start.elapsed() < span {
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "no answer in 10 s to {}", self.path);
            for event in &events {
                let Token(at) = event.token();
                while clients[at].go_on(&request, &mut buffer) {
                    latencies.push(clients[at].since.elapsed());
                    match self.connection {
                        Connection::Keep => clients[at].begin(),
                        Connection::Close => {
                            clients[at] = connect(&self.socket, &poll, at);
                            // Its first event says that it can be written to.
                            break;
                        }
                    }
                }
            }
        }
        let span = start.elapsed();
        latencies.sort_unstable();
        Outcome { requests: latencies.len() as u64, span, latencies }
    }
}

fn connect(socket: &Path, poll: &Poll, at: usize) -> Client {
    let mut stream = UnixStream::connect(socket).unwrap();
    poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE).unwrap();
    Client { stream, decoder: Decoder::new(), written: 0, since: Instant::now(), body: 0 }
}

impl Client {
    fn begin(&mut self) {
        (self.written, self.body, self.since) = (0, 0, Instant::now());
    }

    /// Writes and reads as far as it goes; whether the request was answered.
    fn go_on(&mut self, request: &[u8], buffer: &mut [u8]) -> bool {
        while self.written < request.len() {
            match self.stream.write(&request[self.written..]) {
                // No answer is there yet; its arrival is told, since it is watched for already.
                Ok(count) if self.written + count == request.len() => {
                    self.written = request.len();
                    return false;
                }
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("cannot ask: {error}"),
            }
        }
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => panic!("the answer was cut after {} bytes", self.body),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("no answer: {error}"),
            };
            let mut input = &buffer[..count];
            while let Some(fragment) = self.decoder.next(&mut input).unwrap() {
                match (fragment.header.kind, fragment.place) {
                    (RecordType::EndRequest, Place::Last) => {
                        assert!(self.body > 0, "an empty answer");
                        // What is left is padding.
                        let _ = self.decoder.next(&mut input);
                        return true;
                    }
                    (RecordType::Stdout, _) => self.body += fragment.content.len() as u64,
                    _ => {}
                }
            }
        }
    }
}
