//! `POST /predict`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use feed_ranking::features::{ITEM_FEATURES, ItemState, NEWCOMER, USER_FEATURES, UserState};
use feed_ranking::rank::{Answer, Ask, BadRequest, Inputs, MAX_BODY, answer};
use http_body_util::BodyExt;
use spin_sdk::http::{Request, StatusCode};
use tidegate_sdk::Error;
use tidegate_sdk::inference::{Datatype, Response, Tensor, infer_for};

use crate::respond::Reply;

const MODEL: &str = "ranker";
const USERS: &str = "users";
const ITEMS: &str = "items";
/// The click rate assumed where no features were ever written.
const UNKNOWN_RATE: f64 = 0.5;

pub(crate) async fn handle(request: Request) -> Reply {
    match predict(request).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn predict(request: Request) -> Result<Reply, Reply> {
    let started = Instant::now();
    let ask = Ask::parse(&body(request).await?)?;
    let known = Known::fetch(&ask).await?;
    let response = score(&ask, &known).await?;
    let scores = response.output("score")?.to_f32()?;
    let reply = answer(&Answer {
        user_id: ask.user_id,
        item_ids: &ask.item_ids,
        scores: &scores,
        known_user: known.known_user,
        unknown_items: known.unknown_items,
        latency_ms: started.elapsed().as_secs_f64() * 1000.0,
        model_version: &response.model_version,
    });
    let body =
        reply.ok_or_else(|| Reply::internal("the model did not give one finite score for each item"))?;
    Ok(Reply::json(StatusCode::OK, body))
}

/// Asks the model in production; of two versions that share it, a user is always answered by one.
pub(crate) async fn score(ask: &Ask, known: &Known) -> Result<Response, Error> {
    let now = ask.time.unwrap_or_else(now);
    let Inputs {
        user_id,
        user_features,
        item_id,
        item_features,
        items,
    } = Inputs::new(ask, now, &known.user, known.items.iter());
    let inputs = vec![
        Tensor::new("user_id", Datatype::Int64, &[1], user_id),
        Tensor::new(
            "user_features",
            Datatype::Fp32,
            &[1, USER_FEATURES],
            user_features,
        ),
        Tensor::new("item_id", Datatype::Int64, &[items], item_id),
        Tensor::new(
            "item_features",
            Datatype::Fp32,
            &[items, ITEM_FEATURES],
            item_features,
        ),
    ];
    infer_for(MODEL, &ask.user_id.to_string(), inputs).await
}

async fn body(request: Request) -> Result<Bytes, Reply> {
    let mut body = request.into_body();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BadRequest::unreadable(&error.to_string()))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if first.len() + rest.len() + bytes.len() > MAX_BODY {
            return Err(BadRequest::too_large().into());
        }
        if first.is_empty() {
            first = bytes;
        } else {
            rest.extend_from_slice(&bytes);
        }
    }
    if rest.is_empty() {
        Ok(first)
    } else {
        Ok([first.as_ref(), &rest].concat().into())
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// What is known of a request's user and items.
pub(crate) struct Known {
    user: UserState,
    items: Vec<ItemState>,
    /// Whether the user was found.
    pub(crate) known_user: bool,
    /// Items that were not.
    pub(crate) unknown_items: usize,
    newcomers: bool,
}

impl Known {
    /// Reads the user's and the items' states, two calls; a third and a fourth only for newcomers.
    pub(crate) async fn fetch(ask: &Ask) -> Result<Self, Error> {
        let users = tidegate_sdk::features::get(USERS, &[ask.user_id]).await?;
        let user = users.row(0).and_then(UserState::from_row);
        let rows = tidegate_sdk::features::get(ITEMS, &ask.item_ids).await?;
        let mut items = Vec::with_capacity(ask.item_ids.len());
        let mut missing = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            items.push(row.and_then(ItemState::from_row).unwrap_or_else(|| {
                missing.push(index);
                ItemState::default()
            }));
        }
        let (known_user, unknown_items) = (user.is_some(), missing.len());
        let mut newcomers = false;
        let user = match user {
            Some(user) => user,
            None => {
                let new = newcomer(USERS, UserState::from_row).await?;
                newcomers = new.is_some();
                new.unwrap_or_else(|| UserState::new(UNKNOWN_RATE))
            }
        };
        if !missing.is_empty() {
            let new = newcomer(ITEMS, ItemState::from_row).await?;
            let new = new.unwrap_or_else(|| ItemState::new(UNKNOWN_RATE, 0));
            for index in missing {
                items[index] = new;
            }
        }
        Ok(Self {
            user,
            items,
            known_user,
            unknown_items,
            newcomers,
        })
    }

    /// Whether online features have ever been written, as far as this request could see.
    pub(crate) fn features_written(&self) -> bool {
        self.known_user || self.newcomers
    }
}

async fn newcomer<T>(view: &str, from_row: fn(&[f64]) -> Option<T>) -> Result<Option<T>, Error> {
    let rows = tidegate_sdk::features::get(view, &[NEWCOMER]).await?;
    Ok(rows.row(0).and_then(from_row))
}
