//! Framing of answers and requests, form by form. A backend's answer that is framed oddly but clearly goes on in one clean
//! form, an unclear one is 504, and nothing of a request is repaired. `deploy/README.md` has both tables; the rows there and
//! here are held equal.

use std::io;

use super::bad_backends::{Outcome, REFUSED, classify};
use crate::support::backend::{BackendConnection, OK};
use crate::support::frames::{self, DATA, END_STREAM, frame, headers};
use crate::support::http2::{Http2, request};
use crate::support::{Answer, Backend, Proxy, Setup};

const OPERATORS: &str = include_str!("../../deploy/README.md");

/// The outcome of a row for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// Forwarded with `Content-Length: 2`.
    Length,
    /// Forwarded in chunks (HTTP/1.1), or until the end of the stream (HTTP/2).
    Chunks,
    /// Forwarded without a body; `Content-Length` is this one.
    Bodiless(Option<&'static str>),
    /// Never a whole answer to the client: 504, or an answer that is broken off.
    Refused,
    /// 504.
    GatewayError,
}

impl Passed {
    /// Returns the words of the table.
    fn words(self) -> &'static str {
        match self {
            Self::Length => "the same with `Content-Length: 2`",
            Self::Chunks => "the same in chunks",
            Self::Bodiless(Some(_)) => "the same with `Content-Length: 2`, no body",
            Self::Bodiless(None) => "the same without a length, no body",
            Self::Refused => "504, or broken off if its head was passed on",
            Self::GatewayError => "504",
        }
    }
}

/// The use of the backend's connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Reused,
    Closed,
}

/// A form of an answer.
struct Row {
    name: &'static str,
    method: &'static str,
    bytes: Vec<u8>,
    /// The backend closes the connection after these bytes.
    ends: bool,
    passed: Passed,
    after: After,
}

fn row(name: &'static str, bytes: impl Into<Vec<u8>>, passed: Passed, after: After) -> Row {
    Row { name, method: "GET", bytes: bytes.into(), ends: false, passed, after }
}

fn ending(row: Row) -> Row {
    Row { ends: true, ..row }
}

fn to_head(row: Row) -> Row {
    Row { method: "HEAD", ..row }
}

/// An answer 200 with these header lines and this body.
fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    ok("Transfer-Encoding: chunked", body)
}

fn clear_lengths() -> Vec<Row> {
    use {After::Reused, Passed::Length};
    let many: String = (0..150).map(|number| format!("Set-Cookie: c{number}=1\r\n")).collect();
    vec![
        row("a length", ok("Content-Length: 2", "ok"), Length, Reused),
        row("a list of equal lengths", ok("Content-Length: 2, 2", "ok"), Length, Reused),
        row("the same length twice", ok("Content-Length: 2\r\nContent-Length: 2", "ok"), Length, Reused),
        row("zeros before a length", ok("Content-Length: 0002", "ok"), Length, Reused),
        row("white space around a length", ok("Content-Length:  2 ", "ok"), Length, Reused),
        row("white space before a colon", ok("X-A : b\r\nContent-Length: 2", "ok"), Length, Reused),
        row("white space before the colon of a length", ok("Content-Length : 2", "ok"), Length, Reused),
        row("a header without a value", ok("X-A:\r\nContent-Length: 2", "ok"), Length, Reused),
        row("line feeds alone as ends of lines", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Length, Reused),
        row("no reason phrase", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Length, Reused),
        row(
            "an empty line before the answer",
            format!("\r\n{}", ok("Content-Length: 2", "ok")),
            Length,
            Reused,
        ),
        row("more than 100 headers", ok(&format!("{many}Content-Length: 2"), "ok"), Length, Reused),
    ]
}

fn clear_codings() -> Vec<Row> {
    use {After::Closed, After::Reused, Passed::Chunks, Passed::Length};
    let body = "2\r\nok\r\n0\r\n\r\n";
    vec![
        row("chunks", chunked(body), Chunks, Reused),
        row("`chunked` in other letters", ok("Transfer-Encoding: Chunked", body), Chunks, Reused),
        row(
            "white space before the colon of a coding",
            ok("Transfer-Encoding : chunked", body),
            Chunks,
            Reused,
        ),
        row("zeros before the size of a chunk", chunked("0002\r\nok\r\n00\r\n\r\n"), Chunks, Reused),
        row("white space after the size of a chunk", chunked("2 \r\nok\r\n0\r\n\r\n"), Chunks, Reused),
        row("an extension of a chunk", chunked("2;a=b\r\nok\r\n0\r\n\r\n"), Chunks, Reused),
        row("trailers", chunked("2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"), Chunks, Reused),
        ending(row("no length: the body ends with the connection", ok("X-A: b", "ok"), Chunks, Closed)),
        ending(row("`identity`", ok("Transfer-Encoding: identity", "ok"), Chunks, Closed)),
        row("`Connection: close`", ok("Connection: close\r\nContent-Length: 2", "ok"), Length, Closed),
        row(
            "HTTP/1.0, kept alive",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            Length,
            Closed,
        ),
        ending(row("HTTP/1.0 without a length", "HTTP/1.0 200 OK\r\n\r\nok", Chunks, Closed)),
        row("more bytes than the length", ok("Content-Length: 2", "ok and more"), Length, Closed),
        row("more bytes than the chunks", chunked("2\r\nok\r\n0\r\n\r\nmore"), Chunks, Closed),
    ]
}

fn bodiless() -> Vec<Row> {
    use {After::Closed, After::Reused, Passed::Bodiless};
    let with = |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n");
    let chunked = "Transfer-Encoding: chunked";
    vec![
        row("204", with("204 No Content", "X-A: b"), Bodiless(None), Reused),
        row("204 with the length 0", with("204 No Content", "Content-Length: 0"), Bodiless(None), Reused),
        row("204 with a length", with("204 No Content", "Content-Length: 2"), Bodiless(None), Closed),
        row("204 with a coding", with("204 No Content", chunked), Bodiless(None), Closed),
        row("304 with a length", with("304 Not Modified", "Content-Length: 2"), Bodiless(None), Reused),
        row("304 with a coding", with("304 Not Modified", chunked), Bodiless(None), Closed),
        to_head(row(
            "HEAD with equal lengths",
            with("200 OK", "Content-Length: 2, 2"),
            Bodiless(Some("2")),
            Reused,
        )),
        to_head(row("HEAD with a coding", with("200 OK", chunked), Bodiless(None), Reused)),
    ]
}

fn unclear_framings() -> Vec<Row> {
    let refused = |name, bytes: String| row(name, bytes, Passed::GatewayError, After::Closed);
    let length = |value: &str| ok(&format!("Content-Length: {value}"), "ok");
    let coding = |value: &str| ok(&format!("Transfer-Encoding: {value}"), "2\r\nok\r\n0\r\n\r\n");
    vec![
        refused("two lengths", ok("Content-Length: 2\r\nContent-Length: 3", "ok")),
        refused("a list of two lengths", length("2, 3")),
        refused("a list with an empty item", length("2,")),
        refused("a length with a sign", length("+2")),
        refused("a length that is not a number", length("2x")),
        refused("a length beyond 64 bits", length("18446744073709551618")),
        refused(
            "304 with two lengths",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2, 3\r\n\r\n".to_owned(),
        ),
        to_head(refused("HEAD with two lengths", ok("Content-Length: 2, 3", ""))),
        refused(
            "a length and a coding",
            ok("Content-Length: 2\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
        ),
        refused("a length and `identity`", ok("Content-Length: 2\r\nTransfer-Encoding: identity", "ok")),
        refused("another coding before `chunked`", coding("gzip, chunked")),
        refused("another coding", coding("gzip")),
        refused("`chunked` before another coding", coding("chunked, identity")),
        refused("`chunked` twice", coding("chunked, chunked")),
        refused(
            "two codings",
            ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
        ),
        refused("a parameter of a coding", coding("chunked;a=b")),
        refused("an empty coding", coding("")),
        refused("a coding in HTTP/1.0", coding("chunked").replacen("1.1", "1.0", 1)),
    ]
}

fn unclear_heads() -> Vec<Row> {
    let refused = |name, bytes: String| row(name, bytes, Passed::GatewayError, After::Closed);
    let line = |line: &str| ok(&format!("{line}\r\nContent-Length: 2"), "ok");
    let many: String = (0..1000).map(|number| format!("X-{number}: 1\r\n")).collect();
    vec![
        refused("a folded header", line("X-A: a\r\n b")),
        refused("white space before the first header", line(" X-A: a")),
        refused("white space in a name", line("X A: a")),
        refused("a header without a colon", line("X-A")),
        refused("a header without a name", line(": a")),
        refused("a NUL in a header", line("X-A: a\0b")),
        refused("a bare CR in a header", line("X-A: a\rb")),
        refused(
            "more headers than `backend.max_response_headers`",
            ok(&format!("{many}Content-Length: 2"), "ok"),
        ),
        refused(
            "more bytes than `backend.max_response_header_bytes`",
            line(&format!("X-A: {}", "a".repeat(262_144))),
        ),
        refused("two spaces in the status line", line("X-A: b").replacen("1.1 ", "1.1  ", 1)),
        refused("another version", line("X-A: b").replacen("1.1", "1.2", 1)),
    ]
}

fn broken_bodies() -> Vec<Row> {
    let broken = |name, bytes: String| row(name, bytes, Passed::Refused, After::Closed);
    vec![
        ending(broken("fewer bytes than the length", ok("Content-Length: 10", "half"))),
        ending(broken("no last chunk", chunked("2\r\nok\r\n"))),
        broken("a chunk without a size", chunked("2\r\nok\r\nzz\r\nxx\r\n0\r\n\r\n")),
        broken("a size with a sign", chunked("+2\r\nok\r\n0\r\n\r\n")),
        broken("a chunk longer than its size", chunked("2\r\nok!\r\n0\r\n\r\n")),
        broken("a line feed alone after a size", chunked("2\nok\r\n0\r\n\r\n")),
        broken("a trailer that is no header", chunked("2\r\nok\r\n0\r\nnothing\r\n\r\n")),
        broken("a folded trailer", chunked("2\r\nok\r\n0\r\nX-T: a\r\n b\r\n\r\n")),
    ]
}

fn answers() -> Vec<Row> {
    [clear_lengths(), clear_codings(), bodiless(), unclear_framings(), unclear_heads(), broken_bodies()]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the cells of a table of the operators' page, without its head.
fn documented(name: &str) -> Vec<Vec<&'static str>> {
    let (_, after) = OPERATORS.split_once(&format!("<!-- {name}:")).expect("the start of the table");
    let (table, _) = after.split_once(&format!("<!-- /{name} -->")).expect("the end of the table");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// Returns bytes as the tables write them.
fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "⏎").replace('\n', "␊");
    text.replace('\0', "␀").replace('\r', "␍")
}

#[test]
fn every_form_of_an_answer_is_documented() {
    let documented = documented("answers");
    let rows = answers();
    let named: Vec<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(documented.iter().map(|cells| cells[0]).collect::<Vec<_>>(), named);
    for (row, cells) in rows.iter().zip(&documented) {
        let after = match row.after {
            After::Reused => "is used again",
            After::Closed => "closes",
        };
        assert_eq!(cells[2..], [row.passed.words(), after], "{}", row.name);
        let bytes = visible(&row.bytes);
        for example in cells[1].split('`').skip(1).step_by(2) {
            assert!(bytes.contains(example), "{}: `{example}` is not in {bytes:.300}", row.name);
        }
    }
}

/// Sends the row's answer to requests of `/row/NUMBER`, and `200 ok` to others.
fn backend() -> Backend {
    let rows = answers();
    Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            let target = request.start_line().split(' ').nth(1).unwrap_or_default();
            match target.strip_prefix("/row/").map(|number| &rows[number.parse::<usize>().unwrap()]) {
                Some(row) => {
                    connection.wire.send(&row.bytes)?;
                    if row.ends {
                        return Ok(());
                    }
                }
                None => connection.wire.send(OK)?,
            }
        }
        Ok(())
    })
}

fn proxy(backend: &str) -> Proxy {
    Setup::new(backend).set("workers", 1).set("backend.response_timeout", "5s").start()
}

/// Returns the deviation of an answer from its clean form.
fn deviation(row: &Row, answer: io::Result<Answer>, by_http1: bool) -> Option<String> {
    let is_coded = |answer: &Answer| answer.headers.iter().any(|(name, _)| name == "transfer-encoding");
    let lengths = |answer: &Answer| -> Vec<String> {
        let found = answer.headers.iter().filter(|(name, _)| name == "content-length");
        found.map(|(_, value)| value.clone()).collect()
    };
    let is_right = match (row.passed, &answer) {
        (Passed::Length, Ok(answer)) => {
            answer.text() == "ok" && lengths(answer) == ["2"] && !is_coded(answer)
        }
        (Passed::Chunks, Ok(answer)) => {
            answer.text() == "ok" && lengths(answer).is_empty() && is_coded(answer) == by_http1
        }
        (Passed::Bodiless(length), Ok(answer)) => {
            let expected: Vec<String> = length.into_iter().map(str::to_owned).collect();
            answer.body.is_empty() && lengths(answer) == expected && answer.reason().is_none()
        }
        (Passed::GatewayError, Ok(answer)) if row.method == "HEAD" => answer.status == 504,
        (Passed::GatewayError, Ok(answer)) => answer.verdict() == "504 backend_unavailable",
        (Passed::Refused, _) => return deviation_of_broken(answer),
        (_, Err(_)) => false,
    };
    (!is_right).then(|| format!("{answer:?}"))
}

fn deviation_of_broken(answer: io::Result<Answer>) -> Option<String> {
    let (text, outcome) = classify(answer);
    (!outcome.is_some_and(|outcome| [Outcome::Aborted, REFUSED].contains(&outcome))).then_some(text)
}

#[test]
fn every_form_of_an_answer_has_its_one_outcome() {
    let backend = backend();
    let proxy = proxy(&backend.url());
    let mut wrong = Vec::new();
    for (number, row) in answers().iter().enumerate() {
        for by_http1 in [true, false] {
            let path = format!("/row/{number}");
            let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
            let mut http1 = proxy.producer().connect(proxy.address).unwrap();
            assert_eq!(http2.get("/good").unwrap().text(), "ok", "{}", row.name);
            let before = backend.connections();
            let answer = match by_http1 {
                true => http1.ask(&format!("{} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n", row.method)),
                false => http2.ask(request(row.method, &path, &[]), b""),
            };
            let after = http2.get("/good").map(|answer| answer.text());
            let after = after.as_deref().map_err(ToString::to_string);
            assert_eq!(after, Ok("ok"), "{}: the next request", row.name);
            let opened = backend.connections() - before;
            let side = if by_http1 { "HTTP/1.1" } else { "HTTP/2" };
            if let Some(deviation) = deviation(row, answer, by_http1) {
                wrong.push(format!("{}, {side}: {deviation}", row.name));
            }
            if opened != usize::from(row.after == After::Closed) {
                wrong.push(format!("{}, {side}: {opened} new connections", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    proxy.admin.wait_for("sidegate_requests_in_flight", 0.0);
}

/// White space, lists and bounds are the same kind of fault over HTTP/2, where frames say where a body ends.
#[test]
fn lengths_and_header_counts_of_http2_backends_are_held_to_the_same_rules() {
    const OK: (&str, &str) = (":status", "200");
    let with = |stream, fields: &[(&str, &str)]| {
        [headers(stream, 0, fields), frame(DATA, END_STREAM, stream, "ok")].concat()
    };
    fn refused(answer: &Answer) -> bool {
        answer.verdict() == "504 backend_unavailable"
    }
    fn length_2(answer: &Answer) -> bool {
        answer.text() == "ok" && answer.header("content-length") == Some("2")
    }
    fn no_length(answer: &Answer) -> bool {
        answer.status == 204 && answer.header("content-length").is_none()
    }
    type Cases = Vec<(&'static str, Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>, fn(&Answer) -> bool)>;
    let many: Vec<(String, String)> = (0..1001).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let some: Vec<(String, String)> = many.iter().take(150).cloned().collect();
    let all = move |fields: &[(String, String)], stream| {
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let block =
            frames::block(&[OK, ("content-length", "2")].into_iter().chain(fields).collect::<Vec<_>>());
        let head = frame(frames::HEADERS, frames::END_HEADERS, stream, block);
        [head, frame(DATA, END_STREAM, stream, "ok")].concat()
    };
    let cases: Cases = vec![
        (
            "the same length twice",
            Box::new(move |s| with(s, &[OK, ("content-length", "2"), ("content-length", "2")])),
            length_2,
        ),
        ("zeros before a length", Box::new(move |s| with(s, &[OK, ("content-length", "002")])), length_2),
        (
            "two lengths",
            Box::new(move |s| with(s, &[OK, ("content-length", "2"), ("content-length", "3")])),
            refused,
        ),
        ("a list of equal lengths", Box::new(move |s| with(s, &[OK, ("content-length", "2, 2")])), refused),
        (
            "204 with the length 0",
            Box::new(|s| headers(s, END_STREAM, &[(":status", "204"), ("content-length", "0")])),
            no_length,
        ),
        ("150 headers", Box::new(move |s| all(&some, s)), length_2),
        ("1,002 headers", Box::new(move |s| all(&many, s)), refused),
    ];
    let checks: Vec<_> = cases.iter().map(|(name, _, is_right)| (*name, *is_right)).collect();
    let answers: Vec<_> = cases.into_iter().map(|(_, answer, _)| answer).collect();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let current = std::sync::Arc::clone(&sent);
    let backend = Backend::scripted(move |connection: &mut BackendConnection| {
        frames::serve(connection, |connection, stream| {
            let answer = &answers[current.load(std::sync::atomic::Ordering::SeqCst)];
            connection.wire.send(answer(stream))
        })
    });
    let proxy = proxy(&backend.url().replace("http:", "h2c:"));
    let http2 = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    for (number, (name, is_right)) in checks.into_iter().enumerate() {
        sent.store(number, std::sync::atomic::Ordering::SeqCst);
        let mut http1 = proxy.producer().connect(proxy.address).unwrap();
        for answer in [http1.get("/row").unwrap(), http2.get("/row").unwrap()] {
            assert!(is_right(&answer), "{name}: {answer:?}");
        }
    }
}

/// The bounds on headers are settings, and hold for an answer of either protocol.
#[test]
fn the_bounds_on_the_headers_of_answers_can_be_set() {
    let many: String = (0..150).map(|number| format!("Set-Cookie: c{number}=1\r\n")).collect();
    let long = format!("X-A: {}", "a".repeat(300_000));
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            let fields = if request.start_line().contains("/many") { many.trim_end() } else { &long };
            connection.wire.send(ok(&format!("{fields}\r\nContent-Length: 2"), "ok"))?;
        }
        Ok(())
    });
    let narrow = Setup::new(&backend.url()).set("backend.max_response_headers", 150).start();
    assert_eq!(narrow.connect().get("/many").unwrap().verdict(), "504 backend_unavailable");
    let exact = Setup::new(&backend.url()).set("backend.max_response_headers", 151).start();
    let answer = exact.connect().get("/many").unwrap();
    let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie").count();
    assert_eq!((answer.text().as_str(), cookies), ("ok", 150));
    // The answer is read twice, and its request is sent once, whatever body it had.
    let before = backend.received().len();
    let uploads = exact.http2();
    assert_eq!(exact.connect().post("/many", "a body").unwrap().text(), "ok");
    assert_eq!(uploads.ask(request("PUT", "/many", &[]), b"a body").unwrap().text(), "ok");
    let bodies: Vec<_> =
        backend.received().split_off(before).into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"a body".to_vec(), b"a body".to_vec()]);
    assert_eq!(exact.connect().get("/long").unwrap().verdict(), "504 backend_unavailable");
    let wide = Setup::new(&backend.url()).set("backend.max_response_header_bytes", 600_000).start();
    assert_eq!(wide.connect().get("/long").unwrap().text(), "ok");
}

/// The outcome of a request: nothing of a request is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// Forwarded with this body and one framing.
    Forwarded,
    /// Forwarded by its chunks; then the connection closes.
    ByChunks,
    /// 400; then the connection closes.
    BadRequest,
}

impl Taken {
    fn words(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::ByChunks => "forwarded by its chunks, and the connection closes",
            Self::BadRequest => "400, and the connection closes",
        }
    }
}

/// A POST with these header lines and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST /events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}")
}

fn posted_chunks(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

const CHUNKS: &str = "2\r\nok\r\n0\r\n\r\n";

fn requests() -> Vec<(&'static str, String, Taken)> {
    use Taken::{BadRequest, ByChunks, Forwarded};
    let length = |value: &str| post(&format!("Content-Length: {value}"), "ok");
    let coding = |value: &str| post(&format!("Transfer-Encoding: {value}"), CHUNKS);
    let line = |line: &str| post(&format!("{line}\r\nContent-Length: 2"), "ok");
    vec![
        ("a length", length("2"), Forwarded),
        ("a list of equal lengths", length("2, 2"), BadRequest),
        ("the same length twice", post("Content-Length: 2\r\nContent-Length: 2", "ok"), BadRequest),
        ("zeros before a length", length("0002"), Forwarded),
        ("white space around a length", length(" 2 "), Forwarded),
        ("white space before a colon", line("X-A : b"), BadRequest),
        ("white space before the colon of a length", post("Content-Length : 2", "ok"), BadRequest),
        ("a header without a value", line("X-A:"), Forwarded),
        (
            "line feeds alone as ends of lines",
            post("Content-Length: 2", "ok").replace("\r\n", "\n"),
            BadRequest,
        ),
        ("an empty line before the request", format!("\r\n{}", length("2")), Forwarded),
        ("chunks", posted_chunks(CHUNKS), Forwarded),
        ("`chunked` in other letters", coding("Chunked"), Forwarded),
        ("white space before the colon of a coding", post("Transfer-Encoding : chunked", CHUNKS), BadRequest),
        ("zeros before the size of a chunk", posted_chunks("0002\r\nok\r\n00\r\n\r\n"), Forwarded),
        ("white space after the size of a chunk", posted_chunks("2 \r\nok\r\n0\r\n\r\n"), Forwarded),
        ("an extension of a chunk", posted_chunks("2;a=b\r\nok\r\n0\r\n\r\n"), Forwarded),
        ("trailers", posted_chunks("2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"), Forwarded),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3", "ok"), BadRequest),
        ("a list of two lengths", length("2, 3"), BadRequest),
        ("a length with a sign", length("+2"), BadRequest),
        ("a length that is not a number", length("2x"), BadRequest),
        ("a length beyond 64 bits", length("18446744073709551618"), BadRequest),
        ("a length and a coding", post("Content-Length: 2\r\nTransfer-Encoding: chunked", CHUNKS), ByChunks),
        ("`identity`", coding("identity"), BadRequest),
        ("another coding before `chunked`", coding("gzip, chunked"), BadRequest),
        ("another coding", coding("gzip"), BadRequest),
        ("`chunked` twice", coding("chunked, chunked"), BadRequest),
        ("two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS), BadRequest),
        ("a parameter of a coding", coding("chunked;a=b"), BadRequest),
        ("an empty coding", coding(""), BadRequest),
        ("a coding in HTTP/1.0", coding("chunked").replacen("1.1", "1.0", 1), BadRequest),
        ("a folded header", line("X-A: a\r\n b"), BadRequest),
        (
            "white space before the first header",
            length("2").replacen("Host", " X-A: a\r\nHost", 1),
            BadRequest,
        ),
        ("white space in a name", line("X A: a"), BadRequest),
        ("a header without a colon", line("X-A"), BadRequest),
        ("a header without a name", line(": a"), BadRequest),
        ("a NUL in a header", line("X-A: a\0b"), BadRequest),
        ("a bare CR in a header", line("X-A: a\rb"), BadRequest),
        ("two spaces in the request line", length("2").replacen(" HTTP", "  HTTP", 1), BadRequest),
        ("another version", length("2").replacen("1.1", "1.2", 1), BadRequest),
        ("a chunk without a size", posted_chunks("2\r\nok\r\nzz\r\nxx\r\n0\r\n\r\n"), BadRequest),
        ("a size with a sign", posted_chunks("+2\r\nok\r\n0\r\n\r\n"), BadRequest),
        ("a chunk longer than its size", posted_chunks("2\r\nok!\r\n0\r\n\r\n"), BadRequest),
        ("a line feed alone after a size", posted_chunks("2\nok\r\n0\r\n\r\n"), BadRequest),
        ("a trailer that is no header", posted_chunks("2\r\nok\r\n0\r\nnothing\r\n\r\n"), BadRequest),
    ]
}

#[test]
fn every_form_of_a_request_is_documented() {
    let documented = documented("requests");
    let rows = requests();
    assert_eq!(
        documented.iter().map(|cells| cells[0]).collect::<Vec<_>>(),
        rows.iter().map(|(name, ..)| *name).collect::<Vec<_>>()
    );
    for ((name, bytes, taken), cells) in rows.iter().zip(&documented) {
        assert_eq!(cells[2], taken.words(), "{name}");
        let bytes = visible(bytes.as_bytes());
        for example in cells[1].split('`').skip(1).step_by(2) {
            assert!(bytes.contains(example), "{name}: `{example}` is not in {bytes:.300}");
        }
    }
}

#[test]
fn every_form_of_a_request_has_its_one_outcome() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut wrong = Vec::new();
    for (name, bytes, taken) in requests() {
        backend.clear_records();
        let mut connection = proxy.connect();
        connection.send(&bytes).unwrap();
        let verdict = connection.answer_to("POST").map(|answer| answer.verdict());
        let verdict = verdict.unwrap_or_else(|error| error.to_string());
        let expected = if taken == Taken::BadRequest { "400 ambiguous_request" } else { "200" };
        if verdict != expected {
            wrong.push(format!("{name}: {verdict}"));
        }
        let received = backend.received();
        match taken {
            Taken::BadRequest if !received.is_empty() => {
                wrong.push(format!("{name}: forwarded {received:?}"))
            }
            Taken::BadRequest => {}
            Taken::Forwarded | Taken::ByChunks => {
                let [request] = &received[..] else { panic!("{name}: {received:?}") };
                let framings =
                    ["content-length", "transfer-encoding"].map(|header| request.header(header).len());
                if request.body != b"ok" || framings.iter().sum::<usize>() != 1 {
                    wrong.push(format!("{name}: {request:?}"));
                }
            }
        }
        let stays = taken == Taken::Forwarded;
        if verdict == expected && stays != connection.get("/next").is_ok_and(|answer| answer.status == 200) {
            wrong.push(format!("{name}: the connection {}", if stays { "closes" } else { "stays open" }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_second_length_of_a_request_of_http2_is_refused() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let http2 = proxy.http2();
    let equal = [("content-length", "2"), ("content-length", "2")];
    let answer = http2.ask(request("POST", "/events", &equal), b"ok").unwrap();
    assert_eq!(answer.verdict(), "400 ambiguous_request");
    // These are malformed (RFC 9113 §8.1.1).
    for lengths in [&["2", "3"][..], &["3"], &["2, 2"], &["+2"]] {
        let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
        let answer = http2.ask(request("POST", "/events", &fields), b"ok");
        assert!(answer.is_err(), "{lengths:?}: {answer:?}");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
    assert_eq!(http2.ask(request("POST", "/events", &[("content-length", "2")]), b"ok").unwrap().status, 200);
}
