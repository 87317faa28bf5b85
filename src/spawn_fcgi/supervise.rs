//! `--supervise`: the same request as a configuration of fpmd with one pool. Pure: takes the facts about the surroundings and returns
//! the text. Paths become absolute here, as fpmd wants them, in the root directory in which the original would look them up.
//! fpmd.toml(5).

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::bind::numeric_address;
use super::launch::Identities;
use super::message::Failure;
use crate::cli::spawn_fcgi::args::{Application, Endpoint, Request, Style};
use crate::ids::{Gid, Uid};

/// Variables that fpmd would set for php-cgi, and which are the caller's here.
pub const PHP_VARIABLES: [&str; 2] = ["PHP_FCGI_CHILDREN", "PHP_FCGI_MAX_REQUESTS"];

/// What a configuration depends on besides the command line.
#[derive(Debug)]
pub struct Surroundings {
    /// The working directory, absolute.
    pub directory: PathBuf,
    /// Where control sockets are.
    pub runtime_dir: PathBuf,
    /// What `-M` and the umask make of the socket's permissions.
    pub socket_mode: u32,
    /// The users and groups; `None` where root's options are ignored.
    pub identities: Option<Identities>,
    /// Those of `PHP_VARIABLES` that are in our environment.
    pub php_variables: Vec<(&'static str, OsString)>,
}

/// A configuration and what it is called.
#[derive(Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The only pool's name, made from the address, so that two of them do not share a control socket.
    pub pool: String,
    /// TOML.
    pub text: String,
}

/// Translates `request`.
///
/// # Errors
/// An address that is none, and what TOML or a pool cannot express.
pub fn configuration(request: &Request, around: &Surroundings) -> Result<Configuration, Failure> {
    let places = Places::of(request, around);
    let name = pool_name(&request.endpoint, &places);
    let mut pool = Table::new();
    // What spawn-fcgi starts need not speak FastCGI: it may be SCGI.
    pool.insert("dispatch".into(), "direct".into());
    pool.insert("command".into(), command(&request.application, &places)?);
    pool.insert("clear_env".into(), false.into());
    pool.insert("env".into(), environment(request, around)?);
    pool.insert("pm".into(), static_pool(request.fork_count)?);
    insert_socket(&mut pool, request, around, &places)?;
    insert_identity(&mut pool, around);
    insert_places(&mut pool, request, &places)?;
    let mut config = Table::new();
    config.insert("global".into(), global(request, around, &name)?.into());
    config.insert("pool".into(), Table::from_iter([(name.clone(), pool.into())]).into());
    Ok(Configuration { pool: name, text: config.to_string() })
}

/// Where fpmd will make the socket, if it is a path.
pub fn socket_path(request: &Request, around: &Surroundings) -> Option<PathBuf> {
    match &request.endpoint {
        Endpoint::Unix(path) => Some(Places::of(request, around).of_socket(path)),
        Endpoint::Tcp { .. } => None,
    }
}

/// Where relative paths start.
struct Places<'a> {
    /// Our own working directory, as a path of our own root.
    here: &'a Path,
    /// `-c`.
    chroot: Option<PathBuf>,
    /// `-S`.
    bind_first: bool,
    /// The application's working directory, as a path of its root.
    work: PathBuf,
}

impl Places<'_> {
    fn of<'a>(request: &'a Request, around: &'a Surroundings) -> Places<'a> {
        let here = around.directory.as_path();
        let chroot = request.privileged.as_ref().and_then(|p| p.chroot.as_ref()).map(|root| here.join(root));
        let start = if chroot.is_some() { Path::new("/") } else { here };
        let work = start.join(request.directory.as_deref().unwrap_or_default());
        let bind_first = request.privileged.as_ref().is_some_and(|options| options.bind_first);
        Places { here, chroot, bind_first, work }
    }

    /// A socket's path as fpmd sees it, which binds outside of the chroot.
    fn of_socket(&self, path: &OsStr) -> PathBuf {
        match &self.chroot {
            Some(root) if !self.bind_first => {
                let inside = Path::new(path);
                root.join(inside.strip_prefix("/").unwrap_or(inside))
            }
            _ => self.here.join(path),
        }
    }
}

fn global(request: &Request, around: &Surroundings, name: &str) -> Result<Table, Failure> {
    let mut global = Table::new();
    let log = match request.style {
        Style::Fork => "syslog",
        Style::InPlace => "stderr",
    };
    global.insert("log".into(), log.into());
    global.insert("control_socket".into(), text(around.runtime_dir.join(format!("{name}.sock")))?);
    if let Some(file) = &request.pid_file {
        global.insert("pid_file".into(), text(around.directory.join(file))?);
    }
    Ok(global)
}

fn static_pool(fork_count: i32) -> Result<Value, Failure> {
    if fork_count < 1 {
        return Err(Failure::NotSupervisable(format!(
            "a pool has at least one process, -F says {fork_count}"
        )));
    }
    let mut pm = Table::new();
    pm.insert("mode".into(), "static".into());
    pm.insert("max_children".into(), i64::from(fork_count).into());
    Ok(pm.into())
}

fn command(application: &Application, places: &Places<'_>) -> Result<Value, Failure> {
    let words = match application {
        Application::Direct(words) => {
            let program = words.first().map(|word| places.work.join(word).into_os_string());
            program.into_iter().chain(words.iter().skip(1).cloned()).collect()
        }
        Application::Shell(path) => {
            let mut script = OsString::from("exec ");
            script.push(path);
            vec!["/bin/sh".into(), "-c".into(), script]
        }
    };
    words.into_iter().map(text).collect::<Result<Vec<Value>, Failure>>().map(Value::Array)
}

/// `-C` wins, then the caller's environment, so that fpmd's own defaults for php-cgi change nothing.
fn environment(request: &Request, around: &Surroundings) -> Result<Value, Failure> {
    let mut variables = Table::new();
    for (name, value) in &around.php_variables {
        variables.insert((*name).into(), text(value)?);
    }
    if let Some(children) = request.php_children {
        variables.insert(PHP_VARIABLES[0].into(), children.to_string().into());
    }
    Ok(variables.into())
}

fn insert_socket(
    pool: &mut Table,
    request: &Request,
    around: &Surroundings,
    places: &Places<'_>,
) -> Result<(), Failure> {
    // The kernel takes a negative length for the greatest, and 0 for about one.
    let backlog = if request.backlog < 0 { i32::MAX } else { request.backlog.max(1) };
    pool.insert("listen_backlog".into(), i64::from(backlog).into());
    let path = match &request.endpoint {
        Endpoint::Tcp { address, port } => {
            let address = SocketAddr::new(numeric_address(address.as_deref())?, *port);
            pool.insert("listen".into(), address.to_string().into());
            return Ok(());
        }
        Endpoint::Unix(path) => path,
    };
    pool.insert("listen".into(), text(places.of_socket(path))?);
    pool.insert("listen_mode".into(), format!("{:04o}", around.socket_mode & 0o777).into());
    if let Some(Identities { socket, .. }) = &around.identities {
        if let Some(Uid(uid)) = socket.uid {
            pool.insert("listen_owner".into(), uid.to_string().into());
        }
        if let Some(Gid(gid)) = socket.gid {
            pool.insert("listen_group".into(), gid.to_string().into());
        }
    }
    Ok(())
}

fn insert_identity(pool: &mut Table, around: &Surroundings) {
    let Some(Identities { application, .. }) = &around.identities else { return };
    // fpmd wants to be told where workers run as root; the original never asked.
    let uid = application.uid.unwrap_or(Uid(0));
    pool.insert("user".into(), uid.0.to_string().into());
    match application.gid {
        Some(Gid(gid)) => {
            pool.insert("group".into(), gid.to_string().into());
            if application.login.is_none() {
                pool.insert("supplementary_groups".into(), Value::Array(Vec::new()));
            }
        }
        None if application.uid.is_some() => {
            pool.insert("group".into(), "0".into());
        }
        None => {}
    }
}

fn insert_places(pool: &mut Table, request: &Request, places: &Places<'_>) -> Result<(), Failure> {
    if let Some(root) = &places.chroot {
        pool.insert("chroot".into(), text(root)?);
    }
    if request.directory.is_some() {
        pool.insert("directory".into(), text(&places.work)?);
    }
    Ok(())
}

fn text(value: impl AsRef<OsStr>) -> Result<Value, Failure> {
    let value = value.as_ref();
    match value.to_str() {
        Some(text) => Ok(text.into()),
        None => Err(Failure::NotSupervisable(format!("'{}' is not UTF-8", value.display()))),
    }
}

/// The address with every character replaced that a pool's name cannot have, and its last 64 characters only.
fn pool_name(endpoint: &Endpoint, places: &Places<'_>) -> String {
    let address = match endpoint {
        Endpoint::Tcp { address: None, port } => format!("port-{port}"),
        Endpoint::Tcp { address: Some(address), port } => format!("{}-{port}", address.display()),
        Endpoint::Unix(path) => places.of_socket(path).to_string_lossy().into_owned(),
    };
    let address = address.strip_suffix(".sock").unwrap_or(&address);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let name: String = address.chars().map(|c| if legal(c) { c } else { '-' }).collect();
    let name = name[name.len().saturating_sub(64)..].trim_start_matches(['.', '-']);
    if name.is_empty() { "pool".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::identity::Identity;
    use super::*;
    use crate::cli::spawn_fcgi::args::{Caller, Invocation, parse};
    use crate::cli::spawn_fcgi::getopt::Ordering;
    use crate::ids::PoolName;

    fn request(caller: Caller, line: &str) -> Request {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match parse(&arguments, caller, Ordering::Permute) {
            Ok(Invocation::Launch(request)) => *request,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn around(identities: Option<Identities>) -> Surroundings {
        Surroundings {
            directory: "/home/me".into(),
            runtime_dir: "/run/fpmd".into(),
            socket_mode: 0o640,
            identities,
            php_variables: Vec::new(),
        }
    }

    fn identity(uid: Option<u32>, gid: Option<u32>, login: Option<&str>) -> Identity {
        Identity { uid: uid.map(Uid), gid: gid.map(Gid), login: login.map(OsString::from) }
    }

    fn ids(application: Identity, socket: Identity) -> Option<Identities> {
        Some(Identities { application, socket })
    }

    fn translated(line: &str, around: &Surroundings) -> Configuration {
        let caller = if around.identities.is_some() { Caller::Root } else { Caller::Ordinary };
        configuration(&request(caller, line), around).unwrap()
    }

    #[test]
    fn an_ordinary_users_tcp_pool() {
        let made =
            translated("s --supervise -p 9000 -a ::1 -F 4 -P run/pid -C 2 -- bin/app -x", &around(None));
        let expected = r#"[global]
control_socket = "/run/fpmd/1-9000.sock"
log = "syslog"
pid_file = "/home/me/run/pid"

[pool.1-9000]
clear_env = false
command = ["/home/me/bin/app", "-x"]
dispatch = "direct"
listen = "[::1]:9000"
listen_backlog = 1024

[pool.1-9000.env]
PHP_FCGI_CHILDREN = "2"

[pool.1-9000.pm]
max_children = 4
mode = "static"
"#;
        assert_eq!(made.text, expected);
    }

    #[test]
    fn roots_unix_pool_in_a_chroot() {
        let who = identity(Some(33), Some(33), Some("www-data"));
        let around = around(ids(who, identity(Some(33), Some(70), None)));
        let made =
            translated("s --supervise -n -s run/a.sock -c jail -d srv -u www-data -G www -b -1 app", &around);
        let expected = r#"[global]
control_socket = "/run/fpmd/home-me-jail-run-a.sock"
log = "stderr"

[pool.home-me-jail-run-a]
chroot = "/home/me/jail"
clear_env = false
command = ["/srv/app"]
directory = "/srv"
dispatch = "direct"
group = "33"
listen = "/home/me/jail/run/a.sock"
listen_backlog = 2147483647
listen_group = "70"
listen_mode = "0640"
listen_owner = "33"
user = "33"

[pool.home-me-jail-run-a.env]

[pool.home-me-jail-run-a.pm]
max_children = 1
mode = "static"
"#;
        assert_eq!(made.text, expected);
    }

    #[test]
    fn s_keeps_the_socket_out_of_the_chroot() {
        let around = around(ids(identity(None, None, None), identity(None, None, None)));
        let listen = |line: &str| {
            let made = translated(line, &around).text.parse::<Table>().unwrap();
            let pools = made["pool"].as_table().unwrap().clone();
            pools.values().next().unwrap()["listen"].as_str().unwrap().to_owned()
        };
        assert_eq!(listen("s -s /run/a -c /jail /app"), "/jail/run/a");
        assert_eq!(listen("s -s /run/a -S -c /jail /app"), "/run/a");
        assert_eq!(listen("s -s a -S -c /jail /app"), "/home/me/a");
    }

    #[test]
    fn identities_follow_the_originals_rules() {
        let keys = |application: Identity| {
            let around = around(ids(application, identity(None, None, None)));
            let made = translated("s -p 1 /app", &around).text.parse::<Table>().unwrap();
            let pool = made["pool"]["port-1"].clone();
            ["user", "group", "supplementary_groups"].map(|key| pool.get(key).map(Value::to_string))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(keys(identity(None, None, None)), [some("\"0\""), None, None]);
        assert_eq!(keys(identity(Some(9), Some(8), Some("x"))), [some("\"9\""), some("\"8\""), None]);
        assert_eq!(keys(identity(None, Some(8), None)), [some("\"0\""), some("\"8\""), some("[]")]);
        assert_eq!(keys(identity(Some(9), None, None)), [some("\"9\""), some("\"0\""), None]);
    }

    #[test]
    fn the_callers_php_variables_stay() {
        let mut around = around(None);
        around.php_variables =
            vec![("PHP_FCGI_CHILDREN", "5".into()), ("PHP_FCGI_MAX_REQUESTS", "100".into())];
        let env = |line: &str, around: &Surroundings| {
            translated(line, around).text.parse::<Table>().unwrap()["pool"]["port-1"]["env"].to_string()
        };
        let kept = "{ PHP_FCGI_CHILDREN = \"5\", PHP_FCGI_MAX_REQUESTS = \"100\" }";
        assert_eq!(env("s -p 1 /app", &around), kept);
        assert_eq!(env("s -p 1 -C 0 /app", &around), kept.replace('5', "0"));
    }

    #[test]
    fn f_runs_in_a_shell() {
        let made = translated("s -p 1 -f /app", &around(None)).text;
        assert!(made.contains(r#"command = ["/bin/sh", "-c", "exec /app"]"#), "{made}");
    }

    #[test]
    fn what_a_pool_cannot_be_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let around = around(None);
        let said = |request: &Request| {
            String::from_utf8(configuration(request, &around).unwrap_err().text()).unwrap()
        };
        let mut odd = request(Caller::Ordinary, "s -p 1 -F 0 app");
        assert_eq!(said(&odd), "cannot supervise: a pool has at least one process, -F says 0");
        odd.fork_count = 1;
        odd.directory = Some(OsString::from_vec(vec![b'/', 0xff]));
        assert_eq!(said(&odd), "cannot supervise: '/\u{fffd}/app' is not UTF-8");
        assert_eq!(
            said(&request(Caller::Ordinary, "s -p 1 -a here /app")),
            "'here' is not a valid IP address"
        );
    }

    #[test]
    fn every_name_is_a_pools_name() {
        let long = "x/".repeat(50);
        let named = |line: &str| translated(line, &around(None)).pool;
        for path in ["/", ".", "/-", "@a,b", "é", "/run/a.sock", &long] {
            let name = named(&format!("s -s {path} /app"));
            assert!(PoolName::new(&name).is_ok(), "{path}: {name}");
        }
        assert_eq!(named("s -s /run/a.sock /app"), "run-a");
        assert_eq!(named("s -s a.sock /app"), "home-me-a");
        assert_eq!(named("s -p 9 -a fe80::1 /app"), "fe80--1-9");
    }
}
