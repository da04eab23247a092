//! The hub's own TLS, for those who have no proxy in front of it.
//!
//! In      the files of certificate and private key (PEM).
//! Out     an acceptor for connections.
//! Keeps   what the files said when last they could be used: they are looked at again every [`LOOK_EVERY`], so that a
//!         renewed certificate takes no restart, and a damaged one no service.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{sync::watch, time::interval};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, crypto::ring},
};

use crate::config::{ConfigError, Http};

/// How soon a renewed certificate is used.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A certificate or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The configuration, or the file of the key.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file of the certificate.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate in it, or something damaged.
    #[error("{path}: wanted certificates in PEM, the hub's own first: {source}")]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// There is no key in it.
    #[error("[http] key: wanted a private key in PEM, not encrypted: {0}")]
    Key(rustls_pki_types::pem::Error),
    /// They do not belong together, or cannot be used.
    #[error("[http] certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// See the module.
pub struct Tls {
    http: Http,
    now: RwLock<Arc<ServerConfig>>,
}

/// Which files those were: number, length and time of change.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

impl Tls {
    /// Reads the files, if some are named.
    pub fn load(http: &Http) -> Result<Option<Arc<Tls>>, TlsError> {
        let Some(config) = read(http)? else { return Ok(None) };
        Ok(Some(Arc::new(Tls { http: http.clone(), now: RwLock::new(config) })))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Reads the files again when they are others, until told to stop.
    pub async fn look_after(self: Arc<Self>, every: Duration, mut stop: watch::Receiver<bool>) {
        let mut every = interval(every);
        let mut seen = self.stamp();
        loop {
            // Both are cancel-safe: a tick that is dropped comes again.
            tokio::select! {
                _ = every.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let stamp = self.stamp();
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match read(&self.http) {
                Ok(Some(config)) => {
                    *self.now.write().unwrap_or_else(PoisonError::into_inner) = config;
                    tracing::info!("the certificate was read again");
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "the certificate cannot be read again; the old one is used on"),
            }
        }
    }

    fn stamp(&self) -> Stamp {
        let of = |path: PathBuf| fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        [self.http.certificate.clone().and_then(of), self.http.key_path().and_then(of)]
    }
}

fn read(http: &Http) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let (Some((path, _)), Some(key)) = (http.tls()?, http.private_key()?) else { return Ok(None) };
    let unreadable = |source| TlsError::Unreadable { path: path.into(), source };
    let bad = |source| TlsError::Certificate { path: path.into(), source };
    let text = fs::read(path).map_err(unreadable)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(bad)?;
    if chain.is_empty() {
        return Err(bad(rustls_pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(TlsError::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // WebSockets and all else speak HTTP/1.1 here.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of its own each time.
    fn write(http: &Http) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        fs::write(http.key_path().unwrap(), made.signing_key.serialize_pem()).unwrap();
        fs::write(http.certificate.as_ref().unwrap(), made.cert.pem()).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_renewed_certificate_is_used_and_a_damaged_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        let key = Some(file("key").display().to_string());
        let http = Http { certificate: Some(file("certificate")), key, ..Http::default() };
        write(&http);
        let tls = Tls::load(&http).unwrap().unwrap();
        let now = || tls.now.read().unwrap().clone();
        let first = now();
        let (stop, stopped) = watch::channel(false);
        let looking = tokio::spawn(tls.clone().look_after(Duration::from_millis(5), stopped));
        tokio::time::sleep(Duration::from_millis(50)).await;
        fs::write(file("certificate"), "rubbish").unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(Arc::ptr_eq(&first, &now()), "the old one is used on");
        write(&http);
        for _ in 0..2000 {
            if Arc::ptr_eq(&first, &now()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        assert!(!Arc::ptr_eq(&first, &now()), "the new one is not used");
        stop.send_replace(true);
        looking.await.unwrap();
    }
}
