use std::process::Command;

use howdah_testkit::{Flavour, Lab};

/// Runs `howdah ctl` against a lab's etcd; what it prints, to stdout and then to stderr.
///
/// # Errors
/// The first member is not ours, or the program cannot be run.
pub fn ctl(lab: &Lab, args: &[&str]) -> anyhow::Result<String> {
    let Flavour::Howdah(program) = &lab.members[0].flavour else {
        anyhow::bail!("m0 is not ours");
    };
    let output = Command::new(program)
        .arg("ctl")
        .arg("-c")
        .arg(lab.dir().join("m0.yml"))
        .args(args)
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}
