//! One request, many requests, kept connections on both sides.

use std::io::Write;

use fpmd::fcgi::body::Connection;

use crate::peer::{Reader, ask, echo, get, post, request};
use crate::stage::{Stage, settings};

#[test]
fn a_request_goes_to_a_worker_and_its_answer_comes_back() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let answer = ask(stage.connect(), &get("/a"), b"");
    assert_eq!((answer.status(), answer.body()), (200, &b"/a "[..]));
    assert_eq!(answer.end.unwrap().app_status, 0);
    let report = stage.report();
    assert_eq!((report.accepted, report.connections, report.load.idle), (1, 0, 1));
    assert_eq!((report.workers[0].requests, report.workers[0].state.as_str()), (1, "Idle"));
}

#[test]
fn bodies_of_every_size_come_through() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    for size in [0, 1, 8_000, 65_527, 65_528, 65_535, 65_536, 1_000_000, 20_000_000] {
        let body: Vec<u8> = (0..size).map(|index| (index * 7 % 251) as u8).collect();
        let answer = ask(stage.connect(), &post("/b", &size.to_string()), &body);
        assert!(answer.body()[3..] == body, "{size} bytes came back as {}", answer.body().len() - 3);
    }
    assert_eq!(stage.report().broken, 0);
}

#[test]
fn a_client_that_keeps_its_connection_is_served_again() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let mut stream = stage.connect();
    let mut reader = Reader::new(stream.try_clone().unwrap());
    for round in 0..50 {
        let path = format!("/{round}");
        stream.write_all(&request(1, Connection::Keep, &get(&path), b"")).unwrap();
        assert_eq!(reader.answer(1).body(), format!("{path} ").as_bytes());
    }
    stream.write_all(&request(1, Connection::Close, &get("/last"), b"")).unwrap();
    assert_eq!(reader.answer(1).body(), b"/last ");
    assert!(reader.record().unwrap().is_none(), "the gateway closes after a request that asks for it");
    assert_eq!(stage.report().workers[0].requests, 51);
}

#[test]
fn several_requests_share_a_connection() {
    let mut stage = Stage::new(&settings());
    for _ in 0..3 {
        let slot = stage.slot();
        echo(stage.listener(slot));
        stage.claim(slot, 1);
    }
    let mut stream = stage.connect();
    let mut bytes = Vec::new();
    for id in 1..=20 {
        bytes.extend(request(id, Connection::Keep, &get(&format!("/{id}")), &[b'x'; 100]));
    }
    stream.write_all(&bytes).unwrap();
    let mut reader = Reader::new(stream);
    let mut answers = std::collections::BTreeMap::new();
    while answers.values().filter(|answer: &&crate::peer::Answer| answer.end.is_some()).count() < 20 {
        let record = reader.record().unwrap().unwrap();
        crate::peer::take(answers.entry(record.id).or_default(), &record);
    }
    for (id, answer) in answers {
        assert_eq!(answer.body(), [format!("/{id} ").as_bytes(), &[b'x'; 100]].concat());
    }
}
