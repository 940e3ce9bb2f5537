//! Steps of the demo: commands to paste into a shell, each with its result.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::pki;

/// Maximum number of slots that the step about a full server fills; more would need too many connections.
const MAX_HELD_SLOTS: usize = 64;

/// Addresses and files that the steps use.
#[derive(Clone, Debug)]
pub struct Walkthrough {
    /// Folder with certificates and keys.
    pub folder: PathBuf,
    /// Address of the proxy.
    pub listen: SocketAddr,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// Maximum number of connections that the proxy admits.
    pub max_connections: usize,
    /// Process id of the demo.
    pub process: u32,
}

/// A command to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Action and result.
    pub description: String,
    /// Command for a shell.
    pub command: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "# {}\n{}\n", self.description, self.command)
    }
}

impl Walkthrough {
    /// Returns all steps in the order in which their descriptions are true.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let events = self.url("/events");
        let mut lines = vec![
            step(
                "publish an event: 201",
                format!("{} -d '{{\"order\":42}}' {events}", self.curl(Some("producer"))),
            ),
            step(
                "read the events: 200",
                format!("{} '{events}?after=0&limit=5'", self.curl(Some("consumer"))),
            ),
            step("follow the events as they come, until Ctrl-C: 200, a stream", self.follow()),
            step("no certificate: 401 not_authenticated", format!("{} {events}", self.curl(None))),
            step(
                "an expired certificate: 401 invalid_certificate",
                format!("{} {events}", self.curl(Some("expired"))),
            ),
            step(
                "the right names, signed by a stranger: 401 invalid_certificate",
                format!("{} {events}", self.curl(Some("stranger"))),
            ),
            step(
                "a reader that publishes: 403 insufficient_permissions",
                format!("{} -d '{{\"order\":43}}' {events}", self.curl(Some("consumer"))),
            ),
        ];
        lines.extend(self.revoke());
        lines.extend(self.full());
        lines.extend([
            step("stop the backend (the same line starts it again)", self.toggle()),
            step(
                "read while the backend is stopped: 504 backend_unavailable",
                format!("{} {events}", self.curl(Some("consumer"))),
            ),
            step(
                "no certificate while the backend is stopped: still 401 not_authenticated",
                format!("{} {events}", self.curl(None)),
            ),
            step("start the backend again", self.toggle()),
            step("read again (its events were in memory, and are gone): 200", self.read_again()),
            step("is it ready? 200", format!("curl -sS -i http://{}/readyz", self.admin)),
            step("its metrics: 200", format!("curl -sS -i http://{}/metrics", self.admin)),
            step("its state: 200", format!("curl -sS -i http://{}/status", self.admin)),
        ]);
        lines
    }

    fn follow(&self) -> String {
        format!("{} -N -H 'Last-Event-ID: 0' {}", self.curl(Some("consumer")), self.url("/events/stream"))
    }

    fn read_again(&self) -> String {
        format!("{} {}", self.curl(Some("consumer")), self.url("/events"))
    }

    /// Returns the steps about a revoked certificate. The proxy notices a changed CRL within two seconds; the reload avoids
    /// the wait.
    fn revoke(&self) -> [Step; 3] {
        let put = |crl| {
            let (crl, place) = (self.file(crl), self.file(pki::CRL));
            format!("cp {crl} {place} && curl -sS -i -X POST http://{}/reload", self.admin)
        };
        [
            step(
                "revoke the reader's certificate, which ends its stream too: 200",
                put(pki::CONSUMER_REVOKED),
            ),
            step(
                "a revoked certificate: 401 invalid_certificate",
                format!("{} {}", self.curl(Some("consumer")), self.url("/events")),
            ),
            step("take that back: 200", put(pki::NONE_REVOKED)),
        ]
    }

    /// Holds every slot with a stream of its own, and asks for one more as soon as each of them has said its first
    /// line. One process holds them all, so that they end with it.
    fn full(&self) -> Option<Step> {
        let slots = self.max_connections;
        if slots > MAX_HELD_SLOTS {
            return None;
        }
        let consumer = self.credentials(Some("consumer"));
        let hold = format!(
            "curl -sN --http1.1 -Z --parallel-immediate --parallel-max {slots} --max-time 5 {consumer} '{}?[1-{slots}]'",
            self.url("/events/stream"),
        );
        let ask = format!("{} {}", self.curl(Some("producer")), self.url("/events"));
        Some(step(
            &format!("hold all {slots} slots for 5 seconds, and ask for one more: 504 server_full"),
            format!("{hold} | (head -n {slots} >/dev/null; {ask})"),
        ))
    }

    fn toggle(&self) -> String {
        format!("kill -USR1 {}", self.process)
    }

    fn curl(&self, who: Option<&str>) -> String {
        format!("curl -sS -i {}", self.credentials(who))
    }

    fn credentials(&self, who: Option<&str>) -> String {
        let mut options = format!("--cacert {}", self.file("ca.crt"));
        if let Some(name) = who {
            let (certificate, key) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")));
            options.push_str(&format!(" --cert {certificate} --key {key}"));
        }
        options
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.listen.port())
    }

    fn file(&self, name: &str) -> String {
        quoted(&self.folder.join(name))
    }
}

fn step(description: &str, command: String) -> Step {
    Step { description: description.to_owned(), command }
}

/// Returns a path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain =
        text.chars().all(|character| character.is_ascii_alphanumeric() || "/._-".contains(character));
    if is_plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(folder: &str, max_connections: usize) -> Walkthrough {
        let address = SocketAddr::from(([127, 0, 0, 1], 8443));
        Walkthrough { folder: folder.into(), listen: address, admin: address, max_connections, process: 7 }
    }

    #[test]
    fn a_folder_with_a_space_or_a_quote_is_one_word() {
        let lines = scene("/tmp/my demo's", 8).steps();
        assert!(lines[0].command.contains(r"--cacert '/tmp/my demo'\''s/ca.crt'"), "{}", lines[0]);
    }

    #[test]
    fn the_step_about_a_full_server_is_left_out_for_many_slots() {
        let is_filled =
            |slots| scene("/d", slots).steps().iter().any(|line| line.description.contains("server_full"));
        assert!(is_filled(1) && is_filled(64) && !is_filled(65));
    }
}
