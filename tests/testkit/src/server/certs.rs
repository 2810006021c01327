//! Certificates made on the spot: a small authority, and leaves that are good or bad in one way each.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::Result;

/// What is wrong with the server's certificate, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// Good for 127.0.0.1 and localhost.
    Good,
    /// For another name.
    WrongName,
    /// Of the year 2001.
    Expired,
    /// Good for the right names, but signed by nobody else than itself.
    SelfSigned,
}

/// The version of TLS that a server speaks, where it speaks one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    Two,
    /// 1.3
    Three,
}

/// An authority that nobody knows yet.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one with a fresh key.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "testkit authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Its certificate, for `ca_file`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's side of TLS with a leaf signed by this authority, unless it is to sign itself.
    pub(crate) fn server_config(&self, leaf: Leaf, only: Option<TlsVersion>) -> Result<Arc<ServerConfig>> {
        let key = KeyPair::generate()?;
        let params = leaf_params(leaf)?;
        let certificate = match leaf {
            Leaf::SelfSigned => params.self_signed(&key)?,
            Leaf::Good | Leaf::WrongName | Leaf::Expired => params.signed_by(&key, &self.issuer)?,
        };
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(only))?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

fn versions(only: Option<TlsVersion>) -> &'static [&'static SupportedProtocolVersion] {
    static TWO: [&SupportedProtocolVersion; 1] = [&TLS12];
    static THREE: [&SupportedProtocolVersion; 1] = [&TLS13];
    match only {
        None => rustls::DEFAULT_VERSIONS,
        Some(TlsVersion::Two) => &TWO,
        Some(TlsVersion::Three) => &THREE,
    }
}

fn leaf_params(leaf: Leaf) -> Result<CertificateParams> {
    let names = if leaf == Leaf::WrongName { "elsewhere.example" } else { "localhost" };
    let mut params = CertificateParams::new(vec![names.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "testkit server");
    if leaf != Leaf::WrongName {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    if leaf == Leaf::Expired {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 12, 31);
    }
    Ok(params)
}
