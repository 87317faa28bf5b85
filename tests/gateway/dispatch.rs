//! Which worker gets which request, and when: queue, generations, draining, wear, replacement, stop.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use fpmd::fcgi::body::Connection;
use fpmd::ids::SlotId;
use fpmd::policy::Wear;
use fpmd::wire::gateway::{FromGateway, Rest, Settings, TakenBack, ToGateway};

use crate::peer::{Reader, Visit, ask, echo, get, post, request};
use crate::stage::{Stage, connect, settings};

/// Sends a request without waiting for its answer.
fn send(stage: &Stage, path: &str) -> Reader<std::os::unix::net::UnixStream> {
    let mut stream = stage.connect();
    stream.write_all(&request(1, Connection::Close, &get(path), b"")).unwrap();
    Reader::new(stream)
}

#[test]
fn requests_wait_in_their_order_until_a_worker_comes() {
    // As for a pool that follows demand: no other is told of it.
    let mut stage = Stage::new(&Settings { spare: Some(0), ..settings() });
    let slot = stage.slot();
    let mut waiting = Vec::new();
    for number in 0..3 {
        waiting.push(send(&stage, &format!("/{number}")));
        stage.until("queued", |report| report.load.queued == number + 1);
    }
    let load = stage.expect("load", |message| matches!(message, FromGateway::Load(load) if load.queued > 0));
    assert!(matches!(load, FromGateway::Load(load) if load.idle == 0));
    let listener = stage.listener(slot);
    stage.claim(slot, 1);
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        let mut next = || {
            let got = visit.request().unwrap();
            visit.reply(b"\r\ndone");
            got.param("SCRIPT_NAME")
        };
        [next(), next(), next()]
    });
    for reader in &mut waiting {
        assert_eq!(reader.answer(1).body(), b"done");
    }
    assert_eq!(worker.join().unwrap(), ["/0", "/1", "/2"]);
    assert_eq!(stage.report().max_queued, 3);
}

#[test]
fn a_full_queue_and_a_long_wait_are_answered_with_503() {
    let mut settings = settings();
    settings.queue_limit = 1;
    settings.queue_timeout = Some(Duration::from_millis(150));
    let mut stage = Stage::new(&settings);
    stage.slot();
    let asked = Instant::now();
    let mut late = send(&stage, "/late");
    stage.until("queued", |report| report.load.queued == 1);
    let full = ask(stage.connect(), &get("/full"), b"");
    assert_eq!((full.status(), full.end.unwrap().app_status), (503, 0));
    assert!(full.text().contains("Retry-After: 1\r\n") && full.text().contains("Too many requests"));
    let late = late.answer(1);
    assert_eq!(late.status(), 503);
    assert!(late.text().contains("in time"));
    assert!(asked.elapsed() >= Duration::from_millis(150));
    let report = stage.report();
    assert_eq!((report.refused_full, report.refused_late, report.server_errors), (1, 1, 2));
    assert_eq!((report.load.queued, report.connections), (0, 0));
}

#[test]
fn who_leaves_the_queue_is_not_served() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    let gone = send(&stage, "/gone");
    stage.until("queued", |report| report.load.queued == 1);
    let mut stays = send(&stage, "/stays");
    // This one is watched, since it keeps its connection, and is noticed at once.
    let mut kept = stage.connect();
    kept.write_all(&request(1, Connection::Keep, &get("/kept"), b"")).unwrap();
    stage.until("queued", |report| report.load.queued == 3);
    drop(kept);
    stage.until("one left", |report| report.load.queued == 2 && report.aborted == 1);
    drop(gone);
    // Who has waited for a moment only is not asked whether it is still there.
    std::thread::sleep(Duration::from_millis(30));
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    assert_eq!(stays.answer(1).body(), b"/stays ");
    let report = stage.report();
    assert_eq!((report.aborted, report.workers[0].requests, report.load.queued), (2, 1, 0));
}

#[test]
fn an_aborted_request_ends_at_once_and_costs_its_worker_nothing_more() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    let mut stream = stage.connect();
    stream.write_all(&request(7, Connection::Keep, &get("/a"), b"")).unwrap();
    stage.until("queued", |report| report.load.queued == 1);
    let abort = [1, 2, 0, 7, 0, 0, 0, 0];
    stream.write_all(&abort).unwrap();
    let mut reader = Reader::new(stream.try_clone().unwrap());
    let end = reader.answer(7);
    assert_eq!((end.end.unwrap().app_status, end.stdout.len()), (0, 0));
    assert_eq!(stage.report().load.queued, 0);

    // A running one: its worker sees the end of its connection and is busy until it lets go of it.
    let listener = stage.listener(slot);
    stage.claim(slot, 1);
    stream.write_all(&request(8, Connection::Keep, &get("/b"), b"")).unwrap();
    let mut visit = Visit::accept(&listener);
    assert_eq!(visit.request().unwrap().param("SCRIPT_NAME"), "/b");
    stream.write_all(&[1, 2, 0, 8, 0, 0, 0, 0]).unwrap();
    assert!(reader.answer(8).end.is_some());
    let report = stage.until("finishing", |report| report.workers[0].state == "Finishing");
    assert_eq!((report.aborted, report.load.idle, report.load.busy), (2, 0, 1));
    assert!(visit.request().is_none(), "the worker sees that nobody waits");
    drop(visit);
    stage.until("idle", |report| report.workers[0].state == "Idle" && report.load.idle == 1);
}

#[test]
fn the_newest_generation_comes_first() {
    let mut stage = Stage::new(&settings());
    let (old, new) = (stage.slot(), stage.slot());
    stage.claim(old, 1);
    stage.claim(new, 2);
    echo(stage.listener(new));
    for _ in 0..3 {
        ask(stage.connect(), &get("/"), b"");
    }
    let report = stage.report();
    assert_eq!([report.workers[0].requests, report.workers[1].requests], [0, 3]);
}

#[test]
fn a_worker_serves_as_many_at_once_as_it_can() {
    let mut settings = settings();
    settings.concurrency = 2;
    let mut stage = Stage::new(&settings);
    let (_, listener) = stage.seat();
    let mut readers: Vec<_> = (0..3).map(|number| send(&stage, &format!("/{number}"))).collect();
    let (mut first, mut second) = (Visit::accept(&listener), Visit::accept(&listener));
    assert!(first.request().is_some() && second.request().is_some());
    let report = stage.until("one waits", |report| report.load.queued == 1);
    assert_eq!((report.workers[0].current, report.load.idle), (2, 0));
    second.reply(b"\r\nsecond");
    assert!(second.request().is_some(), "the third comes on the connection that is free");
    second.reply(b"\r\nthird");
    first.reply(b"\r\nfirst");
    let mut bodies: Vec<_> = readers.iter_mut().map(|reader| reader.answer(1).body().to_vec()).collect();
    bodies.sort();
    assert_eq!(bodies, [&b"first"[..], b"second", b"third"]);
}

#[test]
fn a_drained_worker_gets_no_more_and_its_connection_is_closed() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    let listener = stage.listener(slot);
    let worker = stage.claim(slot, 1);
    let mut first = send(&stage, "/first");
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    stage.say(&ToGateway::Drain { slot: SlotId(0), worker });
    let mut second = send(&stage, "/second");
    let report = stage.until("the second waits", |report| report.load.queued == 1);
    assert_eq!(report.workers[0].current, 1);
    visit.reply(b"\r\nfirst");
    assert_eq!(first.answer(1).body(), b"first");
    let drained = stage.expect("Drained", |message| matches!(message, FromGateway::Drained { .. }));
    assert_eq!(drained, FromGateway::Drained { slot: SlotId(0), worker });
    assert!(visit.request().is_none(), "the connection is closed");
    // Again, and for an idle one: harmless.
    stage.say(&ToGateway::Drain { slot: SlotId(0), worker });
    stage.expect("Drained", |message| matches!(message, FromGateway::Drained { .. }));
    drop(visit);
    stage.bury(slot);
    stage.claim(slot, 1);
    echo(listener);
    assert_eq!(second.answer(1).body(), b"/second ");
}

#[test]
fn a_worn_worker_is_told_of_once_and_exactly() {
    let mut settings = settings();
    settings.max_requests = 3;
    let mut stage = Stage::new(&settings);
    let slot = stage.slot();
    echo(stage.listener(slot));
    let worker = stage.claim(slot, 1);
    for _ in 0..3 {
        ask(stage.connect(), &get("/"), b"");
    }
    let worn = stage.expect("Worn", |message| matches!(message, FromGateway::Worn { .. }));
    assert_eq!(worn, FromGateway::Worn { slot: SlotId(0), worker, requests: 3, wear: Wear::Requests });
    let mut fourth = send(&stage, "/fourth");
    stage.until("it waits", |report| report.load.queued == 1 && report.load.idle == 0);
    stage.say(&ToGateway::Drain { slot: SlotId(0), worker });
    stage.expect("Drained", |message| matches!(message, FromGateway::Drained { .. }));
    stage.bury(slot);
    stage.claim(slot, 1);
    assert_eq!(fourth.answer(1).body(), b"/fourth ");
}

/// A reload does not need to exchange workers for it.
#[test]
fn workers_that_run_wear_out_by_new_settings_too() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    let worker = stage.claim(slot, 1);
    for _ in 0..5 {
        ask(stage.connect(), &get("/"), b"");
    }
    for (max_requests, idle) in [(7, 1), (0, 1), (4, 0)] {
        let door = stage.directory.join(format!("door-{max_requests}"));
        let listener = UnixListener::bind(&door).unwrap();
        stage.configure(&Settings { max_requests, ..settings() }, &[listener.as_fd()]);
        ask(connect(&door), &get("/"), b"");
        stage.until("what is left of it", |report| report.load.busy == 0 && report.load.idle == idle);
    }
    let worn = stage.expect("Worn", |message| matches!(message, FromGateway::Worn { .. }));
    assert_eq!(worn, FromGateway::Worn { slot: SlotId(0), worker, requests: 8, wear: Wear::Requests });
}

#[test]
fn a_kept_connection_is_used_again_but_not_at_once_for_what_must_not_be_repeated() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let (mut served, mut connection) = (Vec::new(), 0);
        while served.len() < 9 {
            let mut visit = Visit::accept(&listener);
            while let Some(got) = visit.request() {
                visit.reply(b"\r\nok");
                served.push((connection, got.begin.connection));
                if served.len() == 9 {
                    break;
                }
            }
            connection += 1;
        }
        served
    });
    for _ in 0..5 {
        ask(stage.connect(), &get("/"), b"");
    }
    // At once after another: on a connection of its own.
    let mut stream = stage.connect();
    let both =
        [request(1, Connection::Keep, &get("/"), b""), request(2, Connection::Close, &post("/", "1"), b"x")];
    stream.write_all(&both.concat()).unwrap();
    let mut reader = Reader::new(stream);
    assert!(reader.answer(1).end.is_some() && reader.answer(2).end.is_some());
    // More than a worker reads at once: its connection is not kept.
    ask(stage.connect(), &post("/", "9000"), &[b'x'; 9000]);
    assert_eq!(ask(stage.connect(), &get("/"), b"").body(), b"ok");
    let served = worker.join().unwrap();
    let on: Vec<u32> = served.iter().map(|(connection, _)| *connection).collect();
    assert_eq!(on[..7], [0, 0, 0, 0, 0, 0, 1], "a POST that comes at once has its own");
    assert_eq!(served[7].1, Connection::Close, "more than a worker reads at once");
    assert!(on[8] > on[7]);
}

#[test]
fn a_request_sent_to_a_dead_worker_is_served_by_its_replacement() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    stage.claim(slot, 1);
    let mut reader = send(&stage, "/survives");
    stage.until("running", |report| report.workers[0].current == 1);
    stage.bury(slot); // without having accepted anything
    stage.claim(slot, 1);
    echo(stage.listener(slot));
    assert_eq!(reader.answer(1).body(), b"/survives ");
    assert_eq!(stage.report().retried, 0);
}

#[test]
fn a_request_that_a_late_master_has_taken_back_is_served_all_the_same() {
    let mut stage = Stage::new(&settings());
    let (slot, listener) = stage.seat();
    let mut first = send(&stage, "/first");
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    visit.reply(b"\r\none");
    first.answer(1);
    let mut second = send(&stage, "/second");
    let asked = stage.expect("TakeBack", |message| matches!(message, FromGateway::TakeBack { .. }));
    let FromGateway::TakeBack { slot: its, worker, kept: Some(_), until: Some(_) } = asked else {
        panic!("{asked:?}")
    };
    assert_eq!(its, SlotId(slot as u32));
    // The worker has begun with that one, as the master sees it; and then the master takes it nevertheless.
    stage.say(&ToGateway::TakenBack { slot: its, worker, outcome: TakenBack::Begun });
    visit.request().unwrap();
    stage.say(&ToGateway::TakenBack { slot: its, worker, outcome: TakenBack::Taken });
    stage.until("taken back", |report| report.taken_back == 1);
    stage.expect("Look", |message| matches!(message, FromGateway::Look { .. }));
    stage.say(&ToGateway::Rest { slot: its, worker, rest: Rest::Waiting });
    let mut again = Visit::accept(&listener);
    assert_eq!(again.request().unwrap().param("SCRIPT_NAME"), "/second");
    again.reply(b"\r\ntwo");
    assert_eq!(second.answer(1).body(), b"two");
}

#[test]
fn a_worker_that_is_busy_from_an_earlier_gateway_is_waited_for() {
    let mut stage = Stage::new(&settings());
    let (first, second) = (stage.slot(), stage.slot());
    let listener = stage.listener(first);
    // What an earlier gateway left behind: a connection that the worker holds, and on which nobody is any more.
    drop(std::os::unix::net::UnixStream::connect(stage.path(first)).unwrap());
    let visit = Visit::accept(&listener);
    stage.claim(first, 1);
    let report = stage.until("finishing", |report| report.workers.len() == 1);
    assert_eq!((report.workers[0].state.as_str(), report.load.idle), ("Finishing", 0));
    echo(stage.listener(second));
    stage.claim(second, 1);
    assert_eq!(ask(stage.connect(), &get("/x"), b"").body(), b"/x ");
    drop(visit);
    stage.until("idle", |report| report.load.idle == 2);
}

#[test]
fn a_slot_that_closes_gives_its_request_back() {
    let mut stage = Stage::new(&settings());
    let (first, second) = (stage.slot(), stage.slot());
    stage.claim(first, 2);
    let mut reader = send(&stage, "/moves");
    stage.until("running", |report| report.workers[0].current == 1);
    echo(stage.listener(second));
    stage.claim(second, 1);
    stage.say(&ToGateway::SlotGone { slot: SlotId(0) });
    assert_eq!(reader.answer(1).body(), b"/moves ");
    assert_eq!(stage.report().workers.len(), 1);
}

#[test]
fn a_slot_that_nobody_listens_on_holds_nobody_up() {
    let mut stage = Stage::new(&settings());
    let (broken, good) = (stage.slot(), stage.slot());
    std::fs::remove_file(stage.path(broken)).unwrap();
    stage.claim(broken, 2);
    echo(stage.listener(good));
    stage.claim(good, 1);
    assert_eq!(ask(stage.connect(), &get("/x"), b"").body(), b"/x ");
    stage.logged("cannot connect to a worker");
}

#[test]
fn a_stop_serves_what_waits_and_then_tells() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    let idle = stage.connect();
    let mut waiting = send(&stage, "/waits");
    stage.until("queued", |report| report.load.queued == 1 && report.connections == 2);
    stage.say(&ToGateway::Stop { within: Duration::from_secs(10) });
    assert!(Reader::new(idle).record().unwrap().is_none(), "who has nothing to wait for is let go");
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    assert_eq!(waiting.answer(1).body(), b"/waits ");
    stage.expect("QueueServed", |message| matches!(message, FromGateway::QueueServed));
    stage.say(&ToGateway::Shut);
    stage.expect("Stopped", |message| matches!(message, FromGateway::Stopped));
    assert!(stage.ended().success());
}

#[test]
fn a_stop_that_takes_too_long_is_told_to_those_who_wait() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let mut runs = send(&stage, "/runs");
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    let mut waiting = send(&stage, "/waits");
    stage.until("queued", |report| report.load.queued == 1);
    stage.say(&ToGateway::Stop { within: Duration::from_millis(50) });
    assert_eq!(waiting.answer(1).status(), 503);
    // What runs may end; what would have to be sent again is late now.
    drop(visit);
    assert_eq!(runs.answer(1).status(), 503);
    stage.expect("QueueServed", |message| matches!(message, FromGateway::QueueServed));
    stage.say(&ToGateway::Shut);
    stage.expect("Stopped", |message| matches!(message, FromGateway::Stopped));
    assert!(stage.ended().success());
}

#[test]
fn a_gateway_ends_with_its_master() {
    let mut stage = Stage::new(&settings());
    stage.leave();
    assert!(stage.ended().success());
}

#[test]
fn clients_outside_the_networks_are_turned_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = settings();
    settings.allowed_clients = vec!["192.0.2.0/24".into()];
    let mut stage = Stage::with_listener(&settings, listener.as_fd());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let ask_tcp = || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&request(1, Connection::Close, &get("/tcp"), b""));
        Reader::new(stream).answer(1)
    };
    assert!(ask_tcp().end.is_none());
    stage.logged("not in allowed_clients");
    settings.allowed_clients.push("127.0.0.0/8".into());
    stage.configure(&settings, &[listener.as_fd()]);
    assert_eq!(ask_tcp().body(), b"/tcp ");
}
