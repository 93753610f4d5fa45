use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The version of the layout of the state directory.
const LAYOUT: &str = "1";

/// The port of the API.
pub(crate) const PORT: u16 = 6443;

/// As many loopback networks may belong to sandboxes, from 127.64 on.
const NETWORKS: u64 = 120;

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file system.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// Another version made it.
    #[error(
        "{0} has layout {1}, this version of howdah knows {LAYOUT}: use the version that made it, or 'howdah down --purge'"
    )]
    Layout(PathBuf, String),
}

/// Where a sandbox keeps everything: objects, pods, volumes, credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxDir {
    root: PathBuf,
}

impl SandboxDir {
    /// A sandbox in this directory.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        SandboxDir { root }
    }

    /// The user's own: `/var/lib/howdah` for root, since other users can read nothing below `/root`; else below
    /// `$XDG_STATE_HOME` or `~/.local/state`. `$HOWDAH_STATE` overrides both.
    #[must_use]
    pub fn of_user() -> Self {
        let var = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let root = var("HOWDAH_STATE").unwrap_or_else(|| {
            if rustix::process::geteuid().is_root() {
                return PathBuf::from("/var/lib/howdah");
            }
            // Without a home the path is relative, which `prepare` refuses: a directory that others can write is no place.
            let home = || var("HOME").unwrap_or_default().join(".local/state");
            var("XDG_STATE_HOME").unwrap_or_else(home).join("howdah")
        });
        SandboxDir { root }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Credentials for the API, as kubectl reads them.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The running server: its process id and start time.
    #[must_use]
    pub fn server_file(&self) -> PathBuf {
        self.root.join("server.json")
    }

    /// What the server says when it runs in the background.
    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// What is being removed.
    pub(crate) fn gone(&self) -> PathBuf {
        self.root.join("gone")
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.root.join("credentials")
    }

    /// A short directory for the sockets of a pod: the path of a Unix socket has at most 107 bytes.
    pub(crate) fn run_dir(&self, pod_uid: &str) -> PathBuf {
        let short: String = pod_uid.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        self.run_root().join(short)
    }

    /// The directory of all those directories.
    #[must_use]
    pub fn run_root(&self) -> PathBuf {
        let me = rustix::process::geteuid().as_raw();
        let number = hash(self.root.as_os_str().as_encoded_bytes()) % 0xffff;
        let base = if me == 0 {
            PathBuf::from("/run")
        } else {
            PathBuf::from("/tmp")
        };
        base.join(format!("howdah-{me}-{number:x}"))
    }

    /// The second part of this sandbox's loopback addresses, 127.x: chosen when the sandbox is made, so that the
    /// sandboxes of one machine keep out of each other's way.
    pub(crate) fn network(&self) -> Result<u8, StateError> {
        let path = self.root.join("network");
        if let Some(known) = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse().ok())
        {
            return Ok(known);
        }
        let first = hash(self.root.as_os_str().as_encoded_bytes()) % NETWORKS;
        let free = (0..NETWORKS)
            .filter_map(|step| u8::try_from(64 + (first + step) % NETWORKS).ok())
            .find(|network| {
                std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, *network, 0, 1), PORT)).is_ok()
            });
        let network = free.ok_or_else(|| {
            let error = io::Error::new(
                io::ErrorKind::AddrInUse,
                format!(
                    "port {PORT} is taken on every loopback network: does a program listen on it on all addresses? 'ss -ltnp' \
                     shows which"
                ),
            );
            StateError::Io(path.clone(), error)
        })?;
        write_private(&path, network.to_string())?;
        Ok(network)
    }

    /// Makes the directories, or checks those that are there.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn prepare(&self) -> Result<(), StateError> {
        if !self.root.is_absolute() {
            let error = io::Error::new(
                io::ErrorKind::InvalidInput,
                "$HOME is not set: name a directory for the sandbox's state in $HOWDAH_STATE",
            );
            return Err(StateError::Io(self.root.clone(), error));
        }
        let layout = self.root.join("layout");
        match fs::read_to_string(&layout) {
            Ok(have) if have.trim() == LAYOUT => {}
            Ok(have) => return Err(StateError::Layout(self.root.clone(), have.trim().to_owned())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::Io(layout, error));
            }
            Err(_) => {
                // A directory that is not empty has another owner, and `down --purge` would remove it.
                let taken = fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
                if taken {
                    let error = io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        "it is not empty and no sandbox's: name an empty directory, or one that does not exist",
                    );
                    return Err(StateError::Io(self.root.clone(), error));
                }
                // Pods run as another user when root runs the sandbox: it may pass through, but not look around.
                make_dir(&self.root, 0o711)?;
                write_private(&layout, LAYOUT)?;
            }
        }
        for (directory, mode) in [
            (self.store(), 0o700),
            (self.credentials(), 0o700),
            (self.pods(), 0o711),
            (self.volumes(), 0o711),
            (self.run_root(), 0o711),
        ] {
            make_dir(&directory, mode)?;
        }
        // A directory in /tmp may have been made by another user.
        let run = self.run_root();
        let owner = fs::metadata(&run).map_err(|e| StateError::Io(run.clone(), e))?;
        let mine = std::os::unix::fs::MetadataExt::uid(&owner) == rustix::process::geteuid().as_raw();
        if !mine || fs::symlink_metadata(&run).is_ok_and(|m| m.is_symlink()) {
            let error = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
            return Err(StateError::Io(run, error));
        }
        Ok(())
    }
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), StateError> {
    let fail = |error| StateError::Io(path.to_owned(), error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)
}

/// Writes a file that only its owner can read, in one step.
pub(crate) fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<(), StateError> {
    use std::io::Write as _;
    let fail = |error| StateError::Io(path.to_owned(), error);
    let next = path.with_extension("next");
    let _ = fs::remove_file(&next);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)
        .map_err(fail)?;
    file.write_all(content.as_ref()).map_err(fail)?;
    fs::rename(&next, path).map_err(fail)
}
