//! Which files a pool's command is made of, so that a reload of what has changed notices a new program under the old name.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::model::Pool;
use crate::ids::PoolName;
use crate::os::aside;
use crate::sorted::SortedMap;

/// The files that the words of a command name, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program(Vec<Option<Identity>>);

/// What tells a file from another one, and from itself before it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    /// Of the file that a path leads to; `None` if there is none.
    pub fn of(path: &Path) -> Option<Identity> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Program {
    /// The program and every argument that names a file, seen from the workers' root and directory. `None` if that cannot
    /// be found out in time.
    pub fn of(pool: &Pool) -> Option<Program> {
        // A look at a file may hang on a network.
        aside::ask(|| Program::look(pool)).ok()
    }

    /// Those of many pools, by a single question. Pools of which it cannot be found out in time are missing.
    pub fn of_all(pools: &[&Pool]) -> SortedMap<PoolName, Program> {
        let named = |pool: &&Pool| (pool.name.clone(), Program::look(pool));
        let asked = aside::ask(|| pools.iter().map(named).collect());
        // Where one of them hangs the others are asked for without it.
        asked.unwrap_or_else(|_| {
            pools.iter().filter_map(|pool| Some((pool.name.clone(), Program::of(pool)?))).collect()
        })
    }

    fn look(pool: &Pool) -> Program {
        Program(pool.command.iter().map(|word| identity(pool, word)).collect())
    }
}

fn identity(pool: &Pool, word: &str) -> Option<Identity> {
    Identity::of(&place(pool, Path::new(word)))
}

/// Where the workers find a word, if it is a file.
fn place(pool: &Pool, word: &Path) -> PathBuf {
    let inside = pool.directory.as_deref().unwrap_or(Path::new("/")).join(word);
    match &pool.chroot {
        Some(root) => root.join(inside.strip_prefix("/").unwrap_or(&inside)),
        None => inside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::testing::pool;
    use crate::os::testing::TempDir;

    #[test]
    fn a_file_that_is_replaced_or_written_to_is_another_program() {
        let dir = TempDir::new();
        let script = dir.join("app.py");
        fs::write(&script, "one").unwrap();
        let of = |word: &str, directory: Option<PathBuf>, chroot: Option<PathBuf>| {
            let command = vec!["/bin/sh".to_owned(), word.to_owned(), "--option".to_owned()];
            Program(
                command
                    .iter()
                    .map(|word| {
                        identity(
                            &Pool {
                                command: command.clone(),
                                directory: directory.clone(),
                                chroot: chroot.clone(),
                                ..pool("www")
                            },
                            word,
                        )
                    })
                    .collect(),
            )
        };
        let absolute = || of(script.to_str().unwrap(), None, None);
        let before = absolute();
        assert_eq!(before, absolute());
        assert_eq!(before, of("app.py", Some(dir.path().to_owned()), None));
        assert_eq!(before.0[1], of("/app.py", None, Some(dir.path().to_owned())).0[1]);
        assert!(before.0[0].is_some() && before.0[2].is_none());
        fs::write(&script, "three").unwrap();
        assert_ne!(before, absolute());
        let written = absolute();
        fs::write(dir.join("new"), "three").unwrap();
        fs::rename(dir.join("new"), &script).unwrap();
        assert_ne!(written, absolute());
    }

    #[test]
    fn the_programs_of_many_pools_are_those_of_each() {
        let of = |name: &str, program: &str| Pool { command: vec![program.to_owned()], ..pool(name) };
        let pools = [of("a", "/bin/sh"), of("b", "/dev/null/x"), of("c", "/bin/cat")];
        let found = Program::of_all(&pools.each_ref());
        let each = |pool: &Pool| (pool.name.clone(), Program::of(pool).unwrap());
        assert_eq!(found, pools.iter().map(each).collect());
        assert!(found.values().map(|program| program.0[0].is_some()).eq([true, false, true]));
    }
}
