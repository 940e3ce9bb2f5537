//! Bodies arrive whole, with exactly one framing, and trailers arrive without any claim of identity (DESIGN §5).

use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;

use crate::support::http2::{request, wait};
use crate::support::{Backend, Proxy, Setup};

#[test]
fn bodies_arrive_whole_with_one_framing() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut http1 = proxy.connect();
    http1.post("/events", "counted").unwrap();
    http1
        .ask("POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        .unwrap();
    let http2 = proxy.http2();
    http2.ask(request("POST", "/events", &[]), b"of unknown length").unwrap();
    http2.ask(request("POST", "/events", &[("content-length", "7")]), b"counted").unwrap();
    http1.post("/events", "").unwrap();
    http1
        .ask("GET /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nasked\r\n0\r\n\r\n")
        .unwrap();
    http2.ask(request("GET", "/events", &[]), b"asked of unknown length").unwrap();
    let received = backend.wait_for(7);
    let bodies: Vec<_> = received.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
    let expected =
        ["counted", "abcde", "of unknown length", "counted", "", "asked", "asked of unknown length"];
    assert_eq!(bodies, expected);
    for request in &received {
        let framings = request.header("content-length").len() + request.header("transfer-encoding").len();
        assert!(framings <= 1, "{}", request.head);
    }
    assert_eq!(received[0].header("content-length"), ["7"]);
    assert_eq!(received[4].header("content-length"), ["0"]);
}

#[test]
fn a_body_with_two_framings_is_refused_or_read_as_chunks_and_the_connection_closes() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection
        .send("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
        .unwrap();
    let answer = connection.answer_to("POST").unwrap();
    if answer.status == 200 {
        let received = backend.wait_for(1).remove(0);
        assert_eq!((received.body.as_slice(), received.header("content-length").len()), (b"a".as_slice(), 0));
    } else {
        assert_eq!(answer.status, 400);
    }
    assert!(connection.is_closed());
}

/// Case 59.
#[test]
fn trailers_pass_in_both_directions_without_claims_of_identity() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
    let backend = Backend::answering(answer);
    let custom = json!({ "Who-Is-It": "common_name" });
    let proxy = Setup::new(&backend.url()).set("identity_headers.custom", custom).start();
    let answer = proxy.connect()
        .ask(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\na\r\n0\r\nX-Up: 1\r\nClient-Cert: spoofed\r\nX_Remote_User: spoofed\r\nWho-Is-It: spoofed\r\n\
             who_is.it: spoofed\r\nContent-Length: 7\r\nTransfer-Encoding: spoofed\r\nHost: spoofed\r\n\
             content_type: spoofed\r\nX-Forwarded-For: spoofed\r\n\r\n",
        )
        .unwrap();
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let raw = String::from_utf8_lossy(&backend.wait_for(1)[0].raw).to_lowercase();
    assert!(raw.contains("x-up: 1"), "{raw}");
    assert!(!raw.contains("spoofed"), "{raw}");

    let http2 = proxy.http2();
    let mut exchange =
        http2.open(request("POST", "/events", &[("te", "trailers"), ("trailer", "x-up")]), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-up", "2".parse().unwrap());
    trailers.insert("x-client-name", "spoofed".parse().unwrap());
    trailers.insert("who_is_it", "spoofed".parse().unwrap());
    exchange.body.send_data(Bytes::from_static(b"b"), false).unwrap();
    exchange.body.send_trailers(trailers).unwrap();
    let (head, mut body, _) = exchange.head().unwrap();
    assert_eq!(head.status, 200);
    let trailers = wait(async move {
        while body.data().await.is_some() {}
        body.trailers().await.unwrap().unwrap()
    });
    assert_eq!(trailers["x-sum"], "7");
    let raw = String::from_utf8_lossy(&backend.wait_for(2)[1].raw).to_lowercase();
    assert!(raw.contains("x-up: 2") && !raw.contains("spoofed"), "{raw}");
}
