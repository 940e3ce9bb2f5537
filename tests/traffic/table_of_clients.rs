//! The table of deploy/clients.md: what usual clients see when an upload is refused, when the server stops or the connection
//! gets too old within a request, when a thousand requests are sent at once, and of an interim answer.
//!
//! `.ci/tools` installs the clients. If one is missing, the test fails in CI and is skipped elsewhere.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::support::backend::OK;
use crate::support::tools::{node, script};
use crate::support::{Backend, DEADLINE, Proxy, Setup, eventually, installed, is_missing};

const PAGE: &str = include_str!("../../deploy/clients.md");
const CURL: [(&str, &str); 2] = [("curl", "--http1.1"), ("curl, HTTP/2", "--http2")];
const UPLOADS: [(&str, usize); 3] =
    [("upload 70 kB", 70_000), ("upload 1 MB", 1_000_000), ("upload 10 MB", 10_000_000)];
/// The age at which connections of one proxy end. Its backend takes twice as long for `/slow`.
const AGE: Duration = Duration::from_millis(500);

/// The results, by client and situation.
type Results = BTreeMap<(String, String), String>;

/// Returns a backend that answers `/gated` once the gate is open, `/slow` after twice [`AGE`], and `/early` after a 103.
fn backend(gate: &Arc<AtomicBool>) -> Backend {
    let gate = Arc::clone(gate);
    Backend::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            let line = request.start_line();
            while line.contains("/gated") && !gate.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            if line.contains("/slow") {
                thread::sleep(AGE * 2);
            }
            if line.contains("/early") {
                connection.wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")?;
            }
            connection.wire.send(OK)?;
        }
        Ok(())
    })
}

/// The proxies, and the environment in which clients run.
struct Situations {
    usual: Proxy,
    aged: Proxy,
    drained: Proxy,
    backends: [Backend; 2],
    gate: Arc<AtomicBool>,
}

impl Situations {
    fn new() -> Self {
        let gate = Arc::default();
        let backends = [backend(&gate), backend(&gate)];
        let setup = |backend: &Backend| {
            Setup::new(&backend.url())
                .set("limits.max_connections", 2000)
                .set("limits.lobby.handshake_timeout", "60s")
                .set("backend.queue", 1000)
                .set("backend.queue_timeout", "60s")
        };
        let [first, second] = &backends;
        let usual = setup(first);
        // One certificate of a client is for all proxies.
        let same_pki = |other: Setup| {
            usual.pki.server.write(other.folder.path(), "server").unwrap();
            fs::copy(usual.path("client-ca.crt"), other.path("client-ca.crt")).unwrap();
            other.start()
        };
        let aged = same_pki(setup(first).set("limits.connection_age", format!("{}ms", AGE.as_millis())));
        let drained = same_pki(setup(second).set("drain_timeout", "60s"));
        Self { usual: usual.start(), aged, drained, backends, gate }
    }

    /// Starts a client, with the files and the addresses of the proxies in its environment.
    fn start(&self, command: &mut Command) -> Child {
        let (pki, folder) = (self.usual.pki(), self.usual.setup.folder.path());
        for (name, credential) in [("producer", &pki.producer), ("consumer", &pki.consumer)] {
            credential.write(folder, name).unwrap();
        }
        let path = |name: &str| self.usual.setup.path(name);
        let url = |proxy: &Proxy| format!("https://localhost:{}", proxy.address.port());
        command.env("CA", path("client-ca.crt"));
        command.env("PRODUCER", path("producer")).env("CONSUMER", path("consumer"));
        command.env("URL", url(&self.usual)).env("AGED", url(&self.aged)).env("DRAINED", url(&self.drained));
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Starts all clients at once for one stage.
    fn start_all(&self, stage: &str) -> Vec<Child> {
        let classes = self.usual.setup.path("");
        let mut python = Command::new(installed("venv/bin/python"));
        python.arg(script("clients/situations.py"));
        let mut node = node("undici").unwrap();
        node.arg(script("clients/situations.mjs"));
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(classes).arg("Situations");
        let mut shell = Command::new("sh");
        shell.arg(self.usual.setup.path("situations.sh"));
        [python, node, java, shell].map(|mut command| self.start(command.arg(stage))).into()
    }
}

/// A shell script that runs curl and wget. wget tries again by itself, unless it is told not to.
fn shell_script() -> String {
    let mut main = String::new();
    let mut drain = String::new();
    let curl = |flag: &str, who: &str| {
        let credential = match who {
            "" => String::new(),
            who => format!("--cert ${who}.crt --key ${who}.key"),
        };
        format!("curl {flag} -s --max-time 60 --cacert $CA {credential} -o /dev/null -w '%{{http_code}}'")
    };
    for (name, flag) in CURL {
        let say = |situation: &str, command: &str| format!("echo \"{name} | {situation} | $({command})\"\n");
        for (situation, size) in UPLOADS {
            main += &format!("head -c {size} /dev/zero > $CA.{size}\n");
            let upload = format!("{} --data-binary @$CA.{size} $URL/events", curl(flag, "CONSUMER"));
            main += &say(situation, &upload);
        }
        main += &say("401 to an upload", &format!("{} --data-binary @$CA.70000 $URL/events", curl(flag, "")));
        main += &say("103", &format!("{} $URL/early", curl(flag, "PRODUCER")));
        let two = format!("{} $AGED/slow --next {}", curl(flag, "PRODUCER"), &curl(flag, "PRODUCER")[5..]);
        main +=
            &say("age within a request", &format!("{two} $AGED/events").replacen("code}'", "code}, '", 1));
        drain += &format!(
            "({}) &\n",
            say("drain within a request", &format!("{} $DRAINED/gated", curl(flag, "PRODUCER"))).trim()
        );
    }
    let wget = |who: &str, rest: &str| {
        let credential = match who {
            "" => String::new(),
            who => format!("--certificate=${who}.crt --private-key=${who}.key"),
        };
        let wget =
            format!("wget -S -O /dev/null --timeout=60 --tries=1 --ca-certificate=$CA {credential} {rest}");
        format!("{wget} 2>&1 | sed -n 's/^ *HTTP[/][^ ]* \\([0-9]*\\).*/\\1/p' | paste -sd ' '")
    };
    let say = |situation: &str, command: String| format!("echo \"wget | {situation} | $({command})\"\n");
    for (situation, size) in UPLOADS {
        main += &say(situation, wget("CONSUMER", &format!("--post-file=$CA.{size} $URL/events")));
    }
    main += &say("401 to an upload", wget("", "--post-file=$CA.70000 $URL/events"));
    main += &say("103", wget("PRODUCER", "$URL/early"));
    main += &say("age within a request", wget("PRODUCER", "$AGED/slow $AGED/events"));
    drain += &format!("({}) &\n", say("drain within a request", wget("PRODUCER", "$DRAINED/gated")).trim());
    format!("if [ $1 = main ]; then\n{main}else\n{drain}wait\nfi\n")
}

/// Adds what the clients print.
fn read(children: Vec<Child>, results: &mut Results) {
    for child in children {
        let output = child.wait_with_output().unwrap();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let mut parts = line.splitn(3, " | ").map(str::to_owned);
            let (Some(client), Some(situation), Some(result)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            results.insert((client, situation), result);
        }
    }
}

/// The table of the page.
fn table() -> Results {
    let mut rows = PAGE
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let situations = rows.next().unwrap();
    let mut table = Results::new();
    for row in rows.skip(1).take_while(|row| row.len() == situations.len()) {
        for (situation, cell) in situations.iter().zip(&row).skip(1).filter(|(_, cell)| *cell != "–") {
            table.insert((row[0].clone(), situation.clone()), cell.clone());
        }
    }
    table
}

#[test]
fn every_usual_client_sees_what_the_table_of_clients_says() {
    let python = installed("venv/bin/python");
    let modules = "import requests, httpx, h2, aiohttp, grpc";
    if is_missing("clients of Python", Command::new(python).args(["-c", modules]))
        || is_missing("javac", Command::new("javac").arg("-version"))
        || is_missing("curl", Command::new("curl").arg("--version"))
        || is_missing("wget", Command::new("wget").arg("--version"))
        || ["undici", "@grpc/grpc-js"].into_iter().any(|module| node(module).is_none())
    {
        return;
    }
    let mut situations = Situations::new();
    let folder = situations.usual.setup.path("");
    fs::write(folder.join("situations.sh"), shell_script()).unwrap();
    let sources = ["WithHttpClient.java", "Situations.java"].map(|name| script("clients").join(name));
    assert!(Command::new("javac").arg("-d").arg(&folder).args(sources).status().unwrap().success());
    let mut results = Results::new();
    let main = situations.start_all("main");
    let drain = situations.start_all("drain");
    let table = table();
    let draining = table.keys().filter(|(_, situation)| situation == "drain within a request").count();
    let [_, gated] = &situations.backends;
    // A client that does not come is a difference from the table.
    let start = Instant::now();
    while gated.received().len() < draining && start.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(20));
    }
    situations.drained.process.signal("TERM");
    let readiness = || situations.drained.admin.get("/readyz").status;
    eventually("not ready", readiness, |status| *status == 503);
    situations.gate.store(true, Ordering::SeqCst);
    read(drain, &mut results);
    read(main, &mut results);
    assert_eq!(situations.drained.process.exit().code(), Some(0));
    let differences: Vec<_> = table
        .keys()
        .filter(|key| table.get(*key) != results.get(*key))
        .map(|key| format!("{key:?}: {:?}, the table says {:?}", results.get(key), table.get(key)))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
