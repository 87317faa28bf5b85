//! An environment as `execve(2)` takes it. Which names it has is decided by the caller.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use super::SpawnError;
use crate::sorted::SortedMap;

/// The whole environment of a process: each name once, in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentBlock(Vec<CString>);

impl EnvironmentBlock {
    /// Of names and values (`String`, `OsString`, what `std::env::vars_os` gives …); a later pair wins.
    ///
    /// # Errors
    /// A name that is empty or has `=` in it; a NUL byte anywhere.
    pub fn new<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<EnvironmentBlock, SpawnError> {
        let mut entries = SortedMap::new();
        for (name, value) in pairs {
            let name = name.as_ref().as_bytes();
            entries.insert(name.to_vec(), entry(name, value.as_ref())?);
        }
        Ok(EnvironmentBlock(entries.into_values().collect()))
    }

    /// The entries, `NAME=value` each.
    pub fn entries(&self) -> &[CString] {
        &self.0
    }
}

fn entry(name: &[u8], value: &OsStr) -> Result<CString, SpawnError> {
    if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
        return Err(SpawnError::VariableName(String::from_utf8_lossy(name).into_owned()));
    }
    CString::new([name, b"=", value.as_bytes()].concat()).map_err(|_| SpawnError::Nul {
        what: "environment value",
        text: value.to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_once_and_the_last_wins() {
        let block = EnvironmentBlock::new([("B", "1"), ("A", ""), ("B", "x=y")]).expect("all are valid");
        assert_eq!(block.entries(), [c"A=".to_owned(), c"B=x=y".to_owned()]);
    }

    #[test]
    fn impossible_entries_are_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            assert!(EnvironmentBlock::new([(name, value)]).is_err(), "{name:?}={value:?}");
        }
        let error = EnvironmentBlock::new([("A=B", "x")]).expect_err("a name has no =");
        assert_eq!(
            error.to_string(),
            "cannot set environment variable \"A=B\": a name is not empty and has no '=' or NUL byte"
        );
    }
}
