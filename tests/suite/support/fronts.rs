//! Web servers of every kind in front of one pool of php-cgi, each as it is usually set up, and curl in front of them.
//! They listen on a Unix socket, or, where the server cannot, on a free port of 127.0.0.1.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::dir::Dir;
use super::web::{self, Manner, Nginx};
use super::{fastcgi, process, wait_until, workers};

/// A server and how it speaks to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx(Manner),
    Lighttpd,
    /// mod_proxy_fcgi; kept connections are of each of its processes.
    Apache(Connections),
    /// fcgi-app; kept connections are of each of its threads.
    Haproxy(Connections),
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    Closed,
    Kept,
}

/// A running server, ended on drop.
pub enum Front {
    Nginx(Nginx),
    Other(Server),
}

impl Front {
    /// In front of the pool that listens on `socket`. Whoever has connected to it has to be anyone: Apache gives up root.
    pub fn start(kind: Kind, dir: &Dir, socket: &Path) -> Front {
        let socket = socket.display().to_string();
        let (folder, script) = (dir.join("front"), fastcgi::script("php/app.php"));
        fs::create_dir_all(&folder).unwrap();
        match kind {
            Kind::Nginx(manner) => {
                Front::Nginx(Nginx::start_in(manner, dir, &[("pool", format!("unix:{socket}"))]))
            }
            Kind::Lighttpd => {
                let config = dir.write("front/lighttpd.conf", &lighttpd(&folder, &socket));
                let words = ["/usr/sbin/lighttpd", "-D", "-f", config.to_str().unwrap()];
                Front::Other(Server::start(&words, &folder, Place::Unix(folder.join("http"))))
            }
            Kind::Apache(connections) => {
                let port = free_port();
                let config =
                    dir.write("front/apache.conf", &apache(&folder, &socket, port, &script, connections));
                let words = ["/usr/sbin/apache2", "-DFOREGROUND", "-f", config.to_str().unwrap()];
                Front::Other(Server::start(&words, &folder, Place::Port(port)))
            }
            Kind::Haproxy(connections) => {
                let config = dir.write("front/haproxy.cfg", &haproxy(&folder, &socket, &script, connections));
                let words = ["/usr/sbin/haproxy", "-db", "-f", config.to_str().unwrap()];
                Front::Other(Server::start(&words, &folder, Place::Unix(folder.join("http"))))
            }
        }
    }

    /// Asks for a path of the pool's; `Err` is curl's exit code or the HTTP status, and what it said.
    pub fn page(&self, path: &str, options: &[&str]) -> Result<Vec<u8>, String> {
        match self {
            Front::Nginx(nginx) => nginx.curl(&format!("/pool{path}"), options),
            Front::Other(server) => server.page(path, options),
        }
    }
}

/// Where a server listens.
enum Place {
    Unix(PathBuf),
    Port(u16),
}

/// A server that is no nginx.
pub struct Server {
    child: Child,
    place: Place,
}

impl Server {
    fn start(words: &[&str], folder: &Path, place: Place) -> Server {
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{}: {error}; run tests/setup.sh", words[0]));
        let mut server = Server { child, place };
        wait_until("the web server's socket", || {
            let ended = server.child.try_wait().unwrap();
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{}: {}", words[0], log());
            match &server.place {
                Place::Unix(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
                Place::Port(port) => std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok(),
            }
        });
        server
    }

    fn page(&self, path: &str, options: &[&str]) -> Result<Vec<u8>, String> {
        match &self.place {
            Place::Unix(socket) => web::curl(
                &["--unix-socket", socket.to_str().unwrap(), &format!("http://localhost{path}")],
                options,
            ),
            Place::Port(port) => web::curl(&[&format!("http://127.0.0.1:{port}{path}")], options),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        process::signal(i32::try_from(self.child.id()).unwrap(), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn lighttpd(folder: &Path, socket: &str) -> String {
    let (folder, scripts) = (folder.display(), workers::fixture("php"));
    format!(
        "server.modules = ( \"mod_rewrite\", \"mod_fastcgi\" )
        server.document-root = {scripts:?}
        server.bind = \"{folder}/http\"
        server.upload-dirs = ( \"{folder}\" )
        server.errorlog = \"{folder}/error.log\"
        url.rewrite-once = ( \"\" => \"/app.php\" )
        fastcgi.server = ( \"/app.php\" => (( \"socket\" => \"{socket}\" )) )\n"
    )
}

fn apache(folder: &Path, socket: &str, port: u16, script: &str, connections: Connections) -> String {
    let (folder, modules) = (folder.display(), "/usr/lib/apache2/modules");
    let names = ["mpm_event", "authz_core", "proxy", "proxy_fcgi"];
    let load: String =
        names.iter().map(|name| format!("LoadModule {name}_module {modules}/mod_{name}.so\n")).collect();
    let reuse = match connections {
        Connections::Closed => "off",
        Connections::Kept => "on",
    };
    // It refuses to serve as root.
    let user = if nix::unistd::geteuid().is_root() { "User www-data\nGroup www-data" } else { "" };
    format!(
        "ServerRoot {folder}
        PidFile {folder}/pid
        DefaultRuntimeDir {folder}
        Mutex file:{folder}
        ErrorLog {folder}/error.log
        ServerName localhost
        Listen 127.0.0.1:{port}
        {load}
        {user}
        ProxyPass / unix:{socket}|fcgi://localhost/ enablereuse={reuse}
        ProxyFCGISetEnvIf true SCRIPT_FILENAME {script}\n"
    )
}

fn haproxy(folder: &Path, socket: &str, script: &str, connections: Connections) -> String {
    let keep = match connections {
        Connections::Closed => "no option keep-conn",
        Connections::Kept => "option keep-conn",
    };
    format!(
        "defaults
            mode http
            timeout connect 10s
            timeout client 60s
            timeout server 60s
        frontend web
            bind unix@{}/http
            default_backend pool
        fcgi-app php
            docroot /
            {keep}
            set-param SCRIPT_FILENAME {script}
        backend pool
            use-fcgi-app php
            server pool unix@{socket} proto fcgi\n",
        folder.display()
    )
}
