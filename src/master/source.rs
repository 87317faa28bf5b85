//! Where the configuration comes from: a file, or a text made for `fpmd run` and `fpmd demo`.
//!
//! A text goes the same way as a file, so that both get the same checks, the same messages and the same reload.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the configuration comes from, at start and at each reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file, read again at each reload.
    File(PathBuf),
    /// A text of our own.
    Text {
        /// Stands for the file's name in messages: "command line".
        name: String,
        /// TOML.
        text: String,
    },
}

/// What `fpmd run` and `fpmd demo` turn into a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnePool<'a> {
    /// The pool's name.
    pub name: &'a str,
    /// Addresses as a configuration file writes them.
    pub listen: &'a [String],
    /// The argument vector; the program is an absolute path.
    pub command: &'a [String],
    /// How many workers.
    pub workers: u32,
    /// `gateway` or `direct`, if not the usual one.
    pub dispatch: Option<&'a str>,
    /// Run workers as this user.
    pub user: Option<&'a str>,
    /// Run workers as this group.
    pub group: Option<&'a str>,
    /// Variables for the workers.
    pub env: &'a [(String, String)],
    /// Where the control socket is, if not at its usual place.
    pub control_socket: Option<&'a Path>,
    /// The runtime directory, if not the usual one.
    pub runtime_dir: Option<&'a Path>,
}

impl Source {
    /// The configuration of one pool, under `name` in messages.
    pub fn one_pool(name: &str, pool: &OnePool<'_>) -> Source {
        Source::Text { name: name.to_owned(), text: one_pool_text(pool) }
    }

    /// What the status shows: the file's path, or nothing for a text.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::File(path) => Some(path),
            Source::Text { .. } => None,
        }
    }
}

fn one_pool_text(pool: &OnePool<'_>) -> String {
    let path = |path: Option<&Path>| path.map(|path| quoted(&path.to_string_lossy()));
    let name = quoted(pool.name);
    let mut text = String::from("[global]\n");
    push(&mut text, "control_socket", path(pool.control_socket));
    push(&mut text, "runtime_dir", path(pool.runtime_dir));
    let _ = writeln!(text, "\n[pool.{name}]");
    push(&mut text, "listen", Some(list(pool.listen)));
    push(&mut text, "command", Some(list(pool.command)));
    push(&mut text, "dispatch", pool.dispatch.map(quoted));
    push(&mut text, "user", pool.user.map(quoted));
    push(&mut text, "group", pool.group.map(quoted));
    let env: Vec<String> =
        pool.env.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
    push(&mut text, "env", Some(format!("{{ {} }}", env.join(", "))));
    let _ = writeln!(text, "\n[pool.{name}.pm]");
    push(&mut text, "mode", Some(quoted("static")));
    push(&mut text, "max_children", Some(pool.workers.to_string()));
    text
}

/// One `key = value` line, if there is a value. Writing to a String cannot fail.
fn push(text: &mut String, key: &str, value: Option<String>) {
    if let Some(value) = value {
        let _ = writeln!(text, "{key} = {value}");
    }
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::reload;

    #[test]
    fn a_mistake_on_the_command_line_has_no_line() {
        let (listen, command) = (["foo".to_owned()], ["/bin/sh".to_owned()]);
        let pool = OnePool {
            name: "main",
            listen: &listen,
            command: &command,
            workers: 1,
            dispatch: None,
            user: Some("root"),
            group: None,
            env: &[],
            control_socket: None,
            runtime_dir: None,
        };
        let errors = reload::load(&Source::one_pool("command line", &pool)).unwrap_err().to_string();
        let said = "command line: pool.main.listen: 'foo' is not an address";
        assert!(errors.lines().any(|line| line.starts_with(said)), "{errors}");
    }

    #[test]
    fn hostile_words_stay_inside_their_strings() {
        let command = ["/bin/x \"y\"\n[global]".to_owned(), "\\".to_owned()];
        let env = [("A=\"".to_owned(), "\u{1}\n'''".to_owned())];
        let listen = ["127.0.0.1:0".to_owned()];
        let pool = OnePool {
            name: "main",
            listen: &listen,
            command: &command,
            workers: 3,
            dispatch: None,
            user: None,
            group: None,
            env: &env,
            control_socket: None,
            runtime_dir: Some(Path::new("/run/a\"b")),
        };
        let table: toml::Table = one_pool_text(&pool).parse().unwrap();
        let main = &table["pool"]["main"];
        assert_eq!(main["command"][0].as_str(), Some(command[0].as_str()));
        assert_eq!(main["command"][1].as_str(), Some("\\"));
        assert_eq!(main["env"]["A=\""].as_str(), Some(env[0].1.as_str()));
        assert_eq!(main["pm"]["max_children"].as_integer(), Some(3));
        assert_eq!(table["global"]["runtime_dir"].as_str(), Some("/run/a\"b"));
        assert!(main.get("user").is_none());
    }
}
