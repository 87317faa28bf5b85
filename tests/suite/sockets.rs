//! Listening sockets of every kind: created with the right owner and mode, taken over, refused, inherited, removed.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

use crate::support::daemon::{Fpmd, Pool, Rig, run};
use crate::support::fastcgi::Address;
use crate::support::{as_root, process, wait_for, wait_until, workers};

/// The addresses that a pool really listens on.
fn addresses(fpmd: &Fpmd, pool: &str) -> Vec<Address> {
    let read = |text: String| match text.strip_prefix('@') {
        Some(name) => Address::Abstract(name.to_owned()),
        None if text.starts_with('/') => Address::Unix(text.into()),
        None => Address::Tcp(text.parse().unwrap_or_else(|_| panic!("address '{text}'"))),
    };
    fpmd.pool(pool).listeners.into_iter().map(|listener| read(listener.address)).collect()
}

#[test]
fn one_pool_on_every_kind_of_address() {
    let name = format!("fpmd-test-{}", std::process::id());
    let listen = ["127.0.0.1:0", "[::1]:0", "{dir}/www.sock", &format!("@{name}")];
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(8).listen(&listen)).start();
    let found = addresses(&fpmd, "www");
    assert_eq!(found.len(), 4, "{found:?}");
    let pids = fpmd.workers("www");
    for address in &found {
        let pid = address.get("/pid").unwrap_or_else(|error| panic!("{address:?}: {error}")).text();
        assert!(pids.contains(&pid.parse().unwrap()), "{address:?}");
    }
    let tcp: Vec<bool> =
        found.iter().map(|address| matches!(address, Address::Tcp(tcp) if tcp.port() > 0)).collect();
    assert_eq!(tcp.iter().filter(|is| **is).count(), 2, "{found:?}");
    fpmd.finish();
    assert!(found.iter().all(|address| address.connect().is_err()), "still listening after the end");
}

#[test]
fn a_bare_port_is_both_families() {
    // Free a moment ago; taken by then, the pool would say so.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).key("listen", &port.to_string())).start();
    for host in ["127.0.0.1", "[::1]"] {
        let address = Address::Tcp(format!("{host}:{port}").parse().unwrap());
        address.get("/pid").unwrap_or_else(|error| panic!("{address:?}: {error}"));
    }
    fpmd.finish();
}

#[test]
fn a_path_has_the_owner_group_mode_and_access_list_of_the_configuration() {
    if !as_root("another user's socket") {
        return;
    }
    let pool = Pool::new("www", &workers::c())
        .key("listen_owner", "\"www-data\"")
        .key("listen_group", "\"daemon\"")
        .key("listen_mode", "\"0620\"");
    let acl = Pool::new("acl", &workers::c())
        .key("listen_acl_users", "[\"www-data\", \"backup\"]")
        .key("listen_acl_groups", "[\"daemon\"]");
    let fpmd = Rig::new().pool(pool).pool(acl).start();
    let meta = fs::metadata(fpmd.socket("www")).unwrap();
    let id = |program: &str| run("/usr/bin/id", &[program, "www-data"]).out.trim().parse::<u32>().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (id("-u"), 1, 0o620));
    let path = fpmd.socket("acl");
    let acl = run("/usr/bin/getfacl", &["--absolute-names", "--omit-header", path.to_str().unwrap()]).out;
    for line in ["user:www-data:rw-", "user:backup:rw-", "group:daemon:rw-", "other::---"] {
        assert!(acl.contains(line), "no {line} in:\n{acl}");
    }
    fpmd.finish();
}

#[test]
fn the_usual_mode_keeps_others_out_whatever_the_umask() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c())).wrapper(&[
        "/bin/sh",
        "-c",
        "umask 0; exec \"$@\"",
        "sh",
    ]);
    let fpmd = fpmd.start();
    assert_eq!(fs::metadata(fpmd.socket("www")).unwrap().mode() & 0o777, 0o660);
    fpmd.finish();
}

#[test]
fn a_stale_socket_is_replaced() {
    let rig = Rig::new().pool(Pool::new("www", &workers::c()));
    drop(UnixListener::bind(rig.dir.join("www.sock")).unwrap());
    let fpmd = rig.start();
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn a_live_socket_is_refused_and_taken_over_when_it_dies() {
    let rig = Rig::new()
        .pool(Pool::new("www", &workers::c()))
        .pool(Pool::new("good", &workers::c()))
        .expect("www.sock");
    let owner = UnixListener::bind(rig.dir.join("www.sock")).unwrap();
    let inode = fs::metadata(rig.dir.join("www.sock")).unwrap().ino();
    let mut fpmd = rig.start();
    fpmd.descriptors_may_change();
    let pool = fpmd.pool("www");
    assert_eq!((pool.state.as_str(), pool.total_processes), ("failed", 0), "{pool:?}");
    let reason = pool.reason.unwrap();
    assert!(reason.contains("www.sock") && reason.contains("another process is listening"), "{reason}");
    assert_eq!(fs::metadata(fpmd.socket("www")).unwrap().ino(), inode, "the owner's socket is untouched");
    fpmd.address("good").get("/pid").unwrap();
    drop(owner);
    fpmd.ctl_done(&["start", "www"]);
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let rig = Rig::new()
        .pool(Pool::new("www", &workers::c()))
        .pool(Pool::new("good", &workers::c()))
        .expect("www.sock");
    let path = rig.dir.write("www.sock", "precious");
    let fpmd = rig.start();
    let pool = fpmd.pool("www");
    assert_eq!(pool.state, "failed", "{pool:?}");
    let master = fpmd.pid();
    fpmd.signal(nix::sys::signal::Signal::SIGTERM);
    wait_until("the end", || !process::is_alive(master));
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    fpmd.finish_stopped();
}

#[test]
fn a_path_that_does_not_fit_is_a_mistake_of_the_configuration() {
    let long = format!("/tmp/{}.sock", "x".repeat(103));
    assert_eq!(long.len(), 113);
    let ran = Rig::new().pool(Pool::new("www", &workers::c()).listen(&[&long])).run_to_end();
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.err.contains("107") && ran.err.contains("listen"), "{}", ran.err);
    let path = format!("{:x<102}.sock", format!("/tmp/fpmd-{}-", std::process::id()));
    assert_eq!(path.len(), 107);
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).listen(&[&path])).start();
    Address::Unix(path.clone().into()).get("/pid").unwrap();
    fpmd.finish();
    assert!(!fs::exists(path).unwrap());
}

#[test]
fn sockets_come_by_name_from_the_service_manager() {
    // Python stands for the service manager: binds, passes descriptors 3 and 4, becomes fpmd.
    let script = "
import os, socket, sys
names = ['other', 'web']
for number, name in enumerate(names):
    sock = socket.socket(); sock.bind(('127.0.0.1', 0)); sock.listen(64)
    open(os.path.join(sys.argv[1], name), 'w').write(str(sock.getsockname()[1]))
    high = os.dup2(sock.fileno(), 20 + number); sock.close()
for number in range(2):
    os.dup2(20 + number, 3 + number, inheritable=True); os.close(20 + number)
os.environ.update(LISTEN_FDS='2', LISTEN_FDNAMES=':'.join(names), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
";
    let rig = Rig::new();
    let dir = rig.dir.path().to_str().unwrap().to_owned();
    let rig = rig
        .pool(Pool::new("www", &workers::c()).listen(&["systemd:web"]))
        .wrapper(&["/usr/bin/python3", "-c", script, &dir])
        .expect("other");
    let fpmd = rig.start();
    let port = fs::read_to_string(fpmd.rig.dir.join("web")).unwrap();
    let address = Address::Tcp(format!("127.0.0.1:{port}").parse().unwrap());
    let pid = address.get("/pid").unwrap().text();
    assert_eq!(fpmd.workers("www"), [pid.parse::<i32>().unwrap()]);
    let environment = process::environment(fpmd.workers("www")[0]).unwrap();
    assert!(!environment.keys().any(|name| name.starts_with("LISTEN_")), "{environment:?}");
    fpmd.finish();
}

#[test]
fn the_next_worker_finds_a_blocking_socket_whatever_the_last_one_did() {
    // libfcgi ends at once on a socket that does not block, and the flag is shared by everyone who holds it.
    let rig = Rig::new();
    let flag = rig.dir.join("once");
    let script = "import os, sys\nif not os.path.exists(sys.argv[1]):\n open(sys.argv[1], 'w'); os.set_blocking(0, False); sys.exit(0)\nos.execv(sys.argv[2], sys.argv[2:])\n";
    let command =
        ["/usr/bin/python3", "-c", script, flag.to_str().unwrap(), &workers::c()[0]].map(str::to_owned);
    let mut fpmd = rig.pool(Pool::new("www", &command)).start();
    // The first worker may have ended when they were counted.
    fpmd.descriptors_may_change();
    let served = wait_for("an answer", || fpmd.address("www").get("/pid").ok());
    assert!(!served.text().is_empty());
    let pid = fpmd.workers("www")[0];
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/0")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
    assert_eq!(u32::from_str_radix(&flags, 8).unwrap() & 0o4000, 0, "O_NONBLOCK is set: {flags}");
    fpmd.finish();
}

#[test]
fn the_queue_is_as_long_as_the_configuration_says() {
    let pool = Pool::new("www", &workers::c())
        .listen(&["{dir}/www.sock", "127.0.0.1:0"])
        .workers(2)
        .key("listen_backlog", "37");
    let fpmd = Rig::new().pool(pool).start();
    let limits: Vec<Option<u32>> =
        fpmd.pool("www").listeners.iter().map(|listener| listener.queue_limit).collect();
    assert_eq!(limits, [Some(37), Some(37)]);
    fpmd.finish();
}

#[test]
fn a_port_in_use_stops_its_own_pool_only() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let rig = Rig::new()
        .pool(Pool::new("bad", &workers::c()).listen(&[&taken]))
        .pool(Pool::new("good", &workers::c()))
        .expect(&taken);
    let fpmd = rig.start();
    let reason = fpmd.pool("bad").reason.unwrap();
    assert!(reason.contains(&taken), "{reason}");
    fpmd.address("good").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn a_socket_that_someone_else_put_in_our_place_is_left_alone_at_the_end() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c())).start();
    let path = fpmd.socket("www");
    fs::remove_file(&path).unwrap();
    let successor = UnixListener::bind(&path).unwrap();
    let keep = fpmd.rig.dir.join("nginx");
    fs::create_dir(&keep).unwrap();
    let pid = fpmd.pid();
    process::signal(pid, nix::sys::signal::Signal::SIGTERM);
    wait_until("the end", || !process::is_alive(pid));
    let kind = fs::symlink_metadata(&path).expect("the successor's socket").file_type();
    assert!(kind.is_socket());
    fs::rename(&path, keep.join("www.sock")).unwrap();
    fpmd.finish_stopped();
    drop(successor);
}

#[test]
fn a_missing_folder_is_a_mistake_that_names_the_path() {
    let ran =
        Rig::new().pool(Pool::new("bad", &workers::c()).listen(&["{dir}/no/such/www.sock"])).run_to_end();
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.err.contains("no/such") && ran.err.contains("fpmd.toml:"), "{}", ran.err);
}
