//! A pool for a test: plays the master of a real fpmd-gateway over a socket pair, binds its slots, starts workers on them.
//! Everything ends with it.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fpmd::ids::{Generation, Pid, PoolName, SlotId, WorkerId};
use fpmd::os::{fdpass, procfs};
use fpmd::wire::gateway::{FromGateway, MAX_PACKET, Past, Report, Settings, ToGateway, VERSION};

/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A gateway, its slots and its workers.
pub struct Stage {
    pub directory: PathBuf,
    channel: OwnedFd,
    gateway: Child,
    slots: Vec<Slot>,
    next_worker: u64,
    asked: u64,
    inbox: VecDeque<FromGateway>,
    pub address: PathBuf,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

struct Slot {
    listener: UnixListener,
    path: PathBuf,
    worker: Option<(WorkerId, Option<Child>)>,
}

/// Settings that leave everything to the test.
pub fn settings() -> Settings {
    Settings {
        version: VERSION,
        spare: None,
        pool: PoolName::new("www").unwrap(),
        process_manager: "static".into(),
        listeners: vec!["test".into()],
        company: Default::default(),
        concurrency: 1,
        queue_limit: 1000,
        queue_timeout: None,
        request_buffer: 64 * 1024,
        response_buffer: 64 * 1024,
        buffer_directory: std::env::temp_dir(),
        request_terminate_timeout: None,
        request_finish_timeout: None,
        input_timeout: None,
        request_slowlog_timeout: None,
        max_requests: 0,
        max_requests_jitter: 0,
        max_memory: None,
        status_path: None,
        ping_path: None,
        ping_response: "pong".into(),
        access_format: "%R".into(),
        has_access_log: false,
        has_slowlog: false,
        allowed_clients: Vec::new(),
        log_stderr: false,
        decorate_output: true,
        start_time: 0,
    }
}

impl Stage {
    /// A pool with one Unix socket in front and no worker.
    pub fn new(settings: &Settings) -> Stage {
        Stage::with_logs(settings, &[])
    }

    /// The same with the log files that the settings promise.
    pub fn with_logs(settings: &Settings, logs: &[BorrowedFd<'_>]) -> Stage {
        Stage::run_by(gateway(), directory(), settings, logs)
    }

    /// As `new`, but temporary files go to a file system of their own, of so many bytes. `None` where nobody may mount one.
    pub fn on_a_small_disk(settings: &Settings, size: u32) -> Option<Stage> {
        let directory = directory();
        let disk = directory.join("disk");
        fs::create_dir(&disk).unwrap();
        let mount = format!("mount -t tmpfs -o size={size} fpmd '{}'", disk.display());
        let alone = |then: &str| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &format!("{mount} && {then}")]);
            command
        };
        if !alone("true").status().is_ok_and(|status| status.success()) {
            eprintln!("nothing may be mounted: left out");
            return None;
        }
        let settings = Settings { buffer_directory: disk, ..settings.clone() };
        let program = alone(&format!("exec '{}'", env!("CARGO_BIN_EXE_fpmd-gateway")));
        Some(Stage::run_by(program, directory, &settings, &[]))
    }

    fn run_by(program: Command, directory: PathBuf, settings: &Settings, logs: &[BorrowedFd<'_>]) -> Stage {
        let address = directory.join("pool.sock");
        let listener = UnixListener::bind(&address).unwrap();
        let mut stage = Stage::bare(program, directory, address);
        stage.configure(settings, &[&[listener.as_fd()], logs].concat());
        stage
    }

    /// As `new`, but temporary files find no place.
    pub fn without_files(settings: &Settings) -> Stage {
        Stage::new(&Settings { buffer_directory: "/nonexistent".into(), ..settings.clone() })
    }

    /// A pool with this listening socket in front.
    pub fn with_listener(settings: &Settings, listener: BorrowedFd<'_>) -> Stage {
        let directory = directory();
        let mut stage = Stage::bare(gateway(), directory.clone(), directory.join("none"));
        stage.configure(settings, &[listener]);
        stage
    }

    fn bare(mut program: Command, directory: PathBuf, address: PathBuf) -> Stage {
        let (channel, theirs) = fdpass::pair().unwrap();
        let mut gateway =
            program.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (copy, mut stderr) = (Arc::clone(&log), gateway.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                copy.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Stage {
            directory,
            channel,
            gateway,
            slots: Vec::new(),
            next_worker: 0,
            asked: 0,
            inbox: VecDeque::new(),
            address,
            log,
            reader: Some(reader),
        }
    }

    pub fn configure(&mut self, settings: &Settings, listeners: &[BorrowedFd<'_>]) {
        let message = ToGateway::Settings(Box::new(settings.clone()));
        let packet = serde_json::to_vec(&message).unwrap();
        fdpass::send(self.channel.as_fd(), &packet, listeners).unwrap();
        let ready = self.expect("readiness", |message| matches!(message, FromGateway::Ready { .. }));
        assert_eq!(ready, FromGateway::Ready { version: VERSION });
    }

    pub fn say(&self, message: &ToGateway) {
        self.hand(message, &[]);
    }

    /// Says something with descriptors beside it.
    pub fn hand(&self, message: &ToGateway, descriptors: &[BorrowedFd<'_>]) {
        fdpass::send(self.channel.as_fd(), &serde_json::to_vec(message).unwrap(), descriptors).unwrap();
    }

    /// The next message that `wanted` picks; others are kept for later.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&FromGateway) -> bool) -> FromGateway {
        let deadline = Instant::now() + PATIENCE;
        let mut passed = 0;
        loop {
            if let Some(at) = self.inbox.iter().skip(passed).position(&wanted) {
                return self.inbox.remove(passed + at).unwrap();
            }
            passed = self.inbox.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.receive(left);
            let message = message.unwrap_or_else(|| panic!("no {what}; log:\n{}", self.log()));
            self.inbox.push_back(message);
        }
    }

    fn receive(&self, patience: Duration) -> Option<FromGateway> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).unwrap();
        if poll(&mut fds, timeout).unwrap() == 0 {
            return None;
        }
        let mut buffer = vec![0; MAX_PACKET];
        let received = fdpass::receive(self.channel.as_fd(), &mut buffer).unwrap();
        (received.length > 0).then(|| serde_json::from_slice(&buffer[..received.length]).unwrap())
    }

    /// What the gateway knows now.
    pub fn report(&mut self) -> Report {
        self.asked += 1;
        let asked = self.asked;
        self.say(&ToGateway::Ask { number: asked });
        let is_mine =
            |message: &FromGateway| matches!(message, FromGateway::Report { number, .. } if *number == asked);
        match self.expect("report", is_mine) {
            FromGateway::Report { report, .. } => *report,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the gateway knows what `wanted` holds for.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.report();
            if wanted(&report) {
                return report;
            }
            assert!(Instant::now() < deadline, "never {what}: {report:?}\nlog:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A new slot without a worker; its number.
    pub fn slot(&mut self) -> usize {
        let number = self.slots.len();
        let path = self.directory.join(format!("{number}.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        self.slots.push(Slot { listener, path: path.clone(), worker: None });
        let path = path.to_str().unwrap().to_owned();
        self.say(&ToGateway::Slot { slot: SlotId(number as u32), path });
        number
    }

    pub fn listener(&self, slot: usize) -> UnixListener {
        self.slots[slot].listener.try_clone().unwrap()
    }

    pub fn path(&self, slot: usize) -> &Path {
        &self.slots[slot].path
    }

    /// Says that a worker runs on a slot, which is this process.
    pub fn claim(&mut self, slot: usize, generation: u32) -> WorkerId {
        self.announce(slot, generation, None)
    }

    /// A new slot on which this process is a worker of the first generation; where that accepts.
    pub fn seat(&mut self) -> (usize, UnixListener) {
        let slot = self.slot();
        let listener = self.listener(slot);
        self.claim(slot, 1);
        (slot, listener)
    }

    /// Starts a program on a slot.
    pub fn start(&mut self, slot: usize, command: &mut Command) -> WorkerId {
        let listener = self.listener(slot);
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        if std::env::var_os("FPMD_TEST_SHOW").is_none() {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        self.announce(slot, 1, Some(child))
    }

    fn announce(&mut self, slot: usize, generation: u32, child: Option<Child>) -> WorkerId {
        self.next_worker += 1;
        let worker = WorkerId(self.next_worker);
        let pid = child.as_ref().map_or(std::process::id(), Child::id);
        self.slots[slot].worker = Some((worker, child));
        self.say(&ToGateway::Worker {
            slot: SlotId(slot as u32),
            worker,
            pid: Pid::new(pid as i32).unwrap(),
            generation: Generation(generation),
            started: None,
            past: Past::Unknown,
        });
        worker
    }

    /// The process on a slot.
    pub fn child(&mut self, slot: usize) -> &mut Child {
        self.slots[slot].worker.as_mut().unwrap().1.as_mut().unwrap()
    }

    /// Waits for a worker's end and says so to the gateway.
    pub fn bury(&mut self, slot: usize) {
        let (worker, child) = self.slots[slot].worker.take().unwrap();
        let how = child.map(|mut child| child.wait().unwrap().to_string()).unwrap_or_default();
        self.say(&ToGateway::WorkerGone { slot: SlotId(slot as u32), worker, how });
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line in the log.
    pub fn logged(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(part) {
            assert!(Instant::now() < deadline, "'{part}' is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn pid(&self) -> u32 {
        self.gateway.id()
    }

    /// Its resident memory, kB.
    pub fn resident(&self) -> u64 {
        let pid = Pid::new(self.pid() as i32).unwrap();
        procfs::memory(pid).unwrap().unwrap().resident / 1024
    }

    /// The master ends.
    pub fn leave(&mut self) {
        let (other, _) = fdpass::pair().unwrap();
        self.channel = other;
    }

    /// Waits for the gateway's own end.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.gateway.wait().unwrap()
    }

    pub fn connect(&self) -> UnixStream {
        connect(&self.address)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
        for slot in &mut self.slots {
            if let Some((_, Some(child))) = &mut slot.worker {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the gateway's log:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn gateway() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fpmd-gateway"))
}

/// A client's connection to the pool at `address`.
pub fn connect(address: &Path) -> UnixStream {
    let stream = UnixStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn directory() -> PathBuf {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("fpmd-gateway-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    path
}
