//! Counts visits: `/sdk6/count/NAME` with a key-value store, `/sdk6/redis/NAME` in Redis.

use anyhow::{anyhow, Context, Result};
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::key_value::Store;
use spin_sdk::{http_service, mysql, redis, variables};

#[http_service]
async fn handle(request: Request) -> Result<impl IntoResponse> {
    let path = request.uri().path().trim_start_matches("/sdk6/");
    match path.split_once('/').unwrap_or((path, "")) {
        ("count", name) => count(name).await,
        ("keys", _) => Ok(Store::open_default()
            .await?
            .get_keys()
            .await
            .collect()
            .await?
            .join(" ")),
        ("token", _) => Ok(variables::get("token").await?),
        ("other", store) => Store::open(store)
            .await
            .map(|_| "opened".to_owned())
            .map_err(Into::into),
        ("redis", name) => in_redis(name).await,
        ("route", _) => Ok(["spin-path-info", "spin-raw-component-route", "spin-full-url"]
            .map(|name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("none"))
            .join(" ")),
        ("mysql", _) => {
            mysql::Connection::open("mysql://127.0.0.1/db")?;
            Ok("connected".to_owned())
        }
        _ => Err(anyhow!("no route {path}")),
    }
}

async fn count(name: &str) -> Result<String> {
    let store = Store::open_default().await?;
    let before = match store.get(name).await? {
        Some(value) => String::from_utf8(value)?.parse::<u64>().context("no number")?,
        None => 0,
    };
    store.set(name, (before + 1).to_string().as_bytes()).await?;
    let now = store.get(name).await?.context("its own write is not seen")?;
    let welcome = variables::get("welcome").await?;
    Ok(format!("{welcome}, {name} number {}", String::from_utf8(now)?))
}

async fn in_redis(name: &str) -> Result<String> {
    let connection = redis::Connection::open(&variables::get("redis").await?).await?;
    let visits = connection.incr(name).await?;
    connection.set(format!("{name}:last"), b"seen").await?;
    let last = connection.get(format!("{name}:last")).await?.context("not set")?;
    Ok(format!("{visits} {}", String::from_utf8(last)?))
}
