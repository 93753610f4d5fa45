use crate::schema::{Field, Kind, Schema};

/// Names of fields in older manifests, and what they are called now.
pub const OLD_NAMES: &[(&str, &str)] = &[
    ("init_containers", "initContainers"),
    ("pod_priority_class_name", "podPriorityClassName"),
    ("useLoadBalancer", "enableMasterLoadBalancer"),
    ("replicaLoadBalancer", "enableReplicaLoadBalancer"),
];

const ROLE_FLAGS: &[&str] = &[
    "bypassrls",
    "BYPASSRLS",
    "nobypassrls",
    "NOBYPASSRLS",
    "createdb",
    "CREATEDB",
    "nocreatedb",
    "NOCREATEDB",
    "createrole",
    "CREATEROLE",
    "nocreaterole",
    "NOCREATEROLE",
    "inherit",
    "INHERIT",
    "noinherit",
    "NOINHERIT",
    "login",
    "LOGIN",
    "nologin",
    "NOLOGIN",
    "replication",
    "REPLICATION",
    "noreplication",
    "NOREPLICATION",
    "superuser",
    "SUPERUSER",
    "nosuperuser",
    "NOSUPERUSER",
];

// Upstream's patterns: a manifest that its CRD takes is taken.
const WINDOW: &str = r"^ *((Mon|Tue|Wed|Thu|Fri|Sat|Sun|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday):)?([01]?\d|2[0-3]):[0-5]?\d-([01]?\d|2[0-3]):[0-5]?\d *$";
const CIDR: &str = r"^[0-9a-fA-F.:]+/\d{1,3}$";
const CRON: &str = r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$";
const UUID: &str = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";
const TIMESTAMP: &str = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d$";

fn text() -> Schema {
    Schema::new(
        Kind::Text {
            pattern: None,
            form: "",
        },
        "",
    )
}

fn formed(pattern: &'static str, form: &'static str) -> Schema {
    Schema::new(
        Kind::Text {
            pattern: Some(pattern),
            form,
        },
        "",
    )
}

fn words(words: &'static [&'static str]) -> Schema {
    Schema::new(Kind::Words(words), "")
}

fn flag() -> Schema {
    Schema::new(Kind::Bool, "")
}

fn int32(min: Option<i64>, max: Option<i64>) -> Schema {
    let format = "int32";
    Schema::new(Kind::Integer { format, min, max }, "")
}

fn int64(min: Option<i64>) -> Schema {
    let (format, max) = ("int64", None);
    Schema::new(Kind::Integer { format, min, max }, "")
}

fn size() -> Schema {
    Schema::new(Kind::Quantity { cpu: false }, "")
}

fn cpu() -> Schema {
    Schema::new(Kind::Quantity { cpu: true }, "")
}

fn map(value: Schema) -> Schema {
    Schema::new(Kind::Map(Box::new(value)), "")
}

fn list(item: Schema) -> Schema {
    Schema::new(Kind::List(Box::new(item)), "")
}

fn foreign(name: &'static str) -> Schema {
    Schema::new(Kind::Foreign(name), "")
}

fn object(fields: Vec<Field>) -> Schema {
    Schema::new(Kind::Object(fields), "")
}

impl Schema {
    fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    fn or_null(mut self) -> Self {
        self.nullable = true;
        self
    }
}

fn field(name: &'static str, schema: Schema) -> Field {
    Field {
        name,
        schema,
        required: false,
    }
}

fn required(name: &'static str, schema: Schema) -> Field {
    Field {
        name,
        schema,
        required: true,
    }
}

/// The schema of `spec`: every field that the operator's users have, in v1 and v2 of it.
#[must_use]
pub fn spec_schema() -> Schema {
    let mut fields = core_fields();
    fields.extend(access_fields());
    fields.extend(pod_fields());
    fields.extend(later_fields());
    object(fields)
}

fn core_fields() -> Vec<Field> {
    vec![
        required(
            "teamId",
            text().about("The team that owns the cluster; becomes the label 'team'."),
        ),
        required(
            "numberOfInstances",
            int32(Some(0), None)
                .about("How many members: one primary, the others replicas; 0 stops the cluster."),
        ),
        required(
            "postgresql",
            object(vec![
                required(
                    "version",
                    words(crate::OFFERED_VERSIONS).about("The major version, as text."),
                ),
                field(
                    "parameters",
                    map(text()).about("Parameters of PostgreSQL; values are text."),
                ),
            ]),
        ),
        required(
            "volume",
            object(vec![
                required("size", size().about("How much storage each member has.")),
                field("storageClass", text()),
                field("subPath", text()),
                field("isSubPathExpr", flag()),
                field("iops", int32(None, Some(80_000))),
                field("throughput", int32(None, Some(2000))),
                field("type", text()),
                field("selector", foreign("LabelSelector")),
            ]),
        ),
        field(
            "patroni",
            object(vec![
                field("initdb", map(text()).about("More options of initdb.")),
                field("pg_hba", list(text()).about("Replaces the lines of pg_hba.conf.")),
                field(
                    "ttl",
                    int32(Some(0), None).about("The leader lease in seconds; 30 unless set."),
                ),
                field(
                    "loop_wait",
                    int32(Some(0), None).about("The longest pause of the agent in seconds; 10 unless set."),
                ),
                field(
                    "retry_timeout",
                    int32(Some(0), None)
                        .about("How long the store may not answer, in seconds; 10 unless set."),
                ),
                field(
                    "maximum_lag_on_failover",
                    int64(None).about("Replicas further behind, in bytes, do not become primary."),
                ),
                field("slots", map(map(text())).about("Permanent replication slots.")),
                field(
                    "synchronous_mode",
                    flag().about("A commit is acknowledged when a standby has it."),
                ),
                field("synchronous_mode_strict", flag()),
                field("synchronous_node_count", int32(Some(0), None)),
                field("failsafe_mode", flag().or_null()),
            ]),
        ),
        field(
            "resources",
            resources().about("What each member's container asks for and may use at most."),
        ),
        field(
            "users",
            map(list(words(ROLE_FLAGS)).or_null())
                .about("Roles, each with its flags; each login role gets a Secret."),
        ),
        field("databases", map(text()).about("Databases, each with its owner.")),
        field(
            "preparedDatabases",
            map(object(vec![
                field("defaultUsers", flag()),
                field(
                    "extensions",
                    map(text()).about("Extensions, each with its schema."),
                ),
                field(
                    "schemas",
                    map(object(vec![
                        field("defaultRoles", flag().or_null()),
                        field("defaultUsers", flag()),
                    ])),
                ),
                field("secretNamespace", text()),
            ]))
            .about("Databases with owner, reader and writer roles, schemas and extensions."),
        ),
    ]
}

fn resources() -> Schema {
    let amounts = || {
        object(vec![
            field("cpu", cpu()),
            field("memory", size()),
            field("hugepages-2Mi", size()),
            field("hugepages-1Gi", size()),
        ])
    };
    object(vec![field("requests", amounts()), field("limits", amounts())])
}

fn access_fields() -> Vec<Field> {
    let mut fields: Vec<Field> = [
        "enableMasterLoadBalancer",
        "enableReplicaLoadBalancer",
        "enableMasterPoolerLoadBalancer",
        "enableReplicaPoolerLoadBalancer",
        "enableMasterNodePort",
        "enableReplicaNodePort",
        "enableMasterPoolerNodePort",
        "enableReplicaPoolerNodePort",
    ]
    .into_iter()
    .map(|name| field(name, flag().or_null()))
    .collect();
    fields.extend(
        [
            "masterNodePort",
            "replicaNodePort",
            "masterPoolerNodePort",
            "replicaPoolerNodePort",
        ]
        .into_iter()
        .map(|name| field(name, int32(None, None).or_null())),
    );
    fields.extend([
        field(
            "allowedSourceRanges",
            list(formed(CIDR, "a network, such as 10.0.0.0/8")).or_null(),
        ),
        field("serviceAnnotations", map(text())),
        field("masterServiceAnnotations", map(text())),
        field("replicaServiceAnnotations", map(text())),
        field("podAnnotations", map(text())),
    ]);
    fields
}

fn pod_fields() -> Vec<Field> {
    vec![
        field("dockerImage", text().about("The image of the members.")),
        field("schedulerName", text()),
        field("spiloRunAsUser", int64(None).or_null()),
        field("spiloRunAsGroup", int64(None).or_null()),
        field("spiloFSGroup", int64(None).or_null()),
        field("enableShmVolume", flag().or_null()),
        field("podPriorityClassName", text()),
        field("tolerations", list(foreign("Toleration"))),
        field("nodeAffinity", foreign("NodeAffinity")),
        field(
            "topologySpreadConstraints",
            list(foreign("TopologySpreadConstraint")),
        ),
        field("livenessProbe", foreign("Probe")),
        field("env", list(foreign("EnvVar")).or_null()),
        field("envFrom", list(foreign("EnvFromSource")).or_null()),
        field(
            "sidecars",
            list(object(vec![
                field("name", text()),
                field("image", text()),
                field("ports", list(foreign("ContainerPort"))),
                field("env", list(foreign("EnvVar"))),
                field("command", list(text())),
                field("resources", resources()),
            ]))
            .or_null(),
        ),
        field("initContainers", list(foreign("Container")).or_null()),
        field(
            "additionalVolumes",
            list(object(vec![
                required("name", text()),
                required("mountPath", text()),
                required("volumeSource", foreign("VolumeSource")),
                field("subPath", text()),
                field("isSubPathExpr", flag().or_null()),
                field("targetContainers", list(text()).or_null()),
            ])),
        ),
    ]
}

fn later_fields() -> Vec<Field> {
    vec![
        field("usersIgnoringSecretRotation", list(text()).or_null()),
        field("usersWithSecretRotation", list(text()).or_null()),
        field("usersWithInPlaceSecretRotation", list(text()).or_null()),
        field("enableConnectionPooler", flag().or_null()),
        field("enableReplicaConnectionPooler", flag().or_null()),
        field(
            "connectionPooler",
            object(vec![
                field("numberOfInstances", int32(Some(1), None).or_null()),
                field("schema", text()),
                field("user", text()),
                field("mode", words(&["session", "transaction"])),
                field("dockerImage", text()),
                field("maxDBConnections", int32(None, None).or_null()),
                field("resources", resources().or_null()),
            ])
            .or_null(),
        ),
        field("enableLogicalBackup", flag()),
        field(
            "logicalBackupSchedule",
            formed(CRON, "five fields, each a number or * with an optional /n"),
        ),
        field("logicalBackupRetention", text()),
        field(
            "maintenanceWindows",
            list(formed(WINDOW, "HH:MM-HH:MM or Day:HH:MM-HH:MM")),
        ),
        field(
            "clone",
            object(vec![
                required("cluster", text()),
                field("uid", formed(UUID, "a UUID")),
                field(
                    "timestamp",
                    formed(
                        TIMESTAMP,
                        "RFC 3339 with a numeric offset, such as 2026-01-02T15:04:05+00:00",
                    ),
                ),
                field("s3_wal_path", text()),
                field("s3_endpoint", text()),
                field("s3_access_key_id", text()),
                field("s3_secret_access_key", text()),
                field("s3_force_path_style", flag().or_null()),
            ])
            .or_null(),
        ),
        field(
            "standby",
            object(vec![
                field("s3_wal_path", text()),
                field("gs_wal_path", text()),
                field("standby_host", text()),
                field("standby_port", text()),
                field("standby_primary_slot_name", text()),
            ])
            .or_null(),
        ),
        field(
            "tls",
            object(vec![
                required("secretName", text()),
                field("certificateFile", text()),
                field("privateKeyFile", text()),
                field("caFile", text()),
                field("caSecretName", text()),
            ])
            .or_null(),
        ),
        field(
            "streams",
            list(object(vec![
                required("applicationId", text()),
                required("database", text()),
                required(
                    "tables",
                    map(object(vec![
                        required("eventType", text()),
                        field("idColumn", text()),
                        field("payloadColumn", text()),
                        field("recoveryEventType", text()),
                        field("ignoreRecovery", flag()),
                    ])),
                ),
                field("filter", map(text())),
                field("batchSize", int32(None, None)),
                field("cpu", cpu()),
                field("memory", size()),
                field("enableRecovery", flag()),
            ])),
        ),
    ]
}
