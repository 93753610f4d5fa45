//! Connection poolers: a Deployment and a Service for each.

use std::collections::BTreeMap;

use howdah_manifest::{ConnectionPooler, Manifest, PoolerRole, TLS_CA_PATH, TLS_PATH};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Affinity, Capabilities, Container, ContainerPort, EnvVar, PodSecurityContext, PodSpec,
            PodTemplateSpec, Probe, SeccompProfile, SecurityContext, Service, TCPSocketAction, Volume,
            VolumeMount,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    downscaler_annotations,
    environment::{from_secret, value},
    image_name, inherited_annotations, owners,
    placement::{apart, tolerations},
    resources::with_defaults_of,
    service::{Exposure, exposed},
    volumes::{SECRET_MODE, empty, mount_at, secret},
};
use crate::{Names, PoolerSettings, Settings, sql};

/// The label that selects a pooler's pods, and by which the operator finds poolers.
pub const POOLER_LABEL: &str = "connection-pooler";
/// The name of its container.
pub const POOLER_CONTAINER: &str = "connection-pooler";
/// Changes with the password of the pooler's role.
const PASSWORD_ANNOTATION: &str = "howdah.io/password";
/// The value of the label `application` of everything that belongs to a pooler.
const APPLICATION: &str = "db-connection-pooler";
/// The user and group of upstream's image.
const UPSTREAM_USER: (i64, i64) = (100, 101);
/// Of ours, as the members have them.
const USER: (i64, i64) = (101, 103);
const PORT: i32 = 5432;
/// A pod ends within this: its transactions have twenty seconds (`howdah pooler`).
const GRACE_SECONDS: i64 = 60;

/// A pooler of a cluster.
#[derive(Clone, Debug)]
pub struct Pooler {
    /// Whose it is.
    pub role: PoolerRole,
    /// Its pods.
    pub deployment: Deployment,
    /// How clients reach them.
    pub service: Service,
}

/// The manifest's values, with the configuration's where it has none.
struct Wanted<'a> {
    pooler: ConnectionPooler,
    defaults: &'a PoolerSettings,
    /// The Secret of the role.
    secret: String,
}

impl<'a> Wanted<'a> {
    fn of(manifest: &Manifest, settings: &'a Settings) -> Self {
        let mut wanted = Wanted {
            pooler: manifest.spec.connection_pooler.clone().unwrap_or_default(),
            defaults: &settings.pooler,
            secret: String::new(),
        };
        wanted.secret = settings.secret_name(&manifest.name, &wanted.user());
        wanted
    }

    fn instances(&self) -> u32 {
        let instances = self.pooler.number_of_instances;
        instances.unwrap_or(self.defaults.number_of_instances).max(1)
    }

    fn text(own: Option<&String>, default: &str) -> String {
        own.filter(|own| !own.is_empty())
            .map_or_else(|| default.to_owned(), Clone::clone)
    }

    fn user(&self) -> String {
        Wanted::text(self.pooler.user.as_ref(), &self.defaults.user)
    }

    fn schema(&self) -> String {
        Wanted::text(self.pooler.schema.as_ref(), &self.defaults.schema)
    }
}

/// The role by which a cluster's poolers look passwords up; `None`: it has no pooler.
#[must_use]
pub fn pooler_user(manifest: &Manifest, settings: &Settings) -> Option<String> {
    let has_pooler = !manifest.spec.poolers().is_empty() && pooler_conflict(manifest, settings).is_none();
    has_pooler.then(|| Wanted::of(manifest, settings).user())
}

/// Why a cluster gets no pooler although it asks for one.
#[must_use]
pub fn pooler_conflict(manifest: &Manifest, settings: &Settings) -> Option<String> {
    let user = Wanted::of(manifest, settings).user();
    let system = [&settings.super_username, &settings.replication_username].contains(&&user);
    let why = if system || settings.protected_role_names.contains(&user) {
        "is a role of the system or protected"
    } else if manifest.spec.users.contains_key(&user) {
        "is a user of the manifest too"
    } else if sql::prepared_roles(manifest).iter().any(|role| role.name == user) {
        "is a role of a prepared database too"
    } else {
        let image = image(&Wanted::of(manifest, settings), settings);
        let has_none = image_name(&image).contains("spilo") && !settings.sandbox;
        return (has_none && !manifest.spec.poolers().is_empty()).then(|| {
            format!(
                "spec.connectionPooler: the image {image} has no pooler, and none is made: name one in connection_pooler_image"
            )
        });
    };
    (!manifest.spec.poolers().is_empty()).then(|| {
        format!("spec.connectionPooler.user: '{user}' {why}: poolers stay as they are, and none is made")
    })
}

/// The schema of the lookup function.
#[must_use]
pub fn pooler_schema(manifest: &Manifest, settings: &Settings) -> String {
    Wanted::of(manifest, settings).schema()
}

/// The poolers of a cluster. `address` is that of a Service of its name, where names are not resolved; `password` a mark that
/// changes with the password of their role.
#[must_use]
pub fn poolers(
    manifest: &Manifest,
    settings: &Settings,
    address: impl Fn(&str) -> Option<String>,
    password: &str,
) -> Vec<Pooler> {
    let roles = manifest.spec.poolers();
    let conflicts = pooler_conflict(manifest, settings).is_some();
    roles
        .into_iter()
        .filter(|_| !conflicts)
        .map(|role| Pooler {
            role,
            deployment: deployment(manifest, settings, role, &address, password),
            service: service(manifest, settings, role),
        })
        .collect()
}

fn selector(manifest: &Manifest, settings: &Settings, role: PoolerRole) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("application".to_owned(), APPLICATION.to_owned()),
        (settings.cluster_name_label.clone(), manifest.name.clone()),
        (POOLER_LABEL.to_owned(), Names(&manifest.name).pooler(role)),
    ])
}

fn labels(manifest: &Manifest, settings: &Settings, role: PoolerRole) -> BTreeMap<String, String> {
    let mut labels = selector(manifest, settings, role);
    labels.insert("team".into(), manifest.spec.team_id.clone());
    let value = match role {
        PoolerRole::Primary => "master",
        PoolerRole::Replica => "replica",
    };
    labels.insert(settings.pod_role_label.clone(), value.into());
    labels
}

fn metadata(manifest: &Manifest, settings: &Settings, role: PoolerRole) -> ObjectMeta {
    ObjectMeta {
        name: Some(Names(&manifest.name).pooler(role)),
        namespace: Some(manifest.namespace.clone()),
        labels: Some(labels(manifest, settings, role)),
        annotations: Some(inherited_annotations(manifest, settings)).filter(|all| !all.is_empty()),
        owner_references: Some(owners(manifest, settings)).filter(|all| !all.is_empty()),
        ..ObjectMeta::default()
    }
}

fn service(manifest: &Manifest, settings: &Settings, role: PoolerRole) -> Service {
    let spec = &manifest.spec;
    let name = Names(&manifest.name).pooler(role);
    let (balancer, port, number) = match role {
        PoolerRole::Primary => (
            spec.enable_master_pooler_load_balancer
                .unwrap_or(settings.pooler.enable_master_load_balancer),
            spec.enable_master_pooler_node_port
                .unwrap_or(settings.pooler.enable_master_node_port),
            spec.master_pooler_node_port,
        ),
        PoolerRole::Replica => (
            spec.enable_replica_pooler_load_balancer
                .unwrap_or(settings.pooler.enable_replica_load_balancer),
            spec.enable_replica_pooler_node_port
                .unwrap_or(settings.pooler.enable_replica_node_port),
            spec.replica_pooler_node_port,
        ),
    };
    let exposure = Exposure {
        port_name: &name,
        selector: BTreeMap::from([(POOLER_LABEL.to_owned(), name.clone())]),
        load_balancer: balancer,
        node_port: port.then_some(number),
        host: format!("{name}.{}.{}", manifest.namespace, settings.db_hosted_zone),
    };
    exposed(
        manifest,
        settings,
        metadata(manifest, settings, role),
        &BTreeMap::new(),
        exposure,
    )
}

fn deployment(
    manifest: &Manifest,
    settings: &Settings,
    role: PoolerRole,
    address: &impl Fn(&str) -> Option<String>,
    password: &str,
) -> Deployment {
    let wanted = Wanted::of(manifest, settings);
    let mut metadata = metadata(manifest, settings, role);
    let downscaler = downscaler_annotations(manifest, settings);
    if !downscaler.is_empty() {
        metadata.annotations.get_or_insert_default().extend(downscaler);
    }
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: i32::try_from(wanted.instances()).ok(),
            selector: LabelSelector {
                match_labels: Some(selector(manifest, settings, role)),
                ..LabelSelector::default()
            },
            strategy: Some(strategy(settings)),
            template: template(manifest, settings, role, &wanted, address, password),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// Pods that must be apart have no place for one more: an old one goes first.
fn strategy(settings: &Settings) -> DeploymentStrategy {
    let pods = &settings.pods;
    let apart = pods.enable_pod_antiaffinity && !pods.pod_antiaffinity_preferred_during_scheduling;
    let (more, fewer) = if apart { (0, 1) } else { (1, 0) };
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(more)),
            max_unavailable: Some(IntOrString::Int(fewer)),
        }),
    }
}

fn image(wanted: &Wanted<'_>, settings: &Settings) -> String {
    let own = wanted
        .pooler
        .docker_image
        .clone()
        .filter(|image| !image.is_empty());
    own.or_else(|| wanted.defaults.image.clone())
        .unwrap_or_else(|| settings.docker_image.clone())
}

/// Whether an image is a pooler's alone, such as upstream's. Ours is told to be one.
fn is_foreign(image: &str) -> bool {
    image_name(image).contains("pgbouncer")
}

fn template(
    manifest: &Manifest,
    settings: &Settings,
    role: PoolerRole,
    wanted: &Wanted<'_>,
    address: &impl Fn(&str) -> Option<String>,
    password: &str,
) -> PodTemplateSpec {
    let image = image(wanted, settings);
    let is_foreign = is_foreign(&image);
    let (user, group) = if is_foreign { UPSTREAM_USER } else { USER };
    let (mut volumes, mut mounts) = (Vec::<Volume>::new(), Vec::<VolumeMount>::new());
    let mut mount = |volume: Volume, path: &str| {
        mounts.push(mount_at(&volume.name, path));
        volumes.push(volume);
    };
    if !is_foreign {
        mount(empty("run", None), "/run");
        mount(empty("tmp", None), "/tmp");
    }
    let mut env = environment(manifest, role, wanted, address);
    if let Some(tls) = &manifest.spec.tls {
        mount(secret("tls", &tls.secret_name, Some(SECRET_MODE)), TLS_PATH);
        if !tls.ca_secret_name.is_empty() {
            mount(
                secret("tls-ca", &tls.ca_secret_name, Some(SECRET_MODE)),
                TLS_CA_PATH,
            );
        }
        env.extend(tls.environment().into_iter().map(|(name, path)| {
            let name = match name {
                "SSL_CERTIFICATE_FILE" => "CONNECTION_POOLER_CLIENT_TLS_CRT",
                "SSL_PRIVATE_KEY_FILE" => "CONNECTION_POOLER_CLIENT_TLS_KEY",
                _ => "CONNECTION_POOLER_CLIENT_CA_FILE",
            };
            value(name, &path)
        }));
    }
    let container = Container {
        name: POOLER_CONTAINER.into(),
        image: Some(image),
        image_pull_policy: Some("IfNotPresent".into()),
        args: (!is_foreign).then(|| vec!["pooler".into()]),
        ports: Some(vec![ContainerPort {
            container_port: PORT,
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        env: Some(env),
        resources: with_defaults_of(
            wanted.pooler.resources.as_ref(),
            &wanted.defaults.default_requests,
            &wanted.defaults.default_limits,
        ),
        volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        readiness_probe: Some(Probe {
            tcp_socket: Some(TCPSocketAction {
                port: IntOrString::Int(PORT),
                ..TCPSocketAction::default()
            }),
            ..Probe::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(!is_foreign),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let mut annotations = inherited_annotations(manifest, settings);
    // Pods read the password when they start: another one replaces them.
    annotations.insert(PASSWORD_ANNOTATION.to_owned(), password.to_owned());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(manifest, settings, role)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            priority_class_name: settings.pods.pod_priority_class_name.clone(),
            affinity: apart(&selector(manifest, settings, role), settings).map(|apart| Affinity {
                pod_anti_affinity: Some(apart),
                ..Affinity::default()
            }),
            service_account_name: Some(settings.pod_service_account_name.clone()),
            // It asks nothing of the API.
            automount_service_account_token: Some(false),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            tolerations: tolerations(manifest, settings),
            security_context: Some(PodSecurityContext {
                run_as_user: Some(user),
                run_as_group: Some(group),
                fs_group: Some(group),
                run_as_non_root: Some(true),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container],
            volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
            ..PodSpec::default()
        }),
    }
}

/// Upstream's variables, with its division of the connections: a part for each pod, half of that for a user and database, a
/// quarter kept open, and as much in reserve.
fn environment(
    manifest: &Manifest,
    role: PoolerRole,
    wanted: &Wanted<'_>,
    address: &impl Fn(&str) -> Option<String>,
) -> Vec<EnvVar> {
    let names = Names(&manifest.name);
    let server = match role {
        PoolerRole::Primary => names.cluster(),
        PoolerRole::Replica => names.replica_service(),
    };
    let user = wanted.user();
    let all = wanted.pooler.max_db_connections.filter(|count| *count > 0);
    let each = (all.unwrap_or(wanted.defaults.max_db_connections) / wanted.instances()).max(1);
    let number = |name: &str, number: u32| value(name, &number.to_string());
    vec![
        value("PGHOST", &address(&server).unwrap_or(server)),
        number("PGPORT", 5432),
        value("PGUSER", &user),
        value("PGSCHEMA", &wanted.schema()),
        from_secret("PGPASSWORD", &wanted.secret),
        value(
            "CONNECTION_POOLER_MODE",
            &Wanted::text(wanted.pooler.mode.as_ref(), &wanted.defaults.mode),
        ),
        number("CONNECTION_POOLER_PORT", 5432),
        number("CONNECTION_POOLER_DEFAULT_SIZE", (each / 2).max(1)),
        number("CONNECTION_POOLER_MIN_SIZE", each / 4),
        number("CONNECTION_POOLER_RESERVE_SIZE", each / 4),
        number("CONNECTION_POOLER_MAX_CLIENT_CONN", 10_000),
        number("CONNECTION_POOLER_MAX_DB_CONN", each),
    ]
}
