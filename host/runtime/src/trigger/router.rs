//! Who gets which event, and which function answers which request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Split;
use super::route::{Matched, Route};
use crate::event::Event;
use crate::manifest::{Function, Trigger, queue_of};
use crate::store::Group;

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

/// One version of a function, to which an event goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The function.
    pub function: String,
    /// The version.
    pub version: u64,
}

impl Target {
    fn of(function: &Function) -> Self {
        Self {
            function: function.name.clone(),
            version: function.version,
        }
    }

    /// The queue of its events.
    pub fn queue(&self) -> String {
        queue_of(&self.function, self.version)
    }
}

struct ObjectRule {
    bucket: String,
    prefix: String,
    suffix: String,
    target: Target,
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
    functions: BTreeMap<Target, Arc<Function>>,
    splits: BTreeMap<String, Split>,
    by_type: BTreeMap<String, Vec<Target>>,
    objects: Vec<ObjectRule>,
    /// By method; `*` takes every method.
    http: BTreeMap<String, matchit::Router<Arc<Route>>>,
}

impl Router {
    /// The table of these functions, each in one version. A route that another function has already is left to
    /// that one.
    pub fn new(functions: &[Arc<Function>]) -> Self {
        let whole = |function: &Arc<Function>| (function.name.clone(), Split::whole(function.version));
        Self::split(functions, functions.iter().map(whole).collect())
    }

    /// The table of functions in the versions that share their events and requests.
    pub fn split(versions: &[Arc<Function>], splits: BTreeMap<String, Split>) -> Self {
        let mut router = Self {
            splits,
            ..Self::default()
        };
        for function in versions {
            router.functions.insert(Target::of(function), function.clone());
            for trigger in &function.triggers {
                router.add(function, trigger);
            }
        }
        router
    }

    fn add(&mut self, function: &Function, trigger: &Trigger) {
        let target = Target::of(function);
        match trigger {
            Trigger::Event { kind } => self.by_type.entry(kind.clone()).or_default().push(target),
            Trigger::Object {
                bucket,
                prefix,
                suffix,
            } => self.objects.push(ObjectRule {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                suffix: suffix.clone(),
                target,
            }),
            Trigger::Http { method, route } => self.add_route(function, method.as_deref(), route),
            Trigger::Schedule(_) => {}
        }
    }

    /// Versions of one function have their routes in common.
    fn add_route(&mut self, function: &Function, method: Option<&str>, route: &str) {
        let table = self.http.entry(method.unwrap_or("*").to_owned()).or_default();
        let taken = table
            .at(route)
            .is_ok_and(|taken| taken.value.function == function.name);
        if let Err(error) = table.insert(route, Arc::new(Route::of(function, method, route)))
            && !taken
        {
            tracing::warn!(function = function.name, route, %error, "route is taken");
        }
    }

    /// The version of a function that a key falls to; none where there is no such function.
    pub fn version(&self, function: &str, key: &str) -> Option<u64> {
        self.splits.get(function).map(|split| split.pick(key))
    }

    /// Where an event of a function goes, whatever fires it; none where there is no such function.
    pub fn target(&self, function: &str, event: &Event) -> Option<Target> {
        // By run, so that the steps of one run see one side of every split.
        let version = self.version(function, &event.run)?;
        Some(Target {
            function: function.to_owned(),
            version,
        })
    }

    /// Who gets a copy of the event, each function once: in the version that the run falls to, where it listens.
    pub fn route(&self, event: &Event) -> Vec<Target> {
        let picked = |target: &Target| self.version(&target.function, &event.run) == Some(target.version);
        let called = called(event).and_then(|function| self.target(function, event));
        let listening = self.listening(event).into_iter();
        let listening = listening.filter(|target| picked(target)).cloned();
        listening.chain(called).collect()
    }

    /// The functions that an event may go to, whichever version its run falls to.
    pub fn listeners(&self, event: &Event) -> BTreeSet<String> {
        let called = called(event).filter(|function| self.splits.contains_key(*function));
        let listening = self.listening(event).into_iter();
        let listening = listening.map(|target| target.function.clone());
        listening.chain(called.map(str::to_owned)).collect()
    }

    /// The versions of a function.
    pub fn versions(&self, function: &str) -> impl Iterator<Item = &Arc<Function>> {
        let [first, last] = [u64::MIN, u64::MAX].map(|version| Target {
            function: function.to_owned(),
            version,
        });
        self.functions.range(first..=last).map(|(_, version)| version)
    }

    /// The group of an event in the queue of a version.
    pub fn group(&self, target: &Target, event: &Event) -> Option<Group> {
        let key = self.functions.get(target)?.key.as_ref()?;
        Some(key.group(event))
    }

    /// The versions that listen to what the event is.
    fn listening<'a>(&'a self, event: &'a Event) -> BTreeSet<&'a Target> {
        let by_type = self.by_type.get(&event.kind).into_iter().flatten();
        let mut targets: BTreeSet<&Target> = by_type.collect();
        if event.kind == OBJECT_CREATED {
            targets.extend(self.object_rules(event).map(|rule| &rule.target));
        }
        targets
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

    /// The function that answers a request, by which route. A `HEAD` that has no route of its own goes where `GET` goes.
    pub fn http(&self, method: &str, path: &str) -> Result<Matched, RouteError> {
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
                let route = found.value.clone();
                return Ok(Matched { route, params });
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

/// The function that an event calls by its name.
fn called(event: &Event) -> Option<&str> {
    event.subject.as_deref().filter(|_| event.kind == INVOKE)
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
            part_of: None,
        }
    }

    fn routed(event: &Event) -> Vec<String> {
        let targets = router().route(event);
        targets.into_iter().map(|target| target.function).collect()
    }

    #[test]
    fn every_subscriber_of_a_type_gets_its_own_copy() {
        assert_eq!(routed(&event("DataReady", "/x", "s")), ["one", "two"]);
        assert!(routed(&event("Other", "/x", "s")).is_empty());
    }

    #[test]
    fn objects_match_by_bucket_prefix_and_suffix() {
        assert_eq!(
            routed(&event(OBJECT_CREATED, "/objects/data", "raw/x.csv")),
            ["one"]
        );
        assert!(routed(&event(OBJECT_CREATED, "/objects/data", "raw/x.json")).is_empty());
        assert!(routed(&event(OBJECT_CREATED, "/objects/other", "raw/x.csv")).is_empty());
    }

    #[test]
    fn an_invocation_goes_to_the_function_it_names() {
        assert_eq!(routed(&event(INVOKE, "/invoke", "two")), ["two"]);
        assert!(routed(&event(INVOKE, "/invoke", "three")).is_empty());
    }

    #[test]
    fn a_request_finds_its_route_or_learns_which_methods_there_are() {
        let router = router();
        let matched = router.http("GET", "/users/7").unwrap();
        assert_eq!(
            (matched.function(), matched.params.clone()),
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

    /// Two versions of one function: the second hears of another type, and has another route.
    fn two_versions(second: u64) -> Router {
        let version = |number, kind: &str, route: &str| {
            let text = format!(
                "app = {{ name = \"a\" }}\n[[function]]\nname = \"f\"\ncomponent = \"x.wasm\"\n\
                 trigger = [{{ event = \"{kind}\" }}, {{ http = {{ route = \"{route}\" }} }}]"
            );
            let function = Manifest::parse(&text, "t").unwrap().functions.remove(0);
            Arc::new(Function {
                version: number,
                ..function
            })
        };
        let versions = [version(1, "Old", "/old/{id}"), version(2, "New", "/old/{name}")];
        let shares = BTreeMap::from([(1, 100 - second), (2, second)]);
        let split = Split::try_from(shares).unwrap();
        Router::split(&versions, BTreeMap::from([("f".to_owned(), split)]))
    }

    #[test]
    fn an_event_goes_to_the_version_that_its_run_falls_to_where_that_one_listens() {
        let router = two_versions(50);
        let runs = (0..200).map(|n| Event {
            run: format!("r{n}"),
            ..event("New", "/x", "s")
        });
        let routed: Vec<_> = runs.map(|event| router.route(&event)).collect();
        let second = Target {
            function: "f".into(),
            version: 2,
        };
        assert!(routed.iter().flatten().all(|target| *target == second));
        let heard = routed.iter().filter(|targets| !targets.is_empty()).count();
        assert!((60..140).contains(&heard), "{heard} of 200");
        assert_eq!(router.http("GET", "/old/7").unwrap().function(), "f");
    }

    #[test]
    fn a_run_stays_on_one_side_of_a_split() {
        let router = two_versions(30);
        let of_run = |id: &str, kind: &str| Event {
            id: id.into(),
            run: "r".into(),
            ..event(kind, "/invoke", "f")
        };
        let (one, other) = (
            router.route(&of_run("1", INVOKE)),
            router.route(&of_run("2", INVOKE)),
        );
        assert_eq!(one, other);
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn a_head_request_goes_where_get_goes() {
        assert_eq!(router().http("HEAD", "/users/7").unwrap().function(), "two");
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
        let function = |method, path| router.http(method, path).unwrap().function().to_owned();
        assert_eq!(
            (function("POST", "/x"), function("PUT", "/x")),
            ("post".into(), "any".into())
        );
        assert_eq!(
            (function("GET", "/y/me"), function("GET", "/y/you")),
            ("post".into(), "any".into())
        );
        let matched = router.http("GET", "/z/a/b%2Fc").unwrap();
        assert_eq!(matched.params, [("rest".to_owned(), "a/b%2Fc".to_owned())]);
    }
}
