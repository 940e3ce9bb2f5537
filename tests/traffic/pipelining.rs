//! Requests of HTTP/1.1 that are sent ahead are all answered, in their order (RFC 9112 §9.3.2).

use crate::support::{Backend, Proxy, Setup};

#[test]
fn requests_that_are_sent_together_are_answered_in_their_order() {
    let backend = Backend::echoing();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    let post = "POST /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.send(format!("{}{post}{}{}", get("/a"), get("/c%2Fd"), get("/e"))).unwrap();
    let answers: Vec<_> = (0..4).map(|_| connection.answer_to("GET").unwrap()).collect();
    let bodies: Vec<_> = [0, 1, 3].map(|index: usize| answers[index].text()).into();
    assert_eq!(bodies, ["/a", "/b", "/e"]);
    assert_eq!(answers[2].verdict(), "400 ambiguous_request");
}

/// The requests are more than a task may do in one turn of the runtime. The task must be woken again to go on.
#[test]
fn hundreds_of_requests_sent_ahead_are_all_answered() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("workers", 1).start();
    let mut connection = proxy.connect();
    connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400)).unwrap();
    for _ in 0..400 {
        assert_eq!(connection.answer_to("GET").unwrap().text(), "ok");
    }
}
