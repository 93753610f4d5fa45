use super::{Here, password, quoted};

/// A configuration with comments, for the first member of a new cluster on this machine; the others need their own `name`, addresses and the same
/// passwords.
///
/// # Errors
/// The kernel gives no random numbers.
pub fn sample() -> anyhow::Result<String> {
    let Here { name, address: host } = Here::look();
    let [superuser, replication, rewind, rest] = [password()?, password()?, password()?, password()?];
    Ok(format!(
        r#"# One member of a PostgreSQL cluster. Check it with `howdah agent --validate-config FILE`.

# The same for all members of a cluster; another one for each cluster of a store.
scope: main
# Another one for each member.
name: {name}

# Where this member answers health checks, and where the others find it.
restapi:
  listen: 0.0.0.0:8008
  connect_address: "{host}:8008"
  authentication:            # for requests that change something; the same for all members
    username: howdah
    password: {rest}

# The store that holds the leader lease: etcd with its v3 API, at least three members of it in production.
etcd3:
  hosts: [127.0.0.1:2379]

# Only for a new cluster. Afterwards: howdah ctl edit-config
bootstrap:
  dcs:
    ttl: 30                  # a leader that is dead is replaced after this many seconds
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1048576
    #synchronous_mode: true  # no acknowledged commit is lost in a failover
    #failsafe_mode: true     # writes go on while the store is gone and all members agree
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 100
        wal_level: replica
      pg_hba:
        - local all all peer
        - host all all 127.0.0.1/32 scram-sha-256
        - host replication replicator all scram-sha-256
        - host all all all scram-sha-256
  initdb:
    - encoding: UTF8
    - data-checksums

postgresql:
  listen: 0.0.0.0:5432
  connect_address: "{host}:5432"
  data_dir: /var/lib/postgresql/main/data
  #bin_dir: /usr/lib/postgresql/17/bin   # else the newest one that is installed
  pgpass: /var/lib/postgresql/.pgpass-main
  authentication:            # the same for all members
    superuser:
      username: postgres
      password: {superuser}
    replication:
      username: replicator
      password: {replication}
    rewind:
      username: rewind
      password: {rewind}
  parameters:
    password_encryption: scram-sha-256

tags:
  nofailover: false          # true: never leads
  noloadbalance: false       # true: /replica answers 503
  clonefrom: false           # true: others copy this member rather than the leader
  nosync: false              # true: commits never wait for it
"#,
        name = quoted(&name),
        rest = quoted(&rest),
        superuser = quoted(&superuser),
        replication = quoted(&replication),
        rewind = quoted(&rewind),
    ))
}
