//! The server over sockets, and every fault it can be asked for.

use std::io::{BufReader, Read, Write};
use std::thread;
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::http::{Client, Head, Received, read_body};
use crate::token;

const LIMIT: Duration = Duration::from_secs(10);
/// Long enough to be noticed, for clients that are meant to give up.
const SHORT: Duration = Duration::from_millis(100);

fn start() -> Server {
    Server::start(Version::Later).unwrap()
}

fn batch(stamps: impl IntoIterator<Item = i64>) -> Vec<u8> {
    let op = |stamp| {
        json!({
            "operation_id": Uuid::new_v4(), "lamport_ts": stamp, "entity": "playlist", "entity_id": "7",
            "field": "name", "op": "set", "payload": { "value": "Soirée" }, "profile_canonical_id": Uuid::nil(),
        })
    };
    let ops: Vec<_> = stamps.into_iter().map(op).collect();
    json!({ "device_id": "d", "ops": ops }).to_string().into_bytes()
}

fn client(server: &Server) -> Client {
    Client::new(&server.url(), LIMIT).unwrap()
}

fn push(server: &Server, body: &[u8]) -> crate::Result<Received> {
    client(server).push(PUSH_PATH, Some(&token::for_user("alice")), body)
}

fn stamps(server: &Server) -> Vec<i64> {
    server.stored().iter().map(|row| row.lamport_ts).collect()
}

#[test]
fn a_connection_is_kept_and_everything_is_counted() {
    let server = Server::builder(Version::First).prefix("/music").start().unwrap();
    let mut client = client(&server);
    for stamp in 1..=3 {
        let answer = client.push(PUSH_PATH, Some(&token::for_user("alice")), &batch([stamp])).unwrap();
        assert_eq!(answer.status, 200);
    }
    let stats = server.stats();
    assert_eq!((stats.connections, stats.requests, stats.stored, stats.answered(200)), (1, 3, 3, 3));
    assert_eq!(stats.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(stats.largest_body(), batch([1]).len());
    assert_eq!((stats.peak_per_profile(), stats.peak_of(&Uuid::nil().to_string())), (1, 1));
    assert!(server.stored_after(2)[0].lamport_ts == 3 && server.stored()[0].user == "alice");
}

#[test]
fn a_token_is_looked_at_before_the_body() {
    let server = start();
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.write_all(format!("POST {PUSH_PATH} HTTP/1.1\r\nContent-Length: 9\r\n\r\n").as_bytes()).unwrap();
    let head = Head::read(&mut BufReader::new(socket)).unwrap().unwrap();
    assert_eq!(head.word(1), "401");
}

#[test]
fn a_body_over_the_limit_is_answered_before_it_was_read() {
    let server = start();
    let mut socket = TcpStream::connect(server.address()).unwrap();
    let (token, length) = (token::for_user("alice"), MAX_BODY_BYTES + 1);
    let head = format!(
        "POST {PUSH_PATH} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    assert_eq!(Head::read(&mut BufReader::new(&socket)).unwrap().unwrap().word(1), "413");
    assert_eq!(push(&server, &vec![b' '; length]).unwrap().status, 413, "also where the client sends on");
    assert_eq!(push(&server, &vec![b' '; MAX_BODY_BYTES]).unwrap().status, 400);
}

#[test]
fn what_is_cut_before_storing_is_not_stored() {
    for fault in [Fault::CutAtAccept, Fault::CutBeforeBody, Fault::CutMidRequest, Fault::CutBeforeStoring] {
        let server = start();
        server.next(fault.clone());
        assert!(push(&server, &batch([1])).is_err(), "{fault:?}");
        assert_eq!(stamps(&server), [0_i64; 0], "{fault:?}");
        assert_eq!(push(&server, &batch([1])).unwrap().status, 200, "{fault:?}");
    }
}

#[test]
fn what_is_cut_after_storing_is_stored() {
    for fault in [Fault::CutAfterStoring, Fault::CutMidReply, Fault::EndlessBody, Fault::EndlessHeaders] {
        let server = start();
        server.next(fault.clone());
        assert!(push(&server, &batch([1])).is_err(), "{fault:?}");
        assert_eq!((stamps(&server), server.stats().exchanges.len()), (vec![1], 1), "{fault:?}");
    }
}

#[test]
fn a_slow_way_and_a_long_head_deliver_in_the_end() {
    let server = start();
    server.next(Fault::ReadSlowly(2_000));
    let (body, began) = (batch(1..=3), Instant::now());
    assert_eq!(push(&server, &body).unwrap().status, 200);
    // The last piece is waited for too.
    let least = Duration::from_millis(u64::try_from(body.len() / 2).unwrap());
    assert!(began.elapsed() >= least, "{} bytes in {:?}", body.len(), began.elapsed());
    server.next(Fault::Trickle(Duration::from_millis(1)));
    let answer = push(&server, &batch([4])).unwrap();
    assert!(answer.status == 200 && answer.body.ends_with(b"]}"), "{answer:?}");
    server.next(Fault::ManyHeaders(500));
    assert_eq!(push(&server, &batch([5])).unwrap().status, 200);
    server.next(Fault::ManyHeaders(10_000));
    assert!(push(&server, &batch([6])).is_err(), "too long for this client");
    assert_eq!(stamps(&server), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn half_an_answer_is_half_an_answer() {
    let server = start();
    server.next(Fault::CutMidReply);
    let mut socket = TcpStream::connect(server.address()).unwrap();
    let (token, body) = (token::for_user("alice"), batch([1]));
    let head = format!(
        "POST {PUSH_PATH} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    let mut answer = BufReader::new(socket);
    let promised = Head::read(&mut answer).unwrap().unwrap().content_length().unwrap().unwrap();
    let mut got = Vec::new();
    answer.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), promised / 2);
}

#[test]
fn another_answer_can_come_before_or_after_storing() {
    let server = start();
    server.next(Fault::Answer(Reply::insert_failed()));
    assert_eq!(push(&server, &batch([1])).unwrap().body, b"insert failed");
    assert_eq!(server.stored(), []);
    server.next(Fault::AnswerAfterStoring(Reply::proxy(502)));
    assert_eq!(push(&server, &batch([1])).unwrap().status, 502);
    assert_eq!(stamps(&server), [1]);
}

#[test]
fn proxies_and_portals_answer_everything_until_they_are_gone() {
    let server = start();
    let mut client = client(&server);
    let mut ask = |body: &[u8]| client.push(PUSH_PATH, None, body).unwrap();
    server.always(Fault::Answer(Reply::captive_portal()));
    assert_eq!((ask(b"{").status, ask(&batch([1])).content_type.as_deref()), (200, Some("text/html; charset=utf-8")));
    server.clear_faults();
    server.next(Fault::Answer(Reply::login_redirect()));
    assert_eq!(ask(b"").location.as_deref(), Some("http://login.example/?from=here"));
    server.next(Fault::Answer(Reply::too_many_requests("120")));
    assert_eq!(ask(b"").retry_after.as_deref(), Some("120"));
    assert_eq!(ask(b"").status, 401);
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn a_proxy_refuses_large_bodies_only() {
    let server = start();
    let (small, large) = (batch([1]), batch(2..=400));
    server.always(Fault::RefuseOver { bytes: small.len(), reply: Reply::proxy(413) });
    assert_eq!((push(&server, &large).unwrap().status, push(&server, &small).unwrap().status), (413, 200));
    assert_eq!(stamps(&server), [1]);
}

#[test]
fn a_fault_can_be_for_some_requests_only() {
    let server = start();
    server.when(Some(2), Fault::Answer(Reply::proxy(503)), |seen| seen.ops() > 1);
    let status = |stamps: std::ops::Range<i64>| push(&server, &batch(stamps)).unwrap().status;
    assert_eq!([status(1..2), status(2..4), status(2..4), status(2..4)], [200, 503, 503, 200]);
    server.script(|seen| (seen.ops() == 1).then(|| Fault::Answer(Reply::proxy(504))));
    assert_eq!([status(4..5), status(4..6)], [504, 200]);
}

#[test]
fn a_request_is_held_between_storing_and_answering() {
    let server = start();
    server.hold_after_store();
    thread::scope(|scope| {
        let answer = scope.spawn(|| push(&server, &batch([1])).unwrap().status);
        assert!(server.wait_until_held(LIMIT));
        assert_eq!((stamps(&server), server.stats().exchanges.len()), (vec![1], 0));
        assert!(!answer.is_finished());
        server.release();
        assert_eq!(answer.join().unwrap(), 200);
    });
    assert_eq!(server.stats().held, 0);
}

#[test]
fn two_at_once_for_one_profile_are_noticed() {
    let server = start();
    server.next_n(2, Fault::HoldBeforeStore);
    thread::scope(|scope| {
        let both = [1, 2].map(|stamp| {
            scope.spawn({
                let server = &server;
                move || push(server, &batch([stamp]))
            })
        });
        assert!(server.wait_for(|stats| stats.held == 2, LIMIT));
        assert_eq!(server.stored(), []);
        server.release();
        assert!(both.into_iter().all(|one| one.join().unwrap().unwrap().status == 200));
    });
    assert_eq!(server.stats().peak_per_profile(), 2);
}

#[test]
fn a_client_that_waits_for_its_answers_never_counts_twice() {
    let server = start();
    for stamp in 1..=100 {
        assert_eq!(push(&server, &batch([stamp])).unwrap().status, 200);
    }
    let stats = server.stats();
    assert_eq!((stats.connections, stats.peak_per_profile()), (100, 1));
}

#[test]
fn silence_ends_with_the_client_or_with_a_release() {
    let server = start();
    server.next_n(2, Fault::Silence);
    let mut impatient = Client::new(&server.url(), SHORT).unwrap();
    assert!(impatient.push(PUSH_PATH, Some(&token::for_user("alice")), &batch([1])).is_err());
    drop(impatient);
    assert!(server.wait_for(|stats| stats.held == 0 && stats.exchanges.len() == 1, LIMIT));
    thread::scope(|scope| {
        let other = scope.spawn(|| push(&server, &batch([1])));
        assert!(server.wait_until_held(LIMIT));
        server.release();
        assert!(other.join().unwrap().is_err());
    });
    assert_eq!(server.stored(), []);
}

#[test]
fn delays_delay_and_stalls_go_on() {
    let server = start();
    for (stamp, fault) in [(1, Fault::DelayBefore(SHORT)), (2, Fault::DelayAfter(SHORT))] {
        server.next(fault);
        let start = Instant::now();
        assert_eq!(push(&server, &batch([stamp])).unwrap().status, 200);
        assert!(start.elapsed() >= SHORT);
    }
    server.next(Fault::StallMidReply);
    thread::scope(|scope| {
        let answer = scope.spawn(|| push(&server, &batch([3])).unwrap());
        assert!(server.wait_until_held(LIMIT));
        server.release();
        assert!(answer.join().unwrap().body.ends_with(b"}"));
    });
}

#[test]
fn a_connection_can_be_closed_although_it_promised_to_stay() {
    let server = start();
    let mut client = client(&server);
    let mut send = |stamp| client.push(PUSH_PATH, Some(&token::for_user("alice")), &batch([stamp]));
    server.next(Fault::CloseAfterReply);
    assert_eq!(send(1).unwrap().status, 200);
    assert!(send(2).is_err(), "the client had believed the promise");
    assert_eq!(send(2).unwrap().status, 200);
    assert_eq!(server.stats().connections, 2);
}

#[test]
fn a_server_goes_down_with_its_connections_and_comes_back_with_its_rows() {
    let server = start();
    let mut kept = client(&server);
    kept.push(PUSH_PATH, Some(&token::for_user("alice")), &batch([1])).unwrap();
    server.go_down();
    assert!(kept.push(PUSH_PATH, Some(&token::for_user("alice")), &batch([2])).is_err());
    assert!(push(&server, &batch([2])).is_err());
    server.come_back().unwrap();
    assert_eq!(push(&server, &batch([2])).unwrap().status, 200);
    assert_eq!(stamps(&server), [1, 2]);
}

#[test]
fn a_server_that_is_down_keeps_its_port_from_everybody_else() {
    let server = start();
    // As a program has it that is just being started.
    let _copy = server.acceptor.lock().unwrap().as_ref().unwrap().0.try_clone().unwrap();
    server.go_down();
    let refused = TcpStream::connect(server.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let taken = stranger.bind(&server.address().into()).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    server.come_back().unwrap();
    assert_eq!(push(&server, &batch([1])).unwrap().status, 200);
}

#[test]
fn a_server_that_holds_somebody_can_be_dropped() {
    let server = start();
    server.always(Fault::Silence);
    let url = server.url();
    let waiting = thread::spawn(move || Client::new(&url, LIMIT).unwrap().push(PUSH_PATH, None, b"{}"));
    assert!(server.wait_until_held(LIMIT));
    drop(server);
    assert!(waiting.join().unwrap().is_err());
}

fn over_tls(server: &Server, trusted_pem: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted_pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, TcpStream::connect(server.address()).unwrap()));
    let (token, body) = (token::for_user("alice"), batch([1]));
    let head = format!(
        "POST {PUSH_PATH} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(&[head.as_bytes(), &body].concat())?;
    let head = Head::read(&mut stream)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    read_body(&mut stream, head.content_length()?.unwrap_or(0))?;
    Ok(head.word(1).to_owned())
}

#[test]
fn tls_works_and_bad_certificates_are_bad() {
    let serve = |leaf| Server::builder(Version::Later).tls(leaf).start().unwrap();
    let good = serve(Leaf::Good);
    assert!(good.url().starts_with("https://127.0.0.1:"));
    assert_eq!(over_tls(&good, good.ca_pem().unwrap()).unwrap(), "200");
    good.next(Fault::CutMidReply);
    assert!(over_tls(&good, good.ca_pem().unwrap()).is_err());
    let stranger = Authority::new().unwrap();
    assert!(over_tls(&good, stranger.pem()).is_err());
    for (leaf, complaint) in [(Leaf::WrongName, "NotValidForName"), (Leaf::Expired, "Expired")] {
        let bad = serve(leaf);
        let error = format!("{:?}", over_tls(&bad, bad.ca_pem().unwrap()).unwrap_err());
        assert!(error.contains(complaint), "{leaf:?}: {error}");
        assert_eq!(bad.stats().requests, 0);
    }
}
