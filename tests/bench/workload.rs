//! The policies of the benchmarks: services with resources, one role for each client, and clients with SPIFFE ids.

use std::fmt::Write as _;
use std::sync::Arc;

use sidegate::diagnostic::Source;
use sidegate::identity::{Attribute, Identity};

/// The size of a policy: the number of rules, and of clients with one role each.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) rules: usize,
    pub(crate) clients: usize,
}

pub(crate) const WORKLOADS: [Workload; 3] = [
    Workload { rules: 3, clients: 3 },
    Workload { rules: 1_000, clients: 100 },
    Workload { rules: 100_000, clients: 10_000 },
];

/// Returns the path below which a rule allows GET and PUT.
pub(crate) fn resource(rule: usize) -> String {
    format!("/svc{}/resource{rule}", rule % 97)
}

pub(crate) fn spiffe_id(client: usize) -> String {
    format!("spiffe://shop.example/ns/n{}/sa/c{client}", client % 50)
}

pub(crate) fn identity(client: usize) -> Identity {
    Identity::from_attributes([
        (Attribute::CommonName, format!("c{client}")),
        (Attribute::Organization, "Shop".to_owned()),
        (Attribute::Issuer, "CN=Shop CA".to_owned()),
        (Attribute::Uri, spiffe_id(client)),
    ])
}

impl Workload {
    /// Returns the numbers of the rules in the role of a client.
    pub(crate) fn granted(self, client: usize) -> impl Iterator<Item = usize> {
        (0..self.rules.div_ceil(self.clients)).map(move |n| (client + n * self.clients) % self.rules)
    }

    /// Returns the policy as YAML.
    pub(crate) fn policy(self) -> Arc<Source> {
        let mut text = "version: 1\npermissions:\n".to_owned();
        for rule in 0..self.rules {
            let _ = writeln!(text, "  p{rule}: [\"GET|PUT {}/{{id}}\"]", resource(rule));
        }
        text += "roles:\n";
        for client in 0..self.clients {
            let own: Vec<String> = self.granted(client).map(|rule| format!("p{rule}")).collect();
            let _ = writeln!(text, "  r{client}: [{}]", own.join(", "));
        }
        text += "clients:\n";
        for client in 0..self.clients {
            let uri = spiffe_id(client);
            let _ =
                writeln!(text, "  - {{ name: c{client}, match: {{ uri: \"{uri}\" }}, roles: [r{client}] }}");
        }
        Source::new("bench.yaml", text)
    }
}
