//! A FastCGI client of our own, written from the specification and sharing no code with fpmd, so that both cannot
//! have the same fault. One request a connection; enough for tests, no more.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PATIENCE;

pub const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
pub const PARAMS: u8 = 4;
pub const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

/// Where a pool listens.
#[derive(Debug, Clone)]
pub enum Address {
    Unix(PathBuf),
    Abstract(String),
    Tcp(SocketAddr),
}

impl Address {
    pub fn connect(&self) -> io::Result<Connection> {
        let (stream, deadline): (Box<dyn Stream>, _) = match self {
            Address::Unix(path) => (Box::new(UnixStream::connect(path)?), PATIENCE),
            Address::Abstract(name) => {
                let address = UnixAddr::from_abstract_name(name)?;
                (Box::new(UnixStream::connect_addr(&address)?), PATIENCE)
            }
            Address::Tcp(address) => (Box::new(TcpStream::connect(address)?), PATIENCE),
        };
        stream.deadline(deadline)?;
        Ok(Connection { stream })
    }

    /// Asks for a path, without a body.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path, &[])
    }

    /// Asks for a path of this script, without a body.
    pub fn get_from(&self, script: &Path, path: &str) -> io::Result<Answer> {
        let mut connection = self.connect()?;
        connection.send_to(script.to_str().unwrap(), "GET", path, &[])?;
        connection.answer()
    }

    /// One whole request.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut connection = self.connect()?;
        connection.send(method, path, body)?;
        connection.answer()
    }
}

trait Stream: Read + Write + Send {
    fn deadline(&self, span: Duration) -> io::Result<()>;
    fn duplicate(&self) -> io::Result<Box<dyn Stream>>;
    fn end(&self);
}

impl Stream for UnixStream {
    fn deadline(&self, span: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(span))?;
        self.set_write_timeout(Some(span))
    }

    fn duplicate(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for TcpStream {
    fn deadline(&self, span: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(span))?;
        self.set_write_timeout(Some(span))
    }

    fn duplicate(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// A connection to a worker.
pub struct Connection {
    stream: Box<dyn Stream>,
}

/// What a worker answered.
#[derive(Debug)]
pub struct Answer {
    /// The CGI header lines.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }
}

impl Connection {
    /// Sends a whole request: `path` is REQUEST_URI, and PHP's script is the fixture.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        self.send_to(&script("php/app.php"), method, path, body)
    }

    /// As `send`, for another SCRIPT_FILENAME.
    fn send_to(&mut self, script: &str, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        let pairs = pairs(script, method, path, body.len()).concat();
        let mut out = record(BEGIN_REQUEST, &[0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend(record(PARAMS, &pairs));
        out.extend(record(PARAMS, &[]));
        for chunk in body.chunks(32_768) {
            out.extend(record(STDIN, chunk));
        }
        out.extend(record(STDIN, &[]));
        self.stream.write_all(&out)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The same connection once more, to write with while the first one reads.
    pub fn duplicate(&self) -> io::Result<Connection> {
        Ok(Connection { stream: self.stream.duplicate()? })
    }

    /// Ends it for every duplicate too.
    pub fn end(&self) {
        self.stream.end();
    }

    /// Reads to the end of the request.
    ///
    /// # Errors
    /// The connection's; one that ends after some of the answer has come says `CUT_OFF`.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut stdout = Vec::new();
        loop {
            let record = self.record();
            let (kind, content) = record.map_err(|error| match stdout.is_empty() {
                true => error,
                false => io::Error::new(error.kind(), format!("{CUT_OFF} after {} bytes", stdout.len())),
            })?;
            match kind {
                STDOUT => stdout.extend(content),
                STDERR => {}
                END_REQUEST => break,
                other => return Err(io::Error::other(format!("record of type {other}"))),
            }
        }
        let end = stdout.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| {
            io::Error::other(format!("no CGI head in {:?}", String::from_utf8_lossy(&stdout)))
        })?;
        let body = stdout.split_off(end + 4);
        Ok(Answer { head: String::from_utf8_lossy(&stdout).into_owned(), body })
    }

    fn record(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head)?;
        let mut content = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]]))];
        self.stream.read_exact(&mut content)?;
        self.stream.read_exact(&mut vec![0; usize::from(head[6])])?;
        Ok((head[1], content))
    }
}

/// What the error of an answer says that was begun and not ended.
pub const CUT_OFF: &str = "the answer is cut off";

/// A script's path, for SCRIPT_FILENAME.
pub fn script(fixture: &str) -> String {
    super::workers::fixture(fixture).to_str().unwrap().to_owned()
}

/// The parameters of a request as encoded name-value pairs. `path` is REQUEST_URI.
pub fn pairs(script: &str, method: &str, path: &str, length: usize) -> Vec<Vec<u8>> {
    let length = length.to_string();
    let parameters = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", path),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", path),
        ("QUERY_STRING", ""),
        ("CONTENT_LENGTH", &length),
        ("CONTENT_TYPE", "application/octet-stream"),
        ("SCRIPT_FILENAME", script),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REMOTE_ADDR", "127.0.0.1"),
    ];
    parameters.map(|(name, value)| pair(name, value)).to_vec()
}

/// One name-value pair. Lengths over 127 take four bytes with the high bit set (section 3.4).
fn pair(name: &str, value: &str) -> Vec<u8> {
    let mut pair = Vec::new();
    for length in [name.len(), value.len()] {
        match u8::try_from(length) {
            Ok(short) if short < 128 => pair.push(short),
            _ => pair.extend((u32::try_from(length).unwrap() | 1 << 31).to_be_bytes()),
        }
    }
    pair.extend(name.bytes().chain(value.bytes()));
    pair
}

/// One record of request 1, without padding.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut record = vec![1, kind, 0, 1, length[0], length[1], 0, 0];
    record.extend(content);
    record
}
