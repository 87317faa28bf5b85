//! Which php-fpm a configuration belongs to, by where its files are: its prefix, its php-cgi, its php.ini. Knows the layouts of
//! Debian and Ubuntu, Alpine, Remi's packages, cPanel, Plesk, MacPorts, Homebrew and whatever has a PREFIX/etc.

use std::path::{Path, PathBuf};

use super::super::host::Host;

/// What has to be known of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flavour {
    /// Where relative paths of pools and of `include` start.
    pub prefix: PathBuf,
    /// Where relative paths of `pid` and `error_log` start.
    pub state: PathBuf,
    /// Where php-cgi may be, the likeliest first.
    commands: Vec<PathBuf>,
    /// php.ini and the directory of further files, where php-fpm has its own.
    pub ini: Option<(PathBuf, PathBuf)>,
}

impl Flavour {
    /// `file` is absolute.
    pub(super) fn of(file: &Path, prefix: Option<&Path>) -> Flavour {
        let text = file.to_string_lossy();
        let (before, below) = text.split_once("/etc/").unwrap_or(("", ""));
        let guess = if before.is_empty() { Path::new("/usr") } else { Path::new(before) };
        let prefix = prefix.unwrap_or(guess).to_owned();
        let state = if prefix == Path::new("/usr") { "/var".into() } else { prefix.join("var") };
        let mut flavour = Flavour { commands: Vec::new(), ini: None, state, prefix };
        let version = |text: &str| {
            let text = text.split('/').next().unwrap_or_default();
            (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
                .then(|| text.to_owned())
        };
        let mut guess = |path: String| flavour.commands.push(path.into());
        if let Some(version) = below.strip_prefix("php/").and_then(version) {
            guess(format!("/usr/bin/php-cgi{version}"));
            if below.starts_with(&format!("php/{version}/fpm/")) {
                let own = format!("/etc/php/{version}/fpm");
                flavour.ini = Some((format!("{own}/php.ini").into(), format!("{own}/conf.d").into()));
            }
        } else if let Some(version) = below.strip_prefix("opt/remi/php").and_then(version) {
            guess(format!("/opt/remi/php{version}/root/usr/bin/php-cgi"));
        } else if let Some(version) = below.strip_prefix("php").and_then(version) {
            guess(format!("{}/bin/php-cgi{version}", flavour.prefix.display()));
        }
        // cPanel's PREFIX/etc is beside PREFIX/usr.
        flavour.commands.push(flavour.prefix.join("bin/php-cgi"));
        if flavour.prefix.ends_with("root") {
            flavour.commands.insert(0, flavour.prefix.join("usr/bin/php-cgi"));
        }
        flavour.commands.push("/usr/bin/php-cgi".into());
        flavour
    }

    /// The first that is there; `/usr/bin/php-cgi` where none is.
    pub(super) fn command(&self, host: &dyn Host) -> String {
        let there = |command: &&PathBuf| host.executable(None, command).is_ok();
        let command = self.commands.iter().find(there).or(self.commands.last());
        command.map_or_else(String::new, |command| command.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_places_are_known() {
        for (file, prefix, state, command) in [
            ("/etc/php/8.2/fpm/pool.d/www.conf", "/usr", "/var", "/usr/bin/php-cgi8.2"),
            ("/etc/php83/php-fpm.d/www.conf", "/usr", "/var", "/usr/bin/php-cgi83"),
            ("/etc/php-fpm.d/www.conf", "/usr", "/var", "/usr/bin/php-cgi"),
            ("/usr/local/etc/php-fpm.conf", "/usr/local", "/usr/local/var", "/usr/local/bin/php-cgi"),
            ("/opt/local/etc/php82/php-fpm.conf", "/opt/local", "/opt/local/var", "/opt/local/bin/php-cgi82"),
            (
                "/opt/plesk/php/8.2/etc/php-fpm.conf",
                "/opt/plesk/php/8.2",
                "/opt/plesk/php/8.2/var",
                "/opt/plesk/php/8.2/bin/php-cgi",
            ),
            (
                "/opt/cpanel/ea-php82/root/etc/php-fpm.d/a.conf",
                "/opt/cpanel/ea-php82/root",
                "/opt/cpanel/ea-php82/root/var",
                "/opt/cpanel/ea-php82/root/usr/bin/php-cgi",
            ),
            (
                "/etc/opt/remi/php82/php-fpm.d/www.conf",
                "/usr",
                "/var",
                "/opt/remi/php82/root/usr/bin/php-cgi",
            ),
            ("/srv/www.conf", "/usr", "/var", "/usr/bin/php-cgi"),
        ] {
            let flavour = Flavour::of(Path::new(file), None);
            let found = (flavour.prefix.to_str(), flavour.state.to_str(), flavour.commands[0].to_str());
            assert_eq!(found, (Some(prefix), Some(state), Some(command)), "{file}");
        }
        let chosen = Flavour::of(Path::new("/srv/www.conf"), Some(Path::new("/opt/php")));
        assert_eq!((chosen.prefix, chosen.state), ("/opt/php".into(), "/opt/php/var".into()));
    }
}
