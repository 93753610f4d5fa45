//! Containers beside PostgreSQL's: of the manifest and of the operator's configuration.

use howdah_manifest::{Manifest, Sidecar};
use k8s_openapi::api::core::v1::{Capabilities, Container, EnvVar, SecurityContext, VolumeMount};

use super::{
    environment::{first_wins, from_field, from_secret, value},
    resources::resources,
    typed, typed_list,
    volumes::{Place, Volumes},
};
use crate::Settings;

/// The sidecars. Of two with one name the manifest's counts, then the one of `sidecars`, then the one of `sidecar_docker_images`.
pub(super) fn sidecars(
    manifest: &Manifest,
    settings: &Settings,
    volumes: &Volumes<'_>,
    is_restricted: bool,
) -> Vec<Container> {
    let own = manifest.spec.sidecars.iter().flatten();
    let own = own.map(|sidecar| of_manifest(sidecar, settings));
    let configured = settings.pods.sidecars.iter().filter_map(typed);
    let by_image = settings.pods.sidecar_docker_images.iter().map(|(name, image)| {
        let sidecar = Sidecar {
            name: name.clone(),
            image: image.clone(),
            ..Sidecar::default()
        };
        of_manifest(&sidecar, settings)
    });
    let mut all: Vec<Container> = Vec::new();
    if settings.pods.enable_sidecars {
        all.extend(own);
    }
    for container in configured.chain(by_image) {
        let inits = manifest.spec.init_containers.iter().flatten();
        let is_init = inits
            .into_iter()
            .any(|init| init["name"] == container.name.as_str());
        if !is_init && !all.iter().any(|known| known.name == container.name) {
            all.push(container);
        }
    }
    for container in &mut all {
        let mut env = given(manifest, settings);
        env.extend(container.env.take().unwrap_or_default());
        container.env = Some(first_wins(env));
        let mounts = volumes.mounts(Place::Sidecar(&container.name));
        mount(container, mounts);
        if is_restricted {
            restrict(container);
        }
    }
    all
}

fn of_manifest(sidecar: &Sidecar, settings: &Settings) -> Container {
    Container {
        name: sidecar.name.clone(),
        image: Some(sidecar.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(sidecar.command.clone()).filter(|command| !command.is_empty()),
        ports: typed_list(&sidecar.ports),
        env: typed_list(&sidecar.env),
        resources: resources(sidecar.resources.as_ref(), settings, false),
        ..Container::default()
    }
}

/// Variables of sidecars that the operator sets itself: the manifest's value has no effect.
#[must_use]
pub fn overruled_sidecar_env(manifest: &Manifest, settings: &Settings) -> Vec<String> {
    let fixed = given(manifest, settings);
    let mut out = Vec::new();
    for (index, sidecar) in manifest.spec.sidecars.iter().flatten().enumerate() {
        for name in sidecar.env.iter().filter_map(|var| var["name"].as_str()) {
            if fixed.iter().any(|var| var.name.eq_ignore_ascii_case(name)) {
                out.push(format!("sidecars[{index}].env.{name}"));
            }
        }
    }
    out
}

/// What every sidecar is told, as upstream does: where it is, and how it gets into the server.
fn given(manifest: &Manifest, settings: &Settings) -> Vec<EnvVar> {
    let superuser = &settings.super_username;
    vec![
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
        value("POSTGRES_USER", superuser),
        from_secret(
            "POSTGRES_PASSWORD",
            &settings.secret_name(&manifest.name, superuser),
        ),
    ]
}

/// The init containers, as the manifest has them.
pub(super) fn init_containers(
    manifest: &Manifest,
    settings: &Settings,
    volumes: &Volumes<'_>,
    is_restricted: bool,
) -> Vec<Container> {
    let own = manifest.spec.init_containers.iter().flatten();
    let mut all: Vec<Container> = own
        .filter(|_| settings.pods.enable_init_containers)
        .filter_map(typed)
        .collect();
    for container in &mut all {
        let mounts = volumes.mounts(Place::Init(&container.name));
        mount(container, mounts);
        container.env = container.env.take().map(first_wins);
        if is_restricted {
            restrict(container);
        }
    }
    all
}

/// Adds mounts; of two at one path the container's own counts, since Kubernetes takes one only.
fn mount(container: &mut Container, more: Vec<VolumeMount>) {
    let mut mounts = container.volume_mounts.take().unwrap_or_default();
    for mount in more {
        if !mounts.iter().any(|known| known.mount_path == mount.mount_path) {
            mounts.push(mount);
        }
    }
    container.volume_mounts = Some(mounts).filter(|mounts| !mounts.is_empty());
}

fn restrict(container: &mut Container) {
    let context = container.security_context.get_or_insert_with(without_rights);
    // The pod's rule would keep it from starting.
    if context.run_as_user == Some(0) {
        context.run_as_non_root.get_or_insert(false);
    }
}

/// What the Pod Security standard *restricted* asks of every container. Its root directory stays writable: images are
/// made for that.
fn without_rights() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}
