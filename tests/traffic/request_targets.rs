//! The target of a request reaches the backend as the client sent it (DESIGN §5).

use crate::support::proxy::forwarded;

#[test]
fn the_path_and_the_query_arrive_unchanged() {
    for target in [
        "/",
        "/events/",
        "/events?",
        "/events?a[]=1&b=%7B2%7D",
        "/events/a%20b",
        "/events?x=1&y=%C3%A9&x=2",
        "/caf%C3%A9?q=a/b:c",
        "/~a.b_c-d!$&'()*+,=:@",
    ] {
        let received = forwarded(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(received.start_line(), format!("GET {target} HTTP/1.1"));
        assert_eq!(received.header("host"), ["localhost"]);
    }
}

#[test]
fn a_fragment_is_removed_and_an_absolute_target_of_the_same_host_becomes_a_path() {
    let received = forwarded("GET /events#fragment HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(received.start_line(), "GET /events HTTP/1.1");
    let received = forwarded("GET https://localhost/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(received.start_line(), "GET /events HTTP/1.1");
}
