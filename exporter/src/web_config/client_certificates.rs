//! Decides which certificates of clients are accepted, by `client_auth_type`, `client_ca` and `client_allowed_sans`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

/// `client_auth_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// No certificate is asked for.
    No,
    /// A certificate is asked for. Any is accepted, and so is none.
    Request,
    /// A certificate is required. Any is accepted.
    RequireAny,
    /// A certificate is asked for. If one is given, a CA must have issued it.
    VerifyIfGiven,
    /// A certificate that a CA has issued is required.
    RequireAndVerify,
}

/// The types by their words in the file.
pub(super) const CLIENT_AUTH_TYPES: &[(&str, ClientAuth)] = &[
    ("NoClientCert", ClientAuth::No),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
    // The older word for RequireAnyClientCert.
    ("RequireClientCert", ClientAuth::RequireAny),
];

impl ClientAuth {
    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// Accepts or refuses a client's certificate.
#[derive(Debug)]
pub(super) struct ClientCertificates {
    is_mandatory: bool,
    /// The authorities; none if any certificate is accepted.
    chain: Option<Chain>,
    /// Names of which a certificate must have at least one.
    sans: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

/// The authorities that a certificate must come from.
#[derive(Debug)]
struct Chain {
    /// None without any authority. Then no certificate is accepted.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientCertificates {
    /// Returns none if no certificate is asked for.
    ///
    /// # Errors
    /// No client certificate can be verified with these authorities.
    pub(super) fn new(
        auth: ClientAuth,
        authorities: Vec<CertificateDer<'static>>,
        sans: Option<Vec<String>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Self>, String> {
        if auth == ClientAuth::No {
            return Ok(None);
        }
        let chain = if auth.verifies() { Some(Chain::new(authorities, provider)?) } else { None };
        let requires = matches!(auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
        // A list of names also refuses clients without a certificate.
        let is_mandatory = requires || sans.is_some();
        Ok(Some(Self { is_mandatory, chain, sans, provider: Arc::clone(provider) }))
    }
}

impl Chain {
    fn new(authorities: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(authorities.iter().cloned());
        if added == 0 {
            return Ok(Self { verifier: None, authorities });
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let verifier = builder.build().map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Self { verifier: Some(verifier), authorities })
    }

    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let verifier = self.verifier.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        match verifier.verify_client_cert(leaf, others, now) {
            Ok(_) => Ok(()),
            // rustls refuses a self-signed CA certificate as that of a client. It is accepted if the file names this very
            // certificate, as in Go.
            Err(_) if self.authorities.iter().any(|known| known == leaf) && is_usable_now(leaf, now) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Returns whether a certificate is that of a CA, valid now, and usable for clients.
fn is_usable_now(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let now = i64::try_from(now.as_secs()).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    let is_for_clients = match parsed.extended_key_usage() {
        Ok(Some(usage)) => usage.value.any || usage.value.client_auth,
        Ok(None) => true,
        Err(_) => false,
    };
    parsed.is_ca() && is_for_clients && now.is_some_and(|now| parsed.validity().is_valid_at(now))
}

/// Returns the names in a certificate, in the spelling of Go.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_canonical().to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

impl ClientCertVerifier for ClientCertificates {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let verifier = self.chain.as_ref().and_then(|chain| chain.verifier.as_ref());
        verifier.map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.check(end_entity, intermediates, now)?;
        }
        if let Some(allowed) = &self.sans
            && !names(end_entity).iter().any(|name| allowed.contains(name))
        {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
    use tokio_rustls::rustls::crypto::ring::default_provider;

    use super::*;

    fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(["test3".to_owned()]).unwrap();
        change(&mut parameters);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verdict(
        auth: ClientAuth,
        authorities: &[&CertificateDer<'static>],
        sans: Option<&[&str]>,
        shown: &CertificateDer<'_>,
    ) -> Result<(), Error> {
        let authorities = authorities.iter().map(|known| (*known).clone()).collect();
        let sans = sans.map(|sans| sans.iter().map(|name| (*name).to_owned()).collect());
        let verifier = ClientCertificates::new(auth, authorities, sans, &Arc::new(default_provider()));
        verifier.unwrap().unwrap().verify_client_cert(shown, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_self_signed_certificate_is_good_where_the_file_names_it() {
        use ClientAuth::RequireAndVerify as Verify;
        let authority = |parameters: &mut CertificateParams| {
            parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        };
        let (plain, ca, other) = (self_signed(|_| ()), self_signed(authority), self_signed(authority));
        assert!(verdict(Verify, &[&plain], None, &plain).is_ok());
        assert!(verdict(Verify, &[&ca], None, &ca).is_ok());
        assert!(verdict(Verify, &[&ca], None, &other).is_err());
        assert!(verdict(Verify, &[], None, &ca).is_err());
        assert!(verdict(ClientAuth::RequireAny, &[], None, &other).is_ok());
        let expired = self_signed(|parameters| {
            authority(parameters);
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        assert!(verdict(Verify, &[&expired], None, &expired).is_err());
        let server = self_signed(|parameters| {
            authority(parameters);
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        assert!(verdict(Verify, &[&server], None, &server).is_err());
    }

    #[test]
    fn one_of_the_names_must_be_there_also_where_nothing_is_verified() {
        let certificate = self_signed(|parameters| {
            parameters.subject_alt_names = vec![
                SanType::DnsName("test3".try_into().unwrap()),
                SanType::Rfc822Name("a@example.org".try_into().unwrap()),
                SanType::URI("spiffe://x/y".try_into().unwrap()),
                SanType::IpAddress("::ffff:10.0.0.1".parse().unwrap()),
                SanType::IpAddress("2001:db8::1".parse().unwrap()),
            ];
        });
        for name in ["test3", "a@example.org", "spiffe://x/y", "10.0.0.1", "2001:db8::1"] {
            assert!(verdict(ClientAuth::Request, &[], Some(&["one", name]), &certificate).is_ok(), "{name}");
        }
        for names in [&["bad"][..], &["TEST3"], &[]] {
            let error = verdict(ClientAuth::RequireAny, &[], Some(names), &certificate).unwrap_err();
            assert_eq!(error, CertificateError::NotValidForName.into());
        }
    }
}
