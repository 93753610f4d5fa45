use std::{path::Path, time::Duration};

use howdah_archive::{ArchiveError, Pushed, Store, wal_get, wal_push};

use crate::{
    cli::{WalArgs, WalCommand},
    failure::Failure,
    variables::Variables,
};

pub(crate) async fn run(args: WalArgs) -> anyhow::Result<u8> {
    match args.command {
        WalCommand::Push { path } => {
            let variables = args.sources.read()?;
            push(&variables, &path).await.map_err(Failure::of_push)
        }
        WalCommand::Get {
            name,
            target,
            or_stream,
        } => {
            let variables = args.sources.read().map_err(no_settings)?;
            let streams = or_stream && Path::new("standby.signal").exists();
            let got = get(&variables, &name, &target, streams).await;
            got.map_err(|error| match error {
                error @ (ArchiveError::Outage { .. }
                | ArchiveError::Denied { .. }
                | ArchiveError::NoPlace(_))
                    if streams =>
                {
                    tracing::warn!("{error}. The server streams instead.");
                    Failure::of_get(ArchiveError::Missing(name))
                }
                error => Failure::of_get(error),
            })
        }
    }
}

/// Settings that cannot be read are no reason to promote.
pub(crate) fn no_settings(error: anyhow::Error) -> anyhow::Error {
    Failure::of_get(ArchiveError::Setting(format!("{error:#}")))
}

pub(crate) async fn push(variables: &Variables, path: &Path) -> Result<u8, ArchiveError> {
    let settings = variables.settings()?;
    let deadline = howdah_clock::now() + settings.push_patience;
    let store = Store::open(&settings.place, shorter(settings.push_patience))?;
    match wal_push(&store, &settings, path, deadline).await? {
        Pushed::Stored { bytes } => tracing::info!("{} is archived: {bytes} bytes.", path.display()),
        Pushed::WasThere => tracing::info!("{} was archived already.", path.display()),
    }
    Ok(0)
}

/// The store's own tries end before the deadline, and so with a reason.
fn shorter(patience: Duration) -> Duration {
    patience.mul_f32(0.8)
}

/// How long an archive may take to answer a standby that can stream.
const AT_ONCE: Duration = Duration::from_secs(2);

pub(crate) async fn get(
    variables: &Variables,
    name: &str,
    target: &Path,
    streams: bool,
) -> Result<u8, ArchiveError> {
    let settings = variables.settings()?;
    let patience = if streams {
        AT_ONCE.min(settings.get_patience)
    } else {
        settings.get_patience
    };
    let deadline = howdah_clock::now() + patience;
    let store = Store::open(&settings.place, shorter(patience))?;
    // PostgreSQL runs it in its data directory.
    let data = Path::new(".");
    let data = data.join("global/pg_control").exists().then_some(data);
    let got = wal_get(&store, &settings, name, target, data, deadline).await?;
    tracing::info!("{name} is fetched: {} bytes.", got.bytes);
    Ok(0)
}
