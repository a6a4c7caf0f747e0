//! Which object service, and how a client of it is built.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use muster_protocol::config::Lock;
use object_store::aws::{AmazonS3Builder, AwsCredential, S3ConditionalPut};
use object_store::azure::{
    AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder, split_sas,
};
use object_store::client::ClientOptions;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use reqwest::Certificate;
use rustls::crypto::{CryptoProvider, ring};

use super::super::address::{AzureAddress, S3Address};
use super::super::secret::{AzureSecret, Hidden, S3Secret};
use super::super::{Listed, OpenStoreError, StoreError};
use super::http::Connector;
use super::listing::Line;
use super::request::{Requests, Target};
use crate::credentials::Credentials;

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
            None => S3Secret::of_variables(variable)?
                .ok_or_else(|| self.lacks("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"))?,
        };
        let secrets = [Some(&secret.secret), secret.token.as_ref()].into_iter().flatten().cloned().collect();
        let (connector, options) = self.connector(address.endpoint.as_deref(), secrets)?;
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
            .with_http_connector(connector.clone())
            .with_client_options(options)
            .with_retry(no_retries())
            .build();
        let store = Arc::new(client.map_err(|error| self.malformed(&error))?);
        Ok(Client { store, requests: Arc::new(Requests::new(target, connector.client())) })
    }

    fn azure_client(
        &self,
        address: &AzureAddress,
        credentials: Option<&Credentials>,
    ) -> Result<Client, OpenStoreError> {
        let secret = match credentials {
            Some(credentials) => AzureSecret::parse(credentials.expose())?,
            None => AzureSecret::of_variables(variable)?
                .ok_or_else(|| self.lacks("AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"))?,
        };
        // The signature of a SAS is masked wherever it stands; see [`super::http`].
        let (credential, hidden) = match &secret {
            AzureSecret::Key(key) => {
                let read = AzureAccessKey::try_new(key.expose()).map(AzureCredential::AccessKey);
                (read.map_err(Into::into), key)
            }
            AzureSecret::Sas(sas) => (split_sas(sas.expose()).map(AzureCredential::SASToken), sas),
        };
        let credential = credential.map_err(|error| self.malformed(&error))?;
        let mut secrets = vec![hidden.clone()];
        if let AzureCredential::SASToken(pairs) = &credential {
            let signature = pairs.iter().filter(|(name, _)| name == "sig");
            secrets.extend(signature.map(|(_, value)| Hidden::new(value)));
        }
        let account = address.account.clone();
        let base = address.endpoint.clone();
        let base = base.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
        let target =
            Target::Azure { container: format!("{base}/{}", address.container), account, credential };
        let (connector, options) = self.connector(address.endpoint.as_deref(), secrets)?;
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
            .with_http_connector(connector.clone())
            .with_client_options(options)
            .with_retry(no_retries())
            .build();
        let store = Arc::new(client.map_err(|error| self.malformed(&error))?);
        Ok(Client { store, requests: Arc::new(Requests::new(target, connector.client())) })
    }

    fn lacks(&self, variables: &str) -> OpenStoreError {
        let why = format!("no credentials: name their file in [share] credentials, or set {variables}");
        StoreError::Denied { path: self.to_string(), source: io::Error::other(why) }.into()
    }

    /// The builder's errors name keys and addresses, not secrets.
    fn malformed(&self, error: &object_store::Error) -> OpenStoreError {
        StoreError::InvalidPath { path: self.to_string(), reason: error.to_string() }.into()
    }

    /// What makes the client, and what the crate wants to know of it.
    fn connector(
        &self,
        endpoint: Option<&str>,
        secrets: Vec<Hidden>,
    ) -> Result<(Connector, ClientOptions), OpenStoreError> {
        let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let unusable = |path: String| {
            move |source: io::Error| OpenStoreError::Store(StoreError::Denied { path, source })
        };
        let mut certificates = Vec::new();
        if !self.ca.as_os_str().is_empty() {
            let file = self.ca.display().to_string();
            let pem = std::fs::read(&self.ca).map_err(unusable(file.clone()))?;
            certificates =
                Certificate::from_pem_bundle(&pem).map_err(io::Error::other).map_err(unusable(file))?;
        }
        let connector = Connector::new(certificates, plain, secrets)
            .map_err(io::Error::other)
            .map_err(unusable(self.to_string()))?;
        Ok((connector, ClientOptions::new().with_allow_http(plain)))
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
