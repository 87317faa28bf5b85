//! fpmd-recipes(7) as it is written: every file of the page is made, every line behind a `$` is run, and prints what the page
//! says. One thing stands for the machine: the test's directory is put before /etc, /run and /srv, and its ports become
//! free ones. What the page installs from the net (lines without `$`) is what tests/setup.sh has installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::daemon::{Fpmd, Rig, fpmctl};
use crate::support::fronts::free_port;
use crate::support::{as_root, process, wait_until, workers};

/// What the test's directory is put before.
const TREES: [&str; 3] = ["/etc/", "/run/", "/srv/"];

/// Lines that the test has done in its own way: packages from the net, and the compiler.
const PREPARED: [&str; 4] = ["python3 -m venv ", "/venv/bin/pip install ", "npm install ", "go build "];

/// A piece of the page.
#[derive(Debug)]
enum Piece {
    /// A new section: what the one before it started is ended.
    Section,
    File(String, String),
    /// A command and what it prints.
    Command(String, String),
    /// Lines without `$`.
    Shown(String),
}

fn pieces() -> Vec<Piece> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/fpmd-recipes.7");
    let page = fs::read_to_string(page).unwrap();
    let mut pieces = Vec::new();
    let mut path = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with(".Sh ") || line.starts_with(".Ss ") {
            pieces.push(Piece::Section);
        } else if line.starts_with(".Bd -literal") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != ".Ed").collect();
            let block = block.join("\n").replace("\\e", "\\") + "\n";
            match path.take() {
                Some(path) => pieces.push(Piece::File(path, block)),
                None if block.starts_with("$ ") => commands(&block, &mut pieces),
                None => pieces.push(Piece::Shown(block)),
            }
        } else {
            path = line.strip_prefix(".Pa /").map(|path| format!("/{path}"));
        }
    }
    pieces
}

fn commands(block: &str, pieces: &mut Vec<Piece>) {
    for part in format!("\n{block}").split("\n$ ").skip(1) {
        // A line that ends in a backslash or a pipe goes on.
        let mut end = 0;
        for line in part.split_inclusive('\n') {
            end += line.len();
            if !line.trim_end().ends_with(['\\', '|']) {
                break;
            }
        }
        let (command, printed) = part.split_at(end);
        let printed = if printed.is_empty() || printed.ends_with('\n') {
            printed.into()
        } else {
            format!("{printed}\n")
        };
        pieces.push(Piece::Command(command.to_owned(), printed));
    }
}

/// The machine of the page.
struct Scene {
    fpmd: Fpmd,
    ports: BTreeMap<&'static str, String>,
    front: Option<Front>,
    /// Pools have been written that fpmd does not know.
    stale: bool,
}

/// A web server, ended on drop.
struct Front(Child);

impl Drop for Front {
    fn drop(&mut self) {
        process::signal(i32::try_from(self.0.id()).unwrap(), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Scene {
    fn new() -> Scene {
        let rig = Rig::new()
            .arguments(&["--config", "{dir}/etc/fpmd/fpmd.toml"])
            .expect("after SIGTERM")
            .expect("pure ruby");
        let dir = rig.dir.path().display().to_string();
        let main = format!(
            "[global]\ninclude = [\"pool.d/*.toml\"]\nruntime_dir = \"{dir}/run/fpmd\"\nprocess_control_timeout = \"1s\"\n"
        );
        rig.dir.write("etc/fpmd/fpmd.toml", &main);
        fs::create_dir_all(rig.dir.join("etc/fpmd/pool.d")).unwrap();
        fs::create_dir_all(rig.dir.join("run/php")).unwrap();
        // Programs with the paths of this machine as their defaults.
        let fpmctl = env!("CARGO_BIN_EXE_fpmctl");
        rig.dir.program(
            "bin/fpmctl",
            &format!("#!/bin/sh\n[ \"$*\" = check ] && set -- check {dir}/etc/fpmd/fpmd.toml\nexec {fpmctl} --socket {dir}/run/fpmd/fpmd.sock \"$@\"\n"),
        );
        rig.dir.program(
            "bin/systemctl",
            "#!/bin/sh\ncase \"$*\" in\n'reload fpmd') exec fpmctl reload >/dev/null ;;\n'disable --now php8.2-fpm') ;;\n*) exit 1 ;;\nesac\n",
        );
        install(&rig);
        let ports = ["8080", "8081", "8001"].map(|port| (port, free_port().to_string())).into();
        Scene { fpmd: rig.start(), ports, front: None, stale: false }
    }

    /// The page's text on this machine.
    fn here(&self, text: &str) -> String {
        let dir = self.fpmd.rig.dir.path().to_str().unwrap();
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let joined = out.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
            if !joined && TREES.iter().any(|tree| rest.starts_with(tree)) {
                out.push_str(dir);
            }
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
        self.ports.iter().fold(out, |text, (port, free)| {
            text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"))
        })
    }

    fn write(&mut self, path: &str, text: &str) {
        let text = self.here(text);
        let dir = &self.fpmd.rig.dir;
        dir.write(&path[1..], &text);
        self.stale |= path.starts_with("/etc/fpmd/");
        if let Some(words) = front(path, dir.path(), &self.ports["8080"]) {
            self.front = None;
            let log = fs::File::options().create(true).append(true).open(dir.join("front.log")).unwrap();
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            command
                .env("HOME", dir.path())
                .env("XDG_DATA_HOME", dir.path())
                .env("XDG_CONFIG_HOME", dir.path());
            let child = command.spawn();
            let mut child = child.unwrap_or_else(|error| panic!("{}: {error}; run tests/setup.sh", words[0]));
            let port: u16 = self.ports["8080"].parse().unwrap();
            wait_until(&format!("the server of {path}"), || {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "{path}: {}", fs::read_to_string(dir.join("front.log")).unwrap());
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            self.front = Some(Front(child));
        }
    }

    fn run(&mut self, line: &str, printed: &str) {
        let asks = !line.contains("import") && !line.contains("systemctl");
        if std::mem::take(&mut self.stale) && asks && !line.contains("reload") {
            let control = self.fpmd.rig.dir.join("run/fpmd/fpmd.sock");
            let ran = fpmctl(&["--socket", control.to_str().unwrap(), "reload", "--changed"]);
            assert_eq!(ran.code, Some(0), "{}", ran.err);
        }
        let dir = &self.fpmd.rig.dir;
        let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.arg("-c").arg(self.here(line)).env("PATH", path).stdin(Stdio::null());
        let output = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line}: {out}{err}\n{}", self.fpmd.log());
        assert_eq!(out, self.here(printed), "{line}: {err}");
        self.stale |= line.contains("import");
    }
}

/// What the page has from the net.
fn install(rig: &Rig) {
    let copy = |from: &Path, to: &str| {
        let to = rig.dir.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-a").arg(from).arg(&to).status().unwrap();
        assert!(copied.success(), "{} is missing; run tests/setup.sh", from.display());
    };
    copy(&workers::target().join("test-python"), "python");
    for name in ["flask", "django", "asgi", "wsgi"] {
        fs::create_dir_all(rig.dir.join(&format!("srv/{name}"))).unwrap();
        std::os::unix::fs::symlink("../../python", rig.dir.join(&format!("srv/{name}/venv"))).unwrap();
    }
    copy(&workers::target().join("test-node/node_modules"), "srv/node/node_modules");
    copy(&workers::target().join("test-go/recipe"), "srv/go/app");
    copy(Path::new("/etc/nginx/fastcgi_params"), "etc/nginx/fastcgi_params");
}

/// The server that a file of the page configures, as a command; what its package adds to that file is written here.
fn front(path: &str, dir: &Path, port: &str) -> Option<Vec<String>> {
    let shown = dir.display();
    let whole = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let folder = path.split('/').nth(2).unwrap_or_default();
    let words = match folder {
        "nginx" => {
            let temporary: String = ["client_body", "fastcgi", "proxy", "uwsgi", "scgi"]
                .iter()
                .map(|name| format!("{name}_temp_path {shown}/nginx-{name};\n"))
                .collect();
            let config = whole(
                "etc/nginx/nginx.conf",
                format!(
                    "user www-data; daemon off; worker_processes 1; pid {shown}/nginx.pid;\nevents {{ }}\n\
                 http {{ access_log off; error_log {shown}/front.log;\n{temporary}include sites-enabled/*; }}\n"
                ),
            );
            vec!["/usr/sbin/nginx".into(), "-c".into(), config, "-e".into(), format!("{shown}/front.log")]
        }
        "apache2" => {
            let modules = ["mpm_event", "authz_core", "proxy", "proxy_fcgi"];
            let modules: String = modules
                .iter()
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .collect();
            let config = whole(
                "etc/apache2/apache2.conf",
                format!(
                    "ServerRoot {shown}/etc/apache2\nPidFile {shown}/apache.pid\nDefaultRuntimeDir {shown}\nMutex file:{shown}\n\
                 ErrorLog {shown}/front.log\nServerName localhost\nUser www-data\nGroup www-data\n{modules}\
                 IncludeOptional sites-enabled/*.conf\n"
                ),
            );
            vec!["/usr/sbin/apache2".into(), "-DFOREGROUND".into(), "-f".into(), config]
        }
        "lighttpd" => {
            let text = fs::read_to_string(dir.join(&path[1..])).unwrap();
            let config = whole(
                "etc/lighttpd/lighttpd.conf",
                format!(
                    "server.modules = ( )\nserver.document-root = \"{shown}/srv/www\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
                 server.username = \"www-data\"\nserver.groupname = \"www-data\"\n{text}"
                ),
            );
            vec!["/usr/sbin/lighttpd".into(), "-D".into(), "-f".into(), config]
        }
        "caddy" => {
            let config = whole(
                "etc/caddy/whole",
                format!("{{\n    admin off\n}}\nimport {shown}/etc/caddy/Caddyfile\n"),
            );
            vec![
                "/usr/bin/caddy".into(),
                "run".into(),
                "--adapter".into(),
                "caddyfile".into(),
                "--config".into(),
                config,
            ]
        }
        "haproxy" => {
            let config = whole(
                "etc/haproxy/defaults",
                "defaults\ntimeout connect 10s\ntimeout client 30s\ntimeout server 30s\n".into(),
            );
            vec![
                "/usr/sbin/haproxy".into(),
                "-db".into(),
                "-f".into(),
                config,
                "-f".into(),
                format!("{shown}{path}"),
            ]
        }
        _ => return None,
    };
    Some(words)
}

#[test]
fn the_recipes_work_as_they_are_written() {
    if !as_root("the recipes, whose pools run as www-data,") {
        return;
    }
    let mut scene = Scene::new();
    let (mut files, mut commands) = (0, 0);
    for piece in pieces() {
        match piece {
            Piece::Section => scene.front = None,
            Piece::File(path, text) => {
                scene.write(&path, &text);
                files += 1;
            }
            Piece::Command(line, printed) => {
                scene.run(&line, &printed);
                commands += 1;
            }
            Piece::Shown(block) => {
                for line in block.lines() {
                    let prepared =
                        PREPARED.iter().any(|start| line.contains(start)) || line.starts_with("fpmctl ");
                    assert!(prepared, "the page shows '{line}', which nothing tests");
                }
            }
        }
    }
    assert!(files > 25 && commands > 20, "{files} files, {commands} commands");
    let recipe = workers::fixture("go/recipe.go");
    let shown = scene.fpmd.rig.dir.join("srv/go/app.go");
    assert_eq!(
        fs::read_to_string(shown).unwrap(),
        fs::read_to_string(recipe).unwrap(),
        "the program that was built"
    );
    let Scene { mut fpmd, front, .. } = scene;
    drop(front);
    fpmd.descriptors_may_change();
    fpmd.finish();
}
