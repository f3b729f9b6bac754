//! What the service answers.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::page::{compress, render};
use crate::store::{Key, Store};

/// Larger files are not shown.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A folder, and the pages of its files.
pub(crate) struct Service {
    pub(crate) folder: PathBuf,
    pub(crate) store: Store,
}

/// Answers until the process is interrupted (Ctrl-C), and then what was asked before that.
///
/// # Errors
/// The operating system's, about the socket.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>) -> io::Result<()> {
    let router = Router::new()
        .route("/page/{*path}", get(page))
        .route("/stats", get(|State(service): State<Arc<Service>>| async move { service.store.stats() }))
        .with_state(service);
    let interrupted = async {
        // Without a handler there is no graceful end, and Ctrl-C does what it always does.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    axum::serve(listener, router).with_graceful_shutdown(interrupted).await
}

/// A file of the folder as a page, compressed for who takes it so.
async fn page(
    State(service): State<Arc<Service>>,
    UrlPath(path): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let is_compressed = headers.get(header::ACCEPT_ENCODING).is_some_and(takes_gzip);
    match service.page(PathBuf::from(path), is_compressed).await {
        Ok(page) => {
            let fields =
                [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::VARY, "accept-encoding")];
            if is_compressed {
                (fields, [(header::CONTENT_ENCODING, "gzip")], page).into_response()
            } else {
                (fields, page).into_response()
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::FORBIDDEN, error.to_string()).into_response(),
    }
}

fn takes_gzip(accepted: &HeaderValue) -> bool {
    accepted.to_str().is_ok_and(|accepted| accepted.split(',').any(|coding| coding.trim() == "gzip"))
}

impl Service {
    async fn page(&self, path: PathBuf, is_compressed: bool) -> io::Result<axum::body::Bytes> {
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let file = self.folder.join(&path);
        // A look at the file each time: microseconds, and no page is older than its file.
        let about = std::fs::metadata(&file)?;
        if !is_inside || !about.is_file() || about.len() > FILE_BYTES_MAX {
            return Err(io::ErrorKind::NotFound.into());
        }
        let key = Key { path, modified: about.modified()?, is_compressed };
        let name = key.path.display().to_string();
        // On a thread on which work may take its time.
        let make = || async move {
            tokio::task::spawn_blocking(move || make(&name, &file, is_compressed))
                .await
                .map_err(io::Error::other)?
        };
        self.store.get_or_make(key, make).await
    }
}

/// What is asked for, without any cache.
pub(crate) fn make(name: &str, file: &Path, is_compressed: bool) -> io::Result<Vec<u8>> {
    let page = render(name, &std::fs::read(file)?);
    Ok(if is_compressed { compress(&page) } else { page })
}
