//! Every decision has one record and one count, whenever and however its client leaves, and the client's leaving is never
//! told or counted as the backend's fault (DESIGN §3, §8).

use std::io::Write;
use std::net::Shutdown;

use serde_json::{Value, json};

use crate::support::backend::OK;
use crate::support::http2::request;
use crate::support::{Backend, Proxy, Setup, eventually};

const PROTOCOLS: [&str; 2] = ["HTTP/1.1", "HTTP/2"];

/// The part of a record that tells the end of an exchange.
fn end_of(record: &Value) -> [&Value; 5] {
    ["decision", "reason", "done", "fault", "status"].map(|field| &record[field])
}

#[track_caller]
fn record_of(proxy: &mut Proxy, path: &str) -> Value {
    proxy.process.audit_where(path, |record| record["path"] == path)
}

/// Sends a request and closes the connection, or resets the stream, once the backend has the request.
fn leave_before_the_answer(proxy: &Proxy, backend: &Backend, protocol: &str, method: &str, path: &str) {
    let seen = backend.received().len();
    match protocol {
        "HTTP/1.1" => {
            let mut connection = proxy.connect();
            connection.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
            backend.wait_for(seen + 1);
            drop(connection);
        }
        _ => {
            let connection = proxy.http2();
            let exchange = connection.open(request(method, path, &[]), true).unwrap();
            backend.wait_for(seen + 1);
            exchange.reset();
        }
    }
}

#[track_caller]
fn assert_backend_is_not_blamed(proxy: &Proxy) {
    let metrics = proxy.admin.metrics();
    for result in ["terminated", "not_http", "response_timeout", "unreachable"] {
        assert_eq!(
            metrics.labelled("sidegate_backend_requests_total", &[("result", result)]),
            0.0,
            "{result}"
        );
    }
    assert_eq!(metrics.labelled("sidegate_decisions_total", &[("fault", "backend")]), 0.0);
    assert_eq!(metrics.labelled("sidegate_unfinished_answers_total", &[("fault", "backend")]), 0.0);
}

#[test]
fn a_request_whose_client_leaves_before_the_answer_has_its_record_and_its_count() {
    let backend = Backend::never_answering();
    let mut proxy = Proxy::in_front_of(&backend.url());
    for (number, protocol) in PROTOCOLS.into_iter().enumerate() {
        let path = format!("/left/{number}");
        leave_before_the_answer(&proxy, &backend, protocol, "DELETE", &path);
        let record = record_of(&mut proxy, &path);
        let end = [json!("allowed"), json!("permitted"), json!("client_left"), json!("client"), Value::Null];
        assert_eq!(end_of(&record), end.each_ref(), "{protocol}");
        assert_eq!(record["request_id"], backend.received()[number].header("x-request-id")[0]);
        let metrics = proxy.admin.metrics();
        let count = (number + 1) as f64;
        assert_eq!(metrics.labelled("sidegate_decisions_total", &[("reason", "permitted")]), count);
        assert_eq!(metrics.labelled("sidegate_backend_requests_total", &[("result", "client_left")]), count);
        assert_eq!(metrics.value("sidegate_client_left_total"), count);
    }
    assert_backend_is_not_blamed(&proxy);
}

#[test]
fn a_client_that_leaves_the_queue_has_its_record_and_the_backend_no_request() {
    let backend = Backend::never_answering();
    let mut proxy = Setup::new(&backend.url())
        .set("backend.max_in_flight", 1)
        .set("backend.queue", 2)
        .set("backend.queue_timeout", "20s")
        .start();
    let mut first = proxy.connect();
    first.send("GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    for (number, protocol) in PROTOCOLS.into_iter().enumerate() {
        let path = format!("/queued/{number}");
        let (mut http1, http2) = (proxy.connect(), proxy.http2());
        let exchange = match protocol {
            "HTTP/1.1" => {
                http1.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
                None
            }
            _ => Some(http2.open(request("GET", &path, &[]), true).unwrap()),
        };
        proxy.admin.wait_for("sidegate_requests_queued", 1.0);
        drop(http1);
        exchange.into_iter().for_each(|exchange| exchange.reset());
        let record = record_of(&mut proxy, &path);
        assert_eq!((&record["done"], &record["status"]), (&json!("client_left"), &Value::Null), "{protocol}");
    }
    drop(first);
    record_of(&mut proxy, "/first");
    assert_eq!(backend.received().len(), 1);
    let metrics = proxy.admin.metrics();
    assert_eq!(metrics.value("sidegate_decisions_total"), 3.0);
    assert_eq!(metrics.value("sidegate_backend_requests_total"), 1.0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer_is_recorded_with_its_status() {
    let backend = Backend::streaming();
    let mut proxy = Proxy::in_front_of(&backend.url());
    for (number, protocol) in PROTOCOLS.into_iter().enumerate() {
        let path = format!("/stream/{number}");
        if protocol == "HTTP/1.1" {
            let mut connection = proxy.connect();
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
            connection.read_until(b"data: 1").unwrap();
        } else {
            let connection = proxy.http2();
            let exchange = connection.open(request("GET", &path, &[]), true).unwrap();
            let (head, body, _) = exchange.head().unwrap();
            assert_eq!(head.status, 200);
            drop((body, connection));
        }
        let record = record_of(&mut proxy, &path);
        assert_eq!((&record["done"], &record["status"]), (&json!("client_left"), &json!(200)), "{protocol}");
    }
    assert_backend_is_not_blamed(&proxy);
}

#[test]
fn an_answer_that_breaks_off_or_is_never_read_or_is_cut_by_a_stop_is_recorded_as_that() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            let is_broken = request.start_line().contains("/broken");
            connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
            if is_broken {
                return Ok(());
            }
        }
        Ok(())
    });
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "1s").start();
    let mut broken = proxy.connect();
    broken.send("GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let record = record_of(&mut proxy, "/broken");
    assert_eq!(end_of(&record)[2..], [&json!("broken_off"), &json!("backend"), &json!(200)]);
    let broken = [("done", "broken_off"), ("fault", "backend")];
    assert_eq!(proxy.admin.metrics().labelled("sidegate_unfinished_answers_total", &broken), 1.0);

    let mut open = proxy.connect();
    open.send("GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    open.read_until(b"half").unwrap();
    proxy.process.signal("TERM");
    let record = record_of(&mut proxy, "/open");
    assert_eq!(end_of(&record)[2..], [&json!("stopped"), &json!("sidegate"), &json!(200)]);
}

/// Returns a backend that reads each body to the end of its connection, because the body never comes to its own end.
fn backend_that_waits_for_a_whole_body() -> Backend {
    Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            connection.record_event(head);
            let _ = connection.wire.read_to_end();
        }
        Ok(())
    })
}

#[test]
fn an_upload_that_its_client_abandons_is_not_a_fault_of_the_backend() {
    let backend = backend_that_waits_for_a_whole_body();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let framings = ["Content-Length: 5\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"];
    for (number, framing) in framings.into_iter().enumerate() {
        let path = format!("/upload/{number}");
        let mut connection = proxy.connect();
        connection.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{framing}")).unwrap();
        drop(connection);
        let record = record_of(&mut proxy, &path);
        let end = ["allowed", "permitted", "client_left", "client"].map(Value::from);
        assert_eq!(end_of(&record)[..4], end.each_ref()[..], "{framing}");
        assert_eq!(record["status"], Value::Null);
    }
    let connection = proxy.http2();
    let mut exchange =
        connection.open(request("POST", "/upload/2", &[("content-length", "5")]), false).unwrap();
    exchange.body.send_data("ab".into(), false).unwrap();
    exchange.reset();
    assert_eq!(record_of(&mut proxy, "/upload/2")["done"], "client_left");
    assert_backend_is_not_blamed(&proxy);
}

/// Case 37: a body that is not framed as its headers announce.
#[test]
fn a_body_that_breaks_its_framing_is_the_clients_fault_and_is_told_to_the_client() {
    let backend = backend_that_waits_for_a_whole_body();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let bodies = [
        "xyz\r\nab\r\n0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "2\r\nab\r\n0\r\nno trailer\r\n\r\n",
        "-1\r\nab\r\n0\r\n\r\n",
    ];
    for (number, body) in bodies.into_iter().enumerate() {
        let path = format!("/chunks/{number}");
        let mut connection = proxy.connect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        let answer = connection.ask(&format!("{head}{body}")).unwrap();
        assert_eq!(answer.verdict(), "400 ambiguous_request", "{body:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{body:?}");
        assert!(connection.is_closed());
        let record = record_of(&mut proxy, &path);
        assert_eq!(
            [&record["done"], &record["fault"], &record["status"]],
            [&json!("ambiguous_request"), &json!("client"), &json!(400)]
        );
    }
    let metrics = proxy.admin.metrics();
    let broken = metrics.labelled("sidegate_backend_requests_total", &[("result", "request_broken")]);
    assert_eq!(broken, bodies.len() as f64);
    assert_backend_is_not_blamed(&proxy);
    // Connections to the backend on which a request was broken are not used again.
    eventually("a connection for each request", || backend.connections(), |made| *made == bodies.len());
}

#[test]
fn a_client_that_closes_its_sending_side_alone_has_its_record() {
    let backend = Backend::never_answering();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection.send("GET /half HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    backend.wait_for(1);
    connection.stream.conn.send_close_notify();
    connection.stream.flush().unwrap();
    connection.stream.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(record_of(&mut proxy, "/half")["done"], "client_left");
}

/// The cause for which an answer is not HTTP is told to operators, and not to the client.
#[test]
fn a_record_and_a_log_line_name_the_cause_for_which_an_answer_is_not_http() {
    let answers = [
        ("HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 0\r\n\r\n", "folded_header"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "content_length"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "two_framings",
        ),
        ("220 mail.shop.example ESMTP\r\n\r\n", "status_line"),
        ("\x15\x03\x03\0\x02\x02\x46 this is not HTTP\r\n\r\n", "tls"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header_name"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "unasked_switch"),
    ];
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            let number = request.start_line().split(['/', ' ']).nth(2).and_then(|number| number.parse().ok());
            let answer = number.and_then(|number: usize| answers.get(number));
            connection.wire.send(answer.map_or(OK, |(answer, _)| answer))?;
        }
        Ok(())
    });
    let mut proxy = Proxy::in_front_of(&backend.url());
    for (number, (_, cause)) in answers.into_iter().enumerate() {
        let path = format!("/{number}");
        let answer = proxy.connect().get(&path).unwrap();
        assert_eq!(answer.verdict(), "504 backend_unavailable", "{cause}");
        assert_eq!(answer.json()["detail"], "the service gave an answer that is not HTTP");
        let record = record_of(&mut proxy, &path);
        assert_eq!([&record["cause"], &record["fault"]], [&json!(cause), &json!("backend")]);
    }
    proxy.process.log_where("the first cause", |line| line["cause"] == "folded_header");
    assert_eq!(proxy.http2().get("/0").unwrap().verdict(), "504 backend_unavailable");
    assert_eq!(proxy.connect().get("/served").unwrap().status, 200);
}
