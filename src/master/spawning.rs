//! From a pool's settings to a running process: which socket is its FD 0, where its output goes, as whom it runs.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::Master;
use super::environment::worker_environment;
use super::program::Program;
use super::seats::Seat;
use super::workers::Worker;
use crate::config::model::{Pool, User};
use crate::event;
use crate::event::token::Token;
use crate::ids::{Generation, Gid, PoolName, Signal, WorkerId};
use crate::log::capture::{Capture, Form, Limits, Source, Stream};
use crate::os::activity::Trail;
use crate::os::errno::Cause;
use crate::os::process::{self, Child, Descriptors, EnvironmentBlock, OpenFiles, Output, Session, Spawn};
use crate::os::{aside, clock, errno, users};

/// Starts a worker and watches its pipes; the caller enters it in the table.
///
/// # Errors
/// A sentence without the pool's name: no process was made.
pub fn start(
    master: &mut Master,
    pool: &PoolName,
    generation: Generation,
    id: WorkerId,
) -> Result<Worker, String> {
    let settings = master.settings.adopt(pool, generation).ok_or("its settings are gone")?;
    let spawn = prepared(master, &settings, generation)?;
    master.cgroups.prepare(pool, &settings.resources);
    let outputs = if settings.catch_workers_output { Some(Outputs::open()?) } else { None };
    let seat = master.seat(&settings, generation, id)?;
    master.cgroups.prepare_worker(pool, id, &settings.resources);
    let child = match fork(master, pool, (seat, id), &spawn, outputs.as_ref()) {
        Ok(child) => child,
        Err(reason) => {
            master.cgroups.worker_gone(id);
            master.leave(pool, seat, id);
            return Err(reason);
        }
    };
    let registry = master.poll.registry();
    if let Err(error) = event::watch(registry, child.report.as_fd(), Token::Report(id)) {
        let cause = errno::said(&error);
        log::warn!("[pool {pool}] cannot watch the start of child {}: {cause}", child.pid);
    }
    let worker = Worker {
        pool: pool.clone(),
        seat,
        pid: child.pid,
        report: Some(child.report),
        trail: Trail::default(),
        last_words: None,
    };
    if let Some(outputs) = outputs {
        outputs.capture(master, id, &worker, &settings);
    }
    Ok(worker)
}

fn fork(
    master: &Master,
    pool: &PoolName,
    (seat, id): (Seat, WorkerId),
    spawn: &Spawn,
    outputs: Option<&Outputs>,
) -> Result<Child, String> {
    let socket = master.socket(pool, seat).ok_or("its socket is gone")?;
    let (stdout, stderr) = match outputs {
        Some(outputs) => {
            (Output::To(outputs.stdout.theirs.as_fd()), Output::To(outputs.stderr.theirs.as_fd()))
        }
        None => (Output::Null, Output::Null),
    };
    let descriptors =
        Descriptors { stdin: socket.as_fd(), stdout, stderr, cgroup: master.cgroups.of(pool, id) };
    process::spawn(spawn, &descriptors).map_err(|error| error.to_string())
}

/// What all workers of a generation have in common, made once.
fn prepared(master: &mut Master, pool: &Pool, generation: Generation) -> Result<Rc<Spawn>, String> {
    let key = (pool.name.clone(), generation);
    if let Some(spawn) = master.spawns.get(&key) {
        return Ok(Rc::clone(spawn));
    }
    let spawn = Rc::new(prepare(master, pool)?);
    // After an upgrade it is known already, as it was at the first start.
    if !master.programs.contains_key(&key)
        && let Some(program) = Program::of(pool)
    {
        master.programs.insert(key.clone(), program);
    }
    master.spawns.insert(key, Rc::clone(&spawn));
    Ok(spawn)
}

fn prepare(master: &Master, pool: &Pool) -> Result<Spawn, String> {
    let sentence = |error: process::SpawnError| error.to_string();
    let environment = worker_environment(pool, std::env::vars_os());
    let environment = EnvironmentBlock::new(environment).map_err(sentence)?;
    let path =
        |path: &Option<std::path::PathBuf>| path.as_deref().map(process::path).transpose().map_err(sentence);
    let (gid, groups) = identity(pool)?;
    Ok(Spawn {
        session: Session::New,
        umask: pool.umask,
        open_files: match pool.rlimit_files {
            Some(limit) => OpenFiles::Set(limit),
            None => OpenFiles::Restore(master.open_files),
        },
        core_size: pool.rlimit_core,
        priority: pool.process_priority,
        policy: pool.scheduling_policy,
        groups,
        gid,
        chroot: path(&pool.chroot)?,
        uid: pool.user.as_ref().map(|user| user.uid),
        directory: path(&pool.directory)?,
        // A master that is killed takes its workers with it: nobody would replace or stop them, and the next start
        // finds the sockets free.
        parent_death: Some(Signal::KILL),
        ..Spawn::new(&pool.command, environment).map_err(sentence)?
    })
}

/// The group and the supplementary groups that a worker gets; those of fpmd where no user is configured.
fn identity(pool: &Pool) -> Result<(Option<Gid>, Option<Vec<Gid>>), String> {
    let gid = pool.group.as_ref().map(|group| group.gid).or(pool.user.as_ref().and_then(|user| user.gid));
    // Only root may change these; for others the configuration allows nothing but what they are already.
    if !users::is_root() {
        return Ok((None, None));
    }
    let groups = match (&pool.supplementary_groups, &pool.user, gid) {
        (Some(groups), _, _) => Some(groups.iter().map(|group| group.gid).collect()),
        (None, Some(user), Some(gid)) => Some(supplementary_groups(user, gid)?),
        (None, Some(_), None) => Some(Vec::new()),
        (None, None, _) => None,
    };
    Ok((gid, groups))
}

fn supplementary_groups(user: &User, gid: Gid) -> Result<Vec<Gid>, String> {
    let answer = aside::ask(|| users::supplementary_groups(user, gid).map_err(|error| error.to_string()));
    answer.map_err(|error| error.to_string())?
}

/// A worker's FD 1 and 2.
struct Outputs {
    stdout: Pipe,
    stderr: Pipe,
}

/// What a child writes and we read.
pub struct Pipe {
    /// To read from; not blocking.
    pub ours: OwnedFd,
    /// To write to.
    pub theirs: OwnedFd,
}

impl Outputs {
    fn open() -> Result<Outputs, String> {
        Ok(Outputs { stdout: Pipe::open()?, stderr: Pipe::open()? })
    }

    /// Keeps our ends and logs what comes out of them.
    fn capture(self, master: &mut Master, id: WorkerId, worker: &Worker, settings: &Pool) {
        let form = if settings.decorate_workers_output { Form::Decorated } else { Form::Raw };
        let streams = [
            (Token::Stdout(id), Stream::Stdout, self.stdout),
            (Token::Stderr(id), Stream::Stderr, self.stderr),
        ];
        for (token, stream, pipe) in streams {
            let source = Source { pool: worker.pool.clone(), pid: worker.pid, stream };
            let capture = Capture::new(source, form, Limits::default(), clock::monotonic());
            let watched = master.workers.listen_to(token, pipe.ours, capture, master.poll.registry());
            if let Err(error) = watched {
                log::warn!(
                    "[pool {}] cannot capture the output of child {}: {}",
                    worker.pool,
                    worker.pid,
                    errno::said(&error)
                );
            }
        }
    }
}

impl Pipe {
    /// Non-blocking on our side only: programs do not expect EAGAIN from their standard output.
    ///
    /// # Errors
    /// A sentence: no descriptor is left.
    pub fn open() -> Result<Pipe, String> {
        let sentence = |errno| format!("cannot make a pipe for its output: {}", Cause(errno));
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(sentence)?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(sentence)?;
        Ok(Pipe { ours, theirs })
    }
}
