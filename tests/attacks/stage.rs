//! A proxy and a backend that answers each request with its target and records everything that it got.

use crate::support::{Backend, Client, Proxy, Setup};

const PROBE: &str = "GET /probe HTTP/1.1";

/// A name, a client, and the only answer that the client may get; `None` for the client with all rights.
pub type Sender = (&'static str, Client, Option<&'static str>);

pub struct Stage {
    pub backend: Backend,
    pub proxy: Proxy,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|setup| setup)
    }

    pub fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let backend = Backend::echoing();
        let proxy = change(Setup::new(&backend.url())).start();
        Self { backend, proxy }
    }

    pub fn senders(&self) -> [Sender; 3] {
        let (proxy, pki) = (&self.proxy, self.proxy.pki());
        [
            ("a client", proxy.producer(), None),
            ("a client without a certificate", proxy.anonymous(), Some("401 not_authenticated")),
            (
                "a client with an expired certificate",
                proxy.client(&pki.expired()),
                Some("401 invalid_certificate"),
            ),
        ]
    }

    /// Returns the start lines of all that reached the backend, complete or not, except the probes of the test itself.
    pub fn seen(&self) -> Vec<String> {
        self.backend.start_lines().into_iter().filter(|line| line != PROBE).collect()
    }
}
