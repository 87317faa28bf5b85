//! What a master hands to the program that takes over from it in the same process (`fpmctl upgrade`): everything that it
//! holds, as JSON. Owns the version and the way from the version before; each part is written and read where it lives.
//!
//! A field that is added within a version has `#[serde(default)]`; anything else raises [`VERSION`], with a step in
//! [`from_last_version`] for what the last release wrote. The settings are exempt: they are in the language of the
//! configuration file.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::program::Program;
use super::source::Source;
use super::warming::Warming;
use super::{cgroups, control, gateways, globals, listeners, orphans, settings, slots, workers};
use crate::ids::{Generation, Moment, PoolName, Ticket};
use crate::log::capture::Capture;
use crate::os::handover::Heirloom;
use crate::os::limits::OriginalLimit;
use crate::supervise::Supervisor;

/// Raised when the state changes so that the last version's cannot be read as it is.
pub const VERSION: u32 = 2;

/// The oldest version that is understood: one back.
const OLDEST: u32 = 1;

/// Everything. `S` and `C` are borrowed where it is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct State<S = Supervisor, C = Capture> {
    /// `VERSION` of whoever wrote it.
    pub version: u32,
    /// The release of whoever wrote it.
    pub release: String,
    /// Where new versions of the program are found.
    pub own_path: PathBuf,
    /// When the first of us started.
    pub started: Moment,
    /// RLIMIT_NOFILE as the first of us found it.
    pub open_files: OriginalLimit,
    /// Who waits for the upgrade.
    pub ticket: Option<Ticket>,
    /// The latest number of a waiting client.
    pub last_ticket: Ticket,
    /// The reload that the service manager waits for.
    #[serde(default)]
    pub reload_by_signal: Option<Ticket>,
    /// Where the configuration comes from.
    pub source: Source,
    /// What it says.
    pub settings: settings::Written,
    /// Pools and workers.
    pub supervisor: S,
    /// Their sockets.
    pub listeners: listeners::Written,
    /// Private sockets behind gateways.
    pub slots: slots::Written,
    /// Gateways.
    pub gateways: gateways::Written,
    /// Processes and their output.
    pub workers: workers::Written<C>,
    /// New workers that have not answered their warm-up request.
    #[serde(default)]
    pub warming: Warming,
    /// Control groups.
    pub cgroups: cgroups::Written,
    /// Children that are none of ours.
    pub strangers: orphans::Strangers,
    /// The control socket and its clients.
    pub control: control::Written,
    /// The pid file, which holds the right number.
    pub pid_files: globals::WrittenPidFiles,
    /// What each generation was started from.
    pub programs: Vec<(PoolName, Generation, Program)>,
    /// The log file.
    pub log: Option<Heirloom>,
}

/// Why a state cannot be taken over.
#[derive(Debug)]
pub enum StateError {
    /// It was written by a release that this one does not know.
    Future {
        /// Whose.
        release: String,
        /// Its version.
        version: u32,
    },
    /// It was written by a release that is too old.
    Past {
        /// Whose.
        release: String,
        /// Its version.
        version: u32,
    },
    /// It is not what its version says.
    Malformed(serde_json::Error),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = env!("CARGO_PKG_VERSION");
        match self {
            StateError::Future { release, version } => write!(
                f,
                "cannot take over from fpmd {release}: it is newer (state version {version}, fpmd {ours} reads up \
                 to {VERSION}); restart fpmd to go back to an older version"
            ),
            StateError::Past { release, version } => write!(
                f,
                "cannot take over from fpmd {release}: it is too old (state version {version}, fpmd {ours} reads \
                 {OLDEST} and later); restart fpmd, or upgrade by way of a version in between"
            ),
            StateError::Malformed(error) => write!(f, "cannot read the state of the running fpmd: {error}"),
        }
    }
}

impl std::error::Error for StateError {}

impl State {
    /// Reads a state of this version or the one before.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn read(text: &str) -> Result<State, StateError> {
        // The version alone first: of another one nothing else need make sense.
        #[derive(Deserialize)]
        struct Envelope {
            version: u32,
            release: String,
        }
        let Envelope { version, release } =
            serde_json::from_slice(text.as_bytes()).map_err(StateError::Malformed)?;
        // Always from bytes: reading all these types from a string, or from a `Value`, is as much code again.
        match version {
            VERSION => serde_json::from_slice(text.as_bytes()).map_err(StateError::Malformed),
            _ if (OLDEST..VERSION).contains(&version) => serde_json::from_slice(text.as_bytes())
                .map(from_last_version)
                .and_then(|state| serde_json::to_vec(&state))
                .and_then(|text| serde_json::from_slice(&text))
                .map_err(StateError::Malformed),
            _ if version > VERSION => Err(StateError::Future { release, version }),
            _ => Err(StateError::Past { release, version }),
        }
    }
}

/// From version `OLDEST` to `VERSION`: the last one exchanged no gateways.
fn from_last_version(mut state: Value) -> Value {
    state["gateways"]["handing"] = Value::Array(Vec::new());
    for gateway in state["gateways"]["pools"].as_object_mut().into_iter().flat_map(|pools| pools.values_mut())
    {
        gateway["clients"] = Value::Array(Vec::new());
        gateway["counts"] = Value::Null;
    }
    state["version"] = VERSION.into();
    state
}
