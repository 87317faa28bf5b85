//! A real fpmd over its life: configuration written, started, ready by its own word, asked, changed, ended. The end
//! is a check: exit status, no process, socket or descriptor left, no warning that the test did not expect.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fpmd::os::fdpass;
use fpmd::status::snapshot::{PoolSnapshot, Snapshot};
use nix::sys::signal::Signal;

use super::dir::Dir;
use super::fastcgi::Address;
use super::process::{self, Process};
use super::{PATIENCE, wait_for, wait_until};

/// In the environment of everything that a test starts; its value names the test.
pub const MARK: &str = "FPMD_TEST_ID";

/// What fpmd says of a `Pool::hasty` at its end.
const HASTY: &str = "still busy after 50ms";

/// Who accepts a pool's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    Direct,
    Gateway,
}

/// One `[pool.NAME]`, in the words of the configuration file.
#[derive(Debug, Clone)]
pub struct Pool {
    name: String,
    mode: String,
    workers: u32,
    keys: Vec<(String, String)>,
    pm: Vec<(String, String)>,
}

impl Pool {
    /// A static pool of one worker on `NAME.sock` in the test's directory.
    pub fn new(name: &str, command: &[String]) -> Pool {
        let keys = [
            ("listen", format!("{:?}", format!("{{dir}}/{name}.sock"))),
            ("command", format!("{command:?}")),
            ("pass_env", format!("[\"PATH\", {MARK:?}]")),
        ];
        let mut keys = keys.map(|(key, value)| (key.to_owned(), value)).to_vec();
        // Root's workers need a user by name.
        if nix::unistd::geteuid().is_root() {
            keys.push(("user".into(), "\"root\"".into()));
        }
        Pool { name: name.to_owned(), mode: "static".into(), workers: 1, keys, pm: Vec::new() }
    }

    pub fn dispatch(self, dispatch: Dispatch) -> Pool {
        let word = match dispatch {
            Dispatch::Direct => "\"direct\"",
            Dispatch::Gateway => "\"gateway\"",
        };
        self.key("dispatch", word)
    }

    pub fn workers(mut self, number: u32) -> Pool {
        self.workers = number;
        self
    }

    /// Another way to decide how many workers there are; `workers` is the most then.
    pub fn mode(mut self, word: &str) -> Pool {
        word.clone_into(&mut self.mode);
        self
    }

    /// Sets a key to a value in TOML; `{dir}` is the test's directory.
    pub fn key(mut self, key: &str, value: &str) -> Pool {
        self.keys.retain(|(known, _)| known != key);
        self.keys.push((key.to_owned(), value.to_owned()));
        self
    }

    /// For workers that never look at their socket and so never seem idle: they are not waited for.
    pub fn hasty(self) -> Pool {
        self.key("stop_timeout", "\"50ms\"")
    }

    /// Leaves out a key that is usually set.
    pub fn without(mut self, key: &str) -> Pool {
        self.keys.retain(|(known, _)| known != key);
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many workers it has, or has at most.
    pub fn number(&self) -> u32 {
        self.workers
    }

    /// Sets a key of `[pool.NAME.pm]`.
    pub fn pm(mut self, key: &str, value: &str) -> Pool {
        self.pm.retain(|(known, _)| known != key);
        self.pm.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The addresses to listen on.
    pub fn listen(self, addresses: &[&str]) -> Pool {
        self.key("listen", &format!("{addresses:?}"))
    }

    fn text(&self) -> String {
        let lines = |keys: &[(String, String)]| -> String {
            keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
        };
        let Pool { name, mode, workers, .. } = self;
        format!(
            "[pool.{name}]\n{}[pool.{name}.pm]\nmode = \"{mode}\"\nmax_children = {workers}\n{}\n",
            lines(&self.keys),
            lines(&self.pm)
        )
    }
}

/// What fpmd is started with.
pub struct Rig {
    pub dir: Dir,
    pools: Vec<Pool>,
    globals: Vec<(String, String)>,
    /// Replaces `--config FILE`.
    arguments: Option<Vec<String>>,
    /// A program that becomes fpmd, or whose only child it is: `unshare --pid --fork`.
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    expected: Vec<String>,
    program: PathBuf,
}

impl Rig {
    pub fn new() -> Rig {
        Rig {
            dir: Dir::new(),
            pools: Vec::new(),
            globals: Vec::new(),
            arguments: None,
            wrapper: Vec::new(),
            environment: Vec::new(),
            expected: vec![HASTY.to_owned()],
            program: PathBuf::from(env!("CARGO_BIN_EXE_fpmd")),
        }
    }

    pub fn pool(mut self, pool: Pool) -> Rig {
        self.pools.push(pool);
        self
    }

    /// Sets a key of `[global]`.
    pub fn global(mut self, key: &str, value: &str) -> Rig {
        self.globals.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Replaces `--config FILE`; `{dir}` is the test's directory.
    pub fn arguments(mut self, arguments: &[&str]) -> Rig {
        self.arguments = Some(arguments.iter().map(|argument| self.fill(argument)).collect());
        self
    }

    pub fn wrapper(mut self, words: &[&str]) -> Rig {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Runs fpmd without root, as this user to whom nothing else belongs; `through` is what comes before it on the command
    /// line. Only for root.
    #[track_caller]
    pub fn without_root(self, user: &str, through: &str) -> Rig {
        let chown = run("/bin/chown", &[user, self.dir.path().to_str().unwrap()]);
        assert_eq!(chown.code, Some(0), "{chown:?}");
        let program = self.dir.install(env!("CARGO_BIN_EXE_fpmd").as_ref(), "fpmd");
        self.dir.install(env!("CARGO_BIN_EXE_fpmd-gateway").as_ref(), "fpmd-gateway");
        let become_user = format!(
            "exec setpriv --reuid={user} --regid={user} --clear-groups {through} \"$0\" \"${{@:2}}\""
        );
        self.wrapper(&["/bin/bash", "-c", &become_user, program.to_str().unwrap()])
    }

    /// The built-in worker, where such a user finds it.
    pub fn own_worker(&self) -> [String; 2] {
        [self.dir.path().join("fpmd").to_str().unwrap().to_owned(), "demo-worker".to_owned()]
    }

    pub fn environment(mut self, name: &str, value: &str) -> Rig {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts fpmd by a link, so that another program can be put in its place: see `install`.
    pub fn linked(mut self) -> Rig {
        self.install(Path::new(env!("CARGO_BIN_EXE_fpmd")));
        self.program = self.link();
        self
    }

    /// Starts fpmd by this path.
    pub fn program(mut self, program: &Path) -> Rig {
        self.program = program.to_owned();
        self
    }

    fn link(&self) -> PathBuf {
        self.dir.join("bin/fpmd")
    }

    /// Makes the link lead to this program, as a package does it: in one step.
    pub fn install(&self, program: &Path) {
        let draft = self.dir.join("bin/fpmd.new");
        fs::create_dir_all(draft.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(program, &draft).unwrap();
        fs::rename(&draft, self.link()).unwrap();
    }

    /// A piece of each warning or error that belongs to the test.
    pub fn expect(mut self, piece: &str) -> Rig {
        self.expected.push(piece.to_owned());
        self
    }

    /// For flup and flipflop: Python restarts an interrupted accept after its signal handler has run (PEP 475), so an
    /// idle worker that waits there heeds SIGTERM only with the next connection, and may have to be killed.
    pub fn for_python(self) -> Rig {
        self.global("process_control_timeout", "\"1s\"").expect("after SIGTERM")
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{dir}", self.dir.path().to_str().unwrap())
    }

    /// The configuration file's text.
    pub fn text(&self) -> String {
        let mut text = String::from("[global]\ncontrol_socket = \"{dir}/control\"\n");
        if !self.globals.iter().any(|(key, _)| key == "runtime_dir") {
            text.push_str("runtime_dir = \"{dir}/run\"\n");
        }
        for (key, value) in &self.globals {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push('\n');
        text.extend(self.pools.iter().map(Pool::text));
        self.fill(&text)
    }

    /// Writes the configuration and starts fpmd without waiting.
    pub fn spawn(mut self) -> Fpmd {
        self.dir.write("fpmd.toml", &self.text());
        let config = self.dir.join("fpmd.toml").to_str().unwrap().to_owned();
        let arguments = self.arguments.clone().unwrap_or_else(|| vec!["--config".into(), config]);
        let program = self.program.to_str().unwrap().to_owned();
        let line: Vec<String> = self.wrapper.iter().cloned().chain([program]).chain(arguments).collect();
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let ready = UnixDatagram::bind(self.dir.join("notify")).unwrap();
        ready.set_nonblocking(true).unwrap();
        // fpmd may run as another user.
        fs::set_permissions(self.dir.join("notify"), fs::Permissions::from_mode(0o666)).unwrap();
        let mark = self.dir.path().to_str().unwrap().to_owned();
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.env(MARK, &mark).env("NOTIFY_SOCKET", self.dir.join("notify")).env_remove("XDG_RUNTIME_DIR");
        command.envs(self.environment.drain(..));
        let child = command.spawn().unwrap();
        Fpmd {
            rig: self,
            child,
            ready,
            said: String::new(),
            stored: Vec::new(),
            mark,
            descriptors: None,
            ended: false,
            pid: None,
        }
    }

    /// Starts fpmd and waits until it says that it is ready.
    #[track_caller]
    pub fn start(self) -> Fpmd {
        let mut fpmd = self.spawn();
        fpmd.wait_ready();
        fpmd
    }

    /// Runs fpmd to its end: for mistakes that it must refuse.
    #[track_caller]
    pub fn run_to_end(self) -> Ran {
        let mut fpmd = self.spawn();
        let status = fpmd.wait_end();
        fpmd.ended = true;
        fpmd.assert_nothing_left();
        Ran { code: status.code(), out: String::new(), err: fpmd.log() }
    }
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A running fpmd.
pub struct Fpmd {
    pub rig: Rig,
    child: Child,
    ready: UnixDatagram,
    /// What it told the service manager, message after message.
    said: String,
    /// What came beside the messages.
    stored: Vec<(String, OwnedFd)>,
    mark: String,
    /// The master's open descriptors when it was ready.
    descriptors: Option<usize>,
    ended: bool,
    /// The master's pid, once it is ready.
    pid: Option<i32>,
}

impl Fpmd {
    /// The master's pid.
    pub fn pid(&self) -> i32 {
        if let Some(pid) = self.pid {
            return pid;
        }
        let child = i32::try_from(self.child.id()).unwrap();
        // A wrapper that does not become fpmd is its parent.
        let is_fpmd = process::process(child).is_some_and(|process| process.name == "fpmd");
        if is_fpmd { child } else { process::children(child).first().copied().unwrap_or(child) }
    }

    /// Everything that it told the service manager up to now (sd_notify(3)).
    pub fn notified(&mut self) -> &str {
        let mut message = [0; 4096];
        while let Ok(received) = fdpass::receive(self.ready.as_fd(), &mut message) {
            let text = String::from_utf8_lossy(&message[..received.length]);
            self.said.push_str(&text);
            self.said.push('\n');
            self.stored.extend(received.descriptors.into_iter().map(|fd| (text.clone().into_owned(), fd)));
        }
        &self.said
    }

    /// The descriptors that it left with the service manager up to now, each with the message that it came with.
    pub fn stored(&mut self) -> Vec<(String, OwnedFd)> {
        self.notified();
        std::mem::take(&mut self.stored)
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_until("fpmd to be ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.ended = true;
                panic!("fpmd ended ({status}) before it was ready:\n{}", self.log());
            }
            self.notified().contains("READY=1")
        });
        if self.rig.arguments.is_none() {
            wait_until("every worker to run", || {
                let pools = self.snapshot().pools;
                pools.iter().all(|pool| {
                    let running = pool.workers.iter().filter(|worker| worker.state == "running").count();
                    let is_static = pool.process_manager == "static";
                    running == pool.max_children as usize || pool.reason.is_some() || !is_static
                })
            });
        }
        self.pid = Some(self.pid());
        self.descriptors = Some(process::descriptors(self.pid()).len());
    }

    /// Everything logged up to now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.rig.dir.join("log")).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    pub fn wait_log(&self, piece: &str) {
        wait_until(&format!("'{piece}' in the log of {}", self.mark), || self.log().contains(piece));
    }

    /// A warning or error that belongs to the test.
    pub fn expect(&mut self, piece: &str) {
        self.rig.expected.push(piece.to_owned());
    }

    /// The number of workers changes, so the master's descriptors may.
    pub fn descriptors_may_change(&mut self) {
        self.descriptors = None;
    }

    /// Where a pool listens, if it listens on its usual path.
    pub fn socket(&self, pool: &str) -> PathBuf {
        self.rig.dir.join(&format!("{pool}.sock"))
    }

    pub fn address(&self, pool: &str) -> Address {
        Address::Unix(self.socket(pool))
    }

    pub fn control(&self) -> PathBuf {
        self.rig.dir.join("control")
    }

    /// Runs fpmctl on this fpmd.
    pub fn ctl(&self, arguments: &[&str]) -> Ran {
        fpmctl(&[&["--socket", self.control().to_str().unwrap()], arguments].concat())
    }

    /// Runs fpmctl and insists on exit code 0.
    #[track_caller]
    pub fn ctl_done(&self, arguments: &[&str]) -> String {
        let ran = self.ctl(arguments);
        assert_eq!(ran.code, Some(0), "fpmctl {arguments:?}: {}{}\n{}", ran.out, ran.err, self.log());
        ran.out
    }

    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        let text = self.ctl_done(&["--json", "status"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("fpmctl --json status: {error}: {text}"))
    }

    #[track_caller]
    pub fn pool(&self, name: &str) -> PoolSnapshot {
        let pools = self.snapshot().pools;
        let found = pools.into_iter().find(|pool| pool.name.as_str() == name);
        found.unwrap_or_else(|| panic!("no pool {name} in the status"))
    }

    #[track_caller]
    pub fn wait_pool(
        &self,
        name: &str,
        what: &str,
        mut fact: impl FnMut(&PoolSnapshot) -> bool,
    ) -> PoolSnapshot {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pool = self.pool(name);
            if fact(&pool) {
                return pool;
            }
            assert!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} in vain for pool {name}: {what}: {pool:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The pids of a pool's workers, oldest first.
    #[track_caller]
    pub fn workers(&self, name: &str) -> Vec<i32> {
        self.pool(name).workers.iter().map(|worker| worker.pid.as_raw()).collect()
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Writes a new configuration file; says nothing to fpmd.
    pub fn rewrite(&mut self, pools: &[Pool]) {
        self.rig.pools = pools.to_vec();
        let text = self.rig.text();
        self.rig.dir.write("fpmd.toml", &text);
    }

    /// Writes the configuration file with another value of a key of `[global]`; says nothing to fpmd.
    pub fn rewrite_global(&mut self, key: &str, value: &str) {
        self.rig.globals.retain(|(known, _)| known != key);
        self.rig.globals.push((key.to_owned(), value.to_owned()));
        let text = self.rig.text();
        self.rig.dir.write("fpmd.toml", &text);
    }

    /// Waits for the process to end.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        let log = self.rig.dir.join("log");
        wait_for(&format!("fpmd to end, log {}", log.display()), || self.child.try_wait().unwrap())
    }

    /// Kills the master; whoever calls checks what became of the rest.
    pub fn kill_master(&mut self) {
        process::end(self.pid());
        self.wait_end();
        self.ended = true;
    }

    /// Starts fpmd again in the same directory, after its end.
    #[track_caller]
    pub fn start_again(mut self) -> Fpmd {
        assert!(self.ended, "fpmd still runs");
        let rig = std::mem::replace(&mut self.rig, Rig::new());
        let _ = fs::remove_file(rig.dir.join("notify"));
        rig.start()
    }

    /// Ends fpmd by SIGTERM and insists that it was a good end.
    #[track_caller]
    pub fn finish(self) {
        let pid = self.pid();
        let zombies = || {
            process::descendants(pid).into_iter().filter(|process| process.state == 'Z').collect::<Vec<_>>()
        };
        wait_until("every ended child to be reaped", || zombies().is_empty());
        if let Some(before) = self.descriptors {
            let now = || process::descriptors(pid);
            wait_until(&format!("the master's {before} descriptors, not {:?}", now()), || {
                now().len() <= before
            });
        }
        self.signal(Signal::SIGTERM);
        self.finish_stopped();
    }

    /// As `finish`, where the end was already asked for.
    #[track_caller]
    pub fn finish_stopped(mut self) {
        let family: Vec<Process> = process::descendants(i32::try_from(self.child.id()).unwrap());
        let status = self.wait_end();
        self.ended = true;
        assert_eq!(status.code(), Some(0), "fpmd ended by {status}:\n{}", self.log());
        let left: Vec<&Process> = family.iter().filter(|process| process::still_runs(process)).collect();
        assert!(left.is_empty(), "processes left: {left:?}");
        self.assert_nothing_left();
        self.assert_log();
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let left = process::marked(MARK, &self.mark);
        let left: Vec<_> =
            left.iter().map(|process| (process.pid, process::arguments(process.pid))).collect();
        assert!(left.is_empty(), "processes left: {left:?}");
        let ours = |path: &Path| {
            !path.ends_with("notify")
                && !["nginx", "front"].iter().any(|folder| path.starts_with(self.rig.dir.join(folder)))
        };
        let sockets: Vec<PathBuf> = self.rig.dir.sockets().into_iter().filter(|path| ours(path)).collect();
        assert!(sockets.is_empty(), "sockets left: {sockets:?}");
    }

    #[track_caller]
    fn assert_log(&self) {
        let log = self.log();
        let grave =
            |line: &&str| ["WARNING:", "ERROR:", "ALERT:", "panicked"].iter().any(|word| line.contains(word));
        let expected = |line: &str| self.rig.expected.iter().any(|piece| line.contains(piece.as_str()));
        let strange: Vec<&str> = log.lines().filter(grave).filter(|line| !expected(line)).collect();
        assert!(strange.is_empty(), "not expected in the log:\n{}\nwhole log:\n{log}", strange.join("\n"));
    }
}

impl Drop for Fpmd {
    /// After a failed test: ends what it started.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!(
                "log of {}, its last lines:\n{}",
                self.mark,
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        let family = process::descendants(i32::try_from(self.child.id()).unwrap());
        process::end(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::thread::sleep(Duration::from_millis(50));
        let family = family.into_iter().filter(process::still_runs);
        family.chain(process::marked(MARK, &self.mark)).for_each(|process| process::end(process.pid));
    }
}

/// Runs fpmctl to its end.
pub fn fpmctl(arguments: &[&str]) -> Ran {
    run(env!("CARGO_BIN_EXE_fpmctl"), arguments)
}

/// Runs a program to its end without input; after a minute it is ended, with code 124.
pub fn run(program: &str, arguments: &[&str]) -> Ran {
    let output = Command::new("timeout").args(["60", program]).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
