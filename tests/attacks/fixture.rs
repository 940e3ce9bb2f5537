//! A proxy in front of a backend that answers each request with its own target and records every request.

use crate::support::{Backend, Client, Proxy, Setup};

const PROBE: &str = "GET /probe HTTP/1.1";

/// A client of a test, and the only answer that it may get; `None` for a client that may do everything.
pub struct Sender {
    pub name: &'static str,
    pub client: Client,
    pub refusal: Option<&'static str>,
}

pub struct Fixture {
    pub backend: Backend,
    pub proxy: Proxy,
}

impl Fixture {
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
        let sender = |name, client, refusal| Sender { name, client, refusal };
        [
            sender("a permitted client", proxy.producer(), None),
            sender("a client without a certificate", proxy.anonymous(), Some("401 not_authenticated")),
            sender("an expired client", proxy.client(&pki.expired()), Some("401 invalid_certificate")),
        ]
    }

    /// Returns the start lines of all requests that reached the backend, complete or not, without the probes of the test.
    pub fn forwarded(&self) -> Vec<String> {
        self.backend.start_lines().into_iter().filter(|line| line != PROBE).collect()
    }
}
