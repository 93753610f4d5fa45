//! Opens the store that a place names, over the house's HTTP.

use std::{path::PathBuf, sync::Arc, time::Duration};

use howdah_http::client_tls;
use object_store::{
    BackoffConfig, Error as StoreError, ObjectStore, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GcpCredential, GoogleCloudStorageBuilder},
    local::LocalFileSystem,
};

use crate::{
    ArchiveError,
    connector::Connector,
    error::short,
    settings::{Azure, Place, S3},
};

/// Where Debian, Alpine, Red Hat and SUSE keep the certificates that machines trust.
const TRUSTED: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The store, and the path of the archive in it. `patience` is how long a request is tried again.
pub(crate) fn open(place: &Place, patience: Duration) -> Result<(Arc<dyn ObjectStore>, &str), ArchiveError> {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 50,
        retry_timeout: patience.min(Duration::from_secs(240)),
    };
    let setting = |error: StoreError| ArchiveError::Setting(short(&error.to_string()));
    Ok(match place {
        Place::Directory(path) => {
            // It is never made here: below a mount point whose disk is missing it would be the wrong one.
            if !path.is_dir() {
                return Err(ArchiveError::NoPlace(place.name()));
            }
            let store = LocalFileSystem::new_with_prefix(path).map_err(setting)?;
            (Arc::new(store.with_fsync(true)), "")
        }
        Place::S3(s3) => (
            Arc::new(open_s3(s3, retry)?.build().map_err(setting)?),
            &s3.prefix,
        ),
        Place::Gcs {
            bucket,
            prefix,
            credentials,
            endpoint,
        } => {
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_http_connector(connector(None)?);
            if let Some(path) = credentials {
                builder = builder.with_application_credentials(path);
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint).with_skip_signature(true);
                if credentials.is_none() {
                    // Writes would ask the machine's metadata for a token.
                    let anonymous = GcpCredential {
                        bearer: String::new(),
                    };
                    builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(anonymous)));
                }
            }
            (Arc::new(builder.build().map_err(setting)?), prefix)
        }
        Place::Azure(azure) => (
            Arc::new(open_azure(azure, retry)?.build().map_err(setting)?),
            &azure.prefix,
        ),
    })
}

fn connector(ca: Option<&std::path::Path>) -> Result<Connector, ArchiveError> {
    let named = std::env::var_os("SSL_CERT_FILE")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let trusted = ca
        .map(std::path::Path::to_owned)
        .or(named)
        .or_else(|| TRUSTED.iter().map(PathBuf::from).find(|path| path.is_file()));
    let tls = match trusted {
        Some(path) => Some(
            client_tls(Some(&path), None, false).map_err(|error| ArchiveError::Setting(error.to_string()))?,
        ),
        // Without certificates to trust there is no https; plain addresses work.
        None => None,
    };
    Ok(Connector::new(tls))
}

fn open_s3(s3: &S3, retry: RetryConfig) -> Result<AmazonS3Builder, ArchiveError> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&s3.bucket)
        .with_retry(retry)
        .with_virtual_hosted_style_request(!s3.path_style)
        .with_allow_http(true)
        .with_http_connector(connector(s3.ca.as_deref())?);
    if let Some((key, secret)) = &s3.keys {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret);
    }
    if let Some(token) = &s3.token {
        builder = builder.with_token(token);
    }
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(of_bucket(endpoint, s3));
    }
    if let Some(endpoint) = &s3.metadata_endpoint {
        builder = builder.with_metadata_endpoint(endpoint);
    }
    if let Some((role, token)) = &s3.role {
        builder = builder
            .with_config(AmazonS3ConfigKey::RoleArn, role)
            .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token);
    }
    match (s3.encryption.as_deref(), &s3.kms_key) {
        (Some("aws:kms"), Some(key)) => builder = builder.with_sse_kms_encryption(key),
        (Some("AES256"), _) => {
            let key = "aws_server_side_encryption".parse::<AmazonS3ConfigKey>();
            builder = builder.with_config(
                key.map_err(|error| ArchiveError::Setting(error.to_string()))?,
                "AES256",
            );
        }
        (None, _) => {}
        (Some(other), _) => {
            return Err(ArchiveError::Setting(format!(
                "WALG_S3_SSE is '{other}': AES256, or aws:kms with WALG_S3_SSE_KMS_ID, is expected"
            )));
        }
    }
    Ok(builder)
}

/// The address of requests: it names the bucket where the path does not.
fn of_bucket(endpoint: &str, s3: &S3) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if !s3.path_style => format!("{scheme}://{}.{host}", s3.bucket),
        Some(_) | None => endpoint.to_owned(),
    }
}

fn open_azure(azure: &Azure, retry: RetryConfig) -> Result<MicrosoftAzureBuilder, ArchiveError> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&azure.account)
        .with_container_name(&azure.container)
        .with_retry(retry)
        .with_allow_http(true)
        .with_http_connector(connector(None)?);
    if let Some(key) = &azure.key {
        builder = builder.with_access_key(key);
    } else if let Some(sas) = &azure.sas {
        builder = builder.with_config(AzureConfigKey::SasKey, sas);
    } else if let Some((id, secret, tenant)) = &azure.principal {
        builder = builder.with_client_secret_authorization(id, secret, tenant);
    }
    if let Some(endpoint) = &azure.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    Ok(builder)
}
