//! Counts visits: `/sdk5/count/NAME` with a key-value store, `/sdk5/redis/NAME` in Redis.

use anyhow::{anyhow, Context, Result};
use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::key_value::Store;
use spin_sdk::{http_component, mysql, redis, variables};

#[http_component]
fn handle(request: Request) -> Result<impl IntoResponse> {
    let path = request.path().trim_start_matches("/sdk5/");
    let text = match path.split_once('/').unwrap_or((path, "")) {
        ("count", name) => count(name),
        ("keys", _) => Ok(Store::open_default()?.get_keys()?.join(" ")),
        ("token", _) => Ok(variables::get("token")?),
        ("other", store) => Store::open(store)
            .map(|_| "opened".to_owned())
            .map_err(Into::into),
        ("redis", name) => in_redis(name),
        ("route", _) => Ok(["spin-path-info", "spin-raw-component-route", "spin-full-url"]
            .map(|name| request.header(name).and_then(|value| value.as_str()).unwrap_or("none"))
            .join(" ")),
        ("mysql", _) => {
            mysql::Connection::open("mysql://127.0.0.1/db")?;
            Ok("connected".to_owned())
        }
        _ => Err(anyhow!("no route {path}")),
    };
    Ok(Response::builder()
        .status(200)
        .header("content-type", "text/plain")
        .body(text?)
        .build())
}

fn count(name: &str) -> Result<String> {
    let store = Store::open_default()?;
    let before = match store.get(name)? {
        Some(value) => String::from_utf8(value)?.parse::<u64>().context("no number")?,
        None => 0,
    };
    store.set(name, (before + 1).to_string().as_bytes())?;
    let now = store.get(name)?.context("its own write is not seen")?;
    let welcome = variables::get("welcome")?;
    Ok(format!("{welcome}, {name} number {}", String::from_utf8(now)?))
}

fn in_redis(name: &str) -> Result<String> {
    let connection = redis::Connection::open(&variables::get("redis")?)?;
    let visits = connection.incr(name)?;
    connection.set(&format!("{name}:last"), &b"seen".to_vec())?;
    let last = connection.get(&format!("{name}:last"))?.context("not set")?;
    Ok(format!("{visits} {}", String::from_utf8(last)?))
}
