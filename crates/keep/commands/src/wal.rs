use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use howdah_archive::{ArchiveError, Place, Pushed, Settings};
use howdah_archiver::{Answer, Opened, Request, Work, ask, place_file, socket_of};

use crate::{
    cli::{WalArgs, WalCommand},
    failure::Failure,
    variables::Variables,
};

pub(crate) fn run(args: WalArgs) -> anyhow::Result<u8> {
    match args.command {
        WalCommand::Push { path } => {
            let variables = args.sources.read()?;
            push(&variables, &path).map_err(anyhow::Error::new)
        }
        WalCommand::Get {
            name,
            target,
            or_stream,
        } => {
            let variables = args.sources.read().map_err(no_settings)?;
            let streams = or_stream && Path::new("standby.signal").exists();
            get(&variables, &name, &target, streams).map_err(anyhow::Error::new)
        }
    }
}

/// Settings that cannot be read are no reason to promote.
pub(crate) fn no_settings(error: anyhow::Error) -> anyhow::Error {
    anyhow::Error::new(Failure::of_get(ArchiveError::Setting(format!("{error:#}"))))
}

/// The settings, and the variables that they were read from.
fn settings(variables: &Variables) -> Result<(Settings, BTreeMap<String, String>), ArchiveError> {
    let used = RefCell::new(BTreeMap::new());
    let settings = Settings::from_variables(&|name| {
        let value = variables.get(name)?;
        used.borrow_mut().insert(name.to_owned(), value.clone());
        Some(value)
    })?;
    for remark in &settings.remarks {
        tracing::warn!("{remark}.");
    }
    Ok((settings, used.into_inner()))
}

/// The data directory that PostgreSQL runs its commands in.
fn data_directory() -> Option<PathBuf> {
    let data = std::env::current_dir().ok()?;
    data.join("global/pg_control").exists().then_some(data)
}

/// Asks the archiver that runs beside the server. `None`: there is none, or it cannot do it.
fn asked(settings: &Settings, variables: BTreeMap<String, String>, work: Work) -> Option<Answer> {
    // What is relative here is something else there.
    if matches!(&settings.place, Place::Directory(path) if path.is_relative()) {
        return None;
    }
    let data = data_directory()?;
    let socket = socket_of(&data)?;
    if !socket.exists() {
        return None;
    }
    let patience = match work {
        Work::Push { .. } => settings.push_patience,
        Work::Get { .. } | Work::Report => settings.get_patience,
    };
    let request = Request {
        data,
        variables,
        work,
    };
    match ask(&socket, &request, howdah_clock::now() + patience + patience / 4) {
        Ok(answer) => Some(answer),
        Err(reason) => {
            tracing::info!("The archiver is not asked: {reason}.");
            None
        }
    }
}

pub(crate) fn push(variables: &Variables, path: &Path) -> Result<u8, Failure> {
    let (settings, used) = settings(variables).map_err(Failure::of_push)?;
    let work = Work::Push {
        path: path.to_owned(),
        alone: std::env::var_os("HOWDAH_ARCHIVE_ALONE").is_some(),
    };
    if let Some(Answer {
        code: Some(code),
        text,
        ..
    }) = asked(&settings, used, work)
    {
        return match code {
            0 if text.is_empty() => Ok(0),
            0 => {
                tracing::warn!("{text}.");
                Ok(0)
            }
            code => Err(Failure::said(code, text, false)),
        };
    }
    let opened = Opened::new(settings);
    match crate::run(opened.push(path, None))?.map_err(Failure::of_push)? {
        Pushed::Stored { bytes } => tracing::info!("{} is archived: {bytes} bytes.", path.display()),
        Pushed::WasThere => tracing::info!("{} was archived already.", path.display()),
    }
    Ok(0)
}

pub(crate) fn get(variables: &Variables, name: &str, target: &Path, streams: bool) -> Result<u8, Failure> {
    let (settings, used) = settings(variables).map_err(Failure::of_get)?;
    let work = Work::Get {
        name: name.to_owned(),
        streams,
    };
    if let Some(Answer {
        code: Some(code),
        text,
        file,
    }) = asked(&settings, used, work)
    {
        match file {
            Some(file) if place_file(&file, target) => return Ok(0),
            // Between two file systems, or taken away meanwhile.
            Some(_) => {}
            None if code == 0 => {}
            None => return Err(Failure::said(code, text, true)),
        }
    }
    let opened = Opened::new(settings);
    let data = data_directory();
    let got = crate::run(opened.get(name, target, data.as_deref(), streams))?.map_err(Failure::of_get)?;
    tracing::info!("{name} is fetched: {} bytes.", got.bytes);
    Ok(0)
}
