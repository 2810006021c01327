//! Whole answers, limits, and what is refused before anything is sent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::join;

use super::*;

#[tokio::test]
async fn a_request_is_what_the_contract_says() {
    let (listener, port) = listen().await;
    let mut client = client(&format!("http://127.0.0.1:{port}/prefix/"), patient());
    let server = async {
        let mut stream = accept(&listener).await;
        let request = request(&mut stream).await;
        let body = "{\"accepted\":[{\"operation_id\":\"00000000-0000-4000-8000-00000000000A\"}]}";
        say(&mut stream, &answer("200 OK", body)).await;
        request
    };
    let (reply, (head, body)) = join!(push(&mut client, "{\"ops\":[]}"), server);
    assert!(matches!(reply, Reply::Accepted(ids) if ids.len() == 1));
    assert_eq!(body, b"{\"ops\":[]}");
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "POST /prefix/api/v1/sync/ops HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            &format!("authorization: Bearer {TOKEN}"),
            "content-length: 10",
            "content-type: application/json",
            &format!("host: 127.0.0.1:{port}"),
            &format!("user-agent: waveflow-sync-agent/{}", env!("CARGO_PKG_VERSION")),
        ]
    );
}

#[tokio::test]
async fn a_connection_is_kept() {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        for _ in 0..3 {
            request(&mut stream).await;
            say(&mut stream, &ok()).await;
        }
    };
    let pushes = async {
        for _ in 0..3 {
            assert_eq!(push(&mut client, "{}").await, Reply::Accepted(vec![]));
        }
    };
    join!(server, pushes);
}

#[tokio::test]
async fn an_idle_connection_is_given_up() {
    let (listener, mut client) = plain_client(Settings { idle_timeout: Duration::ZERO, ..patient() }).await;
    let server = async {
        for _ in 0..2 {
            let mut stream = accept(&listener).await;
            request(&mut stream).await;
            say(&mut stream, &ok()).await;
            // The end of file: closed by the client, and not by a timer of ours.
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    };
    let pushes = async {
        assert_eq!(push(&mut client, "{}").await, Reply::Accepted(vec![]));
        assert_eq!(push(&mut client, "{}").await, Reply::Accepted(vec![]));
        client.drop_idle();
    };
    join!(server, pushes);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        request(&mut stream).await;
        say(&mut stream, "HTTP/1.1 302 Found\r\nLocation: /login?x=1\r\nContent-Length: 0\r\n\r\n").await;
        // Nothing else comes, on this connection or on another.
        let mut byte = [0];
        let more = async {
            tokio::select! { _ = stream.read(&mut byte) => {}, _ = listener.accept() => {} }
        };
        assert!(tokio::time::timeout(Duration::from_millis(20), more).await.is_err());
    };
    let (reply, ()) = join!(push(&mut client, "{}"), server);
    assert_eq!(status(reply), (302, "redirects to /login".to_owned()));
}

#[tokio::test]
async fn a_wait_is_told() {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        request(&mut stream).await;
        say(&mut stream, "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow").await;
    };
    let (reply, ()) = join!(push(&mut client, "{}"), server);
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(reply, Reply::Status { status: 429, retry_after, words: "slow".to_owned() });
}

/// One connection, one answer.
async fn reply_to(text: &str) -> Reply {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        request(&mut stream).await;
        // The client may have had enough before it is all written.
        let _ = stream.write_all(text.as_bytes()).await;
    };
    join!(push(&mut client, "{}"), server).0
}

#[tokio::test]
async fn other_framings_are_read() {
    for text in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"acc\r\na\r\nepted\":[]}\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n{\"accepted\":[]}",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"accepted\":[]}",
    ] {
        assert_eq!(reply_to(text).await, Reply::Accepted(vec![]), "{text}");
    }
    assert_eq!(status(reply_to("HTTP/1.1 204 No Content\r\n\r\n").await).0, 204);
    assert_eq!(status(reply_to("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await).0, 101);
}

#[tokio::test]
async fn an_answer_too_long_is_none() {
    let json = format!("{{\"accepted\":[],\"x\":\"{}\"}}", "x".repeat(70_000));
    let (kind, words) = failed(reply_to(&answer("200 OK", &json)).await);
    assert_eq!(kind, FailedKind::NotHttp);
    assert!(words.starts_with("127.0.0.1:") && words.ends_with("more than 65552 bytes"), "{words}");
    let fits = format!("{{\"accepted\":[],\"x\":\"{}\"}}", "x".repeat(65_000));
    assert_eq!(reply_to(&answer("200 OK", &fits)).await, Reply::Accepted(vec![]));
}

#[tokio::test]
async fn of_a_page_too_long_the_beginning_is_enough() {
    let page = format!("<html><title>Sign in</title>{}", "x".repeat(200_000));
    assert_eq!(status(reply_to(&answer("200 OK", &page)).await), (200, "an HTML page, “Sign in”".to_owned()));
    assert_eq!(status(reply_to(&answer("502 Bad", &page)).await), (502, "an HTML page, “Sign in”".to_owned()));
}

#[tokio::test]
async fn what_is_not_http_is_told() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(40_000));
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(500_000));
    for text in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "<html>",
        &many,
        &long,
        &endless,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ] {
        let (kind, words) = failed(reply_to(text).await);
        assert_eq!(kind, FailedKind::NotHttp, "{} {words}", text.get(..40).unwrap_or(text));
        assert!(words.starts_with("127.0.0.1:"), "{words}");
    }
}

#[tokio::test]
async fn a_token_that_no_header_can_hold_is_not_sent() {
    let (_listener, mut client) = plain_client(patient()).await;
    for token in ["secret\ntoken", "secret\u{7f}", "sécret"] {
        let (kind, words) = failed(client.push(&Token::new(token).unwrap(), Bytes::new()).await);
        assert_eq!(kind, FailedKind::Refused);
        assert!(!words.contains("cret"), "{words}");
    }
}

#[tokio::test]
async fn plain_http_is_warned_of_or_refused() {
    // A host of documentation: were it connected to, the kind would be another one.
    let url = "http://192.0.2.1";
    let strict = Settings { require_tls: true, ..patient() };
    let (kind, words) = failed(push(&mut client(url, strict.clone()), "{}").await);
    assert_eq!(kind, FailedKind::Refused);
    assert!(words.contains("require_tls") && words.contains(url), "{words}");
    let loud = client(url, patient());
    assert!(loud.plain_warning().is_some_and(|text| text.contains("NOT ENCRYPTED")));
    assert_eq!(loud.plain_warning(), None);
    assert_eq!(client("http://localhost", patient()).plain_warning(), None);
    assert_eq!(client("https://192.0.2.1", patient()).plain_warning(), None);
    let abroad = super::super::Proxies::fixed("http://192.0.2.1").unwrap();
    let settings = Settings { proxy: abroad, ..strict.clone() };
    assert_eq!(failed(push(&mut client("http://localhost", settings), "{}").await).0, FailedKind::Refused);

    let (listener, mut local) = plain_client(strict).await;
    let server = async {
        let mut stream = accept(&listener).await;
        request(&mut stream).await;
        say(&mut stream, &ok()).await;
    };
    assert_eq!(join!(push(&mut local, "{}"), server).0, Reply::Accepted(vec![]));
}
