//! The admin listener gives more than health and counts only to those who may read it: clients with the token, or pages of
//! its own on loopback (DESIGN §8).

use std::fs;
use std::net::SocketAddr;

use super::admin_api::proxy;

use crate::support::admin::Admin;
use crate::support::http1::Wire;
use crate::support::{Backend, Setup};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_listener_beyond_loopback_asks_for_the_token_except_for_health_and_metrics() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("admin.listen", "0.0.0.0:0").set("admin.token_file", "token");
    fs::write(setup.path("token"), format!("{TOKEN}\n")).unwrap();
    let proxy = setup.start();
    let admin = Admin { address: SocketAddr::from(([127, 0, 0, 1], proxy.admin.address.port())) };
    let asked = |path: &str, token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        admin.ask("GET", path, &header, "").status
    };
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(admin.get(path).status, 200, "{path}");
    }
    let guarded = ["/status", "/connections", "/api/now", "/api/refusals", "/api/policy", "/api/events"];
    for path in guarded {
        let refused = admin.get(path);
        assert_eq!((refused.status, refused.header("www-authenticate").is_some()), (401, true), "{path}");
        assert_eq!(asked(path, &TOKEN[1..]), 401, "{path}");
    }
    assert_eq!(
        (asked("/status", TOKEN), asked("/connections", TOKEN), asked("/api/now", TOKEN)),
        (200, 200, 200)
    );
    let reload = |token: &str| admin.post("/reload", &format!("Authorization: Bearer {token}\r\n")).status;
    assert_eq!((admin.post("/reload", "").status, reload(TOKEN)), (401, 200));

    // A reload reads a new token, and the old one is no longer accepted.
    let next = TOKEN.to_uppercase();
    fs::write(proxy.setup.path("token"), &next).unwrap();
    assert_eq!(reload(TOKEN), 200);
    assert_eq!((asked("/status", TOKEN), asked("/status", &next)), (401, 200));
    // A token that could be guessed is refused, and the last one stays in force.
    fs::write(proxy.setup.path("token"), "short").unwrap();
    assert_eq!(reload(&next), 422);
    assert_eq!(asked("/status", &next), 200);
}

#[test]
fn an_unusable_token_prevents_the_start() {
    let setup = Setup::new("http://127.0.0.1:1").set("admin.token_file", "token");
    for (token, part) in [("short", "fewer than 16"), ("with spaces that nobody can send", "spaces")] {
        fs::write(setup.path("token"), token).unwrap();
        let finished = setup.run();
        assert_eq!(finished.code, Some(2));
        assert!(
            finished.stderr.contains(part) && finished.stderr.contains("token_file"),
            "{}",
            finished.stderr
        );
    }
}

/// A page of another site can make a browser on this machine send requests to loopback.
#[test]
fn pages_of_other_sites_can_neither_read_nor_change_anything() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let address = proxy.admin.address;
    let ask = |request: &str, host: &str, headers: &str| {
        let request = format!("{request} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 0\r\n\r\n");
        Wire::plain(address).and_then(|mut wire| wire.ask(&request)).unwrap().status
    };
    let own = address.to_string();
    for path in ["/status", "/connections", "/api/policy"] {
        let get = format!("GET {path}");
        assert_eq!(ask(&get, &own, ""), 200);
        assert_eq!(ask(&get, "rebound.evil.example", ""), 403, "{path}");
        assert_eq!(ask(&get, &own, "Origin: https://evil.example\r\n"), 403, "{path}");
        assert_eq!(ask(&get, &own, "Sec-Fetch-Site: cross-site\r\n"), 403, "{path}");
    }
    let same = format!("Origin: http://{own}\r\n");
    assert_eq!(ask("POST /reload", &own, "Origin: https://evil.example\r\n"), 403);
    assert_eq!(ask("POST /reload", "rebound.evil.example", ""), 403);
    assert_eq!(ask("POST /reload", &own, &same), 403);
    let session = proxy.admin.get("/api/session").json();
    let page = session["page"].as_str().unwrap();
    assert_eq!(ask("POST /reload", &own, &format!("{same}X-Sidegate-Page: {page}\r\n")), 200);
}
