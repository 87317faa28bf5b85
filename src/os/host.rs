//! The machine for `config`: files, users and programs as they are. Looks, and changes nothing. path_resolution(7).

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::host::{Host, ReadError, Unusable};
use crate::config::model::{Group, User};
use crate::ids::Uid;
use crate::os::aside;
use crate::os::errno::Cause;
use crate::os::users::{self, UserError};
use crate::sorted::SortedMap;
use crate::wire::place;

/// More than any configuration has; a device or a log file given by mistake ends here.
const LONGEST_FILE: u64 = 4 << 20;

/// As many symbolic links as the kernel follows, path_resolution(7).
const MOST_LINKS: usize = 40;

/// The machine that we are on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

/// The machine for a program that stays: what the user database loads and waits for is a short-lived child's, see `aside`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Resident {
    users: Answers<User>,
    groups: Answers<Group>,
}

/// What the user database said, by name.
type Answers<T> = RefCell<SortedMap<String, Result<Option<T>, String>>>;

impl Resident {
    /// One that knows already what `load` will ask: a child runs it once and brings the answers, all in one go.
    pub fn prepared(load: impl FnOnce(&dyn Host)) -> Resident {
        let asked = aside::ask(|| {
            let recorder = Recorder::default();
            load(&recorder);
            (recorder.0.users, recorder.0.groups)
        });
        // What is missing then is asked one by one, and fails there for the same reason.
        asked.map_or_else(|_| Resident::default(), |(users, groups)| Resident { users, groups })
    }

    fn user_of(
        &self,
        name: &str,
        ask: impl FnOnce() -> Result<Option<User>, String>,
    ) -> Result<Option<User>, String> {
        self.users.borrow_mut().or_insert_with(name.to_owned(), ask).clone()
    }

    fn group_of(
        &self,
        name: &str,
        ask: impl FnOnce() -> Result<Option<Group>, String>,
    ) -> Result<Option<Group>, String> {
        self.groups.borrow_mut().or_insert_with(name.to_owned(), ask).clone()
    }
}

/// A machine on which a configuration was checked before: what the user database said then, and no doubt about programs
/// and directories.
#[derive(Debug)]
pub struct Remembered(pub Resident);

impl Host for Remembered {
    fn read(&self, path: &Path) -> Result<String, ReadError> {
        Machine.read(path)
    }

    fn entries(&self, directory: &Path) -> Result<Vec<String>, ReadError> {
        Machine.entries(directory)
    }

    fn user(&self, name: &str) -> Result<Option<User>, String> {
        self.0.user(name)
    }

    fn group(&self, name: &str) -> Result<Option<Group>, String> {
        self.0.group(name)
    }

    fn executable(&self, _root: Option<&Path>, _program: &Path) -> Result<(), Unusable> {
        Ok(())
    }

    fn is_directory(&self, _root: Option<&Path>, _path: &Path) -> bool {
        true
    }

    fn uid(&self) -> Uid {
        Machine.uid()
    }

    fn default_runtime_dir(&self) -> PathBuf {
        Machine.default_runtime_dir()
    }
}

/// Asks the database itself and notes the answers.
#[derive(Debug, Default)]
struct Recorder(Resident);

macro_rules! looks_like_the_machine {
    () => {
        fn read(&self, path: &Path) -> Result<String, ReadError> {
            Machine.read(path)
        }

        fn entries(&self, directory: &Path) -> Result<Vec<String>, ReadError> {
            Machine.entries(directory)
        }

        fn executable(&self, root: Option<&Path>, program: &Path) -> Result<(), Unusable> {
            Machine.executable(root, program)
        }

        fn is_directory(&self, root: Option<&Path>, path: &Path) -> bool {
            Machine.is_directory(root, path)
        }

        fn uid(&self) -> Uid {
            Machine.uid()
        }

        fn default_runtime_dir(&self) -> PathBuf {
            Machine.default_runtime_dir()
        }
    };
}

impl Host for Recorder {
    looks_like_the_machine!();

    fn user(&self, name: &str) -> Result<Option<User>, String> {
        self.0.user_of(name, || Machine.user(name))
    }

    fn group(&self, name: &str) -> Result<Option<Group>, String> {
        self.0.group_of(name, || Machine.group(name))
    }
}

impl Host for Resident {
    looks_like_the_machine!();

    fn user(&self, name: &str) -> Result<Option<User>, String> {
        let aside = || aside::ask(|| Machine.user(name)).unwrap_or_else(|error| Err(error.to_string()));
        self.user_of(name, aside)
    }

    fn group(&self, name: &str) -> Result<Option<Group>, String> {
        let aside = || aside::ask(|| Machine.group(name)).unwrap_or_else(|error| Err(error.to_string()));
        self.group_of(name, aside)
    }
}

impl Host for Machine {
    fn read(&self, path: &Path) -> Result<String, ReadError> {
        let metadata = fs::metadata(path).map_err(read_error)?;
        if metadata.is_dir() {
            return Err(ReadError::IsDirectory);
        }
        // Opening a FIFO would wait for a writer for ever.
        if !metadata.is_file() && !same_as_null(&metadata) {
            return Err(ReadError::Other("not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
            .map_err(read_error)?;
        if bytes.len() as u64 > LONGEST_FILE {
            return Err(ReadError::TooLong(LONGEST_FILE));
        }
        String::from_utf8(bytes).map_err(|error| ReadError::NotUtf8(error.utf8_error().valid_up_to()))
    }

    fn entries(&self, directory: &Path) -> Result<Vec<String>, ReadError> {
        let entries = fs::read_dir(directory).map_err(read_error)?;
        let names: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
        // A name that is not UTF-8 cannot be written in a configuration either; no pattern means it.
        Ok(names.map_err(read_error)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn user(&self, name: &str) -> Result<Option<User>, String> {
        found(users::user(name))
    }

    fn group(&self, name: &str) -> Result<Option<Group>, String> {
        found(users::group(name))
    }

    fn executable(&self, root: Option<&Path>, program: &Path) -> Result<(), Unusable> {
        let metadata = look(root, program).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Unusable::NotFound,
            _ => Unusable::Other(Cause::from(error).to_string()),
        })?;
        if !metadata.is_file() {
            return Err(Unusable::NotFile);
        }
        // Whether the pool's user in particular may is found out by the exec.
        if metadata.permissions().mode() & 0o111 == 0 { Err(Unusable::NotExecutable) } else { Ok(()) }
    }

    fn is_directory(&self, root: Option<&Path>, path: &Path) -> bool {
        look(root, path).is_ok_and(|metadata| metadata.is_dir())
    }

    fn uid(&self) -> Uid {
        users::own_uid()
    }

    fn default_runtime_dir(&self) -> PathBuf {
        let [service, user] = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"].map(std::env::var_os);
        let hints = place::Hints { service: service.as_deref(), user: user.as_deref() };
        place::default_runtime_dir(self.uid() == Uid(0), hints, self.uid())
    }
}

/// `/dev/null` is an empty configuration, as it is for every other program.
fn same_as_null(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == metadata.rdev())
}

fn read_error(error: io::Error) -> ReadError {
    match error.kind() {
        ErrorKind::NotFound => ReadError::NotFound,
        ErrorKind::IsADirectory => ReadError::IsDirectory,
        ErrorKind::NotADirectory => ReadError::NotDirectory,
        ErrorKind::PermissionDenied => ReadError::Permission,
        _ => ReadError::Other(Cause::from(error).to_string()),
    }
}

fn found<T>(result: Result<T, UserError>) -> Result<Option<T>, String> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(UserError::Unknown { .. }) => Ok(None),
        Err(error @ UserError::Lookup { .. }) => Err(error.to_string()),
    }
}

/// What is at `path` inside `root`, with symbolic links followed as a process in that root would.
fn look(root: Option<&Path>, path: &Path) -> io::Result<Metadata> {
    match root {
        None => fs::metadata(path),
        Some(root) => fs::metadata(resolve(root, path)?),
    }
}

/// Where `path` inside `root` is, seen from outside: absolute links begin at `root`, and `..` does not leave it.
fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut inner = PathBuf::new();
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    let mut links = 0;
    while let Some(next) = todo.pop() {
        let mut components = next.components();
        let Some(first) = components.next() else { continue };
        let rest = components.as_path().to_owned();
        if rest != OsStr::new("") {
            todo.push(rest);
        }
        match first {
            Component::RootDir | Component::Prefix(_) => inner.clear(),
            Component::CurDir => {}
            Component::ParentDir => {
                inner.pop();
            }
            Component::Normal(name) => {
                let at = root.join(&inner).join(name);
                match fs::read_link(&at) {
                    Ok(_) if links == MOST_LINKS => return Err(io::Error::from_raw_os_error(libc::ELOOP)),
                    Ok(target) => {
                        links += 1;
                        todo.push(target);
                    }
                    Err(_) => inner.push(name),
                }
            }
        }
    }
    Ok(root.join(inner))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::ids::Gid;

    /// A directory of this test alone, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("fpmd-host-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a scratch directory");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, "x").expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn files_are_read_or_say_why_not() {
        let scratch = Scratch::new("read");
        let path = scratch.0.join("a.toml");
        fs::write(&path, "# ä").expect("a file");
        assert_eq!(Machine.read(&path), Ok("# ä".to_owned()));
        fs::write(&path, b"ab\xff").expect("a file");
        assert_eq!(Machine.read(&path), Err(ReadError::NotUtf8(2)));
        File::create(&path).and_then(|file| file.set_len(LONGEST_FILE + 1)).expect("a long file");
        assert_eq!(Machine.read(&path), Err(ReadError::TooLong(LONGEST_FILE)));
        assert_eq!(Machine.read(&scratch.0), Err(ReadError::IsDirectory));
        assert_eq!(Machine.read(&scratch.0.join("none")), Err(ReadError::NotFound));
        assert_eq!(Machine.read(Path::new("/dev/null")), Ok(String::new()));
        assert_eq!(
            Machine.read(Path::new("/dev/zero")),
            Err(ReadError::Other("not a regular file".to_owned()))
        );
        assert_eq!(Machine.entries(&scratch.0), Ok(vec!["a.toml".to_owned()]));
        assert_eq!(Machine.entries(&path), Err(ReadError::NotDirectory));
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let root = Machine.user("root").expect("a database").expect("root");
        assert_eq!((root.uid, root.gid), (Uid(0), Some(Gid(0))));
        assert_eq!(Machine.user("0"), Ok(Some(root)));
        let nobody = Machine.user("3999999999").expect("a database").expect("a number is a user");
        assert_eq!((nobody.uid, nobody.gid, nobody.name.as_str()), (Uid(3_999_999_999), None, "3999999999"));
        assert_eq!(Machine.user("no-such-user"), Ok(None));
        assert_eq!(Machine.group("0").expect("a database").expect("a group").gid, Gid(0));
        assert_eq!(Machine.group("no-such-group"), Ok(None));
    }

    #[test]
    fn programs_are_seen_from_inside_a_root() {
        let scratch = Scratch::new("root");
        let root = scratch.0.as_path();
        program(&root.join("usr/bin/app1"), 0o755);
        program(&root.join("usr/bin/data"), 0o644);
        fs::create_dir_all(root.join("etc")).expect("a directory");
        symlink("/usr/bin/app1", root.join("etc/absolute")).expect("a link");
        symlink("../../../usr/bin/app1", root.join("etc/relative")).expect("a link");
        symlink("/etc/loop", root.join("etc/loop")).expect("a link");
        let look = |path: &str| Machine.executable(Some(root), Path::new(path));
        for path in ["/usr/bin/app1", "/etc/absolute", "/etc/relative", "/../usr/./bin/app1"] {
            assert_eq!(look(path), Ok(()), "{path}");
        }
        assert_eq!(look("/usr/bin/data"), Err(Unusable::NotExecutable));
        assert_eq!(look("/usr/bin"), Err(Unusable::NotFile));
        assert_eq!(look("/bin/none"), Err(Unusable::NotFound));
        assert!(matches!(look("/etc/loop"), Err(Unusable::Other(_))), "{:?}", look("/etc/loop"));
        assert_eq!(Machine.executable(None, Path::new("/usr/bin/app1")), Err(Unusable::NotFound));
        assert!(Machine.is_directory(Some(root), Path::new("/usr/bin")));
        assert!(!Machine.is_directory(Some(root), Path::new("/etc/absolute")));
    }

    #[test]
    fn a_whole_configuration_is_read_and_nothing_is_made() {
        let scratch = Scratch::new("load");
        let main = scratch.0.join("fpmd.toml");
        let names = || {
            let mut names = Machine.entries(&scratch.0).expect("entries");
            names.sort();
            names
        };
        let runtime = scratch.0.join("run");
        fs::write(&main, format!("[global]\nruntime_dir = {runtime:?}\ninclude = [\"*.pool\"]\n"))
            .expect("a file");
        let own = users::own_uid().0;
        let pool = |name: &str| {
            format!(
                "[pool.{name}]\nlisten = {:?}\ncommand = [\"/bin/sh\"]\nuser = {own}\ngroup = {}\npm.max_children = 1\n",
                runtime.join(name),
                users::own_gid().0
            )
        };
        fs::write(scratch.0.join("a.pool"), pool("a")).expect("a file");
        fs::write(scratch.0.join("b.pool"), pool("b")).expect("a file");
        let before = names();
        let config = crate::config::load(&main, &Machine).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.pools.len(), 2);
        fs::create_dir(scratch.0.join("c.pool")).expect("a directory");
        let errors = crate::config::load(&main, &Machine).expect_err("a directory");
        let sentence = format!("cannot include '{}': Is a directory", scratch.0.join("c.pool").display());
        assert_eq!(errors.to_string(), format!("{}:3:12: global.include: {sentence}", main.display()));
        fs::remove_dir(scratch.0.join("c.pool")).expect("no directory");
        assert_eq!(names(), before);

        let errors = crate::config::load(&scratch.0, &Machine).expect_err("a directory");
        assert_eq!(
            errors.to_string(),
            format!("{}: cannot read the configuration: Is a directory", scratch.0.display())
        );
    }
}
