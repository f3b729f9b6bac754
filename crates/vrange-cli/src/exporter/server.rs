//! A small HTTP server: one page, one thread, and no patience with who sends nothing.

use std::convert::Infallible;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::task::LocalSet;

use super::metrics;
use crate::failure::Failure;

/// A connection is closed after one answer, or after this long.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// For the head of the request.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// Connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// After an `accept` that fails, for lack of descriptors for example, the next is tried after this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers with what `page` says, until SIGINT, SIGTERM or SIGHUP comes. `ready` is called once those are waited for.
///
/// # Errors
/// The system has no event queue to give, signals cannot be caught, or `ready` fails.
pub(super) fn serve(
    listener: TcpListener,
    page: impl Fn() -> Result<String, Failure> + 'static,
    ready: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::run(format!("starting the server: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let served = async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let end = Rc::new(Notify::new());
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signal, end) = (signal(kind).map_err(failed)?, Rc::clone(&end));
            tokio::task::spawn_local(async move {
                signal.recv().await;
                end.notify_one();
            });
        }
        ready()?;
        tokio::task::spawn_local(accept(listener, Rc::new(page)));
        end.notified().await;
        Ok(())
    };
    LocalSet::new().block_on(&runtime, served)
}

async fn accept(listener: tokio::net::TcpListener, page: Rc<impl Fn() -> Result<String, Failure> + 'static>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Fails only for a semaphore that was closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) => {
                let page = Rc::clone(&page);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // A peer that goes away, talks nonsense, or dawdles is no concern of anybody else's.
                    let _ = tokio::time::timeout(CONNECTION_MAX, answer(connection, &*page)).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn answer(
    connection: TcpStream,
    page: &impl Fn() -> Result<String, Failure>,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), page);
        async { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), service)
        .await
}

fn respond(
    method: &Method,
    path: &str,
    page: &impl Fn() -> Result<String, Failure>,
) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are known here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match page() {
            Ok(text) => with_type(StatusCode::OK, text, metrics::CONTENT_TYPE),
            Err(failure) => plain(StatusCode::INTERNAL_SERVER_ERROR, failure.report()),
        },
        "/" => plain(StatusCode::OK, "The figures of vrange are at /metrics.\n"),
        _ => plain(StatusCode::NOT_FOUND, "there is only /metrics\n"),
    }
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    with_type(status, text, "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, text: impl Into<String>, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
