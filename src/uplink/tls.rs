//! Certificates and keys: a rustls client configuration out of files.
//!
//! ring is the provider, told here and not process-wide, so that nothing depends on who came first. TLS 1.2 and 1.3.

use std::{path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject};
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};

use super::{
    Tls,
    fault::{CertificateTrouble, Fault},
};

/// Reads the files and makes the configuration of one connection.
pub fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots(tls.ca_file.as_deref())?);
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|cause| Fault::Options(format!("no usable authorities: {cause}")))?;
    let name = tls.server_name.as_deref().map(server_name).transpose()?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| Fault::Options(format!("no usable TLS version: {cause}")))?
        // "Dangerous" because a verifier can be anything; this one is webpki's, asked about the configured name.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, name }));
    let config = match (&tls.client_certificate, &tls.client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|cause| file(certificate, format!("it does not go with the key {}: {cause}", key.display())))?,
        _ => return Err(Fault::Options("client-certificate and client-key go together: one is missing".into())),
    };
    Ok(Arc::new(config))
}

/// Tells what a TLS error is about.
pub(super) fn explain(error: &rustls::Error, host: &str, port: u16, tls: &Tls) -> Fault {
    let host = host.to_owned();
    match error {
        rustls::Error::InvalidCertificate(error) => {
            let expected = tls.server_name.as_ref().unwrap_or(&host).clone();
            Fault::Certificate { trouble: trouble(error, expected), host, port }
        }
        rustls::Error::AlertReceived(alert) if is_of_certificate(*alert) => {
            Fault::ClientCertificate { host, port, alert: format!("{alert:?}") }
        }
        other => Fault::Tls { host, port, cause: other.to_string() },
    }
}

/// Whether an alert is about the gateway's own certificate. A broker of TLS 1.2 that misses one has no word of its own for
/// it and says that the handshake failed.
fn is_of_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::NoCertificate
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
            | A::HandshakeFailure
    )
}

fn trouble(error: &CertificateError, expected: String) -> CertificateTrouble {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => CertificateTrouble::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => CertificateTrouble::NotYetValid,
        // A signature that does not fit: another authority of the same name.
        E::UnknownIssuer | E::BadSignature => CertificateTrouble::UnknownAuthority,
        E::Revoked => CertificateTrouble::Revoked,
        E::NotValidForName => CertificateTrouble::WrongName { expected, presented: Vec::new() },
        E::NotValidForNameContext { presented, .. } => {
            // webpki hands them out as `DnsName("broker.example")`.
            let bare = |name: &String| name.trim_start_matches("DnsName(\"").trim_end_matches("\")").to_owned();
            CertificateTrouble::WrongName { expected, presented: presented.iter().map(bare).collect() }
        }
        other => CertificateTrouble::Other(other.to_string()),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|cause| file(path, format!("not usable as an authority: {cause}")))?;
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(list) if list.is_empty() => Err(file(path, "no certificate in it".into())),
        Ok(list) => Ok(list),
        Err(cause) => Err(file(path, told(cause))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_file(path).map_err(|cause| match cause {
        pem::Error::NoItemsFound => file(path, "no private key in it".into()),
        other => file(path, told(other)),
    })
}

fn told(cause: pem::Error) -> String {
    match cause {
        pem::Error::Io(cause) => cause.to_string(),
        other => format!("not PEM: {other}"),
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| Fault::Options(format!("server-name {name:?} is neither a host name nor an address")))
}

fn file(path: &Path, cause: String) -> Fault {
    Fault::File { path: path.to_owned(), cause }
}

/// webpki's verifier, asked about the configured name where there is one: rumqttc always passes the host it dialled.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(dialled);
        self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
