//! The `[global]` settings over reloads: the log, the pid file and the group of the control socket are exchanged while fpmd
//! runs; what needs a restart was refused before it comes here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Master;
use super::pid_file::{PidFile, PidFileError};
use super::start::own_pid;
use crate::config::model::Global;
use crate::log;
use crate::os::clock;
use crate::supervise::event::Event;

/// The pid file, if there is one.
#[derive(Debug)]
pub struct PidFiles {
    /// By the command line, which wins over the configuration.
    option: Option<PathBuf>,
    file: Option<PidFile>,
}

/// The same on its way to a new program.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct WrittenPidFiles {
    option: Option<PathBuf>,
    file: Option<PathBuf>,
}

impl PidFiles {
    /// None yet; `option` is what the command line says.
    pub fn new(option: Option<PathBuf>) -> PidFiles {
        PidFiles { option, file: None }
    }

    /// As a predecessor of this process has left it.
    pub fn claim(written: WrittenPidFiles) -> PidFiles {
        let WrittenPidFiles { option, file } = written;
        PidFiles { option, file: file.map(|path| PidFile::of(&path, own_pid())) }
    }

    /// What a successor of this process has to know.
    pub fn bequeath(&self) -> WrittenPidFiles {
        let file = self.file.as_ref().map(|file| file.path().to_owned());
        WrittenPidFiles { option: self.option.clone(), file }
    }

    /// Whether the file that these settings want can be written.
    ///
    /// # Errors
    /// It cannot be.
    pub fn try_out(&self, global: &Global) -> Result<(), PidFileError> {
        let wanted = self.option.as_ref().or(global.pid_file.as_ref());
        wanted.map_or(Ok(()), |path| PidFile::try_out(path))
    }

    /// Writes the file that these settings want, and removes the one that they do not want any more.
    ///
    /// # Errors
    /// It cannot be written; the old one stays.
    pub fn adopt(&mut self, global: &Global) -> Result<(), PidFileError> {
        let wanted = self.option.as_ref().or(global.pid_file.as_ref());
        if wanted.map(PathBuf::as_path) != self.file.as_ref().map(PidFile::path) {
            self.file = wanted.map(|path| PidFile::write(path, own_pid())).transpose()?;
        }
        Ok(())
    }
}

/// Puts global settings in force.
///
/// # Errors
/// A sentence for the first that cannot be; everything is as it was.
pub fn adopt(master: &mut Master, new: Global) -> Result<(), String> {
    let old = master.global.clone();
    put_in_force(master, &new).inspect_err(|_| {
        // What was in force a moment ago can be again, or fails as it would have anyway.
        if let Err(reason) = put_in_force(master, &old) {
            ::log::error!("{reason}");
        }
    })?;
    let processes = new.reload_surge;
    master.supervisor.handle(clock::monotonic(), Event::ReloadSurge { processes });
    let most = Some(new.process_max).filter(|most| *most > 0);
    master.supervisor.handle(clock::monotonic(), Event::ProcessMax { most });
    master.global = new;
    Ok(())
}

fn put_in_force(master: &mut Master, global: &Global) -> Result<(), String> {
    if master.is_serving() {
        master.pid_files.adopt(global).map_err(|error| error.to_string())?;
    }
    let group = global.control_group.as_ref().map(|group| group.gid);
    master.control.open_to(group).map_err(|error| error.to_string())?;
    let settings = log::Settings::from(global);
    if settings != log::Settings::from(&master.global) {
        log::reconfigure(&settings).map_err(|error| format!("{error}; logging goes on as before"))?;
    }
    Ok(())
}
