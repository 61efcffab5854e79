//! Access control before every route except the health checks: rate limit, passwords and headers of the web
//! configuration.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::listener::Client;
use super::route::{RETRY_SECONDS, Routes, text, with};
use crate::scrape::Scrape;
use crate::web_config::{Verdict, WebConfig};

/// Access data of a connection.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) web: Option<Arc<WebConfig>>,
    pub(super) client: Client,
    /// Digest of the client certificate rules in force when the connection was opened.
    pub(super) client_rules: Option<[u8; 32]>,
}

impl Access {
    /// Answers a request. Returns whether to close the connection afterwards, because other client certificate rules
    /// are in force now.
    pub(super) async fn answer<S: Scrape>(&self, routes: &Routes<S>, request: &Parts) -> (Response<Bytes>, bool) {
        let Some(web) = self.web.as_ref().filter(|_| !matches!(request.uri.path(), "/healthz" | "/readyz")) else {
            return (routes.answer(request).await, false);
        };
        let loaded = web.current();
        let is_last = loaded.tls.as_ref().map(|tls| tls.client_rules) != self.client_rules;
        if !loaded.allows() {
            return (text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"), is_last);
        }
        let authorization = request.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let mut answer = match web.check(&loaded, authorization, self.client.0).await {
            Verdict::Pass => routes.answer(request).await,
            Verdict::Wrong => with(
                text(StatusCode::UNAUTHORIZED, "Unauthorized"),
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic"),
            ),
            Verdict::Busy => {
                let why = "too many passwords are being checked; try again";
                return (with(text(StatusCode::TOO_MANY_REQUESTS, why), RETRY_AFTER, RETRY_SECONDS), is_last);
            }
        };
        for (name, value) in &loaded.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        (answer, is_last)
    }
}
