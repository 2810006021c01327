//! TLS: which roots are trusted, and what a failed handshake means for a person.
//!
//! What must always hold: certificates are always checked; `ca_file` adds roots and takes none away. Crypto is `ring`
//! only, whatever else is linked in.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::{Trouble, reason};
use crate::op::FailedKind;

/// A bundle of every public root has a quarter of this.
const MAX_CA_FILE: u64 = 1024 * 1024;

/// 9999-12-31, the last day a certificate can name; one that names it has no end (RFC 5280).
const LAST_DAY: Duration = Duration::from_secs(253_402_300_799);

/// What is needed for handshakes with one host.
pub(super) struct Tls {
    connector: TlsConnector,
    host: String,
    name: ServerName<'static>,
    /// Nothing can succeed then, and the reason is not the server's certificate.
    no_roots: bool,
}

impl Tls {
    /// Loads the system's roots and those of `ca_file`. Reads files: not for a busy reactor's thread in a loop.
    ///
    /// # Errors
    /// `ca_file` cannot be read or holds no certificate, or no certificate can be for `host`.
    pub(super) fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // Single roots that cannot be read are no reason to trust none.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            add_file(&mut roots, path)?;
        }
        let no_roots = roots.is_empty();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("no certificate can be for {host}"))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), host: host.to_owned(), name, no_roots })
    }

    /// Until when a leaf is good, in seconds since the epoch; `None` where it never ends, or cannot be read.
    ///
    /// rustls hands no date out but in one place, its complaint about a certificate that has expired: so it is asked as
    /// if it were the last day there is. A leaf's own dates are looked at before its issuer, so no root is needed; and no
    /// second reader of certificates.
    pub(super) fn expiry(leaf: &CertificateDer<'_>) -> Option<u64> {
        let last_day = UnixTime::since_unix_epoch(LAST_DAY);
        let leaf = ParsedCertificate::try_from(leaf).ok()?;
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        let looked =
            verify_server_cert_signed_by_trust_anchor(&leaf, &RootCertStore::empty(), &[], last_day, algorithms);
        match looked {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Some(not_after.as_secs())
            }
            _ => None,
        }
    }

    /// Shakes hands over `tcp`.
    pub(super) async fn handshake(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Trouble> {
        self.connector.connect(self.name.clone(), tcp).await.map_err(|error| match find(&error) {
            Some(_) if self.no_roots => Trouble {
                kind: FailedKind::Tls,
                words: "this machine has no root certificates: install them, or set server.ca_file".to_owned(),
            },
            Some(cause) => Trouble { kind: FailedKind::Tls, words: explain(cause, &self.host) },
            None => Trouble {
                kind: FailedKind::Network,
                words: format!("{}: connection lost in the TLS handshake ({})", self.host, reason(&error)),
            },
        })
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let shown = path.display();
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CA_FILE + 1).read_to_end(&mut pem))
        .map_err(|error| format!("ca_file {shown}: {error}"))?;
    if u64::try_from(pem.len()).is_ok_and(|len| len > MAX_CA_FILE) {
        return Err(format!("ca_file {shown}: longer than {MAX_CA_FILE} bytes"));
    }
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("ca_file {shown}: not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca_file {shown}: unusable certificate: {error}"))?;
        added += 1;
    }
    if added == 0 {
        return Err(format!("ca_file {shown}: holds no certificate (BEGIN CERTIFICATE)"));
    }
    Ok(())
}

/// The TLS error at the bottom of another one, if that is what it is about.
pub(super) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `io::Error` passes over what it wraps: its source is the wrapped error's source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What went wrong, in words a person can act on.
pub(super) fn explain(error: &rustls::Error, host: &str) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => certificate(error, host),
        E::PeerIncompatible(_) | E::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("{host} offers neither TLS 1.2 nor 1.3 with ciphers that are safe")
        }
        E::AlertReceived(AlertDescription::CertificateRequired) => format!("{host} asks for a client certificate"),
        E::AlertReceived(alert) => format!("{host} refuses the TLS handshake ({alert:?})"),
        E::InvalidMessage(_) => format!("{host} does not speak TLS on this port (perhaps http:// is meant)"),
        other => format!("TLS with {host} fails: {other}"),
    }
}

fn certificate(error: &CertificateError, host: &str) -> String {
    use CertificateError as C;
    match error {
        C::UnknownIssuer => {
            format!("the certificate of {host} is from an unknown issuer (if it is your own, set server.ca_file)")
        }
        C::Expired | C::ExpiredContext { .. } => format!("the certificate of {host} has expired"),
        C::NotValidYet | C::NotValidYetContext { .. } => {
            format!("the certificate of {host} is not valid yet (is this machine's clock right?)")
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => format!("the certificate is not valid for {host}"),
        C::Revoked => format!("the certificate of {host} has been revoked"),
        // An authority made anew under its old name looks like this.
        C::BadSignature => format!("the certificate of {host} has a wrong signature (is server.ca_file out of date?)"),
        // What `openssl req -x509` makes by default, served as it is.
        C::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            format!("the certificate of {host} is an authority's: make one for the server (CA:FALSE)")
        }
        other => format!("the certificate of {host} cannot be used: {other}"),
    }
}
