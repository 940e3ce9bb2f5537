//! Delivery to a collector of traces, by the HTTP client that requests to the backend use.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Location;

/// A collector of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The address.
    pub location: Location,
    /// The value of `Host`.
    pub authority: String,
}

/// Sends a JSON document on a connection of its own.
///
/// # Errors
/// The reason why there is no answer.
pub async fn deliver(to: &Collector, path: &'static str, body: Bytes) -> Result<StatusCode, String> {
    let socket = to.location.dial(None).await.map_err(|none| none.error.to_string())?;
    let posted = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::select! {
            answer = sender.send_request(request(to, path, body)) => Ok(answer?.status()),
            // The connection ends before the answer only by an error, which the answer carries as well.
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
