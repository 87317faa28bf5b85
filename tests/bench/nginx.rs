//! The whole road: wrk, nginx, and behind it the gateway or php-fpm. Skipped with the reason where wrk or php-fpm is not
//! installed: the tests do not need them, so `tests/setup.sh` does not install them.

use std::path::Path;

use crate::fpm::{self, PhpFpm};
use crate::support::daemon::{Dispatch, Pool, Rig, run};
use crate::support::dir::Dir;
use crate::support::fronts::free_port;
use crate::support::web::{self, Manner, Nginx};
use crate::support::workers;
use crate::{ROUNDS, Wanted, median, say};

/// nginx in front of one upstream, on a port for wrk.
struct Site {
    /// Ended before its directory goes.
    _nginx: Nginx,
    _dir: Dir,
    port: u16,
}

impl Site {
    fn new(manner: Manner, socket: &Path) -> Site {
        let (dir, port) = (Dir::new(), free_port());
        let (folder, upstream) = (dir.join("nginx"), format!("unix:{}", socket.display()));
        let more = format!("listen 127.0.0.1:{port}; keepalive_requests 1000000;");
        let text = web::configuration(manner, &folder, &folder.join("http"), &more, &[("pool", upstream)]);
        // The shortest script there is, so that what is compared is not PHP.
        let text = text.replace("php/app.php", "php/hello.php");
        Site { _nginx: Nginx::start_with(&dir, &text), _dir: dir, port }
    }

    /// Requests a second by wrk.
    fn rate(&self) -> f64 {
        let url = format!("http://127.0.0.1:{}/pool/hello", self.port);
        let ran = run("wrk", &["-t1", "-c16", "-d1s", &url]);
        let line = ran.out.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        assert!(!ran.out.contains("Non-2xx"), "{}", ran.out);
        line.unwrap_or_else(|| panic!("{}{}", ran.out, ran.err)).trim().parse().unwrap()
    }
}

/// 4 workers of ours with kept connections; php-fpm with 4 and without, and with 16, each pinned by a kept connection.
pub fn against_php_fpm() {
    let Some(program) = fpm::program() else {
        return println!("skipped: nginx; php-fpm is not installed");
    };
    if !Path::new("/usr/bin/wrk").exists() || !nix::unistd::geteuid().is_root() {
        return println!("skipped: nginx; it needs wrk and root");
    }
    let pool = |name| Pool::new(name, &workers::php()).workers(4).dispatch(Dispatch::Gateway);
    let batch = pool("batch").key("scheduling_policy", "\"batch\"");
    let fpmd = Rig::new().pool(pool("www")).pool(batch).start();
    let ours = ["www", "batch"].map(|name| Site::new(Manner::Kept, &fpmd.socket(name)));
    let own = || ours.each_ref().map(Site::rate);
    for (what, number, manner, bound) in [
        ("nginx: PHP hello, gateway / php-fpm of 4", 4, Manner::Plain, 1.5),
        ("nginx: PHP hello, gateway / php-fpm of 16, all pinned", 16, Manner::Kept, 1.05),
    ] {
        let fpm = PhpFpm::start(program, number, "");
        let theirs = Site::new(manner, &fpm.socket());
        let mut ratios = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            let early = (round % 2 == 0).then(own);
            let other = theirs.rate();
            let own = early.unwrap_or_else(own);
            // The first round warms up.
            if round > 0 {
                ratios.iter_mut().zip(own).for_each(|(ratios, own)| ratios.push(own / other));
            }
        }
        let [usual, batch] = ratios.map(median);
        say(what, usual, 2, Wanted::AtLeast(bound));
        say("    with workers under batch", batch, 2, Wanted::AtLeast(bound));
    }
    drop(ours);
    fpmd.finish();
}
