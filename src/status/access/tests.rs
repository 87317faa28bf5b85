//! Lines of the access log against php-fpm's, and under hostile input.

use proptest::prelude::*;

use super::*;

/// What php-fpm suggests, with the query.
const COMMON: &str = "%R - %u %t \"%m %r%Q%q\" %s";

/// Set and unset parameters.
fn param<'a>(name: &str) -> Option<&'a [u8]> {
    match name {
        "REQUEST_URI" => Some(b"/a.php/x?a=1&b"),
        "EVIL" => Some(b"x\"\n- - \"GET /admin\" 200 \\ \xff"),
        _ => None,
    }
}

fn entry<'a>() -> Entry<'a> {
    let stamp = Stamp { seconds: 1_795_174_244, micros: 5, offset: 0 };
    Entry {
        pool: "www",
        pid: Pid::new(391),
        master: Pid::new(387).unwrap(),
        slot: Some(SlotId(3)),
        generation: Some(Generation(2)),
        peer: Some("127.0.0.1".parse().unwrap()),
        method: b"POST",
        uri: b"/a.php?a=1&b",
        query: b"a=1&b",
        script: b"/srv/a.php",
        user: b"a",
        content_length: 12,
        param: &param,
        head:
            b"X-Foo: bar baz\r\ncontent-type:text/html; charset=UTF-8\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n",
        status: 404,
        outcome: "answered",
        start: stamp,
        end: Stamp { seconds: stamp.seconds + 1, ..stamp },
        duration: Duration::from_micros(20_602),
        queue_wait: Duration::from_micros(1_234_567),
        bytes_in: 12,
        bytes_out: 2,
        retries: 1,
        usage: Some(Usage {
            user: Duration::from_millis(10),
            system: Duration::from_micros(301),
            memory: 2_097_152,
        }),
    }
}

fn line(format: &str, entry: &Entry<'_>) -> String {
    let mut out = b"before\n".to_vec();
    Format::parse(format).unwrap().write(entry, &mut out);
    let line = out.strip_prefix(b"before\n").unwrap().strip_suffix(b"\n").unwrap();
    String::from_utf8(line.to_vec()).unwrap()
}

/// What php-fpm 8.2 wrote for such a request, where it escapes nothing.
#[test]
fn each_letter_has_the_value_that_it_has_in_php_fpm() {
    for (format, wanted) in [
        ("%d %{seconds}d %{}d", "0.020 0.020 0.020"),
        ("%{milliseconds}d %{milli}d", "20.602 20.602"),
        ("%{microseconds}d %{micro}d", "20602 20602"),
        ("%C %{total}C %{user}C %{system}C", "50.00 50.00 48.54 1.46"),
        ("%M %{bytes}M %{kilo}M %{megabytes}M", "2097152 2097152 2048 2"),
        ("\"%{REQUEST_URI}e\" %{NOPE}e", "\"/a.php/x?a=1&b\" -"),
        ("\"%{X-Foo}o\" %{x-nope}o %{set-cookie}o", "\"bar baz\" - a"),
        ("\"%{Content-Type}o\"", "\"text/html; charset=UTF-8\""),
        ("%f %l %m %n %p %P %R %s %u %%", "/srv/a.php 12 POST www 391 387 127.0.0.1 404 a %"),
        ("%r%Q%q", "/a.php?a=1&b"),
        ("%t %T %{%s}t %{%H:%M}T", "20/Nov/2026:11:30:44 +0000 20/Nov/2026:11:30:45 +0000 1795174244 11:30"),
        ("%w %{milli}w %{micro}w %I %O %y %x %S %g", "1.234 1234.567 1234567 12 2 1 answered 3 2"),
        (COMMON, "127.0.0.1 - a 20/Nov/2026:11:30:44 +0000 \"POST /a.php?a=1&b\" 404"),
        ("", ""),
        ("100%%{x}", "100%{x}"),
    ] {
        assert_eq!(line(format, &entry()), wanted, "{format}");
    }
}

#[test]
fn what_is_not_there_is_a_dash() {
    let nothing = Entry {
        pid: None,
        slot: None,
        generation: None,
        peer: None,
        method: b"",
        uri: b"",
        query: b"",
        script: b"",
        user: b"",
        head: b"",
        status: 0,
        duration: Duration::ZERO,
        usage: None,
        ..entry()
    };
    assert_eq!(line(COMMON, &nothing), "- - - 20/Nov/2026:11:30:44 +0000 \"- -\" 000");
    assert_eq!(line("%p %S %g %f %u %C %M %{X}o [%q%Q]", &nothing), "- - - - - - - - []");
    let usage = Entry { duration: Duration::ZERO, ..entry() };
    assert_eq!(line("%C", &usage), "0.00");
}

#[test]
fn a_wrong_format_says_what_is_wrong() {
    for (format, fault) in [
        ("%z", "'%z' is no letter of an access format"),
        ("%\u{202e}", "'%\\u{202e}' is no letter of an access format"),
        ("%{foo}z", "'%z' is no letter of an access format"),
        ("%{a}s", "%s has no modifier, so no '{a}'"),
        ("%{a}%", "'%%' is no letter of an access format"),
        ("%{foo}d", "%d has 'seconds', 'milliseconds' and 'microseconds', not 'foo'"),
        ("%{foo}C", "%C has 'user', 'system' and 'total', not 'foo'"),
        ("%{foo}M", "%M has 'bytes', 'kilobytes' and 'megabytes', not 'foo'"),
        ("%e", "%e needs the name of a parameter: %{REMOTE_ADDR}e"),
        ("%{}o", "%o needs the name of a header: %{Content-Type}o"),
        ("%{%Q}t", "%t: '%Q' is no conversion of a time"),
        ("%{%Y", "a '%{' of the access format has no '}'"),
        ("%s %", "an access format does not end in '%'; a percent sign is '%%'"),
        ("%{x}", "an access format does not end in '%'; a percent sign is '%%'"),
        ("a\nb", "an access format is one line of text, without '\\n'"),
    ] {
        assert_eq!(Format::parse(format).unwrap_err(), fault, "{format}");
    }
}

#[test]
fn a_format_says_what_it_needs() {
    let format = Format::parse("%{A}e %s %{B-C}o %{D}e").unwrap();
    assert_eq!(format.wanted_params().collect::<Vec<_>>(), ["A", "D"]);
    assert_eq!(format.wanted_headers().collect::<Vec<_>>(), ["B-C"]);
    assert!(!format.wants_usage());
    assert!(Format::parse("%{kilo}M").unwrap().wants_usage() && Format::parse("%C").unwrap().wants_usage());
    assert!(!Format::parse("json").unwrap().wants_usage());
}

#[test]
fn foreign_text_is_escaped_as_nginx_does_it() {
    assert_eq!(
        line("\"%{EVIL}e\" %{EVIL}e", &entry()),
        "\"x\\x22\\x0A- - \\x22GET /admin\\x22 200 \\x5C \\xFF\" \
         x\\x22\\x0A-\\x20-\\x20\\x22GET\\x20/admin\\x22\\x20200\\x20\\x5C\\x20\\xFF"
    );
    // Quotes that the format opened and closed again.
    assert_eq!(line("\"%m\" %u \"%%%u\"", &Entry { user: b"a b", ..entry() }), "\"POST\" a\\x20b \"%a b\"");
}

#[test]
fn what_is_too_long_is_cut_between_escapes() {
    let long = vec![b'\n'; 5000];
    let cut = line("\"%u\" %s", &Entry { user: &long, ..entry() });
    assert_eq!(cut, format!("\"{}...\" 404", "\\x0A".repeat(512)));
    let many = "%u".repeat(100);
    let mut out = Vec::new();
    Format::parse(&many).unwrap().write(&Entry { user: &long, ..entry() }, &mut out);
    assert!(out.len() == MAX_LINE && out.ends_with(b"...\n"), "{}", out.len());
}

#[test]
fn json_has_every_field() {
    let value: serde_json::Value = serde_json::from_str(&line("json", &entry())).unwrap();
    let wanted = serde_json::json!({
        "time": "2026-11-20T11:30:44.000005+00:00", "end": "2026-11-20T11:30:45.000005+00:00",
        "pool": "www", "pid": 391, "slot": 3, "generation": 2, "peer": "127.0.0.1",
        "method": "POST", "uri": "/a.php", "query": "a=1&b", "script": "/srv/a.php", "user": "a",
        "status": 404, "outcome": "answered", "duration": 0.020602, "queue_wait": 1.234567,
        "content_length": 12, "bytes_in": 12, "bytes_out": 2, "retries": 1,
        "cpu_user": 0.01, "cpu_system": 0.000301, "memory": 2_097_152,
    });
    assert_eq!(value, wanted);
    let unknown = Entry { pid: None, slot: None, peer: None, usage: None, ..entry() };
    let value: serde_json::Value = serde_json::from_str(&line("json", &unknown)).unwrap();
    assert!(value["pid"].is_null() && value["peer"].is_null() && value.get("memory").is_none());
}

proptest! {
    #[test]
    fn no_request_forges_a_line_or_a_field(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 6),
        micros: u64, status: u16, seconds: i64, offset: i32,
    ) {
        let stamp = Stamp { seconds, micros: 0, offset };
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let found = |name: &str| (name == "E").then_some(texts[5]);
        let (method, uri, query, script, user) = (texts[0], texts[1], texts[2], texts[3], texts[4]);
        let duration = Duration::from_micros(micros);
        let entry = Entry {
            method, uri, query, script, user, param: &found, head: texts[5], status, duration, start: stamp, end: stamp, ..entry()
        };
        let text = line("%u %m %f %{E}e %{%Y}t \"%r%Q%q\" %s %C %{a}o", &entry);
        prop_assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        prop_assert_eq!(text.matches('"').count(), 2);
        let outside = text.split('"').step_by(2).collect::<String>();
        prop_assert_eq!(outside.matches(' ').count(), 8, "{}", text);

        let text = line("json", &entry);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert!(!text.contains(char::is_control));
        prop_assert_eq!(value["user"].as_str(), Some(&*String::from_utf8_lossy(user)));
    }

    #[test]
    fn no_line_is_longer_than_it_may_be(byte: u8, count in 0usize..20_000, letters in "(%[fmrqu]| |\"){0,40}") {
        let long = vec![byte; count];
        let entry = Entry { method: &long, uri: &long, query: &long, script: &long, user: &long, ..entry() };
        for format in [letters.as_str(), "json"] {
            let text = line(format, &entry);
            prop_assert!(text.len() < MAX_LINE, "{}", text.len());
            prop_assert!(format != "json" || serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }

    #[test]
    fn any_format_is_read_or_refused(format in "(%(\\{[a-zA-Z%}]{0,5}\\}?)?[ -~é]?|.){0,12}") {
        match Format::parse(&format) {
            Ok(read) => {
                let mut out = Vec::new();
                read.write(&entry(), &mut out);
                prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            }
            Err(fault) => prop_assert!(!fault.contains(['\n', '\u{1b}']), "{fault}"),
        }
    }
}
