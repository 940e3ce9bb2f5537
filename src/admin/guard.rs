//! The guard of the admin listener: only clients on this machine, or with the token, get more than health and counts. A
//! browser on this machine runs scripts of other origins as well, and these get nothing.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};

use super::body::{Answer, text};
use crate::token::Token;

/// The header by which the page proves that it is this server's own: a page of another origin cannot know the value, nor send
/// the header without a preflight (CORS).
pub(super) const PAGE: HeaderName = HeaderName::from_static("x-sidegate-page");

/// The facts by which the guard decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard<'g> {
    /// The listener can be reached from other machines.
    pub(super) exposed: bool,
    /// The token that is required.
    pub(super) token: Option<&'g Token>,
    /// The value that the page sends with its actions.
    pub(super) page: &'g str,
}

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardRefusal {
    /// Only clients on this machine may have this.
    Exposed,
    /// The token is missing or wrong.
    WithoutToken,
    /// The host is a name that an attacker could have pointed here (DNS rebinding).
    ByName,
    /// The request comes from a page of another origin.
    Foreign,
    /// The action comes from a page that is not this server's own.
    NotThePage,
}

impl GuardRefusal {
    pub(super) fn answer(self) -> Answer {
        let refused = |why| text(StatusCode::FORBIDDEN, why);
        match self {
            Self::Exposed => refused(
                "this listener is reachable from other machines and has no `admin.token_file`, so only /livez, /readyz and /metrics are served here\n",
            ),
            Self::ByName => refused(
                "this listener is asked for by an address or as localhost; another name could be a stranger's\n",
            ),
            Self::Foreign => refused("this is not for pages of other origins\n"),
            Self::NotThePage => refused("a reload is asked for by no web page but this server's own\n"),
            Self::WithoutToken => {
                let why = "the token of `admin.token_file` is wanted: `Authorization: Bearer …`\n";
                let mut answer = text(StatusCode::UNAUTHORIZED, why);
                let challenge = HeaderValue::from_static("Bearer realm=\"sidegate admin\"");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                answer
            }
        }
    }
}

impl Guard<'_> {
    /// Permits the page itself: nothing in it is secret, and it asks for the token.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub(super) fn gives_page<B>(self, request: &Request<B>) -> Result<(), GuardRefusal> {
        match self.token {
            Some(_) => Ok(()),
            None if self.exposed => Err(GuardRefusal::Exposed),
            None => is_local(request),
        }
    }

    /// Permits reading the state.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub(super) fn gives_state<B>(self, request: &Request<B>) -> Result<(), GuardRefusal> {
        if is_foreign(request.headers()) {
            return Err(GuardRefusal::Foreign);
        }
        let Some(token) = self.token else { return self.gives_page(request) };
        let shown = request.headers().get(header::AUTHORIZATION);
        let is_shown = shown.is_some_and(|shown| token.authorizes(shown.as_bytes()));
        if is_shown { Ok(()) } else { Err(GuardRefusal::WithoutToken) }
    }

    /// Permits an action. A request with an origin comes from a page, which must be this server's own.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub(super) fn does<B>(self, request: &Request<B>) -> Result<(), GuardRefusal> {
        self.gives_state(request)?;
        let headers = request.headers();
        let is_page = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
        let is_ours = headers.get(PAGE).is_some_and(|shown| shown.as_bytes() == self.page.as_bytes());
        if is_page && !is_ours { Err(GuardRefusal::NotThePage) } else { Ok(()) }
    }
}

/// Refuses host names that an attacker could have pointed here: a browser that follows such a name (DNS rebinding) sends it.
fn is_local<B>(request: &Request<B>) -> Result<(), GuardRefusal> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_none_or(is_address) { Ok(()) } else { Err(GuardRefusal::ByName) }
}

/// `true` if a `Host` is an address or this machine's own name, which cannot be pointed elsewhere.
fn is_address(host: &str) -> bool {
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    without_port.parse::<IpAddr>().is_ok()
        || without_port.eq_ignore_ascii_case("localhost")
        || without_port.to_ascii_lowercase().ends_with(".localhost")
}

/// `true` if a browser sends the request for a page of another origin.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let by_site = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let ours = text(header::HOST).unwrap_or_default();
    let by_origin = text(header::ORIGIN).is_some_and(|origin| {
        // A proxy that ends TLS in front of this listener has the same origin as the page.
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host.is_none_or(|host| !host.eq_ignore_ascii_case(ours))
    });
    by_site || by_origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::get("/status");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    fn status(answer: Result<(), GuardRefusal>) -> u16 {
        answer.map_or_else(|barred| barred.answer().status().as_u16(), |()| 200)
    }

    #[test]
    fn only_names_that_lead_here_are_served_without_a_token() {
        let guard = Guard { exposed: false, token: None, page: "p" };
        for host in ["127.0.0.1:9901", "localhost", "LOCALHOST:1", "[::1]:9901", "a.localhost:1", "10.1.2.3"]
        {
            assert_eq!(status(guard.gives_state(&asked(&[("host", host)]))), 200, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9901", "", "[evil]:1"]
        {
            assert_eq!(status(guard.gives_state(&asked(&[("host", host)]))), 403, "{host}");
            assert_eq!(status(guard.gives_page(&asked(&[("host", host)]))), 403, "{host}");
        }
    }

    #[test]
    fn a_configured_token_is_required_everywhere() {
        let token = Token::read(b"0123456789abcdef").unwrap();
        for exposed in [false, true] {
            let guard = Guard { exposed, token: Some(&token), page: "p" };
            assert_eq!(status(guard.gives_state(&asked(&[("host", "127.0.0.1")]))), 401);
            let shown = [("host", "gate.example"), ("authorization", "Bearer 0123456789abcdef")];
            assert_eq!(status(guard.gives_state(&asked(&shown))), 200);
            assert_eq!(status(guard.gives_page(&asked(&[("host", "gate.example")]))), 200);
        }
        let exposed = Guard { exposed: true, token: None, page: "p" };
        assert_eq!(status(exposed.gives_state(&asked(&[("host", "127.0.0.1")]))), 403);
        assert_eq!(status(exposed.gives_page(&asked(&[("host", "127.0.0.1")]))), 403);
    }

    #[test]
    fn pages_of_other_origins_get_nothing_and_have_nothing_done() {
        let guard = Guard { exposed: false, token: None, page: "p" };
        let host = ("host", "127.0.0.1:9901");
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:9902"),
        ] {
            assert_eq!(status(guard.gives_state(&asked(&[host, foreign]))), 403, "{foreign:?}");
            assert_eq!(status(guard.does(&asked(&[host, foreign, ("x-sidegate-page", "p")]))), 403);
        }
        let own = ("origin", "http://127.0.0.1:9901");
        assert_eq!(status(guard.gives_state(&asked(&[host, own]))), 200);
        assert_eq!(status(guard.does(&asked(&[host, own]))), 403);
        assert_eq!(status(guard.does(&asked(&[host, own, ("x-sidegate-page", "q")]))), 403);
        assert_eq!(status(guard.does(&asked(&[host, own, ("x-sidegate-page", "p")]))), 200);
        assert_eq!(status(guard.does(&asked(&[host]))), 200, "no page at all");
    }
}
