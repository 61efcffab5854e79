//! Answers a request: access control first, then the route by path and method. Called by `connection`.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::request::{accepts_gzip, lines, scrape_request};
use super::socket::Client;
use super::{Settings, page};
use crate::scrape::{self, Format, Scrape};
use crate::web_config::{Verdict, WebConfig};

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores");
const PROTOBUF: HeaderValue = HeaderValue::from_static(
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
);
/// Headers of the live page beside its Content-Security-Policy. With `no-cache`, a browser asks at each visit whether the
/// page has changed.
const PAGE_HEADERS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
    (VARY, "Accept-Encoding"),
];
/// Seconds after which a refused client may retry. A scrape takes milliseconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// Maximum time that a scrape waits while `--web.max-requests` others are served. Waiting scrapes are served in order, so
/// that a client that retries all the time cannot keep others out.
const MAX_QUEUE_TIME: Duration = Duration::from_millis(500);

/// The routes of the server.
#[derive(Debug)]
pub(super) struct Routes<S> {
    scrape: Arc<S>,
    settings: Settings,
    /// One permit for each scrape that may be served at a time.
    scrapes: Semaphore,
    /// Whether a refusal was logged.
    refused_before: AtomicBool,
}

impl<S: Scrape> Routes<S> {
    /// Returns the web configuration, if there is one.
    pub(super) fn web(&self) -> Option<&Arc<WebConfig>> {
        self.settings.web.as_ref()
    }

    pub(super) fn new(scrape: Arc<S>, settings: Settings) -> Self {
        let at_a_time = match settings.max_requests {
            0 => Semaphore::MAX_PERMITS,
            some => some.min(Semaphore::MAX_PERMITS),
        };
        Self { scrape, settings, scrapes: Semaphore::new(at_a_time), refused_before: AtomicBool::new(false) }
    }

    /// Returns the whole answer, with `Content-Length`, and without a body for HEAD. A panic becomes status 500.
    async fn answer(&self, request: &Parts) -> Response<Bytes> {
        let answer = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        let mut answer = answer.unwrap_or_else(|_| {
            tracing::error!(path = request.uri.path(), "a request panicked (a bug: the message stands above)");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the exporter failed on this request (a bug: its log says more)")
        });
        // The length in a 304 would be that of the omitted body, which is not known here.
        if answer.status() != StatusCode::NOT_MODIFIED {
            let length = HeaderValue::from(answer.body().len());
            answer.headers_mut().insert(CONTENT_LENGTH, length);
        }
        if request.method == Method::HEAD {
            *answer.body_mut() = Bytes::new();
        }
        answer
    }

    async fn route(&self, request: &Parts) -> Response<Bytes> {
        if request.method != Method::GET && request.method != Method::HEAD {
            let refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here");
            return with(refusal, ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        match request.uri.path() {
            path if path == self.settings.telemetry_path => self.metrics(request).await,
            "/healthz" => text(StatusCode::OK, "ok"),
            "/readyz" => self.ready(),
            "/" => self.page(request),
            _ => text(
                StatusCode::NOT_FOUND,
                format_args!("nothing here; metrics are at {}", self.settings.telemetry_path),
            ),
        }
    }

    fn ready(&self) -> Response<Bytes> {
        match self.scrape.ready() {
            Ok(()) => text(StatusCode::OK, "ready"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
        }
    }

    fn page(&self, request: &Parts) -> Response<Bytes> {
        let Settings { telemetry_path, version, .. } = &self.settings;
        let document = page::page(telemetry_path, version, &self.scrape.findings());
        let compressed = if accepts_gzip(&request.headers) { page::compress(&document) } else { None };
        let gzip = compressed.is_some();
        let tag = page::entity_tag(&document, gzip);
        let unchanged =
            lines(&request.headers, &IF_NONE_MATCH).flat_map(|line| line.split(',')).any(|one| one.trim() == tag);
        let answer = if unchanged {
            response(StatusCode::NOT_MODIFIED, HTML, Bytes::new())
        } else {
            response(StatusCode::OK, HTML, compressed.unwrap_or_else(|| Bytes::from(document)))
        };
        let mut answer = with(answer, CONTENT_SECURITY_POLICY, page::POLICY);
        for (name, value) in PAGE_HEADERS {
            answer = with(answer, name, HeaderValue::from_static(value));
        }
        if let Ok(tag) = HeaderValue::try_from(tag) {
            answer = with(answer, ETAG, tag);
        }
        if gzip && !unchanged { with(answer, CONTENT_ENCODING, HeaderValue::from_static("gzip")) } else { answer }
    }

    async fn metrics(&self, request: &Parts) -> Response<Bytes> {
        let wanted = match scrape_request(request, &self.settings) {
            Ok(wanted) => wanted,
            Err(error) => return text(StatusCode::BAD_REQUEST, error),
        };
        let (format, gzip) = (wanted.format, wanted.gzip);
        let answer = if let Some(unread) = self.scrape.unread(&wanted) {
            unread
        } else {
            // The permit is released before the body is sent, so that a slow reader does not count as a scrape.
            let permit = timeout(MAX_QUEUE_TIME, self.scrapes.acquire()).await;
            let Ok(Ok(_permit)) = permit else { return self.refuse() };
            self.scrape.scrape(wanted).await
        };
        match answer {
            Ok(body) => exposition(format, gzip, body),
            Err(error @ scrape::Error::Panicked) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
            Err(error @ scrape::Error::ShuttingDown) => text(StatusCode::SERVICE_UNAVAILABLE, error),
        }
    }

    fn refuse(&self) -> Response<Bytes> {
        let limit = self.settings.max_requests;
        if !self.refused_before.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                limit,
                "refused a scrape: too many at a time (--web.max-requests); further refusals are not logged"
            );
        }
        let reason = format_args!("{limit} scrapes are being served, as many as --web.max-requests allows; try again");
        with(text(StatusCode::SERVICE_UNAVAILABLE, reason), RETRY_AFTER, RETRY_SECONDS)
    }
}

fn exposition(format: Format, gzip: bool, body: Bytes) -> Response<Bytes> {
    let content_type = match format {
        Format::Text => TEXT,
        Format::OpenMetrics => OPEN_METRICS,
        Format::Protobuf { .. } => PROTOBUF,
    };
    let answer = response(StatusCode::OK, content_type, body);
    let answer = with(answer, VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if gzip { with(answer, CONTENT_ENCODING, HeaderValue::from_static("gzip")) } else { answer }
}

/// Returns an answer of one line of plain text.
fn text(status: StatusCode, sentence: impl Display) -> Response<Bytes> {
    response(status, PLAIN, Bytes::from(format!("{sentence}\n")))
}

fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, content_type)
}

/// Sets a header of an answer.
fn with(mut response: Response<Bytes>, name: HeaderName, value: HeaderValue) -> Response<Bytes> {
    response.headers_mut().insert(name, value);
    response
}

/// The data of a connection that access control needs.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) web: Option<Arc<WebConfig>>,
    pub(super) client: Client,
    /// Digest of the rules for client certificates at the time of the handshake; none without TLS.
    pub(super) client_rules: Option<[u8; 32]>,
}

impl Access {
    /// Answers a request. Before every route except the health checks come the rate limit and the password check of the web
    /// configuration. Returns also whether to close the connection afterwards, because the rules for client certificates have
    /// changed.
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
