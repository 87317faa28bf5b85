//! The table of command lines. Words in braces are filled in by `run`: `{probe}` the application, `{report}` its first argument,
//! `{port}` a free port, `{high}` that port and 65,536, `{long}` 108 and `{longest}` 107 letters. The working directory is a
//! fresh one that the caller may write to.

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Root, and again somebody else.
    Everyone,
    /// Root only, because it is about root's options.
    Root,
    /// Somebody else only.
    Ordinary,
}

/// What the original does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// The same.
    Same,
    /// Something else: the name of the quirk.
    Quirk(&'static str),
    /// It never ends: the name of the quirk.
    Hangs(&'static str),
}

/// What is in the working directory, or held by the test, when the program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Nothing.
    Empty,
    /// `{port}` of 127.0.0.1 is taken.
    PortTaken,
    /// Somebody listens on `sock`.
    Owner,
    /// Somebody listens on `sock`, and the queue is full.
    BusyOwner,
    /// `sock` is left behind.
    Stale,
    /// `sock` is a file with text in it.
    FileAtSocket,
    /// `sock` is a directory.
    DirectoryAtSocket,
    /// `pid` is a file with this text.
    PidFile(&'static str),
    /// `pid` is a directory.
    DirectoryAtPid,
    /// `pid` is a link to nothing.
    DanglingPid,
    /// `pid` is a named pipe.
    PipeAtPid,
    /// `pid` has text, and somebody listens on `sock`.
    PidFileAndOwner,
    /// `locked` is a directory that nobody but root may write to.
    Locked,
    /// `plain` is a file that may not be executed.
    NotExecutable,
    /// `jail` has the probe, a writable directory `run`, and something that can be opened as /dev/null.
    Jail,
    /// `jail`, without its /dev/null.
    BareJail,
}

/// One command line.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Unique.
    pub name: &'static str,
    /// Arguments, separated by single blanks; `''` is an empty one, a no-break
    /// space a blank.
    pub line: &'static str,
    /// Who calls.
    pub callers: Callers,
    /// What the original does.
    pub original: Original,
    /// What is there before.
    pub scene: Scene,
    /// Shell text around `"$@"`: redirections, umask, signals.
    pub shell: &'static str,
    /// The whole environment, separated by single blanks.
    pub environment: &'static str,
}

const fn case(name: &'static str, line: &'static str) -> Case {
    Case {
        name,
        line,
        callers: Callers::Everyone,
        original: Original::Same,
        scene: Scene::Empty,
        shell: "exec \"$@\"",
        environment: "PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C ODD=two\u{a0}words",
    }
}

impl Case {
    const fn root(self) -> Case {
        Case { callers: Callers::Root, ..self }
    }
    const fn ordinary(self) -> Case {
        Case { callers: Callers::Ordinary, ..self }
    }
    const fn quirk(self, name: &'static str) -> Case {
        Case { original: Original::Quirk(name), ..self }
    }
    const fn hangs(self, name: &'static str) -> Case {
        Case { original: Original::Hangs(name), ..self }
    }
    const fn scene(self, scene: Scene) -> Case {
        Case { scene, ..self }
    }
    const fn shell(self, shell: &'static str) -> Case {
        Case { shell, ..self }
    }
    const fn environment(self, environment: &'static str) -> Case {
        Case { environment, ..self }
    }
}

/// Reading the command line.
pub const COMMAND_LINE: &[Case] = &[
    case("no arguments", ""),
    case("help", "-h"),
    case("help, question mark", "-?"),
    case("version", "-v"),
    case("version before help", "-nvh"),
    case("help before version", "-h -v"),
    case("help behind other options", "-p 1 -s x -h"),
    case("unknown option", "-x").quirk("usage-status"),
    case("unknown option in a cluster", "-nxv").quirk("usage-status"),
    case("unknown colon", "-:").quirk("usage-status"),
    case("unknown option behind the application", "app -x").quirk("usage-status"),
    case("unknown long option", "--foreground").quirk("usage-status"),
    case("unknown option, called by another name", "-x")
        .shell("exec -a /x/y \"${@: -2:1}\" -x")
        .quirk("usage-status"),
    case("option without argument", "-p").quirk("usage-status"),
    case("option without argument in a cluster", "-np").quirk("usage-status"),
    case("no application", "-p {port}"),
    case("no application after two dashes", "-p {port} --"),
    case("no application, and two sockets", "-p {port} -s sock"),
    case("no socket", "-- /bin/true"),
    case("port zero", "-p 0 -- /bin/true"),
    case("empty port", "-p '' -- /bin/true"),
    case("port that is no number", "-p http -- /bin/true"),
    case("port with something behind it", "-p {port}x -- /bin/true"),
    case("port of blanks", "-p \u{a0} -- /bin/true"),
    case("invalid port before help", "-p x -h"),
    case("two sockets", "-p {port} -s sock -- /bin/true"),
    case("path too long", "-s {long} -- /bin/true"),
    case("longest path", "-s {longest} -- {probe} {report} stay"),
    case("port wraps around", "-a 127.0.0.1 -p {high} -- {probe} {report} stay"),
    case("port with a sign", "-a 127.0.0.1 -p +{port} -- {probe} {report} stay"),
    case("options behind the application", "{probe} -s sock {report} -F 2 stay"),
    case("application on both sides of two dashes", "{probe} -s sock -- {report} stay -n -F 3"),
    case("glued arguments", "-ssock -F2 -- {probe} {report} stay"),
    case("last one wins", "-s other -s sock -F 3 -F 1 -M 600 -M 0640 -- {probe} {report} stay"),
    case("two dashes as an argument", "-s -- {probe} {report} stay"),
    case("a dash is an argument", "-s sock {probe} {report} stay -"),
    case("POSIXLY_CORRECT", "-s sock {probe} {report} stay -n -- -F 2")
        .environment("A=1 POSIXLY_CORRECT=1 Z=26"),
    case("POSIXLY_CORRECT, set to nothing", "-s sock {probe} {report} stay -n")
        .environment("A=1 POSIXLY_CORRECT= Z=26"),
];

/// The listening socket.
pub const SOCKETS: &[Case] = &[
    case("any address", "-p {port} -- {probe} {report} stay"),
    case("IPv4 address", "-a 127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("IPv6 address", "-a ::1 -p {port} -- {probe} {report} stay"),
    case("any IPv6 address", "-a :: -p {port} -- {probe} {report} stay"),
    case("IPv4 inside of IPv6", "-a ::ffff:127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("address is a name", "-a localhost -p {port} -- /bin/true"),
    case("address in brackets", "-a [::1] -p {port} -- /bin/true"),
    case("short address", "-a 127.1 -p {port} -- /bin/true"),
    case("address with leading zeros", "-a 127.0.0.01 -p {port} -- /bin/true"),
    case("empty address", "-a '' -p {port} -- /bin/true"),
    case("address with a scope", "-a fe80::1%lo -p {port} -- /bin/true"),
    case("address of another machine", "-a 192.0.2.1 -p {port} -- /bin/true"),
    case("address beside a path", "-a localhost -s sock -- {probe} {report} stay"),
    case("port taken", "-a 127.0.0.1 -p {port} -- /bin/true").scene(Scene::PortTaken),
    case("backlog", "-b 7 -a 127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("backlog zero", "-b 0 -a 127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("backlog negative", "-b -1 -a 127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("backlog beyond all limits", "-b 2000000000 -a 127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("backlog that is no number", "-b much -a 127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("path", "-s sock -- {probe} {report} stay"),
    case("empty path", "-s '' -- /bin/true"),
    case("path in a directory that is not there", "-s no/sock -- /bin/true"),
    case("path that somebody listens on", "-s sock -- /bin/true").scene(Scene::Owner),
    case("path with a full queue", "-s sock -- /bin/true").scene(Scene::BusyOwner).hangs("busy-owner"),
    case("path left behind", "-s sock -- {probe} {report} stay").scene(Scene::Stale),
    case("path of a file", "-s sock -- {probe} {report} stay").scene(Scene::FileAtSocket),
    case("path of a directory", "-s sock -- /bin/true").scene(Scene::DirectoryAtSocket),
    case("path in a locked directory", "-s locked/sock -- {probe} {report} stay").scene(Scene::Locked),
    case("umask 027", "-s sock -- {probe} {report} stay").shell("umask 027; exec \"$@\""),
    case("umask 000", "-s sock -- {probe} {report} stay").shell("umask 000; exec \"$@\""),
    case("umask 777", "-s sock -- {probe} {report} stay").shell("umask 777; exec \"$@\"").root(),
    case("mode", "-s sock -M 0666 -- {probe} {report} stay"),
    case("mode beats umask", "-s sock -M 777 -- {probe} {report} stay").shell("umask 077; exec \"$@\""),
    case("mode that is no number", "-s sock -M rw -- {probe} {report} stay"),
    case("mode with a digit too high", "-s sock -M 668 -- {probe} {report} stay"),
    case("mode with more bits", "-s sock -M 1666 -- {probe} {report} stay"),
    case("negative mode", "-s sock -M -1 -- {probe} {report} stay").root(),
    case("mode beside a port", "-M 0 -a 127.0.0.1 -p {port} -- {probe} {report} stay"),
];

/// The application, its environment, its end.
pub const APPLICATIONS: &[Case] = &[
    case("by the shell", "-s sock -f {probe}\u{a0}{report}\u{a0}stay"),
    case("not by the shell if there is another", "-s sock -f /bin/false {probe} {report} stay"),
    case("not there", "-s sock -- /no/such/application"),
    case("not there, for the shell", "-s sock -f /no/such/application"),
    case("not looked up in PATH", "-s sock -- true"),
    case("not executable", "-s sock -- ./plain").scene(Scene::NotExecutable),
    case("a directory", "-s sock -- ."),
    case("not there, in place", "-n -s sock -- /no/such/application"),
    case("not there, in place, for the shell", "-n -s sock -f /no/such/application"),
    case("not executable, in place", "-n -s sock -- ./plain").scene(Scene::NotExecutable),
    case("empty name", "-s sock -- ''"),
    case("exits with 0", "-s sock -- {probe} {report} exit:0"),
    case("exits with 7", "-s sock -- {probe} {report} exit:7"),
    case("exits with 255", "-s sock -- {probe} {report} exit:255"),
    case("killed", "-s sock -- {probe} {report} signal:9"),
    case("killed by a real-time signal", "-s sock -- {probe} {report} signal:40"),
    case("stopped", "-s sock -- {probe} {report} signal:19"),
    case("exits with 7, in place", "-n -s sock -- {probe} {report} exit:7"),
    case("in place", "-n -s sock -- {probe} {report} stay"),
    case("in place, twice", "-n -F 2 -s sock -- {probe} {report} stay"),
    case("in place, never", "-n -F 0 -s sock -- {probe} {report} stay"),
    case("in place, on a port", "-n -a 127.0.0.1 -p {port} -- {probe} {report} stay"),
    case("two", "-F 2 -s sock -P pid -- {probe} {report} stay"),
    case("twenty", "-F 20 -s sock -P pid -- {probe} {report} stay"),
    case("none", "-F 0 -s sock -P pid -- {probe} {report} stay"),
    case("less than none", "-F -2 -s sock -- {probe} {report} stay"),
    case("many", "-F many -s sock -- {probe} {report} stay"),
    case("three that fail", "-F 3 -P pid -s sock -- {probe} {report} exit:3").quirk("watch-all"),
    case("three that end well", "-F 3 -P pid -s sock -- {probe} {report} exit:0").quirk("watch-all"),
    case("three that are not there", "-F 3 -P pid -s sock -- /no/such").quirk("dead-pids"),
    case("PHP children", "-C 5 -s sock -- {probe} {report} stay"),
    case("no PHP children", "-C 0 -s sock -- {probe} {report} stay"),
    case("PHP children less than none", "-C -1 -s sock -- {probe} {report} stay"),
    case("PHP children that are no number", "-C x -s sock -- {probe} {report} stay"),
    case("PHP children, in place", "-n -C 3 -s sock -- {probe} {report} stay"),
    case("PHP children of the caller", "-C 3 -s sock -- {probe} {report} stay")
        .environment("A=1 PHP_FCGI_CHILDREN=9 Z=26"),
    case("PHP children of the caller alone", "-s sock -- {probe} {report} stay")
        .environment("A=1 PHP_FCGI_CHILDREN=9 Z=26"),
    case("directory", "-d / -s sock -- {probe} {report} stay"),
    case("relative directory", "-d .. -s sock -- {probe} {report} stay"),
    case("directory that is not there", "-d no -s sock -- {probe} {report} stay"),
    case("directory that is none", "-d plain -s sock -- {probe} {report} stay").scene(Scene::NotExecutable),
    case("empty directory", "-d '' -s sock -- {probe} {report} stay"),
    case("application relative to the directory", "-d jail -s sock -- ./probe {report} stay")
        .scene(Scene::Jail),
    case("ignored signals", "-s sock -- {probe} {report} stay")
        .shell("exec env --ignore-signal=HUP,PIPE,USR1 \"$@\""),
    case("ignored signals, in place", "-n -s sock -- {probe} {report} stay")
        .shell("exec env --ignore-signal=INT,PIPE \"$@\""),
    case("SIGCHLD ignored", "-s sock -- {probe} {report} stay").shell("exec env --ignore-signal=CHLD \"$@\""),
    case("SIGCHLD ignored, and it fails", "-s sock -- {probe} {report} exit:3")
        .shell("exec env --ignore-signal=CHLD \"$@\"")
        .quirk("child-signal"),
    case("blocked signals", "-s sock -- {probe} {report} stay").shell("exec env --block-signal=TERM \"$@\""),
    case("inherited descriptors, in place", "-n -s sock -- {probe} {report} stay")
        .shell("exec 3</dev/null 7</dev/null \"$@\""),
    case("inherited descriptors in a row", "-s sock -- {probe} {report} stay")
        .shell("exec 3</dev/null 4</dev/null \"$@\""),
    case("inherited descriptors with a gap", "-s sock -- {probe} {report} stay")
        .shell("exec 3</dev/null 9</dev/null \"$@\"")
        .quirk("leaked-descriptors"),
    case("closed standard input", "-s sock -P pid -- {probe} {report} stay").shell("exec \"$@\" <&-"),
    case("closed standard output, in place", "-n -s sock -- {probe} {report} stay")
        .shell("exec \"$@\" >&-")
        .quirk("closed-descriptors"),
    case("no process left", "-s sock -- {probe} {report} stay")
        .shell("exec prlimit --nproc=0 \"$@\"")
        .ordinary()
        .quirk("fork-status"),
    case("empty environment", "-s sock -- {probe} {report} stay").environment(""),
    case("empty environment but PHP children", "-C 1 -s sock -- {probe} {report} stay").environment(""),
    case("reader of the output is gone", "-s sock -P pid -- {probe} {report} stay")
        .shell("exec \"$@\" >/dev/full"),
];

/// The PID file.
pub const PID_FILES: &[Case] = &[
    case("PID file", "-P pid -s sock -- {probe} {report} stay"),
    case("PID file, umask 077", "-P pid -s sock -- {probe} {report} stay").shell("umask 077; exec \"$@\""),
    case("PID file, in place", "-n -P pid -s sock -- {probe} {report} stay"),
    case("PID file that exists", "-P pid -s sock -- {probe} {report} stay")
        .scene(Scene::PidFile("123456789012345678901234567890\n")),
    case("PID file in a directory that is not there", "-P no/pid -s sock -- {probe} {report} stay"),
    case("PID file in a locked directory", "-P locked/pid -s sock -- {probe} {report} stay")
        .scene(Scene::Locked),
    case("PID file is a directory", "-P pid -s sock -- {probe} {report} stay").scene(Scene::DirectoryAtPid),
    case("PID file is a pipe", "-P pid -s sock -- {probe} {report} stay").scene(Scene::PipeAtPid),
    case("PID file is a link to nothing", "-P pid -s sock -- {probe} {report} stay")
        .scene(Scene::DanglingPid),
    case("PID file is a device", "-P /dev/null -s sock -- {probe} {report} stay"),
    case("PID file without a name", "-P '' -s sock -- {probe} {report} stay"),
    case("PID file of one that failed", "-P pid -s sock -- {probe} {report} exit:3"),
    case("PID file that exists, and it failed", "-P pid -s sock -- {probe} {report} exit:3")
        .scene(Scene::PidFile("77")),
    case("PID file before an address that is none", "-P pid -a here -p {port} -- {probe} {report} stay"),
    case("PID file of who runs already", "-P pid -s sock -- {probe} {report} stay")
        .scene(Scene::PidFileAndOwner)
        .quirk("pid-file-kept"),
    case("PID file on a full disk", "-P pid -s sock -- /bin/sleep 1000")
        .shell("{ ulimit -f 0; env --ignore-signal=XFSZ \"$@\" 2>&1; } | cat"),
];

/// Options for root, and who else gives them.
pub const IDENTITIES: &[Case] = &[
    case("root's options, ignored", "-u no -g no -U no -G no -c /no -S -s sock -- {probe} {report} stay")
        .ordinary(),
    case("user by name", "-u nobody -s sock -- {probe} {report} stay").root(),
    case("user by number", "-u 65534 -s sock -- {probe} {report} stay").root(),
    case("user with groups", "-u daemon -s sock -- {probe} {report} stay").root(),
    case("user without an entry", "-u 3999999 -s sock -- {probe} {report} stay").root(),
    case("user without an entry, and group", "-u 3999999 -g 77 -s sock -- {probe} {report} stay").root(),
    case("user and group", "-u nobody -g daemon -s sock -- {probe} {report} stay").root(),
    case("group by name", "-g daemon -s sock -- {probe} {report} stay").root(),
    case("group by number", "-g 77 -s sock -- {probe} {report} stay").root(),
    case("unknown user", "-u no-such-user -s sock -- {probe} {report} stay").root(),
    case("empty user", "-u '' -s sock -- {probe} {report} stay").root(),
    case("user number with something behind it", "-u 33x -s sock -- {probe} {report} stay").root(),
    case("unknown group", "-g no-such-group -s sock -- {probe} {report} stay").root(),
    case("unknown group of a known user", "-u nobody -g no-such-group -s sock -- {probe} {report} stay")
        .root(),
    case("root as user", "-u root -s sock -- {probe} {report} stay").root(),
    case("root as a number", "-u 0 -s sock -- {probe} {report} stay").root(),
    case("root's group", "-g root -s sock -- {probe} {report} stay").root(),
    case("root's group as a number", "-g 0 -s sock -- {probe} {report} stay").root(),
    case("root as owner of the socket", "-U root -s sock -- {probe} {report} stay").root(),
    case("unknown owner of the socket", "-U no-such-user -s sock -- {probe} {report} stay").root(),
    case("unknown group of the socket", "-G no-such-group -s sock -- {probe} {report} stay").root(),
    case("user minus one", "-u -1 -s sock -- {probe} {report} stay").root(),
    case("group minus one", "-g -1 -s sock -- {probe} {report} stay").root(),
    case("user number that wraps around", "-u 4295032830 -s sock -- {probe} {report} stay").root(),
    case("owner of the socket", "-U nobody -s sock -- {probe} {report} stay").root(),
    case("owner of the socket and user", "-U nobody -u daemon -s sock -- {probe} {report} stay").root(),
    case("group of the socket", "-G 77 -s sock -- {probe} {report} stay").root(),
    case("group of the socket and user", "-G 77 -u daemon -s sock -- {probe} {report} stay").root(),
    case("owner and group of the socket", "-U 12 -G 77 -M 0600 -s sock -- {probe} {report} stay").root(),
    case("owner of the socket without an entry", "-U 3999999 -s sock -- {probe} {report} stay").root(),
    case("owner beside a port", "-U nobody -a 127.0.0.1 -p {port} -- {probe} {report} stay").root(),
    case("user, in place", "-n -u nobody -s sock -- {probe} {report} stay").root(),
    case("PID file belongs to root", "-u nobody -P pid -s sock -- {probe} {report} stay").root(),
    case("PID file is opened before users are looked up", "-u no-such-user -P no/pid -s sock -- /bin/true")
        .root(),
    case("groups of the caller stay", "-s sock -- {probe} {report} stay")
        .shell("exec setpriv --groups 4,20 \"$@\"")
        .root(),
    case("groups of the caller are dropped", "-g 77 -s sock -- {probe} {report} stay")
        .shell("exec setpriv --groups 4,20 \"$@\"")
        .root(),
    case("groups of the caller without a group", "-u 3999999 -s sock -- {probe} {report} stay")
        .shell("exec setpriv --groups 4,20 \"$@\"")
        .root(),
    case("directory of the user", "-u nobody -d locked -s sock -- {probe} {report} stay")
        .scene(Scene::Locked)
        .root(),
    case("chroot", "-c jail -s /run/sock -- /probe /run/report stay").scene(Scene::Jail).root(),
    case("chroot with a relative socket", "-c jail -s run/sock -- /probe /run/report stay")
        .scene(Scene::Jail)
        .root(),
    case("chroot, socket first", "-c jail -S -s sock -- /probe /run/report stay").scene(Scene::Jail).root(),
    case("chroot and port", "-c jail -a 127.0.0.1 -p {port} -- /probe /run/report stay")
        .scene(Scene::Jail)
        .root(),
    case("chroot and directory", "-c jail -d run -s /run/sock -- ../probe report stay")
        .scene(Scene::Jail)
        .root(),
    case("chroot and directory that is not there", "-c jail -d /no -s /run/sock -- /probe /run/report stay")
        .scene(Scene::Jail)
        .root(),
    case("chroot and user", "-c jail -u nobody -P pid -s /run/sock -- /probe /run/report stay")
        .scene(Scene::Jail)
        .root(),
    case("chroot, in place", "-n -c jail -s /run/sock -- /probe /run/report stay").scene(Scene::Jail).root(),
    case("chroot without /dev/null", "-c jail -P pid -s /run/sock -- /probe /run/report stay")
        .scene(Scene::BareJail)
        .root()
        .quirk("leaked-descriptors"),
    case("chroot without a shell", "-c jail -s /run/sock -f /probe").scene(Scene::Jail).root(),
    case("chroot that is not there", "-c no -s sock -- /bin/true").root(),
    case("chroot that is not there, socket first", "-S -c no -s sock -- /bin/true").root(),
    case("chroot that is a file", "-c plain -s sock -- /bin/true").scene(Scene::NotExecutable).root(),
    case("socket first without a chroot", "-S -u nobody -s sock -- {probe} {report} stay").root(),
];
