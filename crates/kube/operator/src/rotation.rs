//! Passwords that change: the database first, the Secret afterwards.
//!
//! Whoever reads the Secret finds what the server takes already. The API is asked before whether it would take the Secret; if the
//! Secret is not written afterwards all the same, a role that kept its name gets its old password back, and a newer one is dropped. If the
//! operator ends in between, the next one gives a role that kept its name the password of its Secret, and decides again; a newer
//! role that is there already is left alone, and the next day's is made.

use howdah_blueprint::{Credential, Login, Rotation, rotation, sql::Role};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::{
    OperatorError,
    database::{self, Access},
    login::login_of,
    logins::{self, Logins},
    pace::{NOW, Wake},
    pass::Pass,
    report,
};

/// So many passwords change in one pass.
const MOST: usize = 20;

impl Pass<'_> {
    /// Notes when passwords change next, where that is not known or no longer right.
    pub(crate) async fn plan_rotations(&self, logins: &mut Logins) -> Result<(), OperatorError> {
        let (context, manifest) = (self.context, self.manifest);
        let now = Timestamp::now();
        // Where no password will change none is announced.
        if !context.settings.enable_database_access || manifest.spec.standby.is_some() {
            return Ok(());
        }
        for credential in &self.credentials {
            let Some(login) = logins.secrets.get_mut(&credential.place()) else {
                continue;
            };
            if let Rotation::Plan(next) = rotation(credential, login, manifest, &context.settings, now) {
                login.next = Some(next);
                match logins::note_next(context, manifest, credential, next).await {
                    Err(error) if error.is_answered() => {
                        logins
                            .failed
                            .push(format!("user {}: {}", credential.role, error.in_one_line()));
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Changes the passwords that are due. Roles are as they should be: this pass has compared them.
    pub(crate) async fn rotate(
        &mut self,
        access: &Access<'_>,
        wanted: &[Role],
        logins: &Logins,
    ) -> Result<(), OperatorError> {
        let (context, manifest) = (self.context, self.manifest);
        let now = Timestamp::now();
        let due = |credential: &&Credential| {
            let login = logins.secrets.get(&credential.place());
            login.is_some_and(|login| {
                !matches!(
                    rotation(credential, login, manifest, &context.settings, now),
                    Rotation::Stay | Rotation::Plan(_)
                )
            })
        };
        let due: Vec<Credential> = self.credentials.iter().filter(due).cloned().collect();
        let mut failed = Ok(());
        for credential in due.iter().take(MOST) {
            // One that fails keeps no other from being changed.
            let rotated = self.rotate_one(access, credential, wanted, now).await;
            if let Err(error @ OperatorError::Taken(_)) = &rotated {
                let why = format!(
                    "the password of {} does not change: {}",
                    credential.role,
                    error.in_one_line()
                );
                self.tell_once(&why).await;
                self.observed.skipped.push(why);
                continue;
            }
            if let Err(error) = rotated {
                // The next pass compares with the server what the Secrets say.
                self.memory.database = None;
                self.tell_once(&format!(
                    "the password of {} does not change: {}",
                    credential.role,
                    error.in_one_line()
                ))
                .await;
                failed = Err(error);
            }
        }
        if due.len() > MOST {
            self.wake = Wake::At(NOW);
        }
        failed
    }

    async fn rotate_one(
        &mut self,
        access: &Access<'_>,
        credential: &Credential,
        wanted: &[Role],
        now: Timestamp,
    ) -> Result<(), OperatorError> {
        let (context, manifest) = (self.context, self.manifest);
        let name = &credential.secret;
        let api = Api::<Secret>::namespaced(context.client.clone(), logins::place(manifest, credential));
        // Watches lag: what is decided counts for the Secret as it is, and is written only to that one.
        let found = api
            .get(name)
            .await
            .map_err(OperatorError::kube(format!("reading Secret {name}")))?;
        let version = found.metadata.resource_version.clone();
        let Some(mut before) = login_of(&found) else {
            return Ok(());
        };
        let is_own = before.username.is_empty() || before.username == credential.role;
        if is_own {
            before.username.clone_from(&credential.role);
        }
        let decided = rotation(credential, &before, manifest, &context.settings, now);
        let (username, next, told) = match &decided {
            Rotation::Stay | Rotation::Plan(_) => return Ok(()),
            Rotation::InPlace(next) => (
                &credential.role,
                Some(*next),
                format!("the password of {} has changed", credential.role),
            ),
            Rotation::NewRole(name, next) => {
                let told = format!(
                    "{} logs in as {name} with a new password from now on; the roles before stay for a while",
                    credential.role
                );
                (name, Some(*next), told)
            }
            Rotation::Back => {
                let told = format!(
                    "{} logs in by its own name again, with a new password",
                    credential.role
                );
                (&credential.role, None, told)
            }
        };
        let login = Login {
            username: username.clone(),
            password: logins::password()?,
            next,
        };
        let base = wanted.iter().find(|role| role.name == credential.role);
        let version = version.as_deref();
        // That the Secret cannot be written must be known before the server has another password.
        logins::could_change(context, manifest, credential, &login, version).await?;
        database::change_password(context, manifest, access, base, &credential.role, &login).await?;
        if let Err(error) = logins::change(context, manifest, credential, &login, version).await {
            // The answer alone may have been lost: what the Secret says now decides. If that cannot be read, nothing is undone, and the
            // next pass compares.
            let Ok(now_there) = api.get(name).await else {
                return Err(error);
            };
            if login_of(&now_there)
                .as_ref()
                .is_some_and(|there| there.password == login.password)
            {
                return Err(error);
            }
            if login.username == credential.role && is_own {
                database::change_password(context, manifest, access, base, &credential.role, &before).await?;
            } else if login.username != credential.role {
                database::take_back(context, manifest, access, &login.username).await?;
            }
            return Err(error);
        }
        report::event(context, manifest, false, "Rotated", &told).await;
        if !matches!(decided, Rotation::InPlace(_)) {
            let others: Vec<&str> = wanted.iter().map(|role| role.name.as_str()).collect();
            let dropping = database::drop_outdated(
                context,
                manifest,
                access,
                &credential.role,
                username,
                &others,
                now,
            );
            let kept = dropping.await?;
            for why in kept {
                self.tell_once(&why).await;
            }
        }
        Ok(())
    }
}
