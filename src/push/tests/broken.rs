//! Connections that break, stall, or answer too early.

use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::join;

use super::*;

/// Far more than the kernel buffers for both ends.
fn large() -> Bytes {
    Bytes::from(vec![b'x'; 8_000_000])
}

/// The server's side of an exchange that it ends by closing, answered or not.
async fn exchange(stream: &mut TcpStream, text: &str) {
    request(stream).await;
    say(stream, text).await;
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced() {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        for _ in 0..3 {
            exchange(&mut accept(&listener).await, &ok()).await;
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
async fn a_kept_connection_that_breaks_under_a_request_is_replaced_once() {
    let (listener, mut client) = plain_client(patient()).await;
    let connections = Cell::new(0);
    let server = async {
        let mut stream = accept(&listener).await;
        exchange(&mut stream, &ok()).await;
        // The second request is read and not answered, again and again.
        request(&mut stream).await;
        drop(stream);
        loop {
            let mut stream = accept(&listener).await;
            connections.set(connections.get() + 1);
            request(&mut stream).await;
        }
    };
    let pushes = async {
        assert_eq!(push(&mut client, "{}").await, Reply::Accepted(vec![]));
        push(&mut client, "{}").await
    };
    let reply = tokio::select! { () = server => panic!(), reply = pushes => reply };
    let (kind, words) = failed(reply);
    assert_eq!(kind, FailedKind::Network);
    assert!(words.ends_with("connection lost before the answer"), "{words}");
    assert_eq!(connections.get(), 1);
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_not_replaced() {
    let (listener, mut client) = plain_client(patient()).await;
    let connections = Cell::new(0);
    let server = async {
        loop {
            let mut stream = accept(&listener).await;
            connections.set(connections.get() + 1);
            request(&mut stream).await;
        }
    };
    let reply = tokio::select! { () = server => panic!(), reply = push(&mut client, "{}") => reply };
    assert_eq!(failed(reply).0, FailedKind::Network);
    assert_eq!(connections.get(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_breaks_in_an_answer_is_not_replaced() {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        exchange(&mut stream, &ok()).await;
        exchange(&mut stream, "HTTP/1.1 2").await;
        drop(stream);
        accept(&listener).await;
    };
    let pushes = async {
        assert_eq!(push(&mut client, "{}").await, Reply::Accepted(vec![]));
        push(&mut client, "{}").await
    };
    let reply = tokio::select! { () = server => panic!("sent again"), reply = pushes => reply };
    let (kind, words) = failed(reply);
    assert_eq!(kind, FailedKind::Network);
    assert!(words.ends_with("in the middle of the answer"), "{words}");
}

#[tokio::test]
async fn an_answer_cut_off_is_none() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"accepted\":[]}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{\"accepted\":[]}\r\n",
        "HTTP/1.1 500 Oops\r\nContent-Length: 16\r\n\r\ninsert",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let (listener, mut client) = plain_client(patient()).await;
        let server = async { exchange(&mut accept(&listener).await, text).await };
        let (kind, words) = failed(join!(push(&mut client, "{}"), server).0);
        assert_eq!((kind, words.contains("middle of the answer")), (FailedKind::Network, true), "{text}: {words}");
    }
}

/// A server that has seen enough after 10 kB. What it says comes before it closes; what the client does then is a race,
/// hence the repetition.
async fn early_answer(text: &str, drain: bool) -> Reply {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        stream.read_exact(&mut vec![0; 10_000]).await.unwrap();
        say(&mut stream, text).await;
        if drain {
            stream.shutdown().await.unwrap();
            // The client is free to leave with its body half sent.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
        drop(stream);
        // A connection with half a request on it is not used again.
        exchange(&mut accept(&listener).await, &ok()).await;
    };
    let pushes = async {
        let reply = push_bytes(&mut client, large()).await;
        assert_eq!(push(&mut client, "{}").await, Reply::Accepted(vec![]));
        reply
    };
    join!(pushes, server).0
}

#[tokio::test]
async fn an_early_answer_counts_whatever_happens_to_the_request() {
    for _ in 0..25 {
        for drain in [true, false] {
            let text = answer("413 Payload Too Large", "length limit exceeded");
            assert_eq!(status(early_answer(&text, drain).await), (413, "length limit exceeded".to_owned()));
            let text = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n";
            assert_eq!(status(early_answer(text, drain).await), (401, "an empty answer".to_owned()));
        }
    }
}

#[tokio::test]
async fn an_early_answer_of_a_server_that_stops_reading_counts() {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        stream.read_exact(&mut vec![0; 10_000]).await.unwrap();
        say(&mut stream, &answer("401 Unauthorized", "")).await;
        stream
    };
    let (reply, mut stream) = join!(push_bytes(&mut client, large()), server);
    assert_eq!(status(reply).0, 401);
    // The client lives on, and has closed the connection, since nothing can follow on it. How that looks from here
    // (an end or a reset) is the kernel's choice; that it ends is what counts.
    let mut sink = tokio::io::sink();
    let end = tokio::io::copy(&mut stream, &mut sink);
    assert!(tokio::time::timeout(Duration::from_secs(10), end).await.is_ok(), "still open");
    drop(client);
}

#[tokio::test]
async fn a_request_nobody_wants_to_read_is_told_as_cut_off() {
    let (listener, mut client) = plain_client(patient()).await;
    let server = async {
        let mut stream = accept(&listener).await;
        stream.read_exact(&mut vec![0; 10_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    let (reply, _open) = join!(push_bytes(&mut client, large()), server);
    assert_eq!(failed(reply).0, FailedKind::Sending);
}

#[tokio::test]
async fn a_request_cut_off_is_told_as_such() {
    for _ in 0..25 {
        let (listener, mut client) = plain_client(patient()).await;
        let server = async {
            let mut stream = accept(&listener).await;
            stream.read_exact(&mut vec![0; 10_000]).await.unwrap();
        };
        let (kind, words) = failed(join!(push_bytes(&mut client, large()), server).0);
        assert_eq!(kind, FailedKind::Sending);
        assert!(words.starts_with("127.0.0.1:") && words.contains("being sent"), "{words}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left() {
    let (listener, mut client) =
        plain_client(Settings { request_timeout: Duration::from_millis(50), ..patient() }).await;
    let server = async {
        let mut stream = accept(&listener).await;
        request(&mut stream).await;
        stream
    };
    let (reply, _open) = join!(push(&mut client, "{}"), server);
    let (kind, words) = failed(reply);
    assert_eq!(kind, FailedKind::Timeout);
    assert!(words.starts_with("127.0.0.1:") && words.ends_with("no answer within 50ms"), "{words}");
}

#[tokio::test]
async fn a_server_that_trickles_is_left() {
    for beginning in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
        let settings = Settings { request_timeout: Duration::from_millis(100), ..patient() };
        let (listener, mut client) = plain_client(settings).await;
        let server = async {
            let mut stream = accept(&listener).await;
            exchange(&mut stream, beginning).await;
            let piece: &[u8] = if beginning.ends_with("\r\n\r\n") { b"1\r\nx\r\n" } else { b"a: b\r\n" };
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            loop {
                tick.tick().await;
                if stream.write_all(piece).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let reply = tokio::select! { () = server => panic!(), reply = push(&mut client, "{}") => reply };
        assert_eq!(failed(reply).0, FailedKind::Timeout);
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_with_the_connect_time_out() {
    // The kernel accepts; nobody ever shakes hands.
    let (_listener, port) = listen().await;
    let mut client = client(&format!("https://127.0.0.1:{port}"), hasty());
    let (kind, words) = failed(push(&mut client, "{}").await);
    assert_eq!(kind, FailedKind::Unreachable);
    assert!(words.ends_with("no connection within 50ms"), "{words}");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let (listener, mut client) = plain_client(patient()).await;
    drop(listener);
    let (kind, words) = failed(push(&mut client, "{}").await);
    assert_eq!(kind, FailedKind::Network);
    assert!(words.starts_with("127.0.0.1:") && words.ends_with("connection refused"), "{words}");
}

#[tokio::test]
async fn a_push_given_up_leaves_no_connection_behind() {
    let (listener, mut client) = plain_client(patient()).await;
    let mut stream = {
        let abandoned = push(&mut client, "{}");
        let server = async {
            let mut stream = accept(&listener).await;
            request(&mut stream).await;
            stream
        };
        tokio::select! { _ = abandoned => panic!(), stream = server => stream }
    };
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    let server = async { exchange(&mut accept(&listener).await, &ok()).await };
    assert_eq!(join!(push(&mut client, "{}"), server).0, Reply::Accepted(vec![]));
}
