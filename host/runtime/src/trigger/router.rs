//! Who gets which event, and which function answers which request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::Event;
use crate::manifest::{Function, Trigger};

/// The type of the event that an object was written.
pub const OBJECT_CREATED: &str = "tidegate.object.created";
/// The type of the event that calls one function.
pub const INVOKE: &str = "tidegate.invoke";

/// Why no function answers a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No route has this path.
    #[error("no route")]
    NotFound,
    /// The path has routes for other methods.
    #[error("method not allowed")]
    MethodNotAllowed(Vec<String>),
}

struct ObjectRule {
    bucket: String,
    prefix: String,
    suffix: String,
    function: String,
}

/// Whether two triggers are routes that answer the same requests.
pub fn clash(one: &Trigger, other: &Trigger) -> bool {
    let (
        Trigger::Http { method, route },
        Trigger::Http {
            method: other_method,
            route: other_route,
        },
    ) = (one, other)
    else {
        return false;
    };
    let apart = matches!((method, other_method), (Some(one), Some(other)) if one != other);
    let mut table = matchit::Router::new();
    !apart && table.insert(route.as_str(), ()).is_ok() && table.insert(other_route.as_str(), ()).is_err()
}

/// The routing table of everything that is deployed.
#[derive(Default)]
pub struct Router {
    names: BTreeSet<String>,
    by_type: BTreeMap<String, Vec<String>>,
    objects: Vec<ObjectRule>,
    /// By method; `*` takes every method.
    http: BTreeMap<String, matchit::Router<String>>,
}

impl Router {
    /// The table of these functions. A route that another function has already is left to that one.
    pub fn new(functions: &[Arc<Function>]) -> Self {
        let mut router = Self::default();
        for function in functions {
            router.names.insert(function.name.clone());
            for trigger in &function.triggers {
                router.add(&function.name, trigger);
            }
        }
        router
    }

    fn add(&mut self, function: &str, trigger: &Trigger) {
        let name = function.to_owned();
        match trigger {
            Trigger::Event { kind } => self.by_type.entry(kind.clone()).or_default().push(name),
            Trigger::Object {
                bucket,
                prefix,
                suffix,
            } => self.objects.push(ObjectRule {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                suffix: suffix.clone(),
                function: name,
            }),
            Trigger::Http { method, route } => {
                let method = method.clone().unwrap_or_else(|| "*".into());
                if let Err(error) = self.http.entry(method).or_default().insert(route.clone(), name) {
                    tracing::warn!(function, route, %error, "route is taken");
                }
            }
            Trigger::Schedule(_) => {}
        }
    }

    /// Whether there is a function of this name.
    pub fn has(&self, function: &str) -> bool {
        self.names.contains(function)
    }

    /// The queues that get a copy of the event, each once.
    pub fn route(&self, event: &Event) -> Vec<String> {
        let mut queues: BTreeSet<&String> = BTreeSet::new();
        match event.kind.as_str() {
            INVOKE => queues.extend(event.subject.as_ref().and_then(|name| self.names.get(name))),
            OBJECT_CREATED => queues.extend(self.object_rules(event).map(|rule| &rule.function)),
            _ => {}
        }
        queues.extend(self.by_type.get(&event.kind).into_iter().flatten());
        queues.into_iter().cloned().collect()
    }

    fn object_rules<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = &'a ObjectRule> {
        let key = event.subject.as_deref().unwrap_or_default();
        let bucket = event
            .source
            .strip_prefix("/objects/")
            .map(str::to_owned)
            .or_else(|| bucket_of(event));
        self.objects.iter().filter(move |rule| {
            bucket.as_ref() == Some(&rule.bucket)
                && key.starts_with(&rule.prefix)
                && key.ends_with(&rule.suffix)
        })
    }

    /// The function that answers a request, with the route's parameters as they stand in the path, still
    /// percent-encoded. A `HEAD` that has no route of its own goes where `GET` goes.
    pub fn http(&self, method: &str, path: &str) -> Result<(String, Vec<(String, String)>), RouteError> {
        let fallback = if method == "HEAD" { "GET" } else { "*" };
        for table in [method, fallback, "*"]
            .into_iter()
            .filter_map(|method| self.http.get(method))
        {
            if let Ok(found) = table.at(path) {
                let params = found
                    .params
                    .iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                return Ok((found.value.clone(), params));
            }
        }
        let others: Vec<String> = self
            .http
            .iter()
            .filter(|(_, table)| table.at(path).is_ok())
            .map(|(method, _)| method.clone())
            .collect();
        Err(if others.is_empty() {
            RouteError::NotFound
        } else {
            RouteError::MethodNotAllowed(others)
        })
    }
}

fn bucket_of(event: &Event) -> Option<String> {
    let data: serde_json::Value = serde_json::from_slice(&event.data).ok()?;
    data["bucket"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn router() -> Router {
        let manifest = Manifest::parse(
            r#"
            [app]
            name = "a"
            [[function]]
            name = "one"
            component = "x.wasm"
            trigger = [{ event = "DataReady" }, { object = { bucket = "data", prefix = "raw/", suffix = ".csv" } }]
            [[function]]
            name = "two"
            component = "x.wasm"
            trigger = [{ event = "DataReady" }, { http = { method = "GET", route = "/users/{id}" } }]
            "#,
            "t",
        )
        .unwrap();
        Router::new(&manifest.functions.into_iter().map(Arc::new).collect::<Vec<_>>())
    }

    fn event(kind: &str, source: &str, subject: &str) -> Event {
        Event {
            id: "1".into(),
            source: source.into(),
            kind: kind.into(),
            subject: Some(subject.into()),
            time: 0,
            content_type: None,
            data: bytes::Bytes::new(),
            traceparent: String::new(),
            run: String::new(),
            parent: None,
        }
    }

    #[test]
    fn every_subscriber_of_a_type_gets_its_own_copy() {
        assert_eq!(router().route(&event("DataReady", "/x", "s")), ["one", "two"]);
        assert!(router().route(&event("Other", "/x", "s")).is_empty());
    }

    #[test]
    fn objects_match_by_bucket_prefix_and_suffix() {
        let router = router();
        assert_eq!(
            router.route(&event(OBJECT_CREATED, "/objects/data", "raw/x.csv")),
            ["one"]
        );
        assert!(
            router
                .route(&event(OBJECT_CREATED, "/objects/data", "raw/x.json"))
                .is_empty()
        );
        assert!(
            router
                .route(&event(OBJECT_CREATED, "/objects/other", "raw/x.csv"))
                .is_empty()
        );
    }

    #[test]
    fn an_invocation_goes_to_the_function_it_names() {
        assert_eq!(router().route(&event(INVOKE, "/invoke", "two")), ["two"]);
        assert!(router().route(&event(INVOKE, "/invoke", "three")).is_empty());
    }

    #[test]
    fn a_request_finds_its_route_or_learns_which_methods_there_are() {
        let router = router();
        let (function, params) = router.http("GET", "/users/7").unwrap();
        assert_eq!(
            (function.as_str(), params),
            ("two", vec![("id".to_owned(), "7".to_owned())])
        );
        assert_eq!(
            router.http("POST", "/users/7"),
            Err(RouteError::MethodNotAllowed(vec!["GET".into()]))
        );
        assert_eq!(router.http("GET", "/nope"), Err(RouteError::NotFound));
    }

    #[test]
    fn routes_clash_when_they_answer_the_same_requests() {
        let route = |method: Option<&str>, route: &str| Trigger::Http {
            method: method.map(str::to_owned),
            route: route.to_owned(),
        };
        let get = route(Some("GET"), "/users/{id}");
        assert!(clash(&get, &route(Some("GET"), "/users/{name}")));
        assert!(clash(&get, &route(None, "/users/{id}")));
        assert!(!clash(&get, &route(Some("POST"), "/users/{id}")));
        assert!(!clash(&get, &route(Some("GET"), "/users/me")));
        assert!(!clash(&get, &Trigger::Event { kind: "X".into() }));
    }

    #[test]
    fn a_head_request_goes_where_get_goes() {
        assert_eq!(router().http("HEAD", "/users/7").unwrap().0, "two");
    }

    #[test]
    fn a_method_of_its_own_goes_before_every_method_and_a_name_before_a_parameter() {
        let manifest = Manifest::parse(
            r#"
            app = { name = "a" }
            [[function]]
            name = "any"
            component = "x.wasm"
            trigger = [{ http = { route = "/x" } }, { http = { route = "/y/{id}" } }, { http = { route = "/z/{*rest}" } }]
            [[function]]
            name = "post"
            component = "x.wasm"
            trigger = [{ http = { method = "POST", route = "/x" } }, { http = { route = "/y/me" } }]
            "#,
            "t",
        )
        .unwrap();
        let router = Router::new(&manifest.functions.into_iter().map(Arc::new).collect::<Vec<_>>());
        let function = |method, path| router.http(method, path).unwrap().0;
        assert_eq!(
            (function("POST", "/x"), function("PUT", "/x")),
            ("post".into(), "any".into())
        );
        assert_eq!(
            (function("GET", "/y/me"), function("GET", "/y/you")),
            ("post".into(), "any".into())
        );
        let (_, params) = router.http("GET", "/z/a/b%2Fc").unwrap();
        assert_eq!(params, [("rest".to_owned(), "a/b%2Fc".to_owned())]);
    }
}
