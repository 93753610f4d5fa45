use std::io::Write;

use howdah_manifest::lint::{Finding, Severity, count_clusters, lint as findings_of};
use howdah_sandbox::SandboxDir;

use crate::{cli::LintArgs, output::document, server::Server, source::sources};

pub(crate) async fn lint(args: &LintArgs) -> anyhow::Result<u8> {
    let (mut errors, mut warnings, mut clusters) = (0, 0, 0);
    for source in sources(&args.files).await? {
        let findings = findings_of(&source.text);
        for finding in &findings {
            match finding.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
        }
        clusters += count_clusters(&source.text);
        print!("{}", shown(&source.name, &findings));
    }
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let found = match (errors, warnings) {
        (0, 0) => "nothing found".to_owned(),
        (0, _) => plural(warnings, "warning"),
        (_, 0) => plural(errors, "error"),
        _ => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    // Beside the findings, which editors read.
    eprintln!("{}: {found}", plural(clusters, "cluster"));
    Ok(if errors > 0 { 2 } else { 0 })
}

/// Findings as lines that editors understand.
pub(crate) fn shown(name: &str, findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{name}:{finding}\n"))
        .collect()
}

pub(crate) fn crd() -> anyhow::Result<u8> {
    let text = document(&howdah_manifest::crd(), "yaml")?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

pub(crate) fn kubeconfig() -> anyhow::Result<u8> {
    let dir = SandboxDir::of_user();
    let path = dir.kubeconfig();
    if !path.exists() {
        match Server::find(&dir) {
            Some(_) => anyhow::bail!(
                "{} was removed while the sandbox runs: 'howdah down' and 'howdah up --detach' write it again",
                path.display()
            ),
            None => anyhow::bail!(
                "there is no kubeconfig yet: 'howdah up' writes {}",
                path.display()
            ),
        }
    }
    println!("{}", path.display());
    Ok(0)
}
