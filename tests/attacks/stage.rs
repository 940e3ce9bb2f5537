//! A proxy in front of a backend that answers each request with its own target, and keeps everything that it got.

use crate::support::{Backend, Client, Proxy, Setup};

const PROBE: &str = "GET /probe HTTP/1.1";

/// Who sends: the client that may do everything, or one that is nobody, with the only answer that it may get.
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
            ("nobody", proxy.anonymous(), Some("401 not_authenticated")),
            ("who was somebody", proxy.client(&pki.expired()), Some("401 invalid_certificate")),
        ]
    }

    /// The first lines of all that the backend saw, whole or not, beside the probes of the test itself.
    pub fn seen(&self) -> Vec<String> {
        self.backend.start_lines().into_iter().filter(|line| line != PROBE).collect()
    }
}
