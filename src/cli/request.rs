//! The operands and options of `fpmctl request`: one FastCGI request, as a web server would send it. Documented in
//! fpmctl(8). Connects to nothing and reads no file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values;
use crate::ids::PoolName;

/// One FastCGI request.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Request {
    /// Where to: HOST:PORT, PORT, a socket path, @NAME, or a pool of the running fpmd
    #[arg(value_name = "ADDRESS|POOL", value_parser = Target::parse)]
    pub target: Target,
    /// Path with an optional query: /index.php?a=1
    #[arg(value_parser = path)]
    pub path: String,
    /// Request method; POST where there is data, else GET
    #[arg(long, short = 'X', value_name = "METHOD")]
    pub method: Option<String>,
    /// Request body: text, @FILE, or @- for standard input
    #[arg(long, short, value_name = "DATA", value_parser = Data::parse)]
    pub data: Option<Data>,
    /// Request header 'Name: value'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "HEADER", value_parser = values::header)]
    pub headers: Vec<(String, String)>,
    /// FastCGI parameter, instead of the one fpmctl would send; may be repeated
    #[arg(long = "param", short, value_name = "NAME=VALUE", value_parser = values::assignment)]
    pub params: Vec<(String, String)>,
    /// Document root: SCRIPT_FILENAME is this and the path
    #[arg(long, short, value_name = "DIR")]
    pub root: Option<String>,
    /// Print status and headers before the body
    #[arg(long, short)]
    pub include: bool,
    /// Seconds to wait for the whole answer
    #[arg(long, short, value_name = "SECONDS", default_value = "30", value_parser = values::seconds)]
    pub timeout: Duration,
}

/// Where the request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A listening socket.
    Endpoint(Endpoint),
    /// The first socket of a pool of the running fpmd.
    Pool(PoolName),
}

/// A listening socket, seen by a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `HOST:PORT`; the host is a name or an address, IPv6 in brackets.
    Tcp(String),
    /// A socket's path.
    Unix(PathBuf),
    /// A Linux abstract name, without the `@`.
    Abstract(String),
}

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// This text.
    Text(String),
    /// What is in this file.
    File(PathBuf),
    /// What is on standard input.
    Stdin,
}

impl Target {
    /// What no pool's name can be is an address; a bare number is a port of this machine.
    fn parse(text: &str) -> Result<Target, String> {
        let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_port || text.contains(['/', '@', ':']) {
            return Endpoint::parse(text).map(Target::Endpoint);
        }
        PoolName::new(text).map(Target::Pool)
    }
}

impl Endpoint {
    /// Reads an address as fpmd's configuration and status write it, host names besides.
    ///
    /// # Errors
    /// A sentence that says what is right.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Endpoint::Tcp(format!("127.0.0.1:{port}")));
        }
        if let Some(name) = text.strip_prefix('@') {
            return Ok(Endpoint::Abstract(name.into()));
        }
        if text.contains('/') {
            return Ok(Endpoint::Unix(text.into()));
        }
        match text.rsplit_once(':') {
            Some(("systemd", name)) => Err(format!(
                "'systemd:{name}' is a socket that fpmd inherits; write the address that the service manager gave it"
            )),
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Endpoint::Tcp(text.into()))
            }
            _ => {
                Err("an address is HOST:PORT, a port from 0 to 65535, the path of a socket, or @NAME".into())
            }
        }
    }
}

impl Data {
    // clap asks for a `Result`, and every text is data.
    #[allow(clippy::unnecessary_wraps)]
    fn parse(text: &str) -> Result<Data, String> {
        Ok(match text.strip_prefix('@') {
            Some("-") => Data::Stdin,
            Some(file) => Data::File(file.into()),
            None => Data::Text(text.into()),
        })
    }
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.into()) } else { Err("a path begins with '/'".into()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        request: Request,
    }

    fn parsed(line: &str) -> Result<Request, String> {
        let words = std::iter::once("request").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.request).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_is_read_whole() {
        let line = "www /a?b=c -X PUT -d @- -H X-A:b -p HTTPS=on -r /srv -i -t 2.5";
        let request = Request {
            target: Target::Pool(PoolName::new("www").unwrap()),
            path: "/a?b=c".into(),
            method: Some("PUT".into()),
            data: Some(Data::Stdin),
            headers: vec![("X-A".into(), "b".into())],
            params: vec![("HTTPS".into(), "on".into())],
            root: Some("/srv".into()),
            include: true,
            timeout: Duration::from_millis(2500),
        };
        assert_eq!(parsed(line), Ok(request));
    }

    #[test]
    fn targets_are_told_apart() {
        let tcp = |text: &str| Ok(Target::Endpoint(Endpoint::Tcp(text.into())));
        assert_eq!(Target::parse("127.0.0.1:9000"), tcp("127.0.0.1:9000"));
        assert_eq!(Target::parse("[::1]:9000"), tcp("[::1]:9000"));
        assert_eq!(Target::parse("localhost:9000"), tcp("localhost:9000"));
        assert_eq!(Target::parse("9000"), tcp("127.0.0.1:9000"));
        assert_eq!(Target::parse("./x.sock"), Ok(Target::Endpoint(Endpoint::Unix("./x.sock".into()))));
        assert_eq!(Target::parse("@a/b"), Ok(Target::Endpoint(Endpoint::Abstract("a/b".into()))));
        assert_eq!(Target::parse("www.example.org"), PoolName::new("www.example.org").map(Target::Pool));
    }

    #[test]
    fn wrong_operands_are_named() {
        for (line, named) in [
            ("www", "<PATH>"),
            ("www x", "begins with '/'"),
            ("www / -t 0", "more than 0"),
            ("localhost: /", "HOST:PORT"),
            (":9000 /", "HOST:PORT"),
            ("99999 /", "0 to 65535"),
            ("systemd:www /", "service manager"),
            ("-H x www /", "Name: value"),
        ] {
            let text = parsed(line).unwrap_err();
            assert!(text.contains(named), "{line}: {text}");
        }
    }

    #[test]
    fn data_comes_from_the_line_a_file_or_standard_input() {
        assert_eq!(Data::parse("a=@b"), Ok(Data::Text("a=@b".into())));
        assert_eq!(Data::parse("@b"), Ok(Data::File("b".into())));
        assert_eq!(Data::parse("@-"), Ok(Data::Stdin));
    }
}
