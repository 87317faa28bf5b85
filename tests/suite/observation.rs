//! What the status says in direct mode of workers that know nothing of fpmd: busy, idle, connections, queue.

use fpmd::status::snapshot::Activity;

use crate::support::daemon::{Dispatch, Pool, Rig};
use crate::support::fastcgi::{Address, record};
use crate::support::{process, workers};

fn direct(command: &[String]) -> Pool {
    Pool::new("www", command).dispatch(Dispatch::Direct)
}

#[test]
fn busy_idle_and_waiting_are_told_apart() {
    for command in [workers::php(), workers::c(), workers::perl()] {
        let fpmd = Rig::new().pool(direct(&command).workers(3)).start();
        fpmd.wait_pool("www", "three idle", |pool| (pool.idle_processes, pool.active_processes) == (3, 0));
        let mut busy = fpmd.address("www").connect().unwrap();
        busy.send("GET", "/slow/3000", &[]).unwrap();
        let pool = fpmd.wait_pool("www", "one busy with a connection", |pool| {
            let connections: Option<u32> = pool.workers.iter().map(|worker| worker.connections).sum();
            (pool.idle_processes, pool.active_processes, connections) == (2, 1, Some(1))
        });
        let active: Vec<_> = pool.workers.iter().filter(|worker| worker.activity != Activity::Idle).collect();
        assert_eq!(active.len(), 1, "{command:?} {pool:?}");
        assert_eq!((active[0].activity, active[0].connections), (Activity::Busy, Some(1)), "{command:?}");
        // A client that has sent half a request keeps a worker waiting.
        let mut half = fpmd.address("www").connect().unwrap();
        half.send_raw(&record(1, &[0, 1, 0, 0, 0, 0, 0, 0])[..4]).unwrap();
        fpmd.wait_pool("www", "one busy, one waiting", |pool| {
            let count = |activity| pool.workers.iter().filter(|worker| worker.activity == activity).count();
            (count(Activity::Busy), count(Activity::Waiting), count(Activity::Idle)) == (1, 1, 1)
        });
        assert_eq!(busy.answer().unwrap().text(), active[0].pid.to_string());
        drop((busy, half));
        fpmd.wait_pool("www", "three idle", |pool| (pool.idle_processes, pool.active_processes) == (3, 0));
        assert!(!fpmd.pool("www").activity_method.is_empty());
        fpmd.finish();
    }
}

/// Two workers are busy, four connections wait.
#[track_caller]
fn queue_is_counted(listen: &str, method: &str) {
    let fpmd = Rig::new().pool(direct(&workers::php()).workers(2).listen(&[listen])).start();
    let listener = fpmd.pool("www").listeners.remove(0);
    let address = match listener.address.parse() {
        Ok(tcp) => Address::Tcp(tcp),
        Err(_) => fpmd.address("www"),
    };
    assert_eq!(listener.queue, Some(0), "{listener:?}");
    assert_eq!(listener.queue_method.as_deref(), Some(method));
    let mut held: Vec<_> = (0..6).map(|_| address.connect().unwrap()).collect();
    for connection in &mut held {
        connection.send("GET", "/slow/400", &[]).unwrap();
    }
    let pool = fpmd.wait_pool("www", "four in the queue", |pool| pool.listeners[0].queue == Some(4));
    assert_eq!(pool.active_processes, 2);
    for mut connection in held {
        connection.answer().unwrap();
    }
    fpmd.wait_pool("www", "an empty queue", |pool| pool.listeners[0].queue == Some(0));
    fpmd.finish();
}

#[test]
fn the_queue_of_a_unix_socket() {
    queue_is_counted("{dir}/www.sock", "sock_diag");
}

#[test]
fn the_queue_of_a_tcp_socket() {
    queue_is_counted("127.0.0.1:0", "TCP_INFO");
}

#[test]
fn connections_of_a_worker_that_serves_many_at_once() {
    for listen in ["{dir}/www.sock", "127.0.0.1:0"] {
        let fpmd = Rig::new().for_python().pool(direct(&workers::flup("threaded")).listen(&[listen])).start();
        let address = match fpmd.pool("www").listeners[0].address.parse() {
            Ok(tcp) => Address::Tcp(tcp),
            Err(_) => fpmd.address("www"),
        };
        let mut held: Vec<_> = (0..5).map(|_| address.connect().unwrap()).collect();
        for connection in &mut held {
            connection.send("GET", "/slow/600", &[]).unwrap();
        }
        fpmd.wait_pool("www", "five connections", |pool| pool.workers[0].connections == Some(5));
        held.into_iter().for_each(|mut connection| drop(connection.answer().unwrap()));
        fpmd.wait_pool("www", "no connection", |pool| pool.workers[0].connections == Some(0));
        fpmd.finish();
    }
}

#[test]
fn memory_and_cpu_are_those_of_the_kernel() {
    let fpmd = Rig::new().pool(direct(&workers::php())).start();
    let worker = fpmd.pool("www").workers.remove(0);
    let kernel = process::resident_kb(worker.pid.as_raw()).unwrap() * 1024;
    let rss = worker.rss.unwrap();
    assert!(rss.abs_diff(kernel) < kernel / 2, "{rss} {kernel}");
    assert!(worker.cpu.is_some_and(|cpu| (0.0..60.0).contains(&cpu)), "{worker:?}");
    assert!(worker.start_since < 60, "{worker:?}");
    fpmd.finish();
}
