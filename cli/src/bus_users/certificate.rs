//! The certificate by which clients know a fleet's NATS server, of a CA that exists for it alone. The CA's private key
//! signs this one certificate and is dropped: nobody can make another that the clients believe.

use jiff::ToSpan;
use jiff::tz::TimeZone;
use muster_protocol::ids::FleetName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use zeroize::{Zeroize, Zeroizing};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen;

/// Validity, in years, of both certificates.
const YEARS: i64 = 10;

/// What was made, as PEM.
pub(super) struct Certificates {
    /// The CA's certificate: what clients trust.
    pub(super) ca: String,
    /// The server's certificate.
    pub(super) server: String,
    /// The server's private key.
    pub(super) key: Zeroizing<String>,
}

/// The names by which clients on this machine and elsewhere may know the server.
pub(super) fn names() -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let uname = rustix::system::uname();
    let host = uname.nodename().to_str().unwrap_or_default();
    // Anything else is no name that a client could ask for.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if !host.is_empty() && host.bytes().all(plain) && !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    names
}

/// Fresh ones, for a server of these names.
///
/// # Errors
/// Exit 1 when the library refuses.
pub(super) fn generate(fleet: &FleetName, names: &[String]) -> Result<Certificates, Failure> {
    let failed = |error: rcgen::Error| {
        Failure::new(Exit::Failed, "no certificate can be made for the NATS server")
            .because(error.to_string())
    };
    let mut ca_key = KeyPair::generate().map_err(failed)?;
    let mut ca = CertificateParams::new([]).map_err(failed)?;
    name(&mut ca, format!("CA for NATS of fleet {fleet}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

    let mut key = KeyPair::generate().map_err(failed)?;
    let mut server = CertificateParams::new(names).map_err(failed)?;
    name(&mut server, format!("nats-server of fleet {fleet}"));
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

    let server = server.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).map_err(failed)?;
    let ca = ca.self_signed(&ca_key).map_err(failed)?;
    ca_key.zeroize();
    let pem = Zeroizing::new(key.serialize_pem());
    key.zeroize();
    Ok(Certificates { ca: ca.pem(), server: server.pem(), key: pem })
}

/// A certificate's name and validity: from yesterday on, because clocks differ.
fn name(params: &mut CertificateParams, name: String) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let today =
        jiff::Timestamp::from_millisecond(screen::now().0).unwrap_or_default().to_zoned(TimeZone::UTC).date();
    let at = |date: jiff::civil::Date| {
        let part = |number: i8| u8::try_from(number).expect("months and days are positive");
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    params.not_before = at(today.saturating_sub(1.day()));
    params.not_after = at(today.saturating_add(YEARS.years()));
}
