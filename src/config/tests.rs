//! The whole way from text to model: every kind of mistake with its exact sentence, what defaults give, and texts that
//! mean harm.

mod accepted;
mod changes;
mod gateway;
mod hostile;
mod includes;
mod machine;
mod mistakes;
mod roundtrip;
mod scaling;

use super::testing::FakeHost;
use super::{Config, load_text};

const MAIN: &str = "/etc/fpmd/fpmd.toml";

/// A valid pool, ended by its own table, so that settings of the pool can follow.
const POOL: &str =
    "[pool.www]\npm.max_children = 2\nlisten = 9000\ncommand = [\"/usr/bin/app\"]\nuser = \"www-data\"\n";

/// The same without a user, for those who are not root.
const OWN_POOL: &str = "[pool.www]\npm.max_children = 2\nlisten = 9000\ncommand = [\"/usr/bin/app\"]\n";

fn config(text: &str) -> Config {
    load_text(MAIN, text, &FakeHost::root()).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn mistakes_on(host: &FakeHost, text: &str) -> Vec<String> {
    let errors = load_text("f", text, host).expect_err(text);
    errors.iter().map(ToString::to_string).collect()
}

fn mistakes(text: &str) -> Vec<String> {
    mistakes_on(&FakeHost::root(), text)
}

/// The one mistake of a valid pool and one line more, as root; the line is the sixth.
fn mistake(line: &str) -> String {
    let found = mistakes(&format!("{POOL}{line}\n"));
    assert_eq!(found.len(), 1, "{line}: {found:#?}");
    found.into_iter().next().unwrap_or_default()
}
