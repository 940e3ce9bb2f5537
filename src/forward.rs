//! Forwarding: an admitted request goes to the backend byte for byte, over a connection that nobody else uses
//! meanwhile, and its answer comes back as it is.
//!
//! A connection to the backend is driven by the task of the request that uses it, not by a task of its own: a
//! request costs no hand-over between tasks, and an idle connection costs none at all.

mod exchange;
pub mod headers;
mod pool;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::{Admitted, Guards};
use crate::refusal::BackendFault;

pub use exchange::{Answer, Outgoing};
use exchange::{Link, Sent, Upload};
use pool::Pool;

/// Where the backend is and how long it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host name or address of the backend.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `Host` for requests that name none (HTTP/1.0).
    pub authority: String,
    /// Time to make a connection.
    pub connect_timeout: Duration,
    /// Time from the request's headers to the response's.
    pub response_timeout: Duration,
}

/// One worker's way to the backend: its own connections, kept alive between requests.
#[derive(Debug)]
pub struct Backend {
    settings: Settings,
    pool: Arc<Pool>,
}

impl Backend {
    /// No connection is made before the first request.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, pool: Arc::new(Pool::default()) }
    }

    /// Sends an admitted request. Only [`Admitted`] opens this door. The guards are held until the answer's body has
    /// ended, however it ends. `custom` is what its trailers may not say beside the built-in names.
    ///
    /// # Errors
    /// What the backend did instead of answering.
    pub async fn send(
        &self,
        admitted: Admitted,
        request: Request<Incoming>,
        custom: Option<Arc<headers::Custom>>,
    ) -> Result<Response<Answer>, BackendFault> {
        let guards = admitted.into_guards();
        let upload = Upload::of(request.body());
        let mut exchange =
            pin!(self.answer_of(request.map(|body| Outgoing::new(body, upload.clone(), custom))));
        let mut deadline = Instant::now() + self.settings.response_timeout;
        loop {
            if let Ok(answered) = timeout_at(deadline, &mut exchange).await {
                let (response, link) = answered?;
                return self.hand_back(response, link, guards);
            }
            // The backend's time runs from the last byte that it got.
            deadline =
                match upload.as_ref().map(|upload| upload.moved_last() + self.settings.response_timeout) {
                    Some(later) if later > deadline => later,
                    _ => return Err(BackendFault::ResponseTimeout),
                };
        }
    }

    /// A stale connection from the pool is no fault of the backend: as long as nothing was sent on it, the request
    /// goes out on the next one, in the end on a new one.
    async fn answer_of(
        &self,
        mut request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, Link), BackendFault> {
        loop {
            let (link, is_new) = match self.pool.take() {
                Some(link) => (link, false),
                None => (self.connect().await?, true),
            };
            match link.send(request).await {
                Sent::Answered(response, link) => return Ok((response, link)),
                Sent::Returned(back) if !is_new => request = back,
                Sent::Returned(_) => return Err(BackendFault::Terminated),
                Sent::Failed(fault) => return Err(fault),
            }
        }
    }

    async fn connect(&self) -> Result<Link, BackendFault> {
        let socket = timeout(self.settings.connect_timeout, self.dial())
            .await
            .map_err(|_| BackendFault::ConnectTimeout)?
            .map_err(|_| BackendFault::Unreachable)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|_| BackendFault::Terminated)?;
        Ok(Link::new(sender, connection))
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect((self.settings.host.as_str(), self.settings.port)).await?;
        // Heads and small bodies are whole when they are written; waiting for more only adds delay.
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// Makes the backend's response one of ours: without what belongs to the connection it came over.
    fn hand_back(
        &self,
        response: Response<Incoming>,
        link: Link,
        guards: Guards,
    ) -> Result<Response<Answer>, BackendFault> {
        // Nobody asked to switch; what follows would not be HTTP (DESIGN §5).
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(BackendFault::NotHttp);
        }
        let (mut parts, body) = response.into_parts();
        parts.version = http::Version::HTTP_11;
        headers::strip_connection(&mut parts.headers);
        Ok(Response::from_parts(parts, Answer::new(body, link, Arc::clone(&self.pool), guards)))
    }

    /// `Host` for a request that named none.
    pub fn authority(&self) -> &str {
        &self.settings.authority
    }

    /// Drops connections that have been idle for too long or were closed by the backend; to be called now and then.
    pub fn sweep(&self) {
        self.pool.sweep();
    }

    /// Connections waiting for their next request.
    pub fn idle_connections(&self) -> usize {
        self.pool.len()
    }
}
