use std::{fs, os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::Context as _;
use howdah_blueprint::{Names, Settings};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;

use crate::{cli::PsqlArgs, context::Context};

/// Becomes psql, connected through the Service as an application is.
pub(crate) async fn psql(args: &PsqlArgs) -> anyhow::Result<u8> {
    let context = Context::open().await?;
    let namespace = &args.place.namespace;
    context.cluster(&args.cluster, namespace).await?;
    let names = Names(&args.cluster);
    let service = if args.replica {
        names.replica_service()
    } else {
        names.cluster()
    };
    let services = Api::<Service>::namespaced(context.client.clone(), namespace);
    let found = services.get_opt(&service).await.context("reading the Service")?;
    let address = found
        .and_then(|service| service.spec?.cluster_ip)
        .with_context(|| {
            format!(
                "the Service {service} has no address yet: 'howdah get {}'",
                args.cluster
            )
        })?;
    let secret = Settings::default().secret_name(&args.cluster, &args.user);
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let found = secrets.get_opt(&secret).await.context("reading the Secret")?;
    let found = found.with_context(|| {
        format!(
            "there is no Secret {secret}: is '{}' a login role of the manifest?",
            args.user
        )
    })?;
    let mut data = found.data.unwrap_or_default();
    let mut text = |key: &str| {
        let bytes = data.remove(key)?;
        String::from_utf8(bytes.0).ok().filter(|text| !text.is_empty())
    };
    // Where passwords change, a newer role logs in for the user.
    let user = text("username").unwrap_or_else(|| args.user.clone());
    let password = text("password")
        .with_context(|| format!("the Secret {secret} has no password: write one, or delete the Secret"))?;
    let error = Command::new(program()?)
        .args(["-h", &address, "-p", "5432", "-U", &user, "-d", &args.dbname])
        .args(&args.args)
        .env("PGPASSWORD", password)
        // Members sign their certificates themselves: encrypted, and nothing to check.
        .env("PGSSLMODE", "require")
        .exec();
    Err(error).context("starting psql")
}

/// psql from PATH, else the newest that Debian's packages have installed.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path)
        .map(|dir| dir.join("psql"))
        .find(|file| file.is_file())
    {
        return Ok(found);
    }
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/psql"))
        .filter(|file| file.is_file())
        .collect();
    installed.sort();
    installed
        .pop()
        .context("psql is not installed: install it, for example with 'apt-get install postgresql-client'")
}
