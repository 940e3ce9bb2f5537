//! The page of the admin listener in a real browser, with the real program under traffic.
//!
//! `SHOTS=folder cargo test --test promises page` writes a picture of every view into the folder.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use sidegate::demo::pki::{Credential, Leaf, pem};

use crate::support::tools::{node, script};
use crate::support::{Backend, Client, Proxy, Setup, is_missing};

const POLICY: &str = r#"version: 1

permissions:
  events:read:
    - GET /events
    - GET /events/{id}
  events:publish:
    - POST /events
  events:erase:
    - DELETE /events/{id}
  reports:export:
    - route: GET /reports/{name}
      query: { format: [csv, json] }
  tenant:read:
    - GET /tenants/{client.tenant}/events/**

roles:
  consumer: [events:read]
  producer: [consumer, events:publish]
  operator: [producer, events:erase]

clients:
  - name: order-service
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    roles: [operator]

  - name: report-service
    match: { uri: "spiffe://shop.example/ns/reports/sa/*" }
    roles: [consumer]
    permissions: [reports:export]

  - name: tenants
    match: { organization: Tenants, common_name: "{tenant}-reader" }
    permissions: [tenant:read]
    when: { source: [10.0.0.0/8] }

  - name: on-call
    match: { organizational_unit: Operations }
    roles: [operator]
    when: { days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin }

deny:
  - name: no-erasing
    permissions: [events:erase]
    clients: [order-service]
  - name: audit-trail-is-kept
    routes: [DELETE /events/erase-me]
"#;

/// A client name that would run a script if the page used it as markup.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// Clients that send requests until the value is dropped.
struct Traffic {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(proxy: &Proxy) -> Self {
        let pki = proxy.pki();
        let hostile = pki.issue(&Leaf::client("Shop", HOSTILE));
        let ends = Arc::new(AtomicBool::new(false));
        let ask = |client: Client, targets: &'static [&'static str], pause: u64| {
            let (ends, address) = (Arc::clone(&ends), proxy.address);
            thread::spawn(move || {
                let mut connection = client.connect(address).ok();
                for target in targets.iter().cycle() {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let (method, path) = target.split_once(' ').unwrap_or(("GET", "/"));
                    let request =
                        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
                    let answer = connection.as_mut().map(|connection| connection.ask(&request));
                    if !matches!(answer, Some(Ok(answer)) if answer.status < 400) {
                        connection = client.connect(address).ok();
                    }
                    // The pause sets the rate of the client; no event is awaited.
                    thread::sleep(Duration::from_millis(pause));
                }
            })
        };
        let reads = &["GET /events", "GET /events/17", "POST /events", "GET /events"];
        let threads = vec![
            ask(proxy.producer(), reads, 40),
            ask(proxy.consumer(), &["GET /events", "GET /events/3"], 60),
            ask(proxy.client(&pki.expired()), &["GET /events"], 900),
            ask(proxy.anonymous(), &["GET /events"], 3000),
            ask(proxy.client(&hostile), &["GET /events"], 4000),
        ];
        // These two denied requests are shown by the page.
        let once = |client: Client, request: &str| {
            let mut connection = client.connect(proxy.address).unwrap();
            assert_eq!(
                connection.ask(&format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap().status,
                403
            );
        };
        once(proxy.consumer(), "DELETE /events/erase-me");
        once(proxy.consumer(), "GET /reports/weekly?format=pdf&key=s3cr3t");
        Self { ends, threads }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap_or_default());
    }
}

fn chain_of(credential: &Credential) -> String {
    credential.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
}

/// Returns a command for Node with the browser driver; `None` if a tool is not installed.
fn browser() -> Option<Command> {
    if is_missing("chromium", Command::new("/usr/bin/chromium").arg("--version")) {
        return None;
    }
    node("axe-core").and_then(|_| node("playwright-core"))
}

/// Runs the checks of `look.mjs` for this scene.
fn look(proxy: &Proxy, scene: &Value) {
    let Some(mut command) = browser() else { return };
    let file = proxy.setup.path("scene.json");
    fs::write(&file, scene.to_string()).unwrap();
    command
        .arg(script("page/look.mjs"))
        .env("SCENE", file)
        .env("BASE", format!("http://{}", proxy.admin.address));
    // A debug build on a busy machine gets more time.
    command.env("PAINT", if cfg!(debug_assertions) { "1000" } else { "100" });
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{text}");
}

#[test]
fn every_view_shows_the_traffic_and_the_configuration() {
    if browser().is_none() {
        return;
    }
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url())
        .policy(POLICY)
        .set("limits.max_connections", 12)
        .set("shadow_policies", "next.yaml");
    fs::write(
        setup.path("next.yaml"),
        POLICY.replace("producer: [consumer, events:publish]", "producer: [consumer]"),
    )
    .unwrap();
    let proxy = setup.start();
    let _traffic = Traffic::start(&proxy);
    let pki = proxy.pki();
    look(
        &proxy,
        &json!({
            "slots": 12, "hostile": HOSTILE, "valid": chain_of(&pki.producer), "expired": chain_of(&pki.expired()),
        }),
    );
}

#[test]
fn the_page_asks_for_the_token() {
    if browser().is_none() {
        return;
    }
    let token = "0123456789abcdef0123456789abcdef";
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("admin.token_file", "token");
    fs::write(setup.path("token"), token).unwrap();
    look(&setup.start(), &json!({ "token": token }));
}

/// Every file that the page names is served with its type, and the content security policy allows no other source.
#[test]
fn the_files_of_the_page_are_served_with_a_strict_content_security_policy() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let page = proxy.admin.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    let named: Vec<&str> = text.split('"').filter(|part| part.starts_with("/page/")).collect();
    assert!(named.len() > 6, "{named:?}");
    for path in named {
        assert_eq!(proxy.admin.get(path).status, 200, "{path}");
    }
    let etag = page.header("etag").unwrap().to_owned();
    let again = proxy.admin.ask("GET", "/", &format!("If-None-Match: {etag}\r\n"), "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let script = proxy.admin.get("/page/app.js");
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(proxy.admin.get("/page/../Cargo.toml").status, 404);
    assert_eq!(proxy.admin.post("/", "").status, 405);
}

#[test]
fn the_licence_of_foreign_code_is_beside_the_code() {
    let licence = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/page/uplot/LICENSE");
    assert!(fs::read_to_string(licence).unwrap().contains("MIT"));
}
