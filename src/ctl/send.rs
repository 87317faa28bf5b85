//! `fpmctl request` between the command line and the exchange: finds the socket, hands over the streams, and puts the
//! response into JSON where that is asked for.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::answer::{Answer, Look, line};
use super::request::{RequestError, Response, run};
use super::target;
use crate::cli::exit::Ctl;
use crate::cli::request::{Endpoint, Request};

/// What `--json` prints of a response. Bytes that are not UTF-8 are replaced.
#[derive(Serialize)]
struct Shown<'a> {
    ok: bool,
    status: u16,
    reason: &'a str,
    headers: &'a [(String, String)],
    body: &'a str,
    errors: &'a str,
    app_status: u32,
}

/// Sends the request. A complete response is success, whatever its status.
pub fn send(request: Request, control_socket: &Path, look: Look) -> Answer {
    let endpoint = match target::endpoint(&request.target, control_socket, look) {
        Ok(endpoint) => endpoint,
        Err(answer) => return answer,
    };
    let done = match look {
        Look::Text(_) => stream(&request, &endpoint),
        Look::Json => collect(request, &endpoint),
    };
    done.unwrap_or_else(|error| Answer::failed(Ctl::Refused, &error.to_string(), look))
}

/// The body goes through as it comes, of any length.
fn stream(request: &Request, endpoint: &Endpoint) -> Result<Answer, RequestError> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    run(request, endpoint, &mut stdout, &mut stderr)?;
    Ok(Answer { stdout: String::new(), stderr: Vec::new(), exit: Ctl::Done })
}

fn collect(request: Request, endpoint: &Endpoint) -> Result<Answer, RequestError> {
    let (mut body, mut errors) = (Vec::new(), Vec::new());
    // Status and headers have members of their own.
    let request = Request { include: false, ..request };
    let response = run(&request, endpoint, &mut body, &mut errors)?;
    let stdout = shown(&response, &String::from_utf8_lossy(&body), &String::from_utf8_lossy(&errors));
    Ok(Answer { stdout, stderr: Vec::new(), exit: Ctl::Done })
}

fn shown(response: &Response, body: &str, errors: &str) -> String {
    let Response { status, reason, fields, app_status, .. } = response;
    let (status, app_status) = (*status, *app_status);
    line(&Shown { ok: true, status, reason, headers: fields, body, errors, app_status }) + "\n"
}
