//! Interim answers (1xx) of the backend pass to the client and are never taken for the answer (RFC 9110 §15.2).

use crate::support::backend::OK;
use crate::support::{Backend, Proxy};

#[test]
fn interim_answers_of_the_backend_pass_before_the_answer() {
    let backend = Backend::answering(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Own\r\nX-Own: 1\r\n\r\n{OK}"
    ));
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    for _ in 0..2 {
        let answer = connection.post("/events", "x").unwrap();
        assert_eq!((answer.informational.as_slice(), answer.text().as_str()), ([103].as_slice(), "ok"));
    }
    let request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.send(request).unwrap();
    let early = String::from_utf8(connection.read_until(b"\r\n\r\n").unwrap()).unwrap();
    assert_eq!(early, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");

    // A client of HTTP/1.0 would take an interim answer for the answer, so it gets none.
    let answer = proxy.connect().ask("GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!((answer.informational.as_slice(), answer.text().as_str()), ([].as_slice(), "ok"));
    let connection = proxy.http2();
    assert_eq!(connection.get("/events").unwrap().text(), "ok");
}

#[test]
fn an_interim_answer_does_not_wait_for_the_answer() {
    let (go, wait_for_go) = std::sync::mpsc::channel::<()>();
    let wait_for_go = std::sync::Mutex::new(wait_for_go);
    let backend = Backend::scripted(move |connection| {
        connection.request()?;
        connection.wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        let _ = wait_for_go.lock().unwrap().recv();
        connection.wire.send(OK)
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let early = connection.read_until(b"\r\n\r\n").unwrap();
    assert!(early.starts_with(b"HTTP/1.1 103 "));
    go.send(()).unwrap();
    assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
}

#[test]
fn interim_answers_stay_in_order_when_requests_are_pipelined() {
    let backend = Backend::answering(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"));
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)).unwrap();
    for _ in 0..20 {
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_it_or_a_refusal() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let expecting =
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut allowed = proxy.connect();
    allowed.send(expecting).unwrap();
    assert_eq!(allowed.read_line().unwrap(), "HTTP/1.1 100 Continue");
    assert_eq!(allowed.read_line().unwrap(), "");
    allowed.send("body").unwrap();
    assert_eq!(allowed.answer_to("POST").unwrap().status, 200);
    assert_eq!(backend.wait_for(1)[0].body, b"body");

    let mut denied = proxy.consumer().connect(proxy.address).unwrap();
    denied.send(expecting).unwrap();
    let answer = denied.answer_to("POST").unwrap();
    assert_eq!((answer.verdict().as_str(), answer.informational.len()), ("403 insufficient_permissions", 0));
}
