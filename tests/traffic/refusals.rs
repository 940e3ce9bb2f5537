//! Every refusal says what was refused, why, and what the client can do, in one documented format (DESIGN §3).

use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::task::Poll;

use bytes::Bytes;
use sidegate::refusal::Reason;

use crate::support::backend::RefusingPort;
use crate::support::http1::Wire;
use crate::support::http2::{Http2, request, wait};
use crate::support::{Answer, Backend, Client, Proxy, Setup};

/// Calls `check` with a refusal for each reason, over HTTP/1.1 and HTTP/2.
fn for_each_refusal(mut check: impl FnMut(Reason, &Answer)) {
    let (ok, hanging, refusing) = (Backend::ok(), Backend::never_answering(), RefusingPort::new());
    let usual = Proxy::in_front_of(&ok.url());
    let unavailable = Proxy::in_front_of(&refusing.url());
    let slow = Setup::new(&hanging.url()).set("backend.response_timeout", "100ms").start();
    let full = Setup::new(&ok.url()).set("limits.max_connections", 1).start();
    let mut holder = full.connect();
    assert_eq!(holder.get("/events").unwrap().status, 200);
    let busy = Setup::new(&hanging.url()).set("backend.max_in_flight", 1).set("backend.queue", 0).start();
    let mut working = busy.connect();
    let before = hanging.received().len();
    working.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    hanging.wait_for(before + 1);
    let cases: [(Reason, &Proxy, Client, &str); 8] = [
        (Reason::NotAuthenticated, &usual, usual.anonymous(), "/events"),
        (Reason::InvalidCertificate, &usual, usual.client(&usual.pki().expired()), "/events"),
        (Reason::InsufficientPermissions, &usual, usual.consumer(), "/events/42"),
        (Reason::AmbiguousRequest, &usual, usual.producer(), "/a%2Fb"),
        (Reason::ServerFull, &full, full.producer(), "/events"),
        (Reason::Overloaded, &busy, busy.producer(), "/events"),
        (Reason::BackendUnavailable, &unavailable, unavailable.producer(), "/events"),
        (Reason::BackendTimeout, &slow, slow.producer(), "/events"),
    ];
    for (reason, proxy, client, path) in cases {
        check(reason, &client.connect(proxy.address).unwrap().get(path).unwrap());
        check(reason, &Http2::connect(&client, proxy.address).unwrap().get(path).unwrap());
    }
}

#[test]
fn the_body_is_a_problem_document_with_all_fields() {
    for_each_refusal(|reason, answer| {
        let row = reason.row();
        assert_eq!(answer.status, row.status.as_u16(), "{reason:?}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{reason:?}");
        assert_eq!(
            answer.header("content-length"),
            Some(answer.body.len().to_string().as_str()),
            "{reason:?}"
        );
        let problem = answer.json();
        assert_eq!(problem["status"], row.status.as_u16(), "{reason:?}");
        assert_eq!(problem["title"], row.title, "{reason:?}");
        assert_eq!(problem["reason"], row.reason, "{reason:?}");
        assert!(problem["type"].as_str().unwrap().ends_with(row.reason), "{problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        assert!(!problem["request_id"].as_str().unwrap().is_empty(), "{problem}");
        if !answer.phrase.is_empty() {
            assert_eq!(answer.phrase, row.title, "{reason:?}");
        }
    });
}

#[test]
fn the_headers_say_what_a_client_can_do() {
    for_each_refusal(|reason, answer| {
        let status = answer.status;
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{reason:?}: {answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 504, "{reason:?}: {answer:?}");
        assert_eq!(
            answer.header("proxy-status").is_some(),
            [403, 504].contains(&status),
            "{reason:?}: {answer:?}"
        );
        if let Some(seconds) = answer.header("retry-after") {
            assert!(seconds.parse::<u64>().unwrap() > 0, "{reason:?}");
        }
        if let Some(proxy_status) = answer.header("proxy-status") {
            assert!(proxy_status.contains("; error="), "{reason:?}: {proxy_status}");
        }
    });
}

#[test]
fn the_detail_explains_the_refusal_and_reveals_no_configuration() {
    for_each_refusal(|reason, answer| {
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(!detail.contains("127.0.0.1"), "{reason:?}: {detail}");
        assert!(!detail.contains("spiffe://") && !detail.contains("everything"), "{reason:?}: {detail}");
        match reason {
            Reason::InvalidCertificate => assert!(detail.contains("expired on 20"), "{detail}"),
            Reason::InsufficientPermissions => assert_eq!(detail, "no grant allows GET /events/42"),
            _ => {}
        }
    });
}

#[test]
fn each_refusal_has_its_own_request_id() {
    let mut ids = std::collections::HashSet::new();
    for_each_refusal(|_, answer| assert!(ids.insert(answer.json()["request_id"].to_string()), "{answer:?}"));
}

#[test]
fn a_refused_head_request_gets_the_headers_and_no_body() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for (client, status) in [(proxy.anonymous(), 401), (proxy.consumer(), 403)] {
        let mut connection = client.connect(proxy.address).unwrap();
        let answer = connection.ask("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.header("content-length").unwrap().parse::<usize>().unwrap() > 0);
        assert_eq!(
            connection.get("/events").unwrap().status,
            status,
            "no body was sent between the two answers"
        );
        let http2 = Http2::connect(&client, proxy.address).unwrap();
        let answer = http2.ask(request("HEAD", "/events", &[]), b"").unwrap();
        assert_eq!((answer.status, answer.body.len()), (status, 0));
    }
}

/// In HTTP/2 an answer may end before the upload. A reset at that moment is an error for some clients, such as curl 7.
#[test]
fn a_refused_upload_over_http2_can_be_finished() {
    let backend = RefusingPort::new();
    let proxy = Proxy::in_front_of(&backend.url());
    for (client, status) in [(proxy.consumer(), 403), (proxy.anonymous(), 401), (proxy.producer(), 504)] {
        let connection = Http2::connect(&client, proxy.address).unwrap();
        let upload = connection.open(request("POST", "/events", &[("content-length", "4")]), false).unwrap();
        let (answer, mut body, mut upload) = upload.head().unwrap();
        assert_eq!(answer.status, status);
        wait(async move { while body.data().await.is_some() {} });
        assert_eq!(connection.get("/readable").unwrap().status, if status == 403 { 504 } else { status });
        let reset = wait(async move {
            let reset = poll_fn(|context| Poll::Ready(upload.poll_reset(context))).await;
            let sent = upload.send_data(Bytes::from_static(b"late"), true);
            (reset.is_ready(), sent.is_ok())
        });
        assert_eq!(reset, (false, true), "{status}: the stream was reset");
    }
}

/// Case 31.
#[test]
fn plain_http_gets_the_hint_that_this_port_speaks_https() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /events HTTP/1.0\r\n\r\n"] {
        let mut plain = Wire::plain(proxy.address).unwrap();
        let answer = plain.ask(request).unwrap();
        assert_eq!(answer.verdict(), "401 not_authenticated");
        assert!(answer.json()["detail"].as_str().unwrap().contains("HTTPS"), "{answer:?}");
        assert!(plain.is_closed());
    }
    assert!(backend.received().is_empty());
}

#[test]
fn a_permitted_answer_has_no_header_of_a_refusal() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let answer = proxy.connect().get("/events").unwrap();
    assert_eq!(answer.status, 200);
    for name in ["www-authenticate", "retry-after", "proxy-status"] {
        assert!(answer.header(name).is_none(), "{answer:?}");
    }
}

#[test]
fn the_table_of_refusals_in_the_readme_is_that_of_the_program() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let rows: Vec<&str> =
        readme.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).collect();
    let expected: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| reason.row())
        .map(|row| format!("| {} | {} | `{}` | {} |", row.status.as_u16(), row.title, row.reason, row.when))
        .collect();
    assert_eq!(rows, expected);
}
