//! The service manager's protocol: readiness and status (sd_notify(3)), inherited sockets (sd_listen_fds(3)), watchdog
//! (sd_watchdog_enabled(3)). Everything works, by doing nothing, where no service manager started us.
//!
//! The variables stay in our own environment, which cannot be changed safely; whoever builds a worker's environment leaves
//! [`VARIABLES`] out.

mod store;

use std::env;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::model::ListenAddress;
use crate::os::clock;
use crate::os::handover::{Estate, Heirloom};
use crate::os::socket::{self, Listener};

pub use self::store::Store;

/// Variables that are meant for fpmd alone: a worker that inherited them would take our sockets for its own, or tell the
/// service manager things about us.
pub const VARIABLES: [&str; 8] = [
    "FDSTORE",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// `SD_LISTEN_FDS_START`: the first inherited descriptor.
const FIRST: i32 = 3;
/// More sockets than anyone passes, and few enough to list.
const MOST: u32 = 65_536;

/// Why inherited sockets could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A variable is not what sd_listen_fds(3) says.
    Malformed {
        /// Its name.
        variable: &'static str,
        /// What it holds.
        value: String,
    },
    /// No socket of that name was passed.
    NoSuchName {
        /// The name asked for.
        name: String,
        /// The names there are.
        passed: Vec<String>,
    },
    /// What was passed cannot be a pool's socket.
    Socket {
        /// Its name.
        name: String,
        /// Why not.
        cause: socket::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Malformed { variable, value } => {
                write!(
                    f,
                    "cannot take over inherited sockets: {variable} is '{value}', which is not a sensible number"
                )
            }
            Error::NoSuchName { name, passed } if passed.is_empty() => {
                write!(f, "cannot use 'systemd:{name}': the service manager has passed no socket")
            }
            Error::NoSuchName { name, passed } => {
                let passed = passed.join("', '");
                write!(f, "cannot use 'systemd:{name}': the service manager has passed '{passed}' only")
            }
            Error::Socket { name, cause } => write!(f, "cannot use 'systemd:{name}': {cause}"),
        }
    }
}

impl std::error::Error for Error {}

/// The sockets that we were started with. They stay open, and their queues with them, as long as this lives: a pool that
/// goes with one reload and comes back with another finds its socket again.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, OwnedFd)>,
}

impl Inherited {
    /// Takes what `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` announce for this process, and makes it close-on-exec.
    /// To be called once, before anything else is opened.
    ///
    /// # Errors
    /// [`Error::Malformed`], or a descriptor that is announced and not open.
    pub fn take() -> Result<Inherited, Error> {
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let announced = announced(std::process::id(), variable)?;
        let claim = |(index, name): (usize, String)| {
            // An absurd count ends at the first number that is not open.
            match socket::claim(i32::try_from(index).map_or(i32::MAX, |index| index.saturating_add(FIRST))) {
                Ok(fd) => Ok((name, fd)),
                Err(cause) => Err(Error::Socket { name, cause }),
            }
        };
        let sockets = announced.into_iter().enumerate().map(claim).collect::<Result<_, _>>()?;
        Ok(Inherited { sockets })
    }

    /// The sockets passed under `name`, in the order in which they were passed; at least one.
    ///
    /// # Errors
    /// [`Error::NoSuchName`], or [`Error::Socket`] where one is not a listening stream socket.
    pub fn listeners(&self, name: &str) -> Result<Vec<Listener>, Error> {
        let unusable = |cause| Error::Socket { name: name.to_owned(), cause };
        let adopt = |fd: &OwnedFd| {
            let copy = socket::duplicate(fd.as_fd()).map_err(unusable)?;
            Listener::adopt(copy, ListenAddress::Systemd(name.to_owned())).map_err(unusable)
        };
        let named = self.sockets.iter().filter(|(passed, _)| passed == name);
        let listeners = named.map(|(_, fd)| adopt(fd)).collect::<Result<Vec<_>, _>>()?;
        if listeners.is_empty() {
            let passed = self.sockets.iter().map(|(name, _)| name.clone()).collect();
            return Err(Error::NoSuchName { name: name.to_owned(), passed });
        }
        Ok(listeners)
    }

    /// Takes those out that a process before us has left in the descriptor store, each with its name there.
    pub fn take_stored(&mut self) -> Vec<(String, OwnedFd)> {
        self.sockets.extract_if(.., |(name, _)| name.starts_with(socket::PREFIX)).collect()
    }

    /// The names that were passed, with repetitions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().map(|(name, _)| name.as_str())
    }
}

/// An inherited socket on its way to the successor of this process: its name and its descriptor.
pub type WrittenSocket = (String, Heirloom);

impl Inherited {
    /// Hands all of them over.
    pub fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> Vec<WrittenSocket> {
        self.sockets.iter().map(|(name, fd)| (name.clone(), estate.leave(fd.as_fd()))).collect()
    }

    /// Takes them over.
    ///
    /// # Errors
    /// One was not handed over.
    pub fn claim(written: Vec<WrittenSocket>) -> Result<Inherited, socket::Error> {
        let claim = |(name, fd): WrittenSocket| Ok((name, fd.claim()?));
        Ok(Inherited { sockets: written.into_iter().map(claim).collect::<Result<_, _>>()? })
    }
}

/// The names of the descriptors announced for the process `pid`, the first for descriptor 3.
fn announced(pid: u32, variable: impl Fn(&'static str) -> Option<String>) -> Result<Vec<String>, Error> {
    let number = |name: &'static str| match variable(name) {
        None => Ok(None),
        Some(value) => match value.parse::<u32>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::Malformed { variable: name, value }),
        },
    };
    // Meant for another process of the same environment, often the shell that started us.
    if number("LISTEN_PID")? != Some(pid) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS")?.unwrap_or(0);
    if count > MOST {
        return Err(Error::Malformed { variable: "LISTEN_FDS", value: count.to_string() });
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    // Without a name it is "unknown", as in sd_listen_fds_with_names(3).
    let mut names = names.split(':').map(|name| if name.is_empty() { "unknown" } else { name });
    Ok((0..count).map(|_| names.next().unwrap_or("unknown").to_owned()).collect())
}

/// The way to the service manager; mute where there is none.
#[derive(Debug)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// A notifier for `NOTIFY_SOCKET`: a path, or an abstract name behind `@`.
    pub fn from_environment() -> Notifier {
        match env::var("NOTIFY_SOCKET") {
            Ok(name) => Notifier::to(&name),
            Err(_) => Notifier { target: None },
        }
    }

    fn to(name: &str) -> Notifier {
        let connect = || -> io::Result<(UnixDatagram, SocketAddr)> {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(name)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        };
        let target = connect().inspect_err(|error| ::log::debug!("cannot notify '{name}': {error}")).ok();
        Notifier { target }
    }

    /// Whether someone listens to us.
    pub fn is_connected(&self) -> bool {
        self.target.is_some()
    }

    /// Sends `message`, lines of `NAME=VALUE`. Never waits and never fails: what cannot be delivered at once is lost.
    pub fn notify(&self, message: &str) {
        let Some((socket, address)) = &self.target else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            ::log::debug!("cannot notify the service manager: {error}");
        }
    }

    /// Start-up or a reload is complete; `status` is shown by `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.notify(&format!("READY=1\nMAINPID={}\nSTATUS={}", std::process::id(), one_line(status)));
    }

    /// A new status sentence.
    pub fn status(&self, status: &str) {
        self.notify(&format!("STATUS={}", one_line(status)));
    }

    /// A reload begins; [`Notifier::ready`] ends it, whatever came of it. `Type=notify-reload` wants the time in the same
    /// datagram.
    pub fn reloading(&self) {
        let micros = clock::monotonic().0.as_micros();
        self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading"));
    }

    /// What goes on now may take so long from now (EXTEND_TIMEOUT_USEC).
    pub fn extend_timeout(&self, span: Duration) {
        self.notify(&format!("EXTEND_TIMEOUT_USEC={}", span.as_micros()));
    }

    /// The daemon is ending.
    pub fn stopping(&self, status: &str) {
        self.notify(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// The main loop is alive.
    pub fn watchdog(&self) {
        self.notify("WATCHDOG=1");
    }
}

/// How often to call [`Notifier::watchdog`]: half of what the service manager allows, as sd_watchdog_enabled(3) advises.
/// `None` where it does not watch us.
pub fn watchdog_interval() -> Option<Duration> {
    interval(std::process::id(), |name| env::var(name).ok())
}

fn interval(pid: u32, variable: impl Fn(&'static str) -> Option<String>) -> Option<Duration> {
    let limit: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    let ours = variable("WATCHDOG_PID").is_none_or(|value| value.parse() == Ok(pid));
    (ours && limit > 0).then(|| Duration::from_micros(limit / 2))
}

/// A line end in a value would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn variables(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&'static str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn sockets_of_other_processes_are_not_ours() {
        let none: Result<Vec<String>, Error> = Ok(Vec::new());
        assert_eq!(announced(7, variables(&[])), none);
        assert_eq!(announced(7, variables(&[("LISTEN_FDS", "2")])), none);
        assert_eq!(announced(7, variables(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "8")])), none);
        assert_eq!(announced(7, variables(&[("LISTEN_PID", "7")])), none);
    }

    #[test]
    fn announced_sockets_have_names() {
        let both = variables(&[("LISTEN_FDS", "3"), ("LISTEN_PID", "7"), ("LISTEN_FDNAMES", "web::web")]);
        assert_eq!(announced(7, both), Ok(vec!["web".into(), "unknown".into(), "web".into()]));
    }

    #[test]
    fn nonsense_is_told_by_its_variable() {
        let refusal = announced(7, variables(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")])).unwrap_err();
        let expected =
            "cannot take over inherited sockets: LISTEN_FDS is '-1', which is not a sensible number";
        assert_eq!(refusal.to_string(), expected);
        assert!(announced(7, variables(&[("LISTEN_PID", "x")])).is_err());
        assert!(announced(7, variables(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "4294967295")])).is_err());
    }

    #[test]
    fn a_name_has_all_its_sockets_again_and_again() {
        let pass = |name: &str| (name.to_owned(), OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()));
        let inherited = Inherited { sockets: vec![pass("web"), pass("admin"), pass("web")] };
        for _ in 0..2 {
            let listeners = inherited.listeners("web").unwrap();
            assert_eq!(listeners.len(), 2);
            assert_ne!(listeners[0].local_name(), listeners[1].local_name());
        }
        let refusal = inherited.listeners("wbe").unwrap_err().to_string();
        let expected = "cannot use 'systemd:wbe': the service manager has passed 'web', 'admin', 'web' only";
        assert_eq!(refusal, expected);
        let refusal = Inherited::default().listeners("web").unwrap_err().to_string();
        assert_eq!(refusal, "cannot use 'systemd:web': the service manager has passed no socket");
    }

    #[test]
    fn what_is_no_listening_socket_is_refused_by_name() {
        let (pipe, _end) = io::pipe().unwrap();
        let inherited = Inherited { sockets: vec![("web".into(), pipe.into())] };
        let refusal = inherited.listeners("web").unwrap_err().to_string();
        assert!(refusal.starts_with("cannot use 'systemd:web': cannot take over descriptor "), "{refusal}");
    }

    fn received(service_manager: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = service_manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn messages_reach_an_abstract_name() {
        let name = format!("fpmd-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let service_manager = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::to(&format!("@{name}"));
        notifier.ready("2 pools\nEVIL=1");
        let pid = std::process::id();
        assert_eq!(received(&service_manager), format!("READY=1\nMAINPID={pid}\nSTATUS=2 pools EVIL=1"));
        notifier.reloading();
        let text = received(&service_manager);
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().lines().next().unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        notifier.stopping("bye");
        assert_eq!(received(&service_manager), "STOPPING=1\nSTATUS=bye");
    }

    #[test]
    fn a_full_or_missing_service_manager_does_not_stop_us() {
        let name = format!("fpmd-notify-full-{}", std::process::id());
        let service_manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier::to(&format!("@{name}"));
        for _ in 0..10_000 {
            notifier.watchdog();
        }
        assert_eq!(received(&service_manager), "WATCHDOG=1");
        drop(service_manager);
        notifier.watchdog();
        let mute = Notifier::to("");
        mute.ready("nobody hears");
        assert!(!Notifier { target: None }.is_connected());
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        assert_eq!(
            interval(7, variables(&[("WATCHDOG_USEC", "3000000")])),
            Some(Duration::from_millis(1500))
        );
        let other = variables(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")]);
        assert_eq!(interval(7, other), None);
        assert_eq!(interval(7, variables(&[("WATCHDOG_USEC", "x")])), None);
        assert_eq!(interval(7, variables(&[])), None);
    }
}
