//! What the tests of the master share.

use crate::config::model::{
    Dispatch, Environment, ListenAddress, PmMode, Pool, ProcessManagement, Resources, SocketSettings,
};
use crate::ids::{PoolName, Signal};
use std::time::Duration;

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
