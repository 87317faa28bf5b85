//! Where a pool of php-fpm listens, and who may connect. The forms are those of fpm_sockets.c.

use std::net::{IpAddr, SocketAddr};

use super::super::error::Error;
use super::super::listen::LONGEST_UNIX;
use super::super::network::Network;
use super::super::values;
use super::draft::Value;
use super::files::Given;
use super::pool::Pool;

/// An address of php-fpm's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(String),
    /// On every address.
    Port(u16),
    Tcp(SocketAddr),
    /// php-fpm looks it up when it starts.
    Named(String, u16),
}

/// Settings of a Unix socket's file, as php-fpm and as fpmd call them.
const OWNERS: [(&str, &str); 2] = [("listen.owner", "listen_owner"), ("listen.group", "listen_group")];
const LISTS: [(&str, &str); 2] =
    [("listen.acl_users", "listen_acl_users"), ("listen.acl_groups", "listen_acl_groups")];

pub(super) fn translate(pool: &mut Pool<'_>, errors: &mut Vec<Error>) {
    let Some(given) = pool.last("listen").filter(|given| !given.value.text.is_empty()) else {
        errors.push(pool.missing("listen", "every pool of php-fpm has one"));
        return;
    };
    let address = match address(pool, given) {
        Ok(address) => address,
        Err(sentence) => return errors.push(given.wrong(sentence)),
    };
    write(pool, given, &address);
    let done = match address {
        Address::Unix(_) => permissions(pool),
        Address::Port(_) | Address::Tcp(_) | Address::Named(..) => clients(pool),
    };
    errors.extend(done.err());
    errors.extend(backlog(pool).err());
}

fn address(pool: &Pool<'_>, given: &Given) -> Result<Address, String> {
    let text = pool.text(given);
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return port(&text).map(Address::Port);
    }
    let Some((host, digits)) = text.rsplit_once(':').filter(|_| !text.starts_with('/')) else {
        let path = pool.path(given).unwrap_or_default();
        return match path.len() {
            0..=LONGEST_UNIX => Ok(Address::Unix(path)),
            length => Err(format!("the path has {length} bytes; a Unix socket has at most {LONGEST_UNIX}")),
        };
    };
    let port = port(digits)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(match bare.parse::<IpAddr>() {
        Ok(address) => Address::Tcp(SocketAddr::new(address, port)),
        Err(_) if matches!(host, "" | "*") => Address::Port(port),
        Err(_) => Address::Named(host.to_owned(), port),
    })
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("'{text}' is not a port from 1 to 65535"))
}

fn write(pool: &mut Pool<'_>, given: &Given, address: &Address) {
    let own = &mut pool.draft.own;
    match address {
        Address::Unix(path) => own.set("listen", Value::of(path)),
        Address::Port(port) => own.set("listen", Value::Number(i64::from(*port))),
        Address::Tcp(address) => own.set("listen", Value::of(address.to_string())),
        Address::Named(host, port) => {
            let address = Value::Text(format!("127.0.0.1:{port}"));
            if host == "localhost" {
                own.set("listen", address);
            } else {
                let comment = format!(
                    "php-fpm's was {}; fpmd looks up no names. Write the address of {host} here, or the port alone for all.",
                    given.value.text
                );
                own.set_with("listen", address, &comment);
            }
        }
    }
}

/// Owner, group, mode and access list. php-fpm ignores the first two where it has a list.
fn permissions(pool: &mut Pool<'_>) -> Result<(), Error> {
    let mut has_list = false;
    for (theirs, ours) in LISTS {
        let Some(given) = pool.last(theirs) else { continue };
        let names = items(&pool.text(given));
        if !names.is_empty() {
            has_list = true;
            pool.draft.own.set(ours, Value::List(names));
        }
    }
    for (theirs, ours) in OWNERS {
        let Some(given) = pool.last(theirs).filter(|given| !given.value.text.is_empty()) else { continue };
        if has_list {
            pool.draft.own.note(&given.line(), "php-fpm ignores it beside an access list");
        } else {
            let text = pool.text(given);
            pool.draft.own.set(ours, Value::Text(text));
        }
    }
    if let Some(given) = pool.last("listen.mode").filter(|given| !given.value.text.is_empty()) {
        let bits = values::mode(&given.value.text).map_err(|sentence| given.wrong(sentence))?;
        pool.draft.own.set("listen_mode", Value::Text(values::show_mode(bits)));
    }
    if let Some(given) = pool.last("listen.allowed_clients").filter(|given| !given.value.text.is_empty()) {
        pool.draft
            .own
            .note(&given.line(), "it is about TCP, and this pool has a Unix socket; php-fpm ignores it, too");
    }
    Ok(())
}

/// Who may connect over TCP.
fn clients(pool: &mut Pool<'_>) -> Result<(), Error> {
    for (theirs, _) in OWNERS.into_iter().chain(LISTS).chain([("listen.mode", "")]) {
        if let Some(given) = pool.last(theirs).filter(|given| !given.value.text.is_empty()) {
            pool.draft.own.note(
                &given.line(),
                "it is about Unix sockets, and this pool has TCP; php-fpm ignores it, too",
            );
        }
    }
    let Some(given) = pool.last("listen.allowed_clients") else { return Ok(()) };
    let clients = items(&pool.text(given));
    if clients.is_empty() || clients == ["any"] {
        return Ok(());
    }
    for client in &clients {
        Network::parse(client).map_err(|sentence| given.wrong(sentence))?;
    }
    pool.draft.own.set("allowed_clients", Value::List(clients));
    Ok(())
}

/// -1, the default on Linux, is as long as the kernel allows; so is ours.
fn backlog(pool: &mut Pool<'_>) -> Result<(), Error> {
    let Some(given) = pool.last("listen.backlog") else { return Ok(()) };
    let number = given.number()?;
    if let Ok(number) = i32::try_from(number)
        && number >= 0
    {
        // The kernel takes 0 for about one.
        pool.draft.own.set("listen_backlog", Value::Number(i64::from(number.max(1))));
    }
    Ok(())
}

/// The parts between commas; php-fpm trips over blanks.
fn items(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
