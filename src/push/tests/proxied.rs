//! Through a proxy: a tunnel for `https`, a forwarded request for `http`.

use tokio::join;

use super::super::Proxies;
use super::tls::Authority;
use super::*;

/// For a server that is never connected to: the proxy answers.
const ELSEWHERE: &str = "https://192.0.2.1";

#[tokio::test]
async fn a_tunnel_shows_the_proxy_nothing() {
    let authority = Authority::new("a");
    let acceptor = authority.acceptor("127.0.0.1", 2000..4000);
    let ((server, port), (proxy, proxy_port)) = (listen().await, listen().await);
    let settings = Settings {
        proxy: Proxies::fixed(&format!("http://us:p%40ss@127.0.0.1:{proxy_port}")).unwrap(),
        ..authority.trusted()
    };
    let mut client = client(&format!("https://127.0.0.1:{port}"), settings);
    let proxy = async {
        let mut stream = accept(&proxy).await;
        let asked = head(&mut stream).await;
        let mut onward = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        say(&mut stream, "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n").await;
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        asked
    };
    let server = async {
        let mut stream = acceptor.accept(accept(&server).await).await.unwrap();
        let (head, _) = request(&mut stream).await;
        say(&mut stream, &ok()).await;
        head
    };
    let pushes = async {
        let reply = push(&mut client, "{}").await;
        drop(client);
        reply
    };
    let (reply, seen, head) = join!(pushes, proxy, server);
    assert_eq!(reply, Reply::Accepted(vec![]));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        seen,
        format!(
            "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: waveflow-sync-agent/{version}\r\n\
             Proxy-Authorization: Basic dXM6cEBzcw==\r\n\r\n"
        )
    );
    assert!(head.starts_with("POST /api/v1/sync/ops HTTP/1.1\r\n"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("proxy-authorization"), "{head}");
}

/// What becomes of a push when the proxy answers CONNECT like this, and closes.
async fn refusal(text: &str) -> (FailedKind, String) {
    let (listener, port) = listen().await;
    let proxy = Proxies::fixed(&format!("127.0.0.1:{port}")).unwrap();
    let mut client = client(ELSEWHERE, Settings { proxy, ..patient() });
    let server = async {
        let mut stream = accept(&listener).await;
        head(&mut stream).await;
        // The client may have had enough before it is all written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await;
    };
    let (kind, words) = failed(join!(push(&mut client, "{}"), server).0);
    let said = words.strip_prefix(&format!("proxy 127.0.0.1:{port}")).unwrap_or_else(|| panic!("{words}")).to_owned();
    (kind, said)
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told() {
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(100_000));
    for (text, why) in [
        (
            "HTTP/1.1 407 Proxy Authentication\u{1b} Required\r\n\r\n<html>",
            " refused: 407 Proxy Authentication Required",
        ),
        ("HTTP/1.0 403\r\n\r\n", " refused: 403"),
        ("SSH-2.0-x\r\n\r\n", " does not answer in HTTP"),
        ("HTTP/1.1 2000 OK\r\n\r\n", " does not answer in HTTP"),
        ("HTTP/1.1 200 OK\r\n", ": closed the connection"),
        ("HTTP/1.1 200 OK\r\n\r\nx", " says more than was asked"),
        (&endless, ": the answer is longer than 8192 bytes"),
    ] {
        assert_eq!(refusal(text).await, (FailedKind::Network, why.to_owned()));
    }
}

#[tokio::test]
async fn a_request_to_forward_names_the_server() {
    let (listener, port) = listen().await;
    let proxy = Proxies::fixed(&format!("http://me:pw@127.0.0.1:{port}")).unwrap();
    let mut client = client("http://192.0.2.1:81/x", Settings { proxy, ..patient() });
    let server = async {
        let mut stream = accept(&listener).await;
        let (head, _) = request(&mut stream).await;
        say(&mut stream, &ok()).await;
        head
    };
    let (reply, head) = join!(push(&mut client, "{}"), server);
    assert_eq!(reply, Reply::Accepted(vec![]));
    assert!(head.starts_with("POST http://192.0.2.1:81/x/api/v1/sync/ops HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("host: 192.0.2.1:81\r\n") && head.contains("proxy-authorization: Basic bWU6cHc=\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_proxy_that_hangs_ends_with_the_connect_time_out() {
    let (_listener, port) = listen().await;
    let proxy = Proxies::fixed(&format!("127.0.0.1:{port}")).unwrap();
    let mut client = client(ELSEWHERE, Settings { proxy, ..hasty() });
    assert_eq!(failed(push(&mut client, "{}").await).0, FailedKind::Unreachable);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_told_beforehand() {
    let proxy = Proxies::from_env(|name| (name == "HTTPS_PROXY").then(|| "socks5://127.0.0.1".to_owned()));
    let settings = Settings { proxy, ..patient() };
    let error = Client::new(Target::parse(ELSEWHERE).unwrap(), settings).err().unwrap();
    assert!(error.starts_with("HTTPS_PROXY: only http://"), "{error}");
}
