use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Node, Program, environment};
use crate::meta;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program of a pod starts with: its environment, where it works, and whose it is.
pub(crate) struct Surroundings {
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) directory: PathBuf,
    pub(crate) owner: Option<(u32, u32)>,
    /// The directory of the pod's absolute paths.
    pub(crate) root: PathBuf,
}

impl Surroundings {
    /// A command with nothing of our own environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.env.iter().cloned())
            .current_dir(&self.directory);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
    }
}

impl Node {
    fn home(&self, pod: &Value) -> PathBuf {
        self.dir.pods().join(meta::uid(pod))
    }

    /// The surroundings of a pod's container.
    ///
    /// # Errors
    /// Its environment refers to something that is not there.
    pub(super) fn surroundings(
        &self,
        pod: &Value,
        container: &Value,
        root: &Path,
    ) -> Result<Surroundings, String> {
        let resolved = environment::resolve(&self.store, pod, container)?;
        let mut surroundings = Surroundings {
            env: resolved
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            directory: self.home(pod),
            owner: self.run_as,
            root: root.to_owned(),
        };
        surroundings.set("PATH", PATH);
        surroundings.set("HOSTNAME", meta::name(pod));
        surroundings.set("KUBERNETES_SERVICE_HOST", self.api.ip().to_string());
        surroundings.set("KUBERNETES_SERVICE_PORT", self.api.port().to_string());
        surroundings.set("HOWDAH_POD_ROOT", root);
        surroundings.set(
            "HOWDAH_POD_IP",
            pod["status"]["podIP"].as_str().unwrap_or_default(),
        );
        surroundings.set("HOWDAH_RUN_DIR", self.dir.run_dir(meta::uid(pod)));
        if let Some(limit) = container["resources"]["limits"]["memory"].as_str() {
            surroundings.set("HOWDAH_MEMORY_LIMIT", limit);
        }
        Ok(surroundings)
    }

    /// The surroundings of a program that is executed in a running pod: its container's, and what makes its tools find it.
    ///
    /// # Errors
    /// The pod cannot be looked into; the text says why.
    pub(crate) fn shell(&self, pod: &Value) -> Result<Surroundings, String> {
        let container = &pod["spec"]["containers"][0];
        let program = self
            .images
            .program(container["image"].as_str().unwrap_or_default())?;
        let root = self.home(pod).join("root");
        let mut surroundings = self.surroundings(pod, container, &root)?;
        let run = self.dir.run_dir(meta::uid(pod));
        for (name, value) in &program.shell {
            let value = value
                .replace("{root}", &root.to_string_lossy())
                .replace("{run}", &run.to_string_lossy());
            surroundings.set(name, value);
        }
        surroundings.set("PATH", format!("{}:{PATH}", self.tools_dir(pod).display()));
        let home = root.join("home/postgres");
        if home.is_dir() {
            surroundings.directory = home;
        }
        Ok(surroundings)
    }

    fn tools_dir(&self, pod: &Value) -> PathBuf {
        self.home(pod).join("bin")
    }

    /// Links the other names of a pod's program, for those who execute something in it.
    pub(super) fn tools(&self, pod: &Value, program: &Program) -> Result<(), String> {
        let dir = self.tools_dir(pod);
        crate::state::make_dir(&dir, 0o755).map_err(|error| error.to_string())?;
        for name in &program.names {
            let link = dir.join(name);
            let _ = fs::remove_file(&link);
            symlink(&program.path, &link).map_err(|error| format!("{}: {error}", link.display()))?;
        }
        Ok(())
    }
}
