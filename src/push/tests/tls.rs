//! Certificates good and bad.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt;
use tokio::join;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::super::probe::{Step, probe};
use super::super::tls::Tls;
use super::*;

/// An authority, as `ca_file`.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) file: NamedTempFile,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    pub(super) fn acceptor(&self, name: &str, years: std::ops::Range<i32>) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    pub(super) fn trusted(&self) -> Settings {
        Settings { ca_file: Some(self.file.path().to_owned()), ..patient() }
    }
}

/// A push to a server whose certificate is this one.
async fn push_to(acceptor: TlsAcceptor, settings: Settings) -> Reply {
    let (listener, port) = listen().await;
    let mut client = client(&format!("https://127.0.0.1:{port}"), settings);
    let server = async {
        let tcp = accept(&listener).await;
        if let Ok(mut stream) = acceptor.accept(tcp).await {
            request(&mut stream).await;
            say(&mut stream, &ok()).await;
        }
    };
    join!(push(&mut client, "{}"), server).0
}

#[tokio::test]
async fn an_authority_of_one_s_own_is_trusted() {
    let authority = Authority::new("a");
    let reply = push_to(authority.acceptor("127.0.0.1", 2000..4000), authority.trusted()).await;
    assert_eq!(reply, Reply::Accepted(vec![]));
}

#[tokio::test]
async fn bad_certificates_are_refused_with_a_reason() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let namesake = Authority::new("a");
    for (acceptor, settings, why) in [
        (authority.acceptor("127.0.0.1", 2000..4000), namesake.trusted(), "ca_file out of date?"),
        (
            authority.acceptor("127.0.0.1", 2000..4000),
            other.trusted(),
            "certificate of 127.0.0.1 is from an unknown issuer",
        ),
        (authority.acceptor("127.0.0.1", 2000..2001), authority.trusted(), "certificate of 127.0.0.1 has expired"),
        (authority.acceptor("127.0.0.1", 3000..4000), authority.trusted(), "not valid yet"),
        (
            authority.acceptor("other.example", 2000..4000),
            authority.trusted(),
            "certificate is not valid for 127.0.0.1",
        ),
    ] {
        let (kind, words) = failed(push_to(acceptor, settings).await);
        assert_eq!(kind, FailedKind::Tls);
        assert!(words.contains(why), "{words}");
    }
}

#[test]
fn the_end_of_a_certificate_is_known_whoever_made_it_and_whatever_the_time() {
    let of = |years: [i32; 2]| {
        let mut params = CertificateParams::new(vec!["h".to_owned()]).unwrap();
        params.not_before = date_time_ymd(years[0], 1, 1);
        params.not_after = date_time_ymd(years[1], 12, 31);
        let by_itself = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let authority = Authority::new("a");
        let signed = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap();
        [by_itself, signed].map(|certificate| Tls::expiry(certificate.der()))
    };
    assert_eq!(of([1990, 2001]), [Some(1_009_756_800); 2]);
    assert_eq!(of([2990, 2999]), [Some(32_503_593_600); 2]);
    assert_eq!(Tls::expiry(&b"no certificate".as_slice().into()), None);
}

#[tokio::test]
async fn each_step_to_a_server_is_told_up_to_the_one_that_fails() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let limit = Duration::from_secs(20);
    for (trusts, expected) in [(true, None), (false, Some(Step::Tls))] {
        let (listener, port) = listen().await;
        let acceptor = authority.acceptor("127.0.0.1", 2000..4000);
        let target = Target::parse(&format!("https://127.0.0.1:{port}")).unwrap();
        let settings = if trusts { authority.trusted() } else { other.trusted() };
        let serve = async { drop(acceptor.accept(accept(&listener).await).await) };
        // Who never comes is not waited for.
        let both = async { join!(probe(&target, &settings, limit), serve).0 };
        let way = timeout(limit * 2, both).await.unwrap();
        assert_eq!(way.stopped.as_ref().map(|(step, _)| *step), expected, "{way:?}");
        assert!(way.taken.starts_with(&[Step::Setup, Step::Name, Step::Tcp]), "{way:?}");
        assert_eq!(way.expires, trusts.then_some(64_060_588_800), "{way:?}");
    }
    let (listener, port) = listen().await;
    drop(listener);
    let way = probe(&Target::parse(&format!("http://127.0.0.1:{port}")).unwrap(), &patient(), limit).await;
    assert_eq!(way.stopped, Some((Step::Tcp, format!("127.0.0.1:{port}: connection refused"))));
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let (listener, port) = listen().await;
    let mut client = client(&format!("https://127.0.0.1:{port}"), Authority::new("a").trusted());
    let server = async {
        let mut stream = accept(&listener).await;
        // All of the client's hello, so that closing does not overtake the answer.
        let mut header = [0; 5];
        stream.read_exact(&mut header).await.unwrap();
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        say(&mut stream, &answer("400 Bad Request", "plain")).await;
    };
    let (kind, words) = failed(join!(push(&mut client, "{}"), server).0);
    assert_eq!(kind, FailedKind::Tls);
    assert!(words.contains("does not speak TLS"), "{words}");
}

#[tokio::test]
async fn a_handshake_cut_off_is_the_network_s_fault() {
    let (listener, port) = listen().await;
    let mut client = client(&format!("https://127.0.0.1:{port}"), Authority::new("a").trusted());
    let (kind, words) = failed(join!(push(&mut client, "{}"), async { drop(accept(&listener).await) }).0);
    assert_eq!(kind, FailedKind::Network);
    assert!(words.contains("lost in the TLS handshake"), "{words}");
}

#[tokio::test]
async fn an_early_answer_counts_through_tls() {
    let authority = Authority::new("a");
    let acceptor = authority.acceptor("127.0.0.1", 2000..4000);
    for _ in 0..10 {
        let (listener, port) = listen().await;
        let mut client = client(&format!("https://127.0.0.1:{port}"), authority.trusted());
        let server = async {
            let tcp = accept(&listener).await;
            // Else the answer waits for the acknowledgement of the session tickets, and closing throws it away.
            tcp.set_nodelay(true).unwrap();
            let mut stream = acceptor.accept(tcp).await.unwrap();
            stream.read_exact(&mut vec![0; 10_000]).await.unwrap();
            say(&mut stream, &answer("413 Payload Too Large", "too long")).await;
        };
        let (reply, ()) = join!(push_bytes(&mut client, Bytes::from(vec![b'x'; 8_000_000])), server);
        assert_eq!(status(reply), (413, "too long".to_owned()));
    }
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none_is_named() {
    let empty = NamedTempFile::new().unwrap();
    let broken = NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let missing = empty.path().with_extension("missing");
    for path in [empty.path(), broken.path(), &missing] {
        let settings = Settings { ca_file: Some(path.to_owned()), ..patient() };
        let error = Client::new(Target::parse("https://127.0.0.1").unwrap(), settings).err().unwrap();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
