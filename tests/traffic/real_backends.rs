//! Common servers give the same answers through Sidegate as directly.
//!
//! The same requests go to the server directly and through Sidegate, over HTTP/1.1 and HTTP/2; `traffic.rs` says what may
//! differ, and why. `.ci/tools` installs the servers. If a server is missing, its test fails in CI and is skipped elsewhere.

mod servers;
mod traffic;

use std::time::Duration;

use bytes::Bytes;
use sidegate::demo::pki::Credential;

use self::servers::Server;
use self::traffic::{Ask, Body, Ways};
use crate::support::tools::script;
use crate::support::{Proxy, Setup};

fn in_front_of(server: &Server) -> Proxy {
    Setup::new(&server.url()).start()
}

fn large() -> Bytes {
    (0..4 * 1024 * 1024_u32).map(|n| (n / 3 % 253) as u8).collect()
}

/// Sends the requests for every kind of application.
fn assert_application(server: Option<Server>) -> Option<(Server, Proxy)> {
    let server = server?;
    let proxy = in_front_of(&server);
    let ways = Ways { server: &server, proxy: &proxy };
    assert_target_is_read_alike(&ways);
    assert_requests_arrive_whole(&ways);
    assert_answers_arrive_whole(&ways);
    assert_http_1_0_is_served(&ways);
    assert_connections_are_kept(&ways);
    Some((server, proxy))
}

/// The path that the application decodes is the one that was judged.
fn assert_target_is_read_alike(ways: &Ways<'_>) {
    for (target, path, query) in [
        ("/echo/plain", "/echo/plain", ""),
        ("/echo/plain/", "/echo/plain/", ""),
        ("/echo/a%20b/%C3%BC?x=%2F&y=a+b&z=%C3%BC", "/echo/a b/ü", "x=%2F&y=a+b&z=%C3%BC"),
        ("/echo/%E6%97%A5%E6%9C%AC/%F0%9F%A6%80", "/echo/日本/🦀", ""),
        ("/echo/a,b:c@d!$&'()*+=~-._", "/echo/a,b:c@d!$&'()*+=~-._", ""),
        ("/echo/a%2Cb%3Ac%40d%21%24%26%27%28%29%2A%2B%3D%7E", "/echo/a,b:c@d!$&'()*+=~", ""),
        ("/echo/%41%62?", "/echo/Ab", ""),
        ("/echo/x?a=1?b=2/../c;d", "/echo/x", "a=1?b=2/../c;d"),
        ("/echo/%22%3C%3E%5B%5D%5E%60%7B%7C%7D%23%3F", "/echo/\"<>[]^`{|}#?", ""),
        ("/echo/a%25", "/echo/a%", ""),
        ("/echo/..a/b../...", "/echo/..a/b../...", ""),
    ] {
        let answer = ways.compare(&Ask::get(target)).json();
        assert_eq!(
            (answer["path"].as_str(), answer["query"].as_str()),
            (Some(path), Some(query)),
            "{target}"
        );
    }
}

fn assert_requests_arrive_whole(ways: &Ways<'_>) {
    let form = Bytes::from_static(b"name=J%C3%BCrgen&x=1");
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        ways.compare(&Ask::new(method, "/echo/method"));
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for body in [Body::Whole(form.clone()), Body::Chunked(form.clone()), Body::Whole(Bytes::new())] {
            let ask =
                Ask::new(method, "/echo/body").header("content-type", "application/x-www-form-urlencoded");
            ways.compare(&ask.body(body));
        }
    }
    for body in [Body::Whole(large()), Body::Chunked(large()), Body::Expected(large())] {
        let answer = ways.compare(&Ask::new("PUT", "/echo/large").body(body)).json();
        assert_eq!(answer["length"], large().len());
    }
    ways.compare(
        &Ask::get("/echo/headers")
            .header("accept", "text/html, */*;q=0.1")
            .header("accept-language", "de-CH")
            .header("user-agent", "a client/1.0 (of the test)")
            .header("authorization", "Basic dXNlcjpwYXNz")
            .header("cookie", "a=1; b=\"2\"")
            .header("x-empty", "")
            .header("x-many", "1")
            .header("x-many", "2, 3")
            .header("x-words", "a  b\tc")
            .header("x-utf-8", "café")
            .header("x-long", "x".repeat(6000)),
    );
}

fn assert_answers_arrive_whole(ways: &Ways<'_>) {
    for target in ["/old", "/cookies", "/gzip", "/entity", "/empty", "/download", "/stream", "/missing"] {
        let answer = ways.compare(&Ask::get(target));
        ways.compare(&Ask::new("HEAD", target));
        match target {
            "/cookies" => {
                assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2)
            }
            "/download" => assert_eq!(answer.body.len(), 4 * 1024 * 1024),
            "/empty" => assert_eq!(answer.status, 204),
            "/old" => assert_eq!(answer.status, 302),
            _ => {}
        }
    }
    let not_modified = ways.compare(&Ask::get("/entity").header("if-none-match", "\"v1\""));
    assert_eq!(not_modified.status, 304);
    ways.compare(&Ask::get("/entity").header("if-none-match", "\"v2\""));
    let early = ways.compare(&Ask::new("POST", "/early").body(Body::Announced(1 << 30)));
    assert_eq!((early.status, early.text().as_str()), (413, "too large"));
}

/// HTTP/1.0 has neither chunks nor interim answers, and requests without `Host`.
fn assert_http_1_0_is_served(ways: &Ways<'_>) {
    for target in ["/entity", "/stream", "/missing", "/download"] {
        for more in ["Host: localhost\r\n", "", "Connection: keep-alive\r\n"] {
            let request = format!("GET {target} HTTP/1.0\r\n{more}\r\n");
            let direct = ways.server.connect().unwrap().ask(&request).unwrap();
            let through = ways.proxy.producer().connect(ways.proxy.address).unwrap().ask(&request).unwrap();
            let lawful = [("content-length", "a server may give a length in one version of HTTP only")];
            Ask::get(target).assert_same(&format!("HTTP/1.0 {more}"), &direct, &through, &lawful);
            assert_eq!(through.header("transfer-encoding"), None, "{target}");
        }
    }
}

/// Sends requests one after the other on one connection, and then all at once.
fn assert_connections_are_kept(ways: &Ways<'_>) {
    let asks: Vec<_> = ["/echo/1", "/cookies", "/missing", "/stream", "/echo/2", "/empty", "/entity"]
        .map(Ask::get)
        .into_iter()
        .chain([Ask::new("HEAD", "/entity"), Ask::new("OPTIONS", "/echo/3")])
        .collect();
    let expected: Vec<_> =
        asks.iter().map(|ask| ask.send(&mut ways.server.connect().unwrap()).unwrap()).collect();
    let mut kept = ways.proxy.producer().connect(ways.proxy.address).unwrap();
    for (ask, expected) in asks.iter().zip(&expected) {
        ask.assert_same("kept", expected, &ask.send(&mut kept).unwrap(), &[]);
    }
    let mut pipelined = ways.proxy.producer().connect(ways.proxy.address).unwrap();
    pipelined.send(asks.iter().map(|ask| ask.head("HTTP/1.1")).collect::<String>()).unwrap();
    for (ask, expected) in asks.iter().zip(&expected) {
        ask.assert_same("pipelined", expected, &pipelined.answer_to(ask.method).unwrap(), &[]);
    }
}

/// The page of the server for an application that fails is passed on.
fn assert_failures_are_passed_on(ways: &Ways<'_>) {
    assert_eq!(ways.compare(&Ask::get("/fail")).status, 500);
}

#[test]
fn a_wsgi_application_of_python_answers_the_same() {
    let Some((server, proxy)) = assert_application(servers::gunicorn()) else { return };
    assert_failures_are_passed_on(&Ways { server: &server, proxy: &proxy });
}

#[test]
fn an_asgi_application_of_python_answers_the_same() {
    let Some((server, proxy)) = assert_application(servers::uvicorn()) else { return };
    assert_failures_are_passed_on(&Ways { server: &server, proxy: &proxy });
}

#[test]
fn an_application_of_java_answers_the_same() {
    let Some((server, proxy)) = assert_application(servers::java()) else { return };
    // The server of the JDK closes the connection without an answer when the application fails.
    assert!(Ask::get("/fail").send(&mut server.connect().unwrap()).is_err());
    let answer = proxy.connect().get("/fail").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
}

#[test]
fn an_application_of_express_answers_the_same() {
    let Some((server, proxy)) = assert_application(servers::express()) else { return };
    let ways = Ways { server: &server, proxy: &proxy };
    assert_failures_are_passed_on(&ways);
    let trailers = ways.compare(&Ask::get("/trailers").header("te", "trailers"));
    assert_eq!(trailers.trailers, [("x-checksum".to_owned(), "17".to_owned())]);
    ways.compare(&Ask::get("/hints"));
    let hints = Ask::get("/hints").send(&mut proxy.connect()).unwrap();
    assert_eq!(hints.informational, [103]);
    assert_files(&ways);
}

#[test]
fn nginx_serves_the_same_files() {
    let Some(server) = servers::nginx() else { return };
    let proxy = in_front_of(&server);
    let ways = Ways { server: &server, proxy: &proxy };
    assert_files(&ways);
    let packed = ways.compare(&Ask::get("/packed/events.json").header("accept-encoding", "gzip"));
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    // For a request with `Via`, nginx does not compress unless `gzip_proxied` says so.
    let plain = Ask::get("/events.json").header("accept-encoding", "gzip");
    let through = plain.send(&mut proxy.connect()).unwrap();
    assert_eq!((through.status, through.header("content-encoding")), (200, None));
}

#[test]
fn apache_serves_the_same_files() {
    let Some(server) = servers::apache() else { return };
    let proxy = in_front_of(&server);
    let ways = Ways { server: &server, proxy: &proxy };
    assert_files(&ways);
    let packed = ways.compare(&Ask::get("/events.json").header("accept-encoding", "gzip"));
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    ways.compare(&Ask::new("PUT", "/events.json").body(Body::Expected(Bytes::from_static(b"x"))));
}

/// Sends the requests for every server of files.
fn assert_files(ways: &Ways<'_>) {
    for target in [
        "/",
        "/events.json",
        "/gr%C3%B6%C3%9Fe%20und%20l%C3%A4nge.txt",
        "/100%25%20a+b,c.txt",
        "/large.bin",
        "/empty.txt",
        "/folder",
        "/folder/",
        "/missing",
        "/events.json?v=1&w=%2F",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
            ways.compare(&Ask::new(method, target));
        }
    }
    let whole = ways.compare(&Ask::get("/large.bin"));
    assert_eq!(whole.body.len(), 4 * 1024 * 1024);
    let validator = |name: &str| whole.header(name).unwrap().to_owned();
    for (condition, value, status) in [
        ("if-none-match", validator("etag"), 304),
        ("if-none-match", "\"another\"".to_owned(), 200),
        ("if-none-match", "*".to_owned(), 304),
        ("if-modified-since", validator("last-modified"), 304),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT".to_owned(), 200),
        ("if-match", "\"another\"".to_owned(), 412),
    ] {
        let answer = ways.compare(&Ask::get("/large.bin").header(condition, value.as_str()));
        assert_eq!(answer.status, status, "{condition}: {value}");
        ways.compare(&Ask::new("HEAD", "/large.bin").header(condition, value));
    }
    for (range, status) in [
        ("bytes=0-9", 206),
        ("bytes=-5", 206),
        ("bytes=4194000-", 206),
        ("bytes=99999999-", 416),
        ("bytes=0-1,5-8", 206),
        ("bytes=nonsense", 0),
        ("events=0-1", 0),
    ] {
        let answer = ways.compare(&Ask::get("/large.bin").header("range", range));
        // Servers answer invalid ranges in different ways.
        assert!(status == 0 || answer.status == status || range.contains(','), "{range}: {}", answer.status);
        ways.compare(&Ask::get("/large.bin").header("range", range).header("if-range", validator("etag")));
        ways.compare(&Ask::get("/large.bin").header("range", range).header("if-range", "\"another\""));
    }
    let server = Ask::new("OPTIONS", "*");
    let through = server.send(&mut ways.proxy.producer().connect(ways.proxy.address).unwrap()).unwrap();
    let direct = server.send(&mut ways.server.connect().unwrap()).unwrap();
    server.assert_same("HTTP/1.1", &direct, &through, &[]);
}

/// Servers that close idle connections after a second, at the moment of the next request: it is answered all the same.
#[test]
fn servers_that_close_idle_connections_early_lose_no_request() {
    let servers = [
        servers::uvicorn_with(&["--timeout-keep-alive=1"]),
        servers::gunicorn_with(&["--keep-alive=1"]),
        servers::express_with(&[("KEEP_ALIVE_MILLISECONDS", "1000")]),
    ];
    let proxies: Vec<_> = servers.iter().flatten().map(in_front_of).collect();
    for pause in [0, 990, 1000, 1010, 995, 1005] {
        std::thread::sleep(Duration::from_millis(pause));
        for proxy in &proxies {
            assert_eq!(proxy.connect().get("/echo/kept").unwrap().status, 200, "after {pause} ms");
        }
    }
    let faults: f64 = proxies
        .iter()
        .map(|proxy| {
            proxy.admin.metrics().labelled("sidegate_backend_requests_total", &[("result", "terminated")])
        })
        .sum();
    assert_eq!(faults, 0.0);
}

/// Runs a client in Python, and returns its output.
fn run_client(file: &str, modules: &str, arguments: &[String]) -> String {
    let mut command = servers::python(file, modules).unwrap();
    let output = command.arg(script("traffic/real_backends").join(file)).args(arguments).output().unwrap();
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{file}: {text}\n{log}");
    text.into_owned()
}

/// Returns the arguments of a client: an address, the authority, and the files of the credential.
fn arguments_of(proxy: &Proxy, address: String, credential: Option<(&str, &Credential)>) -> Vec<String> {
    let file = |name: String| proxy.setup.path(&name).to_str().unwrap().to_owned();
    let mut arguments = vec![address, file("client-ca.crt".to_owned())];
    if let Some((name, credential)) = credential {
        credential.write(proxy.setup.folder.path(), name).unwrap();
        arguments.extend([file(format!("{name}.crt")), file(format!("{name}.key"))]);
    }
    arguments
}

#[test]
fn a_grpc_server_answers_the_same() {
    let Some(server) = servers::python_script("grpc_server.py", "import grpc") else { return };
    let call = |arguments: &[String]| run_client("grpc_client.py", "import grpc", arguments);
    let proxy = Setup::new(&server.url().replace("http:", "h2c:")).start();
    let through = |shown| call(&arguments_of(&proxy, proxy.address.to_string(), shown));

    let direct = call(&[server.address().to_string()]);
    for line in [
        "unary (b'EVENTS', [('told', 'a value'), ('told-bin', b'\\x00\\xff\\r\\n')], [('length', '6')])",
        "failures ('Fail', 'NOT_FOUND', 'no such event: 100 % größer', [('hint', '17')])",
        "giving_up b'given up'",
        "giving_up DEADLINE_EXCEEDED",
    ] {
        assert!(direct.lines().any(|output| output == line), "{line}\n{direct}");
    }
    let producer = Some(("producer", &proxy.pki().producer));
    assert_eq!(through(producer), direct);

    // Every kind of call gets a refusal as a status of gRPC, with the reason.
    let assert_all = |code: &str, detail: &str, output: &str| {
        assert!(
            output.lines().count() >= 5 && output.lines().all(|line| line.contains(code)),
            "{code}: {output}"
        );
        assert!(output.contains(detail), "{detail}: {output}");
    };
    assert_all("UNAUTHENTICATED", "needs a client certificate", &through(None));
    let consumer = through(Some(("consumer", &proxy.pki().consumer)));
    assert_all("PERMISSION_DENIED", "no grant allows POST /shop.Events/Fail", &consumer);
    drop(server);
    assert_all("UNAVAILABLE", "the service", &through(producer));
}

const LIVE: &str = r#"version: 1
permissions:
  live:
    - { route: GET /live, upgrade: websocket }
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [live]
"#;

fn assert_websocket_works(server: Option<Server>) {
    let Some(server) = server else { return };
    let module = "import websockets";
    if servers::python("websocket_client.py", module).is_none() {
        return;
    }
    let proxy = Setup::new(&server.url()).policy(LIVE).start();
    let through = |path: &str, shown| {
        let url = format!("wss://localhost:{}{path}", proxy.address.port());
        run_client("websocket_client.py", module, &arguments_of(&proxy, url, shown))
    };
    let direct = run_client("websocket_client.py", module, &[format!("ws://{}/live", server.address())]);
    for line in [
        "the server closed first: 4000 as you like True",
        "the client closed first: 4001 enough",
        "pong",
        "abc",
    ] {
        assert!(direct.lines().any(|output| output == line), "{line}\n{direct}");
    }
    let producer = Some(("producer", &proxy.pki().producer));
    assert_eq!(through("/live", producer), direct);
    assert_eq!(through("/live", None), "refused: 401\n");
    assert_eq!(through("/live", Some(("consumer", &proxy.pki().consumer))), "refused: 403\n");
    assert_eq!(through("/elsewhere", producer), "refused: 403\n");
}

#[test]
fn a_websocket_server_of_python_answers_the_same() {
    assert_websocket_works(servers::python_script("websocket_server.py", "import websockets"));
}

#[test]
fn a_websocket_server_of_node_answers_the_same() {
    assert_websocket_works(servers::node_script("websocket_server.mjs", "ws"));
}
