//! A user without a name. Kubernetes may run a container as any user id, and `initdb` asks for the name of the user that it runs as.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The library that answers for /etc/passwd, which may be read-only; a name is given to the user by a file that it reads.
const WRAPPER: &str = "libnss_wrapper.so";

/// Gives the user of these ids a name if it has none: variables for the agent and all that it starts.
///
/// # Errors
/// There is no way to do so.
pub(crate) fn named(
    uid: u32,
    gid: u32,
    home: &Path,
    run_dir: &Path,
) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if has_name(&known, uid) {
        return Ok(Vec::new());
    }
    let line = format!(
        "postgres-{uid}:x:{uid}:{gid}:PostgreSQL:{}:/bin/sh\n",
        home.display()
    );
    // As Spilo does, in an image whose /etc/passwd the group may write.
    if let Ok(mut file) = OpenOptions::new().append(true).open("/etc/passwd") {
        file.write_all(line.as_bytes()).context("/etc/passwd")?;
        return Ok(Vec::new());
    }
    let wrapper = wrapper().with_context(|| {
        format!(
            "user {uid} has no name, which initdb needs: /etc/passwd cannot be written, and the package libnss-wrapper is not \
             installed"
        )
    })?;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let (passwd, group) = (run_dir.join("passwd"), run_dir.join("group"));
    for (path, text) in [(&passwd, known + &line), (&group, groups)] {
        fs::write(path, text).with_context(|| format!("{}", path.display()))?;
    }
    let preload = std::env::var_os("LD_PRELOAD").unwrap_or_default();
    let mut libraries = wrapper.into_os_string();
    if !preload.is_empty() {
        libraries.push(":");
        libraries.push(preload);
    }
    Ok(vec![
        ("LD_PRELOAD".into(), libraries),
        ("NSS_WRAPPER_PASSWD".into(), passwd.into_os_string()),
        ("NSS_WRAPPER_GROUP".into(), group.into_os_string()),
    ])
}

/// Whether a user of this id is in the text of a passwd file.
fn has_name(passwd: &str, uid: u32) -> bool {
    passwd
        .lines()
        .filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok())
        .any(|known| known == uid)
}

/// Where Debian installs it: below the directory of the machine's architecture.
fn wrapper() -> Option<PathBuf> {
    let below = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from("/usr/lib"))
        .chain(below)
        .map(|dir| dir.join(WRAPPER))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_its_id() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:103::/home/postgres:/bin/bash\n";
        assert!(has_name(passwd, 101) && !has_name(passwd, 103) && !has_name("", 0));
    }
}
