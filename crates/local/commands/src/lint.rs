use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use anyhow::Context as _;
use howdah_manifest::lint::{Finding, Severity, lint as findings_of};
use howdah_sandbox::SandboxDir;

use crate::{cli::LintArgs, output::document};

/// A file's text; `-` is the standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("reading the standard input")?;
        return Ok(text);
    }
    fs::read_to_string(path).with_context(|| format!("{}", path.display()))
}

pub(crate) fn lint(args: &LintArgs) -> anyhow::Result<u8> {
    let mut errors = 0;
    for path in &args.files {
        let findings = findings_of(&read(path)?);
        errors += findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count();
        print!("{}", shown(path, &findings));
    }
    Ok(if errors > 0 { 2 } else { 0 })
}

/// Findings as lines that editors understand.
pub(crate) fn shown(path: &Path, findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{}:{finding}\n", path.display()))
        .collect()
}

pub(crate) fn crd() -> anyhow::Result<u8> {
    let text = document(&howdah_manifest::crd(), "yaml")?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

pub(crate) fn kubeconfig() -> anyhow::Result<u8> {
    let path = SandboxDir::of_user().kubeconfig();
    anyhow::ensure!(
        path.exists(),
        "there is no kubeconfig yet: 'howdah up' writes {}",
        path.display()
    );
    println!("{}", path.display());
    Ok(0)
}
