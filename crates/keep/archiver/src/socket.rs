use std::path::{Path, PathBuf};

/// Where the archiver of a data directory listens: beside the directory, since a copy of the directory is not this server's.
/// `data` is the directory itself and no link to it.
#[must_use]
pub fn socket_of(data: &Path) -> Option<PathBuf> {
    let name = data.file_name()?.to_string_lossy();
    Some(data.parent()?.join(format!(".{name}.archiver")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_beside_the_directory() {
        let of = |path: &str| socket_of(Path::new(path));
        assert_eq!(of("/pg/15/main"), Some(PathBuf::from("/pg/15/.main.archiver")));
        assert_eq!(of("/"), None);
    }
}
