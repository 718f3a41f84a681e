//! Rank 8: the monitoring listener: `/metrics`, `/healthz`, `/readyz`, and nothing else.
//!
//! It reads; it never changes anything, asks for no credential and shows no file name, key or
//! address. It is meant for loopback or a management network (`[metrics] listen`).

use std::future::Future;
use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::telemetry::Metrics;

#[derive(Clone)]
struct Seen {
    metrics: Metrics,
    ready: watch::Receiver<bool>,
}

/// Answers until `shutdown` is done; then the listener closes at once. Answers take no time worth
/// waiting for.
///
/// `ready` is true while the gateway takes sessions: after start-up, and until it drains.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    tokio::select! {
        result = axum::serve(listener, router(metrics, ready)) => result,
        () = shutdown => Ok(()),
    }
}

fn router(metrics: Metrics, ready: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(healthy))
        .route("/readyz", get(is_ready))
        .with_state(Seen { metrics, ready })
}

async fn show_metrics(State(seen): State<Seen>) -> Response {
    let kind = HeaderValue::from_static(Metrics::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], seen.metrics.render()).into_response()
}

/// The process answers, so it is alive.
async fn healthy() -> &'static str {
    "ok\n"
}

async fn is_ready(State(seen): State<Seen>) -> (StatusCode, &'static str) {
    if *seen.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: starting or draining\n",
        )
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    /// Asks over a real socket; the answer is status line, headers and body.
    async fn ask(address: std::net::SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_three_pages_answer_and_nothing_else_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, is_ready) = watch::channel(false);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Metrics::new(), is_ready, async {
            stopped.await.unwrap();
        }));

        let metrics = ask(address, "GET", "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(metrics.contains(kind), "{metrics}");
        assert!(metrics.contains("\nsallyport_build_info{version="));
        assert!(metrics.ends_with("# EOF\n"));

        let health = ask(address, "GET", "/healthz").await;
        assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with("\r\nok\n"));

        let early = ask(address, "GET", "/readyz").await;
        assert!(early.starts_with("HTTP/1.1 503 "), "{early}");
        ready.send_replace(true);
        let later = ask(address, "GET", "/readyz").await;
        assert!(later.starts_with("HTTP/1.1 200 "), "{later}");

        for (method, path, status) in [
            ("GET", "/", "404"),
            ("GET", "/metrics/../../etc/passwd", "404"),
            ("POST", "/metrics", "405"),
        ] {
            let answer = ask(address, method, path).await;
            let start = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&start), "{method} {path}: {answer}");
        }

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
