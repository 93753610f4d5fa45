use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::write_private;

/// A certificate that the server signs itself, as the image does: it keeps passwords from being read on the way, and
/// proves nothing to anybody. Made once for each pod.
pub(crate) fn own(directory: &Path, name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (directory.join("server.crt"), directory.join("server.key"));
    if !certificate.exists() || !key.exists() {
        fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])?;
        write_private(&key, &made.signing_key.serialize_pem())?;
        write_private(&certificate, &made.cert.pem())?;
    }
    Ok((certificate, key))
}
