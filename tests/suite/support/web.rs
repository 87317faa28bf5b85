//! nginx in front of pools, and curl in front of nginx. nginx listens on a Unix socket, so that no port is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::dir::Dir;
use super::{process, wait_until, workers};

/// How nginx speaks to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A connection a request, as nginx does by itself.
    Plain,
    /// Kept connections.
    Kept,
    /// A connection a request, which is passed on while it comes in.
    Unbuffered,
}

/// A running nginx, ended on drop.
pub struct Nginx {
    child: Child,
    socket: PathBuf,
}

impl Nginx {
    /// One server that passes every request on: `/NAME/rest` to the pool behind `upstream`, as `/rest`.
    /// A pool that is called like a kind of worker gets the script for that.
    /// `upstreams`: name and address in nginx's words, `unix:/path` or `127.0.0.1:9000`.
    pub fn start(dir: &Dir, upstreams: &[(&str, String)]) -> Nginx {
        Nginx::start_in(Manner::Plain, dir, upstreams)
    }

    /// As `start`.
    pub fn start_in(manner: Manner, dir: &Dir, upstreams: &[(&str, String)]) -> Nginx {
        let folder = dir.join("nginx");
        Nginx::start_with(dir, &configuration(manner, &folder, &folder.join("http"), "", upstreams))
    }

    /// As a configuration says that was made for `dir`.
    pub fn start_with(dir: &Dir, text: &str) -> Nginx {
        let (folder, socket) = (dir.join("nginx"), dir.join("nginx/http"));
        fs::create_dir_all(&folder).unwrap();
        let config = dir.write("nginx/nginx.conf", text);
        let child = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(config)
            .arg("-e")
            .arg(folder.join("error.log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx; tests/setup.sh installs it");
        let mut nginx = Nginx { child, socket };
        wait_until("nginx's socket", || {
            let ended = nginx.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "nginx: {}",
                fs::read_to_string(folder.join("error.log")).unwrap_or_default()
            );
            std::os::unix::net::UnixStream::connect(&nginx.socket).is_ok()
        });
        nginx
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs curl on a path; `Err` is its exit code or the HTTP status, and what it said.
    pub fn curl(&self, path: &str, options: &[&str]) -> Result<Vec<u8>, String> {
        curl(&["--unix-socket", self.socket.to_str().unwrap(), &format!("http://localhost{path}")], options)
    }

    /// curl's answer as text.
    pub fn page(&self, path: &str, options: &[&str]) -> Result<String, String> {
        self.curl(path, options).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Runs curl, quietly, failing on any status from 400 on.
pub fn curl(target: &[&str], options: &[&str]) -> Result<Vec<u8>, String> {
    let fixed = ["--silent", "--show-error", "--fail", "--max-time", "60"];
    let output = Command::new("curl").args(fixed).args(options).args(target).stdin(Stdio::null()).output();
    let output = output.expect("curl; tests/setup.sh installs it");
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        process::signal(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// `more`: lines for the server, such as another `listen`.
pub fn configuration(
    manner: Manner,
    folder: &Path,
    socket: &Path,
    more: &str,
    upstreams: &[(&str, String)],
) -> String {
    let folder = folder.display();
    // Started by root, nginx would give its workers to nobody, who may not open the pools' sockets.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let manner_of_passing = match manner {
        Manner::Plain => "",
        Manner::Kept => "fastcgi_keep_conn on;",
        Manner::Unbuffered => "fastcgi_request_buffering off; fastcgi_buffering off;",
    };
    let upstream =
        |(name, address): &(&str, String)| format!("upstream {name} {{ server {address}; keepalive 16; }}\n");
    let location = |(name, _): &(&str, String)| {
        format!(
            "location ~ ^/{name}(?<rest>/.*)$ {{
                fastcgi_pass {name}; {manner_of_passing}
                fastcgi_param SCRIPT_FILENAME {};
                fastcgi_param REQUEST_URI $rest;
                fastcgi_param PATH_INFO $rest;
                fastcgi_param SCRIPT_NAME \"\";
                fastcgi_param REQUEST_METHOD $request_method;
                fastcgi_param QUERY_STRING $query_string;
                fastcgi_param CONTENT_TYPE $content_type;
                fastcgi_param CONTENT_LENGTH $content_length;
                fastcgi_param SERVER_PROTOCOL $server_protocol;
                fastcgi_param SERVER_NAME localhost;
                fastcgi_param SERVER_PORT 80;
                fastcgi_param REMOTE_ADDR 127.0.0.1;
            }}\n",
            workers::script_of(name).display()
        )
    };
    let named: String = upstreams.iter().map(upstream).collect();
    let locations: String = upstreams.iter().map(location).collect();
    format!(
        "{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; client_max_body_size 64m;
            client_body_temp_path {folder}/body; fastcgi_temp_path {folder}/fastcgi; proxy_temp_path {folder}/proxy;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            {named}
            server {{ listen unix:{}; {more} {locations} }}
        }}\n",
        socket.display()
    )
}
