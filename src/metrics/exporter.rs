//! The counters over HTTP, on a loopback address, where the configuration asks for it.
//!
//! What must always hold: it answers `GET /metrics` (and its head) and nothing else, and no page that a browser was led here
//! by; connections, their number and their time have limits; a port that is taken is said, and is no reason to deliver nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Scrapers at a time; there is one. The next is hung up on.
const SCRAPERS_MAX: usize = 8;
/// A connection lasts no longer; Prometheus comes again by itself.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// For a request's head, from the connection's begin or the answer before it: one who says nothing is let go after this.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Between two tries for a port that is taken.
const BIND_AGAIN: Duration = Duration::from_secs(60);
/// After a failed accept (out of descriptors, most likely) others may give some back.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_secs(1);
/// The text format's own name.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Serves what `scrape` says, for ever.
pub async fn serve(address: SocketAddr, scrape: impl Fn() -> String + 'static) {
    let listener = bound(address).await;
    let scrape = Rc::new(scrape);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if tasks.len() >= SCRAPERS_MAX => {}
                Ok((stream, _)) => {
                    let scrape = Rc::clone(&scrape);
                    tasks.spawn_local(async move { converse(stream, scrape.as_ref()).await });
                }
                Err(_) => tokio::time::sleep(AFTER_FAILED_ACCEPT).await,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Whoever has the port may give it back.
async fn bound(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !said => tracing::error!(
                "metrics.listen: {address}: {error}; there are no metrics over HTTP until the port is free"
            ),
            Err(_) => {}
        }
        said = true;
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

async fn converse(stream: TcpStream, scrape: &impl Fn() -> String) {
    let answer = |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), request.headers().get(HOST), scrape);
        async move { Ok::<_, Infallible>(answer) }
    };
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), service_fn(answer));
    // Whoever is cut off comes again.
    let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
}

/// Whether it is this machine that was asked for: a site whose name suddenly leads here (DNS rebinding) is not answered.
fn is_here(host: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn answer(
    method: &Method,
    path: &str,
    host: Option<&HeaderValue>,
    scrape: &impl Fn() -> String,
) -> Response<Full<Bytes>> {
    let (status, body) = match (path, method) {
        _ if host.is_some_and(|host| !is_here(host)) => {
            (StatusCode::MISDIRECTED_REQUEST, "ask for localhost, or for a loopback address\n".to_owned())
        }
        // Of an answer to HEAD only the head is sent.
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, scrape()),
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n".to_owned()),
        (_, _) => (StatusCode::NOT_FOUND, "GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_is_answered_and_no_other() {
        let status = |method: &Method, path: &str| answer(method, path, None, &String::new).status().as_u16();
        assert_eq!(status(&Method::GET, "/metrics"), 200);
        assert_eq!(status(&Method::HEAD, "/metrics"), 200);
        assert_eq!(status(&Method::POST, "/metrics"), 405);
        let refused = answer(&Method::DELETE, "/metrics", None, &String::new);
        assert_eq!(refused.headers().get(ALLOW).map(HeaderValue::as_bytes), Some(&b"GET, HEAD"[..]));
        assert_eq!(status(&Method::GET, "/"), 404);
        let answered = answer(&Method::GET, "/metrics", None, &|| "x 1\n".to_owned());
        assert!(answered.headers()[CONTENT_TYPE].to_str().unwrap().contains("version=0.0.4"));
    }

    #[test]
    fn a_site_whose_name_leads_here_is_not_answered() {
        let status = |host: &'static str| {
            let host = HeaderValue::from_static(host);
            answer(&Method::GET, "/metrics", Some(&host), &String::new).status().as_u16()
        };
        for here in ["127.0.0.1:9464", "localhost", "LocalHost:9464", "[::1]:9464", "127.0.0.2"] {
            assert_eq!(status(here), 200, "{here}");
        }
        for elsewhere in ["evil.example:9464", "localhost.evil.example", "192.0.2.1:9464", "127.0.0.1.evil.example", ""]
        {
            assert_eq!(status(elsewhere), 421, "{elsewhere}");
        }
    }
}
