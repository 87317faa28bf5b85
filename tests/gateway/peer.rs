//! Both ends of FastCGI, raw: a client that sends whatever it is told to, and a scripted worker in a thread.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use fpmd::fcgi::body::{BeginRequest, Connection, EndRequest, ProtocolStatus, Role};
use fpmd::fcgi::decode::Record;
use fpmd::fcgi::encode;
use fpmd::fcgi::pairs::Pairs;
use fpmd::fcgi::record::{RecordType, RequestId};

/// A request as bytes.
pub fn request(id: u16, connection: Connection, pairs: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let begin = BeginRequest { role: Role::Responder, connection };
    let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    encode::request(&mut out, RequestId(id), &begin, pairs, body).unwrap();
    out
}

/// The same without the end of its body.
pub fn open_request(id: u16, connection: Connection, pairs: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    const END_OF_BODY: usize = 8;
    let mut out = request(id, connection, pairs, body);
    out.truncate(out.len() - END_OF_BODY);
    out
}

/// A piece of a body of request 1.
pub fn stdin(content: &[u8]) -> Vec<u8> {
    piece(RecordType::Stdin, content)
}

/// A piece of the answer to request 1.
pub fn stdout(content: &[u8]) -> Vec<u8> {
    piece(RecordType::Stdout, content)
}

/// A piece of what is said besides the answer to request 1.
pub fn stderr(content: &[u8]) -> Vec<u8> {
    piece(RecordType::Stderr, content)
}

fn piece(kind: RecordType, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::stream(&mut out, kind, RequestId(1), content);
    out
}

/// A GET for this path; `CONTENT_LENGTH` is empty, as nginx has it.
pub fn get(path: &str) -> Vec<(&str, &str)> {
    vec![("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", path), ("REQUEST_URI", path), ("CONTENT_LENGTH", "")]
}

/// A POST for this path.
pub fn post<'a>(path: &'a str, length: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("REQUEST_METHOD", "POST"), ("SCRIPT_NAME", path), ("REQUEST_URI", path), ("CONTENT_LENGTH", length)]
}

/// What came for one request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Answer {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// `None` where the connection was closed before END_REQUEST.
    pub end: Option<EndRequest>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Behind the head.
    pub fn body(&self) -> &[u8] {
        if let Some(body) = self.stdout.strip_prefix(b"\r\n") {
            return body;
        }
        let crlf = self.stdout.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let lf = self.stdout.windows(2).position(|two| two == b"\n\n").map(|at| at + 2);
        &self.stdout[crlf.or(lf).unwrap_or(self.stdout.len())..]
    }

    pub fn status(&self) -> u16 {
        let head = fpmd::fcgi::response::Head::parse(&self.stdout, 1 << 20);
        head.ok().flatten().map_or(0, |head| head.status)
    }

    fn ended(&self) -> bool {
        self.end.is_some()
    }
}

/// Reads records off a connection.
pub struct Reader<R> {
    from: R,
    bytes: Vec<u8>,
    used: usize,
}

/// A record with its own content.
#[derive(Debug, Clone)]
pub struct Owned {
    pub kind: RecordType,
    pub id: u16,
    pub content: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub fn new(from: R) -> Reader<R> {
        Reader { from, bytes: Vec::new(), used: 0 }
    }

    /// The next record; `None` at the end of the connection.
    pub fn record(&mut self) -> io::Result<Option<Owned>> {
        loop {
            if let Some((record, length)) = Record::first(&self.bytes[self.used..]).unwrap() {
                let owned = Owned {
                    kind: record.header.kind,
                    id: record.header.request.0,
                    content: record.content.to_vec(),
                };
                self.used += length;
                return Ok(Some(owned));
            }
            self.bytes.drain(..self.used);
            self.used = 0;
            let mut buffer = [0; 65536];
            match self.from.read(&mut buffer)? {
                0 => return Ok(None),
                count => self.bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The answer to this request; those to others are dropped.
    pub fn answer(&mut self, id: u16) -> Answer {
        let mut answer = Answer::default();
        while !answer.ended() {
            let record = match self.record() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("no answer to request {id}: {error}"),
            };
            if record.id == id {
                take(&mut answer, &record);
            }
        }
        answer
    }
}

/// Adds a record to an answer.
pub fn take(answer: &mut Answer, record: &Owned) {
    match record.kind {
        RecordType::Stdout => answer.stdout.extend_from_slice(&record.content),
        RecordType::Stderr => answer.stderr.extend_from_slice(&record.content),
        RecordType::EndRequest => answer.end = Some(EndRequest::decode(&record.content).unwrap()),
        other => panic!("{other} for a client"),
    }
}

/// Sends one request on a connection of its own and reads the answer.
pub fn ask(mut stream: UnixStream, pairs: &[(&str, &str)], body: &[u8]) -> Answer {
    let bytes = request(1, Connection::Close, pairs, body);
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        // A worker may answer, or refuse, before it has read all.
        scope.spawn(move || drop(writer.write_all(&bytes)));
        Reader::new(&mut stream).answer(1)
    })
}

/// One connection, at a worker.
pub struct Visit {
    pub reader: Reader<UnixStream>,
    pub stream: UnixStream,
}

/// A request as a worker got it.
#[derive(Debug, Clone)]
pub struct Got {
    pub begin: BeginRequest,
    pub params: Vec<(String, Vec<u8>)>,
    pub stdin: Vec<u8>,
    pub data: Vec<u8>,
    /// Bytes of content of each PARAMS record.
    pub param_records: Vec<usize>,
}

impl Got {
    pub fn param(&self, name: &str) -> String {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }
}

impl Visit {
    /// Waits for the next connection on a slot.
    pub fn accept(listener: &UnixListener) -> Visit {
        let (stream, _) = listener.accept().unwrap();
        Visit { reader: Reader::new(stream.try_clone().unwrap()), stream }
    }

    /// The head of the next request: `None` where the connection ends instead.
    pub fn head(&mut self) -> Option<Got> {
        let begin = self.reader.record().ok().flatten()?;
        assert_eq!(begin.kind, RecordType::BeginRequest);
        let mut got = Got {
            begin: BeginRequest::decode(&begin.content).unwrap(),
            params: Vec::new(),
            stdin: Vec::new(),
            data: Vec::new(),
            param_records: Vec::new(),
        };
        loop {
            let record = self.reader.record().ok().flatten()?;
            assert_eq!(record.kind, RecordType::Params);
            if record.content.is_empty() {
                return Some(got);
            }
            got.param_records.push(record.content.len());
            for pair in Pairs::new(&record.content) {
                let (name, value) = pair.expect("whole pairs in each record");
                got.params.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
            }
        }
    }

    /// The next request with its STDIN.
    pub fn request(&mut self) -> Option<Got> {
        let mut got = self.head()?;
        self.stream_into(RecordType::Stdin, &mut got.stdin)?;
        Some(got)
    }

    /// Reads one stream to its end.
    pub fn stream_into(&mut self, kind: RecordType, into: &mut Vec<u8>) -> Option<()> {
        loop {
            let record = self.reader.record().ok().flatten()?;
            assert_eq!(record.kind, kind);
            if record.content.is_empty() {
                return Some(());
            }
            into.extend_from_slice(&record.content);
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// A whole answer.
    pub fn reply(&mut self, stdout: &[u8]) {
        let mut out = self::stdout(stdout);
        encode::end_stream(&mut out, RecordType::Stdout, RequestId(1));
        encode::end_request(&mut out, RequestId(1), 0, ProtocolStatus::RequestComplete);
        let _ = self.stream.write_all(&out);
    }
}

/// A worker that keeps connections and answers each request with its path and body, until the listener ends.
pub fn echo(listener: UnixListener) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut visit = Visit { reader: Reader::new(stream.try_clone().unwrap()), stream };
            while let Some(got) = visit.request() {
                let head = format!("Content-Type: text/plain\r\n\r\n{} ", got.param("SCRIPT_NAME"));
                visit.reply(&[head.as_bytes(), &got.stdin].concat());
                if got.begin.connection == Connection::Close {
                    break;
                }
            }
        }
    })
}
