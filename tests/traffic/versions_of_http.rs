//! Client and backend may speak different versions of HTTP: requests and answers are translated (DESIGN §5).

use crate::support::http2::request;
use crate::support::{Backend, Proxy};

#[test]
fn a_request_of_http2_becomes_one_of_http1_with_a_host_and_one_cookie() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let connection = proxy.http2();
    let request = request("GET", "/events?a=1", &[("cookie", "a=1"), ("cookie", "b=2"), ("x-kept", "yes")]);
    assert_eq!(connection.ask(request, b"").unwrap().text(), "ok");
    let received = backend.wait_for(1).remove(0);
    assert_eq!(received.start_line(), "GET /events?a=1 HTTP/1.1");
    assert_eq!(received.header("host"), ["localhost"]);
    assert_eq!(received.header("cookie"), ["a=1; b=2"]);
    assert_eq!(received.header("x-kept"), ["yes"]);
    assert!(received.header("transfer-encoding").is_empty(), "no body, no framing: {}", received.head);
}

#[test]
fn a_client_of_http_1_0_is_served() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    let answer = connection.ask("GET /events HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(connection.is_closed());
    let received = backend.wait_for(1).remove(0);
    assert_eq!(received.start_line(), "GET /events HTTP/1.1");
    assert_eq!(received.header("host"), [backend.address.to_string()]);
}

#[test]
fn an_answer_of_a_backend_of_http_1_0_ends_with_its_connection() {
    let backend = Backend::scripted(|connection| {
        connection.request()?;
        connection.wire.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    for _ in 0..2 {
        assert_eq!(connection.get("/events").unwrap().text(), "until the end");
    }
    let http2 = proxy.http2();
    assert_eq!(http2.get("/events").unwrap().text(), "until the end");
}
