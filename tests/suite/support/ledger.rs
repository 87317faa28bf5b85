//! What access logs say of requests that have a number of their own, with `FORMAT` as their format.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The request's number, which is its query, and the status of its answer.
pub const FORMAT: &str = "\"%q %s\"";

/// The statuses of each number's lines in the log of this pool and all that it was rotated to. Requests without a number
/// and those of tests that ask the pool directly are left out.
#[track_caller]
pub fn read(folder: &Path, pool: &str) -> BTreeMap<u64, Vec<u16>> {
    let mut lines: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name != format!("{pool}.access") && !name.starts_with(&format!("{pool}.access.")) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "half a line in {name}");
        for line in text.lines() {
            let parsed = line.split_once(' ').and_then(|(number, status)| {
                let number = if ["-", ""].contains(&number) { 0 } else { number.parse().ok()? };
                Some((number, status.parse().ok()?))
            });
            let (number, status) = parsed.unwrap_or_else(|| panic!("{line:?} in {name}"));
            if number > 0 {
                lines.entry(number).or_default().push(status);
            }
        }
    }
    lines
}
