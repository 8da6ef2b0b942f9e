//! Requests of function URLs and of API Gateway (payload 2.0), and their answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream, Full};
use lambda_runtime::{MetadataPrelude, StreamResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::sandbox::Body;
use tidegate_runtime::trigger::Client;

use super::Pieces;

/// Bytes of an answer in one piece that Lambda takes, with room for what surrounds it: 6 MB.
const LARGEST: usize = 6_000_000;

/// A request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    #[serde(default)]
    cookies: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    request_context: RequestContext,
    #[serde(default)]
    body: String,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Debug, Deserialize)]
struct RequestContext {
    http: Http,
    #[serde(default)]
    stage: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    method: String,
    source_ip: Option<IpAddr>,
}

/// Why a request cannot be made of an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// Its head.
    #[error("a request that cannot be read: {0}")]
    Head(#[from] http::Error),
    /// Its body.
    #[error("the request's body is said to be base64, and is not: {0}")]
    Body(#[from] base64::DecodeError),
}

impl Request {
    /// The request as the gateway gets it.
    pub(super) fn into_http(self) -> Result<http::Request<Body>, Malformed> {
        let path = self.path();
        let place = match self.raw_query_string.as_str() {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        let mut request = http::Request::builder()
            .method(self.request_context.http.method.as_str())
            .uri(place);
        if let Some(address) = self.request_context.http.source_ip {
            // Its port is not told.
            let address = SocketAddr::new(address, 0);
            request = request.extension(Client {
                address,
                secure: true,
            });
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.cookies.is_empty() {
            request = request.header(header::COOKIE, self.cookies.join("; "));
        }
        let body = match self.is_base64_encoded {
            true => BASE64.decode(&self.body)?,
            false => self.body.into_bytes(),
        };
        Ok(request.body(full(body.into()))?)
    }

    /// The path without the stage of API Gateway, which is before it where it is not the default one.
    fn path(&self) -> &str {
        let stage = self.request_context.stage.as_str();
        let below = self
            .raw_path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(stage));
        match below {
            _ if stage.is_empty() => &self.raw_path,
            Some("") => "/",
            Some(below) if below.starts_with('/') => below,
            _ => &self.raw_path,
        }
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An answer in one piece.
pub(super) async fn buffered(response: Response<Body>) -> Value {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.map(http_body_util::Collected::to_bytes);
    let bytes = match collected {
        Ok(bytes) if bytes.len() <= LARGEST => bytes,
        Ok(bytes) => {
            let len = bytes.len();
            return failed(&format!(
                "the answer has {len} bytes, in one piece {LARGEST} are allowed; with `lambda.invoke_mode` \
                 `\"response_stream\"` there may be more"
            ));
        }
        Err(error) => return failed(&format!("the answer broke off: {error}")),
    };
    let (headers, cookies) = apart(head.headers);
    let mut answer = json!({ "statusCode": head.status.as_u16(), "headers": headers, "cookies": cookies });
    let text = std::str::from_utf8(&bytes).ok();
    answer["isBase64Encoded"] = json!(text.is_none());
    answer["body"] = match text {
        Some(text) => json!(text),
        None => json!(BASE64.encode(&bytes)),
    };
    answer
}

fn failed(message: &str) -> Value {
    let status = StatusCode::BAD_GATEWAY;
    let body = json!({ "error": { "code": "bad_gateway", "message": message } });
    json!({
        "statusCode": status.as_u16(),
        "headers": { "content-type": "application/json" },
        "body": body.to_string(),
        "isBase64Encoded": false,
    })
}

/// Headers as Lambda takes them: one value for each name, and cookies by themselves.
fn apart(mut headers: HeaderMap) -> (BTreeMap<String, String>, Vec<String>) {
    let shown = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let cookies = headers.get_all(header::SET_COOKIE).iter().map(shown).collect();
    headers.remove(header::SET_COOKIE);
    let all = |name: &http::HeaderName| {
        let values: Vec<String> = headers.get_all(name).iter().map(shown).collect();
        (name.to_string(), values.join(", "))
    };
    (headers.keys().map(all).collect(), cookies)
}

/// An answer as it comes.
pub(super) fn streamed(response: Response<Body>) -> StreamResponse<Pieces> {
    let (mut head, body) = response.into_parts();
    let cookies = head.headers.get_all(header::SET_COOKIE).iter();
    let cookies = cookies
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    head.headers.remove(header::SET_COOKIE);
    let pieces = BodyStream::new(body).filter_map(async |frame| match frame {
        Ok(frame) => frame.into_data().ok().map(Ok),
        Err(error) => Some(Err(error)),
    });
    StreamResponse {
        metadata_prelude: MetadataPrelude {
            status_code: head.status,
            headers: head.headers,
            cookies,
        },
        stream: Box::pin(pieces),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(changes: Value) -> Request {
        // As Amazon's documentation shows it, in short.
        let mut event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/my/path",
            "rawQueryString": "parameter1=value1&parameter1=value2",
            "cookies": ["cookie1", "cookie2"],
            "headers": { "header1": "value1", "header2": "value1,value2" },
            "requestContext": {
                "accountId": "123456789012",
                "domainName": "id.lambda-url.us-west-2.on.aws",
                "http": { "method": "POST", "path": "/my/path", "protocol": "HTTP/1.1", "sourceIp": "123.123.123.123" },
                "requestId": "id",
                "stage": "$default"
            },
            "body": "Hello from client!",
            "isBase64Encoded": false
        });
        if let (Some(event), Value::Object(changes)) = (event.as_object_mut(), changes) {
            event.extend(changes);
        }
        serde_json::from_value(event).unwrap()
    }

    async fn body(request: http::Request<Body>) -> Bytes {
        request.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_request_comes_through_with_everything_that_it_has() {
        let request = event(json!({})).into_http().unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "/my/path?parameter1=value1&parameter1=value2");
        assert_eq!(request.headers()["header2"], "value1,value2");
        assert_eq!(request.headers()["cookie"], "cookie1; cookie2");
        let client = request.extensions().get::<Client>().unwrap();
        assert_eq!(
            (client.address.ip().to_string().as_str(), client.secure),
            ("123.123.123.123", true)
        );
        assert_eq!(body(request).await, "Hello from client!");
        let binary = event(json!({ "body": "//79", "isBase64Encoded": true }))
            .into_http()
            .unwrap();
        assert_eq!(body(binary).await.as_ref(), [0xff, 0xfe, 0xfd]);
        let wrong = event(json!({ "body": "tide!", "isBase64Encoded": true }))
            .into_http()
            .unwrap_err();
        assert!(
            wrong
                .to_string()
                .starts_with("the request's body is said to be base64, and is not")
        );
    }

    #[test]
    fn the_stage_of_api_gateway_is_no_part_of_the_path() {
        let path = |raw: &str, stage: &str| {
            let context = json!({ "http": { "method": "GET" }, "stage": stage });
            event(json!({ "rawPath": raw, "requestContext": context }))
                .path()
                .to_owned()
        };
        assert_eq!(path("/prod/hello", "prod"), "/hello");
        assert_eq!(path("/prod", "prod"), "/");
        assert_eq!(path("/production", "prod"), "/production");
        assert_eq!(path("/hello", "$default"), "/hello");
    }

    fn answer(bytes: &'static [u8]) -> Response<Body> {
        let response = Response::builder()
            .status(201)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2");
        let response = response.header("x-tide", "high").header("x-tide", "low");
        response.body(full(Bytes::from_static(bytes))).unwrap()
    }

    #[tokio::test]
    async fn an_answer_in_one_piece_is_text_where_it_can_be() {
        let text = buffered(answer(b"tide")).await;
        let expected = json!({
            "statusCode": 201, "headers": { "x-tide": "high, low" }, "cookies": ["a=1", "b=2"],
            "body": "tide", "isBase64Encoded": false
        });
        assert_eq!(text, expected);
        let binary = buffered(answer(&[0xff, 0xfe])).await;
        assert_eq!(
            (binary["body"].as_str(), binary["isBase64Encoded"].as_bool()),
            (Some("//4="), Some(true))
        );
        let large = buffered(Response::new(full(vec![b'x'; LARGEST + 1].into()))).await;
        assert_eq!(large["statusCode"], 502);
        assert!(
            large["body"]
                .as_str()
                .unwrap()
                .contains("6000001 bytes, in one piece 6000000 are allowed")
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_streamed_has_its_head_before_it() {
        let StreamResponse {
            metadata_prelude,
            stream,
        } = streamed(answer(b"tide"));
        assert_eq!(
            (
                metadata_prelude.status_code.as_u16(),
                metadata_prelude.cookies.len()
            ),
            (201, 2)
        );
        assert_eq!(metadata_prelude.headers.get_all("x-tide").iter().count(), 2);
        let pieces: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(pieces, [Bytes::from_static(b"tide")]);
    }
}
