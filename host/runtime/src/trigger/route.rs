//! Routes of HTTP functions, and what a function is told of the way a request came: the parameters of its route, and, to an
//! app that was written for Spin, all that Spin tells. It stands in headers, under Spin's names.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::manifest::{Dialect, Function, Trigger};

/// What the names of these headers begin with; clients cannot set them.
const OURS: &str = "spin-";

/// A route, and the function that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) function: String,
    /// The route, in Spin's spelling: `/users/:id`, `/files/...`.
    spelled: String,
    /// What is told of it, whatever the request; none where the function knows nothing of Spin.
    told: Option<Vec<(HeaderName, HeaderValue)>>,
}

impl Route {
    /// A route of a function; one that only stands beside a route for all below it is known by that one.
    pub(super) fn of(function: &Function, method: Option<&str>, route: &str) -> Self {
        let plain = route.trim_end_matches('/');
        let below = function.triggers.iter().find_map(|trigger| match trigger {
            Trigger::Http { method: of, route } if of.as_deref() == method => {
                let rest = route.strip_prefix(plain)?;
                rest.starts_with("/{*").then_some(route.as_str())
            }
            _ => None,
        });
        let spelled = spelled(below.unwrap_or(route));
        Self {
            function: function.name.clone(),
            told: (function.dialect == Dialect::Spin).then(|| told_of(&spelled)),
            spelled,
        }
    }
}

fn told_of(spelled: &str) -> Vec<(HeaderName, HeaderValue)> {
    let told = [
        ("spin-matched-route", spelled),
        ("spin-raw-component-route", spelled),
        (
            "spin-component-route",
            spelled.strip_suffix("/...").unwrap_or(spelled),
        ),
        ("spin-base-path", "/"),
    ];
    let header = |(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?));
    told.into_iter().filter_map(header).collect()
}

fn spelled(route: &str) -> String {
    let segment = |segment: &str| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) if name.starts_with('*') => "...".to_owned(),
        Some(name) => format!(":{name}"),
        None => segment.to_owned(),
    };
    let segments: Vec<String> = route.split('/').map(segment).collect();
    segments.join("/")
}

/// The route that a request came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    pub(super) route: Arc<Route>,
    /// The route's parameters as they stand in the path, still percent-encoded.
    pub params: Vec<(String, String)>,
}

/// The client of a request, for the function that answers it.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub secure: bool,
}

impl Matched {
    /// The function.
    pub fn function(&self) -> &str {
        &self.route.function
    }

    /// Tells the function how the request came; what the client said of that itself is removed.
    pub(crate) fn tell<B>(&self, request: &mut http::Request<B>) {
        forget_claims(request.headers_mut());
        if let Some(told) = &self.route.told {
            request.headers_mut().extend(told.iter().cloned());
            tell_of_client(request);
        }
        if self.route.told.is_some() || self.rest().is_some() {
            let below = self.below(request.uri().path());
            let name = HeaderName::from_static("spin-path-info");
            set(request.headers_mut(), name, &below);
        }
        for (name, value) in self.segments() {
            if let Ok(name) = HeaderName::try_from(format!("spin-path-match-{name}")) {
                set(request.headers_mut(), name, value);
            }
        }
    }

    /// The part of the path that a route for all below it left open.
    fn below(&self, path: &str) -> String {
        match (self.route.spelled.ends_with("/..."), self.rest()) {
            (false, _) => String::new(),
            (true, Some(rest)) => format!("/{rest}"),
            (true, None) if path.ends_with('/') => "/".to_owned(),
            (true, None) => String::new(),
        }
    }

    /// The parameter that takes all that is left; it is the last.
    fn rest(&self) -> Option<&str> {
        let (_, rest) = self.params.last()?;
        let segments = self
            .route
            .spelled
            .split('/')
            .filter(|segment| segment.starts_with(':'));
        (self.params.len() > segments.count()).then_some(rest.as_str())
    }

    /// The parameters that take one segment.
    fn segments(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.params.len() - usize::from(self.rest().is_some());
        let params = self.params.iter().take(all);
        params.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn tell_of_client<B>(request: &mut http::Request<B>) {
    let Some(client) = request.extensions().get::<Client>().copied() else {
        return;
    };
    let url = full_url(request, client.secure);
    let headers = request.headers_mut();
    let address = client.address.to_string();
    set(headers, HeaderName::from_static("spin-client-addr"), &address);
    if let Some(url) = url {
        set(headers, HeaderName::from_static("spin-full-url"), &url);
    }
}

fn full_url<B>(request: &http::Request<B>, secure: bool) -> Option<String> {
    let scheme = if secure { "https" } else { "http" };
    let host = request.headers().get(http::header::HOST);
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => host?.to_str().ok()?,
    };
    let path = request.uri().path_and_query()?;
    Some(format!("{scheme}://{host}{path}"))
}

fn forget_claims(headers: &mut HeaderMap) {
    let ours = |name: &&HeaderName| name.as_str().starts_with(OURS);
    let claimed: Vec<HeaderName> = headers.keys().filter(ours).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::trigger::Router;

    fn told(dialect: Dialect, routes: &str, target: &str) -> Vec<(String, String)> {
        let manifest = format!(
            "[app]\nname = \"a\"\n[[function]]\nname = \"f\"\ncomponent = \"x.wasm\"\ntrigger = [{routes}]"
        );
        let manifest = Manifest::parse(&manifest, "t").unwrap();
        let of = |function| Arc::new(Function { dialect, ..function });
        let functions: Vec<_> = manifest.functions.into_iter().map(of).collect();
        let path = target.split('?').next().unwrap();
        let matched = Router::new(&functions).http("GET", path).unwrap();
        let mut request = http::Request::get(target)
            .header("host", "example.org")
            .header("spin-path-info", "/made-up")
            .header("spin-other", "made up")
            .extension(Client {
                address: "10.0.0.1:99".parse().unwrap(),
                secure: true,
            })
            .body(())
            .unwrap();
        matched.tell(&mut request);
        let headers = request.headers().iter();
        let ours = headers.filter(|(name, _)| name.as_str().starts_with(OURS));
        let mut told: Vec<_> = ours
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        told.sort();
        told
    }

    fn owned<const N: usize>(told: [(&str, &str); N]) -> Vec<(String, String)> {
        told.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    const ROUTE: &str = r#"{ http = { route = "/users/{id}/{*rest}" } }"#;

    #[test]
    fn an_app_of_spin_is_told_of_route_url_and_client_and_not_by_the_client() {
        assert_eq!(
            told(Dialect::Spin, ROUTE, "/users/7/a/b?x=1"),
            owned([
                ("spin-base-path", "/"),
                ("spin-client-addr", "10.0.0.1:99"),
                ("spin-component-route", "/users/:id"),
                ("spin-full-url", "https://example.org/users/7/a/b?x=1"),
                ("spin-matched-route", "/users/:id/..."),
                ("spin-path-info", "/a/b"),
                ("spin-path-match-id", "7"),
                ("spin-raw-component-route", "/users/:id/..."),
            ])
        );
    }

    #[test]
    fn every_function_is_told_of_the_parameters_of_its_route() {
        assert_eq!(
            told(Dialect::Tidegate, ROUTE, "/users/7/a/b?x=1"),
            owned([("spin-path-info", "/a/b"), ("spin-path-match-id", "7")])
        );
        let plain = r#"{ http = { route = "/x" } }"#;
        assert_eq!(told(Dialect::Tidegate, plain, "/x"), []);
    }

    #[test]
    fn the_top_of_a_wildcard_is_known_by_the_wildcard() {
        let routes = r#"{ http = { route = "/x" } }, { http = { route = "/x/" } }, { http = { route = "/x/{*rest}" } }"#;
        let info = |routes, path| {
            let told = told(Dialect::Spin, routes, path);
            ["spin-raw-component-route", "spin-path-info"]
                .map(|name| told.iter().find(|(of, _)| of == name).unwrap().1.clone())
        };
        assert_eq!(info(routes, "/x"), ["/x/...", ""]);
        assert_eq!(info(routes, "/x/"), ["/x/...", "/"]);
        assert_eq!(info(routes, "/x/y"), ["/x/...", "/y"]);
        assert_eq!(info(r#"{ http = { route = "/x" } }"#, "/x"), ["/x", ""]);
    }
}
