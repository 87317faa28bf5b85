//! The built-in FastCGI worker of `fpmd demo`: a small, honest Responder on FD 0, for trying fpmd out and for its tests.
//! One connection at a time, blocking, as php-cgi does it; the first stop signal lets it finish its request and exit 0.
//!
//! Reads FPMD_POOL and FPMD_GENERATION from its environment to say who it is.

mod exchange;
mod page;

use std::process::ExitCode;

use self::exchange::End;
use self::page::Identity;
use crate::cli::exit::Daemon;
use crate::cli::output;
use crate::os::accept::{Doorway, Visit};

/// How it names itself in messages.
const PROGRAM: &str = "fpmd demo-worker";

/// What `/crash` exits with.
const CRASH: u8 = 3;

/// Serves until a stop signal comes.
pub fn worker() -> ExitCode {
    ExitCode::from(run())
}

/// The exit code as a number, which tests can compare.
fn run() -> u8 {
    let mut identity = Identity {
        pool: std::env::var("FPMD_POOL").ok(),
        generation: std::env::var("FPMD_GENERATION").ok(),
        pid: std::process::id(),
        served: 0,
    };
    let doorway = match Doorway::open() {
        Ok(doorway) => doorway,
        Err(error) => return failed(&format_args!("cannot prepare for stop signals: {error}")),
    };
    loop {
        let connection = match doorway.accept() {
            Ok(Visit::Client(connection)) => connection,
            Ok(Visit::Stop) => return Daemon::Done as u8,
            Err(error) => return failed(&format_args!("cannot accept on descriptor 0: {error}")),
        };
        match exchange::serve(connection, &mut identity) {
            Ok(End::Closed) => {}
            Ok(End::Crash) => return CRASH,
            Err(error) => output::complain(PROGRAM, &format_args!("cannot serve a client: {error}")),
        }
    }
}

fn failed(text: &dyn std::fmt::Display) -> u8 {
    output::complain(PROGRAM, text);
    Daemon::System as u8
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use nix::sys::signal::{SigSet, Signal, kill};
    use nix::unistd::Pid;

    use super::*;
    use crate::fcgi::body::{BeginRequest, Connection, EndRequest, ProtocolStatus, Role};
    use crate::fcgi::decode::Record;
    use crate::fcgi::encode;
    use crate::fcgi::pairs::Pairs;
    use crate::fcgi::record::{RecordType, RequestId};
    use crate::os::testing::TempDir;

    const LIMIT: Duration = Duration::from_secs(10);
    const ID: RequestId = RequestId(1);

    /// Not a test of itself: the worker process of the others. It is this test program again, started by `env` with the
    /// stop signals blocked, so that they come to the one thread that lets them through.
    #[test]
    fn as_a_worker() {
        if std::env::var_os("FPMD_POOL").is_none() {
            return;
        }
        SigSet::from_iter([Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT]).thread_unblock().unwrap();
        let code = run();
        #[allow(clippy::exit, reason = "this process is the worker")]
        std::process::exit(i32::from(code));
    }

    struct Worker {
        process: Child,
        directory: TempDir,
    }

    impl Worker {
        fn start() -> Worker {
            let directory = TempDir::new();
            let listener = UnixListener::bind(directory.join("socket")).unwrap();
            let process = Command::new("env")
                .args(["--block-signal=TERM,QUIT,INT", "FPMD_POOL=demo"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "demo::tests::as_a_worker", "--test-threads=1"])
                .stdin(OwnedFd::from(listener))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            Worker { process, directory }
        }

        fn connect(&self) -> UnixStream {
            let stream = UnixStream::connect(self.directory.join("socket")).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.set_write_timeout(Some(LIMIT)).unwrap();
            stream
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
        }

        fn exit_code(&mut self) -> Option<i32> {
            let end = Instant::now() + LIMIT;
            while Instant::now() < end {
                if let Some(status) = self.process.try_wait().unwrap() {
                    return status.code();
                }
                crate::os::accept::pause(Duration::from_millis(5));
            }
            panic!("the worker does not end");
        }
    }

    impl Drop for Worker {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    fn request(uri: &str, connection: Connection, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let begin = BeginRequest { role: Role::Responder, connection };
        let params = [(&b"REQUEST_METHOD"[..], &b"POST"[..]), (b"REQUEST_URI", uri.as_bytes())];
        encode::request(&mut out, ID, &begin, params, body).unwrap();
        out
    }

    /// Reads one record.
    fn record(stream: &mut UnixStream) -> (RecordType, Vec<u8>) {
        let mut bytes = vec![0; 8];
        stream.read_exact(&mut bytes).unwrap();
        let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]])) + usize::from(bytes[6]);
        bytes.resize(8 + length, 0);
        stream.read_exact(&mut bytes[8..]).unwrap();
        let (record, _) = Record::first(&bytes).unwrap().unwrap();
        (record.header.kind, record.content.to_vec())
    }

    /// Reads a response to its END_REQUEST.
    fn response(stream: &mut UnixStream) -> (Vec<u8>, ProtocolStatus) {
        let mut stdout = Vec::new();
        loop {
            match record(stream) {
                (RecordType::Stdout, content) => stdout.extend(content),
                (RecordType::EndRequest, content) => {
                    return (stdout, EndRequest::decode(&content).unwrap().protocol_status);
                }
                (kind, _) => panic!("{kind}"),
            }
        }
    }

    fn body(stdout: &[u8]) -> &[u8] {
        let end = stdout.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        &stdout[end + 4..]
    }

    fn is_closed(stream: &mut UnixStream) -> bool {
        match stream.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn a_page_names_pool_and_worker_and_the_connection_closes() {
        let worker = Worker::start();
        let mut stream = worker.connect();
        stream.write_all(&request("/?a", Connection::Close, b"12345")).unwrap();
        let (stdout, status) = response(&mut stream);
        let text = String::from_utf8(stdout).unwrap();
        assert_eq!(status, ProtocolStatus::RequestComplete);
        assert!(text.starts_with("Status: 200 OK\r\n"), "{text}");
        for part in
            ["pool        demo", &format!("pid {}", worker.process.id()), "POST /?a", "body        5 bytes"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(is_closed(&mut stream));
    }

    #[test]
    fn a_kept_connection_serves_on_and_management_is_answered() {
        let worker = Worker::start();
        let mut stream = worker.connect();
        for uri in ["/", "/missing", "/bytes?n=x", "/slow?ms=1"] {
            stream.write_all(&request(uri, Connection::Keep, b"")).unwrap();
            assert_eq!(response(&mut stream).1, ProtocolStatus::RequestComplete, "{uri}");
        }
        let mut bytes = Vec::new();
        encode::values(&mut bytes, RecordType::GetValues, [(&b"FCGI_MAX_CONNS"[..], &b""[..])]).unwrap();
        encode::end_stream(&mut bytes, RecordType::Other(99), RequestId::MANAGEMENT);
        let begin = BeginRequest { role: Role::Authorizer, connection: Connection::Keep };
        encode::request(&mut bytes, ID, &begin, [], b"").unwrap();
        stream.write_all(&bytes).unwrap();
        let (kind, content) = record(&mut stream);
        assert_eq!(kind, RecordType::GetValuesResult);
        assert_eq!(Pairs::new(&content).next(), Some(Ok((&b"FCGI_MAX_CONNS"[..], &b"1"[..]))));
        assert_eq!(record(&mut stream).0, RecordType::UnknownType);
        assert_eq!(response(&mut stream).1, ProtocolStatus::UnknownRole);
    }

    #[test]
    fn large_bodies_come_back_and_large_answers_come() {
        let worker = Worker::start();
        let mut stream = worker.connect();
        let sent: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        stream.write_all(&request("/echo", Connection::Keep, &sent)).unwrap();
        assert!(body(&response(&mut stream).0) == sent);
        stream.write_all(&request("/bytes?n=3000000", Connection::Keep, b"")).unwrap();
        assert_eq!(body(&response(&mut stream).0).len(), 3_000_000);
    }

    #[test]
    fn an_idle_worker_stops_at_once() {
        let mut worker = Worker::start();
        let mut stream = worker.connect();
        stream.write_all(&request("/", Connection::Close, b"")).unwrap();
        response(&mut stream);
        worker.signal(Signal::SIGTERM);
        assert_eq!(worker.exit_code(), Some(0));
    }

    #[test]
    fn a_busy_worker_finishes_its_request_first() {
        let mut worker = Worker::start();
        let mut stream = worker.connect();
        let mut first = Vec::new();
        encode::values(&mut first, RecordType::GetValues, []).unwrap();
        let whole = request("/echo", Connection::Keep, b"body");
        let (begun, last) = whole.split_at(whole.len() - 8);
        stream.write_all(&[begun, &first].concat()).unwrap();
        assert_eq!(record(&mut stream).0, RecordType::GetValuesResult); // so it has seen the request's beginning
        worker.signal(Signal::SIGTERM);
        stream.write_all(last).unwrap();
        assert!(response(&mut stream).0.ends_with(b"body"));
        assert!(is_closed(&mut stream));
        assert_eq!(worker.exit_code(), Some(0));
    }

    #[test]
    fn a_kept_connection_without_a_request_does_not_hold_a_stopping_worker() {
        let mut worker = Worker::start();
        let mut stream = worker.connect();
        stream.write_all(&request("/", Connection::Keep, b"")).unwrap();
        response(&mut stream);
        worker.signal(Signal::SIGQUIT);
        assert!(is_closed(&mut stream));
        assert_eq!(worker.exit_code(), Some(0));
    }

    #[test]
    fn a_crash_is_a_crash() {
        let mut worker = Worker::start();
        let mut stream = worker.connect();
        stream.write_all(&request("/crash", Connection::Close, b"")).unwrap();
        assert!(is_closed(&mut stream));
        assert_eq!(worker.exit_code(), Some(3));
    }

    #[test]
    fn clients_that_talk_nonsense_or_leave_do_no_harm() {
        let worker = Worker::start();
        worker.connect().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        worker.connect().write_all(&request("/", Connection::Close, b"")[..20]).unwrap();
        drop(worker.connect());
        let mut stream = worker.connect();
        stream.write_all(&request("/", Connection::Close, b"")).unwrap();
        assert_eq!(response(&mut stream).1, ProtocolStatus::RequestComplete);
    }

    #[test]
    fn without_a_listening_socket_it_says_so() {
        let output = Command::new("env")
            .arg("FPMD_POOL=demo")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "demo::tests::as_a_worker", "--test-threads=1"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(71));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("cannot accept on descriptor 0: "), "{text}");
    }
}
