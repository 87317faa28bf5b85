//! The client's side of the protocol, and the rules that it may break (FastCGI 1.0, sections 3 to 6).

use std::io::Write;
use std::net::Shutdown;

use fpmd::fcgi::body::{BeginRequest, Connection, ProtocolStatus, Role};
use fpmd::fcgi::encode;
use fpmd::fcgi::pairs::Pairs;
use fpmd::fcgi::record::{Header, RecordType, RequestId};

use crate::peer::{Reader, Visit, ask, echo, get, post, request};
use crate::stage::{Stage, settings};

/// A pool with one scripted worker.
fn pool() -> Stage {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    stage
}

fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let kind = RecordType::from_wire(kind);
    let header = Header { kind, request: RequestId(id), content: content.len() as u16, padding };
    [&header.encode()[..], content, &vec![0; usize::from(padding)]].concat()
}

fn begin(id: u16, role: Role, connection: Connection) -> Vec<u8> {
    let mut out = Vec::new();
    encode::begin_request(&mut out, RequestId(id), &BeginRequest { role, connection });
    out
}

#[test]
fn values_and_unknown_types_are_answered_by_the_gateway() {
    let stage = pool();
    let mut stream = stage.connect();
    let names: [(&[u8], &[u8]); 3] = [(b"FCGI_MPXS_CONNS", b""), (b"FCGI_MAX_REQS", b""), (b"X", b"")];
    let mut bytes = Vec::new();
    encode::values(&mut bytes, RecordType::GetValues, names).unwrap();
    bytes.extend(record(77, 0, b"whatever", 3));
    stream.write_all(&bytes).unwrap();
    let mut reader = Reader::new(stream);
    let values = reader.record().unwrap().unwrap();
    assert_eq!(values.kind, RecordType::GetValuesResult);
    let values: Vec<_> = Pairs::new(&values.content).map(Result::unwrap).collect();
    assert_eq!(values.len(), 2, "{values:?}");
    assert!(values.contains(&(b"FCGI_MPXS_CONNS", b"1")));
    let unknown = reader.record().unwrap().unwrap();
    assert_eq!((unknown.kind, unknown.content[0]), (RecordType::UnknownType, 77));
}

#[test]
fn an_unknown_role_is_refused_and_the_connection_goes_on() {
    let stage = pool();
    let mut stream = stage.connect();
    let mut bytes = begin(5, Role::Other(9), Connection::Keep);
    bytes.extend(record(4, 5, b"", 0));
    bytes.extend(request(6, Connection::Close, &get("/six"), b""));
    stream.write_all(&bytes).unwrap();
    let mut reader = Reader::new(stream);
    let refused = reader.answer(5);
    assert_eq!(refused.end.unwrap().protocol_status, ProtocolStatus::UnknownRole);
    assert_eq!(reader.answer(6).body(), b"/six ");
}

#[test]
fn a_client_that_breaks_a_rule_is_cut_off_with_one_line() {
    let stage = pool();
    let mut version = record(1, 1, &[0; 8], 0);
    version[0] = 2;
    let params =
        [begin(1, Role::Responder, Connection::Keep), record(4, 1, &[9, 9, b'x'], 0), record(4, 1, b"", 0)];
    let early = [begin(1, Role::Responder, Connection::Keep), record(5, 1, b"x", 0)];
    let twice = [begin(1, Role::Responder, Connection::Keep), begin(1, Role::Responder, Connection::Keep)];
    let cases: [(Vec<u8>, &str); 6] = [
        (version, "its version is 2"),
        (record(1, 1, &[0; 7], 0), "its body has 7 bytes"),
        (params.concat(), "longer than its record"),
        (early.concat(), "a STDIN record is out of order"),
        (twice.concat(), "one with this number has not ended"),
        (record(6, 1, b"x", 0), "a STDOUT record is out of order"),
    ];
    for (bytes, line) in cases {
        let mut stream = stage.connect();
        stream.write_all(&bytes).unwrap();
        assert!(Reader::new(stream).record().is_ok_and(|record| record.is_none()), "{line}");
        stage.logged(line);
    }
    let closed = stage.log().matches("closed the connection from unix").count();
    assert_eq!(closed, 6, "{}", stage.log());
    assert_eq!(ask(stage.connect(), &get("/on"), b"").body(), b"/on ");
}

#[test]
fn records_may_come_byte_by_byte_and_with_any_padding() {
    let stage = pool();
    let mut bytes = begin(1, Role::Responder, Connection::Close);
    // Pairs that straddle records: php-cgi and flup could not read them so.
    let mut pairs = Vec::new();
    for (name, value) in get("/slow") {
        fpmd::fcgi::pairs::encode(&mut pairs, name.as_bytes(), value.as_bytes()).unwrap();
    }
    for (index, part) in pairs.chunks(3).enumerate() {
        bytes.extend(record(4, 1, part, index as u8 % 200));
    }
    bytes.extend(record(4, 1, b"", 255));
    for part in b"the body".chunks(2) {
        bytes.extend(record(5, 1, part, 1));
    }
    bytes.extend(record(5, 1, b"", 0));
    let mut stream = stage.connect();
    for byte in &bytes {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(Reader::new(stream).answer(1).body(), b"/slow the body");
}

#[test]
fn many_parameters_come_in_whole_pairs_and_too_long_ones_are_refused() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let long = "v".repeat(40_000);
    let mut pairs = get("/many");
    pairs.extend([("A", long.as_str()), ("B", &long), ("C", &long)]);
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        let got = visit.request().unwrap();
        visit.reply(b"\r\nok");
        got
    });
    assert_eq!(ask(stage.connect(), &pairs, b"").body(), b"ok");
    let got = worker.join().unwrap();
    assert_eq!(got.params.len(), pairs.len());
    assert_eq!(got.param("C"), long);
    assert!(got.param_records.iter().all(|length| *length <= 65_528), "{:?}", got.param_records);

    // One pair that fits into no record.
    let mut stream = stage.connect();
    let mut bytes = begin(1, Role::Responder, Connection::Close);
    let mut pair = Vec::new();
    fpmd::fcgi::pairs::encode(&mut pair, b"HTTP_X", "v".repeat(66_000).as_bytes()).unwrap();
    encode::stream(&mut bytes, RecordType::Params, RequestId(1), &pair);
    bytes.extend(record(4, 1, b"", 0));
    bytes.extend(record(5, 1, b"", 0));
    stream.write_all(&bytes).unwrap();
    assert_eq!(Reader::new(stream).answer(1).status(), 431);

    // More than a request may have in all; the client goes on sending meanwhile.
    let mut stream = stage.connect();
    let mut bytes = begin(1, Role::Responder, Connection::Close);
    let mut pairs = Vec::new();
    for _ in 0..40 {
        fpmd::fcgi::pairs::encode(&mut pairs, b"HTTP_X", long.as_bytes()).unwrap();
    }
    encode::stream(&mut bytes, RecordType::Params, RequestId(1), &pairs);
    stream.write_all(&bytes).unwrap();
    assert_eq!(Reader::new(stream).answer(1).status(), 431);
    stage.logged("its parameters exceed");
}

#[test]
fn an_authorizer_needs_no_body_and_a_filter_has_two() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        let authorizer = visit.head().unwrap();
        visit.reply(b"Status: 200\r\nVariable-A: b\r\n\r\n");
        let mut filter = visit.head().unwrap();
        visit.stream_into(RecordType::Stdin, &mut filter.stdin).unwrap();
        visit.stream_into(RecordType::Data, &mut filter.data).unwrap();
        visit.reply(b"\r\nfiltered");
        (authorizer.begin.role, filter.begin.role, filter.stdin, filter.data)
    });
    let mut stream = stage.connect();
    let mut reader = Reader::new(stream.try_clone().unwrap());
    let pairs = get("/auth").into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let mut bytes = begin(3, Role::Authorizer, Connection::Keep);
    encode::params(&mut bytes, RequestId(3), pairs.clone()).unwrap();
    stream.write_all(&bytes).unwrap();
    assert!(reader.answer(3).text().contains("Variable-A: b"));
    let mut bytes = begin(4, Role::Filter, Connection::Close);
    encode::params(&mut bytes, RequestId(4), pairs).unwrap();
    bytes.extend([record(5, 4, b"stdin", 0), record(5, 4, b"", 0)].concat());
    bytes.extend([record(8, 4, &[b'd'; 70], 0), record(8, 4, b"", 0)].concat());
    stream.write_all(&bytes).unwrap();
    assert_eq!(reader.answer(4).body(), b"filtered");
    let (first, second, stdin, data) = worker.join().unwrap();
    assert_eq!((first, second, stdin.as_slice()), (Role::Authorizer, Role::Filter, &b"stdin"[..]));
    assert_eq!(data, [b'd'; 70]);
}

#[test]
fn a_client_may_stop_sending_and_still_listen() {
    let stage = pool();
    let mut stream = stage.connect();
    stream.write_all(&request(1, Connection::Keep, &post("/half", "4"), b"body")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reader = Reader::new(stream);
    assert_eq!(reader.answer(1).body(), b"/half body");
    assert!(reader.record().unwrap().is_none());
}

#[test]
fn records_of_unknown_requests_are_ignored() {
    let stage = pool();
    let mut stream = stage.connect();
    let stray = [record(4, 9, b"x", 0), record(5, 9, b"x", 0), record(2, 9, b"", 0), record(8, 9, b"", 0)];
    stream.write_all(&stray.concat()).unwrap();
    stream.write_all(&request(1, Connection::Close, &get("/x"), b"")).unwrap();
    assert_eq!(Reader::new(stream).answer(1).body(), b"/x ");
}
