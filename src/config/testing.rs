//! A machine for tests, made of maps: files, users, programs. Nothing of the real one is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::host::{Host, ReadError, Unusable};
use super::listen::normal;
use super::model::{Group, User};
use crate::ids::{Gid, Uid};

/// A machine with the users root (0), www-data (33), joe (1000) and nobody (65534), the groups root, www-data (33), adm (4) and video (44),
/// the programs /usr/bin/php-cgi and /usr/bin/app, and the directories /, /run, /srv, /var/log and /var/tmp.
#[derive(Debug, Clone)]
pub struct FakeHost {
    /// Texts of files.
    pub files: BTreeMap<PathBuf, Result<String, ReadError>>,
    /// Directories.
    pub directories: BTreeSet<PathBuf>,
    /// Programs, seen from outside any root.
    pub programs: BTreeMap<PathBuf, Result<(), Unusable>>,
    /// Who we are.
    pub uid: u32,
}

impl FakeHost {
    /// The machine as seen by root.
    pub fn root() -> FakeHost {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        FakeHost {
            files: BTreeMap::new(),
            directories: paths(&["/", "/run", "/srv", "/srv/www", "/var/log", "/var/tmp", "/etc/fpmd"]),
            programs: ["/usr/bin/php-cgi", "/usr/bin/app", "/srv/bin/app"]
                .map(|path| (PathBuf::from(path), Ok(())))
                .into(),
            uid: 0,
        }
    }

    /// The machine as seen by user 1000, who has a name: joe.
    pub fn joe() -> FakeHost {
        FakeHost { uid: 1000, ..FakeHost::root() }
    }

    /// Adds a file.
    pub fn with_file(mut self, path: &str, text: &str) -> FakeHost {
        self.files.insert(PathBuf::from(path), Ok(text.to_owned()));
        self
    }

    /// Adds a path that cannot be read.
    pub fn with_unreadable(mut self, path: &str, cause: ReadError) -> FakeHost {
        self.files.insert(PathBuf::from(path), Err(cause));
        self
    }
}

fn inside(root: Option<&Path>, path: &Path) -> PathBuf {
    normal(&root.map_or(path.to_owned(), |root| root.join(path.strip_prefix("/").unwrap_or(path))))
}

impl Host for FakeHost {
    fn read(&self, path: &Path) -> Result<String, ReadError> {
        self.files.get(path).cloned().unwrap_or(Err(ReadError::NotFound))
    }

    fn entries(&self, directory: &Path) -> Result<Vec<String>, ReadError> {
        if let Some(Err(cause)) = self.files.get(directory) {
            return Err(cause.clone());
        }
        let inside = self.files.keys().filter(|path| path.parent() == Some(directory));
        let names: Vec<String> = inside
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        if names.is_empty() { Err(ReadError::NotFound) } else { Ok(names.into_iter().rev().collect()) }
    }

    fn user(&self, name: &str) -> Result<Option<User>, String> {
        const USERS: [(&str, u32); 4] = [("root", 0), ("www-data", 33), ("joe", 1000), ("nobody", 65_534)];
        let number = name.parse::<u32>().ok();
        let known = USERS.iter().find(|(known, uid)| *known == name || Some(*uid) == number);
        Ok(match (known, number) {
            (Some((name, uid)), _) => Some(User {
                name: (*name).to_owned(),
                uid: Uid(*uid),
                gid: Some(Gid(*uid)),
                home: Some(PathBuf::from("/srv")),
            }),
            (None, Some(uid)) => Some(User { name: name.to_owned(), uid: Uid(uid), gid: None, home: None }),
            (None, None) => None,
        })
    }

    fn group(&self, name: &str) -> Result<Option<Group>, String> {
        const GROUPS: [(&str, u32); 5] =
            [("root", 0), ("adm", 4), ("www-data", 33), ("video", 44), ("joe", 1000)];
        if name == "broken" {
            return Err("cannot look up group 'broken': Input/output error".to_owned());
        }
        let number = name.parse::<u32>().ok();
        let known = GROUPS.iter().find(|(known, gid)| *known == name || Some(*gid) == number);
        Ok(match (known, number) {
            (Some((name, gid)), _) => Some(Group { name: (*name).to_owned(), gid: Gid(*gid) }),
            (None, Some(gid)) => Some(Group { name: name.to_owned(), gid: Gid(gid) }),
            (None, None) => None,
        })
    }

    fn executable(&self, root: Option<&Path>, program: &Path) -> Result<(), Unusable> {
        self.programs.get(&inside(root, program)).cloned().unwrap_or(Err(Unusable::NotFound))
    }

    fn is_directory(&self, root: Option<&Path>, path: &Path) -> bool {
        self.directories.contains(&inside(root, path))
    }

    fn uid(&self) -> Uid {
        Uid(self.uid)
    }

    fn default_runtime_dir(&self) -> PathBuf {
        PathBuf::from(if self.uid == 0 { "/run/fpmd" } else { "/run/user/1000/fpmd" })
    }
}
