//! Counts visits: `/sdk7/count/NAME` with a key-value store, `/sdk7/redis/NAME` in Redis.

use anyhow::{anyhow, Context, Result};
use spin_sdk::experimental::wasi::config::store as config;
use spin_sdk::experimental::wasi::keyvalue::{atomics, batch, store};
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::key_value::Store;
use spin_sdk::{http_service, mysql, redis, variables};

#[http_service]
async fn handle(request: Request) -> Result<impl IntoResponse> {
    let path = request.uri().path().trim_start_matches("/sdk7/");
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
        ("atomics", name) => at_once(name),
        ("config", _) => configured(),
        ("redis", name) => in_redis(name).await,
        ("route", _) => Ok(["spin-path-info", "spin-raw-component-route", "spin-full-url"]
            .map(|name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("none"))
            .join(" ")),
        ("mysql", _) => {
            mysql::Connection::open("mysql://127.0.0.1/db").await?;
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

/// Adds, and swaps a value twice: in vain where it was read before somebody wrote it.
fn at_once(name: &str) -> Result<String> {
    let bucket = store::open("default")?;
    let sum = atomics::increment(&bucket, name, 2)?;
    let stale = atomics::Cas::new(&bucket, "swapped")?;
    batch::set_many(&bucket, &[("swapped".to_owned(), b"first".to_vec())])?;
    let fresh = match atomics::swap(stale, b"lost") {
        Err(atomics::CasError::CasFailed(fresh)) => fresh,
        other => return Err(anyhow!("a stale swap ended in {other:?}")),
    };
    let first = String::from_utf8(fresh.current()?.unwrap_or_default())?;
    atomics::swap(fresh, b"second").map_err(|error| anyhow!("{error:?}"))?;
    let keys = ["swapped".to_owned(), "none".to_owned()];
    let found = batch::get_many(&bucket, &keys)?
        .into_iter()
        .map(|(_, value)| value);
    let found: Vec<_> = found
        .map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned()))
        .collect();
    Ok(format!("{sum} {first} {found:?}"))
}

fn configured() -> Result<String> {
    let welcome = config::get("welcome")?.context("no `welcome`")?;
    let names: Vec<_> = config::get_all()?.into_iter().map(|(name, _)| name).collect();
    Ok(format!("{welcome}: {}", names.join(" ")))
}

async fn in_redis(name: &str) -> Result<String> {
    let connection = redis::Connection::open(&variables::get("redis").await?).await?;
    let visits = connection.incr(name).await?;
    connection.set(format!("{name}:last"), b"seen").await?;
    let last = connection.get(format!("{name}:last")).await?.context("not set")?;
    Ok(format!("{visits} {}", String::from_utf8(last)?))
}
