//! What a worker finds when its program starts, and what is said when it does not.

mod roles;

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use nix::sys::signal::{SigSet, SigmaskHow};

use super::testing::*;
use super::*;
use crate::ids::ExitStatus;
use crate::os::testing::TempDir;
use crate::os::{limits, users};

/// nobody on every Linux.
const NOBODY: u32 = 65_534;

fn cannot(text: &str, code: i32) -> (String, ExitStatus) {
    (format!("cannot {text}"), ExitStatus::Code(code))
}

#[test]
fn the_program_gets_its_arguments_and_environment() {
    assert_eq!(output(&program(&["/bin/echo", "a", "b c"])), "a b c\n");
    let environment = EnvironmentBlock::new([("B", "2"), ("A", "1 =")]).expect("valid names");
    let env = Spawn::new(&["/usr/bin/env"], environment).expect("valid arguments");
    assert_eq!(output(&env), "A=1 =\nB=2\n");
}

#[test]
fn programs_that_cannot_run_are_named() {
    let directory = TempDir::new();
    let plain = directory.join("plain").to_str().expect("plain text").to_owned();
    // Both are written by another process: a descriptor of ours might be inherited by a child of another test and keep
    // the file busy.
    let script = directory.join("script").to_str().expect("plain text").to_owned();
    output(&shell(&format!("echo '#!/usr/bin/python9' > {script}; chmod 755 {script}")));
    let orphaned = failure(&program(&[&script]));
    let expected = format!("execute '{script}': its interpreter '/usr/bin/python9' does not exist");
    assert_eq!(orphaned, cannot(&expected, 127));
    output(&shell(&format!("echo no program > {plain}")));
    let missing = failure(&program(&["/usr/bin/php-cgx"]));
    assert_eq!(missing, cannot("execute '/usr/bin/php-cgx': No such file or directory", 127));
    let forbidden = failure(&program(&[&plain]));
    assert_eq!(forbidden, cannot(&format!("execute '{plain}': Permission denied"), 126));
    assert_eq!(failure(&program(&["/usr"])), cannot("execute '/usr': Permission denied", 126));
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let nonsense = failure(&program(&[&plain]));
    assert_eq!(nonsense, cannot(&format!("execute '{plain}': Exec format error"), 126));
}

#[test]
fn commands_that_no_kernel_takes_are_refused() {
    let none = Spawn::new::<&str>(&[], EnvironmentBlock::default()).expect_err("nothing to start");
    assert_eq!(none.to_string(), "cannot start nothing: the command is empty");
    let nul = Spawn::new(&["/bin/echo", "a\0b"], EnvironmentBlock::default()).expect_err("a NUL byte");
    assert_eq!(nul.to_string(), "cannot use argument \"a\\0b\": it contains a NUL byte");
    assert!(path(Path::new("/a\0b")).is_err());
}

#[test]
fn directories_that_cannot_be_entered_are_named() {
    let nowhere = Some(c"/nonexistent".to_owned());
    let directory = Spawn { directory: nowhere.clone(), ..program(&["/bin/true"]) };
    assert_eq!(
        failure(&directory),
        cannot("change directory to '/nonexistent': No such file or directory", 126)
    );
    let chroot = Spawn { chroot: nowhere, ..program(&["/bin/true"]) };
    assert_eq!(
        failure(&chroot),
        cannot("change root directory to '/nonexistent': No such file or directory", 126)
    );
}

#[test]
fn a_control_group_that_cannot_be_joined_is_said() {
    let null = File::open("/dev/null").expect("it exists");
    let streams = Descriptors {
        stdin: null.as_fd(),
        stdout: Output::Null,
        stderr: Output::Null,
        cgroup: Some(null.as_fd()), // opened for reading only
    };
    let mut process = Running::with(&program(&["/bin/true"]), &streams, pipe().0);
    let Report::Failed(error) = process.answer() else { panic!("it runs") };
    assert_eq!(error.to_string(), "cannot join the control group: Bad file descriptor");
    assert_eq!((error.step, process.end()), (Step::Cgroup, ExitStatus::Code(126)));
}

#[test]
fn a_parent_that_is_gone_ends_the_child() {
    let settings = Spawn { parent_death: Some(Signal::KILL), ..program(&["/bin/true"]) };
    let error = with_plan(&settings, |plan| plan.parent = nix::unistd::Pid::from_raw(1));
    assert_eq!(error, Some("cannot follow the parent's death: No such process".to_owned()));
}

#[test]
fn without_close_range_descriptors_are_marked_one_by_one() {
    let (leak, _other) = inherited_pipe();
    let script = format!("! test -e /proc/self/fd/{}", leak.as_raw_fd());
    let error = with_plan(&shell(&script), |plan| plan.sweep = child::Sweep::UpTo(leak.as_raw_fd()));
    assert_eq!(error, None);
}

/// Starts it after a change of its plan; the answer is why it failed, if it did. It must end well if it did not.
fn with_plan(settings: &Spawn, change: impl FnOnce(&mut child::Plan<'_>)) -> Option<String> {
    let null = File::open("/dev/null").expect("it exists");
    let descriptors =
        Descriptors { stdin: null.as_fd(), stdout: Output::Null, stderr: Output::Null, cgroup: None };
    let (report, failure) = report::pipe(settings).expect("descriptors are free");
    let streams = prepare::Streams::new(&descriptors).expect("descriptors are free");
    let mut plan = prepare::plan(settings, None, &streams, failure.as_fd());
    change(&mut plan);
    let pid = fork(&plan).expect("a process is free");
    drop(plan);
    drop(failure);
    let ended = until("its end", || crate::os::wait::reap_child(pid).expect("it is a child"));
    match report.read() {
        Report::Failed(error) => Some(error.to_string()),
        Report::Pending | Report::Executing => {
            assert_eq!(ended.status, ExitStatus::Code(0));
            None
        }
    }
}

/// A pipe that an exec does not close, as a careless library would make it.
fn inherited_pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe().expect("descriptors are free")
}

#[test]
fn nothing_but_three_descriptors_is_inherited() {
    let _leaks = (inherited_pipe(), inherited_pipe());
    // The fourth is the directory that ls itself reads.
    assert_eq!(output(&program(&["/bin/ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
}

#[test]
fn streams_without_a_destination_are_null() {
    assert_eq!(output(&shell("readlink /proc/$$/fd/2")), "/dev/null\n");
}

#[test]
fn standard_input_is_a_blocking_listening_socket() {
    let directory = TempDir::new();
    let listener = UnixListener::bind(directory.join("s")).expect("a new path");
    listener.set_nonblocking(true).expect("a socket can be");
    let (stdout, sink) = pipe();
    let descriptors = Descriptors {
        stdin: listener.as_fd(),
        stdout: Output::To(sink.as_fd()),
        stderr: Output::Null,
        cgroup: None,
    };
    let script = "readlink /proc/$$/fd/0; sed -n 's/^flags:.//p' /proc/$$/fdinfo/0";
    let mut process = Running::with(&shell(script), &descriptors, stdout);
    drop(sink);
    let inode = nix::sys::stat::fstat(&listener).expect("it is open").st_ino;
    // O_RDWR alone: neither O_NONBLOCK (04000) nor O_CLOEXEC (02000000).
    assert_eq!(process.text(), format!("socket:[{inode}]\n02\n"));
    assert_eq!(process.end(), ExitStatus::Code(0));
}

#[test]
fn signals_are_as_a_new_program_expects_them() {
    // Rust's runtime ignores SIGPIPE; this thread blocks one more.
    let mut blocked = SigSet::empty();
    blocked.add(nix::sys::signal::SIGUSR1);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("a mask");
    let status = output(&program(&["/bin/cat", "/proc/self/status"]));
    let after = SigSet::thread_get_mask().expect("a mask");
    before.thread_set_mask().expect("a mask");
    let masks: Vec<&str> =
        status.lines().filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ")).collect();
    let none = ["SigPnd", "SigBlk", "SigIgn", "SigCgt"].map(|mask| format!("{mask}:\t0000000000000000"));
    assert_eq!(masks, none);
    assert!(after.contains(nix::sys::signal::SIGUSR1), "our own mask is as it was");
    assert!(!after.contains(nix::sys::signal::SIGTERM), "our own mask is as it was");
}

#[test]
fn a_session_is_made_or_kept() {
    let script = "read -r _ _ _ _ group session _ < /proc/$$/stat; echo $$ $group $session";
    let text = output(&shell(script));
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(numbers, [numbers[0]; 3], "it leads a group and a session");
    let text = output(&Spawn { session: Session::Keep, ..shell(script) });
    let ours = nix::unistd::getsid(None).expect("we are in one");
    assert_eq!(text.split_whitespace().nth(2), Some(ours.to_string().as_str()));
}

#[test]
fn umask_limits_and_priority_are_set() {
    let set = Spawn {
        umask: Some(0o137),
        open_files: OpenFiles::Set(77),
        core_size: Some(0),
        priority: Some(7),
        ..shell("umask; ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; nice")
    };
    assert_eq!(output(&set), "0137\n77\n77\n0\n0\n7\n");
}

#[test]
fn the_scheduling_policy_is_set_and_leaves_the_nice_value() {
    let policy_and_nice = |settings: Spawn| {
        let stat = output(&settings);
        let fields: Vec<String> =
            stat.rsplit(')').next().expect("a part").split(' ').map(String::from).collect();
        // From the state on, which is field 3 of proc_pid_stat(5): nice is 19, the policy 41.
        (fields[41 - 2].clone(), fields[19 - 2].clone())
    };
    for (policy, number) in SchedulingPolicy::ALL.into_iter().zip(["0", "3", "5"]) {
        let set =
            Spawn { policy: Some(policy), priority: Some(3), ..program(&["/bin/cat", "/proc/self/stat"]) };
        assert_eq!(policy_and_nice(set), (number.to_owned(), "3".to_owned()), "{policy:?}");
    }
}

#[test]
fn the_original_limit_of_open_files_comes_back() {
    let now = limits::open_files().expect("there is one");
    let original = OriginalLimit { soft: 99, hard: now.hard };
    let restored = Spawn { open_files: OpenFiles::Restore(original), ..shell("ulimit -Sn") };
    assert_eq!(output(&restored), "99\n");
}

#[test]
fn directories_are_entered() {
    let pwd = |settings: Spawn| output(&Spawn { ..settings });
    assert_eq!(pwd(Spawn { directory: Some(c"/usr".to_owned()), ..shell("pwd") }), "/usr\n");
    if !users::is_root() {
        return;
    }
    let chroot = Some(c"/".to_owned());
    assert_eq!(pwd(Spawn { chroot: chroot.clone(), ..shell("pwd") }), "/\n");
    assert_eq!(pwd(Spawn { chroot, directory: Some(c"/usr".to_owned()), ..shell("pwd") }), "/usr\n");
    let empty = TempDir::new();
    let chroot = Some(super::path(empty.path()).expect("no NUL byte"));
    let outside = Spawn { chroot, ..program(&["/bin/true"]) };
    assert_eq!(failure(&outside), cannot("execute '/bin/true': No such file or directory", 127));
}

#[test]
fn root_can_become_anybody() {
    if !users::is_root() {
        return;
    }
    let nobody = Spawn { uid: Some(Uid(NOBODY)), gid: Some(Gid(NOBODY)), ..shell("") };
    let script = "grep -E '^(Uid|Gid|Groups|CapEff):' /proc/$$/status | tr -s '\\t ' ' '";
    let someone = Spawn { groups: Some(vec![Gid(4), Gid(7)]), ..nobody.clone() };
    let expected = "Uid: 65534 65534 65534 65534\nGid: 65534 65534 65534 65534\n";
    let text = output(&Spawn { arguments: shell(script).arguments, ..someone });
    assert_eq!(text, format!("{expected}Groups: 4 7 \nCapEff: 0000000000000000\n"));
    let alone = Spawn { arguments: shell(script).arguments, groups: Some(Vec::new()), ..nobody.clone() };
    assert_eq!(output(&alone), format!("{expected}Groups: \nCapEff: 0000000000000000\n"));
    // The working directory is entered with the rights of the new user.
    let private = TempDir::new();
    fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
    let directory = super::path(private.path()).expect("no NUL byte");
    let expected = format!("change directory to '{}': Permission denied", private.path().display());
    assert_eq!(failure(&Spawn { directory: Some(directory), ..nobody }), cannot(&expected, 126));
}

#[test]
fn privileges_are_given_up_for_good() {
    if !users::is_root() {
        return;
    }
    let script = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status";
    for uid in [Some(Uid(NOBODY)), None] {
        let settings = Spawn { privileges: Privileges::None, uid, ..shell(script) };
        let text = output(&settings);
        let mut lines = text.lines().map(|line| line.split_once(":\t").expect("name and value"));
        assert!(
            lines.all(|(name, value)| match name {
                "NoNewPrivs" => value == "1",
                _ => value == "0000000000000000",
            }),
            "{text}"
        );
        assert_eq!(text.lines().count(), 6);
    }
}

#[test]
fn an_image_runs_where_its_path_cannot_be_reached() {
    if !users::is_root() {
        return;
    }
    let directory = TempDir::new();
    let path = directory.join("closed");
    std::fs::create_dir(&path).expect("it is ours");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("it is ours");
    let program_path = path.join("echo");
    std::fs::copy("/bin/echo", &program_path).expect("it is there");
    let image = open_image(&program_path).expect("it is there");
    let words = [program_path.to_str().expect("plain"), "reached"];
    let settings = Spawn { uid: Some(Uid(NOBODY)), ..program(&words) };
    assert!(matches!(Running::start(&settings).answer(), Report::Failed(_)));
    assert_eq!(output(&Spawn { image: Some(image), ..settings }), "reached\n");
}
