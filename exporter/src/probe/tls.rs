//! One request over TLS to the server that runs beside us. It is recognised by its certificate, not by a name or an authority; where
//! it wants a certificate of the client, its refusal is the sign that it lives.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError,
    SignatureScheme, StreamOwned,
};

/// How the other side was found.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// It has shaken hands, and this came of it.
    Open(T),
    /// It has shown its certificate and refused us for having none.
    RefusesClients,
}

/// Shakes hands and calls `ask`. `expected` is the certificate that the server must show; any will do without.
pub(super) fn over_tls<T>(
    tcp: TcpStream,
    expected: Option<CertificateDer<'static>>,
    ask: impl FnOnce(&mut dyn ReadWrite) -> Result<T, super::Error>,
) -> Result<Found<T>, super::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        Arc::new(OneCertificate { expected, was_shown: AtomicBool::new(false), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    match ask(&mut StreamOwned::new(session, tcp)) {
        Err(super::Error::Io(error)) if verifier.was_shown.load(Ordering::Relaxed) && wants_certificate(&error) => {
            Ok(Found::RefusesClients)
        }
        outcome => outcome.map(Found::Open),
    }
}

/// What a request is written to and answered by.
pub(super) trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

fn wants_certificate(error: &io::Error) -> bool {
    use AlertDescription::{BadCertificate, CertificateRequired, HandshakeFailure};
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(TlsError::AlertReceived(CertificateRequired | BadCertificate | HandshakeFailure)))
}

#[derive(Debug)]
struct OneCertificate {
    expected: Option<CertificateDer<'static>>,
    was_shown: AtomicBool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.expected.as_ref().is_some_and(|expected| expected != end_entity) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        self.was_shown.store(true, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
