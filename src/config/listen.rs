//! Addresses to listen on: reading them, and finding two that are one socket. fpmd.toml(5), ADDRESSES.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use toml::de::DeValue;

use super::error::{Cause, Place};
use super::model::ListenAddress;
use super::walk::{Item, Report, number};

/// The longest path or abstract name of a Unix socket: `sun_path` of unix(7) without its NUL.
pub const LONGEST_UNIX: usize = 107;

/// The longest `FileDescriptorName=`, systemd.socket(5).
const LONGEST_NAME: usize = 255;

impl fmt::Display for ListenAddress {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Port(port) => port.fmt(f),
            ListenAddress::Unix(path) => path.display().fmt(f),
            ListenAddress::Abstract(name) => write!(f, "@{name}"),
            ListenAddress::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// Reads an address: `/path`, `@name`, `systemd:NAME`, `9000`, `127.0.0.1:9000`, `[::1]:9000`.
///
/// # Errors
/// A sentence that says what is right.
pub(super) fn parse(text: &str) -> Result<ListenAddress, String> {
    if text.starts_with('/') {
        return unix(text);
    }
    if let Some(name) = text.strip_prefix('@') {
        return match name.len() {
            0 => Err("'@' has no name after it".to_owned()),
            1..=LONGEST_UNIX => Ok(ListenAddress::Abstract(name.to_owned())),
            length => {
                Err(format!("the name has {length} bytes; an abstract socket has at most {LONGEST_UNIX}"))
            }
        };
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        let legal = |c: char| c.is_ascii_graphic() && c != ':';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(legal) {
            return Err(format!(
                "'{name}' is not a name of FileDescriptorName= (1 to {LONGEST_NAME} characters)"
            ));
        }
        return Ok(ListenAddress::Systemd(name.to_owned()));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return port(text.parse().unwrap_or(i64::MAX));
    }
    text.parse::<SocketAddr>().map(ListenAddress::Tcp).map_err(|_| advice(text))
}

fn unix(text: &str) -> Result<ListenAddress, String> {
    match text.len() {
        _ if text.ends_with('/') => Err(format!("'{text}' is a directory; write the path of a socket")),
        2..=LONGEST_UNIX => Ok(ListenAddress::Unix(PathBuf::from(text))),
        length => Err(format!("the path has {length} bytes; a Unix socket has at most {LONGEST_UNIX}")),
    }
}

/// Why a text that looks like no address is none.
fn advice(text: &str) -> String {
    if let Some(path) = text.strip_prefix("unix:") {
        return format!("'{text}' is not an address; write the path alone: \"{path}\"");
    }
    if let Some(port) = text.strip_prefix("*:").or_else(|| text.strip_prefix(':')) {
        return format!("'{text}' is not an address; for every interface write the port alone: {port}");
    }
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_err() => {
            format!("'{text}' is not an address; '{port}' after '{host}' is not a port from 0 to 65535")
        }
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => {
            format!("'{text}' is not an address; write IPv6 in brackets: \"[{host}]:{port}\"")
        }
        Some((host, _)) => {
            format!("'{text}' is not an address; '{host}' is not an IP address, and names are not looked up")
        }
        None if text.parse::<IpAddr>().is_ok() => format!("'{text}' has no port; write \"{text}:9000\""),
        None => format!(
            "'{text}' is not an address; write an absolute path, \"127.0.0.1:9000\", a port, \"@NAME\" or \"systemd:NAME\""
        ),
    }
}

fn port(number: i64) -> Result<ListenAddress, String> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(ListenAddress::Port(port)),
        _ => Err(format!("{number} is out of range; a port is 1 to 65535")),
    }
}

/// Reads a pool's `listen`: one address or an array of them, each claimed in `sockets`.
pub(super) fn read(
    report: &mut Report,
    item: &Item<'_>,
    sockets: &mut Sockets,
    owner: &str,
) -> Option<Vec<ListenAddress>> {
    let items = match item.value {
        DeValue::Array(array) if array.is_empty() => {
            return item.refuse(report, "is empty; a pool needs one address at least");
        }
        DeValue::Array(_) => item.items(report, "an array")?,
        _ => vec![item.clone()],
    };
    let mut addresses = Vec::new();
    for item in &items {
        let read = match item.value {
            DeValue::Integer(integer) => port(number(integer).unwrap_or(i64::MAX)),
            DeValue::String(_) => match item.text(report) {
                Some(text) => parse(&text),
                None => continue,
            },
            _ => {
                item.mistyped::<()>(report, "an address or a port");
                continue;
            }
        };
        match read {
            Ok(address) => {
                sockets.claim(report, item, &address, owner);
                addresses.push(address);
            }
            Err(sentence) => {
                item.refuse::<()>(report, sentence);
            }
        }
    }
    (addresses.len() == items.len()).then_some(addresses)
}

/// The sockets that are spoken for.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Claim>);

#[derive(Debug)]
struct Claim {
    address: ListenAddress,
    owner: String,
    place: Place,
}

impl Sockets {
    /// Reports an address that somebody has claimed before, `owner` ("pool 'www'") included, and claims it.
    pub(super) fn claim(
        &mut self,
        report: &mut Report,
        item: &Item<'_>,
        address: &ListenAddress,
        owner: &str,
    ) {
        match self.0.iter().find(|claim| same_socket(&claim.address, address)) {
            Some(claim) => {
                let also =
                    if claim.address == *address { String::new() } else { format!(" as {}", claim.address) };
                let what = format!("{address} is already the socket of {}{also}", claim.owner);
                item.fail(report, Cause::Duplicate { what, first: claim.place.clone() });
            }
            None => self.add(address.clone(), owner, item.place()),
        }
    }

    /// Claims an address without a look.
    pub(super) fn add(&mut self, address: ListenAddress, owner: &str, place: Place) {
        self.0.push(Claim { address, owner: owner.to_owned(), place });
    }
}

/// Whether two addresses cannot be listened on at the same time. Port 0 is another port each time.
fn same_socket(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => normal(a) == normal(b),
        (ListenAddress::Abstract(a), ListenAddress::Abstract(b))
        | (ListenAddress::Systemd(a), ListenAddress::Systemd(b)) => a == b,
        (ListenAddress::Tcp(_) | ListenAddress::Port(_), ListenAddress::Tcp(_) | ListenAddress::Port(_)) => {
            match (inet(a), inet(b)) {
                (Some(a), Some(b)) => a.port() == b.port() && a.port() != 0 && overlap(a.ip(), b.ip()),
                _ => false,
            }
        }
        (
            ListenAddress::Unix(_)
            | ListenAddress::Abstract(_)
            | ListenAddress::Systemd(_)
            | ListenAddress::Tcp(_)
            | ListenAddress::Port(_),
            _,
        ) => false,
    }
}

fn inet(address: &ListenAddress) -> Option<SocketAddr> {
    match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Port(port) => Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))),
        ListenAddress::Unix(_) | ListenAddress::Abstract(_) | ListenAddress::Systemd(_) => None,
    }
}

/// `::` takes IPv4 in as well (ipv6(7), IPV6_V6ONLY is off), and `::ffff:1.2.3.4` is 1.2.3.4.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let everything = |ip: IpAddr| ip == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let takes = |a: IpAddr, b: IpAddr| everything(a) || (a.is_unspecified() && b.is_ipv4());
    a == b || takes(a, b) || takes(b, a)
}

/// A path without `.`, `..` and doubled slashes, as far as the text alone can tell.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // At the root there is no parent to go to.
            Component::ParentDir if clean.parent().is_none() => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read_and_shown_as_it_was() {
        let long = format!("/{}", "x".repeat(106));
        for text in [
            "/run/a.sock",
            &long,
            "@name",
            "systemd:www",
            "9000",
            "127.0.0.1:9000",
            "[::1]:9000",
            "127.0.0.1:0",
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn wrong_addresses_say_what_is_right() {
        let cases = [
            (
                "",
                "'' is not an address; write an absolute path, \"127.0.0.1:9000\", a port, \"@NAME\" or \"systemd:NAME\"",
            ),
            (
                "run/a.sock",
                "'run/a.sock' is not an address; write an absolute path, \"127.0.0.1:9000\", a port, \"@NAME\" or \"systemd:NAME\"",
            ),
            ("unix:/run/a", "'unix:/run/a' is not an address; write the path alone: \"/run/a\""),
            (":9000", "':9000' is not an address; for every interface write the port alone: 9000"),
            ("*:9000", "'*:9000' is not an address; for every interface write the port alone: 9000"),
            (
                "localhost:9000",
                "'localhost:9000' is not an address; 'localhost' is not an IP address, and names are not looked up",
            ),
            ("127.0.0.1", "'127.0.0.1' has no port; write \"127.0.0.1:9000\""),
            (
                "127.0.0.1:99999",
                "'127.0.0.1:99999' is not an address; '99999' after '127.0.0.1' is not a port from 0 to 65535",
            ),
            ("fe80::1:x", "'fe80::1:x' is not an address; 'x' after 'fe80::1' is not a port from 0 to 65535"),
            ("0", "0 is out of range; a port is 1 to 65535"),
            ("65536", "65536 is out of range; a port is 1 to 65535"),
            ("@", "'@' has no name after it"),
            ("/run/", "'/run/' is a directory; write the path of a socket"),
            ("systemd:", "'' is not a name of FileDescriptorName= (1 to 255 characters)"),
        ];
        for (text, sentence) in cases {
            assert_eq!(parse(text), Err(sentence.to_owned()), "{text}");
        }
        let sentence = "the path has 108 bytes; a Unix socket has at most 107";
        assert_eq!(parse(&format!("/{}", "x".repeat(107))), Err(sentence.to_owned()));
        let sentence = "the name has 108 bytes; an abstract socket has at most 107";
        assert_eq!(parse(&format!("@{}", "x".repeat(108))), Err(sentence.to_owned()));
    }

    #[test]
    fn addresses_that_clash() {
        let clash = |a: &str, b: &str| {
            let (a, b) = (parse(a).expect(a), parse(b).expect(b));
            assert_eq!(same_socket(&a, &b), same_socket(&b, &a), "{a} {b}");
            same_socket(&a, &b)
        };
        let every = ["9000", "[::]:9000", "0.0.0.0:9000", "127.0.0.1:9000", "[::ffff:127.0.0.1]:9000"];
        for a in every {
            for b in every {
                assert!(clash(a, b), "{a} {b}");
            }
        }
        assert!(clash("/run/a", "/run//x/../a"));
        assert!(clash("/run/a", "/../run/./a"));
        assert!(clash("@a", "@a"));
        assert!(clash("[::1]:9000", "9000"));
        for (a, b) in [
            ("9000", "9001"),
            ("127.0.0.1:9000", "127.0.0.2:9000"),
            ("0.0.0.0:9000", "[::1]:9000"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("/run/a", "/run/b"),
            ("/a", "@/a"),
            ("@a", "systemd:a"),
        ] {
            assert!(!clash(a, b), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_what_is_read_is_shown(text in "(.{0,20}|[0-9a-f:.\\[\\]]{0,20})") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()), Ok(address));
            }
        }
    }
}
