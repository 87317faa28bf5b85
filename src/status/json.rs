//! The snapshot as JSON (RFC 8259). The field names are those of `snapshot`; they are an interface, listed in fpmctl(8),
//! and only ever added to.

use super::snapshot::Snapshot;

/// Indented, with a newline at the end.
pub fn render(snapshot: &Snapshot) -> String {
    // Plain data: no map with keys that are not text, no type that refuses.
    #[allow(clippy::expect_used)]
    let text = serde_json::to_string_pretty(snapshot).expect("a snapshot is plain data");
    text + "\n"
}
