use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use howdah_types::{MemberName, Scope, Tags};
use serde_json::{Map, Value};

use crate::{
    ConfigError, ConsulConfig, CustomBootstrap, KubernetesConfig, Listen, LogConfig, Places, WatchdogConfig,
    ZooKeeperConfig, consul::consul, kubernetes::kubernetes, methods::custom_bootstrap, places::NOWHERE,
    reader::Reader, string_form, zookeeper::zookeeper,
};

/// The local configuration of one agent: who it is, where it listens, where its data lies.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalConfig {
    /// Unique in the cluster.
    pub name: MemberName,
    /// The cluster.
    pub scope: Scope,
    /// The directory of the store that the cluster's keys live in; `service` unless set.
    pub namespace: String,
    /// Logging.
    pub log: LogConfig,
    /// The REST API.
    pub restapi: RestApiConfig,
    /// Credentials for other members' REST APIs.
    pub ctl: CtlConfig,
    /// PostgreSQL.
    pub postgresql: PostgresConfig,
    /// How a new cluster is made; `None` if this member may not make one.
    pub bootstrap: Option<Bootstrap>,
    /// The store.
    pub store: StoreConfig,
    /// The machine's watchdog device.
    pub watchdog: WatchdogConfig,
    /// Published with the member.
    pub tags: Tags,
    /// How this member differs from what was asked for (`howdah.notes`); published with the member.
    pub notes: Vec<String>,
    /// What the image's defaults ask for and this machine lacks (`howdah.machine`); published with the member.
    pub machine: Vec<String>,
    /// Backups by a schedule; `None` where there is no archive.
    pub archive: Option<crate::ArchiveConfig>,
}

/// `restapi`
#[derive(Clone, Debug, PartialEq)]
pub struct RestApiConfig {
    /// Where it listens.
    pub listen: Listen,
    /// Where others reach it; the same unless set.
    pub connect_address: Listen,
    /// Addresses, networks and hosts that unsafe requests may come from; empty for all.
    pub allowlist: Vec<String>,
    /// Members may send unsafe requests too.
    pub allowlist_include_members: bool,
    /// What unsafe requests must present.
    pub authentication: Option<(String, String)>,
    /// Serves HTTPS when set.
    pub tls: Option<ApiTls>,
    /// Names and values that every answer has: `http_extra_headers`, and with TLS `https_extra_headers` over them.
    pub extra_headers: BTreeMap<String, String>,
}

/// Certificates of the REST API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTls {
    /// PEM chain, and the key unless `keyfile` is set.
    pub certfile: PathBuf,
    /// PEM key.
    pub keyfile: PathBuf,
    /// CA that signs client certificates.
    pub cafile: Option<PathBuf>,
    /// Who must present one.
    pub verify_client: VerifyClient,
}

/// `restapi.verify_client`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyClient {
    /// No client.
    #[default]
    None,
    /// Unsafe requests.
    Optional,
    /// Everybody.
    Required,
}

/// `ctl`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CtlConfig {
    /// Falls back to `restapi.authentication`.
    pub authentication: Option<(String, String)>,
    /// Do not check certificates.
    pub insecure: bool,
    /// CA of the members' certificates; falls back to `restapi.cafile`.
    pub cacert: Option<PathBuf>,
    /// Certificate and key that are presented to members, PEM; the key may be in the certificate's file.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// A database role that the agent uses, with libpq's TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The role; empty if the section is missing.
    pub username: String,
    /// Its password.
    pub password: Option<String>,
    /// Settings of libpq's for TLS and Kerberos, as far as set.
    pub libpq: BTreeMap<String, String>,
}

/// `postgresql`
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresConfig {
    /// Where PostgreSQL listens.
    pub listen: Listen,
    /// Where others reach it.
    pub connect_address: Listen,
    /// Published as `proxy_url`.
    pub proxy_address: Option<String>,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// Where the programs are; `PATH` if unset.
    pub bin_dir: Option<PathBuf>,
    /// Other names for programs.
    pub bin_name: BTreeMap<String, String>,
    /// For own connections; `postgres` unless set.
    pub database: String,
    /// Where passwords for tools are written; in the data directory's parent unless set.
    pub pgpass: PathBuf,
    /// The superuser.
    pub superuser: Account,
    /// The replication role.
    pub replication: Account,
    /// The role for pg_rewind; the superuser when the section is missing.
    pub rewind: Option<Account>,
    /// Local parameters.
    pub parameters: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf`.
    pub pg_hba: Option<Vec<String>>,
    /// Lines of `pg_ident.conf`.
    pub pg_ident: Option<Vec<String>>,
    /// Included instead of the file that was there.
    pub custom_conf: Option<PathBuf>,
    /// Options of pg_basebackup, as `--key[=value]`.
    pub basebackup: Vec<String>,
    /// Connect to the local server by its socket.
    pub use_unix_socket: bool,
    /// The whole section, for the keys that the dynamic configuration may also hold.
    pub section: Map<String, Value>,
}

/// `bootstrap`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bootstrap {
    /// Becomes the dynamic configuration.
    pub dcs: Map<String, Value>,
    /// Options of initdb, as `--key[=value]`.
    pub initdb: Vec<String>,
    /// What makes the cluster instead of initdb.
    pub custom: Option<CustomBootstrap>,
    /// Lines for `pg_hba.conf` of the new cluster.
    pub pg_hba: Vec<String>,
    /// Run once after the cluster was made, with a connection string as argument.
    pub post_bootstrap: Option<String>,
}

/// The section that names the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// `etcd3`
    Etcd(EtcdConfig),
    /// `kubernetes`
    Kubernetes(KubernetesConfig),
    /// `zookeeper`
    ZooKeeper(ZooKeeperConfig),
    /// `consul`
    Consul(ConsulConfig),
}

/// `etcd3`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `http[s]://host:port`, at least one.
    pub endpoints: Vec<String>,
    /// Credentials.
    pub auth: Option<(String, String)>,
    /// CA of the servers' certificates.
    pub cacert: Option<PathBuf>,
    /// Our certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

impl LocalConfig {
    /// Reads the merged configuration. `places` is for messages, `cwd` resolves relative paths.
    ///
    /// # Errors
    /// The first wrong or missing key, with its path and line.
    pub fn from_value(config: &Map<String, Value>, places: &Places, cwd: &Path) -> Result<Self, ConfigError> {
        let root = Reader::root(config, places);
        let store = store(&root)?;
        let name = root.required("name")?;
        let scope = root.required("scope")?;
        let api = root.section("restapi")?;
        let restapi = restapi(&api, cwd)?;
        let ctl = ctl(&root.section("ctl")?, &restapi, cwd)?;
        let bootstrap = root.section("bootstrap")?;
        Ok(LocalConfig {
            name: MemberName::new(name).map_err(|error| root.error("name", &error.to_string()))?,
            scope: Scope::new(scope).map_err(|error| root.error("scope", &error.to_string()))?,
            namespace: root.text("namespace")?.unwrap_or_else(|| "service".into()),
            log: LogConfig::read(&root.section("log")?)?,
            restapi,
            ctl,
            postgresql: postgresql(&root.section("postgresql")?, cwd)?,
            bootstrap: bootstrap
                .exists()
                .then(|| bootstrap_section(&bootstrap))
                .transpose()?,
            store,
            watchdog: WatchdogConfig::read(&root.section("watchdog")?)?,
            tags: Tags::new(root.section("tags")?.map()),
            notes: root.section("howdah")?.lines("notes")?.unwrap_or_default(),
            machine: root.section("howdah")?.lines("machine")?.unwrap_or_default(),
            archive: crate::ArchiveConfig::read(&root.section("howdah")?.section("archive")?)?,
        })
    }
}

/// etcd's v3 API, Kubernetes, Consul and ZooKeeper are served; every other store is refused with what to do.
fn store(root: &Reader<'_>) -> Result<StoreConfig, ConfigError> {
    let etcd3 = root.section("etcd3")?;
    if etcd3.exists() {
        return etcd(&etcd3).map(StoreConfig::Etcd);
    }
    if root.value("etcd").is_some() {
        return Err(root.error(
            "etcd",
            "means etcd's v2 API, which Howdah does not speak. If the whole cluster already uses v3, rename the \
             section to 'etcd3:'. If members still use v2, move all of them first: v2 and v3 keys are separate, so \
             members on both would elect two leaders",
        ));
    }
    let agent = root.section("consul")?;
    if agent.exists() {
        return consul(&agent).map(StoreConfig::Consul);
    }
    for other in ["exhibitor", "raft"] {
        if root.value(other).is_some() {
            return Err(root.error(
                other,
                "is not supported as a store; use 'etcd3:', 'kubernetes:', 'consul:' or 'zookeeper:'",
            ));
        }
    }
    let kube = root.section("kubernetes")?;
    if kube.exists() {
        return kubernetes(&kube).map(StoreConfig::Kubernetes);
    }
    let servers = root.section("zookeeper")?;
    if servers.exists() {
        return zookeeper(&servers).map(StoreConfig::ZooKeeper);
    }
    Err(root.error(
        "etcd3",
        "is missing: name the store, for example 'etcd3: {host: 127.0.0.1:2379}'",
    ))
}

fn etcd(section: &Reader<'_>) -> Result<EtcdConfig, ConfigError> {
    let secure = section.value("cacert").is_some() || section.value("cert").is_some();
    let protocol = section
        .text("protocol")?
        .unwrap_or_else(|| if secure { "https".into() } else { "http".into() });
    for unsupported in ["srv", "proxy"] {
        if section.value(unsupported).is_some() {
            return Err(section.error(unsupported, "is not supported yet; list the endpoints in 'hosts'"));
        }
    }
    let listed = match section.text("url")? {
        Some(url) => vec![url],
        None => match section.list("hosts")? {
            Some(hosts) => hosts,
            None => section.list("host")?.unwrap_or_default(),
        },
    };
    let mut endpoints = Vec::new();
    for host in listed {
        if host.contains("://") {
            endpoints.push(host.trim_end_matches('/').to_owned());
        } else {
            let listen = Listen::parse(&host, 2379).map_err(|message| section.error("hosts", &message))?;
            endpoints.push(format!("{protocol}://{listen}"));
        }
    }
    if endpoints.is_empty() {
        return Err(section.error("hosts", "is missing: give host, hosts or url"));
    }
    let path = |key: &str| Ok::<_, ConfigError>(section.text(key)?.map(PathBuf::from));
    let client_cert = match (path("cert")?, path("key")?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(cert), None) => Some((cert.clone(), cert)),
        _ => None,
    };
    Ok(EtcdConfig {
        endpoints,
        auth: credentials(section)?,
        cacert: path("cacert")?,
        client_cert,
    })
}

fn credentials(section: &Reader<'_>) -> Result<Option<(String, String)>, ConfigError> {
    match (section.text("username")?, section.text("password")?) {
        (Some(user), Some(password)) => Ok(Some((user, password))),
        (Some(_), None) => Err(section.error("password", "is missing beside 'username'")),
        _ => Ok(None),
    }
}

fn restapi(api: &Reader<'_>, cwd: &Path) -> Result<RestApiConfig, ConfigError> {
    let address =
        |key: &str, text: &str| Listen::parse(text, 8008).map_err(|message| api.error(key, &message));
    let listen = address("listen", &api.required("listen")?)?;
    let connect_address = match api.text("connect_address")? {
        Some(text) => address("connect_address", &text)?,
        None => listen.clone(),
    };
    let path = |key: &str| Ok::<_, ConfigError>(api.text(key)?.map(|text| cwd.join(text)));
    let verify_client = match api.text("verify_client")?.as_deref() {
        None | Some("none") => VerifyClient::None,
        Some("optional") => VerifyClient::Optional,
        Some("required") => VerifyClient::Required,
        Some(_) => return Err(api.error("verify_client", "must be none, optional or required")),
    };
    let cafile = path("cafile")?;
    if verify_client != VerifyClient::None && cafile.is_none() {
        return Err(api.error(
            "verify_client",
            "needs 'cafile', the CA that signs the clients' certificates",
        ));
    }
    let tls = match path("certfile")? {
        None => None,
        Some(certfile) => {
            let keyfile = path("keyfile")?.unwrap_or_else(|| certfile.clone());
            Some(ApiTls {
                certfile,
                keyfile,
                cafile,
                verify_client,
            })
        }
    };
    let authentication = credentials(&api.section("authentication")?)?;
    let mut extra_headers = headers(&api.section("http_extra_headers")?)?;
    let over_tls = headers(&api.section("https_extra_headers")?)?;
    if tls.is_some() {
        extra_headers.extend(over_tls);
    }
    Ok(RestApiConfig {
        extra_headers,
        allowlist: api.list("allowlist")?.unwrap_or_default(),
        allowlist_include_members: api.flag("allowlist_include_members")?.unwrap_or(false),
        listen,
        connect_address,
        authentication,
        tls,
    })
}

/// Headers that the protocol needs as they are.
const FRAMING: &[&str] = &["connection", "content-length", "transfer-encoding", "upgrade"];

/// Headers of HTTP, by their names in lower case (RFC 9110, 5.1 and 5.5).
fn headers(section: &Reader<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut headers = BTreeMap::new();
    for name in section.map().keys() {
        let Some(value) = section.text(name)? else {
            continue;
        };
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err(section.error(name, "is no name of an HTTP header"));
        }
        if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(section.error(name, "is set by the server and cannot be given"));
        }
        if !value
            .chars()
            .all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic())
        {
            return Err(section.error(name, "must be of printable ASCII characters"));
        }
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Ok(headers)
}

fn ctl(section: &Reader<'_>, restapi: &RestApiConfig, cwd: &Path) -> Result<CtlConfig, ConfigError> {
    let cacert = section.text("cacert")?.map(|text| cwd.join(text));
    Ok(CtlConfig {
        client_cert: client_cert(section, cwd)?,
        authentication: credentials(&section.section("authentication")?)?
            .or_else(|| restapi.authentication.clone()),
        insecure: section.flag("insecure")?.unwrap_or(false),
        cacert: cacert.or_else(|| restapi.tls.as_ref().and_then(|tls| tls.cafile.clone())),
    })
}

/// A certificate and its key, which may be in one file.
fn client_cert(section: &Reader<'_>, cwd: &Path) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    let path = |key: &str| Ok::<_, ConfigError>(section.text(key)?.map(|text| cwd.join(text)));
    match (path("certfile")?, path("keyfile")?) {
        (Some(cert), key) => Ok(Some((cert.clone(), key.unwrap_or(cert)))),
        (None, Some(_)) => Err(section.error("keyfile", "needs certfile beside it")),
        (None, None) => Ok(None),
    }
}

/// What a connection of an account may be told, in libpq's words.
const OF_LIBPQ: [&str; 10] = [
    "channel_binding",
    "gssencmode",
    "sslcert",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
];

/// `krbsrvname`: PostgreSQL's name in Kerberos.
fn account(section: &Reader<'_>, krbsrvname: Option<&String>) -> Result<Account, ConfigError> {
    let mut libpq = BTreeMap::new();
    if let Some(name) = krbsrvname {
        libpq.insert("krbsrvname".to_owned(), name.clone());
    }
    for key in OF_LIBPQ {
        if let Some(value) = section.text(key)? {
            libpq.insert(key.to_owned(), value);
        }
    }
    Ok(Account {
        username: section.text("username")?.unwrap_or_default(),
        password: section.text("password")?,
        libpq,
    })
}

fn postgresql(section: &Reader<'_>, cwd: &Path) -> Result<PostgresConfig, ConfigError> {
    let address =
        |key: &str, text: &str| Listen::parse(text, 5432).map_err(|message| section.error(key, &message));
    let listen = address("listen", &section.required("listen")?)?;
    let connect_address = match section.text("connect_address")? {
        Some(text) => address("connect_address", &text)?,
        None => listen.clone(),
    };
    let data_dir = cwd.join(section.required("data_dir")?);
    let auth = section.section("authentication")?;
    let kerberos = section.text("krbsrvname")?;
    let mut superuser = account(&auth.section("superuser")?, kerberos.as_ref())?;
    if superuser.username.is_empty() {
        superuser.username = "postgres".into();
    }
    let replication = account(&auth.section("replication")?, kerberos.as_ref())?;
    if replication.username.is_empty() {
        return Err(auth
            .section("replication")?
            .error("username", "is required: replicas connect as this role"));
    }
    let rewind = auth.section("rewind")?;
    let strings = |reader: &Reader<'_>| -> BTreeMap<String, String> {
        reader
            .map()
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k.clone(), string_form(v)))
            .collect()
    };
    Ok(PostgresConfig {
        listen,
        connect_address,
        proxy_address: section.text("proxy_address")?,
        pgpass: match section.text("pgpass")? {
            Some(path) => cwd.join(path),
            None => data_dir.with_extension("pgpass"),
        },
        data_dir,
        bin_dir: section
            .text("bin_dir")?
            .filter(|dir| !dir.is_empty())
            .map(|dir| cwd.join(dir)),
        bin_name: strings(&section.section("bin_name")?),
        database: section.text("database")?.unwrap_or_else(|| "postgres".into()),
        superuser,
        replication,
        rewind: rewind
            .exists()
            .then(|| account(&rewind, kerberos.as_ref()))
            .transpose()?,
        parameters: strings(&section.section("parameters")?),
        pg_hba: section.lines("pg_hba")?,
        pg_ident: section.lines("pg_ident")?,
        custom_conf: section.text("custom_conf")?.map(|path| cwd.join(path)),
        basebackup: options(section, "basebackup", BASEBACKUP_REFUSED)?,
        use_unix_socket: section.flag("use_unix_socket")?.unwrap_or(false),
        section: section.map(),
    })
}

const INITDB_REFUSED: &[&str] = &["pgdata", "nosync", "pwfile", "sync-only", "version"];
const BASEBACKUP_REFUSED: &[&str] = &[
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
];

fn bootstrap_section(section: &Reader<'_>) -> Result<Bootstrap, ConfigError> {
    let post = match section.text("post_bootstrap")? {
        Some(command) => Some(command),
        None => section.text("post_init")?,
    };
    Ok(Bootstrap {
        dcs: section.section("dcs")?.map(),
        initdb: options(section, "initdb", INITDB_REFUSED)?,
        custom: custom_bootstrap(section)?,
        pg_hba: section.lines("pg_hba")?.unwrap_or_default(),
        post_bootstrap: post,
    })
}

/// Options of a tool, from a list of switches and `key: value` pairs or from a mapping.
fn options(section: &Reader<'_>, key: &str, refused: &[&str]) -> Result<Vec<String>, ConfigError> {
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    match section.value(key) {
        None => {}
        Some(Value::Array(items)) => {
            for item in items {
                match item {
                    Value::Object(map) => {
                        pairs.extend(map.iter().map(|(k, v)| (k.clone(), Some(string_form(v)))));
                    }
                    other => pairs.push((string_form(other), None)),
                }
            }
        }
        Some(Value::Object(map)) => pairs.extend(map.iter().map(|(k, v)| {
            let switch = v == &Value::Bool(true) || v.is_null() || v == &Value::String(String::new());
            (k.clone(), (!switch).then(|| string_form(v)))
        })),
        Some(_) => return Err(section.error(key, "must be a list of options")),
    }
    let mut args = Vec::new();
    for (name, value) in pairs {
        if refused.contains(&name.as_str()) {
            return Err(section.error(key, &format!("'{name}' is set by the agent and cannot be given")));
        }
        args.push(value.map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}")));
    }
    Ok(args)
}

impl StoreConfig {
    /// Only the store of a configuration, for tools that need no more of it.
    ///
    /// # Errors
    /// It is missing, or not supported.
    pub fn from_config(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        store(&Reader::root(config, &NOWHERE))
    }
}

impl CtlConfig {
    /// Only the credentials of a configuration. `restapi` need not be complete.
    ///
    /// # Errors
    /// A value is wrong.
    pub fn from_config(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        let root = Reader::root(config, &NOWHERE);
        let api = root.section("restapi")?;
        let section = root.section("ctl")?;
        Ok(CtlConfig {
            authentication: match credentials(&section.section("authentication")?)? {
                Some(own) => Some(own),
                None => credentials(&api.section("authentication")?)?,
            },
            insecure: section.flag("insecure")?.unwrap_or(false),
            cacert: section.text("cacert")?.or(api.text("cafile")?).map(PathBuf::from),
            client_cert: client_cert(&section, Path::new(""))?,
        })
    }
}
