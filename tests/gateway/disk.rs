//! A file system without room for what is buffered in files: workers and clients wait for each other, and nobody else does.

use std::io::Write;
use std::time::Duration;

use fpmd::fcgi::body::Connection;

use crate::peer::{Reader, Visit, ask, echo, get, open_request, post, request};
use crate::stage::{Stage, settings};

const DISK: u32 = 4 * 1024 * 1024;

/// An answer that fits neither there nor into socket buffers, whatever they are.
const LARGE: usize = 24 * 1024 * 1024;

fn large() -> Vec<u8> {
    (0..LARGE as u32).map(|index| (index % 251) as u8).collect()
}

/// Lines of the log that say that something has no room.
fn told(stage: &Stage) -> usize {
    stage.log().lines().filter(|line| line.contains("cannot keep")).count()
}

#[test]
fn answers_without_room_wait_for_their_clients_and_nobody_else_does() {
    let Some(mut stage) = Stage::on_a_small_disk(&settings(), DISK) else { return };
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (_, listener) = stage.seat();
        workers.push(std::thread::spawn(move || {
            let mut visit = Visit::accept(&listener);
            visit.request().unwrap();
            visit.reply(&[b"\r\n".as_slice(), &large()].concat());
        }));
    }
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let mut client = stage.connect();
            client.write_all(&request(1, Connection::Close, &get("/large"), b"")).unwrap();
            client
        })
        .collect();
    stage.logged("its worker waits for its client");
    assert!(workers.iter().any(|worker| !worker.is_finished()), "one of them has to wait");
    // A third one is as quick as ever, and the pages are.
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    for number in 0..20 {
        let path = format!("/{number}");
        assert_eq!(ask(stage.connect(), &get(&path), b"").body(), format!("{path} ").as_bytes());
    }
    for client in slow {
        let answer = Reader::new(client).answer(1);
        assert!(answer.end.is_some() && answer.body() == large());
    }
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!((1..10).contains(&told(&stage)), "{}", stage.log());
    let report = stage.until("rest", |report| report.connections == 0);
    assert_eq!((report.answered, report.broken, report.aborted), (22, 0, 0));
}

#[test]
fn bodies_without_room_are_streamed_or_refused_and_the_room_is_free_again() {
    let Some(mut stage) = Stage::on_a_small_disk(&settings(), DISK) else { return };
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let (body, length) = (large(), LARGE.to_string());
    let streamed = ask(stage.connect(), &post("/", &length), &body);
    assert!(streamed.end.is_some() && streamed.body()[2..] == body);
    stage.logged("it is streamed");
    stage.until("rest", |report| report.connections == 0 && report.load.idle == 1);
    let refused = ask(stage.connect(), &post("/", ""), &body);
    assert_eq!(refused.status(), 503);
    stage.until("rest", |report| report.connections == 0);
    // What fits has its room: it would be refused like the other.
    let fits = vec![b'x'; 2 * 1024 * 1024];
    let answer = ask(stage.connect(), &post("/", ""), &fits);
    assert!(answer.end.is_some() && answer.body()[2..] == fits);
}

/// Others may want to write there as well.
#[test]
fn the_last_of_a_disk_is_left_to_others() {
    const LARGER: u32 = 64 * 1024 * 1024;
    let Some(mut stage) = Stage::on_a_small_disk(&settings(), LARGER) else { return };
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let disk = format!("/proc/{}/root{}", stage.pid(), stage.directory.join("disk").display());
    let free = || {
        let seen = nix::sys::statvfs::statvfs(disk.as_str()).unwrap();
        seen.blocks_available() * seen.fragment_size()
    };
    assert_eq!(free(), u64::from(LARGER));
    let mut clients = Vec::new();
    let piece = vec![b'x'; 1024 * 1024];
    while !stage.log().contains("cannot keep") {
        let mut client = stage.connect();
        let bytes = open_request(1, Connection::Keep, &post("/", "99999999"), &piece);
        // Once there is no room, it is not read from.
        client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = client.write_all(&bytes);
        clients.push(client);
        assert!(clients.len() < 100, "everybody had room");
    }
    stage.logged("the disk is nearly full");
    assert!(free() > u64::from(LARGER) / 40, "{}", free());
    drop(clients);
    stage.until("rest", |report| report.connections == 0);
    assert_eq!(free(), u64::from(LARGER));
}
