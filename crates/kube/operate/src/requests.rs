//! What a request asks of the API, as its rules of access name it.

use http::{Method, Uri};

/// A request, in the words of a ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub(crate) verb: &'static str,
    /// The API group; empty: the core.
    pub(crate) group: String,
    /// The resource, with its part: `pods/exec`. Empty: a path that is no resource.
    pub(crate) resource: String,
}

/// What a request of this method for this path asks.
pub(crate) fn asked(method: &Method, uri: &Uri) -> Asked {
    let mut parts = uri.path().split('/').filter(|part| !part.is_empty()).peekable();
    let group = match parts.next() {
        Some("api") => {
            parts.next();
            ""
        }
        Some("apis") => {
            let group = parts.next().unwrap_or_default();
            parts.next();
            group
        }
        _ => {
            return Asked {
                verb: "get",
                ..Asked::default()
            };
        }
    };
    let mut rest: Vec<&str> = parts.collect();
    // Below a namespace, unless the namespace itself is meant.
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        rest.drain(..2);
    }
    let mut rest = rest.into_iter();
    let resource = rest.next().unwrap_or_default();
    let name = rest.next();
    let part = rest.next();
    let watches = uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair == "watch=true" || pair == "watch=1")
    });
    let verb = match (method, name) {
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        (&Method::DELETE, None) => "deletecollection",
        (_, _) if watches => "watch",
        (_, Some(_)) => "get",
        (_, None) => "list",
    };
    Asked {
        verb,
        group: group.to_owned(),
        resource: match part {
            Some(part) => format!("{resource}/{part}"),
            None => resource.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rules_name_them() {
        let cases = [
            ("GET", "/api/v1/pods?&labelSelector=a%3Db", "list", "", "pods"),
            (
                "GET",
                "/api/v1/pods?&watch=true&timeoutSeconds=290",
                "watch",
                "",
                "pods",
            ),
            ("GET", "/api/v1/namespaces/ns/secrets/x", "get", "", "secrets"),
            ("POST", "/api/v1/namespaces/ns/events?", "create", "", "events"),
            ("GET", "/api/v1/namespaces/ns", "get", "", "namespaces"),
            ("DELETE", "/api/v1/namespaces/ns/pods/p-0", "delete", "", "pods"),
            (
                "DELETE",
                "/api/v1/namespaces/ns/pods",
                "deletecollection",
                "",
                "pods",
            ),
            (
                "PATCH",
                "/apis/acid.zalan.do/v1/namespaces/ns/postgresqls/c/status?",
                "patch",
                "acid.zalan.do",
                "postgresqls/status",
            ),
            (
                "PUT",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x",
                "update",
                "apiextensions.k8s.io",
                "customresourcedefinitions",
            ),
            ("GET", "/version", "get", "", ""),
        ];
        for (method, path, verb, group, resource) in cases {
            let found = asked(&method.parse().unwrap(), &path.parse().unwrap());
            let wanted = Asked {
                verb,
                group: group.into(),
                resource: resource.into(),
            };
            assert_eq!(found, wanted, "{method} {path}");
        }
    }
}
