//! Request → answer: path, method, and the parameters of a scrape. Called by `connection`.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER, USER_AGENT, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::deadline::{self, deadline};
use super::{Settings, accept_header, page, query};
use crate::scrape::{self, Format, Scrape};
use crate::web_config::WebConfig;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores");
const PROTOBUF: HeaderValue = HeaderValue::from_static(
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
);
/// Headers of the live page beside its policy. `no-cache`: a browser asks each time whether the page has changed.
const PAGE_HEADERS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
    (VARY, "Accept-Encoding"),
];
/// Seconds after which a refused scraper may retry: scrapes take milliseconds.
pub(super) const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// How long a scrape waits for a permit when the maximum is being served. Permits are granted in order, so that a
/// client that retries all the time cannot keep others out.
const MAX_QUEUE_TIME: Duration = Duration::from_millis(500);

/// All paths of the server.
#[derive(Debug)]
pub(super) struct Routes<S> {
    scrape: Arc<S>,
    settings: Settings,
    scrapes: Semaphore,
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

    /// Returns the whole answer, `Content-Length` set and without a body for HEAD. Never panics.
    pub(super) async fn answer(&self, request: &Parts) -> Response<Bytes> {
        let answer = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        let mut answer = answer.unwrap_or_else(|_| {
            tracing::error!(path = request.uri.path(), "a request panicked (a bug: the message stands above)");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the exporter failed on this request (a bug: its log says more)")
        });
        // A 304 would carry the length of the body that it omits.
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
        let compressed = if accept_header::gzip(lines(&request.headers, &ACCEPT_ENCODING)) {
            page::compress(&document)
        } else {
            None
        };
        let tag = page::entity_tag(&document, compressed.is_some());
        let unchanged =
            lines(&request.headers, &IF_NONE_MATCH).flat_map(|line| line.split(',')).any(|one| one.trim() == tag);
        let gzip = compressed.is_some();
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
        let wanted = match wanted(request, &self.settings) {
            Ok(wanted) => wanted,
            Err(error) => return text(StatusCode::BAD_REQUEST, error),
        };
        let (format, gzip) = (wanted.format, wanted.gzip);
        let answer = if let Some(unread) = self.scrape.unread(&wanted) {
            unread
        } else {
            // The permit is released before the body is sent: a slow reader does not count as a scrape.
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

/// Returns the scrape that a request asks for.
fn wanted(request: &Parts, settings: &Settings) -> Result<scrape::Request, query::Error> {
    let headers = &request.headers;
    Ok(scrape::Request {
        selection: query::selection(request.uri.query(), settings.enabled, settings.families)?,
        format: format(request),
        gzip: accept_header::gzip(lines(headers, &ACCEPT_ENCODING)),
        deadline: deadline(headers.get_all(deadline::HEADER).iter().map(HeaderValue::to_str), Instant::now()),
    })
}

/// Returns the format that a request prefers, with native histograms if the client loses nothing by them.
fn format(request: &Parts) -> Format {
    match accept_header::format(lines(&request.headers, &ACCEPT)) {
        Format::Protobuf { .. } => {
            let mut agents = lines(&request.headers, &USER_AGENT);
            let native = query::wants_native(request.uri.query()) || agents.any(accept_header::is_safe_with_native);
            Format::Protobuf { native }
        }
        text => text,
    }
}

/// Returns every line of a header that is text.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
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

pub(super) fn text(status: StatusCode, sentence: impl Display) -> Response<Bytes> {
    response(status, PLAIN, Bytes::from(format!("{sentence}\n")))
}

fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, content_type)
}

pub(super) fn with(mut response: Response<Bytes>, name: HeaderName, value: HeaderValue) -> Response<Bytes> {
    response.headers_mut().insert(name, value);
    response
}
