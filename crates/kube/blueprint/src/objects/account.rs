use k8s_openapi::{
    api::{
        core::v1::ServiceAccount,
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::typed;
use crate::Settings;

/// AWS' annotation of an account that may act as a role of IAM.
const IRSA: &str = "eks.amazonaws.com/role-arn";

/// The pods' ServiceAccount of a namespace and the binding to the ClusterRole of the same name, or what the operator's
/// configuration defines in their place. The account's name is the configuration's in any case.
#[must_use]
pub fn service_account(namespace: &str, settings: &Settings) -> (ServiceAccount, RoleBinding) {
    let name = &settings.pod_service_account_name;
    let of = &settings.objects;
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let defined = of.pod_service_account_definition.as_ref().and_then(typed);
    let mut account: ServiceAccount = defined.unwrap_or_default();
    account.metadata.name = Some(name.clone());
    account.metadata.namespace = Some(namespace.to_owned());
    if !of.irsa_role_arn.is_empty() {
        let annotations = account.metadata.annotations.get_or_insert_default();
        annotations.insert(IRSA.to_owned(), of.irsa_role_arn.clone());
    }
    let subject = Subject {
        kind: "ServiceAccount".into(),
        name: name.clone(),
        namespace: Some(namespace.to_owned()),
        ..Subject::default()
    };
    let defined = of
        .pod_service_account_role_binding_definition
        .as_ref()
        .and_then(typed);
    let mut binding = defined.unwrap_or_else(|| RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: name.clone(),
        },
        subjects: Some(vec![subject]),
    });
    binding.metadata.name.get_or_insert_with(|| name.clone());
    binding.metadata.namespace = Some(namespace.to_owned());
    // Whose namespace the definition cannot know.
    for subject in binding.subjects.iter_mut().flatten() {
        if subject.kind == "ServiceAccount" && subject.name == *name {
            subject.namespace = Some(namespace.to_owned());
        }
    }
    (account, binding)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_counts_and_the_name_is_the_configurations() {
        let mut settings = Settings::default();
        let (account, binding) = service_account("a", &settings);
        assert_eq!(account.metadata.name.as_deref(), Some("postgres-pod"));
        assert_eq!(binding.role_ref.name, "postgres-pod");
        settings.objects.irsa_role_arn = "arn:aws:iam::1:role/x".into();
        settings.objects.pod_service_account_definition = Some(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator", "labels": {"a": "b"}},
        }));
        settings.objects.pod_service_account_role_binding_definition = Some(json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "mine"},
            "subjects": [{"kind": "ServiceAccount", "name": "postgres-pod"}],
        }));
        let (account, binding) = service_account("a", &settings);
        assert_eq!(account.metadata.name.as_deref(), Some("postgres-pod"));
        assert_eq!(account.metadata.labels.unwrap()["a"], "b");
        assert_eq!(
            account.metadata.annotations.unwrap()[IRSA],
            "arn:aws:iam::1:role/x"
        );
        assert_eq!(binding.role_ref.name, "mine");
        assert_eq!(binding.subjects.unwrap()[0].namespace.as_deref(), Some("a"));
    }
}
