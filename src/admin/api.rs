//! The JSON API behind the page (`deploy/admin-api.schema.json`), so that `curl` can do what the page does. Long work is done
//! one request after the other on a thread of its own: no forwarded request waits for it.

mod explain;
mod models;
mod policy;
mod present;
mod query;
mod refusals;

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::body::{Answer, json, not_allowed, text};
use super::exchange::REQUEST_TIMEOUT;
use crate::admin::Running;
use models::Models;
use query::Query;

pub(super) use present::now;
pub(super) use refusals::refusal;

/// Longest policy that can be tried out, in bytes.
const MAX_POLICY_BYTES: usize = 4 << 20;
/// Most request bodies that are read at once, at most 32 MiB in all.
const MAX_CONCURRENT_BODIES: usize = 8;

/// The API.
#[derive(Debug)]
pub(super) struct Api {
    context: Arc<ApiContext>,
    /// The turn to work out an answer: the API uses at most one core.
    turn: Semaphore,
    /// The turns to read a request body, each of which may have the largest size.
    bodies: Semaphore,
}

/// The sources of answers.
#[derive(Debug)]
struct ApiContext {
    running: Arc<Running>,
    models: Models,
}

type Endpoint = fn(&ApiContext, &Query) -> Answer;

/// The resources that can be read.
const ENDPOINTS: &[(&str, Endpoint)] = &[
    ("/connections", present::connections),
    ("/api/now", present::now_answer),
    ("/api/history", present::history),
    ("/api/trust", present::trust),
    ("/api/shadow", present::shadow),
    ("/api/refusals", refusals::list),
    ("/api/refusal", refusals::one),
    ("/api/policy", policy::sources),
    ("/api/matrix", policy::matrix),
    ("/api/grant", policy::grant),
    ("/api/client", policy::client),
];

impl Api {
    pub(super) fn new(running: Arc<Running>) -> Self {
        Self {
            context: Arc::new(ApiContext { running, models: Models::default() }),
            turn: Semaphore::new(1),
            bodies: Semaphore::new(MAX_CONCURRENT_BODIES),
        }
    }

    /// Returns the answer for a path; `None` if there is no such resource.
    pub(super) async fn read(&self, path: &str, query: Option<&str>) -> Option<Answer> {
        let (_, endpoint) = ENDPOINTS.iter().find(|(known, _)| *known == path)?;
        let query = Query::of(query);
        Some(self.work(move |context| endpoint(context, &query)).await)
    }

    /// Answers a question to the running policy, or to one that is tried out.
    pub(super) async fn explain(&self, request: Request<Incoming>) -> Answer {
        if request.method() != Method::POST {
            return not_allowed("POST", "a question is asked by POST\n");
        }
        let read = async {
            // The semaphore is never closed.
            let _turn = self.bodies.acquire().await;
            Limited::new(request.into_body(), MAX_POLICY_BYTES).collect().await
        };
        let Ok(body) = tokio::time::timeout(REQUEST_TIMEOUT, read).await else {
            return text(StatusCode::REQUEST_TIMEOUT, "the question did not come to its end in time\n");
        };
        let Ok(body) = body.map(http_body_util::Collected::to_bytes) else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the question is longer than 4 MiB, or broke off\n");
        };
        match serde_json::from_slice::<explain::ExplainQuestion>(&body) {
            Ok(asked) => self.work(move |context| explain::answer(context, asked)).await,
            Err(error) => json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error.to_string() })),
        }
    }

    async fn work(&self, work: impl FnOnce(&ApiContext) -> Answer + Send + 'static) -> Answer {
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await;
        let context = Arc::clone(&self.context);
        let done = tokio::task::spawn_blocking(move || work(&context)).await;
        done.unwrap_or_else(|_| {
            text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be worked out\n")
        })
    }
}

fn nothing(what: &str) -> Answer {
    json(StatusCode::NOT_FOUND, &serde_json::json!({ "error": what }))
}
