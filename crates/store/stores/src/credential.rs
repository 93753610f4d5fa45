use std::{
    io::{self, IsTerminal},
    path::Path,
    process::{ExitStatus, Stdio},
};

use howdah_http::Pem;
use serde::Deserialize;
use thiserror::Error;
use tokio::process::Command;

/// Why a program gave no credentials.
#[derive(Debug, Error)]
pub enum ExecError {
    /// It cannot be started.
    #[error("the kubeconfig's program '{command}' does not start")]
    Start {
        /// The program.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("the kubeconfig's program '{command}' failed ({status}): its own words stand above")]
    Failed {
        /// The program.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// What it printed is not an `ExecCredential`.
    #[error("the kubeconfig's program '{command}' printed no ExecCredential")]
    Output {
        /// The program.
        command: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// A program that prints credentials, as cloud providers have it: Kubernetes' `client.authentication.k8s.io`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Exec {
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    api_version: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Variable {
    name: String,
    value: String,
}

/// What the program gave.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) token: Option<String>,
    pub(crate) certificate: Option<(Pem, Pem)>,
}

#[derive(Deserialize)]
struct ExecCredential {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Exec {
    /// A program with a slash in its name is relative to the file that names it; any other is looked for in `$PATH`.
    pub(crate) fn resolve(&mut self, dir: &Path) {
        if self.command.contains('/') {
            self.command = dir.join(&self.command).display().to_string();
        }
    }

    /// Runs it. It may ask questions on the terminal.
    pub(crate) async fn run(&self) -> Result<Given, ExecError> {
        let command = || self.command.clone();
        let version = self
            .api_version
            .as_deref()
            .unwrap_or("client.authentication.k8s.io/v1");
        let info = serde_json::json!({
            "apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": io::stdin().is_terminal()},
        });
        let mut program = Command::new(&self.command);
        program
            .args(self.args.iter().flatten())
            .env("KUBERNETES_EXEC_INFO", info.to_string())
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        for variable in self.env.iter().flatten() {
            program.env(&variable.name, &variable.value);
        }
        let output = program.output().await.map_err(|source| ExecError::Start {
            command: command(),
            source,
        })?;
        if !output.status.success() {
            return Err(ExecError::Failed {
                command: command(),
                status: output.status,
            });
        }
        let credential: ExecCredential =
            serde_json::from_slice(&output.stdout).map_err(|source| ExecError::Output {
                command: command(),
                source,
            })?;
        let status = credential.status;
        let pem = |text: String| Pem {
            of: format!("what '{}' printed", self.command),
            text: text.into_bytes(),
        };
        Ok(Given {
            token: status.token,
            certificate: status
                .client_certificate_data
                .zip(status.client_key_data)
                .map(|(certificate, key)| (pem(certificate), pem(key))),
        })
    }
}
