//! The client against raw sockets: what a made-up server does is written out byte by byte.
//!
//! What must always hold: loopback only; server and client run in one task, so that a test ends when either fails.

mod broken;
mod exchange;
mod proxied;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Client, Settings, Target};
use crate::op::{FailedKind, Reply};
use crate::token::Token;

pub(super) const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

/// Never reached where all is well.
pub(super) fn patient() -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

/// Reached at once.
pub(super) fn hasty() -> Settings {
    Settings { connect_timeout: Duration::from_millis(50), request_timeout: Duration::from_millis(50), ..patient() }
}

pub(super) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub(super) fn client(url: &str, settings: Settings) -> Client {
    Client::new(Target::parse(url).unwrap(), settings).unwrap()
}

pub(super) async fn plain_client(settings: Settings) -> (TcpListener, Client) {
    let (listener, port) = listen().await;
    (listener, client(&format!("http://127.0.0.1:{port}"), settings))
}

pub(super) async fn push(client: &mut Client, body: &'static str) -> Reply {
    push_bytes(client, Bytes::from_static(body.as_bytes())).await
}

pub(super) async fn push_bytes(client: &mut Client, body: Bytes) -> Reply {
    client.push(&Token::new(TOKEN).unwrap(), body).await
}

pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().await.unwrap().0
}

/// Reads up to and including the blank line.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads a whole request.
pub(super) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let head = head(stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

pub(super) async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// A whole answer, `first` being what follows the version.
pub(super) fn answer(first: &str, body: &str) -> String {
    format!("HTTP/1.1 {first}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The answer that accepts nothing.
pub(super) fn ok() -> String {
    answer("200 OK", "{\"accepted\":[]}")
}

pub(super) fn status(reply: Reply) -> (u16, String) {
    match reply {
        Reply::Status { status, words, .. } => (status, words),
        other => panic!("{other:?}"),
    }
}

pub(super) fn failed(reply: Reply) -> (FailedKind, String) {
    match reply {
        Reply::Failed { kind, words } => (kind, words),
        other => panic!("{other:?}"),
    }
}
