//! Requests that end before their bodies are with the worker: their client leaves, or their gateway is killed. Nobody waits
//! for them, and a worker that does all the same (flup's threads, for the rest of the body, for ever; flipflop's as well) is
//! replaced.

use nix::sys::signal::Signal;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::{Fpmd, Rig};
use crate::support::fastcgi::Connection;
use crate::support::{process, workers};

/// More than all buffers on the way to a worker hold.
const LARGE: usize = 5 << 20;

/// Some workers end over it, and say so.
const SAID: [&str; 6] =
    ["exited on", "exited with", "said into stderr", "leftover", "orphan", "still busy after 1s"];

/// What a worker makes of the end of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notices {
    Yes,
    Never,
}

#[track_caller]
fn assert_not_waited_for(command: &[String], notices: Notices, interrupt: impl Fn(&Fpmd, Connection)) {
    let pool = routed("www", command).key("stop_timeout", "\"1s\"");
    let rig = SAID.iter().fold(Rig::new().for_python(), |rig, piece| rig.expect(piece)).pool(pool);
    let mut fpmd = serving(rig);
    fpmd.descriptors_may_change();
    let pid = fpmd.workers("www")[0];
    process::signal(pid, Signal::SIGSTOP);
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("POST", "/body", &vec![b'x'; LARGE]).unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    interrupt(&fpmd, connection);
    fpmd.wait_pool("www", "a worker that is busy still", |pool| pool.active_processes == 1);
    process::signal(pid, Signal::SIGCONT);
    let pool = fpmd.wait_pool("www", "an idle worker and no other", |pool| {
        let is_new = pool.workers.iter().all(|worker| worker.pid.as_raw() != pid);
        (pool.idle_processes, pool.total_processes) == (1, 1) && (is_new || notices == Notices::Yes)
    });
    let replaced = "holds on to a request that it will never have the whole of, replacing it";
    assert_eq!(fpmd.log().contains(replaced), notices == Notices::Never, "{pool:?}");
    assert!(!fpmd.address("www").get("/slow/1").unwrap().body.is_empty());
    fpmd.finish();
}

fn by_a_killed_gateway(fpmd: &Fpmd, _connection: Connection) {
    let gateway = fpmd.pool("www").gateway.unwrap().pid;
    process::signal(gateway.as_raw(), Signal::SIGKILL);
    fpmd.wait_pool("www", "another gateway", |pool| {
        pool.gateway.as_ref().is_some_and(|other| other.pid != gateway)
    });
}

fn by_its_client(fpmd: &Fpmd, connection: Connection) {
    drop(connection);
    fpmd.wait_pool("www", "a request without a client", |pool| {
        pool.gateway.as_ref().is_some_and(|gateway| gateway.aborted == 1)
    });
}

/// Both tests for each kind of worker.
macro_rules! kinds {
    ($($name:ident: $notices:ident, $command:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn interrupted_by_a_killed_gateway() {
                assert_not_waited_for(&$command, Notices::$notices, by_a_killed_gateway);
            }

            #[test]
            fn interrupted_by_its_client() {
                assert_not_waited_for(&$command, Notices::$notices, by_its_client);
            }
        })*
    };
}

kinds! {
    php_cgi: Yes, workers::php();
    libfcgi_c: Yes, workers::c();
    perl_fcgi: Yes, workers::perl();
    flup_single: Yes, workers::flup("single");
    flup_threaded: Never, workers::flup("threaded");
    ruby_fcgi: Yes, workers::ruby();
    node_fastcgi: Yes, workers::node();
    go_net_http_fcgi: Yes, workers::go();
}
