//! The answer of the backend reaches the client unchanged, as soon as it comes (DESIGN §5).

use crate::support::backend::OK;
use crate::support::http2::{request, wait};
use crate::support::{Backend, Proxy};

#[test]
fn answers_of_the_backend_pass_unchanged() {
    for (status, phrase) in [
        (200, "OK"),
        (201, "Made It"),
        (301, "Moved"),
        (400, "Bad"),
        (401, "Who"),
        (403, "No"),
        (404, "Not Here"),
        (418, "Teapot"),
        (500, "Broken"),
        (503, "Later"),
        (504, "Gateway Timeout"),
        (599, "Odd"),
    ] {
        let body = "{\"its\":\"own\"}";
        let head = format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Length: {}\r\nX-Own: a\r\nX-Own: b\r\n",
            body.len()
        );
        let backend = Backend::answering(format!("{head}Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n{body}"));
        let proxy = Proxy::in_front_of(&backend.url());
        let http1 = proxy.connect().get("/events").unwrap();
        let http2 = proxy.http2().get("/events").unwrap();
        assert_eq!((http1.status, http1.phrase.as_str()), (status, phrase));
        for answer in [http1, http2] {
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
            let values = |name: &str| -> Vec<_> {
                answer
                    .headers
                    .iter()
                    .filter(|(header, _)| header == name)
                    .map(|(_, value)| value.as_str())
                    .collect()
            };
            assert_eq!((values("x-own"), values("set-cookie")), (vec!["a", "b"], vec!["a=1", "b=2"]));
            assert!(values("proxy-status").is_empty() && values("www-authenticate").is_empty());
        }
    }
}

#[test]
fn answers_without_a_body_pass_and_head_keeps_its_length() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            connection.wire.send(match request.start_line() {
                "HEAD /events HTTP/1.1" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                "GET /none HTTP/1.1" => "HTTP/1.1 204 No Content\r\n\r\n",
                "GET /same HTTP/1.1" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
                _ => OK,
            })?;
        }
        Ok(())
    });
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    let answer = connection.ask("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("12345")));
    assert_eq!(connection.get("/none").unwrap().status, 204);
    assert_eq!(connection.get("/same").unwrap().header("etag"), Some("\"a\""));
    assert_eq!(
        connection.get("/events").unwrap().text(),
        "ok",
        "the next answer is that of the next request"
    );
    let http2 = proxy.http2();
    let answer = http2.ask(request("HEAD", "/events", &[]), b"").unwrap();
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("12345"), 0));
}

#[test]
fn an_event_stream_passes_without_delay() {
    let backend = Backend::streaming();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut http1 = proxy.connect();
    http1.send("GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(http1.head().unwrap().header("content-type"), Some("text/event-stream"));
    assert!(http1.read_until(b"data: 1\n\n").is_ok(), "the event, while the answer goes on");
    let http2 = proxy.http2();
    let (_, mut body, _) = http2.open(request("GET", "/events/stream", &[]), true).unwrap().head().unwrap();
    let event = wait(async move { body.data().await.unwrap().unwrap() });
    assert_eq!(&event[..], b"data: 1\n\n");
}
