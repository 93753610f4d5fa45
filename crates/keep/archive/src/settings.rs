//! Where the archive is and how it is written: WAL-G's and WAL-E's variables under their own names.

use std::{fmt, path::PathBuf, time::Duration};

use howdah_backup::Codec;

use crate::{ArchiveError, cipher::Key};

/// Everything that the variables say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the archive is.
    pub place: Place,
    /// How new objects are compressed.
    pub codec: Codec,
    /// What they are encrypted with; `None` for plain ones.
    pub key: Option<Key>,
    /// How many objects are written at once.
    pub uploads: usize,
    /// How many are read at once.
    pub downloads: usize,
    /// Bytes a second that a backup reads from the disk at most.
    pub disk_rate: Option<u64>,
    /// Bytes a second that a backup sends at most.
    pub network_rate: Option<u64>,
    /// The largest archive of a backup, in bytes before compression.
    pub part_size: u64,
    /// How long `archive_command` tries.
    pub push_patience: Duration,
    /// Bytes of WAL that may wait while the archive does not answer; beyond that it is given up. `None`: never.
    pub backlog_limit: Option<u64>,
    /// How long `restore_command` tries.
    pub get_patience: Duration,
    /// Variables that are set and without effect here, each with why.
    pub remarks: Vec<String>,
}

/// A store and the place in it.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// Below this directory.
    Directory(PathBuf),
    /// Amazon's S3 and what speaks its protocol.
    S3(Box<S3>),
    /// Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// The path in it.
        prefix: String,
        /// A service account's key file.
        credentials: Option<String>,
        /// Another address than Google's.
        endpoint: Option<String>,
    },
    /// Azure's blobs.
    Azure(Box<Azure>),
}

/// S3.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// The path in it.
    pub prefix: String,
    /// The access key and its secret; `None` for the machine's role.
    pub keys: Option<(String, String)>,
    /// A session's token.
    pub token: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Another address than Amazon's.
    pub endpoint: Option<String>,
    /// The bucket in the path and not in the host's name.
    pub path_style: bool,
    /// Certificates to trust.
    pub ca: Option<PathBuf>,
    /// `AES256` or `aws:kms`.
    pub encryption: Option<String>,
    /// With which key.
    pub kms_key: Option<String>,
    /// A role to take, with the token of a web identity.
    pub role: Option<(String, String)>,
    /// Where the machine's metadata is.
    pub metadata_endpoint: Option<String>,
}

/// Azure.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Azure {
    /// The account.
    pub account: String,
    /// The container.
    pub container: String,
    /// The path in it.
    pub prefix: String,
    /// Its key.
    pub key: Option<String>,
    /// A shared access signature.
    pub sas: Option<String>,
    /// A service principal: client, secret, tenant.
    pub principal: Option<(String, String, String)>,
    /// Another address than Azure's.
    pub endpoint: Option<String>,
}

impl Place {
    /// What people call it: no secret is in it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Place::Directory(path) => format!("file://{}", path.display()),
            Place::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.prefix),
            Place::Gcs { bucket, prefix, .. } => format!("gs://{bucket}/{prefix}"),
            Place::Azure(azure) => format!("azure://{}/{}/{}", azure.account, azure.container, azure.prefix),
        }
    }
}

impl Place {
    /// The path in it.
    #[must_use]
    pub fn prefix(&self) -> String {
        match self {
            Place::Directory(path) => path.display().to_string(),
            Place::S3(s3) => s3.prefix.clone(),
            Place::Gcs { prefix, .. } => prefix.clone(),
            Place::Azure(azure) => azure.prefix.clone(),
        }
    }

    /// The same store at another path.
    #[must_use]
    pub fn with_prefix(&self, path: &str) -> Self {
        let mut place = self.clone();
        match &mut place {
            Place::Directory(of) => *of = PathBuf::from(path),
            Place::S3(s3) => path.clone_into(&mut s3.prefix),
            Place::Gcs { prefix, .. } => path.clone_into(prefix),
            Place::Azure(azure) => path.clone_into(&mut azure.prefix),
        }
        place
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Looks variables up; an empty one counts as not set, and space around a value as what an editor or a Secret has left.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?;
        // A key may be any text.
        let value = match name {
            "WALG_LIBSODIUM_KEY" => value.as_str(),
            _ => value.trim(),
        };
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn any(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name))
    }

    fn number(&self, name: &str, least: u64) -> Result<Option<u64>, ArchiveError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.trim().parse() {
            Ok(number) if number >= least => Ok(Some(number)),
            Ok(_) | Err(_) => Err(ArchiveError::Setting(format!(
                "{name} is '{text}': a whole number from {least} on is expected"
            ))),
        }
    }

    /// Bytes, with PostgreSQL's units.
    fn bytes(&self, name: &str) -> Result<Option<u64>, ArchiveError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit());
        let unit = text.get(digits.len()..).unwrap_or_default().trim();
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => Some(0),
            "kb" => Some(10),
            "mb" => Some(20),
            "gb" => Some(30),
            "tb" => Some(40),
            _ => None,
        };
        let bytes = shift.and_then(|shift| digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift));
        bytes.map(Some).ok_or_else(|| {
            ArchiveError::Setting(format!(
                "{name} is '{text}': bytes are expected, or a number with kB, MB, GB or TB"
            ))
        })
    }

    fn is(&self, name: &str) -> Result<bool, ArchiveError> {
        match self.get(name).as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0" | "no" | "off" | "f") => Ok(false),
            Some("true" | "1" | "yes" | "on" | "t") => Ok(true),
            Some(other) => Err(ArchiveError::Setting(format!(
                "{name} is '{other}': true or false is expected"
            ))),
        }
    }
}

/// WAL-G closes an archive when it is above this.
const PART: u64 = (1 << 30) - 1;

impl Settings {
    /// Reads the variables.
    ///
    /// # Errors
    /// None names an archive, or one has a value that is none.
    pub fn from_variables(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ArchiveError> {
        let of = Variables(lookup);
        let place = place(&of)?;
        let method = of.get("WALG_COMPRESSION_METHOD");
        let codec = match &method {
            None => Codec::Zstd,
            Some(method) => method
                .parse()
                .map_err(|error| ArchiveError::Setting(format!("WALG_COMPRESSION_METHOD: {error}")))?,
        };
        let number = |name, default: usize| -> Result<usize, ArchiveError> {
            let number = of.number(name, 1)?;
            Ok(number
                .map_or(default, |number| usize::try_from(number).unwrap_or(default))
                .min(64))
        };
        let cpus = std::thread::available_parallelism()
            .map_or(2, std::num::NonZero::get)
            .min(10);
        let seconds = |name, default| -> Result<Duration, ArchiveError> {
            Ok(Duration::from_secs(of.number(name, 1)?.unwrap_or(default)))
        };
        let mut remarks = Vec::new();
        for (name, why) in [
            ("WALG_PGP_KEY", "OpenPGP"),
            ("WALG_PGP_KEY_PATH", "OpenPGP"),
            ("WALE_GPG_KEY_ID", "OpenPGP"),
            ("WALG_CSE_KMS_ID", "a key of AWS KMS"),
            ("WALG_YC_CSE_KMS_KEY_ID", "a key of Yandex KMS"),
        ] {
            if of.get(name).is_some() {
                // Plain objects where encrypted ones are wished for would be worse than none.
                return Err(ArchiveError::Setting(format!(
                    "{name} asks for encryption with {why}, which is not written here: use WALG_LIBSODIUM_KEY"
                )));
            }
        }
        let places = [
            "WALG_S3_PREFIX",
            "WALG_GS_PREFIX",
            "WALG_AZ_PREFIX",
            "WALG_FILE_PREFIX",
        ];
        let named: Vec<&str> = places.into_iter().filter(|name| of.get(name).is_some()).collect();
        if let [first, others @ ..] = &named[..]
            && !others.is_empty()
        {
            remarks.push(format!(
                "{first} counts, and {} is without effect",
                others.join(", ")
            ));
        }
        if let Some(name) = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"]
            .into_iter()
            .find(|name| of.get(name).is_some())
            && !matches!(place, Place::Directory(_))
        {
            remarks.push(format!("{name} is without effect: the store is reached directly"));
        }
        if of.get("WALG_FAILOVER_STORAGES").is_some() {
            remarks
                .push("WALG_FAILOVER_STORAGES is without effect: one archive is written and read".to_owned());
        }
        if of.get("WALG_PREVENT_WAL_OVERWRITE").as_deref() == Some("false") {
            remarks.push(
                "WALG_PREVENT_WAL_OVERWRITE=false is without effect: WAL is never overwritten".to_owned(),
            );
        }
        Ok(Settings {
            place,
            codec,
            key: Key::from_variables(&|name| of.get(name))?,
            uploads: number("WALG_UPLOAD_CONCURRENCY", cpus)?,
            // Each takes its codec's windows of memory.
            downloads: number("WALG_DOWNLOAD_CONCURRENCY", cpus.min(4))?,
            disk_rate: of.number("WALG_DISK_RATE_LIMIT", 1)?,
            network_rate: of.number("WALG_NETWORK_RATE_LIMIT", 1)?,
            part_size: of.number("WALG_TAR_SIZE_THRESHOLD", 1 << 20)?.unwrap_or(PART),
            push_patience: seconds("HOWDAH_ARCHIVE_TIMEOUT", 30)?,
            get_patience: seconds("HOWDAH_RESTORE_TIMEOUT", 60)?,
            backlog_limit: of.bytes("HOWDAH_WAL_BACKLOG_LIMIT")?,
            remarks,
        })
    }
}

/// `scheme://bucket/path`, the path without slashes at its ends.
fn split(name: &str, value: &str, schemes: &[&str]) -> Result<(String, String), ArchiveError> {
    let rest = schemes
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme))
        .ok_or_else(|| {
            ArchiveError::Setting(format!(
                "{name} is '{value}': it begins with {}",
                schemes.join(" or ")
            ))
        })?;
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(ArchiveError::Setting(format!(
            "{name} is '{value}': it names no bucket"
        )));
    }
    if bucket
        .chars()
        .any(|char| char.is_whitespace() || char.is_control() || "?#@\\".contains(char))
    {
        return Err(ArchiveError::Setting(format!(
            "{name} is '{value}': '{bucket}' is no name of a bucket"
        )));
    }
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(ArchiveError::Setting(format!(
            "{name} is '{value}': '.' and '..' are not parts of a prefix"
        )));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    Ok((bucket.to_owned(), parts.join("/")))
}

fn place(of: &Variables<'_>) -> Result<Place, ArchiveError> {
    let first = |names: &'static [&'static str]| names.iter().find_map(|name| Some((*name, of.get(name)?)));
    if let Some((name, value)) = first(&["WALG_S3_PREFIX", "WALE_S3_PREFIX"]) {
        return s3(of, name, &value);
    }
    if let Some((name, value)) = first(&["WALG_GS_PREFIX", "WALE_GS_PREFIX"]) {
        let (bucket, prefix) = split(name, &value, &["gs://", "gcs://"])?;
        return Ok(Place::Gcs {
            bucket,
            prefix,
            credentials: of.get("GOOGLE_APPLICATION_CREDENTIALS"),
            endpoint: of
                .get("STORAGE_EMULATOR_HOST")
                .map(|host| {
                    let host = if host.contains("://") {
                        host
                    } else {
                        format!("http://{host}")
                    };
                    address("STORAGE_EMULATOR_HOST", &host)
                })
                .transpose()?,
        });
    }
    if let Some((name, value)) = first(&["WALG_AZ_PREFIX", "WALE_WABS_PREFIX"]) {
        return azure(of, name, &value);
    }
    if let Some((name, value)) = first(&["WALG_FILE_PREFIX", "WALE_FILE_PREFIX"]) {
        let path = value.strip_prefix("file://").unwrap_or(&value);
        if !path.starts_with('/') {
            return Err(ArchiveError::Setting(format!(
                "{name} is '{value}': an absolute path is expected"
            )));
        }
        return Ok(Place::Directory(PathBuf::from(path)));
    }
    for (name, what) in [
        ("WALG_SSH_PREFIX", "SSH"),
        ("WALE_SWIFT_PREFIX", "Swift"),
        ("WALG_SWIFT_PREFIX", "Swift"),
    ] {
        if of.get(name).is_some() {
            return Err(ArchiveError::Setting(format!(
                "{name}: archives over {what} are not supported; use S3, GCS, Azure or a directory"
            )));
        }
    }
    Err(ArchiveError::Setting(
        "no archive is named: set WALG_S3_PREFIX, WALG_GS_PREFIX, WALG_AZ_PREFIX or WALG_FILE_PREFIX, in the environment, or \
         in a directory of files that --env-dir names"
            .to_owned(),
    ))
}

fn s3(of: &Variables<'_>, name: &str, value: &str) -> Result<Place, ArchiveError> {
    let (bucket, prefix) = split(name, value, &["s3://"])?;
    let keys = match (of.get("AWS_ACCESS_KEY_ID"), of.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(key), Some(secret)) => {
            plain("AWS_ACCESS_KEY_ID", Some(key))?.zip(plain("AWS_SECRET_ACCESS_KEY", Some(secret))?)
        }
        (None, None) => None,
        _ => {
            return Err(ArchiveError::Setting(
                "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set".to_owned(),
            ));
        }
    };
    let endpoint = of
        .get("AWS_ENDPOINT")
        .or_else(|| of.get("AWS_ENDPOINT_URL"))
        .or_else(|| of.get("WALE_S3_ENDPOINT"));
    // WAL-E: proto+convention://host:port
    let (endpoint, by_convention) = match endpoint {
        Some(text) => match text.split_once("://") {
            Some((scheme, rest)) => {
                let (scheme, convention) = scheme.split_once('+').unwrap_or((scheme, ""));
                let scheme = scheme.to_ascii_lowercase();
                let endpoint = address("AWS_ENDPOINT", &format!("{scheme}://{rest}"))?;
                (Some(endpoint), convention == "path")
            }
            None => (Some(address("AWS_ENDPOINT", &format!("https://{text}"))?), false),
        },
        None => (None, false),
    };
    let path_style = match of.get("AWS_S3_FORCE_PATH_STYLE") {
        Some(_) => of.is("AWS_S3_FORCE_PATH_STYLE")?,
        // What is not Amazon's seldom has a name for each bucket.
        None => by_convention || endpoint.is_some(),
    };
    let no_encryption = of.is("WALG_DISABLE_S3_SSE")? || of.is("WALE_DISABLE_S3_SSE")?;
    Ok(Place::S3(Box::new(S3 {
        bucket,
        prefix,
        keys,
        token: plain("AWS_SESSION_TOKEN", of.get("AWS_SESSION_TOKEN"))?,
        region: plain("AWS_REGION", of.any(&["AWS_REGION", "AWS_DEFAULT_REGION"]))?,
        endpoint,
        path_style,
        ca: of.get("WALG_S3_CA_CERT_FILE").map(PathBuf::from),
        encryption: of.get("WALG_S3_SSE").filter(|_| !no_encryption),
        kms_key: of.get("WALG_S3_SSE_KMS_ID").filter(|_| !no_encryption),
        role: of.get("AWS_ROLE_ARN").zip(of.get("AWS_WEB_IDENTITY_TOKEN_FILE")),
        metadata_endpoint: of
            .get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
            .map(|text| address("AWS_EC2_METADATA_SERVICE_ENDPOINT", &text))
            .transpose()?,
    })))
}

/// An address that can be connected to, without anything that does not belong to one.
fn address(name: &str, text: &str) -> Result<String, ArchiveError> {
    let bad = |why: &str| Err(ArchiveError::Setting(format!("{name} is '{text}': {why}")));
    let Ok(uri) = text.parse::<hyper::Uri>() else {
        return bad("it is no address such as https://s3.example.com:9000");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return bad("http:// or https:// is expected");
    }
    if uri.host().is_none_or(str::is_empty) {
        return bad("it has no host");
    }
    let authority = uri
        .authority()
        .map(hyper::http::uri::Authority::as_str)
        .unwrap_or_default();
    if authority.contains('@') {
        return bad("credentials do not belong into it");
    }
    if authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err())
    {
        return bad("its port is no number up to 65535");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A value that goes into a header of every request.
fn plain(name: &str, value: Option<String>) -> Result<Option<String>, ArchiveError> {
    match value {
        Some(value) if value.chars().any(|char| char.is_control() || !char.is_ascii()) => {
            Err(ArchiveError::Setting(format!(
                "{name} has characters that no key has: look at the end of its line"
            )))
        }
        value => Ok(value),
    }
}

fn azure(of: &Variables<'_>, name: &str, value: &str) -> Result<Place, ArchiveError> {
    let (container, prefix) = split(name, value, &["azure://", "wabs://", "az://"])?;
    let account = of
        .any(&["AZURE_STORAGE_ACCOUNT", "WABS_ACCOUNT_NAME"])
        .ok_or_else(|| ArchiveError::Setting("AZURE_STORAGE_ACCOUNT is not set".to_owned()))?;
    let id = of.get("AZURE_CLIENT_ID");
    Ok(Place::Azure(Box::new(Azure {
        container,
        prefix,
        key: of.any(&["AZURE_STORAGE_ACCESS_KEY", "WABS_ACCESS_KEY"]),
        sas: of.any(&["AZURE_STORAGE_SAS_TOKEN", "WABS_SAS_TOKEN"]),
        principal: id
            .zip(of.get("AZURE_CLIENT_SECRET"))
            .zip(of.get("AZURE_TENANT_ID"))
            .map(|((id, secret), tenant)| (id, secret, tenant)),
        endpoint: match (of.get("AZURE_STORAGE_ENDPOINT"), of.get("AZURE_ENDPOINT_SUFFIX")) {
            (Some(endpoint), _) => Some(address("AZURE_STORAGE_ENDPOINT", &endpoint)?),
            (None, Some(suffix)) => Some(address(
                "AZURE_ENDPOINT_SUFFIX",
                &format!("https://{account}.blob.{suffix}"),
            )?),
            (None, None) => None,
        },
        account,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Settings, ArchiveError> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Settings::from_variables(&|name| {
            pairs
                .iter()
                .find(|(of, _)| of == name)
                .map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn values_that_no_request_can_have_are_settings_and_no_panic() {
        let s3 = |more: &[(&str, &str)]| {
            let mut pairs = vec![
                ("WALG_S3_PREFIX", "s3://bucket/p"),
                ("AWS_ACCESS_KEY_ID", "key"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
            ];
            for pair in more {
                pairs.retain(|(name, _)| *name != pair.0);
                pairs.push(*pair);
            }
            of(&pairs)
        };
        // What a Secret has at the end of its value.
        let settings = s3(&[
            ("AWS_ACCESS_KEY_ID", "key\n"),
            ("AWS_ENDPOINT", " HTTPS://h:9000/\n"),
        ])
        .unwrap();
        let Place::S3(place) = settings.place else {
            panic!()
        };
        assert_eq!(place.keys.unwrap().0, "key");
        assert_eq!(place.endpoint.unwrap(), "https://h:9000");
        for bad in [
            ("AWS_ACCESS_KEY_ID", "k\ney"),
            ("AWS_SESSION_TOKEN", "t\u{1}"),
            ("AWS_REGION", "eu\nx"),
            ("AWS_ENDPOINT", "https://"),
            ("AWS_ENDPOINT", "http://a b"),
            ("AWS_ENDPOINT", "https://127.0.0.1:99999"),
            ("AWS_ENDPOINT", "https://h:port"),
            ("AWS_ENDPOINT", "https://user:pw@h"),
            ("AWS_ENDPOINT", "ftp://h"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "zz"),
            ("WALG_S3_PREFIX", "s3://bad bucket/p"),
        ] {
            assert!(matches!(s3(&[bad]), Err(ArchiveError::Setting(_))), "{bad:?}");
        }
        let azure = of(&[
            ("WALG_AZ_PREFIX", "azure://c/p"),
            ("AZURE_STORAGE_ACCOUNT", "a"),
            ("AZURE_ENDPOINT_SUFFIX", "core.chinacloudapi.cn"),
        ]);
        let Place::Azure(place) = azure.unwrap().place else {
            panic!()
        };
        assert_eq!(place.endpoint.unwrap(), "https://a.blob.core.chinacloudapi.cn");
    }

    #[test]
    fn spilos_variables() {
        let settings = of(&[
            ("WALG_S3_PREFIX", "s3://backups/spilo/acid-a/5d4c/wal/15"),
            ("WALE_S3_PREFIX", "s3://other/x"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "very-secret"),
            ("AWS_ENDPOINT", "http://127.0.0.1:9000"),
            ("WALG_COMPRESSION_METHOD", "lz4"),
            ("WALG_UPLOAD_CONCURRENCY", "3"),
        ])
        .unwrap();
        let Place::S3(s3) = &settings.place else { panic!() };
        assert_eq!(
            (s3.bucket.as_str(), s3.prefix.as_str()),
            ("backups", "spilo/acid-a/5d4c/wal/15")
        );
        assert!(s3.path_style);
        assert_eq!(settings.codec, Codec::Lz4);
        assert_eq!(settings.uploads, 3);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("very-secret"), "{shown}");
    }

    #[test]
    fn wal_es_endpoint_and_a_directory() {
        let settings = of(&[
            ("WALE_S3_PREFIX", "s3://b//x//"),
            ("WALE_S3_ENDPOINT", "https+path://minio:9000/"),
        ])
        .unwrap();
        let Place::S3(s3) = &settings.place else { panic!() };
        assert_eq!(s3.endpoint.as_deref(), Some("https://minio:9000"));
        assert_eq!(s3.prefix, "x");
        let settings = of(&[("WALG_FILE_PREFIX", "file:///var/backups/a")]).unwrap();
        assert_eq!(settings.place.name(), "file:///var/backups/a");
    }

    #[test]
    fn bad_values_are_said_with_their_names() {
        for (pairs, word) in [
            (&[][..], "no archive is named"),
            (&[("WALG_S3_PREFIX", "backups/x")], "begins with s3://"),
            (&[("WALG_S3_PREFIX", "s3:///x")], "names no bucket"),
            (&[("WALG_S3_PREFIX", "s3://b/../x")], "not parts of a prefix"),
            (&[("WALG_FILE_PREFIX", "backups")], "absolute path"),
            (&[("WALG_SSH_PREFIX", "ssh://h/x")], "not supported"),
            (
                &[("WALG_FILE_PREFIX", "/b"), ("WALG_COMPRESSION_METHOD", "snappy")],
                "WALG_COMPRESSION_METHOD",
            ),
            (
                &[("WALG_FILE_PREFIX", "/b"), ("WALG_UPLOAD_CONCURRENCY", "0")],
                "WALG_UPLOAD_CONCURRENCY",
            ),
            (
                &[("WALG_FILE_PREFIX", "/b"), ("WALG_PGP_KEY_PATH", "/k")],
                "OpenPGP",
            ),
            (
                &[("WALG_S3_PREFIX", "s3://b/x"), ("AWS_ACCESS_KEY_ID", "a")],
                "only one is set",
            ),
        ] {
            let said = of(pairs).unwrap_err().to_string();
            assert!(said.contains(word), "{pairs:?}: {said}");
        }
    }
}
