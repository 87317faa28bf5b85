//! What the tests of the master share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::globals::PidFiles;
use super::source::Source;
use super::{Master, Starting, reload, start};
use crate::config::model::{
    Dispatch, Environment, ListenAddress, PmMode, Pool, ProcessManagement, Resources, SocketSettings,
};
use crate::ids::{PoolName, Signal};
use crate::os::testing::TempDir;
use crate::systemd::Inherited;

/// A pool with plain settings.
pub(super) fn pool(name: &str) -> Pool {
    Pool {
        name: PoolName::new(name).unwrap(),
        listen: vec![ListenAddress::Abstract(format!("fpmd-{name}"))],
        socket: SocketSettings {
            backlog: 16,
            owner: None,
            group: None,
            mode: 0o660,
            acl_users: Vec::new(),
            acl_groups: Vec::new(),
        },
        command: vec!["/bin/true".into()],
        dispatch: Dispatch::Direct,
        user: None,
        group: None,
        supplementary_groups: None,
        chroot: None,
        directory: None,
        umask: None,
        process_priority: None,
        scheduling_policy: None,
        rlimit_files: None,
        rlimit_core: None,
        resources: Resources::default(),
        environment: Environment::default(),
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(30),
        start_timeout: Duration::from_secs(10),
        catch_workers_output: true,
        decorate_workers_output: true,
        pm: ProcessManagement {
            mode: PmMode::Static,
            max_children: 1,
            max_requests: 0,
            max_lifetime: None,
            max_memory: None,
        },
        known_worker: None,
    }
}

/// A master without a pool that is not in its loop yet. Only for a process of its own, whose signals it catches.
pub(super) fn idle_master(directory: &TempDir) -> Master {
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let text = format!("[global]\nruntime_dir = {:?}\n", directory.path());
    let source = Source::Text { name: "test".to_owned(), text };
    let config = reload::load(&source).unwrap();
    let (inherited, pid_files) = (Inherited::take().unwrap(), PidFiles::new(None));
    let master = start::bring_up(inherited, source, pid_files, config, Starting::Foreground, None);
    master.unwrap_or_else(|failure| panic!("{failure}"))
}
