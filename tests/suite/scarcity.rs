//! What the kernel refuses for a while: processes, descriptors, room on a disk, a gateway. fpmd keeps what it has, says what
//! is missing, waits without spinning, and is whole again when there is enough. prlimit(2), mount_namespaces(7).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig, run};
use crate::support::fastcgi::{
    Address, Answer, BEGIN_REQUEST, Connection, PARAMS, STDIN, pairs, record, script,
};
use crate::support::{as_root, process, wait_for, wait_until, workers};

const TOO_MANY: &str = "Too many open files";
const NO_SPACE: &str = "No space left on device";

#[track_caller]
fn gateway_of(fpmd: &Fpmd) -> i32 {
    let pool = fpmd.wait_pool("www", "a gateway that answers", |pool| pool.gateway.is_some());
    pool.gateway.unwrap().pid.as_raw()
}

/// Sets a soft limit of a process that runs, as its own user: even root may need to be the same one.
#[track_caller]
fn limit(pid: i32, resource: &str, soft: &str) {
    let id = |name| process::status_line(pid, name).unwrap().split_whitespace().next().unwrap().to_owned();
    let user =
        [format!("--reuid={}", id("Uid")), format!("--regid={}", id("Gid")), "--clear-groups".to_owned()];
    let set =
        ["/usr/bin/prlimit".to_owned(), format!("--{resource}={soft}:"), "--pid".to_owned(), pid.to_string()];
    let line = if nix::unistd::geteuid().is_root() {
        [&["/usr/bin/setpriv".to_owned()], &user[..], &set[..]].concat()
    } else {
        set.to_vec()
    };
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let ran = run(words[0], &words[1..]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// Sets the soft limit of open files of a process that runs; returns what it was.
#[track_caller]
fn limit_files(pid: i32, soft: &str) -> String {
    let (before, _) = process::limits(pid, "Max open files").unwrap();
    limit(pid, "nofile", soft);
    before
}

/// The CPU time of a process, in clock ticks of 10 ms.
fn ticks(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Insists that a process hardly works while it cannot do anything: a share of the time that passes, so that a busy
/// machine makes no difference but to its favour.
#[track_caller]
fn assert_at_rest(pid: i32) {
    let (before, began) = (ticks(pid), Instant::now());
    std::thread::sleep(Duration::from_millis(1000));
    let (spent, passed) = (ticks(pid) - before, began.elapsed());
    assert!(Duration::from_millis(spent * 10) < passed / 5, "{spent} ticks of CPU in {passed:?}");
}

/// So many clients that ask for their worker's pid; joined, they say whether they got it.
fn ask_at_once(address: &Address, clients: usize) -> Vec<JoinHandle<Result<Answer, String>>> {
    let one = |_| {
        let address = address.clone();
        std::thread::spawn(move || address.get("/slow/20").map_err(|error| error.to_string()))
    };
    (0..clients).map(one).collect()
}

#[track_caller]
fn assert_served(clients: Vec<JoinHandle<Result<Answer, String>>>) {
    for client in clients {
        let answer = client.join().unwrap().unwrap();
        assert!(answer.text().parse::<u32>().is_ok(), "{answer:?}");
    }
}

#[test]
fn a_gateway_out_of_descriptors_pauses_and_goes_on() {
    let rig = Rig::new().pool(routed("www", &workers::c()).workers(2)).expect(TOO_MANY);
    let fpmd = serving(rig);
    let (gateway, address) = (gateway_of(&fpmd), fpmd.address("www"));
    let most = process::descriptors(gateway).keys().max().copied().unwrap();
    let before = limit_files(gateway, &(most + 5).to_string());
    // They say nothing and so keep their descriptors for as long as they like.
    let idle: Vec<Connection> = (0..20).map(|_| address.connect().unwrap()).collect();
    fpmd.wait_log("cannot accept connections for a moment: Too many open files");
    let waiting = ask_at_once(&address, 4);
    assert_at_rest(gateway);
    let told = fpmd.log().matches(TOO_MANY).count();
    assert!(told <= 10, "told {told} times:\n{}", fpmd.log());
    // Free descriptors are enough, whatever the limit.
    drop(idle);
    assert_served(waiting);
    limit_files(gateway, &before);
    assert_served(ask_at_once(&address, 4));
    assert_eq!(gateway_of(&fpmd), gateway);
    fpmd.finish();
}

#[test]
fn clients_do_not_take_the_descriptors_that_reach_their_workers() {
    let rig = Rig::new().pool(routed("www", &workers::c()).workers(2)).expect(TOO_MANY);
    let fpmd = serving(rig);
    let gateway = gateway_of(&fpmd);
    let most = process::descriptors(gateway).keys().max().copied().unwrap();
    let before = limit_files(gateway, &(most + 3).to_string());
    // More than there are descriptors for, each with a request that needs one more.
    assert_served(ask_at_once(&fpmd.address("www"), 30));
    assert!(fpmd.log().contains(TOO_MANY));
    limit_files(gateway, &before);
    fpmd.finish();
}

/// A worker ends while the master cannot open anything: the other one goes on, and a new one comes when it can.
#[track_caller]
fn assert_master_recovers(dispatch: Dispatch) {
    let pool = Pool::new("www", &workers::c()).workers(2).dispatch(dispatch);
    let mut fpmd = Rig::new().pool(pool).expect(TOO_MANY).expect("exited on signal 9").start();
    fpmd.wait_pool("www", "idle workers", |pool| pool.idle_processes == 2);
    fpmd.descriptors_may_change();
    let (master, before) = (fpmd.pid(), fpmd.workers("www"));
    let limit = limit_files(master, "3");
    process::signal(before[0], Signal::SIGKILL);
    fpmd.wait_log(TOO_MANY);
    for _ in 0..5 {
        assert_eq!(fpmd.address("www").get("/pid").unwrap().text(), before[1].to_string());
    }
    assert_at_rest(master);
    limit_files(master, &limit);
    let pool = fpmd.wait_pool("www", "two workers", |pool| pool.idle_processes == 2);
    assert_eq!((pool.workers[0].pid.as_raw(), pool.reason), (before[1], None));
    assert_served(ask_at_once(&fpmd.address("www"), 4));
    let told = fpmd.log().matches(TOO_MANY).count();
    assert!(told <= 10, "told {told} times:\n{}", fpmd.log());
    fpmd.finish();
}

#[test]
fn a_master_out_of_descriptors_keeps_its_workers_in_direct_mode() {
    assert_master_recovers(Dispatch::Direct);
}

#[test]
fn a_master_out_of_descriptors_keeps_its_workers_behind_a_gateway() {
    assert_master_recovers(Dispatch::Gateway);
}

#[test]
fn a_gateway_that_cannot_be_started_for_want_of_descriptors_is_started_later() {
    let rig = Rig::new().pool(routed("www", &workers::c()).workers(2));
    let mut fpmd = serving(rig.expect(TOO_MANY).expect("exited on signal 9"));
    fpmd.descriptors_may_change();
    let (master, gateway, before) = (fpmd.pid(), gateway_of(&fpmd), fpmd.workers("www"));
    let limit = limit_files(master, "3");
    process::signal(gateway, Signal::SIGKILL);
    fpmd.wait_log(TOO_MANY);
    let waiting = ask_at_once(&fpmd.address("www"), 4);
    assert_at_rest(master);
    limit_files(master, &limit);
    assert_served(waiting);
    assert_ne!(gateway_of(&fpmd), gateway);
    assert_eq!(fpmd.workers("www"), before);
    fpmd.finish();
}

#[test]
fn a_fork_that_fails_while_all_is_running_costs_nobody_else_anything() {
    if !as_root("a user of our own") {
        return;
    }
    // Nobody else's, so that the kernel counts our processes only.
    let user = (60_100 + std::process::id() % 5_000).to_string();
    let rig = Rig::new().without_root(&user, "");
    let worker = rig.own_worker();
    let rig = rig
        .pool(routed("www", &worker).workers(3).without("user"))
        .expect("Resource temporarily unavailable")
        .expect("exited on signal 9");
    let mut fpmd = serving(rig);
    fpmd.descriptors_may_change();
    let (before, gateway) = (fpmd.workers("www"), gateway_of(&fpmd));
    let master = fpmd.pid();
    limit(master, "nproc", "1");
    process::signal(before[0], Signal::SIGKILL);
    let pool = fpmd.wait_pool("www", "the reason", |pool| pool.reason.is_some());
    assert!(pool.reason.as_ref().unwrap().contains("Resource temporarily unavailable"), "{pool:?}");
    assert_eq!(fpmd.workers("www"), before[1..]);
    fpmd.ctl_done(&["request", "www", "/"]);
    // So does a gateway: who comes meanwhile waits in the kernel.
    process::signal(gateway, Signal::SIGKILL);
    wait_until("two kinds of refusal", || {
        fpmd.log().matches("Resource temporarily unavailable").count() >= 2
    });
    assert_at_rest(master);
    assert_eq!(fpmd.workers("www"), before[1..]);
    limit(master, "nproc", "1000");
    let pool = fpmd.wait_pool("www", "three workers", |pool| pool.idle_processes == 3);
    assert_eq!(pool.reason, None);
    fpmd.ctl_done(&["request", "www", "/"]);
    let told = fpmd.log().matches("Resource temporarily unavailable").count();
    assert!(told <= 15, "told {told} times:\n{}", fpmd.log());
    fpmd.finish();
}

#[test]
fn who_waits_in_the_kernel_when_a_gateway_is_killed_is_served_by_the_next() {
    const CLIENTS: usize = 20;
    let rig = Rig::new().pool(routed("www", &workers::c()).workers(2)).expect("exited on signal 9");
    let fpmd = serving(rig);
    let (gateway, address, before) = (gateway_of(&fpmd), fpmd.address("www"), fpmd.workers("www"));
    process::signal(gateway, Signal::SIGSTOP);
    wait_until("a stopped gateway", || process::process(gateway).is_some_and(|one| one.state == 'T'));
    // It stands still, so these are in the kernel's queue and nowhere else.
    let mut waiting: Vec<Connection> = (0..CLIENTS).map(|_| address.connect().unwrap()).collect();
    for client in &mut waiting {
        client.send("GET", "/pid", &[]).unwrap();
    }
    process::signal(gateway, Signal::SIGKILL);
    for mut client in waiting {
        let pid = client.answer().unwrap().text().parse().unwrap();
        assert!(before.contains(&pid), "{pid} is not one of {before:?}");
    }
    assert_ne!(gateway_of(&fpmd), gateway);
    let counted = fpmd.pool("www").gateway.unwrap();
    assert_eq!((counted.accepted_conn, counted.broken), (CLIENTS as u64, 0));
    fpmd.finish();
}

/// A disk of 256 KiB that only fpmd and its children see, at `{dir}/disk`.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Has fpmd start with it; `None`, and why on the terminal, where nobody may mount.
    fn prepare(rig: Rig) -> Option<Rig> {
        let may_mount =
            || Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).status();
        if !as_root("a small disk") || !may_mount().is_ok_and(|ran| ran.success()) {
            eprintln!("skipped: no mount in a namespace of our own here");
            return None;
        }
        let place = rig.dir.join("disk");
        fs::create_dir(&place).unwrap();
        let mount =
            format!("mount -t tmpfs -o size=256k,mode=1777 none {} && exec \"$@\"", place.to_str().unwrap());
        Some(rig.wrapper(&["unshare", "-m", "/bin/sh", "-c", &mount, "sh"]))
    }

    /// As seen from outside.
    fn of(fpmd: &Fpmd) -> Disk {
        let place = fpmd.rig.dir.join("disk");
        Disk { path: Path::new(&format!("/proc/{}/root", fpmd.pid())).join(place.strip_prefix("/").unwrap()) }
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path.join(name)).unwrap_or_default()).into_owned()
    }

    fn free_blocks(&self) -> u64 {
        let ran = run("/usr/bin/stat", &["-f", "-c", "%f", self.path.to_str().unwrap()]);
        ran.out.trim().parse().unwrap_or_else(|_| panic!("{ran:?}"))
    }

    /// Takes all that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.path.join("filler")).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

/// A pool with little memory for bodies, which keeps the rest on the disk.
fn buffering() -> Pool {
    routed("www", &workers::c())
        .workers(2)
        .key("request_buffer", "\"4K\"")
        .key("response_buffer", "\"4K\"")
        .key("buffer_directory", "\"{dir}/disk\"")
}

#[test]
fn a_body_without_room_on_the_disk_is_streamed_or_refused() {
    let Some(rig) = Disk::prepare(Rig::new().pool(buffering()).expect(NO_SPACE)) else { return };
    let fpmd = serving(rig);
    let (disk, address) = (Disk::of(&fpmd), fpmd.address("www"));
    // Its length is known, so that a worker can have it before it is all there.
    let body = vec![b'x'; 1 << 20];
    assert!(address.ask("POST", "/body", &body).unwrap().text().starts_with("1048576 "));
    fpmd.wait_log("cannot keep a request's body: No space left on device (os error 28); it is streamed");
    // The length of this one is not.
    let known = pairs(&script("php/app.php"), "POST", "/body", 0);
    let unknown: Vec<u8> =
        known.iter().filter(|pair| !pair[2..].starts_with(b"CONTENT_LENGTH")).flatten().copied().collect();
    let mut client = address.connect().unwrap();
    let mut message = record(BEGIN_REQUEST, &[0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(record(PARAMS, &unknown));
    message.extend(record(PARAMS, &[]));
    for part in body[..320 << 10].chunks(32 << 10) {
        message.extend(record(STDIN, part));
    }
    let mut writer = client.duplicate().unwrap();
    let writer = std::thread::spawn(move || writer.send_raw(&message));
    let refused = client.answer().unwrap();
    assert!(refused.head.starts_with("Status: 503"), "{refused:?}");
    client.end();
    let _ = writer.join().unwrap(); // it may have been stopped in the middle
    // What they took is given back, and others are served.
    wait_until("an empty disk", || disk.free_blocks() >= 60);
    assert_eq!(
        address.ask("POST", "/body", &body[..64 << 10]).unwrap().text().split(' ').next(),
        Some("65536")
    );
    assert_served(ask_at_once(&address, 4));
    fpmd.finish();
}

#[test]
fn an_answer_without_room_on_the_disk_waits_for_its_client() {
    const LENGTH: usize = 24 << 20;
    let Some(rig) = Disk::prepare(Rig::new().pool(buffering()).expect(NO_SPACE)) else { return };
    let fpmd = serving(rig);
    let (disk, address) = (Disk::of(&fpmd), fpmd.address("www"));
    let mut lazy = address.connect().unwrap();
    lazy.send("GET", &format!("/big/{LENGTH}"), &[]).unwrap();
    fpmd.wait_log(
        "cannot keep an answer: No space left on device (os error 28); its worker waits for its client",
    );
    assert_at_rest(gateway_of(&fpmd));
    assert_served(ask_at_once(&address, 4));
    let answer = lazy.answer().unwrap();
    assert!(answer.body.len() == LENGTH && answer.body.iter().all(|byte| *byte == b'x'));
    wait_until("an empty disk", || disk.free_blocks() >= 60);
    fpmd.finish();
}

/// A pool with an access log on the disk, and fpmd's own log there too.
fn logging() -> Rig {
    let pool = routed("www", &workers::c())
        .key("access_log", "\"{dir}/disk/access\"")
        .key("access_format", "\"%r\"");
    Rig::new().global("log", "\"{dir}/disk/log\"").pool(pool)
}

/// Repeats what is logged until a file takes no more of it, and tells how long it is then: what is left of its last page
/// takes some lines.
#[track_caller]
fn when_full(disk: &Disk, name: &str, say: impl Fn()) -> usize {
    wait_for("lines that are lost", || {
        let before = disk.read(name).len();
        (0..3).for_each(|_| say());
        Some(before).filter(|before| disk.read(name).len() == *before)
    })
}

#[test]
fn an_access_log_without_room_on_the_disk_costs_lines_and_no_requests() {
    let Some(rig) = Disk::prepare(logging()) else { return };
    let fpmd = serving(rig);
    let (disk, address, gateway) = (Disk::of(&fpmd), fpmd.address("www"), gateway_of(&fpmd));
    let ask = || drop(address.get("/pid").unwrap());
    ask();
    wait_until("a line", || disk.read("access").ends_with('\n'));
    let line = disk.read("access");
    disk.fill();
    let full = when_full(&disk, "access", ask);
    wait_until("what was lost, in the log", || {
        disk.read("log")
            .contains("cannot write the access log: No space left on device; 1 lines are lost so far")
    });
    disk.make_room();
    wait_until("whole lines again", || {
        ask();
        let text = disk.read("access");
        text.len() > full + line.len() && text == line.repeat(text.lines().count())
    });
    assert_eq!(gateway_of(&fpmd), gateway);
    fpmd.finish();
}

/// The last line has begun, and nothing but its end may come next.
#[test]
fn a_reload_while_an_access_log_has_no_room_tears_no_line() {
    let Some(rig) = Disk::prepare(logging()) else { return };
    let fpmd = serving(rig);
    let (disk, address) = (Disk::of(&fpmd), fpmd.address("www"));
    let ask = || drop(address.get("/pid").unwrap());
    ask();
    wait_until("a line", || disk.read("access").ends_with('\n'));
    let line = disk.read("access");
    disk.fill();
    let full = when_full(&disk, "access", ask);
    assert!(!disk.read("access").ends_with('\n'), "half a line fits into the last page");
    for command in ["reload", "reopen"] {
        fpmd.ctl_done(&[command]);
    }
    disk.make_room();
    wait_until("whole lines again", || {
        ask();
        let text = disk.read("access");
        text.len() > full + line.len() && text == line.repeat(text.lines().count())
    });
    fpmd.finish();
}

#[test]
fn a_log_without_room_on_the_disk_says_later_how_much_it_lost() {
    let Some(rig) = Disk::prepare(logging()) else { return };
    let mut fpmd = serving(rig);
    fpmd.descriptors_may_change();
    let (disk, address) = (Disk::of(&fpmd), fpmd.address("www"));
    disk.fill();
    let reload = || drop(fpmd.ctl_done(&["reload"]));
    when_full(&disk, "log", reload);
    assert_served(ask_at_once(&address, 4));
    disk.make_room();
    wait_until("what was lost, in the log", || {
        reload();
        disk.read("log").contains("log lines before this one: No space left on device")
    });
    fpmd.finish();
}
