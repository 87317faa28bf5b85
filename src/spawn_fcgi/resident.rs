//! `--supervise`, the doing: gathers the facts for `supervise`, and becomes fpmd with the configuration in a sealed file
//! without a name, which it can read again at each reload. Does not know what fpmd does with it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::bind::ask_whether_free;
use super::launch::{Identities, access, warn_without_group};
use super::message::Failure;
use super::supervise::{PHP_VARIABLES, Surroundings, configuration, socket_path};
use crate::cli::spawn_fcgi::args::{Request, Style};
use crate::config::Host;
use crate::os::host::Machine;
use crate::os::legacy::{self, Program, c_string};

/// The daemon's program.
const FPMD: &str = "fpmd";

/// Replaces this process by fpmd, which goes to the background by itself unless `-n` is given; returns only why it did not.
pub fn become_fpmd(request: &Request) -> Failure {
    match surroundings(request).and_then(|around| start(request, &around)) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn start(request: &Request, around: &Surroundings) -> Result<std::convert::Infallible, Failure> {
    let configuration = configuration(request, around)?;
    // fpmd goes on trying to get its socket; who asks for one pool wants to hear that it is taken.
    ask_whether_free(&request.endpoint, socket_path(request, around).as_deref())?;
    let file = legacy::sealed_file(FPMD, &configuration.text).map_err(Failure::StartFpmd)?;
    let path = find_fpmd().ok_or_else(|| Failure::StartFpmd(io::ErrorKind::NotFound.into()))?;
    let mut arguments = vec![
        OsString::from(FPMD),
        OsString::from("--config"),
        OsString::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
    ];
    if request.style == Style::Fork {
        arguments.push("--daemonize".into());
    }
    let program = program(&path, &arguments).map_err(Failure::StartFpmd)?;
    Err(Failure::StartFpmd(program.execute()))
}

fn program(path: &Path, arguments: &[OsString]) -> io::Result<Program> {
    Ok(Program {
        path: c_string(path.as_os_str())?,
        arguments: arguments.iter().map(|argument| c_string(argument)).collect::<io::Result<_>>()?,
        environment: legacy::environment(),
    })
}

fn surroundings(request: &Request) -> Result<Surroundings, Failure> {
    let identities = request.privileged.as_ref().map(Identities::look_up).transpose()?;
    if let Some(identities) = &identities {
        warn_without_group(&identities.application);
    }
    let directory =
        env::current_dir().map_err(|cause| Failure::ChangeDirectory(OsStr::new(".").to_owned(), cause))?;
    Ok(Surroundings {
        directory,
        runtime_dir: Machine.default_runtime_dir(),
        socket_mode: access(request, None).mode,
        identities,
        php_variables: PHP_VARIABLES
            .into_iter()
            .filter_map(|name| env::var_os(name).map(|value| (name, value)))
            .collect(),
    })
}

/// fpmd beside this program, as packages install it, else the first one in PATH.
fn find_fpmd() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|own| own.parent().map(|directory| directory.join(FPMD)));
    let path = env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(env::split_paths(&path).map(|directory| directory.join(FPMD)))
        .find(|candidate| legacy::is_executable(candidate))
}
