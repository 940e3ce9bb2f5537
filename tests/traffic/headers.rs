//! Headers pass unchanged in both directions, except for those that are about one connection (RFC 9110 §7.6.1): these end at
//! the proxy.

use crate::support::proxy::forwarded;
use crate::support::{Backend, Proxy};

#[test]
fn headers_of_the_client_s_connection_are_not_forwarded() {
    let received = forwarded(
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\
         Proxy-Authorization: Basic eA==\r\nX-Kept: yes\r\nAccept: a\r\nAccept: b\r\n\r\n",
    );
    for gone in
        ["x-mine", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "proxy-authorization"]
    {
        assert!(received.header(gone).is_empty(), "{gone}: {}", received.head);
    }
    assert_eq!(received.header("x-kept"), ["yes"]);
    assert_eq!(received.header("accept").join(","), "a,b", "order and repetition stay");
}

#[test]
fn headers_of_the_backend_s_connection_are_not_forwarded() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = Proxy::in_front_of(&backend.url());
    let http1 = proxy.connect().get("/").unwrap();
    let http2 = proxy.http2().get("/").unwrap();
    for answer in [http1, http2] {
        assert_eq!(answer.text(), "ok");
        assert!(answer.header("x-hop").is_none() && answer.header("keep-alive").is_none(), "{answer:?}");
    }
}

#[test]
fn bytes_beyond_ascii_pass_in_values_of_headers() {
    let backend =
        Backend::answering(b"HTTP/1.1 200 OK\r\nX-Down: caf\xe9\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Up: caf\xe9\r\n\r\n").unwrap();
    let head = connection.read_until(b"\r\n\r\n").unwrap();
    assert!(
        head.windows(12).any(|window| window == b"x-down: caf\xe9"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    let raw = backend.wait_for(1).remove(0).raw;
    assert!(raw.windows(10).any(|window| window == b"x-up: caf\xe9"), "{}", String::from_utf8_lossy(&raw));
}
