//! Every web server that people put in front of a pool: pages, errors, uploads of known and unknown length, downloads.

use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Pool, Rig, run};
use crate::support::fronts::{Connections, Front, Kind};
use crate::support::random::Random;
use crate::support::web::Manner;
use crate::support::{process, workers};

const DOWN: usize = 3 << 20;

/// Asks for everything, one after the other, of php-cgi.
#[track_caller]
fn serves(kind: Kind, dispatch: Dispatch) {
    if takes_all_workers(kind, dispatch) {
        eprintln!("skipped: direct mode has no worker left for the rest");
        return;
    }
    let pool = Pool::new("www", &workers::php()).workers(2).dispatch(dispatch);
    let mut fpmd = Rig::new().pool(pool.key("listen_mode", "\"0666\"")).start();
    let front = Front::start(kind, &fpmd.rig.dir, &fpmd.socket("www"));
    let text = |path: &str, options: &[&str]| {
        front.page(path, options).map(|page| String::from_utf8_lossy(&page).into_owned())
    };
    for _ in 0..20 {
        let pid: i32 = text("/pid", &[]).unwrap().parse().unwrap();
        assert!(fpmd.workers("www").contains(&pid));
    }
    assert!(text("/nothing", &[]).unwrap_err().contains("404"));
    assert_eq!(text("/body", &["--data", "hello"]).unwrap(), "5 5d41402abc4b2a76b9719d911017c592");
    let file = fpmd.rig.dir.join("upload");
    let upload = Random::new(7).bytes(2_000_003);
    std::fs::write(&file, &upload).unwrap();
    let data = format!("@{}", file.display());
    let sum = run("/usr/bin/md5sum", &[file.to_str().unwrap()]).out;
    let expected = format!("2000003 {}", sum.split(' ').next().unwrap());
    assert_eq!(text("/body", &["--data-binary", &data]).unwrap(), expected);
    if takes_unknown_length(kind, dispatch) {
        let chunked = ["--header", "Transfer-Encoding: chunked", "--data-binary", &data];
        assert_eq!(text("/body", &chunked).unwrap(), expected);
    }
    if takes_early_answers(kind, dispatch) {
        assert!(front.page("/echo", &["--data-binary", &data]).unwrap() == upload, "the echo differs");
    }
    let down = front.page(&format!("/big/{DOWN}"), &[]).unwrap();
    assert!(down.len() == DOWN && down.iter().all(|byte| *byte == b'x'), "{} bytes", down.len());
    let worker: i32 = text("/pid", &[]).unwrap().parse().unwrap();
    fpmd.expect(&worker.to_string());
    process::signal(worker, Signal::SIGKILL);
    fpmd.wait_pool("www", "a replacement", |pool| {
        pool.total_processes == 2 && !pool.workers.iter().any(|other| other.pid.as_raw() == worker)
    });
    // A kept connection to the dead one may cost one request.
    let _ = text("/pid", &[]);
    assert_ne!(text("/pid", &[]).unwrap().parse::<i32>().unwrap(), worker);
    drop(front);
    fpmd.finish();
}

/// Connections kept by more processes than there are workers take all of them, unless there is a gateway.
fn takes_all_workers(kind: Kind, dispatch: Dispatch) -> bool {
    let of_many = matches!(kind, Kind::Apache(Connections::Kept) | Kind::Haproxy(Connections::Kept));
    of_many && dispatch == Dispatch::Direct
}

/// A body of unknown length reaches php-cgi without CONTENT_LENGTH unless somebody before it waits for its end. HAProxy
/// refuses to pass one on at all: it answers 400.
fn takes_unknown_length(kind: Kind, dispatch: Dispatch) -> bool {
    match (kind, dispatch) {
        (Kind::Haproxy(_), _) => false,
        (_, Dispatch::Gateway)
        | (Kind::Nginx(Manner::Plain | Manner::Kept) | Kind::Lighttpd, Dispatch::Direct) => true,
        (Kind::Nginx(Manner::Unbuffered) | Kind::Apache(_), Dispatch::Direct) => false,
    }
}

/// nginx without request buffering may take an answer that begins before the body is sent for a broken one, and answer 502
/// itself. The gateway has the whole body before a worker answers.
fn takes_early_answers(kind: Kind, dispatch: Dispatch) -> bool {
    !(matches!(kind, Kind::Nginx(Manner::Unbuffered)) && dispatch == Dispatch::Direct)
}

/// A test for each road behind each server.
macro_rules! fronts {
    ($($name:ident: $kind:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn and_the_gateway() {
                serves($kind, Dispatch::Gateway);
            }

            #[test]
            fn and_php_cgi_directly() {
                serves($kind, Dispatch::Direct);
            }
        })*
    };
}

fronts! {
    nginx: Kind::Nginx(Manner::Plain);
    nginx_with_kept_connections: Kind::Nginx(Manner::Kept);
    nginx_without_buffers: Kind::Nginx(Manner::Unbuffered);
    lighttpd: Kind::Lighttpd;
    apache: Kind::Apache(Connections::Closed);
    apache_with_kept_connections: Kind::Apache(Connections::Kept);
    haproxy: Kind::Haproxy(Connections::Closed);
    haproxy_with_kept_connections: Kind::Haproxy(Connections::Kept);
}
