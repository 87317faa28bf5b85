//! What concerns a whole process, and so is tested in a copy of the test program that plays one role: the master without
//! rights, with its streams in any place, and dying.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

use super::super::testing::*;
use super::super::*;
use super::NOBODY;
use crate::ids::ExitStatus;
use crate::os::session::Processes;
use crate::os::testing::TempDir;
use crate::os::users;

/// As nobody, if we are root.
fn unprivileged(settings: Spawn) -> Spawn {
    if !users::is_root() {
        return settings;
    }
    Spawn { uid: Some(Uid(NOBODY)), gid: Some(Gid(NOBODY)), groups: Some(Vec::new()), ..settings }
}

#[test]
fn what_only_root_may_do_is_said() {
    let text = output(&unprivileged(role("os::process::tests::roles::role_unprivileged")));
    assert_eq!(
        said(&text),
        [
            "cannot set user id 0: Operation not permitted",
            "cannot set group id 0: Operation not permitted",
            "cannot set supplementary groups 0, 4: Operation not permitted",
            "cannot change root directory to '/usr': Operation not permitted",
            "cannot set priority -5: Permission denied",
            "cannot set the limit of open files to 101: Operation not permitted",
            "cannot set the limit of core files to 1 bytes: Operation not permitted",
            "cannot fork: Resource temporarily unavailable",
            "cannot make a descriptor for the new process: Too many open files (the limit is 3: raise LimitNOFILE= of \
             fpmd's unit, or `ulimit -n` where it is started)",
        ]
    );
}

#[test]
#[ignore = "a role of another test"]
fn role_unprivileged() {
    if !playing() {
        return;
    }
    let plain = || program(&["/bin/true"]);
    setrlimit(Resource::RLIMIT_NOFILE, 100, 100).expect("lowering is allowed");
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("lowering is allowed");
    for forbidden in [
        Spawn { uid: Some(Uid(0)), ..plain() },
        Spawn { gid: Some(Gid(0)), ..plain() },
        Spawn { groups: Some(vec![Gid(0), Gid(4)]), ..plain() },
        Spawn { chroot: Some(c"/usr".to_owned()), ..plain() },
        Spawn { priority: Some(-5), ..plain() },
        Spawn { open_files: OpenFiles::Set(101), ..plain() },
        Spawn { core_size: Some(1), ..plain() },
    ] {
        say(failure(&forbidden).0);
    }
    setrlimit(Resource::RLIMIT_NPROC, 0, 0).expect("lowering is allowed");
    let null = File::open("/dev/null").expect("it exists");
    let streams =
        Descriptors { stdin: null.as_fd(), stdout: Output::Null, stderr: Output::Null, cgroup: None };
    say(spawn(&plain(), &streams).expect_err("no process is allowed"));
    setrlimit(Resource::RLIMIT_NOFILE, 3, 100).expect("lowering is allowed");
    say(spawn(&plain(), &streams).expect_err("no descriptor is allowed"));
}

#[test]
fn any_of_our_own_streams_may_be_given() {
    let text = output(&role("os::process::tests::roles::role_streams_in_any_place"));
    assert_eq!(said(&text), ["all is well"]);
}

#[test]
#[ignore = "a role of another test"]
fn role_streams_in_any_place() {
    if !playing() {
        return;
    }
    let directory = TempDir::new();
    let console = prepare::above_stdio(std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor"));
    let mut console = File::from(console.expect("a descriptor is free"));
    for places in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let files = ["in", "out", "err"].map(|name| File::create(directory.join(name)).expect("writable"));
        fs::write(directory.join("in"), "word\n").expect("writable");
        drop(files);
        let [stdin, stdout, stderr] = [("in", places[0]), ("out", places[1]), ("err", places[2])]
            .map(|(name, place)| opened_at(&directory.join(name), place));
        let descriptors =
            Descriptors { stdin, stdout: Output::To(stdout), stderr: Output::To(stderr), cgroup: None };
        let script = "read -r word; echo out $word; echo err $word >&2";
        let mut process = Running::with(&shell(script), &descriptors, pipe().0);
        assert_eq!((process.answer(), process.end()), (Report::Executing, ExitStatus::Code(0)), "{places:?}");
        let written = ["out", "err"].map(|name| fs::read_to_string(directory.join(name)).expect("readable"));
        assert_eq!(written, ["out word\n", "err word\n"], "{places:?}");
    }
    // With 0 to 2 closed, the ends of the report pipe and /dev/null get these numbers.
    let stdin = File::open(directory.join("in")).expect("readable");
    let out = File::create(directory.join("out")).expect("writable");
    for number in 0..3 {
        // SAFETY: the role's own standard streams; nothing reads or prints until they are back.
        unsafe { libc::close(number) };
    }
    let descriptors = Descriptors {
        stdin: stdin.as_fd(),
        stdout: Output::To(out.as_fd()),
        stderr: Output::Null,
        cgroup: None,
    };
    let children = [shell("read -r word; echo closed $word"), program(&["/nonexistent"])];
    let ends = children.map(|settings| {
        let Child { pid, report } = spawn(&settings, &descriptors).expect("a process is free");
        let ended = until("its end", || crate::os::wait::reap_child(pid).expect("it is a child"));
        (report.read(), ended.status)
    });
    for number in 0..3 {
        // SAFETY: makes a copy of an open descriptor under a number that nobody has.
        unsafe { libc::dup2(console.as_raw_fd(), number) };
    }
    assert_eq!(ends[0], (Report::Executing, ExitStatus::Code(0)));
    assert!(matches!(&ends[1].0, Report::Failed(error) if error.step == Step::Execute), "{ends:?}");
    assert_eq!(fs::read_to_string(directory.join("out")).expect("readable"), "closed word\n");
    console.write_all(b"\nsaid: all is well\n").expect("the other test reads");
}

/// The file at `path`, under this number of the role's own.
fn opened_at(path: &Path, number: i32) -> BorrowedFd<'static> {
    let file = File::options().read(true).write(true).open(path).expect("it exists");
    // SAFETY: makes a copy of an open descriptor; the number was one of the role's standard streams.
    unsafe { libc::dup2(file.as_raw_fd(), number) };
    // SAFETY: the number stays open until the role closes it, after the last use of what is returned here.
    unsafe { BorrowedFd::borrow_raw(number) }
}

#[test]
fn workers_end_with_their_master() {
    let mut master = Running::start(&role("os::process::tests::roles::role_master"));
    let worker = Pid::new(next_said(&mut master).parse().expect("a number")).expect("a pid");
    let born = Processes::read().expect("there is /proc").find(worker).expect("it lives").start_ticks;
    assert_eq!(crate::os::signal::send(master.pid, Signal::KILL), Ok(crate::os::signal::Delivery::Sent));
    master.end();
    until("the end of the worker", || {
        let now = Processes::read().expect("there is /proc");
        let lives = now.find(worker).is_some_and(|found| found.start_ticks == born && !found.zombie);
        (!lives).then_some(())
    });
}

#[test]
#[ignore = "a role of another test"]
fn role_master() {
    if !playing() {
        return;
    }
    let settings = Spawn { parent_death: Some(Signal::KILL), ..program(&["/bin/sleep", "1000"]) };
    // With a change of user where we can, which would clear the signal if it were set before.
    let uid = users::is_root().then_some(Uid(NOBODY));
    let worker = Running::start(&Spawn { uid, ..settings });
    assert_eq!(worker.answer(), Report::Executing);
    say(worker.pid);
    until("our end", || None::<()>);
}
