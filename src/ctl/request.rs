//! `fpmctl request`: one FastCGI request as a web server would send it, and its answer. What is sent is `params`'s and
//! `body`'s part, the traffic in both directions at once is `exchange`'s; here is the order of things and what can fail.

mod body;
mod connect;
mod exchange;
mod params;

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use nix::errno::Errno;

use crate::cli::request::{Endpoint, Request};
use crate::fcgi::body::{BeginRequest, Connection, ProtocolStatus, Role};
use crate::fcgi::encode;
use crate::fcgi::pairs::PairError;
use crate::fcgi::record::{RecordError, RequestId};
use crate::fcgi::response::HeadError;
use crate::os::clock;
use crate::os::errno;
use body::Body;
use exchange::{Answer, Outgoing, exchange};

/// The only request on its connection.
const ID: RequestId = RequestId(1);

/// What came back. The body is written to where `run` was told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// From `Status:`; else 302 with a `Location:`, else 200.
    pub status: u16,
    /// The words after the number; may be empty.
    pub reason: String,
    /// Names and values in their order, but for `Status`.
    pub fields: Vec<(String, String)>,
    /// Bytes of the body.
    pub body: u64,
    /// What the application said that a CGI program would have exited with.
    pub app_status: u32,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub struct RequestError {
    endpoint: Endpoint,
    cause: Cause,
}

/// What went wrong.
#[derive(Debug)]
enum Cause {
    Connect(io::Error),
    Body {
        name: String,
        error: io::Error,
    },
    Params(PairError),
    Send(io::Error),
    Receive(io::Error),
    TimedOut(Duration),
    /// Before the answer began, or in it.
    ClosedEarly(Stage),
    Record(RecordError),
    Head(HeadError),
    NoHead {
        app_status: u32,
    },
    Refused(ProtocolStatus),
    Output(io::Error),
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing,
    Head,
    Body,
}

/// Sends `request` to `endpoint` and writes the answer's body to `out`, with status and headers before it if
/// `request.include` says so, and what the application says on its error stream to `err`. The parameters are those of
/// nginx's `fastcgi_params`; SCRIPT_FILENAME is the root and the path, or the path alone where no root is named.
/// `request.target` is not looked at.
///
/// # Errors
/// The endpoint cannot be reached, does not answer in time, or answers something that is no CGI response in FastCGI.
/// A reader of `out` that has seen enough is no error, and no status of the response is.
pub fn run(
    request: &Request,
    endpoint: &Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Response, RequestError> {
    send(request, endpoint, out, err).map_err(|cause| RequestError { endpoint: endpoint.clone(), cause })
}

fn send(
    request: &Request,
    endpoint: &Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Response, Cause> {
    let body = Body::open(request.data.as_ref())?;
    let params = params::params(request, body.length());
    let mut head = Vec::new();
    // The application closes: one request is all that we have.
    let begin = BeginRequest { role: Role::Responder, connection: Connection::Close };
    encode::begin_request(&mut head, ID, &begin);
    let pairs = params.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    encode::params(&mut head, ID, pairs).map_err(Cause::Params)?;

    let deadline = clock::monotonic().after(request.timeout);
    let socket = connect::connect(endpoint, request.timeout)?;
    let mut answer = Answer::new(out, err, request.include);
    exchange(&socket, &mut Outgoing::new(head, body), &mut answer, deadline).map_err(
        |cause| match cause {
            Cause::TimedOut(_) => Cause::TimedOut(request.timeout),
            other => other,
        },
    )?;
    answer.finish()
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Named(&self.endpoint);
        match &self.cause {
            Cause::Connect(error) => write!(f, "cannot connect to {at}: {}", words(error)),
            Cause::Body { name, error } => write!(f, "cannot read {name}: {}", words(error)),
            Cause::Params(error) => error.fmt(f),
            Cause::Send(error) => write!(f, "cannot send the request to {at}: {}", words(error)),
            Cause::Receive(error) => write!(f, "cannot receive the answer from {at}: {}", words(error)),
            Cause::TimedOut(limit) => {
                write!(
                    f,
                    "cannot receive the answer from {at}: not complete within {} s",
                    limit.as_secs_f64()
                )
            }
            Cause::ClosedEarly(stage) => {
                let when = match stage {
                    Stage::Nothing => "before it said anything",
                    Stage::Head => "within the head of its answer",
                    Stage::Body => "within the body of its answer",
                };
                write!(f, "cannot receive the answer from {at}: the connection was closed {when}")
            }
            Cause::Record(error) => write!(f, "cannot understand {at}: {error}"),
            Cause::Head(error) => write!(f, "cannot understand {at}: {error}"),
            Cause::NoHead { app_status } => {
                write!(f, "cannot understand {at}: the answer has no complete head (status {app_status})")
            }
            Cause::Refused(status) => {
                let why = match status {
                    ProtocolStatus::RequestComplete => "no reason",
                    ProtocolStatus::CantMultiplex => "it serves one request at a time on a connection",
                    ProtocolStatus::Overloaded => "it is overloaded",
                    ProtocolStatus::UnknownRole => "it is no Responder",
                    ProtocolStatus::Other(_) => "for a reason that FastCGI does not know",
                };
                write!(f, "cannot get an answer from {at}: {why}")
            }
            Cause::Output(error) => write!(f, "cannot write the answer: {}", words(error)),
        }
    }
}

impl std::error::Error for RequestError {}

/// As `strerror(3)` has it, where the error comes from a system call.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => errno::Cause(Errno::from_raw(number)).to_string(),
        None => error.to_string(),
    }
}

/// An endpoint as it is typed.
struct Named<'a>(&'a Endpoint);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Endpoint::Tcp(address) => write!(f, "'{address}'"),
            Endpoint::Unix(path) => write!(f, "'{}'", path.display()),
            Endpoint::Abstract(name) => write!(f, "'@{name}'"),
        }
    }
}

#[cfg(test)]
mod tests;
