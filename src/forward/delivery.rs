//! Delivering to somebody who is not the backend: a collector of traces.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Location;

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Where it is.
    pub location: Location,
    /// What it is called in `Host`.
    pub authority: String,
}

/// Sends a document in JSON, on a connection of its own.
///
/// # Errors
/// Why there is no answer.
pub async fn deliver(to: &Collector, path: &'static str, body: Bytes) -> Result<StatusCode, String> {
    let socket = to.location.dial(None).await.map_err(|none| none.error.to_string())?;
    let posted = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::select! {
            answer = sender.send_request(request(to, path, body)) => Ok(answer?.status()),
            // It ends before its answer only by an error, which the answer tells as well.
            Err(error) = connection => Err(error),
        }
    };
    posted.await.map_err(|error: hyper::Error| error.to_string())
}

fn request(to: &Collector, path: &'static str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    let headers = request.headers_mut();
    headers.extend(HeaderValue::from_str(&to.authority).ok().map(|host| (header::HOST, host)));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}
