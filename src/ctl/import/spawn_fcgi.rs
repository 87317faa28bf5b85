//! A command line of spawn-fcgi, and of multiwatch behind it, as a pool. Paths become absolute where the original would have
//! looked them up; names stay names. fpmctl(8), `import spawn-fcgi`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::cli::spawn_fcgi::args::{
    self, Application, Caller, Endpoint, Invocation, Privileged, Request, Style,
};
use crate::cli::spawn_fcgi::getopt::Ordering;
use crate::config::Host;
use crate::config::import::Draft;
use crate::config::import::draft::{Part, PoolDraft, Value};
use crate::ids::Uid;

mod multiwatch;

/// What the original is called, should the line begin with it.
const PROGRAM: &str = "spawn-fcgi";

/// What php-cgi starts workers of its own by.
const PHP_CHILDREN: &str = "PHP_FCGI_CHILDREN";

/// Translates the arguments, with or without the program's name before them.
///
/// # Errors
/// What the original would say, and what a pool cannot be.
pub fn translate(arguments: &[OsString], directory: &Path, host: &dyn Host) -> Result<Draft, String> {
    let request = request(arguments)?;
    let options = request.privileged.clone().unwrap_or_default();
    let places = Places::of(&request, &options, directory);
    let line: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut draft = Draft::new(vec![format!(
        "Written by fpmctl import spawn-fcgi from: {}. fpmd --check --config FILE tests it.",
        line.join(" ")
    )]);
    let mut pool = PoolDraft::new(draft.free_name(&name(&request.endpoint)));
    socket(&mut pool.own, &request, &options, &places, host)?;
    application(&mut pool, &request, &places)?;
    identity(&mut pool.own, &options, host)?;
    set_path(&mut pool.own, "chroot", places.chroot.as_deref())?;
    set_path(&mut pool.own, "directory", request.directory.is_some().then_some(&places.work))?;
    // The original's applications have its environment.
    pool.own.set("clear_env", Value::Flag(false));
    if let Some(file) = &request.pid_file {
        let why =
            "fpmd's pid_file, a setting of [global], has its own pid; fpmctl status has those of the workers";
        pool.own.note(&format!("-P {}", file.display()), why);
    }
    if request.style == Style::InPlace {
        pool.own.note("-n", "fpmd itself stays in the foreground, unless it is started with --daemonize");
    }
    draft.pools.push(pool);
    Ok(draft)
}

fn request(arguments: &[OsString]) -> Result<Request, String> {
    let named = |word: &OsString| Path::new(word).file_name() == Some(OsStr::new(PROGRAM));
    let name = (!arguments.first().is_some_and(named)).then(|| PROGRAM.into());
    let line: Vec<OsString> = name.into_iter().chain(arguments.iter().cloned()).collect();
    match args::parse(&line, Caller::Root, Ordering::Permute).map_err(|fault| fault.to_string())? {
        Invocation::Launch(request) => Ok(*request),
        Invocation::BadOption(complaint) => Err(String::from_utf8_lossy(&complaint).into_owned()),
        Invocation::Usage(_) | Invocation::Version => Err("this line starts no application".to_owned()),
    }
}

/// Where relative paths start.
struct Places<'a> {
    here: &'a Path,
    chroot: Option<PathBuf>,
    bind_first: bool,
    /// The application's working directory, as a path of its root.
    work: PathBuf,
}

impl<'a> Places<'a> {
    fn of(request: &Request, options: &Privileged, here: &'a Path) -> Places<'a> {
        let chroot = options.chroot.as_ref().map(|root| here.join(root));
        let start = if chroot.is_some() { Path::new("/") } else { here };
        let work = start.join(request.directory.as_deref().unwrap_or_default());
        Places { here, chroot, bind_first: options.bind_first, work }
    }

    /// The socket's path as fpmd sees it, which binds outside of the chroot.
    fn of_socket(&self, path: &OsStr) -> PathBuf {
        match &self.chroot {
            Some(root) if !self.bind_first => {
                root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
            }
            _ => self.here.join(path),
        }
    }
}

/// The socket's name without its ending, or the port.
fn name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp { port, .. } => format!("port-{port}"),
        Endpoint::Unix(path) => {
            Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned()
        }
    }
}

fn socket(
    own: &mut Part,
    request: &Request,
    options: &Privileged,
    places: &Places<'_>,
    host: &dyn Host,
) -> Result<(), String> {
    // The original's default is 1024; ours is longer, and the kernel shortens both.
    if request.backlog != 1024 {
        let backlog = if request.backlog < 0 { i32::MAX } else { request.backlog.max(1) };
        own.set("listen_backlog", Value::Number(i64::from(backlog)));
    }
    match &request.endpoint {
        Endpoint::Tcp { address, port } => {
            let given = address.as_deref().map(text).transpose()?;
            let address = match &given {
                None => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                Some(text) => text.parse().map_err(|_| format!("'{text}' is not a valid IP address"))?,
            };
            own.set("listen", Value::of(SocketAddr::new(address, *port).to_string()));
        }
        Endpoint::Unix(path) => {
            set_path(own, "listen", Some(&places.of_socket(path)))?;
            match request.mode {
                Some(mode) => own.set("listen_mode", Value::Text(format!("{:04o}", mode & 0o777))),
                None => own.remark("Without -M spawn-fcgi's socket has mode 0660 less the umask, mostly 0640; fpmd's has 0660."),
            }
            owner(own, options, host)?;
        }
    }
    Ok(())
}

/// `-U` and `-G`; without them the application's user and group, and without a group the owner's own.
fn owner(own: &mut Part, options: &Privileged, host: &dyn Host) -> Result<(), String> {
    let user = options.socket_user.as_deref().or(options.user.as_deref()).map(text).transpose()?;
    let named = options.socket_group.as_deref().map(text).transpose()?;
    let own_group = options.socket_user.is_none().then_some(options.group.as_deref()).flatten();
    let group = named.or(own_group.map(text).transpose()?);
    let group = group.or_else(|| user.as_deref().and_then(|user| primary_group(user, host)));
    if let Some(user) = user {
        own.set("listen_owner", Value::Text(user));
    }
    if let Some(group) = group {
        own.set("listen_group", Value::Text(group));
    }
    Ok(())
}

/// By its name where it is called like the user, as it mostly is.
fn primary_group(user: &str, host: &dyn Host) -> Option<String> {
    let gid = host.user(user).ok().flatten()?.gid?;
    let of_same_name = host.group(user).ok().flatten().filter(|group| group.gid == gid);
    Some(of_same_name.map_or_else(|| gid.0.to_string(), |group| group.name))
}

fn application(pool: &mut PoolDraft, request: &Request, places: &Places<'_>) -> Result<(), String> {
    if request.fork_count < 1 {
        return Err(format!("a pool has at least one process, -F says {}", request.fork_count));
    }
    let mut workers = i64::from(request.fork_count);
    let mut comments = Vec::new();
    let mut words = match &request.application {
        Application::Direct(words) => words.iter().map(text).collect::<Result<Vec<String>, String>>()?,
        Application::Shell(path) => vec!["/bin/sh".into(), "-c".into(), format!("exec {}", text(path)?)],
    };
    if let Some(watch) = multiwatch::read(&words)? {
        workers *= watch.copies;
        watch.notes.iter().for_each(|(what, why)| pool.own.note(what, why));
        comments.push("The copies that multiwatch keeps are workers of fpmd.".to_owned());
        words = watch.command;
    }
    if let Some(children) = request.php_children {
        workers *= i64::from(children.max(1));
        comments.push(format!("The {children} children of -C are workers of fpmd, each with one PHP."));
        let variables = BTreeMap::from([(PHP_CHILDREN.to_owned(), "0".to_owned())]);
        pool.own.set("env", Value::Variables(variables));
    }
    if let Some(program) = words.first_mut() {
        *program = text(places.work.join(&*program).components().collect::<PathBuf>())?;
    }
    pool.own.set("command", Value::List(words));
    pool.pm.set("mode", Value::of("static"));
    pool.pm.set_with("max_children", Value::Number(workers), &comments.join(" "));
    Ok(())
}

fn identity(own: &mut Part, options: &Privileged, host: &dyn Host) -> Result<(), String> {
    match &options.user {
        Some(user) => own.set("user", Value::Text(text(user)?)),
        None if host.uid() == Uid(0) => {
            let comment = "There is no -u: started by root, the application is root's. Better write somebody else here.";
            own.set_with("user", Value::of("root"), comment);
        }
        None => {}
    }
    if let Some(group) = &options.group {
        own.set("group", Value::Text(text(group)?));
    }
    Ok(())
}

fn set_path(own: &mut Part, name: &'static str, path: Option<&Path>) -> Result<(), String> {
    if let Some(path) = path {
        own.set(name, Value::Text(text(path)?));
    }
    Ok(())
}

fn text(value: impl AsRef<OsStr>) -> Result<String, String> {
    let value = value.as_ref();
    value.to_str().map(str::to_owned).ok_or_else(|| format!("'{}' is not UTF-8", value.display()))
}
