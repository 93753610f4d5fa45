use std::{sync::Arc, time::Duration};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    Flavour, Lab, Member, Sandbox,
    lab::{howdah_binary, until},
    member::Runner,
};

/// The cluster's name.
pub(crate) const CLUSTER: &str = "acid-lab";

impl Lab {
    /// A cluster from a manifest in a sandbox of its own: made by the operator, its members pods, Kubernetes the store.
    ///
    /// # Errors
    /// It does not become ready, or kubectl is not installed.
    pub async fn in_sandbox(members: usize, sync: bool) -> anyhow::Result<Self> {
        let sandbox = Arc::new(Sandbox::start()?);
        sandbox.apply(&manifest(members, sync).to_string())?;
        let secret = format!("postgres.{CLUSTER}.credentials.postgresql.acid.zalan.do");
        let password = sandbox.kubectl(&[
            "get",
            "secret",
            &secret,
            "-o",
            "go-template={{.data.password | base64decode}}",
        ])?;
        let mut lab = Lab {
            members: Vec::new(),
            etcd: None,
            links: Vec::new(),
            disks: Vec::new(),
            dir: tempfile::tempdir()?,
        };
        for i in 0..members {
            let name = format!("{CLUSTER}-{i}");
            let pod: Value = serde_json::from_str(&sandbox.kubectl(&["get", "pod", &name, "-o", "json"])?)?;
            let host = pod["status"]["podIP"]
                .as_str()
                .context("a pod without an address")?;
            lab.members.push(Member {
                name,
                host: host.parse()?,
                port: 5432,
                api: 8008,
                flavour: Flavour::Howdah(howdah_binary()?),
                password: password.trim().to_owned(),
                runner: Runner::Node(Arc::clone(&sandbox)),
            });
        }
        until("all members are healthy", Duration::from_secs(60), async || {
            lab.is_healthy().await
        })
        .await?;
        Ok(lab)
    }
}

/// JSON, and so YAML. The writers of the campaign speak no TLS, which the image's own `pg_hba.conf` asks for.
fn manifest(members: usize, sync: bool) -> Value {
    json!({
        "apiVersion": "acid.zalan.do/v1",
        "kind": "postgresql",
        "metadata": {"name": CLUSTER},
        "spec": {
            "teamId": "acid",
            "numberOfInstances": members,
            "volume": {"size": "1Gi"},
            "postgresql": {"version": "15", "parameters": {"fsync": "off"}},
            "patroni": {
                "synchronous_mode": sync,
                "loop_wait": 5,
                "pg_hba": [
                    "local all all trust",
                    "local replication standby trust",
                    "host all all 0.0.0.0/0 md5",
                    "host replication standby 0.0.0.0/0 md5",
                ],
            },
        },
    })
}
