//! The fuzz targets on seeded input, without a fuzzer: good samples, changed, cut and put together at random. Seconds
//! of each by default; `FPMD_TEST_HOSTILE=60` asks for so many seconds.
#![allow(missing_docs, reason = "the names of tests are sentences")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::time::{Duration, Instant};

use fpmd::ids::{PoolName, SlotId, WorkerId};
use fpmd::wire::control::{self, Command, Extent, Reply, Request};
use fpmd::wire::frame;
use fpmd::wire::gateway::{FromGateway, ToGateway};
use random::Random;

#[path = "suite/support/bytes.rs"]
mod random;
#[path = "fuzz/targets.rs"]
mod targets;

/// Runs `target` on offspring of `samples`; a failure names the input.
fn try_all(target: fn(&[u8]), samples: &[&[u8]]) {
    let knob = std::env::var("FPMD_TEST_HOSTILE").ok();
    let span = knob.map_or(Duration::from_secs(1), |text| {
        Duration::from_secs(text.parse().expect("FPMD_TEST_HOSTILE is a number of seconds"))
    });
    samples.iter().for_each(|sample| target(sample));
    let (mut random, since) = (Random::new(1), Instant::now());
    while since.elapsed() < span {
        let input = offspring(samples, &mut random);
        if std::panic::catch_unwind(|| target(&input)).is_err() {
            panic!("input: {:?}", input.escape_ascii().to_string());
        }
    }
}

/// Up to four samples one after the other, changed in up to eight places.
fn offspring(samples: &[&[u8]], random: &mut Random) -> Vec<u8> {
    // The byte that rules the cuts, where a target cuts.
    let first = random.below(2);
    let mut input = random.bytes(first);
    for _ in 0..=random.below(4) {
        input.extend_from_slice(samples[random.below(samples.len())]);
    }
    for _ in 0..random.below(9) {
        let at = random.below(input.len());
        match random.below(5) {
            0 => input[at] = random.bytes(1)[0],
            1 => input[at] ^= 1 << random.below(8),
            2 => drop(input.remove(at)),
            3 => input.insert(at, random.bytes(1)[0]),
            _ => {
                let end = (at + random.below(40)).min(input.len());
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
        }
        if input.is_empty() {
            input.push(0);
        }
    }
    input
}

const BEGIN: &[u8] = b"\x01\x01\0\x01\0\x08\0\0\0\x01\x01\0\0\0\0\0";
const PARAMS: &[u8] = b"\x01\x04\0\x01\0\x17\x01\0\x0e\x03REQUEST_METHODGET\x02\0AB.\x01\x04\0\x01\0\0\0\0";
const STDIN: &[u8] = b"\x01\x05\0\x01\0\x05\x03\0hello...\x01\x05\0\x01\0\0\0\0";
const VALUES: &[u8] = b"\x01\x09\0\0\0\x10\0\0\x0e\0FCGI_MAX_CONNS";
const STDOUT: &[u8] = b"\x01\x06\0\x01\0\x10\x02\0Status: 200\r\n\r\nA..";
const STDERR: &[u8] = b"\x01\x07\0\x01\0\x05\0\0oops\n";
const END: &[u8] = b"\x01\x03\0\x01\0\x08\x04\0\0\0\0\x07\0\0\0\0....";
const CONFIG: [&[u8]; 4] = [
    b"[global]\nlog = \"stderr\"\nprocess_control_timeout = \"5s\"\n",
    b"[pool.www]\nlisten = [\"/run/www.sock\", \"127.0.0.1:9000\"]\ncommand = [\"/usr/bin/php-cgi\"]\nuser = \"www-data\"\n",
    b"env = { A = \"b\\\"\\n\" }\nlisten_mode = \"0660\"\nallowed_clients = [\"10.0.0.0/8\"]\nstop_timeout = 3\n",
    b"[pool.www.pm]\nmode = \"static\"\nmax_children = 4\nmax_requests = 500\n",
];

#[test]
fn records() {
    try_all(targets::records, &[BEGIN, PARAMS, STDIN, STDOUT, END]);
}

#[test]
fn pairs() {
    try_all(targets::pairs, &[b"\x0e\x03REQUEST_METHODGET", b"\x01\x80\0\0\x03Axyz", b"\0\0"]);
}

#[test]
fn heads_of_responses() {
    try_all(
        targets::head,
        &[b"Status: 404 Not Found\r\n", b"Content-Type: text/plain\n", b"\r\n", b"\nbody"],
    );
}

#[test]
fn a_whole_session() {
    try_all(targets::session, &[BEGIN, PARAMS, STDIN, VALUES, END]);
}

#[test]
fn clients_of_a_gateway() {
    try_all(targets::gateway, &[BEGIN, PARAMS, STDIN, VALUES, END]);
}

#[test]
fn answers_of_workers() {
    try_all(targets::relay, &[STDOUT, STDERR, END, VALUES]);
}

#[test]
fn control_messages() {
    let name = || PoolName::new("www").unwrap();
    let commands = [
        Command::Status { pool: Some(name()) },
        Command::Reload { pools: vec![name(), name()], extent: Extent::Every },
        Command::Scale { pool: name(), workers: 3 },
    ];
    let lines = commands.map(|command| frame::encode(&Request { version: control::VERSION, command }));
    let replies =
        [Reply::Done("yes".into()), Reply::Refused("\"no\"\n".into())].map(|reply| frame::encode(&reply));
    let samples: Vec<&[u8]> = lines.iter().chain(&replies).map(Vec::as_slice).collect();
    try_all(targets::frames, &samples);
}

#[test]
fn packets_between_master_and_gateway() {
    let (slot, worker) = (SlotId(1), WorkerId(2));
    let orders = [
        ToGateway::Drain { slot, worker },
        ToGateway::Slot { slot, path: "/run/1.sock".into() },
        ToGateway::Stop { within: Duration::from_millis(1500) },
    ];
    let reports = [
        FromGateway::Terminate { slot, worker, reason: "it \"hangs\"".into() },
        FromGateway::Report { number: 7, report: Box::default() },
    ];
    let orders = orders.map(|order| serde_json::to_vec(&order).unwrap());
    let reports = reports.map(|report| serde_json::to_vec(&report).unwrap());
    let samples: Vec<&[u8]> = orders.iter().chain(&reports).map(Vec::as_slice).collect();
    try_all(targets::packets, &samples);
}

#[test]
fn configurations() {
    try_all(targets::config, &CONFIG);
}
