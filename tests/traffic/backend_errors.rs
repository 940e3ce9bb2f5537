//! A backend that is late, or that breaks HTTP, becomes a documented 504 or a visibly incomplete answer (DESIGN §3, §5).

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::backend::OK;
use crate::support::{Backend, Proxy, Setup};

#[test]
fn a_backend_that_accepts_no_connection_in_time_is_a_504() {
    // The backlog has one place, which is taken. The kernel drops later attempts to connect.
    let queue = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    queue.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    queue.listen(0).unwrap();
    let address = queue.local_addr().unwrap().as_socket().unwrap();
    let _taken = TcpStream::connect(address).unwrap();
    let proxy = Setup::new(&format!("http://{address}")).set("backend.connect_timeout", "200ms").start();
    let start = Instant::now();
    let answer = proxy.connect().get("/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_timeout");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_backend_that_does_not_answer_in_time_is_a_504_and_its_connection_is_not_used_again() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            if !request.start_line().contains("/hang") {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("backend.response_timeout", "200ms").set("workers", 1).start();
    let mut connection = proxy.connect();
    let answer = connection.get("/hang").unwrap();
    assert_eq!(
        (answer.verdict().as_str(), answer.phrase.as_str()),
        ("504 backend_timeout", "Service Unavailable")
    );
    assert_eq!(connection.get("/events").unwrap().status, 200);
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_backend_that_breaks_its_framing_is_a_504() {
    for broken in [
        "NOT HTTP AT ALL\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
        "HTTP/1.1 2",
    ] {
        let backend = Backend::scripted(move |connection| {
            connection.request()?;
            connection.wire.send(broken)
        });
        let proxy = Proxy::in_front_of(&backend.url());
        let mut connection = proxy.connect();
        assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable", "{broken:?}");
        assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable", "{broken:?}");
        assert_eq!(backend.connections(), 2, "never used again: {broken:?}");
    }
}

#[test]
fn an_incomplete_answer_is_incomplete_for_the_client() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let backend = Backend::scripted(move |connection| {
            connection.request()?;
            connection.wire.send(cut)
        });
        let proxy = Proxy::in_front_of(&backend.url());
        let http1 = proxy.connect().get("/events");
        assert!(http1.is_err(), "an incomplete answer must not look whole: {http1:?}");
        let http2 = proxy.http2().get("/events");
        assert!(http2.is_err(), "an incomplete answer must not look whole: {http2:?}");
    }
}
