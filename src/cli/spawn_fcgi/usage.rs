//! What `-v` and `-h` print: the line that scripts look for, and every option that there is.
//! The table of options is held against the grammar of `args` and against the man page.

use std::fmt::Write;

/// The first line of `-v`, byte for byte the one of Debian's 1.6.4 with IPv6.
pub const COMPATIBLE_VERSION: &str = "spawn-fcgi v1.6.4 (ipv6) - spawns FastCGI processes";

/// Who may use an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// Everybody.
    All,
    /// Root; the option is ignored for others, without a word.
    Root,
}

/// One line of the usage.
#[derive(Debug, Clone, Copy)]
pub struct OptionLine {
    /// The option as it is typed.
    pub flag: &'static str,
    /// The name of its argument, empty if it has none.
    pub argument: &'static str,
    /// Who may use it.
    pub users: Users,
    /// What it does, in one line.
    pub meaning: &'static str,
}

const fn all(flag: &'static str, argument: &'static str, meaning: &'static str) -> OptionLine {
    OptionLine { flag, argument, users: Users::All, meaning }
}

const fn root(flag: &'static str, argument: &'static str, meaning: &'static str) -> OptionLine {
    OptionLine { flag, argument, users: Users::Root, meaning }
}

/// Every option, in the original's order, ours behind them.
pub const OPTIONS: &[OptionLine] = &[
    all("-f", "<path>", "application, run by /bin/sh (deprecated; not used if <fcgiapp> is given)"),
    all("-d", "<directory>", "working directory of the application"),
    all("-a", "<address>", "IPv4 or IPv6 address to listen on (0.0.0.0)"),
    all("-p", "<port>", "TCP port to listen on"),
    all("-s", "<path>", "Unix socket to listen on"),
    all("-M", "<mode>", "permissions of the Unix socket, octal (0660 without what the umask takes away)"),
    all("-C", "<children>", "PHP_FCGI_CHILDREN in the application's environment (left as it is)"),
    all("-F", "<children>", "number of processes (1)"),
    all("-b", "<backlog>", "length of the socket's queue (1024)"),
    all("-P", "<path>", "file for the process ids (not with -n)"),
    all("-n", "", "become the application instead of starting it in the background"),
    all("-v", "", "print the version"),
    all("-?, -h", "", "print this text"),
    root("-c", "<directory>", "change the root directory"),
    root("-S", "", "make the socket before changing the root directory"),
    root("-u", "<user>", "user of the application"),
    root("-g", "<group>", "group of the application (primary group of -u)"),
    root("-U", "<user>", "owner of the Unix socket (-u)"),
    root("-G", "<group>", "group of the Unix socket (primary group of -U, else -g)"),
    all("--supervise", "", "stay, and keep the application running as a pool of fpmd"),
];

/// The text of `-v`.
pub fn version() -> String {
    format!("{COMPATIBLE_VERSION}\nThis is the spawn-fcgi of fpmd {}.\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `-h`, of no arguments at all, and behind the message of an option that does not exist.
pub fn usage() -> String {
    let mut text = format!(
        "Usage: spawn-fcgi [options] [-- <fcgiapp> [fcgi app arguments]]\n\n{}\nOptions:\n",
        version()
    );
    push_options(&mut text, Users::All);
    text.push_str("(root only)\n");
    push_options(&mut text, Users::Root);
    text
}

fn push_options(text: &mut String, users: Users) {
    for option in OPTIONS.iter().filter(|option| option.users == users) {
        let left = format!("{} {}", option.flag, option.argument);
        // Writing to a String cannot fail.
        let _ = writeln!(text, " {left:<14} {}", option.meaning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_line_as_in_the_original() {
        let text = usage();
        for option in OPTIONS {
            let line = format!(" {} {}", option.flag, option.argument);
            assert!(text.lines().any(|l| l.starts_with(line.trim_end())), "{line}");
        }
        assert!(text.starts_with(
            "Usage: spawn-fcgi [options] [-- <fcgiapp> [fcgi app arguments]]\n\nspawn-fcgi v1.6.4"
        ));
    }

    #[test]
    fn the_first_line_of_the_version_is_what_scripts_match() {
        assert_eq!(version().lines().next(), Some(COMPATIBLE_VERSION));
    }
}
