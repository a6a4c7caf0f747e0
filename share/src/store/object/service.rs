//! Which object service, and how a client of it is built.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::config::Lock;
use object_store::aws::{AmazonS3Builder, AwsCredential, S3ConditionalPut};
use object_store::azure::{
    AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder, split_sas,
};
use object_store::client::{Certificate, ClientOptions};
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use rustls::crypto::{CryptoProvider, ring};

use super::super::address::{AzureAddress, S3Address};
use super::super::secret::{AzureSecret, S3Secret};
use super::super::{Listed, OpenStoreError, StoreError};
use super::listing::Line;
use super::request::{Requests, Target};
use crate::credentials::Credentials;

/// To be connected; the calls themselves are limited by [`crate::store::timeout`].
const CONNECT: Duration = Duration::from_secs(10);

/// An object service and the place in it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    place: Place,
    /// Certificates besides the system's; empty: none.
    ca: PathBuf,
    /// Of what is written.
    lock: Option<Lock>,
}

/// What calls are made with, until other credentials come.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) store: Arc<dyn ObjectStore>,
    /// For what the crate has no call for.
    pub(super) requests: Arc<Requests>,
}

#[derive(Debug, Clone)]
enum Place {
    S3(S3Address),
    Azure(AzureAddress),
}

impl Service {
    pub(crate) fn s3(address: S3Address, ca: PathBuf, lock: Option<Lock>) -> Self {
        Self { place: Place::S3(address), ca, lock }
    }

    pub(crate) fn azure(address: AzureAddress, ca: PathBuf) -> Self {
        Self { place: Place::Azure(address), ca, lock: None }
    }

    /// The lock of what is written.
    pub(super) fn lock(&self) -> Option<Lock> {
        self.lock
    }

    fn prefix(&self) -> &str {
        match &self.place {
            Place::S3(address) => &address.prefix,
            Place::Azure(address) => &address.prefix,
        }
    }

    /// The key of what the share calls `name`; of the empty name or a folder, the prefix of all below it.
    pub(super) fn key(&self, name: &str) -> Path {
        let parts = self.prefix().split('/').chain(name.split('/')).filter(|part| !part.is_empty());
        Path::from_iter(parts)
    }

    /// What a line of the service's listing is to the share.
    pub(super) fn listed(&self, line: &Line) -> Listed {
        let key = line.key.as_str();
        let name = match self.prefix() {
            "" => key,
            prefix => key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).unwrap_or(key),
        };
        match name.parse() {
            Ok(path) => Listed::Object { path, size: line.size },
            Err(_) => Listed::Foreign { name: name.to_owned() },
        }
    }

    /// A client with these credentials, or those of the environment.
    pub(super) fn client(&self, credentials: Option<&Credentials>) -> Result<Client, OpenStoreError> {
        if CryptoProvider::get_default().is_none() {
            // Another thread may win; then its provider serves as well.
            let _ = ring::default_provider().install_default();
        }
        match &self.place {
            Place::S3(address) => self.s3_client(address, credentials),
            Place::Azure(address) => self.azure_client(address, credentials),
        }
    }

    fn s3_client(
        &self,
        address: &S3Address,
        credentials: Option<&Credentials>,
    ) -> Result<Client, OpenStoreError> {
        let secret = match credentials {
            Some(credentials) => S3Secret::parse(credentials.expose())?,
            None => S3Secret::of_variables(variable)
                .ok_or_else(|| self.lacks("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"))?,
        };
        let options = self.options(address.endpoint.as_deref())?;
        let mut builder = AmazonS3Builder::new()
            .with_access_key_id(secret.key.clone())
            .with_secret_access_key(secret.secret.expose());
        if let Some(token) = &secret.token {
            builder = builder.with_token(token.expose());
        }
        if let Some(endpoint) = &address.endpoint {
            builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
        }
        let bucket = match &address.endpoint {
            Some(endpoint) => format!("{endpoint}/{}", address.bucket),
            None => format!("https://{}.s3.{}.amazonaws.com", address.bucket, address.region),
        };
        let credential = AwsCredential {
            key_id: secret.key,
            secret_key: secret.secret.expose().to_owned(),
            token: secret.token.map(|token| token.expose().to_owned()),
        };
        let target = Target::S3 { bucket, region: address.region.clone(), credential };
        let client = builder
            .with_bucket_name(&address.bucket)
            .with_region(&address.region)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(options.clone())
            .with_retry(no_retries())
            .build();
        let store = Arc::new(client.map_err(|error| self.malformed(&error))?);
        Ok(Client { store, requests: self.requests(target, &options)? })
    }

    fn azure_client(
        &self,
        address: &AzureAddress,
        credentials: Option<&Credentials>,
    ) -> Result<Client, OpenStoreError> {
        let secret = match credentials {
            Some(credentials) => AzureSecret::parse(credentials.expose())?,
            None => AzureSecret::of_variables(variable)
                .ok_or_else(|| self.lacks("AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"))?,
        };
        let credential = match &secret {
            AzureSecret::Key(key) => {
                AzureAccessKey::try_new(key.expose()).map(AzureCredential::AccessKey).map_err(Into::into)
            }
            AzureSecret::Sas(sas) => split_sas(sas.expose()).map(AzureCredential::SASToken),
        };
        let credential = credential.map_err(|error| self.malformed(&error))?;
        let account = address.account.clone();
        let base = address.endpoint.clone();
        let base = base.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
        let target =
            Target::Azure { container: format!("{base}/{}", address.container), account, credential };
        let options = self.options(address.endpoint.as_deref())?;
        let builder = MicrosoftAzureBuilder::new();
        let mut builder = match secret {
            AzureSecret::Key(key) => builder.with_access_key(key.expose()),
            AzureSecret::Sas(sas) => builder.with_config(AzureConfigKey::SasKey, sas.expose()),
        };
        if let Some(endpoint) = &address.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let client = builder
            .with_account(&address.account)
            .with_container_name(&address.container)
            .with_client_options(options.clone())
            .with_retry(no_retries())
            .build();
        let store = Arc::new(client.map_err(|error| self.malformed(&error))?);
        Ok(Client { store, requests: self.requests(target, &options)? })
    }

    fn requests(&self, target: Target, options: &ClientOptions) -> Result<Arc<Requests>, OpenStoreError> {
        Ok(Arc::new(Requests::new(target, options).map_err(|error| self.malformed(&error))?))
    }

    fn lacks(&self, variables: &str) -> OpenStoreError {
        let why = format!("no credentials: name their file in [share] credentials, or set {variables}");
        StoreError::Denied { path: self.to_string(), source: io::Error::other(why) }.into()
    }

    /// The builder's errors name keys and addresses, not secrets.
    fn malformed(&self, error: &object_store::Error) -> OpenStoreError {
        StoreError::InvalidPath { path: self.to_string(), reason: error.to_string() }.into()
    }

    fn options(&self, endpoint: Option<&str>) -> Result<ClientOptions, OpenStoreError> {
        let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut options = ClientOptions::new()
            .with_allow_http(plain)
            .with_connect_timeout(CONNECT)
            .with_timeout_disabled()
            .with_read_timeout_disabled();
        if !self.ca.as_os_str().is_empty() {
            let unusable = |source: io::Error| {
                OpenStoreError::Store(StoreError::Denied { path: self.ca.display().to_string(), source })
            };
            let pem = std::fs::read(&self.ca).map_err(unusable)?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(io::Error::other).map_err(unusable)?;
            for certificate in certificates {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::S3(address) => address.fmt(f),
            Place::Azure(address) => address.fmt(f),
        }
    }
}

/// Only those that hold credentials are looked at: where the share is, the address alone says.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}
