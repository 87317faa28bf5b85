//! Upgrades to a program that agrees when it is tried and fails all the same when it has become the process: the one before
//! takes the process back, and nobody notices but who asked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::gateway_life::routed;
use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::{Load, process, workers};
use crate::upgrade::{altered, gist, good, upgrade};

/// fpmd with a worker in each mode, started by a link.
fn rig() -> Rig {
    let direct = Pool::new("direct", &workers::c()).workers(2).dispatch(Dispatch::Direct);
    let rig = Rig::new().linked().pool(direct).pool(routed("www", &workers::c()).workers(2));
    rig.expect("cannot upgrade")
}

fn gateways(fpmd: &Fpmd) -> Vec<i32> {
    let children = process::descendants(fpmd.pid()).into_iter();
    children.filter(|child| child.name == "fpmd-gateway").map(|child| child.pid).collect()
}

/// What must be the same before and after.
fn everything(fpmd: &Fpmd) -> impl PartialEq + std::fmt::Debug + use<> {
    (gist(&fpmd.pool("direct")), gist(&fpmd.pool("www")), gateways(fpmd), fpmd.snapshot().pid)
}

/// An upgrade to what is installed fails like this, and changes nothing.
#[track_caller]
fn fails(fpmd: &Fpmd, why: &str) {
    let before = everything(fpmd);
    let addresses = [fpmd.address("direct"), fpmd.address("www")];
    let load = Load::start(2, move || addresses.iter().try_for_each(|address| good(address.get("/pid"))));
    load.wait_for_more(10);
    let ran = fpmd.ctl(&["upgrade"]);
    load.wait_for_more(10);
    let (_, bad) = load.stop();
    assert_eq!(bad, [""; 0]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("cannot upgrade") && ran.err.contains(why), "{why}: {ran:?}");
    fpmd.wait_pool("www", "idle workers", |pool| pool.idle_processes == 2);
    assert_eq!(everything(fpmd), before);
    assert!(!fpmd.log().contains("has taken over"));
    // It is fpmd still, to who looks at the list of processes too.
    assert_eq!(process::process(fpmd.pid()).unwrap().name, "fpmd");
}

/// Then one that can go on does.
#[track_caller]
fn succeeds(fpmd: Fpmd) {
    // What the other one put into the environment is there still.
    let text = format!("#!/bin/sh\nunset LD_PRELOAD\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_fpmd"));
    fpmd.rig.install(&fpmd.rig.dir.program("healthy", &text));
    upgrade(&fpmd);
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

/// fpmd that meets this, an expression in C, instead of a function of the C library when it takes over.
fn crippled(fpmd: &Fpmd, function: &str, instead: &str) -> PathBuf {
    let source = fpmd.rig.dir.write(
        "cripple.c",
        &format!(
            "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <stdlib.h>\nint pause(void);\n\
             long {function}(long a, long b, long c) {{\n\
             if (getenv(\"FPMD_TAKE_OVER\") && !getenv(\"FPMD_TAKEN_BACK\")) return ({instead});\n\
             long (*real)(long, long, long) = (long (*)(long, long, long))dlsym(RTLD_NEXT, \"{function}\");\n\
             return real(a, b, c);\n}}\n"
        ),
    );
    let library = fpmd.rig.dir.join("cripple.so");
    let made =
        Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(made.unwrap().success());
    let fpmd_path = env!("CARGO_BIN_EXE_fpmd");
    let text = format!("#!/bin/sh\nLD_PRELOAD={} exec {fpmd_path} \"$@\"\n", library.display());
    fpmd.rig.dir.program("crippled", &text)
}

#[test]
fn a_state_that_it_cannot_read_after_all() {
    let fpmd = rig().start();
    fpmd.rig.install(&crippled(&fpmd, "lseek64", "(errno = EIO, -1)"));
    for _ in 0..3 {
        fails(&fpmd, "Input/output error");
    }
    succeeds(fpmd);
}

#[test]
fn a_descriptor_that_it_does_not_get() {
    let fpmd = rig().start();
    fpmd.rig.install(&crippled(&fpmd, "epoll_create1", "(errno = EMFILE, -1)"));
    fails(&fpmd, "Too many open files");
    succeeds(fpmd);
}

#[test]
fn a_crash() {
    let fpmd = rig().start();
    fpmd.rig.install(&crippled(&fpmd, "epoll_create1", "(abort(), -1)"));
    fails(&fpmd, "it crashed");
    succeeds(fpmd);
}

#[test]
fn a_hang() {
    let fpmd = rig().start();
    fpmd.rig.install(&crippled(&fpmd, "epoll_create1", "pause()"));
    fails(&fpmd, "has not come to an end");
    succeeds(fpmd);
}

#[test]
fn one_that_is_replaced_after_it_was_tried() {
    let fpmd = rig().start();
    let (fpmd_path, link) = (env!("CARGO_BIN_EXE_fpmd"), fpmd.rig.dir.join("bin/fpmd"));
    let text = format!("#!/bin/sh\nln -sfn /bin/true {}\nexec {fpmd_path} \"$@\"\n", link.display());
    fpmd.rig.install(&fpmd.rig.dir.program("fleeting", &text));
    fails(&fpmd, "was replaced after it was tried");
    succeeds(fpmd);
}

#[test]
fn a_log_that_cannot_be_opened_again_is_no_reason() {
    let rig = rig().global("log", "\"{dir}/logs/own.log\"").expect("cannot open log file");
    fs::create_dir(rig.dir.join("logs")).unwrap();
    let mut fpmd = rig.start();
    // The old file's descriptor, which nobody takes over here, stays open.
    fpmd.descriptors_may_change();
    fs::rename(fpmd.rig.dir.join("logs"), fpmd.rig.dir.join("old-logs")).unwrap();
    fpmd.rig.install(&altered(&fpmd, "if note: state['log'] = None"));
    upgrade(&fpmd);
    fpmd.wait_log("logging to standard error until the log is re-opened");
    fs::create_dir(fpmd.rig.dir.join("logs")).unwrap();
    fpmd.ctl_done(&["reopen"]);
    assert!(fs::read_to_string(fpmd.rig.dir.join("logs/own.log")).unwrap().contains("log re-opened"));
    fpmd.finish();
}
